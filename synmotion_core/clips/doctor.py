"""The clip doctor: what is wrong with a clip for a backbone, why, and what would help. Pure: numbers in, findings out.

What is measured blocks: a file that cannot be opened, a length or a rate that does not fit, a picture in which no
pixel changes. What is judged warns, because a judgement can be wrong: cuts, hardly any movement, darkness, large
crops, near duplicates, real footage where only puppets are known. What merely happens to a clip (a small crop,
sound that is not used) is told as info.

Frame rates. A backbone plays its frames at one rate, so frames taken at another rate change the motion's speed.
Only the user may choose that: a rate more than 0.5 % off blocks until `resample_fps` is given. The backbone's own
rate keeps the speed (frames are repeated or left out); the file's own rate keeps every frame and accepts the other
speed, which is then a warning with the factor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
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

REAL_BACKBONES = ("hunyuanvideo", "wan2.1-t2v-1.3b")
THUMBNAIL_PX = 128  # the shorter side at which pictures are judged
RATE_TOLERANCE = 0.005
_STILL_LEVELS = 8  # of 255: no pixel changes by more in a still video
_MOVED_LEVELS = 16
_HARDLY_MOVES = 0.002  # of the picture
_DARK_LUMA = 30.0
_LARGE_CROP = 0.25  # of the picture
_CUT_HISTOGRAM = 0.35  # puppets stay below 0.12, whatever they do
_CUT_LEVELS = 8.0
_DUPLICATE = (
    0.5  # of the clips' own movement: takes of one puppet differ by 0.75 and more, re-encoded copies by up to 0.5
)
_DUPLICATE_LEVELS, _DUPLICATE_FAINT = 2.5, 0.75  # or this close, for clips that move so little that coding is as large
_PUPPET_PX = 64
_PUPPET_FLAT = 0.75  # puppets stay above 0.81


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Which part of a file, in seconds (end_s None: to its end), and whether it is re-timed (None: frame by frame)."""

    start_s: float = 0.0
    end_s: float | None = None
    resample_fps: float | None = None


WHOLE = Cut()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found: `code` for programs, `message` with the value, the rule and the nearest valid values for people.

    `fix` is a cut to use instead of the present one; `clip` names the file where several are looked at together.
    Codes: those of ClipRefused, one_frame, too_short, too_long, frame_rate, variable_rate, still (block); speed,
    crop, enlarged, cut, hardly_moves, dark, footage, hdr, duplicate, transparent (warn; a small crop is info); rate,
    retimed, sound, tracks (info; of a picture, tracks is warn).
    """

    code: str
    severity: Severity
    message: str
    fix: Cut | None = None
    clip: str = ""


def _block(code: str, message: str, fix: Cut | None = None) -> Finding:
    return Finding(code=code, severity="block", message=message, fix=fix)


def _warn(code: str, message: str, fix: Cut | None = None) -> Finding:
    return Finding(code=code, severity="warn", message=message, fix=fix)


def _info(code: str, message: str) -> Finding:
    return Finding(code=code, severity="info", message=message)


def refusal(error: UserInputError) -> Finding:
    """The finding for a file that could not even be opened."""
    return _block(error.code if isinstance(error, ClipRefused) else "missing", str(error))


def mended(cut: Cut, proposed: Callable[[Cut], Cut | None]) -> Cut:
    """The cut with what is proposed for it applied; a second proposal (a cut after a rate) too."""
    for _ in range(2):
        fix = proposed(cut)
        if fix is None or fix == cut:
            break
        cut = fix
    return cut


def blocking(findings: Sequence[Finding]) -> list[Finding]:
    """Those that keep a clip from being used."""
    return [finding for finding in findings if finding.severity == "block"]


def examine(
    info: VideoInfo,
    shape: VideoShape,
    cut: Cut = WHOLE,
    *,
    frames: Frames | None = None,
    frame_multiple: int = 0,
    puppets_only: str = "",
    real_backbones: Sequence[str] = REAL_BACKBONES,
) -> list[Finding]:
    """Everything there is to say about one clip on a backbone that takes `shape`; blocking findings first.

    frames uint8 [F, h, w, 3] are those of info.span(cut), at any size down to THUMBNAIL_PX; without them only the
    numbers are looked at. frame_multiple: m of the backbone's rule num_frames = mk + 1, 0 where it is not known.
    puppets_only is the name of a backbone that knows nothing but 64x64 puppets, real_backbones the ones to name for
    real footage.
    """
    try:
        first, stop = info.span(cut.start_s, cut.end_s)
    except ClipRefused as error:
        return [refusal(error)]
    found = [*_rate(info, shape, cut), *_length(info, shape, cut, frame_multiple), *fit(info.width, info.height, shape)]
    if info.hdr:
        found.append(_warn("hdr", "the video is HDR, its colours become flat here: export it as SDR (BT.709)"))
    if puppets_only:
        found += footage("video", info.width, info.height, frames, puppets_only, real_backbones)
    if frames is not None:
        if len(frames) != stop - first:
            raise ValueError(f"the cut has {stop - first} frames, got {len(frames)}")
        small = thumbnails(frames)
        found += [*_movement(small), *_scenes(small, info, first, cut)]
    if info.has_audio:
        found.append(_info("sound", "the sound is not used"))
    if info.video_tracks > 1:
        found.append(_info("tracks", f"the file holds {info.video_tracks} picture tracks, the first is used"))
    return sorted(found, key=lambda finding: ("block", "warn", "info").index(finding.severity))


# ------------------------------------------------------------------------------------------------ numbers


def retimed(info: VideoInfo, cut: Cut) -> bool:
    """Whether the cut is re-timed; at resample_fps None or the file's own rate its frames are used one by one."""
    return cut.resample_fps is not None and not (info.constant_rate and _same(cut.resample_fps, info.fps))


