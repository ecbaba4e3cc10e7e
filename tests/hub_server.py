"""A Hub of the test's own on 127.0.0.1: repositories in memory, spoken to by the real huggingface_hub client.

Two ports, as on the real Hub: the API (`url`) knows tokens; large files lie behind it (`storage_url`), are reached by
links that carry their own right, and a request there that shows a token is refused. One deviation: the real 401 for "no
such repository, or not for you" has no X-Error-Code; the client knows it by its https address, which loopback has not.
"""

from __future__ import annotations

import re
import secrets
import socket
import socketserver
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from tests import hub_jobs, hub_spaces
from tests.hub_repos import (
    Answer,
    Call,
    Refusal,
    Repo,
    User,
    changes_of,
    check_card,
    entry_of,
    etag_of,
    info_of,
    is_large,
    json_answer,
    listing,
    part_answer,
    sha256,
    upload_mode,
)


class Request(NamedTuple):
    """What arrived, at either port: path as sent, with its query; size counts the bytes of the body that were read."""

    method: str
    path: str
    authorization: str | None
    size: int


@dataclass
class _Fault:
    method: str
    path: str
    times: int
    status: int | None  # None: drop the connection
    after_bytes: int | None


class HubServer:
    """Start it with `with HubServer() as server` or start() and stop(); after stop() the same address can start again.

    There is one branch, main. A gated repository lets only its owner read files. What the double does not know is
    answered 501; its own bugs are listed in `failures`.
    """

    def __init__(self) -> None:
        self.users: list[User] = []
        self.repos: dict[str, Repo] = {}
        self.jobs = hub_jobs.Jobs()
        self.requests: list[Request] = []
        self.failures: list[str] = []
        self.page_size = 1000
        self._faults: list[_Fault] = []
        self._signature = secrets.token_hex(8)
        self._lock = threading.RLock()
        self._ports = [0, 0]
        self._servers: list[_Server] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._ports[0]}"

    @property
    def storage_url(self) -> str:
        return f"http://127.0.0.1:{self._ports[1]}"

    def start(self) -> HubServer:
        self._servers = [_Server(self, port, storage=i == 1) for i, port in enumerate(self._ports)]
        self._ports = [server.server_address[1] for server in self._servers]
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def stop(self) -> None:
        while self._servers:
            self._servers.pop().close()

    def __enter__(self) -> HubServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def add_user(self, name: str, token: str, role: str = "write") -> User:
        self.users.append(User(name=name, token=token, role=role))
        return self.users[-1]

    def add_repo(
        self, repo_id: str, files: Mapping[str, bytes] | None = None, private: bool = False, gated: str | bool = False
    ) -> Repo:
        """These files exactly, under names that may be anything; gated=True is "auto"."""
        repo = Repo(id=repo_id, private=private, gated="auto" if gated is True else gated)
        repo.commit(files or {}, "initial commit")
        self.repos[repo_id] = repo
        return repo

    def fail(
        self,
        method: str,
        path_regex: str,
        status: int = 500,
        times: int = 1,
        drop: bool = False,
        after_bytes: int | None = None,
    ) -> None:
        """The next `times` requests whose path (as sent, with query) the expression is found in go wrong.

        Without drop they are read and answered `status`, and nothing is done. With drop the connection is closed: after
        so many bytes of the request's body, or else of the answer's; a request where neither is longer passes and does
        not count. With drop and no after_bytes the request is carried out and its answer is lost.
        """
        if after_bytes is not None and not drop:
            raise ValueError("after_bytes needs drop=True")
        with self._lock:
            self._faults.append(_Fault(method, path_regex, times, None if drop else status, after_bytes))

    def _take(self, method: str, path: str, size: int, *, answered: bool) -> _Fault | None:
        """The fault due now: before the request's body of this size is read, or before the answer's is sent."""
        with self._lock:
            for fault in self._faults:
                due = not answered if fault.after_bytes is None else size > fault.after_bytes
                if due and fault.times > 0 and method == fault.method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    def _answer(self, method: str, target: str, headers: Any, body: bytes, *, storage: bool) -> Answer:
        try:
            path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
            if storage != path.startswith("/storage/"):
                raise Refusal(404, "Not Found")
            call = Call(None if storage else self._user(headers.get("Authorization")), headers, query, body)
            if storage and headers.get("Authorization"):
                raise Refusal(400, "Only one auth mechanism allowed")
            if storage and query.get("signature") != [self._signature]:
                raise Refusal(403, "SignatureDoesNotMatch")
            for known, pattern, do in _ROUTES:
                match = pattern.fullmatch(path)
                if match and known == ("GET" if method == "HEAD" else method):
                    with self._lock:
                        return do(self, call, **{name: unquote(part) for name, part in match.groupdict().items()})
            raise Refusal(501, f"the test's Hub does not know {method} {path}")
        except Refusal as refusal:
            return refusal.answer
        except Exception:
            self.failures.append(traceback.format_exc())
            return Answer(500, b"{}")

    def _user(self, authorization: str | None) -> User | None:
        if authorization is None:
            return None
        for user in self.users:
            if authorization == f"Bearer {user.token}":
                return user
        raise Refusal(401, "Invalid credentials in Authorization header")

    def _readable(self, repo_id: str, user: User | None) -> Repo:
        repo = self.repos.get(repo_id)
        if repo is None or (repo.private and (user is None or user.name != repo.owner)):
            status, says = (401, "Invalid username or password.") if user is None else (404, "Repository not found")
            raise Refusal(status, says, code="RepoNotFound")
        return repo

    def _writable(self, repo_id: str, user: User | None) -> Repo:
        repo = self._readable(repo_id, user)
        self._may_write(repo.owner, user)
        return repo

    def _may_write(self, owner: str, user: User | None) -> None:
        if user is None:
            raise Refusal(401, "Invalid username or password.")
        if user.role == "read":
            raise Refusal(403, "Forbidden: you must use a write token to upload to a repository.")
        if user.name != owner:
            raise Refusal(403, f"Forbidden: you don't have the rights to write under the namespace {owner}")

    def whoami(self, call: Call) -> Answer:
        if call.user is None:
            raise Refusal(401, "Invalid username or password.")
        auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": call.user.role}}
        return json_answer({"type": "user", "name": call.user.name, "orgs": [], "auth": auth})

    def validate_yaml(self, call: Call) -> Answer:
        errors, warnings = check_card(call.json()["content"])
        said = {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}
        return json_answer(said, 400 if errors else 200)

    def create_repo(self, call: Call) -> Answer:
        asked = call.json()
        if asked.get("type", "model") != "model":
            return hub_spaces.create(self, call, asked)
        owner = asked.get("organization") or (call.user.name if call.user else "")
        self._may_write(owner, call.user)
        repo_id = f"{owner}/{asked['name']}"
        if not re.fullmatch(r"[\w-][\w.-]{0,95}", asked["name"]):
            raise Refusal(400, f"not a model repository's name: {asked['name']!r}")
        where = {"url": f"{self.url}/{repo_id}", "name": repo_id}
        if repo_id in self.repos:
            return json_answer({**where, "error": "You already created this model repo"}, 409)
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        self.add_repo(repo_id, {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}, private)
        return json_answer(where)

    def delete_repo(self, call: Call) -> Answer:
        asked = call.json()
        if asked.get("type", "model") != "model":
            return hub_spaces.delete(self, call, asked)
        owner = asked.get("organization") or (call.user.name if call.user else "")
        del self.repos[self._writable(f"{owner}/{asked['name']}", call.user).id]
        return json_answer({})

    def list_models(self, call: Call) -> Answer:
        begin, limit = int(call.one("cursor") or 0), int(call.one("limit") or self.page_size)
        end = begin + min(limit, self.page_size)
        found = listing(self.repos.values(), call)
        rest = urlencode({**call.query, "cursor": [str(end)]}, doseq=True)
        link = {"Link": f'<{self.url}/api/models?{rest}>; rel="next"'} if end < len(found) else {}
        return json_answer(found[begin:end], headers=link)

    def model_info(self, call: Call, repo: str, revision: str = "main") -> Answer:
        model = self._readable(repo, call.user)
        return json_answer(call.chosen(info_of(model, model.at(revision), blobs=call.asks("blobs"))))

    def entries(self, call: Call, repo: str, revision: str) -> Answer:
        files = self._readable(repo, call.user).at(revision).files
        if not call.body and not call.asks("recursive"):
            raise Refusal(501, "the test's Hub lists only whole trees (recursive=True)")
        asked = parse_qs(call.body.decode()).get("paths", []) if call.body else list(files)
        return json_answer([entry_of(path, files[path]) for path in asked if path in files])

    def preupload(self, call: Call, repo: str, revision: str) -> Answer:
        there = self._writable(repo, call.user).at(revision).files
        return json_answer({"files": [upload_mode(file["path"], file["size"], there) for file in call.json()["files"]]})

    def lfs_batch(self, call: Call, repo: str) -> Answer:
        model, asked, objects = self._writable(repo, call.user), call.json(), []
        if asked["operation"] != "upload" or "basic" not in asked["transfers"]:
            raise Refusal(501, "the test's Hub takes uploads by the transfer 'basic' only")
        for wanted in asked["objects"]:
            upload = {"href": self._storage_link(model, wanted["oid"])}
            verify = {"href": f"{self.url}/{repo}.git/info/lfs/objects/verify"}
            missing = {} if wanted["oid"] in model.objects else {"actions": {"upload": upload, "verify": verify}}
            objects.append({"oid": wanted["oid"], "size": wanted["size"], **missing})
        return json_answer({"transfer": "basic", "objects": objects})

    def lfs_verify(self, call: Call, repo: str) -> Answer:
        asked, objects = call.json(), self._writable(repo, call.user).objects
        if len(objects.get(asked["oid"], b"")) != asked["size"]:
            raise Refusal(404, "no such object of this size")
        return json_answer({})

    def store(self, call: Call, repo: str, oid: str) -> Answer:
        if repo not in self.repos or sha256(call.body) != oid:
            raise Refusal(400, "BadDigest: what arrived is not what was announced")
        self.repos[repo].objects[oid] = call.body
        return Answer(200, b"")

    def fetch_stored(self, call: Call, repo: str, oid: str) -> Answer:
        if repo not in self.repos or oid not in self.repos[repo].objects:
            raise Refusal(404, "NoSuchKey")
        return part_answer(self.repos[repo].objects[oid], call.headers.get("Range"), {"ETag": f'"{oid}"'})

    def commit(self, call: Call, repo: str, revision: str) -> Answer:
        model = self._writable(repo, call.user)
        if revision != "main" or call.asks("create_pr"):
            raise Refusal(501, "the test's Hub commits to main only")
        summary, changes = changes_of(model, call.body)
        sha = model.commit(changes, summary).sha
        return json_answer({"success": True, "commitOid": sha, "commitUrl": f"{self.url}/{repo}/commit/{sha}"})

    def resolve(self, call: Call, repo: str, revision: str, path: str) -> Answer:
        model = self._readable(repo, call.user)
        if model.gated and call.user is None:
            raise Refusal(401, "Access to this model is restricted. You must be authenticated.", code="GatedRepo")
        if model.gated and call.user is not None and call.user.name != model.owner:
            raise Refusal(403, "Access to this model is restricted, ask for it.", code="GatedRepo")
        commit = model.at(revision)
        said = {"X-Repo-Commit": commit.sha}
        if path not in commit.files:
            raise Refusal(404, "Entry not found", code="EntryNotFound", **said)
        content = commit.files[path]
        etag = f'"{etag_of(path, content)}"'
        if not is_large(path, len(content)):
            return part_answer(content, call.headers.get("Range"), {**said, "ETag": etag})
        link = self._storage_link(model, sha256(content)) + f"&filename={quote(path, safe='')}"
        said |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": etag, "Location": link}
        return Answer(302, b"Found. Redirecting to the storage.", said)

    def _storage_link(self, repo: Repo, oid: str) -> str:
        return f"{self.storage_url}/storage/{repo.id}/{oid}?signature={self._signature}"


