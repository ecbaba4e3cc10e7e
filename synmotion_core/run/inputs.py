"""Files that a run names, read and checked."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from synmotion_core.config import ClipSource, GenerateRun, TrainRun
from synmotion_core.errors import ConfigError
from synmotion_core.interfaces import BackboneSpec
from synmotion_core.types import Clip, Noted, Prompt, VideoShape

if TYPE_CHECKING:
    import torch


def load_clips(config: TrainRun, spec: BackboneSpec, shape: VideoShape) -> tuple[list[Clip], list[str]]:
    """The clips, and what the doctor warns of. Raises ClipError listing every file that cannot be used."""
    from synmotion_core.clips.dataset import load_clips

    loaded = load_clips(
        config.clips,
        shape,
        frame_multiple=spec.frame_multiple,
        puppets_only="" if spec.needs_gpu else spec.name,
    )
    motions = {clip.prompt.motion for clip in loaded.clips}
    if len(motions) > 1:
        raise ConfigError(
            f"one adapter learns one motion, these clips name {'; '.join(sorted(motions))}: train them apart"
        )
    warnings = [f"{f.clip}: {f.message}" if f.clip else f.message for f in loaded.findings if f.severity == "warn"]
    return list(loaded.clips), warnings


def load_images(paths: Sequence[Path], spec: BackboneSpec, shape: VideoShape) -> tuple[torch.Tensor | None, list[str]]:
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


def load_noise_clip(run: GenerateRun, spec: BackboneSpec, shape: VideoShape) -> tuple[Clip | None, list[str]]:
    """What a noise_prior is about, and what the doctor warns of. Raises ClipError for one that does not fit."""
    from synmotion_core.clips.dataset import load_clips

    if run.noise_clip is None:
        return None, []
    part = {f.name: getattr(run.noise_clip, f.name) for f in dataclasses.fields(run.noise_clip)}
    source = ClipSource(**part, subject=run.subjects[0], motion=run.motion)  # nothing reads its words
    loaded = load_clips(
        [source], shape, frame_multiple=spec.frame_multiple, puppets_only="" if spec.needs_gpu else spec.name
    )
    return loaded.clips[0], [f"{source.path.name}: {f.message}" for f in loaded.findings if f.severity == "warn"]


def unfitting_shift(spec: BackboneSpec, shape: VideoShape, flow_shift: float | None = None) -> str | None:
    """A warning where noise levels are shifted otherwise than is published for videos of about this size.

    flow_shift: of a drawing, None for the row's own; a training draws its levels with the row's, whatever the size.
    """
    if not spec.shifts:
        return None
    area = shape.height * shape.width
    near = min(spec.shifts, key=lambda size: abs(math.log(area / (size[0] * size[1]))))
    own = spec.options["sigma_shift"] if spec.flow_shift is None else spec.flow_shift
    used, fitting = own if flow_shift is None else flow_shift, spec.shifts[near]
    if used == fitting:
        return None
    return (
        f"{shape.height}x{shape.width} is nearest to {spec.name}'s {near[0]}x{near[1]}, for which noise levels are "
        f"shifted by {fitting:g}, and here it is {used:g}: flow_shift {fitting:g} fits when videos are drawn"
    )


def read_as(prompt: Prompt, words: Prompt) -> Noted:
    return Noted(message=f"“{prompt.motion}” is read as “{words.motion}”: the method has a word of its own for it")
