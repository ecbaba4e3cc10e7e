"""An adapter that was just written, read back as everybody will read it: every key of the file applies, or it is an
error.

A save that cannot be loaded is found when it is written, not when somebody generates with it. Where the backbone's
weights are not there, its layers by name and size are enough (`Weightless`): names, shapes and settings are held
against them, values are compared only where there are some.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from synmotion_core.adapters.file import load_adapter
from synmotion_core.backbones import family
from synmotion_core.backbones.weightless import text_width, transformer_config, weightless_denoiser
from synmotion_core.errors import AdapterError
from synmotion_core.interfaces import Backbone, BackboneSpec, Highway
from synmotion_core.types import Prompt, TextCondition


def load_back(path: Path, backbone: Backbone | Weightless, entry: Any, method_config: Any) -> int:
    """Attach the adapter in `path`, a method of the registry with these settings, and detach it again.

    Returns how many keys apply, which is all of them. The backbone must carry no adapter. Raises AdapterError naming
    those that do not.
    """
    tensors, info = load_adapter(path, backbone.spec)
    method = entry.attach(backbone, method_config, Prompt(subject=info.subject, motion=info.motion))
    try:
        with warnings.catch_warnings():  # torch says of each tensor on meta that its values are not kept
            warnings.filterwarnings("ignore", message=".*meta parameter.*")
            method.load_state_dict(tensors)
        if backbone.device.type != "meta":
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
