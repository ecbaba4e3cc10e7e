"""What a training or a generation needs of the machine, from a row's numbers alone: no weight is read.

    peak  = weights on the device + the most that the work itself holds            by stage: encode, train, sample,
    needs = (1 + LOSS) peak + CONTEXT                                               decode

What the work holds is measured without weights (evaluation/meter.py) and kept in backbones/memory/: for the
denoiser bytes a video token, as each token costs the same; for the autoencoder so much for each pixel of a frame and
so much for each pixel of the video. CONTEXT and LOSS are for what CUDA and its allocator take beside it: assumed, not
measured here.

`ladder` is what can be changed when it does not fit, what costs least first. Nothing of it is done unasked.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from synmotion_core.config import from_dict
from synmotion_core.errors import ConfigError
from synmotion_core.interfaces import BackboneSpec
from synmotion_core.precision import Precision, is_transformer
from synmotion_core.types import VideoShape

GIB = 2**30
CONTEXT = 0.8 * GIB  # of the CUDA context, its libraries and their workspaces
LOSS = 0.05  # of what the allocator cannot use between blocks
_MEASURED = Path(__file__).parent / "backbones" / "memory"
# bytes a weight: 4 bits come with a scale of 8 bits for each 64 weights, and one of 32 for each 256 of these
_HELD = {"8bit": 1.0, "fp8": 1.0, "4bit": 0.5 + 1 / 64 + 4 / (64 * 256)}
_ADAM = {"adamw": 8, "adamw8bit": 2}  # bytes a parameter of the two moments
_FEWEST_FRAMES = 9
_LEAST_SIDE = 192


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a row's parts work with, in bytes, as `bench run memory` counts it.

    text_width: channels of a text token. block_parameters: of the linear layers in one transformer's blocks, which
    alone are quantised. attention_width: inputs and outputs of the projections that adapters sit on, summed; times the
    rank it is their parameters. train, train_checkpointed, sample: a video token of one sample. encode, decode: (a
    pixel of a frame, a pixel of the video); their tiled forms: (in all, a pixel of the video).
    """

    text_width: int
    block_parameters: int
    attention_width: int
    train: float
    train_checkpointed: float
    sample: float
    encode: tuple[float, float]
    decode: tuple[float, float]
    encode_tiled: tuple[float, float]
    decode_tiled: tuple[float, float]


@functools.cache
def measured(name: str) -> Measured | None:
    """The numbers of the row called `name`; None for one that has not been measured."""
    path = _MEASURED / f"{name}.json"
    return from_dict(Measured, json.loads(path.read_text())) if path.exists() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be done: videos of a shape, trained in batches (batch_size 0: not at all) and sampled one at a time.

    adapter_parameters are float32; optimizer as in TrainConfig. guided: the denoiser sees each sample twice.
    """

    shape: VideoShape
    batch_size: int = 0
    adapter_parameters: int = 0
    optimizer: str = "adamw"
    guided: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """GiB. weights by part as they are held; stages by name, margins included; host: of main memory, about."""

    weights: Mapping[str, float]
    stages: Mapping[str, float]
    host: float

    @property
    def peak(self) -> float:
        """Of the device's memory, in the stage that takes most."""
        return max(self.stages.values())


