"""What the server refuses at home as well: by real requests to the real page, and request by request."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import safehttpx
from gradio.utils import get_upload_folder

from synmotion_core.ui import Desks, build, gate
from synmotion_core.workspace import Workspace
from tests.ui.studio import Site, run_apart

ELSEWHERE = {"path": "https://evil.example/x.mp4", "meta": {"_type": "gradio.FileData"}}


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the server fetched from elsewhere; nothing of it is really asked for."""
    urls: list[str] = []

    async def get(url: str, **_: Any) -> httpx.Response:
        urls.append(url)
        return httpx.Response(200, content=b"a file", request=httpx.Request("GET", url))

    async def resolve(host: str) -> str:
        urls.append(host)
        raise OSError("nothing is resolved in this test")

    monkeypatch.setattr(safehttpx, "get", get)
    monkeypatch.setattr(safehttpx, "async_validate_url", resolve)
    return urls


def events(site: Site, kind: str) -> list[tuple[int, list[Any]]]:
    """Events of the page that take a component of this kind: their number, and inputs with a file elsewhere there."""
    config = httpx.get(f"{site.url}config").json()
    kinds = {one["id"]: one["type"] for one in config["components"]}
    return [
        (one["id"], [ELSEWHERE if kinds[input] == kind else None for input in one["inputs"]])
        for one in config["dependencies"]
        if kind in [kinds[input] for input in one["inputs"]] and one["backend_fn"]
    ]


def answer_of(site: Site, fn: int, data: list[Any]) -> dict[str, Any]:
    """What an event of the page ends with."""
    session = secrets.token_hex(8)
    asked = {"fn_index": fn, "data": data, "session_hash": session}
    httpx.post(f"{site.url}gradio_api/queue/join", json=asked).raise_for_status()
    with httpx.stream("GET", f"{site.url}gradio_api/queue/data", params={"session_hash": session}, timeout=60) as lines:
        for line in lines.iter_lines():
            message = json.loads(line[6:]) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed":
                return message
    raise AssertionError("the event did not end")


@pytest.mark.parametrize("kind", ["file", "uploadbutton", "browserstate"])
def test_a_file_elsewhere_is_not_fetched_by_naming_it_in_a_field(site: Site, fetched: list[str], kind: str) -> None:
    before = set(Path(get_upload_folder()).iterdir())
    fn, data = events(site, kind)[0]
    ended = answer_of(site, fn, data)
    assert not ended["success"]
    assert "files are uploaded here, not fetched from an address" in ended["output"]["error"]
    assert not fetched
    assert set(Path(get_upload_folder()).iterdir()) == before


def trained_on(site: Site, path: str) -> str:
    """What /train says of a clip that is named by an address."""
    clip = {**ELSEWHERE, "path": path}
    values = [[clip], "claps", "a person", "", {"train": {"num_steps": 1}}, [], False]
    answer = httpx.post(f"{site.url}gradio_api/call/train", json={"data": values}).raise_for_status()
    return httpx.get(f"{site.url}gradio_api/call/train/{answer.json()['event_id']}").text


def test_nor_by_an_endpoint_for_programs(site: Site, fetched: list[str]) -> None:
    for path in (ELSEWHERE["path"], f"{site.url}gradio_api/file=/etc/passwd"):
        said = trained_on(site, path)
        assert "event: error" in said
        assert "not fetched from an address" in said
    assert not fetched
    assert not site.runner.runs


def test_an_upload_may_be_named_by_its_own_address(site: Site, fetched: list[str]) -> None:
    """As MCP does, which gives it to a language model."""
    clip = site.assets / "clips" / "clap" / "clap-0.mp4"
    sent = httpx.post(f"{site.url}gradio_api/upload", files={"files": ("my clip.mp4", clip.read_bytes())})
    (path,) = sent.raise_for_status().json()
    assert "event: complete" in trained_on(site, f"{site.url}gradio_api/file={quote(path)}")
    assert not fetched


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "process_recording"),
        ("GET", "deep_link?session_hash=a"),
        ("GET", "proxy=https://huggingface.co/x"),
        ("GET", "file=https://huggingface.co/x"),
        ("GET", "file/https://huggingface.co/x"),
        ("HEAD", "file=http://huggingface.co/x"),
        ("POST", "vibe-edit/"),
        ("POST", "undo-vibe-edit"),
        ("GET", "vibe-code"),
        ("POST", "vibe-code/"),
        ("POST", "vibe-starter-queries"),
        ("POST", "component_server"),
        ("POST", "component_server/"),
        ("POST", "stream/a"),
        ("GET", "stream/a/b/1/playlist.m3u8"),
        ("GET", "custom_component/a/server/component/x.js"),
        ("GET", "dev/reload"),
        ("GET", "runs"),
        ("GET", "../monitoring"),
        ("GET", "../monitoring/summary"),
    ],
)
def test_addresses_that_nothing_here_needs_are_not_there(
    site: Site, fetched: list[str], method: str, path: str
) -> None:
    answer = httpx.request(method, f"{site.url}gradio_api/{path}")
    assert answer.status_code == 404
    assert method == "HEAD" or answer.text == "There is nothing at this address."
    assert not fetched


