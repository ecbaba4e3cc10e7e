"""The noise that a clip comes from: sampling's own steps, backwards, by the base alone and without words.

    x_{s'} = x_s + (s' - s) v(x_s, s'),   s' > s, from s = 0                          (11)

DDIM inversion (a step of DDIM is one of Euler: diffusion.py). The model is asked at the noisier of the two levels, as
MotionDirector's code does: none can be asked at 0, and the exact inverse of a step would be asked there as well. We ask
it of x_s in the scale of (1), MotionDirector's code of z_t, which is the same where steps are small.
A video that begins with a part of this noise takes over how the clip is laid out, and with it some of its motion.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Generator
from itertools import pairwise

import torch
from torch import Tensor

from synmotion_core.errors import Cancelled
from synmotion_core.interfaces import Backbone, autocast_dtype
from synmotion_core.types import Event, Progress, Started, TextCondition, VideoShape


@torch.no_grad()
def invert(
    backbone: Backbone,
    latents: Tensor,
    null: TextCondition,
    shape: VideoShape,
    num_inference_steps: int,
    *,
    flow_shift: float | None = None,
    mixed_precision: str = "bf16",
    cancel: threading.Event | None = None,
) -> Generator[Event, None, Tensor]:
    """latents [1, C, f, h, w] of a clip, by `encode_video` -> x of the sampling's first level, the same shape, float32.

    null: no words, [1], by `encode_text`. Yields Progress a step; raises Cancelled between two of them. A distilled
    denoiser is asked at the guidance that it is trained at, the nearest to none.
    """
    condition = dataclasses.replace(null.as_condition(), guidance=None)
    sigmas = backbone.solver(num_inference_steps, shape, 0.0, flow_shift).sigmas.flip(0).tolist()  # from 0 upwards
    x = latents.to(backbone.device).float()
    yield Started(what="invert", total=len(sigmas) - 1)
    for index, (now, then) in enumerate(pairwise(sigmas)):
        if cancel is not None and cancel.is_set():
            raise Cancelled("stopped by request")
        level = torch.full((len(x),), then, device=backbone.device)
        with torch.autocast(backbone.device.type, autocast_dtype(backbone), enabled=mixed_precision == "bf16"):
            velocity = backbone.predict(x, level, condition)
        x = x + (then - now) * velocity.float()  # (11)
        yield Progress(stage="invert", step=index + 1, total=len(sigmas) - 1)
    return x
