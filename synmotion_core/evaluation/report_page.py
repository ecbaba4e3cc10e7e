"""report.html: sections, plots and videos as one file that needs no network. Prompts and names are escaped.

The studio's page is made of the same parts: `section_html`, `table_html`, `plots_html`, `video_file`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from synmotion_core.evaluation import plots
from synmotion_core.evaluation.figures import Figure
from synmotion_core.evaluation.metrics import COLUMNS, Column
from synmotion_core.evaluation.results import ACCURACIES, Results, RowResult, accuracies

VIDEOS = 4  # of each row and motion; all are in the folder
_PLOTTED = (
    "motion", "species", "harmonic", "as_person", "error", "amplitude", "common", "fidelity",
    "clip_text", "subject_consistency", "leak", "fvd", "vqa_motion", "vqa_subject",
)  # fmt: skip
_VERDICTS = {"better": "good", "worse": "bad", "within noise": "even", "more": "even", "less": "even"}
_SETTINGS = {"steps": "steps of training", "num_clips": "reference clips"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A title, sentences, how it was made, a table, and notes to it."""

    title: str
    said: Sequence[str] = ()
    made: Sequence[str] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default_factory=list)
    notes: Sequence[str] = ()


_STYLE = """
:root { --ink: #1b1c1b; --soft: #57554f; --line: #e6e4de; --card: #fff; --back: #faf9f7; --accent: #0d7d72;
  --two: #b4541f; --three: #4b5bb0; --four: #8a3d79; --five: #6b7a1e; --six: #57554f; }
@media (prefers-color-scheme: dark) { :root { --ink: #f3f2ee; --soft: #a9a69e; --line: #34342f; --card: #1b1c1b;
  --back: #121312; --accent: #62d6c4; --two: #f0a070; --three: #9aa8f5; --four: #dd95cd; --five: #c0d060;
  --six: #a9a69e; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 0 auto;
  max-width: 1200px; padding: 20px; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } p, li { color: var(--soft); max-width: 80ch; }
.wide { overflow-x: auto; } table { border-collapse: collapse; background: var(--card); font-size: .88rem; }
th, td { border: 1px solid var(--line); padding: 5px 9px; text-align: left; white-space: nowrap; }
td .good { color: var(--accent); } td .bad { color: var(--two); } td .even { color: var(--soft); }
code { overflow-wrap: anywhere; }
.plots { display: flex; flex-wrap: wrap; gap: 16px; } .plots figure { margin: 0; background: var(--card); padding: 10px;
  border: 1px solid var(--line); border-radius: 8px; max-width: 100%; overflow-x: auto; }
figcaption { font-size: .82rem; color: var(--soft); max-width: 380px; }
svg text { fill: var(--ink); font: 11px system-ui, sans-serif; } svg .rule { stroke: var(--line); }
svg .span { stroke: var(--accent); stroke-width: 2; } svg circle { fill: var(--accent); }
svg .faint { stroke-opacity: .35; stroke-width: 1.5; }
svg .line { fill: none; stroke-width: 1.5; stroke: var(--accent); }
svg text.name-0 { fill: var(--accent); } svg text.name-1 { fill: var(--two); } svg text.name-2 { fill: var(--three); }
svg text.name-3 { fill: var(--four); } svg text.name-4 { fill: var(--five); } svg text.name-5 { fill: var(--six); }
svg .series-1 { stroke: var(--two); } svg circle.series-1 { fill: var(--two); }
svg .series-2 { stroke: var(--three); } svg circle.series-2 { fill: var(--three); }
svg .series-3 { stroke: var(--four); } svg circle.series-3 { fill: var(--four); }
svg .series-4 { stroke: var(--five); } svg circle.series-4 { fill: var(--five); }
svg .series-5 { stroke: var(--six); } svg circle.series-5 { fill: var(--six); }
.row { display: flex; gap: 8px; overflow-x: auto; margin: 4px 0 10px; }
.row figure { margin: 0; width: 128px; flex: none; }
video { width: 128px; height: 128px; image-rendering: pixelated; background: var(--line); border-radius: 6px; }
.hit { color: var(--accent); } details { margin: 6px 0; } summary { cursor: pointer; font-weight: 600; }
"""


def page(
    results: Results,
    folder: Path,
    said: Sequence[Section],
    found: Mapping[str, Mapping[str, Figure]],
    columns: Sequence[Column],
    curves: Mapping[str, Sequence[Sequence[tuple[str, float]]]],
) -> str:
    """The page. found: each row's figures; videos come from the folder and are put into it; curves: settings that vary
    alone, their groups of (row, value)."""
    body = []
    for index, section in enumerate(said):
        body.append(section_html(section, "h1" if index == 0 else "h2"))
        if index == 0:
            body.append(plots_html(found, columns, curves))
    body.append("<h2>Videos</h2><p>The first of each row and motion, on the first seed. ✓ where motion and subject are "
                "those that were asked for.</p>")  # fmt: skip
    for motion in results.suite.motions:
        rows = "".join(_videos(results, row, motion, folder) for row in results.rows)
        opened = " open" if motion == results.suite.motions[0] else ""
        body.append(f"<details{opened}><summary>{escape(motion)}</summary>{rows}</details>")
    title = escape(said[0].title)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    head += f"<style>{_STYLE}</style>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>'


