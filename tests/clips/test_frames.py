"""Frames in memory: re-timing counts exactly and keeps the speed; pairs and sheets refuse what does not fit."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synmotion_core.clips.frames import contact_sheet, png, resample, resampled_count, side_by_side
from synmotion_core.errors import ShapeError
from tests.clips.files import numbered, numbers

RATES = st.sampled_from([5.0, 8.0, 12.0, 12.5, 16.0, 24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 60.0])


@pytest.mark.parametrize(
    ("count", "fps", "target", "expected"),
    [
        (17, 8.0, 8.0, list(range(17))),
        (49, 16.0, 16.0, list(range(49))),  # MoviePy's own iteration would give 48
        (81, 16.0, 16.0, list(range(81))),  # and 80
        (24, 12.0, 12.0, list(range(24))),  # and 23
        (34, 16.0, 8.0, list(range(0, 34, 2))),
        (5, 8.0, 16.0, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]),
        (6, 12.0, 8.0, [0, 1, 3, 4]),
        (4, 8.0, 12.0, [0, 0, 1, 2, 2, 3]),
        (1, 8.0, 24.0, [0, 0, 0]),
    ],
)
def test_resampling_shows_what_was_on_screen(count: int, fps: float, target: float, expected: list[int]) -> None:
    assert numbers(resample(numbered(count, 16, 32), fps, target)) == expected


@given(count=st.integers(1, 120), fps=RATES, target=RATES)
def test_resampling_keeps_speed_and_length(count: int, fps: float, target: float) -> None:
    out = numbers(resample(numbered(count, 8, 16), fps, target))
    assert len(out) == resampled_count(count / fps, target)
    assert abs(len(out) / target - count / fps) <= 1 / target + 1e-9, "the length is kept to a frame"
    for k, shown in enumerate(out):
        assert shown / fps <= k / target + 1e-3, "a frame is never shown early"
        assert shown == count - 1 or (shown + 1) / fps > k / target + 1e-3, "nor late"
    if target >= fps:
        assert sorted(set(out)) == list(range(count)), "a faster rate leaves nothing out"


def test_times_of_a_variable_rate_are_followed() -> None:
    out = resample(numbered(4, 8, 16), 8.0, 8.0, timestamps_s=[0.0, 0.125, 0.75, 0.875], seconds=1.125)
    assert numbers(out) == [0, 1, 1, 1, 1, 1, 2, 3, 3]
    out = resample(numbered(4, 8, 16), 8.0, 8.0, timestamps_s=[0.0, 0.25, 0.25, 0.375], seconds=0.5)
    assert numbers(out) == [0, 0, 2, 3], "of two at one time the later"


@pytest.mark.parametrize(
    "settings",
    [
        {"fps": 0.0, "target_fps": 8.0},
        {"fps": 8.0, "target_fps": -1.0},
        {"fps": 8.0, "target_fps": 8.0, "timestamps_s": [0.0, 0.1]},
        {"fps": 8.0, "target_fps": 8.0, "timestamps_s": [0.0, 0.2, 0.1]},
        {"fps": 8.0, "target_fps": 8.0, "timestamps_s": [0.5, 0.6, 0.7]},
        {"fps": 8.0, "target_fps": 8.0, "seconds": 0.2},
    ],
)
def test_impossible_times_are_refused(settings: dict) -> None:
    with pytest.raises(ShapeError):
        resample(numbered(3, 8, 16), **settings)


def test_side_by_side() -> None:
    left, right = numbered(3, 16, 32), numbered(3, 16, 64, first=5)
    pair = side_by_side(left, right, gap=4)
    assert pair.shape == (3, 16, 100, 3)
    assert np.array_equal(pair[:, :, :32], left)
    assert np.array_equal(pair[:, :, 36:], right)
    assert (pair[:, :, 32:36] == 255).all()
    with pytest.raises(ShapeError, match="3 frames of height 16 and 4 frames of height 16"):
        side_by_side(left, numbered(4, 16, 32))
    with pytest.raises(ShapeError):
        side_by_side(left, numbered(3, 18, 32))


def test_a_contact_sheet_shows_first_and_last() -> None:
    sheet = contact_sheet([numbered(17), numbered(3, first=9)], ["a кошка", "b"], columns=5, label_px=60)
    assert sheet.shape == (2 * 66, 60 + 5 * 66, 3)
    assert sheet.dtype == np.uint8
    assert numbers(np.stack([sheet[:64, 60 + 66 * c : 124 + 66 * c] for c in range(5)])) == [0, 4, 8, 12, 16]
    assert numbers(np.stack([sheet[66:130, 60 + 66 * c : 124 + 66 * c] for c in range(3)])) == [9, 10, 11]
    assert (sheet[66:130, 60 + 66 * 3 :] == 255).all()
    assert (sheet[:64, :60] < 128).any(), "the label is drawn"
    with pytest.raises(ShapeError, match="got 1 for 2 videos"):
        contact_sheet([numbered(3), numbered(3)], ["a"])
    with pytest.raises(ShapeError, match="64x64 and 32x64"):
        contact_sheet([numbered(3), numbered(3, 64, 32)], ["a", "b"])


def test_a_long_label_is_broken_into_lines_within_its_row() -> None:
    words = "a purple elephant does a handstand, brings hands up, tips upside down, keeps hands out, rotates, and more"
    short, long = (contact_sheet([numbered(3)], [text])[:64, :120] < 128 for text in ("a purple elephant", words))
    assert short.any(axis=(1, 2)).nonzero()[0].max() < 16, "one line"
    assert long.any(axis=(1, 2)).nonzero()[0].min() < 16
    assert long.any(axis=(1, 2)).nonzero()[0].max() > 48, "several"
    assert not long[:, 117:].any(), "none runs into the pictures"


def test_png_is_lossless_rgb() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    back = cv2.imdecode(np.frombuffer(png(image), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(cv2.cvtColor(back, cv2.COLOR_BGR2RGB), image)
