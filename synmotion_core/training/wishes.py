"""What a person may ask of a training while it goes on, beside stopping it: to save, and to draw its samples.

    <the run's folder>/save-now       a checkpoint after the step at work
    <the run's folder>/sample-now     samples after the step at work

A wish is an empty file, which goes when it is taken up: the page makes it, and so may anybody, from any process
(`touch runs/my-wave/save-now`). No step depends on one. Those of before a run began are forgotten; one that goes
on takes them up.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal, get_args

from synmotion_core.errors import StorageError

log = logging.getLogger(__name__)

Wish = Literal["save", "sample"]


def ask(folder: Path, wish: Wish) -> None:
    """Make a wish; the same one twice is one. Raises StorageError."""
    path = _path(folder, wish)
    try:
        path.touch()
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error


def take(folder: Path) -> frozenset[Wish]:
    """What is wished for now; it is not any more then."""
    return frozenset(wish for wish in get_args(Wish) if _taken(_path(folder, wish)))


def _path(folder: Path, wish: Wish) -> Path:
    return folder / f"{wish}-now"


def _taken(path: Path) -> bool:
    if not path.exists():
        return False
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # it would come true at every step
        log.warning("%s is not looked at, for it cannot be removed: %s", path, error)
        return False
    return True
