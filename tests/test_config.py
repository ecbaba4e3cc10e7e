"""Configs: strict on the way in, plain on the way out, and the same after the round trip through JSON."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synmotion_core.clips.ffmpeg import LIMITS
from synmotion_core.config import MOST_FPS, BlendWith, ClipSource, Footage, GenerateRun, TrainRun, from_dict, to_dict
from synmotion_core.errors import ConfigError
from synmotion_core.limits import MOST_CLIPS, MOST_LETTERS, MOST_SUBJECTS
from synmotion_core.precision import Precision
from synmotion_core.training.settings import PriorConfig, TrainConfig
from synmotion_core.workspace import nearest_name

texts = st.text(max_size=12)
paths = st.lists(st.text("abcäß 0123._-", min_size=1, max_size=8), min_size=1, max_size=3).map(lambda p: Path(*p))
numbers = st.floats(0.001, 1000.0)
seeds = st.integers(0, 2**63 - 1)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def clip_sources(draw: st.DrawFn) -> ClipSource:
    start = draw(st.just(0.0) | numbers)
    return ClipSource(
        path=draw(paths),
        subject=draw(texts),
        motion=draw(texts),
        start_s=start,
        end_s=draw(st.none() | numbers.map(lambda n: start + n)),
        resample_fps=draw(st.none() | st.floats(0.001, MOST_FPS)),
    )


@st.composite
def footage(draw: st.DrawFn) -> Footage:
    clip = draw(clip_sources())
    return Footage(path=clip.path, start_s=clip.start_s, end_s=clip.end_s, resample_fps=clip.resample_fps)


train_configs = st.builds(
    TrainConfig,
    num_steps=st.integers(1, 10**6),
    batch_size=st.integers(1, 256),
    learning_rate=st.floats(0, 1, exclude_min=True),
    seed=seeds,
    sample_subjects=st.lists(texts, max_size=3).map(tuple),
    mixed_precision=st.sampled_from(["no", "bf16"]),
    training_guidance=st.none() | st.floats(1e-3, 100),
)
prior_configs = st.builds(
    PriorConfig,
    subjects=st.lists(texts, max_size=3).map(tuple),
    per_pair=st.integers(1, 5),
    seed=seeds,
    left_out=st.lists(seeds, max_size=3, unique=True).map(tuple),
)
train_runs = st.builds(
    TrainRun,
    name=st.from_regex(r"[a-z0-9][a-zA-Z0-9._-]{0,20}", fullmatch=True).map(nearest_name),
    clips=st.lists(clip_sources(), min_size=1, max_size=3).map(tuple),
    method_config=st.dictionaries(texts, plain, max_size=3),
    train=train_configs,
    priors=prior_configs,
)
more_settings = st.dictionaries(texts, plain, max_size=2)
generate_runs = st.builds(
    lambda with_what, begun, **given: GenerateRun(**with_what, **begun, **given),
    st.just({})
    | st.fixed_dictionaries({"adapter": paths, "adapter_until": st.floats(0, 1), "method_config": more_settings}),
    st.just({}) | st.fixed_dictionaries({"noise_clip": footage(), "noise_prior": st.floats(0.01, 1)}),
    subjects=st.lists(texts, min_size=1, max_size=3).map(tuple),
    motion=texts,
    strength=st.floats(0, 2),
    seeds=st.lists(seeds, min_size=1, max_size=3).map(tuple),
    compare=st.booleans(),
    num_inference_steps=st.none() | st.integers(1, 200),
    guidance_scale=st.none() | st.floats(0, 30),
    guidance_until=st.none() | st.floats(0, 1),
    eta=st.none() | st.floats(0, 1),
    embedded_guidance=st.none() | st.floats(0, 30),
    negative_prompt=st.none() | texts,
    flow_shift=st.none() | st.floats(0.01, 100),
    step_cache=st.none() | st.sampled_from(["first-block:0.1", "first-block", "taylorseer:3"]),
)
blended_runs = st.builds(
    GenerateRun,
    subjects=st.just(("a cat",)),
    motion=texts,
    adapter=paths,
    blend=st.builds(
        BlendWith, adapter=st.just(Path("b.st")), share=st.floats(0, 1), over=st.sampled_from(["mixed", "sequence"])
    ),
)


def test_one_picture_a_subject() -> None:
    with pytest.raises(ConfigError, match="one picture a subject, in the same order: got 1 pictures for 2 subjects"):
        GenerateRun(subjects=("a cat", "a bear"), motion="walks", images=(Path("cat.png"),))
    clip = ClipSource(path=Path("a.mp4"), subject="a person", motion="waves")
    own = {"name": "x", "clips": (clip,)}
    pictured = TrainConfig(sample_subjects=("a cat",), sample_images=(Path("cat.png"),))
    assert TrainRun(**own, mode="i2v", train=pictured).train.sample_images == (Path("cat.png"),)
    assert TrainRun(**own, mode="i2v").mode == "i2v"
    with pytest.raises(ConfigError, match="1 sample_images for 1 sample_subjects in mode t2v: pictures need mode i2v"):
        TrainRun(**own, train=pictured)
    with pytest.raises(ConfigError, match="0 sample_images for 1 sample_subjects in mode i2v: one picture a subject"):
        TrainRun(**own, mode="i2v", train=TrainConfig(sample_subjects=("a cat",)))
    with pytest.raises(ConfigError, match="must be one of 't2v', 'i2v', got 'v2v'"):
        from_dict(TrainRun, {"name": "x", "clips": [to_dict(clip)], "mode": "v2v"})


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(to_dict(value), allow_nan=False))


@given(train_runs)
def test_a_training_survives_json(run: TrainRun) -> None:
    assert from_dict(TrainRun, through_json(run)) == run


@given(generate_runs | blended_runs)
def test_a_generation_survives_json(run: GenerateRun) -> None:
    assert from_dict(GenerateRun, through_json(run)) == run


CLIP = {"path": "a.mp4", "subject": "a person", "motion": "claps"}
TRAIN = {"name": "clap", "clips": [CLIP]}
GENERATE = {"subjects": ["a cat"], "motion": "claps"}


def test_the_least_that_can_be_said() -> None:
    run = from_dict(TrainRun, TRAIN)
    assert run == TrainRun(name="clap", clips=(ClipSource(path=Path("a.mp4"), subject="a person", motion="claps"),))
    assert run.train == TrainConfig()


@pytest.mark.parametrize(
    ("cls", "values", "says"),
    [
        # unknown keys: the nearest is named, at every depth
        (TrainRun, TRAIN | {"bakbone": "x"}, "TrainRun has no setting 'bakbone': did you mean 'backbone'?"),
        (
            TrainRun,
            TRAIN | {"train": {"learning_rat": 1e-3}},
            "TrainConfig has no setting 'learning_rat': did you mean",
        ),
        (TrainRun, {"name": "x", "clips": [CLIP | {"subjects": "x"}]}, "ClipSource has no setting 'subjects': did you"),
        (GenerateRun, GENERATE | {"zzz": 1}, "GenerateRun has no setting 'zzz': it has strength, num_inference_steps"),
        # missing keys
        (TrainRun, {"clips": [CLIP]}, "missing 1 required keyword-only argument: 'name'"),
        # wrong types: never converted, apart from whole numbers to floats
        (TrainRun, TRAIN | {"train": {"num_steps": "400"}}, "TrainConfig.num_steps must be int, got '400'"),
        (TrainRun, TRAIN | {"train": {"num_steps": 400.0}}, "TrainConfig.num_steps must be int, got 400.0"),
        (TrainRun, TRAIN | {"train": {"num_steps": True}}, "TrainConfig.num_steps must be int, got True"),
        (TrainRun, TRAIN | {"train": {"learning_rate": True}}, "TrainConfig.learning_rate must be float, got True"),
        (TrainRun, TRAIN | {"train": 5}, "TrainConfig must be a mapping, got int"),
        (TrainRun, TRAIN | {"clips": CLIP}, "TrainRun.clips must be a list"),
        (TrainRun, TRAIN | {"clips": "a.mp4"}, "TrainRun.clips must be a list, got 'a.mp4'"),
        (TrainRun, TRAIN | {"method_config": [1]}, "TrainRun.method_config must be a mapping"),
        (GenerateRun, GENERATE | {"subjects": "a cat"}, "GenerateRun.subjects must be a list, got 'a cat'"),
        (GenerateRun, GENERATE | {"seeds": [1, "2"]}, "GenerateRun.seeds[1] must be int, got '2'"),
        (GenerateRun, GENERATE | {"compare": 1}, "GenerateRun.compare must be bool, got 1"),
        (GenerateRun, GENERATE | {"motion": None}, "GenerateRun.motion must be str, got None"),
        (GenerateRun, GENERATE | {"adapter": 3}, "GenerateRun"),
        (GenerateRun, "claps", "GenerateRun must be a mapping, got str"),
        # impossible values: the rule is in the message
        (TrainRun, TRAIN | {"clips": []}, "at least one clip"),
        (TrainRun, TRAIN | {"name": "../up"}, "cannot be a file name"),
        (TrainRun, TRAIN | {"name": ""}, "cannot be a file name"),
        (TrainRun, TRAIN | {"name": ".hidden"}, "cannot be a file name"),
        (TrainRun, TRAIN | {"train": {"num_steps": 0}}, "num_steps must be between 1 and 1000000, got 0"),
        (TrainRun, TRAIN | {"train": {"learning_rate": 0}}, "learning_rate must be above 0"),
        (TrainRun, TRAIN | {"train": {"learning_rate": float("nan")}}, "learning_rate must be above 0"),
        (
            TrainRun,
            TRAIN | {"train": {"training_guidance": 0}},
            "training_guidance must be above 0 and at most 100, got",
        ),
        (TrainRun, TRAIN | {"train": {"mixed_precision": "fp16"}}, 'mixed_precision must be "no" or "bf16", got'),
        (TrainRun, TRAIN | {"priors": {"per_pair": 0}}, "per_pair must be between 1 and 10000, got 0"),
        (ClipSource, CLIP | {"start_s": -1}, "start_s must be at least 0"),
        (ClipSource, CLIP | {"start_s": 2, "end_s": 2}, "end_s must be after start_s (2.0), got 2.0"),
        (GenerateRun, GENERATE | {"subjects": []}, "at least one subject"),
        (GenerateRun, GENERATE | {"seeds": []}, "at least one seed"),
        (GenerateRun, GENERATE | {"seeds": [-1]}, "a seed must be between 0"),
        (GenerateRun, GENERATE | {"strength": 2.5}, "strength must be between 0 and 2, got 2.5"),
        (GenerateRun, GENERATE | {"num_inference_steps": 0}, "num_inference_steps must be between 1 and 200"),
        (GenerateRun, GENERATE | {"guidance_scale": 31}, "guidance_scale must be between 0 and 30"),
        (GenerateRun, GENERATE | {"eta": 1.5}, "eta must be between 0 and 1, got 1.5"),
        (GenerateRun, GENERATE | {"embedded_guidance": 31}, "embedded_guidance must be between 0 and 30, got 31"),
        (GenerateRun, GENERATE | {"flow_shift": 0}, "flow_shift must be above 0 and at most 100, got 0"),
        (GenerateRun, GENERATE | {"guidance_until": -1}, "guidance_until must be between 0 and 1, got -1"),
        (
            GenerateRun,
            GENERATE | {"adapter": "a", "adapter_until": 1.5},
            "adapter_until must be between 0 and 1, got 1.5",
        ),
        (GenerateRun, GENERATE | {"adapter": "a", "adapter_until": -0.1}, "adapter_until must be between 0 and 1"),
        (GenerateRun, GENERATE | {"adapter_until": float("nan"), "adapter": "a"}, "adapter_until must be between 0"),
        (GenerateRun, GENERATE | {"adapter_until": 0.5}, "adapter_until 0.5 has no effect without an adapter"),
        (GenerateRun, GENERATE | {"step_cache": "first_block"}, "got 'first_block': did you mean 'first-block'?"),
        (GenerateRun, GENERATE | {"step_cache": 3}, "GenerateRun.step_cache must be str, got 3"),
    ],
)
def test_what_is_refused_and_how(cls: type, values: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        from_dict(cls, values)


LONG = "x" * (MOST_LETTERS + 1)


@pytest.mark.parametrize(
    ("cls", "values", "says"),
    [
        (TrainRun, TRAIN | {"clips": [CLIP] * (MOST_CLIPS + 1)}, "clips is a list of at most 10000, got 10001"),
        (TrainRun, TRAIN | {"priors": {"per_pair": 10**9}}, "per_pair must be between 1 and 10000, got 1000000000"),
        (PriorConfig, {"subjects": ["a cat"] * (MOST_SUBJECTS + 1)}, "subjects is a list of at most 500, got 501"),
        (PriorConfig, {"motions": ["walks"] * (MOST_SUBJECTS + 1)}, "motions is a list of at most 500, got 501"),
        (PriorConfig, {"motions": ["walks", LONG]}, "one of motions has at most 10000 characters, got 10001"),
        (PriorConfig, {"left_out": list(range(10_001))}, "left_out is a list of at most 10000, got 10001"),
        (TrainConfig, {"sample_subjects": ["a cat"] * (MOST_SUBJECTS + 1)}, "sample_subjects is a list of at most 500"),
        (TrainConfig, {"sample_subjects": [LONG]}, "one of sample_subjects has at most 10000 characters, got 10001"),
        (TrainConfig, {"sample_images": ["a.png"] * (MOST_SUBJECTS + 1)}, "sample_images is a list of at most 500"),
        (ClipSource, CLIP | {"subject": LONG}, "subject has at most 10000 characters, got 10001 ('xxxx"),
        (ClipSource, CLIP | {"motion": LONG}, "motion has at most 10000 characters"),
        (GenerateRun, GENERATE | {"subjects": ["a cat"] * (MOST_SUBJECTS + 1)}, "subjects is a list of at most 500"),
        (GenerateRun, GENERATE | {"subjects": [LONG]}, "one of subjects has at most 10000 characters"),
        (GenerateRun, GENERATE | {"seeds": list(range(MOST_CLIPS + 1))}, "seeds is a list of at most 10000, got 10001"),
        *((GenerateRun, GENERATE | {name: LONG}, f"{name} has at most 10000") for name in (
            "motion", "setting", "negative_prompt"
        )),
    ],
)  # fmt: skip
def test_no_run_names_more_than_a_process_survives(cls: type, values: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        from_dict(cls, values)


def test_the_most_that_can_be_said_is_taken() -> None:
    most = {"subjects": ["a cat"] * MOST_SUBJECTS, "seeds": list(range(MOST_CLIPS)), "setting": LONG[1:]}
    assert len(from_dict(GenerateRun, GENERATE | most).seeds) == MOST_CLIPS
    assert len(from_dict(PriorConfig, {"left_out": list(range(10_000)), "per_pair": 10_000}).left_out) == 10_000


@given(st.sampled_from([TrainConfig, PriorConfig, GenerateRun]), st.data())
def test_a_typo_finds_its_setting(cls: type, data: st.DataObject) -> None:
    names = [field.name for field in dataclasses.fields(cls) if len(field.name) > 5]
    name = data.draw(st.sampled_from(names))
    gap = data.draw(st.integers(1, len(name) - 2))
    typo = name[:gap] + name[gap + 1 :]
    if typo in {field.name for field in dataclasses.fields(cls)}:
        return
    with pytest.raises(ConfigError, match=re.escape(f"no setting {typo!r}: did you mean")):
        from_dict(cls, {typo: 1})


def test_whole_numbers_are_floats_too() -> None:
    config = from_dict(TrainConfig, {"learning_rate": 1, "max_grad_norm": 2})
    assert (config.learning_rate, config.max_grad_norm) == (1.0, 2.0)
    assert isinstance(config.learning_rate, float)


@pytest.mark.parametrize(
    "values",
    [
        {"start_s": float("nan")},
        {"end_s": float("inf")},
        {"resample_fps": 0.0},
        {"resample_fps": -8.0},
        {"resample_fps": 240.5},
        {"resample_fps": 1e9},
    ],
)
def test_a_cut_is_made_of_real_numbers(values: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        ClipSource(path=Path("a.mp4"), subject="a person", motion="claps", **values)


def test_nothing_is_retimed_to_more_than_a_file_may_have() -> None:
    assert LIMITS.fps == MOST_FPS
    with pytest.raises(ConfigError, match=r"resample_fps must be above 0 and at most 240, got 1000000000\.0"):
        Footage(path=Path("a.mp4"), resample_fps=1e9)
    assert Footage(path=Path("a.mp4"), resample_fps=MOST_FPS).resample_fps == 240


def test_a_precision_that_its_run_cannot_use_is_refused() -> None:
    clip = ClipSource(path=Path("a.mp4"), subject="a person", motion="waves")
    with pytest.raises(ConfigError, match="training with weights 'fp8' needs gradient_checkpointing"):
        TrainRun(name="a", clips=(clip,), precision=Precision(weights="fp8"))
    with pytest.raises(ConfigError, match="gradient_checkpointing saves memory in training only"):
        GenerateRun(subjects=("a cat",), motion="waves", precision=Precision(gradient_checkpointing=True))
    with pytest.raises(ConfigError, match=r"Precision\.weights must be one of 'bf16', .*, got '3bit'"):
        from_dict(GenerateRun, {"subjects": ["a cat"], "motion": "waves", "precision": {"weights": "3bit"}})
