"""The Train tab: a form that becomes a `TrainRun`, the plan before the start, a view of the job that survives a reload.

The job runs in its own worker (synmotion_core.jobs); this page only asks once a second how it is and shows that. The
form and the command line speak the same config, so that "the same as this command" is the run itself.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.command import same_command
from synmotion_core.config import TrainRun
from synmotion_core.errors import MissingError, UserInputError
from synmotion_core.ui import (
    media,
    picture_fields,
    preset_fields,
    prior_fields,
    progress,
    queue,
    remote,
    remote_fields,
    train_fields,
    train_words,
)
from synmotion_core.ui.beat import POLL_S
from synmotion_core.ui.chosen import ClipChoice, current, in_words, run_name, to_memory
from synmotion_core.ui.context import IN_TURN, PATIENCE_S, Studio, backbone_choices, in_time, job_id, scroll_to
from synmotion_core.ui.dataset_fields import keep_aside
from synmotion_core.ui.forms import default_rank, refuse_blocked, train_run
from synmotion_core.ui.judged import Judged, judged_by, sized
from synmotion_core.ui.memory_fields import SIZES, refuse_too_large
from synmotion_core.ui.notices import Updates, guarded, notice, notices, quiet
from synmotion_core.ui.refill import refill_training
from synmotion_core.ui.score_plot import score_plot
from synmotion_core.ui.train_words import own_values
from synmotion_core.ui.training_view import NO_SAMPLES, outcome_html, samples_html, signature

if TYPE_CHECKING:
    from synmotion_core.interfaces import BackboneSpec
    from synmotion_core.jobs import JobView

NO_JOB = "No training yet"
START, QUEUE_IT = "Start training", "Queue it"


def build(studio: Studio) -> dict[str, Any]:
    """Lay the tab out and wire it. Returns what others connect to: `load`, `anew`, `to_generate`, `made` and more."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            laid = train_fields.build(train_words.clips_summary(()), studio.left_out)
            plan_box = gr.HTML(
                train_words.plan_idle("Time and memory are estimated here once clips are chosen."),
                elem_id="train-plan",
                apply_default_css=False,
            )
            start = gr.Button(START, variant="primary", elem_id="train-start")
            message = gr.HTML("", elem_id="train-message", apply_default_css=False)
            elsewhere = remote_fields.build()
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
                    "Stop", size="md", variant="stop", interactive=False, elem_id="train-stop", min_width=80
                )
                resume = gr.Button("Resume", size="md", interactive=False, elem_id="train-resume", min_width=90)
                save = gr.Button("Save now", size="md", interactive=False, elem_id="train-save", min_width=120)
                sample = gr.Button("Sample now", size="md", interactive=False, elem_id="train-sample", min_width=140)
                to_generate = gr.Button(
                    "Use it in Generate", size="md", interactive=False, elem_id="train-use", min_width=200
                )
                again = gr.Button(
                    "Use its settings and clips again",
                    size="md",
                    interactive=False,
                    elem_id="train-again",
                    min_width=260,
                )
            jobs = queue.build()
            plot = gr.HTML(progress.loss_plot((), 0), elem_id="train-plot", apply_default_css=False)
            scores = gr.HTML("", elem_id="train-scores", apply_default_css=False)
            outcome = gr.HTML("", elem_id="train-outcome", apply_default_css=False)
            samples = media.html_area(elem_id="train-samples", value=NO_SAMPLES)
            priors = prior_fields.build_cards()
            with gr.Accordion("Earlier trainings", open=False):
                earlier = gr.Dropdown([], label="Show a training", elem_id="train-earlier")
    seen, made, put = gr.State(""), gr.State(""), gr.State("")
    filled_for = gr.State("puppet-hunyuan")  # the backbone whose own values the fields took over
    timer = gr.Timer(POLL_S, active=False)

    fields, memory, presets = laid.fields, laid.memory, laid.presets
    summary, knows = laid.summary, laid.knows
    backbone, method, mode, sample_subjects = (fields[k] for k in ("backbone", "method", "mode", "sample_subjects"))
    name, rank, learning_rate = (fields[k] for k in ("name", "rank", "learning_rate"))
    method_settings = fields["method_settings"]
    job_buttons = [stop, resume, save, sample, to_generate, again]
    view_parts = [
        status,
        plot,
        scores,
        outcome,
        samples,
        *job_buttons,
        start,
        timer,
        seen,
        earlier,
        *jobs.parts,
    ]

    def form(values: Mapping[Any, Any]) -> TrainRun:
        images = laid.pictures.images(studio, values)
        return train_run(laid.named(values), current(values, studio), studio.library, studio.pictures, images)

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
            live, runs = view.status in progress.LIVE, view.status == "running"
            updates |= {
                seen: now,
                outcome: outcome_html(outcome, view),
                samples: samples_html(samples, view),
                stop: gr.Button(interactive=live and view.status != "stopping"),
                resume: gr.Button(interactive=view.status in ("stopped", "failed", "interrupted")),
                save: gr.Button(interactive=runs),
                sample: gr.Button(interactive=runs and bool(view.config.train.sample_subjects)),
                to_generate: gr.Button(interactive=view.status == "finished"),
                again: gr.Button(interactive=True),
                earlier: gr.Dropdown(choices=past(), value=view.id),
            }
        return updates

    def listed(before: str = "", doomed: str = "", *, unfold: bool = False) -> Updates:
        """The jobs; with them whether Start would queue, and whether there is anything to ask about each second."""
        updates = jobs.look(studio.jobs, before, doomed, unfold=unfold)
        if jobs.rows in updates:
            busy = any(view.status in progress.LIVE for view in studio.jobs.list(newest=queue.ROWS))
            updates |= {start: gr.Button(QUEUE_IT if busy else START), timer: gr.Timer(active=busy)}
        return updates

    def past() -> list[tuple[str, str]]:
        return [(_row(view), view.id) for view in studio.jobs.list() if isinstance(view.config, TrainRun)]

    def forget() -> Updates:
        return {
            studio.train_job: {"id": ""},
            status: progress.idle_status(NO_JOB),
            plot: progress.loss_plot((), 0),
            **dict.fromkeys((scores, outcome, seen), ""),
            samples: NO_SAMPLES,
            **{button: gr.Button(interactive=False) for button in job_buttons},
        }

    def to_train(values: Mapping[Any, Any]) -> TrainRun:
        """What Start begins, here or elsewhere. Raises ClipError for clips that cannot be used yet."""
        from synmotion_core.backbones import find_spec

        run = form(values)
        choices, spec = current(values, studio), find_spec(run.backbone)
        asked = dataclasses.replace(spec, default_shape=spec.shape(run.num_frames, run.height, run.width))
        refuse_blocked(choices, studio.library.looks(choices, asked))
        return run

    def on_start(values: Mapping[Any, Any]) -> Updates:
        run = to_train(values)
        refuse_too_large(run, bool(values[memory.anyway]))
        started = studio.jobs.submit(run)
        waits, shown_now = queue.place_in_words(studio.jobs, started), job_id(values[studio.train_job])
        if waits and shown_now and is_live(shown_now):  # what runs stays in view
            return {message: notice("info", f"“{run.name}” is queued.", more=waits), **listed(unfold=True)}
        said = notices("info", filter(None, [train_words.no_samples(run)]))
        return {**show_job(started), **listed(unfold=True), message: said}

    def is_live(asked: str) -> bool:
        return any(view.id == asked for view in studio.jobs.list() if view.status in progress.LIVE)

    def show_job(asked: str) -> Updates:
        return {studio.train_job: {"id": asked}, **show(studio.jobs.snapshot(asked), "")}

    def on_stop(values: Mapping[Any, Any]) -> Updates:
        asked = job_id(values[studio.train_job])
        studio.jobs.stop(asked)
        return {**show(studio.jobs.wait(asked, PATIENCE_S), ""), **listed()}

    def on_resume(values: Mapping[Any, Any]) -> Updates:
        asked = job_id(values[studio.train_job])
        studio.jobs.resume(asked)
        return {**show(studio.jobs.snapshot(asked), ""), **listed(unfold=True)}

    def on_save(values: Mapping[Any, Any]) -> Updates:
        asked = job_id(values[studio.train_job])
        before, until = studio.jobs.snapshot(asked).checkpoint_step, time.monotonic() + PATIENCE_S
        studio.jobs.ask(asked, "save")
        while (view := studio.jobs.snapshot(asked)).checkpoint_step == before and time.monotonic() < until:
            time.sleep(0.1)
        at = "after the step at work" if view.checkpoint_step == before else f"at step {view.checkpoint_step}"
        gr.Info(f"Saved {at}.")
        return show(view, "")

    def on_sample(values: Mapping[Any, Any]) -> Updates:
        studio.jobs.ask(job_id(values[studio.train_job]), "sample")
        gr.Info("The subjects are drawn after the step at work.")
        return {}

    def on_press(values: Mapping[Any, Any], event: gr.EventData) -> Updates:
        did, asked = queue.press(studio.jobs, event.source)
        doomed = asked if did == "delete" else ""
        shown_now = job_id(values[studio.train_job])
        updates: Updates = {jobs.doomed: doomed, **listed(doomed=doomed)}
        if did == "really" and asked == shown_now:
            return updates | forget()
        if did == "stop":
            studio.jobs.wait(asked, PATIENCE_S)
            updates |= listed()
        view = studio.jobs.snapshot(asked) if did in ("show", "resume", "stop") else None
        if view is not None and view.kind == "generate" and did == "show":
            return updates | {made: f"{time.monotonic_ns()} {asked}"}
        if view is not None and view.kind == "train" and (did == "show" or asked == shown_now):
            updates |= show_job(asked)
        return updates

    def on_tick(values: Mapping[Any, Any]) -> Updates:
        asked, updates = job_id(values[studio.train_job]), listed(values[jobs.seen], values[jobs.doomed])
        try:
            shown = {**show(studio.jobs.snapshot(asked), values[seen]), **updates} if asked else updates
        except MissingError:  # deleted, on another page
            shown = forget() | updates
        return in_time(studio, timer, shown)

    def on_load(values: Mapping[Any, Any]) -> Updates:
        asked, updates = job_id(values[studio.train_job]) or unattended(), listed(unfold=True)
        if not asked:
            return updates
        try:
            view = studio.jobs.snapshot(asked)
        except UserInputError:  # deleted, or of another workspace
            return forget() | updates
        at_work = {studio.tabs: gr.Tabs(selected="train")} if view.status in progress.LIVE else {}
        return {studio.train_job: {"id": asked}, **show(view, ""), **at_work, **updates}

    def unattended() -> str:
        """A training that runs although this browser knows of none: it is of the same person.

        (The page may have been reloaded before it heard of the job it had started.)
        """
        live = (v.id for v in studio.jobs.list() if v.kind == "train" and v.status in progress.LIVE)
        return next(live, "")

    def on_earlier(values: Mapping[Any, Any]) -> Updates:
        return show_job(values[earlier]) if values[earlier] else {}

    def fill(values: Mapping[Any, Any], fresh: Mapping[Any, Any] | None = None) -> Updates:
        """Everything that the registries, the clips and the past know; runs after the page has appeared.

        What it leaves is estimated after it, from what the fields hold then.

        fresh: what fields hold from now on.
        """
        from synmotion_core.backbones import find_spec

        new = dict(fresh or {})
        values = {**values, **new}
        spec = find_spec(values[backbone])
        choices = current(values, studio)

        def held(part: Any) -> Any:
            """What can stay is not sent back: another may have been typed or pressed meanwhile."""
            return {"value": new[part]} if part in new else {}

        own_mode: Any = held(mode) if values[mode] in spec.modes else {"value": spec.modes[0]}
        return {
            **new,
            backbone: gr.Dropdown(choices=backbone_choices(), **held(backbone)),
            method: gr.Radio(choices=train_words.method_choices(spec), **held(method)),
            method_settings: gr.Textbox(placeholder=own_values(values[method], spec.name), **held(method_settings)),
            mode: gr.Radio(choices=train_words.mode_choices(spec), **own_mode),
            knows: train_words.knows_notice(spec, real_footage(choices, sized(spec, laid.named(values)))),
            summary: train_words.clips_summary(choices),
            earlier: gr.Dropdown(choices=past()),
            learning_rate: gr.Textbox(placeholder=f"{spec.learning_rate:g}", **held(learning_rate)),
            name: gr.Textbox(
                placeholder=run_name(choices[0].motion) if choices else "made from the motion", **held(name)
            ),
            **memory.describe(spec, new),
        }

    def real_footage(choices: tuple[ClipChoice, ...], spec: BackboneSpec) -> bool:
        own = [choice for choice in choices if choice.is_upload]
        return any(finding.code == "footage" for look in studio.library.looks(own, spec) for finding in look.findings)

    def on_backbone(values: Mapping[Any, Any]) -> Updates:
        from synmotion_core.backbones import find_spec

        if values[backbone] == values[filled_for]:
            return {}  # a list that was opened and left, or heard of twice
        spec = find_spec(values[backbone])
        new = {
            sample_subjects: train_words.suggested_subjects(spec),
            studio.judged: Judged(backbone=spec.name),
            filled_for: spec.name,
        }
        return fill(values, {**memory.defaults(), **new, **preset_values(values, spec)})

    def preset_values(values: Mapping[Any, Any], spec: BackboneSpec) -> dict[Any, Any]:
        wanted = preset_fields.values_of(values[presets.choice], laid.named(values), spec)
        return {fields[key]: value for key, value in wanted.items()}

    def on_preset(values: Mapping[Any, Any]) -> Updates:
        from synmotion_core.backbones import find_spec

        spec = find_spec(values[backbone])
        new = preset_values(values, spec)
        return new | presets.mark(laid.named({**values, **new}), spec, values[presets.choice])

    def on_again(values: Mapping[Any, Any]) -> Updates:
        """The form and the clips as they were for the training in view."""
        from synmotion_core.backbones import find_spec

        view = studio.jobs.snapshot(job_id(values[studio.train_job]))
        assert isinstance(view.config, TrainRun)
        old, before = refill_training(view.config, studio, values[fields["left_out"]]), current(values, studio)
        said = notice("good", f"The form and the clips are as they were for “{view.config.name}”.")
        if before and before != old.clips:
            kept = keep_aside(before, f"before {view.config.name}", studio)
            said += notice("info", f"The clips before ({in_words(before)}) are in the saved set “{kept}”.")
        spec, own_rank = find_spec(view.config.backbone), default_rank(view.config.method)
        new: dict[Any, Any] = {fields[key]: value for key, value in old.values.items()}
        new |= {studio.clips: old.clips, studio.chosen: to_memory(old.clips), filled_for: spec.name}
        new[studio.judged] = judged_by(old.values, values[studio.judged])
        new |= laid.pictures.put(studio, old.pictures, view.config.train.sample_subjects, sized(spec, old.values))
        return {
            **fill(values, new),
            rank: gr.Number(value=new[rank], visible=own_rank is not None),
            put: f"{time.monotonic_ns()}",
            message: said + notices("warning", old.said),
        }

    def on_mode(values: Mapping[Any, Any]) -> Updates:
        return {laid.pictures.box: gr.Accordion(visible=values[mode] == "i2v")}

    def seen_by(values: Mapping[Any, Any]) -> BackboneSpec:
        """The backbone at the size that is asked for: what of pictures it sees."""
        from synmotion_core.backbones import find_spec

        return sized(find_spec(values[backbone]), laid.named(values))

    def on_size(values: Mapping[Any, Any]) -> Updates:
        """Clips are judged anew once a field is left, not for what is half typed."""
        form = {name: values[fields[name]] for name in ("backbone", *SIZES)}
        now = judged_by(form, values[studio.judged])
        return {} if now == values[studio.judged] else {studio.judged: now}

    def estimate(values: Mapping[Any, Any]) -> Updates:
        from synmotion_core import pace
        from synmotion_core.backbones import find_spec

        said: Updates = {
            command: "",
            **laid.left_out.tell(laid.named(values)),
            **presets.mark(laid.named(values), find_spec(values[backbone]), values[presets.choice]),
        }
        if not current(values, studio):
            return said | {plan_box: train_words.plan_idle("Time and memory are estimated here once clips are chosen.")}
        try:
            run = form(values)
            made = train_words.plan_html(run, pace.recall(studio.workspace, run))
        except UserInputError as error:
            return said | {plan_box: train_words.plan_idle(f"No estimate yet: {error}")}
        return said | {plan_box: made, command: same_command(run), **memory.offer(run)}

    def on_method(values: Mapping[Any, Any]) -> Updates:
        """A field that the method would not read is not shown; one that it reads begins with its own default."""
        own = default_rank(values[method])
        return {
            rank: gr.Number(visible=False) if own is None else gr.Number(value=own, visible=True),
            method_settings: gr.Textbox("", placeholder=own_values(values[method], values[backbone])),
        }

    def on_way(values: Mapping[Any, Any]) -> Updates:
        return memory.take(form({**values, **memory.plain()}), str(values[memory.ways]))

    watched = {studio.train_job, seen, jobs.seen, jobs.doomed}
    shown = [*view_parts, studio.train_job, message]
    everything = {*fields.values(), studio.clips, studio.chosen, studio.train_job, presets.choice}
    everything |= {memory.ways, memory.anyway, laid.pictures.chosen, laid.pictures.shown}
    known = [backbone, method, method_settings, mode, knows, summary, earlier, name, learning_rate]
    filled = [*known, *memory.parts]
    estimated = [plan_box, command, memory.ways, *presets.parts, *laid.left_out.parts]
    anew = (quiet(estimate), everything, estimated)
    calm: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 8}
    started = start.click(guarded(message, on_start), everything, shown, **{**calm, **IN_TURN, "trigger_mode": "once"})
    started.then(None, None, None, js=scroll_to("train-status", unless="train-message"))
    for button, handler in ((stop, on_stop), (resume, on_resume), (save, on_save), (sample, on_sample)):
        button.click(guarded(message, handler), watched, shown, **calm)
    jobs.rows.select(guarded(message, on_press), watched, [*shown, made], **{**calm, "trigger_mode": "multiple"})
    earlier.input(guarded(message, on_earlier), {earlier}, shown, **calm)
    timer.tick(quiet(on_tick), watched, shown, **calm)
    refill = studio.chosen.change(quiet(fill), everything, filled, **{**calm, "trigger_mode": "always_last"})
    refill.then(*anew, **calm)
    preset_sets = [fields[key] for key in preset_fields.SETS]
    new_backbone = list({*filled, *preset_sets, message, sample_subjects, filled_for, studio.judged})
    turn = {**calm, **IN_TURN}  # it says for what clips are judged
    backbone.input(guarded(message, on_backbone), {*everything, filled_for}, new_backbone, **turn).then(*anew, **calm)
    sizes = [fields[name] for name in SIZES]
    judge = (quiet(on_size), {backbone, *sizes, studio.judged}, studio.judged)
    gr.on([event for part in sizes for event in (part.blur, part.submit)], *judge, **turn)
    settings = [*(part.change for part in fields.values() if part is not backbone), laid.pictures.chosen.change]
    mode.change(quiet(on_mode), {mode}, laid.pictures.box, **calm)
    shape = [fields["height"], fields["width"]]
    picture_fields.wire(studio, laid.pictures, sample_subjects, seen_by, everything, message, calm, sizes=shape)
    presets.choice.input(guarded(message, on_preset), everything, [*presets.parts, *preset_sets, message], **calm)
    gr.on(settings, *anew, trigger_mode="always_last", **calm)
    method.input(quiet(on_method), {method, backbone}, [rank, method_settings], **calm)
    memory.ways.input(guarded(message, on_way), everything, [*memory.parts, message], **calm)
    refilled = list({*fields.values(), *filled, rank, studio.clips, studio.chosen, filled_for, put, message})
    refilled += [studio.judged, *laid.pictures.parts]
    filled_in = again.click(guarded(message, on_again), {*everything, studio.judged}, refilled, **{**calm, **IN_TURN})
    filled_in.then(*anew, **calm)
    filled_in.then(None, None, None, js=scroll_to("train-message"))
    prior_fields.wire(studio, priors, laid.left_out, seen, put, fields, message)
    away = remote.build(studio, elsewhere, to_train, everything, backbone)
    loading = [(quiet(fill), everything, filled), (quiet(on_load), watched, [*shown, studio.tabs]), away["load"]]
    others = {"to_generate": to_generate, "made": made, "put": put, "judge": judge, "remote": away}
    return {"load": loading, "anew": anew, **others}


def _row(view: JobView) -> str:
    when = time.strftime("%d %b %H:%M", time.localtime(view.created))
    name = view.config.name if isinstance(view.config, TrainRun) else view.id
    return f"{name} · {progress.STATUS[view.status][0]} · {when}"
