"""Clips that are nearly a motion: what the judge must tell from the real thing, and what a person would call each.

A `Variant` turns the `Pose` of a scene into another pose before it is drawn, and returns the clip with the names that
are fair for it: one for a clear case, several where people would disagree. "other" is the name of what has none.

    plain      the motion itself, amplitudes 0.8 to 1.15, joints a few degrees off: still that motion
    onset      the motion of one who stood still at first, as in a video from a picture: still that motion
    still      one frame held. At rest it may be called "stand"; anything else is "other", never a motion
    reversed   played backwards. What goes there and back keeps its name; what goes somewhere (sit, fall, liftarm,
               throw, handstand) or walks backwards (walk, run) is "other"; pray and salute may be called either
    scaled     every joint's way from rest times 0.35 to 0.6. Half of a gesture that is about where the hand goes is not
               that gesture: "other" (a salute at the chest, hands that pray below the belly). Half a sit is a crouch,
               half a fall leans: "other". A shallow bow or squat, a low jump, a small dance or clap may still get its
               name. 0.6 to 0.8: both answers
    limbs      the right programme on the wrong limb: arms' motion done by the legs and the other way round, a two-armed
               motion with one arm, a one-armed motion with both (both arms of "wave" may be "doublewave", one arm of
               that "wave")
    morph      the average of two motions' poses, or the first half of one and the second half of another: "other"
    chaos      frames in random order ("other", but for what repeats: a shuffled wave may be called "wave"), frames of
               unrelated clips, an empty stage, plain noise: "other"
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from synmotion_core.puppets import stage
from synmotion_core.puppets.kinematics import NUM_FRAMES, Array, Clock, Pose
from synmotion_core.puppets.motions import MOTIONS, ONSET, out_of_standing
from synmotion_core.puppets.stage import SIZE, Performance, Scene, Setting, draw, manner_of

OTHER = "other"
STILL_NAMES = frozenset({"stand", OTHER})

# ------------------------------------------------------------------------------------------ which motions, changed how
GOES_SOMEWHERE = frozenset(
    {"walk", "run", "sit", "fall", "liftarm", "throw", "handstand"}
)  # reversed: visibly another thing
HELD = frozenset({"pray", "salute"})  # reversed: both answers are fair
ONE_WAY = GOES_SOMEWHERE | HELD | {"bow", "turn"}  # in random order: not that; a shuffled wave is still a sort of wave
SMALL_IS_ANOTHER = frozenset(  # scaled to about a half: no longer that gesture
    {"sit", "fall", "wave", "doublewave", "liftarm", "pray", "salute", "throw", "punch", "handstand"}
)
ARMS_TO_LEGS = (
    "wave",
    "doublewave",
    "liftarm",
    "pray",
    "salute",
    "throw",
    "clap",
    "punch",
    "flap",
    "kick",
    "squat",
    "sit",
    "march",
)
ONE_OF_TWO = ("doublewave", "clap", "pray", "flap", "squat")
TWO_OF_ONE = ("wave", "liftarm", "salute", "kick")
ALIKE = (
    {"walk", "run", "march"},
    {"wave", "doublewave"},
    {"jump", "hop"},
    {"clap", "pray"},
    {"stand", "turn"},
    {"fall", "handstand"},
)


# ------------------------------------------------------------------------------------------ pose -> pose


def _map(pose: Pose, change: Callable[[str, Array], Array]) -> Pose:
    return Pose(**{f.name: change(f.name, getattr(pose, f.name)) for f in dataclasses.fields(pose)})


def reverse(pose: Pose) -> Pose:
    """Played backwards."""
    return _map(pose, lambda name, v: v[:, ::-1] if v.ndim == 3 else v[::-1])


def hold(pose: Pose, step: int) -> Pose:
    """One frame for the whole clip."""
    return _map(pose, lambda name, v: np.repeat(v[..., step : step + 1, :], v.shape[-2], axis=-2) if v.ndim == 3
                else np.full_like(v, v[step]))  # fmt: skip


def scale(pose: Pose, clock: Clock, factor: float) -> Pose:
    """Every value's way from rest times `factor`; the yaw's, from its mean over the clip (the view stays)."""
    rest = clock.pose()

    def change(name: str, v: Array) -> Array:
        base = np.full_like(v, v.mean()) if name == "yaw" else getattr(rest, name)
        return base + (v - base) * factor

    return _map(pose, change)


def swap_limbs(pose: Pose, clock: Clock) -> Pose:
    """What the arms did the legs do, and the other way round."""
    rest = clock.pose()
    return dataclasses.replace(pose, arms=rest.arms + (pose.legs - rest.legs), legs=rest.legs + (pose.arms - rest.arms))


def one_side(pose: Pose, clock: Clock, side: int) -> Pose:
    """The arm and leg of the other side hang at rest."""
    rest = clock.pose()
    arms, legs = pose.arms.copy(), pose.legs.copy()
    arms[1 - side], legs[1 - side] = rest.arms[1 - side], rest.legs[1 - side]
    return dataclasses.replace(pose, arms=arms, legs=legs)


def both_sides(pose: Pose, side: int) -> Pose:
    """The leading side's arm and leg on both sides."""
    return dataclasses.replace(pose, arms=np.stack([pose.arms[side]] * 2), legs=np.stack([pose.legs[side]] * 2))


