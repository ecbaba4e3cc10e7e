"""What is this studio, and may leave: the tracked files that it needs, and nothing that lies beside them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from synmotion_core.errors import MissingError
from synmotion_core.hosting.sources import ROOT, collect, could_be


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with few of its files."""
    root = tmp_path_factory.mktemp("studio")
    for source in collect().files:
        path = root / source.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if source.name.endswith(("index.json", "-01.mp4", "README.md")) or source.size < 3000:
            shutil.copyfile(source.path, path)
    for name in (
        "app.py",
        "requirements.txt",
        "LICENSE",
        "CHANGELOG.md",
        "pyproject.toml",
        "synmotion_core/__init__.py",
    ):
        shutil.copyfile(ROOT / name, root / name)
    return root


def test_all_that_ships_goes_and_no_more() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("no git here")
    tracked = {name for name in listed.stdout.decode().split("\0") if name}
    kept = {name for name in tracked if name.startswith(("tests/", ".")) or not name}
    names = {source.name for source in collect().files}
    assert tracked - kept <= names, "a Space would lack these"
    assert not {name for name in names if name.startswith(("tests", ".")) or "__pycache__" in name}
    assert all(could_be(name) for name in names)
    assert all(source.size == source.path.stat().st_size for source in collect().files)


def test_what_lies_beside_stays(studio: Path, tmp_path: Path) -> None:
    root = tmp_path / "studio"
    shutil.copytree(studio, root)
    before = {source.name for source in collect(root).files}
    secret = root / ".env"
    stays = {
        "assets/clips/wave/my-aunt.mp4": b"x", "assets/clips/mine/01.mp4": b"x", "assets/pictures/me.png": b"x",
        "assets/models/big.safetensors": b"x", "synmotion_core/notes.txt": b"x", "synmotion_core/.token.py": b"x",
        "synmotion_core/__pycache__/a.py": b"x", ".git/config": b"x", "tests/test_x.py": b"x", "runs/a/run.json": b"x",
        "token.txt": b"x", "clips/a.mp4": b"x", "synmotion_core/.hidden/b.py": b"x", "assets/adapters/me.mp4": b"x",
        "assets/adapters/squat.about/me.mp4": b"x", "assets/adapters/notes.json": b"x",
    }  # fmt: skip
    for name, content in {".env": b"HF_TOKEN=hf_secret", **stays}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "synmotion_core" / "linked.py").symlink_to(secret)
    (root / "synmotion_core" / "elsewhere").symlink_to(tmp_path, target_is_directory=True)
    found = collect(root)
    assert {source.name for source in found.files} == before
    assert "assets/adapters/squat.about/me.mp4" in found.left, "a video that no note names"
    assert {"assets/clips/wave/my-aunt.mp4", "synmotion_core/notes.txt", "synmotion_core/linked.py"} <= set(found.left)
    assert "assets/clips/mine/01.mp4" in found.left, "what stays beside what goes is said"


def test_a_folder_that_is_a_link_leads_nowhere(studio: Path, tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "studio", tmp_path / "elsewhere"
    shutil.copytree(studio, root)
    elsewhere.mkdir()
    (elsewhere / "hers.json").write_text("{}")
    shutil.rmtree(root / "assets" / "puppet-judge")
    (root / "assets" / "puppet-judge").symlink_to(elsewhere, target_is_directory=True)
    found = collect(root)
    assert not [source.name for source in found.files if "puppet-judge" in source.name]
    assert "assets/puppet-judge/hers.json" in found.left


def test_a_broken_studio_is_refused(studio: Path, tmp_path: Path) -> None:
    root = tmp_path / "studio"
    shutil.copytree(studio, root)
    (root / "app.py").unlink()
    with pytest.raises(MissingError, match=r"no whole studio: it lacks app\.py"):
        collect(root)
    shutil.copyfile(ROOT / "app.py", root / "app.py")
    (root / "assets" / "clips" / "index.json").write_text("[")
    with pytest.raises(MissingError, match=r"index\.json cannot be read"):
        collect(root)
    assert collect(root, assets=["puppet-judge"]).files


@pytest.mark.parametrize("name", ["tests/a.py", "mine.py", "data/clip.mp4", "assets/models/a.bin", "assets/notes.md"])
def test_what_no_version_has_put_there(name: str) -> None:
    assert not could_be(name)
