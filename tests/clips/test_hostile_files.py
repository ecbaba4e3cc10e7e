"""Bad input: each file is refused with a clear error, nothing is opened that should not be, nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synmotion_core.clips import dataset, ffmpeg, video
from synmotion_core.clips.ffmpeg import LIMITS, SHARED_LIMITS, ClipRefused, Limits
from synmotion_core.errors import ClipError, MissingError, UserInputError
from synmotion_core.types import Prompt, VideoShape
from tests.clips.files import H264, encode, numbered, run_ffmpeg

SHAPE = VideoShape(num_frames=17, height=64, width=64, fps=8.0)
PROMPT = Prompt(subject="a person", motion="claps")


def load(path: Path) -> None:
    dataset.load_clip(path, PROMPT, num_frames=17, height=64, width=64, fps=8.0)


def good(path: Path, *options: str) -> Path:
    return encode(path, numbered(17), 8.0, *H264, *options)


NOISE = np.random.default_rng(0).integers(0, 256, (17, 64, 64, 3), dtype=np.uint8)


def corrupt(path: Path) -> None:
    """The first frames are whole, garbage comes later."""
    data = bytearray(encode(path, NOISE, 8.0, *H264).read_bytes())
    start = data.index(b"mdat") + len(data) * 6 // 10
    data[start : start + 400] = np.random.default_rng(1).bytes(400)
    path.write_bytes(data)


def cut_off(share: float, *options: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        data = encode(path, NOISE, 8.0, *H264, *options).read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return make


def cut_off_webm(path: Path) -> None:
    data = encode(path.with_suffix(".webm"), numbered(17), 8.0, "-pix_fmt", "yuv420p", codec="libvpx-vp9").read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])
    path.with_suffix(".webm").unlink()


def lavfi(*arguments: str) -> Callable[[Path], None]:
    return lambda path: run_ffmpeg("-f", "lavfi", *arguments, f"file:{path}")


def cover_art(path: Path) -> None:
    run_ffmpeg("-f", "lavfi", "-i", "sine=d=2", "-f", "lavfi", "-i", "color=red:s=64x64:d=1", "-map", "0", "-map", "1",
               "-frames:v", "1", "-c:v", "mjpeg", "-disposition:v", "attached_pic", f"file:{path}")  # fmt: skip


def liar(path: Path) -> None:
    """The container says 64x64, the H.264 stream inside is larger than the limit."""
    wide = "color=gray:s=4112x2320:r=8:d=0.125"
    run_ffmpeg("-f", "lavfi", "-i", wide, "-c:v", "libx264", *H264, "-threads", "1", f"file:{path}")
    data = bytearray(path.read_bytes())
    at = data.index(b"avc1", data.index(b"stsd")) + 4 + 24
    assert int.from_bytes(data[at : at + 2], "big") == 4112
    data[at : at + 4] = (64).to_bytes(2, "big") * 2
    path.write_bytes(data)


def polyglot(path: Path) -> None:
    """Begins like an mp4 and goes on as a playlist."""
    path.write_bytes(b"\0\0\0\x18ftypisom\0\0\2\0isommp42" + b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n")


def holds(content: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(content)

    return make


TESTSRC = ("-i", "testsrc=s=64x64:r=8:d=2")
STILL = ("-i", "testsrc=s=64x64:d=1", "-frames:v", "1", "-f", "image2", "-c:v", "png")
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n/etc/hostname\n"


MP4 = ("-f", "mp4")
HOSTILE: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "corrupt": (corrupt, "damaged", r"damaged: [1-9]\d* frames can be decoded, then .* copy or export it again"),
    "random bytes": (holds(np.random.default_rng(0).bytes(9000)), "container", "not a video"),
    "zeros": (holds(bytes(9000)), "container", "filled with zeros"),
    "empty": (holds(b""), "empty", r"is empty \(0 bytes\)"),
    "truncated": (cut_off(0.7, "-movflags", "+faststart"), "damaged", r"cut off, \d+ bytes at its end are missing"),
    "truncated before its index": (cut_off(0.7), "damaged", "cut off"),
    "truncated webm": (cut_off_webm, "damaged", "bytes at its end are missing"),
    "truncated within its index": (cut_off(0.998), "damaged", "damaged"),
    "only a header": (cut_off(0.001), "damaged", "cut off"),
    "huge picture": (
        lavfi("-i", "color=gray:s=4112x2320:r=8:d=0.125", "-c:v", "libx264", *H264),
        "too_many_pixels",
        "has 4112x2320 pixels, at most 9437184",
    ),
    "huge picture that says it is small": (liar, "too_many_pixels", "pixels"),
    "audio only": (lavfi("-i", "sine=d=2", "-c:a", "aac"), "no_video", "holds only sound"),
    "audio with a cover": (cover_art, "no_video", "holds only sound"),
    "ten minutes": (
        lavfi("-i", "testsrc=s=64x64:r=1:d=600", "-c:v", "libx264", *H264),
        "too_long",
        "lasts 600.0 s, at most 60 s",
    ),
    "ten minutes that do not say so": (
        lambda p: run_ffmpeg("-f", "lavfi", "-i", "color=gray:s=32x32:r=1:d=600", "-c:v", "libvpx-vp9", "-deadline",
                             "realtime", "-f", "webm", "-live", "1", f"file:{p}"),
        "too_long",
        "at most 60 s",
    ),
    "mpeg4": (lavfi(*TESTSRC, "-c:v", "mpeg4"), "codec", "coded as mpeg4; taken are h264, hevc"),
    "mjpeg": (lavfi(*TESTSRC, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p"), "codec", "coded as mjpeg"),
    "ffv1": (lavfi(*TESTSRC, "-c:v", "ffv1", "-f", "mp4", "-strict", "-2"), "codec", "coded as ffv1"),
    "mpeg2": (lavfi("-i", "testsrc=s=64x64:r=24:d=1", "-c:v", "mpeg2video"), "codec", "coded as mpeg2video"),
    "matroska": (lavfi(*TESTSRC, *H264, "-f", "matroska"), "container", "is a Matroska file"),
    "avi": (lavfi(*TESTSRC, *H264, "-f", "avi"), "container", "is an AVI"),
    "mpegts": (lavfi(*TESTSRC, *H264, "-f", "mpegts"), "container", "not a video file|not an mp4"),
    "a text file": (holds(b"no video at all\n" * 40), "container", "is a text file"),
    "a picture": (lavfi(*STILL), "container", "PNG"),
    "a gif": (lavfi("-i", "testsrc=s=64x64:d=1", "-f", "gif"), "container", "a GIF"),
    "a playlist": (holds(PLAYLIST), "container", "is a playlist"),
    "a concat script": (holds(b"ffconcat version 1.0\nfile '/etc/hostname'\n"), "container", "is an ffmpeg script"),
    "a playlist behind an mp4's first bytes": (polyglot, "damaged", "cut off"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_bad_file_is_refused_clearly(tmp_path: Path, kind: str) -> None:
    make, code, words = HOSTILE[kind]
    path = tmp_path / "my clip.mp4"
    make(path)
    before = path.read_bytes()

    with pytest.raises(ClipRefused, match=words) as caught:
        video.probe(path)
    assert caught.value.code == code
    assert "my clip.mp4" in str(caught.value), "the message names the file"
    with pytest.raises(ClipRefused):
        video.read(path)
    with pytest.raises(ClipError):
        load(path)
    checkup = dataset.check(path, SHAPE)
    assert not checkup.usable
    assert [(finding.code, finding.severity) for finding in checkup.findings] == [(code, "block")]

    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["my clip.mp4"]


def test_no_frame_is_ever_lost_silently(tmp_path: Path) -> None:
    """Cut off exactly between two frames, the place where a decoder could simply stop."""
    path = encode(tmp_path / "clip.mp4", NOISE, 8.0, *H264, "-movflags", "+faststart", "-bf", "0")
    packets = ["-i", ffmpeg.file_url(path), "-c", "copy", "-f", "framecrc", "pipe:1"]
    listing = ffmpeg.run(packets, seconds=20, decoder=False).stdout.decode()
    sizes = [int(line.split(",")[4]) for line in listing.splitlines() if not line.startswith("#")]
    data = path.read_bytes()
    start = data.index(b"mdat") + 4
    assert len(sizes) == 17
    assert start + sum(sizes) == len(data)
    for kept in (1, 2, 8, 15, 16):
        path.write_bytes(data[: start + sum(sizes[:kept])])
        with pytest.raises(ClipRefused, match=f"{sum(sizes[kept:])} bytes at its end are missing") as caught:
            video.probe(path)
        assert caught.value.code == "damaged"
    path.write_bytes(data)
    assert video.probe(path).num_frames == 17


def test_one_frame_is_readable_and_no_clip(tmp_path: Path) -> None:
    path = encode(tmp_path / "one.mp4", numbered(1), 8.0, *H264)
    assert video.probe(path).num_frames == 1
    with pytest.raises(ClipError, match=r"one\.mp4: there is one frame only, a motion needs 17"):
        load(path)
    assert [f.code for f in dataset.check(path, SHAPE).findings if f.severity == "block"] == ["one_frame"]


@pytest.mark.parametrize(
    ("limits", "code", "words"),
    [
        (Limits(file_bytes=100), "too_large", r"MiB, at most 9\.54e-05 MiB"),
        (Limits(duration_s=1.5), "too_long", "lasts 2.1 s, at most 1.5 s"),
        (Limits(pixels=64 * 64 - 1), "too_many_pixels", "64x64|one above 4095 pixels"),
        (Limits(frames=16), "too_many_frames", "more than 16 frames"),
        (
            Limits(all_pixels=16 * 64 * 64),
            "too_many_pixels",
            "more than 16 frames of 64x64, .* 0 million pixels, the most that are taken here: cut out the seconds",
        ),
        (Limits(fps=7.0), "too_many_frames", "has 8 frames a second, at most 7"),
    ],
)
def test_every_limit_holds_and_is_named(tmp_path: Path, limits: Limits, code: str, words: str) -> None:
    path = good(tmp_path / "clip.mp4")
    assert video.probe(path).num_frames == 17
    with pytest.raises(ClipRefused, match=words) as caught:
        video.probe(path, limits=limits)
    assert caught.value.code == code


def test_exactly_the_limit_is_taken(tmp_path: Path) -> None:
    path = good(tmp_path / "clip.mp4")
    limits = Limits(file_bytes=path.stat().st_size, duration_s=2.125, pixels=64 * 64, frames=17, fps=8.0,
                    all_pixels=17 * 64 * 64, decoded_bytes=17 * 64 * 64 * 3)  # fmt: skip
    assert len(video.read(path, limits=limits)[0]) == 17


def test_no_more_frames_are_decoded_than_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    run = ffmpeg.run
    monkeypatch.setattr(ffmpeg, "run", lambda a, **how: asked.append(list(a)) or run(a, **how))
    with pytest.raises(ClipRefused, match="more than 3 frames"):
        video.probe(good(tmp_path / "clip.mp4"), limits=Limits(all_pixels=3 * 64 * 64))
    last = asked[-1]
    assert last[last.index("-frames:v") + 1] == "4"


def test_a_default_takes_what_it_took() -> None:
    assert LIMITS.all_pixels == LIMITS.pixels * LIMITS.frames
    hd = 1920 * 1080
    assert hd * 15 * 30 <= SHARED_LIMITS.all_pixels < LIMITS.all_pixels


def test_what_is_not_a_file(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="there is no file"):
        video.probe(tmp_path / "nowhere.mp4")
    with pytest.raises(ClipRefused, match="is not a file"):
        video.probe(tmp_path)
    with pytest.raises(ClipRefused, match="cannot be read"):
        video.probe("null\0byte.mp4")
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "gone.mp4")
    with pytest.raises(MissingError):
        video.probe(tmp_path / "dangling.mp4")
    with pytest.raises(UserInputError):
        load(tmp_path / "nowhere.mp4")
    assert [f.code for f in dataset.check(tmp_path / "nowhere.mp4", SHAPE).findings] == ["missing"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes among its files")
def test_a_pipe_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(ClipRefused, match="is not a file"):
        video.probe(tmp_path / "pipe.mp4")


# ------------------------------------------------------------------------------------------------ the leash


def instead(monkeypatch: pytest.MonkeyPatch, code: str) -> list[subprocess.Popen[bytes]]:
    """Python in ffmpeg's place, started as ffmpeg would have been; returns the processes."""
    started: list[subprocess.Popen[bytes]] = []

    class Stand(subprocess.Popen):
        def __init__(self, command: list[str], **named: Any) -> None:
            super().__init__([sys.executable, "-B", "-S", "-c", code], **named)
            started.append(self)

    monkeypatch.setattr(ffmpeg.subprocess, "Popen", Stand)
    return started


