"""The loop: exact resume, cancel, the watchdog, phases obeyed, the checkpoint's own failures."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from synmotion_core.backbones import SPECS, find_spec
from synmotion_core.diffusion import add_noise
from synmotion_core.errors import AdapterError, Cancelled, ConfigError, TrainingDiverged
from synmotion_core.methods.synmotion import SynMotionConfig, SynMotionEntry
from synmotion_core.storage import read_tensors
from synmotion_core.training import trainer, wishes
from synmotion_core.training.settings import TrainConfig
from synmotion_core.training.trainer import TrainingSet
from synmotion_core.types import Condition, Event, Progress, Prompt, Saved, Stopped, Warned
from tests.models import PROMPTS, plain, puppet_backbone, shake

SMALL = SynMotionConfig(rank=2, refiner_layers=1, refiner_width=32)


def sets(seed: int = 0) -> dict[Any, TrainingSet]:
    backbone = puppet_backbone()
    shape = (backbone.latent_shape(backbone.spec.default_shape)[0], 2, 4, 4)  # 5 frames of 32x32: a tenth of the tokens
    generator = torch.Generator().manual_seed(seed)
    motions = [Prompt(subject=f"a {c} person", motion="waves") for c in ("red", "blue", "green")]
    priors = [Prompt(subject="a cat", motion="walks"), Prompt(subject="an elephant", motion="sits")]
    return {
        "reference": TrainingSet(
            latents=torch.randn((3, *shape), generator=generator), text=backbone.encode_prompt(motions)
        ),
        "prior": TrainingSet(
            latents=torch.randn((2, *shape), generator=generator), text=backbone.encode_prompt(priors)
        ),
    }


def settings(**values: Any) -> TrainConfig:
    return TrainConfig(
        **{"num_steps": 6, "batch_size": 2, "save_every": 0, "sample_every": 0, "warmup_steps": 2}
        | {"lr_scheduler": "constant", **values}  # so that runs of different lengths can be compared
    )


def run(
    folder: Path,
    config: TrainConfig,
    *,
    cancel: threading.Event | None = None,
    resume: bool = False,
    data: dict[Any, TrainingSet] | None = None,
    key: str = "k",
    sampler: Any = None,
) -> Iterator[Event]:
    method = SynMotionEntry().attach(puppet_backbone(), SMALL, PROMPTS[0])
    try:
        yield from trainer.train(
            backbone=puppet_backbone(),
            method=method,
            data=data or sets(),
            config=config,
            folder=folder,
            settings=key,
            cancel=cancel or threading.Event(),
            resume=resume,
            sampler=sampler,
        )
    finally:
        method.detach()


def test_image_to_video_learns_nothing_from_the_frame_that_is_given(tmp_path: Path) -> None:
    """Another first frame under the same picture changes nothing; another later frame does."""

    losses: dict[str, list[float | None]] = {}

    def trained(name: str, frame: int | None) -> dict[str, torch.Tensor]:
        data = sets()
        images = {key: each.latents[:, :, :1].clone() for key, each in data.items()}
        if frame is not None:
            for each in data.values():
                each.latents[:, :, frame] += 3.0
        data = {key: dataclasses.replace(each, image_latents=images[key]) for key, each in data.items()}
        events = list(run(tmp_path / name, settings(num_steps=4), data=data))
        losses[name] = [e.loss for e in events if isinstance(e, Progress)]
        return weights(tmp_path / name)

    plain_run = trained("plain", None)
    first, later = trained("first", 0), trained("later", 1)
    assert all(torch.equal(plain_run[k], first[k]) for k in plain_run)
    assert losses["plain"] == losses["first"] != losses["later"]
    assert any(not torch.equal(plain_run[k], later[k]) for k in plain_run)
    list(run(tmp_path / "text", settings(num_steps=4)))
    text_to_video = weights(tmp_path / "text")
    assert any(not torch.equal(plain_run[k], text_to_video[k]) for k in plain_run)


def test_the_denoiser_is_told_the_trainings_guidance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In steps towards the clips and towards the base; without one it is left to the backbone."""
    backbone: Any = puppet_backbone()
    own, told = backbone.predict, []

    def predict(latents: torch.Tensor, sigmas: torch.Tensor, condition: Condition) -> torch.Tensor:
        told.append(condition.guidance)
        return own(latents, sigmas, condition)

    monkeypatch.setattr(backbone, "predict", predict, raising=False)
    for guidance in (None, 6.0):
        list(run(tmp_path / str(guidance), settings(num_steps=4, training_guidance=guidance)))
        assert set(told) == {guidance}
        told.clear()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "state.safetensors")[0]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_stopped_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    list(run(tmp_path / "whole", settings(num_steps=8)))
    cancel = threading.Event()
    events = []
    for event in run(tmp_path / "parts", settings(num_steps=8), cancel=cancel):
        events.append(event)
        if isinstance(event, Progress) and event.step == 3:
            cancel.set()
    assert isinstance(events[-1], Stopped)
    assert events[-1].step == 3  # within one step
    list(run(tmp_path / "parts", settings(num_steps=8), resume=True))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_save_now_and_sample_now_change_no_step(tmp_path: Path) -> None:
    """Saved and drawn where it was asked for; the end is the same bit for bit, and so is a resume from the save."""
    drawn: list[int] = []

    def sampler(step: int) -> Iterator[Event]:
        drawn.append(step)
        torch.rand(7)  # whatever drawing does to the global generator
        yield Warned(message=f"drawn at {step}")

    list(run(tmp_path / "whole", settings(num_steps=8), sampler=sampler))
    assert drawn == []
    events = []
    (tmp_path / "asked").mkdir()
    for event in run(tmp_path / "asked", settings(num_steps=8), sampler=sampler):
        events.append(event)
        if isinstance(event, Progress) and event.step == 3:
            wishes.ask(tmp_path / "asked", "save")
            wishes.ask(tmp_path / "asked", "sample")
            wishes.ask(tmp_path / "asked", "sample")  # pressed twice
        if isinstance(event, Saved) and event.step == 3:
            shutil.copytree(tmp_path / "asked", tmp_path / "parts")
    assert drawn == [3]
    assert [e.step for e in events if isinstance(e, Saved)] == [3, 8]
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "asked"))
    list(run(tmp_path / "parts", settings(num_steps=8), resume=True))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert not list((tmp_path / "asked").glob("*-now"))


