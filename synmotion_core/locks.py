"""A lock that a file stands for, held by at most one opener on this machine, given back by the system when its process
dies.

The text in the file is the holder's process id, for people only: whether the lock is held is asked of the system
(flock, or a locked byte on Windows), so a file left behind by a killed process is simply free, and a reused id deceives
nobody.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from pathlib import Path

log = logging.getLogger(__name__)

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)  # a byte far behind the text: a locked byte cannot be read by others
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 30, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class FileLock:
    """Not blocking, not re-entrant. Where the file system has no locks at all, acquiring succeeds and the log says
    so."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds it."""
        return self._descriptor is not None

    def acquire(self) -> bool:
        """True when it is ours now; False when another process or object holds it. OSError when the file cannot be
        made."""
        if self.held:
            return False
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            return False
        except OSError as error:
            log.warning("%s: no locks on this disk (%s): two processes could run one job", self.path, error.strerror)
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
        except OSError:  # a full disk: the text is for people, the lock holds
            log.debug("%s: the process id could not be written", self.path)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Give it back; harmless when it is not held."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                _unlock(self._descriptor)  # closing alone does not where a forked process has a copy, as on ZeroGPU
            os.close(self._descriptor)
            self._descriptor = None

    def holder(self) -> str:
        """Who wrote the file last, in words."""
        try:
            text = self.path.read_text(encoding="ascii", errors="replace").strip()
        except OSError:
            text = ""
        return f"process {text}" if text.isdigit() else "another process"


class Turns:
    """A device that several queues of this process, and other processes, use one at a time.

    Within the process whoever has waited longest is next; between processes whoever finds it free. A queue waits with
    one place at a time, so that somebody with ten jobs does not keep out somebody with one.
    """

    def __init__(self, path: Path) -> None:
        self._file = FileLock(path)
        self._line: list[object] = []
        self._guard = threading.Lock()

    def line_up(self) -> object:
        """A place at the end of the line."""
        place = object()
        with self._guard:
            self._line.append(place)
        return place

    def take(self, place: object) -> bool:
        """True when it is this place's turn now, which it keeps until `leave`."""
        with self._guard:
            return bool(self._line) and self._line[0] is place and (self._file.held or self._file.acquire())

    def wanted(self) -> bool:
        """Whether somebody of this process waits behind the first."""
        with self._guard:
            return len(self._line) > 1

    def why(self, place: object) -> str:
        """What this place waits for, in words."""
        with self._guard:
            ahead = self._line.index(place) if place in self._line else 0
            if not ahead:
                return f"waits for {self._file.holder()}, which uses the device"
        return "waits for another's job, which uses the device" if ahead == 1 else f"waits for {ahead} others' jobs"

    def leave(self, place: object) -> None:
        """Give the place up, and the device with it; harmless when it is gone."""
        with self._guard:
            if place in self._line:
                if self._line[0] is place:
                    self._file.release()
                self._line.remove(place)
