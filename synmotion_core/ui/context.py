"""What the tabs share: where things live, the jobs, and what this browser remembers across a reload.

The browser keeps ids and words only, never a path or a file: what it sends back is looked up again here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.ui.beat import Beat
from synmotion_core.ui.people import page_now

if TYPE_CHECKING:
    from synmotion_core.hosting.followers import Followers
    from synmotion_core.jobs import Jobs
    from synmotion_core.transfers import Transfers
    from synmotion_core.ui.chosen import Library
    from synmotion_core.ui.desks import Desks
    from synmotion_core.ui.pictures import Pictures
    from synmotion_core.workspace import Workspace

IN_TURN: Mapping[str, Any] = {"concurrency_id": "clips", "concurrency_limit": 1, "trigger_mode": "multiple"}
PATIENCE_S = 15.0  # how long Stop waits for the running step, so that it can show how it ended

# Gradio encrypts what it puts into the browser with this and sends it to the browser, too: it is no secret, but it must
# stay the same, or a restart of the studio would forget everybody's clips and jobs.
_SECRET = "synmotion-studio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Studio:
    """Passed to every tab. Whose workspace, jobs, transfers, clips and pictures it gives is known in a handler only,
    and in its thread: what works on elsewhere takes them along.

    clips: this page's chosen clips, None until it has loaded; chosen: the same as the browser remembers them
    (chosen.py). Handlers that change or use `clips` share the queue IN_TURN, since a person may edit faster than a
    handler answers: each then sees what the one before has left. judged: the backbone and the size that clips are
    judged for (judged.py). train_job and generate_job: {"id": job id or ""}. left_out: prior videos that no training is
    to see (prior_fields.py). transfer: that of the Library tab; remote: what remote.py remembers. All that a browser
    remembers is made outside of the tabs: in one that is not laid out yet at loading it has not been read.
    """

    desks: Desks
    beat: Beat = field(default_factory=Beat)
    tabs: gr.Tabs
    clips: gr.State
    chosen: gr.BrowserState
    judged: gr.State
    train_job: gr.BrowserState
    generate_job: gr.BrowserState
    left_out: gr.BrowserState
    transfer: gr.BrowserState
    remote: gr.BrowserState

    @property
    def assets(self) -> Path:
        """What ships."""
        return self.desks.assets

    @property
    def workspace(self) -> Workspace:
        """Of the person that the running handler works for; so are the next five."""
        return self.desks.here().workspace

    @property
    def jobs(self) -> Jobs:
        """Their queue."""
        return self.desks.here().jobs

    @property
    def transfers(self) -> Transfers:
        """What they fetch and send."""
        return self.desks.here().transfers

    @property
    def followers(self) -> Followers:
        """Their trainings elsewhere, as far as somebody looks."""
        return self.desks.here().followers

    @property
    def library(self) -> Library:
        """The clips that ship, and theirs."""
        return self.desks.here().library

    @property
    def pictures(self) -> Pictures:
        """The pictures that ship, and theirs."""
        return self.desks.here().pictures


def in_time(studio: Studio, timer: gr.Timer, updates: dict[Any, Any]) -> dict[Any, Any]:
    """The updates of a timer's tick, with another interval where other pages look on, too (beat.py)."""
    every = studio.beat.next(f"{page_now()} {timer._id}")
    if every is None:
        return updates
    active = updates[timer].active if timer in updates else True
    return {**updates, timer: gr.Timer(value=every, active=active)}


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


def scroll_to(elem_id: str, *, unless: str | None = None) -> str:
    """Script for narrow screens, where columns lie below each other: show an area, unless another holds an error."""
    stays = f" && !document.querySelector('#{unless} .sm-error')" if unless else ""
    return (
        f"() => setTimeout(() => {{ if (window.innerWidth < 900{stays}) "
        f"document.getElementById('{elem_id}').scrollIntoView(); }}, 150)"
    )
