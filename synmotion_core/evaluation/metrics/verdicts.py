"""What the puppets' judge names in a video: its motion, species and colour; and whether that is the clips' person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from synmotion_core.evaluation.metrics import Asked
from synmotion_core.evaluation.tasks import REFERENCE
from synmotion_core.puppets.judge import Judge


@cache
def judge() -> Judge:
    """The judge that ships, loaded once."""
    return Judge.load()


def score(asked: Asked) -> Mapping[str, Sequence[float]]:
    """motion, species, colour, as_person; and common, where there are videos of known motions."""
    seen = judge().judge([shot.frames for shot in asked.shots])
    found = {
        "motion": [v == shot.motion for v, shot in zip(seen.motion, asked.shots, strict=True)],
        "species": [v == shot.species for v, shot in zip(seen.species, asked.shots, strict=True)],
        "colour": [v == shot.colour for v, shot in zip(seen.colour, asked.shots, strict=True)],
        "as_person": [v == REFERENCE for v in seen.species],
    }
    if asked.known:
        motions = judge().judge([shot.frames for shot in asked.known]).motion
        found["common"] = [v == shot.motion for v, shot in zip(motions, asked.known, strict=True)]
    return found
