"""The Hub on the Library tab: search, look, fetch; and sharing an adapter, each file of it seen before it leaves.

Fetching and sending are transfers (transfers.py): the page only watches, and finds them again after a reload. Tokens
are this machine's (HF_TOKEN, `hf auth login`); on a Space they are those of who has logged in.
"""

from __future__ import annotations

import functools
import json
import tempfile
import threading
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import gradio as gr

from synmotion_core.errors import ConfigError, UserInputError
from synmotion_core.ui.adapters import find_adapter
from synmotion_core.ui.asked import Asked, answered
from synmotion_core.ui.beat import POLL_S
from synmotion_core.ui.context import Studio, job_id
from synmotion_core.ui.notices import Updates, guarded, hint, notice, quiet
from synmotion_core.ui.people import log_in_is_possible, person_now, shared

if TYPE_CHECKING:
    from synmotion_core.adapters.hub import Hub
    from synmotion_core.adapters.parcel import Parcel
    from synmotion_core.transfers import TransferView, Watch

_SEE = "() => setTimeout(() => document.getElementById('hub-message').scrollIntoView({block: 'nearest'}), 200)"
_CHANGED = "what would be sent has changed since it was shown: show it again"
_PRIVATE, _PUBLIC = "private", "public"
_LOG_IN = "log in first, at the top of the page: what you share is sent as you"
_NO_LOG_IN = "this Space has no log-in (`hf_oauth: true` in its README's first lines): share from your machine"