def frames_used(info: VideoInfo, cut: Cut = WHOLE) -> int:
    """How many frames the cut gives. Raises ClipRefused("trim") for a cut that is none."""
    first, stop = info.span(cut.start_s, cut.end_s)
    if cut.resample_fps is None or not retimed(info, cut):
        return stop - first
    return resampled_count((info.duration_s if cut.end_s is None else cut.end_s) - cut.start_s, cut.resample_fps)


def exact_cut(info: VideoInfo, num_frames: int, cut: Cut = WHOLE) -> Cut | None:
    """The cut of exactly num_frames frames that begins where `cut` does; None when too little of the file is left."""
    try:
        enough = frames_used(info, replace(cut, end_s=None)) >= num_frames
    except ClipRefused:  # no frame begins after start_s
        return None
    if not enough:
        return None
    if cut.resample_fps is not None and retimed(info, cut):
        return replace(cut, end_s=min(cut.start_s + num_frames / cut.resample_fps, info.duration_s))
    stop = info.span(cut.start_s)[0] + num_frames
    return replace(cut, end_s=info.timestamps_s[stop] if stop < info.num_frames else info.duration_s)


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= RATE_TOLERANCE * b


def _factor(ratio: float) -> str:
    return f"{ratio:.3g} times slower" if ratio >= 1 else f"{1 / ratio:.3g} times faster"


def _fits(info: VideoInfo, shape: VideoShape) -> bool:
    return info.constant_rate and _same(info.fps, shape.fps)


def judged_cut(info: VideoInfo, shape: VideoShape, cut: Cut) -> Cut:
    """The cut that a length is judged by: where the rate does not fit, at the one that the rate finding proposes."""
    return replace(cut, resample_fps=shape.fps) if cut.resample_fps is None and not _fits(info, shape) else cut


def _rate(info: VideoInfo, shape: VideoShape, cut: Cut) -> list[Finding]:
    plays = f"the backbone plays {shape.fps:g} frames a second"
    if cut.resample_fps is None:
        if _fits(info, shape):
            if info.fps == shape.fps:
                return []
            return [_info("rate", f"the video has {info.fps:.5g} frames a second, {plays}: taken as the same")]
        kept = replace(cut, resample_fps=shape.fps)
        fix = (exact_cut(info, shape.num_frames, kept) if frames_used(info, kept) > shape.num_frames else None) or kept
        if not info.constant_rate:
            why = f"the frames come at a varying rate (about {info.fps:.4g} a second) and {plays}"
            return [_block("variable_rate", f"{why}: resample_fps={shape.fps:g} re-times them at the true speed", fix)]
        why = f"the video has {info.fps:.5g} frames a second and {plays}: the motion would become"
        choice = f"resample_fps={shape.fps:g} keeps its speed, resample_fps={info.fps:.5g} keeps every frame"
        return [_block("frame_rate", f"{why} {_factor(info.fps / shape.fps)}. Choose: {choice}", fix)]
    found: list[Finding] = []
    if not _same(cut.resample_fps, shape.fps):
        taken, speed = f"taken at {cut.resample_fps:g} frames a second", _factor(cut.resample_fps / shape.fps)
        found.append(_warn("speed", f"{taken}, {plays}: the motion becomes {speed}"))
    if retimed(info, cut):
        rates = f"from {info.fps:.5g} to {cut.resample_fps:g} frames a second"
        found.append(_info("retimed", f"re-timed {rates} at the same speed: frames are repeated or left out"))
    return found


