"""The page to read first: what a backbone, a method and a spec are, and when two of them fit.

    text, pixels --Backbone.encode_*  (frozen: cached)--> TextCondition, Latents
    TextCondition --Method.condition  (trainable: never cached)--> Condition
    noisy latents, sigma, Condition --Backbone.predict  (the method is attached)--> velocity

A backbone knows nothing of methods; a method knows no tokenizer and no family, only masks of subject and motion tokens,
the width of the text embeddings, and regular expressions that name the denoiser's attention projections.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from synmotion_core.errors import IncompatibleError, ShapeError
from synmotion_core.types import Condition, Latents, Mode, Phase, Pixels, Prompt, Sigmas, TextCondition, VideoShape

Feature = Literal[
    "token_roles",  # prompts come back with subject and motion masks
    "free_text",  # the text condition may be changed token by token
    "word_embeddings",  # a prompt can be encoded with a learnt word in it: `Words`
    "attention_lora",  # the denoiser's attention projections can carry LoRA
    "temporal_attention",  # separate temporal layers (3-D U-Nets)
    "true_cfg",  # negative prompts and true guidance
    "image_prompts",  # prompts are encoded together with the first image
    "embedded_guidance",  # guidance is an input of the denoiser
    "first_block_cache",  # sampling steps may take up earlier ones by step_cache.py's kinds
    "taylorseer_cache",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSpec:
    """One row of the registry: everything that can be said of a backbone before any weight is read.

    repo is a Hub id ("owner/name") or "assets:<folder>" for what ships; revision pins it. Shapes obey
    num_frames = frame_multiple * k + 1, at most max_frames, and sizes that are multiples of size_multiple, of at most
    max_pixels = height * width together: several times what the model was published for, and what a machine survives.
    """

    name: str
    title: str
    family: str
    repo: str
    revision: str | None
    licence: str
    licence_link: str
    modes: tuple[Mode, ...]
    features: frozenset[Feature]
    default_shape: VideoShape
    frame_multiple: int
    size_multiple: int
    max_frames: int
    max_pixels: int
    num_inference_steps: int
    guidance_scale: float
    max_prompt_tokens: int
    parameters: Mapping[str, int]
    needs_gpu: bool
    knows: str  # one line for people: what it can draw
    batch_size: int = 4  # clips a training step, where a run says none, and videos drawn at once
    learning_rate: float = 1e-4  # of adapters, where a run says none; large ones: 2e-5 to 1e-4 in trainers' issues
    image_frames: int = 0  # leading latent frames that a first image fixes (i2v): neither noised, learnt nor stepped
    eta: float = 0.0  # the share of fresh noise in a sampling step, 0 to 1
    negative_prompt: str = ""  # what true guidance leads away from
    embedded_guidance: float | None = None  # what the denoiser is told when sampling; None: it takes no such input
    guidance_until: float = 0.0  # the noise level, 0 to 1, below which it is not guided
    boundary_ratio: float | None = None  # the noise level, 0 to 1, below which a second expert denoises
    guidance_scale_2: float | None = None  # the second expert's guidance; None: the same
    flow_shift: float | None = None  # of the noise levels when sampling; None: the scheduler's own
    shifts: Mapping[tuple[int, int], float] = field(default_factory=dict)  # by (height, width) that it is published for
    held: Mapping[str, str] = field(default_factory=dict)  # parts that CUDA holds in another type than bf16
    options: Mapping[str, Any] = field(default_factory=dict)  # the family's own settings

    @property
    def denoiser(self) -> str:
        """What diffusers calls the denoiser, in folders and in the keys of adapter files: "transformer" or "unet"."""
        return "unet" if "unet" in self.parameters else "transformer"

    def check_mode(self, mode: Mode) -> None:
        """Raise IncompatibleError unless the backbone makes videos from text ("t2v") or from a first image ("i2v")."""
        if mode not in self.modes:
            takes = {
                "t2v": "makes no videos from text alone: give a first image, or train with mode i2v (--mode i2v)",
                "i2v": "takes no first image",
            }
            raise IncompatibleError(f"{self.name} {takes[mode]} (it has {', '.join(self.modes)})")

    def shape(self, num_frames: int | None = None, height: int | None = None, width: int | None = None) -> VideoShape:
        """A video's shape, the default's where nothing is given. Raises ShapeError, naming the nearest valid values."""
        own = self.default_shape
        shape = VideoShape(
            num_frames=own.num_frames if num_frames is None else num_frames,
            height=own.height if height is None else height,
            width=own.width if width is None else width,
            fps=own.fps,
        )
        self.check_shape(shape)
        return shape

    def check_shape(self, shape: VideoShape) -> None:
        """Raise ShapeError, naming the nearest valid values, unless the shape fits."""
        m, s = self.frame_multiple, self.size_multiple
        if shape.num_frames > self.max_frames:
            raise ShapeError(
                f"{self.name} takes num_frames of at most {self.max_frames}, got {shape.num_frames}: "
                f"use {self.max_frames}"
            )
        if shape.height * shape.width > self.max_pixels:
            height, width = self._largest(shape)
            raise ShapeError(
                f"{self.name} takes height times width of at most {self.max_pixels}, "
                f"got {shape.height} times {shape.width}: use {height} times {width}"
            )
        if (shape.num_frames - 1) % m:
            low = (shape.num_frames - 1) // m * m + 1
            near = [n for n in (low, low + m) if n > 1]
            raise ShapeError(
                f"{self.name} takes num_frames = {m}k+1, got {shape.num_frames}: use {' or '.join(map(str, near))}"
            )
        for what in ("height", "width"):
            value = getattr(shape, what)
            if value % s:
                near = [n for n in (value // s * s, value // s * s + s) if n > 0]
                raise ShapeError(
                    f"{self.name} takes a {what} that is a multiple of {s}, got {value}: "
                    f"use {' or '.join(map(str, near))}"
                )

    def _largest(self, shape: VideoShape) -> tuple[int, int]:
        """Height and width of the largest valid picture of about a shape's aspect; whole numbers, for sides may be of
        any length."""
        s = self.size_multiple
        height = math.isqrt(self.max_pixels * shape.height // shape.width) // s * s
        height = min(max(s, height), self.max_pixels // s // s * s)
        return height, max(s, min(height * shape.width // shape.height, self.max_pixels // height) // s * s)


class NoiseLevels(Protocol):
    """How a backbone's training draws noise levels, and what an error at each weighs: diffusion.py has them."""

    def sample_sigmas(self, batch_size: int, generator: torch.Generator, coarse: float = 0.0) -> Tensor:
        """[batch_size] in (0, 1), float32 on the CPU. coarse in 0..1 draws noisier ones more often."""
        ...

    def weight(self, sigmas: Sigmas) -> Tensor:
        """[B] -> [B]: of a sample's velocity error in the loss."""
        ...


