"""Puppets of no species: one a seed, whole and legible, never among the judged species unless asked for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from synmotion_core.puppets.captions import caption_for, draw_scene
from synmotion_core.puppets.hybrids import HYBRID, hybrid
from synmotion_core.puppets.species import SPECIES
from synmotion_core.puppets.stage import SIZE, Scene, render


def test_a_seed_is_a_puppet() -> None:
    assert hybrid(3) == hybrid(3)
    assert len({hybrid(seed).build for seed in range(200)}) == 200
    assert not {hybrid(seed).build for seed in range(200)} & {s.build for s in SPECIES.values()}


def test_proportions_stay_near_those_of_the_species() -> None:
    for name in ("leg", "arm", "torso", "head", "limb", "hand", "foot"):
        own = [getattr(s.build, name) for s in SPECIES.values()]
        mixed = np.array([getattr(hybrid(seed).build, name) for seed in range(500)])
        assert mixed.min() > 0.65 * min(own), name
        assert mixed.max() < 1.35 * max(own), name
        assert np.std(mixed) > 0.3 * np.std(own), name


def test_looks_come_from_more_than_one_species_and_heads_stay_whole() -> None:
    heads = {tuple(shape for shape in s.shapes if shape.anchor == "head") for s in SPECIES.values()}
    mixed = 0
    for seed in range(100):
        puppet = hybrid(seed)
        head = tuple(shape for shape in puppet.shapes if shape.anchor == "head")
        assert head in heads
        mixed += not any(set(puppet.shapes) <= set(s.shapes) for s in SPECIES.values())
    assert mixed > 20


@pytest.mark.parametrize("motion", ["stand", "jump", "moves", "squat"])
def test_they_are_drawn_inside_the_frame(motion: str) -> None:
    for seed in range(25):
        show = render(Scene(species=HYBRID, colour="red", background="room", motion=motion, seed=seed))
        assert 0.03 < show.mask.mean() < 0.5
        if motion == "stand":
            assert show.joints.min() > -4
            assert show.joints.max() < SIZE + 4


def test_they_are_drawn_as_often_as_asked_and_captioned_as_puppets() -> None:
    rng = np.random.default_rng(0)
    scenes = [draw_scene(rng, hybrids=0.4) for _ in range(1_000)]
    share = np.mean([s.species == HYBRID for s in scenes])
    assert 0.35 < share < 0.45
    nouns = {caption_for(s, rng).subject.split()[-1] for s in scenes if s.species == HYBRID}
    assert nouns == {HYBRID}
    assert HYBRID not in SPECIES


def test_scenes_are_drawn_as_before_where_no_hybrids_are_wanted() -> None:
    one, two = (np.random.default_rng(4) for _ in range(2))
    plain = [draw_scene(one) for _ in range(50)]
    assert plain == [draw_scene(two, hybrids=0.0) for _ in range(50)]
    scene = dataclasses.replace(plain[0], species=HYBRID)
    again = dataclasses.replace(scene, seed=scene.seed + 1)
    assert not np.array_equal(render(scene).frames, render(again).frames)
