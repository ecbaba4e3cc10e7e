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

from torch import nn

from synmotion_core.errors import ConfigError
from synmotion_core.interfaces import Backbone, Feature, TemporalBackbone, check_compatible
from synmotion_core.methods.attention_lora import MAX_RANK, AttentionLora, check_alpha
from synmotion_core.methods.lora import Lora
from synmotion_core.types import Phase, Prompt

SPATIAL_STEPS = 0.8  # of them for each temporal one, which are as often with the clip's looks
# of the inputs and outputs of all q, k and v, those of a letter's layers in the temporal transformers, and of the
# spatial ones' LoRA, at the published size (tests/backbones/test_full_size.py counts them)
TEMPORAL_SHARES = {"q": 0.166, "k": 0.166, "v": 0.166, "o": 0.166, "f": 0.580}
_SPATIAL_SHARE = 0.876
MOST_LOOKS = (
    8192  # rank times clips, each of which has a spatial path of its own: 2.2 billion parameters of a 1.7 B base
)


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
        check_alpha(self.lora_alpha)
        check_layers(self.temporal)


def check_rank(rank: int) -> None:
    """Raise ConfigError for a rank that cannot be."""
    if not 1 <= rank <= MAX_RANK:
        raise ConfigError(f"rank must be between 1 and {MAX_RANK}, got {rank}")


def check_looks(rank: int, clips: int) -> None:
    """Raise ConfigError where the clips' spatial paths would be too large together."""
    if rank * clips > MOST_LOOKS:
        raise ConfigError(
            f"rank times the clips is at most {MOST_LOOKS}, for each clip's looks are learnt apart, got {rank} times "
            f"{clips}: use a rank of {max(1, MOST_LOOKS // clips)} or {MOST_LOOKS // rank} clips"
        )


def check_layers(temporal: str) -> None:
    """Raise ConfigError unless they are layers of the temporal transformers."""
    if not temporal or set(temporal) - set("qkvof") or len(set(temporal)) < len(temporal):
        raise ConfigError(
            f"temporal must be letters of 'qkvof', each once, got {temporal!r}: 'k' is the purified attention of "
            "Separate Motion from Appearance, 'qkvof' all of it"
        )


class MotionDirector(Lora):
    """MotionDirector attached to a backbone; see interfaces.Method. Its LoRA is the temporal path's."""

    name = "motion_director"

    def __init__(self, backbone: Backbone, config: MotionDirectorConfig, clips: int) -> None:
        check_looks(config.rank, clips)
        self.backbone, self.config = cast(TemporalBackbone, backbone), config
        super().__init__(backbone, config, self.backbone.layer_targets("temporal", config.temporal))
        self.spatial = [
            AttentionLora(
                backbone.denoiser,
                self.backbone.layer_targets("spatial", "qkvof"),
                rank=config.rank,
                alpha=config.lora_alpha,
                seed=config.seed + 1 + clip,
                device=backbone.device,
                name=f"spatial_{clip}",
            )
            for clip in range(clips)
        ]
        self.set_strength(1.0)

    @property
    def groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        return {"temporal": self.lora.parameters} | {lora.name: lora.parameters for lora in self.spatial}

    def phase(self, seed: int, step: int) -> Phase:
        rng = random.Random(f"{seed}/{step}/phase")
        turn = rng.random() * (1 + SPATIAL_STEPS)
        clip = rng.randrange(len(self.spatial)) if self.spatial else None
        if clip is not None and turn < SPATIAL_STEPS:
            return Phase(
                name="spatial", draws="reference", trains=frozenset({self.spatial[clip].name}), frames="one", clip=clip
            )
        name = "temporal" if clip is not None and turn < 2 * SPATIAL_STEPS else "temporal alone"
        loss = "debiased" if self.config.debiased else "plain"
        return Phase(name=name, draws="reference", trains=frozenset({"temporal"}), clip=clip, loss=loss)

    def begin(self, phase: Phase) -> None:
        self.lora.set_strength(0.0 if phase.name == "spatial" else 1.0)
        for lora in self.spatial:
            lora.set_strength(0.0)
        if phase.clip is not None and phase.name != "temporal alone":
            self.spatial[phase.clip].set_strength(1.0)

    def set_strength(self, strength: float) -> None:
        """As videos are drawn: of the looks nothing is left."""
        super().set_strength(strength)
        for lora in self.spatial:
            lora.set_strength(0.0)

    def detach(self) -> None:
        for lora in (*self.spatial, self.lora):
            lora.remove()


class MotionDirectorEntry:
    """The registry row."""

    name = "motion_director"
    title = "MotionDirector: the looks go to a part that is thrown away; for 3-D U-Nets, each step a picture or a clip"
    requires: frozenset[Feature] = frozenset({"temporal_attention"})
    config: type = MotionDirectorConfig

    def draws_priors(self, config: Any) -> bool:
        return False

    def num_parameters(self, config: Any, text_width: int, attention_width: int, clips: int = 0) -> int:
        """Of the temporal path, which an adapter file keeps, and of each clip's looks."""
        check_looks(config.rank, clips)
        shares = sum(TEMPORAL_SHARES[letter] for letter in config.temporal) + clips * _SPATIAL_SHARE
        return round(config.rank * attention_width * shares)

    def attach(self, backbone: Backbone, config: Any, reference: Prompt, clips: int = 0) -> MotionDirector:
        check_compatible(backbone.spec, self.name, self.requires)
        return MotionDirector(backbone, config, clips)
