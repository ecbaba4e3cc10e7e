"""LoRA on layers by name: each with its own rank and alpha, nothing on others, and names from files are not trusted."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from synmotion_core.errors import ConfigError
from synmotion_core.methods.attention_lora import AttentionLora, peft_settings
from synmotion_core.methods.dreambooth import DreamBoothConfig
from synmotion_core.methods.lora import LoraConfig, LoraEntry
from synmotion_core.methods.motion_director import MotionDirectorConfig
from synmotion_core.methods.new_move import NewMoveConfig
from synmotion_core.methods.separation import SeparationConfig
from synmotion_core.methods.synmotion import SynMotionConfig, SynMotionEntry
from tests.models import PROMPTS, noisy, plain, puppet_backbone

# `proj_out` is also how layers of every single-stream block end
MODULES = {"proj_out": (2, 1.0), "transformer_blocks.0.attn.to_q": (3, 3.0), "transformer_blocks.1.ff.net.2": (3, 9.0)}


def test_named_layers_and_no_others() -> None:
    model: Any = puppet_backbone().denoiser
    lora = AttentionLora(model, MODULES, rank=1, alpha=1.0, seed=0)
    try:
        shapes = {k: tuple(v.shape) for k, v in lora.state_dict().items() if "lora_A" in k}
        assert {k.removesuffix(".lora_A.weight"): v[0] for k, v in shapes.items()} == {
            name: rank for name, (rank, _) in MODULES.items()
        }
        for name, (rank, alpha) in MODULES.items():
            assert model.get_submodule(name).scaling["motion"] == alpha / rank
        lora.set_strength(0.5)
        assert model.proj_out.scaling["motion"] == 0.25
    finally:
        lora.remove()


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        ({"a|b": (1, 1.0)}, "no layer's name"),
        ({"a.": (1, 1.0)}, "no layer's name"),
        ({"x" * 201: (1, 1.0)}, "no layer's name"),
        ({"a": 1}, "must say rank and alpha of a"),
        ({"a": (1,)}, "must say rank and alpha of a"),
        ({"a": "12"}, "must say rank and alpha of a"),
        ({"a": (0, 1.0)}, "rank of a must be between 1 and 512"),
        ({"a": (513, 1.0)}, "rank of a must be between 1 and 512"),
        ({"a": (1.5, 1.0)}, "rank of a must be between 1 and 512"),
        ({"a": (True, 1.0)}, "rank of a must be between 1 and 512"),
        ({"a": (1, 0)}, "alpha of a must be a number above 0"),
        ({"a": (1, float("nan"))}, "alpha of a must be a number above 0"),
        ({"a": (1, "2")}, "alpha of a must be a number above 0"),
        ({f"a{i}": (1, 1.0) for i in range(5001)}, "names 5001 layers, at most 5000"),
    ],
)
@pytest.mark.parametrize("config", [LoraConfig, SynMotionConfig])
def test_settings_that_cannot_be_right(config: Any, modules: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config(modules=modules)


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "config", [LoraConfig, SynMotionConfig, MotionDirectorConfig, SeparationConfig, NewMoveConfig, DreamBoothConfig]
)
def test_a_scale_with_which_nothing_is_learnt_is_refused(config: Any, alpha: float) -> None:
    with pytest.raises(ConfigError, match="lora_alpha must be a number above 0"):
        config(lora_alpha=alpha)


@pytest.mark.parametrize("name", ["nowhere.to_q", "transformer_blocks.0", "x_embedder.proj"])
def test_a_layer_that_is_not_there_is_named_and_leaves_no_trace(name: str) -> None:
    backbone = puppet_backbone()
    x, s = noisy(backbone)
    text = plain(backbone.encode_prompt(PROMPTS))
    with pytest.raises(ConfigError, match=f"has no linear layer called '{name}'"):
        LoraEntry().attach(backbone, LoraConfig(modules={"proj_out": (1, 1.0), name: (1, 1.0)}), PROMPTS[0])
    with torch.no_grad():
        assert backbone.predict(x, s, text).isfinite().all()
    LoraEntry().attach(backbone, LoraConfig(rank=1), PROMPTS[0]).detach()


@pytest.mark.parametrize(
    ("entry", "config"),
    [(LoraEntry(), LoraConfig(modules=MODULES)), (SynMotionEntry(), SynMotionConfig(modules=MODULES))],
)
def test_a_plan_does_not_count_what_was_made_elsewhere(entry: Any, config: Any) -> None:
    with pytest.raises(ConfigError, match="made elsewhere"):
        entry.num_parameters(config, 8, 8)


def test_the_commonest_rank_needs_no_pattern() -> None:
    one = peft_settings({"a.b": (4, 2.0), "c": (4, 2.0)})
    assert (one["r"], one["lora_alpha"], one["rank_pattern"], one["alpha_pattern"]) == (4, 2.0, {}, {})
    two = peft_settings({"a.b": (4, 2.0), "c": (4, 2.0), "d": (4, 1.0)})
    assert two["alpha_pattern"] == {"^(?:d)": 1.0}
