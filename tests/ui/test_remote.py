"""Trainings on Hugging Face's machines from the page: real Chromium, real client, a loopback Hub with its Jobs API."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from synmotion_core.config import TrainRun, from_dict, to_dict
from synmotion_core.events import event_to_dict
from synmotion_core.hosting.followers import Followers, Seen
from synmotion_core.hosting.ledger import Handoff, Ledger
from synmotion_core.hosting.machines import Stage
from synmotion_core.transfers import Transfers
from synmotion_core.types import Progress, Warned
from synmotion_core.ui import remote, remote_view
from synmotion_core.ui.people import Person
from tests.hub_server import HubServer
from tests.ui.studio import Site
from tests.ui.test_accessibility import grave
from tests.ui.test_page import SLOW, start_training, status, tab, take_examples, unfolded

CLIP = Path(__file__).parents[2] / "assets" / "clips" / "squat" / "squat-01.mp4"
SQUAT = Path(__file__).parents[2] / "assets" / "adapters" / "squat.safetensors"
EVIL = "<b id='evil'>boo</b>"
OWN = Handoff(
    id="0a", name="wave", backbone="b", method="m", repo_id="ann/x", key="k", flavor="l4x1", timeout="2h",
    created="2026-01-01T10:00:00+00:00", commit="c", job_id="j",
)  # fmt: skip


def progress(step: int, total: int = 40, stage: str = "train") -> str:
    event = Progress(stage=stage, step=step, total=total, loss=1.0 / step if stage == "train" else None, seconds=0.5)
    return json.dumps(event_to_dict(event))


# ------------------------------------------------------------------------------------------------ without a page


class Log:
    """Machines whose log is what a test puts into it."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.readers = self.tries = 0
        self.job = Stage(name="RUNNING")
        self.error: Exception | None = None

    def follow(self, own: Handoff, *, cancel: threading.Event, watch: Callable[[Stage], None]) -> Iterator[Any]:
        self.readers, self.tries = self.readers + 1, self.tries + 1
        try:
            at = 0
            while not cancel.is_set():
                watch(self.job)
                if self.error is not None:
                    raise self.error
                yield from self.events[at:]
                at = len(self.events)
                if self.job.ended:
                    return
                cancel.wait(0.01)
        finally:
            self.readers -= 1


