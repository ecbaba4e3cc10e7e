"""What a backbone predicts with an adapter from a file, as `generate` takes it, and LoRAs to try it with."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from synmotion_core.adapters.file import load_adapter
from synmotion_core.adapters.foreign_names import original_layers
from synmotion_core.config import from_dict
from synmotion_core.interfaces import Backbone
from synmotion_core.methods import find_method
from synmotion_core.types import Prompt
from tests.adapters.foreign_files import Lora, random_loras
from tests.models import PROMPTS, noisy, puppet_backbone

SIGMAS = torch.tensor([0.95, 0.3])  # one for each of two experts
PROMPT = Prompt(subject="a person", motion="waves")
NAMES = (
    *("double_blocks.0.img_attn_qkv", "double_blocks.0.txt_attn_qkv", "double_blocks.1.img_attn_proj"),
    *("double_blocks.0.img_mlp.fc1", "double_blocks.1.txt_mlp.fc2", "double_blocks.0.img_mod.linear"),
    *("single_blocks.0.linear1", "single_blocks.1.linear2", "single_blocks.0.modulation.linear"),
    *("txt_in.individual_token_refiner.blocks.0.self_attn_qkv", "final_layer.linear", "vector_in.in_layer"),
    "final_layer.adaLN_modulation.1",
)


def puppet_loras(alpha: float | None = 1.5) -> dict[str, Lora]:
    layers = original_layers("hunyuan_video", puppet_backbone().denoiser)
    return random_loras(layers, NAMES, alpha=alpha)


def predict(backbone: Backbone, path: Path | None = None, image: bool = False) -> Tensor:
    """What a backbone predicts, with an adapter from a file as `generate` takes it."""
    x, s = noisy(backbone)[0], SIGMAS
    text = backbone.encode_prompt(PROMPTS)
    method = None
    if path is not None:  # as run.generate does
        state, info = load_adapter(path, backbone.spec)
        entry = find_method(info.method)
        method = entry.attach(backbone, from_dict(entry.config, dict(info.method_config)), PROMPT)
        method.load_state_dict(state)
    try:
        condition = text.as_condition() if method is None else method.condition(text)
        if image:
            condition = dataclasses.replace(condition, image_latents=x[:, :, :1])
        with torch.no_grad():
            return backbone.predict(x, s, condition)
    finally:
        if method is not None:
            method.detach()
