"""Sampling: seeds, guidance, strength, an adapter for the first steps, step caches, cancel, files."""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from synmotion_core.clips import video
from synmotion_core.errors import Cancelled, IncompatibleError, ShapeError
from synmotion_core.generation import (
    batches_of,
    default_sampler,
    denoise,
    draw_noise,
    generate,
    noise_sources,
)
from synmotion_core.methods import find_method
from synmotion_core.methods.lora import LoraConfig, LoraEntry
from synmotion_core.step_cache import parse
from synmotion_core.types import Noted, Progress, Prompt, Sampled, VideoShape
from tests.models import PROMPTS, puppet_backbone, shake


def quick(**values: object):
    shape = VideoShape(num_frames=5, height=32, width=32, fps=8)
    sampler = default_sampler(puppet_backbone(), num_inference_steps=2, guidance_until=0.0, eta=0.0)
    return dataclasses.replace(sampler, **{"shape": shape, "mixed_precision": "no", **values})


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


# ------------------------------------------------------------------------------------------------ the first steps only


@pytest.fixture
def bases() -> dict[str, torch.Tensor]:
    """By mode, drawn before anything is attached."""
    return {mode: every_step(None, mode)[-1] for mode in ("t2v", "i2v")}


@pytest.fixture(params=["synmotion", "lora"])
def method(request: pytest.FixtureRequest, bases: dict[str, torch.Tensor]) -> Iterator[Any]:
    entry = find_method(request.param)
    attached = entry.attach(puppet_backbone(), entry.config(rank=2), PROMPTS[0])
    try:
        shake(dict(attached.groups))
        yield attached
    finally:
        attached.detach()


def pictures(mode: str) -> torch.Tensor | None:
    draws = torch.Generator().manual_seed(3)
    return None if mode == "t2v" else torch.rand(2, 3, 32, 32, generator=draws) * 2 - 1


def every_step(method: Any, mode: str = "t2v", **given: object) -> list[torch.Tensor]:
    config = quick(**{"num_inference_steps": 4, **given})
    return list(denoise(puppet_backbone(), method, PROMPTS, (1, 2), config, pictures(mode)))


@pytest.mark.parametrize("mode", ["t2v", "i2v"])
def test_an_adapter_until_none_or_all_of_the_steps(bases: dict[str, torch.Tensor], method: Any, mode: str) -> None:
    whole = every_step(method, mode)[-1]
    assert torch.equal(every_step(method, mode, adapter_until=0.0)[-1], bases[mode]), "the base, bit for bit"
    assert torch.equal(every_step(method, mode, adapter_until=1.0)[-1], whole)
    assert torch.equal(every_step(method, mode)[-1], whole), "no setting of the call before has stayed"
    assert not torch.equal(bases[mode], whole)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("mode", ["t2v", "i2v"])
def test_after_its_steps_the_base_alone_goes_on(method: Any, mode: str, guidance: float) -> None:
    """What it has drawn so far, then what the base predicts for it, with the plain words."""
    backbone = puppet_backbone()
    given = {"guidance_scale": guidance}
    half, whole = every_step(method, mode, adapter_until=0.5, **given), every_step(method, mode, **given)
    assert torch.equal(half[1], whole[1])
    assert not torch.equal(half[2], whole[2])
    asked: list[tuple[torch.Tensor, torch.Tensor, Any, torch.Tensor]] = []
    predict = backbone.predict

    def recorded(latents: torch.Tensor, sigmas: torch.Tensor, condition: Any) -> torch.Tensor:
        made = predict(latents, sigmas, condition)
        asked.append((latents, sigmas, condition, made))
        return made

    with mock.patch.object(backbone, "predict", recorded):
        every_step(method, mode, adapter_until=0.5, **given)
    method.set_strength(0.0)
    text = backbone.encode_prompt(PROMPTS, pictures(mode)).prompt_embeds
    for index, (latents, sigmas, condition, made) in enumerate(asked):
        with torch.no_grad():
            assert torch.equal(predict(latents, sigmas, condition), made) == (index >= 2), index
        if method.name == "synmotion":
            plain_words = torch.equal(condition.prompt_embeds[:2, : text.shape[1]], text)
            assert plain_words == (index >= 2), index


@pytest.mark.parametrize(
    ("until", "steps", "adapted"), [(0.1, 30, 3), (0.25, 30, 8), (0.01, 20, 1), (0, 9, 0), (1, 9, 9)]
)
def test_a_share_of_the_steps_is_whole_steps(until: float, steps: int, adapted: int) -> None:
    assert quick(adapter_until=until, num_inference_steps=steps).adapted_steps == adapted


def test_both_experts_go_on_without_the_adapter() -> None:
    """After tau the base, whichever expert denoises: with all but the last step adapted, and with half of them."""
    from tests.backbones.tiny import tiny_backbone

    backbone, entry = tiny_backbone("wan2.2-t2v-a14b"), find_method("lora")

    def drawn(method: Any, **given: Any) -> list[torch.Tensor]:
        config = dataclasses.replace(default_sampler(backbone, num_inference_steps=10), mixed_precision="no", **given)
        return list(denoise(backbone, method, PROMPTS, (1, 2), config))

    base = drawn(None)
    method = entry.attach(backbone, entry.config(rank=2), PROMPTS[0])
    try:
        shake(dict(method.groups))
        whole = drawn(method)
        assert torch.equal(drawn(method, adapter_until=0.0)[-1], base[-1])
        for until in (2, 9):
            part = drawn(method, adapter_until=until / 10)
            assert torch.equal(part[until - 1], whole[until - 1])
            assert not torch.equal(part[until], whole[until])
    finally:
        method.detach()
    assert torch.equal(drawn(None)[-1], base[-1])


