"""The part of the Train tab that trains on Hugging Face's machines, laid out. What it does is in remote.py."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from synmotion_core.ui import remote_view
from synmotion_core.ui.notices import hint

DEFAULT_TIMEOUT = "6h"
_ABOUT = "The training above, as a Job of Hugging Face, for money. Your clips leave this machine for it: look first."


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFields:
    """The widgets. used: the button that takes what was fetched to the Generate tab."""

    box: gr.Accordion
    login: gr.HTML
    flavor: gr.Dropdown
    timeout: gr.Textbox
    show: gr.Button
    listing: gr.HTML
    ready: gr.Column
    send: gr.Button
    message: gr.HTML
    transfer: gr.HTML
    cancel: gr.Button
    theirs: gr.Column
    which: gr.Dropdown
    status: gr.HTML
    plot: gr.HTML
    stop: gr.Button
    begin: gr.Button
    delete: gr.Button
    name: gr.Textbox
    fetch: gr.Button
    use: gr.Button
    sure: gr.Column
    sure_words: gr.HTML
    really: gr.Button
    keep: gr.Button


def build() -> RemoteFields:
    """Folded away."""
    choices, first = remote_view.machine_choices(needs_gpu=False)
    with gr.Accordion("Train on Hugging Face's machines", open=False, elem_id="remote-box") as box:
        gr.HTML(hint(_ABOUT), apply_default_css=False)
        login = gr.HTML("", elem_id="remote-login", apply_default_css=False)
        with gr.Row():
            flavor = gr.Dropdown(choices, value=first, label="Machine", elem_id="remote-flavor", min_width=170, scale=3)
            timeout = gr.Textbox(
                DEFAULT_TIMEOUT, label="Time limit", max_lines=1, elem_id="remote-timeout", min_width=100, scale=1,
                placeholder=DEFAULT_TIMEOUT,
            )  # fmt: skip
        show = gr.Button("Show what would be sent", size="md", elem_id="remote-show")
        listing = gr.HTML("", elem_id="remote-files", apply_default_css=False)
        with gr.Column(visible=False, elem_id="remote-ready") as ready:
            send = gr.Button("Send and start", variant="primary", size="md", elem_id="remote-send")
        message = gr.HTML("", elem_id="remote-message", apply_default_css=False)
        transfer = gr.HTML("", elem_id="remote-transfer", apply_default_css=False)
        cancel = gr.Button("Cancel", size="md", variant="stop", visible=False, elem_id="remote-cancel", min_width=90)
        with gr.Column(visible=False, elem_id="remote-theirs") as theirs:
            which = gr.Dropdown([], label="Handed off", elem_id="remote-which")
            status = gr.HTML("", elem_id="remote-status", apply_default_css=False)
            plot = gr.HTML("", elem_id="remote-plot", apply_default_css=False)
            with gr.Row():
                stop = gr.Button("Stop", size="md", interactive=False, elem_id="remote-stop", min_width=80)
                begin = gr.Button("Start it", size="md", visible=False, elem_id="remote-start", min_width=90)
                delete = gr.Button("Delete", size="md", interactive=False, elem_id="remote-delete", min_width=80)
            with gr.Column(visible=False, elem_id="remote-sure") as sure:
                sure_words = gr.HTML("", elem_id="remote-sure-words", apply_default_css=False)
                with gr.Row():
                    really = gr.Button("", size="md", variant="stop", elem_id="remote-really", min_width=110)
                    keep = gr.Button("Leave it", size="md", elem_id="remote-keep", min_width=110)
            with gr.Row():
                name = gr.Textbox(
                    "", label="Its name here", elem_id="remote-name", max_length=80, min_width=140, scale=3
                )
                fetch = gr.Button(
                    "Fetch the adapter", size="md", interactive=False, elem_classes="sm-align", elem_id="remote-fetch",
                    min_width=150, scale=2,
                )  # fmt: skip
            use = gr.Button("Use it in Generate", size="md", visible=False, elem_id="remote-use")
    return RemoteFields(
        box=box, login=login, flavor=flavor, timeout=timeout, show=show, listing=listing, ready=ready, send=send,
        message=message, transfer=transfer, cancel=cancel, theirs=theirs, which=which, status=status, plot=plot,
        stop=stop, begin=begin, delete=delete, name=name, fetch=fetch, use=use, sure=sure, sure_words=sure_words,
        really=really, keep=keep,
    )  # fmt: skip
