"""Writing whole or not at all: kills, full disks, damage."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from synmotion_core.errors import AdapterError, StorageError
from synmotion_core.storage import claim, place, read_metadata, read_tensors, replacing, write_tensors

ROOT = Path(__file__).resolve().parents[1]


def test_there_and_back(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4), "b": torch.tensor(3), "c": torch.randn(2).bfloat16(), "empty": torch.zeros(0, 4)}
    write_tensors(tmp_path / "x.safetensors", tensors, {"k": "v"})
    back, metadata = read_tensors(tmp_path / "x.safetensors")
    assert all(torch.equal(back[k], v) for k, v in tensors.items())
    assert metadata["k"] == "v"
    assert list(tmp_path.iterdir()) == [tmp_path / "x.safetensors"]


@pytest.mark.parametrize("damage", ["flip", "cut", "text", "empty", "huge header"])
def test_damage_is_noticed(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.randn(64)}, {})
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-5] ^= 1
    elif damage == "cut":
        data = data[:-40]
    elif damage == "text":
        data = bytearray(b"this is not a tensor file, it only has the name of one")
    elif damage == "empty":
        data = bytearray()
    else:
        data = bytearray((1 << 40).to_bytes(8, "little")) + data
    path.write_bytes(data)
    with pytest.raises(AdapterError, match=r"damaged|not a safetensors file"):
        read_tensors(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"no file gone\.safetensors"):
        read_metadata(tmp_path / "gone.safetensors")


def test_a_failure_in_the_middle_leaves_the_previous_state(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.ones(3)}, {})
    with pytest.raises(RuntimeError), replacing(path) as temporary:  # noqa: PT012
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert torch.equal(read_tensors(path)[0]["a"], torch.ones(3))
    assert len(list(tmp_path.iterdir())) == 1


FULL = """
import resource, signal, sys, torch
from pathlib import Path
from synmotion_core.storage import write_tensors
from synmotion_core.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_tensors(Path(sys.argv[1]), {"a": torch.zeros(100_000)}, {})
except StorageError as error:
    print("refused:", error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are POSIX")
def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.ones(3)}, {})
    out = subprocess.run([sys.executable, "-c", FULL, str(path)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "refused: the disk is full: x.safetensors was not written" in out.stdout
    assert torch.equal(read_tensors(path)[0]["a"], torch.ones(3))


KILLED = """
import os, sys, torch
from pathlib import Path
from synmotion_core import storage
real = os.replace if sys.argv[2] == "before rename" else os.fsync
def die(*a, **k):
    os.kill(os.getpid(), 9)  # SIGKILL; on Windows, where it has no name, the same end
setattr(os, "replace" if sys.argv[2] == "before rename" else "fsync", die)
storage.write_tensors(Path(sys.argv[1]), {"a": torch.zeros(1000)}, {})
"""


@pytest.mark.parametrize("moment", ["before flush", "before rename"])
def test_a_kill_during_a_write_leaves_the_previous_state(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"a": torch.ones(3)}, {})
    child = subprocess.run([sys.executable, "-c", KILLED, str(path), moment], cwd=ROOT, check=False)
    assert child.returncode == (9 if sys.platform == "win32" else -9)
    assert torch.equal(read_tensors(path)[0]["a"], torch.ones(3))


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of a folder are POSIX")
def test_a_folder_without_permission_is_named(locked_folder: Path) -> None:
    with pytest.raises(StorageError, match="no permission"):
        write_tensors(locked_folder / "x.safetensors", {"a": torch.ones(3)}, {})
    assert list(locked_folder.iterdir()) == []


@pytest.mark.parametrize("links", [True, False])
def test_a_file_is_placed_beside_others_and_never_over_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    placed = []
    for number, text in enumerate(["one", "two", "one", "three", "two"]):
        made = tmp_path / f".{number}.writing"
        made.write_text(text)
        placed.append(place(made, tmp_path / "a.b.mp4").name)
        made.unlink(missing_ok=True)
    assert placed == ["a.b.mp4", "a.b-2.mp4", "a.b.mp4", "a.b-3.mp4", "a.b-2.mp4"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.b.mp4": "one", "a.b-2.mp4": "two", "a.b-3.mp4": "three"
    }  # fmt: skip


def test_two_threads_write_one_file_and_each_writes_it_whole(tmp_path: Path) -> None:
    with replacing(tmp_path / "x") as first:
        first.write_text("first")
        with replacing(tmp_path / "x") as second:
            second.write_text("second")
        assert (tmp_path / "x").read_text() == "second"
    assert (tmp_path / "x").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("links", [True, False])
def test_a_name_is_claimed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    mine, home = tmp_path / "mine", tmp_path / "home"
    mine.write_text("mine")
    claim(mine, home / "x")
    (home / "y").write_text("another's")
    with pytest.raises(FileExistsError):
        claim(mine, home / "y")
    assert {path.name: path.read_text() for path in home.iterdir()} == {"x": "mine", "y": "another's"}
    assert mine.read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_a_link_to_itself_is_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    with pytest.raises(AdapterError, match=r"loop\.safetensors cannot be read: Too many levels"):
        read_metadata(tmp_path / "loop.safetensors")
