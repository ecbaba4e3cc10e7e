"""Step caches as a value, for configs: how a sampling step may take up what the denoiser computed in earlier ones.
backbones/step_cache.py does what it says.

    first-block:T    every step runs the first block; where what it adds has changed by at most the share T since the
                     last whole step, the other blocks' sum of that step is added instead of running them
    taylorseer:N     the first three steps run whole, then every N-th; the steps between are continued from the last
                     two whole ones along a straight line, without running any block

Sources: First Block Cache of ParaAttention, as in diffusers; TaylorSeer (arXiv 2503.06923), in diffusers' light form.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from synmotion_core.errors import ConfigError

Kind = Literal["first-block", "taylorseer"]
KINDS: tuple[Kind, ...] = ("first-block", "taylorseer")
_MOST = 1.0  # a threshold: as much as the block adds
_LONGEST = 50  # an interval, in steps


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCache:
    """One kind and its own setting: threshold (0 to 1) of first-block, interval (1 to 50 steps) of taylorseer.

    A threshold of 0 and an interval of 1 leave nothing out. Raises ConfigError for values outside.
    """

    kind: Kind
    threshold: float = 0.1
    interval: int = 2

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            near = difflib.get_close_matches(str(self.kind), KINDS, n=1, cutoff=0.4)
            hint = f": did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"a step cache is {' or '.join(map(repr, KINDS))}, got {self.kind!r}{hint}")
        if not 0 <= self.threshold <= _MOST:
            raise ConfigError(f"the threshold of first-block must be between 0 and {_MOST:g}, got {self.threshold}")
        if not 1 <= self.interval <= _LONGEST:
            raise ConfigError(
                f"the interval of taylorseer must be between 1 and {_LONGEST} steps, got {self.interval}: "
                f"use {1 if self.interval < 1 else _LONGEST}"
            )

    @property
    def active(self) -> bool:
        """Whether anything can be left out."""
        return self.threshold > 0 if self.kind == "first-block" else self.interval > 1

    @property
    def decides_by_content(self) -> bool:
        """Whether what is left out depends on the videos of a batch, all together."""
        return self.kind == "first-block" and self.active

    @property
    def text(self) -> str:
        """As `parse` reads it."""
        return f"{self.kind}:{self.threshold!r}" if self.kind == "first-block" else f"{self.kind}:{self.interval}"


def parse(text: str) -> StepCache:
    """ "first-block:0.1", "taylorseer:3", or a kind alone with its default. Raises ConfigError.

    >>> parse("taylorseer:3").interval, parse("first-block").text
    (3, 'first-block:0.1')
    """
    kind, colon, amount = text.partition(":")
    own: dict[str, float | int] = {}
    if colon and kind in KINDS:
        try:
            own = {"threshold": float(amount)} if kind == "first-block" else {"interval": int(amount)}
        except ValueError as error:
            takes = "a number from 0 to 1" if kind == "first-block" else "a whole number of steps"
            raise ConfigError(
                f"{kind} takes {takes}, got {amount!r}: for example {StepCache(kind=kind).text}"
            ) from error
    return StepCache(kind=kind, **own)  # type: ignore[arg-type]  # it checks the kind
