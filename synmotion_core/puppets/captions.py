"""Words for scenes: `<subject, motion>` captions in several phrasings, and the draw of scenes for pretraining.

A caption is subject + motion (+ place), for example "a red cat" + "waves" (+ "in the snow"). About one caption in
six leaves the colour out. `moves`, the nameless motion, is captioned by what the limbs do (improvisation.py), or with
the generic word, or with a made-up verb, so that a backbone meets unknown verbs in pretraining and still draws the
right subject; a rare motion's own verb never occurs (`RARE` motions are never drawn here). Some descriptions follow a
made-up verb, "glims, swings hands high": as a person would put a rare motion. Some common motions are told by what the
limbs do too, their own verb left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from synmotion_core.puppets.hybrids import HYBRID
from synmotion_core.puppets.improvisation import etude, improvise
from synmotion_core.puppets.motions import COMMON, MOTIONS, ONSET
from synmotion_core.puppets.species import SPECIES
from synmotion_core.puppets.stage import BACKGROUNDS, COLOURS, Scene, manner_of

PLACES = {
    "room": "in a room",
    "meadow": "on a meadow",
    "beach": "on the beach",
    "snow": "in the snow",
    "night": "at night",
    "street": "in the street",
}
_PREFIXES = ("", "", "", "a video of ", "a puppet show: ")
_ONSETS = ("b", "d", "f", "g", "gl", "k", "l", "m", "n", "p", "pl", "r", "s", "sn", "t", "tr", "v", "w", "z", "qu")
_PLAYED = {"moves": improvise, "etude": etude}
_ROOM = (13, 6)  # words of a description and letters of a verb before it that fit the text encoder together
_RHYMES = ("a", "e", "i", "o", "u", "ab", "ack", "ash", "ee", "elt", "im", "ing", "ob", "oon", "orp", "ug", "umb", "ax")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """Text with its roles; `text` is what the encoders read.

    >>> Caption(subject="a red cat", motion="waves", place="in the snow").text
    'a red cat waves in the snow'
    """

    subject: str
    motion: str
    place: str = ""
    prefix: str = ""

    @property
    def text(self) -> str:
        return f"{self.prefix}{self.subject} {self.motion}" + (f" {self.place}" if self.place else "")


def article(noun: str) -> str:
    """>>> article("orange cat"), article("cat")
    ('an orange cat', 'a cat')
    """
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def subject_phrase(species: str, colour: str | None) -> str:
    """>>> subject_phrase("elephant", None), subject_phrase("cat", "red")
    ('an elephant', 'a red cat')
    """
    return article(f"{colour} {species}" if colour else species)


def _made_up_verb(rng: np.random.Generator) -> str:
    word = "".join(rng.choice(_ONSETS) + rng.choice(_RHYMES) for _ in range(rng.integers(1, 4))) + "s"
    shape = rng.random()
    if shape < 0.7:
        return word
    return f"does a {word[:-1]}" if shape < 0.85 else f"{word} {article(_made_up_verb(rng).split()[0][:-1])}"


def _named(description: str, rng: np.random.Generator) -> str:
    """The description after a made-up verb, where there is room for one and the draw is short."""
    name = _made_up_verb(rng)
    if len(description.split()) <= _ROOM[0] and len(name) <= _ROOM[1] and " " not in name:
        return f"{name}, {description}"
    return description


def caption_for(
    scene: Scene, rng: np.random.Generator, *, described: float = 0.8, described_common: float = 0.3
) -> Caption:
    """One of the phrasings, drawn by `rng`.

    described: how often a nameless motion is told by what the limbs do; described_common: how often a common one is,
    its own verb left out, so that a description is worth reading also where the motion is tidy.
    Descriptions are long, so they stand alone with the subject.
    """
    motion = MOTIONS[scene.motion]
    verb, alone = motion.verb, False
    if motion.rarity == "other":
        lot = rng.random()
        if lot < described:
            clauses, alone = _PLAYED[scene.motion](manner_of(scene)[0])[1], True
            verb = _named(", ".join(clauses), rng) if clauses else verb
        elif lot < (1 + described) / 2:
            verb = _made_up_verb(rng)
    elif motion.rarity == "common" and motion.description and described_common and rng.random() < described_common:
        verb, alone = _named(motion.description, rng), True
    return Caption(
        subject=subject_phrase(scene.species, scene.colour if rng.random() < 0.85 else None),
        motion=verb,
        place=PLACES[scene.background] if not alone and rng.random() < 0.5 else "",
        prefix="" if alone else str(rng.choice(_PREFIXES)),
    )


def draw_scene(
    rng: np.random.Generator,
    *,
    motions: tuple[str, ...] = COMMON,
    other: float = 0.4,
    hybrids: float = 0.0,
    etudes: float = 0.0,
    standing: float = 0.0,
) -> Scene:
    """A scene with uniform species, colour and background; nameless with probability `other`, else one of `motions`.

    hybrids: how often the performer is of no species (hybrids.py). etudes: how often the nameless is tidy
    (improvisation.py). standing: how often the clip begins with the puppet standing still (`ONSET`).
    """
    name = "moves" if rng.random() < other else str(rng.choice(motions))
    if etudes and name == "moves" and rng.random() < etudes:
        name = "etude"
    species = HYBRID if hybrids and rng.random() < hybrids else str(rng.choice(list(SPECIES)))
    return Scene(
        species=species,
        colour=str(rng.choice(list(COLOURS))),
        background=str(rng.choice(list(BACKGROUNDS))),
        motion=name,
        seed=int(rng.integers(2**31)),
        onset=float(rng.uniform(*ONSET)) if standing and rng.random() < standing else 0.0,
    )
