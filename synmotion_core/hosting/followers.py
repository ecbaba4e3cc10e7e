"""Trainings elsewhere that somebody looks at: a thread for each reads its Job's log while it is asked about.

`look` answers at once with what is known so far; whoever looks again and again sees the log grow. A thread begins with
the first look and ends some seconds after the last; what it has read stays. An answer that fails is tried again while
somebody looks. The token is in the Machines that a thread holds: in memory, until it ends.
"""

from __future__ import annotations

import collections
import logging
import statistics
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from synmotion_core.errors import UserInputError

if TYPE_CHECKING:  # they bring torch, and the page appears before that
    from synmotion_core.events import Ledger
    from synmotion_core.hosting.ledger import Handoff
    from synmotion_core.hosting.machines import Machines, Stage
    from synmotion_core.types import Event

log = logging.getLogger(__name__)

PATIENCE_S = 20.0  # since the last look
RETRY_S = 15.0  # between two tries where the Hub does not answer as it should
LINES, MAX_LINE = 8, 300  # of the log's end: lines, letters of each
MOST_LOSSES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A training elsewhere at one moment.

    job: where its Job is, None before the Hub has said. stage, step, total: its last unit of work ("" and 0 before the
    first); losses: (training step, loss), ascending; num_steps: of the whole training, 0 while unknown. lines: the end
    of what its log says besides; problem: why it cannot be followed at the moment; whole: its Job is over, and the log
    has been read to its end, so that nothing more will come. All text is untrusted.
    """

    job: Stage | None = None
    stage: str = ""
    step: int = 0
    total: int = 0
    losses: tuple[tuple[int, float], ...] = ()
    num_steps: int = 0
    seconds_per_step: float | None = None
    lines: tuple[str, ...] = ()
    problem: str = ""
    whole: bool = False

    @property
    def ended(self) -> bool:
        """Whether its Job is over."""
        return self.job is not None and self.job.ended


class Followers:
    """Those of one person."""

    def __init__(self, *, patience_s: float = PATIENCE_S, retry_s: float = RETRY_S) -> None:
        self._patience_s, self._retry_s = patience_s, retry_s
        self._all: dict[str, _Follower] = {}
        self._lock = threading.Lock()

    def look(self, machines: Machines, own: Handoff) -> Seen:
        """What is known now of one that has begun; has its log read where nothing reads it."""
        with self._lock:
            there = self._all.get(own.id)
            if there is None or there.job_id != own.job_id:
                there = self._all[own.id] = _Follower(own.job_id)
            seen = there.seen()
            if not seen.whole:
                there.looked_at(machines, own, self._patience_s, self._retry_s)
            return seen

    def forget(self, id: str) -> None:
        """Read its log no more, and know nothing of it."""
        with self._lock:
            there = self._all.pop(id, None)
        if there is not None:
            there.unwatched.set()


class _Unwatched(threading.Event):
    """Is set when it is, and when nobody has looked for so long."""

    def __init__(self, patience_s: float) -> None:
        super().__init__()
        self.patience_s, self.looked = patience_s, time.monotonic()

    def is_set(self) -> bool:
        return super().is_set() or time.monotonic() - self.looked > self.patience_s


class _Follower:
    """One training, and its thread while there is one."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.machines: Machines
        self.unwatched = _Unwatched(0.0)
        self._lock = threading.Lock()
        self._job: Stage | None = None
        self._book: Ledger | None = None
        self._num_steps = 0
        self._lines: collections.deque[str] = collections.deque(maxlen=LINES)
        self._problem, self._whole = "", False
        self._thread: threading.Thread | None = None

    def seen(self) -> Seen:
        with self._lock:
            book, lines = self._book, tuple(self._lines)
            known = {"job": self._job, "lines": lines, "problem": self._problem, "whole": self._whole}
            if book is None:
                return Seen(**known)  # type: ignore[arg-type]
            pace = statistics.median(book.training_seconds) if book.training_seconds else None
            return Seen(
                **known,  # type: ignore[arg-type]
                stage=book.stage, step=book.step, total=book.total, losses=tuple(book.losses),
                num_steps=self._num_steps, seconds_per_step=pace,
            )  # fmt: skip

    def looked_at(self, machines: Machines, own: Handoff, patience_s: float, retry_s: float) -> None:
        """Called under the lock of Followers. The newest look's machines are asked: an older log-in may have ended."""
        self.machines = machines
        if self._thread is not None and self._thread.is_alive() and not self.unwatched.is_set():
            self.unwatched.looked = time.monotonic()
            return
        self.unwatched = _Unwatched(patience_s)
        work = (own, self.unwatched, retry_s)
        self._thread = threading.Thread(target=self._run, args=work, name=f"following {own.id}", daemon=True)
        self._thread.start()

    def _run(self, own: Handoff, unwatched: _Unwatched, retry_s: float) -> None:
        while not unwatched.is_set():
            problem, over = self._read(self.machines, own, unwatched)
            with self._lock:
                if unwatched is not self.unwatched:
                    return
                self._problem = problem
                if over and not unwatched.is_set():
                    self._whole = True
                    return
            unwatched.wait(retry_s)

    def _read(self, machines: Machines, own: Handoff, unwatched: _Unwatched) -> tuple[str, bool]:
        """The log from its beginning until its Job is over; returns what there is to say, and whether it was read to
        its end. What was read before stays until something comes."""
        from synmotion_core.hosting.machines import JobFailed

        began, fresh = time.monotonic(), True
        try:
            for event in machines.follow(own, cancel=unwatched, watch=self._is):
                if unwatched is not self.unwatched:  # another reads by now
                    return "", False
                self._take(event, time.monotonic() - began, fresh=fresh)
                fresh = False
        except JobFailed as error:
            return str(error), True
        except UserInputError as error:
            return str(error), False
        except Exception:
            log.exception("the log of %s could not be followed", own.id)
            bug = "Something went wrong on our side; the details are in the log of the window that runs the studio."
            return bug, False
        return "", True

    def _is(self, job: Stage) -> None:
        with self._lock:
            self._job, self._problem = job, ""

    def _take(self, event: Event, clock: float, *, fresh: bool) -> None:
        from synmotion_core.events import Ledger, Line
        from synmotion_core.types import Noted, Progress, Warned

        with self._lock:
            if fresh or self._book is None:
                self._book, self._num_steps = Ledger(), 0
                self._lines.clear()
            if isinstance(event, Progress):
                self._book.fold(Line(event=event, time=0.0, attempt=1, clock=clock))
                del self._book.losses[:-MOST_LOSSES]
                if event.stage == "train":
                    self._num_steps = event.total
            elif isinstance(event, (Noted, Warned)):
                text = event.message
                self._lines.append(text[:MAX_LINE] + "…" * (len(text) > MAX_LINE))
