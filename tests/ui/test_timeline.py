"""The time line of the open clip: it draws the plan that training follows, and its ends cut like the number fields."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from synmotion_core.clips import video
from synmotion_core.clips.plan import frame_plan
from synmotion_core.errors import ClipError
from synmotion_core.ui.chosen import ClipChoice, Library
from synmotion_core.ui.timeline import chosen_cut, timeline_html
from tests.clips.files import H264, encode
from tests.clips.test_takes import scenes
from tests.ui.studio import PUPPETS, draw, example
from tests.ui.test_page import rested

SLOW = 60_000  # milliseconds; the machine may be busy


# ------------------------------------------------------------------------------------------------ what is drawn


def ticks(html: str) -> list[float]:
    return [float(x) for x in re.findall(r"M([\d.e+-]+) 0v10", html)]


def test_ticks_are_the_frames_of_the_plan(library: Library, tmp_path: Path) -> None:
    path = encode(tmp_path / "film.mp4", scenes(90), 30.0, *H264)
    choice = ClipChoice(source=library.add(path), start_s=0.2, end_s=2.325, resample_fps=8.0)
    look = library.look(choice, PUPPETS)
    assert look.info is not None
    html = timeline_html(library, choice, look, PUPPETS)
    seen = frame_plan(look.info, choice.cut).frames
    assert ticks(html) == pytest.approx([1000 * n / 90 for n in seen], abs=0.01)
    assert 'data-first="6" data-stop="70"' in html
    assert "17 of 90 frames, 0.2 to 2.325 s, at 8 of 30 frames a second: every 3.75th." in html
    assert "does not take" not in html


def test_a_cut_that_is_refused_says_so(library: Library, tmp_path: Path) -> None:
    path = encode(tmp_path / "film.mp4", scenes(40), 8.0, *H264)
    choice = ClipChoice(source=library.add(path))
    html = timeline_html(library, choice, library.look(choice, PUPPETS), PUPPETS)
    assert "A training does not take this cut yet; it would see 40 of 40 frames" in html
    assert "sm-muted" in html
    beyond = ClipChoice(source=choice.source, start_s=1.0, end_s=9.0)
    html = timeline_html(library, beyond, library.look(beyond, PUPPETS), PUPPETS)
    assert "the video lasts 5.000 s" in html
    assert ticks(html) == []


def test_a_file_that_cannot_be_read_has_none(library: Library, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(4000))
    choice = ClipChoice(source=library.add(tmp_path / "broken.mp4"))
    assert timeline_html(library, choice, library.look(choice, PUPPETS), PUPPETS) == ""


def test_names_are_text(library: Library, tmp_path: Path) -> None:
    draw(tmp_path / "a' onclick='x.mp4")
    choice = ClipChoice(source=library.add(tmp_path / "a' onclick='x.mp4"))
    assert "' onclick" not in timeline_html(library, choice, library.look(choice, PUPPETS), PUPPETS)
    assert "data-first" in timeline_html(library, example(library), library.look(example(library), PUPPETS), PUPPETS)


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"key": "a", "start_s": "0", "end_s": 1},
        {"key": "a", "start_s": float("nan"), "end_s": None},
        {"key": "a", "start_s": 0, "end_s": [1]},
        {"key": 1, "start_s": 0, "end_s": None},
        {"key": "a", "start_s": True, "end_s": None},
    ],
)
def test_what_is_no_cut_is_refused(sent: dict[str, Any]) -> None:
    with pytest.raises(ClipError):
        chosen_cut(SimpleNamespace(**sent))


# ------------------------------------------------------------------------------------------------ in the browser


def upload(page: Page, *paths: Path) -> Locator:
    page.locator("#clips-upload input[type=file]").set_input_files(list(paths))
    cards = page.locator("#clips-grid .sm-card")
    expect(cards).to_have_count(len(paths), timeout=SLOW)
    return cards


def grip(page: Page, name: str) -> Locator:
    return page.locator(f"#clip-timeline [data-grip={name}]")


def places(page: Page, name: str) -> tuple[Any, Any]:
    """Where a grip and the strip are, once an answer is drawn whole and nothing moves any more."""
    grip(page, name).scroll_into_view_if_needed()
    seen: list[Any] = []
    for _ in range(200):
        rested(page)
        now = grip(page, name).bounding_box(), page.locator("#clip-timeline .sm-rail").bounding_box()
        seen = [*seen[-2:], now]
        if seen == [now] * 3 and None not in now:
            return now
    raise AssertionError("the page does not come to rest")


def drag(page: Page, name: str, share: float) -> None:
    """Move a grip to this share of the strip's width; its middle by as much for `move`."""
    box, rail = places(page, name)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(rail["x"] + rail["width"] * share, rail["y"] + 20, steps=6)
    page.mouse.up()


