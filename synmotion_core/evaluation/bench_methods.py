"""How well a method learns rare motions from clips of a person, shown on species that were never in the clips.

    methods.<method>.<column>          of the suite's metrics, each with its about: metrics/__init__.py
    methods.<method>.hit|harmonic      motion and subject right in the same video; harmonic mean of both accuracies
    methods.<method>.<one of these>-<other>   the difference to another row, video by video: `against`
    methods.<method>.wins-<other>      how often it is right where the other is not
    methods.<method>.seconds           training, priors not counted (they are drawn once and shared)
    methods.<method>.motion.<motion>   the motion's accuracy, motion by motion

Units (units.py) of one motion are alike, and those of one seed share noise: most of what differs between units is the
motion. So intervals are for motions in general and redraw motions, then units within them (figures.cluster_interval);
reports say those for these motions beside them. All methods have the same steps and batch, unless a row says otherwise.
Species that were never in the clips are those that the base's prior videos show (tasks.UNSEEN).
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from synmotion_core.backbones import load_backbone
from synmotion_core.config import Sampling, to_dict
from synmotion_core.errors import ConfigError, ExpectationError
from synmotion_core.evaluation.figures import Figure, mean_figure
from synmotion_core.evaluation.report import write_report
from synmotion_core.evaluation.results import (
    Outcome,
    RowResult,
    check_expects,
    check_folder,
    figures,
    not_measured,
    versions_here,
    write_results,
)
from synmotion_core.evaluation.suite import Row, Suite
from synmotion_core.evaluation.tasks import BACKBONE, Unit, prior_set, reference_clips, reference_set
from synmotion_core.evaluation.units import measure, measured_with
from synmotion_core.methods import find_method
from synmotion_core.training import trainer
from synmotion_core.training.settings import PriorConfig, TrainConfig
from synmotion_core.training.trainer import TrainingSet
from synmotion_core.types import Progress

log = logging.getLogger(__name__)

DEFAULT_METHODS = ("synmotion", "lora")
HOW = ("workers", "cache", "sheets", "out", "command")  # what `bench_suite` takes beside the suite


def bench_methods(
    *,
    motions: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    methods: Sequence[str] = DEFAULT_METHODS,
    configs: Mapping[str, Mapping[str, Any]] | None = None,
    train: TrainConfig | None = None,
    sampling: Sampling | None = None,
    **options: Any,
) -> Iterator[Figure]:
    """The table of methods: a `Suite` from options. `configs` gives a method's own settings; options are fields of
    Suite, and what `bench_suite` takes beside one.

    To compare settings of one method, `methods` may hold names of one's own, whose `configs` say the method: such as
    configs={"keys": {"method": "separation", "temporal": "k"}}. Keys that begin with "sampling." or "train.",
    num_clips, mode and after are of that row alone.
    """
    how = {name: options.pop(name) for name in HOW if name in options}
    known = {f.name for f in dataclasses.fields(Suite)} - {"rows", "about", "motions", "seeds", "train", "sampling"}
    for name in options:
        if name not in known:
            raise TypeError(f"bench_methods() got an unexpected keyword argument {name!r}")
    own = {"train": _changed(train, TrainConfig()), "sampling": _changed(sampling, Sampling())}
    rows = {name: _row(dict((configs or {}).get(name, {}))) for name in methods}
    suite = Suite(rows=rows, motions=tuple(motions or ()), seeds=tuple(seeds), **own, **options)
    yield from bench_suite(suite, **how)


def _changed(given: Any, default: Any) -> dict[str, Any]:
    new, old = to_dict(default if given is None else given), to_dict(default)
    return {key: value for key, value in new.items() if value != old[key]}


def _row(config: dict[str, Any]) -> Row:
    own: dict[str, Any] = {key: config.pop(key) for key in ("method", "num_clips", "mode", "after") if key in config}
    for key in list(config):
        part, dot, name = key.partition(".")
        if dot and part in ("train", "sampling"):
            own.setdefault(part, {})[name] = config.pop(key)
    return Row(**own, config=config)


def bench_suite(
    suite: Suite,
    *,
    workers: int = 1,
    cache: Path | str | None = None,
    sheets: Path | str | None = None,
    out: Path | str | None = None,
    command: str = "",
) -> Iterator[Figure]:
    """The figures of a suite, row by row; the one that others are compared with comes first.

    workers: processes, which share the units. cache: a folder where encodings, priors, trained adapters, videos and
    units stay, so that a run that was stopped goes on, and one with other sampling or more videos trains nothing;
    sheets: a folder for a contact sheet a unit, with one more in it for each row that is not named as its method. out:
    a folder for the results and a report of them, which grows row by row; command says how they were made.
    Raises ExpectationError, when all is measured, where a figure is not what the suite expects.
    """
    if not isinstance(workers, int) or workers < 1:
        raise ConfigError(f"workers must be a whole number, at least 1, got {workers!r}")
    check_expects(suite)
    if out is not None:
        check_folder(Path(out), suite)
    versions = {**versions_here(), **measured_with(suite.backbone)}
    with tempfile.TemporaryDirectory() as scratch:
        folder, sheet = Path(cache or scratch), None if sheets is None else Path(sheets)
        rows: list[RowResult] = []
        warned: list[str] = []
        values: dict[str, float] = {}
        asked = {name: suite.units(name) for name in sorted(suite.rows, key=lambda name: name != suite.against)}
        # rows of one's own beside each other: a sheet is named by method, motion and seed
        into = {n: sheet if sheet is None or n == own[0].method else sheet / n for n, own in asked.items()}
        units = [unit for own in asked.values() for unit in own]
        sheets_of = [into[name] for name, own in asked.items() for _ in own]
        for name, outcomes, spent in _rows(asked, measure(units, folder, workers=workers, sheets=sheets_of)):
            rows.append(RowResult(name=name, outcomes=outcomes, seconds=spent))
            for sentence in [said for said in not_measured(outcomes) if said not in warned]:
                log.warning(sentence)
                warned.append(sentence)
            if out is not None:
                write_results(Path(out), suite, rows, folder, command, versions)
                write_report(Path(out))
            for figure in figures(suite, rows[-1], None if suite.against is None else rows[0]):
                values[figure.name.removeprefix("methods.")] = figure.value
                yield figure
    unmet = suite.unmet(values)
    if unmet:
        raise ExpectationError("; ".join(unmet))


def _rows(
    asked: Mapping[str, Sequence[Unit]], measured: Iterable[tuple[Unit, Outcome]]
) -> Iterator[tuple[str, tuple[Outcome, ...], float]]:
    """Rows in their order, as soon as they and those before them are whole, with the seconds since the one before."""
    found: dict[int, Outcome] = {}
    waiting, began = list(asked), time.perf_counter()
    for unit, outcome in measured:
        found[id(unit)] = outcome
        while waiting and all(id(one) in found for one in asked[waiting[0]]):
            name = waiting.pop(0)
            now = time.perf_counter()
            yield name, tuple(found[id(one)] for one in asked[name]), now - began
            began = now
    lost = [name for name in waiting if any(id(one) not in found for one in asked[name])]
    if lost:
        raise RuntimeError(f"units of {', '.join(lost)} never came back")


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
