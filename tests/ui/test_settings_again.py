"""An earlier training's settings and clips again: the form says the same run, and what it cannot say is told."""

from __future__ import annotations

import dataclasses
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from synmotion_core.config import TrainRun
from synmotion_core.datasets import Datasets
from synmotion_core.errors import ConfigError
from synmotion_core.precision import Precision
from synmotion_core.training.priors import plan_priors
from synmotion_core.training.settings import PriorConfig, TrainConfig
from synmotion_core.ui.chosen import MOST_CLIPS, Library
from synmotion_core.ui.dataset_fields import as_choices
from synmotion_core.ui.forms import train_run
from synmotion_core.ui.pictures import Pictures
from synmotion_core.ui.refill import refill_training
from synmotion_core.workspace import Workspace
from tests.ui.studio import PUPPETS, Site, draw
from tests.ui.test_gallery import Desk
from tests.ui.test_page import SLOW, rested, start_training, status, tab, take_examples, unfolded


@pytest.fixture
def desk(workspace: Workspace, assets: Path, library: Library) -> Any:
    return Desk(workspace, assets, library, Pictures(workspace, assets))


@pytest.fixture
def plain(library: Library) -> TrainRun:
    clips = tuple(library.clip_source(choice) for choice in library.examples()[0].clips)
    return TrainRun(name="claps", clips=clips, train=TrainConfig(sample_subjects=("a red cat",)))


@pytest.fixture
def mine(workspace: Workspace, library: Library, tmp_path: Path) -> Path:
    """A clip that a person brought."""
    draw(tmp_path / "my clip.mp4")
    return library.path(library.add(tmp_path / "my clip.mp4"))


def test_the_form_of_a_training_makes_that_training(desk: Any, plain: TrainRun, mine: Path) -> None:
    own = dataclasses.replace(plain.clips[0], path=mine)
    cuts = (
        dataclasses.replace(own, end_s=1.0),
        dataclasses.replace(own, start_s=1.0, resample_fps=8.0),
        plain.clips[1],
    )
    subjects = ("a red cat", "a blue robot")
    seeds = tuple(seed for _, seed in plan_priors(dict(PUPPETS.options), PriorConfig()))
    own_train = TrainConfig(num_steps=7, batch_size=2, learning_rate=3e-4, optimizer="adamw8bit", seed=5, save_every=3)
    pictures = dataclasses.replace(
        plain.train, sample_subjects=subjects, sample_images=desk.pictures.of_subjects(subjects)
    )
    nothing = dataclasses.replace(plain.train, sample_subjects=())
    runs = (
        plain,
        dataclasses.replace(plain, name="another", train=own_train, clips=cuts),
        dataclasses.replace(plain, method="dreambooth", method_config={"rank": 4, "identifier": "zwx"}),
        dataclasses.replace(plain, method="textual_inversion", train=dataclasses.replace(plain.train, score_every=3)),
        dataclasses.replace(plain, mode="i2v", train=pictures),
        dataclasses.replace(plain, mode="i2v", backbone="wan2.2-i2v-a14b", train=pictures),
        dataclasses.replace(plain, mode="i2v", backbone="wan2.2-i2v-a14b", method_config={"alpha": 1}, train=nothing),
        dataclasses.replace(plain, num_frames=13, precision=Precision(vae_tiling=True, gradient_checkpointing=True)),
        dataclasses.replace(plain, priors=PriorConfig(left_out=(seeds[3], seeds[0]))),
        dataclasses.replace(plain, backbone="hunyuanvideo", precision=Precision(weights="4bit", text_weights="8bit")),
    )
    for run in runs:
        old = refill_training(run, desk, {"left_out": {"elsewhere": [1]}})
        assert not old.said
        if run.method_config == {"alpha": 1}:  # the backbone's own: the form leaves it out
            run = dataclasses.replace(run, method_config={})
        images = tuple(map(desk.pictures.path, old.pictures))
        assert train_run(old.values, old.clips, desk.library, desk.pictures, images) == run
        assert old.values["left_out"]["left_out"]["elsewhere"] == [1]
    assert [choice.part for choice in refill_training(runs[1], desk, {}).clips] == [1, 2, 1]


