"""The Clips tab: add clips, one's own or examples, say what they show, cut them, hear what the clip doctor says.

Every change is kept at once, in this browser (chosen.py); nothing is dropped or re-timed unless a person asked for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from synmotion_core.clip_files import VIDEO_ENDINGS
from synmotion_core.clips import doctor
from synmotion_core.config import MOST_FPS, motion_name
from synmotion_core.errors import ClipError, ConfigError, UserInputError
from synmotion_core.ui import camera, dataset_fields, media
from synmotion_core.ui.camera import camera_fields
from synmotion_core.ui.chosen import (
    MOST_CLIPS,
    ClipChoice,
    ExampleSet,
    Library,
    Look,
    current,
    example_sets,
    read_memory,
    to_memory,
)
from synmotion_core.ui.clip_cards import (
    END,
    NO_CHOICE,
    NO_CLIPS,
    RATE,
    START,
    findings_html,
    grid_html,
    player_html,
    summary_html,
)
from synmotion_core.ui.context import IN_TURN, Studio, scroll_to
from synmotion_core.ui.dataset_fields import set_fields
from synmotion_core.ui.notices import BUG, Updates, guarded, hint, notice, notices, quiet
from synmotion_core.ui.timeline import chosen_cut, timeline_area, timeline_html

log = logging.getLogger(__name__)


def with_examples(choices: Sequence[ClipChoice], wanted: ExampleSet) -> tuple[tuple[ClipChoice, ...], str]:
    """A set of examples in place of other examples; one's own clips stay. Returns the choices and what happened."""
    own = tuple(c for c in choices if c.is_upload)
    gone = [c for c in choices if not c.is_upload and c.motion != wanted.motion]
    text = f"{len(wanted.clips)} example clips of “{motion_name(wanted.motion)}”."
    if gone:
        text += f" They take the place of the {len(gone)} examples before, since one adapter learns one motion."
    return (*own, *wanted.clips), text


