"""`AutoencoderPatchVideo`: the puppet world's video VAE, block-linear, with the stock interface; and its like for
pictures, `AutoencoderPatchImage`.

Frame 0 is coded alone, then every 4 frames together, in blocks of 8x8 pixels (causal like HunyuanVideo's: 4k+1 frames
become k+1 latent frames, 8 times smaller):

    z = S W (x - mu)          x: one 8x8 (or 4x8x8) block, W: its leading principal directions,
                              S: diag(std^-power) gain, so that latents have mean square 1
    x~ = mu + W^T S^-1 z      then, optionally, a small residual convolution that removes block edges

The principal directions are fitted on renders, blocks weighted towards the puppet. `power` in [0, 1] goes from the
pixels' own scale (0, what ships) to whitened latents (1). At 0 an error counts as it shows, and the outline is decided
early, at high noise; at 0.5, tried first, fine detail is as loud and the same training moves limbs less (CARD.md).
Why not a stock class: trained from scratch on a laptop, the stock convolutional VAEs stay below 25 dB where this
reaches above 30 dB (CARD.md has the table).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

SPATIAL, TEMPORAL = 8, 4


class _Deblock(nn.Module):
    """Residual convolutions at half resolution; zero-initialised, so a fresh one is the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(12, channels, 3, padding=1)
        self.conv_mid = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_mid_2 = nn.Conv2d(channels, channels, 3, padding=2, dilation=2)
        self.conv_out = nn.Conv2d(channels, 12, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(cast(Tensor, self.conv_out.bias))

    def forward(self, video: Tensor) -> Tensor:
        """[B, 3, F, H, W] -> the same."""
        b, c, f, h, w = video.shape
        x = F.pixel_unshuffle(video.transpose(1, 2).reshape(b * f, c, h, w), 2)
        y = F.silu(self.conv_in(x))
        y = y + F.silu(self.conv_mid(y))
        y = y + F.silu(self.conv_mid_2(y))
        out = F.pixel_shuffle(x + self.conv_out(y), 2)
        return out.reshape(b, f, c, h, w).transpose(1, 2)


class AutoencoderPatchVideo(ModelMixin, ConfigMixin):
    """Block-linear video autoencoder.

    Args:
        latent_channels: directions kept a block.
        deblock_channels: width of the residual deblocking convolution, 0 for none.
        scaling_factor: as in stock VAEs; 1.0, since the scale is in the weights.

    `encode` takes [B, 3, 4k+1, 8h, 8w] in [-1, 1] and returns a distribution without variance; `decode` is its mirror.
    Raises ValueError for a shape that does not fit.
    """

    @register_to_config
    def __init__(self, latent_channels: int = 96, deblock_channels: int = 0, scaling_factor: float = 1.0) -> None:
        super().__init__()
        first, rest = 3 * SPATIAL**2, 3 * TEMPORAL * SPATIAL**2
        self.encoder_first = nn.Linear(first, latent_channels)
        self.encoder_rest = nn.Linear(rest, latent_channels)
        self.decoder_first = nn.Linear(latent_channels, first)
        self.decoder_rest = nn.Linear(latent_channels, rest)
        self.deblock = _Deblock(deblock_channels) if deblock_channels else None
        self.spatial_compression_ratio = SPATIAL
        self.temporal_compression_ratio = TEMPORAL

    def add_deblock(self, channels: int) -> None:
        """Give a decoder without one a fresh residual convolution (the identity until it is trained)."""
        self.deblock = _Deblock(channels)
        self.register_to_config(deblock_channels=channels)

    def enable_tiling(self, *_: object, **__: object) -> None:
        """Nothing to do: blocks are coded one by one."""

    @staticmethod
    def blocks(video: Tensor) -> tuple[Tensor, Tensor]:
        """[B, 3, 4k+1, 8h, 8w] -> first [B, h, w, 192] and rest [B, k, h, w, 768]."""
        b, c, f, height, width = video.shape
        if c != 3 or (f - 1) % TEMPORAL or height % SPATIAL or width % SPATIAL:
            raise ValueError(f"a video must be [B, 3, 4k+1, 8h, 8w], got {tuple(video.shape)}")
        h, w = height // SPATIAL, width // SPATIAL
        first = video[:, :, 0].reshape(b, c, h, SPATIAL, w, SPATIAL).permute(0, 2, 4, 1, 3, 5).flatten(3)
        k = (f - 1) // TEMPORAL
        rest = video[:, :, 1:].reshape(b, c, k, TEMPORAL, h, SPATIAL, w, SPATIAL)
        return first, rest.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)

    @staticmethod
    def unblocks(first: Tensor, rest: Tensor) -> Tensor:
        """The inverse of `blocks`."""
        b, k, h, w, _ = rest.shape
        head = first.reshape(b, h, w, 3, SPATIAL, SPATIAL).permute(0, 3, 1, 4, 2, 5)
        head = head.reshape(b, 3, 1, h * SPATIAL, w * SPATIAL)
        tail = rest.reshape(b, k, h, w, 3, TEMPORAL, SPATIAL, SPATIAL).permute(0, 4, 1, 5, 2, 6, 3, 7)
        return torch.cat([head, tail.reshape(b, 3, k * TEMPORAL, h * SPATIAL, w * SPATIAL)], dim=2)

    def latents(self, video: Tensor) -> Tensor:
        """[B, 3, 4k+1, 8h, 8w] -> [B, C, k+1, h, w]: what `encode` wraps."""
        first, rest = self.blocks(video)
        z = torch.cat([self.encoder_first(first)[:, None], self.encoder_rest(rest)], dim=1)
        return z.permute(0, 4, 1, 2, 3)

    def pixels(self, latents: Tensor) -> Tensor:
        """[B, C, k+1, h, w] -> [B, 3, 4k+1, 8h, 8w]: what `decode` wraps."""
        z = latents.permute(0, 2, 3, 4, 1)
        video = self.unblocks(self.decoder_first(z[:, 0]), self.decoder_rest(z[:, 1:]))
        return video if self.deblock is None else self.deblock(video)

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        z = self.latents(x)
        moments = torch.cat([z, torch.full_like(z, -30.0)], dim=1)  # log-variance at its floor: a point
        posterior = DiagonalGaussianDistribution(moments, deterministic=True)
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        video = self.pixels(z)
        return DecoderOutput(sample=video) if return_dict else (video,)

    def forward(self, sample: Tensor) -> Tensor:
        """Reconstruct: [B, 3, 4k+1, 8h, 8w] -> the same."""
        return self.pixels(self.latents(sample))

    @torch.no_grad()
    def fit(self, video: Tensor, weight: Tensor, *, power: float = 0.0) -> None:
        """Set the linear maps from principal components. video [N, 3, F, H, W]; weight [N, F, H, W], >= 0, a pixel."""
        heavy = weight[:, None].expand(-1, 3, -1, -1, -1)
        pairs = zip(self.blocks(video), self.blocks(heavy), strict=True)
        maps = ((self.encoder_first, self.decoder_first), (self.encoder_rest, self.decoder_rest))
        for (values, weights), (encoder, decoder) in zip(pairs, maps, strict=True):
            _principal(values.flatten(0, -2), weights.flatten(0, -2).mean(-1), encoder, decoder, power)


