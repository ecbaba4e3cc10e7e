"""The clip doctor: what is wrong with a clip for a backbone, why, and what would help. Pure: numbers in, findings out.

What is measured blocks: a file that cannot be opened, a length or a rate that does not fit, a picture in which no pixel changes.
What is judged warns, because a judgement can be wrong: cuts, hardly any movement, darkness, large crops, near duplicates, real footage
where only puppets are known. Everything else that happens to the clip (a small crop, sound that is ignored) is told as info.

Frame rates. A backbone plays its frames at one rate, so frames taken at another rate change the motion's speed. Nobody but the user
may choose that: a rate more than 0.5 % off blocks until `resample_fps` is given. The backbone's own rate keeps the speed (frames are
repeated or left out); the file's own rate keeps every frame and accepts the other speed, which is then a warning with the factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from synmotion_core.clips.ffmpeg import ClipRefused
from synmotion_core.clips.frames import resampled_count
from synmotion_core.clips.video import VideoInfo
from synmotion_core.errors import UserInputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synmotion_core.types import Frames, VideoShape

Severity = Literal["block", "warn", "info"]

THUMBNAIL_PX = 128  # the shorter side at which pictures are judged
RATE_TOLERANCE = 0.005
_STILL_LEVELS = 8  # of 255: no pixel changes by more, in a still video
_MOVED_LEVELS = 16
_HARDLY_MOVES = 0.002  # of the picture
_DARK_LUMA = 30.0
_LARGE_CROP = 0.25
_CUT_HISTOGRAM = 0.35  # puppets stay below 0.12, whatever they do
_CUT_LEVELS = 8.0
_DUPLICATE = 0.2  # of the clip's own movement
_PUPPET_PX = 64
_PUPPET_FLAT = 0.75  # puppets stay above 0.81


@dataclass(frozen=True, slots=True, kw_only=True)
class Fix:
    """Arguments for load_clip (or a ClipSource) that would help; None leaves one as it is."""

    start_s: float | None = None
    end_s: float | None = None
    resample_fps: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found. `code` is for programs, `message` says the value, the rule and the nearest valid values; `clip` names the clip
    where several are looked at together.

    Codes: those of ClipRefused; one_frame, too_short, too_long, frame_rate, variable_rate, still (they block); speed, crop, enlarged, cut,
    hardly_moves, dark, footage, hdr, duplicate (they warn; a small crop is info); retimed, sound, tracks (info).
    """

    code: str
    severity: Severity
    message: str
    fix: Fix | None = None
    clip: str = ""


def refusal(error: UserInputError) -> Finding:
    """The finding for a file that could not even be opened."""
    code = error.code if isinstance(error, ClipRefused) else "missing"
    return Finding(code=code, severity="block", message=str(error))


def blocking(findings: Sequence[Finding]) -> list[Finding]:
    """Those that keep a clip from being used."""
    return [finding for finding in findings if finding.severity == "block"]


def examine(
    info: VideoInfo,
    shape: VideoShape,
    *,
    frames: Frames | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
    resample_fps: float | None = None,
    puppets_only: str = "",
    real_backbones: Sequence[str] = ("hunyuanvideo", "wan2.1"),
) -> list[Finding]:
    """Everything there is to say about one clip on a backbone that takes `shape`; blocking findings first.

    frames uint8 [F, h, w, 3] are those of info.span(start_s, end_s), of any size down to THUMBNAIL_PX; without them only the numbers
    are looked at. puppets_only is the name of a backbone that knows nothing but 64x64 puppets, `real_backbones` those to name instead.
    """
    try:
        first, stop = info.span(start_s, end_s)
    except ClipRefused as error:
        return [refusal(error)]
    found = [*_rate_and_length(info, shape, first, stop, start_s, end_s, resample_fps), *_picture(info, shape)]
    if puppets_only:
        found += _footage(info, frames, puppets_only, real_backbones)
    if frames is not None:
        small = thumbnails(frames)
        found += _movement(small, info, first)
    if info.has_audio:
        found.append(Finding(code="sound", severity="info", message="the sound is not used"))
    if info.video_tracks > 1:
        found.append(
            Finding(code="tracks", severity="info", message=f"the file holds {info.video_tracks} picture tracks, the first is used")
        )
    return sorted(found, key=lambda finding: ("block", "warn", "info").index(finding.severity))


