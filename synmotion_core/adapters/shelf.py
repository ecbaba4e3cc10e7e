"""Putting what a training leaves among this machine's adapters, under names that are free."""

from __future__ import annotations

import filecmp
from collections.abc import Callable, Mapping
from pathlib import Path

from synmotion_core.errors import StorageError
from synmotion_core.storage import claim


def publish(
    home: Path, path: Path, best: Path | None, warn: Callable[[str], None], *, again: bool = False
) -> tuple[Path, Path | None]:
    """Link or copy an adapter into `home`, and the best with "-best" after the last one's name; returns both.

    What is there is never written over: a name that is taken gets a number. again: one that is there with the same
    bytes is the same. Where it cannot be put there it stays where it is, and `warn` hears why.
    """
    stem, count = path.stem, 1
    while True:
        places = {home / f"{stem}{path.suffix}": path} | ({home / f"{stem}-best{best.suffix}": best} if best else {})
        if all(_free(place, file, again) for place, file in places.items()):
            put = _put(places, again, warn)
            if put is not None:
                return put[0], put[1] if best else None
        count += 1
        stem = f"{path.stem}-{count}"


def _free(place: Path, file: Path, again: bool) -> bool:
    return not place.exists() or (again and filecmp.cmp(place, file, shallow=False))


def _put(places: Mapping[Path, Path], again: bool, warn: Callable[[str], None]) -> list[Path] | None:
    """Where the files are now; None, and nothing is put, where one of the names has been taken since."""
    put, mine = [], []
    for place, file in places.items():
        try:
            claim(file, place)
            mine.append(place)
        except FileExistsError:
            if not _free(place, file, again):
                for own in mine:
                    own.unlink(missing_ok=True)
                return None
        except (OSError, StorageError) as error:
            warn(f"the adapter could not be put into adapters/ ({error}); it is at {file}")
            put.append(file)
            continue
        put.append(place)
    return put
