"""The way back: from an earlier run to what its form held, so that it can be made again or changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synmotion_core.command import value_text
from synmotion_core.config import Footage, GenerateRun, TrainRun, from_dict, to_dict
from synmotion_core.errors import ConfigError, MissingError, UserInputError
from synmotion_core.ui.adapters import BASE_ALONE, find_adapters
from synmotion_core.ui.blend_fields import NONE
from synmotion_core.ui.chosen import ClipChoice, run_name
from synmotion_core.ui.dataset_fields import as_choices
from synmotion_core.ui.forms import default_rank, train_run
from synmotion_core.ui.lora_fields import lora_values, too_many
from synmotion_core.ui.noise_fields import FRESH, mark
from synmotion_core.ui.prior_fields import kept_left_out

if TYPE_CHECKING:
    from synmotion_core.ui.chosen import Library
    from synmotion_core.ui.context import Studio
    from synmotion_core.ui.pictures import Pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Refill:
    """values: by the form's names; pictures: ids of those that videos begin with; said: what could not be brought."""

    values: Mapping[str, Any]
    pictures: tuple[str, ...]
    said: tuple[str, ...]


def refill(run: GenerateRun, studio: Studio, clips: Sequence[ClipChoice]) -> Refill:
    """clips: those that are chosen now. Raises MissingError for an adapter that is gone: nothing is filled then."""
    said: list[str] = []
    adapter = _adapter_id(run.adapter, studio) if run.adapter else BASE_ALONE
    blend = run.blend
    values: dict[str, Any] = {
        "adapter": adapter,
        "subjects": "\n".join(run.subjects),
        "motion": run.motion,
        "setting": run.setting,
        "seeds": ", ".join(map(str, run.seeds)),
        "strength": run.strength,
        "compare": run.compare,
        "backbone": run.backbone,
        "steps": _text(run.num_inference_steps),
        "guidance": _text(run.guidance_scale),
        "until": _text(run.guidance_until),
        "eta": _text(run.eta),
        "negative_prompt": run.negative_prompt or "",
        "embedded_guidance": _text(run.embedded_guidance),
        "flow_shift": _text(run.flow_shift),
        "step_cache": run.step_cache or "",
        "adapter_until": "" if run.adapter_until == 1 else _text(run.adapter_until),
        "method_settings": "\n".join(f"{key}={value_text(value)}" for key, value in run.method_config.items()),
        "blend_adapter": _adapter_id(blend.adapter, studio) if blend else NONE,
        "blend_share": blend.share if blend else 0.5,
        "blend_over": blend.over if blend else "mixed",
        **lora_values({i: (_adapter_id(one.adapter, studio), one.strength) for i, one in enumerate(run.loras)}),
        "noise_clip": FRESH,
        "noise_prior": "",
        **memory_values(run),
    }
    if too_many(run):
        said.append("It had more LoRAs beneath it than the form has fields: the command line takes up to four.")
    if run.noise_clip is not None:
        found = _clip_mark(run.noise_clip, clips, studio.library)
        if found is None:
            said.append(
                f"It began with the noise of {run.noise_clip.path.name}, which is not among the chosen clips: choose "
                "it in the Clips tab, else the noise is fresh."
            )
        else:
            values |= {"noise_clip": found, "noise_prior": _text(run.noise_prior)}
    pictures = tuple(_picture_id(path, studio.pictures) for path in run.images)
    if None in pictures:
        gone = ", ".join(path.name for path, found in zip(run.images, pictures, strict=True) if found is None)
        said.append(f"It began with pictures, of which some are not there any more ({gone}): add them again.")
        pictures = ()
    return Refill(values=values, pictures=tuple(one for one in pictures if one), said=tuple(said))


def memory_values(run: GenerateRun | TrainRun) -> dict[str, Any]:
    """How weights are held and how large videos are, by the names of the Generate tab's form."""
    held = {name: getattr(run.precision, name) for name in ("weights", "text_weights", "offload", "vae_tiling")}
    return held | {name: _text(getattr(run, name)) for name in ("num_frames", "height", "width")}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRefill:
    """values: by the form's names; clips: the training's own; pictures: ids of those that samples begin with, none
    where the form finds the same by their subjects; said: what the form cannot say of it."""

    values: Mapping[str, Any]
    clips: tuple[ClipChoice, ...]
    pictures: tuple[str, ...]
    said: tuple[str, ...]


