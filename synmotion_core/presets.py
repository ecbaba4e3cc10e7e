"""Three ways to train, as data: how long, how often it is looked at, and what prior steps aim at.

A preset sets these and nothing else; what it does not name stays as it is. Small backbones and large ones have their
own, for what a step costs and what was measured differs. What is said of a preset is what README's "Figures" hold.
A setting of a method that the run's method does not have is left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from synmotion_core.config import to_dict
from synmotion_core.errors import MissingError
from synmotion_core.training.settings import TrainConfig

if TYPE_CHECKING:
    from synmotion_core.interfaces import BackboneSpec

NAMES = {"first-look": "First look", "paper": "Paper", "best": "Best quality"}
_METHOD_KEYS = ("prior_target",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Settings of the training and of its method; those of a method that are not named are its own.

    about: what it costs and what it is good for, in one line.
    """

    about: str
    num_steps: int
    sample_every: int
    save_every: int = 100
    score_every: int = 0
    learning_rate: float | None = None
    method: Mapping[str, Any] = field(default_factory=dict)

    @property
    def train(self) -> dict[str, Any]:
        """By the names of TrainConfig."""
        return {name: getattr(self, name) for name in TRAIN_KEYS}

    def method_settings(self, method: str) -> dict[str, Any]:
        """What differs from the method's own values, of those settings that it has."""
        own = _own(method)
        return {key: value for key, value in self.method.items() if key in own and own[key] != value}


TRAIN_KEYS = tuple(
    f.name for f in dataclasses.fields(Preset) if f.name in {g.name for g in dataclasses.fields(TrainConfig)}
)

_PUPPETS = {
    "first-look": Preset(
        about="About 3 minutes on two cores. Shows whether a motion of the whole body comes through; hands need more. "
        "How often it is right was not measured with these settings.",
        num_steps=350,
        sample_every=50,
    ),
    "paper": Preset(
        about="About 9 minutes on two cores: the paper's 2,000 steps, and prior steps that learn from the videos, as "
        "its do; here they move refiner and adapters, too, where the paper's move the subject embedding alone "
        "(prior_updates). To compare with; the base's own prediction is within noise of it (57 % [48, 66] against "
        "52 % [43, 61], an earlier version).",
        num_steps=2000,
        sample_every=200,
        method={"prior_target": "data"},
    ),
    "best": Preset(
        about="About 8 minutes on two cores: what was measured best here (six rare motions: 73 % right on seeds "
        "that no setting was chosen on), scored ten times, the best adapter kept beside the last.",
        num_steps=1300,
        sample_every=130,
        score_every=130,
    ),
}  # a step is 0.26 s, a video 1.1 s, 48 prior videos under a minute once
_LARGE = {
    "first-look": Preset(
        about="An eighth of the paper's steps: whether clips, words and memory are right, before the long run. Not "
        "measured at this size.",
        num_steps=250,
        sample_every=125,
        save_every=50,
    ),
    "paper": Preset(
        about="The paper's 2,000 steps at its rate, 2e-5, with prior steps that learn from the videos (here they move "
        "refiner and adapters, too, the paper's the subject embedding alone: prior_updates); it took eight GPUs. Its "
        "batch and rank are not published.",
        num_steps=2000,
        sample_every=500,
        learning_rate=2e-5,
        method={"prior_target": "data"},
    ),
    "best": Preset(
        about="As many steps at the backbone's own rate, scored eight times (64 videos besides), the best adapter kept "
        "beside the last. Not measured at this size.",
        num_steps=2000,
        sample_every=500,
        score_every=250,
    ),
}


def presets_for(spec: BackboneSpec) -> Mapping[str, Preset]:
    """By name."""
    return _LARGE if spec.needs_gpu else _PUPPETS


def find_preset(name: str, spec: BackboneSpec) -> Preset:
    """Raises MissingError, with those that there are, for another name."""
    found = presets_for(spec).get(name)
    if found is None:
        raise MissingError(f"there is no preset {name[:40]!r}: there are {', '.join(NAMES)}")
    return found


def lay_over(values: Mapping[str, Any], name: str, backbone: str, method: str) -> dict[str, Any]:
    """A run's plain values (TrainRun as a mapping, perhaps in part) with a preset laid over them."""
    from synmotion_core.backbones import find_spec

    preset = find_preset(name, find_spec(backbone))
    train = {**to_dict(values.get("train", {})), **preset.train}
    kept = without(to_dict(values.get("method_config", {})))
    return {**values, "train": train, "method_config": {**kept, **preset.method_settings(method)}}


def match(train: Mapping[str, Any], method_config: Mapping[str, Any], spec: BackboneSpec, method: str) -> str | None:
    """The preset that these settings are, whatever it does not name; None where they are none."""
    own = _own(method)
    said = {key: method_config[key] for key in _METHOD_KEYS if key in method_config and method_config[key] != own[key]}
    for name, preset in presets_for(spec).items():
        if preset.train == {key: train[key] for key in TRAIN_KEYS} and preset.method_settings(method) == said:
            return name
    return None


def without(method_config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a method that no preset says anything about."""
    return {key: value for key, value in method_config.items() if key not in _METHOD_KEYS}


def _own(method: str) -> dict[str, Any]:
    from synmotion_core.methods import find_method

    return to_dict(find_method(method).config())
