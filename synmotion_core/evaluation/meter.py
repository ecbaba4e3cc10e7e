"""How much memory a denoiser or an autoencoder of the real size works with, counted without its weights.

The real class is built with its real config and run, forward and backward, on fake tensors: shapes and types, no
numbers (one class looks at numbers on its way, NEEDS_NUMBERS: it is run on a small video). A dispatch mode adds up the
storages that are alive; the most that ever were is the peak. Weights are not in it. What a CUDA kernel takes for
itself, and what the allocator loses, is not either: plans add a margin for that.

Every block of a kind works with the same, so a peak grows by the same for each further block: two and three of each
kind are run, the rest is reckoned. Attention is counted as CUDA's fused kernels hold it: q, k, v, the result and one
float a row, never the scores.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

Inputs = Callable[[Mapping[str, Any], int, tuple[int, int, int]], dict[str, Tensor]]
OF_PICTURES = ("AutoencoderKL",)  # autoencoders that know no time: a video goes through frame by frame
TEXT_TOKENS = 32  # of a prompt of some twenty words
NEEDS_NUMBERS = ("HunyuanVideo15Transformer3DModel",)  # whether a picture is given, and which tokens are padding


class LiveBytes(TorchDispatchMode):
    """Within it, `now` is the bytes of all storages made since it began and still alive, `peak` the most of it."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, int] = {_key(tensor): 0 for tensor in known}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._count, made)
        return made

    def _count(self, tensor: Tensor) -> None:
        key = _key(tensor)
        if key in self._known:
            return
        storage = tensor.untyped_storage()
        size = self._known[key] = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key)

    def _gone(self, key: int) -> None:
        self.now -= self._known.pop(key)


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def training_peak(
    model_class: Any, config: Mapping[str, Any], targets: str, size: tuple[int, int, int], *, batch: int = 1,
    rank: int = 16, gradient_checkpointing: bool = True, time_per_token: bool = False,
) -> int:  # fmt: skip
    """Bytes beside the weights, at the most, of a LoRA training step in bf16 autocast on latents of `size` (f, h, w).

    Activations, gradients and the working memory of both passes; the adapter itself and its optimizer are not in it.
    time_per_token: the denoiser is told a time for each token, not one for each sample.
    """
    from synmotion_core.backbones.precision import checkpoint_blocks
    from synmotion_core.methods.attention_lora import AttentionLora

    def peak(config: Mapping[str, Any]) -> int:
        with torch.device("meta"):
            model = model_class.from_config(dict(config)).requires_grad_(False)
            AttentionLora(model, targets, rank=rank, alpha=float(rank), seed=0)
        if gradient_checkpointing:
            checkpoint_blocks(model, torch.device("meta"))

        def step() -> None:
            with torch.autocast("cpu", torch.bfloat16):
                inputs = _inputs(model_class, config, batch, size, time_per_token=time_per_token)
                velocity = model(**inputs, return_dict=False)[0].float()
            loss = nn.functional.mse_loss(velocity, torch.empty_like(velocity))
            torch.autograd.backward(loss)

        return _peak(model.train(), step)

    return _at_full_depth(peak, config)


def sampling_peak(
    model_class: Any, config: Mapping[str, Any], size: tuple[int, int, int], *, batch: int = 1,
    time_per_token: bool = False,
) -> int:  # fmt: skip
    """Bytes beside the weights, at the most, of one pass of the denoiser without gradients. batch 2: true guidance."""

    def peak(config: Mapping[str, Any]) -> int:
        with torch.device("meta"):
            model = model_class.from_config(dict(config)).requires_grad_(False).eval()

        def step() -> None:
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                inputs = _inputs(model_class, config, batch, size, time_per_token=time_per_token)
                model(**inputs, return_dict=False)

        return _peak(model, step)

    return _at_full_depth(peak, config)


def autoencoder_peak(
    vae_class: Any,
    config: Mapping[str, Any],
    work: str,
    video: tuple[int, int, int],
    latents: tuple[int, int, int],
    *,
    tiling: bool = False,
) -> int:
    """Bytes beside the weights, at the most, of `work` ("encode" or "decode") on one float32 video.

    video is (F, H, W), latents its (f, h, w).
    """
    with torch.device("meta"):
        vae = vae_class.from_config(dict(config)).requires_grad_(False).eval()
    if tiling:
        vae.enable_tiling()
    channels = vae.config.get("latent_channels") or vae.config["z_dim"]

    def step() -> None:
        with torch.no_grad():
            if vae_class.__name__ in OF_PICTURES:
                frames = torch.empty(video[0], 3, *video[1:]) if work == "encode" else None
                small = torch.empty(latents[0], channels, *latents[1:])
                if frames is not None:
                    torch.cat([vae.encode(frame[None]).latent_dist.mode() for frame in frames])
                else:
                    torch.cat([vae.decode(frame[None], return_dict=False)[0] for frame in small])
            elif work == "encode":
                vae.encode(torch.empty(1, 3, *video)).latent_dist.mode()
            else:
                vae.decode(torch.empty(1, channels, *latents), return_dict=False)

    return _peak(vae, step, weights=torch.float32)


_DEPTHS = ("num_layers", "num_single_layers")
_SHALLOW = 2  # the first and the last block may differ from those between


