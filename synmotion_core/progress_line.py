"""One line that says how far long work is: rewritten in place on a terminal, a few plain lines in a log.

train     ━━━━━━━━━━━━──────────────────  160/400  loss 0.0871  0.21 s a step  50 s left
"""

from __future__ import annotations

import collections
import shutil
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from synmotion_core.types import Progress

_WIDEST_BAR, _SHORTEST_BAR = 30, 8
_REFRESH_S = 0.1
_PLAIN_EVERY_S = 30.0
_WINDOW = 50


class ProgressLine:
    """Draws Progress events on a stream; `clock` gives seconds."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.clock = stream, clock
        self.in_place = stream.isatty()
        self._recent: collections.deque[tuple[int, float]] = collections.deque(maxlen=_WINDOW)
        self._stage = ""
        self._drawn_at = float("-inf")
        self._drawn = ""
        self._tenth = -1
        self._full, self._empty = _signs(stream)

    def show(self, event: Progress) -> None:
        """One more unit of work is done."""
        now = self.clock()
        new = event.stage != self._stage
        if new or (self._recent and event.step <= self._recent[-1][0]):  # another stage, or rolled back
            self._recent.clear()
        self._recent.append((event.step, now))
        self._stage = event.stage
        tenth, last = event.step * 10 // max(1, event.total), event.step == event.total
        due = now - self._drawn_at >= (_REFRESH_S if self.in_place else _PLAIN_EVERY_S)
        if not (new or last or due or (tenth != self._tenth and not self.in_place)):
            return
        if new and self._drawn:
            self.stream.write("\n")  # the last line of the stage before stays
            self._drawn = ""
        self._drawn_at, self._tenth = now, tenth
        self._draw(self._text(event))

    def show_bytes(self, name: str, done: int, size: int) -> None:
        """So many bytes of a file have arrived, or left."""
        now, last = self.clock(), done >= size
        if last or now - self._drawn_at >= (_REFRESH_S if self.in_place else _PLAIN_EVERY_S):
            self._drawn_at = now
            self._draw(f"{name}  {done / 2**20:.1f} of {size / 2**20:.1f} MiB")
            if last:
                self.close()

    def write(self, text: str) -> None:
        """A line of its own, above the bar."""
        self.close()
        self.stream.write(text + "\n")
        self.stream.flush()

    def close(self) -> None:
        """Leave the cursor at the start of a line."""
        if self._drawn:
            self.stream.write("\n")
            self._drawn = ""
        self.stream.flush()

    def _draw(self, text: str) -> None:
        if not self.in_place:
            self.stream.write(text + "\n")
        else:
            text = text[: _columns()]
            self.stream.write("\r" + text.ljust(len(self._drawn)))
            self._drawn = text
        self.stream.flush()

    def _text(self, event: Progress) -> str:
        fetches = event.stage == "fetch"
        count = f"{event.step:>{len(str(event.total))}}/{event.total}"
        parts = [arrived(event.step, event.total) if fetches else count]
        if event.loss is not None:
            parts.append(f"loss {event.loss:.4f}")
        pace = self._pace()
        if pace is not None:
            parts.append(rate(1 / pace) if fetches and pace else f"{pace:.2f} s a step")
            if event.step < event.total:
                parts.append(f"{duration(pace * (event.total - event.step))} left")
        if event.note:
            parts.append(event.note)
        head, tail = f"{event.stage:<9} ", "  ".join(parts)
        room = min(_WIDEST_BAR, _columns() - len(head) - len(tail) - 2)
        if not self.in_place or room < _SHORTEST_BAR:
            return head + tail
        filled = room * min(event.step, event.total) // max(1, event.total)
        return f"{head}{self._full * filled}{self._empty * (room - filled)}  {tail}"

    def _pace(self) -> float | None:
        if len(self._recent) < 2:
            return None
        (first, since), (last, until) = self._recent[0], self._recent[-1]
        return (until - since) / (last - first)


def _columns() -> int:
    return max(20, shutil.get_terminal_size().columns - 1)


def printable(text: str) -> str:
    """Text from elsewhere as one line: no control characters, which could move the cursor or change its colours.

    >>> printable("a\\x1b[31mb")
    'a\ufffd[31mb'
    """
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def arrived(done: int, size: int) -> str:
    """Bytes for people.

    >>> arrived(3_435_973_837, 29_098_402_611), arrived(0, 104_857_600)
    ('3.2 of 27.1 GiB', '0.0 of 100.0 MiB')
    """
    unit, name = (2**30, "GiB") if size >= 2**30 else (2**20, "MiB")
    return f"{done / unit:.1f} of {size / unit:.1f} {name}"


def rate(bytes_a_second: float) -> str:
    """Bytes a second for people.

    >>> rate(43_000_000)
    '41.0 MiB a second'
    """
    return f"{bytes_a_second / 2**20:.1f} MiB a second"


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> duration(4.2), duration(75), duration(7290)
    ('4 s', '1 min 15 s', '2 h 1 min')
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def _signs(stream: TextIO) -> tuple[str, str]:
    try:
        "━─".encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        return "#", "-"
    return "━", "─"
