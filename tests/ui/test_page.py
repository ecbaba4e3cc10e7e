"""The page in a real Chromium: clips, training and videos, as a person sees them (without the model: studio.py)."""

from __future__ import annotations

import json
import re
import statistics
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from synmotion_core.clips import video
from synmotion_core.clips.frames import png
from synmotion_core.config import GenerateRun, TrainRun
from synmotion_core.errors import ConfigError
from synmotion_core.planning import machine
from synmotion_core.ui import train
from synmotion_core.ui.chosen import Library, read_memory
from tests.ui.studio import CLIPS_A_SET, Site, draw, write_adapter

TABS = {  # and something that each shows as soon as it is there
    "1 · Clips": "#clips-upload",
    "2 · Train": "#train-steps",
    "3 · Generate": "#gen-subjects",
    "4 · Compare": "#compare-refresh",
    "5 · Library": "#library-adapter",
}
SLOW = 60_000  # milliseconds; the machine may be busy
RESTED = (
    "() => new Promise(done => { let n = 4; const next = () => n-- ? requestAnimationFrame(next) : done(); next(); })"
)
# Puts the last video ahead, and says what has brought it back: the player, or only that all began anew.
NUDGED = """s => new Promise(done => {
    const all = [...document.querySelectorAll(s)];
    let before = null;
    const look = () => {
        if (before === null) {  // early in the clip, so that there is time before it begins anew
            if (all[0].currentTime > 0.6) return requestAnimationFrame(look);
            all.at(-1).currentTime += 0.8;
            before = all[0].currentTime;
        }
        const now = all.map(v => v.currentTime);
        if (now[0] < before - 0.2) return done('all began anew');
        if (Math.max(...now) - Math.min(...now) < 0.2) return done('put back');
        before = now[0];
        requestAnimationFrame(look);
    };
    look();
})"""


def rested(page: Page) -> None:
    """After what has just opened has its values: Gradio mounts it a frame before them, and what is typed or chosen
    between is lost."""
    page.evaluate(RESTED)


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()
    expect(page.locator(TABS[name])).to_be_visible(timeout=SLOW)
    rested(page)


def unfolded(page: Page, inside: str) -> None:
    """After a part that was pressed is open, its fields too; inside: one of them."""
    expect(page.locator(inside).first).to_be_visible(timeout=SLOW)
    rested(page)


def status(page: Page, area: str, word: str) -> Locator:
    found = page.locator(f'{area} [data-status="{word}"]')
    found.wait_for(timeout=SLOW)
    return found


def take_examples(page: Page, which: int = 0) -> None:
    page.locator(f"#example-{which}").click()
    expect(page.locator("#clips-grid .sm-card")).to_have_count(CLIPS_A_SET, timeout=SLOW)


def opened(page: Page, file: str) -> None:
    """Wait until the pressed clip is open, its fields too."""
    expect(page.locator("#clip-inspect")).to_contain_text(file, timeout=SLOW)
    unfolded(page, "#clip-editor")


def start_training(page: Page, steps: int = 40, every: int = 10) -> None:
    take_examples(page)
    tab(page, "2 · Train")
    expect(page.locator("#train-plan")).to_contain_text("clips to encode", timeout=SLOW)
    page.locator("#train-steps input").fill(str(steps))
    page.locator("#train-sample-every input").fill(str(every))
    page.locator("#train-start").click()


def times(area: Locator) -> list[float]:
    return area.locator("[data-sync]").first.evaluate("e => [...e.querySelectorAll('video')].map(v => v.currentTime)")


# ------------------------------------------------------------------------------------------------ clips


def test_examples_play_and_the_doctor_is_content(open_page: Any) -> None:
    page = open_page()
    expect(page.locator("#clips-grid")).to_contain_text("Which motion should be learnt?")
    take_examples(page)
    expect(page.locator("#clips-summary")).to_contain_text("3 clips of “claps” (a person). The doctor: 3 fine.")
    first = page.locator("#clips-grid video").first
    page.wait_for_function("document.querySelector('#clips-grid video').currentTime > 0.2")
    assert first.evaluate("v => v.error === null && v.videoWidth === 64")
    page.locator("#clips-grid .sm-card").nth(1).click()
    expect(page.locator("#clip-timeline .sm-film")).to_be_visible()
    expect(page.locator("#clip-inspect")).to_contain_text("17 frames · 8 fps · 64×64")
    expect(page.locator("#clips-grid .sm-card").nth(1)).to_have_attribute("aria-pressed", "true")
    take_examples(page, 1)
    expect(page.locator("#clips-message")).to_contain_text("take the place of the 3 examples before")
    expect(page.locator("#clips-summary")).to_contain_text("“squats”")


