"""The Library tab: the adapters that are here, what they show and say of themselves, as files for other programs; files
taken in (take_in_fields.py); and the Hub (hub_fields.py).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from synmotion_core.errors import ConfigError, UserInputError
from synmotion_core.ui import hub_fields, media, take_in_fields
from synmotion_core.ui.adapters import AdapterChoice, about, find_adapter, find_adapters
from synmotion_core.ui.asked import Asked, answered
from synmotion_core.ui.context import Studio, backbone_choices
from synmotion_core.ui.notices import Updates, empty, guarded, hint, notice, notices

MOST_VIDEOS = 8
NOTHING = empty("Adapters", "Train one, fetch one from the Hub, or take in a file: a SynMotion adapter, or a LoRA.")
_CLICK = "() => setTimeout(() => document.querySelector('#library-file a')?.click(), 200)"


def build(studio: Studio) -> dict[str, Any]:
    """Lay the tab out and wire it. Returns what happens when it is selected."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=320):
            adapter = gr.Dropdown([], label="On this machine", elem_id="library-adapter")
            info = gr.HTML(NOTHING, elem_id="library-about", apply_default_css=False)
            videos = media.html_area(elem_id="library-videos")
            with gr.Row():
                use = gr.Button("Generate with it", variant="primary", size="md", elem_id="library-use", min_width=165)
                download = gr.Button("Download", size="md", elem_id="library-download", min_width=100)
                remove = gr.Button("Delete", size="md", elem_id="library-delete", min_width=90)
            with gr.Row(visible=False, elem_id="library-sure") as sure:
                really = gr.Button("Delete it for good", variant="stop", size="md", elem_id="library-really")
                keep = gr.Button("Keep it", size="md", elem_id="library-keep")
            message = gr.HTML("", elem_id="library-message", apply_default_css=False)
            file = gr.HTML("", elem_id="library-file", apply_default_css=False)
            with gr.Accordion("For other programs", open=False):
                gr.HTML(hint("Its LoRA alone. What a SynMotion adapter learnt besides has no place in other programs."))
                with gr.Row():
                    format = gr.Radio(
                        [("diffusers", "diffusers"), ("ComfyUI", "comfyui")], value="diffusers", label="Format",
                        elem_id="library-format",
                    )  # fmt: skip
                    expert = gr.Dropdown(
                        [("for high noise", "high_noise"), ("for low noise", "low_noise")], value="high_noise",
                        label="Which expert", visible=False, elem_id="library-expert",
                    )  # fmt: skip
                export = gr.Button("Write the file", size="md", elem_id="library-export")
            with gr.Accordion("Take in an adapter or LoRA file", open=False):
                taking = take_in_fields.build()
        with gr.Column(scale=6, min_width=320):
            hub = hub_fields.build(studio, adapter)

    doomed, looked_at = gr.State(None), gr.State(None)

    def chosen(values: Mapping[Any, Any]) -> AdapterChoice:
        if not values[adapter]:
            raise ConfigError("choose an adapter first")
        return find_adapter(studio.workspace, values[adapter], studio.assets)

    def mine(values: Mapping[Any, Any]) -> AdapterChoice:
        own = chosen(values)
        if own.id.startswith("ready/"):
            raise ConfigError("this one ships with the studio and stays")
        return own

    def show(own: AdapterChoice | None) -> Updates:
        there, yours = own is not None, own is not None and own.id.startswith("mine/")
        return {
            info: NOTHING if own is None else about(own) + hub_fields.came_from(own.path),
            videos: "" if own is None else videos_html(videos, studio, own),
            use: gr.Button(interactive=there),
            download: gr.Button(interactive=there),
            remove: gr.Button(interactive=yours),
            sure: gr.Row(visible=False),
            expert: gr.Dropdown(visible=there and _two_experts(own)),
            file: "",
            looked_at: None if own is None else own.id,
        }

    def offer(wanted: str | None) -> Updates:
        found, problems = find_adapters(studio.workspace, studio.assets)
        own = next((choice for choice in found if choice.id == wanted), found[0] if found else None)
        choices = [(choice.label, choice.id) for choice in found]
        return {
            adapter: gr.Dropdown(choices=choices, value=own.id if own else None),
            taking.backbone: gr.Dropdown(choices=backbone_choices()),
            message: notices("warning", problems),
            **show(own),
        }

    def on_select(values: Mapping[Any, Any]) -> Updates:
        return offer(values[adapter])

    def arrived_from(source: gr.State) -> tuple[Any, Any, Any]:
        """The wiring of an adapter that has arrived: "<anything> <its id>" has it chosen."""

        def on_arrived(values: Mapping[Any, Any]) -> Updates:
            return offer(values[source].partition(" ")[2])

        return guarded(message, on_arrived), {source}, listed

    def on_choose(values: Mapping[Any, Any]) -> Updates:
        own = chosen(values)  # a list that was opened and left, or heard of twice, changes nothing
        return {} if own.id == values[looked_at] else show(own)

    def on_download(values: Mapping[Any, Any]) -> Updates:
        return {file: link(file, chosen(values).path)}

    def on_delete(values: Mapping[Any, Any]) -> Updates:
        own = mine(values)
        return {sure: gr.Row(visible=True), doomed: Asked(own.id, own.id)}

    def on_really(values: Mapping[Any, Any]) -> Updates:
        from synmotion_core.adapters.origin import about_folder

        answered(values[doomed], values[adapter])
        own = mine(values)
        own.path.unlink(missing_ok=True)
        shutil.rmtree(about_folder(own.path), ignore_errors=True)
        return {**offer(None), message: notice("info", f"{own.path.stem} is deleted.")}

    def on_export(values: Mapping[Any, Any]) -> Updates:
        from synmotion_core.adapters.export import export as write

        own = chosen(values)
        with tempfile.TemporaryDirectory() as folder:
            which = values[expert] if _two_experts(own) else None
            tail = f"-{which}" if which else ""
            done = write(
                own.path, Path(folder) / f"{own.path.stem}-{values[format]}{tail}.safetensors", format=values[format],
                expert=which,
            )  # fmt: skip
            made = link(file, done.path)
        said = f"Written and read back: {done.keys} of {done.keys} keys apply. It is used {done.usage}."
        left = f"{len(done.left)} tensors, its embeddings, do not travel: the motion is weaker without them."
        more = notice("info", f"Of its type: {done.dtype}.") if done.dtype else ""
        return {file: made + notice("good", said) + more + (notice("warning", left) if done.left else "")}

    def on_take(values: Mapping[Any, Any]) -> Updates:
        path, said = taking.taken(values, studio.workspace)
        return {**offer(f"mine/{path.name}"), message: said}

    calm: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 8}
    shown = [info, videos, use, download, remove, sure, expert, file, message, looked_at]
    listed = [*shown, adapter, taking.backbone]
    adapter.input(guarded(message, on_choose), {adapter, looked_at}, shown, **calm)
    download.click(guarded(message, on_download), {adapter}, [file, message], **calm).then(None, None, None, js=_CLICK)
    remove.click(guarded(message, on_delete), {adapter}, [sure, doomed, message], **calm)
    keep.click(lambda: gr.Row(visible=False), None, sure, **calm)
    really.click(guarded(message, on_really), {adapter, doomed}, listed, **calm)
    export.click(guarded(message, on_export), {adapter, format, expert}, [file, message], **calm)
    about_files = {taking.files, taking.backbone}
    taking.files.change(guarded(message, taking.on_files), about_files, [taking.whose, message], **calm)
    on_backbone = guarded(message, taking.on_backbone)
    taking.backbone.input(on_backbone, about_files, [taking.whose, taking.mode, message], **calm)
    taking.take.click(guarded(message, on_take), taking.asked, listed, **calm)
    hub["arrived"].change(*arrived_from(hub["arrived"]), **calm)
    select = (guarded(message, on_select), {adapter}, listed)
    return {"select": select, "load": hub["load"], "use": use, "adapter": adapter, "arrived_from": arrived_from}


