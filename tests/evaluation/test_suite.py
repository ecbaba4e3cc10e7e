"""Suites: files of rows and tasks, checked before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from synmotion_core import cli
from synmotion_core.backbones import find_spec
from synmotion_core.clips import video
from synmotion_core.errors import ConfigError, IncompatibleError, MissingError, UserInputError
from synmotion_core.evaluation import bench
from synmotion_core.evaluation import bench_methods as bench_methods_module
from synmotion_core.evaluation.bench_methods import bench_methods
from synmotion_core.evaluation.results import Outcome, read_results
from synmotion_core.evaluation.suite import Row, Suite, read_suite, shipped, suite_from_dict, suite_to_dict
from synmotion_core.evaluation.tasks import PRIORS_SHOW, UNSEEN, reference_clips


def a_file(folder: Path, text: str) -> str:
    path = folder / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Units that would have been measured."""
    found: list[Any] = []

    def measured(own: Any, folder: Path, **more: Any) -> Any:
        found.extend(own)
        for unit in own:
            hits = [True] * unit.num_videos
            flags = dict.fromkeys(("motion", "species", "colour", "as_person"), hits)
            values = {**flags, "error": [0.5] * len(hits), "amplitude": [1.0] * len(hits)}
            yield unit, Outcome(values=values, num_videos=len(hits), seconds=1.0)

    monkeypatch.setattr(bench_methods_module, "measure", measured)
    return found


def _about_the_budget(row: Row) -> bool:
    return row.num_clips is not None or row.after != 1 or bool(row.train)


def test_suites_that_ship_can_be_run() -> None:
    assert set(shipped()) >= {"puppets-full", "puppets-ablation", "puppets-i2v", "separation-few-shot"}
    for name in shipped():
        suite = read_suite(name)
        assert suite.about
        units = {row: suite.units(row) for row in suite.rows}
        assert len({tuple((u.motion, u.seed) for u in own) for own in units.values()}) == 1, "the same tasks for all"
        plain = [u for row, own in units.items() for u in own if not _about_the_budget(suite.rows[row])]
        budgets = {(u.train.num_steps, u.train.batch_size, u.num_clips) for u in plain}
        assert len(budgets) == (1 if plain else 0), "and the same budget"
        assert suite_from_dict(suite_to_dict(suite), name) == suite


def _nouns(subjects: Any) -> set[str]:
    return {subject.casefold().split()[-1] for subject in subjects}


def test_who_is_tested_is_in_no_prior_video_or_is_declared() -> None:
    """A figure of "unseen" subjects is of the clips alone where a training has seen them in its prior videos."""
    for name in shipped():
        suite = read_suite(name)
        shown = suite.prior.get("subjects") or find_spec(suite.backbone).options.get("prior_subjects", ())
        tested = _nouns(suite.subjects or UNSEEN)
        assert tested & _nouns(shown) == (set() if suite.subjects else set(PRIORS_SHOW)), name


def test_reference_steps_of_alpha_are_as_many_in_every_row() -> None:
    """What a row is about is the priors beside them; with fewer reference steps it would be about less training."""
    suite = read_suite("puppets-ablation")
    units = {name: suite.units(name)[0] for name in ("full", "alpha-50", "alpha-90", "no-priors")}
    steps = {name: own.train.num_steps * own.method_config.alpha for name, own in units.items()}
    assert units["full"].train.num_steps == 650
    assert steps == pytest.approx(dict.fromkeys(steps, steps["full"]), abs=0.5)
    assert suite.units("mot")[0].method_config.alpha == 1, "a prior step of it would train nothing"
    for name in suite.rows:
        config = suite.units(name)[0].method_config
        learns = {"subject_embedding": config.subject_embedding, "subject_zero": config.subject_embedding,
                  "refiner": config.refiner_layers > 0, "adapters": config.rank > 0}  # fmt: skip
        assert config.alpha == 1 or any(learns[group] for group in config.prior_updates), name


