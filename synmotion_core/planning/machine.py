"""What this machine has: the memory of its GPU that a run may use, and its main memory, in GiB."""

from __future__ import annotations

from synmotion_core.errors import MissingError

GIB = 2**30


def card_gib() -> float | None:
    """Of the CUDA GPU that runs go to: what is free of it, and what this process holds itself. None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    free, _ = torch.cuda.mem_get_info()
    return (free + torch.cuda.memory_reserved()) / GIB


def required_card_gib() -> float:
    """The same; raises MissingError without a CUDA GPU."""
    found = card_gib()
    if found is None:
        raise MissingError("--fit finds no CUDA GPU here: say what it should fit, in GiB, for example --fit 24")
    return found


def main_gib() -> float:
    """Of main memory, all of it."""
    import psutil

    return psutil.virtual_memory().total / GIB
