"""What the parts of the large backbones work with, counted on their real sizes without weights (meter.py).

    memory.<row>.train | train_checkpointed | sample    KiB a video token of one sample in the denoiser, in bf16
    memory.<row>.encode | decode (_tiled)               GiB beside the weights on a video of the row's default shape

These are counts, not samples: their intervals are points. `--set write=true` also writes backbones/memory/<row>.json,
from which plans are made.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from synmotion_core import backbones
from synmotion_core.backbones.weightless import text_width
from synmotion_core.errors import ConfigError
from synmotion_core.evaluation import meter
from synmotion_core.evaluation.figures import Figure
from synmotion_core.interfaces import BackboneSpec
from synmotion_core.planning.memory import GIB, Measured, tokens
from synmotion_core.precision import Precision, is_denoiser
from synmotion_core.storage import replacing
from synmotion_core.types import VideoShape

_FOLDER = Path(backbones.__file__).parent
_AUTOENCODERS: dict[str, str] = {
    "hunyuan_video": "AutoencoderKLHunyuanVideo",
    "hunyuan_video15": "AutoencoderKLHunyuanVideo15",
    "wan": "AutoencoderKLWan",
    "unet3d": "AutoencoderKL",
}  # of the classes' own sizes, but for these rows
_STABLE_DIFFUSION: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
}  # fmt: skip
_OTHER_SIZES: dict[str, dict[str, Any]] = {
    "wan2.2-ti2v-5b": {
        "base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "in_channels": 12,
        "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16, "latents_mean": [0.0] * 48,
        "latents_std": [1.0] * 48,
    },
    "modelscope-t2v-1.7b": _STABLE_DIFFUSION,
    "zeroscope-v2-576w": _STABLE_DIFFUSION,
}  # fmt: skip

_LLAMA: dict[str, Any] = {
    "vocab_size": 128320, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8,
}  # fmt: skip
_QWEN: dict[str, Any] = {
    "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
    "num_attention_heads": 28, "num_key_value_heads": 4,
}  # fmt: skip
_UMT5: dict[str, Any] = {
    "vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}  # fmt: skip
_OPEN_CLIP: dict[str, Any] = {
    "vocab_size": 49408, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23,
    "num_attention_heads": 16,
}  # fmt: skip
_SIGHT: dict[str, Any] = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "projection_dim": 768,
}  # fmt: skip
_LLAVA = {"vision_config": _SIGHT, "text_config": {"model_type": "llama", **_LLAMA}}
# by row or family: model, config, and sizes
_TEXT_ENCODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "hunyuan_video": ("LlamaModel", "LlamaConfig", _LLAMA),
    "hunyuanvideo-i2v": ("LlavaForConditionalGeneration", "LlavaConfig", _LLAVA),
    "hunyuan_video15": ("Qwen2_5_VLTextModel", "Qwen2_5_VLTextConfig", _QWEN),
    "wan": ("UMT5EncoderModel", "UMT5Config", _UMT5),
    "unet3d": ("CLIPTextModel", "CLIPTextConfig", _OPEN_CLIP),
}


def real_rows() -> tuple[str, ...]:
    """The rows that plans are made for: all that need a GPU."""
    return tuple(name for name, spec in backbones.SPECS.items() if spec.needs_gpu)


def transformer(spec: BackboneSpec) -> tuple[Any, dict[str, Any]]:
    """A row's denoiser class and its real config."""
    import diffusers

    config = json.loads((_FOLDER / "configs" / f"{spec.name}.json").read_text())
    return getattr(diffusers, config["_class_name"]), config


def autoencoder(spec: BackboneSpec) -> tuple[Any, dict[str, Any]]:
    """A row's autoencoder class and what of its config is not the class's own."""
    import diffusers

    return getattr(diffusers, _AUTOENCODERS[spec.family]), _OTHER_SIZES.get(spec.name, {})


def text_encoder(spec: BackboneSpec) -> Any:
    """A row's first text encoder on the meta device, at its real size."""
    import transformers

    model, config, sizes = _TEXT_ENCODERS.get(spec.name) or _TEXT_ENCODERS[spec.family]
    with torch.device("meta"):
        return getattr(transformers, model)(getattr(transformers, config)(**sizes))


def measure_row(spec: BackboneSpec) -> Measured:
    """All numbers of a row, at its default shape (or a small one, where the denoiser must be given numbers)."""
    model_class, config = transformer(spec)
    targets = backbones.family(spec).attention_targets(None)
    shape = spec.default_shape
    if model_class.__name__ in meter.NEEDS_NUMBERS:
        shape = VideoShape(num_frames=9, height=256, width=256, fps=shape.fps)
    count, size = tokens(spec, shape), latent_size(spec, shape)
    told = {"time_per_token": bool(spec.options.get("expand_timesteps", False))}

    def training(*, checkpointed: bool) -> float:
        peak = meter.training_peak(model_class, config, targets, size, gradient_checkpointing=checkpointed, **told)
        return peak / count

    counts = held_parameters(spec)
    return Measured(
        text_width=text_width(config),
        **counts,
        train=training(checkpointed=False),
        train_checkpointed=training(checkpointed=True),
        sample=meter.sampling_peak(model_class, config, size, **told) / count,
        encode=_of_autoencoder(spec, "encode"),
        decode=_of_autoencoder(spec, "decode"),
        encode_tiled=_tiled(spec, "encode"),
        decode_tiled=_tiled(spec, "decode"),
    )


def latent_size(spec: BackboneSpec, shape: VideoShape) -> tuple[int, int, int]:
    """(f, h, w) of a video's latents, from the row alone."""
    _, config = transformer(spec)
    config = {"patch_size": 1} | config  # a U-Net takes latents one by one
    patch = config["patch_size"] if isinstance(config["patch_size"], int) else config["patch_size"][-1]
    side = int(spec.options["token_px"]) // patch
    return (shape.num_frames - 1) // spec.frame_multiple + 1, shape.height // side, shape.width // side


