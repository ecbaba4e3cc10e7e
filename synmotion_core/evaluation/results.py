"""What came out of a suite: per row its units, their outcomes and videos; the figures of it; and all of it as a folder.

    results.json               the suite, the command, versions, and for each video what the judge saw
    videos/<row>/<motion>-<seed>-<index>.mp4

`report.py` makes pages of such a folder; nothing in it is computed anew.
"""

from __future__ import annotations

import filecmp
import json
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from synmotion_core.errors import ConfigError, MissingError, unknown
from synmotion_core.evaluation.figures import (
    Figure,
    agreement_figures,
    grouped_rate_figure,
    harmonic_figure,
    mean_figure,
    share_figure,
)
from synmotion_core.evaluation.metrics import COLUMNS, METRICS, Column, find_metric
from synmotion_core.evaluation.suite import Suite, suite_from_dict, suite_to_dict
from synmotion_core.storage import replacing

if TYPE_CHECKING:
    from numpy.typing import NDArray

ACCURACIES = (("motion", "species"), ("vqa_motion", "vqa_subject"))  # for motion and subject, the surest judges first
DERIVED = {
    column.name: column
    for column in (
        Column(name="hit", title="both right", rate=True, about="motion and subject are right in the same video"),
        Column(
            name="harmonic",
            title="harmonic mean",
            rate=True,
            about="of the accuracies of motion and subject: high only where both are",
        ),
        Column(name="wins", title="wins", rate=True, about="how often this one has both right and the other has not"),
        Column(name="seconds", title="training, s", better="less", about="of one training, as busy as the machine was"),
    )
}
FILE = "results.json"
_FORMAT = 2
_PACKAGES = ("torch", "diffusers", "transformers", "peft")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """values: the metrics' columns, a value for each of num_videos videos, num_common known ones, or one for the unit.

    A column that is not there was not measured; missing: metrics that could not be, with the reason. seconds is the
    training's, priors not counted: they are drawn once and shared. prompts and videos are of all videos, known ones
    last: their words, and their files in the folder that keeps them, "" for one that is not kept.
    """

    values: Mapping[str, list[float]]
    num_videos: int
    num_common: int = 0
    seconds: float
    prompts: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)
    missing: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = {"video": self.num_videos, "known": self.num_common, "unit": 1}
        for name, values in self.values.items():
            if name not in COLUMNS:
                raise ValueError(f"no metric has the column {name!r}")
            if len(values) != counts[COLUMNS[name].per]:
                raise ValueError(f"{name}: {len(values)} values for {counts[COLUMNS[name].per]}")
        for name in self.missing:
            if name not in METRICS:
                raise ValueError(f"there is no metric {name!r}")
        total = self.num_videos + self.num_common
        for name in ("prompts", "videos"):
            if len(getattr(self, name)) not in (0, total):
                raise ValueError(f"{total} videos, {len(getattr(self, name))} {name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowResult:
    """A row's outcomes in the order of `Suite.units`, and how long they took here (what was kept took no time)."""

    name: str
    outcomes: tuple[Outcome, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """A folder, read."""

    suite: Suite
    rows: tuple[RowResult, ...]
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def row(self, name: str) -> RowResult:
        """Raises MissingError, naming those that there are."""
        for row in self.rows:
            if row.name == name:
                return row
        raise MissingError(f"there is no row {name!r}: there are {', '.join(row.name for row in self.rows)}")


def figures(suite: Suite, row: RowResult, against: RowResult | None = None) -> Iterator[Figure]:
    """`methods.<row>.<what>`: the metrics' columns, then `hit` and `harmonic` of motion and subject, differences to
    another row and `wins` against it, and the rate of each motion.

    Intervals are about motions in general: motions redrawn, then trainings within them; `Figure.here` is about these.
    Rates take the wider of two intervals: whole units redrawn, and Wilson's over all videos.
    """
    how = _how(suite, row)
    name, outcomes = f"methods.{row.name}", row.outcomes
    for key in columns_of(outcomes):
        figure = grouped_rate_figure if COLUMNS[key].rate else mean_figure
        yield figure(f"{name}.{key}", _values(outcomes, key), **how)
    pair = accuracies(outcomes)
    if pair is not None:
        yield grouped_rate_figure(f"{name}.hit", _hits(outcomes, pair), **how)
        yield harmonic_figure(f"{name}.harmonic", *(_values(outcomes, key) for key in pair), **how)
    if against is not None and against.name != row.name:
        yield from differences(suite, row, against, against.name)
    yield mean_figure(f"{name}.seconds", [[o.seconds] for o in outcomes], **how)
    if pair is not None:
        units = suite.units(row.name)
        for motion in suite.motions:
            own = [o for unit, o in zip(units, outcomes, strict=True) if unit.motion == motion]
            seen = _values(own, pair[0])
            yield grouped_rate_figure(f"{name}.motion.{motion}", seen, seeds=suite.seeds, seconds=row.seconds)


def _how(suite: Suite, row: RowResult) -> dict[str, Any]:
    """What figures of a row's units need beside their values."""
    motions = [unit.motion for unit in suite.units(row.name)]
    return {"seeds": suite.seeds, "seconds": row.seconds, "of": motions}


def expected_figures(suite: Suite, row: str) -> list[str]:
    """What `figures` calls a row's, without "methods.<row>.", where all metrics of the suite can be measured.

    Raises ConfigError for a metric that there is not.
    """
    columns = [c for name in suite.metrics for c in find_metric(name).columns if c.per != "known" or suite.num_common]
    found = [column.name for column in columns]
    pair = next((pair for pair in ACCURACIES if set(pair) <= set(found)), None)
    differing = [*found, *([] if pair is None else ["wins"])]
    found += [] if pair is None else ["hit", "harmonic", *(f"motion.{motion}" for motion in suite.motions)]
    if suite.against not in (None, row):
        found += [f"{name}-{suite.against}" for name in differing]
    return [*found, "seconds"]


def check_expects(suite: Suite) -> None:
    """Raise ConfigError, with the nearest, where a suite expects something of a figure that it will not have."""
    for key in suite.expects:
        row, _, figure = key.partition(".")
        there = expected_figures(suite, row)
        if figure not in there:
            raise unknown("figure", key, [f"{row}.{name}" for name in there])


def column_of(figure: str) -> Column:
    """What a figure's last part is of: "motion", "motion.squat" or "motion-plain", of metrics or derived."""
    name = figure.partition(".")[0].partition("-")[0]
    return DERIVED[name] if name in DERIVED else COLUMNS[name]


def columns_of(outcomes: Sequence[Outcome]) -> list[str]:
    """The columns that all of them have, in the registry's order."""
    return [key for key in COLUMNS if all(o.values.get(key) for o in outcomes)]


def not_measured(outcomes: Sequence[Outcome]) -> list[str]:
    """A sentence for each metric that some of them lack, with the first reason."""
    said = []
    for name in METRICS:
        reasons = [o.missing[name] for o in outcomes if name in o.missing]
        if reasons:
            where = "" if len(reasons) == len(outcomes) else f" in {len(reasons)} of {len(outcomes)} trainings"
            said.append(f"{name}: not measured{where}, weights absent: {reasons[0]}")
    return said


def accuracies(outcomes: Sequence[Outcome]) -> tuple[str, str] | None:
    """The columns that say whether the motion and whether the subject is right; None where none does."""
    there = columns_of(outcomes)
    return next((pair for pair in ACCURACIES if set(pair) <= set(there)), None)


def _hits(outcomes: Sequence[Outcome], pair: tuple[str, str]) -> list[list[float]]:
    """Of each video whether both are right."""
    one, other = (_values(outcomes, key) for key in pair)
    return [[a * b for a, b in zip(x, y, strict=True)] for x, y in zip(one, other, strict=True)]


def differences(suite: Suite, row: RowResult, other: RowResult, called: str) -> Iterator[Figure]:
    """`methods.<row>.<what>-<called>`: a row less another, video by video; both were asked the same.

    `wins-<called>`: the share of videos in which this one is right in motion and subject and the other is not, and
    half of those in which both or neither are                                                                    (16)
    """
    there = columns_of([*row.outcomes, *other.outcomes])
    how = _how(suite, row)
    for key in there:
        pairs = zip(_values(row.outcomes, key), _values(other.outcomes, key), strict=True)
        found = [[a - b for a, b in zip(one, two, strict=True)] for one, two in pairs]
        yield mean_figure(f"methods.{row.name}.{key}-{called}", found, **how)
    pair = accuracies([*row.outcomes, *other.outcomes])
    if pair is not None:
        hits = zip(_hits(row.outcomes, pair), _hits(other.outcomes, pair), strict=True)
        wins = [[(1 + a - b) / 2 for a, b in zip(one, two, strict=True)] for one, two in hits]  # (16)
        yield share_figure(f"methods.{row.name}.wins-{called}", wins, **how)


def agreement(results: Results) -> Iterator[tuple[Figure, Figure]]:
    """`agreement.<column>` within motions and `agreement.<column>.means` over rows' means: `figures.agreement_figures`
    of a column with the accuracy of the motion, which is the judge's verdict.

    What a metric is worth where the truth is known: 1 ranks rows alike, -1 the other way round. For a column whose
    better end is less, or nearness to 1, the sign is turned, so that 1 is always the good one. The backbone alone is
    no row of it: that it is behind all others is no merit of a metric.
    """
    suite = results.suite
    rows = [row for row in results.rows if not _alone(suite, row.name)]
    everything = [o for row in rows for o in row.outcomes]
    pair = accuracies(everything)
    if pair is None or not rows:
        return

    def table(key: str) -> NDArray[Any]:
        cells = []
        for row in rows:
            units = list(zip(suite.units(row.name), row.outcomes, strict=True))
            cells.append([_mean([o for unit, o in units if unit.motion == m], key) for m in suite.motions])
        values = np.array(cells)
        column = COLUMNS[key]
        return -values if column.better == "less" else -abs(values - 1) if column.better == "one" else values

    truth = table(pair[0])
    for key in columns_of(everything):
        if COLUMNS[key].per != "known" and key not in pair:
            names = (f"agreement.{key}", f"agreement.{key}.means")
            found = agreement_figures(names, truth, table(key), seeds=suite.seeds)
            if found is not None:
                yield found


def _alone(suite: Suite, name: str) -> bool:
    """Whether a row's videos are the backbone's own: no adapter, no clip's noise."""
    drawn = suite.units(name)[0].sampling
    return drawn.adapter_until == 0 and not drawn.noise_prior


def _mean(outcomes: Sequence[Outcome], key: str) -> float:
    values = [v for own in _values(outcomes, key) for v in own]
    return sum(values) / len(values)


def compare(before: Results, after: Results) -> Iterator[Figure]:
    """`methods.<row>.<what>-before` of each row that both have: what a change of the code or of settings did.

    Raises ConfigError, naming what differs, where they were not asked the same.
    """
    asked = (
        "backbone", "motions", "seeds", "num_videos", "num_common", "described", "mode", "drawn_mode", "subjects",
    )  # fmt: skip
    for name in (*asked, "words"):
        one, two = (_said(suite) if name == "words" else getattr(suite, name) for suite in (before.suite, after.suite))
        if one != two:
            raise ConfigError(f"these results cannot be compared video by video: their {name} are {one} and {two}")
    common = [row for row in after.rows if row.name in {r.name for r in before.rows}]
    if not common:
        raise ConfigError("these results have no row in common")
    for row in common:
        yield from differences(after.suite, row, before.row(row.name), "before")


def _said(suite: Suite) -> dict[str, str]:
    """What the prompts call the motions of footage; its folders may lie elsewhere."""
    return {motion: suite.footage[motion].words for motion in suite.motions if motion in suite.footage}


def _values(outcomes: Sequence[Outcome], key: str) -> list[list[float]]:
    return [[float(value) for value in o.values[key]] for o in outcomes]


def write_results(
    folder: Path, suite: Suite, rows: Sequence[RowResult], kept: Path, command: str,
    versions: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """The folder, its videos copied from `kept`; results.json is the last, so that it names only what is there.

    A video that is called "" is not kept. versions: what measured it, by default what is installed here.
    """
    listed = []
    for row in rows:
        outcomes = []
        for unit, outcome in zip(suite.units(row.name), row.outcomes, strict=True):
            names = []
            for index, video in enumerate(outcome.videos):
                if not video:
                    names.append("")
                    continue
                names.append(f"videos/{row.name}/{unit.motion}-{unit.seed}-{index:02d}.mp4")
                target = folder / names[-1]
                if not target.exists() or not filecmp.cmp(kept / video, target, shallow=False):  # of a row before
                    with replacing(target) as partial:
                        shutil.copyfile(kept / video, partial)
            outcomes.append({**asdict(outcome), "videos": names})
        listed.append({"name": row.name, "seconds": row.seconds, "outcomes": outcomes})
    values = {
        "format": _FORMAT,
        "suite": suite_to_dict(suite),
        "command": command,
        "versions": dict(versions_here() if versions is None else versions),
        "rows": listed,
    }
    with replacing(folder / FILE) as partial:
        partial.write_text(json.dumps(values), encoding="utf-8")


def check_folder(folder: Path, suite: Suite) -> None:
    """Raise ConfigError for a folder with results of another suite: videos of both would lie in it."""
    if (folder / FILE).exists() and read_results(folder).suite != suite:
        raise ConfigError(f"{folder} holds results of another suite: choose another folder, or delete it")


def versions_here() -> dict[str, str]:
    """Of Python and of the packages that a figure depends on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a source checkout of it
            found[name] = "unknown"
    return found


def read_results(folder: Path) -> Results:
    """Raises MissingError where there are none, ConfigError for a file that is damaged or of another version."""
    path = folder / FILE
    if not path.is_file():
        raise MissingError(f"there are no results in {folder}: `bench run SUITE --out {folder}` makes some")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] != _FORMAT:
            raise ConfigError(f"{path} has format {values['format']}, this version reads {_FORMAT}")
        suite = suite_from_dict(values["suite"], str(path))
        rows = tuple(
            RowResult(
                name=row["name"], seconds=float(row["seconds"]), outcomes=tuple(Outcome(**o) for o in row["outcomes"])
            )
            for row in values["rows"]
        )
        for row in rows:
            if len(row.outcomes) != len(suite.units(row.name)):
                count = len(suite.units(row.name))
                raise ConfigError(f"{path}: {row.name} has {len(row.outcomes)} units, its suite has {count}")
    except (ValueError, TypeError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    return Results(suite=suite, rows=rows, command=str(values["command"]), versions=dict(values["versions"]))