def build(studio: Studio, adapter: gr.Dropdown) -> dict[str, Any]:
    """Lay the fields out and wire them. `adapter` is the one that is shared. Returns the id of one that has arrived,
    and what happens at loading.
    """
    with gr.Accordion("From the Hugging Face Hub", open=True):
        with gr.Row():
            words = gr.Textbox("", label="Search", placeholder="cartwheel", elem_id="hub-words", min_width=160, scale=3)
            search = gr.Button(
                "Search", size="md", elem_classes="sm-align", elem_id="hub-search", scale=1, min_width=90
            )
        found = gr.Radio([], label="Found", visible=False, elem_id="hub-found")
        with gr.Row():
            repo = gr.Textbox(
                "", label="Repository", placeholder="owner/name", elem_id="hub-repo", min_width=160, scale=3
            )
            revision = gr.Textbox(
                "", label="Revision", placeholder="newest", max_lines=1, elem_id="hub-revision", min_width=110, scale=1
            )
            look = gr.Button("Look", size="md", elem_classes="sm-align", elem_id="hub-look", scale=1, min_width=90)
        seen_there = gr.HTML("", elem_id="hub-seen", apply_default_css=False)
        with gr.Row(visible=False, elem_id="hub-ready") as ready:
            name = gr.Textbox("", label="Its name here", elem_id="hub-name", min_width=140, scale=3)
            fetch = gr.Button(
                "Fetch",
                variant="primary",
                size="md",
                elem_classes="sm-align",
                elem_id="hub-fetch",
                scale=1,
                min_width=90,
            )
    with gr.Accordion("Share the adapter on the left", open=False):
        target = gr.Textbox("", label="Repository", placeholder="your-name/my-wave", elem_id="share-repo")
        with gr.Row():
            who = gr.Radio(
                [("only you", _PRIVATE), ("everybody", _PUBLIC)], value=_PRIVATE, label="Who may see it",
                elem_id="share-who",
            )  # fmt: skip
            beside = gr.CheckboxGroup(
                [("its videos", "videos"), ("LoRA for diffusers", "diffusers"), ("LoRA for ComfyUI", "comfyui")],
                value=["videos"], label="Send with it", elem_id="share-beside",
                info="LoRA for diffusers is what “Use this model” of its page loads.",
            )  # fmt: skip
        prepare = gr.Button("Show what would be sent", size="md", elem_id="share-prepare")
        files = gr.HTML("", elem_id="share-files", apply_default_css=False)
        with gr.Column(visible=False, elem_id="share-ready") as parcel_ready:
            card = gr.Textbox(
                "", label="Its card, README.md", info="Change the text as you like; the first lines are for machines.",
                lines=8, max_lines=16, elem_id="share-card",
            )  # fmt: skip
            send = gr.Button("Send", variant="primary", size="md", elem_id="share-send")
    message = gr.HTML("", elem_id="hub-message", apply_default_css=False)
    status = gr.HTML("", elem_id="hub-status", apply_default_css=False)
    cancel = gr.Button("Cancel", size="md", variant="stop", visible=False, elem_id="hub-cancel", min_width=90)
    memory, remote, prepared = studio.transfer, gr.State(None), gr.State(None)
    marked = gr.State("")  # the adapter that `beside` was last set for: what a person ticks stays until another one
    arrived, timer = gr.State(""), gr.Timer(POLL_S, active=False)

    def on_search(values: Mapping[Any, Any]) -> Updates:
        hits = _hub().search(values[words] or "")
        choices = [(f"{one.repo_id} · {one.downloads} downloads · {one.changed}", one.repo_id) for one in hits]
        said = "" if hits else notice("info", "Nothing was found: try fewer words.")
        return {found: gr.Radio(choices=choices, value=None, visible=bool(hits)), message: said}

    def on_found(values: Mapping[Any, Any]) -> Updates:
        return on_look({**values, repo: values[found], revision: ""}) | {repo: values[found], revision: ""}

    def on_look(values: Mapping[Any, Any]) -> Updates:
        from synmotion_core import sharing

        there = _hub().look((values[repo] or "").strip(), revision=(values[revision] or "").strip() or None)
        said = "".join(f"<p>{escape(line.strip())}</p>" for line in sharing.notice(there))
        words = f'<div class="sm-notice sm-info" role="status">{said}</div>'
        return {
            remote: Asked(there, words),
            seen_there: words,
            name: Path(there.file).stem,
            ready: gr.Row(visible=True),
        }

    def on_fetch(values: Mapping[Any, Any]) -> Updates:
        if values[remote] is None:
            raise ConfigError("look at a repository first")
        there, wanted = answered(values[remote], values[seen_there]), (values[name] or "").strip() or None
        if (values[repo] or "").strip() != there.repo_id:
            raise ConfigError(f"what was looked at is {there.repo_id}, not {values[repo]}: look at that first")
        hub, workspace = _hub(), studio.workspace

        def work(watch: Watch, stop: threading.Event) -> tuple[str, Any]:
            done = hub.pull(there, workspace, name=wanted, watch=watch, cancel=stop)
            said = f"{done.path.stem} is here: {done.applied} of {done.applied} keys apply. It is chosen on the left."
            return " ".join([said, *done.problems]), f"mine/{done.path.name}"

        return follow(studio.transfers.start(f"Fetching {there.repo_id}", work))

    def on_adapter(values: Mapping[Any, Any]) -> Updates:
        """Another adapter: the LoRA for diffusers goes with it where the command line would send it."""
        from synmotion_core.adapters.export import usual_formats

        if not values[adapter] or values[adapter] == values[marked]:
            return {}
        usual = usual_formats(find_adapter(studio.workspace, values[adapter], studio.assets).path)
        others = [one for one in values[beside] if one != "diffusers"]
        return {beside: [*others, *usual], marked: values[adapter]}

    def on_prepare(values: Mapping[Any, Any]) -> Updates:
        from synmotion_core.hub_errors import check_repo_id

        where = (values[target] or "").strip()
        check_repo_id(where)
        with tempfile.TemporaryDirectory() as folder:
            parcel = _wanted(studio, values[adapter], values[beside])(where, Path(folder))
            shown = _files(parcel)
            lines = "".join(f"<li>{escape(file.name)}, {file.size:,} bytes</li>" for file in parcel.files)
            text = parcel.card
        whose = "everybody will see it" if values[who] == _PUBLIC else "only you will see it"
        head = f"To {escape(where)}, {whose}: {len(parcel.files)} files, {parcel.size / 2**20:.1f} MiB, nothing else."
        listing = f'<div class="sm-notice sm-info" role="status">{head}<ul>{lines}</ul></div>'
        ready_to_go = Asked((_what(values), shown), listing)
        return {files: listing, card: text, prepared: ready_to_go, parcel_ready: gr.Column(visible=True)}

    def on_send(values: Mapping[Any, Any]) -> Updates:
        if shared() and (person := person_now()) is not None and person.token is None:
            raise ConfigError(_LOG_IN if log_in_is_possible() else _NO_LOG_IN)
        wanted, shown = answered(values[prepared], values[files])
        if wanted != _what(values):
            raise ConfigError(_CHANGED)
        where, text = (values[target] or "").strip(), values[card]
        private, hub, packed = values[who] != _PUBLIC, _hub(), _wanted(studio, values[adapter], values[beside])

        def work(watch: Watch, stop: threading.Event) -> tuple[str, Any]:
            with tempfile.TemporaryDirectory() as folder:
                parcel = packed(where, Path(folder), card=text)
                if _files(parcel) != shown:
                    raise ConfigError(_CHANGED)
                done = hub.push(parcel, private=private, watch=watch, cancel=stop)
            gone = f" Removed, as the card names them no longer: {', '.join(done.removed)}." if done.removed else ""
            return f"{done.files} of {done.files} files are at {done.url}, as commit {done.commit[:8]}.{gone}", None

        return follow(studio.transfers.start(f"Sending to {where}", work))

    def _what(values: Mapping[Any, Any]) -> str:
        return json.dumps([values[adapter], (values[target] or "").strip(), values[who], sorted(values[beside])])

    def follow(id: str) -> Updates:
        return {memory: {"id": id}, **show(studio.transfers.view(id))}

    def show(view: TransferView) -> Updates:
        running = view.status == "running"
        updates: Updates = {
            status: transfer_html(view),
            cancel: gr.Button(visible=running),
            timer: gr.Timer(active=running),
            fetch: gr.Button(interactive=not running),
            send: gr.Button(interactive=not running),
        }
        # with the transfer's id, so that the same name that arrives once more is a change
        return updates | ({arrived: f"{view.id} {view.result}"} if isinstance(view.result, str) else {})

    def on_tick(values: Mapping[Any, Any]) -> Updates:
        asked = job_id(values[memory])
        try:
            return show(studio.transfers.view(asked)) if asked else {timer: gr.Timer(active=False)}
        except UserInputError:  # of a studio that has ended since
            free = {fetch: gr.Button(interactive=True), send: gr.Button(interactive=True)}
            return {
                **free,
                timer: gr.Timer(active=False),
                status: "",
                cancel: gr.Button(visible=False),
                memory: {"id": ""},
            }

    def on_cancel(values: Mapping[Any, Any]) -> Updates:
        studio.transfers.cancel(job_id(values[memory]))
        return {cancel: gr.Button(visible=False)}

    calm: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 8}
    looked = [repo, revision, remote, seen_there, name, ready, message]
    asked = {adapter, target, who, beside, card, prepared, files}
    watched = [status, cancel, timer, fetch, send, arrived, memory, message]
    gr.on(
        [search.click, words.submit], guarded(message, on_search), {words}, [found, message],
        **{**calm, "show_progress": "minimal", "show_progress_on": words},
    )  # fmt: skip
    found.input(guarded(message, on_found), {found}, looked, **calm)
    gr.on(
        [look.click, repo.submit],
        guarded(message, on_look),
        {repo, revision},
        looked,
        **{**calm, "show_progress": "minimal", "show_progress_on": repo},
    )
    begun = [
        fetch.click(guarded(message, on_fetch), {remote, seen_there, name, repo}, watched, **calm),
        send.click(guarded(message, on_send), asked, watched, **calm),
    ]
    for event in begun:
        event.then(None, None, None, js=_SEE)
    adapter.change(guarded(message, on_adapter), {adapter, beside, marked}, [beside, marked, message], **calm)
    prepare.click(guarded(message, on_prepare), asked, [files, card, prepared, parcel_ready, message], **calm)
    cancel.click(guarded(message, on_cancel), {memory}, [cancel, message], **calm)
    timer.tick(quiet(on_tick), {memory}, watched, **calm)
    return {"arrived": arrived, "load": (quiet(on_tick), {memory}, watched)}