def test_sample_now_says_where_there_is_nobody_to_draw(tmp_path: Path) -> None:
    tmp_path.joinpath("sample-now").touch()  # as from a terminal
    events = list(run(tmp_path, settings(num_steps=2)))
    assert [e.message for e in events if isinstance(e, Warned)] == [
        "nobody is there to be drawn: this training has no sample_subjects"
    ]


def test_moments_in_8_bits_resume_exactly_and_are_in_8_bits(tmp_path: Path) -> None:
    """train 6 == train 3 + resume 3, bit for bit, also from the file."""
    small = settings(optimizer="adamw8bit")
    list(run(tmp_path / "whole", small))
    cancel = threading.Event()
    for event in run(tmp_path / "parts", small, cancel=cancel):
        if isinstance(event, Progress) and event.step == 3:
            cancel.set()
    list(run(tmp_path / "parts", small, resume=True))
    whole = weights(tmp_path / "whole")
    assert same(whole, weights(tmp_path / "parts"))
    list(run(tmp_path / "plain", settings()))
    plain_run = weights(tmp_path / "plain")
    assert any(not torch.equal(whole[k], plain_run[k]) for k in plain_run if k.startswith("parameters."))
    moments = {k: v for k, v in whole.items() if k.endswith((".state1", ".state2"))}
    large = [v for v in moments.values() if v.numel() >= 4096]
    assert large, "those below 4096 numbers stay in float32, as bitsandbytes has it"
    assert all(v.dtype == torch.uint8 for v in large)
    assert all(v.dtype == torch.float32 for v in whole.values() if v.numel() < 4096 and v.ndim == 2)


def test_moments_in_8_bits_learn_as_much(tmp_path: Path) -> None:
    def last(name: str) -> float:
        events = run(tmp_path / name, settings(num_steps=30, learning_rate=5e-3, optimizer=name))
        losses = [e.loss for e in events if isinstance(e, Progress) and e.phase == "reference" and e.loss is not None]
        return sum(losses[-5:]) / sum(losses[:5])

    assert last("adamw8bit") == pytest.approx(last("adamw"), abs=0.02)


