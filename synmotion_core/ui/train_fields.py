"""The Train tab's form: what a training is made of, laid out. What the fields mean is in forms.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from synmotion_core.training.settings import TrainConfig
from synmotion_core.ui import memory_fields, picture_fields, preset_fields, prior_fields
from synmotion_core.ui.memory_fields import MemoryFields
from synmotion_core.ui.picture_fields import PictureFields
from synmotion_core.ui.preset_fields import PresetFields
from synmotion_core.ui.prior_fields import LeftOut

DEFAULTS = TrainConfig()
_PICTURES = (
    "One picture a subject, in the order of the lines above: its samples begin with it. Without any, puppets begin "
    "with the ready pictures of these subjects, and other backbones draw no samples."
)
MODES = {"t2v": "Videos from words", "i2v": "Videos that begin with a picture"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainFields:
    """The widgets: fields by the form's names, those of memory among them; what is said of clips and backbone; the
    pictures that samples begin with.
    """

    fields: Mapping[str, Any]
    summary: gr.HTML
    knows: gr.HTML
    presets: PresetFields
    memory: MemoryFields
    left_out: LeftOut
    pictures: PictureFields

    def named(self, values: Mapping[Any, Any]) -> dict[str, Any]:
        """A handler's values by the form's names."""
        return {name: values[part] for name, part in self.fields.items()}


def build(summary_html: str, left_out_memory: gr.BrowserState) -> TrainFields:
    """Lay the form out; elements are called train-steps and so on."""
    summary = gr.HTML(summary_html, elem_id="train-clips", apply_default_css=False)
    backbone = gr.Dropdown(["puppet-hunyuan"], value="puppet-hunyuan", label="Backbone", elem_id="train-backbone")
    knows = gr.HTML("", elem_id="train-knows", apply_default_css=False)
    method = gr.Radio(["synmotion"], value="synmotion", label="Method", elem_id="train-method")
    mode = gr.Radio(
        [(MODES[name], name) for name in MODES],
        value="t2v",
        label="What it learns to make",
        info="From a picture: the clips' own first frames are given, and samples begin with pictures, too.",
        elem_id="train-mode",
    )
    presets = preset_fields.build()
    with gr.Row():
        num_steps = gr.Number(DEFAULTS.num_steps, label="Steps", min_width=110, elem_id="train-steps")
        sample_every = gr.Number(
            DEFAULTS.sample_every,
            label="Sample every",
            min_width=110,
            elem_id="train-sample-every",
        )
    sample_subjects = gr.Textbox(
        "a red cat\na blue robot",
        label="Who tries the motion while training",
        info="One subject a line. They are not trained on.",
        lines=2,
        max_lines=6,
        elem_id="train-subjects",
    )
    pictures = picture_fields.build("train", _PICTURES, visible=False)
    score_every = gr.Number(
        DEFAULTS.score_every,
        label="Score every (steps)",
        info=f"0: never. Each score draws {DEFAULTS.score_videos} videos of the subjects above: the plan below "
        "says how long that takes. The best adapter is kept beside the last.",
        elem_id="train-score-every",
    )
    left_out = prior_fields.build_line(left_out_memory)
    with gr.Accordion("More settings", open=False):
        name = gr.Textbox(
            "",
            label="Name of the adapter",
            placeholder="made from the motion",
            max_length=80,
            elem_id="train-name",
        )
        with gr.Row():
            learning_rate = gr.Textbox(
                "", label="Learning rate", info=" ", min_width=110, elem_id="train-learning-rate"
            )
            rank = gr.Number(16, label="LoRA rank", min_width=110, elem_id="train-rank")
        method_settings = gr.Textbox(
            "",
            label="Settings of the method",
            info="KEY=VALUE, one a line. Its own values:",
            lines=3,
            max_lines=12,
            elem_id="train-method-settings",
        )
        seed = gr.Number(DEFAULTS.seed, label="Seed")
        save_every = gr.Number(
            DEFAULTS.save_every,
            label="Save every (steps)",
            info="Stop and Resume go by these; Stop itself saves, too.",
        )
    memory = memory_fields.build("train", training=True)
    fields = {
        "name": name, "backbone": backbone, "method": method, "mode": mode, "num_steps": num_steps,
        "sample_every": sample_every, "save_every": save_every, "sample_subjects": sample_subjects,
        "score_every": score_every, "rank": rank, "method_settings": method_settings, "learning_rate": learning_rate,
        "seed": seed, "left_out": left_out.memory, **memory.fields,
    }  # fmt: skip
    return TrainFields(
        fields=fields,
        summary=summary,
        knows=knows,
        presets=presets,
        memory=memory,
        left_out=left_out,
        pictures=pictures,
    )
