"""Adapters that change what is made of the text's tokens alone: never the video's, on every family."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from synmotion_core.adapters.export import export, usual_formats
from synmotion_core.adapters.file import AdapterInfo, save_adapter
from synmotion_core.adapters.load_back import Weightless, load_back
from synmotion_core.backbones import SPECS
from synmotion_core.backbones.attention import attention_for
from synmotion_core.errors import AdapterError, ConfigError
from synmotion_core.methods.synmotion import SynMotion, SynMotionConfig, SynMotionEntry
from synmotion_core.precision import weights_of
from synmotion_core.stacking import SECOND, attaching
from tests.backbones.tiny import tiny_backbone
from tests.models import PROMPTS, noisy, puppet_backbone, shake

FAMILIES = (
    "puppet-hunyuan", "hunyuanvideo", "hunyuanvideo-1.5", "wan2.1-t2v-1.3b", "wan2.2-t2v-a14b", "zeroscope-v2-576w",
)  # fmt: skip
SHARED = {"puppet-hunyuan", "hunyuanvideo"}  # with blocks that see both


def made(name: str) -> Any:
    return puppet_backbone() if name == "puppet-hunyuan" else tiny_backbone(name)


def attach(backbone: Any, **given: Any) -> SynMotion:
    method = SynMotionEntry().attach(backbone, SynMotionConfig(**{"stream": "text", "rank": 4, **given}), PROMPTS[0])
    shake({"adapters": list(method.groups["adapters"])}, seed=3)
    return method


def predicted(backbone: Any, method: SynMotion | None) -> Any:
    x, s = noisy(backbone, batch=2)[0], torch.tensor([0.99, 0.2])  # of two experts one each
    text = backbone.encode_prompt(PROMPTS)
    condition = text.as_condition() if method is None else method.condition(text)
    return backbone.predict(x, s, dataclasses.replace(condition, guidance=backbone.spec.embedded_guidance))


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_made_of_the_videos_tokens_stays_the_bases(name: str) -> None:
    backbone = made(name)
    base = predicted(backbone, None)
    method = attach(backbone)
    tokens: dict[str, tuple[int, int]] = {}  # seen, changed by the adapter

    def watch(layer: str) -> Any:
        def seen(module: Any, args: Any, output: Any) -> None:
            with torch.no_grad():
                changed = (output - module.base_layer(args[0])).flatten(0, -3).abs().sum(-1).amax(0) > 0
            tokens[layer] = (len(changed), int(changed.sum()))
            first = int(changed.nonzero()[0]) if changed.any() else len(changed)
            assert not changed[:first].any()
            assert changed[first:].all(), "the text's tokens, all of them, are the last"

        return seen

    assert method.lora is not None
    hooks = [layer.register_forward_hook(watch(n)) for n, layer in method.lora.layers.items()]
    with torch.no_grad():
        changed = predicted(backbone, method)
    for hook in hooks:
        hook.remove()
    assert set(tokens) == set(method.lora.layers), "every layer was at work"
    text = method.backbone.encode_prompt(PROMPTS).prompt_embeds.shape[1]
    mixed = {n: pair for n, pair in tokens.items() if pair[0] != pair[1]}
    assert bool(mixed) == (name in SHARED)
    assert all(pair[1] <= max(text, 512) < pair[0] or pair[1] < pair[0] for pair in mixed.values())
    assert not torch.allclose(changed, base, atol=1e-4), "and yet the video is another"
    method.detach()
    assert torch.equal(predicted(backbone, None), base)


@pytest.mark.parametrize("name", sorted(SHARED))
def test_gradients_are_the_same_with_checkpoints(name: str) -> None:
    backbone = made(name)
    method = attach(backbone)
    found = []
    for checkpointed in (False, True):
        if checkpointed:
            backbone.denoiser.enable_gradient_checkpointing()
            backbone.denoiser.train()
        try:
            for p in method.groups["adapters"]:
                p.requires_grad_(True)
                p.grad = None
            with attention_for(backbone.device):
                predicted(backbone, method).square().mean().backward()
            found.append([p.grad.clone() for p in method.groups["adapters"]])
        finally:
            backbone.denoiser.disable_gradient_checkpointing()
            backbone.denoiser.eval()
    assert any(g.abs().sum() > 0 for g in found[0])
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(plain, again)
    method.detach()


def test_beside_an_adapter_of_all_streams_each_keeps_to_its_own() -> None:
    backbone = puppet_backbone()
    alone = []
    for stream in ("text", "all"):
        one = attach(backbone, stream=stream)
        alone.append(predicted(backbone, one))
        one.detach()
    first = attach(backbone)
    with attaching(SECOND):
        other = attach(backbone, stream="all")
    for at_work, idle, wanted in ((first, other, alone[0]), (other, first, alone[1])):
        idle.set_strength(0.0)
        at_work.set_strength(1.0)
        assert torch.equal(predicted(backbone, at_work), wanted)
    other.detach()
    first.detach()
    assert not torch.equal(*alone)


def kept(folder: Path, name: str, **given: Any) -> Path:
    backbone = made(name)
    config = {"stream": "text", "rank": 4, **given}
    method = attach(backbone, **given)
    spec = SPECS[name]
    info = AdapterInfo(
        backbone=name, repo=spec.repo, revision=spec.revision, fingerprint=weights_of(backbone.fingerprint),
        licence=spec.licence, method="synmotion", method_config=config, subject="a person", motion="waves", steps=1,
    )  # fmt: skip
    path = folder / "wave.safetensors"
    save_adapter(path, method.state_dict(), info)
    method.detach()
    return path


def test_a_lora_file_cannot_say_it_of_layers_that_see_both(tmp_path: Path) -> None:
    path = kept(tmp_path, "puppet-hunyuan")
    assert usual_formats(path) == ()
    with pytest.raises(
        AdapterError, match=r"works on the text's tokens alone \(stream text\), on puppet-hunyuan in la"
    ):
        export(path, tmp_path / "out.safetensors")


@pytest.mark.parametrize("name", ["puppet-hunyuan", "zeroscope-v2-576w"])
def test_a_strangers_file_of_it_is_taken(name: str, tmp_path: Path) -> None:
    """Held against the layers of the text alone, which are a few of all."""
    backbone = made(name)
    config = SynMotionConfig(stream="text", rank=4)
    path = kept(tmp_path, name)
    assert load_back(path, backbone, SynMotionEntry(), config)
    if name == "puppet-hunyuan":
        assert load_back(path, Weightless(SPECS[name]), SynMotionEntry(), config)


def test_it_chooses_its_layers_itself() -> None:
    with pytest.raises(ConfigError, match="stream text chooses layers itself"):
        SynMotionConfig(stream="text", modules={"a": (1, 1.0)})
