"""The registry of backbones (`SPECS`, pure data), `fetch` and `load_backbone`.

One file a family; a new model is one row there.

Importing this module loads no model library: the page and `--help` read specs at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synmotion_core.backbones.hunyuan_video import SPECS as _HUNYUAN_VIDEO
from synmotion_core.backbones.hunyuan_video15 import SPECS as _HUNYUAN_VIDEO15
from synmotion_core.backbones.unet3d import SPECS as _UNET3D
from synmotion_core.backbones.wan import SPECS as _WAN
from synmotion_core.errors import ConfigError, MissingError, unknown
from synmotion_core.interfaces import Backbone, BackboneSpec
from synmotion_core.precision import PLAIN, Precision

if TYPE_CHECKING:
    from synmotion_core.types import Progress

SPECS: dict[str, BackboneSpec] = {spec.name: spec for spec in (*_HUNYUAN_VIDEO, *_HUNYUAN_VIDEO15, *_WAN, *_UNET3D)}


def find_spec(name: str) -> BackboneSpec:
    """The row called `name`; raises ConfigError naming the nearest."""
    if name not in SPECS:
        raise unknown("backbone", name, SPECS)
    return SPECS[name]


def fetch(name: str, *, cancel: threading.Event | None = None) -> Iterator[Progress]:
    """Bring a backbone's weights onto this machine where they are not yet, which needs no device; stage "fetch", in
    bytes. `load_backbone` does it too, but can be neither watched nor stopped.

    Raises ConfigError for an unknown name, MissingError, StorageError, HubError, Cancelled.
    """
    spec = find_spec(name)
    from synmotion_core.backbones.loading import placed

    if placed(spec) is None:
        from synmotion_core.backbones import fetching

        yield from fetching.fetch(spec, family(spec).pipeline(spec), cancel)


def load_backbone(
    name: str, *, device: str | None = None, folder: Path | None = None, precision: Precision = PLAIN
) -> Backbone:
    """Load a backbone, frozen and in evaluation mode. device None = CUDA where there is one, else the CPU.

    folder: a diffusers folder with the weights, instead of the row's own source. precision: how they are held.
    Raises ConfigError for an unknown name and for a precision that it cannot have, MissingError when files or the
    needed device are absent, and as `fetch`.
    """
    spec = find_spec(name)
    from synmotion_core.backbones.loading import choose_device, load_pipeline

    own, chosen = family(spec), choose_device(spec, device)
    pipe, fingerprint = load_pipeline(own.pipeline(spec), spec, chosen, folder, precision)
    if not pipe.tokenizer.is_fast:
        raise MissingError(f"{spec.name}: token roles need a fast tokenizer, got {type(pipe.tokenizer).__name__}")
    backbone = own(spec, pipe, chosen, fingerprint)
    backbone.weights = precision.weights
    return backbone


def family(spec: BackboneSpec) -> Any:
    """The class that a row's backbones are of: made of (spec, pipe, device, fingerprint), pipe a `pipeline(spec)`."""
    if spec.family == "hunyuan_video":
        from synmotion_core.backbones.hunyuan_video import HunyuanVideo

        return HunyuanVideo
    if spec.family == "hunyuan_video15":
        from synmotion_core.backbones.hunyuan_video15 import HunyuanVideo15

        return HunyuanVideo15
    if spec.family == "wan":
        from synmotion_core.backbones.wan import Wan

        return Wan
    if spec.family == "unet3d":
        from synmotion_core.backbones.unet3d import UNet3D

        return UNet3D
    raise ConfigError(f"backbone {spec.name!r} is of the unknown family {spec.family!r}")


__all__ = ["SPECS", "fetch", "find_spec", "load_backbone"]
