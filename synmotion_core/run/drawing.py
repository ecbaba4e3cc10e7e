"""Videos of every subject with every seed."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from synmotion_core.backbones import find_spec
from synmotion_core.config import GenerateRun, motion_name
from synmotion_core.errors import Cancelled
from synmotion_core.interfaces import Method, reworded
from synmotion_core.planning.work import drawing_method
from synmotion_core.precision import weights_of
from synmotion_core.run import pool
from synmotion_core.run.inputs import load_images, load_noise_clip, read_as
from synmotion_core.types import Event, Finished, Prompt, Started, Stopped, Warned

if TYPE_CHECKING:
    from synmotion_core.generation import SamplerConfig


def generate(config: GenerateRun, folder: Path, *, cancel: threading.Event | None = None) -> Iterator[Event]:
    """Generate every subject times every seed into `folder`; with compare, the base beside it.

    A motion given by its name alone ("squats") is drawn in all the words that the adapter learnt it by, and said so.
    """
    from synmotion_core.adapters.file import load_adapter

    began, cancel = time.perf_counter(), cancel or threading.Event()
    spec = find_spec(config.backbone)
    state, info, entry, method_config = None, None, None, None
    if config.adapter is not None:
        state, info = load_adapter(config.adapter, spec)
        entry, method_config = drawing_method(info, config.method_config, spec)
    motion = " ".join(config.motion.split())
    named = info is not None and motion != info.motion and motion == motion_name(info.motion)
    if named and info is not None:
        motion = info.motion
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
    backbone = pool.borrow_backbone(config.backbone, config.precision)
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
        for message in (*warnings, *about_clip):
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
            yield read_as(prompts[0], read[0])
        negative = [] if sampler.guidance_scale == 1 else [sampler.negative_prompt]
        for message in backbone.unread([*(p.text for p in read), *negative]):
            yield Warned(message=message)
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
        null = None if noise_clip is None else backbone.encode_text([""])
        backbone.release_encoders()
        inverted = None
        if noise_clip is not None and null is not None:
            if method is not None:
                method.set_strength(0.0)  # the base alone; every drawing sets its own
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
        for index, (one, own) in enumerate(rounds):
            yield from generation.generate(
                backbone,
                method,
                prompts,
                seeds,
                one,
                folder,
                images=images,
                inverted=inverted,
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
