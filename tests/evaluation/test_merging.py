"""A suite that was measured in parts is what it would be in one go."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import pytest

from synmotion_core import cli
from synmotion_core.clips import video
from synmotion_core.errors import ConfigError, MissingError
from synmotion_core.evaluation import merging
from synmotion_core.evaluation.footage import Footage
from synmotion_core.evaluation.merging import merge_results
from synmotion_core.evaluation.results import FILE, Outcome, RowResult, figures, read_results, write_results
from synmotion_core.evaluation.study import make_study
from synmotion_core.evaluation.suite import Row, Suite

ROWS = {"plain": Row(method="lora"), "small": Row(method="lora", config={"rank": 4})}
SUITE = Suite(rows=ROWS, about="ours", motions=("squat", "spin"), seeds=(0, 1), num_videos=2, against="plain",
              metrics=("judge",))  # fmt: skip


def value(row: str, motion: str, seed: int, index: int) -> float:
    """No two trainings alike, so that one in another's place is seen."""
    code = 4 * list(ROWS).index(row) + 2 * SUITE.motions.index(motion) + seed
    return (code + 1) * 0.01 + index * 0.001


def made(folder: Path, suite: Suite, *, command: str = "") -> Path:
    kept = folder.parent / "kept"
    rows = []
    for name in suite.rows:
        outcomes = []
        for unit in suite.units(name):
            videos = [f"{name}-{unit.motion}-{unit.seed}-{i}.mp4" for i in range(2)]
            for index, own in enumerate(videos):
                shade = round(1000 * value(name, unit.motion, unit.seed, index))
                video.write(kept / own, np.full((1, 16, 16, 3), shade, np.uint8), 8.0)
            columns = {key: [1.0, 1.0] for key in ("motion", "species", "colour", "as_person", "error")}
            columns["amplitude"] = [value(name, unit.motion, unit.seed, i) for i in range(2)]
            outcomes.append(
                Outcome(values=columns, num_videos=2, seconds=3.0, prompts=["a", "b"], videos=videos)
            )  # fmt: skip
        rows.append(RowResult(name=name, outcomes=tuple(outcomes), seconds=5.0))
    write_results(folder, suite, rows, kept, command)
    return folder


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    """Seed 1 of both motions, then seed 0."""
    return [
        made(tmp_path / f"part-{seed}", dataclasses.replace(SUITE, seeds=(seed,)), command=f"bench run ours {seed}")
        for seed in (1, 0)
    ]


def test_parts_are_what_one_go_gives(parts: list[Path], tmp_path: Path) -> None:
    whole = read_results(made(tmp_path / "whole", SUITE))
    assert cli.main(["bench", "merge", *map(str, parts), "--out", str(tmp_path / "out")]) == cli.OK
    merged = read_results(tmp_path / "out")
    assert merged.suite == SUITE
    assert merged.command == "bench run ours 1; bench run ours 0"
    assert merged.versions == whole.versions
    for own, theirs in zip(whole.rows, merged.rows, strict=True):
        assert [o.values for o in own.outcomes] == [o.values for o in theirs.outcomes]
        assert [o.videos for o in own.outcomes] == [o.videos for o in theirs.outcomes]
        for name in (name for o in own.outcomes for name in o.videos):
            assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
        one, other = (
            [dataclasses.replace(f, seconds=0) for f in figures(SUITE, row, rows[0])]
            for row, rows in ((own, whole.rows), (theirs, merged.rows))
        )
        assert one == other
        assert theirs.seconds == 10.0, "of both parts"
    report = (tmp_path / "out" / "report.md").read_text()
    assert "Trainings a row: 4 (motions: 2, seeds: 0, 1)" in report


def test_motions_are_put_together_too(tmp_path: Path) -> None:
    one = made(tmp_path / "squat", dataclasses.replace(SUITE, motions=("squat",)))
    other = made(tmp_path / "spin", dataclasses.replace(SUITE, motions=("spin",)))
    merged = read_results(merge_results([one, other], tmp_path / "out").parent)
    assert merged.suite == SUITE
    assert merged.rows[1].outcomes[3].values["amplitude"] == [value("small", "spin", 1, i) for i in range(2)]


def test_footage_may_lie_elsewhere_on_another_machine(tmp_path: Path) -> None:
    def part(seed: int, words: str = "claps") -> tuple[str, Suite]:
        clips = {"clap": Footage(clips=tmp_path / str(seed), words=words)}
        return f"part-{seed}", Suite(rows=ROWS, footage=clips, subjects=("a cat",), seeds=(seed,))

    assert merging._whole([part(0), part(1)]).seeds == (0, 1)
    with pytest.raises(ConfigError, match="part-0 and part-2 were not asked the same: their footage differ"):
        merging._whole([part(0), part(2, "waves")])


