"""MotionDirector (arXiv 2310.08465): two paths through a 3-D U-Net, one for looks and one for motion.

    spatial path    a single frame, temporal layers left out: LoRA of this clip alone on the spatial transformers'
                    self-attention and feed-forward; it learns the looks, and is thrown away after the training
    temporal path   the whole clip, with the clip's spatial LoRA held still: LoRA shared by all clips on the temporal
                    transformers, towards the plain error + the debiased one, (9) of diffusion.py

As in the released code, a fifth of the temporal passes goes without the spatial LoRA. There one step is a spatial pass
(in 80 %) and a temporal one; here each is a step of its own, in the same proportion, 0.8 to 1. All samples of a batch
are of one clip, each with its own noise, since its LoRA is: the paper's batches have one sample.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from synmotion_core.errors import AdapterError, ConfigError
from synmotion_core.interfaces import Backbone, Feature, TemporalBackbone, check_compatible
from synmotion_core.methods.attention_lora import MAX_RANK, AttentionLora
from synmotion_core.types import Condition, Phase, Prompt, TextCondition

SPATIAL_STEPS = 0.8  # of them for each temporal one, which are as often with the clip's looks
# of the inputs and outputs of all q, k and v, those of a letter's layers in the temporal transformers, and of the
# spatial ones' LoRA, at the published size (tests/backbones/test_full_size.py counts them)
TEMPORAL_SHARES = {"q": 0.166, "k": 0.166, "v": 0.166, "o": 0.166, "f": 0.580}


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionDirectorConfig:
    """temporal: which layers of the temporal transformers learn, letters of q, k, v, o and f (feed-forward).

    rank and alpha as everywhere, for both paths; debiased off leaves the plain error.
    """

    rank: int = 32
    lora_alpha: float = 32.0
    temporal: str = "qkvof"
    debiased: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        check_rank(self.rank)
        check_layers(self.temporal)


def check_rank(rank: int) -> None:
    """Raise ConfigError for a rank that cannot be."""
    if not 1 <= rank <= MAX_RANK:
        raise ConfigError(f"rank must be between 1 and {MAX_RANK}, got {rank}")


def check_layers(temporal: str) -> None:
    """Raise ConfigError unless they are layers of the temporal transformers."""
    if not temporal or set(temporal) - set("qkvof") or len(set(temporal)) < len(temporal):
        raise ConfigError(
            f"temporal must be letters of 'qkvof', each once, got {temporal!r}: 'k' is the purified attention of "
            "Separate Motion from Appearance, 'qkvof' all of it"
        )


class MotionDirector:
    """MotionDirector attached to a backbone; see interfaces.Method."""

    name = "motion_director"

    def __init__(self, backbone: Backbone, config: MotionDirectorConfig, clips: int) -> None:
        self.backbone, self.config = cast(TemporalBackbone, backbone), config
        self._prefix = f"{backbone.spec.denoiser}."
        self.temporal = self._lora("temporal", self.backbone.layer_targets("temporal", config.temporal), config.seed)
        looks = self.backbone.layer_targets("spatial", "qkvof")
        self.spatial = [self._lora(f"spatial_{i}", looks, config.seed + 1 + i) for i in range(clips)]
        self.set_strength(1.0)

    def _lora(self, name: str, targets: str, seed: int) -> AttentionLora:
        return AttentionLora(
            self.backbone.denoiser,
            targets,
            rank=self.config.rank,
            alpha=self.config.lora_alpha,
            seed=seed,
            device=self.backbone.device,
            name=name,
        )

    @property
    def groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        return {"temporal": self.temporal.parameters} | {lora.name: lora.parameters for lora in self.spatial}

    def learning_rate_scale(self, group: str) -> float:
        """One rate for all."""
        return 1.0

    def phase(self, seed: int, step: int) -> Phase:
        rng = random.Random(f"{seed}/{step}/phase")
        turn, clip = rng.random() * (1 + SPATIAL_STEPS), rng.randrange(max(1, len(self.spatial)))
        if self.spatial and turn < SPATIAL_STEPS:
            return Phase(
                name="spatial", draws="reference", trains=frozenset({self.spatial[clip].name}), frames="one", clip=clip
            )
        name = "temporal" if self.spatial and turn < 2 * SPATIAL_STEPS else "temporal alone"
        loss = "debiased" if self.config.debiased else "plain"
        return Phase(name=name, draws="reference", trains=frozenset({"temporal"}), clip=clip, loss=loss)

    def begin(self, phase: Phase) -> None:
        self.temporal.set_strength(0.0 if phase.name == "spatial" else 1.0)
        for lora in self.spatial:
            lora.set_strength(0.0)
        if phase.clip is not None and self.spatial and phase.name != "temporal alone":
            self.spatial[phase.clip].set_strength(1.0)

    def condition(self, text: TextCondition, strength: float = 1.0) -> Condition:
        return text.as_condition()

    def set_strength(self, strength: float) -> None:
        """As videos are drawn: of the looks nothing is left."""
        self.temporal.set_strength(strength)
        for lora in self.spatial:
            lora.set_strength(0.0)

    def state_dict(self) -> dict[str, Tensor]:
        return {self._prefix + k: v for k, v in self.temporal.state_dict().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        strange = [k for k in state if not k.startswith(self._prefix)]
        if strange:
            raise AdapterError(f"{self.name} does not know the key {strange[0]!r}")
        self.temporal.load_state_dict({k.removeprefix(self._prefix): v for k, v in state.items()})

    def detach(self) -> None:
        for lora in (*self.spatial, self.temporal):
            lora.remove()


class MotionDirectorEntry:
    """The registry row."""

    name = "motion_director"
    title = "MotionDirector: the looks go to a part that is thrown away; for 3-D U-Nets, each step a picture or a clip"
    requires: frozenset[Feature] = frozenset({"temporal_attention"})
    config: type = MotionDirectorConfig

    def draws_priors(self, config: Any) -> bool:
        return False

    def num_parameters(self, config: Any, text_width: int, attention_width: int) -> int:
        """Of the temporal path, which an adapter file keeps; each clip's looks take about 0.9 attention_width more."""
        return round(config.rank * attention_width * sum(TEMPORAL_SHARES[letter] for letter in config.temporal))

    def attach(self, backbone: Backbone, config: Any, reference: Prompt, clips: int = 0) -> MotionDirector:
        check_compatible(backbone.spec, self.name, self.requires)
        return MotionDirector(backbone, config, clips)
