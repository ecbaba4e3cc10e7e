"""What every family asks of its input, in the same words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from synmotion_core.errors import ConfigError, PromptError, ShapeError
from synmotion_core.interfaces import BackboneSpec
from synmotion_core.types import VideoShape


def check_video(pixels: Tensor) -> None:
    """Raise ShapeError unless pixels are [B, 3, F, H, W]."""
    if pixels.ndim != 5 or pixels.shape[1] != 3:
        raise ShapeError(f"pixels must be [B, 3, F, H, W], got {tuple(pixels.shape)}")


def check_images(pixels: Tensor) -> None:
    """Raise ShapeError unless pixels are [B, 3, H, W]."""
    if pixels.ndim != 4 or pixels.shape[1] != 3:
        raise ShapeError(f"images must be [B, 3, H, W], got {tuple(pixels.shape)}")


def check_length(text: str, length: int, limit: int, reader: str) -> None:
    """Raise PromptError when a prompt of `length` tokens is more than `reader` takes."""
    if length > limit:
        raise PromptError(
            f"the prompt {text!r} is {length} tokens long; {reader} reads at most {limit}: use fewer or plainer words"
        )


def check_marks(texts: Sequence[str], tokenizer: Any) -> None:
    """Raise PromptError for a tokenizer's own marks: they are no words, and would end a prompt or stand for a picture.

    texts are prompts, or what of them the tokenizer reads. A single letter is a word all the same: some pad with "!".
    """
    for text in texts:
        for mark in tokenizer.all_special_tokens:
            if mark in text and len(mark) > 1:
                raise PromptError(f"the prompt {text!r} holds {mark!r}, a mark of the text encoder's own: leave it out")


def check_template(spec: BackboneSpec, tokenizer: Any, template: str, crop: int) -> None:
    """Raise ConfigError unless what stands before the prompt in `template` is the `crop` tokens that are cut off."""
    head = template.split("{}")[0]
    found = len(tokenizer(head).input_ids) if head else 0
    if found != crop:
        raise ConfigError(
            f"{spec.name}: its tokenizer ({type(tokenizer).__name__}) makes {found} tokens of the prompt's template "
            f"and that of {spec.repo} {crop}, so prompts would be cut in the wrong place: have the repository's own "
            "tokenizer files there, and the transformers that requirements.txt names"
        )


def check_projections(projections: str) -> None:
    """Raise ShapeError unless `projections` are letters of "qkvo"."""
    if not projections or set(projections) - set("qkvo"):
        raise ShapeError(f"projections must be letters of 'qkvo', got {projections!r}")


def latent_shape(spec: BackboneSpec, pipe: Any, channels: int, shape: VideoShape) -> tuple[int, int, int, int]:
    """(C, f, h, w) of a video, by the spec's rules and the pipeline's scale factors. Raises ShapeError."""
    spec.check_shape(shape)
    t, s = pipe.vae_scale_factor_temporal, pipe.vae_scale_factor_spatial
    return channels, (shape.num_frames - 1) // t + 1, shape.height // s, shape.width // s
