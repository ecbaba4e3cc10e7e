"""From a config to events: loads what a run names, trains or generates, writes the results. The command line and the
jobs share it.

    train(TrainRun, folder)       clips -> doctor -> encodings -> priors -> method -> <folder>/<name>.safetensors
    generate(GenerateRun, folder) adapter -> method -> <folder>/*.mp4
    probe(TrainRun)               seconds a step, from a few real ones
    plan(TrainRun)                what train will take, before anything is loaded (planning/report.py)

Both are generators of events; `cancel` is looked at between units of work. Input is checked before any weight is
read. The backbone loaded last is
kept, since loading is what takes long; one device, so one run at a time.
"""

from __future__ import annotations

import dataclasses
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synmotion_core.backbones import find_spec, load_backbone
from synmotion_core.config import GenerateRun, TrainRun, motion_name, to_dict
from synmotion_core.errors import Cancelled, ConfigError
from synmotion_core.interfaces import Backbone, BackboneSpec, Method, reworded
from synmotion_core.planning.report import Plan, plan
from synmotion_core.planning.work import look_up, method_of
from synmotion_core.precision import PLAIN, Precision, weights_of
from synmotion_core.types import (
    Clip,
    Event,
    Finished,
    Noted,
    Progress,
    Prompt,
    Saved,
    Started,
    Stopped,
    VideoShape,
    Warned,
)

if TYPE_CHECKING:
    import torch

    from synmotion_core.generation import SamplerConfig
    from synmotion_core.training.trainer import TrainingSet
    from synmotion_core.types import Draw

PROBE_STEPS = 8
_pool_lock = threading.Lock()
_pool: dict[tuple[str, Precision], Backbone] = {}


def borrow_backbone(name: str, precision: Precision = PLAIN) -> Backbone:
    """Load a backbone, or take the one of the last run if its weights are held alike."""
    with _pool_lock:
        if (name, precision) not in _pool:
            _pool.clear()
            _pool[name, precision] = load_backbone(name, precision=precision)
        return _pool[name, precision]


# ------------------------------------------------------------------------------------------------ train


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
    sample_images, about_images = _load_images(config.train.sample_images, spec, shape)
    clips, warnings = _load_clips(config, spec, shape)
    warnings += about_images
    for message in warnings:
        yield Warned(message=message)
    from synmotion_core import material

    backbone = borrow_backbone(config.backbone, config.precision)
    words = partial(reworded, entry, method_config)
    prompts, reference = _sample_prompts(config, clips[0].prompt), words(clips[0].prompt)
    if reference != clips[0].prompt:
        yield _read_as(clips[0].prompt, reference)
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


def _load_clips(config: TrainRun, spec: BackboneSpec, shape: VideoShape) -> tuple[list[Clip], list[str]]:
    """The clips, and what the doctor warns of. Raises ClipError listing every file that cannot be used."""
    from synmotion_core.clips.dataset import load_clips

    loaded = load_clips(config.clips, shape, puppets_only="" if spec.needs_gpu else spec.name)
    motions = {clip.prompt.motion for clip in loaded.clips}
    if len(motions) > 1:
        raise ConfigError(
            f"one adapter learns one motion, these clips name {'; '.join(sorted(motions))}: train them apart"
        )
    warnings = [f"{f.clip}: {f.message}" if f.clip else f.message for f in loaded.findings if f.severity == "warn"]
    return list(loaded.clips), warnings


def _load_images(paths: Sequence[Path], spec: BackboneSpec, shape: VideoShape) -> tuple[torch.Tensor | None, list[str]]:
    """Pictures as [B, 3, H, W] of the shape in [-1, 1], None for none, and what should be known about them.

    Raises ClipError or MissingError for the first that cannot be used.
    """
    if not paths:
        return None, []
    import torch

    from synmotion_core.clips.dataset import to_pixels
    from synmotion_core.clips.image import load_image

    pictures, warnings = [], []
    for path in paths:
        frames, findings = load_image(path, shape, puppets_only="" if spec.needs_gpu else spec.name)
        pictures.append(to_pixels(frames)[:, :, 0])
        warnings += [f"{path.name}: {finding.message}" for finding in findings]  # no doctor tells of the small ones
    return torch.cat(pictures), warnings


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
    backbone = borrow_backbone(config.backbone, config.precision)
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


