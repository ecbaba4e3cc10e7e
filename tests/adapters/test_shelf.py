"""What a training leaves gets a name that is free at the moment when it is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from synmotion_core.adapters import shelf


def test_a_pair_goes_on_to_the_next_name_when_one_is_taken_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last, best, home, said = tmp_path / "w.safetensors", tmp_path / "b.safetensors", tmp_path / "home", []
    last.write_text("last")
    best.write_text("best")
    home.mkdir()
    real, taken = shelf.claim, home / "w-best.safetensors"  # the second of the pair

    def late(path: Path, target: Path) -> None:
        if target == taken and not taken.exists():
            taken.write_text("another training's")
        real(path, target)

    monkeypatch.setattr(shelf, "claim", late)
    assert shelf.publish(home, last, best, said.append) == (home / "w-2.safetensors", home / "w-2-best.safetensors")
    assert {path.name: path.read_text() for path in home.iterdir()} == {
        "w-best.safetensors": "another training's", "w-2.safetensors": "last", "w-2-best.safetensors": "best"
    }  # fmt: skip
    again = shelf.publish(home, home / "w-2.safetensors", None, said.append, again=True)
    assert again == (home / "w-2.safetensors", None)
    assert said == []