class AutoencoderPatchImage(ModelMixin, ConfigMixin):
    """The same for pictures, frame by frame: blocks of 8x8 pixels, for backbones whose autoencoder knows no time.

    `encode` and `decode` take and give pictures [B, 3, 8h, 8w] and [B, C, h, w], as AutoencoderKL does; `latents` and
    `pixels` videos [B, 3, F, 8h, 8w] and [B, C, F, h, w]. block_out_channels has four entries, by which pipelines
    reckon 8 pixels a latent; nothing else is in it. Raises ValueError for a shape that does not fit.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 40,
        deblock_channels: int = 0,
        scaling_factor: float = 1.0,
        block_out_channels: tuple[int, ...] = (1, 1, 1, 1),
    ) -> None:
        super().__init__()
        self.encoder = nn.Linear(3 * SPATIAL**2, latent_channels)
        self.decoder = nn.Linear(latent_channels, 3 * SPATIAL**2)
        self.deblock = _Deblock(deblock_channels) if deblock_channels else None

    def add_deblock(self, channels: int) -> None:
        """Give a decoder without one a fresh residual convolution (the identity until it is trained)."""
        self.deblock = _Deblock(channels)
        self.register_to_config(deblock_channels=channels)

    def enable_tiling(self, *_: object, **__: object) -> None:
        """Nothing to do: blocks are coded one by one."""

    @staticmethod
    def blocks(video: Tensor) -> Tensor:
        """[B, 3, F, 8h, 8w] -> [B, F, h, w, 192]."""
        b, c, f, height, width = video.shape
        if c != 3 or height % SPATIAL or width % SPATIAL:
            raise ValueError(f"pictures must be [B, 3, 8h, 8w], got {(b, c, height, width)}")
        x = video.reshape(b, c, f, height // SPATIAL, SPATIAL, width // SPATIAL, SPATIAL)
        return x.permute(0, 2, 3, 5, 1, 4, 6).flatten(4)

    def latents(self, video: Tensor) -> Tensor:
        """[B, 3, F, 8h, 8w] -> [B, C, F, h, w]."""
        return self.encoder(self.blocks(video)).permute(0, 4, 1, 2, 3)

    def pixels(self, latents: Tensor) -> Tensor:
        """[B, C, F, h, w] -> [B, 3, F, 8h, 8w]."""
        x = self.decoder(latents.permute(0, 2, 3, 4, 1)).unflatten(-1, (3, SPATIAL, SPATIAL))
        video = x.permute(0, 4, 1, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
        return video if self.deblock is None else self.deblock(video)

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        z = self.latents(x[:, :, None])[:, :, 0]
        moments = torch.cat([z, torch.full_like(z, -30.0)], dim=1)  # log-variance at its floor: a point
        posterior = DiagonalGaussianDistribution(moments, deterministic=True)
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(self, z: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        picture = self.pixels(z[:, :, None])[:, :, 0]
        return DecoderOutput(sample=picture) if return_dict else (picture,)

    def forward(self, sample: Tensor) -> Tensor:
        """Reconstruct pictures: [B, 3, 8h, 8w] -> the same."""
        return self.pixels(self.latents(sample[:, :, None]))[:, :, 0]

    @torch.no_grad()
    def fit(self, video: Tensor, weight: Tensor, *, power: float = 0.0) -> None:
        """Set the linear maps from principal components. video [N, 3, F, H, W]; weight [N, F, H, W], >= 0, a pixel."""
        heavy = self.blocks(weight[:, None].expand(-1, 3, -1, -1, -1)).flatten(0, -2).mean(-1)
        _principal(self.blocks(video).flatten(0, -2), heavy, self.encoder, self.decoder, power)


PatchAutoencoder = AutoencoderPatchVideo | AutoencoderPatchImage


def autoencoder_from(folder: Path) -> PatchAutoencoder:
    """Either of them, float32, as the folder's config.json says. Raises ValueError for one of another class."""
    name = json.loads((folder / "config.json").read_text()).get("_class_name")
    for kind in (AutoencoderPatchVideo, AutoencoderPatchImage):
        if name == kind.__name__:
            return kind.from_pretrained(folder, torch_dtype=torch.float32)
    raise ValueError(f"{folder} holds a {name}; there are AutoencoderPatchVideo and AutoencoderPatchImage")


def _principal(values: Tensor, weights: Tensor, encoder: nn.Linear, decoder: nn.Linear, power: float) -> None:
    """Into both maps: the leading directions of values [N, D], weighted [N], their scale as the module says."""
    x, w = values.double(), weights.double()
    w = w / w.sum()
    mean = (w[:, None] * x).sum(0)
    centred = x - mean
    cov = centred.T @ (centred * w[:, None])
    eigenvalues, vectors = torch.linalg.eigh(cov)
    order = eigenvalues.argsort(descending=True)[: encoder.out_features]
    std, directions = eigenvalues[order].clamp_min(1e-12).sqrt(), vectors[:, order].T
    scale = std**-power
    gain = 1.0 / (scale * std).square().mean().sqrt()
    scale = scale * gain
    encoder.weight.copy_(scale[:, None] * directions)
    encoder.bias.copy_(-scale * (directions @ mean))
    decoder.weight.copy_((directions / scale[:, None]).T)
    decoder.bias.copy_(mean)
