"""Bytes on the way to and from the Hub, for repositories of any kind: watched, cancelled between pieces, gone on with.

An upload sends the pieces first and makes them one commit in the end: one that breaks leaves the repository as it was,
and the next try sends only what is not there yet.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from synmotion_core.errors import AdapterError, Cancelled, HubError
from synmotion_core.hub_errors import told

_SHA = re.compile(r"[0-9a-f]{40}")
_BYTES_AT_ONCE = 4 * 2**20  # of files that go together

Watch = Callable[[str, int, int], None]  # a file, bytes of it that are done, bytes of it


class Outgoing(Protocol):
    """A file that leaves: its name there, where it is here, and how many bytes it has."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def size(self) -> int: ...


def send(
    api: Any,
    repo_id: str,
    files: Sequence[Outgoing],
    *,
    message: str,
    parent: str,
    gone: Iterable[str] = (),
    repo_type: str = "model",
    at_once: int = 1,
    watch: Watch = lambda *_: None,
    cancel: threading.Event | None = None,
) -> str:
    """One commit on `parent` with these files, and without those in `gone`; returns the commit.

    at_once: up to so many small files go together. Raises HubError, also where a file did not arrive whole;
    Cancelled between two.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    added = {file.name: CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file.path) for file in files}
    with told(repo_id), no_bars():
        for group in _groups(files, at_once):
            size, name = sum(file.size for file in group), group[0].name
            shown = name if len(group) == 1 else f"{name} and {len(group) - 1} more"
            watch(shown, 0, size)
            if cancel is not None and cancel.is_set():
                raise Cancelled
            operations = [added[file.name] for file in group]
            api.preupload_lfs_files(repo_id, operations, repo_type=repo_type, free_memory=False)
            watch(shown, size, size)
        if cancel is not None and cancel.is_set():
            raise Cancelled
        done = api.create_commit(
            repo_id,
            [*added.values(), *(CommitOperationDelete(path_in_repo=name) for name in gone)],
            commit_message=message[:100],
            parent_commit=parent,
            repo_type=repo_type,
        )
        there = api.repo_info(repo_id, repo_type=repo_type, revision=done.oid, files_metadata=True)
    sizes = {str(one.rfilename): one.size for one in there.siblings or ()}
    lost = [file.name for file in files if sizes.get(file.name) != file.size]
    if lost:
        raise HubError(f"{repo_id} was sent {len(files)} files and lacks {', '.join(lost[:10])}: try again")
    return commit_of(done.oid, repo_id)


def _groups(files: Sequence[Outgoing], at_once: int) -> Iterator[list[Outgoing]]:
    """Runs of small files, so that each is not a request of its own; a large one is alone."""
    group: list[Outgoing] = []
    for file in files:
        if group and (len(group) == at_once or sum(one.size for one in group) + file.size > _BYTES_AT_ONCE):
            yield group
            group = []
        group.append(file)
    if group:
        yield group


def fetch(
    api: Any,
    repo_id: str,
    revision: str,
    name: str,
    path: Path,
    *,
    limit: int,
    size: int | None = None,
    repo_type: str = "model",
    watch: Watch = lambda *_: None,
    cancel: threading.Event | None = None,
) -> Path:
    """A file by plain HTTPS, of at most `limit` bytes; of a known `size`, one that is there in part is gone on with.

    The client's own hf_hub_download begins a broken file anew, and takes Xet where it can, which prints what its
    progress callback raises and goes on: nobody could cancel.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(repo_id, name, repo_type=repo_type, revision=revision, endpoint=api.endpoint)
    there = path.stat().st_size if path.is_file() else 0
    mode = "ab" if size is not None and there <= size else "wb"
    with told(repo_id, revision), path.open(mode) as file:
        headers, bar = build_hf_headers(token=api.token), cast(Any, _bar(name, limit, watch, cancel))
        http_get(url, file, resume_size=file.tell(), headers=headers, expected_size=size, tqdm_class=bar)
    return path


def commit_of(sha: Any, repo_id: str) -> str:
    """A commit as the Hub names it, 40 hex digits; raises HubError for anything else."""
    if not isinstance(sha, str) or not _SHA.fullmatch(sha):
        raise HubError(f"{repo_id}: the Hub answered without a commit: try again")
    return sha


@contextlib.contextmanager
def no_bars() -> Iterator[None]:
    """Uploads draw bars of the client's own, on a terminal that may show ours."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _bar(name: str, limit: int, watch: Watch, cancel: threading.Event | None) -> type:
    """The client's progress bar, which counts here and draws nothing; a file of more bytes than `limit` is left."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            self._done, self._all = int(options.get("initial") or 0), int(options.get("total") or 0)
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            self._done += int(n or 0)
            watch(name, self._done, self._all)
            if self._done > limit:
                raise AdapterError(f"{name} is longer than the {limit:,} bytes that were looked at")
            if cancel is not None and cancel.is_set():
                raise Cancelled
            return super().update(n)

    return Bar
