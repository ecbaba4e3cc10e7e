"""Fetching and sending, beside the device's work: each in a thread of its own, seen by an id.

A transfer outlives the page that asked for it, not the process: what was half fetched or half sent is kept where it is,
and the same request goes on there.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from synmotion_core.errors import Cancelled, ConfigError, MissingError, UserInputError

log = logging.getLogger(__name__)

MOST = 4  # at once
KEPT = 200  # that ended and can still be looked at
Status = Literal["running", "finished", "failed", "cancelled"]
Watch = Callable[[str, int, int], None]  # a file, bytes of it that are done, bytes of it
Work = Callable[[Watch, threading.Event], tuple[str, Any]]  # a sentence about what came of it, and that itself


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferView:
    """A transfer at one moment: what it is, the file under way, and in the end a sentence and a result."""

    id: str
    what: str
    status: Status
    file: str = ""
    done: int = 0
    size: int = 0
    message: str = ""
    result: Any = None


@dataclass(slots=True)
class _Transfer:
    view: TransferView
    cancel: threading.Event = field(default_factory=threading.Event)


class Transfers:
    """Those of one process. Ids are secret: who knows one may see and cancel it."""

    def __init__(self) -> None:
        self._all: dict[str, _Transfer] = {}
        self._lock = threading.Lock()

    def start(self, what: str, work: Work) -> str:
        """Begin; returns the id. Raises ConfigError where MOST are running."""
        own = _Transfer(TransferView(id=secrets.token_hex(12), what=what, status="running"))
        with self._lock:
            if sum(one.view.status == "running" for one in self._all.values()) >= MOST:
                raise ConfigError(f"{MOST} transfers are running: wait for one, or cancel it")
            over = [id for id, one in self._all.items() if one.view.status != "running"]
            for id in over[: max(0, len(self._all) - KEPT)]:
                del self._all[id]
            self._all[own.view.id] = own
        threading.Thread(target=self._run, args=(own, work), name=what, daemon=True).start()
        return own.view.id

    @property
    def running(self) -> bool:
        """Whether any is under way."""
        with self._lock:
            return any(one.view.status == "running" for one in self._all.values())

    def view(self, id: str) -> TransferView:
        """Raises MissingError for one that is not there (any more)."""
        with self._lock:
            return self._there(id).view

    def cancel(self, id: str) -> None:
        """Ask it to end after what it is at; one that has ended stays as it is. Raises MissingError."""
        with self._lock:
            self._there(id).cancel.set()

    def _there(self, id: str) -> _Transfer:
        if id not in self._all:
            raise MissingError("that transfer is not there any more: start it again, it goes on where it was")
        return self._all[id]

    def _run(self, own: _Transfer, work: Work) -> None:
        def watch(file: str, done: int, size: int) -> None:
            self._put(own, file=file, done=done, size=size)

        try:
            message, result = work(watch, own.cancel)
            self._put(own, status="finished", message=message, result=result)
        except Cancelled as error:
            message = str(error) or "Cancelled. The same request goes on where it was."
            self._put(own, status="cancelled", message=message)
        except UserInputError as error:
            self._put(own, status="failed", message=str(error))
        except BaseException:  # the client's compiled parts panic so; a transfer that never ends would block others
            log.exception("%s failed", own.view.what)
            self._put(own, status="failed", message="Something went wrong on our side; the details are in the log.")

    def _put(self, own: _Transfer, **changed: Any) -> None:
        with self._lock:
            values = {name: getattr(own.view, name) for name in TransferView.__dataclass_fields__}
            own.view = TransferView(**values | changed)