def _length(info: VideoInfo, shape: VideoShape, cut: Cut, frame_multiple: int) -> list[Finding]:
    need = shape.num_frames
    first, stop = info.span(cut.start_s, cut.end_s)
    if stop - first == 1:
        return [_block("one_frame", f"there is one frame only, a motion needs {need}: use a video")]
    cut = judged_cut(info, shape, cut)
    count = frames_used(info, cut)
    rate = cut.resample_fps if cut.resample_fps is not None and retimed(info, cut) else info.fps
    here, wanted = f"{count} frames at {rate:.5g} a second", f"the backbone takes exactly {need} ({need / rate:.3f} s)"
    if count < need:
        less = ", or cut less away" if cut.start_s > 0 or cut.end_s is not None else ""
        fits = (count - 1) // frame_multiple * frame_multiple + 1 if frame_multiple else 1
        fewer = f", or num_frames={fits}, the most of {frame_multiple}k + 1 that it has" if fits > 1 else ""
        return [_block("too_short", f"{here} are too few: {wanted}. Use a longer clip{less}{fewer}")]
    if count > need:
        fix = exact_cut(info, need, cut) or cut
        example = f"start_s={fix.start_s:.3f} and end_s={fix.end_s or 0.0:.3f}"
        choose = f"Choose the part with the motion, for example {example}"
        return [_block("too_long", f"{here} are too many: {wanted}. {choose}", fix)]
    return []


def kept_region(width: int, height: int, shape: VideoShape) -> tuple[int, int]:
    """(width, height) of the middle of a picture that remains when it is cropped to the shape's aspect."""
    if width * shape.height > height * shape.width:
        return max(1, round(height * shape.width / shape.height)), height
    return width, max(1, round(width * shape.height / shape.width))


def _lost(width: int, height: int, shape: VideoShape) -> float:
    """The share of a picture that is cropped away."""
    kept = kept_region(width, height, shape)
    return 1 - kept[0] * kept[1] / (width * height)


def fit(picture_width: int, picture_height: int, shape: VideoShape) -> list[Finding]:
    """What is lost when a picture is cropped and scaled to the shape.

    Of a large crop, whether the shape lying on its other side, which every backbone takes, loses less.
    """
    found: list[Finding] = []
    width, height = kept_region(picture_width, picture_height, shape)
    target = f"{shape.width}x{shape.height}"
    if (width, height) != (picture_width, picture_height):
        lost = _lost(picture_width, picture_height, shape)
        words = f"of {picture_width}x{picture_height} the middle {width}x{height} is kept and made {target}: "
        words += f"{100 * lost:.0f} % of the picture is cut off"
        turned = replace(shape, height=shape.width, width=shape.height)
        less = _lost(picture_width, picture_height, turned)
        if lost > _LARGE_CROP and less < lost:
            words += f". Swap height and width: height={turned.height} and width={turned.width} cut off "
            words += f"{100 * less:.0f} %"
        make = _warn if lost > _LARGE_CROP else _info
        found.append(make("crop", words))
    if height < shape.height:
        words = f"{width}x{height} is enlarged {shape.height / height:.2g} times to the backbone's {target}"
        found.append(_warn("enlarged", f"{words} and stays blurred"))
    return found


# ------------------------------------------------------------------------------------------------ pictures


def thumbnails(frames: Frames) -> Frames:
    """Frames reduced (area averaged) to THUMBNAIL_PX on the shorter side; smaller ones as they are."""
    h, w = frames.shape[1:3]
    scale = THUMBNAIL_PX / min(h, w)
    if scale >= 1:
        return frames
    return _resized(frames, max(THUMBNAIL_PX, round(h * scale)), max(THUMBNAIL_PX, round(w * scale)))


def _resized(frames: Frames, height: int, width: int) -> Frames:
    return np.stack([cv2.resize(f, (width, height), interpolation=cv2.INTER_AREA) for f in frames]).astype(np.uint8)


