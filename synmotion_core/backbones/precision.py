"""Precision and memory of a loaded pipeline: what `Precision` says, done.

Quantised are the linear layers of the transformer's blocks, by 8 bits (LLM.int8) or 4 (NF4), and those of the first
text encoder but for its output and what looks at pictures. Everything before and behind the blocks stays as it is:
embedders, projections of time and text, the last norm and projection. On CUDA the libraries' own loaders do it as the
files are read; diffusers refuses to without a GPU, so on a CPU the same layers are swapped afterwards.

Modulations of the blocks (norm1.linear and their like) are quantised with the rest. On random weights NF4 leaves a
prediction wrong by 7.6 %, and by 5.6 % where it left them alone.

Adapters stay float32 on any base. A quantised base is never saved: what is learnt is in the adapter.
"""

from __future__ import annotations

import functools
import inspect
import logging
import warnings
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from synmotion_core.backbones.attention import attention_for
from synmotion_core.errors import ConfigError
from synmotion_core.interfaces import BackboneSpec
from synmotion_core.precision import Precision, is_denoiser

# what stands before and behind the blocks, of every family: HunyuanVideo's, then what HunyuanVideo-1.5 and Wan add
OUTSIDE = (
    *("x_embedder", "context_embedder", "time_text_embed", "norm_out", "proj_out"),
    *("image_embedder", "context_embedder_2", "time_embed", "cond_type_embed"),
    *("patch_embedding", "condition_embedder"),
    *("conv_in", "conv_out", "time_embedding", "transformer_in"),
)
TEXT_OUTSIDE = ("lm_head", "model.vision_tower", "model.multi_modal_projector")
# of a 4-bit layer: whether the first inference on a CPU packs it anew, which rounds its scales and forbids training
_PACKING = "support_avx512bf16_for_cpu"
THRESHOLD = 6.0  # LLM.int8: activations above it are multiplied in 16 bits


def check_precision(spec: BackboneSpec, device: torch.device, precision: Precision) -> None:
    """Raise ConfigError for what cannot be had of this backbone on this device."""
    if precision.offload != "none" and not (spec.needs_gpu and device.type == "cuda"):
        where = "runs on the CPU here" if device.type != "cuda" else "is small enough for any"
        raise ConfigError(
            f"offload {precision.offload!r} moves weights between a CUDA GPU and main memory, and {spec.name} {where}: "
            "use offload 'none'"
        )


def fingerprint_suffix(precision: Precision, spec: BackboneSpec, device: torch.device) -> str:
    """What a fingerprint needs more: only what changes the encodings that are cached under it."""
    own = {dtype for part, dtype in spec.held.items() if device.type == "cuda"}  # all was in bf16 there once
    held = "".join(f"+{dtype}" for dtype in sorted(own))
    text = "" if precision.text_weights == "bf16" else f"+text_weights={precision.text_weights}"
    return held + text + ("+vae_tiling" if precision.vae_tiling else "")


# ------------------------------------------------------------------------------------------------ quantising


def loader_config(
    precision: Precision,
    device: torch.device,
    parts: Collection[str],
    dtypes: Mapping[str, torch.dtype] = MappingProxyType({}),
) -> Any:
    """What `from_pretrained` of a pipeline takes as quantization_config when it reads these parts.

    A text encoder in 4 bits computes in its own type of `dtypes`. A denoiser does in bf16, whatever it is held in: it
    is trained so, and bitsandbytes' layers would go on in float16 within autocast to bf16, where gradients vanish.
    """
    from diffusers import BitsAndBytesConfig as OfModel
    from diffusers import PipelineQuantizationConfig
    from transformers import BitsAndBytesConfig as OfTextEncoder

    mapping: dict[str, Any] = {}
    for name in parts:
        if is_denoiser(name) and precision.weights in ("8bit", "4bit") and device.type == "cuda":
            mapping[name] = OfModel(**_settings(precision.weights, device), llm_int8_skip_modules=list(OUTSIDE))
        if name == "text_encoder" and precision.text_weights != "bf16":
            mapping[name] = OfTextEncoder(
                **_settings(precision.text_weights, device, dtypes.get(name, torch.bfloat16)),
                llm_int8_skip_modules=list(TEXT_OUTSIDE),
            )
    _quiet()
    return PipelineQuantizationConfig(quant_mapping=mapping) if mapping else None


def _settings(weights: str, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> dict[str, Any]:
    if weights == "8bit":
        return {"load_in_8bit": True, "llm_int8_threshold": THRESHOLD}
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": dtype if device.type == "cuda" else torch.float32,
    }


