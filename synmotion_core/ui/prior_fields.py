"""Subject prior videos on the Train tab: those of the training in view, and which of them the next one is to leave out.

    cards (of the training in view) --press--> marked --"Draw these anew"--> left_out (the form) --> TrainRun.priors

What the form leaves out survives a reload, by backbone and size: a seed is another video elsewhere. The form's prior
settings are the usual ones otherwise, so the videos of a training that had others can be looked at, but not chosen.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.config import TrainRun
from synmotion_core.errors import ConfigError, UserInputError
from synmotion_core.training.settings import PriorConfig
from synmotion_core.ui import media
from synmotion_core.ui.context import Studio, job_id
from synmotion_core.ui.forms import draws_priors, left_out_in, prior_place, sides
from synmotion_core.ui.notices import Updates, guarded, hint, notice, quiet
from synmotion_core.ui.progress import LIVE

if TYPE_CHECKING:
    from synmotion_core.jobs import JobView
    from synmotion_core.types import Sampled

MOST_NAMED = 8  # prompts that a line names
_HOW = "Press a video that shows the wrong thing: the next training draws another of the same words in its place."
_AT_ONCE = "You need not wait for this one: stop it, and start anew. What is drawn stays."
_OTHERS = "This training had prior settings of its own: its videos are not those that the form would draw."


# ------------------------------------------------------------------------------------------------ in the form


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """The form's line: what the next training leaves out. memory: {"left_out": {place: seeds}}, kept by the browser."""

    memory: gr.BrowserState
    box: gr.Row
    line: gr.HTML
    clear: gr.Button

    @property
    def parts(self) -> list[Any]:
        """What `tell` sets."""
        return [self.box, self.line]

    def tell(self, form: Mapping[str, Any]) -> Updates:
        """The line, where anything is left out."""
        try:
            said = left_out_words(form)
        except UserInputError:  # a size that the backbone does not take: the plan says so
            return {}
        return {self.box: gr.Row(visible=bool(said)), self.line: said}


def build_line(memory: gr.BrowserState) -> LeftOut:
    """Lay it out, unseen while there is nothing to say."""
    with gr.Row(visible=False, elem_id="train-left-out") as box:
        line = gr.HTML("", elem_id="train-left-out-line", apply_default_css=False, min_width=200)
        clear = gr.Button("Leave none out", size="md", scale=0, min_width=150, elem_id="train-left-out-clear")
    return LeftOut(memory=memory, box=box, line=line, clear=clear)


def left_out_words(form: Mapping[str, Any]) -> str:
    """What the form leaves out, "" for nothing."""
    from synmotion_core.training.priors import left_out_prompts

    seeds = left_out_in(form)
    if not seeds:
        return ""
    prompts = left_out_prompts(_options(form["backbone"]), PriorConfig(left_out=seeds))
    count = Counter(prompts[seed].text if seed in prompts else f"seed {seed}, which is no video here" for seed in seeds)
    names = [text if n == 1 else f"{text} ({n} of them)" for text, n in count.items()]
    rest = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    many = f"{len(seeds)} prior videos are" if len(seeds) > 1 else "1 prior video is"
    none = "" if draws_priors(form) else "This method draws none."
    return notice("info", f"{many} left out: {', '.join(names[:MOST_NAMED])}{rest}.", more=none)


# ------------------------------------------------------------------------------------------------ in a training's view


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorCards:
    """The videos of the training in view. marked: {"job": id, "seeds": those to leave out}, None as in the form."""

    box: gr.Accordion
    area: gr.HTML
    anew: gr.Button
    about: gr.HTML
    marked: gr.State

    @property
    def parts(self) -> list[Any]:
        """All widgets."""
        return [self.box, self.area, self.anew, self.about, self.marked]


