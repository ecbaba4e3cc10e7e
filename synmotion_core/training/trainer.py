"""The loop: one for every method. It obeys the method's phase, and knows nothing else about it.

    loss = mean |v(x_s, s, condition) - (noise - x)|^2            velocity form of flow matching, diffusion.py (1), (2)
    or mean |v(x_s, s, condition) - v_base(x_s, s, text)|^2       where the phase's target is the base

each sample weighed by its noise level as its backbone was trained (diffusion.py, (8)), and, where the phase asks for
it, with the same of the debiased values (9) added.
Image to video leaves the frames that the first image fixes out of both. Whatever a step learns from, the loss that is
shown and watched is the first: the two would not compare.
Step k draws its clips, noise and noise levels from (seed, k) alone; with the checkpointed tensors and moments that
makes a resumed run equal to an uninterrupted one, bit for bit. A watchdog rolls back to the last good state when the
loss stops being a number or runs away. `cancel` is looked at before every step: the state is saved, Stopped is yielded.
So are wishes (wishes.py) after every step; they change none.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from synmotion_core.diffusion import add_noise, debiased, velocity_target, weighted_mse
from synmotion_core.errors import Cancelled, ConfigError, TrainingDiverged
from synmotion_core.interfaces import Backbone, Method
from synmotion_core.training import checkpoint, wishes
from synmotion_core.training.settings import TrainConfig
from synmotion_core.training.together import ALONE, Group
from synmotion_core.types import Draw, Event, Phase, Progress, Saved, Started, Stopped, TextCondition, Warned

SNAPSHOT_EVERY = 25
RUNAWAY = 4.0  # times the best smoothed loss so far
SMOOTHING = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    """Frozen encodings: latents [N, C, f, h, w] and text conditions of N rows, on the CPU.

    image_latents: Backbone.encode_image of the videos' first frames, to train image to video; None: text to video.
    """

    latents: Tensor
    text: TextCondition
    image_latents: Tensor | None = None

    def __len__(self) -> int:
        return len(self.latents)


Sampler = Callable[[int], Iterator[Event]]


def train(
    *,
    backbone: Backbone,
    method: Method,
    data: Mapping[Draw, TrainingSet],
    config: TrainConfig,
    folder: Path,
    settings: str,
    cancel: threading.Event,
    resume: bool = False,
    sampler: Sampler | None = None,
    scorer: Sampler | None = None,
    processes: Group = ALONE,
) -> Iterator[Event]:
    """Train to `config.num_steps`. The state lives in <folder>/state.safetensors.

    settings names the run (a hash): a state of another run is refused. sampler(step) yields the events of showing
    samples, scorer(step) those of scoring. Both may raise Cancelled: the state is saved then, and the training that
    goes on from it asks them for the same step again, as it does after a kill between the two. processes: those that
    share each batch; only the first writes, samples and scores.
    Raises TrainingDiverged after saving the last good state, ConfigError when a phase draws data that is not there.
    """
    config = replace(config, learning_rate=config.learning_rate or backbone.spec.learning_rate)
    processes.check(config.batch_size or backbone.spec.batch_size)
    path = folder / "state.safetensors"
    parameters = [p for group in method.groups.values() for p in group]
    optimizer = _optimizer(config, method)
    start, watch = 0, _Watch()
    if resume:
        state = checkpoint.load(path, settings)
        if state.step > config.num_steps:
            raise ConfigError(
                f"train.num_steps {config.num_steps} is below the {state.step} steps that are trained already: use "
                f"{state.step} or more, or train anew, without resuming"
            )
        checkpoint.restore(state, method, optimizer)
        start, watch = state.step, _Watch(**state.watch)
    autocast, backward, clip = _precision(config, backbone)

    def pause(done: int, every: int, what: Sampler | None, wished: bool = False) -> Iterator[Event]:
        due = every and done and (done == config.num_steps or done % every == 0)
        if what is not None and (due or wished):
            stopped = False
            if processes.leads:
                try:
                    yield from what(done)
                except Cancelled:
                    stopped = True
            if processes.anyone(stopped):
                raise Cancelled
            _forget_peak(backbone.device)

    def save(state: checkpoint.TrainState) -> Saved:
        if processes.leads:
            checkpoint.save(path, state)
        return Saved(path=path, step=state.step, kind="checkpoint")

    def stop(done: int) -> Iterator[Event]:
        yield save(checkpoint.capture(done, method, optimizer, settings, watch.memory()))
        yield Stopped(step=done)

    yield Started(what="train", total=config.num_steps)
    good = checkpoint.capture(start, method, optimizer, settings, watch.memory())
    try:
        yield from pause(start, config.sample_every, sampler)
        yield from pause(start, config.score_every, scorer)
    except Cancelled:
        yield from stop(start)
        return
    _forget_peak(backbone.device)
    for step in range(start, config.num_steps):
        if processes.anyone(cancel.is_set()):
            yield from stop(step)
            return
        began = time.perf_counter()
        phase = method.phase(config.seed, step)
        if phase.draws not in data or not len(data[phase.draws]):
            raise ConfigError(f"step {step} draws {phase.draws!r} clips and there are none")
        latents, text, image, noise, sigmas = _draw(data[phase.draws], backbone, config, step, phase, processes)
        method.begin(phase)
        kept = 0 if image is None else backbone.spec.image_frames
        noisy = add_noise(latents, noise, sigmas)
        denoiser, base = 0.0, None
        if phase.target == "base":
            with torch.no_grad(), autocast(), _without(method):
                condition = replace(method.condition(text, 0.0), image_latents=image, guidance=config.training_guidance)
                denoiser = time.perf_counter()
                base = backbone.predict(noisy, sigmas, condition)
                denoiser = time.perf_counter() - denoiser
        for name, group in method.groups.items():  # after the base's turn: switching adapters on unfreezes them
            for p in group:
                p.requires_grad_(name in phase.trains)
        _set_learning_rate(optimizer, config, step)
        with autocast():
            condition = replace(method.condition(text), image_latents=image, guidance=config.training_guidance)
            forward = time.perf_counter()
            velocity = backbone.predict(noisy, sigmas, condition)
            denoiser += time.perf_counter() - forward
        weight, aim = backbone.diffusion.weight(sigmas), velocity_target(latents, noise)
        error = (weight * weighted_mse(velocity, aim, kept)).mean()
        loss = error if base is None else (weight * weighted_mse(velocity, base, kept)).mean()
        if phase.loss == "debiased":
            anchor = random.Random(f"{config.seed}/{step}/anchor").randrange(latents.shape[2])
            aim = aim if base is None else base
            compared = debiased(velocity.float(), anchor), debiased(aim.float(), anchor)
            loss = loss + (weight * weighted_mse(*compared, kept)).mean()
        value = processes.mean(float(error.detach()))
        reverse = time.perf_counter()
        if loss.requires_grad:
            backward(loss)
        reverse = time.perf_counter() - reverse
        processes.average(parameters)
        norm = (
            float(clip([p for p in parameters if p.grad is not None], config.max_grad_norm))
            if loss.requires_grad
            else 0.0
        )
        reason = watch.look(phase.name, value, norm)
        if reason:
            optimizer.zero_grad(set_to_none=True)
            checkpoint.restore(good, method, optimizer)
            yield save(good)
            message = (
                f"{reason} at step {step + 1}: rolled back to the last good state, step {good.step}, and saved it; "
                f"try a lower learning rate than {config.learning_rate:g}"
            )
            yield Warned(message=message)
            raise TrainingDiverged(message)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done = step + 1
        if done % SNAPSHOT_EVERY == 0:
            good = checkpoint.capture(done, method, optimizer, settings, watch.memory())
        seconds = time.perf_counter() - began
        yield Progress(
            stage="train",
            step=done,
            total=config.num_steps,
            loss=value,
            phase=phase.name,
            seconds=seconds,
            denoiser_seconds=denoiser + reverse,
            memory_gib=_memory_gib(backbone.device),
        )
        last = done == config.num_steps
        asked = wishes.take(folder) if processes.leads else frozenset()
        wished = {wish: processes.anyone(wish in asked) for wish in get_args(wishes.Wish)}
        if last or wished["save"] or (config.save_every and done % config.save_every == 0):
            yield save(checkpoint.capture(done, method, optimizer, settings, watch.memory()))
        if wished["sample"] and sampler is None:
            yield Warned(message="nobody is there to be drawn: this training has no sample_subjects")
        try:
            yield from pause(done, config.sample_every, sampler, wished["sample"])
            yield from pause(done, config.score_every, scorer)
        except Cancelled:
            yield from stop(done)
            return
    for p in parameters:
        p.requires_grad_(True)


def _forget_peak(device: torch.device) -> None:
    """What has been encoded, drawn or scored takes more than a step, and is none: `_memory_gib` is of steps."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _memory_gib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import psutil

    return psutil.Process().memory_info().rss / 2**30


