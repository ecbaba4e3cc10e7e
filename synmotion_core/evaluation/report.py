"""A folder of results as pages: report.md for a README; report.html with plots and videos, one file, no network.

Numbers are those of results.json, as `results.figures` makes them. What is said is the same on both pages: `sections`.
Intervals and verdicts are about motions in general, with the suite's as a sample of them; where each motion has several
trainings, tables of their own answer the narrower question, about these motions alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from synmotion_core.config import to_dict
from synmotion_core.evaluation.figures import Figure
from synmotion_core.evaluation.metrics import COLUMNS, Column
from synmotion_core.evaluation.report_page import Section, page
from synmotion_core.evaluation.results import (
    DERIVED,
    Results,
    agreement,
    column_of,
    figures,
    not_measured,
    read_results,
)
from synmotion_core.evaluation.suite import Suite
from synmotion_core.storage import replacing

ENOUGH = 6  # motions that all lean one way: 2^-5, as good as the 2.5 % at each end of an interval
THESE = "for these motions"


@dataclass(frozen=True, slots=True)
class Table:
    """Figures by row and by what they are of; columns are those that every row has."""

    rows: Mapping[str, Mapping[str, Figure]]
    columns: tuple[Column, ...]


def write_report(folder: Path) -> None:
    """report.md and report.html of the results in a folder. Raises as `read_results`."""
    results = read_results(folder)
    for name, text in (("report.md", markdown(results)), ("report.html", html(results, folder))):
        with replacing(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")


def markdown(results: Results) -> str:
    """The page of text."""
    lines: list[str] = []
    for index, section in enumerate(sections(results, table_of(results))):
        lines += [f"{'#' if index == 0 else '##'} {section.title}", ""]
        for sentence in (*section.said, *section.made):
            lines += [sentence, ""]
        if section.head:
            lines += [f"| {' | '.join(row)} |" for row in (section.head, ["---"] * len(section.head), *section.rows)]
            lines.append("")
        lines += [f"- {note}" for note in section.notes] + [""] * bool(section.notes)
    return "\n".join(lines)


def html(results: Results, folder: Path) -> str:
    """The page with plots, and the videos that are in the folder."""
    table = table_of(results)
    return page(results, folder, sections(results, table), table.rows, table.columns, curves_of(results))


def table_of(results: Results) -> Table:
    """The figures of all rows."""
    suite = results.suite
    against = next((row for row in results.rows if row.name == suite.against), None)
    rows = {}
    for row in results.rows:
        head = f"methods.{row.name}."
        rows[row.name] = {f.name.removeprefix(head): f for f in figures(suite, row, against)}
    columns = (*COLUMNS.values(), *DERIVED.values())
    return Table(rows, tuple(c for c in columns if rows and all(c.name in found for found in rows.values())))


def verdict(column: Column, figure: Figure, count: int = ENOUGH, what: str = "motion") -> str:
    """What a difference over so many motions says: an interval with 0 in it is within the noise.

    Of fewer than ENOUGH no interval says better or worse: that all n lean one way has a chance of 2^(1-n) where there
    is nothing, and redrawing groups that all lean one way never crosses 0. Seeds of one motion are no further motions;
    where the interval is for these motions, what was repeated are trainings.

    >>> verdict(COLUMNS["error"], Figure(name="x", value=-1, low=-2, high=-0.5, n=9, seeds=(0,), seconds=0))
    'better'
    """
    even = 0.5 if column.name == "wins" else 0.0
    if figure.low <= even <= figure.high:
        return "within noise"
    if count < ENOUGH:
        return f"of {count} {what}{'s' * (count > 1)} only"
    if column.better in ("one", "neither"):
        return "more" if figure.value > even else "less"
    return "better" if (figure.value < even) == (column.better == "less") else "worse"


def cell(column: Column, figure: Figure) -> str:
    """A number with its interval, in the unit of its column.

    >>> cell(COLUMNS["motion"], Figure(name="x", value=0.5, low=0.25, high=0.755, n=4, seeds=(0,), seconds=1))
    '50 % [25, 75.5]'
    """
    if column.rate:
        return f"{100 * figure.value:.3g} % [{100 * figure.low:.3g}, {100 * figure.high:.3g}]"
    return f"{figure.value:.3g} [{figure.low:.3g}, {figure.high:.3g}]"


def sections(results: Results, table: Table) -> list[Section]:
    """Everything that is said, in order; the first one's title is the report's."""
    suite = results.suite
    versions = "; ".join(f"{name} {own}" for name, own in results.versions.items())
    found = [
        Section(
            title=suite.about or "Results",
            said=_sentences(results, table),
            made=(*([f"`{results.command}`"] if results.command else []), versions),
            head=("", *(c.title for c in table.columns)),
            rows=[[name, *(cell(c, own[c.name]) for c in table.columns)] for name, own in table.rows.items()],
            notes=tuple(f"{c.title}: {c.about}" for c in table.columns),
        ),
        Section(title="Rows", notes=tuple(_rows(results))),
    ]
    these = [name for name, own in table.rows.items() if any(f.here is not None for f in own.values())]
    if these:
        rows = [[name, *(cell(c, table.rows[name][c.name].for_these()) for c in table.columns)] for name in these]
        said = "How sure each value is of these motions, which are kept: trainings are redrawn within each. It says "
        said += "nothing about other motions."
        found.insert(1, Section(title=f"The same, {THESE}", said=(said,), head=found[0].head, rows=rows))
    compared = [name for name in table.rows if suite.against is not None and name != suite.against]
    if compared:
        columns = [
            c
            for c in (*COLUMNS.values(), *DERIVED.values())
            if all(f"{c.name}-{suite.against}" in table.rows[name] for name in compared)
        ]
        head = ("", *(c.title for c in columns))
        pairs = {name: [(c, table.rows[name][f"{c.name}-{suite.against}"]) for c in columns] for name in compared}
        rows = [
            [name, *(f"{cell(c, f)} {verdict(c, f, len(suite.motions))}" for c, f in own)]
            for name, own in pairs.items()
        ]
        said = (*_shared(suite, compared), "Half of the videos in which both or neither are right count as won.")
        found.append(Section(title=f"Against {suite.against}", said=said, head=head, rows=rows))
        if any(f.here is not None for own in pairs.values() for _, f in own):
            count = len(suite.motions) * len(suite.seeds)
            rows = [
                [name, *(f"{cell(c, f)} {verdict(c, f, count, 'training')}" for c, f in
                         ((c, f.for_these()) for c, f in own))]
                for name, own in pairs.items()
            ]  # fmt: skip
            said = ("The same differences with these motions kept, trainings redrawn within each.",)
            found.append(Section(title=f"Against {suite.against}, {THESE}", said=said, head=head, rows=rows))
    if all(f"motion.{motion}" in own for own in table.rows.values() for motion in suite.motions):
        rows = [
            [name, *(cell(COLUMNS["motion"], own[f"motion.{m}"]) for m in suite.motions)]
            for name, own in table.rows.items()
        ]
        found.append(Section(title="By motion", head=("", *suite.motions), rows=rows))
    agree = list(agreement(results))
    if agree:
        said = "Spearman's rank correlation with the accuracy of the motion: what a metric is worth where the truth "
        said += "is known, which here is the judge's verdict. 1 ranks rows alike. Within motions: over rows, the mean "
        said += "of all motions; over rows' means: of all motions together. The backbone alone is left out."
        rows = [
            [column_of(one.name.removeprefix("agreement.")).title,
             *(f"{f.value:.2f} [{f.low:.2f}, {f.high:.2f}]" for f in (one, means))]
            for one, means in agree
        ]  # fmt: skip
        head = ("", f"within motions, n = {agree[0][0].n}", f"over rows' means, n = {agree[0][1].n}")
        found.append(Section(title="Which metrics agree", said=(said,), head=head, rows=rows))
    return found


def _shared(suite: Suite, compared: Sequence[str]) -> list[str]:
    """What rows share with the one they are compared with: noise and clips only where both are drawn from the same."""
    first = suite.units(suite.against or "")[0]
    units = {name: suite.units(name)[0] for name in compared}
    noise = [name for name, own in units.items() if own.sampling.noise_prior != first.sampling.noise_prior]
    clips = [name for name, own in units.items() if (own.num_clips, own.mode) != (first.num_clips, first.mode)]
    said = [f"Differences are to {suite.against}, video by video: the same prompts"]
    if len(clips) < len(units):
        said[0] += ", clips"
    said[0] += f" and {'seeds of the noise' if noise else 'noise'}."
    if clips:
        said.append(f"Trained on other clips (another number, or in another mode): {', '.join(clips)}.")
    if noise:
        said.append(f"Drawn from another share of a clip's noise: {', '.join(noise)}.")
    return said


def _sentences(results: Results, table: Table) -> list[str]:
    suite, missing = results.suite, [name for name in results.suite.rows if name not in {r.name for r in results.rows}]
    units = results.rows[0].outcomes if results.rows else ()
    counts = sorted({suite.units(name)[0].num_clips for name in suite.rows})
    clips = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}, by row,"
    others = ", ".join(suite.subjects) or "species that were never in them"
    mode = suite.mode if suite.drawn_mode is None else f"{suite.mode}, drawn in {suite.drawn_mode}"
    said = [
        f"{suite.backbone}, {mode}. Trainings a row: {len(units)} (motions: "
        f"{len(suite.motions)}, seeds: {', '.join(map(str, suite.seeds))}), {clips} clips "
        f"{'' if suite.footage else 'of a person '}each, {suite.num_videos} videos of {others}. Intervals are 95 %, "
        f"{_over(suite, len(units))}",
    ]
    unmet = suite.unmet({f"{name}.{key}": f.value for name, own in table.rows.items() for key, f in own.items()})
    if suite.expects and not missing:
        said.append(f"Not as expected: {'; '.join(unmet)}." if unmet else "All is as the suite expects it.")
    if missing:
        said.append(f"Not done yet: {', '.join(missing)}.")
    return said + not_measured([outcome for row in results.rows for outcome in row.outcomes])


def _over(suite: Suite, units: int) -> str:
    """What intervals are over, and so which question they answer."""
    if units == 1:
        return "over the videos of one training: another one may differ by more."
    if len(suite.motions) == 1:
        return f"over trainings of {suite.motions[0]}: they say nothing about other motions."
    within = ", then trainings within each" if len(suite.seeds) > 1 else ""
    return f"for motions in general: motions are redrawn{within}."


def _rows(results: Results) -> list[str]:
    """What each row is: its method, and the settings that are not the method's or the suite's own."""
    said = []
    for row in results.rows:
        own = results.suite.rows[row.name]
        parts = {**own.config, **{f"train.{k}": v for k, v in own.train.items()}}
        parts |= {f"sampling.{k}": v for k, v in own.sampling.items()}
        parts |= {} if own.num_clips is None else {"num_clips": own.num_clips}
        parts |= {} if own.mode is None else {"mode": own.mode}
        parts |= {} if own.after == 1 else {"after": own.after}
        words = "".join(f", {key}={json.dumps(value)}" for key, value in parts.items())
        said.append(f"{row.name}: {own.method or row.name}{words}")
    shared = {**{f"train.{k}": v for k, v in results.suite.train.items()}}
    shared |= {f"sampling.{k}": v for k, v in results.suite.sampling.items()}
    words = ", ".join(f"{key}={json.dumps(value)}" for key, value in shared.items())
    return said + ([f"all rows: {words}"] if words else [])


def curves_of(results: Results) -> dict[str, list[list[tuple[str, float]]]]:
    """Settings that vary alone: by name, the groups of (row, value) that differ in nothing else, by value."""
    settings = {row.name: _settings(results.suite, row.name) for row in results.rows}
    keys = sorted({key for own in settings.values() for key in own})
    found: dict[str, list[list[tuple[str, float]]]] = {}
    for key in keys:
        groups: dict[str, dict[float, str]] = {}
        for name, own in settings.items():
            value = own.get(key)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            same = {k: v for k, v in own.items() if k != key}
            steps = same.get("steps")
            if key == "config.alpha" and isinstance(steps, int | float):  # alike in their reference steps
                same["steps"] = round(steps * value)
            rest = json.dumps(same, sort_keys=True)
            groups.setdefault(rest, {}).setdefault(float(value), name)
        lines = [[(name, value) for value, name in sorted(one.items())] for one in groups.values() if len(one) > 2]
        if lines:
            found[key] = lines
    return found


def _settings(suite: Suite, name: str) -> dict[str, object]:
    """A row's whole settings, flat; what was trained and looked at after a share counts as so many steps."""
    unit = suite.units(name)[0]
    values = {**to_dict(unit), "config": to_dict(unit.method_config)}
    values["steps"] = values.pop("after") * values["train"].pop("num_steps")
    config = values["config"]
    if config.get("rank") and "lora_alpha" in config:  # what they come to: ranks of one scale are one curve
        config["lora_scale"] = config.pop("lora_alpha") / config["rank"]
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": own for inner, own in value.items()}
        else:
            flat[key] = value
    return flat