def until(true: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_log_is_read_while_somebody_looks() -> None:
    log: Any = Log()
    followers = Followers(patience_s=2.0, retry_s=0.01)
    assert followers.look(log, OWN) == Seen()
    log.events += [Progress(stage="train", step=n, total=9, loss=1.0, seconds=0.5) for n in (1, 2, 3)]
    log.events += [Warned(message="w" * 1000) for _ in range(50)]
    until(lambda: followers.look(log, OWN).step == 3 and len(followers.look(log, OWN).lines) == 8)
    seen = followers.look(log, OWN)
    assert (seen.losses, seen.num_steps, seen.seconds_per_step) == (((1, 1.0), (2, 1.0), (3, 1.0)), 9, 0.5)
    assert all(len(line) == 301 for line in seen.lines)
    assert log.readers == 1, "one, however often it is asked"
    until(lambda: log.readers == 0, 30)  # nobody has looked
    assert followers.look(log, OWN).step == 3, "what was read stays"
    until(lambda: log.readers == 1)
    until(lambda: len(followers.look(log, OWN).losses) == 3)
    log.job = Stage(name="COMPLETED")
    until(lambda: followers.look(log, OWN).ended and log.readers == 0)
    followers.look(log, OWN)
    time.sleep(0.1)
    assert log.readers == 0, "there is nothing more to read"
    followers.forget(OWN.id)
    assert followers.look(log, OWN) == Seen()


def test_an_answer_that_fails_is_said_and_tried_again() -> None:
    from synmotion_core.errors import HubError

    log: Any = Log()
    log.error = HubError("the Hub does not take your token")
    followers = Followers(patience_s=5.0, retry_s=2.0)
    until(lambda: followers.look(log, OWN).problem == "the Hub does not take your token")
    assert "does not take your token. It is tried again" in remote_view.status_html(OWN, followers.look(log, OWN))
    tries = log.tries
    for _ in range(15):
        followers.look(log, OWN)
        time.sleep(0.01)
    assert log.tries <= tries + 1, "not with every look"
    log.error = None
    until(lambda: not followers.look(log, OWN).problem, 30)
    log.error = RuntimeError("a bug")
    until(lambda: "wrong on our side" in followers.look(log, OWN).problem, 30)
    followers.forget(OWN.id)
    until(lambda: log.readers == 0, 30)


def test_what_a_job_says_is_shown_as_text() -> None:
    seen = Seen(
        job=Stage(name="ERROR", message=EVIL), stage=EVIL, step=1, total=2, lines=(EVIL,), problem=EVIL,
        losses=((1, float("nan")),), num_steps=2,
    )  # fmt: skip
    for one in (seen, Seen(job=Stage(name="RUNNING"), stage=EVIL, lines=(EVIL,)), Seen(job=Stage(name=EVIL))):
        html = remote_view.status_html(OWN, one)
        assert "<b" not in html
        assert "&lt;b" in html
    assert "one that ran out of memory, or of its 2h, is killed" in remote_view.status_html(OWN, seen)


def test_a_fetch_there_is_in_gib() -> None:
    seen = Seen(job=Stage(name="RUNNING"), stage="fetch", step=2**30, total=27 * 2**30, seconds_per_step=1e-7)
    html = remote_view.status_html(OWN, seen)
    assert "Fetching the weights: 1.0 of 27.0 GiB" in html
    assert "a second" not in html, "steps of one byte"


def test_machines_for_puppets_and_for_the_large() -> None:
    from synmotion_core.hosting.machines import check_flavor

    small, first = remote_view.machine_choices(needs_gpu=False)
    large, first_large = remote_view.machine_choices(needs_gpu=True)
    assert (first, small[0][1], first_large, large[0][1]) == ("cpu-basic", "cpu-basic", "a100-large", "t4-small")
    assert {flavor for _, flavor in small} == {flavor for _, flavor in large}
    assert len(large) > 10
    for _, flavor in large:
        check_flavor(flavor)
    assert "needs about 84 GiB on the GPU, a100-large has 80 GB" in remote_view.room(84.3, "a100-large")
    assert "cpu-basic has none" in remote_view.room(1.0, "cpu-basic")
    assert not remote_view.room(None, "cpu-basic")
    assert not remote_view.room(84.3, "h200")
    assert "ends in 1 h" in remote_view.ends_too_early(time.time() + 3700, "6h")
    assert not remote_view.ends_too_early(time.time() + 3700, "1h")
    assert not remote_view.ends_too_early(None, "6h")


def test_a_space_says_what_keeps_somebody_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert remote._not_here() == ""
    monkeypatch.setenv("SPACE_ID", "someone/studio")
    assert "has no log-in" in remote._not_here()
    monkeypatch.setenv("SYSTEM", "spaces")
    monkeypatch.setenv("OAUTH_CLIENT_ID", "x")
    assert "log in first" in remote._not_here()
    monkeypatch.setattr(remote, "person_now", lambda: Person(key="people/a", token="hf_ann_write"))
    monkeypatch.setenv("OAUTH_SCOPES", "openid profile contribute-repos")
    assert "adds `jobs` to `hf_oauth_scopes`" in remote._not_here()
    monkeypatch.setenv("OAUTH_SCOPES", "openid profile contribute-repos jobs")
    assert remote._not_here() == ""


# ------------------------------------------------------------------------------------------------ on the page


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "JOB_POLL_S", 0.1)


