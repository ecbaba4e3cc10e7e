"""Events as text: the one form they have on disk (a job's events.jsonl) and on standard output (`--json`).

    {"version": 1, "kind": "progress", "data": {"stage": "train", "step": 3, "total": 400, "loss": 0.21, ...}}

An event log adds when it happened; one line an event, only ever appended to:

    "time"     seconds since 1970
    "attempt"  1 for the first start of a job, 2 after one resume, ...
    "clock"    seconds since this attempt began, unmoved by changes of the computer's clock

Reading is strict: an unknown version, kind, key or type is a ConfigError. A last line without its line feed is torn (a
kill in the middle of a write) and is left for the next read; the next writer removes it. Numbers that JSON lacks are
the texts "nan", "inf" and "-inf". Paths inside `base` are written relative to it, so that a workspace can be moved.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import json
import logging
import math
import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from synmotion_core.config import from_dict, to_dict
from synmotion_core.errors import ConfigError, UserInputError
from synmotion_core.types import Event, Finished, Noted, Progress, Sampled, Saved, Scored, Started, Stopped, Warned

log = logging.getLogger(__name__)

VERSION = 1
KINDS: dict[str, type[Event]] = {
    "started": Started,
    "progress": Progress,
    "sampled": Sampled,
    "saved": Saved,
    "scored": Scored,
    "warned": Warned,
    "noted": Noted,
    "stopped": Stopped,
    "finished": Finished,
}
_NAMES = {cls: kind for kind, cls in KINDS.items()}
_NOT_JSON = ("nan", "inf", "-inf")
_FLOATS = {cls: {f.name for f in dataclasses.fields(cls) if "float" in str(f.type)} for cls in _NAMES}
_PATHS = {cls: {f.name for f in dataclasses.fields(cls) if "Path" in str(f.type)} for cls in _NAMES}
MAX_PENDING = 10_000  # lines kept in memory while the disk is full


def event_to_dict(event: Event, *, base: Path | None = None) -> dict[str, Any]:
    """Plain JSON values; `event_from_dict` of them is the event again."""
    data = to_dict(event)
    for name in _FLOATS[type(event)]:
        if isinstance(data[name], float) and not math.isfinite(data[name]):
            data[name] = str(data[name])
    for name in _PATHS[type(event)]:
        path = getattr(event, name)
        if base is not None and path is not None and path.is_relative_to(base):
            data[name] = path.relative_to(base).as_posix()
    return {"version": VERSION, "kind": _NAMES[type(event)], "data": data}


def event_from_dict(record: Mapping[str, Any], *, base: Path | None = None) -> Event:
    """The event of `event_to_dict`. Raises ConfigError for anything else."""
    if not isinstance(record, Mapping) or record.keys() != {"version", "kind", "data"}:
        raise ConfigError(f"an event has version, kind and data, got {str(record)[:200]}")
    version, kind, data = record["version"], record["kind"], record["data"]
    if version != VERSION or isinstance(version, bool):
        raise ConfigError(f"an event of version {version!r}: this version of synmotion_core reads version {VERSION}")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(f"an event of unknown kind {kind!r}: there are {', '.join(KINDS)}")
    if not isinstance(data, Mapping):
        raise ConfigError(f"an event's data must be a mapping, got {data!r}")
    cls = KINDS[kind]
    values = dict(data)
    for name in _FLOATS[cls]:
        if values.get(name) in _NOT_JSON:
            values[name] = float(values[name])
    for name in _PATHS[cls]:
        if base is not None and isinstance(values.get(name), str):
            values[name] = str(base / PurePosixPath(values[name]))  # an absolute path stays itself
    return from_dict(cls, values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of an event log."""

    event: Event
    time: float
    attempt: int
    clock: float


def line_to_bytes(line: Line, base: Path | None = None) -> bytes:
    """With its line feed; ASCII only."""
    record = event_to_dict(line.event, base=base)
    head = {"time": round(line.time, 3), "attempt": line.attempt, "clock": round(line.clock, 4)}
    return json.dumps(head | record, allow_nan=False).encode("ascii") + b"\n"


def line_from_bytes(raw: bytes, base: Path | None = None) -> Line:
    """Raises ConfigError for anything that `line_to_bytes` would not write."""
    try:
        record = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"a line of an event log is not JSON: {raw[:80]!r}") from error
    if not isinstance(record, dict):
        raise ConfigError(f"a line of an event log is not an object: {raw[:80]!r}")
    when, attempt, clock = (record.pop(name, None) for name in ("time", "attempt", "clock"))
    if type(attempt) is not int or type(when) not in (int, float) or type(clock) not in (int, float):
        raise ConfigError(f"a line of an event log lacks its time, attempt or clock: {raw[:80]!r}")
    return Line(event=event_from_dict(record, base=base), time=when, attempt=attempt, clock=clock)