def blend(a: Pose, b: Pose, weight: Array | float) -> Pose:
    """(1 - weight) a + weight b, weight a number or one a frame."""
    w = np.zeros(NUM_FRAMES) + weight
    return _map(a, lambda name, v: v + (getattr(b, name) - v) * (w[:, None] if v.ndim == 3 else w))


def wobble(pose: Pose, rng: np.random.Generator, degrees: float) -> Pose:
    """Smooth random errors of about `degrees` on every joint: somebody doing the motion not quite by the book."""
    t = np.linspace(0, 1, NUM_FRAMES)

    def drift(shape: tuple[int, ...]) -> Array:
        f, p = rng.uniform(0.2, 2.5, shape), rng.uniform(0, 2 * np.pi, shape)
        return degrees * rng.normal(size=shape) * np.sin(2 * np.pi * f * t.reshape(-1, *[1] * len(shape)) + p)

    def change(name: str, v: Array) -> Array:
        if v.ndim == 3:
            return v + np.stack([drift((4,)) for _ in range(2)])
        return v + drift(()) * (0.4 if name in ("bend", "lean", "tilt", "nod", "yaw") else 0.0)

    return _map(pose, change)


def stillness(pose: Pose, clock: Clock) -> float:
    """How far the pose ever is from standing at rest, in degrees (a body height of shift counts 300)."""
    rest = clock.pose()
    limbs = max(np.abs(pose.arms - rest.arms).max(), np.abs(pose.legs - rest.legs).max())
    trunk = max(np.abs(v).max() for v in (pose.bend, pose.lean, pose.tilt, pose.nod, pose.roll))
    root = 300 * max(np.ptp(pose.x), np.abs(pose.up).max())
    return float(max(limbs, trunk, root, np.ptp(pose.yaw)))


# ------------------------------------------------------------------------------------------ variants


@dataclass(frozen=True, slots=True)
class Take:
    """A clip, the scene it was made from, the fair names for its motion, and whether a puppet is in it.

    Without one, species and colour mean nothing.
    """

    scene: Scene
    performance: Performance
    names: frozenset[str]
    kind: str
    puppet: bool = True


Variant = Callable[[Scene, np.random.Generator], Take]


def label_of(motion: str) -> str:
    """A motion's own name, "other" for the nameless."""
    return OTHER if MOTIONS[motion].rarity == "other" else motion


def _own(scene: Scene) -> tuple[Pose, Clock, Setting]:
    clock, setting = manner_of(scene)
    return MOTIONS[scene.motion].perform(clock), clock, setting


def plain(scene: Scene, rng: np.random.Generator) -> Take:
    """The scene as it is."""
    pose, clock, setting = _own(scene)
    names = frozenset({label_of(scene.motion)})
    if scene.motion == "moves" and stillness(pose, clock) < 16:
        names = STILL_NAMES  # `moves` that hardly moves
    return Take(scene, draw(scene, pose, clock, setting), names, "plain")


def sloppy(scene: Scene, rng: np.random.Generator) -> Take:
    """The motion, a little larger or smaller, joints a few degrees off."""
    pose, clock, setting = _own(scene)
    pose = wobble(scale(pose, clock, rng.uniform(0.82, 1.12)), rng, rng.uniform(0, 6))
    return Take(scene, draw(scene, pose, clock, setting), frozenset({label_of(scene.motion)}), "sloppy")


def onset(scene: Scene, rng: np.random.Generator) -> Take:
    """The motion out of standing still, its pace and amplitude as designed."""
    pose, clock, setting = _own(scene)
    pose = out_of_standing(pose, clock, float(rng.uniform(*ONSET)))
    return Take(scene, draw(scene, pose, clock, setting), frozenset({label_of(scene.motion)}), "onset")


def still(scene: Scene, rng: np.random.Generator) -> Take:
    """One frame of the motion, held."""
    pose, clock, setting = _own(scene)
    pose = hold(pose, int(rng.integers(NUM_FRAMES)))
    if rng.random() < 0.5:  # without even the tail's swing
        clock = dataclasses.replace(clock, t=np.zeros_like(clock.t))
    if scene.motion == "stand":
        names = frozenset({"stand"})
    else:
        names = STILL_NAMES if stillness(pose, clock) < 30 else frozenset({OTHER})
    return Take(scene, draw(scene, pose, clock, setting), names, "still")


def reversed_(scene: Scene, rng: np.random.Generator) -> Take:
    """Played backwards."""
    pose, clock, setting = _own(scene)
    name = label_of(scene.motion)
    names = {OTHER} if name in GOES_SOMEWHERE else {name, OTHER} if name in HELD else {name}
    return Take(scene, draw(scene, reverse(pose), clock, setting), frozenset(names), "reversed")


