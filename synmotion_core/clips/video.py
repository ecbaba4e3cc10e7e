"""The only decoder and the only encoder: files <-> frames, exact to the frame.

    probe(path)               -> VideoInfo       what is in the file; every frame is decoded and counted
    read(path)                -> Frames, fps     uint8 RGB [F, H, W, 3], upright, square pixels
    write(path, frames, fps)                     H.264 yuv420p mp4, all or nothing

Time: frame i is on screen from timestamps_s[i] (0 for the first one) until the next. A cut [start_s, end_s) keeps
the frames whose timestamps lie in it, both ends with a tolerance of 1 ms, so that seconds rounded to milliseconds
still mean their frame.

Colour: RGB <-> limited-range BT.709 on writing, the file's own tags on reading; full chroma interpolation, since
64x64 puppets lose 2.6 dB without it.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from synmotion_core.clips import container as containers
from synmotion_core.clips import ffmpeg
from synmotion_core.clips.ffmpeg import CODECS, LIMITS, ClipRefused, Limits
from synmotion_core.errors import MissingError, ShapeError, StorageError

if TYPE_CHECKING:
    from synmotion_core.types import Frames

TIME_TOLERANCE_S = 1e-3
_CRF = 12  # visually lossless; a test holds it to 32 dB on puppets
_SCALER = "accurate_rnd+full_chroma_int+full_chroma_inp"
_TAGS = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
_SHORTEN = "cut out the seconds that show the motion"
_INTACT = "what was there before is intact"
_WRITE_ERRORS = ("No space left", "File too large", "quota exceeded", "Read-only", "Permission denied", "I/O error",
                 "Input/output error")  # fmt: skip
_SIGXFSZ = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """What a file holds. Sizes are as shown: rotated upright, pixels square.

    fps is the simplest rate that explains every timestamp; where `constant_rate` is False it is only the mean.
    duration_s includes the last frame's own time on screen. With `video_tracks` above 1, all this is the first one.
    timestamps_s never fall. Two are equal where a busy browser recorded two frames in one millisecond: the first of
    them is on screen for no time, and `constant_rate` is False.
    """

    container: str
    codec: str
    width: int
    height: int
    fps: float
    num_frames: int
    duration_s: float
    constant_rate: bool
    has_audio: bool
    rotated: bool
    hdr: bool
    video_tracks: int
    file_bytes: int
    timestamps_s: tuple[float, ...] = field(repr=False)

    def span(self, start_s: float = 0.0, end_s: float | None = None) -> tuple[int, int]:
        """Frame range [first, stop) of the cut [start_s, end_s) seconds; end_s None is the end of the file.

        Raises ClipRefused("trim") when the cut is empty or reaches beyond the file.
        """
        last = self.duration_s
        end = last if end_s is None else end_s
        if not 0 <= start_s < end:
            words = f"a cut needs 0 <= start_s < end_s, got start_s={start_s:g} and end_s={end:.5g}"
            raise ClipRefused("trim", f"{words}; the video lasts {last:.3f} s")
        if end > last + TIME_TOLERANCE_S:
            words = f"the cut ends at {end:.5g} s but the video lasts {last:.3f} s"
            raise ClipRefused("trim", f"{words}: use end_s={last:.3f}")
        low, high = start_s - TIME_TOLERANCE_S, end - TIME_TOLERANCE_S
        kept = [i for i, t in enumerate(self.timestamps_s) if low <= t < high]
        if not kept:
            words = f"no frame begins between {start_s:g} s and {end:.5g} s"
            raise ClipRefused("trim", f"{words}: one frame lasts {1 / self.fps:.3f} s here, choose a longer part")
        return kept[0], kept[-1] + 1


# ------------------------------------------------------------------------------------------------ looking


def probe(path: Path | str, *, limits: Limits = LIMITS) -> VideoInfo:
    """Look at a file: first bytes, then the header, then every frame, each only if the step before was within `limits`.

    Raises MissingError when there is no file, else ClipRefused: a refusal names the file, what was found and what
    is taken.
    """
    path = Path(path)
    container = _check_file(path, limits)
    with _naming(path):
        header = _read_header(path, container, limits)
        return _count(path, header, limits)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except ClipRefused as refusal:
        raise ClipRefused(refusal.code, f"{path.name}: {refusal}") from refusal


def _check_file(path: Path, limits: Limits) -> str:
    name = path.name
    try:
        status = path.stat()
        container = containers.sniff(path) if stat.S_ISREG(status.st_mode) else None
        looks = containers.describe(path) if stat.S_ISREG(status.st_mode) else "not a file"
    except FileNotFoundError as error:
        raise MissingError(f"there is no file {str(path)!r}") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        reason = getattr(error, "strerror", None) or error
        raise ClipRefused("unreadable", f"{name!r} cannot be read: {reason}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ClipRefused("unreadable", f"{name or path} is not a file: choose an .mp4, .mov or .webm video")
    if status.st_size == 0:
        raise ClipRefused("empty", f"{name} is empty (0 bytes): copy or export it again")
    if status.st_size > limits.file_bytes:
        size, most = status.st_size / 2**20, limits.file_bytes / 2**20
        raise ClipRefused("too_large", f"{name} has {size:.3g} MiB, at most {most:.3g} MiB are taken: {_SHORTEN}")
    if container is None:
        raise ClipRefused("container", f"{name} is {looks}, not an mp4, mov or webm video: export it as H.264 in .mp4")
    if lost := containers.missing_bytes(path, container):
        raise ClipRefused(
            "damaged", f"{name}: damaged: it is cut off, {lost} bytes at its end are missing: copy it again"
        )
    return container


_STREAM = re.compile(r"^\[info\]   Stream #0:\d+(?:\[0x[0-9a-f]+\])?(?:\([^)]*\))?: (Video|Audio): (\w+)(.*)$")
_DURATION = re.compile(r"^\[info\]   Duration: (?:(\d+):(\d\d):(\d\d\.\d+)|N/A),")


def _read_header(path: Path, container: str, limits: Limits) -> VideoInfo:
    """The header's claims, checked against the limits; num_frames 0 and no timestamps yet."""
    arguments = ffmpeg.input_arguments(path, container, limits)
    text = ffmpeg.run(arguments, seconds=limits.seconds_to_decode, level="info", decoder=True).stderr
    lines = text.splitlines()
    if not any(line.startswith("[info] Input #0, ") for line in lines):
        reason = (ffmpeg.complaints(text) or ["no reason given"])[0]
        raise ClipRefused("damaged", f"damaged: begins like {container} but is cut off ({reason}): export it again")
    duration = 0.0
    pictures: list[tuple[str, str]] = []
    has_audio = False
    for line in lines:
        if match := _DURATION.match(line):
            hours, minutes, seconds = (float(part or 0) for part in match.groups())
            duration = duration or 3600 * hours + 60 * minutes + seconds
        elif match := _STREAM.match(line):
            kind, codec, rest = match.groups()
            has_audio |= kind == "Audio"
            if kind == "Video" and "(attached pic)" not in rest:
                pictures.append((codec, rest))
    if not pictures and not has_audio:
        raise ClipRefused("damaged", "damaged or empty: there is no picture track in it: export it again")
    if not pictures:
        raise ClipRefused("no_video", "holds only sound: choose a file with a video track")
    codec, rest = pictures[0]
    if codec not in CODECS:
        raise ClipRefused("codec", f"coded as {codec}; taken are {', '.join(CODECS)}: export it as H.264")
    _check_duration(duration - 0.01, limits)  # the header is printed in hundredths; the frames' own times decide
    size = re.search(r", (\d+)x(\d+)(?=[ ,]|$)", rest)
    if size is None:  # what the decoder reports when -max_pixels has stopped it
        raise ClipRefused("too_many_pixels", f"says no size, or one above {limits.pixels} pixels: export it smaller")
    _check_pixels(int(size[1]), int(size[2]), limits)
    return VideoInfo(
        container=container, codec=codec, width=int(size[1]), height=int(size[2]), fps=0.0, num_frames=0,
        duration_s=duration, constant_rate=False, has_audio=has_audio, rotated="Display Matrix: rotation" in text,
        hdr="smpte2084" in rest or "arib-std-b67" in rest, video_tracks=len(pictures), file_bytes=path.stat().st_size,
        timestamps_s=(),
    )  # fmt: skip