def came_from(path: Path) -> str:
    """Where on the Hub an adapter came from, or was trained; "" where neither."""
    from synmotion_core.adapters.origin import origin

    own = origin(path)
    if own is None or not own.repo_id:
        return ""
    if own.trained_on:
        return hint(f"Trained on Hugging Face's {own.trained_on}, by what was sent to {own.repo_id}.")
    licence = own.licence or "none"
    return hint(f"From {own.repo_id}, commit {own.revision[:8]}; its page names the licence: {licence}")


def _hub() -> Hub:
    """The Hub as this machine; on a Space, whose own token belongs to whoever runs it, as who has logged in."""
    from synmotion_core.adapters.hub import Hub

    person = person_now()
    return Hub(token=(person.token if person else None) or False) if shared() else Hub()


def _wanted(studio: Studio, wanted: str, beside: Any) -> Callable[..., Parcel]:
    """pack() of what was chosen, to be called in a thread, too."""
    from synmotion_core.adapters.export import Format
    from synmotion_core.adapters.parcel import pack
    from synmotion_core.ui.library import videos_of

    if not wanted:
        raise ConfigError("choose an adapter on the left first")
    own = find_adapter(studio.workspace, wanted, studio.assets)
    videos = videos_of(studio, own) if "videos" in beside else []
    formats = [format for format in get_args(Format) if format in beside]
    return functools.partial(pack, own.path, videos=videos, formats=formats, cache=studio.workspace.cache)


def _files(parcel: Parcel) -> tuple[tuple[str, int], ...]:
    """What is sent besides the card, whose text is the person's."""
    return tuple((file.name, file.size) for file in parcel.files if file.name != "README.md")


def transfer_html(view: TransferView) -> str:
    """How far a transfer is, or what came of it."""
    if view.status == "running":
        size = f", {view.done / 2**20:.1f} of {view.size / 2**20:.1f} MiB" if view.size else ""
        return notice("info", f"{view.what} … {view.file}{size}")
    tone = {"finished": "good", "failed": "error", "cancelled": "info"}[view.status]
    return notice(tone, view.message)  # type: ignore[arg-type]
