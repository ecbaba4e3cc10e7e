"""A blind study: what the page shows, what it does not know, and what people's answers come to."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from synmotion_core import cli
from synmotion_core.errors import ConfigError, MissingError
from synmotion_core.evaluation.results import FILE
from synmotion_core.evaluation.study import KEY, QUESTIONS, answers, make_study
from tests.evaluation.test_report import folder, made_once  # noqa: F401  (fixtures)


@pytest.fixture
def study(folder: Path) -> Path:  # noqa: F811
    make_study(folder, ["small", "plain"], pairs=6, seed=1)
    return folder


def key_of(study: Path) -> Any:
    return json.loads((study / KEY).read_text())


def written(study: Path, name: str, lines: list[str]) -> Path:
    path = study / name
    path.write_text("\n".join(["pair,question,answer", *lines]) + "\n")
    return path


def test_the_page_does_not_know_which_is_which(study: Path) -> None:
    page = (study / "study.html").read_text()
    without = re.sub(r"base64,[^\"]+", "", page)
    assert "plain" not in without
    assert "small" not in without
    assert page.count("data:video/mp4") == 12
    assert "<img" not in page, "prompts are text"
    key = key_of(study)
    assert {pair["left"] for pair in key["pairs"]} == {"small", "plain"}, "sides are drawn"
    assert len(key["pairs"]) == 6


def test_answers_are_shares_of_the_first_row(study: Path) -> None:
    sides = [("left" if pair["left"] == "small" else "right") for pair in key_of(study)["pairs"]]
    other = {"left": "right", "right": "left"}
    one = written(study, "one.csv", [f"{i},motion,{side}" for i, side in enumerate(sides)] + ["0,quality,same"])
    two = written(study, "two.csv", [f"{i},motion,{other[s] if i < 3 else s}" for i, s in enumerate(sides)])
    found = {f.name: f for f in answers(study, [one, two])}
    assert found["study.motion.small"].value == pytest.approx(9 / 12)
    assert found["study.motion.small"].low < 0.75 < found["study.motion.small"].high
    assert found["study.quality.small"].value == 0.5
    assert "study.subject.small" not in found, "nobody answered"
    assert set(QUESTIONS) == {"motion", "subject", "quality"}


def test_pairs_of_one_motion_are_no_further_motions(study: Path) -> None:
    """One motion all won, the other all lost: two motions, however many pairs; an old key knows its pairs alone."""
    key = key_of(study)
    assert {pair["motion"] for pair in key["pairs"]} == {"squat", "spin"}
    for i, pair in enumerate(key["pairs"]):
        pair["motion"] = ("squat", "spin")[i % 2]
    (study / KEY).write_text(json.dumps(key))
    sides = ["left" if (pair["left"] == "small") == (i % 2 == 0) else "right" for i, pair in enumerate(key["pairs"])]
    own = written(study, "own.csv", [f"{i},motion,{side}" for i, side in enumerate(sides)])
    (found,) = answers(study, [own])
    assert (found.value, found.low, found.high) == (0.5, 0, 1)
    for pair in key["pairs"]:
        del pair["motion"]
    (study / KEY).write_text(json.dumps(key))
    (old,) = answers(study, [own])
    assert old.value == 0.5
    assert 0 < old.low < old.high < 1
    key["pairs"][0]["motion"] = 3
    (study / KEY).write_text(json.dumps(key))
    with pytest.raises(ConfigError, match="its motions are no words"):
        list(answers(study, [own]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must have the columns"),
        ("pair,question\n1,motion\n", "must have the columns"),
        ("pair,question,answer\n", "at least one line"),
        ("pair,question,answer\n6,motion,left\n", "line 2, is not of this study"),
        ("pair,question,answer\n-1,motion,left\n", "is not of this study"),
        ("pair,question,answer\n²,motion,left\n", "is not of this study"),
        ("pair,question,answer\n1,looks,left\n", "is not of this study"),
        ("pair,question,answer\n1,motion,both\n", "is not of this study"),
        ("pair,question,answer\n1,motion,left,5\n", "must have the columns"),
        ("pair,question,answer\n1,motion,left\n1,motion,left\n", "pair 1 is answered twice for motion"),
    ],
)
def test_a_file_that_is_not_of_the_study(text: str, words: str, study: Path) -> None:
    (study / "a.csv").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(words)):
        list(answers(study, [study / "a.csv"]))


def test_bytes_and_keys_that_cannot_be_read(study: Path) -> None:
    (study / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read as CSV"):
        list(answers(study, [study / "a.csv"]))
    with pytest.raises(ConfigError, match="cannot be read as CSV"):
        list(answers(study, [study / "gone.csv"]))
    for damage in (
        "{",
        "{}",
        '{"rows": ["a"], "pairs": []}',
        '{"rows": ["a", "b"], "pairs": [{"left": "a", "right": "c"}]}',
    ):
        (study / KEY).write_text(damage)
        with pytest.raises(ConfigError, match=KEY):
            list(answers(study, []))


def test_studies_that_cannot_be(study: Path) -> None:
    for rows_, pairs, error, words in (
        (["small"], 3, ConfigError, "a study is about two rows, got small"),
        (["small", "small"], 3, ConfigError, "a study is about two rows"),
        (["small", "later"], 3, MissingError, "there is no row 'later'"),
        (["small", "plain"], 9, ConfigError, "pairs must be at most 8, as many videos as both rows have, got 9"),
        (["small", "plain"], 0, ConfigError, "pairs must be between 1 and 200, got 0"),
    ):
        with pytest.raises(error, match=words):
            make_study(study, rows_, pairs=pairs)
    values = json.loads((study / FILE).read_text())
    values["rows"][0]["outcomes"][0]["videos"][0] = "../../etc/passwd"
    (study / FILE).write_text(json.dumps(values))
    with pytest.raises(MissingError, match="of the results is not there"):
        make_study(study, ["small", "plain"], pairs=3)


def test_the_command_makes_one_and_reads_the_answers(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "study", str(study), "plain", "small", "--set", "pairs=2"]) == cli.OK
    assert capsys.readouterr().out.strip() == str(study / "study.html")
    assert len(key_of(study)["pairs"]) == 2
    path = written(study, "a.csv", ["0,motion,same", "1,motion,same"])
    assert cli.main(["bench", "answers", str(study), str(path), "--json"]) == cli.OK
    assert json.loads(capsys.readouterr().out)["value"] == 0.5
    for words, said in (
        (["study", str(study), "plain"], "bench study takes a folder and two of its rows"),
        (["answers", str(study)], "bench answers takes a folder and the CSV files"),
        (["study", str(study), "plain", "small", "--set", "colour=2"], "bench study has no setting colour"),
        (["report", str(study), "--set", "pairs=2"], "bench report has no setting pairs"),
    ):
        assert cli.main(["bench", *words]) == cli.REFUSED
        assert said in capsys.readouterr().err
