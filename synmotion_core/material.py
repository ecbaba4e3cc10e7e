"""What a training learns from: reference clips and subject prior videos, encoded. Runs and benchmarks share it.

Both are generators of events that return a TrainingSet (`yield from`, or `whole` where nobody watches). In image to
video each video comes with its own first frame, encoded alone.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from synmotion_core import generation
from synmotion_core.clips import video
from synmotion_core.errors import Cancelled
from synmotion_core.interfaces import Backbone
from synmotion_core.training import priors
from synmotion_core.training.cache import EncodingCache, first_frame, with_cached_texts
from synmotion_core.training.settings import PriorConfig
from synmotion_core.training.trainer import TrainingSet
from synmotion_core.types import Clip, Event, Mode, Progress, Prompt, Saved, Started, VideoShape, stack_text

T = TypeVar("T")
Frame = Callable[[], Tensor]


def encode_clips(
    backbone: Backbone,
    clips: Sequence[Clip],
    mode: Mode,
    cache: Path,
    cancel: threading.Event,
    *,
    show_first: bool = False,
) -> Generator[Event, None, TrainingSet]:
    """Encoded reference clips, from the cache where they are there. Raises Cancelled between two clips.

    show_first: the first of them is decoded again, once, for people to see what is left of it (Saved, "seen").
    """
    encodings = EncodingCache(cache, backbone)
    yield Started(what="encode", total=len(clips))
    rows = []
    for index, clip in enumerate(clips):
        if cancel.is_set():
            raise Cancelled("stopped by request")
        known = encodings.has_latents(clip)
        if show_first and index == 0:  # before the text encoders are there
            yield Saved(path=_seen(encodings, clip), step=0, kind="seen")
        frame = partial(first_frame, clip)
        rows.append(_row(encodings, encodings.latents(clip), clip.prompt, clip.content_hash, frame, mode))
        yield Progress(stage="encode", step=index + 1, total=len(clips), note="from the cache" if known else clip.name)
    return _joined(rows)


def _seen(encodings: EncodingCache, clip: Clip) -> Path:
    path = encodings.latents_path(clip).with_suffix(".mp4")
    if not path.exists():
        frames = generation.to_frames(encodings.backbone.decode_latents(encodings.latents(clip)))[0]
        video.write(path, frames, clip.fps)
    return path


def draw_priors(
    backbone: Backbone,
    config: PriorConfig,
    mode: Mode,
    cache: Path,
    cancel: threading.Event,
    shape: VideoShape | None = None,
) -> Generator[Event, None, TrainingSet]:
    """Subject prior videos, drawn from words alone where they are missing. Raises Cancelled between two steps.

    Their words are read first, so that the text encoders are gone while the denoiser draws. shape None: the default.
    """
    plan = priors.plan_priors(dict(backbone.spec.options), config)
    sampler = generation.default_sampler(backbone)
    if shape is not None:
        sampler = dataclasses.replace(sampler, shape=shape)
    reading = read_texts(backbone, [prompt for prompt, _ in plan], None, cache)
    backbone.release_encoders()
    key = dataclasses.asdict(sampler)
    # of no effect here, and older priors were drawn before there were any
    for name in ("adapter_until", "noise_prior", "step_cache"):
        del key[name]

    def sample(prompts: Sequence[Prompt], seeds: Sequence[int]) -> Tensor:
        latents = None
        for latents in generation.denoise(reading, None, prompts, seeds, sampler):  # noqa: B007  (the last counts)
            if cancel.is_set():
                raise Cancelled("stopped by request")
        assert latents is not None
        return latents

    def write(path: Path, latents: Tensor) -> None:
        video.write(path, generation.to_frames(backbone.decode_latents(latents))[0], sampler.shape.fps)

    yield Started(what="prior", total=len(plan))
    own = backbone.spec.batch_size
    yield from priors.draw_priors(backbone, plan, cache, key, sample, write, cancel=cancel, batch_size=own)
    encodings = EncodingCache(cache, backbone)
    rows = []
    for prompt, seed in plan:
        path = priors.prior_path(backbone, prompt, seed, cache, key)
        latents = priors.read_prior(path)
        rows.append(_row(encodings, latents, prompt, path.stem, partial(_drawn_frame, backbone, latents), mode))
    return _joined(rows)


def read_texts(backbone: Backbone, prompts: Sequence[Prompt], images: Tensor | None, cache: Path) -> Backbone:
    """Bring these prompts and what guidance leads away from into the cache; the backbone that takes them from there.

    images [B, 3, H, W] in [-1, 1], one a prompt, or None.
    """
    reading = with_cached_texts(backbone, cache)
    sampler = generation.default_sampler(backbone)
    if prompts:
        reading.encode_prompt(prompts, images)
    if sampler.guidance_scale != 1:
        reading.encode_text([sampler.negative_prompt] * max(1, len(prompts)), images)
    return reading


def whole(events: Generator[Event, None, T]) -> T:
    """What a generator of events returns, its events unseen."""
    while True:
        try:
            next(events)
        except StopIteration as end:
            return end.value


def _row(
    encodings: EncodingCache, latents: Tensor, prompt: Prompt, content: str, frame: Frame, mode: Mode
) -> TrainingSet:
    if mode == "t2v":
        return TrainingSet(latents=latents, text=encodings.text(prompt))
    num_frames = (latents.shape[2] - 1) * encodings.backbone.spec.frame_multiple + 1
    text, image = encodings.text(prompt, content, frame), encodings.image(content, num_frames, frame)
    return TrainingSet(latents=latents, text=text, image_latents=image)


def _joined(rows: Sequence[TrainingSet]) -> TrainingSet:
    images = [row.image_latents for row in rows if row.image_latents is not None]
    return TrainingSet(
        latents=torch.cat([row.latents for row in rows]),
        text=stack_text([row.text for row in rows]),
        image_latents=torch.cat(images) if images else None,
    )


def _drawn_frame(backbone: Backbone, latents: Tensor) -> Tensor:
    """What a video of these latents [1, C, f, h, w] begins with: [1, 3, H, W] in [-1, 1]."""
    return backbone.decode_latents(latents)[:, :, 0]