def test_some_videos_or_none_go_along(parts: list[Path], tmp_path: Path) -> None:
    merge_results(parts, tmp_path / "some", videos=1)
    outcome = read_results(tmp_path / "some").rows[0].outcomes[0]
    assert outcome.videos == ["videos/plain/squat-0-00.mp4", ""]
    assert len(list((tmp_path / "some").rglob("*.mp4"))) == 8
    merge_results(parts, tmp_path / "none", videos=0)
    assert not list((tmp_path / "none").rglob("*.mp4"))
    assert make_study(tmp_path / "some", ["plain", "small"], pairs=4).is_file(), "of those that there are"
    with pytest.raises(MissingError, match="no video"):
        make_study(tmp_path / "none", ["plain", "small"], pairs=4)


def test_a_part_from_elsewhere_takes_no_file_from_outside(parts: list[Path], tmp_path: Path) -> None:
    values = json.loads((parts[0] / FILE).read_text())
    values["rows"][0]["outcomes"][0]["videos"] = ["../secret.mp4", str(tmp_path / "secret.mp4")]
    (tmp_path / "secret.mp4").write_bytes(b"mine")
    (parts[0] / FILE).write_text(json.dumps(values))
    merge_results(parts, tmp_path / "out")
    assert all(path.read_bytes() != b"mine" for path in (tmp_path / "out").rglob("*.mp4"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seeds": (0, 1)}, "seed 0 is in two parts"),
        ({"num_clips": 3, "seeds": (1,)}, "not asked the same: their num_clips differ"),
        ({"rows": {**ROWS, "small": Row(method="lora", config={"rank": 8})}, "seeds": (1,)}, "their rows differ"),
        ({"motions": ("squat",), "seeds": (1,)}, "the parts lack spin, seed 1 of plain: measure them first"),
        ({"seeds": (2,), "motions": ("squat",)}, "the parts lack spin, seed 2 of plain"),
    ],
)
def test_what_does_not_fit_together_is_refused(change: dict, said: str, tmp_path: Path) -> None:
    one = made(tmp_path / "one", dataclasses.replace(SUITE, seeds=(0,)))
    other = made(tmp_path / "other", dataclasses.replace(SUITE, **change))
    with pytest.raises(ConfigError, match=said):
        merge_results([one, other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_versions_are_said(
    parts: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    values = json.loads((parts[1] / FILE).read_text())
    values["versions"]["torch"] = "1.0"
    (parts[1] / FILE).write_text(json.dumps(values))
    with caplog.at_level(logging.WARNING):
        merge_results(parts, tmp_path / "out")
    assert "different versions of torch" in caplog.text
    assert read_results(tmp_path / "out").versions["torch"].endswith(" and 1.0")


@pytest.mark.parametrize(("name", "refused"), [("judge", True), ("weights", True), ("source", False)])
def test_other_weights_are_refused_and_unknown_ones_said(
    name: str, refused: bool, parts: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def write(index: int, version: str) -> None:
        values = json.loads((parts[index] / FILE).read_text())
        values["versions"][name] = version
        (parts[index] / FILE).write_text(json.dumps(values))

    write(0, "aaa")
    with caplog.at_level(logging.WARNING):
        merge_results(parts, tmp_path / "one")
    assert f"different versions of {name}: aaa, unknown" in caplog.text
    assert read_results(tmp_path / "one").versions[name] == "aaa and unknown"
    write(1, "bbb")
    if not refused:
        merge_results(parts, tmp_path / "two")
        return
    with pytest.raises(ConfigError, match=f"measured with different {name}: aaa, bbb"):
        merge_results(parts, tmp_path / "two")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["merge", "{0}", "--out", "{out}"], "bench merge takes two folders or more"),
        (["merge", "{0}", "{1}"], "bench merge needs --out"),
        (["merge", "{0}", "{1}", "--out", "{0}"], "is one of the parts"),
        (["merge", "{0}", "{1}", "--out", "{out}", "--set", "videos=-1"], "videos must be"),
        (["merge", "{0}", "{1}", "--out", "{out}", "--set", "pairs=1"], "bench merge has no setting pairs"),
        (["merge", "{0}", "{out}", "--out", "{out}2"], "there are no results in"),
    ],
)
def test_the_command_says_what_is_wrong(
    words: list[str], said: str, parts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    given = [word.format(*parts, out=tmp_path / "out") for word in words]
    assert cli.main(["bench", *given]) != cli.OK
    assert said in capsys.readouterr().err
