"""Low-rank adapters on a denoiser's attention projections, through PEFT:  W~ = W + (alpha / rank) B A,  B = 0 at first.

Shared by every method that carries LoRA. Targets are anchored regular expressions, and matching nothing is an error; or
single linear layers by name, each with its own rank and alpha, as in adapters that were made elsewhere. Parameters stay
float32 whatever the base's type; strength is a factor on the update, and `remove` restores the base bit for bit.

PEFT is called directly, for not all of diffusers' denoisers have its methods (3-D U-Nets). Several can be on a denoiser
under different names, one beside another's under a name of its own (stacking.py). Where they share layers, the one that
was switched on last is the one that works there, with all that lie beneath it.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from synmotion_core.errors import ConfigError
from synmotion_core.stacking import is_beneath, place
from synmotion_core.storage import check_keys

MAX_RANK = 512
MAX_MODULES = 5000
Modules = Mapping[str, Sequence[float]]  # layer -> (rank, alpha)


class AttentionLora:
    """LoRA layers injected into `denoiser`, one of a `name` at a time.

    targets: a regular expression; every layer that it matches gets rank and alpha. Or named layers with their own.
    device: where they work; None is where the layers lie that they sit on, which offloading keeps elsewhere. On meta
    they have names and sizes only, as a denoiser without its weights has. text_tokens: an expression; layers that it
    matches change what they make of the text's tokens alone, the last ones of what they see (TextLayers.shared).
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
        name: str = "motion",
        text_tokens: str | None = None,
    ) -> None:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import LoraLayer

        model: Any = denoiser
        name += place()
        if name in getattr(model, "peft_config", {}):
            raise ConfigError("this backbone carries an adapter already: detach it first")
        settings: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "target_modules": targets}
        if not isinstance(targets, str):
            _check_layers(model, targets)
            settings = peft_settings(targets)
        with torch.random.fork_rng(devices=[]), _several():
            torch.manual_seed(seed)
            try:
                with device if device is not None and device.type == "meta" else nullcontext():
                    inject_adapter_in_model(LoraConfig(**settings, init_lora_weights=True), model, name)
            except ValueError as error:
                _forget(model, name)  # a failed injection leaves the model marked as carrying adapters
                raise ConfigError(f"no layer of {type(denoiser).__name__} matches {targets!r}: {error}") from error
        for layer in model.modules():  # PEFT leaves the newest alone at work, in layers that have it not, too
            if isinstance(layer, LoraLayer) and any(map(is_beneath, layer.lora_A)):
                _work(layer, name if name in layer.lora_A else None)
        self.model, self.name = model, name
        self.layers: dict[str, Any] = {
            n: m for n, m in model.named_modules() if isinstance(m, LoraLayer) and name in m.lora_A
        }
        self._named = {
            f"{n}.lora_{letter}.weight": getattr(m, f"lora_{letter}")[name].weight
            for n, m in self.layers.items()
            for letter in "AB"
        }
        for p in self._named.values():
            p.data = p.data.to(device, torch.float32)
        self.parameters: list[nn.Parameter] = list(self._named.values())
        self._hooks = [] if text_tokens is None else list(self._to_text(re.compile(text_tokens)))

    def set_strength(self, strength: float) -> None:
        """0 switches the layers off, so that the base answers bit for bit: with what lies beneath, which works on."""
        for layer in self.layers.values():
            if strength != 0:
                layer.set_scale(self.name, float(strength))
            _work(layer, self.name if strength != 0 else None)

    def _to_text(self, shared: re.Pattern[str]) -> Iterator[Any]:
        """Hooks that leave the video's tokens as the base makes them."""
        for name, layer in self.layers.items():
            if not shared.fullmatch(name):
                continue
            length: list[int] = []  # of the text that the attention around it is given now

            def note(_: Any, args: Any, given: dict[str, Any], length: list[int] = length) -> None:
                length[:] = [given["encoder_hidden_states"].shape[1]]

            def keep(_: Any, args: Any, update: Tensor, length: list[int] = length) -> Tensor:
                video = update.shape[1] - length[0]
                return torch.cat([torch.zeros_like(update[:, :video]), update[:, video:]], dim=1)

            attention = self.model.get_submodule(name.rpartition(".")[0])
            yield attention.register_forward_pre_hook(note, with_kwargs=True)
            yield layer.lora_B[self.name].register_forward_hook(keep)

    def state_dict(self) -> dict[str, Tensor]:
        """`<module>.lora_A.weight` and `.lora_B.weight`, float32 on the CPU."""
        return {n: p.detach().float().cpu().clone() for n, p in self._named.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Raises AdapterError naming what does not fit."""
        check_keys(self._named, state, "LoRA")
        with torch.no_grad():
            for name, p in self._named.items():
                p.copy_(state[name])

    def remove(self) -> None:
        """Take the layers out again; where others are in the same places, they stay."""
        for hook in self._hooks:
            hook.remove()
        for name, layer in self.layers.items():
            if len(layer.lora_A) > 1:
                with _several():
                    layer.delete_adapter(self.name)
                continue
            layer.enable_adapters(True)
            parent, _, last = name.rpartition(".")
            setattr(self.model.get_submodule(parent), last, layer.get_base_layer())
        _forget(self.model, self.name)
        self.model.requires_grad_(False)


def _work(layer: Any, name: str | None) -> None:
    """From now on an adapter works in this layer, or none, with all that lie beneath."""
    active = [n for n in layer.lora_A if is_beneath(n) and n != name] + ([] if name is None else [name])
    layer.enable_adapters(bool(active))
    if active:
        layer.set_adapter(active)


@contextmanager
def _several() -> Iterator[None]:
    """Several adapters on one model are meant here, and PEFT warns of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        warnings.filterwarnings("ignore", message="Adapter .* was active which is now deleted")
        yield


def _forget(model: Any, name: str) -> None:
    """What PEFT notes on the model itself."""
    noted = getattr(model, "peft_config", None)
    if noted is not None:
        noted.pop(name, None)
        if not noted:
            del model.peft_config


def check_alpha(lora_alpha: float) -> None:
    """Raise ConfigError for a scale with which nothing is learnt (0), or that other programs do not read."""
    if not 0 < lora_alpha < math.inf:
        raise ConfigError(f"lora_alpha must be a number above 0, got {lora_alpha}: the rank itself scales by 1")


def check_projections(projections: str) -> None:
    """Raise ConfigError unless they are letters of "qkvo", each once."""
    if not projections or set(projections) - set("qkvo") or len(set(projections)) < len(projections):
        raise ConfigError(f"projections must be letters of 'qkvo', each once, got {projections[:20]!r}: use 'qkvo'")


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
    from peft.tuners.lora import LoraLayer

    layers = dict(model.named_modules())
    for name in modules:
        layer = layers.get(name)
        own = layer.get_base_layer() if isinstance(layer, LoraLayer) else layer  # another motion's may be there
        if not isinstance(own, nn.Linear):
            raise ConfigError(f"{type(model).__name__} has no linear layer called {name!r}")
