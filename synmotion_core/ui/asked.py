"""What a press answers: only what the browser showed at that moment is done.

Answers of two presses may cross, and a gr.State is read when a handler runs, not at the press: the question in a state
may be newer than the one on the screen. What deletes, sends or costs money compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from synmotion_core.errors import ConfigError


@dataclass(frozen=True)
class Asked:
    """about: what is to be done, or to whom; shown: the value of the component that says so, as the browser has it."""

    about: Any
    shown: str


def answered(asked: Asked | None, shown: Any) -> Any:
    """What was asked about. Raises ConfigError where nothing was, or the browser showed something else at the press."""
    if asked is None or asked.shown != shown:
        raise ConfigError("what this asks has changed since it was shown: look again, then press")
    return asked.about
