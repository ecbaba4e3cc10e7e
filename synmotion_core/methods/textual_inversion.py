"""Textual Inversion (arXiv 2208.01618): one learnt word stands for the motion, and nothing else learns.

    v* = argmin_v E | velocity(x_s, s, c(y; v)) - (noise - x) |^2                          (Textual Inversion, Eq. 2)

c(y; v) is the first text encoder's reading of "a person *": a prompt whose motion, however many tokens its words have,
is one token with the input embedding v. So it is the one method whose conditions are encoded anew in every step, by a
frozen encoder that lets gradients through (interfaces.Words).

The paper starts v at the embedding of a coarse word. Ours: the mean of the input embeddings of the motion's own tokens.
The pooled vector of a second encoder (HunyuanVideo's CLIP) keeps the plain words, since CLIP has another table.

Strength s reads start + s (v - start) in the motion's place; 0 is the prompt in its plain words, encoded as ever.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from synmotion_core.errors import AdapterError, ConfigError
from synmotion_core.interfaces import Backbone, Feature, Words, check_compatible
from synmotion_core.storage import check_keys
from synmotion_core.types import Condition, Phase, Prompt, TextCondition, stack_text

KEYS = ("synmotion.word", "synmotion.word_start")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextualInversionConfig:
    """embedding_lr scales the run's learning rate: a word can take larger steps than a matrix."""

    embedding_lr: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.embedding_lr < math.inf:
            raise ConfigError(f"embedding_lr must be a number above 0, got {self.embedding_lr}")


class TextualInversion:
    """Textual Inversion attached to a backbone; see interfaces.Method."""

    name = "textual_inversion"

    def __init__(self, backbone: Backbone, config: TextualInversionConfig, reference: Prompt) -> None:
        self.config = config
        self.words = cast(Words, backbone)
        self.start = self.words.motion_words(reference).mean(0).to(backbone.device)
        self.word = nn.Parameter(self.start.clone())
        self.words.hold_words(True)

    @property
    def groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        return {"word": [self.word]}

    def learning_rate_scale(self, group: str) -> float:
        """Factor on the run's learning rate."""
        return self.config.embedding_lr

    def phase(self, seed: int, step: int) -> Phase:
        return Phase(name="reference", draws="reference", trains=frozenset({"word"}))

    def begin(self, phase: Phase) -> None:
        """Nothing is of one phase alone."""

    def condition(self, text: TextCondition, strength: float = 1.0) -> Condition:
        prompts = text.prompts or (None,) * len(text)
        learnt = [row for row, prompt in enumerate(prompts) if prompt is not None]
        if strength == 0 or not learnt:
            return text.as_condition()
        word = self.word if strength == 1 else self.start + strength * (self.word - self.start)
        read = self.words.encode_word([p for p in prompts if p is not None], word)
        # what other encoders made of the plain words stays
        own = replace(
            text.select(learnt),
            prompt_embeds=read.prompt_embeds,
            prompt_attention_mask=read.prompt_attention_mask,
            subject_tokens=read.subject_tokens,
            motion_tokens=read.motion_tokens,
        )
        others = [row for row in range(len(text)) if row not in learnt]
        if not others:
            return own.as_condition()
        places = torch.tensor(learnt + others).argsort().tolist()
        return stack_text([own, text.select(others)]).select(places).as_condition()

    def set_strength(self, strength: float) -> None:
        """Nothing of it lives in the denoiser."""

    def state_dict(self) -> dict[str, Tensor]:
        values = (self.word.detach(), self.start)
        return {key: value.float().cpu().clone() for key, value in zip(KEYS, values, strict=True)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        strange = [k for k in state if not k.startswith("synmotion.")]
        if strange:
            raise AdapterError(f"{self.name} does not know the key {strange[0]!r}")
        own: dict[str, Tensor] = dict(zip(KEYS, (self.word, self.start), strict=True))
        check_keys(own, state, "the learnt word")
        with torch.no_grad():
            for key, tensor in own.items():
                tensor.copy_(state[key])

    def detach(self) -> None:
        self.words.hold_words(False)


class TextualInversionEntry:
    """The registry row."""

    name = "textual_inversion"
    title = (
        "Textual inversion: one learnt word, and the smallest file; it can name what the base knows how to draw, not "
        "teach it, and the text encoder works in every step"
    )
    requires: frozenset[Feature] = frozenset({"word_embeddings"})
    config: type = TextualInversionConfig

    def draws_priors(self, config: Any) -> bool:
        return False

    def num_parameters(self, config: Any, text_width: int, attention_width: int, clips: int = 0) -> int:
        return text_width  # of the families that offer it, the encoder's input is as wide as its output

    def attach(self, backbone: Backbone, config: Any, reference: Prompt, clips: int = 0) -> TextualInversion:
        check_compatible(backbone.spec, self.name, self.requires)
        return TextualInversion(backbone, config, reference)
