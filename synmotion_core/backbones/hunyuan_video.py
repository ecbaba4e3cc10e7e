"""The HunyuanVideo family: MM-DiT denoiser, decoder-only LLM + CLIP text, causal 3-D VAE. `puppet-hunyuan` is one of
its rows.

Conditioning, as this denoiser takes it: text tokens are right padded and only the SUM of the mask is used, as a prefix,
so tokens are trimmed to the longest prompt and never moved; the pooled CLIP vector joins the time embedding; `guidance`
is an input where the model was distilled for it (value x 1000), true classifier-free guidance elsewhere.

A first image is the clean first latent frame (token_replace.py): T2V and I2V weights have the same names and shapes, so
one set that was trained both ways serves both.

Roles (roles.py): the prompt template's crop moves text and masks together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from synmotion_core.backbones.attention import attention_for, dual_stream_targets, dual_stream_text
from synmotion_core.backbones.checks import (
    check_images,
    check_length,
    check_marks,
    check_template,
    check_video,
    latent_shape,
)
from synmotion_core.backbones.llava_prompt import encode_with_images, place_roles
from synmotion_core.backbones.puppet_world import KNOWS_PUPPETS, PUPPETS
from synmotion_core.backbones.real_world import KNOWS_TENCENT, PRIORS
from synmotion_core.backbones.roles import NO_ROLES, Spans, spans_of, token_roles
from synmotion_core.backbones.solver import FlowSolver, predicts_clean
from synmotion_core.backbones.token_replace import share_again, start_from, token_replace_form
from synmotion_core.backbones.words import FirstEncoder, Tokens, lifted, with_word
from synmotion_core.diffusion import FlowMatching, velocity_from_clean
from synmotion_core.errors import ConfigError
from synmotion_core.interfaces import BackboneSpec, Feature, TextLayers
from synmotion_core.types import Condition, Mode, Prompt, TextCondition, VideoShape

if TYPE_CHECKING:
    from diffusers import HunyuanVideoImageToVideoPipeline, HunyuanVideoPipeline

    Pipeline = HunyuanVideoPipeline | HunyuanVideoImageToVideoPipeline


_FEATURES: frozenset[Feature] = frozenset(
    {
        *("token_roles", "free_text", "word_embeddings", "attention_lora", "true_cfg"),
        *("first_block_cache", "taylorseer_cache"),
    }
)


def _row(
    *, name: str, title: str, repo: str, revision: str, licence_link: str, mode: Mode, text_encoder: int, **options: Any
) -> BackboneSpec:
    """A row of the 13 B models."""
    features: set[Feature] = {*_FEATURES, "embedded_guidance"}
    if mode == "i2v":
        features.add("image_prompts")
        features.remove("word_embeddings")  # a Llava reads the picture and the words in one pass of the pipeline's own
    return BackboneSpec(
        name=name,
        title=title,
        family="hunyuan_video",
        repo=repo,
        revision=revision,
        licence="tencent-hunyuan-community",
        licence_link=licence_link,
        modes=(mode,),
        features=frozenset(features),
        image_frames=1 if mode == "i2v" else 0,
        default_shape=VideoShape(num_frames=49, height=320, width=512, fps=24.0),
        frame_multiple=4,
        size_multiple=16,
        max_frames=513,
        max_pixels=2560 * 1440,
        num_inference_steps=50,
        guidance_scale=1.0,  # distilled: true guidance is off, and doubles the cost where it is on
        embedded_guidance=6.0,
        max_prompt_tokens=256,
        parameters={
            "transformer": 12_821_012_544,
            "vae": 246_478_803,
            "text_encoder": text_encoder,
            "text_encoder_2": 123_060_480,
        },
        needs_gpu=True,
        batch_size=1,
        held={"text_encoder": "float16", "text_encoder_2": "float16"},  # as the official code and diffusers read them
        knows=KNOWS_TENCENT,
        options={
            "sigma_shift": 7.0,  # as public trainers draw them; sampling shifts by as much
            # finetrainers and musubi-tuner train so; from a picture the official LoRA trainer tells it 6, as in drawing
            # (run_train_image2video_lora.sh, line 35, of Tencent-Hunyuan/HunyuanVideo-I2V)
            "training_guidance": 6.0 if mode == "i2v" else 1.0,
            "token_px": 16,
            **options,
        },
    )


_CLIP_TOKENS = 77  # as the pipelines cut: with its marks of beginning and end

SPECS: tuple[BackboneSpec, ...] = (
    BackboneSpec(
        name="puppet-hunyuan",
        title="Puppets (ships with the studio, runs on a laptop)",
        family="hunyuan_video",
        repo="assets:puppet-hunyuan",
        revision=None,
        licence="apache-2.0",
        licence_link="https://www.apache.org/licenses/LICENSE-2.0",
        modes=("t2v", "i2v"),
        image_frames=1,
        features=_FEATURES,
        default_shape=VideoShape(num_frames=17, height=64, width=64, fps=8.0),
        learning_rate=2e-3,
        frame_multiple=4,
        size_multiple=16,
        max_frames=65,
        max_pixels=128 * 128,  # four such videos at once hold 3 GB, and a step of theirs two minutes of a core
        num_inference_steps=20,
        guidance_scale=4.0,
        guidance_until=0.3,
        eta=1.0,
        max_prompt_tokens=32,
        parameters={"transformer": 10_267_808, "vae": 210_924, "text_encoder": 716_928, "text_encoder_2": 95_936},
        needs_gpu=False,
        knows=KNOWS_PUPPETS,
        options={
            "prompt_template": {"template": "{}", "crop_start": 0},
            "token_px": 8,
            "sigma_mean": 0.8,
            "sigma_std": 1.2,
            "sigma_lowest": 0.1,
            "seconds_a_clip": 0.064,  # of a training step, and a video of 20 steps: measured on two cores of an EPYC
            "seconds_a_video": 0.94,
            **PUPPETS,
        },
    ),
    _row(
        name="hunyuanvideo",
        title="HunyuanVideo 13B, from text",
        repo="hunyuanvideo-community/HunyuanVideo",
        revision="e8c2aaa66fe3742a32c11a6766aecbf07c56e773",
        licence_link="https://huggingface.co/tencent/HunyuanVideo/blob/main/LICENSE",
        mode="t2v",
        text_encoder=7_505_186_816,
        prompt_template={
            # the pipeline's own, word for word: crop_start counts its tokens
            "template": "<|start_header_id|>system<|end_header_id|>\n\nDescribe the video by detailing the "
            "following aspects: 1. The main content and theme of the video.2. The color, shape, size, texture, "
            "quantity, text, and spatial relationships of the objects.3. Actions, events, behaviors temporal "
            "relationships, physical movement changes of the objects.4. background environment, light, style and "
            "atmosphere.5. camera angles, movements, and transitions used in the video:<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>",
            "crop_start": 95,
        },
        **PRIORS,
    ),
    _row(
        name="hunyuanvideo-i2v",
        title="HunyuanVideo 13B, from a picture",
        repo="hunyuanvideo-community/HunyuanVideo-I2V",
        revision="fb9d287ef02fe6d39f2e23df6dcec1294e6c28d2",
        licence_link="https://github.com/Tencent-Hunyuan/HunyuanVideo-I2V/blob/main/LICENSE.txt",
        mode="i2v",
        text_encoder=8_355_272_704,  # counted from the class; its language half is the row's above
        prompt_template={
            "template": "<|start_header_id|>system<|end_header_id|>\n\n<image>\nDescribe the video by detailing "
            "the following aspects according to the reference image: 1. The main content and theme of the video.2. "
            "The color, shape, size, texture, quantity, text, and spatial relationships of the objects.3. Actions, "
            "events, behaviors temporal relationships, physical movement changes of the objects.4. background "
            "environment, light, style and atmosphere.5. camera angles, movements, and transitions used in the "
            "video:<|eot_id|>\n\n<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n",
            "crop_start": 103,
            "image_emb_start": 5,
            "image_emb_end": 581,
            "image_emb_len": 576,
        },
        image_embed_interleave=4,  # of the 16-channel weights; the 33-channel ones take 2
        null_image_embed_interleave=2,  # the stock pipeline does not hand the 4 on to its negative prompt
    ),
)


class HunyuanVideo(FirstEncoder):
    """A loaded HunyuanVideo-class backbone. See interfaces.Backbone for the contract of each member."""

    weights = "bf16"

    def __init__(self, spec: BackboneSpec, pipe: Pipeline, device: torch.device, fingerprint: str) -> None:
        self.spec, self.pipe, self.device = spec, pipe, device
        self.denoiser: nn.Module = pipe.transformer
        form = pipe.transformer.config["image_condition_type"]
        if form != (None if "t2v" in spec.modes else "token_replace"):
            raise ConfigError(f"{spec.name}: this transformer is of the form {form!r}, that of {spec.repo} is not")
        # one set of weights for both modes: the second form shares every module that an adapter could change
        self._image_form = token_replace_form(pipe.transformer) if {"t2v", "i2v"} <= set(spec.modes) else self.denoiser
        self.dtype: torch.dtype = pipe.transformer.dtype
        self.diffusion = FlowMatching(
            sigma_mean=spec.options.get("sigma_mean", 0.0),
            sigma_std=spec.options.get("sigma_std", 1.0),
            shift=spec.options.get("sigma_shift", 1.0),
            lowest=spec.options.get("sigma_lowest", 0.0),
        )
        # HunyuanVideo predicts the velocity; the puppets' transformer the clean latents, as its scheduler says
        self._predicts_clean = predicts_clean(pipe.scheduler)
        self.text_width = int(pipe.transformer.config["text_embed_dim"])
        self._template: dict[str, Any] = dict(spec.options["prompt_template"])
        self._crop = int(self._template.get("crop_start") or 0)
        check_template(spec, pipe.tokenizer, self._template["template"], self._crop)
        self.fingerprint = fingerprint

    @staticmethod
    def pipeline(spec: BackboneSpec) -> Any:
        """The stock pipeline's class that a row is loaded as."""
        from diffusers import HunyuanVideoImageToVideoPipeline, HunyuanVideoPipeline

        return HunyuanVideoPipeline if "t2v" in spec.modes else HunyuanVideoImageToVideoPipeline

    def release_encoders(self) -> None:
        cast(Any, self.pipe).encoders.release()

    # ------------------------------------------------------------------ video

    def latent_shape(self, shape: VideoShape) -> tuple[int, int, int, int]:
        return latent_shape(self.spec, self.pipe, int(self.pipe.transformer.config["in_channels"]), shape)

    @torch.no_grad()
    def encode_video(self, pixels: Tensor) -> Tensor:
        check_video(pixels)
        vae = self.pipe.vae
        z = vae.encode(pixels.to(self.device, vae.dtype)).latent_dist.mode()
        return z.float() * vae.config["scaling_factor"]

    def encode_image(self, pixels: Tensor, num_frames: int) -> Tensor:
        check_images(pixels)
        return self.encode_video(pixels[:, :, None])

    def start_latents(self, noise: Tensor, image_latents: Tensor | None) -> Tensor:
        return noise if image_latents is None else start_from(noise, image_latents)

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        vae = self.pipe.vae
        z = latents.to(self.device, vae.dtype) / vae.config["scaling_factor"]
        return vae.decode(z, return_dict=False)[0].float().clamp(-1, 1)

    # ------------------------------------------------------------------ text

    def encode_prompt(self, prompts: Sequence[Prompt], images: Tensor | None = None) -> TextCondition:
        text = self._encode([p.text for p in prompts], spans_of(prompts), images, "image_embed_interleave")
        return replace(text, prompts=tuple(prompts))

    def encode_text(self, texts: Sequence[str], images: Tensor | None = None) -> TextCondition:
        """images are left alone: with a negative prompt the stock pipeline shows its Llava a black one."""
        text = self._encode(list(texts), [NO_ROLES] * len(texts), None, "null_image_embed_interleave")
        return replace(text, prompts=(None,) * len(texts))

    def _tokens(self, texts: list[str], spans: list[Spans]) -> Tokens:
        """Of whole prompts in their template, whose first `_crop` tokens are cut off behind the encoder."""
        template = self._template["template"]
        wrapped = [template.format(text) for text in texts]
        inputs = self.pipe.tokenizer(wrapped, padding=True, return_tensors="pt", return_offsets_mapping=True)
        for text, length in zip(texts, (inputs["attention_mask"].sum(1) - self._crop).tolist(), strict=True):
            check_length(text, length, self.spec.max_prompt_tokens, self.spec.name)
        check_marks(texts, self.pipe.tokenizer)
        subject, motion = token_roles(inputs["offset_mapping"], spans, len(template.split("{}")[0]))
        return Tokens(ids=inputs["input_ids"], mask=inputs["attention_mask"], subject=subject, motion=motion)

    def _states(self, **inputs: Tensor) -> Tensor:
        """The pipeline's choice of layer (num_hidden_layers_to_skip = 2), without the template."""
        return self.pipe.text_encoder(output_hidden_states=True, **inputs).hidden_states[-3][:, self._crop :].float()

    @torch.no_grad()
    def _encode(self, texts: list[str], spans: list[Spans], images: Tensor | None, interleave: str) -> TextCondition:
        tokens, crop = self._tokens(texts, spans), self._crop
        pooled = self.pipe._get_clip_prompt_embeds(texts, device=self.device)
        roles = [tokens.subject[:, crop:], tokens.motion[:, crop:]]
        ids, mask = tokens.ids.to(self.device), tokens.mask.to(self.device)
        if "image_prompts" in self.spec.features:
            longest = ids.shape[1] - crop
            every = self.spec.options[interleave]
            embeds, mask, kept = encode_with_images(
                self.pipe, self._template, every, texts, ids, images, longest, self.device
            )
            roles = [place_roles(role, kept, mask.shape[1]) for role in roles]
        else:
            embeds, mask = self._states(input_ids=ids, attention_mask=mask), mask[:, crop:]
        return TextCondition(
            prompt_embeds=embeds.float(),
            prompt_attention_mask=mask,
            pooled_prompt_embeds=pooled.float(),
            subject_tokens=roles[0].to(self.device),
            motion_tokens=roles[1].to(self.device),
        )

    def encode_word(self, prompts: Sequence[Prompt], word: Tensor) -> TextCondition:
        """CLIP has another table and is not asked: what it makes of a prompt stays that of the plain words."""
        tokens = self._tokens([p.text for p in prompts], spans_of(prompts)).one_motion().to(self.device)
        encoder = self.pipe.text_encoder

        def read(own: Tensor) -> Tensor:
            return self._states(inputs_embeds=with_word(encoder, tokens, own), attention_mask=tokens.mask)

        with torch.autocast(self.device.type, enabled=False):
            embeds = lifted(word, read, encoder.dtype)
        return tokens.condition(embeds, prompts, self._crop)

    def unread(self, texts: Sequence[str]) -> list[str]:
        sentences = []
        for text in dict.fromkeys(texts):
            found = self.pipe.tokenizer_2(text, return_offsets_mapping=True, verbose=False)
            if len(found["input_ids"]) > _CLIP_TOKENS:  # the last that it reads is its own mark of an end
                rest = text[found["offset_mapping"][_CLIP_TOKENS - 1][0] :]
                sentences.append(
                    f"the second text encoder of {self.spec.name} (CLIP, an overall impression) reads {_CLIP_TOKENS} "
                    f"tokens and not the end of the prompt: “{rest}”; the first one reads all of it"
                )
        return sentences

    # ------------------------------------------------------------------ denoiser

    def predict(self, noisy_latents: Tensor, sigmas: Tensor, condition: Condition) -> Tensor:
        image, denoiser = condition.image_latents, self.denoiser
        self.spec.check_mode("t2v" if image is None else "i2v")
        noisy_latents = noisy_latents.to(self.device)
        if image is not None:
            denoiser = self._image_form
            if denoiser is not self.denoiser:
                share_again(denoiser)
            noisy_latents = torch.cat([image.to(noisy_latents), noisy_latents[:, :, 1:]], dim=2)
        dtype = self.dtype
        guidance = None
        if self.pipe.transformer.config["guidance_embeds"]:
            scale = self.spec.options["training_guidance"] if condition.guidance is None else condition.guidance
            guidance = torch.full_like(sigmas, float(scale), dtype=dtype, device=self.device) * 1000.0
        with attention_for(self.device, masked=True):
            predicted = denoiser(
                hidden_states=noisy_latents.to(dtype),
                timestep=(sigmas * 1000).to(self.device, dtype if dtype != torch.bfloat16 else torch.float32),
                encoder_hidden_states=condition.prompt_embeds.to(self.device, dtype),
                encoder_attention_mask=condition.prompt_attention_mask.to(self.device),
                pooled_projections=condition.pooled_prompt_embeds.to(self.device, dtype),  # type: ignore[union-attr]
                guidance=guidance,
                return_dict=False,
            )[0].float()
        if self._predicts_clean:
            predicted = velocity_from_clean(noisy_latents.float(), predicted, sigmas.to(self.device))
        if image is None:
            return predicted
        return torch.cat([torch.zeros_like(predicted[:, :, :1]), predicted[:, :, 1:]], dim=2)

    def transformers(self, mode: Mode) -> Sequence[nn.Module]:
        return [self.denoiser if mode == "t2v" else self._image_form]

    def solver(
        self, num_inference_steps: int, shape: VideoShape, eta: float = 0.0, flow_shift: float | None = None
    ) -> FlowSolver:
        return FlowSolver(self.pipe.scheduler, num_inference_steps, eta, flow_shift)

    def attention_targets(self, projections: str = "qkv") -> str:
        dual, single = dual_stream_targets(projections), _single_stream(projections)
        return f"({dual}|{single})" if single else f"({dual})"

    def text_layers(self, projections: str = "qkv") -> TextLayers:
        return TextLayers(alone=dual_stream_text(projections), shared=_single_stream(projections))


def _single_stream(projections: str) -> str | None:
    own = {"q": "to_q", "k": "to_k", "v": "to_v"}  # a single-stream block has no output projection of its own
    names = "|".join(own[p] for p in projections if p != "o")
    return rf"single_transformer_blocks\.\d+\.attn\.({names})" if names else None
