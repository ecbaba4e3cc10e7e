"""Animated GIF of decoded frames, for places that show no video.

A GIF says how long each frame stays in whole hundredths of a second, so that few rates can be said exactly (20, 25, 50,
10; not 8, 16, 24). Frame i is to appear at i / fps; its delay is

    d_i = round(100 (i + 1) / fps) - round(100 i / fps)

so that no frame is more than half a hundredth early or late, however long the video is. Colours are 256 a frame,
chosen for each frame, not dithered.
"""

from __future__ import annotations

import io
from itertools import pairwise
from typing import TYPE_CHECKING

from synmotion_core.errors import ShapeError

if TYPE_CHECKING:
    from synmotion_core.types import Frames

MOST_FPS = 50.0  # players slow down what stays for less than two hundredths


def delays(count: int, fps: float) -> list[int]:
    """Hundredths of a second that each of `count` frames stays. Raises ShapeError for a rate that no GIF has.

    >>> delays(4, 8.0), delays(2, 25.0)
    ([12, 13, 12, 13], [4, 4])
    """
    if not 0.1 <= fps <= MOST_FPS:
        raise ShapeError(f"a GIF shows 0.1 to {MOST_FPS:g} frames a second, got {fps:g}: take the MP4")
    ends = [int(100 * i / fps + 0.5 - 1e-9) for i in range(count + 1)]
    return [b - a for a, b in pairwise(ends)]


def rounding(count: int, fps: float) -> str | None:
    """What is lost of the rate, as a sentence; None where the rate is exact."""
    own = delays(count, fps)
    if all(abs(delay * fps - 100) < 1e-6 for delay in own):
        return None
    each = " or ".join(str(delay) for delay in sorted(set(own)))
    return (
        f"GIF counts whole hundredths of a second: at {fps:g} frames a second each stays for {each} of them, "
        f"{sum(own) / 100:g} s in all instead of {count / fps:g}."
    )


def gif(frames: Frames, fps: float) -> bytes:
    """uint8 [F, H, W, 3] RGB as a GIF that repeats for ever. Raises ShapeError for no frames or an impossible rate."""
    from PIL import Image

    if not len(frames):
        raise ShapeError("a GIF needs a frame, got none")
    pictures = [
        Image.fromarray(frame).quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE) for frame in frames
    ]
    out = io.BytesIO()
    pictures[0].save(
        out, "GIF", save_all=True, append_images=pictures[1:], loop=0, optimize=False,
        duration=[delay * 10 for delay in delays(len(frames), fps)],
    )  # fmt: skip
    return out.getvalue()
