"""Checkpoints: weights, their average and the moments in one file; and what is shipped of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from synmotion_core.puppets.pretrain.anatomies import ANATOMIES
from synmotion_core.puppets.pretrain.anatomy import Anatomy, Heads
from synmotion_core.puppets.pretrain.heads import load_weights
from synmotion_core.storage import replacing

_FIRST = "puppet-hunyuan"  # what states are of that do not say


def save(
    path: Path,
    step: int,
    backbone: str,
    heads: Heads,
    ema: dict[str, Tensor],
    optimizers: list[torch.optim.Optimizer],
) -> None:
    tensors = {f"model.{k}": v.detach().contiguous().clone() for k, v in heads.named_parameters()}
    tensors |= {f"ema.{k}": v.clone() for k, v in ema.items()}
    for i, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{index}.{k}": torch.as_tensor(v).clone() for k, v in state.items()}
    with replacing(path) as partial:
        save_file(tensors, partial, metadata={"step": str(step), "predicts": "sample", "backbone": backbone})


def load(
    folder: Path, backbone: str, heads: Heads, ema: dict[str, Tensor], optimizers: list[torch.optim.Optimizer]
) -> int:
    """Take up the state in `folder`, if there is one; returns the step that comes next.

    Raises ValueError for a state of another backbone or of earlier versions, whose transformer predicts velocities or
    which had another depth.
    """
    path = folder / "state.safetensors"
    if not path.exists():
        return 0
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    if metadata.get("predicts") != "sample":
        raise ValueError(
            f"{path} is of a transformer that predicts velocities: start anew, or train it with the version it is of"
        )
    if (of := metadata.get("backbone", _FIRST)) != backbone:
        raise ValueError(f"{path} is of {of}, not of {backbone}: give each a folder of its own")
    step = int(metadata["step"])
    tensors = load_file(path)
    own = {f"model.{name}" for name, _ in heads.named_parameters()}
    if odd := sorted(own ^ {name for name in tensors if name.startswith("model.")}):
        raise ValueError(
            f"{path} is of another depth than {backbone} has in this version ({len(odd)} tensors differ, the first is "
            f"{odd[0]}): `export` it with the version it is of, then `train --init-from` that folder in a new one"
        )
    with torch.no_grad():
        for name, p in heads.named_parameters():
            p.copy_(tensors[f"model.{name}"])
            ema[name].copy_(tensors[f"ema.{name}"])
    for i, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for key in tensors:
            if key.startswith(f"optimizer.{i}."):
                _, _, index, name = key.split(".", 3)
                state.setdefault(int(index), {})[name] = tensors[key]
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return step


def load_trained(folder: Path, *, ema: bool = True, state: str = "state.safetensors") -> tuple[Anatomy, Any]:
    """The backbone that a checkpoint in `folder` is of, and its pipeline with those weights, float32."""
    with safe_open(folder / state, "pt") as file:
        anatomy = ANATOMIES[file.metadata().get("backbone", _FIRST)]
    pipe = anatomy.build(anatomy.autoencoder_in(folder / "vae"))
    load_weights(pipe, anatomy.trained, load_file(folder / state), "ema." if ema else "model.")
    return anatomy, pipe


def export(folder: Path, out: Path, *, ema: bool = True, state: str = "state.safetensors") -> None:
    """An ordinary diffusers folder in bf16, with the autoencoder of `vae_deblock` where it has been trained."""
    anatomy, pipe = load_trained(folder, ema=ema, state=state)
    if (folder / "vae_deblock").exists():  # same latents, cleaner pictures
        pipe.register_modules(vae=anatomy.autoencoder_in(folder / "vae_deblock"))
    for part in anatomy.trained:
        getattr(pipe, part).to(torch.bfloat16)
    pipe.save_pretrained(out, max_shard_size="15MB")  # files below 16 MiB
    for path in out.rglob("*config.json"):  # where it was loaded from is nobody's business
        values = json.loads(path.read_text())
        if values.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")
