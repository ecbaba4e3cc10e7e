"""What is pressed while an answer is on its way: what deletes or sends does what the browser showed at the press, and
what was chosen or typed meanwhile stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from synmotion_core.config import GenerateRun
from synmotion_core.errors import ConfigError
from synmotion_core.ui import remote
from synmotion_core.ui.asked import Asked, answered
from tests.hub_server import HubServer
from tests.ui.studio import Site, write_adapter
from tests.ui.test_page import SLOW, status, tab
from tests.ui.test_remote import prepared, show

CHANGED = "what this asks has changed since it was shown: look again, then press"


@pytest.fixture
def ann(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    monkeypatch.setenv("HF_TOKEN", "hf_ann_write")
    monkeypatch.setattr(remote, "JOB_POLL_S", 0.1)
    return hub


_TIMERS = """() => window.gradio_config.dependencies
    .filter(one => one.targets.some(target => target[1] === "tick")).map(one => one.id)"""


class Line:
    """A slow one: the first event that carries the words waits on its way, or every one until `enough`. Timers, which
    send the same fields as a press, are not held."""

    def __init__(self, page: Page, words: str, every: bool) -> None:
        self.page, self.words, self.more = page, words, True
        self.every, self.waiting = every, list[Route]()
        self.timers = page.evaluate(_TIMERS)
        assert self.timers

    def hold(self, route: Route) -> None:
        sent = route.request.post_data or ""
        if self.more and self.words in sent and json.loads(sent)["fn_index"] not in self.timers:
            self.waiting.append(route)
            self.more = self.every
        else:
            route.continue_()

    def enough(self) -> None:
        self.page.wait_for_timeout(1000)  # a list says twice what was chosen
        self.more = False

    def arrives(self) -> None:
        for _ in range(600):
            if self.waiting:
                break
            self.page.wait_for_timeout(100)
        assert self.waiting
        for route in self.waiting:
            route.continue_()


@contextmanager
def held(page: Page, words: str, *, every: bool = False) -> Iterator[Line]:
    line = Line(page, words, every)
    page.route("**/queue/join*", line.hold)
    yield line
    page.unroute("**/queue/join*", line.hold)


def field(page: Page, name: str) -> Any:
    return page.locator(f"{name} textarea, {name} input").first


def test_only_what_was_shown_is_answered() -> None:
    assert answered(Asked("a", "Delete a?"), "Delete a?") == "a"
    for asked, shown in ((Asked("b", "Delete b?"), "Delete a?"), (Asked("b", "Delete b?"), None), (None, "")):
        with pytest.raises(ConfigError, match="has changed since it was shown"):
            answered(asked, shown)


def test_a_question_that_changes_under_the_finger_deletes_nothing(open_page: Any, site: Site) -> None:
    path = site.assets / "adapters/clap.safetensors"
    runs = [
        GenerateRun(subjects=who, motion="claps", adapter=path)
        for who in (("a red cat",), ("a red cat", "a blue frog"))
    ]
    jobs = [site.jobs.submit(run) for run in runs]
    assert [site.jobs.wait(job, 60).status for job in jobs] == ["finished"] * 2
    page = open_page()
    tab(page, "3 · Generate")
    page.locator("#gallery button").first.click()
    cards, asked = page.locator("#gallery-list .sm-earlier"), page.locator("#gallery-message")
    expect(cards).to_have_count(2, timeout=SLOW)
    cards.nth(0).get_by_role("button", name="Delete").click()
    expect(asked).to_contain_text("its 2 videos", timeout=SLOW)
    with held(page, "with its 2 videos") as line:
        page.locator("#gallery-really").click()
        cards.nth(1).get_by_role("button", name="Delete").click()
        expect(asked).to_contain_text("with its video?", timeout=SLOW)
        line.arrives()
        expect(asked).to_contain_text(CHANGED, timeout=SLOW)
    assert {view.id for view in site.jobs.list()} == set(jobs)


def test_an_adapter_that_was_chosen_since_is_not_deleted(open_page: Any, site: Site) -> None:
    for name in ("one", "two"):
        write_adapter(
            site.workspace.adapters / f"{name}.safetensors", subject="a person", motion=name, steps=1, clips=1
        )
    page = open_page()
    tab(page, "5 · Library")
    chosen = page.locator("#library-adapter input")
    chosen.click()
    page.get_by_role("option", name="one").click()
    expect(page.locator("#library-about")).to_contain_text("“one”", timeout=SLOW)
    page.locator("#library-delete").click()
    really = page.locator("#library-really")
    expect(really).to_be_visible(timeout=SLOW)
    with held(page, "mine/two.safetensors", every=True) as line:
        chosen.click()
        page.get_by_role("option", name="two").click()
        line.enough()
        really.click()
        expect(page.locator("#library-message")).to_contain_text(CHANGED, timeout=SLOW)
        line.arrives()
    expect(page.locator("#library-about")).to_contain_text("“two”", timeout=SLOW)
    assert len(list(site.workspace.adapters.glob("*.safetensors"))) == 2


def test_what_is_shared_was_looked_at(open_page: Any, site: Site, ann: HubServer) -> None:
    page = open_page()
    tab(page, "5 · Library")
    expect(page.locator("#library-about")).to_contain_text("learnt from", timeout=SLOW)
    page.get_by_text("Share the adapter on the left").click()
    expect(page.locator("#share-prepare")).to_be_visible(timeout=SLOW)
    field(page, "#share-repo").fill("ann/one")
    page.locator("#share-prepare").click()
    files = page.locator("#share-files")
    expect(files).to_contain_text("To ann/one, only you will see it", timeout=SLOW)
    field(page, "#share-repo").fill("ann/two")
    with held(page, "To ann/one") as line:
        page.locator("#share-send").click()
        page.locator("#share-prepare").click()
        expect(files).to_contain_text("To ann/two", timeout=SLOW)
        line.arrives()
        expect(page.locator("#hub-message")).to_contain_text(CHANGED, timeout=SLOW)
    assert not ann.repos


def test_start_it_is_not_delete_it(open_page: Any, site: Site, ann: HubServer) -> None:
    page = open_page()
    prepared(page)
    show(page)
    ann.fail("POST", "/api/jobs/", status=402)
    page.locator("#remote-send").click()
    expect(page.locator("#remote-transfer")).to_contain_text("“Start it” begins the Job", timeout=SLOW)
    page.locator("#remote-start").click()
    asked = page.locator("#remote-sure-words")
    expect(asked).to_contain_text("It costs money", timeout=SLOW)
    with held(page, "It costs money") as line:
        page.locator("#remote-really").click()
        page.locator("#remote-delete").click()
        expect(asked).to_contain_text("goes from the Hub", timeout=SLOW)
        line.arrives()
        expect(page.locator("#remote-message")).to_contain_text(CHANGED, timeout=SLOW)
    assert len(ann.repos) == 1, "neither deleted"
    assert not ann.jobs.all, "nor begun"
    page.locator("#remote-really").click()
    expect(page.locator("#remote-message")).to_contain_text("is deleted, and forgotten here", timeout=SLOW)


def test_what_was_chosen_and_typed_stays_when_one_comes_back(open_page: Any, site: Site) -> None:
    page = open_page()
    tab(page, "3 · Generate")
    adapter, motion = page.locator("#gen-adapter input"), field(page, "#gen-motion")
    expect(page.locator("#gen-about")).to_contain_text("learnt from", timeout=SLOW)
    motion.fill("claps twice")
    tab(page, "1 · Clips")
    with page.expect_response("**/queue/join*"):
        tab(page, "3 · Generate")
    page.wait_for_timeout(1500)
    expect(motion).to_have_value("claps twice")
    adapter.click()  # a list that is opened and left
    adapter.press("Escape")
    adapter.blur()
    page.wait_for_timeout(1500)
    expect(motion).to_have_value("claps twice")
    adapter.click()
    page.get_by_role("option", name="no adapter").click()
    expect(page.locator("#gen-about")).to_contain_text("The backbone alone", timeout=SLOW)
    tab(page, "1 · Clips")
    with page.expect_response("**/queue/join*"):
        tab(page, "3 · Generate")
    page.wait_for_timeout(1500)
    expect(adapter).to_have_value("no adapter: the backbone alone")
    expect(motion).to_have_value("claps twice")
    # an adapter that has come since is offered
    write_adapter(site.workspace.adapters / "new.safetensors", subject="a person", motion="is new", steps=1, clips=1)
    tab(page, "1 · Clips")
    tab(page, "3 · Generate")
    page.wait_for_timeout(1500)
    adapter.click()
    page.get_by_role("option", name="is new").click()
    expect(motion).to_have_value("is new", timeout=SLOW)


def test_a_backbone_that_was_not_changed_changes_nothing(open_page: Any, site: Site) -> None:
    """Its list was opened and left: the subjects that were typed stay."""
    page = open_page()
    tab(page, "2 · Train")
    expect(page.locator("#train-plan")).to_contain_text("clips are chosen", timeout=SLOW)
    subjects = field(page, "#train-subjects")
    subjects.fill("a green frog")
    backbone = page.locator("#train-backbone input")
    backbone.click()
    backbone.press("Escape")
    backbone.blur()
    page.wait_for_timeout(1500)
    expect(subjects).to_have_value("a green frog")
    status(page, "#train-status", "none")
