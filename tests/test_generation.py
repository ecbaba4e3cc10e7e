"""Sampling: seeds, guidance, strength, cancel, files."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from unittest import mock

import pytest
import torch

from synmotion_core.clips import video
from synmotion_core.errors import Cancelled, ShapeError
from synmotion_core.generation import default_sampler, denoise, draw_noise, file_stem, generate, noise_sources
from synmotion_core.methods.lora import LoraConfig, LoraEntry
from synmotion_core.types import Progress, Prompt, Sampled, VideoShape
from tests.models import PROMPTS, puppet_backbone, shake


def quick(**values: object):
    shape = VideoShape(num_frames=5, height=32, width=32, fps=8)
    sampler = default_sampler(puppet_backbone(), num_inference_steps=2, guidance_until=0.0, eta=0.0)
    return dataclasses.replace(sampler, shape=shape, mixed_precision="no", **values)


def last(prompts=PROMPTS, seeds=(1, 2), config=None, method=None) -> torch.Tensor:
    *_, latents = denoise(puppet_backbone(), method, prompts, seeds, config or quick())
    return latents


def test_the_same_seed_gives_the_same_video_and_another_another() -> None:
    a = last()
    assert torch.equal(a, last())
    assert not torch.allclose(a, last(seeds=(1, 3))[1], atol=1e-2)


def test_a_video_does_not_depend_on_its_neighbours() -> None:
    torch.testing.assert_close(last()[1:], last(PROMPTS[1:], (2,)), rtol=1e-3, atol=1e-4)


def test_noise_belongs_to_the_seed() -> None:
    backbone, shape = puppet_backbone(), quick().shape
    two, one = noise_sources([7, 8]), noise_sources([8])
    for _ in range(2):
        assert torch.equal(draw_noise(backbone, two, shape)[1], draw_noise(backbone, one, shape)[0])


def test_fresh_noise_belongs_to_the_seed_too() -> None:
    config = quick(eta=1.0)
    both = last(config=config)
    assert torch.equal(both, last(config=config))
    torch.testing.assert_close(both[1:], last(PROMPTS[1:], (2,), config), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(both, last(), atol=1e-2)


def test_guidance_one_skips_the_null_pass_and_more_changes_the_video() -> None:
    assert not torch.allclose(last(config=quick(guidance_scale=1.0)), last(config=quick(guidance_scale=6.0)), atol=1e-2)


def test_guidance_may_end_before_the_steps_do() -> None:
    backbone, calls = puppet_backbone(), []
    predict = backbone.predict

    def counted(latents: torch.Tensor, *rest: object, **named: object) -> torch.Tensor:
        calls.append(len(latents))
        return predict(latents, *rest, **named)

    with mock.patch.object(backbone, "predict", counted):
        part = last(config=quick(guidance_scale=6.0, guidance_until=0.9))
    assert calls == [4, 2]  # both halves at level 1, then the prompts alone
    assert torch.equal(last(config=quick(guidance_scale=6.0, guidance_until=1.1)), last(config=quick(guidance_scale=1)))
    assert not torch.allclose(part, last(config=quick(guidance_scale=6.0)), atol=1e-2)


def test_strength_zero_is_the_base_bit_for_bit() -> None:
    base = last()
    method = LoraEntry().attach(puppet_backbone(), LoraConfig(rank=2), PROMPTS[0])
    try:
        shake(dict(method.groups))
        assert torch.equal(last(method=method, config=quick(strength=0.0)), base)
        full = last(method=method)
        assert not torch.equal(full, base)
        assert torch.equal(last(method=method), full)  # the strength of the call before has not stayed
    finally:
        method.detach()


def test_frames_that_do_not_fit_are_refused_before_anything_runs() -> None:
    with pytest.raises(ShapeError, match="use 13 or 17"):
        default_sampler(puppet_backbone(), num_frames=15)


def test_files_are_written_with_exact_frames(tmp_path: Path) -> None:
    events = list(generate(puppet_backbone(), None, PROMPTS, [3, 4], quick(), tmp_path, batch_size=1))
    made = [e for e in events if isinstance(e, Sampled)]
    assert [e.prompt for e in made] == list(PROMPTS)
    assert not any(e.adapted for e in made)
    progress = [e for e in events if isinstance(e, Progress)]
    assert [e.step for e in progress] == [1, 2, 3, 4]
    assert all(e.total == 4 for e in progress)
    for event in made:
        info = video.probe(event.path)
        assert (info.num_frames, info.codec, info.fps) == (5, "h264", 8)


def test_cancel_stops_within_a_step_and_leaves_the_backbone_usable(tmp_path: Path) -> None:
    cancel = threading.Event()
    seen = 0
    with pytest.raises(Cancelled):  # noqa: PT012
        for event in generate(puppet_backbone(), None, PROMPTS, [3, 4], quick(), tmp_path, cancel=cancel, batch_size=1):
            if isinstance(event, Progress):
                seen += 1
                cancel.set()
    assert seen == 1
    assert torch.equal(last(), last())


def test_file_names_are_safe() -> None:
    prompt = Prompt(subject="../../etc", motion="ça va / \\ : *?")
    stem = file_stem(prompt, 5, True)
    assert "/" not in stem
    assert ".." not in stem
    assert stem.endswith("-seed5")