def _quiet() -> None:
    """bitsandbytes announces kernels at import, and at every layer that 8 bits are multiplied as 16."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="MatMul8bitLt: inputs will be cast")


def quantized_layers(transformer: nn.Module) -> list[str]:
    """Names of the linear layers in a denoiser's blocks: those that quantising is about. (Not a U-Net's convolutions,
    which bitsandbytes does not know.)"""
    blocks = [name for name, child in transformer.named_children() if isinstance(child, nn.ModuleList)]
    blocks += ["mid_block"] if hasattr(transformer, "mid_block") else []
    return [
        name
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and name.split(".")[0] in blocks
    ]


def quantize(transformer: Any, weights: str) -> None:
    """Swap the layers of `quantized_layers` that the loader has left, in place, each where it is.

    On CUDA these are HunyuanVideo's `single_transformer_blocks.*.proj_out`: diffusers goes by the last part of a name,
    too, and skips all forty of them (1.9 billion parameters) with the transformer's own `proj_out`.
    """
    _quiet()
    for name in quantized_layers(transformer):
        layer = transformer.get_submodule(name)
        if type(layer) is nn.Linear:
            parent, _, last = name.rpartition(".")
            setattr(transformer.get_submodule(parent), last, _quantized(layer, weights))
    setattr(transformer, f"is_loaded_in_{weights}", True)  # by this PEFT knows which layers to make


@torch.no_grad()
def _quantized(layer: nn.Linear, weights: str) -> nn.Module:
    import bitsandbytes

    bnb: Any = bitsandbytes
    device, dtype = layer.weight.device, layer.weight.dtype
    dtype = torch.bfloat16 if dtype == torch.float16 else dtype  # as `loader_config` says
    size = (layer.in_features, layer.out_features, layer.bias is not None)
    value = layer.weight.detach().cpu()  # bitsandbytes quantises on the way from the CPU
    with torch.device("meta"):
        new = (
            bnb.nn.Linear8bitLt(*size, has_fp16_weights=False, threshold=THRESHOLD)
            if weights == "8bit"
            else bnb.nn.Linear4bit(*size, compute_dtype=dtype)
        )
    if weights == "8bit":
        new.weight = bnb.nn.Int8Params(value, requires_grad=False, has_fp16_weights=False).to(device)
    else:
        own = {"quant_type": "nf4", "compress_statistics": True, "module": new}
        new.weight = bnb.nn.Params4bit(value, requires_grad=False, **own).to(device)
    if layer.bias is not None:  # bitsandbytes casts it in place to the input's type, and bf16 survives that
        layer.bias.copy_(layer.bias.bfloat16())
    new.bias = layer.bias
    return new.requires_grad_(False)


def store_in_fp8(transformer: Any) -> None:
    """The blocks' linear layers in float8_e4m3fn, computed in the denoiser's own type; diffusers leaves out norms.

    Convolutions, of U-Nets, stay: autograd keeps their very weights for the backward pass, and finds them in fp8 there.
    """
    transformer.enable_layerwise_casting(
        storage_dtype=torch.float8_e4m3fn,
        compute_dtype=transformer.dtype,
        skip_modules_pattern=(*(rf"^{name}(\.|$)" for name in OUTSIDE), "conv"),
    )


def spare_activations(transformer: nn.Module, device: torch.device) -> None:
    """bitsandbytes' layers work with as much memory as plain ones in a training.

    8-bit layers hold their input as an attribute until the backward pass, of all blocks, checkpointed or not, for a
    gradient of their weight; that is frozen here, so it is let go. Elsewhere than on a CPU, where layer norms give
    float32 under autocast: what these layers read is cast first, as plain ones cast it, for they give the type that
    they are given, and the residual stream would be float32 from the first of them on.
    """
    import bitsandbytes

    kinds: Any = bitsandbytes.nn
    for layer in transformer.modules():
        if isinstance(layer, (kinds.Linear8bitLt, kinds.Linear4bit)) and device.type != "cpu":
            layer.register_forward_pre_hook(_cast_as_autocast)
        if isinstance(layer, kinds.Linear8bitLt):
            layer.register_forward_hook(_let_go_of_input)


def _cast_as_autocast(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    x = inputs[0]
    if not torch.is_autocast_enabled(x.device.type):
        return inputs
    return (x.to(torch.get_autocast_dtype(x.device.type)), *inputs[1:])


def _let_go_of_input(_: nn.Module, __: tuple[Any, ...], output: torch.Tensor) -> None:
    node: Any = output.grad_fn  # MatMul8bitLt's own context, or MatMul8bitFp's, which a CPU takes in training mode
    if hasattr(node, "tensors"):
        node.tensors = (None, None, None)
    elif hasattr(node, "A"):
        node.A = None


# ------------------------------------------------------------------------------------------------ memory


def settle(name: str, part: Any, device: torch.device, precision: Precision, take_turns: Callable[[Any], None]) -> None:
    """A part of a pipeline as it came from the files: frozen, in evaluation mode, held and placed as asked."""
    if is_denoiser(name):
        if precision.weights in ("8bit", "4bit"):
            quantize(part, precision.weights)
            spare_activations(part, device)
        elif precision.weights == "fp8":
            store_in_fp8(part)
        if precision.gradient_checkpointing:
            checkpoint_blocks(part, device)
    if name == "vae" and precision.vae_tiling:
        part.enable_tiling()
    part.requires_grad_(False).eval()
    for layer in part.modules():
        if hasattr(layer, _PACKING):
            setattr(layer, _PACKING, False)
    if precision.offload == "group" and (is_denoiser(name) or name == "text_encoder"):
        offload_layers(part, device)
    elif precision.offload == "model":
        take_turns(part)
    else:
        part.to(device)


def offload_layers(part: nn.Module, device: torch.device) -> None:
    """Layer by layer to the device and back, so that layers of adapters, which come later, stay where they are.

    Without prefetching: the backward pass runs the blocks in another order than the one that it would have learnt.
    """
    from diffusers.hooks import apply_group_offloading

    apply_group_offloading(part, onload_device=device, offload_type="leaf_level")
    for module in staying(part):
        hooks: Any = getattr(module, "_diffusers_hook", None)
        if hooks is not None:
            hooks.remove_hook("group_offloading", recurse=False)
        module._apply(lambda tensor: tensor.to(device), recurse=False)
    tidy_hooks(part)


def tidy_hooks(part: nn.Module) -> None:
    """Drop what diffusers leaves on modules whose last hook is gone: an empty registry, and `forward` as an attribute.

    Both hold the module that holds them, so that its memory would wait for the garbage collector.
    """
    for module in part.modules():
        registry: Any = module.__dict__.get("_diffusers_hook")
        if registry is not None and not registry.hooks:
            del module.__dict__["_diffusers_hook"]
            forward = module.__dict__.get("forward")
            if getattr(forward, "__func__", None) is type(module).forward:
                del module.__dict__["forward"]


def staying(part: nn.Module) -> Iterator[nn.Module]:
    """The modules whose own tensors `offload_layers` leaves on the device: all but linear layers and embeddings.

    What autograd keeps of a linear layer's weight is a view, which holds the copy on the device; of a norm's or a
    convolution's it is the parameter itself, which would be on the CPU by the time of the backward pass.
    """
    return (module for module in part.modules() if not isinstance(module, (nn.Linear, nn.Embedding)))


def taking_turns(device: torch.device) -> Callable[[Any], None]:
    """Gives parts that share a device: each is there from when it is called to when another one is, else on the CPU.

    Diffusers' own chain for this follows a pipeline's `__call__`; a training calls the parts in another order. Parts
    are held weakly, so that one which is dropped is gone.
    """
    from accelerate.hooks import ModelHook, add_hook_to_module
    from accelerate.utils import send_to_device

    parts: weakref.WeakSet[nn.Module] = weakref.WeakSet()

    class Turn(ModelHook):
        def pre_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            for other in parts:
                if other is not module:
                    other.to("cpu")
            module.to(device)
            return send_to_device(args, device), send_to_device(kwargs, device)

    def join(part: Any) -> None:
        part.to("cpu")
        add_hook_to_module(part, Turn())
        parts.add(part)

    return join


def checkpoint_blocks(transformer: Any, device: torch.device) -> None:
    """Each block is computed again in the backward pass, on the same attention kernel as before."""
    masked = "encoder_attention_mask" in inspect.signature(type(transformer).forward).parameters

    def computed(block: Callable[..., Any], *args: Any) -> Any:
        with attention_for(device, everywhere=True, masked=masked):  # the backward pass is outside of `predict`
            return block(*args)

    def again(block: Callable[..., Any], *args: Any) -> Any:
        return checkpoint(computed, block, *args, use_reentrant=False)

    if transformer._supports_gradient_checkpointing:
        transformer.enable_gradient_checkpointing(again)
        return
    for block in (*transformer.down_blocks, transformer.mid_block, *transformer.up_blocks):  # a 3-D U-Net
        block.forward = functools.partial(_unless_frozen, again, block.forward)


def _unless_frozen(again: Callable[..., Any], forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Without gradients there is no backward pass to compute for."""
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    return again(functools.partial(forward, **kwargs), *args)
