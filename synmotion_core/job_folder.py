"""One job on the disk: what its folder holds, how it is read back, and what a page sees of it.

    jobs/<id>/job.json       kind, config, created; written last, so that a folder without it is not a job
    jobs/<id>/status.json    status, message; replaced whole
    jobs/<id>/events.jsonl   what happened (events.py), only appended to
    jobs/<id>/log.txt        log records of the run, tracebacks included
    jobs/<id>/owner.lock     locked by the process that queued or runs the job

The holder of the lock knows best, and keeps what it knows in memory even while a full disk takes none of it; for
everybody else the files do.
"""

from __future__ import annotations

import contextvars
import json
import logging
import re
import secrets
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from synmotion_core.config import GenerateRun, TrainRun, from_dict, to_dict
from synmotion_core.errors import ConfigError, MissingError, StorageError
from synmotion_core.events import EventLog, Ledger, Line, read_lines
from synmotion_core.locks import FileLock
from synmotion_core.storage import replacing
from synmotion_core.types import Event, Sampled, Scored
from synmotion_core.workspace import Workspace

log = logging.getLogger(__name__)

Kind = Literal["train", "generate"]
Status = Literal["queued", "running", "stopping", "stopped", "failed", "interrupted", "finished"]
LIVE: frozenset[Status] = frozenset({"queued", "running", "stopping"})
RESUMABLE: frozenset[Status] = frozenset({"stopped", "failed", "interrupted"})
_VERSION = 1
_ID = re.compile(r"\d{8}-\d{6}-[0-9a-f]{6}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job at one moment.

    stage, step, total: the last unit of work done ("" and 0 before the first). losses: (training step, loss),
    ascending; a step that was done again after a rollback or a resume counts once, as done last. samples: every video
    so far. scores: of a training that is scored, in the order of their steps; best: the adapter of the best of them.
    seen: the first reference clip as its encoding shows it.
    result: the adapter of a training, the folder of a generation. message: why it failed, was interrupted or
    waits; to be shown as it is. checkpoint_step: where a resume goes on. seconds: time worked, over all attempts.
    seconds_per_step: a typical training step, pauses left out. eta_s: until the end of this stage at the pace of the
    last steps, pauses included; None while unknown or not running. memory_gib: as a training's last step said.
    """

    id: str
    kind: Kind
    status: Status
    config: TrainRun | GenerateRun
    created: float
    stage: str
    step: int
    total: int
    losses: tuple[tuple[int, float], ...]
    samples: tuple[Sampled, ...]
    scores: tuple[Scored, ...]
    result: Path | None
    best: Path | None
    seen: Path | None
    message: str
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    checkpoint_step: int | None
    seconds: float
    seconds_per_step: float | None
    eta_s: float | None
    memory_gib: float | None


def is_job(folder: Path) -> bool:
    """Whether a folder is a job's, by its name and its job.json."""
    return bool(_ID.fullmatch(folder.name)) and (folder / "job.json").exists()


def find_folder(workspace: Workspace, job_id: str) -> Path:
    """The folder of a job. Raises MissingError for anything that is not a job's id: ids come back from web pages."""
    if not _ID.fullmatch(job_id) or not is_job(workspace.jobs / job_id):
        raise MissingError(f"there is no job {job_id[:80]!r} in {workspace.jobs}")
    return workspace.jobs / job_id


def says_live(folder: Path) -> bool:
    """Whether a job's status, as it is written, says that it waits or runs. Raises ConfigError where it cannot be
    read."""
    return _read_json(folder / "status.json").get("status") in LIVE


def doomed(workspace: Workspace, job_id: str) -> Path:
    """What a job's folder is called from its deletion on, until everything of it is gone."""
    return workspace.jobs / f".deleted-{job_id}"


def deleted(workspace: Workspace) -> list[str]:
    """Jobs whose deletion is not over; the end of a process may have broken it off."""
    names = [path.name.removeprefix(".deleted-") for path in workspace.jobs.glob(".deleted-*")]
    return [name for name in names if _ID.fullmatch(name)]


def remove(workspace: Workspace, job_id: str) -> None:
    """Everything of a deleted job, its folder last. Another process may do the same. Raises OSError."""
    for folder in (workspace.videos / job_id, workspace.exports(job_id), doomed(workspace, job_id)):
        while folder.exists():
            try:
                shutil.rmtree(folder)
            except FileNotFoundError:  # the other was quicker with a part of it
                continue


class JobFolder:
    """A job as this process knows it. Not thread-safe: the caller locks."""

    def __init__(
        self, workspace: Workspace, job_id: str, kind: Kind, config: TrainRun | GenerateRun, created: float
    ) -> None:
        self.workspace, self.id, self.config, self.created = workspace, job_id, config, created
        self.kind: Kind = kind
        self.folder = workspace.jobs / job_id
        self.status: Status = "queued"
        self.message = ""
        self.ledger = Ledger()
        self.log = EventLog(self.folder / "events.jsonl", workspace.root)
        self.lock = FileLock(self.folder / "owner.lock")
        self.cancel = threading.Event()
        self.context = contextvars.Context()  # of whoever queued it here: a lent GPU is lent to them (slices.py)
        self._offset = 0  # up to where the ledger has read the log
        self._status_stamp: tuple[int, int] | None = None  # of the file that status and message agree with
        self._attempt = 0
        self._began: float | None = None  # while it runs here
        self._disk_is_full = False

    @staticmethod
    def create(workspace: Workspace, kind: Kind, config: TrainRun | GenerateRun) -> JobFolder:
        """A new folder, queued and locked by us. Raises StorageError; nothing is left behind then."""
        created = time.time()
        job_id = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(created))}-{secrets.token_hex(3)}"
        job = JobFolder(workspace, job_id, kind, config, created)
        try:
            job.folder.mkdir()
            job.lock.acquire()
            job._write_status()
            about = {"version": _VERSION, "kind": kind, "created": created, "config": to_dict(config)}
            _write_json(job.folder / "job.json", about)
        except (OSError, StorageError) as error:
            job.lock.release()
            shutil.rmtree(job.folder, ignore_errors=True)
            raise StorageError(f"the job could not be written: {error}") from error
        return job

    @staticmethod
    def open(workspace: Workspace, job_id: str) -> JobFolder:
        """An existing job. Raises MissingError, or ConfigError for one that this version cannot read."""
        about = _read_json(find_folder(workspace, job_id) / "job.json")
        kind = about.get("kind")
        created, config = about.get("created"), about.get("config")
        if about.get("version") != _VERSION or kind not in get_args(Kind) or not isinstance(created, (int, float)):
            raise ConfigError(f"job {job_id} was not written by this version of synmotion_core")
        cls = TrainRun if kind == "train" else GenerateRun
        return JobFolder(workspace, job_id, cast(Kind, kind), from_dict(cls, config or {}), float(created))

    @property
    def output(self) -> Path:
        """Where the run writes."""
        return self.folder if self.kind == "train" else self.workspace.videos / self.id

    def read(self) -> None:
        """Catch up with the files. Raises ConfigError for a status that this version cannot read."""
        stamp = self._stamp()
        if stamp != self._status_stamp:
            values = _read_json(self._status_path)
            if values.get("version") != _VERSION or values.get("status") not in get_args(Status):
                raise ConfigError(f"the status of job {self.id} was not written by this version of synmotion_core")
            self.status, self.message, self._status_stamp = values["status"], str(values.get("message", "")), stamp
        lines, self._offset, unreadable = read_lines(self.log.path, self._offset, self.workspace.root)
        for line in lines:
            self.ledger.fold(line)
        if unreadable:
            self.ledger.warnings.append(f"{unreadable} lines of the job's log are damaged, what they said is missing")

    def set_status(self, status: Status, message: str = "") -> None:
        """In memory always, on the disk where it takes it."""
        self.status, self.message = status, message
        try:
            self._write_status()
        except (OSError, StorageError) as error:
            log.warning("job %s: its status %r could not be written: %s", self.id, status, error)
        self._status_stamp = self._stamp()  # whatever stands there now, what we know is newer

    def begin(self) -> bool:
        """A new attempt starts now; returns whether there was one before."""
        again = self.ledger.attempt > 0
        self._attempt, self._began = self.ledger.attempt + 1, time.monotonic()
        self.set_status("running")
        return again

    def record(self, event: Event) -> None:
        """Take in an event of the running attempt. A full disk is a warning; the line is written when there is room."""
        clock = 0.0 if self._began is None else time.monotonic() - self._began
        line = Line(event=event, time=time.time(), attempt=self._attempt, clock=clock)
        self.ledger.fold(line)
        error = self.log.append(line)
        self._offset = self.log.size
        if error is not None and not self._disk_is_full:
            log.warning("job %s: its events cannot be written: %s", self.id, error)
            why = f"the job's log cannot be written ({error.strerror}): make room on the disk; the job goes on"
            self.ledger.warnings.append(why)
        self._disk_is_full = error is not None

    def pause(self) -> None:
        """It waits again, as one that goes on from its checkpoint, and stays this process's."""
        self._began, self.cancel = None, threading.Event()
        self.set_status("queued")

    def end(self, status: Status, message: str = "") -> None:
        """Nobody works on it any more: close the log, write the status, give the lock back."""
        error = self.log.close()
        if error is not None:
            lost = len(self.log.pending) + self.log.num_lost
            log.warning("job %s: %d events could not be written to its log: %s", self.id, lost, error)
        self._began = None
        self.set_status(status, message)
        self.lock.release()

    def view(self, after: int = 0) -> JobView:
        """What is known now; losses only of steps later than `after`."""
        ledger = self.ledger
        typical, pace = ledger.pace()
        seconds = ledger.seconds
        if self._began is not None:
            earlier = ledger.earlier_seconds if ledger.attempt == self._attempt else ledger.seconds
            seconds = earlier + time.monotonic() - self._began
        return JobView(
            id=self.id,
            kind=self.kind,
            status=self.status,
            config=self.config,
            created=self.created,
            stage=ledger.stage,
            step=ledger.step,
            total=ledger.total,
            losses=ledger.losses_after(after),
            samples=tuple(ledger.samples.values()),
            scores=tuple(ledger.scores[step] for step in sorted(ledger.scores)),
            result=ledger.result,
            best=ledger.best,
            seen=ledger.seen,
            message=self.message,
            warnings=tuple(ledger.warnings),
            notes=tuple(ledger.notes),
            checkpoint_step=ledger.checkpoint_step,
            seconds=seconds,
            seconds_per_step=typical,
            eta_s=pace * max(0, ledger.total - ledger.step) if self.status == "running" and pace is not None else None,
            memory_gib=ledger.memory_gib,
        )

    @property
    def _status_path(self) -> Path:
        return self.folder / "status.json"

    def _write_status(self) -> None:
        _write_json(self._status_path, {"version": _VERSION, "status": self.status, "message": self.message})

    def _stamp(self) -> tuple[int, int] | None:
        try:
            found = self._status_path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino


class JobLog(logging.Handler):
    """Log records of the thread that made it, as lines of a file; a full disk loses lines of it, never the job."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.thread = path, threading.get_ident()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:
            try:
                with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                    file.write(self.format(record) + "\n")
            except OSError:
                pass  # the same record goes to the program's own log


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="ascii")


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} does not hold a mapping")
    return values
