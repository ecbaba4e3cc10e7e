"""What was measured with `bench run`, as the page shows it: which results there are, what they say, and their videos.

    <workspace>/results/<name>/   what `bench run SUITE --out` made here
    assets/results/<name>/        what ships

Results are chosen by an id ("mine/<name>" or "ready/<name>") that is looked up in these two places; the page never
takes a path. A folder may come from anybody: its results.json may be damaged or name any file. Nothing outside the
folder is opened, and what is in it is escaped.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from synmotion_core.command import PROGRAM
from synmotion_core.errors import ConfigError, MissingError, UserInputError
from synmotion_core.ui import media
from synmotion_core.ui.notices import Tone, hint
from synmotion_core.workspace import safe_name

if TYPE_CHECKING:
    from synmotion_core.evaluation.report import Table
    from synmotion_core.evaluation.report_page import Section
    from synmotion_core.evaluation.results import Outcome, Results
    from synmotion_core.workspace import Workspace

SUITE = "puppets-quick"  # of those that ship
MOST_ROWS = 4
PROMPTS = 6  # at once: with four rows 24 videos, all under one clock
MAX_BYTES = 32 * 2**20  # of a results.json: about 150,000 videos
_JUDGED = ("motion", "subject")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultsChoice:
    """A folder of results that can be chosen; stamp changes when its results.json does."""

    id: str
    folder: Path
    stamp: tuple[int, int]

    @property
    def label(self) -> str:
        """What the list shows."""
        return f"{self.folder.name} ({'ready-made' if self.id.startswith('ready/') else 'measured here'})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Results with all that is said of them."""

    folder: Path
    results: Results
    table: Table
    sections: Sequence[Section]

    @property
    def rows(self) -> list[str]:
        """Names of the rows that are done."""
        return [row.name for row in self.results.rows]

    @property
    def first_rows(self) -> list[str]:
        """Those to begin with: the one that others are compared with, then the first others."""
        against = self.results.suite.against
        return sorted(self.rows, key=lambda name: name != against)[:MOST_ROWS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """A row's video of a prompt by its name in the folder, "" where none was kept; right: whether the judge saw
    what _JUDGED names, empty where no judge looked."""

    row: str
    video: str
    right: tuple[bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One prompt and one noise, and what each row made of them."""

    prompt: str
    takes: tuple[Take, ...]

    @property
    def differs(self) -> bool:
        """Whether the judge saw in one what it did not see in another."""
        return len({take.right for take in self.takes}) > 1


# ------------------------------------------------------------------------------------------------ folders


def command(workspace: Workspace) -> str:
    """The command whose results come to this page."""
    return f"{PROGRAM} {shlex.join(['bench', 'run', SUITE, '--out', str(workspace.results / SUITE)])}"


def find_results(workspace: Workspace, assets: Path) -> tuple[tuple[ResultsChoice, ...], tuple[str, ...]]:
    """One's own results, the newest first, then those that ship; and why other folders are left out."""
    found, problems = [], []
    for kind, place in (("mine", workspace.results), ("ready", assets / "results")):
        folders = sorted(place.iterdir()) if place.is_dir() else []
        here = []
        for folder in folders:
            if folder.name.startswith(".") or not folder.is_dir():
                continue
            try:
                name, stamp = safe_name(folder.name), _stamp(folder)
                here.append(ResultsChoice(id=f"{kind}/{name}", folder=folder, stamp=stamp))
            except UserInputError as error:
                problems.append(str(error))
        found += sorted(here, key=lambda choice: choice.stamp, reverse=True) if kind == "mine" else here
    return tuple(found), tuple(problems)


def find_result(workspace: Workspace, assets: Path, wanted: str | None) -> ResultsChoice:
    """The results with this id; raises MissingError when they are not there (any more)."""
    for choice in find_results(workspace, assets)[0]:
        if choice.id == wanted:
            return choice
    raise MissingError(f"the results {str(wanted)[:80]!r} are not there any more: press Refresh and choose others")


def _stamp(folder: Path) -> tuple[int, int]:
    """When results.json was written, and its size."""
    from synmotion_core.evaluation.results import FILE

    path = folder / FILE
    try:
        if path.resolve() != folder.parent.resolve() / folder.name / FILE:
            raise ConfigError(f"the results {folder.name} are a link to another place: put a copy here instead")
        stat = path.stat()
    except OSError as error:
        raise MissingError(f"the results {folder.name} have no {FILE} yet: it comes with the first row") from error
    if stat.st_size > MAX_BYTES:
        raise ConfigError(f"{path} has {stat.st_size >> 20} MiB, at most {MAX_BYTES >> 20} are read")
    return stat.st_mtime_ns, stat.st_size


def open_results(choice: ResultsChoice) -> Measured:
    """Read, with all figures, which takes about a second; remembered until results.json changes.

    Raises MissingError or ConfigError for a folder that is gone or damaged.
    """
    return _opened(choice.folder, choice.stamp)


@functools.lru_cache(maxsize=4)
def _opened(folder: Path, stamp: tuple[int, int]) -> Measured:
    from synmotion_core.evaluation.report import sections, table_of
    from synmotion_core.evaluation.results import read_results

    try:
        results = read_results(folder)
        texts = [text for row in results.rows for o in row.outcomes for text in (*o.prompts, *o.videos)]
        if not all(isinstance(text, str) for text in texts):
            raise ConfigError(f"{folder.name} cannot be shown: its prompts and videos must be texts")
        table = table_of(results)
        return Measured(folder=folder, results=results, table=table, sections=sections(results, table))
    except UserInputError:
        raise
    except Exception as error:  # numbers from anybody's file: none, not finite, of rows that were not asked the same
        raise ConfigError(f"{folder.name} cannot be shown, its results.json is damaged: {error}") from error


# ------------------------------------------------------------------------------------------------ numbers


def summary_html(measured: Measured) -> str:
    """What was measured, in sentences, and the table of all rows."""
    from synmotion_core.evaluation.report_page import table_html

    first = measured.sections[0]
    said = "".join(hint(sentence) for sentence in first.said)
    return f'<div class="sm-report"><h3>{escape(first.title)}</h3>{said}{table_html(first)}</div>'


def numbers_html(measured: Measured) -> str:
    """Plots, differences and other tables; then what columns and rows are, folded."""
    from synmotion_core.evaluation.report import curves_of
    from synmotion_core.evaluation.report_page import Section, plots_html, section_html

    table, first = measured.table, measured.sections[0]
    plots = plots_html(table.rows, table.columns, curves_of(measured.results))
    tables = "".join(section_html(section, "h3") for section in measured.sections[1:] if section.head)
    folded = [Section(title="How it was made", said=first.made), Section(title="Columns", notes=first.notes)]
    folded += [section for section in measured.sections[1:] if not section.head]
    rest = "".join(section_html(section, "h4") for section in folded)
    more = f'<details class="sm-details"><summary>What columns and rows are</summary>{rest}</details>'
    return f'<div class="sm-report">{plots}{tables}{more}</div>'


def report_file(choice: ResultsChoice, workspace: Workspace) -> Path:
    """report.html, made anew in the workspace's cache. Raises as `open_results`, and StorageError."""
    from synmotion_core.evaluation.report import curves_of
    from synmotion_core.evaluation.report_page import page
    from synmotion_core.storage import replacing

    own = open_results(choice)
    text = page(own.results, own.folder, own.sections, own.table.rows, own.table.columns, curves_of(own.results))
    target = workspace.cache / "reports" / f"{choice.id}.html"
    with replacing(target) as partial:
        partial.write_text(text, encoding="utf-8")
    return target


def report_link(url: str, choice: ResultsChoice, size: int) -> str:
    """Where the browser gets the report from."""
    name = f"{choice.folder.name}.html"
    link = f'<a href="{escape(url)}" download="{escape(name)}">{escape(name)}</a>'
    rest = f" ({size / 2**20:.1f} MiB): tables, plots and videos in one file, which needs no network"
    return f'<div class="sm-notice sm-info" role="status">{link}{rest}</div>'


# ------------------------------------------------------------------------------------------------ videos


def line_up(measured: Measured, *, motion: str, seed: int, rows: Sequence[str], differing: bool = False) -> list[Line]:
    """Each prompt of a motion and a training, with every row's video; differing: those alone that the judge sees apart.

    Raises ConfigError or MissingError for what these results have not.
    """
    suite = measured.results.suite
    if motion not in suite.motions or seed not in suite.seeds:
        there = f"{', '.join(suite.motions)} with seeds {', '.join(map(str, suite.seeds))}"
        raise MissingError(f"there are no videos of {motion!r}, seed {seed!r}: there are {there}")
    if not 1 <= len(rows) <= MOST_ROWS:
        raise ConfigError(f"choose 1 to {MOST_ROWS} rows to look at, got {len(rows)}")
    unit = suite.motions.index(motion) * len(suite.seeds) + suite.seeds.index(seed)  # the order of Suite.units
    outcomes = [(name, measured.results.row(name).outcomes[unit]) for name in rows]
    lines = []
    for index in range(min(outcome.num_videos for _, outcome in outcomes)):
        prompts = [outcome.prompts[index] for _, outcome in outcomes if outcome.prompts]
        takes = tuple(_take(name, outcome, index) for name, outcome in outcomes)
        lines.append(Line(prompt=prompts[0] if prompts else f"video {index + 1}", takes=takes))
    return [line for line in lines if line.differs] if differing else lines


def _take(row: str, outcome: Outcome, index: int) -> Take:
    from synmotion_core.evaluation.results import accuracies

    pair = accuracies([outcome])
    right = () if pair is None else tuple(bool(outcome.values[key][index]) for key in pair)
    return Take(row=row, video=outcome.videos[index] if outcome.videos else "", right=right)


def lines_html(area: gr.HTML, measured: Measured, lines: Sequence[Line]) -> str:
    """The lines below each other, their videos beside each other and all in step; only these files are touched."""
    if not lines:
        return hint("The judge sees these rows alike in every video of this motion and training.")
    shown = "".join(
        f'<div class="sm-line"><p class="sm-title">{escape(line.prompt)}</p><div class="sm-stage">'
        f"{''.join(_figure(area, measured.folder, take) for take in line.takes)}</div></div>"
        for line in lines
    )
    columns = len(lines[0].takes)
    return media.together(
        f'<div class="sm-lineup" style="--sm-columns:{columns}">{shown}</div>', name="Rows side by side"
    )


def _figure(area: gr.HTML, folder: Path, take: Take) -> str:
    from synmotion_core.evaluation.report_page import video_file

    path = video_file(folder, take.video) if take.video else None
    if path is None:
        return media.waiting(take.row, "the video is not in the folder")
    try:
        url = media.serve(area, path)
    except UserInputError as error:
        return media.waiting(take.row, str(error))
    marks: tuple[tuple[Tone, str], ...] = tuple(
        ("good", f"✓ {what}") if right else ("error", f"✗ {what}")
        for what, right in zip(_JUDGED, take.right, strict=False)
    )
    return media.figure(media.Shown(url=url, title=take.row, marks=marks))
