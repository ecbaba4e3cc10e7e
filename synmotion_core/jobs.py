"""Long work that outlives the page: one device, one worker, a queue; a page only watches.

    queued -> running -> finished | failed | stopped        resume: stopped, failed, interrupted -> queued
       |         '-> stopping -> stopped
       '-> stopped                                  process dies: queued, running, stopping -> interrupted

Everything is kept in the jobs' folders (job_folder.py). `jobs/device.lock` makes the device one even for several
processes on one workspace. A training works in its job's folder; its adapter, and the one with the best score, are put
into adapters/ too and stay there when the job is deleted. A generation writes to videos/<id>/.
"""

from __future__ import annotations

import collections
import dataclasses
import errno
import logging
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from synmotion_core import pace
from synmotion_core.config import GenerateRun, TrainRun
from synmotion_core.errors import Cancelled, ConfigError, StorageError, TrainingDiverged, UserInputError
from synmotion_core.events import event_from_dict, event_to_dict
from synmotion_core.job_folder import LIVE, RESUMABLE, JobFolder, JobView, Kind, Status, find_folder, is_job
from synmotion_core.locks import FileLock
from synmotion_core.storage import link_or_copy
from synmotion_core.types import Event, Finished, Warned
from synmotion_core.workspace import Workspace, safe_name

log = logging.getLogger(__name__)

MIN_FREE_BYTES = 64 * 2**20  # a job that starts with less would only die later


class Runner(Protocol):
    """What turns a config into events. `folder` is the job's own, `cache` is shared; `resume` continues from a
    checkpoint, or from the start where there is none.
    """

    def __call__(
        self, config: Any, folder: Path, *, cache: Path, cancel: threading.Event, resume: bool
    ) -> Iterator[Event]: ...


def _train(config: Any, folder: Path, *, cache: Path, cancel: threading.Event, resume: bool) -> Iterator[Event]:
    from synmotion_core import run

    return run.train(config, folder, cache=cache, cancel=cancel, resume=resume)


def _generate(config: Any, folder: Path, *, cache: Path, cancel: threading.Event, resume: bool) -> Iterator[Event]:
    from synmotion_core import run

    return run.generate(config, folder, cancel=cancel)


RUNNERS: Mapping[Kind, Runner] = {"train": _train, "generate": _generate}


