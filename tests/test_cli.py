"""The command line: options and configs there and back, exit codes, Ctrl-C, what goes to which stream."""

from __future__ import annotations

import dataclasses
import doctest
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synmotion_core import cli, command, pace, progress_line
from synmotion_core.adapters import shelf
from synmotion_core.arguments import build_parser
from synmotion_core.backbones import find_spec
from synmotion_core.clips import video
from synmotion_core.clips.dataset import load_clips
from synmotion_core.config import BlendWith, ClipSource, Footage, GenerateRun, LoraWith, TrainRun, from_dict, to_dict
from synmotion_core.errors import ClipError, ConfigError, MissingError, StorageError, TrainingDiverged, UserInputError
from synmotion_core.events import event_from_dict
from synmotion_core.planning import machine
from synmotion_core.precision import PLAIN, Precision
from synmotion_core.progress_line import ProgressLine
from synmotion_core.training.settings import PriorConfig, TrainConfig
from synmotion_core.types import (
    Event,
    Finished,
    Noted,
    Progress,
    Prompt,
    Sampled,
    Saved,
    Scored,
    Started,
    Stopped,
    Warned,
)
from synmotion_core.workspace import Workspace, named_adapter, nearest_name

ROOT = Path(__file__).parents[1]


PARSER = build_parser()


def parse(line: str) -> TrainRun | GenerateRun:
    """What a line of shell stands for."""
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "synmotion_core"]
    args = PARSER.parse_args(words[3:])
    return command.train_run(args) if args.command == "train" else command.generate_run(args)


# ------------------------------------------------------------------------------------------------ there and back

text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=15)
hostile = st.sampled_from(
    [
        "-x",
        "---",
        "--subject",
        "a'b\"c",
        "$(rm -rf ~)",
        "`id`",
        "a\nb",
        "!",
        "*",
        "~",
        "#x",
        "-1",
        "=",
        "{}",
        '"a"',
        "1",
    ]
)
words = (text | hostile).filter(lambda w: w != "--")
paths = st.lists(
    (text | hostile).filter(lambda w: w not in ("", ".", "..", "~") and "/" not in w), min_size=1, max_size=3
).map(lambda parts: Path("no such folder", *parts) if parts[0][0] != "-" else Path(*parts, "no such file"))
seconds = st.floats(0, 1e6)
names = st.from_regex(r"[A-Za-z0-9Ж手][A-Za-z0-9._Ж手-]{0,20}", fullmatch=True).map(nearest_name)  # "0." is no name
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def footage(draw: st.DrawFn) -> Footage:
    start = draw(st.just(0.0) | seconds)
    end = draw(st.none() | st.floats(1e-3, 1e6).map(lambda length: start + length).filter(lambda e: e > start))
    path = draw(paths | st.just(Path('{"path": "a.mp4"}')))
    return Footage(path=path, start_s=start, end_s=end, resample_fps=draw(st.none() | st.floats(1, 120)))


@st.composite
def clips(draw: st.DrawFn) -> tuple[ClipSource, ...]:
    shared = draw(st.booleans())
    subject, motion = draw(words), draw(words)

    def one() -> ClipSource:
        path = draw(paths)
        if shared:
            return ClipSource(path=path, subject=subject, motion=motion)
        start = draw(st.just(0.0) | seconds)
        end = draw(st.none() | st.floats(1e-3, 1e6).map(lambda length: start + length).filter(lambda e: e > start))
        fps = draw(st.none() | st.floats(1, 120))
        return ClipSource(
            path=path, subject=draw(words), motion=draw(words), start_s=start, end_s=end, resample_fps=fps
        )

    return tuple(one() for _ in range(draw(st.integers(1, 3))))


train_configs = st.builds(
    TrainConfig,
    num_steps=st.integers(1, 10**6),
    batch_size=st.integers(1, 256),
    learning_rate=st.floats(1e-12, 1),
    lr_scheduler=st.sampled_from(["constant", "linear"]),
    optimizer=st.sampled_from(["adamw", "adamw8bit"]),
    warmup_steps=st.integers(0, 100),
    seed=st.integers(0, 2**63 - 1),
    sample_subjects=st.lists(words, max_size=3).map(tuple),
    mixed_precision=st.sampled_from(["no", "bf16"]),
    training_guidance=st.none() | st.floats(1e-3, 100),
)
prior_configs = st.builds(
    PriorConfig,
    subjects=st.lists(words, max_size=2).map(tuple),
    per_pair=st.integers(1, 9),
    seed=st.integers(0, 2**40),
    left_out=st.lists(st.integers(0, 2**40), max_size=3, unique=True).map(tuple),
)


method_settings = st.dictionaries(st.from_regex(r"[a-zé_][a-z0-9é_]{0,8}", fullmatch=True), json_values, max_size=3)


def precisions(checkpointing: bool) -> st.SearchStrategy[Precision]:
    plain = st.builds(
        Precision,
        offload=st.sampled_from(["none", "model"]),
        vae_tiling=st.booleans(),
        gradient_checkpointing=st.booleans() if checkpointing else st.just(False),
    )
    small = st.builds(
        Precision,
        weights=st.sampled_from(["8bit", "4bit", "fp8"]),
        text_weights=st.sampled_from(["bf16", "8bit", "4bit"]),
        gradient_checkpointing=st.just(checkpointing),
    )
    return st.just(PLAIN) | plain | small


@st.composite
def train_runs_of(draw: st.DrawFn, mode: str) -> TrainRun:
    train = draw(st.just(TrainConfig()) | train_configs)
    if mode == "i2v":
        train = dataclasses.replace(train, sample_images=tuple(draw(paths) for _ in train.sample_subjects))
    return draw(_train_runs(mode, train))


def _train_runs(mode: str, train: TrainConfig) -> st.SearchStrategy[TrainRun]:
    return st.builds(
        TrainRun,
        name=names,
        clips=clips(),
        mode=st.just(mode),
        precision=precisions(checkpointing=True),
        backbone=st.just("puppet-hunyuan") | words,
        method=st.just("synmotion") | words,
        method_config=method_settings,
        train=st.just(train),
        priors=st.just(PriorConfig()) | prior_configs,
    )


train_runs = train_runs_of("t2v") | train_runs_of("i2v")
subjects_and_beginnings = st.lists(words, min_size=1, max_size=3).flatmap(
    lambda s: st.tuples(
        st.just(tuple(s)),
        st.just({})
        | st.fixed_dictionaries({"images": st.lists(paths, min_size=len(s), max_size=len(s)).map(tuple)})
        | st.fixed_dictionaries({"noise_clip": footage(), "noise_prior": st.floats(0.01, 1)}),
    )
)
blends = st.builds(
    BlendWith, adapter=st.just(Path("another.safetensors")), share=st.floats(0, 1),
    over=st.sampled_from(["mixed", "sequence"]),
)  # fmt: skip
loras = st.lists(
    st.builds(LoraWith, adapter=paths.map(lambda path: Path(f"{path}.b")), strength=st.sampled_from([1.0, 0.1, -2.0])),
    max_size=4, unique_by=lambda one: one.adapter,
).map(tuple)  # fmt: skip
blended_runs = st.builds(
    GenerateRun, subjects=st.just(("a cat",)), motion=words, adapter=paths, blend=blends, loras=loras,
    strength=st.floats(0.01, 2), adapter_until=st.floats(0.01, 1), compare=st.booleans(),
)  # fmt: skip
generate_runs = st.builds(
    lambda who, with_what, **given: GenerateRun(subjects=who[0], **who[1], **with_what, **given),
    subjects_and_beginnings,
    st.just({})
    | st.fixed_dictionaries({"adapter": paths, "adapter_until": st.floats(0, 1), "method_config": method_settings}),
    motion=words,
    setting=words,
    backbone=st.just("puppet-hunyuan") | words.filter(bool),
    strength=st.floats(0, 2),
    seeds=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=4).map(tuple),
    compare=st.booleans(),
    num_inference_steps=st.none() | st.integers(1, 200),
    guidance_scale=st.none() | st.floats(0, 30),
    guidance_until=st.none() | st.floats(0, 1),
    eta=st.none() | st.floats(0, 1),
    embedded_guidance=st.none() | st.floats(0, 30),
    negative_prompt=st.none() | words,
    flow_shift=st.none() | st.floats(0.01, 100),
    step_cache=st.none() | st.sampled_from(["first-block:0.1", "first-block", "taylorseer:3"]),
    num_frames=st.none() | st.integers(1, 200),
    precision=precisions(checkpointing=False),
)


@settings(max_examples=150)
@given(train_runs | generate_runs | blended_runs)
def test_the_same_command_is_the_same_config(config: TrainRun | GenerateRun) -> None:
    assert parse(command.same_command(config)) == config


