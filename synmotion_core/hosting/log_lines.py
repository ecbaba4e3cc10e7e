"""Lines of a Job's log as this project's events. All of it is untrusted text.

A line that is an event, and whose numbers and words could be those of a training, is that event; any other line is a
note. Control characters are taken out of both, so that no line moves the cursor.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from synmotion_core.errors import ConfigError, UserInputError
from synmotion_core.events import event_from_dict
from synmotion_core.progress_line import printable
from synmotion_core.types import Event, Noted

MAX_EVENT, MAX_NOTE = 20_000, 500  # letters
_MOST = 10**9  # steps, seconds and scores beyond it are no training's


def event_of(line: str) -> Event | None:
    """The event of a line; None for an empty one."""
    if line.startswith("{") and len(line) <= MAX_EVENT:
        try:
            event = event_from_dict(_clean(json.loads(line)))
            _check(dataclasses.asdict(event))
            return event
        except (UserInputError, ValueError, RecursionError, TypeError, OverflowError):
            pass  # it is shown as text
    text = printable(line.strip())
    return Noted(message=text[:MAX_NOTE] + "…" * (len(text) > MAX_NOTE)) if text else None


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(name): _clean(one) for name, one in value.items()}
    return [_clean(one) for one in value] if isinstance(value, list) else value


def _check(value: Any, name: str = "") -> None:
    if isinstance(value, dict):
        for key, one in value.items():
            _check(one, key)
    elif isinstance(value, (int, float)) and name not in ("loss", "seed"):
        least = 0 if name in ("step", "total") else -_MOST
        if not math.isfinite(value) or not least <= value <= _MOST:
            raise ConfigError(f"{name} is {value}")
