"""The words of a command: what `train` and `generate` take, how that becomes a config, and the way back.

    arguments --train_run, generate_run--> TrainRun, GenerateRun --same_command--> the same command, as one line of
    shell

What is equal to its default is left out of the line; parsing the line gives the config again. Clips that share their
words and are taken whole are `--clips FILE ...`; otherwise each is `--clip '{"path": ..., "subject": ..., "start_s":
...}'`, ClipSource as JSON. Settings without an option of their own are `--set train.learning_rate=0.002`, `--set
priors.max_videos=24`, `--set method.rank=8`; the value is JSON, or text where it is not JSON.

What a file or a folder given to `--clips` is read as, clip_files.py says. Nothing is left out without a note.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from synmotion_core import presets
from synmotion_core.clip_files import Note, clip_file, clip_folder, read_json
from synmotion_core.config import BlendWith, ClipSource, Footage, GenerateRun, LoraWith, TrainRun, from_dict, to_dict
from synmotion_core.errors import ClipError, ConfigError
from synmotion_core.precision import PLAIN, Precision
from synmotion_core.training.settings import PriorConfig, TrainConfig
from synmotion_core.workspace import named_adapter

PROGRAM = "python -m synmotion_core"
_SHAPE = {"--frames": "num_frames", "--height": "height", "--width": "width"}
RUN_FILE = "run.json"  # a training's settings, in its folder


# ------------------------------------------------------------------------------------------------ options -> config


def train_run(args: argparse.Namespace, *, base: Path | None = None, note: Note = lambda _: None) -> TrainRun:
    """The run that parsed options stand for; `base` is a saved run to start from, as `--config` is.

    Raises ConfigError, ClipError or MissingError, naming the option. `note` hears what a person should know.
    """
    source = args.config or base
    values: dict[str, Any] = {} if source is None else _read_run(source)
    clips = [_clip(text, args.subject, args.motion) for text in args.clip]
    for path in args.clips or []:
        clips += (
            clip_folder(path, args.subject, args.motion, note)
            if path.is_dir()
            else [clip_file(path, args.subject, args.motion)]
        )
    if not clips:
        words = {name: given for name in ("subject", "motion") if (given := getattr(args, name)) is not None}
        clips = [from_dict(ClipSource, {**clip, **words}) for clip in values.get("clips", ())]
    if not clips:
        raise ConfigError("a training needs clips: --clips with video files or a folder of them")
    if args.resample_fps is not None:
        clips = [c if c.resample_fps is not None else _retimed(c, args.resample_fps) for c in clips]
    values["clips"] = clips
    values |= {
        name: given
        for name in ("name", "backbone", "mode", "method", *_SHAPE.values())
        if (given := getattr(args, name)) is not None
    }
    if args.preset is not None:
        backbone, method = (
            values.get(name, TrainRun.__dataclass_fields__[name].default) for name in ("backbone", "method")
        )
        values = presets.lay_over(values, args.preset, backbone, method)
    values["precision"] = {**to_dict(values.get("precision", {})), **_precision(args)}
    values = in_own_mode(values, note)
    if "name" not in values:
        raise ConfigError("a training needs a name: --name my-wave")
    own = {"train.num_steps": args.steps, "train.sample_subjects": args.sample_subjects}
    for key, value in [(k, v) for k, v in own.items() if v is not None] + [_setting(s) for s in args.settings]:
        owner, _, name = key.partition(".")
        part = {"train": "train", "priors": "priors", "method": "method_config"}[owner]
        values[part] = {**to_dict(values.get(part, {})), name: value}
    return from_dict(TrainRun, values)


def say_no_samples(run: TrainRun, note: Note) -> None:
    """Where a run would draw samples but names nobody, note that with the option that does."""
    if run.train.sample_every and not run.train.sample_subjects:
        each = f"every {run.train.sample_every} steps"
        how = 'add --sample-subject "a red cat", once for each subject'
        if run.mode == "i2v":
            how = "set train.sample_subjects and, a picture for each, train.sample_images"
        note(f"no samples are drawn while this trains, since nobody is named: to see some {each}, {how}")


def in_own_mode(values: Mapping[str, Any], note: Note = lambda _: None) -> dict[str, Any]:
    """A run's plain values (TrainRun as a mapping, perhaps in part) in the only mode that the backbone has, where they
    name none; `note` hears of it. A backbone that there is not is for the run to refuse.
    """
    if "mode" in values or "backbone" not in values:
        return dict(values)
    from synmotion_core.backbones import SPECS

    spec = SPECS.get(values["backbone"])
    if spec is None or TrainRun.__dataclass_fields__["mode"].default in spec.modes:
        return dict(values)
    note(f"{spec.name} trains in mode {spec.modes[0]} alone: --mode {spec.modes[0]} is taken")
    return {**values, "mode": spec.modes[0]}


def generate_run(args: argparse.Namespace) -> GenerateRun:
    """The run that parsed options stand for. Motion and backbone that are not given come from the adapter's file."""
    if not args.subjects:
        raise ConfigError('name at least one subject: --subject "a red cat"')
    motion, backbone = args.motion, args.backbone
    adapter = None if args.adapter is None else named_adapter(args.adapter)
    if adapter is not None and (motion is None or backbone is None):
        from synmotion_core.adapters.file import read_info

        info = read_info(adapter)
        motion, backbone = motion if motion is not None else info.motion, backbone or info.backbone
    loras = [_lora(text) for text in args.loras or ()]
    if backbone is None and loras:
        from synmotion_core.adapters.file import read_info

        backbone = read_info(loras[0].adapter).backbone
    if motion is None:
        raise ConfigError('without an adapter, say what happens: --motion "walks"')
    given = {"setting": args.setting, "backbone": backbone, "adapter": adapter, "strength": args.strength,
             "seeds": args.seeds, "num_inference_steps": args.steps, "guidance_scale": args.guidance,
             "guidance_until": args.guidance_until, "eta": args.eta, "num_frames": args.num_frames,
             "height": args.height, "width": args.width,
             "embedded_guidance": args.embedded_guidance, "negative_prompt": args.negative_prompt,
             "flow_shift": args.flow_shift, "images": args.images,
             "noise_clip": _footage(args.noise_clip), "noise_prior": args.noise_prior,
             "adapter_until": args.adapter_until, "step_cache": args.step_cache, "blend": _blend(args),
             "loras": loras or None}  # fmt: skip
    values = {"subjects": args.subjects, "motion": motion, "compare": args.compare, "precision": _precision(args)}
    settings = dict(_setting(text if "." in text.partition("=")[0] else f"method.{text}") for text in args.settings)
    for key in settings:
        if not key.startswith("method."):
            raise ConfigError(f"--set {key}: a generation takes only settings of the adapter's method, method.KEY")
    values["method_config"] = {key.removeprefix("method."): value for key, value in settings.items()}
    return from_dict(GenerateRun, values | {k: v for k, v in given.items() if v is not None})