def test_off_is_a_word_and_false_is_not(tmp_path: Path) -> None:
    text = "{backbone: puppet-unet3d, described: false, rows: {separation: {config: {highway: off, debiased: false}}}}"
    suite = read_suite(a_file(tmp_path, text))
    assert suite.described is False
    assert suite.rows["separation"].config == {"highway": "off", "debiased": False}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rows: &a {x: {method: lora}}\nagainst: *a\n", "line 2 has an alias, *a: write out what it stands for"),
        ("rows: {<<: {x: {method: lora}}}\n", "line 1 has a merge key, <<"),
        ("seeds: " + "[" * 5000, "is no YAML"),
        ("seeds: [" + "9" * 5000 + "]", "is no YAML"),
    ],
)
def test_a_suite_that_would_never_be_read_to_its_end_is_refused(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        read_suite(a_file(tmp_path, text))
    assert "own.yaml" in str(refused.value)
    assert says in str(refused.value)


def test_a_file_of_ones_own_and_what_is_said_beside_it(tmp_path: Path, asked: list[Any]) -> None:
    path = a_file(
        tmp_path,
        """
        motions: [squat]
        seeds: [0, 1]
        num_videos: 2
        train: {num_steps: 30}
        sampling: {eta: 0.25}
        against: plain
        rows:
          small: {method: lora, config: {rank: 4}, train: {num_steps: 60}, sampling: {eta: 0.5}, num_clips: 3}
          plain: {method: lora}
          lora:
        """,
    )
    found = {f.name: f for f in bench.run(path)}
    by_row = [asked[i : i + 2] for i in (0, 2, 4)]
    assert [(own[0].config, own[0].num_clips, own[0].train.num_steps) for own in by_row] == [
        ({}, 20, 30),
        ({"rank": 4}, 3, 60),
        ({}, 20, 30),
    ], "the one that others are compared with comes first"
    assert [own[0].sampling.eta for own in by_row] == [0.25, 0.5, 0.25], "a row's own wins over the suite's"
    assert [(u.motion, u.seed) for u in asked[:2]] == [("squat", 0), ("squat", 1)]
    assert found["methods.small.motion-plain"].n == 4
    asked.clear()
    list(bench.run(path, motions=["spin"], seeds=[7], **{"num_videos": 1, "train.learning_rate": 0.5, "workers": 1}))
    assert {(u.motion, u.seed, u.num_videos, u.train.learning_rate) for u in asked} == {("spin", 7, 1, 0.5)}
    assert {u.train.num_steps for u in asked} == {30, 60}, "what else the file says stays"


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("- 1", ConfigError, "a suite is a mapping with rows"),
        ("rows: {lora: {}", ConfigError, "is no YAML"),
        ("rows: !!python/object/apply:os.system [ls]", ConfigError, "is no YAML"),
        ("rows: {}", ConfigError, "a suite needs rows and seeds"),
        ("{rows: {lora: {}}, motion: [squat]}", ConfigError, "Suite has no setting 'motion': did you mean 'motions'?"),
        ("{rows: {lora: {}}, motions: [walk]}", ConfigError, "'walk' is not a rare motion"),
        ("{rows: {lora: {rank: 4}}}", ConfigError, "Row has no setting 'rank'"),
        ("{rows: {lora: {config: {rnk: 4}}}}", ConfigError, "did you mean 'rank'?"),
        ("{rows: {lra: {}}}", ConfigError, "lra"),
        ("{rows: {Lo/ra: {method: lora}}}", ConfigError, "a row's name is letters a to z"),
        ("{rows: {lora: {num_clips: 0}}}", ConfigError, "num_clips must be a whole number, at least 1, got 0"),
        ("{rows: {lora: {}}, num_common: -1}", ConfigError, "num_common must be a whole number, at least 0, got -1"),
        ("{rows: {lora: {}}, num_common: 2, mode: i2v}", ConfigError, "num_common is drawn from words alone"),
        ("{rows: {lora: {}}, num_videos: true}", ConfigError, "num_videos must be"),
        ("{rows: {lora: {train: {seed: 3}}}}", ConfigError, "train.seed has no effect here"),
        ("{rows: {lora: {sampling: {eat: 3}}}}", ConfigError, "did you mean 'eta'?"),
        ("{rows: {lora: {}}, against: lira}", ConfigError, "against must be one of the rows, lora, got 'lira'"),
        ("{rows: {lora: {}}, backbone: wan2.1-t2v-1.3b}", ConfigError, "this bench is about puppets"),
        ("{rows: {separation: {}}}", IncompatibleError, "temporal_attention"),
        ("{rows: {lora: {sampling: {noise_prior: 0.2}}}, mode: i2v}", ConfigError, "leave noise_prior out of i2v"),
    ],
)
def test_a_wrong_suite_is_said_before_anything_is_trained(
    text: str, error: type[UserInputError], words: str, tmp_path: Path, asked: list[Any]
) -> None:
    with pytest.raises(error) as refused:
        list(bench.run(a_file(tmp_path, text)))
    assert words in str(refused.value)
    assert not asked


