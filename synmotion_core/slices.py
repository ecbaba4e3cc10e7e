"""Work on a GPU that is lent for a minute or two at a time, as a ZeroGPU Space does, in a process of its own.

A training goes slice by slice: each ends with the checkpoint that the next begins from, which changes no step of it
(training/trainer.py). A generation is one slice. What is lent is asked for by what the work took before (pace.py).

Between the two processes go plain values: a run's config and folder there, its events back; "stop" is a file.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synmotion_core.errors import ConfigError, TrainingDiverged, UserInputError
from synmotion_core.workspace import Workspace

if TYPE_CHECKING:  # app.py imports this before the page appears, and `spaces` wants to come before torch
    from synmotion_core.config import GenerateRun, TrainRun
    from synmotion_core.types import Event

SLICE_S = 110.0  # of a training; a longer one waits longer for a device, and costs more where it breaks
MARGIN_S = 20.0  # of it, to end the step at work and to save
LOAD_S = 40.0  # about, to read weights and encode words
UNKNOWN_S = 60.0  # asked for where nothing of the kind was drawn before
MOST_S = 120.0  # a generation may ask for
STOP = "stop-slice"

Lend = Callable[..., Callable[[Callable[..., Any]], Callable[..., Any]]]


def zero_gpu() -> bool:
    """Whether this is a Space whose GPU is lent."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def runners_here() -> Mapping[Any, Any] | None:
    """Those of Jobs where the GPU is lent; None where it is there, or there is none. To be called before torch is
    imported, which `spaces` changes."""
    if not zero_gpu():
        return None
    import spaces  # type: ignore[import-not-found]  # there on such a Space, and nowhere else

    return runners(spaces.GPU)


def runners(lend: Lend) -> Mapping[Any, Any]:
    """lend(duration=seconds by the arguments) decorates a generator that needs the device."""
    train_slice = lend(duration=_asked)(_train_slice)
    drawn = lend(duration=_asked)(_draw)

    def train(config: TrainRun, folder: Path, *, cache: Path, cancel: threading.Event, resume: bool) -> Iterator[Event]:
        """Slice after slice, until it is done or was asked to stop."""
        from synmotion_core import backbones
        from synmotion_core.types import Progress, Stopped

        yield from backbones.fetch(config.backbone, cancel=cancel)  # before a GPU is lent: its seconds are few
        folder.mkdir(parents=True, exist_ok=True)  # for the file that stops a slice
        seconds = SLICE_S
        far: dict[str, int] = {}  # how far each stage has come: a slice may be spent on prior videos alone
        while True:
            stopped: Stopped | None = None
            before = dict(far)
            for event in _told(train_slice, seconds, config, folder, cache, resume):
                if isinstance(event, (Progress, Stopped)):
                    stage = event.stage if isinstance(event, Progress) else "train"
                    far[stage] = max(event.step, far.get(stage, 0))
                if isinstance(event, Stopped):
                    stopped = event
                else:
                    yield event
                if cancel.is_set():
                    (folder / STOP).touch()
            if stopped is None:
                return
            if cancel.is_set():
                yield stopped
                return
            if far == before:
                raise ConfigError(
                    f"the GPU was lent for {seconds:g} s, too short for one step of this training: take a smaller "
                    "backbone, fewer frames or a smaller size"
                )
            resume = True

    def generate(
        config: GenerateRun, folder: Path, *, cache: Path, cancel: threading.Event, resume: bool
    ) -> Iterator[Event]:
        """One slice."""
        from synmotion_core import backbones

        seconds = drawing_seconds(config, cache)
        yield from backbones.fetch(config.backbone, cancel=cancel)
        folder.mkdir(parents=True, exist_ok=True)
        for event in _told(drawn, seconds, config, folder):
            yield event
            if cancel.is_set():
                (folder / STOP).touch()

    return {"train": train, "generate": generate}


def drawing_seconds(config: GenerateRun, cache: Path) -> float:
    """What a generation asks for. Raises ConfigError for one that takes longer than a GPU is lent."""
    from synmotion_core import pace

    videos = len(config.subjects) * len(config.seeds) * (2 if config.compare and config.adapter else 1)
    each = pace.recall(Workspace(cache.parent), config)
    if each is None:
        return UNKNOWN_S
    if LOAD_S + videos * each > MOST_S:
        most = max(1, int((MOST_S - LOAD_S) / each))
        raise ConfigError(
            f"{videos} videos take about {LOAD_S + videos * each:.0f} s here, and a GPU is lent for {MOST_S:g} at a "
            f"time: ask for at most {most} (subjects times seeds, twice with the backbone alone beside it)"
        )
    return LOAD_S + videos * each


def _asked(seconds: float, *_: Any) -> int:
    return round(seconds)


def _train_slice(seconds: float, config: TrainRun, folder: Path, cache: Path, resume: bool) -> Iterator[Event]:
    """Where the device is: as much of a training as fits."""
    from synmotion_core import run

    with _watched(folder, seconds - MARGIN_S) as cancel:
        yield from run.train(config, folder, cache=cache, cancel=cancel, resume=resume)


def _draw(seconds: float, config: GenerateRun, folder: Path) -> Iterator[Event]:
    from synmotion_core import run

    with _watched(folder, None) as cancel:
        yield from run.generate(config, folder, cancel=cancel, own_folder=True)


class _watched:
    """A cancel event that is set when time is up, or when the file that asks for it appears."""

    def __init__(self, folder: Path, seconds: float | None) -> None:
        self._file, self._cancel, self._over = folder / STOP, threading.Event(), threading.Event()
        self._until = None if seconds is None else time.monotonic() + seconds

    def __enter__(self) -> threading.Event:
        self._file.unlink(missing_ok=True)
        threading.Thread(target=self._watch, daemon=True).start()
        return self._cancel

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._file.unlink(missing_ok=True)

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            if self._file.exists() or (self._until is not None and time.monotonic() > self._until):
                self._cancel.set()
                return


def _told(lent: Callable[..., Iterator[Event]], *arguments: Any) -> Iterator[Event]:
    """What the lender says (a quota that is used up, a device that was taken back) in its own words."""
    try:
        yield from lent(*arguments)
    except (UserInputError, TrainingDiverged):
        raise
    except Exception as error:
        said = getattr(error, "message", None)
        if not type(error).__module__.startswith("gradio") or not isinstance(said, str):
            raise
        raise UserInputError(f"the GPU was not lent: {said} What was done is saved; resume later") from error
