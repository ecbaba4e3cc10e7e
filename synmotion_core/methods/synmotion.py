"""SynMotion (arXiv 2506.23690): dual embeddings + motion adapters + embedding-specific training with subject priors.

    W~ = W + B A on Q, K, V of the video stream, the text stream and the single-stream blocks          (adapters)
    per step: with probability alpha draw a reference clip: everything learns;
              else draw a Subject Prior Video: only `prior_updates` learn (e^l_mot never does)         (training)

Published: alpha = 0.75; on prior steps e^l_mot is frozen and e^l_sub is updated. Not published, so a setting: whether
the Zero-Convs, R and the adapters move on prior steps (`prior_updates`). Ours: e^l_sub with what reads it, its
Zero-Conv, R and the adapters; while that Zero-Conv is zero, no gradient reaches e^l_sub. The adapters are what holds
the subject at a rate that is high enough for the motion: squat, seed 0, 1,000 steps from 2e-3 to zero, with them 52 %
of 21 videos right in motion and all in species; without them 82 % of 28 and 32 %, most of the others a person.
"motion_zero" among `prior_updates` would have prior steps take back Z_m, and with it the motion: e^l_mot itself hardly
moves (0.6 to 1.9 % of its norm in whole trainings), Z_m is what learns, so that freezing e^l_mot alone freezes nothing.

Ours too, and away from the paper: on prior steps the target is what the base alone predicts for the noised video, not
the video (`prior_target` "base"; "data" is the paper's). "base" asks for no change of the base, without the noise of
the draw and without a few dozen videos to learn by heart; it costs a forward pass on these steps. The two are not the
same in expectation: priors are drawn with guidance (4; HunyuanVideo 13B's embedded 6), the base's target has none, so
that "data" teaches guided videos. Over 20 priors <x - c, c - u> / |c - u|^2, with x the video's target, c and u what
the base predicts with and without the prompt, is 0.15, 0.24 and 0.50 at s = 0.95, 0.8 and 0.5 instead of 0 (over true
renders: 0.00 to 0.05). Every part can be switched off.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
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
from synmotion_core.methods.dual_embedding import (
    MAX_REFINER_WIDTH,
    REFINER_HEADS,
    DualEmbedding,
    default_refiner_width,
    num_parameters,
)
from synmotion_core.storage import check_keys
from synmotion_core.types import Condition, Phase, Prompt, TextCondition

_PHRASE = 8  # tokens of a motion's words, where they are not known yet
GROUPS = ("motion_embedding", "motion_zero", "subject_embedding", "subject_zero", "refiner", "adapters")


@dataclass(frozen=True, slots=True, kw_only=True)
class SynMotionConfig:
    """Settings of SynMotion. alpha is the probability of a reference step; rank 0 = no adapters, refiner_layers 0 =
    no R.

    embedding_lr scales the learning rate of everything but the adapters. stream "text": adapters change what is made of
    the text's tokens alone, never the video's; "all" is the paper's. modules: instead of projections, layers by
    name with their own (rank, alpha), as adapters made elsewhere have them.
    """

    alpha: float = 0.75
    motion_embedding: bool = True
    subject_embedding: bool = True
    subject_tokens: int = 4
    refiner_layers: int = 2
    refiner_width: int = 0  # 0 = from the text width
    rank: int = 16
    lora_alpha: float = 16.0
    projections: str = "qkv"
    stream: Literal["all", "text"] = "all"
    modules: Modules = field(default_factory=dict)
    prior_updates: tuple[str, ...] = ("subject_embedding", "subject_zero", "refiner", "adapters")
    prior_target: Literal["base", "data"] = "base"
    embedding_lr: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise ConfigError(f"alpha must be above 0 and at most 1, got {self.alpha}")
        if not 0 <= self.rank <= MAX_RANK:
            raise ConfigError(f"rank must be between 0 and {MAX_RANK}, got {self.rank}")
        check_alpha(self.lora_alpha)
        check_modules(self.modules)
        check_projections(self.projections)
        if self.stream == "text" and self.modules:
            raise ConfigError("stream text chooses layers itself, and modules names some: leave one of them out")
        if self.refiner_width > MAX_REFINER_WIDTH:
            raise ConfigError(
                f"refiner_width must be at most {MAX_REFINER_WIDTH}, got {self.refiner_width}: use {MAX_REFINER_WIDTH}"
            )
        if self.refiner_width < 0 or self.refiner_width % REFINER_HEADS:
            near = max(0, self.refiner_width // REFINER_HEADS * REFINER_HEADS)
            raise ConfigError(
                f"refiner_width must be 0 (from the text's) or a multiple of {REFINER_HEADS}, for R's heads share it, "
                f"got {self.refiner_width}: use {near} or {near + REFINER_HEADS}"
            )
        if not 0 <= self.refiner_layers <= 8:
            raise ConfigError(f"refiner_layers must be between 0 and 8, got {self.refiner_layers}")
        if not 1 <= self.subject_tokens <= 64:
            raise ConfigError(f"subject_tokens must be between 1 and 64, got {self.subject_tokens}")
        if not (self.motion_embedding or self.subject_embedding or self.refiner_layers or self.rank or self.modules):
            raise ConfigError("every part is switched off: nothing would be learnt")
        unknown = set(self.prior_updates) - set(GROUPS)
        if unknown or "motion_embedding" in self.prior_updates:
            allowed = ", ".join(g for g in GROUPS if g != "motion_embedding")
            raise ConfigError(f"prior_updates must be among {allowed} (e^l_mot stays frozen), got {self.prior_updates}")
        if not self.embedding_lr > 0:
            raise ConfigError(f"embedding_lr must be above 0, got {self.embedding_lr}")


class SynMotion:
    """SynMotion attached to a backbone; see interfaces.Method."""

    name = "synmotion"

    def __init__(self, backbone: Backbone, config: SynMotionConfig, reference: Prompt) -> None:
        self.backbone, self.config = backbone, config
        self._prefix = f"{backbone.spec.denoiser}."
        generator = torch.Generator().manual_seed(config.seed)
        self.embedding = DualEmbedding(
            backbone.encode_prompt([reference]),
            motion=config.motion_embedding,
            subject=config.subject_embedding,
            subject_tokens=config.subject_tokens,
            refiner_layers=config.refiner_layers,
            refiner_width=config.refiner_width or default_refiner_width(backbone.text_width),
            generator=generator,
        ).to(backbone.device)
        self.lora = None
        if config.rank or config.modules:
            text = backbone.text_layers(config.projections) if config.stream == "text" else None
            everywhere = backbone.attention_targets(config.projections) if text is None else text.everywhere
            self.lora = AttentionLora(
                backbone.denoiser,
                config.modules or everywhere,
                rank=config.rank,
                alpha=config.lora_alpha,
                seed=config.seed,
                device=backbone.device,
                text_tokens=None if text is None else text.shared,
            )
        self._groups = self.embedding.groups() | ({"adapters": self.lora.parameters} if self.lora else {})

    @property
    def groups(self) -> Mapping[str, Sequence[nn.Parameter]]:
        return self._groups

    def learning_rate_scale(self, group: str) -> float:
        """Factor on the run's learning rate for a group."""
        return 1.0 if group == "adapters" else self.config.embedding_lr

    def phase(self, seed: int, step: int) -> Phase:
        if random.Random(f"{seed}/{step}/phase").random() < self.config.alpha:
            return Phase(name="reference", draws="reference", trains=frozenset(self._groups))
        trains = frozenset(self.config.prior_updates) & frozenset(self._groups)
        return Phase(name="prior", draws="prior", trains=trains, target=self.config.prior_target)

    def begin(self, phase: Phase) -> None:
        """Nothing is of one phase alone."""

    def condition(self, text: TextCondition, strength: float = 1.0) -> Condition:
        return text.as_condition(self.embedding(text, strength))

    def set_strength(self, strength: float) -> None:
        if self.lora:
            self.lora.set_strength(strength)

    def state_dict(self) -> dict[str, Tensor]:
        own = {f"synmotion.{k}": v.detach().float().cpu().clone() for k, v in self.embedding.state_dict().items()}
        return own | ({self._prefix + k: v for k, v in self.lora.state_dict().items()} if self.lora else {})

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        own = {k.removeprefix("synmotion."): v for k, v in state.items() if k.startswith("synmotion.")}
        lora = {k.removeprefix(self._prefix): v for k, v in state.items() if k.startswith(self._prefix)}
        strange = [k for k in state if not k.startswith(("synmotion.", self._prefix))]
        if strange:
            raise AdapterError(f"synmotion does not know the key {strange[0]!r}")
        mine = self.embedding.state_dict()
        phrase = own.get("motion_embedding")
        if phrase is not None and self.embedding.motion_embedding is not None and phrase.ndim == 2:
            if not 1 <= phrase.shape[0] <= 256 or phrase.shape[1] != self.backbone.text_width:
                raise AdapterError(
                    f"motion_embedding {tuple(phrase.shape)} does not fit text width {self.backbone.text_width}"
                )
            # learnt on a phrase of another length than the one given now: take the learnt one's
            self.embedding.motion_embedding.data = torch.empty_like(phrase, device=self.backbone.device)
            mine = self.embedding.state_dict()
        check_keys(mine, own, "embeddings")
        self.embedding.load_state_dict(dict(own))
        if self.lora:
            self.lora.load_state_dict(lora)
        elif lora:
            raise AdapterError("the file holds LoRA weights, its settings say there are none (rank 0)")

    def detach(self) -> None:
        if self.lora:
            self.lora.remove()
            self.lora = None


