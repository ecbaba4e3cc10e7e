"""One measured number, with what is needed to believe it: interval, sample size, seeds, time. Pure maths, no models.

Rates carry Wilson's score interval: for k of n, p = k/n, z = 1.96,

    (p + z^2/2n ± z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)

which stays inside [0, 1] and does not collapse at 0 or n. It takes the n outcomes as independent. Where they come in
groups that share a training or a prompt, the groups are what was repeated: `cluster_interval` draws whole groups with
replacement (a percentile bootstrap of the mean over all values).

Trainings of one motion are alike: most of what differs between trainings is the motion. So `of` says which motion each
group is of, and two intervals answer two questions:

    low, high   motions in general: motions are redrawn, then groups (seeds) within each that was drawn
    here        these motions: each is kept, groups are redrawn within it
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measured value with its 95 % interval [low, high]; n observations from these seeds in this many seconds.

    here: the interval for these very motions, where there are several with several trainings each.
    Raises ValueError unless low <= value <= high, all finite, and n is positive.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    seeds: tuple[int, ...]
    seconds: float
    here: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        numbers = (self.low, self.value, self.high)
        if not all(math.isfinite(x) for x in numbers):
            raise ValueError(f"{self.name} is not finite: {self.value} [{self.low}, {self.high}]")
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.name}: {self.value} lies outside its interval [{self.low}, {self.high}]")
        if self.n < 1:
            raise ValueError(f"{self.name}: a figure needs at least one observation, got n = {self.n}")

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"name": self.name, "value": self.value, "low": self.low, "high": self.high, "n": self.n,
                "seeds": list(self.seeds), "seconds": self.seconds,
                **({} if self.here is None else {"here": list(self.here)})}  # fmt: skip

    def for_these(self) -> Figure:
        """The same with the interval for these motions; itself where there is none."""
        return self if self.here is None else replace(self, low=self.here[0], high=self.here[1])


def wilson(successes: float, n: int, z: float = Z_95) -> tuple[float, float]:
    """Interval of a rate from independent outcomes. Raises ValueError unless 0 <= successes <= n and n > 0.

    >>> tuple(round(x, 3) for x in wilson(99, 100))
    (0.946, 0.998)
    >>> tuple(round(x, 3) for x in wilson(0, 20))
    (0.0, 0.161)
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a rate needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    p = successes / n
    centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)  # exact ends, free of rounding


