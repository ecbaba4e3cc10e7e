"""Memory and size: the fields for how weights are held and how large videos are, and the ways to fit, in both tabs.

The fields are those of `Precision`, the shape and, in training, the batch; an empty one is the backbone's own. A way is
a rung of the ladder (planning/ladder.py) above the run with its weights held plainly: choosing one sets the fields.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.config import GenerateRun, TrainRun
from synmotion_core.errors import ConfigError
from synmotion_core.precision import PLAIN, Precision
from synmotion_core.training.settings import TrainConfig
from synmotion_core.ui.notices import Updates

if TYPE_CHECKING:
    from synmotion_core.interfaces import BackboneSpec
    from synmotion_core.planning.ladder import Rung

NAMES = {
    "weights": [("plain", "bf16"), ("8 bits", "8bit"), ("4 bits", "4bit"), ("fp8", "fp8")],
    "text_weights": [("plain", "bf16"), ("8 bits", "8bit"), ("4 bits", "4bit")],
    "offload": [("nothing", "none"), ("models not at work", "model"), ("layers not at work", "group")],
    "optimizer": [("AdamW", "adamw"), ("AdamW in 8 bits", "adamw8bit")],
}
SIZES = {"num_frames": "Frames", "height": "Height", "width": "Width"}
_WORDS = {
    ("precision.gradient_checkpointing", True): "gradient checkpointing",
    ("precision.vae_tiling", True): "VAE tiling",
    ("precision.weights", "8bit"): "8-bit denoiser",
    ("precision.weights", "4bit"): "4-bit denoiser",
    ("precision.text_weights", "8bit"): "8-bit text encoder",
    ("precision.text_weights", "4bit"): "4-bit text encoder",
    ("precision.offload", "model"): "models offloaded",
    ("precision.offload", "group"): "layers offloaded",
}
_NUMBERS = {"train.batch_size": "batches of {}", "num_frames": "{} frames", "height": "{} high", "width": "{} wide"}
AS_IT_COMES = "as the backbone comes"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFields:
    """The widgets: fields by the form's names, the choice of ways, and whether a run that cannot fit begins at all."""

    fields: Mapping[str, Any]
    ways: gr.Radio
    anyway: gr.Checkbox

    @property
    def parts(self) -> list[Any]:
        """All widgets."""
        return [*self.fields.values(), self.ways]

    def defaults(self) -> dict[Any, Any]:
        """What each field holds on a backbone that was not chosen before."""
        usual = dict.fromkeys((*SIZES, "batch_size"), "") | {"optimizer": TrainConfig().optimizer}
        return {self.fields[name]: value for name, value in usual.items() if name in self.fields} | self.plain()

    def plain(self) -> dict[Any, Any]:
        """The fields of `Precision` where weights are held as they come."""
        held = dataclasses.asdict(PLAIN)
        return {part: held[name] for name, part in self.fields.items() if name in held}

    def describe(self, spec: BackboneSpec, values: Mapping[Any, Any] | None = None) -> Updates:
        """A backbone's own values and rules, and what it has no use for greyed out with the reason.

        values: put into the fields, too.
        """
        own, new = spec.default_shape, dict(values or {})
        rules = {"num_frames": f"{spec.frame_multiple}k + 1"}
        rules |= dict.fromkeys(("height", "width"), f"by {spec.size_multiple}")
        updates: Updates = {}
        for name, part in self.fields.items():
            more: dict[str, Any] = {"value": new[part]} if part in new else {}
            if name in SIZES:
                more |= {"placeholder": str(getattr(own, name)), "info": rules[name]}
            elif name == "batch_size":
                more |= {"placeholder": str(spec.batch_size)}
            elif name == "offload":
                reason = why_no_offload(spec)
                more |= {"interactive": reason is None, "info": reason or ""} | ({"value": "none"} if reason else {})
            if name in NAMES and more:
                more["choices"] = NAMES[name]
            if more:
                updates[part] = type(part)(**more)
        return updates

    def offer(self, run: TrainRun | GenerateRun) -> Updates:
        """The ways of a run; the one that the fields stand for is chosen."""
        rungs = ways(run)
        choices = [(label, str(index)) for index, label in enumerate(labels(rungs))]
        chosen = next((str(index) for index, rung in enumerate(rungs) if rung.run == run), None)
        return {self.ways: gr.Radio(choices=choices, value=chosen, visible=bool(choices))}

    def take(self, run: TrainRun | GenerateRun, index: str) -> Updates:
        """Set the fields to a way of a run. Raises ConfigError where it has no such way (any more)."""
        rungs = ways(run)
        if not index.isdecimal() or int(index) >= len(rungs):
            raise ConfigError("this way is not there any more: choose another")
        rung = rungs[int(index)]
        updates: Updates = {
            part: getattr(rung.run.precision, name)
            for name, part in self.fields.items()
            if name in Precision.__dataclass_fields__
        }
        for setting, value in rung.changes.items():
            name = setting.rpartition(".")[2]
            if name in self.fields and self.fields[name] not in updates:
                updates[self.fields[name]] = str(value)
        return updates


