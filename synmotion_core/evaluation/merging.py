"""Results of one suite that were measured in parts, put together.

A suite of many hours is run where and when there is time, seed by seed or motion by motion: `bench run SUITE --seeds 0
--out part-0`. Each training of the whole is there once, and all else that was asked is the same, or nothing is written.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from synmotion_core.errors import ConfigError
from synmotion_core.evaluation.report import write_report
from synmotion_core.evaluation.report_page import video_file
from synmotion_core.evaluation.results import (
    FILE,
    Outcome,
    Results,
    RowResult,
    check_folder,
    read_results,
    write_results,
)
from synmotion_core.evaluation.suite import Suite, suite_to_dict

log = logging.getLogger(__name__)

Cell = tuple[str, str, int]  # row, motion, seed


def merge_results(folders: Sequence[Path], out: Path, *, videos: int | None = None) -> Path:
    """Put the folders together into `out`, with a report; returns its results.json.

    videos: how many of each training go along, all by default. Parts that other versions of this source or of its
    libraries measured are put together with a warning, and the report names all of them. Raises ConfigError for parts
    that do not fit together, and for an `out` with other results; MissingError where there are none.
    """
    if len(folders) < 2:
        raise ConfigError(f"two folders or more are put together, got {len(folders)}")
    if videos is not None and videos < 0:
        raise ConfigError(f"videos must be at least 0, got {videos}")
    if any(out.resolve() == folder.resolve() for folder in folders):
        raise ConfigError(f"{out} is one of the parts: choose another folder")
    parts = [(folder, read_results(folder)) for folder in folders]
    suite = _whole([(str(folder), part.suite) for folder, part in parts])
    check_folder(out, suite)
    cells: dict[Cell, tuple[Path, Outcome]] = {}
    for folder, part in parts:
        for cell, outcome in _cells(part):
            if cell in cells:
                row, motion, seed = cell
                both = f"{cells[cell][0]} and {folder}"
                raise ConfigError(f"{row}, {motion}, seed {seed} is in two parts, {both}: leave one of them out")
            cells[cell] = folder, outcome
    rows = []
    for name in suite.rows:
        wanted = [(name, unit.motion, unit.seed) for unit in suite.units(name)]
        missing = [f"{motion}, seed {seed}" for _, motion, seed in wanted if (name, motion, seed) not in cells]
        if missing:
            rest = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise ConfigError(f"the parts lack {'; '.join(missing[:3])}{rest} of {name}: measure them first")
        seconds = sum(row.seconds for _, part in parts for row in part.rows if row.name == name)
        found = [_with_videos(*cells[cell], videos) for cell in wanted]
        rows.append(RowResult(name=name, outcomes=tuple(found), seconds=seconds))
    command = "; ".join(part.command for _, part in parts if part.command)
    write_results(out, suite, rows, Path(), command, versions=_versions(parts))
    write_report(out)
    return out / FILE


def _whole(suites: Sequence[tuple[str, Suite]]) -> Suite:
    """The suite of all of them. Raises ConfigError, naming it, for a field that is not the same."""
    (first, suite), *others = suites
    for name, other in others:
        one, two = _asked(suite), _asked(other)
        for key in one:
            if key not in ("motions", "seeds") and one[key] != two[key]:
                raise ConfigError(f"{first} and {name} were not asked the same: their {key} differ")
    motions = tuple(dict.fromkeys(motion for _, own in suites for motion in own.motions))
    return replace(suite, motions=motions, seeds=tuple(sorted({seed for _, own in suites for seed in own.seeds})))


def _asked(suite: Suite) -> dict[str, Any]:
    """Its fields; footage's folders may lie elsewhere on another machine."""
    fields = suite_to_dict(suite)
    footage = {motion: {**own, "clips": None} for motion, own in fields.get("footage", {}).items()}
    return {**fields, "footage": footage}


def _cells(part: Results) -> Iterable[tuple[Cell, Outcome]]:
    for row in part.rows:
        for unit, outcome in zip(part.suite.units(row.name), row.outcomes, strict=True):
            yield (row.name, unit.motion, unit.seed), outcome


def _with_videos(folder: Path, outcome: Outcome, most: int | None) -> Outcome:
    """Its videos as paths from where one stands, "" for those that stay behind or are not there."""
    paths = [video_file(folder, name) for name in outcome.videos]  # a results.json from elsewhere may name any file
    kept = [path if most is None or index < most else None for index, path in enumerate(paths)]
    return replace(outcome, videos=["" if path is None else path.as_posix() for path in kept])


def _versions(parts: Sequence[tuple[Path, Results]]) -> dict[str, str]:
    """What each part was measured with; more than one of a kind is warned about, and said with "and".

    Raises ConfigError for other weights: figures of two judges, or of two backbones, are not of one table.
    """
    names = dict.fromkeys(name for _, part in parts for name in part.versions)
    found = {name: list(dict.fromkeys(part.versions.get(name, "unknown") for _, part in parts)) for name in names}
    for name, versions in found.items():
        if name in ("judge", "weights") and len(set(versions) - {"unknown"}) > 1:
            raise ConfigError(f"the parts were measured with different {name}: {', '.join(versions)}")
        if len(versions) > 1:
            log.warning("the parts were measured with different versions of %s: %s", name, ", ".join(versions))
    return {name: " and ".join(versions) for name, versions in found.items()}
