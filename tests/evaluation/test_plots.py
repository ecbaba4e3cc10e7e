"""Plots: what is drawn where, nothing that is not escaped, and settings that vary alone."""

from __future__ import annotations

import dataclasses
import re
from xml.etree import ElementTree

import pytest

from synmotion_core.evaluation.figures import Figure
from synmotion_core.evaluation.metrics import COLUMNS
from synmotion_core.evaluation.plots import Axis, Point, bars, curves, scatter
from synmotion_core.evaluation.report import curves_of
from synmotion_core.evaluation.report_page import plots_html
from synmotion_core.evaluation.results import Outcome, Results, RowResult
from synmotion_core.evaluation.suite import Row, Suite, read_suite

PERCENT = Axis(title="motion, %", percent=True)


def figure(value: float, spread: float = 0.1) -> Figure:
    return Figure(name="x", value=value, low=value - spread, high=value + spread, n=9, seeds=(0,), seconds=0)


def circles(svg: str) -> list[tuple[float, float]]:
    root = ElementTree.fromstring(svg)
    return [(float(c.attrib["cx"]), float(c.attrib["cy"])) for c in root.iter() if c.tag.endswith("circle")]


def test_bars_lie_where_their_values_are() -> None:
    svg = bars({"low": figure(0.2), "high": figure(0.8), "most": figure(1.0, 0.0)}, PERCENT)
    (low, first), (high, second), (most, _) = circles(svg)
    assert (high - low) / (most - low) == pytest.approx(0.6 / 0.8, abs=0.01)
    assert first < second
    assert ">100<" in svg
    ends = [m.groups() for m in re.finditer(r'class="span" x1="([\d.]+)" x2="([\d.]+)"', svg)]
    assert float(ends[0][0]) < low < float(ends[0][1])
    assert ">4<" in bars({"a": figure(3.4)}, Axis(title="s")), "the end of an axis is a round number above"


def test_points_and_lines_rise_to_the_right_and_up() -> None:
    points = [Point(name=name, x=figure(x), y=figure(y)) for name, x, y in (("a", 0.2, 0.3), ("b", 0.9, 0.8))]
    (ax, ay), (bx, by) = circles(scatter(points, PERCENT, PERCENT))
    assert ax < bx
    assert ay > by, "SVG counts downwards"
    line = [Point(name=str(x), x=float(x), y=figure(x / 20)) for x in (12, 1, 5)]
    svg = curves({"motion": line}, Axis(title="clips"), PERCENT)
    xs = [x for x, _ in circles(svg)]
    assert xs == sorted(xs)
    assert svg.count("<polyline") == 1
    assert ">motion<" in svg


def test_names_are_escaped_and_do_not_lie_on_each_other() -> None:
    evil = '<script>alert("x")</script>'
    points = [Point(name=evil, x=figure(0.5), y=figure(0.5)), Point(name="b", x=figure(0.5), y=figure(0.5))]
    svg = scatter(points, Axis(title=evil, percent=True), PERCENT)
    assert "<script" not in svg
    assert "&lt;script" in svg
    heights = [float(m[1]) for m in re.finditer(r'class="name-\d" x="[\d.]+" y="([\d.]+)"', svg)]
    assert abs(heights[0] - heights[1]) >= 11


def test_settings_that_vary_alone_are_found() -> None:
    rows = {
        "full": Row(method="synmotion"),
        "rank-4": Row(method="synmotion", config={"rank": 4, "lora_alpha": 4}),
        "rank-64": Row(method="synmotion", config={"rank": 64, "lora_alpha": 64}),
        "quarter": Row(method="synmotion", after=0.25),
        "half": Row(method="synmotion", after=0.5),
        "one": Row(method="synmotion", num_clips=1),
        "no-priors": Row(method="synmotion", config={"alpha": 1}),
        "other": Row(method="lora"),
        "scaled": Row(method="synmotion", config={"rank": 4}),  # another scale of the adapters: no curve of ranks
    }
    suite = Suite(rows=rows, motions=("squat",), seeds=(0,), num_videos=1, train={"num_steps": 100})
    outcome = Outcome(values={"motion": [1.0], "species": [1.0]}, num_videos=1, seconds=1.0)
    results = [RowResult(name=name, outcomes=(outcome,), seconds=1.0) for name in rows]
    found = curves_of(Results(suite=suite, rows=tuple(results)))
    assert found == {
        "config.rank": [[("rank-4", 4.0), ("full", 16.0), ("rank-64", 64.0)]],
        "steps": [[("quarter", 25.0), ("half", 50.0), ("full", 100.0)]],
    }
    assert curves_of(Results(suite=dataclasses.replace(suite, against="full"), rows=tuple(results[:2]))) == {}


def test_rows_of_alpha_are_a_curve_at_equal_reference_steps() -> None:
    """They differ in their steps, too, so that reference steps are as many."""
    suite = read_suite("puppets-ablation")
    results = [RowResult(name=name, outcomes=(), seconds=1.0) for name in suite.rows]
    (line,) = curves_of(Results(suite=suite, rows=tuple(results)))["config.alpha"]
    assert line == [("alpha-50", 0.5), ("full", 0.75), ("alpha-90", 0.9), ("no-priors", 1.0)]


def test_values_below_zero_are_drawn_where_they_are() -> None:
    score = Axis(title="fidelity")
    svg = bars({"copy": figure(0.4), "still": figure(0.0), "other": figure(-0.4)}, score)
    (copy, _), (still, _), (other, _) = circles(svg)
    assert copy - still == pytest.approx(still - other)
    assert ">-0.5<" in svg or ">-0.6<" in svg
    line = [Point(name=str(x), x=x, y=figure(y)) for x, y in ((1.0, -0.5), (2.0, 0.5))]
    svg = curves({"a": line}, Axis(title="steps"), score)
    (_, low), (_, high) = circles(svg)
    assert low > high
    tall = max(float(m[1]) for m in re.finditer(r'class="rule" x1="[\d.]+" x2="[\d.]+" y1="[\d.]+" y2="([\d.]+)"', svg))
    assert low < tall, "inside the frame"


@pytest.mark.parametrize("names", [("fidelity", "error"), ("vqa_motion", "vqa_subject"), ("motion", "species")])
def test_whatever_was_measured_is_plotted(names: tuple[str, str]) -> None:
    """Real clips have no judge, or another one: plots are of the columns that are there."""
    found = {row: {name: figure(0.4 + 0.1 * i) for name in names} for i, row in enumerate(("a", "b"))}
    by = {"config.rank": [[("a", 1.0), ("b", 4.0)]], "steps": [[("a", 1.0), ("b", 2.0)], [("b", 2.0), ("a", 4.0)]]}
    drawn = plots_html(found, [COLUMNS[name] for name in names], by)
    assert (f"{COLUMNS[names[0]].title} against {COLUMNS[names[1]].title}" in drawn) == (names[0] != "fidelity")
    assert f"{COLUMNS[names[0]].title} by steps of training" in drawn
    assert drawn.count("by rank<") == (2 if names[0] == "fidelity" else 1), "rates of one line are in one plot"