def test_words_and_cuts_are_kept_across_a_reload(open_page: Any) -> None:
    page = open_page()
    take_examples(page)
    cards = page.locator("#clips-grid .sm-card")
    cards.nth(2).click()
    opened(page, "clap-2.mp4")
    page.locator("#clip-motion input, #clip-motion textarea").fill("claps twice")
    cards.nth(0).click()  # the edit goes to the clip that was open, whatever was pressed meanwhile
    expect(cards.nth(2)).to_contain_text("claps twice")
    opened(page, "clap-0.mp4")
    expect(cards.nth(0)).not_to_contain_text("twice")
    expect(page.locator("#clips-summary")).to_contain_text("more than one motion")
    page.locator("#clip-end input").fill("1")
    page.locator("#clip-end input").press("Enter")
    expect(page.locator("#clip-inspect")).to_contain_text("too few", timeout=SLOW)
    expect(cards.nth(0)).to_contain_text("blocked")
    page.locator("#clip-end input").fill("-1")
    page.locator("#clip-end input").press("Enter")
    expect(page.locator("#clips-message [role=alert]")).to_contain_text("must end after it begins")
    page.reload()
    expect(cards).to_have_count(3, timeout=SLOW)
    expect(cards.nth(2)).to_contain_text("claps twice")
    expect(cards.nth(0)).to_contain_text("blocked")
    page.locator("#all-subject input, #all-subject textarea").fill("a man")
    expect(page.locator("#clips-summary")).to_contain_text("never saw “claps”")
    page.locator("#all-motion input, #all-motion textarea").fill("claps, taps hands front")
    page.locator("#all-use").click()
    expect(page.locator("#clips-summary")).to_contain_text("3 clips of “claps, taps hands front” (a man)")
    expect(page.locator("#clips-summary")).not_to_contain_text("never saw")
    expect(cards.nth(2).locator(".sm-words")).to_have_text("3. a man claps")
    cards.nth(0).click()
    opened(page, "clap-0.mp4")
    page.locator("#clip-remove").click()
    expect(cards).to_have_count(2)
    page.locator("#clips-clear").click()
    expect(page.locator("#clips-grid")).to_contain_text("Which motion should be learnt?")


def test_a_press_counts_although_the_list_is_drawn_anew_meanwhile(open_page: Any) -> None:
    page = open_page()
    take_examples(page)
    card = page.locator("#clips-grid .sm-card").nth(1)
    card.scroll_into_view_if_needed()
    box = card.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.evaluate("""() => document.querySelectorAll('#clips-grid .sm-card').forEach(
        card => card.replaceWith(card.cloneNode(true)))""")
    page.mouse.up()
    opened(page, "clap-1.mp4")
    page.locator("#clips-grid .sm-card").nth(2).focus()
    page.keyboard.press("Enter")
    opened(page, "clap-2.mp4")


