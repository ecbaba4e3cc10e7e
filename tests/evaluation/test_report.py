"""Results as a folder, and the pages of it: what was measured, what was not, and nothing that is not escaped."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import shutil
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synmotion_core import cli
from synmotion_core.clips import video
from synmotion_core.errors import ConfigError, MissingError
from synmotion_core.evaluation.figures import Figure
from synmotion_core.evaluation.metrics import COLUMNS
from synmotion_core.evaluation.report import html, markdown, verdict, write_report
from synmotion_core.evaluation.results import (
    DERIVED,
    FILE,
    Outcome,
    RowResult,
    check_folder,
    figures,
    read_results,
    write_results,
)
from synmotion_core.evaluation.suite import Row, Suite

EVIL = 'squats <img src=x onerror="alert(1)">'
ROWS = {"plain": Row(method="lora"), "small": Row(method="lora", config={"rank": 4}), "later": Row(method="lora")}
SUITE = Suite(
    rows=ROWS,
    about="Small <b>against</b> plain",
    motions=("squat", "spin"),
    seeds=(0, 1),
    num_videos=2,
    against="plain",
)


@functools.cache
def noise() -> bytes:
    frames = np.random.default_rng(0).integers(0, 255, (17, 64, 64, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        video.write(Path(folder) / "a.mp4", frames, 8.0)
        return (Path(folder) / "a.mp4").read_bytes()


def outcome(kept: Path, name: str, hits: list[bool]) -> Outcome:
    videos = []
    for index in range(len(hits)):
        videos.append(f"drawn/{name}/{index:02d}.mp4")
        (kept / videos[-1]).parent.mkdir(parents=True, exist_ok=True)
        (kept / videos[-1]).write_bytes(noise())
    every = [1.0] * len(hits)
    return Outcome(
        values={
            "motion": [float(hit) for hit in hits],
            "species": every,
            "colour": every,
            "as_person": [0.0] * len(hits),
            "error": [0.04 + 0.1 * (not hit) for hit in hits],
            "amplitude": [1.0] * len(hits),
        },
        num_videos=len(hits),
        seconds=12.0,
        prompts=[EVIL] * len(hits),
        videos=videos,
    )


def measured(kept: Path) -> list[RowResult]:
    """Of three rows two are done: plain sees half of the motions, small all of them."""
    made = []
    for name, hits in (("plain", [True, False]), ("small", [True, True])):
        outcomes = tuple(outcome(kept, f"{name}{i}", hits) for i in range(4))
        made.append(RowResult(name=name, outcomes=outcomes, seconds=1.0))
    return made


@pytest.fixture
def rows(tmp_path: Path) -> list[RowResult]:
    return measured(tmp_path / "kept")


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    write_results(root / "results", SUITE, measured(root / "kept"), root / "kept", "bench run <own>.yaml")
    write_report(root / "results")
    return root / "results"


@pytest.fixture
def folder(tmp_path: Path, made_once: Path) -> Path:
    return Path(shutil.copytree(made_once, tmp_path / "results"))


def test_a_folder_is_what_was_measured(folder: Path, rows: list[RowResult], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "kept")
    read = read_results(folder)
    assert read.suite == SUITE
    assert read.command == "bench run <own>.yaml"
    assert read.versions["torch"]
    for own, theirs in zip(rows, read.rows, strict=True):
        one, other = (list(figures(SUITE, row, r[0])) for row, r in ((own, rows), (theirs, read.rows)))
        assert one == other
    files = [name for row in read.rows for o in row.outcomes for name in o.videos]
    assert files[:2] == ["videos/plain/squat-0-00.mp4", "videos/plain/squat-0-01.mp4"]
    assert len(files) == len(set(files)) == 16
    assert all(video.read(folder / name)[0].shape == (17, 64, 64, 3) for name in files[:2])
    with pytest.raises(MissingError, match="there is no row 'later': there are plain, small"):
        read.row("later")


def test_the_tables_say_what_the_figures_say(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    assert "| plain | 50 % [22, 78] | 100 % [68, 100] |" in text.replace("[21.5, 78.5]", "[22, 78]").replace(
        "67.6", "68"
    )
    assert "Not done yet: later." in text
    assert "Trainings a row: 4 (motions: 2, seeds: 0, 1), 20 clips of a person each" in text
    assert "- plain: lora\n- small: lora, rank=4\n" in text
    small = next(line for line in text.split("## Against plain")[1].splitlines() if line.startswith("| small"))
    assert small.split("|")[2].strip() == "50 % [50, 50] of 2 motions only"
    assert small.split("|")[3].strip() == "0 % [0, 0] within noise"
    assert small.split("|")[6].strip().endswith("of 2 motions only"), "a smaller error"
    assert "Intervals are 95 %, for motions in general: motions are redrawn, then trainings within each." in text
    assert "| plain | 50 %" in text.split("## The same, for these motions")[1]
    kept = text.split("## Against plain, for these motions")[1].split("## By motion")[0]
    assert "| small | 50 % [50, 50] of 4 trainings only | 0 % [0, 0] within noise |" in kept
    assert "| plain | 50 %" in text.split("## By motion")[1]


def test_one_training_is_said_to_be_one(rows: list[RowResult], tmp_path: Path) -> None:
    one = dataclasses.replace(SUITE, motions=("squat",), seeds=(0,))
    write_results(
        tmp_path / "one", one, [dataclasses.replace(rows[0], outcomes=rows[0].outcomes[:1])], tmp_path / "kept", ""
    )
    assert "over the videos of one training: another one may differ by more" in markdown(read_results(tmp_path / "one"))


def test_results_of_two_suites_do_not_share_a_folder(folder: Path, rows: list[RowResult], tmp_path: Path) -> None:
    check_folder(folder, SUITE)
    check_folder(tmp_path / "new", SUITE)
    with pytest.raises(ConfigError, match="holds results of another suite: choose another folder"):
        check_folder(folder, dataclasses.replace(SUITE, num_clips=3))
    seen = (folder / "videos/plain/squat-0-00.mp4").stat().st_mtime_ns
    other = rows[1].outcomes[0].videos[0]
    video.write(tmp_path / "kept" / other, np.zeros((17, 64, 64, 3), np.uint8), 8.0)
    write_results(folder, SUITE, rows, tmp_path / "kept", "")
    assert (folder / "videos/plain/squat-0-00.mp4").stat().st_mtime_ns == seen, "what is there is left"
    assert not video.read(folder / "videos/small/squat-0-00.mp4")[0].max() > 40, "and what changed is not"


def test_what_a_difference_says() -> None:
    def figure(value: float, low: float, high: float) -> Figure:
        return Figure(name="x", value=value, low=low, high=high, n=4, seeds=(0,), seconds=1)

    assert verdict(COLUMNS["motion"], figure(0.1, 0.02, 0.2)) == "better"
    assert verdict(COLUMNS["motion"], figure(-0.1, -0.2, -0.02)) == "worse"
    assert verdict(COLUMNS["as_person"], figure(0.1, 0.02, 0.2)) == "worse"
    assert verdict(COLUMNS["error"], figure(-0.1, -0.2, -0.02)) == "better"
    assert verdict(COLUMNS["motion"], figure(0.1, -0.02, 0.2)) == "within noise"
    assert verdict(COLUMNS["amplitude"], figure(0.1, 0.02, 0.2)) == "more", "which may be too much"
    assert verdict(COLUMNS["flow"], figure(-0.1, -0.2, -0.02)) == "less"
    wins = [figure(0.6, 0.52, 0.7), figure(0.4, 0.2, 0.48), figure(0.55, 0.45, 0.6)]
    assert [verdict(DERIVED["wins"], one) for one in wins] == ["better", "worse", "within noise"]
    few = [
        verdict(COLUMNS["motion"], figure(0.1, low, 0.2), n) for low, n in ((0.02, 5), (0.02, 1), (-0.02, 5), (0.02, 6))
    ]
    assert few == ["of 5 motions only", "of 1 motion only", "within noise", "better"]
    assert verdict(COLUMNS["motion"], figure(0.1, 0.02, 0.2), 4, "training") == "of 4 trainings only"


def test_seeds_do_not_make_a_few_motions_enough(rows: list[RowResult], tmp_path: Path) -> None:
    """Two motions and three seeds are six trainings, and two motions."""
    suite = dataclasses.replace(SUITE, seeds=(0, 1, 2))
    more = [dataclasses.replace(row, outcomes=(*row.outcomes, *row.outcomes[:2])) for row in rows]
    write_results(tmp_path / "six", suite, more, tmp_path / "kept", "")
    text = markdown(read_results(tmp_path / "six"))
    general, kept = text.split("## Against plain\n")[1].split("## Against plain, for these motions\n")
    assert "| small | 50 % [50, 50] of 2 motions only |" in general
    assert "better" not in general
    assert "worse" not in general
    assert "| small | 50 % [50, 50] better |" in kept


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "video by video: the same prompts, clips and noise.\n\nHalf"),
        ({"num_clips": 3}, "the same prompts, clips and noise.\n\nTrained on other clips (another number, or in "
         "another mode): small.\n\nHalf"),
        ({"mode": "i2v"}, "other clips (another number, or in another mode): small.\n\nHalf"),
        ({"sampling": {"noise_prior": 0.5}}, "the same prompts, clips and seeds of the noise.\n\nDrawn from another "
         "share of a clip's noise: small.\n\nHalf"),
    ],
)  # fmt: skip
def test_the_same_is_said_of_what_is_the_same(
    changed: dict[str, Any], said: str, rows: list[RowResult], tmp_path: Path
) -> None:
    suite = dataclasses.replace(SUITE, rows={**ROWS, "small": dataclasses.replace(ROWS["small"], **changed)})
    write_results(tmp_path / "own", suite, [*rows, dataclasses.replace(rows[0], name="later")], tmp_path / "kept", "")
    assert said in markdown(read_results(tmp_path / "own"))
    only = {name: row for name, row in suite.rows.items() if name != "later"}
    write_results(tmp_path / "two", dataclasses.replace(suite, rows=only), rows, tmp_path / "kept", "")
    others = "num_clips" in changed or "mode" in changed
    assert ("the same prompts and noise." in markdown(read_results(tmp_path / "two"))) == others


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        assert not [name for name, _ in attrs if name.startswith("on")]


def test_the_page_is_one_file_and_escapes_what_it_shows(folder: Path) -> None:
    page = _Page()
    text = (folder / "report.html").read_text()
    page.feed(text)
    assert not {"img", "script", "link", "b<"} & set(page.tags)
    assert len(page.sources) == 2 * 2 * 2, "two rows, two motions, two videos"
    assert all(source.startswith("data:video/mp4;base64,") for source in page.sources)
    assert page.tags.count("svg") == 7
    assert "http" not in re.sub(r"base64,[^\"]+", "", text)
    assert "Small &lt;b&gt;against&lt;/b&gt; plain" in text
    assert text.count("✓ </span>") == 6, "of eight videos"


@pytest.mark.parametrize(
    "names", [["../secret.mp4", "/etc/passwd"], ["results.json", "videos/../../secret.mp4"], ["gone.mp4", "videos"]]
)
def test_a_page_of_a_folder_from_elsewhere_shows_no_other_files(names: list[str], folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    values = json.loads((folder / FILE).read_text())
    for row in values["rows"]:
        for own in row["outcomes"]:
            own["videos"] = names
    (folder / FILE).write_text(json.dumps(values))
    assert "data:video" not in html(read_results(folder), folder)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text[:40], "cannot be read"),
        (lambda text: text.replace('"format": 2', '"format": 9'), "has format 9, this version reads 2"),
        (lambda text: text.replace('"spin"', '"walk"'), "'walk' is not a rare motion"),
        (lambda text: text.replace('"amplitude"', '"volume"'), "cannot be read"),
        (lambda text: text.replace('"videos/plain/squat-0-00.mp4",', ""), "2 videos, 1 videos"),
        (lambda text: text.replace('"error": [', '"error": [1.0, ', 1), "error: 3 values for 2"),
        (
            lambda text: text.replace('"seeds": [0, ', '"seeds": [0, 2, '),
            "4 units, its suite has 6",
        ),
    ],
)
def test_a_damaged_folder_is_named(damage: Any, words: str, folder: Path) -> None:
    (folder / FILE).write_text(damage((folder / FILE).read_text()))
    with pytest.raises(ConfigError, match=re.escape(words)):
        read_results(folder)


def test_the_command_makes_the_pages_anew(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "report.md").read_text()
    (folder / "report.md").unlink()
    assert cli.main(["bench", "report", str(folder)]) == cli.OK
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    assert (folder / "report.md").read_text() == before == markdown(read_results(folder))
    assert cli.main(["bench", "report", str(tmp_path / "gone")]) == cli.REFUSED
    assert "there are no results in" in capsys.readouterr().err
    assert cli.main(["bench", "report", str(folder), "--seeds", "1"]) == cli.REFUSED
    assert "leave --seeds out" in capsys.readouterr().err


def test_what_changed_video_by_video(
    folder: Path, rows: list[RowResult], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    better = RowResult(name="plain", outcomes=rows[1].outcomes, seconds=1.0)
    write_results(tmp_path / "after", SUITE, [better], tmp_path / "kept", "")
    assert cli.main(["bench", "compare", str(folder), str(tmp_path / "after"), "--json"]) == cli.OK
    found = {f["name"]: f for f in map(json.loads, capsys.readouterr().out.splitlines())}
    assert found["methods.plain.motion-before"]["value"] == 0.5
    assert found["methods.plain.error-before"]["value"] == pytest.approx(-0.05)
    assert {name.split(".")[1] for name in found} == {"plain"}, "of the rows that both have"
    other = dataclasses.replace(SUITE, seeds=(0, 2))
    write_results(tmp_path / "other", other, [better], tmp_path / "kept", "")
    for words, said in (
        (["compare", str(folder), str(tmp_path / "other")], r"their seeds are (0, 1) and (0, 2)"),
        (["compare", str(folder)], "bench compare takes two folders, of before and of after the change"),
        (["report", str(folder), str(folder)], "bench report takes one folder"),
        (["run", "judge", str(folder)], "bench run takes one suite"),
        (["run", "methods", "--set", "seeds=[1]"], "--set seeds has no effect"),
        (["run", "judge", "--out", str(folder)], "suite 'judge' has no setting 'out'"),
    ):
        assert cli.main(["bench", *words]) == cli.REFUSED
        assert said in capsys.readouterr().err
