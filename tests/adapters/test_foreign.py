"""LoRA of other programs on our backbones: every format gives the same adapter, and the adapter the same video."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from synmotion_core.adapters.convert import MADE_ELSEWHERE, convert
from synmotion_core.adapters.file import load_adapter
from synmotion_core.adapters.foreign import import_lora
from synmotion_core.adapters.foreign_names import original_layers
from synmotion_core.adapters.parcel import pack
from synmotion_core.backbones import find_spec, weightless
from synmotion_core.errors import AdapterError, ConfigError, IncompatibleError
from tests.adapters.foreign_files import STYLES, Lora, keys_of, random_loras, write_file
from tests.adapters.predictions import PROMPT, predict, puppet_loras
from tests.backbones.tiny import tiny_backbone
from tests.models import puppet_backbone

PUPPETS = find_spec("puppet-hunyuan")


def made(tmp_path: Path, loras: dict[str, Lora], style: str = "kohya", **more: Any) -> Path:
    return convert(
        [write_file(tmp_path / "theirs.safetensors", keys_of(loras, style))],
        PUPPETS,
        tmp_path / "ours.safetensors",
        prompt=PROMPT,
        **more,
    ).path


def add(weight: nn.Parameter, change: Tensor, rows: slice = slice(None)) -> None:
    with torch.no_grad():
        weight[rows] += change


@pytest.fixture
def by_hand() -> Iterator[None]:
    """The puppets' weights with the LoRAs added, cut by this test's own knowledge of q, k, v and the MLP."""
    backbone = puppet_backbone()
    model: Any = backbone.denoiser
    before = {k: v.clone() for k, v in model.state_dict().items()}
    width = model.config["num_attention_heads"] * model.config["attention_head_dim"]
    thirds = [slice(i * width, (i + 1) * width) for i in range(3)]
    delta = {n: (a / down.shape[0]) * up @ down for n, (down, up, a) in puppet_loras().items() if a}
    dual, single = model.transformer_blocks, model.single_transformer_blocks
    attn, refiner = dual[0].attn, model.context_embedder.token_refiner.refiner_blocks[0].attn
    for layer, rows in zip((attn.to_q, attn.to_k, attn.to_v), thirds, strict=True):
        add(layer.weight, delta["double_blocks.0.img_attn_qkv"][rows])
    for layer, rows in zip((attn.add_q_proj, attn.add_k_proj, attn.add_v_proj), thirds, strict=True):
        add(layer.weight, delta["double_blocks.0.txt_attn_qkv"][rows])
    for layer, rows in zip((refiner.to_q, refiner.to_k, refiner.to_v), thirds, strict=True):
        add(layer.weight, delta["txt_in.individual_token_refiner.blocks.0.self_attn_qkv"][rows])
    for layer, rows in zip(
        (single[0].attn.to_q, single[0].attn.to_k, single[0].attn.to_v, single[0].proj_mlp),
        (*thirds, slice(3 * width, None)),
        strict=True,
    ):
        add(layer.weight, delta["single_blocks.0.linear1"][rows])
    shift, scale = delta["final_layer.adaLN_modulation.1"].chunk(2)
    add(model.norm_out.linear.weight, torch.cat([scale, shift]))
    for name, layer in {
        "double_blocks.1.img_attn_proj": dual[1].attn.to_out[0],
        "double_blocks.0.img_mlp.fc1": dual[0].ff.net[0].proj,
        "double_blocks.1.txt_mlp.fc2": dual[1].ff_context.net[2],
        "double_blocks.0.img_mod.linear": dual[0].norm1.linear,
        "single_blocks.1.linear2": single[1].proj_out,
        "single_blocks.0.modulation.linear": single[0].norm.linear,
        "final_layer.linear": model.proj_out,
        "vector_in.in_layer": model.time_text_embed.text_embedder.linear_1,
    }.items():
        add(layer.weight, delta[name])
    yield
    model.load_state_dict(before)


@pytest.mark.parametrize("image", [False, True], ids=["from text", "from a picture"])
def test_fused_layers_split_exactly(tmp_path: Path, image: bool, request: pytest.FixtureRequest) -> None:
    backbone = puppet_backbone()
    base = predict(backbone, image=image)
    found = predict(backbone, made(tmp_path, puppet_loras()), image=image)
    assert torch.equal(predict(backbone, image=image), base), "detached without a trace"
    request.getfixturevalue("by_hand")
    expected = predict(backbone, image=image)
    assert (expected - base).abs().mean() > 1e-2
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("alpha", [1.5, None])
def test_every_format_is_the_same_adapter(tmp_path: Path, style: str, alpha: float | None) -> None:
    loras = puppet_loras(alpha)
    path = write_file(tmp_path / "theirs.safetensors", keys_of(loras, style))
    found, plain = import_lora(path, PUPPETS), import_lora(
        write_file(tmp_path / "plain.safetensors", keys_of(loras)), PUPPETS
    )  # fmt: skip
    keys = len(loras) * (2 if alpha is None else 3)
    assert found.report.summary == f"theirs.safetensors: {keys} of {keys} keys apply to puppet-hunyuan"
    assert found.modules == plain.modules
    assert found.tensors.keys() == plain.tensors.keys()
    assert all(torch.equal(found.tensors[k], plain.tensors[k]) for k in found.tensors)
    down, up, _ = loras["single_blocks.0.linear1"]
    parts = [f"single_transformer_blocks.0.{m}" for m in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")]
    assert all(torch.equal(found.tensors[f"transformer.{m}.lora_A.weight"], down) for m in parts)
    assert torch.equal(torch.cat([found.tensors[f"transformer.{m}.lora_B.weight"] for m in parts]), up)
    assert {found.modules[m] for m in parts} == {(down.shape[0], alpha or float(down.shape[0]))}
    assert list(found.report.alphas) == (["none"] if alpha is None else ["key"])


def test_the_file_says_what_it_is_and_keeps_types(tmp_path: Path) -> None:
    loras = {n: (a.bfloat16(), b.bfloat16(), alpha) for n, (a, b, alpha) in puppet_loras().items()}
    path = made(tmp_path, loras, mode="i2v")
    tensors, info = load_adapter(path, PUPPETS)
    assert {t.dtype for t in tensors.values()} == {torch.bfloat16}
    assert (info.method, info.subject, info.motion, info.mode) == ("lora", "a person", "waves", "i2v")
    assert (info.created_with, info.fingerprint, info.steps) == (MADE_ELSEWHERE, "", 0)
    with pytest.raises(IncompatibleError, match="'puppet-hunyuan' and cannot be used on 'hunyuanvideo'"):
        load_adapter(path, find_spec("hunyuanvideo"))


# ------------------------------------------------------------------------------------------------ Wan


WAN_NAMES = ("self_attn.q", "self_attn.o", "cross_attn.k", "cross_attn.v", "ffn.0", "ffn.2")
WAN_OURS = ("attn1.to_q", "attn1.to_out.0", "attn2.to_k", "attn2.to_v", "ffn.net.0.proj", "ffn.net.2")


def wan_change(model: Any, loras: dict[str, Lora]) -> None:
    """Add them to the weights of a Wan transformer."""
    for name, (down, up, alpha) in loras.items():
        block, _, layer = name.removeprefix("blocks.").partition(".")
        ours = WAN_OURS[WAN_NAMES.index(layer)]
        module = model.get_submodule(f"blocks.{block}.{ours}")
        add(module.weight, (down.shape[0] if alpha is None else alpha) / down.shape[0] * up @ down)


@pytest.mark.parametrize("style", ["kohya", "ComfyUI"])
def test_wan_takes_attention_and_ffn(tmp_path: Path, tiny_sizes: None, style: str) -> None:
    backbone = tiny_backbone("wan2.1-t2v-14b")
    layers = original_layers("wan", backbone.denoiser)
    loras = random_loras(layers, [f"blocks.{i}.{n}" for i in (0, 1) for n in WAN_NAMES], alpha=2.0)
    theirs = write_file(tmp_path / "wan.safetensors", keys_of(loras, style))
    done = convert([theirs], backbone.spec, tmp_path / "ours.safetensors", prompt=PROMPT)
    assert done.applied == 24
    base, found = predict(backbone), predict(backbone, done.path)
    before = copy.deepcopy(backbone.denoiser.state_dict())
    wan_change(backbone.denoiser, loras)
    expected = predict(backbone)
    backbone.denoiser.load_state_dict(before)
    assert (expected - base).abs().mean() > 1e-2
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("given", [("high_noise",), ("low_noise",), ("low_noise", "high_noise")])
def test_each_expert_has_its_file(tmp_path: Path, tiny_sizes: None, given: tuple[str, ...]) -> None:
    backbone = tiny_backbone("wan2.2-t2v-a14b")
    experts: Any = backbone.denoiser
    layers = original_layers("wan", experts.high_noise)
    files, loras = [], {}
    for k, expert in enumerate(given):
        loras[expert] = random_loras(layers, ["blocks.0.self_attn.q", "blocks.1.ffn.2"], alpha=2.0, seed=k)
        files.append(write_file(tmp_path / f"{expert}.safetensors", keys_of(loras[expert])))
    done = convert(files, backbone.spec, tmp_path / "ours.safetensors", prompt=PROMPT, experts=given)
    before = copy.deepcopy(experts.state_dict())
    base, found = predict(backbone), predict(backbone, done.path)
    for expert, own in loras.items():
        wan_change(getattr(experts, expert), own)
    expected = predict(backbone)
    experts.load_state_dict(before)
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))
    changed = [bool(row.abs().max() > 0) for row in found - base]
    assert changed == ["high_noise" in given, "low_noise" in given]
    parcel = pack(done.path, "ann/wave", tmp_path / "parcel", formats=["diffusers"])
    assert {name for name in ("high_noise", "low_noise") if any(name in one.name for one in parcel.files)} == set(given)


def test_experts_must_be_named(tmp_path: Path) -> None:
    path = write_file(tmp_path / "x.safetensors", keys_of(puppet_loras()))
    with pytest.raises(ConfigError, match="has two experts, say whose this file is: high_noise or low_noise"):
        import_lora(path, find_spec("wan2.2-t2v-a14b"))
    with pytest.raises(ConfigError, match="puppet-hunyuan has one transformer, no experts"):
        import_lora(path, PUPPETS, expert="high_noise")
    out = tmp_path / "out.safetensors"
    with pytest.raises(ConfigError, match="say one expert a file"):
        convert([path, path], find_spec("wan2.2-t2v-a14b"), out, prompt=PROMPT, experts=["low_noise", "low_noise"])
    with pytest.raises(ConfigError, match="has one transformer: give one file, got 2"):
        convert([path, path], PUPPETS, out, prompt=PROMPT)
    assert not out.exists()


# ------------------------------------------------------------------------------------------------ real sizes


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("hunyuanvideo-i2v", ("double_blocks.19.img_attn_qkv", "single_blocks.39.linear1", "single_blocks.0.linear2")),
        ("hunyuanvideo-1.5", ("double_blocks.53.img_attn_q", "double_blocks.0.txt_attn_qkv", "vision_in.proj.1")),
        ("wan2.1-t2v-1.3b", ("blocks.29.self_attn.q", "blocks.0.ffn.2")),
        ("wan2.2-ti2v-5b", ("blocks.29.self_attn.q", "blocks.0.ffn.2")),
    ],
)  # fmt: skip
def test_the_real_sizes_without_their_weights(tmp_path: Path, name: str, layers: tuple[str, ...]) -> None:
    spec = find_spec(name)
    table = original_layers(spec.family, weightless.weightless_denoiser(spec))
    theirs = write_file(tmp_path / "x.safetensors", keys_of(random_loras(table, layers, rank=1, alpha=1.0)))
    done = convert([theirs], spec, tmp_path / "ours.safetensors", prompt=PROMPT)
    assert done.applied == 2 * sum(len(table[layer].parts) for layer in layers)
    assert done.reports[0].applied == 3 * len(layers)


def test_another_size_is_another_model(tmp_path: Path) -> None:
    spec = find_spec("wan2.1-t2v-1.3b")
    table = original_layers("wan", weightless.weightless_denoiser(spec))
    theirs = write_file(tmp_path / "x.safetensors", keys_of(random_loras(table, ["blocks.0.self_attn.q"])))
    words = "is for a layer of 1536 inputs and 1536 outputs, that of wan2.1-t2v-14b has 5120 and 5120"
    with pytest.raises(AdapterError, match=words):
        import_lora(theirs, find_spec("wan2.1-t2v-14b"), ignore_unmatched=True)
