"""`python -m synmotion_core bench run judge|backbone|methods|sampling|step|memory|SUITE`: every figure the README
states, repeatable by anybody. SUITE is one of `suites/`, or a file like those (suite.py).

One `Figure` a number: value, 95 % interval, n, seeds, seconds. Suites are rows of SUITES; each lives in its own file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from synmotion_core.errors import ConfigError, MissingError
from synmotion_core.evaluation.figures import Figure

Suite = Callable[..., Iterator[Figure]]


def _judge(*, motions: Sequence[str] | None, seeds: Sequence[int] | None, **options: Any) -> Iterator[Figure]:
    from synmotion_core.evaluation.bench_judge import bench_judge

    if motions:
        raise ConfigError("suite 'judge' covers all motions: leave --motions out")
    for seed in seeds or (20_000,):
        yield from bench_judge(seed=seed, **options)


def _backbone(*, motions: Sequence[str] | None, seeds: Sequence[int] | None, **options: Any) -> Iterator[Figure]:
    from synmotion_core.evaluation.bench_backbone import bench_backbone

    if motions:
        raise ConfigError("suite 'backbone' draws its motions at random: leave --motions out")
    yield from bench_backbone(seed=(seeds or (0,))[0], **options)


def _methods(*, motions: Sequence[str] | None, seeds: Sequence[int] | None, **options: Any) -> Iterator[Figure]:
    """Besides its own settings: train.KEY of TrainConfig, sampling.KEY of Sampling, METHOD.KEY of a method's config.

    NAME.method=METHOD names a row of one's own, of which there may be several of one method: `methods=["k", "q"]`,
    k.method=separation, k.temporal=k and so on; NAME.sampling.KEY, NAME.train.KEY, NAME.num_clips, NAME.mode
    (that it trains in) and NAME.after (a share of the training's steps) are of that row alone.
    """
    from synmotion_core.config import Sampling, from_dict
    from synmotion_core.evaluation.bench_methods import DEFAULT_METHODS, bench_methods
    from synmotion_core.evaluation.suite import check_train_setting
    from synmotion_core.training.settings import TrainConfig

    for key in {"configs", "train", "sampling"} & options.keys():
        raise ConfigError(
            f"{key} is set value by value: {'synmotion.alpha=1' if key == 'configs' else f'{key}.KEY=VALUE'}"
        )
    nested: dict[str, dict[str, Any]] = {}
    for key in [k for k in options if "." in k]:
        owner, _, name = key.partition(".")
        nested.setdefault(owner, {})[name] = options.pop(key)
    for name in nested.get("train", {}):
        check_train_setting(name)
    if "train" in nested:
        options["train"] = from_dict(TrainConfig, nested.pop("train"))
    if "sampling" in nested:
        options["sampling"] = from_dict(Sampling, nested.pop("sampling"))
    methods = options.get("methods", DEFAULT_METHODS)
    for name, config in nested.items():
        if name not in methods:
            raise ConfigError(f"{name}.{next(iter(config))} has no effect: methods are {', '.join(methods)}")
    yield from bench_methods(motions=motions, seeds=tuple(seeds or (0, 1, 2)), configs=nested, **options)


def _sampling(*, motions: Sequence[str] | None, seeds: Sequence[int] | None, **options: Any) -> Iterator[Figure]:
    from synmotion_core.evaluation.bench_sampling import bench_sampling

    if motions:
        raise ConfigError("suite 'sampling' draws common motions, or its adapter's: leave --motions out")
    yield from bench_sampling(seed=(seeds or (0,))[0], **options)


def _step(*, motions: Sequence[str] | None, seeds: Sequence[int] | None, **options: Any) -> Iterator[Figure]:
    from synmotion_core.evaluation.bench_methods import bench_step

    yield from bench_step(motion=(motions or ("squat",))[0], seed=(seeds or (0,))[0], **options)


def _memory(*, motions: Sequence[str] | None, seeds: Sequence[int] | None, **options: Any) -> Iterator[Figure]:
    from synmotion_core.evaluation.bench_memory import bench_memory

    if motions or seeds:
        raise ConfigError("suite 'memory' counts, without motions and seeds: leave --motions and --seeds out")
    yield from bench_memory(**options)


SUITES: dict[str, Suite] = {
    "judge": _judge,
    "backbone": _backbone,
    "methods": _methods,
    "sampling": _sampling,
    "step": _step,
    "memory": _memory,
}


def run(
    suite: str, *, motions: Sequence[str] | None = None, seeds: Sequence[int] | None = None, **options: Any
) -> Iterator[Figure]:
    """The figures of one suite, as they are measured. Raises MissingError for none, ConfigError for what it has not.

    Of a suite that is a file, options are those of `bench_suite`, and fields that are to be others than the file's:
    num_videos, train.num_steps.
    """
    if suite in SUITES:
        yield from SUITES[suite](motions=motions, seeds=seeds, **options)
        return
    from synmotion_core.evaluation.bench_methods import HOW, bench_suite
    from synmotion_core.evaluation.suite import read_suite, shipped, suite_from_dict, suite_to_dict

    if suite not in shipped() and not suite.endswith((".yaml", ".yml")):
        there = ", ".join((*SUITES, *shipped()))
        raise MissingError(f"there is no suite {suite!r}: there are {there}, or name a .yaml file")
    values = suite_to_dict(read_suite(suite))
    how = {key: options.pop(key) for key in HOW if key in options}
    values |= {key: list(own) for key, own in (("motions", motions), ("seeds", seeds)) if own}
    for key, value in options.items():
        part, dot, name = key.partition(".")
        if dot and part not in ("train", "prior", "sampling"):
            raise ConfigError(f"{key} has no effect: rows are in the file; train., prior. and sampling.KEY are of all")
        values[part] = {**values[part], name: value} if dot else value
    yield from bench_suite(suite_from_dict(values, suite), **how)