def refill_training(run: TrainRun, studio: Studio, left_out: Any) -> TrainingRefill:
    """left_out: what the browser remembers of prior videos. Raises ConfigError where none of the clips is left, and
    what the registries raise for a backbone or a method that is gone: nothing is filled then."""
    from synmotion_core.backbones import find_spec

    choices, said = as_choices(run.clips, studio.library)
    if not choices:
        raise ConfigError(f"none of its clips is there any more: nothing was changed. {said[0]}")
    train, own_rank = run.train, default_rank(run.method)
    settings = {key: value for key, value in run.method_config.items() if key != "rank"}
    values: dict[str, Any] = {
        "name": "" if run.name == run_name(run.clips[0].motion) else run.name,
        "backbone": run.backbone,
        "method": run.method,
        "mode": run.mode,
        "sample_subjects": "\n".join(train.sample_subjects),
        "rank": run.method_config.get("rank", own_rank),
        "method_settings": "\n".join(f"{key}={value_text(value)}" for key, value in settings.items()),
        "learning_rate": _text(train.learning_rate),
        "batch_size": _text(train.batch_size),
        **{name: getattr(train, name) for name in _AS_THEY_ARE},
        **{name: _text(getattr(run, name)) for name in ("num_frames", "height", "width")},
        **to_dict(run.precision),
    }
    values["left_out"] = kept_left_out(left_out, values, run.priors.left_out)
    found = [_picture_id(path, studio.pictures) for path in train.sample_images]
    pictures = () if None in found else tuple(one for one in found if one)
    by_subject = [studio.pictures.ready.get(one) for one in pictures] == list(train.sample_subjects)
    if by_subject and not find_spec(run.backbone).needs_gpu:
        pictures = ()
    try:
        images = tuple(studio.pictures.path(one) for one in pictures)
        again = train_run(values, choices, studio.library, studio.pictures, images)
        said += _not_in_the_form(_whole(run), _whole(again))
    except UserInputError as error:  # of pictures that the page does not know, for example
        said += (f"As it stands, no training can be made of the form: {error}",)
    if train.seed > _EXACT:
        said += (f"Its seed {train.seed} is too large for the field, which rounds it: the command line takes it.",)
    return TrainingRefill(values=values, clips=choices, pictures=pictures, said=said)


_EXACT = 2**53  # numbers of a browser
_AS_THEY_ARE = ("num_steps", "sample_every", "save_every", "score_every", "seed", "optimizer")


def _whole(run: TrainRun) -> dict[str, Any]:
    """All that a training is asked, by the command line's names, a method's own values beside those that are given."""
    from synmotion_core.backbones import find_spec
    from synmotion_core.interfaces import row_settings
    from synmotion_core.methods import find_method

    values = to_dict(run)
    entry = find_method(run.method)
    own = row_settings(entry, find_spec(run.backbone))
    values["method"] = to_dict(from_dict(entry.config, {**own, **run.method_config}))
    del values["clips"], values["method_config"]  # of clips that are gone each is told
    return values


def _not_in_the_form(run: Any, again: Any) -> tuple[str, ...]:
    """A sentence that names what a training was given beyond the form, as the command line would say it; or none."""
    differs = []
    for key, value in run.items():
        if isinstance(value, dict) and isinstance(again[key], dict):
            found = ((f"{key}.{k}", v, again[key].get(k)) for k, v in value.items())
        else:
            found = ((key, value, again[key]),)
        differs += [f"{name}={value_text(was)}" for name, was, now in found if was != now]
    if not differs:
        return ()
    return (f"It was given what this form has no field for, and another one would not be: {', '.join(differs)}.",)


def _text(value: float | None) -> str:
    return "" if value is None else f"{value!r}".removesuffix(".0")


def _adapter_id(path: Path, studio: Studio) -> str:
    for choice in find_adapters(studio.workspace, studio.assets)[0]:
        if choice.path.resolve() == path.resolve():
            return choice.id
    raise MissingError(f"it was made with the adapter {path.stem!r}, which is not there any more: nothing was changed")


def _picture_id(path: Path, pictures: Pictures) -> str | None:
    """None for a picture that is gone."""
    for wanted in (f"upload/{path.name}", *pictures.ready):
        try:
            if pictures.path(wanted).resolve() == path.resolve():
                return wanted
        except UserInputError:
            continue
    return None


def _clip_mark(footage: Footage, clips: Sequence[ClipChoice], library: Library) -> str | None:
    for choice in clips:
        cut = choice.cut
        own = (library.path(choice.source), cut.start_s, cut.end_s, cut.resample_fps)
        if own == (footage.path, footage.start_s, footage.end_s, footage.resample_fps):
            return mark(choice)
    return None
