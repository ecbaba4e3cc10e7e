"""What can be changed when a run is too much for the device, what costs least first: time, then rounding, then much
time, then less of a video.

Each rung is the run itself with some settings changed: {setting: value}, settings named as in the config, with dots.
The command line's options and the price are read off these. Nothing is changed unasked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from synmotion_core.backbones import find_spec
from synmotion_core.config import GenerateRun, TrainRun, from_dict, to_dict
from synmotion_core.errors import ConfigError
from synmotion_core.interfaces import BackboneSpec
from synmotion_core.planning.memory import Needs, needs
from synmotion_core.planning.work import work_of
from synmotion_core.types import VideoShape

R = TypeVar("R", bound=TrainRun | GenerateRun)

_TRAINING_ONLY = ("precision.gradient_checkpointing", "train.batch_size")
_STEPS: tuple[dict[str, Any], ...] = (
    {"precision.gradient_checkpointing": True},
    {"precision.vae_tiling": True},
    {"train.batch_size": 1},
    {"precision.offload": "model"},
    {"precision.offload": "none", "precision.text_weights": "8bit"},
    {"precision.weights": "8bit"},
    {"precision.weights": "4bit", "precision.text_weights": "4bit"},
    {"precision.offload": "group", "precision.text_weights": "bf16", "precision.weights": "bf16"},
)
_LESS_OF_A_VIDEO = "another video: shorter or smaller than was asked for"
_PRICES: Mapping[tuple[str, Any], str] = {
    ("precision.gradient_checkpointing", True): "time: each block's forward pass once more",
    ("precision.vae_tiling", True): "time, and slightly other latents: videos are coded tile by tile",
    ("train.batch_size", 1): "noisier steps: each learns from one clip",
    ("precision.offload", "model"): "time: parts travel between main memory and the GPU, once a stage",
    ("precision.offload", "group"): "much time: every layer travels in every pass",
    ("precision.text_weights", "8bit"): "prompts are encoded with rounded weights",
    ("precision.text_weights", "4bit"): "prompts are encoded with rounded weights",
    ("precision.weights", "8bit"): "the denoiser's weights are rounded to 8 bits",
    ("precision.weights", "4bit"): "the denoiser's weights are rounded to 4 bits",
}  # what is not here costs nothing but memory
_OPTIONS = {"num_frames": "--frames", "height": "--height", "width": "--width"}
_FEWEST_FRAMES = 9
_LEAST_SIDE = 192
_WORTH = 0.1  # GiB: what saves less is not worth a rung


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung(Generic[R]):
    """One way to do a run in less memory: the run as it would be, and what of the one asked for that changes.

    changes goes by settings ("precision.weights", "num_frames"); the first rung has none.
    """

    run: R
    changes: Mapping[str, Any]
    needs: Needs

    @property
    def options(self) -> tuple[str, ...]:
        """The changes as options of the command line, each with its value."""
        return tuple(_option(setting, value) for setting, value in self.changes.items())

    @property
    def prices(self) -> tuple[str, ...]:
        """What the changes cost, each once, what costs least first."""
        return tuple(dict.fromkeys(price for change in self.changes.items() if (price := _price(*change))))


def changed(run: R, changes: Mapping[str, Any]) -> R:
    """The run with these settings. Raises ConfigError for settings that it has not and values that do not go together.

    >>> changed(GenerateRun(subjects=("a cat",), motion="walks"), {"precision.weights": "8bit"}).precision.weights
    '8bit'
    """
    values = to_dict(run)
    for setting, value in changes.items():
        owner, _, name = setting.rpartition(".")
        (values[owner] if owner else values)[name] = value
    return from_dict(type(run), values)


def ladder(run: R) -> Iterator[Rung[R]]:
    """The run as asked, then with more and more changed; what saves nothing over the rungs before is left out.

    Raises ConfigError for a row that has not been measured.
    """
    spec, least, smallest = find_spec(run.backbone), math.inf, dict[str, Any]()
    asked = work_of(run).shape
    for changes in _holding(run):
        rung = _rung(spec, run, changes)
        if rung is not None and rung.needs.peak < least - _WORTH:
            least, smallest = rung.needs.peak, changes
            yield rung
    for shape in _smaller(spec, asked):
        sides = {name: getattr(shape, name) for name in _OPTIONS if getattr(shape, name) != getattr(asked, name)}
        rung = _rung(spec, run, smallest | sides)
        if rung is not None and rung.needs.peak < least - _WORTH:
            least = rung.needs.peak
            yield rung


def fit(run: R, gib: float) -> Rung[R]:
    """The first rung that fits so much memory. Raises ConfigError where none does, saying what the last one needs."""
    last = None
    for last in ladder(run):
        if last.needs.peak <= gib:
            return last
    assert last is not None
    raise ConfigError(
        f"{run.backbone} does not fit {gib:g} GiB: the least that is known needs {last.needs.peak:.1f} GiB, with "
        f"{' '.join(last.options)}; take that much, or another backbone"
    )


def _holding(run: TrainRun | GenerateRun) -> Iterator[dict[str, Any]]:
    """Changes against the run as asked that leave its videos as they are, each with those of the steps before."""
    now: dict[str, Any] = {}
    yield {}
    for step in _STEPS:
        now = now | {s: v for s, v in step.items() if isinstance(run, TrainRun) or s not in _TRAINING_ONLY}
        yield _other(run, now)


def _rung(spec: BackboneSpec, run: R, changes: Mapping[str, Any]) -> Rung[R] | None:
    """None where the changes cannot be had beside what was asked for."""
    try:
        made = changed(run, changes)
        work = work_of(made)
    except ConfigError:
        return None
    found = needs(spec, made.precision, work)
    if found is None:
        raise ConfigError(f"{spec.name} has not been measured, so nothing can be chosen to fit")
    return Rung(run=made, changes=changes, needs=found)


def _other(run: TrainRun | GenerateRun, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Without what the run has anyway."""

    def has(setting: str) -> Any:
        value: Any = run
        for name in setting.split("."):
            value = getattr(value, name)
        if setting == "train.batch_size" and value is None:
            return find_spec(run.backbone).batch_size
        return value

    return {setting: value for setting, value in wanted.items() if has(setting) != value}


def _option(setting: str, value: Any) -> str:
    owner, _, name = setting.rpartition(".")
    if setting in _OPTIONS:
        return f"{_OPTIONS[setting]} {value}"
    if owner == "precision":
        flag = name.replace("_", "-")
        return f"--{flag}" if value is True else f"--no-{flag}" if value is False else f"--{flag} {value}"
    return f"--set {setting}={value}"


def _price(setting: str, value: Any) -> str:
    return _LESS_OF_A_VIDEO if setting in _OPTIONS else _PRICES.get((setting, value), "")


def _smaller(spec: BackboneSpec, shape: VideoShape) -> Iterator[VideoShape]:
    """Fewer frames, a third less each time, then smaller ones, a fifth less each time; all that the row takes."""
    frames = shape.num_frames
    while frames > _FEWEST_FRAMES:
        frames = max(_FEWEST_FRAMES, _down((frames - 1) * 2 / 3, spec.frame_multiple) + 1)
        shape = replace(shape, num_frames=frames)
        yield shape
    while min(shape.height, shape.width) > _LEAST_SIDE:
        height, width = (_down(side * 0.8, spec.size_multiple) for side in (shape.height, shape.width))
        shape = replace(shape, height=height, width=width)
        yield shape


def _down(value: float, multiple: int) -> int:
    return max(multiple, int(value) // multiple * multiple)
