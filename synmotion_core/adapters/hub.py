"""The Hugging Face Hub: finding adapters, looking at one before it is fetched, fetching it, and sharing one's own.

Everything that comes from there is untrusted: a repository is read through its list of files and the header of one
safetensors file; only that file, its card and some of its videos are ever fetched, at a fixed revision, and an adapter
counts as fetched when every key of it applies. Repositories are named owner/name; no address is ever followed.

A push sends the files of a parcel one after another and then makes them a commit: one that breaks leaves the
repository as it was, and the next try sends only what is not there yet.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synmotion_core.adapters.card import TAG, Shown, shown_videos
from synmotion_core.adapters.file import AdapterInfo, info_from, read_info
from synmotion_core.adapters.load_back import Weightless, load_back
from synmotion_core.adapters.origin import Origin, about_folder, write_origin
from synmotion_core.adapters.parcel import CARD, Parcel, made_before
from synmotion_core.backbones import find_spec
from synmotion_core.clips import video
from synmotion_core.errors import AdapterError, ConfigError, HubError, UserInputError
from synmotion_core.hub_errors import LOG_IN, check_repo_id, told
from synmotion_core.locks import FileLock
from synmotion_core.methods import find_method
from synmotion_core.storage import claim, file_sha256
from synmotion_core.wire import Watch, commit_of, fetch, send
from synmotion_core.workspace import Workspace, safe_name

MAX_ADAPTER = 4 * 2**30  # bytes
MAX_PREVIEWS, MAX_PREVIEW = 4, 20 * 2**20  # videos of a card that are fetched, bytes of each
_MAX_FILES = 10  # safetensors files of a repository that are looked into
_VIDEO_NAME = re.compile(r"(\w[\w .+=-]*/)?\w[\w .+=-]*\.mp4", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A repository that a search found. All of it is untrusted text."""

    repo_id: str
    downloads: int
    likes: int
    changed: str  # a date
    private: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """An adapter on the Hub, looked at and not yet fetched. Its texts are untrusted.

    revision: the commit, of 40 hex digits. licence: what its card says, "" where it says nothing; info.licence is what
    the file says. videos: those of its card that can be fetched. left: other files of the repository, which are not.
    """

    repo_id: str
    revision: str
    private: bool
    file: str
    size: int
    sha256: str
    licence: str
    info: AdapterInfo
    videos: tuple[Shown, ...]
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """An adapter that was fetched: all its keys apply; problems are sentences about what was not fetched beside it."""

    path: Path
    applied: int
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """A parcel that arrived: the page of the repository and its commit; removed are files of an earlier one."""

    url: str
    commit: str
    files: int
    removed: tuple[str, ...] = ()


