"""The vocabulary: values that pass between layers. Frozen, keyword-only, no behaviour beyond their own rules.

Tensor aliases (all torch.Tensor):  Pixels [B, 3, F, H, W] in [-1, 1] · Latents [B, C, f, h, w] · Sigmas [B] in [0, 1]
Frames are numpy uint8 [F, H, W, 3] on the way to and from files.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synmotion_core.errors import PromptError, ShapeError
from synmotion_core.limits import check_letters

Pixels = Tensor
Latents = Tensor
Sigmas = Tensor
Frames = NDArray[np.uint8]
Mode = Literal["t2v", "i2v"]
Draw = Literal["reference", "prior"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """`<subject, motion>` with an optional setting: "a red cat" + "waves" + "in the snow".

    A motion may go on after a comma and say what the body does: "squats, bending both knees, arms to the front".
    Words are stripped and inner white space is normalised to single spaces. Raises PromptError when subject or motion
    is empty, when both are the same words, or when a field holds a line break or a control character, or is endless.

    >>> Prompt(subject="a red cat", motion="waves", setting="in the snow").text
    'a red cat waves in the snow'
    >>> Prompt(subject="a cat", motion="waves").span("motion")
    (6, 11)
    """

    subject: str
    motion: str
    setting: str = ""

    def __post_init__(self) -> None:
        for name in ("subject", "motion", "setting"):
            raw = getattr(self, name)
            if not isinstance(raw, str):
                raise PromptError(f"{name} must be text, got {type(raw).__name__}")
            check_letters(name, raw, PromptError)
            if any(not c.isprintable() for c in raw):
                raise PromptError(f"{name} must be one line of printable text, got {raw!r}")
            object.__setattr__(self, name, " ".join(raw.split()))
        if not self.subject:
            raise PromptError('the subject is empty: say who moves, for example "a person"')
        if not self.motion:
            raise PromptError('the motion is empty: say what happens, as a verb, for example "claps"')
        if self.subject.casefold() == self.motion.casefold():
            raise PromptError(
                f"subject and motion are both {self.subject!r}: the method needs to tell them apart, "
                'for example "a person" and "claps"'
            )

    @property
    def text(self) -> str:
        """The whole prompt, as the encoders read it."""
        return " ".join(part for part in (self.subject, self.motion, self.setting) if part)

    def span(self, role: Literal["subject", "motion"]) -> tuple[int, int]:
        """Character range [start, end) of a role in `text`."""
        if role == "subject":
            return 0, len(self.subject)
        start = len(self.subject) + 1
        return start, start + len(self.motion)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoShape:
    """num_frames, height and width in pixels, fps in frames a second. Raises ShapeError unless all are positive."""

    num_frames: int
    height: int
    width: int
    fps: float

    def __post_init__(self) -> None:
        for name in ("num_frames", "height", "width", "fps"):
            if not getattr(self, name) > 0:
                raise ShapeError(f"{name} must be positive, got {getattr(self, name)}")

    @property
    def seconds(self) -> float:
        """Playing time."""
        return self.num_frames / self.fps


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One reference clip, decoded and shaped: uint8 frames [F, H, W, 3] with the words that describe it.

    `name` is for people; `content_hash` (hex SHA-256 of frames and fps) names its cached encodings.
    """

    name: str
    frames: Frames = field(repr=False)
    fps: float
    prompt: Prompt
    content_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCondition:
    """What the frozen encoders make of prompts.

    prompt_embeds [B, L, D]; prompt_attention_mask [B, L] (1 = a token, right padded); pooled_prompt_embeds [B, P] or
    None; subject_tokens and motion_tokens bool [B, L], the tokens whose characters touch the role's words.

    What only some families have, and no method changes: prompt_embeds_2 [B, M, E] of a second text encoder with its
    prompt_attention_mask_2 [B, M], right padded too, and image_embeds [B, N, V], how an encoder of pictures sees the
    first image.

    prompts: what each row was encoded from, None for text without roles; for methods that encode it anew.
    """

    prompt_embeds: Tensor
    prompt_attention_mask: Tensor
    pooled_prompt_embeds: Tensor | None
    subject_tokens: Tensor
    motion_tokens: Tensor
    prompt_embeds_2: Tensor | None = None
    prompt_attention_mask_2: Tensor | None = None
    image_embeds: Tensor | None = None
    prompts: tuple[Prompt | None, ...] | None = None

    def __len__(self) -> int:
        return self.prompt_embeds.shape[0]

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> TextCondition:
        """Copies on a device; `dtype` applies to the embeddings."""

        def moved(x: Tensor | None, dtype: torch.dtype | None = None) -> Tensor | None:
            return None if x is None else x.to(device, dtype)

        return TextCondition(
            prompt_embeds=self.prompt_embeds.to(device, dtype),
            prompt_attention_mask=self.prompt_attention_mask.to(device),
            pooled_prompt_embeds=moved(self.pooled_prompt_embeds, dtype),
            subject_tokens=self.subject_tokens.to(device),
            motion_tokens=self.motion_tokens.to(device),
            prompt_embeds_2=moved(self.prompt_embeds_2, dtype),
            prompt_attention_mask_2=moved(self.prompt_attention_mask_2),
            image_embeds=moved(self.image_embeds, dtype),
            prompts=self.prompts,
        )

    def select(self, rows: Sequence[int]) -> TextCondition:
        """The given rows, trimmed to their longest prompt."""
        index = torch.as_tensor(list(rows), device=self.prompt_embeds.device)

        def chosen(x: Tensor | None, length: int | None = None) -> Tensor | None:
            return None if x is None else x[index, :length]

        mask, mask_2 = self.prompt_attention_mask[index], chosen(self.prompt_attention_mask_2)
        length, length_2 = longest(mask), None if mask_2 is None else longest(mask_2)
        return TextCondition(
            prompt_embeds=self.prompt_embeds[index, :length],
            prompt_attention_mask=mask[:, :length],
            pooled_prompt_embeds=chosen(self.pooled_prompt_embeds),
            subject_tokens=self.subject_tokens[index, :length],
            motion_tokens=self.motion_tokens[index, :length],
            prompt_embeds_2=chosen(self.prompt_embeds_2, length_2),
            prompt_attention_mask_2=chosen(self.prompt_attention_mask_2, length_2),
            image_embeds=chosen(self.image_embeds),
            prompts=None if self.prompts is None else tuple(self.prompts[row] for row in rows),
        )

    def as_condition(self, prompt_embeds: Tensor | None = None) -> Condition:
        """What the denoiser receives of it, with `prompt_embeds` in place of its own where a method made some."""
        return Condition(
            prompt_embeds=self.prompt_embeds if prompt_embeds is None else prompt_embeds,
            prompt_attention_mask=self.prompt_attention_mask,
            pooled_prompt_embeds=self.pooled_prompt_embeds,
            prompt_embeds_2=self.prompt_embeds_2,
            prompt_attention_mask_2=self.prompt_attention_mask_2,
            image_embeds=self.image_embeds,
        )


