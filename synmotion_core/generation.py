"""Sampling: the scheduler's own steps along the learnt velocity, with true classifier-free guidance.

    x_{s'} = x_s + (s' - s) v(x_s, s)                        its first order (Euler); some correct it by the past,
                                                             with eta a part of the noise is drawn anew           (5)
    v = v_null + g (v_cond - v_null)                         g = guidance_scale; g = 1 skips the null pass       (6)

With adapter_until = tau the adapter works in the first ceil(tau N) of N steps, and the base alone in the others: Phased
LoRA Integration (Separate Motion from Appearance, arXiv 2501.16714), since the early, noisy steps lay out the motion
and the late ones the looks. There tau is the index of a step and its value is not published; ours is a share of the
steps, so that it means the same at another number of them. "The base" is the whole of it, as at strength 0: a method
that also changes the text condition (SynMotion) gives the plain one back, for the base never saw the other.

With a noise_prior p sampling starts from noise which in part is that of a clip (inversion.py), as MotionDirector does:

    x_start = sqrt(p) x_inverted + sqrt(1 - p) noise                                                     (12)

Two motions in one video are two adapters, each asked in every step for its own (6) in its own words, and combined by
(24) of blending.py before the scheduler's step. Strength and adapter_until are of both.

From a first image (I2V) the backbone says where sampling starts, and the latent frames that the image fixes stay as
they are after every step.

Each video has its own seed: the same (prompt, seed, settings) gives the same video whatever else is in the batch, up
to the rounding of batched arithmetic; only a first-block cache decides for a whole batch, so `generate` then draws one
video at a time. strength 0 is the base, bit for bit. `generate` yields events and writes H.264 files.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synmotion_core import step_cache as step_caches
from synmotion_core.backbones.step_cache import Tally, caching, check_step_cache
from synmotion_core.blending import Over, frame_weights
from synmotion_core.clips import video
from synmotion_core.errors import Cancelled, IncompatibleError
from synmotion_core.interfaces import Backbone, BackboneSpec, Method, autocast_dtype
from synmotion_core.naming import file_stems, plain
from synmotion_core.step_cache import StepCache
from synmotion_core.types import (
    Condition,
    Event,
    Frames,
    Mode,
    Noted,
    Pixels,
    Progress,
    Prompt,
    Sampled,
    TextCondition,
    VideoShape,
    stack_text,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerConfig:
    """Everything that shapes one video beside its prompt and seed. strength scales the adapter, 0..2.

    eta in 0..1 is the share of fresh noise in a step, drawn from the video's own seed; 0 is the scheduler's own path.
    Below the noise level guidance_until the null pass is left out, as at guidance_scale 1: a limited interval
    (Kynkaanniemi et al. 2024); 0 guides to the end. embedded_guidance is an input of denoisers that were distilled for
    it, None for others. negative_prompt is what the null pass reads. flow_shift moves the noise levels, (4) in
    diffusion.py; None leaves them to the scheduler. guidance_scale_2 takes guidance_scale's place where the backbone's
    second expert denoises, below its spec's boundary_ratio; None goes on with guidance_scale.
    adapter_until in 0..1 is the share of the steps in which the adapter works: 0 none, 1 all. noise_prior is p of (12):
    the part of the variance of what sampling starts from that is a clip's. step_cache says what a
    step takes up of earlier ones (step_cache.py); None runs each whole.
    mixed_precision "bf16" runs the denoiser under autocast (interfaces.autocast_dtype), "no" in the weights' own type.
    """

    num_inference_steps: int
    guidance_scale: float
    shape: VideoShape
    strength: float = 1.0
    eta: float = 0.0
    guidance_until: float = 0.0
    embedded_guidance: float | None = None
    negative_prompt: str = ""
    flow_shift: float | None = None
    guidance_scale_2: float | None = None
    adapter_until: float = 1.0
    noise_prior: float = 0.0
    step_cache: StepCache | None = None
    mixed_precision: str = "bf16"

    @property
    def adapted_steps(self) -> int:
        """How many steps, from the first on, are the adapter's."""
        return math.ceil(self.adapter_until * self.num_inference_steps - 1e-9)  # 0.1 of 30 are 3


