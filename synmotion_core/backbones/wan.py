"""The Wan family: a DiT with cross-attention on UMT5 text, a causal 3-D VAE normalised channel by channel.

Conditioning, as this denoiser takes it: always 512 text tokens, zeros behind the last real one and no mask, so what a
method makes of a shorter prompt is put in place of the padding's head; no pooled text; guidance is true
classifier-free guidance against the backbone's negative prompt. The latents are (z - mean) / std in float32: without
it a training runs, on the wrong scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from synmotion_core.backbones.attention import attention_for
from synmotion_core.backbones.checks import check_length, check_projections, check_video, latent_shape
from synmotion_core.backbones.loading import choose_device, load_pipeline
from synmotion_core.backbones.real_world import KNOWS, PRIORS
from synmotion_core.backbones.roles import NO_ROLES, Spans, token_roles
from synmotion_core.backbones.solver import FlowSolver
from synmotion_core.diffusion import FlowMatching
from synmotion_core.errors import MissingError
from synmotion_core.interfaces import BackboneSpec
from synmotion_core.precision import PLAIN, Precision
from synmotion_core.types import Condition, Prompt, TextCondition, VideoShape

if TYPE_CHECKING:
    from diffusers import WanPipeline

TEXT_TOKENS = 512  # the denoiser's fixed length
_NEGATIVE = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, overall "
    "gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn hands, "
    "poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, three "
    "legs, many people in the background, walking backwards"
)  # diffusers' own, in English


def _row(name: str, title: str, repo: str, revision: str, transformer: int, shape: VideoShape) -> BackboneSpec:
    return BackboneSpec(
        name=name,
        title=title,
        family="wan",
        repo=repo,
        revision=revision,
        licence="apache-2.0",
        licence_link="https://www.apache.org/licenses/LICENSE-2.0",
        modes=("t2v",),
        features=frozenset({"token_roles", "free_text", "attention_lora", "true_cfg"}),
        default_shape=shape,
        frame_multiple=4,
        size_multiple=16,
        num_inference_steps=50,
        guidance_scale=5.0,
        negative_prompt=_NEGATIVE,
        max_prompt_tokens=TEXT_TOKENS,
        parameters={"transformer": transformer, "vae": 126_892_531, "text_encoder": 5_680_910_336},
        needs_gpu=True,
        knows=KNOWS,
        options={
            "sigma_shift": 3.0,  # the scheduler's own, at 480p
            "token_px": 16,
            **PRIORS,
        },
    )


SPECS: tuple[BackboneSpec, ...] = (
    _row(
        "wan2.1-t2v-1.3b",
        "Wan 2.1 1.3B, from text",
        "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        "0fad780a534b6463e45facd96134c9f345acfa5b",
        1_418_996_800,
        VideoShape(num_frames=49, height=480, width=832, fps=16.0),
    ),
    _row(
        "wan2.1-t2v-14b",
        "Wan 2.1 14B, from text",
        "Wan-AI/Wan2.1-T2V-14B-Diffusers",
        "38ec498cb3208fb688890f8cc7e94ede2cbd7f68",
        14_288_491_584,
        VideoShape(num_frames=49, height=320, width=512, fps=16.0),
    ),
)


def check_words(name: str, part: Any) -> None:
    """Raise MissingError for a text encoder that knows no word."""
    if name == "text_encoder" and not bool(part.get_input_embeddings().weight.any()):
        # checkpoints hold `shared` only; early transformers 5 left this one at zero
        raise MissingError("the text encoder's word embeddings are all zero: update transformers")


class Wan:
    """A loaded Wan backbone. See interfaces.Backbone for the contract of each member."""

    def __init__(self, spec: BackboneSpec, pipe: WanPipeline, device: torch.device, fingerprint: str) -> None:
        self.spec, self.pipe, self.device, self.fingerprint = spec, pipe, device, fingerprint
        self.denoiser: nn.Module = pipe.transformer
        # some of its modules stay in float32, and its blocks may be quantised
        self.dtype: torch.dtype = pipe.transformer.patch_embedding.weight.dtype
        self.diffusion = FlowMatching(shift=spec.options["sigma_shift"])
        self.text_width = int(pipe.transformer.config["text_dim"])
        stats = (torch.tensor(pipe.vae.config[f"latents_{what}"]).view(1, -1, 1, 1, 1) for what in ("mean", "std"))
        self._mean, self._std = (x.float().to(device) for x in stats)
        if not pipe.tokenizer.is_fast:
            raise MissingError(f"{spec.name}: token roles need a fast tokenizer, got {type(pipe.tokenizer).__name__}")

    @classmethod
    def load(
        cls,
        spec: BackboneSpec,
        *,
        device: str | None = None,
        folder: Path | None = None,
        precision: Precision = PLAIN,
    ) -> Wan:
        """From a diffusers folder or the Hub (pinned revision). Safetensors only, no remote code."""
        from diffusers import WanPipeline

        chosen = choose_device(spec, device)
        pipe, fingerprint = load_pipeline(WanPipeline, spec, chosen, folder, precision, look=check_words)
        return cls(spec, pipe, chosen, fingerprint)

    def release_encoders(self) -> None:
        self.pipe.encoders.release()

    # ------------------------------------------------------------------ video

    def latent_shape(self, shape: VideoShape) -> tuple[int, int, int, int]:
        return latent_shape(self.spec, self.pipe, int(self.pipe.transformer.config["in_channels"]), shape)

    @torch.no_grad()
    def encode_video(self, pixels: Tensor) -> Tensor:
        check_video(pixels)
        z = self.pipe.vae.encode(pixels.to(self.device, self.pipe.vae.dtype)).latent_dist.mode()
        return (z.float() - self._mean) / self._std

    def encode_image(self, pixels: Tensor) -> Tensor:
        self.spec.check_mode("i2v")
        raise NotImplementedError("no row of this family begins with a picture yet")

    def start_latents(self, noise: Tensor, image_latents: Tensor | None) -> Tensor:
        return noise

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        z = latents.to(self.device).float() * self._std + self._mean
        return self.pipe.vae.decode(z.to(self.pipe.vae.dtype), return_dict=False)[0].float().clamp(-1, 1)

    # ------------------------------------------------------------------ text

    def encode_prompt(self, prompts: Sequence[Prompt], images: Tensor | None = None) -> TextCondition:
        return self._encode([p.text for p in prompts], [(p.span("subject"), p.span("motion")) for p in prompts])

    def encode_text(self, texts: Sequence[str]) -> TextCondition:
        return self._encode(list(texts), [NO_ROLES] * len(texts))

    @torch.no_grad()
    def _encode(self, texts: list[str], spans: list[Spans]) -> TextCondition:
        """The pipeline's, trimmed to the longest prompt. (It also mends HTML entities: that would move roles.)"""
        inputs = self.pipe.tokenizer(texts, padding=True, return_tensors="pt", return_offsets_mapping=True)
        for text, length in zip(texts, inputs["attention_mask"].sum(1).tolist(), strict=True):
            check_length(text, length, self.spec.max_prompt_tokens, self.spec.name)
        mask = inputs["attention_mask"].to(self.device)
        embeds = self.pipe.text_encoder(inputs["input_ids"].to(self.device), mask).last_hidden_state.float()
        subject, motion = token_roles(inputs["offset_mapping"], spans)
        return TextCondition(
            prompt_embeds=embeds * mask.unsqueeze(-1),
            prompt_attention_mask=mask,
            pooled_prompt_embeds=None,
            subject_tokens=subject.to(self.device),
            motion_tokens=motion.to(self.device),
        )

    # ------------------------------------------------------------------ denoiser

    def predict(self, noisy_latents: Tensor, sigmas: Tensor, condition: Condition) -> Tensor:
        self.spec.check_mode("t2v" if condition.image_latents is None else "i2v")
        embeds = condition.prompt_embeds.to(self.device) * condition.prompt_attention_mask.to(self.device).unsqueeze(-1)
        text = nn.functional.pad(embeds, (0, 0, 0, TEXT_TOKENS - embeds.shape[1]))
        with attention_for(self.device):
            return self.denoiser(
                hidden_states=noisy_latents.to(self.device, self.dtype),
                timestep=(sigmas * 1000).to(self.device),
                encoder_hidden_states=text.to(self.dtype),
                return_dict=False,
            )[0].float()

    def solver(
        self, num_inference_steps: int, shape: VideoShape, eta: float = 0.0, flow_shift: float | None = None
    ) -> FlowSolver:
        return FlowSolver(self.pipe.scheduler, num_inference_steps, eta, flow_shift, own_levels=True)

    def attention_targets(self, projections: str = "qkv") -> str:
        """Of the video's self-attention (attn1) and of its look at the text (attn2)."""
        own = {"q": "to_q", "k": "to_k", "v": "to_v", "o": r"to_out\.0"}
        check_projections(projections)
        return rf"blocks\.\d+\.attn[12]\.({'|'.join(own[p] for p in projections)})"
