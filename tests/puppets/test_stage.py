"""The puppet world: deterministic, complete, with true ground truth, and rare motions kept out of pretraining."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from synmotion_core.puppets import blueprint, captions
from synmotion_core.puppets.captions import caption_for, draw_scene
from synmotion_core.puppets.kinematics import NUM_FRAMES
from synmotion_core.puppets.motions import COMMON, MOTIONS, RARE
from synmotion_core.puppets.species import SPECIES
from synmotion_core.puppets.stage import (
    BACKGROUNDS,
    COLOURS,
    JOINTS,
    PHASE,
    SIZE,
    TEMPO,
    Scene,
    manner_of,
    render,
)

THE_EIGHT = {"dance", "doublewave", "liftarm", "pray", "salute", "squat", "throw", "wave"}


def scene(**changes: object) -> Scene:
    return dataclasses.replace(
        Scene(species="person", colour="red", background="room", motion="wave", seed=3), **changes
    )


def test_the_world_is_as_large_as_promised() -> None:
    assert len(SPECIES) >= 8
    assert "person" in SPECIES
    assert len(COLOURS) == 8
    assert len(BACKGROUNDS) == 6
    assert len(COMMON) >= 12
    assert len(RARE) >= 12
    assert THE_EIGHT | {"clap", "punch", "spin", "handstand"} <= set(RARE)
    assert not set(COMMON) & set(RARE)
    assert [m.name for m in MOTIONS.values() if m.rarity == "other"] == ["moves", "etude"]


def test_a_scene_is_drawn_the_same_twice_and_another_seed_differs() -> None:
    first, again, other = render(scene()), render(scene()), render(scene(seed=4))
    for field in ("frames", "joints", "mask"):
        assert np.array_equal(getattr(first, field), getattr(again, field)), field
    assert not np.array_equal(first.frames, other.frames)


@pytest.mark.parametrize("species", SPECIES)
@pytest.mark.parametrize("motion", MOTIONS)
def test_every_species_does_every_motion(species: str, motion: str) -> None:
    show = render(scene(species=species, motion=motion, colour="blue", background="snow", seed=11))
    assert show.frames.shape == (NUM_FRAMES, SIZE, SIZE, 3)
    assert show.frames.dtype == np.uint8
    assert show.joints.shape == (NUM_FRAMES, len(JOINTS), 2)
    assert np.isfinite(show.joints).all()
    assert show.mask.shape == (NUM_FRAMES, SIZE, SIZE)
    assert show.mask.dtype == np.bool_
    covered = show.mask.mean((1, 2))
    assert ((covered > 0.05) & (covered < 0.6)).all(), covered
    # joints lie on the puppet: the torso always, hands and feet unless they leave the picture
    middle = np.round((show.joints[:, JOINTS.index("pelvis")] + show.joints[:, JOINTS.index("neck")]) / 2).astype(int)
    inside = ((middle >= 0) & (middle < SIZE)).all(1)
    assert inside.all()
    assert show.mask[np.arange(NUM_FRAMES), middle[:, 1], middle[:, 0]].all()
    tips = np.round(show.joints[:, [JOINTS.index(n) for n in ("hand_l", "hand_r", "foot_l", "foot_r")]] - 0.5).astype(
        int
    )
    seen = ((tips >= 1) & (tips < SIZE - 1)).all(-1)
    assert seen.mean() > 0.8
    frame = np.broadcast_to(np.arange(NUM_FRAMES)[:, None], seen.shape)
    assert show.mask[frame[seen], tips[seen][:, 1], tips[seen][:, 0]].mean() > 0.9


@pytest.mark.parametrize("motion", [m for m in MOTIONS if m not in ("stand", "moves", "etude")])
def test_a_motion_moves_and_standing_hardly_does(motion: str) -> None:
    def travel(name: str) -> float:
        joints = [render(scene(motion=name, seed=s)).joints for s in range(4)]
        return float(np.mean([np.ptp(j, axis=0).max() for j in joints]))

    assert travel(motion) > 3 * travel("stand")


def test_the_mask_is_where_the_puppet_is_drawn() -> None:
    red, teal = (render(scene(colour=c, motion="dance")) for c in ("red", "teal"))
    assert np.array_equal(red.mask, teal.mask)
    changed = (red.frames != teal.frames).any(-1)
    assert not (changed & ~red.mask).sum() > 0.35 * changed.sum()  # only the anti-aliased rim lies outside
    assert (changed & red.mask).sum() > 0.3 * red.mask.sum()


def test_clothes_have_the_named_colour() -> None:
    for colour, rgb in COLOURS.items():
        show = render(scene(species="bear", colour=colour, motion="stand"))
        pixels = show.frames[show.mask].astype(float)
        assert (np.abs(pixels - rgb).max(-1) < 30).mean() > 0.2, colour


def test_variation_in_size_place_and_tempo() -> None:
    shows = [render(scene(motion="walk", seed=s)) for s in range(24)]
    heights = [np.ptp(np.flatnonzero(s.mask[0].any(1))) for s in shows]
    assert np.ptp(heights) >= 3
    starts = [s.joints[0, 0, 0] for s in shows]
    assert min(starts) < SIZE / 2 < max(starts)  # some walk to the left, some to the right


def test_repeating_motions_begin_near_the_start_of_their_cycle() -> None:
    clocks = [manner_of(scene(seed=s))[0] for s in range(400)]
    phases, tempos = np.array([c.phase for c in clocks]), np.array([c.tempo for c in clocks])
    assert np.abs(phases).max() <= PHASE
    assert np.ptp(phases) > 1.9 * PHASE
    assert tempos.min() >= TEMPO[0]
    assert tempos.max() <= TEMPO[1]
    beats = np.array([c.wave(1.0)[-1] for c in clocks])  # two seconds later they have drifted apart
    assert np.ptp(beats) > 1.5
    heads = [render(scene(motion="squat", seed=s)).joints[:, JOINTS.index("head"), 1] for s in range(12)]
    for height in heads:  # upright at first, then down: y grows downwards
        assert height[:3].min() < height.min() + 4
        assert height.max() > height[:3].min() + 4


@pytest.mark.parametrize("motion", ["walk", "spin", "clap", "dance", "moves"])
def test_a_clip_may_begin_standing_still(motion: str) -> None:
    """The first frame is a standing puppet's, what comes after the onset is the motion where it does not travel."""
    own_scene = scene(species="rabbit", motion=motion, seed=11)
    standing, own = render(dataclasses.replace(own_scene, onset=0.5)), render(own_scene)
    still = render(dataclasses.replace(own_scene, motion="stand"))
    assert np.abs(standing.frames[0].astype(int) - still.frames[0]).max() <= 2
    assert np.abs(standing.joints[0] - own.joints[0]).max() > 2
    after = standing.joints[4:] - standing.joints[4:, :1], own.joints[4:] - own.joints[4:, :1]
    np.testing.assert_allclose(*after, atol=1e-3)
    if motion == "walk":
        ways = [np.ptp(show.joints[4:, 0, 0]) for show in (standing, own)]
        assert ways[0] == pytest.approx(0.6 * ways[1], rel=1e-3)
    assert np.array_equal(render(dataclasses.replace(own_scene, onset=0.0)).frames, own.frames)


