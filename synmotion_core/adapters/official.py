"""Adapters of the official SynMotion repository (`<motion>/dual_embedding.pth`, `visual_adapter.safetensors`) as ours.

Their keys and shapes are not published, so this goes by rules, and what no rule takes is refused with a list of all
that is there. With D the width of the text embeddings:

    embedding     [K, D], also with leading ones; K up to 256 (motion) or 64 (subject)
    Z             weight [D, D], also with trailing ones (a linear layer or a 1x1 convolution), and bias [D]
    which one     "mot" in the name is the motion's, "sub" the subject's, "refin" or "fus" the refiner's; with two of
                  them, or none, it is nobody's
    refiner       taken in this program's own form only (dual_embedding.EmbeddingRefiner), by the ends of its names:
                  a multilayer perceptron or any other R computes something else
    LoRA          foreign.py, in the names of the HunyuanVideo repositories

An embedding acts through its Z, so one without the other is refused, too. e^l is laid over the phrase's tokens as our
method does it (dual_embedding.spread); how the official code does it is not published either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from synmotion_core.adapters.convert import Converted, write
from synmotion_core.adapters.foreign import Placed, Report, import_lora
from synmotion_core.adapters.foreign_file import shown
from synmotion_core.adapters.pickled import Item, ints, read_pickle
from synmotion_core.backbones.weightless import text_width, transformer_config
from synmotion_core.errors import AdapterError, MissingError
from synmotion_core.interfaces import BackboneSpec
from synmotion_core.methods.dual_embedding import EmbeddingRefiner
from synmotion_core.storage import read_header
from synmotion_core.types import Mode, Prompt

EMBEDDING, LORA = "dual_embedding.pth", "visual_adapter.safetensors"
_MOST_TOKENS = {"motion": 256, "subject": 64}
_WHOSE = {"motion": "mot", "subject": "sub", "refiner": "refin|fus"}
_WITHIN = re.compile(r"attn|project|blocks|layers|norm|mlp|fc\d")  # a layer of something larger is no Z


def inventory(folder: Path) -> dict[str, list[Item]]:
    """What the files of a motion's folder hold, by file name. Raises MissingError when neither is there."""
    found: dict[str, list[Item]] = {}
    if (folder / EMBEDDING).is_file():
        found[EMBEDDING] = read_pickle(folder / EMBEDDING)[0]
    if (folder / LORA).is_file():
        header = {k: v for k, v in read_header(folder / LORA).items() if k != "__metadata__" and isinstance(v, dict)}
        found[LORA] = [
            Item(name=key, shape=ints(about.get("shape")), dtype=str(about.get("dtype"))[:20])
            for key, about in sorted(header.items())
        ]
    if not found:
        raise MissingError(f"there is neither {EMBEDDING} nor {LORA} in {folder}")
    return found


def convert_official(
    folder: Path,
    spec: BackboneSpec,
    out: Path,
    *,
    prompt: Prompt,
    mode: Mode | None = None,
    ignore_unmatched: bool = False,
) -> Converted:
    """Write `out`, a SynMotion adapter of ours, from the two files in `folder`.

    Raises MissingError for a file that is not there, and AdapterError for what cannot be mapped, with the inventory;
    with ignore_unmatched that is left out, in the report.
    """
    mode = mode or spec.modes[0]
    spec.check_mode(mode)
    missing = [name for name in (EMBEDDING, LORA) if not (folder / name).is_file()]
    if missing:
        raise MissingError(f"there is no {' and no '.join(missing)} in {folder}")
    config = transformer_config(spec)
    items, tensors = read_pickle(folder / EMBEDDING)
    width = text_width(config)
    own, settings, report = _embeddings(items, tensors, width, spec, ignore_unmatched)
    lora = import_lora(folder / LORA, spec, ignore_unmatched=ignore_unmatched)
    settings |= {"rank": 0, "modules": {name: list(pair) for name, pair in lora.modules.items()}}
    applied = write(out, spec, {**own, **lora.tensors}, method="synmotion", settings=settings, prompt=prompt, mode=mode)
    return Converted(path=out, reports=(report, lora.report), applied=applied)


# ------------------------------------------------------------------------------------------------ the rules


