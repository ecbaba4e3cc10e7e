"""What a run names, held against each other, where the method is not one of adapters alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from synmotion_core import run
from synmotion_core.adapters.file import AdapterInfo, save_adapter
from synmotion_core.backbones import SPECS
from synmotion_core.config import GenerateRun, TrainRun
from synmotion_core.errors import ConfigError, IncompatibleError
from synmotion_core.planning.ladder import ladder
from synmotion_core.planning.work import drawing_method, look_up, work_of
from synmotion_core.precision import Precision
from synmotion_core.training.settings import TrainConfig
from tests.planning.test_ladder import CLIPS


def training(method: str, name: str = "hunyuanvideo", **more: Any) -> TrainRun:
    more = {"clips": CLIPS, **more}
    return TrainRun(name="x", backbone=name, mode=SPECS[name].modes[0], method=method, **more)


def test_a_word_is_small_and_keeps_its_encoder() -> None:
    own, plain = work_of(training("textual_inversion")), work_of(training("lora"))
    assert (own.keeps_words, plain.keeps_words) == (True, False)
    assert own.adapter_parameters == 4096 < plain.adapter_parameters


def test_what_is_learnt_a_clip_counts_by_clips() -> None:
    one, three = (work_of(training("motion_director", "zeroscope-v2-576w", clips=CLIPS * n)) for n in (1, 3))
    assert 0 < one.adapter_parameters < three.adapter_parameters < 3 * one.adapter_parameters


def test_so_does_a_word_that_was_learnt(tmp_path: Path) -> None:
    spec = SPECS["hunyuanvideo"]
    for method, keys in (("textual_inversion", "synmotion.word"), ("lora", "transformer.x")):
        path = tmp_path / f"{method}.safetensors"
        info = AdapterInfo(
            backbone=spec.name, repo=spec.repo, revision=None, fingerprint="", licence=spec.licence, method=method,
            method_config={}, subject="a person", motion="waves", steps=1,
        )  # fmt: skip
        save_adapter(path, {keys: torch.zeros(4096)}, info)
        work = work_of(GenerateRun(subjects=("a cat",), motion="waves", backbone=spec.name, adapter=path))
        assert work.keeps_words == (method == "textual_inversion")
    path.write_bytes(b"no adapter")
    assert not work_of(GenerateRun(subjects=("a",), motion="b", backbone=spec.name, adapter=path)).keeps_words


def test_an_adapter_is_drawn_with_other_settings_only_where_no_training_sees_them() -> None:
    info = AdapterInfo(
        backbone="puppet-unet3d", repo="assets:puppet-unet3d", revision=None, fingerprint="", licence="apache-2.0",
        method="separation", method_config={"temporal": "ko"}, subject="a person", motion="waves", steps=1,
    )  # fmt: skip
    assert drawing_method(info, {})[1].highway == "paper"
    own = drawing_method(info, {"highway": "off"}, SPECS["puppet-unet3d"])[1]
    assert (own.temporal, own.highway) == ("ko", "off")
    with pytest.raises(ConfigError, match="separation is not drawn with another temporal: only highway is open then"):
        drawing_method(info, {"temporal": "k"})
    with pytest.raises(ConfigError, match="highway must be one of 'off', 'paper', 'released', 'pretrained', got 'on'"):
        drawing_method(info, {"highway": "on"})
    with pytest.raises(ConfigError, match="lora is not drawn with another rank: no setting of it is open then"):
        drawing_method(dataclasses.replace(info, method="lora", method_config={}), {"rank": 4})
    with pytest.raises(IncompatibleError):
        drawing_method(info, {}, SPECS["puppet-hunyuan"])


@pytest.mark.parametrize("offload", ["model", "group"])
def test_a_word_is_not_learnt_through_an_encoder_that_is_taken_away(offload: Any) -> None:
    own = Precision(offload=offload, gradient_checkpointing=True)
    with pytest.raises(ConfigError, match="textual_inversion learns through the text encoder, which offload"):
        look_up(training("textual_inversion", precision=own))
    look_up(training("lora", precision=own))
    rungs = list(ladder(training("textual_inversion")))
    assert len(rungs) > 2
    assert {rung.run.precision.offload for rung in rungs} == {"none"}, "nor is it offered"


@pytest.mark.parametrize(
    ("method", "setting"), [("synmotion", "method.alpha=1"), ("dreambooth", "method.prior_loss_weight=0")]
)
def test_where_no_priors_can_be_drawn_none_are_drawn_unless_they_are_asked_for(method: str, setting: str) -> None:
    own = training(method, "hunyuanvideo-i2v")
    name, value = setting.removeprefix("method.").split("=")
    found = look_up(own)
    assert not found.entry.draws_priors(found.method_config)
    assert getattr(found.method_config, name) == float(value)
    assert found.chosen.startswith("hunyuanvideo-i2v makes no videos from text alone, so ")
    assert f": {name} is {value} and not " in found.chosen
    assert found.chosen in run.plan(own).lines
    said = look_up(dataclasses.replace(own, method_config={name: int(value)}))
    assert (said.method_config, said.chosen) == (found.method_config, "")
    page = setting.removeprefix("method.")
    words = rf"train without them \({page} in “Settings of the method”, --set {setting} in a terminal\), or take"
    with pytest.raises(IncompatibleError, match=words):
        look_up(dataclasses.replace(own, method_config={name: 0.5}))
    elsewhere = look_up(training(method, "puppet-hunyuan"))
    assert elsewhere.entry.draws_priors(elsewhere.method_config)
    assert elsewhere.chosen == ""


def test_a_mode_that_cannot_be_trained_names_the_other() -> None:
    with pytest.raises(IncompatibleError, match=r"train with mode i2v \(--mode i2v\)"):
        look_up(dataclasses.replace(training("lora", "hunyuanvideo-i2v"), mode="t2v"))


def test_a_plan_says_what_is_read() -> None:
    lines = run.plan(training("dreambooth", "puppet-hunyuan")).lines
    assert "the text encoders read “a person sks waves” for “a person waves”, and so when generating" in lines
    assert not any("sks" in line for line in run.plan(training("lora", "puppet-hunyuan")).lines)


@pytest.mark.parametrize("name", ["wan2.2-t2v-a14b", "wan2.2-i2v-a14b"])
def test_two_experts_that_take_turns_learn_from_one_clip_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = Precision(offload="model", gradient_checkpointing=True)
    asked = training("lora", name, precision=own, train=TrainConfig(batch_size=2))
    with pytest.raises(ConfigError, match=rf"{name} has an expert .* use train.batch_size 1 .* 'none' or 'group'"):
        work_of(asked)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert work_of(asked).batch_size == 2, "one for each process"
    monkeypatch.delenv("WORLD_SIZE")
    assert work_of(training("lora", name, precision=own)).batch_size == 1
    assert work_of(training("lora", name, train=TrainConfig(batch_size=2))).batch_size == 2
    assert work_of(training("lora", "wan2.1-t2v-14b", precision=own, train=TrainConfig(batch_size=2))).batch_size == 2
    work_of(GenerateRun(subjects=("a cat",), motion="waves", backbone=name, precision=Precision(offload="model")))
    rungs = list(ladder(training("lora", name, train=TrainConfig(batch_size=2))))
    assert all(r.run.train.batch_size == 1 for r in rungs if r.run.precision.offload == "model")