@settings(max_examples=10)
@given(train_runs | generate_runs | blended_runs)
def test_a_real_shell_reads_it_the_same_way(config: TrainRun | GenerateRun) -> None:
    line = command.same_command(config).replace("python -m synmotion_core", "printf '%s\\0'", 1)
    told = subprocess.run(["/bin/sh", "-c", line], capture_output=True, check=True, timeout=20).stdout.decode()
    assert told.split("\0")[:-1] == command.arguments(config)


def test_guidance_goes_by_both_names() -> None:
    line = "python -m synmotion_core generate --subject 'a cat' --motion walks"
    (long, short) = (parse(f"{line} {name} 2.5") for name in ("--guidance-scale", "--guidance"))
    assert long == short
    assert long.guidance_scale == 2.5


def test_what_shapes_a_video_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["generate", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    for option, says in (
        ("--guidance-scale G", "guidance scale, of both experts"),
        ("--embedded-guidance G", "of backbones that are distilled for it"),
        ("--negative-prompt WORDS", "what guidance leads away from"),
        ("--flow-shift A", "larger spends more steps on noise"),
        ("--adapter-until T", "share of the steps, 0 to 1, in which the adapter works"),
        ("--noise-prior P", "how much of the noise that videos begin with is --noise-clip's, 0 to 1"),
        ("--step-cache KIND[:X]", "first-block:T"),
    ):
        assert option in told
        assert says in told, option


def test_a_plain_command_is_plain() -> None:
    run = TrainRun(
        name="my-wave", clips=tuple(ClipSource(path=Path(f"{n}.mp4"), subject="a person", motion="waves") for n in "ab")
    )
    assert command.same_command(run) == (
        "python -m synmotion_core train --clips a.mp4 b.mp4 --subject 'a person' --motion waves --name my-wave"
    )
    made = GenerateRun(subjects=("a red cat",), motion="waves", adapter=Path("my-wave.safetensors"), seeds=(0, 1))
    assert command.same_command(made) == (
        "python -m synmotion_core generate --adapter my-wave.safetensors --subject 'a red cat' --motion waves "
        "--backbone puppet-hunyuan --seed 0 1"
    )


def test_words_that_look_like_the_end_of_the_options() -> None:
    run = TrainRun(name="x", clips=(ClipSource(path=Path("a.mp4"), subject="--", motion="waves"),))
    assert parse(command.same_command(run)) == run


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_no_command_can_say_is_an_error(value: float) -> None:
    clip = ClipSource(path=Path("a.mp4"), subject="a person", motion="waves")
    with pytest.raises(ConfigError, match="not a finite number"):
        command.same_command(TrainRun(name="x", clips=(clip,), method_config={"rank": value}))
    with pytest.raises(ConfigError, match="--motion cannot be '--'"):
        command.same_command(GenerateRun(subjects=("a cat",), motion="--"))
    with pytest.raises(ConfigError, match="no setting 'a=b'"):
        command.same_command(TrainRun(name="x", clips=(clip,), method_config={"a=b": 1}))


# ------------------------------------------------------------------------------------------------ options

BASE = "train --clips a.mp4 --subject 'a person' --motion waves --name w"


def train_run(line: str, notes: list[str] | None = None) -> TrainRun:
    args = PARSER.parse_args(shlex.split(line))
    return command.train_run(args, note=[].append if notes is None else notes.append)


def test_a_backbone_of_one_mode_is_trained_in_it() -> None:
    notes: list[str] = []
    assert train_run(f"{BASE} --backbone wan2.2-i2v-a14b", notes).mode == "i2v"
    assert notes == ["wan2.2-i2v-a14b trains in mode i2v alone: --mode i2v is taken"]
    for said in ("", "--backbone hunyuanvideo", "--backbone wan2.2-ti2v-5b", "--backbone none"):
        assert train_run(f"{BASE} {said}", notes).mode == "t2v"
    assert train_run(f"{BASE} --backbone wan2.2-i2v-a14b --mode t2v", notes).mode == "t2v", (
        "what is said is not changed"
    )
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("settings", "train", "priors", "method"),
    [
        ("--set learning_rate=0.5", {"learning_rate": 0.5}, {}, {}),
        ("--set train.learning_rate=1", {"learning_rate": 1.0}, {}, {}),
        ("--steps 7 --set num_steps=8", {"num_steps": 8}, {}, {}),
        ("--set mixed_precision=no", {"mixed_precision": "no"}, {}, {}),
        ("""--set 'sample_subjects=["a cat"]'""", {"sample_subjects": ("a cat",)}, {}, {}),
        ("--set max_videos=3 --set priors.seed=4", {}, {"max_videos": 3, "seed": 4}, {}),
        ("--set rank=8 --set method.alpha=0.5 --set method.seed=3", {}, {}, {"rank": 8, "alpha": 0.5, "seed": 3}),
        ("--set method.projections=qk --set method.x=NaN", {}, {}, {"projections": "qk", "x": "NaN"}),
        ("--set method.note=a=b --set method.on=true", {}, {}, {"note": "a=b", "on": True}),
    ],
)
def test_settings_find_their_owner(settings: str, train: Any, priors: Any, method: Any) -> None:
    run = train_run(f"{BASE} {settings}")
    assert (run.train, run.priors) == (TrainConfig(**train), PriorConfig(**priors))
    assert run.method_config == method


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"{BASE} --set seed=3", "say train.seed or priors.seed"),
        (f"{BASE} --set learning_rate", "KEY=VALUE"),
        (f"{BASE} --set trian.seed=3", "begin with train., priors. or method."),
        (f"{BASE} --set train.learning_rat=3", "did you mean 'learning_rate'"),
        (f"{BASE} --set train.num_steps=many", "must be int, got 'many'"),
        (f"{BASE} --set train.num_steps=0", "between 1 and 1000000, got 0"),
        (f"{BASE} --steps 0", "between 1 and 1000000, got 0"),
        ("train --name w", "a training needs clips"),
        ("train --clips a.mp4 --subject 'a person' --motion waves", "needs a name"),
        ("train --clips a.mp4 --motion waves --name w", "a.mp4 has no words: give --subject"),
        ("""train --clip '{"path": "a.mp4"}' --name w""", "a.mp4 has no words: give --subject and --motion"),
        (f"{BASE} --clip nonsense", "takes JSON"),
        (f"""{BASE} --clip '{{"path": "a", "strat_s": 1}}'""", "did you mean 'start_s'"),
        (f"{BASE} --name ../x", "cannot be a file name"),
        (f"{BASE} --config nowhere.json", "there is no file nowhere.json"),
    ],
)
def test_wrong_options_say_what_is_wrong(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(shlex.split(line)) == cli.REFUSED
    out, err = capsys.readouterr()
    assert words in err
    assert out == ""
    assert "Traceback" not in err


def test_an_unknown_option_is_refused_not_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("train --step 3", "train --subj x", "teach"):
        with pytest.raises(SystemExit) as caught:
            cli.main(line.split())
        assert caught.value.code == cli.REFUSED
    assert "unrecognized arguments: --step" in capsys.readouterr().err


def test_clips_with_their_own_words_and_cuts() -> None:
    line = """train --name w --subject "a person" --motion waves --clips b.mp4
              --clip '{"path": "a.mp4", "start_s": 1, "end_s": 2.5, "motion": "claps"}'"""
    assert train_run(line).clips == (
        ClipSource(path=Path("a.mp4"), subject="a person", motion="claps", start_s=1.0, end_s=2.5),
        ClipSource(path=Path("b.mp4"), subject="a person", motion="waves"),
    )


def test_a_saved_run_with_options_over_it(tmp_path: Path) -> None:
    saved = train_run(f"{BASE} --steps 33 --set rank=4 --set priors.per_pair=2")
    file = tmp_path / "run.json"
    file.write_text(json.dumps(to_dict(saved)))
    assert train_run(f"train --config {shlex.quote(str(file))}") == saved
    line = f"train --config {shlex.quote(str(file))} --name v --steps 44 --set alpha=0.5 --motion claps"
    changed = train_run(line)
    assert (changed.name, changed.train.num_steps, changed.priors.per_pair) == ("v", 44, 2)
    assert changed.method_config == {"rank": 4, "alpha": 0.5}
    assert changed.clips == (ClipSource(path=Path("a.mp4"), subject="a person", motion="claps"),)
    assert train_run(f"{line} --clips z.mp4 --subject x").clips[0].path == Path("z.mp4")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"), ("[]", "must hold one run"), ('{"nmae": "x"}', "did you mean 'name'"),
        ('{"train": 3}', "must be a mapping"), ('{"train": {"num_steps": "3"}}', "must be int"),
        ('{"clips": [{"path": "a"}]}', "subject"), ('{"clips": "a"}', "must be a list"), ("\udcff", "is not JSON"),
    ],
)  # fmt: skip
def test_a_saved_run_that_is_wrong(content: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserInputError, match=re.escape(words)):
        train_run(f"{BASE} --config {shlex.quote(str(file))}")


def test_a_part_of_a_run_is_enough(tmp_path: Path) -> None:
    file = tmp_path / "fast.json"
    file.write_text('{"train": {"num_steps": 5}, "method": "lora"}')
    run = train_run(f"{BASE} --config {shlex.quote(str(file))}")
    assert (run.method, run.train.num_steps, run.name) == ("lora", 5, "w")


