"""The page: five tabs over one workspace. Widgets become config dataclasses and back; what works is elsewhere.

`build` needs no model library: registries, adapters and past jobs are asked once the page has appeared (its load
event). A job outlives the page; the browser remembers the job's id, and a timer asks how it is.
"""

from __future__ import annotations

import os
from typing import Any

import gradio as gr

from synmotion_core.ui import answers, api, clips, compare, gate, generate, guard, library, log_in, theme, train
from synmotion_core.ui.context import IN_TURN, Studio, remembered
from synmotion_core.ui.desks import Desks
from synmotion_core.ui.judged import Judged

CACHE = (
    3600,
    86400,
)  # every so many seconds, copies of videos older than so many seconds are deleted; made anew when shown
# Gradio looks a thousand times a second whether somebody has asked, which takes 7 % of a core for as long as it runs
_LOOK_S = 0.02
_HEAD = (
    '<div class="sm-head"><h1>SynMotion Studio</h1>'
    "<p>Teach a video model one motion from a few clips, then let any subject do it.</p></div>"
)


def build(desks: Desks) -> gr.Blocks:
    """The whole page. Launch it with `launch_options()`, which carry its looks."""
    # after each event, each second of each page, Gradio sums up its last 10,000 with pandas: 2 to 20 ms of a core,
    # by how many and of how many functions, for a dashboard that is not open here
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(2**62))
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
    gate.close_what_gradio_opens()
    with gr.Blocks(title="SynMotion Studio", analytics_enabled=False, delete_cache=CACHE) as page:
        gr.HTML(_HEAD, apply_default_css=False)
        who = log_in.build()
        chosen = remembered("clips", {"clips": []})
        train_job, generate_job = remembered("train", {"id": ""}), remembered("generate", {"id": ""})
        left_out = remembered("priors", {"left_out": {}})
        transfer = remembered("transfer", {"id": ""})
        away = remembered("remote", {"id": "", "transfer": "", "open": False})
        session, judged = gr.State(None), gr.State(Judged())  # not inside Tabs, which takes it for a tab
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            studio = Studio(
                desks=desks, tabs=tabs, clips=session, chosen=chosen, judged=judged, train_job=train_job,
                generate_job=generate_job, left_out=left_out, transfer=transfer, remote=away,
            )  # fmt: skip
            with gr.Tab("1 · Clips", id="clips", elem_id="tab-clips") as of_clips:
                first = clips.build(studio)
            with gr.Tab("2 · Train", id="train", elem_id="tab-train"):
                second = train.build(studio)
            with gr.Tab("3 · Generate", id="generate", elem_id="tab-generate") as last:
                third = generate.build(studio)
            with gr.Tab("4 · Compare", id="compare", elem_id="tab-compare") as beside:
                fourth = compare.build(studio)
            with gr.Tab("5 · Library", id="library", elem_id="tab-library") as at_home:
                fifth = library.build(studio)
        api.build(studio)
        answers.build()
        # the limit is that of the tabs' own events: one handler has one, the least that is given
        quietly: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 8}
        in_turn = {**quietly, **IN_TURN}  # with what changes the clips
        filling: dict[str, Any] = {**quietly, "concurrency_id": "adapters", "concurrency_limit": 1}
        loads = [*((one, quietly) for one in who), *((one, in_turn) for one in first["load"])]
        loads += [*((one, quietly) for one in second["load"][1:]), (third["load"][0], filling)]
        loads += [*((one, quietly) for one in third["load"][1:]), (fifth["load"], quietly)]
        for (handler, inputs, outputs), how in loads:
            page.load(handler, inputs, outputs, **how)
        page.load(*second["load"][0], **quietly).then(*second["anew"], **quietly)
        there = last.select(*third["load"][0], **filling)  # a training may have ended since
        there.then(*third["anew"], **quietly)  # a tab that is just being laid out may miss what was filled in
        of_clips.select(*second["judge"], **in_turn)
        beside.select(*fourth["select"], **quietly)  # not at loading: reading takes a second, and few come for it
        at_home.select(*fifth["select"], **quietly)
        fifth["use"].click(*third["take_from"](fifth["adapter"]), **quietly)
        remote = second["remote"]
        remote["arrived"].change(*fifth["arrived_from"](remote["arrived"]), **quietly)
        remote["use"].click(*third["take_from"](remote["fetched"]), **quietly)
        for shown_anew in (first["shown_anew"], first["load"][1]):
            second["put"].change(*shown_anew, **in_turn)
        third["learnt"].change(*first["shown_anew"], **in_turn)
        second["made"].change(*third["show_from"](second["made"]), **quietly)
        second["to_generate"].click(*third["take"], **quietly)
        for event in page.fns.values():
            if event.show_progress == "hidden":
                # a browser writes each turn of an event to all that any event has ever shown it on, 30 ms of its one
                # thread with two hundred outputs: where nothing is shown, this one is told, which has no looks
                event.show_progress_on = [session]
    page._queue.sleep_when_free = _LOOK_S
    # an event may hold as much as a request; `page.queue(max_size=...)` would make Gradio's whole app once more
    page._queue.max_size = gate.MOST_WAITING
    return page


def launch_options() -> dict[str, Any]:
    """Arguments for `launch`: looks, who is answered (gate.py), limits, and no folder published (see media.serve)."""
    return {
        "theme": theme.theme(),
        "css": theme.CSS,
        "head": answers.SCRIPT,
        "max_file_size": gate.MOST_FILE,
        "allowed_paths": [],
        "footer_links": ["settings"],
        "run_history": False,
        "ssr_mode": False,
        "app_kwargs": guard.app_options(),
    }


__all__ = ["Desks", "build", "launch_options"]
