"""What is known of an export's loss: shares that `export --measure` found, remembered for the adapter's card.

    <cache>/kept/<seal>.json    {"<expert, or nothing>": {"share", "low", "high", "videos"}}

The seal is the adapter's own, the SHA-256 of its tensors: a file that was changed has nothing measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synmotion_core.storage import read_metadata, replacing


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The share of what an adapter changes in its base's predictions that its export keeps: 1 is all of it. low and
    high are those of single videos, of which there are `videos`."""

    share: float
    low: float
    high: float
    videos: int

    @property
    def words(self) -> str:
        """The end of a sentence about the export."""
        span = f" ({self.low:.0%} to {self.high:.0%} in {self.videos} videos)" if self.videos > 1 else ""
        return f"it keeps {self.share:.0%} of what the whole adapter changes in the base's predictions{span}"


def note_kept(cache: Path, adapter: Path, expert: str | None, share: float, by_video: Sequence[float]) -> None:
    """Remember what was measured of an adapter's export. Raises AdapterError for an unreadable file, StorageError."""
    own = Kept(share=share, low=min(by_video), high=max(by_video), videos=len(by_video))
    path = _note(cache, adapter)
    if path is not None:
        with replacing(path) as partial:
            partial.write_text(json.dumps(_all(path) | {expert or "": asdict(own)}, indent=1), encoding="utf-8")


def kept(cache: Path, adapter: Path, expert: str | None) -> Kept | None:
    """What was measured of it; None where nothing was, or the note cannot be read. Raises AdapterError for an
    unreadable adapter."""
    path = _note(cache, adapter)
    said: Any = None if path is None else _all(path).get(expert or "")
    try:
        own = Kept(**{**said, **{name: float(said[name]) for name in ("share", "low", "high")}})
        return own if all(map(math.isfinite, (own.share, own.low, own.high))) and own.videos > 0 else None
    except (TypeError, ValueError, KeyError):
        return None


def _note(cache: Path, adapter: Path) -> Path | None:
    """Where an adapter's shares are kept; None for one whose seal is none."""
    seal = read_metadata(adapter).get("seal", "")
    return cache / "kept" / f"{seal}.json" if len(seal) == 64 and seal.isalnum() else None


def _all(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
