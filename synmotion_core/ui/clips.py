"""The Clips tab: add clips, one's own or examples, say what they show, cut them, hear what the clip doctor says.

Every change is kept at once, in this browser (chosen.py); nothing is dropped or re-timed unless a person asked for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.command import VIDEO_ENDINGS
from synmotion_core.config import motion_name
from synmotion_core.errors import ClipError, ConfigError, UserInputError
from synmotion_core.ui import media
from synmotion_core.ui.chosen import (
    MOST_CLIPS,
    ClipChoice,
    ExampleSet,
    Library,
    Look,
    current,
    in_words,
    read_memory,
    to_memory,
)
from synmotion_core.ui.context import IN_TURN, Studio, scroll_to
from synmotion_core.ui.notices import Tone, Updates, empty, guarded, hint, notice, notices, quiet
from synmotion_core.ui.train import knows_notice

if TYPE_CHECKING:
    from synmotion_core.interfaces import BackboneSpec

START, END, RATE = "From (s)", "To (s)", "New fps"  # labels of start_s, end_s, resample_fps
TONES: Mapping[str, Tone] = {"block": "error", "warn": "warning", "info": "info"}
NO_CLIPS = empty(
    "Which motion should be learnt?",
    "Add 10 to 20 short clips of one motion: your own, or a set of ready examples. The same subject in all of them is "
    "fine; afterwards any subject can do it.",
)
NO_CHOICE = empty(
    "One clip", "Press a clip to play it, to change its words, to cut it, and to read what the clip doctor says."
)


# ------------------------------------------------------------------------------------------------ what is shown


def verdict(choice: ClipChoice, look: Look) -> tuple[Tone, str]:
    """The one word on a card."""
    if look.blocked:
        return "error", "blocked"
    if not (choice.subject and choice.motion):
        return "warning", "no words"
    if any(f.severity == "warn" for f in look.findings):
        return "warning", "look at this"
    return "good", "fine"


def grid_html(area: gr.HTML, library: Library, choices: Sequence[ClipChoice], looks: Sequence[Look]) -> str:
    """A card a clip: moving picture, words, and the worst that the doctor found."""
    if not choices:
        return NO_CLIPS
    cards = []
    for index, (choice, look) in enumerate(zip(choices, looks, strict=True)):
        tone, word = verdict(choice, look)
        picture = '<div class="sm-blank">no picture</div>'
        if look.poster:
            shown = _shown(area, library, choice, look)
            picture = media.video_tag(shown, attributes="data-loop", preload="metadata")
        cards.append(
            f'<button type="button" class="sm-card" data-pick="{escape(choice.source)}" aria-pressed="false">{picture}'
            f'<span class="sm-words">{index + 1}. {escape(choice.title) or "no words yet"}</span>'
            f'<span class="sm-meta">{escape(choice.name)}</span>'
            f'<span><span class="sm-chip sm-{tone}">{word}</span></span></button>'
        )
    return f'<div class="sm-grid">{"".join(cards)}</div>'


def summary_html(choices: Sequence[ClipChoice], looks: Sequence[Look], spec: BackboneSpec) -> str:
    """How many clips of what, and how they are."""
    if not choices:
        return ""
    counts: dict[str, int] = {}
    for choice, look in zip(choices, looks, strict=True):
        word = verdict(choice, look)[1]
        counts[word] = counts.get(word, 0) + 1
    state = ", ".join(f"{count} {word}" for word, count in counts.items())
    tone: Tone = "error" if "blocked" in counts else "good" if set(counts) == {"fine"} else "warning"
    out = notice(tone, f"{in_words(choices)}. The doctor: {state}.")
    if len({c.motion for c in choices if c.motion}) > 1:
        out += notice("warning", "These clips name more than one motion. One adapter learns one: train them apart.")
    bare = next((c.motion for c in choices if c.motion and motion_name(c.motion) == c.motion), None)
    if bare is not None:
        out += words_notice(bare, spec)
    if any(f.code == "footage" for look in looks for f in look.findings):
        out += knows_notice(spec, True)
    return out


def words_notice(motion: str, spec: BackboneSpec) -> str:
    """A rare word alone says nothing to a backbone: what to add, in words that this one knows."""
    words: Sequence[str] = spec.options.get("motion_words", ())
    known = f" This backbone knows: {', '.join(words)}." if words else ""
    example = "swings hand out high fast" if words else "one arm raised, the hand moving from side to side"
    return notice(
        "info",
        f"A backbone that never saw “{motion}” learns it better when the words also say what the body does. Add it "
        f"after a comma, as in “waves, {example}”, and use the same words to generate.{known}",
    )


def inspect_html(area: gr.HTML, library: Library, choice: ClipChoice, look: Look) -> str:
    """One clip: playing, as a filmstrip, and every finding with what would help."""
    out = f'<p class="sm-title">{escape(choice.words or choice.name)}</p>' + hint(f"{choice.name} · {look.facts}")
    if look.poster:
        shown = _shown(area, library, choice, look)
        out += media.together(
            f'<div class="sm-stage sm-one"><figure>{media.video_tag(shown)}</figure></div>',
            name="The clip as it is cut",
        )
        out += f'<img class="sm-strip" src="{look.strip}" alt="Frames of the clip from its beginning to its end">'
    if not look.findings:
        return out + notice("good", "The clip doctor has nothing to say: length, rate, size and movement fit.")
    return out + "".join(notice(TONES[f.severity], in_page_words(f.message)) for f in look.findings)


def in_page_words(message: str) -> str:
    """The doctor speaks of settings by their names in a config; here they have labels.

    >>> in_page_words("for example start_s=0.000 and end_s=2.125")
    'for example From (s) = 0.000 and To (s) = 2.125'
    """
    for name, label in (("start_s", START), ("end_s", END), ("resample_fps", RATE)):
        message = message.replace(f"{name}=", f"{label} = ")
    return message


def _shown(area: gr.HTML, library: Library, choice: ClipChoice, look: Look) -> media.Shown:
    url = media.serve(area, library.path(choice.source))
    return media.Shown(
        url=url, title=choice.words or choice.name, start_s=choice.start_s, end_s=choice.end_s, poster=look.poster
    )


def with_examples(choices: Sequence[ClipChoice], wanted: ExampleSet) -> tuple[tuple[ClipChoice, ...], str]:
    """A set of examples in place of other examples; one's own clips stay. Returns the choices and what happened."""
    own = tuple(c for c in choices if c.is_upload)
    gone = [c for c in choices if not c.is_upload and c.motion != wanted.motion]
    text = f"{len(wanted.clips)} example clips of “{motion_name(wanted.motion)}”."
    if gone:
        text += f" They take the place of the {len(gone)} examples before, since one adapter learns one motion."
    return (*own, *wanted.clips), text