_REPO = r"(?P<repo>[^/]+/[^/]+)"
_REVISION = r"(?P<revision>[^/]+)"
_ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Answer]]] = [
    (method, re.compile(pattern), do)
    for method, pattern, do in (
        ("GET", "/api/whoami-v2", HubServer.whoami),
        ("POST", "/api/validate-yaml", HubServer.validate_yaml),
        ("POST", "/api/repos/create", HubServer.create_repo),
        ("DELETE", "/api/repos/delete", HubServer.delete_repo),
        ("GET", "/api/models", HubServer.list_models),
        ("GET", f"/api/models/{_REPO}", HubServer.model_info),
        ("GET", f"/api/models/{_REPO}/revision/{_REVISION}", HubServer.model_info),
        ("GET", f"/api/models/{_REPO}/tree/{_REVISION}", HubServer.entries),
        ("POST", f"/api/models/{_REPO}/paths-info/{_REVISION}", HubServer.entries),
        ("POST", f"/api/models/{_REPO}/preupload/{_REVISION}", HubServer.preupload),
        ("POST", f"/api/models/{_REPO}/commit/{_REVISION}", HubServer.commit),
        ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", HubServer.lfs_batch),
        ("POST", rf"/{_REPO}\.git/info/lfs/objects/verify", HubServer.lfs_verify),
        ("PUT", f"/storage/{_REPO}/(?P<oid>[0-9a-f]{{64}})", HubServer.store),
        ("GET", f"/storage/{_REPO}/(?P<oid>[0-9a-f]{{64}})", HubServer.fetch_stored),
        ("GET", f"/{_REPO}/resolve/{_REVISION}/(?P<path>.+)", HubServer.resolve),
    )
]

