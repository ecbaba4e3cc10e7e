"""A training on Hugging Face's machines, by its Jobs API: handed off, followed, stopped, fetched, taken away.

    order.pack -> send: a private dataset owner/synmotion-job-<id>, one commit -> start: a Job that runs bootstrap.py
    -> follow: its log as events -> pull: the adapter, held against the backbone's layers -> delete: the dataset

The token travels as a secret of the Job and nowhere else. What a Job says and leaves is untrusted: text is made
printable, and of its files one adapter (and its best) is taken, of the backbone and method that were asked for, and
the videos that it drew last (samples.py).
"""

from __future__ import annotations

import os
import queue
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from synmotion_core.adapters.file import read_info
from synmotion_core.adapters.hub import MAX_ADAPTER, applied_keys
from synmotion_core.adapters.origin import Origin, about_folder, write_origin
from synmotion_core.errors import AdapterError, Cancelled, ConfigError, HubError, unknown
from synmotion_core.hosting import bootstrap
from synmotion_core.hosting.ledger import Handoff, Ledger
from synmotion_core.hosting.log_lines import event_of
from synmotion_core.hosting.order import Order
from synmotion_core.hosting.samples import Samples, fetch_samples
from synmotion_core.hub_errors import LOG_IN, check_repo_id, told
from synmotion_core.locks import FileLock
from synmotion_core.progress_line import printable
from synmotion_core.storage import claim, file_sha256
from synmotion_core.types import Event, Noted
from synmotion_core.wire import Watch, commit_of, fetch, send
from synmotion_core.workspace import Workspace, safe_name

IMAGE = "python:3.11-bookworm"
CLIENT = "2.4.0"  # of huggingface_hub, on the Job's Python; requirements.txt has the same (tested)
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
LABEL = "synmotion"
DEFAULT_TIMEOUT = "6h"  # the Hub's own is half an hour
_TIMEOUT = re.compile(r"[1-9]\d{0,5}[smhd]")
_JOB_ID = re.compile(r"[\w-]{1,64}", re.ASCII)
_WAITING, _ENDED = ("SCHEDULING",), ("COMPLETED", "CANCELED", "ERROR", "DELETED")


class JobFailed(HubError):
    """A Job has ended, and not as it was to: no look at it will find anything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Where a Job is: the Hub's word for it, and what it says besides. Untrusted, but printable."""

    name: str
    message: str = ""

    @property
    def ended(self) -> bool:
        """Whether it will not run any further."""
        return self.name in _ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """The adapter of a training elsewhere, and the best one where it was scored; all their keys apply. samples: of its
    last videos those that came with it."""

    path: Path
    applied: int
    best: Path | None
    revision: str
    samples: Samples


def check_flavor(flavor: str) -> None:
    """Raises ConfigError for a machine that the client knows none of."""
    from huggingface_hub import JobHardware

    known = [one.value for one in JobHardware]
    if flavor not in known:
        raise unknown("flavor", flavor, known)


def check_timeout(timeout: str) -> None:
    """Raises ConfigError unless it is a number with a unit."""
    if not _TIMEOUT.fullmatch(timeout):
        raise ConfigError(f"a timeout is a number with s, m, h or d, got {timeout!r}: for example {DEFAULT_TIMEOUT}")


