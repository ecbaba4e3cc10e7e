"""The chosen clips as the page shows them: a card each, what is said of them all, and the one that is open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

import gradio as gr

from synmotion_core.clips import doctor
from synmotion_core.config import motion_name
from synmotion_core.ui import media
from synmotion_core.ui.chosen import ClipChoice, Library, Look, in_words
from synmotion_core.ui.notices import Tone, empty, hint, notice
from synmotion_core.ui.train_words import knows_notice

if TYPE_CHECKING:
    from synmotion_core.interfaces import BackboneSpec

START, END, RATE = "From (s)", "To (s)", "New fps"  # labels of start_s, end_s, resample_fps
_LABELS = {
    "start_s": START,
    "end_s": END,
    "resample_fps": RATE,
    "num_frames": "Frames (Train tab, “Memory and size”)",
    "height": "Height",
    "width": "Width",
}
TONES: Mapping[str, Tone] = {"block": "error", "warn": "warning", "info": "info"}
NO_CLIPS = empty(
    "Which motion should be learnt?",
    "Add 10 to 20 short clips of one motion: your own, or a set of ready examples. The same subject in all of them is "
    "fine; afterwards any subject can do it.",
)
NO_CHOICE = empty(
    "One clip", "Press a clip to play it, to change its words, to cut it, and to read what the clip doctor says."
)


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
            shown = shown_clip(area, library, choice, look)
            picture = media.video_tag(shown, attributes="data-loop", preload="metadata")
        cards.append(
            f'<button type="button" class="sm-card" data-pick="{escape(choice.key)}" aria-pressed="false">{picture}'
            f'<span class="sm-words">{index + 1}. {escape(choice.title) or "no words yet"}</span>'
            f'<span class="sm-meta">{escape(choice.label)}</span>'
            f'<span><span class="sm-chip sm-{tone}">{word}</span></span></button>'
        )
    return f'<div class="sm-grid">{"".join(cards)}</div>'


def summary_html(choices: Sequence[ClipChoice], looks: Sequence[Look], spec: BackboneSpec, judged: str = "") -> str:
    """How many clips of what, and how they are; judged: for what, in HTML."""
    if not choices:
        return ""
    counts: dict[str, int] = {}
    for choice, look in zip(choices, looks, strict=True):
        word = verdict(choice, look)[1]
        counts[word] = counts.get(word, 0) + 1
    state = ", ".join(f"{count} {word}" for word, count in counts.items())
    tone: Tone = "error" if "blocked" in counts else "good" if set(counts) == {"fine"} else "warning"
    out = notice(tone, f"{in_words(choices)}. The doctor: {state}.") + judged
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


def player_html(area: gr.HTML, library: Library, choice: ClipChoice, look: Look, spec: BackboneSpec) -> str:
    """One clip, playing as it is cut; what of its picture the backbone does not see is dimmed."""
    out = f'<p class="sm-title">{escape(choice.words or choice.name)}</p>' + hint(f"{choice.label} · {look.facts}")
    if look.poster:
        shown = shown_clip(area, library, choice, look)
        inner = _framed(media.video_tag(shown), look, spec)
        out += media.together(
            f'<div class="sm-stage sm-one"><figure>{inner}</figure></div>', name="The clip as it is cut"
        )
    return out


def _framed(video: str, look: Look, spec: BackboneSpec) -> str:
    """The video with the part marked that the doctor's crop keeps; the video alone where all of it is kept."""
    if look.info is None:
        return video
    width, height = look.info.width, look.info.height
    kept = doctor.kept_region(width, height, spec.default_shape)
    if kept == (width, height):
        return video
    across, down = 50 * (1 - kept[0] / width), 50 * (1 - kept[1] / height)
    return (
        f'<div class="sm-framed" style="--sm-aspect: {width} / {height}">{video}<span class="sm-kept" role="img" '
        f'aria-label="The part that is kept" style="inset: {down:.2f}% {across:.2f}%"></span></div>'
        "<figcaption>The dimmed sides are cut off.</figcaption>"
    )


def findings_html(look: Look) -> str:
    """Every finding of the clip doctor, with what would help."""
    if not look.findings:
        return notice("good", "The clip doctor has nothing to say: length, rate, size and movement fit.")
    return "".join(notice(TONES[f.severity], in_page_words(f.message)) for f in look.findings)


def in_page_words(message: str) -> str:
    """The doctor speaks of settings by their names in a config; here they have labels.

    >>> in_page_words("for example start_s=0.000 and end_s=2.125")
    'for example From (s) = 0.000 and To (s) = 2.125'
    """
    for name, label in _LABELS.items():
        message = message.replace(f"{name}=", f"{label} = ")
    return message


def shown_clip(area: gr.HTML, library: Library, choice: ClipChoice, look: Look) -> media.Shown:
    url = media.serve(area, library.path(choice.source))
    return media.Shown(
        url=url, title=choice.words or choice.name, start_s=choice.start_s, end_s=choice.end_s, poster=look.poster
    )