def keeps_every_frame(info: VideoInfo, resample_fps: float | None) -> bool:
    """Whether the frames are used one by one, not re-timed: no resampling, or to the file's own constant rate."""
    return resample_fps is None or (info.constant_rate and _same(resample_fps, info.fps))


def frames_used(info: VideoInfo, *, start_s: float = 0.0, end_s: float | None = None, resample_fps: float | None = None) -> int:
    """How many frames the cut gives. Raises ClipRefused("trim") for a cut that is none."""
    first, stop = info.span(start_s, end_s)
    if keeps_every_frame(info, resample_fps) or resample_fps is None:
        return stop - first
    return resampled_count((info.duration_s if end_s is None else end_s) - start_s, resample_fps)


def window(info: VideoInfo, num_frames: int, *, start_s: float = 0.0, resample_fps: float | None = None) -> tuple[float, float] | None:
    """(start_s, end_s) of exactly num_frames frames from start_s on, or None when the rest of the file is too short."""
    if not keeps_every_frame(info, resample_fps) and resample_fps is not None:
        end = start_s + num_frames / resample_fps
        if resampled_count(info.duration_s - start_s, resample_fps) < num_frames:
            return None
        return start_s, min(end, info.duration_s)
    first, stop = info.span(start_s)
    if stop - first < num_frames:
        return None
    end = info.timestamps_s[first + num_frames] if first + num_frames < info.num_frames else info.duration_s
    return start_s, end


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= RATE_TOLERANCE * b


def _rate_and_length(
    info: VideoInfo, shape: VideoShape, first: int, stop: int, start_s: float, end_s: float | None, resample_fps: float | None
) -> list[Finding]:
    found: list[Finding] = []
    if stop - first == 1:
        return [
            Finding(code="one_frame", severity="block", message=f"there is one frame only; a motion needs {shape.num_frames}: use a video")
        ]
    chosen = resample_fps
    if resample_fps is None and not (info.constant_rate and _same(info.fps, shape.fps)):
        chosen = shape.fps  # what the length is judged by, and what the fix proposes; never done unasked
        found.append(_rate_finding(info, shape, start_s, end_s))
    elif resample_fps is not None and not _same(resample_fps, shape.fps):
        factor = resample_fps / shape.fps
        found.append(
            Finding(
                code="speed", severity="warn",
                message=f"frames at {resample_fps:g} a second are played at {shape.fps:g}: the motion becomes {_factor(factor)}",
            )  # fmt: skip
        )
    if resample_fps is not None and not keeps_every_frame(info, resample_fps):
        found.append(
            Finding(
                code="retimed", severity="info",
                message=f"re-timed from {info.fps:g} to {resample_fps:g} frames a second at the same speed, frames are repeated or left out",
            )  # fmt: skip
        )
    found += _length(info, shape, start_s, end_s, chosen, asked=chosen == resample_fps)
    return found


def _rate_finding(info: VideoInfo, shape: VideoShape, start_s: float, end_s: float | None) -> Finding:
    fix = _fix(info, shape, start_s, end_s, shape.fps)
    if not info.constant_rate:
        return Finding(
            code="variable_rate", severity="block", fix=fix,
            message=f"the frames come at a varying rate (about {info.fps:.4g} a second) and the backbone plays {shape.fps:g}: "
            f"resample_fps={shape.fps:g} re-times them at the true speed",
        )  # fmt: skip
    return Finding(
        code="frame_rate", severity="block", fix=fix,
        message=f"the video has {info.fps:.5g} frames a second, the backbone plays {shape.fps:g}, so that the motion would become "
        f"{_factor(info.fps / shape.fps)}. Choose: resample_fps={shape.fps:g} keeps its speed, resample_fps={info.fps:.5g} keeps every frame",
    )  # fmt: skip


def _factor(ratio: float) -> str:
    return f"{ratio:.3g} times slower" if ratio >= 1 else f"{1 / ratio:.3g} times faster"