class Machines:
    """One person's Jobs. token as for adapters.hub.Hub; poll_s: seconds between two looks at a Job that waits."""

    def __init__(
        self, workspace: Workspace, *, token: str | None = None, endpoint: str | None = None, poll_s: float = 5.0
    ) -> None:
        from huggingface_hub import HfApi

        self._api = HfApi(endpoint=endpoint or os.environ.get("HF_ENDPOINT") or None, token=token)
        self._workspace, self._poll_s = workspace, poll_s
        self.ledger = Ledger(workspace)

    def plan(self, order: Order, *, flavor: str, timeout: str = DEFAULT_TIMEOUT, owner: str | None = None) -> Handoff:
        """What sending will make; changes nothing. The same order that broke before it was there goes on as it was.

        Raises ConfigError, HubError.
        """
        check_flavor(flavor)
        check_timeout(timeout)
        if owner is not None:
            check_repo_id(f"{owner}/synmotion")
        with told("your token"):
            self._token()
            owner = owner or str(self._api.whoami()["name"])
        for one in self.ledger.all():
            if one.key == order.key and one.owner == owner and not one.commit:
                return replace(one, flavor=flavor, timeout=timeout)
        id = secrets.token_hex(4)
        repo_id = f"{owner}/synmotion-job-{id}"
        check_repo_id(repo_id)
        config, now = order.config, datetime.now(timezone.utc).isoformat(timespec="seconds")
        return Handoff(
            id=id, name=config.name, backbone=config.backbone, method=config.method, repo_id=repo_id, key=order.key,
            flavor=flavor, timeout=timeout, created=now,
        )  # fmt: skip

    def send(
        self, order: Order, own: Handoff, *, watch: Watch = lambda *_: None, cancel: threading.Event | None = None
    ) -> Handoff:
        """Put the order into its private dataset, as one commit. Raises HubError, Cancelled; what arrived is not sent
        again by the next try."""
        from huggingface_hub.errors import RepositoryNotFoundError

        known = next((one for one in self.ledger.all() if one.id == own.id), own)
        if known.commit:
            raise ConfigError(f"{own.id} has been sent already: begin it with `remote start {own.id}`")
        own = self.ledger.put(own)
        with told(own.repo_id):
            try:
                found = self._api.dataset_info(own.repo_id)
            except RepositoryNotFoundError:
                self._api.create_repo(own.repo_id, repo_type="dataset", private=True)
                found = self._api.dataset_info(own.repo_id)
        if not found.private:
            raise HubError(f"{own.repo_id} is public: nothing was sent there; delete it on its page, and try again")
        head = commit_of(found.sha, own.repo_id)
        commit = send(
            self._api, own.repo_id, order.files, message="A training", parent=head, repo_type="dataset", at_once=100,
            watch=watch, cancel=cancel,
        )  # fmt: skip
        return self.ledger.change(own, commit=commit)

    def start(self, own: Handoff, *, cancel: threading.Event | None = None) -> Handoff:
        """Begin the Job, once: one that began although its answer was lost is found by its label. Raises Cancelled
        where that is asked for before a Job has begun."""
        with self.ledger.starting():
            return self._start(self.ledger.find(own.id), cancel or threading.Event())

    def _start(self, own: Handoff, cancel: threading.Event) -> Handoff:
        if not own.commit:
            raise ConfigError(f"{own.id} was not sent whole: say the same `remote train` again, it goes on there")
        if own.job_id:
            raise ConfigError(f"{own.id} has begun already: follow it with `remote follow {own.id}`")
        from huggingface_hub import HfApi

        api, token = self._api, self._token()
        with told(f"a Job on {own.flavor}"):
            job = self._labelled(own)
            if job is None:
                if cancel.is_set():
                    raise Cancelled(_not_begun(own))
                text = Path(bootstrap.__file__).read_text(encoding="utf-8")
                env = {"HF_HUB_DISABLE_TELEMETRY": "1"}
                if own.flavor.startswith("cpu-"):
                    env["PIP_EXTRA_INDEX_URL"] = CPU_WHEELS
                assert isinstance(api, HfApi)
                job = api.run_job(
                    image=IMAGE,
                    command=["python", "-u", "-c", text, own.repo_id, own.commit, CLIENT, own.name],
                    env=env,
                    secrets={"HF_TOKEN": token},
                    flavor=own.flavor,
                    timeout=own.timeout,
                    labels={LABEL: own.id},
                    namespace=own.owner,
                )
        return self.ledger.change(own, job_id=_job_id(job))

    def _labelled(self, own: Handoff) -> Any:
        """Its Job by the label that it was begun with, None where there is none."""
        found = self._api.list_jobs(labels={LABEL: own.id}, namespace=own.owner)
        return next((job for job in found if (job.labels or {}).get(LABEL) == own.id), None)

    def stage(self, own: Handoff) -> Stage:
        """Where its Job is. Raises ConfigError where none has begun, HubError."""
        self._begun(own)
        with told(f"the Job of {own.id}"):
            status = self._api.inspect_job(job_id=own.job_id, namespace=own.owner).status
        return Stage(name=printable(str(getattr(status.stage, "value", status.stage)))[:40],
                     message=printable(str(status.message or ""))[:500])  # fmt: skip

    def follow(
        self,
        own: Handoff,
        *,
        cancel: threading.Event | None = None,
        watch: Callable[[Stage], None] = lambda _: None,
    ) -> Iterator[Event]:
        """The Job's log from its beginning, as events, until it has ended well; cancel ends the following alone, watch
        is told where the Job is, each time that it is asked.

        Raises JobFailed where the Job failed, was stopped or was killed, HubError where it cannot be followed now.
        """
        cancel, seen, before = cancel or threading.Event(), 0, ""
        while not cancel.is_set():
            now = self.stage(own)
            watch(now)
            if now.name in _WAITING:
                if now.name != before:
                    yield Noted(message=f"waiting for a machine ({own.flavor})")
            else:
                # A log that ended before its Job may have grown since: of one that has ended it is read once more.
                for line in self._lines(own, seen, cancel, wait=not now.ended):
                    seen += 1
                    event = event_of(line)
                    if event is not None:
                        yield event
                if now.ended and not cancel.is_set():
                    _require_well(own, now)
                    return
                if self.stage(own).ended:
                    continue
            before = now.name
            cancel.wait(self._poll_s)

    def _lines(self, own: Handoff, seen: int, cancel: threading.Event, *, wait: bool) -> Iterator[str]:
        """Lines of the log after the first `seen`, wait: until its Job ends. Read beside, as the client's reading
        cannot be interrupted."""
        lines: queue.Queue[str | BaseException | None] = queue.Queue(maxsize=1000)
        left = threading.Event()

        def put(what: str | BaseException | None) -> None:
            while not left.is_set():
                try:
                    lines.put(what, timeout=0.2)
                except queue.Full:
                    continue
                return

        def read() -> None:
            try:
                with told(f"the log of {own.id}"):
                    log = self._api.fetch_job_logs(job_id=own.job_id, namespace=own.owner, follow=wait)
                    for number, line in enumerate(log):
                        if left.is_set():
                            return
                        if number >= seen:
                            put(str(line))
                put(None)
            except BaseException as error:
                put(error)

        threading.Thread(target=read, name=f"log of {own.id}", daemon=True).start()
        try:
            while not cancel.is_set():
                try:
                    line = lines.get(timeout=0.2)
                except queue.Empty:
                    continue
                if line is None:
                    return
                if isinstance(line, BaseException):
                    raise line
                yield line
        finally:
            left.set()

    def stop(self, own: Handoff) -> None:
        """Cancel its Job. What it has learnt so far is lost with the machine."""
        self._begun(own)
        with told(f"the Job of {own.id}"):
            self._api.cancel_job(job_id=own.job_id, namespace=own.owner)

    def pull(
        self,
        own: Handoff,
        *,
        name: str | None = None,
        watch: Watch = lambda *_: None,
        cancel: threading.Event | None = None,
    ) -> Fetched:
        """Fetch its adapter to this machine's adapters, with its last samples. Raises ConfigError where the name is
        taken, HubError where it is not there yet, AdapterError where it is not what was asked for or a key does not
        apply, Cancelled."""
        name = safe_name(name or own.name)
        target = self._workspace.adapters / f"{name}.safetensors"
        best_target = target.with_name(f"{name}-best.safetensors")
        _free(target)
        _free(best_target)
        with told(own.repo_id):
            found = self._api.dataset_info(own.repo_id, files_metadata=True)
        revision, files = commit_of(found.sha, own.repo_id), {str(one.rfilename): one for one in found.siblings or ()}
        wanted = f"result/{own.name}.safetensors"
        if wanted not in files:
            stage = self.stage(own)
            if stage.ended:
                _require_well(own, stage)
                raise HubError(f"{own.id} has ended and left no adapter: `remote follow {own.id}` shows its log")
            raise ConfigError(f"{own.id} has no adapter yet, its Job is {stage.name}: `remote follow {own.id}`")
        folder = self._workspace.cache / "hub" / f"job-{own.id}"
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock")
        if not lock.acquire():
            raise ConfigError(f"the adapter of {own.id} is being fetched elsewhere at this moment: look again")
        try:
            path, applied = self._verified(own, files[wanted], revision, folder, watch, cancel)
            best = files.get(f"result/{own.name}-best.safetensors")
            found = [(path, target)]
            if best is not None:
                found = [(self._verified(own, best, revision, folder, watch, cancel)[0], best_target), *found]
            samples = fetch_samples(
                self._api, own.repo_id, revision, files, read_info(path), about_folder(target), folder, watch=watch,
                cancel=cancel,
            )  # fmt: skip
            for _, there in found:  # one may have been made meanwhile
                _free(there)
            note = Origin(repo_id=own.repo_id, revision=revision, licence="", videos=(), trained_on=own.flavor)
            mine: list[Path] = []
            for source, there in found:
                videos = samples.videos if there == target else ()
                write_origin(about_folder(there), source, replace(note, videos=videos))
                try:
                    claim(source, there)
                    mine.append(there)
                except FileExistsError as error:
                    for one in mine:  # of a pair both come, or none
                        one.unlink(missing_ok=True)
                    raise _taken(there) from error
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            lock.release()
        best_path = None if best is None else best_target
        return Fetched(path=target, applied=applied, best=best_path, revision=revision, samples=samples)

    def _verified(
        self, own: Handoff, file: Any, revision: str, folder: Path, watch: Watch, cancel: threading.Event | None
    ) -> tuple[Path, int]:
        """The file, and how many keys of it apply."""
        name, size = str(file.rfilename), file.size
        if not isinstance(size, int) or not 0 < size <= MAX_ADAPTER:
            raise AdapterError(f"{name} of {own.repo_id} has {size} bytes, an adapter at most {MAX_ADAPTER:,}")
        self._workspace.require_free(size, f"the adapter of {own.id}")
        path = folder / Path(name).name
        fetch(
            self._api, own.repo_id, revision, name, path, limit=size, size=size, repo_type="dataset", watch=watch,
            cancel=cancel,
        )  # fmt: skip
        try:
            if file.lfs is not None and file_sha256(path) != str(file.lfs.sha256):
                raise AdapterError(f"{name} is not what the Hub says it is (its SHA-256 differs): try again")
            info = read_info(path)
            if (info.backbone, info.method) != (own.backbone, own.method):
                raise AdapterError(
                    f"{own.id} was to learn by {own.method} for {own.backbone}; what came is of {info.method} for "
                    f"{info.backbone}"
                )
            return path, applied_keys(path, info, name)
        except AdapterError:
            path.unlink(missing_ok=True)  # it would be taken for done next time
            raise

    def delete(self, own: Handoff) -> None:
        """Take its dataset, with the clips, off the Hub, and forget it here. Raises ConfigError while its Job runs,
        HubError where the token is of somebody who cannot see it."""
        from huggingface_hub.errors import RepositoryNotFoundError

        with self.ledger.starting():
            own = self.ledger.find(own.id)
            if own.commit and not own.job_id:  # one may have begun although its answer was lost
                try:
                    with told(f"the Job of {own.id}"):
                        job = self._labelled(own)
                except HubError as error:  # to whom Jobs are closed, none has begun
                    if _status(error) not in (402, 403, 404):
                        raise
                    job = None
                if job is not None:
                    own = self.ledger.change(own, job_id=_job_id(job))
            if own.job_id:
                try:
                    running = not self.stage(own).ended
                except HubError as error:  # the Hub forgets old Jobs; anything else is said
                    if _status(error) != 404:
                        raise
                    running = False
                if running:
                    raise ConfigError(f"the Job of {own.id} is not over: stop it first, with `remote stop {own.id}`")
            with told(own.repo_id):
                try:
                    self._api.delete_repo(own.repo_id, repo_type="dataset")
                except RepositoryNotFoundError:  # what is another's looks so, too
                    self._require_owner(own)
            self.ledger.drop(own.id)

    def _require_owner(self, own: Handoff) -> None:
        me = self._api.whoami()
        names = [str(me["name"]), *(str(org.get("name")) for org in me.get("orgs") or ())]
        if own.owner not in names:
            raise HubError(
                f"{own.repo_id} is {own.owner}'s, and your token is {printable(names[0][:80])}'s, who cannot see it: "
                "nothing was deleted, log in as who sent it"
            )

    def _token(self) -> str:
        from huggingface_hub import get_token

        token = self._api.token if isinstance(self._api.token, str) else get_token()
        if not token:
            raise HubError(f"a training on Hugging Face's machines: {LOG_IN}")
        return token

    @staticmethod
    def _begun(own: Handoff) -> None:
        if not own.job_id:
            raise ConfigError(f"no machine has begun {own.id} yet: `remote start {own.id}`")


