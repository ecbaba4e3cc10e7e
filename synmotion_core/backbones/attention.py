"""Which attention kernel a denoiser runs on, and what the projections of a dual-stream block are called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from synmotion_core.backbones.checks import check_projections


@contextmanager
def attention_for(device: torch.device) -> Iterator[None]:
    """Around a denoiser's forward pass, and around the recomputation of checkpointed blocks.

    On a CPU: two matrix products and a softmax, the scores in memory. At the few hundred tokens that a CPU can afford,
    and with a mask, a training step takes about a tenth less time than on torch's blockwise kernel. Elsewhere torch
    chooses. What was chosen before is chosen again afterwards.
    """
    if device.type != "cpu":
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    # bf16 in, bf16 out: otherwise this kernel computes in float32 (the switch says cuda in its name, a CPU obeys it)
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with sdpa_kernel(SDPBackend.MATH):  # also of U-Nets, whose attention does not ask diffusers' own switch
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)


def dual_stream_targets(projections: str) -> str:
    """A regular expression over the attention projections, of video and of text, in the blocks `transformer_blocks`.

    projections are letters of "qkvo"; raises ShapeError for others.
    """
    check_projections(projections)
    video = {"q": "to_q", "k": "to_k", "v": "to_v", "o": r"to_out\.0"}
    text = {"q": "add_q_proj", "k": "add_k_proj", "v": "add_v_proj", "o": "to_add_out"}
    names = "|".join([video[p] for p in projections] + [text[p] for p in projections])
    return rf"transformer_blocks\.\d+\.attn\.({names})"
