"""Puppets of no species: builds between two species and beyond, heads of one on bodies of another.

A backbone that has only ever seen eight bodies can learn each by heart; what an adapter then learns on a person stays
with the person. Bodies that are never twice the same leave it nothing to learn by heart but how limbs move.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from synmotion_core.puppets.species import SPECIES, Build, Species

HYBRID = "puppet"  # their name in scenes, and their noun in captions


def hybrid(seed: int) -> Species:
    """The puppet of a seed: proportions mixed from two species and stretched by up to 12 %, looks from either."""
    rng = np.random.default_rng((seed, 0x4B1D))
    one, two = (SPECIES[name] for name in rng.choice(list(SPECIES), 2, replace=False))
    between = rng.uniform(-0.15, 1.15)
    values = {}
    for field in dataclasses.fields(Build):
        a, b = getattr(one.build, field.name), getattr(two.build, field.name)
        if isinstance(a, float):
            mixed = a + between * (b - a)
            values[field.name] = float(mixed * rng.uniform(0.88, 1.12))
        else:
            values[field.name] = a if rng.random() < 0.5 else b
    for radius in ("limb", "hand", "foot", "head", "torso_width"):  # never thinner than what a pixel can show
        values[radius] = max(values[radius], 0.8 * min(getattr(s.build, radius) for s in SPECIES.values()))
    parts = {anchor: one if rng.random() < 0.5 else two for anchor in ("head", "torso", "pelvis")}
    shapes = tuple(s for anchor, of in parts.items() for s in of.shapes if s.anchor == anchor)
    return Species(name=HYBRID, build=Build(**values), shapes=shapes)
