"""Settings of sampling that only some backbones have: fields that are live where they have an effect, else say why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.ui.notices import Updates

if TYPE_CHECKING:
    from synmotion_core.interfaces import BackboneSpec

OWN = "backbone's own"
_ABOUT = {
    "negative_prompt": "What guidance leads away from.",
    "embedded_guidance": "0 to 30",
    "flow_shift": "0 to 100",
    "step_cache": "Faster, and a little different: ",
}


def guiding_fields() -> dict[str, Any]:
    """Text fields by the form's names, empty for the backbone's own; laid out where this is called."""
    fields: dict[str, Any] = {}
    fields["negative_prompt"] = gr.Textbox(
        "", label="Negative prompt", info=_ABOUT["negative_prompt"], placeholder=OWN, lines=1, max_lines=4,
        elem_id="gen-negative-prompt",
    )  # fmt: skip
    fields["step_cache"] = gr.Textbox(
        "", label="Step cache", info=_ABOUT["step_cache"], placeholder="none", lines=1, elem_id="gen-step-cache"
    )
    with gr.Row():
        for name, label in (("embedded_guidance", "Embedded guidance"), ("flow_shift", "Shift of noise levels")):
            fields[name] = gr.Textbox(
                "", label=label, info=_ABOUT[name], placeholder=OWN, min_width=110,
                elem_id=f"gen-{name.replace('_', '-')}",
            )  # fmt: skip
    return fields


def why_idle(spec: BackboneSpec, guidance: Any) -> dict[str, str]:
    """Fields that have no effect, with the reason. guidance: what its field holds, "" for the backbone's own."""
    reasons = {}
    try:
        scale = float(str(guidance or "").strip() or spec.guidance_scale)
    except ValueError:  # said where it is read
        scale = spec.guidance_scale
    if scale == 1:
        reasons["negative_prompt"] = "Guidance is 1 here, which leads away from nothing: set another one first."
    if "embedded_guidance" not in spec.features:
        reasons["embedded_guidance"] = f"{spec.name} takes none."
    if not _caches(spec):
        reasons["step_cache"] = f"{spec.name} takes none."
    return reasons


def _caches(spec: BackboneSpec) -> list[str]:
    """An example of each kind that it takes."""
    kinds = {"first_block_cache": "first-block:0.1", "taylorseer_cache": "taylorseer:2"}
    return [example for feature, example in kinds.items() if feature in spec.features]


def describe_guiding(
    fields: Mapping[str, Any], spec: BackboneSpec, guidance: Any, values: Mapping[Any, Any] | None = None
) -> Updates:
    """A backbone's own values; idle fields greyed out with the reason, and emptied. values: put into the others."""
    own = {
        "negative_prompt": spec.negative_prompt or OWN,
        "embedded_guidance": OWN if spec.embedded_guidance is None else f"{spec.embedded_guidance:g}",
        "flow_shift": OWN if spec.flow_shift is None else f"{spec.flow_shift:g}",
        "step_cache": "none",
    }
    about = _ABOUT | {"step_cache": f"{_ABOUT['step_cache']}{' or '.join(_caches(spec))}"}
    idle, updates = why_idle(spec, guidance), {}
    for name, part in fields.items():
        more: dict[str, Any] = {"value": ""} if name in idle else {}
        more |= {"value": values[part]} if values and part in values else {}
        updates[part] = gr.Textbox(
            interactive=name not in idle, info=idle.get(name, about[name]), placeholder=own[name], **more
        )
    return updates
