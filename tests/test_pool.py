"""The backbone of the last run: kept, and gone before another is read."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synmotion_core import backbones, run
from synmotion_core.config import ClipSource, GenerateRun, TrainRun
from synmotion_core.errors import Cancelled, ConfigError, MissingError
from synmotion_core.precision import PLAIN, Precision
from synmotion_core.run import pool
from synmotion_core.training.settings import TrainConfig
from synmotion_core.types import Event, Progress, Stopped

CLIP = Path(__file__).resolve().parents[1] / "assets" / "clips" / "squat" / "squat-01.mp4"


class _Cyclic:
    """As a pipeline with quantised weights or hooks is."""

    def __init__(self) -> None:
        self.itself = self


def test_the_last_weights_are_gone_before_others_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[Any] = []
    held: list[bool] = []

    def load(name: str, *, precision: Precision) -> Any:
        held.append(any(one() is not None for one in alive))
        loaded = _Cyclic()
        alive.append(weakref.ref(loaded))
        return loaded

    monkeypatch.setattr(pool, "load_backbone", load)
    monkeypatch.setattr(pool, "_pool", {})
    gc.disable()  # what is freed is freed on purpose
    try:
        pool.borrow_backbone("a", PLAIN)
        assert pool.borrow_backbone("a", PLAIN) is alive[0]()
        pool.borrow_backbone("a", Precision(weights="8bit"))
        pool.borrow_backbone("b", PLAIN)
    finally:
        gc.enable()
    assert held == [False, False, False]


def _runs(folder: Path, cancel: threading.Event) -> dict[str, Iterator[Event]]:
    clips = (ClipSource(path=CLIP, subject="a person", motion="squats"),)
    training = TrainRun(name="x", clips=clips, train=TrainConfig(num_steps=1, batch_size=1))
    drawing = GenerateRun(subjects=("a red cat",), motion="squats")
    return {
        "train": run.train(training, folder / "job", cache=folder / "cache", cancel=cancel),
        "prior": run.draw_priors(training, folder / "cache", cancel=cancel),
        "probe": run.probe(training, cache=folder / "cache", cancel=cancel),
        "generate": run.generate(drawing, folder / "out", cancel=cancel),
    }


@pytest.mark.parametrize("kind", ["train", "prior", "probe", "generate"])
def test_every_run_tells_of_a_fetch_and_stops_in_it(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a weight is read."""
    cancel, told = threading.Event(), Progress(stage="fetch", step=1, total=2, note="puppet-hunyuan")

    def fetch(name: str, *, cancel: threading.Event | None = None) -> Iterator[Progress]:
        assert name == "puppet-hunyuan"
        yield told
        if cancel is not None and cancel.is_set():
            raise Cancelled
        pytest.fail("the run's own event stops it")

    monkeypatch.setattr(backbones, "fetch", fetch)
    monkeypatch.setattr(pool, "borrow_backbone", lambda *_: pytest.fail("weights were read"))
    monkeypatch.setattr(pool, "_pool", {})
    seen: list[Event] = []
    for event in _runs(tmp_path, cancel)[kind]:
        seen.append(event)
        if event == told:
            cancel.set()
    assert told in seen
    assert seen[-1] == Stopped(step=0)


def test_what_cannot_be_loaded_is_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "fetch", lambda *_, **__: pytest.fail("it was fetched"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(MissingError, match=r"wan2\.1-t2v-1\.3b needs a CUDA GPU"):
        list(pool.fetch("wan2.1-t2v-1.3b"))
    with pytest.raises(ConfigError, match="offload"):
        list(pool.fetch("puppet-hunyuan", Precision(offload="model")))
    monkeypatch.setattr(pool, "_pool", {("wan2.1-t2v-1.3b", PLAIN): object()})
    assert list(pool.fetch("wan2.1-t2v-1.3b")) == []