def default_sampler(
    of: Backbone | BackboneSpec,
    *,
    strength: float = 1.0,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    guidance_until: float | None = None,
    embedded_guidance: float | None = None,
    negative_prompt: str | None = None,
    flow_shift: float | None = None,
    eta: float | None = None,
    adapter_until: float = 1.0,
    noise_prior: float = 0.0,
    step_cache: str | None = None,
    num_frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
) -> SamplerConfig:
    """The backbone's own settings where none is given. A guidance_scale that is given counts for both experts.

    Raises ShapeError for frames or a size it cannot take, IncompatibleError for a guidance or a step cache that it has
    not and for a negative prompt that nothing would read.
    """
    spec = of if isinstance(of, BackboneSpec) else of.spec
    if embedded_guidance is not None and "embedded_guidance" not in spec.features:
        raise IncompatibleError(f"{spec.name} takes no embedded guidance: leave it out, or set guidance_scale")
    if guidance_scale not in (None, 1) and "true_cfg" not in spec.features:
        raise IncompatibleError(f"{spec.name} takes no guidance_scale: leave it out, or set 1")
    cache = None if step_cache is None else step_caches.parse(step_cache)
    if cache is not None:
        check_step_cache(spec, cache)
    guidance_scale_2 = spec.guidance_scale_2 if guidance_scale is None else None
    if guidance_scale is None:
        guidance_scale = spec.guidance_scale
    if negative_prompt is not None and guidance_scale == 1:
        raise IncompatibleError("a negative_prompt has no effect at guidance_scale 1: set another one, or leave it out")
    return SamplerConfig(
        num_inference_steps=num_inference_steps or spec.num_inference_steps,
        guidance_scale=guidance_scale,
        shape=spec.shape(num_frames, height, width),
        strength=strength,
        eta=spec.eta if eta is None else eta,
        guidance_until=spec.guidance_until if guidance_until is None else guidance_until,
        embedded_guidance=spec.embedded_guidance if embedded_guidance is None else embedded_guidance,
        negative_prompt=spec.negative_prompt if negative_prompt is None else negative_prompt,
        flow_shift=spec.flow_shift if flow_shift is None else flow_shift,
        guidance_scale_2=guidance_scale_2,
        adapter_until=adapter_until,
        noise_prior=noise_prior,
        step_cache=cache,
    )


def noise_sources(seeds: Sequence[int]) -> list[torch.Generator]:
    """One a video, on the CPU: every device draws alike."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draw_noise(backbone: Backbone, sources: Sequence[torch.Generator], shape: VideoShape) -> Tensor:
    """[B, C, f, h, w], each row the next of its own source: the first is what sampling starts from."""
    size = backbone.latent_shape(shape)
    return torch.stack([torch.randn(size, generator=source) for source in sources]).to(backbone.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """What a batch's prompts are read as: `prompts` alone [B], and `guided` [2 B] with the null rows behind them."""

    prompts: TextCondition
    guided: TextCondition | None


def read_texts(
    backbone: Backbone, prompts: Sequence[Prompt], config: SamplerConfig, images: Pixels | None = None
) -> Texts:
    """One encoder pass over prompts and one over what guidance leads away from; images as for `denoise`."""
    text = backbone.encode_prompt(prompts, images)
    if config.guidance_scale == 1:
        return Texts(prompts=text, guided=None)
    # one pass of the denoiser for both halves: the null rows have no roles, so a method leaves their text alone
    null = backbone.encode_text([config.negative_prompt] * len(prompts), images)
    return Texts(prompts=text, guided=stack_text([text, null]))


def batches_of(count: int, config: SamplerConfig, batch_size: int = 4) -> list[range]:
    """Which videos of `count` are drawn together."""
    if config.step_cache is not None and config.step_cache.decides_by_content:
        batch_size = 1
    return [range(i, min(i + batch_size, count)) for i in range(0, count, batch_size)]


def read_all_texts(
    backbone: Backbone,
    prompts: Sequence[Prompt],
    config: SamplerConfig,
    images: Pixels | None = None,
    batch_size: int = 4,
) -> list[Texts]:
    """What `generate` needs of the encoders, batch by batch; afterwards they can be released."""
    texts = []
    for batch in batches_of(len(prompts), config, batch_size):
        first = None if images is None else images[batch.start : batch.stop]
        texts.append(read_texts(backbone, [prompts[i] for i in batch], config, first))
    return texts


def _condition(
    method: Method | None, texts: Texts, guided: bool, strength: float, config: SamplerConfig, image: Tensor | None
) -> Condition:
    text = texts.guided if guided and texts.guided is not None else texts.prompts
    made = text.as_condition() if method is None else method.condition(text, strength)
    known = torch.cat([image, image]) if guided and image is not None else image
    return replace(made, image_latents=known, guidance=config.embedded_guidance)


