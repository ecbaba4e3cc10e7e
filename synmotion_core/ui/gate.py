"""What the server answers at all, at home and on a Space: to whom, at which of Gradio's addresses, reading how much.

A browser that has a page of another site open lets it ask whatever listens on this computer, and a name of that site
may lead here, too (DNS rebinding). At home no log-in tells such requests from the owner's, and a push goes out with
this machine's token: what another site asks is refused. Where people share a studio it counts for nobody (guard.py).
Gradio has more addresses than the page, gradio_client and MCP need; the others are not there. Nothing is fetched from
elsewhere because a request names an address.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote, urlsplit

import gradio as gr
from gradio import processing_utils, route_utils
from starlette._utils import get_route_path
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

from synmotion_core.ui.people import shared
from synmotion_core.ui.uploads import is_upload

MIB = 2**20
MOST_FILE = 512 * MIB  # one uploaded file
MOST_UPLOAD = 8 * MOST_FILE  # the files of one request: a browser sends all that were chosen in one
MOST_BODY = MIB // 2  # any other request; the page's own hold some KiB. JSON takes up to 20 times its length in memory
MOST_WAITING = 500  # events in the queue, each as large as that; a page that is opened sends less than twenty

API = "/gradio_api/"
UPLOAD = f"{API}upload"
# What is asked for there by the page, gradio_client and MCP. Gradio 6.31 has more, for anybody: process_recording runs
# the system's ffmpeg on what it is sent, deep_link and vibe-* write files, proxy= fetches, component_server calls
# methods of components, stream, custom_component, dev, run-history, runs and profiling are of things that no page here
# has. What a later Gradio adds is closed until it is named here.
_OPEN = frozenset({
    "api", "app_id", "call", "cancel", "file", "heartbeat", "info", "mcp", "openapi.json", "queue", "reset", "run",
    "startup-events", "theme.css", "upload", "upload_progress",
})  # fmt: skip
_CLOSED = re.compile(r"/monitoring(/|$)")  # Gradio opens its dashboard unless told not to, and sums up events for it

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Gate:
    """ASGI middleware, outside of all that reads a body or a cookie."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with 403 or 404 what is refused; hand on the rest, with a limit on what is read of it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if not _is_there(path := routed(scope)):
            return await refuse(send, 404, "There is nothing at this address.")
        if not shared() and (why := _stranger(scope)):
            return await refuse(send, 403, why)
        return await self.app(scope, _limited(receive, scope, path), send)


def routed(scope: Scope) -> str:
    """The path as the routes see it: a root path (GRADIO_ROOT_PATH) before it is taken off."""
    return str(get_route_path(scope))


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of that name (lower case)."""
    found = (value for own, value in scope.get("headers", ()) if bytes(own).lower() == name)
    return next((bytes(value).decode("latin-1") for value in found), None)


def is_of_another_site(scope: Scope) -> bool:
    """Whether a page that is not of this studio sent a request: browsers name it in all but plain visits."""
    origin = header(scope, b"origin")
    if origin is None:
        return False
    own = {(header(scope, b"host") or "").lower(), *_given_hosts(scope)}
    if not shared() and _name(header(scope, b"host")) in ("localhost", "127.0.0.1"):
        # a tunnel of an editor (Codespaces) asks under these names, and says here what the browser sees. No other site
        # can: a browser asks first for a header like this, and for these two names Gradio allows it to none
        own.add((header(scope, b"x-forwarded-host") or "").lower())
    return _netloc(origin) not in own - {""}


async def refuse(send: Send, status: int, why: str) -> None:
    """Answer with a sentence."""
    head = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": why.encode()})


def close_what_gradio_opens() -> None:
    """What no middleware can refuse: replaced in Gradio's own modules, for the whole process.

    A file that a form names by an http address, Gradio fetches before any handler sees it, whole into memory, and puts
    it where uploads lie; all its ways to do so end in these two functions, which are looked up when they are called.
    """
    for module, name, instead in (
        (processing_utils, "async_ssrf_protected_get", _refused),
        (processing_utils, "async_ssrf_protected_download", _not_downloaded),
        (route_utils, "GradioMultiPartParser", _FilesAlone),
    ):
        assert hasattr(module, name), f"this Gradio has no {name}: see what does its work there"
        setattr(module, name, instead)


async def _not_downloaded(url: str, cache_dir: str) -> str:
    """An upload by its own address, as MCP names them, is on this disk; raises gr.Error for anything else."""
    path = unquote(urlsplit(url).path.partition(f"{API}file=")[2])
    if path and is_upload(path):
        return path
    return await _refused()


async def _refused(*_: object, **__: object) -> Any:
    raise gr.Error(
        "files are uploaded here, not fetched from an address: download it yourself, and upload it",
        print_exception=False,
    )


class _FilesAlone(route_utils.GradioMultiPartParser):
    """Gradio keeps a field of text in memory, up to a thousand of any length, and nothing of ours sends one."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **{**named, "max_fields": 0})


