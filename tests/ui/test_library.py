"""The Library tab in a real Chromium, with the real Hub client against a loopback server."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from playwright.sync_api import Page, expect

from synmotion_core.adapters.export import export
from synmotion_core.adapters.file import read_info
from synmotion_core.adapters.hub import Hub
from synmotion_core.adapters.parcel import pack
from synmotion_core.storage import read_tensors, write_tensors
from synmotion_core.types import Prompt
from synmotion_core.ui.adapters import AdapterChoice
from synmotion_core.ui.library import videos_of
from tests.adapters.test_card import made
from tests.hub_server import HubServer
from tests.ui.studio import Site, write_adapter
from tests.ui.test_page import tab, unfolded

SLOW = 60_000
ASSETS = Path(__file__).parents[2] / "assets"
SQUAT, CLIP = ASSETS / "adapters" / "squat.safetensors", ASSETS / "clips" / "squat" / "squat-01.mp4"
EVIL = "a red <b id='evil'>cat</b> squats"


def test_videos_are_of_the_very_adapter(tmp_path: Path) -> None:
    """Not of another one with the same file name: the ready-made one, or one that could not be put in its place."""
    (here, other), prompt = (
        (tmp_path / "here.safetensors", tmp_path / "other" / "here.safetensors"),
        Prompt(subject="a cat", motion="x"),
    )
    sample = SimpleNamespace(adapted=True, step=3, path=tmp_path / "1.mp4", prompt=prompt)
    jobs = SimpleNamespace(list=lambda: [SimpleNamespace(kind="train", result=here, samples=[sample])])
    studio: Any = SimpleNamespace(jobs=jobs)
    for path in (here, other):
        path.parent.mkdir(exist_ok=True)
        shutil.copyfile(SQUAT, path)
    choices = [AdapterChoice(id=f"mine/{path.name}", path=path, info=read_info(path)) for path in (here, other)]
    assert [len(videos_of(studio, choice)) for choice in choices] == [1, 0]


@pytest.fixture
def ann(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> HubServer:
    """Ann is logged in on this machine; Bob shares a squat."""
    monkeypatch.setenv("HF_TOKEN", "hf_ann_write")
    hub.add_user("carl", "hf_carl_write")
    (tmp_path / "parcel").mkdir()
    parcel = pack(SQUAT, "carl/squat", tmp_path / "parcel", videos=[(CLIP, EVIL)], formats=["diffusers"])
    Hub(token="hf_carl_write").push(parcel, private=False)
    return hub


def library(page: Page) -> None:
    tab(page, "5 · Library")
    expect(page.locator("#library-about")).to_contain_text("learnt from", timeout=SLOW)


def field(page: Page, name: str) -> Any:
    return page.locator(f"{name} textarea, {name} input").first


def open_sharing(page: Page) -> None:
    page.get_by_text("Share the adapter on the left").click()
    unfolded(page, "#share-prepare")


def chosen(page: Page) -> Any:
    return page.locator("#library-adapter input")


def test_from_the_hub_to_a_video_and_back(open_page: Any, site: Site, ann: HubServer) -> None:
    """Found, looked at, fetched, drawn with; then shared under another name, each file shown before it leaves."""
    page = open_page()
    library(page)
    field(page, "#hub-words").fill("squat")
    page.locator("#hub-search").click()
    page.locator("#hub-found label").first.click()
    seen = page.locator("#hub-seen")
    expect(seen).to_contain_text("licence of the file: apache-2.0; of its page: apache-2.0", timeout=SLOW)
    expect(seen).to_contain_text("not fetched: pytorch_lora_weights.safetensors")
    expect(field(page, "#hub-repo")).to_have_value("carl/squat")
    field(page, "#hub-name").fill("of-carl")
    page.locator("#hub-fetch").click()
    expect(page.locator("#hub-status")).to_contain_text("of-carl is here: 135 of 135 keys apply", timeout=SLOW)
    expect(chosen(page)).to_have_value("of-carl: squats (from carl/squat)")
    assert (site.workspace.adapters / "of-carl.safetensors").read_bytes() == SQUAT.read_bytes()
    expect(page.locator("#library-about")).to_contain_text("From carl/squat, commit")
    expect(page.locator("#library-videos figure")).to_have_count(1)
    expect(page.locator("#library-videos figcaption")).to_contain_text(EVIL)
    expect(page.locator("#evil")).to_have_count(0)
    page.wait_for_function("document.querySelector('#library-videos video').readyState >= 2")

    open_sharing(page)
    field(page, "#share-repo").fill("ann/mine")
    page.locator("#share-prepare").click()
    files = page.locator("#share-files")
    expect(files).to_contain_text("To ann/mine, only you will see it: 3 files", timeout=SLOW)
    for name in ("README.md", "of-carl.safetensors", "videos/01.mp4"):
        expect(files).to_contain_text(name)
    card = field(page, "#share-card")
    text = card.input_value()
    card.fill(text.replace("license: apache-2.0", "license: mit"))
    page.locator("#share-send").click()
    expect(page.locator("#hub-status")).to_contain_text("must have license: apache-2.0", timeout=SLOW)
    assert "ann/mine" not in ann.repos
    card.fill(text.replace("for any subject", "as I like it"))
    page.locator("#share-send").click()
    expect(page.locator("#hub-status")).to_contain_text("3 of 3 files are at", timeout=SLOW)
    mine = ann.repos["ann/mine"]
    assert mine.private
    assert b"as I like it" in mine.head.files["README.md"]
    field(page, "#share-repo").fill("ann/other")
    page.locator("#share-send").click()
    expect(page.locator("#hub-message")).to_contain_text("what would be sent has changed since it was shown")
    assert "ann/other" not in ann.repos

    page.locator("#library-use").click()
    expect(page.locator("#gen-adapter input")).to_have_value("of-carl: squats (from carl/squat)", timeout=SLOW)
    expect(page.locator("#tab-generate")).to_be_visible()
    expect(field(page, "#gen-motion")).to_have_value("squats, bobs apart deep, swings hands down out slow")


def test_the_lora_for_diffusers_is_ticked_where_its_pipelines_load_it(open_page: Any, site: Site) -> None:
    """As the command line sends it; what a person ticks stays until another adapter is chosen."""
    made(site.workspace.adapters, "wan2.1-t2v-1.3b", "lora", "mine")
    shutil.copyfile(SQUAT, site.workspace.adapters / "puppet.safetensors")
    page = open_page()
    library(page)
    open_sharing(page)
    tick = page.locator("#share-beside").get_by_label("LoRA for diffusers")

    def choose(name: str) -> None:
        page.locator("#library-adapter input").click()
        page.get_by_role("option", name=name).click()

    choose("mine: waves")
    expect(tick).to_be_checked(timeout=SLOW)
    tick.uncheck()
    tab(page, "1 · Clips")
    library(page)
    expect(chosen(page)).to_have_value("mine: waves (trained here)")
    expect(tick).not_to_be_checked()
    choose("puppet: squats")
    expect(page.locator("#library-about")).to_contain_text("puppet-hunyuan", timeout=SLOW)
    choose("mine: waves")
    expect(tick).to_be_checked(timeout=SLOW)
    choose("puppet: squats")
    expect(tick).not_to_be_checked(timeout=SLOW)
    expect(page.locator("#share-beside").get_by_label("its videos")).to_be_checked()


def test_a_fetch_is_found_again_after_a_reload(
    open_page: Any, site: Site, ann: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page()
    library(page)
    field(page, "#hub-repo").fill("carl/squat")
    page.locator("#hub-look").click()
    expect(page.locator("#hub-seen")).to_contain_text("carl/squat at", timeout=SLOW)
    may, answer = threading.Event(), ann._answer

    def waits(method: str, path: str, *rest: Any, **named: Any) -> Any:
        may.wait(60)
        return answer(method, path, *rest, **named)

    monkeypatch.setattr(ann, "_answer", waits)
    page.locator("#hub-fetch").click()
    expect(page.locator("#hub-status")).to_contain_text("Fetching carl/squat", timeout=SLOW)
    page.reload()
    library(page)
    expect(page.locator("#hub-status")).to_contain_text("Fetching carl/squat", timeout=SLOW)
    may.set()
    expect(page.locator("#hub-status")).to_contain_text("squat is here: 135 of 135 keys apply", timeout=SLOW)
    expect(chosen(page)).to_have_value("squat: squats (from carl/squat)")


def test_a_hub_that_says_no_is_heard(open_page: Any, site: Site, ann: HubServer) -> None:
    page = open_page()
    library(page)
    message = page.locator("#hub-message [role=alert]")
    field(page, "#hub-repo").fill("https://huggingface.co/carl/squat")
    page.locator("#hub-look").click()
    expect(message).to_contain_text("use 'carl/squat'", timeout=SLOW)
    field(page, "#hub-repo").fill("carl/gone")
    page.locator("#hub-look").click()
    expect(message).to_contain_text("the Hub has no carl/gone", timeout=SLOW)
    field(page, "#hub-repo").fill("carl/squat")
    page.locator("#hub-look").click()
    expect(page.locator("#hub-seen")).to_contain_text("carl/squat at", timeout=SLOW)
    field(page, "#hub-repo").fill("carl/gone")
    page.locator("#hub-fetch").click()
    expect(message).to_contain_text("what was looked at is carl/squat, not carl/gone", timeout=SLOW)
    assert not list(site.workspace.adapters.iterdir())
    open_sharing(page)
    shutil.copyfile(SQUAT, site.workspace.adapters / "mine.safetensors")
    tab(page, "1 · Clips")
    library(page)
    page.locator("#library-adapter input").click()
    page.get_by_role("option", name="mine: squats (trained here)").click()
    field(page, "#share-repo").fill("carl/squat")
    page.locator("#share-prepare").click()
    expect(page.locator("#share-files")).to_contain_text("To carl/squat", timeout=SLOW)
    page.locator("#share-send").click()
    expect(page.locator("#hub-status")).to_contain_text("is there already and is public", timeout=SLOW)


def test_adapters_in_and_out(open_page: Any, site: Site, tmp_path: Path) -> None:
    """Exported, downloaded, taken in again as a file of another program, and deleted."""
    shutil.copyfile(SQUAT, site.workspace.adapters / "mine.safetensors")
    page = open_page()
    library(page)
    expect(page.locator("#library-delete")).to_be_disabled()  # a ready-made one stays
    page.locator("#library-adapter input").click()
    page.get_by_role("option", name="mine: squats (trained here)").click()
    expect(page.locator("#library-delete")).to_be_enabled()
    with page.expect_download() as caught:
        page.locator("#library-download").click()
    assert caught.value.suggested_filename == "mine.safetensors"
    assert Path(caught.value.path()).read_bytes() == SQUAT.read_bytes()
    page.get_by_text("For other programs").click()
    page.locator("#library-export").click()
    file = page.locator("#library-file")
    expect(file).to_contain_text("Written and read back: 96 of 96 keys apply", timeout=SLOW)
    expect(file).to_contain_text("39 tensors, its embeddings, do not travel")
    with page.expect_download() as caught:
        file.locator("a").click()
    export(SQUAT, tmp_path / "own.safetensors")
    theirs, own = (read_tensors(path)[0] for path in (Path(caught.value.path()), tmp_path / "own.safetensors"))
    assert {key: t.shape for key, t in theirs.items()} == {key: t.shape for key, t in own.items()}

    page.get_by_text("Take in an adapter or LoRA file").click()
    unfolded(page, "#library-take")
    page.locator("#library-take").click()
    message = page.locator("#library-message")
    expect(message).to_contain_text("choose the file first", timeout=SLOW)
    page.locator("#library-lora input[type=file]").set_input_files(tmp_path / "own.safetensors")
    expect(page.locator("#library-lora")).to_contain_text("own", timeout=SLOW)
    page.locator("#library-backbone input").click()
    page.get_by_role("option", name="Puppets (ships with the studio").first.click()
    field(page, "#library-motion").fill("squats")
    field(page, "#library-name").fill("taken")
    page.locator("#library-take").click()
    expect(message).to_contain_text("96 of 96 keys apply", timeout=SLOW)
    expect(chosen(page)).to_have_value("taken: squats (taken in)")

    page.locator("#library-delete").click()
    page.locator("#library-keep").click()
    expect(page.locator("#library-really")).to_be_hidden()
    assert (site.workspace.adapters / "taken.safetensors").exists()
    page.locator("#library-delete").click()
    page.locator("#library-really").click()
    expect(message).to_contain_text("taken is deleted", timeout=SLOW)
    assert [path.name for path in site.workspace.adapters.iterdir()] == ["mine.safetensors"]


def test_an_adapter_that_was_mailed_is_taken_in(open_page: Any, site: Site, tmp_path: Path) -> None:
    """By its file alone; what cannot be taken names nothing that only a terminal has."""
    page = open_page()
    library(page)
    page.get_by_text("Take in an adapter or LoRA file").click()
    unfolded(page, "#library-take")
    message, uploaded = page.locator("#library-message"), page.locator("#library-lora")
    uploaded.locator("input[type=file]").set_input_files(shutil.copyfile(SQUAT, tmp_path / "my-wave.safetensors"))
    expect(uploaded).to_contain_text("my-wave", timeout=SLOW)
    page.locator("#library-take").click()
    expect(message).to_contain_text("is taken in as my-wave: 135 of 135 keys apply", timeout=SLOW)
    expect(chosen(page)).to_have_value("my-wave: squats (taken in)")
    assert (site.workspace.adapters / "my-wave.safetensors").read_bytes() == SQUAT.read_bytes()
    field(page, "#library-name").fill("my-wave")
    page.locator("#library-take").click()
    expect(message).to_contain_text("there is an adapter 'my-wave' already: choose another name", timeout=SLOW)
    export(SQUAT, tmp_path / "lora.safetensors")
    tensors, _ = read_tensors(tmp_path / "lora.safetensors")
    write_tensors(tmp_path / "more.safetensors", tensors | {"strange": torch.zeros(2)}, {})
    page.reload()
    library(page)
    page.get_by_text("Take in an adapter or LoRA file").click()
    unfolded(page, "#library-take")
    uploaded.locator("input[type=file]").set_input_files(tmp_path / "more.safetensors")
    expect(uploaded).to_contain_text("more", timeout=SLOW)
    field(page, "#library-name").fill("more")
    field(page, "#library-motion").fill("squats")
    page.locator("#library-take").click()
    expect(message).to_contain_text("this is a LoRA of another program: say what it was trained on", timeout=SLOW)
    page.locator("#library-backbone input").click()
    page.get_by_role("option", name="Puppets (ships with the studio").first.click()
    page.locator("#library-take").click()
    expect(message).to_contain_text("To go without them: “Leave out keys that have no place”", timeout=SLOW)
    expect(message).not_to_contain_text("--")
    page.locator("#library-loose input").check()
    page.locator("#library-take").click()
    expect(message).to_contain_text("96 of 96 keys apply", timeout=SLOW)
    expect(chosen(page)).to_have_value("more: squats (taken in)")


def test_a_damaged_adapter_is_said_and_the_others_are_shown(open_page: Any, site: Site) -> None:
    write_adapter(site.workspace.adapters / "good.safetensors", subject="a person", motion="waves", steps=3, clips=2)
    (site.workspace.adapters / "bad.safetensors").write_bytes(b"no adapter")
    page = open_page()
    library(page)
    expect(page.locator("#library-message")).to_contain_text("bad.safetensors is not a safetensors file")
    page.locator("#library-adapter input").click()
    expect(page.get_by_role("option", name="good: waves (trained here)")).to_be_visible()
