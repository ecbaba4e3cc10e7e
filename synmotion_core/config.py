"""What a run is made of: `TrainRun` and `GenerateRun` compose their owners' settings. The page, the command line and
the files on disk all speak this one form, so that "the same as this command" is true by construction.

`from_dict` is strict: an unknown key or a value of the wrong type is a ConfigError that names the nearest key.
`to_dict` gives plain JSON values; `from_dict(to_dict(x)) == x`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from synmotion_core import step_cache
from synmotion_core.blending import Over
from synmotion_core.errors import ConfigError
from synmotion_core.limits import MOST_CLIPS, MOST_SUBJECTS, check_count, check_letters
from synmotion_core.precision import PLAIN, Precision
from synmotion_core.stacking import MOST_BENEATH
from synmotion_core.training.settings import PriorConfig, TrainConfig
from synmotion_core.workspace import safe_name

T = TypeVar("T")
MOST_FPS = 240.0  # nothing is re-timed to more: as clips.ffmpeg.LIMITS, which would bring OpenCV along


def motion_name(motion: str) -> str:
    """What people call a motion whose words also describe it: what stands before the first comma.

    >>> motion_name("squats, bobs apart deep"), motion_name("waves both arms")
    ('squats', 'waves both arms')
    """
    return motion.split(",")[0].strip() or motion


@dataclass(frozen=True, slots=True, kw_only=True)
class Footage:
    """A video file and which part of it.

    start_s and end_s are seconds in the file, end_s None = to the end. resample_fps: None keeps every frame at
    the file's own rate (refused when that does not fit the backbone's), a number re-times to that many frames a second
    (at most MOST_FPS), explicitly.
    """

    path: Path
    start_s: float = 0.0
    end_s: float | None = None
    resample_fps: float | None = None

    def __post_init__(self) -> None:
        for name in ("start_s", "end_s", "resample_fps"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ConfigError(f"{name} must be a finite number, got {value}")
        if self.resample_fps is not None and not 0 < self.resample_fps <= MOST_FPS:
            raise ConfigError(f"resample_fps must be above 0 and at most {MOST_FPS:g}, got {self.resample_fps}")
        if self.start_s < 0:
            raise ConfigError(f"start_s must be at least 0, got {self.start_s}")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise ConfigError(f"end_s must be after start_s ({self.start_s}), got {self.end_s}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSource(Footage):
    """A clip as the user gave it: a file, perhaps a part of it, and its words: who moves, what happens, and where."""

    subject: str
    motion: str
    setting: str = ""

    def __post_init__(self) -> None:
        Footage.__post_init__(self)  # slots: super() has no class to go by
        for name in ("subject", "motion"):
            check_letters(name, getattr(self, name))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRun:
    """One training: backbone, method with its settings (a strict mapping, see METHODS[name].config), clips, priors.

    precision says how the backbone's weights are held; the adapter fits them held in any other way, too. mode "i2v"
    trains on videos that begin with a given image: the clips' own first frames. None for num_frames, height or width
    (pixels) takes the backbone's own.
    """

    name: str
    clips: tuple[ClipSource, ...]
    backbone: str = "puppet-hunyuan"
    precision: Precision = PLAIN
    mode: Literal["t2v", "i2v"] = "t2v"
    method: str = "synmotion"
    method_config: Mapping[str, Any] = field(default_factory=dict)
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    train: TrainConfig = field(default_factory=TrainConfig)
    priors: PriorConfig = field(default_factory=PriorConfig)

    def __post_init__(self) -> None:
        if not self.clips:
            raise ConfigError("a training needs at least one clip")
        check_count("clips", self.clips, MOST_CLIPS)
        self.precision.check_training()
        if len(self.name) > 80:
            raise ConfigError(f"a name has at most 80 characters, got {len(self.name)}")
        safe_name(self.name)  # raises, with a name that would do
        subjects, pictures = len(self.train.sample_subjects), len(self.train.sample_images)
        if pictures != (subjects if self.mode == "i2v" else 0):
            rule = "one picture a subject, in the same order" if self.mode == "i2v" else "pictures need mode i2v"
            given = f"{pictures} sample_images for {subjects} sample_subjects in mode {self.mode}"
            raise ConfigError(f"train has {given}: {rule}")
        if self.mode == "i2v" and self.train.score_every and not pictures:
            raise ConfigError(
                f"score_every {self.train.score_every} in mode i2v needs pictures that the scored videos begin with: "
                "give sample_subjects with their sample_images, or score_every 0"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How videos are sampled: strength 0 is the base bit for bit, 1 the adapter as trained, up to 2.

    adapter_until is the share of the steps, 0 to 1, in which the adapter works: 1 all of them, 0 none. noise_prior, 0
    to 1, is how much of the variance of the noise that videos begin with comes from a clip. step_cache is
    what step_cache.parse reads ("first-block:0.1", "taylorseer:2"), or None for every step whole.
    None for num_inference_steps (1 to 200), guidance_scale and embedded_guidance (0 to 30), guidance_until and eta (0
    to 1), negative_prompt or flow_shift (above 0, at most 100) takes the backbone's own. generation.SamplerConfig says
    what they do.
    """

    strength: float = 1.0
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    guidance_until: float | None = None
    embedded_guidance: float | None = None
    negative_prompt: str | None = None
    eta: float | None = None
    flow_shift: float | None = None
    adapter_until: float = 1.0
    noise_prior: float = 0.0
    step_cache: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 2:
            raise ConfigError(f"strength must be between 0 and 2, got {self.strength}")
        if self.num_inference_steps is not None and not 1 <= self.num_inference_steps <= 200:
            raise ConfigError(f"num_inference_steps must be between 1 and 200, got {self.num_inference_steps}")
        most = {
            "guidance_scale": 30,
            "embedded_guidance": 30,
            "guidance_until": 1,
            "eta": 1,
            "adapter_until": 1,
            "noise_prior": 1,
        }
        for name, limit in most.items():
            value = getattr(self, name)
            if value is not None and not 0 <= value <= limit:
                raise ConfigError(f"{name} must be between 0 and {limit}, got {value}")
        if self.flow_shift is not None and not 0 < self.flow_shift <= 100:
            raise ConfigError(f"flow_shift must be above 0 and at most 100, got {self.flow_shift}")
        check_letters("negative_prompt", self.negative_prompt or "")
        if self.step_cache is not None:
            step_cache.parse(self.step_cache)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlendWith:
    """Another adapter's motion in the same videos (blending.py): share 0 is the run's own adapter alone, 1 this one.

    over "mixed" is both motions at once, "sequence" the run's own first and then this one.
    """

    adapter: Path
    share: float = 0.5
    over: Over = "mixed"

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(f"the share of a blend must be between 0 and 1, got {self.share}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraWith:
    """A LoRA beneath everything else of a run (stacking.py): strength scales it, below 0 it works the other way."""

    adapter: Path
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < abs(self.strength) <= 2:
            raise ConfigError(
                f"the strength of a LoRA must be between -2 and 2, and not 0, got {self.strength}: leave it out instead"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRun(Sampling):
    """One generation: every subject times every seed. adapter None = the base alone.

    images: none for text to video, or one picture a subject, in the same order: its videos begin with that picture.
    noise_clip is the video that noise_prior is about, of the frames and rate of what is drawn. method_config holds
    settings of the adapter's method that no training sees (drawing_settings), where they are not its file's. blend
    brings a second adapter's motion in, with strength and adapter_until as they are said here. loras work in all steps
    and in what is drawn to compare, as if the base had learnt them: such as one that was distilled to few steps.
    compare also generates the base with the same seeds. None for num_frames, height or width (pixels) takes the
    backbone's own. precision says how the backbone's weights are held.
    """

    subjects: tuple[str, ...]
    motion: str
    setting: str = ""
    backbone: str = "puppet-hunyuan"
    precision: Precision = PLAIN
    adapter: Path | None = None
    method_config: Mapping[str, Any] = field(default_factory=dict)
    blend: BlendWith | None = None
    loras: tuple[LoraWith, ...] = ()
    images: tuple[Path, ...] = ()
    noise_clip: Footage | None = None
    seeds: tuple[int, ...] = (0,)
    compare: bool = False
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None

    def __post_init__(self) -> None:
        Sampling.__post_init__(self)  # slots: super() has no class to go by
        if not self.subjects:
            raise ConfigError("name at least one subject")
        check_count("subjects", self.subjects, MOST_SUBJECTS)
        for subject in self.subjects:
            check_letters("one of subjects", subject)
        check_letters("motion", self.motion)
        check_letters("setting", self.setting)
        if self.adapter is None and self.adapter_until != 1:
            raise ConfigError(f"adapter_until {self.adapter_until} has no effect without an adapter: leave it out")
        if self.adapter is None and self.method_config:
            raise ConfigError(f"{', '.join(self.method_config)} has no effect without an adapter: leave it out")
        if self.blend is not None:
            self._check_blend(self.blend)
        self._check_loras()
        if self.images and len(self.images) != len(self.subjects):
            raise ConfigError(
                f"one picture a subject, in the same order: got {len(self.images)} pictures for "
                f"{len(self.subjects)} subjects"
            )
        if (self.noise_clip is None) != (self.noise_prior == 0):
            given, lacks = f"noise_prior {self.noise_prior:g}", "a noise_clip that it is taken from"
            if self.noise_clip is not None:
                given, lacks = f"noise_clip {self.noise_clip.path.name}", "a noise_prior above 0, at most 1"
            raise ConfigError(f"{given} needs {lacks}: or leave both out")
        if self.noise_clip is not None and self.images:
            raise ConfigError("videos begin with pictures or with the noise of a clip: leave images or noise_clip out")
        if not self.seeds:
            raise ConfigError("name at least one seed")
        check_count("seeds", self.seeds, MOST_CLIPS)
        if self.precision.gradient_checkpointing:
            raise ConfigError("gradient_checkpointing saves memory in training only: leave it out of a generation")
        if any(not 0 <= s < 2**63 for s in self.seeds):
            raise ConfigError(f"a seed must be between 0 and 2^63 - 1, got {self.seeds}")

    def _check_loras(self) -> None:
        check_count("loras", self.loras, MOST_BENEATH)
        taken = {self.adapter, None if self.blend is None else self.blend.adapter}
        for one in self.loras:
            if one.adapter in taken:
                raise ConfigError(f"{one.adapter.name} is named twice, and works once: name each adapter once")
            taken.add(one.adapter)

    def _check_blend(self, blend: BlendWith) -> None:
        if self.adapter is None:
            raise ConfigError(f"a blend with {blend.adapter.name} needs an adapter that it is blended with")
        if blend.adapter == self.adapter:
            raise ConfigError(f"{blend.adapter.name} cannot be blended with itself: name two adapters")
        for name, value in (("strength", self.strength), ("adapter_until", self.adapter_until)):
            if value == 0:
                raise ConfigError(f"a blend has no effect at {name} 0: set another one, or leave the blend out")
        if self.step_cache is not None:
            raise ConfigError(
                f"step_cache {self.step_cache} takes up a step before of one motion, and a blend has two: "
                "leave one of them out"
            )


def predictions(run: GenerateRun) -> float:
    """How often a sampling step asks the denoiser, the mean over the videos: once for each motion with a weight."""
    if run.blend is None or run.blend.share in (0, 1):
        return 1.0
    return 1.5 if run.compare else 2.0  # the base has one


def to_dict(config: Any) -> Any:
    """Plain JSON values of a config dataclass."""
    if dataclasses.is_dataclass(config):
        return {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {str(k): to_dict(v) for k, v in config.items()}
    if isinstance(config, (list, tuple, set, frozenset)):
        return [to_dict(v) for v in (sorted(config) if isinstance(config, (set, frozenset)) else config)]
    if isinstance(config, Path):
        return str(config)
    return config


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build a config dataclass; raises ConfigError for unknown keys, missing keys and wrong types."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{cls.__name__} must be a mapping, got {type(values).__name__}")
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, cls))}
    for key in values:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            hint = f": did you mean {close[0]!r}?" if close else f": it has {', '.join(fields)}"
            raise ConfigError(f"{cls.__name__} has no setting {key!r}{hint}")
    hints = _hints(cls)
    try:
        return cls(**{k: _convert(hints[k], v, f"{cls.__name__}.{k}") for k, v in values.items()})
    except TypeError as error:
        raise ConfigError(f"{cls.__name__}: {error}") from error


@functools.cache  # as slow as all the rest of it, for each line of an event log
def _hints(cls: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} must be a list, got {value!r}")
        return tuple(_convert(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is frozenset:
        if not isinstance(value, (list, tuple, set, frozenset)):
            raise ConfigError(f"{where} must be a list, got {value!r}")
        return frozenset(_convert(args[0], v, where) for v in value)
    if origin is typing.Literal:
        if value not in args:
            raise ConfigError(f"{where} must be one of {', '.join(map(repr, args))}, got {value!r}")
        return value
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a mapping, got {value!r}")
        if args[1] is Any:
            return dict(value)
        return {str(k): _convert(args[1], v, f"{where}[{k!r}]") for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, typing.cast(type, hint)) else from_dict(typing.cast(type, hint), value)
    if hint is Path:
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and (not isinstance(value, hint) or (hint is int and isinstance(value, bool))):
        raise ConfigError(f"{where} must be {hint.__name__}, got {value!r}")
    return value
