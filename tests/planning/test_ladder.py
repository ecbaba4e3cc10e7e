"""What can be changed when a run is too much: as data, as options, as a price."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from synmotion_core import command
from synmotion_core.arguments import build_parser
from synmotion_core.backbones import SPECS
from synmotion_core.config import ClipSource, GenerateRun, TrainRun, from_dict, to_dict
from synmotion_core.errors import ConfigError
from synmotion_core.evaluation.bench_memory import real_rows
from synmotion_core.planning.ladder import changed, fit, ladder
from synmotion_core.planning.work import work_of
from synmotion_core.precision import PLAIN, Precision
from synmotion_core.training.settings import TrainConfig

NAME = "hunyuanvideo"
CLIPS = (ClipSource(path=Path("a.mp4"), subject="a person", motion="waves"),)


def training(name: str = NAME, **more: Any) -> TrainRun:
    method = "lora" if "t2v" not in SPECS[name].modes else "synmotion"
    return TrainRun(name="x", clips=CLIPS, backbone=name, mode=SPECS[name].modes[0], method=method, **more)


def generation(name: str = NAME, **more: Any) -> GenerateRun:
    return GenerateRun(subjects=("a cat",), motion="waves", backbone=name, **more)


@pytest.mark.parametrize("name", real_rows())
@pytest.mark.parametrize("make", [training, generation])
@pytest.mark.parametrize("asked", [PLAIN, Precision(weights="8bit"), Precision(offload="model")])
def test_the_ladder_goes_down_and_each_rung_is_a_run(name: str, make: Any, asked: Precision) -> None:
    run = make(name, precision=asked)
    rungs = list(ladder(run))
    assert (rungs[0].changes, rungs[0].run, rungs[0].prices) == ({}, run, ())
    assert len(rungs) > 2
    peaks = [rung.needs.peak for rung in rungs]
    assert peaks == sorted(peaks, reverse=True)
    share = 0.75 if SPECS[name].denoiser == "unet" else 0.5  # its convolutions neither shrink nor travel
    assert peaks[-1] < peaks[0] * share
    for rung in rungs[1:]:
        assert rung.run == changed(run, rung.changes) != run
        assert rung.prices
        SPECS[name].check_shape(work_of(rung.run).shape)
        if make is generation:
            assert not rung.run.precision.gradient_checkpointing
        assert from_dict(type(run), to_dict(rung.run)) == rung.run


def test_a_smaller_batch_is_a_rung_where_it_is_not_small_already() -> None:
    four = training(train=TrainConfig(batch_size=4))
    assert any(rung.changes.get("train.batch_size") == 1 for rung in ladder(four))
    assert not any("train.batch_size" in rung.changes for rung in ladder(training())), "the row's own is 1"


@pytest.mark.parametrize("batch_size", [None, 4])
def test_a_rungs_options_make_it(batch_size: int | None) -> None:
    asked = training(train=TrainConfig(batch_size=batch_size))
    base = shlex.join(command.arguments(asked))
    for rung in ladder(asked):
        run = command.train_run(build_parser().parse_args(shlex.split(f"{base} {' '.join(rung.options)}")))
        assert run == rung.run
        assert command.train_run(build_parser().parse_args(command.arguments(run))) == run
    plain = generation()
    base = shlex.join(command.arguments(plain))
    for rung in ladder(plain):
        parsed = build_parser().parse_args(shlex.split(f"{base} {' '.join(rung.options)}"))
        assert command.generate_run(parsed) == rung.run


def test_the_first_that_fits_is_taken_and_its_price_named() -> None:
    asked = training()
    rungs = list(ladder(asked))
    for gib in (1000, 60, 48, 24, 16):
        fits = [rung for rung in rungs if rung.needs.peak <= gib]
        assert fit(asked, gib) == fits[0]
    assert fit(asked, 1000).run == asked
    small = fit(asked, 17)
    assert small.run.precision.weights == "4bit"
    assert "the denoiser's weights are rounded to 4 bits" in small.prices
    assert "time: each block's forward pass once more" in small.prices
    with pytest.raises(ConfigError, match=r"hunyuanvideo does not fit 1 GiB: the least .* needs \d+\.\d GiB"):
        fit(asked, 1)
    with pytest.raises(ConfigError, match="puppet-hunyuan has not been measured"):
        fit(generation("puppet-hunyuan"), 8)


@pytest.mark.parametrize("name", ["hunyuanvideo-1.5", "wan2.1-t2v-1.3b"])
def test_less_of_a_video_is_what_comes_last(name: str) -> None:
    rungs = list(ladder(training(name)))
    shorter = [rung for rung in rungs if "num_frames" in rung.changes or "height" in rung.changes]
    assert shorter
    assert all(rung.prices[-1] == "another video: shorter or smaller than was asked for" for rung in shorter)
    assert rungs[-len(shorter) :] == shorter
    whole = rungs[-len(shorter) - 1]
    assert all(rung.run.precision == whole.run.precision for rung in shorter), "with all that saves more than it"
