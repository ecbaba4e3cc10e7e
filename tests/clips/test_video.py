"""The decoder and the encoder: exact to the frame, upright, in true colours, all or nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synmotion_core.clips import ffmpeg, video
from synmotion_core.clips.ffmpeg import ClipRefused, Limits
from synmotion_core.clips.video import VideoInfo
from synmotion_core.errors import ShapeError, StorageError
from synmotion_core.puppets.stage import Scene, render
from tests.clips.files import H264, encode, numbered, numbers, run_ffmpeg

COUNTS = [(17, 8.0), (49, 16.0), (81, 16.0), (24, 12.0), (5, 8.0)]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


# ------------------------------------------------------------------------------------------------ round trips


@pytest.mark.parametrize(("count", "fps"), [*COUNTS, (2, 8.0), (1, 8.0), (30, 30000 / 1001), (25, 12.5), (12, 240.0)])
def test_a_round_trip_keeps_every_frame(tmp_path: Path, count: int, fps: float) -> None:
    path = tmp_path / "clip.mp4"
    video.write(path, numbered(count), fps)
    info = video.probe(path)
    assert (info.num_frames, info.width, info.height) == (count, 64, 64)
    assert (info.container, info.codec, info.constant_rate, info.has_audio) == ("mp4", "h264", True, False)
    assert info.fps == pytest.approx(fps, rel=1e-9)
    assert info.duration_s == pytest.approx(count / fps)
    assert info.timestamps_s == pytest.approx([i / fps for i in range(count)], abs=1e-4)
    frames, rate = video.read(path)
    assert frames.dtype == np.uint8
    assert numbers(frames) == list(range(count))
    assert rate == info.fps


@pytest.mark.parametrize(("count", "fps"), COUNTS)
def test_another_decoder_sees_the_same_frames(tmp_path: Path, count: int, fps: float) -> None:
    path = tmp_path / "clip.mp4"
    video.write(path, numbered(count), fps)
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        ok, frame = capture.read()
        if not ok:
            break
        frames.append(frame)
    assert numbers(np.stack(frames)) == list(range(count))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(fps)


def test_puppets_survive_the_round_trip(tmp_path: Path) -> None:
    scenes = [
        ("person", "red", "room", "wave"),
        ("person", "purple", "beach", "throw"),
        ("person", "orange", "street", "spin"),
        ("person", "green", "night", "squat"),
        ("robot", "pink", "snow", "squat"),
        ("frog", "green", "meadow", "clap"),
        ("bear", "orange", "street", "dance"),
    ]
    for k, (species, colour, background, motion) in enumerate(scenes):
        scene = Scene(species=species, colour=colour, background=background, motion=motion, seed=k)
        frames = render(scene).frames
        video.write(tmp_path / "puppet.mp4", frames, 8.0)
        back, fps = video.read(tmp_path / "puppet.mp4")
        assert back.shape == frames.shape
        assert fps == 8.0
        # the rest is yuv420p's own loss: large saturated shapes lose at most 1 dB more than a person, at any quality
        assert psnr(frames, back) > (32 if species == "person" else 31), scene
        assert abs(float(frames.mean()) - float(back.mean())) < 1.0, "colours or range are shifted"


def test_the_file_plays_in_a_browser(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    video.write(path, numbered(17), 8.0)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "not faststart"
    text = ffmpeg.run(["-i", ffmpeg.file_url(path)], seconds=20, decoder=False, level="info").stderr
    assert "yuv420p(tv, bt709, progressive)" in text


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        video.write(tmp_path / name, numbered(9), 8.0)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


# ------------------------------------------------------------------------------------------------ cuts in time


@pytest.mark.parametrize(("fps", "count"), [(8.0, 17), (24.0, 60), (30000 / 1001, 40)])
def test_a_cut_is_exact_to_the_frame(tmp_path: Path, fps: float, count: int) -> None:
    path = encode(tmp_path / "long.mp4", numbered(count), fps, *H264)
    info = video.probe(path)
    for first, stop in [(0, count), (0, 1), (3, 4), (5, 12), (count - 1, count), (7, count)]:
        ends = round(stop / fps, 3) if stop < count else None
        frames, _ = video.read(path, start_s=round(first / fps, 3), end_s=ends, info=info)
        assert numbers(frames) == list(range(first, stop)), "seconds rounded to milliseconds mean their frame"
    between, _ = video.read(path, start_s=2.5 / fps, end_s=4.5 / fps, info=info)
    assert numbers(between) == [3, 4], "the first frame is the first to begin in the cut"


@given(
    fps=st.sampled_from([8.0, 12.0, 16.0, 23.976, 24.0, 25.0, 29.97, 30.0, 60.0, 120.0]),
    count=st.integers(2, 400),
    data=st.data(),
)
def test_every_cut_between_frames_means_those_frames(fps: float, count: int, data: st.DataObject) -> None:
    info = made_up(count, fps)
    first = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(first + 1, count))
    assert info.span(round(first / fps, 3), round(stop / fps, 3)) == (first, stop)


def made_up(count: int, fps: float) -> VideoInfo:
    return VideoInfo(
        container="mp4", codec="h264", width=64, height=64, fps=fps, num_frames=count, duration_s=count / fps,
        constant_rate=True, has_audio=False, rotated=False, hdr=False, video_tracks=1, file_bytes=1,
        timestamps_s=tuple(i / fps for i in range(count)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("start_s", "end_s", "words"),
    [
        (0.0, 3.0, "use end_s=2.125"),
        (-1.0, 1.0, "0 <= start_s"),
        (1.0, 1.0, "start_s < end_s"),
        (2.5, None, "lasts 2.125"),
        (0.01, 0.02, "one frame lasts 0.125 s"),
        (float("nan"), None, "0 <= start_s"),
        (0.0, float("nan"), "0 <= start_s"),
    ],
)
def test_a_cut_that_is_none_is_refused(start_s: float, end_s: float | None, words: str) -> None:
    with pytest.raises(ClipRefused, match=words) as caught:
        made_up(17, 8.0).span(start_s, end_s)
    assert caught.value.code == "trim"


# ------------------------------------------------------------------------------------------------ kinds of files


@pytest.mark.parametrize(
    ("name", "codec", "options", "found"),
    [
        ("b-frames.mp4", "libx264", ("-pix_fmt", "yuv420p", "-bf", "3", "-preset", "medium"), ("mp4", "h264")),
        ("iphone.mov", "libx265", ("-pix_fmt", "yuv420p", "-tag:v", "hvc1"), ("mov", "hevc")),
        ("browser.webm", "libvpx-vp9", ("-pix_fmt", "yuv420p", "-crf", "20", "-b:v", "0"), ("webm", "vp9")),
        ("camera.webm", "libvpx", ("-pix_fmt", "yuv420p", "-b:v", "4M"), ("webm", "vp8")),
        ("new.mp4", "libaom-av1", ("-pix_fmt", "yuv420p", "-cpu-used", "8", "-crf", "20"), ("mp4", "av1")),
        ("new.webm", "libaom-av1", ("-pix_fmt", "yuv420p", "-cpu-used", "8", "-crf", "20"), ("webm", "av1")),
        ("ten-bit.mp4", "libx264", ("-pix_fmt", "yuv420p10le", "-crf", "12"), ("mp4", "h264")),
        ("moov-last.mp4", "libx264", (*H264, "-movflags", "0"), ("mp4", "h264")),
    ],
)  # fmt: skip
def test_allowed_containers_and_codecs(
    tmp_path: Path, name: str, codec: str, options: tuple[str, ...], found: tuple[str, str]
) -> None:
    path = encode(tmp_path / name, numbered(13), 8.0, *options, codec=codec)
    info = video.probe(path)
    assert (info.container, info.codec, info.num_frames, info.fps) == (*found, 13, 8.0)
    assert numbers(video.read(path)[0]) == list(range(13))


@pytest.mark.parametrize(("degrees", "corner"), [(90, "bottom left"), (180, "bottom right"), (270, "top right")])
def test_a_rotated_video_is_read_upright(tmp_path: Path, degrees: int, corner: str) -> None:
    frames = np.full((5, 48, 96, 3), 60, np.uint8)
    frames[:, :16, :16] = 230  # a mark in the top left corner
    plain = encode(tmp_path / "plain.mp4", frames, 8.0, *H264)
    turned = tmp_path / "turned.mp4"
    run_ffmpeg("-display_rotation", str(degrees), "-i", f"file:{plain}", "-c", "copy", f"file:{turned}")
    info = video.probe(turned)
    assert info.rotated
    assert not video.probe(plain).rotated
    assert (info.width, info.height) == ((96, 48) if degrees == 180 else (48, 96))
    upright, _ = video.read(turned)
    assert upright.shape == (5, info.height, info.width, 3)
    y = slice(-12, -4) if "bottom" in corner else slice(4, 12)
    x = slice(-12, -4) if "right" in corner else slice(4, 12)
    assert upright[:, y, x].mean() > 200, f"the mark belongs {corner}"
    assert upright.mean() < 100


def test_pixels_that_are_not_square_are_made_square(tmp_path: Path) -> None:
    path = encode(tmp_path / "anamorphic.mp4", numbered(4, 48, 64), 8.0, *H264, "-vf", "setsar=2/1")
    info = video.probe(path)
    assert (info.width, info.height) == (128, 48)
    frames, _ = video.read(path)
    assert frames.shape == (4, 48, 128, 3)
    assert numbers(frames) == [0, 1, 2, 3]


def test_odd_sizes_are_read_as_they_are(tmp_path: Path) -> None:
    path = encode(tmp_path / "odd.mp4", numbered(6, 47, 63), 8.0, "-pix_fmt", "yuv444p", "-preset", "ultrafast")
    assert (video.probe(path).width, video.probe(path).height) == (63, 47)
    frames, _ = video.read(path)
    assert frames.shape == (6, 47, 63, 3)
    assert numbers(frames) == list(range(6))


def test_a_variable_rate_comes_frame_by_frame_with_its_times(tmp_path: Path) -> None:
    path = encode(tmp_path / "vfr.mp4", numbered(17), 8.0, *H264, "-vf", "select=not(eq(n\\,5)+eq(n\\,6)+eq(n\\,11))",
                  "-fps_mode", "vfr")  # fmt: skip
    info = video.probe(path)
    kept = [n for n in range(17) if n not in (5, 6, 11)]
    assert (info.num_frames, info.constant_rate) == (14, False)
    assert info.timestamps_s == pytest.approx([n / 8 for n in kept])
    assert info.duration_s == pytest.approx(17 / 8)
    assert numbers(video.read(path)[0]) == kept
    assert numbers(video.read(path, start_s=0.5, end_s=1.5)[0]) == [4, 7, 8, 9, 10]


def test_times_begin_at_the_first_frame(tmp_path: Path) -> None:
    plain = encode(tmp_path / "plain.mp4", numbered(9), 8.0, *H264)
    late = tmp_path / "late.mp4"
    run_ffmpeg("-itsoffset", "3", "-i", f"file:{plain}", "-c", "copy", "-output_ts_offset", "2", f"file:{late}")
    assert video.probe(late).timestamps_s == pytest.approx([i / 8 for i in range(9)])
    assert numbers(video.read(late, start_s=0.25, end_s=0.5)[0]) == [2, 3]


@pytest.mark.parametrize("fps", ["24", "30000/1001", "24000/1001", "25", "12.5", "60"])
def test_rates_are_named_as_they_are_meant(tmp_path: Path, fps: str) -> None:
    path = tmp_path / "clip.webm"  # WebM counts in milliseconds, no such rate is exact there
    run_ffmpeg("-f", "lavfi", "-i", f"color=gray:s=32x32:r={fps}:d=1.5", "-c:v", "libvpx-vp9", f"file:{path}")
    info = video.probe(path)
    above, _, below = fps.partition("/")
    assert info.constant_rate
    assert info.fps == pytest.approx(float(above) / float(below or 1), rel=2e-3)


def test_a_second_picture_track_and_sound_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "two.mp4"
    sources = ["-f", "lavfi", "-i", "color=red:s=64x64:r=8:d=1", "-f", "lavfi", "-i", "color=blue:s=32x32:r=8:d=1",
               "-f", "lavfi", "-i", "sine=d=1"]  # fmt: skip
    run_ffmpeg(
        *sources, "-map", "0", "-map", "1", "-map", "2", "-c:v", "libx264", "-pix_fmt", "yuv420p", f"file:{path}"
    )
    info = video.probe(path)
    assert (info.video_tracks, info.has_audio, info.width, info.num_frames) == (2, True, 64, 8)
    assert video.read(path)[0][..., 0].mean() > 200, "the first track is the red one"


# ------------------------------------------------------------------------------------------------ sizes


def test_reading_smaller_averages_areas(tmp_path: Path) -> None:
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    frames[:, ::2] = 200  # stripes of one pixel: their average is 100, a picked pixel would be 0 or 200
    path = encode(tmp_path / "stripes.mp4", frames, 8.0, "-pix_fmt", "yuv444p", "-qp", "0")
    small, _ = video.read(path, height=16, width=16)
    assert small.shape == (2, 16, 16, 3)
    assert np.abs(small.astype(int) - 100).max() < 12


def test_one_side_alone_keeps_the_aspect(tmp_path: Path) -> None:
    path = encode(tmp_path / "wide.mp4", numbered(3, 48, 96), 8.0, *H264)
    assert video.read(path, height=24)[0].shape == (3, 24, 48, 3)
    assert video.read(path, width=32)[0].shape == (3, 16, 32, 3)
    with pytest.raises(ShapeError, match="height must be at least 1, got 0"):
        video.read(path, height=0)


# ------------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    "name",
    ["-dash.mp4", "two words.mp4", "танец 踊り é.mp4", "a:b;c&d$(e)'\".mp4", "%03d.mp4", "--help.mp4", "http:.mp4"],
)
def test_any_file_name_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    video.write(name, numbered(5), 8.0)
    assert video.probe(name).num_frames == 5
    assert numbers(video.read(Path(name))[0]) == list(range(5))
    assert os.listdir(tmp_path) == [name]


# --------------------------------------------------------------------------------------------- what cannot be written


@pytest.mark.parametrize(
    ("frames", "fps", "words"),
    [
        (numbered(3, 47, 63), 8.0, "even width and height, got 63x47: use 62x46 or 64x48"),
        (numbered(3, 48, 63), 8.0, "use 62x48 or 64x48"),
        (np.zeros((3, 1, 2, 3), np.uint8), 8.0, "got 2x1: use 2x2"),
        (np.zeros((0, 64, 64, 3), np.uint8), 8.0, "F >= 1"),
        (np.zeros((3, 64, 64), np.uint8), 8.0, r"\[F, H, W, 3\]"),
        (np.zeros((3, 64, 64, 3), np.float32), 8.0, "float32"),
        (numbered(3), 0.0, "fps must be between"),
        (numbered(3), float("nan"), "fps must be between"),
        (numbered(3), 1000.0, "at most|between 0.1 and 240"),
    ],
)
def test_impossible_videos_are_refused(tmp_path: Path, frames: np.ndarray, fps: float, words: str) -> None:
    with pytest.raises(ShapeError, match=words):
        video.write(tmp_path / "clip.mp4", frames, fps)
    assert not os.listdir(tmp_path)


def test_only_mp4_is_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"use 'clip\.mp4'"):
        video.write(tmp_path / "clip.webm", numbered(3), 8.0)


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot write clip"):
        video.write(tmp_path / "file" / "clip.mp4", numbered(3), 8.0)
    assert (tmp_path / "file").read_text() == "in the way"
    (tmp_path / "taken.mp4").mkdir()
    with pytest.raises(StorageError, match="cannot write taken"):
        video.write(tmp_path / "taken.mp4", numbered(3), 8.0)
    assert sorted(os.listdir(tmp_path)) == ["file", "taken.mp4"]


FULL_DISK = """
import resource, sys
import numpy as np
from synmotion_core.clips import video
from synmotion_core.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
noise = np.random.default_rng(0).integers(0, 256, (17, 64, 64, 3), dtype=np.uint8)
try:
    video.write(sys.argv[1], noise, 8.0)