def _two_experts(own: AdapterChoice | None) -> bool:
    from synmotion_core.backbones import SPECS

    spec = None if own is None else SPECS.get(own.info.backbone)
    return spec is not None and spec.boundary_ratio is not None


def link(area: gr.HTML, path: Path) -> str:
    """A file to download, by its own name."""
    url, size = escape(media.serve(area, path)), path.stat().st_size / 2**20
    name = escape(path.name)
    shown = f'<a href="{url}" download="{name}">{name}</a> ({size:.1f} MiB)'
    return f'<div class="sm-notice sm-info" role="status">{shown}</div>'


def videos_html(area: gr.HTML, studio: Studio, own: AdapterChoice) -> str:
    """What it has drawn: at its training, or what came with it, in step."""
    figures = []
    for path, words in videos_of(studio, own)[:MOST_VIDEOS]:
        try:
            url = media.serve(area, path)
        except UserInputError:  # deleted since
            continue
        figures.append(media.figure(media.Shown(url=url, title=words)))
    return media.side_by_side(figures, name=f"what {own.path.stem} drew", title="What it drew") if figures else ""


def videos_of(studio: Studio, own: AdapterChoice) -> list[tuple[Path, str]]:
    """Videos of an adapter with the words that each was asked for with, the last step's first."""
    from synmotion_core.adapters.origin import origin

    came = origin(own.path)
    if came is not None:
        return list(came.videos)
    for view in studio.jobs.list():
        if view.kind == "train" and view.result == own.path:
            drawn = [sample for sample in view.samples if sample.adapted and sample.step]
            last = max((sample.step for sample in drawn), default=0)
            return [(sample.path, sample.prompt.text) for sample in drawn if sample.step == last]
    return []