def test_what_programs_need_is_there(site: Site) -> None:
    for path in ("", "config", "gradio_api/info", "gradio_api/openapi.json", "gradio_api/app_id", "theme.css"):
        assert httpx.get(site.url + path).status_code == 200, path


def test_a_request_that_does_not_end_is_not_read_to_its_end(site: Site) -> None:
    """Whether it says how long it is or not; a long one that is not too long is taken."""
    url = f"{site.url}gradio_api/queue/join"

    def endless() -> Iterator[bytes]:
        yield b'{"data": ['
        for _ in range(64):
            yield b"[]," * 10_000

    for body in (endless(), b'{"data": "' + b"x" * gate.MOST_BODY + b'"}'):
        answer = httpx.post(url, content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["detail"]) == (
            413,
            "a request may hold 512 KiB at most: files are uploaded",
        )
    values = [["a cat"], "", "x" * (gate.MOST_BODY - 1000), [0], {}, None, False]
    assert httpx.post(f"{site.url}gradio_api/call/generate", json={"data": values}).status_code == 200


def test_an_upload_has_a_size_and_leaves_nothing_when_it_is_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "MOST_UPLOAD", 300_000)
    url, folder = f"{site.url}gradio_api/upload", Path(get_upload_folder())
    before = set(folder.iterdir())

    def several(count: int) -> list[tuple[str, Any]]:
        return [("files", (f"{one}.mp4", os.urandom(90_000))) for one in range(count)]

    def unsaid(body: bytes) -> Iterator[bytes]:
        yield from (body[k : k + 10_000] for k in range(0, len(body), 10_000))

    built = httpx.Request("POST", url, files=several(4))
    body, kind = built.read(), {"content-type": built.headers["content-type"]}
    for answer in (httpx.post(url, content=body, headers=kind), httpx.post(url, content=unsaid(body), headers=kind)):
        assert answer.status_code == 413
        assert "above the maximum allowed size" in answer.text
    text = httpx.post(url, files=[("files", (None, b"x" * 200_000))])
    assert (text.status_code, text.text) == (400, "Too many fields. Maximum number of fields is 0.")
    assert set(folder.iterdir()) == before
    assert len(httpx.post(url, files=several(3)).raise_for_status().json()) == 3


def test_the_queue_has_an_end(workspace: Workspace, assets: Path) -> None:
    page: Any = build(Desks(workspace, assets=assets))
    assert page._queue.max_size == gate.MOST_WAITING


# ------------------------------------------------------------------------------------------------ who asks


@pytest.mark.parametrize(
    ("host", "origin", "taken"),
    [
        ("127.0.0.1:{port}", None, True),
        ("localhost:{port}", "http://localhost:{port}", True),
        ("LOCALHOST:9999", "http://localhost:9999", True),  # through a tunnel
        ("[::1]:{port}", None, True),
        ("evil.example", None, False),
        ("evil.example:{port}", "http://evil.example:{port}", False),
        ("localhost.evil.example", None, False),
        ("127.0.0.1.evil.example", None, False),
        ("192.168.1.5", None, False),
        ("[", None, False),
        ("", None, False),
        ("127.0.0.1:{port}", "https://evil.example", False),
        ("127.0.0.1:{port}", "http://127.0.0.1:1", False),
        ("127.0.0.1:{port}", "http://127.0.0.1:{port}.evil.example", False),
        ("127.0.0.1:{port}", "null", False),
        ("127.0.0.1:{port}", "http://[", False),
    ],
)
def test_at_home_no_other_site_uses_the_studio(site: Site, host: str, origin: str | None, taken: bool) -> None:
    port = httpx.URL(site.url).port
    headers = {"host": host.format(port=port)} | ({"origin": origin.format(port=port)} if origin else {})
    page = httpx.get(site.url, headers=headers)
    sent = httpx.post(
        f"{site.url}gradio_api/upload", files={"files": ("a.txt", secrets.token_bytes(8))}, headers=headers
    )
    assert [page.status_code, sent.status_code] == ([200, 200] if taken else [403, 403])
    if not taken:
        assert "GRADIO_ROOT_PATH=https://NAME" in page.text


