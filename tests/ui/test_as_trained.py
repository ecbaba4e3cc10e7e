"""An adapter that goes from its training to the Generate tab is drawn with weights and videos as they were held."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator, Page, expect

from synmotion_core.config import GenerateRun
from synmotion_core.precision import Precision
from tests.ui.studio import Site
from tests.ui.test_page import SLOW, status, tab, take_examples, unfolded


def height(page: Page, where: str) -> Locator:
    return page.locator(f"#{where}-height textarea, #{where}-height input").first


def test_a_trainings_memory_and_size_come_along(open_page: Any, site: Site) -> None:
    page = open_page()
    take_examples(page)
    tab(page, "2 · Train")
    expect(page.locator("#train-plan")).to_contain_text("clips to encode", timeout=SLOW)
    page.locator("#train-memory > button").click()
    unfolded(page, "#train-height")
    height(page, "train").fill("80")
    page.locator("#train-vae-tiling input").check()
    page.locator("#train-gradient-checkpointing input").check()
    page.locator("#train-steps input").fill("2")
    expect(page.locator("#train-plan")).to_contain_text("17 frames of 64x80", timeout=SLOW)
    page.locator("#train-start").click()
    status(page, "#train-status", "finished")
    page.locator("#train-use").click()
    expect(page.locator("#tab-generate")).to_be_visible(timeout=SLOW)
    expect(page.locator("#gen-message")).to_contain_text("is set as this adapter was trained", timeout=SLOW)
    page.locator("#gen-memory > button").click()
    unfolded(page, "#gen-height")
    expect(height(page, "gen")).to_have_value("80")
    expect(page.locator("#gen-vae-tiling input")).to_be_checked()
    page.locator("#gen-subjects textarea").fill("a red cat")
    page.locator("#gen-compare input").uncheck()
    page.locator("#gen-start").click()
    status(page, "#gen-status", "finished")
    made = site.runner.runs[-1]
    assert isinstance(made, GenerateRun)
    assert (made.height, made.num_frames, made.precision) == (80, None, Precision(vae_tiling=True))

    height(page, "gen").fill("")
    page.locator("#gen-vae-tiling input").uncheck()
    tab(page, "5 · Library")
    row = page.locator("#library-adapter input")
    row.click()
    page.get_by_role("option", name="claps").filter(has_text="trained here").click()
    page.locator("#library-use").click()
    expect(height(page, "gen")).to_have_value("80", timeout=SLOW)
    expect(page.locator("#gen-vae-tiling input")).to_be_checked()

    height(page, "gen").fill("96")
    tab(page, "5 · Library")
    row.click()
    page.get_by_role("option", name="(ready-made)").first.click()
    page.locator("#library-use").click()
    expect(page.locator("#gen-adapter input")).to_have_value("clap: claps <b id='evil'>loudly</b> (ready-made)")
    expect(height(page, "gen")).to_have_value("96", timeout=SLOW)  # nobody knows how that one was trained