def build_cards() -> PriorCards:
    """Lay them out, folded, unseen while there are none."""
    with gr.Accordion("Subject prior videos", open=False, visible=False, elem_id="train-priors") as box:
        about = gr.HTML("", elem_id="train-priors-about", apply_default_css=False)
        area = media.html_area(elem_id="train-prior-cards")
        anew = gr.Button(
            "Draw these anew for the next training", size="md", interactive=False, elem_id="train-priors-anew"
        )
    return PriorCards(box=box, area=area, anew=anew, about=about, marked=gr.State(None))


def drawn_priors(view: JobView) -> list[Sampled]:
    """A training's prior videos that can be looked at, each where its prompt is in the plan."""
    from synmotion_core.training.priors import place_of

    assert isinstance(view.config, TrainRun)
    config = view.config.priors
    found = [s for s in view.samples if not s.adapted and s.path.exists()]
    return sorted(found, key=lambda one: place_of(one.seed, config))


def cards_html(area: gr.HTML, drawn: Sequence[Sampled], marked: Collection[int] | None) -> str:
    """A card a video; marked ones say that they are left out. None: nothing can be chosen."""
    cards = []
    for one in drawn:
        shown = media.Shown(url=media.serve(area, one.path), title=one.prompt.text)
        video = media.video_tag(shown, attributes="data-loop", preload="metadata")
        words = f'<span class="sm-words">{escape(one.prompt.text)}</span>'
        if marked is None:
            cards.append(f'<div class="sm-card sm-prior">{video}{words}</div>')
            continue
        out = one.seed in marked
        chip = '<span class="sm-chip sm-warning">left out</span>' if out else ""
        cards.append(
            f'<button type="button" class="sm-card sm-prior" data-pick="{one.seed}" data-many '
            f'aria-pressed="{"true" if out else "false"}">{video}{words}<span>{chip}</span></button>'
        )
    return f'<div class="sm-grid">{"".join(cards)}</div>'


def left_out_next(
    options: dict[str, Any], before: Iterable[int], shown: Collection[int], marked: Iterable[int]
) -> tuple[int, ...]:
    """What the form leaves out once the videos that are shown are left out as they are marked.

    A marked one that was drawn in place of another leaves that one out, too; one that was drawn in place of what is
    taken back is of no plan any more, and is not named.
    """
    from synmotion_core.training.priors import drawn_before, left_out_prompts

    plain = PriorConfig()
    wanted = [seed for seed in before if seed not in shown]
    for seed in marked:
        wanted += [*drawn_before(seed, plain), seed]
    unique = tuple(dict.fromkeys(wanted))
    known = left_out_prompts(options, PriorConfig(left_out=unique))
    return tuple(sorted(seed for seed in unique if seed in known))


