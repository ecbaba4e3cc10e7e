"""DreamBooth (arXiv 2208.12242), turned to motion as the comparisons of SynMotion do: LoRA that learns a rare word, and
videos of the base's own that hold what the base knows.

    L = E |v(x_s, "a person sks squats") - target|^2  +  lambda E |v(x'_s, "a zebra walks") - target'|^2
                                                     (DreamBooth, Eq. 2: x' are drawn by the frozen base; lambda = 1)

The paper binds "a [V] dog" to a subject and keeps its class "dog"; here [V], the identifier, stands before the motion's
own words, and the priors are subjects doing common motions (training/priors.py), the same videos that SynMotion draws.
They keep their words. As in the paper, their target is the video itself.

In this house a step is one phase, so the sum becomes a draw: a step is on priors with probability
lambda / (1 + lambda). The expected gradient is then that of L divided by 1 + lambda, and AdamW does not see a constant
factor; but a step sees one of the two terms, so the same number of steps sees each half as often. LoRA in place of all
weights is ours, too: the baseline learns with as much as the others do.

The identifier is "sks", the paper's for images: a word that the backbones have hardly read. No tokenizer here has an
unknown token; those of the puppets make of it "s" and "ks", the latter absent from the captions that they were taught.
People neither write nor see it in file names; encoders read it wherever the adapter works (`reword`).
"""

from __future__ import annotations

import dataclasses
import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synmotion_core.errors import ConfigError
from synmotion_core.interfaces import Backbone, check_compatible
from synmotion_core.methods.lora import Lora, LoraConfig, LoraEntry, targets_of
from synmotion_core.types import Phase, Prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class DreamBoothConfig(LoraConfig):
    """Plain LoRA's, and: identifier, one word of letters and digits; prior_loss_weight is lambda, 0 draws no priors."""

    identifier: str = "sks"
    prior_loss_weight: float = 1.0

    def __post_init__(self) -> None:
        LoraConfig.__post_init__(self)  # slots: super() has no class to go by
        check_identifier(self.identifier)
        check_prior_weight(self.prior_loss_weight)


def check_identifier(identifier: str) -> None:
    """Raise ConfigError unless it is one word of letters and digits."""
    if not re.fullmatch(r"[^\W_]{1,20}", identifier):
        raise ConfigError(
            f'identifier must be one word of at most 20 letters and digits, such as "sks", got {identifier!r}'
        )


def check_prior_weight(prior_loss_weight: float) -> None:
    """Raise ConfigError unless lambda is a number, 0 or above."""
    if not 0 <= prior_loss_weight < math.inf:
        raise ConfigError(f"prior_loss_weight must be a number, 0 or above, got {prior_loss_weight}")


def prior_phase(prior_loss_weight: float, seed: int, step: int) -> Phase:
    """A step on priors with probability lambda / (1 + lambda), else on the clips."""
    share = prior_loss_weight / (1 + prior_loss_weight)
    prior = random.Random(f"{seed}/{step}/phase").random() < share
    draws = "prior" if prior else "reference"
    return Phase(name=draws, draws=draws, trains=frozenset({"adapters"}))


class DreamBooth(Lora):
    """DreamBooth attached to a backbone; see interfaces.Method."""

    name = "dreambooth"

    def __init__(self, backbone: Backbone, config: DreamBoothConfig) -> None:
        super().__init__(backbone, config, targets_of(backbone, config))
        self.prior_loss_weight = config.prior_loss_weight

    def phase(self, seed: int, step: int) -> Phase:
        return prior_phase(self.prior_loss_weight, seed, step)


class DreamBoothEntry(LoraEntry):
    """The registry row."""

    name = "dreambooth"
    title = (
        "DreamBooth: LoRA under a rare word; every second step is on videos of the base's own, so that other subjects "
        "stay, and the motion gets half the steps"
    )
    config: type = DreamBoothConfig
    without_priors: Mapping[str, Any] = {"prior_loss_weight": 0.0}

    def draws_priors(self, config: Any) -> bool:
        return config.prior_loss_weight > 0

    def reword(self, config: Any, prompt: Prompt) -> Prompt:
        """The identifier before the motion's words."""
        return dataclasses.replace(prompt, motion=f"{config.identifier} {prompt.motion}")

    def attach(self, backbone: Backbone, config: Any, reference: Prompt, clips: int = 0) -> DreamBooth:
        check_compatible(backbone.spec, self.name, self.requires)
        return DreamBooth(backbone, config)
