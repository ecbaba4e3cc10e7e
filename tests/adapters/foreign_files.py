"""LoRA files as other programs write them, with random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from synmotion_core.adapters.foreign_names import Layer, to_comfy

Lora = tuple[Tensor, Tensor, float | None]  # A [rank, inputs], B [outputs, rank], alpha


def _flat(name: str) -> str:
    return name.replace(".", "_")


# style: (the layer's name in the file, what follows for A, for B)
STYLES: dict[str, tuple[Callable[[str], str], str, str]] = {
    "kohya": (lambda n: f"lora_unet_{_flat(n)}", "lora_down.weight", "lora_up.weight"),
    "kohya of ComfyUI's names": (lambda n: f"lora_unet_{_flat(to_comfy(n))}", "lora_down.weight", "lora_up.weight"),
    "ComfyUI": (lambda n: f"diffusion_model.{to_comfy(n)}", "lora_A.weight", "lora_B.weight"),
    "diffusion-pipe": (lambda n: f"diffusion_model.{n}", "lora_A.weight", "lora_B.weight"),
    "original, down and up": (lambda n: f"diffusion_model.{n}", "lora_down.weight", "lora_up.weight"),
    "transformer.": (lambda n: f"transformer.{n}", "lora_A.weight", "lora_B.weight"),
    "PEFT": (lambda n: f"base_model.model.{n}", "lora_A.weight", "lora_B.weight"),
    "DiffSynth": (lambda n: n, "lora_A.default.weight", "lora_B.default.weight"),
    "old diffusers": (lambda n: f"transformer.{n}", "lora.down.weight", "lora.up.weight"),
    "HunyuanVideo-I2V": (lambda n: f"Hunyuan_video_I2V_lora_{_flat(n)}", "lora_down.weight", "lora_up.weight"),
    "VideoX-Fun": (lambda n: f"lora_unet__{_flat(n)}", "lora_down.weight", "lora_up.weight"),
    "OneTrainer": (lambda n: f"lora_transformer_{_flat(n)}", "lora_down.weight", "lora_up.weight"),
}


def random_loras(
    layers: Mapping[str, Layer], names: Iterable[str], *, rank: int = 3, alpha: float | None = None, seed: int = 0
) -> dict[str, Lora]:
    """A LoRA for each of these layers; of the k-th the rank is k % 2 larger."""
    generator = torch.Generator().manual_seed(seed)
    out: dict[str, Lora] = {}
    for k, name in enumerate(names):
        layer, r = layers[name], rank + k % 2
        down = torch.randn(r, layer.inputs, generator=generator) / layer.inputs**0.5
        out[name] = (down, torch.randn(layer.outputs, r, generator=generator), alpha)
    return out


def keys_of(loras: Mapping[str, Lora], style: str = "kohya") -> dict[str, Tensor]:
    """The tensors of such a file."""
    called, a, b = STYLES[style]
    tensors = {}
    for name, (down, up, alpha) in loras.items():
        tensors |= {f"{called(name)}.{a}": down, f"{called(name)}.{b}": up}
        if alpha is not None:
            tensors[f"{called(name)}.alpha"] = torch.tensor(alpha)
    return tensors


def write_file(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> Path:
    """As safetensors; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata=dict(metadata or {"format": "pt"}))
    return path