def wire(
    studio: Studio,
    cards: PriorCards,
    line: LeftOut,
    seen: gr.State,
    put: gr.State,
    fields: Mapping[str, Any],
    message: gr.HTML,
) -> None:
    """seen: changes whenever the view does; put: when the form is filled anew. fields: the form's, by their names."""

    def in_view(values: Mapping[Any, Any]) -> JobView | None:
        asked = job_id(values[studio.train_job])
        return studio.jobs.snapshot(asked) if asked else None

    def of_form(view: JobView, values: Mapping[Any, Any]) -> tuple[int, ...]:
        return left_out_in({"left_out": values[line.memory], **_place_fields(view.config)})

    def chosen(view: JobView, values: Mapping[Any, Any]) -> frozenset[int]:
        marked = values[cards.marked]
        return frozenset(marked["seeds"] if marked and marked["job"] == view.id else of_form(view, values))

    def show(view: JobView | None, values: Mapping[Any, Any]) -> Updates:
        drawn = [] if view is None else drawn_priors(view)
        if view is None or not drawn:
            return {cards.box: gr.Accordion(visible=False), cards.area: ""}
        usual = _is_usual(view)
        how = f"{_HOW} {_AT_ONCE}" if view.status in LIVE else _HOW
        marked = chosen(view, values) & {one.seed for one in drawn}
        changed = marked != frozenset(of_form(view, values)) & {one.seed for one in drawn}
        return {
            cards.box: gr.Accordion(visible=True, label=f"{len(drawn)} subject prior videos of the untrained backbone"),
            cards.area: cards_html(cards.area, drawn, marked if usual else None),
            cards.about: hint(how if usual else _OTHERS),
            cards.anew: gr.Button(visible=usual, interactive=changed),
        }

    def on_view(values: Mapping[Any, Any]) -> Updates:
        return show(in_view(values), values)

    def on_press(values: Mapping[Any, Any], event: gr.EventData) -> Updates:
        view = in_view(values)
        seeds = [] if view is None or not _is_usual(view) else [one.seed for one in drawn_priors(view)]
        pressed = next((seed for seed in seeds if str(seed) == str(event.source)), None)
        if view is None or pressed is None:
            raise ConfigError("this prior video is of another training: press one of those that are shown now")
        marked = {"job": view.id, "seeds": chosen(view, values) ^ {pressed}}
        return {**show(view, {**values, cards.marked: marked}), cards.marked: marked}

    def on_anew(values: Mapping[Any, Any]) -> Updates:
        view = in_view(values)
        if view is None or not _is_usual(view):
            raise ConfigError("there are no prior videos to choose from: show a training first")
        assert isinstance(view.config, TrainRun)
        shown = {one.seed for one in drawn_priors(view)}
        options = _options(view.config.backbone)
        seeds = left_out_next(options, of_form(view, values), shown, chosen(view, values) & shown)
        gr.Info(
            "The next training draws others in their place."
            if seeds
            else "The next training leaves no prior video out."
        )
        kept = kept_left_out(values[line.memory], _place_fields(view.config), seeds)
        return {line.memory: kept, cards.marked: None, **show(view, {**values, line.memory: kept, cards.marked: None})}

    def on_clear(values: Mapping[Any, Any]) -> Updates:
        form = {name: values[fields[name]] for name in ("backbone", *_SIZES)}
        kept = kept_left_out(values[line.memory], form, ())
        again = {**values, line.memory: kept, cards.marked: None}
        return {line.memory: kept, cards.marked: None, **show(in_view(again), again)}

    asked = {studio.train_job, line.memory, cards.marked, fields["backbone"], *(fields[name] for name in _SIZES)}
    out = [*cards.parts, line.memory, message]
    calm: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    calm |= {"concurrency_id": "priors", "concurrency_limit": 1, "trigger_mode": "multiple"}  # each sees the last mark
    gr.on([seen.change, put.change], quiet(on_view), asked, cards.parts, **calm)
    cards.area.select(guarded(message, on_press), asked, out, **calm)
    cards.anew.click(guarded(message, on_anew), asked, out, **calm)
    line.clear.click(guarded(message, on_clear), asked, out, **calm)


_SIZES = ("num_frames", "height", "width")


def _is_usual(view: JobView) -> bool:
    assert isinstance(view.config, TrainRun)
    return dataclasses.replace(view.config.priors, left_out=()) == PriorConfig()


def _place_fields(run: Any) -> dict[str, Any]:
    return {name: getattr(run, name) for name in ("backbone", *_SIZES)}


def kept_left_out(memory: Any, form: Mapping[str, Any], seeds: Sequence[int]) -> dict[str, Any]:
    """The browser's memory with these seeds for the form's backbone and size."""
    known = memory.get("left_out") if isinstance(memory, Mapping) else None
    others = {str(key): value for key, value in known.items()} if isinstance(known, Mapping) else {}
    place = prior_place(form["backbone"], *sides(form, form["backbone"]))
    others.pop(place, None)
    return {"left_out": {**others, place: list(seeds)} if seeds else others}


def _options(backbone: str) -> dict[str, Any]:
    from synmotion_core.backbones import find_spec

    return dict(find_spec(backbone).options)
