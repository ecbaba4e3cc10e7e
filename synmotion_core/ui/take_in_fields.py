"""Files taken in on the Library tab: adapters of SynMotion's own, and LoRA of other programs with what they do not say.

Of a backbone with two experts both files may come at once. Whose each is, is guessed by their names and shown; the
answer holds these names, so that one which was given for other files is none.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.errors import AdapterError, ConfigError
from synmotion_core.ui.notices import Updates, hint, notice, notices
from synmotion_core.workspace import Workspace, safe_name

if TYPE_CHECKING:
    from synmotion_core.interfaces import BackboneSpec

_EXPERTS = {"high_noise": "high noise", "low_noise": "low noise"}
_MODES = {"t2v": "from text", "i2v": "from a picture"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeInFields:
    """The fields, and the button that takes in what they say."""

    files: gr.File
    name: gr.Textbox
    backbone: gr.Dropdown
    whose: gr.Radio
    mode: gr.Radio
    subject: gr.Textbox
    motion: gr.Textbox
    alpha: gr.Textbox
    loose: gr.Checkbox
    take: gr.Button

    @property
    def asked(self) -> set[Any]:
        """All but the button."""
        fields = (self.files, self.name, self.backbone, self.whose, self.mode)
        return {*fields, self.subject, self.motion, self.alpha, self.loose}

    def on_files(self, values: Mapping[Any, Any]) -> Updates:
        """Other files: whose they are is asked anew, where the backbone has two experts."""
        spec, files = _spec(values[self.backbone]), _paths(values[self.files])
        if spec is None or spec.boundary_ratio is None or not 1 <= len(files) <= 2:
            return {self.whose: gr.Radio(choices=[], value=None, visible=False)}
        return {self.whose: gr.Radio(choices=whose_choices(files), value=guessed(files), visible=True)}

    def on_backbone(self, values: Mapping[Any, Any]) -> Updates:
        """Another backbone: its experts, and its modes where it has several."""
        spec = _spec(values[self.backbone])
        modes = () if spec is None else spec.modes
        choices = [(_MODES[mode], mode) for mode in modes]
        mode = gr.Radio(choices=choices, value=modes[0] if modes else None, visible=len(modes) > 1)
        return {**self.on_files(values), self.mode: mode}

    def taken(self, values: Mapping[Any, Any], workspace: Workspace) -> tuple[Path, str]:
        """Take in what is asked: the adapter, and what is said of it. Raises as take_in and convert."""
        from synmotion_core.adapters.take_in import is_ours, take_in

        files, called = _paths(values[self.files]), (values[self.name] or "").strip()
        if not files:
            raise ConfigError("choose the file first")
        if not any(is_ours(file) for file in files):
            return self._converted(values, files, workspace.adapters / f"{safe_name(called)}.safetensors")
        if len(files) > 1:
            raise ConfigError("SynMotion adapters are taken in one by one: choose one file")
        own = take_in(files[0], workspace, name=called or None)
        here = f"is here already, as {own.path.stem}" if own.known else f"is taken in as {own.path.stem}"
        text = f"The SynMotion adapter {here}: {own.applied} of {own.applied} keys apply. It is chosen on the left."
        return own.path, notice("good", text)

    def _converted(self, values: Mapping[Any, Any], files: list[Path], out: Path) -> tuple[Path, str]:
        from synmotion_core.adapters.convert import convert
        from synmotion_core.adapters.foreign import Unmatched
        from synmotion_core.types import Prompt

        spec = _spec(values[self.backbone])
        if spec is None:
            raise ConfigError("this is a LoRA of another program: say what it was trained on")
        experts: tuple[str, ...] = ()
        if spec.boundary_ratio is not None:
            if len(files) > 2:
                raise ConfigError(f"{spec.name} has two experts: choose a file for each, or for one, not {len(files)}")
            found = next((own for own in _orders(len(files)) if _answer(own, files) == values[self.whose]), None)
            if found is None:
                raise ConfigError(
                    f"{spec.name} has two experts: say whose the file is, for high noise or for low noise"
                )
            experts = found
        mode: Any = values[self.mode] if values[self.mode] in spec.modes else None
        prompt = Prompt(subject=values[self.subject] or "", motion=values[self.motion] or "")
        try:
            done = convert(
                files, spec, out, prompt=prompt, mode=mode, experts=experts, alpha=_alpha(values[self.alpha]),
                ignore_unmatched=bool(values[self.loose]),
            )  # fmt: skip
        except Unmatched as error:
            raise AdapterError(f"{error}. To go without them: “Leave out keys that have no place”") from error
        said = [line for report in done.reports for line in report.lines(every=False)]
        said.append(f"{done.applied} of {done.applied} keys apply: it is chosen on the left.")
        return out, notices("good", said)


def build() -> TakeInFields:
    """Lay them out."""
    gr.HTML(
        hint(
            "A SynMotion adapter, as “Download” here or a training elsewhere made it: the file says all that it needs. "
            "Or a LoRA of another program (diffusers, PEFT, kohya and musubi-tuner, ComfyUI, diffusion-pipe, "
            "DiffSynth, VideoX-Fun): it does not say what the fields ask. Every key finds its layer, or the file "
            "is refused with the keys that do not. Of a backbone with two experts (Wan 2.2 A14B) choose both "
            "files, or one."
        )
    )
    files = gr.File(
        label="The file", file_types=[".safetensors"], file_count="multiple", elem_id="library-lora", height=110
    )
    name = gr.Textbox(
        "", label="Its name here", placeholder="cartwheel", elem_id="library-name",
        info="Of a SynMotion adapter the file's own where this is empty.",
    )  # fmt: skip
    gr.HTML(hint("For a LoRA of another program alone:"))
    backbone = gr.Dropdown([], label="What it was trained on", elem_id="library-backbone")
    whose = gr.Radio([], label="Whose the files are", visible=False, elem_id="library-whose")
    mode = gr.Radio([], label="Trained to draw", visible=False, elem_id="library-mode")
    with gr.Row():
        subject = gr.Textbox("a person", label="Who moved in its clips", min_width=140, elem_id="library-subject")
        motion = gr.Textbox(
            "", label="What they do", placeholder="does a cartwheel", min_width=140, elem_id="library-motion"
        )
    alpha = gr.Textbox(  # text, not gr.Number: that one shows 0 where nothing is set
        "", label="Its alpha", placeholder="as the file says, else its rank", elem_id="library-alpha",
        info="Only where the file does not say it.",
    )  # fmt: skip
    loose = gr.Checkbox(
        False, label="Leave out keys that have no place", elem_id="library-loose",
        info="For files that were made for more layers than this backbone has.",
    )  # fmt: skip
    take = gr.Button("Take it in", size="md", elem_id="library-take")
    return TakeInFields(
        files=files, name=name, backbone=backbone, whose=whose, mode=mode, subject=subject, motion=motion, alpha=alpha,
        loose=loose, take=take,
    )  # fmt: skip


def whose_choices(files: Sequence[Path]) -> list[tuple[str, str]]:
    """(what a person reads, the answer) of every way in which these files can be the experts'."""
    return [
        (
            ", ".join(f"{file.name}: {_EXPERTS[expert]}" for file, expert in zip(files, own, strict=True)),
            _answer(own, files),
        )
        for own in _orders(len(files))
    ]


