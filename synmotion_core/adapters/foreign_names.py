"""What other programs call the linear layers of a transformer, and which of our layers' rows they are.

Three dialects, and each also with underscores for dots, as kohya's programs write it:

    ours           transformer_blocks.0.attn.to_q           blocks.0.attn1.to_q             diffusers, PEFT
    the model's    double_blocks.0.img_attn_qkv             blocks.0.self_attn.q            the official repositories
    ComfyUI's      double_blocks.0.img_attn.qkv                                             where it differs

A layer there may be several here: `img_attn_qkv` is q, k and v, one below the other, and `linear1` of a single-stream
block is q, k, v and the MLP's first layer. W~ = W + s B A, so the rows of W~ are W's rows + s (B's rows) A: the parts
share A, and B is cut by rows, exactly. `final_layer.adaLN_modulation.1` is one layer in both, its two halves in the
other order here.

Names are those of diffusers' own conversion scripts, laid over the layers that a transformer really has. An underscored
name is looked up among them and never taken apart; one that two layers would share is nobody's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from synmotion_core.errors import IncompatibleError


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One of our layers within a layer of another dialect: its B is these rows [start, end), range after range."""

    module: str
    rows: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer of another dialect: `outputs` rows that read `inputs` numbers, and our layers in it."""

    inputs: int
    outputs: int
    parts: tuple[Part, ...]


# the model's own name -> our layers, one below the other; {i} counts blocks
_REFINER = {
    "txt_in.input_embedder": ("context_embedder.proj_in",),
    "txt_in.t_embedder.mlp.0": ("context_embedder.time_text_embed.timestep_embedder.linear_1",),
    "txt_in.t_embedder.mlp.2": ("context_embedder.time_text_embed.timestep_embedder.linear_2",),
    "txt_in.c_embedder.linear_1": ("context_embedder.time_text_embed.text_embedder.linear_1",),
    "txt_in.c_embedder.linear_2": ("context_embedder.time_text_embed.text_embedder.linear_2",),
} | {
    f"txt_in.individual_token_refiner.blocks.{{i}}.{theirs}": tuple(
        f"context_embedder.token_refiner.refiner_blocks.{{i}}.{name}" for name in ours
    )
    for theirs, ours in {
        "self_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "self_attn_proj": ("attn.to_out.0",),
        "mlp.fc1": ("ff.net.0.proj",),
        "mlp.fc2": ("ff.net.2",),
        "adaLN_modulation.1": ("norm_out.linear",),
    }.items()
}
_DUAL = {
    f"double_blocks.{{i}}.{theirs}": tuple(f"transformer_blocks.{{i}}.{name}" for name in ours)
    for theirs, ours in {
        "img_attn_qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
        "txt_attn_qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
        "img_attn_proj": ("attn.to_out.0",),
        "txt_attn_proj": ("attn.to_add_out",),
        "img_mlp.fc1": ("ff.net.0.proj",),
        "img_mlp.fc2": ("ff.net.2",),
        "txt_mlp.fc1": ("ff_context.net.0.proj",),
        "txt_mlp.fc2": ("ff_context.net.2",),
        "img_mod.linear": ("norm1.linear",),
        "txt_mod.linear": ("norm1_context.linear",),
    }.items()
}
_SINGLE = {
    f"single_blocks.{{i}}.{theirs}": tuple(f"single_transformer_blocks.{{i}}.{name}" for name in ours)
    for theirs, ours in {
        "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
        "linear2": ("proj_out",),
        "modulation.linear": ("norm.linear",),
    }.items()
}
_FINAL = {"final_layer.linear": ("proj_out",), "final_layer.adaLN_modulation.1": ("norm_out.linear",)}
_HALVES_SWAPPED = "final_layer.adaLN_modulation.1"
_HUNYUAN = {
    **_REFINER,
    **_DUAL,
    **_SINGLE,
    **_FINAL,
    "time_in.mlp.0": ("time_text_embed.timestep_embedder.linear_1",),
    "time_in.mlp.2": ("time_text_embed.timestep_embedder.linear_2",),
    "guidance_in.mlp.0": ("time_text_embed.guidance_embedder.linear_1",),
    "guidance_in.mlp.2": ("time_text_embed.guidance_embedder.linear_2",),
    "vector_in.in_layer": ("time_text_embed.text_embedder.linear_1",),
    "vector_in.out_layer": ("time_text_embed.text_embedder.linear_2",),
}
_HUNYUAN15 = {
    **_REFINER,
    **_DUAL,  # fused as ComfyUI holds them; the model's own are apart:
    **{
        f"double_blocks.{{i}}.{side}_attn_{letter}": (f"transformer_blocks.{{i}}.attn.{name}",)
        for side, names in {"img": ("to_q", "to_k", "to_v"), "txt": ("add_q_proj", "add_k_proj", "add_v_proj")}.items()
        for letter, name in zip("qkv", names, strict=True)
    },
    **_FINAL,
    "time_in.mlp.0": ("time_embed.timestep_embedder.linear_1",),
    "time_in.mlp.2": ("time_embed.timestep_embedder.linear_2",),
    "byt5_in.fc1": ("context_embedder_2.linear_1",),
    "byt5_in.fc2": ("context_embedder_2.linear_2",),
    "byt5_in.fc3": ("context_embedder_2.linear_3",),
    "vision_in.proj.1": ("image_embedder.linear_1",),
    "vision_in.proj.3": ("image_embedder.linear_2",),
}
_WAN = {
    **{
        f"blocks.{{i}}.{theirs}.{letter}": (f"blocks.{{i}}.{ours}.{name}",)
        for theirs, ours in {"self_attn": "attn1", "cross_attn": "attn2"}.items()
        for letter, name in {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}.items()
    },
    "blocks.{i}.cross_attn.k_img": ("blocks.{i}.attn2.add_k_proj",),
    "blocks.{i}.cross_attn.v_img": ("blocks.{i}.attn2.add_v_proj",),
    "blocks.{i}.ffn.0": ("blocks.{i}.ffn.net.0.proj",),
    "blocks.{i}.ffn.2": ("blocks.{i}.ffn.net.2",),
    "time_embedding.0": ("condition_embedder.time_embedder.linear_1",),
    "time_embedding.2": ("condition_embedder.time_embedder.linear_2",),
    "time_projection.1": ("condition_embedder.time_proj",),
    "text_embedding.0": ("condition_embedder.text_embedder.linear_1",),
    "text_embedding.2": ("condition_embedder.text_embedder.linear_2",),
    "img_emb.proj.1": ("condition_embedder.image_embedder.ff.net.0.proj",),
    "img_emb.proj.3": ("condition_embedder.image_embedder.ff.net.2",),
    "head.head": ("proj_out",),
}
_DIALECTS: dict[str, Mapping[str, tuple[str, ...]]] = {
    "hunyuan_video": _HUNYUAN,
    "hunyuan_video15": _HUNYUAN15,
    "wan": _WAN,
    "unet3d": {},  # what is trained for them goes by diffusers' class, or by a copy of it
}
_LISTS = ("k", "ko", "qk", "q", "v", "o", "f", "qkv", "qkvo", "qkvof")  # what is trained, the published ones first
# from the model's own names to ComfyUI's
_COMFY = (
    ("_attn_qkv", "_attn.qkv"),
    ("_attn_proj", "_attn.proj"),
    ("mlp.fc1", "mlp.0"),
    ("mlp.fc2", "mlp.2"),
    ("_mod.linear", "_mod.lin"),
    (".modulation.linear", ".modulation.lin"),
    ("c_embedder.linear_1", "c_embedder.in_layer"),
    ("c_embedder.linear_2", "c_embedder.out_layer"),
    ("t_embedder.mlp.0", "t_embedder.in_layer"),
    ("t_embedder.mlp.2", "t_embedder.out_layer"),
    ("_in.mlp.0", "_in.in_layer"),
    ("_in.mlp.2", "_in.out_layer"),
)


def original_layers(family: str, transformer: nn.Module) -> dict[str, Layer]:
    """The transformer's linear layers by the model's own names. Raises IncompatibleError for an unknown family."""
    if family not in _DIALECTS:
        raise IncompatibleError(
            f"what other programs call the layers of the family {family!r} is not known: there are "
            f"{', '.join(_DIALECTS)}"
        )
    linear = _linear(transformer)
    found = {}
    for theirs, ours in (_DIALECTS[family] or {name: (name,) for name in linear}).items():
        for name, modules in _counted(theirs, ours, linear):
            parts, start = [], 0
            for module in modules:
                end = start + linear[module].out_features
                parts.append(Part(module=module, rows=((start, end),)))
                start = end
            if theirs == _HALVES_SWAPPED:
                parts = [Part(module=modules[0], rows=((start // 2, start), (0, start // 2)))]
            found[name] = Layer(inputs=linear[modules[0]].in_features, outputs=start, parts=tuple(parts))
    return found


def known_layers(family: str, transformer: nn.Module) -> dict[str, Layer]:
    """Every name that another program may write, with dots or underscores, and the layer that it stands for."""
    dotted: dict[str, Layer] = {}
    for name, layer in original_layers(family, transformer).items():
        dotted[name] = dotted[to_comfy(name)] = layer
    for name, module in _linear(transformer).items():
        whole = Part(module=name, rows=((0, module.out_features),))
        dotted[name] = Layer(inputs=module.in_features, outputs=module.out_features, parts=(whole,))
    flat: dict[str, Layer] = {}
    shared = set()
    for name, layer in dotted.items():
        if flat.setdefault(name.replace(".", "_"), layer) != layer:
            shared.add(name.replace(".", "_"))
    return {name: layer for name, layer in flat.items() if name not in shared} | dotted


def temporal_lists(transformer: nn.Module) -> dict[str, list[str]]:
    """Of a 3-D U-Net: letters of the layers that learn (q, k, v, o, f: feed-forward) -> our layers, in the order in
    which MotionDirector's LoRA library walks through the temporal transformers. Its files count and name none."""
    order: list[tuple[str, str]] = []
    for name, module in transformer.named_modules():
        if type(module).__name__ == "TransformerTemporalModel":
            for inner, layer in module.named_modules():
                found = re.fullmatch(
                    r"transformer_blocks\.\d+\.(?:attn\d\.to_([qkv]|out)(?:\.0)?|(ff)\.net\..*)", inner
                )
                if found and isinstance(layer, nn.Linear):
                    letter = "f" if found[2] else found[1][0]
                    order.append((letter, f"{name}.{inner}"))
    return {letters: [name for letter, name in order if letter in letters] for letters in _LISTS}


def to_comfy(name: str) -> str:
    """A name of the model's own as ComfyUI has it.

    >>> to_comfy("double_blocks.3.img_attn_qkv"), to_comfy("blocks.0.ffn.0")
    ('double_blocks.3.img_attn.qkv', 'blocks.0.ffn.0')
    """
    for theirs, comfy in _COMFY:
        name = name.replace(theirs, comfy)
    return name


def _linear(transformer: nn.Module) -> Mapping[str, nn.Linear]:
    return {name: m for name, m in transformer.named_modules() if isinstance(m, nn.Linear)}


def _counted(theirs: str, ours: tuple[str, ...], there: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """(name, our layers) for each block that has them; once where nothing is counted."""
    i = 0
    while all(module.format(i=i) in there for module in ours):
        yield theirs.format(i=i), [module.format(i=i) for module in ours]
        if "{i}" not in theirs:
            return
        i += 1
