"""The maths of noise, stated once. Pure functions of tensors.

    x_s    = (1 - s) x + s noise          s in [0, 1], s = 1 is noise             (1)
    target = d x_s / d s = noise - x      the velocity of flow matching           (2)
    x      = x_s - s v,   noise = x_s + (1 - s) v,   v = (x_s - x) / s            (3)
    s'     = a s / (1 + (a - 1) s)        the schedule's shift a (a > 1: noisier)  (4)

HunyuanVideo is a flow matching model, so the velocity error E |v - (noise - x)|^2 is what we train; the SynMotion paper
prints the epsilon form. By (3) both are the same error up to a weight in s.

A model that predicts the noise of z_t = sqrt(a_t) x + sqrt(1 - a_t) noise (a_t: alphas_cumprod) is one of flow matching
on another clock and another scale, so the same code trains it and draws with it; a step of DDIM is a step of Euler:

    s = sqrt(1 - a_t) / (sqrt(a_t) + sqrt(1 - a_t)),   z_t = x_s / sqrt((1 - s)^2 + s^2)              (7)
    |noise^ - noise|^2 = (1 - s)^2 |v^ - v|^2          what such a model was trained with             (8)

What a video looks like is the same in all its frames, how it moves is not: an error of which each frame f is compared
with one of them, the anchor a, weighs the second (MotionDirector, arXiv 2310.08465, Eqs. 5 and 6, b = 1):

    phi(e)_f = sqrt(b^2 + 1) e_f - b e_a                                                              (9)

Coarse structure is decided at high levels. Of draws whose quantile is u, noisier ones come more often with the density
(ReVersion, arXiv 2303.13495, Eq. 9; NewMove draws so; c in 0 .. 1, 0.5 there)

    f(u) = 1 - c cos(pi u)                                                                           (10)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def expand(sigmas: Tensor, like: Tensor) -> Tensor:
    """[B] -> [B, 1, ..., 1] with the rank of `like`."""
    return sigmas.reshape(-1, *[1] * (like.ndim - 1))


def add_noise(latents: Tensor, noise: Tensor, sigmas: Tensor) -> Tensor:
    """x_s of (1); sigmas [B]."""
    s = expand(sigmas, latents)
    return (1 - s) * latents + s * noise


def velocity_target(latents: Tensor, noise: Tensor) -> Tensor:
    """The target of (2)."""
    return noise - latents


def clean_from_velocity(noisy_latents: Tensor, velocity: Tensor, sigmas: Tensor) -> Tensor:
    """x of (3)."""
    return noisy_latents - expand(sigmas, noisy_latents) * velocity


def noise_from_velocity(noisy_latents: Tensor, velocity: Tensor, sigmas: Tensor) -> Tensor:
    """noise of (3)."""
    return noisy_latents + (1 - expand(sigmas, noisy_latents)) * velocity


def velocity_from_clean(noisy_latents: Tensor, clean: Tensor, sigmas: Tensor) -> Tensor:
    """v of (3), for a model that predicts x. Its error is the clean latents' error over s, so s must be above 0.

    Raises ValueError for a sigma of 0, where there is no noise left to tell the velocity from.
    """
    if bool((sigmas <= 0).any()):
        raise ValueError(f"sigmas must be above 0 for a model that predicts clean latents, got {sigmas.tolist()}")
    return (noisy_latents - clean) / expand(sigmas, noisy_latents)


def shift_sigmas(sigmas: Tensor, shift: float) -> Tensor:
    """(4); shift 1 is the identity, and shifting by a then by 1/a returns.

    >>> float(shift_sigmas(torch.tensor(0.5), 3.0))
    0.75
    """
    return shift * sigmas / (1 + (shift - 1) * sigmas)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowMatching:
    """How a backbone wants training noise levels drawn: s = sigmoid(N(mean, std)), shifted by (4), at least `lowest`.

    A model that predicts clean latents pays 1 / s^2 for an error: below some level a single draw would drown the rest.
    """

    sigma_mean: float = 0.0
    sigma_std: float = 1.0
    shift: float = 1.0
    lowest: float = 0.0

    def sample_sigmas(self, batch_size: int, generator: torch.Generator, coarse: float = 0.0) -> Tensor:
        """[batch_size] in (0, 1), float32 on the CPU; coarse is c of (10)."""
        normal = torch.randn(batch_size, generator=generator)
        if coarse:
            u = coarse_quantiles(torch.special.ndtr(normal.double()), coarse)
            normal = torch.special.ndtri(u.clamp(1e-7, 1 - 1e-7)).float()
        return shift_sigmas(torch.sigmoid(self.sigma_mean + self.sigma_std * normal), self.shift).clamp_min(self.lowest)

    def weight(self, sigmas: Tensor) -> Tensor:
        """[B]: of a sample's velocity error in the loss. All count alike."""
        return torch.ones_like(sigmas)


