"""From files to clips: exactly the asked shape, or an error that says what to choose."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from synmotion_core.clips import dataset, video
from synmotion_core.clips.dataset import content_hash, load_clip, load_clips, to_pixels
from synmotion_core.clips.doctor import Cut
from synmotion_core.config import ClipSource
from synmotion_core.errors import ClipError, PromptError
from synmotion_core.types import Clip, Prompt, VideoShape
from tests.clips.files import H264, encode, numbered, numbers

PROMPT = Prompt(subject="a person", motion="claps")
SHAPE = VideoShape(num_frames=17, height=64, width=64, fps=8.0)


def load(path: Path, **choices: float) -> Clip:
    return load_clip(path, PROMPT, num_frames=17, height=64, width=64, fps=8.0, **choices)


def test_a_fitting_clip_comes_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "clap.mp4"
    video.write(path, numbered(17), 8.0)
    clip = load(path)
    assert np.array_equal(clip.frames, video.read(path)[0])
    assert (clip.name, clip.fps, clip.prompt) == ("clap.mp4", 8.0, PROMPT)
    assert clip.content_hash == load(path).content_hash == content_hash(clip.frames, 8.0)


def test_a_longer_clip_asks_for_a_choice_and_takes_it(tmp_path: Path) -> None:
    path = encode(tmp_path / "long.mp4", numbered(40), 8.0, *H264)
    with pytest.raises(ClipError, match=r"long\.mp4: 40 frames .* example start_s=0\.000 and end_s=2\.125"):
        load(path)
    assert numbers(load(path, start_s=0.0, end_s=2.125).frames) == list(range(17))
    assert numbers(load(path, start_s=1.0, end_s=3.125).frames) == list(range(8, 25))
    with pytest.raises(ClipError, match=r"16 frames .* too few.* or cut less away"):
        load(path, start_s=1.0, end_s=3.0)
    with pytest.raises(ClipError, match=r"ends at 9 s but the video lasts 5\.000 s"):
        load(path, end_s=9.0)
    cuts = dataset.windows(video.probe(path), 17)
    assert [numbers(load(path, start_s=c.start_s, end_s=c.end_s or 0.0).frames)[0] for c in cuts] == [0, 17]


def test_another_rate_asks_for_a_choice_and_takes_it(tmp_path: Path) -> None:
    path = encode(tmp_path / "fast.mp4", numbered(51), 24.0, *H264)
    with pytest.raises(ClipError, match="3 times slower"):
        load(path)
    kept_speed = load(path, resample_fps=8.0)
    assert numbers(kept_speed.frames) == list(range(0, 51, 3))
    kept_frames = load(path, resample_fps=24.0, start_s=0.5, end_s=29 / 24)
    assert numbers(kept_frames.frames) == list(range(12, 29))
    assert kept_speed.fps == kept_frames.fps == 8.0
    between = load(path, resample_fps=12.0, end_s=17 / 12)
    assert numbers(between.frames) == list(range(0, 34, 2))


def test_a_variable_rate_is_re_timed_by_its_own_times(tmp_path: Path) -> None:
    path = encode(tmp_path / "vfr.mp4", numbered(34), 16.0, *H264, "-vf", "select=not(between(n\\,8\\,13))",
                  "-fps_mode", "vfr")  # fmt: skip
    with pytest.raises(ClipError, match=r"varying rate.*resample_fps=8"):
        load(path)
    clip = load(path, resample_fps=8.0)
    assert numbers(clip.frames) == [0, 2, 4, 6, 7, 7, 7, *range(14, 34, 2)], "what was on screen, the gap included"


def test_a_shorter_clip_is_never_padded(tmp_path: Path) -> None:
    path = encode(tmp_path / "short.mp4", numbered(16), 8.0, *H264)
    with pytest.raises(ClipError, match="16 frames at 8 a second are too few: the backbone takes exactly 17"):
        load(path)


def test_the_middle_of_the_picture_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = np.zeros((17, 128, 256, 3), np.uint8)
    frames[:, :, 64:192] = np.repeat(np.repeat(numbered(17), 2, 1), 2, 2)  # black at both sides of the middle square
    path = encode(tmp_path / "wide.mp4", frames, 8.0, *H264)
    with caplog.at_level(logging.INFO):
        clip = load(path)
    assert clip.frames.shape == (17, 64, 64, 3)
    assert numbers(clip.frames) == list(range(17))
    assert clip.frames[:, :, :3].mean() > 35, "the black sides are gone"
    assert "of 256x128 the middle 128x128 is kept and made 64x64: 50 % of the picture is cut off" in caplog.text


@pytest.mark.parametrize(("height", "width"), [(33, 47), (500, 70), (71, 301), (64, 65), (20, 20)])
def test_any_size_becomes_the_asked_one(tmp_path: Path, height: int, width: int) -> None:
    path = encode(tmp_path / "odd.mp4", numbered(17, height, width), 8.0, "-pix_fmt", "yuv444p", "-preset", "ultrafast")
    assert load(path).frames.shape == (17, 64, 64, 3)


def test_a_still_clip_is_refused_after_decoding(tmp_path: Path) -> None:
    path = encode(tmp_path / "still.mp4", np.repeat(numbered(1, first=77), 17, 0), 8.0, *H264)
    with pytest.raises(ClipError, match=r"still\.mp4: nothing moves"):
        load(path)


def test_the_hash_names_frames_shape_and_rate() -> None:
    frames = numbered(5)
    changed = frames.copy()
    changed[3, 10, 10, 1] ^= 1
    hashes = {
        content_hash(frames, 8.0),
        content_hash(changed, 8.0),
        content_hash(frames, 16.0),
        content_hash(frames.reshape(5, 32, 128, 3), 8.0),
        content_hash(frames[::-1], 8.0),
    }
    assert len(hashes) == 5
    assert content_hash(frames[:, :, ::1], 8) == content_hash(frames, 8.0)
    assert all(len(h) == 64 for h in hashes)


def test_pixels_are_exact_and_ordered() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)
    pixels = to_pixels(frames)
    assert pixels.shape == (1, 3, 5, 6, 4)
    assert pixels.dtype == torch.float32
    assert float(pixels.abs().max()) <= 1
    assert to_pixels(np.array([[[[0, 255, 51]]]], np.uint8)).flatten().tolist() == pytest.approx([-1, 1, -0.6])
    back = ((pixels[0] + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).numpy()
    assert np.array_equal(back, frames)
    frames.flags.writeable = False
    to_pixels(frames)  # no complaint about memory that cannot be written


# ------------------------------------------------------------------------------------------------ many


def source(path: Path, **choices: float) -> ClipSource:
    return ClipSource(path=path, subject="a person", motion="claps", **choices)


def test_many_clips_come_in_order_with_their_findings(tmp_path: Path) -> None:
    a, b, c = (
        encode(tmp_path / f"{n}.mp4", numbered(17, first=k), 8.0, *H264) for n, k in (("a", 0), ("b", 99), ("c", 0))
    )
    loaded = load_clips([source(b), source(a), source(c)], SHAPE)
    assert [clip.name for clip in loaded.clips] == ["b.mp4", "a.mp4", "c.mp4"]
    assert [(f.code, f.clip) for f in loaded.findings] == [("duplicate", "c.mp4")]
    large = encode(tmp_path / "large.mp4", numbered(17, 128, 128), 8.0, *H264)
    told = load_clips([source(large), source(b)], SHAPE, puppets_only="p").findings
    assert [(f.code, f.clip) for f in told] == [("footage", "large.mp4")]


def test_every_clip_that_cannot_be_used_is_named_at_once(tmp_path: Path) -> None:
    good = encode(tmp_path / "good.mp4", numbered(17), 8.0, *H264)
    short = encode(tmp_path / "short.mp4", numbered(9), 8.0, *H264)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ClipError) as caught:
        load_clips([source(short), source(good), source(tmp_path / "text.mp4"), source(tmp_path / "gone.mp4")], SHAPE)
    message = str(caught.value)
    assert message.startswith("3 of 4 clips cannot be used:\n- short.mp4: 9 frames")
    assert "\n- text.mp4 is a text file" in message
    assert "\n- there is no file" in message
    assert "good.mp4" not in message


def test_a_source_is_anything_with_the_right_fields(tmp_path: Path) -> None:
    @dataclass
    class Mine:
        path: Path
        subject: str = "a person"
        motion: str = "a person"
        setting: str = "in the snow"
        start_s: float = 0.0
        end_s: float | None = None
        resample_fps: float | None = None

    path = encode(tmp_path / "clip.mp4", numbered(17), 8.0, *H264)
    with pytest.raises(PromptError):
        load_clips([Mine(path)], SHAPE)
    (clip,) = load_clips([Mine(path, motion="claps")], SHAPE).clips
    assert clip.prompt.text == "a person claps in the snow"


def test_the_page_can_import_this_without_waiting() -> None:
    code = "import sys, synmotion_core.clips; print(sorted({m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("torch", "diffusers", "transformers", "huggingface_hub", "gradio", "moviepy", "pandas"):
        assert f"'{heavy}'" not in done.stdout, heavy


def test_a_fix_can_be_passed_on(tmp_path: Path) -> None:
    path = encode(tmp_path / "phone.mp4", numbered(150, 96, 96), 30.0, *H264)
    cut = next(f.fix for f in dataset.check(path, SHAPE).findings if f.fix)
    assert cut == Cut(start_s=0.0, end_s=2.125, resample_fps=8.0)
    clip = load(path, start_s=cut.start_s, end_s=cut.end_s or 0.0, resample_fps=cut.resample_fps or 0.0)
    assert numbers(clip.frames) == [int(k * 3.75 + 0.03) for k in range(17)]
