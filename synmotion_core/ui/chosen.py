"""The clips that a person has chosen: as the browser remembers them, as files, and as the clip doctor sees them.

    memory (browser)   {"clips": [{"source": "example/<file>" or "upload/<file>", "subject", "motion", "setting",
                       "start_s", "end_s", "resample_fps", "part"}]}
    ClipChoice         one of those, checked: a browser may send anything
    Look               what is in the file: the doctor's findings, the takes, a first picture
    ClipSource         what a run takes (config.py)

A source is a folder and a file name in it, so that no path from a browser is ever opened. Uploads are copied into the
workspace, named by their content: a training that is resumed next week still finds them.
"""

from __future__ import annotations

import filecmp
import functools
import json
import math
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synmotion_core.clip_files import VIDEO_ENDINGS
from synmotion_core.clips import doctor, video
from synmotion_core.clips.captions import MOST_LETTERS
from synmotion_core.clips.doctor import Cut, Finding
from synmotion_core.clips.ffmpeg import LIMITS, SHARED_LIMITS, Limits
from synmotion_core.clips.takes import Take, takes
from synmotion_core.config import MOST_FPS, ClipSource, motion_name
from synmotion_core.errors import ClipError, MissingError, UserInputError
from synmotion_core.ui import media
from synmotion_core.ui.people import shared
from synmotion_core.ui.uploads import check_ending, find, keep

if TYPE_CHECKING:
    from synmotion_core.interfaces import BackboneSpec
    from synmotion_core.ui.context import Studio
    from synmotion_core.workspace import Workspace