def test_what_is_not_there_and_what_has_no_effect(tmp_path: Path, asked: list[Any]) -> None:
    with pytest.raises(MissingError, match=r"there is no suite 'puppets': there are judge, .*separation-few-shot"):
        list(bench.run("puppets"))
    with pytest.raises(MissingError, match=r"gone\.yaml"):
        list(bench.run("gone.yaml"))
    path = a_file(tmp_path, "rows: {lora: {}}")
    with pytest.raises(ConfigError, match=r"lora\.rank has no effect: rows are in the file"):
        list(bench.run(path, **{"lora.rank": 3}))
    with pytest.raises(ConfigError, match="workers must be a whole number, at least 1, got 0"):
        list(bench.run(path, workers=0))


def test_options_make_the_same_suite(asked: list[Any]) -> None:
    """`bench run methods` is a suite from options: a row's own settings by their prefix."""
    configs = {"small": {"method": "lora", "rank": 4, "train.num_steps": 60, "sampling.eta": 0.5, "num_clips": 3}}
    list(bench_methods(methods=["small"], configs=configs, motions=["squat"], seeds=[0], num_videos=2))
    row = Row(method="lora", config={"rank": 4}, train={"num_steps": 60}, sampling={"eta": 0.5}, num_clips=3)
    suite = Suite(rows={"small": row}, motions=("squat",), seeds=(0,), num_videos=2)
    assert asked == suite.units("small")


