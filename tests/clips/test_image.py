"""First pictures: read upright and flat, shaped with a word about what is lost, refused with a reason."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from synmotion_core.clips import image as reader
from synmotion_core.clips.dataset import center_crop
from synmotion_core.clips.ffmpeg import ClipRefused
from synmotion_core.clips.image import load_image
from synmotion_core.errors import ClipError, MissingError
from synmotion_core.puppets.stage import Scene, render
from synmotion_core.types import VideoShape

SHAPE = VideoShape(num_frames=17, height=64, width=64, fps=8.0)
PUPPET = render(Scene(species="cat", colour="red", background="room", motion="stand", seed=3)).frames[0]


def saved(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize(("name", "options"), [("a.png", {}), ("a.webp", {"lossless": True}), ("a.PNG", {})])
def test_a_picture_of_the_right_size_is_taken_bit_for_bit(
    name: str, options: dict[str, object], tmp_path: Path
) -> None:
    frames, found = load_image(saved(tmp_path / name, PUPPET, **options), SHAPE, puppets_only="puppet-hunyuan")
    assert frames.shape == (1, 64, 64, 3)
    assert frames.dtype == np.uint8
    assert np.array_equal(frames[0], PUPPET)
    assert found == ()


def test_a_jpeg_under_another_name_is_still_a_jpeg(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(PUPPET).save(buffer, "JPEG", quality=95)
    path = tmp_path / "really.png"
    path.write_bytes(buffer.getvalue())
    frames, _ = load_image(path, SHAPE)
    assert np.abs(frames[0].astype(int) - PUPPET).mean() < 3


def test_the_middle_is_kept_and_what_is_lost_is_said(tmp_path: Path) -> None:
    wide = np.zeros((100, 300, 3), np.uint8)
    wide[:, 100:200] = 255
    frames, found = load_image(saved(tmp_path / "wide.png", wide), SHAPE)
    assert (frames == 255).all()
    assert [(f.code, f.severity) for f in found] == [("crop", "warn")]
    assert found[0].message == "of 300x100 the middle 100x100 is kept and made 64x64: 67 % of the picture is cut off"
    small, found = load_image(saved(tmp_path / "small.png", PUPPET[:32, :32]), SHAPE)
    assert small.shape == (1, 64, 64, 3)
    assert [f.code for f in found] == ["enlarged"]


def covered(pixels: np.ndarray, shape: VideoShape) -> np.ndarray:
    """The whole picture scaled to cover a shape, and its middle."""
    height, width = pixels.shape[:2]
    scale = max(shape.height / height, shape.width / width)
    size = max(shape.width, round(width * scale)), max(shape.height, round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return center_crop(cv2.resize(pixels, size, interpolation=how)[None], shape.height, shape.width)


def blurred(height: int, width: int) -> np.ndarray:
    noise = np.random.default_rng(3).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.mark.parametrize("size", [(97, 101), (300, 79), (64, 250), (41, 160), (16, 1024), (512, 16), (100, 3000)])
def test_ordinary_pictures_and_ends_cut_at_whole_pixels_are_the_whole_scaled_bit_for_bit(
    size: tuple[int, int], tmp_path: Path
) -> None:
    pixels = blurred(*size)
    frames, _ = load_image(saved(tmp_path / "a.png", pixels), SHAPE)
    assert np.array_equal(frames, covered(pixels, SHAPE))


@pytest.mark.parametrize("size", [(23, 3001), (3001, 23), (97, 3001), (1999, 71)])
def test_elsewhere_a_long_picture_moves_by_less_than_a_pixel(size: tuple[int, int], tmp_path: Path) -> None:
    pixels = blurred(*size)
    frames, _ = load_image(saved(tmp_path / "a.png", pixels), SHAPE)
    whole = covered(pixels, SHAPE)[0].astype(int)
    steps = max(np.abs(np.diff(whole, axis=axis)).max() for axis in (0, 1))  # what one pixel further on differs by
    assert np.abs(frames[0].astype(int) - whole).max() <= steps


def test_a_thin_strip_is_never_enlarged_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, resize = [], cv2.resize
    monkeypatch.setattr(cv2, "resize", lambda p, size, **how: sizes.append(size) or resize(p, size, **how))
    shape = VideoShape(num_frames=17, height=640, width=1152, fps=8.0)
    for name, pixels in (("wide", np.zeros((16, 8192, 3), np.uint8)), ("high", np.zeros((8192, 16, 3), np.uint8))):
        frames, found = load_image(saved(tmp_path / f"{name}.png", pixels), shape)
        assert frames.shape == (1, 640, 1152, 3)
        assert found[0].message.startswith(f"of {pixels.shape[1]}x{pixels.shape[0]} the middle ")
    assert [width * height < 5 * 640 * 1152 for width, height in sizes] == [True, True], sizes


def test_scaling_averages_areas(tmp_path: Path) -> None:
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[::2] = 200
    frames, _ = load_image(saved(tmp_path / "stripes.png", stripes), SHAPE)
    assert (frames == 100).all()


def test_a_photograph_that_was_turned_is_upright(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6  # shown a quarter turn clockwise
    path = saved(tmp_path / "turned.jpg", np.rot90(PUPPET).copy(), exif=turned, quality=100, subsampling=0)
    frames, _ = load_image(path, SHAPE)
    assert np.abs(frames[0].astype(int) - PUPPET).mean() < 2


def test_transparent_parts_become_white_and_are_said(tmp_path: Path) -> None:
    layered = np.dstack([PUPPET, np.full((64, 64), 255, np.uint8)])
    layered[:16, :, 3] = 0
    frames, found = load_image(saved(tmp_path / "clear.png", layered), SHAPE)
    assert (frames[0][:16] == 255).all()
    assert np.array_equal(frames[0][16:], PUPPET[16:])
    assert [(f.code, f.message) for f in found] == [
        ("transparent", "25% of the picture is transparent: that is made white")
    ]
    layered[..., 3] = 255
    frames, found = load_image(saved(tmp_path / "opaque.png", layered), SHAPE)
    assert np.array_equal(frames[0], PUPPET)
    assert found == ()


def test_grey_of_8_and_16_bits_and_palettes(tmp_path: Path) -> None:
    grey = PUPPET[..., 0]
    for name, pixels in (("8.png", grey), ("16.png", grey.astype(np.uint16) * 257)):
        frames, _ = load_image(saved(tmp_path / name, pixels), SHAPE)
        assert np.array_equal(frames[0], np.repeat(grey[..., None], 3, axis=2)), name
    Image.fromarray(PUPPET).quantize(64).save(tmp_path / "p.png")
    frames, _ = load_image(tmp_path / "p.png", SHAPE)
    assert np.abs(frames[0].astype(int) - PUPPET).mean() < 4


def test_of_a_file_with_several_pictures_the_first_is_used_and_said(tmp_path: Path) -> None:
    other = Image.fromarray(255 - PUPPET)
    path = tmp_path / "moving.webp"
    Image.fromarray(PUPPET).save(path, save_all=True, append_images=[other], lossless=True, duration=100)
    frames, found = load_image(path, SHAPE)
    assert np.abs(frames[0].astype(int) - PUPPET).mean() < 1
    assert [f.message for f in found] == ["the file holds 2 pictures, the first is used"]


def test_what_puppets_are_not_is_warned_of(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name, pixels, words in (
        ("noise.png", noise, "puppet-hunyuan only knows 64x64 puppets and this picture is none"),
        ("large.png", np.zeros((96, 96, 3), np.uint8), "this picture is 96x96"),
    ):
        path = saved(tmp_path / name, pixels)
        assert not [f for f in load_image(path, SHAPE)[1] if f.code == "footage"]
        [found] = [f for f in load_image(path, SHAPE, puppets_only="puppet-hunyuan")[1] if f.code == "footage"]
        assert words in found.message
        assert "For real footage use hunyuanvideo or wan2.1-t2v-1.3b, with a GPU" in found.message


# ------------------------------------------------------------------------------------------------ hostile


def huge_png(width: int, height: int) -> bytes:
    """A header that promises this many pixels, and nothing behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PUPPET).save(buffer, kind)
    return buffer.getvalue()


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(255 - b for b in data[middle : middle + 20]) + data[middle + 20 :]


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", "empty", r"x.png is empty \(0 bytes\)"),
        (b"hello, I am a picture", "container", "x.png is a text file, not a PNG, JPEG or WebP picture"),
        (b"\0" * 100, "container", "filled with zeros"),
        (encoded("GIF"), "container", "a GIF, not a PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n" + b" " * 600, "container", "a text file"),
        (b"RIFF\x20\0\0\0AVI LIST", "container", "an AVI, WAV or WebP file, not"),
        (encoded("PNG")[:300], "damaged", "x.png: damaged: .*copy or export it again"),
        (encoded("JPEG")[:300], "damaged", "x.png: damaged"),
        (encoded("WEBP")[:100], "damaged", "x.png: damaged"),
        (flipped(encoded("PNG")), "damaged", "x.png: damaged"),
        (b"\x89PNG\r\n\x1a\n", "damaged", "x.png: damaged"),
        (b"\xff\xd8\xff", "damaged", "x.png: damaged"),
        (huge_png(8193, 8192), "too_many_pixels", "8193x8192, at most 67 million pixels are taken"),
        (huge_png(60000, 60000), "too_many_pixels", "at most 67 million pixels are taken: export it smaller"),
        (huge_png(0, 5), "damaged", "x.png: damaged"),
    ],
)
def test_a_file_that_is_no_picture_is_refused_with_the_reason(
    data: bytes, code: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with pytest.raises(ClipRefused, match=words) as refusal:
        load_image(path, SHAPE)
    assert refusal.value.code == code
    assert path.read_bytes() == data


def test_what_is_not_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingError, match=r"there is no file '.*none.png'"):
        load_image(tmp_path / "none.png", SHAPE)
    with pytest.raises(ClipError, match="is not a file: choose a PNG, JPEG or WebP picture"):
        load_image(tmp_path, SHAPE)
    with pytest.raises(ClipError, match="cannot be read"):
        load_image(Path("a\0b.png"), SHAPE)
    monkeypatch.setattr(reader, "MAX_FILE_BYTES", 100)
    with pytest.raises(ClipError, match=r"big.png has .* MiB, at most .* MiB are taken: export it smaller"):
        load_image(saved(tmp_path / "big.png", PUPPET), SHAPE)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ClipError, match="is not a file"):
        load_image(tmp_path / "pipe.png", SHAPE)
