"""The trainings that were handed off, in <workspace>/remote.json: written whole or not at all, one writer at a time.

    {"version": 1, "handoffs": [{"id": "4f2c1ab0", "repo_id": "ann/synmotion-job-4f2c1ab0", "job_id": "...", ...}]}

It holds no token. A file that cannot be read is an error that names it, never written over.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from synmotion_core.config import from_dict, to_dict
from synmotion_core.errors import ConfigError, MissingError, StorageError
from synmotion_core.locks import FileLock
from synmotion_core.storage import replacing
from synmotion_core.workspace import Workspace

VERSION = 1
_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Handoff:
    """A training elsewhere. commit "" = not sent yet, job_id "" = no machine has begun it."""

    id: str
    name: str
    backbone: str
    method: str
    repo_id: str
    key: str
    flavor: str
    timeout: str
    created: str
    commit: str = ""
    job_id: str = ""

    @property
    def owner(self) -> str:
        """Whose repository it is, and whose Job."""
        return self.repo_id.split("/")[0]


class Ledger:
    """Those of one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._path = workspace.root / "remote.json"

    def all(self) -> list[Handoff]:
        """In the order in which they were made. Raises ConfigError for a file that cannot be read."""
        return list(self._read(self._path))

    def find(self, id: str) -> Handoff:
        """Raises MissingError, naming those that there are."""
        there = self.all()
        for one in there:
            if one.id == id:
                return one
        ids = ", ".join(one.id for one in there) or "none"
        raise MissingError(f"this machine has handed off no training {id!r} ({ids}): see `remote list`")

    def put(self, own: Handoff) -> Handoff:
        """Add it, or write over the one of its id; returns it."""
        with self._changing() as there:
            there[:] = [own if one.id == own.id else one for one in there] + [own] * (
                own.id not in [o.id for o in there]
            )
        return own

    def change(self, own: Handoff, **values: str) -> Handoff:
        """`put` of the same with other values."""
        return self.put(replace(own, **values))

    def drop(self, id: str) -> None:
        """Forget one."""
        with self._changing() as there:
            there[:] = [one for one in there if one.id != id]

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Held by whoever begins or deletes one: two presses, or two programs, are one after the other."""
        with self._alone("remote-start.lock", "one is being begun or deleted elsewhere at this moment: look again"):
            yield

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[Handoff]]:
        with self._alone("remote.lock", f"{self._path} is being written by another process: try again"):
            there = list(self._read(self._path))
            yield there
            values = {"version": VERSION, "handoffs": [to_dict(one) for one in there]}
            with replacing(self._path) as partial:
                partial.write_text(json.dumps(values, indent=1) + "\n", encoding="ascii")

    @contextlib.contextmanager
    def _alone(self, name: str, otherwise: str) -> Iterator[None]:
        lock, until = FileLock(self._path.with_name(name)), time.monotonic() + _PATIENCE_S
        while not lock.acquire():
            if time.monotonic() > until:
                raise StorageError(otherwise)
            time.sleep(0.05)
        try:
            yield
        finally:
            lock.release()

    @staticmethod
    def _read(path: Path) -> Iterator[Handoff]:
        try:
            values = json.loads(path.read_bytes())
            rows = values["handoffs"] if values["version"] == VERSION else None
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(f"{path} cannot be read ({type(error).__name__}): move it away to begin anew") from error
        if not isinstance(rows, list):
            raise ConfigError(f"{path} is of another version: this one reads version {VERSION}")
        yield from (from_dict(Handoff, row) for row in rows)
