"""DDIM for models that predict noise, or clean latents, at whole timesteps: one sampling run in the house's terms.

The stock scheduler steps, in its own scale; (7) of diffusion.py leads there and back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from synmotion_core.diffusion import (
    EpsilonPrediction,
    clean_from_velocity,
    expand,
    variance_scale,
    velocity_from_clean,
)
from synmotion_core.errors import ConfigError

KINDS = ("epsilon", "sample", "v_prediction")


def velocity_of(kind: str, predicted: Tensor, noisy_latents: Tensor, sigmas: Tensor) -> Tensor:
    """What a model says of z_t, as the velocity (2) at x_s.

    kind as diffusers' prediction_type: "epsilon" is the noise, "sample" the clean latents, "v_prediction" the velocity
    of Salimans and Ho (2022), sqrt(a_t) noise - sqrt(1 - a_t) x. sigmas below 1 for "epsilon", above 0 for
    "sample".
    """
    if kind == "sample":
        return velocity_from_clean(noisy_latents, predicted, sigmas)
    s = expand(sigmas, noisy_latents)
    if kind == "epsilon":
        return (predicted - noisy_latents) / (1 - s)  # (3), solved for v
    scale = variance_scale(s)
    signal, noise, z = (1 - s) * scale, s * scale, noisy_latents * scale
    return (signal * predicted + noise * z) - (signal * z - noise * predicted)  # noise - x


class DDIMSolver:
    """From noise to clean latents by a stock DDIMScheduler; `sigmas` are the levels of its timesteps, then 0.

    eta is DDIM's own: 0 is deterministic, 1 draws as much fresh noise as DDPM. Raises ConfigError for an eta outside
    0..1, and for a flow_shift, which these schedulers have not.
    """

    def __init__(
        self,
        scheduler: Any,
        diffusion: EpsilonPrediction,
        num_inference_steps: int,
        eta: float = 0.0,
        flow_shift: float | None = None,
    ) -> None:
        if not 0 <= eta <= 1:
            raise ConfigError(f"eta must be between 0 (no fresh noise) and 1, got {eta}")
        if flow_shift is not None:
            raise ConfigError(f"flow_shift {flow_shift:g} is of flow matching, and this model has none: leave it out")
        self.eta = eta
        self._scheduler = type(scheduler).from_config(scheduler.config, prediction_type="sample")
        self._scheduler.set_timesteps(num_inference_steps)
        self._timesteps: list[int] = self._scheduler.timesteps.tolist()
        self._taken = 0
        self.sigmas = torch.cat([diffusion.levels[self._timesteps], torch.zeros(1)])

    def start(self, latents: Tensor) -> Tensor:
        """Noise of variance 1 is taken for z of the first level, as these pipelines do, although it holds no signal."""
        return latents * self._scheduler.init_noise_sigma / variance_scale(self.sigmas[0]).item()

    def step(self, velocity: Tensor, latents: Tensor, noise: Tensor | None = None) -> Tensor:
        """From sigmas[k] to sigmas[k + 1], k = 0, 1, ... by call. float32 in and out, also under autocast.

        noise: standard normal, of the latents' shape; needed by every step when eta is above 0, else left alone.
        """
        taken, self._taken = self._taken, self._taken + 1
        if self.eta and noise is None:
            raise ValueError("a step with eta above 0 needs noise")
        with torch.autocast(latents.device.type, enabled=False):
            x, now = latents.float(), self.sigmas[taken]
            # what is clean, not what is noise: at a level of pure noise the first cannot be told from the second
            z = self._scheduler.step(
                clean_from_velocity(x, velocity.float(), now[None].to(x.device)),
                self._timesteps[taken],
                x * variance_scale(now).item(),
                eta=self.eta,
                variance_noise=noise.float() if self.eta and noise is not None else None,
                return_dict=False,
            )[0]
            then = self.sigmas[taken + 1]
            return z / variance_scale(then).item()  # 1 at the end, where what is left is taken for clean
