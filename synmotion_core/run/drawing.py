"""Videos of every subject with every seed."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from synmotion_core.backbones import find_spec
from synmotion_core.config import GenerateRun, motion_name
from synmotion_core.errors import Cancelled
from synmotion_core.interfaces import Method
from synmotion_core.run import pool
from synmotion_core.run.inputs import load_images, load_noise_clip, read_as, unfitting_shift
from synmotion_core.types import Event, Finished, Prompt, Started, Stopped, Warned

if TYPE_CHECKING:
    from synmotion_core.generation import SamplerConfig


def generate(
    config: GenerateRun, folder: Path, *, cancel: threading.Event | None = None, own_folder: bool = False
) -> Iterator[Event]:
    """Generate every subject times every seed into `folder`; with compare, the base beside it.

    own_folder: nothing but this run writes there, and what an attempt before left is replaced; else no video ever is
    (generation.generate). A motion given by its name alone ("squats") is drawn in all the words that the adapter learnt
    it by, and said so.
    """
    from synmotion_core.run.adapters import read_adapter, read_beneath, read_second

    began, cancel = time.perf_counter(), cancel or threading.Event()
    spec = find_spec(config.backbone)
    adapter = None if config.adapter is None else read_adapter(config.adapter, spec, config.method_config)
    blend = config.blend
    other = None if blend is None or adapter is None else read_second(adapter, blend, spec)
    loras = read_beneath(config.loras, spec)
    motion = " ".join(config.motion.split())
    named = adapter is not None and motion != adapter.info.motion and motion == motion_name(adapter.info.motion)
    if named and adapter is not None:
        motion = adapter.info.motion
    spec.check_mode("i2v" if config.images else "t2v")
    shape = spec.shape(config.num_frames, config.height, config.width)
    pictures, warnings = load_images(config.images, spec, shape)
    noise_clip, about_clip = load_noise_clip(config, spec, shape)
    prompts, seeds, rows = [], [], []
    for row, subject in enumerate(config.subjects):
        for seed in config.seeds:
            prompts.append(Prompt(subject=subject, motion=motion, setting=config.setting))
            seeds.append(seed)
            rows.append(row)
    images = None if pictures is None else pictures[rows]
    from synmotion_core import generation
    from synmotion_core.clips.dataset import to_pixels
    from synmotion_core.inversion import invert

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
        noise_prior=config.noise_prior,
        step_cache=config.step_cache,
        num_frames=shape.num_frames,
        height=shape.height,
        width=shape.width,
    )
    try:
        yield from pool.fetch(config.backbone, config.precision, cancel)
    except Cancelled:
        yield Stopped(step=0)
        return
    backbone = pool.borrow_backbone(config.backbone, config.precision)
    beneath: list[Method] = []
    attached: list[Method] = []
    try:
        for number, (lora, asked) in enumerate(zip(loras, config.loras, strict=True)):
            beneath.append(lora.attach_beneath(backbone, number, asked.strength))
        method = None if adapter is None else adapter.attach(backbone)
        attached += [] if method is None else [method]
        second_method = None if other is None else other.attach_second(backbone)
        attached += [] if second_method is None else [second_method]
        # the base alone gets the words as they are
        read = prompts if sampler.strength == 0 or adapter is None else [adapter.words(p) for p in prompts]
        # B's words for A's prompts
        others = [] if other is None else [dataclasses.replace(p, motion=other.info.motion) for p in prompts]
        others_read = others if other is None else [other.words(p) for p in others]
        rounds: list[tuple[SamplerConfig, list[Prompt]]] = [(sampler, read)]
        if config.compare and method is not None:
            rounds.append((dataclasses.replace(sampler, strength=0.0), prompts))
        each = len(generation.batches_of(len(prompts), sampler, spec.batch_size)) * sampler.num_inference_steps
        yield Started(what="generate", total=each * len(rounds))
        for message in (*warnings, *about_clip):
            yield Warned(message=message)
        if named:
            yield Warned(message=f"“{config.motion}” is the name of what this adapter learnt: drawn as “{motion}”")
        said = [] if adapter is None else [*adapter.warnings(backbone, bool(config.images))]
        said += [] if other is None else other.warnings(backbone, bool(config.images), other.path.stem)
        said += [message for one in loras for message in one.warnings(backbone, bool(config.images), one.path.stem)]
        for message in said:
            yield Warned(message=message)
        if read != prompts:
            yield read_as(prompts[0], read[0])
        if others_read != others:
            yield read_as(others[0], others_read[0])
        negative = [] if sampler.guidance_scale == 1 else [sampler.negative_prompt]
        for message in backbone.unread([*(p.text for p in (*read, *others_read)), *negative]):
            yield Warned(message=message)
        if (unfitting := unfitting_shift(spec, shape, config.flow_shift)) is not None:
            yield Warned(message=unfitting)
        if sampler.noise_prior and sampler.eta:
            yield Warned(
                message=f"eta {sampler.eta:g} draws noise anew in each step, which keeps the clip's layout and little "
                "of its motion: eta 0 keeps more"
            )
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
        second = None
        if blend is not None and second_method is not None:
            second = generation.Second(
                method=second_method,
                texts=generation.read_all_texts(backbone, others_read, sampler, images, spec.batch_size),
                share=blend.share,
                over=blend.over,
                name=motion_name(others[0].motion),
            )
        null = None if noise_clip is None else backbone.encode_text([""])
        backbone.release_encoders()
        inverted = None
        if noise_clip is not None and null is not None:
            for one in attached:
                one.set_strength(0.0)  # the base alone; every drawing sets its own
            steps = sampler.num_inference_steps
            inverted = yield from invert(
                backbone,
                backbone.encode_video(to_pixels(noise_clip.frames)),
                null,
                shape,
                steps,
                flow_shift=sampler.flow_shift,
                cancel=cancel,
            )
        for index, (settings, own) in enumerate(rounds):
            yield from generation.generate(
                backbone,
                method,
                prompts,
                seeds,
                settings,
                folder,
                images=images,
                inverted=inverted,
                texts=texts[own == read],
                second=second if settings.strength else None,
                cancel=cancel,
                done=index * each,
                total=each * len(rounds),
                batch_size=spec.batch_size,
                own_folder=own_folder,
            )
    except Cancelled:
        yield Stopped(step=0)
        return
    finally:
        for one in reversed([*beneath, *attached]):
            one.detach()
    yield Finished(path=folder, seconds=time.perf_counter() - began)
