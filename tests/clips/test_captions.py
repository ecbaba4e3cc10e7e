"""Captions beside clips: whatever a file says, nothing outside the folder is touched, and what is odd is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synmotion_core.clips.captions import MOST_LETTERS, MOST_SUBJECT, Caption, captions_in, taken_apart
from synmotion_core.errors import ClipError

ENDINGS = (".mp4",)


def folder(where: Path, rows: object = None, **texts: bytes) -> Path:
    """A folder with a.mp4, below one with secret.mp4."""
    home = where / "home"
    home.mkdir()
    (where / "secret.mp4").touch()
    (home / "a.mp4").touch()
    for name, data in texts.items():
        (home / f"{name}.txt").write_bytes(data)
    if isinstance(rows, list):
        (home / "m.jsonl").write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return home


def words(home: Path) -> tuple[dict[str, str], list[str]]:
    found = captions_in(home, [home / "a.mp4"], ENDINGS)
    assert all(path.resolve().is_relative_to(home) for path in found.by_clip)
    return {path.relative_to(home).as_posix(): one.text for path, one in found.by_clip.items()}, found.problems


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\xff\xfe", "a.txt is no text in UTF-8"),
        (b" \n", "a.txt: the caption is empty"),
        (b"x" * (MOST_LETTERS + 1), "at most 2000 are read"),
        (b"x" * 20_000, "a.txt has more than 16 KiB"),
        (b"a man \x1b[2J waves", "cannot be printed"),
    ],
)
def test_a_text_that_is_no_caption_is_named(data: bytes, problem: str, tmp_path: Path) -> None:
    found, problems = words(folder(tmp_path, a=data))
    assert not found
    assert problem in problems[0]


def test_a_caption_is_one_line_and_the_clips_own_counts(tmp_path: Path) -> None:
    rows = [{"file_name": "a.mp4", "text": "a girl waves"}]
    assert words(folder(tmp_path, rows, a="\ufeffa man\n\twaves\n".encode())) == ({"a.mp4": "a man waves"}, [])


@pytest.mark.parametrize(
    ("name", "clip"),
    [
        ("a.mp4", "a.mp4"), ("./a.mp4", "a.mp4"), ("x/../a.mp4", "a.mp4"), ("/data/set/a.mp4", "a.mp4"),
        ("D:\\set\\a.mp4", "a.mp4"), ("../a.mp4", "a.mp4"), ("../secret.mp4", ""), ("b.mp4", ""), ("a\0.mp4", ""),
        ("m.jsonl", ""), ("a" * 5000 + ".mp4", ""), ("", ""), ("..", ""), ("/", ""),
    ],
)  # fmt: skip
def test_a_row_names_a_clip_of_the_folder(name: str, clip: str, tmp_path: Path) -> None:
    rows = [{"video_path": name, "caption": "a man waves"}, {"video": "none.mp4", "prompt": "x"}]
    found, problems = words(folder(tmp_path, rows))
    assert found == ({clip: "a man waves"} if clip else {})
    assert len(problems) == (1 if clip else 2)
    assert "'none.mp4' is no video of the folder" in problems[-1]


def test_a_link_that_leads_out_is_no_clip(tmp_path: Path) -> None:
    home = folder(tmp_path, [{"video": "link.mp4", "caption": "a man waves"}])
    (home / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    assert words(home)[0] == {}


def test_rows_that_are_none(tmp_path: Path) -> None:
    deep = "[" * 100_000
    rows = [deep, "no json", "[]", {"video": 3, "caption": "x"}, {"video": "a.mp4", "caption": "a man waves"}]
    found, problems = words(folder(tmp_path, rows))
    assert found == {"a.mp4": "a man waves"}
    assert [problem.partition(":")[0] for problem in problems] == [f"m.jsonl, line {n}" for n in range(1, 5)]
    other = folder(tmp_path / "other" if (tmp_path / "other").mkdir() is None else tmp_path, [{"step": 3}, "x"])
    assert captions_in(other, [], ENDINGS).files == set(), "a log, not captions"


@pytest.mark.parametrize(
    ("text", "motion", "found"),
    [
        ("a man waves", "waves", ("a man", "")),
        ("A man, who WAVES  both arms in a park.", "waves both arms", ("A man, who", "in a park")),
        ("a man squats, then stands", "squats, bobs deep", ("a man", "then stands")),
        ("a man (40) does a 2.5 turn", "does a 2.5 turn", ("a man (40)", "")),
    ],
)
def test_a_caption_is_taken_apart(text: str, motion: str, found: tuple[str, str]) -> None:
    assert taken_apart(Caption(text=text, place="a.txt"), motion) == found


def test_words_within_others_are_not_the_motion() -> None:
    for text, said in (
        ("a man microwaves food", "does not hold “waves”"),
        ("waves", "has nothing before"),
        ("x" * (MOST_SUBJECT + 1) + " waves", "at most 200 say who moves"),
    ):
        with pytest.raises(ClipError, match=said):
            taken_apart(Caption(text=text, place="a.txt"), "waves")
    with pytest.raises(ClipError, match="does not hold"):
        taken_apart(Caption(text="a man waves", place="a.txt"), "")
