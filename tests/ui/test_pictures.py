"""First pictures by id: what ships, what was uploaded, and nothing else on this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import expect

from synmotion_core.clips.frames import png
from synmotion_core.config import TrainRun
from synmotion_core.errors import ClipError, ConfigError, MissingError
from synmotion_core.ui.pictures import Pictures, strip_html
from tests.ui.studio import PUPPETS, REAL, Site
from tests.ui.test_page import SLOW, choose, status, tab, take_examples, unfolded

TOASTS = """() => {
    window.toasts = [];
    new MutationObserver(changes => changes.forEach(change => change.addedNodes.forEach(node => {
        if (node.querySelector?.('[class*=toast-]')) window.toasts.push(node.textContent);
    }))).observe(document.body, {childList: true, subtree: true});
}"""


def grey(path: Path, width: int = 64) -> Path:
    path.write_bytes(png(np.full((64, width, 3), 128, np.uint8)))
    return path


def test_an_upload_is_kept_byte_for_byte_and_once(pictures: Pictures, tmp_path: Path) -> None:
    given = grey(tmp_path / "my cat.PNG")
    wanted = pictures.add(given, PUPPETS)
    assert wanted.startswith("upload/my cat-")
    assert pictures.path(wanted).read_bytes() == given.read_bytes()
    assert pictures.add(given, PUPPETS) == wanted
    assert len(list(pictures.workspace.pictures.iterdir())) == 1


def test_what_is_no_picture_leaves_nothing_behind(pictures: Pictures, tmp_path: Path) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(grey(tmp_path / "a.png").read_bytes()[:50])
    with pytest.raises(ClipError, match=r"torn\.png: damaged"):
        pictures.add(torn, PUPPETS)
    with pytest.raises(ClipError, match=r"a\.gif is not one of \.png, \.jpg, \.jpeg, \.webp"):
        pictures.add(tmp_path / "a.gif", PUPPETS)
    assert list(pictures.workspace.pictures.iterdir()) == []


@pytest.mark.parametrize(
    "wanted",
    ["", "ready/", "ready/none.png", "upload/", "upload/../../x", "upload/.hidden", "/etc/passwd", "upload//etc/passwd",
     "ready/../adapters/clap.safetensors"],
)  # fmt: skip
def test_an_id_names_a_picture_or_nothing(pictures: Pictures, wanted: str) -> None:
    (pictures.workspace.pictures / ".hidden").write_bytes(b"x")
    with pytest.raises(MissingError, match="is not there any more: add it again"):
        pictures.path(wanted)


def test_ready_pictures_are_found_by_who_is_in_them(pictures: Pictures, tmp_path: Path) -> None:
    assert [path.name for path in pictures.of_subjects(("a blue robot", "a red cat"))] == [
        "blue-robot.png",
        "red-cat.png",
    ]
    with pytest.raises(ConfigError, match=r"no ready picture of 'a zebra' .* name some of a red cat, a blue robot"):
        pictures.of_subjects(("a red cat", "a zebra"))
    assert Pictures(pictures.workspace, tmp_path).ready == {}


def test_the_strip_shows_whose_each_is_and_what_is_lost(pictures: Pictures, tmp_path: Path) -> None:
    wide = pictures.add(grey(tmp_path / "wide.png", width=128), PUPPETS)
    shown = strip_html(pictures, ("ready/red-cat.png", wide, "upload/gone.png"), ("<b>a cat</b>",), PUPPETS)
    assert shown.count("<figure>") == 2
    assert "<b>" not in shown
    assert "&lt;b&gt;a cat&lt;/b&gt;" in shown
    assert "no subject yet" in shown
    assert "the middle 64x64 is kept" in shown
    assert "only knows 64x64 puppets" in shown
    assert "only knows" not in strip_html(pictures, (wide,), ("a cat",), REAL)
    assert "&#x27;gone.png&#x27; is not there any more" in shown
    assert strip_html(pictures, (), ("a cat",), PUPPETS) == ""


def test_training_a_backbone_that_begins_with_pictures(open_page: Any, site: Site, tmp_path: Path) -> None:
    page = open_page()
    take_examples(page)
    tab(page, "2 · Train")
    plan, box = page.locator("#train-plan"), page.locator("#train-begin")
    expect(plan).to_contain_text("clips to encode", timeout=SLOW)
    expect(box).to_be_hidden()
    page.evaluate(TOASTS)
    choose(page, "#train-backbone", "Wan 2.2 2x14B, from a picture")
    expect(plan).to_contain_text("so synmotion trains without prior videos: alpha is 1 and not 0.75", timeout=SLOW)
    expect(plan).to_contain_text("no samples are drawn while it trains: no pictures were added")
    assert page.evaluate("window.toasts") == [], "fields that change one after the other are no errors"
    page.get_by_text("More settings").first.click()
    expect(page.locator("#train-method-settings textarea")).to_have_attribute("placeholder", re.compile(r"^alpha=1\.0"))
    page.locator("#train-subjects textarea").fill("a cat\na dog")
    page.locator("#train-begin button").first.click()
    unfolded(page, "#train-add")
    page.get_by_text("The same as this command").first.click()
    mine = grey(tmp_path / "my cat.png", width=128)
    page.locator("#train-begin input[type=file]").set_input_files([str(mine)])
    expect(page.locator("#train-pictures figure")).to_have_count(1, timeout=SLOW)
    expect(plan).to_contain_text("got 1 pictures for 2 subjects", timeout=SLOW)
    page.locator("#train-subjects textarea").fill("a cat")
    expect(page.locator("#train-command")).to_contain_text("train.sample_images", timeout=SLOW)
    expect(page.locator("#train-command")).to_contain_text("--mode i2v")
    expect(plan).not_to_contain_text("no samples")
    page.locator("#train-mode").get_by_text("Videos that begin with a picture").wait_for()
    choose(page, "#train-backbone", "Puppets (ships with the studio")
    expect(plan).to_contain_text("got 1 pictures for 2 subjects", timeout=SLOW)  # that one suggests; pictures stay
    page.locator("#train-subjects textarea").fill("a cat")
    page.locator("#train-steps input").fill("3")
    expect(page.locator("#train-command")).to_contain_text("train.sample_images", timeout=SLOW)
    page.locator("#train-start").click()
    status(page, "#train-status", "finished")
    run = site.runner.runs[-1]
    assert isinstance(run, TrainRun)
    (image,) = run.train.sample_images
    assert (run.mode, run.train.sample_subjects, image.read_bytes()) == ("i2v", ("a cat",), mine.read_bytes())
    page.locator("#train-none").click()
    expect(page.locator("#train-pictures figure")).to_have_count(0, timeout=SLOW)
    page.locator("#train-again").click()
    expect(page.locator("#train-pictures figure")).to_have_count(1, timeout=SLOW)
