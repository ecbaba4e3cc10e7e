"""The size that the Train tab asks for is the one that the Clips tab judges, mends and draws by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import gradio as gr
import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from synmotion_core.backbones import find_spec
from synmotion_core.config import TrainRun
from synmotion_core.errors import ConfigError
from synmotion_core.ui.chosen import ClipChoice, Library
from synmotion_core.ui.clip_cards import findings_html, player_html, summary_html
from synmotion_core.ui.clips import mended
from synmotion_core.ui.judged import Judged, judged_by, sized
from tests.clips.files import H264, encode
from tests.clips.test_takes import scenes
from tests.ui.studio import PUPPETS, Site
from tests.ui.test_page import SLOW, choose, opened, status, tab, unfolded

WAN = "wan2.1-t2v-1.3b"
BLANK = {"num_frames": "", "height": "", "width": ""}


def test_the_last_size_that_is_one_stays_and_the_other_is_told() -> None:
    own = judged_by({"backbone": "puppet-hunyuan", **BLANK}, Judged())
    assert (own, own.said, own.spec) == (Judged(), "", PUPPETS)
    nine = judged_by({"backbone": "puppet-hunyuan", **BLANK, "num_frames": " 9 "}, own)
    assert (nine.num_frames, nine.spec.default_shape.num_frames, nine.problem) == (9, 9, "")
    assert "9 frames of 64×64" in nine.said
    for half in ("1O", "10", "-3", "0", "nan", "9.5"):
        typed = judged_by({"backbone": "puppet-hunyuan", **BLANK, "num_frames": half}, nine)
        assert (typed.spec, bool(typed.problem)) == (nine.spec, True), half
        assert "9 frames of 64×64" in typed.said
    again = judged_by({"backbone": "puppet-hunyuan", **BLANK, "num_frames": "13"}, typed)
    assert again == Judged(num_frames=13)
    other = judged_by({"backbone": WAN, **BLANK, "height": "5"}, nine)
    assert (other.spec, bool(other.problem)) == (find_spec(WAN), True), "the size of another backbone is no size here"
    with pytest.raises(ConfigError, match="no backbone"):
        judged_by({"backbone": "wan9", **BLANK}, nine)


def test_a_row_is_seen_at_the_forms_size() -> None:
    assert sized(PUPPETS, BLANK) == PUPPETS
    assert sized(PUPPETS, {**BLANK, "height": "65"}) is PUPPETS
    assert sized(PUPPETS, {**BLANK, "height": "80"}).default_shape.height == 80
    vast = {**BLANK, "height": "65536", "width": "65536"}
    assert sized(PUPPETS, vast) is PUPPETS, "no picture is made of a size that no machine holds"
    assert "use 128 times 128" in judged_by({"backbone": "puppet-hunyuan", **vast}, Judged()).problem


def test_short_and_portrait_clips_are_told_what_fits_and_then_fit(library: Library, tmp_path: Path) -> None:
    upright = np.stack([cv2.resize(frame, (240, 416)) for frame in scenes(31)])
    film = encode(tmp_path / "film.mp4", upright, 16.0, *H264)
    choice = ClipChoice(source=library.add(film), subject="a person", motion="claps")
    plain = Judged(backbone=WAN)
    look = library.look(choice, plain.spec)
    said = findings_html(look)
    assert look.blocked
    assert "Frames (Train tab, “Memory and size”) = 29, the most of 4k + 1" in said
    assert "Swap height and width: Height = 832 and Width = 480 cut off" in said
    asked = Judged(backbone=WAN, num_frames=29, height=832, width=480)
    cut = mended(choice, library, asked.spec)
    assert library.look(cut, asked.spec).blocked is False
    assert library.look(cut, plain.spec).blocked is True
    with gr.Blocks():
        area = gr.HTML()
    dimmed = player_html(area, library, cut, library.look(cut, plain.spec), plain.spec)
    whole = player_html(area, library, cut, library.look(cut, asked.spec), asked.spec)
    assert "sm-framed" in dimmed
    assert "sm-framed" not in whole
    told = summary_html([cut], [library.look(cut, asked.spec)], asked.spec, asked.said)
    assert "29 frames of 480×832" in told


def size(page: Page, name: str) -> Locator:
    return page.locator(f"#train-{name} textarea, #train-{name} input").first


def test_the_size_of_the_train_tab_reaches_the_clips(open_page: Any, site: Site, tmp_path: Path) -> None:
    page = open_page()
    page.locator("#all-subject textarea, #all-subject input").first.fill("a person")
    page.locator("#all-motion textarea, #all-motion input").first.fill("claps")
    file = encode(tmp_path / "film.mp4", scenes(17), 8.0, *H264)
    page.locator("#clips-upload input[type=file]").set_input_files([file])
    card, summary = page.locator("#clips-grid .sm-card"), page.locator("#clips-summary")
    expect(card).to_have_count(1, timeout=SLOW)
    expect(card).not_to_contain_text("blocked")
    expect(summary).not_to_contain_text("Judged for")

    tab(page, "2 · Train")
    page.locator("#train-memory > button").click()
    unfolded(page, "#train-num-frames")
    size(page, "num-frames").fill("9")
    tab(page, "1 · Clips")
    expect(summary).to_contain_text("Judged for 9 frames of 64×64", timeout=SLOW)
    expect(card).to_contain_text("blocked")
    card.click()
    opened(page, "film.mp4")
    page.locator("#clip-fix").click()
    expect(card).to_contain_text("0–1.125 s", timeout=SLOW)
    expect(card).not_to_contain_text("blocked")

    tab(page, "2 · Train")
    size(page, "num-frames").fill("1O")  # half typed, and left like that
    tab(page, "1 · Clips")
    expect(summary).to_contain_text("num_frames must be a number, got '1O'", timeout=SLOW)
    expect(summary).to_contain_text("judged for 9 frames")
    expect(card).not_to_contain_text("blocked")
    expect(page.locator("#clips-message [role=alert]")).to_have_count(0)

    tab(page, "2 · Train")
    size(page, "num-frames").fill("9")
    page.locator("#train-steps input").fill("2")
    expect(page.locator("#train-plan")).to_contain_text("1 clip", timeout=SLOW)
    page.locator("#train-start").click()
    status(page, "#train-status", "finished")
    run = site.runner.runs[-1]
    assert isinstance(run, TrainRun)
    assert (run.num_frames, run.clips[0].end_s) == (9, 1.125)

    page.reload()  # the form begins anew with the backbone's own size, and the clips are judged for that
    expect(card).to_contain_text("blocked", timeout=SLOW)
    expect(summary).not_to_contain_text("Judged for")


def test_another_backbone_brings_its_own_size(open_page: Any) -> None:
    page = open_page()
    page.locator("#example-0").click()
    summary = page.locator("#clips-summary")
    expect(summary).to_contain_text("fine", timeout=SLOW)
    tab(page, "2 · Train")
    page.locator("#train-memory > button").click()
    unfolded(page, "#train-num-frames")
    size(page, "num-frames").fill("13")
    choose(page, "#train-backbone", "Wan 2.1 1.3B, from text")
    expect(size(page, "num-frames")).to_have_attribute("placeholder", "49", timeout=SLOW)
    expect(size(page, "num-frames")).to_have_value("")
    tab(page, "1 · Clips")
    expect(summary).to_contain_text("blocked", timeout=SLOW)
    expect(summary).not_to_contain_text("Judged for")