def _optimizer(config: TrainConfig, method: Method) -> torch.optim.Optimizer:
    groups = [{"params": list(ps), "scale": method.learning_rate_scale(name)} for name, ps in method.groups.items()]
    kind: Any = torch.optim.AdamW
    if config.optimizer == "adamw8bit":
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # announces optional kernels at import
        from bitsandbytes.optim import AdamW8bit

        kind = AdamW8bit
    return kind(groups, lr=config.learning_rate or 0.0, weight_decay=config.weight_decay)


def _precision(
    config: TrainConfig, backbone: Backbone
) -> tuple[Callable[[], AbstractContextManager], Callable, Callable]:
    """accelerate's autocast, backward and clipping for the run's precision and the backbone's device.

    Weights that are held in float16 learn in bf16, too, which needs no scaling of the loss. Raises ConfigError for
    mixed_precision "no" there.
    """
    if backbone.dtype == torch.float16 and config.mixed_precision == "no":
        raise ConfigError(
            f"{backbone.spec.name} is held in float16 here, in which small gradients vanish: train with "
            "mixed_precision 'bf16', not 'no'"
        )
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()  # runs of different precision may follow each other in one process
    accelerator = Accelerator(mixed_precision=config.mixed_precision, cpu=backbone.device.type == "cpu")
    return lambda: accelerator.autocast(), accelerator.backward, accelerator.clip_grad_norm_


