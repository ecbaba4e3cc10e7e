"""What names weights in a folder: their bytes, read in pieces and not again while nothing has changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from synmotion_core.backbones import find_spec, loading

SPEC = find_spec("wan2.1-t2v-1.3b")


def whole(folder: Path) -> str:
    """As fingerprints were made before: adapters carry them."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".safetensors", ".json")):
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return f"{SPEC.name}@{digest.hexdigest()[:16]}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, size in (("model_index.json", 7), ("vae/a.safetensors", 0), ("transformer/b.safetensors", (5 << 20) + 3)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(size))
    (tmp_path / "README.md").write_text("of no account")
    return tmp_path


def test_a_fingerprint_is_what_it_was_and_never_holds_a_file_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = whole(folder)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail(f"{self} read whole"))
    assert loading._fingerprint(SPEC, folder) == expected


def test_files_are_read_again_only_where_they_have_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    own: Any = Path.open

    def watched(path: Path, *args: Any, **given: Any) -> Any:
        opened.append(path.name)
        return own(path, *args, **given)

    monkeypatch.setattr(Path, "open", watched)
    first = loading._fingerprint(SPEC, folder)
    assert len(opened) == 3
    opened.clear()
    assert loading._fingerprint(SPEC, folder) == first
    assert opened == []
    path = folder / "vae" / "a.safetensors"
    before = path.stat()
    path.write_bytes(b"other")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = loading._fingerprint(SPEC, folder)
    assert second not in (first, "")
    path.write_bytes(b"again")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert loading._fingerprint(SPEC, folder) == whole(folder) != second
