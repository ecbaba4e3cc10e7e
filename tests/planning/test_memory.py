"""Memory that a run needs: the arithmetic, on the device and off it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from synmotion_core.backbones import SPECS
from synmotion_core.evaluation.bench_memory import real_rows
from synmotion_core.planning import memory as planning
from synmotion_core.planning.memory import CONTEXT, GIB, LOSS, Work
from synmotion_core.precision import PLAIN, Precision
from synmotion_core.types import VideoShape

ROWS = real_rows()
NAME = "hunyuanvideo"
FILE = 10e9


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
    unet = SPECS[name].denoiser == "unet"  # of a few large blocks: one is much of the whole
    assert found.train > (2 if unet else 5) * found.train_checkpointed > 0, "checkpointing keeps one tensor a block"
    assert found.train_checkpointed > found.sample > 0
    share = found.block_parameters / SPECS[name].parameters[SPECS[name].denoiser]
    assert (0.3 if unet else 0.9) < share < 1, "of a U-Net convolutions are the most"


def test_a_row_that_is_not_measured_needs_nothing_known() -> None:
    puppets = SPECS["puppet-hunyuan"]
    assert planning.needs(puppets, PLAIN, training("puppet-hunyuan")) is None


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
    assert generating["sample"] == peak(PLAIN, work)["sample"], "a generation frees them, too"


def test_what_each_setting_saves() -> None:
    spec, numbers, work = SPECS[NAME], planning.measured(NAME), training()
    assert numbers is not None
    plain = peak(PLAIN, work)
    eight, four = peak(Precision(weights="8bit"), work), peak(Precision(weights="4bit"), work)
    assert plain["train"] - eight["train"] == pytest.approx((1 + LOSS) * numbers.block_parameters / GIB)
    assert (plain["train"] - four["train"]) / (plain["train"] - eight["train"]) == pytest.approx(1.48, abs=0.01)
    text = peak(Precision(text_weights="8bit"), work)
    assert text["train"] == plain["train"]
    assert plain["encode"] - text["encode"] == pytest.approx((1 + LOSS) * numbers.text_parameters / GIB)
    assert 0.9 < numbers.text_parameters / spec.parameters["text_encoder"] < 1, "but its words"
    fp8 = peak(Precision(weights="fp8"), work)
    assert plain["train"] - fp8["train"] == pytest.approx((1 + LOSS) * numbers.fp8_parameters / GIB)
    assert peak(PLAIN, replace(work, optimizer="adamw8bit"))["train"] < plain["train"]
    assert peak(Precision(vae_tiling=True), work)["decode"] < plain["decode"]
    turns = peak(Precision(offload="model"), work)
    assert all(turns[stage] < plain[stage] for stage in plain)
    assert turns["encode"] < plain["encode"] / 2
    assert peak(PLAIN, replace(work, guided=False))["sample"] < plain["sample"]


# bytes in all, as bitsandbytes and diffusers hold the real sizes: the words of a UMT5 and a third of its feed-forward
# stay in bf16, as do a Llava's eyes and the modulations of HunyuanVideo in fp8
@pytest.mark.parametrize(
    ("name", "held", "part", "gb"),
    [
        ("wan2.1-t2v-14b", {"text_weights": "4bit"}, "text_encoder", 6.0),
        ("wan2.1-t2v-14b", {"text_weights": "8bit"}, "text_encoder", 7.7),
        ("hunyuanvideo", {"text_weights": "4bit"}, "text_encoder", 4.7),
        ("hunyuanvideo-i2v", {"text_weights": "4bit"}, "text_encoder", 6.35),
        ("hunyuanvideo", {"weights": "fp8"}, "transformer", 16.6),
        ("hunyuanvideo-1.5", {"weights": "fp8"}, "transformer", 11.2),
    ],
)
def test_what_is_not_quantised_counts_in_full(name: str, held: Any, part: str, gb: float) -> None:
    assert planning.weight_bytes(SPECS[name], Precision(**held))[part] / 1e9 == pytest.approx(gb, rel=0.02)


@pytest.mark.parametrize("name", ["wan2.2-t2v-a14b", "zeroscope-v2-576w"])
def test_what_does_not_travel_stays_on_the_device(name: str) -> None:
    spec, numbers = SPECS[name], planning.measured(name)
    assert numbers is not None
    experts = 2 if name == "wan2.2-t2v-a14b" else 1
    held = 4 * spec.parameters["vae"] + 2 * experts * numbers.staying_parameters
    tokens = planning.tokens(spec, spec.default_shape)
    own = 2 * tokens * numbers.sample + held
    drawn = peak(Precision(offload="group"), Work(shape=spec.default_shape), name)
    assert drawn["sample"] == pytest.approx(((1 + LOSS) * own + CONTEXT) / GIB)


def test_masks_of_every_pair_of_tokens_count() -> None:
    """HunyuanVideo-1.5's: four bytes a pair at work, and two more for each block that is not computed again."""
    name = "hunyuanvideo-1.5"
    long = VideoShape(num_frames=121, height=480, width=848, fps=24.0)
    spec, numbers = SPECS[name], planning.measured(name)
    assert numbers is not None
    tokens = 31 * 30 * 53
    pairs = (tokens + 1000 + 256 + 729) ** 2
    weights = 2 * spec.parameters["transformer"] + 4 * spec.parameters["vae"]

    def of(stage: str, work: Work, **held: Any) -> float:
        return (peak(Precision(**held), work, name)[stage] * GIB - CONTEXT) / (1 + LOSS) - weights

    drawn, learnt = Work(shape=long), Work(shape=long, batch_size=1)
    assert of("sample", drawn) == pytest.approx(2 * (tokens * numbers.sample + 4 * pairs))
    assert of("train", learnt) == pytest.approx(tokens * numbers.train + (4 + 53 * 2) * pairs)
    checkpointed = of("train", learnt, gradient_checkpointing=True)
    assert checkpointed == pytest.approx(tokens * numbers.train_checkpointed + 4 * pairs)


