"""What a file is by its own bytes, before any library opens it: the container, and whether its end is missing.

    mp4, mov    boxes: size [4], type [4] (size 1: its size follows in [8]; size 0: to the end); mostly `ftyp` first
    webm        EBML elements: id, size; a header of DocType "webm", then one Segment (size all ones: unknown)

A decoder stops without a word where a file was cut off between two frames, but its outermost sizes still tell.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

CONTAINERS = ("mp4", "mov", "webm")
_EBML = b"\x1aE\xdf\xa3"
_SEGMENT = b"\x18S\x80g"
_MAX_BOXES = 10_000


def sniff(path: Path) -> str | None:
    """One of CONTAINERS by the first bytes, or None.

    An ISO base media file starts with a box (`ftyp`; old QuickTime files with another), WebM is EBML of DocType
    "webm".
    """
    with open(path, "rb") as file:
        head = file.read(4096)
    box = head[4:8]
    if box == b"ftyp":
        return "mov" if head[8:12] == b"qt  " else "mp4"
    if box in (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot") and len(head) >= 16:
        return "mov"
    if head[:4] == b"\x1aE\xdf\xa3" and b"\x42\x82\x84webm" in head:
        return "webm"
    return None


def describe(path: Path) -> str:
    """What a foreign file seems to be, in words, for the message that refuses it."""
    with open(path, "rb") as file:
        head = file.read(512)
    known = (
        (b"\x89PNG", "a PNG picture"),
        (b"\xff\xd8\xff", "a JPEG picture"),
        (b"GIF8", "a GIF"),
        (b"RIFF", "an AVI, WAV or WebP file"),
        (b"#EXTM3U", "a playlist"),
        (b"ffconcat", "an ffmpeg script"),
        (b"\x1aE\xdf\xa3", "a Matroska file"),
        (b"PK\x03\x04", "a ZIP archive"),
        (b"%PDF", "a PDF"),
        (b"ID3", "an MP3 file"),
        (b"OggS", "an Ogg file"),
        (b"\x1f\x8b", "a gzip archive"),
    )
    for magic, words in known:
        if head.startswith(magic):
            return words
    if b"\0" not in head:
        return "a text file"
    return "not a video file" if any(head) else "filled with zeros"


def missing_bytes(path: Path, container: str) -> int:
    """How many bytes the outermost sizes promise beyond the end of the file; 0 when it is whole or does not say."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        return max(0, (_webm_end if container == "webm" else _boxes_end)(file, size) - size)


def _boxes_end(file: BinaryIO, size: int) -> int:
    at = 0
    for _ in range(_MAX_BOXES):
        if at >= size:
            break
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 0:  # to the end of the file
            return size
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # not a box: ffmpeg will say what is wrong
            return size
        at += length
    return at


def _webm_end(file: BinaryIO, size: int) -> int:
    file.seek(len(_EBML))
    length = _vint(file)
    if length is None:
        return size
    file.seek(length, 1)
    if file.read(4) != _SEGMENT:
        return size
    length = _vint(file)
    return size if length is None else file.tell() + length


def _vint(file: BinaryIO) -> int | None:
    """An EBML size; None for "unknown" and for what is none."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    extra = 8 - first[0].bit_length()
    value = int.from_bytes(bytes([first[0] & ((1 << (7 - extra)) - 1)]) + file.read(extra), "big")
    return None if value == (1 << (7 * (extra + 1))) - 1 else value
