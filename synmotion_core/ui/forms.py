"""Forms become configs: the values of a tab's fields -> `TrainRun`, `GenerateRun`. Pure; every error names the field.

A form is a mapping from the config's own names to what the widgets hold, which may be None or text.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from synmotion_core.clips import doctor
from synmotion_core.command import value_of
from synmotion_core.config import BlendWith, Footage, GenerateRun, LoraWith, TrainRun, from_dict, to_dict
from synmotion_core.errors import ClipError, ConfigError
from synmotion_core.precision import Precision
from synmotion_core.training.settings import PriorConfig, TrainConfig
from synmotion_core.ui.chosen import run_name

if TYPE_CHECKING:
    from synmotion_core.ui.chosen import ClipChoice, Library, Look
    from synmotion_core.ui.pictures import Pictures

MOST_VIDEOS = 64  # subjects x seeds of one run of the page; the command line has no such limit

NOISE_PRIOR = 0.5  # MotionDirector's own, for a single clip

T = TypeVar("T")


def train_run(
    form: Mapping[str, Any],
    choices: tuple[ClipChoice, ...],
    library: Library,
    pictures: Pictures,
    images: tuple[Path, ...] = (),
) -> TrainRun:
    """The run that the form describes. Raises ConfigError for what no run can be made of.

    In mode i2v the samples begin with `images`, one a subject; where there are none, those of puppets begin with the
    ready pictures of their subjects, and other backbones draw no samples.
    """
    if not choices:
        raise ConfigError("there are no clips yet: choose some in the Clips tab, for example the ready examples")
    motions = list(dict.fromkeys(choice.motion for choice in choices if choice.motion))
    if len(motions) > 1:
        raise ConfigError(f"one adapter learns one motion, these clips name {'; '.join(motions)}: train them apart")
    subjects, sample_images = _sampled(form, pictures, images)
    config = TrainConfig(
        num_steps=whole("number of steps", form["num_steps"]),
        batch_size=own_or("batch size", form["batch_size"], whole),
        optimizer=form["optimizer"],
        learning_rate=own_or("learning rate", form["learning_rate"], number),
        save_every=whole("save every", form["save_every"]),
        sample_every=whole("show samples every", form["sample_every"]),
        sample_subjects=subjects,
        sample_images=sample_images,
        score_every=whole("score every", form["score_every"]),
        seed=whole("seed", form["seed"]),
    )
    own_rank = default_rank(form["method"])
    rank = None if own_rank is None else whole("LoRA rank", form["rank"])  # else the field is not there
    method_config = {} if rank == own_rank else {"rank": rank}
    method_config |= method_settings(form["method_settings"], form["method"], form["backbone"])
    num_frames, height, width = sides(form, form["backbone"])
    priors = PriorConfig(left_out=left_out_in(form))
    if priors.left_out:
        priors = _checked_priors(form, priors)
    return TrainRun(
        name=(form["name"] or "").strip() or run_name(choices[0].motion),
        clips=tuple(library.clip_source(choice) for choice in choices),
        backbone=form["backbone"],
        mode=form["mode"],
        method=form["method"],
        method_config=method_config,
        precision=precision(form),
        num_frames=num_frames,
        height=height,
        width=width,
        train=config,
        priors=priors,
    )


def _sampled(
    form: Mapping[str, Any], pictures: Pictures, images: tuple[Path, ...]
) -> tuple[tuple[str, ...], tuple[Path, ...]]:
    """Subjects of the samples, and the picture that each begins with."""
    from synmotion_core.backbones import find_spec

    subjects = lines(form["sample_subjects"])
    if form["mode"] != "i2v":
        return subjects, ()
    if not images and not find_spec(form["backbone"]).needs_gpu:
        return subjects, pictures.of_subjects(subjects)
    if images and len(images) != len(subjects):
        raise ConfigError(
            f"one picture a subject who tries the motion, in the same order: got {len(images)} pictures for "
            f"{len(subjects)} subjects"
        )
    if not images and (every := whole("score every", form["score_every"])):
        raise ConfigError(
            f"score every {every} steps needs pictures that the scored videos begin with: add one for each subject who "
            "tries the motion, or score every 0"
        )
    return (subjects, images) if images else ((), ())


def prior_place(backbone: str, num_frames: int | None, height: int | None, width: int | None) -> str:
    """What seeds of prior videos belong to: "puppet-hunyuan", or with the size where it is not the backbone's own."""
    from synmotion_core.backbones import find_spec

    spec = find_spec(backbone)
    shape = spec.shape(num_frames, height, width)
    size = f"|{shape.num_frames}x{shape.height}x{shape.width}"
    return backbone if shape == spec.default_shape else f"{backbone}{size}"


