"""The Generate tab: an adapter, subjects and a motion become videos, the backbone alone beside the adapter, in sync."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.command import drawing_arguments, same_command
from synmotion_core.config import GenerateRun, TrainRun
from synmotion_core.errors import MissingError, UserInputError
from synmotion_core.ui import gallery, media, memory_fields, picture_fields, progress
from synmotion_core.ui.adapters import (
    BASE_ALONE,
    about,
    adapter_choices,
    adapter_fields,
    describe_adapter,
    find_adapter,
    find_adapters,
    open_settings,
)
from synmotion_core.ui.beat import POLL_S
from synmotion_core.ui.blend_fields import blend_fields, blend_of, offer_second
from synmotion_core.ui.chosen import current
from synmotion_core.ui.context import PATIENCE_S, Studio, backbone_choices, in_time, job_id, scroll_to
from synmotion_core.ui.forms import generate_run
from synmotion_core.ui.guiding_fields import OWN, describe_guiding, guiding_fields
from synmotion_core.ui.judged import sized
from synmotion_core.ui.lora_fields import lora_fields, loras_of, offer_loras
from synmotion_core.ui.noise_fields import noise_clip, noise_fields, offer_clips
from synmotion_core.ui.notices import Updates, guarded, hint, notices, quiet
from synmotion_core.ui.refill import memory_values, refill
from synmotion_core.ui.results import NO_VIDEOS, results_html

if TYPE_CHECKING:
    from synmotion_core.adapters.file import AdapterInfo
    from synmotion_core.interfaces import BackboneSpec
    from synmotion_core.jobs import JobView

NO_JOB = "No video yet"


def signature(view: JobView) -> str:
    """Changes when more than the numbers of a running job changed."""
    return f"{view.id} {view.status} {len(view.samples)} {len(view.warnings)} {len(view.notes)}"


# ------------------------------------------------------------------------------------------------ the tab


def build(studio: Studio) -> dict[str, Any]:
    """Lay the tab out and wire it. Returns what other tabs connect to."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            adapter = gr.Dropdown(
                adapter_choices(()),
                value=BASE_ALONE,
                label="Adapter",
                elem_id="gen-adapter",
            )
            info = gr.HTML(about(None), elem_id="gen-about", apply_default_css=False)
            subjects = gr.Textbox(
                "a red cat",
                label="Subjects",
                info="One a line: who does the motion.",
                lines=2,
                max_lines=8,
                elem_id="gen-subjects",
            )
            pictures = picture_fields.build(
                "gen", "One picture a subject, in the order of the lines above: its videos begin with it."
            )
            noise, blend, loras = noise_fields(), blend_fields(), lora_fields()
            motion = gr.Textbox(
                "", label="Motion", info="The adapter's own words work best.", placeholder="claps", elem_id="gen-motion"
            )
            with gr.Row():
                seeds = gr.Textbox(
                    "0", label="Seeds", info="0, 1, 2 or 0-3", min_width=120, scale=2, elem_id="gen-seeds"
                )
                dice = gr.Button(
                    "New seed", size="md", elem_classes="sm-align", min_width=90, scale=1, elem_id="gen-dice"
                )
            strength = gr.Slider(
                0,
                2,
                1,
                step=0.05,
                label="Strength of the adapter",
                info="0 is the backbone alone, 1 as trained.",
                elem_id="gen-strength",
                buttons=[],
            )
            compare = gr.Checkbox(True, label="Draw the backbone alone beside it", elem_id="gen-compare")
            with gr.Accordion("More settings", open=False):
                setting = gr.Textbox("", label="Place", placeholder="in the snow", elem_id="gen-setting")
                # text, not gr.Number: that one shows 0 where nothing is set
                with gr.Row():
                    steps = gr.Textbox("", label="Sampling steps", placeholder=OWN, min_width=110, elem_id="gen-steps")
                    guidance = gr.Textbox("", label="Guidance", placeholder=OWN, min_width=110, elem_id="gen-guidance")
                with gr.Row():
                    until = gr.Textbox(
                        "",
                        label="Guide until noise",
                        info="0 to 1",
                        placeholder=OWN,
                        min_width=110,
                        elem_id="gen-until",
                    )
                    eta = gr.Textbox(
                        "", label="Fresh noise a step", info="0 to 1", placeholder=OWN, min_width=110, elem_id="gen-eta"
                    )
                guiding = guiding_fields()
                adapted = adapter_fields()
                backbone = gr.Dropdown(
                    ["puppet-hunyuan"],
                    value="puppet-hunyuan",
                    label="Backbone without an adapter",
                    elem_id="gen-backbone",
                    info="An adapter brings its own.",
                )
            memory = memory_fields.build("gen", training=False)
            plan_line = gr.HTML("", elem_id="gen-plan", apply_default_css=False)
            start = gr.Button("Generate", variant="primary", elem_id="gen-start")
            message = gr.HTML("", elem_id="gen-message", apply_default_css=False)
            with gr.Accordion("The same as this command", open=False):
                command = gr.Code(
                    "",
                    language="shell",
                    label="In a terminal",
                    elem_id="gen-command",
                    interactive=False,
                    wrap_lines=True,
                )
        with gr.Column(scale=7, min_width=320):
            status = gr.HTML(progress.idle_status(NO_JOB), elem_id="gen-status", apply_default_css=False)
            cancel = gr.Button(
                "Cancel", size="md", variant="stop", interactive=False, elem_id="gen-cancel", min_width=90
            )
            outcome = gr.HTML("", elem_id="gen-outcome", apply_default_css=False)
            results = media.html_area(elem_id="gen-results", value=NO_VIDEOS)
    seen, described = gr.State(""), gr.State("")
    offered_last = gr.State(None)  # the adapter whose words were put into the form
    timer = gr.Timer(POLL_S, active=False)

    fields = {
        "adapter": adapter, "subjects": subjects, "motion": motion, "setting": setting, "seeds": seeds,
        "strength": strength, "compare": compare, "steps": steps, "guidance": guidance, "until": until,
        "eta": eta, "backbone": backbone, **noise, **blend, **loras, **adapted, **guiding, **memory.fields,
    }  # fmt: skip

    def form(values: Mapping[Any, Any]) -> GenerateRun:
        wanted = values[adapter]
        chosen = find_adapter(studio.workspace, wanted, studio.assets) if wanted else None
        brought = (chosen.path, chosen.info.backbone) if chosen else None
        wanted, clips = values[noise["noise_clip"]], current(values, studio)
        footage = noise_clip(wanted, clips, studio.library, seen_by(values)) if wanted else None
        second = blend_of(blend, values, studio)
        images = pictures.images(studio, values)
        return generate_run(named(values), brought, images, footage, second, loras_of(loras, values, studio))

    def named(values: Mapping[Any, Any]) -> dict[str, Any]:
        return {key: values[part] for key, part in fields.items()}

    def info_of(values: Mapping[Any, Any]) -> AdapterInfo | None:
        wanted = values[adapter]
        return find_adapter(studio.workspace, wanted, studio.assets).info if wanted else None

    def spec_of(values: Mapping[Any, Any]) -> BackboneSpec:
        """The backbone that would draw: the adapter's own, else the one chosen."""
        from synmotion_core.backbones import find_spec

        chosen = info_of(values)
        return find_spec(chosen.backbone if chosen else values[backbone])

    def seen_by(values: Mapping[Any, Any]) -> BackboneSpec:
        """The same at the size that is asked for: what of clips and pictures it sees."""
        return sized(spec_of(values), named(values))

    def show(view: JobView, before: str) -> Updates:
        updates: Updates = {status: progress.status(view)}
        now = signature(view)
        if now != before:
            live = view.status in progress.LIVE
            updates |= {
                seen: now,
                outcome: notices("warning", view.warnings) + notices("info", view.notes),
                results: results_html(results, view),
                cancel: gr.Button(interactive=live and view.status != "stopping"),
                start: gr.Button(interactive=not live),
                timer: gr.Timer(active=live),
            }
        return updates

    def on_start(values: Mapping[Any, Any]) -> Updates:
        run = form(values)
        spec_of(values).check_mode("i2v" if run.images else "t2v")
        memory_fields.refuse_too_large(run, bool(values[memory.anyway]))
        started = studio.jobs.submit(run)
        return {studio.generate_job: {"id": started}, **show(studio.jobs.snapshot(started), "")}

    def on_cancel(values: Mapping[Any, Any]) -> Updates:
        asked = job_id(values[studio.generate_job])
        studio.jobs.stop(asked)
        return show(studio.jobs.wait(asked, PATIENCE_S), "")

    def on_tick(values: Mapping[Any, Any]) -> Updates:
        asked = job_id(values[studio.generate_job])
        if not asked:
            return {timer: gr.Timer(active=False)}
        return in_time(studio, timer, show(studio.jobs.snapshot(asked), values[seen]))

    def on_load(values: Mapping[Any, Any]) -> Updates:
        asked = job_id(values[studio.generate_job])
        if not asked:
            return {}
        try:
            view = studio.jobs.snapshot(asked)
        except UserInputError:  # deleted, or of another workspace
            return {studio.generate_job: {"id": ""}}
        at_work = {studio.tabs: gr.Tabs(selected="generate")} if view.status in progress.LIVE else {}
        return {**show(view, ""), **at_work}

    def offer(wanted: str) -> Updates:
        """The list of adapters with `wanted` chosen, or the first when that is not there."""
        found, problems = find_adapters(studio.workspace, studio.assets)
        chosen = next((c for c in found if c.id == wanted), found[0] if found else None)
        value = chosen.id if chosen else BASE_ALONE
        updates: Updates = {
            adapter: gr.Dropdown(choices=adapter_choices(found), value=value),
            offered_last: value,
            info: about(chosen) + notices("warning", problems),
            backbone: gr.Dropdown(choices=backbone_choices()),
        }
        return updates | ({motion: chosen.info.motion} if chosen else {})

    def on_adapter(values: Mapping[Any, Any]) -> Updates:
        if values[adapter] == values[offered_last]:
            return {}  # a list that was opened and left, or heard of twice: a motion that was typed stays
        if not values[adapter]:
            return {info: about(None), offered_last: values[adapter]}
        chosen = find_adapter(studio.workspace, values[adapter], studio.assets)
        return {info: about(chosen), motion: chosen.info.motion, offered_last: values[adapter]}

    def fill(values: Mapping[Any, Any]) -> Updates:
        """When the page loads, and whenever one comes to this tab: then what is chosen and typed stays."""
        found, _ = find_adapters(studio.workspace, studio.assets)
        if values[offered_last] is not None and values[adapter] in {BASE_ALONE, *(choice.id for choice in found)}:
            return {adapter: gr.Dropdown(choices=adapter_choices(found))} | on_clips(values)
        return offer(values[adapter]) | on_clips(values)

    def on_clips(values: Mapping[Any, Any]) -> Updates:
        return offer_clips(noise, current(values, studio), values[noise["noise_clip"]])

    def take(values: Mapping[Any, Any]) -> Updates:
        """From a finished training to here, with its adapter chosen."""
        view = studio.jobs.snapshot(job_id(values[studio.train_job]))
        if view.result is None:
            raise MissingError("this training has no adapter yet: let it finish first")
        assert isinstance(view.config, TrainRun)
        chosen = {**offer(f"mine/{view.result.name}"), studio.tabs: gr.Tabs(selected="generate")}
        return chosen | as_trained(view.config, values)

    def as_trained(run: TrainRun, values: Mapping[Any, Any]) -> Updates:
        """Weights and videos as a training held them; the fields of guidance anew where another backbone drew."""
        from synmotion_core.backbones import find_spec

        spec = find_spec(run.backbone)
        new = {fields[name]: value for name, value in memory_values(run).items()}
        fresh = dict.fromkeys(guiding.values(), "") if values[described] not in ("", spec.name) else {}
        other = bool(drawing_arguments(run))
        said = notices("info", ["“Memory and size” is set as this adapter was trained."]) if other else ""
        updates: Updates = {described: spec.name, message: said, **memory.describe(spec, new)}
        return updates | describe_guiding(guiding, spec, values[guidance], fresh)

    def training_of(file: Path) -> TrainRun | None:
        """The training here that made an adapter, as far as its job is still there."""
        made = (view for view in studio.jobs.list() if file in (view.result, view.best))
        return next((view.config for view in made if isinstance(view.config, TrainRun)), None)

    def take_from(source: gr.Dropdown | gr.State) -> tuple[Any, Any, Any]:
        """The wiring of a button beside another list of adapters, or a single one: to here, with its choice."""

        def taken(values: Mapping[Any, Any]) -> Updates:
            found = find_adapter(studio.workspace, values[source] or "", studio.assets)
            chosen = {**offer(found.id), studio.tabs: gr.Tabs(selected="generate")}
            run = training_of(found.path)
            return chosen if run is None else chosen | as_trained(run, values)

        return guarded(message, taken), {source, described, guidance}, taken_over

    def show_from(source: gr.State) -> tuple[Any, Any, Any]:
        """The wiring of a list of jobs: to here, with the job that the value's last word names."""

        def shown_here(values: Mapping[Any, Any]) -> Updates:
            asked = values[source].rpartition(" ")[2]
            there = {studio.generate_job: {"id": asked}, studio.tabs: gr.Tabs(selected="generate")}
            return {**show(studio.jobs.snapshot(asked), ""), **there}

        return guarded(message, shown_here), {source}, [*shown, studio.tabs]

    def estimate(values: Mapping[Any, Any]) -> Updates:
        """The plan and the command; where another backbone would draw, its fields first, with its own values."""
        from synmotion_core import pace
        from synmotion_core.planning.report import generation_line

        spec = spec_of(values)
        updates: Updates = describe_guiding(guiding, spec, values[guidance])
        own = info_of(values)
        updates |= describe_adapter(adapted, own) | offer_second(
            blend, values[blend["blend_adapter"]], values[adapter], studio
        )
        updates |= beneath(named(values), spec)
        if not open_settings(own):
            values = {**values, adapted["method_settings"]: ""}
        if values[described] != spec.name:
            fresh = {**memory.defaults(), **dict.fromkeys(guiding.values(), "")} if values[described] else {}
            values = {**values, **fresh}
            updates |= {described: spec.name, **memory.describe(spec, fresh)}
            updates |= describe_guiding(guiding, spec, values[guidance], fresh)
        try:
            run = form(values)
            line = generation_line(run, pace.recall(studio.workspace, run))
        except UserInputError as error:
            return updates | {command: "", plan_line: hint(f"No estimate yet: {error}")}
        return updates | {command: same_command(run), plan_line: hint(line), **memory.offer(run)}

    def beneath(of: Mapping[str, Any], spec: BackboneSpec, *, put: bool = False) -> Updates:
        return offer_loras(loras, of, spec.name, of["adapter"], studio, put=put)

    def on_way(values: Mapping[Any, Any]) -> Updates:
        return memory.take(form({**values, **memory.plain()}), str(values[memory.ways]))

    def again(run: GenerateRun, values: Mapping[Any, Any]) -> Updates:
        """The form as it was for an earlier run."""
        from synmotion_core.backbones import find_spec

        old, spec = refill(run, studio, current(values, studio)), find_spec(run.backbone)
        filled = {fields[name]: value for name, value in old.values.items()}
        chosen: Updates = offer(old.values["adapter"]) if run.adapter else {info: about(None), offered_last: BASE_ALONE}
        picked = chosen.get(adapter, BASE_ALONE)
        beside = offer_second(blend, old.values["blend_adapter"], old.values["adapter"], studio, put=True)
        updates: Updates = {
            **chosen,
            **filled,
            adapter: picked,
            **beside,
            **beneath(old.values, spec, put=True),
            described: spec.name,
            **memory.describe(spec, filled),
        }
        updates |= describe_guiding(guiding, spec, old.values["guidance"], filled)
        updates |= {message: notices("warning", old.said)}
        return updates | pictures.put(studio, old.pictures, run.subjects, sized(spec, old.values))

    own_state = {
        studio.generate_job,
        studio.train_job,
        studio.clips,
        studio.chosen,
        seen,
        pictures.chosen,
        pictures.shown,
        described,
        memory.ways,
        memory.anyway,
    }
    everything = {*fields.values(), *own_state}
    watched = {studio.generate_job, seen}
    calm: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 8}
    shown = [status, outcome, results, cancel, start, timer, seen, studio.generate_job, message]
    started = start.click(guarded(message, on_start), everything, shown, **calm)
    started.then(None, None, None, js=scroll_to("gen-status", unless="gen-message"))
    cancel.click(guarded(message, on_cancel), watched, shown, **calm)
    timer.tick(quiet(on_tick), watched, shown, **calm)
    put = [info, motion, offered_last, message]
    adapter.input(guarded(message, on_adapter), {adapter, offered_last}, put, **{**calm, "concurrency_limit": 1})
    dice.click(lambda: str(secrets.randbelow(100_000)), None, seeds, **calm)
    sizes = [fields["height"], fields["width"]]
    picture_fields.wire(studio, pictures, subjects, seen_by, everything, message, calm, sizes=sizes)
    clips_here = {studio.clips, studio.chosen, noise["noise_clip"]}
    studio.chosen.change(quiet(on_clips), clips_here, noise["noise_clip"], **{**calm, "trigger_mode": "always_last"})
    offered = [adapter, info, motion, backbone, offered_last]
    taken_over = [*offered, studio.tabs, message, described, *memory.fields.values(), *guiding.values()]
    estimated = [
        command,
        plan_line,
        described,
        blend["blend_adapter"],
        *(part for part in loras.values() if isinstance(part, gr.Dropdown)),
        *adapted.values(),
        *guiding.values(),
        *memory.parts,
    ]
    anew = (quiet(estimate), everything, estimated)
    changes = [*(part.change for part in fields.values()), pictures.chosen.change]
    gr.on(changes, *anew, trigger_mode="always_last", **calm)
    memory.ways.input(guarded(message, on_way), everything, [*memory.parts, message], **calm)
    refilled = [*fields.values(), info, *pictures.parts, described, offered_last, message]
    learnt = gallery.build(studio, again, everything, refilled, seen)
    return {
        "load": [
            (quiet(fill), {adapter, offered_last, *clips_here}, [*offered, noise["noise_clip"]]),
            (quiet(on_load), watched, [*shown, studio.tabs]),
        ],
        "anew": anew,
        "learnt": learnt,
        "take_from": take_from,
        "show_from": show_from,
        "take": (guarded(message, take), {studio.train_job, described, guidance}, taken_over),
    }
