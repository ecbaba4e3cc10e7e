"""Real video files for the tests, made by the ffmpeg that ships, and frames that carry their own number."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np

from synmotion_core.clips import ffmpeg
from synmotion_core.types import Frames

_BITS = 8


def numbered(count: int, height: int = 64, width: int = 64, first: int = 0) -> Frames:
    """uint8 [F, H, W, 3]: frame i shows first + i in binary, as eight upright bars, dark or bright."""
    frames = np.empty((count, height, width, 3), np.uint8)
    edges = np.linspace(0, width, _BITS + 1).astype(int)
    for i in range(count):
        for bit in range(_BITS):
            frames[i, :, edges[bit] : edges[bit + 1]] = 220 if (first + i) >> bit & 1 else 40
    return frames


def numbers(frames: Frames) -> list[int]:
    """What `numbered` frames say."""
    edges = np.linspace(0, frames.shape[2], _BITS + 1)
    centres = ((edges[:-1] + edges[1:]) / 2).astype(int)
    bright = frames[:, frames.shape[1] // 2, centres].mean(axis=-1) > 130
    return [int((row * (1 << np.arange(_BITS))).sum()) for row in bright]


def run_ffmpeg(*arguments: str, stdin: bytes | None = None) -> None:
    """The encoder without any of our limits."""
    command = [ffmpeg.executable(), "-y", "-v", "error", "-nostdin", *arguments]
    subprocess.run(command, input=stdin, check=True, capture_output=True)


def encode(path: Path, frames: Frames, fps: float, *options: str, codec: str = "libx264") -> Path:
    """Encode frames with any codec and options, independently of clips.video.write."""
    _, h, w, _ = frames.shape
    run_ffmpeg(
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{w}x{h}", "-framerate", str(fps), "-i", "pipe:0",
        "-c:v", codec, "-threads", "1", *options, f"file:{path}", stdin=frames.tobytes(),
    )  # fmt: skip
    return path


H264 = ("-pix_fmt", "yuv420p", "-crf", "12", "-preset", "ultrafast")
