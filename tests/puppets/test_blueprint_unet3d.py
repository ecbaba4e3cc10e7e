"""The anatomy of puppet-unet3d: what its autoencoder keeps, and that both our loader and the stock pipeline take it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synmotion_core.backbones import find_spec
from synmotion_core.backbones.loading import load_pipeline
from synmotion_core.backbones.unet3d import UNet3D
from synmotion_core.evaluation.figures import decibels
from synmotion_core.generation import default_sampler, denoise, to_frames
from synmotion_core.precision import PLAIN
from synmotion_core.puppets.autoencoder import AutoencoderPatchImage
from synmotion_core.puppets.blueprint_unet3d import MAX_TOKENS, build_unet3d
from synmotion_core.puppets.captions import caption_for, draw_scene
from synmotion_core.puppets.corpus import to_tensor
from synmotion_core.puppets.motions import RARE
from synmotion_core.puppets.stage import render
from synmotion_core.types import Prompt, VideoShape


@pytest.fixture(scope="module")
def vae() -> AutoencoderPatchImage:
    rng = np.random.default_rng(0)
    shows = [render(draw_scene(rng)) for _ in range(120)]
    made = AutoencoderPatchImage()
    made.fit(to_tensor(shows), 1.0 + 5.0 * torch.from_numpy(np.stack([s.mask for s in shows])).float())
    return made.eval()


def test_pictures_keep_their_hands_and_heads(vae: AutoencoderPatchImage) -> None:
    """At least 30 dB on motions that it never saw, before anything is trained to remove the blocks' edges."""
    rng = np.random.default_rng(1)
    shows = [render(draw_scene(rng, motions=RARE, other=0.0)) for _ in range(24)]
    with torch.no_grad():
        back = to_frames(vae.pixels(vae.latents(to_tensor(shows))).clamp(-1, 1))
    found = [decibels(frames.astype(float) - show.frames) for frames, show in zip(back, shows, strict=True)]
    assert np.mean(found) > 30


def test_a_picture_alone_is_the_frame_of_a_video(vae: AutoencoderPatchImage) -> None:
    video = to_tensor([render(draw_scene(np.random.default_rng(2)))])
    with torch.no_grad():
        latents = vae.latents(video)
        alone = vae.encode(video[:, :, 5]).latent_dist.mode()
        assert torch.equal(alone, latents[:, :, 5])
        torch.testing.assert_close(vae.decode(alone).sample, vae.pixels(latents)[:, :, 5])
        torch.testing.assert_close(vae(video[:, :, 5]), vae.pixels(latents)[:, :, 5])
    with pytest.raises(ValueError, match=r"pictures must be \[B, 3, 8h, 8w\], got \(1, 3, 60, 64\)"):
        vae.encode(torch.zeros(1, 3, 60, 64))


def test_a_residual_decoder_begins_as_the_identity(vae: AutoencoderPatchImage) -> None:
    other = AutoencoderPatchImage()
    other.load_state_dict(vae.state_dict())
    other.add_deblock(8)
    latents = torch.randn(1, 40, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(other.pixels(latents), vae.pixels(latents))
    assert other.config["deblock_channels"] == 8


def test_captions_fit() -> None:
    rng, pipe = np.random.default_rng(3), build_unet3d(AutoencoderPatchImage())
    captions = [caption_for(draw_scene(rng), rng).text for _ in range(500)]
    assert max(len(ids) for ids in pipe.tokenizer(captions).input_ids) <= MAX_TOKENS
    assert sum(p.numel() for part in (pipe.unet, pipe.text_encoder) for p in part.parameters()) < 7e6


def test_the_stock_pipeline_draws_what_we_draw(vae: AutoencoderPatchImage, tmp_path: Path) -> None:
    from diffusers import TextToVideoSDPipeline

    made = build_unet3d(vae, seed=1)
    for module in made.unet.modules():  # what begins at zero would hide how it is read
        if isinstance(module, torch.nn.Conv3d):
            torch.nn.init.normal_(module.weight, std=0.05)
    made.unet.eval()  # its temporal convolutions have dropout
    made.text_encoder.eval()
    made.save_pretrained(tmp_path / "folder")
    spec = dataclasses.replace(
        find_spec("modelscope-t2v-1.7b"),
        default_shape=VideoShape(num_frames=17, height=64, width=64, fps=8.0),
        needs_gpu=False,
        max_prompt_tokens=MAX_TOKENS,
        num_inference_steps=3,
    )
    pipe, fingerprint = load_pipeline(UNet3D.pipeline(spec), spec, torch.device("cpu"), tmp_path / "folder", PLAIN)
    ours = UNet3D(spec, pipe, torch.device("cpu"), fingerprint)
    prompt = Prompt(subject="a red cat", motion="walks")
    sampler = dataclasses.replace(default_sampler(ours, guidance_scale=4.0), mixed_precision="no")
    *_, latents = denoise(ours, None, [prompt], [5], sampler)
    noise = torch.randn((1, *ours.latent_shape(spec.default_shape)), generator=torch.Generator().manual_seed(5))
    stock: Any = TextToVideoSDPipeline(**made.components)
    stock.set_progress_bar_config(disable=True)
    theirs = stock(
        prompt.text, height=64, width=64, num_frames=17, num_inference_steps=3, guidance_scale=4.0, latents=noise,
        output_type="latent",
    ).frames  # fmt: skip
    torch.testing.assert_close(latents, theirs, rtol=1e-3, atol=1e-3)
    shown = ours.decode_latents(latents)
    assert shown.shape == (1, 3, 17, 64, 64)
