"""A learnt word in a prompt, on every row that offers it at a tiny size, and on the puppets."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synmotion_core.backbones import SPECS
from synmotion_core.backbones.roles import spans_of
from synmotion_core.backbones.words import Tokens, lifted, with_word
from synmotion_core.errors import ConfigError
from synmotion_core.interfaces import why_incompatible
from synmotion_core.methods import METHODS
from synmotion_core.types import Prompt
from tests.backbones.tiny import FOLDERS, tiny_backbone
from tests.models import PROMPTS, puppet_backbone

OFFERED = [name for name, spec in SPECS.items() if "word_embeddings" in spec.features]
ONE = (  # motions of one token, in the tiny tokenizers too, which know few
    Prompt(subject="a red cat", motion="red", setting="in the snow"),
    Prompt(subject="an elephant", motion="red"),
)
MANY = (  # the tiny tokenizers make a token of the space before other words, which has no role
    Prompt(subject="a red cat", motion="sits in the snow", setting="in the snow"),
    Prompt(subject="an elephant", motion="stands in"),
)


def loaded(name: str) -> Any:
    return tiny_backbone(name) if name in FOLDERS else puppet_backbone()


def test_rows_that_offer_it() -> None:
    assert set(OFFERED) == {
        *("puppet-hunyuan", "hunyuanvideo", "wan2.1-t2v-1.3b", "wan2.1-t2v-14b"),
        *("wan2.2-ti2v-5b", "wan2.2-t2v-a14b", "wan2.2-i2v-a14b"),
    }
    entry = METHODS["textual_inversion"]
    for name in ("hunyuanvideo-i2v", "hunyuanvideo-1.5", "hunyuanvideo-1.5-i2v", "wan2.1-i2v-14b"):
        reason = why_incompatible(SPECS[name], entry.name, entry.requires)
        assert reason == f"method 'textual_inversion' needs word_embeddings, which backbone {name!r} does not offer"


@pytest.mark.parametrize("name", OFFERED)
def test_a_word_of_the_table_is_read_as_ever(name: str) -> None:
    backbone = loaded(name)
    plain = backbone.encode_prompt(ONE)
    assert plain.motion_tokens.sum(1).tolist() == [1, 1]
    (word,) = backbone.motion_words(ONE[0])
    read = backbone.encode_word(ONE, word)
    for field in ("prompt_embeds", "prompt_attention_mask", "subject_tokens", "motion_tokens"):
        assert torch.equal(getattr(read, field), getattr(plain, field)), field
    assert read.prompts == plain.prompts == ONE


@pytest.mark.parametrize("name", OFFERED)
def test_a_phrase_becomes_one_token_and_the_roles_move_up(name: str) -> None:
    backbone = loaded(name)
    plain, words = backbone.encode_prompt(MANY), [backbone.motion_words(prompt) for prompt in MANY]
    assert [len(w) for w in words] == plain.motion_tokens.sum(1).tolist()
    assert min(map(len, words)) > 1
    word = words[0].mean(0).requires_grad_()
    read = backbone.encode_word(MANY, word)
    assert read.motion_tokens.sum(1).tolist() == [1, 1]
    assert torch.equal(read.subject_tokens.sum(1), plain.subject_tokens.sum(1))
    shorter = plain.prompt_attention_mask.sum(1) - read.prompt_attention_mask.sum(1)
    assert shorter.tolist() == [len(w) - 1 for w in words]
    lengths = read.prompt_attention_mask.sum(1)
    assert torch.equal(read.prompt_attention_mask.bool(), torch.arange(int(lengths.max())) < lengths[:, None])
    # the same as a prompt whose motion is one word, with that word's embedding replaced
    alike = [dataclasses.replace(prompt, motion="red") for prompt in MANY]
    again = backbone.encode_word(alike, word)
    kept = read.prompt_attention_mask.bool()
    torch.testing.assert_close(read.prompt_embeds[kept], again.prompt_embeds[kept], rtol=1e-4, atol=1e-5)
    assert torch.equal(read.subject_tokens, again.subject_tokens)
    (gradient,) = torch.autograd.grad(read.prompt_embeds[kept].square().sum(), word)
    assert gradient.abs().max() > 0
    assert not any(p.requires_grad for p in backbone.pipe.text_encoder.parameters())


@given(st.lists(st.tuples(*[st.integers(1, 4)] * 3), min_size=1, max_size=4))
def test_rows_are_shortened_each_by_its_own(sizes: list[tuple[int, int, int]]) -> None:
    """Rows of (subject, motion, rest) tokens, numbered from 1; 0 is padding."""
    length = max(map(sum, sizes))
    ids, roles = torch.zeros(len(sizes), length, dtype=torch.long), torch.zeros(2, len(sizes), length).bool()
    for row, (subject, motion, rest) in enumerate(sizes):
        ids[row, : subject + motion + rest] = torch.arange(1, subject + motion + rest + 1)
        roles[0, row, :subject] = roles[1, row, subject : subject + motion] = True
    short = Tokens(ids=ids, mask=(ids > 0).long(), subject=roles[0], motion=roles[1]).one_motion()
    for row, (subject, motion, rest) in enumerate(sizes):
        expected = [*range(1, subject + 2), *range(subject + motion + 1, subject + motion + rest + 1)]
        kept = short.mask[row].bool()
        assert short.ids[row, kept].tolist() == expected
        assert short.ids[row, short.motion[row]].tolist() == [subject + 1]
        assert short.ids[row, short.subject[row]].tolist() == expected[:subject]
        assert not (short.motion[row] & ~kept).any()
        assert torch.equal(kept, torch.arange(len(kept)) < len(expected))
    assert short.ids.shape[1] == max(s + 1 + r for s, _, r in sizes)


@pytest.mark.parametrize("name", ["hunyuanvideo", "wan2.1-t2v-1.3b"])
def test_a_held_encoder_stays_and_others_go(name: str) -> None:
    backbone = loaded(name)
    backbone.encode_prompt(PROMPTS)
    backbone.hold_words(True)
    try:
        with pytest.raises(ConfigError, match="carries an adapter already"):
            backbone.hold_words(True)
        backbone.release_encoders()
        assert backbone.pipe.encoders.loaded == ("text_encoder",)
        kept = backbone.pipe.text_encoder
        backbone.encode_word(PROMPTS, backbone.motion_words(PROMPTS[0]).mean(0))
        assert backbone.pipe.encoders.loaded == ("text_encoder",), "CLIP is not asked"
        assert backbone.pipe.text_encoder is kept
    finally:
        backbone.hold_words(False)
    backbone.release_encoders()
    assert backbone.pipe.encoders.loaded == ()


def test_a_gradient_comes_back_through_an_encoder_in_float16() -> None:
    """Bit for bit the same words, and a gradient that float16 alone would lose."""
    whole: Any = tiny_backbone("hunyuanvideo")
    half = copy.deepcopy(whole.pipe.text_encoder).half()
    word = torch.randn(32, generator=torch.Generator().manual_seed(0)) * 0.02

    def gradient(encoder: Any, lift: bool) -> tuple[torch.Tensor, torch.Tensor]:
        own = word.clone().requires_grad_()
        tokens = whole._tokens([PROMPTS[0].text], spans_of(PROMPTS[:1])).one_motion()

        def read(x: torch.Tensor) -> torch.Tensor:
            embeds = with_word(encoder, tokens, x)
            return encoder(inputs_embeds=embeds, attention_mask=tokens.mask).last_hidden_state.float()

        made = lifted(own, read, encoder.dtype) if lift else read(own)
        (made * torch.randn(made.shape, generator=torch.Generator().manual_seed(1)) * 1e-11).sum().backward()
        assert own.grad is not None
        return made.detach(), own.grad

    _, exact = gradient(whole.pipe.text_encoder, True)
    plain, lost = gradient(half, False)
    made, found = gradient(half, True)
    assert torch.equal(made, plain)
    assert not lost.any()
    assert (found - exact).norm() / exact.norm() < 0.02
