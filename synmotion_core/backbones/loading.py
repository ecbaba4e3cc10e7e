"""Where a row's weights come from, on which device, and what names them. Safetensors only, pinned, no remote code."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from synmotion_core.backbones.fetching import fetched
from synmotion_core.backbones.lazy import Encoders, bare, encoder_names, with_lazy_encoders
from synmotion_core.backbones.precision import (
    check_precision,
    fingerprint_suffix,
    loader_config,
    settle,
    taking_turns,
)
from synmotion_core.backbones.tokenizers import read_as_written
from synmotion_core.errors import MissingError
from synmotion_core.interfaces import BackboneSpec
from synmotion_core.precision import Precision
from synmotion_core.workspace import own_weights, weights_place

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def choose_device(spec: BackboneSpec, device: str | None) -> torch.device:
    """The device asked for, else CUDA where there is one, else the CPU. Raises MissingError where a row needs CUDA."""
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if spec.needs_gpu and chosen.type != "cuda":
        raise MissingError(f"{spec.name} needs a CUDA GPU and none is there: use puppet-hunyuan on this machine")
    return chosen


def placed(spec: BackboneSpec) -> Path | None:
    """A row's folder on this machine: in assets, or put into the workspace by somebody; None where the Hub has it.

    Raises MissingError where assets lack it, and for a repository of pickles.
    """
    if spec.repo.startswith("assets:"):
        folder = ASSETS / spec.repo.removeprefix("assets:")
        if not (folder / "model_index.json").exists():
            raise MissingError(f"{spec.name}: {folder.name} is missing from assets; restore it from the repository")
        return folder
    own = own_weights(spec.name)
    if own is None and spec.options.get("pickles"):
        raise MissingError(
            f"{spec.repo} holds its weights as pickles alone, which are never read here: have a diffusers folder with "
            f"safetensors made of it, where you trust it, and put that at {weights_place(spec.name)}"
        )
    return own


def load_pipeline(
    family: Any,
    spec: BackboneSpec,
    device: torch.device,
    folder: Path | None,
    precision: Precision,
    **more: Any,
) -> tuple[Any, str]:
    """A pipeline of the class `family` from a folder, from assets or from the Hub, and the fingerprint of its weights.

    Where somebody has put weights of the row into the workspace, they take the Hub's place.

    Its parts are frozen, in evaluation mode and on their device; its encoders are read on first use (lazy.py).
    Weights that `precision` leaves alone are in bf16 on CUDA, or as the row's `held` says, and in float32 on the CPU,
    the VAE always in float32.
    Raises ConfigError for a precision that cannot be had, as `placed` and `fetching.fetch`, MissingError for files that
    cannot be read and, on first use, for a text encoder that knows no word.
    """
    check_precision(spec, device, precision)
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()  # our own events say how far we are
    transformers_logging.disable_progress_bar()
    own = placed(spec) if folder is None else folder
    source = fetched(spec, family) if own is None else own
    if spec.repo.startswith("assets:"):  # diffusers resolves a class of ours only once its module is imported
        from synmotion_core.puppets.autoencoder import AutoencoderPatchVideo

        family = _taking("vae", AutoencoderPatchVideo, family)
    dtypes = {"default": torch.float32, "vae": torch.float32}
    if device.type == "cuda":
        dtypes |= {"default": torch.bfloat16, **{part: getattr(torch, dtype) for part, dtype in spec.held.items()}}
    take_turns = taking_turns(device)

    def read(family: Any, without: Collection[str], **more: Any) -> Any:
        try:
            pipe = family.from_pretrained(
                source,
                dtype=dtypes,
                use_safetensors=True,
                local_files_only=True,
                quantization_config=loader_config(precision, device, set(spec.parameters) - set(without), dtypes),
                **dict.fromkeys(without),
                **more,
            )
        except (OSError, SafetensorError) as error:
            raise MissingError(f"the weights of {spec.name} at {source} cannot be read: {error}") from error
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def settled(name: str, part: Any) -> Any:
        if isinstance(part, nn.Module):
            check_words(name, part)
            settle(name, part, device, precision, take_turns)
        return part

    def read_one(name: str) -> Any:
        return settled(name, getattr(read(bare(family), [n for n in parts if n != name]), name))

    parts, encoders = family._get_signature_keys(family)[0], encoder_names(family)
    pipe = read(with_lazy_encoders(family, encoders), encoders, **more)
    for name in set(parts) - set(encoders):
        settled(name, getattr(pipe, name))
    pipe.encoders = Encoders(read_one)
    return pipe, _fingerprint(spec, own) + read_as_written(pipe, parts) + fingerprint_suffix(precision, spec, device)


def _taking(name: str, kind: type, family: Any) -> Any:
    """The pipeline class, but that its part of this name may also be of the class `kind`: else diffusers warns."""

    def types(cls: Any) -> Any:
        own = family._get_signature_types()
        return own | {name: (*own[name], kind)}

    return type(family.__name__, (family,), {"_get_signature_types": classmethod(types)})


def check_words(name: str, part: Any) -> None:
    """Raise MissingError for a text encoder that knows no word."""
    if name != "text_encoder":
        return
    tables = [part.get_input_embeddings(), getattr(getattr(part, "encoder", None), "embed_tokens", None)]
    if not all(bool(table.weight.any()) for table in tables if table is not None):
        # UMT5's checkpoints hold `shared` only, get_input_embeddings() of it; what is read is encoder.embed_tokens,
        # which early transformers 5 did not tie to it and left at zero (transformers pull request 43880)
        raise MissingError("the text encoder's word embeddings are all zero: update transformers")


def _fingerprint(spec: BackboneSpec, folder: Path | None) -> str:
    """Hub rows are named by repository and revision, folders by the bytes of their files."""
    if folder is None:
        return f"{spec.repo}@{spec.revision}"
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json"))
    return f"{spec.name}@{_digest(folder, tuple((p, (s := p.stat()).st_size, s.st_mtime_ns) for p in files))[:16]}"


@functools.lru_cache(maxsize=32)
def _digest(folder: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    """SHA-256 of files' names and bytes, in their order; looked at again where a size or a time of change differs."""
    digest, chunk = hashlib.sha256(), bytearray(1 << 20)
    for path, _, _ in files:
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            while size := file.readinto(chunk):
                digest.update(memoryview(chunk)[:size])
    return digest.hexdigest()
