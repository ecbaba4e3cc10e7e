"""Where people share the studio, each file has an address only for whom it was made.

Gradio gives every file in its cache to whoever knows its address (which holds the SHA-256 of the content). Here a file
is given to the persons to whom a handler has shown it, told by the cookie that comes with the request. A visitor whose
browser takes no cookies, and a program, cannot be told so: their addresses open for whoever knows them. Gradio answers
the pages of any site, and a browser sends its cookie along with what they ask: from another site it counts for nobody.

On one's own computer nothing of this is at work. What is refused there, too, is in gate.py.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from typing import Any

from synmotion_core.errors import ConfigError
from synmotion_core.ui.gate import API, UPLOAD, Gate, Message, Scope, Send, header, is_of_another_site, refuse, routed
from synmotion_core.ui.people import (
    COOKIE,
    Person,
    from_cookie,
    log_in_has_ended,
    log_in_is_possible,
    person_now,
    shared,
)

ANYBODY = "anybody"
MANY = 20_000  # addresses, before those whose files are gone are forgotten
_FILES = (f"{API}file=", f"{API}file/")
_BODY = 2**20  # bytes of an answer that names uploaded files

_owners: dict[str, set[str]] = {}
_lock = threading.Lock()


def own(path: str) -> None:
    """Note that the person of the running handler may fetch this file."""
    person = person_now()
    if person is not None and shared():
        _note(path, person)


def publish(path: str) -> None:
    """Whoever knows the address may fetch this file: for programs, which send no cookie with it."""
    with _lock:
        _owners.setdefault(os.path.abspath(path), set()).add(ANYBODY)


def may(person: Person | None, path: str) -> bool:
    """Whether a person (None: nobody known) may fetch a file."""
    with _lock:
        owners = _owners.get(os.path.abspath(path), set())
    return ANYBODY in owners or (person is not None and person.key in owners)


def _note(path: str, person: Person) -> None:
    with _lock:
        if len(_owners) > MANY:
            for gone in [known for known in _owners if not os.path.exists(known)]:
                del _owners[gone]
        _owners.setdefault(os.path.abspath(path), set()).add(person.key if person.cookie else ANYBODY)


class Guard:
    """ASGI middleware, inside of the one that reads the session's cookie."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        """Give a visitor their cookie with the page; hold requests for files against who may have them."""
        if scope["type"] != "http" or not shared():
            return await self.app(scope, receive, send)
        path = routed(scope)
        if is_of_another_site(scope) or _is_logged_out_elsewhere(scope, path):
            scope = {**scope, "session": {}}  # a copy: the visitor's own stays as it is
        session = scope.get("session")
        if path == "/" and scope.get("method") == "GET" and session is not None:
            if log_in_has_ended(session):
                del session["oauth_info"]
            if COOKIE not in session:
                session[COOKIE] = secrets.token_urlsafe(32)
        wanted = next((path[len(start) :] for start in _FILES if path.startswith(start)), None)
        if wanted is not None and not may(_sender(scope), wanted):
            return await refuse(send, 403, "This file is not yours, or not there any more.")
        if path.rstrip("/") == UPLOAD:
            send = _noting(send, _sender(scope))
        return await self.app(scope, receive, send)


def _is_logged_out_elsewhere(scope: Scope, path: str) -> bool:
    """Whether a page of another site asks for the log-out: in an <img>, which names no origin.

    Not looked at elsewhere: the log-in's way back comes from another site, as it should.
    """
    return path.rstrip("/") == "/logout" and header(scope, b"sec-fetch-site") in ("cross-site", "same-site")


def _sender(scope: Scope) -> Person | None:
    try:
        return from_cookie(scope.get("session") or {})
    except ConfigError:
        return None


def _noting(send: Send, person: Person | None) -> Send:
    """Whoever uploads a file may see it again: the answer of an upload names where it was put."""
    body = bytearray()

    async def noted(message: Message) -> None:
        if message["type"] == "http.response.body" and len(body) < _BODY:
            body.extend(message.get("body", b""))
            if not message.get("more_body") and person is not None:
                try:
                    paths = json.loads(bytes(body))
                except ValueError:
                    paths = None
                for path in paths if isinstance(paths, list) else []:
                    if isinstance(path, str):
                        _note(path, person)
        await send(message)

    return noted


def app_options() -> dict[str, Any]:
    """`app_kwargs` for Gradio's launch."""
    from starlette.middleware import Middleware

    middleware = [Middleware(Gate)]
    if shared():
        if not log_in_is_possible():  # else Gradio reads the cookie
            from starlette.middleware.sessions import SessionMiddleware

            key = secrets.token_hex(32)
            middleware.append(Middleware(SessionMiddleware, secret_key=key, same_site="none", https_only=True))
        middleware.append(Middleware(Guard))
    return {"middleware": middleware}
