"""Which files are this studio: the only ones that ever leave this machine for a Space or a Job.

A list of what may go, not of what may not: names at the root, endings by folder, and of the example clips and pictures
those that their index names. Whatever else lies there (clips of somebody's, caches, hidden files, links) stays.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from synmotion_core.errors import MissingError

ROOT = Path(__file__).resolve().parents[2]
_AT_ROOT = (
    "README.md", "app.py", "requirements.txt", "spaces_config.yaml", "LICENSE", "CHANGELOG.md", "pyproject.toml",
)  # fmt: skip
_CODE = (".py", ".json", ".yaml", ".css", ".js")
_ASSETS = {  # folder of assets: endings
    "adapters": (".safetensors", ".mp4", ".json"),
    "clips": (".mp4", ".json"),
    "pictures": (".png", ".json"),
    "puppet-hunyuan": (".safetensors", ".json", ".md"),
    "puppet-judge": (".safetensors", ".json", ".md"),
    "puppet-unet3d": (".safetensors", ".json", ".md"),
}
_INDEXED = {"clips": "clips", "pictures": "pictures"}  # folder: the list in its index.json


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file that leaves: its name there, with slashes, where it is here, and how many bytes it has."""

    name: str
    path: Path
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What leaves, and the names of what lies beside it and stays."""

    files: tuple[Source, ...]
    left: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def collect(
    root: Path = ROOT, *, names: Collection[str] = _AT_ROOT, assets: Collection[str] = tuple(_ASSETS)
) -> Sources:
    """The studio's files under `root`, in the order of their names; of assets these folders alone.

    Raises MissingError where one of them is not there.
    """
    missing = [name for name in (*names, "synmotion_core/__init__.py", *(f"assets/{one}" for one in assets))
               if not (root / name).exists()]  # fmt: skip
    if missing:
        raise MissingError(f"{root} is no whole studio: it lacks {', '.join(missing)}; restore it from the repository")
    found = {name: root / name for name in names if _is_plain(root / name)}
    found |= _below(root, root / "synmotion_core", _CODE)
    for folder in assets:
        here = _below(root, root / "assets" / folder, _ASSETS[folder])
        if folder in _INDEXED:
            named = _named(root / "assets" / folder / "index.json", _INDEXED[folder])
            here = {name: path for name, path in here.items() if name in {f"assets/{folder}/{one}" for one in named}}
        elif folder == "adapters":
            here = _with_what_they_draw(here)
        found |= here
    homes = [root / "synmotion_core", *(root / "assets" / folder for folder in assets)]
    beside = {path.relative_to(root).as_posix() for home in homes for path in home.rglob("*") if path.is_file()}
    left = sorted(name for name in beside - set(found) if "__pycache__" not in name)
    files = [Source(name=name, path=path, size=path.stat().st_size) for name, path in sorted(found.items())]
    return Sources(files=tuple(files), left=tuple(left))


def could_be(name: str) -> bool:
    """Whether a file of a repository is one that some version of the studio could have put there."""
    top, _, rest = name.partition("/")
    if not rest:
        return name in _AT_ROOT
    return name.startswith("synmotion_core/") or (top == "assets" and rest.split("/")[0] in _ASSETS)


def _below(root: Path, folder: Path, endings: tuple[str, ...]) -> dict[str, Path]:
    """Plain files of these endings, not through links, nothing hidden."""
    found = {}
    for path in folder.rglob("*"):
        within = path.relative_to(root)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in within.parts)
        linked = any((root / parent).is_symlink() for parent in [within, *within.parents][:-1])
        if path.suffix in endings and not hidden and not linked and _is_plain(path):
            found[within.as_posix()] = path
    return found


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _with_what_they_draw(here: dict[str, Path]) -> dict[str, Path]:
    """The adapters, and of what lies beside each its note and the videos that this names: no video of others."""
    from synmotion_core.adapters.origin import ORIGIN, about_folder, origin

    kept = {path for path in here.values() if path.suffix == ".safetensors"}
    for adapter in tuple(kept):
        if (own := origin(adapter)) is not None:
            kept |= {about_folder(adapter) / ORIGIN, *(path for path, _ in own.videos)}
    return {name: path for name, path in here.items() if path in kept}


def _named(index: Path, key: str) -> set[str]:
    """The files that an index names, and the index itself."""
    try:
        rows = json.loads(index.read_bytes())[key]
        return {"index.json", *(str(row["file"]) for row in rows)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise MissingError(f"{index} cannot be read: restore it from the repository") from error