def _fix(info: VideoInfo, shape: VideoShape, start_s: float, end_s: float | None, resample_fps: float | None) -> Fix:
    """The cut and the rate that give exactly shape.num_frames; without a cut where there is no need or no way."""
    if frames_used(info, start_s=start_s, end_s=end_s, resample_fps=resample_fps) > shape.num_frames:
        cut = window(info, shape.num_frames, start_s=start_s, resample_fps=resample_fps)
        if cut:
            return Fix(start_s=cut[0], end_s=cut[1], resample_fps=resample_fps)
    return Fix(resample_fps=resample_fps)


def _length(
    info: VideoInfo, shape: VideoShape, start_s: float, end_s: float | None, chosen: float | None, *, asked: bool
) -> list[Finding]:
    count, need = frames_used(info, start_s=start_s, end_s=end_s, resample_fps=chosen), shape.num_frames
    if count == need:
        return []
    rate = info.fps if keeps_every_frame(info, chosen) or chosen is None else chosen
    words = f"{count} frames" if asked else f"{count} frames at {rate:g} a second"
    if count < need:
        seconds = need / rate
        return [
            Finding(
                code="too_short", severity="block",
                message=f"{words} are too few: the backbone takes exactly {need} ({seconds:.3f} s at {rate:g} a second). Use a longer clip"
                + (", or cut less away" if start_s > 0 or end_s is not None else ""),
            )  # fmt: skip
        ]
    fix = _fix(info, shape, start_s, end_s, chosen)
    return [
        Finding(
            code="too_long", severity="block", fix=fix,
            message=f"{words} are too many: the backbone takes exactly {need} ({need / rate:.3f} s). Choose which part shows the motion, for "
            f"example start_s={fix.start_s or 0.0:.3f} and end_s={fix.end_s or 0.0:.3f}",
        )  # fmt: skip
    ]


def kept_region(width: int, height: int, shape: VideoShape) -> tuple[int, int]:
    """(width, height) of the centred part of a picture that remains when it is cropped to the shape's aspect."""
    if width * shape.height > height * shape.width:
        return max(1, round(height * shape.width / shape.height)), height
    return width, max(1, round(width * shape.height / shape.width))


def _picture(info: VideoInfo, shape: VideoShape) -> list[Finding]:
    found: list[Finding] = []
    width, height = kept_region(info.width, info.height, shape)
    lost = 1 - width * height / (info.width * info.height)
    if (width, height) != (info.width, info.height):
        found.append(
            Finding(
                code="crop", severity="warn" if lost > _LARGE_CROP else "info",
                message=f"of {info.width}x{info.height} the middle {width}x{height} is kept and made {shape.width}x{shape.height}: "
                f"{100 * lost:.0f} % of the picture is cut off",
            )  # fmt: skip
        )
    if height < shape.height:
        found.append(
            Finding(
                code="enlarged", severity="warn",
                message=f"the picture is smaller than the backbone's {shape.width}x{shape.height}: its {width}x{height} are "
                f"enlarged {shape.height / height:.2g} times and stay blurred",
            )  # fmt: skip
        )
    if info.hdr:
        found.append(
            Finding(code="hdr", severity="warn", message="the video is HDR: its colours become flat here; export it as SDR (BT.709)")
        )
    return found


def _footage(info: VideoInfo, frames: Frames | None, backbone: str, real: Sequence[str]) -> list[Finding]:
    sized = (info.width, info.height) == (_PUPPET_PX, _PUPPET_PX)
    if sized and (frames is None or _flatness(frames) > _PUPPET_FLAT):
        return []
    what = "this picture is not one" if sized else f"this is {info.width}x{info.height}"
    return [
        Finding(
            code="footage", severity="warn",
            message=f"{backbone} only knows {_PUPPET_PX}x{_PUPPET_PX} puppets and {what}: it will not learn from real footage. For that use "
            f"{' or '.join(real)}, which need a GPU",
        )  # fmt: skip
    ]


