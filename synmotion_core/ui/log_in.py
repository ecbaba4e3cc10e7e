"""Who one is here, at the top of the page of a Space: an account, or a guest; nothing on one's own computer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from synmotion_core.ui.desks import GUEST_S
from synmotion_core.ui.notices import Updates, hint, quiet
from synmotion_core.ui.people import log_in_is_possible, person_now, shared

_HOURS = f"{GUEST_S / 3600:g} hours"
_GUEST = "You are a guest. What you make is seen by nobody else, and deleted when you have been away for "
_KEEP = " Log in to keep it, and to share adapters in your name."
_NO_COOKIE = "Your browser takes no cookies from this page: what you make is lost when you reload it."


def build() -> list[tuple[Any, Any, Any]]:
    """Lay it out. Returns what happens at loading."""
    if not shared():
        return []
    with gr.Row(elem_id="who-row"):
        with gr.Column(scale=4, min_width=300):
            who = gr.HTML("", elem_id="who", apply_default_css=False)
        if log_in_is_possible():
            with gr.Column(scale=1, min_width=230):
                gr.LoginButton(
                    "Log in with Hugging Face", logout_value="Log out ({})", icon=None, size="md", elem_id="log-in"
                )

    def on_load(_: Mapping[Any, Any] | None = None) -> Updates:
        person = person_now()
        if person is None:
            return {}
        if person.name:
            return {who: hint(f"Logged in as {person.name}. Your clips, jobs, adapters and videos are yours alone.")}
        text = f"{_GUEST}{_HOURS}." if person.cookie else _NO_COOKIE
        return {who: hint(text + (_KEEP if log_in_is_possible() else ""))}

    return [(quiet(on_load), None, [who])]
