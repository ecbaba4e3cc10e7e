"""Memory that a training or a generation needs, from a row's numbers alone: no weight is read.

    peak  = weights on the device + the most that the work itself holds            by stage: encode, train, sample,
    needs = (1 + LOSS) peak + CONTEXT                                               decode

What the work holds is measured without weights (evaluation/meter.py) and kept in backbones/memory/: for the
denoiser bytes a video token, as each token costs the same; for the autoencoder so much for each pixel of a frame and
so much for each pixel of the video. CONTEXT and LOSS are for what CUDA and its allocator take beside it: assumed, not
measured here.

Main memory: all that is read at once, before it goes to the device. Denoisers and autoencoder are read together, each
encoder alone; what bitsandbytes holds goes there file by file; with offload everything stays.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from synmotion_core.config import from_dict
from synmotion_core.interfaces import BackboneSpec
from synmotion_core.precision import PLAIN, Precision, is_denoiser
from synmotion_core.types import VideoShape

GIB = 2**30
CONTEXT = 0.8 * GIB  # of the CUDA context, its libraries and their workspaces
LOSS = 0.05  # of what the allocator cannot use between blocks
ERROR = 0.15  # of a peak: so far are counts from what tiny models allocate (README, "Backbones")
_MEASURED = Path(__file__).parents[1] / "backbones" / "memory"
# bytes a weight: 4 bits come with a scale of 8 bits for each 64 weights, and one of 32 for each 256 of these
_HELD = {"8bit": 1.0, "fp8": 1.0, "4bit": 0.5 + 1 / 64 + 4 / (64 * 256)}
_ADAM = {"adamw": 8, "adamw8bit": 2}  # bytes a parameter of the two moments
_MASKED = {"hunyuan_video15": (256 + 729, 54)}  # tokens of letters and of a picture beside the prompt's; blocks
_FILE = 10e9  # bytes of the largest file that a repository has its weights in


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a row's parts work with, in bytes, as `bench run memory` counts it.

    text_width: channels of a text token. block_parameters: of the linear layers in one transformer's blocks, which
    alone are quantised; fp8_parameters: of those that fp8 holds, which leaves modulations out; staying_parameters: of
    one transformer's, outside of linear layers and embeddings, which offload "group" leaves on the device.
    text_parameters: of the first text encoder's layers that are quantised. attention_width: inputs and outputs of the
    projections that adapters sit on, summed; times the rank it is their parameters. train, train_checkpointed,
    sample: a video token of one sample. encode, decode: (a pixel of a frame, a pixel of the video); their tiled forms:
    (in all, a pixel of the video).
    """

    text_width: int
    block_parameters: int
    fp8_parameters: int
    staying_parameters: int
    text_parameters: int
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
    """What is to be done: videos of a shape, trained in batches (batch_size 0: not at all) and sampled one at a time,
    as the rows do that are measured.

    adapter_parameters are float32; optimizer as in TrainConfig. guided: the denoiser sees each sample twice.
    keeps_words: the first text encoder stays for all stages, since a method learns a word. What its backward pass takes
    for a prompt of a few dozen tokens is not counted.
    """

    shape: VideoShape
    batch_size: int = 0
    adapter_parameters: int = 0
    optimizer: str = "adamw"
    guided: bool = True
    keeps_words: bool = False


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
    whole = {"vae", *(part for part, dtype in spec.held.items() if dtype == "float32")}
    weights = {part: count * (4.0 if part in whole else plain) for part, count in spec.parameters.items()}
    for part in weights:
        if is_denoiser(part) and precision.weights in _HELD:
            fp8 = precision.weights == "fp8"
            blocks = numbers and (numbers.fp8_parameters if fp8 else numbers.block_parameters)
            weights[part] -= (blocks or spec.parameters[part]) * (plain - _HELD[precision.weights])
    if precision.text_weights in _HELD and "text_encoder" in weights:
        layers = spec.parameters["text_encoder"] if numbers is None else numbers.text_parameters
        weights["text_encoder"] -= layers * (plain - _HELD[precision.text_weights])
    return weights


