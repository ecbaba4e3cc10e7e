"""A job on the page: what it is doing, how far it is, its loss. Pure: from a JobView to HTML of a fixed height."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from synmotion_core.config import TrainRun
from synmotion_core.progress_line import arrived, rate

if TYPE_CHECKING:
    from synmotion_core.jobs import JobView

STAGES = {
    "fetch": "Fetching the weights",
    "encode": "Preparing the clips",
    "prior": "Drawing subject prior videos",
    "train": "Training",
    "score": "Drawing videos to score",
    "invert": "Reading the noise of the clip",
    "generate": "Generating",
}
STATUS = {  # what a person reads, and the tone of the chip
    "queued": ("waiting", "info"),
    "running": ("running", "good"),
    "stopping": ("stopping", "warning"),
    "stopped": ("stopped", "warning"),
    "finished": ("finished", "good"),
    "failed": ("failed", "error"),
    "interrupted": ("interrupted", "warning"),
}
LIVE = frozenset({"queued", "running", "stopping"})
POINTS = 240  # of a plotted curve: more cannot be seen
NO_LOSS = "The loss appears here, step by step, once training begins."
_WIDE, _TALL = 1000, 400  # the plot's own units; it is stretched to its area


def duration(seconds: float) -> str:
    """>>> duration(4), duration(75), duration(7290)
    ('4 s', '1 min 15 s', '2 h 1 min')
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def pace(seconds_per_step: float) -> str:
    """>>> pace(0.25), pace(3.42)
    ('4.0 steps a second', '3.4 s a step')
    """
    return (
        f"{seconds_per_step:.1f} s a step"
        if seconds_per_step >= 1
        else f"{1 / max(seconds_per_step, 1e-6):.1f} steps a second"
    )


def headline(view: JobView) -> str:
    """One line: what is going on."""
    at = _where(view)
    if view.status == "queued":
        return "Waiting for its turn: the device does one job at a time"
    if view.status == "running":
        return at or "Loading the backbone"
    if view.status == "stopping":
        return f"Stopping after this step, then saving{f' ({at})' if at else ''}"
    if view.status == "finished":
        return "Finished"
    where = f" at step {view.checkpoint_step}, saved" if view.checkpoint_step is not None else f" ({at})" if at else ""
    return f"{STATUS[view.status][0].capitalize()}{where}"


def _where(view: JobView) -> str:
    if not view.stage:
        return ""
    if view.stage == "fetch":
        if view.step >= view.total:
            return ""
        return f"Fetching {view.config.backbone}: {arrived(view.step, view.total)}"
    count = f"{view.step} of {view.total}"
    if _pauses(view):
        what = "samples" if view.stage == "generate" else "videos to score"
        return f"Drawing {what} at step {view.losses[-1][0]}: {count}"
    return f"{STAGES.get(view.stage, view.stage.capitalize())}: {count}"


def _pauses(view: JobView) -> bool:
    """Whether a training draws samples, or videos to score, between its steps."""
    return view.kind == "train" and view.stage in ("generate", "score") and bool(view.losses)


def share(view: JobView) -> float:
    """How far the bar is, 0..1; drawing on the way does not move a training's bar."""
    if view.status == "finished":
        return 1.0
    if isinstance(view.config, TrainRun) and _pauses(view):
        return min(1.0, view.losses[-1][0] / view.config.train.num_steps)
    return min(1.0, view.step / view.total) if view.total else 0.0


def status(view: JobView) -> str:
    """Headline, state, bar and numbers of a job."""
    facts = []
    if view.stage == "fetch":
        facts += [rate((view.total - view.step) / view.eta_s)] if view.eta_s else []
    elif view.status == "running" and view.seconds_per_step:
        facts.append(pace(view.seconds_per_step))
    if view.eta_s is not None and view.status == "running" and (view.eta_s or view.stage != "fetch"):
        facts.append(f"about {duration(view.eta_s)} left in this stage")
    if view.status == "running" and view.memory_gib is not None:
        facts.append(f"{view.memory_gib:.1f} GiB of memory")
    if view.losses:
        facts.append(f"loss {view.losses[-1][1]:.4f}")
    facts.append(f"{duration(view.seconds)} so far" if view.status in LIVE else f"{duration(view.seconds)} in all")
    return box(view.status, headline(view), share(view), facts, view.message)


