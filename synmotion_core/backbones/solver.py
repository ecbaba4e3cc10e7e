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
    thousandths. flow_shift replaces the scheduler's own shift of the levels; own_levels leaves them to the scheduler.

    eta in 0..1 replaces a part of the noise at every step by fresh noise (an ancestral step, of first order), so that
    what an earlier step got wrong can still be put right; 0 leaves the steps to the scheduler. Flow-matching schedulers
    of diffusers know none or all of it (`stochastic_sampling`), hence our own, with the split of ComfyUI's
    `sample_euler_ancestral_RF`: from s to s', with x the clean latents of (3) in diffusion.py and n fresh noise,

        d    = s' (1 + eta (s' / s - 1))                                     the level that is kept
        x_s' = (1 - s') / (1 - d) (x + d / s (x_s - x)) + sqrt(s'^2 - d^2 (1 - s')^2 / (1 - d)^2) n

    which is (1 - s') x plus noise of level s', as (1) there asks for.
    """

    def __init__(
        self,
        scheduler: Any,
        num_inference_steps: int,
        eta: float = 0.0,
        flow_shift: float | None = None,
        *,
        own_levels: bool = False,
    ) -> None:
        if not 0 <= eta <= 1:
            raise ConfigError(f"eta must be between 0 (no fresh noise) and 1, got {eta}")
        self.eta = eta
        own: dict[str, Any] = {"prediction_type": _VELOCITY} if predicts_clean(scheduler) else {}
        if flow_shift is not None:
            own["flow_shift" if "flow_shift" in scheduler.config else "shift"] = flow_shift
        self._scheduler = type(scheduler).from_config(scheduler.config, **own)
        if own_levels:  # as Wan's pipeline asks
            self._scheduler.set_timesteps(num_inference_steps, device="cpu")
        else:  # as HunyuanVideo's do: evenly from 1, then shifted by the scheduler
            self._scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, num_inference_steps + 1)[:-1], device="cpu")
        self._scheduler.set_begin_index(0)
        self._taken = 0
        self.sigmas: Tensor = self._scheduler.sigmas.float()

    def start(self, latents: Tensor) -> Tensor:
        """As they are: at the level 1 there is nothing but noise."""
        return latents

    def step(self, velocity: Tensor, latents: Tensor, noise: Tensor | None = None) -> Tensor:
        """From sigmas[k] to sigmas[k + 1], k = 0, 1, ... by call. float32 in and out, also under autocast.

        noise: standard normal, of the latents' shape; needed by every step when eta is above 0, else left alone.
        """
        taken, self._taken = self._taken, self._taken + 1
        with torch.autocast(latents.device.type, enabled=False):
            if self.eta:
                if noise is None:
                    raise ValueError("a step with eta above 0 needs noise")
                now, then = self.sigmas[taken].item(), self.sigmas[taken + 1].item()
                return _ancestral(velocity.float(), latents.float(), noise.float(), now, then, self.eta)
            timestep = self._scheduler.timesteps[taken]
            return self._scheduler.step(velocity.float(), timestep, latents.float(), return_dict=False)[0]


def _ancestral(velocity: Tensor, latents: Tensor, noise: Tensor, now: float, then: float, eta: float) -> Tensor:
    clean = latents - now * velocity
    kept = then * (1 + eta * (then / now - 1))
    shrink = (1 - then) / (1 - kept)
    fresh = max(then**2 - (kept * shrink) ** 2, 0.0) ** 0.5
    return shrink * (clean + kept / now * (latents - clean)) + fresh * noise
