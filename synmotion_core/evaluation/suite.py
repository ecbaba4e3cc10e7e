"""A suite: rows, each a method with its settings, that are asked the same tasks. `suites/*.yaml` ship, and a file of
one's own is the same:

    about: the keys alone against everything    # for people
    backbone: puppet-unet3d                     # what is not said has the defaults of `Suite`
    motions: [squat, spin]
    seeds: [0, 1, 2]
    train: {num_steps: 200}                     # TrainConfig, of all rows
    sampling: {noise_prior: 0.5}                # Sampling, of all rows
    against: everything
    expects: {keys.motion: {least: 0.5}}        # else the command fails, in the end
    rows:
      everything: {method: separation, config: {temporal: qkvof, highway: off}}
      keys: {method: separation, config: {temporal: k, highway: off}, train: {learning_rate: 0.005}, num_clips: 1}

Clips of one's own take the place of puppets: `footage: {clap: {clips: FOLDER, words: claps}}`, FOLDER beside the file,
and `subjects: [a cat, a sea lion]`.

A row without a method is named by it. Rows that differ only in `sampling`, or in settings that no training sees, are
trained once. Everything is checked before the first training.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from synmotion_core.backbones import find_spec
from synmotion_core.config import Sampling, from_dict, to_dict
from synmotion_core.errors import ConfigError, MissingError
from synmotion_core.evaluation.footage import Footage
from synmotion_core.evaluation.metrics import DEFAULT_METRICS, METRICS, find_metric
from synmotion_core.evaluation.tasks import BACKBONE, SHARES, Unit, check_backbone
from synmotion_core.interfaces import check_compatible
from synmotion_core.methods import find_method
from synmotion_core.plain_yaml import read_yaml
from synmotion_core.puppets.motions import RARE
from synmotion_core.training.settings import PriorConfig, TrainConfig
from synmotion_core.types import Mode, Prompt

FOLDER = Path(__file__).parent / "suites"
DEFAULT_MOTIONS = ("wave", "squat", "clap", "spin", "doublewave", "handstand")
_NOT_HERE = ("seed", "save_every", "sample_every", "sample_subjects", "sample_images", "score_every", "score_videos")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. method "" is the row's name; config, train and sampling are what differs from the
    method's defaults and from the suite's own; num_clips and mode None take the suite's. mode is the one that the row
    trains in: its videos are drawn as those of all rows. after: the adapter as it is after that share of the training's
    steps, one of SHARES."""

    method: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    num_clips: int | None = None
    mode: Mode | None = None
    after: float = 1.0
    train: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a figure's value should be: at least, at most, or both."""

    least: float | None = None
    most: float | None = None

    def __post_init__(self) -> None:
        ends = [end for end in (self.least, self.most) if end is not None]
        if not ends or not all(isinstance(end, int | float) and math.isfinite(end) for end in ends):
            raise ConfigError(f"what is expected has a least or a most, as numbers, got {self.least} and {self.most}")

    def met(self, value: float) -> bool:
        """Whether a value is what was expected."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def __str__(self) -> str:
        said = {"at least": self.least, "at most": self.most}
        return " and ".join(f"{words} {end:g}" for words, end in said.items() if end is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The tasks, and who is asked. Raises ConfigError (or ShapeError, IncompatibleError) for what cannot be.

    described: clips and videos are captioned by the motion's verb and what its limbs do, as a person would who trains
    a rare motion; False takes the verb alone. `bench run backbone` says what the words do without an adapter.
    mode "i2v" trains and draws videos from first pictures, of puppets that stand, and its clips begin with a person who
    stands; drawn_mode draws in another mode. num_videos are of the unseen species in turn; num_common more are
    of motions that the base knows, with the adapter at work: what it forgets (text to video only).
    against: a row that all others are compared with. Its units share prompts and noise with theirs, and clips where
    both have as many in the same mode, so the differences say more than two intervals beside each other: one around 0
    is within the noise.
    prior: PriorConfig, how many subject prior videos and of what; they are drawn as the backbone draws by itself.
    sampling: how the adapters' videos are drawn.
    metrics: what looks at the videos, rows of `metrics.METRICS`.
    expects: what figures should be, by "row.column"; where one is not, the command fails when all is measured.
    footage: clips of one's own, by motion (footage.py), instead of puppets; subjects are then who is drawn, in turn.
    motions and metrics, where they are empty: all of the footage, or DEFAULT_MOTIONS; and all that need no weights and,
    for footage, no ground truth.
    """

    rows: Mapping[str, Row]
    about: str = ""
    backbone: str = BACKBONE
    motions: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0, 1, 2)
    num_clips: int = 20
    num_videos: int = 14
    num_common: int = 0
    described: bool = True
    mode: Mode = "t2v"
    drawn_mode: Mode | None = None
    train: Mapping[str, Any] = field(default_factory=dict)
    prior: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    against: str | None = None
    metrics: tuple[str, ...] = ()
    expects: Mapping[str, Expected] = field(default_factory=dict)
    footage: Mapping[str, Footage] = field(default_factory=dict)
    subjects: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.motions:
            object.__setattr__(self, "motions", tuple(self.footage) or DEFAULT_MOTIONS)
        if not self.metrics:
            fitting = tuple(n for n in DEFAULT_METRICS if not (METRICS[n].puppets and self.footage))
            object.__setattr__(self, "metrics", fitting)
        if self.footage or self.subjects:
            self._check_footage()
        else:
            check_backbone(self.backbone)
        known = tuple(self.footage) or RARE
        unknown = [m for m in self.motions if m not in known]
        if unknown:
            what = "of the footage" if self.footage else "a rare motion"
            raise ConfigError(f"{unknown[0]!r} is not {what}: choose among {', '.join(known)}")
        if not self.rows or not self.seeds:
            raise ConfigError("a suite needs rows and seeds, at least one of each")
        if self.mode not in ("t2v", "i2v") or self.drawn_mode not in (None, "t2v", "i2v"):
            raise ConfigError(f"mode and drawn_mode must be t2v or i2v, got {self.mode!r} and {self.drawn_mode!r}")
        for name, row in self.rows.items():
            if row.mode not in (None, "t2v", "i2v"):
                raise ConfigError(f"the mode of {name} must be t2v or i2v, got {row.mode!r}")
        if self.against is not None and self.against not in self.rows:
            raise ConfigError(f"against must be one of the rows, {', '.join(self.rows)}, got {self.against!r}")
        _check_count("num_videos", self.num_videos)
        _check_count("num_common", self.num_common, least=0)
        if self.num_common and "i2v" in (self.mode, self.drawn_mode):
            raise ConfigError("num_common is drawn from words alone: leave it out of i2v")
        for name in self.metrics:
            if find_metric(name).puppets and self.footage:
                raise ConfigError(f"the metric {name!r} knows puppets alone: leave it out of a suite with footage")
        for key in self.expects:
            row, _, column = key.partition(".")
            if row not in self.rows or not column:
                raise ConfigError(f"expects is about ROW.COLUMN of the rows {', '.join(self.rows)}, got {key!r}")
        if not isinstance(self.described, bool):
            raise ConfigError(f"described must be true or false, got {self.described!r}")
        for name in self.rows:
            if not re.fullmatch(r"[a-z0-9_-]+", name):
                raise ConfigError(f"a row's name is letters a to z, digits, - and _, got {name!r}")
            self.units(name)

    def _check_footage(self) -> None:
        if not self.footage or not self.subjects:
            raise ConfigError("footage and subjects belong together: whose motion it is, and who is to do it")
        for motion in self.footage:
            if not re.fullmatch(r"[a-z0-9_-]+", motion):
                raise ConfigError(f"a motion's name is letters a to z, digits, - and _, got {motion!r}")
        if "i2v" in (self.mode, self.drawn_mode, *(row.mode for row in self.rows.values())):
            raise ConfigError("footage is measured from text to video: leave mode and drawn_mode out")
        if self.num_common or not self.described:
            raise ConfigError("num_common and described are about puppets: leave them out of a suite with footage")
        for subject in self.subjects:
            Prompt(subject=subject, motion="moves")  # raises PromptError

    def units(self, name: str) -> list[Unit]:
        """What a row is asked, motion by motion and seed by seed: the same of each row."""
        row = self.rows[name]
        entry = find_method(row.method or name)
        check_compatible(find_spec(self.backbone), entry.name, entry.requires)
        from_dict(entry.config, row.config)
        for key in {**self.train, **row.train}:
            check_train_setting(key)
        drawn = from_dict(Sampling, {**self.sampling, **row.sampling})
        if "i2v" in (self.mode, self.drawn_mode) and drawn.noise_prior:
            raise ConfigError("videos begin with pictures or with the noise of a clip: leave noise_prior out of i2v")
        num_clips = self.num_clips if row.num_clips is None else row.num_clips
        _check_count("num_clips", num_clips)
        if row.after not in SHARES:
            raise ConfigError(f"after must be one of {', '.join(map(str, SHARES))} of the steps, got {row.after!r}")
        return [
            Unit(
                method=entry.name,
                config=row.config,
                backbone=self.backbone,
                motion=motion,
                seed=seed,
                num_clips=num_clips,
                num_videos=self.num_videos,
                num_common=self.num_common,
                after=row.after,
                described=self.described,
                mode=row.mode or self.mode,
                drawn_mode=self.drawn_mode if row.mode in (None, self.mode) else self.drawn_mode or self.mode,
                train=from_dict(TrainConfig, {**self.train, **row.train}),
                prior=from_dict(PriorConfig, self.prior),
                sampling=drawn,
                metrics=self.metrics,
                footage=self.footage.get(motion),
                subjects=self.subjects,
            )
            for motion in self.motions
            for seed in self.seeds
        ]

    def unmet(self, found: Mapping[str, float]) -> list[str]:
        """Sentences about values, by "row.column", that are not what the suite expects, or are not there."""
        said = []
        for key, expected in self.expects.items():
            if key not in found:
                said.append(f"{key} was not measured: {expected} was expected")
            elif not expected.met(found[key]):
                said.append(f"{key} is {found[key]:.3g}: {expected} was expected")
        return said


