"""A training on the page beside its numbers: samples in step with the reference clip, warnings, the result."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import gradio as gr

from synmotion_core.config import TrainRun
from synmotion_core.errors import UserInputError
from synmotion_core.ui import media
from synmotion_core.ui.notices import empty, hint, notice, notices
from synmotion_core.ui.progress import LIVE

if TYPE_CHECKING:
    from synmotion_core.jobs import JobView
    from synmotion_core.types import Sampled

NO_SAMPLES = empty(
    "Samples", "While training, new subjects try the motion here, beside your reference clip and in step with it."
)
MOST_ROUNDS = 12  # of samples that play at once


def samples_html(area: gr.HTML, view: JobView) -> str:
    """The reference clip and every sample so far, the newest step on top, all in step with each other."""
    assert isinstance(view.config, TrainRun)
    shown = [s for s in view.samples if s.adapted]
    if not shown:
        return NO_SAMPLES
    source = view.config.clips[0]
    try:
        reference = media.figure(
            media.Shown(
                url=media.serve(area, source.path), title="Reference", note=f"{source.subject} {source.motion}",
                start_s=source.start_s, end_s=source.end_s,
            )
        )  # fmt: skip
    except UserInputError as error:
        reference = media.waiting("Reference", str(error))
    reference += _as_seen(area, view)
    rounds = sorted({sample.step for sample in shown})[-MOST_ROUNDS:]
    steps: dict[int, list[str]] = {step: [] for step in rounds}
    for sample in shown:
        if sample.step in steps:
            steps[sample.step].append(_sample_figure(area, sample))
    rows = "".join(
        f'<div style="order:-{step}"><h4>Step {step}</h4><div class="sm-stage">{"".join(figures)}</div></div>'
        for step, figures in sorted(steps.items())
    )
    if any(sample.step < rounds[0] for sample in shown):
        rows += hint(f"Samples before step {rounds[0]} are in the job's folder.")
    return media.together(
        f'<div class="sm-compare"><div class="sm-stage">{reference}</div><div class="sm-steps">{rows}</div></div>',
        name="Samples beside the reference clip",
    )


def _as_seen(area: gr.HTML, view: JobView) -> str:
    """The reference, encoded and decoded again; nothing where it was not made or is gone from the cache."""
    if view.seen is None:
        return ""
    try:
        url = media.serve(area, view.seen)
    except UserInputError:
        return ""
    note = "The same clip, cut, scaled and encoded: what the training learns from."
    return media.figure(media.Shown(url=url, title="As the backbone sees it", note=note))


def _sample_figure(area: gr.HTML, sample: Sampled) -> str:
    try:
        url = media.serve(area, sample.path)
    except UserInputError as error:
        return media.waiting(sample.prompt.subject, str(error))
    return media.figure(
        media.Shown(url=url, title=sample.prompt.subject, note=sample.prompt.motion, download=sample.path.name)
    )


def outcome_html(area: gr.HTML, view: JobView) -> str:
    """Warnings and notes on the way, and where the result is."""
    out = notices("warning", view.warnings) + notices("info", view.notes)
    if view.status == "finished" and view.result is not None:
        try:
            url, file = escape(media.serve(area, view.result)), escape(view.result.name)
        except UserInputError as error:
            return out + notice("warning", str(error))
        link = f'<a href="{url}" download="{file}">Download</a>'
        out += f'<div class="sm-notice sm-good" role="status">The adapter is ready: <b>{file}</b>. {link}</div>'
    out += _best(area, view)
    if view.status in ("stopped", "interrupted", "failed"):
        at = (
            f"from step {view.checkpoint_step}"
            if view.checkpoint_step is not None
            else "from the beginning: nothing was saved yet"
        )
        out += notice("info", f"Resume goes on {at}.")
    return out


def _best(area: gr.HTML, view: JobView) -> str:
    """Where the adapter with the best score is: also of a training that was stopped."""
    scored = [one for one in view.scores if one.best]
    if view.best is None or not scored or view.status in LIVE:
        return ""
    so_far = "" if view.status == "finished" else "so far "
    try:
        url, file = escape(media.serve(area, view.best)), escape(view.best.name)
    except UserInputError as error:
        return notice("warning", str(error))
    at = f"step {scored[-1].step} with a score of {scored[-1].score:.3f}"
    link = f'<a href="{url}" download="{file}">Download</a>'
    return f'<div class="sm-notice sm-good" role="status">The best {so_far}is {at}: <b>{file}</b>. {link}</div>'


def signature(view: JobView) -> str:
    """Changes when more than the numbers of a running job changed."""
    said = len(view.warnings) + len(view.notes)
    return f"{view.id} {view.status} {len(view.samples)} {said} {view.result} {view.best} {view.checkpoint_step}"
