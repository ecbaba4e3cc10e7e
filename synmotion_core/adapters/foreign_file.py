"""LoRA files of other programs, taken apart by their keys: a safetensors file, from anywhere, so nothing in it is
trusted.

    <layer>.lora_A.weight, .lora_down.weight, .lora.down.weight     A  [rank, inputs]
    <layer>.lora_B.weight, .lora_up.weight, .lora.up.weight         B  [outputs, rank]
    <layer>.alpha, .lora_alpha                                      a number; W~ = W + (alpha / rank) B A
    <layer>.diff, .diff_b, .lora_B.bias and their like              changes that are no LoRA (foreign.py has the rule)
    unet:<i>:down, unet:<i>:up                                      A and B of the i-th of a list of layers, as the LoRA
                                                                    library of MotionDirector and its successors writes

Where no `.alpha` is: PEFT's settings, from the header ("lora_adapter_metadata", diffusers) or from adapter_config.json
beside an adapter_model.safetensors; their patterns are matched as names, never run as regular expressions. Else what
else the header says (HeaderAlpha).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from synmotion_core.errors import AdapterError
from synmotion_core.storage import read_header

MAX_BYTES = 8 << 30
MAX_KEYS = 20_000
MAX_KEY = 300  # characters
MAX_SETTINGS = 4 << 20  # bytes of adapter_config.json
DTYPES = ("F32", "F16", "BF16")
ALPHA_DTYPES = (*DTYPES, "I64", "I32", "F64")  # torch.tensor(rank) is of I64, as musubi-tuner's convert_lora writes it

Role = Literal["down", "up", "alpha"]
_ROLES: tuple[tuple[str, Role], ...] = (
    (".lora_down.weight", "down"),
    (".lora_up.weight", "up"),
    (".lora_A.weight", "down"),
    (".lora_B.weight", "up"),
    (".lora_A.default.weight", "down"),
    (".lora_B.default.weight", "up"),
    (".lora.down.weight", "down"),
    (".lora.up.weight", "up"),
    (".alpha", "alpha"),
    (".lora_alpha", "alpha"),
)
# another kind of adapter: what is left without these keys would be something else than what was trained
_OTHER_KIND = (
    (re.compile(r"dora_scale|lora_magnitude_vector|\.(dora_)?magnitude\b"), "DoRA, of which only plain LoRA is read"),
    (re.compile(r"\.hada_|\.lokr_|\.oft_|\.lora_mid\.|\.glora_|\.boft_"), "LyCORIS (LoHa, LoKr, OFT), not LoRA"),
)
_LEFT = (
    (
        re.compile(r"lora_te\d?_|text_encoder[.:_]|text_model\.|lora_prior_te_|^text_encoder"),
        "of a text encoder, which stays as it is",
    ),
)
# of a layer itself, beside its LoRA; zeros say nothing, but of what is set instead of added
_CHANGES = re.compile(r"(.+?)\.(?:diff(?:_\w)?|(set_weight)|lora(?:_[AB](?:\.default)?|_up|_down|\.up|\.down)\.bias)")
# "<prefix>.lora_alpha" as some write PEFT's settings one by one; never a text encoder's
_SAYS_ALPHA = re.compile(
    r"(?:(?:base_model\.model|transformer(?:_2)?|diffusion_model|denoiser|unet|model)\.)?lora_alpha"
    r"|(?:ss_)?network_alpha"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PeftSettings:
    """How PEFT scales, where the keys do not say it; alpha None: the settings do not say it either."""

    alpha: float | None = None
    alphas: tuple[tuple[str, bool, float], ...] = ()  # (name, whole or an ending, alpha), the first that fits
    square_root: bool = False  # rsLoRA: alpha / sqrt(rank)

    def alpha_of(self, name: str, rank: int) -> float | None:
        """The alpha by which alpha / rank is this layer's scale."""
        found = self.alpha
        for pattern, whole, alpha in self.alphas:
            if name == pattern or (not whole and name.endswith(f".{pattern}")):
                found = alpha
                break
        return found * math.sqrt(rank) if found is not None and self.square_root else found


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderAlpha:
    """What the header says of alpha outside of "lora_adapter_metadata", as it stands there: it may be anything.

    values: lora_config's lora_alpha (finetrainers), lora_alpha, network_alpha and their like; ranks: for which rank.
    kohya's own, ss_network_alpha, is in converted files, too, where it has been multiplied into A and B.
    """

    values: Mapping[str, Any]
    ranks: Mapping[str, Any]

    def of(self, path: Path, rank: int, *, kohya: bool, settings: float | None = None) -> tuple[float, str] | None:
        """The alpha of a layer of `rank` and where it is said, or None.

        kohya: the layer has kohya's names, so that kohya's header counts. settings: what PEFT's say. Raises
        AdapterError for what is no alpha, is of another rank, or contradicts itself.
        """
        said = {k: _number(path, k, v) for k, v in sorted(self.values.items()) if kohya or not k.startswith("ss_")}
        if not said:
            return None
        told = said if settings is None else {"PEFT's settings": settings} | said
        if len(set(told.values())) > 1:
            words = ", ".join(f"{value:g} by {where}" for where, value in told.items())
            raise AdapterError(f"{path.name} says more than one alpha, {words}: say yourself which")
        for where, value in self.ranks.items():
            if (kohya or not where.startswith("ss_")) and _number(path, where, value) != rank:
                raise AdapterError(
                    f"{path.name} says alpha {next(iter(said.values())):g} for rank {str(value)[:40]}, by {where}, and "
                    f"holds a layer of rank {rank}: say yourself which alpha"
                )
        return next(iter(said.values())), ", ".join(said)

    @property
    def kohyas(self) -> bool:
        """Whether kohya's own says something that was not taken where `of` found none."""
        return "ss_network_alpha" in self.values


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignFile:
    """A file's keys: layers (as it names them) with the key of each role, what is no LoRA, with the reason, and changes
    of a layer itself with the layer's name ("" for what zeros do not make void)."""

    path: Path
    layers: Mapping[str, Mapping[Role, str]]
    left: Mapping[str, str]
    changes: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]] = field(repr=False)
    settings: PeftSettings | None
    header: HeaderAlpha

    @property
    def keys(self) -> list[str]:
        """All of them, in the order of the alphabet."""
        return sorted(self.shapes)

    def tensors(self) -> Iterator[tuple[str, Mapping[Role, Tensor]]]:
        """Layer by layer. Raises AdapterError for a damaged file and for values that are no numbers."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                for name, keys in self.layers.items():
                    found: dict[Role, Tensor] = {role: file.get_tensor(key) for role, key in keys.items()}
                    for role, tensor in found.items():
                        if not bool(torch.isfinite(tensor).all()):
                            raise AdapterError(
                                f"{self.path.name}: {shown(keys[role])} holds values that are no numbers"
                            )
                    yield name, found
        except (SafetensorError, OSError) as error:
            raise AdapterError(f"{self.path.name} is damaged: {str(error)[:200]}") from error

    def zeros(self) -> set[str]:
        """The keys among `changes` that change nothing. Raises AdapterError as `tensors`."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                return {key for key, name in self.changes.items() if name and not bool(file.get_tensor(key).any())}
        except (SafetensorError, OSError) as error:
            raise AdapterError(f"{self.path.name} is damaged: {str(error)[:200]}") from error