def _check_duration(seconds: float, limits: Limits) -> None:
    if seconds > limits.duration_s:
        words = f"lasts {seconds:.1f} s, at most {limits.duration_s:g} s are taken"
        raise ClipRefused("too_long", f"{words}: {_SHORTEN}")


def _check_pixels(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.pixels:
        words = f"has {width}x{height} pixels, at most {limits.pixels} a frame are taken"
        raise ClipRefused("too_many_pixels", f"{words}: export it smaller")


@dataclass(frozen=True, slots=True)
class _Timeline:
    """What the framecrc muxer printed: `ticks` are presentation times in units of `tick_s`."""

    ticks: tuple[int, ...]
    last_duration: int
    tick_s: Fraction
    width: int
    height: int
    pixel_aspect: Fraction
    sizes: frozenset[int]


def _decode_timeline(path: Path, container: str, limits: Limits) -> _Timeline:
    """Decode every frame and keep its time; limits.frames + 1 frames at most."""
    outcome = ffmpeg.run(
        [*ffmpeg.input_arguments(path, container, limits), "-map", "0:V:0", "-fps_mode", "passthrough",
         "-enc_time_base", "demux", "-frames:v", str(limits.frames + 1), "-f", "framecrc", "pipe:1"],
        seconds=limits.seconds_to_decode, decoder=True,
    )  # fmt: skip
    fields: dict[str, str] = {}
    rows: list[tuple[int, int, int]] = []
    for line in outcome.stdout.decode("ascii", "replace").splitlines():
        if line.startswith("#"):
            key, _, value = line[1:].partition(" 0: ")
            fields[key] = value
        elif len(cells := line.split(",")) >= 6:
            rows.append((int(cells[2]), int(cells[3]), int(cells[4])))
    problems = ffmpeg.complaints(outcome.stderr)
    if outcome.returncode != 0 or problems or not rows:
        reason = problems[0] if problems else f"ffmpeg ended with {outcome.returncode}"
        words = f"damaged: {len(rows)} frames can be decoded, then comes an error ({reason})"
        raise ClipRefused("damaged", f"{words}: copy or export it again")
    width, height = (int(n) for n in fields["dimensions"].split("x"))
    above, _, below = fields.get("sar", "0/1").partition("/")
    aspect = Fraction(int(above), int(below)) if int(above) and int(below) else Fraction(1)
    ticks, sizes = tuple(row[0] for row in rows), frozenset(row[2] for row in rows)
    return _Timeline(ticks, rows[-1][1], Fraction(fields["tb"]), width, height, aspect, sizes)


def _count(path: Path, header: VideoInfo, limits: Limits) -> VideoInfo:
    most = min(limits.frames, limits.all_pixels // max(1, header.width * header.height))
    line = _decode_timeline(path, header.container, replace(limits, frames=most))
    n = len(line.ticks)
    if n > most < limits.frames:
        words = f"has more than {most} frames of {header.width}x{header.height}, which are"
        words += f" {limits.all_pixels / 1e6:.0f} million pixels, the most that are taken here"
        raise ClipRefused("too_many_pixels", f"{words}: {_SHORTEN}, or export it smaller")
    if n > limits.frames:
        raise ClipRefused("too_many_frames", f"has more than {limits.frames} frames: {_SHORTEN}")
    if len(line.sizes) > 1:
        raise ClipRefused("damaged", "changes its picture size on the way: export it at one size")
    if any(b < a for a, b in pairwise(line.ticks)) or (n > 1 and line.ticks[-1] == line.ticks[0]):
        raise ClipRefused("damaged", "has frames whose times run backwards or stand still: export it again")
    timestamps = tuple(float((tick - line.ticks[0]) * line.tick_s) for tick in line.ticks)
    last = float(line.last_duration * line.tick_s)
    if n == 1:
        fps, constant = (1 / last if last > 0 else 1.0), True
    else:
        fps, constant = _rate(line.ticks, line.tick_s)
    # one tick is what ffmpeg says where a browser wrote no length: taken as it is, the last frame would be lost
    duration = n / fps if constant else timestamps[-1] + (last if last > TIME_TOLERANCE_S else 1 / fps)
    _check_duration(duration - TIME_TOLERANCE_S, limits)
    if n > 1 and fps > limits.fps * 1.001:
        words = f"has {fps:g} frames a second, at most {limits.fps:g} are taken"
        raise ClipRefused("too_many_frames", f"{words}: export it slower")
    width, height = line.width, line.height
    if line.pixel_aspect > 1:
        width = round(width * line.pixel_aspect)
    elif line.pixel_aspect < 1:
        height = round(height / line.pixel_aspect)
    _check_pixels(width, height, limits)
    return replace(header, width=width, height=height, fps=fps, num_frames=n, duration_s=duration,
                   constant_rate=constant, timestamps_s=timestamps)  # fmt: skip


def _rate(ticks: tuple[int, ...], tick_s: Fraction) -> tuple[float, bool]:
    """(frames a second, whether constant). A whole rate, or one over 1.001, is taken if it explains all times."""
    times = [(t - ticks[0]) * tick_s for t in ticks]
    mean = (len(ticks) - 1) / times[-1]
    if any(a == b for a, b in pairwise(ticks)):
        return float(mean), False
    whole, ntsc = Fraction(max(1, round(mean))), Fraction(max(1, round(mean * Fraction(1001, 1000))) * 1000, 1001)
    for candidate in (whole, ntsc, mean):
        if max(abs(t - i / candidate) for i, t in enumerate(times)) <= tick_s:
            return float(candidate), True
    steps = [b - a for a, b in pairwise(times)]
    usual = median(steps)
    even = all(abs(step - usual) <= max(usual / 4, 2 * tick_s) for step in steps)
    near = max(abs(t - i / mean) for i, t in enumerate(times)) * mean <= Fraction(1, 2)
    return float(mean), even and near


# ------------------------------------------------------------------------------------------------ reading


def read(
    path: Path | str,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    height: int | None = None,
    width: int | None = None,
    info: VideoInfo | None = None,
    limits: Limits = LIMITS,
) -> tuple[Frames, float]:
    """Decode the cut [start_s, end_s): uint8 [F, H, W, 3] RGB, and the file's frames a second.

    The first frame is the first one whose timestamp is at least start_s (less 1 ms), the last one begins before
    end_s (less 1 ms); see VideoInfo.span. Nothing is dropped or doubled: F == stop - first, or
    ClipRefused("damaged"). A video of variable rate comes frame by frame; fps is then only its mean. height and
    width scale the whole picture (area averaging when smaller); one alone keeps the aspect. `info` saves the second
    look when this file has just been probed.
    """
    path = Path(path)
    info = probe(path, limits=limits) if info is None else info
    h, w = _target_size(info, height, width)
    with _naming(path):
        first, stop = info.span(start_s, end_s)
        data = _decode(path, info, first, stop, h, w, limits)
    return np.frombuffer(data, np.uint8).reshape(stop - first, h, w, 3).copy(), info.fps


def _decode(path: Path, info: VideoInfo, first: int, stop: int, h: int, w: int, limits: Limits) -> bytes:
    n = stop - first
    size = n * h * w * 3
    if size > limits.decoded_bytes:
        words = f"{n} frames of {w}x{h} take {size / 2**20:.0f} MiB"
        most = f"at most {limits.decoded_bytes / 2**20:.3g} MiB are decoded at once"
        raise ClipRefused("too_many_bytes", f"{words}, {most}: choose a shorter part")
    smaller = h <= info.height and w <= info.width and (h, w) != (info.height, info.width)
    method = "area" if smaller else "lanczos"
    scale = f"scale={w}:{h}:flags={method}+{_SCALER}:out_range=pc"
    # every frame has its own number for a time: at ffmpeg's guess of a rate, two close ones of a varying rate collide
    outcome = ffmpeg.run(
        [*ffmpeg.input_arguments(path, info.container, limits), "-map", "0:V:0", "-fps_mode", "passthrough",
         "-enc_time_base", "demux", "-vf", f"trim=start_frame={first}:end_frame={stop},setpts=N,{scale},format=rgb24",
         "-frames:v", str(n), "-f", "rawvideo", "pipe:1"],
        seconds=limits.seconds_to_decode, decoder=True,
    )  # fmt: skip
    problems = ffmpeg.complaints(outcome.stderr)
    if outcome.returncode != 0 or problems or len(outcome.stdout) != size:
        reason = problems[0] if problems else f"ffmpeg ended with {outcome.returncode}; has the file changed?"
        words = f"damaged: {len(outcome.stdout) // (h * w * 3)} of {n} frames were decoded ({reason})"
        raise ClipRefused("damaged", f"{words}: copy or export it again")
    return outcome.stdout


def _target_size(info: VideoInfo, height: int | None, width: int | None) -> tuple[int, int]:
    for name, value in (("height", height), ("width", width)):
        if value is not None and value < 1:
            raise ShapeError(f"{name} must be at least 1, got {value}")
    if height is None and width is None:
        return info.height, info.width
    if height is None:
        assert width is not None
        return max(1, round(info.height * width / info.width)), width
    return height, max(1, round(info.width * height / info.height)) if width is None else width


# ------------------------------------------------------------------------------------------------ writing


def write(path: Path | str, frames: Frames, fps: float, *, keep: bool = False) -> Path:
    """Write uint8 [F, H, W, 3] RGB as H.264 yuv420p mp4 that browsers play and seek: faststart, no B-frames, no sound.

    All or nothing: encoded beside `path` under another name, decoded again to count the frames, flushed, renamed.
    Returns where it lies: `path`, or, with keep and where another file has that name, the first free one after it
    (storage.place). Makes missing folders. Raises ShapeError for odd sizes (yuv420p halves them), no frames or an
    impossible rate, StorageError for a name that is not .mp4 and when the disk is full or not writable: what was at
    `path` before is then intact.
    """
    path = Path(path)
    _check_frames(frames, fps)
    if path.suffix.lower() != ".mp4":
        raise StorageError(f"videos are written as .mp4, got {path.name!r}: use {path.stem + '.mp4'!r}")
    n, h, w, _ = frames.shape
    rate = exact_rate(fps)
    temporary = path.with_name(f".{secrets.token_hex(6)}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        outcome = ffmpeg.run(
            ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{w}x{h}",
             "-framerate", f"{rate.numerator}/{rate.denominator}", "-i", "pipe:0",
             "-vf", f"scale=flags=lanczos+{_SCALER}:out_color_matrix=bt709:out_range=tv,format=yuv420p,{_TAGS}",
             "-fps_mode", "passthrough", "-c:v", "libx264", "-preset", "medium", "-crf", str(_CRF), "-bf", "0",
             "-threads", "2", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart",
             "-f", "mp4", ffmpeg.file_url(temporary)],
            stdin=frames.tobytes(), seconds=600.0, decoder=False,
        )  # fmt: skip
        if outcome.returncode != 0:
            _refuse_write(path, outcome)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        _verify(path, temporary, n, w, h)
        if keep:
            from synmotion_core.storage import place  # which has torch

            path = place(temporary, path)
        else:
            os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"cannot write {path.name}: {error.strerror or error}; {_INTACT}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    return path


def exact_rate(fps: float) -> Fraction:
    """The rational rate meant by a float: whole, over 1.001, or the nearest fraction.

    >>> str(exact_rate(29.97)), str(exact_rate(16.0)), str(exact_rate(12.5))
    ('30000/1001', '16', '25/2')
    """
    ntsc = Fraction(round(fps * 1.001) * 1000, 1001)
    if fps != round(fps) and abs(float(ntsc) - fps) < 0.005:
        return ntsc
    return Fraction(fps).limit_denominator(1001)


def _check_frames(frames: Frames, fps: float) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
        raise ShapeError(f"frames must be uint8 [F, H, W, 3] with F >= 1, got {frames.dtype} {list(frames.shape)}")
    h, w = frames.shape[1:3]
    if h % 2 or w % 2:
        pairs = dict.fromkeys(((w - w % 2, h - h % 2), (w + w % 2, h + h % 2)))
        near = " or ".join(f"{a}x{b}" for a, b in pairs if a and b)
        raise ShapeError(f"H.264 (yuv420p) needs an even width and height, got {w}x{h}: use {near}")
    if not 0.1 <= fps <= LIMITS.fps:
        raise ShapeError(f"fps must be between 0.1 and {LIMITS.fps:g}, got {fps:g}")


def _refuse_write(path: Path, outcome: ffmpeg.Outcome) -> None:
    text = outcome.stderr.lower()
    reason = next((words for words in _WRITE_ERRORS if words.lower() in text), None)
    if outcome.returncode == -_SIGXFSZ:
        reason = "File too large"
    if reason is None:
        raise RuntimeError(f"ffmpeg could not encode {path.name} ({outcome.returncode}): {outcome.stderr[-2000:]}")
    raise StorageError(f"cannot write {path.name}: {reason}. Free some space or choose another folder; {_INTACT}")


def _verify(path: Path, temporary: Path, n: int, width: int, height: int) -> None:
    limits = replace(LIMITS, frames=n, pixels=max(LIMITS.pixels, width * height), seconds_to_decode=600.0)
    try:
        line = _decode_timeline(temporary, "mp4", limits)
    except ClipRefused as refusal:
        raise StorageError(f"{path.name} cannot be read back after writing ({refusal}); {_INTACT}") from refusal
    if (len(line.ticks), line.width, line.height) != (n, width, height):
        got = f"{len(line.ticks)} frames of {line.width}x{line.height}"
        raise StorageError(f"{path.name} came back as {got} instead of {n} of {width}x{height}; {_INTACT}")


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where a folder can be opened."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
