"""What a run needs of the machine: the arithmetic, the ladder, and that its options do what it says."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from synmotion_core import command, planning
from synmotion_core.arguments import build_parser
from synmotion_core.backbones import SPECS
from synmotion_core.evaluation.bench_memory import real_rows
from synmotion_core.planning import CONTEXT, GIB, LOSS, Work
from synmotion_core.precision import PLAIN, Precision

ROWS = real_rows()
NAME = "hunyuanvideo"


def training(name: str = NAME, **more: object) -> Work:
    return replace(Work(shape=SPECS[name].default_shape, batch_size=4, adapter_parameters=10_000_000), **more)


def peak(precision: Precision, work: Work, name: str = NAME) -> dict[str, float]:
    found = planning.needs(SPECS[name], precision, work)
    assert found is not None
    return dict(found.stages)


@pytest.mark.parametrize("name", ROWS)
def test_every_large_row_is_measured(name: str) -> None:
    found = planning.measured(name)
    assert found is not None
    assert found.train > 5 * found.train_checkpointed > 0, "checkpointing keeps one tensor a block"
    assert found.train_checkpointed > found.sample > 0
    assert 0.9 < found.block_parameters / SPECS[name].parameters["transformer"] < 1


def test_a_row_that_is_not_measured_says_so() -> None:
    puppets = SPECS["puppet-hunyuan"]
    assert planning.needs(puppets, PLAIN, training("puppet-hunyuan")) is None
    assert planning.in_words(puppets, PLAIN, training("puppet-hunyuan")) == [
        "memory: not known, puppet-hunyuan has not been measured"
    ]


def test_a_stage_is_weights_work_and_the_stated_margin() -> None:
    spec, numbers, work = SPECS[NAME], planning.measured(NAME), training()
    assert numbers is not None
    tokens = 13 * 20 * 32
    assert planning.tokens(spec, spec.default_shape) == tokens
    resident = 2 * spec.parameters["transformer"] + 4 * spec.parameters["vae"]  # the text encoders are freed by then
    own = 10_000_000 * (4 + 4 + 8) + 4 * tokens * numbers.train
    assert peak(PLAIN, work)["train"] == pytest.approx(((1 + LOSS) * (resident + own) + CONTEXT) / GIB)
    generating = peak(PLAIN, replace(work, batch_size=0))
    assert "train" not in generating
    encoders = 2 * (spec.parameters["text_encoder"] + spec.parameters["text_encoder_2"])
    more = generating["sample"] - peak(PLAIN, work)["sample"]
    assert more == pytest.approx((1 + LOSS) * encoders / GIB), "a generation keeps them"


def test_what_each_setting_saves() -> None:
    spec, numbers, work = SPECS[NAME], planning.measured(NAME), training()
    assert numbers is not None
    plain = peak(PLAIN, work)
    eight, four = peak(Precision(weights="8bit"), work), peak(Precision(weights="4bit"), work)
    assert plain["train"] - eight["train"] == pytest.approx((1 + LOSS) * numbers.block_parameters / GIB)
    assert (plain["train"] - four["train"]) / (plain["train"] - eight["train"]) == pytest.approx(1.48, abs=0.01)
    text = peak(Precision(text_weights="8bit"), work)
    assert text["train"] == plain["train"]
    assert plain["encode"] - text["encode"] == pytest.approx((1 + LOSS) * spec.parameters["text_encoder"] / GIB)
    assert peak(PLAIN, replace(work, optimizer="adamw8bit"))["train"] < plain["train"]
    assert peak(Precision(vae_tiling=True), work)["decode"] < plain["decode"]
    turns = peak(Precision(offload="model"), work)
    assert all(turns[stage] < plain[stage] for stage in plain)
    assert turns["encode"] < plain["encode"] / 2
    assert peak(PLAIN, replace(work, guided=False))["sample"] < plain["sample"]


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("batch_size", [0, 4])
@pytest.mark.parametrize("asked", [PLAIN, Precision(weights="8bit"), Precision(offload="model")])
def test_the_ladder_goes_down_and_each_rung_can_be_had(name: str, batch_size: int, asked: Precision) -> None:
    spec, work = SPECS[name], training(name, batch_size=batch_size)
    rungs = list(planning.ladder(spec, asked, work))
    assert (rungs[0].changes, rungs[0].precision, rungs[0].work) == ((), asked, work)
    assert len(rungs) > 2
    peaks = [rung.needs.peak for rung in rungs]
    assert peaks == sorted(peaks, reverse=True)
    for rung in rungs:
        spec.check_shape(rung.work.shape)
        assert (rung.work.batch_size == 0) == (batch_size == 0)
        if batch_size and rung is not rungs[0]:
            rung.precision.check_training()
        if not batch_size:
            assert not rung.precision.gradient_checkpointing
    assert peaks[-1] < peaks[0] / 2


def test_a_rungs_changes_are_options_that_make_it() -> None:
    clip = '{"path": "a.mp4", "subject": "a person", "motion": "waves"}'
    base = f"train --clip '{clip}' --name x --backbone {NAME}"
    for rung in planning.ladder(SPECS[NAME], PLAIN, training()):
        run = command.train_run(build_parser().parse_args(shlex.split(f"{base} {' '.join(rung.changes)}")))
        assert run.precision == rung.precision
        assert run.train.batch_size == rung.work.batch_size
        assert SPECS[NAME].shape(run.num_frames, run.height, run.width) == rung.work.shape
        assert command.train_run(build_parser().parse_args(command.arguments(run))) == run


def test_what_fits_is_said_and_nothing_more_than_is_needed_is_changed() -> None:
    spec, work = SPECS[NAME], training()
    rungs = list(planning.ladder(spec, PLAIN, work))
    for card in (200, 48, 24, 16):
        lines = planning.in_words(spec, PLAIN, work, card)
        fits = [rung for rung in rungs if rung.needs.peak <= card]
        assert lines[-1] == f"the last of these is the first that fits {card} GiB"
        assert " ".join(fits[0].changes) in lines[-2]
    assert planning.in_words(spec, PLAIN, work, 1000)[-1] == "fits 1000 GiB as it is"
    assert planning.in_words(spec, PLAIN, work, 1)[-1].startswith("nothing here fits 1 GiB")
