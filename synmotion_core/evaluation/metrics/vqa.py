"""What a vision-language model answers: is the motion there, and is it done by the one who was asked for?

    gap        mean over ORDERS of log p("yes") - log p("no") of the answer's first token, each over its spellings (23)
    verdict    1 where gap > 0, else 0

The question is put in both orders of the words, since such models lean to one of them; nothing is sampled. FRAMES of a
video, evenly from its first to its last, at about SIDE x SIDE pixels each, in the form that Qwen3-VL was taught: frames
in pairs, each after the time at which it is shown. The form is written here since transformers' own makes it of videos
only where torchvision is installed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from synmotion_core.errors import MissingError, PromptError
from synmotion_core.evaluation.metrics import METRICS, Asked, Shot
from synmotion_core.evaluation.metrics.extractors import Extractor, extractor
from synmotion_core.evaluation.metrics.pictures import HALF, normalised, resized, spread

MOTION = "Does this video show someone or something that {motion}?"
SUBJECT = "Is {subject} the one who moves in this video?"
ORDERS = ("Answer yes or no.", "Answer no or yes.")
YES, NO = ("Yes", "yes"), ("No", "no")
FRAMES = 8
SIDE = 448

_TURN = "<|im_start|>user\n{video}{question}<|im_end|>\n<|im_start|>assistant\n"
_PAIR = "<{seconds:.1f} seconds><|vision_start|>{places}<|vision_end|>"
_PLACE = "<|video_pad|>"


def score(asked: Asked) -> Mapping[str, Sequence[float]]:
    """vqa_motion and vqa_subject."""
    model = extractor(METRICS["vqa"].weights[0], "Qwen3VLForConditionalGeneration", words=True)
    found: dict[str, list[float]] = {"vqa_motion": [], "vqa_subject": []}
    for shot in asked.shots:
        questions = MOTION.format(motion=shot.prompt.motion), SUBJECT.format(subject=shot.prompt.subject)
        for name, question in zip(found, questions, strict=True):
            found[name].append(float(gap(model, shot, question) > 0))
    return found


@torch.no_grad()
def gap(model: Extractor, shot: Shot, question: str) -> float:
    """(23) of a video: above 0 where the answer is rather yes."""
    video, (yes, no) = shown(model, shot), answers(model)
    found = []
    for order in ORDERS:
        logits = model.model(**inputs(model, video, f"{question} {order}"), logits_to_keep=1).logits[0, -1].float()
        found.append(float(logits[yes].logsumexp(0) - logits[no].logsumexp(0)))
    return sum(found) / len(found)


def inputs(model: Extractor, video: tuple[Tensor, Tensor, Sequence[float]], question: str) -> dict[str, Tensor]:
    """What the model reads, of a video as `shown` has it. Raises PromptError for words with marks of its own."""
    if "<|" in question:
        raise PromptError(f"{question!r} holds '<|', with which the vision-language model's own marks begin")
    patches, grid, stamps = video
    merge = model.model.config.vision_config.spatial_merge_size
    places = _PLACE * int(grid[0, 1:].prod() // merge**2)
    pairs = "".join(_PAIR.format(seconds=stamp, places=places) for stamp in stamps)
    words = model.tokenizer([_TURN.format(video=pairs, question=question)], return_tensors="pt").to(model.device)
    return {
        "input_ids": words.input_ids,
        "attention_mask": words.attention_mask,
        "pixel_values_videos": patches,
        "video_grid_thw": grid,
        "mm_token_type_ids": 2 * (words.input_ids == model.model.config.video_token_id).int(),
    }


def answers(model: Extractor) -> tuple[list[int], list[int]]:
    """The first tokens of YES and of NO. Raises MissingError where they are not to be told apart."""
    found = [
        sorted({model.tokenizer(word, add_special_tokens=False).input_ids[0] for word in words}) for words in (YES, NO)
    ]
    if set(found[0]) & set(found[1]):
        raise MissingError("the tokenizer of the vision-language model begins yes and no with the same token")
    return found[0], found[1]


def shown(model: Extractor, shot: Shot) -> tuple[Tensor, Tensor, list[float]]:
    """Patches [N, channels x times x patch x patch] of a video in the order of its merged blocks; their grid [[pairs,
    rows, columns]]; and when each pair is shown, in seconds."""
    config = model.model.config.vision_config
    patch, merge, times = config.patch_size, config.spatial_merge_size, config.temporal_patch_size
    height, width = fitting(shot.frames.shape[1], shot.frames.shape[2], patch * merge)
    taken = spread(len(shot.frames), FRAMES)
    video = normalised(resized(shot.frames[taken], height, width, "bicubic"), HALF)
    pairs, rows, columns = FRAMES // times, height // patch, width // patch
    blocks = video.reshape(pairs, times, 3, rows // merge, merge, patch, columns // merge, merge, patch)
    patches = blocks.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(pairs * rows * columns, -1)
    seconds = taken / shot.fps
    stamps = [float(seconds[i : i + times][[0, -1]].mean()) for i in range(0, FRAMES, times)]
    grid = torch.tensor([[pairs, rows, columns]], device=model.device)
    return patches.to(model.device, model.model.dtype), grid, stamps


def fitting(height: int, width: int, multiple: int) -> tuple[int, int]:
    """The size of about SIDE x SIDE pixels with the same shape, of whole multiples.

    >>> fitting(64, 64, 32), fitting(480, 832, 32)
    ((448, 448), (352, 576))
    """
    scale = math.sqrt(SIDE * SIDE / (height * width))
    return max(1, round(height * scale / multiple)) * multiple, max(1, round(width * scale / multiple)) * multiple
