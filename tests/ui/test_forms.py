"""Forms become configs, or an error that names the field."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synmotion_core.config import ClipSource, Footage, GenerateRun, TrainRun
from synmotion_core.errors import ClipError, ConfigError, PromptError, UserInputError
from synmotion_core.precision import Precision
from synmotion_core.training.settings import TrainConfig
from synmotion_core.ui import (
    forms,
)
from synmotion_core.ui.chosen import Library
from synmotion_core.ui.pictures import Pictures
from tests.ui.studio import PUPPETS, example, generate_form, train_form, write_adapter


def test_a_train_form_is_the_run(library: Library, pictures: Pictures) -> None:
    choice = dataclasses.replace(example(library), start_s=0.5, end_s=2.0, resample_fps=8.0)
    run = forms.train_run(train_form(num_steps=30.0, rank=8), (choice,), library, pictures)
    source = ClipSource(
        path=library.path(choice.source), subject="a person", motion="claps", start_s=0.5, end_s=2.0, resample_fps=8.0
    )
    assert run == TrainRun(
        name="claps",
        clips=(source,),
        method_config={"rank": 8},
        train=TrainConfig(num_steps=30, sample_subjects=("a red cat",)),
    )
    assert forms.train_run(train_form(name=" my-own "), (choice,), library, pictures).name == "my-own"
    assert forms.train_run(train_form(), (choice,), library, pictures).method_config == {}, (
        "defaults stay out of the command"
    )
    without = forms.train_run(train_form(method="textual_inversion", rank=None), (choice,), library, pictures)
    assert without.method_config == {}, "a method without ranks does not ask for one"
    said = train_form(method_settings=" alpha = 0.5\n\nprojections=k\n")
    assert forms.train_run(said, (choice,), library, pictures).method_config == {"alpha": 0.5, "projections": "k"}
    said = train_form(method_settings="alpha=0.75")
    assert forms.train_run(said, (choice,), library, pictures).method_config == {}, "that is its own value"
    less = train_form(
        weights="4bit", text_weights="8bit", vae_tiling=True, gradient_checkpointing=True, optimizer="adamw8bit",
        batch_size="2", num_frames="13", height=" 48 ",
    )  # fmt: skip
    run = forms.train_run(less, (choice,), library, pictures)
    assert run.precision == Precision(weights="4bit", text_weights="8bit", vae_tiling=True, gradient_checkpointing=True)
    assert (run.train.optimizer, run.train.batch_size) == ("adamw8bit", 2)
    assert (run.num_frames, run.height, run.width) == (13, 48, None)
    run = forms.train_run(
        train_form(mode="i2v", sample_subjects="a blue robot\na red cat"), (choice,), library, pictures
    )
    assert run.mode == "i2v"
    assert [path.name for path in run.train.sample_images] == ["blue-robot.png", "red-cat.png"]


def test_samples_that_begin_with_pictures(library: Library, pictures: Pictures, tmp_path: Path) -> None:
    choice, own = example(library), (tmp_path / "a.png", tmp_path / "b.png")

    def made(images: tuple[Path, ...] = (), **changes: Any) -> TrainConfig:
        form = train_form(mode="i2v", sample_subjects="a cat\na robot", **changes)
        return forms.train_run(form, (choice,), library, pictures, images).train

    large = made(backbone="wan2.2-i2v-a14b")
    assert (large.sample_subjects, large.sample_images) == ((), ()), "none were given"
    large = made(own, backbone="wan2.2-i2v-a14b", score_every=5)
    assert (large.sample_subjects, large.sample_images) == (("a cat", "a robot"), own)
    assert made(own).sample_images == own, "puppets take them, too"
    assert made(own, backbone="wan2.2-ti2v-5b").sample_images == own
    with pytest.raises(ConfigError, match=r"one picture a subject .* got 1 pictures for 2 subjects"):
        made(own[:1], backbone="wan2.2-i2v-a14b")
    with pytest.raises(ConfigError, match="score every 5 steps needs pictures"):
        made(backbone="wan2.2-i2v-a14b", score_every=5)
    words = forms.train_run(train_form(), (choice,), library, pictures, own)
    assert words.train.sample_images == (), "from words, pictures that were added before have no use"


def test_a_methods_own_settings_are_those_that_the_backbone_can_train() -> None:
    own, from_a_picture = "puppet-hunyuan", "wan2.2-i2v-a14b"
    assert forms.own_settings("synmotion", own)["alpha"] == 0.75
    assert forms.own_settings("synmotion", from_a_picture)["alpha"] == 1
    assert forms.own_settings("dreambooth", from_a_picture)["prior_loss_weight"] == 0
    assert forms.method_settings("alpha=1", "synmotion", from_a_picture) == {}
    assert forms.method_settings("alpha=0.75", "synmotion", from_a_picture) == {"alpha": 0.75}
    blank = {"method": "synmotion", "method_settings": ""}
    assert [forms.draws_priors({**blank, "backbone": name}) for name in (own, from_a_picture)] == [True, False]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_steps": 2.5}, "number of steps must be a whole number, got 2.5"),
        ({"num_steps": None}, "number of steps must be a whole number, got nothing"),
        ({"num_steps": math.inf}, "number of steps must be a whole number"),
        ({"num_steps": 0}, "num_steps must be between 1 and"),
        ({"batch_size": "2.5"}, "batch size must be a whole number, got 2.5"),
        ({"batch_size": "many"}, "batch size must be a number, got 'many': leave it empty for the backbone's own"),
        ({"num_frames": "18"}, "puppet-hunyuan takes num_frames = 4k+1, got 18: use 17 or 21"),
        ({"height": "70"}, "puppet-hunyuan takes a height that is a multiple of 16, got 70: use 64 or 80"),
        ({"weights": "8bit", "offload": "model"}, "offload 'model' moves plain weights"),
        ({"weights": "fp8"}, "training with weights 'fp8' needs gradient_checkpointing"),
        ({"optimizer": "sgd"}, 'optimizer must be "adamw" or "adamw8bit"'),
        (
            {"learning_rate": "fast"},
            "learning rate must be a number, got 'fast': leave it empty for the backbone's own",
        ),
        ({"learning_rate": 2}, "learning_rate must be above 0"),
        ({"name": "../up"}, "cannot be a file name"),
        ({"method": "synmotoin"}, "synmotion"),
        ({"method_settings": "alpha"}, "settings of the method: 'alpha' is no KEY=VALUE, as alpha=... is"),
        ({"method_settings": "alfa=1"}, "settings of the method: synmotion has no 'alfa', it has alpha, motion_emb"),
        ({"method_settings": "alpha=2"}, "alpha must be"),
        ({"method_settings": "alpha=1\nalpha=0.5"}, "settings of the method: alpha is there twice"),
        ({"method_settings": "rank=3"}, "settings of the method: rank has a field of its own"),
        ({"mode": "i2v", "sample_subjects": "a red cat\na zebra"}, "no ready picture of 'a zebra' for the samples"),
    ],
)
def test_a_bad_train_form_names_the_field(
    library: Library, pictures: Pictures, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserInputError) as refused:
        forms.train_run(train_form(**changes), (example(library),), library, pictures)
    assert words in str(refused.value)


def test_a_training_needs_clips_of_one_motion_with_words(library: Library, pictures: Pictures) -> None:
    one = example(library)
    with pytest.raises(ConfigError, match="no clips yet"):
        forms.train_run(train_form(), (), library, pictures)
    with pytest.raises(ConfigError, match="one adapter learns one motion, these clips name claps; jumps"):
        forms.train_run(train_form(), (one, dataclasses.replace(one, motion="jumps")), library, pictures)
    with pytest.raises(PromptError, match="the subject is empty"):
        forms.train_run(train_form(), (dataclasses.replace(one, subject=""),), library, pictures)


def test_a_generate_form_is_the_run(tmp_path: Path) -> None:
    assert forms.generate_run(generate_form(), None) == GenerateRun(subjects=("a red cat", "a robot"), motion="claps")
    file = tmp_path / "x.safetensors"
    run = forms.generate_run(
        generate_form(seeds="3-5", strength=0.5, steps="8", guidance=" 2 ", until="0.2", eta="0.5"),
        (file, "hunyuanvideo"),
    )
    assert (run.adapter, run.backbone, run.seeds, run.compare) == (file, "hunyuanvideo", (3, 4, 5), True)
    assert (run.strength, run.num_inference_steps, run.guidance_scale) == (0.5, 8, 2.0)
    assert (run.guidance_until, run.eta) == (0.2, 0.5)
    assert run.images == ()
    less = generate_form(
        weights="8bit", vae_tiling=True, num_frames="21", width="128", negative_prompt=" dark ", flow_shift="3",
        embedded_guidance="5", guidance="2", backbone="hunyuanvideo",
    )  # fmt: skip
    run = forms.generate_run(less, None)
    assert run.precision == Precision(weights="8bit", vae_tiling=True)
    assert (run.num_frames, run.height, run.width) == (21, None, 128)
    assert (run.negative_prompt, run.flow_shift, run.embedded_guidance) == ("dark", 3.0, 5.0)
    assert (run.adapter_until, run.step_cache) == (1.0, None)
    run = forms.generate_run(
        generate_form(adapter_until="0.5", step_cache=" taylorseer:3 "), (file, "hunyuanvideo-1.5")
    )
    assert (run.adapter_until, run.step_cache) == (0.5, "taylorseer:3")
    words = {"subject": "a person", "motion": "claps", "steps": 1, "clips": 1, "backbone": "puppet-unet3d"}
    write_adapter(file, method="separation", **words)
    own = (file, "puppet-unet3d")
    run = forms.generate_run(generate_form(method_settings="highway = released"), own)
    assert run.method_config == {"highway": "released"}
    same = forms.generate_run(generate_form(method_settings="highway=paper"), own)
    assert same.method_config == {}, "as its file has it"
    with pytest.raises(ConfigError, match="is not drawn with another temporal: only highway is open then"):
        forms.generate_run(generate_form(method_settings="temporal=k"), own)
    with pytest.raises(ConfigError, match="'highway' is no KEY=VALUE"):
        forms.generate_run(generate_form(method_settings="highway"), own)
    footage = Footage(path=tmp_path / "a.mp4", end_s=2.0)
    run = forms.generate_run(generate_form(), None, (), footage)
    assert (run.noise_clip, run.noise_prior) == (footage, 0.5)
    assert forms.generate_run(generate_form(noise_prior="0.1"), None, (), footage).noise_prior == 0.1
    two = (tmp_path / "a.png", tmp_path / "b.png")
    assert forms.generate_run(generate_form(), None, two).images == two
    with pytest.raises(ConfigError, match="one picture a subject, in the same order: got 1 pictures for 2 subjects"):
        forms.generate_run(generate_form(), None, two[:1])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subjects": " \n"}, "name at least one subject"),
        ({"motion": ""}, "the motion is empty"),
        ({"motion": "a robot"}, "are both 'a robot'"),
        ({"seeds": ""}, "name at least one seed"),
        ({"seeds": "-1"}, "a seed is a whole number from 0 on, got '-1'"),
        ({"seeds": "5-3"}, "must go upwards"),
        ({"seeds": "0-9999999"}, "at most 64 seeds"),
        ({"seeds": "0-40"}, "82 videos"),
        ({"seeds": str(2**63)}, "between 0 and 2^63"),
        ({"strength": 3}, "strength must be between 0 and 2"),
        ({"steps": "0"}, "num_inference_steps must be between 1 and 200"),
        ({"steps": "2.5"}, "sampling steps must be a whole number, got 2.5"),
        ({"guidance": "much"}, "guidance must be a number, got 'much': leave it empty for the backbone's own"),
        ({"guidance": "nan"}, "guidance_scale must be between 0 and 30, got nan"),
        ({"until": "1.5"}, "guidance_until must be between 0 and 1, got 1.5"),
        ({"eta": "-1"}, "eta must be between 0 and 1, got -1"),
        ({"num_frames": "20"}, "puppet-hunyuan takes num_frames = 4k+1, got 20: use 17 or 21"),
        ({"negative_prompt": "dark", "guidance": "1"}, "a negative prompt has no effect at guidance 1"),
        ({"embedded_guidance": "6"}, "puppet-hunyuan takes no embedded guidance"),
        ({"noise_prior": "0.5"}, "noise_prior 0.5 needs a noise_clip that it is taken from"),
        ({"method_settings": "highway=off"}, "highway has no effect without an adapter"),
        ({"adapter_until": "0.5"}, "adapter_until 0.5 has no effect without an adapter"),
        ({"step_cache": "teacache"}, "a step cache is 'first-block' or 'taylorseer', got 'teacache'"),
        (
            {"step_cache": "first-block", "backbone": "hunyuanvideo-1.5"},
            "hunyuanvideo-1.5 cannot use the step cache first-block: use taylorseer",
        ),
        ({"flow_shift": "0"}, "flow_shift must be above 0 and at most 100"),
        ({"setting": "in\x00snow"}, "one line of printable text"),
    ],
)
def test_a_bad_generate_form_names_the_field(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserInputError) as refused:
        forms.generate_run(generate_form(**changes), None)
    assert words in str(refused.value)


@given(st.lists(st.integers(0, 2**62), max_size=20))
def test_seeds_come_back_in_order_once(seeds: list[int]) -> None:
    assert forms.seeds_in(", ".join(map(str, seeds))) == tuple(dict.fromkeys(seeds))


@given(st.text(max_size=40))
def test_any_seed_text_is_read_or_refused(text: str) -> None:
    try:
        seeds = forms.seeds_in(text)
    except ConfigError:
        return
    assert all(isinstance(seed, int) and seed >= 0 for seed in seeds)


def test_blocked_clips_are_named_before_a_training_starts(library: Library) -> None:
    good = example(library)
    short = dataclasses.replace(good, end_s=1.0)
    with pytest.raises(ClipError, match=r"1 of 2 clips cannot be used yet.*clip 2 \(clap-0.mp4\).*too few"):
        forms.refuse_blocked((good, short), library.looks((good, short), PUPPETS))
    forms.refuse_blocked((good,), library.looks((good,), PUPPETS))
