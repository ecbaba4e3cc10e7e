"""The options of every command and the help that people read. Nothing but argparse, so that `--help` answers at once.

What the options mean is said by command.py (train, generate and those that take the same) and cli.py (the others).
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from synmotion_core.command import PROGRAM
from synmotion_core.config import TrainRun
from synmotion_core.doctor_options import add_doctor
from synmotion_core.hosting_options import add_remote, add_space
from synmotion_core.precision import CHOICES
from synmotion_core.presets import NAMES
from synmotion_core.training.settings import TrainConfig

_BACKBONE = TrainRun.__dataclass_fields__["backbone"].default
_METHOD = TrainRun.__dataclass_fields__["method"].default

_ABOUT = """\
Learn one motion from a few clips, then let any subject do it.

examples:
  {p} train --clips assets/clips --motion waves --name my-wave
  {p} generate --adapter runs/my-wave/my-wave.safetensors --subject "a red cat" --out videos
  {p} models                      what there is to choose from
  {p} train --help                each command has its own examples
"""

_TRAIN = """\
Learn a motion from clips. Writes into --out (default: runs/NAME): the adapter NAME.safetensors, checkpoints, samples
and run.json, the run's settings. The adapter is put among this machine's, too, where it goes by its name. Ctrl-C saves
and stops; --resume goes on as if it had not stopped.

examples:
  {p} train --clips assets/clips --motion waves --name my-wave
  {p} train --clips assets/clips --motion waves --name w1 --preset first-look
  {p} train --clips a.mp4 b.mp4 --subject "a person" --motion "does a cartwheel" --name cartwheel --steps 600
  {p} train --clips assets/clips --motion waves --name w2 --set train.learning_rate=0.002 --set method.rank=8
  {p} train --clips assets/clips --motion waves --name w3 --sample-subject "a red cat" --sample-subject "a bear"
  {p} train --clips clips --motion waves --name w4 --backbone wan2.1-t2v-14b --fit
  {p} train --resume --out runs/my-wave
"""

_GENERATE = """\
Make videos: every --subject times every --seed, as H.264 files in --out. Each path is printed when its file is there.
No video that is there is written over: the new one's name is numbered.

examples:
  {p} generate --adapter runs/my-wave/my-wave.safetensors --subject "a red cat" --out videos
  {p} generate --adapter my-wave.safetensors --subject "a red cat" --subject "a bear" --seed 0 1 2 --compare
  {p} generate --subject "a blue robot" --motion walks --setting "in the snow" --out videos
  {p} generate --adapter my-wave.safetensors --subject "a red cat" --image cat.png --out videos
  {p} generate --adapter my-squat.safetensors --blend my-wave.safetensors --blend-over sequence --subject "a red cat"
"""

_PRIOR = """\
Draw the subject prior videos of a run now, into the cache that trainings share: the frozen backbone shows subjects
doing common motions, so that the method learns the motion and not the person. Takes the options of `train`; a training
draws what is missing by itself. Prints every file, also those that were there; --json names their seeds, and
priors.left_out has others drawn in place of some.

examples:
  {p} prior --clips assets/clips --motion waves --name my-wave --set priors.max_videos=24
  {p} prior --clips assets/clips --motion waves --name my-wave --set 'priors.left_out=[7]'
"""

_PLAN = """\
Say what a training will take: memory, disk and download, time, without loading any weights. Takes the options of
`train`. The time is known once a training with the same backbone, method and batch size has run on this machine, or
with --probe, which loads the backbone and times a few steps.

examples:
  {p} plan --clips assets/clips --motion waves --name my-wave --steps 600
  {p} plan --clips assets/clips --motion waves --name my-wave --probe
  {p} plan --clips clips --motion waves --name w4 --backbone wan2.1-t2v-14b --fit 24
"""

_BENCH = """\
Measure. One figure a line: name, value, 95 % interval, number of observations, seeds, seconds. The README's figures
come from here.