def test_the_decoder_sees_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    instead(monkeypatch, "import os; print(dict(os.environ))")
    outcome = ffmpeg.run([], seconds=10, decoder=True)
    assert b"'PATH':" in outcome.stdout
    assert b"hf_secret" not in outcome.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can limit a process from outside")
def test_the_decoder_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    names = "CPU", "AS", "FSIZE", "CORE"
    wanted = ", ".join(f"resource.getrlimit(resource.RLIMIT_{name})[1]" for name in names)
    instead(monkeypatch, f"import resource, time; time.sleep(0.5); print({wanted})")
    assert ffmpeg.run([], seconds=10, decoder=True).stdout.split() == [b"21", b"4294967296", b"0", b"0"]
    assert ffmpeg.run([], seconds=10, decoder=False).stdout.split()[1] == b"-1", "unlimited"


def test_a_decoder_that_hangs_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = good(tmp_path / "clip.mp4")
    started = instead(monkeypatch, "import time; time.sleep(61)")
    with pytest.raises(ClipRefused, match=r"clip\.mp4: takes longer than 0\.3 s") as caught:
        video.probe(path, limits=Limits(seconds_to_decode=0.3))
    assert caught.value.code == "timeout"
    killed = 1 if sys.platform == "win32" else -signal.SIGKILL
    assert [process.returncode for process in started] == [killed], "killed and waited for"


def test_only_named_demuxers_and_protocols_are_used(tmp_path: Path) -> None:
    arguments = ffmpeg.input_arguments(tmp_path / "-clip.mp4", "mp4", LIMITS)
    pairs = dict(pairwise(arguments))
    assert pairs["-protocol_whitelist"] == "file,pipe"
    assert pairs["-f"] == "mov"
    assert pairs["-i"].startswith("file:/")
    for decoder in pairs["-codec_whitelist"].split(","):
        assert any(codec in decoder for codec in ("h264", "hevc", "vp8", "vp9", "av1"))


def test_a_stream_whose_parts_have_no_sizes_is_read(tmp_path: Path) -> None:
    """As browsers record."""
    live = tmp_path / "live.webm"
    encode(live, numbered(30), 10.0, "-pix_fmt", "yuv420p", "-live", "1", "-cluster_time_limit", "200", codec="libvpx")
    assert video.probe(live).num_frames == 30
