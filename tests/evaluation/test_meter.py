"""Memory counted without weights: against real allocations, and the numbers that plans are made from."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from diffusers import HunyuanVideoTransformer3DModel, UNet3DConditionModel, WanTransformer3DModel
from torch import nn
from torch.profiler import ProfilerActivity, profile

from synmotion_core.backbones import SPECS, family
from synmotion_core.backbones.precision import checkpoint_blocks
from synmotion_core.evaluation import bench_memory, meter
from synmotion_core.evaluation.bench import run as bench
from synmotion_core.methods import find_method
from synmotion_core.methods.attention_lora import AttentionLora
from synmotion_core.planning import memory as planning

TINY: dict[str, tuple[Any, dict[str, Any], str]] = {
    "hunyuanvideo": (
        HunyuanVideoTransformer3DModel,
        {
            "in_channels": 4, "out_channels": 4, "num_attention_heads": 4, "attention_head_dim": 32, "num_layers": 3,
            "num_single_layers": 4, "num_refiner_layers": 1, "patch_size": 2, "patch_size_t": 1,
            "guidance_embeds": True, "text_embed_dim": 64, "pooled_projection_dim": 32, "rope_axes_dim": (8, 12, 12),
        },
        family(SPECS["hunyuanvideo"]).attention_targets(None),
    ),
    "wan": (
        WanTransformer3DModel,
        {
            "patch_size": (1, 2, 2), "num_attention_heads": 4, "attention_head_dim": 32, "in_channels": 4,
            "out_channels": 4, "text_dim": 64, "freq_dim": 32, "ffn_dim": 256, "num_layers": 5,
            "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads", "rope_max_seq_len": 64,
        },
        family(SPECS["wan2.1-t2v-1.3b"]).attention_targets(None),
    ),
    "unet3d": (
        UNet3DConditionModel,
        {
            "in_channels": 4, "block_out_channels": (32, 64, 64, 64), "norm_num_groups": 8, "cross_attention_dim": 64,
            "attention_head_dim": 32,
        },
        family(SPECS["modelscope-t2v-1.7b"]).attention_targets(None),
    ),
}  # fmt: skip
SIZE = (5, 16, 16)


def allocated(name: str, *, checkpointing: bool, grad: bool) -> int:
    """What a real step takes of the CPU's memory beside the weights at the most, by torch's own profiler."""
    model_class, config, targets = TINY[name]
    torch.manual_seed(0)
    model = model_class.from_config(config).requires_grad_(False).bfloat16()
    if grad:
        AttentionLora(model, targets, rank=16, alpha=16.0, seed=0)
    if checkpointing:
        checkpoint_blocks(model, torch.device("cpu"))
    model.train(grad)
    with meter._fused_attention(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        empty = meter.INPUTS[model_class.__name__](config, 1, SIZE)
        inputs = {key: torch.zeros_like(value) for key, value in empty.items()}
        with torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16):
            velocity = model(**inputs, return_dict=False)[0].float()
        if grad:
            torch.autograd.backward(nn.functional.mse_loss(velocity, torch.zeros_like(velocity)))
    now = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return most


@pytest.mark.parametrize(("checkpointing", "grad"), [(False, True), (True, True), (False, False)])
@pytest.mark.parametrize("name", list(TINY))
def test_what_is_counted_is_what_a_real_step_allocates(name: str, checkpointing: bool, grad: bool) -> None:
    model_class, config, targets = TINY[name]
    if grad:
        own = meter.training_peak(model_class, config, targets, SIZE, gradient_checkpointing=checkpointing)
    else:
        own = meter.sampling_peak(model_class, config, SIZE)
    assert own == pytest.approx(allocated(name, checkpointing=checkpointing, grad=grad), rel=0.15)


def test_checkpointing_and_batches_count() -> None:
    model_class, config, targets = TINY["hunyuanvideo"]
    whole = meter.training_peak(model_class, config, targets, SIZE, gradient_checkpointing=False)
    checkpointed = meter.training_peak(model_class, config, targets, SIZE)
    assert checkpointed < whole / 2
    double = meter.training_peak(model_class, config, targets, SIZE, batch=2)
    assert double / checkpointed == pytest.approx(2, rel=0.1)
    longer = meter.training_peak(model_class, config, targets, (10, 16, 16))
    assert longer / checkpointed == pytest.approx(2, rel=0.1), "by the token"
    assert meter.sampling_peak(model_class, config, SIZE) < checkpointed


def test_depth_is_reckoned_as_if_all_blocks_had_run(monkeypatch: pytest.MonkeyPatch) -> None:
    model_class, config, targets = TINY["hunyuanvideo"]
    for checkpointing in (False, True):
        reckoned = meter.training_peak(model_class, config, targets, SIZE, gradient_checkpointing=checkpointing)
        with monkeypatch.context() as patch:
            patch.setattr(meter, "_at_full_depth", lambda peak, config: peak(config))
            run = meter.training_peak(model_class, config, targets, SIZE, gradient_checkpointing=checkpointing)
        assert reckoned == pytest.approx(run, rel=0.02)


@pytest.mark.parametrize("name", bench_memory.real_rows())
def test_plans_count_each_rows_parameters_right(name: str) -> None:
    spec, found = SPECS[name], planning.measured(name)
    assert found is not None
    _, config = bench_memory.transformer(spec)
    counted = bench_memory.held_parameters(spec)
    assert {key: getattr(found, key) for key in counted} == counted
    assert found.fp8_parameters <= found.block_parameters
    encoder = bench_memory.text_encoder(spec)
    assert sum(p.numel() for p in encoder.parameters()) == spec.parameters["text_encoder"]
    assert found.text_width in [config.get(name) for name in ("text_embed_dim", "text_dim", "cross_attention_dim")]
    with torch.device("meta"):
        vae_class, own = bench_memory.autoencoder(spec)
        vae = vae_class.from_config(dict(own))
    assert sum(p.numel() for p in vae.parameters()) == spec.parameters["vae"]


@pytest.mark.parametrize(
    ("name", "what"),
    [("wan2.1-t2v-1.3b", "train_checkpointed"), ("wan2.1-t2v-1.3b", "sample"), ("wan2.2-ti2v-5b", "sample")],
)
def test_plans_are_made_from_what_is_counted(name: str, what: str) -> None:
    spec = SPECS[name]
    found, (model_class, config) = planning.measured(spec.name), bench_memory.transformer(spec)
    size = bench_memory.latent_size(spec, spec.default_shape)
    count = planning.tokens(spec, spec.default_shape)
    targets = family(spec).attention_targets(None)
    own = (
        meter.training_peak(model_class, config, targets, size)
        if what == "train_checkpointed"
        else meter.sampling_peak(model_class, config, size, time_per_token="expand_timesteps" in spec.options)
    )
    assert getattr(found, what) == pytest.approx(own / count, rel=0.01)


@pytest.mark.parametrize("name", ["synmotion", "lora"])
def test_a_methods_parameters_are_known_before_it_is_made(name: str) -> None:
    from tests.models import PROMPTS, puppet_backbone

    backbone, entry = puppet_backbone(), find_method(name)
    config = entry.config()
    with torch.device("meta"):
        lora_width = sum(
            module.in_features + module.out_features
            for module_name, module in backbone.denoiser.named_modules()
            if isinstance(module, nn.Linear) and re.fullmatch(backbone.attention_targets("qkv"), module_name)
        )
    made = entry.attach(backbone, config, PROMPTS[0])
    try:
        own = sum(p.numel() for group in made.groups.values() for p in group)
    finally:
        made.detach()
    reckoned = entry.num_parameters(config, backbone.text_width, lora_width)
    # of "qkvo", o is counted for single-stream blocks, too, which have none
    assert own * 0.95 < reckoned < own * (1.05 if name == "synmotion" else 1.3)


def test_the_suite_refuses_what_it_does_not_take() -> None:
    with pytest.raises(Exception, match="counts, without motions and seeds"):
        list(bench("memory", seeds=[1]))
    with pytest.raises(Exception, match="no large backbone 'puppet-hunyuan'"):
        list(bench("memory", rows=["puppet-hunyuan"]))
