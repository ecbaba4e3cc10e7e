"""Putting what a training leaves among this machine's adapters, under names that are free."""

from __future__ import annotations

import filecmp
from collections.abc import Callable
from pathlib import Path

from synmotion_core.errors import StorageError
from synmotion_core.storage import link_or_copy


def publish(
    home: Path, path: Path, best: Path | None, warn: Callable[[str], None], *, again: bool = False
) -> tuple[Path, Path | None]:
    """Link or copy an adapter into `home`, and the best with "-best" after the last one's name; returns both.

    What is there is never written over: a name that is taken gets a number. again: one that is there with the same
    bytes is the same. Where it cannot be put there it stays where it is, and `warn` hears why.
    """
    stem, count = path.stem, 1
    while not _free(home, stem, path, best, again):
        count += 1
        stem = f"{path.stem}-{count}"
    published = _put(path, home / f"{stem}{path.suffix}", warn)
    return published, None if best is None else _put(best, home / f"{stem}-best{best.suffix}", warn)


def _free(home: Path, stem: str, path: Path, best: Path | None, again: bool) -> bool:
    places = {home / f"{stem}{path.suffix}": path} | ({home / f"{stem}-best{best.suffix}": best} if best else {})
    return all(
        not place.exists() or (again and filecmp.cmp(place, file, shallow=False)) for place, file in places.items()
    )


def _put(path: Path, target: Path, warn: Callable[[str], None]) -> Path:
    try:
        link_or_copy(path, target)
    except (OSError, StorageError) as error:
        warn(f"the adapter could not be put into adapters/ ({error}); it is at {path}")
        return path
    return target
