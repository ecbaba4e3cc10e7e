"""Where a pretraining stands: videos of fixed prompts from fixed noise, drawn and judged.

Cheap, so noisy (26 prompts: +-10 points); `bench run backbone` measures what ships.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from synmotion_core.backbones.attention import attention_for
from synmotion_core.clips.frames import contact_sheet
from synmotion_core.puppets.captions import draw_scene, subject_phrase
from synmotion_core.puppets.judge import Judge
from synmotion_core.puppets.motions import COMMON, MOTIONS
from synmotion_core.puppets.pretrain.anatomy import Anatomy

_BATCH = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Shares in [0, 1] of the prompts whose motion, species and colour the judge saw; seconds it took.

    sheet is a contact sheet of all videos, uint8 [H, W, 3], a row each with the prompt and the verdict.
    """

    motion: float
    species: float
    colour: float
    seconds: float
    sheet: NDArray[np.uint8]


def score(
    anatomy: Anatomy,
    pipe: Any,
    judge: Judge,
    *,
    num_prompts: int = 26,
    seed: int = 0,
    guidance_scale: float = 2.5,
) -> Score:
    """20 steps with true classifier-free guidance, the common motions in turn. The pipeline's parts stay as they are.

    Raises ValueError for fewer than one prompt.
    """
    if num_prompts < 1:
        raise ValueError(f"num_prompts must be at least 1, got {num_prompts}")
    began = time.perf_counter()
    rng = np.random.default_rng((seed, 0x5C0))
    scenes = [draw_scene(rng, motions=(COMMON[i % len(COMMON)],), other=0.0) for i in range(num_prompts)]
    prompts = [f"{subject_phrase(s.species, s.colour)} {MOTIONS[s.motion].verb}" for s in scenes]
    device = getattr(pipe, anatomy.denoiser).device
    noise = torch.Generator().manual_seed(seed)
    made: list[NDArray[np.uint8]] = []
    with ExitStack() as stack:
        stack.enter_context(torch.autocast(device.type, torch.bfloat16))
        stack.enter_context(attention_for(device))
        for start in range(0, num_prompts, _BATCH):
            made += anatomy.draw(pipe, prompts[start : start + _BATCH], noise, guidance_scale)
    seen = judge.judge(made)
    labels = [f"{m}, {s}\n{p}" for p, m, s in zip(prompts, seen.motion, seen.species, strict=True)]
    return Score(
        motion=_share([s.motion for s in scenes], seen.motion),
        species=_share([s.species for s in scenes], seen.species),
        colour=_share([s.colour for s in scenes], seen.colour),
        seconds=time.perf_counter() - began,
        sheet=contact_sheet(cast(Any, made), labels),
    )


def _share(wanted: Sequence[str], seen: Sequence[str]) -> float:
    return float(np.mean([a == b for a, b in zip(wanted, seen, strict=True)]))
