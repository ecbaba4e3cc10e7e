"""The scores of a training's checkpoints on the page: their curve over the steps, the best marked. Pure HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from synmotion_core.types import Scored

_WIDE, _TALL = 1000, 400  # the plot's own units; it is stretched to its area
WHAT = {"judge": "motion and species, as the judge names them", "fidelity": "motion fidelity above its floor"}
NO_SCORE = "The score of each checkpoint appears here, the best one marked."


def score_plot(scores: Sequence[Scored], last_step: int, every: int) -> str:
    """Scores over steps 1..last_step, as the loss above it; "" where a training is not scored (`every` is 0)."""
    if not scores:
        return f'<div class="sm-plot"><div class="sm-none">{NO_SCORE}</div></div>' if every else ""
    from synmotion_core.run.yardstick import in_words

    best, last = max((s for s in scores if s.best), key=lambda s: s.step, default=scores[0]), scores[-1]
    values = [s.score for s in scores]
    low, high = (0.0, 1.0) if last.by == "judge" else (min(0.0, *values), max(0.1, *values))
    ticks = [low, (low + high) / 2, high]
    pad, right = (high - low) * 0.08, max(last_step, last.step, 2)
    low, high = low - pad, high + pad

    def x(step: int) -> float:
        return (step - 1) / (right - 1)

    def y(score: float) -> float:
        return (high - score) / (high - low)

    rules = "".join(f'<path class="sm-grid-line" d="M0,{y(t) * _TALL:.1f} H{_WIDE}"/>' for t in ticks)
    labels = "".join(f'<span class="sm-tick" style="top:{y(t):.1%}">{t:.2f}</span>' for t in ticks)
    line = " ".join(f"{'ML'[i > 0]}{x(s.step) * _WIDE:.1f},{y(s.score) * _TALL:.1f}" for i, s in enumerate(scores))
    dots = "".join(
        f'<span class="sm-dot{" sm-best" if s is best else ""}" data-step="{s.step}" title="{escape(in_words(s))}" '
        f'style="left:{x(s.step):.2%};top:{y(s.score):.2%}"></span>'
        for s in scores
    )
    said = f"best {best.score:.3f} at step {best.step}, last {last.score:.3f} at step {last.step}"
    return (
        f'<div class="sm-plot" role="img" aria-label="Score: {said}">'
        f'<div class="sm-key">score · {escape(WHAT.get(last.by, last.by))} · {said}</div><div class="sm-curve">'
        f'<svg viewBox="0 0 {_WIDE} {_TALL}" preserveAspectRatio="none" aria-hidden="true">{rules}'
        f'<path class="sm-smooth" d="{line}"/></svg>{labels}{dots}</div>'
        f'<div class="sm-steps-axis"><span>step 1</span><span>{right}</span></div></div>'
    )
