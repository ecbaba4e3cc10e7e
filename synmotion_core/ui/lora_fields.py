"""LoRAs beneath everything else of the videos (stacking.py): for fewer steps, or for a style."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.config import GenerateRun, LoraWith
from synmotion_core.stacking import PLAIN_LORA
from synmotion_core.ui.adapters import find_adapter, find_adapters
from synmotion_core.ui.notices import Updates, hint

if TYPE_CHECKING:
    from synmotion_core.ui.context import Studio

NONE = ""  # the id of "no LoRA"
_NONE = [("none", NONE)]
_PLACES = (1, 2)  # more are the command line's
_ABOUT = (
    "They work in every step, as if the backbone had learnt them, also in what is drawn beside the adapter: one that "
    "was distilled for few steps (set “Sampling steps” and “Guidance” as its page says), or a style. The Library tab "
    "takes in files of other programs."
)


def lora_fields() -> dict[str, Any]:
    """Fields by name; laid out where this is called."""
    fields: dict[str, Any] = {}
    with gr.Accordion("LoRAs beneath: speed, style", open=False, elem_id="gen-loras"):
        gr.HTML(hint(_ABOUT))
        for number in _PLACES:
            with gr.Row():
                # looked up when it is used, as in blend_fields.py
                fields[f"lora_{number}"] = gr.Dropdown(
                    _NONE, value=NONE, label=f"LoRA {number}", elem_id=f"gen-lora-{number}", allow_custom_value=True,
                    min_width=180, scale=3,
                )  # fmt: skip
                fields[f"lora_{number}_strength"] = gr.Slider(
                    -2, 2, 1, step=0.05, label="Strength", elem_id=f"gen-lora-{number}-strength", buttons=[],
                    min_width=150, scale=2,
                )  # fmt: skip
    return fields


def loras_of(fields: Mapping[str, Any], values: Mapping[Any, Any], studio: Studio) -> tuple[LoraWith, ...]:
    """What the fields say. Raises MissingError for a LoRA that is gone."""
    found = []
    for number in _PLACES:
        if wanted := values[fields[f"lora_{number}"]]:
            path = find_adapter(studio.workspace, wanted, studio.assets).path
            found.append(LoraWith(adapter=path, strength=values[fields[f"lora_{number}_strength"]]))
    return tuple(found)


def too_many(run: GenerateRun) -> bool:
    """Whether it has more of them than there are fields."""
    return len(run.loras) > len(_PLACES)


def lora_values(ids: Mapping[int, tuple[str, float]]) -> dict[str, Any]:
    """Values by the fields' names, of (id, strength) by place, from 0."""
    values: dict[str, Any] = {}
    for place, number in enumerate(_PLACES):
        values[f"lora_{number}"], values[f"lora_{number}_strength"] = ids.get(place, (NONE, 1.0))
    return values


def offer_loras(
    fields: Mapping[str, Any],
    wanted: Mapping[str, Any],
    backbone: str,
    first: str,
    studio: Studio,
    *,
    put: bool = False,
) -> Updates:
    """The LoRAs of a backbone, but for the adapter whose id is `first`; what is chosen stays where it is among them.

    wanted: ids by the fields' names. put: choose them; else what a person has chosen meanwhile stays.
    """
    found, _ = find_adapters(studio.workspace, studio.assets)
    fit = [one for one in found if one.info.backbone == backbone and one.info.method == PLAIN_LORA and one.id != first]
    there = {NONE, *(one.id for one in fit)}
    choices = [*_NONE, *((one.label, one.id) for one in fit)]
    updates: Updates = {}
    for number in _PLACES:
        name = f"lora_{number}"
        value: dict[str, Any] = {}
        if put or wanted[name] not in there:
            value = {"value": wanted[name] if wanted[name] in there else NONE}
        about = "" if fit else f"There is no plain LoRA of {backbone} here yet."
        updates[fields[name]] = gr.Dropdown(choices=choices, interactive=bool(fit), info=about, **value)
    return updates
