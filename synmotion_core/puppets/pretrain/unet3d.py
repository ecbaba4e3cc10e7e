"""Training `puppet-unet3d`: text encoder and U-Net, on clips and, its layers in time left out, on pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from synmotion_core.backbones import find_spec
from synmotion_core.backbones.attention import attention_for
from synmotion_core.backbones.unet3d import UNet3D, pictures
from synmotion_core.backbones.unet3d_parts import UNet3DParts
from synmotion_core.diffusion import EpsilonPrediction, expand, variance_scale
from synmotion_core.puppets.autoencoder import AutoencoderPatchImage
from synmotion_core.puppets.blueprint_unet3d import MAX_TOKENS, build_unet3d
from synmotion_core.puppets.pretrain.anatomy import Anatomy, Batch, Heads


class UNet3DHeads(Heads):
    """As it is drawn with: the tenth of dropout in the class's convolutions along time costs a tiny U-Net too much."""

    unet: Any
    text_encoder: Any

    def __init__(self, pipe: UNet3DParts, trained: Sequence[str], device: str = "cpu") -> None:
        super().__init__(pipe, trained, device)
        self.eval()
        self._levels = EpsilonPrediction(pipe.scheduler.alphas_cumprod)

    def compile(self) -> None:
        self.unet.compile(dynamic=False)

    def clean(self, noisy: Tensor, batch: Batch) -> Tensor:
        embeds = self.text_encoder(batch.text["input_ids"]).last_hidden_state
        scaled = noisy * expand(variance_scale(batch.sigma), noisy)  # (7) of diffusion.py
        with attention_for(noisy.device, everywhere=True), pictures(self.unet, noisy.shape[2] == 1):
            return self.unet(
                scaled.to(noisy.dtype),
                self._levels.timesteps(batch.sigma),
                encoder_hidden_states=embeds,
                return_dict=False,
            )[0].float()


class UNet3DAnatomy(Anatomy):
    name = "puppet-unet3d"
    denoiser = "unet"
    trained = ("unet", "text_encoder")
    autoencoder = AutoencoderPatchImage
    frames_alone = True
    takes_pictures = False

    def build(self, vae: AutoencoderPatchImage, seed: int = 0) -> UNet3DParts:
        return build_unet3d(vae, seed=seed)

    def take_over(self, folder: Path, seed: int = 0) -> UNet3DParts:
        pipe: Any = UNet3DParts.from_pretrained(folder, dtype=torch.float32)
        today = build_unet3d(pipe.vae, seed=seed)
        for part in self.trained:
            theirs, own = ({k: tuple(v.shape) for k, v in getattr(p, part).state_dict().items()} for p in (pipe, today))
            if odd := sorted(name for name in theirs.keys() | own.keys() if theirs.get(name) != own.get(name)):
                raise ValueError(f"{folder}: {part} is of another build ({len(odd)} tensors differ: {odd[0]}, ...)")
        return pipe

    def heads(self, pipe: UNet3DParts, device: str = "cpu") -> UNet3DHeads:
        return UNet3DHeads(pipe, self.trained, device)

    def tokens(self, pipe: UNet3DParts, captions: Sequence[str], *, fixed: bool) -> dict[str, Tensor]:
        # always as many: the U-Net reads padding as well
        tokenizer: Any = pipe.tokenizer
        read = tokenizer(
            list(captions), padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
        )
        return {"input_ids": read.input_ids}

    def by_muon(self, name: str, p: nn.Parameter) -> bool:
        outer = ("embedding", "conv_in", "conv_out")
        return p.ndim >= 2 and not any(part in name for part in outer) and min(len(p), p[0].numel()) >= 64

    def levels(self, pipe: UNet3DParts, sigmas: Tensor) -> Tensor:
        return EpsilonPrediction(pipe.scheduler.alphas_cumprod).nearest(sigmas)

    @torch.no_grad()
    def draw(
        self, pipe: UNet3DParts, prompts: Sequence[str], noise: torch.Generator, guidance_scale: float
    ) -> list[NDArray[np.uint8]]:
        backbone = UNet3D(find_spec(self.name), pipe, pipe.unet.device, fingerprint="")
        solver, count = backbone.solver(20, backbone.spec.default_shape), len(prompts)
        size = backbone.latent_shape(backbone.spec.default_shape)
        condition = backbone.encode_text([*([""] * count), *prompts]).as_condition()
        x = solver.start(torch.randn((count, *size), generator=noise).to(backbone.device))
        for sigma in solver.sigmas[:-1].to(backbone.device):
            velocity = backbone.predict(torch.cat([x, x]), sigma.expand(2 * count), condition)
            without, along = velocity.chunk(2)
            x = solver.step(without + guidance_scale * (along - without), x)
        video = backbone.decode_latents(x).permute(0, 2, 3, 4, 1)
        return list(((video.cpu().numpy() + 1) * 127.5).round().astype(np.uint8))
