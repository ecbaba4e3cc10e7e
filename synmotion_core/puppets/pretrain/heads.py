"""The parts that are trained, together: text encoders and transformer, in both modes and in bf16."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import HunyuanVideoPipeline
from torch import Tensor, nn

from synmotion_core.backbones.token_replace import token_replace_form
from synmotion_core.puppets.pretrain.feed import Batch

TRAINED = ("transformer", "text_encoder", "text_encoder_2")


class Heads(nn.Module):
    """The trained parts together: text encoders and transformer, T2V and I2V modules over the same parameters."""

    def __init__(self, pipe: HunyuanVideoPipeline, device: str = "cpu") -> None:
        super().__init__()
        self.transformer, self.text_encoder, self.text_encoder_2 = (
            pipe.transformer,
            pipe.text_encoder,
            pipe.text_encoder_2,
        )
        self.to(device).train()
        # in a list: it shares its modules with the transformer, and must not register them twice
        self._image_to_video: list[Any] = [token_replace_form(self.transformer)]

    def compile(self) -> None:
        self.transformer.compile(dynamic=False)
        self._image_to_video[0].compile(dynamic=False)

    def clean(self, noisy: Tensor, batch: Batch) -> Tensor:
        """The clean latents as the transformer sees them, float32."""
        embeds = self.text_encoder(batch.input_ids, attention_mask=batch.mask, output_hidden_states=True)
        pooled = self.text_encoder_2(batch.input_ids_2).pooler_output
        model: Any = self._image_to_video[0] if batch.image_to_video else self.transformer
        with at_corner(model.rope, batch.corner):
            return model(
                hidden_states=noisy,
                timestep=batch.sigma * 1000,
                encoder_hidden_states=embeds.hidden_states[-3],
                encoder_attention_mask=batch.mask,
                pooled_projections=pooled,
                return_dict=False,
            )[0].float()


@contextmanager
def at_corner(rope: nn.Module, corner: tuple[int, int]) -> Iterator[None]:
    """A part of the frame keeps its place: the rotary grid of the whole frame up to its far end, cut to the part.

    Scores among video tokens depend on distances only, those with (unrotated) text tokens on the place.
    """
    if corner == (0, 0):
        yield
        return
    row, column = corner

    def embed(hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        frames, height, width = hidden_states.shape[2:]
        whole = type(rope).forward(rope, hidden_states.new_empty(1, 1, frames, height + row, width + column))
        cos, sin = (g.unflatten(0, (frames, height + row, width + column))[:, row:, column:] for g in whole)
        return cos.flatten(0, 2), sin.flatten(0, 2)

    rope.forward = embed
    try:
        yield
    finally:
        del rope.forward


def twin_of(pipe: HunyuanVideoPipeline) -> HunyuanVideoPipeline:
    """The pipeline with copies of the trained parts; the rest is shared."""
    return HunyuanVideoPipeline(**pipe.components | {part: copy.deepcopy(getattr(pipe, part)) for part in TRAINED})


def load_weights(pipe: HunyuanVideoPipeline, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
    """Into the trained parts, from tensors named <prefix><part>.<name>; the parts are for inference afterwards."""
    for part in TRAINED:
        module, head = getattr(pipe, part), f"{prefix}{part}."
        module.load_state_dict({k[len(head) :]: v for k, v in tensors.items() if k.startswith(head)}, strict=False)
        module.eval()


def in_bfloat16(pipe: HunyuanVideoPipeline, device: str) -> Heads:
    """A second set of the trained parts that computes in bf16; `copy_weights` brings the weights before each step."""
    heads = Heads(twin_of(pipe), device)
    for module in (heads, heads._image_to_video[0]):
        module.to(torch.bfloat16)
    return heads


@torch.no_grad()
def copy_weights(source: Heads, target: Heads) -> None:
    torch._foreach_copy_(list(target.parameters()), list(source.parameters()))


def hand_over_gradients(source: Heads, target: Heads) -> None:
    for theirs, own in zip(source.parameters(), target.parameters(), strict=True):
        own.grad = None if theirs.grad is None else theirs.grad.float()
        theirs.grad = None
