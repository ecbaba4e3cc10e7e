"""SynMotion's semantic branch: learnt subject and motion embeddings, zero convolutions, and the Embedding Refiner.

    e  = [ e_mot + Z_m(e^l_mot), e_sub + Z_s(e^l_sub) ]       (SynMotion, Eq. 1; tokens of the two roles, in place)
    e' = e + Z_r(R(e))                                       (SynMotion, Eq. 2)

Published: one encoder pass, split by role; Z zero-initialised; e^l_mot starts from the full phrase's encoding,
e^l_sub at random; R
fuses both and sees no time. Not published, so ours:
  - e^l_* are sequences of K tokens. A phrase of n tokens reads them by linear interpolation (K = n reads them as they
  are), so that a
    motion learnt as three tokens applies to a phrase of one or of seven;
  - Z is a 1x1 convolution over tokens;
  - tokens keep their places in the prompt (`token_order`: "prompt"); R sees a learnt role vector instead of an order;
  - R is a small pre-norm transformer of width `refiner_width` over the tokens that have a role; other tokens
  (settings, <s>) are
    neither read nor changed;
  - the pooled CLIP vector stays as it is.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from synmotion_core.types import TextCondition


def zero_conv(width: int) -> nn.Conv1d:
    """Z: a 1x1 convolution over tokens whose weights and bias start at zero."""
    conv = nn.Conv1d(width, width, kernel_size=1)
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def _over_tokens(conv: nn.Conv1d, tokens: Tensor) -> Tensor:
    """[..., L, D] through a convolution that wants [..., D, L]."""
    return conv(tokens.transpose(-1, -2)).transpose(-1, -2)


def spread(learnt: Tensor, mask: Tensor) -> Tensor:
    """Lay a learnt sequence [K, D] over each row's masked tokens: [B, L] -> [B, L, D], zero elsewhere.

    The j-th of n tokens reads position j (K-1)/(n-1), linearly interpolated; a single token reads the middle.
    """
    length = learnt.shape[0]
    index = mask.long().cumsum(1) - 1
    count = mask.sum(1, keepdim=True)
    position = index * (length - 1) / (count - 1).clamp_min(1)
    position = torch.where(count == 1, torch.full_like(position, (length - 1) / 2), position).clamp(0, length - 1)
    low = position.floor().long()
    high = (low + 1).clamp_max(length - 1)
    weight = (position - low).unsqueeze(-1)
    return (learnt[low] * (1 - weight) + learnt[high] * weight) * mask.unsqueeze(-1)


REFINER_HEADS = 4
MAX_REFINER_WIDTH = 2048  # four times the widest that a text encoder's width leads to


class EmbeddingRefiner(nn.Module):
    """R: lets subject and motion tokens read each other. [B, L, D] and role masks -> [B, L, D], zero off the roles."""

    def __init__(self, text_width: int, width: int, layers: int, heads: int = REFINER_HEADS) -> None:
        super().__init__()
        self.project_in = nn.Linear(text_width, width)
        self.role = nn.Parameter(torch.randn(2, width) * 0.02)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.project_out = nn.Linear(width, text_width)

    def forward(self, embeds: Tensor, subject: Tensor, motion: Tensor) -> Tensor:
        seen = subject | motion
        x = self.project_in(F.layer_norm(embeds, embeds.shape[-1:]))
        x = x + subject.unsqueeze(-1) * self.role[0] + motion.unsqueeze(-1) * self.role[1]
        # a row without roles (the negative prompt) must not attend to nothing: let it see itself, its output is dropped
        hidden = ~seen & seen.any(1, keepdim=True)
        for block in self.blocks:
            x = block(x, src_key_padding_mask=hidden)
        return self.project_out(self.norm(x)) * seen.unsqueeze(-1)


class DualEmbedding(nn.Module):
    """e^l_mot, e^l_sub, three Zero-Convs and R. Parts that are switched off (0 tokens, 0 layers) do not exist.

    reference: the encoded reference phrase, one row; its motion tokens start e^l_mot, its scale the random e^l_sub.
    """

    def __init__(
        self,
        reference: TextCondition,
        *,
        motion: bool,
        subject: bool,
        subject_tokens: int,
        refiner_layers: int,
        refiner_width: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        embeds = reference.prompt_embeds[0].float().cpu()
        width = embeds.shape[-1]
        self.motion_embedding = self.motion_zero = self.subject_embedding = self.subject_zero = None
        self.refiner = self.refiner_zero = None
        if motion:
            self.motion_embedding = nn.Parameter(embeds[reference.motion_tokens[0].cpu()].clone())
            self.motion_zero = zero_conv(width)
        if subject:
            scale = float(embeds[reference.prompt_attention_mask[0].bool().cpu()].std())
            self.subject_embedding = nn.Parameter(torch.randn(subject_tokens, width, generator=generator) * scale)
            self.subject_zero = zero_conv(width)
        if refiner_layers:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
                self.refiner = EmbeddingRefiner(width, refiner_width, refiner_layers)
            self.refiner_zero = zero_conv(width)

    def forward(self, text: TextCondition, strength: float = 1.0) -> Tensor:
        """e' [B, L, D]; strength scales what is added, 0 returns the input."""
        embeds = text.prompt_embeds
        if strength == 0:
            return embeds
        subject, motion = text.subject_tokens, text.motion_tokens
        e = embeds.float()
        if self.motion_embedding is not None and self.motion_zero is not None:
            learnt = _over_tokens(self.motion_zero, self.motion_embedding)
            e = e + strength * spread(learnt, motion)  # (SynMotion, Eq. 1: motion)
        if self.subject_embedding is not None and self.subject_zero is not None:
            learnt = _over_tokens(self.subject_zero, self.subject_embedding)
            e = e + strength * spread(learnt, subject)  # (SynMotion, Eq. 1: subject)
        if self.refiner is not None and self.refiner_zero is not None:
            refined = _over_tokens(self.refiner_zero, self.refiner(e, subject, motion))
            seen = (subject | motion).unsqueeze(-1)
            e = e + strength * refined * seen  # (SynMotion, Eq. 2)
        return e

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the names that `prior_updates` and phases use."""
        found: dict[str, list[nn.Parameter]] = {}
        for name in ("motion_embedding", "subject_embedding"):
            value = getattr(self, name)
            if value is not None:
                found[name] = [value]
        for name in ("motion_zero", "subject_zero"):
            module = getattr(self, name)
            if module is not None:
                found[name] = list(module.parameters())
        if self.refiner is not None and self.refiner_zero is not None:
            found["refiner"] = [*self.refiner.parameters(), *self.refiner_zero.parameters()]
        return found


def num_parameters(
    width: int, *, motion_tokens: int, subject_tokens: int, refiner_layers: int, refiner_width: int
) -> int:
    """How many parameters a DualEmbedding of these sizes has, without building it."""
    conv = width * width + width
    count = (motion_tokens * width + conv if motion_tokens else 0) + (
        subject_tokens * width + conv if subject_tokens else 0
    )
    if refiner_layers:
        w = refiner_width
        block = 12 * w * w + 13 * w
        count += conv + width * w + w + 2 * w + refiner_layers * block + 2 * w + w * width + width
    return count


def default_refiner_width(text_width: int) -> int:
    """The text width up to 512, rounded to a multiple of 32: R stays small on large encoders."""
    return min(512, 32 * math.ceil(text_width / 32))
