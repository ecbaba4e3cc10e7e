"""SynMotion's own maths: spreading, roles, phases, and each part of the ablation."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synmotion_core.errors import ConfigError
from synmotion_core.methods.dual_embedding import DualEmbedding, num_parameters, spread
from synmotion_core.methods.synmotion import SynMotionConfig, SynMotionEntry
from synmotion_core.types import Prompt, TextCondition
from tests.models import PROMPTS, noisy, puppet_backbone, shake


def test_spread_of_equal_length_reads_as_it_is() -> None:
    learnt = torch.randn(3, 5)
    mask = torch.tensor([[False, True, True, False, True]])
    out = spread(learnt, mask)
    torch.testing.assert_close(out[0, [1, 2, 4]], learnt)
    assert not out[0, [0, 3]].any()


@given(k=st.integers(1, 7), n=st.integers(1, 9))
def test_spread_keeps_the_ends_and_stays_between(k: int, n: int) -> None:
    learnt = torch.arange(k, dtype=torch.float32)[:, None]
    out = spread(learnt, torch.ones(1, n, dtype=torch.bool))[0, :, 0]
    if n > 1:
        assert out[0] == 0
        assert out[-1] == k - 1
        assert (out.diff() >= -1e-6).all()
    else:
        assert out[0] == pytest.approx((k - 1) / 2)


def embedding(**parts: object) -> tuple[DualEmbedding, TextCondition]:
    backbone = puppet_backbone()
    settings = {"motion": True, "subject": True, "subject_tokens": 4, "refiner_layers": 2, "refiner_width": 64} | parts
    text = backbone.encode_prompt(PROMPTS)
    own = DualEmbedding(backbone.encode_prompt([PROMPTS[0]]), generator=torch.Generator().manual_seed(0), **settings)  # type: ignore[arg-type]
    return own, text


def test_motion_starts_from_the_full_phrase_and_subject_at_random() -> None:
    own, _ = embedding()
    text = puppet_backbone().encode_prompt([PROMPTS[0]])
    assert own.motion_embedding is not None
    torch.testing.assert_close(own.motion_embedding.data, text.prompt_embeds[0][text.motion_tokens[0]])
    # the same verb after another subject is encoded differently, so this is the phrase and not the word
    other = puppet_backbone().encode_prompt([Prompt(subject="a bear", motion=PROMPTS[0].motion)])
    assert not torch.allclose(own.motion_embedding.data, other.prompt_embeds[0][other.motion_tokens[0]], atol=1e-3)


@pytest.mark.parametrize(
    ("part", "roles"),
    [("motion_embedding", ("motion",)), ("subject_embedding", ("subject",)), ("refiner", ("motion", "subject"))],
)
def test_each_part_changes_its_own_tokens_only(part: str, roles: tuple[str, ...]) -> None:
    own, text = embedding(
        motion=part == "motion_embedding",
        subject=part == "subject_embedding",
        refiner_layers=2 if part == "refiner" else 0,
    )
    shake(own.groups())
    changed = (own(text) - text.prompt_embeds).abs().sum(-1) > 1e-6
    expected = torch.zeros_like(changed)
    for role in roles:
        expected |= getattr(text, f"{role}_tokens")
    assert torch.equal(changed, expected)


def test_text_without_roles_passes_untouched() -> None:
    own, _ = embedding()
    shake(own.groups())
    null = puppet_backbone().encode_text(["", "anything at all"])
    out = own(null)
    assert torch.equal(out, null.prompt_embeds)
    assert torch.isfinite(out).all()


def test_the_refiner_fuses_both_roles() -> None:
    """A change of the subject's words reaches the motion's tokens through R (and only through R: the encoder is not
    asked again).
    """
    own, text = embedding(motion=False, subject=False)
    shake(own.groups())
    moved = dataclasses.replace(
        text,
        prompt_embeds=text.prompt_embeds + torch.randn_like(text.prompt_embeds) * text.subject_tokens.unsqueeze(-1),
    )
    delta = (own(moved) - moved.prompt_embeds) - (own(text) - text.prompt_embeds)
    assert delta[text.motion_tokens].abs().max() > 1e-5


def test_parameters_are_counted_without_building() -> None:
    own, _ = embedding()
    tokens = int(puppet_backbone().encode_prompt([PROMPTS[0]]).motion_tokens.sum())
    expected = num_parameters(128, motion_tokens=tokens, subject_tokens=4, refiner_layers=2, refiner_width=64)
    assert sum(p.numel() for p in own.parameters()) == expected


@pytest.mark.parametrize("alpha", [0.5, 0.75, 0.9])
def test_alpha_is_the_share_of_reference_steps(alpha: float) -> None:
    method = SynMotionEntry().attach(puppet_backbone(), SynMotionConfig(alpha=alpha, rank=2), PROMPTS[0])
    try:
        phases = [method.phase(0, k) for k in range(4000)]
    finally:
        method.detach()
    share = sum(p.draws == "reference" for p in phases) / len(phases)
    assert abs(share - alpha) < 0.03
    for phase in phases:
        if phase.draws == "prior":
            assert phase.trains == {"subject_embedding", "subject_zero", "refiner", "adapters"}, "all but e^l_mot"
        else:
            assert "motion_embedding" in phase.trains


def test_the_motion_embedding_never_moves_on_prior_steps() -> None:
    with pytest.raises(ConfigError, match="stays frozen"):
        SynMotionConfig(prior_updates=("motion_embedding",))


@pytest.mark.parametrize(
    "config",
    [
        SynMotionConfig(rank=0),
        SynMotionConfig(refiner_layers=0),
        SynMotionConfig(subject_embedding=False),
        SynMotionConfig(motion_embedding=False),
        SynMotionConfig(rank=4, motion_embedding=False, subject_embedding=False, refiner_layers=0),
    ],
    ids=["no adapters", "no refiner", "no subject", "no motion", "adapters only"],
)
def test_each_part_can_be_switched_off(config: SynMotionConfig) -> None:
    backbone = puppet_backbone()
    method = SynMotionEntry().attach(backbone, config, PROMPTS[0])
    try:
        assert ("adapters" in method.groups) == (config.rank > 0)
        assert ("refiner" in method.groups) == (config.refiner_layers > 0)
        assert ("subject_embedding" in method.groups) == config.subject_embedding
        assert ("motion_embedding" in method.groups) == config.motion_embedding
        shake(dict(method.groups))
        x, s = noisy(backbone)
        backbone.predict(x, s, method.condition(backbone.encode_prompt(PROMPTS))).mean().backward()
    finally:
        method.detach()


@pytest.mark.parametrize(("width", "near"), [(30, "28 or 32"), (-3, "0 or 4")])
def test_a_width_that_the_heads_cannot_share_is_refused(width: int, near: str) -> None:
    with pytest.raises(ConfigError, match=f"refiner_width .* multiple of 4.*got {width}: use {near}"):
        SynMotionConfig(refiner_width=width)


def test_nothing_switched_on_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing would be learnt"):
        SynMotionConfig(rank=0, refiner_layers=0, motion_embedding=False, subject_embedding=False)


def test_targets_that_match_nothing_are_an_error() -> None:
    from synmotion_core.methods.attention_lora import AttentionLora

    with pytest.raises(ConfigError, match="no layer of HunyuanVideoTransformer3DModel matches"):
        AttentionLora(puppet_backbone().denoiser, r"blocks\.nothing", rank=2, alpha=2, seed=0)


def test_the_order_of_encoded_tokens_says_nothing_to_refiner_and_denoiser() -> None:
    """So "subject first" and "motion first" are one setting here: the paper's token order cannot be a row.

    HunyuanVideo's transformer gives encoded text no positions, and R sees roles instead of an order.
    """
    backbone, (own, text) = puppet_backbone(), embedding()
    shake(own.groups())
    one = text.select([0])  # without padding
    order = torch.randperm(one.prompt_embeds.shape[1], generator=torch.Generator().manual_seed(3))
    assert one.prompt_attention_mask.all()
    changed = {
        name: getattr(one, name)[:, order]
        for name in ("prompt_embeds", "prompt_attention_mask", "subject_tokens", "motion_tokens")
    }
    other = dataclasses.replace(one, **changed)
    assert own.refiner is not None
    refined = own.refiner(one.prompt_embeds, one.subject_tokens, one.motion_tokens)
    moved = own.refiner(other.prompt_embeds, other.subject_tokens, other.motion_tokens)
    torch.testing.assert_close(moved, refined[:, order], atol=1e-5, rtol=1e-4)
    x, s = noisy(backbone, batch=1)
    with torch.no_grad():
        plain = backbone.predict(x, s, one.as_condition())
        same = backbone.predict(x, s, other.as_condition())
        swapped = dataclasses.replace(one, prompt_embeds=other.prompt_embeds.flip(-1))
        unlike = backbone.predict(x, s, swapped.as_condition())
    torch.testing.assert_close(same, plain, atol=1e-4, rtol=1e-3)
    assert (unlike - plain).abs().max() > 0.05, "what the tokens hold does"
