"""What every method owes on every backbone it fits: interfaces.Method, one battery for all rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from synmotion_core.backbones import SPECS
from synmotion_core.errors import AdapterError, ConfigError, IncompatibleError
from synmotion_core.interfaces import check_compatible, why_incompatible
from synmotion_core.methods import METHODS, find_method
from synmotion_core.types import Prompt
from tests.models import PROMPTS, noisy, plain, puppet_backbone, shake

REFERENCE = PROMPTS[0]


@pytest.fixture(params=METHODS)
def entry(request: pytest.FixtureRequest) -> Any:
    return METHODS[request.param]


@pytest.fixture
def attached(entry: Any) -> Iterator[Any]:
    method = entry.attach(puppet_backbone(), entry.config(), REFERENCE)
    yield method
    method.detach()


def predict(method: Any, strength: float = 1.0, prompts: Sequence[Prompt] = PROMPTS) -> torch.Tensor:
    backbone = puppet_backbone()
    x, s = noisy(backbone)
    text = backbone.encode_prompt(prompts)
    with torch.no_grad():
        return backbone.predict(x, s, plain(text) if method is None else method.condition(text, strength))


@pytest.fixture(scope="module")
def base() -> torch.Tensor:
    return predict(None)


def test_a_fresh_one_is_the_identity(entry: Any) -> None:
    """One that learns a word begins as the mean of its motion's tokens: of one token, as the word itself."""
    prompts = PROMPTS
    if "word_embeddings" in entry.requires:
        prompts = tuple(dataclasses.replace(prompt, motion="jumps") for prompt in PROMPTS)
        assert puppet_backbone().encode_prompt(prompts).motion_tokens.sum(1).tolist() == [1, 1]
    method = entry.attach(puppet_backbone(), entry.config(), prompts[0])
    try:
        assert torch.equal(predict(method, prompts=prompts), predict(None, prompts=prompts))
    finally:
        method.detach()


def test_strength_zero_is_the_base_and_one_is_not(attached: Any, base: torch.Tensor) -> None:
    shake(attached.groups)
    assert not torch.equal(predict(attached), base)
    attached.set_strength(0.0)
    assert torch.equal(predict(attached, 0.0), base)
    attached.set_strength(0.5)
    half = predict(attached, 0.5)
    attached.set_strength(1.0)
    assert not torch.equal(half, base)
    assert not torch.equal(half, predict(attached))


def test_detach_restores_the_base(entry: Any, base: torch.Tensor) -> None:
    names = [n for n, _ in puppet_backbone().denoiser.named_modules()]
    method = entry.attach(puppet_backbone(), entry.config(), REFERENCE)
    shake(method.groups)
    method.detach()
    assert torch.equal(predict(None), base)
    assert [n for n, _ in puppet_backbone().denoiser.named_modules()] == names
    assert not any(p.requires_grad for p in puppet_backbone().denoiser.parameters())


def test_every_group_gets_a_gradient(attached: Any) -> None:
    shake(attached.groups)
    backbone = puppet_backbone()
    x, s = noisy(backbone)
    backbone.predict(x, s, attached.condition(backbone.encode_prompt(PROMPTS))).square().mean().backward()
    for name, parameters in attached.groups.items():
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in parameters), name


def test_parameters_are_float32_and_the_base_has_none(attached: Any) -> None:
    own = {id(p) for ps in attached.groups.values() for p in ps}
    assert all(p.dtype == torch.float32 for ps in attached.groups.values() for p in ps)
    grown = [n for n, p in puppet_backbone().denoiser.named_parameters() if p.requires_grad and id(p) not in own]
    assert not grown


def test_saved_equals_loaded(entry: Any) -> None:
    method = entry.attach(puppet_backbone(), entry.config(), REFERENCE)
    shake(method.groups)
    state, expected = method.state_dict(), predict(method)
    method.detach()
    again = entry.attach(puppet_backbone(), entry.config(), PROMPTS[1])  # another phrase, of another length
    try:
        again.load_state_dict(state)
        assert torch.equal(predict(again), expected)
    finally:
        again.detach()


def test_a_state_that_does_not_fit_says_how_much_applies(attached: Any) -> None:
    state = attached.state_dict()
    *kept, last = state
    missing = {key: state[key] for key in kept}
    with pytest.raises(AdapterError, match=r"\d+ of \d+ keys apply; 1 missing"):
        attached.load_state_dict(missing)
    with pytest.raises(AdapterError, match=r"does not know the key 'other\.x'"):
        attached.load_state_dict({**state, "other.x": torch.zeros(1)})
    with pytest.raises(AdapterError, match="misshapen"):
        attached.load_state_dict({**state, last: state[last][..., :1]})


def test_two_adapters_at_once_are_refused(attached: Any, entry: Any) -> None:
    with pytest.raises(ConfigError, match="carries an adapter already"):
        entry.attach(puppet_backbone(), entry.config(), REFERENCE)


def test_phases_depend_on_seed_and_step_only(attached: Any) -> None:
    first = [attached.phase(3, k) for k in range(200)]
    assert first == [attached.phase(3, k) for k in range(200)]
    assert all(p.trains <= set(attached.groups) for p in first)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_compatibility_is_the_features(spec: Any, entry: Any) -> None:
    reason = why_incompatible(spec, entry.name, entry.requires)
    assert (reason is None) == (entry.requires <= spec.features)


def test_a_pair_that_does_not_fit_names_the_feature() -> None:
    spec = next(iter(SPECS.values()))
    with pytest.raises(IncompatibleError, match="needs temporal_attention, which backbone 'puppet-hunyuan' does not"):
        check_compatible(spec, "separation", frozenset({"temporal_attention"}))


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'synmotion'"):
        find_method("synmotoin")
