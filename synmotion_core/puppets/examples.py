"""The example reference clips: a few rare motions done by a person, as H.264 files that anybody can train on.

    python -m synmotion_core.puppets.examples --out assets/clips

writes <motion>/<motion>-<nn>.mp4 (17 frames of 64x64 at 8 fps) and index.json:

    {"format": 1, "num_frames": 17, "size": 64, "fps": 8.0,
     "clips": [{"file": "wave/wave-01.mp4", "subject": "a red person", "motion": "waves, swings hand out high fast",
                "species": "person", "motion_name": "wave", "colour": "red", "background": "room", "seed": 71001}, ...]}

Deterministic: the same scenes each time. Colours and backgrounds take turns, so that what the clips of a motion
share is the motion and the species.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from synmotion_core.clips import video
from synmotion_core.puppets.captions import subject_phrase
from synmotion_core.puppets.kinematics import FPS, NUM_FRAMES
from synmotion_core.puppets.motions import MOTIONS
from synmotion_core.puppets.stage import BACKGROUNDS, COLOURS, SIZE, Scene, render

MOTION_NAMES = ("wave", "squat", "clap", "spin")
SPECIES_NAME = "person"
CLIPS_EACH = 12
INDEX = "index.json"
_FIRST_SEED = 71_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One file and the words for it; `motion` is what a prompt says of it, `motion_name` the world's own name."""

    file: str
    subject: str
    motion: str
    species: str
    motion_name: str
    colour: str
    background: str
    seed: int

    @property
    def scene(self) -> Scene:
        """What to render."""
        return Scene(species=self.species, colour=self.colour, background=self.background, motion=self.motion_name,
                     seed=self.seed)  # fmt: skip


def plan() -> list[Example]:
    """All examples, in the order of the index. A motion's clips show every colour and every background."""
    colours, backgrounds = list(COLOURS), list(BACKGROUNDS)
    found: list[Example] = []
    for m, name in enumerate(MOTION_NAMES):
        for k in range(CLIPS_EACH):
            colour = colours[(3 * k + m) % len(colours)]
            found.append(
                Example(
                    file=f"{name}/{name}-{k + 1:02d}.mp4",
                    subject=subject_phrase(SPECIES_NAME, colour),
                    motion=MOTIONS[name].phrase,
                    species=SPECIES_NAME,
                    motion_name=name,
                    colour=colour,
                    background=backgrounds[(k + m) % len(backgrounds)],
                    seed=_FIRST_SEED + 100 * m + k,
                )
            )
    return found


def write_examples(folder: Path) -> Iterator[Example]:
    """Render and write each example, the index last; yields each one when its file is there."""
    examples = plan()
    for example in examples:
        video.write(folder / example.file, render(example.scene).frames, FPS)
        yield example
    index: dict[str, Any] = {"format": 1, "num_frames": NUM_FRAMES, "size": SIZE, "fps": FPS}
    index["clips"] = [asdict(example) for example in examples]
    temporary = folder / f".{INDEX}.writing"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(index, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, folder / INDEX)


def main(arguments: list[str] | None = None) -> None:
    """The command line of this module."""
    words = "Write the example reference clips: a few rare motions done by a person, as H.264 files."
    parser = argparse.ArgumentParser(prog="python -m synmotion_core.puppets.examples", description=words)
    parser.add_argument("--out", type=Path, default=Path("assets/clips"), help="folder (default: assets/clips)")
    options = parser.parse_args(arguments)
    count = sum(1 for _ in write_examples(options.out))
    print(f"{count} clips and {INDEX} written to {options.out}")


if __name__ == "__main__":
    main()
