"""Saved sets of clips and the camera, in a real Chromium with a camera of its own."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from synmotion_core.clips import video
from synmotion_core.clips.ffmpeg import LIMITS
from synmotion_core.datasets import Datasets
from synmotion_core.ui.camera import RECORDER_JS
from synmotion_core.ui.chosen import ClipChoice, Library, read_memory, to_memory
from synmotion_core.ui.dataset_fields import as_choices, as_sources
from tests.clips.files import H264, encode
from tests.clips.test_takes import scenes
from tests.ui.conftest import CHROMIUM_ARGS
from tests.ui.studio import Site
from tests.ui.test_page import tab, unfolded

SLOW = 30_000  # milliseconds; the machine may be busy


def test_a_set_opens_as_what_was_chosen(library: Library, tmp_path: Path) -> None:
    source = library.add(encode(tmp_path / "film.mp4", scenes(40), 8.0, *H264))
    shipped = library.examples()[0].clips[0]
    choices = (
        ClipChoice(source=source, subject="a man", motion="hops", setting="in the rain", end_s=2.125),
        ClipChoice(source=source, start_s=2.5, resample_fps=8.0, part=2),
        shipped,
    )
    clips, names = as_sources(choices, library)
    sets = Datasets(library.workspace)
    folder = sets.save("hops", clips, names=names)
    assert sorted(p.name for p in folder.glob("*.mp4")) == ["clap-0.mp4", "film.mp4"], "as a person knows them"
    assert as_choices(sets.clips("hops"), library) == (choices, ())
    assert choices[0].words == "a man hops in the rain"
    assert library.clip_source(choices[0]).setting == "in the rain"
    assert read_memory(to_memory(choices), library) == (choices, ())
    shutil.rmtree(library.workspace.clips)
    assert as_choices(sets.clips("hops"), library) == (choices, ()), "a set needs no upload"


def open_sets(page: Page) -> None:
    page.locator("#clips-sets button.label-wrap").click()
    unfolded(page, "#sets-name")


def choose(page: Page, name: str) -> None:
    page.locator("#sets-which input").click()
    page.get_by_role("option", name=name).click()


def test_saved_opened_sent_and_received(open_page: Any, site: Site, tmp_path: Path) -> None:
    page = open_page()
    cards = page.locator("#clips-grid .sm-card")
    page.locator("#example-0").click()
    expect(cards).to_have_count(3, timeout=SLOW)
    cards.nth(1).click()
    page.locator("#clip-inspect .sm-film").wait_for(timeout=SLOW)
    page.locator("#clip-start input").fill("0.25")
    page.locator("#clip-start input").press("Enter")
    expect(cards.nth(1)).to_contain_text("0.25", timeout=SLOW)
    open_sets(page)
    page.locator("#sets-save").click()
    expect(page.locator("#sets-message [role=alert]")).to_contain_text("needs a name")
    name = page.locator("#sets-name input, #sets-name textarea")
    name.fill("my <b id='evil'>claps</b>")
    page.locator("#sets-save").click()
    expect(page.locator("#sets-message [role=alert]")).to_contain_text("cannot be a file name")
    name.fill("my claps")
    page.locator("#sets-save").click()
    expect(page.locator("#sets-message")).to_contain_text("“my claps” is saved: 3 clips of “claps”", timeout=SLOW)
    assert len(Datasets(site.workspace).clips("my claps")) == 3
    name.fill("my claps")
    page.locator("#sets-save").click()
    expect(page.locator("#sets-message [role=alert]")).to_contain_text("already")
    page.locator("#sets-replace input").check()
    page.locator("#sets-save").click()
    expect(page.locator("#sets-message")).to_contain_text("is saved", timeout=SLOW)
    page.locator("#example-1").click()
    expect(page.locator("#clips-summary")).to_contain_text("squats", timeout=SLOW)
    page.reload()
    expect(cards).to_have_count(3, timeout=SLOW)
    open_sets(page)
    choose(page, "my claps (3 clips: claps)")
    page.locator("#sets-open").click()
    expect(page.locator("#sets-message")).to_contain_text("They take the place of the 3 clips before", timeout=SLOW)
    expect(page.locator("#clips-summary")).to_contain_text("claps")
    expect(cards.nth(1)).to_contain_text("0.25–end s")
    page.locator("#sets-send").click()
    with page.expect_download() as fetched:
        page.locator("#sets-file a").click(timeout=SLOW)
    assert fetched.value.suggested_filename == "my claps.zip"
    file = tmp_path / "from elsewhere.zip"
    fetched.value.save_as(file)
    page.locator("#sets-delete").click()
    page.locator("#sets-keep").click()
    expect(page.locator("#sets-really")).to_be_hidden()
    page.locator("#sets-delete").click()
    page.locator("#sets-really").click()
    expect(page.locator("#sets-message")).to_contain_text("“my claps” is deleted", timeout=SLOW)
    assert Datasets(site.workspace).all() == ()
    expect(cards).to_have_count(3)
    with page.expect_file_chooser() as asked:
        page.locator("#sets-receive").click()
    asked.value.set_files(file)
    expect(page.locator("#sets-message")).to_contain_text("“my claps” was taken in: 3 clips", timeout=SLOW)
    page.locator("#clips-clear").click()
    expect(cards).to_have_count(0, timeout=SLOW)
    page.locator("#sets-open").click()
    expect(cards).to_have_count(3, timeout=SLOW)
    expect(cards.nth(1)).to_contain_text("0.25–end s")
    assert not [p for p in site.workspace.datasets.iterdir() if p.name.startswith(".")], "nothing is left lying about"


@contextmanager
def with_a_camera(chromium: Browser, site: Site, width: int = 1280) -> Iterator[Page]:
    path = next(found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name)))
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    browser = chromium.browser_type.launch(executable_path=path, args=[*CHROMIUM_ARGS, *camera])
    problems: list[str] = []
    try:
        page = browser.new_context(viewport={"width": width, "height": 900}, permissions=["camera"]).new_page()
        page.set_default_timeout(SLOW)
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.goto(site.url)
        yield page
    finally:
        browser.close()
    assert not problems


@pytest.mark.parametrize("width", [1280, 390])
def test_a_recording_is_a_clip(chromium: Browser, site: Site, width: int) -> None:
    with with_a_camera(chromium, site, width) as page:
        record(page, site)


def test_a_recording_waits_for_the_one_before(chromium: Browser, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a file is uploaded and looked at, Gradio's field takes no other."""
    real, answer = Library.looks, threading.Event()

    def looks(self: Library, *rest: Any) -> Any:
        answer.wait(SLOW / 1000)
        return real(self, *rest)

    monkeypatch.setattr(Library, "looks", looks)
    with with_a_camera(chromium, site) as page:
        page.locator("#clips-camera button.label-wrap").click()
        recorder, cards = page.locator("#clips-recorder"), page.locator("#clips-grid .sm-card")
        wrong = page.locator("#clips-message [role=alert]")
        press, said = recorder.locator("[data-go]"), recorder.locator("[data-said]")
        recorder.get_by_role("button", name="Turn the camera on").click()
        recorder.locator("[data-wait]").select_option("0")
        for _ in range(3):
            press.click()
            expect(press).to_have_text("Stop")
            page.wait_for_timeout(3000)
            press.click()
            expect(press).to_have_text("Record")
            expect(said).not_to_contain_text("Nothing was recorded")
        expect(said).to_contain_text("Saving")  # two of them are not handed over yet
        answer.set()
        expect(said).to_contain_text("Recorded.", timeout=SLOW)
        cards.nth(2).or_(wrong).first.wait_for(timeout=SLOW)
        assert wrong.count() == 0, wrong.inner_text()
        expect(cards).to_have_count(3)