def _read_as(prompt: Prompt, words: Prompt) -> Noted:
    return Noted(message=f"“{prompt.motion}” is read as “{words.motion}”: the method has a word of its own for it")


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


# ------------------------------------------------------------------------------------------------ generate


def generate(config: GenerateRun, folder: Path, *, cancel: threading.Event) -> Iterator[Event]:
    """Generate every subject times every seed into `folder`; with compare, the base beside it.

    A motion given by its name alone ("squats") is drawn in all the words that the adapter learnt it by, and said so.
    """
    from synmotion_core.adapters.file import load_adapter

    began = time.perf_counter()
    spec = find_spec(config.backbone)
    state, info, entry, method_config = None, None, None, None
    if config.adapter is not None:
        state, info = load_adapter(config.adapter, spec)
        entry, method_config = method_of(info.method, info.method_config, spec)
    motion = " ".join(config.motion.split())
    named = info is not None and motion != info.motion and motion == motion_name(info.motion)
    if named and info is not None:
        motion = info.motion
    spec.check_mode("i2v" if config.images else "t2v")
    shape = spec.shape(config.num_frames, config.height, config.width)
    pictures, warnings = _load_images(config.images, spec, shape)
    prompts, seeds, rows = [], [], []
    for row, subject in enumerate(config.subjects):
        for seed in config.seeds:
            prompts.append(Prompt(subject=subject, motion=motion, setting=config.setting))
            seeds.append(seed)
            rows.append(row)
    images = None if pictures is None else pictures[rows]
    from synmotion_core import generation

    sampler = generation.default_sampler(
        spec,
        strength=config.strength,
        num_inference_steps=config.num_inference_steps,
        guidance_scale=config.guidance_scale,
        guidance_until=config.guidance_until,
        embedded_guidance=config.embedded_guidance,
        negative_prompt=config.negative_prompt,
        flow_shift=config.flow_shift,
        eta=config.eta,
        adapter_until=config.adapter_until,
        step_cache=config.step_cache,
        num_frames=shape.num_frames,
        height=shape.height,
        width=shape.width,
    )
    backbone = borrow_backbone(config.backbone, config.precision)
    method: Method | None = None
    words = partial(reworded, entry, method_config)
    if state is not None and info is not None and entry is not None:
        method = entry.attach(backbone, method_config, words(Prompt(subject=info.subject, motion=info.motion)))
    try:
        if method is not None and state is not None:
            method.load_state_dict(state)
        # the base alone gets the words as they are
        read = prompts if sampler.strength == 0 else [words(prompt) for prompt in prompts]
        rounds: list[tuple[SamplerConfig, list[Prompt]]] = [(sampler, read)]
        if config.compare and method is not None:
            rounds.append((dataclasses.replace(sampler, strength=0.0), prompts))
        each = len(generation.batches_of(len(prompts), sampler, spec.batch_size)) * sampler.num_inference_steps
        yield Started(what="generate", total=each * len(rounds))
        for message in warnings:
            yield Warned(message=message)
        if named:
            yield Warned(message=f"“{config.motion}” is the name of what this adapter learnt: drawn as “{motion}”")
        if info is not None and (info.mode == "i2v") != bool(config.images):
            trained = "to begin with a picture" if info.mode == "i2v" else "on words alone"
            yield Warned(message=f"this adapter was trained {trained}: in the other mode it may miss the motion")
        weights = weights_of(backbone.fingerprint)
        if info is not None and info.fingerprint != weights:
            yield Warned(
                message=f"this adapter was trained on {info.fingerprint} and here is {weights}: other weights of "
                f"{spec.name}, so the motion may be wrong; train it again to be sure"
                if info.fingerprint
                else f"this adapter's file does not say which weights of {spec.name} it was trained on: on others than "
                f"{weights} the motion may be wrong"
            )
        if read != prompts:
            yield _read_as(prompts[0], read[0])
        negative = [] if sampler.guidance_scale == 1 else [sampler.negative_prompt]
        for message in backbone.unread([*(p.text for p in read), *negative]):
            yield Warned(message=message)
        cache = sampler.step_cache
        if cache is not None and cache.active and sampler.eta > spec.eta:  # a row's own has been measured (README)
            yield Warned(
                message=f"the step cache {cache.text} knows the noise of the steps before, and eta {sampler.eta:g} "
                f"draws it anew in each: use eta {spec.eta:g}, the backbone's own, or no cache"
            )
        texts = {
            same: generation.read_all_texts(backbone, own, sampler, images, spec.batch_size)
            for same, own in {own == read: own for _, own in rounds}.items()
        }
        backbone.release_encoders()
        for index, (one, own) in enumerate(rounds):
            yield from generation.generate(
                backbone,
                method,
                prompts,
                seeds,
                one,
                folder,
                images=images,
                texts=texts[own == read],
                cancel=cancel,
                done=index * each,
                total=each * len(rounds),
                batch_size=spec.batch_size,
            )
    except Cancelled:
        yield Stopped(step=0)
        return
    finally:
        if method is not None:
            method.detach()
    yield Finished(path=folder, seconds=time.perf_counter() - began)


