"""GIF: every frame, for as long as it stays in the video."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from synmotion_core.clips.gif import delays, gif, rounding
from synmotion_core.errors import ShapeError


@pytest.mark.parametrize("fps", [8.0, 10.0, 16.0, 24.0, 29.97, 50.0])
def test_delays_never_drift(fps: float) -> None:
    ends = np.cumsum(delays(200, fps)) / 100
    assert np.abs(ends - np.arange(1, 201) / fps).max() <= 0.005 + 1e-9
    assert (rounding(200, fps) is None) == (fps in (10.0, 50.0))


def test_a_rounded_rate_is_said() -> None:
    said = "at 8 frames a second each stays for 12 or 13 of them, 2.12 s in all instead of 2.125."
    assert str(rounding(17, 8.0)).endswith(said)


def test_the_frames_are_those_of_the_video() -> None:
    frames = np.zeros((5, 8, 12, 3), np.uint8)
    for i, frame in enumerate(frames):
        frame[:, : 2 * i + 1] = (40 * i, 200, 10)
    with Image.open(io.BytesIO(gif(frames, 8.0))) as image:
        seen = [np.asarray(one.convert("RGB")) for one in ImageSequence.Iterator(image)]
        stays = [one.info["duration"] for one in ImageSequence.Iterator(image)]
        assert image.info["loop"] == 0
    assert np.array_equal(np.stack(seen), frames)
    assert stays == [120, 130, 120, 130, 120]


@pytest.mark.parametrize("fps", [0.0, 60.0, float("nan")])
def test_what_no_gif_can_show(fps: float) -> None:
    with pytest.raises(ShapeError, match=r"a GIF shows 0\.1 to 50 frames a second, got"):
        gif(np.zeros((2, 4, 4, 3), np.uint8), fps)
    with pytest.raises(ShapeError, match="needs a frame"):
        gif(np.zeros((0, 4, 4, 3), np.uint8), 8.0)
