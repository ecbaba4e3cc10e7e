"""What we write for other programs: diffusers loads it and computes the same; ComfyUI's names come back as ours."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from synmotion_core import cli
from synmotion_core.adapters import export as module
from synmotion_core.adapters.convert import convert
from synmotion_core.adapters.export import export
from synmotion_core.adapters.file import AdapterInfo, load_adapter, save_adapter
from synmotion_core.adapters.foreign import import_lora
from synmotion_core.adapters.foreign_names import original_layers
from synmotion_core.backbones import find_spec, weightless
from synmotion_core.config import to_dict
from synmotion_core.errors import AdapterError, ConfigError
from synmotion_core.interfaces import Backbone
from synmotion_core.methods import find_method
from synmotion_core.storage import read_metadata, read_tensors
from tests.adapters.foreign_files import keys_of, random_loras, write_file
from tests.adapters.predictions import PROMPT, SIGMAS, predict, puppet_loras
from tests.backbones.tiny import tiny_backbone
from tests.models import PROMPTS, noisy, puppet_backbone, shake

SQUAT = Path(__file__).parents[2] / "assets" / "adapters" / "squat.safetensors"


def trained(path: Path, backbone: Backbone, method: str = "lora", **settings: Any) -> Path:
    """An adapter file as a training leaves it, with weights that do something."""
    entry = find_method(method)
    config = entry.config(**settings)
    own = entry.attach(backbone, config, PROMPT)
    shake(dict(own.groups))  # type: ignore[arg-type]
    spec = backbone.spec
    info = AdapterInfo(
        backbone=spec.name, repo=spec.repo, revision=None, fingerprint="", licence=spec.licence, method=method,
        method_config=to_dict(config), subject="a person", motion="waves", steps=1,
    )  # fmt: skip
    save_adapter(path, own.state_dict(), info)
    own.detach()
    return path


def as_diffusers_does(backbone: Any, path: Path, **more: Any) -> Tensor:
    """What the stock pipeline's own loader makes of a file."""
    x, text = noisy(backbone)[0], backbone.encode_prompt(PROMPTS)
    if hasattr(backbone.pipe, "load_lora_weights"):
        backbone.pipe.load_lora_weights(str(path.parent), weight_name=path.name, use_safetensors=True, **more)
    else:
        backbone.pipe.transformer.load_lora_adapter(str(path.parent), weight_name=path.name, use_safetensors=True)
    try:
        with torch.no_grad():
            return backbone.predict(x, SIGMAS, text.as_condition())
    finally:
        for part in ("transformer", "transformer_2"):
            if getattr(backbone.pipe, part, None) is not None:
                getattr(backbone.pipe, part).unload_lora()


def close(found: Tensor, expected: Tensor, base: Tensor) -> None:
    assert (expected - base).abs().mean() > 1e-3
    assert torch.allclose(found, expected, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("puppet-hunyuan", {"rank": 4, "lora_alpha": 6.0}),
        ("wan2.1-t2v-1.3b", {"rank": 3, "lora_alpha": 30.0, "projections": "qk"}),
        ("wan2.2-ti2v-5b", {"rank": 2, "lora_alpha": 2.0}),
        ("hunyuanvideo-1.5", {"rank": 3, "lora_alpha": 10.0}),
    ],
)
def test_diffusers_loads_it_and_computes_the_same(
    tmp_path: Path,
    tiny_sizes: None,
    name: str,
    settings: dict[str, Any],
) -> None:
    backbone = puppet_backbone() if name == "puppet-hunyuan" else tiny_backbone(name)
    adapter = trained(tmp_path / "ours.safetensors", backbone, **settings)
    done = export(adapter, tmp_path / "theirs.safetensors")
    assert done.left == ()
    base = predict(backbone)
    close(as_diffusers_does(backbone, done.path), predict(backbone, adapter), base)
    assert torch.equal(predict(backbone), base)


def test_ranks_and_alphas_of_their_own_travel(tmp_path: Path) -> None:
    """Through PEFT's patterns: layers of three ranks, some of whose names others end with."""
    backbone = puppet_backbone()
    theirs = write_file(tmp_path / "theirs.safetensors", keys_of(puppet_loras()))
    adapter = convert([theirs], backbone.spec, tmp_path / "ours.safetensors", prompt=PROMPT).path
    done = export(adapter, tmp_path / "again.safetensors")
    close(as_diffusers_does(backbone, done.path), predict(backbone, adapter), predict(backbone))