def _at_full_depth(peak: Callable[[Mapping[str, Any]], int], config: Mapping[str, Any]) -> int:
    full = {key: config[key] for key in _DEPTHS if key in config}
    shallow = {**config, **{key: min(_SHALLOW, depth) for key, depth in full.items()}}
    least = total = peak(shallow)
    for key, depth in full.items():
        if depth > _SHALLOW:
            total += (depth - _SHALLOW) * (peak({**shallow, key: _SHALLOW + 1}) - least)
    return total


def _peak(model: Any, step: Callable[[], None], weights: torch.dtype = torch.bfloat16) -> int:
    from torch._subclasses.fake_tensor import FakeTensorMode

    keep = tuple(getattr(model, "_keep_in_fp32_modules", None) or ())
    numbers = type(model).__name__ in NEEDS_NUMBERS
    with nullcontext() if numbers else FakeTensorMode(), _fused_attention():
        for name, module in model.named_modules():
            for key, p in module._parameters.items():
                if p is not None:
                    kept = p.requires_grad or any(word in f"{name}.{key}".split(".") for word in keep)
                    own = torch.empty(p.shape, dtype=torch.float32 if kept else weights)
                    module._parameters[key] = nn.Parameter(own, requires_grad=p.requires_grad)
            for key, b in module._buffers.items():
                if b is not None:
                    module._buffers[key] = torch.empty(b.shape, dtype=b.dtype)
        live = LiveBytes((*model.parameters(), *model.buffers()))
        with live:
            step()
    return live.peak


class _Fused(torch.autograd.Function):
    """What a fused attention kernel keeps for its backward pass."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, sums = torch.empty_like(q), torch.empty(q.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(q, k, v, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, _, _ = ctx.saved_tensors
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


@contextmanager
def _fused_attention() -> Iterator[None]:
    """A CPU would spell attention out, and backward recomputes it out of reach of a function mode: hence the patch."""
    own = nn.functional.scaled_dot_product_attention

    def fused(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
        return _Fused.apply(query.to(dtype), key.to(dtype), value.to(dtype))

    nn.functional.scaled_dot_product_attention = fused  # type: ignore[assignment]
    try:
        yield
    finally:
        nn.functional.scaled_dot_product_attention = own


# ------------------------------------------------------------------ what each denoiser is called with


def _inputs(
    model_class: Any, config: Mapping[str, Any], batch: int, size: tuple[int, int, int], *, time_per_token: bool
) -> dict[str, Tensor]:
    inputs = INPUTS[model_class.__name__](config, batch, size)
    if time_per_token:
        tokens = math.prod(side // patch for side, patch in zip(size, config["patch_size"], strict=True))
        inputs["timestep"] = torch.empty(batch, tokens)
    return inputs


def _hunyuan_video(config: Mapping[str, Any], batch: int, size: tuple[int, int, int]) -> dict[str, Tensor]:
    bf16 = torch.bfloat16
    return {
        "hidden_states": torch.empty(batch, config["in_channels"], *size, dtype=bf16),
        "timestep": torch.empty(batch),
        "encoder_hidden_states": torch.empty(batch, TEXT_TOKENS, config["text_embed_dim"], dtype=bf16),
        "encoder_attention_mask": torch.empty(batch, TEXT_TOKENS, dtype=torch.int64),
        "pooled_projections": torch.empty(batch, config["pooled_projection_dim"], dtype=bf16),
        "guidance": torch.empty(batch, dtype=bf16),
    }


def _wan(config: Mapping[str, Any], batch: int, size: tuple[int, int, int]) -> dict[str, Tensor]:
    bf16 = torch.bfloat16
    return {
        "hidden_states": torch.empty(batch, config["in_channels"], *size, dtype=bf16),
        "timestep": torch.empty(batch),
        "encoder_hidden_states": torch.empty(batch, 512, config["text_dim"], dtype=bf16),
    } | (
        {"encoder_hidden_states_image": torch.empty(batch, 257, config["image_dim"], dtype=bf16)}
        if config.get("image_dim")
        else {}
    )


def _hunyuan_video15(config: Mapping[str, Any], batch: int, size: tuple[int, int, int]) -> dict[str, Tensor]:
    bf16 = torch.bfloat16
    return {
        "hidden_states": torch.empty(batch, config["in_channels"], *size, dtype=bf16),
        "timestep": torch.empty(batch),
        "encoder_hidden_states": torch.empty(batch, TEXT_TOKENS, config["text_embed_dim"], dtype=bf16),
        "encoder_attention_mask": torch.ones(batch, TEXT_TOKENS, dtype=torch.int64),
        "encoder_hidden_states_2": torch.empty(batch, 1, config["text_embed_2_dim"], dtype=bf16),
        "encoder_attention_mask_2": torch.zeros(batch, 1, dtype=torch.int64),
        "image_embeds": torch.ones(batch, 729, config["image_embed_dim"], dtype=bf16),
    }


def _unet3d(config: Mapping[str, Any], batch: int, size: tuple[int, int, int]) -> dict[str, Tensor]:
    bf16 = torch.bfloat16
    return {
        "sample": torch.empty(batch, config["in_channels"], *size, dtype=bf16),
        "timestep": torch.empty(batch, dtype=torch.int64),
        "encoder_hidden_states": torch.empty(batch, 77, config["cross_attention_dim"], dtype=bf16),
    }


INPUTS: dict[str, Inputs] = {
    "HunyuanVideoTransformer3DModel": _hunyuan_video,
    "HunyuanVideo15Transformer3DModel": _hunyuan_video15,
    "WanTransformer3DModel": _wan,
    "UNet3DConditionModel": _unet3d,
}
