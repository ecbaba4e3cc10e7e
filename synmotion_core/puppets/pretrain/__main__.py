"""The command line of pretraining."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import torch

from synmotion_core.puppets import pretrain
from synmotion_core.puppets.corpus import Corpus, build, fit_autoencoder, fit_deblock
from synmotion_core.puppets.motions import MOTIONS
from synmotion_core.puppets.pretrain.anatomies import ANATOMIES
from synmotion_core.puppets.pretrain.everything import everything
from synmotion_core.puppets.pretrain.loop import train
from synmotion_core.puppets.pretrain.settings import PretrainConfig
from synmotion_core.puppets.pretrain.state import export

_SIDES = tuple(str(n) for n in range(1, 9))  # of the latents' 8 x 8


def main() -> None:
    own, words = PretrainConfig(), sys.argv[1:]
    parser = argparse.ArgumentParser(
        prog="python -m synmotion_core.puppets.pretrain",
        description=pretrain.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["corpus", "deblock", "train", "export", "all"])
    parser.add_argument("--folder", type=Path, required=True, help="where the corpus and the checkpoints live")
    text = "which is trained (default: puppet-hunyuan); export takes the checkpoint's own"
    parser.add_argument("--backbone", choices=list(ANATOMIES), default="puppet-hunyuan", help=text)
    parser.add_argument("--clips", type=int, default=49152, help="corpus: clips to render")
    parser.add_argument("--out", type=Path, help="export: the diffusers folder to write")
    parser.add_argument("--workers", type=int, default=2, help="corpus: processes that render")
    parser.add_argument(
        "--draw-share",
        action="append",
        default=[],
        type=_draw_share,
        metavar="MOTION=SHARE",
        help="corpus: render only this part of a motion's draws, in chunks that are not there yet (can be repeated)",
    )
    parser.add_argument(
        "--hybrids", type=_part, default=0.4, help="corpus: the part of the clips whose puppet is of no species"
    )
    parser.add_argument(
        "--etudes", type=_part, default=0.4, help="corpus: the part of the nameless clips that is one tidy motion"
    )
    parser.add_argument(
        "--standing", type=_part, default=0.15, help="corpus: the part of the clips that begins from standing still"
    )
    parser.add_argument(
        "--power", type=float, default=0.0, help="corpus: scale of a new autoencoder's channels, 0 to 1"
    )
    parser.add_argument("--decoder-clips", type=int, default=600, help="deblock: clips to render")
    parser.add_argument("--decoder-steps", type=int, default=600)
    parser.add_argument("--decoder-batch-size", type=int, default=4)
    parser.add_argument("--steps", dest="num_steps", type=int, default=own.num_steps, help="train: stop at this step")
    parser.add_argument(
        "--cooldown",
        dest="cooldown_steps",
        type=int,
        default=own.cooldown_steps,
        help="train: steps of falling learning rate at the end",
    )
    parser.add_argument("--minutes", type=float, help="train: stop after so many minutes of wall time")
    parser.add_argument(
        "--cooldown-minutes", type=float, default=own.cooldown_minutes, help="train: the same, by the clock"
    )
    parser.add_argument("--batch-size", type=int, default=own.batch_size)
    parser.add_argument(
        "--image-steps", type=int, default=own.image_steps, help="train: the first steps see single frames"
    )
    parser.add_argument("--image-batch-size", type=int, default=own.image_batch_size)
    parser.add_argument(
        "--image-fraction", type=_part, default=own.image_fraction, help="train: later steps that see single frames"
    )
    parser.add_argument("--learning-rate", type=float, default=own.learning_rate)
    parser.add_argument("--muon-learning-rate", type=float, default=own.muon_learning_rate)
    parser.add_argument("--sigma-mean", type=float, default=own.sigma_mean)
    parser.add_argument("--sigma-std", type=float, default=own.sigma_std)
    parser.add_argument(
        "--share",
        action="append",
        default=[],
        type=_share,
        metavar="MOTION=SHARE",
        help="train: use only this part of a motion's clips, as in moves=0.5 (can be given more than once)",
    )
    parser.add_argument("--i2v-fraction", type=_part, default=own.i2v_fraction, help="train: steps that are I2V")
    parser.add_argument(
        "--window",
        type=_window,
        metavar="ROWSxCOLUMNS",
        help="train: most steps see this part of the 8x8 latents only, as in 6x5 (half the cost a step)",
    )
    parser.add_argument(
        "--window-fraction", type=_part, default=own.window_fraction, help="train: the part of the steps that do"
    )
    parser.add_argument("--ema-decay", type=float, default=own.ema_decay)
    parser.add_argument("--save-every", type=int, default=own.save_every)
    parser.add_argument("--log-every", type=int, default=own.log_every, help="train: steps a log record")
    parser.add_argument(
        "--score-every", type=int, default=own.score_every, help="train: steps between two scores, 0 for one at the end"
    )
    parser.add_argument(
        "--score-prompts", type=int, default=own.score_prompts, help="train: videos a score draws, 0 for none"
    )
    parser.add_argument("--init-from", type=Path, help="train: start from the weights of this diffusers folder")
    parser.add_argument("--state", default="state.safetensors", help="export: which checkpoint of the folder")
    parser.add_argument("--raw", action="store_true", help="export: the weights themselves, not their average")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true", help="train: torch.compile (two minutes to warm up)")
    parser.add_argument("--bfloat16", action="store_true", help="train: the model itself in bf16 (faster on a CPU)")
    args = parser.parse_args(words)
    if args.command == "all" and (args.minutes is None or args.out is None):
        parser.error("all needs --minutes and --out")
    if args.command == "export" and args.out is None:
        parser.error("export needs --out")
    if args.command == "all" and words[0] != "all":
        parser.error("all comes first, its options after it")
    if args.window is None and args.window_fraction != own.window_fraction:
        parser.error("--window-fraction has no effect without --window")
    args.folder.mkdir(parents=True, exist_ok=True)
    anatomy = ANATOMIES[args.backbone]
    if args.command == "all":
        everything(args.folder, args.backbone, args.power, words[1:])
        return
    if args.command == "corpus":
        if not (args.folder / "vae").exists():
            fit_autoencoder(anatomy.autoencoder, power=args.power).save_pretrained(args.folder / "vae")
        anatomy.autoencoder_in(args.folder / "vae")  # before hours of the wrong latents
        for index in build(
            args.folder / "corpus",
            args.folder / "vae",
            args.clips,
            share=dict(args.draw_share),
            hybrids=args.hybrids,
            etudes=args.etudes,
            standing=args.standing,
            workers=args.workers,
        ):
            print(f"chunk {index}", flush=True)
    elif args.command == "deblock":
        vae = anatomy.autoencoder_in(args.folder / "vae")
        for step, loss in fit_deblock(
            vae,
            num_clips=args.decoder_clips,
            num_steps=args.decoder_steps,
            batch_size=args.decoder_batch_size,
            device=args.device,
        ):
            if step % 50 == 0:
                print(f"step {step} loss {loss:.4f}", flush=True)
        vae.save_pretrained(args.folder / "vae_deblock")
    elif args.command == "train":
        given = {f.name: getattr(args, f.name) for f in dataclasses.fields(own) if hasattr(args, f.name)}
        config = dataclasses.replace(own, **given | {"share": dict(args.share)})
        corpus = Corpus(args.folder / "corpus", device=None if args.device == "cpu" else args.device)
        with (args.folder / "log.jsonl").open("a") as log:
            for record in train(args.folder, corpus, config, args.device, args.init_from, args.backbone):
                log.write(json.dumps(record) + "\n")
                if record["step"] % 50 == 0 or "judged_motion" in record:
                    log.flush()
                    print(" ".join(f"{k} {v:.4g}" for k, v in record.items()), flush=True)
    else:
        export(args.folder, args.out, ema=not args.raw, state=args.state)


def _share(text: str) -> tuple[str, float]:
    """MOTION=SHARE, as on the command line."""
    motion, _, share = text.partition("=")
    if motion not in MOTIONS:
        raise argparse.ArgumentTypeError(f"no motion {motion!r}; the world has {', '.join(MOTIONS)}")
    return motion, _part(share)


def _draw_share(text: str) -> tuple[str, float]:
    """MOTION=SHARE of what is drawn: 0 would draw for ever if all were 0, and `--share` can leave a motion out."""
    motion, part = _share(text)
    if part == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: a share of the draws is above 0; --share {motion}=0 leaves it out")
    return motion, part


def _part(text: str) -> float:
    """A number from 0 to 1, as on the command line."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 to 1, as 0.5 is")
    return value


def _window(text: str) -> tuple[int, int]:
    """ROWSxCOLUMNS, as on the command line."""
    rows, _, columns = text.partition("x")
    if rows not in _SIDES or columns not in _SIDES:
        raise argparse.ArgumentTypeError(f"{text!r}: a window is 1x1 to 8x8, as in 6x5")
    return int(rows), int(columns)


if __name__ == "__main__":
    main()
