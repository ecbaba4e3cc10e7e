"""The backbone of the last run: kept, and gone before another is read."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from synmotion_core.precision import PLAIN, Precision
from synmotion_core.run import pool


class _Cyclic:
    """As a pipeline with quantised weights or hooks is."""

    def __init__(self) -> None:
        self.itself = self


def test_the_last_weights_are_gone_before_others_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[Any] = []
    held: list[bool] = []

    def load(name: str, *, precision: Precision) -> Any:
        held.append(any(one() is not None for one in alive))
        loaded = _Cyclic()
        alive.append(weakref.ref(loaded))
        return loaded

    monkeypatch.setattr(pool, "load_backbone", load)
    monkeypatch.setattr(pool, "_pool", {})
    gc.disable()  # what is freed is freed on purpose
    try:
        pool.borrow_backbone("a", PLAIN)
        assert pool.borrow_backbone("a", PLAIN) is alive[0]()
        pool.borrow_backbone("a", Precision(weights="8bit"))
        pool.borrow_backbone("b", PLAIN)
    finally:
        gc.enable()
    assert held == [False, False, False]