def build(studio: Studio) -> dict[str, Any]:
    """Lay the tab out and wire it. Returns what runs when the page loads."""
    sets = example_sets(studio.assets)
    with gr.Row(equal_height=False):
        with gr.Column(scale=7, min_width=320):
            with gr.Row(equal_height=False):
                files = gr.File(
                    label="Your own clips",
                    file_count="multiple",
                    file_types=list(VIDEO_ENDINGS),
                    height=150,
                    min_width=260,
                    elem_id="clips-upload",
                )
                with gr.Column(min_width=260):
                    gr.HTML(
                        '<p class="sm-title">Or take ready examples</p>'
                        + hint("A person doing something the backbone has never seen."),
                        apply_default_css=False,
                    )
                    with gr.Row():
                        buttons = [
                            gr.Button(
                                f"{motion_name(s.motion)} ({len(s.clips)})",
                                size="sm",
                                min_width=110,
                                elem_id=f"example-{i}",
                                elem_classes="example-set",
                            )
                            for i, s in enumerate(sets)
                        ]
                    if not sets:
                        gr.HTML(
                            hint("The examples are not installed: assets/clips is missing."), apply_default_css=False
                        )
            recording = camera_fields()
            with gr.Row(equal_height=False):
                all_subject = gr.Textbox(
                    "",
                    label="Subject in all clips",
                    placeholder="a person",
                    min_width=130,
                    max_length=100,
                    elem_id="all-subject",
                )
                all_motion = gr.Textbox(
                    "",
                    label="Motion in all clips",
                    placeholder="claps",
                    min_width=130,
                    max_length=100,
                    elem_id="all-motion",
                )
                use_words = gr.Button(
                    "Use for all", size="md", min_width=110, scale=0, elem_id="all-use", elem_classes="sm-align"
                )
            message = gr.HTML("", elem_id="clips-message", apply_default_css=False)
            summary = gr.HTML("", elem_id="clips-summary", apply_default_css=False)
            grid = media.html_area(elem_id="clips-grid", value=NO_CLIPS)
            with gr.Row():
                fix_all = gr.Button(
                    "Do what the doctor proposes for all",
                    size="md",
                    visible=False,
                    min_width=220,
                    elem_id="clips-fix-all",
                )
                clear = gr.Button("Remove all clips", size="md", visible=False, min_width=140, elem_id="clips-clear")
            sets_of_clips = set_fields()
        with gr.Column(scale=5, min_width=320):
            with gr.Column(elem_id="clip-inspect"):
                player = media.html_area(elem_id="clip-player", value=NO_CHOICE)
                timeline = timeline_area(elem_id="clip-timeline")
                findings = gr.HTML("", elem_id="clip-findings", apply_default_css=False)
            with gr.Column(visible=False, elem_id="clip-editor") as editor:
                with gr.Row():
                    subject = gr.Textbox(
                        label="Subject", placeholder="a person", min_width=130, max_length=100, elem_id="clip-subject"
                    )
                    motion = gr.Textbox(
                        label="Motion", placeholder="claps", min_width=130, max_length=100, elem_id="clip-motion"
                    )
                with gr.Row():
                    start_s = gr.Number(label=START, step=0.05, min_width=100, elem_id="clip-start")
                    end_s = gr.Number(label=END, placeholder="end", step=0.05, min_width=100, elem_id="clip-end")
                    resample = gr.Number(
                        label=RATE,
                        placeholder="as it is",
                        step=1,
                        min_width=100,
                        elem_id="clip-fps",
                    )
                with gr.Row():
                    fix = gr.Button(
                        "Do what the doctor proposes",
                        size="md",
                        visible=False,
                        variant="primary",
                        min_width=200,
                        elem_id="clip-fix",
                    )
                    split = gr.Button(
                        "Split at the cuts", size="md", visible=False, min_width=150, elem_id="clip-split"
                    )
                    remove = gr.Button("Remove this clip", size="md", min_width=130, elem_id="clip-remove")
    # The key of the open clip. In the browser, not in a gr.State: an edit is then sent with the clip that was
    # edited, whatever was pressed since.
    editing = gr.Textbox("", visible=False)
    showing = gr.State("")  # the same as this side knows it: answers may be asked for in another order than was pressed
    # A cut that was refused, (key, seconds by name), until both of its ends together are one: those who move a cut to
    # behind its old end type its beginning first.
    refused = gr.State(None)
    edits = {"subject": subject, "motion": motion, "start_s": start_s, "end_s": end_s, "resample_fps": resample}

    def spec_of(values: Mapping[Any, Any]) -> Any:
        return values[studio.judged].spec

    def chosen(values: Mapping[Any, Any]) -> tuple[ClipChoice, ...]:
        return current(values, studio)

    def picked(key: str, choices: Sequence[ClipChoice]) -> int | None:
        return next((i for i, choice in enumerate(choices) if choice.key == key), None)

    def overview(choices: Sequence[ClipChoice], values: Mapping[Any, Any]) -> tuple[Updates, list[Look]]:
        spec = spec_of(values)
        looks = studio.library.looks(choices, spec)
        updates: Updates = {
            summary: summary_html(choices, looks, spec, values[studio.judged].said),
            grid: grid_html(grid, studio.library, choices, looks),
            fix_all: gr.Button(visible=sum(k.fix is not None for k in looks) > 1),
            clear: gr.Button(visible=bool(choices)),
        }
        return updates, looks

    def closed() -> Updates:
        empty = dict.fromkeys((timeline, findings, editing, showing), "")
        return {player: NO_CHOICE, editor: gr.Column(visible=False), refused: None, **empty}

    def told(choice: ClipChoice, look: Look, spec: Any) -> Updates:
        """What there is to see and to hear of the open clip."""
        return {
            player: player_html(player, studio.library, choice, look, spec),
            timeline: timeline_html(studio.library, choice, look, spec),
            findings: findings_html(look),
            fix: gr.Button(visible=look.fix is not None),
            split: gr.Button(visible=len(look.takes) > 1),
        }

    def numbers(new: ClipChoice, was: ClipChoice | None = None, values: Mapping[Any, Any] | None = None) -> Updates:
        """The open clip's number fields; with `was` those that have changed alone, since others may be being typed in,
        unless one of them holds what was refused.
        """
        names = [name for name in _NUMBERS if was is None or getattr(new, name) != getattr(was, name)]
        if names and values is not None and (values[refused] or ("",))[0] == new.key:
            names = list(_NUMBERS)
        return {**{edits[name]: getattr(new, name) for name in names}, **({refused: None} if names else {})}

    def opened(index: int, choices: Sequence[ClipChoice], look: Look, spec: Any) -> Updates:
        choice = choices[index]
        return {
            **told(choice, look, spec),
            editor: gr.Column(visible=True),
            editing: choice.key,
            showing: choice.key,
            subject: choice.subject,
            motion: choice.motion,
            **numbers(choice),
        }

    def changed(choices: Sequence[ClipChoice], values: Mapping[Any, Any], *, keep: int | None = None) -> Updates:
        """After any change: remember it, show all, and the clip `keep` open."""
        spec = spec_of(values)
        updates, looks = overview(choices, values)
        detail = closed() if keep is None else opened(keep, choices, looks[keep], spec)
        return {**remember(choices), **updates, **detail}

    def changed_beside(choices: Sequence[ClipChoice], values: Mapping[Any, Any], *, anew: bool = True) -> Updates:
        """The same where the clip that is open stays open: its words, and numbers that have not changed, stay as they
        are typed. `anew`: it may be another one now, or judged in another way.
        """
        updates, looks = overview(choices, values)
        index, before = picked(values[showing], choices), chosen(values)
        detail: Updates = {} if index is not None else closed()
        if index is not None and anew:
            new, was = choices[index], picked(values[showing], before)
            detail = told(new, looks[index], spec_of(values))
            detail |= numbers(new, None if was is None else before[was], values)
        return {**remember(choices), **updates, **detail}

    def remember(choices: Sequence[ClipChoice]) -> Updates:
        return {studio.clips: tuple(choices), studio.chosen: to_memory(choices)}

    def take_in(paths: Sequence[str], values: Mapping[Any, Any], *, stem: str = "", show: bool = False) -> Updates:
        """Files from outside become clips with the words for all; `show` opens the last one."""
        choices, said = list(chosen(values)), []
        before = len(choices)
        for path in map(Path, paths):
            try:
                if len(choices) >= MOST_CLIPS:
                    raise ConfigError(f"{path.name} was not added: a training takes at most {MOST_CLIPS} clips")
                source = studio.library.add(path, stem=stem)
                if any(c.source == source for c in choices):
                    raise ClipError(f"{path.name} is already among the clips")
                choices.append(
                    ClipChoice(source=source, subject=values[all_subject].strip(), motion=values[all_motion].strip())
                )
            except UserInputError as error:
                said.append(str(error))
        if show and len(choices) > before:
            updates = changed(choices, values, keep=len(choices) - 1)
        else:
            updates = changed_beside(choices, values, anew=False)
        return {**updates, message: notices("error", said)}

    def on_upload(values: Mapping[Any, Any]) -> Updates:
        return {**take_in(values[files] or [], values), files: None}

    def on_recorded(values: Mapping[Any, Any]) -> Updates:
        came = [values[recording]] if values[recording] else []
        try:
            updates = take_in(came, values, stem=camera.NAME, show=True)
        except UserInputError as error:
            updates = {message: notice("error", str(error))}
        except Exception:
            log.exception("a recording was not taken in")
            updates = {message: notice("error", BUG)}
        return {**updates, recording: None}  # whatever came of it: a field that holds a file takes no other

    def on_examples(index: int) -> Any:
        def take(values: Mapping[Any, Any]) -> Updates:
            choices, said = with_examples(chosen(values), sets[index])
            return {**changed(choices, values), message: notice("info", said)}

        return take

    def on_words(values: Mapping[Any, Any]) -> Updates:
        from synmotion_core.types import Prompt

        prompt = Prompt(subject=values[all_subject], motion=values[all_motion])
        choices = [replace(c, subject=prompt.subject, motion=prompt.motion) for c in chosen(values)]
        if not choices:
            raise ConfigError("there are no clips yet: add some first, new clips take these words")
        return changed(choices, values, keep=picked(values[editing], choices))

    def on_pick(values: Mapping[Any, Any], event: gr.EventData) -> Updates:
        choices = chosen(values)
        index = picked(str(event.source), choices)
        if index is None:
            return closed()
        spec = spec_of(values)
        return opened(index, choices, studio.library.looks(choices, spec)[index], spec)

    def on_edit(name: str) -> Callable[[Mapping[Any, Any]], Updates]:
        """Leaving a field changes what it is about alone: the others may be as they were before a press that is still
        being answered.
        """

        def leave(values: Mapping[Any, Any]) -> Updates:
            choices = list(chosen(values))
            index = picked(values[editing], choices)
            if index is None:
                return {}
            was, typed = choices[index], {name: values[edits[name]]}
            key, seconds = values[refused] or ("", {})
            if name in _ENDS and key == was.key:
                typed = {**seconds, **typed}
            try:
                new = edited(was, **{**_fields(was), **typed})
            except ConfigError as error:
                waiting = {refused: (was.key, typed)} if name in _ENDS else {}
                return {message: notice("error", str(error)), **waiting}
            return {**edit(choices, index, new, values), **({refused: None} if name in _ENDS else {})}

        return leave

    def on_trim(values: Mapping[Any, Any], event: gr.EventData) -> Updates:
        """The time line's ends: as if the seconds had been typed."""
        key, start, end = chosen_cut(event)
        choices = list(chosen(values))
        index = picked(key, choices)
        if index is None:
            return {}
        new = edited(choices[index], **{**_fields(choices[index]), "start_s": start, "end_s": end})
        updates = edit(choices, index, new, values)
        at = {start_s: start, end_s: end, refused: None}
        return {**updates, **at} if key == values[showing] else updates

    def edit(choices: list[ClipChoice], index: int, new: ClipChoice, values: Mapping[Any, Any]) -> Updates:
        """The fields stay as they are typed. Another clip that was opened meanwhile stays open."""
        if new == choices[index]:
            return {}
        choices[index] = new
        updates, looks = overview(choices, values)
        detail = told(new, looks[index], spec_of(values)) if new.key == values[showing] else {}
        return {**remember(choices), **updates, **detail}

    def on_fix(values: Mapping[Any, Any]) -> Updates:
        choices = list(chosen(values))
        index = picked(values[editing], choices)
        if index is None:
            return {}
        was = choices[index]
        new = mended(was, studio.library, spec_of(values))
        updates = edit(choices, index, new, values)
        return {**updates, **numbers(new, was, values)} if new.key == values[showing] else updates

    def on_split(values: Mapping[Any, Any]) -> Updates:
        choices = chosen(values)
        index = picked(values[editing], choices)
        if index is None:
            return {}
        choices, said = taken_apart(choices, index, studio.library.look(choices[index], spec_of(values)))
        return {**changed(choices, values, keep=index), message: notice("info", said)}

    def on_fix_all(values: Mapping[Any, Any]) -> Updates:
        choices = [mended(c, studio.library, spec_of(values)) for c in chosen(values)]
        return changed_beside(choices, values)

    def on_remove(values: Mapping[Any, Any]) -> Updates:
        choices = chosen(values)
        index = picked(values[editing], choices)
        return changed([c for i, c in enumerate(choices) if i != index], values)

    def on_clear(values: Mapping[Any, Any]) -> Updates:
        return changed([], values)

    def on_load(values: Mapping[Any, Any]) -> Updates:
        choices, gone = read_memory(values[studio.chosen], studio.library)
        if not choices and not gone:
            return {}
        return {**changed(choices, values), message: notices("warning", gone)}

    def on_judged(values: Mapping[Any, Any]) -> Updates:
        return changed_beside(chosen(values), values)

    def on_other_clips(values: Mapping[Any, Any]) -> Updates:
        choices = chosen(values)
        return changed(choices, values, keep=picked(values[editing], choices))

    kept = [studio.clips, studio.chosen]
    fields = edits.values()
    everything = {*fields, *kept, files, recording, all_subject, all_motion, editing, showing, refused, studio.judged}
    detail = [player, timeline, findings, editor, editing, showing, refused, fix, split]
    shown = [*fields, *kept, files, recording, message, summary, grid, fix_all, clear, *detail]
    private: dict[str, Any] = {"api_visibility": "private", **IN_TURN}
    calm: dict[str, Any] = {**private, "show_progress": "hidden"}
    busy: dict[str, Any] = {**private, "show_progress": "minimal", "show_progress_on": grid}
    files.upload(guarded(message, on_upload), everything, shown, **busy)
    recording.upload(guarded(message, on_recorded), everything, shown, **busy)
    for index, button in enumerate(buttons):
        button.click(guarded(message, on_examples(index)), everything, shown, **busy)
    use_words.click(guarded(message, on_words), everything, shown, **calm)
    picking = grid.select(guarded(message, on_pick), everything, shown, **calm)
    picking.then(None, None, None, js=scroll_to("clip-inspect", unless="clips-message"))
    for name, part in edits.items():
        gr.on([part.blur, part.submit], guarded(message, on_edit(name)), everything, shown, **calm)
    timeline.release(guarded(message, on_trim), everything, shown, **calm)
    split.click(guarded(message, on_split), everything, shown, **calm)
    fix.click(guarded(message, on_fix), everything, shown, **calm)
    fix_all.click(guarded(message, on_fix_all), everything, shown, **busy)
    remove.click(guarded(message, on_remove), everything, shown, **calm)
    clear.click(guarded(message, on_clear), everything, shown, **calm)
    studio.judged.change(quiet(on_judged), everything, shown, **calm)
    sets_load = dataset_fields.wire(studio, sets_of_clips, chosen, changed, everything, shown, calm)
    return {
        "load": [(quiet(on_load), everything, shown), sets_load],
        "shown_anew": (quiet(on_other_clips), everything, shown),
    }


