"""Earlier generations of this person, newest first: videos, what they were made with, what can be done with them.

    press in the list ──"use | delete | sheet | gif | learn | all" job number──> handler

A press names a job by its id and a video by its number in it; both are looked up again. GIF and contact sheet are made
when they are asked for, of the decoded frames, in <cache>/exports/<job>/; they go with the job.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.command import same_command
from synmotion_core.config import GenerateRun, motion_name
from synmotion_core.errors import ConfigError, MissingError
from synmotion_core.ui import media, progress
from synmotion_core.ui.asked import Asked, answered
from synmotion_core.ui.blend_fields import drawn_with
from synmotion_core.ui.chosen import MOST_CLIPS, ClipChoice, current, to_memory
from synmotion_core.ui.context import IN_TURN, Studio
from synmotion_core.ui.notices import Updates, empty, guarded, hint, notice, notices, quiet
from synmotion_core.ui.results import results_html

if TYPE_CHECKING:
    from synmotion_core.jobs import JobView
    from synmotion_core.types import Sampled
    from synmotion_core.workspace import Workspace

PAGE = 4  # generations at once
FEW = 4  # videos of each, until all are asked for
MOST_ROWS = 32  # of a contact sheet
SHEET_PX = 96  # of a frame on it, at least
NOTHING = empty("Earlier videos", "What you generate is kept here, with the settings it was made with.")
# a file that was just made is fetched; where the form was filled, it is shown
_AFTER = (
    "() => setTimeout(() => { if (document.querySelector('#gallery-message .sm-error')) return; "
    "document.querySelector('#gallery-file a')?.click(); "
    "if (document.querySelector('#gallery-message .sm-good')) "
    "document.getElementById('gen-adapter').scrollIntoView(); }, 200)"
)


def build(
    studio: Studio,
    again: Callable[[GenerateRun, Mapping[Any, Any]], Updates],
    inputs: set[Any],
    outputs: Sequence[Any],
    changed: gr.State,
) -> gr.State:
    """Lay it out below the form and wire it. again: the form's updates for a run, of `outputs`, from `inputs`, which
    hold the chosen clips.

    changed: a state that says when the list may be another. Returns one that says when a video became a clip.
    """
    with gr.Accordion("Earlier videos", open=False, elem_id="gallery") as whole:
        message = gr.HTML("", elem_id="gallery-message", apply_default_css=False)
        file = gr.HTML("", elem_id="gallery-file", apply_default_css=False)
        with gr.Row(visible=False, elem_id="gallery-sure") as sure:
            really = gr.Button("Delete it and its videos", variant="stop", size="md", elem_id="gallery-really")
            keep = gr.Button("Keep it", size="md", elem_id="gallery-keep")
        shown = media.html_area(elem_id="gallery-list")
        with gr.Row():
            newer = gr.Button("Newer", size="md", scale=0, min_width=90, interactive=False, elem_id="gallery-newer")
            place = gr.HTML("", elem_id="gallery-place", elem_classes="sm-place", apply_default_css=False)
            older = gr.Button("Older", size="md", scale=0, min_width=90, interactive=False, elem_id="gallery-older")
    opened, start, doomed, unfolded = gr.State(False), gr.State(0), gr.State(None), gr.State("")
    learnt = gr.State("")

    def look(begin: int, all_of: str = "") -> Updates:
        found = [view for view in studio.jobs.list() if view.kind == "generate" and view.status not in progress.LIVE]
        begin = min(max(begin, 0), max(len(found) - 1, 0)) // PAGE * PAGE
        end = min(begin + PAGE, len(found))
        return {
            shown: "".join(card(shown, view, whole=view.id == all_of) for view in found[begin:end]) or NOTHING,
            place: hint(f"{begin + 1} to {end} of {len(found)}") if found else "",
            newer: gr.Button(interactive=begin > 0),
            older: gr.Button(interactive=end < len(found)),
            start: begin,
            unfolded: all_of,
        }

    def on_open(values: Mapping[Any, Any]) -> Updates:
        return {**look(0), opened: True}

    def on_change(values: Mapping[Any, Any]) -> Updates:
        return look(values[start], values[unfolded]) if values[opened] else {}

    def on_newer(values: Mapping[Any, Any]) -> Updates:
        return look(values[start] - PAGE)

    def on_older(values: Mapping[Any, Any]) -> Updates:
        return look(values[start] + PAGE)

    def on_press(values: Mapping[Any, Any], event: gr.EventData) -> Updates:
        what, _, rest = str(event.source).partition(" ")
        job, _, number = rest.partition(" ")
        view = generation(studio, job)
        calm = {sure: gr.Row(visible=False), file: ""}
        if what == "use":
            assert isinstance(view.config, GenerateRun)
            return {**calm, **again(view.config, values), message: notice("good", "The form above is as it was then.")}
        if what == "all":
            return {**calm, **look(values[start], view.id)}
        if what == "delete":
            count = len(view.samples)
            films = "its video" if count == 1 else f"its {count} videos"
            asked = notice("warning", f"Delete the generation of {when(view)} with {films}?")
            return {sure: gr.Row(visible=True), doomed: Asked(view.id, asked), message: asked, file: ""}
        if what == "learn":
            clips = with_video(studio, view, number, current(values, studio))
            said = f"{clips[-1].name} is clip {len(clips)}: “{clips[-1].words}”. The next training learns from it, too."
            kept = {studio.clips: clips, studio.chosen: to_memory(clips), learnt: clips[-1].key}
            return {**calm, **kept, message: notice("info", said)}
        made, said = export(studio.workspace, view, number) if what == "gif" else sheet(studio.workspace, view)
        return {**calm, file: link(file, made), message: notices("info", [said] if said else [])}

    def on_really(values: Mapping[Any, Any]) -> Updates:
        view = generation(studio, answered(values[doomed], values[message]))
        studio.jobs.delete(view.id)
        gone = notice("info", f"The generation of {when(view)} is deleted.")
        return {**look(values[start]), sure: gr.Row(visible=False), doomed: None, message: gone, file: ""}

    calm: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 8}
    listed = [shown, place, newer, older, start, unfolded]
    states: set[Any] = {opened, start, unfolded}
    whole.expand(guarded(message, on_open), states, [*listed, opened, message], **calm)
    whole.collapse(lambda: False, None, opened, **calm)
    changed.change(quiet(on_change), states, listed, **calm)
    newer.click(guarded(message, on_newer), states, [*listed, message], **calm)
    older.click(guarded(message, on_older), states, [*listed, message], **calm)
    everything = [*listed, sure, doomed, file, message, learnt, studio.clips, studio.chosen, *outputs]
    pressed = shown.select(
        guarded(message, on_press), {*inputs, *states}, everything, **{**calm, **IN_TURN, "trigger_mode": "once"}
    )
    pressed.then(None, None, None, js=_AFTER)
    told = [*listed, sure, doomed, file, message]
    really.click(guarded(message, on_really), {doomed, message, *states}, told, **calm)
    keep.click(lambda: (gr.Row(visible=False), ""), None, [sure, message], **calm)
    return learnt


def generation(studio: Studio, job: str) -> JobView:
    """A finished generation of this person's. Raises MissingError for anything else."""
    view = studio.jobs.snapshot(job)
    if view.kind != "generate":
        raise MissingError(f"job {job} is no generation")
    return view


