"""Conversions there and back, and agreement with the scheduler that sampling uses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synmotion_core.diffusion import (
    EpsilonPrediction,
    FlowMatching,
    add_noise,
    clean_from_velocity,
    coarse_quantiles,
    noise_from_velocity,
    shift_sigmas,
    velocity_from_clean,
    velocity_target,
    weighted_mse,
)

seeds = st.integers(0, 2**31 - 1)
levels = st.floats(0.0, 1.0, width=32)
shifts = st.floats(0.125, 16.0, width=32)


def latents_and_noise(seed: int, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, 2, 3, 4, 4)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


@given(seeds, st.lists(levels, min_size=3, max_size=3))
def test_velocity_leads_back_to_latents_and_noise(seed: int, sigmas: list[float]) -> None:
    latents, noise = latents_and_noise(seed)
    s = torch.tensor(sigmas)
    noisy, velocity = add_noise(latents, noise, s), velocity_target(latents, noise)
    torch.testing.assert_close(clean_from_velocity(noisy, velocity, s), latents, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(noise_from_velocity(noisy, velocity, s), noise, atol=1e-5, rtol=1e-5)


@given(seeds, st.lists(st.floats(0.015625, 1.0, width=32), min_size=3, max_size=3))
def test_clean_latents_lead_to_the_velocity(seed: int, sigmas: list[float]) -> None:
    latents, noise = latents_and_noise(seed)
    s = torch.tensor(sigmas)
    velocity = velocity_from_clean(add_noise(latents, noise, s), latents, s)
    torch.testing.assert_close(velocity, velocity_target(latents, noise), atol=2e-4, rtol=1e-3)  # rounding over s
    with pytest.raises(ValueError, match="above 0"):
        velocity_from_clean(latents, latents, torch.tensor([0.5, 0.0, 1.0]))


@given(seeds)
def test_ends_of_the_path(seed: int) -> None:
    latents, noise = latents_and_noise(seed)
    assert torch.equal(add_noise(latents, noise, torch.zeros(3)), latents)
    assert torch.equal(add_noise(latents, noise, torch.ones(3)), noise)


@given(seeds, levels, levels)
def test_one_euler_step_moves_along_the_path(seed: int, start: float, end: float) -> None:
    latents, noise = latents_and_noise(seed)
    a, b = torch.full((3,), start), torch.full((3,), end)
    stepped = add_noise(latents, noise, a) + (end - start) * velocity_target(latents, noise)
    torch.testing.assert_close(stepped, add_noise(latents, noise, b), atol=1e-5, rtol=1e-5)


@given(levels, shifts)
def test_shift_and_its_inverse(sigma: float, shift: float) -> None:
    s = torch.tensor(sigma, dtype=torch.float64)
    shifted = shift_sigmas(s, shift)
    assert 0 <= shifted <= 1
    torch.testing.assert_close(shift_sigmas(shifted, 1 / shift), s)


@given(levels, levels, shifts)
def test_shift_keeps_order_and_direction(one: float, other: float, shift: float) -> None:
    low, high = sorted((one, other))
    a, b = (shift_sigmas(torch.tensor(v, dtype=torch.float64), shift) for v in (low, high))
    assert a <= b
    assert (a >= low - 1e-12) if shift >= 1 else (a <= low + 1e-12)


@pytest.mark.parametrize("shift", [1.0, 2.0, 7.0])
def test_agrees_with_the_scheduler(shift: float) -> None:
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    linear = FlowMatchEulerDiscreteScheduler(shift=1.0).sigmas
    torch.testing.assert_close(shift_sigmas(linear, shift), scheduler.sigmas)

    latents, noise = latents_and_noise(5)
    sigmas = scheduler.sigmas[[10, 500, 990]]
    theirs = scheduler.scale_noise(latents, 1000 * sigmas, noise)
    torch.testing.assert_close(add_noise(latents, noise, sigmas), theirs)


@given(seeds, st.floats(-2, 2), st.floats(0.1, 2), shifts)
def test_training_levels_repeat_and_stay_inside(seed: int, mean: float, std: float, shift: float) -> None:
    diffusion = FlowMatching(sigma_mean=mean, sigma_std=std, shift=shift)
    one, two = (diffusion.sample_sigmas(64, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == (64,)
    assert one.dtype == torch.float32
    assert ((one > 0) & (one < 1)).all()


def test_training_levels_stay_above_the_lowest() -> None:
    wide = {"sigma_mean": -1.0, "sigma_std": 2.0}
    free, bounded = FlowMatching(**wide), FlowMatching(**wide, lowest=0.1)
    one, two = (d.sample_sigmas(500, torch.Generator().manual_seed(0)) for d in (free, bounded))
    assert one.min() < 0.1 == pytest.approx(float(two.min()))
    assert torch.equal(one.clamp_min(0.1), two)


def test_training_levels_have_the_stated_median() -> None:
    diffusion = FlowMatching(sigma_mean=-0.5, sigma_std=1.2, shift=3.0)
    median = diffusion.sample_sigmas(40_000, torch.Generator().manual_seed(0)).median()
    expected = shift_sigmas(torch.sigmoid(torch.tensor(-0.5)), 3.0)
    assert abs(float(median - expected)) < 0.01


def test_error_leaves_the_clean_frame_out() -> None:
    target = torch.zeros(2, 4, 5, 8, 8)
    prediction = torch.zeros_like(target)
    prediction[:, :, 0] = 100.0
    prediction[1, :, 1:] = 3.0
    assert weighted_mse(prediction, target, skip_frames=1).tolist() == [0.0, 9.0]
    assert weighted_mse(prediction, target).tolist() == pytest.approx([2000.0, 2007.2])


def test_error_is_summed_in_float32() -> None:
    prediction = torch.full((1, 4, 5, 8, 8), 1.0, dtype=torch.bfloat16)
    target = torch.full_like(prediction, 1.0, dtype=torch.float32) + 2**-10
    assert float(weighted_mse(prediction, target)) == pytest.approx(2**-20)


@pytest.mark.parametrize("coarse", [0.25, 0.5, 1.0])
def test_coarse_draws_have_their_density(coarse: float) -> None:
    """(10), in ten parts of the quantiles; and the levels of a model that predicts noise come accordingly."""
    u = torch.rand(100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = coarse_quantiles(u, coarse)
    edges = torch.linspace(0, 1, 11, dtype=torch.float64)
    expected = (edges - coarse / math.pi * torch.sin(math.pi * edges)).diff()
    counts = torch.histc(drawn, 10, 0, 1) / len(drawn)
    torch.testing.assert_close(counts, expected, atol=5e-3, rtol=0)
    diffusion = EpsilonPrediction(torch.linspace(0.999, 0.005, 1000))
    sigmas = diffusion.sample_sigmas(100_000, torch.Generator().manual_seed(1), coarse)
    timesteps = diffusion.timesteps(sigmas)
    late = (timesteps >= 500).double().mean()
    assert float(late) == pytest.approx(float(0.5 + coarse / math.pi), abs=5e-3)
    plain = diffusion.timesteps(diffusion.sample_sigmas(100_000, torch.Generator().manual_seed(1)))
    assert float((plain >= 500).double().mean()) == pytest.approx(0.5, abs=5e-3)


def test_flow_matching_draws_coarse_levels_too() -> None:
    """Half of its own draws are above the median; with c = 0.5 a half + c / pi of them."""
    diffusion = FlowMatching(sigma_mean=0.3, sigma_std=1.1, shift=2.0)
    own = diffusion.sample_sigmas(100_000, torch.Generator().manual_seed(1))
    coarse = diffusion.sample_sigmas(100_000, torch.Generator().manual_seed(2), 0.5)
    assert float((coarse > own.median()).double().mean()) == pytest.approx(0.5 + 0.5 / math.pi, abs=6e-3)
    with pytest.raises(ValueError, match="coarse must be between 0 and 1, got 2"):
        diffusion.sample_sigmas(4, torch.Generator(), 2.0)
