"""Jobs: a queue that outlives the page and, where it can, the process. The runs are tiny but whole: state on the disk,
checkpoints, cancel."""

from __future__ import annotations

import contextvars
import dataclasses
import errno
import json
import logging
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synmotion_core import pace
from synmotion_core.config import ClipSource, GenerateRun, TrainRun
from synmotion_core.errors import (
    Cancelled,
    ClipError,
    ConfigError,
    MissingError,
    StorageError,
    TrainingDiverged,
    UserInputError,
)
from synmotion_core.events import EventLog, Ledger, Line, line_to_bytes, read_lines
from synmotion_core.jobs import Jobs, JobView, event_from_dict, event_to_dict
from synmotion_core.locks import FileLock, Turns
from synmotion_core.training import wishes
from synmotion_core.training.settings import TrainConfig
from synmotion_core.types import (
    Event,
    Finished,
    Noted,
    Progress,
    Prompt,
    Sampled,
    Saved,
    Scored,
    Started,
    Stopped,
    Warned,
)
from synmotion_core.workspace import Workspace

ROOT = Path(__file__).parents[1]
STEP_S = 0.002


def tiny_train(
    config: TrainRun, folder: Path, *, cache: Path, cancel: threading.Event, resume: bool, step_s: float = STEP_S
) -> Iterator[Event]:
    """A training whose state is one number: x <- (x * 5 + seed) mod 9973, a checkpoint every 5 steps, a sample every
    10."""
    state = folder / "state.json"
    step, value = json.loads(state.read_text()) if resume and state.exists() else (0, 1)
    total = config.train.num_steps
    yield Started(what="train", total=total)

    def save() -> Saved:
        state.with_suffix(".part").write_text(json.dumps([step, value]))
        os.replace(state.with_suffix(".part"), state)
        return Saved(path=state, step=step, kind="checkpoint")

    while step < total:
        if cancel.is_set():
            yield save()
            yield Stopped(step=step)
            return
        time.sleep(step_s)
        step, value = step + 1, (value * 5 + config.train.seed) % 9973
        yield Progress(stage="train", step=step, total=total, loss=float(value), seconds=step_s)
        if step % 5 == 0:
            yield save()
        if step % 10 == 0:
            video = folder / "samples" / f"{step}.mp4"
            video.parent.mkdir(exist_ok=True)
            video.write_bytes(b"video")
            yield Sampled(path=video, prompt=Prompt(subject="a cat", motion="waves"), seed=0, step=step)
    path = folder / f"{config.name}.safetensors"
    path.write_text(str(value))
    yield Saved(path=path, step=step, kind="adapter")
    yield Finished(path=path, seconds=1.0)


def slow_train(config: TrainRun, folder: Path, **options: Any) -> Iterator[Event]:
    yield from tiny_train(config, folder, **options, step_s=0.02)


def tiny_generate(
    config: GenerateRun, folder: Path, *, cache: Path, cancel: threading.Event, resume: bool
) -> Iterator[Event]:
    assert not resume
    for seed in config.seeds:
        path = folder / f"{seed}.mp4"
        path.write_bytes(b"video")
        yield Sampled(path=path, prompt=Prompt(subject=config.subjects[0], motion=config.motion), seed=seed)
    yield Finished(path=folder)


def expected_losses(num_steps: int, seed: int = 3) -> tuple[tuple[int, float], ...]:
    out, value = [], 1
    for step in range(1, num_steps + 1):
        value = (value * 5 + seed) % 9973
        out.append((step, float(value)))
    return tuple(out)


def a_training(num_steps: int = 20, name: str = "my-wave") -> TrainRun:
    clip = ClipSource(path=Path("Клип 1.mp4"), subject="a person", motion="waves")
    return TrainRun(name=name, clips=(clip,), train=TrainConfig(num_steps=num_steps, seed=3))


A_GENERATION = GenerateRun(subjects=("a red cat",), motion="waves", seeds=(1, 2))


