"""An adapter that was just written, read back as everybody will read it: every key of the file applies, or it is an
error.

A save that cannot be loaded is found when it is written, not when somebody generates with it. Where the backbone's
weights are not there, its layers by name and size are enough (`Weightless`): names, shapes and settings are held
against them, values are compared only where there are some. Such a file is from anybody: settings that would make more
than it holds are refused before anything is made of them, and its tensors are read last, one after the other.
"""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from synmotion_core.adapters.file import load_adapter, read_layout
from synmotion_core.backbones import family
from synmotion_core.backbones.weightless import text_width, transformer_config, weightless_denoiser
from synmotion_core.errors import AdapterError
from synmotion_core.interfaces import Backbone, BackboneSpec, Highway, TextLayers
from synmotion_core.storage import check_seal
from synmotion_core.types import Prompt, TextCondition

_SLACK = 5  # times what a file holds: estimates reach 4, of the puppets' output projections alone


def load_back(path: Path, backbone: Backbone | Weightless, entry: Any, method_config: Any) -> int:
    """Attach the adapter in `path`, a method of the registry with these settings, and detach it again.

    Returns how many keys apply, which is all of them. The backbone must carry no adapter. Raises AdapterError naming
    those that do not.
    """
    shapes, info = read_layout(path, backbone.spec)
    _check_size(path, shapes.values(), backbone, entry, method_config)
    weightless = backbone.device.type == "meta"
    if weightless:
        tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    else:
        tensors, _ = load_adapter(path, backbone.spec)
    method = entry.attach(backbone, method_config, Prompt(subject=info.subject, motion=info.motion))
    try:
        with warnings.catch_warnings():  # torch says of each tensor on meta that its values are not kept
            warnings.filterwarnings("ignore", message=".*meta parameter.*")
            method.load_state_dict(tensors)
        if weightless:
            check_seal(path)
        else:
            own = method.state_dict()
            wrong = [key for key in tensors if key not in own or not torch.equal(own[key], tensors[key].float())]
            if wrong or len(own) != len(tensors):
                raise AdapterError(
                    f"{path.name} was written, but read back {len(tensors) - len(wrong)} of {len(tensors)} keys apply "
                    f"(first: {wrong[:1]})"
                )
    finally:
        method.detach()
    return len(tensors)


def _check_size(
    path: Path, shapes: Iterable[tuple[int, ...]], backbone: Backbone | Weightless, entry: Any, config: Any
) -> None:
    """Raise AdapterError where a method with these settings would have far more parameters than the file."""
    held = sum(map(math.prod, shapes))
    linear = {name: one for name, one in backbone.denoiser.named_modules() if isinstance(one, nn.Linear)}

    def width(names: Iterable[str]) -> int:
        return sum(linear[name].in_features + linear[name].out_features for name in names if name in linear)

    made, modules = 0, getattr(config, "modules", None)
    if modules:
        made = sum(rank * width([name]) for name, (rank, _) in modules.items())
        config, all_of_them = dataclasses.replace(config, modules={}, rank=1), 0
    else:
        of_text = getattr(config, "stream", "all") == "text"
        targets = re.compile(backbone.text_layers().everywhere if of_text else backbone.attention_targets("qkv"))
        all_of_them = width(filter(targets.fullmatch, linear))
    made += entry.num_parameters(config, backbone.text_width, all_of_them)
    if made > _SLACK * held:
        raise AdapterError(
            f"{path.name} has settings of about {made:,} parameters on {backbone.spec.name} and holds {held:,}: it is "
            "not what its settings say"
        )


class Weightless:
    """As much of a Backbone as attaching a method asks for, without any weights; nothing can be computed with it."""

    def __init__(self, spec: BackboneSpec) -> None:
        self.spec = spec
        self.device = torch.device("meta")
        self.denoiser: nn.Module = weightless_denoiser(spec)
        self.text_width = text_width(transformer_config(spec))

    def attention_targets(self, projections: str = "qkv") -> str:
        """The family's own."""
        return family(self.spec).attention_targets(None, projections)

    def text_layers(self, projections: str = "qkv") -> TextLayers:
        """The family's own."""
        return family(self.spec).text_layers(None, projections)

    def layer_targets(self, where: str, layers: str) -> str:
        """The family's own, of one with temporal layers."""
        return family(self.spec).layer_targets(None, where, layers)

    def highway(self, preset: str) -> Highway:
        """The family's own, of one with temporal layers."""
        return family(self.spec).highway(self, preset)

    def motion_words(self, prompt: Prompt) -> torch.Tensor:
        """A word of zeros: what the denoiser reads is as wide as the first encoder's table of words."""
        return torch.zeros(1, self.text_width)

    def hold_words(self, hold: bool) -> None:
        """There is no encoder to hold."""

    def encode_prompt(self, prompts: list[Prompt], images: Any = None) -> TextCondition:
        """Two tokens of zeros a prompt, its subject and its motion."""
        roles = torch.eye(2, dtype=torch.bool).repeat(len(prompts), 1, 1)
        return TextCondition(
            prompt_embeds=torch.zeros(len(prompts), 2, self.text_width),
            prompt_attention_mask=torch.ones(len(prompts), 2, dtype=torch.long),
            pooled_prompt_embeds=None,
            subject_tokens=roles[:, 0],
            motion_tokens=roles[:, 1],
        )
