"""How much moves, and how smoothly: dense optical flow between frames (OpenCV's DIS, which needs no weights).

    flow         mean length of the flow vectors, in percent of the picture's height a frame
    dynamic      VBench's dynamic degree: one bit. Frames at about 8 a second; a step moves where the mean of its
                 longest 5 % vectors exceeds 6 px at a shorter side of 256; dynamic if 4 in 16 steps do. VBench
                 reads RAFT
    smoothness   VBench's motion smoothness: frames in between are guessed from their neighbours, 1 - mean |error|
                 / 255. VBench asks the interpolator AMT; here the neighbours are warped half way and averaged

A still video is perfectly smooth: read smoothness beside flow, never alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synmotion_core.evaluation.metrics import Asked, Shot
from synmotion_core.types import Frames

_FPS, _MOVES_PX, _AT_SIDE, _FASTEST, _STEPS, _OF = 8.0, 6.0, 256, 0.05, 4, 16  # VBench's
_LEAST_SIDE = 64  # DIS's patches need some pixels: smaller pictures are enlarged for it

Flow = NDArray[Any]


def score(asked: Asked) -> Mapping[str, Sequence[float]]:
    """flow, dynamic and smoothness."""
    found = [_score(shot) for shot in asked.shots]
    return {name: [one[name] for one in found] for name in ("flow", "dynamic", "smoothness")}


def _score(shot: Shot) -> dict[str, float]:
    if len(shot.frames) < 3:
        raise ValueError(f"flow needs at least three frames, got {len(shot.frames)}")
    height, width = shot.frames.shape[1:3]
    steps = _steps(shot.frames)
    every = max(1, round(shot.fps / _FPS))
    thinned = _steps(shot.frames[::every]) if 1 < every < len(shot.frames) else steps
    limit = _MOVES_PX * min(height, width) / _AT_SIDE
    moves = sum(_fastest(one) > limit for one in thinned)
    return {
        "flow": 100 * float(np.mean([one.mean() for one in steps])) / height,
        "dynamic": float(moves >= max(1, round(_STEPS * len(thinned) / _OF))),
        "smoothness": _smoothness(shot.frames),
    }


def _steps(frames: Frames) -> list[Any]:
    """Lengths [H, W] from each frame to the next."""
    return [length(between(a, b)) for a, b in pairwise(frames)]


def between(first: Frames, second: Frames) -> Flow:
    """[H, W, 2] in pixels, x then y: where each pixel of the first picture is in the second."""
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in (first, second)]
    side = min(grey[0].shape)
    scale = max(1.0, _LEAST_SIDE / side)
    if scale > 1:
        grey = [cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR) for frame in grey]
    found = np.asarray(_dis().calc(grey[0], grey[1], None), np.float32)  # type: ignore[call-overload]
    if scale > 1:
        height, width = first.shape[:2]
        found = cv2.resize(found, (width, height), interpolation=cv2.INTER_AREA) / scale
    return found


@cache
def _dis() -> Any:
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


def length(flow: Flow) -> Any:
    """[H, W] of [H, W, 2]."""
    return np.linalg.norm(flow, axis=-1)


def _fastest(lengths: Any) -> float:
    flat = np.sort(lengths, axis=None)
    return float(flat[-max(1, round(_FASTEST * flat.size)) :].mean())


def _smoothness(frames: Frames) -> float:
    errors = []
    for before, here, after in zip(frames[:-2:2], frames[1:-1:2], frames[2::2], strict=True):
        onward, back = between(before, after) / 2, between(after, before) / 2
        guess = (_warped(before, onward) + _warped(after, back)) / 2
        errors.append(np.abs(guess - here.astype(np.float32)).mean())
    return 1 - float(np.mean(errors)) / 255


def _warped(frame: Frames, flow: Flow) -> Any:
    """The frame moved along the flow: each pixel is taken from where the flow at its place comes from."""
    height, width = frame.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    own = np.ascontiguousarray(frame).astype(np.float32)
    return cv2.remap(own, x - flow[..., 0], y - flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
