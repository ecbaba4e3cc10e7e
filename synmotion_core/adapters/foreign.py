"""LoRA of other programs onto one of our backbones: every key of the file finds its layer or is named with the reason.

    file key --prefix off, name among known_layers--> layer --its parts--> <denoiser>.<module>.lora_A|B.weight

A, B and alpha stay as they are in the file, type and bits; where one of their layers is several of ours, A is shared
and B cut by rows (foreign_names.py). Of a part's B, columns that are zero throughout go, with their rows of A, and
alpha in proportion: ComfyUI's files hold q, k and v side by side in one triple rank. A part of a fused layer that is
zero is left out, as it changes nothing.

No alpha in the file means alpha = rank, as PEFT, diffusers and ComfyUI take it.

What changes a layer itself (its bias, its weight, a norm) has no place here: zeros are dropped, and in the report; for
anything else the file is refused, whatever is ignored, since its LoRA alone would be another adapter. Only where the
LoRA beside it has no place either is it left out with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from synmotion_core.adapters.foreign_file import ForeignFile, PeftSettings, Role, listed, read_foreign, shown
from synmotion_core.adapters.foreign_names import Layer, known_layers, temporal_lists
from synmotion_core.backbones.weightless import weightless_denoiser
from synmotion_core.errors import AdapterError, ConfigError
from synmotion_core.interfaces import BackboneSpec
from synmotion_core.methods.attention_lora import MAX_RANK
from synmotion_core.storage import read_metadata

EXPERTS = ("high_noise", "low_noise")
_PREFIXES = (
    *("base_model.model.", "transformer.", "diffusion_model.", "model.", "denoiser.", "unet."),
    *("lora_unet__", "lora_unet_", "lora_transformer_", "lycoris_", "Hunyuan_video_I2V_lora_"),
)
_NUMBERED = "unet:"
ALPHAS = {
    "key": "the file's own alpha",
    "settings": "alpha of PEFT's settings",
    "given": "alpha as given",
    "none": "alpha = rank, as the file says none",
    "converted": "alpha = rank, as no key says one: these are not kohya's, for which ss_network_alpha is in the header",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where a key of a file went (the keys of our file), or why it goes nowhere."""

    key: str
    to: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What became of a file's keys. alphas counts layers by where their alpha is from: one of ALPHAS, or
    the entries of the header that say it."""

    file: str
    backbone: str
    keys: tuple[Placed, ...]
    alphas: Mapping[str, int]

    @property
    def applied(self) -> int:
        """How many keys have a place."""
        return sum(not k.reason for k in self.keys)

    @property
    def summary(self) -> str:
        """One line: "N of N keys apply"."""
        return f"{self.file}: {self.applied} of {len(self.keys)} keys apply to {self.backbone}"

    def lines(self, *, every: bool = False) -> list[str]:
        """For people: what applies, how it is scaled, and what was left out; `every` lists all keys."""
        out = [self.summary]
        for source, count in self.alphas.items():
            out.append(f"  {count} layers: {ALPHAS.get(source, f'alpha by {source} in the file’s header')}")
        void = [k.key for k in self.keys if not k.reason and not k.to]
        if void:
            out.append(f"  {len(void)} keys are dropped, as what they add is zero: {listed(void)}")
        for k in self.keys:
            if k.reason:
                out.append(f"  {shown(k.key)}: left out, {k.reason}")
            elif every:
                out.append(f"  {shown(k.key)} -> {', '.join(k.to) or 'zero: nothing to apply'}")
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A file's LoRA in our naming: tensors (`<denoiser>.<module>.lora_A|B.weight`) and each module's (rank, alpha)."""

    tensors: Mapping[str, Tensor]
    modules: Mapping[str, tuple[int, float]]
    report: Report
    temporal: str = ""  # of a numbered list: which layers of the temporal transformers it is of, as letters


class Unmatched(AdapterError):
    """Some keys of a file have no place, and others have: it can be taken without them, with ignore_unmatched."""


