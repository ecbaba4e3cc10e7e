"""What the files of generated videos are called: readable, the same each time, and no two of a run alike."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from synmotion_core.types import Prompt


def file_stem(prompt: Prompt, seed: int, *, adapted: bool, more: str = "") -> str:
    """Words, seed, what else moves, and whether the adapter was on.

    Not all that shapes a video is in it, and long words are cut: `file_stems` and `storage.place` tell equal ones
    apart.

    >>> file_stem(Prompt(subject="a red cat", motion="claps", setting="in the snow"), 3, adapted=False)
    'a-red-cat-claps-in-the-snow-seed3-base'
    """
    words = [plain(prompt.text, 100, 140) or "video", f"seed{seed}", more, "" if adapted else "base"]
    return "-".join(word for word in words if word)


def file_stems(prompts: Sequence[Prompt], seeds: Sequence[int], *, adapted: bool, more: str = "") -> list[str]:
    """Of all videos of a run, one seed a prompt. Of equal ones the later get -2, -3, by their order alone: the run done
    again has the same names."""
    stems: dict[str, None] = {}
    for prompt, seed in zip(prompts, seeds, strict=True):
        own = file_stem(prompt, seed, adapted=adapted, more=more)
        numbered = (own if number == 1 else f"{own}-{number}" for number in itertools.count(1))
        stems[next(stem for stem in numbered if stem not in stems)] = None
    return list(stems)


def plain(text: str, letters: int, size: int) -> str:
    """Letters and digits with hyphens between, at most so many and so many bytes: a name has at most 255 of them.

    >>> plain("../../A red  cat!", 8, 20)
    'a-red-ca'
    """
    found = re.sub(r"[^\w]+", "-", text, flags=re.UNICODE).strip("-").lower()
    return found[:letters].encode()[:size].decode(errors="ignore").rstrip("-")
