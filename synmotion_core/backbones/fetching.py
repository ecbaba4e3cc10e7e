"""A row's weights from the Hub into its local cache: told, stopped, gone on with, and nothing that is not loaded.

Files go where huggingface_hub keeps them, so that other programs find them, and no network is needed from then on. Its
own download of a file begins a broken one anew and cannot be stopped, so large files go by plain HTTPS to
blobs/<sha256>.incomplete, are held against the SHA-256 that the Hub names, and get their name; the client does the
rest.
"""

from __future__ import annotations

import contextlib
import glob
import json
import logging
import os
import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synmotion_core.errors import Cancelled, HubError, MissingError, StorageError
from synmotion_core.hub_errors import is_forbidden, told
from synmotion_core.interfaces import BackboneSpec
from synmotion_core.locks import FileLock
from synmotion_core.storage import file_sha256
from synmotion_core.types import Progress
from synmotion_core.wire import fetch as fetch_file
from synmotion_core.wire import no_bars
from synmotion_core.workspace import free_bytes, weights_place

INDEX = "model_index.json"
POLL_S = 0.25
LEAVE_S = 15.0  # a read that hangs ends by itself, after the client's 10 s
_GIB = 2**30
_SHA256 = re.compile(r"[0-9a-f]{64}")
# what diffusers leaves where there are safetensors, and code and pickles of any other ending
_NEVER = ("*.bin", "*.msgpack", "*.onnx", "*.pb", "*.flashpack", "*.py", "*.pkl", "*.pickle", "*.pt", "*.pth", "*.ckpt")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _File:
    """One of a repository; sha256 of those that lie behind it (LFS), None of the small ones that git keeps."""

    name: str
    size: int
    sha256: str | None


class _Cache:
    """A row's place in the Hub's local cache, as huggingface_hub lays it out."""

    def __init__(self, spec: BackboneSpec) -> None:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        name = repo_folder_name(repo_id=spec.repo, repo_type="model")
        self.home = Path(constants.HF_HUB_CACHE).expanduser().resolve()
        self.blobs = self.home / name / "blobs"
        self.snapshot = self.home / name / "snapshots" / str(spec.revision)
        self.lock = FileLock(self.home / ".locks" / name / "synmotion.lock")

    def partial(self, file: _File) -> Path:
        return self.blobs / f"{file.sha256}.incomplete"

    def has(self, file: _File) -> bool:
        return (self.snapshot / file.name).is_file() or (
            file.sha256 is not None and (self.blobs / file.sha256).is_file()
        )

    def bytes_of(self, file: _File) -> int:
        """How much of a file is there, in part or whole."""
        if self.has(file):
            return file.size
        if file.sha256 is None or not self.partial(file).is_file():
            return 0
        return min(file.size, self.partial(file).stat().st_size)

    def put(self, file: _File) -> None:
        """Give what has arrived whole its name."""
        from huggingface_hub.file_download import are_symlinks_supported

        target = self.blobs / str(file.sha256)
        if not are_symlinks_supported(self.home):  # the client would copy it, and both would stay
            target = self.snapshot / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.partial(file), target)


def fetch(spec: BackboneSpec, pipeline: Any, cancel: threading.Event | None = None) -> Iterator[Progress]:
    """Bring what a row's `pipeline` class reads into the cache; Progress(stage="fetch") in bytes, nothing where all of
    it is there.

    A fetch that was stopped or broken goes on where it was. Raises StorageError before the first byte where the disk
    has no room for all of it, HubError, MissingError where the repository has no safetensors, Cancelled.
    """
    if whole(spec, pipeline) is not None:
        return
    cache, cancel = _Cache(spec), cancel or threading.Event()
    if cancel.is_set():
        raise Cancelled
    try:
        with _advised(spec, cache):
            files = _listed(spec, pipeline)
    except HubError as error:
        if whole(spec, pipeline, listed=False) is None:
            raise
        log.warning("%s: what is in the cache is taken, unasked: %s", spec.name, error)
        return
    total, missing = sum(file.size for file in files), sum(file.size - cache.bytes_of(file) for file in files)
    free = free_bytes(cache.home)
    if free < missing:
        raise StorageError(
            f"the weights of {spec.name} need {missing / _GIB:.1f} GiB more on the disk of {cache.home}, "
            f"{free / _GIB:.1f} GiB are free: make room, or set HF_HOME to a folder on another disk"
        )
    download = _Download(spec, cache, files)
    shown = sum(download.done.values())
    yield Progress(stage="fetch", step=shown, total=total, note=spec.name)
    download.start()
    try:
        while not download.over.wait(POLL_S):
            if cancel.is_set():
                raise Cancelled
            done = sum(download.done.values())
            if done > shown:
                shown = done
                yield Progress(stage="fetch", step=shown, total=total, note=spec.name)
    finally:
        download.stop.set()
        download.join(LEAVE_S)
    if download.error is not None:
        raise download.error
    if shown < total:
        yield Progress(stage="fetch", step=total, total=total, note=spec.name)