def when(view: JobView) -> str:
    """In this computer's time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(view.created))


def card(area: gr.HTML, view: JobView, *, whole: bool) -> str:
    """A generation: its videos, what it was made with, what can be done. whole: all of its videos."""
    run = view.config
    assert isinstance(run, GenerateRun)
    word, tone = progress.STATUS[view.status]
    count = len(view.samples)
    head = f"{when(view)} · {motion_name(run.motion)} · {count} video{'' if count == 1 else 's'}"
    facts = [drawn_with(run), f"seeds {', '.join(map(str, run.seeds))}", f"in {progress.duration(view.seconds)}"]
    numbers = {id(sample): number for number, sample in enumerate(view.samples)}
    some = view if whole else dataclasses.replace(view, samples=first_videos(view))

    def presses(sample: Sampled) -> str:
        number = f" {numbers[id(sample)]}"
        learn = button("learn", view, "Add to the clips", number) if sample.adapted else ""
        return button("gif", view, "GIF", number) + learn

    players = results_html(area, some, presses) if count else ""
    actions = [button("use", view, "Use these settings again")]
    if count:
        actions.append(button("sheet", view, "Contact sheet"))
    if len(some.samples) < count:
        actions.append(button("all", view, f"All {count} videos"))
    actions.append(button("delete", view, "Delete"))
    command = f"<pre>{escape(same_command(run))}</pre>"
    return (
        f'<section class="sm-earlier" data-job="{escape(view.id)}"><p class="sm-title">{escape(head)} '
        f'<span class="sm-chip sm-{tone}">{escape(word)}</span></p>{hint(" · ".join(facts))}'
        f'<div class="sm-players">{players}</div>'
        f'<div class="sm-actions">{"".join(actions)}</div>'
        f'<details class="sm-details"><summary>Made with this command</summary>{command}</details></section>'
    )


def first_videos(view: JobView) -> tuple[Sampled, ...]:
    """FEW videos, each with the one that stands beside it."""
    pairs = list(dict.fromkeys((s.prompt.text, s.seed) for s in view.samples))
    beside = 2 if isinstance(view.config, GenerateRun) and view.config.compare else 1
    kept = set(pairs[: max(1, FEW // beside)])
    return tuple(s for s in view.samples if (s.prompt.text, s.seed) in kept)


def button(what: str, view: JobView, label: str, number: str = "") -> str:
    """A press that the list hears of."""
    pick = f"{what} {escape(view.id)}{number}"
    return f' <button type="button" class="sm-act" data-pick="{pick}">{escape(label)}</button>'


# ------------------------------------------------------------------------------------------------ files


def export(workspace: Workspace, view: JobView, number: str) -> tuple[Path, str | None]:
    """A video as GIF, and what is lost of its rate. Raises MissingError for a number that it has not."""
    from synmotion_core.clips import video
    from synmotion_core.clips.gif import gif, rounding

    sample = video_of(view, number)
    frames, fps = video.read(present(sample))
    path = workspace.exports(view.id) / f"{sample.path.stem}.gif"
    return write(path, gif(frames, fps)), rounding(len(frames), fps)


def sheet(workspace: Workspace, view: JobView) -> tuple[Path, str | None]:
    """The videos as one picture, a row each, and what is left out of it."""
    from synmotion_core.clips import video
    from synmotion_core.clips.frames import contact_sheet, png

    some = view.samples[:MOST_ROWS]
    if not some:
        raise MissingError("this generation has no videos")
    frames = [video.read(present(sample))[0] for sample in some]
    labels = [f"{s.prompt.subject}\nseed {s.seed}{'' if s.adapted else ', no adapter'}" for s in some]
    picture = contact_sheet(frames, labels, scale=max(1, -(-SHEET_PX // frames[0].shape[1])))
    left = len(view.samples) - len(some)
    said = f"The sheet has the first {MOST_ROWS} videos, {left} are left out." if left else None
    return write(workspace.exports(view.id) / "contact-sheet.png", png(picture)), said


def with_video(studio: Studio, view: JobView, number: str, clips: Sequence[ClipChoice]) -> tuple[ClipChoice, ...]:
    """The clips and one more: a video in which a subject does the motion well can teach how others do it.

    Raises MissingError for a number that there is not, ConfigError for one too many or twice the same.
    """
    sample = video_of(view, number)
    source = studio.library.source_of(present(sample))
    if any(clip.source == source for clip in clips):
        raise ConfigError(f"{sample.path.name} is among the clips already")
    if len(clips) >= MOST_CLIPS:
        raise ConfigError(f"{sample.path.name} was not added: a training takes at most {MOST_CLIPS} clips")
    said = sample.prompt
    return (*clips, ClipChoice(source=source, subject=said.subject, motion=said.motion, setting=said.setting))


def video_of(view: JobView, number: str) -> Sampled:
    """Raises MissingError for a number that a generation has not."""
    if not number.isdecimal() or int(number) >= len(view.samples):
        raise MissingError(f"this generation has no video {number[:20]!r}")
    return view.samples[int(number)]


def present(sample: Sampled) -> Path:
    if not sample.path.is_file():
        raise MissingError(f"{sample.path.name} is no longer there")
    return sample.path


def write(path: Path, data: bytes) -> Path:
    from synmotion_core.storage import replacing

    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return path


def link(area: gr.HTML, path: Path) -> str:
    """A file to download, by its own name."""
    url, name, size = escape(media.serve(area, path)), escape(path.name), path.stat().st_size / 1024
    shown = f'<a href="{url}" download="{name}">{name}</a> ({size:.0f} KiB)'
    return f'<div class="sm-notice sm-info" role="status">{shown}</div>'