@pytest.mark.parametrize(
    ("field", "table"), [("species", SPECIES), ("colour", COLOURS), ("background", BACKGROUNDS), ("motion", MOTIONS)]
)
def test_an_unknown_name_is_refused_with_the_choices(field: str, table: dict[str, object]) -> None:
    with pytest.raises(KeyError) as caught:
        render(scene(**{field: "zebra"}))
    message = str(caught.value)
    assert "zebra" in message
    assert field in message
    assert all(name in message for name in table)


def test_pretraining_never_draws_a_rare_motion_nor_its_words() -> None:
    rng = np.random.default_rng(0)
    verbs = {MOTIONS[name].verb for name in RARE}
    names = set()
    for _ in range(5_000):
        drawn = draw_scene(rng)
        names.add(drawn.motion)
        caption = caption_for(drawn, rng)
        assert caption.motion not in verbs, caption.text
        assert not any(f" {verb} " in f"{caption.text} " for verb in verbs), caption.text
    assert names == {*COMMON, "moves"}


def test_captions_name_what_is_drawn_in_several_phrasings() -> None:
    rng = np.random.default_rng(1)
    texts = [
        caption_for(scene(species="elephant", colour="orange", motion="walk", background="snow"), rng)
        for _ in range(60)
    ]
    told = MOTIONS["walk"].description  # or by what the limbs do (test_improvisation.py)
    assert all("elephant" in c.text and (c.motion == "walks" or c.motion.endswith(told)) for c in texts)
    assert 30 < sum(c.motion == "walks" for c in texts) < 55
    assert {c.subject for c in texts} == {"an elephant", "an orange elephant"}
    assert {c.place for c in texts} == {"", captions.PLACES["snow"]}
    assert len({c.prefix for c in texts}) == 3


def test_captions_fit_the_text_encoder() -> None:
    tokenizer = blueprint.llama_tokenizer(blueprint.corpus_of_captions())
    rng = np.random.default_rng(2)
    drawn = [caption_for(draw_scene(rng), rng).text for _ in range(5_000)]
    rare = [caption_for(draw_scene(rng, motions=RARE, other=0.0), rng).text for _ in range(1_000)]
    lengths = [len(ids) for ids in tokenizer(drawn + rare).input_ids]
    assert max(lengths) <= blueprint.MAX_SEQUENCE_LENGTH, (max(lengths), (drawn + rare)[int(np.argmax(lengths))])
