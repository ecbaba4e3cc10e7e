"""Which attention kernel a denoiser runs on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
    from diffusers.models.attention_dispatch import attention_backend

    # bf16 in, bf16 out: otherwise this kernel computes in float32 (the switch says cuda in its name, a CPU obeys it)
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with attention_backend("_native_math"):
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)
