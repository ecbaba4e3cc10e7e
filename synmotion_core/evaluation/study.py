"""A blind comparison by people: a page with pairs of videos of two rows, and what their answers say.

    study.html       pairs of the same prompt and noise, left and right at random, three questions each; one file that
                     can be sent to anybody, and gives a CSV in the end: pair, question, answer (left, right or same)
    study-key.json   which row was on which side; the page does not know it

    share of row A for a question = (answers for A + half of the answers "same") / answers          (15)

Files that come back are untrusted.
"""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from synmotion_core.errors import ConfigError, MissingError
from synmotion_core.evaluation.figures import Figure, share_figure
from synmotion_core.evaluation.report_page import video_file
from synmotion_core.evaluation.results import Results, read_results
from synmotion_core.storage import replacing

PAGE, KEY = "study.html", "study-key.json"
QUESTIONS = {
    "motion": "Which one shows the motion better?",
    "subject": "Which one shows the subject better that was asked for?",
    "quality": "Which one looks better: smooth, nothing broken?",
}
ANSWERS = ("left", "same", "right")
MOST_PAIRS = 200
_MOST_ROWS = 100_000  # of a CSV: a thousand people with the most pairs would not have as many


def make_study(folder: Path, rows: Sequence[str], *, pairs: int = 20, seed: int = 0) -> Path:
    """The page of a folder of results, beside them; returns its path. Raises ConfigError or MissingError."""
    results = read_results(folder)
    if len(rows) != 2 or rows[0] == rows[1]:
        raise ConfigError(f"a study is about two rows, got {', '.join(rows) or 'none'}")
    if not 1 <= pairs <= MOST_PAIRS:
        raise ConfigError(f"pairs must be between 1 and {MOST_PAIRS}, got {pairs}")
    rng = np.random.default_rng(seed)
    common = _pairs(results, rows, folder)
    if not common:
        raise MissingError(f"there is no video of {' and '.join(rows)} in {folder}")
    if pairs > len(common):
        raise ConfigError(f"pairs must be at most {len(common)}, as many videos as both rows have, got {pairs}")
    chosen = [common[i] for i in rng.permutation(len(common))[:pairs]]
    shown, key = [], []
    for motion, prompt, *videos in chosen:
        first = int(rng.integers(2))
        shown.append({"prompt": prompt, "left": _data(videos[first]), "right": _data(videos[1 - first])})
        key.append({"prompt": prompt, "motion": motion, "left": rows[first], "right": rows[1 - first]})
    with replacing(folder / KEY) as partial:
        partial.write_text(json.dumps({"rows": list(rows), "pairs": key}, indent=1), encoding="utf-8")
    with replacing(folder / PAGE) as partial:
        partial.write_text(_page(shown), encoding="utf-8")
    return folder / PAGE


def _pairs(results: Results, rows: Sequence[str], folder: Path) -> list[tuple[str, str, Path, Path]]:
    """(motion, prompt, video of the first row, of the second), of the rare motions; of those videos that were kept."""
    one, other = (results.row(name).outcomes for name in rows)
    found = []
    for unit, a, b in zip(results.suite.units(rows[0]), one, other, strict=True):
        for index in range(a.num_videos):
            if not (a.videos[index] and b.videos[index]):  # `bench merge --set videos=N`
                continue
            one_video, other_video = _video(folder, a.videos[index]), _video(folder, b.videos[index])
            found.append((unit.motion, a.prompts[index], one_video, other_video))
    return found


def _video(folder: Path, name: str) -> Path:
    path = video_file(folder, name)
    if path is None:
        raise MissingError(f"the video {folder / name} of the results is not there")
    return path


def _data(path: Path) -> str:
    return f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}"


def answers(folder: Path, files: Sequence[Path]) -> Iterator[Figure]:
    """`study.<question>.<row>`: (15) of the first row; intervals redraw motions, then pairs within them.

    Pairs, not answers, since many people see the same ones. A key of before motions were kept in it has pairs alone:
    these are redrawn. Intervals say nothing about other people than those who answered.
    files: a CSV a person. Raises MissingError without a key, ConfigError for a file that is not of this study.
    """
    key = _key(folder)
    found: dict[tuple[str, int], list[float]] = {}
    for file in files:
        for pair, question, answer in _read(file, len(key["pairs"])):
            side = key["pairs"][pair]
            value = 0.5 if answer == "same" else float(side[answer] == key["rows"][0])
            found.setdefault((question, pair), []).append(value)
    for question in QUESTIONS:
        groups = {pair: values for (own, pair), values in sorted(found.items()) if own == question}
        if groups:
            motions = [key["pairs"][pair].get("motion", "") for pair in groups]
            of = motions if all(motions) else None
            yield share_figure(f"study.{question}.{key['rows'][0]}", [*groups.values()], seeds=(), seconds=0.0, of=of)


def _key(folder: Path) -> dict[str, Any]:
    path = folder / KEY
    if not path.is_file():
        raise MissingError(f"there is no study in {folder}: `bench study {folder} ROW ROW` makes one")
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
        rows, pairs = key["rows"], key["pairs"]
        if len(rows) != 2 or any({pair["left"], pair["right"]} != set(rows) for pair in pairs):
            raise ValueError("its rows do not fit its pairs")
        if not all(isinstance(pair.get("motion", ""), str) for pair in pairs):
            raise ValueError("its motions are no words")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    return key


