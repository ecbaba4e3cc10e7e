"""What the tiny backbone can do without any adapter: random prompts, none curated, judged.

    With mode "i2v" each video begins with a picture, the first frame of a render of what its prompt says, and the names
    begin with backbone.i2v.

    backbone.species|colour|common_motion      share of videos in which the judge sees what the prompt says
    backbone.rare_word                         the same for a rare motion's word, which pretraining never saw: what it
    knows by accident
    backbone.rare_described                    the same prompts with what the limbs do, in words that pretraining taught
    backbone.seconds_a_video                   wall time, decoding included
    backbone.autoencoder_db                    PSNR of renders of rare motions, coded and decoded: mean over clips of
    10 log10(1 / mean squared error), pixels in [0, 1]
    backbone.i2v.first_frame_db                the same, of the videos' first frames against their pictures

Rates carry Wilson's interval over independent prompts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from synmotion_core.backbones import load_backbone
from synmotion_core.clips.dataset import to_pixels
from synmotion_core.errors import ConfigError
from synmotion_core.evaluation.figures import Figure, decibels, mean_figure, rate_figure
from synmotion_core.evaluation.tasks import check_backbone
from synmotion_core.generation import default_sampler, sample_frames, to_frames
from synmotion_core.interfaces import Backbone
from synmotion_core.puppets.captions import draw_scene, subject_phrase
from synmotion_core.puppets.corpus import to_tensor
from synmotion_core.puppets.judge import Judge
from synmotion_core.puppets.motions import COMMON, MOTIONS, RARE
from synmotion_core.puppets.species import SPECIES
from synmotion_core.puppets.stage import BACKGROUNDS, COLOURS, Scene, render
from synmotion_core.storage import replacing
from synmotion_core.types import Frames, Mode, Prompt


def random_prompts(
    num: int, motions: Sequence[str], seed: int, *, described: bool = False
) -> list[tuple[Prompt, str, str, str]]:
    """(prompt, species, colour, motion), uniform and independent; described: with what a rare motion's limbs do."""
    rng = np.random.default_rng((seed, 0xBACB))
    rows = []
    for _ in range(num):
        species, colour = str(rng.choice(list(SPECIES))), str(rng.choice(list(COLOURS)))
        motion = str(rng.choice(list(motions)))
        words = MOTIONS[motion].phrase if described else MOTIONS[motion].verb
        rows.append((Prompt(subject=subject_phrase(species, colour), motion=words), species, colour, motion))
    return rows


def bench_backbone(
    *,
    name: str = "puppet-hunyuan",
    num_prompts: int = 300,
    num_rare: int = 96,
    num_renders: int = 64,
    seed: int = 0,
    batch_size: int = 4,
    num_inference_steps: int | None = None,
    mode: Mode = "t2v",
    sheet: Path | str | None = None,
) -> Iterator[Figure]:
    """Measure a puppet backbone. `sheet` also writes a PNG contact sheet of the first videos."""
    if mode not in ("t2v", "i2v"):
        raise ConfigError(f"mode must be t2v or i2v, got {mode!r}")
    check_backbone(name)
    prefix = "backbone" if mode == "t2v" else "backbone.i2v"
    backbone, judge = load_backbone(name), Judge.load()
    sampler = default_sampler(backbone, num_inference_steps=num_inference_steps)

    def videos(rows: list[tuple[Prompt, str, str, str]], offset: int) -> tuple[list[Frames], list[float]]:
        made, times = [], []
        pictures = None if mode == "t2v" else _pictures(rows, seed, offset)
        for start in range(0, len(rows), batch_size):
            some = rows[start : start + batch_size]
            seeds = [seed * 1_000_003 + offset + start + i for i in range(len(some))]
            began = time.perf_counter()
            first = None
            if pictures is not None:
                first = torch.cat([to_pixels(p[None])[:, :, 0] for p in pictures[start : start + batch_size]])
            made += sample_frames(backbone, None, [r[0] for r in some], seeds, sampler, first)
            times += [(time.perf_counter() - began) / len(some)] * len(some)
        return made, times

    rows = random_prompts(num_prompts, COMMON, seed)
    made, times = videos(rows, 0)
    verdicts = judge.judge(made)
    seconds = sum(times)
    seeds = (seed,)
    yield rate_figure(
        f"{prefix}.species",
        [v == r[1] for v, r in zip(verdicts.species, rows, strict=True)],
        seeds=seeds,
        seconds=seconds,
    )
    yield rate_figure(
        f"{prefix}.colour",
        [v == r[2] for v, r in zip(verdicts.colour, rows, strict=True)],
        seeds=seeds,
        seconds=seconds,
    )
    right = [v == r[3] for v, r in zip(verdicts.motion, rows, strict=True)]
    yield rate_figure(f"{prefix}.common_motion", right, seeds=seeds, seconds=seconds)
    for motion in COMMON:
        own = [ok for ok, r in zip(right, rows, strict=True) if r[3] == motion]
        if own:
            yield rate_figure(f"{prefix}.common_motion.{motion}", own, seeds=seeds, seconds=seconds)
    yield mean_figure("backbone.seconds_a_video", [times], seeds=seeds, seconds=seconds)
    if mode == "i2v":
        pictures = _pictures(rows, seed, 0)
        errors = [[decibels(v[0].astype(float) - p) for v, p in zip(made, pictures, strict=True)]]
        yield mean_figure(f"{prefix}.first_frame_db", errors, seeds=seeds, seconds=seconds)
    if sheet is not None:
        from synmotion_core.clips.frames import contact_sheet, png

        with replacing(Path(sheet)) as partial:
            partial.write_bytes(png(contact_sheet(made[:12], [r[0].text for r in rows[:12]])))
    for key, described in (("rare_word", False), ("rare_described", True)):
        rare = random_prompts(num_rare, RARE, seed + 1, described=described)
        made, times = videos(rare, num_prompts)  # the same subjects and noise for both
        verdicts, seconds = judge.judge(made), sum(times)
        hits = [v == r[3] for v, r in zip(verdicts.motion, rare, strict=True)]
        yield rate_figure(f"{prefix}.{key}", hits, seeds=seeds, seconds=seconds)
        hits = [v == r[1] for v, r in zip(verdicts.species, rare, strict=True)]
        yield rate_figure(f"{prefix}.{key}.species", hits, seeds=seeds, seconds=seconds)
    if mode == "t2v":
        yield _autoencoder(backbone, num_renders, seed)


def _pictures(rows: Sequence[tuple[Prompt, str, str, str]], seed: int, offset: int) -> Frames:
    """First frames of renders of what the prompts say, uint8 [num, H, W, 3]."""
    rng = np.random.default_rng((seed, offset, 0x1F1))
    first = []
    for _, species, colour, motion in rows:
        background, own = str(rng.choice(list(BACKGROUNDS))), int(rng.integers(2**31))
        scene = Scene(species=species, colour=colour, background=background, motion=motion, seed=own)
        first.append(render(scene).frames[0])
    return np.stack(first)


def _autoencoder(backbone: Backbone, num_renders: int, seed: int) -> Figure:
    began = time.perf_counter()
    rng = np.random.default_rng((seed, 0xAEDB))
    found: list[float] = []
    for _ in range(num_renders):
        shown = render(draw_scene(rng, motions=RARE, other=0.0))
        latents = backbone.encode_video(to_tensor([shown]))
        error = to_frames(backbone.decode_latents(latents))[0].astype(float) - shown.frames
        found.append(decibels(error))
    seconds = time.perf_counter() - began
    return mean_figure("backbone.autoencoder_db", [found], seeds=(seed,), seconds=seconds)
