"""Presets over the Train tab's form: one sets fields, and fields that are none of them any more say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.command import value_text
from synmotion_core.errors import UserInputError
from synmotion_core.presets import NAMES, TRAIN_KEYS, find_preset, match, presets_for, without
from synmotion_core.ui.forms import method_settings, own_or, whole
from synmotion_core.ui.forms import number as as_number
from synmotion_core.ui.notices import Updates, hint

if TYPE_CHECKING:
    from synmotion_core.interfaces import BackboneSpec

OWN = "own"
SETS = (*TRAIN_KEYS, "method_settings")  # the form's fields that a preset sets
_OWN_ABOUT = "The fields as they stand below. Another choice sets steps, samples, scores and what prior steps aim at."


@dataclass(frozen=True, slots=True, kw_only=True)
class PresetFields:
    """The choice, and a line on what it costs and is good for."""

    choice: gr.Radio
    about: gr.HTML

    @property
    def parts(self) -> list[Any]:
        """All widgets."""
        return [self.choice, self.about]

    def mark(self, form: Mapping[str, Any], spec: BackboneSpec, chosen: Any) -> Updates:
        """Choose the preset that the form's values are, or none; a choice that is right is left alone, for it may have
        been changed since it was read."""
        name = found(form, spec) or OWN
        about = hint(_OWN_ABOUT if name == OWN else presets_for(spec)[name].about)
        return {self.about: about} if name == chosen else {self.choice: name, self.about: about}


def build() -> PresetFields:
    """Lay it out."""
    choice = gr.Radio(
        [*((title, name) for name, title in NAMES.items()), ("Own settings", OWN)], value=OWN, label="Preset",
        elem_id="train-preset",
    )  # fmt: skip
    about = gr.HTML(hint(_OWN_ABOUT), elem_id="train-preset-about", apply_default_css=False)
    return PresetFields(choice=choice, about=about)


def values_of(name: str, form: Mapping[str, Any], spec: BackboneSpec) -> dict[str, Any]:
    """What the form's fields hold with a preset, by their names; "own" changes nothing.

    Raises MissingError for another name, ConfigError where the method's settings cannot be read.
    """
    if name == OWN:
        return {}
    preset, method = find_preset(name, spec), form["method"]
    rate = preset.learning_rate
    settings = without(method_settings(form["method_settings"], method, spec.name)) | preset.method_settings(method)
    words = "\n".join(f"{key}={value_text(value)}" for key, value in settings.items())
    return {**preset.train, "learning_rate": "" if rate is None else f"{rate:g}", "method_settings": words}


def found(form: Mapping[str, Any], spec: BackboneSpec) -> str | None:
    """The preset that a form's values are; None where they are none, or no settings at all."""
    try:
        rate = own_or("learning rate", form["learning_rate"], as_number)
        train = {key: rate if key == "learning_rate" else whole(key, form[key]) for key in TRAIN_KEYS}
        settings = method_settings(form["method_settings"], form["method"], spec.name)
        return match(train, settings, spec, form["method"])
    except UserInputError:
        return None
