"""An adapter of ours that comes as a file, taken in: verified as one from the Hub is, and copied to this machine's.

Mailed, downloaded before a guest's desk was deleted, trained elsewhere: all of it is untrusted. Nothing is asked beside
the file, which says itself what it is of; what of another program's LoRA is, convert.py takes.
"""

from __future__ import annotations

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from synmotion_core.adapters.file import AdapterInfo, read_info
from synmotion_core.adapters.hub import MAX_ADAPTER, applied_keys
from synmotion_core.adapters.origin import Origin, about_folder, write_origin
from synmotion_core.errors import AdapterError, ConfigError, StorageError
from synmotion_core.storage import place, read_metadata
from synmotion_core.workspace import Workspace, nearest_name, safe_name


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenIn:
    """An adapter that is here now, all of whose keys apply; known: the very file was here already, under this name."""

    path: Path
    info: AdapterInfo
    applied: int
    known: bool


def is_ours(file: Path) -> bool:
    """Whether a safetensors file says that it is an adapter of ours, broken or newer ones included.

    Raises AdapterError for what is no safetensors file.
    """
    return "synmotion" in read_metadata(file)


def take_in(file: Path, workspace: Workspace, *, name: str | None = None) -> TakenIn:
    """Copy `file` to adapters/<name>.safetensors. name: None is the nearest to the file's own that is free.

    Raises ConfigError where a name that was asked for is taken, AdapterError for a file that is none of ours, damaged
    or too large, or of which a key does not apply, IncompatibleError or ConfigError where this version lacks its
    backbone or method, StorageError.
    """
    target = workspace.adapters / f"{safe_name(name) if name else nearest_name(file.stem)}.safetensors"
    info, size = read_info(file), file.stat().st_size
    if size > MAX_ADAPTER:
        raise AdapterError(f"{file.name} has {size:,} bytes, an adapter at most {MAX_ADAPTER:,}")
    if name and target.exists():
        raise ConfigError(f"there is an adapter {target.stem!r} already: choose another name")
    workspace.require_free(size, file.name)
    try:
        applied = applied_keys(file, info, file.name)
    except AdapterError as error:
        said = f"{file.name} says that it is of {info.method} for {info.backbone}, and is not"
        raise AdapterError(f"{said}: {error}") from error
    copy = workspace.adapters / f".{secrets.token_hex(6)}.part"
    try:
        shutil.copyfile(file, copy)
        path = place(copy, target)
        known = copy.exists() and not copy.samefile(path)
        if not known:
            write_origin(about_folder(path), path, Origin(repo_id="", revision="", licence="", videos=()))
    except OSError as error:
        raise StorageError(f"{file.name} could not be copied to {workspace.adapters}: {error.strerror}") from error
    finally:
        copy.unlink(missing_ok=True)
    return TakenIn(path=path, info=info, applied=applied, known=known)