def needs(spec: BackboneSpec, precision: Precision, work: Work) -> Needs | None:
    """Memory of a run; None for a row that has not been measured."""
    numbers = measured(spec.name)
    if numbers is None:
        return None
    weights = weight_bytes(spec, precision)
    transformers = [part for part in weights if is_denoiser(part)]
    working = _working(spec, numbers, precision, work)
    encoders = [part for part in weights if is_encoder(part)]
    freed = [part for part in encoders if not (work.keeps_words and part == "text_encoder")]
    later = {p: w for p, w in weights.items() if p not in freed}  # when all words are read
    stages: dict[str, float] = {}
    for stage, held in working.items():
        used = {"encode": [*encoders, "vae"], "decode": ["vae"]}.get(stage, transformers)
        resident = _resident(weights if stage == "encode" else later, used, precision)
        if precision.offload == "group":
            resident += 2 * numbers.staying_parameters * len(transformers)
        stages[stage] = ((1 + LOSS) * (resident + held) + CONTEXT) / GIB
    return Needs(
        weights={p: w / GIB for p, w in weights.items()}, stages=stages, host=_host(spec, precision, weights) / GIB
    )


def _host(spec: BackboneSpec, precision: Precision, held: Mapping[str, float]) -> float:
    plain = weight_bytes(spec, PLAIN)
    quantised = {p for p in plain if is_denoiser(p) and precision.weights in ("8bit", "4bit")}
    quantised |= {"text_encoder"} if precision.text_weights != "bf16" else set()
    whole = {part: size for part, size in plain.items() if part not in quantised}
    encoders = [size for part, size in whole.items() if is_encoder(part)]
    reading = sum(whole.values()) - sum(encoders) + (_FILE if any(map(is_denoiser, quantised)) else 0)
    reading = max(reading, _FILE if "text_encoder" in quantised else 0, *encoders)
    return max(reading, sum(held.values())) if precision.offload != "none" else reading


def is_encoder(part: str) -> bool:
    """Whether a part of a pipeline reads prompts or pictures, and is read from disk only then."""
    return part.startswith(("text_encoder", "image_encoder"))


def _resident(weights: Mapping[str, float], used: list[str], precision: Precision) -> float:
    if precision.offload == "none":
        return sum(weights.values())
    if precision.offload == "model":  # one part at a time
        return max(weights[part] for part in used)
    return sum(w for part, w in weights.items() if not (is_denoiser(part) or part == "text_encoder"))


def _working(spec: BackboneSpec, numbers: Measured, precision: Precision, work: Work) -> dict[str, float]:
    shape = work.shape
    count, area = tokens(spec, shape), shape.height * shape.width
    tiled = "_tiled" if precision.vae_tiling else ""

    def autoencoder(what: str) -> float:
        fixed, of_video = getattr(numbers, what + tiled)
        return fixed * (1 if tiled else area) + shape.num_frames * area * of_video

    masks, masks_kept = _masks(spec, count)
    adapter = 4 * work.adapter_parameters
    stages = {"encode": autoencoder("encode")}
    if work.batch_size:
        each = numbers.train_checkpointed if precision.gradient_checkpointing else numbers.train
        each = count * each + masks + (0 if precision.gradient_checkpointing else masks_kept)
        learning = work.adapter_parameters * (4 + _ADAM[work.optimizer])  # gradients and moments
        stages["train"] = work.batch_size * each + adapter + learning + _copies(spec, numbers, precision)
    stages["sample"] = (2 if work.guided else 1) * (count * numbers.sample + masks) + adapter
    stages["decode"] = autoencoder("decode") + adapter
    return stages


def _copies(spec: BackboneSpec, numbers: Measured, precision: Precision) -> float:
    """Bytes of a denoiser's weights in bf16 that the backward pass needs, where they are held in another type.

    Of all layers but bitsandbytes' own, or of one block that is computed again: a 3-D U-Net's largest has 30 %.
    """
    if spec.held.get(spec.denoiser) is None:
        return 0.0
    count = spec.parameters[spec.denoiser]
    if precision.gradient_checkpointing:
        return 2 * 0.3 * count
    return 2.0 * (count - (numbers.block_parameters if precision.weights in ("8bit", "4bit") else 0))


def _masks(spec: BackboneSpec, count: int) -> tuple[float, float]:
    """Bytes of one sample's N x N masks of attention: in the block at work, and kept by all others where nothing is
    computed again. The measured numbers were counted at an N where they are next to nothing.

    HunyuanVideo-1.5 spells its mask out in each block: two of bools (each row's, and where both of a pair count), then
    attention's own in bf16, which its backward pass keeps. So 4 N^2, and 2 N^2 for each other block; N is the video's
    tokens and the padded text's. 121 frames at 848x480: N = 31 * 30 * 53 + 1,985 = 51,275, so 9.8 GiB a sample. Other
    families have no mask, or one row of it.
    """
    if spec.family not in _MASKED:
        return 0.0, 0.0
    more, blocks = _MASKED[spec.family]
    pairs = float(count + spec.max_prompt_tokens + more) ** 2
    return 4 * pairs, 2 * pairs * (blocks - 1)
