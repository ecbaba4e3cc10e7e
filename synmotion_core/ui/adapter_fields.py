"""How an adapter is drawn with: how long it works, and settings of its method that no training sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.command import value_text
from synmotion_core.errors import UserInputError
from synmotion_core.ui.notices import Updates

if TYPE_CHECKING:
    from synmotion_core.adapters.file import AdapterInfo


def adapter_fields() -> dict[str, Any]:
    """Text fields by the form's names; laid out where this is called."""
    return {
        "adapter_until": gr.Textbox(
            "",
            label="Adapter until",
            info="0 to 1: the share of the steps in which it works; the backbone goes on alone.",
            placeholder="1",
            elem_id="gen-adapter-until",
        ),
        "method_settings": gr.Textbox(
            "",
            label="Settings of its method",
            info="KEY=VALUE, one a line.",
            lines=1,
            max_lines=4,
            elem_id="gen-method-settings",
        ),
    }


def open_settings(info: AdapterInfo | None) -> dict[str, Any]:
    """What a method can be drawn with, with the file's own values; of a method that this version has not, nothing."""
    from synmotion_core.config import to_dict
    from synmotion_core.interfaces import drawing_settings
    from synmotion_core.planning.work import drawing_method

    if info is None:
        return {}
    try:
        entry, config = drawing_method(info, {})
    except UserInputError:  # said when it is drawn with
        return {}
    return {key: value for key, value in to_dict(config).items() if key in drawing_settings(entry)}


def describe_adapter(fields: Mapping[str, Any], info: AdapterInfo | None) -> Updates:
    """The file's own values where its method leaves settings open; else the field is emptied, and says why."""
    own, field = open_settings(info), fields["method_settings"]
    if own:
        placeholder = "\n".join(f"{key}={value_text(value)}" for key, value in own.items())
        about = "KEY=VALUE, one a line, instead of the file's."
        return {field: gr.Textbox(interactive=True, info=about, placeholder=placeholder)}
    why = "There is no adapter." if info is None else f"{info.method} leaves none open after training."
    return {field: gr.Textbox("", interactive=False, info=why, placeholder="")}
