"""A GPU that is lent: a lender of the test's own runs each slice in a forked process, as ZeroGPU's does."""

from __future__ import annotations

import dataclasses
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from synmotion_core import backbones, pace, slices
from synmotion_core.config import ClipSource, GenerateRun, TrainRun
from synmotion_core.errors import Cancelled, ConfigError, UserInputError
from synmotion_core.storage import read_tensors
from synmotion_core.training.settings import TrainConfig
from synmotion_core.types import Finished, Progress, Stopped
from synmotion_core.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
CLIPS = sorted((ROOT / "assets" / "clips" / "squat").glob("*.mp4"))[:2]


def _work(queue: Any, task: Callable[..., Iterator[Any]], arguments: tuple[Any, ...], limit: int | None) -> None:
    """The other process. limit: the step after which the slice is ended, by the file that ends one."""
    import torch

    torch.set_num_threads(1)
    try:
        for event in task(*arguments):
            queue.put(("event", event))
            if limit is not None and isinstance(event, Progress) and event.stage == "train" and event.step >= limit:
                (arguments[2] / slices.STOP).touch()
                limit = None
                time.sleep(0.5)
        queue.put(("end", None))
    except Exception as error:
        queue.put(("error", error))


class Lender:
    """Arguments and events are pickled on their way, and the process ends with its slice. (Spawned, where ZeroGPU
    forks: torch has been at work in the process of the tests.)"""

    def __init__(self, *limits: int) -> None:
        self.asked: list[int] = []
        self.limits = list(limits)

    def __call__(self, *, duration: Callable[..., int]) -> Callable[..., Any]:
        context = multiprocessing.get_context("spawn")

        def decorate(task: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
            def lent(*arguments: Any) -> Iterator[Any]:
                self.asked.append(duration(*arguments))
                queue: Any = context.Queue()
                limit = self.limits.pop(0) if self.limits else None
                process = context.Process(target=_work, args=(queue, task, arguments, limit), daemon=True)
                process.start()
                try:
                    while True:
                        kind, value = queue.get(timeout=300)
                        if kind == "error":
                            raise value
                        if kind == "end":
                            return
                        yield value
                finally:
                    process.join(60)

            return lent

        return decorate


def config(steps: int) -> TrainRun:
    clips = tuple(ClipSource(path=path, subject="a person", motion="squats") for path in CLIPS)
    settings = TrainConfig(num_steps=steps, sample_every=0, save_every=100, batch_size=1)
    return TrainRun(name="squat", clips=clips, method="lora", train=settings)


@pytest.mark.slow
def test_a_training_in_slices_is_the_training(tmp_path: Path) -> None:
    """Bit for bit, and it is told as one."""
    run, lender = config(12), Lender(3, 7)
    told: dict[str, list[Any]] = {}
    for name, lend in (("whole", Lender()), ("slices", lender)):
        runner = slices.runners(lend)["train"]
        arguments = {"cache": tmp_path / "cache", "cancel": threading.Event(), "resume": False}
        told[name] = list(runner(run, tmp_path / name, **arguments))
    assert len(lender.asked) == 3
    assert not [event for event in told["slices"] if isinstance(event, Stopped)]
    steps = [event.step for event in told["slices"] if isinstance(event, Progress) and event.stage == "train"]
    assert steps == list(range(1, 13))
    paths = [next(e.path for e in events if isinstance(e, Finished)) for events in told.values()]
    first, second = (read_tensors(path)[0] for path in paths if path is not None)
    assert first.keys() == second.keys()
    assert all(first[key].equal(second[key]) for key in first)


def test_the_clock_and_the_file_end_a_slice(tmp_path: Path) -> None:
    with slices._watched(tmp_path, 0.3) as cancel:
        assert cancel.wait(5)
    with slices._watched(tmp_path, None) as cancel:
        assert not cancel.wait(0.5)
        (tmp_path / slices.STOP).touch()
        assert cancel.wait(5)
    assert not (tmp_path / slices.STOP).exists()


@pytest.mark.slow
def test_stop_reaches_the_other_process(tmp_path: Path) -> None:
    """Saved at its next step, and nothing more is lent."""
    lender, cancel = Lender(), threading.Event()
    runner = slices.runners(lender)["train"]
    events = runner(config(5000), tmp_path / "run", cache=tmp_path / "cache", cancel=cancel, resume=False)
    last, began = None, time.monotonic()
    for last in events:
        if isinstance(last, Progress) and last.stage == "train":
            cancel.set()
        assert time.monotonic() - began < 110
    assert isinstance(last, Stopped)
    assert 1 <= last.step < 5000
    assert lender.asked == [110]


def scripted(*slices_of: Any) -> slices.Lend:
    """A lender whose slices are given as lists of events, or errors."""
    left = iter(slices_of)

    def lend(*, duration: Any) -> Any:
        def decorate(task: Any) -> Any:
            def lent(*arguments: Any) -> Iterator[Any]:
                now = next(left)
                if isinstance(now, Exception):
                    raise now
                yield from now

            return lent

        return decorate

    return lend


def run_of(lend: slices.Lend, tmp_path: Path) -> list[Any]:
    runner = slices.runners(lend)["train"]
    return list(runner(config(9), tmp_path, cache=tmp_path, cancel=threading.Event(), resume=False))


def test_a_slice_without_a_step_is_no_endless_loop(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too short for one step"):
        run_of(scripted([Stopped(step=0)], [Stopped(step=0)], [Stopped(step=0)]), tmp_path)


def test_prior_videos_may_take_slices_of_their_own(tmp_path: Path) -> None:
    def drawn(*steps: int) -> list[Any]:
        return [*(Progress(stage="prior", step=step, total=48) for step in steps), Stopped(step=0)]

    done = Finished(path=tmp_path / "x.safetensors", seconds=1.0)
    trained = [Progress(stage="train", step=1, total=9), done]
    assert run_of(scripted(drawn(8, 16), drawn(24), drawn(32, 48), trained), tmp_path)[-1] is done
    with pytest.raises(ConfigError, match="too short for one step"):
        run_of(scripted(drawn(8, 16), drawn(), drawn()), tmp_path)


def test_a_lender_who_refuses_is_quoted(tmp_path: Path) -> None:
    import gradio as gr

    refusal = gr.Error("You have exceeded your GPU quota (110s requested vs. 12s left).")
    with pytest.raises(UserInputError, match=r"12s left.*What was done is saved"):
        run_of(scripted([Stopped(step=3)], refusal), tmp_path)
    with pytest.raises(ZeroDivisionError):
        run_of(scripted(ZeroDivisionError()), tmp_path)


def test_what_a_generation_asks_for(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    run = GenerateRun(subjects=("a cat",), motion="walks", seeds=(0, 1))
    assert slices.drawing_seconds(run, space.cache) == slices.UNKNOWN_S
    pace.remember(space, run, 5.0)
    assert slices.drawing_seconds(run, space.cache) == slices.LOAD_S + 10
    many = dataclasses.replace(run, seeds=tuple(range(40)))
    with pytest.raises(ConfigError, match=r"40 videos take about 240 s here.*ask for at most 16"):
        slices.drawing_seconds(many, space.cache)


def test_elsewhere_nothing_is_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert slices.runners_here() is None


@pytest.mark.parametrize("kind", ["train", "generate"])
def test_weights_are_fetched_before_a_gpu_is_lent(
    kind: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetch that is stopped costs no second of one."""
    told = Progress(stage="fetch", step=1, total=2, note="puppet-hunyuan")

    def fetch(name: str, *, cancel: threading.Event) -> Iterator[Progress]:
        yield told
        if cancel.is_set():
            raise Cancelled

    monkeypatch.setattr(backbones, "fetch", fetch)
    lent: list[int] = []

    def lender(*, duration: Callable[..., int]) -> Callable[..., Any]:
        def decorate(_: Any) -> Callable[..., Iterator[Any]]:
            def asked(*arguments: Any) -> Iterator[Any]:
                lent.append(duration(*arguments))
                yield Finished()

            return asked

        return decorate

    asked = config(1) if kind == "train" else GenerateRun(subjects=("a red cat",), motion="squats")
    for stop in (True, False):
        cancel = threading.Event()
        folder = workspace.jobs / kind
        events = slices.runners(lender)[kind](asked, folder, cache=workspace.cache, cancel=cancel, resume=False)
        assert next(events) == told
        assert not lent
        if stop:
            cancel.set()
            with pytest.raises(Cancelled):
                next(events)
            assert not lent
        else:
            assert isinstance(list(events)[-1], Finished)
            assert len(lent) == 1
