"""A training on two processes, by accelerate's own launcher, is the training on one."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from synmotion_core import cli
from synmotion_core.clips import video
from synmotion_core.errors import ConfigError
from synmotion_core.evaluation.tasks import reference_clips
from synmotion_core.storage import read_tensors
from synmotion_core.training import together
from synmotion_core.training.together import ALONE, Group, asked

ROOT = Path(__file__).parents[2]


def launched(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`python -m synmotion_core train` on two processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    launch = [
        *("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", port),
    ]
    command = [sys.executable, "-m", *launch, "-m", "synmotion_core", "train", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=500, check=False)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for index, clip in enumerate(reference_clips("squat", 3, 0)):
        video.write(tmp_path / "clips" / f"{index}.mp4", clip.frames, clip.fps)
    return tmp_path / "clips"


def options(clips: Path, name: str, **changed: Any) -> list[str]:
    """A short SynMotion training with two prior videos, samples and scores."""
    train = {"num_steps": 6, "batch_size": 4, "mixed_precision": "no", "sample_every": 3, "save_every": 3} | changed
    settings = {f"train.{key}": value for key, value in train.items()} | {"priors.max_videos": 2, "method.alpha": 0.5}
    more = [part for key, value in settings.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    return ["--clips", str(clips), "--subject", "a person", "--motion", "squats", "--name", name, "--out", name, *more]


def apart(one: dict[str, Tensor], two: dict[str, Tensor], keys: list[str]) -> float:
    """How far two trainings are from each other, as a share of how far the first has come."""
    way = torch.cat([one[key].double().flatten() for key in keys])
    return float((torch.cat([two[key].double().flatten() for key in keys]) - way).norm() / way.norm())


@pytest.mark.slow
def test_two_processes_train_what_one_trains(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the same global batch: adapter, moments and samples, to rounding; the first process alone speaks."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *options(clips, "one", sample_subjects=["a red cat"])]) == cli.OK
    capsys.readouterr()
    done = launched(*options(clips, "two", sample_subjects=["a red cat"]), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().splitlines()[-1] == "two/two.safetensors"
    assert done.stdout.count(".safetensors") == 1
    assert done.stderr.count("keys apply") == 1
    one, two = (read_tensors(tmp_path / name / f"{name}.safetensors")[0] for name in ("one", "two"))
    assert one.keys() == two.keys()
    learnt = [key for key in one if "lora_B" in key or "zero" in key]  # what begins at zero
    assert len(learnt) > 40
    assert apart(one, two, learnt) < 1e-3
    states = [read_tensors(tmp_path / name / "state.safetensors") for name in ("one", "two")]
    moments = [key for key in states[0][0] if key.endswith("exp_avg")]
    assert apart(states[0][0], states[1][0], moments) < 1e-3
    about = [json.loads(meta["train"]) for _, meta in states]
    assert [one["step"] for one in about] == [6, 6]
    assert about[0]["settings"] == about[1]["settings"], "it is no other run"
    samples = [sorted(path.name for path in (tmp_path / name / "samples").rglob("*.mp4")) for name in ("one", "two")]
    assert samples[0] == samples[1]
    assert len(samples[0]) == 2


def test_a_batch_without_equal_shares_is_refused(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert cli.main(["train", *options(clips, "uneven", batch_size=3)]) == cli.REFUSED
    assert "train.batch_size 3 cannot be shared by 2 processes: use 2 or 4" in capsys.readouterr().err
    assert not (tmp_path / "uneven").exists()
    monkeypatch.setenv("RANK", "1")
    assert cli.main(["train", *options(clips, "uneven", batch_size=3)]) == cli.REFUSED
    assert capsys.readouterr().err == "", "said once"


def test_shares_are_equal_and_whole() -> None:
    rows = list(range(8))
    assert [rows[Group(rank=rank, size=4).share(8)] for rank in range(4)] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert rows[ALONE.share(8)] == rows
    Group(rank=1, size=4).check(8)
    for size, batch, near in ((3, 4, "use 3 or 6"), (8, 4, "use 8"), (5, 11, "use 10 or 15")):
        with pytest.raises(ConfigError, match=f"batch_size {batch} cannot be shared by {size} processes: {near}"):
            Group(size=size).check(batch)


def test_a_gradient_that_only_some_have_is_shared_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two experts a process runs those whose noise levels it drew: the other's gradient is the others' alone."""
    barrier, sent = threading.Barrier(2), {}

    def summed(values: Tensor) -> Tensor:
        mine = threading.get_ident()
        sent[mine] = values.clone()
        barrier.wait(20)
        total = sum(sent.values())
        barrier.wait(20)
        assert isinstance(total, Tensor)
        return total

    monkeypatch.setattr(together, "_sum", summed)

    def averaged(rank: int) -> list[Tensor | None]:
        high, low, frozen = (nn.Parameter(torch.zeros(2)) for _ in range(3))
        (high, low)[rank].grad = torch.full((2,), 4.0 + rank)
        Group(rank=rank, size=2).average([high, low, frozen])
        return [p.grad for p in (high, low, frozen)]

    with ThreadPoolExecutor(2) as both:
        found = list(both.map(averaged, range(2)))
    assert [[None if g is None else g.tolist() for g in one] for one in found] == [[[2.0, 2.0], [2.5, 2.5], None]] * 2


def test_alone_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([1.0, 2.0])
    ALONE.average([parameter])
    assert parameter.grad.tolist() == [1.0, 2.0]
    assert ALONE.mean(0.5) == 0.5
    assert ALONE.anyone(True)
    assert not ALONE.anyone(False)
    assert asked() == ALONE
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert asked() == Group(rank=1, size=2)
    assert not asked().leads
