"""What a method is asked: to learn a rare motion from clips of a person, and to draw others doing it.

The others are the puppets' unseen species, whose every truth is known, or subjects of one's own (footage.py). "Unseen"
is by the clips alone: a method with subject priors has videos of exactly these species doing common motions
(`PRIORS_SHOW`), drawn by the base, which knows them; what no training has seen is their doing the rare motion.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from synmotion_core import material
from synmotion_core.backbones import SPECS, find_spec
from synmotion_core.clips.dataset import content_hash
from synmotion_core.config import Sampling, from_dict
from synmotion_core.errors import ConfigError
from synmotion_core.evaluation import footage
from synmotion_core.evaluation.footage import Footage
from synmotion_core.interfaces import Backbone, reworded
from synmotion_core.methods import find_method
from synmotion_core.puppets.captions import subject_phrase
from synmotion_core.puppets.kinematics import FPS
from synmotion_core.puppets.motions import COMMON, MOTIONS, ONSET, RARE
from synmotion_core.puppets.species import SPECIES
from synmotion_core.puppets.stage import BACKGROUNDS, COLOURS, Scene, render
from synmotion_core.training.settings import PriorConfig, TrainConfig
from synmotion_core.training.trainer import TrainingSet
from synmotion_core.types import Clip, Frames, Mode, Prompt

BACKBONE = "puppet-hunyuan"
REFERENCE = "person"
SHARES = (0.25, 0.5, 0.75, 1.0)  # of a training, after which an adapter can be looked at
UNSEEN = tuple(name for name in SPECIES if name != REFERENCE)
PRIORS_SHOW = UNSEEN  # of those who are tested, the species in prior videos too: declared, for it is all of them


def check_backbone(name: str) -> None:
    """Raise ConfigError for a backbone that does not know puppets: clips and judge are of them."""
    known = [spec.name for spec in SPECS.values() if spec.repo.startswith("assets:")]
    if name not in known:
        raise ConfigError(f"this bench is about puppets, which {name!r} does not draw: choose {' or '.join(known)}")


def _words(motion: str, described: bool) -> str:
    return MOTIONS[motion].phrase if described else MOTIONS[motion].verb


def reference_clips(motion: str, num: int, seed: int, *, described: bool = True, standing: bool = False) -> list[Clip]:
    """Clips of a person doing a motion: colours, backgrounds and manner vary.

    standing: they begin with the person standing still, as the pictures do from which videos are to begin.
    """
    rng = np.random.default_rng((seed, 0x4EF, RARE.index(motion) if motion in RARE else 99))
    starts = np.random.default_rng((seed, 0x57A))  # its own, so that the rest is the same either way
    clips = []
    for i in range(num):
        colour, background = str(rng.choice(list(COLOURS))), str(rng.choice(list(BACKGROUNDS)))
        scene = Scene(
            species=REFERENCE,
            colour=colour,
            background=background,
            motion=motion,
            seed=int(rng.integers(2**31)),
            onset=float(starts.uniform(*ONSET)) if standing else 0.0,
        )
        frames = render(scene).frames
        clips.append(
            Clip(
                name=f"{motion}-{i}",
                frames=frames,
                fps=FPS,
                content_hash=content_hash(frames, FPS),
                prompt=Prompt(subject=subject_phrase(REFERENCE, colour), motion=_words(motion, described)),
            )
        )
    return clips


def reference_set(backbone: Backbone, clips: Sequence[Clip], cache: Path, mode: Mode = "t2v") -> TrainingSet:
    """Encoded reference clips, in I2V with their first frames."""
    return material.whole(material.encode_clips(backbone, clips, mode, cache, threading.Event()))


def prior_set(backbone: Backbone, cache: Path, config: PriorConfig, mode: Mode = "t2v") -> TrainingSet:
    """Subject priors, drawn where they are missing, in I2V with their first frames."""
    return material.whole(material.draw_priors(backbone, config, mode, cache, threading.Event()))


def targets(motion: str, num: int, seed: int, *, described: bool = True) -> list[tuple[Prompt, str, str]]:
    """(prompt, species, colour): the unseen species in turn, colours at random."""
    rng = np.random.default_rng((seed, 0x7A6))
    rows = []
    for i in range(num):
        species, colour = UNSEEN[i % len(UNSEEN)], str(rng.choice(list(COLOURS)))
        prompt = Prompt(subject=subject_phrase(species, colour), motion=_words(motion, described))
        rows.append((prompt, species, colour))
    return rows


def common_targets(num: int, seed: int) -> list[tuple[Prompt, str]]:
    """(prompt, motion) that the base knows, of unseen species: what an adapter should leave as it is."""
    rng = np.random.default_rng((seed, 0xC0))
    rows = []
    for i in range(num):
        motion, colour = COMMON[int(rng.integers(len(COMMON)))], str(rng.choice(list(COLOURS)))
        subject = subject_phrase(UNSEEN[i % len(UNSEEN)], colour)
        rows.append((Prompt(subject=subject, motion=MOTIONS[motion].phrase), motion))
    return rows


def portraits(motion: str, num: int, seed: int) -> Frames:
    """First pictures for `targets`, uint8 [num, H, W, 3]: each puppet as it stands, on a random background."""
    rng = np.random.default_rng((seed, 0x1F2))
    return np.stack(
        [
            render(
                Scene(
                    species=species,
                    colour=colour,
                    background=str(rng.choice(list(BACKGROUNDS))),
                    motion="stand",
                    seed=int(rng.integers(2**31)),
                )
            ).frames[0]
            for _, species, colour in targets(motion, num, seed)
        ]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One video that is asked for: its words, a puppet's species and colour, and the picture it begins with."""

    prompt: Prompt
    species: str = ""
    colour: str = ""
    picture: Frames | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One training on `num_clips` renders of a person and `num_videos` videos over the unseen species in turn; and
    `num_common` of motions that the base knows, with the adapter at work, from fresh noise.

    described: prompts say the motion's verb and what its limbs do ("squats, bobs apart deep"); else the verb alone.
    mode "i2v" trains on clips that begin with the person standing, from their first frames, and draws from pictures of
    puppets that stand; drawn_mode, unless it is None, draws in another mode than was trained.
    after: the share of the training's steps after which the adapter is taken, one of SHARES; 1 is its end.
    metrics: rows of the registry that look at the videos.
    footage and subjects: clips of one's own, and who is to be drawn; None: puppets.
    """

    method: str
    config: Mapping[str, Any]  # the method's settings that differ from its defaults
    motion: str
    seed: int
    num_clips: int
    num_videos: int
    num_common: int = 0
    after: float = 1.0
    train: TrainConfig
    prior: PriorConfig = field(default_factory=PriorConfig)
    backbone: str = BACKBONE
    described: bool = True
    mode: Mode = "t2v"
    drawn_mode: Mode | None = None
    sampling: Sampling = field(default_factory=Sampling)
    metrics: tuple[str, ...] = ()
    footage: Footage | None = None
    subjects: tuple[str, ...] = ()

    def clips(self) -> list[Clip]:
        """What the adapter learns from. Raises as `footage.read`."""
        if self.footage is not None:
            return footage.read(self.footage, self.num_clips, find_spec(self.backbone))
        standing = self.mode == "i2v"
        return reference_clips(self.motion, self.num_clips, self.seed, described=self.described, standing=standing)

    def material(self) -> str:
        """Names the files that it depends on, "" for puppets: source and settings name these."""
        return "" if self.footage is None else footage.digest(self.footage, self.num_clips, find_spec(self.backbone))

    def wanted(self) -> list[Wanted]:
        """What its videos are to show, in their order; in I2V with the pictures that they begin with."""
        if self.footage is not None:
            return [Wanted(prompt=p) for p in footage.prompts(self.footage, self.subjects, self.num_videos)]
        rows = targets(self.motion, self.num_videos, self.seed, described=self.described)
        found = [Wanted(prompt=prompt, species=species, colour=colour) for prompt, species, colour in rows]
        if self.draws_in == "i2v":
            pictures = portraits(self.motion, self.num_videos, self.seed)
            found = [replace(one, picture=picture) for one, picture in zip(found, pictures, strict=True)]
        return found

    @property
    def fps(self) -> float:
        """Frames a second of its videos."""
        return find_spec(self.backbone).default_shape.fps

    @property
    def method_config(self) -> Any:
        """The method's settings, whole."""
        return from_dict(find_method(self.method).config, self.config)

    @property
    def reference(self) -> Prompt:
        """What the first reference clip shows, in the method's words."""
        if self.footage is not None:
            return self.reads(Prompt(subject=self.footage.subject, motion=self.footage.words))
        return self.reads(reference_clips(self.motion, 1, self.seed, described=self.described)[0].prompt)

    @property
    def draws_in(self) -> Mode:
        """The mode of its videos."""
        return self.mode if self.drawn_mode is None else self.drawn_mode

    def reads(self, prompt: Prompt) -> Prompt:
        """What the encoders read for a prompt."""
        return reworded(find_method(self.method), self.method_config, prompt)
