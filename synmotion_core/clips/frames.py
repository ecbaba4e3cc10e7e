"""What is done to frames in memory: re-timing, pairs side by side, contact sheets.

Re-timing keeps the speed and changes the number of frames. Frame k of the result is the one that was on screen at k
/ target_fps; every k with k / target_fps < seconds exists. So frames are repeated or left out, never blended.
(MoviePy finds the frame on screen; the counting is ours, because its own iteration loses the last frame.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from synmotion_core.clips.video import TIME_TOLERANCE_S
from synmotion_core.errors import ShapeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from synmotion_core.types import Frames


def resampled_count(seconds: float, target_fps: float) -> int:
    """Frames of `resample`, at least 1.

    >>> resampled_count(2.125, 8.0), resampled_count(2.125, 16.0), resampled_count(3.0625, 24.0)
    (17, 34, 74)
    """
    return max(1, math.ceil((seconds - TIME_TOLERANCE_S) * target_fps))


def resample(
    frames: Frames,
    fps: float,
    target_fps: float,
    *,
    timestamps_s: Sequence[float] | None = None,
    seconds: float | None = None,
) -> Frames:
    """Re-time [F, H, W, 3] from fps to target_fps: resampled_count(seconds, target_fps) frames at the same speed.

    timestamps_s (from 0, never falling) says when each frame appears, for a video of variable rate; the default is
    i / fps. Of two at one time the later is seen.
    seconds is the length on screen, F / fps by default. Raises ShapeError for an impossible rate or impossible times.
    """
    if not (fps > 0 and target_fps > 0):
        raise ShapeError(f"frame rates must be positive, got {fps:g} and {target_fps:g}")
    times = [i / fps for i in range(len(frames))] if timestamps_s is None else [float(t) for t in timestamps_s]
    length = len(frames) / fps if seconds is None else seconds
    rising = all(a <= b for a, b in pairwise(times))
    if len(times) != len(frames) or not times or not rising or abs(times[0]) > TIME_TOLERANCE_S:
        raise ShapeError(f"{len(frames)} frames need as many rising times that begin at 0, got {len(times)}")
    if length <= times[-1] - TIME_TOLERANCE_S:
        raise ShapeError(f"the last frame appears at {times[-1]:g} s, after the end at {length:g} s")
    out = frames[list(picks(times, length, target_fps))]
    assert out.shape == (resampled_count(length, target_fps), *frames.shape[1:]), out.shape
    return out


def picks(timestamps_s: Sequence[float], seconds: float, target_fps: float) -> tuple[int, ...]:
    """Which frames `resample` takes: for each k the number of the one on screen at k / target_fps.

    timestamps_s go from 0 and never fall, the last one is before `seconds`. Of two at one time the later is seen.

    >>> picks([0.0, 0.25, 0.5, 0.75], 1.0, 2.0), picks([0.0, 0.5], 1.0, 4.0)
    ((0, 2), (0, 0, 1, 1))
    """
    from moviepy import ImageSequenceClip

    durations = [b - a for a, b in pairwise(timestamps_s)]
    last = max(seconds - timestamps_s[-1], TIME_TOLERANCE_S)
    labels = [np.array([[[i & 255, i >> 8 & 255, i >> 16]]], np.uint8) for i in range(len(timestamps_s))]
    clip: Any = ImageSequenceClip(labels, durations=[*durations, last])  # its frames say their own numbers
    shown = [clip.get_frame(k / target_fps + TIME_TOLERANCE_S) for k in range(resampled_count(seconds, target_fps))]
    return tuple(int(label[0, 0] @ (1, 1 << 8, 1 << 16)) for label in shown)


def side_by_side(left: Frames, right: Frames, *, gap: int = 0) -> Frames:
    """Two videos of one length and height in one picture, `gap` white pixels between. Raises ShapeError otherwise."""
    if left.shape[:2] != right.shape[:2]:
        sizes = " and ".join(f"{v.shape[0]} frames of height {v.shape[1]}" for v in (left, right))
        raise ShapeError(f"side by side needs the same number of frames and height, got {sizes}")
    between = np.full((*left.shape[:2], gap, 3), 255, np.uint8)
    return np.concatenate([left, between, right], axis=2)


def contact_sheet(
    videos: Sequence[Frames], labels: Sequence[str], *, columns: int = 8, scale: int = 1, label_px: int = 120
) -> NDArray[np.uint8]:
    """One row a video: its label, then `columns` frames spread evenly from the first to the last. uint8 [H, W, 3].

    A label is broken into lines; "..." ends one that is longer than its row is high.

    A video with fewer frames shows them all. Raises ShapeError unless all have one picture size and a label each.
    """
    if not videos or len(videos) != len(labels):
        raise ShapeError(f"a contact sheet needs a label for each video, got {len(labels)} for {len(videos)} videos")
    h, w = videos[0].shape[1:3]
    for video in videos:
        if video.shape[1:3] != (h, w):
            other = f"{video.shape[2]}x{video.shape[1]}"
            raise ShapeError(f"a contact sheet needs one picture size, got {w}x{h} and {other}")
    h, w = h * scale, w * scale
    sheet = np.full((len(videos) * (h + 2), label_px + columns * (w + 2), 3), 255, np.uint8)
    for row, (video, label) in enumerate(zip(videos, labels, strict=True)):
        top = row * (h + 2)
        sheet[top : top + h, :label_px] = _label(label, label_px, h)
        picks = np.linspace(0, len(video) - 1, min(columns, len(video))).round().astype(int)
        for column, index in enumerate(picks):
            picture = cv2.resize(video[index], (w, h), interpolation=cv2.INTER_NEAREST)
            at = label_px + column * (w + 2)
            sheet[top : top + h, at : at + w] = picture
    return sheet


def _label(text: str, width: int, height: int) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw, ImageFont  # not OpenCV's font: it has ASCII only

    font, inside, leading = ImageFont.load_default(11), width - 6, 12
    lines: list[str] = []
    for given in text.splitlines():
        line = ""
        for word in given.split():
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > inside:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    room = max(1, (height - 3) // leading)
    if len(lines) > room:
        lines[room - 1 :] = [f"{lines[room - 1]} \u2026"]
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    for i, line in enumerate(lines):
        pen.text((3, 2 + i * leading), line, fill="black", font=font)
    return np.asarray(image)


def png(image: NDArray[np.uint8]) -> bytes:
    """RGB uint8 [H, W, 3] as PNG."""
    ok, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not ok:
        raise ShapeError(f"cannot make a PNG of {image.dtype} {list(image.shape)}")
    return data.tobytes()
