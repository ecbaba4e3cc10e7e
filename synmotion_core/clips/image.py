"""The only reader of pictures: the first image of a video, from a PNG, JPEG or WebP file.

    file --bytes, size--> decoded upright --transparent parts on white--> crop to the aspect, scale --> [1, H, W, 3]

As with clips, the picture is scaled to cover the backbone's size (area averaging) and its middle is kept; what is cut
off, enlarged or left out is a finding. Of one much longer than the shape the ends are cut off first, or the whole of a
thin strip would be enlarged. A file is judged by its own bytes and its header before a pixel is decoded.
"""

from __future__ import annotations

import math
import stat
import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from synmotion_core.clips import container, doctor
from synmotion_core.clips.dataset import center_crop
from synmotion_core.clips.doctor import Finding
from synmotion_core.clips.ffmpeg import ClipRefused
from synmotion_core.errors import MissingError

if TYPE_CHECKING:
    from PIL.Image import Image

    from synmotion_core.types import Frames, VideoShape

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_FORMATS = ("PNG", "JPEG", "WEBP")
_TAKEN = "a PNG, JPEG or WebP picture"
MAX_FILE_BYTES = 64 << 20
MAX_PIXELS = 8192 * 8192
_LONG = 4  # times the shape's side, scaled: more of a picture is cut off before it is scaled
_DAMAGES = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)


def load_image(path: Path | str, shape: VideoShape, *, puppets_only: str = "") -> tuple[Frames, tuple[Finding, ...]]:
    """The picture as uint8 [1, shape.height, shape.width, 3], and what should be known about it.

    puppets_only: the name of a backbone that knows nothing but puppets, which warns of other pictures. Raises
    MissingError for a file that is not there, ClipRefused (a ClipError) for one that cannot be used; the message names
    the file, what was found and what is taken.
    """
    path = Path(path)
    _check_file(path)
    pixels, notes = _decode(path)
    height, width = pixels.shape[:2]
    frames = center_crop(_covering(pixels, shape)[None], shape.height, shape.width)
    found = [*notes, *doctor.fit(width, height, shape)]
    if puppets_only:
        found += doctor.footage("picture", width, height, frames, puppets_only)
    return frames, tuple(found)


def _covering(pixels: Frames, shape: VideoShape) -> Frames:
    """[H, W, 3] scaled to just cover the shape; at most _LONG times as long as it, all but a rounding."""
    height, width = pixels.shape[:2]
    scale = max(shape.height / height, shape.width / width)
    rows, columns = _kept(height, shape.height, scale), _kept(width, shape.width, scale)
    top, left = (height - rows) // 2, (width - columns) // 2
    pixels = np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
    size = max(shape.width, round(columns * scale)), max(shape.height, round(rows * scale))
    if size != (columns, rows):
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=how), np.uint8)
    return pixels


def _kept(side: int, wanted: int, scale: float) -> int:
    """How many pixels of a side are scaled: all of an ordinary one, else so many that the middle stays."""
    most = math.ceil(_LONG * wanted / scale)
    return side if side <= most else most + (side - most) % 2


def _check_file(path: Path) -> None:
    name = path.name
    try:
        status = path.stat()
        regular = stat.S_ISREG(status.st_mode)
        looks = container.describe(path) if regular else ""
    except FileNotFoundError as error:
        raise MissingError(f"there is no file {str(path)!r}") from error
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise ClipRefused(
            "unreadable", f"{name!r} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error
    if not regular:
        raise ClipRefused("unreadable", f"{name or path} is not a file: choose {_TAKEN}")
    if status.st_size == 0:
        raise ClipRefused("empty", f"{name} is empty (0 bytes): copy or export it again")
    if status.st_size > MAX_FILE_BYTES:
        size, most = status.st_size / 2**20, MAX_FILE_BYTES / 2**20
        raise ClipRefused(
            "too_large", f"{name} has {size:.3g} MiB, at most {most:.3g} MiB are taken: export it smaller"
        )
    if _kind(path) is None:
        raise ClipRefused("container", f"{name} is {looks}, not {_TAKEN}: export it as PNG")


def _kind(path: Path) -> str | None:
    with open(path, "rb") as file:
        head = file.read(12)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    return "WEBP" if head[:4] == b"RIFF" and head[8:] == b"WEBP" else None


def _decode(path: Path) -> tuple[Frames, list[Finding]]:
    """uint8 [H, W, 3], upright, and what was left out."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata and the size, which is checked here
            with Image.open(path, formats=_FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    most = f"at most {MAX_PIXELS / 1e6:.0f} million pixels are taken"
                    raise ClipRefused("too_many_pixels", f"{path.name} is {width}x{height}, {most}: export it smaller")
                pictures = getattr(image, "n_frames", 1)
                upright = ImageOps.exif_transpose(image)
                upright.load()
    except Image.DecompressionBombError as error:
        most = f"at most {MAX_PIXELS / 1e6:.0f} million pixels are taken"
        raise ClipRefused("too_many_pixels", f"{path.name} is larger than that, {most}: export it smaller") from error
    except ClipRefused:
        raise
    except _DAMAGES as error:
        reason = str(error) or type(error).__name__
        raise ClipRefused("damaged", f"{path.name}: damaged: {reason}: copy or export it again") from error
    flat, clear = _flat(upright)
    found = []
    if pictures > 1:
        words = f"the file holds {pictures} pictures, the first is used"
        found.append(Finding(code="tracks", severity="warn", message=words))
    if clear:
        words = f"{clear:.0%} of the picture is transparent: that is made white"
        found.append(Finding(code="transparent", severity="warn", message=words))
    return np.array(flat, dtype=np.uint8), found


def _flat(image: Image) -> tuple[Image, float]:
    """RGB without transparency, and the share of the picture that was not opaque."""
    from PIL import Image as images

    if image.mode.startswith("I"):  # 16 bits of grey: PIL's own conversion clips at 255
        grey = np.asarray(image, np.float32) / 257
        return images.fromarray(grey.clip(0, 255).round().astype(np.uint8)).convert("RGB"), 0.0
    if not image.has_transparency_data:
        return image.convert("RGB"), 0.0
    layered = image.convert("RGBA")
    clear = float((np.asarray(layered.getchannel("A")) < 255).mean())
    white = images.new("RGBA", layered.size, "white")
    return images.alpha_composite(white, layered).convert("RGB"), clear