class Jobs:
    """The queue and the worker of one process on a workspace. Every method may be called from any thread.

    Jobs that a dead process left queued or running become "interrupted". `close` (or leaving a `with` block) stops the
    running job at its next step, saved. Methods raise MissingError for an id that is not a job, and UserInputError for
    what a job's status does not allow.
    """

    def __init__(self, workspace: Workspace, runners: Mapping[Kind, Runner] | None = None) -> None:
        self.workspace = workspace
        self._runners = {**RUNNERS, **(runners or {})}
        self._jobs: dict[str, JobFolder] = {}
        self._queue: collections.deque[JobFolder] = collections.deque()
        self._changed = threading.Condition(threading.RLock())
        self._worker: threading.Thread | None = None
        self._closing = False
        self._device = FileLock(workspace.jobs / "device.lock")
        self.list()  # settles what a dead process left behind

    # ------------------------------------------------------------------------------------------------ what a page calls

    def submit(self, config: TrainRun | GenerateRun) -> str:
        """Queue a run; returns the job's id. Raises StorageError for a full disk, ConfigError for a name no file can
        have."""
        kind: Kind = "train" if isinstance(config, TrainRun) else "generate"
        if isinstance(config, TrainRun):
            safe_name(config.name)
        with self._changed:
            self._refuse_when_closed()
            self.workspace.require_free(MIN_FREE_BYTES, "a job")
            job = JobFolder.create(self.workspace, kind, config)
            self._jobs[job.id] = job
            self._enqueue(job)
            return job.id

    def stop(self, job_id: str) -> Status:
        """Ask a job to stop; returns its status at once: "stopping" until the running step is over. Harmless when it is
        over."""
        with self._changed:
            job = self._find(job_id)
            if job.status in LIVE and not job.lock.held:
                raise UserInputError(f"job {job_id} belongs to {job.lock.holder()} on this computer: stop it there")
            if job.status == "queued":
                job.end("stopped", "stopped before it began")
            elif job.status == "running":
                job.cancel.set()
                job.set_status("stopping")
            self._changed.notify_all()
            return job.status

    def resume(self, job_id: str) -> None:
        """Queue a stopped, failed or interrupted training again; it goes on from its last checkpoint."""
        with self._changed:
            self._refuse_when_closed()
            job = self._find(job_id)
            if job.kind != "train":
                raise UserInputError("a generation has no state to go on from: start it again")
            if job.status not in RESUMABLE:
                which = ", ".join(sorted(RESUMABLE))
                raise UserInputError(f"job {job_id} is {job.status}: only {which} trainings can be resumed")
            self.workspace.require_free(MIN_FREE_BYTES, "a job")
            self._own(job)
            job.set_status("queued")
            self._enqueue(job)

    def delete(self, job_id: str) -> None:
        """Remove a job that is over, with its checkpoints, samples and videos; an adapter in adapters/ stays."""
        with self._changed:
            folder = find_folder(self.workspace, job_id)
            try:
                job = self._find(job_id)
            except ConfigError as error:
                log.warning("job %s is deleted though it cannot be read: %s", job_id, error)
            else:
                if job.status in LIVE:
                    raise UserInputError(f"job {job_id} is {job.status}: stop it before deleting it")
                self._own(job)
                job.lock.release()
            doomed = folder.with_name(f".deleted-{job_id}")
            try:
                folder.rename(doomed)  # at once: half a deletion is not half a job
                shutil.rmtree(doomed)
                if (self.workspace.videos / job_id).exists():
                    shutil.rmtree(self.workspace.videos / job_id)
            except OSError as error:
                raise StorageError(f"job {job_id} could not be deleted whole: {error}") from error
            finally:
                self._jobs.pop(job_id, None)

    def snapshot(self, job_id: str, after: int = 0) -> JobView:
        """The job now; its losses only of steps later than `after`."""
        with self._changed:
            return self._find(job_id).view(after)

    def list(self) -> tuple[JobView, ...]:
        """All jobs, the newest first. A folder that cannot be read as a job is left out, and the log says why."""
        views = []
        with self._changed:
            for folder in self.workspace.jobs.iterdir():
                if is_job(folder):
                    try:
                        views.append(self._find(folder.name).view())
                    except UserInputError as error:
                        log.warning("%s cannot be read: %s", folder, error)
        return tuple(sorted(views, key=lambda view: (view.created, view.id), reverse=True))

    def wait(self, job_id: str, timeout_s: float | None = None) -> JobView:
        """Block until the job is over, or until the time is; returns the view then."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while self._find(job_id).status in LIVE:
                left = 1.0 if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, 1.0))  # another process's job changes without a notice
            return self.snapshot(job_id)

    def close(self, timeout_s: float = 60.0) -> None:
        """Stop the running job at its next step and give every job back as "interrupted". Waits at most `timeout_s`."""
        with self._changed:
            self._closing = True
            for job in self._jobs.values():
                if job.lock.held and job.status == "queued":
                    job.end("interrupted", "the studio was closed while this waited in the queue")
                elif job.lock.held:
                    job.cancel.set()
                    job.set_status("stopping")
            self._changed.notify_all()
        if self._worker is not None:
            self._worker.join(timeout_s)
            if self._worker.is_alive():
                log.warning("a job did not stop within %g s; it ends with the process", timeout_s)

    def __enter__(self) -> Jobs:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------ who owns a job

    def _find(self, job_id: str) -> JobFolder:
        find_folder(self.workspace, job_id)
        job = self._jobs.get(job_id) or JobFolder.open(self.workspace, job_id)
        self._jobs[job_id] = job
        if not job.lock.held:
            job.read()
            if job.status in LIVE and _try(job.lock):  # nobody works on it any more
                try:
                    job.read()
                    if job.status in LIVE:
                        ended = job.ledger.ended
                        why = f"the program ended while this job was {job.status}"
                        job.end(ended or "interrupted", "" if ended else why)
                finally:
                    job.lock.release()
        return job

    def _own(self, job: JobFolder) -> None:
        until = time.monotonic() + 1.0  # whoever looks whether a job is free holds its lock for a moment
        while not _try(job.lock):
            if time.monotonic() > until:
                raise UserInputError(f"job {job.id} has just been taken up by {job.lock.holder()} on this computer")
            time.sleep(0.02)
        job.read()

    # ------------------------------------------------------------------------------------------------ the worker's side

    def _refuse_when_closed(self) -> None:
        if self._closing:
            raise UserInputError("the studio is closing: start it again first")

    def _enqueue(self, job: JobFolder) -> None:
        job.cancel = threading.Event()
        self._queue.append(job)
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="synmotion-device", daemon=True)
            self._worker.start()
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
                job = self._queue.popleft()
            try:
                self._run(job)
            except Exception as error:  # the worker must live on for the jobs behind
                log.exception("job %s: the worker's own bookkeeping failed", job.id)
                with self._changed:
                    job.end("failed", _plain_line(error))

    def _run(self, job: JobFolder) -> None:
        while not _try(self._device):
            with self._changed:
                if job.status != "queued":
                    return
                job.message = f"waits for {self._device.holder()}, which uses the device"
                self._changed.wait(0.2)
        try:
            with self._changed:
                if job.status != "queued":  # stopped meanwhile
                    return
                again = job.begin()
                self._changed.notify_all()
            stopwatch = pace.Stopwatch(job.config)
            status, message = self._execute(job, again, stopwatch)
            stopwatch.note(self.workspace)
            with self._changed:
                if self._closing and status == "stopped":
                    status, message = "interrupted", "the studio was closed; what was done is saved"
                job.end(status, message)
                self._changed.notify_all()
        finally:
            self._device.release()

    def _execute(self, job: JobFolder, again: bool, stopwatch: pace.Stopwatch) -> tuple[Status, str]:
        logger, handler = logging.getLogger("synmotion_core"), _JobLog(job.folder / "log.txt")
        logger.addHandler(handler)
        try:
            job.output.mkdir(parents=True, exist_ok=True)
            runner = self._runners[job.kind]
            for event in runner(job.config, job.output, cache=self.workspace.cache, cancel=job.cancel, resume=again):
                stopwatch.see(event)
                self._record(job, event)
            if job.ledger.ended:
                return job.ledger.ended, ""
            if job.cancel.is_set():
                return "stopped", ""
            raise RuntimeError("the run ended with neither a result nor a reason")
        except Cancelled:
            return "stopped", ""
        except (UserInputError, TrainingDiverged) as error:
            log.warning("job %s: %s", job.id, error)
            return "failed", str(error)
        except BaseException as error:  # whatever it is, the worker lives on and the person is told
            log.exception("job %s failed", job.id)
            return "failed", _plain_line(error)
        finally:
            logger.removeHandler(handler)
            handler.close()

    def _record(self, job: JobFolder, event: Event) -> None:
        if isinstance(event, Finished) and job.kind == "train" and event.path is not None:
            path, best = self._publish(job, event.path, event.best)
            event = dataclasses.replace(event, path=path, best=best)
        with self._changed:
            job.record(event)
            self._changed.notify_all()

    def _publish(self, job: JobFolder, path: Path, best: Path | None) -> tuple[Path, Path | None]:
        """Put what a training leaves into adapters/ under names that are free, the best under the last one's with
        "-best"; where that fails it stays where it is."""
        home, stem, count = self.workspace.adapters, path.stem, 1
        while any((home / f"{stem}{mark}{path.suffix}").exists() for mark in ("", "-best")[: 1 if best is None else 2]):
            count += 1
            stem = f"{path.stem}-{count}"
        published = self._put(job, path, home / f"{stem}{path.suffix}")
        return published, None if best is None else self._put(job, best, home / f"{stem}-best{best.suffix}")

    def _put(self, job: JobFolder, path: Path, target: Path) -> Path:
        try:
            link_or_copy(path, target)
        except (OSError, StorageError) as error:
            self._record(job, Warned(message=f"the adapter could not be put into adapters/ ({error}); it is at {path}"))
            return path
        return target


class _JobLog(logging.Handler):
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


def _plain_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full: make room, then resume; what was saved before is intact"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "the memory was not enough for this run: take fewer frames, a smaller batch or a smaller backbone"
    return f"something went wrong that should not have ({type(error).__name__}): the job's log.txt says where"


def _try(lock: FileLock) -> bool:
    try:
        return lock.acquire()
    except OSError as error:
        raise StorageError(f"{lock.path} cannot be written: {error.strerror or error}") from error


__all__ = ["LIVE", "RESUMABLE", "JobView", "Jobs", "Kind", "Runner", "Status", "event_from_dict", "event_to_dict"]
