"""What training asks of a backbone: its parts, how captions are read, and its clean latents. One file and one row each.

The rows are in anatomies.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from synmotion_core.puppets.autoencoder import (
    AutoencoderPatchImage,
    AutoencoderPatchVideo,
    PatchAutoencoder,
    autoencoder_from,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a step trains on, on the device. text: what `Anatomy.tokens` made of the captions."""

    latents: Tensor
    noise: Tensor
    sigma: Tensor
    text: dict[str, Tensor]
    image_to_video: bool = False
    corner: tuple[int, int] = (0, 0)  # row and column of the frame's latents where `latents` begins


class Heads(nn.Module, ABC):
    """The trained parts of a pipeline together, by their names in it."""

    def __init__(self, pipe: Any, trained: Sequence[str], device: str = "cpu") -> None:
        super().__init__()
        for part in trained:
            setattr(self, part, getattr(pipe, part))
        self.to(device)

    @abstractmethod
    def compile(self) -> None:
        """torch.compile what is called once a step."""

    def to_bfloat16(self) -> None:
        self.to(torch.bfloat16)

    @abstractmethod
    def clean(self, noisy: Tensor, batch: Batch) -> Tensor:
        """The clean latents as the denoiser sees them, float32. noisy: x_s of diffusion.py, [B, C, F, h, w]."""


class Anatomy(ABC):
    """A tiny backbone that is trained here."""

    name: ClassVar[str]
    denoiser: ClassVar[str]  # which part of the pipeline
    trained: ClassVar[tuple[str, ...]]
    autoencoder: ClassVar[type[AutoencoderPatchVideo] | type[AutoencoderPatchImage]]
    frames_alone: ClassVar[bool]  # whether a latent frame is a frame: then any can be seen as a picture, else the first
    takes_pictures: ClassVar[bool]  # whether there are steps that are I2V, and windows, whose place it must know

    def autoencoder_in(self, folder: Path) -> PatchAutoencoder:
        """Float32. Raises ValueError for one that is another backbone's."""
        vae = autoencoder_from(folder)
        if not isinstance(vae, self.autoencoder):
            raise ValueError(
                f"{folder} holds a {type(vae).__name__}, {self.name} needs a {self.autoencoder.__name__}: give each "
                "backbone a folder of its own"
            )
        return vae

    @abstractmethod
    def build(self, vae: Any, seed: int = 0) -> Any:
        """An untrained pipeline."""

    @abstractmethod
    def take_over(self, folder: Path, seed: int = 0) -> Any:
        """The pipeline of a diffusers folder, float32, as this version builds it. Raises ValueError where it cannot."""

    @abstractmethod
    def heads(self, pipe: Any, device: str = "cpu") -> Heads:
        """The trained parts of the pipeline, on the device, ready to be trained."""

    @abstractmethod
    def tokens(self, pipe: Any, captions: Sequence[str], *, fixed: bool) -> dict[str, Tensor]:
        """int64 [B, tokens] each; fixed: always as many, as compiled graphs want it."""

    def by_muon(self, name: str, p: nn.Parameter) -> bool:
        """Whether Muon moves a parameter, else AdamW: matrices and kernels within, not embeddings, norms and biases."""
        inner = ("attn" in name or "ff" in name or "mlp" in name) and "norm" not in name
        return inner and p.ndim == 2 and min(p.shape) >= 64

    def levels(self, pipe: Any, sigmas: Tensor) -> Tensor:
        """[B] -> the noise levels that the denoiser can be asked at."""
        return sigmas

    @abstractmethod
    def draw(
        self, pipe: Any, prompts: Sequence[str], noise: torch.Generator, guidance_scale: float
    ) -> list[NDArray[np.uint8]]:
        """A video each, uint8 [F, H, W, 3], in 20 steps with true classifier-free guidance."""