def _luma(frames: Frames) -> NDArray[np.float32]:
    return frames.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def footage(
    kind: str, width: int, height: int, frames: Frames | None, backbone: str, real: Sequence[str] = REAL_BACKBONES
) -> list[Finding]:
    """Whether this ("video", "picture") of the given size is something else than the puppets that a backbone knows."""
    sized = (width, height) == (_PUPPET_PX, _PUPPET_PX)
    if sized and (frames is None or _flatness(frames) > _PUPPET_FLAT):
        return []
    what = "this picture is none" if sized else f"this {kind} is {width}x{height}"
    instead = f"For real footage use {' or '.join(real)}, with a GPU"
    return [_warn("footage", f"{backbone} only knows {_PUPPET_PX}x{_PUPPET_PX} puppets and {what}. {instead}")]


def _flatness(frames: Frames) -> float:
    """Share of horizontal neighbours alike in the picture without what moves: puppets stand before smooth backdrops."""
    return float((np.abs(np.diff(np.median(_luma(frames), axis=0), axis=1)) <= 3).mean())


def _movement(small: Frames) -> list[Finding]:
    found: list[Finding] = []
    change = (small.max(axis=0).astype(np.int16) - small.min(axis=0)).max(axis=-1)
    moved = float((change > _MOVED_LEVELS).mean())
    if len(small) > 1 and change.max() <= _STILL_LEVELS:
        found.append(_block("still", "nothing moves: there is no motion to learn. Choose another part or another clip"))
    elif len(small) > 1 and moved < _HARDLY_MOVES:
        words = f"only {100 * moved:.2f} % of the picture ever changes"
        found.append(_warn("hardly_moves", f"{words}: is the motion in it?"))
    dark = float((_luma(small).mean(axis=(1, 2)) < _DARK_LUMA).mean())
    if dark > 0.5:
        found.append(_warn("dark", f"{100 * dark:.0f} % of the frames are nearly black: use a brighter clip"))
    return found


def _scenes(small: Frames, info: VideoInfo, first: int, cut: Cut) -> list[Finding]:
    cuts = find_cuts(small)
    if not cuts:
        return []
    edges = [0, *cuts, len(small)]
    start, stop = max(pairwise(edges), key=lambda pair: pair[1] - pair[0])
    begins = info.timestamps_s[first + start]
    ends = info.timestamps_s[first + stop] if first + stop < info.num_frames else info.duration_s
    at = ", ".join(f"{info.timestamps_s[first + index]:.3f} s" for index in cuts)
    longest = f"The longest take is start_s={begins:.3f} to end_s={ends:.3f}"
    fix = replace(cut, start_s=begins, end_s=ends)
    return [_warn("cut", f"the scene seems to change at {at}: a clip should be one take. {longest}", fix)]


def find_cuts(frames: Frames) -> list[int]:
    """Indices of frames that begin a new scene: all colours change at once, and far more than they usually do."""
    if len(frames) < 2:
        return []
    histograms = np.stack([cv2.calcHist([f], [0, 1, 2], None, [8, 8, 8], [0, 256] * 3).ravel() for f in frames])
    histograms /= histograms.sum(axis=1, keepdims=True)
    colours = np.abs(np.diff(histograms, axis=0)).sum(axis=1) / 2
    levels = np.array([cv2.absdiff(a, b).mean() for a, b in pairwise(frames)])
    usual = float(np.median(colours)) if len(colours) > 2 else 0.0
    jumps = (colours > _CUT_HISTOGRAM) & (levels > _CUT_LEVELS) & (colours > 3 * usual)
    return [int(i) + 1 for i in np.flatnonzero(jumps)]


def near_duplicates(clips: Sequence[tuple[str, Frames]]) -> list[Finding]:
    """Named clips that show the same as an earlier one, frame by frame (a copy that is shifted in time is not found).

    Alike is: they differ by less than half of what their own movement changes, at 32 pixels.
    """
    found: list[Finding] = []
    small = [_resized(frames, 32, 32).astype(np.float32) for _, frames in clips]
    energy = [float(np.sqrt(np.square(s - s.mean(axis=0)).mean())) for s in small]
    for j, (name, _) in enumerate(clips):
        for i in range(j):
            if len(small[i]) != len(small[j]):
                continue
            apart = float(np.sqrt(np.square(small[i] - small[j]).mean()))
            own = max(energy[i], energy[j])
            if apart <= _DUPLICATE * own or (apart <= _DUPLICATE_LEVELS and apart <= _DUPLICATE_FAINT * own):
                words = f"{name} shows the same as {clips[i][0]}: it counts twice in training. Remove one"
                found.append(replace(_warn("duplicate", words), clip=name))
                break
    return found
