"""Fields of memory and guidance: what a backbone has no use for, and the ways to fit as choices that set them."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from synmotion_core.backbones import SPECS
from synmotion_core.config import GenerateRun, TrainRun
from synmotion_core.errors import ConfigError
from synmotion_core.evaluation.bench_memory import real_rows
from synmotion_core.planning import machine
from synmotion_core.planning.ladder import ladder
from synmotion_core.precision import PLAIN, Precision
from synmotion_core.ui import guiding_fields, memory_fields
from tests.planning.test_ladder import CLIPS, generation, training
from tests.ui.studio import MEMORY, PUPPETS

LARGE = SPECS["hunyuanvideo"]


@pytest.fixture
def memory() -> memory_fields.MemoryFields:
    with gr.Blocks():
        return memory_fields.build("train", training=True)


def test_the_fields_are_those_of_the_form(memory: memory_fields.MemoryFields) -> None:
    assert set(memory.fields) == {*MEMORY, "gradient_checkpointing", "optimizer", "batch_size"}
    with gr.Blocks():
        assert set(memory_fields.build("gen", training=False).fields) == set(MEMORY)
    usual = {name: memory.defaults()[part] for name, part in memory.fields.items()}
    assert usual == {**MEMORY, "gradient_checkpointing": False, "optimizer": "adamw", "batch_size": ""}
    for name, choices in memory_fields.NAMES.items():
        assert [value for _, value in choices] == [value for _, value in memory.fields[name].choices]


def test_a_backbone_says_its_own_values_and_rules(memory: memory_fields.MemoryFields) -> None:
    part = memory.fields
    small, large = memory.describe(PUPPETS), memory.describe(LARGE)
    assert (small[part["num_frames"]].placeholder, small[part["num_frames"]].info) == ("17", "4k + 1")
    assert (large[part["width"]].placeholder, large[part["width"]].info) == ("512", "by 16")
    assert [found[part["batch_size"]].placeholder for found in (small, large)] == ["4", "1"]
    assert (small[part["offload"]].interactive, large[part["offload"]].interactive) == (False, True)
    assert "which is small" in str(small[part["offload"]].info)
    kept = memory.describe(PUPPETS, {part["offload"]: "model", part["height"]: "80"})
    assert (kept[part["offload"]].value, kept[part["height"]].value) == ("none", "80"), (
        "no value where it is greyed out"
    )


@pytest.mark.parametrize("name", real_rows())
@pytest.mark.parametrize("make", [training, generation])
def test_every_way_has_words_and_its_fields(name: str, make: Any, memory: memory_fields.MemoryFields) -> None:
    run = make(name, precision=Precision(weights="8bit"))
    rungs = list(ladder(make(name)))
    words = memory_fields.labels(rungs)
    assert words[0].endswith(memory_fields.AS_IT_COMES)
    assert len(set(words)) == len(words)
    for index, rung in enumerate(rungs):
        held = {n: memory.take(run, str(index)).get(p) for n, p in memory.fields.items()}
        made = rung.run.precision
        assert {n: held[n] for n in Precision.__dataclass_fields__} == {
            n: getattr(made, n) for n in Precision.__dataclass_fields__
        }
        for side in ("num_frames", "height", "width"):
            assert held[side] == (str(rung.changes[side]) if side in rung.changes else None)
    chosen = memory.offer(rungs[2].run)[memory.ways]
    assert (chosen.value, chosen.visible, len(chosen.choices)) == ("2", True, len(rungs))


def test_what_is_set_by_hand_is_none_of_the_ways(memory: memory_fields.MemoryFields) -> None:
    own = training(precision=Precision(weights="fp8", gradient_checkpointing=True))
    assert memory.offer(own)[memory.ways].value is None
    for run in (TrainRun(name="x", clips=CLIPS), GenerateRun(subjects=("a cat",), motion="walks")):
        assert memory.offer(run)[memory.ways].visible is False
    for lie in ("99", "-1", "x", "None"):
        with pytest.raises(ConfigError, match="not there any more"):
            memory.take(training(), lie)


def test_the_first_that_fits_the_gpu_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    rungs = list(ladder(training()))
    assert not any("fits" in label for label in memory_fields.labels(rungs))
    monkeypatch.setattr(machine, "card_gib", lambda: 30.0)
    marked = [i for i, label in enumerate(memory_fields.labels(rungs)) if "fits this GPU" in label]
    assert marked == [next(i for i, rung in enumerate(rungs) if rung.needs.peak <= 30)]


@pytest.mark.parametrize("make", [training, generation])
def test_what_cannot_fit_names_the_way_that_does(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    memory_fields.refuse_too_large(make(), False)
    peak = next(ladder(make())).needs.peak
    monkeypatch.setattr(machine, "card_gib", lambda: 0.8 * peak)
    fits = next(label for label in memory_fields.labels(memory_fields.ways(make())) if "fits this GPU" in label)
    with pytest.raises(ConfigError) as refused:
        memory_fields.refuse_too_large(make(), False)
    assert f"In “Memory and size” choose “{fits}”, or tick “Begin even if it cannot fit”" in str(refused.value)
    memory_fields.refuse_too_large(make(), True)
    monkeypatch.setattr(machine, "card_gib", lambda: 0.9 * peak)
    memory_fields.refuse_too_large(make(), False)
    monkeypatch.setattr(machine, "card_gib", lambda: 0.5)
    with pytest.raises(ConfigError, match="no way there fits, so take another backbone"):
        memory_fields.refuse_too_large(make(), False)


def test_guidance_that_has_no_effect_says_why() -> None:
    assert set(guiding_fields.why_idle(PUPPETS, "")) == {"embedded_guidance"}
    assert set(guiding_fields.why_idle(PUPPETS, " 1.0 ")) == {"embedded_guidance", "negative_prompt"}
    assert set(guiding_fields.why_idle(LARGE, None)) == {"negative_prompt"}, "it is distilled"
    assert guiding_fields.why_idle(LARGE, "3") == {}
    assert set(guiding_fields.why_idle(LARGE, "much")) == {"negative_prompt"}
    with gr.Blocks():
        fields = guiding_fields.guiding_fields()
    found = guiding_fields.describe_guiding(fields, LARGE, "", dict.fromkeys(fields.values(), ""))
    assert found[fields["embedded_guidance"]].placeholder == "6"
    assert found[fields["negative_prompt"]].interactive is False
    assert SPECS["wan2.2-t2v-a14b"].flow_shift == 12.0
    shown = guiding_fields.describe_guiding(fields, SPECS["wan2.2-t2v-a14b"], "")[fields["flow_shift"]]
    assert shown.placeholder == "12"


def test_plain_is_what_ways_start_from(memory: memory_fields.MemoryFields) -> None:
    run = training(precision=Precision(offload="model"), num_frames=9)
    first = memory_fields.ways(run)[0].run
    assert (first.precision, first.num_frames) == (PLAIN, 9)
