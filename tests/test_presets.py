"""Presets: what they set on which backbone, that options win, and that the command of a run is still the run."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from synmotion_core import arguments, cli, command, presets
from synmotion_core.backbones import SPECS, find_spec
from synmotion_core.config import TrainRun, from_dict
from synmotion_core.errors import MissingError
from synmotion_core.methods import METHODS, find_method
from synmotion_core.presets import NAMES, find_preset, lay_over, match, presets_for
from synmotion_core.training.settings import TrainConfig

BASE = "train --clips a.mp4 --subject 'a person' --motion waves --name w"


def train_run(line: str) -> TrainRun:
    return command.train_run(arguments.build_parser().parse_args(shlex.split(line)))


@pytest.mark.parametrize("backbone", sorted(SPECS))
def test_every_preset_is_a_run_that_matches_itself_and_no_other(backbone: str) -> None:
    spec = find_spec(backbone)
    assert presets_for(spec).keys() == NAMES.keys()
    for name, preset in presets_for(spec).items():
        assert preset.about.endswith(".")
        assert "\n" not in preset.about
        for method in METHODS:
            given = lay_over({"method_config": {"rank": 3}}, name, backbone, method)
            train = TrainConfig(**given["train"])
            assert given["method_config"]["rank"] == 3
            from_dict(find_method(method).config, {k: v for k, v in given["method_config"].items() if k != "rank"})
            assert match(dataclasses.asdict(train), given["method_config"], spec, method) == name
    changed = dataclasses.asdict(TrainConfig(num_steps=1234))
    assert match(changed, {}, spec, "synmotion") is None


def test_the_papers_prior_steps_are_those_of_its_method_only() -> None:
    spec = find_spec("puppet-hunyuan")
    paper, train = find_preset("paper", spec), {}
    assert paper.method_settings("synmotion") == {"prior_target": "data"}
    assert paper.method_settings("lora") == {}
    train = paper.train
    assert match(train, {"prior_target": "data"}, spec, "synmotion") == "paper"
    assert match(train, {}, spec, "synmotion") is None, "the same steps towards the base's prediction are not"
    assert match(train, {}, spec, "lora") == "paper"
    with pytest.raises(MissingError, match="no preset 'fast': there are first-look, paper, best"):
        find_preset("fast", spec)


@pytest.mark.parametrize("backbone", ["puppet-hunyuan", "hunyuanvideo"])
def test_what_is_said_of_a_preset_is_of_its_own_settings(backbone: str) -> None:
    """The paper's prior steps move e^l_sub alone: ours do not, and say so; figures are of the very settings."""
    found = presets_for(find_spec(backbone))
    moved = from_dict(find_method("synmotion").config, found["paper"].method_settings("synmotion")).prior_updates
    assert set(moved) > {"subject_embedding"}
    assert "prior_updates" in found["paper"].about
    assert "%" not in found["first-look"].about, "README's figures of 350 steps are of 4 clips and another rate"
    assert "better" not in found["paper"].about, "intervals that overlap are within noise"


def test_the_rate_is_the_papers_on_large_backbones_alone() -> None:
    assert train_run(f"{BASE} --preset paper --backbone hunyuanvideo").train.learning_rate == 2e-5
    assert train_run(f"{BASE} --preset paper").train.learning_rate is None
    assert train_run(f"{BASE} --preset paper").train.num_steps == 2000


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("more", ["", " --method lora", " --backbone wan2.1-t2v-1.3b", " --set method.rank=4"])
def test_the_command_of_a_preset_is_its_run(name: str, more: str) -> None:
    run = train_run(f"{BASE} --preset {name}{more}")
    assert train_run(shlex.join(command.arguments(run))) == run
    assert "--preset" not in command.same_command(run), "what it sets is said, whatever a preset is tomorrow"


def test_options_win_over_a_preset_and_a_preset_over_a_saved_run(tmp_path: Path) -> None:
    run = train_run(f"{BASE} --preset best --steps 7 --set train.score_every=0 --set prior_target=data")
    assert (run.train.num_steps, run.train.score_every, run.train.sample_every) == (7, 0, 130)
    assert run.method_config == {"prior_target": "data"}
    saved: dict[str, Any] = {"train": {"num_steps": 9, "seed": 5}, "method_config": {"prior_target": "data", "rank": 2}}
    file = tmp_path / "run.json"
    file.write_text(json.dumps(saved), encoding="utf-8")
    run = train_run(f"{BASE} --config {shlex.quote(str(file))} --preset first-look")
    assert (run.train.num_steps, run.train.seed, run.method_config) == (350, 5, {"rank": 2})


def test_resume_takes_no_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--resume", "--preset", "best", "--out", str(tmp_path)]) == cli.REFUSED
    assert "leave --preset out" in capsys.readouterr().err


def test_help_needs_no_torch() -> None:
    import subprocess
    import sys

    code = f"import sys, {presets.__name__}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
