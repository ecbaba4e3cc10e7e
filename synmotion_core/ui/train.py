"""The Train tab: a form that becomes a `TrainRun`, the plan before the start, a view of the job that survives a reload.

The job runs in its own worker (synmotion_core.jobs); this page only asks once a second how it is and shows that. The
form and the command line speak the same config, so that "the same as this command" is the run itself.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.command import same_command, value_text
from synmotion_core.config import TrainRun
from synmotion_core.errors import UserInputError
from synmotion_core.training.settings import TrainConfig
from synmotion_core.ui import media, memory_fields, progress
from synmotion_core.ui.chosen import ClipChoice, Library, current, in_words, run_name
from synmotion_core.ui.context import IN_TURN, PATIENCE_S, POLL_S, Studio, backbone_choices, job_id, scroll_to
from synmotion_core.ui.forms import default_rank, own_settings, refuse_blocked, train_run
from synmotion_core.ui.notices import Updates, guarded, hint, notice, quiet
from synmotion_core.ui.score_plot import score_plot
from synmotion_core.ui.training_view import NO_SAMPLES, outcome_html, priors_html, samples_html, signature

if TYPE_CHECKING:
    from synmotion_core.interfaces import BackboneSpec
    from synmotion_core.jobs import JobView
    from synmotion_core.ui.pictures import Pictures

NO_JOB = "No training yet"
DEFAULTS = TrainConfig()
MODES = {"t2v": "Videos from words", "i2v": "Videos that begin with a picture"}


# ------------------------------------------------------------------------------------------------ what a backbone is


def method_choices(spec: BackboneSpec) -> list[tuple[str, str]]:
    """(what a person reads, name) of every method; one that does not fit the backbone says why."""
    from synmotion_core.interfaces import why_incompatible
    from synmotion_core.methods import METHODS

    out = []
    for entry in METHODS.values():
        reason = why_incompatible(spec, entry.name, entry.requires)
        out.append((f"{entry.title} (not here: {reason})" if reason else entry.title, entry.name))
    return out


def knows_notice(spec: BackboneSpec, real_footage: bool) -> str:
    """What a backbone can draw; where real footage meets one that cannot, which ones could and what they need."""
    from synmotion_core.backbones import SPECS

    if spec.needs_gpu:
        return notice("info", f"{spec.title}: {spec.knows}. It needs a CUDA GPU.")
    if not real_footage:
        return notice("info", f"It draws {spec.knows}.")
    others = [s.title for s in SPECS.values() if s.needs_gpu]
    rest = f"For real footage choose “{'” or “'.join(others)}”, with a CUDA GPU."
    return notice(
        "warning", f"Your own clips meet a backbone that knows {spec.knows}. It cannot learn from real footage. {rest}"
    )


def suggested_subjects(spec: BackboneSpec) -> str:
    """Two subjects that the backbone knows and that are likely not in the clips."""
    nouns, colours = spec.options.get("prior_subjects", ()), spec.options.get("prior_colours", ())
    if not nouns:
        return "a cat\na robot"
    picks = [n for n in ("cat", "robot") if n in nouns] or list(nouns[:2])
    tints = [c for c in ("red", "blue") if c in colours]
    return "\n".join(f"a {tints[i % len(tints)] + ' ' if tints else ''}{noun}" for i, noun in enumerate(picks))


# ------------------------------------------------------------------------------------------------ what a job shows


def clips_summary(choices: tuple[ClipChoice, ...]) -> str:
    """Which clips a training would take, and what is still missing."""
    if not choices:
        return notice(
            "info", "No clips yet. Choose some in the Clips tab first: the ready examples are two clicks away."
        )
    text = f"{in_words(choices)}."
    if not all(choice.subject and choice.motion for choice in choices):
        return notice("warning", text, more="Say who moves and what happens in the Clips tab.")
    if len({choice.motion for choice in choices}) > 1:
        return notice("warning", text, more="One adapter learns one motion: train them apart.")
    return notice("good", text)


def plan_html(run: TrainRun, seconds_per_step: float | None) -> str:
    """Time and memory before the start."""
    from synmotion_core.run import plan

    made = plan(run, seconds_per_step=seconds_per_step)
    items = "".join(f"<li>{escape(line)}</li>" for line in made.lines)
    if made.peak_gib is not None:
        items += f"<li>{hint(_room(made.peak_gib))}</li>"
    return f'<div class="sm-plan-box"><p class="sm-title">Before you start</p><ul class="sm-plan">{items}</ul></div>'


def _room(peak_gib: float) -> str:
    from synmotion_core.planning.machine import card_gib

    card, where = card_gib(), "“Memory and size” has ways to need less."
    if card is None:
        return where
    return f"Of the GPU here {card:.1f} GiB are free: {'enough.' if peak_gib <= card else f'too little. {where}'}"


def own_values(method: str) -> str:
    """A method's settings as they would be written, one a line."""
    return "\n".join(f"{key}={value_text(value)}" for key, value in own_settings(method).items())