def held_parameters(spec: BackboneSpec) -> dict[str, int]:
    """What of a row's parameters is held how, by the fields of `Measured`: the real layers, chosen by the code that a
    loaded row goes through."""
    from synmotion_core.backbones.precision import quantized_layers, staying, store_in_fp8
    from synmotion_core.methods.attention_lora import AttentionLora

    model_class, config = transformer(spec)
    targets = backbones.family(spec).attention_targets(None)
    experts = sum(is_denoiser(part) for part in spec.parameters)  # of which one works at a time
    with torch.device("meta"):
        model, adapted = (model_class.from_config(config).bfloat16() for _ in range(2))
        lora = AttentionLora(adapted, targets, rank=1, alpha=1.0, seed=0)
    blocks = sum(p.numel() for name in quantized_layers(model) for p in model.get_submodule(name).parameters())
    stays = sum(p.numel() for module in staying(model) for p in module.parameters(recurse=False))
    store_in_fp8(model)
    return {
        "block_parameters": blocks,
        "fp8_parameters": sum(p.numel() for p in model.parameters() if p.dtype == torch.float8_e4m3fn),
        "staying_parameters": stays,
        "text_parameters": _quantized_of_text(spec),
        "attention_width": sum(p.numel() for p in lora.parameters) * experts,
    }


def _quantized_of_text(spec: BackboneSpec) -> int:
    """By transformers' own quantiser, told what it is told on CUDA; in 8 bits, 4 are of the same layers."""
    from transformers.quantizers.auto import AutoHfQuantizer

    from synmotion_core.backbones.precision import loader_config

    encoder, eight = text_encoder(spec), Precision(text_weights="8bit")
    plain = {name: m.weight.numel() for name, m in encoder.named_modules() if isinstance(m, torch.nn.Linear)}
    asked = loader_config(eight, torch.device("cuda"), ("text_encoder",)).quant_mapping["text_encoder"]
    AutoHfQuantizer.from_config(asked)._process_model_before_weight_loading(encoder, device_map=None)
    swapped = (name for name, m in encoder.named_modules() if type(m).__name__ == "Linear8bitLt")
    return sum(plain[name] for name in swapped)


def _of_autoencoder(spec: BackboneSpec, work: str) -> tuple[float, float]:
    """Bytes a pixel of a frame, and a pixel of the video."""
    area = spec.default_shape.height * spec.default_shape.width
    fixed, of_video = _over_frames(spec, work, spec.default_shape.num_frames - 16, tiling=False)
    return fixed / area, of_video


def _tiled(spec: BackboneSpec, work: str) -> tuple[float, float]:
    """Bytes in all, and a pixel of the video."""
    return _over_frames(spec, work, 17, tiling=True)


def _over_frames(spec: BackboneSpec, work: str, num_frames: int, *, tiling: bool) -> tuple[float, float]:
    """A straight line through videos of num_frames and of 16 more: bytes at no frames, and a pixel of the video.

    An autoencoder of pictures does with each frame what it did with the one before: there two are enough, and 2 more.
    """
    vae_class, config = autoencoder(spec)
    area = spec.default_shape.height * spec.default_shape.width
    pictures = vae_class.__name__ in meter.OF_PICTURES
    num_frames, more = (2, 2) if pictures else (num_frames, 16)
    peaks = []
    for frames in (num_frames, num_frames + more):
        shape = replace(spec.default_shape, num_frames=frames)
        video = (frames, shape.height, shape.width)
        size = latent_size(spec, shape)
        peaks.append(meter.autoencoder_peak(vae_class, config, work, video, size, tiling=tiling))
    of_video = (peaks[1] - peaks[0]) / (area * more)
    return peaks[0] - num_frames * area * of_video, of_video


def bench_memory(*, rows: Sequence[str] | None = None, write: bool = False) -> Iterator[Figure]:
    """One row after the other. write: each row's numbers into its file."""
    unknown = sorted(set(rows or ()) - set(real_rows()))
    if unknown:
        raise ConfigError(f"there is no large backbone {unknown[0]!r}: there are {', '.join(real_rows())}")
    for name in rows or real_rows():
        began, spec = time.perf_counter(), backbones.SPECS[name]
        found = measure_row(spec)
        if write:
            _write(name, found)
        seconds = time.perf_counter() - began
        for what, value in _shown(spec, found).items():
            yield Figure(
                name=f"memory.{name}.{what}", value=value, low=value, high=value, n=1, seeds=(), seconds=seconds
            )


def _shown(spec: BackboneSpec, found: Measured) -> dict[str, float]:
    shape = spec.default_shape
    area, volume = shape.height * shape.width, shape.height * shape.width * shape.num_frames
    shown = {what: getattr(found, what) / 1024 for what in ("train", "train_checkpointed", "sample")}
    for what in ("encode", "decode"):
        fixed, of_video = getattr(found, what)
        shown[what] = (fixed * area + of_video * volume) / GIB
        fixed, of_video = getattr(found, f"{what}_tiled")
        shown[f"{what}_tiled"] = (fixed + of_video * volume) / GIB
    return shown


def _write(name: str, found: Measured) -> None:
    values = {key: _rounded(value) for key, value in asdict(found).items()}
    with replacing(_FOLDER / "memory" / f"{name}.json") as partial:
        partial.write_text(json.dumps(values, indent=1) + "\n")


def _rounded(value: Any) -> Any:
    return [_rounded(v) for v in value] if isinstance(value, tuple) else round(value, 3)
