"""Tensors on disk, safely: written whole or not at all, checked when read. safetensors only.

A file is written beside its target, flushed to the disk and renamed over it, so that a kill at any moment leaves the
previous state
readable. `seal` in the metadata is the SHA-256 of names, types, shapes and bytes; a file that does not match is
damaged.
"""

from __future__ import annotations

import errno
import filecmp
import hashlib
import itertools
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from synmotion_core.errors import AdapterError, StorageError

MAX_HEADER = 16 * 2**20


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block ends well, and vanishes when it does not.

    Raises StorageError for a full disk or missing permission; what `path` held before is then intact.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")  # threads of one process write, too
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageError(
                f"the disk is full: {path.name} was not written, what was there before is intact"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(f"no permission to write {path.name} in {path.parent}") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def link_or_copy(path: Path, target: Path) -> None:
    """The same file under another name too, atomically; a second copy only where the disk knows no links.

    For files that are replaced, never changed in place. Raises as `replacing`.
    """
    with replacing(target) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)


def claim(path: Path, target: Path) -> None:
    """The same file under another name too, which nobody has: where it is taken, even since it was looked for, that
    raises FileExistsError and what is there stays. Else as `link_or_copy`: a name that is there is a whole file.
    """
    made = target.with_name(f".{secrets.token_hex(6)}.claim")
    try:
        link_or_copy(path, made)
        _take_name(made, target)
    finally:
        made.unlink(missing_ok=True)


def _take_name(made: Path, target: Path) -> None:
    try:
        os.link(made, target)
    except FileExistsError:
        raise
    except OSError:  # a disk without links: the name is reserved first
        target.touch(exist_ok=False)
        os.replace(made, target)


def place(made: Path, target: Path) -> Path:
    """Give a finished file the name `target`, or, where that is another file's, the first free of <stem>-2, -3 and so
    on; returns which. One that holds the same bytes is taken as it is. No file is ever replaced. Raises OSError.

    `made` is beside it, and may still be there afterwards.
    """
    for number in itertools.count(1):
        path = target if number == 1 else target.with_name(f"{target.stem}-{number}{target.suffix}")
        try:
            _take_name(made, path)
            return path
        except FileExistsError:
            if path.is_file() and filecmp.cmp(made, path, shallow=False):
                return path
    raise AssertionError


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes, read piece by piece."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def seal(tensors: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name].detach().cpu().contiguous()
        _take_in(digest, name, t)
    return digest.hexdigest()


def _take_in(digest: Any, name: str, tensor: Tensor) -> None:
    digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
    if tensor.numel():
        digest.update(tensor.flatten().view(torch.uint8).numpy())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """One safetensors file, atomically, sealed."""
    from safetensors.torch import save

    own = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    data = save(own, metadata={**metadata, "seal": seal(own)})
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(data)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a sealed file. Raises AdapterError when it is damaged, foreign or not there."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    metadata = read_metadata(path)
    try:
        tensors = load(path.read_bytes())
    except SafetensorError as error:
        raise AdapterError(f"{path.name} is damaged: {error}") from error
    if metadata.get("seal") != seal(tensors):
        raise AdapterError(f"{path.name} is damaged: its contents do not match its seal")
    return tensors, metadata


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor, held against the file's length, without reading one. Raises AdapterError."""
    with _opened(path) as file:
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118


def check_seal(path: Path) -> None:
    """Raise AdapterError unless a file's tensors match its seal; holds one of them at a time."""
    wanted, digest = read_metadata(path).get("seal"), hashlib.sha256()
    with _opened(path) as file:
        for name in sorted(file.keys()):
            _take_in(digest, name, file.get_tensor(name))
    if wanted != digest.hexdigest():
        raise AdapterError(f"{path.name} is damaged: its contents do not match its seal")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    read_header(path)  # at most MAX_HEADER bytes of it
    try:
        with safe_open(path, "pt") as file:
            yield file
    except SafetensorError as error:
        raise AdapterError(f"{path.name} is damaged: {error}") from error


def read_metadata(path: Path) -> dict[str, str]:
    """The text metadata of a safetensors file, without its tensors. Raises AdapterError when it is not one."""
    metadata = read_header(path).get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise AdapterError(f"{path.name} has no readable metadata")
    return metadata


def read_header(path: Path) -> dict[str, Any]:
    """What a safetensors file says of itself: of each tensor `dtype` and `shape`, and `__metadata__`; untrusted.

    Raises AdapterError when it is not one.
    """
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if not 2 <= size <= MAX_HEADER:
                raise AdapterError(f"{path.name} is not a safetensors file")
            header = json.loads(file.read(size))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise AdapterError(f"there is no file {path.name} in {path.parent}") from error
    except OSError as error:  # no permission, a link to itself, a disk that fails
        raise AdapterError(f"{path.name} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{path.name} is not a safetensors file") from error
    if not isinstance(header, dict):
        raise AdapterError(f"{path.name} has no readable metadata")
    return header


def check_keys(own: Mapping[str, Tensor], state: Mapping[str, Tensor], what: str) -> None:
    """Raise AdapterError unless names and shapes agree; says how many of how many apply."""
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    wrong = [
        f"{k} {tuple(state[k].shape)} for {tuple(own[k].shape)}"
        for k in own.keys() & state.keys()
        if own[k].shape != state[k].shape
    ]
    if missing or unexpected or wrong:
        fits = len(own) - len(missing) - len(wrong)
        parts = [
            f"{len(v)} {n} (first: {v[0]})"
            for n, v in (("missing", missing), ("unexpected", unexpected), ("misshapen", wrong))
            if v
        ]
        raise AdapterError(f"{what}: {fits} of {len(own)} keys apply; {'; '.join(parts)}")