def _embeddings(
    items: list[Item], tensors: Mapping[str, Tensor], width: int, spec: BackboneSpec, ignore: bool
) -> tuple[dict[str, Tensor], dict[str, Any], Report]:
    """Our tensors, the method's settings, and the report."""
    found: dict[str, tuple[str, Tensor]] = {}  # our key -> (its name in the file, value)
    reasons: dict[str, str] = {}
    for item in items:
        key = _key(item, width)
        if item.name not in tensors:
            reasons[item.name] = "no tensor of float32, float16 or bfloat16"
        elif key is None:
            reasons[item.name] = "no rule knows it by its name and shape"
        elif key in found:
            raise AdapterError(f"{EMBEDDING}: {shown(item.name)} and {shown(found[key][0])} would both be {key}")
        else:
            value = tensors[item.name].float()
            if not bool(torch.isfinite(value).all()):
                raise AdapterError(f"{EMBEDDING}: {shown(item.name)} holds values that are no numbers")
            shape = (width, width, 1) if key.endswith("zero.weight") else (-1, width)
            found[key] = item.name, value.reshape(shape) if key.endswith(("embedding", "zero.weight")) else value
    settings = _settings(found, reasons, width)
    placed = {name: Placed(key=name, reason=reason) for name, reason in reasons.items()}
    placed |= {name: Placed(key=name, to=(f"synmotion.{key}",)) for key, (name, _) in found.items()}
    report = Report(file=EMBEDDING, backbone=spec.name, keys=tuple(placed[i.name] for i in items), alphas={})
    if not found or (reasons and not ignore):
        lines = [
            f"  {item.line}  {'-> ' + ', '.join(k.to) if k.to else k.reason}"
            for item, k in zip(items, report.keys, strict=True)
        ]
        hint = "; to go without the others: --ignore-unmatched" if found else ""
        raise AdapterError("\n".join([f"{report.summary}{hint}", *lines[:300]]))
    return {f"synmotion.{key}": value for key, (_, value) in found.items()}, settings, report


def _key(item: Item, width: int) -> str | None:
    """Which of our keys this is, by the rules of the module's docstring."""
    name = item.name.lower()
    named = [role for role, pattern in _WHOSE.items() if re.search(pattern, name)]
    if len(named) != 1:
        return None
    whose, shape = named[0], tuple(n for n in item.shape if n != 1)
    if not _WITHIN.search(name):
        if shape == (width, width):
            return f"{whose}_zero.weight"
        if item.shape == (width,) and name.endswith("bias"):
            return f"{whose}_zero.bias"
    if whose in _MOST_TOKENS and item.shape[-1:] == (width,) and (len(shape) == 2 or item.shape[-2:] == (1, width)):
        tokens = shape[0] if len(shape) == 2 else 1
        return f"{whose}_embedding" if tokens <= _MOST_TOKENS[whose] else None
    part = re.search(
        r"refiner\.((?:project_in|project_out|norm|blocks\.\d)\..+|project_in.*|project_out.*|role)$", name
    )
    return f"refiner.{part.group(1)}" if part else None


def _settings(found: dict[str, tuple[str, Tensor]], reasons: dict[str, str], width: int) -> dict[str, Any]:
    """What is whole stays in `found`, the rest goes to `reasons`."""

    def drop(keys: list[str], reason: str) -> None:
        for key in keys:
            name, _ = found.pop(key)
            reasons[name] = reason

    settings: dict[str, Any] = {"refiner_layers": 0}
    for role in _MOST_TOKENS:
        parts = [f"{role}_embedding", f"{role}_zero.weight", f"{role}_zero.bias"]
        if parts[0] in found and parts[1] in found and parts[2] not in found:  # a Z without a bias
            found[parts[2]] = f"(no bias beside {found[parts[1]][0]})", torch.zeros(width)
        there = [key for key in parts if key in found]
        settings[f"{role}_embedding"] = len(there) == 3
        if 0 < len(there) < 3:
            drop(there, f"the {role}'s embedding acts through its zero convolution, and one of them is missing")
    if "subject_embedding" in found:
        settings["subject_tokens"] = found["subject_embedding"][1].shape[0]
    refiner = [key for key in found if key.startswith("refiner")]
    if refiner:
        own = _own_refiner(found, width)
        if own is None:
            drop(refiner, "of an Embedding Refiner of another form than this program's")
        else:
            settings |= own
    return settings


def _own_refiner(found: Mapping[str, tuple[str, Tensor]], width: int) -> dict[str, int] | None:
    """The settings of our EmbeddingRefiner with exactly these tensors, or None."""
    inner = found.get("refiner.project_in.weight")
    layers = {key.split(".")[2] for key in found if key.startswith("refiner.blocks.")}
    if inner is None or not 1 <= len(layers) <= 8 or inner[1].ndim != 2 or inner[1].shape[0] % 4:
        return None
    with torch.device("meta"):
        model = EmbeddingRefiner(width, inner[1].shape[0], len(layers))
    wanted = {f"refiner.{key}": value.shape for key, value in model.state_dict().items()}
    wanted |= {"refiner_zero.weight": torch.Size((width, width, 1)), "refiner_zero.bias": torch.Size((width,))}
    given = {key: value.shape for key, (_, value) in found.items() if key.startswith("refiner")}
    return {"refiner_layers": len(layers), "refiner_width": inner[1].shape[0]} if given == wanted else None
