"""A training on Hugging Face's machines, on the Train tab: shown, sent, begun, followed, stopped, fetched, taken away.

It is the very run that Start would begin here. What has been shown is what is sent: another form, or a file that
changed, is refused. Sending and fetching are transfers (transfers.py); a Job's log is read in a thread of its own while
somebody looks (hosting/followers.py), which the page asks once a second. Which hand-off is looked at and what is under
way outlives a reload. Tokens are this machine's; on a Space those of who has logged in, in memory alone.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.config import TrainRun
from synmotion_core.errors import ConfigError, HubError, MissingError, UserInputError
from synmotion_core.ui import progress, remote_view
from synmotion_core.ui.asked import Asked, answered
from synmotion_core.ui.beat import POLL_S
from synmotion_core.ui.context import IN_TURN, Studio, in_time
from synmotion_core.ui.hub_fields import transfer_html
from synmotion_core.ui.notices import Updates, guarded, notice, quiet
from synmotion_core.ui.people import log_in_is_possible, person_now, shared
from synmotion_core.ui.remote_fields import DEFAULT_TIMEOUT, RemoteFields

if TYPE_CHECKING:
    from synmotion_core.hosting.ledger import Handoff
    from synmotion_core.hosting.machines import Machines
    from synmotion_core.transfers import TransferView, Watch

JOB_POLL_S = 5.0  # between two looks at a Job that waits
_CHANGED = "what would be sent has changed since it was shown: show it again"
_LOG_IN = "log in first, at the top of the page: the training runs as you, and is yours to pay"
_NO_LOG_IN = "this Space has no log-in (`hf_oauth: true` in its README's first lines): train from your own machine"
_NO_RIGHT = (
    "the log-in of this Space may not run Jobs: whoever owns it adds `jobs` to `hf_oauth_scopes` in its README's first "
    "lines; or train from your own machine"
)


@dataclass(frozen=True, eq=False)
class _Wanted:
    """What a listing was asked for, as the form was at the press: told from any other, also of the same values."""

    run: TrainRun
    flavor: str
    timeout: str


@dataclass(frozen=True, eq=False)
class _Shown:
    """What was shown: this and nothing else may be sent."""

    run: TrainRun
    own: Handoff
    key: str
    listing: str  # html


@dataclass(frozen=True)
class _Place:
    """What a browser remembers: the hand-off that is looked at, the transfer under way, whether the part is unfolded.
    It is not trusted to be well formed."""

    id: str = ""
    transfer: str = ""
    open: bool = False

    @staticmethod
    def of(memory: Any) -> _Place:
        values = memory if isinstance(memory, Mapping) else {}
        id, transfer = (value if isinstance(value := values.get(key), str) else "" for key in ("id", "transfer"))
        return _Place(id=id, transfer=transfer, open=values.get("open") is True)

    def kept(self, **changes: Any) -> dict[str, Any]:
        own = replace(self, **changes)
        return {"id": own.id, "transfer": own.transfer, "open": own.open}


def build(
    studio: Studio,
    laid: RemoteFields,
    run_of: Callable[[Mapping[Any, Any]], TrainRun],
    fields: set[Any],
    backbone: gr.Dropdown,
) -> dict[str, Any]:
    """run_of: the run that Start would begin with the values of `fields`. Returns what happens at loading, the id of an
    adapter that has arrived, and the button that goes on to the Generate tab with it.
    """
    memory, timer = studio.remote, gr.Timer(POLL_S, active=False)
    asked, shown, doing = gr.State(None), gr.State(None), gr.State(None)
    arrived, fetched = gr.State(""), gr.State("")

    # -------------------------------------------------------------------------------------------- what leaves

    def on_show(values: Mapping[Any, Any]) -> Updates:
        wanted = _Wanted(run_of(values), values[laid.flavor] or "", _timeout(values[laid.timeout]))
        return {asked: wanted, shown: None, laid.listing: "", laid.ready: gr.Column(visible=False)}

    def on_asked(values: Mapping[Any, Any]) -> Updates:
        """Apart from the form's turn: the Hub is asked, which may take its time."""
        from synmotion_core.hosting.order import pack
        from synmotion_core.run import plan

        wanted: _Wanted = values[asked]
        run, machines = wanted.run, _machines(studio)
        with tempfile.TemporaryDirectory() as folder:
            order = pack(run, Path(folder))
            own = machines.plan(order, flavor=wanted.flavor, timeout=wanted.timeout)
            person = person_now()
            warnings = (
                remote_view.room(plan(run).peak_gib, own.flavor),
                remote_view.ends_too_early(person.until if person else None, own.timeout),
            )
            listing = remote_view.order_html(order, own, warnings=[text for text in warnings if text])
        return {
            shown: _Shown(run, own, order.key, listing), laid.listing: listing, laid.ready: gr.Column(visible=True),
        }  # fmt: skip

    def on_send(values: Mapping[Any, Any]) -> Updates:
        from synmotion_core.hosting.order import pack

        before: _Shown | None = values[shown]
        if before is None:
            raise ConfigError("look first: show what would be sent")
        now = (run_of(values), values[laid.flavor], _timeout(values[laid.timeout]), values[laid.listing])
        # the listing as the browser had it at the press: one that arrived since has not been looked at
        if now != (before.run, before.own.flavor, before.own.timeout, before.listing):
            raise ConfigError(_CHANGED)
        machines = _machines(studio)

        def work(watch: Watch, stop: threading.Event) -> tuple[str, Any]:
            with tempfile.TemporaryDirectory() as folder:
                order = pack(before.run, Path(folder))
                if order.key != before.key:
                    raise ConfigError(_CHANGED)
                own = machines.send(order, before.own, watch=watch, cancel=stop)
            try:
                own = machines.start(own, cancel=stop)
            except UserInputError as error:
                raise HubError(
                    f"{error}. What was sent is in {own.repo_id}, which is private: “Start it” begins the Job, "
                    "“Delete” takes it away"
                ) from error
            return f"Begun: {own.name} runs on {own.flavor}, for at most {own.timeout}.", ("handoff", own.id)

        started = studio.transfers.start(f"Sending {before.own.name}", work)
        place = _Place.of(values[memory]).kept(id=before.own.id, transfer=started)
        gone = {laid.listing: "", laid.ready: gr.Column(visible=False), shown: None}
        return {**gone, memory: place, timer: gr.Timer(active=True), **under_way(studio.transfers.view(started))}

    def under_way(view: TransferView) -> Updates:
        running = view.status == "running"
        return {
            laid.transfer: transfer_html(view),
            laid.cancel: gr.Button(visible=running),
            laid.send: gr.Button(interactive=not running),
            **({laid.fetch: gr.Button(interactive=False)} if running else {}),
        }

    # -------------------------------------------------------------------------------------------- what was handed off

    def chosen(values: Mapping[Any, Any]) -> Handoff:
        if not values[laid.which]:
            raise ConfigError("choose a hand-off first")
        return _ledger(studio).find(str(values[laid.which]))

    def listed(wanted: str) -> tuple[Handoff | None, Updates]:
        """The hand-offs, the newest first, and the one that is wanted, else the newest."""
        there = _ledger(studio).all()[::-1]
        own = next((one for one in there if one.id == wanted), there[0] if there else None)
        choices = [(remote_view.title(one), one.id) for one in there]
        return own, {
            laid.which: gr.Dropdown(choices=choices, value=own.id if own else None),
            laid.theirs: gr.Column(visible=bool(there)),
            laid.name: gr.Textbox(placeholder=own.name if own else ""),
        }

    def watch(own: Handoff | None) -> Updates:
        """How a hand-off is. The page asks on as long as one is looked at: a late answer of a tick that began before a
        press is put right by the next."""
        seen, problem = None, ""
        if own is not None and own.job_id:
            try:
                seen = studio.followers.look(_machines(studio), own)
            except UserInputError as error:
                problem = str(error)
        job = seen.job.name if seen is not None and seen.job is not None else ""
        over, unsure = seen is not None and seen.ended, seen is not None and bool(seen.problem)
        html = notice("info", problem) if problem else remote_view.status_html(own, seen)
        losses = progress.loss_plot(seen.losses, seen.num_steps) if seen is not None and seen.losses else ""
        sent_only = own is not None and bool(own.commit) and not own.job_id
        return {
            laid.status: html,
            laid.plot: losses,
            laid.stop: gr.Button(interactive=(bool(job) or unsure) and not over),
            laid.begin: gr.Button(visible=sent_only),
            laid.delete: gr.Button(interactive=own is not None and (not own.job_id or over or unsure)),
            laid.fetch: gr.Button(interactive=job == "COMPLETED" or unsure),
            timer: gr.Timer(active=own is not None),
        }

    def opened(place: _Place) -> Updates:
        own, updates = listed(place.id)
        return {**updates, **watch(own), laid.login: _how_to_log_in(), **still(place)}

    def still(place: _Place) -> Updates:
        """A transfer that goes on is asked about, too."""
        return {timer: gr.Timer(active=True)} if place.transfer else {}

    def on_expand(values: Mapping[Any, Any]) -> Updates:
        place = _Place.of(values[memory])
        return {memory: place.kept(open=True), **opened(place)}

    def on_collapse(values: Mapping[Any, Any]) -> Updates:
        place = _Place.of(values[memory])
        return {memory: place.kept(open=False), timer: gr.Timer(active=bool(place.transfer))}

    def on_load(values: Mapping[Any, Any]) -> Updates:
        place = _Place.of(values[memory])
        if not place.open and not place.transfer:
            return {}
        return {laid.box: gr.Accordion(open=True), memory: place.kept(open=True), **opened(place)}

    def on_which(values: Mapping[Any, Any]) -> Updates:
        own, place = chosen(values), _Place.of(values[memory])
        closed = {laid.sure: gr.Column(visible=False), doing: None}
        named = {laid.name: gr.Textbox("", placeholder=own.name)}
        return {memory: place.kept(id=own.id), **watch(own), **still(place), **closed, **named}

    def on_tick(values: Mapping[Any, Any]) -> Updates:
        place = _Place.of(values[memory])
        updates: Updates = tick_of_transfer(place) if place.transfer else {}
        if place.open and values[laid.which] and laid.which not in updates:
            try:
                updates = watch(_ledger(studio).find(str(values[laid.which]))) | updates | still(place)
            except MissingError:  # deleted elsewhere
                own, rows = listed("")
                updates |= rows | watch(own)
        return in_time(studio, timer, {timer: gr.Timer(active=False), **updates})

    def tick_of_transfer(place: _Place) -> Updates:
        try:
            view = studio.transfers.view(place.transfer)
        except UserInputError:  # of a studio that has ended since
            free = {laid.send: gr.Button(interactive=True), laid.cancel: gr.Button(visible=False)}
            return {**free, laid.transfer: "", memory: place.kept(transfer="")}
        if view.status == "running":
            return {**under_way(view), timer: gr.Timer(active=True)}
        own, rows = listed(place.id)
        updates = {**under_way(view), **rows, **watch(own), memory: place.kept(transfer="")}
        kind, result = view.result if isinstance(view.result, tuple) else ("", "")
        if kind == "adapter":
            updates |= {arrived: f"{view.id} {result}", fetched: result, laid.use: gr.Button(visible=True)}
        return updates

    def on_cancel(values: Mapping[Any, Any]) -> Updates:
        studio.transfers.cancel(_Place.of(values[memory]).transfer)
        return {laid.cancel: gr.Button(visible=False)}

    # -------------------------------------------------------------------------------------------- what is done with one

    def ask(what: str, label: str, words: Callable[[Handoff], str]) -> Callable[[Mapping[Any, Any]], Updates]:
        def on_ask(values: Mapping[Any, Any]) -> Updates:
            own = chosen(values)
            said_so = notice("info" if what == "start" else "warning", words(own))
            return {
                doing: Asked((what, own.id), said_so), laid.sure_words: said_so, laid.really: gr.Button(label),
                laid.sure: gr.Column(visible=True),
            }  # fmt: skip

        return on_ask

    def on_really(values: Mapping[Any, Any]) -> Updates:
        what, id = answered(values[doing], values[laid.sure_words])
        own, machines = _ledger(studio).find(id), _machines(studio)
        if what == "stop":
            machines.stop(own)
            text = f"{own.name} is stopped. The clips are still in {own.repo_id}: “Delete” takes them away."
        elif what == "start":
            machines.start(own)
            text = f"Begun: {own.name} runs on {own.flavor}, for at most {own.timeout}."
        else:
            machines.delete(own)
            text = f"{own.repo_id} is deleted, and forgotten here."
        studio.followers.forget(own.id)
        own, rows = listed(own.id)
        place = _Place.of(values[memory])
        closed = {laid.sure: gr.Column(visible=False), doing: None, memory: place.kept(id=own.id if own else "")}
        return {**rows, **watch(own), **still(place), **closed, laid.message: notice("info", text)}

    def on_keep(_: Mapping[Any, Any]) -> Updates:
        return {laid.sure: gr.Column(visible=False), doing: None}

    def on_fetch(values: Mapping[Any, Any]) -> Updates:
        from synmotion_core.workspace import safe_name

        own, workspace = chosen(values), studio.workspace
        wanted = safe_name((values[laid.name] or "").strip() or own.name)
        if (workspace.adapters / f"{wanted}.safetensors").exists():
            raise ConfigError(f"there is an adapter {wanted!r} on this machine already: give it another name here")
        machines = _machines(studio)

        def work(watch: Watch, stop: threading.Event) -> tuple[str, Any]:
            done = machines.pull(own, name=wanted, watch=watch, cancel=stop)
            best = f" Its best is {done.best.stem}." if done.best else ""
            drawn = "".join(f" {line[0].upper()}{line[1:]}." for line in done.samples.said(own.repo_id))
            text = f"{done.path.stem} is here: {done.applied} of {done.applied} keys apply.{best}{drawn} The clips are"
            return f"{text} still in {own.repo_id}: “Delete” takes them away.", ("adapter", f"mine/{done.path.name}")

        started = studio.transfers.start(f"Fetching {own.name}", work)
        place = _Place.of(values[memory]).kept(transfer=started)
        begun = {memory: place, laid.use: gr.Button(visible=False), timer: gr.Timer(active=True)}
        return begun | under_way(studio.transfers.view(started))

    def on_backbone(values: Mapping[Any, Any]) -> Updates:
        from synmotion_core.backbones import find_spec

        choices, first = remote_view.machine_choices(find_spec(values[backbone]).needs_gpu)
        return {laid.flavor: gr.Dropdown(choices=choices, value=first)}

    # -------------------------------------------------------------------------------------------- the wiring

    calm: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 8}
    waits = {**calm, "show_progress": "minimal", "show_progress_on": laid.timeout}
    message = laid.message
    one = [laid.which, laid.theirs, laid.name, laid.status, laid.plot, laid.stop, laid.begin, laid.delete, laid.fetch]
    one += [laid.transfer, laid.cancel, laid.send, laid.use, timer, memory, arrived, fetched]
    all_of = [*one, laid.box, laid.login, laid.sure, laid.sure_words, laid.really, doing, message]
    leaving = [laid.listing, laid.ready, shown]
    mine = {memory, laid.which, doing, laid.sure_words, laid.name}
    form = {*fields, laid.flavor, laid.timeout, laid.listing, shown, memory}
    once = {**calm, **IN_TURN, "trigger_mode": "once"}
    laid.show.click(guarded(message, on_show), form, [asked, *leaving, message], **once)
    asked.change(guarded(message, on_asked), {asked}, [*leaving, message], **waits)
    laid.send.click(guarded(message, on_send), form, [*leaving, *one, message], **once)
    laid.cancel.click(guarded(message, on_cancel), mine, [laid.cancel, message], **calm)
    laid.box.expand(guarded(message, on_expand), mine, all_of, **calm)
    laid.box.collapse(quiet(on_collapse), mine, [memory, timer], **calm)
    laid.which.input(guarded(message, on_which), mine, all_of, **calm)
    stopping = ask("stop", "Stop it", lambda own: f"What {own.name} has learnt so far is lost with its machine.")
    starting = ask(
        "start", "Start it", lambda own: f"It trains on {own.flavor}, for at most {own.timeout}. It costs money: see "
        f"{remote_view.PRICES}",
    )  # fmt: skip
    deleting = ask(
        "delete", "Delete it there", lambda own: f"{own.repo_id} goes from the Hub, with the clips and all that was "
        "learnt there. What was fetched, an adapter with its videos, stays here.",
    )  # fmt: skip
    for button, handler in ((laid.stop, stopping), (laid.begin, starting), (laid.delete, deleting)):
        button.click(guarded(message, handler), mine, all_of, **calm)
    laid.really.click(guarded(message, on_really), mine, all_of, **{**waits, "show_progress_on": laid.which})
    laid.keep.click(guarded(message, on_keep), mine, all_of, **calm)
    laid.fetch.click(guarded(message, on_fetch), mine, all_of, **calm)
    timer.tick(quiet(on_tick), mine, all_of, **calm)
    backbone.change(quiet(on_backbone), {backbone}, laid.flavor, **calm)
    return {"load": (quiet(on_load), mine, all_of), "arrived": arrived, "use": laid.use, "fetched": fetched}