def _blend(args: argparse.Namespace) -> BlendWith | None:
    given = {"share": args.blend_share, "over": args.blend_over}
    given = {name: value for name, value in given.items() if value is not None}
    if args.blend is None:
        for name, value in given.items():
            raise ConfigError(f"--blend-{name} {value} needs --blend with the adapter that it is about")
        return None
    return from_dict(BlendWith, {"adapter": named_adapter(args.blend), **given})


def _lora(text: str) -> LoraWith:
    """A file or a name, and a strength behind the last colon: what is no number there belongs to the name."""
    named, colon, last = text.rpartition(":")
    try:
        strength = float(last) if colon else 1.0
    except ValueError:
        named, strength = "", 1.0
    return LoraWith(adapter=named_adapter(Path(named or text)), strength=strength)


def precision(args: argparse.Namespace) -> Precision:
    """How weights are held (arguments._add_precision)."""
    return from_dict(Precision, _precision(args))


def _precision(args: argparse.Namespace) -> dict[str, Any]:
    names = Precision.__dataclass_fields__
    return {name: given for name in names if (given := getattr(args, name, None)) is not None}


def _setting(text: str) -> tuple[str, Any]:
    """ "owner.name=value"; the owner may be left out where only one has such a setting."""
    key, equals, raw = text.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set takes KEY=VALUE, got {text!r}: for example train.learning_rate=0.002")
    owner, dot, _ = key.partition(".")
    if not dot:
        owners = [o for o, cls in (("train", TrainConfig), ("priors", PriorConfig)) if key in cls.__dataclass_fields__]
        if len(owners) > 1:
            raise ConfigError(f"--set {key}: say {' or '.join(f'{o}.{key}' for o in owners)}")
        key = f"{owners[0] if owners else 'method'}.{key}"
    elif owner not in ("train", "priors", "method"):
        raise ConfigError(f"--set {key}: begin with train., priors. or method.")
    return key, value_of(raw)