def test_what_the_form_cannot_say_is_told(desk: Any, plain: TrainRun, mine: Path) -> None:
    beyond = dataclasses.replace(
        plain,
        train=dataclasses.replace(plain.train, warmup_steps=5, lr_scheduler="constant"),
        priors=PriorConfig(seed=3),
    )
    (said,) = refill_training(beyond, desk, {}).said
    assert said.endswith("would not be: train.lr_scheduler=constant, train.warmup_steps=5, priors.seed=3.")
    own_picture = dataclasses.replace(plain.train, sample_subjects=("an owl",), sample_images=(mine,))
    (said,) = refill_training(dataclasses.replace(plain, mode="i2v", train=own_picture), desk, {}).said
    assert said.startswith("As it stands, no training can be made of the form: there is no ready picture of 'an owl'")
    own_values = dataclasses.replace(plain, method_config={"rank": 16, "projections": "qkv"})
    assert not refill_training(own_values, desk, {}).said, "they are the method's own"
    large = dataclasses.replace(plain, train=dataclasses.replace(plain.train, seed=2**53 + 1))
    assert "is too large for the field" in refill_training(large, desk, {}).said[0]
    brought = dataclasses.replace(plain, clips=(dataclasses.replace(plain.clips[0], path=mine), plain.clips[1]))
    mine.unlink()
    old = refill_training(brought, desk, {})
    assert [choice.words for choice in old.clips] == ["a person claps"]
    assert old.said == (f"the clip {mine.name!r} is not there any more: add it again",)
    with pytest.raises(ConfigError, match="none of its clips is there any more: nothing was changed"):
        refill_training(dataclasses.replace(brought, clips=brought.clips[:1]), desk, {})


def test_clips_beyond_what_the_page_takes_are_told(plain: TrainRun, library: Library) -> None:
    choices, said = as_choices([plain.clips[0]] * (MOST_CLIPS + 1), library)
    assert len(choices) == MOST_CLIPS
    assert said == (
        f"The first {MOST_CLIPS} of {MOST_CLIPS + 1} clips are chosen: this page takes no more for a training.",
    )


def test_settings_again_on_another_page(open_page: Any, site: Site) -> None:
    page = open_page()
    take_examples(page)
    tab(page, "2 · Train")
    expect(page.locator("#train-again")).to_be_disabled()
    page.get_by_text("More settings").first.click()
    unfolded(page, "#train-rank")
    page.locator("#train-method").get_by_text("DreamBooth: LoRA under a rare word").click()
    settings = page.locator("#train-method-settings textarea")
    expect(settings).to_have_attribute("placeholder", re.compile("identifier=sks"), timeout=SLOW)
    settings.fill("identifier=zwx")
    page.locator("#train-rank input").fill("4")
    page.locator("#train-name textarea, #train-name input").first.fill("zwx-claps")
    page.locator("#train-subjects textarea").fill("a green bear")
    page.locator("#train-steps input").fill("12")
    page.get_by_text("The same as this command").first.click()
    expect(page.locator("#train-command")).to_contain_text("--set method.identifier=zwx", timeout=SLOW)
    page.locator("#train-start").click()
    status(page, "#train-status", "finished")
    first = site.runner.runs[-1]

    other = open_page()  # another browser: it has none of this, and other clips
    take_examples(other, 1)
    tab(other, "2 · Train")
    other.get_by_text("Earlier trainings").click()
    unfolded(other, "#train-earlier")
    other.locator("#train-earlier input").click()
    other.get_by_role("option", name="zwx-claps").click()
    status(other, "#train-status", "finished")
    rested(other)
    other.locator("#train-again").click()
    expect(other.locator("#train-message")).to_contain_text("are as they were for “zwx-claps”", timeout=SLOW)
    expect(other.locator("#train-message")).to_contain_text("3 clips of “squats”")
    expect(other.locator("#train-message")).to_contain_text("are in the saved set “before zwx-claps”")
    assert [clip.motion for clip in Datasets(site.workspace).clips("before zwx-claps")] == ["squats"] * 3
    rested(other)
    expect(other.locator("#train-clips")).to_contain_text("3 clips of “claps”")
    other.get_by_text("More settings").first.click()
    unfolded(other, "#train-rank")
    expect(other.locator("#train-method-settings textarea")).to_have_value("identifier=zwx")
    expect(other.locator("#train-rank input")).to_have_value("4")
    tab(other, "1 · Clips")
    expect(other.locator("#clips-grid [data-pick]")).to_have_count(3)
    expect(other.locator("#clips-grid")).to_contain_text("claps")
    tab(other, "2 · Train")
    started = len(site.runner.runs)
    other.locator("#train-start").click()
    until = time.monotonic() + SLOW / 1000
    while len(site.runner.runs) == started and time.monotonic() < until:
        other.wait_for_timeout(100)
    assert site.runner.runs[started:] == [first]


def test_settings_again_of_a_training_whose_clips_are_gone(open_page: Any, site: Site) -> None:
    page = open_page()
    start_training(page, steps=3, every=0)
    status(page, "#train-status", "finished")
    kept = site.assets / "clips.kept"
    (site.assets / "clips").rename(kept)
    try:
        page.locator("#train-again").click()
        expect(page.locator("#train-message [role=alert]")).to_contain_text("none of its clips is there", timeout=SLOW)
        expect(page.locator("#train-steps input")).to_have_value("3")
    finally:
        shutil.rmtree(site.assets / "clips", ignore_errors=True)
        kept.rename(site.assets / "clips")
