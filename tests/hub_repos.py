"""What a Hub knows of its model repositories, and how it says so: commits, files large and regular, cards, tags.

A file is an LFS object when it is larger than 10 KB or *.safetensors or *.mp4. Its etag is then the sha256 of its
bytes, and the hash that git gives it otherwise.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

import yaml

_LARGE = 10_240  # bytes of a regular file, at most
_FRONT_MATTER = re.compile(r"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|$)", re.S)
_BEGAN = datetime(2026, 1, 1, tzinfo=timezone.utc)
_MINUTES = itertools.count()  # each commit is a minute later than the last


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: Mapping[str, str] = {}


class Refusal(Exception):
    """An answer that is an error, with the headers by which the client knows it."""

    def __init__(self, status: int, message: str, *, code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        named = {"X-Error-Code": code, "X-Error-Message": message.encode("ascii", "replace").decode()}
        sent = {name: value for name, value in named.items() if value} | headers
        self.answer = Answer(status, json.dumps({"error": message}).encode(), sent)


@dataclass(frozen=True, kw_only=True)
class User:
    name: str
    token: str
    role: str


class Call(NamedTuple):
    user: User | None
    headers: Any
    query: dict[str, list[str]]
    body: bytes

    def json(self) -> dict[str, Any]:
        try:
            return json.loads(self.body)
        except ValueError:
            raise Refusal(400, "the body is not JSON") from None

    def one(self, name: str) -> str:
        return self.query.get(name, [""])[-1]

    def asks(self, name: str) -> bool:
        return self.one(name).lower() in ("true", "1")

    def chosen(self, info: dict[str, Any], names: Sequence[str] = ()) -> dict[str, Any]:
        """What `expand` names of it; without, these names, or all of it."""
        names = ["id", *self.query["expand"]] if "expand" in self.query else names or list(info)
        return {name: info[name] for name in names if name in info}


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps(value, default=str).encode(), headers or {})


def part_answer(content: bytes, wanted: str | None, headers: Mapping[str, str]) -> Answer:
    """All of it, or the one range that was asked for (RFC 9110, 14.1.2); several ranges are answered with all of it."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted or "")
    headers = {**headers, "Accept-Ranges": "bytes"}
    if not match or not (match[1] or match[2]):
        return Answer(200, content, headers)
    begin = int(match[1]) if match[1] else max(len(content) - int(match[2]), 0)
    end = min(int(match[2]) + 1, len(content)) if match[1] and match[2] else len(content)
    if begin >= end:
        return Answer(416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"})
    return Answer(206, content[begin:end], {**headers, "Content-Range": f"bytes {begin}-{end - 1}/{len(content)}"})


@dataclass(frozen=True, kw_only=True)
class Commit:
    sha: str
    message: str
    files: Mapping[str, bytes]  # all of the repository at this commit, not what changed
    date: str


@dataclass(kw_only=True)
class Repo:
    id: str
    private: bool = False
    gated: str | bool = False  # "auto", "manual" or False
    downloads: int = 0
    likes: int = 0
    commits: list[Commit] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)  # large files by sha256, committed or not

    @property
    def owner(self) -> str:
        return self.id.split("/")[0]

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def at(self, revision: str) -> Commit:
        found = [c for c in self.commits if revision == c.sha] or ([self.head] if revision == "main" else [])
        if not found:
            raise Refusal(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        return found[0]

    def commit(self, changes: Mapping[str, bytes | None], message: str) -> Commit:
        """The head with these files written, or deleted where None; any name will do."""
        files = {**(self.head.files if self.commits else {}), **changes}
        kept = {path: content for path, content in files.items() if content is not None}
        self.objects |= {sha256(content): content for path, content in kept.items() if is_large(path, len(content))}
        what = repr((self.id, len(self.commits), message, [(path, sha256(c)) for path, c in kept.items()]))
        date = (_BEGAN + timedelta(minutes=next(_MINUTES))).isoformat().replace("+00:00", ".000Z")
        self.commits.append(Commit(sha=hashlib.sha1(what.encode()).hexdigest(), message=message, files=kept, date=date))
        return self.head


def changes_of(repo: Repo, body: bytes) -> tuple[str, dict[str, bytes | None]]:
    """What a commit asks for, as its NDJSON says it: its summary, and path -> content, or None for deleted."""
    try:
        lines = [(line["key"], line["value"]) for line in map(json.loads, body.splitlines())]
    except (ValueError, KeyError, TypeError):
        raise Refusal(400, "the body is not NDJSON of keys and values") from None
    header = dict(lines).get("header", {})
    if not header.get("summary"):
        raise Refusal(400, "a commit needs a summary")
    if header.get("parentCommit", repo.head.sha) != repo.head.sha:
        raise Refusal(412, "A commit has happened since. Please refresh and try again.")
    changes: dict[str, bytes | None] = {}
    for key, value in lines:
        if key != "header":
            changes |= _change(repo, key, value)
    return header["summary"], changes


def _change(repo: Repo, key: str, value: dict[str, Any]) -> dict[str, bytes | None]:
    """What one line of a commit does: path -> content, or None for deleted."""
    path = value["path"]
    if key == "file":
        content = base64.b64decode(value["content"], validate=True)
        if is_large(path, len(content)):
            raise Refusal(400, f"Your push was rejected because {path!r} must be an LFS file")
        return {path: content}
    if key == "lfsFile":
        if value["oid"] not in repo.objects:
            raise Refusal(400, "Your push was rejected because an LFS pointer pointed to a file that does not exist")
        return {path: repo.objects[value["oid"]]}
    if key not in ("deletedFile", "deletedFolder"):
        raise Refusal(400, f"the test's Hub does not know the operation {key!r}")
    within = path.rstrip("/") + "/"
    gone = [name for name in repo.head.files if (name == path if key == "deletedFile" else name.startswith(within))]
    if not gone:
        raise Refusal(404, "A file with this name doesn't exist", code="EntryNotFound")
    return dict.fromkeys(gone)


def listing(repos: Iterable[Repo], call: Call) -> list[dict[str, Any]]:
    """The models that this user may see and this query wants, the first first."""
    wanted = {tag for value in call.query.get("filter", []) for tag in value.split(",")}
    found = []
    for repo in repos:
        info = info_of(repo, repo.head)
        if (
            (not repo.private or (call.user is not None and call.user.name == repo.owner))
            and call.one("author") in ("", repo.owner)
            and call.one("search").lower() in repo.id.lower()
            and call.one("gated") in ("", str(bool(repo.gated)).lower())
            and call.one("pipeline_tag") in ("", info["pipeline_tag"])
            and wanted <= set(info["tags"])
        ):
            found.append(info)
    order = call.one("sort") if call.one("sort") in ("downloads", "likes", "createdAt") else "lastModified"
    found.sort(key=lambda info: info[order], reverse=True)
    names = ["id", "modelId", "likes", "private", "downloads", "tags", "pipeline_tag", "library_name", "createdAt"]
    names += ["author", "sha", "lastModified", "gated", "disabled", "siblings"] if call.asks("full") else []
    names += ["cardData"] if call.asks("cardData") else []
    return [call.chosen(info, names) for info in found]


def upload_mode(path: str, size: int, there: Mapping[str, bytes]) -> dict[str, Any]:
    mode = {"path": path, "uploadMode": "lfs" if is_large(path, size) else "regular", "shouldIgnore": False}
    return {**mode, "oid": etag_of(path, there[path])} if path in there else mode


def info_of(repo: Repo, commit: Commit, *, blobs: bool = False) -> dict[str, Any]:
    try:
        card = _front_matter(commit.files.get("README.md", b"").decode("utf-8", "replace"))
    except ValueError:
        card = {}
    siblings = [
        {"rfilename": path} | (_blob(path, content, named="sha256") if blobs else {})
        for path, content in commit.files.items()
    ]
    return {
        "id": repo.id, "modelId": repo.id, "author": repo.owner, "sha": commit.sha, "private": repo.private,
        "gated": repo.gated, "disabled": False, "downloads": repo.downloads, "likes": repo.likes,
        "createdAt": repo.commits[0].date, "lastModified": commit.date, "tags": _tags(card, commit.files),
        "pipeline_tag": card.get("pipeline_tag"), "library_name": card.get("library_name"), "cardData": card,
        "siblings": siblings, "spaces": [], "usedStorage": sum(map(len, repo.objects.values())),
    }  # fmt: skip


def check_card(readme: str) -> tuple[list[str], list[str]]:
    """(errors, warnings) of a card; the real Hub knows many more rules."""
    try:
        data = _front_matter(readme)
    except ValueError as error:
        return [f"YAML Metadata Error: {error}"], []
    tags = data.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        return ['"tags" must be an array of strings'], []
    return [], [] if data else ["empty or missing yaml metadata in repo card"]


def _front_matter(readme: str) -> dict[str, Any]:
    """What anybody may have written: as JSON can hold it, or a ValueError."""
    match = _FRONT_MATTER.match(readme)
    try:
        data = json.loads(json.dumps(yaml.safe_load(match[1]) or {}, default=str)) if match else {}
    except (yaml.YAMLError, TypeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if not isinstance(data, dict):
        raise ValueError("the metadata must be a mapping")
    return data


def _tags(card: dict[str, Any], files: Mapping[str, bytes]) -> list[str]:
    def listed(name: str) -> list[str]:
        value = card.get(name) or []
        return [str(item) for item in (value if isinstance(value, list) else [value])]

    relation = listed("base_model_relation")[:1]
    found = listed("library_name") + ["safetensors"] * any(path.endswith(".safetensors") for path in files)
    found += listed("pipeline_tag") + listed("tags") + listed("language")
    found += [f"dataset:{name}" for name in listed("datasets")]
    for name in listed("base_model"):
        found += [f"base_model:{name}", *(f"base_model:{kind}:{name}" for kind in relation)]
    return list(dict.fromkeys([*found, *(f"license:{name}" for name in listed("license")), "region:us"]))


def is_large(path: str, size: int) -> bool:
    return size > _LARGE or (size > 0 and path.endswith((".safetensors", ".mp4")))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def etag_of(path: str, content: bytes) -> str:
    return sha256(content) if is_large(path, len(content)) else _git_hash(content)


def _blob(path: str, content: bytes, *, named: str) -> dict[str, Any]:
    if not is_large(path, len(content)):
        return {"size": len(content), "blobId": _git_hash(content)}
    sha, size = sha256(content), len(content)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha}\nsize {size}\n".encode()
    return {
        "size": size,
        "blobId": _git_hash(pointer),
        "lfs": {named: sha, "size": size, "pointerSize": len(pointer)},
    }


def entry_of(path: str, content: bytes) -> dict[str, Any]:
    blob = _blob(path, content, named="oid")
    return {"type": "file", "path": path, "oid": blob.pop("blobId"), **blob}
