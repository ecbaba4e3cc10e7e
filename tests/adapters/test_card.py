"""The page of an adapter on the Hub: what machines read of it, what people may change, and nothing that is markup."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from synmotion_core.adapters.card import TAG, Shown, check_card, front_matter, model_card, read_front_matter
from synmotion_core.adapters.file import AdapterInfo, read_info
from synmotion_core.adapters.parcel import pack
from synmotion_core.backbones import SPECS
from synmotion_core.clips import video
from synmotion_core.errors import ClipError, ConfigError

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
    assert found["library_name"] == "diffusers"
    assert found["pipeline_tag"] == {"t2v": "text-to-video", "i2v": "image-to-video"}[mode]
    assert found["instance_prompt"] == "a person waves"
    assert {TAG, "lora", "template:sd-lora"} <= set(found["tags"])
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
