"""Low-rank adapters on a denoiser's attention projections, through PEFT:  W~ = W + (alpha / rank) B A,  B = 0 at first.

Shared by every method that carries LoRA. Targets are anchored regular expressions, and matching nothing is an error;
parameters stay float32
whatever the base's type; strength is a factor on the update, and `remove` restores the base bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from synmotion_core.errors import AdapterError, ConfigError

ADAPTER = "motion"


class AttentionLora:
    """LoRA layers injected into `denoiser` (a diffusers model). One at a time per denoiser.

    device: where they work; None is where the layers lie that they sit on, which offloading keeps elsewhere.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        targets: str,
        *,
        rank: int,
        alpha: float,
        seed: int,
        device: torch.device | None = None,
    ) -> None:
        from peft import LoraConfig

        model: Any = denoiser
        if ADAPTER in getattr(model, "peft_config", {}):
            raise ConfigError("this backbone carries an adapter already: detach it first")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                model.add_adapter(
                    LoraConfig(r=rank, lora_alpha=cast(int, alpha), target_modules=targets, init_lora_weights=True),
                    ADAPTER,
                )
            except ValueError as error:
                model.unload_lora()  # a failed injection leaves the model marked as carrying adapters
                raise ConfigError(f"no layer of {type(denoiser).__name__} matches {targets!r}: {error}") from error
        self.model = model
        self._named = {n: p for n, p in model.named_parameters() if f".{ADAPTER}." in n}
        for p in self._named.values():
            p.data = p.data.to(device, torch.float32)
        self.parameters: list[nn.Parameter] = list(self._named.values())

    def set_strength(self, strength: float) -> None:
        """0 switches the layers off, so that the base answers bit for bit."""
        if strength == 0:
            self.model.disable_lora()
        else:
            self.model.enable_lora()
            self.model.set_adapters([ADAPTER], weights=[float(strength)])

    def state_dict(self) -> dict[str, Tensor]:
        """`<module>.lora_A.weight` and `.lora_B.weight`, float32 on the CPU."""
        return {n.replace(f".{ADAPTER}.", "."): p.detach().float().cpu().clone() for n, p in self._named.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Raises AdapterError naming what does not fit."""
        own = {n.replace(f".{ADAPTER}.", "."): p for n, p in self._named.items()}
        check_keys(own, state, "LoRA")
        with torch.no_grad():
            for name, p in own.items():
                p.copy_(state[name])

    def remove(self) -> None:
        """Take the layers out again."""
        self.model.enable_lora()
        self.model.unload_lora()
        self.model.requires_grad_(False)


def check_keys(own: Mapping[str, Tensor], state: Mapping[str, Tensor], what: str) -> None:
    """Raise AdapterError unless names and shapes agree; says how many of how many apply."""
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    wrong = [
        f"{k} {tuple(state[k].shape)} for {tuple(own[k].shape)}"
        for k in own.keys() & state.keys()
        if own[k].shape != state[k].shape
    ]
    if missing or unexpected or wrong:
        fits = len(own) - len(missing) - len(wrong)
        parts = [
            f"{len(v)} {n} (first: {v[0]})"
            for n, v in (("missing", missing), ("unexpected", unexpected), ("misshapen", wrong))
            if v
        ]
        raise AdapterError(f"{what}: {fits} of {len(own)} keys apply; {'; '.join(parts)}")
