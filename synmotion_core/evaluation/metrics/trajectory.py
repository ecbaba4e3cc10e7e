"""How a puppet moves, beside whether the judge names the motion: joints over time against renders of the true motion.

    p[f, j]     where the judge's eyes see joint j in frame f, in body heights, the pelvis on average at zero
    error       min over true renders r of the mean over f, j of |p[f, j] - r[f, j]|                            (13)
    amplitude   movement of p over the mean movement of the renders r; movement is the root of the mean over j of the
                variance of p[., j]                                                                             (14)

The renders are of the species that was asked for, in `MANNERS` ways (tempo, phase, the side that leads, view), and are
seen by the same eyes, so that what these miss (the far hand of a turning puppet) is missed on both sides. An error is
the distance to the nearest way of doing it right: renders of the motion itself come to 0.02 to 0.05. It separates large
motions (others are 0.07 to 0.5 away), not small ones of the hands: asked to salute, a lifted arm comes to 0.029 to
0.052 and standing to 0.038 to 0.069; asked to pray, a salute to 0.047 to 0.066. It shares the judge's eyes, not its
verdict: read them beside each other. A still clip has an amplitude up to 0.1 instead of 0: the eyes look one frame back
and one ahead, and at the ends there is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synmotion_core.evaluation.metrics import Asked
from synmotion_core.evaluation.metrics.verdicts import judge
from synmotion_core.puppets.judge import Judge
from synmotion_core.puppets.stage import BACKGROUNDS, COLOURS, Scene, render

MANNERS = 32
BODY_PX = 43.0  # the middle of what the stage draws: 41 to 45
_SEED = 1_000_000  # of the true renders; no clip or corpus has these

Joints = NDArray[np.float64]


def score(asked: Asked) -> Mapping[str, Sequence[float]]:
    """error and amplitude."""
    fits = _trajectories().fit(
        [shot.frames for shot in asked.shots], [shot.species for shot in asked.shots], asked.motion
    )
    return {"error": [fit.error for fit in fits], "amplitude": [fit.amplitude for fit in fits]}


@cache
def _trajectories() -> Trajectories:
    return Trajectories(judge())


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """error of (13) in body heights, 0 exactly as a render; amplitude of (14), 0 to 0.1 still, 1 as the renders."""

    error: float
    amplitude: float


class Trajectories:
    """Fits of videos, with the true renders of each (species, motion) made once."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._true: dict[tuple[str, str], Joints] = {}

    def fit(self, frames: Sequence[NDArray[Any]], species: Sequence[str], motion: str) -> list[Fit]:
        """frames as `Judge.judge` takes them, with the species that was asked of each; motion is the true one."""
        return [
            self._fit(seen, self._renders(name, motion))
            for seen, name in zip(self._paths(frames), species, strict=True)
        ]

    def nearest(self, frames: Sequence[NDArray[Any]], species: Sequence[str], motions: Sequence[str]) -> list[str]:
        """Of each video the motion whose error is the least: a verdict by movement alone."""
        found = []
        for seen, name in zip(self._paths(frames), species, strict=True):
            errors = {motion: self._fit(seen, self._renders(name, motion)).error for motion in motions}
            found.append(min(errors, key=lambda motion: errors[motion]))
        return found

    def _fit(self, seen: Joints, true: Joints) -> Fit:
        distance = np.linalg.norm(seen - true, axis=-1).mean((1, 2))  # (13)
        return Fit(error=float(distance.min()), amplitude=float(_movement(seen) / _movement(true).mean()))

    def _paths(self, frames: Sequence[NDArray[Any]]) -> Joints:
        joints = self._judge.joints(frames).astype(np.float64) / BODY_PX
        return joints - joints[:, :, :1].mean(1, keepdims=True)

    def _renders(self, species: str, motion: str) -> Joints:
        if (species, motion) not in self._true:
            colours, backgrounds = list(COLOURS), list(BACKGROUNDS)
            scenes = (
                Scene(
                    species=species,
                    colour=colours[i % len(colours)],
                    background=backgrounds[i % len(backgrounds)],
                    motion=motion,
                    seed=_SEED + i,
                )
                for i in range(MANNERS)
            )
            self._true[species, motion] = self._paths([render(scene).frames for scene in scenes])
        return self._true[species, motion]


def _movement(joints: Joints) -> Any:
    """[..., F, J, 2] -> [...], body heights."""
    return np.sqrt(joints.var(axis=-3).sum(-1).mean(-1))  # (14)
