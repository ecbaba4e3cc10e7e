"""Sets of clips kept under a name, with their words and cuts: folders that `train --clips FOLDER` reads.

    <name>/index.json    {"clips": [{"file", "subject", "motion", perhaps setting, and of a cut start_s, ...}]}
    <name>/<file>        each video once, however many clips are cut from it

A set is written beside its place and renamed: it is there whole or not at all. zipped.py sends and receives one.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synmotion_core.clip_files import read_index
from synmotion_core.config import ClipSource
from synmotion_core.errors import ClipError, ConfigError, MissingError, StorageError
from synmotion_core.workspace import nearest_name, safe_name

if TYPE_CHECKING:
    from synmotion_core.workspace import Workspace

log = logging.getLogger(__name__)

INDEX = "index.json"
MOST_CLIPS = 200  # of one set
_OWN = secrets.token_hex(4)  # of this process: in a container, the one before had the same number
# what a replacement or a deletion works with: .<name>.<process>.<its _OWN>-<number>.<end>; earlier versions stop after
# the process
_LEFT = re.compile(r"\.(?P<name>.+?)\.(?P<process>\d+)(\.(?P<own>[0-9a-f]{8})-[0-9a-f]{8})?\.(?P<end>part|old|gone)")
_MORE = {"setting": "", "start_s": 0.0, "end_s": None, "resample_fps": None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One saved set, as far as a list shows it. `problem` says why it cannot be opened, "" when it can."""

    name: str
    num_clips: int
    motions: tuple[str, ...]
    problem: str = ""

    @property
    def words(self) -> str:
        """The set on one line."""
        if self.problem:
            return f"{self.name} (cannot be opened)"
        what = ", ".join(self.motions) or "no words yet"
        return f"{self.name} ({self.num_clips} clip{'s' if self.num_clips != 1 else ''}: {what})"


