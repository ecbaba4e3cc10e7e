"""What CLIP sees: whether frames show the prompt, and whether they stay alike.

    u[f], t                    directions of frame f and of the prompt (pictures.py)

    clip_text                  mean over f of u[f] . t                                                          (19)
    clip_consistency           mean over f > 1 of u[f] . u[f - 1]                                               (20)
    background_consistency     (18) of u

CLIP-T is often given times 100, and by smaller models whose cosines are others: compare it only with its like. CLIP
reads 77 tokens; what a prompt says after them is not read. A still has 1 in (18) and (20).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from synmotion_core.evaluation.metrics import METRICS, Asked
from synmotion_core.evaluation.metrics.extractors import Extractor, extractor
from synmotion_core.evaluation.metrics.pictures import CLIP, Look, check_frames, directions, pixels, steady
from synmotion_core.types import Frames

_BATCH = 32


def score(asked: Asked) -> Mapping[str, Sequence[float]]:
    """clip_text, clip_consistency and background_consistency."""
    clip = extractor(METRICS["clip"].weights[0], "CLIPModel", words=True)
    found: dict[str, list[float]] = {"clip_text": [], "clip_consistency": [], "background_consistency": []}
    for shot in asked.shots:
        check_frames(shot.frames, "CLIP's consistency")
        seen, said = seen_by(clip, shot.frames), said_to(clip, shot.prompt.text)
        found["clip_text"].append(float((seen @ said).mean()))  # (19)
        found["clip_consistency"].append(float((seen[1:] * seen[:-1]).sum(-1).mean()))  # (20)
        found["background_consistency"].append(steady(seen))
    return found


@torch.no_grad()
def seen_by(clip: Extractor, frames: Frames) -> Tensor:
    """Directions of frames, [F, D]."""
    side = clip.model.config.vision_config.image_size
    taken = pixels(frames, Look(shorter=side, crop=side, by="bicubic", channels=CLIP)).to(clip.device, clip.model.dtype)
    return directions(torch.cat([clip.model.get_image_features(some).pooler_output for some in taken.split(_BATCH)]))


@torch.no_grad()
def said_to(clip: Extractor, text: str) -> Tensor:
    """The direction of a text, [D]."""
    most = clip.model.config.text_config.max_position_embeddings
    words = clip.tokenizer([text], truncation=True, max_length=most, return_tensors="pt").to(clip.device)
    return directions(clip.model.get_text_features(words.input_ids, words.attention_mask).pooler_output[0])
