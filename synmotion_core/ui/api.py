"""The studio for programs: named endpoints beside the page, over the same jobs (README, "From a program").

    /adapters   what there is to generate with
    /generate   begins a generation; answers with its job
    /train      begins a training from uploaded clips; answers with its job
    /job        how a job is: status, step, messages, and its files once they are there
    /stop       stops a job after its present step, which is saved

Long work is a job, as on the page: it outlives the connection. What comes in are words, numbers and uploads, never a
path; settings are those of TrainRun and GenerateRun, but for what names files there.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.clips.doctor import WHOLE, Cut
from synmotion_core.command import in_own_mode
from synmotion_core.config import GenerateRun, TrainRun, from_dict, to_dict
from synmotion_core.errors import ConfigError, UserInputError
from synmotion_core.ui import guard
from synmotion_core.ui.adapters import find_adapter, find_adapters
from synmotion_core.ui.chosen import MOST_CLIPS, ClipChoice, run_name
from synmotion_core.ui.forms import MOST_VIDEOS, refuse_blocked
from synmotion_core.ui.notices import BUG
from synmotion_core.ui.people import at_work_for, shared
from synmotion_core.ui.uploads import is_upload

if TYPE_CHECKING:
    from synmotion_core.jobs import JobView
    from synmotion_core.ui.context import Studio

log = logging.getLogger(__name__)

_OWN = frozenset({"subjects", "motion", "seeds", "name", "noise_prior"})  # arguments; the last goes with a file


def names_files(run: Any) -> frozenset[str]:
    """The settings of a run, dotted, whose values are or hold paths: nobody elsewhere may name a file of this machine.

    From the types, so that one that is added later is among them.

    >>> sorted(names_files(GenerateRun))
    ['adapter', 'blend', 'images', 'loras', 'noise_clip']
    """
    hints, found = typing.get_type_hints(run), set()
    for field in dataclasses.fields(run):
        if dataclasses.is_dataclass(inner := hints[field.name]):
            found |= {f"{field.name}.{name}" for name in names_files(inner)}
        elif any(part is Path or (dataclasses.is_dataclass(part) and names_files(part)) for part in _parts(inner)):
            found.add(field.name)
    return frozenset(found)


def _parts(hint: Any) -> list[Any]:
    """All types in a type, at any depth."""
    return [hint, *(inner for part in typing.get_args(hint) for inner in _parts(part))]


def build(studio: Studio) -> None:
    """Add the endpoints to the page that is being built."""
    files = gr.File(visible=False)  # copies what is served into the page's own cache

    def adapters() -> list[dict[str, Any]]:
        """The adapters of this studio: id for /generate, the motion's words, and what each says of itself."""
        found, _ = find_adapters(studio.workspace, studio.assets)
        return [
            {"id": one.id, **{key: getattr(one.info, key) for key in (
                "motion", "subject", "backbone", "method", "mode", "steps", "score", "licence"
            )}} for one in found
        ]  # fmt: skip

    def generate(
        subjects: list[str], adapter: str = "", motion: str = "", seeds: list[int] | None = None,
        settings: dict[str, Any] | None = None, blend: dict[str, Any] | None = None,
        loras: list[dict[str, Any]] | None = None, ignore_memory: bool = False,
    ) -> str:  # fmt: skip
        """Begin to draw every subject with every seed; returns the job's id, for /job.

        adapter: an id of /adapters, or empty for the backbone alone, which then needs a motion. settings: fields of
        GenerateRun, such as {"strength": 0.8, "num_inference_steps": 10, "setting": "in the snow"}. blend: another
        adapter whose motion goes into the same videos, such as {"adapter": ID, "share": 0.5, "over": "sequence"}.
        loras: adapters of method lora that work beneath all else, such as [{"adapter": ID, "strength": 0.8}].
        ignore_memory: begin even where the GPU's memory cannot be enough.
        """
        values = _settings(settings, GenerateRun)
        if blend is not None:
            values["blend"] = _by_id(studio, blend, "blend needs another", {"share": 0.5})
        if loras is not None:
            values["loras"] = [_by_id(studio, one, "each of loras is an", {"strength": 0.8}) for one in loras]
        chosen = find_adapter(studio.workspace, adapter, studio.assets) if adapter else None
        if chosen is not None:
            values |= {"adapter": chosen.path, "backbone": chosen.info.backbone}
        words = motion or (chosen.info.motion if chosen else "")
        if not words:
            raise ConfigError("without an adapter, say what happens: motion='walks'")
        run = from_dict(GenerateRun, {**values, "subjects": subjects, "motion": words, "seeds": seeds or [0]})
        count = len(run.subjects) * len(run.seeds)
        if shared() and count > MOST_VIDEOS:
            raise ConfigError(
                f"{count} videos are asked for: where people share a studio, at most {MOST_VIDEOS} at once"
            )
        _check_room(run, ignore_memory)
        return studio.jobs.submit(run)

    def train(
        clips: list[gr.FileData], motion: str, subject: str = "a person", name: str = "",
        settings: dict[str, Any] | None = None, cuts: list[dict[str, Any]] | None = None, ignore_memory: bool = False,
    ) -> str:  # fmt: skip
        """Begin to learn a motion from clips (upload them with handle_file); returns the job's id, for /job.

        settings: fields of TrainRun, such as {"method": "lora", "train": {"num_steps": 400}}. cuts: none, or one for
        each clip: the part that is used, in seconds, and the frames a second that it is re-timed to, such as
        {"start_s": 1, "end_s": 3.125, "resample_fps": 8}; {} is the whole file, frame by frame. A clip that the doctor
        would block is refused with the cut that would do. ignore_memory: begin even where the GPU's memory cannot be
        enough.
        """
        if len(clips) > MOST_CLIPS:
            raise ConfigError(f"a training takes at most {MOST_CLIPS} clips, got {len(clips)}: choose {MOST_CLIPS}")
        values, parts = _settings(settings, TrainRun), _cuts(cuts, len(clips))
        sources = [studio.library.add(Path(_uploaded(clip))) for clip in clips]
        chosen = [
            ClipChoice(source=source, subject=subject, motion=motion).with_cut(cut)
            for source, cut in zip(sources, parts, strict=True)
        ]
        own = {"clips": [to_dict(studio.library.clip_source(one)) for one in chosen], "name": name or run_name(motion)}
        run = from_dict(TrainRun, in_own_mode({**values, **own}))
        _check_clips(studio, run, chosen)
        _check_room(run, ignore_memory)
        return studio.jobs.submit(run)

    def job(id: str) -> dict[str, Any]:
        """How a job is: kind, status (queued, running, stopping, stopped, failed, interrupted, finished), stage, step
        of total, message, warnings, seconds, eta_s; videos with their prompts, and a training's adapter, as files.
        """
        return _job(studio.jobs.snapshot(id), files)

    def stop(id: str) -> str:
        """Stop a job after its present step, which is saved; returns its status."""
        return studio.jobs.stop(id)

    for endpoint in (adapters, generate, train, job, stop):
        gr.api(_told(endpoint), api_name=endpoint.__name__, concurrency_limit=8)


