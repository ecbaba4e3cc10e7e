"""Settings of training and of subject priors; frozen, keyword-only, each range checked where it is stated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from synmotion_core.errors import ConfigError
from synmotion_core.limits import MOST_SUBJECTS, check_count, check_letters

MOST_PRIORS = 10_000


def _check_list(name: str, words: tuple[str, ...]) -> None:
    check_count(name, words, MOST_SUBJECTS)
    for one in words:
        check_letters(f"one of {name}", one)


def _require(ok: bool, message: str) -> None:
    if not ok:
        raise ConfigError(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """How long and how fast to train; every `sample_every` steps, samples show `sample_subjects` doing the motion.

    sample_images: the pictures that these samples begin with, one a subject (image to video only).
    Every `score_every` steps and at the end, `score_videos` videos of subjects that are not in the clips are drawn and
    scored, and the best adapter is kept beside the last (run/scoring.py); 0 is never. Samples and scores change no
    step.
    batch_size: clips a step; learning_rate: where the method scales it, of its adapters. None takes the backbone's own.
    0 for sample_every or save_every means never before the end. lr_scheduler "linear" lets the rate fall to zero at
    num_steps, "constant" keeps it, so that a run can go on to more steps. optimizer "adamw8bit" is AdamW with moments
    in 8 bits, by blocks (bitsandbytes). mixed_precision "bf16" is autocast; parameters stay float32.
    training_guidance is what a denoiser with embedded guidance is told while it learns; None takes the backbone's own.
    """

    num_steps: int = 1300
    batch_size: int | None = None
    learning_rate: float | None = None
    lr_scheduler: str = "linear"
    optimizer: str = "adamw"
    warmup_steps: int = 20
    max_grad_norm: float = 1.0
    weight_decay: float = 0.01
    seed: int = 0
    save_every: int = 100
    sample_every: int = 100
    sample_subjects: tuple[str, ...] = ()
    sample_images: tuple[Path, ...] = ()
    score_every: int = 0
    score_videos: int = 8
    mixed_precision: str = "bf16"
    training_guidance: float | None = None

    def __post_init__(self) -> None:
        _require(1 <= self.num_steps <= 1_000_000, f"num_steps must be between 1 and 1000000, got {self.num_steps}")
        if self.batch_size is not None:
            _require(1 <= self.batch_size <= 256, f"batch_size must be between 1 and 256, got {self.batch_size}")
        if self.learning_rate is not None:
            rate = self.learning_rate
            _require(0 < rate <= 1, f"learning_rate must be above 0 and at most 1, got {rate}")
        _require(
            self.lr_scheduler in ("constant", "linear"),
            f'lr_scheduler must be "constant" or "linear", got {self.lr_scheduler!r}',
        )
        _require(
            self.optimizer in ("adamw", "adamw8bit"),
            f'optimizer must be "adamw" or "adamw8bit", got {self.optimizer!r}',
        )
        _require(self.warmup_steps >= 0, f"warmup_steps must be at least 0, got {self.warmup_steps}")
        _require(self.max_grad_norm > 0, f"max_grad_norm must be above 0, got {self.max_grad_norm}")
        _require(self.weight_decay >= 0, f"weight_decay must be at least 0, got {self.weight_decay}")
        _require(0 <= self.seed < 2**63, f"seed must be between 0 and 2^63 - 1, got {self.seed}")
        _require(self.save_every >= 0, f"save_every must be at least 0, got {self.save_every}")
        _require(self.sample_every >= 0, f"sample_every must be at least 0, got {self.sample_every}")
        _require(self.score_every >= 0, f"score_every must be at least 0 (never), got {self.score_every}")
        _require(1 <= self.score_videos <= 64, f"score_videos must be between 1 and 64, got {self.score_videos}")
        _require(
            self.mixed_precision in ("no", "bf16"),
            f'mixed_precision must be "no" or "bf16", got {self.mixed_precision!r}',
        )
        if self.training_guidance is not None:
            told = self.training_guidance
            _require(0 < told <= 100, f"training_guidance must be above 0 and at most 100, got {told}")
        _check_list("sample_subjects", self.sample_subjects)
        check_count("sample_images", self.sample_images, MOST_SUBJECTS)

    @property
    def num_scores(self) -> int:
        """How often a whole training is scored.

        >>> TrainConfig(num_steps=400, score_every=150).num_scores, TrainConfig().num_scores
        (3, 0)
        """
        return -(-self.num_steps // self.score_every) if self.score_every else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorConfig:
    """Subject Prior Videos: the frozen base draws every subject doing every common motion, per_pair times.

    Empty tuples take the backbone's own list (what it is known to draw well). Used only by methods that draw priors.
    left_out: seeds of videos that no training should see; another one of the same prompt is drawn in place of each, and
    may be left out by its seed, too (priors.py). Seeds are of one plan: other subjects, motions or seed, other videos.
    """

    subjects: tuple[str, ...] = ()
    motions: tuple[str, ...] = ()
    per_pair: int = 1
    max_videos: int = 48
    seed: int = 0
    left_out: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_list("subjects", self.subjects)
        _check_list("motions", self.motions)
        for name in ("per_pair", "max_videos"):
            value = getattr(self, name)
            _require(1 <= value <= MOST_PRIORS, f"{name} must be between 1 and {MOST_PRIORS}, got {value}")
        check_count("left_out", self.left_out, MOST_PRIORS)
        seen: set[int] = set()
        twice = next((seed for seed in self.left_out if seed in seen or seen.add(seed)), None)
        _require(twice is None, f"left_out names each seed once, got {twice} twice")
