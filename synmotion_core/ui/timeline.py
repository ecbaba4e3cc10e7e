"""The open clip over the time of its whole file: a filmstrip, the cut, and which frames a training would see.

    server    draws the strip, the ticks (clips/plan.py, the plan that training follows) and where the cut lies
    browser   timeline.js: both ends and the cut itself can be dragged, or moved by the arrow keys, frame by frame;
              what was chosen comes back as `release` with {"key", "start_s", "end_s"}, end_s null for the file's end

Every place that an end can take is a frame's own time, rounded to milliseconds, which still means that frame.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.clips import doctor, video
from synmotion_core.clips.plan import frame_plan, in_words
from synmotion_core.errors import ClipError, UserInputError
from synmotion_core.ui import media
from synmotion_core.ui.notices import hint

if TYPE_CHECKING:
    from synmotion_core.clips.video import VideoInfo
    from synmotion_core.interfaces import BackboneSpec
    from synmotion_core.ui.chosen import ClipChoice, Library, Look

TIMELINE_JS = (Path(__file__).parent / "timeline.js").read_text(encoding="utf-8")
_ABOUT = "Drag an end to cut the clip, or the part between to move it; with the keyboard, arrow keys move by one frame."


def timeline_area(*, elem_id: str) -> gr.HTML:
    """The area for `timeline_html`; its `release` event says what was chosen (`chosen_cut`)."""
    return gr.HTML("", elem_id=elem_id, apply_default_css=False, js_on_load=TIMELINE_JS)


def timeline_html(library: Library, choice: ClipChoice, look: Look, spec: BackboneSpec) -> str:
    """The time line of one clip; "" for a file that cannot be read."""
    info = look.info
    if info is None:
        return ""
    edges = [round(t, 3) for t in (*info.timestamps_s, info.duration_s)]
    try:
        plan, (first, stop) = frame_plan(info, choice.cut), info.span(choice.start_s, choice.end_s)
        said = in_words(plan, info, choice.cut, spec.default_shape.fps)
        seen: Sequence[int] = sorted(set(plan.frames))
    except UserInputError as error:
        (first, stop), seen, said = (0, info.num_frames), (), str(error)
    if look.blocked:
        said = f"A training does not take this cut yet; it would see {said}" if seen else said
    path = library.path(choice.source)
    try:
        film = _film(path, path.stat().st_mtime_ns)
    except UserInputError:  # a frame of no time at all, from a busy camera: the doctor says so
        return ""
    strip = f'<img class="sm-film" src="{film}" alt="Frames of the whole file, from its beginning to its end">'
    grips = "".join(_grip(name, label, edges, first, stop) for name, label in _GRIPS.items())
    duration = f"{info.duration_s:.4g} s"
    return (
        f'<div class="sm-timeline" role="group" aria-label="Time line of the clip" data-key="{escape(choice.key)}" '
        f'data-edges="{escape(json.dumps(edges))}" data-first="{first}" data-stop="{stop}">'
        f'<div class="sm-rail">{strip}<span class="sm-cut-away" data-before></span>'
        f'<span class="sm-cut-away" data-after></span>{grips}</div>{_ticks(info, seen, said, muted=look.blocked)}'
        f'<div class="sm-times"><span>0 s</span><output data-now></output><span>{duration}</span></div></div>'
        f'<p class="sm-seen">{escape(said)}</p>{hint(_ABOUT)}'
    )


_GRIPS = {"move": "The cut", "start": "Beginning of the cut", "end": "End of the cut"}


def _grip(name: str, label: str, edges: Sequence[float], first: int, stop: int) -> str:
    """A part that can be moved, for a screen reader a slider over frames; timeline.js keeps its place and value."""
    now = stop if name == "end" else first
    return (
        f'<span class="sm-grip sm-grip-{name}" data-grip="{name}" role="slider" tabindex="0" aria-label="{label}" '
        f'aria-valuemin="0" aria-valuemax="{len(edges) - 1}" aria-valuenow="{now}" '
        f'aria-valuetext="{edges[now]:g} seconds"></span>'
    )


def _ticks(info: VideoInfo, seen: Sequence[int], said: str, *, muted: bool) -> str:
    """A stroke for each frame that is seen, where it begins."""
    places = (1000 * info.timestamps_s[number] / info.duration_s for number in seen)
    path = "".join(f"M{place:.5g} 0v10" for place in places)
    return (
        f'<svg class="sm-frames{" sm-muted" if muted else ""}" viewBox="0 0 1000 10" preserveAspectRatio="none" '
        f'role="img" aria-label="{escape(said)}" data-ticks="{len(seen)}"><path d="{path}"/></svg>'
    )


@functools.lru_cache(maxsize=256)
def _film(path: Path, stamp: int) -> str:
    info = video.probe(path)
    scale = min(1.0, doctor.THUMBNAIL_PX / min(info.height, info.width))
    height, width = max(1, round(info.height * scale)), max(1, round(info.width * scale))
    frames, _ = video.read(path, height=height, width=width, info=info)
    return media.film(frames, info.timestamps_s, info.duration_s)


def chosen_cut(event: Any) -> tuple[str, float, float | None]:
    """(key, start_s, end_s) of a `release`; a browser may send anything: raises ClipError for what is none."""
    key, start_s, end_s = (getattr(event, name, None) for name in ("key", "start_s", "end_s"))
    start, end = _seconds(start_s), None if end_s is None else _seconds(end_s)
    if not isinstance(key, str) or start is None or (end is None and end_s is not None):
        raise ClipError("the time line sent no cut: reload the page")
    return key, start, end


def _seconds(value: Any) -> float | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) else None
