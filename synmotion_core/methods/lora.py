"""Plain LoRA, the baseline everybody trains today: W~ = W + (alpha / rank) B A on the attention projections,
reference clips only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from synmotion_core.errors import AdapterError, ConfigError
from synmotion_core.interfaces import Backbone, Feature, check_compatible
from synmotion_core.methods.attention_lora import (
    MAX_RANK,
    AttentionLora,
    Modules,
    check_alpha,
    check_modules,
    check_projections,
)
from synmotion_core.types import Condition, Phase, Prompt, TextCondition


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraConfig:
    """rank and alpha as everywhere; projections among q, k, v, o.

    modules: instead of projections, layers by name with their own (rank, alpha), as adapters made elsewhere have them.
    """

    rank: int = 16
    lora_alpha: float = 16.0
    projections: str = "qkvo"
    modules: Modules = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= MAX_RANK:
            raise ConfigError(f"rank must be between 1 and {MAX_RANK}, got {self.rank}")
        check_alpha(self.lora_alpha)
        check_modules(self.modules)
        check_projections(self.projections)


class RankAndAlpha(Protocol):
    """Of a method's settings, what its LoRA needs."""

    @property
    def rank(self) -> int: ...
    @property
    def lora_alpha(self) -> float: ...
    @property
    def seed(self) -> int: ...


class Lora:
    """LoRA on `targets`, attached to a backbone; see interfaces.Method. Other methods add to it what is theirs."""

    name = "lora"

    def __init__(self, backbone: Backbone, config: RankAndAlpha, targets: str | Modules) -> None:
        self._prefix = f"{backbone.spec.denoiser}."
        self.lora = AttentionLora(
            backbone.denoiser,
            targets,
            rank=config.rank,
            alpha=config.lora_alpha,
            seed=config.seed,
            device=backbone.device,
        )

    @property
    def groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        return {"adapters": self.lora.parameters}

    def learning_rate_scale(self, group: str) -> float:
        """One rate for all."""
        return 1.0

    def phase(self, seed: int, step: int) -> Phase:
        return Phase(name="reference", draws="reference", trains=frozenset({"adapters"}))

    def begin(self, phase: Phase) -> None:
        """Nothing is of one phase alone."""

    def condition(self, text: TextCondition, strength: float = 1.0) -> Condition:
        return text.as_condition()

    def set_strength(self, strength: float) -> None:
        self.lora.set_strength(strength)

    def state_dict(self) -> dict[str, Tensor]:
        return {self._prefix + k: v for k, v in self.lora.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        strange = [k for k in state if not k.startswith(self._prefix)]
        if strange:
            raise AdapterError(f"{self.name} does not know the key {strange[0]!r}")
        self.lora.load_state_dict({k.removeprefix(self._prefix): v for k, v in state.items()})

    def detach(self) -> None:
        self.lora.remove()


class LoraEntry:
    """The registry row."""

    name = "lora"
    title = "Plain LoRA: attention adapters on the reference clips alone; quick, but the reference's looks may leak"
    requires: frozenset[Feature] = frozenset({"attention_lora"})
    config: type = LoraConfig

    def draws_priors(self, config: Any) -> bool:
        return False

    def num_parameters(self, config: Any, text_width: int, attention_width: int, clips: int = 0) -> int:
        if config.modules:
            raise ConfigError("modules are of an adapter that was made elsewhere: leave them out to train one")
        return round(config.rank * attention_width * len(config.projections) / 3)

    def attach(self, backbone: Backbone, config: Any, reference: Prompt, clips: int = 0) -> Lora:
        check_compatible(backbone.spec, self.name, self.requires)
        return Lora(backbone, config, targets_of(backbone, config))


def targets_of(backbone: Backbone, config: LoraConfig) -> str | Modules:
    """The layers by name where the settings name some, else the projections."""
    return config.modules or backbone.attention_targets(config.projections)
