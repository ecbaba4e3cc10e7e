"""`python -m synmotion_core.puppets.pretrain`: trains the tiny backbone on the puppet world. Resumable, CPU or CUDA.

    corpus   fit the autoencoder, render and encode the training set (once)
    deblock  train the autoencoder's residual decoder; latents stay as they are
    train    velocity matching on cached latents; text encoders learn along; T2V and token_replace I2V share weights
    export   write the EMA weights as an ordinary diffusers folder (bf16)
    all      the four: the denoiser trains for --minutes while rendering and the decoder's training go on beside it

Flow matching, diffusion.py's convention:  x_s = (1 - s) x + s noise,  target = noise - x,  s = sigmoid(N(mean, std)).
With `--pixel-weight 1` an error counts as much as it shows in pixels: channel c weighs |column c of the decoder|^2.
In an I2V step latent frame 0 stays clean, its tokens see time 0, and the loss is on the frames after it.
Everything random in step k depends on (seed, k) and the corpus only, so that over a complete corpus a killed run
continues as if it had not been. On CUDA the latents live on the card; `corpus` may go on adding chunks in another
process while `train` runs.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from diffusers import HunyuanVideoPipeline, HunyuanVideoTransformer3DModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from synmotion_core.backbones.attention import attention_for
from synmotion_core.clips.frames import png
from synmotion_core.puppets.autoencoder import AutoencoderPatchVideo
from synmotion_core.puppets.blueprint import MAX_SEQUENCE_LENGTH, build_pipeline, transformer_config
from synmotion_core.puppets.captions import caption_for
from synmotion_core.puppets.corpus import Corpus, build, fit_autoencoder, fit_deblock
from synmotion_core.puppets.judge import Judge
from synmotion_core.puppets.motions import MOTIONS
from synmotion_core.puppets.muon import BatchedMuon
from synmotion_core.puppets.score import score
from synmotion_core.storage import replacing

NUM_LATENT_FRAMES = 5  # of 17
TRAINED = ("transformer", "text_encoder", "text_encoder_2")


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """Settings of `train`. Steps before `image_steps` see latent frame 0 alone (a fifth of the cost a sample).

    A run ends at num_steps, or when `minutes` are over; the learning rate falls to zero over the last
    `cooldown_steps`, or the last `cooldown_minutes`. The state before it fell is kept as plateau.safetensors.
    """

    num_steps: int = 20000
    cooldown_steps: int = 0
    minutes: float | None = None
    cooldown_minutes: float = 0.0
    image_steps: int = 1500
    batch_size: int = 24
    image_batch_size: int = 48
    learning_rate: float = 1e-3
    muon_learning_rate: float = 2e-3
    warmup_steps: int = 100
    ema_decay: float = 0.999
    caption_dropout: float = 0.1
    i2v_fraction: float = 0.15
    share: Mapping[str, float] = field(default_factory=dict)  # of a motion's clips that is used; 1 where not named
    sigma_mean: float = 0.8
    sigma_std: float = 1.2
    pixel_weight: float = 0.0  # exponent of a channel's weight: 0 = all alike, 1 = squared error in pixels
    seed: int = 0
    save_every: int = 250
    log_every: int = 1
    score_every: int = 1000  # and at the end
    score_prompts: int = 26  # 0 for no scores
    compile: bool = False
    bfloat16: bool = False  # model in bf16 itself, float32 copies for the optimisers: a fifth faster on a CPU


class _Heads(nn.Module):
    """The trained parts together: text encoders and transformer, T2V and I2V modules over the same parameters."""

    def __init__(self, pipe: HunyuanVideoPipeline, device: str = "cpu") -> None:
        super().__init__()
        self.transformer, self.text_encoder, self.text_encoder_2 = (
            pipe.transformer,
            pipe.text_encoder,
            pipe.text_encoder_2,
        )
        self.to(device).train()
        channels = pipe.transformer.config["in_channels"]
        image_to_video = HunyuanVideoTransformer3DModel(**transformer_config(channels, "token_replace"))
        cast(nn.Module, image_to_video).to(device).train()
        own = dict(self.transformer.named_parameters())
        for name, _ in list(image_to_video.named_parameters()):
            module = image_to_video.get_submodule(name.rpartition(".")[0])
            setattr(module, name.rpartition(".")[2], own[name])
        self._image_to_video: list[Any] = [image_to_video]  # in a list: shares parameters, must not register them twice

    def compile(self) -> None:
        self.transformer.compile(dynamic=False)
        self._image_to_video[0].compile(dynamic=False)

    def velocity(self, noisy: Tensor, batch: _Batch) -> Tensor:
        embeds = self.text_encoder(batch.input_ids, attention_mask=batch.mask, output_hidden_states=True)
        pooled = self.text_encoder_2(batch.input_ids_2).pooler_output
        model: Any = self._image_to_video[0] if batch.image_to_video else self.transformer
        return model(
            hidden_states=noisy,
            timestep=batch.sigma * 1000,
            encoder_hidden_states=embeds.hidden_states[-3],
            encoder_attention_mask=batch.mask,
            pooled_projections=pooled,
            return_dict=False,
        )[0].float()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """What a step trains on, on the device."""

    latents: Tensor
    noise: Tensor
    sigma: Tensor
    input_ids: Tensor
    mask: Tensor
    input_ids_2: Tensor
    image_to_video: bool


class _Feed:
    """The batch of step k, a function of (config, k) and the chunks that are there."""

    def __init__(self, corpus: Corpus, tokenizers: tuple[Any, Any], config: PretrainConfig, device: str) -> None:
        self.corpus, self.tokenizers, self.config, self.device = corpus, tokenizers, config, device
        self._used, self._clips = np.empty(0, int), 0
        self._order, self._epoch = np.empty(0, int), -1

    def _shuffle(self, step: int, size: int) -> int:
        """Every clip once an epoch, thinned by motion alike in all; returns where in the order the step begins."""
        if step % 25 == 0 or not self._clips:
            self.corpus.refresh()
        if self._clips != len(self.corpus):
            self._clips, self._epoch = len(self.corpus), -1
            share = np.array([self.config.share.get(s.motion, 1.0) for s in self.corpus.scenes])
            lots = np.random.default_rng((self.config.seed, 0x2A)).random(self._clips)
            self._used = np.flatnonzero(lots < share)
        epoch, offset = divmod(step * size, len(self._used))
        if epoch != self._epoch:
            self._order, self._epoch = np.random.default_rng((self.config.seed, epoch)).permutation(self._used), epoch
        return offset

    def __call__(self, step: int) -> _Batch:
        config, corpus = self.config, self.corpus
        rng = np.random.default_rng((config.seed, step, 0x57))
        image = step < config.image_steps
        size = config.image_batch_size if image else config.batch_size
        offset = self._shuffle(step, size)
        latents, scenes = corpus.batch(self._order[(offset + np.arange(size)) % len(self._order)])
        if image:
            latents = latents[:, :, :1]
        captions = [caption_for(s, rng).text if rng.random() >= config.caption_dropout else "" for s in scenes]
        # compiled graphs want a fixed length; captions of the world stay below it (tested)
        pad = {"padding": "max_length" if config.compile else "longest", "truncation": True, "return_tensors": "pt"}
        first, second = (t(captions, max_length=MAX_SEQUENCE_LENGTH, **pad) for t in self.tokenizers)
        image_to_video = not image and bool(rng.random() < config.i2v_fraction)
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        draw = {"generator": generator, "device": self.device}
        noise = torch.randn(latents.shape, **draw)
        return _Batch(
            latents=latents,
            noise=noise,
            sigma=torch.sigmoid(config.sigma_mean + config.sigma_std * torch.randn(size, **draw)),
            input_ids=first.input_ids.to(self.device),
            mask=first.attention_mask.to(self.device),
            input_ids_2=second.input_ids.to(self.device),
            image_to_video=image_to_video,
        )

    def batches(self, start: int, end: int) -> Iterator[tuple[int, _Batch]]:
        """Steps start..end-1; a thread prepares the next batch during the present one."""
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self, start)
            for step in range(start, end):
                batch = ahead.result()
                if step + 1 < end:
                    ahead = pool.submit(self, step + 1)
                yield step, batch


def _in_bfloat16(pipe: HunyuanVideoPipeline, device: str) -> _Heads:
    """A second set of the trained parts that computes in bf16; `_copy` brings the weights before each step."""
    twin = HunyuanVideoPipeline(**pipe.components | {part: copy.deepcopy(getattr(pipe, part)) for part in TRAINED})
    heads = _Heads(twin, device)
    for module in (heads, heads._image_to_video[0]):
        module.to(torch.bfloat16)
    return heads


@torch.no_grad()
def _copy(source: _Heads, target: _Heads) -> None:
    torch._foreach_copy_(list(target.parameters()), list(source.parameters()))


def _hand_over_gradients(source: _Heads, target: _Heads) -> None:
    for theirs, own in zip(source.parameters(), target.parameters(), strict=True):
        own.grad = None if theirs.grad is None else theirs.grad.float()
        theirs.grad = None


def _optimizers(heads: _Heads, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of attention and MLP, AdamW for embeddings, modulations, norms and biases."""
    muon, adam = [], []
    for name, p in heads.named_parameters():
        inner = ("attn" in name or "ff" in name or "mlp" in name) and "norm" not in name
        (muon if inner and p.ndim == 2 and min(p.shape) >= 64 else adam).append(p)
    return [
        BatchedMuon(muon, lr=config.muon_learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(adam, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=muon[0].is_cuda),
    ]


def channel_weights(vae: AutoencoderPatchVideo, exponent: float, num_frames: int) -> Tensor:
    """[1, C, f, 1, 1]: how much an error of each latent channel shows in pixels, to a power; mean 1 a latent frame."""
    columns = [d.weight.detach().float().square().sum(0) ** exponent for d in (vae.decoder_first, vae.decoder_rest)]
    first, rest = (c / c.mean() for c in columns)
    return torch.stack([first, *[rest] * (num_frames - 1)], dim=1)[None, :, :, None, None]


def _rate(config: PretrainConfig, step: int, minutes_left: float | None) -> float:
    """Warm-up, plateau, and a linear fall over the last `cooldown_steps` or `cooldown_minutes`."""
    rate = min(1.0, (step + 1) / config.warmup_steps)
    if config.cooldown_steps:
        rate *= min(1.0, (config.num_steps - step) / config.cooldown_steps)
    if config.cooldown_minutes and minutes_left is not None:
        rate *= min(1.0, max(0.0, minutes_left) / config.cooldown_minutes)
    return rate


def _save(
    path: Path, step: int, heads: _Heads, ema: dict[str, Tensor], optimizers: list[torch.optim.Optimizer]
) -> None:
    tensors = {f"model.{k}": v.detach().contiguous().clone() for k, v in heads.named_parameters()}
    tensors |= {f"ema.{k}": v.clone() for k, v in ema.items()}
    for i, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{index}.{k}": torch.as_tensor(v).clone() for k, v in state.items()}
    partial = path.with_suffix(".part")
    save_file(tensors, partial, metadata={"step": str(step)})
    partial.rename(path)


def _load(folder: Path, heads: _Heads, ema: dict[str, Tensor], optimizers: list[torch.optim.Optimizer]) -> int:
    path = folder / "state.safetensors"
    if not path.exists():
        return 0
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
    tensors = load_file(path)
    with torch.no_grad():
        for name, p in heads.named_parameters():
            p.copy_(tensors[f"model.{name}"])
            ema[name].copy_(tensors[f"ema.{name}"])
    for i, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for key in tensors:
            if key.startswith(f"optimizer.{i}."):
                _, _, index, name = key.split(".", 3)
                state.setdefault(int(index), {})[name] = tensors[key]
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return step


def train(
    folder: Path, corpus: Corpus, config: PretrainConfig, device: str = "cpu", init_from: Path | None = None
) -> Iterator[dict[str, float]]:
    """Train towards `config.num_steps`, resuming from `folder`; yields a record a step and saves on the way.

    Every `score_every` steps, and at the end, the averaged weights draw videos for the judge: a record with the shares
    it saw right, and a contact sheet in <folder>/sheets.

    init_from: a diffusers folder whose weights a fresh start takes over (its moments are not kept there).
    """
    if init_from is not None and not (folder / "state.safetensors").exists():
        pipe = HunyuanVideoPipeline.from_pretrained(init_from, dtype=torch.float32)
    else:
        pipe = build_pipeline(AutoencoderPatchVideo.from_pretrained(folder / "vae"), seed=config.seed)
    heads = _Heads(pipe, device)
    ema = {name: p.detach().clone() for name, p in heads.named_parameters()}
    optimizers = _optimizers(heads, config)
    start = _load(folder, heads, ema, optimizers)
    runs = _in_bfloat16(pipe, device) if config.bfloat16 else heads
    if config.compile:
        runs.compile()
    feed = _Feed(corpus, (pipe.tokenizer, pipe.tokenizer_2), config, device)
    judge = Judge.load() if config.score_prompts else None
    opened = last = time.monotonic()
    weights = channel_weights(cast(AutoencoderPatchVideo, pipe.vae), config.pixel_weight, NUM_LATENT_FRAMES).to(device)
    before = _rate(config, start - 1, config.minutes) if start else 0.0
    losses, logged = torch.zeros((), device=device), start
    for step, batch in feed.batches(start, config.num_steps):
        left = None if config.minutes is None else config.minutes - (time.monotonic() - opened) / 60
        rate = _rate(config, step, left)
        if rate < 1 <= before:  # not when a run is resumed on its way down
            _save(folder / "plateau.safetensors", step, heads, ema, optimizers)
        before = rate
        s = batch.sigma[:, None, None, None, None]
        noisy = (1 - s) * batch.latents + s * batch.noise
        if batch.image_to_video:
            noisy = torch.cat([batch.latents[:, :, :1], noisy[:, :, 1:]], dim=2)
        for optimizer, base in zip(optimizers, (config.muon_learning_rate, config.learning_rate), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = base * rate
        if runs is not heads:
            _copy(heads, runs)
        with torch.autocast(device, torch.bfloat16, enabled=runs is heads), attention_for(torch.device(device)):
            velocity = runs.velocity(noisy.bfloat16() if runs is not heads else noisy, batch)
        skip = 1 if batch.image_to_video else 0
        error = (velocity - (batch.noise - batch.latents)).square() * weights[:, :, : velocity.shape[2]]
        loss = error[:, :, skip:].mean()
        loss.backward()
        if runs is not heads:
            _hand_over_gradients(runs, heads)
        norm = nn.utils.clip_grad_norm_(heads.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        decay = min(config.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(ema.values()), [p.detach() for p in heads.parameters()], 1 - decay)
            losses += loss.detach()
        over = step + 1 == config.num_steps or (left is not None and left <= 0)
        if (config.save_every and (step + 1) % config.save_every == 0) or over:
            _save(folder / "state.safetensors", step + 1, heads, ema, optimizers)
        if (step + 1) % config.log_every == 0 or over:
            steps, now = step + 1 - logged, time.monotonic()
            yield {
                "step": step + 1,
                "loss": float(losses) / steps,  # on CUDA this waits for the device, so not every step
                "grad_norm": float(norm),
                "i2v": float(batch.image_to_video),
                "learning_rate": config.learning_rate * rate,
                "clips": len(corpus),
                "seconds": (now - last) / steps,
            }
            logged, last = step + 1, now
            losses.zero_()
        if judge is not None and (over or (step + 1) % config.score_every == 0):
            yield {"step": step + 1, **_score(folder, step + 1, pipe, ema, judge, config.score_prompts)}
            last = time.monotonic()
        if over:
            return


def _score(
    folder: Path, step: int, pipe: HunyuanVideoPipeline, ema: dict[str, Tensor], judge: Judge, num_prompts: int
) -> dict[str, float]:
    """The averaged weights' score; its contact sheet goes to <folder>/sheets/step-<n>.png."""
    twin = HunyuanVideoPipeline(**pipe.components | {part: copy.deepcopy(getattr(pipe, part)) for part in TRAINED})
    for part in TRAINED:
        module: nn.Module = getattr(twin, part).eval()
        head = f"{part}."
        module.load_state_dict({k.removeprefix(head): v for k, v in ema.items() if k.startswith(head)}, strict=False)
    cast(nn.Module, twin.vae).to(twin.transformer.device)
    result = score(twin, judge, num_prompts=num_prompts)
    sheet = folder / "sheets" / f"step-{step:06d}.png"
    sheet.parent.mkdir(exist_ok=True)
    with replacing(sheet) as partial:
        partial.write_bytes(png(result.sheet))
    return {
        "judged_motion": result.motion,
        "judged_species": result.species,
        "judged_colour": result.colour,
        "seconds": result.seconds,
    }


def load_trained(folder: Path, *, ema: bool = True, state: str = "state.safetensors") -> HunyuanVideoPipeline:
    """The pipeline with the weights of a checkpoint in `folder`, float32."""
    pipe = build_pipeline(AutoencoderPatchVideo.from_pretrained(folder / "vae"))
    tensors = load_file(folder / state)
    prefix = "ema." if ema else "model."
    for part in TRAINED:
        module = getattr(pipe, part)
        head = f"{prefix}{part}."
        module.load_state_dict({k[len(head) :]: v for k, v in tensors.items() if k.startswith(head)}, strict=False)
        module.eval()
    return pipe


def _everything(args: argparse.Namespace) -> None:
    """Processes side by side: one GPU has room for both trainings, and the renderers keep its machine's cores busy.

    The denoiser's progress is printed, the others write into <folder>/<command>.log; all end with this process.
    """
    started: list[subprocess.Popen[bytes]] = []

    def command(name: str, *options: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "synmotion_core.puppets.pretrain", name, "--folder", str(args.folder), *options]
        with (args.folder / f"{name}.log").open("ab") as file:
            into = None if name == "train" else file
            started.append(subprocess.Popen(words, stdout=into, stderr=into, start_new_session=True))
        return started[-1]

    def finish(process: subprocess.Popen[bytes], name: str) -> None:
        if process.wait():
            raise SystemExit(f"{name} failed: see {args.folder / name}.log or above")

    apart = {
        "command",
        "folder",
        "clips",
        "workers",
        "out",
        "device",
        "compile",
        "state",
        "raw",
        "power",
        "bfloat16",
        "share",
    }
    decoding = {"decoder_clips", "decoder_steps", "decoder_batch_size"}
    device = f"--device={args.device}"
    try:
        if not (args.folder / "vae").exists():
            fit_autoencoder(power=args.power).save_pretrained(args.folder / "vae")
        renderers = command("corpus", f"--clips={args.clips}", f"--workers={args.workers}")
        decoder = command("deblock", device, *_options(args, decoding))
        while not any((args.folder / "corpus").glob("chunk-?????.npy")):
            if renderers.poll():
                finish(renderers, "corpus")
            time.sleep(1.0)
        training = [device, *_options(args, vars(args).keys() - apart - decoding)]
        training += [f"--{name}" for name in ("compile", "bfloat16") if getattr(args, name)]
        training += [f"--share={motion}={share}" for motion, share in args.share]
        finish(command("train", *training), "train")
        finish(decoder, "deblock")
        finish(command("export", f"--out={args.out}"), "export")
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)  # with the processes that it started


def _options(args: argparse.Namespace, names: Set[str]) -> list[str]:
    """Those that were given, as a command line again."""
    return [f"--{n.replace('_', '-')}={getattr(args, n)}" for n in sorted(names) if getattr(args, n) is not None]


def _share(text: str) -> tuple[str, float]:
    """MOTION=SHARE, as on the command line."""
    motion, _, share = text.partition("=")
    if motion not in MOTIONS:
        raise argparse.ArgumentTypeError(f"no motion {motion!r}; the world has {', '.join(MOTIONS)}")
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a share is a number from 0 to 1, as in {motion}=0.5")
    return motion, value


def main() -> None:
    own = PretrainConfig()
    parser = argparse.ArgumentParser(
        prog="python -m synmotion_core.puppets.pretrain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["corpus", "deblock", "train", "export", "all"])
    parser.add_argument("--folder", type=Path, required=True, help="where the corpus and the checkpoints live")
    parser.add_argument("--clips", type=int, default=49152, help="corpus: clips to render")
    parser.add_argument("--out", type=Path, help="export: the diffusers folder to write")
    parser.add_argument("--workers", type=int, default=2, help="corpus: processes that render")
    parser.add_argument(
        "--power", type=float, default=0.0, help="corpus: scale of a new autoencoder's channels, 0 to 1"
    )
    parser.add_argument("--decoder-clips", type=int, default=600, help="deblock: clips to render")
    parser.add_argument("--decoder-steps", type=int, default=600)
    parser.add_argument("--decoder-batch-size", type=int, default=4)
    parser.add_argument("--steps", type=int, default=own.num_steps, help="train: stop at this step")
    parser.add_argument("--cooldown", type=int, default=0, help="train: steps of falling learning rate at the end")
    parser.add_argument("--minutes", type=float, help="train: stop after so many minutes of wall time")
    parser.add_argument("--cooldown-minutes", type=float, default=0.0, help="train: the same, by the clock")
    parser.add_argument("--batch-size", type=int, default=own.batch_size)
    parser.add_argument("--image-steps", type=int, default=own.image_steps)
    parser.add_argument("--learning-rate", type=float, default=own.learning_rate)
    parser.add_argument("--muon-learning-rate", type=float, default=own.muon_learning_rate)
    parser.add_argument("--sigma-mean", type=float, default=own.sigma_mean)
    parser.add_argument("--sigma-std", type=float, default=own.sigma_std)
    parser.add_argument("--pixel-weight", type=float, default=own.pixel_weight)
    parser.add_argument(
        "--share",
        action="append",
        default=[],
        type=_share,
        metavar="MOTION=SHARE",
        help="train: use only this part of a motion's clips, as in moves=0.5 (can be given more than once)",
    )
    parser.add_argument("--i2v-fraction", type=float, default=own.i2v_fraction, help="train: steps that are I2V")
    parser.add_argument("--ema-decay", type=float, default=own.ema_decay)
    parser.add_argument("--save-every", type=int, default=own.save_every)
    parser.add_argument("--log-every", type=int, default=own.log_every, help="train: steps a log record")
    parser.add_argument("--score-every", type=int, default=own.score_every, help="train: steps between two scores")
    parser.add_argument(
        "--score-prompts", type=int, default=own.score_prompts, help="train: videos a score draws, 0 for none"
    )
    parser.add_argument("--init-from", type=Path, help="train: start from the weights of this diffusers folder")
    parser.add_argument("--state", default="state.safetensors", help="export: which checkpoint of the folder")
    parser.add_argument("--raw", action="store_true", help="export: the weights themselves, not their average")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--compile", action="store_true", help="train: torch.compile (a fifth faster, two minutes to warm up)"
    )
    parser.add_argument(
        "--bfloat16", action="store_true", help="train: the model itself in bf16 (a fifth faster on CPU)"
    )
    args = parser.parse_args()
    if args.command == "all" and (args.minutes is None or args.out is None):
        parser.error("all needs --minutes and --out")
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.command == "all":
        _everything(args)
        return
    if args.command == "corpus":
        if not (args.folder / "vae").exists():
            fit_autoencoder(power=args.power).save_pretrained(args.folder / "vae")
        for index in build(args.folder / "corpus", args.folder / "vae", args.clips, workers=args.workers):
            print(f"chunk {index}", flush=True)
    elif args.command == "deblock":
        vae = AutoencoderPatchVideo.from_pretrained(args.folder / "vae")
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
        config = PretrainConfig(
            num_steps=args.steps,
            cooldown_steps=args.cooldown,
            minutes=args.minutes,
            cooldown_minutes=args.cooldown_minutes,
            batch_size=args.batch_size,
            image_steps=args.image_steps,
            learning_rate=args.learning_rate,
            muon_learning_rate=args.muon_learning_rate,
            share=dict(args.share),
            i2v_fraction=args.i2v_fraction,
            sigma_mean=args.sigma_mean,
            sigma_std=args.sigma_std,
            pixel_weight=args.pixel_weight,
            ema_decay=args.ema_decay,
            save_every=args.save_every,
            log_every=args.log_every,
            score_every=args.score_every,
            score_prompts=args.score_prompts,
            compile=args.compile,
            bfloat16=args.bfloat16,
        )
        corpus = Corpus(args.folder / "corpus", device=None if args.device == "cpu" else args.device)
        with (args.folder / "log.jsonl").open("a") as log:
            for record in train(args.folder, corpus, config, args.device, args.init_from):
                log.write(json.dumps(record) + "\n")
                if record["step"] % 50 == 0 or "judged_motion" in record:
                    log.flush()
                    print(" ".join(f"{k} {v:.4g}" for k, v in record.items()), flush=True)
    else:
        pipe = load_trained(args.folder, ema=not args.raw, state=args.state)
        if (args.folder / "vae_deblock").exists():  # same latents, cleaner pictures
            pipe.register_modules(vae=AutoencoderPatchVideo.from_pretrained(args.folder / "vae_deblock"))
        for part in TRAINED:
            getattr(pipe, part).to(torch.bfloat16)
        pipe.save_pretrained(args.out, max_shard_size="15MB")  # files below 16 MiB
        for path in args.out.rglob("*config.json"):  # where it was loaded from is nobody's business
            values = json.loads(path.read_text())
            if values.pop("_name_or_path", None) is not None:
                path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