def cluster_interval(
    groups: Sequence[Sequence[float]],
    *,
    of: Sequence[Hashable] | None = None,
    kept: bool = False,
    draws: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of the mean over all values, whole groups redrawn. A single group's values are redrawn one by one.

    of: what each group is of (its motion): these are redrawn first, then groups within each; kept: within each alone.
    With few groups it is too narrow (percentiles of 3 groups know 10 different draws): say how many there were.
    Raises ValueError for an empty group, fewer than two values, or an `of` of another length.

    >>> cluster_interval([[1.0, 1.0], [0.0, 0.0]])
    (0.0, 1.0)
    >>> cluster_interval([[1.0], [1.0], [0.0], [0.0]], of="aabb")  # two motions, not four groups
    (0.0, 1.0)
    """
    if any(len(g) == 0 for g in groups):
        raise ValueError("a group without values has no mean")
    if len(groups) == 1:
        groups, of = [[v] for v in groups[0]], None
    if len(groups) < 2:
        raise ValueError(f"an interval needs at least two values, got {sum(map(len, groups))}")
    sums, counts = np.array([np.sum(g) for g in groups], float), np.array([len(g) for g in groups], float)
    total, number = _redrawn(np.stack([sums, counts]), of, kept=kept, draws=draws, seed=seed)
    low, high = np.percentile(total / number, (2.5, 97.5))
    return float(low), float(high)


def _redrawn(
    sums: NDArray[Any], of: Sequence[Hashable] | None, *, kept: bool = False, draws: int = 10_000, seed: int = 0
) -> NDArray[Any]:
    """Totals [K, draws] of sums [K, groups] over groups that are redrawn as `cluster_interval` says."""
    labels = list(range(sums.shape[1])) if of is None else list(of)
    if len(labels) != sums.shape[1]:
        raise ValueError(f"{sums.shape[1]} groups, {len(labels)} names of what they are of")
    within = [[i for i, own in enumerate(labels) if own == label] for label in dict.fromkeys(labels)]
    sizes, most = np.array([len(own) for own in within]), max(map(len, within))
    padded = np.array([own + own[:1] * (most - len(own)) for own in within])
    rng = np.random.default_rng(seed)
    shape = (draws, len(within))
    tops = np.broadcast_to(np.arange(len(within)), shape) if kept else rng.integers(len(within), size=shape)
    totals = np.zeros((len(sums), draws))
    for place in range(most):  # a group of each that was drawn, as often as it has groups
        inner = (rng.random(shape) * sizes[tops]).astype(int)
        totals += np.where(place < sizes[tops], sums[:, padded[tops, inner]], 0.0).sum(-1)
    return totals


def several(of: Sequence[Hashable] | None) -> bool:
    """Whether groups are of several things, and of each there are several: else both intervals are one."""
    counts = Counter(() if of is None else of)
    return len(counts) > 1 and min(counts.values()) > 1


def decibels(error: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio of a picture or video from its error in levels of 255: 10 log10(255^2 / mean square).

    >>> round(decibels(np.full((2, 2), 25.5)), 6)
    20.0
    """
    return float(-10 * np.log10(max(float(np.mean(np.square(error / 255))), 1e-10)))


def rate_figure(name: str, outcomes: Sequence[bool], *, seeds: Sequence[int], seconds: float) -> Figure:
    """The share of true outcomes, which are independent, with Wilson's interval."""
    successes, n = sum(map(bool, outcomes)), len(outcomes)
    low, high = wilson(successes, n)
    return Figure(name=name, value=successes / n, low=low, high=high, n=n, seeds=tuple(seeds), seconds=seconds)


def grouped_rate_figure(
    name: str,
    groups: Sequence[Sequence[float]],
    *,
    seeds: Sequence[int],
    seconds: float,
    of: Sequence[Hashable] | None = None,
) -> Figure:
    """The share of outcomes (0 or 1) that come in groups: the wider of the cluster interval and Wilson's at each end.

    Groups can only make outcomes less independent than Wilson's takes them for, and redrawing groups that agree (all 0
    of 14, or a single group) says nothing about the next one.
    """
    flat = [bool(v) for g in groups for v in g]
    figure = mean_figure(name, groups, seeds=seeds, seconds=seconds, of=of)
    low, high = wilson(sum(flat), len(flat))
    here = None if figure.here is None else (min(low, figure.here[0]), max(high, figure.here[1]))
    return replace(figure, low=min(low, figure.low), high=max(high, figure.high), here=here)


def mean_figure(
    name: str,
    groups: Sequence[Sequence[float]],
    *,
    seeds: Sequence[int],
    seconds: float,
    of: Sequence[Hashable] | None = None,
) -> Figure:
    """The mean over all values of all groups, with the cluster interval; a group is what shares a training.

    of: the motion of each group. A single value is its own interval: n = 1 says how little that is.
    """
    flat = np.concatenate([np.asarray(g, float) for g in groups])
    value = float(flat.mean())
    low, high = cluster_interval(groups, of=of) if len(flat) > 1 else (value, value)
    here = cluster_interval(groups, of=of, kept=True) if several(of) else None
    return Figure(
        name=name,
        value=value,
        low=min(low, value),
        high=max(high, value),
        n=len(flat),
        seeds=tuple(seeds),
        seconds=seconds,
        here=None if here is None else (min(here[0], value), max(here[1], value)),
    )


def harmonic_figure(
    name: str,
    one: Sequence[Sequence[float]],
    other: Sequence[Sequence[float]],
    *,
    seeds: Sequence[int],
    seconds: float,
    of: Sequence[Hashable] | None = None,
) -> Figure:
    """The harmonic mean of two rates of the same groups, 2 a b / (a + b), 0 where both are; redrawn as `mean_figure`.

    High only where both are: a method that copies the clips' person, or draws the subject at rest, has one of them.
    """

    if len(one) != len(other) or any(len(x) != len(y) for x, y in zip(one, other, strict=True)):
        raise ValueError("a harmonic mean of two rates is of the same groups")
    if len(one) == 1:  # a single group's values are redrawn one by one
        one, other = ([[v] for v in groups[0]] for groups in (one, other))
        of = None
    sums = np.array([*([np.sum(group) for group in groups] for groups in (one, other)), [len(g) for g in one]], float)

    def harmonic(totals: NDArray[Any]) -> NDArray[Any]:
        a, b = totals[:2] / totals[2]
        return 2 * a * b / np.maximum(a + b, 1e-12)

    value, n = float(harmonic(sums.sum(1))), int(sums[2].sum())

    def ends(kept: bool) -> tuple[float, float]:
        low, high = np.percentile(harmonic(_redrawn(sums, of, kept=kept)), (2.5, 97.5))
        if low == high:  # groups that agree say nothing about the next one
            rates = [wilson(total, n) for total in sums[:2].sum(1)]
            low, high = (2 * a * b / max(a + b, 1e-12) for a, b in zip(*rates, strict=True))
        return min(float(low), value), max(float(high), value)

    low, high = ends(kept=False)
    return Figure(
        name=name,
        value=value,
        low=low,
        high=high,
        n=n,
        seeds=tuple(seeds),
        seconds=seconds,
        here=ends(kept=True) if several(of) else None,
    )


def share_figure(
    name: str,
    groups: Sequence[Sequence[float]],
    *,
    seeds: Sequence[int],
    seconds: float,
    of: Sequence[Hashable] | None = None,
) -> Figure:
    """The mean of values from 0 to 1, a tie's being a half: as mean_figure; where all agree, with Wilson's ends."""
    figure = mean_figure(name, groups, seeds=seeds, seconds=seconds, of=of)
    low, high = wilson(figure.value * figure.n, figure.n)
    if figure.here is not None and figure.here[0] == figure.here[1]:
        figure = replace(figure, here=(low, high))
    return figure if figure.low < figure.high else replace(figure, low=low, high=high)


def spearman(one: Sequence[float] | NDArray[Any], other: Sequence[float] | NDArray[Any]) -> float:
    """Spearman's rank correlation, equal values sharing their mean rank; 0 where one side does not vary.

    >>> spearman([1, 2, 3], [10, 20, 15])
    0.5
    """
    ranks = [_ranks(np.asarray(values, float)) for values in (one, other)]
    spread = [r.std() for r in ranks]
    if min(spread) == 0:
        return 0.0
    product = np.mean((ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean()))
    return float(np.clip(product / (spread[0] * spread[1]), -1, 1))


def _ranks(values: NDArray[Any]) -> NDArray[Any]:
    below, same = values[None] < values[:, None], values[None] == values[:, None]
    return below.sum(1) + (same.sum(1) - 1) / 2


def agreement_figures(
    names: tuple[str, str], truth: NDArray[Any], found: NDArray[Any], *, seeds: Sequence[int]
) -> tuple[Figure, Figure] | None:
    """How alike two tables [rows, motions] rank rows: `spearman` over rows within a motion, its mean over motions; and
    `spearman` of rows' means.

    Never over rows x motions: motions that are hard by both, or by one alone, would be taken for agreement. A motion
    in which the truth is the same for all rows ranks nothing and is left out of the first. Intervals redraw motions.
    None for fewer than three rows, and where no motion ranks them.
    """
    rows, motions = truth.shape
    within = [spearman(truth[:, m], found[:, m]) for m in range(motions) if np.ptp(truth[:, m]) > 0]
    if rows < 3 or not within:
        return None
    first = replace(mean_figure(names[0], [[r] for r in within], seeds=seeds, seconds=0.0), n=rows * len(within))
    value = spearman(truth.mean(1), found.mean(1))
    picks = np.random.default_rng(0).integers(motions, size=(2000, motions))
    low, high = np.percentile([spearman(truth[:, p].mean(1), found[:, p].mean(1)) for p in picks], (2.5, 97.5))
    means = Figure(
        name=names[1],
        value=value,
        low=min(float(low), value),
        high=max(float(high), value),
        n=rows,
        seeds=tuple(seeds),
        seconds=0.0,
    )
    return first, means
