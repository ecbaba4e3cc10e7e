"""A training, and its subject prior videos alone."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from synmotion_core.backbones import find_spec
from synmotion_core.config import TrainRun, to_dict
from synmotion_core.errors import Cancelled
from synmotion_core.interfaces import Backbone, Method, reworded
from synmotion_core.planning.work import look_up, method_of
from synmotion_core.precision import weights_of
from synmotion_core.run import pool
from synmotion_core.run.inputs import load_clips, load_images, read_as, unfitting_shift
from synmotion_core.run.scoring import Scoring
from synmotion_core.run.yardstick import Yardstick, choose
from synmotion_core.training import together, wishes
from synmotion_core.types import Clip, Event, Finished, Noted, Prompt, Saved, Scored, Stopped, VideoShape, Warned

if TYPE_CHECKING:
    import torch

    from synmotion_core.training.trainer import TrainingSet
    from synmotion_core.types import Draw


def train(
    config: TrainRun, folder: Path, *, cache: Path, cancel: threading.Event | None = None, resume: bool = False
) -> Iterator[Event]:
    """Train an adapter. `folder` is this run's own; `cache` is shared between runs. resume continues the last
    checkpoint; cancel stops it, at the next step; wishes.py says what else may be asked of it.

    Ends with Finished(path of the adapter, and of the best where it was scored) or, when cancelled, Stopped; the
    checkpoint stays in `folder`.
    """
    began, cancel = time.perf_counter(), cancel or threading.Event()
    if together.asked().leads and not resume:
        wishes.take(folder)
    named = look_up(config)
    spec, entry, method_config, shape = named.spec, named.entry, named.method_config, named.shape
    together.asked().check(config.train.batch_size or spec.batch_size)
    sample_images, about_images = load_images(config.train.sample_images, spec, shape)
    clips, warnings = load_clips(config, spec, shape)
    warnings += about_images
    if (unfitting := unfitting_shift(spec, shape)) is not None:
        warnings.append(f"{unfitting}; this training learns with {spec.options['sigma_shift']:g}")
    for message in warnings:
        yield Warned(message=message)
    if named.chosen:
        yield Noted(message=named.chosen)
    yardstick = choose(config, spec, shape, clips) if config.train.score_every else None
    if yardstick is not None:
        yield Noted(message=yardstick.about)
    from synmotion_core import material

    group = together.join()
    stop = cancel if group.leads else threading.Event()  # the first one fetches, encodes and draws, and may be stopped;
    try:
        if not group.leads and group.anyone(False):  # the others wait, then all is in the cache
            raise Cancelled
        yield from pool.fetch(config.backbone, config.precision, stop)
        if group.leads:
            group.anyone(False)
    except Cancelled:
        if group.leads:
            group.anyone(True)
        yield Stopped(step=0)
        return
    backbone = pool.borrow_backbone(config.backbone, config.precision)
    words = partial(reworded, entry, method_config)
    shown = dataclasses.replace(clips[0].prompt, setting="")  # what the adapter's file will say
    prompts, reference = _sample_prompts(config, shown), words(shown)
    if reference != shown:
        yield read_as(shown, reference)
    try:
        if not group.leads and group.anyone(False):
            raise Cancelled
        data: dict[Draw, TrainingSet] = {}
        worded = [dataclasses.replace(clip, prompt=words(clip.prompt)) for clip in clips]
        # a training that draws samples decodes videos of this size anyway
        data["reference"] = yield from material.encode_clips(
            backbone, worded, config.mode, cache, stop, show_first=bool(prompts) and config.train.sample_every > 0
        )
        held_out = () if yardstick is None else tuple(dict.fromkeys(yardstick.prompts))
        drawn = (*(c.prompt for c in clips), *dict.fromkeys((*prompts, *held_out)))
        for message in backbone.unread([words(prompt).text for prompt in drawn]):
            yield Warned(message=message)
        material.read_texts(backbone, [reference], None, cache)
        if sample_images is None:  # else the samples' subjects are scored, each with its picture
            material.read_texts(backbone, [words(prompt) for prompt in held_out], None, cache)
        reading = material.read_texts(backbone, [words(prompt) for prompt in prompts], sample_images, cache)
        if entry.draws_priors(method_config):
            data["prior"] = yield from material.draw_priors(backbone, config.priors, config.mode, cache, stop, shape)
        if group.leads:
            group.anyone(False)
    except Cancelled:
        if group.leads:
            group.anyone(True)
        yield Stopped(step=0)
        return
    method = entry.attach(reading, method_config, reference, len(clips))
    try:
        backbone.release_encoders()  # all else that will be read is in the cache
        from synmotion_core.training import trainer

        settings = _settings_key(config, method_config, backbone.fingerprint, clips)
        draw = partial(_draw, reading, method, words, shape, sample_images)
        save = partial(_save_adapter, method, backbone, config, method_config, clips)
        scoring = None
        if yardstick is not None:
            scoring = Scoring(
                yardstick,
                folder,
                config.name,
                _score_key(settings, config, yardstick, sample_images),
                draw=lambda where, step: draw(yardstick.prompts, yardstick.seeds, where, step, cancel),
                save=lambda path, scored: save(path, scored.step, scored),
                resume=resume,
            )
            if scoring.began_anew:
                yield Warned(message=scoring.began_anew)

        asked_again = resume

        def sampler(step: int) -> Iterator[Event]:
            nonlocal asked_again
            where, again = folder / "samples" / f"step-{step:06d}", asked_again
            asked_again = False
            if again and len(list(where.glob("*.mp4"))) >= len(prompts):
                return iter(())  # drawn before it was stopped
            return draw(prompts, [config.train.seed] * len(prompts), where, step, cancel)

        last: Event | None = None
        state = folder / "state.safetensors"
        for last in trainer.train(
            backbone=backbone,
            method=method,
            data=data,
            config=config.train,
            folder=folder,
            settings=settings,
            cancel=cancel,
            resume=resume and state.exists(),
            sampler=sampler if prompts else None,
            scorer=scoring,
            processes=group,
        ):
            yield last
        if isinstance(last, Stopped) or not group.leads:
            return
        path, best = folder / f"{config.name}.safetensors", None
        save(path, config.train.num_steps, None if scoring is None else scoring.rows.get(config.train.num_steps))
        if scoring is not None and scoring.best is not None:
            best = folder / f"{config.name}-best.safetensors"
            yield Noted(message=scoring.publish(best))
    finally:
        method.detach()
    from synmotion_core.adapters.file import read_info
    from synmotion_core.adapters.load_back import load_back

    files: list[tuple[Path, Literal["best", "adapter"]]] = [(path, "adapter")]
    for file, kind in files if best is None else [(best, "best"), *files]:
        info = read_info(file)  # as generate takes it: by what the file says
        applied = load_back(file, reading, *method_of(info.method, info.method_config, spec))
        yield Saved(path=file, step=info.steps, kind=kind, applied=applied)
    yield Finished(path=path, best=best, seconds=time.perf_counter() - began)


def _settings_key(config: TrainRun, method_config: Any, fingerprint: str, clips: list[Clip]) -> str:
    """What a checkpoint belongs to: everything that shapes the steps, but not what is shown.

    Nor how many there are, where the learning rate does not depend on it. The method's settings count whole, so that a
    default of another version is another run; so do the backbone's very weights.
    """
    from synmotion_core.training.cache import content_key

    values = to_dict(config) | {"method_config": to_dict(method_config), "backbone": fingerprint}
    values["train"]["batch_size"] = config.train.batch_size or find_spec(config.backbone).batch_size
    values["train"]["learning_rate"] = config.train.learning_rate or find_spec(config.backbone).learning_rate
    shown = ["save_every", "sample_every", "sample_subjects", "sample_images", "score_every", "score_videos"]
    for name in [*shown, "num_steps"] if config.train.lr_scheduler == "constant" else shown:
        values["train"].pop(name)
    for name in ("gradient_checkpointing", "offload"):  # only where things are computed, and how often
        values["precision"].pop(name)
    guided = config.train.training_guidance or find_spec(config.backbone).options.get("training_guidance", 1.0)
    values["train"]["training_guidance"] = guided
    if guided == 1.0:  # what all were trained at before there was such a setting
        values["train"].pop("training_guidance")
    if not config.priors.left_out:  # as before there was such a setting: what began then goes on
        values["priors"].pop("left_out")
    values.pop("clips")
    values.pop("name")
    return content_key(values, [(c.content_hash, c.prompt.text) for c in clips])


def _score_key(settings: str, config: TrainRun, yardstick: Yardstick, images: torch.Tensor | None) -> str:
    """What scores belong to: the steps, and all that is asked of an adapter."""
    from synmotion_core.training.cache import content_key

    pictures = None if images is None else hashlib.sha256(images.float().cpu().numpy().tobytes()).hexdigest()
    asked = [prompt.text for prompt in yardstick.prompts], list(yardstick.seeds), pictures
    return content_key(settings, config.train.score_every, yardstick.name, yardstick.motion, *asked)


def draw_priors(config: TrainRun, cache: Path, *, cancel: threading.Event) -> Iterator[Event]:
    """Only the subject prior videos of a run: draws what is missing; Sampled events name all files."""
    from synmotion_core import material

    spec = find_spec(config.backbone)
    spec.check_mode("t2v")
    shape = spec.shape(config.num_frames, config.height, config.width)
    try:
        yield from pool.fetch(config.backbone, config.precision, cancel)
        backbone = pool.borrow_backbone(config.backbone, config.precision)
        yield from material.draw_priors(backbone, config.priors, config.mode, cache, cancel, shape)
    except Cancelled:
        yield Stopped(step=0)
        return
    yield Finished()


def _sample_prompts(config: TrainRun, reference: Prompt) -> list[Prompt]:
    return [Prompt(subject=subject, motion=reference.motion) for subject in config.train.sample_subjects]


def _draw(
    backbone: Backbone,
    method: Method,
    words: Callable[[Prompt], Prompt],
    shape: VideoShape,
    images: torch.Tensor | None,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    folder: Path,
    step: int,
    cancel: threading.Event | None = None,
) -> Iterator[Event]:
    """Videos of the adapter as it is; images [B, 3, H, W] are first pictures, taken in turn."""
    from synmotion_core import generation

    if prompts:
        sampler, batch_size = generation.default_sampler(backbone), backbone.spec.batch_size
        first = None if images is None else images[[i % len(images) for i in range(len(prompts))]]
        yield from generation.generate(
            backbone,
            method,
            prompts,
            seeds,
            dataclasses.replace(sampler, shape=shape),
            folder,
            images=first,
            texts=generation.read_all_texts(backbone, [words(p) for p in prompts], sampler, first, batch_size),
            cancel=cancel,
            step=step,
            batch_size=batch_size,
            own_folder=True,  # steps are done again after a stop
        )


def _save_adapter(
    method: Method,
    backbone: Backbone,
    config: TrainRun,
    method_config: Any,
    clips: list[Clip],
    path: Path,
    step: int,
    scored: Scored | None,
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
            steps=step,
            clips=len(clips),
            mode=config.mode,
            created_with="synmotion_core",
            score=None if scored is None else scored.score,
            scored_by="" if scored is None else scored.by,
        ),
    )