def of_rank(path: Path, alpha: float, dtype: torch.dtype, rank: int = 4) -> Path:
    """The puppets' adapter of one type, as a file from elsewhere leaves it."""
    theirs = random_loras(LAYERS, ["double_blocks.1.img_attn_proj", "single_blocks.0.linear1"], rank=rank, alpha=alpha)
    typed = {name: (a.to(dtype), b.to(dtype), alpha) for name, (a, b, alpha) in theirs.items()}
    file = write_file(path.with_name(f"theirs-{path.name}"), keys_of(typed))
    return convert([file], puppet_backbone().spec, path, prompt=PROMPT).path


LAYERS = original_layers("hunyuan_video", weightless.weightless_denoiser(find_spec("puppet-hunyuan")))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("alpha", [128.0, 1.5])  # scales of 32 and 3/8, and of others for layers of rank 5
def test_whoever_reads_no_header_scales_as_we_do(tmp_path: Path, alpha: float, dtype: torch.dtype) -> None:
    adapter = of_rank(tmp_path / "ours.safetensors", alpha, dtype)
    done = export(adapter, tmp_path / "theirs.safetensors")
    (theirs, header), (ours, info) = read_tensors(done.path), load_adapter(adapter, puppet_backbone().spec)
    said = "alpha / rank is multiplied into B, and the adapter's own type"
    assert done.dtype == (
        "" if dtype == torch.float32 else f"its tensors are float32: {said}, {NAMES[dtype]}, would round it"
    )
    assert {t.dtype for t in theirs.values()} == {torch.float32}
    for name, pair in info.method_config["modules"].items():
        found = change(theirs, name, (1, 1.0))
        torch.testing.assert_close(found, change(ours, name, tuple(pair)), rtol=1e-5, atol=1e-5)
        assert torch.equal(
            theirs[f"transformer.{name}.lora_A.weight"], ours[f"transformer.{name}.lora_A.weight"].float()
        )
    settings = json.loads(header["lora_adapter_metadata"])
    assert settings["transformer.r"] == settings["transformer.lora_alpha"]
    assert {(rank, alpha) for rank, alpha in import_lora(done.path, puppet_backbone().spec).modules.values()} == {
        (4, 4.0),
        (5, 5.0),
    }


NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


def test_a_scale_that_rounds_nothing_keeps_the_type(tmp_path: Path) -> None:
    """A power of two, and alpha = rank, where the file has the adapter's very tensors."""
    for alpha, rank in ((8.0, 4), (4.0, 4)):
        path = tmp_path / f"{alpha:g}.safetensors"
        one = random_loras(LAYERS, ["double_blocks.1.img_attn_proj"], rank=rank, alpha=alpha)
        typed = {name: (a.bfloat16(), b.bfloat16(), own) for name, (a, b, own) in one.items()}
        file = write_file(tmp_path / "theirs.safetensors", keys_of(typed))
        adapter = convert([file], puppet_backbone().spec, path, prompt=PROMPT).path
        done = export(adapter, tmp_path / f"out-{path.name}")
        ours, theirs = load_adapter(adapter, puppet_backbone().spec)[0], read_tensors(done.path)[0]
        assert done.dtype == ""
        assert {t.dtype for t in theirs.values()} == {torch.bfloat16}
        key = "transformer.transformer_blocks.1.attn.to_out.0.lora_B.weight"
        assert torch.equal(theirs[key], ours[key] * (alpha / rank))


@pytest.mark.parametrize("format", ["diffusers", "comfyui"])
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
def test_the_type_that_was_asked_for(
    format: str, dtype: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter, out = of_rank(tmp_path / "ours.safetensors", 1.5, torch.float32), tmp_path / "out.safetensors"
    assert cli.main(["export", str(adapter), "--out", str(out), "--format", format, "--dtype", dtype]) == cli.OK
    name = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}[dtype]
    own = "" if dtype == "fp32" else "; the adapter's are float32"
    assert f"its tensors are {name}, as asked{own}" in capsys.readouterr().err.splitlines()
    theirs = read_tensors(out)[0]
    assert {str(t.dtype) for t in theirs.values() if t.ndim == 2} == {f"torch.{name}"}
    back, ours = import_lora(out, puppet_backbone().spec), load_adapter(adapter, puppet_backbone().spec)[0]
    for module_name, pair in back.modules.items():
        expected = change(ours, module_name, (pair[0], 1.5))
        torch.testing.assert_close(change(back.tensors, module_name, pair), expected, rtol=0.02, atol=0.02)


