"""Files of other programs become ours: read onto a backbone, written with our metadata, loaded back.

The result is an ordinary adapter of the method `lora` whose settings name each layer with its rank and alpha, or, of a
list of a 3-D U-Net's temporal layers, of the method whose list it is. Of two experts, a file for each, or one file for
one of them: the other then stays the base. What the file does not say is not made up: the weights that it was trained
on (`fingerprint`) and the steps stay empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from synmotion_core.adapters.file import AdapterInfo, save_adapter
from synmotion_core.adapters.foreign import Imported, Report, import_lora
from synmotion_core.adapters.load_back import Weightless, load_back
from synmotion_core.adapters.pickled import as_safetensors
from synmotion_core.errors import AdapterError, ConfigError
from synmotion_core.interfaces import BackboneSpec
from synmotion_core.methods import find_method
from synmotion_core.types import Mode, Prompt

MADE_ELSEWHERE = "synmotion_core convert"  # AdapterInfo.created_with


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """An adapter file, the report of each file that it was made of, and how many of its keys a fresh load took."""

    path: Path
    reports: tuple[Report, ...]
    applied: int


def convert(
    files: Sequence[Path],
    spec: BackboneSpec,
    out: Path,
    *,
    prompt: Prompt,
    mode: Mode | None = None,
    experts: Sequence[str] = (),
    alpha: float | None = None,
    ignore_unmatched: bool = False,
) -> Converted:
    """Write `out`, an adapter of ours, from LoRA files of other programs.

    files: one, or for a backbone of two experts up to two, each with its entry in `experts`. prompt: whom and what the
    file was trained on, as words. mode None is the backbone's own, "t2v" where it has both. alpha and
    ignore_unmatched are import_lora's. Raises AdapterError, ConfigError or IncompatibleError, and then writes nothing.
    """
    mode = mode or spec.modes[0]
    spec.check_mode(mode)
    if spec.boundary_ratio is None and len(files) != 1:
        raise ConfigError(f"{spec.name} has one transformer: give one file, got {len(files)}")
    if (experts and len(experts) != len(files)) or len(set(experts)) != len(experts):
        raise ConfigError(f"say one expert a file, in the same order: got {len(files)} files, experts {list(experts)}")
    if not files:
        raise ConfigError("give at least one file")
    imported: list[Imported] = []
    for file, expert in zip(files, experts or [None] * len(files), strict=True):
        with as_safetensors(file) as readable:
            one = import_lora(readable, spec, expert=expert, alpha=alpha, ignore_unmatched=ignore_unmatched)
        imported.append(one)
    tensors = {key: tensor for one in imported for key, tensor in one.tensors.items()}
    modules = {name: list(pair) for one in imported for name, pair in one.modules.items()}
    if not modules:
        raise AdapterError(f"{files[0].name} changes nothing: all of it is zero")
    method, settings = _method_of(imported[0], modules)
    applied = write(out, spec, tensors, method=method, settings=settings, prompt=prompt, mode=mode)
    return Converted(path=out, reports=tuple(one.report for one in imported), applied=applied)


def _method_of(imported: Imported, modules: Mapping[str, Sequence[float]]) -> tuple[str, dict[str, Any]]:
    """Whose file it becomes. A list of the temporal layers is MotionDirector's where they are all, else Separate Motion
    from Appearance's, drawn as its released code draws."""
    pairs = {(rank, alpha) for rank, alpha in modules.values()}
    if not imported.temporal or len(pairs) > 1 or len(modules) < len(imported.modules):
        return "lora", {"modules": dict(modules)}
    rank, alpha = next(iter(pairs))
    settings: dict[str, Any] = {"rank": rank, "lora_alpha": alpha, "temporal": imported.temporal}
    if imported.temporal == "qkvof":
        return "motion_director", settings
    return "separation", settings | {"highway": "released"}


def write(
    out: Path,
    spec: BackboneSpec,
    tensors: Mapping[str, Tensor],
    *,
    method: str,
    settings: Mapping[str, Any],
    prompt: Prompt,
    mode: Mode,
) -> int:
    """Write an adapter whose method has `settings`, and load it back; returns how many keys apply.

    A file that does not load is not left behind.
    """
    if out.exists():
        raise ConfigError(f"{out} is there already: choose another name")
    entry = find_method(method)
    config = entry.config(**settings)
    info = AdapterInfo(
        backbone=spec.name,
        repo=spec.repo,
        revision=spec.revision,
        fingerprint="",
        licence=spec.licence,
        method=method,
        method_config=settings,
        subject=prompt.subject,
        motion=prompt.motion,
        steps=0,
        mode=mode,
        created_with=MADE_ELSEWHERE,
    )
    save_adapter(out, tensors, info)
    try:
        return load_back(out, Weightless(spec), entry, config)
    except BaseException:
        out.unlink(missing_ok=True)
        raise
