"""The page of an adapter on the Hub: what machines read of it, what people may change, and nothing that is markup."""

from __future__ import annotations

import dataclasses
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.loaders.lora_base import _best_guess_weight_name
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from synmotion_core.adapters.card import TAG, Shown, check_card, front_matter, model_card, read_front_matter
from synmotion_core.adapters.file import AdapterInfo, read_info, save_adapter
from synmotion_core.adapters.kept import kept, note_kept
from synmotion_core.adapters.parcel import Parcel, made_before, pack
from synmotion_core.backbones import SPECS, family
from synmotion_core.backbones.weightless import weightless_denoiser
from synmotion_core.clips import video
from synmotion_core.config import to_dict
from synmotion_core.errors import AdapterError, ClipError, ConfigError
from synmotion_core.interfaces import why_incompatible
from synmotion_core.methods import METHODS

SQUAT = Path(__file__).parents[2] / "assets" / "adapters" / "squat.safetensors"
CLIP = Path(__file__).parents[2] / "assets" / "clips" / "squat" / "squat-01.mp4"


def info(backbone: str = "hunyuanvideo-i2v", **changed: Any) -> AdapterInfo:
    spec = SPECS[backbone]
    own = AdapterInfo(
        backbone=backbone, repo=spec.repo, revision=spec.revision, fingerprint="", licence=spec.licence,
        method="synmotion", method_config={"rank": 16}, subject="a person", motion="waves", steps=800, clips=12,
        mode="i2v", score=0.9, scored_by="judge", created_with="synmotion_core 1",
    )  # fmt: skip
    return dataclasses.replace(own, **changed)


@pytest.mark.parametrize("backbone", SPECS)
def test_the_hub_reads_what_it_needs_of_every_backbones_card(backbone: str, tmp_path: Path) -> None:
    """By huggingface_hub's own reader: what it is for, where it is listed, whose licence it carries on."""
    spec = SPECS[backbone]
    mode = spec.modes[0]
    text = model_card(info(backbone, mode=mode), repo_id="ann/wave", file="wave.safetensors")
    (tmp_path / "README.md").write_text(text)
    found = ModelCard.load(tmp_path / "README.md").data.to_dict()
    assert "library_name" not in found, "nothing is beside it that diffusers could load"
    assert found["pipeline_tag"] == {"t2v": "text-to-video", "i2v": "image-to-video"}[mode]
    assert found["instance_prompt"] == "a person waves"
    assert TAG in found["tags"]
    assert not {"lora", "template:sd-lora"} & set(found["tags"])
    ships = spec.repo.startswith("assets:")
    assert (found.get("base_model"), found.get("base_model_relation")) == (
        (None, None) if ships else (spec.repo, "adapter")
    )
    if spec.licence == "tencent-hunyuan-community":
        assert found["license"] == "other"
        assert (found["license_name"], found["license_link"]) == (spec.licence, spec.licence_link)
        assert "excludes the EU, the UK and South Korea" in text
    else:
        assert found["license"] == spec.licence
    assert spec.licence_link in text
    check_card(text, info(backbone, mode=mode))


def test_words_are_shown_and_are_no_markup() -> None:
    evil = 'waves <img src=x onerror="alert(1)"> [x](javascript:y)\n# big `code`'
    text = model_card(
        info(motion=evil, scored_by=evil, method_config={"identifier": "a` <b>"}),
        repo_id="ann/wave",
        file="wave.safetensors",
        videos=[Shown(file="videos/01.mp4", words=evil)],
    )
    body = text.split("\n---\n", 1)[1]
    assert "<img" not in body
    assert "<b>" not in body.replace("identifier=a' <b>", ""), "in code alone, where it is text"
    assert "[x](" not in body
    assert "\n# big" not in body
    assert read_front_matter(text)["widget"] == [{"text": evil, "output": {"url": "videos/01.mp4"}}]
    assert "<Gallery />" in body
    assert "score: 0.900 by" in body


def test_a_changed_card_still_says_what_it_is() -> None:
    own = info()
    text = model_card(own, repo_id="ann/wave", file="wave.safetensors")
    check_card(text.replace("for any subject", "by me") + "\nMy own words.\n", own)
    check_card("\ufeff" + text.replace("\n", "\r\n"), own)
    for wrong, said in (
        (text.replace("license: other", "license: mit"), "must have license: other"),
        (text.replace(SPECS[own.backbone].repo, "someone/else"), "must have base_model: hunyuanvideo-community"),
        (text.replace("license_name: ", "x: "), "must have license_name: tencent-hunyuan-community"),
        (text.replace("- motion-adapter\n", ""), "tags must hold motion-adapter"),
        (text.replace("---\n", "", 1), "begins with its front matter"),
        (text.replace("tags:", "tags: [", 1), "is no YAML, in its line"),
        (text.replace("tags:", "made: 2026-02-31\ntags:", 1), "is no YAML"),
        ("---\n- a\n---\n", "a list of NAME: VALUE lines"),
        (text + "x" * 1_000_001, "shorten it"),
        (text.replace("tags:", "widget:\n- text: a\n  output: {url: ../../etc/passwd}\ntags:"), "is not a file of"),
        (text.replace("tags:", "widget:\n- text: a\n  output: {url: 'https://x/y.mp4'}\ntags:"), "is not a file of"),
    ):
        with pytest.raises(ConfigError, match=said):
            check_card(wrong, own)
    with pytest.raises(ConfigError, match="must have no base_model"):
        check_card(text, info("puppet-hunyuan"))


