"""DreamBooth's own: the weighting of priors in expectation, and the identifier."""

from __future__ import annotations

import pytest

from synmotion_core.errors import ConfigError
from synmotion_core.interfaces import reworded
from synmotion_core.methods import METHODS
from synmotion_core.methods.dreambooth import DreamBoothConfig, DreamBoothEntry
from synmotion_core.methods.lora import LoraConfig
from synmotion_core.puppets.blueprint import corpus_of_captions
from synmotion_core.types import Prompt
from tests.models import PROMPTS, puppet_backbone


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0, 3.0])
def test_steps_weigh_the_two_terms_as_the_loss_does(weight: float) -> None:
    """Of n steps n p are on priors and n (1 - p) on clips, so p / (1 - p) stands for lambda."""
    entry = DreamBoothEntry()
    config = DreamBoothConfig(rank=2, prior_loss_weight=weight)
    method = entry.attach(puppet_backbone(), config, PROMPTS[0])
    try:
        phases = [method.phase(5, step) for step in range(4000)]
    finally:
        method.detach()
    priors = sum(phase.draws == "prior" for phase in phases)
    assert priors / (len(phases) - priors) == pytest.approx(weight, rel=0.1)
    assert all(phase.target == "data" and phase.trains == {"adapters"} for phase in phases)
    assert entry.draws_priors(config) == (weight > 0)


def test_the_identifier_stands_before_the_motion_and_in_its_role() -> None:
    entry, prompt = METHODS["dreambooth"], Prompt(subject="a red cat", motion="squats, bobs deep", setting="in snow")
    read = reworded(entry, DreamBoothConfig(identifier="zwx"), prompt)
    assert read.text == "a red cat zwx squats, bobs deep in snow"
    assert read.text[slice(*read.span("motion"))] == "zwx squats, bobs deep"
    assert reworded(entry, DreamBoothConfig(), prompt).motion == "sks squats, bobs deep"
    assert reworded(METHODS["lora"], LoraConfig(), prompt) == reworded(None, None, prompt) == prompt


def test_puppets_read_the_identifier_and_were_never_taught_it() -> None:
    backbone = puppet_backbone()
    tokens = backbone.pipe.tokenizer.tokenize("a person sks squats")[2:4]
    assert "".join(tokens).strip("Ġ") == "sks", "no unknown token: it is spelt"
    known = {token for caption in corpus_of_captions(2000) for token in backbone.pipe.tokenizer.tokenize(caption)}
    assert not set(tokens) <= known
    one = backbone.encode_prompt([Prompt(subject="a person", motion="squats")])
    other = backbone.encode_prompt([Prompt(subject="a person", motion="sks squats")])
    assert other.motion_tokens.sum() == one.motion_tokens.sum() + len(tokens)
    assert other.subject_tokens.sum() == one.subject_tokens.sum()


@pytest.mark.parametrize("word", ["", "two words", "a,b", "<pad>", "x" * 21, "line\n"])
def test_an_identifier_is_one_word(word: str) -> None:
    with pytest.raises(ConfigError, match="identifier must be one word"):
        DreamBoothConfig(identifier=word)


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_a_weight_is_a_number_from_zero(weight: float) -> None:
    with pytest.raises(ConfigError, match="prior_loss_weight"):
        DreamBoothConfig(prior_loss_weight=weight)


def test_it_refuses_what_plain_lora_refuses() -> None:
    with pytest.raises(ConfigError, match="rank must be between"):
        DreamBoothConfig(rank=0)
