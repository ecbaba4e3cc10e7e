"""An adapter's LoRA as other programs read it. Other programs have no place for the rest of a SynMotion adapter.

    diffusers   transformer.<module>.lora_A|B.weight with alpha = rank, as whoever reads no header takes it:
                alpha / rank is in B, and the file is of float32 where B's own type would round that; PEFT's settings
                are in the header ("lora_adapter_metadata")
    comfyui     diffusion_model.<its name>.lora_down|up.weight and .alpha; where ComfyUI holds several of our layers as
                one, A is shared if it is the same, else the ranks stand side by side:

                    A = [A_q; A_k; A_v]   B = [[B_q, 0, 0], [0, B_k, 0], [0, 0, B_v]]   alpha = s (r_q + r_k + r_v)

                with s = alpha / rank, which is multiplied into B, in float32, where it differs from part to part

The header says what it is (model_spec.py). Each file is read back as a file from elsewhere (foreign.py) before it is
called done.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from synmotion_core.adapters.card import plain_words, words_read
from synmotion_core.adapters.file import AdapterInfo, load_adapter, read_info
from synmotion_core.adapters.foreign import EXPERTS, import_lora
from synmotion_core.adapters.foreign_names import Layer, original_layers, to_comfy
from synmotion_core.adapters.model_spec import model_spec
from synmotion_core.backbones import family, find_spec
from synmotion_core.backbones.weightless import weightless_denoiser
from synmotion_core.errors import AdapterError, ConfigError
from synmotion_core.interfaces import BackboneSpec
from synmotion_core.methods import find_method
from synmotion_core.methods.attention_lora import peft_settings
from synmotion_core.storage import write_tensors

Format = Literal["diffusers", "comfyui"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """A layer's part: W~ = W + (alpha / rank) B A."""

    a: Tensor
    b: Tensor
    alpha: float

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.a.shape[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written; left are the keys that did not travel, usage how the file is loaded elsewhere, dtype what is to
    be said of its tensors' type, "" where it is the adapter's."""

    path: Path
    keys: int
    left: tuple[str, ...]
    usage: str
    dtype: str


def export(
    adapter: Path,
    out: Path,
    *,
    format: Format = "diffusers",
    expert: str | None = None,
    dtype: str | None = None,
    source: str = ".",
) -> Exported:
    """Write the LoRA of an adapter of ours as another program's file.

    expert: which of two, of a backbone that has two: there a file holds one. dtype: of DTYPES, in which A and B are
    written; None is theirs, or float32 where alpha / rank needs it. source: where its usage says that it lies, a folder
    or the id of a repository. Raises AdapterError for an adapter without LoRA or too large for `dtype`, ConfigError
    where `expert` is missing or of no use, or where `out` is there.
    No format is for a 3-D U-Net: an AdapterError, too.
    """
    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"there is no dtype {dtype!r}, there are {', '.join(DTYPES)}")
    if out.exists():
        raise ConfigError(f"{out} is there already: choose another name")
    info = read_info(adapter)
    spec = find_spec(info.backbone)
    if spec.denoiser != "transformer":
        raise AdapterError(
            f"{adapter.name} is of {spec.name}: diffusers and ComfyUI load no LoRA into a 3-D U-Net, so there is "
            "nothing to export it for"
        )
    tensors, _ = load_adapter(adapter, spec)
    loras = _loras(adapter, tensors, info)
    if spec.boundary_ratio is None:
        if expert is not None:
            raise ConfigError(f"{spec.name} has one transformer, no experts: leave out expert")
    else:
        if expert not in EXPERTS:
            raise ConfigError(
                f"{spec.name} has two experts and other programs take a file for each: {', '.join(EXPERTS)}"
            )
        lead = f"{expert}."
        loras = {name.removeprefix(lead): lora for name, lora in loras.items() if name.startswith(lead)}
        if not loras:
            raise AdapterError(f"{adapter.name} holds nothing for the expert {expert}")
    given, metadata = _diffusers(loras) if format == "diffusers" else _comfyui(loras, spec)
    given, said = _typed(adapter, given, loras, dtype)
    metadata |= model_spec(adapter, info, spec, words_read(info), expert=expert, diffusers=format == "diffusers")
    write_tensors(out, given, {"format": "pt", **metadata})
    try:
        back = import_lora(out, spec, expert=expert)
        lead = f"{expert}." if expert else ""
        lost = [name for name, lora in loras.items() if bool(lora.b.any()) and lead + name not in back.modules]
        if lost or back.report.applied != len(given):
            raise AdapterError(f"{out.name} was written, but read back it lacks {', '.join(lost[:3])}")
    except BaseException:
        out.unlink(missing_ok=True)
        raise
    left = tuple(key for key in tensors if not key.startswith("transformer."))
    usage = _usage(out, spec, format, expert, source) + _words(info)
    return Exported(path=out, keys=len(given), left=left, usage=usage, dtype=said)


def experts_in(adapter: Path) -> tuple[str | None, ...]:
    """Whom `export` writes a file for: the experts that an adapter of ours holds; None where its backbone has none."""
    info = read_info(adapter)
    spec = find_spec(info.backbone)
    if spec.boundary_ratio is None:
        return (None,)
    held = {name.partition(".")[0] for name in _loras(adapter, load_adapter(adapter, spec)[0], info)}
    return tuple(expert for expert in EXPERTS if expert in held)


def loads_by_name(spec: BackboneSpec) -> bool:
    """Whether the stock pipeline of a row loads a LoRA by its repository's name: `pipe.load_lora_weights("ann/wave")`.

    Not that of HunyuanVideo-1.5, which has no such method, nor of two experts, which takes a call for each. Those that
    ship have no repository that a pipeline is made of.
    """
    has_method = spec.family in ("hunyuan_video", "wan")
    return has_method and spec.boundary_ratio is None and not spec.repo.startswith("assets:")


def usual_formats(adapter: Path) -> tuple[Format, ...]:
    """What goes beside an adapter that is shared where nobody says: the LoRA that its base's pipeline loads."""
    info = read_info(adapter)
    spec = find_spec(info.backbone)
    if not loads_by_name(spec) or _of_text_beside_video(info, spec):
        return ()
    return ("diffusers",) if any(".lora_A." in key for key in load_adapter(adapter, spec)[0]) else ()


def _of_text_beside_video(info: AdapterInfo, spec: BackboneSpec) -> bool:
    """Whether an adapter changes what is made of the text's tokens in layers that see the video's as well."""
    stream, projections = (
        info.method_config.get(key, given) for key, given in (("stream", "all"), ("projections", ""))
    )
    return stream == "text" and family(spec).text_layers(None, str(projections) or "qkv").shared is not None


def _loras(adapter: Path, tensors: Mapping[str, Tensor], info: AdapterInfo) -> dict[str, Lora]:
    try:
        settings = find_method(info.method).config(**info.method_config)
    except TypeError as error:
        raise AdapterError(f"{adapter.name} has settings that {info.method} does not know: {error}") from error
    if _of_text_beside_video(info, find_spec(info.backbone)):
        raise AdapterError(
            f"{adapter.name} works on the text's tokens alone (stream text), on {info.backbone} in layers that see the "
            "video's as well: no LoRA file can say so; train one with stream all to export it"
        )
    own: Any = getattr(settings, "modules", {})
    out = {}
    for key, a in sorted(tensors.items()):  # the same header each time
        if key.startswith("transformer.") and key.endswith(".lora_A.weight"):
            name = key.removeprefix("transformer.").removesuffix(".lora_A.weight")
            b = tensors.get(f"transformer.{name}.lora_B.weight")
            alpha = own[name][1] if name in own else getattr(settings, "lora_alpha", None)
            if b is None or alpha is None or a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
                raise AdapterError(f"{adapter.name}: the LoRA of {name!r} is not whole")
            out[name] = Lora(a=a, b=b, alpha=float(alpha))
    if not out:
        raise AdapterError(f"{adapter.name} holds no LoRA: other programs cannot use it")
    return out


def _diffusers(loras: Mapping[str, Lora]) -> tuple[dict[str, Tensor], dict[str, str]]:
    folded = {name: _folded(lora) for name, lora in loras.items()}
    wider = any(lora.b.dtype != loras[name].b.dtype for name, lora in folded.items())
    tensors = {}
    for name, lora in folded.items():
        a, b = (lora.a.float(), lora.b.float()) if wider else (lora.a, lora.b)  # programs want one type of a layer
        tensors |= {f"transformer.{name}.lora_A.weight": a, f"transformer.{name}.lora_B.weight": b}
    settings = peft_settings({name: (lora.a.shape[0], lora.alpha) for name, lora in folded.items()})
    settings = {f"transformer.{key}": value for key, value in settings.items()}
    return tensors, {"lora_adapter_metadata": json.dumps(settings, sort_keys=True)}


def _folded(lora: Lora) -> Lora:
    """The same with alpha = rank: alpha / rank goes into B, in B's type where that rounds nothing, else in float32."""
    rank = lora.a.shape[0]
    if lora.alpha == rank:
        return lora
    b = lora.b.double() * lora.scale
    own = b.to(lora.b.dtype)
    return Lora(a=lora.a, b=own if torch.equal(own.double(), b) else b.float(), alpha=float(rank))


def _typed(
    adapter: Path, tensors: dict[str, Tensor], loras: Mapping[str, Lora], dtype: str | None
) -> tuple[dict[str, Tensor], str]:
    """A and B in the type that was asked for, and what is to be said of it."""
    own = _named({t.dtype for lora in loras.values() for t in (lora.a, lora.b)})
    if dtype is None:
        found = _named({t.dtype for t in tensors.values() if t.ndim == 2})
        why = "alpha / rank is multiplied into B, and the adapter's own type"
        return tensors, "" if found == own else f"its tensors are {found}: {why}, {own}, would round it"
    cast = {key: t.to(DTYPES[dtype]) if t.ndim == 2 else t for key, t in tensors.items()}
    large = [key for key, t in cast.items() if not bool(torch.isfinite(t).all())]
    if large:
        raise AdapterError(f"{adapter.name}: {large[0]} holds values beyond {dtype}: choose bf16 or fp32")
    wanted = _named({DTYPES[dtype]})
    return cast, f"its tensors are {wanted}, as asked" + ("" if own == wanted else f"; the adapter's are {own}")


def _named(dtypes: set[torch.dtype]) -> str:
    return " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))


def _comfyui(loras: Mapping[str, Lora], spec: BackboneSpec) -> tuple[dict[str, Tensor], dict[str, str]]:
    denoiser = weightless_denoiser(spec)
    layers = original_layers(
        spec.family, denoiser if spec.boundary_ratio is None else denoiser.get_submodule("high_noise")
    )
    tensors: dict[str, Tensor] = {}
    done: set[str] = set()
    for name, layer in layers.items():
        parts = {part.module for part in layer.parts}
        if not parts & loras.keys() or parts <= done:  # HunyuanVideo-1.5's q, k and v are fused here
            continue
        done |= parts
        lora, key = _joined(layer, loras), f"diffusion_model.{to_comfy(name)}"
        tensors[f"{key}.lora_down.weight"], tensors[f"{key}.lora_up.weight"] = lora.a, lora.b
        tensors[f"{key}.alpha"] = torch.tensor(lora.alpha)
    lost = sorted(loras.keys() - done)
    if lost:
        raise AdapterError(f"ComfyUI has no name for {', '.join(lost[:3])}: {len(lost)} layers")
    return tensors, {}


def _joined(layer: Layer, loras: Mapping[str, Lora]) -> Lora:
    """The LoRA of a layer of theirs; of our layers in it some may have none."""
    own = [(part, loras[part.module]) for part in layer.parts if part.module in loras]
    first = own[0][1]
    alike = all(lora.alpha == first.alpha and torch.equal(lora.a, first.a) for _, lora in own)
    rank = first.a.shape[0] if alike else sum(lora.a.shape[0] for _, lora in own)
    even = all(abs(lora.scale - first.scale) <= 1e-9 * first.scale for _, lora in own)
    if not even:
        own = [(part, Lora(a=lora.a.float(), b=lora.b.float(), alpha=lora.alpha)) for part, lora in own]
        first = own[0][1]
    b, column = first.b.new_zeros(layer.outputs, rank), 0
    for part, lora in own:
        end, row = column + lora.a.shape[0], 0
        for start, stop in part.rows:
            b[start:stop, column:end] = lora.b[row : row + stop - start] * (1.0 if even else lora.scale)
            row += stop - start
        column = 0 if alike else end
    a = first.a if alike else torch.cat([lora.a for _, lora in own])
    return Lora(a=a, b=b, alpha=first.alpha if alike else (first.scale if even else 1.0) * rank)


def _words(info: AdapterInfo) -> str:
    """What has to be written there, where here the method puts it beside people's words."""
    read = words_read(info)
    return "" if read == plain_words(info) else f"; its prompts there need the method's own word: “{read}”"


def _usage(out: Path, spec: BackboneSpec, format: Format, expert: str | None, source: str) -> str:
    if format == "comfyui":
        which = f" on the {expert.replace('_', ' ')} model" if expert else ""
        return f"in ComfyUI: put it into models/loras and load it with LoraLoaderModelOnly{which}"
    if spec.family == "hunyuan_video15":  # its pipelines have no loader of their own
        return f'in diffusers: pipe.transformer.load_lora_adapter("{source}", weight_name="{out.name}")'
    second = ", load_into_transformer_2=True" if expert == "low_noise" else ""
    return f'in diffusers: pipe.load_lora_weights("{source}", weight_name="{out.name}"{second})'
