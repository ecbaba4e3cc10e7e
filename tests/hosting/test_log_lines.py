"""Lines of a Job's log: events of a training are events, all else is harmless text."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from synmotion_core.events import event_to_dict
from synmotion_core.hosting.log_lines import MAX_NOTE, event_of
from synmotion_core.progress_line import ProgressLine, duration
from synmotion_core.types import Event, Finished, Noted, Progress, Prompt, Sampled, Saved, Scored, Started

EVENTS = [
    Started(what="train", total=3),
    Progress(stage="train", step=1, total=3, loss=0.5, seconds=0.1),
    Progress(stage="train", step=2, total=3, loss=float("nan")),
    Sampled(path=Path("out/a.mp4"), prompt=Prompt(subject="a red cat", motion="waves"), seed=2**62),
    Saved(path=Path("out/a.safetensors"), step=3, kind="adapter", applied=12),
    Scored(step=3, by="judge", score=0.5, best=True, values={"motion": 0.5}),
    Finished(path=Path("out/a.safetensors"), seconds=3.0),
]


def line(kind: str, **data: Any) -> str:
    return json.dumps({"version": 1, "kind": kind, "data": data})


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_what_a_training_prints_is_what_arrives(event: Event) -> None:
    assert repr(event_of(json.dumps(event_to_dict(event)))) == repr(event)


@pytest.mark.parametrize(
    "text",
    [
        line("progress", stage="train", step=10**4000, total=3),
        line("progress", stage="train", step=1, total=10**300),
        line("progress", stage="train", step=-1, total=3),
        line("progress", stage="train", step=1, total=3, seconds="inf"),
        line("progress", stage="train", step="1", total=3),
        line("finished", seconds="inf"),
        line("scored", step=1, by="x", score=1e300, best=True),
        line("exec", code="1"),
        '{"version": 1, "kind": "noted", "data": ' + "[" * 5000,
        '{"version": NaN}',
        "{" + "x" * 30_000,
        "Collecting torch",
        "\x1b[2J\x1b]0;owned\x07 gone",
        "\u202eright to left",
    ],
)
def test_anything_else_is_a_note_that_moves_no_cursor(text: str) -> None:
    event = event_of(text)
    assert isinstance(event, Noted)
    assert event.message.isprintable()
    assert 0 < len(event.message) <= MAX_NOTE + 1


def test_words_of_events_are_made_printable_too() -> None:
    event = event_of(
        line("sampled", path="\x1b[2Ja.mp4", prompt={"subject": "a \x1b[31mcat", "motion": "waves"}, seed=0)
    )
    assert isinstance(event, (Sampled, Noted))
    assert "\x1b" not in repr(event).replace("\\x1b", "\x1b")
    shown = event_of(line("progress", stage="train\x1b[2J\n", step=1, total=10**9, loss="nan", note="\r\x07"))
    assert isinstance(shown, Progress)
    stream = io.StringIO()
    drawn = ProgressLine(stream)
    drawn.show(shown)
    assert not set("\x1b\r\x07") & set(stream.getvalue())
    assert duration(10**9)


def test_nothing_is_nothing() -> None:
    assert event_of("  ") is None