def check_train_setting(key: str) -> None:
    """Raise ConfigError for a setting of a training that would have no effect in a suite."""
    if key in _NOT_HERE:
        raise ConfigError(
            f"train.{key} has no effect here: seeds are the suite's, nothing is saved or sampled on the way"
        )


def _check_count(what: str, value: Any, least: int = 1) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{what} must be a whole number, at least {least}, got {value!r}")


def suite_from_dict(values: Any, where: str) -> Suite:
    """Plain values, as a file holds them. Raises ConfigError, naming `where`."""
    if not isinstance(values, Mapping) or not isinstance(values.get("rows"), Mapping):
        raise ConfigError(f"{where}: a suite is a mapping with rows, such as {{rows: {{lora: {{}}}}}}")
    rows = {str(name): from_dict(Row, row or {}) for name, row in values["rows"].items()}
    expects = values.get("expects", {})
    if not isinstance(expects, Mapping):
        raise ConfigError(f"{where}: expects is a mapping such as {{lora.motion: {{least: 0.5}}}}, got {expects!r}")
    wanted = {str(key): from_dict(Expected, one) for key, one in expects.items()}
    footage = values.get("footage", {})
    if not isinstance(footage, Mapping):
        raise ConfigError(f"{where}: footage is a mapping such as {{clap: {{clips: FOLDER, words: claps}}}}")
    own = {str(key): from_dict(Footage, one) for key, one in footage.items()}
    return from_dict(Suite, {**values, "rows": rows, "expects": wanted, "footage": own})


def suite_to_dict(suite: Suite) -> dict[str, Any]:
    """Plain JSON values; `suite_from_dict` reads them."""
    return to_dict(suite)


@cache
def shipped() -> Mapping[str, Path]:
    """The suites that ship, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def read_suite(wanted: str) -> Suite:
    """A suite that ships, by its name, or a file. Raises MissingError for none, ConfigError for a wrong one."""
    import yaml

    path = shipped().get(wanted, Path(wanted))
    if not path.is_file():
        raise MissingError(f"there is no suite {wanted!r}: there are {', '.join(shipped())}, or name a .yaml file")
    try:
        values = read_yaml(path.read_text(encoding="utf-8"), words=True)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: bytes or a number that are none
        raise ConfigError(f"{path} is no YAML: {error}") from error
    suite = suite_from_dict(values, str(path))
    beside = Path() if wanted in shipped() else path.resolve().parent  # those that ship look where one stands
    own = {name: replace(one, clips=(beside / one.clips).resolve()) for name, one in suite.footage.items()}
    return replace(suite, footage=own)