def test_a_falling_rate_resumes_exactly_and_ends_near_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    set_rate = trainer._set_learning_rate

    def spy(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int) -> None:
        set_rate(optimizer, config, step)
        rates.append(optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(trainer, "_set_learning_rate", spy)
    falling = settings(num_steps=6, lr_scheduler="linear", learning_rate=6e-3)
    list(run(tmp_path / "whole", falling))
    assert rates == pytest.approx([3e-3, 5e-3, 4e-3, 3e-3, 2e-3, 1e-3])  # two steps of warm-up
    cancel = threading.Event()
    for event in run(tmp_path / "parts", falling, cancel=cancel):
        if isinstance(event, Progress) and event.step == 3:
            cancel.set()
    list(run(tmp_path / "parts", falling, resume=True))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_the_loss_is_the_velocity_error_and_training_lowers_it(tmp_path: Path) -> None:
    """On two fixed latents the loss must fall; the phases must be those of the method."""
    events = [e for e in run(tmp_path, settings(num_steps=160, learning_rate=5e-3)) if isinstance(e, Progress)]
    reference = [e.loss for e in events if e.phase == "reference" and e.loss is not None]
    assert sum(reference[-10:]) / 10 < 0.9 * sum(reference[:10]) / 10
    assert {e.phase for e in events} == {"reference", "prior"}
    assert all(
        e.seconds is not None and e.denoiser_seconds is not None and 0 < e.denoiser_seconds <= e.seconds for e in events
    )
    assert all(e.memory_gib is not None and 0.05 < e.memory_gib < 1000 for e in events)


def test_memory_is_that_of_steps_and_not_of_what_was_drawn_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CUDA the peak is the process's highest until it is reset."""
    peak = [90 << 30]  # of encoding
    own = puppet_backbone()

    def on_cuda(function: Any) -> Any:
        return lambda device: function(torch.device("cuda") if device == own.device else device)

    def step_of(*args: Any) -> Any:
        peak[0] = max(peak[0], 3 << 30)
        return draw(*args)

    def sampler(step: int) -> Iterator[Event]:
        peak[0] = max(peak[0], 80 << 30)
        yield Warned(message="drawn")

    draw = trainer._draw
    monkeypatch.setattr(trainer, "_draw", step_of)
    for name in ("_memory_gib", "_forget_peak"):
        monkeypatch.setattr(trainer, name, on_cuda(getattr(trainer, name)))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peak[0])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peak.__setitem__(0, 1 << 30))
    events = list(run(tmp_path, settings(num_steps=5, sample_every=2), sampler=sampler))
    assert [e.memory_gib for e in events if isinstance(e, Progress)] == [3.0] * 5
    assert sum(isinstance(e, Warned) for e in events) == 3