_ROUTES += [*hub_spaces.routes(HubServer), *hub_jobs.routes()]


class _Server(ThreadingHTTPServer):
    request_queue_size = 64

    def __init__(self, hub: HubServer, port: int, *, storage: bool) -> None:
        self.hub, self.storage = hub, storage
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # without HTTPServer's look-up of the host's name

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""

    def close(self) -> None:
        """As a Hub that goes down: connections that are kept alive end, too."""
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Any  # a _Server

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: server.requests is the log."""

    def serve(self) -> None:
        hub, length = self.server.hub, int(self.headers.get("Content-Length") or 0)
        fault = hub._take(self.command, self.path, length, answered=False)
        body = self.rfile.read(length if fault is None or fault.after_bytes is None else fault.after_bytes)
        hub.requests.append(Request(self.command, self.path, self.headers.get("Authorization"), len(body)))
        if len(body) < length or "Transfer-Encoding" in self.headers:  # S3 takes no chunks, either
            self.close_connection = True
            return
        if fault and fault.status:
            answer = Refusal(fault.status, "the test wants this to fail").answer
        else:
            answer = hub._answer(self.command, self.path, self.headers, body, storage=self.server.storage)
        if fault and not fault.status:
            self.close_connection = True
            return
        sent = b"" if self.command == "HEAD" else answer.body
        cut = None if fault else hub._take(self.command, self.path, len(sent), answered=True)
        self.send_response(answer.status)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(sent[: cut.after_bytes] if cut else sent)
        self.close_connection |= cut is not None

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = serve
