"""Earlier generations on the page: shown, fetched, used again, deleted; a second motion, and LoRAs, in the form."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import gradio as gr
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from synmotion_core.clips import video
from synmotion_core.config import BlendWith, Footage, GenerateRun, LoraWith
from synmotion_core.errors import MissingError
from synmotion_core.precision import Precision
from synmotion_core.ui.adapters import find_adapters
from synmotion_core.ui.blend_fields import blend_fields, blend_of
from synmotion_core.ui.chosen import Library
from synmotion_core.ui.forms import generate_run
from synmotion_core.ui.lora_fields import loras_of
from synmotion_core.ui.noise_fields import noise_clip
from synmotion_core.ui.pictures import Pictures
from synmotion_core.ui.refill import refill
from synmotion_core.workspace import Workspace
from tests.ui.studio import PUPPETS, Site, example, write_adapter
from tests.ui.test_page import CLIPS_A_SET, SLOW, choose, rested, status, tab, take_examples, unfolded


@pytest.fixture(autouse=True)
def _quick(request: pytest.FixtureRequest) -> None:
    if "site" in request.fixturenames:
        request.getfixturevalue("site").runner.step_s = 0.0


def made(site: Site, **given: Any) -> str:
    values = {"subjects": ("a red cat",), "motion": "claps", "adapter": site.assets / "adapters/clap.safetensors"}
    job = site.jobs.submit(GenerateRun(**{**values, **given}))
    assert site.jobs.wait(job, 60).status == "finished"
    return job


def opened(page: Page) -> Any:
    tab(page, "3 · Generate")
    page.locator("#gallery button").first.click()
    expect(page.locator("#gallery-list .sm-earlier").first).to_be_visible(timeout=SLOW)
    rested(page)
    return page.locator("#gallery-list .sm-earlier")


def fetched(page: Page, press: Any, tmp_path: Path) -> Path:
    with page.expect_download(timeout=SLOW) as waiting:
        press.click()
    file = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(file)
    return file


def test_earlier_videos_are_shown_and_fetched_in_three_forms(open_page: Any, site: Site, tmp_path: Path) -> None:
    jobs = [made(site, seeds=tuple(range(seed + 1)), compare=seed == 4) for seed in range(6)]
    page = open_page()
    cards = opened(page)
    expect(cards).to_have_count(4, timeout=SLOW)
    assert [card.get_attribute("data-job") for card in cards.all()] == jobs[:1:-1], "the newest first"
    expect(page.locator("#gallery-place")).to_have_text("1 to 4 of 6")
    first, compared = cards.nth(0), cards.nth(1)
    expect(first).to_contain_text("claps · 6 videos finished")
    expect(first).to_contain_text("clap, strength 1 · seeds 0, 1, 2, 3, 4, 5")
    expect(first.locator("video")).to_have_count(4)
    expect(compared.locator("figcaption b").first).to_have_text("Backbone alone")
    first.get_by_text("All 6 videos").click()
    expect(first.locator("video")).to_have_count(6, timeout=SLOW)
    last = site.jobs.snapshot(jobs[-1]).samples[5].path
    frames, _ = video.read(last)
    mp4 = fetched(page, first.get_by_role("link", name="Download").nth(5), tmp_path)
    assert mp4.read_bytes() == last.read_bytes()
    gif = fetched(page, first.get_by_role("button", name="GIF").nth(5), tmp_path)
    expect(page.locator("#gallery-message")).to_contain_text("each stays for 12 or 13 of them")
    with Image.open(gif) as image:
        assert (image.n_frames, gif.name) == (len(frames), f"{last.stem}.gif")
        image.seek(16)
        away = np.abs(np.asarray(image.convert("RGB")).astype(int) - frames[16]).mean()
    assert away < 2, "256 colours of that very frame"
    sheet = fetched(page, first.get_by_role("button", name="Contact sheet"), tmp_path)
    assert cv2.imread(str(sheet)).shape == (6 * (2 * 64 + 2), 120 + 8 * (2 * 64 + 2), 3)
    page.locator("#gallery-older").click()
    expect(cards).to_have_count(2, timeout=SLOW)
    page.locator("#gallery-newer").click()
    expect(cards).to_have_count(4, timeout=SLOW)
    assert page.locator("#evil").count() == 0


def test_settings_are_used_again_and_a_new_video_joins_the_list(open_page: Any, site: Site) -> None:
    given = {"subjects": ("a blue robot", "a red cat"), "motion": "claps twice", "seeds": (3, 5), "strength": 0.5}
    given |= {"num_inference_steps": 7, "guidance_scale": 2.5, "adapter_until": 0.5, "setting": "in the snow"}
    job = made(site, **given)
    page = open_page()
    cards = opened(page)
    cards.first.get_by_text("Use these settings again").click()
    expect(page.locator("#gallery-message")).to_contain_text("The form above is as it was then.", timeout=SLOW)
    expect(page.locator("#gen-subjects textarea")).to_have_value("a blue robot\na red cat")
    for name, words in (("motion", "claps twice"), ("seeds", "3, 5")):
        expect(page.locator(f"#gen-{name} textarea, #gen-{name} input")).to_have_value(words)
    expect(page.locator("#gen-plan")).to_contain_text("4 videos", timeout=SLOW)  # the form has been asked again since
    rested(page)
    page.locator("#gen-start").click()
    status(page, "#gen-status", "finished")
    assert site.runner.runs[-1] == site.jobs.snapshot(job).config
    expect(cards).to_have_count(2, timeout=SLOW)


def test_a_video_that_is_good_becomes_a_clip(open_page: Any, site: Site) -> None:
    job = made(site, subjects=("a blue robot", "a red cat"), motion="claps", setting="at sea", compare=True)
    samples = site.jobs.snapshot(job).samples
    page = open_page()
    take_examples(page)
    cards = opened(page)
    learn = cards.first.get_by_role("button", name="Add to the clips")
    expect(learn).to_have_count(2)  # what the backbone drew alone shows no motion to learn
    learn.nth(1).click()
    message = page.locator("#gallery-message")
    expect(message).to_contain_text("“a red cat claps at sea”. The next training learns from it", timeout=SLOW)
    rested(page)
    learn.nth(1).click()
    expect(message.locator(".sm-error")).to_contain_text("is among the clips already", timeout=SLOW)
    tab(page, "1 · Clips")
    expect(page.locator("#clips-grid .sm-card")).to_have_count(CLIPS_A_SET + 1, timeout=SLOW)
    expect(page.locator("#clips-grid .sm-card").last).to_contain_text("a red cat claps", timeout=SLOW)
    tab(page, "2 · Train")
    cat = next(s.path for s in samples if s.adapted and s.prompt.subject == "a red cat")
    kept = [path for path in site.workspace.clips.iterdir() if path.read_bytes() == cat.read_bytes()]
    assert len(kept) == 1, "a copy: it outlives the generation"
    page.get_by_text("The same as this command").first.click()
    expect(page.locator("#train-command")).to_contain_text(kept[0].name, timeout=SLOW)


def test_an_adapter_that_is_gone_is_named_and_nothing_is_changed(open_page: Any, site: Site) -> None:
    path = site.workspace.adapters / "short-lived.safetensors"
    write_adapter(path, subject="a person", motion="claps", steps=1, clips=1)
    made(site, adapter=path, subjects=("a green cat",))
    path.unlink()
    page = open_page()
    opened(page).first.get_by_text("Use these settings again").click()
    said = "it was made with the adapter 'short-lived', which is not there any more"
    expect(page.locator("#gallery-message .sm-error")).to_contain_text(said, timeout=SLOW)
    expect(page.locator("#gen-subjects textarea")).to_have_value("a red cat")


def test_deleting_asks_first_and_takes_everything(open_page: Any, site: Site) -> None:
    job, other = made(site), made(site)
    page = open_page()
    cards = opened(page)
    expect(cards).to_have_count(2, timeout=SLOW)
    cards.nth(1).get_by_role("button", name="Contact sheet").click()
    expect(page.locator("#gallery-file a")).to_have_text("contact-sheet.png", timeout=SLOW)
    kept = site.workspace.cache / "exports" / job / "contact-sheet.png"
    assert kept.is_file()
    cards.nth(1).get_by_role("button", name="Delete").click()
    page.locator("#gallery-keep").click()
    expect(page.locator("#gallery-really")).not_to_be_visible()
    assert len(site.jobs.list()) == 2
    cards.nth(1).get_by_role("button", name="Delete").click()
    page.locator("#gallery-really").click()
    expect(cards).to_have_count(1, timeout=SLOW)
    assert [view.id for view in site.jobs.list()] == [other]
    assert not kept.parent.exists()
    assert not (site.workspace.videos / job).exists()


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_cut_off(open_page: Any, site: Site, width: int) -> None:
    made(site, subjects=("a red cat", "a blue robot"), compare=True)
    page = open_page(width=width)
    expect(opened(page)).to_have_count(1, timeout=SLOW)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = "e => [...e.querySelectorAll('button, a, p, pre')].filter(x => x.scrollWidth > x.clientWidth + 1 && "
    wide += "getComputedStyle(x).display !== 'inline').length"
    assert page.locator("#gallery-list").evaluate(wide) == 0


# ------------------------------------------------------------------------------------------------ the second motion


def test_a_second_motion_of_the_same_backbone_goes_into_the_run(open_page: Any, site: Site) -> None:
    words = {"subject": "a person", "motion": "waves", "steps": 1, "clips": 1}
    write_adapter(site.workspace.adapters / "wave.safetensors", **words)
    write_adapter(site.workspace.adapters / "key.safetensors", **words, backbone="puppet-unet3d")
    page = open_page()
    tab(page, "3 · Generate")
    page.locator("#gen-blend button").first.click()
    page.get_by_text("The same as this command").last.click()
    unfolded(page, "#gen-blend-adapter")
    unfolded(page, "#gen-command")
    page.locator("#gen-adapter input").click()
    page.get_by_role("option", name="ready-made").click()
    command = page.locator("#gen-command")
    expect(command).to_contain_text("clap.safetensors", timeout=SLOW)  # comes with the list of what goes with it
    expect(page.locator("#gen-blend-adapter")).to_contain_text("Adapters of puppet-hunyuan.", timeout=SLOW)
    rested(page)
    page.locator("#gen-blend-adapter input").click()
    expect(page.get_by_role("option", name="wave")).to_be_visible()
    offered = page.get_by_role("option").all_inner_texts()
    assert any("wave" in one for one in offered), offered
    assert not any("key" in one or "ready-made" in one for one in offered), offered
    page.get_by_role("option", name="wave").click()
    page.locator("#gen-blend-over").get_by_text("One after the other").click()
    expect(command).to_contain_text("wave.safetensors --blend-over sequence", timeout=SLOW)
    page.locator("#gen-start").click()
    status(page, "#gen-status", "finished")
    wave = site.workspace.adapters / "wave.safetensors"
    assert site.runner.runs[-1].blend == BlendWith(adapter=wave, over="sequence")
    expect(page.locator("#gen-results")).to_contain_text("clap and then wave, share 0.5, strength 1")
    page.locator("#gen-adapter input").click()
    page.get_by_role("option", name="no adapter").click()
    expect(command).not_to_contain_text("--blend", timeout=SLOW)
    expect(page.locator("#gen-blend-adapter")).to_contain_text("There is no adapter that it could be blended with.")


def test_a_second_motion_that_the_list_no_longer_has_is_told_in_our_words(workspace: Workspace, assets: Path) -> None:
    """Gradio compares with the list as it is on the server, before any handler of ours runs."""
    with gr.Blocks():
        field: Any = blend_fields()["blend_adapter"]
    assert field.preprocess("mine/wave.safetensors") == "mine/wave.safetensors"
    desk: Any = SimpleNamespace(workspace=workspace, assets=assets)
    with pytest.raises(MissingError, match=r"the adapter 'mine/wave\.safetensors' is not there any more"):
        blend_of({"blend_adapter": "field"}, {"field": "mine/wave.safetensors"}, desk)


# ------------------------------------------------------------------------------------------------ LoRAs beneath


def test_a_lora_beneath_goes_into_the_run_and_back_into_the_form(open_page: Any, site: Site) -> None:
    words = {"subject": "a person", "steps": 1, "clips": 1}
    write_adapter(site.workspace.adapters / "pencil.safetensors", **words, motion="in pencil", method="lora")
    write_adapter(site.workspace.adapters / "wave.safetensors", **words, motion="waves", method="synmotion")
    write_adapter(
        site.workspace.adapters / "key.safetensors", **words, motion="x", method="lora", backbone="puppet-unet3d"
    )
    page = open_page()
    tab(page, "3 · Generate")
    page.locator("#gen-loras button").first.click()
    page.get_by_text("The same as this command").last.click()
    unfolded(page, "#gen-lora-1")
    unfolded(page, "#gen-command")
    page.locator("#gen-adapter input").click()
    page.get_by_role("option", name="ready-made").click()
    command = page.locator("#gen-command")
    expect(command).to_contain_text("clap.safetensors", timeout=SLOW)
    expect(page.locator("#gen-lora-1 input")).to_be_enabled(timeout=SLOW)
    rested(page)
    page.locator("#gen-lora-1 input").click()
    expect(page.get_by_role("option", name="pencil")).to_be_visible()
    offered = page.get_by_role("option").all_inner_texts()
    assert not any(name in one for one in offered for name in ("key", "wave", "ready-made")), offered
    page.get_by_role("option", name="pencil").click()
    expect(command).to_contain_text("--lora", timeout=SLOW)
    page.locator("#gen-lora-1-strength input[type=number]").fill("-0.5")
    page.locator("#gen-lora-1-strength input[type=number]").press("Tab")
    expect(command).to_contain_text("pencil.safetensors:-0.5", timeout=SLOW)
    page.locator("#gen-start").click()
    status(page, "#gen-status", "finished")
    pencil = site.workspace.adapters / "pencil.safetensors"
    assert site.runner.runs[-1].loras == (LoraWith(adapter=pencil, strength=-0.5),)
    expect(page.locator("#gen-results")).to_contain_text("clap, strength 1, over pencil at -0.5")
    choose(page, "#gen-lora-1", "none")
    expect(command).not_to_contain_text("--lora", timeout=SLOW)


# ------------------------------------------------------------------------------------------------ there and back


@dataclasses.dataclass
class Desk:
    """Of a studio, what the form looks up."""

    workspace: Workspace
    assets: Path
    library: Library
    pictures: Pictures


def test_the_form_of_a_run_makes_that_run(workspace: Workspace, assets: Path, library: Library) -> None:
    desk: Any = Desk(workspace, assets, library, Pictures(workspace, assets))
    mine, other, third = (workspace.adapters / f"{name}.safetensors" for name in ("mine", "other", "third"))
    for path in (mine, other, third):
        write_adapter(path, subject="a person", motion="waves", steps=1, clips=1)
    clip = example(library)
    noise = Footage(path=library.path(clip.source))
    picture = desk.pictures.path(next(iter(desk.pictures.ready)))
    plain = GenerateRun(subjects=("a red cat", "a bear"), motion="waves", backbone="puppet-hunyuan", seeds=(1, 2**40))
    runs = (
        plain,
        dataclasses.replace(plain, adapter=mine, compare=True, strength=0.35, adapter_until=0.25, num_frames=13),
        dataclasses.replace(plain, adapter=mine, blend=BlendWith(adapter=other, share=0.3, over="sequence")),
        dataclasses.replace(plain, loras=(LoraWith(adapter=other, strength=-0.5), LoraWith(adapter=mine))),
        dataclasses.replace(plain, images=(picture, picture), precision=Precision(vae_tiling=True), eta=0.5),
        dataclasses.replace(plain, noise_clip=noise, noise_prior=0.25, guidance_scale=3.0, guidance_until=0.125),
        dataclasses.replace(plain, negative_prompt="dark", flow_shift=2.0, step_cache="taylorseer:3", setting="at sea"),
    )
    for run in runs:
        old = refill(run, desk, [clip])
        assert not old.said
        found = {choice.id: choice for choice in find_adapters(workspace, assets)[0]}
        own = found.get(old.values["adapter"])
        again = generate_run(
            old.values,
            (own.path, own.info.backbone) if own else None,
            tuple(desk.pictures.path(one) for one in old.pictures),
            noise_clip(old.values["noise_clip"], [clip], library, PUPPETS),
            blend_of({name: name for name in old.values}, old.values, desk),
            loras_of({name: name for name in old.values}, old.values, desk),
        )
        assert again == run
    assert "is not among the chosen clips" in refill(runs[5], desk, []).said[0]
    gone = dataclasses.replace(plain, images=(picture, workspace.pictures / "gone.png"))
    assert "gone.png" in refill(gone, desk, []).said[0]
    three = dataclasses.replace(plain, loras=tuple(LoraWith(adapter=path) for path in (mine, other, third)))
    assert refill(three, desk, []).said == (
        "It had more LoRAs beneath it than the form has fields: the command line takes up to four.",
    )
    mine.unlink()
    with pytest.raises(MissingError, match="made with the adapter 'mine', which is not there any more"):
        refill(runs[1], desk, [])
