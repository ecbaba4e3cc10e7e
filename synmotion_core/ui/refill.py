"""The way back: from an earlier generation to what the Generate form held, so that it can be made again or changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synmotion_core.command import value_text
from synmotion_core.config import Footage, GenerateRun
from synmotion_core.errors import MissingError, UserInputError
from synmotion_core.ui.adapters import BASE_ALONE, find_adapters
from synmotion_core.ui.blend_fields import NONE
from synmotion_core.ui.noise_fields import FRESH, mark

if TYPE_CHECKING:
    from synmotion_core.ui.chosen import ClipChoice, Library
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
        "noise_clip": FRESH,
        "noise_prior": "",
        "num_frames": _text(run.num_frames),
        "height": _text(run.height),
        "width": _text(run.width),
        **{name: getattr(run.precision, name) for name in ("weights", "text_weights", "offload", "vae_tiling")},
    }
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