def test_a_suite_that_is_not_as_expected_fails_when_all_is_measured(
    tmp_path: Path, asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every unit sees everything right: motion is 1, leakage is 1, the error 0.5."""
    text = """
motions: [squat]
seeds: [0]
num_videos: 2
rows: {lora: {}, small: {method: lora, config: {rank: 2}}}
expects: {lora.motion: {least: 0.9}, %s}
"""
    good = a_file(tmp_path, text % "small.error: {least: 0.1, most: 0.6}")
    assert cli.main(["bench", "run", good, "--out", str(tmp_path / "good")]) == cli.OK
    assert "All is as the suite expects it." in (tmp_path / "good" / "report.md").read_text()
    bad = a_file(tmp_path, text % "lora.as_person: {most: 0.1}, small.motion.squat: {least: 1.5, most: 2}")
    assert cli.main(["bench", "run", bad, "--out", str(tmp_path / "bad")]) == cli.UNMET
    shown = capsys.readouterr()
    words = "lora.as_person is 1: at most 0.1 was expected; small.motion.squat is 1: at least 1.5 and at most 2 was"
    assert words in shown.err
    assert shown.out.count("methods.small.motion") == 4, "it was measured all the same"
    assert words in (tmp_path / "bad" / "report.md").read_text()
    asked.clear()
    nowhere = a_file(tmp_path, text % "small.first_frame_db: {least: 0}")  # of first pictures, and there are none
    assert cli.main(["bench", "run", nowhere]) == cli.UNMET
    assert "small.first_frame_db was not measured: at least 0 was expected" in capsys.readouterr().err
    assert asked, "nobody can know before"
    asked.clear()
    for wrong, said in (
        ("lora.motoin: {least: 0}", "there is no figure 'lora.motoin': did you mean 'lora.motion'?"),
        ("lora.motion.squad: {least: 0}", "did you mean 'lora.motion.squat'?"),
        ("lora.motion-small: {least: 0}", "there is no figure 'lora.motion-small'"),
        ("lora.clip_text: {least: 0}", "there is no figure 'lora.clip_text'"),
        ("lora.common: {least: 0}", "there is no figure 'lora.common'"),  # num_common is 0
        ("gone.motion: {least: 0}", "expects is about ROW.COLUMN of the rows lora, small, got 'gone.motion'"),
        ("lora: {least: 0}", "got 'lora'"),
        ("lora.hit: {}", "has a least or a most, as numbers, got None and None"),
        ("lora.hit: {least: .nan}", "as numbers, got nan"),
        ("lora.hit: {lest: 1}", "Expected has no setting 'lest': did you mean 'least'"),
    ):
        assert cli.main(["bench", "run", a_file(tmp_path, text % wrong)]) == cli.REFUSED
        assert said in capsys.readouterr().err
    assert not asked, "refused before anything is trained"
    compared = a_file(tmp_path, "against: lora\n" + text.strip() % "small.wins-lora: {least: 0.5, most: 0.5}")
    assert cli.main(["bench", "run", compared]) == cli.OK


def test_clips_of_ones_own_take_the_place_of_puppets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Files of a person who squats, on the shipped backbone; nothing that looks at the videos knows puppets."""
    clips = tmp_path / "clips"
    for index, clip in enumerate(reference_clips("squat", 3, 0)):
        video.write(clips / f"{index}.mp4", clip.frames, clip.fps)
    (clips / "notes.txt").write_text("not a video")
    text = """
about: one's own
footage: {squat: {clips: clips, words: squats}}
subjects: [a red cat, a blue robot]
seeds: [3]
num_clips: %d
num_videos: 3
train: {num_steps: 1, batch_size: 1}
sampling: {num_inference_steps: 3}
rows: {lora: {}}
"""
    path = a_file(tmp_path, text % 2)
    monkeypatch.chdir("/")  # folders are beside the file
    how = ["--set", f"cache={tmp_path / 'cache'}", "--out", str(tmp_path / "out")]
    assert cli.main(["bench", "run", path, *how, "--json"]) == cli.OK
    found = {f["name"]: f for f in map(json.loads, capsys.readouterr().out.splitlines())}
    results = read_results(tmp_path / "out")
    (outcome,) = results.row("lora").outcomes
    assert outcome.prompts == ["a red cat squats", "a blue robot squats", "a red cat squats"]
    assert set(outcome.values) == {
        "background_db",
        "flow",
        "dynamic",
        "smoothness",
        "fidelity",
        "fidelity_floor",
    }
    assert found["methods.lora.fidelity"]["n"] == 3
    assert "2 clips each, 3 videos of a red cat, a blue robot." in (tmp_path / "out" / "report.md").read_text()
    assert len(list((tmp_path / "cache" / "trained").glob("lora-squat-3-*"))) == 4
    video.write(clips / "0.mp4", reference_clips("spin", 1, 0)[0].frames, 8.0)
    assert cli.main(["bench", "run", path, *how]) == cli.OK
    assert len(list((tmp_path / "cache" / "trained").glob("lora-squat-3-*"))) == 8, "other files, another adapter"
    capsys.readouterr()
    for wrong, said in (
        (text % 4, "holds 3 videos (.mp4, .mov, .webm), num_clips is 4: add some, or set num_clips to at most 3"),
        ((text % 2).replace("clips: clips", "clips: gone"), "put the clips of “squats” there"),
        ((text % 2).replace("subjects: [a red cat, a blue robot]", ""), "footage and subjects belong together"),
        (text % 2 + "metrics: [judge]", "the metric 'judge' knows puppets alone"),
        (text % 2 + "motions: [spin]", "'spin' is not of the footage: choose among squat"),
        (text % 2 + "mode: i2v", "footage is measured from text to video"),
        (text % 2 + "num_common: 3", "num_common and described are about puppets"),
        ((text % 2).replace("squat:", "'../squat':"), "a motion's name is letters"),
        ((text % 2).replace("words: squats", "words: ''"), "the motion is empty"),
        ((text % 2).replace("[a red cat, a blue robot]", "['']"), "the subject is empty"),
    ):
        assert cli.main(["bench", "run", a_file(tmp_path, wrong)]) == cli.REFUSED
        assert said in capsys.readouterr().err
