"""The anatomy of `puppet-unet3d`: UNet3DConditionModel, CLIP's text model, DDIM at a tiny config, freshly initialised.

Stock classes but for the autoencoder, which codes frame by frame as theirs does (autoencoder.py). DDIM's own schedule,
but that the U-Net predicts the clean latents: blueprint.py says why, and the house's terms make no difference of it.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from diffusers import DDIMScheduler, UNet3DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from synmotion_core.backbones.unet3d_parts import UNet3DParts
from synmotion_core.puppets.autoencoder import AutoencoderPatchImage
from synmotion_core.puppets.blueprint import clip_tokenizer, corpus_of_captions

MAX_TOKENS = 48  # CLIP's marks included; always so many, since the U-Net reads padding as well
WIDTH = 128  # of the text


def build_unet3d(vae: AutoencoderPatchImage, seed: int = 0) -> UNet3DParts:
    """An untrained `puppet-unet3d`: two levels of 80 channels, 5.1 M parameters in all."""
    torch.manual_seed(seed)
    tokenizer = clip_tokenizer(corpus_of_captions())
    tokenizer.model_max_length = MAX_TOKENS
    ends: Any = tokenizer.eos_token_id
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            projection_dim=WIDTH,
            bos_token_id=cast(int, tokenizer.bos_token_id),
            eos_token_id=ends,
            pad_token_id=ends,
        )
    )
    unet = UNet3DConditionModel(**unet_config(vae.config["latent_channels"]))
    for module in unet.modules():  # as ModelScope began: what is new in time adds nothing at first
        if type(module).__name__ == "TransformerTemporalModel":
            nn.init.zeros_(cast(Any, module).proj_out.weight)
            nn.init.zeros_(cast(Any, module).proj_out.bias)
    return UNet3DParts(vae=cast(Any, vae), text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=ddim())


def ddim() -> DDIMScheduler:
    """Stable Diffusion's noise levels, scaled to end in pure noise (Lin et al., 2305.08891): the large one-coloured
    backgrounds of this world would show through the 7 % of signal that its last level has, which is where drawing
    begins. The last step is to clean latents.
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        prediction_type="sample",
    )


def unet_config(latent_channels: int) -> dict[str, Any]:
    """Arguments of UNet3DConditionModel."""
    return {
        "sample_size": 8,
        "in_channels": latent_channels,
        "out_channels": latent_channels,
        "down_block_types": ("CrossAttnDownBlock3D", "CrossAttnDownBlock3D"),
        "up_block_types": ("CrossAttnUpBlock3D", "CrossAttnUpBlock3D"),
        "block_out_channels": (80, 80),
        "layers_per_block": 1,
        "norm_num_groups": 16,
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 16,
    }
