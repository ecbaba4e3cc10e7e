"""How well a method learns rare motions from clips of a person, shown on species that were never in the clips.

    methods.<method>.motion            the judge sees the rare motion
    methods.<method>.species|colour    the judge sees the subject that was asked for
    methods.<method>.as_person         the judge sees the reference subject instead: leakage
    methods.<method>.seconds           training, priors not counted (they are drawn once and shared)

Rates take the wider of two intervals: whole units redrawn, and Wilson's over all videos.
A unit is (motion, seed): `num_clips` renders of a person, one training, `num_videos` videos over the unseen species
in turn. Units that share
a seed share clips and noise, so intervals redraw whole units (figures.cluster_interval). All methods have the same
steps and batch.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from synmotion_core.backbones import load_backbone
from synmotion_core.clips.dataset import content_hash
from synmotion_core.config import from_dict
from synmotion_core.errors import ConfigError
from synmotion_core.evaluation.figures import Figure, grouped_rate_figure, mean_figure
from synmotion_core.generation import default_sampler, denoise, sample_frames, to_frames
from synmotion_core.interfaces import Backbone
from synmotion_core.methods import find_method
from synmotion_core.puppets.captions import subject_phrase
from synmotion_core.puppets.judge import Judge
from synmotion_core.puppets.motions import FPS, MOTIONS, RARE
from synmotion_core.puppets.species import SPECIES
from synmotion_core.puppets.stage import BACKGROUNDS, COLOURS, Scene, render
from synmotion_core.training import priors as prior_videos
from synmotion_core.training import trainer
from synmotion_core.training.cache import EncodingCache
from synmotion_core.training.settings import PriorConfig, TrainConfig
from synmotion_core.training.trainer import TrainingSet
from synmotion_core.types import Clip, Frames, Progress, Prompt, stack_text

REFERENCE = "person"
UNSEEN = tuple(name for name in SPECIES if name != REFERENCE)
DEFAULT_MOTIONS = ("wave", "squat", "clap", "spin", "doublewave", "handstand")


def reference_clips(motion: str, num: int, seed: int) -> list[Clip]:
    """Clips of a person doing a motion: colours, backgrounds and manner vary."""
    rng = np.random.default_rng((seed, 0x4EF, RARE.index(motion) if motion in RARE else 99))
    clips = []
    for i in range(num):
        colour, background = str(rng.choice(list(COLOURS))), str(rng.choice(list(BACKGROUNDS)))
        scene = Scene(
            species=REFERENCE, colour=colour, background=background, motion=motion, seed=int(rng.integers(2**31))
        )
        frames = render(scene).frames
        clips.append(
            Clip(
                name=f"{motion}-{i}",
                frames=frames,
                fps=FPS,
                content_hash=content_hash(frames, FPS),
                prompt=Prompt(subject=subject_phrase(REFERENCE, colour), motion=MOTIONS[motion].verb),
            )
        )
    return clips


def reference_set(backbone: Backbone, clips: Sequence[Clip], cache: Path) -> TrainingSet:
    """Encoded reference clips."""
    encodings = EncodingCache(cache, backbone)
    return TrainingSet(
        latents=torch.cat([encodings.latents(c) for c in clips]),
        text=stack_text([encodings.text(c.prompt) for c in clips]),
    )


def prior_set(backbone: Backbone, cache: Path, config: PriorConfig) -> TrainingSet:
    """Subject priors, drawn where they are missing."""
    plan = prior_videos.plan_priors(dict(backbone.spec.options), config)
    sampler = default_sampler(backbone)

    def sample(prompts: Sequence[Prompt], seeds: Sequence[int]) -> torch.Tensor:
        *_, last = denoise(backbone, None, prompts, seeds, sampler)
        return last

    def write(path: Path, latents: torch.Tensor) -> None:
        from synmotion_core.clips import video

        video.write(path, to_frames(backbone.decode_latents(latents))[0], sampler.shape.fps)

    for _ in prior_videos.draw_priors(backbone, plan, cache, "bench", sample, write, cancel=threading.Event()):
        pass
    encodings = EncodingCache(cache, backbone)
    paths = [prior_videos.prior_path(backbone, p, s, cache, "bench") for p, s in plan]
    return TrainingSet(
        latents=torch.cat([prior_videos.read_prior(p) for p in paths]),
        text=stack_text([encodings.text(p) for p, _ in plan]),
    )


def targets(motion: str, num: int, seed: int) -> list[tuple[Prompt, str, str]]:
    """(prompt, species, colour): the unseen species in turn, colours at random."""
    rng = np.random.default_rng((seed, 0x7A6))
    rows = []
    for i in range(num):
        species, colour = UNSEEN[i % len(UNSEEN)], str(rng.choice(list(COLOURS)))
        rows.append((Prompt(subject=subject_phrase(species, colour), motion=MOTIONS[motion].verb), species, colour))
    return rows


def bench_methods(
    *,
    motions: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    methods: Sequence[str] = ("synmotion", "lora"),
    configs: Mapping[str, Mapping[str, Any]] | None = None,
    num_clips: int = 12,
    num_videos: int = 14,
    train: TrainConfig | None = None,
    cache: Path | None = None,
    sheets: Path | None = None,
) -> Iterator[Figure]:
    """The table of methods. `configs` gives a method's own settings; `sheets` writes a contact sheet a unit."""
    motions = tuple(motions or DEFAULT_MOTIONS)
    unknown = [m for m in motions if m not in RARE]
    if unknown:
        raise ConfigError(f"{unknown[0]!r} is not a rare motion: choose among {', '.join(RARE)}")
    with tempfile.TemporaryDirectory() as scratch:
        root = cache or Path(scratch)
        backbone, judge = load_backbone("puppet-hunyuan"), Judge.load()
        for name in methods:
            entry = find_method(name)
            config = from_dict(entry.config, (configs or {}).get(name, {}))
            rows: dict[str, list[list[float]]] = {
                k: [] for k in ("motion", "species", "colour", "as_person", "seconds")
            }
            by_motion: dict[str, list[list[float]]] = {m: [] for m in motions}
            began = time.perf_counter()
            for motion in motions:
                for seed in seeds:
                    made, spent = _unit(
                        backbone, entry, config, motion, seed, num_clips, num_videos, train or TrainConfig(), root
                    )
                    wanted = targets(motion, num_videos, seed)
                    verdicts = judge.judge(made)
                    hit = [float(v == motion) for v in verdicts.motion]
                    rows["motion"].append(hit)
                    by_motion[motion].append(hit)
                    rows["species"].append([float(v == w[1]) for v, w in zip(verdicts.species, wanted, strict=True)])
                    rows["colour"].append([float(v == w[2]) for v, w in zip(verdicts.colour, wanted, strict=True)])
                    rows["as_person"].append([float(v == REFERENCE) for v in verdicts.species])
                    rows["seconds"].append([spent])
                    if sheets is not None:
                        _sheet(sheets / f"{name}-{motion}-{seed}.png", made, wanted, verdicts)
            spent_all = time.perf_counter() - began
            took = rows.pop("seconds")
            for key, groups in rows.items():
                yield grouped_rate_figure(f"methods.{name}.{key}", groups, seeds=seeds, seconds=spent_all)
            yield mean_figure(f"methods.{name}.seconds", took, seeds=seeds, seconds=spent_all)
            for motion, groups in by_motion.items():
                yield grouped_rate_figure(f"methods.{name}.motion.{motion}", groups, seeds=seeds, seconds=spent_all)