def _timeout(text: Any) -> str:
    return (text or "").strip() or DEFAULT_TIMEOUT


def _ledger(studio: Studio) -> Any:
    from synmotion_core.hosting.ledger import Ledger

    return Ledger(studio.workspace)


def _machines(studio: Studio) -> Machines:
    """Hugging Face's machines as this machine; on a Space as who has logged in. Raises ConfigError for nobody."""
    from synmotion_core.hosting.machines import Machines

    problem = _not_here()
    if problem:
        raise ConfigError(problem)
    person = person_now()
    token = person.token if shared() and person else None
    return Machines(studio.workspace, token=token, poll_s=JOB_POLL_S)


def _not_here() -> str:
    """Why a Space cannot do this for somebody, "" where it can."""
    if not shared():
        return ""
    if not log_in_is_possible():
        return _NO_LOG_IN
    person = person_now()
    if person is None or person.token is None:
        return _LOG_IN
    return "" if "jobs" in os.environ.get("OAUTH_SCOPES", "").replace(",", " ").split() else _NO_RIGHT


def _how_to_log_in() -> str:
    """What keeps somebody from it, as far as it is known without asking the Hub."""
    from huggingface_hub import get_token

    from synmotion_core.hub_errors import LOG_IN

    if problem := _not_here():
        return notice("warning", problem)
    return "" if shared() or get_token() else notice("warning", LOG_IN)
