"""The real sizes without the weights: every row's transformer on the meta device, and adapters on it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoTransformer3DModel,
    UNet3DConditionModel,
    WanTransformer3DModel,
)

from synmotion_core import backbones
from synmotion_core.backbones import SPECS
from synmotion_core.backbones.hunyuan_video import HunyuanVideo
from synmotion_core.backbones.hunyuan_video15 import HunyuanVideo15
from synmotion_core.backbones.unet3d import UNet3D
from synmotion_core.backbones.wan import Wan
from synmotion_core.backbones.wan_experts import WanExperts
from synmotion_core.clips.doctor import REAL_BACKBONES
from synmotion_core.errors import ConfigError
from synmotion_core.methods import find_method
from synmotion_core.methods.attention_lora import AttentionLora
from synmotion_core.planning.memory import measured
from synmotion_core.precision import is_denoiser

CONFIGS = Path(backbones.__file__).parent / "configs"
CLASSES: dict[str, Any] = {
    c.__name__: c
    for c in (
        HunyuanVideoTransformer3DModel,
        HunyuanVideo15Transformer3DModel,
        WanTransformer3DModel,
        UNet3DConditionModel,
    )
}
FAMILIES: dict[str, Any] = {
    "hunyuan_video": HunyuanVideo,
    "hunyuan_video15": HunyuanVideo15,
    "wan": Wan,
    "unet3d": UNet3D,
}
REAL = [name for name, spec in SPECS.items() if spec.needs_gpu]
# modules and LoRA parameters at rank 16 of q, k and v. HunyuanVideo: 20 dual blocks with a text side and 40 single
# ones, all 3072 wide. HunyuanVideo-1.5: 54 dual blocks, all 2048 wide. Wan: two attentions a block; all of 1536 (1.3B),
# 3072 (5B) or 5120 (14B), as its text is projected first. 3-D U-Nets: two attentions in each of 33 transformers, 16 of
# them spatial, whose second ones read text of width 1024; transformer_in is 512 wide, five are 320, five 640, six 1280
_HUNYUAN = (20 * 6 + 40 * 3, (20 * 6 + 40 * 3) * 2 * 3072 * 16)
_HUNYUAN15 = (54 * 6, 54 * 6 * 2 * 2048 * 16)
_UNET3D = (
    33 * 6,
    16 * (6 * 2 * 512 + sum(n * (10 * 2 * width + 2 * (1024 + width)) for n, width in ((5, 320), (5, 640), (6, 1280)))),
)
ATTACHED = {
    "hunyuanvideo": _HUNYUAN,
    "hunyuanvideo-i2v": _HUNYUAN,
    "hunyuanvideo-1.5": _HUNYUAN15,
    "hunyuanvideo-1.5-i2v": _HUNYUAN15,
    "wan2.1-t2v-1.3b": (30 * 6, 30 * 6 * 2 * 1536 * 16),
    "wan2.1-t2v-14b": (40 * 6, 40 * 6 * 2 * 5120 * 16),
    "wan2.1-i2v-14b": (40 * 6, 40 * 6 * 2 * 5120 * 16),
    "wan2.2-ti2v-5b": (30 * 6, 30 * 6 * 2 * 3072 * 16),
    "wan2.2-t2v-a14b": (2 * 40 * 6, 2 * 40 * 6 * 2 * 5120 * 16),
    "wan2.2-i2v-a14b": (2 * 40 * 6, 2 * 40 * 6 * 2 * 5120 * 16),
    "modelscope-t2v-1.7b": _UNET3D,
    "zeroscope-v2-576w": _UNET3D,
}
VAE_SCALE = {"wan2.2-ti2v-5b": 16, "hunyuan_video15": 16}  # pixels a latent, by row or family, where it is not 8
CLEAN_FIRST_FRAME = ("wan2.2-ti2v-5b",)  # by the pipeline's expand_timesteps: no config of a transformer says it


def transformer(name: str) -> Any:
    config = json.loads((CONFIGS / f"{name}.json").read_text())
    with torch.device("meta"):
        return CLASSES[config["_class_name"]].from_config(config)


def denoiser(name: str) -> Any:
    """What adapters are put onto: the transformer, or its two experts in one."""
    boundary = SPECS[name].boundary_ratio
    return transformer(name) if boundary is None else WanExperts(transformer(name), transformer(name), 1000 * boundary)


def test_the_doctor_names_backbones_that_are_there() -> None:
    assert set(REAL_BACKBONES) <= set(REAL)


def test_every_real_row_ships_its_config_and_no_other() -> None:
    assert {path.stem for path in CONFIGS.iterdir()} == set(REAL) == set(ATTACHED)


@pytest.mark.parametrize("name", REAL)
def test_a_row_counts_its_transformer_right(name: str) -> None:
    model, spec = transformer(name), SPECS[name]
    counted = sum(p.numel() for p in model.parameters())
    parts = {part: count for part, count in spec.parameters.items() if is_denoiser(part)}
    own = "unet" if spec.family == "unet3d" else "transformer"
    assert spec.denoiser == own
    assert list(parts) == ([own] if spec.boundary_ratio is None else ["transformer", "transformer_2"])
    assert set(parts.values()) == {counted}
    patch = model.config.get("patch_size", 1)
    latent_px = VAE_SCALE.get(name) or VAE_SCALE.get(spec.family, 8)
    assert spec.options["token_px"] == latent_px * (patch if isinstance(patch, int) else patch[-1])
    assert spec.size_multiple == spec.options["token_px"]
    assert ("embedded_guidance" in spec.features) == model.config.get("guidance_embeds", False)
    clean_first_frame = model.config.get("image_condition_type") == "token_replace" or name in CLEAN_FIRST_FRAME
    assert (spec.image_frames == 1) == clean_first_frame


@pytest.mark.parametrize("name", REAL)
def test_adapters_attach_to_the_real_transformer(name: str) -> None:
    model = denoiser(name)
    targets = FAMILIES[SPECS[name].family].attention_targets
    with torch.device("meta"):
        lora = AttentionLora(model, targets(None), rank=16, alpha=16.0, seed=0)
    modules, parameters = ATTACHED[name]
    assert len(lora.parameters) == 2 * modules
    assert sum(p.numel() for p in lora.parameters) == parameters
    named = [n for n, _ in model.named_parameters() if "lora_" in n]
    assert len(named) == 2 * modules
    first = {re.sub("^(high|low)_noise.", "", n).split(".")[0] for n in named}
    assert all(name.endswith("blocks") for name in first - {"mid_block", "transformer_in"}), "not the text's refiner"
    lora.remove()
    with torch.device("meta"), pytest.raises(ConfigError, match=f"no layer of {type(model).__name__} matches"):
        AttentionLora(model, r"layers\.\d+\.attn\.to_q", rank=16, alpha=16.0, seed=0)


@pytest.mark.parametrize("name", REAL)
def test_a_row_is_pinned_and_says_its_licence(name: str) -> None:
    spec = SPECS[name]
    assert spec.revision is not None
    assert len(spec.revision) == 40
    assert spec.licence_link.startswith("https://")
    assert "EU" in spec.knows or "tencent" not in spec.licence


@pytest.mark.parametrize(
    ("layers", "modules", "parameters"), [("k", 34, 1.66e6), ("ko", 68, 3.33e6), ("qkvof", 170, 12.47e6)]
)
def test_purified_attention_has_the_published_sizes(layers: str, modules: int, parameters: float) -> None:
    """Separate Motion from Appearance, its released code, MotionDirector: rank 32 on ZeroScope."""
    model = transformer("zeroscope-v2-576w")
    with torch.device("meta"):
        lora = AttentionLora(model, UNet3D.layer_targets(None, "temporal", layers), rank=32, alpha=32.0, seed=0)
    assert len(lora.parameters) == 2 * modules
    own = sum(p.numel() for p in lora.parameters)
    assert own == pytest.approx(parameters, rel=3e-3)
    entry = find_method("motion_director")
    about = entry.num_parameters(entry.config(temporal=layers), 1024, measured("zeroscope-v2-576w").attention_width)
    assert about == pytest.approx(own, rel=5e-3)


def test_a_clips_looks_are_counted() -> None:
    """Of each clip, LoRA on q, k, v, o and feed-forward of sixteen spatial transformers: a training's, not a file's."""
    model, entry = transformer("zeroscope-v2-576w"), find_method("separation")
    with torch.device("meta"):
        lora = AttentionLora(model, UNet3D.layer_targets(None, "spatial", "qkvof"), rank=32, alpha=32.0, seed=0)
    width = measured("zeroscope-v2-576w").attention_width
    alone, twelve = (entry.num_parameters(entry.config(), 1024, width, clips=clips) for clips in (0, 12))
    assert (twelve - alone) / 12 == pytest.approx(sum(p.numel() for p in lora.parameters), rel=5e-3)


def test_what_new_move_learns_is_counted() -> None:
    """The temporal transformers, and K and V of sixteen looks at a text of width 1024."""
    model = transformer("zeroscope-v2-576w")
    targets = [UNet3D.layer_targets(None, where, layers) for where, layers in (("temporal", "qkvof"), ("text", "kv"))]
    with torch.device("meta"):
        lora = AttentionLora(model, f"({'|'.join(targets)})", rank=32, alpha=32.0, seed=0)
    assert len(lora.parameters) == 2 * (170 + 32)
    entry = find_method("new_move")
    about = entry.num_parameters(entry.config(), 1024, measured("zeroscope-v2-576w").attention_width)
    assert about == pytest.approx(sum(p.numel() for p in lora.parameters), rel=5e-3)
