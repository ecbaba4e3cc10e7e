"""What a pipeline's scheduler says of its transformer, and one sampling run along it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from synmotion_core.errors import ConfigError

_CLEAN, _VELOCITY = "sample", "flow_prediction"  # diffusers' words; a scheduler without the setting takes velocities


def predicts_clean(scheduler: Any) -> bool:
    """Whether the transformer predicts clean latents; else velocities. Raises ConfigError for anything but these."""
    kind = scheduler.config.get("prediction_type", _VELOCITY)
    if kind not in (_CLEAN, _VELOCITY):
        raise ConfigError(f"prediction_type is {kind!r}; flow matching has {_CLEAN!r} and {_VELOCITY!r}")
    return kind == _CLEAN


class FlowSolver:
    """From noise to clean latents: `sigmas` [num_inference_steps + 1] falls from 1 to 0; `step` once for each pair.

    scheduler is a stock one of flow matching; a fresh copy of it steps, since some remember what came before (UniPC, of
    order 2). It is fed velocities: the copy of one that takes clean latents is set to them, which is the same by (3) of
    diffusion.py. Our transformer is told the exact level; what the stock pipelines tell theirs, UniPC rounds to whole
    thousandths.
    """

    def __init__(self, scheduler: Any, num_inference_steps: int) -> None:
        own = {"prediction_type": _VELOCITY} if predicts_clean(scheduler) else {}
        self._scheduler = type(scheduler).from_config(scheduler.config, **own)
        # the pipelines ask for the same: evenly from 1, then shifted by the scheduler
        self._scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, num_inference_steps + 1)[:-1], device="cpu")
        self._scheduler.set_begin_index(0)
        self._taken = 0
        self.sigmas: Tensor = self._scheduler.sigmas.float()

    def step(self, velocity: Tensor, latents: Tensor) -> Tensor:
        """From sigmas[k] to sigmas[k + 1], k = 0, 1, ... by call. float32 in and out, also under autocast."""
        timestep = self._scheduler.timesteps[self._taken]
        self._taken += 1
        with torch.autocast(latents.device.type, enabled=False):
            return self._scheduler.step(velocity.float(), timestep, latents.float(), return_dict=False)[0]