def test_no_other_site_may_name_itself_the_proxy(site: Site) -> None:
    """A browser sends such a header only after this question."""
    asked = {
        "origin": "https://evil.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-forwarded-host",
    }
    for host in ("localhost", "127.0.0.1"):
        answer = httpx.options(f"{site.url}gradio_api/queue/join", headers={**asked, "host": host})
        assert "access-control-allow-origin" not in answer.headers


def status(headers: dict[str, str], *, server: Any = ("127.0.0.1", 7860), path: str = "/", **scope: Any) -> int:
    """What a request to the gate is answered with, 200 where it gets through."""
    answers: list[Any] = []

    async def app(*_: object) -> None:
        answers.append({"status": 200})

    async def send(message: Any) -> None:
        answers.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    asked = {"type": "http", "path": path, "method": "POST", "headers": raw, "server": server, **scope}
    run_apart(gate.Gate(app)(asked, None, send))  # type: ignore[arg-type]
    return answers[0]["status"]


@pytest.mark.parametrize("server", [("192.168.1.5", 7860), ("::", 7860), ("/run/studio.sock", None), None])
def test_where_it_is_asked_for_from_elsewhere_only_the_origin_tells(server: Any) -> None:
    """A studio that listens on all addresses has names that are not known here."""
    assert status({"host": "studio.lan:7860"}, server=server) == 200
    assert status({"host": "studio.lan:7860", "origin": "http://studio.lan:7860"}, server=server) == 200
    assert status({"host": "studio.lan:7860", "origin": "http://evil.example"}, server=server) == 403
    forged = {"host": "studio.lan", "origin": "http://evil.example", "x-forwarded-host": "evil.example"}
    assert status(forged, server=server) == 403, "there Gradio allows any site such a header"


@pytest.mark.parametrize("server", [("127.0.0.1", 7860), ("::1", 7860), ("::ffff:127.0.0.1", 7860)])
def test_names_that_the_studio_was_given_are_its_own(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    public = {"host": "studio.example", "origin": "https://studio.example"}
    assert status(public, server=server) == 403
    assert status({**public, "x-forwarded-host": "localhost"}, server=server) == 403
    shared = SimpleNamespace(blocks=SimpleNamespace(share_url="https://studio.example"))
    assert status(public, server=server, app=shared) == 200
    for name, value in (("GRADIO_ROOT_PATH", "https://studio.example/here"), ("SPACE_HOST", "a.b,studio.example")):
        with monkeypatch.context() as given:
            given.setenv(name, value)
            assert status(public, server=server) == 200
            assert status({**public, "host": "localhost:7860"}, server=server) == 200
            assert status({**public, "origin": "https://evil.example"}, server=server) == 403
    tunnel = {"host": "localhost:7860", "x-forwarded-host": "x-7860.app.github.dev"}
    assert status({**tunnel, "origin": "https://x-7860.app.github.dev"}, server=server) == 200
    assert status({**tunnel, "origin": "https://evil.example"}, server=server) == 403


def test_on_a_shared_space_programs_of_other_sites_are_guests(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"host": "ann-studio.hf.space", "origin": "https://evil.example"}
    monkeypatch.setenv("SPACE_ID", "ann/studio")
    assert status(other) == 200
    monkeypatch.setenv("SYNMOTION_ALONE", "1")
    assert status(other) == 403


def test_a_root_path_before_an_address_changes_nothing() -> None:
    host = {"host": "localhost"}
    assert status(host, path="/here/gradio_api/process_recording", root_path="/here") == 404
    assert status(host, path="/here/gradio_api/info", root_path="/here") == 200