def _read(file: Path, pairs: int) -> list[tuple[int, str, str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = [row for row, _ in zip(csv.DictReader(lines), range(_MOST_ROWS), strict=False)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{file} cannot be read as CSV: {error}") from error
    if not rows or set(rows[0]) != {"pair", "question", "answer"}:
        raise ConfigError(f"{file} must have the columns pair, question and answer, and at least one line")
    found: dict[tuple[int, str], str] = {}
    for line, row in enumerate(rows, start=2):
        pair, question, answer = row["pair"], row["question"], row["answer"]
        known = str(pair).isascii() and str(pair).isdigit() and int(pair) < pairs
        if not known or question not in QUESTIONS or answer not in ANSWERS:
            raise ConfigError(f"{file}, line {line}, is not of this study: {pair}, {question}, {answer}"[:200])
        if (int(pair), question) in found:
            raise ConfigError(f"{file}, line {line}: pair {pair} is answered twice for {question}")
        found[int(pair), question] = answer
    return [(pair, question, answer) for (pair, question), answer in found.items()]


# ------------------------------------------------------------------------------------------------ the page

_STYLE = """
:root { --ink: #1b1c1b; --soft: #57554f; --line: #c9c6bd; --card: #fff; --back: #faf9f7; --accent: #0d7d72;
  --on: #fff; }
@media (prefers-color-scheme: dark) { :root { --ink: #f3f2ee; --soft: #a9a69e; --line: #55554e; --card: #1b1c1b;
  --back: #121312; --accent: #62d6c4; --on: #08211d; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); margin: 0 auto;
  max-width: 760px; padding: 20px; }
h1 { font-size: 1.3rem; margin: 0 0 4px; } p { color: var(--soft); margin: 4px 0 12px; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 12px; } .pair figure { margin: 0; }
video { width: 100%; aspect-ratio: 1; image-rendering: pixelated; border-radius: 8px; background: var(--line); }
fieldset { border: 1px solid var(--line); border-radius: 8px; background: var(--card); margin: 10px 0;
  padding: 8px 12px; }
legend { font-weight: 600; padding: 0 4px; } 
label { display: inline-flex; gap: 6px; margin-right: 18px; align-items: center; }
button, .button { font: inherit; padding: 9px 18px; border: 0; border-radius: 8px; background: var(--accent);
  color: var(--on); text-decoration: none; display: inline-block; }
button:disabled { opacity: .45; } #done { display: none; }
"""
_SCRIPT = """
const pairs = JSON.parse(document.getElementById('pairs').textContent);
const form = document.querySelector('form'), next = document.querySelector('button');
const left = document.getElementById('left'), right = document.getElementById('right'), given = [];
let at = 0;
function show() {
  document.getElementById('count').textContent = `Pair ${at + 1} of ${pairs.length}`;
  document.getElementById('prompt').textContent = pairs[at].prompt;
  left.src = pairs[at].left; right.src = pairs[at].right;
  form.reset(); next.disabled = true;
}
setInterval(() => {
  if (Math.abs(left.currentTime - right.currentTime) > 0.09) right.currentTime = left.currentTime;
}, 200);
form.addEventListener('change', () => { next.disabled = !form.checkValidity(); });
form.addEventListener('submit', event => {
  event.preventDefault();
  for (const [question, answer] of new FormData(form)) given.push([at, question, answer].join(','));
  at += 1;
  if (at < pairs.length) { show(); return; }
  document.getElementById('ask').remove();
  document.getElementById('done').style.display = 'block';
  const file = new Blob(['pair,question,answer\\n' + given.join('\\n') + '\\n'], {type: 'text/csv'});
  const link = document.querySelector('#done a');
  link.href = URL.createObjectURL(file);
});
show();
"""


def _page(shown: Sequence[dict[str, str]]) -> str:
    pairs = json.dumps(shown).replace("<", "\\u003c")  # nothing in it may end the script element
    asked = "".join(
        f"<fieldset><legend>{escape(words)}</legend>"
        + "".join(
            f'<label><input type="radio" name="{name}" value="{answer}" required>{answer}</label>' for answer in ANSWERS
        )
        + "</fieldset>"
        for name, words in QUESTIONS.items()
    )
    videos = "".join(
        f'<figure><video id="{side}" muted playsinline loop autoplay aria-label="the video on the {side}"></video>'
        f"<figcaption>{side}</figcaption></figure>"
        for side in ("left", "right")
    )
    body = (
        '<div id="ask"><h1>Which of the two?</h1><p id="count"></p><p>Both were asked for: <b id="prompt"></b></p>'
        f'<div class="pair">{videos}</div><form>{asked}<button disabled>Next</button></form></div>'
        '<div id="done"><h1>Thank you</h1><p>Please save your answers and send the file to whoever asked you.</p>'
        '<a class="button" download="answers.csv">Save the answers</a></div>'
    )
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Which of the two?</title>'
    data = f'<script type="application/json" id="pairs">{pairs}</script><script>{_SCRIPT}</script>'
    return f'<!doctype html><html lang="en"><head>{head}<style>{_STYLE}</style></head><body>{body}{data}</body></html>'
