"""What the test's Hub knows of Spaces and datasets: the routes of models under other prefixes, and hardware.

Such a repository is kept as "spaces/owner/name" or "datasets/owner/name" among the server's repos.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.hub_repos import Answer, Call, Refusal, Repo, json_answer

SDKS = ("gradio", "docker", "static")
_KINDS = {"space": "spaces", "dataset": "datasets"}
_REPO = r"(?P<repo>(?:spaces|datasets)/[^/]+/[^/]+)"
_REVISION = r"(?P<revision>[^/]+)"
_OID = r"(?P<oid>[0-9a-f]{64})"


@dataclass(kw_only=True)
class OtherRepo(Repo):
    """A Space or a dataset; hardware lists what was asked for, in turn."""

    sdk: str = ""
    hardware: list[str] = field(default_factory=list)

    @property
    def owner(self) -> str:
        return self.id.split("/")[1]


def add_repo(hub: Any, kind: str, repo_id: str, files: dict[str, bytes], *, private: bool, sdk: str = "") -> OtherRepo:
    repo = OtherRepo(id=f"{_KINDS[kind]}/{repo_id}", private=private, sdk=sdk)
    repo.commit(files, "initial commit")
    hub.repos[repo.id] = repo
    return repo


def create(hub: Any, call: Call, asked: dict[str, Any]) -> Answer:
    kind, owner = asked["type"], asked.get("organization") or (call.user.name if call.user else "")
    hub._may_write(owner, call.user)
    repo_id = f"{owner}/{asked['name']}"
    if kind not in _KINDS or not re.fullmatch(r"[\w-][\w.-]{0,95}", asked["name"]):
        raise Refusal(400, f"not a {kind} repository's name: {asked['name']!r}")
    if kind == "space" and asked.get("sdk") not in SDKS:
        raise Refusal(400, '"sdk" must be one of gradio, docker, static')
    where = {"url": f"{hub.url}/{_KINDS[kind]}/{repo_id}", "name": repo_id}
    if f"{_KINDS[kind]}/{repo_id}" in hub.repos:
        return json_answer({**where, "error": f"You already created this {kind} repo"}, 409)
    files = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}
    if kind == "space":  # as the real Hub does: a page, so that there is something to show
        files["README.md"] = f"---\ntitle: {asked['name']}\nsdk: {asked['sdk']}\n---\n".encode()
    private = bool(asked.get("private")) or asked.get("visibility") == "private"
    add_repo(hub, kind, repo_id, files, private=private, sdk=asked.get("sdk", ""))
    return json_answer(where)


def delete(hub: Any, call: Call, asked: dict[str, Any]) -> Answer:
    owner = asked.get("organization") or (call.user.name if call.user else "")
    del hub.repos[hub._writable(f"{_KINDS[asked['type']]}/{owner}/{asked['name']}", call.user).id]
    return json_answer({})


def set_hardware(hub: Any, call: Call, repo: str) -> Answer:
    space = hub._writable(repo, call.user)
    space.hardware.append(call.json()["flavor"])
    return json_answer(_runtime(space))


def routes(server: Any) -> list[tuple[str, re.Pattern[str], Callable[..., Answer]]]:
    """Those of models, for the other kinds: the same work under another name."""

    def info(hub: Any, call: Call, repo: str, revision: str = "main") -> Answer:
        """The same facts; the name without its prefix, and what a Space has besides."""
        answer = server.model_info(hub, call, repo, revision)
        said, own = json.loads(answer.body), hub.repos[repo]
        said |= {"id": repo.partition("/")[2]}
        said |= {"sdk": own.sdk, "runtime": _runtime(own)} if own.sdk else {}
        return json_answer(said, answer.status)

    rows = (
        ("GET", f"/api/{_REPO}", info),
        ("GET", f"/api/{_REPO}/revision/{_REVISION}", info),
        ("POST", f"/api/{_REPO}/hardware", set_hardware),
        ("GET", f"/api/{_REPO}/tree/{_REVISION}", server.entries),
        ("POST", f"/api/{_REPO}/paths-info/{_REVISION}", server.entries),
        ("POST", f"/api/{_REPO}/preupload/{_REVISION}", server.preupload),
        ("POST", f"/api/{_REPO}/commit/{_REVISION}", server.commit),
        ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", server.lfs_batch),
        ("POST", rf"/{_REPO}\.git/info/lfs/objects/verify", server.lfs_verify),
        ("PUT", f"/storage/{_REPO}/{_OID}", server.store),
        ("GET", f"/storage/{_REPO}/{_OID}", server.fetch_stored),
        ("GET", f"/{_REPO}/resolve/{_REVISION}/(?P<path>.+)", server.resolve),
    )
    return [(method, re.compile(pattern), do) for method, pattern, do in rows]


def _runtime(space: OtherRepo) -> dict[str, Any]:
    wanted = space.hardware[-1] if space.hardware else "cpu-basic"
    return {"stage": "BUILDING", "hardware": {"current": None, "requested": wanted}, "storage": None, "gcTimeout": None}
