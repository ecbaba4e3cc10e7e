"""A save is read back: a file that lacks a key, holds a strange one or other values is found when it is written."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from synmotion_core.adapters import file as file_module
from synmotion_core.adapters import load_back as load_back_module
from synmotion_core.adapters.file import AdapterInfo, load_adapter, save_adapter
from synmotion_core.adapters.hub import applied_keys
from synmotion_core.adapters.load_back import Weightless, load_back
from synmotion_core.backbones import SPECS, find_spec, load_backbone
from synmotion_core.config import to_dict
from synmotion_core.errors import AdapterError, IncompatibleError, UserInputError
from synmotion_core.interfaces import why_incompatible
from synmotion_core.methods import METHODS, attention_lora, dual_embedding, find_method
from tests.adapters.predictions import PROMPT
from tests.models import PROMPTS, noisy, plain, puppet_backbone, shake

SPEC = find_spec("puppet-hunyuan")


@pytest.fixture(params=["synmotion", "lora"])
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """(path, entry, settings) of an adapter that was trained a little."""
    entry = find_method(request.param)
    config = entry.config(rank=2)
    method = entry.attach(puppet_backbone(), config, PROMPT)
    shake(dict(method.groups))  # type: ignore[arg-type]
    path = tmp_path / "x.safetensors"
    info = AdapterInfo(
        backbone=SPEC.name, repo=SPEC.repo, revision=None, fingerprint="", licence=SPEC.licence, method=entry.name,
        method_config=to_dict(config), subject="a person", motion="waves", steps=1,
    )  # fmt: skip
    save_adapter(path, method.state_dict(), info)
    method.detach()
    return path, entry, config


def test_every_key_applies_and_nothing_stays_behind(saved: Any) -> None:
    path, entry, config = saved
    backbone = puppet_backbone()
    x, s = noisy(backbone)
    text = plain(backbone.encode_prompt(PROMPTS))
    with torch.no_grad():
        before = backbone.predict(x, s, text)
        assert load_back(path, backbone, entry, config) == len(load_adapter(path, SPEC)[0])
        assert torch.equal(backbone.predict(x, s, text), before)


@pytest.mark.parametrize("where", ["weights", "no weights"])
@pytest.mark.parametrize("damage", ["missing", "unexpected", "misshapen"])
def test_a_save_that_does_not_load_is_found(saved: Any, damage: str, where: str) -> None:
    path, entry, config = saved
    tensors, info = load_adapter(path, SPEC)
    key = next(k for k in tensors if "lora_B" in k)
    if damage == "missing":
        del tensors[key]
    elif damage == "unexpected":
        tensors["transformer.strange.lora_B.weight"] = tensors[key].clone()
    else:
        tensors[key] = tensors[key][:, :1]
    save_adapter(path, tensors, info)
    backbone = puppet_backbone() if where == "weights" else Weightless(SPEC)
    with pytest.raises(AdapterError, match=rf"\d+ of \d+ keys apply; 1 {damage}"):
        load_back(path, backbone, entry, config)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_held_against_layers_alone(name: str, tmp_path: Path) -> None:
    """What a pull does: an adapter that a real backbone wrote applies where there are no weights."""
    entry = METHODS[name]
    spec = find_spec("puppet-unet3d" if why_incompatible(SPEC, name, entry.requires) else SPEC.name)
    backbone = load_backbone(spec.name, device="cpu")
    method = entry.attach(backbone, entry.config(), PROMPT)
    path, tensors = tmp_path / "x.safetensors", method.state_dict()
    info = AdapterInfo(
        backbone=spec.name, repo=spec.repo, revision=None, fingerprint="", licence=spec.licence, method=name,
        method_config=to_dict(entry.config()), subject="a person", motion="waves", steps=1,
    )  # fmt: skip
    save_adapter(path, tensors, info)
    method.detach()
    assert load_back(path, Weightless(spec), entry, entry.config()) == len(tensors)


def test_a_load_that_changes_values_is_found(saved: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path, entry, config = saved

    def forgetful(self: Any, state: Any) -> None:
        return None

    method = type(entry.attach(puppet_backbone(), config, PROMPT))
    puppet_backbone().denoiser.unload_lora()  # type: ignore[operator]
    monkeypatch.setattr(method, "load_state_dict", forgetful)
    with pytest.raises(AdapterError, match=r"was written, but read back \d+ of \d+ keys apply"):
        load_back(path, puppet_backbone(), entry, config)


def hostile(path: Path, method: str, config: dict[str, Any]) -> AdapterInfo:
    """A file of a few bytes whose settings are those of a large one."""
    info = AdapterInfo(
        backbone=SPEC.name, repo=SPEC.repo, revision=None, fingerprint="", licence=SPEC.licence, method=method,
        method_config=config, subject="a person", motion="waves", steps=1,
    )  # fmt: skip
    save_adapter(path, {"synmotion.x": torch.zeros(2)}, info)
    return info


@pytest.mark.parametrize(
    ("method", "config", "says"),
    [
        ("synmotion", {"refiner_width": 16384}, "refiner_width must be at most 2048, got 16384: use 2048"),
        ("synmotion", {"refiner_width": 2048, "refiner_layers": 8}, "settings of about 403,"),
        ("synmotion", {}, "and holds 2: it is not what its settings say"),
        ("lora", {"rank": 512}, "and holds 2:"),
        ("lora", {"modules": {"transformer_blocks.0.attn.to_q": [512, 1.0]}}, "and holds 2:"),
        ("synmotion", {"rank": 0, "modules": {"transformer_blocks.0.attn.to_q": [1, 1.0]}}, "and holds 2:"),
        ("lora", {"projections": "q" * 10**6}, "projections must be letters of 'qkvo', each once, got 'qqqqq"),
    ],
)
def test_settings_that_would_make_more_than_a_file_holds_are_refused_first(
    method: str, config: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*args: Any, **more: Any) -> None:
        raise AssertionError("nothing is made of it, and no tensor read")

    monkeypatch.setattr(dual_embedding.DualEmbedding, "__init__", nothing)
    monkeypatch.setattr(attention_lora.AttentionLora, "__init__", nothing)
    monkeypatch.setattr(load_back_module, "check_seal", nothing)
    path = tmp_path / "small.safetensors"
    info = hostile(path, method, config)
    with pytest.raises(UserInputError) as refused:
        applied_keys(path, info, path.name)
    assert says in str(refused.value)


def test_the_loosest_estimate_refuses_no_adapter_of_ours(tmp_path: Path) -> None:
    entry = find_method("lora")
    config = entry.config(rank=2, projections="o")
    backbone = puppet_backbone()
    method = entry.attach(backbone, config, PROMPT)
    path = tmp_path / "o.safetensors"
    info = dataclasses.replace(hostile(path, "lora", {}), method_config=to_dict(config))
    save_adapter(path, method.state_dict(), info)
    method.detach()
    assert applied_keys(path, info, path.name) == len(load_adapter(path, SPEC)[0])


def test_names_and_shapes_are_compared_before_a_tensor_is_read(saved: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path, entry, config = saved
    tensors, info = load_adapter(path, SPEC)
    key = next(k for k in tensors if "lora_B" in k)
    save_adapter(path, {**tensors, key: tensors[key][:, :1]}, info)
    read: list[Path] = []
    monkeypatch.setattr(load_back_module, "check_seal", read.append)
    monkeypatch.setattr(file_module, "read_tensors", read.append)
    with pytest.raises(AdapterError, match="1 misshapen"):
        load_back(path, Weightless(SPEC), entry, config)
    assert read == []
    save_adapter(path, tensors, info)
    assert load_back(path, Weightless(SPEC), entry, config) == len(tensors)
    assert read == [path], "one that fits is read, tensor by tensor"


@pytest.mark.parametrize("where", ["first", "last"])
def test_a_damaged_byte_is_found_without_weights(saved: Any, where: str) -> None:
    path, entry, config = saved
    data = bytearray(path.read_bytes())
    data[-1 if where == "last" else int.from_bytes(data[:8], "little") + 8] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(AdapterError, match="its contents do not match its seal"):
        load_back(path, Weightless(SPEC), entry, config)
    path.write_bytes(bytes(data[:-1]))
    with pytest.raises(AdapterError, match="is damaged"):
        load_back(path, Weightless(SPEC), entry, config)


@pytest.mark.parametrize("name", [n for n in SPECS if n != "puppet-hunyuan"])
def test_one_familys_adapter_is_refused_by_the_others(saved: Any, name: str) -> None:
    path, entry, config = saved
    other = dataclasses.replace(SPEC, name=name)
    with pytest.raises(IncompatibleError, match=f"'puppet-hunyuan' and cannot be used on '{name}'"):
        load_back(path, Weightless(other), entry, config)
