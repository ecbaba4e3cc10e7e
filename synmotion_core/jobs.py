"""Long work that outlives the page: one device, one worker, a queue; a page only watches.

    queued -> running -> finished | failed | stopped        resume: stopped, failed, interrupted -> queued
       |         '-> stopping -> stopped
       '-> stopped                                  process dies: queued, running, stopping -> interrupted
    running -> queued     a training that gives way: others wait for the device, and it had its turn of it

Everything is kept in the jobs' folders (job_folder.py). `jobs/device.lock` makes the device one even for several
processes on one workspace. A training works in its job's folder; its adapter, and the one with the best score, are put
into adapters/ too and stay there when the job is deleted. A generation writes to videos/<id>/.
"""

from __future__ import annotations

import collections
import contextvars
import dataclasses
import errno
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from synmotion_core import job_folder, pace
from synmotion_core.adapters.shelf import publish
from synmotion_core.config import GenerateRun, TrainRun
from synmotion_core.errors import Cancelled, ConfigError, StorageError, TrainingDiverged, UserInputError
from synmotion_core.events import event_from_dict, event_to_dict
from synmotion_core.job_folder import LIVE, RESUMABLE, JobFolder, JobLog, JobView, Kind, Status, find_folder, is_job
from synmotion_core.locks import FileLock, Turns
from synmotion_core.training import wishes
from synmotion_core.training.wishes import Wish
from synmotion_core.types import Event, Finished, Progress, Warned
from synmotion_core.workspace import Workspace, safe_name

log = logging.getLogger(__name__)

TURN_S = 600.0  # of work, after which a training lets those who wait have the device; a shorter one is spent on loading
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

    return run.generate(config, folder, cancel=cancel, own_folder=True)


RUNNERS: Mapping[Kind, Runner] = {"train": _train, "generate": _generate}