class Hub:
    """One person's way to the Hub.

    token: None takes this machine's (HF_TOKEN, or what `hf auth login` has left), a text is a visitor's own, False is
    nobody's. It is never written anywhere. endpoint: None is $HF_ENDPOINT, else the Hub's own.
    """

    def __init__(self, *, token: str | bool | None = None, endpoint: str | None = None) -> None:
        from huggingface_hub import HfApi

        self._api = HfApi(endpoint=endpoint or os.environ.get("HF_ENDPOINT") or None, token=token)

    def who(self) -> str:
        """Whose token it is. Raises HubError where there is none, or it is not valid."""
        return self._who("this token")

    def _who(self, what: str) -> str:
        if self._api.token is False:
            raise HubError(f"{what}: {LOG_IN}")
        with told(what):
            return str(self._api.whoami()["name"])

    def search(self, words: str = "", *, backbone: str | None = None, limit: int = 30) -> list[Found]:
        """Repositories with the tag motion-adapter, most fetched first. Raises ConfigError, HubError."""
        if not 1 <= limit <= 200:
            raise ConfigError(f"limit must be 1 to 200, got {limit}")
        tags = [TAG, *([] if backbone is None else [find_spec(backbone).name])]
        with told("the search"):
            found = self._api.list_models(
                filter=tags, search=words.strip() or None, sort="downloads", limit=limit,
                expand=["downloads", "likes", "lastModified", "private"],
            )  # fmt: skip
            return [
                Found(
                    repo_id=str(one.id)[:200],
                    downloads=int(one.downloads or 0),
                    likes=int(one.likes or 0),
                    changed="" if one.last_modified is None else one.last_modified.date().isoformat(),
                    private=bool(one.private),
                )
                for one in found
            ]

    def look(self, repo_id: str, *, revision: str | None = None, file: str | None = None) -> Remote:
        """What a repository holds for us, without fetching any weights.

        revision: a branch, a tag or a commit; None is the newest. file: which one, where it holds several adapters.
        Raises ConfigError for a name that is none, HubError, and AdapterError where there is no adapter of ours.
        """
        check_repo_id(repo_id)
        with told(repo_id, revision):
            found = self._api.model_info(repo_id, revision=revision, files_metadata=True)
            card = found.card_data.to_dict() if found.card_data is not None else {}
        sha = commit_of(found.sha, repo_id)
        sizes = {str(one.rfilename): one for one in found.siblings or ()}
        named = self._adapters(repo_id, sha, [name for name in sizes if _is_plain(name)], file)
        name, info = named
        _fits(info, name)
        size = sizes[name].size
        if not isinstance(size, int) or not 0 < size <= MAX_ADAPTER:
            raise AdapterError(f"{name} of {repo_id} has {size} bytes, an adapter at most {MAX_ADAPTER:,}")
        lfs = sizes[name].lfs
        videos = [one for one in shown_videos(card) if one.file in sizes and _VIDEO_NAME.fullmatch(one.file)]
        small = [one for one in videos if 0 < (sizes[one.file].size or 0) <= MAX_PREVIEW][:MAX_PREVIEWS]
        taken = {name, CARD, *(one.file for one in small)}
        return Remote(
            repo_id=repo_id,
            revision=sha,
            private=bool(found.private),
            file=name,
            size=size,
            sha256=str(lfs.sha256) if lfs is not None else "",
            licence=_licence(card),
            info=info,
            videos=tuple(small),
            left=tuple(name[:200] for name in sizes if name not in taken and name != ".gitattributes"),
        )

    def _adapters(self, repo_id: str, sha: str, names: Sequence[str], wanted: str | None) -> tuple[str, AdapterInfo]:
        """The adapter among the files at the root, by what their headers say."""
        if wanted is not None and wanted not in names:
            there = ", ".join(names) or "none"
            raise ConfigError(f"{repo_id} has no file {wanted!r} at its root: its safetensors files are {there}")
        reasons: list[str] = []
        ours: dict[str, AdapterInfo] = {}
        for name in [wanted] if wanted is not None else names[:_MAX_FILES]:
            try:
                ours[name] = info_from(self._header(repo_id, sha, name), name)
            except AdapterError as error:
                reasons.append(str(error))
        if len(ours) == 1:
            return next(iter(ours.items()))
        if ours:
            raise ConfigError(f"{repo_id} holds several adapters: say which file, of {', '.join(ours)}")
        why = f" ({reasons[0]})" if reasons else ": it has no safetensors file at its root"
        raise AdapterError(
            f"{repo_id} holds no adapter of ours{why}. A LoRA of another program can be fetched by hand and taken in: "
            "on the Library tab, or with python -m synmotion_core convert"
        )

    def _header(self, repo_id: str, sha: str, name: str) -> Mapping[str, str]:
        """The metadata of a safetensors file, by its first bytes: at most 25 MB, the client's limit."""
        from huggingface_hub.errors import SafetensorsParsingError

        with told(repo_id):
            try:
                metadata: Any = self._api.parse_safetensors_file_metadata(repo_id, name, revision=sha).metadata
            except (SafetensorsParsingError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise AdapterError(f"{name} is not a safetensors file") from error
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise AdapterError(f"{name} has no readable metadata")
        return metadata

    def pull(
        self,
        remote: Remote,
        workspace: Workspace,
        *,
        name: str | None = None,
        watch: Watch = lambda *_: None,
        cancel: threading.Event | None = None,
    ) -> Pulled:
        """Fetch what was looked at to adapters/<name>.safetensors, with its card and videos in adapters/<name>.about.

        name: None is the file's own. A fetch that was stopped or broken goes on where it was. Raises ConfigError where
        the name is taken, StorageError, HubError, AdapterError where a key does not apply, Cancelled.
        """
        target = workspace.adapters / f"{safe_name(name or Path(remote.file).stem)}.safetensors"
        if target.exists():
            raise ConfigError(f"there is an adapter {target.stem!r} already: choose another name")
        workspace.require_free(remote.size, f"the adapter of {remote.repo_id}")
        key = hashlib.sha256(f"{remote.repo_id}@{remote.revision}".encode()).hexdigest()[:16]
        folder = workspace.cache / "hub" / key
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock")
        if not lock.acquire():
            raise ConfigError(f"{remote.repo_id} is being fetched already: wait for that, or cancel it")
        try:
            path = self._fetch(remote, remote.file, folder / remote.file, watch, cancel)
            try:
                applied = _verified(path, remote)
            except UserInputError:
                shutil.rmtree(folder, ignore_errors=True)  # it would be taken for done next time
                raise
            problems = self._beside(remote, path, about_folder(target), watch, cancel)
            try:
                claim(path, target)  # the last: an adapter that is there is whole
            except FileExistsError as error:  # a training has ended since, or another fetch
                raise ConfigError(f"there is an adapter {target.stem!r} now: choose another name") from error
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            lock.release()
        return Pulled(path=target, applied=applied, problems=tuple(problems))

    def _fetch(self, remote: Remote, name: str, path: Path, watch: Watch, cancel: threading.Event | None) -> Path:
        """A file of what was looked at; an adapter that is there in part is gone on with."""
        size = remote.size if name == remote.file else None
        limit = MAX_PREVIEW if size is None else size
        return fetch(
            self._api, remote.repo_id, remote.revision, name, path, limit=limit, size=size, watch=watch, cancel=cancel
        )

    def _beside(
        self, remote: Remote, adapter: Path, about: Path, watch: Watch, cancel: threading.Event | None
    ) -> list[str]:
        """The card, where it is, and its videos, decoded here and written anew; what fails is said."""
        problems: list[str] = []
        videos: list[tuple[Path, str]] = []
        for index, shown in enumerate(remote.videos, 1):
            try:
                path = self._fetch(remote, shown.file, adapter.with_name("video.mp4"), watch, cancel)
                frames, fps = video.read(path)
                video.write(about / f"{index:02d}.mp4", frames, fps)
                videos.append((about / f"{index:02d}.mp4", shown.words[:500]))
            except UserInputError as error:
                problems.append(f"its video {shown.file} was left out: {error}")
        note = Origin(
            repo_id=remote.repo_id, revision=remote.revision, licence=remote.licence, videos=tuple(videos)
        )  # fmt: skip
        write_origin(about, adapter, note)
        return problems

    def push(
        self,
        parcel: Parcel,
        *,
        private: bool = True,
        watch: Watch = lambda *_: None,
        cancel: threading.Event | None = None,
    ) -> Pushed:
        """Send a parcel, as one commit, to its repository, which is made where it is not there.

        Videos and exports of an earlier parcel, which its card no longer names, go. Raises ConfigError for a repository
        that holds something else, or is public where it should be private; HubError; Cancelled between two files. What
        fails leaves the repository as it was.
        """
        check_repo_id(parcel.repo_id)
        head, old = self._ready(parcel, private)
        message = f"The motion “{parcel.info.motion}”"
        done = send(
            self._api, parcel.repo_id, parcel.files, message=message, parent=head, gone=old, watch=watch, cancel=cancel
        )
        url = f"{self._api.endpoint}/{parcel.repo_id}"
        return Pushed(url=url, commit=done, files=len(parcel.files), removed=old)

    def _ready(self, parcel: Parcel, private: bool) -> tuple[str, tuple[str, ...]]:
        """Make the repository, or see that it may be written to; its newest commit, and what an earlier parcel left."""
        from huggingface_hub.errors import RepositoryNotFoundError

        repo_id = parcel.repo_id
        self._who(repo_id)  # without a token the Hub says of everything private that it is not there
        with told(repo_id):
            try:
                found = self._api.model_info(repo_id)
            except RepositoryNotFoundError:
                self._api.create_repo(repo_id, private=private)
                return commit_of(self._api.model_info(repo_id).sha, repo_id), ()
        files = {str(one.rfilename) for one in found.siblings or ()} - {".gitattributes", CARD}
        if files and TAG not in (found.tags or ()):
            raise ConfigError(f"{repo_id} is there already and is no motion adapter: choose another name")
        if private and not found.private:
            raise ConfigError(f"{repo_id} is there already and is public: share it as public, or choose another name")
        if found.private and not private:
            raise ConfigError(
                f"{repo_id} is there already and is private: share it as private, or make it public on its page first"
            )
        mine = {file.name for file in parcel.files}
        old = tuple(sorted(name for name in files - mine if made_before(name)))
        other = sorted(name for name in files - mine - set(old) if _is_plain(name))
        if other:
            raise ConfigError(f"{repo_id} holds another adapter, {other[0]}: choose another name")
        return commit_of(found.sha, repo_id), old


def _is_plain(name: str) -> bool:
    """A safetensors file at the root, of a name that every system takes: whatever can be pushed can be pulled."""
    stem = name.removesuffix(".safetensors")
    try:
        return stem != name and bool(safe_name(stem))
    except ConfigError:
        return False


def _licence(card: Mapping[str, Any]) -> str:
    """What a card says of its licence, or licences."""
    said = [card.get(key) for key in ("license", "license_name", "license_link")]
    flat = [part for one in said for part in (one if isinstance(one, list) else [one])]
    return ", ".join(one[:200] for one in flat[:10] if isinstance(one, str))


def _verified(path: Path, remote: Remote) -> int:
    """How many keys apply, which is all; raises AdapterError unless the file is what was looked at, and fits."""
    if path.stat().st_size != remote.size:
        raise AdapterError(f"{remote.file} arrived with {path.stat().st_size} bytes of {remote.size}: try again")
    if remote.sha256 and file_sha256(path) != remote.sha256:
        raise AdapterError(f"{remote.file} is not what the Hub says it is (its SHA-256 differs): try again")
    info = read_info(path)
    if info != remote.info:
        raise AdapterError(f"{remote.file} changed while it was fetched: look again")
    return applied_keys(path, info, remote.file)


def applied_keys(path: Path, info: AdapterInfo, file: str) -> int:
    """How many keys of an adapter apply to its backbone's layers, which is all; else AdapterError. Needs no weights."""
    spec, entry, config = _fits(info, file)
    try:
        return load_back(path, Weightless(spec), entry, config)
    except UserInputError:
        raise
    except Exception as error:  # its settings may be of any kind, and reach into PEFT and torch
        raise AdapterError(f"{file} has settings that {info.method} cannot use ({error})") from error


def _fits(info: AdapterInfo, file: str) -> tuple[Any, Any, Any]:
    """Backbone, method and its settings, by what a file says; ConfigError or AdapterError where this version lacks
    one of them."""
    spec, entry = find_spec(info.backbone), find_method(info.method)
    try:
        return spec, entry, entry.config(**info.method_config)
    except UserInputError:
        raise
    except Exception as error:  # of any kind, as above
        raise AdapterError(f"{file} has settings that {info.method} does not know: {error}") from error
