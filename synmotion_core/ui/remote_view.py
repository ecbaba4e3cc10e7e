"""A training elsewhere on the page: what leaves for it, which machines there are, how it is. Pure: to HTML and words.

What a Job says is untrusted: all of it is escaped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING

from synmotion_core.progress_line import printable
from synmotion_core.ui import progress
from synmotion_core.ui.notices import notices

if TYPE_CHECKING:
    from synmotion_core.hosting.followers import Seen
    from synmotion_core.hosting.ledger import Handoff
    from synmotion_core.hosting.order import Order
    from synmotion_core.hosting.sources import Source

PRICES = "huggingface.co/pricing"
FOR_PUPPETS, FOR_LARGE = "cpu-basic", "a100-large"
NOTHING = "No training was handed off from here"
# GB of the one GPU of each, as the makers of these cards name them; the client knows names alone. A training takes one.
CARDS = {
    "t4-small": 16, "t4-medium": 16, "l4x1": 24, "a10g-small": 24, "a10g-large": 24, "l40sx1": 48, "a100-large": 80,
    "rtx-pro-6000": 96, "h200": 141,
}  # fmt: skip
_STAGES = {  # of a Job: a status of progress.STATUS
    "SCHEDULING": "queued",
    "RUNNING": "running",
    "COMPLETED": "finished",
    "CANCELED": "stopped",
    "ERROR": "failed",
    "DELETED": "interrupted",
}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def machine_choices(needs_gpu: bool) -> tuple[list[tuple[str, str]], str]:
    """(what a person reads, flavor) of every machine with one GPU or none, and the one to begin with.

    GPUs come first where the backbone needs one.
    """
    from huggingface_hub import JobHardware

    known = [one.value for one in JobHardware]
    cpus = [(name, name) for name in known if name.startswith("cpu-")]
    gpus = [(f"{name}, a GPU of {CARDS[name]} GB", name) for name in CARDS if name in known]
    return (gpus + cpus, FOR_LARGE) if needs_gpu else (cpus + gpus, FOR_PUPPETS)


def order_html(order: Order, own: Handoff, *, warnings: Sequence[str] = ()) -> str:
    """Everything that would leave: where to, every file with its size, what else is to be known."""
    settings = [file for file in order.files if file.name == "job/job.json"]
    source = [file for file in order.files if file not in order.given and file not in settings]
    head = (
        f"To {own.repo_id} on the Hub, a private dataset, which stays until you delete it: {len(order.files)} files, "
        f"{order.size / 2**20:.1f} MiB, nothing else."
    )
    yours = "These are yours, and go whole, with whatever a camera noted in them:"
    rest = (
        "Your token goes to the machine as a secret of the Job, to fetch them and to put the adapter there.",
        f"The machine is {own.flavor}, for at most {own.timeout}. It costs money; how much is not known here: see "
        f"{PRICES}",
    )
    size = sum(file.size for file in source) / 2**20
    what = escape(f"this studio's source and what it needs: {len(source)} files, {size:.1f} MiB")
    lines = "".join(f"<p>{escape(line)}</p>" for line in rest)
    return (
        f'<div class="sm-notice sm-info sm-leaves" role="status"><p>{escape(head)}</p>'
        f"<p>{escape(yours)}</p>{_list(order.given)}"
        f"<p>The settings and words of the training:</p>{_list(settings)}"
        f"<details><summary>{what}</summary>{_list(source)}</details>{lines}</div>"
    ) + notices("warning", warnings)


def _list(files: Sequence[Source]) -> str:
    lines = []
    for file in files:
        here = "" if file.path.name in (file.name, file.name.rpartition("/")[2]) else f" ({file.path.name} here)"
        lines.append(f"<li>{escape(printable(f'{file.name}, {file.size:,} bytes{here}'))}</li>")
    return f"<ul>{''.join(lines)}</ul>"


def room(peak_gib: float | None, flavor: str) -> str:
    """A warning where a training will not fit into a machine; "" where it does, or nobody knows."""
    if peak_gib is None:
        return ""
    card = CARDS.get(flavor)
    if card is None:
        return f"This backbone needs a GPU, {flavor} has none."
    if peak_gib <= card * 0.93:  # a GB is less than a GiB
        return ""
    return (
        f"It needs about {peak_gib:.0f} GiB on the GPU, {flavor} has {card} GB: choose a larger one, or one of the "
        "ways under “Memory and size”."
    )


def ends_too_early(until: float | None, timeout: str) -> str:
    """A warning where somebody's log-in would end before the Job does; "" where it would not, or nobody knows."""
    if until is None or not timeout[:-1].isdigit() or timeout[-1:] not in _UNITS:
        return ""
    left, wanted = until - time.time(), int(timeout[:-1]) * _UNITS[timeout[-1]]
    if left >= wanted:
        return ""
    return (
        f"Your log-in here ends in {progress.duration(left)}, and the Job may run for {timeout}: what it has learnt by "
        "then could not be put back. Log out and in again first, or set a shorter time limit."
    )