# ------------------------------------------------------------------------------------------------ texts and caches


def test_a_video_with_a_first_block_cache_is_drawn_alone(tmp_path: Path) -> None:
    """Its blocks are left out by what it shows, not by its neighbours."""
    cache = parse("first-block:0.9")
    config = quick(num_inference_steps=6, step_cache=cache)
    assert [list(b) for b in batches_of(3, config)] == [[0], [1], [2]]
    for other in (quick(), quick(step_cache=parse("first-block:0"))):
        assert [list(b) for b in batches_of(5, other)] == [[0, 1, 2, 3], [4]]
    assert [list(b) for b in batches_of(5, quick(step_cache=parse("taylorseer:2")))] == [[0, 1, 2, 3], [4]]
    events = list(generate(puppet_backbone(), None, PROMPTS, [3, 4], config, tmp_path))
    assert [e.step for e in events if isinstance(e, Progress)] == list(range(1, 13))
    (note,) = [e.message for e in events if isinstance(e, Noted)]
    share = re.fullmatch(r"the step cache first-block:0.9 left out (\d+)% of the denoiser's blocks in 2 videos", note)
    assert share
    assert 20 < int(share.group(1)) < 90
    alone = list(generate(puppet_backbone(), None, PROMPTS[1:], [4], config, tmp_path / "alone"))
    both, own = ([e.path for e in some if isinstance(e, Sampled)][-1] for some in (events, alone))
    assert both.read_bytes() == own.read_bytes()


def test_a_cache_that_leaves_nothing_out_says_so(tmp_path: Path) -> None:
    events = list(generate(puppet_backbone(), None, PROMPTS, [3, 4], quick(step_cache=parse("taylorseer:1")), tmp_path))
    (note,) = [e.message for e in events if isinstance(e, Noted)]
    assert note == "the step cache taylorseer:1 left out 0% of the denoiser's blocks in 2 videos"
    assert not [
        e for e in generate(puppet_backbone(), None, PROMPTS, [3, 4], quick(), tmp_path) if isinstance(e, Noted)
    ]


def test_a_cancel_takes_cache_and_strength_off_at_once(tmp_path: Path) -> None:
    backbone, cancel = puppet_backbone(), threading.Event()
    cancel.set()
    config = quick(num_inference_steps=6, step_cache=parse("first-block:0.9"))
    with pytest.raises(Cancelled) as caught:  # which holds the frames of the run
        list(generate(backbone, None, PROMPTS, [3, 4], config, tmp_path, cancel=cancel))
    assert not backbone.transformers("t2v")[0].is_cache_enabled
    assert caught.tb is not None


def test_guidance_where_there_is_none() -> None:
    spec = puppet_backbone().spec
    spec = dataclasses.replace(spec, features=spec.features - {"true_cfg"}, guidance_scale=1.0)
    with pytest.raises(IncompatibleError, match="puppet-hunyuan takes no guidance_scale: leave it out, or set 1"):
        default_sampler(spec, guidance_scale=4.0)
    assert default_sampler(spec, guidance_scale=1.0).guidance_scale == 1.0


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


def videos(subjects: tuple[str, ...], folder: Path, *, own_folder: bool = False, **values: object) -> list[Path]:
    prompts = [Prompt(subject=subject, motion="waves") for subject in subjects]
    events = list(
        generate(puppet_backbone(), None, prompts, [3] * len(prompts), quick(**values), folder, own_folder=own_folder)
    )
    said = [e.message for e in events if isinstance(e, Noted)]
    (folder / "said.txt").write_text("\n".join(said))
    return [e.path for e in events if isinstance(e, Sampled)]


def test_no_video_is_written_over(tmp_path: Path) -> None:
    first = videos(("a red cat", "a red: cat", "a cat"), tmp_path)  # of long words, too, the beginning is alike
    assert len(set(first)) == 3, "of one run"
    assert first[1].stem == f"{first[0].stem}-2"
    assert first[2].name == "a-cat-waves-seed3-base.mp4"
    before = {path: path.read_bytes() for path in first}
    assert len(set(before.values())) == 3
    others = videos(("a cat",), tmp_path, num_inference_steps=3)
    assert [path.name for path in others] == ["a-cat-waves-seed3-base-2.mp4"], "of other settings"
    said = "a-cat-waves-seed3-base.mp4 is another video and stays: the new one is a-cat-waves-seed3-base-2.mp4"
    assert (tmp_path / "said.txt").read_text() == said
    assert {path: path.read_bytes() for path in first} == before
    assert others[0].read_bytes() not in before.values()


def test_the_same_video_again_is_the_file_that_is_there(tmp_path: Path) -> None:
    some = ("a cat", "a dog", "a cat")
    first = videos(some, tmp_path)
    assert len(set(first)) == 3, "a row each, as with a picture each"
    assert videos(some, tmp_path) == first
    assert sorted(path for path in tmp_path.iterdir() if path.suffix == ".mp4") == sorted(first)
    assert (tmp_path / "said.txt").read_text() == ""


def test_what_an_earlier_attempt_of_the_same_run_left_is_replaced(tmp_path: Path) -> None:
    (first,) = videos(("a cat",), tmp_path, own_folder=True)
    before = first.read_bytes()
    assert videos(("a cat",), tmp_path, own_folder=True, num_inference_steps=3) == [first]
    assert first.read_bytes() != before
    assert len(list(tmp_path.glob("*.mp4"))) == 1