def fetched(spec: BackboneSpec, pipeline: Any) -> Path:
    """The folder of a row's weights in the cache, fetched where they are not there; the log tells how far it is."""
    tenth = -1
    for event in fetch(spec, pipeline):
        if event.step * 10 // max(1, event.total) != tenth:
            tenth = event.step * 10 // max(1, event.total)
            log.warning("fetching %s: %.1f of %.1f GiB", spec.name, event.step / _GIB, event.total / _GIB)
    return _Cache(spec).snapshot


def whole(spec: BackboneSpec, pipeline: Any, *, listed: bool = True) -> Path | None:
    """The folder in the cache where all that `pipeline` reads is there; never asks the network.

    listed: by the list of the repository's files that the client has kept; else by what the files say of each other,
    for caches of older clients, which kept none.
    """
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    snapshot = _Cache(spec).snapshot
    try:
        index = json.loads((snapshot / INDEX).read_bytes())
        if listed:
            names = {str(one.path) for one in get_cached_repo_tree(spec.repo, revision=spec.revision)}
        else:
            names = _named_in(snapshot)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, CachedRepoTreeNotFoundError):
        return None
    own = read_of(names, index, pipeline)
    there = not lacking(spec, own) and all((snapshot / name).is_file() for name in own)
    return snapshot if there else None


def read_of(names: Collection[str], index: Mapping[str, Any], pipeline: Any) -> list[str]:
    """Which of a repository's files `from_pretrained` of a pipeline class reads, its model_index.json being `index`.

    diffusers' rule for safetensors without a variant, of the parts alone that the class takes: of a part with weights
    those and its config, of the others (tokenizers, schedulers) all that is no code and no pickle.
    """
    from diffusers.pipelines.pipeline_loading_utils import filter_model_files, variant_compatible_siblings

    taken = set(pipeline._get_signature_keys(pipeline)[0])
    parts = {n for n, of in index.items() if n in taken and isinstance(of, (list, tuple)) and of and of[0] is not None}
    own = [name for name in names if name.partition("/")[0] in parts and ".." not in name.split("/")]
    heavy = {name.partition("/")[0] for name in filter_model_files(own)}
    weights: Any = variant_compatible_siblings(own, ignore_patterns=list(_NEVER))[0]
    configs = {f"{part}/config.json" for part in heavy}
    never = tuple(pattern.removeprefix("*") for pattern in _NEVER)
    read = [name for name in own if name in weights or name in configs or name.partition("/")[0] not in heavy]
    return [INDEX, *sorted(name for name in read if not name.endswith(never))]


def lacking(spec: BackboneSpec, names: Collection[str]) -> list[str]:
    """The parts with weights that have no safetensors among these files."""
    there = {name.partition("/")[0] for name in names if name.endswith(".safetensors")}
    return [part for part in spec.parameters if part not in there]


def _named_in(snapshot: Path) -> set[str]:
    """Files that are there, and those that the indexes of files in several pieces name."""
    names = {path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()}
    for name in [one for one in names if one.endswith(".safetensors.index.json")]:
        pieces = json.loads((snapshot / name).read_bytes())["weight_map"].values()
        names |= {f"{name.rpartition('/')[0]}/{piece}" for piece in pieces}
    return names