def _free(path: Path) -> None:
    if path.exists():
        raise _taken(path)


def _taken(path: Path) -> ConfigError:
    return ConfigError(f"there is an adapter {path.stem!r} already: choose another name")


def _status(error: HubError) -> int | None:
    """What the Hub answered with, None where it did not."""
    from huggingface_hub.errors import HfHubHTTPError

    return error.__cause__.response.status_code if isinstance(error.__cause__, HfHubHTTPError) else None


def _job_id(job: Any) -> str:
    found = str(job.id)
    if not _JOB_ID.fullmatch(found):
        raise HubError(f"the Hub answered with a Job of the name {printable(found[:80])!r}: try again")
    return found


def _not_begun(own: Handoff) -> str:
    return (
        f"Cancelled before a machine began. What was sent is in {own.repo_id}, which is private: begin it with "
        f"`remote start {own.id}` (“Start it” on the page), or take it away with `remote delete {own.id}` (“Delete”)"
    )


def _require_well(own: Handoff, stage: Stage) -> None:
    """Raises JobFailed unless a Job that has ended did what it was to do."""
    said = f" ({stage.message})" if stage.message else ""
    if stage.name == "ERROR":
        raise JobFailed(
            f"the Job of {own.id} failed or was killed on its machine{said}: the end of its log says why, "
            f"`remote follow {own.id}`; one that ran out of memory, or of its {own.timeout}, is killed"
        )
    if stage.name != "COMPLETED":
        what = "was stopped" if stage.name == "CANCELED" else "is not there any more"
        raise JobFailed(f"the Job of {own.id} {what}{said}")