# ------------------------------------------------------------------------------------------------ probe


def probe(config: TrainRun, *, cache: Path, cancel: threading.Event) -> Generator[Event, None, float | None]:
    """A few real steps of a training, of which nothing is kept but the clips' encodings; returns seconds a step.

    Each kind of step counts as often as the whole training would take it. Steps on subject priors are timed on the
    clips, which are as large, so that no prior is drawn. None when cancelled.
    """
    from synmotion_core import material, pace
    from synmotion_core.training import trainer

    named = look_up(config)
    clips, _ = _load_clips(config, named.spec, named.shape)
    backbone = borrow_backbone(config.backbone, config.precision)
    try:
        words = partial(reworded, named.entry, named.method_config)
        worded = [dataclasses.replace(clip, prompt=words(clip.prompt)) for clip in clips]
        data = yield from material.encode_clips(backbone, worded, config.mode, cache, cancel)
        reading = material.read_texts(backbone, [worded[0].prompt], None, cache)
    except Cancelled:
        yield Stopped(step=0)
        return None
    method = named.entry.attach(reading, named.method_config, worded[0].prompt, len(clips))
    backbone.release_encoders()
    phases = [method.phase(config.train.seed, step).name for step in range(config.train.num_steps)]
    shares = {name: phases.count(name) / len(phases) for name in phases}
    few = dataclasses.replace(
        config.train, num_steps=PROBE_STEPS, save_every=0, sample_every=0, sample_subjects=(), sample_images=()
    )
    steps: list[tuple[str | None, float]] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            for event in trainer.train(
                backbone=backbone,
                method=method,
                data={"reference": data, "prior": data},
                config=few,
                folder=Path(folder),
                settings="probe",
                cancel=cancel,
            ):
                if isinstance(event, (Started, Progress, Stopped)):
                    yield event
                if isinstance(event, Stopped):
                    return None
                if isinstance(event, Progress) and event.seconds is not None:
                    steps.append((event.phase, event.seconds))
    finally:
        method.detach()
    return pace.typical(steps[1:], shares)  # the first one also sets things up


__all__ = ["Plan", "borrow_backbone", "draw_priors", "generate", "plan", "probe", "train"]
