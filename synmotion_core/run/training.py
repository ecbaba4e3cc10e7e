"""A training, and its subject prior videos alone."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synmotion_core.backbones import find_spec
from synmotion_core.config import TrainRun, to_dict
from synmotion_core.errors import Cancelled
from synmotion_core.interfaces import Backbone, Method, reworded
from synmotion_core.planning.work import look_up, method_of
from synmotion_core.precision import weights_of
from synmotion_core.run import pool
from synmotion_core.run.inputs import load_clips, load_images, read_as
from synmotion_core.types import Clip, Event, Finished, Prompt, Saved, Stopped, VideoShape, Warned

if TYPE_CHECKING:
    import torch

    from synmotion_core.training.trainer import TrainingSet
    from synmotion_core.types import Draw


def train(
    config: TrainRun, folder: Path, *, cache: Path, cancel: threading.Event, resume: bool = False
) -> Iterator[Event]:
    """Train an adapter. `folder` is this run's own; `cache` is shared between runs. resume continues the last
    checkpoint.

    Ends with Finished(path of the adapter) or, when cancelled, Stopped; the checkpoint stays in `folder`.
    """
    began = time.perf_counter()
    named = look_up(config)
    spec, entry, method_config, shape = named.spec, named.entry, named.method_config, named.shape
    sample_images, about_images = load_images(config.train.sample_images, spec, shape)
    clips, warnings = load_clips(config, spec, shape)
    warnings += about_images
    for message in warnings:
        yield Warned(message=message)
    from synmotion_core import material

    backbone = pool.borrow_backbone(config.backbone, config.precision)
    words = partial(reworded, entry, method_config)
    prompts, reference = _sample_prompts(config, clips[0].prompt), words(clips[0].prompt)
    if reference != clips[0].prompt:
        yield read_as(clips[0].prompt, reference)
    try:
        data: dict[Draw, TrainingSet] = {}
        worded = [dataclasses.replace(clip, prompt=words(clip.prompt)) for clip in clips]
        data["reference"] = yield from material.encode_clips(backbone, worded, config.mode, cache, cancel)
        for message in backbone.unread([words(prompt).text for prompt in (*(c.prompt for c in clips), *prompts)]):
            yield Warned(message=message)
        material.read_texts(backbone, [reference], None, cache)
        reading = material.read_texts(backbone, [words(prompt) for prompt in prompts], sample_images, cache)
        if entry.draws_priors(method_config):
            data["prior"] = yield from material.draw_priors(backbone, config.priors, config.mode, cache, cancel, shape)
    except Cancelled:
        yield Stopped(step=0)
        return
    method = entry.attach(reading, method_config, reference, len(clips))
    try:
        backbone.release_encoders()  # all else that will be read is in the cache
        from synmotion_core.training import trainer

        last: Event | None = None
        state = folder / "state.safetensors"
        for last in trainer.train(
            backbone=backbone,
            method=method,
            data=data,
            config=config.train,
            folder=folder,
            settings=_settings_key(config, method_config, backbone.fingerprint, clips),
            cancel=cancel,
            resume=resume and state.exists(),
            sampler=lambda step: _samples(
                reading, method, prompts, words, config.train.seed, shape, sample_images, folder, step
            ),
        ):
            yield last
        if isinstance(last, Stopped):
            return
        path = folder / f"{config.name}.safetensors"
        _save_adapter(path, method, backbone, config, method_config, clips)
    finally:
        method.detach()
    from synmotion_core.adapters.file import read_info
    from synmotion_core.adapters.load_back import load_back

    info = read_info(path)  # as generate takes it: by what the file says
    applied = load_back(path, reading, *method_of(info.method, info.method_config, spec))
    yield Saved(path=path, step=config.train.num_steps, kind="adapter", applied=applied)
    yield Finished(path=path, seconds=time.perf_counter() - began)


def _settings_key(config: TrainRun, method_config: Any, fingerprint: str, clips: list[Clip]) -> str:
    """What a checkpoint belongs to: everything that shapes the steps, but not what is shown.

    Nor how many there are, where the learning rate does not depend on it. The method's settings count whole, so that a
    default of another version is another run; so do the backbone's very weights.
    """
    from synmotion_core.training.cache import content_key

    values = to_dict(config) | {"method_config": to_dict(method_config), "backbone": fingerprint}
    values["train"]["batch_size"] = config.train.batch_size or find_spec(config.backbone).batch_size
    shown = ["save_every", "sample_every", "sample_subjects", "sample_images"]
    for name in [*shown, "num_steps"] if config.train.lr_scheduler == "constant" else shown:
        values["train"].pop(name)
    for name in ("gradient_checkpointing", "offload"):  # only where things are computed, and how often
        values["precision"].pop(name)
    values.pop("clips")
    values.pop("name")
    return content_key(values, [(c.content_hash, c.prompt.text) for c in clips])


def draw_priors(config: TrainRun, cache: Path, *, cancel: threading.Event) -> Iterator[Event]:
    """Only the subject prior videos of a run: draws what is missing; Sampled events name the files."""
    from synmotion_core import material

    spec = find_spec(config.backbone)
    spec.check_mode("t2v")
    shape = spec.shape(config.num_frames, config.height, config.width)
    backbone = pool.borrow_backbone(config.backbone, config.precision)
    try:
        yield from material.draw_priors(backbone, config.priors, config.mode, cache, cancel, shape)
    except Cancelled:
        yield Stopped(step=0)
        return
    yield Finished()


def _sample_prompts(config: TrainRun, reference: Prompt) -> list[Prompt]:
    return [Prompt(subject=subject, motion=reference.motion) for subject in config.train.sample_subjects]


def _samples(
    backbone: Backbone,
    method: Method,
    prompts: Sequence[Prompt],
    words: Callable[[Prompt], Prompt],
    seed: int,
    shape: VideoShape,
    images: torch.Tensor | None,
    folder: Path,
    step: int,
) -> Iterator[Event]:
    from synmotion_core import generation

    if prompts:
        sampler, batch_size = generation.default_sampler(backbone), backbone.spec.batch_size
        yield from generation.generate(
            backbone,
            method,
            prompts,
            [seed] * len(prompts),
            dataclasses.replace(sampler, shape=shape),
            folder / "samples" / f"step-{step:06d}",
            images=images,
            texts=generation.read_all_texts(backbone, [words(p) for p in prompts], sampler, images, batch_size),
            step=step,
            batch_size=batch_size,
        )


def _save_adapter(
    path: Path, method: Method, backbone: Backbone, config: TrainRun, method_config: Any, clips: list[Clip]
) -> None:
    from synmotion_core.adapters.file import AdapterInfo, save_adapter

    spec = backbone.spec
    reference = clips[0].prompt
    save_adapter(
        path,
        method.state_dict(),
        AdapterInfo(
            backbone=spec.name,
            repo=spec.repo,
            revision=spec.revision,
            fingerprint=weights_of(backbone.fingerprint),
            licence=spec.licence,
            method=config.method,
            method_config=to_dict(method_config),
            subject=reference.subject,
            motion=reference.motion,
            steps=config.train.num_steps,
            clips=len(clips),
            mode=config.mode,
            created_with="synmotion_core",
        ),
    )
