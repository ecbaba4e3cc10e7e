"""Motion fidelity (Yatim et al., 2311.17009): do points of the video move as points of a reference clip do?

    corr(g, r)     mean over steps t of cos(v_g[t], v_r[t]), v the displacements of tracks g and r; 1 where both rest,
                   0 where one does: a step of a hundredth of the longest has no direction
    MF             1/2 [ 1/m sum_g max_r corr(g, r)  +  1/n sum_r max_g corr(g, r) ]                            (17)
    result         the largest MF over the reference clips: the nearest performance
    floor          the same with the steps of every clip in another order, at random: what chance gives

Tracks: a regular grid on the first frame, followed by pyramidal Lucas-Kanade (OpenCV, no weights), forward and back;
those that get lost or do not come back are dropped, and those that hardly move. The common script drops neither, is
one-sided and takes an identity matrix off, so that a video scores 0.52 against itself; here that is 1. A video in
which nothing moves agrees with nothing: 0. Maxima over many points are high by chance, too, so the floor belongs to it.

It separates large motions of the body, not small ones of the hands. True renders by unseen species, clips of a person:

    asked to pray, shown a squat        0.52 to 0.70 (floor 0.22 to 0.30)
    asked to salute, shown a lifted arm 0.54 to 0.82
    asked to salute, shown a salute     0.62 to 0.91, with a floor of 0.54 to 0.72
    asked to clap, shown a clap         0.00 to 0.76

The floor is high where a clip moves alike in every step. 0 is also said of a small motion of which no track is left (a
clap of short arms): not measured rather than wrong, and so is its floor, so that the difference of the two is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from synmotion_core.evaluation.metrics import Asked
from synmotion_core.types import Frames

GRID = 24  # points along a side
MOST_REFERENCES = 8  # clips that are compared with, the first ones
_LOST_PX = 1.0  # forward and back ends farther from its start, at a side of 64
_STILL = 0.02  # of the shorter side: a track with a shorter path does not move
_WINDOW = 11
_LEAST_SIDE = 128  # small pictures are enlarged: the window is in pixels

Tracks = NDArray[np.float64]


def score(asked: Asked) -> Mapping[str, Sequence[float]]:
    """fidelity and fidelity_floor, where there are reference clips."""
    if not asked.references:
        return {}
    clips = [tracks(shot.frames) for shot in asked.references[:MOST_REFERENCES]]
    found: dict[str, list[float]] = {"fidelity": [], "fidelity_floor": []}
    for shot in asked.shots:
        own = tracks(shot.frames)
        against = [_as_long(clip, own.shape[1]) for clip in clips]
        found["fidelity"].append(max(motion_fidelity(own, clip) for clip in against))
        found["fidelity_floor"].append(max(motion_fidelity(own, _mixed(clip)) for clip in against))
    return found


def tracks(frames: Frames) -> Tracks:
    """Displacements [points, F - 1, 2] of the points that move and are never lost, in parts of the shorter side."""
    if len(frames) < 2:
        raise ValueError(f"tracks need at least two frames, got {len(frames)}")
    grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in frames]
    scale = max(1.0, _LEAST_SIDE / min(grey[0].shape))
    if scale > 1:
        grey = [cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC) for frame in grey]
    height, width = grey[0].shape
    side = min(height, width)
    xs, ys = ((np.arange(GRID) + 0.5) / GRID * size for size in (width, height))
    path = [np.stack(np.meshgrid(xs, ys), -1).reshape(-1, 1, 2).astype(np.float32)]
    kept = np.ones(len(path[0]), bool)
    for before, after in pairwise(grey):
        there, seen = _follow(before, after, path[-1])
        back, back_seen = _follow(after, before, there)
        far = np.linalg.norm((back - path[-1])[:, 0], axis=-1)
        kept &= (seen & back_seen).astype(bool) & (far < _LOST_PX * side / 64)
        path.append(there)
    places = np.stack(path)[:, :, 0].transpose(1, 0, 2).astype(np.float64) / side
    steps = np.diff(places, axis=1)
    kept &= np.isfinite(steps).all((1, 2))
    return steps[kept & (np.linalg.norm(steps, axis=-1).sum(1) > _STILL)]


def _follow(before: Any, after: Any, points: Any) -> tuple[Any, Any]:
    found, seen, _ = cv2.calcOpticalFlowPyrLK(
        before, after, points, points.copy(), winSize=(_WINDOW, _WINDOW), maxLevel=3
    )
    return found, seen[:, 0]


def motion_fidelity(video: Tracks, clip: Tracks) -> float:
    """(17) of displacements [m, T, 2] and [n, T, 2]; 0 where one of them does not move."""
    if not len(video) or not len(clip):
        return 0.0
    (one, rests), (other, too) = _directions(video), _directions(clip)
    corr = (np.einsum("gtc,rtc->gr", one, other) + np.einsum("gt,rt->gr", rests, too)) / video.shape[1]
    return float((corr.max(1).mean() + corr.max(0).mean()) / 2)


def _directions(steps: Tracks) -> tuple[Tracks, Tracks]:
    """Unit vectors [points, T, 2], zero at rest; and 1 at rest, else 0 [points, T]."""
    norms = np.linalg.norm(steps, axis=-1)
    rests = norms <= 1e-2 * norms.max()
    return steps / np.where(rests, np.inf, norms)[..., None], rests.astype(np.float64)


def _as_long(steps: Tracks, length: int) -> Tracks:
    """The same paths in as many steps: places between two frames are in between."""
    if steps.shape[1] == length:
        return steps
    places = np.concatenate([np.zeros_like(steps[:, :1]), steps.cumsum(1)], axis=1)
    at = np.linspace(0, places.shape[1] - 1, length + 1)
    low = np.minimum(at.astype(int), places.shape[1] - 2)
    share = (at - low)[:, None]
    return np.diff(places[:, low] * (1 - share) + places[:, low + 1] * share, axis=1)


def _mixed(steps: Tracks) -> Tracks:
    order = np.random.default_rng(0).permutation(steps.shape[1])
    return steps[:, order]
