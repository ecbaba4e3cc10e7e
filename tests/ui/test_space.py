"""A Space with many people: a real Chromium for each, a real log-in at an OpenID provider, real files by address."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.hub_server import HubServer
from tests.ui.openid import CLIENT, SECRET, OpenID
from tests.ui.test_page import start_training, status, tab, take_examples, unfolded

ROOT = Path(__file__).resolve().parents[2]
SLOW = 60_000
TOKENS = {"ann": "hf_ann_write", "bob": "hf_bob_read"}
ANN, BOB = "people/a1", "people/b2"


@dataclass(frozen=True, slots=True)
class Space:
    """A running studio of many: its address, its folder, what it wrote."""

    url: str
    home: Path
    log: Path


@contextmanager
def running(tmp_path: Path, assets: Path, more: dict[str, str]) -> Iterator[Space]:
    home, log = tmp_path / "home", tmp_path / "log.txt"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {
        "SPACE_ID": "someone/studio",
        "SYSTEM": "spaces",
        "GRADIO_ANALYTICS_ENABLED": "False",
        "PYTHONPATH": str(ROOT),
    }
    environment = {key: value for key, value in os.environ.items() if key != "HF_TOKEN"} | own | more
    with log.open("wb") as out:
        command = [sys.executable, "-m", "tests.ui.space_site", str(port), str(home), str(assets)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out)
        try:
            url = f"http://127.0.0.1:{port}/"
            for _ in range(240):
                try:
                    urllib.request.urlopen(url, timeout=5).close()
                    break
                except OSError:
                    assert process.poll() is None, log.read_text()
                    time.sleep(0.5)
            yield Space(url, home, log)
        finally:
            process.terminate()
            process.wait(60)


@pytest.fixture
def space(tmp_path: Path, assets: Path, hub: HubServer) -> Iterator[Space]:
    """One with a log-in."""
    accounts = {name: (key.partition("/")[2], TOKENS[name]) for name, key in (("ann", ANN), ("bob", BOB))}
    with OpenID(accounts) as provider:
        more = {"OAUTH_CLIENT_ID": CLIENT, "OAUTH_CLIENT_SECRET": SECRET, "OAUTH_SCOPES": "openid profile jobs"}
        with running(tmp_path, assets, {**more, "OPENID_PROVIDER_URL": provider.url}) as space:
            yield space


Visit = Callable[..., Page]


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Visit]:
    """visit(space, name) -> the page of a browser of its own, logged in where a name is given."""
    contexts: list[BrowserContext] = []
    refused: list[str] = []

    def open_it(space: Space, name: str = "") -> Page:
        contexts.append(chromium.new_context(viewport={"width": 1280, "height": 900}))
        page = contexts[-1].new_page()
        page.set_default_timeout(SLOW)
        page.on("response", lambda one: refused.append(one.url) if one.status >= 400 else None)
        page.goto(space.url)
        expect(page.locator("#who")).to_contain_text("You are a guest", timeout=SLOW)
        if name:
            log_in(page, name)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert not refused, "a page asks for what it may not have"


def log_in(page: Page, name: str) -> None:
    page.locator("#log-in").click()
    page.locator(f"#{name}").click()
    expect(page.locator("#who")).to_contain_text(f"Logged in as {name}", timeout=SLOW)


def video_of(page: Page, area: str) -> str:
    """The whole address of the first video there."""
    page.locator(f"{area} video").first.wait_for(state="attached", timeout=SLOW)
    return page.locator(f"{area} video").first.evaluate("v => v.src")


def fetched(page: Page, url: str) -> int:
    return page.request.get(url).status


def test_two_people_see_nothing_of_each_other(space: Space, visit: Visit, hub: HubServer) -> None:
    ann, bob = visit(space, "ann"), visit(space, "bob")
    start_training(ann, steps=8, every=4)
    status(ann, "#train-status", "finished")
    samples, clip = video_of(ann, "#train-samples"), video_of(ann, "#clips-grid")
    assert [fetched(page, samples) for page in (ann, bob)] == [200, 403]
    assert fetched(ann, clip) == 200
    (job,) = (space.home / ANN / "jobs").glob("*-*")
    (adapter,) = (space.home / ANN / "adapters").glob("*.safetensors")
    assert not list((space.home / "jobs").glob("*-*"))

    # what Ann's browser remembers, in Bob's: the same page, another person
    theirs = ann.evaluate("() => JSON.stringify(Object.fromEntries(Object.entries(localStorage)))")
    bob.evaluate("all => { for (const [k, v] of Object.entries(JSON.parse(all))) localStorage.setItem(k, v) }", theirs)
    bob.reload()
    tab(bob, "2 · Train")
    expect(bob.locator("#train-plan")).to_contain_text("clips to encode", timeout=SLOW)
    bob.wait_for_timeout(2000)  # it says "none" before the studio has answered, too
    status(bob, "#train-status", "none")
    tab(bob, "5 · Library")
    expect(bob.locator("#library-about")).to_contain_text("learnt from", timeout=SLOW)
    bob.locator("#library-adapter input").click()
    expect(bob.get_by_role("option")).to_have_count(1)  # the one that ships
    bob.keyboard.press("Escape")

    # the endpoints for programs, whose caller is a guest: not by the job's id either
    program = Client(space.url, verbose=False)
    with pytest.raises(Exception, match="no job"):
        program.predict(job.name, api_name="/job")
    with pytest.raises(Exception, match="not there any more"):
        program.predict(["a cat"], f"mine/{adapter.name}", api_name="/generate")

    # Ann comes back, draws, shares as herself
    ann.reload()
    tab(ann, "2 · Train")
    status(ann, "#train-status", "finished")
    ann.locator("#train-use").click()
    expect(ann.locator("#gen-about")).to_contain_text("learnt from", timeout=SLOW)
    ann.locator("#gen-start").click()
    status(ann, "#gen-status", "finished")
    drawn = video_of(ann, "#gen-results")
    assert [fetched(page, drawn) for page in (ann, bob)] == [200, 403]
    tab(ann, "5 · Library")
    ann.get_by_text("Share the adapter on the left").click()
    unfolded(ann, "#share-prepare")
    ann.locator("#library-adapter input").click()
    ann.get_by_role("option", name="claps (trained here)").click()
    ann.locator("#share-repo textarea, #share-repo input").first.fill("ann/claps")
    ann.locator("#share-prepare").click()
    expect(ann.locator("#share-files")).to_contain_text("To ann/claps", timeout=SLOW)
    ann.locator("#share-send").click()
    expect(ann.locator("#hub-status")).to_contain_text("files are at", timeout=SLOW)
    assert hub.repos["ann/claps"].private

    # nothing of a token in what the studio leaves behind, in the page, or in what it printed
    left = [path.read_bytes() for path in space.home.rglob("*") if path.is_file()]
    seen = [ann.content().encode(), ann.evaluate("() => JSON.stringify(localStorage)").encode(), space.log.read_bytes()]
    assert len(left) > 10
    for token in TOKENS.values():
        assert not any(token.encode() in text for text in [*left, *seen])

    # another site's picture logs nobody out; logged out by herself, Ann is a guest with nothing
    ann.request.get(f"{space.url}logout", headers={"Sec-Fetch-Site": "cross-site"})
    assert fetched(ann, drawn) == 200
    ann.locator("#log-in").click()
    expect(ann.locator("#who")).to_contain_text("You are a guest", timeout=SLOW)
    assert fetched(ann, drawn) == 403


def test_guests_are_apart_and_may_not_share(space: Space, visit: Visit) -> None:
    first, second = visit(space), visit(space)
    start_training(first, steps=4, every=4)
    status(first, "#train-status", "finished")
    drawn = video_of(first, "#train-samples")
    first.reload()  # the cookie stays
    tab(first, "2 · Train")
    status(first, "#train-status", "finished")
    assert [fetched(page, drawn) for page in (first, second)] == [200, 403]
    assert len(list((space.home / "guests").iterdir())) >= 2
    tab(second, "5 · Library")
    expect(second.locator("#library-about")).to_contain_text("learnt from", timeout=SLOW)
    second.get_by_text("Share the adapter on the left").click()
    unfolded(second, "#share-prepare")
    second.locator("#share-repo textarea, #share-repo input").first.fill("ann/claps")
    second.locator("#share-prepare").click()
    expect(second.locator("#share-files")).to_contain_text("To ann/claps", timeout=SLOW)
    second.locator("#share-send").click()
    expect(second.locator("#hub-message [role=alert]")).to_contain_text("log in first", timeout=SLOW)


def test_a_training_elsewhere_is_of_who_has_logged_in(space: Space, visit: Visit, hub: HubServer) -> None:
    """Sent and begun with their token, which stays in memory; a guest is told to log in; nobody sees another's."""
    ann, guest = visit(space, "ann"), visit(space)
    for page in (ann, guest):
        take_examples(page)
        tab(page, "2 · Train")
        expect(page.locator("#train-plan")).to_contain_text("clips to encode", timeout=SLOW)
        page.get_by_text("Train on Hugging Face's machines").click()
        unfolded(page, "#remote-show")
        page.locator("#remote-show").click()
    expect(guest.locator("#remote-login")).to_contain_text("log in first, at the top of the page", timeout=SLOW)
    expect(guest.locator("#remote-message [role=alert]")).to_contain_text("log in first", timeout=SLOW)
    listing = ann.locator("#remote-files")
    expect(listing).to_contain_text("To ann/synmotion-job-", timeout=SLOW)
    expect(listing).to_contain_text(re.compile(r"Your log-in here ends in \d min"))
    ann.locator("#remote-send").click()
    expect(ann.locator("#remote-transfer")).to_contain_text("Begun: claps runs on", timeout=SLOW)
    job = hub.jobs.only()
    assert (job.owner, job.spec["secrets"]) == ("ann", {"HF_TOKEN": TOKENS["ann"]})
    job.stage, job.lines = "RUNNING", ["synmotion: training"]
    expect(ann.locator("#remote-status")).to_contain_text("synmotion: training", timeout=SLOW)
    assert (space.home / ANN / "remote.json").is_file()
    assert [path.parent for path in space.home.rglob("remote.json")] == [space.home / ANN]
    expect(guest.locator("#remote-theirs")).to_be_hidden()
    left = [path.read_bytes() for path in space.home.rglob("*") if path.is_file()]
    seen = [ann.content().encode(), ann.evaluate("() => JSON.stringify(localStorage)").encode(), space.log.read_bytes()]
    assert not any(TOKENS["ann"].encode() in text for text in [*left, *seen])