def _guidance(spec: BackboneSpec, config: SamplerConfig, sigma: float) -> float:
    """g of (6) at a noise level: that of the expert which denoises there."""
    second = spec.boundary_ratio is not None and sigma < spec.boundary_ratio
    return config.guidance_scale_2 if second and config.guidance_scale_2 is not None else config.guidance_scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Second:
    """Another motion in the same videos: its method, attached beside the first, and w of (24).

    texts are its prompts for the same videos, as `read_all_texts` gives them. name is for the videos' files.
    """

    method: Method
    texts: Sequence[Texts]
    share: float
    over: Over
    name: str

    def weights(self, frames: int) -> tuple[float, ...]:
        """By latent frame."""
        return frame_weights(self.share, self.over, frames)

    @property
    def in_names(self) -> str:
        """What it is, in the videos' names."""
        return f"{plain(self.name, 40, 50)}-{self.over}-{self.share:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Who predicts, in which words, and what weight [f, 1, 1] the prediction has; None: it is the only one."""

    method: Method | None
    texts: Texts
    weight: Tensor | None = None


def _parts(method: Method | None, texts: Texts, second: Second | None, frames: int, device: Any) -> list[_Part]:
    """Those whose weight is not 0 in every frame."""
    first = _Part(method=method, texts=texts)
    weights = () if second is None else second.weights(frames)
    if second is None or not any(weights):
        return [first]
    (own,) = second.texts
    if all(w == 1 for w in weights):
        return [_Part(method=second.method, texts=own)]
    w = torch.tensor(weights, device=device).view(-1, 1, 1)
    return [replace(first, weight=1 - w), _Part(method=second.method, texts=own, weight=w)]


@torch.no_grad()
def denoise(
    backbone: Backbone,
    method: Method | None,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    config: SamplerConfig,
    images: Pixels | None = None,
    *,
    texts: Texts | None = None,
    tally: Tally | None = None,
    inverted: Tensor | None = None,
    second: Second | None = None,
) -> Generator[Tensor, None, None]:
    """Yields the latents after every step; the last is the result. One seed a prompt.

    images [B, 3, H, W] in [-1, 1], one a prompt, are the videos' first frames; None draws from text alone. texts are
    the prompts as `read_texts` gives them, None reads them here. tally counts what a step cache leaves out. inverted
    [1, C, f, h, w] is a clip as inversion.py gives it, which a noise_prior needs. second blends another motion in,
    with one batch of texts. Raises IncompatibleError for a mode that the backbone has not.
    """
    if len(prompts) != len(seeds):
        raise ValueError(f"one seed a prompt: got {len(prompts)} prompts and {len(seeds)} seeds")
    if images is not None and len(images) != len(prompts):
        raise ValueError(f"one first image a prompt: got {len(prompts)} prompts and {len(images)} images")
    mode: Mode = "t2v" if images is None else "i2v"
    backbone.spec.check_mode(mode)
    image, kept = None, backbone.spec.image_frames
    if images is not None:
        image = backbone.encode_image(images, config.shape.num_frames)
    if texts is None:
        texts = read_texts(backbone, prompts, config, images)
    sources = noise_sources(seeds)
    solver = backbone.solver(config.num_inference_steps, config.shape, config.eta, config.flow_shift)
    latents = solver.start(backbone.start_latents(draw_noise(backbone, sources, config.shape), image))
    if config.noise_prior:
        if inverted is None or images is not None:
            raise ValueError("a noise_prior needs inverted latents, and no first images")
        p = config.noise_prior
        latents = p**0.5 * inverted.to(latents) + (1 - p) ** 0.5 * latents  # (12)
    parts = _parts(method, texts, second, latents.shape[2], latents.device)
    attached = [] if method is None else [method]
    attached += [] if second is None else [second.method]
    for one in attached:
        one.set_strength(0.0)  # each is switched on when it predicts
    conditions, before = [], None
    try:
        with (
            torch.autocast(backbone.device.type, autocast_dtype(backbone), enabled=config.mixed_precision == "bf16"),
            caching(backbone.transformers(mode), config.step_cache, tally) as cache,
        ):
            for index, now in enumerate(solver.sigmas[:-1].tolist()):
                guided = texts.guided is not None and now >= config.guidance_until
                strength = config.strength if method is None or index < config.adapted_steps else 0.0
                changed = (guided, strength) != before
                if changed:
                    if before is not None:
                        cache.forget()
                    conditions = [_condition(p.method, p.texts, guided, strength, config, image) for p in parts]
                    before = guided, strength
                velocity = torch.zeros((), device=latents.device)
                for part, condition in zip(parts, conditions, strict=True):
                    if part.method is not None and (changed or part.weight is not None):
                        for one in attached:  # the others first: in layers that are shared the last one works
                            if one is not part.method:
                                one.set_strength(0.0)
                        part.method.set_strength(strength)
                    with cache.step():
                        own = _predict(backbone, latents, now, condition, guided, config)
                    velocity = own if part.weight is None else velocity + part.weight * own  # (24)
                fresh = draw_noise(backbone, sources, config.shape) if config.eta else None
                latents = solver.step(velocity, latents, fresh)  # (5)
                if image is not None and kept:
                    latents = torch.cat([image[:, :, :kept], latents[:, :, kept:]], dim=2)
                yield latents
    finally:
        for one in reversed(attached):
            one.set_strength(1.0 if one is attached[0] else 0.0)