def tokens(spec: BackboneSpec, shape: VideoShape) -> int:
    """Video tokens of one sample in the denoiser."""
    side = int(spec.options["token_px"])
    return ((shape.num_frames - 1) // spec.frame_multiple + 1) * (shape.height // side) * (shape.width // side)


def weight_bytes(spec: BackboneSpec, precision: Precision) -> dict[str, float]:
    """Of each part as it is held. A row that has not been measured is taken to be all blocks."""
    numbers = measured(spec.name)
    plain = 2.0 if spec.needs_gpu else 4.0
    weights = {part: count * (4.0 if part == "vae" else plain) for part, count in spec.parameters.items()}
    for part in weights:
        if is_transformer(part) and precision.weights in _HELD:
            blocks = spec.parameters[part] if numbers is None else numbers.block_parameters
            weights[part] -= blocks * (plain - _HELD[precision.weights])
    if precision.text_weights in _HELD and "text_encoder" in weights:
        weights["text_encoder"] *= _HELD[precision.text_weights] / plain  # but its embeddings: a few per cent more
    return weights


def needs(spec: BackboneSpec, precision: Precision, work: Work) -> Needs | None:
    """Memory of a run; None for a row that has not been measured."""
    numbers = measured(spec.name)
    if numbers is None:
        return None
    weights = weight_bytes(spec, precision)
    transformers = [part for part in weights if is_transformer(part)]
    working = _working(spec, numbers, precision, work)
    encoders = [part for part in weights if part.startswith(("text_encoder", "image_encoder"))]
    # a training frees them when all words are in the cache
    later = {p: w for p, w in weights.items() if p not in encoders} if work.batch_size else weights
    stages: dict[str, float] = {}
    for stage, held in working.items():
        used = {"encode": [*encoders, "vae"], "decode": ["vae"]}.get(stage, transformers)
        resident = _resident(weights if stage == "encode" else later, used, precision)
        stages[stage] = ((1 + LOSS) * (resident + held) + CONTEXT) / GIB
    host = sum(weights.values()) if precision.offload != "none" else max(weights.values())
    return Needs(weights={p: w / GIB for p, w in weights.items()}, stages=stages, host=host / GIB)


def _resident(weights: Mapping[str, float], used: list[str], precision: Precision) -> float:
    if precision.offload == "none":
        return sum(weights.values())
    if precision.offload == "model":  # one part at a time
        return max(weights[part] for part in used)
    return sum(w for part, w in weights.items() if not (is_transformer(part) or part == "text_encoder"))


def _working(spec: BackboneSpec, numbers: Measured, precision: Precision, work: Work) -> dict[str, float]:
    shape = work.shape
    count, area = tokens(spec, shape), shape.height * shape.width
    tiled = "_tiled" if precision.vae_tiling else ""

    def autoencoder(what: str) -> float:
        fixed, of_video = getattr(numbers, what + tiled)
        return fixed * (1 if tiled else area) + shape.num_frames * area * of_video

    adapter = 4 * work.adapter_parameters
    stages = {"encode": autoencoder("encode")}
    if work.batch_size:
        each = numbers.train_checkpointed if precision.gradient_checkpointing else numbers.train
        learning = work.adapter_parameters * (4 + _ADAM[work.optimizer])  # gradients and moments
        stages["train"] = work.batch_size * count * each + adapter + learning
    stages["sample"] = (2 if work.guided else 1) * count * numbers.sample + adapter
    stages["decode"] = autoencoder("decode") + adapter
    return stages


# ------------------------------------------------------------------------------------------------ when it is too much


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One way to do the work in less memory: what is changed against the run as asked, and what that costs."""

    changes: tuple[str, ...]
    price: str
    precision: Precision
    work: Work
    needs: Needs


_PRICES: tuple[tuple[dict[str, Any], str], ...] = (
    ({"gradient_checkpointing": True}, "time: each block's forward pass once more"),
    ({"vae_tiling": True}, "time, and slightly other latents: videos are coded tile by tile"),
    ({"batch_size": 1}, "noisier steps: each learns from one clip"),
    ({"offload": "model"}, "time: parts travel between main memory and the GPU, once a stage"),
    ({"offload": "none", "text_weights": "8bit"}, "prompts are encoded with rounded weights"),
    ({"weights": "8bit"}, "the denoiser's weights are rounded to 8 bits"),
    ({"weights": "4bit", "text_weights": "4bit"}, "the denoiser's weights are rounded to 4 bits"),
    ({"offload": "group", "text_weights": "bf16", "weights": "bf16"}, "much time: every layer travels in every pass"),
)
_LESS_OF_A_VIDEO = "another video: shorter or smaller than was asked for"
_WORTH = 0.1  # GiB: what saves less is not worth a rung


def ladder(spec: BackboneSpec, precision: Precision, work: Work) -> Iterator[Rung]:
    """The run as asked, then with more and more changed, what costs least first: time, then rounding, then much time,
    then less of a video. What saves nothing over the rungs before is left out.
    """
    least = math.inf
    for held, done, price in _attempts(spec, precision, work):
        found = needs(spec, held, done)
        assert found is not None, "the ladder is for rows that have been measured"
        if found.peak < least - _WORTH:
            least = found.peak
            changes = _changes(precision, work, held, done)
            yield Rung(changes=changes, price=price, precision=held, work=done, needs=found)


def _attempts(spec: BackboneSpec, asked: Precision, work: Work) -> Iterator[tuple[Precision, Work, str]]:
    yield asked, work, "as asked"
    now = smallest = asked
    for change, price in _PRICES:
        own = dict(change)
        if own.pop("batch_size", None) and work.batch_size:
            work = replace(work, batch_size=1)
        if "gradient_checkpointing" in own and not work.batch_size:
            continue
        try:
            now = replace(now, **own)
        except ConfigError:  # beside what was asked for it cannot be had
            continue
        if now.weights == "4bit":
            smallest = now
        yield now, work, price
    for shape in _smaller(spec, work.shape):
        yield smallest, replace(work, shape=shape), _LESS_OF_A_VIDEO


def _changes(asked: Precision, wanted: Work, now: Precision, work: Work) -> tuple[str, ...]:
    """As options of the command line."""
    words = []
    for name in Precision.__dataclass_fields__:
        value = getattr(now, name)
        if value != getattr(asked, name):
            words.append(f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}"))
    if work.batch_size != wanted.batch_size:
        words.append(f"--set train.batch_size={work.batch_size}")
    for option, name in (("--frames", "num_frames"), ("--height", "height"), ("--width", "width")):
        value = getattr(work.shape, name)
        if value != getattr(wanted.shape, name):
            words.append(f"{option} {value}")
    return tuple(words)


def _smaller(spec: BackboneSpec, shape: VideoShape) -> Iterator[VideoShape]:
    """Fewer frames, a third less each time, then smaller ones, a fifth less each time; all that the row takes."""
    frames = shape.num_frames
    while frames > _FEWEST_FRAMES:
        frames = max(_FEWEST_FRAMES, _down((frames - 1) * 2 / 3, spec.frame_multiple) + 1)
        shape = replace(shape, num_frames=frames)
        yield shape
    while min(shape.height, shape.width) > _LEAST_SIDE:
        height, width = (_down(side * 0.8, spec.size_multiple) for side in (shape.height, shape.width))
        shape = replace(shape, height=height, width=width)
        yield shape


def _down(value: float, multiple: int) -> int:
    return max(multiple, int(value) // multiple * multiple)


# ------------------------------------------------------------------------------------------------ in words


def in_words(spec: BackboneSpec, precision: Precision, work: Work, fit_gib: float | None = None) -> list[str]:
    """What a run needs, and what can be changed, a line each. fit_gib: the device's memory, which decides what fits."""
    if measured(spec.name) is None:
        return [f"memory: not known, {spec.name} has not been measured"]
    rungs = list(ladder(spec, precision, work))
    asked = rungs[0].needs
    weights = ", ".join(f"{part} {gib:.1f}" for part, gib in asked.weights.items())
    stages = ", ".join(f"{stage} {gib:.1f}" for stage, gib in asked.stages.items())
    lines = [
        f"weights in GiB: {weights}",
        f"GPU memory in GiB, about, by stage: {stages}; main memory {asked.host:.0f}",
    ]
    if fit_gib is not None and asked.peak <= fit_gib:
        return [*lines, f"fits {fit_gib:g} GiB as it is"]
    lines.append("to need less, what costs least first; each is whole by itself:")
    for rung in rungs[1:]:
        lines.append(f"  {rung.needs.peak:.1f} GiB with {' '.join(rung.changes)} ({rung.price})")
        if fit_gib is not None and rung.needs.peak <= fit_gib:
            return [*lines, f"the last of these is the first that fits {fit_gib:g} GiB"]
    if fit_gib is not None:
        lines.append(f"nothing here fits {fit_gib:g} GiB: take a smaller batch or another backbone")
    return lines
