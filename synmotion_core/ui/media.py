"""Videos on the page: served from Gradio's cache, shown as filmstrips, played in sync.

A file is never published where it lies: a copy is put into Gradio's own cache (named by its content) and only that copy
has an address, so no folder of the workspace or of the home is ever listed in `allowed_paths`.

A player is a group of <video> elements under one clock (player.js): they start together, wait for the longest, start
again together, and whatever drifts by more than 0.09 s is put back. Each video may have its own [start, end) in seconds
(data-start, data-end).
"""

from __future__ import annotations

import base64
import bisect
import threading
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np

from synmotion_core.errors import MissingError
from synmotion_core.ui import guard
from synmotion_core.ui.notices import Tone

PLAYER_JS = (Path(__file__).parent / "player.js").read_text(encoding="utf-8")
FILM_SHAPE = 8  # how many times wider than high a filmstrip is, about
FILM_PICTURES = (4, 16)  # at least and at most
FILM_HEIGHT = 72  # pixels

_served: dict[tuple[str, int, int], str] = {}
_served_lock = threading.Lock()


def html_area(*, elem_id: str, value: str = "") -> gr.HTML:
    """An area for our own HTML in which players run and cards can be pressed.

    Pressing an element with data-pick triggers `select` with `{"source": <what it holds>}`. It is marked
    as chosen, the only one, unless it has data-many: then the HTML itself says so, by aria-pressed.
    """
    return gr.HTML(value, elem_id=elem_id, apply_default_css=False, js_on_load=PLAYER_JS)


def serve(area: gr.HTML, path: Path) -> str:
    """The address of a copy of `path` in Gradio's cache, relative to the page. Raises MissingError for no file."""
    try:
        stat = path.stat()
    except OSError as error:
        raise MissingError(f"{path.name} is no longer there") from error
    key = (str(path), stat.st_mtime_ns, stat.st_size)
    with _served_lock:
        cached = _served.get(key)
    if cached is None or not Path(cached).exists():
        cached = area.move_resource_to_block_cache(path)
        if cached is None:
            raise MissingError(f"{path.name} is no longer there")
        with _served_lock:
            _served[key] = cached
    guard.own(cached)
    return "gradio_api/file=" + urllib.parse.quote(cached)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One video of a player: start_s and end_s play a part of it, `download` offers the file under that name; marks are
    a tone and words each. after is HTML of our own behind it all.
    """

    url: str
    title: str
    note: str = ""
    start_s: float = 0.0
    end_s: float | None = None
    download: str = ""
    poster: str = ""
    marks: tuple[tuple[Tone, str], ...] = ()
    after: str = ""


def video_tag(shown: Shown, *, attributes: str = "", preload: str = "auto") -> str:
    """A silent <video>; scripts start it, so that a group starts together."""
    end = "" if shown.end_s is None else f' data-end="{shown.end_s:g}"'
    poster = f' poster="{escape(shown.poster)}"' if shown.poster else ""
    return (
        f'<video muted playsinline preload="{preload}" src="{escape(shown.url)}"{poster} '
        f'data-start="{shown.start_s:g}"{end} '
        f'aria-label="{escape(shown.title)}" {attributes}></video>'
    )


def figure(shown: Shown) -> str:
    """A video with its words, and a link when it may be downloaded."""
    note = f"<br>{escape(shown.note)}" if shown.note else ""
    chips = " ".join(f'<span class="sm-chip sm-{tone}">{escape(words)}</span>' for tone, words in shown.marks)
    marks = f"<br>{chips}" if chips else ""
    link = f' <a href="{escape(shown.url)}" download="{escape(shown.download)}">Download</a>' if shown.download else ""
    words = f"<b>{escape(shown.title)}</b>{note}{marks}{link}{shown.after}"
    return f"<figure>{video_tag(shown)}<figcaption>{words}</figcaption></figure>"


def waiting(title: str, text: str) -> str:
    """The place of a video that is not there yet, of the same size."""
    return f'<figure><div class="sm-wait">{escape(text)}</div><figcaption><b>{escape(title)}</b></figcaption></figure>'


def together(figures: str, *, name: str) -> str:
    """Everything in `figures` under one clock, with play, position and speed; `name` is for screen readers."""
    return (
        f'<div class="sm-player" data-sync role="group" aria-label="{escape(name)}">{figures}'
        '<div class="sm-transport"><button type="button" data-play aria-label="Play or pause">❚❚</button>'
        '<input type="range" min="0" max="1" step="0.001" aria-label="Position in the videos">'
        '<button type="button" data-rate aria-label="Speed">1×</button></div></div>'
    )


def side_by_side(figures: Sequence[str], *, name: str, title: str) -> str:
    """Figures in a row, in sync, under a title."""
    return together(f'<p class="sm-title">{escape(title)}</p><div class="sm-stage">{"".join(figures)}</div>', name=name)


def film(frames: np.ndarray, timestamps_s: Sequence[float], seconds: float) -> str:
    """A filmstrip as a data address, true in time: each picture is the one on screen in the middle of its place.

    frames uint8 [F, H, W, 3], each from its timestamp on. Wide pictures are fewer, so that the strip is about as high.
    """
    import cv2

    height, width = frames.shape[1:3]
    count = min(FILM_PICTURES[1], max(FILM_PICTURES[0], round(FILM_SHAPE * height / width)))
    index = [bisect.bisect_right(timestamps_s, seconds * (k + 0.5) / count) - 1 for k in range(count)]
    size = (max(1, round(width * FILM_HEIGHT / height)), FILM_HEIGHT)
    how = cv2.INTER_AREA if height > FILM_HEIGHT else cv2.INTER_LINEAR
    return picture(np.concatenate([cv2.resize(frames[i], size, interpolation=how) for i in index], axis=1))


def picture(image: np.ndarray) -> str:
    """uint8 [H, W, 3] RGB as a WebP data address."""
    import cv2

    ok, data = cv2.imencode(
        ".webp", cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, 82]
    )
    if not ok:
        raise RuntimeError(f"a picture of shape {image.shape} could not be encoded")
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode("ascii")