def left_out_in(form: Mapping[str, Any]) -> tuple[int, ...]:
    """Seeds of the prior videos that the form leaves out; what a browser sends is not trusted to be well formed.

    Raises ShapeError where the form's size is none.
    """
    memory = form["left_out"]
    known = memory.get("left_out") if isinstance(memory, Mapping) else None
    place = prior_place(form["backbone"], *sides(form, form["backbone"]))
    seeds = known.get(place) if isinstance(known, Mapping) else None
    return tuple(dict.fromkeys(s for s in seeds if type(s) is int)) if isinstance(seeds, list | tuple) else ()


def draws_priors(form: Mapping[str, Any]) -> bool:
    """Whether the form's method draws prior videos as it is set."""
    from synmotion_core.backbones import find_spec
    from synmotion_core.interfaces import row_settings
    from synmotion_core.methods import find_method

    entry = find_method(form["method"])
    given = method_settings(form["method_settings"], entry.name, form["backbone"])
    return entry.draws_priors(from_dict(entry.config, {**row_settings(entry, find_spec(form["backbone"])), **given}))


def _checked_priors(form: Mapping[str, Any], config: PriorConfig) -> PriorConfig:
    """As the method has a use for them. Raises ConfigError for a seed of no video, before there is a job to fail."""
    from synmotion_core.backbones import find_spec
    from synmotion_core.training.priors import plan_priors

    if not draws_priors(form):
        return PriorConfig()
    plan_priors(dict(find_spec(form["backbone"]).options), config)
    return config


def precision(form: Mapping[str, Any]) -> Precision:
    """How weights are held. Raises ConfigError for what does not go together."""
    ticked = {name: bool(form.get(name)) for name in ("vae_tiling", "gradient_checkpointing")}
    return Precision(weights=form["weights"], text_weights=form["text_weights"], offload=form["offload"], **ticked)


def sides(form: Mapping[str, Any], backbone: str) -> tuple[int | None, int | None, int | None]:
    """num_frames, height and width. Raises ShapeError, with the nearest that the backbone takes, for others."""
    from synmotion_core.backbones import find_spec

    num_frames, height, width = (own_or(name, form[name], whole) for name in ("num_frames", "height", "width"))
    find_spec(backbone).shape(num_frames, height, width)
    return num_frames, height, width


def refuse_blocked(choices: Sequence[ClipChoice], looks: Sequence[Look]) -> None:
    """Raise ClipError, naming the clips and why, when the doctor blocks any."""
    blocked = [(i, c, k) for i, (c, k) in enumerate(zip(choices, looks, strict=True), start=1) if k.blocked]
    if blocked:
        first = "; ".join(f"clip {i} ({c.name}): {doctor.blocking(k.findings)[0].message}" for i, c, k in blocked[:3])
        rest = f"; and {len(blocked) - 3} more" if len(blocked) > 3 else ""
        raise ClipError(f"{len(blocked)} of {len(choices)} clips cannot be used yet, see the Clips tab. {first}{rest}")


def default_rank(method: str) -> int | None:
    """A method's own LoRA rank; None when it has none to set."""
    from synmotion_core.methods import find_method

    defaults = {f.name: f.default for f in dataclasses.fields(find_method(method).config)}
    rank = defaults.get("rank")
    return rank if isinstance(rank, int) else None


