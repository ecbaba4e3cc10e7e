"""Plots of figures as SVG, drawn from numbers and names alone: values with their intervals, two accuracies against each
other, and what comes of a setting that varies. Names are escaped; colours are the page's (report_page.py)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from synmotion_core.evaluation.figures import Figure

_WIDE, _TALL = 320, 220


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """percent: 0 to 1, shown as 0 to 100; else from 0, or below it where that is drawn, to what is drawn."""

    title: str
    percent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A row's name, and its figures along both axes; x may be exact."""

    name: str
    x: Figure | float
    y: Figure


def bars(found: Mapping[str, Figure], axis: Axis) -> str:
    """A line each: the value, and its interval."""
    ticks = _ticks([end for f in found.values() for end in (f.low, f.high)], axis)
    left, wide, step = 8 + 7 * max(len(name) for name in found), 260, 20
    tall = step * len(found) + 24

    def x(value: float) -> float:
        return left + wide * (value - ticks[0]) / (ticks[-1] - ticks[0])

    parts = []
    for tick in ticks:
        parts.append(f'<line class="rule" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="4" y2="{tall - 20}"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{tall - 6}" text-anchor="middle">{_number(tick, axis)}</text>')
    for index, (name, figure) in enumerate(found.items()):
        y = 14 + step * index
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<line class="span" x1="{x(figure.low):.1f}" x2="{x(figure.high):.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle cx="{x(figure.value):.1f}" cy="{y}" r="4"/>')
    return _svg(left + wide + 16, tall, axis.title, parts)


def scatter(points: Sequence[Point], across: Axis, up: Axis) -> str:
    """A point a row with the intervals of both figures, and its name beside it."""
    return _chart([[point] for point in points], across, up, named=True)


def curves(series: Mapping[str, Sequence[Point]], across: Axis, up: Axis) -> str:
    """A line a series through its points, from left to right; its name stands at its end."""
    drawn = [sorted(points, key=lambda point: _value(point.x)) for points in series.values()]
    return _chart(drawn, across, up, named=False, names=list(series))


def _chart(lines: Sequence[Sequence[Point]], across: Axis, up: Axis, *, named: bool, names: Sequence[str] = ()) -> str:
    points = [point for line in lines for point in line]
    wide = _ticks([end for p in points for end in ((p.x.low, p.x.high) if isinstance(p.x, Figure) else (p.x,))], across)
    tall = _ticks([end for p in points for end in (p.y.low, p.y.high)], up)
    left, below = 40, 36

    def x(value: float) -> float:
        return left + _WIDE * (value - wide[0]) / (wide[-1] - wide[0])

    def y(value: float) -> float:
        return 8 + _TALL * (tall[-1] - value) / (tall[-1] - tall[0])

    parts = []
    for tick in wide:
        at = x(tick)
        parts.append(f'<line class="rule" x1="{at:.1f}" x2="{at:.1f}" y1="8" y2="{8 + _TALL}"/>')
        parts.append(f'<text x="{at:.1f}" y="{22 + _TALL}" text-anchor="middle">{_number(tick, across)}</text>')
    for tick in tall:
        at = y(tick)
        parts.append(f'<line class="rule" x1="{left}" x2="{left + _WIDE}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{left - 5}" y="{at + 4:.1f}" text-anchor="end">{_number(tick, up)}</text>')
    parts.append(f'<text x="{left + _WIDE}" y="{36 + _TALL}" text-anchor="end">{escape(across.title)}</text>')
    for index, line in enumerate(lines):
        kind = f"series-{index % 6}" + (" faint" if named else "")
        places = [(x(_value(p.x)), y(p.y.value)) for p in line]
        if len(places) > 1:
            drawn = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
            parts.append(f'<polyline class="line {kind}" points="{drawn}"/>')
        for point, (a, b) in zip(line, places, strict=True):
            low, high = y(point.y.low), y(point.y.high)
            parts.append(f'<line class="span {kind}" x1="{a:.1f}" x2="{a:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
            if isinstance(point.x, Figure):
                ends = f'x1="{x(point.x.low):.1f}" x2="{x(point.x.high):.1f}"'
                parts.append(f'<line class="span {kind}" {ends} y1="{b:.1f}" y2="{b:.1f}"/>')
            parts.append(f'<circle class="series-{index % 6}" cx="{a:.1f}" cy="{b:.1f}" r="4"/>')
    if named:
        names = [point.name for point in points]
    said = [(name, x(_value(line[-1].x)), y(line[-1].y.value)) for name, line in zip(names, lines, strict=True)]
    parts += _labels(said)
    return _svg(left + _WIDE + 140, _TALL + below + 10, f"{up.title} against {across.title}", parts)


def _labels(said: Sequence[tuple[str, float, float]]) -> list[str]:
    """Names to the right of their points, pushed apart where they would lie on each other."""
    parts, taken = [], list[tuple[float, float]]()
    for index, (name, a, b) in sorted(enumerate(said), key=lambda one: one[1][2]):
        at = b + 4
        while any(abs(at - own) < 11 and abs(a - other) < 90 for other, own in taken):
            at += 11
        taken.append((a, at))
        parts.append(f'<text class="name-{index % 6}" x="{a + 8:.1f}" y="{at:.1f}">{escape(name)}</text>')
    return parts


def _value(x: Figure | float) -> float:
    return x.value if isinstance(x, Figure) else x


def _ticks(values: Sequence[float], axis: Axis) -> list[float]:
    """Where the rules of an axis are: steps of a round number, 0 among them, from below all values to above them.

    >>> _ticks([0.1, 3.4], Axis(title="s")), _ticks([-0.2, 0.5], Axis(title="score"))
    ([0.0, 1.0, 2.0, 3.0, 4.0], [-0.2, 0.0, 0.2, 0.4, 0.6])
    """
    if axis.percent:
        return [0, 0.25, 0.5, 0.75, 1]
    low, high = min(0.0, *values), max(0.0, *values)
    least = max(high - low, 1e-6) / 4
    size = 10.0 ** math.floor(math.log10(least))
    step = size * next(number for number in (1, 2, 2.5, 5, 10) if number * size >= least * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, max(last, first + 1) + 1)]


def _number(value: float, axis: Axis) -> str:
    return f"{100 * value:.0f}" if axis.percent else f"{value:.3g}"


def _svg(wide: float, tall: float, title: str, parts: Sequence[str]) -> str:
    size = f'width="{wide:.0f}" height="{tall:.0f}" viewBox="0 0 {wide:.0f} {tall:.0f}"'
    return f'<svg {size} role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
