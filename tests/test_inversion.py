"""The noise that a clip comes from: DDIM's own formula on a U-Net, and what sampling makes of it."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synmotion_core import generation, material
from synmotion_core import run as runs
from synmotion_core.clips.dataset import to_pixels
from synmotion_core.config import Footage, GenerateRun
from synmotion_core.diffusion import variance_scale
from synmotion_core.errors import Cancelled, ClipError, ConfigError
from synmotion_core.evaluation import drawings, tasks, trainings
from synmotion_core.evaluation.figures import decibels
from synmotion_core.inversion import invert
from synmotion_core.types import Finished, Progress, Prompt, Started, Stopped, Warned
from tests.backbones.tiny import tiny_backbone
from tests.models import puppet_backbone

CLIP = Path(__file__).resolve().parents[1] / "assets/clips/squat"
PROMPT = Prompt(subject="a red person", motion="squats")


def inverted(backbone: Any, latents: torch.Tensor, steps: int, **given: Any) -> torch.Tensor:
    shape = backbone.spec.default_shape
    return material.whole(invert(backbone, latents, backbone.encode_text([""]), shape, steps, **given))


def test_it_is_ddims_own_backwards() -> None:
    """Worked out from alphas, noise and timesteps, in that scale."""
    backbone: Any = tiny_backbone("zeroscope-v2-576w")
    shape, steps = backbone.spec.default_shape, 4
    latents = torch.randn((1, *backbone.latent_shape(shape)), generator=torch.Generator().manual_seed(0))
    found = inverted(backbone, latents, steps, mixed_precision="no")
    scheduler = type(backbone.pipe.scheduler).from_config(backbone.pipe.scheduler.config)
    scheduler.set_timesteps(steps)
    alphas, z, before = scheduler.alphas_cumprod, latents, torch.tensor(1.0)
    words = backbone.encode_text([""]).prompt_embeds
    with torch.no_grad():
        for t in scheduler.timesteps.flip(0):
            # the network is given x at the earlier level as if it were of the later one
            noise = backbone.denoiser(
                rescaled(z, before, alphas[t]), t[None], encoder_hidden_states=words, return_dict=False
            )[0]
            clean = (rescaled(z, before, alphas[t]) - (1 - alphas[t]).sqrt() * noise) / alphas[t].sqrt()
            x = z / unit(before)
            velocity = noise - clean
            s = (1 - alphas[t]).sqrt() / (alphas[t].sqrt() + (1 - alphas[t]).sqrt())
            s_before = (1 - before).sqrt() / (before.sqrt() + (1 - before).sqrt())
            z, before = (x + (s - s_before) * velocity) * unit(alphas[t]), alphas[t]
    first = backbone.solver(steps, shape).sigmas[0]
    torch.testing.assert_close(found * variance_scale(first), z, rtol=1e-4, atol=1e-4)


def unit(alpha: torch.Tensor) -> torch.Tensor:
    """z = unit x_s."""
    return alpha.sqrt() + (1 - alpha).sqrt()


def rescaled(z: torch.Tensor, of: torch.Tensor, to: torch.Tensor) -> torch.Tensor:
    return z / unit(of) * unit(to)


def test_sampling_leads_back_to_the_clip() -> None:
    backbone: Any = puppet_backbone()
    (clip,) = tasks.reference_clips("squat", 1, 3)
    latents = backbone.encode_video(to_pixels(clip.frames))
    x = inverted(backbone, latents, 40)
    assert x.shape == latents.shape
    config = generation.default_sampler(backbone, guidance_scale=1.0, eta=0.0, num_inference_steps=40, noise_prior=1.0)
    texts = generation.Texts(prompts=backbone.encode_text([""] * 2), guided=None)
    *_, back = generation.denoise(backbone, None, [PROMPT] * 2, [0, 1], config, texts=texts, inverted=x)
    assert torch.equal(back[0], back[1]), "nothing is left of the seeds' own noise"
    config = dataclasses.replace(config, noise_prior=0.0)
    *_, other = generation.denoise(backbone, None, [PROMPT] * 2, [0, 1], config, texts=texts)
    shown, drawn = (generation.to_frames(backbone.decode_latents(z)) for z in (back, other))
    near, far = (decibels(frames[0].astype(float) - clip.frames) for frames in (shown, drawn))
    assert near > 20 > far + 5


def test_half_of_it_is_as_loud_as_noise() -> None:
    backbone: Any = puppet_backbone()
    shape = (1, *backbone.latent_shape(backbone.spec.default_shape))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(9))
    config = generation.default_sampler(backbone, num_inference_steps=1, noise_prior=0.3, guidance_scale=1.0, eta=0.0)
    started: list[torch.Tensor] = []
    predict = backbone.predict

    def seen(latents: torch.Tensor, *rest: Any) -> torch.Tensor:
        started.append(latents)
        return predict(latents, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone, "predict", seen)
        list(generation.denoise(backbone, None, [PROMPT], [4], config, inverted=x))
        list(generation.denoise(backbone, None, [PROMPT], [4], dataclasses.replace(config, noise_prior=0.0)))
    torch.testing.assert_close(started[0], 0.3**0.5 * x + 0.7**0.5 * started[1])
    for given in ({}, {"inverted": x, "images": torch.zeros(1, 3, 64, 64)}):
        with pytest.raises(ValueError, match="noise_prior needs inverted latents, and no first images"):
            list(generation.denoise(backbone, None, [PROMPT], [4], config, **given))


def generate_run(**more: Any) -> GenerateRun:
    clip = next(iter(sorted(CLIP.glob("*.mp4"))))
    given = {"subjects": ("a red cat",), "motion": "walks", "num_inference_steps": 3, "noise_clip": Footage(path=clip)}
    return GenerateRun(**{**given, "noise_prior": 0.5, **more})


def test_a_run_reads_the_clip_and_draws_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[float, Any]] = []
    own = generation.denoise

    def watched(*args: Any, **given: Any) -> Any:
        seen.append((args[4].noise_prior, given["inverted"]))
        return own(*args, **given)

    monkeypatch.setattr(generation, "denoise", watched)
    adapter = Path(__file__).resolve().parents[1] / "assets/adapters/squat.safetensors"
    run = generate_run(adapter=adapter, compare=True)
    events = list(runs.generate(run, tmp_path, cancel=threading.Event()))
    assert isinstance(events[-1], Finished)
    assert [e.total for e in events if isinstance(e, Started)] == [6, 3]
    stages = [e.stage for e in events if isinstance(e, Progress)]
    assert stages == ["invert"] * 3 + ["generate"] * 6
    assert [p for p, _ in seen] == [0.5, 0.5]
    assert torch.equal(seen[0][1], seen[1][1]), "the base's, with the adapter and without"
    with_adapter = seen[0][1]
    seen.clear()
    list(runs.generate(generate_run(), tmp_path / "base", cancel=threading.Event()))
    assert torch.equal(with_adapter, seen[0][1])


def test_it_stops_between_two_steps(tmp_path: Path) -> None:
    cancel, events = threading.Event(), []
    for event in runs.generate(generate_run(), tmp_path, cancel=cancel):
        events.append(event)
        if isinstance(event, Progress):
            cancel.set()
    assert isinstance(events[-1], Stopped)
    assert len([e for e in events if isinstance(e, Progress)]) == 1
    with pytest.raises(Cancelled):
        inverted(puppet_backbone(), torch.zeros(1, 96, 5, 8, 8), 2, cancel=cancel)


def test_wrong_input_is_said_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs.pool, "borrow_backbone", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(ConfigError, match=r"noise_prior 0\.5 needs a noise_clip that it is taken from"):
        generate_run(noise_clip=None)
    with pytest.raises(ConfigError, match=r"noise_clip squat.*mp4 needs a noise_prior above 0, at most 1: or leave"):
        generate_run(noise_prior=0.0)
    with pytest.raises(ConfigError, match=r"noise_prior must be between 0 and 1, got 1\.5"):
        generate_run(noise_prior=1.5)
    with pytest.raises(ConfigError, match="videos begin with pictures or with the noise of a clip"):
        generate_run(images=(Path("a.png"),))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(ClipError, match=r"broken\.mp4"):
        list(runs.generate(generate_run(noise_clip=Footage(path=broken)), tmp_path, cancel=threading.Event()))


def test_what_the_doctor_warns_of_is_said(tmp_path: Path) -> None:
    from synmotion_core.clips import video

    (clip,) = tasks.reference_clips("squat", 1, 0)
    video.write(tmp_path / "dusk.mp4", clip.frames // 20, 8.0)
    run = generate_run(noise_clip=Footage(path=tmp_path / "dusk.mp4"), num_inference_steps=1)
    said = [e.message for e in runs.generate(run, tmp_path / "out", cancel=threading.Event()) if isinstance(e, Warned)]
    assert any(message.startswith("dusk.mp4: ") for message in said)
    anew = (
        "eta 1 draws noise anew in each step, which keeps the clip's layout and little of its motion: eta 0 keeps more"
    )
    assert anew in said
    run = dataclasses.replace(run, eta=0.0)
    said = [e.message for e in runs.generate(run, tmp_path / "out", cancel=threading.Event()) if isinstance(e, Warned)]
    assert not any("draws noise anew" in message for message in said)


def test_a_bench_inverts_the_first_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synmotion_core.config import Sampling
    from synmotion_core.evaluation import bench

    given: list[Any] = []
    monkeypatch.setattr(
        drawings, "sample_frames", lambda *a, **k: given.append(k["inverted"]) or [np.zeros((17, 64, 64, 3), np.uint8)]
    )
    monkeypatch.setattr(
        trainings, "_train", lambda b, u, m, r, path: trainings.write_tensors(path, m.state_dict(), {"seconds": "1"})
    )
    rows = {"methods": ["lora", "prior"], "prior.method": "lora", "prior.sampling.noise_prior": 0.2}
    own = {"num_videos": 1, "num_clips": 1, "cache": str(tmp_path), "sampling.num_inference_steps": 2, **rows}
    list(bench.run("methods", motions=["spin"], seeds=[1], **own))
    assert given[0] is None
    assert given[1].shape == (1, 96, 5, 8, 8)
    assert Sampling(noise_prior=0.2).noise_prior == 0.2
    with pytest.raises(ConfigError, match="leave noise_prior out of i2v"):
        list(bench.run("methods", motions=["spin"], seeds=[1], mode="i2v", **own))
