"""From files to what a training sees: `Clip`s of exactly the backbone's shape, or an error that says what to choose.

    file --probe--> VideoInfo --doctor--> read the cut --resample (only if asked)--> crop to the aspect, scale -->
    Clip

The picture is scaled to cover the backbone's size (area averaging) and its middle is kept; the doctor's `crop`
finding tells how much is lost. A cut gives exactly num_frames frames or ClipError: nothing is truncated, padded or
re-timed unasked. `windows` lists the exact cuts of a longer file, for somebody to choose from.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from synmotion_core.clips import doctor, video
from synmotion_core.clips.doctor import WHOLE, Cut, Finding
from synmotion_core.clips.plan import frame_plan
from synmotion_core.clips.video import VideoInfo
from synmotion_core.errors import ClipError, UserInputError

if TYPE_CHECKING:
    from synmotion_core.types import Clip, Frames, Pixels, Prompt, VideoShape

logger = logging.getLogger(__name__)


class Source(Protocol):
    """What `load_clips` needs to know of a clip; config.ClipSource is one."""

    @property
    def path(self) -> Path: ...
    @property
    def subject(self) -> str: ...
    @property
    def motion(self) -> str: ...
    @property
    def setting(self) -> str: ...
    @property
    def start_s(self) -> float: ...
    @property
    def end_s(self) -> float | None: ...
    @property
    def resample_fps(self) -> float | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup:
    """What the doctor says of one file. `info` is None when it cannot be opened."""

    info: VideoInfo | None
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether load_clip would take it."""
        return not doctor.blocking(self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedClips:
    """Clips in the order of their sources, and what should be known about them (`Finding.clip` names the file)."""

    clips: tuple[Clip, ...]
    findings: tuple[Finding, ...]


def check(
    path: Path | str, shape: VideoShape, cut: Cut = WHOLE, *, frame_multiple: int = 0, puppets_only: str = ""
) -> Checkup:
    """Everything the doctor can say of a file, without raising: for a page that shows it. See doctor.examine."""
    info = None
    try:
        info = video.probe(path)
        scale = min(1.0, doctor.THUMBNAIL_PX / min(info.height, info.width))
        height, width = max(1, round(info.height * scale)), max(1, round(info.width * scale))
        small, _ = video.read(path, start_s=cut.start_s, end_s=cut.end_s, height=height, width=width, info=info)
        found = doctor.examine(info, shape, cut, frames=small, frame_multiple=frame_multiple, puppets_only=puppets_only)
    except UserInputError as error:
        found = [doctor.refusal(error)]
    return Checkup(info=info, findings=tuple(found))


def load_clip(
    path: Path | str,
    prompt: Prompt,
    *,
    num_frames: int,
    height: int,
    width: int,
    fps: float,
    start_s: float = 0.0,
    end_s: float | None = None,
    resample_fps: float | None = None,
    puppets_only: str = "",
) -> Clip:
    """One clip of exactly num_frames x height x width at fps, from the cut [start_s, end_s) of a file.

    resample_fps None takes the frames as they are, which must come at `fps`; a number re-times the cut to that many
    a second first. Raises ClipError with every blocking finding of the doctor, MissingError for a file that is not
    there; warnings are logged.
    """
    from synmotion_core.types import VideoShape

    shape = VideoShape(num_frames=num_frames, height=height, width=width, fps=fps)
    cut = Cut(start_s=start_s, end_s=end_s, resample_fps=resample_fps)
    clip, findings = _load(Path(path), prompt, shape, cut, puppets_only)
    for finding in findings:
        level = logging.WARNING if finding.severity == "warn" else logging.INFO
        logger.log(level, "%s: %s", clip.name, finding.message)
    return clip


def load_clips(
    sources: Sequence[Source], shape: VideoShape, *, frame_multiple: int = 0, puppets_only: str = ""
) -> LoadedClips:
    """All clips, or one ClipError that lists every file that cannot be used and why; near duplicates are findings.

    frame_multiple and puppets_only as for doctor.examine.
    """
    from synmotion_core.types import Prompt

    clips: list[Clip] = []
    findings: list[Finding] = []
    refused: list[str] = []
    for source in sources:
        cut = Cut(start_s=source.start_s, end_s=source.end_s, resample_fps=source.resample_fps)
        prompt = Prompt(subject=source.subject, motion=source.motion, setting=source.setting)
        try:
            clip, found = _load(Path(source.path), prompt, shape, cut, puppets_only, frame_multiple)
        except UserInputError as error:
            refused.append(str(error))
            continue
        clips.append(clip)
        findings += [replace(finding, clip=clip.name) for finding in found]
    if refused:
        head = f"{len(refused)} of {len(sources)} clips cannot be used:\n- " if len(sources) > 1 else ""
        raise ClipError(head + "\n- ".join(refused))
    findings += doctor.near_duplicates([(clip.name, clip.frames) for clip in clips])
    return LoadedClips(clips=tuple(clips), findings=tuple(findings))


def _load(
    path: Path, prompt: Prompt, shape: VideoShape, cut: Cut, puppets_only: str, frame_multiple: int = 0
) -> tuple[Clip, list[Finding]]:
    from synmotion_core.types import Clip

    info = video.probe(path)
    _raise_if_blocked(path, doctor.examine(info, shape, cut, frame_multiple=frame_multiple))
    h, w = _cover(info, shape)
    frames, _ = video.read(path, start_s=cut.start_s, end_s=cut.end_s, height=h, width=w, info=info)
    findings = doctor.examine(info, shape, cut, frames=frames, puppets_only=puppets_only)
    _raise_if_blocked(path, findings)
    plan, (first, _) = frame_plan(info, cut), info.span(cut.start_s, cut.end_s)
    if plan.retimed:
        frames = frames[[number - first for number in plan.frames]]
    frames = center_crop(frames, shape.height, shape.width)
    expected = (shape.num_frames, shape.height, shape.width, 3)
    assert frames.shape == expected, (frames.shape, expected)  # the doctor has checked the count
    digest = content_hash(frames, shape.fps)
    return Clip(name=path.name, frames=frames, fps=shape.fps, prompt=prompt, content_hash=digest), findings


def _raise_if_blocked(path: Path, findings: Iterable[Finding]) -> None:
    messages = [finding.message for finding in findings if finding.severity == "block"]
    if messages:
        raise ClipError(f"{path.name}: {'; '.join(messages)}")


def _cover(info: VideoInfo, shape: VideoShape) -> tuple[int, int]:
    """(height, width) of the whole picture when it just covers the shape."""
    scale = max(shape.height / info.height, shape.width / info.width)
    return max(shape.height, round(info.height * scale)), max(shape.width, round(info.width * scale))


def center_crop(frames: Frames, height: int, width: int) -> Frames:
    """The middle height x width of [F, H, W, 3]; needs H >= height and W >= width."""
    top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
    return np.ascontiguousarray(frames[:, top : top + height, left : left + width])


def windows(info: VideoInfo, num_frames: int, cut: Cut = WHOLE) -> list[Cut]:
    """Every cut of exactly num_frames frames within `cut`, one after the other without overlap.

    What is left after the last one is shorter than a clip and in none of them. For somebody to choose from: nothing
    calls this unasked. Raises ClipRefused("trim") when `cut` is none.
    """
    info.span(cut.start_s, cut.end_s)
    limit = info.duration_s if cut.end_s is None else cut.end_s
    found: list[Cut] = []
    start_s = cut.start_s
    while start_s < limit - video.TIME_TOLERANCE_S:
        next_cut = doctor.exact_cut(info, num_frames, replace(cut, start_s=start_s))
        if next_cut is None or next_cut.end_s is None or next_cut.end_s > limit + video.TIME_TOLERANCE_S:
            break
        found.append(next_cut)
        start_s = next_cut.end_s
    return found


def content_hash(frames: Frames, fps: float) -> str:
    """Hex SHA-256 over the shape, the rate and every byte: names a clip's cached encodings."""
    digest = hashlib.sha256(f"{list(frames.shape)}|{float(fps)!r}|".encode())
    digest.update(np.ascontiguousarray(frames).tobytes())
    return digest.hexdigest()


def to_pixels(frames: Frames) -> Pixels:
    """uint8 [F, H, W, 3] -> float32 [1, 3, F, H, W] in [-1, 1]."""
    import torch

    pixels = torch.from_numpy(np.array(frames, copy=True)).permute(3, 0, 1, 2)[None]
    return pixels.float().div_(127.5).sub_(1.0).contiguous()
