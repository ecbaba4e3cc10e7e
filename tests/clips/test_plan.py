"""The plan of a cut is what a training sees: the frames of real files say their own numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from synmotion_core.clips import video
from synmotion_core.clips.dataset import load_clip
from synmotion_core.clips.doctor import Cut, retimed
from synmotion_core.clips.plan import frame_plan, in_words
from synmotion_core.types import Prompt
from tests.clips.files import H264, encode, numbered, numbers

PROMPT = Prompt(subject="a person", motion="waves")


@pytest.mark.parametrize(
    ("fps", "count", "cut", "num_frames"),
    [
        (8.0, 17, Cut(), 17),
        (8.0, 30, Cut(start_s=0.5, end_s=2.625), 17),
        (30.0, 90, Cut(start_s=0.2, end_s=2.325, resample_fps=8.0), 17),
        (8.0, 30, Cut(start_s=1.0, end_s=2.0, resample_fps=16.0), 16),
        (24.0, 60, Cut(resample_fps=16.0), 40),
        (8.0, 17, Cut(resample_fps=8.0), 17),
    ],
)
def test_a_training_sees_the_frames_of_the_plan(
    tmp_path: Path, fps: float, count: int, cut: Cut, num_frames: int
) -> None:
    path = encode(tmp_path / "clip.mp4", numbered(count), fps, *H264)
    info = video.probe(path)
    plan = frame_plan(info, cut)
    clip = load_clip(
        path, PROMPT, num_frames=num_frames, height=64, width=64, fps=plan.fps,
        start_s=cut.start_s, end_s=cut.end_s, resample_fps=cut.resample_fps,
    )  # fmt: skip
    assert numbers(clip.frames) == list(plan.frames)
    assert plan.retimed == retimed(info, cut)


def test_a_plan_is_said_in_one_sentence(tmp_path: Path) -> None:
    info = video.probe(encode(tmp_path / "clip.mp4", numbered(90), 30.0, *H264))
    cut = Cut(start_s=0.2, end_s=2.325, resample_fps=8.0)
    assert in_words(frame_plan(info, cut), info, cut, 8.0) == (
        "17 of 90 frames, 0.2 to 2.325 s, at 8 of 30 frames a second: every 3.75th."
    )
    third = Cut(end_s=1.7, resample_fps=10.0)
    said = in_words(frame_plan(info, third), info, third, 8.0)
    assert "every 3rd" in said
    assert said.endswith("They are played at 8: 1.25 times slower than in the file.")
    twice = Cut(end_s=0.5, resample_fps=60.0)
    said = in_words(frame_plan(info, twice), info, twice, 60.0)
    assert said == "30 frames from 15 of the file's 90, 0 to 0.5 s, at 60 of 30 frames a second: each one 2 times."
    every = Cut(end_s=0.5)
    said = in_words(frame_plan(info, every), info, every, 30.0)
    assert said == "15 of 90 frames, 0 to 0.5 s, at 30 frames a second: each one once."


def test_a_varying_rate_is_only_about(tmp_path: Path) -> None:
    options = ("-vf", "select=not(between(n\\,8\\,13))", "-fps_mode", "vfr")
    info = video.probe(encode(tmp_path / "clip.mp4", numbered(40), 16.0, *H264, *options))
    assert not info.constant_rate
    cut = Cut(end_s=2.125, resample_fps=8.0)
    plan = frame_plan(info, cut)
    assert len(plan.frames) == 17
    assert plan.frames[:8] == (0, 2, 4, 6, 7, 7, 7, 8), "what is on screen, the gap included"
    assert "of about 13.54 frames a second: about every 1.69th" in in_words(plan, info, cut, 8.0)