def build(prefix: str, *, training: bool) -> MemoryFields:
    """Lay the fields out in a closed accordion; elements are called `prefix`-weights and so on."""
    fields: dict[str, Any] = {}

    def choose(name: str, label: str, info: str = "") -> None:
        value = getattr(TrainConfig() if name == "optimizer" else PLAIN, name)
        fields[name] = gr.Dropdown(
            NAMES[name], value=value, label=label, info=info or None, min_width=140,
            elem_id=f"{prefix}-{name.replace('_', '-')}",
        )  # fmt: skip

    def tick(name: str, label: str, info: str) -> None:
        fields[name] = gr.Checkbox(False, label=label, info=info, elem_id=f"{prefix}-{name.replace('_', '-')}")

    def write(name: str, label: str) -> None:
        # text, not gr.Number: that one shows 0 where nothing is set
        fields[name] = gr.Textbox(
            "", label=label, info=" ", min_width=80, elem_id=f"{prefix}-{name.replace('_', '-')}"
        )  # fmt: skip

    with gr.Accordion("Memory and size", open=False, elem_id=f"{prefix}-memory"):
        ways = gr.Radio(
            [], label="Make it fit", info="GPU memory, about, and what it costs, the cheapest first. Sets the fields.",
            visible=False, elem_id=f"{prefix}-ways", elem_classes="sm-ways",
        )  # fmt: skip
        with gr.Row():
            choose("weights", "Denoiser's weights")
            choose("text_weights", "Text encoder's weights")
        choose("offload", "Offload to main memory")
        tick("vae_tiling", "VAE tiling", "Codes videos tile by tile: less memory, changes them a little.")
        if training:
            tick("gradient_checkpointing", "Gradient checkpointing", "Much less memory, a third more time.")
            with gr.Row():
                choose("optimizer", "Optimizer")
                write("batch_size", "Batch size")
        with gr.Row():
            for name, label in SIZES.items():
                write(name, label)
        anyway = gr.Checkbox(
            False, label="Begin even if it cannot fit", elem_id=f"{prefix}-anyway",
            info="Memory is an estimate, which is held against the GPU that is here.",
        )  # fmt: skip
    return MemoryFields(fields=fields, ways=ways, anyway=anyway)


def refuse_too_large(run: TrainRun | GenerateRun, anyway: bool) -> None:
    """Raise ConfigError, naming the way that fits, for a run that cannot fit the GPU that is here, unless `anyway`."""
    from synmotion_core.planning.room import shortage

    short = None if anyway else shortage(run)
    if short is None or not short.certain:
        return  # what may fit is said by the plan
    rungs = ways(run)
    fits = [label for rung, label in zip(rungs, labels(rungs), strict=True) if rung.needs.peak <= short.here]
    choose = f"choose “{fits[0]}”" if fits else "no way there fits, so take another backbone"
    raise ConfigError(f"{short.numbers}. In “Memory and size” {choose}, or tick “Begin even if it cannot fit”")


def why_no_offload(spec: BackboneSpec) -> str | None:
    """None where weights may be offloaded; a large backbone is taken to run on a GPU, here or where its command is."""
    from synmotion_core.backbones.loading import choose_device
    from synmotion_core.backbones.precision import check_precision

    try:
        check_precision(spec, choose_device(spec, "cuda" if spec.needs_gpu else None), Precision(offload="model"))
    except ConfigError:
        return f"Moves weights between a CUDA GPU and main memory: not for {spec.name}, which is small."
    return None


def ways(run: TrainRun | GenerateRun) -> list[Rung]:
    """The ladder above a run whose weights are held plainly; none for a backbone that has not been measured."""
    from synmotion_core.backbones import find_spec
    from synmotion_core.planning.ladder import ladder
    from synmotion_core.planning.memory import measured

    if measured(find_spec(run.backbone).name) is None:
        return []
    return list(ladder(dataclasses.replace(run, precision=PLAIN)))


def labels(rungs: Sequence[Rung]) -> list[str]:
    """What a person reads of each way: its memory, what changes, what that costs, and which is the first to fit."""
    from synmotion_core.planning.machine import card_gib
    from synmotion_core.planning.report import added_price

    card, fits, before, out = card_gib(), False, None, []
    for rung in rungs:
        first = card is not None and not fits and rung.needs.peak <= card
        fits = fits or first
        about = ", ".join(_in_words(*change) for change in rung.changes.items()) or AS_IT_COMES
        price = "" if before is None else f" ({added_price(before, rung)})"
        out.append(f"{rung.needs.peak:.1f} GiB{', fits this GPU' if first else ''}: {about}{price}")
        before = rung
    return out


def _in_words(setting: str, value: Any) -> str:
    return _NUMBERS[setting].format(value) if setting in _NUMBERS else _WORDS[setting, value]