def import_lora(
    path: Path,
    spec: BackboneSpec,
    *,
    expert: str | None = None,
    alpha: float | None = None,
    ignore_unmatched: bool = False,
) -> Imported:
    """Read a LoRA file of another program for a backbone; no weights of the backbone are needed.

    expert: which of two experts it belongs to. alpha: of layers whose alpha neither key, settings nor header
    say. Keys that have no place are an Unmatched that lists them, or with ignore_unmatched are left out, in the report;
    keys that cannot be right (a rank or a size that does not fit) always are an AdapterError. Raises ConfigError where
    `expert` is missing or of no use.
    """
    if "synmotion" in read_metadata(path):
        raise AdapterError(f"{path.name} is an adapter of SynMotion's own, and no LoRA of another program: import it")
    file = read_foreign(path)
    table = known_layers(spec.family, _transformer(spec, expert))
    temporal = ""
    if any(name.startswith(_NUMBERED) for name in file.layers):
        temporal, numbered = _numbered(file, spec, table)
        table = table | numbered
    lead = f"{expert}." if expert else ""
    placed = {key: Placed(key=key, reason=reason) for key, reason in file.left.items()}
    found: dict[str, tuple[str, Layer]] = {}
    for name, keys in file.layers.items():
        layer = _find(name, table)
        if len(file.shapes[keys["down"]]) != 2 or len(file.shapes[keys["up"]]) != 2:
            reason = "of a convolution, and only linear layers are adapted"
        elif layer is None:
            reason = f"{spec.name} has no such layer"
        else:
            found[name] = layer
            _check_size(file, keys, layer[1], spec)
            continue
        placed |= {key: Placed(key=key, reason=reason) for key in keys.values()}
    void = _changes(file, placed, spec, matched=bool(found))
    _check_unmatched(file, placed, len(void), spec, ignore_unmatched)
    placed |= {key: Placed(key=key) for key in void}
    tensors: dict[str, Tensor] = {}
    modules: dict[str, tuple[int, float]] = {}
    alphas: Counter[str] = Counter()
    for name, values in file.tensors():
        if name not in found:
            continue
        plain, layer = found[name]
        scale, source = _alpha(file, name, plain, values, alpha)
        alphas[source] += 1
        to = []
        for module, down, up, own in _parts(layer, values["down"], values["up"], scale):
            if lead + module in modules:
                raise AdapterError(f"{path.name} holds {module} of {spec.name} twice: once by {shown(name)}")
            modules[lead + module] = down.shape[0], own
            for letter, tensor in (("A", down), ("B", up)):
                tensors[f"{spec.denoiser}.{lead}{module}.lora_{letter}.weight"] = tensor
            to.append(f"{lead}{module}")
        placed |= {key: Placed(key=key, to=tuple(to)) for key in file.layers[name].values()}
    if alpha is not None and not alphas["given"]:
        raise ConfigError(f"{path.name} says the alpha of every layer itself: leave out alpha")
    report = Report(file=path.name, backbone=spec.name, keys=tuple(placed[key] for key in file.keys), alphas=alphas)
    return Imported(tensors=tensors, modules=modules, report=report, temporal=temporal)


def _numbered(file: ForeignFile, spec: BackboneSpec, table: Mapping[str, Layer]) -> tuple[str, dict[str, Layer]]:
    """Which list a file's numbers count, by how many there are and by every size; and the layers under these numbers.

    Raises AdapterError where it is none of those known, and where a file holds names beside numbers.
    """
    own = [name for name in file.layers if name.startswith(_NUMBERED)]
    if len(own) != len(file.layers) or spec.denoiser != "unet":
        raise AdapterError(
            f"{file.path.name} numbers its layers, as files for 3-D U-Nets do, and {spec.name} is none"
            if spec.denoiser != "unet"
            else f"{file.path.name} holds numbered layers and named ones: {listed(sorted(set(file.layers) - set(own)))}"
        )
    lists = temporal_lists(weightless_denoiser(spec))
    for letters, names in lists.items():
        layers = {f"{_NUMBERED}{i}": table[name] for i, name in enumerate(names)}
        if layers.keys() == set(own) and all(
            file.shapes[file.layers[name]["down"]][-1] == layer.inputs
            and file.shapes[file.layers[name]["up"]][0] == layer.outputs
            for name, layer in layers.items()
        ):
            return letters, layers
    known = ", ".join(f"{len(names)} ({letters})" for letters, names in lists.items())
    raise AdapterError(
        f"{file.path.name} is a list of {len(own)} layers, or of others in size, than those of {spec.name} that are "
        f"known: {known}"
    )


def _transformer(spec: BackboneSpec, expert: str | None) -> torch.nn.Module:
    denoiser = weightless_denoiser(spec)
    if spec.boundary_ratio is None:
        if expert is not None:
            raise ConfigError(f"{spec.name} has one transformer, no experts: leave out expert")
        return denoiser
    if expert not in EXPERTS:
        raise ConfigError(f"{spec.name} has two experts, say whose this file is: {' or '.join(EXPERTS)}")
    return denoiser.get_submodule(expert)


def _find(name: str, table: Mapping[str, Layer]) -> tuple[str, Layer] | None:
    """A layer by its name in the file, prefixes off one by one, and what the name is without them."""
    while name not in table:
        prefix = next((p for p in _PREFIXES if name.startswith(p)), None)
        if prefix is None:
            return None
        name = name.removeprefix(prefix)
    return name, table[name]


