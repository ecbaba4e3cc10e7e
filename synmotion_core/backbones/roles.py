"""Which tokens of a prompt belong to the subject and to the motion, from a fast tokenizer's offsets.

A token belongs to a role when its characters touch the role's words; so a phrase may have any number of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from synmotion_core.types import Prompt

Spans = tuple[tuple[int, int], tuple[int, int]]  # of subject and motion, in characters
NO_ROLES: Spans = ((0, 0), (0, 0))


def spans_of(prompts: Sequence[Prompt]) -> list[Spans]:
    """Where subject and motion stand in each prompt's text."""
    return [(p.span("subject"), p.span("motion")) for p in prompts]


def token_roles(offsets: Tensor, spans: Sequence[Spans], lead: int = 0) -> tuple[Tensor, Tensor]:
    """bool [B, L] of subject and of motion; no token is both. offsets [B, L, 2] are [start, end) in characters.

    lead: how many characters stand before each prompt, such as a template's.
    """
    start, end = offsets[..., 0], offsets[..., 1]
    found = []
    for role in (0, 1):
        low = torch.tensor([s[role][0] + lead for s in spans])[:, None]
        high = torch.tensor([s[role][1] + lead for s in spans])[:, None]
        # byte-level tokens carry the space before a word: touch is judged on the last character
        found.append((end > low) & (start < high) & (end - 1 >= low) & (end > start) & (high > low))
    return found[0], found[1] & ~found[0]