def value_of(raw: str) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    try:
        return json.loads(raw, parse_constant=refuse)
    except (ValueError, RecursionError):
        return raw


def _read_run(path: Path) -> dict[str, Any]:
    """A saved run, which may be a part of one: what it lacks are defaults or options."""
    values = read_json(path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold one run as a JSON object")
    complete = {"name": "unnamed", "clips": [{"path": "none", "subject": "a", "motion": "b"}]} | values
    from_dict(TrainRun, complete)  # unknown keys and wrong types are found here, before options are laid over it
    return values


# ------------------------------------------------------------------------------------------------ clips


def _clip(text: str, subject: str | None, motion: str | None) -> ClipSource:
    values = value_of(text)
    if not isinstance(values, dict):
        raise ConfigError(f'--clip takes JSON such as \'{{"path": "a.mp4", "start_s": 1}}\', got {text!r}')
    words = {"subject": subject, "motion": motion}
    values = {k: v for k, v in words.items() if v is not None} | values
    missing = [f"--{name}" for name in words if name not in values]
    if missing:
        raise ClipError(f"the clip {values.get('path', text)} has no words: give {' and '.join(missing)}")
    return from_dict(ClipSource, values)


def _retimed(clip: ClipSource, fps: float) -> ClipSource:
    try:
        return dataclasses.replace(clip, resample_fps=fps)
    except ConfigError as error:
        raise ConfigError(f"--resample-fps {fps:g}: {error}") from error


def _footage(text: str | None) -> Footage | None:
    """A file's name, or JSON with the part of it."""
    if text is None:
        return None
    values = value_of(text)
    return from_dict(Footage, values) if isinstance(values, dict) else Footage(path=Path(text))


# ------------------------------------------------------------------------------------------------ config -> options


def same_command(config: TrainRun | GenerateRun) -> str:
    """The shell command (POSIX quoting) that runs this very config."""
    return f"{PROGRAM} {shlex.join(arguments(config))}"


def arguments(config: TrainRun | GenerateRun) -> list[str]:
    """The same, as a list of arguments."""
    return _train_arguments(config) if isinstance(config, TrainRun) else _generate_arguments(config)


def _train_arguments(run: TrainRun) -> list[str]:
    first, words = run.clips[0], []
    alike = all(clip == ClipSource(path=clip.path, subject=first.subject, motion=first.motion) for clip in run.clips)
    if alike and "--" not in (first.subject, first.motion):
        words += ["--clips", *(_path(clip.path) for clip in run.clips)]
        words += [*_option("--subject", first.subject), *_option("--motion", first.motion)]
    else:
        for clip in run.clips:
            words += _option(
                "--clip",
                _json(clip, ClipSource(path=Path(), subject="", motion=""), ("path", "subject", "motion")),
            )
    words += _option("--name", run.name)
    for name in ("backbone", "mode", "method"):
        if getattr(run, name) != TrainRun.__dataclass_fields__[name].default:
            words += _option(f"--{name}", getattr(run, name))
    words += [*_shape_arguments(run), *_precision_arguments(run.precision)]
    train = _changed(run.train, TrainConfig())
    if "num_steps" in train:
        words += ["--steps", str(train.pop("num_steps"))]
    for owner, values in (
        ("train", train),
        ("priors", _changed(run.priors, PriorConfig())),
        ("method", to_dict(run.method_config)),
    ):
        words += _settings_arguments(owner, values)
    return ["train", *words]


def clip_words(clips: Sequence[ClipSource]) -> list[str]:
    """The options that name these clips with their cuts, but not their words."""
    first = clips[0]
    retimed = {"subject": first.subject, "motion": first.motion, "resample_fps": first.resample_fps}
    if all(clip == ClipSource(path=clip.path, **retimed) for clip in clips):
        words = ["--clips", *(_path(clip.path) for clip in clips)]
        return words if first.resample_fps is None else [*words, "--resample-fps", repr(first.resample_fps)]
    plain = ClipSource(path=Path(), subject=first.subject, motion=first.motion)
    return [word for clip in clips for word in _option("--clip", _json(clip, plain, ("path",)))]


def drawing_arguments(run: TrainRun) -> list[str]:
    """What `generate` is given to draw with a training's adapter as the training held weights and videos."""
    held = dataclasses.replace(run.precision, gradient_checkpointing=False)
    return [*_shape_arguments(run), *_precision_arguments(held)]


def _shape_arguments(run: TrainRun) -> list[str]:
    given = {option: getattr(run, name) for option, name in _SHAPE.items()}
    return [word for option, value in given.items() if value is not None for word in _option(option, str(value))]


def _generate_arguments(run: GenerateRun) -> list[str]:
    words = [] if run.adapter is None else _option("--adapter", _path(run.adapter))
    if run.blend is not None:
        words += _option("--blend", _path(run.blend.adapter))
        for name, value in _changed(run.blend, BlendWith(adapter=run.blend.adapter)).items():
            words += [f"--blend-{name}", str(value)]
    for one in run.loras:
        named = _path(one.adapter)  # a colon in it would be read as the one before a strength
        words += _option("--lora", named if one.strength == 1 and ":" not in named else f"{named}:{one.strength!r}")
    for subject in run.subjects:
        words += _option("--subject", subject)
    for image in run.images:
        words += _option("--image", _path(image))
    if run.noise_clip is not None:
        words += _option("--noise-clip", _footage_text(run.noise_clip))
    words += _option("--motion", run.motion)
    plain = GenerateRun(subjects=run.subjects, motion=run.motion)
    options = {"--setting": "setting", "--strength": "strength", "--steps": "num_inference_steps",
               "--guidance": "guidance_scale", "--guidance-until": "guidance_until", "--eta": "eta",
               "--embedded-guidance": "embedded_guidance", "--negative-prompt": "negative_prompt",
               "--flow-shift": "flow_shift", "--adapter-until": "adapter_until", "--noise-prior": "noise_prior",
               "--step-cache": "step_cache",
               **_SHAPE, "--backbone": "backbone"}  # fmt: skip
    for option, name in options.items():
        value = getattr(run, name)
        # an adapter would bring its own backbone
        if value != getattr(plain, name) or (name == "backbone" and run.adapter is not None):
            words += _option(option, value if isinstance(value, str) else repr(value))
    words += _settings_arguments("method", to_dict(run.method_config))
    words += _precision_arguments(run.precision)
    if run.seeds != plain.seeds:
        words += ["--seed", *map(str, run.seeds)]
    return ["generate", *words, *["--compare"] * run.compare]


def _settings_arguments(owner: str, values: Mapping[str, Any]) -> list[str]:
    words = []
    for name, value in values.items():
        if not name.isidentifier():
            raise ConfigError(f"{owner} has no setting {name!r}")
        words += ["--set", f"{owner}.{name}={value_text(value)}"]
    return words


def _precision_arguments(precision: Precision) -> list[str]:
    words = []
    for name, value in _changed(precision, PLAIN).items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [value])]
    return words


