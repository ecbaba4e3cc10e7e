"""Appearance Highway (Separate Motion from Appearance, arXiv 2501.16714): a U-Net's skip connections start before the
temporal attention, so that what a motion's adapter does there does not reach what they carry, the looks.

    skip := spatial attention's output                    the paper's, for every skip that has one ("paper"); the
                                                          released code's, for two of them, some scaled ("released")
    skip := temporal attention's output without LoRA      ours ("pretrained")

With the first, not only the adapter's work is left out but the pretrained temporal attention's, too: a base with an
adapter of zeros is another one. The third is the identity there, bit for bit, and costs a second pass of these layers.

At work when videos are drawn, not in training, as in the released code. Hooks swap what the blocks hand on; without
them the model is what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from synmotion_core.interfaces import Highway, Skip


class AppearanceHighway:
    """The hooks on a denoiser; `remove` takes them off again.

    without_lora: within it, adapters do nothing (variant "pretrained" runs the temporal attention so).
    """

    def __init__(self, denoiser: nn.Module, highway: Highway, without_lora: Callable[[], Any] | None = None) -> None:
        self._hooks: list[Any] = []
        self._kept: dict[str, Tensor] = {}
        for skip in highway.skips:
            source = denoiser.get_submodule(skip.spatial if without_lora is None else skip.temporal)
            hook = self._keeps(skip, without_lora)
            self._hooks.append(source.register_forward_hook(hook, with_kwargs=True))
        for block in dict.fromkeys(skip.block for skip in highway.skips):
            own = [skip for skip in highway.skips if skip.block == block]
            self._hooks.append(denoiser.get_submodule(block).register_forward_hook(self._hands_on(own)))
        for block in dict.fromkeys(scale.block for scale in highway.scales):
            factors = {scale.entry: scale.factor for scale in highway.scales if scale.block == block}
            hook = _scaled(factors)
            self._hooks.append(denoiser.get_submodule(block).register_forward_pre_hook(hook, with_kwargs=True))

    def _keeps(self, skip: Skip, without_lora: Callable[[], Any] | None) -> Callable[..., None]:
        def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if without_lora is not None:
                with without_lora():
                    output = module.forward(*args, **kwargs)
            self._kept[skip.spatial] = output[0]

        return keep

    def _hands_on(self, skips: Sequence[Skip]) -> Callable[..., Any]:
        def hand_on(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            hidden_states, residuals = output
            changed = list(residuals)
            for skip in skips:
                changed[skip.entry] = self._kept.pop(skip.spatial)
            return hidden_states, tuple(changed)

        return hand_on

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._kept.clear()


def _scaled(factors: dict[int, float]) -> Callable[..., Any]:
    def scale(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        residuals = list(kwargs["res_hidden_states_tuple"])
        for entry, factor in factors.items():
            residuals[entry] = residuals[entry] * factor
        return args, {**kwargs, "res_hidden_states_tuple": tuple(residuals)}

    return scale


@contextmanager
def switched_off(layers: Sequence[Any]) -> Iterator[None]:
    """PEFT's layers answer as their base ones within it; what trains and what does not stays as it is."""
    before = [layer._disable_adapters for layer in layers]
    for layer in layers:
        layer._disable_adapters = True  # `enable_adapters` would also unfreeze
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer._disable_adapters = own
