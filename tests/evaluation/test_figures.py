"""Figures: intervals that do not claim more than was measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synmotion_core.evaluation.figures import (
    Figure,
    agreement_figures,
    cluster_interval,
    grouped_rate_figure,
    harmonic_figure,
    mean_figure,
    rate_figure,
    share_figure,
    spearman,
    wilson,
)


def test_wilson_covers_what_it_promises() -> None:
    rng = np.random.default_rng(0)
    for rate, n in ((0.05, 60), (0.5, 40), (0.97, 300)):
        hits = [low <= rate <= high for low, high in (wilson(int(k), n) for k in rng.binomial(n, rate, size=2000))]
        assert np.mean(hits) > 0.92


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_rate(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="a rate needs"):
        wilson(successes, n)


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=8), min_size=1, max_size=6))
def test_groups_never_narrow_an_interval(groups: list[list[bool]]) -> None:
    flat = [v for g in groups for v in g]
    grouped = grouped_rate_figure("x", groups, seeds=(0,), seconds=1.0)
    alone = rate_figure("x", flat, seeds=(0,), seconds=1.0)
    assert grouped.value == pytest.approx(alone.value)
    assert grouped.n == len(flat)
    assert grouped.low <= alone.low
    assert grouped.high >= alone.high


def test_nothing_of_fourteen_is_not_certainty() -> None:
    figure = grouped_rate_figure("x", [[False] * 14], seeds=(0,), seconds=1.0)
    assert (figure.value, figure.low) == (0.0, 0.0)
    assert figure.high == pytest.approx(0.2153, abs=1e-3)


def test_groups_that_disagree_widen_it() -> None:
    groups = [[True] * 50, [False] * 50, [True] * 50, [False] * 50]
    grouped = grouped_rate_figure("x", groups, seeds=(0,), seconds=1.0)
    alone = rate_figure("x", [v for g in groups for v in g], seeds=(0,), seconds=1.0)
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_one_measurement_is_its_own_interval() -> None:
    figure = mean_figure("seconds", [[12.5]], seeds=(0,), seconds=12.5)
    assert (figure.low, figure.value, figure.high, figure.n) == (12.5, 12.5, 12.5, 1)


def test_a_mean_lies_in_its_interval_and_repeats() -> None:
    groups = [[1.0, 2.0], [3.0], [10.0, 11.0, 12.0]]
    assert cluster_interval(groups) == cluster_interval(groups)
    figure = mean_figure("x", groups, seeds=(0, 1), seconds=0.0)
    assert figure.low < figure.value < figure.high
    with pytest.raises(ValueError, match="without values"):
        cluster_interval([[1.0], []])


@pytest.mark.parametrize(("value", "low", "high"), [(math.nan, 0, 1), (2.0, 0, 1), (0.5, 0, math.inf)])
def test_a_figure_makes_sense_or_is_refused(value: float, low: float, high: float) -> None:
    with pytest.raises(ValueError, match="x"):
        Figure(name="x", value=value, low=low, high=high, n=3, seeds=(0,), seconds=0.0)


def test_shares_that_all_agree_have_an_interval_all_the_same() -> None:
    all_won = share_figure("x", [[1.0] * 10, [1.0] * 10], seeds=(0,), seconds=1.0)
    assert (all_won.value, all_won.low, all_won.high) == (1, pytest.approx(wilson(20, 20)[0]), 1)
    even = share_figure("x", [[0.5] * 10, [0.5] * 10], seeds=(0,), seconds=1.0)
    assert even.low < 0.5 < even.high
    groups = [[1.0, 0.5], [0.5, 0.0], [1.0, 1.0]]
    assert share_figure("x", groups, seeds=(0,), seconds=1.0) == mean_figure("x", groups, seeds=(0,), seconds=1.0)


def test_a_harmonic_mean_is_of_both_rates() -> None:
    one, other = [[1.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]
    figure = harmonic_figure("x", one, other, seeds=(0,), seconds=1.0)
    assert figure.value == pytest.approx(2 * 0.75 * 0.25)
    assert (figure.low, figure.high) == pytest.approx((0.0, 2 * 0.5 / 1.5)), "of two units, one of them twice"
    assert figure.n == 4
    none = harmonic_figure("x", [[0.0, 0.0]], [[0.0, 0.0]], seeds=(0,), seconds=1.0)
    assert (none.value, none.low) == (0, 0)
    assert none.high == pytest.approx(wilson(0, 2)[1]), "two that agree say little about the next one"
    whole = harmonic_figure("x", [[1.0] * 14], [[1.0] * 14], seeds=(0,), seconds=1.0)
    assert (whole.low, whole.high) == (pytest.approx(wilson(14, 14)[0]), 1)
    single = harmonic_figure("x", [[1.0] * 7 + [0.0] * 7], [[1.0] * 14], seeds=(0,), seconds=1.0)
    assert single.low < single.value < single.high, "a single unit's videos are redrawn one by one"
    with pytest.raises(ValueError, match="of the same groups"):
        harmonic_figure("x", one, [[1.0], [0.0, 0.0]], seeds=(0,), seconds=1.0)


def test_ranks_alone_count_and_equal_ones_share_theirs() -> None:
    assert spearman([1, 2, 3, 4], [1, 10, 100, 1000]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert spearman([1, 2, 3], [5, 5, 5]) == 0
    # ranks 0, 1.5, 1.5, 3 and 0, 1, 2, 3: covariance 1.125 over sqrt(1.125 * 1.25)
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(1.125 / math.sqrt(1.125 * 1.25))


MOTIONS = [[1.0], [0.9], [0.8], [0.7], [0.3], [0.2]]
THREE = [own for own in MOTIONS for _ in range(3)]
OF = [motion for motion in "abcdef" for _ in range(3)]


def test_seeds_of_one_motion_are_no_further_motions() -> None:
    six, eighteen, true = cluster_interval(MOTIONS), cluster_interval(THREE), cluster_interval(THREE, of=OF)
    assert true == pytest.approx(six, abs=1e-9), "seeds that are alike within a motion add nothing"
    assert true[1] - true[0] > 1.6 * (eighteen[1] - eighteen[0])
    for figure in (
        mean_figure("x", THREE, of=OF, seeds=(0, 1, 2), seconds=1.0),
        share_figure("x", THREE, of=OF, seeds=(0, 1, 2), seconds=1.0),
    ):
        assert (figure.low, figure.high) == pytest.approx(six)
    harmonic, of_six = (
        harmonic_figure("x", groups, groups, of=of, seeds=(0,), seconds=1.0)
        for groups, of in ((THREE, OF), (MOTIONS, None))
    )
    assert (harmonic.low, harmonic.high) == pytest.approx((of_six.low, of_six.high))
    with pytest.raises(ValueError, match="18 groups, 3 names"):
        cluster_interval(THREE, of="abc")


def test_motions_are_redrawn_and_seeds_within_them() -> None:
    """Of two motions, one of them sure: a draw of the sure one twice is certain, of the other its seeds differ."""
    groups, of = [[1.0], [1.0], [1.0], [0.0]], ["a", "a", "b", "b"]
    low, high = cluster_interval(groups, of=of)
    assert (low, high) == (0.25, 1.0), "0 takes b twice and its second seed four times: 1 draw in 64"
    kept = cluster_interval(groups, of=of, kept=True)
    assert kept == (0.5, 1.0), "a is there in every draw"


def test_these_motions_are_another_question_than_motions_in_general() -> None:
    groups = [[0.9], [1.0], [0.8], [0.1], [0.2], [0.0]]
    figure = mean_figure("x", groups, of=list("aaabbb"), seeds=(0, 1, 2), seconds=1.0)
    assert figure.here is not None
    assert figure.low < 0.2 < figure.here[0] < figure.value < figure.here[1] < 0.8 < figure.high
    assert (figure.for_these().low, figure.for_these().high) == figure.here
    assert figure.as_dict()["here"] == list(figure.here)
    for of in (None, ["a"] * 6, list("abcdef"), list("aabbbc")):
        one = mean_figure("x", groups, of=of, seeds=(0,), seconds=1.0)
        assert one.here is None, "one motion, or one with a single training: there is nothing to keep"
        assert one.for_these() == one
        assert "here" not in one.as_dict()
    rate = grouped_rate_figure("x", [[1.0] * 9] * 6, of=list("aaabbb"), seeds=(0,), seconds=1.0)
    assert rate.here == (pytest.approx(wilson(54, 54)[0]), 1.0)
    share = share_figure("x", [[1.0] * 9] * 6, of=list("aaabbb"), seeds=(0,), seconds=1.0)
    assert share.here == (pytest.approx(wilson(54, 54)[0]), 1.0)


def test_a_hard_motion_is_no_agreement() -> None:
    """Simpson's: over rows x motions a column that follows the motion alone correlates; within motions it does not."""
    truth = np.array([[0.9, 0.2, 0.5], [0.95, 0.3, 0.6], [1.0, 0.4, 0.7]])
    names = ("in", "means")
    by_motion = np.broadcast_to(truth.mean(0), truth.shape)
    assert spearman(truth.ravel(), by_motion.ravel()) > 0.9
    within, means = agreement_figures(names, truth, by_motion, seeds=(0,)) or (None, None)
    assert within is not None
    assert means is not None
    assert (within.value, within.low, within.high, means.value) == (0, 0, 0, 0)
    reversed_ = 2 * by_motion - truth * 0.1  # hard motions look good in it, rows the wrong way round
    assert spearman(truth.ravel(), reversed_.ravel()) > 0.5
    within, means = agreement_figures(names, truth, reversed_, seeds=(0,)) or (None, None)
    assert within is not None
    assert means is not None
    assert (within.value, means.value, within.n, means.n) == (-1, -1, 9, 3)
    mixed = truth.copy()
    mixed[:, 0] = mixed[::-1, 0]
    within, _ = agreement_figures(names, truth, mixed, seeds=(0,)) or (None, None)
    assert within is not None
    assert within.value == pytest.approx(1 / 3)
    assert (within.low, within.high) == (-1, 1), "motions are redrawn"


def test_rows_that_nothing_ranks_have_no_agreement() -> None:
    same, varied = np.full((3, 2), 0.5), np.array([[1.0, 0.5], [2.0, 0.5], [3.0, 0.5]])
    assert agreement_figures(("a", "b"), same, varied, seeds=(0,)) is None, "the truth is one for all"
    assert agreement_figures(("a", "b"), varied[:2], varied[:2], seeds=(0,)) is None, "two rank alike half of the time"
    found = agreement_figures(("a", "b"), varied, varied, seeds=(0,))
    assert found is not None
    assert (found[0].value, found[0].n) == (1, 3), "a motion in which all are alike says nothing"
