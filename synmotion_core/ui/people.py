"""Who is at the page. On one's own computer there is nobody to tell apart; a Space is used by many.

    logged in              people/<id of the account>     by Hugging Face's log-in, whose session Gradio keeps
    a visitor's browser    guests/<digest>                by a signed cookie that the page gives at the first visit
    anybody else           guests/<digest>                by the session that a page or a program has opened

Every handler of the page runs in `at_work_for(request)`; threads that it starts know nobody.
"""

from __future__ import annotations

import contextvars
import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from synmotion_core.errors import ConfigError

if TYPE_CHECKING:
    import gradio as gr

COOKIE = "synmotion_guest"  # the key in the session that the page gives to a visitor
_ACCOUNT = re.compile(r"[0-9A-Za-z_-]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who sent a request. `key` names their folder ("" on one's own computer); `name` is an account's, "" of a guest;
    `cookie`: whether every request of their browser says who it is; `token` is the account's own for the Hub: it stays
    in memory, and is in no text of this object; until: when the log-in ends, in seconds since 1970, None: unknown.
    """

    key: str = ""
    name: str = ""
    cookie: bool = False
    token: str | None = field(default=None, repr=False, compare=False)
    until: float | None = field(default=None, compare=False)


_now: contextvars.ContextVar[Person | None] = contextvars.ContextVar("synmotion_person", default=None)
_page: contextvars.ContextVar[str] = contextvars.ContextVar("synmotion_page", default="")


def person_now() -> Person | None:
    """Who the handler that runs here works for; None outside of handlers, in threads of their own, too."""
    return _now.get()


def page_now() -> str:
    """The session of the page that the handler here answers, "" where there is none."""
    return _page.get()


@contextmanager
def at_work_for(request: gr.Request | None) -> Iterator[None]:
    """Every handler of the page runs in this: what it asks of the studio is that person's."""
    person = _now.set(person_of(request))
    page = _page.set((request.session_hash if request is not None else None) or "")
    try:
        yield
    finally:
        _page.reset(page)
        _now.reset(person)


def shared() -> bool:
    """Whether this is a Space, which people use together. One for oneself says so: SYNMOTION_ALONE=1."""
    return bool(os.environ.get("SPACE_ID")) and os.environ.get("SYNMOTION_ALONE", "") != "1"


def log_in_is_possible() -> bool:
    """Whether Hugging Face has given this Space a log-in (`hf_oauth: true` in README's first lines)."""
    return shared() and os.environ.get("SYSTEM") == "spaces" and bool(os.environ.get("OAUTH_CLIENT_ID"))


def person_of(request: gr.Request | None) -> Person:
    """By the session that the server has signed, else by the session of the page.

    Raises ConfigError for a request with neither: it is nobody's.
    """
    if not shared():
        return Person()
    known = from_cookie(_session_of(getattr(request, "request", None)))
    if known is not None:
        return known
    secret = request.session_hash if request is not None else None
    if not isinstance(secret, str) or not secret:
        raise ConfigError("this page has no session: reload it, with cookies allowed")
    return _guest(f"session {secret}", cookie=False)


def from_cookie(session: Mapping[str, Any]) -> Person | None:
    """By what the server has signed into the browser's cookie: an account, else a visitor that was given one."""
    account, secret = _account(session), session.get(COOKIE)
    return account or (_guest(f"cookie {secret}", cookie=True) if isinstance(secret, str) and secret else None)


def log_in_has_ended(session: Mapping[str, Any]) -> bool:
    """Whether the session is of a log-in whose time is over."""
    info = session.get("oauth_info")
    until = _until(info) if isinstance(info, Mapping) else None
    return until is not None and until < time.time()


def _until(info: Mapping[str, Any]) -> float | None:
    until = info.get("expires_at")
    return float(until) if isinstance(until, (int, float)) else None


def _session_of(request: Any) -> Mapping[str, Any]:
    scope = getattr(request, "scope", None)
    session = scope.get("session") if isinstance(scope, Mapping) else None
    return session if isinstance(session, Mapping) else {}


def _guest(secret: str, *, cookie: bool) -> Person:
    """A visitor, known by something that only their browser or program has."""
    return Person(key=f"guests/{hashlib.sha256(secret.encode()).hexdigest()[:32]}", cookie=cookie)


def _account(session: Mapping[str, Any]) -> Person | None:
    """By the account's id, not by its name: a name can be given up, and be another's tomorrow."""
    info = session.get("oauth_info")
    if not isinstance(info, Mapping) or not isinstance(info.get("userinfo"), Mapping):
        return None
    if log_in_has_ended(session):  # what is asked is not a guest's, who would lose it
        raise ConfigError("your log-in has ended: reload the page, and log in again")
    until = _until(info)
    who = str(info["userinfo"].get("sub", ""))
    if not _ACCOUNT.fullmatch(who):
        raise ConfigError("the log-in came without an account that can be told apart: log in again")
    name, token = info["userinfo"].get("preferred_username"), info.get("access_token")
    return Person(
        key=f"people/{who}", name=str(name or who), cookie=True, token=token if isinstance(token, str) else None,
        until=until,
    )  # fmt: skip
