"""What the Train tab says beside its fields: what a backbone knows, what fits it, the clips, the plan."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from synmotion_core.command import value_text
from synmotion_core.config import TrainRun
from synmotion_core.ui.chosen import ClipChoice, in_words
from synmotion_core.ui.forms import own_settings
from synmotion_core.ui.notices import hint, notice
from synmotion_core.ui.train_fields import MODES

if TYPE_CHECKING:
    from synmotion_core.interfaces import BackboneSpec


def method_choices(spec: BackboneSpec) -> list[tuple[str, str]]:
    """(what a person reads, name) of every method; one that does not fit the backbone says why."""
    from synmotion_core.interfaces import why_incompatible
    from synmotion_core.methods import METHODS

    out = []
    for entry in METHODS.values():
        reason = why_incompatible(spec, entry.name, entry.requires)
        out.append((f"{entry.title} (not here: {reason})" if reason else entry.title, entry.name))
    return out


def mode_choices(spec: BackboneSpec) -> list[tuple[str, str]]:
    """(what a person reads, name) of both modes; one that the backbone has not says why. It stays a choice: a form that
    is under way with it when another backbone comes would be no answer of this list, which Gradio tells as an error."""
    lacks = {"t2v": "it makes none from words alone", "i2v": "it takes no first picture"}
    return [(text if name in spec.modes else f"{text} (not here: {lacks[name]})", name) for name, text in MODES.items()]


def knows_notice(spec: BackboneSpec, real_footage: bool) -> str:
    """What a backbone can draw; where real footage meets one that cannot, which ones could and what they need."""
    from synmotion_core.backbones import SPECS

    if spec.needs_gpu:
        return notice("info", f"{spec.title}: {spec.knows}. It needs a CUDA GPU.")
    if not real_footage:
        return notice("info", f"It draws {spec.knows}.")
    others = [s.title for s in SPECS.values() if s.needs_gpu]
    rest = f"For real footage choose “{'” or “'.join(others)}”, with a CUDA GPU."
    return notice(
        "warning", f"Your own clips meet a backbone that knows {spec.knows}. It cannot learn from real footage. {rest}"
    )


def suggested_subjects(spec: BackboneSpec) -> str:
    """Two subjects that the backbone knows and that are likely not in the clips."""
    nouns, colours = spec.options.get("prior_subjects", ()), spec.options.get("prior_colours", ())
    if not nouns:
        return "a cat\na robot"
    picks = [n for n in ("cat", "robot") if n in nouns] or list(nouns[:2])
    tints = [c for c in ("red", "blue") if c in colours]
    return "\n".join(f"a {tints[i % len(tints)] + ' ' if tints else ''}{noun}" for i, noun in enumerate(picks))


def clips_summary(choices: tuple[ClipChoice, ...]) -> str:
    """Which clips a training would take, and what is still missing."""
    if not choices:
        return notice(
            "info", "No clips yet. Choose some in the Clips tab first: the ready examples are two clicks away."
        )
    text = f"{in_words(choices)}."
    if not all(choice.subject and choice.motion for choice in choices):
        return notice("warning", text, more="Say who moves and what happens in the Clips tab.")
    if len({choice.motion for choice in choices}) > 1:
        return notice("warning", text, more="One adapter learns one motion: train them apart.")
    return notice("good", text)


def plan_html(run: TrainRun, seconds_per_step: float | None) -> str:
    """Time and memory before the start."""
    from synmotion_core.run import plan

    made = plan(run, seconds_per_step=seconds_per_step)
    items = "".join(f"<li>{escape(line)}</li>" for line in (*made.lines, *filter(None, [no_samples(run)])))
    if made.peak_gib is not None:
        items += f"<li>{hint(_room(made.peak_gib))}</li>"
    return f'<div class="sm-plan-box"><p class="sm-title">Before you start</p><ul class="sm-plan">{items}</ul></div>'


def no_samples(run: TrainRun) -> str:
    """Why nothing is drawn while a training that begins with pictures runs; "" where it is, or was not asked for."""
    if run.mode != "i2v" or run.train.sample_images:
        return ""
    return "no samples are drawn while it trains: no pictures were added for them to begin with"


def _room(peak_gib: float) -> str:
    from synmotion_core.planning.machine import card_gib

    card, where = card_gib(), "“Memory and size” has ways to need less."
    if card is None:
        return where
    return f"Of the GPU here {card:.1f} GiB are free: {'enough.' if peak_gib <= card else f'too little. {where}'}"


def own_values(method: str, backbone: str) -> str:
    """A method's settings on a backbone as they would be written, one a line."""
    return "\n".join(f"{key}={value_text(value)}" for key, value in own_settings(method, backbone).items())


def plan_idle(text: str) -> str:
    """The same box when there is nothing to plan."""
    return f'<div class="sm-plan-box"><p class="sm-title">Before you start</p>{hint(text)}</div>'