def _footage_text(footage: Footage) -> str:
    """What `_footage` reads as this part of a file."""
    text, whole = _path(footage.path), footage == Footage(path=footage.path)
    return text if whole and not isinstance(value_of(text), dict) else _json(footage, Footage(path=Path()), ("path",))


def _json(config: Any, default: Any, keep: Sequence[str]) -> str:
    changed = _changed(config, default)
    own = to_dict(config)
    return json.dumps({k: own[k] for k in keep} | changed, ensure_ascii=False)


def _changed(config: Any, default: Any) -> dict[str, Any]:
    """Fields that differ from a default."""
    new, old = to_dict(config), to_dict(default)
    return {k: v for k, v in new.items() if v != old[k]}


def value_text(value: Any) -> str:
    """What `value_of` reads as this value."""
    if isinstance(value, str) and value_of(value) == value:  # would not be read as JSON
        return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ConfigError(f"the value {value!r} cannot be written in a command: it is not a finite number") from error


def _path(path: Path) -> str:
    text = str(path)
    return f"./{text}" if text.startswith("-") else text


def _option(name: str, value: str) -> list[str]:
    if value == "--":  # argparse drops it, whatever stands around it
        raise ConfigError(f"{name} cannot be '--' in a command")
    return [f"{name}={value}"] if value.startswith("-") else [name, value]