def read_foreign(path: Path) -> ForeignFile:
    """Take a file apart by its header; no tensor is read.

    Raises AdapterError for what is no LoRA file: too large, damaged, of another kind, or of keys without a partner.
    """
    header = read_header(path)
    if path.stat().st_size > MAX_BYTES:
        raise AdapterError(f"{path.name} has {path.stat().st_size >> 20} MiB, at most {MAX_BYTES >> 20} are read")
    metadata = header.pop("__metadata__", {})
    if len(header) > MAX_KEYS:
        raise AdapterError(f"{path.name} holds {len(header)} tensors, at most {MAX_KEYS} are read")
    shapes = {key: _shape(path, key, about) for key, about in header.items()}
    for pattern, reason in _OTHER_KIND:
        found = [key for key in sorted(header) if pattern.search(key)]
        if found:
            raise AdapterError(f"{path.name} is {reason}: {listed(found)}")
    layers: dict[str, dict[Role, str]] = {}
    left: dict[str, str] = {}
    changes: dict[str, str] = {}
    for key in sorted(header):
        reason = next((reason for pattern, reason in _LEFT if pattern.search(key)), None)
        name, role = _split(key)
        change = None if reason else _CHANGES.fullmatch(key)
        if change:
            changes[key] = "" if change[2] else change[1]
            continue
        if reason or role is None:
            left[key] = reason or "not a key of LoRA"
            continue
        if role in layers.setdefault(name, {}):
            raise AdapterError(f"{path.name}: {shown(key)} and {shown(layers[name][role])} are the same part")
        layers[name][role] = key
    alone = [key for keys in layers.values() if not {"down", "up"} <= keys.keys() for key in keys.values()]
    if alone:
        raise AdapterError(f"{path.name} is not whole, these lack the other half of their layer: {listed(alone)}")
    for keys in layers.values():
        _check_shapes(path, keys, shapes)
    metadata = metadata if isinstance(metadata, dict) else {}
    settings = _settings(path, metadata)
    return ForeignFile(
        path=path, layers=layers, left=left, changes=changes, shapes=shapes, settings=settings, header=_header(metadata)
    )


def shown(key: str) -> str:
    """A key as it can be printed: it is anybody's text."""
    return ascii(key if len(key) <= 120 else f"{key[:117]}...")


def listed(keys: list[str], most: int = 5) -> str:
    """A few keys and the count of the others."""
    more = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(shown(key) for key in keys[:most]) + more


def _split(key: str) -> tuple[str, Role | None]:
    numbered = re.fullmatch(r"(unet:\d{1,5}):(up|down)", key)
    if numbered:
        return numbered[1], "up" if numbered[2] == "up" else "down"
    for ending, role in _ROLES:
        if key.endswith(ending) and len(key) > len(ending):
            return key.removesuffix(ending), role
    return key, None