def test_values_beyond_a_type_are_refused(tmp_path: Path) -> None:
    adapter = of_rank(tmp_path / "ours.safetensors", 4e5, torch.float32)
    with pytest.raises(AdapterError, match="holds values beyond fp16: choose bf16 or fp32"):
        export(adapter, tmp_path / "x.safetensors", dtype="fp16")
    with pytest.raises(ConfigError, match="there is no dtype 'fp8', there are bf16, fp16, fp32"):
        export(adapter, tmp_path / "x.safetensors", dtype="fp8")
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.parametrize("format", ["diffusers", "comfyui"])
def test_the_header_says_what_it_is(format: Any, tmp_path: Path) -> None:
    adapter = trained(tmp_path / "my-wave.safetensors", puppet_backbone(), "dreambooth", rank=2, identifier="zwx")
    done = export(adapter, tmp_path / "out.safetensors", format=format)
    header = read_metadata(done.path)
    origin = "huggingface/diffusers" if format == "diffusers" else "Tencent/HunyuanVideo"
    assert {k.removeprefix("modelspec."): v for k, v in header.items() if k.startswith("modelspec.")} == {
        "sai_model_spec": "1.0.0",
        "architecture": "hunyuan-video/lora",
        "implementation": f"https://github.com/{origin}",
        "title": "my-wave",
        "description": f"“waves”, learnt from a person: a motion for {puppet_backbone().spec.title}",
        "date": header["modelspec.date"],
        "license": puppet_backbone().spec.licence,
        "usage_hint": "Trigger words: zwx waves. Prompt, with any subject: a person zwx waves",
    }
    date = datetime.fromisoformat(header["modelspec.date"].replace("Z", "+00:00"))  # Python 3.10 reads no Z
    assert date.timestamp() == int(adapter.stat().st_mtime)
    assert header["ss_output_name"] == "my-wave"
    again = export(adapter, tmp_path / "again.safetensors", format=format)
    assert read_metadata(again.path) == header


@pytest.mark.parametrize("expert", ["high_noise", "low_noise"])
def test_a_file_for_each_expert(tmp_path: Path, tiny_sizes: None, expert: str) -> None:
    backbone = tiny_backbone("wan2.2-t2v-a14b")
    adapter = trained(tmp_path / "ours.safetensors", backbone, rank=2, lora_alpha=3.0)
    with pytest.raises(ConfigError, match="has two experts and other programs take a file for each"):
        export(adapter, tmp_path / "x.safetensors")
    done = export(adapter, tmp_path / "x.safetensors", expert=expert)
    second = expert == "low_noise"
    about = read_metadata(done.path)
    assert about["modelspec.title"] == f"ours ({expert.replace('_', ' ')})"
    assert about["modelspec.architecture"] == "wan2.1/lora"
    assert ("load_into_transformer_2=True" in done.usage) == second
    base, both = predict(backbone), predict(backbone, adapter)
    found = as_diffusers_does(backbone, done.path, load_into_transformer_2=second)
    row = int(second)  # SIGMAS: the first is the high-noise expert's
    close(found[row], both[row], base[row])
    assert torch.equal(found[1 - row], base[1 - row])


def test_the_rest_of_a_synmotion_adapter_does_not_travel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "theirs.safetensors"
    assert cli.main(["export", str(SQUAT), "--out", str(out)]) == cli.OK
    printed, said = capsys.readouterr()
    assert printed.strip() == str(out)
    assert "warning: this adapter's embeddings do not travel" in said
    assert "keys apply" in said
    assert 'pipe.load_lora_weights(".", weight_name="theirs.safetensors")' in said
    tensors, info = load_adapter(SQUAT, puppet_backbone().spec)
    lora = {k for k in tensors if k.startswith("transformer.")}
    assert cli.main(["export", str(SQUAT), "--out", str(tmp_path / "b.safetensors"), "--json"]) == cli.OK
    answer = json.loads(capsys.readouterr().out)
    assert (answer["keys"], set(answer["left"])) == (len(lora), set(tensors) - lora)
    assert cli.main(["export", str(SQUAT), "--out", str(out)]) == cli.REFUSED
    assert "is there already" in capsys.readouterr().err
    assert info.method == "synmotion"


# ------------------------------------------------------------------------------------------------ ComfyUI


def change(tensors: Any, module: str, pair: tuple[int, float]) -> Tensor:
    """(alpha / rank) B A."""
    a, b = (tensors[f"transformer.{module}.lora_{x}.weight"].float() for x in "AB")
    return pair[1] / pair[0] * b @ a


