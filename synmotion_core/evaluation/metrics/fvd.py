"""Frechet distance of a unit's videos and its reference clips, in the features of V-JEPA 2: FVD-VJEPA2.

    feature      mean over all tokens of the encoder's last layer, one a video
    d            |m - n|^2 + tr(A) + tr(B) - 2 tr((A^(1/2) B A^(1/2))^(1/2))                                    (22)
                 m, A and n, B: mean and covariance (over count - 1) of the features of videos and of clips

With centred rows X, Y over the roots of count - 1, A = X'X and B = Y'Y, and the last trace is the sum of the singular
values of X Y', a matrix of counts: no root of a large matrix that has next to no rank.

Covariances of few videos make d larger than of many, by much where features are longer than videos are many: compare
it only at equal counts, never with a paper's. Published FVD is by I3D, whose weights have no licence.

A model takes `frames_per_clip` frames: evenly from the first to the last, repeated where a video is shorter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from synmotion_core.evaluation.metrics import METRICS, Asked, Shot
from synmotion_core.evaluation.metrics.extractors import Extractor, extractor
from synmotion_core.evaluation.metrics.pictures import IMAGENET, Look, pixels, spread

Features = NDArray[np.float64]


def score(asked: Asked) -> Mapping[str, Sequence[float]]:
    """fvd, where there are two videos and two clips at least."""
    if min(len(asked.shots), len(asked.references)) < 2:
        return {}
    jepa = extractor(METRICS["fvd"].weights[0], "VJEPA2Model")
    made, clips = (np.stack([feature(jepa, shot) for shot in shots]) for shots in (asked.shots, asked.references))
    return {"fvd": [frechet(made, clips)]}


@torch.no_grad()
def feature(jepa: Extractor, shot: Shot) -> Features:
    """Of one video, [D]."""
    config = jepa.model.config
    taken = shot.frames[spread(len(shot.frames), config.frames_per_clip)]
    look = Look(shorter=int(config.crop_size * 256 / 224), crop=config.crop_size, by="bilinear", channels=IMAGENET)
    video = pixels(taken, look)[None].to(jepa.device, jepa.model.dtype)
    return jepa.model(video, skip_predictor=True).last_hidden_state[0].double().mean(0).cpu().numpy()


def frechet(one: Features, other: Features) -> float:
    """(22) of features [n, D] and [m, D], two at least of each. Raises ValueError for fewer."""
    if min(len(one), len(other)) < 2:
        raise ValueError(f"a covariance needs two features at least, got {len(one)} and {len(other)}")
    means = one.mean(0), other.mean(0)
    x, y = ((own - mean) / np.sqrt(len(own) - 1) for own, mean in zip((one, other), means, strict=True))
    shared = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    found = np.square(means[0] - means[1]).sum() + np.square(x).sum() + np.square(y).sum() - 2 * shared
    return max(0.0, float(found))  # below by rounding alone