def _shape(path: Path, key: str, about: Any) -> tuple[int, ...]:
    if len(key) > MAX_KEY:
        raise AdapterError(
            f"{path.name} holds a key of {len(key)} characters, at most {MAX_KEY} are read: {shown(key)}"
        )
    shape = about.get("shape") if isinstance(about, dict) else None
    if not isinstance(shape, list) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise AdapterError(f"{path.name} is damaged: its header says no shape of {shown(key)}")
    known = ALPHA_DTYPES if _split(key)[1] == "alpha" else DTYPES
    if about.get("dtype") not in known:
        kinds = ", ".join(known)
        raise AdapterError(f"{path.name}: {shown(key)} is of type {str(about.get('dtype'))[:20]!r}, read are {kinds}")
    return tuple(shape)


def _check_shapes(path: Path, keys: Mapping[Role, str], shapes: Mapping[str, tuple[int, ...]]) -> None:
    down, up = shapes[keys["down"]], shapes[keys["up"]]
    if "alpha" in keys and math.prod(shapes[keys["alpha"]]) != 1:
        raise AdapterError(
            f"{path.name}: {shown(keys['alpha'])} must be one number, it has shape {shapes[keys['alpha']]}"
        )
    if len(down) == len(up) == 2 and down[0] != up[1]:
        raise AdapterError(
            f"{path.name}: {shown(keys['down'])} {down} and {shown(keys['up'])} {up} must have the rank in common"
        )


def _settings(path: Path, metadata: Mapping[str, Any]) -> PeftSettings | None:
    beside = path.with_name("adapter_config.json")
    text, where = metadata.get("lora_adapter_metadata"), "its metadata"
    if text is None and path.name == "adapter_model.safetensors" and beside.is_file():
        if beside.stat().st_size > MAX_SETTINGS:
            raise AdapterError(f"{beside.name} beside {path.name} is too large to be PEFT's settings")
        text, where = beside.read_bytes(), beside.name
    if text is None:
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError, TypeError) as error:
        raise AdapterError(f"{path.name}: {where} is not readable") from error
    if not isinstance(values, dict):
        raise AdapterError(f"{path.name}: {where} is not readable")

    def own(name: str, default: Any) -> Any:
        return values.get(f"transformer.{name}", values.get(name, default))

    if own("use_dora", False):
        raise AdapterError(f"{path.name} is {_OTHER_KIND[0][1]}: {where} says so")
    if own("peft_type", "LORA") not in ("LORA", None):
        raise AdapterError(f"{path.name} is {str(own('peft_type', ''))[:30]!r}, not LoRA: {where} says so")
    alpha, patterns = own("lora_alpha", None), own("alpha_pattern", {}) or {}
    if not isinstance(patterns, dict) or len(patterns) > MAX_KEYS:
        raise AdapterError(f"{path.name}: {where} is not readable")
    alphas = tuple(
        (name, whole, _positive(path, value)) for key, value in patterns.items() for name, whole in _names(path, key)
    )
    return PeftSettings(
        alpha=None if alpha is None else _positive(path, alpha),
        alphas=alphas,
        square_root=bool(own("use_rslora", False)),
    )


def _header(metadata: Mapping[str, Any]) -> HeaderAlpha:
    unsaid = (None, "", "None")
    values = {k: v for k, v in metadata.items() if _SAYS_ALPHA.fullmatch(k) and v not in unsaid}
    ranks: dict[str, Any] = {}
    for alpha, rank in (("network_alpha", "network_dim"), ("ss_network_alpha", "ss_network_dim")):
        if alpha in values and metadata.get(rank) not in unsaid:
            ranks[rank] = metadata[rank]
    try:
        config = json.loads(metadata.get("lora_config", ""))
    except (ValueError, RecursionError, TypeError):  # somebody's own entry of that name
        config = None
    if isinstance(config, dict) and config.get("lora_alpha") is not None:
        values["lora_config"] = config["lora_alpha"]
        if config.get("r") is not None:
            ranks["lora_config"] = config["r"]
    return HeaderAlpha(values=values, ranks=ranks)


def _number(path: Path, where: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (ValueError, TypeError, OverflowError):
        number = math.nan
    if not 0 < number < math.inf:
        raise AdapterError(f"{path.name}: {where} in its header must be a number above 0, got {str(value)[:40]!a}")
    return number


def _names(path: Path, pattern: str) -> Iterator[tuple[str, bool]]:
    """The names that a pattern of PEFT's stands for, and whether each is whole: `to_q`, `^blocks.0.to_q`, and what
    `peft_settings` writes, `^(?:a|b)`."""
    whole = pattern.startswith("^")
    text = pattern.removeprefix("^")
    if whole and text.startswith("(?:") and text.endswith(")"):
        text = text[3:-1]
    for name in text.replace("\\.", ".").split("|"):
        if not re.fullmatch(r"[\w.]+", name):
            raise AdapterError(
                f"{path.name}: its alpha_pattern {shown(pattern)} is a regular expression, read are names alone"
            )
        yield name, whole


def _positive(path: Path, value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1e300:
        raise AdapterError(f"{path.name}: alpha must be a number above 0, its settings say {str(value)[:40]!r}")
    return float(value)