def _listed(spec: BackboneSpec, pipeline: Any) -> list[_File]:
    """What is to be in the cache, by the Hub's own list at the row's revision. Raises MissingError."""
    from huggingface_hub import HfApi, hf_hub_download

    with no_bars():
        found = HfApi().model_info(spec.repo, revision=spec.revision, files_metadata=True)
        index = json.loads(Path(hf_hub_download(spec.repo, INDEX, revision=spec.revision)).read_bytes())
    there = {str(one.rfilename): one for one in found.siblings or ()}
    names = read_of(there, index, pipeline)
    if lost := lacking(spec, names):
        raise MissingError(
            f"{spec.repo} holds no safetensors of its {', '.join(lost)}, and nothing else is read: put a diffusers "
            f"folder with them at {weights_place(spec.name)}"
        )
    files = []
    for name in names:
        size, lfs = there[name].size, there[name].lfs
        if not isinstance(size, int) or (lfs is not None and not _SHA256.fullmatch(str(lfs.sha256))):
            raise ValueError(f"{name} has no size or no SHA-256")
        files.append(_File(name, size, None if lfs is None else str(lfs.sha256)))
    return files


class _Download(threading.Thread):
    """Fetches beside the generator that tells of it; `stop` ends it between two pieces, `over` is set at its end."""

    def __init__(self, spec: BackboneSpec, cache: _Cache, files: Sequence[_File]) -> None:
        super().__init__(name="synmotion-fetch", daemon=True)
        self.spec, self.cache, self.files = spec, cache, files
        self.done = {file.name: cache.bytes_of(file) for file in files}
        self.stop, self.over = threading.Event(), threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with _advised(self.spec, self.cache), no_bars():
                for folder in (self.cache.blobs, self.cache.lock.path.parent):
                    folder.mkdir(parents=True, exist_ok=True)
                while not self.cache.lock.acquire():  # another process fetches the same
                    if self.stop.wait(POLL_S):
                        raise Cancelled
                self._fetch()
        except BaseException as error:
            self.error = error
        finally:
            self.cache.lock.release()
            self.over.set()

    def _fetch(self) -> None:
        from huggingface_hub import HfApi, snapshot_download

        api = HfApi()
        for file in self.files:
            if self.stop.is_set():
                raise Cancelled
            if file.sha256 is not None and not self.cache.has(file):
                self._fetch_large(api, file)
            self.done[file.name] = file.size if self.cache.has(file) else 0
        if self.stop.is_set():
            raise Cancelled
        # the small files, the names of the large ones, and the list by which all is known to be there next time
        patterns = [glob.escape(file.name) for file in self.files]
        snapshot_download(self.spec.repo, revision=self.spec.revision, allow_patterns=patterns)

    def _fetch_large(self, api: Any, file: _File) -> None:
        path = self.cache.partial(file)

        def watch(_: str, done: int, __: int) -> None:
            self.done[file.name] = min(done, file.size)

        fetch_file(
            api, self.spec.repo, str(self.spec.revision), file.name, path,
            limit=file.size, size=file.size, watch=watch, cancel=self.stop,
        )  # fmt: skip
        if file_sha256(path) != file.sha256:
            path.unlink()
            raise HubError(f"{file.name} is not what the Hub says it is (its SHA-256 differs), and was thrown away")
        self.cache.put(file)


@contextlib.contextmanager
def _advised(spec: BackboneSpec, cache: _Cache) -> Iterator[None]:
    """The client's errors as sentences on these weights, with what can be done."""
    what, place = f"the weights of {spec.name}", weights_place(spec.name)
    try:
        with told(spec.repo, spec.revision, reading=True):
            yield
    except StorageError as error:
        raise StorageError(
            f"{what}: the disk of {cache.home} is full: make room, or set HF_HOME to a folder on another disk; what "
            "has arrived is kept"
        ) from error
    except HubError as error:
        if is_forbidden(error):
            raise HubError(
                f"{what} could not be fetched: {error}. Accept their licence on huggingface.co/{spec.repo}, where it "
                "asks for that, and set HF_TOKEN to a token of your account (huggingface.co/settings/tokens); or put a "
                f"diffusers folder with them at {place}"
            ) from error
        raise HubError(
            f"{what} could not be fetched: {error}. What has arrived is kept, and the next try goes on there; or put a "
            f"diffusers folder with them at {place}"
        ) from error