examples:
  {p} bench run judge                                      the yardstick itself
  {p} bench run backbone                                   what the shipped backbone draws
  {p} bench run methods --motions wave squat --seeds 0 1   methods beside each other
  {p} bench run methods --motions squat --seeds 0 --set train.num_steps=800 --set synmotion.alpha=0.5
  {p} bench run methods --motions squat --set cache=/tmp/bench --set sampling.eta=0 --set num_videos=84
  {p} bench run sampling --set 'variants=[{{"step_cache": "first-block:0.2"}}]'    what a sampling setting costs
  {p} bench run separation-one-shot --out results           a suite that ships, with a report of it
  {p} bench report results                                 the report anew
  {p} bench compare results-of-yesterday results            what changed, video by video
  {p} bench merge part-0 part-1 --out results               a suite that was run seed by seed, as one
  {p} bench study results tap director --set pairs=20       a page on which people compare two rows, blind
  {p} bench answers results answers.csv                     what they said
  {p} bench run step --json                                where a training step's time goes
  {p} bench run memory --set 'rows=["wan2.1-t2v-1.3b"]'     what a large backbone works with, without its weights
"""

_MODELS = """\
List the backbones and methods, one line each, and why a pair does not fit.

example:
  {p} models
"""


_IMPORT = """\
Take in a SynMotion adapter that came as a file: mailed, downloaded, trained on another machine. It is verified as one
from the Hub is, every key against the backbone's layers, and copied to this machine's adapters, where --adapter and the
page find it by its name. For a LoRA of another program: `convert`.

examples:
  {p} import Downloads/my-wave.safetensors
  {p} import wave.safetensors --name wave-of-ann      then: generate --adapter wave-of-ann
"""

_CONVERT = """\
Make an adapter of ours from a LoRA file of another program: diffusers and PEFT, kohya and musubi-tuner, ComfyUI and
diffusion-pipe, DiffSynth, the official repositories; for the HunyuanVideo and Wan families. Every key of the file finds
its layer, or the file is refused with the keys that do not. No weights are needed. Of two experts: a file and an
--expert for each, in the same order, or for one of them.

examples:
  {p} convert squish.safetensors --backbone wan2.1-t2v-14b --subject "a cake" --motion "is squished" --name squish
  {p} convert h.safetensors --expert high_noise --backbone wan2.2-t2v-a14b --subject "a cat" --motion jumps --name j
"""

_CONVERT_OFFICIAL = """\
Make an adapter of ours from a motion's folder of the official SynMotion repository: dual_embedding.pth and
visual_adapter.safetensors. Their keys are not published: --inventory lists what is there; what cannot be mapped is
refused with that list. The .pth is read in a process of its own, with limits, and never runs code.

examples:
  {p} convert-official SynMotion/wave --inventory
  {p} convert-official SynMotion/wave --subject "a person" --motion "waves" --name official-wave
"""

_EXPORT = """\
Write the LoRA part of an adapter for other programs. What a SynMotion adapter learnt besides, its embeddings, does not
travel: other programs have no place for it, and without it the motion is weaker.

examples:
  {p} export my-wave.safetensors --format diffusers --out pytorch_lora_weights.safetensors
  {p} export my-wave.safetensors --format comfyui --out my-wave-comfyui.safetensors
  {p} export my-wave.safetensors --out lora.safetensors --measure --subjects "a red cat" "a robot"
"""


_SEARCH = """\
List motion adapters on the Hugging Face Hub: repositories with the tag motion-adapter, the most fetched first.

examples:
  {p} search
  {p} search cartwheel --backbone wan2.1-t2v-14b
"""

_PULL = """\
Fetch an adapter from the Hugging Face Hub to this machine's adapters, at a fixed revision. Size and licence are said
before anything is fetched; only the adapter, its words and some videos of its page are, and every key of it is held
against the backbone's layers. Private ones need HF_TOKEN.

examples:
  {p} pull ann/my-wave
  {p} pull ann/my-wave --revision 4f2c1ab --name wave-of-ann --yes      then: generate --adapter wave-of-ann
"""

_PUSH = """\
Share an adapter on the Hugging Face Hub, private unless --public is said. Every file is listed before any is sent: the
card, the adapter, its LoRA alone where the base's diffusers pipeline loads it by the repository's name (--export none
leaves it out), and what --video and --export add. Needs HF_TOKEN, with the right to write. A push that broke sends only
what is missing.

examples:
  {p} push my-wave ann/my-wave
  {p} push my-wave ann/my-wave --video videos/a-red-cat-waves-0.mp4 "a red cat waves" --public
  {p} push my-wave ann/my-wave --dry-run                  the card, to be changed and given with --card FILE