class Datasets:
    """The sets of one workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace

    def all(self) -> tuple[Dataset, ...]:
        """Every set, by name; a damaged one too, with what is wrong."""
        folder = self.workspace.datasets
        self._recover(folder)
        names = sorted(
            (p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")), key=str.casefold
        )
        return tuple(self._look(name) for name in names)

    @staticmethod
    def _recover(folder: Path) -> None:
        """What a process that died in the middle of a replacement left: the set as it was gets its name back where the
        new one has not got it; the rest goes."""
        for left in sorted(folder.glob(".*")):
            found = _LEFT.fullmatch(left.name)
            if found is None or not left.is_dir() or _is_alive(int(found["process"]), found["own"]):
                continue
            try:
                if found["end"] == "old" and not (folder / found["name"]).exists():
                    os.replace(left, folder / found["name"])
                else:
                    shutil.rmtree(left)
            except OSError as error:  # a disk that takes nothing; another process has done it
                log.warning("%s is left as it is: %s", left, error)

    def _look(self, name: str) -> Dataset:
        try:
            clips = self.clips(name)
        except (ConfigError, MissingError) as error:
            return Dataset(name=name, num_clips=0, motions=(), problem=str(error))
        motions = tuple(dict.fromkeys(clip.motion for clip in clips if clip.motion))
        return Dataset(name=name, num_clips=len(clips), motions=motions)

    def folder(self, name: str) -> Path:
        """Where a set lies. Raises MissingError for one that is not there, ConfigError for what is no name."""
        folder = self.workspace.datasets / safe_name(name)
        if not folder.is_dir():
            raise MissingError(f"there is no saved set {name!r} any more")
        return folder

    def clips(self, name: str) -> tuple[ClipSource, ...]:
        """What is in a set. Raises MissingError or ConfigError for a damaged one."""
        return tuple(read_index(self.folder(name) / INDEX))

    def save(
        self,
        name: str,
        clips: Sequence[ClipSource],
        *,
        replace: bool = False,
        names: Mapping[Path, str] | None = None,
    ) -> Path:
        """Keep clips under a name; their files are linked or copied, `names` says how they are called there.

        Returns the folder.

        Raises ConfigError for a name that is none or taken (unless `replace`), for no clips and for too many.
        """
        if not clips:
            raise ConfigError("there are no clips to save: add some first")
        if len(clips) > MOST_CLIPS:
            raise ConfigError(f"a set holds at most {MOST_CLIPS} clips, got {len(clips)}")
        with self.making(name, replace=replace) as folder:
            write_set(folder, clips, names or {})
        return self.folder(name)

    def delete(self, name: str) -> None:
        """Delete a set for good; clips that are chosen on the page stay."""
        folder = self.folder(name)
        gone = _beside(folder, "gone")
        os.replace(folder, gone)  # at once, however many files there are
        shutil.rmtree(gone, ignore_errors=True)

    def free_name(self, wanted: str) -> str:
        """The nearest name to `wanted` that is not taken."""
        base, taken = nearest_name(wanted), {p.name.casefold() for p in self.workspace.datasets.iterdir()}
        names = (base, *(f"{base} {number}" for number in range(2, 10**6)))
        return next(name for name in names if name.casefold() not in taken)

    @contextmanager
    def making(self, name: str, *, replace: bool = False) -> Iterator[Path]:
        """An empty folder that becomes the set of that name when the block ends well, and vanishes when it does not."""
        target = self.workspace.datasets / safe_name(name)
        if target.exists() and not replace:
            raise ConfigError(
                f"there is a saved set {name!r} already: save it as {self.free_name(name)!r}, or let it be replaced"
            )
        part, old = _beside(target, "part"), _beside(target, "old")
        try:
            part.mkdir()
            yield part
            if target.exists():
                os.replace(target, old)
            os.replace(part, target)
        except OSError as error:
            if old.exists() and not target.exists():
                os.replace(old, target)
            reason = error.strerror or error
            raise StorageError(f"the set {name!r} could not be written: {reason}; nothing was changed") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def _beside(folder: Path, end: str) -> Path:
    """A name that no other thread has, and that says which process works with it."""
    return folder.with_name(f".{folder.name}.{os.getpid()}.{_OWN}-{secrets.token_hex(4)}.{end}")


def _is_alive(process: int, own: str | None) -> bool:
    """Whether a process runs; another may have got its number, and then what is left waits."""
    if process == os.getpid():
        return own == _OWN
    if sys.platform == "win32":  # where asking so would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return True


def write_set(folder: Path, clips: Sequence[ClipSource], called: Mapping[Path, str]) -> None:
    """Put clips and their index into an empty folder, the index last."""
    from synmotion_core.storage import link_or_copy

    names: dict[Path, str] = {}
    for clip in clips:
        if clip.path not in names:
            if not clip.path.is_file():
                raise MissingError(f"the clip {clip.path.name!r} is not there any more: add it again")
            names[clip.path] = _free(
                _plain(Path(called.get(clip.path, clip.path.name))), {name.casefold() for name in names.values()}
            )
            link_or_copy(clip.path, folder / names[clip.path])
    (folder / INDEX).write_text(index_text(clips, names), encoding="utf-8")


def index_text(clips: Sequence[ClipSource], names: Mapping[Path, str]) -> str:
    """An index.json of these clips, their files by these names."""
    rows = [_row(clip, names[clip.path]) for clip in clips]
    return json.dumps({"clips": rows}, ensure_ascii=False, indent=1) + "\n"


def _row(clip: ClipSource, file: str) -> dict[str, Any]:
    more = {name: getattr(clip, name) for name, usual in _MORE.items() if getattr(clip, name) != usual}
    return {"file": file, "subject": clip.subject, "motion": clip.motion, **more}


def _plain(path: Path) -> str:
    """A name that every system takes, as near as can be, with its own ending."""
    return nearest_name(path.stem)[:120].rstrip(". ") + path.suffix.lower()


def _free(name: str, taken: set[str]) -> str:
    stem, dot, ending = name.rpartition(".")
    names = (name, *(f"{stem}-{number}{dot}{ending}" for number in range(2, MOST_CLIPS + 2)))
    found = next((one for one in names if one.casefold() not in taken), None)
    if found is None:
        raise ClipError(f"too many clips are called {name!r}: rename some")
    return found