def box(status: str, now: str, done: float, facts: Sequence[str], message: str = "") -> str:
    """A status of STATUS, one line on what goes on, how far it is (0..1), numbers, and what else is to be said."""
    word, tone = STATUS[status]
    more = f'<div class="sm-message">{escape(message)}</div>' if message else ""
    return (
        f'<div class="sm-status" data-status="{status}">'
        f'<div class="sm-row"><span class="sm-now">{escape(now)}</span>'
        f'<span class="sm-chip sm-{tone}">{word}</span></div>'
        '<div class="sm-bar" role="progressbar" aria-label="Progress" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{done * 100:.0f}">'
        f'<span style="width:{done * 100:.1f}%"></span></div>'
        f'<div class="sm-numbers">{escape(" · ".join(facts))}</div>{more}</div>'
    )


def idle_status(text: str) -> str:
    """The same area before there is a job."""
    return (
        '<div class="sm-status" data-status="none">'
        f'<div class="sm-row"><span class="sm-now">{escape(text)}</span></div>'
        '<div class="sm-bar"><span style="width:0%"></span></div>'
        '<div class="sm-numbers">Nothing is running.</div></div>'
    )


def smoothed(losses: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Running mean, corrected for its start: sum w^k x / sum w^k, over about a tenth of the steps, 5 to 20 of them.

    Values that are not finite are left out.
    """
    weight = 1 - 1 / min(20, max(5, len(losses) / 10))
    out, top, bottom = [], 0.0, 0.0
    for step, loss in losses:
        if math.isfinite(loss):
            top, bottom = weight * top + loss, weight * bottom + 1.0
            out.append((step, top / bottom))
    return out


def thinned(points: Sequence[tuple[int, float]], most: int = POINTS) -> list[tuple[float, float]]:
    """Means of equal runs of points, at most `most` of them; the last point stays where it is."""
    if len(points) <= most:
        return [(float(s), v) for s, v in points]
    size = math.ceil((len(points) - 1) / (most - 1))
    runs = [points[i : i + size] for i in range(0, len(points) - 1, size)]
    means = [(sum(s for s, _ in run) / len(run), sum(v for _, v in run) / len(run)) for run in runs]
    return [*means, (float(points[-1][0]), points[-1][1])]


def loss_plot(losses: Sequence[tuple[int, float]], last_step: int) -> str:
    """Loss over steps 1..last_step as SVG: thin each step, thick the running mean."""
    finite = [(s, v) for s, v in losses if math.isfinite(v)]
    if len(finite) < 2:
        return f'<div class="sm-plot"><div class="sm-none">{NO_LOSS}</div></div>'
    raw, smooth = thinned(finite), thinned(smoothed(finite))
    low, high = min(v for _, v in raw), max(v for _, v in raw)
    pad = (high - low) * 0.08 or abs(high) * 0.05 or 0.01
    low, high, right = low - pad, high + pad, max(last_step, finite[-1][0], 2)

    def x(step: float) -> float:
        return (step - 1) / (right - 1) * _WIDE

    def y(loss: float) -> float:
        return (high - loss) / (high - low) * _TALL

    def line(points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{'ML'[i > 0]}{x(s):.1f},{y(v):.1f}" for i, (s, v) in enumerate(points))

    ticks = [low + (high - low) * f for f in (0.1, 0.5, 0.9)]
    rules = "".join(f'<path class="sm-grid-line" d="M0,{y(t):.1f} H{_WIDE}"/>' for t in ticks)
    labels = "".join(f'<span class="sm-tick" style="top:{y(t) / _TALL * 100:.1f}%">{t:.3g}</span>' for t in ticks)
    odd = len(losses) - len(finite)
    note = f"; {odd} steps without a finite loss are left out" if odd else ""
    return (
        f'<div class="sm-plot" role="img" aria-label="Loss {finite[-1][1]:.4f} at step {finite[-1][0]}">'
        f'<div class="sm-key">loss · thin: each step, thick: running mean{note}</div><div class="sm-curve">'
        f'<svg viewBox="0 0 {_WIDE} {_TALL}" preserveAspectRatio="none" aria-hidden="true">{rules}'
        f'<path class="sm-raw" d="{line(raw)}"/><path class="sm-smooth" d="{line(smooth)}"/></svg>{labels}</div>'
        f'<div class="sm-steps-axis"><span>step 1</span><span>{right}</span></div></div>'
    )