def own_settings(method: str, backbone: str) -> dict[str, Any]:
    """A method's other settings with their defaults on a backbone, in the order of its config."""
    from synmotion_core.backbones import find_spec
    from synmotion_core.interfaces import row_settings
    from synmotion_core.methods import find_method

    entry = find_method(method)
    own = to_dict(entry.config()) | row_settings(entry, find_spec(backbone))
    return {key: value for key, value in own.items() if key != "rank"}


def method_settings(text: str | None, method: str, backbone: str) -> dict[str, Any]:
    """KEY=VALUE a line, as `--set method.KEY=VALUE` reads them; values that are the default are left out.

    Raises ConfigError for a line that is none, a key that the method has not, and one that is there twice.
    """
    from synmotion_core.methods import find_method

    known = own_settings(method, backbone)
    given = _key_values(text, next(iter(known)))
    for key in given:
        if key == "rank":
            raise ConfigError("settings of the method: rank has a field of its own")
        if key not in known:
            raise ConfigError(f"settings of the method: {method} has no {key!r}, it has {', '.join(known)}")
    made = to_dict(from_dict(find_method(method).config, given))
    return {key: made[key] for key in given if made[key] != known[key]}


def _key_values(text: str | None, example: str) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for line in lines(text):
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not key or not value:
            raise ConfigError(f"settings of the method: {line!r} is no KEY=VALUE, as {example}=... is")
        if key in given:
            raise ConfigError(f"settings of the method: {key} is there twice")
        given[key] = value_of(value)
    return given


def drawn_with(text: str | None, adapter: Path | None) -> dict[str, Any]:
    """The same of an adapter's method, where no training sees them; values that are the file's are left out.

    Raises ConfigError for those that the training has fixed.
    """
    given = _key_values(text, "highway")
    if not given or adapter is None:
        return given
    from synmotion_core.adapters.file import read_info
    from synmotion_core.planning.work import drawing_method

    info = read_info(adapter)
    own, made = (to_dict(drawing_method(info, values)[1]) for values in ({}, given))
    return {key: made[key] for key in given if made[key] != own[key]}


def generate_run(
    form: Mapping[str, Any],
    adapter: tuple[Path, str] | None,
    images: tuple[Path, ...] = (),
    noise_clip: Footage | None = None,
    blend: BlendWith | None = None,
    loras: tuple[LoraWith, ...] = (),
) -> GenerateRun:
    """The run that the form describes, with an adapter (file, backbone) or none, first pictures or none, the clip whose
    noise it begins with or none, the adapter that is blended in or none, and the LoRAs beneath.

    Raises ConfigError or PromptError.
    """
    from synmotion_core.types import Prompt

    backbone = adapter[1] if adapter else form["backbone"]
    num_frames, height, width = sides(form, backbone)
    prior = own_or("how much of the noise", form["noise_prior"], number)
    run = GenerateRun(
        subjects=lines(form["subjects"]),
        motion=form["motion"] or "",
        setting=form["setting"] or "",
        backbone=backbone,
        adapter=adapter[0] if adapter else None,
        method_config=drawn_with(form["method_settings"], adapter[0] if adapter else None),
        blend=blend,
        loras=loras,
        images=images,
        strength=number("strength", form["strength"]),
        seeds=seeds_in(form["seeds"]),
        compare=bool(form["compare"]) and adapter is not None,
        num_inference_steps=own_or("sampling steps", form["steps"], whole),
        guidance_scale=own_or("guidance", form["guidance"], number),
        guidance_until=own_or("guide until", form["until"], number),
        eta=own_or("fresh noise", form["eta"], number),
        embedded_guidance=own_or("embedded guidance", form["embedded_guidance"], number),
        negative_prompt=(form["negative_prompt"] or "").strip() or None,
        flow_shift=own_or("flow shift", form["flow_shift"], number),
        adapter_until=1.0 if (share := own_or("adapter until", form["adapter_until"], number)) is None else share,
        step_cache=(form["step_cache"] or "").strip() or None,
        noise_clip=noise_clip,
        noise_prior=(0.0 if noise_clip is None else NOISE_PRIOR) if prior is None else prior,
        precision=precision(form),
        num_frames=num_frames,
        height=height,
        width=width,
    )
    check_guidance(run)
    for subject in run.subjects:
        Prompt(subject=subject, motion=run.motion, setting=run.setting)  # said here and now, not by a failed job
    count = len(run.subjects) * len(run.seeds)
    if count > MOST_VIDEOS:
        raise ConfigError(
            f"{len(run.subjects)} subjects times {len(run.seeds)} seeds are {count} videos: "
            f"the page makes at most {MOST_VIDEOS} at once, the command line any number"
        )
    return run


