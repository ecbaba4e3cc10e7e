"""What cameras and browsers write: frames at any times, two in one millisecond, no length of the last one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from synmotion_core.clips import video
from synmotion_core.clips.doctor import Cut
from synmotion_core.clips.ffmpeg import ClipRefused
from synmotion_core.clips.plan import frame_plan
from synmotion_core.types import Frames
from tests.clips.files import encode, run_ffmpeg


def from_a_busy_browser(path: Path, times_ms: list[int], *, last_ms: int = 50, frames: Frames | None = None) -> Path:
    """A WebM, of numbered grays, with these times, as Chrome's MediaRecorder writes them on a busy machine."""
    plain = path.with_name(f"even-{path.name}")
    grays = np.repeat(np.arange(len(times_ms), dtype=np.uint8)[:, None] * 10 + 20, 32 * 32 * 3, axis=1)
    frames = grays.reshape(-1, 32, 32, 3) if frames is None else frames
    encode(plain, frames, 10.0, "-b:v", "2M", codec="libvpx")
    at = "+".join(f"eq(N\\,{n})*{ms}" for n, ms in enumerate(times_ms))
    length = f"if(eq(N\\,{len(times_ms) - 1})\\,{last_ms}\\,DURATION)"
    run_ffmpeg("-i", f"file:{plain}", "-c", "copy", "-bsf:v", f"setts=ts={at}:duration={length}", f"file:{path}")
    return path


@pytest.mark.parametrize(
    ("times_ms", "last_ms"),
    [
        ([0, 50, 58, 66, 200, 250, 300], 50),  # closer than at any rate that ffmpeg guesses
        ([0, 34, 34, 100, 150, 151, 151, 151, 200], 50),  # several in one millisecond
        ([0, 50, 100, 190, 200, 310], 1),  # no length of the last one
        ([0, 0, 50, 100], 1),
    ],
)
def test_recordings_of_a_busy_browser_are_read_whole(tmp_path: Path, times_ms: list[int], last_ms: int) -> None:
    path = from_a_busy_browser(tmp_path / "camera.webm", times_ms, last_ms=last_ms)
    info = video.probe(path)
    assert info.timestamps_s == pytest.approx([t / 1000 for t in times_ms])
    assert not info.constant_rate
    frames, _ = video.read(path)
    assert frames[:, 16, 16, 0] == pytest.approx(np.arange(len(times_ms)) * 10 + 20, abs=6), "each once, in order"
    plan = frame_plan(info, Cut(resample_fps=8.0))
    ends = [*times_ms[1:], 1000 * info.duration_s]
    for k, number in enumerate(plan.frames):
        assert times_ms[number] - 1.001 <= 125 * k < ends[number], "what is on screen then"


def test_times_that_stand_still_or_run_backwards_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClipRefused, match="stand still: export it again"):
        video.probe(from_a_busy_browser(tmp_path / "still.webm", [0, 0, 0]))
    path = from_a_busy_browser(tmp_path / "clip.webm", [0, 50, 100])
    line = video._decode_timeline(path, "webm", video.LIMITS)
    monkeypatch.setattr(video, "_decode_timeline", lambda *_: replace(line, ticks=(0, 100, 50)))  # ffmpeg mends a file
    with pytest.raises(ClipRefused, match="run backwards"):
        video.probe(path)