def test_uploads_are_judged_and_mended(open_page: Any, site: Site, tmp_path: Path) -> None:
    page = open_page()
    rng = np.random.default_rng(0)
    frames = np.repeat(np.repeat(rng.integers(0, 255, (90, 12, 16, 3), np.uint8), 8, 1), 8, 2)
    video.write(tmp_path / "Mein Vídeo <b>.mp4", frames, 30.0)
    (tmp_path / "broken.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(4000))
    page.locator("#clips-upload input[type=file]").set_input_files(
        [tmp_path / "Mein Vídeo <b>.mp4", tmp_path / "broken.mp4"]
    )
    cards = page.locator("#clips-grid .sm-card")
    expect(cards).to_have_count(2, timeout=SLOW)
    expect(page.locator("#clips-summary")).to_contain_text("2 blocked")
    expect(page.locator("#clips-summary")).to_contain_text("GPU")  # real footage meets the puppet backbone
    cards.nth(1).click()
    expect(page.locator("#clip-inspect [role=alert]").first).to_contain_text("broken")
    cards.nth(0).click()
    expect(page.locator("#clip-inspect [role=alert]").first).to_contain_text("30 frames a second")
    page.locator("#clip-fix").click()
    expect(page.locator("#clip-fps input")).to_have_value("8")
    expect(page.locator("#clip-inspect [role=alert]")).to_have_count(0)
    expect(cards.nth(0)).to_contain_text("no words")
    kept = [p for p in site.workspace.clips.iterdir() if p.stem.startswith(("Mein Vídeo", "broken"))]
    assert len(kept) == 2
    page.locator("#clips-upload input[type=file]").set_input_files([tmp_path / "Mein Vídeo <b>.mp4"])
    expect(page.locator("#clips-message")).to_contain_text("already among the clips")
    expect(cards).to_have_count(2)
    tab(page, "2 · Train")
    page.locator("#train-start").click()
    expect(page.locator("#train-message [role=alert]")).to_contain_text("the subject is empty")
    assert not site.runner.runs


def test_quick_hands_lose_nothing(open_page: Any, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Edits, other clips and the start, each pressed before the page has answered the one before."""
    page = open_page()
    take_examples(page)
    cards = page.locator("#clips-grid .sm-card")
    cards.nth(2).click()
    subject = page.locator("#clip-subject input, #clip-subject textarea")
    opened(page, "clap-2.mp4")
    real = Library.looks

    def slowly(self: Library, *rest: Any) -> Any:
        time.sleep(0.7)
        return real(self, *rest)

    monkeypatch.setattr(Library, "looks", slowly)
    subject.fill("a tall man")
    cards.nth(0).click()
    opened(page, "clap-0.mp4")
    subject.fill("a small man")
    cards.nth(1).click()
    opened(page, "clap-1.mp4")
    page.locator("#clip-end input").fill("1")
    tab(page, "2 · Train")
    page.locator("#train-start").click()
    alert = page.locator("#train-message [role=alert]")
    expect(alert).to_contain_text("1 of 3 clips cannot be used yet", timeout=SLOW)
    page.wait_for_timeout(2500)
    expect(alert).to_contain_text("clip 2 (clap-1.mp4)")  # it stays: what runs by itself does not wipe it away
    tab(page, "1 · Clips")
    expect(page.locator("#clips-summary")).to_contain_text("3 clips of “claps” (a small man, a person, a tall man)")
    expect(page.locator("#clip-inspect .sm-title")).to_have_text("a person claps")
    assert not site.runner.runs


# ------------------------------------------------------------------------------------------------ train


def test_a_training_from_start_to_its_first_video(open_page: Any, site: Site) -> None:
    page = open_page()
    start_training(page)
    status(page, "#train-status", "finished")
    (run,) = site.runner.runs
    assert isinstance(run, TrainRun)
    assert (run.name, run.backbone, run.method, run.train.num_steps) == ("claps", "puppet-hunyuan", "synmotion", 40)
    assert [clip.motion for clip in run.clips] == ["claps"] * CLIPS_A_SET
    assert run.train.sample_subjects == ("a red cat", "a blue robot")
    expect(page.locator("#train-outcome")).to_contain_text("slower than expected: the <machine> is busy")
    expect(page.locator("#train-outcome")).to_contain_text("The adapter is ready: claps")
    expect(page.locator("#train-samples figure")).to_have_count(1 + 4 * 2)
    expect(page.locator("#train-priors")).to_contain_text("1 subject prior videos")
    assert page.locator("#train-plot path.sm-smooth").get_attribute("d")
    page.locator("#train-use").click()
    expect(page.locator("#gen-about")).to_contain_text("“claps”, learnt from 3 clips of a person", timeout=SLOW)
    expect(page.locator("#gen-motion input, #gen-motion textarea")).to_have_value("claps")
    page.locator("#gen-subjects textarea").fill("a green frog")
    page.locator("#gen-start").click()
    status(page, "#gen-status", "finished")
    made = site.runner.runs[-1]
    assert isinstance(made, GenerateRun)
    assert made.adapter is not None
    assert made.adapter.parent == site.workspace.adapters
    assert (made.subjects, made.seeds, made.compare) == (("a green frog",), (0,), True)


def test_videos_that_begin_with_pictures(open_page: Any, site: Site, tmp_path: Path) -> None:
    page = open_page()
    tab(page, "3 · Generate")
    expect(page.locator("#gen-about")).to_contain_text("learnt from", timeout=SLOW)
    page.locator("#gen-begin button").first.click()
    page.locator("#gen-ready").click()
    strip = page.locator("#gen-pictures figure")
    expect(strip).to_have_count(4, timeout=SLOW)
    expect(strip.first).to_contain_text("a red cat")
    page.locator("#gen-subjects textarea").fill("a red cat\na blue robot")  # two pictures too many
    expect(page.locator("#gen-pictures")).to_contain_text("no subject yet: add a line above", timeout=SLOW)
    page.locator("#gen-start").click()
    expect(page.locator("#gen-message")).to_contain_text(
        "one picture a subject, in the same order: got 4 pictures for 2 subjects", timeout=SLOW
    )
    page.locator("#gen-none").click()
    expect(strip).to_have_count(0, timeout=SLOW)
    wide, torn = tmp_path / "my cat.png", tmp_path / "torn.png"
    wide.write_bytes(png(np.full((64, 128, 3), 180, np.uint8)))
    torn.write_bytes(wide.read_bytes()[:60])
    page.locator("#gen-subjects textarea").fill("a red cat")
    page.locator("#gen-begin input[type=file]").set_input_files([str(wide), str(torn)])
    expect(strip).to_have_count(1, timeout=SLOW)
    expect(page.locator("#gen-pictures")).to_contain_text("the middle 64x64 is kept")
    expect(page.locator("#gen-message")).to_contain_text("torn.png: damaged")
    page.get_by_text("The same as this command").last.click()
    expect(page.locator("#gen-command")).to_contain_text("--image", timeout=SLOW)
    page.locator("#gen-start").click()
    status(page, "#gen-status", "finished")
    made = site.runner.runs[-1]
    assert isinstance(made, GenerateRun)
    (image,) = made.images
    assert image.parent == site.workspace.pictures
    assert image.read_bytes() == wide.read_bytes(), "what was given, not what a page made of it"


def test_training_on_first_frames(open_page: Any, site: Site) -> None:
    page = open_page()
    take_examples(page)
    tab(page, "2 · Train")
    expect(page.locator("#train-plan")).to_contain_text("clips to encode", timeout=SLOW)
    page.locator("#train-mode").get_by_text("Videos that begin with a picture").click()
    page.locator("#train-steps input").fill("4")
    page.locator("#train-subjects textarea").fill("a red zebra")
    expect(page.locator("#train-plan")).to_contain_text("no ready picture of 'a red zebra'", timeout=SLOW)
    page.locator("#train-subjects textarea").fill("a red cat")
    expect(page.locator("#train-plan")).to_contain_text("clips to encode", timeout=SLOW)
    page.locator("#train-start").click()
    status(page, "#train-status", "finished")
    run = site.runner.runs[-1]
    assert isinstance(run, TrainRun)
    assert (run.mode, [path.name for path in run.train.sample_images]) == ("i2v", ["red-cat.png"])


def test_samples_play_in_step_with_the_reference(open_page: Any) -> None:
    page = open_page()
    start_training(page, steps=20, every=20)
    status(page, "#train-status", "finished")
    area = page.locator("#train-samples")
    expect(area.locator("figure")).to_have_count(3)
    page.wait_for_function("document.querySelector('#train-samples video').currentTime > 0.1")
    seen = []
    for _ in range(8):
        seen.append(times(area))
        page.wait_for_timeout(250)
    spreads = [max(now) - min(now) for now in seen]
    assert statistics.median(spreads) < 0.2, seen  # not each: putting one back takes the browser some frames
    assert max(now[0] for now in seen) - min(now[0] for now in seen) > 0.3, "the videos do play"
    area.locator("[data-rate]").click()  # half speed: time enough to look
    page.wait_for_function("document.querySelector('#train-samples video').currentTime < 0.5")
    assert page.evaluate(NUDGED, "#train-samples [data-sync] video") == "put back", "the player puts back what drifts"
    area.locator("input[type=range]").fill("0.5")
    page.wait_for_timeout(400)
    still = times(area)
    assert max(abs(t - 17 / 8 / 2) for t in still) < 0.1, still
    page.wait_for_timeout(400)
    assert times(area) == still, "scrubbing pauses"


def test_reload_stop_and_resume(open_page: Any, site: Site) -> None:
    site.runner.step_s = 0.2
    page = open_page()
    start_training(page, steps=400, every=200)
    status(page, "#train-status", "running")
    page.wait_for_function("/Training: \\d+ of 400/.test(document.querySelector('#train-status').innerText)")
    running = site.jobs.list()[0].id
    page.reload()
    expect(page.locator("#train-status")).to_be_visible(timeout=SLOW)  # back on the tab where work goes on
    status(page, "#train-status", "running")
    assert site.jobs.snapshot(running).status == "running", "a reload leaves the job alone"
    before = page.locator("#train-status").inner_text()
    expect(page.locator("#train-status")).not_to_have_text(before, timeout=SLOW)
    page.locator("#train-stop").click()
    expect(status(page, "#train-status", "stopped")).to_contain_text("saved")
    stopped_at = site.jobs.snapshot(running).checkpoint_step
    assert stopped_at is not None
    assert 0 < stopped_at < 400
    expect(page.locator("#train-outcome")).to_contain_text(f"Resume goes on from step {stopped_at}")
    expect(page.locator("#train-start")).to_be_enabled()
    site.runner.step_s = 0.002
    page.locator("#train-resume").click()
    status(page, "#train-status", "finished")
    view = site.jobs.snapshot(running)
    assert [step for step, _ in view.losses] == list(range(1, 401)), "no step twice, none left out"
    assert view.result is not None
    assert view.result.exists()
    assert page.locator("#train-plot .sm-tick").last.is_visible()


def test_nothing_moves_while_training(open_page: Any, site: Site) -> None:
    site.runner.step_s = 0.1
    page = open_page()
    take_examples(page)
    tab(page, "2 · Train")
    expect(page.locator("#train-plan")).to_contain_text("clips to encode", timeout=SLOW)
    page.locator("#train-steps input").fill("4000")
    page.locator("#train-sample-every input").fill("0")
    where = (
        "['#train-plot', '#train-samples', '#train-start'].map(s => {"
        "const b = document.querySelector(s).getBoundingClientRect(); return [b.top + window.scrollY, b.height]; })"
    )
    expect(page.locator("#train-plan")).to_contain_text("4000 steps", timeout=SLOW)  # nothing of it is to come later
    rested(page)
    places = [page.evaluate(where)]
    assert places[0][0][1] > 150, "room for the plot before there is one"
    page.locator("#train-start").click()
    status(page, "#train-status", "running")
    page.wait_for_function("document.querySelector('#train-plot path')")
    for _ in range(5):
        places.append(page.evaluate(where))
        page.wait_for_timeout(500)
    samples_only = [place[:1] + place[2:] for place in places]  # the first prior unfolds below them
    assert all(place == samples_only[0] for place in samples_only), places
    assert len({place[1][0] for place in places}) == 1, places


def test_a_scored_training_shows_its_curve_and_the_best_can_be_used(open_page: Any, site: Site) -> None:
    page = open_page()
    take_examples(page)
    tab(page, "2 · Train")
    expect(page.locator("#train-scores")).to_be_empty()
    page.locator("#train-steps input").fill("40")
    page.locator("#train-score-every input").fill("10")
    expect(page.locator("#train-plan")).to_contain_text("4 scores of 8 videos each, about", timeout=SLOW)
    page.locator("#train-start").click()
    expect(page.locator("#train-scores")).to_contain_text("The score of each checkpoint appears here", timeout=SLOW)
    status(page, "#train-status", "finished")
    dots = page.locator("#train-scores .sm-dot")
    expect(dots).to_have_count(4)
    best = page.locator("#train-scores .sm-best")
    expect(best).to_have_attribute("data-step", "20")
    expect(best).to_have_attribute("title", re.compile(r"step 20: score 0\.800, the best so far \(rare motion 80 %"))
    expect(page.locator("#train-scores")).to_contain_text("best 0.800 at step 20, last 0.600 at step 40")
    heights = dots.evaluate_all("all => all.map(e => e.getBoundingClientRect().top + e.offsetHeight / 2)")
    assert min(heights) == heights[1], "the best is the highest"
    expect(page.locator("#train-outcome")).to_contain_text("The best is step 20 with a score of 0.800")
    view = next(v for v in site.jobs.list() if v.kind == "train")
    assert view.best is not None
    with page.expect_download() as download:
        page.locator("#train-outcome a").last.click()
    assert download.value.suggested_filename == view.best.name
    tab(page, "3 · Generate")
    page.reload()
    tab(page, "3 · Generate")
    page.locator("#gen-adapter input").click()
    page.get_by_role("option", name=f"{view.best.stem}: claps (trained here)").click()
    expect(page.locator("#gen-about")).to_contain_text("20 steps, score 0.800 by judge", timeout=SLOW)


def test_the_best_of_a_stopped_training_can_be_fetched(open_page: Any, site: Site) -> None:
    site.runner.step_s = 0.1
    page = open_page()
    take_examples(page)
    tab(page, "2 · Train")
    page.locator("#train-steps input").fill("400")
    page.locator("#train-score-every input").fill("5")
    page.locator("#train-start").click()
    expect(page.locator("#train-scores .sm-dot").first).to_be_visible(timeout=SLOW)
    page.locator("#train-stop").click()
    status(page, "#train-status", "stopped")
    expect(page.locator("#train-outcome")).to_contain_text("The best so far is step")
    with page.expect_download() as download:
        page.locator("#train-outcome a").click()
    assert re.fullmatch(r"claps-step-0000\d\d\.safetensors", download.value.suggested_filename)


def test_errors_of_a_run_are_shown_as_they_are(open_page: Any, site: Site) -> None:
    site.runner.fail_at = 5
    page = open_page()
    start_training(page)
    expect(status(page, "#train-status", "failed")).to_contain_text(
        "the setting <b id='evil'>x</b> is bad: use another"
    )
    assert page.locator("#evil").count() == 0
    tab(page, "1 · Clips")
    page.locator("#clips-clear").click()
    tab(page, "2 · Train")
    page.locator("#train-start").click()
    expect(page.locator("#train-message [role=alert]")).to_contain_text("there are no clips yet")


def test_an_earlier_training_can_be_shown_again(open_page: Any, site: Site) -> None:
    page = open_page()
    start_training(page, steps=12, every=0)
    status(page, "#train-status", "finished")
    other = open_page()  # another browser knows nothing of it
    tab(other, "2 · Train")
    expect(other.locator("#train-status")).to_contain_text("No training yet")
    other.get_by_text("Earlier trainings").click()
    unfolded(other, "#train-earlier")
    other.locator("#train-earlier input").click()
    other.get_by_role("option").first.click()
    status(other, "#train-status", "finished")


def test_the_command_is_the_run(open_page: Any) -> None:
    page = open_page()
    take_examples(page)
    tab(page, "2 · Train")
    page.locator("#train-steps input").fill("123")
    page.get_by_text("The same as this command").first.click()
    expect(page.locator("#train-command")).to_contain_text("synmotion_core train", timeout=SLOW)
    expect(page.locator("#train-command")).to_contain_text("--steps 123", timeout=SLOW)


def test_a_method_shows_the_fields_that_it_has(open_page: Any) -> None:
    page = open_page()
    take_examples(page)
    tab(page, "2 · Train")
    page.get_by_text("More settings").first.click()
    page.get_by_text("The same as this command").first.click()
    expect(page.locator("#train-rank")).to_be_visible(timeout=SLOW)
    page.locator("#train-method").get_by_text("Textual inversion: one learnt word").click()
    expect(page.locator("#train-rank")).to_be_hidden(timeout=SLOW)
    expect(page.locator("#train-command")).to_contain_text("--method textual_inversion", timeout=SLOW)
    page.locator("#train-method").get_by_text("DreamBooth: LoRA under a rare word").click()
    expect(page.locator("#train-rank")).to_be_visible(timeout=SLOW)
    expect(page.locator("#train-plan")).to_contain_text("“a person sks claps” for “a person claps”", timeout=SLOW)
    settings = page.locator("#train-method-settings textarea")
    expect(settings).to_have_attribute("placeholder", re.compile(r"identifier=sks"), timeout=SLOW)
    settings.fill("identifier=zwx")
    expect(page.locator("#train-command")).to_contain_text("--set method.identifier=zwx", timeout=SLOW)
    settings.fill("identifer=zwx")
    expect(page.locator("#train-plan")).to_contain_text("dreambooth has no 'identifer'", timeout=SLOW)
    settings.fill("")
    page.locator("#train-rank input").fill("4")
    expect(page.locator("#train-command")).to_contain_text("--set method.rank=4", timeout=SLOW)
    rate = page.locator("#train-learning-rate textarea, #train-learning-rate input")
    expect(rate).to_have_attribute("placeholder", "0.002")
    choose(page, "#train-backbone", "HunyuanVideo 13B, from text")
    expect(rate).to_have_attribute("placeholder", "0.0001", timeout=SLOW)


def choose(page: Page, field: str, option: str) -> None:
    page.locator(f"{field} input").click()
    page.get_by_role("option", name=option).click()


def test_a_large_backbone_is_made_to_fit(open_page: Any, site: Site) -> None:
    page = open_page()
    take_examples(page)
    tab(page, "2 · Train")
    plan, command = page.locator("#train-plan"), page.locator("#train-command")
    expect(plan).to_contain_text("clips to encode", timeout=SLOW)
    expect(page.locator("#train-weights")).to_be_hidden()
    page.get_by_text("The same as this command").first.click()
    page.locator("#train-memory button").first.click()
    unfolded(page, "#train-num-frames")
    expect(page.locator("#train-ways")).to_have_count(0)
    expect(page.locator("#train-offload input")).to_be_disabled()
    expect(page.locator("#train-offload")).to_contain_text("not for puppet-hunyuan, which is small")
    expect(page.locator("#train-batch-size textarea, #train-batch-size input")).to_have_attribute("placeholder", "4")
    frames = page.locator("#train-num-frames textarea, #train-num-frames input")
    frames.fill("18")
    expect(plan).to_contain_text("puppet-hunyuan takes num_frames = 4k+1, got 18: use 17 or 21", timeout=SLOW)
    page.locator("#train-start").click()
    expect(page.locator("#train-message [role=alert]")).to_contain_text("use 17 or 21")
    assert not site.runner.runs
    frames.fill("13")
    expect(plan).to_contain_text("13 frames of 64x64", timeout=SLOW)
    page.locator("#train-start").click()
    expect(page.locator("#train-message [role=alert]")).to_contain_text("takes exactly 13", timeout=SLOW)
    assert not site.runner.runs, "its clips have 17 frames"
    page.locator("#train-vae-tiling input").check()

    choose(page, "#train-backbone", "HunyuanVideo 13B, from text")
    ways = page.locator("#train-ways label")
    expect(ways.first).to_contain_text("as the backbone comes", timeout=SLOW)
    expect(ways.first.locator("input")).to_be_checked()
    expect(frames).to_have_value("")  # what was set was for the other backbone
    expect(page.locator("#train-vae-tiling input")).not_to_be_checked()
    expect(frames).to_have_attribute("placeholder", "49")
    expect(page.locator("#train-offload input")).to_be_enabled()
    expect(plan).to_contain_text("39.0 GiB to fetch")
    expect(plan).to_contain_text("49 frames of")  # else the ways are still those of the other backbone's 13
    expect(plan).to_contain_text("“Memory and size” has ways to need less")
    assert "--" not in plan.inner_text()
    small = ways.filter(has_text="4-bit denoiser")
    expect(small).to_contain_text("the denoiser's weights are rounded to 4 bits")
    page.wait_for_timeout(500)  # the list may be laid out once more, and a press would meet its neighbour
    small.click()
    expect(page.locator("#train-weights input")).to_have_value("4 bits", timeout=SLOW)
    expect(page.locator("#train-gradient-checkpointing input")).to_be_checked()
    held = "--weights 4bit --text-weights 4bit --vae-tiling --gradient-checkpointing"
    expect(command).to_contain_text(held, timeout=SLOW)
    expect(small.locator("input")).to_be_checked()
    page.locator("#train-batch-size textarea, #train-batch-size input").fill("2")
    choose(page, "#train-optimizer", "AdamW in 8 bits")
    expect(command).to_contain_text("--set train.batch_size=2 --set train.optimizer=adamw8bit", timeout=SLOW)
    ways.filter(has_text="batches of 1").first.click()
    expect(command).to_contain_text("--set train.batch_size=1", timeout=SLOW)
    choose(page, "#train-offload", "models not at work")
    choose(page, "#train-weights", "8 bits")
    expect(plan).to_contain_text("offload 'model' moves plain weights", timeout=SLOW)
    ways.first.click()
    expect(page.locator("#train-offload input")).to_have_value("nothing", timeout=SLOW)
    expect(command).not_to_contain_text("--weights", timeout=SLOW)
    expect(plan).to_contain_text("clips to encode")


# ------------------------------------------------------------------------------------------------ generate


def test_base_and_adapter_side_by_side_and_downloaded(open_page: Any, site: Site, tmp_path: Path) -> None:
    page = open_page()
    tab(page, "3 · Generate")
    expect(page.locator("#gen-about")).to_contain_text("claps <b id='evil'>loudly</b>")
    page.locator("#gen-subjects textarea").fill("a red cat\na blue robot")
    page.locator("#gen-motion input, #gen-motion textarea").fill("claps")
    page.locator("#gen-seeds input, #gen-seeds textarea").fill("3, 5")
    page.locator("#gen-start").click()
    status(page, "#gen-status", "finished")
    players = page.locator("#gen-results [data-sync]")
    expect(players).to_have_count(4)
    expect(players.first).to_contain_text("a red cat claps · seed 3")
    expect(players.first.locator("figcaption b")).to_have_text(["Backbone alone", "With the adapter"])
    page.wait_for_function("document.querySelector('#gen-results video').currentTime > 0.1")
    seen = []
    for _ in range(8):
        seen.append(times(page.locator("#gen-results")))
        page.wait_for_timeout(200)
    assert {len(now) for now in seen} == {2}
    assert statistics.median(max(now) - min(now) for now in seen) < 0.2, seen
    for index in (0, 1):
        with page.expect_download() as waiting:
            players.first.locator("a").nth(index).click()
        file = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(file)
        info = video.probe(file)
        assert (info.codec, info.num_frames, info.width, info.height, info.fps) == ("h264", 17, 64, 64, 8.0)
    assert page.locator("#evil").count() == 0, "an adapter's words are text"
    page.reload()
    tab(page, "3 · Generate")
    expect(players).to_have_count(4, timeout=SLOW)


def test_an_empty_sampling_field_is_the_backbones_own_and_a_full_one_is_used(open_page: Any, site: Site) -> None:
    page = open_page()
    tab(page, "3 · Generate")
    page.get_by_text("More settings").last.click()
    unfolded(page, "#gen-guidance")
    given = {"steps": "7", "guidance": "2.5", "until": "0", "eta": "0.25"}
    for name in given:
        field = page.locator(f"#gen-{name} input, #gen-{name} textarea")
        expect(field).to_have_value("")
        expect(field).to_have_attribute("placeholder", "backbone's own")
    page.get_by_text("The same as this command").last.click()
    command = page.locator("#gen-command")
    expect(command).to_contain_text("synmotion_core generate", timeout=SLOW)
    for option in ("--steps", "--guidance", "--eta"):
        expect(command).not_to_contain_text(option)
    for name, words in given.items():
        page.locator(f"#gen-{name} input, #gen-{name} textarea").fill(words)
    expect(command).to_contain_text("--steps 7 --guidance 2.5 --guidance-until 0.0 --eta 0.25", timeout=SLOW)
    page.locator("#gen-adapter-until input, #gen-adapter-until textarea").fill("0.5")
    page.locator("#gen-step-cache input, #gen-step-cache textarea").fill("taylorseer:3")
    expect(command).to_contain_text("--adapter-until 0.5 --step-cache taylorseer:3", timeout=SLOW)
    page.locator("#gen-start").click()
    status(page, "#gen-status", "finished")
    made = site.runner.runs[-1]
    assert (made.num_inference_steps, made.guidance_scale, made.guidance_until, made.eta) == (7, 2.5, 0.0, 0.25)
    assert (made.adapter_until, made.step_cache) == (0.5, "taylorseer:3")
    expect(page.locator("#gen-outcome")).to_contain_text("the step cache <taylorseer:3> left out 33 %")


def test_what_a_method_leaves_open_after_training_is_drawn_with(open_page: Any, site: Site) -> None:
    words = {"subject": "a person", "motion": "claps", "steps": 1, "clips": 1, "backbone": "puppet-unet3d"}
    write_adapter(site.workspace.adapters / "keys.safetensors", method="separation", **words)
    page = open_page()
    tab(page, "3 · Generate")
    page.get_by_text("More settings").last.click()
    page.get_by_text("The same as this command").last.click()
    unfolded(page, "#gen-method-settings")
    field, command = page.locator("#gen-method-settings textarea"), page.locator("#gen-command")
    expect(page.locator("#gen-method-settings")).to_contain_text("lora leaves none open after training.", timeout=SLOW)
    expect(field).to_be_disabled()
    choose(page, "#gen-adapter", "keys")
    expect(field).to_have_attribute("placeholder", "highway=paper", timeout=SLOW)
    field.fill("highway=off")
    expect(command).to_contain_text("--set method.highway=off", timeout=SLOW)
    page.locator("#gen-start").click()
    status(page, "#gen-status", "finished")
    assert site.runner.runs[-1].method_config == {"highway": "off"}
    choose(page, "#gen-adapter", "ready-made")
    expect(field).to_have_value("", timeout=SLOW)
    expect(command).not_to_contain_text("--set")


def test_videos_that_begin_with_the_noise_of_a_clip(open_page: Any, site: Site) -> None:
    page = open_page()
    take_examples(page)
    tab(page, "3 · Generate")
    page.locator("#gen-noise button").first.click()
    unfolded(page, "#gen-noise-clip")
    page.get_by_text("The same as this command").last.click()
    command = page.locator("#gen-command")
    choose(page, "#gen-noise-clip", "clip 2:")
    expect(command).to_contain_text(re.compile(r"--noise-clip \S+\.mp4 .*--noise-prior 0\.5"), timeout=SLOW)
    page.locator("#gen-noise-prior input, #gen-noise-prior textarea").fill("0.25")
    expect(command).to_contain_text("--noise-prior 0.25", timeout=SLOW)
    page.locator("#gen-start").click()
    status(page, "#gen-status", "finished")
    made = site.runner.runs[-1]
    assert made.noise_prior == 0.25
    assert made.noise_clip.path == sorted((site.assets / "clips").glob("*/*.mp4"))[1]
    tab(page, "1 · Clips")
    page.locator("#clips-clear").click()
    tab(page, "3 · Generate")
    expect(page.locator("#gen-noise-clip input")).to_have_value("none: fresh noise", timeout=SLOW)
    expect(page.locator("#gen-plan")).to_contain_text("needs a noise_clip", timeout=SLOW)
    page.locator("#gen-noise-prior input, #gen-noise-prior textarea").fill("")
    expect(command).not_to_contain_text("--noise")


def test_a_large_backbone_draws_within_its_memory(open_page: Any) -> None:
    page = open_page()
    tab(page, "3 · Generate")
    plan, command = page.locator("#gen-plan"), page.locator("#gen-command")
    expect(plan).to_contain_text(re.compile(r"2 videos of 17 frames, about [\d.]+ s a video"), timeout=SLOW)
    page.get_by_text("More settings").last.click()
    page.locator("#gen-memory button").first.click()
    page.get_by_text("The same as this command").last.click()
    unfolded(page, "#gen-negative-prompt")
    unfolded(page, "#gen-num-frames")

    def field(name: str) -> Locator:
        return page.locator(f"#gen-{name} textarea, #gen-{name} input")

    expect(field("embedded-guidance")).to_be_disabled()
    expect(page.locator("#gen-embedded-guidance")).to_contain_text("puppet-hunyuan takes none")
    field("negative-prompt").fill("dark")
    field("flow-shift").fill("5")
    expect(command).to_contain_text("--negative-prompt dark --flow-shift 5.0", timeout=SLOW)
    field("guidance").fill("1")
    expect(field("negative-prompt")).to_be_disabled(timeout=SLOW)
    expect(field("negative-prompt")).to_have_value("")
    field("guidance").fill("")
    expect(field("negative-prompt")).to_be_enabled(timeout=SLOW)
    choose(page, "#gen-adapter", "no adapter")
    field("motion").fill("walks")
    choose(page, "#gen-backbone", "HunyuanVideo 13B, from text")
    expect(field("embedded-guidance")).to_be_enabled(timeout=SLOW)
    expect(field("negative-prompt")).to_be_disabled()
    expect(field("flow-shift")).to_have_value("")
    expect(plan).to_contain_text("39.0 GiB to fetch first", timeout=SLOW)
    page.locator("#gen-ways label").filter(has_text="4-bit denoiser").click()
    expect(command).to_contain_text("--weights 4bit --text-weights 4bit --vae-tiling", timeout=SLOW)
    before = plan.inner_text()
    field("num-frames").fill("9")
    expect(plan).to_contain_text("1 video of 9 frames", timeout=SLOW)
    assert plan.inner_text() != before
    field("num-frames").fill("10")
    expect(plan).to_contain_text("No estimate yet: hunyuanvideo takes num_frames = 4k+1, got 10", timeout=SLOW)
    page.locator("#gen-start").click()
    expect(page.locator("#gen-message [role=alert]")).to_contain_text("use 9 or 13")


def test_what_cannot_fit_the_gpu_begins_only_where_one_insists(
    open_page: Any, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "card_gib", lambda: 12.0)
    page = open_page()
    tab(page, "3 · Generate")
    plan = page.locator("#gen-plan")
    expect(plan).to_contain_text(re.compile(r"2 videos of 17 frames"), timeout=SLOW)
    choose(page, "#gen-adapter", "no adapter")
    page.locator("#gen-motion textarea, #gen-motion input").fill("walks")
    page.get_by_text("More settings").last.click()
    choose(page, "#gen-backbone", "HunyuanVideo 13B, from text")
    expect(plan).to_contain_text("more than the 12.0 that are free here", timeout=SLOW)
    page.locator("#gen-start").click()
    said = page.locator("#gen-message [role=alert]")
    expect(said).to_contain_text("and 12.0 GiB are free here. In “Memory and size” choose “", timeout=SLOW)
    expect(said).to_contain_text("fits this GPU")
    assert not site.runner.runs
    page.locator("#gen-memory button").first.click()
    page.locator("#gen-anyway input").check()
    page.locator("#gen-start").click()
    status(page, "#gen-status", "finished")
    assert [run.backbone for run in site.runner.runs] == ["hunyuanvideo"]

    def refuse(run: Any, anyway: bool) -> None:
        if not anyway:
            raise ConfigError("it cannot fit")

    monkeypatch.setattr(train, "refuse_too_large", refuse)
    tab(page, "1 · Clips")
    take_examples(page)
    tab(page, "2 · Train")
    expect(page.locator("#train-plan")).to_contain_text("clips to encode", timeout=SLOW)
    page.locator("#train-start").click()
    expect(page.locator("#train-message [role=alert]")).to_contain_text("it cannot fit", timeout=SLOW)
    page.locator("#train-memory button").first.click()
    page.locator("#train-anyway input").check()
    page.locator("#train-start").click()
    status(page, "#train-status", "running")


def test_generation_can_be_cancelled_and_wrong_input_is_named(open_page: Any, site: Site) -> None:
    page = open_page()
    tab(page, "3 · Generate")
    seeds, start = page.locator("#gen-seeds input, #gen-seeds textarea"), page.locator("#gen-start")
    alert = page.locator("#gen-message [role=alert]")
    seeds.fill("one")
    start.click()
    expect(alert).to_contain_text("a seed is a whole number from 0 on, got 'one'")
    seeds.fill("0-63")
    page.locator("#gen-subjects textarea").fill("a red cat\na blue robot")
    start.click()
    expect(alert).to_contain_text("at most 64")
    page.locator("#gen-subjects textarea").fill("")
    start.click()
    expect(alert).to_contain_text("name at least one subject")
    assert not site.runner.runs
    site.runner.step_s = 0.3
    page.locator("#gen-subjects textarea").fill("a red cat")
    seeds.fill("0-20")
    start.click()
    expect(alert).to_have_count(0)
    status(page, "#gen-status", "running")
    page.locator("#gen-cancel").click()
    status(page, "#gen-status", "stopped")
    expect(start).to_be_enabled()


# ------------------------------------------------------------------------------------------------ the whole page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_cut_off(open_page: Any, scheme: str) -> None:
    page = open_page(width=390, height=844, scheme=scheme)
    take_examples(page)
    page.locator("#clips-grid .sm-card").first.click()
    expect(page.locator("#clip-subject")).to_be_visible()
    for name in TABS:
        tab(page, name)
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, name
        small = page.evaluate(
            "[...document.querySelectorAll('[role=tabpanel] button')].filter(b => b.offsetParent && b.innerText.trim())"
            ".filter(b => b.getBoundingClientRect().height < 24).map(b => b.innerText)"
        )
        assert not small, (name, small)
    back, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor,"
        " getComputedStyle(document.querySelector('.sm-head h1')).color]"
    )
    assert (luminance(back) < 0.1) == (scheme == "dark")
    assert contrast(back, ink) > 7


def luminance(css: str) -> float:
    """Relative luminance of an rgb() colour (WCAG 2)."""
    parts = [int(x) / 255 for x in re.findall(r"\d+", css)[:3]]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_only_what_is_shown_is_served(open_page: Any, site: Site) -> None:
    page = open_page()
    take_examples(page)
    source = page.locator("#clips-grid video").first.get_attribute("src")
    assert source is not None
    with urllib.request.urlopen(site.url + source) as answer:
        assert answer.headers["Content-Type"] == "video/mp4"
    secret = site.workspace.root / "pace.json"
    secret.write_text("{}")
    upload = site.workspace.clips / "someone.mp4"
    draw(upload)
    adapter = site.assets / "adapters" / "clap.safetensors"
    for path in (secret, upload, adapter, Path("/etc/hostname"), site.assets / "clips" / "index.json"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{site.url}gradio_api/file={urllib.parse.quote(str(path))}")
        assert refused.value.code == 403, path
    with urllib.request.urlopen(f"{site.url}gradio_api/info") as answer:
        assert set(json.load(answer)["named_endpoints"]) == {"/adapters", "/generate", "/train", "/job", "/stop"}


def test_a_browser_that_lies_is_not_believed(open_page: Any, site: Site) -> None:
    """What the browser remembers is looked up again: another file's path, a wrong type or a foreign job are refused."""
    page = open_page()
    take_examples(page)
    page.wait_for_timeout(500)
    lies = [
        {"source": "upload/../../../../etc/passwd"},
        {"source": "example/../adapters/clap.safetensors"},
        {"source": "example/clap/clap-0.mp4", "start_s": "0"},
        {"source": "example/clap/clap-0.mp4", "end_s": float("nan")},
        {"source": ["example"]},
        "clip",
    ]
    choices, problems = read_memory({"clips": lies}, Library(site.workspace, site.assets))
    assert choices == ()
    assert len(problems) == len(lies)


def test_two_people_share_one_device(open_page: Any, site: Site) -> None:
    site.runner.step_s = 0.1
    first, second = open_page(), open_page()
    start_training(first, steps=400, every=0)
    status(first, "#train-status", "running")
    tab(second, "3 · Generate")
    second.locator("#gen-motion input, #gen-motion textarea").fill("claps")
    second.locator("#gen-start").click()
    expect(status(second, "#gen-status", "queued")).to_contain_text("one job at a time")
    site.runner.step_s = 0.0
    status(second, "#gen-status", "finished")
