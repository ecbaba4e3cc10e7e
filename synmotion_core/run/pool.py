"""The backbone of the last run, kept."""

from __future__ import annotations

import threading

from synmotion_core.backbones import load_backbone
from synmotion_core.backbones.lazy import free_memory
from synmotion_core.interfaces import Backbone
from synmotion_core.precision import PLAIN, Precision

_pool_lock = threading.Lock()
_pool: dict[tuple[str, Precision], Backbone] = {}


def borrow_backbone(name: str, precision: Precision = PLAIN) -> Backbone:
    """Load a backbone, or take the one of the last run if its weights are held alike."""
    with _pool_lock:
        if (name, precision) not in _pool:
            _pool.clear()
            free_memory()  # else both sets of weights may be on the device at once
            _pool[name, precision] = load_backbone(name, precision=precision)
        return _pool[name, precision]
