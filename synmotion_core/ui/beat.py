"""How often a page asks how its job is: once a second, and more seldom where many look on.

An answer costs this process 13 to 27 ms of a core by the machine, most of it Gradio's, and a training runs in the same
process: twenty pages that ask each second would take more than a tenth of two cores. So all pages together ask at most
PER_S times: as often as there are cores, for a step waits for the slowest of its threads, and at most four times, for
Python runs one thread at a time. `python -m tests.ui.viewers` measures what they cost a training.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable

POLL_S = 1.0  # a page alone
PER_S = float(min(4, os.cpu_count() or 1))  # answers a second, of all pages together
_GONE = 3.0  # rounds without a sign, after which a page counts as closed


class Beat:
    """Of one studio. A page is known by its session."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pages: dict[str, tuple[float, float]] = {}  # when it asked last, and how often it asks
        self._lock = threading.Lock()

    def next(self, page: str) -> float | None:
        """To be called when a page asks: its new interval in seconds, None where it stays as it is."""
        now = self._clock()
        with self._lock:
            pages = {name: one for name, one in self._pages.items() if now - one[0] < _GONE * one[1]}
            before = pages[page][1] if page in pages else None  # told again after a pause, whatever it was
            wanted = max(POLL_S, math.ceil(2 * len({*pages, page}) / PER_S) / 2)
            self._pages = {**pages, page: (now, wanted)}
        return None if wanted == before else wanted
