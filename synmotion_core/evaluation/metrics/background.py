"""Whether the background stays: the sides of the picture, which a puppet in the middle hardly reaches.

    rim      RIM of the picture at its left and right, and at the top as much in the outer quarters
    still    its median over time, in I2V as the first picture has it
    result   PSNR of all frames' rims against that

True performances come to 100, or 22 to 32 where legs reach so far (handstand): read it beside another row's. Only for a
camera that does not move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from synmotion_core.evaluation.figures import decibels
from synmotion_core.evaluation.metrics import Asked, Shot

RIM = 0.08  # of the shorter side


def score(asked: Asked) -> Mapping[str, Sequence[float]]:
    """background_db."""
    return {"background_db": [_stays(shot) for shot in asked.shots]}


def _stays(shot: Shot) -> float:
    height, width = shot.frames.shape[1:3]
    wide = max(1, round(RIM * min(height, width)))
    rim = np.zeros((height, width), bool)
    rim[:, :wide] = rim[:, -wide:] = rim[:wide, : width // 4] = rim[:wide, -(width // 4) :] = True
    found = shot.frames[:, rim].astype(float)
    still = np.median(found, axis=0) if shot.picture is None else shot.picture[rim].astype(float)
    return decibels(found - still)