class Jobs:
    """The queue and the worker of one process on a workspace. Every method may be called from any thread.

    turns: of the device, where several workspaces of one process share it; most_live: how many jobs may wait or run at
    once.

    Jobs that a dead process left queued or running become "interrupted". `close` (or leaving a `with` block) stops the
    running job at its next step, saved. Methods raise MissingError for an id that is not a job, and UserInputError for
    what a job's status does not allow.
    """

    def __init__(
        self,
        workspace: Workspace,
        runners: Mapping[Kind, Runner] | None = None,
        *,
        turns: Turns | None = None,
        most_live: int | None = None,
    ) -> None:
        self.workspace = workspace
        self._runners = {**RUNNERS, **(runners or {})}
        self._jobs: dict[str, JobFolder] = {}
        self._queue: collections.deque[JobFolder] = collections.deque()
        self._changed = threading.Condition(threading.RLock())
        self._worker: threading.Thread | None = None
        self._closing = False
        self._turns = turns or Turns(workspace.jobs / "device.lock")
        self._most_live = most_live
        self._settle()

    # ------------------------------------------------------------------------------------------------ what a page calls

    def submit(self, config: TrainRun | GenerateRun) -> str:
        """Queue a run; returns the job's id. Raises StorageError for a full disk, ConfigError for a name no file can
        have."""
        kind: Kind = "train" if isinstance(config, TrainRun) else "generate"
        if isinstance(config, TrainRun):
            safe_name(config.name)
        with self._changed:
            self._refuse_when_closed()
            self._refuse_when_many()
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
                self._queue.remove(job)
                job.end("stopped", "" if job.ledger.attempt else "stopped before it began")
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
            self._refuse_when_many()
            self.workspace.require_free(MIN_FREE_BYTES, "a job")
            self._own(job)
            job.set_status("queued")
            self._enqueue(job)

    def waiting(self) -> tuple[str, ...]:
        """The jobs that wait in this queue, the next one first."""
        with self._changed:
            return tuple(job.id for job in self._queue)

    def move(self, job_id: str, place: int) -> None:
        """Give a waiting job another place in the queue: 0 is the next one. Raises ConfigError where there is no such
        place."""
        with self._changed:
            job = self._find(job_id)
            if job not in self._queue:
                here = job.lock.held or job.status not in LIVE
                whose = "" if here else f", of {job.lock.holder()} on this computer"
                raise UserInputError(f"job {job_id} is {job.status}{whose}: only one that waits here can be moved")
            if not 0 <= place < len(self._queue):
                last = len(self._queue) - 1
                raise ConfigError(f"{len(self._queue)} jobs wait: a place is between 0 (next) and {last}, got {place}")
            self._queue.remove(job)
            self._queue.insert(place, job)
            for other in self._queue:
                other.message = ""  # what it waits for is said anew
            self._changed.notify_all()

    def ask(self, job_id: str, wish: Wish) -> None:
        """Have a running training save or draw its samples after the step at work, which changes no step of it."""
        with self._changed:
            job = self._find(job_id)
            if not isinstance(job.config, TrainRun) or job.status != "running":
                raise UserInputError(f"job {job_id} is a {job.status} {job.kind} job: only a running training {wish}s")
            if wish == "sample" and not job.config.train.sample_subjects:
                raise ConfigError("this training has nobody to draw: give sample_subjects before the start")
            wishes.ask(job.folder, wish)

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
            try:
                folder.rename(job_folder.doomed(self.workspace, job_id))  # at once: half a deletion is not half a job
            except OSError as error:
                raise StorageError(f"job {job_id} could not be deleted: {error}") from error
            finally:
                self._jobs.pop(job_id, None)
        try:  # gigabytes, perhaps: others need not wait
            job_folder.remove(self.workspace, job_id)
        except OSError as error:
            raise StorageError(f"job {job_id} could not be deleted whole: {error}") from error

    def snapshot(self, job_id: str, after: int = 0) -> JobView:
        """The job now; its losses only of steps later than `after`."""
        with self._changed:
            return self._find(job_id).view(after)

    def list(self, newest: int | None = None) -> tuple[JobView, ...]:
        """All jobs, the newest first. A folder that cannot be read as a job is left out, and the log says why.

        newest: only so many, and those that wait or run besides.
        """
        views = []
        with self._changed:
            names = self._names()
            live = {job.id for job in self._jobs.values() if job.status in LIVE}
            for name in names if newest is None else [*names[:newest], *(n for n in names[newest:] if n in live)]:
                try:
                    views.append(self._find(name).view())
                except UserInputError as error:
                    log.warning("%s cannot be read: %s", self.workspace.jobs / name, error)
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

    def _names(self) -> list[str]:
        return sorted((folder.name for folder in self.workspace.jobs.iterdir() if is_job(folder)), reverse=True)

    def _settle(self) -> None:
        """What a dead process left queued or running is interrupted, what it was deleting goes. The logs of jobs that
        are over are read when somebody looks at them."""
        with self._changed:
            for name in job_folder.deleted(self.workspace):
                try:
                    job_folder.remove(self.workspace, name)
                except OSError as error:
                    log.warning("what is left of the deleted job %s could not be removed: %s", name, error)
            for name in self._names():
                try:
                    if job_folder.says_live(self.workspace.jobs / name):
                        self._find(name)
                except UserInputError as error:
                    log.warning("%s cannot be read: %s", self.workspace.jobs / name, error)

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
                        # of one that waited for its next turn, or to go on, that is how the turn before ended
                        ended = None if job.status == "queued" else job.ledger.ended
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

    def _refuse_when_many(self) -> None:
        live = sum(job.status in LIVE for job in self._jobs.values())
        if self._most_live is not None and live >= self._most_live:
            raise ConfigError(
                f"{live} of your jobs wait or run, at most {self._most_live} may, since others use the device too: "
                "wait for one, or stop it"
            )

    def _enqueue(self, job: JobFolder) -> None:
        job.cancel, job.context = threading.Event(), contextvars.copy_context()
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
            place = self._turns.line_up()
            try:
                begun = self._begin_next(place)
                if begun is not None:
                    self._run(*begun)
            finally:
                self._turns.leave(place)

    def _begin_next(self, place: object) -> tuple[JobFolder, bool] | None:
        """Whichever job is first once the device is free, begun, and whether it was before; None where none is left."""
        while True:
            with self._changed:
                if not self._queue or self._closing:
                    return None
                job = self._queue[0]
                try:
                    if self._take(place):
                        self._queue.popleft()
                        again = job.begin()
                        self._changed.notify_all()
                        return job, again
                    job.message = self._waits(job, place)
                except Exception as error:  # the worker must live on for the jobs behind
                    self._give_up(job, error)
                    return None
                self._changed.wait(0.2)

    def _waits(self, job: JobFolder, place: object) -> str:
        saved = job.ledger.checkpoint_step
        return self._turns.why(place) + ("" if saved is None else f"; goes on from step {saved}, saved")

    def _run(self, job: JobFolder, again: bool) -> None:
        try:
            stopwatch = pace.Stopwatch(job.config)
            status, message = job.context.run(self._execute, job, again, stopwatch)
            stopwatch.note(self.workspace)
            with self._changed:
                if self._closing and status == "stopped":
                    status, message = "interrupted", "the studio was closed; what was done is saved"
                if status == "stopped" and job.cancel.is_set() and job.status == "running":  # by nobody: it gave way
                    job.pause()
                    self._queue.appendleft(job)
                else:
                    job.end(status, message)
                self._changed.notify_all()
        except Exception as error:  # the same
            self._give_up(job, error)

    def _give_up(self, job: JobFolder, error: Exception) -> None:
        log.error("job %s: the worker's own bookkeeping failed", job.id, exc_info=error)
        with self._changed:
            if job in self._queue:
                self._queue.remove(job)
            job.end("failed", _plain_line(error))
            self._changed.notify_all()

    def _take(self, place: object) -> bool:
        try:
            return self._turns.take(place)
        except OSError as error:
            raise _lock_refusal(self.workspace.jobs, error) from error

    def _execute(self, job: JobFolder, again: bool, stopwatch: pace.Stopwatch) -> tuple[Status, str]:
        logger, handler = logging.getLogger("synmotion_core"), JobLog(job.folder / "log.txt")
        logger.addHandler(handler)
        try:
            job.output.mkdir(parents=True, exist_ok=True)
            runner, until = self._runners[job.kind], None
            for event in runner(job.config, job.output, cache=self.workspace.cache, cancel=job.cancel, resume=again):
                stopwatch.see(event)
                self._record(job, event)
                if isinstance(event, Progress) and event.stage != "fetch" and job.kind == "train":
                    # from the first work on, not from fetching and loading: each turn gets somewhere, and that is kept
                    until = time.monotonic() + TURN_S if until is None else until
                    # a score that is broken off is lost, and would be drawn anew at each turn
                    if event.stage != "score" and time.monotonic() > until and self._turns.wanted():
                        job.cancel.set()
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
            return "failed", _plain_line(error, job.config)
        finally:
            logger.removeHandler(handler)
            handler.close()

    def _record(self, job: JobFolder, event: Event) -> None:
        if isinstance(event, Finished) and job.kind == "train" and event.path is not None:
            path, best = publish(
                self.workspace.adapters, event.path, event.best, lambda said: self._record(job, Warned(message=said))
            )
            event = dataclasses.replace(event, path=path, best=best)
        with self._changed:
            job.record(event)
            self._changed.notify_all()


def _plain_line(error: BaseException, config: TrainRun | GenerateRun | None = None) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full: make room, then resume; what was saved before is intact"
    if isinstance(error, MemoryError):
        return "the main memory was not enough for this run: end other programs, or take a smaller backbone"
    from synmotion_core.planning import room  # a page that only looks on has no use for it

    if room.ran_out(error):
        return room.too_little(config)
    return f"something went wrong that should not have ({type(error).__name__}): the job's log.txt says where"


def _try(lock: FileLock) -> bool:
    try:
        return lock.acquire()
    except OSError as error:
        raise _lock_refusal(lock.path, error) from error


def _lock_refusal(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path} cannot be written: {error.strerror or error}")


__all__ = ["LIVE", "RESUMABLE", "JobView", "Jobs", "Kind", "Runner", "Status", "event_from_dict", "event_to_dict"]
