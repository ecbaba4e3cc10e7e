"""The noise that videos begin with: in part that of one of the chosen clips (inversion.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.config import Footage
from synmotion_core.errors import MissingError
from synmotion_core.ui.forms import NOISE_PRIOR, refuse_blocked
from synmotion_core.ui.notices import Updates, hint

if TYPE_CHECKING:
    from synmotion_core.interfaces import BackboneSpec
    from synmotion_core.ui.chosen import ClipChoice, Library

FRESH = ""  # the id of "no clip"
_ABOUT = (
    "Sampling can begin with noise that is in part a clip's own: videos take over how it is laid out and some of its "
    "motion. For an adapter of few clips, one of them."
)


def noise_fields() -> dict[str, Any]:
    """Fields by the form's names; laid out where this is called."""
    fields: dict[str, Any] = {}
    with gr.Accordion("Begin with the noise of a clip", open=False, elem_id="gen-noise"):
        gr.HTML(hint(_ABOUT))
        fields["noise_clip"] = gr.Dropdown(
            _choices(()), value=FRESH, label="Clip", info="Of those in the Clips tab.", elem_id="gen-noise-clip"
        )
        fields["noise_prior"] = gr.Textbox(
            "", label="How much of it", info="0 to 1", placeholder=f"{NOISE_PRIOR:g}", elem_id="gen-noise-prior"
        )
    return fields


def offer_clips(fields: Mapping[str, Any], clips: Sequence[ClipChoice], chosen: Any) -> Updates:
    """The list, with the same one chosen as long as it is there."""
    known = {mark(choice) for choice in clips}
    if chosen in {FRESH, *known}:  # not sent back: another may have been chosen meanwhile
        return {fields["noise_clip"]: gr.Dropdown(choices=_choices(clips))}
    return {fields["noise_clip"]: gr.Dropdown(choices=_choices(clips), value=FRESH)}


def _choices(clips: Sequence[ClipChoice]) -> list[tuple[str, str]]:
    named = [(f"clip {i}: {choice.title} ({choice.name})", mark(choice)) for i, choice in enumerate(clips, start=1)]
    return [("none: fresh noise", FRESH), *named]


def mark(choice: ClipChoice) -> str:
    """What the page calls a clip: its source and its cut, never a path."""
    return f"{choice.source} {choice.start_s!r} {choice.end_s!r} {choice.resample_fps!r}"


def noise_clip(wanted: Any, clips: Sequence[ClipChoice], library: Library, spec: BackboneSpec) -> Footage | None:
    """What a run takes. Raises MissingError for a clip not chosen any more, ClipError for one that cannot be."""
    if wanted == FRESH:
        return None
    for choice in clips:
        if mark(choice) == wanted:
            refuse_blocked([choice], [library.look(choice, spec)])
            path, cut = library.path(choice.source), choice.cut
            return Footage(path=path, start_s=cut.start_s, end_s=cut.end_s, resample_fps=cut.resample_fps)
    raise MissingError("the clip that videos were to begin with is not among the chosen ones any more: choose another")
