"""The open clip in a real Chromium, while what was pressed before is still being answered."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from synmotion_core.ui.chosen import Library
from tests.clips.files import H264, encode
from tests.clips.test_takes import scenes
from tests.ui.studio import draw
from tests.ui.test_page import opened, take_examples

SLOW = 60_000  # milliseconds; the machine may be busy


@pytest.fixture
def slowly(monkeypatch: pytest.MonkeyPatch) -> Any:
    """slowly(): from now on every answer takes seconds; slowly(0): not any more."""
    real, wait = Library.looks, [0.0]

    def looks(self: Library, *rest: Any) -> Any:
        time.sleep(wait[0])
        return real(self, *rest)

    def change(seconds: float = 2.0) -> None:
        wait[0] = seconds

    monkeypatch.setattr(Library, "looks", looks)
    return change


def field(page: Page, name: str) -> Locator:
    return page.locator(f"#clip-{name} input, #clip-{name} textarea")


def films(page: Page, folder: Path, *names: str) -> Locator:
    """Clips that are too long, each of a length of its own: the doctor proposes a cut. The first one is opened."""
    paths = [encode(folder / name, scenes(38 + 2 * i), 8.0, *H264) for i, name in enumerate(names)]
    page.locator("#clips-upload input[type=file]").set_input_files(paths)
    cards = page.locator("#clips-grid .sm-card")
    expect(cards).to_have_count(len(names), timeout=SLOW)
    cards.nth(0).click()
    opened(page, names[0])
    expect(page.locator("#clip-timeline .sm-film")).to_be_visible(timeout=SLOW)
    return cards


def test_leaving_a_field_takes_no_cut_back(open_page: Any, slowly: Any) -> None:
    page = open_page()
    take_examples(page)
    card = page.locator("#clips-grid .sm-card").nth(0)
    card.click()
    opened(page, "clap-0.mp4")
    slowly()
    grip = page.locator("#clip-timeline [data-grip=end]")
    grip.focus()
    grip.press("ArrowLeft")
    page.wait_for_timeout(700)  # it is sent, and not answered yet
    field(page, "subject").fill("a tall man")
    field(page, "subject").press("Enter")
    field(page, "motion").fill("half of the")  # and goes on typing
    expect(card).to_contain_text("a tall man", timeout=SLOW)
    expect(card).to_contain_text("0–2 s")
    expect(field(page, "end")).to_have_value("2")
    expect(field(page, "motion")).to_have_value("half of the")


def test_leaving_a_field_takes_no_fix_back(open_page: Any, slowly: Any, tmp_path: Path) -> None:
    page = open_page()
    cards = films(page, tmp_path, "film.mp4")
    slowly()
    page.locator("#clip-fix").click()
    field(page, "subject").fill("a tall man")
    field(page, "subject").press("Enter")
    field(page, "motion").fill("half of the")
    expect(cards).to_contain_text("a tall man", timeout=SLOW)
    expect(cards).to_contain_text("0–2.125 s")
    expect(field(page, "end")).to_have_value("2.125")
    expect(field(page, "subject")).to_have_value("a tall man")
    expect(field(page, "motion")).to_have_value("half of the")
    expect(page.locator("#clip-fix")).to_be_hidden()


def test_a_cut_is_moved_to_behind_its_old_end(open_page: Any) -> None:
    page = open_page()
    take_examples(page)
    card, alert = page.locator("#clips-grid .sm-card").nth(0), page.locator("#clips-message [role=alert]")
    card.click()
    opened(page, "clap-0.mp4")
    field(page, "end").fill("1")
    field(page, "end").press("Enter")
    expect(card).to_contain_text("0–1 s", timeout=SLOW)
    field(page, "start").fill("1.5")
    field(page, "start").press("Enter")
    expect(alert).to_contain_text("must end after it begins: from 1.5 s, got to 1 s", timeout=SLOW)
    field(page, "subject").fill("a tall man")
    field(page, "subject").press("Enter")
    expect(card).to_contain_text("a tall man", timeout=SLOW)
    expect(alert).to_have_count(0)
    field(page, "end").fill("2")
    field(page, "end").press("Enter")
    expect(card).to_contain_text("1.5–2 s", timeout=SLOW)
    field(page, "start").fill("3")
    field(page, "start").press("Enter")
    expect(alert).to_contain_text("from 3 s, got to 2 s", timeout=SLOW)
    page.locator("#clip-timeline [data-grip=end]").press("ArrowLeft")  # the time line's cut is one, the typed one gone
    expect(card).to_contain_text("1.5–1.875 s", timeout=SLOW)
    expect(field(page, "start")).to_have_value("1.5")
    field(page, "end").fill("2")
    field(page, "end").press("Enter")
    expect(card).to_contain_text("1.5–2 s", timeout=SLOW)


def test_the_open_clip_stays_open_while_files_come(open_page: Any, tmp_path: Path) -> None:
    page = open_page()
    take_examples(page)
    cards = page.locator("#clips-grid .sm-card")
    cards.nth(0).click()
    opened(page, "clap-0.mp4")
    field(page, "subject").fill("a tall")
    draw(tmp_path / "own.mp4", seed=7)
    page.locator("#clips-upload input[type=file]").set_input_files(tmp_path / "own.mp4")
    expect(cards).to_have_count(4, timeout=SLOW)
    expect(page.locator("#clip-inspect")).to_contain_text("clap-0.mp4")
    expect(page.locator("#clip-editor")).to_be_visible()
    expect(field(page, "subject")).to_be_focused()
    field(page, "subject").press_sequentially(" man")
    field(page, "subject").press("Enter")
    expect(cards.nth(0)).to_contain_text("a tall man", timeout=SLOW)


def test_all_are_mended_and_what_is_typed_stays(open_page: Any, slowly: Any, tmp_path: Path) -> None:
    page = open_page()
    cards = films(page, tmp_path, "one.mp4", "two.mp4")
    slowly()
    page.locator("#clips-fix-all").click()
    field(page, "subject").fill("half of the")
    expect(field(page, "end")).to_have_value("2.125", timeout=SLOW)
    expect(page.locator("#clips-fix-all")).to_be_hidden()
    expect(cards.nth(1)).to_contain_text("0–2.125 s")
    expect(field(page, "subject")).to_have_value("half of the")
    expect(page.locator("#clip-fix")).to_be_hidden()


def test_a_recording_that_fails_is_followed_by_others(
    open_page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page()
    file = encode(tmp_path / "camera.webm", scenes(20), 8.0, "-b:v", "2M", codec="libvpx")

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    taken = page.locator("#clips-recorded input[type=file]")
    expect(taken).to_have_count(1)
    with monkeypatch.context() as patch:
        patch.setattr(Library, "add", broken)
        taken.set_input_files(file)
        expect(page.locator("#clips-message [role=alert]")).to_contain_text("on our side", timeout=SLOW)
        expect(taken).to_have_count(1)
    taken.set_input_files(file)
    expect(page.locator("#clips-grid .sm-card")).to_have_count(1, timeout=SLOW)
    expect(page.locator("#clip-inspect")).to_contain_text("camera")
