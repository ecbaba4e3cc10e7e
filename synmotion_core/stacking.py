"""Several adapters on one denoiser: where each lies, which is in its name there, and which of them work.

The one in use has no place of its own; a second one lies beside it, of another motion (blending.py), and one of the two
works at a time. LoRAs beneath them work all the time, whatever adapter is at work above: they are made part of the base
for a run, such as one that was distilled to few steps, or one that brings a style.

A backbone refuses an adapter beside another, which is nearly always a mistake; within `attaching` it takes one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

SECOND = "_2"
MOST_BENEATH = 4
PLAIN_LORA = "lora"  # the method whose adapters may lie beneath: a LoRA, and nothing else
_BENEATH = "_beneath_"
_place: ContextVar[str] = ContextVar("place", default="")


def beneath(number: int) -> str:
    """The place of one of the LoRAs beneath, counted from 0."""
    return f"{_BENEATH}{number}"


def is_beneath(name: str) -> bool:
    """Whether an adapter of this name, on a denoiser, works all the time.

    >>> is_beneath("motion" + beneath(0)), is_beneath("motion" + SECOND)
    (True, False)
    """
    return _BENEATH in name


@contextmanager
def attaching(at: str) -> Iterator[None]:
    """Within it, and in this thread, what is attached lies at this place, beside what is there already."""
    token = _place.set(at)
    try:
        yield
    finally:
        _place.reset(token)


def place() -> str:
    """The place that is being attached to; empty for the adapter in use."""
    return _place.get()
