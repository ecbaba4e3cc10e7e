"""A run held against the GPU that is here: what is refused, what is only said, and which way is named."""

from __future__ import annotations

import pytest

from synmotion_core.planning import machine, room
from synmotion_core.planning.ladder import fit, ladder
from synmotion_core.planning.memory import ERROR
from synmotion_core.training.settings import TrainConfig
from tests.planning.test_ladder import generation, training


def here(monkeypatch: pytest.MonkeyPatch, gib: float | None) -> None:
    monkeypatch.setattr(machine, "card_gib", lambda: gib)


def test_only_what_is_too_much_at_the_lower_end_of_the_error_is_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    for run in (training(), generation()):
        peak = next(ladder(run)).needs.peak
        for gib, found in ((peak, None), (peak - 0.1, False), ((1 - ERROR) * peak - 0.1, True)):
            here(monkeypatch, gib)
            short = room.shortage(run)
            assert (None if short is None else short.certain) is found
            if short is not None:
                assert short.first == fit(run, gib)
                assert f"about {peak:.1f} GiB" in short.numbers
                assert f"{gib:.1f} GiB are free here" in short.numbers
                assert " ".join(fit(run, gib).options) in short.way
    here(monkeypatch, 0.5)
    short = room.shortage(training())
    assert short is not None
    assert short.first is None
    assert "take another backbone" in short.way


def test_without_a_gpu_or_a_measurement_nothing_is_held_against_it(monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch, None)
    assert room.shortage(training()) is None
    monkeypatch.setattr(machine, "card_gib", lambda: pytest.fail("what ships is not measured"))
    assert room.shortage(training("puppet-hunyuan")) is None


def test_each_of_several_processes_takes_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    one, four = (training(train=TrainConfig(batch_size=size)) for size in (1, 4))
    here(monkeypatch, next(ladder(one)).needs.peak)
    assert room.shortage(four) is not None
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert room.shortage(four) is None


def test_what_was_not_enough_is_said_with_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    run = training()
    here(monkeypatch, 23.5)
    said = room.too_little(run)
    assert f"the estimate was {next(ladder(run)).needs.peak:.1f} GiB, 23.5 GiB are free for it" in said

    def broken() -> float:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(machine, "card_gib", broken)
    assert "the GPU's memory was not enough" in room.too_little(run), "whatever state the device is in"
