"""The HunyuanVideo-1.5 family: an MM-DiT denoiser of dual-stream blocks only, three streams beside the video, a causal
3-D VAE of 16 x 16 pixels a latent.

    hidden_states = [noisy 32 | condition 32 | mask 1]                    text: condition and mask are zero
                                                                          picture: its latents and 1 in frame 0
    text streams  = [picture (SigLIP) | quoted words (ByT5) | prompt (Qwen2.5-VL)]

No latent frame is fixed by a first image: the denoiser predicts all of them, the official training learns all of them,
the scheduler steps all of them. "From text" is said by picture embeddings that are exactly zero in the whole batch.

The prompt is a chat: a system message, cut off again behind the encoder, and the user's words. Methods work on this
stream; the other two ride along. Guidance is true classifier-free guidance; the picture is seen by both halves.

Source: HunyuanVideo15Pipeline and HunyuanVideo15ImageToVideoPipeline of diffusers; train.py of
Tencent-Hunyuan/HunyuanVideo-1.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from synmotion_core.backbones.attention import attention_for, dual_stream_targets, dual_stream_text
from synmotion_core.backbones.checks import check_images, check_length, check_marks, check_video, latent_shape
from synmotion_core.backbones.pictures import as_pictures
from synmotion_core.backbones.real_world import KNOWS_TENCENT, PRIORS
from synmotion_core.backbones.roles import NO_ROLES, Spans, spans_of, token_roles
from synmotion_core.backbones.solver import FlowSolver
from synmotion_core.diffusion import FlowMatching
from synmotion_core.errors import ConfigError
from synmotion_core.interfaces import BackboneSpec, Feature, TextLayers
from synmotion_core.types import Condition, Mode, Prompt, TextCondition, VideoShape, longest

if TYPE_CHECKING:
    from diffusers import HunyuanVideo15ImageToVideoPipeline, HunyuanVideo15Pipeline

    Pipeline = HunyuanVideo15Pipeline | HunyuanVideo15ImageToVideoPipeline

_GAP = " " * 8  # the pipelines' message was broken over indented lines: the tokens to cut off count these spaces
_SYSTEM_MESSAGE = _GAP.join(
    (
        "You are a helpful assistant. Describe the video by detailing the following aspects: ",
        "1. The main content and theme of the video. ",
        "2. The color, shape, size, texture, quantity, text, and spatial relationships of the objects. ",
        "3. Actions, events, behaviors temporal relationships, physical movement changes of the objects. ",
        "4. background environment, light, style and atmosphere. ",
        "5. camera angles, movements, and transitions used in the video.",
    )
)


def _row(*, name: str, title: str, repo: str, revision: str, mode: Mode, **options: Any) -> BackboneSpec:
    # diffusers knows no first-block cache for these blocks
    features: set[Feature] = {"token_roles", "free_text", "attention_lora", "true_cfg", "taylorseer_cache"}
    parameters = {
        "transformer": 8_326_608_160,
        "vae": 1_260_634_115,
        "text_encoder": 7_070_619_136,
        "text_encoder_2": 219_314_944,
    }
    if mode == "i2v":
        features.add("image_prompts")
        parameters["image_encoder"] = 428_225_600
    return BackboneSpec(
        name=name,
        title=title,
        family="hunyuan_video15",
        repo=repo,
        revision=revision,
        licence="tencent-hunyuan-community",
        licence_link="https://github.com/Tencent-Hunyuan/HunyuanVideo-1.5/blob/main/LICENSE",
        modes=(mode,),
        features=frozenset(features),
        default_shape=VideoShape(num_frames=49, height=320, width=512, fps=24.0),
        frame_multiple=4,
        size_multiple=16,
        max_frames=481,
        max_pixels=2560 * 1440,
        num_inference_steps=50,
        guidance_scale=6.0,
        max_prompt_tokens=1000,
        parameters=parameters,
        needs_gpu=True,
        batch_size=1,
        # as the official code reads them: ByT5 whole, for a T5's sums do not fit into float16
        held={
            "text_encoder": "float16",
            "text_encoder_2": "float32",
            **({"image_encoder": "float16"} if mode == "i2v" else {}),
        },
        knows=KNOWS_TENCENT,
        options={
            "sigma_shift": 3.0,  # the official training's; sampling shifts by 5
            "token_px": 16,
            "system_message": _SYSTEM_MESSAGE,
            "crop_start": 108,
            **options,
        },
    )


SPECS: tuple[BackboneSpec, ...] = (
    _row(
        name="hunyuanvideo-1.5",
        title="HunyuanVideo-1.5 8B, from text",
        repo="hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_t2v",
        revision="286be7ce72277246578a3e3cc2487e95ddae5bcf",
        mode="t2v",
        **PRIORS,
    ),
    _row(
        name="hunyuanvideo-1.5-i2v",
        title="HunyuanVideo-1.5 8B, from a picture",
        repo="hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_i2v",
        revision="5a700ee883ff4c1b3d887ec4188755a7a5e2f698",
        mode="i2v",
    ),
)


class HunyuanVideo15:
    """A loaded HunyuanVideo-1.5 backbone. See interfaces.Backbone for the contract of each member."""

    weights = "bf16"

    def __init__(self, spec: BackboneSpec, pipe: Pipeline, device: torch.device, fingerprint: str) -> None:
        _check_weights(spec, pipe)
        self.spec, self.device, self.fingerprint = spec, device, fingerprint
        self.pipe: Any = pipe
        self.denoiser: nn.Module = pipe.transformer
        pipe.vae.enable_slicing()  # one video at a time: its attention mask has the wrong shape for two
        self.dtype: torch.dtype = pipe.transformer.dtype
        # diffusers hands the time's features on in the timestep's own type. Told in bf16, a level would be right to a
        # few thousandths only; told in float32, as the official training does, the features would not fit the weights
        pipe.transformer.time_embed.timestep_embedder.register_forward_pre_hook(_in_the_weights_dtype)
        self.diffusion = FlowMatching(shift=spec.options["sigma_shift"])
        self.text_width = int(pipe.transformer.config["text_embed_dim"])
        self._lead = self._rendered(["{}"])[0].index("{}")  # characters of the chat before the prompt

    @staticmethod
    def pipeline(spec: BackboneSpec) -> Any:
        """The stock pipeline's class that a row is loaded as."""
        from diffusers import HunyuanVideo15ImageToVideoPipeline, HunyuanVideo15Pipeline

        return HunyuanVideo15Pipeline if "t2v" in spec.modes else HunyuanVideo15ImageToVideoPipeline

    def unread(self, texts: Sequence[str]) -> list[str]:
        return []

    def release_encoders(self) -> None:
        self.pipe.encoders.release()

    # ------------------------------------------------------------------ video

    def latent_shape(self, shape: VideoShape) -> tuple[int, int, int, int]:
        return latent_shape(self.spec, self.pipe, int(self.pipe.transformer.config["out_channels"]), shape)

    @torch.no_grad()
    def encode_video(self, pixels: Tensor) -> Tensor:
        check_video(pixels)
        vae = self.pipe.vae
        z = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mode()
        return z.float() * vae.config["scaling_factor"]

    def encode_image(self, pixels: Tensor, num_frames: int) -> Tensor:
        self.spec.check_mode("i2v")
        check_images(pixels)
        return self.encode_video(pixels[:, :, None])

    def start_latents(self, noise: Tensor, image_latents: Tensor | None) -> Tensor:
        return noise

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        vae = self.pipe.vae
        z = latents.to(self.device, vae.dtype) / vae.config["scaling_factor"]
        return vae.decode(z, return_dict=False)[0].float().clamp(-1, 1)

    # ------------------------------------------------------------------ text

    def encode_prompt(self, prompts: Sequence[Prompt], images: Tensor | None = None) -> TextCondition:
        return replace(self._encode([p.text for p in prompts], spans_of(prompts), images), prompts=tuple(prompts))

    def encode_text(self, texts: Sequence[str], images: Tensor | None = None) -> TextCondition:
        return replace(self._encode(list(texts), [NO_ROLES] * len(texts), images), prompts=(None,) * len(texts))

    def _rendered(self, texts: list[str]) -> list[str]:
        """The whole chats that Qwen reads, an empty prompt as a space."""
        from diffusers.pipelines.hunyuan_video1_5.pipeline_hunyuan_video1_5 import format_text_input

        chats = format_text_input(texts, self.spec.options["system_message"])
        return self.pipe.tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)

    @torch.no_grad()
    def _encode(self, texts: list[str], spans: list[Spans], images: Tensor | None) -> TextCondition:
        """The pipeline's, trimmed to the longest prompt: behind causal attention padding changes nothing before it."""
        pipe, crop = self.pipe, int(self.spec.options["crop_start"])
        inputs = pipe.tokenizer(
            self._rendered(texts),
            padding=True,
            add_special_tokens=False,  # the chat holds them
            return_tensors="pt",
            return_offsets_mapping=True,
        )
        lengths = inputs["attention_mask"].sum(1) - crop
        for text, length in zip(texts, lengths.tolist(), strict=True):
            check_length(text, length, self.spec.max_prompt_tokens, self.spec.name)
        check_marks(texts, pipe.tokenizer)
        subject, motion = token_roles(inputs["offset_mapping"], spans, self._lead)
        if bool((subject | motion)[:, :crop].any()):
            raise ConfigError(f"{self.spec.name}: the {crop} tokens of the template to cut off reach into the prompt")
        ids, mask = inputs["input_ids"].to(self.device), inputs["attention_mask"].to(self.device)
        states = pipe.text_encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        embeds_2, mask_2 = self._encode_quoted(texts)
        return TextCondition(
            prompt_embeds=states[-3][:, crop:].float(),  # the pipeline's num_hidden_layers_to_skip = 2
            prompt_attention_mask=mask[:, crop:],
            pooled_prompt_embeds=None,
            subject_tokens=subject[:, crop:].to(self.device),
            motion_tokens=motion[:, crop:].to(self.device),
            prompt_embeds_2=embeds_2.float(),
            prompt_attention_mask_2=mask_2,
            image_embeds=self._see(images, len(texts)) if "image_prompts" in self.spec.features else None,
        )

    def _encode_quoted(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """What stands in quotes is to be drawn as letters: ByT5 reads it, and nothing else."""
        from diffusers.pipelines.hunyuan_video1_5.pipeline_hunyuan_video1_5 import extract_glyph_texts

        pipe, limit = self.pipe, self.pipe.tokenizer_2_max_length
        for text in texts:
            quoted = str(extract_glyph_texts(text) or "")
            reader = f"the second text encoder of {self.spec.name}, which gets what is in quotes,"
            check_length(text, len(pipe.tokenizer_2(quoted).input_ids), limit, reader)
            check_marks([quoted], pipe.tokenizer_2)
        embeds, mask = pipe._get_byt5_prompt_embeds(pipe.tokenizer_2, pipe.text_encoder_2, texts, self.device, limit)
        length = longest(mask)
        return embeds[:, :length], mask[:, :length]

    def _see(self, images: Tensor | None, count: int) -> Tensor:
        pipe = self.pipe
        pictures = as_pictures(images, count)
        return pipe._get_image_embeds(pipe.image_encoder, pipe.feature_extractor, pictures, self.device).float()

    # ------------------------------------------------------------------ denoiser

    def predict(self, noisy_latents: Tensor, sigmas: Tensor, condition: Condition) -> Tensor:
        image, seen = condition.image_latents, condition.image_embeds
        self.spec.check_mode("t2v" if image is None else "i2v")
        noisy_latents = noisy_latents.to(self.device)
        batch, channels, *size = noisy_latents.shape
        given = noisy_latents.new_zeros(batch, channels + 1, *size)  # condition latents, and where they are given
        if image is None:
            width = int(self.pipe.transformer.config["image_embed_dim"])
            seen = noisy_latents.new_zeros(batch, self.pipe.vision_num_semantic_tokens, width)
        else:
            given[:, :-1, :1] = image.to(given)
            given[:, -1, 0] = 1
        if seen is None:
            raise ValueError(
                f"{self.spec.name}: image_latents without image_embeds: encode the prompts with the images"
            )
        with attention_for(self.device, masked=True):
            return self.denoiser(
                hidden_states=torch.cat([noisy_latents, given], dim=1).to(self.dtype),
                timestep=(sigmas * 1000).to(self.device, torch.float32),
                encoder_hidden_states=condition.prompt_embeds.to(self.device, self.dtype),
                encoder_attention_mask=condition.prompt_attention_mask.to(self.device),
                encoder_hidden_states_2=condition.prompt_embeds_2.to(self.device, self.dtype),  # type: ignore[union-attr]
                encoder_attention_mask_2=condition.prompt_attention_mask_2.to(self.device),  # type: ignore[union-attr]
                image_embeds=seen.to(self.device, self.dtype),
                return_dict=False,
            )[0].float()

    def transformers(self, mode: Mode) -> Sequence[nn.Module]:
        return [self.denoiser]

    def solver(
        self, num_inference_steps: int, shape: VideoShape, eta: float = 0.0, flow_shift: float | None = None
    ) -> FlowSolver:
        return FlowSolver(self.pipe.scheduler, num_inference_steps, eta, flow_shift)

    def attention_targets(self, projections: str = "qkv") -> str:
        return dual_stream_targets(projections)

    def text_layers(self, projections: str = "qkv") -> TextLayers:
        return TextLayers(alone=dual_stream_text(projections))


def _check_weights(spec: BackboneSpec, pipe: Any) -> None:
    """Raise ConfigError for the family's distilled weights, which are sampled otherwise.

    Our sampler guides by itself, (6) in generation.py: that is what the pipeline's guider does with these settings.
    """
    if pipe.transformer.config["use_meanflow"]:
        raise ConfigError(f"{spec.name}: this transformer takes a second timestep (use_meanflow), {spec.repo} does not")
    own = {"guidance_scale": spec.guidance_scale, "guidance_rescale": 0.0, "start": 0.0, "stop": 1.0, "enabled": True}
    own |= {"kind": "ClassifierFreeGuidance", "use_original_formulation": False}
    given = {**pipe.guider.config, "kind": type(pipe.guider).__name__}
    for name, value in own.items():
        if given.get(name) != value:
            raise ConfigError(f"{spec.name}: the guider's {name} is {given.get(name)}, that of {spec.repo} is {value}")


def _in_the_weights_dtype(module: Any, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(x.to(module.linear_1.weight.dtype) for x in args)
