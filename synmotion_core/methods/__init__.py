"""The registry of methods. A new method is one file and one row; its contracts are tested the moment it is listed.

Rows load lazily: names, titles and requirements are readable without torch models in memory.
"""

from __future__ import annotations

from synmotion_core.errors import unknown
from synmotion_core.interfaces import MethodEntry
from synmotion_core.methods.dreambooth import DreamBoothEntry
from synmotion_core.methods.lora import LoraEntry
from synmotion_core.methods.motion_director import MotionDirectorEntry
from synmotion_core.methods.new_move import NewMoveEntry
from synmotion_core.methods.separation import SeparationEntry
from synmotion_core.methods.synmotion import SynMotionEntry
from synmotion_core.methods.textual_inversion import TextualInversionEntry

METHODS: dict[str, MethodEntry] = {
    entry.name: entry
    for entry in (
        SynMotionEntry(),
        LoraEntry(),
        DreamBoothEntry(),
        TextualInversionEntry(),
        SeparationEntry(),
        MotionDirectorEntry(),
        NewMoveEntry(),
    )
}


def find_method(name: str) -> MethodEntry:
    """The row called `name`; raises ConfigError naming the nearest."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


__all__ = ["METHODS", "find_method"]
