"""Separate Motion from Appearance (arXiv 2501.16714): MotionDirector's training, and two ways to let less of the looks
through. The third, Phased LoRA Integration, is for every method: `adapter_until` of generation.py.

    TAP   temporal attention purification: LoRA only where it reshapes which frames look at which. Values stay as they
          were pretrained, and are put together anew
    AH    appearance highway (highway.py): skip connections start before the temporal attention

Published: the paper's figure learns the keys alone ("k"), its released code keys and output projection ("ko"). Presets
of `temporal` that it compares with: "ko", "qk", "q", "v", "f", and "qkvof", which is MotionDirector's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from synmotion_core.errors import ConfigError
from synmotion_core.interfaces import Backbone, Feature, check_compatible
from synmotion_core.methods.highway import AppearanceHighway, switched_off
from synmotion_core.methods.motion_director import MotionDirector, MotionDirectorConfig, MotionDirectorEntry
from synmotion_core.types import Phase, Prompt

HIGHWAYS = ("off", "paper", "released", "pretrained")


@dataclass(frozen=True, slots=True, kw_only=True)
class SeparationConfig(MotionDirectorConfig):
    """MotionDirector's, with the keys alone by default. highway: "off", the "paper"'s skips, those of its "released"
    code, or the paper's from the "pretrained" temporal attention, run without the adapter."""

    temporal: str = "k"
    highway: Literal["off", "paper", "released", "pretrained"] = "paper"

    def __post_init__(self) -> None:
        MotionDirectorConfig.__post_init__(self)
        if self.highway not in HIGHWAYS:
            raise ConfigError(f"highway must be one of {', '.join(HIGHWAYS)}, got {self.highway!r}")


class Separation(MotionDirector):
    """MotionDirector with the highway's hooks while videos are drawn."""

    name = "separation"
    _highway: AppearanceHighway | None = None

    def __init__(self, backbone: Backbone, config: SeparationConfig, clips: int) -> None:
        self._kind = config.highway
        super().__init__(backbone, config, clips)
        self._lift()  # a fresh one is the identity; the highway opens with the first set_strength

    def _lift(self) -> None:
        if self._highway is not None:
            self._highway.remove()
            self._highway = None

    def begin(self, phase: Phase) -> None:
        self._lift()
        super().begin(phase)

    def set_strength(self, strength: float) -> None:
        super().set_strength(strength)
        self._lift()
        if strength != 0 and self._kind != "off":
            purified = partial(switched_off, list(self.lora.layers.values())) if self._kind == "pretrained" else None
            highway = self.backbone.highway("released" if self._kind == "released" else "paper")
            self._highway = AppearanceHighway(self.backbone.denoiser, highway, purified)

    def detach(self) -> None:
        self._lift()
        super().detach()


class SeparationEntry(MotionDirectorEntry):
    """The registry row."""

    name = "separation"
    title = (
        "Separate Motion from Appearance: MotionDirector on the keys alone, skips before time; for 3-D U-Nets, "
        "smaller and with less of the reference's looks"
    )
    requires: frozenset[Feature] = frozenset({"temporal_attention"})
    config: type = SeparationConfig
    drawing: frozenset[str] = frozenset({"highway"})

    def attach(self, backbone: Backbone, config: Any, reference: Prompt, clips: int = 0) -> Separation:
        check_compatible(backbone.spec, self.name, self.requires)
        return Separation(backbone, config, clips)
