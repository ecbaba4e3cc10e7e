"""The loop: flow matching by clean latents, the learning rate by steps or by the clock, scores on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from synmotion_core.backbones.attention import attention_for
from synmotion_core.clips.frames import png
from synmotion_core.diffusion import add_noise, weighted_mse
from synmotion_core.puppets.corpus import Corpus
from synmotion_core.puppets.judge import Judge
from synmotion_core.puppets.pretrain.anatomies import ANATOMIES
from synmotion_core.puppets.pretrain.anatomy import Anatomy, Heads
from synmotion_core.puppets.pretrain.feed import Feed
from synmotion_core.puppets.pretrain.heads import (
    copy_weights,
    hand_over_gradients,
    in_bfloat16,
    load_weights,
    twin_of,
)
from synmotion_core.puppets.pretrain.muon import BatchedMuon
from synmotion_core.puppets.pretrain.score import score
from synmotion_core.puppets.pretrain.settings import PretrainConfig
from synmotion_core.puppets.pretrain.state import load, save
from synmotion_core.storage import replacing

SIGMA_FLOOR = 0.15


def train(
    folder: Path,
    corpus: Corpus,
    config: PretrainConfig,
    device: str = "cpu",
    init_from: Path | None = None,
    backbone: str = "puppet-hunyuan",
) -> Iterator[dict[str, float]]:
    """Train towards `config.num_steps`, resuming from `folder`; yields a record a step and saves on the way.

    Every `score_every` steps, and at the end, the averaged weights draw videos for the judge: a record with the shares
    it saw right, and a contact sheet in <folder>/sheets.

    init_from: a diffusers folder whose weights a fresh start takes over (its moments are not kept there). Raises
    ValueError when its denoiser predicts anything but clean latents, and for windows where they cannot be.
    """
    anatomy = ANATOMIES[backbone]
    if config.window is not None and not anatomy.takes_pictures:
        raise ValueError(f"{backbone} does not know where in the frame a window is: train it without")
    if init_from is not None and not (folder / "state.safetensors").exists():
        pipe = anatomy.take_over(init_from, config.seed)
    else:
        pipe = anatomy.build(anatomy.autoencoder_in(folder / "vae"), config.seed)
    heads = anatomy.heads(pipe, device)
    ema = {name: p.detach().clone() for name, p in heads.named_parameters()}
    optimizers = _optimizers(anatomy, heads, config)
    start = load(folder, backbone, heads, ema, optimizers)
    runs = in_bfloat16(anatomy, pipe, device) if config.bfloat16 else heads
    if config.compile:
        runs.compile()
    feed = Feed(corpus, anatomy, pipe, config, device)
    judge = Judge.load() if config.score_prompts else None
    opened = last = time.monotonic()
    before = _rate(config, start - 1, config.minutes) if start else 0.0
    losses, logged = torch.zeros((), device=device), start
    for step, batch in feed.batches(start, config.num_steps):
        left = None if config.minutes is None else config.minutes - (time.monotonic() - opened) / 60
        rate = _rate(config, step, left)
        if rate < 1 <= before:  # not when a run is resumed on its way down
            save(folder / "plateau.safetensors", step, backbone, heads, ema, optimizers)
        before = rate
        noisy = add_noise(batch.latents, batch.noise, batch.sigma)
        if batch.image_to_video:
            noisy = torch.cat([batch.latents[:, :, :1], noisy[:, :, 1:]], dim=2)
        for optimizer, base in zip(optimizers, (config.muon_learning_rate, config.learning_rate), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = base * rate
        if runs is not heads:
            copy_weights(heads, runs)
        with torch.autocast(device, torch.bfloat16, enabled=runs is heads), attention_for(torch.device(device)):
            clean = runs.clean(noisy.bfloat16() if runs is not heads else noisy, batch)
        skip = 1 if batch.image_to_video else 0
        # the velocity's error: v = (x_s - x) / s, so |v - v*|^2 = |x - x*|^2 / s^2, bounded where hardly any noise is
        weight = batch.sigma.clamp_min(SIGMA_FLOOR) ** -2
        loss = (weight * weighted_mse(clean, batch.latents, skip)).mean()
        loss.backward()
        if runs is not heads:
            hand_over_gradients(runs, heads)
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
            save(folder / "state.safetensors", step + 1, backbone, heads, ema, optimizers)
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
        if judge is not None and (over or (config.score_every and (step + 1) % config.score_every == 0)):
            yield {"step": step + 1, **_judged(folder, step + 1, anatomy, pipe, ema, judge, config.score_prompts)}
            last = time.monotonic()
        if over:
            return


def _optimizers(anatomy: Anatomy, heads: Heads, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    muon, adam = [], []
    for name, p in heads.named_parameters():
        (muon if anatomy.by_muon(name, p) else adam).append(p)
    matrices, kernels = [p for p in muon if p.ndim == 2], [p for p in muon if p.ndim > 2]
    return [
        BatchedMuon(matrices, kernels, lr=config.muon_learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(adam, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=muon[0].is_cuda),
    ]


def _rate(config: PretrainConfig, step: int, minutes_left: float | None) -> float:
    """Warm-up, plateau, and a linear fall over the last `cooldown_steps` or `cooldown_minutes`."""
    rate = min(1.0, (step + 1) / config.warmup_steps)
    if config.cooldown_steps:
        rate *= min(1.0, (config.num_steps - step) / config.cooldown_steps)
    if config.cooldown_minutes and minutes_left is not None:
        rate *= min(1.0, max(0.0, minutes_left) / config.cooldown_minutes)
    return rate


def _judged(
    folder: Path, step: int, anatomy: Anatomy, pipe: Any, ema: dict[str, Tensor], judge: Judge, num_prompts: int
) -> dict[str, float]:
    """The averaged weights' score; its contact sheet goes to <folder>/sheets/step-<n>.png."""
    twin = twin_of(pipe, anatomy.trained)
    load_weights(twin, anatomy.trained, ema)
    twin.vae.to(getattr(twin, anatomy.denoiser).device)
    result = score(anatomy, twin, judge, num_prompts=num_prompts)
    sheet = folder / "sheets" / f"step-{step:06d}.png"
    with replacing(sheet) as partial:
        partial.write_bytes(png(result.sheet))
    return {
        "judged_motion": result.motion,
        "judged_species": result.species,
        "judged_colour": result.colour,
        "judged_seconds": result.seconds,
    }