def test_a_recording_is_no_longer_than_a_clip_may_be() -> None:
    (most,) = re.findall(r"MOST_S = (\d+)", RECORDER_JS)
    assert int(most) < LIMITS.duration_s


def test_a_camera_that_is_not_there_is_said(chromium: Browser, site: Site) -> None:
    page = chromium.new_page()
    page.goto(site.url)
    page.locator("#clips-camera button.label-wrap").click()
    recorder = page.locator("#clips-recorder")
    recorder.get_by_role("button", name="Turn the camera on").click()
    expect(recorder.locator(".sm-bad")).to_contain_text("camera")
    expect(recorder.get_by_role("button", name="Turn the camera on")).to_be_enabled()
    expect(recorder.locator("[data-go]")).to_be_hidden()
    page.close()


def record(page: Page, site: Site) -> None:
    page.locator("#clips-camera button.label-wrap").click()
    recorder = page.locator("#clips-recorder")
    press, said = recorder.locator("[data-go]"), recorder.locator("[data-said]")
    recorder.get_by_role("button", name="Turn the camera on").click()
    expect(press).to_have_text("Record")
    expect(recorder.locator("[data-screen]")).to_be_visible()
    recorder.locator("[data-wait]").select_option("10")  # time enough for a press before it has begun
    press.click()
    expect(said).to_contain_text("begins in 10 s")
    press.click()  # no, not yet
    expect(press).to_have_text("Record")
    recorder.locator("[data-wait]").select_option("3")
    press.click()
    expect(press).to_have_text("Stop", timeout=SLOW)
    page.wait_for_timeout(8000)
    press.click()
    expect(said).to_contain_text("Recorded.", timeout=SLOW)
    cards, wrong = page.locator("#clips-grid .sm-card"), page.locator("#clips-message [role=alert]")
    cards.or_(wrong).wait_for(timeout=SLOW)
    assert wrong.count() == 0, wrong.inner_text()
    expect(cards).to_have_count(1)
    expect(cards.locator(".sm-meta")).to_contain_text("camera")
    (file,) = site.workspace.clips.iterdir()
    info = video.probe(file)
    assert info.duration_s > 3, "all of it is there, on a busy machine, too"
    assert (info.container, info.has_audio) == ("webm", False)
    expect(page.locator("#clip-inspect")).to_contain_text("Choose", timeout=SLOW)  # open, the doctor has looked
    seen, kept = (page.locator(f"#clip-player {part}").bounding_box() for part in ("video", ".sm-kept"))
    assert seen is not None
    assert kept is not None
    assert kept["width"] == pytest.approx(kept["height"], rel=0.02), "of 1280x720 the middle square is kept"
    assert kept["height"] == pytest.approx(seen["height"], abs=1)
    assert kept["x"] - seen["x"] == pytest.approx((seen["width"] - kept["width"]) / 2, abs=1)
    page.locator("#clip-fix").click()
    expect(page.locator("#clip-fps input")).to_have_value("8", timeout=SLOW)
    expect(page.locator("#clip-inspect [role=alert]")).to_have_count(0, timeout=SLOW)
    expect(page.locator("#clip-timeline .sm-seen")).to_contain_text("17 ")
    expect(press).to_have_text("Record")  # free for the next one
    tab(page, "2 · Train")
    page.wait_for_function("!document.querySelector('#clips-recorder [data-screen]').srcObject")
    tab(page, "1 · Clips")
    expect(recorder.get_by_role("button", name="Turn the camera on")).to_be_visible()  # nobody left it on