def section_html(section: Section, tag: str) -> str:
    """All of a section, its title as a `tag`."""
    parts = [f"<{tag}>{escape(section.title)}</{tag}>"]
    for sentence in (*section.said, *section.made):
        code = len(sentence) > 2 and sentence[0] == sentence[-1] == "`"
        parts.append(f"<p>{f'<code>{escape(sentence[1:-1])}</code>' if code else escape(sentence)}</p>")
    parts.append(table_html(section))
    if section.notes:
        parts.append(f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in section.notes)}</ul>")
    return "".join(parts)


def table_html(section: Section) -> str:
    """Its table alone, "" where it has none; what a difference says stands out by class, too."""
    if not section.head:
        return ""
    lines = ["".join(f"<th>{escape(words)}</th>" for words in section.head)]
    lines += ["".join(_cell(words) for words in row) for row in section.rows]
    return f'<div class="wide"><table>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'


def _cell(words: str) -> str:
    for said, kind in _VERDICTS.items():
        if words.endswith(f" {said}"):
            return f'<td>{escape(words.removesuffix(said))}<span class="{kind}">{said}</span></td>'
    return f"<td>{escape(words)}</td>"


def plots_html(
    found: Mapping[str, Mapping[str, Figure]],
    columns: Sequence[Column],
    curves: Mapping[str, Sequence[Sequence[tuple[str, float]]]],
) -> str:
    """Every plot of rows' figures, arguments as `page` takes them; "" where there are no rows."""
    if not found:
        return ""
    drawn = [*_bars(found, columns), *_scatter(found), *_curves(found, columns, curves)]
    return f'<div class="plots">{"".join(drawn)}</div>'


def video_file(folder: Path, name: str) -> Path | None:
    """A video of results, by the name that results.json has for it; None unless it is an .mp4 inside the folder.

    A results.json from elsewhere may name any file.
    """
    path = folder / name
    try:
        inside = path.resolve().is_relative_to(folder.resolve()) and path.suffix == ".mp4" and path.is_file()
    except (OSError, ValueError):  # a name that no system takes
        return None
    return path if inside else None


def _axis(column: Column) -> plots.Axis:
    return plots.Axis(title=column.title + (", %" if column.rate else ""), percent=column.rate)


def _figure(image: str, caption: str) -> str:
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def _bars(found: Mapping[str, Mapping[str, Figure]], columns: Sequence[Column]) -> list[str]:
    drawn = []
    for column in columns:
        if column.name in _PLOTTED:
            image = plots.bars({name: own[column.name] for name, own in found.items()}, _axis(column))
            drawn.append(_figure(image, f"{_axis(column).title}: {column.about}"))
    return drawn


def _scatter(found: Mapping[str, Mapping[str, Figure]]) -> list[str]:
    """Motion against subject, where a judge has seen both: up and to the right is where both are right."""
    pair = next((p for p in ACCURACIES if all(set(p) <= set(own) for own in found.values())), None)
    if len(found) < 2 or pair is None:
        return []
    motion, subject = (COLUMNS[name] for name in pair)
    points = [plots.Point(name=name, x=own[subject.name], y=own[motion.name]) for name, own in found.items()]
    caption = f"{motion.title} against {subject.title}: up and right is better"
    return [_figure(plots.scatter(points, _axis(subject), _axis(motion)), caption)]


def _curves(
    found: Mapping[str, Mapping[str, Figure]],
    columns: Sequence[Column],
    curves: Mapping[str, Sequence[Sequence[tuple[str, float]]]],
) -> list[str]:
    """A plot a setting with all rates of its rows; where several groups of rows vary in it, or no judge has looked, a
    plot a column."""
    drawn = []
    plotted = [column for column in columns if column.name in _PLOTTED and column.name != "harmonic"]
    rates = [column for column in plotted if column.rate]
    percent = plots.Axis(title="%", percent=True)

    def points(line: Sequence[tuple[str, float]], column: Column) -> list[plots.Point]:
        return [plots.Point(name=name, x=value, y=found[name][column.name]) for name, value in line]

    for key, lines in curves.items():
        title = _SETTINGS.get(key, key.removeprefix("config."))
        across = plots.Axis(title=title)
        if len(lines) == 1 and rates:
            series = {column.title: points(lines[0], column) for column in rates}
            drawn.append(_figure(plots.curves(series, across, percent), f"by {title}"))
            continue
        for column in rates or plotted:
            series = {line[-1][0]: points(line, column) for line in lines}
            drawn.append(_figure(plots.curves(series, across, _axis(column)), f"{column.title} by {title}"))
    return drawn


def _videos(results: Results, row: RowResult, motion: str, folder: Path) -> str:
    units = results.suite.units(row.name)
    outcome = next(o for unit, o in zip(units, row.outcomes, strict=True) if unit.motion == motion)
    pair = accuracies([outcome])
    shown = []
    for index, name in enumerate(outcome.videos[: min(VIDEOS, outcome.num_videos)]):
        path = video_file(folder, name)
        if path is None:
            continue
        data = base64.b64encode(path.read_bytes()).decode()
        mark = "✓ " if pair is not None and all(outcome.values[key][index] for key in pair) else ""
        words = escape(outcome.prompts[index]) if index < len(outcome.prompts) else ""
        shown.append(
            f'<figure><video muted playsinline loop autoplay controls src="data:video/mp4;base64,{data}"></video>'
            f'<figcaption><span class="hit">{mark}</span>{words}</figcaption></figure>'
        )
    return f'<p><b>{escape(row.name)}</b></p><div class="row">{"".join(shown)}</div>'