def test_one_person_cannot_keep_the_device(space: Space, visit: Visit, assets: Path) -> None:
    """Three jobs may wait or run; and who comes second is next, not fourth."""
    page = visit(space)
    take_examples(page)
    tab(page, "3 · Generate")
    page.locator("#gen-motion input, #gen-motion textarea").fill("claps")
    program, clip = Client(space.url, verbose=False), handle_file(str(next((assets / "clips").rglob("*.mp4"))))
    long = {"train": {"num_steps": 600, "sample_every": 0}}  # two minutes: none ends by itself here
    ids = [program.predict([clip], "claps", settings=long, api_name="/train") for _ in range(3)]
    with pytest.raises(Exception, match="3 of your jobs wait or run, at most 3 may"):
        program.predict([clip], "claps", api_name="/train")
    page.locator("#gen-start").click()
    status(page, "#gen-status", "queued")
    assert [program.predict(id, api_name="/job")["status"] for id in ids] == ["running", "queued", "queued"]
    program.predict(ids[0], api_name="/stop")
    status(page, "#gen-status", "finished")
    states = [program.predict(id, api_name="/job")["status"] for id in ids]
    assert states[0] == "stopped"
    assert states[1] in ("queued", "running")
    assert states[2] == "queued"
    for id in ids[1:]:
        program.predict(id, api_name="/stop")


def test_a_program_gets_its_own_files(space: Space, assets: Path) -> None:
    program, other = Client(space.url, verbose=False), Client(space.url, verbose=False)
    id = program.predict(["a red cat"], motion="claps", api_name="/generate")
    now: dict[str, Any] = {}
    for _ in range(200):
        now = program.predict(id, api_name="/job")
        if now["status"] == "finished":
            break
        time.sleep(0.2)
    assert Path(now["videos"][0]["file"]).stat().st_size > 1000
    with pytest.raises(Exception, match="no job"):
        other.predict(id, api_name="/job")


def test_without_a_log_in_everybody_is_a_guest(tmp_path: Path, assets: Path, visit: Visit) -> None:
    with running(tmp_path, assets, {}) as space:
        page = visit(space)
        expect(page.locator("#log-in")).to_have_count(0)
        take_examples(page)
        assert fetched(page, video_of(page, "#clips-grid")) == 200
        page.reload()
        expect(page.locator("#clips-grid .sm-card")).to_have_count(3, timeout=SLOW)
        assert len(list((space.home / "guests").iterdir())) == 1