def title(own: Handoff) -> str:
    """What a list calls a hand-off."""
    state = "" if own.job_id else " · not begun" if own.commit else " · not sent whole"
    try:
        when = datetime.fromisoformat(own.created).astimezone().strftime("%d %b %H:%M")
    except ValueError:  # a ledger that somebody wrote by hand
        when = own.created[:16]
    return f"{own.name} · {when}{state}"


def status_html(own: Handoff | None, seen: Seen | None) -> str:
    """How a hand-off is: bar, numbers, and the end of what its log says besides."""
    if own is None:
        return progress.idle_status(NOTHING)
    if seen is None:
        now = "Sent; no machine has begun it" if own.commit else "Not sent whole: send the same again, it goes on there"
        return progress.box("stopped", now, 0.0, [f"{own.flavor}, for at most {own.timeout}"], f"In {own.repo_id}")
    word = "queued" if seen.job is None else _STAGES.get(seen.job.name, "running")
    facts = [own.flavor]
    if word == "running" and seen.seconds_per_step and seen.stage != "fetch":
        facts.append(progress.pace(seen.seconds_per_step))
        if seen.stage == "train" and seen.total > seen.step:
            facts.append(f"about {progress.duration(seen.seconds_per_step * (seen.total - seen.step))} left")
    if seen.losses:
        facts.append(f"loss {seen.losses[-1][1]:.4f}")
    tail = "".join(f"<div>{escape(line)}</div>" for line in seen.lines)
    log = f'<div class="sm-tail" role="group" aria-label="The end of its log">{tail}</div>' if tail else ""
    return progress.box(word, _headline(own, seen), _share(seen), facts, _said(own, seen)) + log


def _headline(own: Handoff, seen: Seen) -> str:
    if seen.job is None:
        return "Cannot be followed at the moment" if seen.problem else "Asking the Hub how it is"
    if seen.job.name == "RUNNING":
        if not seen.stage:
            return "The machine gets ready"
        what = progress.STAGES.get(seen.stage, seen.stage[:40].capitalize())
        far = progress.arrived(seen.step, seen.total) if seen.stage == "fetch" else f"{seen.step} of {seen.total}"
        return f"{what}: {far}"
    words = {
        "SCHEDULING": f"Waiting for a machine ({own.flavor})",
        "COMPLETED": "Finished: its adapter can be fetched",
        "CANCELED": "Stopped: what it had learnt is lost with its machine",
        "ERROR": "It failed, or was killed on its machine",
        "DELETED": "The Hub has no such Job any more",
    }
    return words.get(seen.job.name, seen.job.name.capitalize())


def _said(own: Handoff, seen: Seen) -> str:
    said = [seen.job.message] if seen.job is not None and seen.job.message else []
    if seen.job is not None and seen.job.name == "ERROR":
        said.append(f"The end of its log says why; one that ran out of memory, or of its {own.timeout}, is killed.")
    if seen.problem and not seen.whole:
        said.append(f"{seen.problem}. It is tried again.")
    return " ".join(said)


def _share(seen: Seen) -> float:
    if seen.job is not None and seen.job.name == "COMPLETED":
        return 1.0
    if seen.stage in ("generate", "score") and seen.losses and seen.num_steps:  # a pause of the training
        return min(1.0, seen.losses[-1][0] / seen.num_steps)
    return min(1.0, seen.step / seen.total) if seen.total else 0.0
