"""A save is read back: a file that lacks a key, holds a strange one or other values is found when it is written."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from synmotion_core.adapters.file import AdapterInfo, load_adapter, save_adapter
from synmotion_core.adapters.load_back import Weightless, load_back
from synmotion_core.backbones import SPECS, find_spec, load_backbone
from synmotion_core.config import to_dict
from synmotion_core.errors import AdapterError, IncompatibleError
from synmotion_core.interfaces import why_incompatible
from synmotion_core.methods import METHODS, find_method
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


@pytest.mark.parametrize("name", [n for n in SPECS if n != "puppet-hunyuan"])
def test_one_familys_adapter_is_refused_by_the_others(saved: Any, name: str) -> None:
    path, entry, config = saved
    other = dataclasses.replace(SPEC, name=name)
    with pytest.raises(IncompatibleError, match=f"'puppet-hunyuan' and cannot be used on '{name}'"):
        load_back(path, Weightless(other), entry, config)