_ENDS = ("start_s", "end_s")
_NUMBERS = (*_ENDS, "resample_fps")


def _fields(choice: ClipChoice) -> dict[str, Any]:
    """What the form of an open clip holds, as `edited` takes it."""
    return {name: getattr(choice, name) for name in ("subject", "motion", *_NUMBERS)}


def edited(choice: ClipChoice, subject: str, motion: str, start_s: Any, end_s: Any, resample_fps: Any) -> ClipChoice:
    """A choice with what the form holds; words may stay empty for now. Raises ConfigError for an impossible cut."""
    start, end = float(start_s or 0), None if end_s is None else float(end_s)
    rate = float(resample_fps) if resample_fps else None
    if start < 0 or (end is not None and end <= start):
        raise ConfigError(
            f"the cut must end after it begins: from {start:g} s, got to {end:g} s"
            if end is not None
            else "the cut must begin at 0 s or later"
        )
    if rate is not None and not 0 < rate <= MOST_FPS:
        raise ConfigError(
            f"frames a second must be above 0 and at most {MOST_FPS:g}, got {rate:g}: leave it empty to keep the "
            "file's own"
        )
    words = {"subject": " ".join((subject or "").split()), "motion": " ".join((motion or "").split())}
    return replace(choice, start_s=start, end_s=end, resample_fps=rate, **words)


