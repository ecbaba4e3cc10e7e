"""The parts of a 3-D U-Net's pipeline, loaded and saved as diffusers does; it draws nothing by itself."""

from __future__ import annotations

from typing import Any

from diffusers import DiffusionPipeline, UNet3DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer


class UNet3DParts(DiffusionPipeline):
    """Folders and repositories of the stock TextToVideoSDPipeline, which has the same parts, load as this."""

    vae_scale_factor_temporal = 1  # frame by frame

    def __init__(
        self,
        vae: Any,  # AutoencoderKL, or the puppets' own, of which diffusers would warn at every load
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: UNet3DConditionModel,
        scheduler: Any,
    ) -> None:
        super().__init__()
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler)
        self.vae_scale_factor_spatial = 2 ** (len(vae.config["block_out_channels"]) - 1)
