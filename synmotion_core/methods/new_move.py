"""NewMove, "Customizing Motion in Text-to-Video Diffusion Models" (arXiv 2312.04966): a new word for a motion, learnt
by what looks along time and by what reads the text.

    learns      the temporal transformers, and K and V of the spatial ones' look at the text
    "a person V* squats"   the word stands before the motion's own (as in dreambooth.py)
    L = E_ref |...|^2 + lambda E_prior |...|^2     priors hold what the base knows
    t ~ (1 - c cos(pi t / T)) / T      noisier timesteps more often, (10) in diffusion.py: motion is coarse structure

Published: which layers, V*, priors of real videos, the timesteps with c = 0.5. Ours: LoRA in place of whole weights, as
every method here learns; the base's own videos in place of real ones, which nobody has to collect; V* is a rare word of
the frozen encoder, not a learnt one, for conditions are cached. lambda / (1 + lambda) of the steps are on priors.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, cast

from synmotion_core.errors import ConfigError
from synmotion_core.interfaces import Backbone, Feature, TemporalBackbone, check_compatible
from synmotion_core.methods.attention_lora import check_alpha
from synmotion_core.methods.dreambooth import DreamBoothEntry, check_identifier, check_prior_weight, prior_phase
from synmotion_core.methods.lora import Lora
from synmotion_core.methods.motion_director import TEMPORAL_SHARES, check_layers, check_rank
from synmotion_core.types import Phase, Prompt

_TEXT_SHARE = 0.1765  # K and V of the look at the text, of all q, k and v (tests/backbones/test_full_size.py)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMoveConfig:
    """temporal: letters of q, k, v, o and f (feed-forward). coarse in 0..1 is c; identifier and prior_loss_weight are
    DreamBooth's."""

    rank: int = 32
    lora_alpha: float = 32.0
    temporal: str = "qkvof"
    coarse: float = 0.5
    identifier: str = "sks"
    prior_loss_weight: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_rank(self.rank)
        check_alpha(self.lora_alpha)
        check_layers(self.temporal)
        check_identifier(self.identifier)
        check_prior_weight(self.prior_loss_weight)
        if not 0 <= self.coarse <= 1:
            raise ConfigError(f"coarse must be between 0 (all timesteps alike) and 1, got {self.coarse}")


class NewMove(Lora):
    """NewMove attached to a backbone; see interfaces.Method."""

    name = "new_move"

    def __init__(self, backbone: Backbone, config: NewMoveConfig) -> None:
        self.config, own = config, cast(TemporalBackbone, backbone)
        targets = f"({own.layer_targets('temporal', config.temporal)}|{own.layer_targets('text', 'kv')})"
        super().__init__(backbone, config, targets)

    def phase(self, seed: int, step: int) -> Phase:
        drawn = prior_phase(self.config.prior_loss_weight, seed, step)
        return dataclasses.replace(drawn, coarse=self.config.coarse)


class NewMoveEntry(DreamBoothEntry):
    """The registry row."""

    name = "new_move"
    title = (
        "NewMove: a rare word, learnt by the temporal layers and by what reads the text, at coarse noise levels; for "
        "3-D U-Nets, half the steps on videos of the base's own"
    )
    requires: frozenset[Feature] = frozenset({"temporal_attention"})
    config: type = NewMoveConfig

    def num_parameters(self, config: Any, text_width: int, attention_width: int, clips: int = 0) -> int:
        shares = sum(TEMPORAL_SHARES[letter] for letter in config.temporal) + _TEXT_SHARE
        return round(config.rank * attention_width * shares)

    def attach(self, backbone: Backbone, config: Any, reference: Prompt, clips: int = 0) -> NewMove:  # type: ignore[override]
        check_compatible(backbone.spec, self.name, self.requires)
        return NewMove(backbone, config)
