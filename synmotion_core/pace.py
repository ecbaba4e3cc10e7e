"""How long a training step and a video took on this machine, remembered from one run to the plan of the next.

    <root>/pace.json    {"<backbone>|<method>|<batch size>|<precision>": seconds a step; "<backbone>|generate|<steps>":
                        seconds a video}; a key goes on with all that is not as usual and takes its own time

Only a measurement counts: where there is none, a plan says that the time is not known.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from synmotion_core.backbones import find_spec
from synmotion_core.config import GenerateRun, TrainRun, predictions, to_dict
from synmotion_core.errors import StorageError
from synmotion_core.precision import PLAIN
from synmotion_core.storage import replacing
from synmotion_core.types import Event, Progress, Sampled
from synmotion_core.workspace import Workspace

ENOUGH_STEPS = 5  # fewer say little
_NO_MATTER = (  # of a generation: what changes the video and not its time, or counts the videos
    *("subjects", "motion", "setting", "adapter", "blend", "loras", "images", "seeds", "compare", "strength"),
    *("backbone", "negative_prompt", "embedded_guidance", "flow_shift", "guidance_scale", "num_inference_steps"),
)
log = logging.getLogger(__name__)


def recall(workspace: Workspace, run: TrainRun | GenerateRun) -> float | None:
    """Seconds a step of the last training, or a video of the last generation, of the same kind; None when unknown."""
    known = _read(workspace)
    if isinstance(run, GenerateRun) and run.blend is not None and _key(run) not in known:
        one = known.get(_key(dataclasses.replace(run, blend=None)))
        return None if one is None else one * predictions(run)
    return known.get(_key(run))


def remember(workspace: Workspace, run: TrainRun | GenerateRun, seconds: float) -> None:
    """Note a measurement. A disk that does not take it is logged: no run fails for this."""
    try:
        with replacing(_path(workspace)) as temporary:
            values = _read(workspace) | {_key(run): round(seconds, 5)}
            temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="ascii")
    except (OSError, StorageError) as error:
        log.warning("the pace of this run was not noted: %s", error)


def typical(steps: Iterable[tuple[str | None, float]], shares: Mapping[str, float] | None = None) -> float:
    """Seconds a step from (phase, seconds) of some: each phase's median, as often as it comes.

    shares: of the phases in a whole training; as they come among the steps where none is given. A phase that has none
    of the steps counts as the others do.

    >>> typical([("motion", 2.0), ("motion", 2.0), ("motion", 9.0), ("prior", 4.0)])
    2.5
    """
    phases: dict[str, list[float]] = {}
    for phase, seconds in steps:
        phases.setdefault(phase or "", []).append(seconds)
    weights = {phase: (shares or {}).get(phase, 0.0) if shares else len(own) for phase, own in phases.items()}
    total = sum(weights.values())
    if not total:
        return statistics.median(seconds for own in phases.values() for seconds in own)
    return sum(weights[phase] * statistics.median(own) for phase, own in phases.items()) / total


class Stopwatch:
    """Takes the pace of a run from its events; `clock` gives seconds.

    Of a generation: from the first step to the last video, so that neither reading the weights nor the prompts counts.
    """

    def __init__(self, run: TrainRun | GenerateRun, clock: Callable[[], float] = time.monotonic) -> None:
        self.run, self.clock = run, clock
        self._steps: list[tuple[str | None, float]] = []
        self._began: float | None = None
        self._ended, self._total, self._videos = 0.0, 0, 0

    def see(self, event: Event) -> None:
        """The next event."""
        if isinstance(self.run, TrainRun):
            if isinstance(event, Progress) and event.stage == "train" and event.seconds is not None:
                self._steps.append((event.phase, event.seconds))
        elif isinstance(event, Progress) and event.stage == "generate":
            self._total = event.total
            if self._began is None:
                self._began = self.clock()
        elif isinstance(event, Sampled):
            self._ended, self._videos = self.clock(), self._videos + 1

    def note(self, workspace: Workspace) -> None:
        """Remember what was seen, if it was enough."""
        if len(self._steps) >= ENOUGH_STEPS:
            remember(workspace, self.run, typical(self._steps))
        elif self._began is not None and self._videos and self._total >= ENOUGH_STEPS:
            spent = (self._ended - self._began) * self._total / (self._total - 1)
            remember(workspace, self.run, spent / self._videos)


def _read(workspace: Workspace) -> dict[str, float]:
    try:
        values = json.loads(_path(workspace).read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        log.warning("%s cannot be read and is made anew: %s", _path(workspace), error)
        return {}
    found = values if isinstance(values, dict) else {}
    return {k: float(v) for k, v in found.items() if type(v) in (int, float) and math.isfinite(v) and v > 0}


def _path(workspace: Workspace) -> Path:
    return workspace.root / "pace.json"


def _key(run: TrainRun | GenerateRun) -> str:
    spec = find_spec(run.backbone)
    if isinstance(run, TrainRun):
        key = f"{run.backbone}|{run.method}|{run.train.batch_size or spec.batch_size}|{run.train.mixed_precision}"
        shape = spec.shape(run.num_frames, run.height, run.width)
        if shape != spec.default_shape:
            key += f"|{shape.num_frames}x{shape.height}x{shape.width}"
        return key if run.precision == PLAIN else f"{key}|{json.dumps(to_dict(run.precision))}"
    usual = to_dict(GenerateRun(subjects=run.subjects, motion=run.motion))
    own = {k: v for k, v in to_dict(run).items() if k not in _NO_MATTER and v != usual[k]}
    own |= {"blend": predictions(run)} if predictions(run) != 1 else {}
    guidance = spec.guidance_scale if run.guidance_scale is None else run.guidance_scale
    if (guidance != 1) != (spec.guidance_scale != 1):
        own["guided"] = guidance != 1
    key = f"{run.backbone}|generate|{run.num_inference_steps or spec.num_inference_steps}"
    return f"{key}|{json.dumps(own, sort_keys=True)}" if own else key