def mended(choice: ClipChoice, library: Library, spec: Any) -> ClipChoice:
    """What the doctor proposes, applied; a second proposal (a cut after a rate) too."""
    return choice.with_cut(doctor.mended(choice.cut, lambda cut: library.look(choice.with_cut(cut), spec).fix))


def taken_apart(choices: Sequence[ClipChoice], index: int, look: Look) -> tuple[tuple[ClipChoice, ...], str]:
    """One clip as its takes, each a clip of its own; returns the choices and what happened.

    Takes that are too short are left out, named. Raises ClipError when no take is long enough, ConfigError for too
    many clips.
    """
    choice = choices[index]
    good, short = [t for t in look.takes if t.long_enough], [t for t in look.takes if not t.long_enough]
    names = ", ".join(f"{take.seconds} ({take.num_frames} frames)" for take in short)
    if not good:
        raise ClipError(f"none of the {len(short)} takes of {choice.name} is long enough for this backbone: {names}")
    if len(choices) - 1 + len(good) > MOST_CLIPS:
        raise ConfigError(f"with {len(good)} takes there would be more than {MOST_CLIPS} clips: remove some first")
    used = max(c.part for c in choices if c.source == choice.source)
    numbers = [choice.part, *range(used + 1, used + len(good))]
    pieces = [replace(choice.with_cut(take.cut), part=number) for take, number in zip(good, numbers, strict=True)]
    said = f"{choice.name} is {len(good)} clip{'s' if len(good) != 1 else ''} now, one a take."
    if short:
        said += f" Left out, since a clip must be longer: {names}."
    return (*choices[:index], *pieces, *choices[index + 1 :]), said
