"""Step caches as values: what is read, and what is refused with which words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synmotion_core.errors import ConfigError
from synmotion_core.step_cache import StepCache, parse

caches = st.builds(StepCache, kind=st.just("first-block"), threshold=st.floats(0, 1)) | st.builds(
    StepCache, kind=st.just("taylorseer"), interval=st.integers(1, 50)
)


@given(caches)
def test_a_cache_is_read_as_it_is_written(cache: StepCache) -> None:
    assert parse(cache.text) == cache


def test_a_kind_alone_has_its_default() -> None:
    assert parse("first-block") == StepCache(kind="first-block", threshold=0.1)
    assert parse("taylorseer") == StepCache(kind="taylorseer", interval=2)


@pytest.mark.parametrize(
    ("text", "active"),
    [("first-block:0", False), ("first-block:0.01", True), ("taylorseer:1", False), ("taylorseer:2", True)],
)
def test_what_leaves_nothing_out_is_not_active(text: str, active: bool) -> None:
    assert parse(text).active is active


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("taylorsee:2", "a step cache is 'first-block' or 'taylorseer', got 'taylorsee': did you mean 'taylorseer'?"),
        ("", "a step cache is 'first-block' or 'taylorseer', got ''"),
        ("first-block:", "first-block takes a number from 0 to 1, got '': for example first-block:0.1"),
        ("first-block:x", "first-block takes a number from 0 to 1, got 'x'"),
        ("first-block:nan", "the threshold of first-block must be between 0 and 1, got nan"),
        ("first-block:inf", "the threshold of first-block must be between 0 and 1, got inf"),
        ("first-block:-0.1", "the threshold of first-block must be between 0 and 1, got -0.1"),
        ("first-block:1.5", "the threshold of first-block must be between 0 and 1, got 1.5"),
        ("taylorseer:2.5", "taylorseer takes a whole number of steps, got '2.5': for example taylorseer:2"),
        ("taylorseer:0", "the interval of taylorseer must be between 1 and 50 steps, got 0: use 1"),
        ("taylorseer:51", "the interval of taylorseer must be between 1 and 50 steps, got 51: use 50"),
    ],
)
def test_what_is_refused_and_how(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(says)}"):
        parse(text)