except StorageError as error:
    print("refused:", error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX")
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_full_disk_leaves_the_previous_file_intact(tmp_path: Path, share: float) -> None:
    path = tmp_path / "clip.mp4"
    video.write(path, np.random.default_rng(0).integers(0, 256, (17, 64, 64, 3), dtype=np.uint8), 8.0)
    limit = 1 + int(share * path.stat().st_size)  # the disk is full at the first byte, half way, near the end
    video.write(path, numbered(9), 8.0)
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path), str(limit)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("refused: cannot write clip.mp4: File too large."), done.stdout + done.stderr
    assert "what was there before is intact" in done.stdout
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["clip.mp4"], "something was left behind"


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs to mount a small disk")
def test_a_small_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"this machine does not allow mounts: {mounted.stderr.decode().strip()}")
    try:
        path = disk / "clip.mp4"
        video.write(path, numbered(9), 8.0)
        before = path.read_bytes()
        noise = np.random.default_rng(0).integers(0, 256, (17, 64, 64, 3), dtype=np.uint8)
        with pytest.raises(StorageError, match="No space left"):
            video.write(path, noise, 8.0)
        assert path.read_bytes() == before
        assert os.listdir(disk) == ["clip.mp4"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_that_came_out_short_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "clip.mp4"
    video.write(path, numbered(9), 8.0)
    before = path.read_bytes()
    real = ffmpeg.run

    def one_frame_less(arguments, *, stdin=None, **rest):
        return real(arguments, stdin=None if stdin is None else stdin[: -64 * 64 * 3], **rest)

    monkeypatch.setattr(ffmpeg, "run", one_frame_less)
    with pytest.raises(StorageError, match="came back as 16 frames of 64x64 instead of 17"):
        video.write(path, numbered(17), 8.0)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["clip.mp4"]


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", numbered(17), 8.0, *H264)
    info = video.probe(path)
    encode(path, numbered(11), 8.0, *H264)
    with pytest.raises(ClipRefused, match="11 of 17 frames were decoded") as caught:
        video.read(path, info=info)
    assert caught.value.code == "damaged"


def test_what_is_decoded_at_once_is_limited(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", numbered(17), 8.0, *H264)
    limits = Limits(decoded_bytes=17 * 64 * 64 * 3 - 1)
    with pytest.raises(ClipRefused, match="17 frames of 64x64") as caught:
        video.read(path, limits=limits)
    assert caught.value.code == "too_many_bytes"
    assert len(video.read(path, limits=limits, end_s=2.0)[0]) == 16
