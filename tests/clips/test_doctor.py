"""The doctor: facts block, judgements warn, and a fix that it proposes really helps."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from synmotion_core.clips import dataset, doctor, video
from synmotion_core.clips.doctor import Cut, Finding
from synmotion_core.clips.video import VideoInfo
from synmotion_core.puppets.motions import MOTIONS
from synmotion_core.puppets.species import SPECIES
from synmotion_core.puppets.stage import BACKGROUNDS, COLOURS, Scene, render
from synmotion_core.types import Frames, VideoShape
from tests.clips.files import H264, encode, numbered

PUPPET = VideoShape(num_frames=17, height=64, width=64, fps=8.0)
WAN = VideoShape(num_frames=81, height=480, width=832, fps=16.0)


def made_up(count: int, fps: float, width: int = 64, height: int = 64, times: list[float] | None = None) -> VideoInfo:
    stamps = tuple(i / fps for i in range(count)) if times is None else tuple(times)
    return VideoInfo(
        container="mp4", codec="h264", width=width, height=height, fps=fps, num_frames=count,
        duration_s=count / fps if times is None else times[-1] + 1 / fps, constant_rate=times is None, has_audio=False,
        rotated=False, hdr=False, video_tracks=1, file_bytes=1, timestamps_s=stamps,
    )  # fmt: skip


def codes(findings: list[Finding], *severities: str) -> list[str]:
    return [f.code for f in findings if f.severity in (severities or ("block", "warn", "info"))]


def one(findings: list[Finding], code: str) -> Finding:
    found = [f for f in findings if f.code == code]
    assert len(found) == 1, codes(findings)
    return found[0]


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Something like a photograph: noise at several scales. uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for scale in (4, 8, 16, 32):
        small = rng.normal(0, scale, (height // scale + 2, width // scale + 2, 3))
        total += cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(120 + 1.2 * total + rng.normal(0, 6, total.shape), 0, 255).astype(np.uint8)


def pan(count: int, height: int = 96, width: int = 128, step: int = 5, seed: int = 0) -> Frames:
    """A camera that moves over a textured scene."""
    wide = texture(height, width + step * count, seed)
    return np.stack([wide[:, step * i : step * i + width] for i in range(count)])


# ------------------------------------------------------------------------------------------------ puppets are fine


def test_a_puppet_clip_is_fine_on_the_puppet_backbone() -> None:
    frames = render(Scene(species="person", colour="red", background="room", motion="clap", seed=3)).frames
    assert doctor.examine(made_up(17, 8.0), PUPPET, frames=frames, puppets_only="puppet-hunyuan") == []


def test_no_motion_of_the_world_raises_a_false_alarm() -> None:
    turns = list(itertools.product(MOTIONS, BACKGROUNDS))
    for k, (motion, background) in enumerate(turns):
        if k % 4:
            continue
        species, colour = list(SPECIES)[k % len(SPECIES)], list(COLOURS)[k % len(COLOURS)]
        scene = Scene(species=species, colour=colour, background=background, motion=motion, seed=k)
        frames = render(scene).frames
        assert doctor.examine(made_up(17, 8.0), PUPPET, frames=frames, puppets_only="p") == [], scene


# ------------------------------------------------------------------------------------------------ rate and length


@pytest.mark.parametrize(
    ("info", "shape", "expected", "words"),
    [
        (made_up(1, 8.0), PUPPET, ["one_frame"], "one frame only, a motion needs 17"),
        (
            made_up(12, 8.0),
            PUPPET,
            ["too_short"],
            r"12 frames at 8 .* takes exactly 17 \(2.125 s\)\. Use a longer clip",
        ),
        (made_up(18, 8.0), PUPPET, ["too_long"], r"18 frames .* example start_s=0\.000 and end_s=2\.125"),
        (
            made_up(51, 24.0),
            PUPPET,
            ["frame_rate"],
            "3 times slower.*resample_fps=8 keeps its speed, resample_fps=24 keeps",
        ),
        (made_up(9, 4.0), PUPPET, ["frame_rate", "too_long"], "2 times faster"),
        (made_up(30, 30.0), PUPPET, ["frame_rate", "too_short"], "8 frames at 8 a second are too few"),
        (made_up(81, 16.0, 832, 480), WAN, [], ""),
        (made_up(120, 24.0, 832, 480), WAN, ["frame_rate", "too_short"], "1.5 times slower"),
        (made_up(5, 8.0, times=[0, 0.125, 0.5, 0.625, 2.0]), PUPPET, ["variable_rate"], "varying rate"),
    ],
)
def test_rate_and_length(info: VideoInfo, shape: VideoShape, expected: list[str], words: str) -> None:
    found = doctor.examine(info, shape)
    assert sorted(codes(found, "block")) == sorted(expected)
    if words:
        assert re.search(words, " / ".join(f.message for f in found)), found


@pytest.mark.parametrize(
    ("frames", "multiple", "words"),
    [
        (31, 4, ", or num_frames=29, the most of 4k + 1 that it has"),
        (29, 4, ", or num_frames=29, the most"),
        (31, 1, ", or num_frames=31, the most of 1k + 1"),
        (4, 4, None),  # 1 of 4k + 1 is no motion
        (31, 0, None),
    ],
)
def test_of_a_clip_that_is_too_short_the_frames_that_fit_are_named(
    frames: int, multiple: int, words: str | None
) -> None:
    (found,) = doctor.examine(made_up(frames, 16.0, 832, 480), WAN, frame_multiple=multiple)
    assert found.code == "too_short"
    assert words in found.message if words else found.message.endswith("Use a longer clip")


@pytest.mark.parametrize(
    ("width", "height", "words"),
    [
        (480, 854, "68 % of the picture is cut off. Swap height and width: height=832 and width=480 cut off 3 %"),
        (480, 480, "42 % of the picture is cut off"),  # as much either way
        (2000, 480, "58 % of the picture is cut off"),  # more the other way
        (832, 448, "7 % of the picture is cut off"),  # too little to turn anything
    ],
)
def test_of_a_large_crop_the_size_that_loses_less_is_named(width: int, height: int, words: str) -> None:
    found = next(f for f in doctor.fit(width, height, WAN) if f.code == "crop")
    assert found.message.endswith(words), found.message


def test_rates_that_mean_the_same_are_taken_and_told() -> None:
    info = made_up(81, 16000 / 1001, 832, 480)
    assert [(f.code, f.severity) for f in doctor.examine(info, WAN)] == [("rate", "info")]
    assert "15.984" in doctor.examine(info, WAN)[0].message


def test_the_files_own_rate_accepts_another_speed() -> None:
    info = made_up(17, 30.0)
    found = doctor.examine(info, PUPPET, Cut(resample_fps=30.0))
    assert [(f.code, f.severity) for f in found] == [("speed", "warn")]
    assert "3.75 times slower" in found[0].message
    assert doctor.frames_used(info, Cut(resample_fps=30.0)) == 17


def test_re_timing_is_told() -> None:
    found = doctor.examine(made_up(34, 16.0), PUPPET, Cut(resample_fps=8.0))
    assert [(f.code, f.severity) for f in found] == [("retimed", "info")]


def test_a_cut_beyond_the_file_blocks() -> None:
    found = doctor.examine(made_up(17, 8.0), PUPPET, Cut(end_s=9.0))
    assert [(f.code, f.severity) for f in found] == [("trim", "block")]


SHAPES = st.builds(
    lambda k, fps: VideoShape(num_frames=4 * k + 1, height=64, width=64, fps=fps),
    st.integers(1, 32),
    st.sampled_from([8.0, 15.0, 16.0, 24.0]),
)
FILES = st.builds(
    made_up,
    st.integers(2, 600),
    st.sampled_from([8.0, 10.0, 12.5, 16.0, 23.976, 24.0, 25.0, 29.97, 30.0, 50.0, 60.0, 120.0]),
)


@given(info=FILES, shape=SHAPES, start=st.integers(0, 100), rate=st.sampled_from([None, 8.0, 16.0, 24.0]))
def test_following_the_fixes_leads_to_a_usable_clip(
    info: VideoInfo, shape: VideoShape, start: int, rate: float | None
) -> None:
    assume(start < info.num_frames)
    cut = Cut(start_s=info.timestamps_s[start], resample_fps=rate)
    for _ in range(3):
        blocking = doctor.blocking(doctor.examine(info, shape, cut))
        fixes = [f.fix for f in blocking if f.fix is not None]
        if not fixes:
            break
        cut = fixes[-1]
        cut = Cut(start_s=round(cut.start_s, 3), end_s=None if cut.end_s is None else round(cut.end_s, 3),
                  resample_fps=cut.resample_fps)  # as a page shows it  # fmt: skip
    assert set(codes(blocking)) <= {"too_short", "one_frame"}, (blocking, cut)
    if not blocking:
        assert doctor.frames_used(info, cut) == shape.num_frames


@given(info=FILES, shape=SHAPES, rate=st.sampled_from([None, 8.0, 24.0]))
def test_windows_tile_a_file_exactly(info: VideoInfo, shape: VideoShape, rate: float | None) -> None:
    cuts = dataset.windows(info, shape.num_frames, Cut(resample_fps=rate))
    for cut in cuts:
        assert doctor.frames_used(info, cut) == shape.num_frames
    for a, b in itertools.pairwise(cuts):
        assert a.end_s == b.start_s
    spans = [info.span(cut.start_s, cut.end_s) for cut in cuts]
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans)), "windows overlap"
    if rate is None:
        assert len(cuts) == info.num_frames // shape.num_frames
    else:
        assert (len(cuts) + 1) * shape.num_frames / rate > info.duration_s - 2 / info.fps - 2 / rate


def test_windows_stay_within_a_cut() -> None:
    info = made_up(100, 8.0)
    cuts = dataset.windows(info, 17, Cut(start_s=1.0, end_s=6.0))
    assert [info.span(c.start_s, c.end_s) for c in cuts] == [(8, 25), (25, 42)]
    assert dataset.windows(made_up(16, 8.0), 17) == []


# ------------------------------------------------------------------------------------------------ pictures


def test_cuts_are_found_and_the_longest_take_is_proposed() -> None:
    room = render(Scene(species="person", colour="red", background="room", motion="wave", seed=1)).frames
    night = render(Scene(species="person", colour="blue", background="night", motion="wave", seed=2)).frames
    frames = np.concatenate([room[:5], night[:12]])
    found = doctor.examine(made_up(17, 8.0), PUPPET, frames=frames)
    cut = one(found, "cut")
    assert cut.severity == "warn"
    assert "0.625 s" in cut.message
    assert cut.fix == Cut(start_s=0.625, end_s=2.125)
    footage = np.concatenate([pan(20, seed=1), pan(10, seed=2) // 2, pan(10, seed=3)])
    assert doctor.find_cuts(footage) == [20, 30]


def test_a_moving_camera_and_a_flicker_are_no_cuts() -> None:
    assert doctor.find_cuts(pan(40, step=9)) == []
    rng = np.random.default_rng(0)
    noisy = np.stack([np.clip(f + rng.normal(0, 25, f.shape), 0, 255).astype(np.uint8) for f in pan(20, step=2)])
    assert doctor.find_cuts(noisy) == []
    fade = np.stack([(f * (1 - k / 24)).astype(np.uint8) for k, f in enumerate(pan(24, step=1))])
    assert doctor.find_cuts(fade) == []


def test_a_still_video_blocks_and_a_hardly_moving_one_warns() -> None:
    picture = texture(128, 128)
    rng = np.random.default_rng(0)
    still = np.stack(
        [np.clip(picture + rng.integers(-3, 4, picture.shape), 0, 255).astype(np.uint8) for _ in range(17)]
    )
    info = made_up(17, 8.0, 128, 128)
    assert one(doctor.examine(info, PUPPET, frames=still), "still").severity == "block"
    hand = still.copy()
    for k in range(17):
        hand[k, 40 + k % 3 : 43 + k % 3, 60:63] = 255
    found = doctor.examine(info, PUPPET, frames=hand)
    assert one(found, "hardly_moves").severity == "warn"
    assert not doctor.blocking(found)
    frames = render(Scene(species="person", colour="red", background="room", motion="stand", seed=0)).frames
    assert doctor.examine(made_up(17, 8.0), PUPPET, frames=frames) == [], "breathing is movement"


def test_darkness_is_judged_by_most_of_the_frames() -> None:
    info = made_up(17, 8.0, 128, 96)
    bright = pan(17)
    found = doctor.examine(info, PUPPET, frames=bright // 12)
    assert one(found, "dark").severity == "warn"
    partly = bright.copy()
    partly[:8] //= 12
    assert "dark" not in codes(doctor.examine(info, PUPPET, frames=partly))


@pytest.mark.parametrize(
    ("width", "height", "code", "severity", "words"),
    [
        (1920, 1080, "crop", "warn", "the middle 1080x1080 is kept and made 64x64: 44 %"),
        (72, 64, "crop", "info", "of 72x64 the middle 64x64 is kept.* 11 %"),
        (1080, 1920, "crop", "warn", "the middle 1080x1080"),
        (32, 32, "enlarged", "warn", "32x32 is enlarged 2 times"),
    ],
)
def test_what_happens_to_the_picture_is_told(width: int, height: int, code: str, severity: str, words: str) -> None:
    finding = one(doctor.examine(made_up(17, 8.0, width, height), PUPPET), code)
    assert finding.severity == severity
    assert re.search(words, finding.message), finding.message


def test_real_footage_on_puppets_names_the_backbones_that_can() -> None:
    for info, frames in ((made_up(17, 8.0, 1920, 1080), None), (made_up(17, 8.0), pan(17, 64, 64))):
        finding = one(doctor.examine(info, PUPPET, frames=frames, puppets_only="puppet-hunyuan"), "footage")
        assert finding.severity == "warn"
        for words in ("puppet-hunyuan only knows 64x64 puppets", "hunyuanvideo", "GPU"):
            assert words in finding.message
    assert "footage" not in codes(doctor.examine(made_up(17, 8.0, 1920, 1080), PUPPET)), "only said where it matters"


def test_near_duplicates_are_found_and_relatives_are_not(tmp_path: Path) -> None:
    for motion in ("wave", "squat", "liftarm"):
        takes = [
            render(Scene(species="person", colour="red", background="room", motion=motion, seed=seed)).frames
            for seed in range(6)
        ]
        encode(tmp_path / "again.mp4", takes[0], 8.0, "-pix_fmt", "yuv420p", "-crf", "23")
        again, _ = video.read(tmp_path / "again.mp4")
        clips = [*((f"take {k}", take) for k, take in enumerate(takes)), ("copy", again), ("part", takes[0][:9])]
        found = doctor.near_duplicates(clips)
        assert [(f.clip, f.severity) for f in found] == [("copy", "warn")], motion
        assert "copy shows the same as take 0" in found[0].message


def test_blocking_findings_come_first() -> None:
    found = doctor.examine(made_up(12, 8.0, 1920, 1080), PUPPET, puppets_only="p")
    assert [f.severity for f in found] == ["block", "warn", "warn"]


def test_a_checkup_never_raises_and_agrees_with_loading(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", numbered(40), 16.0, *H264)
    checkup = dataset.check(path, PUPPET)
    assert (checkup.usable, codes(list(checkup.findings), "block")) == (False, ["frame_rate", "too_long"])
    fix = checkup.findings[0].fix
    assert fix == Cut(start_s=0.0, end_s=2.125, resample_fps=8.0)
    assert dataset.check(path, PUPPET, fix).usable
    assert [f.code for f in dataset.check(path, PUPPET, Cut(end_s=99.0)).findings] == ["trim"]