MOST_CLIPS = 200
_WORD_LENGTH = 200
_MOST_PARTS = 10**6
_TWIN_FRAMES = 256  # longer cuts are not compared with each other
_WORKERS = 2
_MARK = re.compile(r"-[0-9a-f]{10}(?=\.\w+$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipChoice:
    """One chosen clip with its words and its cut; subject and motion may still be empty."""

    source: str
    subject: str = ""
    motion: str = ""
    setting: str = ""  # what a caption says behind the motion; the page shows it and leaves it as it is
    start_s: float = 0.0
    end_s: float | None = None
    resample_fps: float | None = None
    part: int = 1  # a file may be chosen in several parts: the number tells them apart, whatever their cuts become

    @property
    def key(self) -> str:
        """What the page calls it."""
        return self.source if self.part == 1 else f"{self.source}#{self.part}"

    @property
    def is_upload(self) -> bool:
        """Whether the person brought it."""
        return self.source.startswith("upload/")

    @property
    def name(self) -> str:
        """The file's name as the person knows it: without the mark that `Library.add` puts into it."""
        name = self.source.rpartition("/")[2]
        return _MARK.sub("", name) if self.is_upload else name

    @property
    def label(self) -> str:
        """The name, after which part of the file it is."""
        if self.start_s <= 0 and self.end_s is None:
            return self.name
        return f"{self.start_s:.4g}–{'end' if self.end_s is None else f'{self.end_s:.4g}'} s · {self.name}"

    @property
    def cut(self) -> Cut:
        """As the doctor takes it."""
        return Cut(start_s=self.start_s, end_s=self.end_s, resample_fps=self.resample_fps)

    def with_cut(self, cut: Cut) -> ClipChoice:
        """The same clip, cut another way."""
        return replace(self, start_s=cut.start_s, end_s=cut.end_s, resample_fps=cut.resample_fps)

    @property
    def words(self) -> str:
        """What it shows, as far as it was said."""
        return " ".join(part for part in (self.subject, self.motion, self.setting) if part)

    @property
    def title(self) -> str:
        """The same without the motion's description: cards are small."""
        return " ".join(part for part in (self.subject, motion_name(self.motion)) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleSet:
    """Ready clips of one motion."""

    motion: str
    clips: tuple[ClipChoice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What is in a cut of a file. `poster` is a picture as a data address, "" when the file cannot be read; `takes` are
    the parts between hard cuts, where there are some; `twin` is tiny frames to compare.
    """

    info: video.VideoInfo | None
    findings: tuple[Finding, ...]
    poster: str = ""
    takes: tuple[Take, ...] = ()
    twin: Any = field(default=None, repr=False)

    @property
    def blocked(self) -> bool:
        """Whether a training would refuse it."""
        return bool(doctor.blocking(self.findings))

    @property
    def fix(self) -> Cut | None:
        """What the doctor proposes first."""
        return next((f.fix for f in self.findings if f.fix is not None), None)

    @property
    def facts(self) -> str:
        """Frames, rate, size and seconds on one line."""
        i = self.info
        return (
            "cannot be read"
            if i is None
            else f"{i.num_frames} frames · {i.fps:.4g} fps · {i.width}×{i.height} · {i.duration_s:.2f} s"
        )


# ------------------------------------------------------------------------------------------------ files


def example_sets(assets: Path) -> tuple[ExampleSet, ...]:
    """The clips that ship, by their index.json, one set a motion; empty when they are not installed."""
    index, sets = assets / "clips" / "index.json", {}
    for row in json.loads(index.read_text(encoding="utf-8"))["clips"] if index.exists() else []:
        choice = ClipChoice(source=f"example/{row['file']}", subject=row["subject"], motion=row["motion"])
        sets.setdefault(choice.motion, []).append(choice)
    return tuple(ExampleSet(motion=motion, clips=tuple(clips)) for motion, clips in sets.items())


class Library:
    """The two folders that clips come from: the examples that ship, and the workspace's uploads."""

    def __init__(self, workspace: Workspace, assets: Path) -> None:
        self.workspace, self.folder = workspace, assets / "clips"

    def examples(self) -> tuple[ExampleSet, ...]:
        """Those that ship, one set a motion."""
        return example_sets(self.folder.parent)

    @functools.cached_property
    def _shipped(self) -> frozenset[str]:
        return frozenset(choice.source for example in self.examples() for choice in example.clips)

    def path(self, source: str) -> Path:
        """The file of a source. Raises MissingError unless it is a shipped example or one file in the uploads."""
        folder, _, name = source.partition("/")
        path = find(name, self.workspace.clips) if folder == "upload" else None
        if source in self._shipped:
            path = self.folder / name
        if path is None or not path.is_file():
            raise MissingError(f"the clip {name[:80]!r} is not there any more: add it again")
        return path

    def add(self, upload: Path, *, stem: str = "") -> str:
        """Copy an uploaded file into the workspace, called `stem` or as it is; returns its source.

        Raises StorageError or ClipError.
        """
        check_ending(upload, VIDEO_ENDINGS, "export it as H.264 in .mp4")
        return f"upload/{keep(upload, self.workspace.clips, 'clip', stem=stem)}"

    def source_of(self, file: Path) -> str:
        """The source of a file's content: an example that ships, one of the uploads, else added to those.

        Raises MissingError, StorageError or ClipError.
        """
        if not file.is_file():
            raise MissingError(f"the clip {file.name[:80]!r} is not there any more: add it again")
        if find(file.name, self.workspace.clips) and file.resolve() == (self.workspace.clips / file.name).resolve():
            return f"upload/{file.name}"
        alike = (s for s in self._shipped if s.rpartition("/")[2] == file.name)
        shipped = next((s for s in alike if filecmp.cmp(self.path(s), file, shallow=False)), None)
        return shipped or self.add(file)

    def clip_source(self, choice: ClipChoice) -> ClipSource:
        """What a run takes. Raises PromptError for missing words, MissingError for a missing file."""
        from synmotion_core.types import Prompt

        prompt = Prompt(subject=choice.subject, motion=choice.motion, setting=choice.setting)
        return ClipSource(
            path=self.path(choice.source), subject=prompt.subject, motion=prompt.motion,
            setting=prompt.setting, start_s=choice.start_s, end_s=choice.end_s, resample_fps=choice.resample_fps,
        )  # fmt: skip

    def look(self, choice: ClipChoice, spec: BackboneSpec) -> Look:
        """Decode a cut and ask the doctor; remembered until the file or the cut changes."""
        try:
            path = self.path(choice.source)
        except UserInputError as error:
            return Look(info=None, findings=(doctor.refusal(error),))
        stamp = path.stat().st_mtime_ns
        return _look(path, stamp, choice.cut, _Target.of(spec), limits_here())

    def looks(self, choices: Sequence[ClipChoice], spec: BackboneSpec) -> list[Look]:
        """One a clip, several at a time; near duplicates are named on the later clip."""
        with ThreadPoolExecutor(_WORKERS) as pool:
            found = list(pool.map(lambda choice: self.look(choice, spec), choices))
        twins = [(str(index), look.twin) for index, look in enumerate(found) if look.twin is not None]
        for finding in doctor.near_duplicates(twins):
            index = int(finding.clip)
            named = replace(finding, message=_named(finding.message, choices), clip="")
            found[index] = replace(found[index], findings=(*found[index].findings, named))
        return found


def _named(message: str, choices: Sequence[ClipChoice]) -> str:
    """The doctor was given numbers, since two clips may have one name; people are given names with numbers."""

    def name(match: re.Match[str]) -> str:
        return f"clip {int(match[0]) + 1} ({choices[int(match[0])].name})"

    head, word, tail = message.partition(": ")
    return re.sub(r"\b\d+\b", name, head) + word + tail


@dataclass(frozen=True, slots=True)
class _Target:
    """The part of a spec that the doctor needs; hashable, so that looks can be remembered."""

    name: str
    shape: Any
    frame_multiple: int
    puppets_only: str
    real_backbones: tuple[str, ...]

    @classmethod
    def of(cls, spec: BackboneSpec) -> _Target:
        from synmotion_core.backbones import SPECS

        real = tuple(s.name for s in SPECS.values() if s.needs_gpu)
        return cls(spec.name, spec.default_shape, spec.frame_multiple, "" if spec.needs_gpu else spec.name, real)


def limits_here() -> Limits:
    """What a clip may cost that is looked at while its person, and where people share it everybody, waits."""
    return SHARED_LIMITS if shared() else LIMITS


@functools.lru_cache(maxsize=512)
def _probe(path: Path, stamp: int, limits: Limits) -> video.VideoInfo:
    return video.probe(path, limits=limits)


@functools.lru_cache(maxsize=512)
def _look(path: Path, stamp: int, cut: Cut, target: _Target, limits: Limits) -> Look:
    info = None
    try:
        info = _probe(path, stamp, limits)
        scale = min(1.0, doctor.THUMBNAIL_PX / min(info.height, info.width))
        height, width = max(1, round(info.height * scale)), max(1, round(info.width * scale))
        frames, _ = video.read(
            path, start_s=cut.start_s, end_s=cut.end_s, height=height, width=width, info=info, limits=limits
        )
    except UserInputError as error:
        return Look(info=info, findings=(doctor.refusal(error),))
    findings = doctor.examine(
        info,
        target.shape,
        cut,
        frames=frames,
        frame_multiple=target.frame_multiple,
        puppets_only=target.puppets_only,
        real_backbones=target.real_backbones,
    )
    twin = None
    if len(frames) <= _TWIN_FRAMES:
        import cv2

        twin = np.stack([cv2.resize(f, (32, 32), interpolation=cv2.INTER_AREA) for f in frames])
    parts: tuple[Take, ...] = ()
    if any(f.code == "cut" for f in findings):
        with suppress(UserInputError):  # what cannot be taken apart can still be used as it is
            parts = takes(info, target.shape, cut, frames)
    return Look(info=info, findings=tuple(findings), poster=media.picture(frames[0]), takes=parts, twin=twin)


# ------------------------------------------------------------------------------------------------ memory and words


def to_memory(choices: Sequence[ClipChoice]) -> dict[str, Any]:
    """Plain JSON values for the browser."""
    names = ("source", "subject", "motion", "setting", "start_s", "end_s", "resample_fps", "part")
    return {"clips": [{name: getattr(choice, name) for name in names} for choice in choices]}


def read_memory(memory: Any, library: Library) -> tuple[tuple[ClipChoice, ...], tuple[str, ...]]:
    """The choices that a browser remembers, and a sentence for each one that cannot be used any more."""
    rows = memory.get("clips") if isinstance(memory, Mapping) else None
    choices, problems = [], []
    for row in rows[:MOST_CLIPS] if isinstance(rows, list) else []:
        try:
            choice = _choice(row)
            library.path(choice.source)
            choices.append(choice)
        except UserInputError as error:
            problems.append(str(error))
    return tuple(choices), tuple(problems)


def _choice(row: Any) -> ClipChoice:
    if not isinstance(row, Mapping):
        raise ClipError("a remembered clip could not be read and was left out")
    words = {name: row.get(name) or "" for name in ("source", "subject", "motion", "setting")}
    times = {name: row.get(name) for name in ("start_s", "end_s", "resample_fps")}
    texts = all(
        isinstance(v, str) and len(v) <= (MOST_LETTERS if name == "setting" else _WORD_LENGTH)
        for name, v in words.items()
    )
    numbers = all(v is None or _is_number(v) for v in times.values())
    rate = times["resample_fps"]
    if numbers and rate is not None and not 0 < rate <= MOST_FPS:  # 1e9 would be counted through, frame by frame
        numbers = False
    part = row.get("part", 1)
    if not texts or not numbers or type(part) is not int or not 1 <= part <= _MOST_PARTS:
        raise ClipError("a remembered clip could not be read and was left out")
    return ClipChoice(**words, **{**times, "start_s": times["start_s"] or 0.0}, part=part)


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def current(values: Mapping[Any, Any], studio: Studio) -> tuple[ClipChoice, ...]:
    """The page's clips among a handler's inputs; what the browser remembers when the page has not said yet."""
    known = values[studio.clips]
    return read_memory(values[studio.chosen], studio.library)[0] if known is None else known


def in_words(choices: Sequence[ClipChoice]) -> str:
    """How many clips show what, in a sentence.

    >>> print(in_words([ClipChoice(source="a", subject="a person", motion="claps")] * 2 + [ClipChoice(source="b")]))
    2 clips of “claps” (a person), 1 clip without a motion (no subject yet)
    """
    motions: dict[str, list[str]] = {}
    for choice in choices:
        motions.setdefault(choice.motion, []).append(choice.subject or "no subject yet")
    parts = []
    for motion, subjects in motions.items():
        count = f"{len(subjects)} clip{'s' if len(subjects) != 1 else ''}"
        different = list(dict.fromkeys(subjects))
        who = ", ".join(different[:3]) + (f" and {len(different) - 3} more" if len(different) > 3 else "")
        parts.append(f"{count} {f'of “{motion}”' if motion else 'without a motion'} ({who})")
    return ", ".join(parts)


def run_name(motion: str) -> str:
    """A file name from the motion's name.

    >>> run_name("waves both arms, swings hands high")
    'waves-both-arms'
    """
    return re.sub(r"[^\w]+", "-", motion_name(motion), flags=re.UNICODE).strip("-_").lower()[:60] or "motion"