"""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; the parsed `command` is the name of one."""
    parser = _parser(argparse.ArgumentParser, _ABOUT, prog=PROGRAM)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, dest="command")

    def add(name: str, text: str, summary: str) -> argparse.ArgumentParser:
        return _parser(commands.add_parser, text, name=name, help=summary)

    train = add("train", _TRAIN, "learn a motion from clips")
    add_train_arguments(train)
    train.add_argument("--out", type=Path, metavar="FOLDER", help="where the run lives (default: runs/NAME)")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out")
    change = "change what costs least until it fits so much GPU memory (without a number: the GPU's own), and say what"
    _add_fit(train, change)
    _add_ignore_memory(train)

    generate = add("generate", _GENERATE, "make videos with or without an adapter")
    add_generate_arguments(generate)
    where = "for the videos (default: %(default)s)"
    generate.add_argument("--out", type=Path, metavar="FOLDER", default=Path("videos"), help=where)
    _add_fit(generate, change)
    _add_ignore_memory(generate)

    prior = add("prior", _PRIOR, "draw the subject prior videos of a run")
    add_train_arguments(prior)

    plan = add("plan", _PLAN, "what a training will take")
    add_train_arguments(plan)
    _add_fit(plan, "GPU memory that it should fit (without a number: the GPU's own): says what would have to change")
    text = "load the backbone and time a few real steps"
    plan.add_argument("--probe", action="store_true", help=text)

    bench = add("bench", _BENCH, "measure: judge, backbone, methods, sampling, step, memory, suites")
    what = ["run", "report", "compare", "merge", "study", "answers"]
    bench.add_argument("action", choices=what, help="measure; else about what was measured")
    text = "judge, backbone, methods, sampling, step, memory; one that ships, as separation-one-shot; or a .yaml file"
    bench.add_argument("suite", metavar="SUITE", help=f"{text}; else a folder that --out made")
    text = "compare, merge: the other folders; study: two rows; answers: people's CSV files"
    bench.add_argument("more", metavar="MORE", nargs="*", help=text)
    text = "a folder for results, their videos and a report (methods, suites that are files, and merge)"
    bench.add_argument("--out", type=Path, metavar="FOLDER", help=text)
    bench.add_argument("--motions", nargs="+", metavar="MOTION", help="only these (suites methods and step)")
    bench.add_argument("--seeds", nargs="+", type=int, metavar="N", help="repeat with these seeds")
    _add_settings(
        bench, "a setting of the suite, for methods also train.KEY, sampling.KEY and METHOD.KEY; may be repeated"
    )

    doctor = add_doctor(add, _BACKBONE)
    add_shape(doctor)

    models = add("models", _MODELS, "list backbones and methods")

    taken = add("import", _IMPORT, "take in a SynMotion adapter that came as a file")
    taken.add_argument("file", type=Path, metavar="FILE", help="safetensors")
    taken.add_argument("--name", help="of the adapter here (default: the file's, numbered where it is taken)")

    convert = add("convert", _CONVERT, "use a LoRA file of another program")
    convert.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="safetensors, or a list in .pt; two for two experts"
    )
    convert.add_argument("--backbone", required=True, help="what it was trained on, see `models`")
    text = "whose each file is, of a backbone with two experts, in the order of the files"
    convert.add_argument("--expert", nargs="+", choices=["high_noise", "low_noise"], help=text)
    text = "the alpha that it was trained with, where the file does not say it (default: the rank)"
    convert.add_argument("--alpha", type=float, metavar="A", help=text)
    official = add("convert-official", _CONVERT_OFFICIAL, "use an adapter of the official SynMotion repository")
    official.add_argument("folder", type=Path, metavar="FOLDER", help="one motion's")
    official.add_argument("--backbone", default="hunyuanvideo-i2v", help="(default: %(default)s)")
    official.add_argument("--inventory", action="store_true", help="only list what the files hold")
    for sub in (convert, official):
        _add_made_elsewhere(sub, required=sub is convert)

    export = add("export", _EXPORT, "write an adapter's LoRA for other programs")
    export.add_argument("adapter", type=Path, metavar="ADAPTER")
    export.add_argument(
        "--format", choices=["diffusers", "comfyui"], default="diffusers", help="(default: %(default)s)"
    )
    export.add_argument("--out", type=Path, metavar="FILE", required=True, help="what to write, safetensors")
    text = "which of two experts: other programs take a file for each"
    export.add_argument("--expert", choices=["high_noise", "low_noise"], help=text)
    text = "in which the tensors are written (default: the adapter's own, or fp32 where alpha / rank would be rounded)"
    export.add_argument("--dtype", choices=["bf16", "fp16", "fp32"], help=text)
    text = "say how much of what the adapter changes the file keeps; draws with the backbone, which takes a while"
    export.add_argument("--measure", action="store_true", help=text)
    text = "who does the motion where it is measured (default: some that the backbone draws well)"
    export.add_argument("--subjects", nargs="+", metavar="WHO", default=[], help=text)
    _add_precision(export)

    _add_sharing(add)
    add_space(add)
    add_remote(add, _parser, add_train_arguments)

    events = "print events as JSON lines on standard output"
    rows = "print JSON lines"
    about = {train: events, generate: events, prior: events, plan: "print one JSON object"}
    shared = (commands.choices[name] for name in ("search", "pull", "push"))
    exchange = dict.fromkeys((taken, convert, official, export, *shared), "print one JSON object")
    for sub, text in (about | exchange | {bench: rows, doctor: rows, models: rows}).items():
        sub.add_argument("--json", action="store_true", help=text)
        sub.add_argument("-v", "--verbose", action="store_true", help="log what is going on")
    return parser