# ------------------------------------------------------------------------------------------------ folders of clips


def a_folder(folder: Path, *files: str, index: Any = None) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    if index is not None:
        (folder / "index.json").write_text(json.dumps(index))
    return folder


def folder_run(folder: Path, options: str, notes: list[str] | None = None) -> tuple[ClipSource, ...]:
    return train_run(f"train --name w --clips {shlex.quote(str(folder))} {options}", notes).clips


def row(file: str, motion: str = "waves", subject: str = "a person", **more: Any) -> dict[str, Any]:
    return {"file": file, "subject": subject, "motion": motion, **more}


def test_a_folder_without_an_index_is_all_its_videos_in_order(tmp_path: Path) -> None:
    a_folder(tmp_path, "b.MP4", "a.webm", "я 1.mov", "notes.txt", "a.txt", ".hidden.mp4", "deeper/c.mp4")
    notes: list[str] = []
    found = folder_run(tmp_path, "--subject 'a person' --motion waves", notes)
    assert [c.path for c in found] == [tmp_path / n for n in ("a.webm", "b.MP4", "я 1.mov")]
    assert {(c.subject, c.motion) for c in found} == {("a person", "waves")}
    assert notes == [
        f"{tmp_path}: left out, not a video by its ending: notes.txt",
        f"{tmp_path}: left out, since --subject and --motion say all words: a.txt",
    ]
    with pytest.raises(ClipError, match="has no words"):
        folder_run(tmp_path, "")


