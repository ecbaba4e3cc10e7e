"""Which attention kernel a denoiser runs on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def attention_for(device: torch.device) -> AbstractContextManager:
    """A context for a denoiser's forward pass.

    On a CPU: two matrix products and a softmax, the scores in memory. At the few hundred tokens a CPU can afford, and
    with a mask, that trains a fifth faster than torch's blockwise kernel. Elsewhere torch chooses.
    """
    if device.type != "cpu":
        return nullcontext()
    from diffusers.models.attention_dispatch import attention_backend

    # bf16 in, bf16 out: otherwise this kernel computes in float32 (the switch's name says cuda, a CPU obeys it too)
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    return attention_backend("_native_math")