@contextmanager
def _without(method: Method) -> Iterator[None]:
    """The base as it is, bit for bit."""
    method.set_strength(0.0)
    try:
        yield
    finally:
        method.set_strength(1.0)


def _set_learning_rate(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int) -> None:
    assert config.learning_rate is not None  # `train` has settled it
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    left = 1 - step / config.num_steps if config.lr_scheduler == "linear" else 1.0
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * warm * left * group["scale"]


def _draw(
    data: TrainingSet, backbone: Backbone, config: TrainConfig, step: int, phase: Phase, processes: Group = ALONE
) -> tuple[Tensor, TextCondition, Tensor | None, Tensor, Tensor]:
    """Latents, text, first images, noise and noise levels of one step, functions of (seed, step) and the phase; of
    several processes this one's rows."""
    rng = random.Random(f"{config.seed}/{step}/rows")
    rows: list[int] = []
    batch_size = config.batch_size or backbone.spec.batch_size
    while len(rows) < batch_size:  # every clip once before any comes twice
        order = list(range(len(data))) if phase.clip is None else [phase.clip]
        rng.shuffle(order)
        rows += order[: batch_size - len(rows)]
    generator = torch.Generator().manual_seed(rng.getrandbits(62))
    latents = data.latents[rows]
    if phase.frames == "one":
        frames = [rng.randrange(latents.shape[2]) for _ in rows]
        latents = torch.stack([clip[:, f : f + 1] for clip, f in zip(latents, frames, strict=True)])
    noise = torch.randn(latents.shape, generator=generator)
    sigmas = backbone.diffusion.sample_sigmas(len(rows), generator, phase.coarse)
    device, own = backbone.device, processes.share(len(rows))
    rows, latents, noise, sigmas = rows[own], latents[own], noise[own], sigmas[own]
    image = None if data.image_latents is None else data.image_latents[rows].to(device)
    return latents.to(device), data.text.select(rows).to(device), image, noise.to(device), sigmas.to(device)


class _Watch:
    """The watchdog: a smoothed loss a phase, and the best it has been.

    Of the first steps the plain mean: a single one's loss is as much its noise level's as the model's, a tenth of the
    mean where the noise is what is predicted.
    """

    def __init__(self, **memory: float) -> None:
        self._memory = dict(memory)

    def memory(self) -> dict[str, float]:
        return dict(self._memory)

    def look(self, phase: str, loss: float, norm: float) -> str | None:
        """Why this step must not be taken, or None."""
        if not math.isfinite(loss):
            return f"the loss became {loss}"
        if not math.isfinite(norm):
            return f"the gradient became {norm}"
        m = self._memory
        count = m.get(f"{phase}.count", 0) + 1
        smooth = m.get(f"{phase}.loss", loss)
        smooth += max(1 / count, 1 - SMOOTHING) * (loss - smooth)
        if count * (1 - SMOOTHING) >= 1:  # the mean is of enough steps
            best = min(m.get(f"{phase}.best", smooth), smooth)
            if smooth > RUNAWAY * best:
                return f"the loss ran away from {best:.3g} to {smooth:.3g}"
            m[f"{phase}.best"] = best
        m.update({f"{phase}.count": count, f"{phase}.loss": smooth})
        return None
