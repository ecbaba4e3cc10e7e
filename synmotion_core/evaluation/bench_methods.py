"""How well a method learns rare motions from clips of a person, shown on species that were never in the clips.

    methods.<method>.motion            the judge sees the rare motion
    methods.<method>.species|colour    the judge sees the subject that was asked for
    methods.<method>.as_person         the judge sees the reference subject instead: leakage
    methods.<method>.error             how far its joints are from the nearest true performance, in body heights
    methods.<method>.amplitude         how much it moves, 1 as the true ones
    methods.<method>.first_frame_db    image to video: how well the first frame keeps the picture, PSNR
    methods.<method>.<one of these>-<other>   the difference to another row, video by video: `against`
    methods.<method>.seconds           training, priors not counted (they are drawn once and shared)

Rates take the wider of two intervals: whole units redrawn, and Wilson's over all videos. Units (units.py) that share
a seed share clips and noise, so intervals redraw whole units (figures.cluster_interval). All methods have the same
steps and batch.
"""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from synmotion_core.backbones import find_spec, load_backbone
from synmotion_core.config import Sampling, from_dict, to_dict
from synmotion_core.errors import ConfigError
from synmotion_core.evaluation.figures import Figure, grouped_rate_figure, mean_figure
from synmotion_core.evaluation.tasks import BACKBONE, Unit, check_backbone, prior_set, reference_clips, reference_set
from synmotion_core.evaluation.units import Outcome, measure
from synmotion_core.interfaces import check_compatible
from synmotion_core.methods import find_method
from synmotion_core.puppets.motions import RARE
from synmotion_core.training import trainer
from synmotion_core.training.settings import PriorConfig, TrainConfig
from synmotion_core.training.trainer import TrainingSet
from synmotion_core.types import Mode, Progress

DEFAULT_METHODS = ("synmotion", "lora")
DEFAULT_MOTIONS = ("wave", "squat", "clap", "spin", "doublewave", "handstand")
_RATES = ("motion", "species", "colour", "as_person")
_MEANS = ("error", "amplitude")


