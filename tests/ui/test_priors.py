"""Subject prior videos on the page: looked at, marked, drawn anew by the next training."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from synmotion_core.config import ClipSource, TrainRun
from synmotion_core.errors import ConfigError
from synmotion_core.training.priors import ANEW
from synmotion_core.training.settings import PriorConfig, TrainConfig
from synmotion_core.ui import forms, prior_fields
from synmotion_core.ui.chosen import Library
from synmotion_core.ui.pictures import Pictures
from tests.ui.studio import PUPPETS, Site, example, train_form
from tests.ui.test_page import SLOW, rested, tab, take_examples, unfolded

OPTIONS = dict(PUPPETS.options)
FIRST, SECOND = "a yellow elephant flaps", "a purple elephant flaps"


def left(*seeds: int, **places: Any) -> dict[str, Any]:
    return {"left_out": {"puppet-hunyuan": list(seeds), **places}}


# ------------------------------------------------------------------------------------------------ the form


def test_a_form_leaves_videos_out(library: Library, pictures: Pictures) -> None:
    choices = (example(library),)

    def run(**changes: Any) -> PriorConfig:
        return forms.train_run(train_form(**changes), choices, library, pictures).priors

    assert run() == run(left_out=None) == run(left_out={"left_out": [3]}) == PriorConfig(), "a browser sends anything"
    assert run(left_out=left(3, 0)) == PriorConfig(left_out=(3, 0))
    assert run(left_out=left(3, True, "4", 3, 2.0)).left_out == (3,)
    small = left(3, **{"puppet-hunyuan|9x32x48": [1]})
    assert run(left_out=small, num_frames="9", height="32", width="48").left_out == (1,), "videos of that size"
    assert run(left_out=left(3), num_frames="9").left_out == ()
    assert run(left_out=left(3), method="lora").left_out == (), "it draws none"
    with pytest.raises(ConfigError, match="left_out names the seed 48, which is no prior video's here: the nearest"):
        run(left_out=left(48))


def test_what_the_form_says_of_it() -> None:
    words = prior_fields.left_out_words
    assert words(train_form()) == ""
    assert f"1 prior video is left out: {SECOND}." in words(train_form(left_out=left(1)))
    said = words(train_form(left_out=left(0, 1, 1 + ANEW)))
    assert f"3 prior videos are left out: {FIRST}, {SECOND} (2 of them)." in said
    assert "left out: seed 77, which is no video here." in words(train_form(left_out=left(77)))
    assert "and 2 more. This method draws none." in words(train_form(left_out=left(*range(10)), method="lora"))


@pytest.mark.parametrize(
    ("before", "shown", "marked", "after"),
    [
        ((), {0, 1, 2}, {1}, (1,)),
        ((1,), {0, 1, 2}, {1, 2}, (1, 2)),
        ((1, 2), {0, 1, 2}, {2}, (2,)),  # 1 is taken back
        ((1,), {0, 1 + ANEW, 2}, {1 + ANEW}, (1, 1 + ANEW)),  # nor is what was drawn in its place good
        ((), {0, 1 + ANEW, 2}, {1 + ANEW}, (1, 1 + ANEW)),  # shown by a training that left 1 out
        ((1, 1 + ANEW), {0, 1, 2}, set(), ()),  # 1 is taken back: nothing is drawn in its place
        ((1, 1 + ANEW), {0, 1 + ANEW}, set(), (1,)),
        ((5,), {0, 1}, {0}, (0, 5)),  # of a training that drew more
    ],
)
def test_marks_become_the_forms(before: Any, shown: Any, marked: Any, after: Any) -> None:
    assert prior_fields.left_out_next(OPTIONS, before, shown, marked) == after


# ------------------------------------------------------------------------------------------------ the page


@pytest.fixture
def three(site: Site) -> Iterator[None]:
    site.runner.step_s, site.runner.fail_at, site.runner.num_priors = 0.01, None, 3
    site.runner.runs.clear()
    yield
    site.runner.num_priors = 1
    for view in site.jobs.list():
        site.jobs.stop(view.id)
        site.jobs.wait(view.id, 30)


def train(page: Page, site: Site) -> TrainRun:
    before = len(site.runner.runs)
    page.locator("#train-start").click()
    until = time.monotonic() + SLOW / 1000
    while len(site.runner.runs) == before and time.monotonic() < until:
        page.wait_for_timeout(100)
    [run] = site.runner.runs[before:]
    done = site.jobs.wait(site.jobs.list()[0].id, 120)
    assert done.result is not None
    expect(page.locator("#train-outcome")).to_contain_text(done.result.name, timeout=SLOW)
    assert isinstance(run, TrainRun)
    return run


def ready(page: Page) -> None:
    take_examples(page)
    tab(page, "2 · Train")
    expect(page.locator("#train-plan")).to_contain_text("clips to encode", timeout=SLOW)
    page.locator("#train-steps input").fill("3")
    page.locator("#train-sample-every input").fill("0")


def unfold(page: Page) -> Locator:
    box = page.locator("#train-priors")
    expect(box).to_contain_text("3 subject prior videos of the untrained backbone", timeout=SLOW)
    if not page.locator("#train-prior-cards").is_visible():
        box.locator("button.label-wrap").click()
    cards = page.locator("#train-prior-cards .sm-card")
    expect(cards).to_have_count(3)
    expect(cards.first).to_be_visible()
    rested(page)
    return cards


@pytest.mark.usefixtures("three")
def test_a_bad_prior_is_drawn_anew_by_the_next_training(open_page: Any, site: Site) -> None:
    page = open_page()
    ready(page)
    line, anew = page.locator("#train-left-out-line"), page.locator("#train-priors-anew")
    expect(page.locator("#train-priors")).not_to_be_visible()
    assert train(page, site).priors == PriorConfig()
    cards = unfold(page)
    expect(cards.nth(1)).to_contain_text(SECOND)
    page.wait_for_function("document.querySelector('#train-prior-cards video').currentTime > 0.2")  # it plays
    assert cards.nth(1).locator("video").evaluate("v => v.error === null && v.videoWidth === 64")
    expect(anew).to_be_disabled()
    expect(page.locator("#train-left-out")).not_to_be_visible()
    cards.nth(1).click()
    expect(cards.nth(1)).to_contain_text("left out")
    expect(cards.nth(1)).to_have_attribute("aria-pressed", "true")
    assert page.locator("#train-prior-cards [aria-pressed=true]").count() == 1
    cards.nth(0).focus()
    page.keyboard.press("Enter")  # several, and by the keyboard
    expect(page.locator("#train-prior-cards [aria-pressed=true]")).to_have_count(2)
    page.keyboard.press("Space")
    expect(page.locator("#train-prior-cards [aria-pressed=true]")).to_have_count(1)
    expect(anew).to_be_enabled()
    assert not line.is_visible(), "marked only"
    anew.click()
    expect(line).to_contain_text(f"1 prior video is left out: {SECOND}.", timeout=SLOW)
    expect(anew).to_be_disabled()
    page.get_by_text("The same as this command").first.click()
    expect(page.locator("#train-command")).to_contain_text("--set 'priors.left_out=[1]'", timeout=SLOW)

    page.reload()
    expect(page.locator("#clips-grid .sm-card")).to_have_count(3, timeout=SLOW)
    tab(page, "2 · Train")
    expect(page.locator("#train-plan")).to_contain_text("clips to encode", timeout=SLOW)
    expect(line).to_contain_text(f"1 prior video is left out: {SECOND}.", timeout=SLOW)
    cards = unfold(page)
    expect(page.locator("#train-prior-cards [aria-pressed=true]")).to_have_count(1)
    expect(cards.nth(1)).to_contain_text("left out")
    page.locator("#train-steps input").fill("3")
    assert train(page, site).priors == PriorConfig(left_out=(1,))
    cards = unfold(page)
    expect(cards.nth(1)).to_have_attribute("data-pick", str(1 + ANEW))  # another in its place, which may be bad, too
    expect(cards.nth(1)).not_to_contain_text("left out")
    cards.nth(1).click()
    expect(cards.nth(1)).to_contain_text("left out")
    anew.click()
    expect(line).to_contain_text(f"2 prior videos are left out: {SECOND} (2 of them).", timeout=SLOW)
    assert train(page, site).priors == PriorConfig(left_out=(1, 1 + ANEW))
    page.locator("#train-left-out-clear").click()
    expect(line).not_to_be_visible(timeout=SLOW)
    expect(page.locator("#train-prior-cards [aria-pressed=true]")).to_have_count(0)
    assert train(page, site).priors == PriorConfig()


@pytest.mark.usefixtures("three")
def test_videos_of_other_prior_settings_are_shown_but_not_chosen(open_page: Any, site: Site) -> None:
    clip = ClipSource(path=site.assets / "clips" / "clap" / "clap-0.mp4", subject="a person", motion="claps")
    config = TrainRun(name="own", clips=(clip,), train=TrainConfig(num_steps=2), priors=PriorConfig(seed=3))
    assert site.jobs.wait(site.jobs.submit(config), 120).status == "finished"
    page = open_page()
    tab(page, "2 · Train")
    page.get_by_text("Earlier trainings").click()
    unfolded(page, "#train-earlier")
    page.locator("#train-earlier input").click()
    page.get_by_role("option", name="own").first.click()
    unfold(page)
    expect(page.locator("#train-priors-about")).to_contain_text("This training had prior settings of its own")
    assert page.locator("#train-prior-cards [data-pick]").count() == 0
    expect(page.locator("#train-priors-anew")).not_to_be_visible()