def check_guidance(run: GenerateRun) -> None:
    """Raise ConfigError where a setting of guidance would have no effect; the run itself refuses it, too, but later."""
    from synmotion_core.backbones import find_spec

    spec = find_spec(run.backbone)
    guidance = spec.guidance_scale if run.guidance_scale is None else run.guidance_scale
    if run.negative_prompt is not None and guidance == 1:
        raise ConfigError("a negative prompt has no effect at guidance 1: set another guidance, or leave it empty")
    if run.embedded_guidance is not None and "embedded_guidance" not in spec.features:
        raise ConfigError(f"{spec.name} takes no embedded guidance: leave it empty, or set the guidance")
    if run.step_cache is not None:
        from synmotion_core import step_cache
        from synmotion_core.backbones.step_cache import check_step_cache

        check_step_cache(spec, step_cache.parse(run.step_cache))


def seeds_in(text: str | None) -> tuple[int, ...]:
    """Whole numbers separated by commas or spaces; "3-6" is a range. Raises ConfigError naming the piece that is none.

    >>> seeds_in("0, 7 9"), seeds_in("3-6")
    ((0, 7, 9), (3, 4, 5, 6))
    """
    out: list[int] = []
    for piece in re.split(r"[,;\s]+", (text or "").strip()):
        if not piece:
            continue
        match = re.fullmatch(r"(\d{1,19})(?:-(\d{1,19}))?", piece)
        if not match:
            raise ConfigError(
                f'a seed is a whole number from 0 on, got {piece!r}: write for example "0, 1, 2" or "0-3"'
            )
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= MOST_VIDEOS:
            raise ConfigError(f"the range {piece!r} must go upwards and hold at most {MOST_VIDEOS} seeds")
        out.extend(range(first, last + 1))
    return tuple(dict.fromkeys(out))


def whole(what: str, value: Any) -> int:
    """A whole number from a form field; raises ConfigError, naming the field, for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value % 1:
        raise ConfigError(f"{what} must be a whole number, got {'nothing' if value is None else repr(value)}")
    return int(value)


def number(what: str, value: Any) -> float:
    """A number from a form field; raises ConfigError, naming the field, for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{what} must be a number, got {'nothing' if value is None else repr(value)}")
    return float(value)


def own_or(what: str, text: Any, read: Callable[[str, Any], T]) -> T | None:
    """None for an empty field, which stands for the backbone's own; else what `read` makes of its number.

    >>> own_or("guidance", " 2.5 ", number), own_or("guidance", "", number)
    (2.5, None)
    """
    words = "" if text is None else str(text).strip()
    if not words:
        return None
    try:
        value = float(words)
    except ValueError:
        raise ConfigError(f"{what} must be a number, got {words!r}: leave it empty for the backbone's own") from None
    return read(what, value)


def lines(text: str | None) -> tuple[str, ...]:
    """One entry a line, empty lines left out, twice the same once.

    >>> lines("a red cat\\n\\n a robot ")
    ('a red cat', 'a robot')
    """
    return tuple(dict.fromkeys(" ".join(line.split()) for line in (text or "").splitlines() if line.strip()))
