"""First pictures in a form: a strip of the chosen ones, one's own to add, ready ones; on the Generate and Train tabs.

What is added comes to what was chosen before, as this side knows it. A press means the pictures that the browser
showed then: `shown` goes with it, and each of its ids is looked up again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.clips.image import IMAGE_ENDINGS
from synmotion_core.errors import ConfigError, MissingError, UserInputError
from synmotion_core.ui.forms import MOST_VIDEOS, lines
from synmotion_core.ui.notices import Updates, guarded, hint, notices, quiet
from synmotion_core.ui.pictures import strip_html

if TYPE_CHECKING:
    from synmotion_core.interfaces import BackboneSpec
    from synmotion_core.ui.context import Studio

READY = 4  # of the ready pictures at once


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFields:
    """The widgets. chosen: ids of pictures (pictures.py), a tuple; shown: the same as text, one a line."""

    box: gr.Accordion
    strip: gr.HTML
    add: gr.UploadButton
    ready: gr.Button
    none: gr.Button
    chosen: gr.State
    shown: gr.Textbox

    @property
    def parts(self) -> list[Any]:
        """What `put` fills."""
        return [self.strip, self.chosen, self.shown]

    def put(self, studio: Studio, wanted: Sequence[str], subjects: Sequence[str], spec: BackboneSpec) -> Updates:
        """These pictures, as the backbone will see them at its default shape."""
        shown = strip_html(studio.pictures, wanted, subjects, spec)
        return {self.chosen: tuple(wanted), self.shown: "\n".join(wanted), self.strip: shown}

    def images(self, studio: Studio, values: Mapping[Any, Any]) -> tuple[Path, ...]:
        """The files of what is shown. Raises MissingError for one that is not there any more."""
        return tuple(studio.pictures.path(wanted) for wanted in (values[self.shown] or "").splitlines())


def build(prefix: str, about: str, *, visible: bool = True) -> PictureFields:
    """Lay them out, folded away; elements are called `prefix`-begin and so on."""
    with gr.Accordion("Begin with pictures", open=False, visible=visible, elem_id=f"{prefix}-begin") as box:
        gr.HTML(hint(about))
        strip = gr.HTML("", elem_id=f"{prefix}-pictures", apply_default_css=False)
        with gr.Row():
            add = gr.UploadButton(
                "Add pictures",
                file_count="multiple",
                file_types=list(IMAGE_ENDINGS),
                size="md",
                min_width=90,
                elem_id=f"{prefix}-add",
            )
            ready = gr.Button("Ready ones", size="md", min_width=90, elem_id=f"{prefix}-ready")
            none = gr.Button("None", size="md", min_width=90, elem_id=f"{prefix}-none")
    chosen, shown = gr.State(()), gr.Textbox("", visible=False)
    return PictureFields(box=box, strip=strip, add=add, ready=ready, none=none, chosen=chosen, shown=shown)


def wire(
    studio: Studio,
    laid: PictureFields,
    subjects: gr.Textbox,
    spec_of: Callable[[Mapping[Any, Any]], BackboneSpec],
    inputs: set[Any],
    message: gr.HTML,
    how: Mapping[str, Any],
    *,
    sizes: Sequence[Any] = (),
) -> None:
    """subjects: whose each picture is, a line each; spec_of: the backbone at the size that would be drawn, from the
    values of `inputs`; sizes: fields that change it."""

    def begin_with(wanted: Sequence[str], values: Mapping[Any, Any], who: str | None = None) -> Updates:
        words = lines(values[subjects] if who is None else who)
        return laid.put(studio, wanted, words, spec_of(values))

    def on_add(values: Mapping[Any, Any]) -> Updates:
        wanted, said = list(values[laid.chosen]), []
        for path in values[laid.add] or []:
            try:
                if len(wanted) >= MOST_VIDEOS:
                    raise ConfigError(f"{Path(path).name} was not added: at most {MOST_VIDEOS} pictures are taken")
                wanted.append(studio.pictures.add(Path(path), spec_of(values)))
            except UserInputError as error:
                said.append(str(error))
        return {**begin_with(wanted, values), message: notices("error", said)}

    def on_ready(values: Mapping[Any, Any]) -> Updates:
        if not studio.pictures.ready:
            raise MissingError("the ready pictures are not installed: assets/pictures is missing")
        some = dict(list(studio.pictures.ready.items())[:READY])
        who = "\n".join(some.values())
        return {subjects: who, **begin_with(tuple(some), values, who)}

    def on_none(values: Mapping[Any, Any]) -> Updates:
        return begin_with((), values)

    def on_subjects(values: Mapping[Any, Any]) -> Updates:
        return {laid.strip: begin_with(values[laid.chosen], values)[laid.strip]}

    everything = {*inputs, subjects, laid.chosen, laid.add}
    begun = [*laid.parts, subjects, message]
    one_by_one = {**how, "concurrency_id": f"pictures {laid.box.elem_id}", "concurrency_limit": 1}
    turn = {**one_by_one, "trigger_mode": "multiple"}
    for button, handler in ((laid.ready, on_ready), (laid.none, on_none)):
        button.click(guarded(message, handler), everything, begun, **turn)
    laid.add.upload(guarded(message, on_add), everything, begun, **turn)
    seen_anew = [subjects.change, *(part.change for part in sizes)]
    gr.on(seen_anew, quiet(on_subjects), everything, laid.strip, **{**one_by_one, "trigger_mode": "always_last"})
