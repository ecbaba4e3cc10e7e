"""The Compare tab: rows of a measured suite side by side, as videos in step, as numbers and as plots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from synmotion_core.errors import UserInputError
from synmotion_core.ui import measured, media
from synmotion_core.ui.context import Studio
from synmotion_core.ui.notices import Updates, empty, guarded, hint, notice, notices

LOOKING = hint("Looking for results …")
NO_RESULTS = empty(
    "Results",
    "Measure a suite with the command above. Its rows then stand here beside each other: the same prompt and noise, in "
    "step, with what the judge saw.",
)
ABOUT = (
    "A suite asks several methods the same; each is a row. Measuring is done in a terminal, takes hours without a GPU, "
    "and its rows appear here one by one. Other suites are listed in README, “Measuring”."
)
_DOWNLOAD = (
    "() => setTimeout(() => { if (!document.querySelector('#compare-message .sm-error')) "
    "document.querySelector('#compare-report a')?.click(); }, 200)"
)


def build(studio: Studio) -> dict[str, Any]:
    """Lay the tab out and wire it. Returns what happens when it is selected."""
    with gr.Row():
        chosen = gr.Dropdown([], value=None, label="Results", elem_id="compare-results", min_width=300, scale=4)
        refresh = gr.Button(
            "Refresh", size="md", elem_classes="sm-align", scale=0, min_width=90, elem_id="compare-refresh"
        )
        download = gr.Button(
            "Download report", size="md", elem_classes="sm-align", scale=0, min_width=175, elem_id="compare-download",
            interactive=False,
        )  # fmt: skip
    message = gr.HTML("", elem_id="compare-message", apply_default_css=False)
    report = gr.HTML("", elem_id="compare-report", apply_default_css=False)
    with gr.Accordion("How results get here", open=False) as how:
        gr.HTML(hint(ABOUT))
        command = gr.Code(
            "", language="shell", label="In a terminal", elem_id="compare-command", interactive=False, wrap_lines=True,
            lines=1, max_lines=4,
        )  # fmt: skip
    summary = gr.HTML(LOOKING, elem_id="compare-summary", apply_default_css=False)
    with gr.Column(visible=False) as looking:
        with gr.Row():
            motion = gr.Dropdown([], label="Motion", elem_id="compare-motion", min_width=130, scale=2)
            seed = gr.Dropdown([], label="Training", elem_id="compare-seed", min_width=130, scale=1)
            rows = gr.Dropdown(
                [], label=f"Rows, up to {measured.MOST_ROWS}", multiselect=True, max_choices=measured.MOST_ROWS,
                elem_id="compare-rows", min_width=260, scale=5,
            )  # fmt: skip
        differing = gr.Checkbox(False, label="Only where the judge sees them differ", elem_id="compare-differing")
        videos = media.html_area(elem_id="compare-videos")
        with gr.Row():
            earlier = gr.Button(
                "Earlier", size="md", scale=0, min_width=90, elem_id="compare-earlier", interactive=False
            )
            place = gr.HTML("", elem_id="compare-place", elem_classes="sm-place", apply_default_css=False)
            more = gr.Button("More", size="md", scale=0, min_width=90, elem_id="compare-more", interactive=False)
    numbers = gr.HTML("", elem_id="compare-numbers", apply_default_css=False)
    seen, start = gr.State(""), gr.State(0)

    def look(own: measured.Measured, choice: Mapping[str, Any], begin: int, differ: bool) -> Updates:
        """The videos from number `begin` on."""
        lines = measured.line_up(own, **choice, differing=differ)
        begin = min(max(begin, 0), max(len(lines) - 1, 0)) // measured.PROMPTS * measured.PROMPTS
        end = min(begin + measured.PROMPTS, len(lines))
        return {
            videos: measured.lines_html(videos, own, lines[begin:end]),
            place: hint(f"Prompts {begin + 1} to {end} of {len(lines)}") if lines else "",
            earlier: gr.Button(interactive=begin > 0),
            more: gr.Button(interactive=end < len(lines)),
            start: begin,
        }

    def show(choice: measured.ResultsChoice) -> Updates:
        """Everything anew; of results that cannot be shown the reason alone."""
        key = f"{choice.id} {choice.stamp}"
        cleared: Updates = {seen: key, summary: "", numbers: "", report: "", looking: gr.Column(visible=False)}
        try:
            own = measured.open_results(choice)
        except UserInputError as error:
            return {**cleared, download: gr.Button(interactive=False), message: notice("error", str(error))}
        updates: Updates = {
            **cleared,
            summary: measured.summary_html(own),
            numbers: measured.numbers_html(own),
            download: gr.Button(interactive=True),
        }
        if not own.rows:
            return updates
        suite = own.results.suite
        first = {"motion": suite.motions[0], "seed": suite.seeds[0], "rows": own.first_rows}
        return {
            **updates,
            looking: gr.Column(visible=True),
            motion: gr.Dropdown(choices=list(suite.motions), value=first["motion"]),
            seed: gr.Dropdown(choices=[(f"seed {number}", number) for number in suite.seeds], value=first["seed"]),
            rows: gr.Dropdown(choices=own.rows, value=first["rows"]),
            differing: False,
            **look(own, first, 0, False),
        }

    def on_choose(values: Mapping[Any, Any]) -> Updates:
        return show(measured.find_result(studio.workspace, studio.assets, values[chosen]))

    def on_select(values: Mapping[Any, Any]) -> Updates:
        """The list anew; what is shown stays, unless it has changed or gone."""
        found, problems = measured.find_results(studio.workspace, studio.assets)
        wanted = next((c for c in found if c.id == values[chosen]), found[0] if found else None)
        updates: Updates = {
            chosen: gr.Dropdown(choices=[(c.label, c.id) for c in found], value=wanted.id if wanted else None),
            command: measured.command(studio.workspace),
            message: notices("warning", problems),
        }
        if wanted is None:
            gone: Updates = {seen: "", numbers: "", report: "", looking: gr.Column(visible=False), summary: NO_RESULTS}
            return {**updates, **gone, how: gr.Accordion(open=True), download: gr.Button(interactive=False)}
        if values[seen] == f"{wanted.id} {wanted.stamp}":
            return updates
        new = show(wanted)
        return {**updates, **new, message: new.get(message, "") + updates[message]}

    def on_look(values: Mapping[Any, Any], begin: int = 0) -> Updates:
        own = measured.open_results(measured.find_result(studio.workspace, studio.assets, values[chosen]))
        choice = {"motion": values[motion], "seed": values[seed], "rows": values[rows] or []}
        return look(own, choice, begin, bool(values[differing]))

    def on_earlier(values: Mapping[Any, Any]) -> Updates:
        return on_look(values, values[start] - measured.PROMPTS)

    def on_more(values: Mapping[Any, Any]) -> Updates:
        return on_look(values, values[start] + measured.PROMPTS)

    def on_download(values: Mapping[Any, Any]) -> Updates:
        choice = measured.find_result(studio.workspace, studio.assets, values[chosen])
        file = measured.report_file(choice, studio.workspace)
        return {report: measured.report_link(media.serve(report, file), choice, file.stat().st_size)}

    calm: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 8}
    picked = {chosen, motion, seed, rows, differing, start}
    looked = [videos, place, earlier, more, start, message]
    shown = [*looked, summary, numbers, report, looking, motion, seed, rows, differing, download, seen]
    listed = [*shown, chosen, command, how]
    chosen.input(guarded(message, on_choose), {chosen}, shown, **calm)
    refresh.click(guarded(message, on_select), {chosen, seen}, listed, **calm)
    gr.on(
        [part.input for part in (motion, seed, rows, differing)],
        guarded(message, on_look),
        picked,
        looked,
        trigger_mode="always_last",
        **calm,
    )
    earlier.click(guarded(message, on_earlier), picked, looked, **calm)
    more.click(guarded(message, on_more), picked, looked, **calm)
    made = download.click(guarded(message, on_download), {chosen}, [report, message], **calm)
    made.then(None, None, None, js=_DOWNLOAD)
    return {"select": (guarded(message, on_select), {chosen, seen}, listed)}
