"""The 3-D U-Nets of 2023, ModelScope and ZeroScope: CLIP text, an image autoencoder frame by frame, noise prediction.

What sets them apart from the transformers: temporal layers of their own (`transformer_in`, `temp_attentions` and
`temp_convs`) beside spatial ones, and skip connections past the middle. A "video" of one frame is a picture: the
temporal layers are left out, as MotionDirector's copy of the class does and the stock class does not.

Conditioning: always 77 tokens, padding among them, and no mask, as the pipeline reads prompts; it cuts longer ones
without a word, we refuse them. Time is whole timesteps: noise levels go to the nearest one (diffusion.py, (7)).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from synmotion_core.backbones.attention import attention_for, of_cross_attention
from synmotion_core.backbones.checks import check_length, check_marks, check_projections, check_video, latent_shape
from synmotion_core.backbones.ddim import KINDS, DDIMSolver, velocity_of
from synmotion_core.backbones.puppet_world import KNOWS_PUPPETS, PUPPETS
from synmotion_core.backbones.real_world import KNOWS, PRIORS
from synmotion_core.backbones.roles import NO_ROLES, Spans, spans_of, token_roles
from synmotion_core.diffusion import CleanPrediction, EpsilonPrediction, FlowMatching, expand, variance_scale
from synmotion_core.errors import ConfigError, IncompatibleError, ShapeError
from synmotion_core.interfaces import BackboneSpec, Highway, Skip, SkipScale, TextLayers
from synmotion_core.types import Condition, Mode, Prompt, TextCondition, VideoShape

TEXT_TOKENS = 77  # CLIP's, its marks of beginning and end among them
_PROJECTIONS = {"q": "to_q", "k": "to_k", "v": "to_v", "o": r"to_out\.0"}
_BLOCKS = r"(down_blocks\.\d+|mid_block|up_blocks\.\d+)"
_PARAMETERS: Mapping[str, int] = {"unet": 1_411_233_860, "vae": 83_653_863, "text_encoder": 340_387_840}


def _row(**own: Any) -> BackboneSpec:
    """A row of the 1.7 B models: one architecture, two trainings."""
    common: dict[str, Any] = {
        "family": "unet3d",
        "licence": "cc-by-nc-4.0",
        "licence_link": "https://creativecommons.org/licenses/by-nc/4.0/",
        "modes": ("t2v",),
        "features": frozenset({"token_roles", "free_text", "attention_lora", "temporal_attention", "true_cfg"}),
        "frame_multiple": 1,
        "size_multiple": 8,
        "max_frames": 96,
        "max_pixels": 1152 * 640,
        "guidance_scale": 9.0,
        "max_prompt_tokens": TEXT_TOKENS,
        "parameters": _PARAMETERS,
        "needs_gpu": True,
        "batch_size": 1,
        "learning_rate": 5e-4,  # MotionDirector's and the released TAP code's
        "knows": f"{KNOWS}. Its licence is non-commercial, for adapters and videos as well",
        # as both are published and everybody draws with them; in bf16 a guided prediction is wrong by 10 %, not 1.5 %
        "held": {"unet": "float16", "text_encoder": "float16"},
        "options": {"token_px": 8, **PRIORS},
    }
    return BackboneSpec(**(common | own))


SPECS: tuple[BackboneSpec, ...] = (
    _row(
        name="puppet-unet3d",
        title="Puppets, a 3-D U-Net (ships with the studio, runs on a laptop)",
        repo="assets:puppet-unet3d",
        revision=None,
        licence="apache-2.0",
        licence_link="https://www.apache.org/licenses/LICENSE-2.0",
        default_shape=VideoShape(num_frames=17, height=64, width=64, fps=8.0),
        size_multiple=16,
        max_frames=65,
        max_pixels=128 * 128,
        num_inference_steps=20,
        guidance_scale=4.0,
        max_prompt_tokens=48,
        parameters={"unet": 4_736_584, "vae": 41_044, "text_encoder": 319_232},
        needs_gpu=False,
        held={},
        batch_size=4,
        learning_rate=2e-3,
        knows=KNOWS_PUPPETS,
        options={
            "token_px": 8,
            "sigma_mean": 1.3,
            "sigma_std": 1.1,
            "sigma_lowest": 0.1,
            "seconds_a_clip": 0.088,  # of a step of plain LoRA, and a video of 20 steps: on two cores of an EPYC
            "seconds_a_video": 1.16,
            **PUPPETS,
        },
    ),
    _row(
        name="modelscope-t2v-1.7b",
        title="ModelScope 1.7B, from text",
        repo="ali-vilab/text-to-video-ms-1.7b",
        revision="8227dddca75a8561bf858d604cc5dae52b954d01",
        default_shape=VideoShape(num_frames=16, height=256, width=256, fps=8.0),
        num_inference_steps=50,
    ),
    _row(
        name="zeroscope-v2-576w",
        title="ZeroScope v2 576w, from text",
        repo="cerspense/zeroscope_v2_576w",
        revision="6963642a64dbefa93663d1ecebb4ceda2d9ecb28",
        default_shape=VideoShape(num_frames=24, height=320, width=576, fps=8.0),
        num_inference_steps=40,
        options={"token_px": 8, "pickles": True, **PRIORS},
    ),
)


class UNet3D:
    """A loaded 3-D U-Net. See interfaces.Backbone for the contract of each member."""

    weights = "bf16"

    def __init__(self, spec: BackboneSpec, pipe: Any, device: torch.device, fingerprint: str) -> None:
        self.spec, self.pipe, self.device, self.fingerprint = spec, pipe, device, fingerprint
        self.denoiser: nn.Module = pipe.unet
        self.dtype: torch.dtype = pipe.unet.dtype
        self._predicts = pipe.scheduler.config["prediction_type"]
        if self._predicts not in KINDS:
            raise ConfigError(f"{spec.name}: prediction_type is {self._predicts!r}, there are {', '.join(KINDS)}")
        levels = pipe.scheduler.alphas_cumprod
        self.diffusion = EpsilonPrediction(levels)
        if self._predicts == "sample":  # 2023's predict noise; the puppets' U-Net is trained as their transformer is
            given = {"sigma_mean": "sigma_mean", "sigma_std": "sigma_std", "sigma_lowest": "lowest"}
            own = {name: spec.options[option] for option, name in given.items() if option in spec.options}
            self.diffusion = CleanPrediction(levels, FlowMatching(**own))
        self.text_width = int(pipe.unet.config["cross_attention_dim"])

    @staticmethod
    def pipeline(spec: BackboneSpec) -> Any:
        """What a row is loaded as: the parts of the stock TextToVideoSDPipeline, which diffusers is about to drop."""
        from synmotion_core.backbones.unet3d_parts import UNet3DParts

        return UNet3DParts

    def unread(self, texts: Sequence[str]) -> list[str]:
        return []

    def release_encoders(self) -> None:
        self.pipe.encoders.release()

    # ------------------------------------------------------------------ video

    def latent_shape(self, shape: VideoShape) -> tuple[int, int, int, int]:
        return latent_shape(self.spec, self.pipe, int(self.pipe.unet.config["in_channels"]), shape)

    @torch.no_grad()
    def encode_video(self, pixels: Tensor) -> Tensor:
        check_video(pixels)
        vae, batch = self.pipe.vae, len(pixels)
        frames = pixels.transpose(1, 2).flatten(0, 1).to(self.device, vae.dtype)
        # frame by frame, also in memory: this autoencoder knows no time, and a batch of frames holds them all at once
        z = torch.cat([vae.encode(frame[None]).latent_dist.mode() for frame in frames])
        return z.unflatten(0, (batch, -1)).transpose(1, 2).float() * vae.config["scaling_factor"]

    def encode_image(self, pixels: Tensor, num_frames: int) -> Tensor:
        self.spec.check_mode("i2v")
        raise IncompatibleError(f"{self.spec.name} takes no first image")

    def start_latents(self, noise: Tensor, image_latents: Tensor | None) -> Tensor:
        return noise

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        vae, batch = self.pipe.vae, len(latents)
        frames = latents.transpose(1, 2).flatten(0, 1).to(self.device, vae.dtype) / vae.config["scaling_factor"]
        pixels = torch.cat([vae.decode(frame[None], return_dict=False)[0] for frame in frames])
        return pixels.unflatten(0, (batch, -1)).transpose(1, 2).float().clamp(-1, 1)

    # ------------------------------------------------------------------ text

    def encode_prompt(self, prompts: Sequence[Prompt], images: Tensor | None = None) -> TextCondition:
        return replace(self._encode([p.text for p in prompts], spans_of(prompts)), prompts=tuple(prompts))

    def encode_text(self, texts: Sequence[str], images: Tensor | None = None) -> TextCondition:
        return replace(self._encode(list(texts), [NO_ROLES] * len(texts)), prompts=(None,) * len(texts))

    @torch.no_grad()
    def _encode(self, texts: list[str], spans: list[Spans]) -> TextCondition:
        tokenizer, limit = self.pipe.tokenizer, self.spec.max_prompt_tokens
        for text, ids in zip(texts, tokenizer(texts, verbose=False).input_ids, strict=True):
            check_length(text, len(ids), limit, self.spec.name)
        check_marks(texts, tokenizer)
        inputs = tokenizer(
            texts, padding="max_length", max_length=limit, return_tensors="pt", return_offsets_mapping=True
        )
        embeds = self.pipe.text_encoder(inputs["input_ids"].to(self.device)).last_hidden_state
        subject, motion = token_roles(inputs["offset_mapping"], spans)
        return TextCondition(
            prompt_embeds=embeds.float(),
            prompt_attention_mask=torch.ones(embeds.shape[:2], dtype=torch.int64, device=self.device),  # all are read
            pooled_prompt_embeds=None,
            subject_tokens=subject.to(self.device),
            motion_tokens=motion.to(self.device),
        )

    # ------------------------------------------------------------------ denoiser

    def predict(self, noisy_latents: Tensor, sigmas: Tensor, condition: Condition) -> Tensor:
        self.spec.check_mode("t2v" if condition.image_latents is None else "i2v")
        latents, levels = noisy_latents.to(self.device).float(), sigmas.to(self.device)
        scaled = latents * expand(variance_scale(levels), latents)
        dtype = self.dtype
        if dtype == torch.float16 and torch.is_autocast_enabled(self.device.type):
            dtype = torch.get_autocast_dtype(self.device.type)  # gradients come back in it: trainings are in bf16
        with attention_for(self.device, everywhere=True), pictures(self.denoiser, latents.shape[2] == 1):
            predicted = self.denoiser(
                scaled.to(dtype),
                self.diffusion.timesteps(levels),
                encoder_hidden_states=condition.prompt_embeds.to(self.device, dtype),
                return_dict=False,
            )[0].float()
        return velocity_of(self._predicts, predicted, latents, levels)

    def transformers(self, mode: Mode) -> Sequence[nn.Module]:
        return [self.denoiser]

    def solver(
        self, num_inference_steps: int, shape: VideoShape, eta: float = 0.0, flow_shift: float | None = None
    ) -> DDIMSolver:
        return DDIMSolver(self.pipe.scheduler, self.diffusion, num_inference_steps, eta, flow_shift)

    def attention_targets(self, projections: str = "qkv") -> str:
        """Of every spatial and temporal transformer: among the pixels or frames (attn1), and to the text or once more
        among the frames (attn2)."""
        check_projections(projections)
        names = "|".join(_PROJECTIONS[p] for p in projections)
        where = rf"transformer_in|{_BLOCKS}\.(temp_)?attentions\.\d+"
        return rf"({where})\.transformer_blocks\.\d+\.attn[12]\.({names})"

    def text_layers(self, projections: str = "qkv") -> TextLayers:
        check_projections(projections)
        where = rf"{_BLOCKS}\.attentions\.\d+\.transformer_blocks\.\d+\.attn2"
        return TextLayers(alone=rf"{where}\.{of_cross_attention(projections)}")

    def layer_targets(self, where: Literal["spatial", "text", "temporal"], layers: str) -> str:
        known = "qkvo" if where == "text" else "qkvof"
        if not layers or set(layers) - set(known):
            raise ShapeError(f"layers must be letters of {known!r}, got {layers!r}")
        attention = {"spatial": "attn1", "text": "attn2", "temporal": "attn[12]"}[where]
        named = {letter: rf"{attention}\.{name}" for letter, name in _PROJECTIONS.items()}
        named["f"] = r"ff\.net\.(0\.proj|2)"
        temporal = rf"transformer_in|{_BLOCKS}\.temp_attentions\.\d+"
        place = temporal if where == "temporal" else rf"{_BLOCKS}\.attentions\.\d+"
        return rf"({place})\.transformer_blocks\.\d+\.({'|'.join(named[letter] for letter in layers)})"

    def highway(self, preset: Literal["paper", "released"]) -> Highway:
        """The released code takes the two skips of the last down block with attention. Its FreeU-like scales, 1.1 where
        hidden states have that block's width, are on what the up block that reads them is given, and on the residual
        that the next one takes first.
        """
        unet: Any = self.denoiser
        last = max(i for i, block in enumerate(unet.down_blocks) if hasattr(block, "attentions"))
        skips = [
            Skip(block=at, entry=j, spatial=f"{at}.attentions.{j}", temporal=f"{at}.temp_attentions.{j}")
            for at, block in ((f"down_blocks.{i}", block) for i, block in enumerate(unet.down_blocks))
            for j in range(len(getattr(block, "attentions", ())))
        ]
        if preset == "paper":
            return Highway(skips=tuple(skips))
        reader = len(unet.down_blocks) - 1 - last
        given = len(unet.up_blocks[reader].resnets)
        scaled = [(reader, entry) for entry in range(given)]
        if reader + 1 < len(unet.up_blocks):
            scaled.append((reader + 1, len(unet.up_blocks[reader + 1].resnets) - 1))  # taken from the end
        return Highway(
            skips=tuple(skip for skip in skips if skip.block == f"down_blocks.{last}"),
            scales=tuple(SkipScale(block=f"up_blocks.{i}", entry=entry, factor=1.1) for i, entry in scaled),
        )


def temporal_layers(denoiser: nn.Module) -> list[nn.Module]:
    """Everything that looks along time, in the order of the class."""
    from diffusers.models.resnet import TemporalConvLayer
    from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel

    return [m for m in denoiser.modules() if isinstance(m, (TemporalConvLayer, TransformerTemporalModel))]


@contextmanager
def pictures(denoiser: nn.Module, wanted: bool) -> Iterator[None]:
    """Within it the temporal layers hand on what they are given, if wanted; afterwards they are as before."""
    from diffusers.models.resnet import TemporalConvLayer

    layers: list[Any] = temporal_layers(denoiser) if wanted else []
    before = [layer.__dict__.get("forward") for layer in layers]
    same: list[Any] = [_same if isinstance(layer, TemporalConvLayer) else _same_in_a_tuple for layer in layers]
    for layer, forward in zip(list(layers), same, strict=True):
        layer.forward = forward
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            if own is None:
                del layer.forward  # the class's own again
            else:
                layer.forward = own  # a hook's, of offloading


def _same(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return hidden_states


def _same_in_a_tuple(hidden_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor]:
    return (hidden_states,)
