"""How far the judge can be trusted: on clips it never saw, clean and damaged, and on clips that are nearly a motion.

    judge.render.*    fresh renders, equally many of each of the 25 motions and of random limbs ("other")
    judge.vae.*       the same clips through the backbone's autoencoder: what a perfect generator could show
    judge.h264.*      the same clips (every tenth) written as H.264 and read back
    judge.still.called_a_motion      one frame held, called anything but "stand" or "other"; 0 is right
    judge.reversed|scaled|limbs|morph|chaos.motion    near misses (puppets/variants.py), named as a person would
    judge.milliseconds               a clip, in batches of 16, on this machine

Rates come with Wilson's interval; clips are independent draws.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from synmotion_core.clips import video
from synmotion_core.evaluation.figures import Figure, mean_figure, rate_figure
from synmotion_core.puppets.judge import OTHER, Judge, Verdicts
from synmotion_core.puppets.judge_training import NAMED, draw_take, load_autoencoder, through_autoencoder
from synmotion_core.puppets.kinematics import FPS
from synmotion_core.puppets.variants import STILL_NAMES, Take
from synmotion_core.types import Frames

if TYPE_CHECKING:
    from synmotion_core.puppets.autoencoder import AutoencoderPatchVideo

EVERYTHING = (*NAMED, "moves")


def held_out(kind: str, num_clips: int, seed: int) -> list[Take]:
    """Clips of one variant; clip i depends on (kind, seed, i) only. "plain" goes round all motions and "moves"."""
    motions = EVERYTHING if kind == "plain" else NAMED
    mark = int.from_bytes(kind.encode(), "little") % 2**31
    return [
        draw_take(np.random.default_rng((seed, 0xBE7C4, mark, i)), kind, motions[i % len(motions)])
        for i in range(num_clips)
    ]


def frames_of(takes: Sequence[Take]) -> Frames:
    """uint8 [N, 17, 64, 64, 3]."""
    return np.stack([t.performance.frames for t in takes])


def reconstructed(frames: Frames, vae: AutoencoderPatchVideo) -> Frames:
    """Through the autoencoder and back to uint8."""
    parts = torch.from_numpy(frames).split(32)
    out = torch.cat([through_autoencoder(vae, part.float() / 127.5 - 1) for part in parts])
    return ((out + 1) * 127.5).round().to(torch.uint8).numpy()


def h264_round_trip(frames: Frames) -> Frames:
    """Each clip written as the studio writes videos, and read back."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"

        def there_and_back(clip: Frames) -> Frames:
            video.write(path, clip, FPS)
            return video.read(path)[0]

        return np.stack([there_and_back(clip) for clip in frames])


def motion_right(takes: Sequence[Take], verdicts: Verdicts) -> list[bool]:
    """Whether each motion's verdict is one of the fair names."""
    return [name in take.names for take, name in zip(takes, verdicts.motion, strict=True)]


def bench_judge(
    *,
    judge: Judge | None = None,
    vae: Path | None = None,
    num_clips: int = 2600,
    num_variants: int = 520,
    seed: int = 20_000,
) -> list[Figure]:
    """Measure a judge (None: the one that ships). vae: folder of the autoencoder, None for the shipped backbone's.

    num_clips renders (26 kinds in turn) and their reconstructions, a tenth of them as H.264, num_variants clips of each
    near miss.
    """
    judge = judge or Judge.load()
    autoencoder = load_autoencoder(vae)
    figures: list[Figure] = []

    def three(name: str, takes: Sequence[Take], frames: Frames, began: float) -> Verdicts:
        verdicts = judge.judge(frames)
        seconds = time.perf_counter() - began
        rows = {
            "motion": motion_right(takes, verdicts),
            "species": [t.scene.species == v for t, v in zip(takes, verdicts.species, strict=True)],
            "colour": [t.scene.colour == v for t, v in zip(takes, verdicts.colour, strict=True)],
        }
        figures.extend(
            rate_figure(f"judge.{name}.{what}", row, seeds=(seed,), seconds=seconds) for what, row in rows.items()
        )
        return verdicts

    began = time.perf_counter()
    takes = held_out("plain", num_clips, seed)
    frames = frames_of(takes)
    verdicts = three("render", takes, frames, began)
    named = [t.names == {t.scene.motion} for t in takes]
    called = [v != OTHER and v not in t.names for t, v in zip(takes, verdicts.motion, strict=True)]
    figures.append(rate_figure("judge.render.another_motion", [c for c, n in zip(called, named, strict=True) if n],
                               seeds=(seed,), seconds=time.perf_counter() - began))  # fmt: skip
    figures.append(rate_figure("judge.other.called_a_motion", [c for c, n in zip(called, named, strict=True) if not n],
                               seeds=(seed,), seconds=time.perf_counter() - began))  # fmt: skip
    began = time.perf_counter()
    three("vae", takes, reconstructed(frames, autoencoder), began)
    began, some = time.perf_counter(), slice(None, None, 10)
    three("h264", takes[some], h264_round_trip(frames[some]), began)

    for kind in ("onset", "still", "reversed", "scaled", "limbs", "morph", "chaos"):
        began = time.perf_counter()
        takes = held_out(kind, num_variants, seed)
        verdicts = judge.judge(frames_of(takes))
        if kind == "still":
            name, row = "judge.still.called_a_motion", [v not in STILL_NAMES for v in verdicts.motion]
        else:
            name, row = f"judge.{kind}.motion", motion_right(takes, verdicts)
        figures.append(rate_figure(name, row, seeds=(seed,), seconds=time.perf_counter() - began))

    began, times = time.perf_counter(), []
    for start in range(0, min(len(frames), 320) - 15, 16):
        tick = time.perf_counter()
        judge.judge(frames[start : start + 16])
        times.append((time.perf_counter() - tick) / 16 * 1000)
    figures.append(mean_figure("judge.milliseconds", [times], seeds=(seed,), seconds=time.perf_counter() - began))
    return figures
