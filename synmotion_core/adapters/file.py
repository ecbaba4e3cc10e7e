"""The adapter file: one safetensors, everything a motion needs.

    transformer.<module>.lora_A|B.weight    LoRA, diffusers' naming; of two experts <module> begins with high_noise.
                                            or low_noise.
    synmotion.<part>                        embeddings, zero convolutions, refiner; a learnt word
    metadata["synmotion"]                   JSON: format, backbone, repo, revision, fingerprint, licence, method,
    method_config,
                                            prompt {subject, motion}, steps, created_with
    metadata["seal"]                        SHA-256 of the tensors

`format` counts up when an old reader would misread a new file. Loading onto another backbone is an error that names
both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from synmotion_core.errors import AdapterError, IncompatibleError
from synmotion_core.interfaces import BackboneSpec
from synmotion_core.storage import read_metadata, read_shapes, read_tensors, write_tensors

FORMAT = 1
_REQUIRED = ("format", "backbone", "repo", "method", "method_config", "subject", "motion", "licence")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterInfo:
    """What an adapter says of itself. All of it is untrusted text when it comes from a file: escape before showing.

    mode is how it was trained: "t2v" (files that do not say it are of that time) or "i2v". score: on held-out prompts
    after these steps, by the rule scored_by (run/yardstick.py); None where it was not scored.
    """

    backbone: str
    repo: str
    revision: str | None
    fingerprint: str
    licence: str
    method: str
    method_config: Mapping[str, Any]
    subject: str
    motion: str
    steps: int
    clips: int = 0
    mode: str = "t2v"
    created_with: str = ""
    score: float | None = None
    scored_by: str = ""


def save_adapter(path: Path, tensors: Mapping[str, Tensor], info: AdapterInfo) -> None:
    """Write an adapter, atomically. Raises StorageError; the previous file survives a failure."""
    values = {name: getattr(info, name) for name in info.__dataclass_fields__}
    text = json.dumps({"format": FORMAT, **values, "method_config": dict(info.method_config)}, sort_keys=True)
    write_tensors(path, tensors, {"synmotion": text, "format": "pt"})


def read_info(path: Path) -> AdapterInfo:
    """The metadata alone, quickly. Raises AdapterError for a broken, foreign or newer file."""
    return info_from(read_metadata(path), path.name)


def load_adapter(path: Path, spec: BackboneSpec) -> tuple[dict[str, Tensor], AdapterInfo]:
    """Tensors and info, checked against a backbone.

    Raises AdapterError (broken, foreign, newer) or IncompatibleError, naming both backbones.
    """
    _, info = read_layout(path, spec)
    return read_tensors(path)[0], info


def read_layout(path: Path, spec: BackboneSpec) -> tuple[dict[str, tuple[int, ...]], AdapterInfo]:
    """The same without reading a tensor: their shapes in place of them; a file that is damaged within passes."""
    info = info_from(read_metadata(path), path.name)
    if info.backbone != spec.name:
        raise IncompatibleError(
            f"{path.name} was trained on backbone {info.backbone!r} and cannot be used "
            f"on {spec.name!r}: choose {info.backbone!r}"
        )
    shapes = read_shapes(path)
    strange = [k for k in shapes if not k.startswith(("transformer.", "unet.", "synmotion."))]
    if strange:
        raise AdapterError(f"{path.name} holds an unknown tensor {strange[0][:80]!r}")
    return shapes, info


def info_from(metadata: Mapping[str, str], name: str) -> AdapterInfo:
    """What a file's metadata says; `name` is the file's, for errors. Raises AdapterError as `read_info`."""
    if "synmotion" not in metadata:
        raise AdapterError(f"{name} is not a SynMotion adapter: it has no 'synmotion' metadata")
    try:
        values = json.loads(metadata["synmotion"])
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{name}: its metadata is not readable") from error
    if not isinstance(values, dict):
        raise AdapterError(f"{name}: its metadata is not readable")
    version = values.get("format")
    if not isinstance(version, int) or version < 1:
        raise AdapterError(f"{name}: its format {version!r} is not a version number")
    if version > FORMAT:
        raise AdapterError(f"{name} has format {version}, this version reads up to {FORMAT}: update synmotion_core")
    missing = [k for k in _REQUIRED if k not in values]
    if missing:
        raise AdapterError(f"{name}: its metadata lacks {', '.join(missing)}")
    known = {k: v for k, v in values.items() if k in AdapterInfo.__dataclass_fields__}
    texts = (
        "backbone",
        "repo",
        "licence",
        "method",
        "subject",
        "motion",
        "fingerprint",
        "mode",
        "created_with",
        "scored_by",
    )
    if any(not isinstance(known.get(k, ""), str) or len(known.get(k, "")) > 500 for k in texts):
        raise AdapterError(f"{name}: its metadata holds a field that is not short text")
    if known.get("mode", "t2v") not in ("t2v", "i2v"):
        raise AdapterError(f"{name}: its mode {known['mode']!r} is neither t2v nor i2v")
    if not isinstance(known["method_config"], dict) or not isinstance(known.get("steps", 0), int):
        raise AdapterError(f"{name}: its metadata holds a field of the wrong kind")
    score = known.get("score")
    if score is not None and (type(score) not in (int, float) or not math.isfinite(score)):
        raise AdapterError(f"{name}: its score {str(score)[:80]!r} is not a number")
    return AdapterInfo(**{"revision": None, "fingerprint": "", "steps": 0, **known})