@pytest.fixture
def space(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


@pytest.fixture
def open_jobs(space: Workspace) -> Iterator[Callable[..., Jobs]]:
    opened: list[Jobs] = []

    def make(train: Any = tiny_train, generate: Any = tiny_generate, home: Any = None, **options: Any) -> Jobs:
        opened.append(Jobs(home or space, {"train": train, "generate": generate}, **options))
        return opened[-1]

    yield make
    for jobs in opened:
        jobs.close(timeout_s=10)


def until(jobs: Jobs, job_id: str, ready: Callable[[JobView], bool], timeout_s: float = 20.0) -> JobView:
    end = time.monotonic() + timeout_s
    while not ready(view := jobs.snapshot(job_id)):
        assert time.monotonic() < end, f"never ready: {view}"
        time.sleep(0.005)
    return view


# ------------------------------------------------------------------------------------------------ a run, start to end


def test_a_training_runs_and_everything_is_there_afterwards(space: Workspace, open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs()
    job_id = jobs.submit(a_training(20))
    view = jobs.wait(job_id, 20)
    assert (view.kind, view.status, view.config, view.message) == ("train", "finished", a_training(20), "")
    assert (view.stage, view.step, view.total) == ("train", 20, 20)
    assert view.losses == expected_losses(20)
    assert [(s.step, s.prompt.text) for s in view.samples] == [(10, "a cat waves"), (20, "a cat waves")]
    assert view.checkpoint_step == 20
    assert view.result == space.adapters / "my-wave.safetensors"
    assert view.result.read_text() == str(int(view.losses[-1][1]))
    assert view.seconds >= 20 * STEP_S
    assert view.seconds_per_step == STEP_S
    assert view.eta_s is None
    assert pace.recall(space, a_training()) == STEP_S, "the next plan knows"
    assert jobs.snapshot(job_id, after=17).losses == expected_losses(20)[17:]


def test_a_job_knows_who_asked_for_it(open_jobs: Callable[..., Jobs]) -> None:
    """A context variable that was set around submit or resume is set in the run: a GPU is lent by it."""
    asker: contextvars.ContextVar[str] = contextvars.ContextVar("asker", default="nobody")
    seen = []

    def curious(config: TrainRun, folder: Path, **options: Any) -> Iterator[Event]:
        for event in tiny_train(config, folder, **options, step_s=0.01):
            seen.append(asker.get())
            yield event

    jobs = open_jobs(train=curious)
    ids = [contextvars.copy_context().run(_as, asker, name, jobs.submit, a_training(200)) for name in ("ann", "bob")]
    until(jobs, ids[0], lambda view: view.step > 3)
    jobs.stop(ids[0])
    jobs.wait(ids[1], 20)
    contextvars.copy_context().run(_as, asker, "carl", jobs.resume, ids[0])
    jobs.wait(ids[0], 20)
    assert list(dict.fromkeys(seen)) == ["ann", "bob", "carl"]


def _as(asker: contextvars.ContextVar[str], name: str, work: Callable[..., Any], *arguments: Any) -> Any:
    asker.set(name)
    return work(*arguments)


def test_a_fresh_process_sees_the_same(space: Workspace, open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs()
    ids = [jobs.submit(a_training(12)), jobs.submit(A_GENERATION)]
    before = [jobs.wait(i, 20) for i in ids]
    jobs.close()
    again = open_jobs()
    for old in before:
        new = again.snapshot(old.id)
        assert dataclasses.replace(new, seconds=0.0) == dataclasses.replace(old, seconds=0.0)
        assert new.seconds == pytest.approx(old.seconds, abs=0.05)
    assert [v.id for v in again.list()] == ids[::-1], "the newest first"


def test_a_generation_writes_into_videos(space: Workspace, open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs()
    job_id = jobs.submit(A_GENERATION)
    view = jobs.wait(job_id, 20)
    assert view.status == "finished"
    assert [s.path for s in view.samples] == [space.videos / job_id / "1.mp4", space.videos / job_id / "2.mp4"]
    with pytest.raises(UserInputError, match="no state to go on from"):
        jobs.resume(job_id)


def test_a_second_adapter_of_the_same_name_does_not_replace_the_first(open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs()
    results = [jobs.wait(jobs.submit(a_training(n)), 20).result for n in (3, 4)]
    assert [r.name for r in results if r] == ["my-wave.safetensors", "my-wave-2.safetensors"]
    assert [r.read_text() for r in results if r] == [str(int(expected_losses(n)[-1][1])) for n in (3, 4)]


def scored_train(config: TrainRun, folder: Path, **options: Any) -> Iterator[Event]:
    """tiny_train with a score every 10 steps, the best at step 10; after a resume the last one comes again."""
    for event in tiny_train(config, folder, **options):
        if isinstance(event, Finished):
            (folder / "my-wave-best.safetensors").write_text("best")
            event = dataclasses.replace(event, best=folder / "my-wave-best.safetensors")
        yield event
        if isinstance(event, Sampled):
            yield Scored(step=event.step, by="fidelity", score=1 / event.step, best=event.step == 10)
            best = folder / "best" / "step-000010.safetensors"
            yield Saved(path=best, step=10, kind="best")


def test_scores_and_the_best_adapter_are_kept(space: Workspace, open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs(scored_train)
    job_id = jobs.submit(a_training(30))
    until(jobs, job_id, lambda v: len(v.scores) >= 1)
    jobs.stop(job_id)
    stopped = jobs.wait(job_id, 10)
    if stopped.status == "stopped":
        assert stopped.best == space.jobs / job_id / "best" / "step-000010.safetensors"
        jobs.resume(job_id)
    view = jobs.wait(job_id, 20)
    assert [(s.step, s.best) for s in view.scores] == [(10, True), (20, False), (30, False)]
    assert (view.result, view.best) == (
        space.adapters / "my-wave.safetensors",
        space.adapters / "my-wave-best.safetensors",
    )
    (space.adapters / "my-wave-2-best.safetensors").write_text("somebody's own")
    again = jobs.wait(jobs.submit(a_training(10)), 20)
    assert again.result is not None
    assert again.best is not None
    assert (again.result.name, again.best.name) == ("my-wave-3.safetensors", "my-wave-3-best.safetensors"), "a pair"
    jobs.delete(job_id)
    assert (space.adapters / "my-wave-best.safetensors").read_text() == "best"
    assert (space.adapters / "my-wave-2-best.safetensors").read_text() == "somebody's own"


def test_one_at_a_time_in_order(open_jobs: Callable[..., Jobs]) -> None:
    running, most, order = 0, 0, []

    def counted(config: TrainRun, folder: Path, **options: Any) -> Iterator[Event]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        order.append(config.name)
        yield from tiny_train(config, folder, **options)
        running -= 1

    jobs = open_jobs(counted)
    ids = [jobs.submit(a_training(5, name=f"run-{i}")) for i in range(4)]
    assert jobs.snapshot(ids[-1]).status == "queued"
    assert [jobs.wait(i, 20).status for i in ids] == ["finished"] * 4
    assert (most, order) == (1, ["run-0", "run-1", "run-2", "run-3"])


def test_many_threads_at_once(open_jobs: Callable[..., Jobs]) -> None:
    jobs, ids, errors = open_jobs(), [], []

    def visitor() -> None:
        try:
            mine = jobs.submit(a_training(10))
            ids.append(mine)
            while jobs.snapshot(mine).status in ("queued", "running"):
                jobs.list()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=visitor) for _ in range(6)]
    [t.start() for t in threads]
    [t.join(30) for t in threads]
    assert not errors
    assert [jobs.snapshot(i).losses == expected_losses(10) for i in ids] == [True] * 6


# ------------------------------------------------------------------------------------------------ stop, resume, delete


def test_stop_answers_at_once_and_the_step_is_saved(open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs(slow_train)
    job_id = jobs.submit(a_training(1000))
    until(jobs, job_id, lambda v: v.step >= 7)
    began = time.monotonic()
    assert jobs.stop(job_id) == "stopping"
    assert time.monotonic() - began < 0.5
    view = jobs.wait(job_id, 5)
    assert view.status == "stopped"
    assert view.checkpoint_step == view.step < 100
    assert jobs.stop(job_id) == "stopped", "a second press changes nothing"


def test_a_queued_job_stops_before_it_began(open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs(slow_train)
    first, second = jobs.submit(a_training(1000)), jobs.submit(a_training(5))
    assert jobs.stop(second) == "stopped"
    jobs.stop(first)
    jobs.wait(first, 5)
    view = jobs.snapshot(second)
    assert (view.status, view.step, view.losses) == ("stopped", 0, ())
    jobs.resume(second)
    assert jobs.wait(second, 10).losses == expected_losses(5)


def test_a_waiting_job_moves_and_the_order_is_what_runs(open_jobs: Callable[..., Jobs]) -> None:
    order, go = [], threading.Event()

    def gated(config: TrainRun, folder: Path, **options: Any) -> Iterator[Event]:
        order.append(config.name)
        go.wait(20)
        yield from tiny_train(config, folder, **options)

    jobs = open_jobs(gated)
    running, *rest = [jobs.submit(a_training(5, name=name)) for name in "abcde"]
    until(jobs, running, lambda v: v.status == "running")
    b, c, d, e = rest
    assert jobs.waiting() == (b, c, d, e)
    jobs.move(e, 0)
    jobs.move(b, 2)
    assert jobs.waiting() == (e, c, b, d)
    jobs.stop(c)
    assert jobs.waiting() == (e, b, d), "what is stopped waits no more"
    jobs.resume(c)
    assert jobs.waiting() == (e, b, d, c), "and then joins at the end"
    for place in (-1, 4):
        with pytest.raises(ConfigError, match=rf"4 jobs wait: a place is between 0 \(next\) and 3, got {place}"):
            jobs.move(d, place)
    with pytest.raises(UserInputError, match="is running: only one that waits here can be moved"):
        jobs.move(running, 0)
    with pytest.raises(MissingError):
        jobs.move("20260101-000000-abcdef", 0)
    go.set()
    assert {jobs.wait(job_id, 20).status for job_id in rest} == {"finished"}
    assert order == ["a", "e", "b", "d", "c"]
    assert jobs.waiting() == ()
    with pytest.raises(UserInputError, match="is finished: only"):
        jobs.move(d, 0)


def test_the_first_may_be_overtaken_while_another_process_has_the_device(
    space: Workspace, open_jobs: Callable[..., Jobs]
) -> None:
    device, order = FileLock(space.jobs / "device.lock"), []

    def noted(config: TrainRun, folder: Path, **options: Any) -> Iterator[Event]:
        order.append(config.name)
        yield from tiny_train(config, folder, **options)

    assert device.acquire()
    jobs = open_jobs(noted)
    first, second = (jobs.submit(a_training(5, name=name)) for name in ("first", "second"))
    until(jobs, first, lambda v: "uses the device" in v.message)
    jobs.move(second, 0)
    until(jobs, second, lambda v: "uses the device" in v.message)
    assert jobs.snapshot(first).message == "", "it waits for the other one now"
    device.release()
    assert jobs.wait(first, 20).status == "finished"
    assert order == ["second", "first"]


def test_the_newest_jobs_and_those_that_are_live(open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs(slow_train)
    old = jobs.submit(a_training(1000))
    ids = [jobs.submit(a_training(5)) for _ in range(3)]
    for job_id in ids:
        jobs.stop(job_id)
    newest = max(ids)
    assert {view.id for view in jobs.list(newest=1)} == {max(old, newest), old}
    assert len(jobs.list()) == 4


def test_a_running_training_is_asked_to_save(space: Workspace, open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs(slow_train)
    running, queued = jobs.submit(a_training(1000)), jobs.submit(a_training(5))
    until(jobs, running, lambda v: v.step >= 1)
    jobs.ask(running, "save")
    assert wishes.take(space.jobs / running) == {"save"}
    assert wishes.take(space.jobs / running) == set()
    with pytest.raises(ConfigError, match="nobody to draw"):
        jobs.ask(running, "sample")
    with pytest.raises(UserInputError, match="is a queued train job: only a running training saves"):
        jobs.ask(queued, "save")
    jobs.stop(running)
    jobs.wait(running, 10)
    with pytest.raises(UserInputError, match="stopped train job"):
        jobs.ask(running, "save")
    made = jobs.submit(A_GENERATION)
    with pytest.raises(UserInputError, match="generate job"):
        jobs.ask(made, "sample")


def test_resume_equals_a_run_in_one_go(space: Workspace, open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs()
    job_id = jobs.submit(a_training(60))
    for until_step in (8, 31):
        until(jobs, job_id, lambda v, least=until_step: v.step >= least)
        jobs.stop(job_id)
        assert jobs.wait(job_id, 5).status == "stopped"
        jobs.resume(job_id)
    view = jobs.wait(job_id, 20)
    assert view.status == "finished"
    assert view.losses == expected_losses(60)
    done = [line.event for line in read_lines(space.jobs / job_id / "events.jsonl")[0]]
    assert [e.step for e in done if isinstance(e, Progress)] == list(range(1, 61)), "no step was done twice"
    assert view.result is not None
    assert view.result.read_text() == str(int(expected_losses(60)[-1][1]))


def test_a_training_gives_way_to_others_and_loses_nothing(
    tmp_path: Path, open_jobs: Callable[..., Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two people's queues, one device: whoever waits comes on after a turn, and both end as they would have alone."""
    monkeypatch.setattr("synmotion_core.jobs.TURN_S", 0.2)
    turns, begun = Turns(tmp_path / "device.lock"), []

    def noted(config: TrainRun, folder: Path, **options: Any) -> Iterator[Event]:
        begun.append((config.name, options["resume"]))
        yield from slow_train(config, folder, **options)

    ann, bob = (open_jobs(noted, home=Workspace(tmp_path / name), turns=turns) for name in ("ann", "bob"))
    first = ann.submit(a_training(200, "long"))  # longer than it takes Bob to come
    until(ann, first, lambda view: view.step > 15)  # beyond its turn; nobody waits
    assert begun == [("long", False)]
    behind = ann.submit(A_GENERATION)
    second = bob.submit(a_training(30, "other"))
    view = until(ann, first, lambda view: view.status == "queued" and "waits" in view.message)
    saved = view.checkpoint_step
    assert saved is not None
    assert saved < 200
    assert view.message == f"waits for another's job, which uses the device; goes on from step {saved}, saved"
    assert ann.waiting() == (first, behind), "the next of its own queue is itself"
    ends = [jobs.wait(job, 30) for jobs, job in ((ann, first), (bob, second), (ann, behind))]
    assert [view.status for view in ends] == ["finished"] * 3
    assert [view.losses for view in ends[:2]] == [expected_losses(200), expected_losses(30)]
    assert {name for name, again in begun if again} == {"long", "other"}, "both took turns"
    assert sum(not again for _, again in begun) == 2


def test_what_gave_way_is_stopped_and_resumed_like_any_other(
    tmp_path: Path, open_jobs: Callable[..., Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synmotion_core.jobs.TURN_S", 0.05)
    turns, hold = Turns(tmp_path / "device.lock"), threading.Event()

    def held(config: GenerateRun, folder: Path, **options: Any) -> Iterator[Event]:
        hold.wait(30)
        yield from tiny_generate(config, folder, **options)

    ann, bob = (open_jobs(slow_train, held, Workspace(tmp_path / name), turns=turns) for name in ("ann", "bob"))
    first = ann.submit(a_training(200))
    until(ann, first, lambda view: view.step > 0)
    second = bob.submit(A_GENERATION)
    until(ann, first, lambda view: view.status == "queued")
    until(bob, second, lambda view: view.status == "running")
    assert ann.stop(first) == "stopped"
    view = ann.snapshot(first)
    assert view.checkpoint_step
    assert view.message == "", "it had begun"
    ann.resume(first)
    hold.set()
    assert bob.wait(second, 30).status == "finished"
    assert ann.wait(first, 30).losses == expected_losses(200)


def test_a_score_does_not_give_way(
    tmp_path: Path, open_jobs: Callable[..., Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off it is lost: a training whose score takes longer than a turn would never get beyond it."""
    monkeypatch.setattr("synmotion_core.jobs.TURN_S", 0.05)
    turns, lost = Turns(tmp_path / "device.lock"), []

    def scored(config: TrainRun, folder: Path, *, cancel: threading.Event, resume: bool, **_: Any) -> Iterator[Event]:
        mark = folder / "scored"
        for step in range(1, 1 if mark.exists() else 40):
            if cancel.is_set():
                lost.append(step)
                yield Stopped(step=0)
                return
            time.sleep(0.01)
            yield Progress(stage="score", step=step, total=40)
        if mark.exists():
            yield Finished(path=None, seconds=1.0)
            return
        mark.touch()
        while not cancel.is_set():
            time.sleep(0.01)
            yield Progress(stage="train", step=1, total=2, loss=1.0)
        yield Stopped(step=1)

    ann, bob = (open_jobs(scored, home=Workspace(tmp_path / name), turns=turns) for name in ("ann", "bob"))
    jobs = [one.submit(a_training(200)) for one in (ann, bob)]
    assert [one.wait(job, 30).status for one, job in zip((ann, bob), jobs, strict=True)] == ["finished"] * 2
    assert not lost


def test_a_turn_begins_after_the_fetch(
    open_jobs: Callable[..., Jobs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that gave way while it fetched would have got nowhere."""
    monkeypatch.setattr("synmotion_core.jobs.TURN_S", 0.0)
    turns, waits = Turns(tmp_path / "device.lock"), threading.Event()

    def fetched(config: TrainRun, folder: Path, *, cancel: threading.Event, **_: Any) -> Iterator[Event]:
        assert waits.wait(10)
        for step in range(1, 20):
            yield Progress(stage="fetch", step=step, total=20)
            assert not cancel.is_set()
        yield Finished(path=None, seconds=1.0)

    ann, bob = (open_jobs(fetched, home=Workspace(tmp_path / name), turns=turns) for name in ("ann", "bob"))
    first, second = ann.submit(a_training(200)), bob.submit(a_training(200))
    deadline = time.monotonic() + 10
    while not turns.wanted():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    waits.set()
    assert [ann.wait(first, 30).status, bob.wait(second, 30).status] == ["finished"] * 2


def test_what_a_status_does_not_allow(open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs(slow_train)
    job_id = jobs.submit(a_training(1000))
    until(jobs, job_id, lambda v: v.status == "running")
    with pytest.raises(UserInputError, match="is running"):
        jobs.resume(job_id)
    with pytest.raises(UserInputError, match="stop it before"):
        jobs.delete(job_id)
    jobs.stop(job_id)
    jobs.wait(job_id, 5)
    finished = jobs.submit(a_training(1))
    jobs.wait(finished, 10)
    with pytest.raises(UserInputError, match="is finished"):
        jobs.resume(finished)
    assert jobs.stop(finished) == "finished"


@pytest.mark.parametrize(
    "name", ["20260101-000000-abcdef", "..", "../../etc", "", "a" * 500, "20260101-000000-abcdef/.."]
)
def test_an_id_that_is_no_job(name: str, open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs()
    for ask in (jobs.snapshot, jobs.stop, jobs.resume, jobs.delete):
        with pytest.raises(MissingError, match="there is no job"):
            ask(name)


def test_delete_takes_all_but_the_adapter(space: Workspace, open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs()
    training, generation = jobs.submit(a_training(10)), jobs.submit(A_GENERATION)
    result = jobs.wait(training, 20).result
    jobs.wait(generation, 20)
    for job_id in (training, generation):
        jobs.delete(job_id)
        with pytest.raises(MissingError):
            jobs.snapshot(job_id)
    assert jobs.list() == ()
    assert [p.name for p in space.jobs.iterdir()] == ["device.lock"]
    assert list(space.videos.iterdir()) == []
    assert result is not None
    assert result.read_text() == str(int(expected_losses(10)[-1][1]))


# ------------------------------------------------------------------------------------------------ what goes wrong


def failing(error: BaseException) -> Any:
    def run(config: Any, folder: Path, **options: Any) -> Iterator[Event]:
        yield Progress(stage="train", step=1, total=9, loss=0.5)
        raise error

    return run


def test_an_error_of_the_user_is_shown_as_it_is(space: Workspace, open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs(failing(ClipError("clip <b>ä</b>.mp4 has 3 frames, 17 are needed")))
    view = jobs.wait(jobs.submit(a_training()), 10)
    assert (view.status, view.message) == ("failed", "clip <b>ä</b>.mp4 has 3 frames, 17 are needed")
    assert "Traceback" not in (space.jobs / view.id / "log.txt").read_text()
    assert Jobs(space).snapshot(view.id).message == view.message


def test_a_watchdog_s_reason_is_shown_as_it_is(open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs(failing(TrainingDiverged("the loss became NaN at step 7; rolled back to step 5")))
    assert jobs.wait(jobs.submit(a_training()), 10).message.startswith("the loss became NaN at step 7")


def test_a_bug_is_logged_whole_and_told_in_one_line(
    space: Workspace, open_jobs: Callable[..., Jobs], caplog: pytest.LogCaptureFixture
) -> None:
    jobs = open_jobs(failing(ZeroDivisionError("secret inner words")))
    view = jobs.wait(jobs.submit(a_training()), 10)
    assert view.status == "failed"
    assert "ZeroDivisionError" in view.message
    assert "secret" not in view.message
    assert "\n" not in view.message
    text = (space.jobs / view.id / "log.txt").read_text()
    assert "Traceback" in text
    assert "secret inner words" in text
    assert any(r.exc_info and r.exc_info[0] is ZeroDivisionError for r in caplog.records)
    assert jobs.wait(jobs.submit(A_GENERATION), 10).status == "finished", "the worker lives on"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk is full"),
        (MemoryError(), "main memory was not enough"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA"), "“Memory and size” on the page"),
        (RuntimeError("CUDA error: out of memory"), "the GPU's memory was not enough for this run"),
        (SystemExit(3), "SystemExit"),
    ],
)
def test_known_troubles_have_their_own_line(error: BaseException, words: str, open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs(failing(error))
    view = jobs.wait(jobs.submit(a_training()), 10)
    assert view.status == "failed"
    assert words in view.message


def test_a_cancelled_error_is_a_stop(open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs(failing(Cancelled("stopped")))
    assert jobs.wait(jobs.submit(a_training()), 10).status == "stopped"


def test_a_run_that_just_ends_is_a_bug(open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs(lambda config, folder, **options: iter([Started(what="train", total=1)]))
    view = jobs.wait(jobs.submit(a_training()), 10)
    assert view.status == "failed"
    assert "RuntimeError" in view.message


def test_a_failed_training_goes_on_when_the_reason_is_gone(open_jobs: Callable[..., Jobs]) -> None:
    broken = True

    def run(config: Any, folder: Path, **options: Any) -> Iterator[Event]:
        for event in tiny_train(config, folder, **options):
            if broken and isinstance(event, Progress) and event.step == 8:
                raise StorageError("the disk is full")
            yield event

    jobs = open_jobs(run)
    job_id = jobs.submit(a_training(20))
    assert jobs.wait(job_id, 10).status == "failed"
    broken = False
    jobs.resume(job_id)
    view = jobs.wait(job_id, 10)
    assert (view.status, view.losses, view.message) == ("finished", expected_losses(20), "")


def test_log_records_of_a_run_are_in_its_folder_and_nobody_else_s(
    space: Workspace, open_jobs: Callable[..., Jobs]
) -> None:
    inside, outside = threading.Event(), threading.Event()

    def run(config: Any, folder: Path, **options: Any) -> Iterator[Event]:
        inside.set()
        outside.wait(5)
        logging.getLogger("synmotion_core.somewhere").warning("from the run")
        yield from tiny_train(config, folder, **options)

    jobs = open_jobs(run)
    job_id = jobs.submit(a_training(2))
    inside.wait(5)
    logging.getLogger("synmotion_core.page").warning("from the page")
    outside.set()
    jobs.wait(job_id, 10)
    text = (space.jobs / job_id / "log.txt").read_text()
    assert "from the run" in text
    assert "from the page" not in text


def test_a_name_no_file_can_have_is_refused_before_it_trains(space: Workspace, open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs()
    with pytest.raises(ConfigError, match="Windows keeps it"):
        jobs.submit(a_training(name="con"))
    assert jobs.list() == ()


def test_a_disk_without_room_is_refused_before_it_trains(
    space: Workspace, open_jobs: Callable[..., Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = open_jobs()
    monkeypatch.setattr("synmotion_core.jobs.MIN_FREE_BYTES", 2 * space.free_bytes())
    with pytest.raises(StorageError, match="are free: make room"):
        jobs.submit(a_training())
    assert jobs.list() == ()


# ------------------------------------------------------------------------------------------------ processes


SCRIPT = """
import sys, time
sys.path[:0] = [{root!r}, {tests!r}]
import test_jobs as t
from synmotion_core.jobs import Jobs
from synmotion_core.workspace import Workspace
from pathlib import Path
jobs = Jobs(Workspace(Path({home!r})), {{"train": t.slow_train, "generate": t.tiny_generate}})
"""


def start(space: Workspace, code: str) -> subprocess.Popen[str]:
    head = SCRIPT.format(root=str(ROOT), tests=str(Path(__file__).parent), home=str(space.root))
    command = [sys.executable, "-c", head + textwrap.dedent(code)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def say(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


WORK = """
ids = [jobs.submit(t.a_training(100)), jobs.submit(t.a_training(5))]
while jobs.snapshot(ids[0]).step < 12: time.sleep(0.01)
print(*ids, flush=True)
time.sleep(60)
"""


def test_a_killed_process_leaves_interrupted_jobs_that_resume_exactly(
    space: Workspace, open_jobs: Callable[..., Jobs]
) -> None:
    process = start(space, WORK)
    first, second = say(process).split()
    process.kill()
    process.wait(10)
    with (space.jobs / first / "events.jsonl").open("ab") as file:
        file.write(b'{"time": 17')  # as if the kill had come in the middle of a write
    jobs = open_jobs()
    found = {v.id: v for v in jobs.list()}
    assert found[first].status == found[second].status == "interrupted"
    assert "running" in found[first].message
    assert "queued" in found[second].message
    worked = found[first].seconds
    assert 12 * 0.02 <= worked < 30
    time.sleep(0.3)
    jobs.resume(first)
    jobs.resume(second)
    view = jobs.wait(first, 20)
    assert (view.status, view.losses, view.warnings) == ("finished", expected_losses(100), ())
    assert worked < view.seconds < worked + 30
    assert jobs.wait(second, 20).losses == expected_losses(5)


def test_a_second_process_looks_but_does_not_touch(space: Workspace, open_jobs: Callable[..., Jobs]) -> None:
    process = start(space, WORK)
    first, second = say(process).split()
    jobs = open_jobs()
    assert jobs.snapshot(first).status == "running"
    step = jobs.snapshot(first).step
    view = until(jobs, first, lambda v: v.step > step)
    assert view.losses == expected_losses(view.step), "it follows what the other one writes"
    assert jobs.snapshot(second).status == "queued"
    for job_id in (first, second):
        with pytest.raises(UserInputError, match=rf"belongs to process {process.pid}"):
            jobs.stop(job_id)
        with pytest.raises(UserInputError, match="only failed, interrupted, stopped"):
            jobs.resume(job_id)
        with pytest.raises(UserInputError, match="stop it before"):
            jobs.delete(job_id)
    mine = jobs.submit(a_training(3))
    view = until(jobs, mine, lambda v: bool(v.message))
    assert (view.status, view.message) == ("queued", f"waits for process {process.pid}, which uses the device")
    process.kill()
    process.wait(10)
    assert jobs.snapshot(first).status == "interrupted"
    assert jobs.wait(mine, 20).status == "finished", "the device is free again"


def test_closing_saves_and_another_process_goes_on(space: Workspace, open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs(slow_train)
    first, second = jobs.submit(a_training(50)), jobs.submit(a_training(5))
    until(jobs, first, lambda v: v.step >= 6)
    jobs.close()
    assert [jobs.snapshot(i).status for i in (first, second)] == ["interrupted", "interrupted"]
    with pytest.raises(UserInputError, match="closing"):
        jobs.submit(a_training())
    again = open_jobs()
    assert again.snapshot(first).checkpoint_step == again.snapshot(first).step
    again.resume(first)
    assert again.wait(first, 20).losses == expected_losses(50)


def test_a_moved_workspace_keeps_its_paths(tmp_path: Path) -> None:
    with Jobs(Workspace(tmp_path / "old"), {"train": tiny_train}) as jobs:
        job_id = jobs.submit(a_training(10))
        jobs.wait(job_id, 20)
    (tmp_path / "old").rename(tmp_path / "new")
    view = Jobs(Workspace(tmp_path / "new")).snapshot(job_id)
    assert view.result == tmp_path / "new" / "adapters" / "my-wave.safetensors"
    assert all(s.path.is_file() for s in view.samples)


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = {limit}
job = jobs.submit(t.a_training(40))
while jobs.snapshot(job).step < 5: time.sleep(0.002)
size = (Path({home!r}) / "jobs" / job / "events.jsonl").stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, resource.RLIM_INFINITY))  # the next line fits in part
while jobs.snapshot(job).step < 20: time.sleep(0.002)
assert any("cannot be written" in w for w in jobs.snapshot(job).warnings), jobs.snapshot(job)
if not limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
view = jobs.wait(job, 20)
print(job, view.status, view.losses == t.expected_losses(40), view.step, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
@pytest.mark.parametrize("for_good", [False, True], ids=["room comes back", "full to the end"])
def test_a_disk_that_fills_does_not_stop_a_training(for_good: bool, space: Workspace) -> None:
    process = start(space, FULL.format(limit=for_good, home=str(space.root)))
    job_id, *said = say(process).split()
    assert said == ["finished", "True", "40"], "the training and what this process shows of it are whole"
    assert process.wait(20) == 0
    raw = (space.jobs / job_id / "events.jsonl").read_bytes()
    assert raw.endswith(b"\n")
    lines, _, unreadable = read_lines(space.jobs / job_id / "events.jsonl")
    assert unreadable == 0
    steps = [line.event.step for line in lines if isinstance(line.event, Progress)]
    if for_good:
        assert steps == list(range(1, len(steps) + 1))
        assert 5 <= len(steps) < 40
    else:
        assert steps == list(range(1, 41)), "what waited in memory was written when there was room"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_an_answer_not_an_exception(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.symlink_to("/dev/full")
    log = EventLog(path)
    line = Line(event=Warned(message="x"), time=0.0, attempt=1, clock=0.0)
    error = log.append(line)
    assert error is not None
    assert error.errno == errno.ENOSPC
    assert log.pending == [line_to_bytes(line)]


def test_a_status_that_cannot_be_written_is_still_known(space: Workspace, open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs(slow_train)
    job_id = jobs.submit(a_training(20))
    until(jobs, job_id, lambda v: v.step >= 3)
    path = space.jobs / job_id / "status.json"
    path.unlink()
    (path / "in the way").mkdir(parents=True)
    assert jobs.wait(job_id, 20).status == "finished"
    assert jobs.snapshot(job_id).losses == expected_losses(20)


# ------------------------------------------------------------------------------------------------ damaged folders


def test_a_damaged_line_is_said_not_hidden(space: Workspace, open_jobs: Callable[..., Jobs]) -> None:
    jobs = open_jobs()
    job_id = jobs.submit(a_training(6))
    jobs.wait(job_id, 10)
    path = space.jobs / job_id / "events.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:3], b"garbage", b'{"kind": "progress"}', *lines[3:]]))
    view = open_jobs().snapshot(job_id)
    assert view.losses == expected_losses(6)
    assert view.warnings == ("2 lines of the job's log are damaged, what they said is missing",)


@pytest.mark.parametrize(
    "damage", ["{", "[]", '{"version": 99}', '{"version": 1, "kind": "bake", "created": 1, "config": {}}']
)
def test_a_job_of_another_version_is_left_out_and_can_be_deleted(
    damage: str, space: Workspace, open_jobs: Callable[..., Jobs], caplog: pytest.LogCaptureFixture
) -> None:
    jobs = open_jobs()
    good, bad = jobs.submit(a_training(2)), jobs.submit(a_training(2))
    jobs.wait(bad, 10)
    (space.jobs / bad / "job.json").write_text(damage)
    (space.jobs / "lost+found").mkdir()
    again = open_jobs()
    assert [v.id for v in again.list()] == [good]
    assert bad in caplog.text
    with pytest.raises(ConfigError):
        again.snapshot(bad)
    again.delete(bad)
    assert not (space.jobs / bad).exists()


def test_a_kill_between_the_last_event_and_the_status_is_no_interruption(
    space: Workspace, open_jobs: Callable[..., Jobs]
) -> None:
    jobs = open_jobs()
    job_id = jobs.submit(a_training(4))
    jobs.wait(job_id, 10)
    jobs.close()
    (space.jobs / job_id / "status.json").write_text('{"version": 1, "status": "running", "message": ""}')
    assert open_jobs().snapshot(job_id).status == "finished"


def test_opening_reads_no_log_of_a_job_that_is_over(
    space: Workspace, open_jobs: Callable[..., Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = open_jobs()
    over, live = jobs.submit(a_training(3)), jobs.submit(a_training(3))
    for job_id in (over, live):
        jobs.wait(job_id, 10)
    jobs.close()
    (space.jobs / live / "status.json").write_text('{"version": 1, "status": "running", "message": ""}')
    read: list[str] = []

    def noting(path: Path, *rest: Any) -> Any:
        read.append(path.parent.name)
        return read_lines(path, *rest)

    monkeypatch.setattr("synmotion_core.job_folder.read_lines", noting)
    again = open_jobs()
    assert set(read) == {live}
    assert json.loads((space.jobs / live / "status.json").read_text())["status"] == "finished"
    assert again.snapshot(over).losses == expected_losses(3), "read when somebody looks"


def test_a_deletion_keeps_nobody_waiting_and_is_finished_by_the_next_process(
    space: Workspace, open_jobs: Callable[..., Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = open_jobs()
    job_id = jobs.submit(A_GENERATION)
    jobs.wait(job_id, 10)
    export = space.exports(job_id) / "0.gif"
    export.parent.mkdir(parents=True)
    export.write_bytes(b"gif")
    real, left = shutil.rmtree, space.jobs / f".deleted-{job_id}"

    def dies(path: Path, **_: Any) -> None:
        other = threading.Thread(target=jobs.list)
        other.start()
        other.join(10)
        assert not other.is_alive(), "another looks meanwhile"
        raise OSError(errno.EIO, "the process has died")

    monkeypatch.setattr(shutil, "rmtree", dies)
    with pytest.raises(StorageError, match="could not be deleted whole"):
        jobs.delete(job_id)
    assert jobs.list() == ()
    assert left.is_dir()
    monkeypatch.setattr(shutil, "rmtree", real)
    (space.jobs / ".deleted-..").mkdir()  # no job's: what stands there is no path
    open_jobs()
    assert not left.exists()
    assert not export.parent.exists()
    assert not (space.videos / job_id).exists()
    assert space.root.exists()


# ------------------------------------------------------------------------------------------------ events as text

words = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=12)
texts = st.text(max_size=20)
counts = st.integers(0, 2**62)
numbers = st.floats(allow_nan=False)
paths = st.lists(words.filter(lambda w: w not in (".", "..") and "/" not in w), min_size=1, max_size=3).map(
    lambda p: Path(*p)
)
prompts = st.builds(Prompt, subject=words.map("a ".__add__), motion=words.map("does ".__add__), setting=words)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Started, what=texts, total=counts),
    st.builds(Progress, stage=texts, step=counts, total=counts, loss=st.none() | numbers, phase=st.none() | texts,
              seconds=st.none() | numbers, note=texts | st.sampled_from(["nan", "inf", "-inf"])),
    st.builds(Sampled, path=paths, prompt=prompts, seed=counts, step=counts, adapted=st.booleans()),
    st.builds(Saved, path=paths, step=counts, kind=st.sampled_from(["checkpoint", "adapter", "best"])),
    st.builds(Scored, step=counts, by=texts, score=numbers, best=st.booleans(), seconds=numbers,
              values=st.dictionaries(words, st.floats(allow_nan=False, allow_infinity=False), max_size=3)),
    st.builds(Warned, message=texts),
    st.builds(Noted, message=texts),
    st.builds(Stopped, step=counts),
    st.builds(Finished, path=st.none() | paths, seconds=numbers, best=st.none() | paths),
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(EVENTS, st.booleans())
def test_every_event_comes_back(event: Event, inside: bool) -> None:
    base = Path("/some/where")
    named = {name: path for name in ("path", "best") if isinstance(path := getattr(event, name, None), Path)}
    if inside:
        event = dataclasses.replace(event, **{name: base / path for name, path in named.items()})
    text = json.dumps(event_to_dict(event, base=base), allow_nan=False)
    assert ("/some/where" in text) is False
    back = event_from_dict(json.loads(text), base=base)
    if inside or not named:
        assert back == event
    assert event_from_dict(json.loads(json.dumps(event_to_dict(event)))) == event


def test_numbers_that_json_lacks() -> None:
    for loss in (float("nan"), float("inf"), -float("inf")):
        event = Progress(stage="train", step=1, total=2, loss=loss, note="nan")
        back = event_from_dict(json.loads(json.dumps(event_to_dict(event), allow_nan=False)))
        assert isinstance(back, Progress)
        assert str(back.loss) == str(loss)
        assert back.note == "nan"


GOOD = event_to_dict(Progress(stage="train", step=1, total=2))


@pytest.mark.parametrize(
    "record",
    [
        {}, [], {**GOOD, "extra": 1}, {**GOOD, "version": 2}, {**GOOD, "version": True}, {**GOOD, "kind": "melted"},
        {**GOOD, "kind": ["progress"]}, {**GOOD, "data": []}, {**GOOD, "data": {}},
        {**GOOD, "data": {**GOOD["data"], "step": "1"}}, {**GOOD, "data": {**GOOD["data"], "speed": 3}},
        {**GOOD, "data": {**GOOD["data"], "loss": "big"}},
        {"version": 1, "kind": "saved", "data": {"path": "x", "step": 1, "kind": "toast"}},
        {"version": 1, "kind": "scored", "data": {"step": 1, "by": "j", "score": 1, "best": True, "values": {"a": ""}}},
        {"version": 1, "kind": "sampled", "data": {"path": "x", "seed": 1, "prompt": {"subject": "", "motion": "x"}}},
    ],
    ids=repr,
)  # fmt: skip
def test_anything_else_is_refused(record: Any) -> None:
    with pytest.raises(UserInputError):
        event_from_dict(record)


def test_a_torn_line_is_left_for_later_and_removed_by_the_next_writer(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    whole = [line_to_bytes(Line(event=Stopped(step=i), time=1.5, attempt=1, clock=0.25)) for i in range(3)]
    for cut in range(len(whole[2])):
        path.write_bytes(whole[0] + whole[1] + whole[2][:cut])
        lines, offset, unreadable = read_lines(path)
        assert ([line.event for line in lines], unreadable) == ([Stopped(step=0), Stopped(step=1)], 0)
        assert offset == len(whole[0] + whole[1])
    log = EventLog(path)
    assert log.append(Line(event=Finished(), time=2.0, attempt=1, clock=0.5)) is None
    log.close()
    assert [line.event for line in read_lines(path)[0]] == [Stopped(step=0), Stopped(step=1), Finished()]
    path.write_bytes(whole[0])
    assert read_lines(path, 0)[1] == len(whole[0])
    path.write_bytes(whole[0] + whole[1])
    assert [line.event for line in read_lines(path, len(whole[0]))[0]] == [Stopped(step=1)]


# ------------------------------------------------------------------------------------------------ what a log adds up to


def folded(*events: Event | tuple[int, float, Event]) -> Ledger:
    ledger = Ledger()
    for index, item in enumerate(events):
        attempt, clock, event = item if isinstance(item, tuple) else (1, float(index), item)
        ledger.fold(Line(event=event, time=0.0, attempt=attempt, clock=clock))
    return ledger


def at(step: int, loss: float | None = None, stage: str = "train") -> Progress:
    return Progress(stage=stage, step=step, total=100, loss=loss)


def test_a_rollback_replaces_the_steps_done_again() -> None:
    ledger = folded(at(1, 1.0), at(2, 2.0), at(3, 3.0), Warned(message="rolled back"), at(2, 2.5), at(3, 3.5))
    assert ledger.losses == [(1, 1.0), (2, 2.5), (3, 3.5)]
    assert ledger.warnings == ["rolled back"]
    assert ledger.losses_after(2) == ((3, 3.5),)


def test_what_was_asked_to_be_known_is_kept_apart_from_warnings() -> None:
    ledger = folded(Noted(message="left out 33 %"), Warned(message="slow"))
    assert (ledger.notes, ledger.warnings) == (["left out 33 %"], ["slow"])


def test_pauses_between_attempts_and_clock_changes_do_not_count() -> None:
    ledger = folded((1, 0.0, at(1)), (1, 10.0, at(2)), (2, 1.0, at(3)), (2, 0.5, at(4)), (3, 2.0, at(5)))
    assert ledger.seconds == 13.0


def test_pace_is_of_this_stage_and_attempt() -> None:
    events = [(1, 0.0, at(1, stage="encode")), (1, 50.0, at(2, stage="encode"))]
    ledger = folded(*events, (1, 60.0, at(1)))
    assert ledger.pace() == (None, None)
    ledger = folded(*events, (1, 60.0, at(1)), (1, 62.0, at(2)), (1, 64.0, at(3)))
    assert ledger.pace() == (2.0, 2.0)
    steps = [dataclasses.replace(at(i), seconds=1.0) for i in (1, 2, 3)]
    ledger = folded(*[(1, 4.0 * i, s) for i, s in enumerate(steps)])
    assert ledger.pace() == (1.0, 4.0), "a typical step, and the pace with its pauses"
    ledger = folded(*[(1, 4.0 * i, s) for i, s in enumerate(steps)], (1, 20.0, at(1, stage="generate")))
    assert ledger.pace() == (1.0, None), "samples at the end do not hide how fast the training was"


def test_a_thousand_lines_are_read_in_no_time(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(
        b"".join(line_to_bytes(Line(event=at(i, 0.5), time=0.0, attempt=1, clock=i / 10)) for i in range(2000))
    )
    began = time.process_time()
    assert len(read_lines(path)[0]) == 2000
    assert time.process_time() - began < 4.0
