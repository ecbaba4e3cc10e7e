"""The plan of a training or a generation: what it takes, in sentences for people and in numbers for the page.

From specs and earlier runs alone: nothing is loaded. What a run may change to need less is the ladder's (ladder.py).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from synmotion_core.backbones import find_spec
from synmotion_core.config import GenerateRun, TrainRun, predictions
from synmotion_core.interfaces import BackboneSpec, reworded
from synmotion_core.planning import downloads, machine
from synmotion_core.planning.ladder import Rung, ladder
from synmotion_core.planning.memory import GIB, needs, tokens, weight_bytes
from synmotion_core.planning.work import look_up, work_of
from synmotion_core.types import Prompt
from synmotion_core.workspace import weights_place


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One way to need less GPU memory: settings of the run by name, the same as options, what it costs, and what is
    needed then."""

    changes: dict[str, object]
    options: str
    price: str
    gib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a training will take. Lines are for people; ways are options of the command line: to know more, to need
    less.

    memory_gib: of the weights as they are held; peak_gib: of the GPU, in the stage that takes most, None where it is
    not known. seconds: of the training's steps, None where nothing was measured here. download_gib: still to be
    fetched.
    """

    lines: tuple[str, ...]
    ways: tuple[str, ...]
    parameters: int
    memory_gib: float
    peak_gib: float | None
    host_gib: float | None
    download_gib: float
    tokens: int
    prior_videos: int
    seconds: float | None
    rungs: tuple[Change, ...]


def plan(run: TrainRun, *, seconds_per_step: float | None = None, fit_gib: float | None = None) -> Plan:
    """Raises what the run itself would for what does not fit together.

    seconds_per_step: a measurement on this machine, if there is one. fit_gib: the memory of the GPU that it should fit.
    """
    from synmotion_core.training import priors

    named = look_up(run)
    spec, shape = named.spec, named.shape
    parameters, count = sum(spec.parameters.values()), tokens(spec, shape)
    weights = sum(weight_bytes(spec, run.precision).values()) / GIB
    draws = named.entry.draws_priors(named.method_config)
    videos = len(priors.plan_priors(dict(spec.options), run.priors)) if draws else 0
    steps = run.train.num_steps
    lines = [
        f"{spec.title}: {parameters / 1e6:,.1f} M parameters, {weights:.2f} GiB of weights",
        f"each clip: {shape.num_frames} frames of {shape.width}x{shape.height} at {shape.fps:g} fps, {count} tokens",
        f"{len(run.clips)} clips to encode once (then cached)"
        + (f", {videos} subject priors to draw once (then cached)" if videos else ""),
        f"{steps} steps of {named.batch_size} clip{'s' if named.batch_size > 1 else ''} at a rate of "
        f"{run.train.learning_rate or spec.learning_rate:g}",
    ]
    if named.chosen:
        lines.append(named.chosen)
    first = Prompt(subject=run.clips[0].subject, motion=run.clips[0].motion)
    words = reworded(named.entry, named.method_config, first)
    if words != first:
        lines.append(f"the text encoders read “{words.text}” for “{first.text}”, and so when generating")
    seconds = None if seconds_per_step is None else steps * seconds_per_step
    if seconds is not None:
        lines.append(f"time: about {seconds / 60:.1f} minutes of training at {seconds_per_step:.2f} s a step")
    elif "seconds_a_clip" in spec.options:
        elsewhere = steps * named.batch_size * spec.options["seconds_a_clip"]
        lines.append(
            f"time: about {elsewhere / 60:.1f} minutes of training on two server cores; this machine's own pace is "
            "not known before the first training on it"
        )
    else:
        lines.append("time: not known before the first training here; a training says it after its first steps")
    if videos and "seconds_a_video" in spec.options:
        lines.append(f"about {videos * spec.options['seconds_a_video'] / 60:.1f} minutes more for the priors, once")
    if run.train.num_scores:
        lines.append(_scores(run, spec))
    found = needs(spec, run.precision, work_of(run))
    rungs: list[Rung[TrainRun]] = []
    if spec.needs_gpu:
        lines.append("needs a CUDA GPU")
    if found is not None:
        rungs = list(ladder(run))
        held = ", ".join(f"{part} {gib:.1f}" for part, gib in found.weights.items())
        stages = ", ".join(f"{stage} {gib:.1f}" for stage, gib in found.stages.items())
        lines += [f"weights in GiB: {held}", f"GPU memory in GiB, about, by stage: {stages}", _host(found.host)]
    elif spec.needs_gpu:
        lines.append(f"memory: not known, {spec.name} has not been measured")
    disk = downloads.disk(spec)
    if disk is not None:
        lines.append(_on_disk(disk))
    if spec.options.get("pickles") and disk is not None and disk.missing:
        place = weights_place(spec.name)
        lines.append(f"its repository holds pickles, never read here: put a folder with safetensors at {place}")
    return Plan(
        lines=tuple(lines),
        ways=tuple(_ways(rungs, fit_gib, timed=seconds is not None)),
        parameters=parameters,
        memory_gib=weights,
        peak_gib=None if found is None else found.peak,
        host_gib=None if found is None else found.host,
        download_gib=0.0 if disk is None else disk.missing / GIB,
        tokens=count,
        prior_videos=videos,
        seconds=seconds,
        rungs=tuple(_change(rung) for rung in rungs[1:]),
    )


def generation_line(run: GenerateRun, seconds_per_video: float | None) -> str:
    """Memory and time of a generation in one line; seconds_per_video is a measurement on this machine."""
    spec = find_spec(run.backbone)
    work = work_of(run)
    count = len(run.subjects) * len(run.seeds) * (2 if run.compare else 1)
    steps = run.num_inference_steps or spec.num_inference_steps
    if seconds_per_video is not None:
        time = f"about {_seconds(seconds_per_video)} a video"
    elif "seconds_a_video" in spec.options:
        usual = spec.options["seconds_a_video"] * steps / spec.num_inference_steps * predictions(run)
        time = f"about {_seconds(usual)} a video on two server cores"
    else:
        time = "the time is not known before the first one here"
    parts = [f"{count} video{'s' if count > 1 else ''} of {work.shape.num_frames} frames", time]
    found = needs(spec, run.precision, work)
    if found is not None:
        parts.append(f"about {found.peak:.1f} GiB of GPU memory")
        card = machine.card_gib()
        if card is not None and found.peak > card:
            parts[-1] += f", more than the {card:.1f} that are free here"
    disk = downloads.disk(spec)
    if disk is not None and disk.missing:
        parts.append(f"{disk.missing / GIB:.1f} GiB to fetch first")
    return ", ".join(parts)


# ------------------------------------------------------------------------------------------------ in words


def _ways(rungs: list[Rung[TrainRun]], fit_gib: float | None, *, timed: bool) -> list[str]:
    lines = [] if timed else ["to know the time before: plan --probe, which loads the backbone and times a few steps"]
    return lines + (_to_need_less(rungs, fit_gib) if rungs else [])


def _to_need_less(rungs: list[Rung[TrainRun]], fit_gib: float | None) -> list[str]:
    if fit_gib is not None and rungs[0].needs.peak <= fit_gib:
        return [f"fits {fit_gib:g} GiB as it is"]
    lines = [
        "to need less, what costs least first; each is whole by itself, its price is what it costs beyond the one "
        "before:"
    ]
    for before, rung in itertools.pairwise(rungs):
        lines.append(f"  {rung.needs.peak:.1f} GiB with {' '.join(rung.options)} ({added_price(before, rung)})")
        if fit_gib is not None and rung.needs.peak <= fit_gib:
            return [*lines, f"the last of these is the first that fits {fit_gib:g} GiB"]
    if fit_gib is not None:
        lines.append(f"nothing here fits {fit_gib:g} GiB: take another backbone")
    return lines


def added_price(before: Rung, rung: Rung) -> str:
    """What a rung costs beyond the one before it."""
    new = [price for price in rung.prices if price not in before.prices]
    return "; ".join(new or rung.prices[-1:])


def _change(rung: Rung) -> Change:
    return Change(
        changes=dict(rung.changes), options=" ".join(rung.options), price="; ".join(rung.prices), gib=rung.needs.peak
    )


def _scores(run: TrainRun, spec: BackboneSpec) -> str:
    times, each = run.train.num_scores, run.train.score_videos
    cost = f"{times} score{'s' if times > 1 else ''} of {each} video{'s' if each > 1 else ''} each, "
    if "seconds_a_video" not in spec.options:
        return cost + f"{times * each} videos more to draw"
    return cost + f"about {times * each * spec.options['seconds_a_video'] / 60:.1f} minutes more on two server cores"


def _host(gib: float) -> str:
    here = machine.main_gib()
    enough = "" if here > gib else ": too little, so reading the weights may be killed"
    return f"main memory: about {gib:.0f} GiB while weights are read; {here:.0f} are here{enough}"


def _on_disk(found: downloads.Disk) -> str:
    stored, missing, free = (x / GIB for x in (found.stored, found.missing, found.free))
    if not missing:
        return f"weights on the disk: {stored:.1f} GiB, all here"
    rest = "none of it here yet" if found.missing == found.stored else f"of which {stored - missing:.1f} are here"
    room = f"{free:.0f} are free" + ("" if free > missing else ": too little")
    return f"weights on the disk: {stored:.1f} GiB, {rest}: {missing:.1f} GiB to fetch, {room}"


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s" if value < 120 else f"{value / 60:.1f} minutes"
