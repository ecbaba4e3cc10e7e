"""The Wan family: a DiT with cross-attention on UMT5 text, a causal 3-D VAE normalised channel by channel.

Conditioning, as this denoiser takes it: always 512 text tokens, zeros behind the last real one and no mask, so what a
method makes of a shorter prompt is put in place of the padding's head; no pooled text; guidance is true
classifier-free guidance against the backbone's negative prompt. The latents are (z - mean) / std in float32: without
it a training runs, on the wrong scale.

A first image is one of two things. Of 2.2 5B (`image_frames` 1) it is the clean first latent frame, and the time is
told token by token: 0 there, t elsewhere. Of the I2V rows it is a condition beside the latents, channel by channel and
as long as the video; no frame is fixed. That of 2.1 also looks at it through a CLIP ("image_prompts"): attn2 has keys
and values of its own for what that sees. A14B's transformer is two experts (wan_experts.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from synmotion_core.backbones.attention import attention_for, of_cross_attention
from synmotion_core.backbones.checks import check_images, check_length, check_projections, check_video, latent_shape
from synmotion_core.backbones.pictures import as_pictures
from synmotion_core.backbones.real_world import KNOWS, PRIORS
from synmotion_core.backbones.roles import NO_ROLES, Spans, spans_of, token_roles
from synmotion_core.backbones.solver import FlowSolver
from synmotion_core.backbones.words import FirstEncoder, Tokens, with_word
from synmotion_core.diffusion import FlowMatching
from synmotion_core.errors import ConfigError
from synmotion_core.interfaces import BackboneSpec, Feature, TextLayers
from synmotion_core.types import Condition, Mode, Prompt, TextCondition, VideoShape

if TYPE_CHECKING:
    from diffusers import WanImageToVideoPipeline, WanPipeline

    Pipeline = WanPipeline | WanImageToVideoPipeline

TEXT_TOKENS = 512  # the denoiser's fixed length
_NEGATIVE = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, paintings, images, static, overall "
    "gray, worst quality, low quality, JPEG compression residue, ugly, incomplete, extra fingers, poorly drawn hands, "
    "poorly drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, messy background, three "
    "legs, many people in the background, walking backwards"
)  # diffusers' own, in English

_SHIFTS: Mapping[tuple[int, int], float] = {(480, 832): 3.0, (720, 1280): 5.0}  # of noise levels, as published


def _row(
    *,
    transformer: int,
    vae: int = 126_892_531,
    image_encoder: int | None = None,
    options: Mapping[str, Any] | None = None,
    **own: Any,
) -> BackboneSpec:
    """A row; what is not given is as in Wan 2.1 from text. With a boundary_ratio it has two transformers alike, with an
    image_encoder one that pictures are seen through."""
    denoiser = {"transformer": transformer} | ({"transformer_2": transformer} if "boundary_ratio" in own else {})
    sees = {} if image_encoder is None else {"image_encoder": image_encoder}
    # what a learnt word is read with says nothing of a picture
    reads: frozenset[Feature] = frozenset({"word_embeddings"} if image_encoder is None else {"image_prompts"})
    common: dict[str, Any] = {
        "family": "wan",
        "licence": "apache-2.0",
        "licence_link": "https://www.apache.org/licenses/LICENSE-2.0",
        "modes": ("t2v",),
        "features": frozenset(
            {
                *("token_roles", "free_text", "attention_lora", "true_cfg"),
                *("first_block_cache", "taylorseer_cache"),
            }
        )
        | reads,
        "frame_multiple": 4,
        "size_multiple": 16,
        "max_frames": 321,
        "max_pixels": 2560 * 1440,
        "num_inference_steps": 50,
        "guidance_scale": 5.0,
        "negative_prompt": _NEGATIVE,
        "max_prompt_tokens": TEXT_TOKENS,
        "parameters": {**denoiser, "vae": vae, "text_encoder": 5_680_910_336, **sees},
        "needs_gpu": True,
        "batch_size": 1,
        "knows": KNOWS,
        "options": {
            "sigma_shift": 3.0,  # the scheduler's own
            "token_px": 16,
            **PRIORS,
            **(options or {}),
        },
    }
    return BackboneSpec(**(common | own))


SPECS: tuple[BackboneSpec, ...] = (
    _row(
        name="wan2.1-t2v-1.3b",
        title="Wan 2.1 1.3B, from text",
        repo="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        revision="0fad780a534b6463e45facd96134c9f345acfa5b",
        transformer=1_418_996_800,
        shifts=_SHIFTS,
        default_shape=VideoShape(num_frames=49, height=480, width=832, fps=16.0),
    ),
    _row(
        name="wan2.1-t2v-14b",
        title="Wan 2.1 14B, from text",
        repo="Wan-AI/Wan2.1-T2V-14B-Diffusers",
        revision="38ec498cb3208fb688890f8cc7e94ede2cbd7f68",
        shifts=_SHIFTS,
        transformer=14_288_491_584,
        default_shape=VideoShape(num_frames=49, height=320, width=512, fps=16.0),
    ),
    # the 720P weights are of the same class: put into the workspace, they take these' place
    _row(
        name="wan2.1-i2v-14b",
        title="Wan 2.1 14B, from a picture",
        repo="Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
        revision="b184e23a8a16b20f108f727c902e769e873ffc73",
        modes=("i2v",),
        transformer=16_394_878_784,
        image_encoder=630_766_080,
        held={"image_encoder": "float32"},  # as the official code and diffusers read it
        default_shape=VideoShape(num_frames=49, height=320, width=512, fps=16.0),
        shifts=_SHIFTS,
        num_inference_steps=40,
    ),
    _row(
        name="wan2.2-ti2v-5b",
        title="Wan 2.2 5B, from text or a picture",
        repo="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
        revision="b8fff7315c768468a5333511427288870b2e9635",
        modes=("t2v", "i2v"),
        image_frames=1,
        transformer=4_999_787_712,
        vae=704_688_668,
        default_shape=VideoShape(num_frames=49, height=480, width=832, fps=24.0),
        shifts={(704, 1280): 5.0},
        knows=f"{KNOWS}. It is published for 1280x704 and 704x1280 alone: smaller videos, as by default here, need "
        "less memory and are outside of that",
        max_frames=481,
        size_multiple=32,  # its autoencoder makes latents 16 times smaller, of which a token takes 2 x 2
        options={"sigma_shift": 5.0, "token_px": 32, "expand_timesteps": True},
    ),
    # two experts each; steps, guidance and flow_shift are the official code's. The shift decides how much work each
    # expert gets: the one for high noise 26 (11) of 40 steps, and 70 % (14 %) of the training levels, which are drawn
    # with the same shift. From text the Hub's scheduler would shift by 3 instead, for 13 steps. From a picture the
    # official code shifts by 3 at 480p, this row's class of sizes, and by 5 at 720p (15 steps, 28 %).
    _row(
        name="wan2.2-t2v-a14b",
        title="Wan 2.2 2x14B, from text",
        repo="Wan-AI/Wan2.2-T2V-A14B-Diffusers",
        revision="5be7df9619b54f4e2667b2755bc6a756675b5cd7",
        transformer=14_288_491_584,
        boundary_ratio=0.875,
        default_shape=VideoShape(num_frames=49, height=320, width=512, fps=16.0),
        num_inference_steps=40,
        guidance_scale=4.0,
        guidance_scale_2=3.0,
        flow_shift=12.0,
        shifts=dict.fromkeys(_SHIFTS, 12.0),
        options={"sigma_shift": 12.0},
    ),
    _row(
        name="wan2.2-i2v-a14b",
        title="Wan 2.2 2x14B, from a picture",
        repo="Wan-AI/Wan2.2-I2V-A14B-Diffusers",
        revision="596658fd9ca6b7b71d5057529bbf319ecbc61d74",
        modes=("i2v",),
        transformer=14_288_901_184,
        boundary_ratio=0.9,
        default_shape=VideoShape(num_frames=49, height=320, width=512, fps=16.0),
        num_inference_steps=40,
        guidance_scale=3.5,
        guidance_scale_2=3.5,
        flow_shift=3.0,
        shifts=_SHIFTS,
    ),
)


def _with_first(frame: Tensor, latents: Tensor) -> Tensor:
    """Latents [B, C, f, h, w] with another first frame [B, C, 1, h, w]."""
    return torch.cat([frame.to(latents), latents[:, :, 1:]], dim=2)


def _without_autocast(module: nn.Module) -> None:
    """A part that diffusers keeps in float32 computes in it, also where the rest runs under autocast.

    Under autocast the time's embedding would be wrong by 0.4 %, where its cast to bf16 behind it costs 0.16 %.
    """
    entered: list[torch.autocast] = []

    def enter(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        entered.append(torch.autocast(args[0].device.type, enabled=False))
        entered[-1].__enter__()

    def leave(*_: Any) -> None:
        entered.pop().__exit__(None, None, None)

    module.register_forward_pre_hook(enter)
    module.register_forward_hook(leave, always_call=True)


class Wan(FirstEncoder):
    """A loaded Wan backbone. See interfaces.Backbone for the contract of each member."""

    weights = "bf16"

    def __init__(self, spec: BackboneSpec, pipe: Pipeline, device: torch.device, fingerprint: str) -> None:
        self.spec, self.pipe, self.device, self.fingerprint = spec, pipe, device, fingerprint
        self._expand_timesteps = bool(spec.options.get("expand_timesteps", False))
        for what, own in (("expand_timesteps", self._expand_timesteps), ("boundary_ratio", spec.boundary_ratio)):
            if pipe.config[what] != own:
                raise ConfigError(
                    f"{spec.name}: {what} is {pipe.config[what]} in this pipeline, {own} in that of {spec.repo}"
                )
        self.denoiser: nn.Module = pipe.transformer
        if spec.boundary_ratio is not None:
            from synmotion_core.backbones.wan_experts import WanExperts

            experts = WanExperts(pipe.transformer, pipe.transformer_2, spec.boundary_ratio * 1000)
            self.denoiser = experts.requires_grad_(False).eval()
        for expert in filter(None, (pipe.transformer, pipe.transformer_2)):
            _without_autocast(expert.condition_embedder.time_embedder)
        # some of its modules stay in float32, and its blocks may be quantised
        self.dtype: torch.dtype = pipe.transformer.patch_embedding.weight.dtype
        self.diffusion = FlowMatching(shift=spec.options["sigma_shift"])
        self.text_width = int(pipe.transformer.config["text_dim"])
        stats = (torch.tensor(pipe.vae.config[f"latents_{what}"]).view(1, -1, 1, 1, 1) for what in ("mean", "std"))
        mean, std = (x.float().to(device) for x in stats)
        self._mean, self._scale = mean, 1.0 / std  # multiplied by, as the pipelines do: equal to the last bit

    @staticmethod
    def pipeline(spec: BackboneSpec) -> Any:
        """The stock pipeline's class that a row is loaded as."""
        from diffusers import WanImageToVideoPipeline, WanPipeline

        return WanPipeline if "t2v" in spec.modes else WanImageToVideoPipeline

    def unread(self, texts: Sequence[str]) -> list[str]:
        return []

    def release_encoders(self) -> None:
        self.pipe.encoders.release()

    # ------------------------------------------------------------------ video

    def latent_shape(self, shape: VideoShape) -> tuple[int, int, int, int]:
        return latent_shape(self.spec, self.pipe, int(self.pipe.vae.config["z_dim"]), shape)

    @torch.no_grad()
    def encode_video(self, pixels: Tensor) -> Tensor:
        check_video(pixels)
        z = self.pipe.vae.encode(pixels.to(self.device, self.pipe.vae.dtype)).latent_dist.mode()
        return (z.float() - self._mean) * self._scale

    def encode_image(self, pixels: Tensor, num_frames: int) -> Tensor:
        self.spec.check_mode("i2v")
        check_images(pixels)
        image = pixels[:, :, None]
        if self.spec.image_frames:
            return self.encode_video(image)
        # What is known of the video, and a mask that says what is: the image, then grey. Not only the first frame is
        # encoded, although this autoencoder is causal: what it makes of grey frames still depends on those before.
        batch, _, _, height, width = image.shape
        fps = self.spec.default_shape.fps
        size = self.latent_shape(VideoShape(num_frames=num_frames, height=height, width=width, fps=fps))
        grey = image.new_zeros(batch, 3, num_frames - 1, height, width)
        latents = self.encode_video(torch.cat([image, grey], dim=2))
        known = latents.new_zeros(batch, self.pipe.vae_scale_factor_temporal, *size[1:])  # a channel for each frame
        known[:, :, 0] = 1
        return torch.cat([known, latents], dim=1)

    def start_latents(self, noise: Tensor, image_latents: Tensor | None) -> Tensor:
        if image_latents is None or not self.spec.image_frames:
            return noise
        return _with_first(image_latents, noise)

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        z = latents.to(self.device).float() / self._scale + self._mean
        return self.pipe.vae.decode(z.to(self.pipe.vae.dtype), return_dict=False)[0].float().clamp(-1, 1)

    # ------------------------------------------------------------------ text

    def encode_prompt(self, prompts: Sequence[Prompt], images: Tensor | None = None) -> TextCondition:
        return self._encode(self._tokens([p.text for p in prompts], spans_of(prompts)), prompts, images)

    def encode_text(self, texts: Sequence[str], images: Tensor | None = None) -> TextCondition:
        return self._encode(self._tokens(list(texts), [NO_ROLES] * len(texts)), [None] * len(texts), images)

    def _tokens(self, texts: list[str], spans: list[Spans]) -> Tokens:
        """The pipeline's, trimmed to the longest prompt. (It also mends HTML entities: that would move roles.)"""
        inputs = self.pipe.tokenizer(texts, padding=True, return_tensors="pt", return_offsets_mapping=True)
        for text, length in zip(texts, inputs["attention_mask"].sum(1).tolist(), strict=True):
            check_length(text, length, self.spec.max_prompt_tokens, self.spec.name)
        subject, motion = token_roles(inputs["offset_mapping"], spans)
        return Tokens(ids=inputs["input_ids"], mask=inputs["attention_mask"], subject=subject, motion=motion)

    @torch.no_grad()
    def _encode(self, tokens: Tokens, prompts: Sequence[Prompt | None], images: Tensor | None) -> TextCondition:
        tokens = tokens.to(self.device)
        embeds = self.pipe.text_encoder(tokens.ids, tokens.mask).last_hidden_state.float()
        read = tokens.condition(embeds * tokens.mask.unsqueeze(-1), prompts)
        if "image_prompts" not in self.spec.features:
            return read
        pipe: Any = self.pipe
        seen = pipe.encode_image(as_pictures(images, len(prompts)), self.device)
        return dataclasses.replace(read, image_embeds=seen.float())

    def encode_word(self, prompts: Sequence[Prompt], word: Tensor) -> TextCondition:
        tokens = self._tokens([p.text for p in prompts], spans_of(prompts)).one_motion().to(self.device)
        with torch.autocast(self.device.type, enabled=False):
            words = with_word(self.pipe.text_encoder, tokens, word)
            embeds = self.pipe.text_encoder(inputs_embeds=words, attention_mask=tokens.mask).last_hidden_state.float()
        return tokens.condition(embeds * tokens.mask.unsqueeze(-1), prompts)

    # ------------------------------------------------------------------ denoiser

    def predict(self, noisy_latents: Tensor, sigmas: Tensor, condition: Condition) -> Tensor:
        image = condition.image_latents
        self.spec.check_mode("t2v" if image is None else "i2v")
        latents, timestep = noisy_latents.to(self.device), (sigmas * 1000).to(self.device)
        clean_frames = 0 if image is None else self.spec.image_frames
        if image is not None:
            latents = _with_first(image, latents) if clean_frames else torch.cat([latents, image.to(latents)], dim=1)
        if self._expand_timesteps:
            timestep = self._timestep_a_token(timestep, latents, clean_frames)
        embeds = condition.prompt_embeds.to(self.device) * condition.prompt_attention_mask.to(self.device).unsqueeze(-1)
        text = nn.functional.pad(embeds, (0, 0, 0, TEXT_TOKENS - embeds.shape[1]))
        seen = {}
        if "image_prompts" in self.spec.features:
            if condition.image_embeds is None:
                raise ValueError(
                    f"{self.spec.name}: image_latents without image_embeds: encode the prompts with the images"
                )
            seen["encoder_hidden_states_image"] = condition.image_embeds.to(self.device, self.dtype)
        with attention_for(self.device):
            velocity = self.denoiser(
                hidden_states=latents.to(self.dtype),
                timestep=timestep,
                encoder_hidden_states=text.to(self.dtype),
                **seen,
                return_dict=False,
            )[0].float()
        return _with_first(torch.zeros_like(velocity[:, :, :1]), velocity) if clean_frames else velocity

    def _timestep_a_token(self, timestep: Tensor, latents: Tensor, clean_frames: int) -> Tensor:
        """[B] -> [B, tokens], frame by frame; 0 in the leading `clean_frames`. Also where all are equal, as the
        pipelines do."""
        frames, height, width = latents.shape[2:]
        _, patch_height, patch_width = self.pipe.transformer.config["patch_size"]
        a_frame = timestep[:, None].repeat(1, frames)
        a_frame[:, :clean_frames] = 0
        return a_frame.repeat_interleave((height // patch_height) * (width // patch_width), dim=1)

    def transformers(self, mode: Mode) -> Sequence[nn.Module]:
        experts = self.spec.boundary_ratio is not None
        return [self.pipe.transformer, self.pipe.transformer_2] if experts else [self.denoiser]

    def solver(
        self, num_inference_steps: int, shape: VideoShape, eta: float = 0.0, flow_shift: float | None = None
    ) -> FlowSolver:
        return FlowSolver(self.pipe.scheduler, num_inference_steps, eta, flow_shift, own_levels=True)

    def attention_targets(self, projections: str = "qkv") -> str:
        """Of the video's self-attention (attn1) and of its look at the text (attn2), in both experts of two.

        Not of its look at a picture (add_k_proj, add_v_proj): a motion is no picture's, and so files of 2.1 from text
        and from a picture name the same layers. Those of other programs may have them.
        """
        own = {"q": "to_q", "k": "to_k", "v": "to_v", "o": r"to_out\.0"}
        check_projections(projections)
        return rf"((high|low)_noise\.)?blocks\.\d+\.attn[12]\.({'|'.join(own[p] for p in projections)})"

    def text_layers(self, projections: str = "qkv") -> TextLayers:
        check_projections(projections)
        return TextLayers(alone=rf"((high|low)_noise\.)?blocks\.\d+\.attn2\.{of_cross_attention(projections)}")
