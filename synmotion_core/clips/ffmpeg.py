"""ffmpeg on a short leash: one limited subprocess to open a file with.

A video file is untrusted input for a large C library. So the first bytes choose one demuxer by name (a playlist or
a concat script that calls itself .mp4 is never opened as what it is), decoders are taken from an allow-list, only
the `file` and `pipe` protocols exist, every process has a time limit and an environment without secrets, and a
decoder on Linux also limits on CPU time, memory and file writes. Arguments are a list, never a shell line; paths
are absolute and prefixed with `file:`, so that no name is read as an option or a URL.

The binary is imageio-ffmpeg's; there is no ffprobe, so the header is read from `ffmpeg -i` and times from the
`framecrc` muxer.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synmotion_core.errors import ClipError, MissingError

CODECS = ("h264", "hevc", "vp8", "vp9", "av1")  # vp8 is what browsers record a camera in
_DECODERS = "h264,hevc,vp8,vp9,libvpx-vp9,av1,libdav1d,libaom-av1"
_DEMUXERS = {"mp4": "mov", "mov": "mov", "webm": "matroska"}
_THREADS = 2
_DECODER_MEMORY_BYTES = 4 << 30


class ClipRefused(ClipError):
    """A file that is not opened or not decoded.

    `code` says why, for programs: unreadable, empty, too_large, container, codec, no_video, too_long,
    too_many_pixels, too_many_frames, too_many_bytes, damaged, timeout, trim.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a clip may cost; `pixels` are those of a frame, `all_pixels` of all frames together, `seconds_to_decode` is
    wall time for one pass."""

    file_bytes: int = 512 << 20
    duration_s: float = 60.0
    pixels: int = 4096 * 2304
    frames: int = 3600
    all_pixels: int = 4096 * 2304 * 3600
    fps: float = 240.0
    decoded_bytes: int = 1 << 30
    seconds_to_decode: float = 120.0


LIMITS = Limits()
# where people share a studio, whose clips are looked at in one queue: 15 s of full HD at 30 frames a second
SHARED_LIMITS = Limits(all_pixels=1920 * 1080 * 450, seconds_to_decode=15.0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a process left behind."""

    returncode: int
    stdout: bytes
    stderr: str


def executable() -> str:
    """Path of the ffmpeg binary. Raises MissingError when imageio-ffmpeg has none for this machine."""
    import imageio_ffmpeg

    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise MissingError(f"no ffmpeg here: {error}; install imageio-ffmpeg or set IMAGEIO_FFMPEG_EXE") from error


def file_url(path: Path) -> str:
    """An absolute path as ffmpeg's file protocol takes it: no leading dash, no scheme of its own."""
    return f"file:{os.path.abspath(path)}"


def input_arguments(path: Path, container: str, limits: Limits) -> list[str]:
    """Everything up to and including `-i`, for reading an untrusted file."""
    return [
        "-protocol_whitelist", "file,pipe", "-codec_whitelist", _DECODERS, "-max_pixels", str(limits.pixels),
        "-threads", str(_THREADS), "-xerror", "-err_detect", "explode", "-f", _DEMUXERS[container],
        "-i", file_url(path),
    ]  # fmt: skip


def run(
    arguments: Sequence[str], *, seconds: float, decoder: bool, stdin: bytes | None = None, level: str = "error"
) -> Outcome:
    """Run ffmpeg to its end. `decoder` adds the resource limits for untrusted input. Raises ClipRefused("timeout")."""
    options = ["-hide_banner", "-nostdin", "-loglevel", f"level+{level}", "-filter_threads", "1"]
    command = [executable(), *options, *arguments]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(),
    ) as process:
        if decoder:
            _limit(process.pid, seconds)
        try:
            stdout, stderr = process.communicate(stdin, timeout=seconds)
        except subprocess.TimeoutExpired as error:
            process.kill()
            words = f"takes longer than {seconds:g} s to decode: cut it shorter, or export it smaller in H.264"
            raise ClipRefused("timeout", words) from error
        except BaseException:
            process.kill()
            raise
    return Outcome(process.returncode, stdout, stderr.decode("utf-8", "replace"))


def complaints(stderr: str) -> list[str]:
    """ffmpeg's error lines without its addresses; what it says about streams that we do not decode is left out."""
    lines = []
    for line in stderr.splitlines():
        if ("[error]" in line or "[fatal]" in line) and "not on whitelist" not in line:
            lines.append(line.split("]")[-1].strip())
    return lines


def _environment() -> dict[str, str]:
    keep = ("PATH", "SYSTEMROOT", "TEMP", "TMP", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    own = {"LC_ALL": "C", "AV_LOG_FORCE_NOCOLOR": "1"}
    return own | {name: os.environ[name] for name in keep if name in os.environ}


def _limit(pid: int, seconds: float) -> None:
    """Limits are put on the running child, not in a preexec_fn: forking Python code is unsafe among threads."""
    if sys.platform != "linux":  # elsewhere the time limit and the caps on frames, pixels and bytes remain
        return
    import resource

    cpu = int(seconds * _THREADS) + 1
    wanted = (
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_AS, _DECODER_MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    )
    for which, value in wanted:
        try:
            _, hard = resource.prlimit(pid, which)
            ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.prlimit(pid, which, (ceiling, ceiling))
        except ProcessLookupError:  # it has already finished
            return
