"""A row's denoiser without its weights: every layer by name and size on torch's meta device, a second's work for 14 B.

What adapters made elsewhere are held against. The large rows' configs ship with the code, the small row's with its
weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from synmotion_core.backbones.loading import ASSETS
from synmotion_core.interfaces import BackboneSpec

CONFIGS = Path(__file__).resolve().parent / "configs"


def transformer_config(spec: BackboneSpec) -> dict[str, Any]:
    """The config of a row's transformer, as diffusers writes it; of two experts, that of both."""
    if spec.repo.startswith("assets:"):
        path = ASSETS / spec.repo.removeprefix("assets:") / spec.denoiser / "config.json"
    else:
        path = CONFIGS / f"{spec.name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def text_width(config: Mapping[str, Any]) -> int:
    """Channels of the text tokens that a denoiser of this config reads."""
    return int(next(config[name] for name in ("text_embed_dim", "text_dim", "cross_attention_dim") if name in config))


def weightless_denoiser(spec: BackboneSpec) -> nn.Module:
    """What adapters are put onto, frozen: the transformer, or its two experts in one."""
    import diffusers

    config = transformer_config(spec)
    family = getattr(diffusers, config["_class_name"])
    with torch.device("meta"):
        parts = [family.from_config(config) for _ in range(1 if spec.boundary_ratio is None else 2)]
    if spec.boundary_ratio is None:
        return parts[0].requires_grad_(False).eval()
    from synmotion_core.backbones.wan_experts import WanExperts

    return WanExperts(parts[0], parts[1], spec.boundary_ratio * 1000).requires_grad_(False).eval()
