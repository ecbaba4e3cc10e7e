"""One sampling run along a pipeline's own scheduler, whatever its transformer predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


class FlowSolver:
    """From noise to clean latents: `sigmas` [num_inference_steps + 1] falls from 1 to 0; `step` once for each pair.

    scheduler is a stock one of flow matching; a fresh copy of it steps, since some remember what came before (UniPC, of
    order 2). It is fed velocities: where its config says that the transformer predicts clean latents, the copy's says
    "flow_prediction", which is the same by (3) of diffusion.py. Our transformer is told the exact level; what the stock
    pipelines tell theirs, UniPC rounds to whole thousandths.
    """

    def __init__(self, scheduler: Any, num_inference_steps: int) -> None:
        own = {"prediction_type": "flow_prediction"} if "prediction_type" in scheduler.config else {}
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