def coarse_quantiles(uniform: Tensor, coarse: float) -> Tensor:
    """Uniform draws in [0, 1], float64 -> draws of the density (10), by halving; raises ValueError for a c not in 0..1.

    >>> coarse_quantiles(torch.tensor([0.0, 1.0], dtype=torch.float64), 0.5).round(decimals=6).tolist()
    [0.0, 1.0]
    """
    if not 0 <= coarse <= 1:
        raise ValueError(f"coarse must be between 0 and 1, got {coarse}")
    low, high = torch.zeros_like(uniform), torch.ones_like(uniform)
    for _ in range(50):
        middle = (low + high) / 2
        below = middle - coarse / math.pi * torch.sin(math.pi * middle) < uniform  # the integral of f up to it
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return high


def variance_scale(sigmas: Tensor) -> Tensor:
    """z_t = variance_scale(s) x_s of (7); the variance of z_t is 1 where that of x is.

    >>> float(variance_scale(torch.tensor(1.0)))
    1.0
    """
    return ((1 - sigmas).square() + sigmas.square()).rsqrt()


class EpsilonPrediction:
    """The noise levels of a model that predicts noise at the timesteps 0 .. T - 1, each as likely as the other.

    alphas_cumprod [T] as diffusers' schedulers have it, falling. levels [T] are s of (7), float32, rising; the last is
    below 1, unless the schedule was scaled to end in pure noise: such models were never shown any, and drawing starts
    from it all the same.
    """

    def __init__(self, alphas_cumprod: Tensor) -> None:
        signal, noise = alphas_cumprod.double().cpu().sqrt(), (1 - alphas_cumprod.double().cpu()).sqrt()
        self.levels = (noise / (signal + noise)).float()

    def sample_sigmas(self, batch_size: int, generator: torch.Generator, coarse: float = 0.0) -> Tensor:
        """[batch_size] of the levels, float32 on the CPU; coarse is c of (10)."""
        timesteps = torch.randint(len(self.levels), (batch_size,), generator=generator)
        if coarse:
            u = coarse_quantiles((timesteps.double() + 0.5) / len(self.levels), coarse)
            timesteps = (u * len(self.levels)).long().clamp_max(len(self.levels) - 1)
        return self.levels[timesteps]

    def weight(self, sigmas: Tensor) -> Tensor:
        """[B]: (8), so that the loss is the error of the noise."""
        return (1 - sigmas).square()

    def timesteps(self, sigmas: Tensor) -> Tensor:
        """[B] -> the timesteps of the nearest levels, int64, where sigmas are."""
        levels = self.levels.to(sigmas.device)
        above = torch.searchsorted(levels, sigmas.float().contiguous()).clamp(1, len(levels) - 1)
        return torch.where(sigmas - levels[above - 1] < levels[above] - sigmas, above - 1, above)

    def nearest(self, sigmas: Tensor) -> Tensor:
        """[B] -> the nearest levels, float32, where sigmas are."""
        return self.levels.to(sigmas.device)[self.timesteps(sigmas)]


class CleanPrediction(EpsilonPrediction):
    """The same levels, of a model that predicts clean latents: drawn as `drawn` says, each to its nearest level.

    Such a model was trained on its velocity's error, so all count alike.
    """

    def __init__(self, alphas_cumprod: Tensor, drawn: FlowMatching) -> None:
        super().__init__(alphas_cumprod)
        self.drawn = drawn

    def sample_sigmas(self, batch_size: int, generator: torch.Generator, coarse: float = 0.0) -> Tensor:
        """[batch_size] of the levels, float32 on the CPU; coarse is c of (10)."""
        return self.nearest(self.drawn.sample_sigmas(batch_size, generator, coarse))

    def weight(self, sigmas: Tensor) -> Tensor:
        """[B]: of a sample's velocity error in the loss."""
        return self.drawn.weight(sigmas)


def debiased(values: Tensor, anchor: int) -> Tensor:
    """(9) of [B, C, f, h, w]; linear, so that the error of what it makes of two is what it makes of their error."""
    return 2**0.5 * values - values[:, :, anchor : anchor + 1]


def weighted_mse(prediction: Tensor, target: Tensor, skip_frames: int = 0) -> Tensor:
    """Mean squared error a sample, [B]; `skip_frames` leading latent frames are left out (I2V's clean frame)."""
    error = (prediction.float() - target.float()).square()
    return error[:, :, skip_frames:].flatten(1).mean(1)