class SynMotionEntry:
    """The registry row."""

    name = "synmotion"
    title = (
        "SynMotion: motion and subject embeddings, a refiner and adapters; subject priors, drawn once, keep other "
        "subjects intact"
    )
    requires: frozenset[Feature] = frozenset({"token_roles", "free_text", "attention_lora"})
    config: type = SynMotionConfig
    without_priors: Mapping[str, Any] = {"alpha": 1.0}

    def draws_priors(self, config: Any) -> bool:
        return config.alpha < 1

    def num_parameters(self, config: Any, text_width: int, attention_width: int, clips: int = 0) -> int:
        if config.modules:
            raise ConfigError("modules are of an adapter that was made elsewhere: leave them out to train one")
        embeddings = num_parameters(
            text_width,
            motion_tokens=_PHRASE if config.motion_embedding else 0,
            subject_tokens=config.subject_tokens if config.subject_embedding else 0,
            refiner_layers=config.refiner_layers,
            refiner_width=config.refiner_width or default_refiner_width(text_width),
        )
        return embeddings + round(config.rank * attention_width * len(config.projections) / 3)

    def attach(self, backbone: Backbone, config: Any, reference: Prompt, clips: int = 0) -> SynMotion:
        check_compatible(backbone.spec, self.name, self.requires)
        return SynMotion(backbone, config, reference)
