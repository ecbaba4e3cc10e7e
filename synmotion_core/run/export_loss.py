"""What an exported LoRA loses against the adapter that it was made of, which may hold more than a LoRA.

At latents on the way of videos that the adapter draws, v is what the adapter predicts there, v_e what the file that was
read back predicts, v_0 the backbone alone, each for the prompt without guidance:

    kept = 1 - sum |v - v_e|^2 / sum |v - v_0|^2

of what the adapter changes: 1 is all of it, at 0 the file is as far from the adapter as the backbone alone is.
"""

from __future__ import annotations

import dataclasses
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from synmotion_core.adapters.convert import convert
from synmotion_core.adapters.file import read_info
from synmotion_core.backbones import find_spec
from synmotion_core.errors import Cancelled, IncompatibleError
from synmotion_core.generation import SamplerConfig, default_sampler, denoise, read_texts
from synmotion_core.interfaces import Backbone, BackboneSpec, Method, autocast_dtype
from synmotion_core.precision import PLAIN, Precision
from synmotion_core.run.adapters import read_adapter
from synmotion_core.run.pool import borrow_backbone, fetch
from synmotion_core.training.priors import plan_priors
from synmotion_core.training.settings import PriorConfig
from synmotion_core.types import Mode, Prompt, TextCondition

PLACES = 6  # of a video's way that are looked at
VIDEOS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The share that is kept, over all videos, and of each video with its prompt."""

    share: float
    by_video: tuple[tuple[str, float], ...]


def check_measurable(adapter: Path) -> BackboneSpec:
    """The backbone's spec. Raises AdapterError, and IncompatibleError for a backbone that draws from pictures alone."""
    spec = find_spec(read_info(adapter).backbone)
    if "t2v" not in spec.modes:
        raise IncompatibleError(f"{spec.name} draws from pictures alone: what an export keeps is measured from words")
    return spec


def kept_by_export(
    adapter: Path,
    exported: Path,
    *,
    expert: str | None = None,
    subjects: Sequence[str] = (),
    seed: int = 0,
    precision: Precision = PLAIN,
    cancel: threading.Event | None = None,
) -> Kept:
    """What `exported`, written by adapters.export of `adapter`, keeps. Loads the backbone.

    subjects do the adapter's motion; without any, those that the backbone draws well. expert: which of two the file is
    of; then the steps of the other do not count. Raises as `check_measurable`.
    """
    info = read_info(adapter)
    spec = check_measurable(adapter)
    who = (
        tuple(subjects)
        or tuple(dict.fromkeys(p.subject for p, _ in plan_priors(dict(spec.options), PriorConfig(max_videos=100))))[
            :VIDEOS
        ]
    )
    prompts = [Prompt(subject=subject, motion=info.motion) for subject in who]
    full = read_adapter(adapter, spec, {})
    for _ in fetch(spec.name, precision, cancel):  # can be stopped; only then loaded
        pass
    backbone = borrow_backbone(spec.name, precision)
    sampler = default_sampler(spec)
    sums = torch.zeros(2, len(prompts))  # of |v - v_e|^2 and |v - v_0|^2
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "exported.safetensors"
        mode: Mode = "i2v" if info.mode == "i2v" else "t2v"
        reference = Prompt(subject=info.subject, motion=info.motion)
        convert([exported], spec, file, prompt=reference, mode=mode, experts=[expert] if expert else ())
        other = read_adapter(file, spec, {})
    for i, prompt in enumerate(prompts):
        method = full.attach(backbone)
        try:
            words = full.words(prompt)
            places = _places(backbone, spec, method, words, seed + i, sampler, expert, cancel)
            wanted = _predicted(backbone, method, words, places, sampler)
        finally:
            method.detach()
        alone = _predicted(backbone, None, prompt, places, sampler)
        lora = other.attach(backbone)
        try:
            given = _predicted(backbone, lora, words, places, sampler)
        finally:
            lora.detach()
        sums[0, i] = sum(float((a - b).square().sum()) for a, b in zip(wanted, given, strict=True))
        sums[1, i] = sum(float((a - b).square().sum()) for a, b in zip(wanted, alone, strict=True))
    shares = (1 - sums[0] / sums[1]).tolist()
    total = float(1 - sums[0].sum() / sums[1].sum())
    return Kept(share=total, by_video=tuple((p.text, share) for p, share in zip(prompts, shares, strict=True)))


def _places(
    backbone: Backbone,
    spec: BackboneSpec,
    method: Method,
    prompt: Prompt,
    seed: int,
    sampler: SamplerConfig,
    expert: str | None,
    cancel: threading.Event | None,
) -> list[tuple[Tensor, float]]:
    """(latents, their noise level) at PLACES steps, evenly from the first on, of those that count."""
    solver = backbone.solver(sampler.num_inference_steps, sampler.shape, sampler.eta, sampler.flow_shift)
    sigmas = solver.sigmas[1:].tolist()
    found = []
    for latents, sigma in zip(denoise(backbone, method, [prompt], [seed], sampler), sigmas, strict=True):
        if cancel is not None and cancel.is_set():
            raise Cancelled("stopped by request")
        low = spec.boundary_ratio is not None and sigma < spec.boundary_ratio
        if sigma > 0 and (expert is None or (expert == "low_noise") == low):
            found.append((latents, sigma))
    every = max(1, len(found) // PLACES)
    return found[::every][:PLACES]


@torch.no_grad()
def _predicted(
    backbone: Backbone, method: Method | None, prompt: Prompt, places: Sequence[tuple[Tensor, float]], s: SamplerConfig
) -> list[Tensor]:
    text: TextCondition = read_texts(backbone, [prompt], dataclasses.replace(s, guidance_scale=1.0)).prompts
    found = []
    with torch.autocast(backbone.device.type, autocast_dtype(backbone), enabled=s.mixed_precision == "bf16"):
        made = text.as_condition() if method is None else method.condition(text, 1.0)
        condition = dataclasses.replace(made, guidance=s.embedded_guidance)
        for latents, sigma in places:
            level = torch.full((1,), sigma, device=backbone.device)
            found.append(backbone.predict(latents, level, condition).float().cpu())
    return found
