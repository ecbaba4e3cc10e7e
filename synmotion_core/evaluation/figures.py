"""One measured number, with what is needed to believe it: interval, sample size, seeds, time. Pure maths, no models.

Rates carry Wilson's score interval: for k of n, p = k/n, z = 1.96,

    (p + z^2/2n ± z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)

which stays inside [0, 1] and does not collapse at 0 or n. It takes the n outcomes as independent. Where they come in
groups that share a training seed or a prompt, the groups are what was repeated: `cluster_interval` draws whole groups
with replacement (a percentile bootstrap of the mean over all values).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measured value with its 95 % interval [low, high]; n observations from these seeds in this many seconds.

    Raises ValueError unless low <= value <= high, all finite, and n is positive.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    seeds: tuple[int, ...]
    seconds: float

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
                "seeds": list(self.seeds), "seconds": self.seconds}  # fmt: skip


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


def cluster_interval(groups: Sequence[Sequence[float]], *, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean over all values, whole groups redrawn. A single group's values are redrawn one by one.

    With few groups it is too narrow (percentiles of 3 groups know 10 different draws): say how many there were.
    Raises ValueError for an empty group or fewer than two values.

    >>> cluster_interval([[1.0, 1.0], [0.0, 0.0]])
    (0.0, 1.0)
    """
    if any(len(g) == 0 for g in groups):
        raise ValueError("a group without values has no mean")
    if len(groups) == 1:
        groups = [[v] for v in groups[0]]
    if len(groups) < 2:
        raise ValueError(f"an interval needs at least two values, got {sum(map(len, groups))}")
    sums, counts = np.array([np.sum(g) for g in groups], float), np.array([len(g) for g in groups], float)
    picks = np.random.default_rng(seed).integers(len(groups), size=(draws, len(groups)))
    means = sums[picks].sum(1) / counts[picks].sum(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


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
    name: str, groups: Sequence[Sequence[float]], *, seeds: Sequence[int], seconds: float
) -> Figure:
    """The share of outcomes (0 or 1) that come in groups: the wider of the cluster interval and Wilson's at each end.

    Groups can only make outcomes less independent than Wilson's takes them for, and redrawing groups that agree (all 0
    of 14, or a single group) says nothing about the next one.
    """
    flat = [bool(v) for g in groups for v in g]
    figure = mean_figure(name, groups, seeds=seeds, seconds=seconds)
    low, high = wilson(sum(flat), len(flat))
    return replace(figure, low=min(low, figure.low), high=max(high, figure.high))


def mean_figure(name: str, groups: Sequence[Sequence[float]], *, seeds: Sequence[int], seconds: float) -> Figure:
    """The mean over all values of all groups, with the cluster interval; a group is what shares a seed.

    A single value is its own interval: n = 1 says how little that is.
    """
    flat = np.concatenate([np.asarray(g, float) for g in groups])
    value = float(flat.mean())
    low, high = cluster_interval(groups) if len(flat) > 1 else (value, value)
    return Figure(
        name=name,
        value=value,
        low=min(low, value),
        high=max(high, value),
        n=len(flat),
        seeds=tuple(seeds),
        seconds=seconds,
    )


def harmonic_figure(
    name: str, one: Sequence[Sequence[float]], other: Sequence[Sequence[float]], *, seeds: Sequence[int], seconds: float
) -> Figure:
    """The harmonic mean of two rates of the same groups, 2 a b / (a + b), 0 where both are; whole groups redrawn.

    High only where both are: a method that copies the clips' person, or draws the subject at rest, has one of them.
    """

    if len(one) != len(other) or any(len(x) != len(y) for x, y in zip(one, other, strict=True)):
        raise ValueError("a harmonic mean of two rates is of the same groups")
    if len(one) == 1:  # a single group's values are redrawn one by one
        one, other = ([[v] for v in groups[0]] for groups in (one, other))
    sums = np.array([[np.sum(group) for group in groups] for groups in (one, other)], float)
    counts = np.array([len(group) for group in one], float)
    picks = np.random.default_rng(0).integers(len(one), size=(10_000, len(one)))

    def harmonic(picked: NDArray[Any]) -> NDArray[Any]:
        a, b = sums[:, picked].sum(-1) / counts[picked].sum(-1)
        return 2 * a * b / np.maximum(a + b, 1e-12)

    value = float(harmonic(np.arange(len(one))[None])[0])
    low, high = np.percentile(harmonic(picks), (2.5, 97.5))
    n = sum(len(group) for group in one)
    if low == high:  # groups that agree say nothing about the next one
        ends = [wilson(rate.sum(), n) for rate in sums]
        low, high = (2 * a * b / max(a + b, 1e-12) for a, b in zip(*ends, strict=True))
    return Figure(
        name=name,
        value=value,
        low=min(float(low), value),
        high=max(float(high), value),
        n=n,
        seeds=tuple(seeds),
        seconds=seconds,
    )


def share_figure(name: str, groups: Sequence[Sequence[float]], *, seeds: Sequence[int], seconds: float) -> Figure:
    """The mean of values from 0 to 1, a tie's being a half: as mean_figure; where all agree, with Wilson's ends."""
    figure = mean_figure(name, groups, seeds=seeds, seconds=seconds)
    if figure.low < figure.high:
        return figure
    low, high = wilson(figure.value * figure.n, figure.n)
    return replace(figure, low=low, high=high)


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
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


def spearman_figure(name: str, one: Sequence[float], other: Sequence[float], *, seeds: Sequence[int]) -> Figure:
    """`spearman` with a percentile bootstrap over the pairs."""
    if len(one) != len(other) or len(one) < 3:
        raise ValueError(f"a rank correlation needs at least three pairs, got {len(one)} and {len(other)} values")
    a, b, rng = np.asarray(one, float), np.asarray(other, float), np.random.default_rng(0)
    picks = rng.integers(len(a), size=(2000, len(a)))
    value = spearman(one, other)
    low, high = np.percentile([spearman(a[p].tolist(), b[p].tolist()) for p in picks], (2.5, 97.5))
    return Figure(
        name=name,
        value=value,
        low=min(float(low), value),
        high=max(float(high), value),
        n=len(a),
        seeds=tuple(seeds),
        seconds=0.0,
    )
