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
from typing import Any

from synmotion_core.errors import ConfigError, MissingError
from synmotion_core.evaluation.figures import Figure, grouped_rate_figure, mean_figure
from synmotion_core.evaluation.suite import Suite, suite_from_dict, suite_to_dict
from synmotion_core.storage import replacing

RATES = ("motion", "species", "colour", "as_person")
MEANS = ("error", "amplitude")
FILE = "results.json"
_FORMAT = 1
_PACKAGES = ("torch", "diffusers", "transformers", "peft")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Per video whether the judge saw the motion, species and colour asked for, and whether it saw the person instead.

    error and amplitude say how it moves (trajectories.py). seconds is the training's, priors not counted: they are
    drawn once and shared. first_frame_db is, in I2V, how well each video's first frame keeps the picture (PSNR); empty
    in T2V. common says of the videos of known motions whether the judge saw them; they are the last of prompts, the
    videos' words, and of videos, their files in the folder that keeps them.
    """

    motion: list[bool]
    species: list[bool]
    colour: list[bool]
    as_person: list[bool]
    error: list[float]
    amplitude: list[float]
    seconds: float
    first_frame_db: list[float] = field(default_factory=list)
    common: list[bool] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    videos: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = len(self.motion)
        for name in ("species", "colour", "as_person", "error", "amplitude"):
            if len(getattr(self, name)) != count:
                raise ValueError(f"{count} videos, {len(getattr(self, name))} values of {name}")
        if len(self.first_frame_db) not in (0, count):
            raise ValueError(f"{count} videos, {len(self.first_frame_db)} values of first_frame_db")
        for name in ("prompts", "videos"):
            if len(getattr(self, name)) not in (0, count + len(self.common)):
                raise ValueError(f"{count + len(self.common)} videos, {len(getattr(self, name))} {name}")


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
    """`methods.<row>.<what>`: rates, means, differences to another row video by video, each motion's rate.

    Rates take the wider of two intervals: whole units redrawn, and Wilson's over all videos.
    """
    how: dict[str, Any] = {"seeds": suite.seeds, "seconds": row.seconds}
    name, outcomes = f"methods.{row.name}", row.outcomes
    for key in RATES:
        yield grouped_rate_figure(f"{name}.{key}", _values(outcomes, key), **how)
    for key in MEANS:
        yield mean_figure(f"{name}.{key}", _values(outcomes, key), **how)
    known = _values(outcomes, "common")
    if all(known):
        yield grouped_rate_figure(f"{name}.common", known, **how)
    kept = _values(outcomes, "first_frame_db")
    if all(kept):
        yield mean_figure(f"{name}.first_frame_db", kept, **how)
    if against is not None and against.name != row.name:
        yield from differences(suite, row, against, against.name)
    yield mean_figure(f"{name}.seconds", [[o.seconds] for o in outcomes], **how)
    units = suite.units(row.name)
    for motion in suite.motions:
        own = [o for unit, o in zip(units, outcomes, strict=True) if unit.motion == motion]
        yield grouped_rate_figure(f"{name}.motion.{motion}", _values(own, "motion"), **how)


def differences(suite: Suite, row: RowResult, other: RowResult, called: str) -> Iterator[Figure]:
    """`methods.<row>.<what>-<called>`: a row less another, video by video; both were asked the same."""
    both = all(o.common for o in (*row.outcomes, *other.outcomes))
    for key in (*RATES, *MEANS, *["common"] * both):
        pairs = zip(_values(row.outcomes, key), _values(other.outcomes, key), strict=True)
        found = [[a - b for a, b in zip(one, two, strict=True)] for one, two in pairs]
        yield mean_figure(f"methods.{row.name}.{key}-{called}", found, seeds=suite.seeds, seconds=row.seconds)


def compare(before: Results, after: Results) -> Iterator[Figure]:
    """`methods.<row>.<what>-before` of each row that both have: what a change of the code or of settings did.

    Raises ConfigError, naming what differs, where they were not asked the same.
    """
    for name in ("backbone", "motions", "seeds", "num_videos", "num_common", "described", "mode", "drawn_mode"):
        one, two = getattr(before.suite, name), getattr(after.suite, name)
        if one != two:
            raise ConfigError(f"these results cannot be compared video by video: their {name} are {one} and {two}")
    common = [row for row in after.rows if row.name in {r.name for r in before.rows}]
    if not common:
        raise ConfigError("these results have no row in common")
    for row in common:
        yield from differences(after.suite, row, before.row(row.name), "before")


def _values(outcomes: Sequence[Outcome], key: str) -> list[list[float]]:
    return [[float(hit) for hit in getattr(o, key)] for o in outcomes]


def write_results(folder: Path, suite: Suite, rows: Sequence[RowResult], kept: Path, command: str) -> None:
    """The folder, its videos copied from `kept`; results.json is the last, so that it names only what is there."""
    listed = []
    for row in rows:
        outcomes = []
        for unit, outcome in zip(suite.units(row.name), row.outcomes, strict=True):
            names = []
            for index, video in enumerate(outcome.videos):
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
        "versions": _versions(),
        "rows": listed,
    }
    with replacing(folder / FILE) as partial:
        partial.write_text(json.dumps(values, indent=1), encoding="utf-8")


def check_folder(folder: Path, suite: Suite) -> None:
    """Raise ConfigError for a folder with results of another suite: videos of both would lie in it."""
    if (folder / FILE).exists() and read_results(folder).suite != suite:
        raise ConfigError(f"{folder} holds results of another suite: choose another folder, or delete it")


def _versions() -> dict[str, str]:
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