@pytest.fixture
def ann(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """She is logged in on this machine."""
    monkeypatch.setenv("HF_TOKEN", "hf_ann_write")
    return hub


def unfold(page: Page) -> None:
    page.get_by_text("Train on Hugging Face's machines").click()
    unfolded(page, "#remote-show")


def prepared(page: Page) -> None:
    """Examples chosen, the part unfolded."""
    take_examples(page)
    tab(page, "2 · Train")
    expect(page.locator("#train-plan")).to_contain_text("clips to encode", timeout=SLOW)
    page.locator("#train-steps input").fill("40")
    unfold(page)


def show(page: Page) -> Any:
    """A listing of now: one that was there before is marked, and gone when the new one is there."""
    page.evaluate("() => document.querySelector('#remote-files .sm-leaves')?.setAttribute('data-before', '')")
    page.locator("#remote-show").click()
    expect(page.locator("#remote-files .sm-leaves:not([data-before])")).to_be_visible(timeout=SLOW)
    expect(page.locator("#remote-send")).to_be_visible(timeout=SLOW)
    return page.locator("#remote-files")


def send(page: Page) -> None:
    page.locator("#remote-send").click()
    expect(page.locator("#remote-transfer")).to_contain_text("Begun: claps runs on", timeout=SLOW)


def result(hub: HubServer, own: Handoff) -> None:
    """What a Job leaves; the form's method and backbone are those of the ready adapter."""
    files = {f"result/{own.name}.safetensors": SQUAT.read_bytes(), "result/run.json": b"{}"}
    files |= {f"result/samples/step-0000{n}/a-red-cat-claps-seed0.mp4": CLIP.read_bytes() for n in (20, 40)}
    hub.repos[f"datasets/{own.repo_id}"].commit(files, "What was learnt")


def test_shown_sent_followed_fetched_and_deleted(open_page: Any, site: Site, ann: HubServer) -> None:
    """The whole way of one training, with a reload in the middle; what leaves is what Start would train on."""
    page = open_page()
    prepared(page)
    expect(page.locator("#remote-theirs")).to_be_hidden()
    assert page.locator("#remote-flavor input").input_value() == "cpu-basic"
    page.locator("#remote-timeout input, #remote-timeout textarea").fill("90m")
    listing = show(page)
    expect(listing).to_contain_text("a private dataset, which stays until you delete it")
    expect(listing).to_contain_text("job/clips/03.mp4")
    expect(listing).to_contain_text("for at most 90m. It costs money")
    expect(listing).to_contain_text("huggingface.co/pricing")
    assert listing.locator("a").count() == 0
    assert grave(page) == []
    assert not ann.repos, "looking sends nothing"
    assert not [one for one in ann.requests if one.method != "GET"]
    lines = listing.locator("li").all_text_contents()
    where = re.search(r"To (ann/synmotion-job-\w+) ", listing.inner_text())
    assert where

    send(page)
    (own,) = Ledger(site.workspace).all()
    repo, job = ann.repos[f"datasets/{own.repo_id}"], ann.jobs.only()
    assert own.repo_id == where[1]
    assert repo.private
    sent = {name: len(data) for name, data in repo.head.files.items() if name != ".gitattributes"}
    shown = {
        name: int(size.replace(",", ""))
        for name, size in (re.findall(r"^(\S+), ([\d,]+) bytes", line)[0] for line in lines)
    }
    assert shown == sent, "every file that left was shown with its size, and no other"
    assert (job.spec["flavor"], job.spec["timeoutSeconds"]) == ("cpu-basic", 5400)
    assert (site.workspace.root / "remote.json").read_text().count("hf_ann") == 0
    expect(page.locator("#remote-files")).to_be_hidden()
    status(page, "#remote-status", "queued")
    expect(page.locator("#remote-status")).to_contain_text("Waiting for a machine (cpu-basic)")
    expect(page.locator("#remote-fetch")).to_be_disabled()
    expect(page.locator("#remote-delete")).to_be_disabled()

    job.stage, job.lines = "RUNNING", [f"synmotion: training {EVIL}", *(progress(n) for n in range(1, 11))]
    expect(page.locator("#remote-status")).to_contain_text("Training: 10 of 40", timeout=SLOW)
    expect(page.locator("#remote-status [role=progressbar]")).to_have_attribute("aria-valuenow", "25")
    expect(page.locator("#remote-status")).to_contain_text("2.0 steps a second · about 15 s left · loss 0.1000")
    expect(page.locator("#remote-plot svg")).to_be_visible()
    assert grave(page) == []
    expect(page.locator("#remote-status .sm-tail")).to_contain_text(f"training {EVIL}")
    expect(page.locator("#evil")).to_have_count(0)

    page.reload()
    tab(page, "2 · Train")
    expect(page.locator("#remote-status")).to_contain_text("Training: 10 of 40", timeout=SLOW)
    job.lines = [*job.lines, *(progress(n) for n in range(11, 41))]
    expect(page.locator("#remote-status")).to_contain_text("Training: 40 of 40", timeout=SLOW)
    result(ann, own)
    job.stage = "COMPLETED"
    status(page, "#remote-status", "finished")
    page.locator("#remote-fetch").click()
    expect(page.locator("#remote-transfer")).to_contain_text("claps is here: 135 of 135 keys apply", timeout=SLOW)
    expect(page.locator("#remote-transfer")).to_contain_text("1 of its videos came with it, of step 40. 1 more that")
    assert (site.workspace.adapters / "claps.safetensors").read_bytes() == SQUAT.read_bytes()
    page.locator("#remote-fetch").click()
    expect(page.locator("#remote-message [role=alert]")).to_contain_text("there is an adapter 'claps' on this machine")
    page.locator("#remote-use").click()
    expect(page.locator("#gen-adapter input")).to_have_value("claps: squats (trained on cpu-basic)", timeout=SLOW)
    tab(page, "5 · Library")
    expect(page.locator("#library-adapter input")).to_have_value("claps: squats (trained on cpu-basic)", timeout=SLOW)

    expect(page.locator("#library-about")).to_contain_text("Trained on Hugging Face's cpu-basic")
    expect(page.locator("#library-videos figcaption")).to_contain_text("a red cat claps")

    tab(page, "2 · Train")
    page.locator("#remote-delete").click()
    expect(page.locator("#remote-sure-words")).to_contain_text(f"{own.repo_id} goes from the Hub, with the clips")
    page.locator("#remote-keep").click()
    expect(page.locator("#remote-really")).to_be_hidden()
    assert ann.repos
    page.locator("#remote-delete").click()
    page.locator("#remote-really").click()
    expect(page.locator("#remote-message")).to_contain_text("is deleted, and forgotten here", timeout=SLOW)
    assert not ann.repos
    assert not Ledger(site.workspace).all()
    expect(page.locator("#remote-theirs")).to_be_hidden()


def test_what_leaves_is_what_start_would_train(open_page: Any, site: Site, ann: HubServer) -> None:
    page = open_page()
    prepared(page)
    show(page)
    send(page)
    own = Ledger(site.workspace).all()[0]
    there = from_dict(TrainRun, json.loads(ann.repos[f"datasets/{own.repo_id}"].head.files["job/job.json"]))
    page.locator("#train-start").click()
    status(page, "#train-status", "finished")
    here = next(view.config for view in site.jobs.list() if view.kind == "train")
    mine, theirs = to_dict(here), to_dict(there)
    for number, (one, other) in enumerate(zip(mine.pop("clips"), theirs.pop("clips"), strict=True), 1):
        assert Path(other.pop("path")).as_posix() == f"job/clips/{number:02d}.mp4"
        assert Path(one.pop("path")).is_file()
        assert one == other
    assert mine == theirs


def test_what_has_changed_is_shown_again_first(open_page: Any, site: Site, ann: HubServer) -> None:
    page = open_page()
    prepared(page)
    show(page)
    page.locator("#train-steps input").fill("41")
    page.locator("#train-steps input").blur()
    page.wait_for_timeout(500)
    page.locator("#remote-send").click()
    message = page.locator("#remote-message [role=alert]")
    expect(message).to_contain_text("has changed since it was shown: show it again", timeout=SLOW)
    show(page)
    page.locator("#remote-timeout input, #remote-timeout textarea").fill("1h")
    page.locator("#remote-send").click()
    expect(message).to_contain_text("has changed since it was shown: show it again", timeout=SLOW)
    page.locator("#remote-timeout input, #remote-timeout textarea").fill("soon")
    page.locator("#remote-show").click()
    expect(message).to_contain_text("a timeout is a number with s, m, h or d, got 'soon'", timeout=SLOW)
    expect(page.locator("#remote-send")).to_be_hidden()
    assert not ann.repos
    # a file that changes after it was shown, in this studio's own source
    page.locator("#remote-timeout input, #remote-timeout textarea").fill("1h")
    show(page)
    from synmotion_core.hosting import order

    real = order.file_sha256
    order.file_sha256 = lambda path: "0" * 64 if path.name == "LICENSE" else real(path)
    try:
        page.locator("#remote-send").click()
        expect(page.locator("#remote-transfer")).to_contain_text("has changed since it was shown", timeout=SLOW)
    finally:
        order.file_sha256 = real
    assert not ann.repos
    assert not Ledger(site.workspace).all()


def test_what_arrived_after_the_press_was_not_looked_at(open_page: Any, site: Site, ann: HubServer) -> None:
    """Send is pressed while another listing is on its way, and is the slower of the two."""
    page = open_page()
    prepared(page)
    show(page)
    page.locator("#remote-timeout input, #remote-timeout textarea").fill("1h")
    held: list[Route] = []

    def hold(route: Route) -> None:
        if held or "sm-leaves" not in (route.request.post_data or ""):
            route.continue_()  # a timer's, or what came later
        else:
            held.append(route)

    page.route("**/queue/join*", hold)
    page.locator("#remote-send").click()
    deadline = time.monotonic() + SLOW / 1000
    while not held and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert held
    expect(show(page)).to_contain_text("for at most 1h")
    held[0].continue_()
    message = page.locator("#remote-message [role=alert]")
    expect(message).to_contain_text("has changed since it was shown: show it again", timeout=SLOW)
    assert not ann.repos


def test_a_job_is_stopped_and_one_that_did_not_begin_begins_later(open_page: Any, site: Site, ann: HubServer) -> None:
    page = open_page()
    prepared(page)
    show(page)
    ann.fail("POST", "/api/jobs/", status=402)
    page.locator("#remote-send").click()
    transfer = page.locator("#remote-transfer")
    expect(transfer).to_contain_text("the Hub wants a way to pay for it", timeout=SLOW)
    expect(transfer).to_contain_text("“Start it” begins the Job")
    expect(page.locator("#remote-status")).to_contain_text("Sent; no machine has begun it")
    page.locator("#remote-start").click()
    expect(page.locator("#remote-sure-words")).to_contain_text("It costs money")
    assert not ann.jobs.all
    page.locator("#remote-really").click()
    status(page, "#remote-status", "queued")
    job = ann.jobs.only()
    job.stage, job.lines = "RUNNING", [progress(1)]
    expect(page.locator("#remote-status")).to_contain_text("Training: 1 of 40", timeout=SLOW)
    page.locator("#remote-stop").click()
    expect(page.locator("#remote-sure-words")).to_contain_text("is lost with its machine")
    assert job.stage == "RUNNING"
    page.locator("#remote-really").click()
    status(page, "#remote-status", "stopped")
    assert job.stage == "CANCELED"
    expect(page.locator("#remote-stop")).to_be_disabled()
    expect(page.locator("#remote-delete")).to_be_enabled()


def test_a_job_that_failed_shows_why(open_page: Any, site: Site, ann: HubServer) -> None:
    page = open_page()
    prepared(page)
    show(page)
    send(page)
    job = ann.jobs.only()
    job.lines, job.message, job.stage = ["Traceback", f"it was {EVIL}"], "exit code 2", "ERROR"
    status(page, "#remote-status", "failed")
    expect(page.locator("#remote-status")).to_contain_text("exit code 2 The end of its log says why")
    expect(page.locator("#remote-status .sm-tail")).to_contain_text(f"it was {EVIL}")
    expect(page.locator("#evil")).to_have_count(0)


def test_sending_is_cancelled_and_goes_on(
    open_page: Any, site: Site, ann: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page()
    prepared(page)
    show(page)
    slow = threading.Event()
    answer = ann._answer

    def waits(method: str, *rest: Any, **named: Any) -> Any:
        if method in ("POST", "PUT"):
            slow.wait(120)
        return answer(method, *rest, **named)

    ann._answer = waits  # type: ignore[method-assign]
    told, real = threading.Event(), Transfers.cancel
    monkeypatch.setattr(Transfers, "cancel", lambda self, id: (real(self, id), told.set())[0])
    page.locator("#remote-send").click()
    page.locator("#remote-cancel").click()
    until(lambda: told.is_set() or page.wait_for_timeout(50), 60)  # a reload would break off what has not left
    page.reload()  # the transfer outlives the page
    tab(page, "2 · Train")
    expect(page.locator("#remote-transfer")).to_contain_text("Sending claps", timeout=SLOW)
    slow.set()
    expect(page.locator("#remote-transfer")).to_contain_text("Cancelled", timeout=SLOW)
    (own,) = Ledger(site.workspace).all()
    assert not own.commit
    expect(page.locator("#remote-status")).to_contain_text("Not sent whole: send the same again")
    page.locator("#train-steps input").fill("40")
    expect(show(page)).to_contain_text(own.repo_id)
    send(page)
    assert [one.id for one in Ledger(site.workspace).all()] == [own.id]


def test_nobody_and_a_token_that_is_refused(
    open_page: Any, site: Site, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page()
    prepared(page)
    expect(page.locator("#remote-login")).to_contain_text("you are not logged in: set HF_TOKEN", timeout=SLOW)
    page.locator("#remote-show").click()
    message = page.locator("#remote-message [role=alert]")
    expect(message).to_contain_text(
        "you are not logged in: set HF_TOKEN to a token with the right to write", timeout=SLOW
    )
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    page.locator("#remote-show").click()
    expect(message).to_contain_text("the Hub does not take your token", timeout=SLOW)
    monkeypatch.setenv("HF_TOKEN", "hf_ann_write")
    show(page)
    send(page)
    status(page, "#remote-status", "queued")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    expect(page.locator("#remote-status")).to_contain_text("the Hub does not take your token", timeout=SLOW)
    expect(page.locator("#remote-status")).to_contain_text("It is tried again")
    assert "hf_ann_write" not in page.content()
    assert "hf_ann_write" not in page.evaluate("() => JSON.stringify(localStorage)")
    left = [path.read_bytes() for path in site.workspace.root.rglob("*") if path.is_file()]
    assert not any(b"hf_ann_write" in data for data in left)


def test_nothing_is_asked_of_the_hub_unasked(open_page: Any, site: Site, ann: HubServer) -> None:
    Ledger(site.workspace).put(OWN)
    page = open_page()
    start_training(page, steps=2, every=0)
    status(page, "#train-status", "finished")
    assert not ann.requests
    unfold(page)
    expect(page.locator("#remote-which input")).to_have_value(re.compile("wave · 01 Jan"), timeout=SLOW)
    until(lambda: ann.requests, 60)
    page.get_by_text("Train on Hugging Face's machines").click()
    expect(page.locator("#remote-show")).to_be_hidden()
