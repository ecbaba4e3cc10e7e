"""Low-rank adapters on a denoiser's attention projections, through PEFT:  W~ = W + (alpha / rank) B A,  B = 0 at first.

Shared by every method that carries LoRA. Targets are anchored regular expressions, and matching nothing is an error; or
single linear layers by name, each with its own rank and alpha, as in adapters that were made elsewhere. Parameters stay
float32 whatever the base's type; strength is a factor on the update, and `remove` restores the base bit for bit.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from synmotion_core.errors import AdapterError, ConfigError

ADAPTER = "motion"
MAX_RANK = 512
MAX_MODULES = 5000
Modules = Mapping[str, Sequence[float]]  # layer -> (rank, alpha)


class AttentionLora:
    """LoRA layers injected into `denoiser` (a diffusers model). One at a time per denoiser.

    targets: a regular expression; every layer that it matches gets rank and alpha. Or named layers with their own.
    device: where they work; None is where the layers lie that they sit on, which offloading keeps elsewhere. On meta
    they have names and sizes only, as a denoiser without its weights has.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        targets: str | Modules,
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
        settings: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "target_modules": targets}
        if not isinstance(targets, str):
            _check_layers(model, targets)
            settings = peft_settings(targets)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            try:
                with device if device is not None and device.type == "meta" else nullcontext():
                    model.add_adapter(LoraConfig(**settings, init_lora_weights=True), ADAPTER)
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


def check_modules(modules: Modules) -> None:
    """Raise ConfigError unless `modules` maps at most MAX_MODULES names to (rank 1 to MAX_RANK, alpha above 0).

    It comes from files: nothing in it is trusted.
    """
    if len(modules) > MAX_MODULES:
        raise ConfigError(f"modules names {len(modules)} layers, at most {MAX_MODULES} are taken")
    for name, pair in modules.items():
        if not isinstance(name, str) or not re.fullmatch(r"\w+(\.\w+)*", name, re.ASCII) or len(name) > 200:
            raise ConfigError(f"modules holds {str(name)[:80]!r}, which is no layer's name")
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise ConfigError(f"modules must say rank and alpha of {name}, got {str(pair)[:80]!r}")
        rank, alpha = pair
        if not isinstance(rank, int) or isinstance(rank, bool) or not 1 <= rank <= MAX_RANK:
            raise ConfigError(f"the rank of {name} must be between 1 and {MAX_RANK}, got {str(rank)[:80]}")
        if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not 0 < alpha < math.inf:
            raise ConfigError(f"the alpha of {name} must be a number above 0, got {str(alpha)[:80]}")


def peft_settings(modules: Modules) -> dict[str, Any]:
    """What PEFT's LoraConfig takes for exactly these layers: the commonest rank and alpha, and patterns for others."""

    def one_of(names: Sequence[str]) -> str:
        return f"^(?:{'|'.join(map(re.escape, names))})"

    pairs = [(int(rank), float(alpha)) for rank, alpha in modules.values()]
    (rank, alpha), _ = Counter(pairs).most_common(1)[0]
    own: dict[tuple[int, float], list[str]] = {}
    for name, pair in zip(modules, pairs, strict=True):
        if pair != (rank, alpha):
            own.setdefault(pair, []).append(name)
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {one_of(names): r for (r, _), names in own.items()},
        "alpha_pattern": {one_of(names): a for (_, a), names in own.items()},
        "target_modules": one_of(list(modules)),
    }


def _check_layers(model: nn.Module, modules: Modules) -> None:
    layers = dict(model.named_modules())
    for name in modules:
        if not isinstance(layers.get(name), nn.Linear):
            raise ConfigError(f"{type(model).__name__} has no linear layer called {name!r}")


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
