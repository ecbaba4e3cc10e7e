"""The adapter file: there and back, versions, foreign files, wrong backbones, hostile metadata."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from synmotion_core.adapters.file import AdapterInfo, load_adapter, read_info, save_adapter
from synmotion_core.backbones import find_spec
from synmotion_core.errors import AdapterError, IncompatibleError
from synmotion_core.storage import write_tensors

SPEC = find_spec("puppet-hunyuan")
INFO = AdapterInfo(
    backbone="puppet-hunyuan",
    repo="assets:puppet-hunyuan",
    revision=None,
    fingerprint="puppet-hunyuan@0",
    licence="apache-2.0",
    method="lora",
    method_config={"rank": 2},
    subject="a person",
    motion="waves",
    steps=40,
    clips=12,
)
TENSORS = {"transformer.a.lora_A.weight": torch.randn(2, 4)}


def test_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "wave é.safetensors"
    save_adapter(path, TENSORS, INFO)
    tensors, info = load_adapter(path, SPEC)
    assert info == INFO == read_info(path)
    assert torch.equal(tensors["transformer.a.lora_A.weight"], TENSORS["transformer.a.lora_A.weight"])


def test_a_file_of_before_the_modes_is_text_to_video(tmp_path: Path) -> None:
    assert read_info(_with(tmp_path / "old.safetensors", mode=...)).mode == "t2v"
    assert read_info(_with(tmp_path / "new.safetensors", mode="i2v")).mode == "i2v"


def test_another_backbone_is_refused_naming_both(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_adapter(path, TENSORS, dataclasses.replace(INFO, backbone="hunyuanvideo"))
    with pytest.raises(IncompatibleError, match="'hunyuanvideo' and cannot be used on 'puppet-hunyuan'"):
        load_adapter(path, SPEC)


def _with(path: Path, **changes: Any) -> Path:
    values = {"format": 1, **dataclasses.asdict(INFO), **changes}
    write_tensors(path, TENSORS, {"synmotion": json.dumps({k: v for k, v in values.items() if v is not ...})})
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "has format 2, this version reads up to 1"),
        ({"format": "x"}, "not a version number"),
        ({"mode": "v2v"}, "its mode 'v2v' is neither t2v nor i2v"),
        ({"mode": ["i2v"]}, "not short text"),
        ({"motion": ...}, "lacks motion"),
        ({"motion": 7}, "not short text"),
        ({"subject": "x" * 10_000}, "not short text"),
        ({"method_config": [1]}, "wrong kind"),
    ],
)
def test_metadata_that_cannot_be_right(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(AdapterError, match=words):
        read_info(_with(tmp_path / "x.safetensors", **changes))


def test_a_foreign_lora_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, {"format": "pt"})
    with pytest.raises(AdapterError, match="is not a SynMotion adapter"):
        load_adapter(path, SPEC)


def test_unknown_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_adapter(path, {**TENSORS, "vae.w": torch.zeros(1)}, INFO)
    with pytest.raises(AdapterError, match=r"unknown tensor 'vae\.w'"):
        load_adapter(path, SPEC)