BOMB = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 17))


@pytest.mark.parametrize(
    ("front", "says"),
    [
        (BOMB, "line 3 has an alias, *a0: write out what it stands for"),
        ("a: &a [x]\nb: *a\n", "line 3 has an alias, *a"),
        ("a: {<<: {b: 1}}\n", "line 2 has a merge key, <<"),
        ("- a\n- {<<: [{b: 1}, {c: 1}]}\n", "line 3 has a merge key"),
        (f"a: {'1:' * 40_000}1\n", "has 80005 characters, at most 65536"),
        ("[" * 5000, "is no YAML"),
    ],
)
def test_a_card_that_would_never_be_read_to_its_end_is_refused_at_once(front: str, says: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ConfigError) as refused:
        check_card(f"---\n{front}\n---\nwords\n", info("puppet-hunyuan"))
    assert says in str(refused.value)
    assert time.monotonic() - begun < 5


def test_an_anchor_that_nobody_names_is_no_harm() -> None:
    assert read_front_matter("---\na: &a [off, 2]\n---\n") == {"a": [False, 2]}


def made(folder: Path, backbone: str, method: str, name: str = "wave", *, lora: bool = True, **changed: Any) -> Path:
    """An adapter file of a layer or two (of both experts, where there are two), or of a learnt word alone."""
    spec, entry = SPECS[backbone], METHODS[method]
    tensors = {"synmotion.word": torch.zeros(4)}
    if lora:
        targets, layers = family(spec).attention_targets(None), weightless_denoiser(spec).named_modules()
        found = {layer: module for layer, module in layers if re.fullmatch(targets, layer)}
        firsts = {layer.partition("blocks.")[0]: layer for layer in found}
        for layer in firsts.values():
            lead = f"{spec.denoiser}.{layer}.lora_"
            tensors[f"{lead}A.weight"] = torch.ones(1, found[layer].in_features)
            tensors[f"{lead}B.weight"] = torch.ones(found[layer].out_features, 1)
    own = info(backbone, method=method, mode=spec.modes[0], method_config=to_dict(entry.config()), **changed)
    path = folder / f"{name}.safetensors"
    save_adapter(path, tensors, own)
    return path


def picked(parcel: Parcel, folder: Path) -> str | None:
    """Which file of the repository diffusers takes, where it is told its name alone."""
    folder.mkdir()
    for file in parcel.files:
        if "/" not in file.name:
            shutil.copy(file.path, folder / file.name)
    return _best_guess_weight_name(str(folder))


@pytest.mark.parametrize("backbone", SPECS)
def test_use_this_model_loads_what_the_card_promises(backbone: str, tmp_path: Path) -> None:
    """Of every row and method, as a push sends it by default: diffusers picks a LoRA, or the card does not name it."""
    spec = SPECS[backbone]
    takes = spec.boundary_ratio is None and hasattr(family(spec).pipeline(spec), "load_lora_weights")
    for method, entry in METHODS.items():
        if why_incompatible(spec, method, entry.requires) is not None:
            continue
        lora = method != "textual_inversion"
        folder = tmp_path / method
        adapter = made(tmp_path, backbone, method, method, lora=lora)
        folder.mkdir()
        parcel = pack(adapter, "ann/wave", folder)
        front, name = read_front_matter(parcel.card), picked(parcel, tmp_path / f"{method} there")
        says = front.get("library_name") == "diffusers"
        assert says == (takes and lora and "base_model" in front), method
        assert ({"lora", "template:sd-lora"} <= set(front["tags"])) == says
        if says:
            assert name == "pytorch_lora_weights.safetensors"
            keys = load_file(tmp_path / f"{method} there" / name)
            assert keys
            assert all("lora" in key for key in keys)
            assert 'pipe.load_lora_weights("ann/wave", weight_name="pytorch_lora_weights.safetensors")' in parcel.card
        else:
            assert [file.name for file in parcel.files] == ["README.md", f"{method}.safetensors"]


@pytest.mark.parametrize("stem", ["pytorch_lora_weights", "my_pytorch_lora_weights", "wave-comfyui"])
def test_an_adapter_that_is_called_as_an_export_is_not_taken_for_one(stem: str, tmp_path: Path) -> None:
    adapter = made(tmp_path, "wan2.1-t2v-1.3b", "lora", stem)
    (tmp_path / "parcel").mkdir()
    parcel = pack(adapter, "ann/wave", tmp_path / "parcel")
    own = parcel.files[1].name
    assert [file.name for file in parcel.files] == ["README.md", own, "pytorch_lora_weights.safetensors"]
    assert own == f"{stem}.synmotion.safetensors"
    assert not made_before(own)
    assert f"--adapter {stem}.synmotion " in parcel.card
    assert picked(parcel, tmp_path / "there") == "pytorch_lora_weights.safetensors"


