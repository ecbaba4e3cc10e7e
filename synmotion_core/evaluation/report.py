"""A folder of results as pages: report.md for a README; report.html with plots and videos, one file, no network.

Numbers are those of results.json, as `results.figures` makes them; prompts and names are escaped.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from synmotion_core.evaluation.figures import Figure
from synmotion_core.evaluation.results import RATES, Results, RowResult, figures, read_results
from synmotion_core.storage import replacing

VIDEOS = 4  # of each row and motion in report.html; all are in the folder
_SAYS = {
    "motion": "rare motion",
    "species": "species",
    "colour": "colour",
    "as_person": "judged as the person",
    "error": "error of joints",
    "amplitude": "amplitude",
    "common": "known motions",
    "first_frame_db": "first frame, dB",
    "seconds": "training, s",
}
_LESS_IS_BETTER = ("as_person", "error")
_ABOUT = {
    "motion": "the judge names the rare motion",
    "species": "the judge names the species asked for",
    "colour": "and its colour",
    "as_person": "the judge sees the person of the clips instead: leakage",
    "error": "distance of the joints from the nearest true performance, in body heights: 0.02 to 0.05 for true ones",
    "amplitude": "how much it moves, 1 as true ones",
    "common": "the judge names a motion that the base knows, with the adapter at work: what is lacking is forgotten",
    "first_frame_db": "how well the first frame keeps the picture, PSNR",
    "seconds": "of one training, as busy as the machine was",
}


@dataclass(frozen=True, slots=True)
class _Table:
    """Figures by row and by what they are of."""

    rows: Mapping[str, Mapping[str, Figure]]
    columns: tuple[str, ...]


def write_report(folder: Path) -> None:
    """report.md and report.html of the results in a folder. Raises as `read_results`."""
    results = read_results(folder)
    for name, text in (("report.md", markdown(results)), ("report.html", html(results, folder))):
        with replacing(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")


def verdict(name: str, figure: Figure) -> str:
    """What a difference says: an interval with 0 in it is within the noise.

    >>> verdict("error", Figure(name="x", value=-1, low=-2, high=-0.5, n=9, seeds=(0,), seconds=0))
    'better'
    """
    if figure.low <= 0 <= figure.high:
        return "within noise"
    return "better" if (figure.value < 0) == (name in _LESS_IS_BETTER) else "worse"


def _table(results: Results) -> _Table:
    suite = results.suite
    against = next((row for row in results.rows if row.name == suite.against), None)
    rows = {}
    for row in results.rows:
        head = f"methods.{row.name}."
        rows[row.name] = {f.name.removeprefix(head): f for f in figures(suite, row, against)}
    known = [name for name in _SAYS if all(name in found for found in rows.values())]
    return _Table(rows, tuple(known))


def cell(name: str, figure: Figure) -> str:
    """A number with its interval, in the unit of its column.

    >>> cell("motion", Figure(name="x", value=0.5, low=0.25, high=0.755, n=4, seeds=(0,), seconds=1))
    '50 % [25, 75.5]'
    """
    if name.partition(".")[0].partition("-")[0] in (*RATES, "common"):
        return f"{100 * figure.value:.3g} % [{100 * figure.low:.3g}, {100 * figure.high:.3g}]"
    return f"{figure.value:.3g} [{figure.low:.3g}, {figure.high:.3g}]"


def _sentences(results: Results) -> list[str]:
    suite, missing = results.suite, [name for name in results.suite.rows if name not in {r.name for r in results.rows}]
    units = results.rows[0].outcomes if results.rows else ()
    counts = sorted({suite.units(name)[0].num_clips for name in suite.rows})
    clips = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}, by row,"
    mode = suite.mode if suite.drawn_mode is None else f"{suite.mode}, drawn in {suite.drawn_mode}"
    said = [
        f"{suite.about or 'A suite'}: {suite.backbone}, {mode}. Trainings a row: {len(units)} (motions: "
        f"{len(suite.motions)}, seeds: {', '.join(map(str, suite.seeds))}), {clips} clips of a person "
        f"each, {suite.num_videos} videos of species that were never in them. Intervals are 95 %, over "
        + ("trainings." if len(units) > 1 else "the videos of one training: another one may differ by more."),
    ]
    if suite.against is not None:
        said.append(f"Differences are to {suite.against}, video by video: the same clips, prompts and noise.")
    if missing:
        said.append(f"Not done yet: {', '.join(missing)}.")
    return said


def _rows(results: Results) -> list[str]:
    """What each row is: its method, and the settings that are not the method's or the suite's own."""
    said = []
    for row in results.rows:
        own = results.suite.rows[row.name]
        parts = {**own.config, **{f"train.{k}": v for k, v in own.train.items()}}
        parts |= {f"sampling.{k}": v for k, v in own.sampling.items()}
        parts |= {} if own.num_clips is None else {"num_clips": own.num_clips}
        words = "".join(f", {key}={json.dumps(value)}" for key, value in parts.items())
        said.append(f"{row.name}: {own.method or row.name}{words}")
    shared = {**{f"train.{k}": v for k, v in results.suite.train.items()}}
    shared |= {f"sampling.{k}": v for k, v in results.suite.sampling.items()}
    words = ", ".join(f"{key}={json.dumps(value)}" for key, value in shared.items())
    return said + ([f"all rows: {words}"] if words else [])


def markdown(results: Results) -> str:
    """The tables."""
    table, suite = _table(results), results.suite
    lines = [f"# {suite.about or 'Results'}", "", *_sentences(results), ""]
    if results.command:
        lines += [f"`{results.command}`", ""]
    lines += ["; ".join(f"{name} {own}" for name, own in results.versions.items()), ""]
    lines += _lines(["", *(_SAYS[c] for c in table.columns)], [
        [name, *(cell(c, found[c]) for c in table.columns)] for name, found in table.rows.items()
    ])  # fmt: skip
    lines += ["", *(f"- {_SAYS[c]}: {_ABOUT[c]}" for c in table.columns), ""]
    lines += ["## Rows", "", *(f"- {row}" for row in _rows(results)), ""]
    compared = [name for name in table.rows if suite.against is not None and name != suite.against]
    if compared:
        keys = [k for k in _SAYS if all(f"{k}-{suite.against}" in table.rows[n] for n in compared)]
        lines += [f"## Against {suite.against}", ""]
        lines += _lines(["", *(_SAYS[k] for k in keys)], [
            [name, *(_difference(k, table.rows[name][f"{k}-{suite.against}"]) for k in keys)] for name in compared
        ])  # fmt: skip
        lines.append("")
    lines += ["## By motion", ""]
    lines += _lines(["", *suite.motions], [
        [name, *(cell("motion", found[f"motion.{m}"]) for m in suite.motions)] for name, found in table.rows.items()
    ])  # fmt: skip
    return "\n".join([*lines, ""])


def _difference(name: str, figure: Figure) -> str:
    return f"{cell(name, figure)} {verdict(name, figure)}"


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


# ------------------------------------------------------------------------------------------------ the page

_STYLE = """
:root { --ink: #1b1c1b; --soft: #57554f; --line: #e6e4de; --card: #fff; --back: #faf9f7; --accent: #0d7d72; }
@media (prefers-color-scheme: dark) { :root { --ink: #f3f2ee; --soft: #a9a69e; --line: #34342f; --card: #1b1c1b;
  --back: #121312; --accent: #62d6c4; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 0 auto;
  max-width: 1200px; padding: 20px; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } p, li { color: var(--soft); max-width: 80ch; }
.wide { overflow-x: auto; } table { border-collapse: collapse; background: var(--card); font-size: .88rem; }
th, td { border: 1px solid var(--line); padding: 5px 9px; text-align: left; white-space: nowrap; }
td small { color: var(--soft); } code { overflow-wrap: anywhere; }
.plots { display: flex; flex-wrap: wrap; gap: 16px; } .plots figure { margin: 0; background: var(--card); padding: 10px;
  border: 1px solid var(--line); border-radius: 8px; } figcaption { font-size: .82rem; color: var(--soft); }
svg text { fill: var(--ink); font: 11px system-ui, sans-serif; } svg .rule { stroke: var(--line); }
svg .span { stroke: var(--accent); stroke-width: 2; } svg circle { fill: var(--accent); }
.row { display: flex; gap: 8px; overflow-x: auto; margin: 4px 0 10px; }
.row figure { margin: 0; width: 128px; flex: none; }
video { width: 128px; height: 128px; image-rendering: pixelated; background: var(--line); border-radius: 6px; }
.hit { color: var(--accent); } details { margin: 6px 0; } summary { cursor: pointer; font-weight: 600; }
"""


def html(results: Results, folder: Path) -> str:
    """The page; videos come from the folder and are put into it."""
    table, suite = _table(results), results.suite
    title = escape(suite.about or "Results")
    body = [f"<h1>{title}</h1>", *(f"<p>{escape(said)}</p>" for said in _sentences(results))]
    if results.command:
        body.append(f"<p><code>{escape(results.command)}</code></p>")
    body.append(f"<p>{escape('; '.join(f'{name} {own}' for name, own in results.versions.items()))}</p>")
    body.append(_html_table(["", *(_SAYS[c] for c in table.columns)], [
        [name, *(cell(c, found[c]) for c in table.columns)] for name, found in table.rows.items()
    ]))  # fmt: skip
    body.append(f"<h2>Rows</h2><ul>{''.join(f'<li>{escape(row)}</li>' for row in _rows(results))}</ul>")
    plotted = [c for c in ("motion", "species", "as_person", "error", "amplitude") if c in table.columns]
    body.append(f'<div class="plots">{"".join(_plot(c, table) for c in plotted)}</div>')
    compared = [name for name in table.rows if suite.against is not None and name != suite.against]
    if compared:
        keys = [k for k in _SAYS if all(f"{k}-{suite.against}" in table.rows[n] for n in compared)]
        body.append(f"<h2>Against {escape(str(suite.against))}</h2>")
        body.append(_html_table(["", *(_SAYS[k] for k in keys)], [
            [name, *(_difference(k, table.rows[name][f"{k}-{suite.against}"]) for k in keys)] for name in compared
        ]))  # fmt: skip
    body.append("<h2>By motion</h2>")
    body.append(_html_table(["", *suite.motions], [
        [name, *(cell("motion", found[f"motion.{m}"]) for m in suite.motions)] for name, found in table.rows.items()
    ]))  # fmt: skip
    body.append("<h2>Videos</h2><p>The first of each row and motion, on the first seed. ✓ where the judge names the "
                "motion and the species asked for.</p>")  # fmt: skip
    for motion in suite.motions:
        rows = "".join(_videos(results, row, motion, folder) for row in results.rows)
        opened = " open" if motion == suite.motions[0] else ""
        body.append(f"<details{opened}><summary>{escape(motion)}</summary>{rows}</details>")
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    head += f"<style>{_STYLE}</style>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>'


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def tag(name: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{name}>{escape(c)}</{name}>" for c in cells) + "</tr>"

    return f'<div class="wide"><table>{tag("th", head)}{"".join(tag("td", row) for row in rows)}</table></div>'


def _plot(column: str, table: _Table) -> str:
    """A row each: the value, and its interval as a line."""
    found = {name: own[column] for name, own in table.rows.items()}
    top = 1.0 if column in RATES else max(max(f.high for f in found.values()), 1e-6) * 1.05
    left, wide, step = 8 + 7 * max(len(name) for name in found), 260, 20
    tall = step * len(found) + 24

    def x(value: float) -> float:
        return left + wide * min(max(value / top, 0), 1)

    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        at, says = x(share * top), f"{100 * share:.0f}" if column in RATES else f"{share * top:.2g}"
        parts.append(f'<line class="rule" x1="{at:.1f}" x2="{at:.1f}" y1="4" y2="{tall - 20}"/>')
        parts.append(f'<text x="{at:.1f}" y="{tall - 6}" text-anchor="middle">{says}</text>')
    for index, (name, figure) in enumerate(found.items()):
        y = 14 + step * index
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<line class="span" x1="{x(figure.low):.1f}" x2="{x(figure.high):.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle cx="{x(figure.value):.1f}" cy="{y}" r="4"/>')
    unit = ", %" if column in RATES else ""
    size = f'width="{left + wide + 16}" height="{tall}" viewBox="0 0 {left + wide + 16} {tall}"'
    image = f'<svg {size} role="img" aria-label="{escape(_SAYS[column])}">{"".join(parts)}</svg>'
    return f"<figure>{image}<figcaption>{escape(_SAYS[column])}{unit}: {escape(_ABOUT[column])}</figcaption></figure>"


def _videos(results: Results, row: RowResult, motion: str, folder: Path) -> str:
    units = results.suite.units(row.name)
    outcome = next(o for unit, o in zip(units, row.outcomes, strict=True) if unit.motion == motion)
    shown = []
    for index, name in enumerate(outcome.videos[: min(VIDEOS, len(outcome.motion))]):
        path = folder / name
        # a results.json from elsewhere may name any file
        if not path.resolve().is_relative_to(folder.resolve()) or path.suffix != ".mp4" or not path.is_file():
            continue
        data = base64.b64encode(path.read_bytes()).decode()
        mark = "✓ " if outcome.motion[index] and outcome.species[index] else ""
        words = escape(outcome.prompts[index]) if index < len(outcome.prompts) else ""
        shown.append(
            f'<figure><video muted playsinline loop autoplay controls src="data:video/mp4;base64,{data}"></video>'
            f'<figcaption><span class="hit">{mark}</span>{words}</figcaption></figure>'
        )
    return f'<p><b>{escape(row.name)}</b></p><div class="row">{"".join(shown)}</div>'