def plan_idle(text: str) -> str:
    """The same box when there is nothing to plan."""
    return f'<div class="sm-plan-box"><p class="sm-title">Before you start</p>{hint(text)}</div>'


# ------------------------------------------------------------------------------------------------ the tab


def build(studio: Studio, library: Library, pictures: Pictures) -> dict[str, Any]:
    """Lay the tab out and wire it. Returns what other tabs connect to: `to_generate`, `seen`."""
    jobs = studio.jobs
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            summary = gr.HTML(clips_summary(()), elem_id="train-clips", apply_default_css=False)
            backbone = gr.Dropdown(
                ["puppet-hunyuan"], value="puppet-hunyuan", label="Backbone", elem_id="train-backbone"
            )
            knows = gr.HTML("", elem_id="train-knows", apply_default_css=False)
            method = gr.Radio(["synmotion"], value="synmotion", label="Method", elem_id="train-method")
            mode = gr.Radio(
                [(MODES[name], name) for name in MODES],
                value="t2v",
                label="What it learns to make",
                info="From a picture: the clips' own first frames are given, and samples begin with ready pictures.",
                elem_id="train-mode",
            )
            with gr.Row():
                num_steps = gr.Number(DEFAULTS.num_steps, label="Steps", min_width=110, elem_id="train-steps")
                sample_every = gr.Number(
                    DEFAULTS.sample_every,
                    label="Sample every",
                    min_width=110,
                    elem_id="train-sample-every",
                )
            sample_subjects = gr.Textbox(
                "a red cat\na blue robot",
                label="Who tries the motion while training",
                info="One subject a line. They are not trained on.",
                lines=2,
                max_lines=6,
                elem_id="train-subjects",
            )
            score_every = gr.Number(
                DEFAULTS.score_every,
                label="Score every (steps)",
                info=f"0: never. Each score draws {DEFAULTS.score_videos} videos of the subjects above: the plan below "
                "says how long that takes. The best adapter is kept beside the last.",
                elem_id="train-score-every",
            )
            with gr.Accordion("More settings", open=False):
                name = gr.Textbox(
                    "",
                    label="Name of the adapter",
                    placeholder="made from the motion",
                    max_length=80,
                    elem_id="train-name",
                )
                with gr.Row():
                    learning_rate = gr.Textbox(
                        "", label="Learning rate", info=" ", min_width=110, elem_id="train-learning-rate"
                    )
                    rank = gr.Number(16, label="LoRA rank", min_width=110, elem_id="train-rank")
                method_settings = gr.Textbox(
                    "",
                    label="Settings of the method",
                    info="KEY=VALUE, one a line. Its own values:",
                    lines=3,
                    max_lines=12,
                    elem_id="train-method-settings",
                )
                seed = gr.Number(DEFAULTS.seed, label="Seed")
                save_every = gr.Number(
                    DEFAULTS.save_every,
                    label="Save every (steps)",
                    info="Stop and Resume go by these; Stop itself saves, too.",
                )
            memory = memory_fields.build("train", training=True)
            plan_box = gr.HTML(
                plan_idle("Time and memory are estimated here once clips are chosen."),
                elem_id="train-plan",
                apply_default_css=False,
            )
            start = gr.Button("Start training", variant="primary", elem_id="train-start")
            message = gr.HTML("", elem_id="train-message", apply_default_css=False)
            with gr.Accordion("The same as this command", open=False):
                command = gr.Code(
                    "",
                    language="shell",
                    label="In a terminal",
                    elem_id="train-command",
                    interactive=False,
                    wrap_lines=True,
                )
        with gr.Column(scale=7, min_width=320):
            status = gr.HTML(progress.idle_status(NO_JOB), elem_id="train-status", apply_default_css=False)
            with gr.Row():
                stop = gr.Button(
                    "Stop", size="md", variant="stop", interactive=False, elem_id="train-stop", min_width=90
                )
                resume = gr.Button("Resume", size="md", interactive=False, elem_id="train-resume", min_width=90)
                to_generate = gr.Button(
                    "Use it in Generate", size="md", interactive=False, elem_id="train-use", min_width=90
                )
            plot = gr.HTML(progress.loss_plot((), 0), elem_id="train-plot", apply_default_css=False)
            scores = gr.HTML("", elem_id="train-scores", apply_default_css=False)
            outcome = gr.HTML("", elem_id="train-outcome", apply_default_css=False)
            samples = media.html_area(elem_id="train-samples", value=NO_SAMPLES)
            priors = media.html_area(elem_id="train-priors")
            with gr.Accordion("Earlier trainings", open=False):
                earlier = gr.Dropdown([], label="Show a training", elem_id="train-earlier")
    seen = gr.State("")
    timer = gr.Timer(POLL_S, active=False)

    fields = {
        "name": name, "backbone": backbone, "method": method, "mode": mode, "num_steps": num_steps,
        "sample_every": sample_every, "save_every": save_every, "sample_subjects": sample_subjects,
        "score_every": score_every, "rank": rank, "method_settings": method_settings, "learning_rate": learning_rate,
        "seed": seed, **memory.fields,
    }  # fmt: skip
    view_parts = [
        status,
        plot,
        scores,
        outcome,
        samples,
        priors,
        stop,
        resume,
        to_generate,
        start,
        timer,
        seen,
        earlier,
    ]

    def form(values: Mapping[Any, Any]) -> TrainRun:
        choices = current(values, studio, library)
        return train_run({key: values[part] for key, part in fields.items()}, choices, library, pictures)

    def show(view: JobView, before: str) -> Updates:
        """Numbers each second; everything else only when it changed, so that playing videos are left alone."""
        assert isinstance(view.config, TrainRun)
        updates: Updates = {
            status: progress.status(view),
            plot: progress.loss_plot(view.losses, view.config.train.num_steps),
            scores: score_plot(view.scores, view.config.train.num_steps, view.config.train.score_every),
        }
        now = signature(view)
        if now != before:
            live = view.status in progress.LIVE
            updates |= {
                seen: now,
                outcome: outcome_html(outcome, view),
                samples: samples_html(samples, view),
                priors: priors_html(priors, view),
                stop: gr.Button(interactive=live and view.status != "stopping"),
                resume: gr.Button(interactive=view.status in ("stopped", "failed", "interrupted")),
                to_generate: gr.Button(interactive=view.status == "finished"),
                start: gr.Button(interactive=not live),
                timer: gr.Timer(active=live),
                earlier: gr.Dropdown(choices=past(), value=view.id),
            }
        return updates

    def past() -> list[tuple[str, str]]:
        return [(_row(view), view.id) for view in jobs.list() if isinstance(view.config, TrainRun)]

    def forget() -> Updates:
        off = gr.Button(interactive=False)
        return {
            studio.train_job: {"id": ""},
            status: progress.idle_status(NO_JOB),
            plot: progress.loss_plot((), 0),
            scores: "",
            outcome: "",
            samples: NO_SAMPLES,
            priors: "",
            stop: off,
            resume: off,
            to_generate: off,
            start: gr.Button(interactive=True),
            timer: gr.Timer(active=False),
            seen: "",
        }

    def on_start(values: Mapping[Any, Any]) -> Updates:
        from synmotion_core.backbones import find_spec

        run = form(values)
        choices, spec = current(values, studio, library), find_spec(run.backbone)
        asked = dataclasses.replace(spec, default_shape=spec.shape(run.num_frames, run.height, run.width))
        refuse_blocked(choices, library.looks(choices, asked))
        started = jobs.submit(run)
        return {studio.train_job: {"id": started}, **show(jobs.snapshot(started), "")}

    def on_stop(values: Mapping[Any, Any]) -> Updates:
        asked = job_id(values[studio.train_job])
        jobs.stop(asked)
        return show(jobs.wait(asked, PATIENCE_S), "")

    def on_resume(values: Mapping[Any, Any]) -> Updates:
        asked = job_id(values[studio.train_job])
        jobs.resume(asked)
        return show(jobs.snapshot(asked), "")

    def on_tick(values: Mapping[Any, Any]) -> Updates:
        asked = job_id(values[studio.train_job])
        return show(jobs.snapshot(asked), values[seen]) if asked else {timer: gr.Timer(active=False)}

    def on_load(values: Mapping[Any, Any]) -> Updates:
        asked = job_id(values[studio.train_job]) or unattended()
        if not asked:
            return {}
        try:
            view = jobs.snapshot(asked)
        except UserInputError:  # deleted, or of another workspace
            return forget()
        at_work = {studio.tabs: gr.Tabs(selected="train")} if view.status in progress.LIVE else {}
        return {studio.train_job: {"id": asked}, **show(view, ""), **at_work}

    def unattended() -> str:
        """A training that runs although this browser knows of none: on one's own computer it is one's own.

        (The page may have been reloaded before it heard of the job it had started.)
        """
        live = (v.id for v in jobs.list() if v.kind == "train" and v.status in progress.LIVE)
        return "" if os.environ.get("SPACE_ID") else next(live, "")

    def on_earlier(values: Mapping[Any, Any]) -> Updates:
        asked = values[earlier]
        return {studio.train_job: {"id": asked}, **show(jobs.snapshot(asked), "")} if asked else {}

    def fill(values: Mapping[Any, Any], fresh: Mapping[Any, Any] | None = None) -> Updates:
        """Everything that the registries, the clips and the past know; runs after the page has appeared.

        fresh: what the fields of memory hold from now on.
        """
        from synmotion_core.backbones import find_spec

        spec = find_spec(values[backbone])
        choices = current(values, studio, library)
        updates: Updates = {
            backbone: gr.Dropdown(choices=backbone_choices()),
            method: gr.Radio(choices=method_choices(spec)),
            method_settings: gr.Textbox(placeholder=own_values(values[method])),
            mode: gr.Radio(
                choices=[(MODES[name], name) for name in MODES if name in spec.modes],
                value=values[mode] if values[mode] in spec.modes else spec.modes[0],
            ),
            knows: knows_notice(spec, real_footage(choices, spec)),
            summary: clips_summary(choices),
            earlier: gr.Dropdown(choices=past()),
            learning_rate: gr.Textbox(placeholder=f"{spec.learning_rate:g}"),
            name: gr.Textbox(placeholder=run_name(choices[0].motion) if choices else "made from the motion"),
        }
        return updates | memory.describe(spec, fresh) | estimate({**values, **(fresh or {})})

    def real_footage(choices: tuple[ClipChoice, ...], spec: BackboneSpec) -> bool:
        own = [choice for choice in choices if choice.is_upload]
        return any(finding.code == "footage" for look in library.looks(own, spec) for finding in look.findings)

    def on_backbone(values: Mapping[Any, Any]) -> Updates:
        from synmotion_core.backbones import find_spec

        spec = find_spec(values[backbone])
        new = {sample_subjects: suggested_subjects(spec), studio.backbone: spec.name}
        return {**fill({**values, **new}, memory.defaults()), **new}

    def estimate(values: Mapping[Any, Any]) -> Updates:
        if not current(values, studio, library):
            return {plan_box: plan_idle("Time and memory are estimated here once clips are chosen."), command: ""}
        from synmotion_core import pace

        try:
            run = form(values)
            made = plan_html(run, pace.recall(studio.workspace, run))
        except UserInputError as error:
            return {plan_box: plan_idle(f"No estimate yet: {error}"), command: ""}
        return {plan_box: made, command: same_command(run), **memory.offer(run)}

    def on_method(values: Mapping[Any, Any]) -> Updates:
        """A field that the method would not read is not shown; one that it reads begins with its own default."""
        own = default_rank(values[method])
        return {
            rank: gr.Number(visible=False) if own is None else gr.Number(value=own, visible=True),
            method_settings: gr.Textbox("", placeholder=own_values(values[method])),
        }

    def on_way(values: Mapping[Any, Any]) -> Updates:
        return memory.take(form({**values, **memory.plain()}), str(values[memory.ways]))

    watched = {studio.train_job, seen}
    shown = [*view_parts, studio.train_job, message]
    everything = {*fields.values(), studio.clips, studio.chosen, memory.ways}
    known = [backbone, method, method_settings, mode, knows, summary, earlier, name, learning_rate]
    filled = [*known, plan_box, command, *memory.parts]
    calm: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 8}
    started = start.click(guarded(message, on_start), everything, shown, **{**calm, **IN_TURN, "trigger_mode": "once"})
    started.then(None, None, None, js=scroll_to("train-status", unless="train-message"))
    stop.click(guarded(message, on_stop), watched, shown, **calm)
    resume.click(guarded(message, on_resume), watched, shown, **calm)
    earlier.input(guarded(message, on_earlier), {earlier}, shown, **calm)
    timer.tick(quiet(on_tick), watched, shown, **calm)
    studio.chosen.change(quiet(fill), everything, filled, **{**calm, "trigger_mode": "always_last"})
    new_backbone = [*filled, message, sample_subjects, studio.backbone]
    backbone.input(guarded(message, on_backbone), everything, new_backbone, **calm)
    settings = [part.change for part in fields.values() if part is not backbone]
    gr.on(settings, quiet(estimate), everything, [plan_box, command, memory.ways], trigger_mode="always_last", **calm)
    method.change(quiet(on_method), {method}, [rank, method_settings], **calm)
    memory.ways.input(guarded(message, on_way), everything, [*memory.parts, message], **calm)
    loading = [(quiet(fill), everything, filled), (quiet(on_load), watched, [*shown, studio.tabs])]
    return {"load": loading, "to_generate": to_generate}


def _row(view: JobView) -> str:
    when = time.strftime("%d %b %H:%M", time.localtime(view.created))
    name = view.config.name if isinstance(view.config, TrainRun) else view.id
    return f"{name} · {progress.STATUS[view.status][0]} · {when}"
