"""A real file with hard cuts is taken apart exactly where its scenes begin; what is too short is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synmotion_core.clips import video
from synmotion_core.clips.dataset import check
from synmotion_core.clips.doctor import Cut
from synmotion_core.clips.takes import split, takes
from synmotion_core.types import Frames, VideoShape
from tests.clips.files import H264, encode

SHAPE = VideoShape(num_frames=17, height=64, width=64, fps=8.0)


def scenes(*lengths: int) -> Frames:
    """Takes of a moving square, each in colours of its own."""
    rng = np.random.default_rng(3)
    grounds = [rng.integers(0, 255, (64, 64, 3)) // 3 + np.array(c) for c in ((0, 150, 0), (160, 0, 0), (0, 0, 165))]
    out = []
    for which, length in enumerate(lengths):
        for i in range(length):
            frame = grounds[which % 3].astype(np.uint8)
            frame[20:40, i + 2 : i + 18] = (240, 240, 60)
            out.append(frame)
    return np.stack(out)


def test_one_clip_becomes_its_takes(tmp_path: Path) -> None:
    path = encode(tmp_path / "film.mp4", scenes(20, 6, 18), 8.0, *H264)
    info = video.probe(path)
    frames, _ = video.read(path)
    found = takes(info, SHAPE, Cut(), frames)
    assert [(t.cut.start_s, t.cut.end_s, t.num_frames, t.long_enough) for t in found] == [
        (0.0, 2.5, 20, True),
        (2.5, 3.25, 6, False),
        (3.25, 5.5, 18, True),
    ]
    assert found[1].seconds == "2.5 to 3.25 s"
    spans = [info.span(t.cut.start_s, t.cut.end_s) for t in found]
    assert spans == [(0, 20), (20, 26), (26, 44)], "every frame is in exactly one take"
    for take in found:
        assert "cut" not in {f.code for f in check(path, SHAPE, take.cut).findings}, "a take has no cut in it"


def test_the_cut_and_the_rate_of_a_clip_are_kept(tmp_path: Path) -> None:
    path = encode(tmp_path / "film.mp4", scenes(50, 40), 24.0, *H264)
    info = video.probe(path)
    cut = Cut(start_s=0.5, end_s=3.5, resample_fps=12.0)
    first, stop = info.span(cut.start_s, cut.end_s)
    found = takes(info, SHAPE, cut, video.read(path, start_s=0.5, end_s=3.5)[0])
    assert [t.cut for t in found] == [
        Cut(start_s=0.5, end_s=2.083, resample_fps=12.0),
        Cut(start_s=2.083, end_s=3.5, resample_fps=12.0),
    ]
    assert [t.num_frames for t in found] == [19, 17]
    assert [info.span(t.cut.start_s, t.cut.end_s) for t in found] == [(first, 50), (50, stop)]
    at_its_own = split(info, SHAPE, Cut(), [50])
    assert [t.num_frames for t in at_its_own] == [17, 14], "judged at the backbone's rate, as the doctor does"


def test_one_take_is_one_take(tmp_path: Path) -> None:
    path = encode(tmp_path / "film.mp4", scenes(20), 8.0, *H264)
    found = takes(video.probe(path), SHAPE, Cut(), video.read(path)[0])
    assert len(found) == 1
    assert found[0].long_enough


@pytest.mark.parametrize(
    ("changes", "end_s", "at", "spans"),
    [
        ({1: 0.0004}, None, [1], [(0, 44)]),
        ({1: 0.0004}, None, [1, 20], [(0, 20), (20, 44)]),
        ({21: 2.5004}, None, [20, 21], [(0, 20), (20, 44)]),
        ({15: 1.9992}, 2.0004, [15], [(0, 15)]),
        ({15: 1.9992}, 2.0004, [4, 15], [(0, 4), (4, 15)]),
    ],
)
def test_a_take_that_no_cut_can_tell_apart_joins_its_neighbour(
    tmp_path: Path, changes: dict[int, float], end_s: float | None, at: list[int], spans: list[tuple[int, int]]
) -> None:
    info = video.probe(encode(tmp_path / "film.mp4", scenes(20, 6, 18), 8.0, *H264))
    times = tuple(changes.get(i, t) for i, t in enumerate(info.timestamps_s))
    info = replace(info, timestamps_s=times, constant_rate=False)
    found = split(info, SHAPE, Cut(end_s=end_s), at)
    assert [info.span(t.cut.start_s, t.cut.end_s) for t in found] == spans


@pytest.mark.parametrize("at", [[1], [43], [1, 2, 3]])
def test_takes_together_are_the_clip(tmp_path: Path, at: list[int]) -> None:
    info = video.probe(encode(tmp_path / "film.mp4", scenes(20, 6, 18), 29.97, *H264))
    spans = [info.span(t.cut.start_s, t.cut.end_s) for t in split(info, SHAPE, Cut(), at)]
    assert [a for a, _ in spans] == [0, *at]
    assert [b for _, b in spans] == [*at, 44]
