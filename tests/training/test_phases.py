"""What a phase asks for is what a step does: one frame, one clip, the debiased error; a loss weighed by level."""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from synmotion_core.diffusion import add_noise, velocity_target
from synmotion_core.errors import AdapterError
from synmotion_core.methods import find_method
from synmotion_core.storage import read_tensors
from synmotion_core.training import trainer
from synmotion_core.training.settings import TrainConfig
from synmotion_core.training.trainer import TrainingSet
from synmotion_core.types import Event, Phase, Progress, Prompt, Stopped
from tests.backbones.tiny import SHAPE, tiny_backbone
from tests.models import plain

NAME = "zeroscope-v2-576w"
CLIPS = 3


def data(seed: int = 0) -> dict[Any, TrainingSet]:
    backbone = tiny_backbone(NAME)
    prompts = [Prompt(subject=f"a {c} person", motion="waves") for c in ("red", "blue", "green")]
    latents = torch.randn((CLIPS, *backbone.latent_shape(SHAPE)), generator=torch.Generator().manual_seed(seed))
    return {"reference": TrainingSet(latents=latents, text=backbone.encode_prompt(prompts))}


def settings(**values: Any) -> TrainConfig:
    given = {"num_steps": 8, "save_every": 0, "sample_every": 0, "warmup_steps": 2, "lr_scheduler": "constant"}
    return TrainConfig(**given | {"batch_size": 2, **values})


def run(
    folder: Path, config: TrainConfig, *, stop_at: int = 0, resume: bool = False, clips: int = CLIPS
) -> Iterator[Event]:
    entry, cancel = find_method("motion_director"), threading.Event()
    method = entry.attach(tiny_backbone(NAME), entry.config(rank=2), Prompt(subject="a person", motion="waves"), clips)
    try:
        for event in trainer.train(
            backbone=tiny_backbone(NAME), method=method, data=data(), config=config, folder=folder, settings="k",
            cancel=cancel, resume=resume,
        ):  # fmt: skip
            if isinstance(event, Progress) and event.step == stop_at:
                cancel.set()
            yield event
    finally:
        method.detach()


def test_two_paths_resume_exactly_and_the_state_holds_both(tmp_path: Path) -> None:
    events = list(run(tmp_path / "whole", settings()))
    names = {e.phase for e in events if isinstance(e, Progress)}
    assert names >= {"spatial", "temporal"}
    assert any(isinstance(e, Stopped) for e in run(tmp_path / "parts", settings(), stop_at=5))
    list(run(tmp_path / "parts", settings(), resume=True))
    whole, parts = (read_tensors(tmp_path / name / "state.safetensors")[0] for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    groups = {key.split(".")[1] for key in whole if key.startswith("parameters.")}
    assert groups == {"temporal", "spatial_0", "spatial_1", "spatial_2"}
    with pytest.raises(AdapterError, match=r"the training's state: \d+ of \d+ keys apply"):
        list(run(tmp_path / "parts", settings(), resume=True, clips=2))


def test_a_step_draws_what_its_phase_says() -> None:
    backbone, sets = tiny_backbone(NAME), data()["reference"]
    plainly = Phase(name="x", draws="reference", trains=frozenset())
    seen: set[int] = set()
    for step in range(30):
        latents, text, _, noise, _ = trainer._draw(sets, backbone, settings(batch_size=4), step, plainly)
        assert latents.shape == noise.shape == (4, *sets.latents.shape[1:])
        one = Phase(name="x", draws="reference", trains=frozenset(), frames="one", clip=1)
        latents, text, _, noise, _ = trainer._draw(sets, backbone, settings(batch_size=4), step, one)
        assert latents.shape == noise.shape
        assert latents.shape[2] == 1
        for row in range(4):
            found = [f for f in range(9) if torch.equal(latents[row, :, 0], sets.latents[1, :, f])]
            assert len(found) == 1, "a frame of clip 1"
            seen |= set(found)
        assert all(torch.equal(embeds, sets.text.prompt_embeds[1]) for embeds in text.prompt_embeds)
    assert seen == set(range(9)), "any of its frames"


def test_a_coarse_phase_draws_noisier_levels() -> None:
    backbone, sets, config = tiny_backbone(NAME), data()["reference"], settings(batch_size=8)
    mean = {}
    for coarse in (0.0, 1.0):
        phase = Phase(name="x", draws="reference", trains=frozenset(), coarse=coarse)
        drawn = [trainer._draw(sets, backbone, config, step, phase)[-1] for step in range(40)]
        mean[coarse] = float(backbone.diffusion.timesteps(torch.cat(drawn)).double().mean())  # type: ignore[attr-defined]
    assert mean[0.0] == pytest.approx(500, abs=60)
    assert mean[1.0] == pytest.approx(500 + 1000 * 2 / math.pi**2, abs=60), "the mean of 1 - cos(pi u)"


def test_the_loss_is_the_noises_error_and_the_debiased_one_added(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What autograd is given in the first temporal step, against MotionDirector's own sums in the noise's terms."""
    backbone: Any = tiny_backbone(NAME)
    losses: list[float] = []
    entry = find_method("motion_director")
    method = entry.attach(backbone, entry.config(rank=2), Prompt(subject="a person", motion="waves"), CLIPS)
    seed = next(k for k in range(100) if method.phase(k, 0).name == "temporal")
    config = settings(num_steps=1, seed=seed, mixed_precision="no")
    precision = trainer._precision

    def watched(*args: Any) -> Any:
        autocast, backward, clip = precision(*args)

        def taken(loss: torch.Tensor) -> None:
            losses.append(float(loss.detach()))
            backward(loss)

        return autocast, taken, clip

    monkeypatch.setattr(trainer, "_precision", watched)
    try:
        phase = method.phase(seed, 0)
        latents, text, _, noise, sigmas = trainer._draw(data()["reference"], backbone, config, 0, phase)
        method.begin(phase)
        noisy = add_noise(latents, noise, sigmas)
        with torch.no_grad():
            velocity = backbone.predict(noisy, sigmas, plain(text))
        events = list(
            trainer.train(
                backbone=backbone, method=method, data=data(), config=config, folder=tmp_path, settings="k",
                cancel=threading.Event(),
            )
        )  # fmt: skip
    finally:
        method.detach()
    s = sigmas.reshape(-1, 1, 1, 1, 1)
    predicted = noisy + (1 - s) * velocity  # (3) of diffusion.py: the noise that the model sees
    error = (predicted - noise).square().mean()
    shown = next(e.loss for e in events if isinstance(e, Progress))
    assert shown == pytest.approx(float(error), rel=1e-4)
    anchor = random.Random(f"{seed}/0/anchor").randrange(latents.shape[2])
    phi = [2**0.5 * e - e[:, :, [anchor]] for e in (predicted, noise)]
    assert losses[0] == pytest.approx(float(error + (phi[0] - phi[1]).square().mean()), rel=1e-4)
    unweighed = (velocity - velocity_target(latents, noise)).square().mean()
    assert abs(float(unweighed) / shown - 1) > 0.1, "the weight matters"
