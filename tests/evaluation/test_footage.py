"""Clips of one's own: nothing about them is silent, and they are decoded once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from synmotion_core.backbones import find_spec
from synmotion_core.clips import video
from synmotion_core.evaluation import footage
from synmotion_core.evaluation.footage import Footage
from synmotion_core.evaluation.tasks import BACKBONE, reference_clips


@pytest.fixture
def own(tmp_path: Path) -> Footage:
    for index, clip in enumerate(reference_clips("squat", 2, 0)):
        video.write(tmp_path / f"{index}.mp4", clip.frames, clip.fps)
    return Footage(clips=tmp_path, words="squats")


def test_what_the_doctor_warns_of_is_said_once(own: Footage, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copyfile(own.clips / "0.mp4", own.clips / "2.mp4")
    for _ in range(3):
        assert len(footage.read(own, 3, find_spec(BACKBONE))) == 3
    said = [record.getMessage() for record in caplog.records if record.name == footage.__name__]
    assert len(said) == len(set(said)) >= 1
    assert any(own.clips.name in one and "0.mp4" in one and "2.mp4" in one for one in said), "the same clip twice"


def test_a_name_of_the_clips_reads_them_once_until_they_change(own: Footage, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, reads, read = find_spec(BACKBONE), list[Any](), footage.load_clips
    monkeypatch.setattr(footage, "load_clips", lambda *args, **how: reads.append(args) or read(*args, **how))
    first = footage.digest(own, 2, spec)
    assert {footage.digest(own, 2, spec) for _ in range(5)} == {first}
    assert len(reads) == 1
    assert footage.digest(own, 1, spec) != first
    clip = reference_clips("spin", 1, 0)[0]
    video.write(own.clips / "0.mp4", clip.frames, clip.fps)
    assert footage.digest(own, 2, spec) != first
    shutil.copyfile(own.clips / "0.mp4", own.clips / "1.mp4")
    assert len({footage.digest(own, 2, spec) for _ in range(2)}) == 1
