"""What the tabs share: where things live, the jobs, and what this browser remembers across a reload.

The browser keeps ids and words only, never a path or a file: what it sends back is looked up again here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

if TYPE_CHECKING:
    from synmotion_core.jobs import Jobs
    from synmotion_core.transfers import Transfers
    from synmotion_core.workspace import Workspace

ASSETS = Path(__file__).resolve().parents[2] / "assets"
POLL_S = 1.0
IN_TURN: Mapping[str, Any] = {"concurrency_id": "clips", "concurrency_limit": 1, "trigger_mode": "multiple"}
PATIENCE_S = 15.0  # how long Stop waits for the running step, so that it can show how it ended

# Gradio encrypts what it puts into the browser with this and sends it to the browser, too: it is no secret, but it must
# stay the same, or a restart of the studio would forget everybody's clips and jobs.
_SECRET = "synmotion-studio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Studio:
    """Passed to every tab.

    clips: this page's chosen clips, None until it has loaded; chosen: the same as the browser remembers them
    (chosen.py). Handlers that change or use `clips` share the queue IN_TURN, since a person may edit faster than a
    handler answers: each then sees what the one before has left. backbone: the name of the one that clips are judged
    for. train_job and generate_job: {"id": job id or ""}.
    """

    workspace: Workspace
    jobs: Jobs
    transfers: Transfers
    assets: Path
    tabs: gr.Tabs
    clips: gr.State
    chosen: gr.BrowserState
    backbone: gr.State
    train_job: gr.BrowserState
    generate_job: gr.BrowserState


def remembered(key: str, default: Mapping[str, Any]) -> gr.BrowserState:
    """A value that survives a reload and a restart."""
    return gr.BrowserState(dict(default), storage_key=f"synmotion-{key}", secret=_SECRET)


def backbone_choices() -> list[tuple[str, str]]:
    """(what a person reads, name) of every backbone."""
    from synmotion_core.backbones import SPECS

    return [(f"{s.title} (needs a CUDA GPU)" if s.needs_gpu else s.title, s.name) for s in SPECS.values()]


def job_id(memory: Any) -> str:
    """The id in a remembered value, "" when there is none; what a browser sends is not trusted to be well formed."""
    value = memory.get("id", "") if isinstance(memory, Mapping) else ""
    return value if isinstance(value, str) else ""


def scroll_to(elem_id: str, *, unless: str) -> str:
    """Script for narrow screens, where columns lie below each other: show an area, unless another holds an error."""
    return (
        "() => setTimeout(() => { if (window.innerWidth < 900 && "
        f"!document.querySelector('#{unless} .sm-error')) "
        f"document.getElementById('{elem_id}').scrollIntoView(); }}, 150)"
    )
