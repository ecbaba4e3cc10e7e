"""How a backbone's weights are held and what is done to need less memory: a value, for configs. backbones/precision.py
does what it says.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from synmotion_core.errors import ConfigError

CHOICES = {
    "weights": ("bf16", "8bit", "4bit", "fp8"),
    "text_weights": ("bf16", "8bit", "4bit"),
    "offload": ("none", "model", "group"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """weights are the transformer's, text_weights those of its first and largest text encoder.

    "bf16" are the weights as they load: in bf16, or as the row's `held` says, and in float32 on a CPU. "8bit" is
    LLM.int8 and "4bit" NF4, both by bitsandbytes; "fp8" stores them in 8 bits and computes as the whole weights do.
    offload "model" keeps only the part at work on the GPU, "group" only the layers at work. vae_tiling codes videos
    tile by tile, which changes latents a little. gradient_checkpointing computes each block again in the backward pass.
    Raises ConfigError for what does not fit together.
    """

    weights: Literal["bf16", "8bit", "4bit", "fp8"] = "bf16"
    text_weights: Literal["bf16", "8bit", "4bit"] = "bf16"
    offload: Literal["none", "model", "group"] = "none"
    vae_tiling: bool = False
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                near = difflib.get_close_matches(str(value), choices, n=1, cutoff=0.4)
                hint = f": did you mean {near[0]!r}?" if near else ""
                raise ConfigError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}{hint}")
        for name in ("weights", "text_weights"):
            if self.offload != "none" and getattr(self, name) in ("8bit", "4bit"):
                raise ConfigError(
                    f"offload {self.offload!r} moves plain weights, and bitsandbytes would leave a copy of {name} "
                    f"{getattr(self, name)!r} behind on the GPU: use offload 'none', or {name} 'bf16'"
                )

    def check_training(self) -> None:
        """Raise ConfigError where training would hold in memory what this was to save."""
        for name, value in (("weights", "fp8"), ("offload", "group")):
            if getattr(self, name) == value and not self.gradient_checkpointing:
                raise ConfigError(
                    f"training with {name} {value!r} needs gradient_checkpointing: without it the backward pass keeps "
                    "every layer's weights on the GPU in bf16"
                )


PLAIN = Precision()


def is_denoiser(part: str) -> bool:
    """Whether a part of a pipeline is a denoiser: some have two, by the level of noise."""
    return part in ("transformer", "transformer_2", "unet")


def weights_of(fingerprint: str) -> str:
    """A backbone's fingerprint without what backbones/precision.py and backbones/tokenizers.py have added: the weights.

    >>> weights_of("wan@abc+text_weights=8bit"), weights_of("wan@abc")
    ('wan@abc', 'wan@abc')
    """
    return fingerprint.partition("+")[0]