def read_lines(path: Path, offset: int = 0, base: Path | None = None) -> tuple[list[Line], int, int]:
    """Whole lines from a byte offset on: (lines, next offset, number of unreadable lines). A missing file is an empty
    one.

    Unreadable lines are logged; a torn last line is neither read nor counted.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            raw = file.read()
    except FileNotFoundError:
        return [], offset, 0
    whole = raw[: raw.rfind(b"\n") + 1]
    lines, unreadable = [], 0
    for piece in whole.split(b"\n")[:-1]:
        try:
            lines.append(line_from_bytes(piece, base))
        except UserInputError as error:
            unreadable += 1
            log.warning("%s: %s", path, error)
    return lines, offset + len(whole), unreadable


class EventLog:
    """The writer of one event log. A full disk never raises: lines wait in memory and are written when there is room
    again.

    `size` is the number of bytes written whole; a partly written line is cut off at once, so that the file always ends
    in a whole line.
    """

    def __init__(self, path: Path, base: Path | None = None) -> None:
        self.path, self.base = path, base
        self.size = 0
        self.pending: list[bytes] = []
        self.num_lost = 0
        self._file: FileIO | None = None

    def append(self, line: Line) -> OSError | None:
        """Write a line and what waits before it; returns the reason when that failed."""
        self.pending.append(line_to_bytes(line, self.base))
        error = self.flush(sync=not isinstance(line.event, Progress))
        if len(self.pending) > MAX_PENDING:
            del self.pending[0]
            self.num_lost += 1
        return error

    def flush(self, *, sync: bool = False) -> OSError | None:
        """Write what waits. `sync`: down to the disk itself, against a power cut."""
        try:
            file = self._file or self._open()
            while self.pending:
                self._write(file, self.pending[0])
                del self.pending[0]
            if sync:
                os.fsync(file.fileno())
        except OSError as error:
            return error
        return None

    def close(self) -> OSError | None:
        """Flush and close; may be opened again by the next append."""
        error = self.flush(sync=True) if self.pending else None
        if self._file is not None:
            self._file.close()
            self._file = None
        return error

    def _open(self) -> FileIO:
        file = self.path.open("ab", buffering=0)
        raw = self.path.read_bytes() if file.tell() else b""
        whole = raw.rfind(b"\n") + 1
        if whole < len(raw):
            log.warning("%s ended in a torn line, which is removed: %r", self.path, raw[whole:][:80])
            file.truncate(whole)
        self._file, self.size = file, whole
        return file

    def _write(self, file: FileIO, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += file.write(data[written:])
        except OSError:
            if written:
                file.truncate(self.size)
            raise
        self.size += len(data)


class Ledger:
    """What an event log adds up to, one line at a time."""

    def __init__(self) -> None:
        self.stage, self.step, self.total = "", 0, 0
        self.losses: list[tuple[int, float]] = []
        self.samples: dict[Path, Sampled] = {}
        self.scores: dict[int, Scored] = {}
        self.best: Path | None = None
        self.seen: Path | None = None
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.result: Path | None = None
        self.ended: Literal["stopped", "finished"] | None = None  # how the log ends
        self.checkpoint_step: int | None = None
        self.attempt = 0
        self.clock = 0.0  # of this attempt
        self.earlier_seconds = 0.0  # of the attempts before
        self.recent: collections.deque[tuple[int, float]] = collections.deque(maxlen=50)  # (step, clock), this stage
        self.memory_gib: float | None = None  # of the last step that said so
        self.training_seconds: collections.deque[float] = collections.deque(maxlen=50)

    def fold(self, line: Line) -> None:
        """Take in the next line."""
        if line.attempt != self.attempt:
            self.earlier_seconds += self.clock
            self.attempt, self.clock = line.attempt, 0.0
            self.recent.clear()
        self.clock = max(self.clock, line.clock)
        event, self.ended = line.event, None
        if isinstance(event, Progress):
            if event.stage != self.stage or event.step <= self.step:
                self.recent.clear()
            self.recent.append((event.step, line.clock))
            if event.stage == "train" and event.seconds is not None:
                self.training_seconds.append(event.seconds)
            self.stage, self.step, self.total = event.stage, event.step, event.total
            self.memory_gib = event.memory_gib if event.memory_gib is not None else self.memory_gib
            if event.loss is not None:
                del self.losses[self._index(event.step - 1) :]
                self.losses.append((event.step, event.loss))
        elif isinstance(event, Sampled):
            self.samples[event.path] = event
        elif isinstance(event, Saved):
            if event.kind == "checkpoint":
                self.checkpoint_step = event.step
            elif event.kind == "best":
                self.best = event.path
            elif event.kind == "seen":
                self.seen = event.path
            else:
                self.result = event.path
        elif isinstance(event, Scored):
            self.scores[event.step] = event
        elif isinstance(event, Warned):
            self.warnings.append(event.message)
        elif isinstance(event, Noted):
            self.notes.append(event.message)
        elif isinstance(event, Stopped):
            self.ended = "stopped"
        elif isinstance(event, Finished):
            self.ended, self.result = "finished", event.path or self.result
            self.best = event.best or self.best

    @property
    def seconds(self) -> float:
        """Time worked, over all attempts."""
        return self.earlier_seconds + self.clock

    def losses_after(self, step: int) -> tuple[tuple[int, float], ...]:
        """Those of later steps than `step`."""
        return tuple(self.losses[self._index(step) :])

    def pace(self) -> tuple[float | None, float | None]:
        """(seconds of a typical training step, seconds a step of this stage with its pauses), over the last 50.

        Before any training, the first is the second.
        """
        overall = None
        if len(self.recent) >= 2:
            (first, since), (last, until) = self.recent[0], self.recent[-1]
            overall = (until - since) / (last - first)
        return (statistics.median(self.training_seconds) if self.training_seconds else overall), overall

    def _index(self, step: int) -> int:
        return bisect.bisect_right(self.losses, step, key=lambda pair: pair[0])