def _add_sharing(add: Any) -> None:
    search = add("search", _SEARCH, "find motion adapters on the Hugging Face Hub")
    search.add_argument("words", nargs="*", metavar="WORDS", help="what their names hold")
    search.add_argument("--backbone", help="only for this one, see `models`")
    search.add_argument("--limit", type=int, default=30, metavar="N", help="how many (default: %(default)s)")
    pull = add("pull", _PULL, "fetch an adapter from the Hub")
    pull.add_argument("repo", metavar="OWNER/NAME")
    pull.add_argument("--revision", metavar="R", help="a commit, a tag or a branch (default: the newest commit)")
    pull.add_argument("--file", metavar="FILE", help="which, where the repository holds several adapters")
    pull.add_argument("--name", help="of the adapter here (default: its file's)")
    push = add("push", _PUSH, "share an adapter on the Hub")
    push.add_argument("adapter", type=Path, metavar="ADAPTER", help="a file, or the name of one of this machine's")
    push.add_argument("repo", metavar="OWNER/NAME", help="is made where it is not there")
    text = "a video for the card, with the words that it was asked for with; may be repeated"
    push.add_argument("--video", nargs=2, action="append", default=[], metavar=("FILE", "WORDS"), help=text)
    text = "put the LoRA alone beside it, for other programs (default: diffusers where the base's pipeline loads it)"
    push.add_argument("--export", nargs="+", choices=["diffusers", "comfyui", "none"], help=text)
    push.add_argument("--card", type=Path, metavar="FILE", help="a card of your own, instead of the generated one")
    push.add_argument("--public", action="store_true", help="for everybody to see (default: private)")
    push.add_argument("--dry-run", action="store_true", help="print the card and list the files; nothing is sent")
    for sub in (pull, push):
        sub.add_argument("--yes", action="store_true", help="do not ask")


