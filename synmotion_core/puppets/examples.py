"""The examples that ship: clips of rare motions done by a person, to train on; pictures of all puppets, to begin with.

    python -m synmotion_core.puppets.examples --out assets

writes clips/<motion>/<motion>-<nn>.mp4 (17 frames of 64x64 at 8 fps) and clips/index.json:

    {"format": 1, "num_frames": 17, "size": 64, "fps": 8.0,
     "clips": [{"file": "wave/wave-01.mp4", "subject": "a red person", "motion": "waves, swings hand out high fast",
                "species": "person", "motion_name": "wave", "colour": "red", "background": "room", "seed": 71001}, ...]}

and pictures/<colour>-<species>.png, each puppet as it stands, with an index.json alike ("pictures", without motions).
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
from synmotion_core.clips.frames import png
from synmotion_core.puppets.captions import subject_phrase
from synmotion_core.puppets.kinematics import FPS, NUM_FRAMES
from synmotion_core.puppets.motions import MOTIONS
from synmotion_core.puppets.stage import BACKGROUNDS, COLOURS, SIZE, Scene, render
from synmotion_core.storage import replacing

MOTION_NAMES = ("wave", "squat", "clap", "spin")
SPECIES_NAME = "person"
CLIPS_EACH = 12
INDEX = "index.json"
_FIRST_SEED = 71_000
PORTRAITS = (
    *(("cat", "red"), ("robot", "blue"), ("rabbit", "yellow"), ("frog", "pink"), ("bear", "teal")),
    *(("penguin", "orange"), ("elephant", "purple"), ("person", "green")),
)
_FIRST_PICTURE_SEED = 72_000


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture of a standing puppet, and the words for who it is."""

    file: str
    subject: str
    species: str
    colour: str
    background: str
    seed: int

    @property
    def scene(self) -> Scene:
        """What to render; the picture is its first frame."""
        return Scene(species=self.species, colour=self.colour, background=self.background, motion="stand",
                     seed=self.seed)  # fmt: skip


def plan_pictures() -> list[Picture]:
    """One picture a species, each in a colour of its own."""
    backgrounds = list(BACKGROUNDS)
    found = []
    for k, (name, colour) in enumerate(PORTRAITS):
        found.append(
            Picture(
                file=f"{colour}-{name}.png",
                subject=subject_phrase(name, colour),
                species=name,
                colour=colour,
                background=backgrounds[k % len(backgrounds)],
                seed=_FIRST_PICTURE_SEED + k,
            )
        )
    return found


def write_pictures(folder: Path) -> list[Picture]:
    """Render and write each picture, the index last."""
    pictures = plan_pictures()
    folder.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        with replacing(folder / picture.file) as partial:
            partial.write_bytes(png(render(picture.scene).frames[0]))
    _write_index(folder, {"format": 1, "size": SIZE, "pictures": [asdict(picture) for picture in pictures]})
    return pictures


def write_examples(folder: Path) -> Iterator[Example]:
    """Render and write each example, the index last; yields each one when its file is there."""
    examples = plan()
    for example in examples:
        video.write(folder / example.file, render(example.scene).frames, FPS)
        yield example
    index: dict[str, Any] = {"format": 1, "num_frames": NUM_FRAMES, "size": SIZE, "fps": FPS}
    index["clips"] = [asdict(example) for example in examples]
    _write_index(folder, index)


def _write_index(folder: Path, index: dict[str, Any]) -> None:
    temporary = folder / f".{INDEX}.writing"
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(index, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, folder / INDEX)


def main(arguments: list[str] | None = None) -> None:
    """The command line of this module."""
    words = "Write the examples: clips of rare motions done by a person, and pictures of all puppets."
    parser = argparse.ArgumentParser(prog="python -m synmotion_core.puppets.examples", description=words)
    parser.add_argument("--out", type=Path, default=Path("assets"), help="folder (default: assets)")
    out = parser.parse_args(arguments).out
    pictures, clips = len(write_pictures(out / "pictures")), sum(1 for _ in write_examples(out / "clips"))
    print(f"{clips} clips written to {out / 'clips'}, {pictures} pictures to {out / 'pictures'}, each with {INDEX}")


if __name__ == "__main__":
    main()
