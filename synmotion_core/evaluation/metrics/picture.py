"""Image to video: how well a video's first frame keeps the picture that it was to begin with (PSNR)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from synmotion_core.evaluation.figures import decibels
from synmotion_core.evaluation.metrics import Asked


def score(asked: Asked) -> Mapping[str, Sequence[float]]:
    """first_frame_db, where every video has a picture."""
    pictures = [shot.picture for shot in asked.shots]
    if any(picture is None for picture in pictures):
        return {}
    pairs = zip(asked.shots, pictures, strict=True)
    return {"first_frame_db": [decibels(shot.frames[0].astype(float) - picture) for shot, picture in pairs]}
