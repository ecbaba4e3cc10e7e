"""Where an adapter on this machine came from, and what it draws: a note and videos beside it.

    adapters/<name>.about/origin.json    repository, commit, licence, and the words of each video
    adapters/<name>.about/01.mp4         its videos, written anew here

Those that ship with the studio have one, too. The note holds the seal of the adapter's file: one that is put there
later under the same name is another.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from synmotion_core.storage import read_metadata, replacing

ORIGIN = "origin.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an adapter here was fetched from ("" for one that ships or was taken in as a file), with videos of it and
    their words. trained_on: the machine of Hugging Face that one's own was trained on, by its flavor."""

    repo_id: str
    revision: str
    licence: str
    videos: tuple[tuple[Path, str], ...]
    trained_on: str = ""


def about_folder(adapter: Path) -> Path:
    """Where what is known of an adapter lies beside it: its origin and its videos."""
    return adapter.with_suffix(".about")


def origin(adapter: Path) -> Origin | None:
    """Where an adapter was fetched from; None for one that was not, or whose note cannot be read or is of another
    file: names are used again."""
    beside = about_folder(adapter)
    try:
        said = json.loads((beside / ORIGIN).read_text(encoding="utf-8"))
        if said["seal"] != read_metadata(adapter).get("seal"):
            return None
        return Origin(
            repo_id=str(said["repo_id"]),
            revision=str(said["revision"]),
            licence=str(said["licence"]),
            trained_on=str(said.get("trained_on", "")),
            videos=tuple((beside / Path(one["file"]).name, str(one["words"])) for one in said["videos"]),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def write_origin(about: Path, adapter: Path, own: Origin) -> None:
    """Note it in the folder `about` of the adapter that `adapter` will become. Raises StorageError."""
    said = {
        "repo_id": own.repo_id,
        "revision": own.revision,
        "licence": own.licence,
        "trained_on": own.trained_on,
        "videos": [{"file": path.name, "words": words} for path, words in own.videos],
        "seal": read_metadata(adapter).get("seal"),
    }
    with replacing(about / ORIGIN) as partial:
        partial.write_text(json.dumps(said, indent=1), encoding="utf-8")
