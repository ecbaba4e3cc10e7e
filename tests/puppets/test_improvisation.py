"""Nameless motions and the words for them: a closed vocabulary without rare motions' words, true of what is drawn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from synmotion_core.backbones import find_spec
from synmotion_core.puppets.captions import caption_for, draw_scene
from synmotion_core.puppets.improvisation import MOST_CLAUSES, MOST_WORDS, VOCABULARY, etude, improvise, word_for_place
from synmotion_core.puppets.motions import COMMON, MOTIONS, RARE
from synmotion_core.puppets.stage import JOINTS, Scene, manner_of, render


def _scenes(num: int, species: str | None = None) -> list[Scene]:
    rng = np.random.default_rng(6)
    drawn = [draw_scene(rng, other=1.0) for _ in range(num)]
    return [dataclasses.replace(s, species=species) for s in drawn] if species else drawn


def _told(scene: Scene) -> tuple[str, ...]:
    return improvise(manner_of(scene)[0])[1]


def test_no_word_of_a_description_is_in_a_rare_motions_phrase() -> None:
    rare = {word for name in RARE for word in MOTIONS[name].verb.split()}
    assert rare
    assert not rare & set(VOCABULARY)


def test_the_backbone_tells_people_the_words_it_was_taught() -> None:
    assert sorted(find_spec("puppet-hunyuan").options["motion_words"]) == sorted(VOCABULARY)


def test_descriptions_use_the_vocabulary_all_of_it_and_nothing_else() -> None:
    told = [_told(s) for s in _scenes(2_500)]
    words = {word for clauses in told for clause in clauses for word in clause.split()}
    assert words == set(VOCABULARY)
    assert max(len(clauses) for clauses in told) == MOST_CLAUSES
    assert max(sum(len(clause.split()) for clause in clauses) for clauses in told) <= MOST_WORDS
    assert len(set(told)) > 2_000  # hardly any two alike


def test_a_scene_is_described_by_itself_alone() -> None:
    for scene in _scenes(20):
        assert _told(scene) == _told(scene)
        assert _told(scene) == _told(dataclasses.replace(scene, colour="red", background="snow"))


@pytest.mark.parametrize(("words", "above"), [(("up", "high"), True), (("down", "aside", "forth", "back"), False)])
def test_hands_are_drawn_where_the_words_put_them(words: tuple[str, ...], above: bool) -> None:
    clauses = {f"keeps hands {word}" for word in words}
    elsewhere = {"tips", "rolls", "stoops", "leans", "joins", "taps"}  # the torso is not upright, or the hands move on
    found = 0
    for scene in _scenes(4_000, "person"):
        told = _told(scene)
        if not clauses & set(told) or elsewhere & set(" ".join(told).split()):
            continue
        joints = render(scene).joints
        for side in ("l", "r"):
            hand, shoulder = (joints[:, JOINTS.index(f"{part}_{side}"), 1] for part in ("hand", "shoulder"))
            assert ((hand < shoulder) == above).mean() > 0.8, (scene, told)  # y grows downwards
        found += 1
    assert found >= 5


def test_the_body_does_what_its_words_say() -> None:
    seen = {"upside": 0, "rotates": 0, "bounces": 0, "bobs": 0}
    for scene in _scenes(600):
        pose, told = improvise(manner_of(scene)[0])
        text = " ".join(told)
        if len(told) < MOST_CLAUSES and len(text.split()) < MOST_WORDS - 2:  # a longer story is cut, legs come first
            assert ("upside" in text) == (np.abs(pose.roll).max() > 170 and np.abs(pose.roll).max() < 190)
            assert ("rotates" in text) == (np.ptp(pose.yaw) > 0)
        assert ("bounces" in text) == (pose.up.max() > 0)
        if "bobs" in text:
            assert np.ptp(pose.legs[0, :, :2], axis=0).max() > 0
            assert np.array_equal(pose.legs[0], pose.legs[1])
        for word in seen:
            seen[word] += word in text
    assert min(seen.values()) > 10, seen


@pytest.mark.parametrize("name", RARE)
def test_a_rare_motion_is_described_in_taught_words_that_are_true_of_it(name: str) -> None:
    motion = MOTIONS[name]
    words = set(motion.description.replace(",", "").split())
    assert words
    assert words <= set(VOCABULARY)
    assert motion.phrase == f"{motion.verb}, {motion.description}"
    seen: set[str] = set()
    for seed in range(8):
        performer = Scene(species="person", colour="red", background="room", motion=name, seed=seed)
        pose = motion.perform(manner_of(performer)[0])
        seen |= {word_for_place(frame) for arm in pose.arms for frame in arm}
        assert ("upside" in words) == (np.abs(pose.roll).max() > 170)
        assert ("rotates" in words) == (np.ptp(pose.yaw) > 90)
        assert ("bobs" in words) == (np.ptp(pose.legs[:, :, 0], axis=1).min() > 38)
        assert ("sideways" in words) == (np.ptp(pose.yaw) == 0 and np.abs(pose.yaw).min() > 35)
    for does, _, *rest in (clause.split() for clause in motion.description.split(", ") if "hand" in clause):
        if does != "joins":  # hands before the body count as close and across
            assert set(rest) - {"slow", "fast"} <= seen, (rest, seen)


def test_most_of_the_nameless_captions_describe() -> None:
    rng = np.random.default_rng(3)
    captions = [(s, caption_for(s, rng)) for s in _scenes(800)]
    described = [(s, c) for s, c in captions if _told(s) and c.motion.endswith(", ".join(_told(s)))]
    assert 0.75 < len(described) / len(captions) < 0.87
    assert all(not c.place and not c.prefix for _, c in described)
    named = [c.motion for s, c in described if c.motion != ", ".join(_told(s))]
    assert 0.15 < len(named) / len(described) < 0.5, "some descriptions follow a made-up verb"
    assert not any(motion.split(",")[0] in VOCABULARY for motion in named)
    assert 0.06 < np.mean([c.motion == "moves" for _, c in captions]) < 0.2
    plain = [caption_for(s, rng, described=0.0).motion for s in _scenes(400)]
    assert not any(word in VOCABULARY for motion in plain for word in motion.split())


def test_some_common_captions_describe_instead_of_naming() -> None:
    rng = np.random.default_rng(4)
    scenes = [draw_scene(rng, other=0.0) for _ in range(800)]
    captions = [(MOTIONS[s.motion], caption_for(s, rng)) for s in scenes if MOTIONS[s.motion].description]
    described = [(m, c) for m, c in captions if c.motion.endswith(m.description)]
    assert 0.24 < len(described) / len(captions) < 0.36
    assert all(not c.place and not c.prefix and m.verb not in c.motion.split(", ") for m, c in described)
    assert any(c.motion != m.description for m, c in described), "some follow a made-up verb"
    assert all(c.motion == m.verb for m, c in captions if (m, c) not in described)
    own = [caption_for(s, rng, described_common=0.0).motion for s in scenes]
    assert own == [MOTIONS[s.motion].verb for s in scenes]


@pytest.mark.parametrize("name", [name for name in COMMON if MOTIONS[name].description])
def test_a_common_motion_is_described_in_taught_words_that_are_true_of_it(name: str) -> None:
    motion = MOTIONS[name]
    words = set(motion.description.replace(",", "").split())
    assert words <= set(VOCABULARY)
    assert len(motion.description.split()) <= MOST_WORDS
    seen: set[str] = set()
    for seed in range(8):
        performer = Scene(species="person", colour="red", background="room", motion=name, seed=seed)
        pose = motion.perform(manner_of(performer)[0])
        limbs = pose.arms if any("hand" in w for w in words) else pose.legs
        seen |= {word_for_place(frame) for limb in limbs for frame in limb}
        assert ("bounces" in words) == (pose.up.max() > 0.1)
        assert ("rotates" in words) == (np.ptp(pose.yaw) > 90)
        assert ("tips" in words) == (np.abs(pose.roll).max() > 80)
        assert ("leans" in words) == (np.ptp(pose.lean) > 10)
        assert ("drifts" in words) == (np.ptp(pose.x) > 0.3 and "tips" not in words)
    for does, what, *rest in (clause.split() for clause in motion.description.split(", ") if "hand" in clause):
        assert set(rest) - {"fast"} <= seen, (does, what, rest, seen)


def test_an_etude_moves_what_it_tells_and_nothing_else() -> None:
    """Read from the pose: a part without a clause hangs, stands or stays, but for the head."""
    rng = np.random.default_rng(8)
    seen: dict[str, int] = {}
    for _ in range(400):
        scene = dataclasses.replace(draw_scene(rng), motion="etude")
        clock = manner_of(scene)[0]
        pose, told = etude(clock)
        rest, text = clock.pose(), ", ".join(told)
        words = set(text.replace(",", "").split())
        assert words <= set(VOCABULARY)
        assert told
        assert sum(len(clause.split()) for clause in told) <= MOST_WORDS
        if len(told) < MOST_CLAUSES:
            assert bool(words & {"hand", "hands"}) == (not np.allclose(pose.arms, rest.arms, atol=4))
            assert ("rotates" in words) == (np.ptp(pose.yaw) > 0)
            assert ("sideways" in words) == (abs(pose.yaw[0]) == 52)
            for word, field in (("stoops", "bend"), ("leans", "lean"), ("drifts", "x"), ("bounces", "up")):
                assert (word in words) == (np.ptp(getattr(pose, field)) > 0), (word, text)
            assert bool(words & {"tips", "rolls"}) == (np.ptp(pose.roll) > 0)
        if "foot" not in text and not words & {"bobs", "sinks"}:
            assert np.allclose(pose.legs, rest.legs, atol=4)
        arms = [np.ptp(arm, axis=0).max() for arm in pose.arms]
        kind = "one" if min(arms) == 0 < max(arms) else "alike" if np.array_equal(*pose.arms) else "each its own"
        for key in (kind, *words & {"joins", "rotates", "bobs", "bounces", "stoops", "rolls"}):
            seen[key] = seen.get(key, 0) + 1
    assert min(seen.values()) > 4, seen
    assert {"one", "alike", "each its own", "joins", "rotates", "bobs", "bounces", "stoops"} <= set(seen), seen


def test_an_etude_is_captioned_by_its_own_words() -> None:
    rng = np.random.default_rng(9)
    scenes = [dataclasses.replace(draw_scene(rng), motion="etude") for _ in range(300)]
    captions = [caption_for(s, rng).motion for s in scenes]
    own = [", ".join(etude(manner_of(s)[0])[1]) for s in scenes]
    assert 0.72 < np.mean([c.endswith(told) for c, told in zip(captions, own, strict=True)]) < 0.88
    assert [caption_for(s, np.random.default_rng(1)).motion for s in scenes[:20]] == [
        caption_for(dataclasses.replace(s, colour="red"), np.random.default_rng(1)).motion for s in scenes[:20]
    ]
