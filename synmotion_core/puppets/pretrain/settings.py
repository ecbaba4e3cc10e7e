"""PretrainConfig: the settings of `train`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """Settings of `train`. Steps before `image_steps` see one latent frame alone, which costs a part of a clip.

    A run ends at num_steps, or when `minutes` are over; the learning rate falls to zero over the last
    `cooldown_steps`, or the last `cooldown_minutes`. The state before it fell is kept as plateau.safetensors.
    """

    num_steps: int = 20000
    cooldown_steps: int = 0
    minutes: float | None = None
    cooldown_minutes: float = 0.0
    image_steps: int = 1500
    image_fraction: float = 0.0  # of the later steps: single frames, as they are asked of a 3-D U-Net
    batch_size: int = 24
    image_batch_size: int = 48
    learning_rate: float = 1e-3
    muon_learning_rate: float = 2e-3
    warmup_steps: int = 100
    ema_decay: float = 0.999
    caption_dropout: float = 0.1
    i2v_fraction: float = 0.15
    window: tuple[int, int] | None = None  # rows x columns of latents that a windowed step sees; None for no such steps
    window_fraction: float = 0.75  # of the steps
    share: Mapping[str, float] = field(default_factory=dict)  # of a motion's clips that is used; 1 where not named
    sigma_mean: float = 0.8
    sigma_std: float = 1.2
    seed: int = 0
    save_every: int = 250
    log_every: int = 1
    score_every: int = 1000  # and at the end; 0 for then only
    score_prompts: int = 26  # 0 for no scores
    compile: bool = False
    bfloat16: bool = False  # model in bf16 itself, float32 copies for the optimisers: faster on a CPU