def _predict(
    backbone: Backbone, latents: Tensor, now: float, condition: Condition, guided: bool, config: SamplerConfig
) -> Tensor:
    batch = torch.cat([latents, latents]) if guided else latents
    velocity = backbone.predict(batch, torch.full((len(batch),), now, device=backbone.device), condition)
    if not guided:
        return velocity
    conditional, null = velocity.chunk(2)
    return null + _guidance(backbone.spec, config, now) * (conditional - null)  # (6)


def to_frames(pixels: Tensor) -> list[Frames]:
    """[B, 3, F, H, W] in [-1, 1] -> uint8 frames, one array a video."""
    array = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1).cpu().numpy()
    return [np.ascontiguousarray(v) for v in array]


def sample_frames(
    backbone: Backbone,
    method: Method | None,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    config: SamplerConfig,
    images: Pixels | None = None,
    *,
    texts: Texts | None = None,
    tally: Tally | None = None,
    inverted: Tensor | None = None,
) -> list[Frames]:
    """All at once, without events: for tests and benchmarks."""
    *_, latents = denoise(backbone, method, prompts, seeds, config, images, texts=texts, tally=tally, inverted=inverted)
    return to_frames(backbone.decode_latents(latents))


def generate(
    backbone: Backbone,
    method: Method | None,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    config: SamplerConfig,
    folder: Path,
    *,
    images: Pixels | None = None,
    inverted: Tensor | None = None,
    texts: Sequence[Texts] | None = None,
    second: Second | None = None,
    cancel: threading.Event | None = None,
    batch_size: int = 4,
    step: int = 0,
    done: int = 0,
    total: int | None = None,
    own_folder: bool = False,
) -> Iterator[Event]:
    """Generate and write one video a (prompt, seed); yields Progress after every denoising step and Sampled per file,
    and at the end Noted: what a step cache left out, and which names other videos had.

    No video is written over: one whose name another has is numbered, the same one drawn again is the file that is
    there. own_folder: whatever has the name is this run's, of an earlier attempt, and is replaced.

    images [B, 3, H, W], one a prompt, are first frames (I2V); inverted is as for `denoise`. texts are what
    `read_all_texts` gave for the same prompts (or for other words in their place), images and batch_size; None reads
    them, and the encoders are gone before anything is denoised. second blends another motion in. `step` is the
    training step that samples belong to. done and total count denoising steps of a larger whole. Raises Cancelled
    between steps once `cancel` is set; finished files stay.
    """
    per_batch = config.num_inference_steps
    batches = batches_of(len(prompts), config, batch_size)
    total = total if total is not None else done + per_batch * len(batches)
    adapted = method is not None and config.strength != 0 and config.adapted_steps > 0
    if texts is None:
        texts = read_all_texts(backbone, prompts, config, images, batch_size)
        backbone.release_encoders()
    stems = file_stems(prompts, seeds, adapted=adapted, more="" if second is None else second.in_names)
    tally, taken = Tally(), list[str]()
    for number, (batch, read) in enumerate(zip(batches, texts, strict=True)):
        some, own = [prompts[i] for i in batch], [seeds[i] for i in batch]
        latents = None
        first = None if images is None else images[batch.start : batch.stop]
        other = None if second is None else replace(second, texts=second.texts[number : number + 1])
        # closed at once where it ends early: adapter and step cache must not wait for the garbage collector
        with closing(
            denoise(
                backbone, method, some, own, config, first, texts=read, tally=tally, inverted=inverted, second=other
            )
        ) as steps:
            for latents in steps:  # noqa: B007  (the last one is the result)
                done += 1
                yield Progress(stage="generate", step=done, total=total)
                if cancel is not None and cancel.is_set():
                    raise Cancelled("stopped by request")
        assert latents is not None
        for index, frames in zip(batch, to_frames(backbone.decode_latents(latents)), strict=True):
            wanted = folder / f"{stems[index]}.mp4"
            path = video.write(wanted, frames, config.shape.fps, keep=not own_folder)
            if path != wanted:
                taken.append(f"{wanted.name} is another video and stays: the new one is {path.name}")
            yield Sampled(path=path, prompt=prompts[index], seed=seeds[index], step=step, adapted=adapted)
    if taken:
        yield Noted(message=taken[0] + (f" (and {len(taken) - 1} more like it)" if taken[1:] else ""))
    if config.step_cache is not None:
        left_out = f"left out {tally.skipped:.0%} of the denoiser's blocks"
        yield Noted(message=f"the step cache {config.step_cache.text} {left_out} in {len(prompts)} videos")