@pytest.mark.parametrize("name", ["puppet-hunyuan", "hunyuanvideo-1.5", "wan2.1-t2v-1.3b"])
def test_comfyuis_names_come_back_as_ours(
    tmp_path: Path,
    tiny_sizes: None,
    name: str,
) -> None:
    backbone = puppet_backbone() if name == "puppet-hunyuan" else tiny_backbone(name)
    adapter = trained(tmp_path / "ours.safetensors", backbone, rank=2, lora_alpha=3.0)
    done = export(adapter, tmp_path / "theirs.safetensors", format="comfyui")
    ours, _ = load_adapter(adapter, backbone.spec)
    back = import_lora(done.path, backbone.spec)
    assert back.tensors.keys() == ours.keys()
    assert set(back.modules.values()) == {(2, 3.0)}
    assert all(torch.equal(back.tensors[k], ours[k]) for k in ours)
    there = weightless.weightless_denoiser(backbone.spec)
    known = {f"diffusion_model.{module.to_comfy(n)}" for n in original_layers(backbone.spec.family, there)}
    assert {k.rsplit(".lora_", 1)[0].removesuffix(".alpha") for k in import_keys(done.path)} <= known
    fused = [k for k in import_keys(done.path) if "qkv" in k]
    assert bool(fused) == (name != "wan2.1-t2v-1.3b")
    assert not any("attn_q." in k or "attn_qkv" in k for k in import_keys(done.path)), "ComfyUI holds them fused"


def import_keys(path: Path) -> list[str]:
    from synmotion_core.storage import read_header

    return [k for k in read_header(path) if k != "__metadata__"]


def test_fused_layers_of_unlike_parts_are_joined(tmp_path: Path) -> None:
    """Shared A again as one; ranks, alphas and missing parts of their own side by side; swapped halves swapped back."""
    backbone = puppet_backbone()
    layers = original_layers("hunyuan_video", backbone.denoiser)
    one = random_loras(layers, ["single_blocks.0.linear1", "final_layer.adaLN_modulation.1"], alpha=1.5)
    theirs = keys_of(one)
    for k, ours in enumerate(("to_q", "to_v")):  # q and v of another layer, not alike, and no k
        width, rank = layers["double_blocks.0.img_attn_proj"].inputs, 2 + k
        name = f"lora_unet_transformer_blocks_0_attn_{ours}"
        theirs |= {f"{name}.lora_down.weight": torch.randn(rank, width), f"{name}.alpha": torch.tensor(1.0 + k)}
        theirs[f"{name}.lora_up.weight"] = torch.randn(width, rank)
    adapter = convert(
        [write_file(tmp_path / "theirs.safetensors", theirs)], backbone.spec, tmp_path / "a.safetensors", prompt=PROMPT
    ).path
    done = export(adapter, tmp_path / "comfy.safetensors", format="comfyui")
    assert done.keys == 9
    ours, info = load_adapter(adapter, backbone.spec)
    back = import_lora(done.path, backbone.spec)
    assert back.modules.keys() == info.method_config["modules"].keys()
    for name, pair in info.method_config["modules"].items():
        found, expected = change(back.tensors, name, back.modules[name]), change(ours, name, tuple(pair))
        assert torch.allclose(found, expected, atol=1e-5), name
    parts = [f"single_transformer_blocks.0.attn.to_{x}" for x in "qkv"]
    assert {back.modules[p] for p in parts} == {(3, 1.5)}, "A is shared, not repeated"


def test_an_adapter_without_lora_is_refused(tmp_path: Path) -> None:
    adapter = trained(tmp_path / "ours.safetensors", puppet_backbone(), "synmotion", rank=0)
    with pytest.raises(AdapterError, match="holds no LoRA"):
        export(adapter, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match="puppet-hunyuan has one transformer"):
        export(SQUAT, tmp_path / "x.safetensors", expert="low_noise")
    assert find_spec("puppet-hunyuan").boundary_ratio is None


@pytest.mark.parametrize("format", ["diffusers", "comfyui"])
def test_a_word_of_the_methods_own_is_said(format: Any, tmp_path: Path) -> None:
    """Here it is put beside people's words; elsewhere nobody does."""
    own = trained(tmp_path / "own.safetensors", puppet_backbone(), "dreambooth", rank=2, identifier="zwx")
    done = export(own, tmp_path / "out.safetensors", format=format)
    assert done.usage.endswith("; its prompts there need the method's own word: “a person zwx waves”")
    plain = trained(tmp_path / "plain.safetensors", puppet_backbone(), rank=2)
    assert "own word" not in export(plain, tmp_path / "other.safetensors", format=format).usage


def test_a_learnt_word_does_not_travel(tmp_path: Path) -> None:
    own = trained(tmp_path / "own.safetensors", puppet_backbone(), "textual_inversion")
    with pytest.raises(AdapterError, match="holds no LoRA"):
        export(own, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()
