"""The backbone of the last run, kept, and what it needs fetched before."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from synmotion_core import backbones
from synmotion_core.backbones import find_spec, load_backbone
from synmotion_core.backbones.lazy import free_memory
from synmotion_core.interfaces import Backbone
from synmotion_core.precision import PLAIN, Precision
from synmotion_core.types import Progress

_pool_lock = threading.Lock()
_pool: dict[tuple[str, Precision], Backbone] = {}


def fetch(name: str, precision: Precision = PLAIN, cancel: threading.Event | None = None) -> Iterator[Progress]:
    """What `borrow_backbone` will need of the Hub, told and stopped on the way; nothing where it is on this machine.

    Raises what loading would, before a byte is fetched; StorageError, HubError, Cancelled.
    """
    if (name, precision) in _pool:
        return
    from synmotion_core.backbones.loading import choose_device
    from synmotion_core.backbones.precision import check_precision

    spec = find_spec(name)
    check_precision(spec, choose_device(spec, None), precision)
    yield from backbones.fetch(name, cancel=cancel)


def borrow_backbone(name: str, precision: Precision = PLAIN) -> Backbone:
    """Load a backbone, or take the one of the last run if its weights are held alike."""
    with _pool_lock:
        if (name, precision) not in _pool:
            _pool.clear()
            free_memory()  # else both sets of weights may be on the device at once
            _pool[name, precision] = load_backbone(name, precision=precision)
        return _pool[name, precision]
