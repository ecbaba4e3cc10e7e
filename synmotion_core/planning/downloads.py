"""What a row's weights take on the disk, and what of it is still to be fetched: offline, from the Hub's local cache.

    bytes of a part = its parameters x the bytes that its repository stores each in

Repositories differ: Wan's and HunyuanVideo-1.5's transformers are stored in float32, twice what is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from synmotion_core.interfaces import BackboneSpec
from synmotion_core.workspace import free_bytes, own_weights

_WHOLE = 0.99  # of a part's bytes: its files also hold names, and buffers are no parameters
# Bytes a parameter, by row; 4 for parts that are not named. Sums are the repositories' published sizes, but for
# HunyuanVideo-1.5, where only the transformer's is published: the rest is what its conversion script saves, and of
# hunyuanvideo-i2v, taken to be stored as hunyuanvideo is.
_STORED: Mapping[str, Mapping[str, int]] = {
    "hunyuanvideo": {"transformer": 2, "text_encoder": 2, "text_encoder_2": 2},
    "hunyuanvideo-i2v": {"transformer": 2, "text_encoder": 2, "text_encoder_2": 2},
    "hunyuanvideo-1.5": {"text_encoder": 2},
    "hunyuanvideo-1.5-i2v": {"text_encoder": 2, "image_encoder": 2},
    "wan2.1-t2v-1.3b": {},
    "wan2.1-t2v-14b": {},
    "wan2.1-i2v-14b": {"image_encoder": 2},
    "wan2.2-ti2v-5b": {"text_encoder": 2},
    "wan2.2-t2v-a14b": {"text_encoder": 2},
    "wan2.2-i2v-a14b": {"text_encoder": 2},
    "modelscope-t2v-1.7b": {},
    "zeroscope-v2-576w": {"unet": 2, "vae": 2, "text_encoder": 2},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Bytes: of all weights as they are stored, still to be fetched, and free where they will be kept."""

    stored: float
    missing: float
    free: float


def stored_bytes(spec: BackboneSpec) -> dict[str, float]:
    """Of each part on the disk; empty for a row that ships with the studio."""
    if spec.repo.startswith("assets:"):
        return {}
    own = _STORED.get(spec.name, {})
    return {part: count * own.get(part, 4) for part, count in spec.parameters.items()}


def disk(spec: BackboneSpec) -> Disk | None:
    """What a row's weights take; None for one that ships. Looks into the Hub's cache, never at the network."""
    stored = stored_bytes(spec)
    if not stored:
        return None
    from huggingface_hub import constants, try_to_load_from_cache

    own = own_weights(spec.name)
    if own is not None:
        return Disk(stored=sum(stored.values()), missing=0.0, free=float(free_bytes(own)))
    index = try_to_load_from_cache(spec.repo, "model_index.json", revision=spec.revision)
    folder = Path(index).parent if isinstance(index, str) else None
    missing = 0.0
    for part, size in stored.items():
        here = 0 if folder is None else _bytes_in(folder / part)
        missing += 0 if here > _WHOLE * size else size - here
    return Disk(stored=sum(stored.values()), missing=missing, free=float(free_bytes(Path(constants.HF_HUB_CACHE))))


def _bytes_in(folder: Path) -> int:
    """Of weights that are there whole: a link whose file is still being fetched leads nowhere."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors") if path.is_file())
