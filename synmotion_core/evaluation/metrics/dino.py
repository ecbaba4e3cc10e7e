"""What DINO sees: whether the subject stays itself, and whether it is the one of the reference clips.

    u[f], r[k]               directions of a video's frame f and of frame k of all clips (pictures.py), by DINO's first
                             token; whole pictures, as VBench takes them

    subject_consistency      (18) of u
    leak                     mean over f of max_k u[f] . r[k]                                                   (21)

Leakage of looks has no standard. (21) is 1 for a clip itself. It also sees what is meant to be alike: the pose of the
motion, a background; so it tells rows apart only where their motion is equally right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from synmotion_core.evaluation.metrics import METRICS, Asked
from synmotion_core.evaluation.metrics.extractors import Extractor, extractor
from synmotion_core.evaluation.metrics.pictures import IMAGENET, Look, check_frames, directions, pixels, steady
from synmotion_core.types import Frames

_BATCH = 32


def score(asked: Asked) -> Mapping[str, Sequence[float]]:
    """subject_consistency; and leak, where there are reference clips."""
    dino = extractor(METRICS["dino"].weights[0], "ViTModel", add_pooling_layer=False)
    found: dict[str, list[float]] = {"subject_consistency": []}
    for shot in asked.shots:
        check_frames(shot.frames, "DINO's consistency")
    seen = [seen_by(dino, shot.frames) for shot in asked.shots]
    found["subject_consistency"] = [steady(own) for own in seen]
    if asked.references:
        clips = torch.cat([seen_by(dino, clip.frames) for clip in asked.references])
        found["leak"] = [float((own @ clips.T).amax(1).mean()) for own in seen]  # (21)
    return found


@torch.no_grad()
def seen_by(dino: Extractor, frames: Frames) -> Tensor:
    """Directions of frames, [F, D]."""
    look = Look(shorter=dino.model.config.image_size, crop=None, by="bilinear", channels=IMAGENET)
    taken = pixels(frames, look).to(dino.device, dino.model.dtype)
    found = [dino.model(some, interpolate_pos_encoding=True).last_hidden_state[:, 0] for some in taken.split(_BATCH)]
    return directions(torch.cat(found))
