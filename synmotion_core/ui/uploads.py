"""Files that a browser hands over: kept in the workspace under a name of their content, found again by that name."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from synmotion_core.errors import ClipError, StorageError


def check_ending(upload: Path, endings: Sequence[str], instead: str) -> None:
    """Raise ClipError unless the name ends in one of `endings`; `instead` says what to do."""
    if upload.suffix.lower() not in endings:
        raise ClipError(f"{upload.name} is not one of {', '.join(endings)}: {instead}")


def keep(upload: Path, folder: Path, default: str, *, stem: str = "") -> str:
    """Copy a file into `folder`, byte for byte and once; returns its name there. Raises StorageError.

    It is called by `stem`, else by its own name, else `default`.
    """
    from synmotion_core.storage import file_sha256, replacing
    from synmotion_core.workspace import nearest_name

    stem = nearest_name(stem or upload.stem).encode()[:80].decode(errors="ignore").rstrip(". ") or default
    target = folder / f"{stem}-{file_sha256(upload)[:10]}{upload.suffix.lower()}"
    if not target.exists():
        try:
            with replacing(target) as temporary:
                shutil.copyfile(upload, temporary)
        except OSError as error:
            reason = error.strerror or error
            raise StorageError(f"{upload.name} could not be copied to {folder}: {reason}") from error
    return target.name


def find(name: str, folder: Path) -> Path | None:
    """The file of that name in `folder` itself; None for a name that is no plain name of a visible file."""
    plain = bool(name) and Path(name).name == name and not name.startswith(".")
    return folder / name if plain and (folder / name).is_file() else None


def is_upload(path: str) -> bool:
    """Whether a path that a request names is a file that was uploaded here.

    Its address holds the SHA-256 of its content: whoever names one has the file, or was shown it.
    """
    from gradio.utils import get_upload_folder

    found, folder = Path(path).resolve(), Path(get_upload_folder()).resolve()
    return folder in found.parents and found.is_file()