def _add_made_elsewhere(parser: argparse.ArgumentParser, *, required: bool) -> None:
    text = 'who moves in what it was trained on, for example "a person"'
    parser.add_argument("--subject", required=required, metavar="WORDS", help=text)
    text = "what happens: the words to generate with, with a trigger word where it has one"
    parser.add_argument("--motion", required=required, metavar="WORDS", help=text)
    parser.add_argument("--name", help="of the adapter: its file goes to this machine's adapters")
    parser.add_argument("--out", type=Path, metavar="FILE", help="or the file itself")
    parser.add_argument("--mode", choices=["t2v", "i2v"], help="what it was trained on (default: the backbone's)")
    parser.add_argument("--ignore-unmatched", action="store_true", help="leave out keys that have no place, and say so")
    parser.add_argument("--keys", action="store_true", help="list every key and where it goes")


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that make a TrainRun; used by every command that looks at one."""
    group = parser.add_argument_group("clips")
    text = "video files, or folders of them, with or without an index.json or captions (.txt, .jsonl) around --motion"
    group.add_argument("--clips", nargs="+", metavar="PATH", type=Path, help=text)
    text = """one clip with its own words or cut: '{"path": "a.mp4", "start_s": 1, "end_s": 3.125}'; may be repeated"""
    group.add_argument("--clip", action="append", metavar="JSON", default=[], help=text)
    text = "re-time the clips that say no rate of their own, at their speed, to this many frames a second"
    group.add_argument("--resample-fps", type=float, metavar="FPS", help=text)
    group.add_argument("--subject", metavar="WORDS", help='who moves in the clips, for example "a person"')
    text = 'what happens, as a verb, for example "waves"; with an index of several motions, which one'
    group.add_argument("--motion", metavar="WORDS", help=text)
    group = parser.add_argument_group("run")
    group.add_argument("--name", help="of the run and of its adapter's file")
    group.add_argument("--backbone", help=f"see `models` (default: {_BACKBONE})")
    text = "what is trained: videos from text (t2v, the default) or from a first image (i2v)"
    group.add_argument("--mode", choices=["t2v", "i2v"], help=text)
    group.add_argument("--method", help=f"see `models` (default: {_METHOD})")
    group.add_argument("--steps", type=int, metavar="N", help=f"training steps (default: {TrainConfig().num_steps})")
    text = 'whom samples show doing the motion while it trains, for example "a red cat"; may be repeated'
    group.add_argument("--sample-subject", action="append", metavar="WORDS", dest="sample_subjects", help=text)
    text = "first-look, paper or best: steps, samples, scores, and what prior steps aim at; other options win over it"
    group.add_argument("--preset", choices=list(NAMES), metavar="PRESET", help=text)
    add_shape(group)
    _add_settings(group, "any other setting: train.KEY, priors.KEY or method.KEY; may be repeated")
    text = "start from a saved run (every training saves one as run.json); other options win over it"
    group.add_argument("--config", metavar="RUN.JSON", type=Path, help=text)
    memory = _add_precision(parser)
    text = "compute each block again in the backward pass: less memory, a third more time"
    memory.add_argument("--gradient-checkpointing", action=argparse.BooleanOptionalAction, help=text)


def add_generate_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that make a GenerateRun."""
    group = parser.add_argument_group("what")
    text = "an adapter (.safetensors), or the name of one of this machine's; without one, the base alone"
    group.add_argument("--adapter", type=Path, metavar="FILE", help=text)
    text = 'who moves, for example "a red cat"; may be repeated'
    group.add_argument("--subject", action="append", metavar="WORDS", dest="subjects", help=text)
    text = "a picture (PNG, JPEG, WebP) that the subject's videos begin with; may be repeated, one a subject"
    group.add_argument("--image", action="append", metavar="FILE", type=Path, dest="images", help=text)
    group.add_argument("--motion", metavar="WORDS", help="what happens (default: what the adapter has learnt)")
    group.add_argument("--setting", metavar="WORDS", help='where, for example "in the snow"')
    group = parser.add_argument_group("how")
    text = "one video for each subject and seed (default: 0)"
    group.add_argument("--seed", type=int, nargs="+", metavar="N", dest="seeds", help=text)
    text = "of the adapter: 0 is the base, 1 as trained, up to 2 (default: 1)"
    group.add_argument("--strength", type=float, metavar="S", help=text)
    text = "share of the steps, 0 to 1, in which the adapter works; the base goes on alone after them (default: 1)"
    group.add_argument("--adapter-until", type=float, metavar="T", help=text)
    text = "blend this adapter's motion in: a file, or the name of one of this machine's; takes twice the time"
    group.add_argument("--blend", type=Path, metavar="FILE", help=text)
    text = "how much of it, 0 to 1: 0 is --adapter alone, 1 --blend alone (default: 0.5)"
    group.add_argument("--blend-share", type=float, metavar="W", help=text)
    text = "both motions at once, or first --adapter's and then --blend's (default: mixed)"
    group.add_argument("--blend-over", choices=["mixed", "sequence"], help=text)
    text = "a LoRA (file, or name of one here) beneath all else, with strength S (default: 1); may be repeated"
    group.add_argument("--lora", action="append", metavar="FILE[:S]", dest="loras", help=text)
    _add_settings(group, "a setting of the adapter's method that no training sees, method.KEY; may be repeated")
    text = "how much of the noise that videos begin with is --noise-clip's, 0 to 1: its layout and some of its motion"
    group.add_argument("--noise-prior", type=float, metavar="P", help=text)
    text = "a video of the frames and rate of what is drawn, for --noise-prior; a part of one is JSON, as train --clip"
    group.add_argument("--noise-clip", metavar="FILE", help=text)
    group.add_argument("--compare", action="store_true", help="also generate the base with the same seeds")
    group.add_argument("--steps", type=int, metavar="N", help="sampling steps (default: the backbone's own)")
    text = "guidance scale, of both experts where a backbone has two (default: the backbone's own)"
    group.add_argument("--guidance", "--guidance-scale", type=float, metavar="G", dest="guidance", help=text)
    group.add_argument(
        "--guidance-until",
        type=float,
        metavar="S",
        help="noise level, 0 to 1, below which nothing guides (default: the backbone's own)",
    )
    group.add_argument(
        "--eta", type=float, metavar="E", help="share of fresh noise in a step, 0 to 1 (default: the backbone's own)"
    )
    text = "embedded guidance, of backbones that are distilled for it (default: the backbone's own)"
    group.add_argument("--embedded-guidance", type=float, metavar="G", help=text)
    text = "what guidance leads away from (default: the backbone's own)"
    group.add_argument("--negative-prompt", metavar="WORDS", help=text)
    text = "shift of the noise levels: larger spends more steps on noise (default: the backbone's own)"
    group.add_argument("--flow-shift", type=float, metavar="A", help=text)
    text = (
        "take up earlier steps where they hardly differ, which is faster and changes videos: first-block:T leaves out "
        "what changed by at most the share T (0 to 1, default 0.1), taylorseer:N runs every N-th step (default 2)"
    )
    group.add_argument("--step-cache", metavar="KIND[:X]", help=text)
    add_shape(group)
    group.add_argument("--backbone", help="see `models` (default: the adapter's)")
    _add_precision(parser)