def _is_there(path: str) -> bool:
    if not path.startswith(API):
        return _CLOSED.match(path) is None
    first, mark, rest = re.fullmatch(r"([^/=]*)([/=]?)(.*)", path[len(API) :], re.DOTALL).groups()  # type: ignore[union-attr]
    if first == "file" and rest.startswith(("http://", "https://")):
        return False  # Gradio would fetch it for whoever asks
    return first in _OPEN and (mark != "=" or first == "file")


def _stranger(scope: Scope) -> str:
    """Why a request is not of who sits at this computer, "" where nothing says so."""
    host = header(scope, b"host")
    # by the address that was asked: a studio that listens on all is asked for by names which are not known here
    here = _is_loopback(str((scope.get("server") or [""])[0]))
    own = _name(host) == "localhost" or _is_loopback(_name(host)) or (host or "").lower() in _given_hosts(scope)
    if here and not own:
        return (
            "This studio is asked for on its own computer alone, as 127.0.0.1, localhost or [::1], not by another "
            "name. Behind a proxy, GRADIO_ROOT_PATH=https://NAME says its address."
        )
    if is_of_another_site(scope):
        return (
            "A page of another site asked for this, which may not use the studio on this computer. "
            "Behind a proxy, GRADIO_ROOT_PATH=https://NAME says the studio's address."
        )
    return ""


def _given_hosts(scope: Scope) -> Iterator[str]:
    """Hosts, with their ports, that this studio was given: by a Space, by whoever put a proxy before it, by --share."""
    blocks = getattr(scope.get("app"), "blocks", None)
    yield from (host.strip().lower() for host in os.environ.get("SPACE_HOST", "").split(",") if host.strip())
    for url in (os.environ.get("GRADIO_ROOT_PATH", ""), getattr(blocks, "share_url", None) or ""):
        if found := _netloc(url):
            yield found


def _netloc(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


def _name(host: str | None) -> str:
    """A host without its port, "" for what is none."""
    try:
        return urlsplit(f"//{host or ''}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def _limited(receive: Receive, scope: Scope, path: str) -> Receive:
    """Ends with 413 what is longer than may be read: by what is announced, before anything is read, and as it comes.

    It raises in whoever reads: in an upload what Gradio's parser knows, which deletes what it had written so far.
    """
    upload = path.rstrip("/") == UPLOAD
    limit, got = MOST_UPLOAD if upload else MOST_BODY, 0
    announced = header(scope, b"content-length") or ""

    async def limited() -> Message:
        nonlocal got
        if not (announced.isdecimal() and int(announced) > limit):
            message = await receive()
            got += len(message.get("body") or b"")
            if got <= limit:
                return message
        if upload:  # Gradio answers 413 where it reads "maximum allowed size"
            raise MultiPartException(
                f"these files are above the maximum allowed size of {limit // MIB} MiB for all together: "
                "upload fewer at a time"
            )
        raise HTTPException(413, f"a request may hold {limit // 1024} KiB at most: files are uploaded")

    return limited