# ------------------------------------------------------------------------------------------------ the tab


def build(studio: Studio, library: Library) -> dict[str, Any]:
    """Lay the tab out and wire it. Returns what runs when the page loads."""
    sets = library.examples()
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
        with gr.Column(scale=5, min_width=320):
            inspect = media.html_area(elem_id="clip-inspect", value=NO_CHOICE)
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
                    remove = gr.Button("Remove this clip", size="md", min_width=130, elem_id="clip-remove")
    # The source of the open clip. In the browser, not in a gr.State: an edit is then sent with the clip that was
    # edited, whatever was pressed since.
    editing = gr.Textbox("", visible=False)
    edits = [subject, motion, start_s, end_s, resample]

    def spec_of(values: Mapping[Any, Any]) -> Any:
        from synmotion_core.backbones import find_spec

        return find_spec(values[studio.backbone])

    def chosen(values: Mapping[Any, Any]) -> tuple[ClipChoice, ...]:
        return current(values, studio, library)

    def picked(source: str, choices: Sequence[ClipChoice]) -> int | None:
        return next((i for i, choice in enumerate(choices) if choice.source == source), None)

    def overview(choices: Sequence[ClipChoice], spec: Any) -> tuple[Updates, list[Look]]:
        looks = library.looks(choices, spec)
        updates: Updates = {
            summary: summary_html(choices, looks, spec),
            grid: grid_html(grid, library, choices, looks),
            fix_all: gr.Button(visible=sum(k.fix is not None for k in looks) > 1),
            clear: gr.Button(visible=bool(choices)),
        }
        return updates, looks

    def closed() -> Updates:
        return {inspect: NO_CHOICE, editor: gr.Column(visible=False), editing: ""}

    def opened(index: int, choices: Sequence[ClipChoice], look: Look) -> Updates:
        choice = choices[index]
        return {
            inspect: inspect_html(inspect, library, choice, look),
            editor: gr.Column(visible=True),
            editing: choice.source,
            subject: choice.subject,
            motion: choice.motion,
            start_s: choice.start_s,
            end_s: choice.end_s,
            resample: choice.resample_fps,
            fix: gr.Button(visible=look.fix is not None),
        }

    def changed(choices: Sequence[ClipChoice], values: Mapping[Any, Any], *, keep: int | None = None) -> Updates:
        """After any change: remember it, show all, and the clip `keep` open."""
        updates, looks = overview(choices, spec_of(values))
        detail = closed() if keep is None else opened(keep, choices, looks[keep])
        return {**remember(choices), **updates, **detail}

    def remember(choices: Sequence[ClipChoice]) -> Updates:
        return {studio.clips: tuple(choices), studio.chosen: to_memory(choices)}

    def on_upload(values: Mapping[Any, Any]) -> Updates:
        choices, said = list(chosen(values)), []
        for path in values[files] or []:
            try:
                if len(choices) >= MOST_CLIPS:
                    raise ConfigError(f"{Path(path).name} was not added: a training takes at most {MOST_CLIPS} clips")
                source = library.add(Path(path))
                if any(c.source == source for c in choices):
                    raise ClipError(f"{Path(path).name} is already among the clips")
                choices.append(
                    ClipChoice(source=source, subject=values[all_subject].strip(), motion=values[all_motion].strip())
                )
            except UserInputError as error:
                said.append(str(error))
        return {**changed(choices, values), files: None, message: notices("error", said)}

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
        return closed() if index is None else opened(index, choices, library.looks(choices, spec_of(values))[index])

    def on_edit(values: Mapping[Any, Any]) -> Updates:
        choices = list(chosen(values))
        index = picked(values[editing], choices)
        if index is None:
            return {}
        new = edited(choices[index], values[subject], values[motion], values[start_s], values[end_s], values[resample])
        if new == choices[index]:
            return {}
        choices[index] = new
        return {**remember(choices), **overview(choices, spec_of(values))[0]}

    def on_edited(values: Mapping[Any, Any]) -> Updates:
        """After an edit: what the doctor says of the clip that is open now. The fields stay as they are typed."""
        choices = chosen(values)
        index = picked(values[editing], choices)
        if index is None:
            return {}
        look = library.looks(choices, spec_of(values))[index]
        return {inspect: opened(index, choices, look)[inspect], fix: gr.Button(visible=look.fix is not None)}

    def on_fix(values: Mapping[Any, Any]) -> Updates:
        choices = list(chosen(values))
        index = picked(values[editing], choices)
        if index is None:
            return {}
        choices[index] = mended(choices[index], library, spec_of(values))
        return changed(choices, values, keep=index)

    def on_fix_all(values: Mapping[Any, Any]) -> Updates:
        choices = [mended(c, library, spec_of(values)) for c in chosen(values)]
        return changed(choices, values, keep=picked(values[editing], choices))

    def on_remove(values: Mapping[Any, Any]) -> Updates:
        choices = chosen(values)
        index = picked(values[editing], choices)
        return changed([c for i, c in enumerate(choices) if i != index], values)

    def on_clear(values: Mapping[Any, Any]) -> Updates:
        return changed([], values)

    def on_load(values: Mapping[Any, Any]) -> Updates:
        choices, gone = read_memory(values[studio.chosen], library)
        if not choices and not gone:
            return {}
        return {**changed(choices, values), message: notices("warning", gone)}

    def on_backbone(values: Mapping[Any, Any]) -> Updates:
        choices = chosen(values)
        return changed(choices, values, keep=picked(values[editing], choices))

    kept = [studio.clips, studio.chosen]
    everything = {*edits, *kept, files, all_subject, all_motion, editing, studio.backbone}
    shown = [*edits, *kept, files, message, summary, grid, fix_all, clear, inspect, editor, editing, fix]
    private: dict[str, Any] = {"api_visibility": "private", **IN_TURN}
    calm: dict[str, Any] = {**private, "show_progress": "hidden"}
    busy: dict[str, Any] = {**private, "show_progress": "minimal", "show_progress_on": grid}
    files.upload(guarded(message, on_upload), everything, shown, **busy)
    for index, button in enumerate(buttons):
        button.click(guarded(message, on_examples(index)), everything, shown, **busy)
    use_words.click(guarded(message, on_words), everything, shown, **calm)
    picking = grid.select(guarded(message, on_pick), everything, shown, **calm)
    picking.then(None, None, None, js=scroll_to("clip-inspect", unless="clips-message"))
    leaving = [listener for part in edits for listener in (part.blur, part.submit)]
    editing_done = gr.on(leaving, guarded(message, on_edit), everything, shown, **calm)
    editing_done.then(quiet(on_edited), everything, shown, **calm)
    fix.click(guarded(message, on_fix), everything, shown, **calm)
    fix_all.click(guarded(message, on_fix_all), everything, shown, **busy)
    remove.click(guarded(message, on_remove), everything, shown, **calm)
    clear.click(guarded(message, on_clear), everything, shown, **calm)
    studio.backbone.change(quiet(on_backbone), everything, shown, **calm)
    return {"load": [(quiet(on_load), everything, shown)]}


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
    if rate is not None and not 0 < rate <= 240:
        raise ConfigError(
            f"frames a second must be above 0 and at most 240, got {rate:g}: leave it empty to keep the file's own"
        )
    words = {"subject": " ".join((subject or "").split()), "motion": " ".join((motion or "").split())}
    return replace(choice, start_s=start, end_s=end, resample_fps=rate, **words)


def mended(choice: ClipChoice, library: Library, spec: Any) -> ClipChoice:
    """What the doctor proposes, applied; a second proposal (a cut after a rate) too."""
    for _ in range(2):
        fix = library.look(choice, spec).fix
        if fix is None or fix == choice.cut:
            break
        choice = choice.with_cut(fix)
    return choice
