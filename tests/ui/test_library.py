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
from synmotion_core.adapters.file import load_adapter, read_info
from synmotion_core.adapters.hub import Hub
from synmotion_core.adapters.parcel import pack
from synmotion_core.backbones import find_spec
from synmotion_core.storage import read_tensors, write_tensors
from synmotion_core.types import Prompt
from synmotion_core.ui.adapters import AdapterChoice
from synmotion_core.ui.library import videos_of
from synmotion_core.ui.take_in_fields import guessed, whose_choices
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


def tiny_wan_pair(folder: Path, names: tuple[str, str]) -> list[Path]:
    """LoRAs of rank 1 for a layer of each of Wan 2.2 A14B's experts, of which neither says alpha."""
    key, made = "lora_unet__blocks_0_self_attn_q.lora_{}.weight", []
    for value, name in enumerate(names, 1):
        tensors = {key.format("down"): torch.ones(1, 5120), key.format("up"): torch.full((5120, 1), float(value))}
        made.append(folder / name)
        write_tensors(made[-1], tensors, {})
    return made


def take_in_for(page: Page, files: list[Path], backbone: str, name: str) -> None:
    """The part that takes files in, filled but for what the files alone ask."""
    page.get_by_text("Take in an adapter or LoRA file").click()
    unfolded(page, "#library-take")
    page.locator("#library-lora input[type=file]").set_input_files(files)
    expect(page.locator("#library-lora")).to_contain_text(files[-1].stem[:8], timeout=SLOW)
    page.locator("#library-backbone input").click()
    page.get_by_role("option", name=backbone).first.click()
    field(page, "#library-motion").fill("waves")
    field(page, "#library-name").fill(name)


def test_files_of_two_experts_become_one_adapter(open_page: Any, site: Site, tmp_path: Path) -> None:
    """Whose each is, is read off its name, and can be said otherwise; alpha can be told."""
    page = open_page()
    library(page)
    files = tiny_wan_pair(tmp_path, ("wave_low_noise.safetensors", "wave_high_noise.safetensors"))
    take_in_for(page, files, "Wan 2.2 2x14B, from text", "both")
    whose = page.locator("#library-whose")
    right = whose.get_by_label("wave_low_noise.safetensors: low noise, wave_high_noise.safetensors: high noise")
    expect(right).to_be_checked(timeout=SLOW)
    expect(page.locator("#library-mode")).to_be_hidden()
    message = page.locator("#library-message")
    field(page, "#library-alpha").fill("-1")
    page.locator("#library-take").click()
    expect(message).to_contain_text("alpha must be a number above 0, got '-1'", timeout=SLOW)
    field(page, "#library-alpha").fill("0.5")
    page.locator("#library-take").click()
    expect(message).to_contain_text("4 of 4 keys apply", timeout=SLOW)
    expect(chosen(page)).to_have_value("both: waves (taken in)")
    tensors, info = load_adapter(site.workspace.adapters / "both.safetensors", find_spec("wan2.2-t2v-a14b"))
    layer = "blocks.0.attn1.to_q"
    assert info.method_config["modules"] == {f"{e}.{layer}": [1, 0.5] for e in ("high_noise", "low_noise")}
    ups = {e: tensors[f"transformer.{e}.{layer}.lora_B.weight"].unique().tolist() for e in ("high_noise", "low_noise")}
    assert ups == {"low_noise": [1.0], "high_noise": [2.0]}

    field(page, "#library-name").fill("swapped")
    whose.get_by_label("wave_low_noise.safetensors: high noise, wave_high_noise.safetensors: low noise").check()
    page.locator("#library-take").click()
    expect(chosen(page)).to_have_value("swapped: waves (taken in)", timeout=SLOW)
    swapped, _ = load_adapter(site.workspace.adapters / "swapped.safetensors", find_spec("wan2.2-t2v-a14b"))
    assert swapped[f"transformer.high_noise.{layer}.lora_B.weight"].unique().tolist() == [1.0]


def test_a_file_that_names_no_expert_is_asked_about(open_page: Any, site: Site, tmp_path: Path) -> None:
    page = open_page()
    library(page)
    files = tiny_wan_pair(tmp_path, ("wave-one.safetensors", "wave-two.safetensors"))[:1]
    take_in_for(page, files, "Wan 2.2 2x14B, from text", "one")
    whose, message = page.locator("#library-whose"), page.locator("#library-message")
    expect(whose.get_by_label("wave-one.safetensors: low noise")).to_be_visible(timeout=SLOW)
    page.locator("#library-take").click()
    expect(message).to_contain_text("has two experts: say whose the file is", timeout=SLOW)
    whose.get_by_label("wave-one.safetensors: low noise").check()
    page.locator("#library-take").click()
    expect(message).to_contain_text("2 of 2 keys apply", timeout=SLOW)
    info = read_info(site.workspace.adapters / "one.safetensors")
    assert list(info.method_config["modules"]) == ["low_noise.blocks.0.attn1.to_q"]


def test_what_a_file_was_trained_to_draw_is_told(open_page: Any, site: Site, tmp_path: Path) -> None:
    """Where the backbone has both."""
    export(SQUAT, tmp_path / "own.safetensors")
    page = open_page()
    library(page)
    take_in_for(page, [tmp_path / "own.safetensors"], "Puppets (ships with the studio", "drawn")
    mode = page.locator("#library-mode")
    expect(mode.get_by_label("from text")).to_be_checked(timeout=SLOW)
    expect(page.locator("#library-whose")).to_be_hidden()
    mode.get_by_label("from a picture").check()
    page.locator("#library-take").click()
    expect(page.locator("#library-message")).to_contain_text("96 of 96 keys apply", timeout=SLOW)
    assert read_info(site.workspace.adapters / "drawn.safetensors").mode == "i2v"


@pytest.mark.parametrize(
    ("names", "experts"),
    [
        (["a_high_noise", "a_low_noise"], "high_noise low_noise"),
        (["a-LOW", "a-HighNoise"], "low_noise high_noise"),
        (["a_high", "b"], "high_noise low_noise"),
        (["low"], "low_noise"),
        (["slowly", "highway"], None),
        (["a_high", "b_high"], None),
        (["high_low"], None),
        (["a"], None),
    ],
)
def test_whose_files_are_by_their_names(names: list[str], experts: str | None) -> None:
    files = [Path(f"{name}.safetensors") for name in names]
    found = guessed(files)
    assert found == (experts and "|".join([experts, *(file.name for file in files)]))
    assert found is None or found in [answer for _, answer in whose_choices(files)]


def test_a_damaged_adapter_is_said_and_the_others_are_shown(open_page: Any, site: Site) -> None:
    write_adapter(site.workspace.adapters / "good.safetensors", subject="a person", motion="waves", steps=3, clips=2)
    (site.workspace.adapters / "bad.safetensors").write_bytes(b"no adapter")
    page = open_page()
    library(page)
    expect(page.locator("#library-message")).to_contain_text("bad.safetensors is not a safetensors file")
    page.locator("#library-adapter input").click()
    expect(page.get_by_role("option", name="good: waves (trained here)")).to_be_visible()