class Solver(Protocol):
    """One sampling run; `sigmas` [num_inference_steps + 1] falls from 1, or the highest that a model knows, to 0."""

    sigmas: Tensor

    def start(self, latents: Latents) -> Latents:
        """What sampling starts from, `Backbone.start_latents`, as x_s at sigmas[0]."""
        ...

    def step(self, velocity: Tensor, latents: Latents, noise: Latents | None = None) -> Latents:
        """Latents at sigmas[k] and their velocity -> latents at sigmas[k + 1]; k counts the calls.

        noise is standard normal; a run with eta above 0 needs it.
        """
        ...


@runtime_checkable
class Backbone(Protocol):
    """A loaded, frozen video model. Its parameters never require gradients and its weights are never changed."""

    spec: BackboneSpec
    denoiser: nn.Module
    diffusion: NoiseLevels
    device: torch.device
    dtype: torch.dtype
    text_width: int
    weights: str  # how its denoiser's are held: Precision.weights
    fingerprint: str  # names these exact weights, then behind a + what else changes encodings: they are cached by it

    def encode_video(self, pixels: Pixels) -> Latents:
        """[B, 3, F, H, W] in [-1, 1] -> normalised latents [B, C, f, h, w], float32. Deterministic (the mode)."""
        ...

    def decode_latents(self, latents: Latents) -> Pixels:
        """The mirror of encode_video, clamped to [-1, 1]."""
        ...

    def encode_prompt(self, prompts: Sequence[Prompt], images: Pixels | None = None) -> TextCondition:
        """One encoder pass over each whole prompt, with the tokens' roles. Raises PromptError when one is too long.

        images [B, 3, H, W] are looked at with the feature "image_prompts" (None: black ones), else left alone.
        """
        ...

    def encode_text(self, texts: Sequence[str], images: Pixels | None = None) -> TextCondition:
        """Text without roles (both masks empty): the negative prompt, the empty prompt.

        images as in encode_prompt; looked at where the family's pipeline reads its negative prompt with them, too.
        """
        ...

    def unread(self, texts: Sequence[str]) -> list[str]:
        """Whole prompts -> a sentence for each of which a second encoder reads only the beginning. Reads no weights."""
        ...

    def release_encoders(self) -> None:
        """Free what encodes prompts; it is read from disk anew when it is needed again."""
        ...

    def encode_image(self, pixels: Tensor, num_frames: int) -> Latents:
        """First images [B, 3, H, W] in [-1, 1] of videos of num_frames -> `Condition.image_latents`, float32.

        The image's own latent frame [B, C, 1, h, w], or a condition as long as the video. Not the first frame of a
        whole video's latents: HunyuanVideo's autoencoder normalises over time.
        """
        ...

    def start_latents(self, noise: Latents, image_latents: Latents | None) -> Latents:
        """Where sampling starts: the noise, or what the family makes of noise and a first image."""
        ...

    def latent_shape(self, shape: VideoShape) -> tuple[int, int, int, int]:
        """(C, f, h, w) of a video of this shape."""
        ...

    def predict(self, noisy_latents: Latents, sigmas: Sigmas, condition: Condition) -> Tensor:
        """Velocity, float32, shaped as the latents.

        With image_latents the spec's image_frames are the image's, whatever noisy_latents hold there, and their
        velocity is 0. Raises IncompatibleError in a mode that the backbone has not.
        """
        ...

    def transformers(self, mode: Mode) -> Sequence[nn.Module]:
        """What `predict` runs in a mode: the denoiser, another form of it, or of two experts both."""
        ...

    def solver(
        self, num_inference_steps: int, shape: VideoShape, eta: float = 0.0, flow_shift: float | None = None
    ) -> Solver:
        """A fresh run along the scheduler's own noise levels; eta in 0..1 is the share of fresh noise in a step.

        flow_shift: another shift of these levels, (4) in diffusion.py, than the scheduler's own.
        """
        ...

    def attention_targets(self, projections: str = "qkv") -> str:
        """An anchored regular expression (PEFT target_modules) over the denoiser's attention projections.

        `projections` is a subset of the letters q, k, v, o; video stream, text stream and single-stream blocks.
        """
        ...

    def text_layers(self, projections: str = "qkv") -> TextLayers:
        """Of these projections, those that make something of the text's tokens."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLayers:
    """Where a denoiser makes something of its text: anchored regular expressions over its projections.

    alone: layers that see the text's tokens and nothing else. shared: layers that see the video's tokens and behind
    them the text's, in an attention that is given these as `encoder_hidden_states`; None where there are none. An
    expression may match no layer: the queries of a look at the text are the video's.
    """

    alone: str
    shared: str | None = None

    @property
    def everywhere(self) -> str:
        """Both in one."""
        return self.alone if self.shared is None else f"({self.alone}|{self.shared})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """A skip connection that starts behind a spatial and a temporal attention, each by its name in the denoiser.

    block hands it on, as the `entry`-th of its residuals.
    """

    block: str
    entry: int
    spatial: str
    temporal: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipScale:
    """A factor on the `entry`-th of the residuals that a block is given."""

    block: str
    entry: int
    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Highway:
    """Which skips an Appearance Highway changes, and which residuals are scaled."""

    skips: tuple[Skip, ...]
    scales: tuple[SkipScale, ...] = ()


def autocast_dtype(backbone: Backbone) -> torch.dtype:
    """What mixed precision computes in where nothing is learnt: float16 for weights that are held so, else bf16."""
    return torch.float16 if backbone.dtype == torch.float16 else torch.bfloat16


class TemporalBackbone(Backbone, Protocol):
    """What a backbone with the feature "temporal_attention" has more: layers that look along time, and others."""

    def layer_targets(self, where: Literal["spatial", "text", "temporal"], layers: str) -> str:
        """An anchored regular expression over linear layers of the spatial or the temporal transformers.

        `layers` is a subset of the letters q, k, v, o and f (feed-forward). Spatial: of self-attention and feed-forward
        alone, as nothing there reads the text; "text": of the attention that does, which has no f. Temporal: of both
        attentions.
        """
        ...

    def highway(self, preset: Literal["paper", "released"]) -> Highway:
        """The skips of the paper's Appearance Highway, or those of its released code with their scales."""
        ...


