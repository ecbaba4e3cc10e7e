"""Frames as models take them, and what is said of the directions that models make of frames.

    resized     by PIL, whose filters look at all pixels when a picture becomes smaller; VBench's do not
    x           (pixel / 255 - mean) / deviation, by channel
    u           a feature of a frame over its length, in float64

    steady      1 / (F - 1) sum over f > 1 of (max(0, u[f] . u[1]) + max(0, u[f] . u[f - 1])) / 2               (18)

(18) is VBench's subject and background consistency (2311.17982); a still has 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synmotion_core.types import Frames

Filter = Literal["bilinear", "bicubic"]
Channels = tuple[float, float, float]

IMAGENET: tuple[Channels, Channels] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP: tuple[Channels, Channels] = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF: tuple[Channels, Channels] = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How a model takes pictures: the shorter side gets `shorter` pixels; a square of `crop` is cut out of the middle,
    None takes all of it; channels are (mean, deviation)."""

    shorter: int
    crop: int | None
    by: Filter
    channels: tuple[Channels, Channels]


def pixels(frames: Frames, look: Look) -> Tensor:
    """Frames uint8 [F, H, W, 3] as float32 [F, 3, h, w]."""
    height, width = frames.shape[1:3]
    if height <= width:
        size = look.shorter, int(look.shorter * width / height)
    else:
        size = int(look.shorter * height / width), look.shorter
    sized = resized(frames, *size, look.by)
    if look.crop is not None:
        top, left = ((side - look.crop) // 2 for side in size)
        sized = sized[:, top : top + look.crop, left : left + look.crop]
    return normalised(sized, look.channels)


def resized(frames: Frames, height: int, width: int, by: Filter) -> Frames:
    """Frames uint8 [F, height, width, 3]."""
    from PIL import Image

    how = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[by]
    return np.stack([np.asarray(Image.fromarray(frame).resize((width, height), how)) for frame in frames])


def normalised(frames: Frames, channels: tuple[Channels, Channels]) -> Tensor:
    """x, [F, 3, H, W] of uint8 [F, H, W, 3]."""
    found = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    mean, deviation = (torch.tensor(own)[:, None, None] for own in channels)
    return (found - mean) / deviation


def spread(num_frames: int, count: int) -> NDArray[np.int64]:
    """Which frames are taken where a model wants `count`: evenly from the first to the last, each repeated where there
    are fewer.

    >>> spread(17, 5), spread(2, 4)
    (array([ 0,  4,  8, 12, 16]), array([0, 0, 1, 1]))
    """
    return np.linspace(0, num_frames - 1, count).round().astype(np.int64)


def directions(features: Tensor) -> Tensor:
    """u, float64 [..., D] on the CPU."""
    return torch.nn.functional.normalize(features.double().cpu(), dim=-1)


def steady(frames: Tensor) -> float:
    """(18) of directions [F, D]."""
    to_first, to_last = frames[1:] @ frames[0], (frames[1:] * frames[:-1]).sum(-1)
    return float((to_first.clamp(min=0) + to_last.clamp(min=0)).mean() / 2)


def check_frames(frames: Frames, what: str) -> None:
    """Raise ValueError for a video of one frame, of which nothing can be said over time."""
    if len(frames) < 2:
        raise ValueError(f"{what} needs at least two frames, got {len(frames)}")
