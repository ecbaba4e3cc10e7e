"""Saved sets of clips on the Clips tab: keep the chosen ones under a name, open, delete, send and receive as a zip."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.config import ClipSource
from synmotion_core.datasets import Datasets, zipped
from synmotion_core.errors import ClipError, ConfigError, MissingError
from synmotion_core.ui import media
from synmotion_core.ui.asked import Asked, answered
from synmotion_core.ui.chosen import MOST_CLIPS, ClipChoice, Library, in_words, limits_here, read_memory
from synmotion_core.ui.notices import Updates, guarded, hint, notice, notices, quiet

if TYPE_CHECKING:
    from synmotion_core.ui.context import Studio

_ABOUT = (
    "A set keeps the chosen clips with their words and cuts. As a .zip it goes to another studio; unzipped, it is a "
    "folder that the command line takes: train --clips FOLDER."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFields:
    """The part of the tab, laid out."""

    which: gr.Dropdown
    open: gr.Button
    send: gr.Button
    delete: gr.Button
    sure: gr.Row
    really: gr.Button
    keep: gr.Button
    name: gr.Textbox
    replace: gr.Checkbox
    save: gr.Button
    receive: gr.UploadButton
    message: gr.HTML
    file: gr.HTML


def set_fields() -> SetFields:
    """Folded away; laid out where this is called."""
    with gr.Accordion("Saved sets of clips", open=False, elem_id="clips-sets"):
        gr.HTML(hint(_ABOUT), apply_default_css=False)
        which = gr.Dropdown([], value=None, label="Set", elem_id="sets-which")
        with gr.Row():
            opening = gr.Button("Open", size="md", min_width=90, elem_id="sets-open")
            send = gr.Button("Download .zip", size="md", min_width=130, elem_id="sets-send")
            delete = gr.Button("Delete", size="md", min_width=90, elem_id="sets-delete")
        with gr.Row(visible=False, elem_id="sets-sure") as sure:
            really = gr.Button("Delete it for good", variant="stop", size="md", elem_id="sets-really")
            keep = gr.Button("Keep it", size="md", elem_id="sets-keep")
        message = gr.HTML("", elem_id="sets-message", apply_default_css=False)
        file = gr.HTML("", elem_id="sets-file", apply_default_css=False)
        with gr.Row():
            name = gr.Textbox(
                label="Name for the chosen clips", placeholder="my cartwheels", max_length=100, min_width=200,
                elem_id="sets-name",
            )  # fmt: skip
            replace = gr.Checkbox(False, label="Replace the set of this name", min_width=200, elem_id="sets-replace")
        with gr.Row():
            save = gr.Button("Save the chosen clips", size="md", min_width=180, elem_id="sets-save")
            receive = gr.UploadButton(
                "Take in a .zip", size="md", file_types=[".zip"], min_width=140, elem_id="sets-receive"
            )
    return SetFields(
        which=which, open=opening, send=send, delete=delete, sure=sure, really=really, keep=keep, name=name,
        replace=replace, save=save, receive=receive, message=message, file=file,
    )  # fmt: skip


def wire(
    studio: Studio,
    fields: SetFields,
    chosen: Callable[[Mapping[Any, Any]], Sequence[ClipChoice]],
    changed: Callable[[Sequence[ClipChoice], Mapping[Any, Any]], Updates],
    inputs: set[Any],
    outputs: Sequence[Any],
    how: Mapping[str, Any],
) -> tuple[Any, Any, Any]:
    """Join it to the tab: `chosen` reads its clips, `changed` shows others. Returns what runs when the page loads."""
    doomed = gr.State(None)
    everything = {*inputs, fields.which, fields.name, fields.replace, fields.receive, doomed}
    own = [fields.which, fields.sure, fields.name, fields.replace, fields.message, fields.file]
    shown = [*outputs, *own, doomed]

    def sets() -> Datasets:
        return Datasets(studio.workspace)

    def listed(value: str | None, said: str = "") -> Updates:
        choices = [(found.words, found.name) for found in sets().all()]
        value = value if value in [name for _, name in choices] else None
        return {fields.which: gr.Dropdown(choices=choices, value=value), fields.file: "",
                fields.sure: gr.Row(visible=False), fields.message: said}  # fmt: skip

    def wanted(values: Mapping[Any, Any]) -> str:
        if not isinstance(values[fields.which], str):
            raise ConfigError("choose a set first")
        return values[fields.which]

    def on_save(values: Mapping[Any, Any]) -> Updates:
        name, choices = (values[fields.name] or "").strip(), chosen(values)
        if not name:
            raise ConfigError("the set needs a name, for example “cartwheels”")
        clips, names = as_sources(choices, studio.library)
        sets().save(name, clips, replace=bool(values[fields.replace]), names=names)
        said = notice("good", f"“{name}” is saved: {in_words(choices)}.")
        return {**listed(name, said), fields.name: "", fields.replace: False}

    def on_open(values: Mapping[Any, Any]) -> Updates:
        name, before = wanted(values), chosen(values)
        choices, problems = as_choices(sets().clips(name), studio.library)
        said = f"“{name}” is open: {in_words(choices)}."
        if before and tuple(before) != choices:
            said += f" They take the place of the {len(before)} clips before."
        told = notice("good", said) + notices("warning", problems)
        return {**changed(choices, values), **listed(name, told)}

    def on_send(values: Mapping[Any, Any]) -> Updates:
        name = wanted(values)
        with tempfile.TemporaryDirectory(prefix=".", dir=studio.workspace.datasets) as folder:
            target = Path(folder) / f"{name}.zip"
            zipped.send(sets(), name, target)
            url, size = media.serve(fields.file, target), target.stat().st_size / 2**20
        text = f"{name}.zip ({size:.1f} MiB)"
        link = f'<a href="{escape(url)}" download="{escape(name)}.zip">Download {escape(text)}</a>'
        return {fields.file: f'<div class="sm-notice sm-good" role="status">{link}</div>'}

    def on_delete(values: Mapping[Any, Any]) -> Updates:
        name = wanted(values)
        sets().folder(name)
        return {fields.sure: gr.Row(visible=True), fields.file: "", doomed: Asked(name, name)}

    def on_really(values: Mapping[Any, Any]) -> Updates:
        name = answered(values[doomed], wanted(values))
        sets().delete(name)
        return listed(None, notice("info", f"“{name}” is deleted. Clips that are chosen here stay."))

    def on_keep() -> Updates:
        return {fields.sure: gr.Row(visible=False)}

    def on_receive(values: Mapping[Any, Any]) -> Updates:
        if not values[fields.receive]:
            return {}
        got = zipped.receive(sets(), Path(values[fields.receive]), limits=limits_here())
        said = notice("good", f"“{got.name}” was taken in: {got.num_clips} clips. Press Open to choose them.")
        return listed(got.name, said + notices("warning", got.notes))

    def on_load(values: Mapping[Any, Any]) -> Updates:
        return listed(values[fields.which])

    def on_which() -> Updates:
        return {fields.sure: gr.Row(visible=False), fields.file: "", fields.message: ""}

    for part, act in ((fields.save.click, on_save), (fields.open.click, on_open), (fields.send.click, on_send),
                      (fields.delete.click, on_delete), (fields.really.click, on_really),
                      (fields.receive.upload, on_receive)):  # fmt: skip
        part(guarded(fields.message, act), everything, shown, **how)
    fields.keep.click(guarded(fields.message, on_keep), None, own, **how)
    fields.which.input(quiet(on_which), None, own, **how)
    return quiet(on_load), everything, own


def keep_aside(choices: Sequence[ClipChoice], name: str, studio: Studio) -> str:
    """Save clips that others take the place of, under a name that is free; returns it. Raises StorageError."""
    sets = Datasets(studio.workspace)
    free = sets.free_name(name)
    clips, names = as_sources(choices, studio.library)
    sets.save(free, clips, names=names)
    return free


def as_sources(choices: Sequence[ClipChoice], library: Library) -> tuple[tuple[ClipSource, ...], dict[Path, str]]:
    """Chosen clips as a set keeps them, words or not, and how their files are called."""
    clips, names = [], {}
    for choice in choices:
        path = library.path(choice.source)
        names[path] = choice.name
        clips.append(
            ClipSource(
                path=path,
                subject=choice.subject,
                motion=choice.motion,
                setting=choice.setting,
                start_s=choice.start_s,
                end_s=choice.end_s,
                resample_fps=choice.resample_fps,
            )
        )
    return tuple(clips), names


def as_choices(clips: Sequence[ClipSource], library: Library) -> tuple[tuple[ClipChoice, ...], tuple[str, ...]]:
    """Clips as the chosen ones; a sentence for each that cannot be. Raises StorageError."""
    parts: dict[str, int] = {}
    rows, problems = [], []
    if len(clips) > MOST_CLIPS:
        problems.append(
            f"The first {MOST_CLIPS} of {len(clips)} clips are chosen: this page takes no more for a training."
        )
    for clip in clips[:MOST_CLIPS]:
        try:
            source = library.source_of(clip.path)
        except (ClipError, MissingError) as error:
            problems.append(str(error))
            continue
        parts[source] = parts.get(source, 0) + 1
        rows.append({"source": source, "part": parts[source], "subject": clip.subject, "motion": clip.motion,
                     "setting": clip.setting, "start_s": clip.start_s, "end_s": clip.end_s,
                     "resample_fps": clip.resample_fps})  # fmt: skip
    choices, more = read_memory({"clips": rows}, library)
    return choices, (*problems, *more)
