"""The workspace: roots that can and cannot be written, names that every file system takes, room on the disk."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synmotion_core import workspace
from synmotion_core.errors import ConfigError, StorageError
from synmotion_core.workspace import MAX_NAME_BYTES, Workspace, default_root, nearest_name, safe_name

FOLDERS = ("cache", "jobs", "adapters", "videos", "clips", "pictures", "datasets", "results")


def test_doctests() -> None:
    assert doctest.testmod(workspace).failed == 0


def test_folders_are_made_when_asked_for(tmp_path: Path) -> None:
    space = Workspace(tmp_path / "deep" / "root")
    assert list(space.root.iterdir()) == [], "making a workspace leaves nothing but the root"
    for name in FOLDERS:
        assert getattr(space, name) == space.root / name
        assert (space.root / name).is_dir()


def test_the_root_comes_from_the_environment_else_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.delenv("SYNMOTION_HOME", raising=False)
    assert default_root() == tmp_path / ".synmotion"
    monkeypatch.setenv("SYNMOTION_HOME", "~/élan vital")
    assert Workspace().root == tmp_path / "élan vital"
    monkeypatch.setenv("SYNMOTION_HOME", "  ")
    assert default_root() == tmp_path / ".synmotion"


def test_a_space_keeps_what_it_makes_where_it_outlives_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "STORAGE", tmp_path / "data")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SYNMOTION_HOME", raising=False)
    monkeypatch.setenv("SPACE_ID", "someone/space")
    assert default_root() == tmp_path / ".synmotion"  # a Space without storage
    (tmp_path / "data").mkdir()
    assert default_root() == tmp_path / "data" / "synmotion"
    monkeypatch.delenv("SPACE_ID")
    assert default_root() == tmp_path / ".synmotion"


def test_a_relative_root_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space = Workspace(Path("here"))
    monkeypatch.chdir("/")
    assert space.cache == tmp_path / "here" / "cache"


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of a folder are POSIX")
def test_a_read_only_root_is_refused(locked_folder: Path) -> None:
    for root in (locked_folder, locked_folder / "new"):
        with pytest.raises(StorageError, match=rf"{re.escape(str(root))} cannot be written.*SYNMOTION_HOME"):
            Workspace(root)


def test_a_root_that_is_a_file_is_refused_and_stays(tmp_path: Path) -> None:
    file = tmp_path / "root"
    file.write_text("precious")
    with pytest.raises(StorageError, match="cannot be written"):
        Workspace(file)
    assert file.read_text() == "precious"


def test_room_on_the_disk(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    space.require_free(1, "a job")
    free = space.free_bytes()
    with pytest.raises(StorageError, match=r"^a job needs \d+ MiB .* MiB are free"):
        space.require_free(free * 2, "a job")


@pytest.mark.parametrize(
    "name", ["my-wave", "Élan", "手を振る", "नमस्ते", "a red cat 2", "café_№5", "con-cat", "x.y.z", "🙂"]
)
def test_good_names_are_kept_and_files_can_have_them(name: str, tmp_path: Path) -> None:
    assert safe_name(name) == unicodedata.normalize("NFC", name)
    (tmp_path / safe_name(name)).write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == [safe_name(name)]


def test_two_spellings_of_one_name_are_one_file() -> None:
    assert safe_name("e\u0301lan") == safe_name("\u00e9lan")


BAD = {
    "": "is empty", "..": "begins with", ".hidden": "begins with", "../up": "holds '/'", "a/b": "holds '/'",
    "a\\b": "holds", "C:": "holds ':'", "-rf": "begins with '-'", "~root": "begins with '~'", " a": "begins with ' '",
    "a ": "ends with", "a.": "ends with", "a  b": "two spaces", "a\nb": "holds", "a\0b": "holds", "a\u202eb": "holds",
    "con": "Windows", "NUL.txt": "Windows", "Com1": "Windows", "lpt¹": "Windows", "con .x": "Windows",
    "x" * 201: "201 bytes", "手" * 67: "201 bytes", "\ud800": "holds", "a\u00a0b": "holds",
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD), ids=ascii)
def test_bad_names_are_refused_with_a_reason_and_a_name_that_works(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a file name") as caught:
        safe_name(name)
    assert BAD[name] in str(caught.value)
    assert repr(nearest_name(name)) in str(caught.value)


@given(st.text(st.characters(blacklist_categories=()), max_size=300))
def test_the_nearest_name_is_always_allowed_and_changes_nothing_that_is(text: str) -> None:
    near = nearest_name(text)
    assert safe_name(near) == near
    assert len(near.encode()) <= MAX_NAME_BYTES
    assert nearest_name(near) == near
    assert Path("folder", near).parent == Path("folder"), "one part, not a path"
    try:
        good = safe_name(text)
    except ConfigError:
        return
    assert near == good


def test_importing_it_loads_no_torch() -> None:
    code = "import sys, synmotion_core.workspace; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], timeout=60).returncode == 0
