"""What is whose: a desk each, with clips, jobs, adapters, videos and transfers, found for every request by who sent it.

On one's own computer there is one desk, the workspace itself. Where people share the studio (people.py) each has a
folder in it, and nothing that a browser may send (a job's id, a file's name) leads out of it. A guest's desk is deleted
a day after it was last used. All desks share the one device, in turn.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from synmotion_core.errors import ConfigError
from synmotion_core.hosting.followers import Followers
from synmotion_core.locks import Turns
from synmotion_core.transfers import Transfers
from synmotion_core.ui.chosen import Library
from synmotion_core.ui.people import Person, person_now, shared
from synmotion_core.ui.pictures import Pictures
from synmotion_core.workspace import Workspace

if TYPE_CHECKING:
    from synmotion_core.job_folder import Kind
    from synmotion_core.jobs import Jobs, Runner

log = logging.getLogger(__name__)

ASSETS = Path(__file__).resolve().parents[2] / "assets"
GUEST_S = 24 * 3600.0  # how long a guest's desk is kept unused
MOST_GUESTS = 500
IDLE_S = 300.0  # after which a guest's desk may be put away, where there are too many: it is found again on disk
MOST_LIVE = 3  # jobs of one person that wait or run, where a device is shared


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What belongs to one person."""

    workspace: Workspace
    jobs: Jobs
    transfers: Transfers
    library: Library
    pictures: Pictures
    followers: Followers = field(default_factory=Followers)


class Desks:
    """Every desk of one studio, made when its person first comes. `close` (or leaving a `with` block) ends all work."""

    def __init__(self, root: Workspace, *, runners: Mapping[Kind, Runner] | None = None, assets: Path = ASSETS) -> None:
        self.root, self.assets = root, assets
        self._runners = runners
        self._turns = Turns(root.jobs / "device.lock")
        self._desks: dict[str, Desk] = {}
        self._used: dict[str, float] = {}
        self._lock = threading.RLock()
        self._swept = 0.0

    def of(self, person: Person) -> Desk:
        """A person's desk. Raises StorageError where it cannot be made, ConfigError where too many guests are here."""
        with self._lock:
            if person.key.startswith("guests/"):
                self._sweep(person.key)
            desk = self._desks.get(person.key)
            if desk is None:
                from synmotion_core.jobs import Jobs  # it brings torch, and the page appears before that

                workspace = Workspace(self.root.root / person.key) if person.key else self.root
                limit = MOST_LIVE if shared() else None
                jobs = Jobs(workspace, self._runners, turns=self._turns, most_live=limit)
                desk = Desk(
                    workspace=workspace, jobs=jobs, transfers=Transfers(), library=Library(workspace, self.assets),
                    pictures=Pictures(workspace, self.assets),
                )  # fmt: skip
                self._desks[person.key] = desk
            now, root = time.time(), desk.workspace.root
            self._used[person.key] = now
            if person.key.startswith("guests/") and now - root.stat().st_mtime > IDLE_S:
                os.utime(root)  # of a guest who is back after a restart of the studio, this is what is known
            return desk

    def here(self) -> Desk:
        """The desk of whoever the running handler works for; on one's own computer the only one.

        Raises RuntimeError where people share the page and nobody is known: that is a bug, and nobody's files.
        """
        person = person_now()
        if person is None:
            if shared():
                raise RuntimeError("a desk was asked for outside of a handler, where nobody is known")
            person = Person()
        return self.of(person)

    def close(self) -> None:
        """Stop what runs at its next step, saved."""
        with self._lock:
            desks = list(self._desks.values())
        for desk in desks:
            desk.jobs.close()

    def __enter__(self) -> Desks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sweep(self, keep: str, clock: Callable[[], float] = time.time) -> None:
        """Delete guests' desks that were left; at most once a minute, while nothing of theirs runs."""
        now, folder = clock(), self.root.root / "guests"
        if now - self._swept > 60 and folder.is_dir():
            self._swept = now
            for place in folder.iterdir():
                key = f"guests/{place.name}"
                last = max(self._used.get(key, 0.0), place.stat().st_mtime)
                if key == keep or now - last < GUEST_S or self._busy(key):
                    continue
                log.info("the desk of a guest who left is deleted")
                if (gone := self._desks.pop(key, None)) is not None:
                    gone.jobs.close()
                self._used.pop(key, None)
                try:
                    shutil.rmtree(place)
                except OSError as error:
                    log.warning("the desk of a guest who left could not be deleted whole: %s", error)
        if keep not in self._desks:
            self._put_away(now)

    def _put_away(self, now: float) -> None:
        """Make room for a guest: those who are away longest make it, their desks stay on disk, empty ones do not.

        An empty desk makes room at once: each request without a cookie gets one, and nobody loses anything with it.
        Raises ConfigError where all others are here, or have work that runs.
        """
        guests = sorted((key for key in self._desks if key.startswith("guests/")), key=self._used.__getitem__)
        here = len(guests)
        for key in guests:
            if here < MOST_GUESTS:
                break
            root = self._desks[key].workspace.root
            empty = not any(path.is_file() and path.stat().st_size for path in root.rglob("*"))
            if (not empty and now - self._used[key] < IDLE_S) or self._busy(key):
                continue
            self._desks.pop(key).jobs.close()
            here -= 1
            if empty:
                _clear(root)
                del self._used[key]
        if here >= MOST_GUESTS:
            raise ConfigError("too many visitors are here at once: log in, or come back later")

    def _busy(self, key: str) -> bool:
        from synmotion_core.job_folder import LIVE

        desk = self._desks.get(key)
        if desk is None:
            return False
        return desk.transfers.running or any(view.status in LIVE for view in desk.jobs.list())


def _clear(folder: Path) -> None:
    """Delete a folder of empty folders; what is written there meanwhile stays, and the way to it."""
    for place in (*sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True), folder):
        with contextlib.suppress(OSError):
            place.rmdir()