def test_both_ends_are_moved_by_mouse_and_keys(open_page: Any, tmp_path: Path) -> None:
    page = open_page()
    upload(page, encode(tmp_path / "film.mp4", scenes(40), 8.0, *H264)).nth(0).click()
    expect(page.locator("#clip-timeline .sm-seen")).to_contain_text("does not take", timeout=SLOW)
    start, end = page.locator("#clip-start input"), page.locator("#clip-end input")
    drag(page, "end", 0.5)
    expect(end).to_have_value("2.5", timeout=SLOW)
    expect(page.locator("#clip-timeline output")).to_have_text("0 to 2.5 s · 20 frames")
    expect(page.locator("#clip-timeline .sm-seen")).to_contain_text("20 of 40 frames, 0 to 2.5 s")
    expect(page.locator("#clip-inspect")).to_contain_text("are too many")
    grip(page, "start").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(start).to_have_value("0.375", timeout=SLOW)
    expect(page.locator("#clip-timeline .sm-seen")).to_have_text(
        "17 of 40 frames, 0.375 to 2.5 s, at 8 frames a second: each one once."
    )
    assert grip(page, "start").evaluate("e => e === document.activeElement"), "keys go on where they were"
    expect(grip(page, "start")).to_have_attribute("aria-valuetext", "0.375 seconds")
    expect(page.locator("#clip-timeline svg[data-ticks='17']")).to_have_count(1)
    expect(page.locator("#clip-inspect [role=alert]")).to_have_count(0)
    expect(page.locator("#clips-grid .sm-meta")).to_have_text("0.375–2.5 s · film.mp4")
    drag(page, "move", 0.7)  # the cut as a whole: as many frames, elsewhere
    expect(start).not_to_have_value("0.375", timeout=SLOW)
    expect(page.locator("#clip-timeline output")).to_contain_text("17 frames")
    grip(page, "move").press("End")
    expect(start).to_have_value("2.875", timeout=SLOW)
    expect(end).to_have_value("")
    end.fill("4")
    end.press("Enter")
    expect(grip(page, "end")).to_have_attribute("aria-valuenow", "32", timeout=SLOW)
    grip(page, "end").press("Home")  # no end goes beyond the other
    expect(end).to_have_value("3", timeout=SLOW)
    expect(page.locator("#clip-timeline output")).to_contain_text("1 frame")


def test_while_an_end_moves_its_frame_is_shown(open_page: Any, tmp_path: Path) -> None:
    page = open_page()
    upload(page, encode(tmp_path / "film.mp4", scenes(40), 8.0, *H264)).nth(0).click()
    expect(page.locator("#clip-timeline .sm-film")).to_be_visible(timeout=SLOW)
    page.wait_for_function("document.querySelector('#clip-inspect video').readyState >= 2")
    box, rail = places(page, "end")
    page.mouse.move(box["x"] + 5, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(rail["x"] + rail["width"] * 0.75, rail["y"] + 20, steps=4)
    page.wait_for_function(
        "(v => v.paused && Math.abs(v.currentTime - 3.626) < 1e-3)(document.querySelector('#clip-inspect video'))"
    )
    page.mouse.up()
    expect(page.locator("#clip-end input")).to_have_value("3.75", timeout=SLOW)
    page.wait_for_function("!document.querySelector('#clip-inspect video').paused")
    after = page.locator("#clip-timeline .sm-rail").bounding_box()
    assert after == rail, "it stays where it is when the findings below it change"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_finger_moves_it_on_a_phone(open_page: Any, tmp_path: Path, scheme: str) -> None:
    page = open_page(width=390, height=844, scheme=scheme)
    upload(page, encode(tmp_path / "film.mp4", scenes(40), 8.0, *H264)).nth(0).click()
    expect(page.locator("#clip-timeline .sm-film")).to_be_visible(timeout=SLOW)
    _, rail = places(page, "end")
    touch = page.context.new_cdp_session(page)
    y, x = rail["y"] + 28, rail["x"] + rail["width"] + 7
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    for step in range(1, 6):
        point = {"x": x - 7 - rail["width"] * 0.1 * step, "y": y}
        touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    expect(page.locator("#clip-end input")).to_have_value("2.5", timeout=SLOW)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_clip_is_split_at_its_cuts(open_page: Any, tmp_path: Path) -> None:
    page = open_page()
    film = encode(tmp_path / "film.mp4", scenes(20, 6, 18), 8.0, *H264)
    whole = tmp_path / "one.mp4"
    video.write(whole, np.ascontiguousarray(scenes(17)), 8.0)
    cards = upload(page, film, whole)
    cards.nth(1).click()
    expect(page.locator("#clip-inspect")).to_contain_text("one.mp4", timeout=SLOW)
    expect(page.locator("#clip-split")).to_be_hidden()
    cards.nth(0).click()
    expect(page.locator("#clip-inspect")).to_contain_text("the scene seems to change at 2.500 s, 3.250 s")
    page.locator("#clip-split").click()
    expect(cards).to_have_count(3, timeout=SLOW)
    expect(page.locator("#clips-message")).to_contain_text("film.mp4 is 2 clips now, one a take.")
    expect(page.locator("#clips-message")).to_contain_text("Left out, since a clip must be longer: 2.5 to 3.25 s")
    expect(cards.locator(".sm-meta")).to_have_text(["0–2.5 s · film.mp4", "3.25–5.5 s · film.mp4", "one.mp4"])
    cards.nth(1).click()  # two clips of one file are two clips
    expect(page.locator("#clip-start input")).to_have_value("3.25", timeout=SLOW)
    expect(page.locator("#clip-split")).to_be_hidden()
    page.locator("#clip-motion input, #clip-motion textarea").fill("hops")
    page.locator("#clip-motion input, #clip-motion textarea").press("Enter")
    expect(cards.nth(1)).to_contain_text("hops", timeout=SLOW)
    expect(cards.nth(0)).not_to_contain_text("hops")
    page.reload()
    expect(cards).to_have_count(3, timeout=SLOW)
    cards.nth(1).click()
    expect(page.locator("#clip-start input")).to_have_value("3.25", timeout=SLOW)
    page.locator("#clip-remove").click()
    expect(cards).to_have_count(2)
    expect(cards.nth(0)).to_contain_text("0–2.5 s")
