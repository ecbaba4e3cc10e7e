"""What can go wrong, as a tree. A `UserInputError` is shown to the user as it is; anything else is a bug of ours.

    SynMotionError
    ├── UserInputError              the value, the rule and the nearest valid values
    │   ├── PromptError             words: empty, equal, too long
    │   ├── ClipError               a video file or what is in it
    │   ├── ShapeError              frames, height, width, frame rate
    │   ├── ConfigError             an unknown or impossible setting
    │   ├── IncompatibleError       a method on a backbone, or an adapter on a backbone, that do not fit
    │   ├── AdapterError            an adapter file that is broken or not one
    │   ├── MissingError            a file, a model, a package or a device that is not there
    │   ├── HubError                the Hub: not reachable, not there, or not allowed
    │   └── StorageError            the disk is full or not writable; what was there before is intact
    ├── ExpectationError            what was measured is not what the suite says it should be
    ├── TrainingDiverged            the watchdog stopped a run; the last good state is saved
    └── Cancelled                   somebody pressed Stop

Messages are whole sentences for the person who reads them, never a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection


class SynMotionError(Exception):
    """Root of everything this library raises on purpose."""


class UserInputError(SynMotionError, ValueError):
    """Input that cannot be used; the message is written for the person who gave it."""


class PromptError(UserInputError):
    """Subject, motion or prompt words that cannot be used."""


class ClipError(UserInputError):
    """A video file that cannot be used."""


class ShapeError(UserInputError):
    """A number of frames, a size or a frame rate that the backbone cannot take."""


class ConfigError(UserInputError):
    """A setting that does not exist or a value outside its range."""


class IncompatibleError(UserInputError):
    """Two parts that do not fit; names both."""


class AdapterError(UserInputError):
    """An adapter file that is broken, foreign or from a newer version."""


class MissingError(UserInputError):
    """Something needed is not there."""


class HubError(UserInputError):
    """The Hub cannot be reached, does not have it, or does not let this person."""


class StorageError(UserInputError):
    """Writing failed (no space, no permission); the previous state is intact."""


class ExpectationError(SynMotionError):
    """A suite's figures are not what it expects of them; all of it was measured, and is kept."""


class TrainingDiverged(SynMotionError):
    """The loss became NaN or ran away; the run was rolled back to its last good state."""


class Cancelled(SynMotionError):
    """A long job was asked to stop and did."""


def unknown(what: str, name: str, there: Collection[str]) -> ConfigError:
    """There is no such row of a registry: names the nearest, else all.

    >>> print(unknown("method", "lorra", ["lora", "dreambooth"]))
    there is no method 'lorra': did you mean 'lora'?
    """
    close = difflib.get_close_matches(name, there, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(there)}"
    return ConfigError(f"there is no {what} {name!r}: {hint}")
