"""Figures of rows: derived ones, differences, and which metrics agree with the truth."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from synmotion_core.errors import ConfigError
from synmotion_core.evaluation.footage import Footage
from synmotion_core.evaluation.results import Outcome, Results, RowResult, agreement, compare, figures
from synmotion_core.evaluation.suite import Row, Suite

ROWS = {name: Row(method="lora", config={"rank": rank}) for rank, name in enumerate(("worst", "middle", "best"), 1)}
SUITE = Suite(rows=ROWS, motions=("squat", "spin"), seeds=(0,), num_videos=4, against="worst")


def row(name: str, motion: list[list[int]], species: list[list[int]], **more: list[list[float]]) -> RowResult:
    """A row with a unit for each list."""
    outcomes = []
    for index, (one, other) in enumerate(zip(motion, species, strict=True)):
        values = {"motion": one, "species": other, **{key: own[index] for key, own in more.items()}}
        found = {key: list(map(float, own)) for key, own in values.items()}
        outcomes.append(Outcome(values=found, num_videos=len(one), seconds=1.0))
    return RowResult(name=name, outcomes=tuple(outcomes), seconds=1.0)


WORST = row("worst", [[0, 0, 0, 1], [0, 0, 0, 0]], [[1, 1, 1, 0], [1, 1, 1, 1]])
BEST = row("best", [[1, 1, 1, 1], [1, 1, 1, 0]], [[1, 1, 1, 1], [1, 1, 0, 0]])


def test_both_right_is_counted_video_by_video() -> None:
    worst = {figure.name.removeprefix("methods.worst."): figure for figure in figures(SUITE, WORST)}
    assert worst["motion"].value == 1 / 8
    assert worst["species"].value == 7 / 8
    assert worst["hit"].value == 0, "the one that squats is the one whose species is wrong"
    assert worst["harmonic"].value == pytest.approx(2 * (1 / 8) * (7 / 8))
    best = {figure.name.removeprefix("methods.best."): figure for figure in figures(SUITE, BEST, WORST)}
    assert best["hit"].value == 6 / 8
    assert best["motion.squat"].value == 1
    assert best["motion.spin"].value == 3 / 4


def test_a_win_is_a_win_against_the_same_video() -> None:
    """(16): ties count half for either, so that a row's wins and the other's are 1 together."""
    best = {figure.name: figure.value for figure in figures(SUITE, BEST, WORST)}
    assert best["methods.best.wins-worst"] == pytest.approx((6 * 1 + 2 * 0.5) / 8)
    assert best["methods.best.motion-worst"] == pytest.approx((3 + 3) / 8)
    other = {figure.name: figure.value for figure in figures(SUITE, WORST, BEST)}
    assert other["methods.worst.wins-best"] == pytest.approx(1 - best["methods.best.wins-worst"])
    middle = row("middle", [[0, 0, 0, 0], [0, 0, 0, 1]], [[1, 1, 1, 1]] * 2)  # right where BEST is wrong, once
    found = {figure.name: figure.value for figure in figures(SUITE, middle, BEST)}
    assert found["methods.middle.wins-best"] == pytest.approx((6 * 0 + 1 * 0.5 + 1 * 1) / 8)


def test_metrics_that_agree_with_the_judge_are_told_from_those_that_do_not() -> None:
    """Ranks are over rows, motion by motion; a column's better end decides which way is up."""
    share = [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    seen = [share[0], share[2], share[1], share[3], share[2], share[4]]  # squat and spin of each row: spin is easier
    rate = [sum(own) / 4 for own in seen]
    columns: dict[str, list[list[float]]] = {
        "error": [[1 - r + 2 * (i % 2)] * 4 for i, r in enumerate(rate)],  # less is better; spin's is the larger
        "amplitude": [[1 + (1 - r) * (1 if i % 2 else -1)] * 4 for i, r in enumerate(rate)],  # nearer to 1, from both
        "fidelity": [[1 - r] * 4 for r in rate],  # more is better, and it is the wrong way round
        "colour": [[i % 2] * 4 for i in range(6)],  # follows the motion alone: nothing about rows
    }
    rows = []
    for index, name in enumerate(ROWS):
        own = slice(2 * index, 2 * index + 2)
        rows.append(row(name, seen[own], [[1] * 4] * 2, **{key: values[own] for key, values in columns.items()}))
    results = Results(suite=SUITE, rows=tuple(rows))
    found = {figure.name: figure for pair in agreement(results) for figure in pair}
    one = {"agreement.error": 1, "agreement.amplitude": 1, "agreement.fidelity": -1, "agreement.colour": 0}
    assert {name: figure.value for name, figure in found.items()} == pytest.approx(
        one | {f"{name}.means": value for name, value in one.items()}
    )
    assert (found["agreement.error"].n, found["agreement.error.means"].n) == (6, 3)
    assert list(agreement(dataclasses.replace(results, rows=tuple(rows[:2])))) == [], "two rows rank alike by chance"
    base = {**ROWS, "base": Row(method="lora", sampling={"adapter_until": 0})}
    none = row("base", [[0] * 4] * 2, [[1] * 4] * 2, error=[[0.0] * 4] * 2)  # the best by its error, and no method
    more = Results(suite=dataclasses.replace(SUITE, rows=base), rows=(*rows, none))
    assert next(one for one, _ in agreement(more) if one.name == "agreement.error").value == pytest.approx(1)


def test_intervals_of_rows_are_for_motions_in_general() -> None:
    """All seeds of a motion are alike: three of them say no more than one."""
    motions = ("squat", "salute", "spin", "pray", "handstand", "dance")
    hits = [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
    error, all_right = [[1 - sum(own) / 4] * 4 for own in hits], [[1] * 4] * 6
    found = {}
    for seeds in ((0,), (0, 1, 2)):
        suite = dataclasses.replace(SUITE, motions=motions, seeds=seeds)
        best, worst = (
            row(name, *([own for own in values for _ in seeds] for values in (seen, all_right)),
                error=[own for own in error for _ in seeds])
            for name, seen in (("best", hits), ("worst", [[0] * 4] * 6))
        )  # fmt: skip
        found[seeds] = {f.name: f for f in figures(suite, best, worst)}
    few, many = found.values()
    for name in ("error", "hit", "motion", "motion-worst", "wins-worst", "harmonic"):
        one, other = few[f"methods.best.{name}"], many[f"methods.best.{name}"]
        assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=0.01), name
        assert one.here is None
        assert other.here is not None
    here = many["methods.best.motion-worst"].here
    assert here is not None
    assert here[1] - here[0] < 0.01, "of these motions everything is known"
    assert many["methods.best.motion.squat"].here is None


def test_what_was_not_asked_the_same_is_not_compared(tmp_path: Path) -> None:
    clips = {"clap": Footage(clips=tmp_path, words="claps")}
    asked = Suite(rows={"lora": Row()}, footage=clips, subjects=("a cat", "a dog"), num_videos=2, seeds=(0,))
    own = RowResult(name="lora", outcomes=(Outcome(values={"flow": [1.0, 2.0]}, num_videos=2, seconds=1.0),), seconds=1)

    def compared(**changed: object) -> list[str]:
        suite = dataclasses.replace(asked, **changed)  # type: ignore[arg-type]
        return [f.name for f in compare(Results(suite=asked, rows=(own,)), Results(suite=suite, rows=(own,)))]

    elsewhere = {"clap": Footage(clips=tmp_path / "moved", words="claps")}
    assert compared(footage=elsewhere) == ["methods.lora.flow-before"], "the same prompts, wherever the clips lie"
    with pytest.raises(ConfigError, match=r"subjects are .'a cat', 'a dog'. and .'a cat', 'a horse'."):
        compared(subjects=("a cat", "a horse"))
    with pytest.raises(ConfigError, match=r"their words are {'clap': 'claps'} and {'clap': 'applauds'}"):
        compared(footage={"clap": Footage(clips=tmp_path, words="applauds")})