def scaled(scene: Scene, rng: np.random.Generator, factor: float | None = None) -> Take:
    """Amplitudes of 0.35 to 0.8, or `factor`."""
    pose, clock, setting = _own(scene)
    name = label_of(scene.motion)
    factor = float(rng.uniform(0.35, 0.8) if factor is None else factor)
    names = {OTHER} if name in SMALL_IS_ANOTHER and factor <= 0.6 else {name, OTHER}
    if name == "stand":
        names = {"stand"}
    names |= {"run": {"walk"}, "dance": {"sway"}, "handstand": {"fall"}}.get(
        name, set()
    )  # half upside down lies on the ground
    pose = scale(pose, clock, factor)
    if name != "stand" and stillness(pose, clock) < 16:
        names |= STILL_NAMES
    return Take(scene, draw(scene, pose, clock, setting), frozenset(names), "scaled")


def limbs(scene: Scene, rng: np.random.Generator) -> Take:
    """The wrong limb. The scene's motion is kept if a wrong limb makes sense for it, else one is drawn."""
    ways = [
        (way, n) for way, group in (("swap", ARMS_TO_LEGS), ("one", ONE_OF_TWO), ("both", TWO_OF_ONE)) for n in group
    ]
    own = [w for w in ways if w[1] == scene.motion]
    way, name = (own or ways)[int(rng.integers(len(own or ways)))]
    scene = dataclasses.replace(scene, motion=name)
    pose, clock, setting = _own(scene)
    names = {OTHER}
    if way == "swap":
        pose = swap_limbs(pose, clock)
    elif way == "one":
        pose = one_side(pose, clock, clock.side)
        names |= {"wave"} if name == "doublewave" else set()
    else:
        pose = both_sides(pose, clock.side)
        names |= {"doublewave"} if name == "wave" else set()
    return Take(scene, draw(scene, pose, clock, setting), frozenset(names), f"limbs:{way}:{name}")


def morph(scene: Scene, rng: np.random.Generator) -> Take:
    """The average of two motions, or one and then the other."""
    pose, clock, setting = _own(scene)
    close = {scene.motion, "stand", "moves"}.union(*(group for group in ALIKE if scene.motion in group))
    choices = [n for n in MOTIONS if n not in close]
    second = MOTIONS[str(rng.choice(choices))].perform(clock)
    if scene.motion == "stand":
        pose = MOTIONS["moves"].perform(clock)
    if rng.random() < 0.4:
        weight: Array | float = float(rng.uniform(0.42, 0.58))
    else:
        middle = rng.uniform(0.85, 1.15)
        u = np.clip((clock.t - middle) / 0.4 + 0.5, 0, 1)
        weight = u * u * (3 - 2 * u)
    return Take(scene, draw(scene, blend(pose, second, weight), clock, setting), frozenset({OTHER}), "morph")


def chaos(scene: Scene, rng: np.random.Generator) -> Take:
    """Frames in random order, of unrelated clips, an empty stage, noise."""
    way = rng.choice(["shuffled", "cuts", "empty", "noise"], p=[0.4, 0.3, 0.15, 0.15])
    pose, clock, setting = _own(scene)
    shown = draw(scene, pose, clock, setting)
    frames, joints, mask = shown.frames, shown.joints, shown.mask
    if way == "shuffled":
        order = rng.permutation(NUM_FRAMES)
        names = {OTHER} if scene.motion in ONE_WAY else {label_of(scene.motion), OTHER}
        names |= STILL_NAMES if stillness(pose, clock) < 16 else set()
        return Take(scene, Performance(frames[order], joints[order], mask[order]), frozenset(names), "chaos:shuffled")
    if way == "cuts":
        poses = [MOTIONS[str(n)].perform(clock) for n in rng.choice(list(MOTIONS), 6)]
        picks = rng.integers(6, size=NUM_FRAMES)

        def cut_of(name: str, v: Array) -> Array:
            parts = [getattr(poses[p], name) for p in picks]
            if v.ndim == 3:
                return np.stack([part[:, i] for i, part in enumerate(parts)], axis=1)
            return np.stack([part[i] for i, part in enumerate(parts)])

        cut = _map(pose, cut_of)
        return Take(scene, draw(scene, cut, clock, setting), frozenset({OTHER}), "chaos:cuts")
    if way == "empty":
        backdrop = stage._backdrop(scene.background, setting.backdrop)[..., :3]
        frames[:] = cv2.resize(backdrop, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    else:
        cell = int(rng.choice([1, 2, 4, 8]))
        coarse = rng.integers(0, 256, (NUM_FRAMES, SIZE // cell, SIZE // cell, 3), np.uint8)
        frames = np.ascontiguousarray(coarse.repeat(cell, 1).repeat(cell, 2))
    return Take(
        scene, Performance(frames, joints, np.zeros_like(mask)), frozenset({OTHER}), f"chaos:{way}", puppet=False
    )


VARIANTS: dict[str, Variant] = {
    "plain": plain, "sloppy": sloppy, "onset": onset, "still": still, "reversed": reversed_, "scaled": scaled,
    "limbs": limbs, "morph": morph, "chaos": chaos,
}  # fmt: skip