def _unit(
    backbone: Backbone,
    entry: Any,
    config: Any,
    motion: str,
    seed: int,
    num_clips: int,
    num_videos: int,
    train: TrainConfig,
    root: Path,
) -> tuple[list[Frames], float]:
    clips = reference_clips(motion, num_clips, seed)
    data: dict[Any, TrainingSet] = {"reference": reference_set(backbone, clips, root)}
    if entry.draws_priors(config):
        data["prior"] = prior_set(backbone, root, PriorConfig())
    method = entry.attach(backbone, config, clips[0].prompt)
    own = from_dict(TrainConfig, {**_as_dict(train), "seed": seed, "save_every": 0, "sample_every": 0})
    try:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            for _ in trainer.train(
                backbone=backbone,
                method=method,
                data=data,
                config=own,
                folder=Path(folder),
                settings="bench",
                cancel=threading.Event(),
            ):
                pass
        spent = time.perf_counter() - began
        made: list[Frames] = []
        wanted = targets(motion, num_videos, seed)
        for start in range(0, len(wanted), 4):
            some = wanted[start : start + 4]
            made += sample_frames(
                backbone,
                method,
                [w[0] for w in some],
                [seed * 1009 + start + i for i in range(len(some))],
                default_sampler(backbone),
            )
    finally:
        method.detach()
    return made, spent


def _as_dict(config: Any) -> dict[str, Any]:
    from synmotion_core.config import to_dict

    return to_dict(config)


def _sheet(path: Path, made: list[Frames], wanted: list[tuple[Prompt, str, str]], verdicts: Any) -> None:
    from synmotion_core.clips.frames import contact_sheet, png

    path.parent.mkdir(parents=True, exist_ok=True)
    labels = [f"{w[0].text} | {m}, {s}" for w, m, s in zip(wanted, verdicts.motion, verdicts.species, strict=True)]
    path.write_bytes(png(contact_sheet(made, labels)))


def bench_step(*, motion: str = "squat", seed: int = 0, num_steps: int = 40, batch_size: int = 8) -> Iterator[Figure]:
    """Of a training step's wall time, how much is the denoiser's forward and backward; the first five steps warm up.

    step.denoiser_share is time spent in the denoiser over the time from one Progress event to the next: everything
    counts.
    """
    backbone = load_backbone("puppet-hunyuan")
    entry = find_method("synmotion")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        clips = reference_clips(motion, 12, seed)
        data: dict[Any, TrainingSet] = {"reference": reference_set(backbone, clips, root)}
        data["prior"] = prior_set(backbone, root, PriorConfig(max_videos=4))
        method = entry.attach(backbone, entry.config(), clips[0].prompt)
        shares, totals = [], []
        began = last = time.perf_counter()
        try:
            config = TrainConfig(num_steps=num_steps, batch_size=batch_size, seed=seed, save_every=0, sample_every=0)
            for event in trainer.train(
                backbone=backbone,
                method=method,
                data=data,
                config=config,
                folder=root,
                settings="bench",
                cancel=threading.Event(),
            ):
                now = time.perf_counter()
                if isinstance(event, Progress) and event.denoiser_seconds is not None:
                    if event.step > 5:
                        shares.append(event.denoiser_seconds / (now - last))
                        totals.append(now - last)
                    last = now
        finally:
            method.detach()
    spent = time.perf_counter() - began
    yield mean_figure("step.denoiser_share", [shares], seeds=(seed,), seconds=spent)
    yield mean_figure("step.seconds", [totals], seeds=(seed,), seconds=spent)