def test_what_is_sent_besides_can_be_chosen(tmp_path: Path) -> None:
    adapter = made(tmp_path, "wan2.1-t2v-1.3b", "lora")
    for formats, names in (([], []), (["comfyui"], ["wave-comfyui.safetensors"])):
        folder = tmp_path / str(len(formats))
        folder.mkdir()
        parcel = pack(adapter, "ann/wave", folder, formats=formats)
        assert [file.name for file in parcel.files] == ["README.md", "wave.safetensors", *names]
        assert "library_name" not in read_front_matter(parcel.card)
    (tmp_path / "own").mkdir()
    text = parcel.card.replace("pipeline_tag:", "library_name: diffusers\npipeline_tag:")
    with pytest.raises(ConfigError, match="says library_name: diffusers, but nothing beside the adapter is"):
        pack(adapter, "ann/wave", tmp_path / "own", card=text, formats=[])
    assert pack(adapter, "ann/wave", tmp_path / "own", card=text).card == text


def test_a_card_holds_the_word_that_training_read(tmp_path: Path) -> None:
    adapter = made(tmp_path, "wan2.1-t2v-1.3b", "dreambooth")
    (tmp_path / "parcel").mkdir()
    card = pack(adapter, "ann/wave", tmp_path / "parcel").card
    assert read_front_matter(card)["instance_prompt"] == "a person sks waves"
    assert "- words: a person | waves\n- read as: a person sks waves (" in card
    assert "need the method's own word: “a person sks waves”" in card
    assert "read as" not in model_card(info(), repo_id="ann/wave", file="wave.safetensors")
    with pytest.raises(AdapterError, match="settings that dreambooth does not know"):
        front_matter(info(method="dreambooth", method_config={"x": 1}))


def test_a_card_says_what_was_measured(tmp_path: Path) -> None:
    cache, folders = tmp_path / "cache", [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    assert (
        "without them the motion is weaker" in pack(SQUAT, "ann/s", folders[0], formats=["comfyui"], cache=cache).card
    )
    note_kept(cache, SQUAT, "low_noise", 0.1, [0.1])
    note_kept(cache, SQUAT, None, 0.6, [0.55, 0.62])
    card = pack(SQUAT, "ann/s", folders[1], formats=["comfyui"], cache=cache).card
    words = "it keeps 60% of what the whole adapter changes in the base's predictions (55% to 62% in 2 videos)"
    assert words in card
    assert "the motion is weaker" not in card
    note = next((cache / "kept").iterdir())
    for broken in ("[]", "no json", '{"": {"share": "x"}}', '{"": {"share": NaN, "low": 0, "high": 1, "videos": 2}}'):
        note.write_text(broken)
        assert kept(cache, SQUAT, None) is None


def test_a_parcel_is_all_that_leaves(tmp_path: Path) -> None:
    parcel = pack(SQUAT, "ann/squat", tmp_path, videos=[(CLIP, "a red cat squats")], formats=["diffusers", "comfyui"])
    assert [file.name for file in parcel.files] == [
        "README.md", "squat.safetensors", "videos/01.mp4", "pytorch_lora_weights.safetensors",
        "squat-comfyui.safetensors",
    ]  # fmt: skip
    assert all(file.path.stat().st_size == file.size > 0 for file in parcel.files)
    assert parcel.files[2].path.read_bytes() != CLIP.read_bytes(), "written anew: nothing that a camera noted travels"
    assert video.read(parcel.files[2].path)[0].shape == video.read(CLIP)[0].shape
    assert parcel.size == sum(file.size for file in parcel.files)
    assert (
        read_front_matter(parcel.card)["widget"]
        == front_matter(read_info(SQUAT), [Shown(file="videos/01.mp4", words="a red cat squats")])["widget"]
    )
    assert "`pytorch_lora_weights.safetensors` is its LoRA alone, in diffusers" in parcel.card
    assert "39 tensors of the adapter, its embeddings, are not in it" in parcel.card
    assert "are not in this repository" in parcel.card, "the clips"
    own = parcel.card.replace("for any subject", "by me")
    (tmp_path / "again").mkdir()
    assert pack(SQUAT, "ann/squat", tmp_path / "again", card=own).card == own


def test_what_cannot_be_shared_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(ClipError, match=r"a\.mp4"):
        pack(SQUAT, "ann/squat", tmp_path, videos=[(tmp_path / "a.mp4", "a cat")])
    with pytest.raises(ConfigError, match="up to 12 videos, got 13"):
        pack(SQUAT, "ann/squat", tmp_path, videos=[(CLIP, "a cat")] * 13)
    monkeypatch.setattr("synmotion_core.adapters.parcel.MAX_VIDEO_BYTES", 1000)
    with pytest.raises(ConfigError, match=r"squat-01\.mp4 has [\d,]+ bytes, a card's video at most 1,000"):
        pack(SQUAT, "ann/squat", tmp_path, videos=[(CLIP, "a cat")])
    assert not (tmp_path / "README.md").exists()
    assert video.probe(CLIP)