def guessed(files: Sequence[Path]) -> str | None:
    """The answer that the files' names give; None where they say nothing, too much, or the same of both.

    >>> guessed([Path("wave_low_noise.safetensors"), Path("wave-HIGH.safetensors")])
    'low_noise high_noise|wave_low_noise.safetensors|wave-HIGH.safetensors'
    >>> guessed([Path("slow-highway.safetensors")])
    """
    said = [set(re.findall(r"(?<![a-z])(high|low)(?:[ _-]?noise)?(?![a-z])", file.stem.lower())) for file in files]

    def fits(own: tuple[str, ...]) -> bool:
        pairs = zip(said, own, strict=True)
        return all(not words or words == {expert.removesuffix("_noise")} for words, expert in pairs)

    fitting = [own for own in _orders(len(files)) if fits(own)]
    return _answer(fitting[0], files) if len(fitting) == 1 else None


def _orders(count: int) -> list[tuple[str, ...]]:
    return list(permutations(_EXPERTS, count))


def _answer(experts: Sequence[str], files: Sequence[Path]) -> str:
    return "|".join([" ".join(experts), *(file.name for file in files)])


def _paths(value: Any) -> list[Path]:
    return [Path(one) for one in (value if isinstance(value, list) else [value]) if one]


def _spec(name: str | None) -> BackboneSpec | None:
    from synmotion_core.backbones import find_spec

    return find_spec(name) if name else None


def _alpha(text: str | None) -> float | None:
    words = (text or "").strip()
    if not words:
        return None
    try:
        value = float(words)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise ConfigError(f"alpha must be a number above 0, got {words[:40]!r}: leave it empty for what the file says")
    return value
