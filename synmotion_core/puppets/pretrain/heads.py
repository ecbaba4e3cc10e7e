"""The parts that are trained, copied: for drawing, and to compute in bf16."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from synmotion_core.puppets.pretrain.anatomy import Anatomy, Heads


def twin_of(pipe: Any, trained: Sequence[str]) -> Any:
    """The pipeline with copies of the trained parts; the rest is shared."""
    return type(pipe)(**pipe.components | {part: copy.deepcopy(getattr(pipe, part)) for part in trained})


def load_weights(pipe: Any, trained: Sequence[str], tensors: Mapping[str, Tensor], prefix: str = "") -> None:
    """Into the trained parts, from tensors named <prefix><part>.<name>; the parts are for inference afterwards."""
    for part in trained:
        module, head = getattr(pipe, part), f"{prefix}{part}."
        module.load_state_dict({k[len(head) :]: v for k, v in tensors.items() if k.startswith(head)}, strict=False)
        module.eval()


def in_bfloat16(anatomy: Anatomy, pipe: Any, device: str) -> Heads:
    """A second set of the trained parts that computes in bf16; `copy_weights` brings the weights before each step."""
    heads = anatomy.heads(twin_of(pipe, anatomy.trained), device)
    heads.to_bfloat16()
    return heads


@torch.no_grad()
def copy_weights(source: Heads, target: Heads) -> None:
    torch._foreach_copy_(list(target.parameters()), list(source.parameters()))


def hand_over_gradients(source: Heads, target: Heads) -> None:
    for theirs, own in zip(source.parameters(), target.parameters(), strict=True):
        own.grad = None if theirs.grad is None else theirs.grad.float()
        theirs.grad = None