def test_main_memory_holds_what_is_read_at_once() -> None:
    spec, work = SPECS[NAME], training()
    parts = {name: 2 * count for name, count in spec.parameters.items()} | {"vae": 4 * spec.parameters["vae"]}

    def host(**held: Any) -> float:
        found = planning.needs(spec, Precision(**held), work)
        assert found is not None
        return found.host * GIB

    assert host() == pytest.approx(parts["transformer"] + parts["vae"]), "encoders are read alone, and later"
    assert host(weights="fp8") == pytest.approx(host()), "cast once it is read"
    assert host(weights="8bit") == pytest.approx(parts["text_encoder"]), "the transformer comes file by file"
    assert host(weights="8bit", text_weights="4bit") == pytest.approx(parts["vae"] + FILE)
    assert host(offload="model") == pytest.approx(sum(parts.values())), "everything stays"
    two = SPECS["wan2.2-t2v-a14b"]
    found = planning.needs(two, PLAIN, training(two.name))
    assert found is not None
    assert found.host * GIB > 2 * 2 * two.parameters["transformer"], "both experts are read before either goes"


def test_a_learnt_word_keeps_the_text_encoder_in_memory() -> None:
    """The first one, in every stage but decoding's own count; CLIP goes all the same."""
    spec, work = SPECS[NAME], training()
    plain, kept = peak(PLAIN, work), peak(PLAIN, replace(work, keeps_words=True))
    more = (1 + LOSS) * 2 * spec.parameters["text_encoder"] / GIB
    assert kept["encode"] == plain["encode"]
    for stage in ("train", "sample", "decode"):
        assert kept[stage] - plain[stage] == pytest.approx(more), stage


def test_what_is_not_held_in_bf16_counts_so() -> None:
    letters = SPECS["hunyuanvideo-1.5"]
    weights = planning.weight_bytes(letters, PLAIN)
    assert weights["text_encoder_2"] == 4 * letters.parameters["text_encoder_2"], "ByT5 is read in float32"
    assert weights["text_encoder"] == 2 * letters.parameters["text_encoder"]
    spec = SPECS["zeroscope-v2-576w"]
    numbers, bf16 = planning.measured(spec.name), replace(spec, held={})
    assert numbers is not None
    work = training(shape=spec.default_shape)

    def more(precision: Precision, stage: str = "train") -> float:
        found = [planning.needs(of, precision, work) for of in (spec, bf16)]
        assert found[0] is not None
        assert found[1] is not None
        return (found[0].stages[stage] - found[1].stages[stage]) * GIB / (1 + LOSS) / spec.parameters["unet"]

    assert more(PLAIN) == pytest.approx(2.0), "autocast's copies of what is held in float16"
    assert more(Precision(gradient_checkpointing=True)) == pytest.approx(0.6)
    assert more(Precision(weights="8bit")) == pytest.approx(2 - 2 * numbers.block_parameters / spec.parameters["unet"])
    assert more(PLAIN, "sample") == 0
