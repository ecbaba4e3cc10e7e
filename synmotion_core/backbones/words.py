"""A learnt word in a prompt: the tokens of its motion become one with a given embedding.

    [s] a red cat | squats , bobs apart deep | in the snow      tokens as they are, motion between the bars
    [s] a red cat |             *            | in the snow      one token; the rest moves up, roles with it

Textual Inversion (arXiv 2208.01618) adds such a token to the tokenizer. Here the ids stay as they are and the encoder
gets embeddings instead of ids, so that neither tokenizer nor weights are touched; for a word of the table it computes
the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from synmotion_core.backbones.roles import spans_of
from synmotion_core.types import Prompt, TextCondition


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Prompts as token ids [B, L] with their mask (1 = a token, right padded) and roles, bool [B, L]."""

    ids: Tensor
    mask: Tensor
    subject: Tensor
    motion: Tensor

    def to(self, device: torch.device) -> Tokens:
        """Copies on a device."""
        return self._each(lambda x: x.to(device))

    def one_motion(self) -> Tokens:
        """Each motion's first token only, right padded again, trimmed to the longest."""
        first = self.motion & (self.motion.long().cumsum(1) == 1)
        kept = ~self.motion | first
        order = (~kept).long().argsort(dim=1, stable=True)  # what is left out goes behind the padding
        length = int((self.mask.bool() & kept).sum(1).max())
        gone = (~kept).gather(1, order)[:, :length]
        short = replace(self, motion=first)._each(lambda x: x.gather(1, order)[:, :length])
        return replace(short, mask=short.mask * ~gone)

    def condition(self, embeds: Tensor, prompts: Sequence[Prompt | None], crop: int = 0) -> TextCondition:
        """What the encoder made of them, `embeds` [B, L - crop, D], without the first `crop` tokens of a template."""
        return TextCondition(
            prompt_embeds=embeds,
            prompt_attention_mask=self.mask[:, crop:],
            pooled_prompt_embeds=None,
            subject_tokens=self.subject[:, crop:],
            motion_tokens=self.motion[:, crop:],
            prompts=tuple(prompts),
        )

    def _each(self, change: Any) -> Tokens:
        return Tokens(
            ids=change(self.ids), mask=change(self.mask), subject=change(self.subject), motion=change(self.motion)
        )


class FirstEncoder:
    """What interfaces.Words asks of a family, but the encoding itself: for those with these two members."""

    pipe: Any
    _tokens: Any  # (texts, spans) -> Tokens

    def hold_words(self, hold: bool) -> None:
        self.pipe.encoders.hold("text_encoder", hold)

    @torch.no_grad()
    def motion_words(self, prompt: Prompt) -> Tensor:
        tokens = self._tokens([prompt.text], spans_of([prompt]))
        return embeddings_of(self.pipe.text_encoder, tokens.ids[tokens.motion])


def embeddings_of(encoder: Any, ids: Tensor) -> Tensor:
    """Rows of an encoder's table of words, float32: ids [...] -> [..., E]."""
    table = encoder.get_input_embeddings()
    return table(ids.to(table.weight.device)).float()


def with_word(encoder: Any, tokens: Tokens, word: Tensor) -> Tensor:
    """Input embeddings [B, L, E] of tokens, in the encoder's type, with `word` [E] for each motion token."""
    table = encoder.get_input_embeddings()
    embeds = table(tokens.ids.to(table.weight.device)).to(word.device)  # an offloaded one is not called whole here
    return torch.where(tokens.motion.unsqueeze(-1), word.to(embeds), embeds)


def lifted(word: Tensor, read: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Tensor:
    """`read(word)`, both float32; `dtype` is what the encoder between them computes in.

    A gradient that comes back through float16 vanishes below 6e-8, and a loss's is smaller there. So it is multiplied
    by the power of two that brings its largest value to about 1, and what reaches the word is divided by it.
    """
    if dtype != torch.float16 or not (word.requires_grad and torch.is_grad_enabled()):
        return read(word)
    exponents: list[Tensor] = []

    def lift(gradient: Tensor) -> Tensor:
        exponents[:] = [torch.frexp(gradient.abs().amax()).exponent]
        return torch.ldexp(gradient, -exponents[0])

    own = word.view_as(word)  # hooks on a parameter would stay
    own.register_hook(lambda gradient: torch.ldexp(gradient, exponents[0]))
    embeds = read(own)
    embeds.register_hook(lift)
    return embeds
