"""What every method owes on every backbone it fits: interfaces.Method, one battery for all rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from synmotion_core.backbones import SPECS
from synmotion_core.errors import AdapterError, ConfigError, IncompatibleError
from synmotion_core.interfaces import check_compatible, drawing_settings, why_incompatible
from synmotion_core.methods import METHODS, find_method
from synmotion_core.types import Prompt
from tests.backbones.tiny import tiny_backbone
from tests.models import PROMPTS, noisy, plain, puppet_backbone, shake

REFERENCE = PROMPTS[0]
CLIPS = 2
BACKBONES = ("puppet-hunyuan", "zeroscope-v2-576w")  # a transformer that ships, a U-Net at a tiny size
PAIRS = [
    (method, backbone)
    for backbone in BACKBONES
    for method, entry in METHODS.items()
    if why_incompatible(SPECS[backbone], method, entry.requires) is None
]


def test_every_method_is_here() -> None:
    assert {method for method, _ in PAIRS} == set(METHODS)


@pytest.fixture(params=PAIRS, ids=lambda pair: "-".join(pair))
def pair(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def entry(pair: Any) -> Any:
    return METHODS[pair[0]]


@pytest.fixture
def backbone(pair: Any) -> Any:
    return puppet_backbone() if pair[1] == "puppet-hunyuan" else tiny_backbone(pair[1])


@pytest.fixture
def attached(entry: Any, backbone: Any) -> Iterator[Any]:
    method = entry.attach(backbone, entry.config(), REFERENCE, CLIPS)
    yield method
    method.detach()


def predict(backbone: Any, method: Any, strength: float = 1.0, prompts: Sequence[Prompt] = PROMPTS) -> torch.Tensor:
    x, s = noisy(backbone)
    text = backbone.encode_prompt(prompts)
    with torch.no_grad():
        return backbone.predict(x, s, plain(text) if method is None else method.condition(text, strength))


def test_a_fresh_one_is_the_identity(entry: Any, backbone: Any) -> None:
    """One that learns a word begins as the mean of its motion's tokens: of one token, as the word itself."""
    prompts = PROMPTS
    if "word_embeddings" in entry.requires:
        prompts = tuple(dataclasses.replace(prompt, motion="jumps") for prompt in PROMPTS)
        assert backbone.encode_prompt(prompts).motion_tokens.sum(1).tolist() == [1, 1]
    method = entry.attach(backbone, entry.config(), prompts[0], CLIPS)
    try:
        assert torch.equal(predict(backbone, method, prompts=prompts), predict(backbone, None, prompts=prompts))
    finally:
        method.detach()


def test_strength_zero_is_the_base_and_one_is_not(attached: Any, backbone: Any) -> None:
    base = predict(backbone, None) if attached.set_strength(0.0) is None else None
    shake(attached.groups)
    assert torch.equal(predict(backbone, attached, 0.0), base)
    attached.set_strength(0.5)
    half = predict(backbone, attached, 0.5)
    attached.set_strength(1.0)
    whole = predict(backbone, attached)
    assert not torch.equal(whole, base)
    assert not torch.equal(half, base)
    assert not torch.equal(half, whole)
    attached.set_strength(0.0)
    assert torch.equal(predict(backbone, attached, 0.0), base)


def test_detach_restores_the_base(entry: Any, backbone: Any) -> None:
    names, base = [n for n, _ in backbone.denoiser.named_modules()], predict(backbone, None)
    method = entry.attach(backbone, entry.config(), REFERENCE, CLIPS)
    method.begin(method.phase(0, 0))
    shake(method.groups)
    method.set_strength(1.0)
    assert not torch.equal(predict(backbone, method), base)
    method.detach()
    assert torch.equal(predict(backbone, None), base)
    assert [n for n, _ in backbone.denoiser.named_modules()] == names
    assert not any(p.requires_grad for p in backbone.denoiser.parameters())
    hooks = [m._forward_hooks or m._forward_pre_hooks for m in backbone.denoiser.modules()]
    assert not any(hooks)


def test_every_group_gets_a_gradient_in_a_phase_that_trains_it(attached: Any, backbone: Any) -> None:
    shake(attached.groups)
    x, s = noisy(backbone)
    phases = {phase.trains: phase for phase in (attached.phase(0, step) for step in range(100))}
    seen: set[str] = set()
    for phase in phases.values():
        attached.begin(phase)
        for parameters in attached.groups.values():
            for p in parameters:
                p.grad = None
        latents = x[:, :, :1] if phase.frames == "one" else x
        condition = attached.condition(backbone.encode_prompt(PROMPTS))
        backbone.predict(latents, s, condition).square().mean().backward()
        for name in phase.trains:
            assert any(p.grad is not None and p.grad.abs().max() > 0 for p in attached.groups[name]), name
        seen |= phase.trains
    assert seen == set(attached.groups)


def test_parameters_are_float32_and_the_base_has_none(attached: Any, backbone: Any) -> None:
    own = {id(p) for ps in attached.groups.values() for p in ps}
    assert all(p.dtype == torch.float32 for ps in attached.groups.values() for p in ps)
    grown = [n for n, p in backbone.denoiser.named_parameters() if p.requires_grad and id(p) not in own]
    assert not grown


def test_saved_equals_loaded(entry: Any, backbone: Any) -> None:
    """Trained with clips at hand, loaded without any: what a training alone needs changes nothing that is drawn."""
    method = entry.attach(backbone, entry.config(), REFERENCE, CLIPS)
    shake(method.groups)
    method.set_strength(1.0)
    state, expected = method.state_dict(), predict(backbone, method)
    method.detach()
    again = entry.attach(backbone, entry.config(), PROMPTS[1])  # another phrase, of another length
    try:
        again.load_state_dict(state)
        again.set_strength(1.0)
        assert torch.equal(predict(backbone, again), expected)
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


def test_two_adapters_at_once_are_refused(attached: Any, entry: Any, backbone: Any) -> None:
    with pytest.raises(ConfigError, match="carries an adapter already"):
        entry.attach(backbone, entry.config(), REFERENCE)


def test_phases_depend_on_seed_and_step_only(attached: Any) -> None:
    first = [attached.phase(3, k) for k in range(200)]
    assert first == [attached.phase(3, k) for k in range(200)]
    assert all(p.trains <= set(attached.groups) for p in first)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
def test_compatibility_is_the_features(spec: Any, name: str) -> None:
    entry = METHODS[name]
    reason = why_incompatible(spec, entry.name, entry.requires)
    assert (reason is None) == (entry.requires <= spec.features)


@pytest.mark.parametrize("name", METHODS)
def test_what_is_open_after_training_is_a_setting(name: str) -> None:
    entry = METHODS[name]
    assert drawing_settings(entry) <= {field.name for field in dataclasses.fields(entry.config)}


def test_a_pair_that_does_not_fit_names_the_feature() -> None:
    spec = next(iter(SPECS.values()))
    with pytest.raises(IncompatibleError, match="needs temporal_attention, which backbone 'puppet-hunyuan' does not"):
        check_compatible(spec, "separation", frozenset({"temporal_attention"}))


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'synmotion'"):
        find_method("synmotoin")
