"""How many of anything, and how long words, one run may name: many times what anybody needs, and little enough that no
request ends the process that others share."""

from __future__ import annotations

from collections.abc import Collection

from synmotion_core.errors import ConfigError, UserInputError

MOST_LETTERS = 10_000  # of a subject, a motion, a setting: more than any text encoder here reads
MOST_SUBJECTS = 500  # and motions, which priors multiply with them
MOST_CLIPS = 10_000  # of a run, and seeds; the page and the programs' endpoint take fewer


def check_count(what: str, values: Collection[object], most: int) -> None:
    """Raise ConfigError for a list of more than `most`.

    >>> check_count("seeds", range(3), 2)
    Traceback (most recent call last):
    ...
    synmotion_core.errors.ConfigError: seeds is a list of at most 2, got 3: use 2
    """
    if len(values) > most:
        raise ConfigError(f"{what} is a list of at most {most}, got {len(values)}: use {most}")


def check_letters(what: str, text: str, error: type[UserInputError] = ConfigError) -> None:
    """Raise `error` for words of more than MOST_LETTERS characters."""
    if len(text) > MOST_LETTERS:
        words = f"{what} has at most {MOST_LETTERS} characters, got {len(text)} ({text[:40]!r} ...)"
        raise error(f"{words}: use {MOST_LETTERS} or fewer")
