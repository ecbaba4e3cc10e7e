"""Videos of `bench run methods`, kept: H.264 files of a unit, in a folder that is named by everything they depend on.

That is what the training depends on (trainings.py), how they are drawn, and this file: another judge or metric looks at
the very same videos.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

from synmotion_core import material
from synmotion_core.clips import video
from synmotion_core.clips.dataset import to_pixels
from synmotion_core.config import to_dict
from synmotion_core.errors import ConfigError
from synmotion_core.evaluation.tasks import Unit, common_targets
from synmotion_core.evaluation.trainings import OF_TRAINING, adapted, file_name, source_digest
from synmotion_core.generation import SamplerConfig, batches_of, default_sampler, read_all_texts, sample_frames
from synmotion_core.interfaces import Backbone, Method
from synmotion_core.inversion import invert
from synmotion_core.methods import find_method
from synmotion_core.storage import replacing
from synmotion_core.types import Frames, Prompt


def drawn(backbone: Backbone, unit: Unit, folder: Path) -> tuple[list[Path], float]:
    """The unit's videos, drawn where they are missing, and the seconds that training took.

    They come as `Unit.wanted`, then as `common_targets`. Raises ConfigError for a file that was taken away.
    """
    values = {key: value for key, value in to_dict(unit).items() if key != "metrics"}
    own = folder / "drawn" / file_name(unit, backbone.fingerprint, _version(), values, unit.material())
    files, done = [own / f"{i:02d}.mp4" for i in range(unit.num_videos + unit.num_common)], own / "drawn.json"
    if done.exists():
        for file in files:
            if not file.exists():
                raise ConfigError(f"{file} is not there any more: delete {own}, and they are drawn anew")
        return files, float(json.loads(done.read_text())["seconds"])
    method = find_method(unit.method).attach(backbone, unit.method_config, unit.reference, unit.num_clips)
    try:
        spent = adapted(backbone, unit, method, folder)
        made = _draw(backbone, unit, method) + _draw_common(backbone, unit, method)
        for file, frames in zip(files, made, strict=True):
            video.write(file, frames, unit.fps)
    finally:
        method.detach()
    with replacing(done) as partial:  # the last, so that it says they are whole
        partial.write_text(json.dumps({"seconds": spent, "unit": to_dict(unit)}, indent=1))
    return files, spent


@cache
def _version() -> str:
    return source_digest(Path(__file__).resolve().parent.parent, (*OF_TRAINING, "drawings.py"))


def _draw(backbone: Backbone, unit: Unit, method: Method) -> list[Frames]:
    sampler = default_sampler(backbone, **to_dict(unit.sampling))
    wanted = unit.wanted()
    begin = [one.picture for one in wanted if one.picture is not None]
    images = torch.cat([to_pixels(picture[None])[:, :, 0] for picture in begin]) if begin else None
    inverted = None
    if sampler.noise_prior:  # of the first clip, as one that has only this one would
        clip = unit.clips()[0]
        latents, null = backbone.encode_video(to_pixels(clip.frames)), backbone.encode_text([""])
        method.set_strength(0.0)
        steps = sampler.num_inference_steps
        inverted = material.whole(invert(backbone, latents, null, sampler.shape, steps, flow_shift=sampler.flow_shift))
    prompts, seeds = [unit.reads(w.prompt) for w in wanted], [unit.seed * 1009 + i for i in range(len(wanted))]
    return _drawn(backbone, method, prompts, seeds, sampler, images, inverted)


def _drawn(
    backbone: Backbone,
    method: Method,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    sampler: SamplerConfig,
    images: torch.Tensor | None = None,
    inverted: torch.Tensor | None = None,
) -> list[Frames]:
    """As many at once as `generate` would; large encoders are not in memory meanwhile."""
    size = backbone.spec.batch_size
    texts = read_all_texts(backbone, prompts, sampler, images, size)
    backbone.release_encoders()
    made: list[Frames] = []
    for batch, own in zip(batches_of(len(prompts), sampler, size), texts, strict=True):
        some = slice(batch.start, batch.stop)
        first = None if images is None else images[some]
        made += sample_frames(
            backbone, method, prompts[some], seeds[some], sampler, first, texts=own, inverted=inverted
        )
    return made


def _draw_common(backbone: Backbone, unit: Unit, method: Method) -> list[Frames]:
    sampler = default_sampler(backbone, **(to_dict(unit.sampling) | {"noise_prior": 0.0}))
    wanted = [unit.reads(prompt) for prompt, _ in common_targets(unit.num_common, unit.seed)]
    return _drawn(backbone, method, wanted, [unit.seed * 1009 + 500 + i for i in range(len(wanted))], sampler)
