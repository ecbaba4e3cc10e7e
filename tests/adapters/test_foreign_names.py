"""Names of other programs: diffusers' own converters agree, nothing is left over, nothing is guessed."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
import torch
from diffusers.loaders import lora_conversion_utils as diffusers_own
from torch import nn

from synmotion_core.adapters.foreign_names import known_layers, original_layers, to_comfy
from synmotion_core.backbones import SPECS
from synmotion_core.backbones.weightless import weightless_denoiser
from synmotion_core.errors import IncompatibleError


@cache
def transformer(name: str) -> nn.Module:
    """The real one's layers, without weights; of two experts one."""
    denoiser = weightless_denoiser(SPECS[name])
    return denoiser if SPECS[name].boundary_ratio is None else denoiser.get_submodule("high_noise")


def linear(name: str) -> dict[str, nn.Linear]:
    return {n: m for n, m in transformer(name).named_modules() if isinstance(m, nn.Linear)}


@pytest.mark.parametrize("name", SPECS)
def test_every_linear_layer_has_a_name_of_the_models_own(name: str) -> None:
    found = original_layers(SPECS[name].family, transformer(name))
    parts = [part for layer in found.values() for part in layer.parts]
    assert {part.module for part in parts} == set(linear(name))
    for layer in found.values():
        rows = sorted(r for part in layer.parts for r in part.rows)
        assert [start for start, _ in rows] == [0, *(end for _, end in rows[:-1])], "cut without gaps"
        assert rows[-1][1] == layer.outputs
        for part in layer.parts:
            module = linear(name)[part.module]
            assert sum(end - start for start, end in part.rows) == module.out_features
            assert layer.inputs == module.in_features


@pytest.mark.parametrize("name", SPECS)
def test_no_name_stands_for_two_layers(name: str) -> None:
    table, found = known_layers(SPECS[name].family, transformer(name)), original_layers(
        SPECS[name].family, transformer(name)
    )  # fmt: skip
    for own, layer in found.items():
        for theirs in (own, to_comfy(own), own.replace(".", "_"), to_comfy(own).replace(".", "_")):
            assert table[theirs] == layer, theirs
    for own, module in linear(name).items():
        for theirs in (own, own.replace(".", "_")):
            assert [p.module for p in table[theirs].parts] == [own]
            assert table[theirs].outputs == module.out_features


def test_an_underscored_name_of_two_layers_is_nobodys() -> None:
    model = nn.ModuleDict({"blocks": nn.ModuleDict({"0_a": nn.Linear(2, 2)}), "blocks_0": nn.ModuleDict()})
    model["blocks_0"]["a"] = nn.Linear(2, 2)  # type: ignore[index]
    assert set(known_layers("wan", model)) == {"blocks.0_a", "blocks_0.a"}


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(IncompatibleError, match="'cogvideox' is not known"):
        original_layers("cogvideox", nn.Linear(2, 2))


def ours(name: str, key: str, up: torch.Tensor) -> dict[str, torch.Tensor]:
    """Our layers in the layer called `key`, each with its rows of `up`."""
    layer = known_layers(SPECS[name].family, transformer(name))[key]
    assert up.shape[0] == layer.outputs
    return {part.module: torch.cat([up[a:b] for a, b in part.rows]) for part in layer.parts}


def test_hunyuan_is_cut_as_diffusers_cuts_it() -> None:
    """Its converter for the model's own names, on every layer of the first blocks at the real size. It also cuts A of
    the token refiner's fused layer, so there only B is compared."""
    name = "hunyuanvideo"
    for key, layer in original_layers("hunyuan_video", transformer(name)).items():
        if re.search(r"blocks\.[1-9]", key):
            continue  # as the first
        up = torch.randn(layer.outputs, 1)
        theirs: dict[str, Any] = diffusers_own._convert_hunyuan_video_lora_to_diffusers({f"{key}.lora_B.weight": up})
        found = {f"transformer.{module}.lora_B.weight": rows for module, rows in ours(name, key, up).items()}
        assert found.keys() == theirs.keys(), key
        assert all(torch.equal(found[k], theirs[k]) for k in found), key


@pytest.mark.parametrize("name", ["wan2.1-t2v-1.3b", "wan2.2-i2v-a14b"])
def test_wan_goes_where_diffusers_puts_it(name: str) -> None:
    layers = {
        k: layer for k, layer in original_layers("wan", transformer(name)).items() if not k.startswith("blocks.1")
    }
    up = {k: torch.randn(layer.outputs, 1) for k, layer in layers.items()}
    state = {f"diffusion_model.{k}.lora_B.weight": u for k, u in up.items()}
    state |= {f"diffusion_model.{k}.lora_A.weight": torch.randn(1, layers[k].inputs) for k in up}
    theirs = diffusers_own._convert_non_diffusers_wan_lora_to_diffusers(dict(state))
    found = {f"transformer.{m}.lora_B.weight": rows for k, u in up.items() for m, rows in ours(name, k, u).items()}
    for key in found:
        assert torch.equal(found[key], theirs[key]), key
    assert {k.replace("lora_A", "lora_B") for k in theirs} == found.keys()


def test_hunyuan_15_is_called_as_its_conversion_script_says() -> None:
    """diffusers has no converter for its LoRA files; ComfyUI holds fused what the model's own weights hold apart."""
    table = known_layers("hunyuan_video15", transformer("hunyuanvideo-1.5"))
    for theirs, modules in {
        "double_blocks.53.img_attn_q": ["transformer_blocks.53.attn.to_q"],
        "double_blocks.0.txt_attn_v": ["transformer_blocks.0.attn.add_v_proj"],
        "double_blocks.0.txt_mlp.fc2": ["transformer_blocks.0.ff_context.net.2"],
        "double_blocks.7.img_attn.qkv": [f"transformer_blocks.7.attn.to_{x}" for x in "qkv"],
        "double_blocks_7_txt_attn_qkv": [f"transformer_blocks.7.attn.add_{x}_proj" for x in "qkv"],
        "txt_in.individual_token_refiner.blocks.1.mlp.fc1": [
            "context_embedder.token_refiner.refiner_blocks.1.ff.net.0.proj"
        ],
        "byt5_in.fc3": ["context_embedder_2.linear_3"],
        "time_in.in_layer": ["time_embed.timestep_embedder.linear_1"],
        "vision_in.proj.3": ["image_embedder.linear_2"],
    }.items():
        assert [part.module for part in table[theirs].parts] == modules
