"""A pipeline's scheduler, fed with velocities, goes where the pipeline itself would."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor

from synmotion_core.backbones.solver import FlowSolver, predicts_clean
from synmotion_core.diffusion import clean_from_velocity, shift_sigmas
from synmotion_core.errors import ConfigError

STEPS = 6
FLOW = {"use_flow_sigmas": True, "flow_shift": 2.0}
SCHEDULERS = {
    "euler": FlowMatchEulerDiscreteScheduler(shift=2.0),
    "unipc, velocities": UniPCMultistepScheduler(**FLOW, prediction_type="flow_prediction"),
    "unipc, clean latents": UniPCMultistepScheduler(**FLOW, prediction_type="sample"),
}


def field(latents: Tensor, sigma: float) -> Tensor:
    """A velocity that is no straight line."""
    return torch.sin(2 * latents) + sigma * torch.cos(latents)


def start() -> Tensor:
    return torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))


def run(solver: FlowSolver) -> Tensor:
    latents = start()
    for sigma in solver.sigmas[:-1].tolist():
        latents = solver.step(field(latents, sigma), latents)
    return latents


@pytest.mark.parametrize("name", SCHEDULERS)
def test_it_goes_where_the_scheduler_goes(name: str) -> None:
    scheduler = SCHEDULERS[name]
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, STEPS + 1)[:-1], device="cpu")
    latents = start()
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1].tolist(), strict=True):
        output = field(latents, sigma)
        if scheduler.config.get("prediction_type") == "sample":
            output = clean_from_velocity(latents, output, torch.full((2,), sigma))
        latents = scheduler.step(output, timestep, latents, return_dict=False)[0]
    torch.testing.assert_close(run(FlowSolver(scheduler, STEPS)), latents, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_its_levels_are_the_shifted_ones(name: str) -> None:
    sigmas = FlowSolver(SCHEDULERS[name], STEPS).sigmas
    assert sigmas.dtype == torch.float32
    torch.testing.assert_close(sigmas, shift_sigmas(torch.linspace(1, 0, STEPS + 1), 2.0), atol=2e-6, rtol=0)


def test_a_second_order_solver_is_closer_to_the_path() -> None:
    exact = run(FlowSolver(SCHEDULERS["euler"], 2000))
    euler, unipc = (run(FlowSolver(SCHEDULERS[name], 20)) for name in ("euler", "unipc, velocities"))
    assert (unipc - exact).abs().mean() < 0.5 * (euler - exact).abs().mean()


def test_what_is_neither_clean_latents_nor_velocities_is_refused() -> None:
    assert [predicts_clean(s) for s in SCHEDULERS.values()] == [False, False, True]
    with pytest.raises(ConfigError, match="prediction_type is 'epsilon'"):
        predicts_clean(UniPCMultistepScheduler(**FLOW, prediction_type="epsilon"))


def test_runs_do_not_share_their_past() -> None:
    solvers = [FlowSolver(SCHEDULERS["unipc, clean latents"], STEPS) for _ in range(2)]
    alone, latents = run(FlowSolver(SCHEDULERS["unipc, clean latents"], STEPS)), [start(), start()]
    for sigma in solvers[0].sigmas[:-1].tolist():
        latents = [s.step(field(x, sigma), x) for s, x in zip(solvers, latents, strict=True)]
    assert torch.equal(latents[0], alone)
    assert torch.equal(latents[1], alone)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_fresh_noise_keeps_the_level_and_the_picture(eta: float) -> None:
    """Where the clean latents are known, x_s = (1 - s) x + s n stays true in mean, in spread and to the end."""
    clean, rng = torch.tensor([2.0, -1.0]).reshape(2, 1, 1, 1, 1), torch.Generator().manual_seed(0)
    solver = FlowSolver(SCHEDULERS["unipc, clean latents"], STEPS, eta)
    latents = first = torch.randn(2, 1, 4, 64, 64, generator=rng)
    for now, then in zip(solver.sigmas[:-1].tolist(), solver.sigmas[1:].tolist(), strict=True):
        noise = torch.randn(latents.shape, generator=rng)
        latents = solver.step((latents - clean) / now, latents, noise)
        rest = latents - (1 - then) * clean
        torch.testing.assert_close(rest.mean((1, 2, 3, 4)), torch.zeros(2), atol=0.03, rtol=0)
        torch.testing.assert_close(rest.std((1, 2, 3, 4)), torch.full((2,), then), atol=0.02, rtol=0)
        if now == 1.0:
            likeness = torch.corrcoef(torch.stack([rest.flatten(), first.flatten()]))[0, 1]
            assert 0.5 < likeness < 0.999  # a part is new, a part is kept
    torch.testing.assert_close(latents, clean.expand_as(latents), atol=1e-5, rtol=0)


def test_less_fresh_noise_is_nearer_to_the_plain_path() -> None:
    def ends(eta: float) -> Tensor:
        rng, solver, latents = torch.Generator().manual_seed(1), FlowSolver(SCHEDULERS["euler"], STEPS, eta), start()
        for sigma in solver.sigmas[:-1].tolist():
            latents = solver.step(field(latents, sigma), latents, torch.randn(latents.shape, generator=rng))
        return latents

    plain = run(FlowSolver(SCHEDULERS["euler"], STEPS))
    far = [float((ends(eta) - plain).square().mean()) for eta in (0.0, 0.01, 0.3)]
    assert far[0] == 0.0
    assert far[1] < 0.1 * far[2]


def test_a_step_that_needs_noise_says_so() -> None:
    with pytest.raises(ValueError, match="eta above 0 needs noise"):
        run(FlowSolver(SCHEDULERS["euler"], STEPS, 1.0))
    for eta in (-0.1, 1.1):
        with pytest.raises(ConfigError, match="eta must be between 0"):
            FlowSolver(SCHEDULERS["euler"], STEPS, eta)


def test_autocast_does_not_round_the_steps() -> None:
    plain = run(FlowSolver(SCHEDULERS["unipc, velocities"], STEPS))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(run(FlowSolver(SCHEDULERS["unipc, velocities"], STEPS)), plain)


def test_half_precision_goes_in_and_float32_comes_out() -> None:
    solver = FlowSolver(SCHEDULERS["euler"], STEPS)
    latents = start()
    velocity = field(latents, 1.0).bfloat16()
    stepped = solver.step(velocity, latents.bfloat16())
    assert stepped.dtype == torch.float32
    exact = latents.bfloat16().float() + (solver.sigmas[1] - solver.sigmas[0]) * velocity.float()
    torch.testing.assert_close(stepped, exact, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("name", "own_levels"),
    [(name, False) for name in SCHEDULERS] + [(name, True) for name in SCHEDULERS if name.startswith("unipc")],
)  # Euler's own levels are shifted twice; no pipeline of ours asks for them
def test_another_shift_moves_the_levels_of_every_scheduler(name: str, own_levels: bool) -> None:
    def levels(shift: float | None) -> Tensor:
        return FlowSolver(SCHEDULERS[name], STEPS, flow_shift=shift, own_levels=own_levels).sigmas[:-1]

    even = shift_sigmas(levels(None), 1 / 2.0)  # the schedulers' own shift, undone
    torch.testing.assert_close(levels(7.0), shift_sigmas(even, 7.0), rtol=1e-3, atol=1e-4)
    assert (levels(7.0) - levels(None)).abs().max() > 0.1
