"""Two Wan transformers as one denoiser: an expert for high noise levels, another for low ones (Wan 2.2 A14B).

    v(x, t) = high_noise(x, t) where t >= boundary, else low_noise(x, t)

The stock pipelines call them `transformer` and `transformer_2`; the official code lists them low first, other programs
number them the other way round. Here they go by what they do, also in adapter files: `high_noise.blocks...` and
`low_noise.blocks...`.
"""

from __future__ import annotations

from typing import Literal

import torch
from diffusers import ModelMixin
from diffusers.loaders import PeftAdapterMixin
from torch import Tensor, nn


class WanExperts(ModelMixin, PeftAdapterMixin):
    """One model of diffusers with two children, so that adapters, checkpointing and freezing reach both at once.

    boundary: the timestep, of 1000, from which on the high-noise expert works.
    """

    _supports_gradient_checkpointing = True

    def __init__(self, high_noise: nn.Module, low_noise: nn.Module, boundary: float) -> None:
        super().__init__()
        self.high_noise, self.low_noise, self.boundary = high_noise, low_noise, boundary
        for flag in ("is_loaded_in_8bit", "is_loaded_in_4bit"):  # by these PEFT knows which layers to make
            if getattr(high_noise, flag, False):
                setattr(self, flag, True)

    def forward(
        self, hidden_states: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, return_dict: Literal[False]
    ) -> tuple[Tensor]:
        """Each sample through its own expert, so that a batch of mixed levels trains both; timestep [B].

        An expert that no sample needs is not run: its parameters get no gradient, and no optimizer moves them.
        """
        high = timestep >= self.boundary
        parts, rows = [], []
        for expert, its in ((self.high_noise, high), (self.low_noise, ~high)):
            if its.any():
                own = {"timestep": timestep[its], "encoder_hidden_states": encoder_hidden_states[its]}
                parts.append(expert(hidden_states=hidden_states[its], **own, return_dict=return_dict)[0])
                rows.append(its.nonzero()[:, 0])
        return (torch.cat(parts)[torch.cat(rows).argsort()],)
