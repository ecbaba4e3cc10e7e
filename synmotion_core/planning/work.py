"""From a run to what is to be done: the row, the method and the shape that it names, held against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synmotion_core.backbones import find_spec
from synmotion_core.config import GenerateRun, TrainRun, from_dict
from synmotion_core.errors import AdapterError, ConfigError, IncompatibleError
from synmotion_core.interfaces import (
    BackboneSpec,
    DrawsPriors,
    MethodEntry,
    check_compatible,
    drawing_settings,
    row_settings,
)
from synmotion_core.planning.memory import Work, measured
from synmotion_core.precision import is_denoiser
from synmotion_core.training import together
from synmotion_core.types import VideoShape

if TYPE_CHECKING:
    from synmotion_core.adapters.file import AdapterInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What a training names. batch_size: clips a step, the row's own where the run says none. chosen: which settings of
    the method are the row's and not the method's own, in words; "" where none are.
    """

    spec: BackboneSpec
    entry: MethodEntry
    method_config: Any
    shape: VideoShape
    batch_size: int
    chosen: str = ""


def look_up(run: TrainRun) -> Named:
    """Raises ConfigError, IncompatibleError or ShapeError where there is none such or two do not fit.

    Of a batch it counts what falls on each of the processes that the launcher has started.
    """
    from synmotion_core.methods import find_method

    spec = find_spec(run.backbone)
    spec.check_mode(run.mode)
    own = row_settings(find_method(run.method), spec)
    entry, method_config = method_of(run.method, {**own, **run.method_config}, spec)
    if entry.draws_priors(method_config) and "t2v" not in spec.modes:
        raise IncompatibleError(
            f"{spec.name} makes no videos from text alone, so it cannot draw the subject priors of {entry.name}: "
            f"train without them{_without(entry)}, or take method lora"
        )
    if _learns_words(entry) and run.precision.offload != "none":
        raise ConfigError(
            f"method {entry.name} learns through the text encoder, which offload {run.precision.offload!r} would take "
            "away before the backward pass: use offload 'none'"
        )
    if run.train.training_guidance is not None and "embedded_guidance" not in spec.features:
        raise IncompatibleError(f"{spec.name} takes no embedded guidance: leave train.training_guidance out")
    shape = spec.shape(run.num_frames, run.height, run.width)
    batch_size = run.train.batch_size or spec.batch_size
    experts = sum(map(is_denoiser, spec.parameters))
    if experts > 1 and run.precision.offload == "model" and batch_size > together.asked().size:
        raise ConfigError(
            f"{spec.name} has an expert for each range of noise levels, and of a batch with both offload 'model' would "
            "take the first one away before its backward pass: use train.batch_size 1 (for each process), or offload "
            "'none' or 'group'"
        )
    chosen = _chosen(entry, spec, [key for key in own if key not in run.method_config])
    return Named(spec=spec, entry=entry, method_config=method_config, shape=shape, batch_size=batch_size, chosen=chosen)


def _without(entry: MethodEntry) -> str:
    """How to train without prior videos, as the page and a terminal take it."""
    if not isinstance(entry, DrawsPriors):
        return ""
    said = [f"{key}={value:g}" for key, value in entry.without_priors.items()]
    terminal = " ".join(f"--set method.{one}" for one in said)
    return f" ({', '.join(said)} in “Settings of the method”, {terminal} in a terminal)"


def _chosen(entry: MethodEntry, spec: BackboneSpec, keys: Sequence[str]) -> str:
    if not keys:
        return ""
    values, own = row_settings(entry, spec), entry.config()
    said = ", ".join(f"{key} is {values[key]:g} and not {getattr(own, key):g}" for key in keys)
    return f"{spec.name} makes no videos from text alone, so {entry.name} trains without prior videos: {said}"


def method_of(name: str, values: Mapping[str, Any], spec: BackboneSpec) -> tuple[MethodEntry, Any]:
    """A method and its settings. Raises ConfigError, or IncompatibleError where it does not fit the row."""
    from synmotion_core.methods import find_method

    entry = find_method(name)
    check_compatible(spec, entry.name, entry.requires)
    return entry, from_dict(entry.config, dict(values))


def drawing_method(
    info: AdapterInfo, given: Mapping[str, Any], spec: BackboneSpec | None = None
) -> tuple[MethodEntry, Any]:
    """An adapter's method and its settings, `given` ones instead of the file's. spec None asks nothing of a backbone.

    Raises ConfigError for one that the training has fixed, else as `method_of`.
    """
    from synmotion_core.methods import find_method

    entry = find_method(info.method)
    open_ones = drawing_settings(entry)
    for key in given:
        if key not in open_ones:
            which = f"only {', '.join(sorted(open_ones))}" if open_ones else "no setting of it"
            raise ConfigError(f"an adapter of {entry.name} is not drawn with another {key}: {which} is open then")
    values = {**info.method_config, **given}
    if spec is None:
        return entry, from_dict(entry.config, values)
    return method_of(info.method, values, spec)


def work_of(run: TrainRun | GenerateRun) -> Work:
    """What a run does, in numbers. An adapter that is read counts by the size of its file."""
    if isinstance(run, TrainRun):
        named, adapter = look_up(run), 0
        found = measured(named.spec.name)
        if found is not None:
            sizes = found.text_width, found.attention_width
            adapter = named.entry.num_parameters(named.method_config, *sizes, clips=len(run.clips))
        return Work(
            shape=named.shape,
            batch_size=named.batch_size,
            adapter_parameters=adapter,
            optimizer=run.train.optimizer,
            guided=named.spec.guidance_scale != 1,
            keeps_words=_learns_words(named.entry),
        )
    spec = find_spec(run.backbone)
    named = (run.adapter, None if run.blend is None else run.blend.adapter, *(one.adapter for one in run.loras))
    adapters = [path for path in named if path is not None and path.is_file()]
    return Work(
        shape=spec.shape(run.num_frames, run.height, run.width),
        adapter_parameters=sum(path.stat().st_size for path in adapters) // 4,
        guided=(spec.guidance_scale if run.guidance_scale is None else run.guidance_scale) != 1,
        keeps_words=any(_learnt_words(path) for path in adapters),
    )


def _learns_words(entry: MethodEntry) -> bool:
    return "word_embeddings" in entry.requires


def _learnt_words(adapter: Path) -> bool:
    """Of a file; one that cannot be read says so when it is used, not here."""
    from synmotion_core.adapters.file import read_info
    from synmotion_core.methods import find_method

    try:
        return _learns_words(find_method(read_info(adapter).method))
    except (AdapterError, ConfigError):
        return False
