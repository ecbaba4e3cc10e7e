"""Shared by tests that need a loaded backbone: the one that ships, loaded once."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import torch

from synmotion_core.backbones import load_backbone
from synmotion_core.interfaces import Backbone
from synmotion_core.types import Condition, Prompt, TextCondition

PROMPTS = (
    Prompt(subject="a red cat", motion="waves both arms", setting="in the snow"),
    Prompt(subject="an elephant", motion="squats"),
)


@lru_cache(maxsize=1)
def puppet_backbone() -> Backbone:
    return load_backbone("puppet-hunyuan", device="cpu")


def plain(text: TextCondition) -> Condition:
    return text.as_condition()


def padded_row(text: TextCondition, row: int) -> TextCondition:
    """One row with its padding, which TextCondition.select would drop."""
    own = {f.name: getattr(text, f.name) for f in dataclasses.fields(text)}
    return TextCondition(**{name: None if x is None else x[row : row + 1] for name, x in own.items()})


def noisy(backbone: Backbone, batch: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents and noise levels to predict on."""
    generator = torch.Generator().manual_seed(seed)
    shape = backbone.latent_shape(backbone.spec.default_shape)
    return torch.randn((batch, *shape), generator=generator), torch.rand(batch, generator=generator)


@torch.no_grad()
def shake(groups: dict[str, list[torch.nn.Parameter]], seed: int = 1) -> None:
    """Move every parameter, so that nothing is an identity by accident."""
    generator = torch.Generator().manual_seed(seed)
    for parameters in groups.values():
        for p in parameters:
            p.add_(torch.randn(p.shape, generator=generator) * 0.05)
