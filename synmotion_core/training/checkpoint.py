"""The state of a training, in one sealed file: learnt tensors, AdamW's moments, the step, the settings it belongs to.

    parameters.<group>.<i>        the i-th parameter of a group, those that no adapter file keeps among them
    optimizer.<group>.<i>.<slot>  what AdamW keeps for the i-th parameter of a group: moments, their scales, the step

Everything random in a step is a function of (seed, step), so these are enough to continue bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from synmotion_core.errors import AdapterError
from synmotion_core.interfaces import Method
from synmotion_core.storage import check_keys, read_tensors, write_tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainState:
    """A moment of a training, on the CPU. `settings` names the run it belongs to (a hash); `watch` is the watchdog's
    memory.
    """

    step: int
    tensors: Mapping[str, Tensor]
    settings: str
    watch: Mapping[str, float]


def capture(
    step: int, method: Method, optimizer: torch.optim.Optimizer, settings: str, watch: Mapping[str, float]
) -> TrainState:
    """A copy of the state now."""
    tensors: dict[str, Tensor] = {}
    for name, parameters in method.groups.items():
        for index, p in enumerate(parameters):
            tensors[f"parameters.{name}.{index}"] = p.detach().cpu().clone()
            for slot, value in optimizer.state.get(p, {}).items():
                tensors[f"optimizer.{name}.{index}.{slot}"] = torch.as_tensor(value).detach().cpu().clone()
    return TrainState(step=step, tensors=tensors, settings=settings, watch=dict(watch))


def restore(state: TrainState, method: Method, optimizer: torch.optim.Optimizer) -> None:
    """Put a state back. Raises AdapterError when it does not fit the method."""
    own = {f"parameters.{n}.{i}": p for n, group in method.groups.items() for i, p in enumerate(group)}
    check_keys(own, {k: v for k, v in state.tensors.items() if k.startswith("parameters.")}, "the training's state")
    with torch.no_grad():
        for key, p in own.items():
            p.copy_(state.tensors[key])
    optimizer.state.clear()
    for name, parameters in method.groups.items():
        for index, p in enumerate(parameters):
            prefix = f"optimizer.{name}.{index}."
            slots: dict[str, Any] = {}
            for key, value in state.tensors.items():
                if key.startswith(prefix):
                    slot = key.removeprefix(prefix)
                    # AdamW keeps its counter on the CPU, the moments beside the parameter
                    slots[slot] = value.clone() if slot == "step" else value.clone().to(p.device)
            if slots:
                optimizer.state[p] = slots


def save(path: Path, state: TrainState) -> None:
    """Atomic; raises StorageError."""
    meta = {"train": json.dumps({"step": state.step, "settings": state.settings, "watch": dict(state.watch)})}
    write_tensors(path, state.tensors, meta)


def load(path: Path, settings: str) -> TrainState:
    """Raises AdapterError when the file is damaged or belongs to other settings."""
    tensors, metadata = read_tensors(path)
    try:
        meta = json.loads(metadata["train"])
        state = TrainState(
            step=int(meta["step"]), tensors=tensors, settings=str(meta["settings"]), watch=dict(meta["watch"])
        )
    except (KeyError, ValueError, TypeError) as error:
        raise AdapterError(f"{path.name} is not a training state") from error
    if state.settings != settings:
        raise AdapterError(
            f"{path.name} belongs to a training with other settings, or of another version of the studio or its "
            "backbone: start anew, or give it the settings it had"
        )
    return state
