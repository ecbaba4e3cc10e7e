"""Which attention kernel a denoiser runs on, and what the projections of a dual-stream block are called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from synmotion_core.backbones.checks import check_projections


@contextmanager
def attention_for(device: torch.device, *, everywhere: bool = False, masked: bool = False) -> Iterator[None]:
    """Around a denoiser's forward pass, and around the recomputation of checkpointed blocks.

    On a CPU: two matrix products and a softmax, the scores in memory. At the few hundred tokens that a CPU can afford,
    and with a mask, a training step takes about a tenth less time than on torch's blockwise kernel. Elsewhere torch
    chooses. What was chosen before is chosen again afterwards.
    everywhere: also in modules that do not ask diffusers' switch, as those of U-Nets, whose steps take half the time
    then; not where text encoders run as well, whose last digits would no longer be the stock pipelines'.
    masked: with a mask, on CUDA: cuDNN's kernel, torch's first choice on a Hopper, is left out while gradients are
    recorded. At token counts 64 above a multiple of 128 its backward pass gives NaN (PyTorch's issue 196678).
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    if device.type != "cpu":
        spared = device.type == "cuda" and masked and torch.is_grad_enabled()
        kernels = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
        with sdpa_kernel(kernels) if spared else nullcontext():
            yield
        return
    from diffusers.models.attention_dispatch import attention_backend

    # bf16 in, bf16 out: otherwise this kernel computes in float32 (the switch says cuda in its name, a CPU obeys it)
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True)
    try:
        with attention_backend("_native_math"), sdpa_kernel(SDPBackend.MATH) if everywhere else nullcontext():
            yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)


_OF_TEXT = {"q": "add_q_proj", "k": "add_k_proj", "v": "add_v_proj", "o": "to_add_out"}


def dual_stream_targets(projections: str) -> str:
    """A regular expression over the attention projections, of video and of text, in the blocks `transformer_blocks`.

    projections are letters of "qkvo"; raises ShapeError for others.
    """
    check_projections(projections)
    video = {"q": "to_q", "k": "to_k", "v": "to_v", "o": r"to_out\.0"}
    names = "|".join([video[p] for p in projections] + [_OF_TEXT[p] for p in projections])
    return rf"transformer_blocks\.\d+\.attn\.({names})"


def of_cross_attention(projections: str) -> str:
    """Of an attention from the video to the text, what is computed from the text: keys and values.

    Queries and outputs are the video's; the expression matches nothing where no others are asked for.
    """
    return f"({'|'.join(f'to_{p}' for p in projections if p in 'kv') or '(?!)'})"


def dual_stream_text(projections: str) -> str:
    """The same of the text alone."""
    check_projections(projections)
    return rf"transformer_blocks\.\d+\.attn\.({'|'.join(_OF_TEXT[p] for p in projections)})"