def bench_methods(
    *,
    motions: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    methods: Sequence[str] = DEFAULT_METHODS,
    configs: Mapping[str, Mapping[str, Any]] | None = None,
    backbone: str = BACKBONE,
    num_clips: int = 20,
    num_videos: int = 14,
    described: bool = True,
    mode: Mode = "t2v",
    drawn_mode: Mode | None = None,
    train: TrainConfig | None = None,
    sampling: Sampling | None = None,
    against: str | None = None,
    workers: int = 1,
    cache: Path | str | None = None,
    sheets: Path | str | None = None,
) -> Iterator[Figure]:
    """The table of methods. `configs` gives a method's own settings; `workers` processes share the units.

    To compare settings of one method, `methods` may hold names of one's own, whose `configs` say the method: such as
    configs={"keys": {"method": "separation", "preset": "K"}}. A key that begins with "sampling." is one of that row's
    own: rows that differ in these alone, or in settings that no training sees, are trained once, given a cache.
    backbone: one of those that ship.

    described: clips and videos are captioned by the motion's verb and what its limbs do, as a person would who trains
    a rare motion; False takes the verb alone. `bench run backbone` says what the words do without an adapter.
    mode "i2v" trains and draws videos from first pictures, of puppets that stand, and its clips begin with a person who
    stands; drawn_mode draws in another mode.
    against: a row that all others are compared with. Its units share clips, prompts and noise with theirs, so the
    differences say more than two intervals beside each other: one around 0 is within the noise.
    sampling: how the adapters' videos are drawn; priors always take the backbone's own settings.
    cache: a folder where encodings, priors, trained adapters and units stay, so that a run that was stopped goes on,
    and one with other sampling or more videos trains nothing; sheets: a folder for a contact sheet a unit, with one
    more in it for each row of one's own.
    """
    motions = tuple(motions or DEFAULT_MOTIONS)
    unknown = [m for m in motions if m not in RARE]
    if unknown:
        raise ConfigError(f"{unknown[0]!r} is not a rare motion: choose among {', '.join(RARE)}")
    for what, value in (("workers", workers), ("num_clips", num_clips), ("num_videos", num_videos)):
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{what} must be a whole number, at least 1, got {value!r}")
    if not isinstance(described, bool):
        raise ConfigError(f"described must be true or false, got {described!r}")
    if mode not in ("t2v", "i2v") or drawn_mode not in (None, "t2v", "i2v"):
        raise ConfigError(f"mode and drawn_mode must be t2v or i2v, got {mode!r} and {drawn_mode!r}")
    if against is not None and against not in methods:
        raise ConfigError(f"against must be one of the rows, {', '.join(methods)}, got {against!r}")
    check_backbone(backbone)
    drawn = sampling or Sampling()
    chosen = {name: _row(name, dict((configs or {}).get(name, {})), backbone, drawn) for name in methods}
    if "i2v" in (mode, drawn_mode) and any(own.noise_prior for _, _, own in chosen.values()):
        raise ConfigError("videos begin with pictures or with the noise of a clip: leave noise_prior out of i2v")
    units = {
        name: [
            Unit(
                method=method,
                config=config,
                backbone=backbone,
                motion=motion,
                seed=seed,
                num_clips=num_clips,
                num_videos=num_videos,
                described=described,
                mode=mode,
                drawn_mode=drawn_mode,
                train=train or TrainConfig(),
                sampling=own,
            )
            for motion in motions
            for seed in seeds
        ]
        for name, (method, config, own) in chosen.items()
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder, sheet = Path(cache or scratch), None if sheets is None else Path(sheets)
        yardstick: list[Outcome] = []
        for name in sorted(units, key=lambda name: name != against):
            own = units[name]
            began = time.perf_counter()
            # rows of one's own beside each other: a sheet is named by method, motion and seed
            into = sheet if sheet is None or name == chosen[name][0] else sheet / name
            found = {(u.motion, u.seed): outcome for u, outcome in measure(own, folder, workers=workers, sheets=into)}
            spent = time.perf_counter() - began
            outcomes = [found[u.motion, u.seed] for u in own]
            for key in _RATES:
                yield grouped_rate_figure(f"methods.{name}.{key}", _rows(outcomes, key), seeds=seeds, seconds=spent)
            for key in _MEANS:
                yield mean_figure(f"methods.{name}.{key}", _rows(outcomes, key), seeds=seeds, seconds=spent)
            kept = _rows(outcomes, "first_frame_db")
            if all(kept):
                yield mean_figure(f"methods.{name}.first_frame_db", kept, seeds=seeds, seconds=spent)
            yardstick = outcomes if name == against else yardstick
            if against is not None and name != against:
                for key in (*_RATES, *_MEANS):
                    pairs = zip(_rows(outcomes, key), _rows(yardstick, key), strict=True)
                    differences = [[a - b for a, b in zip(one, other, strict=True)] for one, other in pairs]
                    yield mean_figure(f"methods.{name}.{key}-{against}", differences, seeds=seeds, seconds=spent)
            times = [[o.seconds] for o in outcomes]
            yield mean_figure(f"methods.{name}.seconds", times, seeds=seeds, seconds=spent)
            for motion in motions:
                rows = _rows([o for u, o in zip(own, outcomes, strict=True) if u.motion == motion], "motion")
                yield grouped_rate_figure(f"methods.{name}.motion.{motion}", rows, seeds=seeds, seconds=spent)


def _row(name: str, config: dict[str, Any], backbone: str, drawn: Sampling) -> tuple[str, dict[str, Any], Sampling]:
    """Its method, that one's settings, and how it is drawn. Raises, naming the choices, before the first training."""
    own = {key.removeprefix("sampling."): config.pop(key) for key in list(config) if key.startswith("sampling.")}
    method = config.pop("method", name)
    if not re.fullmatch(r"[a-z0-9_-]+", name):
        raise ConfigError(f"a row's name is letters a to z, digits, - and _, got {name!r}")
    entry = find_method(method)
    check_compatible(find_spec(backbone), entry.name, entry.requires)
    from_dict(entry.config, config)
    return method, config, from_dict(Sampling, to_dict(drawn) | own)


def _rows(outcomes: Sequence[Outcome], key: str) -> list[list[float]]:
    return [[float(hit) for hit in getattr(o, key)] for o in outcomes]


def bench_step(*, motion: str = "squat", seed: int = 0, num_steps: int = 40, batch_size: int = 8) -> Iterator[Figure]:
    """Of a training step's wall time, how much is the denoiser's forward and backward; the first five steps warm up.

    step.denoiser_share is time spent in the denoiser over the time from one Progress event to the next: everything
    counts.
    """
    backbone = load_backbone(BACKBONE)
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