def _told(endpoint: Callable[..., Any]) -> Callable[..., Any]:
    """Errors as the caller should read them: input that cannot be used in its own words, else that it is a bug."""

    def safe(*args: Any) -> Any:
        *own, request = args
        try:
            with at_work_for(request):
                return endpoint(*own)
        except UserInputError as error:
            raise gr.Error(str(error), print_exception=False) from error
        except Exception as error:
            log.exception("the endpoint %s failed", endpoint.__name__)
            raise gr.Error(BUG, print_exception=False) from error

    # what Gradio reads: the endpoint's own arguments, and who asks, which is no argument of a caller's
    signature = inspect.signature(endpoint, eval_str=True)
    asker = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=gr.Request)
    parameters = [*signature.parameters.values(), asker]
    safe.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    safe.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": signature.return_annotation}
    safe.__name__, safe.__doc__ = endpoint.__name__, endpoint.__doc__
    return safe


def _settings(given: Any, run: type) -> dict[str, Any]:
    """A copy; raises ConfigError for what names files, or has an argument of its own."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigError(f"settings are names and values, got {type(given).__name__}")
    for name in (*_OWN, *names_files(run)):
        own, _, inner = name.partition(".")
        if own in given and (not inner or (isinstance(given[own], Mapping) and inner in given[own])):
            raise ConfigError(f"{inner or own} is no setting here: it is an argument of its own, or chosen on the page")
    return dict(given)


def _by_id(studio: Studio, given: Any, rule: str, example: Mapping[str, float]) -> dict[str, Any]:
    """BlendWith's or LoraWith's fields, the adapter by its id. Raises ConfigError in the words of `rule`, MissingError
    for an adapter that is not there."""
    if not isinstance(given, Mapping) or not isinstance(given.get("adapter"), str):
        fields = ", ".join(f"'{key}': {value}" for key, value in example.items())
        raise ConfigError(f"{rule} adapter by its id of /adapters: {{'adapter': ID, {fields}}}")
    return {**given, "adapter": find_adapter(studio.workspace, given["adapter"], studio.assets).path}


def _cuts(given: Any, count: int) -> list[Cut]:
    """One a clip. Raises ConfigError for another number of them and for what is no cut; ClipSource knows the ranges."""
    if not given:
        return [WHOLE] * count
    if not isinstance(given, list) or len(given) != count:
        got = f"{len(given)} cuts" if isinstance(given, list) else type(given).__name__
        raise ConfigError(f"cuts are none or one for each of the {count} clips, {{}} for a whole one: got {got}")
    return [from_dict(Cut, one) for one in given]


def _check_clips(studio: Studio, run: TrainRun, chosen: list[ClipChoice]) -> None:
    """Refuse what the page would refuse at Start, before there is a job to fail."""
    from synmotion_core.planning.work import look_up

    named = look_up(run)
    asked = dataclasses.replace(named.spec, default_shape=named.shape)
    refuse_blocked(chosen, studio.library.looks(chosen, asked))


def _check_room(run: TrainRun | GenerateRun, ignore: bool) -> None:
    """Refuse a run that cannot fit the GPU that is here, with settings that would."""
    from synmotion_core.planning.room import shortage

    short = None if ignore else shortage(run)
    if short is None or not short.certain:
        return
    fits: dict[str, Any] = {}
    for setting, value in (short.first.changes if short.first else {}).items():
        owner, _, name = setting.rpartition(".")
        (fits.setdefault(owner, {}) if owner else fits)[name] = value
    way = f"settings that fit are {fits}" if fits else short.way
    raise ConfigError(f"{short.numbers}: {way}; ignore_memory=True begins all the same")


def _uploaded(clip: Any) -> str:
    """The path of an upload. Gradio looks at it only where it is marked as a file, which whoever asks may leave out."""
    path = clip.get("path") if isinstance(clip, Mapping) else getattr(clip, "path", None)
    if not isinstance(path, str) or not is_upload(path):
        raise ConfigError("clips are uploaded files: handle_file('clip.mp4')")
    return path


def _job(view: JobView, files: gr.File) -> dict[str, Any]:
    facts = {key: getattr(view, key) for key in (
        "id", "kind", "status", "stage", "step", "total", "message", "seconds", "eta_s"
    )}  # fmt: skip
    videos = [
        {"file": _file(files, one.path), "prompt": one.prompt.text, "seed": one.seed, "step": one.step,
         "adapted": one.adapted} for one in view.samples if one.path.exists()
    ]  # fmt: skip
    adapter = view.result if view.kind == "train" else None
    there = adapter is not None and adapter.exists()
    return {
        **facts,
        "warnings": list(view.warnings),
        "videos": videos,
        "adapter": {"id": f"mine/{adapter.name}", "file": _file(files, adapter)} if there and adapter else None,
    }


def _file(files: gr.File, path: Path) -> dict[str, Any]:
    """What gradio_client takes for a file, and fetches."""
    kept = files.move_resource_to_block_cache(path)
    if kept is not None:
        guard.publish(kept)
    return {"path": kept, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}
