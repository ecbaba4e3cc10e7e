"""Rules of the vocabulary: words, spans, shapes, and text conditions that survive stacking and selecting."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from synmotion_core import types
from synmotion_core.errors import PromptError, ShapeError
from synmotion_core.limits import MOST_LETTERS
from synmotion_core.types import Prompt, TextCondition, VideoShape, stack_text

words = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=12)
ROWS = (None, Prompt(subject="a cat", motion="waves"), Prompt(subject="a bear", motion="squats"))
phrases = st.lists(words, min_size=1, max_size=4).map(" ".join)


@given(phrases, phrases, st.just("") | phrases)
def test_spans_find_the_words(subject: str, motion: str, setting: str) -> None:
    assume(subject.casefold() != motion.casefold())
    prompt = Prompt(subject=subject, motion=motion, setting=setting)
    for role, expected in (("subject", subject), ("motion", motion)):
        start, end = prompt.span(role)
        assert prompt.text[start:end] == expected
    assert prompt.text.endswith(setting)


@given(st.lists(words, min_size=1, max_size=4), st.integers(0, 3), st.integers(1, 3))
def test_white_space_is_normalised_once_and_for_all(parts: list[str], outer: int, inner: int) -> None:
    raw = " " * outer + (" " * inner).join(parts) + " " * outer
    prompt = Prompt(subject=raw, motion="does the motion of this test")
    assert prompt.subject == " ".join(parts)
    assert dataclasses.replace(prompt) == prompt


@pytest.mark.parametrize("field", ["subject", "motion", "setting"])
def test_endless_words_are_refused(field: str) -> None:
    values = {"subject": "a cat", "motion": "waves", "setting": "outside"}
    assert Prompt(**values | {field: "x" * MOST_LETTERS})
    with pytest.raises(PromptError, match=f"{field} has at most 10000 characters, got 10001"):
        Prompt(**values | {field: "x" * (MOST_LETTERS + 1)})


@given(st.characters(categories=("Cc",)), st.sampled_from(["subject", "motion", "setting"]))
def test_control_characters_are_refused_not_removed(character: str, field: str) -> None:
    values = {"subject": "a cat", "motion": "waves", "setting": "outside"}
    values[field] += f"{character}x"
    with pytest.raises(PromptError, match=field):
        Prompt(**values)


@pytest.mark.parametrize(
    ("subject", "motion", "says"),
    [
        ("", "waves", "subject is empty"),
        ("   ", "waves", "subject is empty"),
        ("a cat", "", "motion is empty"),
        ("waves", "Waves", "both 'waves'"),
        ("Waves", "waves", "both 'Waves'"),
        ("a  cat", "A cat", "both 'a cat'"),
        (3, "waves", "must be text, got int"),
    ],
)
def test_words_that_cannot_be_used(subject: str, motion: str, says: str) -> None:
    with pytest.raises(PromptError, match=re.escape(says)):
        Prompt(subject=subject, motion=motion)


@pytest.mark.parametrize("field", ["num_frames", "height", "width", "fps"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_shapes_are_positive(field: str, value: float) -> None:
    good = VideoShape(num_frames=17, height=64, width=64, fps=8.0)
    with pytest.raises(ShapeError, match=field):
        dataclasses.replace(good, **{field: value})


def test_playing_time() -> None:
    assert VideoShape(num_frames=17, height=64, width=64, fps=8.0).seconds == 2.125


@st.composite
def conditions(draw: st.DrawFn, pooled: bool) -> TextCondition:
    """Right padded, zeros in the padding, at least one token a row."""
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    width, longest = 3, max(lengths) + draw(st.integers(0, 2))
    mask = torch.arange(longest)[None] < torch.tensor(lengths)[:, None]
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    embeds = torch.randn(len(lengths), longest, width, generator=generator) * mask[..., None]
    subject = (torch.rand(mask.shape, generator=generator) < 0.4) & mask
    more: dict[str, torch.Tensor] = {}
    if draw(st.booleans()):  # a second encoder reads what it finds in a prompt, which may be nothing
        second = torch.tensor(draw(st.lists(st.integers(0, 3), min_size=len(lengths), max_size=len(lengths))))
        mask_2 = torch.arange(max(1, int(second.max())) + draw(st.integers(0, 2)))[None] < second[:, None]
        more = {
            "prompt_embeds_2": torch.randn(*mask_2.shape, 5, generator=generator) * mask_2[..., None],
            "prompt_attention_mask_2": mask_2.long(),
            "image_embeds": torch.randn(len(lengths), 4, 2, generator=generator),
        }
    return TextCondition(
        prompt_embeds=embeds,
        prompt_attention_mask=mask.long(),
        pooled_prompt_embeds=torch.randn(len(lengths), 2, generator=generator) if pooled else None,
        subject_tokens=subject,
        motion_tokens=mask & ~subject,
        prompts=tuple(draw(st.sampled_from(ROWS)) for _ in lengths) if draw(st.booleans()) else None,
        **more,
    )


def assert_same(one: TextCondition, other: TextCondition) -> None:
    for field in dataclasses.fields(TextCondition):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert (a is None) == (b is None), field.name
        if field.name == "prompts":
            assert a == b
        else:
            assert a is None or (a.dtype == b.dtype and torch.equal(a, b)), field.name


@given(st.booleans().flatmap(conditions))
def test_rows_selected_and_stacked_are_the_whole(text: TextCondition) -> None:
    rows = range(len(text))
    assert_same(stack_text([text.select([row]) for row in rows]), text.select(rows))


@given(st.booleans().flatmap(conditions), st.data())
def test_select_takes_the_rows_and_only_drops_padding(text: TextCondition, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(text) - 1), min_size=1, max_size=5))
    chosen = text.select(rows)
    assert len(chosen) == len(rows)
    assert torch.equal(chosen.prompt_attention_mask.sum(1), text.prompt_attention_mask[rows].sum(1))
    length = chosen.prompt_embeds.shape[1]
    assert length == int(chosen.prompt_attention_mask.sum(1).max())
    assert torch.equal(chosen.prompt_embeds, text.prompt_embeds[rows, :length])
    assert torch.equal(chosen.subject_tokens.sum(1), text.subject_tokens[rows].sum(1))
    assert chosen.prompts == (None if text.prompts is None else tuple(text.prompts[row] for row in rows))
    if text.prompt_embeds_2 is None:
        assert chosen.prompt_embeds_2 is chosen.prompt_attention_mask_2 is chosen.image_embeds is None
        return
    assert text.prompt_attention_mask_2 is not None
    assert text.image_embeds is not None
    assert chosen.prompt_embeds_2 is not None
    assert chosen.prompt_attention_mask_2 is not None
    assert chosen.image_embeds is not None
    length = max(1, int(text.prompt_attention_mask_2[rows].sum(1).max()))
    assert torch.equal(chosen.prompt_embeds_2, text.prompt_embeds_2[rows, :length])
    assert torch.equal(chosen.prompt_attention_mask_2, text.prompt_attention_mask_2[rows, :length])
    assert torch.equal(chosen.image_embeds, text.image_embeds[rows])


@given(conditions(pooled=True))
def test_to_converts_embeddings_and_leaves_masks(text: TextCondition) -> None:
    moved = text.to("cpu", torch.bfloat16)
    assert moved.prompt_embeds.dtype == torch.bfloat16
    assert moved.pooled_prompt_embeds is not None
    assert moved.pooled_prompt_embeds.dtype == torch.bfloat16
    assert torch.equal(moved.prompt_attention_mask, text.prompt_attention_mask)
    assert moved.subject_tokens.dtype == moved.motion_tokens.dtype == torch.bool
    for name in ("prompt_embeds_2", "image_embeds", "prompt_attention_mask_2"):
        before, after = getattr(text, name), getattr(moved, name)
        assert (before is None) == (after is None)
        assert after is None or after.dtype == (torch.int64 if "mask" in name else torch.bfloat16), name
    assert_same(text.to("cpu"), text)


@given(st.booleans().flatmap(conditions))
def test_a_condition_holds_all_of_the_text_but_its_roles(text: TextCondition) -> None:
    changed = text.prompt_embeds + 1
    for condition, embeds in ((text.as_condition(), text.prompt_embeds), (text.as_condition(changed), changed)):
        assert condition.prompt_embeds is embeds
        for field in dataclasses.fields(TextCondition):
            if field.name not in ("prompt_embeds", "subject_tokens", "motion_tokens", "prompts"):
                assert getattr(condition, field.name) is getattr(text, field.name), field.name
        assert condition.image_latents is condition.guidance is None


def test_parts_that_do_not_agree_are_not_stacked() -> None:
    mask = torch.ones(1, 2, dtype=torch.int64)
    text = TextCondition(
        prompt_embeds=torch.zeros(1, 2, 3), prompt_attention_mask=mask, pooled_prompt_embeds=None,
        subject_tokens=mask.bool(), motion_tokens=mask.bool(),
    )  # fmt: skip
    with_picture = dataclasses.replace(text, image_embeds=torch.zeros(1, 4, 2))
    with pytest.raises(ValueError, match="either all parts have image_embeds or none has"):
        stack_text([with_picture, text])
    with pytest.raises(RuntimeError, match="Sizes of tensors must match"):
        stack_text([with_picture, dataclasses.replace(text, image_embeds=torch.zeros(1, 3, 2))])


def test_values_are_frozen_slotted_and_keyword_only() -> None:
    values = [v for v in vars(types).values() if dataclasses.is_dataclass(v) and v.__module__ == types.__name__]
    assert len(values) >= 12
    for value in values:
        params = value.__dataclass_params__  # type: ignore[attr-defined]
        assert params.frozen, value
        assert "__slots__" in vars(value), value
        assert all(field.kw_only for field in dataclasses.fields(value)), value
