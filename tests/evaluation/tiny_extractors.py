"""The metrics' models with random weights: the real classes at a tiny config, saved as the Hub's repositories are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    ViTConfig,
    ViTModel,
    VJEPA2Config,
    VJEPA2Model,
)

from synmotion_core.evaluation.metrics import METRICS
from synmotion_core.evaluation.metrics.vqa import NO, YES
from synmotion_core.puppets.blueprint import clip_tokenizer, corpus_of_captions, llama_tokenizer
from synmotion_core.workspace import weights_place

MARKS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>", "<|image_pad|>")
CLIP_SIDE, DINO_SIDE, JEPA_SIDE, JEPA_FRAMES = 32, 48, 32, 8


def place_of(metric: str) -> Path:
    """Where a folder takes the Hub's place."""
    return weights_place(METRICS[metric].weights[0].repo.rpartition("/")[2])


def saved(metric: str, folder: Path | None = None, **how: Any) -> Path:
    """A model of random weights that a metric can look through, where it will look for it."""
    torch.manual_seed(5)
    folder = place_of(metric) if folder is None else folder
    model, tokenizer = {"clip": _clip, "dino": _dino, "fvd": _jepa, "vqa": _qwen}[metric]()
    for parameter in model.parameters():  # as initialised, all pictures look much the same to them
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder, **how)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return folder


def _clip() -> tuple[Any, Any]:
    tokenizer = clip_tokenizer(corpus_of_captions(300))
    ends: Any = tokenizer.eos_token_id
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 24, "pad_token_id": ends, "eos_token_id": ends,
        "bos_token_id": tokenizer.bos_token_id,
    }  # fmt: skip
    sight = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "image_size": CLIP_SIDE, "patch_size": 8,
    }  # fmt: skip
    return CLIPModel(CLIPConfig(text_config=text, vision_config=sight, projection_dim=24)), tokenizer


def _dino() -> tuple[Any, Any]:
    config = ViTConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, image_size=DINO_SIDE,
        patch_size=8,
    )  # fmt: skip
    return ViTModel(config, add_pooling_layer=False), None


def _jepa() -> tuple[Any, Any]:
    config = VJEPA2Config(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=2, crop_size=JEPA_SIDE, patch_size=8,
        frames_per_clip=JEPA_FRAMES, pred_hidden_size=48, pred_num_attention_heads=2, pred_num_hidden_layers=1,
        pred_num_mask_tokens=1, mlp_ratio=2.0,
    )  # fmt: skip
    return VJEPA2Model(config), None


def _qwen() -> tuple[Any, Any]:
    tokenizer = llama_tokenizer(corpus_of_captions(300))
    tokenizer.model_max_length = 4096
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKS)})
    tokenizer.add_tokens([*YES, *NO])
    ids = {mark: tokenizer.convert_tokens_to_ids(mark) for mark in MARKS}
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]},
    }  # fmt: skip
    sight = {
        "depth": 3, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "patch_size": 16, "out_hidden_size": 32,
        "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1],
    }  # fmt: skip
    config = Qwen3VLConfig(
        text_config=text, vision_config=sight, image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"], vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    return Qwen3VLForConditionalGeneration(config), tokenizer
