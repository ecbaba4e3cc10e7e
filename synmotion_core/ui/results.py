"""The videos of a generation: the backbone alone beside the adapter, in sync, by subject and seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import gradio as gr

from synmotion_core.config import GenerateRun
from synmotion_core.errors import UserInputError
from synmotion_core.ui import media, progress
from synmotion_core.ui.blend_fields import drawn_with
from synmotion_core.ui.notices import empty

if TYPE_CHECKING:
    from synmotion_core.jobs import JobView
    from synmotion_core.types import Sampled

NO_VIDEOS = empty(
    "Videos",
    "Choose an adapter, name a subject and press Generate. You see the backbone alone beside the adapter, in step.",
)


def results_html(area: gr.HTML, view: JobView, after: Callable[[Sampled], str] = lambda _: "") -> str:
    """One player a subject and seed: the backbone alone, then the adapter. A video still to come keeps its place.

    after: our own HTML behind a video's words.
    """
    assert isinstance(view.config, GenerateRun)
    config = view.config
    made: dict[tuple[str, int], dict[bool, Sampled]] = {}
    for sample in view.samples:
        made.setdefault((sample.prompt.text, sample.seed), {})[sample.adapted] = sample
    if not made:
        return NO_VIDEOS
    players = []
    for (text, seed), pair in made.items():
        wanted = (False, True) if config.compare and config.strength != 0 else tuple(pair)
        figures = [
            _figure(area, pair.get(adapted), adapted, config, view.status in progress.LIVE, after) for adapted in wanted
        ]
        players.append(
            media.side_by_side([f for f in figures if f], name=f"{text}, seed {seed}", title=f"{text} · seed {seed}")
        )
    return "".join(players)


def _figure(
    area: gr.HTML,
    sample: Sampled | None,
    adapted: bool,
    config: GenerateRun,
    live: bool,
    after: Callable[[Sampled], str],
) -> str:
    if config.adapter is None:
        title, note = config.backbone, "no adapter"
    elif adapted:
        title, note = "With the adapter", drawn_with(config)
    else:
        title, note = "Backbone alone", "same seed, no adapter"
    if sample is None:
        return media.waiting(title, "being drawn …" if live else "not drawn")
    try:
        url = media.serve(area, sample.path)
    except UserInputError as error:
        return media.waiting(title, str(error))
    return media.figure(media.Shown(url=url, title=title, note=note, download=sample.path.name, after=after(sample)))
