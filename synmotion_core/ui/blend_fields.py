"""A second adapter whose motion goes into the same videos (blending.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.config import BlendWith, GenerateRun
from synmotion_core.ui.adapters import find_adapter, find_adapters
from synmotion_core.ui.notices import Updates, hint

if TYPE_CHECKING:
    from synmotion_core.ui.context import Studio

NONE = ""  # the id of "no second motion"
_NONE = [("none: one motion", NONE)]
_ABOUT = (
    "Each adapter predicts in its own words, and the predictions are averaged, which takes about twice the time. One "
    "after the other often shows both; at once, two motions of the whole body seldom become one that is both."
)


def blend_fields() -> dict[str, Any]:
    """Fields by name; laid out where this is called."""
    fields: dict[str, Any] = {}
    with gr.Accordion("Blend with another motion", open=False, elem_id="gen-blend"):
        gr.HTML(hint(_ABOUT))
        # what is chosen is looked up when it is used: Gradio would refuse, in no words of ours, an adapter that was
        # chosen before the list without it has arrived
        fields["blend_adapter"] = gr.Dropdown(
            _NONE, value=NONE, label="Other adapter", elem_id="gen-blend-adapter", allow_custom_value=True
        )
        fields["blend_share"] = gr.Slider(
            0, 1, 0.5, step=0.05, label="Share of the other", info="0 is the adapter above alone, 1 the other alone.",
            elem_id="gen-blend-share", buttons=[],
        )  # fmt: skip
        fields["blend_over"] = gr.Radio(
            [("Both at once", "mixed"), ("One after the other", "sequence")], value="mixed", label="How",
            elem_id="gen-blend-over",
        )  # fmt: skip
    return fields


def blend_of(fields: Mapping[str, Any], values: Mapping[Any, Any], studio: Studio) -> BlendWith | None:
    """What the fields say. Raises MissingError for an adapter that is gone."""
    wanted = values[fields["blend_adapter"]]
    if not wanted:
        return None
    other = find_adapter(studio.workspace, wanted, studio.assets)
    return BlendWith(
        adapter=other.path, share=values[fields["blend_share"]], over=values[fields["blend_over"]] or "mixed"
    )


def offer_second(fields: Mapping[str, Any], wanted: str, first: str, studio: Studio, *, put: bool = False) -> Updates:
    """The adapters that go with the one whose id is `first`, and none chosen where `wanted` is not among them.

    put: choose `wanted`; else what a person has chosen meanwhile stays.
    """
    found, _ = find_adapters(studio.workspace, studio.assets)
    backbone = next((one.info.backbone for one in found if one.id == first), None)
    fit = [one for one in found if one.info.backbone == backbone and one.id != first]
    about = f"Adapters of {backbone}." if backbone else "There is no adapter that it could be blended with."
    if backbone and not fit:
        about = f"There is no other adapter of {backbone} yet."
    there = wanted in {NONE, *(one.id for one in fit)}
    value: dict[str, Any] = {"value": wanted if there else NONE} if put or not there else {}
    choices = [*_NONE, *((one.label, one.id) for one in fit)]
    return {fields["blend_adapter"]: gr.Dropdown(choices=choices, interactive=bool(fit), info=about, **value)}


def drawn_with(run: GenerateRun) -> str:
    """An adapter, the one that it is blended with, and the LoRAs beneath."""
    beneath = "".join(f", over {one.adapter.stem} at {one.strength:g}" for one in run.loras)
    if run.adapter is None:
        return f"{run.backbone}, no adapter{beneath}"
    own = run.adapter.stem
    if run.blend is None:
        return f"{own}, strength {run.strength:g}{beneath}"
    how = "at once with" if run.blend.over == "mixed" else "and then"
    return f"{own} {how} {run.blend.adapter.stem}, share {run.blend.share:g}, strength {run.strength:g}{beneath}"