def longest(mask: Tensor) -> int:
    """How many tokens [B, L] -> the longest row has; at least 1, also where no row has any."""
    return max(1, int(mask.sum(1).max()))


def stack_text(parts: Sequence[TextCondition]) -> TextCondition:
    """Concatenate along the batch, right padding to the longest with zeros. Raises ValueError where only some parts
    have a field.
    """

    def joined(name: str) -> Any:
        given = [x for p in parts if (x := getattr(p, name)) is not None]
        if given and len(given) != len(parts):
            raise ValueError(f"either all parts have {name} or none has")
        if name == "prompts":
            return tuple(itertools.chain(*given)) if given else None
        if not given or name in ("pooled_prompt_embeds", "image_embeds"):  # no tokens of a prompt: of one size
            return torch.cat(given) if given else None
        length = max(x.shape[1] for x in given)
        return torch.cat([torch.nn.functional.pad(x, [0, 0] * (x.ndim - 2) + [0, length - x.shape[1]]) for x in given])

    return TextCondition(**{field.name: joined(field.name) for field in fields(TextCondition)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What the denoiser receives: the text after the method's work, and for I2V the first image.

    Fields are those of TextCondition. image_latents: what Backbone.encode_image gives ([B, C, 1, h, w] for the
    HunyuanVideo families; Wan 2.2 A14B: [B, 4 + C, f, h, w]), or None for T2V. guidance: what a denoiser with embedded
    guidance is told; None is the backbone's own value for training.
    """

    prompt_embeds: Tensor
    prompt_attention_mask: Tensor
    pooled_prompt_embeds: Tensor | None
    prompt_embeds_2: Tensor | None = None
    prompt_attention_mask_2: Tensor | None = None
    image_embeds: Tensor | None = None
    image_latents: Tensor | None = None
    guidance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One training step's plan: which data it `draws`, which parameter groups it `trains`, and towards what.

    target "data" is the velocity of the clips drawn, "base" what the base alone predicts for them. frames "one" takes a
    single latent frame of each clip, drawn anew, instead of all. clip is the only row that is drawn, None: any. loss
    "debiased" adds the error of (9) in diffusion.py; coarse is c of its (10), 0 to 1.
    """

    name: str
    draws: Draw
    trains: frozenset[str]
    target: Literal["data", "base"] = "data"
    frames: Literal["all", "one"] = "all"
    clip: int | None = None
    loss: Literal["plain", "debiased"] = "plain"
    coarse: float = 0.0


# ------------------------------------------------------------------------------------------------ events
# Long work yields these; the command line prints them, jobs store them, the page draws them.


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Work begins. `total` counts the Progress events to expect."""

    what: str
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One unit of work done. `stage` is "fetch" (of the weights that `note` names, step and total in bytes), "encode",
    "prior", "train", "score", "invert" or "generate"; loss and seconds where they exist."""

    stage: str
    step: int
    total: int
    loss: float | None = None
    phase: str | None = None
    seconds: float | None = None
    denoiser_seconds: float | None = None  # of `seconds`, the denoiser's forward and backward
    memory_gib: float | None = None  # on a GPU the most that was allocated so far, else what the process holds
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """A video was written (H.264). step is 0 outside training; adapted says whether the adapter was on."""

    path: Path
    prompt: Prompt
    seed: int
    step: int = 0
    adapted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A state, an adapter or a video was written, whole: "best" is the adapter of the step with the best score so far,
    "seen" the first reference clip as its encoding shows it.

    applied: how many keys of an adapter a fresh load took, all it has.
    """

    path: Path
    step: int
    kind: Literal["checkpoint", "adapter", "best", "seen"]
    applied: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The adapter as it is after a step was scored on held-out prompts, in so many seconds.

    by names the rule (run/yardstick.py), values what it is made of, by the metrics' columns: means over the videos.
    Higher scores are better; best: no earlier step is as good.
    """

    step: int
    by: str
    score: float
    best: bool
    values: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Something a person should know: a rollback, a slow-down, a fallback that was asked for."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """Something a person asked to know, where nothing is wrong: how much a step cache left out."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Cancelled by request; the state at `step` is saved."""

    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """All done; `path` is the result, if there is one file; `best` the adapter with the best score, where scored."""

    path: Path | None = None
    seconds: float = 0.0
    best: Path | None = None


Event = Started | Progress | Sampled | Saved | Scored | Warned | Noted | Stopped | Finished
