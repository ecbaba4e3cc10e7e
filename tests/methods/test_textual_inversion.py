"""Textual Inversion's own: one vector learns, any subject takes it, and everything else stays as it is."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from synmotion_core.errors import ConfigError
from synmotion_core.methods.textual_inversion import TextualInversion, TextualInversionConfig, TextualInversionEntry
from synmotion_core.training import trainer
from synmotion_core.training.cache import with_cached_texts
from synmotion_core.training.settings import TrainConfig
from synmotion_core.training.trainer import TrainingSet
from synmotion_core.types import Prompt, Stopped, stack_text
from tests.models import PROMPTS, noisy, puppet_backbone

REFERENCE = Prompt(subject="a person", motion="squats, bobs apart deep")


@pytest.fixture
def method() -> Iterator[TextualInversion]:
    made = TextualInversionEntry().attach(puppet_backbone(), TextualInversionConfig(), REFERENCE)
    yield made
    made.detach()


def shift(method: TextualInversion) -> None:
    with torch.no_grad():
        method.word.add_(torch.randn(method.word.shape, generator=torch.Generator().manual_seed(1)) * 0.1)


def test_it_starts_as_the_mean_of_the_motions_tokens(method: TextualInversion) -> None:
    pipe = puppet_backbone().pipe
    ids = pipe.tokenizer(REFERENCE.text, return_tensors="pt").input_ids[0, 3:]  # behind <s>, a, person
    torch.testing.assert_close(method.word.data, pipe.text_encoder.get_input_embeddings().weight[ids].mean(0))
    assert not torch.equal(method.word.data, torch.zeros_like(method.word))


def test_the_gradient_reaches_the_word_and_nothing_else(method: TextualInversion) -> None:
    backbone = puppet_backbone()
    x, s = noisy(backbone)
    parts = ("transformer", "text_encoder", "text_encoder_2", "vae")
    before = {part: [p.clone() for p in getattr(backbone.pipe, part).parameters()] for part in parts}
    with torch.autocast("cpu", torch.bfloat16):
        backbone.predict(x, s, method.condition(backbone.encode_prompt(PROMPTS))).square().mean().backward()
    assert method.word.grad is not None
    assert method.word.grad.abs().max() > 0
    for part in parts:
        now = list(getattr(backbone.pipe, part).parameters())
        assert all(p.grad is None and not p.requires_grad for p in now), part
        assert all(torch.equal(p, q) for p, q in zip(now, before[part], strict=True)), part


def test_two_subjects_share_the_word_and_keep_their_own(method: TextualInversion) -> None:
    """Any words of a motion read the same: the learnt one. Other subjects read otherwise."""
    backbone = puppet_backbone()
    shift(method)
    cat, bear = (Prompt(subject=s, motion="squats") for s in ("a red cat", "a blue bear"))
    other = dataclasses.replace(cat, motion="squats, bobs apart deep, swings hands down")
    made = method.condition(backbone.encode_prompt([cat, bear, other]))
    assert made.prompt_attention_mask.sum(1).tolist() == [5, 5, 5], "<s> a red cat *"
    torch.testing.assert_close(made.prompt_embeds[0], made.prompt_embeds[2], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(made.prompt_embeds[0], made.prompt_embeds[1], atol=1e-2)
    unlearnt = backbone.encode_prompt([dataclasses.replace(cat, motion="jumps")]).prompt_embeds
    torch.testing.assert_close(made.prompt_embeds[0, :4], unlearnt[0, :4], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(made.prompt_embeds[0, 4], unlearnt[0, 4], atol=1e-2)


def test_rows_without_a_motion_stay_where_and_as_they_are(method: TextualInversion) -> None:
    backbone = puppet_backbone()
    shift(method)
    text, null = backbone.encode_prompt(PROMPTS), backbone.encode_text(["", "a cat"])
    whole = stack_text([null.select([0]), text.select([0]), null.select([1]), text.select([1])])
    made, alone = method.condition(whole), method.condition(text)
    for row, (source, own) in enumerate([(null, 0), (alone, 0), (null, 1), (alone, 1)]):
        length = int(made.prompt_attention_mask[row].sum())
        assert length == int(source.prompt_attention_mask[own].sum())
        assert torch.equal(made.prompt_embeds[row, :length], source.prompt_embeds[own, :length])
        assert made.pooled_prompt_embeds is not None
        assert source.pooled_prompt_embeds is not None
        assert torch.equal(made.pooled_prompt_embeds[row], source.pooled_prompt_embeds[own]), "CLIP's plain words"
    untouched = method.condition(null)
    assert untouched.prompt_embeds is null.prompt_embeds


def test_strength_goes_from_where_it_began(method: TextualInversion) -> None:
    backbone = puppet_backbone()
    text = backbone.encode_prompt(PROMPTS)
    fresh = method.condition(text).prompt_embeds
    shift(method)
    near = method.condition(text, 1e-6).prompt_embeds
    torch.testing.assert_close(near, fresh, rtol=1e-4, atol=1e-4)
    assert method.condition(text, 0.0).prompt_embeds is text.prompt_embeds


def test_the_cache_keeps_what_a_prompt_was(method: TextualInversion, tmp_path: Path) -> None:
    """Written once and read back: the word is put into the same prompts."""
    shift(method)
    expected = method.condition(puppet_backbone().encode_prompt(PROMPTS))
    for _ in range(2):
        read = with_cached_texts(puppet_backbone(), tmp_path).encode_prompt(PROMPTS)
        torch.testing.assert_close(method.condition(read).prompt_embeds, expected.prompt_embeds, rtol=0, atol=0)


def train(folder: Path, stop_at: int | None = None, resume: bool = False) -> dict[str, torch.Tensor]:
    backbone = puppet_backbone()
    latents = torch.randn((3, *backbone.latent_shape(backbone.spec.default_shape)), generator=torch.manual_seed(0))
    prompts = [dataclasses.replace(REFERENCE, subject=f"a {colour} person") for colour in ("red", "blue", "teal")]
    data: dict[Any, TrainingSet] = {"reference": TrainingSet(latents=latents, text=backbone.encode_prompt(prompts))}
    method, cancel = TextualInversionEntry().attach(backbone, TextualInversionConfig(), REFERENCE), threading.Event()
    try:
        for event in trainer.train(
            backbone=backbone, method=method, data=data, folder=folder, settings="s", cancel=cancel, resume=resume,
            config=TrainConfig(num_steps=4, batch_size=2, save_every=0, sample_every=0, warmup_steps=0),
        ):  # fmt: skip
            if getattr(event, "step", None) == stop_at and stop_at:
                cancel.set()
            stopped = isinstance(event, Stopped)
        assert stopped == (stop_at is not None)
        assert not torch.equal(method.word, method.start), "it learns"
        return method.state_dict()
    finally:
        method.detach()


def test_stop_and_resume_give_the_same_word(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    train(tmp_path / "parts", stop_at=2)
    again = train(tmp_path / "parts", resume=True)
    assert all(torch.equal(whole[key], again[key]) for key in whole)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_is_above_zero(value: float) -> None:
    with pytest.raises(ConfigError, match="embedding_lr"):
        TextualInversionConfig(embedding_lr=value)