def _check_size(file: ForeignFile, keys: Mapping[Role, str], layer: Layer, spec: BackboneSpec) -> None:
    (rank, inputs), (outputs, _) = file.shapes[keys["down"]], file.shapes[keys["up"]]
    if not 1 <= rank <= MAX_RANK:
        raise AdapterError(f"{file.path.name}: {shown(keys['down'])} has rank {rank}, taken are 1 to {MAX_RANK}")
    if (inputs, outputs) != (layer.inputs, layer.outputs):
        raise AdapterError(
            f"{file.path.name}: {shown(keys['down'])} is for a layer of {inputs} inputs and {outputs} outputs, "
            f"that of {spec.name} has {layer.inputs} and {layer.outputs}: it was made for another model"
        )


def _changes(file: ForeignFile, placed: dict[str, Placed], spec: BackboneSpec, *, matched: bool) -> set[str]:
    """The keys of changes that are zero; those of layers that have no place go to `placed`, as the layers did.

    Raises AdapterError for others, unless no layer of the file is matched at all, which says more.
    """
    void, real = file.zeros(), []
    for key in file.changes.keys() - void:
        name = file.changes[key]
        beside = placed.get(file.layers[name]["down"]) if name in file.layers else None
        if beside is not None:
            placed[key] = Placed(key=key, reason=beside.reason)
        elif matched:
            real.append(key)
        else:
            placed[key] = Placed(key=key, reason="a change of a layer itself, not LoRA")
    if real:
        raise AdapterError(
            f"{file.path.name} changes weights or biases of layers themselves beside its LoRA: there is no place for "
            f"that here, and the LoRA without that would be another adapter: {listed(sorted(real))}"
        )
    return void


def _check_unmatched(
    file: ForeignFile, left: Mapping[str, Placed], void: int, spec: BackboneSpec, ignore: bool
) -> None:
    if len(left) + void == len(file.keys):
        raise AdapterError(f"{file.path.name}: none of its {len(file.keys)} keys apply to {spec.name}: {_why(left)}")
    if left and not ignore:
        fits = f"{len(file.keys) - len(left)} of {len(file.keys)} keys apply to {spec.name}, not {len(left)}"
        raise Unmatched(f"{file.path.name}: {fits}: {_why(left)}")


def _why(left: Mapping[str, Placed]) -> str:
    reasons: dict[str, list[str]] = {}
    for key, placed in sorted(left.items()):
        reasons.setdefault(placed.reason, []).append(key)
    return "; ".join(f"{listed(keys)} ({reason})" for reason, keys in reasons.items()) or "all of them are zero"


def _alpha(
    file: ForeignFile, layer: str, name: str, values: Mapping[Role, Tensor], given: float | None
) -> tuple[float, str]:
    rank = values["down"].shape[0]
    if "alpha" in values:
        own = float(values["alpha"])
        if not own > 0:
            raise AdapterError(f"{file.path.name}: the alpha of {shown(name)} must be above 0, got {own:g}")
        return own, "key"
    settings = file.settings or PeftSettings()
    own = settings.alpha_of(name, rank)
    kohya = file.layers[layer]["down"].endswith(".lora_down.weight")
    try:
        said = file.header.of(file.path, rank, kohya=kohya, settings=settings.alpha)
    except AdapterError:
        if given is None:
            raise
        return given, "given"  # who says it decides where the file is at odds with itself
    if own is not None:
        return own, "settings"
    if said is not None:
        return said[0] * (rank**0.5 if settings.square_root else 1.0), said[1]
    if given is not None:
        return given, "given"
    return float(rank), "converted" if file.header.kohyas else "none"


def _parts(layer: Layer, down: Tensor, up: Tensor, alpha: float) -> list[tuple[str, Tensor, Tensor, float]]:
    """(module, A, B, alpha) of each of our layers in theirs."""
    if len(layer.parts) == 1:
        part = layer.parts[0]
        return [(part.module, down, _rows(up, part.rows), alpha)]
    out = []
    for part in layer.parts:
        rows = _rows(up, part.rows)
        used = rows.ne(0).any(dim=0)
        rank = int(used.sum())
        if rank == down.shape[0]:
            out.append((part.module, down.clone(), rows, alpha))
        elif rank:
            kept = down[used].contiguous(), rows[:, used].contiguous()
            out.append((part.module, *kept, alpha * rank / down.shape[0]))
    return out


def _rows(up: Tensor, ranges: tuple[tuple[int, int], ...]) -> Tensor:
    return torch.cat([up[start:end] for start, end in ranges])