def add_shape(group: Any) -> None:
    """Of the videos, trained on or drawn; what a backbone takes it says itself."""
    own = "(default: the backbone's own)"
    group.add_argument("--frames", type=int, metavar="N", dest="num_frames", help=f"frames a video {own}")
    for side in ("height", "width"):
        group.add_argument(f"--{side}", type=int, metavar="PX", help=f"of a video, in pixels {own}")


def _add_precision(parser: argparse.ArgumentParser) -> Any:
    group = parser.add_argument_group("memory")
    text = "how the transformer's weights are held (default: bf16)"
    group.add_argument("--weights", choices=CHOICES["weights"], help=text)
    text = "the same of the largest text encoder (default: bf16)"
    group.add_argument("--text-weights", choices=CHOICES["text_weights"], help=text)
    text = "keep on the GPU only the model at work, or the group of layers (default: none)"
    group.add_argument("--offload", choices=CHOICES["offload"], help=text)
    text = "code videos tile by tile, which changes them a little"
    group.add_argument("--vae-tiling", action=argparse.BooleanOptionalAction, help=text)
    return group


def _add_fit(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--fit", type=_gib, nargs="?", const=True, metavar="GIB", help=text)


def _add_ignore_memory(parser: argparse.ArgumentParser) -> None:
    text = "begin even where the estimate says that the GPU's memory cannot be enough"
    parser.add_argument("--ignore-memory", action="store_true", help=text)


def _gib(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"takes a number of GiB above 0, for example 24, got {text!r}")
    return value


def _add_settings(parser: Any, text: str) -> None:
    parser.add_argument("--set", action="append", metavar="KEY=VALUE", default=[], dest="settings", help=text)


def _parser(make: Any, text: str, **options: Any) -> argparse.ArgumentParser:
    about, _, examples = text.format(p=PROGRAM).partition("\n\n")
    raw = argparse.RawDescriptionHelpFormatter
    return make(description=about, epilog=examples, formatter_class=raw, allow_abbrev=False, **options)
