"""The attention kernel of a CPU: chosen for the forward pass, the same attention, put back afterwards."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry, dispatch_attention_fn
from diffusers.models.attention_processor import Attention

from synmotion_core.backbones.attention import attention_for
from synmotion_core.backbones.precision import checkpoint_blocks
from tests.backbones.tiny import tiny_backbone


def _chosen() -> tuple[AttentionBackendName, bool]:
    backend, _ = _AttentionBackendRegistry.get_active_backend()
    return AttentionBackendName(backend), torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()


def test_it_is_chosen_inside_and_put_back_also_after_an_error() -> None:
    before = _chosen()
    with attention_for(torch.device("cpu")):
        assert _chosen() == (AttentionBackendName._NATIVE_MATH, True)
    assert _chosen() == before
    with pytest.raises(RuntimeError), attention_for(torch.device("cpu")):
        raise RuntimeError
    assert _chosen() == before
    with attention_for(torch.device("cuda")):
        assert _chosen() == before


def test_cudnns_kernel_learns_nothing_from_a_mask() -> None:
    """It gives NaN at some lengths on a Hopper."""
    cuda, allowed = torch.device("cuda"), torch.backends.cuda.cudnn_sdp_enabled
    before = allowed()
    with attention_for(cuda, masked=True):
        assert not allowed()
        assert torch.backends.cuda.flash_sdp_enabled()
        assert torch.backends.cuda.mem_efficient_sdp_enabled()
    assert allowed() == before
    with torch.no_grad(), attention_for(cuda, masked=True):
        assert allowed() == before, "drawing has no backward pass"
    with attention_for(cuda):
        assert allowed() == before


@pytest.mark.parametrize(
    ("name", "masked"), [("hunyuanvideo", True), ("hunyuanvideo-1.5", True), ("wan2.1-t2v-1.3b", False)]
)
def test_blocks_that_are_computed_again_are_on_the_same_kernels(name: str, masked: bool) -> None:
    model = copy.deepcopy(tiny_backbone(name).denoiser)
    seen: list[bool] = []
    model.enable_gradient_checkpointing = lambda again: seen.append(bool(again(_cudnn_is_left_out)))
    checkpoint_blocks(model, torch.device("cuda"))
    assert seen == [masked]


def _cudnn_is_left_out() -> torch.Tensor:
    return torch.tensor(not torch.backends.cuda.cudnn_sdp_enabled())


def test_it_is_the_same_attention() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 40, 3, 16, generator=generator).bfloat16() for _ in range(3))
    mask = torch.ones(2, 1, 1, 40, dtype=torch.bool)
    mask[1, ..., 30:] = False
    plain = dispatch_attention_fn(q, k, v, attn_mask=mask)
    with attention_for(torch.device("cpu")):
        ours = dispatch_attention_fn(q, k, v, attn_mask=mask)
    torch.testing.assert_close(ours, plain, rtol=0.02, atol=0.02)
    assert not torch.allclose(plain, dispatch_attention_fn(q, k, v), atol=0.05), "the mask counts"


def test_attention_of_unets_is_chosen_as_well() -> None:
    """Their processors call torch themselves; its blockwise kernel took two thirds of a training step."""
    layer, x = Attention(32, heads=2, dim_head=16), torch.randn(2, 17, 32)
    with torch.profiler.profile() as plain:
        expected = layer(x)
    with attention_for(torch.device("cpu"), everywhere=True), torch.profiler.profile() as ours:
        found = layer(x)
    torch.testing.assert_close(found, expected)
    kernels = [{e.key for e in run.key_averages() if "scaled_dot" in e.key} for run in (plain, ours)]
    assert any("flash" in key for key in kernels[0])
    assert not any("flash" in key for key in kernels[1])
    assert torch.backends.cuda.flash_sdp_enabled(), "put back"