class Words(Protocol):
    """What a backbone with the feature "word_embeddings" has, too: its first text encoder at work while a method
    learns. A word is one row of that encoder's table of input embeddings, [E].
    """

    def motion_words(self, prompt: Prompt) -> Tensor:
        """The encoder's own input embeddings of the tokens of a prompt's motion, [n, E] float32."""
        ...

    def encode_word(self, prompts: Sequence[Prompt], word: Tensor) -> TextCondition:
        """encode_prompt, but that each motion is one token, `word` [E]; gradients reach it and nothing else.

        Only the first text encoder is asked: pooled_prompt_embeds and what else a family has are None. A word of the
        encoder's own is encoded as ever, bit for bit. Never cached.
        """
        ...

    def hold_words(self, hold: bool) -> None:
        """From now on release_encoders leaves the first text encoder in memory; with False it takes it again.

        Raises ConfigError where another method holds it.
        """
        ...


class Method(Protocol):
    """A way to learn a motion, attached to one backbone. Parameters are float32 and grouped by name.

    A fresh one is the identity: attached, with strength 1, the backbone predicts what it predicted before, bit for bit.
    One that learns a word (it requires "word_embeddings") is so where it begins with a word of the encoder's own.
    `detach` restores the backbone bit for bit.
    """

    name: str

    @property
    def groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Trainable parameters by group name; `Phase.trains` selects among them."""
        ...

    def learning_rate_scale(self, group: str) -> float:
        """Factor on the run's learning rate for a group."""
        ...

    def phase(self, seed: int, step: int) -> Phase:
        """What step `step` (from 0) draws, trains and aims at; depends on (seed, step) only."""
        ...

    def begin(self, phase: Phase) -> None:
        """Told of a step's phase before anything else of it: switches what only some phases use."""
        ...

    def condition(self, text: TextCondition, strength: float = 1.0) -> Condition:
        """The text condition after the method's work. strength 0 returns the input embeddings untouched."""
        ...

    def set_strength(self, strength: float) -> None:
        """Scale of everything that lives inside the denoiser; 0 is the base, bit for bit."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """All learnt tensors (float32, on the CPU), named as in the adapter file."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """The reverse. Raises AdapterError naming missing, unexpected and misshapen keys."""
        ...

    def detach(self) -> None:
        """Take everything out of the denoiser."""
        ...


class MethodEntry(Protocol):
    """One row of METHODS: the class side of a method."""

    name: str
    title: str  # one line for people
    requires: frozenset[Feature]
    config: type

    def draws_priors(self, config: Any) -> bool:
        """Whether phases under this config draw subject prior videos."""
        ...

    def num_parameters(self, config: Any, text_width: int, attention_width: int, clips: int = 0) -> int:
        """About how many a fresh method would learn, without a backbone; clips as for `attach`.

        attention_width: inputs and outputs of the projections q, k and v, summed over the denoiser.
        """
        ...

    def attach(self, backbone: Backbone, config: Any, reference: Prompt, clips: int = 0) -> Method:
        """Put a fresh method onto a backbone. `reference` is the phrase of the reference clips.

        clips: how many there are, where it is going to be trained; what a training alone needs is left out at 0.
        """
        ...


@runtime_checkable
class DrawsPriors(Protocol):
    """What a MethodEntry may have, too."""

    without_priors: Mapping[str, Any]  # settings that train without them


@runtime_checkable
class Rewords(Protocol):
    """What a MethodEntry may have, too."""

    def reword(self, config: Any, prompt: Prompt) -> Prompt:
        """What the encoders read for a prompt of the motion, in training and when generating: its words and more.

        People write, and files keep, the prompt as it is given.
        """
        ...


@runtime_checkable
class DrawnOtherwise(Protocol):
    """What a MethodEntry may have, too."""

    drawing: frozenset[str]  # settings that no training sees: a trained adapter may be drawn with others


def drawing_settings(entry: MethodEntry) -> frozenset[str]:
    """The settings of a method at work only when videos are drawn; of most, none."""
    return entry.drawing if isinstance(entry, DrawnOtherwise) else frozenset()


def row_settings(entry: MethodEntry, spec: BackboneSpec) -> dict[str, Any]:
    """What a training's settings are on a row where nothing else is said and the method's own cannot be trained: those
    without prior videos, where none can be drawn from words; of most rows, none."""
    return dict(entry.without_priors) if isinstance(entry, DrawsPriors) and "t2v" not in spec.modes else {}


def reworded(entry: MethodEntry | None, config: Any, prompt: Prompt) -> Prompt:
    """What the encoders read for a prompt with a method; most, and the base alone (None), leave it as it is."""
    return entry.reword(config, prompt) if isinstance(entry, Rewords) else prompt


def why_incompatible(spec: BackboneSpec, name: str, requires: frozenset[Feature]) -> str | None:
    """None when they fit, else the reason in words. The page greys choices out with the same sentence."""
    missing = sorted(requires - spec.features)
    if not missing:
        return None
    return f"method {name!r} needs {', '.join(missing)}, which backbone {spec.name!r} does not offer"


def check_compatible(spec: BackboneSpec, name: str, requires: frozenset[Feature]) -> None:
    """Raise IncompatibleError, naming the feature, unless a method fits a backbone."""
    reason = why_incompatible(spec, name, requires)
    if reason:
        raise IncompatibleError(reason)
