"""What a sampling setting does to the same videos: the same prompts and seeds, drawn with each of `variants`.

    sampling.<variant>.motion|species    share of videos in which the judge sees what the prompt says
    sampling.<variant>.psnr_db           PSNR to the video of the same prompt and seed drawn as `against` says, first
    sampling.<variant>.skipped           share of the denoiser's blocks that a step cache left out
    sampling.<variant>.seconds           wall time a video, decoding included, as batches take it

A variant's name is its settings, "eta=0.0,step_cache=first-block:0.2"; of `against` without settings "plain". Prompts
are random common motions of puppets, or with `adapter` (a file) its motion on species that were not in its clips.
Intervals are Wilson's over prompts for rates, of the mean over videos else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from synmotion_core.adapters.file import load_adapter
from synmotion_core.backbones import load_backbone
from synmotion_core.backbones.step_cache import Tally
from synmotion_core.config import Sampling, from_dict, motion_name, to_dict
from synmotion_core.errors import ConfigError
from synmotion_core.evaluation.bench_backbone import random_prompts
from synmotion_core.evaluation.figures import Figure, decibels, mean_figure, rate_figure
from synmotion_core.evaluation.tasks import BACKBONE, targets
from synmotion_core.generation import batches_of, default_sampler, sample_frames
from synmotion_core.interfaces import reworded
from synmotion_core.methods import find_method
from synmotion_core.puppets.judge import Judge
from synmotion_core.puppets.motions import COMMON, MOTIONS
from synmotion_core.types import Frames, Prompt

Row = tuple[Prompt, str, str]  # with species and motion


def bench_sampling(
    *,
    variants: Sequence[Mapping[str, Any]],
    against: Mapping[str, Any] | None = None,
    adapter: Path | str | None = None,
    num_videos: int = 40,
    seed: int = 0,
    batch_size: int = 4,
) -> Iterator[Figure]:
    """variants and against hold settings of config.Sampling; what they leave out is the backbone's own."""
    if not isinstance(variants, (list, tuple)) or not variants:
        raise ConfigError(f"variants must be a list of settings, got {variants!r}")
    for what, value in (("num_videos", num_videos), ("batch_size", batch_size)):
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{what} must be a whole number, at least 1, got {value!r}")
    settings = [from_dict(Sampling, one) for one in (against or {}, *variants)]  # wrong ones are errors before any work
    backbone, judge, method = load_backbone(BACKBONE), Judge.load(), None
    samplers = [default_sampler(backbone, **to_dict(one)) for one in settings]
    rows: list[Row] = [(p, s, m) for p, s, _, m in random_prompts(num_videos, COMMON, seed)]
    if adapter is not None:
        state, info = load_adapter(Path(adapter), backbone.spec)
        rows = _rows(info.motion, num_videos, seed)
        entry = find_method(info.method)
        config = from_dict(entry.config, info.method_config)
        rows = [(reworded(entry, config, prompt), species, seen) for prompt, species, seen in rows]
        reference = reworded(entry, config, Prompt(subject=info.subject, motion=info.motion))
        method = entry.attach(backbone, config, reference)
        method.load_state_dict(state)
    first: list[Frames] = []
    try:
        for given, sampler in zip((against or {}, *variants), samplers, strict=True):
            name = "sampling." + (",".join(f"{key}={value}" for key, value in sorted(given.items())) or "plain")
            tally, made, times = Tally(), list[Frames](), list[float]()
            for batch in batches_of(len(rows), sampler, batch_size):
                began = time.perf_counter()
                prompts, seeds = [rows[i][0] for i in batch], [seed * 1_000_003 + i for i in batch]
                made += sample_frames(backbone, method, prompts, seeds, sampler, tally=tally)
                times += [(time.perf_counter() - began) / len(batch)] * len(batch)
            own: dict[str, Any] = {"seeds": (seed,), "seconds": sum(times)}
            verdicts = judge.judge(made)
            for key, seen, column in (("motion", verdicts.motion, 2), ("species", verdicts.species, 1)):
                hits = [v == row[column] for v, row in zip(seen, rows, strict=True)]
                yield rate_figure(f"{name}.{key}", hits, **own)
            if first:
                errors = [decibels(v.astype(float) - f) for v, f in zip(made, first, strict=True)]
                yield mean_figure(f"{name}.psnr_db", [errors], **own)
            first = first or made
            yield mean_figure(f"{name}.skipped", [[tally.skipped]], **own)
            yield mean_figure(f"{name}.seconds", [times], **own)
    finally:
        if method is not None:
            method.detach()


def _rows(motion: str, num: int, seed: int) -> list[Row]:
    """The adapter's own words on the unseen species in turn."""
    known = [name for name, one in MOTIONS.items() if motion_name(motion) == one.verb]
    if not known:
        raise ConfigError(
            f"the judge knows no motion {motion_name(motion)!r}: {', '.join(m.verb for m in MOTIONS.values())}"
        )
    return [
        (Prompt(subject=prompt.subject, motion=motion), species, known[0])
        for prompt, species, _ in targets(known[0], num, seed)
    ]