def test_captions_of_other_trainers_are_read(tmp_path: Path) -> None:
    """What stands before and behind the motion's words; the words stay the ones that were given."""
    a_folder(tmp_path, "1.mp4", "2.mp4", "3.mp4", "deeper/4.mp4", "notes.txt")
    (tmp_path / "1.txt").write_text("A young man,\n WAVES both arms, in a park at dusk.\n")
    (tmp_path / "2.txt").write_text("a tall woman waves")
    rows = [
        {"video_path": "C:\\\\data\\\\3.mp4", "caption": "an old man waves at us"},
        {"file_name": "deeper/4.mp4", "text": "a girl waves"},
        {"video": "2.mp4", "prompt": "nobody waves"},
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    notes: list[str] = []
    found = folder_run(tmp_path, "--motion 'waves, swings hands'", notes)
    assert [(c.path.name, c.subject, c.setting) for c in found] == [
        ("1.mp4", "A young man", "both arms, in a park at dusk"),
        ("2.mp4", "a tall woman", ""),
        ("3.mp4", "an old man", "at us"),
        ("4.mp4", "a girl", ""),
    ]
    assert {c.motion for c in found} == {"waves, swings hands"}
    assert notes == [f"{tmp_path}: left out, not a video by its ending: notes.txt"]
    one = train_run(f"train --name w --clips {shlex.quote(str(tmp_path / '1.mp4'))} --motion waves").clips
    assert [(c.subject, c.setting) for c in one] == [("A young man", "both arms, in a park at dusk")]
    again = train_run(command.same_command(TrainRun(name="w", clips=found)).removeprefix("python -m synmotion_core "))
    assert again.clips == found
    (tmp_path / "index.json").write_text(json.dumps([row("1.mp4", "", ""), row("2.mp4", "hops", "a cat")]))
    assert [c.subject for c in folder_run(tmp_path, "--motion waves")] == ["A young man"], "a set without words"


def test_captions_that_cannot_be_taken_apart_say_what_is_wanted(tmp_path: Path) -> None:
    a_folder(tmp_path, "1.mp4", "2.mp4", "3.mp4", "4.mp4")
    (tmp_path / "1.txt").write_text("a man waves")
    (tmp_path / "2.txt").write_text("a man claps")
    (tmp_path / "3.txt").write_text("Waves of the sea")
    with pytest.raises(ClipError, match=r"has captions \(1.txt: “a man waves”\): say which words .* --motion"):
        folder_run(tmp_path, "")
    with pytest.raises(ClipError) as refused:
        folder_run(tmp_path, "--motion waves")
    said = str(refused.value)
    assert said.startswith("3 of 4 clips have no words that can be taken from a caption (or give one subject for all:")
    assert "2.txt: “a man claps” does not hold “waves”: write that into it, after who moves" in said
    assert "3.txt: “Waves of the sea” has nothing before “Waves”: begin it with who moves" in said
    assert "4.mp4 has no caption: write one into 4.txt, with “waves” in it" in said
    assert {c.subject for c in folder_run(tmp_path, "--motion waves --subject 'a person'")} == {"a person"}
    (tmp_path / "1.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ClipError, match=r"^1\.txt is no text in UTF-8"):
        train_run(f"train --name w --clips {shlex.quote(str(tmp_path / '1.mp4'))} --motion waves")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    a_folder(tmp_path, "notes.txt")
    with pytest.raises(ClipError, match="there is no video in"):
        folder_run(tmp_path, "--subject x --motion y")


def test_an_index_brings_the_words(tmp_path: Path) -> None:
    rows = [row("b.mp4", seed=3), row("a.mp4", subject="a tall person", start_s=1, end_s=2.5)]
    a_folder(tmp_path, "a.mp4", "b.mp4", "c.mp4", index={"clips": rows, "made_by": "puppets"})
    notes: list[str] = []
    assert folder_run(tmp_path, "", notes) == (
        ClipSource(path=tmp_path / "b.mp4", subject="a person", motion="waves"),
        ClipSource(path=tmp_path / "a.mp4", subject="a tall person", motion="waves", start_s=1.0, end_s=2.5),
    )
    assert notes == [f"{tmp_path}: left out, not in index.json: c.mp4"]
    changed = folder_run(tmp_path, "--motion 'does the thing' --subject 'a dancer'")
    assert {(c.subject, c.motion) for c in changed} == {("a dancer", "does the thing")}


def test_a_folder_below_an_index_takes_its_words_from_there(tmp_path: Path) -> None:
    rows = [row("wave/a.mp4", subject="a red person"), row("wave/b.mp4"), row("clap/c.mp4", "claps")]
    a_folder(tmp_path, "wave/a.mp4", "wave/b.mp4", "wave/new.mp4", "clap/c.mp4", index={"clips": rows})
    notes: list[str] = []
    folder = tmp_path / "wave"
    assert folder_run(folder, "", notes) == (
        ClipSource(path=folder / "a.mp4", subject="a red person", motion="waves"),
        ClipSource(path=folder / "b.mp4", subject="a person", motion="waves"),
    )
    index = tmp_path / "index.json"
    assert notes == [f"{folder}: words from {index}", f"{folder}: left out, not in index.json: new.mp4"]
    given = folder_run(folder, "--subject x --motion y")  # all words given: the folder stands alone
    assert [c.path.name for c in given] == ["a.mp4", "b.mp4", "new.mp4"]
    index.write_text("[1, 2]")  # another program's file
    with pytest.raises(ClipError, match="has no words"):
        folder_run(folder, "", notes)
    assert "no words from the folder above" in notes[-1]
    assert "entry 1 needs file, subject and motion" in notes[-1]


def test_with_several_motions_the_option_chooses_and_never_renames(tmp_path: Path) -> None:
    rows = [row("a.mp4"), row("b.mp4", "claps"), row("c.mp4")]
    a_folder(tmp_path, "a.mp4", "b.mp4", "c.mp4", index=rows)
    notes: list[str] = []
    assert [c.path.name for c in folder_run(tmp_path, "--motion waves", notes)] == ["a.mp4", "c.mp4"]
    assert notes == [f"{tmp_path}: 2 clips of 'waves'"]
    with pytest.raises(ClipError, match="names 2 motions, name one with --motion: claps; waves"):
        folder_run(tmp_path, "")
    with pytest.raises(ClipError, match="'jumps' is not among them: claps; waves"):
        folder_run(tmp_path, "--motion jumps")


def test_a_motion_is_found_by_its_name_and_keeps_its_description(tmp_path: Path) -> None:
    high, low, claps = "waves, hand high", "waves, hand low", "claps, hands before the chest"
    a_folder(tmp_path / "two", "a.mp4", "b.mp4", index=[row("a.mp4", high), row("b.mp4", claps)])
    assert [c.motion for c in folder_run(tmp_path / "two", "--motion waves")] == [high]
    assert [c.motion for c in folder_run(tmp_path / "two", f"--motion '{claps}'")] == [claps]
    a_folder(tmp_path / "one", "a.mp4", index=[row("a.mp4", high)])
    assert [c.motion for c in folder_run(tmp_path / "one", "--motion waves")] == [high]
    assert [c.motion for c in folder_run(tmp_path / "one", "--motion greets")] == ["greets"]
    a_folder(tmp_path / "alike", "a.mp4", "b.mp4", index=[row("a.mp4", high), row("b.mp4", low)])
    with pytest.raises(ClipError, match="'waves' is the name of 2 of them: waves, hand high; waves, hand low"):
        folder_run(tmp_path / "alike", "--motion waves")
    assert [c.motion for c in folder_run(tmp_path / "alike", f"--motion '{low}'")] == [low]


@pytest.mark.parametrize(
    ("index", "error", "words"),
    [
        ([], ConfigError, "must hold"), ({"clips": {}}, ConfigError, "must hold"), (3, ConfigError, "must hold"),
        ([{"file": "a.mp4"}], ConfigError, "entry 1 needs file, subject and motion"),
        ([row("a.mp4"), row("../secret.mp4")], ConfigError, "entry 2 leads out of the folder"),
        ([row("/etc/passwd")], ConfigError, "entry 1 leads out of the folder"),
        ([row("gone.mp4")], MissingError, "names 'gone.mp4', which is not there"),
        ([row("a.mp4", start_s="1")], ConfigError, "start_s must be float"),
    ],
)  # fmt: skip
def test_an_index_that_is_wrong(index: Any, error: type[Exception], words: str, tmp_path: Path) -> None:
    a_folder(tmp_path / "clips", "a.mp4", index=index)
    (tmp_path / "secret.mp4").write_bytes(b"")
    with pytest.raises(error, match=re.escape(words)):
        folder_run(tmp_path / "clips", "")


# ------------------------------------------------------------------------------------------------ generate's options


@pytest.mark.parametrize("name", ["a.mp4", '{"path": "a.mp4"}', "3", "-a.mp4"])
def test_a_clip_whose_noise_is_taken_is_a_file_or_a_part_of_one(name: str) -> None:
    for footage in (Footage(path=Path(name)), Footage(path=Path(name), start_s=1.0, end_s=3.125)):
        run = GenerateRun(subjects=("a cat",), motion="walks", noise_clip=footage, noise_prior=0.5)
        args = build_parser().parse_args(command.arguments(run))
        assert Path(command.generate_run(args).noise_clip.path) == Path(name)  # type: ignore[union-attr]
        assert dataclasses.replace(command.generate_run(args).noise_clip, path=footage.path) == footage


def test_motion_and_backbone_come_from_the_adapter(tmp_path: Path) -> None:
    import torch

    from synmotion_core.adapters.file import AdapterInfo, save_adapter

    path = tmp_path / "жест.safetensors"
    info = AdapterInfo(
        backbone="other-backbone", repo="x/y", revision=None, fingerprint="", licence="apache-2.0", method="lora",
        method_config={}, subject="a person", motion="pirouettes", steps=3,
    )  # fmt: skip
    save_adapter(path, {"transformer.a": torch.zeros(1)}, info)
    base = ["generate", "--adapter", str(path), "--subject", "a red cat"]
    parser = build_parser()
    run = command.generate_run(parser.parse_args(base))
    assert (run.motion, run.backbone, run.subjects) == ("pirouettes", "other-backbone", ("a red cat",))
    run = command.generate_run(parser.parse_args([*base, "--motion", "waves", "--backbone", "mine"]))
    assert (run.motion, run.backbone) == ("waves", "mine")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("generate --motion walks", "name at least one subject"),
        ("generate --subject x", "say what happens"),
        ("generate --subject x --adapter gone.safetensors", "there is no file gone.safetensors"),
        ("generate --subject x --motion y --strength 3", "strength must be between 0 and 2, got 3"),
        ("generate --subject x --motion y --strength nan", "strength must be between 0 and 2, got nan"),
        ("generate --subject x --motion y --seed -3", "a seed must be between"),
        ("generate --subject x --motion y --adapter-until 0.5", "adapter_until 0.5 has no effect without an adapter"),
        ("generate --subject x --motion y --set method.highway=off", "highway has no effect without an adapter"),
        ("generate --subject x --motion y --set train.seed=3", "a generation takes only settings of the adapter"),
        ("generate --subject x --motion y --step-cache taylor:2", "did you mean 'taylorseer'?"),
        ("generate --subject x --motion y --negative-prompt z --guidance-scale 1", "has no effect at guidance_scale 1"),
        ("generate --subject x --motion y --embedded-guidance 6", "puppet-hunyuan takes no embedded guidance"),
        ("generate --subject x --motion y --flow-shift 0", "flow_shift must be above 0 and at most 100, got 0"),
        ("generate --subject x --motion y --blend-share 0.3", "--blend-share 0.3 needs --blend with the adapter"),
        ("generate --subject x --motion y --blend b.safetensors", "a blend with b.safetensors needs an adapter"),
        (
            "generate --subject x --motion y --blend-over sequence",
            "--blend-over sequence needs",
        ),
        ("generate --subject x --motion y --blend gone", "there is no adapter 'gone'"),
        ("generate --subject x --motion y --lora gone:0.5", "there is no adapter 'gone'"),
        ("generate --subject x --motion y --lora b.safetensors:0", "must be between -2 and 2, and not 0, got 0.0"),
        ("generate --subject x --motion y --lora b.safetensors:nan", "must be between -2 and 2, and not 0, got nan"),
        (
            "generate --subject x --motion y --backbone puppet-hunyuan --lora b.safetensors --lora b.safetensors:0.5",
            "b.safetensors is named twice",
        ),
        ("generate --subject x --motion y --backbone hunyan", "there is no backbone 'hunyan'"),
    ],
)
def test_wrong_generations(line: str, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main([*shlex.split(line), "--out", str(tmp_path / "videos")]) == cli.REFUSED
    assert words in capsys.readouterr().err
    assert not (tmp_path / "videos").exists()


# ------------------------------------------------------------------------------------------------ runs, in process


def tiny_train(
    config: TrainRun, folder: Path, *, cache: Path, cancel: threading.Event, resume: bool = False
) -> Iterator[Event]:
    """A training of one number, with its state on the disk; it refuses one clip by name and trips over another."""
    if any(c.path.name == "bad.mp4" for c in config.clips):
        raise ClipError("bad.mp4 has 3 frames, 17 are needed")
    if any(c.path.name == "bug.mp4" for c in config.clips):
        raise ZeroDivisionError("inner words")
    state = folder / "state.txt"
    step = int(state.read_text()) if resume else 0
    yield Started(what="train", total=config.train.num_steps)
    while step < config.train.num_steps:
        if cancel.is_set():
            state.write_text(str(step))
            yield Saved(path=state, step=step, kind="checkpoint")
            yield Stopped(step=step)
            return
        step += 1
        time.sleep(0.001)
        yield Progress(stage="train", step=step, total=config.train.num_steps, loss=1 / step, seconds=0.25)
        if step == 3:
            yield Warned(message="rolled back")
        if config.train.score_every and step % config.train.score_every == 0:
            values = {"motion": 0.5, "species": 1.0, "error": 0.05}
            yield Scored(step=step, by="judge", score=2 / 3, best=step == 4, values=values, seconds=9.0)
        if config.method == "is stopped" and step == 5 and not resume:
            signal.raise_signal(config.train.seed)
        if config.method == "is stopped twice" and step == 5:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        if step == 4 and config.method == "diverges":
            raise TrainingDiverged("the loss became NaN at step 4; the last good state is step 0")
    path = folder / f"{config.name}.safetensors"
    path.write_text(str(step))
    best = folder / f"{config.name}-best.safetensors" if config.train.score_every else None
    if best is not None:
        best.write_text("4")
    yield Finished(path=path, seconds=1.5, best=best)


def tiny_generate(config: GenerateRun, folder: Path, *, cancel: threading.Event) -> Iterator[Event]:
    yield Started(what="generate", total=len(config.seeds))
    for index, seed in enumerate(config.seeds):
        path = folder / f"{seed}.mp4"
        path.write_bytes(b"video")
        yield Progress(stage="generate", step=index + 1, total=len(config.seeds))
        yield Sampled(path=path, prompt=Prompt(subject="a cat", motion="waves"), seed=seed)
    if config.step_cache is not None:
        yield Noted(message=f"the step cache {config.step_cache} left out 40% of the denoiser's blocks")
    yield Finished(path=folder, seconds=0.5)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, workspace: Workspace) -> Path:
    """A working folder in which trainings and generations are tiny."""
    from synmotion_core import run

    monkeypatch.setattr(run, "train", tiny_train)
    monkeypatch.setattr(run, "generate", tiny_generate)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_a_training_from_start_to_end(tiny: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(shlex.split(f"{BASE} --steps 20")) == cli.OK
    out, err = capsys.readouterr()
    assert out == "runs/w/w.safetensors\n", "the result, and nothing else"
    assert "warning: rolled back" in err
    assert "20/20" in err
    assert "finished in 2 s" in err
    assert "generate --adapter runs/w/w.safetensors" in err
    assert "\r" not in err, "no terminal, no tricks"
    assert from_dict(TrainRun, json.loads((tiny / "runs/w/run.json").read_text())) == train_run(f"{BASE} --steps 20")
    assert pace.recall(workspace, train_run(BASE)) == 0.25
    assert cli.main(shlex.split(f"plan {BASE.removeprefix('train ')} --steps 8")) == cli.OK
    assert "0.25 s a step" in capsys.readouterr().out


def test_a_finished_training_goes_by_its_name(
    tiny: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"{BASE} --steps 8 --set train.score_every=4"
    assert cli.main(shlex.split(line)) == cli.OK
    err = capsys.readouterr().err
    home = workspace.adapters
    assert f"among this machine's adapters, by the name w: {home / 'w.safetensors'}" in err
    assert {path.name for path in home.iterdir()} == {"w.safetensors", "w-best.safetensors"}
    assert named_adapter(Path("w")) == home / "w.safetensors"
    (tiny / "runs/w/state.txt").write_text("8")
    assert cli.main(shlex.split("train --resume --out runs/w")) == cli.OK
    assert "by the name w:" in capsys.readouterr().err, "the same, not a second one"
    assert cli.main(shlex.split(f"{BASE} --steps 9 --out another")) == cli.OK
    assert "by the name w-2:" in capsys.readouterr().err
    assert [(home / f"{name}.safetensors").read_text() for name in ("w", "w-2")] == ["8", "9"]


def test_an_adapter_that_cannot_be_put_there_stays_where_it_is(
    tiny: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, target: Path) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(shelf, "claim", full)
    assert cli.main(shlex.split(f"{BASE} --steps 5")) == cli.OK
    out, err = capsys.readouterr()
    assert out == "runs/w/w.safetensors\n"
    assert "could not be put into adapters/ (the disk is full); it is at runs/w/w.safetensors" in err
    assert "by the name" not in err


def test_who_is_drawn_while_it_trains_is_an_option_and_nobody_is_said(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(shlex.split(f"{BASE} --steps 5 --preset paper --steps 5")) == cli.OK
    err = capsys.readouterr().err
    assert (
        "no samples are drawn while this trains, since nobody is named: to see some every 200 steps, add --sam" in err
    )
    line = f"{BASE} --steps 5 --sample-subject 'a red cat' --sample-subject 'a bear' --out named"
    assert train_run(line.removesuffix(" --out named")).train.sample_subjects == ("a red cat", "a bear")
    assert cli.main(shlex.split(line)) == cli.OK
    assert cli.main(shlex.split(f"{BASE} --steps 5 --set train.sample_every=0 --out never")) == cli.OK
    assert "no samples" not in capsys.readouterr().err


def test_the_command_that_uses_an_adapter_draws_as_it_was_trained(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(options: str) -> GenerateRun:
        assert cli.main(shlex.split(f"{BASE} --steps 20 {options}")) == cli.OK
        words = shlex.split(capsys.readouterr().err.rpartition("Use it with:\n")[2])
        (tiny / "red-cat.png").touch()
        found = command.generate_run(PARSER.parse_args([*words[3:], "--motion", "waves", "--backbone", "hunyuanvideo"]))
        assert found.adapter is not None
        return found

    held = "--weights 4bit --text-weights 8bit --vae-tiling --gradient-checkpointing --out one"
    run = said(f"{held} --frames 33 --height 128 --width 80")
    assert run.precision == Precision(weights="4bit", text_weights="8bit", vae_tiling=True)
    assert (run.num_frames, run.height, run.width, run.images) == (33, 128, 80, ())
    run = said("--mode i2v --out two")
    assert (run.precision, run.num_frames, run.images) == (PLAIN, None, (Path("red-cat.png"),))


def test_a_folder_with_a_run_is_not_written_over(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(shlex.split(f"{BASE} --steps 5")) == cli.OK
    before = (tiny / "runs/w/w.safetensors").stat().st_mtime_ns
    assert cli.main(shlex.split(f"{BASE} --steps 9")) == cli.REFUSED
    assert "train --resume --out runs/w" in capsys.readouterr().err
    assert (tiny / "runs/w/w.safetensors").stat().st_mtime_ns == before


def test_a_refused_training_leaves_nothing_in_the_way(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(shlex.split(BASE.replace("a.mp4", "bad.mp4"))) == cli.REFUSED
    assert capsys.readouterr().err.strip() == "bad.mp4 has 3 frames, 17 are needed"
    assert not (tiny / "runs").exists()
    assert cli.main(shlex.split(f"{BASE} --steps 5")) == cli.OK


def test_a_bug_is_a_bug(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(shlex.split(BASE.replace("a.mp4", "bug.mp4"))) == cli.BUG
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "inner words" in err
    assert err.strip().endswith("This is a bug of SynMotion, not of yours; the lines above say where.")


def test_a_diverged_training_says_so_without_a_traceback(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(shlex.split(f"{BASE} --method diverges")) == cli.REFUSED
    err = capsys.readouterr().err
    assert "became NaN at step 4" in err
    assert "Traceback" not in err


def test_json_is_events_and_nothing_else(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(shlex.split(f"{BASE} --steps 4 --json")) == cli.OK
    events = [event_from_dict(json.loads(line)) for line in capsys.readouterr().out.splitlines()]
    assert [type(e).__name__ for e in events] == ["Started", *["Progress"] * 3, "Warned", "Progress", "Finished"]
    assert events[-1] == Finished(path=Path("runs/w/w.safetensors"), seconds=1.5)


def test_scores_are_lines_and_both_adapters_are_named(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"{BASE} --steps 8 --set train.score_every=4"
    assert train_run(line).train.score_every == 4
    assert cli.main(shlex.split(line)) == cli.OK
    out, err = capsys.readouterr()
    assert out.splitlines() == ["runs/w/w-best.safetensors", "runs/w/w.safetensors"], "the last one is the last line"
    made_of = "(rare motion 50 %, species 100 %, error of joints 0.05; 9.0 s)"
    assert f"step 4: score 0.667, the best so far {made_of}\nstep 8: score 0.667 {made_of}\n" in re.sub(
        r"^train .*\n", "", err, flags=re.M
    )
    assert cli.main(shlex.split(f"{line} --json --out json")) == cli.OK
    events = [event_from_dict(json.loads(line)) for line in capsys.readouterr().out.splitlines()]
    assert [e.step for e in events if isinstance(e, Scored)] == [4, 8]
    assert events[-1] == Finished(path=Path("json/w.safetensors"), best=Path("json/w-best.safetensors"), seconds=1.5)


def test_a_generation_prints_its_files(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "generate --subject 'a cat' --motion waves --seed 3 5 --out 'my videos'"
    assert cli.main(shlex.split(line)) == cli.OK
    assert capsys.readouterr().out.splitlines() == ["my videos/3.mp4", "my videos/5.mp4"]
    assert (tiny / "my videos/5.mp4").is_file()


def test_what_a_step_cache_left_out_is_said(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "generate --subject 'a cat' --motion waves --step-cache taylorseer:3"
    assert cli.main(shlex.split(line)) == cli.OK
    out, err = capsys.readouterr()
    assert out.splitlines() == ["videos/0.mp4"]
    assert "the step cache taylorseer:3 left out 40% of the denoiser's blocks\n" in err
    assert "warning" not in err
    assert cli.main(shlex.split(f"{line} --json")) == cli.OK
    events = [event_from_dict(json.loads(line)) for line in capsys.readouterr().out.splitlines()]
    assert [type(e).__name__ for e in events] == ["Started", "Progress", "Sampled", "Noted", "Finished"]


def test_two_do_not_train_in_one_folder(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from synmotion_core.locks import FileLock

    assert cli.main(shlex.split(f"{BASE} --steps 4")) == cli.OK
    before = {path.name: path.read_bytes() for path in (tiny / "runs/w").iterdir() if path.name != "owner.lock"}
    first = FileLock(tiny / "runs/w/owner.lock")
    assert first.acquire(), "given back by the run before"
    assert cli.main(shlex.split("train --resume --out runs/w")) == cli.REFUSED
    assert f"process {os.getpid()} trains in runs/w at this moment" in capsys.readouterr().err
    after = {path.name: path.read_bytes() for path in (tiny / "runs/w").iterdir() if path.name != "owner.lock"}
    assert after == before
    (tiny / "runs/v").mkdir()
    second = FileLock(tiny / "runs/v/owner.lock")
    assert second.acquire()
    assert cli.main(shlex.split(f"{BASE} --steps 4 --out runs/v")) == cli.REFUSED
    assert not (tiny / "runs/v/run.json").exists()
    second.release()
    first.release()
    (tiny / "runs/w/state.txt").write_text("4")
    assert cli.main(shlex.split("train --resume --out runs/w")) == cli.OK


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train --resume", "--resume needs the run's folder"),
        ("train --resume --out nowhere", "there is no run in nowhere"),
        ("train --resume --name gone", "there is no run in runs/gone"),
    ],
)
def test_resuming_what_is_not_there(line: str, words: str, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(shlex.split(line)) == cli.REFUSED
    assert words in capsys.readouterr().err
    assert list(tiny.iterdir()) == []


# ------------------------------------------------------------------------------------------------ Ctrl-C


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_says_how_to_go_on(
    number: signal.Signals, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    line = f"{BASE} --steps 50 --method 'is stopped' --set train.seed={int(number)} --out 'my run' --json"
    assert cli.main(shlex.split(line)) == cli.STOPPED
    assert signal.getsignal(number) == before
    out, err = capsys.readouterr()
    events = [event_from_dict(json.loads(row)) for row in out.splitlines()]
    assert events[-1] == Stopped(step=5)
    assert (tiny / "my run" / "state.txt").read_text() == "5"
    assert "stopping after this step" in err
    told = re.search(r"^  python -m synmotion_core (.*)$", err, re.M)
    assert told
    assert told[1] == "train --resume --out 'my run'"
    assert cli.main([*shlex.split(told[1]), "--json"]) == cli.OK
    again = [event_from_dict(json.loads(row)) for row in capsys.readouterr().out.splitlines()]
    assert next(e.step for e in again if isinstance(e, Progress)) == 6, "it went on where it was"
    assert again[-1] == Finished(path=Path("my run/w.safetensors"), seconds=1.5)


def test_a_second_ctrl_c_ends_at_once(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(shlex.split(f"{BASE} --method 'is stopped twice'")) == cli.STOPPED
    err = capsys.readouterr().err
    assert err.rstrip().endswith("stopped")
    assert "stopped at step" not in err
    assert not (tiny / "runs/w/state.txt").exists(), "it did not even save"


# ------------------------------------------------------------------------------------------------ the other commands


def test_plan_needs_no_weights_and_knows_what_it_does_not_know(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(shlex.split(f"plan {BASE.removeprefix('train ')}")) == cli.OK
    out = capsys.readouterr().out
    assert "1300 steps" in out
    assert "pace is not known before the first training" in out
    assert cli.main(shlex.split(f"plan {BASE.removeprefix('train ')} --json")) == cli.OK
    values = json.loads(capsys.readouterr().out)
    assert values["seconds"] is None
    assert values["parameters"] > 0


def test_a_plan_with_a_probe_knows_the_time(
    tiny: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from synmotion_core import run

    found: list[float | None] = [0.5, None]

    def probe(config: TrainRun, *, cache: Path, cancel: threading.Event) -> Any:
        assert cache == workspace.cache
        yield Progress(stage="train", step=1, total=1, seconds=0.5)
        return found.pop(0)

    monkeypatch.setattr(run, "probe", probe)
    line = shlex.split(f"plan {BASE.removeprefix('train ')} --steps 100")
    assert cli.main([*line, "--probe"]) == cli.OK
    assert "0.8 minutes of training at 0.50 s a step" in capsys.readouterr().out
    assert cli.main([*line, "--json"]) == cli.OK
    assert json.loads(capsys.readouterr().out)["seconds"] == 50, "and the next plan still does"
    assert cli.main([*line, "--probe"]) == cli.STOPPED


FITTED = '--clip \'{"path": "a.mp4", "subject": "a", "motion": "b"}\' --name w --backbone hunyuanvideo'


GENERATED = "generate --subject 'a cat' --motion walks --backbone hunyuanvideo"


def test_a_training_made_to_fit_is_saved_as_it_was_run(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(shlex.split(f"train {FITTED} --steps 5 --fit 24")) == cli.OK
    err = capsys.readouterr().err
    assert re.search(
        r"to fit 24 GiB \(\d+\.\d are needed\): --gradient-checkpointing --vae-tiling .*--weights 4bit", err
    )
    assert "the price: the denoiser's weights are rounded to 4 bits" in err
    saved = from_dict(TrainRun, json.loads((tiny / "runs/w/run.json").read_text()))
    assert saved.precision == Precision(
        weights="4bit", text_weights="4bit", vae_tiling=True, gradient_checkpointing=True
    )
    assert cli.main(shlex.split("train --resume --out runs/w --fit 24")) == cli.REFUSED
    assert "leave --fit out" in capsys.readouterr().err
    assert cli.main(shlex.split(f"train {FITTED} --out other --steps 5 --fit 1000")) == cli.OK
    assert "fits 1000 GiB as it is" in capsys.readouterr().err
    assert from_dict(TrainRun, json.loads((tiny / "other/run.json").read_text())).precision == PLAIN


@pytest.mark.parametrize("start", ["train", "plan", "generate"])
def test_fitting_needs_a_gpu_or_a_number(
    start: str, tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rest = "--subject 'a cat' --motion walks --backbone hunyuanvideo" if start == "generate" else FITTED
    assert cli.main(shlex.split(f"{start} {rest} --fit")) == cli.REFUSED
    assert "--fit finds no CUDA GPU here" in capsys.readouterr().err
    for wrong in ("0", "-1", "nan", "inf", "much"):
        with pytest.raises(SystemExit) as left:
            cli.main(shlex.split(f"{start} {rest} --fit={wrong}"))
        assert left.value.code == 2
        assert "a number of GiB above 0" in capsys.readouterr().err
    assert not (tiny / "runs").exists()


def test_a_generation_made_to_fit(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "generate --subject 'a cat' --motion walks --backbone hunyuanvideo --fit 20"
    assert cli.main(shlex.split(line)) == cli.OK
    assert "to fit 20 GiB" in capsys.readouterr().err


@pytest.mark.parametrize("start", [f"train {FITTED} --steps 5", GENERATED])
def test_what_cannot_fit_the_gpu_is_refused_before_it_begins(
    start: str, tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "card_gib", lambda: 20.0)
    assert cli.main(shlex.split(start)) == cli.REFUSED
    err = capsys.readouterr().err
    assert re.search(r"needs about \d+\.\d GiB .* 20\.0 GiB are free here: --fit, without a number, takes --", err)
    assert "--weights 4bit" in err, "the first that fits, by name"
    assert "--ignore-memory begins all the same" in err
    assert list(tiny.iterdir()) == []
    assert cli.main(shlex.split(f"{start} --fit --out fitted")) == cli.OK
    assert "warning: this" not in capsys.readouterr().err
    assert cli.main(shlex.split(f"{start} --ignore-memory --out anyway")) == cli.OK
    assert "warning: this" in capsys.readouterr().err
    monkeypatch.setattr(machine, "card_gib", lambda: None)
    assert cli.main(shlex.split(f"{start} --out nowhere")) == cli.OK, "without a GPU that is said elsewhere"


def test_a_training_that_goes_on_is_not_refused_for_its_memory(
    tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(shlex.split(f"train {FITTED} --steps 5")) == cli.OK
    (tiny / "runs/w/state.txt").write_text("2")
    monkeypatch.setattr(machine, "card_gib", lambda: 20.0)
    assert cli.main(shlex.split("train --resume --out runs/w")) == cli.OK
    assert "warning: this training needs about" in capsys.readouterr().err


class OutOfMemoryError(RuntimeError):
    """As torch's, by its name."""


@pytest.mark.parametrize("start", ["train", "generate", "plan --probe"])
def test_memory_that_was_not_enough_is_no_bug(
    start: str, tiny: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from synmotion_core import run

    def full(*_: Any, **__: Any) -> Iterator[Event]:
        yield Started(what="train", total=1)
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    for name in ("train", "generate", "probe"):
        monkeypatch.setattr(run, name, full)
    line = GENERATED if start == "generate" else f"{start} {FITTED}"
    assert cli.main(shlex.split(line)) == cli.REFUSED
    err = capsys.readouterr().err
    assert "the GPU's memory was not enough for this run" in err
    assert "--fit makes it fit in a terminal" in err
    assert ("the estimate was " in err) is ("probe" not in start)
    assert "Traceback" not in err
    assert "bug" not in err


def test_models_lists_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    from synmotion_core.backbones import SPECS
    from synmotion_core.methods import METHODS

    assert cli.main(["models"]) == cli.OK
    out = capsys.readouterr().out
    for name in [*SPECS, *METHODS]:
        assert re.search(rf"^  {re.escape(name)} ", out, re.M), name
    assert cli.main(["models", "--json"]) == cli.OK
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r.get("backbone") or r.get("method") for r in rows] == [*SPECS, *METHODS]


def test_models_say_why_a_pair_does_not_fit(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import dataclasses

    from synmotion_core.backbones import SPECS

    poor = dataclasses.replace(SPECS["puppet-hunyuan"], name="poor", features=frozenset({"attention_lora"}))
    monkeypatch.setitem(SPECS, "poor", poor)
    assert cli.main(["models"]) == cli.OK
    out = " ".join(capsys.readouterr().out.split())
    assert "synmotion needs attention_lora, free_text, token_roles; does not fit poor" in out
    assert (
        "separation needs temporal_attention; fits puppet-unet3d, modelscope-t2v-1.7b, zeroscope-v2-576w alone" in out
    )
    assert "makes t2v and i2v; 11 M parameters" in out


def test_doctor_looks_at_real_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from synmotion_core.puppets.stage import Scene, render

    good, short, broken = (tmp_path / name for name in ("good.mp4", "kurz ü.mp4", "broken.mp4"))
    scene = Scene(species="person", colour="red", background="room", motion="wave", seed=1)
    video.write(good, render(scene).frames, 8)
    video.write(short, np.zeros((5, 64, 64, 3), np.uint8), 8)
    broken.write_bytes(b"\0" * 1000)
    assert cli.main(["doctor", str(good)]) == cli.OK
    out = capsys.readouterr().out
    assert f"{good}: usable  17 frames, 8 fps, 64x64" in out
    assert cli.main(["doctor", str(good), str(short), str(broken)]) == cli.REFUSED
    out = capsys.readouterr().out
    assert f"{short}: NOT usable" in out
    assert f"{broken}: NOT usable" in out
    assert out.count("  block  ") >= 2
    assert cli.main(["doctor", "--json", str(good), str(tmp_path / "gone.mp4")]) == cli.REFUSED
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["usable"] for r in rows] == [True, False]
    assert rows[0]["info"]["num_frames"] == 17
    assert rows[1]["info"] is None
    assert cli.main(["doctor", "--frames", "5", str(short)]) == cli.REFUSED
    assert "nothing moves" in (out := capsys.readouterr().out)
    assert "too few" not in out
    assert cli.main(["doctor", str(short)]) == cli.REFUSED
    assert "or num_frames=5, the most of 4k + 1 that it has" in capsys.readouterr().out
    assert cli.main(["doctor", "--frames", "6", str(short)]) == cli.REFUSED
    assert "use 5 or 9" in capsys.readouterr().err


def phone_clips(folder: Path) -> list[Path]:
    """Two files as a camera makes them: too fast and too long; and one that is too short whatever is done."""
    frames = np.zeros((60, 64, 64, 3), np.uint8)
    frames[:] = np.linspace(0, 255, 60, dtype=np.uint8)[:, None, None, None]
    paths = [folder / name for name in ("a b.mp4", "c.mp4", "short.mp4")]
    folder.mkdir()
    for path, shown in zip(paths, (frames, frames[::-1], frames[:5]), strict=True):
        video.write(path, shown, 16)
    return paths


def typed_after(out: str) -> str:
    return out.strip().splitlines()[-1].strip()


def test_what_the_doctor_proposes_can_be_trained_on(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    *good, short = map(str, phone_clips(tiny / "clips"))
    assert cli.main(["doctor", *good, short]) == cli.REFUSED
    out = capsys.readouterr().out
    assert out.count("proposed: start_s 0, end_s 2.125, resample_fps 8") >= 2, "17 frames at 8 a second"
    assert f"left out, since nothing that is known here would help: {short}" in out
    run = parse(typed_after(out))
    assert isinstance(run, TrainRun)
    assert [(c.path, c.start_s, c.end_s, c.resample_fps) for c in run.clips] == [(Path(f), 0, 2.125, 8) for f in good]
    assert (run.clips[0].subject, run.clips[0].motion, run.name) == ("a person", "waves", "my-wave")
    loaded = load_clips(run.clips, find_spec(run.backbone).default_shape).clips
    assert [clip.frames.shape for clip in loaded] == [(17, 64, 64, 3)] * 2, "as a training reads them"

    line = ["doctor", *good, short, "--subject", "a boy", "--motion", "hops", "--write", str(tiny / "clips/index.json")]
    assert cli.main(line) == cli.REFUSED
    written = parse(typed_after(capsys.readouterr().out))
    assert isinstance(written, TrainRun)
    words = {"subject": "a boy", "motion": "hops"}
    assert list(written.clips) == [dataclasses.replace(clip, **words) for clip in run.clips]
    assert cli.main(line) == cli.REFUSED
    assert "is there already" in capsys.readouterr().err
    for wrong, said in (("clips/other.json", "called index.json"), ("elsewhere/index.json", "does not lie in")):
        assert cli.main(["doctor", *good, "--write", str(tiny / wrong)]) == cli.REFUSED
        assert said in capsys.readouterr().err
    assert not (tiny / "elsewhere").exists()


def test_the_doctor_takes_captions_for_an_index(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = list(map(str, phone_clips(tiny / "clips")))[:2]
    Path(good[0]).with_suffix(".txt").write_text("a small boy hops on the lawn")
    Path(good[1]).with_suffix(".txt").write_text("a girl hops")
    index, words = tiny / "clips" / "index.json", [("a small boy", "on the lawn"), ("a girl", "")]
    assert cli.main(["doctor", *good]) == cli.REFUSED
    assert "“a girl hops”: --motion says which words of it are the motion" in capsys.readouterr().out
    assert cli.main(["doctor", *good, "--motion", "hops", "--json"]) == cli.REFUSED
    assert json.loads(capsys.readouterr().out.splitlines()[0])["caption"] == "a small boy | hops | on the lawn"
    for more in ([], ["--write", str(index)]):
        assert cli.main(["doctor", *good, "--motion", "hops", *more]) == cli.REFUSED
        out = capsys.readouterr().out
        assert "caption  a small boy | hops | on the lawn" in out
        run = parse(typed_after(out))
        assert isinstance(run, TrainRun)
        assert [(c.subject, c.setting) for c in run.clips] == words
        assert {(c.motion, c.end_s, c.resample_fps) for c in run.clips} == {("hops", 2.125, 8)}


def test_the_doctor_looks_for_the_shape_that_is_trained(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fast, *_ = map(str, phone_clips(tiny / "clips"))
    assert cli.main(["doctor", fast, "--frames", "29"]) == cli.REFUSED
    run = parse(typed_after(capsys.readouterr().out))
    assert isinstance(run, TrainRun)
    assert (run.num_frames, run.clips[0].end_s) == (29, 3.625)
    assert cli.main(["doctor", fast, "--frames", "18"]) == cli.REFUSED
    assert "got 18: use 17 or 21" in capsys.readouterr().err
    assert cli.main(["doctor", fast, "--json"]) == cli.REFUSED
    (row,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert row["proposed"] == {"start_s": 0.0, "end_s": 2.125, "resample_fps": 8.0}


def test_all_clips_are_retimed_by_one_option() -> None:
    line = f'{BASE} --resample-fps 8 --clip \'{{"path": "b.mp4", "resample_fps": 4}}\''
    run = train_run(line)
    assert sorted((c.path.name, c.resample_fps) for c in run.clips) == [("a.mp4", 8), ("b.mp4", 4)]
    assert parse(command.same_command(run)) == run
    with pytest.raises(ConfigError, match=r"--resample-fps 0: .*above 0 and at most"):
        train_run(f"{BASE} --resample-fps 0")


def test_bench_prints_what_its_suite_yields(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from synmotion_core.evaluation import bench
    from synmotion_core.evaluation.figures import Figure

    asked = {}

    def suite(*, motions: Any, seeds: Any, num_clips: int = 3) -> Iterator[Figure]:
        asked.update(motions=motions, seeds=seeds, num_clips=num_clips)
        yield Figure(name="some.figure", value=0.5, low=0.25, high=0.75, n=num_clips, seeds=(7,), seconds=1.0)

    monkeypatch.setitem(bench.SUITES, "methods", suite)
    line = shlex.split("bench run methods --motions wave squat --seeds 7 8 --set num_clips=9")
    assert cli.main(line) == cli.OK
    assert re.match(r"some\.figure +0\.5 +\[0\.25, 0\.75\] +n=9 +seeds=7 +1 s\n$", capsys.readouterr().out)
    assert asked == {"motions": ["wave", "squat"], "seeds": [7, 8], "num_clips": 9}
    assert cli.main([*line, "--json"]) == cli.OK
    assert json.loads(capsys.readouterr().out)["high"] == 0.75
    assert cli.main(["bench", "run", "methods", "--set", "clips=9"]) == cli.REFUSED
    assert "suite 'methods' has no setting 'clips'" in capsys.readouterr().err


def test_a_suite_s_refusal_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "run", "judge", "--motions", "wave"]) == cli.REFUSED
    assert "leave --motions out" in capsys.readouterr().err


def test_prior_draws_into_the_cache(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from synmotion_core import run

    def draw(config: TrainRun, cache: Path, *, cancel: threading.Event) -> Iterator[Event]:
        path = cache / "priors" / "1.mp4"
        yield Sampled(path=path, prompt=Prompt(subject="a cat", motion="walks"), seed=config.priors.seed, adapted=False)
        yield Finished()

    monkeypatch.setattr(run, "draw_priors", draw)
    assert cli.main(shlex.split(f"prior {BASE.removeprefix('train ')}")) == cli.OK
    out, err = capsys.readouterr()
    assert out == f"{workspace.cache}/priors/1.mp4\n"
    assert f"are in {workspace.cache / 'priors'}" in err


# ------------------------------------------------------------------------------------------------ help


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_help_has_examples_that_parse(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--help"])
    assert caught.value.code == 0
    out = capsys.readouterr().out
    examples = re.findall(r"^  python -m synmotion_core (.*?)(?:   .*)?$", out, re.M)
    assert examples
    for line in examples:
        args = PARSER.parse_args(shlex.split(line))
        assert args.command == name


def test_help_loads_nothing_heavy() -> None:
    code = """
    import sys
    from synmotion_core import cli
    try:
        cli.main(["--help"])
    except SystemExit:
        pass
    heavy = {"torch", "numpy", "cv2", "diffusers", "transformers", "gradio", "huggingface_hub"} & set(sys.modules)
    sys.exit(f"loaded {heavy}" if heavy else 0)
    """
    command_line = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_a_closed_pipe_is_no_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(sys, "stdout", os.fdopen(writer, "w", buffering=1))
    assert cli.main(["models"]) == cli.STOPPED
    assert "Traceback" not in capsys.readouterr().err


def test_a_console_that_lacks_letters_shows_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = a_folder(tmp_path, "手.mp4") / "手.mp4"
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    assert cli.main(["doctor", str(file)]) == cli.REFUSED
    assert b"\\u624b.mp4: NOT usable" in raw.getvalue()


# ------------------------------------------------------------------------------------------------ the progress line


class Terminal(io.StringIO):
    encoding = "utf-8"

    def __init__(self, tty: bool = True) -> None:
        super().__init__()
        self.tty = tty

    def isatty(self) -> bool:
        return self.tty

    def screen(self) -> list[str]:
        """What a person sees: each line after its last return."""
        return [line.split("\r")[-1].rstrip() for line in self.getvalue().split("\n")]


@pytest.fixture(autouse=True)
def _eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def shown(terminal: Terminal, events: list[Progress], step_s: float = 1.0) -> Terminal:
    now = [0.0]
    line = ProgressLine(terminal, clock=lambda: now[0])
    for event in events:
        now[0] += step_s
        line.show(event)
    line.close()
    return terminal


def steps(first: int, last: int, total: int, stage: str = "train") -> list[Progress]:
    return [Progress(stage=stage, step=i, total=total, loss=0.5) for i in range(first, last + 1)]


def test_doctests() -> None:
    assert doctest.testmod(progress_line).failed == 0


def test_on_a_terminal_it_is_one_line_a_stage() -> None:
    screen = shown(Terminal(), [*steps(1, 4, 4, "encode"), *steps(1, 100, 200)], step_s=2.0).screen()
    assert [line.split()[0] for line in screen if line] == ["encode", "train"]
    assert screen[1].endswith("100/200  loss 0.5000  2.00 s a step  3 min 20 s left")
    assert "━" * 7 + "─" * 8 in screen[1]


def test_a_fetch_is_told_in_gib() -> None:
    events = [Progress(stage="fetch", step=step * 2**28, total=27 * 2**30, note="wan2.1-t2v-1.3b") for step in (0, 1)]
    (line, _) = shown(Terminal(), events, step_s=8.0).screen()
    assert line.startswith("fetch ")
    assert "0.2 of 27.0 GiB  32.0 MiB a second  14 min 16 s left" in line
    assert "0.2 of 27.0 GiB" in shown(Terminal(tty=False), events, step_s=31.0).getvalue()
    assert line.endswith("wan2.1-t2v-1.3b")


def test_in_a_log_it_is_a_line_a_tenth() -> None:
    terminal = shown(Terminal(tty=False), steps(1, 1000, 1000), step_s=0.01)
    lines = terminal.getvalue().splitlines()
    assert 10 <= len(lines) <= 12
    assert lines[-1].startswith("train     1000/1000")
    assert "\r" not in terminal.getvalue()


def test_a_slow_log_still_speaks() -> None:
    lines = shown(Terminal(tty=False), steps(1, 50, 10_000), step_s=10.0).getvalue().splitlines()
    assert 15 <= len(lines) <= 18, "every half a minute"


def test_a_terminal_without_the_signs() -> None:
    terminal = Terminal()
    terminal.encoding = "ascii"
    assert "#" * 3 + "-" * 27 in shown(terminal, steps(1, 1, 10)).getvalue()


def test_a_rollback_starts_the_pace_anew() -> None:
    now = [0.0]
    terminal = Terminal()
    line = ProgressLine(terminal, clock=lambda: now[0])
    for step, at in [(1, 0.0), (2, 1.0), (3, 2.0), (2, 100.0), (3, 104.0)]:
        now[0] = at
        line.show(Progress(stage="train", step=step, total=10))
    line.close()
    assert "4.00 s a step" in terminal.screen()[0]


def test_how_weights_are_held_is_said_by_options_of_their_own(tmp_path: Path) -> None:
    asked = train_run(f"{BASE} --weights 8bit --text-weights 4bit --vae-tiling --gradient-checkpointing")
    held = Precision(weights="8bit", text_weights="4bit", vae_tiling=True, gradient_checkpointing=True)
    assert asked.precision == held
    saved = tmp_path / "run.json"
    saved.write_text(json.dumps(to_dict(asked)))
    changed = train_run(f"train --config {saved} --name v --no-gradient-checkpointing --text-weights bf16")
    assert changed.precision == Precision(weights="8bit", vae_tiling=True), "the options win, the rest stays"
    assert train_run(BASE).precision == PLAIN
    parsed = build_parser().parse_args(
        shlex.split("generate --subject 'a cat' --motion walks --weights fp8 --offload group")
    )
    assert command.generate_run(parsed).precision == Precision(weights="fp8", offload="group")
    with pytest.raises(ConfigError, match="offload 'model' moves plain weights"):
        train_run(f"{BASE} --weights 4bit --offload model")


# ------------------------------------------------------------------------------------------------ the pace


def test_the_pace_is_of_the_same_kind_of_training(workspace: Workspace) -> None:
    run = train_run(BASE)
    assert pace.recall(workspace, run) is None
    pace.remember(workspace, run, 0.125)
    assert pace.recall(workspace, train_run(f"{BASE} --steps 9 --name v")) == 0.125
    assert pace.recall(workspace, train_run(f"{BASE} --set batch_size=2")) is None
    assert pace.recall(workspace, train_run(f"{BASE} --method lora")) is None
    assert pace.recall(workspace, train_run(f"{BASE} --gradient-checkpointing")) is None
    assert pace.recall(workspace, train_run(f"{BASE} --frames 13")) is None
    assert pace.recall(workspace, train_run(f"{BASE} --frames 17 --set batch_size=4")) == 0.125, "as it would be anyway"


def test_the_pace_of_a_generation_is_from_its_first_step_to_its_last_video(workspace: Workspace) -> None:
    now = [0.0]
    run = GenerateRun(subjects=("a cat", "a bear"), motion="walks")
    watch = pace.Stopwatch(run, clock=lambda: now[0])
    for at, event in (
        (0.0, Started(what="generate", total=10)),
        (60.0, Progress(stage="generate", step=1, total=10)),  # before it, the weights and the prompts were read
        (69.0, Progress(stage="generate", step=10, total=10)),
        (76.0, Sampled(path=Path("a.mp4"), prompt=Prompt(subject="a cat", motion="walks"), seed=0)),
        (78.0, Sampled(path=Path("b.mp4"), prompt=Prompt(subject="a bear", motion="walks"), seed=0)),
    ):
        now[0] = at
        watch.see(event)
    watch.note(workspace)
    assert pace.recall(workspace, run) == 10.0, "18 s are nine tenths of the two"
    same = dataclasses.replace(run, subjects=("a frog",), seeds=(3, 4), strength=0.5, num_inference_steps=20)
    assert pace.recall(workspace, same) == 10.0
    for other in ({"num_inference_steps": 8}, {"guidance_scale": 1.0}, {"num_frames": 13}, {"eta": 0.0}):
        assert pace.recall(workspace, dataclasses.replace(run, **other)) is None
    assert pace.recall(workspace, train_run(BASE)) is None


def test_each_phase_counts_as_often_as_it_comes() -> None:
    steps = [("motion", 2.0), ("motion", 2.0), ("motion", 50.0), ("prior", 4.0)]
    assert pace.typical(steps) == 2.5
    assert pace.typical(steps, {"motion": 0.5, "prior": 0.5}) == 3.0
    assert pace.typical(steps[:3], {"motion": 0.5, "prior": 0.5}) == 2.0, "what was not seen counts as the rest"
    assert pace.typical([(None, 0.1), (None, 0.1)]) == 0.1


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"puppet-hunyuan|synmotion|4|bf16": "fast"}', '{"x": NaN}'])
def test_a_damaged_pace_is_none(damage: str, workspace: Workspace) -> None:
    (workspace.root / "pace.json").write_text(damage)
    run = train_run(BASE)
    assert pace.recall(workspace, run) is None
    pace.remember(workspace, run, 0.5)
    assert pace.recall(workspace, run) == 0.5


def test_a_pace_that_cannot_be_written_fails_nothing(workspace: Workspace) -> None:
    (workspace.root / "pace.json").mkdir()
    pace.remember(workspace, train_run(BASE), 0.5)
    assert pace.recall(workspace, train_run(BASE)) is None
