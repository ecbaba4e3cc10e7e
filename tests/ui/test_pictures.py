"""First pictures by id: what ships, what was uploaded, and nothing else on this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synmotion_core.clips.frames import png
from synmotion_core.errors import ClipError, ConfigError, MissingError
from synmotion_core.ui.pictures import Pictures, strip_html
from tests.ui.studio import PUPPETS, REAL


def grey(path: Path, width: int = 64) -> Path:
    path.write_bytes(png(np.full((64, width, 3), 128, np.uint8)))
    return path


def test_an_upload_is_kept_byte_for_byte_and_once(pictures: Pictures, tmp_path: Path) -> None:
    given = grey(tmp_path / "my cat.PNG")
    wanted = pictures.add(given, PUPPETS)
    assert wanted.startswith("upload/my cat-")
    assert pictures.path(wanted).read_bytes() == given.read_bytes()
    assert pictures.add(given, PUPPETS) == wanted
    assert len(list(pictures.workspace.pictures.iterdir())) == 1


def test_what_is_no_picture_leaves_nothing_behind(pictures: Pictures, tmp_path: Path) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(grey(tmp_path / "a.png").read_bytes()[:50])
    with pytest.raises(ClipError, match=r"torn\.png: damaged"):
        pictures.add(torn, PUPPETS)
    with pytest.raises(ClipError, match=r"a\.gif is not one of \.png, \.jpg, \.jpeg, \.webp"):
        pictures.add(tmp_path / "a.gif", PUPPETS)
    assert list(pictures.workspace.pictures.iterdir()) == []


@pytest.mark.parametrize(
    "wanted",
    ["", "ready/", "ready/none.png", "upload/", "upload/../../x", "upload/.hidden", "/etc/passwd", "upload//etc/passwd",
     "ready/../adapters/clap.safetensors"],
)  # fmt: skip
def test_an_id_names_a_picture_or_nothing(pictures: Pictures, wanted: str) -> None:
    (pictures.workspace.pictures / ".hidden").write_bytes(b"x")
    with pytest.raises(MissingError, match="is not there any more: add it again"):
        pictures.path(wanted)


def test_ready_pictures_are_found_by_who_is_in_them(pictures: Pictures, tmp_path: Path) -> None:
    assert [path.name for path in pictures.of_subjects(("a blue robot", "a red cat"))] == [
        "blue-robot.png",
        "red-cat.png",
    ]
    with pytest.raises(ConfigError, match=r"no ready picture of 'a zebra' .* name some of a red cat, a blue robot"):
        pictures.of_subjects(("a red cat", "a zebra"))
    assert Pictures(pictures.workspace, tmp_path).ready == {}


def test_the_strip_shows_whose_each_is_and_what_is_lost(pictures: Pictures, tmp_path: Path) -> None:
    wide = pictures.add(grey(tmp_path / "wide.png", width=128), PUPPETS)
    shown = strip_html(pictures, ("ready/red-cat.png", wide, "upload/gone.png"), ("<b>a cat</b>",), PUPPETS)
    assert shown.count("<figure>") == 2
    assert "<b>" not in shown
    assert "&lt;b&gt;a cat&lt;/b&gt;" in shown
    assert "no subject yet" in shown
    assert "the middle 64x64 is kept" in shown
    assert "only knows 64x64 puppets" in shown
    assert "only knows" not in strip_html(pictures, (wide,), ("a cat",), REAL)
    assert "&#x27;gone.png&#x27; is not there any more" in shown
    assert strip_html(pictures, (), ("a cat",), PUPPETS) == ""