@pytest.mark.parametrize("target", ["base", "data"])
@pytest.mark.parametrize("moved", [("subject_zero",), ("subject_zero", "adapters")])
def test_a_prior_step_goes_towards_the_base_or_the_clips(
    target: Any, moved: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One step from shaken parameters: what it aims at, what it shows, and what it moves."""
    config = dataclasses.replace(SMALL, alpha=1e-6, prior_target=target, prior_updates=moved)
    backbone, drawn, aimed = puppet_backbone(), [], []
    draw, error = trainer._draw, trainer.weighted_mse

    def drawing(*args: Any) -> Any:
        drawn.append(draw(*args))
        return drawn[-1]

    def measuring(predicted: torch.Tensor, wanted: torch.Tensor, skip_frames: int) -> torch.Tensor:
        found = error(predicted, wanted, skip_frames)
        aimed.append((wanted, found.detach()))
        return found

    monkeypatch.setattr(trainer, "_draw", drawing)
    monkeypatch.setattr(trainer, "weighted_mse", measuring)
    method = SynMotionEntry().attach(backbone, config, PROMPTS[0])
    shake(method.groups)
    before = {name: [p.detach().clone() for p in group] for name, group in method.groups.items()}
    given = {"num_steps": 1, "warmup_steps": 0, "weight_decay": 0.0, "mixed_precision": "no"}
    try:
        events = list(
            trainer.train(
                backbone=backbone,
                method=method,
                data=sets(),
                config=settings(**given),
                folder=tmp_path,
                settings="k",
                cancel=threading.Event(),
            )
        )
        changed = {
            name
            for name, group in method.groups.items()
            if any(not torch.equal(a, b) for a, b in zip(before[name], group, strict=True))
        }
    finally:
        method.detach()
    assert changed == set(moved)
    latents, text, _, noise, sigmas = drawn[0]
    data, shown = aimed[0]
    assert torch.equal(data, noise - latents)
    (progress,) = [e for e in events if isinstance(e, Progress)]
    assert progress.loss == pytest.approx(float(shown.mean()))
    if target == "data":
        assert len(aimed) == 1
    else:
        with torch.no_grad():
            alone = backbone.predict(add_noise(latents, noise, sigmas), sigmas, plain(text))
        assert torch.equal(aimed[1][0], alone)
        assert float(aimed[1][1].mean()) < 0.5 * float(shown.mean())


def test_towards_the_base_there_is_nothing_to_learn_at_first(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, alpha=1e-6)
    assert config.prior_target == "base"
    method = SynMotionEntry().attach(puppet_backbone(), config, PROMPTS[0])
    before = method.state_dict()
    try:
        for _ in trainer.train(
            backbone=puppet_backbone(),
            method=method,
            data=sets(),
            config=settings(num_steps=2, weight_decay=0.0),
            folder=tmp_path,
            settings="k",
            cancel=threading.Event(),
        ):
            pass
        assert same(before, method.state_dict())
    finally:
        method.detach()


def test_a_prior_step_moves_the_subject_embedding_and_what_reads_it(tmp_path: Path) -> None:
    method = SynMotionEntry().attach(puppet_backbone(), SMALL, PROMPTS[0])
    try:
        first_prior = next(k for k in range(100) if method.phase(0, k).draws == "prior")
    finally:
        method.detach()
    before, after = tmp_path / "before", tmp_path / "after"
    list(run(before, settings(num_steps=first_prior, warmup_steps=0)))
    list(run(after, settings(num_steps=first_prior + 1, warmup_steps=0)))
    a, b = weights(before), weights(after)
    moved = {k.split(".")[1] for k in a if k.startswith("parameters.") and not torch.equal(a[k], b[k])}
    assert moved == {"subject_embedding", "subject_zero", "refiner", "adapters"}


def test_a_number_that_is_none_rolls_back(tmp_path: Path) -> None:
    data = sets()
    poisoned = dict(data)
    events: list[Event] = []
    poison_at = 30

    class Poisoned(TrainingSet):
        pass

    with pytest.raises(  # noqa: PT012
        TrainingDiverged, match=r"the loss became nan at step 31: rolled back to the last good state, step 25"
    ):
        for event in run(tmp_path, settings(num_steps=40), data=poisoned):
            events.append(event)
            if isinstance(event, Progress) and event.step == poison_at:
                for part in poisoned.values():
                    part.latents.fill_(float("nan"))
    assert any(isinstance(e, Warned) for e in events)
    assert isinstance(events[-2], Saved)
    state = weights(tmp_path)
    assert all(torch.isfinite(v).all() for v in state.values())
    list(run(tmp_path / "clean", settings(num_steps=25)))
    assert same(state, weights(tmp_path / "clean"))


def test_a_loss_that_runs_away_stops_the_run(tmp_path: Path) -> None:
    data = sets()
    with pytest.raises(TrainingDiverged, match="the loss ran away"):  # noqa: PT012
        for event in run(tmp_path, settings(num_steps=80), data=data):
            if isinstance(event, Progress) and event.step == 30:
                for part in data.values():
                    part.latents.mul_(60)


def test_one_low_loss_at_the_start_is_no_measure() -> None:
    """Where noise is predicted, a loss is mostly its noise level's: now and then a hundredth of the mean."""
    watch = trainer._Watch()
    assert [watch.look("a", loss, 1.0) for loss in (0.001, *[0.1] * 60)] == [None] * 61
    assert "ran away from" in str([watch.look("a", 1.0, 1.0) for _ in range(20)])


@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_fewer_steps_than_are_trained_already_are_refused(tmp_path: Path, schedule: str) -> None:
    """An adapter of fewer steps would hold what more have made of it."""
    list(run(tmp_path, settings(num_steps=4, lr_scheduler=schedule)))
    before = (tmp_path / "state.safetensors").read_bytes()
    with pytest.raises(ConfigError, match=r"num_steps 2 is below the 4 steps .* use 4 or more"):
        list(run(tmp_path, settings(num_steps=2, lr_scheduler=schedule), resume=True))
    assert (tmp_path / "state.safetensors").read_bytes() == before
    list(run(tmp_path, settings(num_steps=4, lr_scheduler=schedule), resume=True))


def test_stopped_while_samples_are_drawn_asks_for_them_again(tmp_path: Path) -> None:
    asked: list[int] = []

    def sampler(step: int) -> Iterator[Event]:
        asked.append(step)
        yield Warned(message="drawing")
        if len(asked) == 1:
            raise Cancelled

    config = settings(num_steps=6, sample_every=3)
    assert list(run(tmp_path / "parts", config, sampler=sampler))[-1] == Stopped(step=3)
    list(run(tmp_path / "parts", config, sampler=sampler, resume=True))
    assert asked == [3, 3, 6]
    list(run(tmp_path / "whole", config))
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_a_state_of_another_run_is_refused(tmp_path: Path) -> None:
    list(run(tmp_path, settings(num_steps=2)))
    with pytest.raises(AdapterError, match="other settings"):
        list(run(tmp_path, settings(num_steps=4), resume=True, key="another"))


def test_a_phase_without_clips_says_so(tmp_path: Path) -> None:
    data = {"reference": sets()["reference"]}
    with pytest.raises(ConfigError, match="draws 'prior' clips and there are none"):
        list(run(tmp_path, settings(num_steps=30), data=data))


def test_samples_come_when_asked_and_at_the_end(tmp_path: Path) -> None:
    seen: list[int] = []

    def sampler(step: int) -> Iterator[Event]:
        seen.append(step)
        return iter(())

    list(run(tmp_path, settings(num_steps=5, sample_every=2), sampler=sampler))
    assert seen == [2, 4, 5]


KILLED = """
import os, sys, threading
from pathlib import Path
from tests.training.test_trainer import run, settings
from synmotion_core.types import Saved
import torch
torch.set_num_threads(1)
for event in run(Path(sys.argv[1]), settings(num_steps=40, save_every=20)):
    if isinstance(event, Saved):
        print("saved", flush=True)
"""


@pytest.mark.slow
def test_killed_without_warning_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    """train 40 == train 20 + kill -9 + resume 20, bit for bit."""
    root = Path(__file__).resolve().parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed")], cwd=root, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "saved"
    time.sleep(0.3)
    child.kill()
    child.wait()
    if b'"step": 40' in (tmp_path / "killed" / "state.safetensors").read_bytes()[:4096]:
        pytest.fail("the run was over before it could be killed")
    list(run(tmp_path / "killed", settings(num_steps=40, save_every=20), resume=True))
    list(run(tmp_path / "whole", settings(num_steps=40, save_every=20)))
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))


def test_a_run_without_a_rate_takes_the_backbones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float | None] = []
    monkeypatch.setattr(
        trainer, "_set_learning_rate", lambda optimizer, config, step: seen.append(config.learning_rate)
    )
    for name, given in (("own", {}), ("said", {"learning_rate": 7e-4})):
        list(run(tmp_path / name, settings(num_steps=1, **given)))
    assert seen == [find_spec("puppet-hunyuan").learning_rate, 7e-4]
    rates = {name: spec.learning_rate for name, spec in SPECS.items()}
    assert rates["puppet-unet3d"] == rates["puppet-hunyuan"] == 2e-3
    assert max(rate for name, rate in rates.items() if SPECS[name].needs_gpu) <= 5e-4, "the puppets' would burn them"
