"""The jobs of whoever looks: what runs, what waits and for what, what ended lately; stopped, moved, deleted from here.

Rows are of a fixed height, and their number only grows when a job is added, so that nothing below moves by itself. The
list is drawn anew when what it says has changed: progress is said in steps of STRIDE percent.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.config import TrainRun
from synmotion_core.errors import ConfigError
from synmotion_core.ui import media, progress
from synmotion_core.ui.notices import Updates, hint

if TYPE_CHECKING:
    from synmotion_core.jobs import Jobs, JobView

NONE = hint("Trainings and videos that wait, run or ended lately are listed here.")
ROWS = 6  # with those that ended; more where more wait
STRIDE = 5
_RESUMABLE = frozenset({"stopped", "failed", "interrupted"})
_WORDS = {
    "show": "Show",
    "first": "To the front",
    "up": "Up",
    "down": "Down",
    "stop": "Stop",
    "resume": "Resume",
    "delete": "Delete",
    "really": "Delete for good",
    "keep": "Keep",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """The widgets. seen: what the list says now; doomed: the job that somebody is asked about before it is deleted."""

    box: gr.Accordion
    rows: gr.HTML
    seen: gr.State
    doomed: gr.State

    @property
    def parts(self) -> list[Any]:
        """All widgets."""
        return [self.box, self.rows, self.seen, self.doomed]

    def look(self, jobs: Jobs, before: str, doomed: str = "", *, unfold: bool = False) -> Updates:
        """The list, where it is not what it was; unfold opens it where several jobs wait or run."""
        views = jobs.list(newest=ROWS)
        now = rows_html(views, jobs.waiting(), doomed)
        updates: Updates = {} if now == before else {self.rows: now, self.seen: now}
        if unfold and sum(view.status in progress.LIVE for view in views) > 1:
            updates[self.box] = gr.Accordion(open=True)
        return updates


def build() -> Queue:
    """Lay it out, folded."""
    with gr.Accordion("Jobs", open=False, elem_id="train-jobs-box") as box:
        rows = media.html_area(elem_id="train-jobs", value=NONE)
    return Queue(box=box, rows=rows, seen=gr.State(""), doomed=gr.State(""))


def press(jobs: Jobs, source: Any) -> tuple[str, str]:
    """Do what a pressed button stands for; returns the word and the job. Raises ConfigError for what is no button's,
    UserInputError for what the job's status does not allow."""
    word, _, job_id = str(source).partition(" ")
    if word not in _WORDS:
        raise ConfigError(f"a row's buttons are {', '.join(_WORDS)}, got {word[:40]!r}")
    jobs.snapshot(job_id)
    places = jobs.waiting()
    if word in ("first", "up", "down"):
        at = places.index(job_id) if job_id in places else 0
        jobs.move(job_id, {"first": 0, "up": max(0, at - 1), "down": min(len(places) - 1, at + 1)}[word])
    elif word == "stop":
        jobs.stop(job_id)
    elif word == "resume":
        jobs.resume(job_id)
    elif word == "really":
        jobs.delete(job_id)
    return word, job_id


def place_in_words(jobs: Jobs, job_id: str) -> str:
    """Where a waiting job stands; "" when it waits no more."""
    places = jobs.waiting()
    if job_id not in places:
        return ""
    at = places.index(job_id)
    if not at:
        return "It waits, and is the next one."
    return f"It waits behind {at} other{'s' * (at > 1)}: “Jobs” can move it to the front."


def rows_html(views: tuple[JobView, ...], waiting: tuple[str, ...], doomed: str = "") -> str:
    """What runs, what waits in its order, what ended, the newest first; `views` are the newest first."""
    order = {job_id: place for place, job_id in enumerate(waiting)}
    live = [view for view in views if view.status in progress.LIVE]
    live.sort(key=lambda view: (view.status == "queued", order.get(view.id, len(order))))
    over = [view for view in views if view.status not in progress.LIVE][: max(0, ROWS - len(live))]
    rows = [_row(view, order.get(view.id), len(order), view.id == doomed) for view in [*live, *over]]
    return f'<ul class="sm-jobs">{"".join(rows)}</ul>' if rows else NONE


def _row(view: JobView, place: int | None, waiting: int, doomed: bool) -> str:
    word, tone = progress.STATUS[view.status]
    kind = "Training" if view.kind == "train" else "Videos"
    name, about = title(view), escape(_about(view, place))
    buttons = "".join(
        f'<button type="button" class="sm-act" data-pick="{button} {view.id}" '
        f'aria-label="{escape(f"{_WORDS[button]}: {name}")}">{_WORDS[button]}</button>'
        for button in _buttons(view, place, waiting, doomed)
    )
    return (
        f'<li data-job="{view.id}" data-status="{view.status}"><div class="sm-row"><b title="{escape(name)}">'
        f'{escape(name)}</b><span class="sm-chip sm-{tone}">{word}</span></div>'
        f'<div class="sm-meta" title="{about}">{kind} · {about}</div><div class="sm-acts">{buttons}</div></li>'
    )


def title(view: JobView) -> str:
    """What people call a job."""
    if isinstance(view.config, TrainRun):
        return view.config.name
    return f"{', '.join(view.config.subjects)}: {view.config.motion}"


def _about(view: JobView, place: int | None) -> str:
    facts = [time.strftime("%d %b %H:%M", time.localtime(view.created))]
    if view.status in ("running", "stopping") and view.stage:
        facts.append(f"{int(progress.share(view) * 100) // STRIDE * STRIDE} %")
    if place is not None:
        facts.append("next" if place == 0 else f"number {place + 1} in the queue")
    if view.message:
        facts.append(view.message)
    return " · ".join(facts)


def _buttons(view: JobView, place: int | None, waiting: int, doomed: bool) -> list[str]:
    if doomed:
        return ["really", "keep"]
    if view.status in progress.LIVE:
        moves = [] if not place else ["first", "up"] if place > 1 else ["first"]
        down = ["down"] if place is not None and place < waiting - 1 else []
        return ["show", *moves, *down, *(["stop"] if view.status != "stopping" else [])]
    again = ["resume"] if view.kind == "train" and view.status in _RESUMABLE else []
    return ["show", *again, "delete"]