def _luma(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    return frames.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def _flatness(frames: Frames) -> float:
    """Share of horizontal neighbours that are alike in the picture without what moves: puppets stand before smooth backdrops."""
    return float((np.abs(np.diff(np.median(_luma(frames), axis=0), axis=1)) <= 3).mean())


def thumbnails(frames: Frames) -> Frames:
    """Frames reduced (area averaged) to THUMBNAIL_PX on the shorter side; smaller ones as they are."""
    h, w = frames.shape[1:3]
    scale = THUMBNAIL_PX / min(h, w)
    if scale >= 1:
        return frames
    size = (max(THUMBNAIL_PX, round(w * scale)), max(THUMBNAIL_PX, round(h * scale)))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]).astype(np.uint8)


def _movement(small: Frames, info: VideoInfo, first: int) -> list[Finding]:
    found: list[Finding] = []
    change = (small.max(axis=0).astype(np.int16) - small.min(axis=0)).max(axis=-1)
    moved = float((change > _MOVED_LEVELS).mean())
    if len(small) > 1 and change.max() <= _STILL_LEVELS:
        found.append(Finding(code="still", severity="block", message="nothing moves: there is no motion to learn. Choose another part"))
    elif len(small) > 1 and moved < _HARDLY_MOVES:
        found.append(
            Finding(code="hardly_moves", severity="warn", message=f"only {100 * moved:.2f} % of the picture ever changes: is the motion in it?")
        )
    dark = float((_luma(small).mean(axis=(1, 2)) < _DARK_LUMA).mean())
    if dark > 0.5:
        found.append(Finding(code="dark", severity="warn", message=f"{100 * dark:.0f} % of the frames are nearly black: use a brighter clip"))
    cuts = find_cuts(small)
    if cuts:
        edges = [0, *cuts, len(small)]
        start, stop = max(zip(edges, edges[1:], strict=False), key=lambda pair: pair[1] - pair[0])
        times = [info.timestamps_s[first + cut] for cut in cuts]
        end = info.timestamps_s[first + stop] if first + stop < info.num_frames else info.duration_s
        found.append(
            Finding(
                code="cut", severity="warn", fix=Fix(start_s=info.timestamps_s[first + start], end_s=end),
                message=f"the scene seems to change at {', '.join(f'{t:.3f} s' for t in times)}: a clip should be one take. The longest is "
                f"start_s={info.timestamps_s[first + start]:.3f} to end_s={end:.3f}",
            )  # fmt: skip
        )
    return found


def find_cuts(frames: Frames) -> list[int]:
    """Indices of frames that begin a new scene: the colours change at once, and far more than they usually do."""
    if len(frames) < 2:
        return []
    histograms = np.stack([cv2.calcHist([f], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3).ravel() for f in frames])
    histograms /= histograms.sum(axis=1, keepdims=True)
    colours = np.abs(np.diff(histograms, axis=0)).sum(axis=1) / 2
    levels = np.array([cv2.absdiff(a, b).mean() for a, b in zip(frames, frames[1:], strict=False)])
    usual = np.array([np.median(np.delete(colours, i)) if len(colours) > 1 else 0.0 for i in range(len(colours))])
    return [int(i) + 1 for i in np.flatnonzero((colours > _CUT_HISTOGRAM) & (levels > _CUT_LEVELS) & (colours > 3 * usual))]


def near_duplicates(clips: Sequence[tuple[str, Frames]]) -> list[Finding]:
    """Pairs of named clips (same number of frames) that show the same: a warning on the later one.

    Two clips are alike when they differ by less than a fifth of what the first one's own movement changes, at 32 pixels.
    """
    found: list[Finding] = []
    small = [
        np.stack([cv2.resize(f, (32, 32), interpolation=cv2.INTER_AREA) for f in frames]).astype(np.float32) for _, frames in clips
    ]
    energy = [float(np.sqrt(np.square(s - s.mean(axis=0)).mean())) for s in small]
    for j, (name, _) in enumerate(clips):
        for i in range(j):
            if small[i].shape != small[j].shape:
                continue
            apart = float(np.sqrt(np.square(small[i] - small[j]).mean()))
            if apart <= _DUPLICATE * max(energy[i], energy[j]):
                found.append(
                    Finding(
                        code="duplicate", severity="warn", clip=name,
                        message=f"{name} shows the same as {clips[i][0]}: it counts twice in training. Remove one",
                    )  # fmt: skip
                )
                break
    return found
