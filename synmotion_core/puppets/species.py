"""The cast: one function a species, each returning proportions and shapes as pure data.

A species is a `Species`: a `Build` (lengths in body heights, so that every motion fits every build) and
a tuple of `Shape`s pinned to the head, the torso or the pelvis. A shape lives in the 3-D frame of its
anchor (x to the puppet's left on screen right, y up, z towards the viewer), so that turning the puppet
moves eyes, muzzles and tails as it should and hides what is behind.

Adding a species is one decorated function; the renderer, the captions and the judge's labels follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Anchor = Literal["head", "torso", "pelvis"]
Kind = Literal["ellipse", "box", "triangle", "capsule"]
Tint = Literal["main", "dark", "light", "white", "ink", "skin", "hair", "orange", "metal", "pinkish"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One drawn piece. Units: the anchor's size (head radius, torso half-height, both = 1).

    `at` (x, y, z) is the centre for ellipse, box and triangle, the start for a capsule; `size` is (half
    width, half height), or (dx, dy) from start to end for a capsule, whose radius is `radius`.
    `face`: drawn only while its z side is turned to the viewer. `behind`: drawn before the anchor's body.
    `sway`: how far (degrees) it swings with the clip's own clock: tails and trunks live.
    """

    anchor: Anchor
    kind: Kind
    at: tuple[float, float, float] = (0.0, 0.0, 0.0)
    size: tuple[float, float] = (1.0, 1.0)
    radius: float = 0.2
    tint: Tint = "main"
    face: bool = False
    behind: bool = False
    turns: bool = True
    sway: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """Proportions in body heights (standing height is about 1)."""

    leg: float = 0.36  # hip to sole, two equal links
    arm: float = 0.34  # shoulder to hand, two equal links
    torso: float = 0.30  # pelvis to shoulders
    torso_width: float = 0.13  # half width of the torso
    torso_kind: Kind = "ellipse"
    shoulder: float = 0.125  # half distance of the shoulders
    hip: float = 0.07  # half distance of the hips
    neck: float = 0.02
    head: float = 0.17  # radius
    head_wide: float = 1.0  # width over height
    head_kind: Kind = "ellipse"
    limb: float = 0.048  # radius of arms and legs
    hand: float = 0.066
    foot: float = 0.068
    head_tint: Tint = "main"
    limb_tint: Tint = "main"
    leg_tint: Tint = "main"
    hand_tint: Tint = "main"
    foot_tint: Tint = "dark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Species:
    """A name, its `Build` and its `Shape`s, in drawing order."""

    name: str
    build: Build
    shapes: tuple[Shape, ...]


SPECIES: dict[str, Species] = {}


def species(make: Callable[[], Species]) -> Callable[[], Species]:
    """Register what the decorated function returns under its name."""
    made = make()
    if made.name in SPECIES:
        raise ValueError(f"species {made.name!r} is registered twice")
    SPECIES[made.name] = made
    return make


def _eyes(x: float = 0.38, y: float = 0.12, r: float = 0.17, z: float = 0.85, tint: Tint = "ink") -> tuple[Shape, ...]:
    return tuple(
        Shape(anchor="head", kind="ellipse", at=(side * x, y, z), size=(r, r * 1.2), tint=tint, face=True)
        for side in (-1, 1)
    )


def _pair(
    kind: Kind,
    x: float,
    y: float,
    z: float = 0.0,
    *,
    size: tuple[float, float],
    tint: Tint = "main",
    behind: bool = False,
    face: bool = False,
    radius: float = 0.2,
) -> tuple[Shape, ...]:
    return tuple(
        Shape(
            anchor="head",
            kind=kind,
            at=(s * x, y, z),
            size=(size[0] * (s if kind == "capsule" else 1), size[1]),
            tint=tint,
            behind=behind,
            face=face,
            radius=radius,
        )
        for s in (-1, 1)
    )


@species
def person() -> Species:
    """The reference subject: slim, coloured clothes, bare head and hands, dark hair."""
    build = Build(
        leg=0.44,
        torso=0.31,
        torso_width=0.105,
        torso_kind="box",
        head=0.135,
        head_tint="skin",
        hand_tint="skin",
        leg_tint="dark",
        foot_tint="ink",
        limb=0.05,
        hand=0.068,
    )
    hair = Shape(anchor="head", kind="ellipse", at=(0, 0.42, -0.15), size=(1.06, 0.72), tint="hair")
    fringe = Shape(anchor="head", kind="ellipse", at=(0, -0.12, 0.3), size=(0.78, 0.72), tint="skin", face=True)
    return Species(name="person", build=build, shapes=(hair, fringe, *_eyes(r=0.15, y=-0.02)))


@species
def cat() -> Species:
    """Pointed ears, a long raised tail."""
    ears = _pair("triangle", 0.62, 0.82, size=(0.42, 0.62), behind=True)
    inner = _pair("triangle", 0.62, 0.80, 0.1, size=(0.2, 0.34), tint="pinkish", face=True)
    tail = (
        Shape(
            anchor="pelvis",
            kind="capsule",
            at=(0.2, 0.1, -0.7),
            size=(1.5, 0.35),
            radius=0.24,
            tint="dark",
            behind=True,
            sway=10,
            turns=False,
        ),
        Shape(
            anchor="pelvis",
            kind="capsule",
            at=(1.7, 0.45, -0.7),
            size=(0.35, 1.3),
            radius=0.24,
            tint="dark",
            behind=True,
            sway=14,
            turns=False,
        ),
    )
    nose = Shape(anchor="head", kind="ellipse", at=(0, -0.25, 0.95), size=(0.34, 0.22), tint="white", face=True)
    return Species(
        name="cat",
        build=Build(torso_width=0.11, limb=0.05, hand_tint="white"),
        shapes=(*tail, *ears, *inner, nose, *_eyes(y=0.18)),
    )


@species
def bear() -> Species:
    """Massive: a wide belly, round ears, thick short limbs."""
    build = Build(
        leg=0.29,
        arm=0.33,
        torso=0.34,
        torso_width=0.205,
        shoulder=0.18,
        hip=0.10,
        head=0.18,
        head_wide=1.1,
        limb=0.066,
        hand=0.085,
        foot=0.085,
        hand_tint="dark",
    )
    ears = _pair("ellipse", 0.78, 0.78, size=(0.4, 0.4), behind=True, tint="dark")
    muzzle = Shape(anchor="head", kind="ellipse", at=(0, -0.3, 0.95), size=(0.5, 0.4), tint="light", face=True)
    nose = Shape(anchor="head", kind="ellipse", at=(0, -0.15, 1.05), size=(0.2, 0.15), tint="ink", face=True)
    belly = Shape(anchor="torso", kind="ellipse", at=(0, -0.15, 0.9), size=(0.72, 0.68), tint="light", face=True)
    return Species(name="bear", build=build, shapes=(*ears, belly, muzzle, nose, *_eyes(y=0.25, r=0.14)))


@species
def rabbit() -> Species:
    """Very long upright ears, a white tuft of a tail."""
    build = Build(head=0.145, torso=0.27, torso_width=0.125, leg=0.33, limb=0.05, hand_tint="light")
    ears = _pair("capsule", 0.4, 0.7, size=(0.22, 1.75), behind=True, radius=0.32)
    inner = _pair("capsule", 0.43, 0.9, 0.1, size=(0.17, 1.4), radius=0.14, tint="pinkish", face=True)
    tail = Shape(anchor="pelvis", kind="ellipse", at=(-1.1, 0.1, -0.8), size=(0.6, 0.6), tint="white", behind=True)
    cheeks = Shape(anchor="head", kind="ellipse", at=(0, -0.35, 0.9), size=(0.5, 0.32), tint="white", face=True)
    return Species(name="rabbit", build=build, shapes=(tail, *ears, *inner, cheeks, *_eyes(y=0.2)))


@species
def frog() -> Species:
    """A wide flat head under two bulging eyes, a short torso, long legs."""
    build = Build(
        leg=0.40,
        torso=0.24,
        torso_width=0.15,
        shoulder=0.14,
        hip=0.10,
        head=0.155,
        head_wide=1.65,
        neck=-0.03,
        limb=0.048,
        hand=0.078,
        foot=0.088,
        hand_tint="dark",
        foot_tint="light",
    )
    bulges = _pair("ellipse", 0.85, 0.95, 0.1, size=(0.5, 0.5))
    whites = _pair("ellipse", 0.88, 1.0, 0.5, size=(0.36, 0.36), tint="white", face=True)
    pupils = _pair("ellipse", 0.9, 1.0, 0.6, size=(0.18, 0.22), tint="ink", face=True)
    mouth = Shape(anchor="head", kind="ellipse", at=(0, -0.38, 0.9), size=(1.05, 0.14), tint="ink", face=True)
    belly = Shape(anchor="torso", kind="ellipse", at=(0, -0.1, 0.9), size=(0.62, 0.75), tint="light", face=True)
    return Species(name="frog", build=build, shapes=(belly, *bulges, *whites, *pupils, mouth))


@species
def robot() -> Species:
    """Boxes: a square head with an antenna and one visor, metal limbs."""
    build = Build(
        torso_kind="box",
        torso_width=0.16,
        torso=0.30,
        shoulder=0.175,
        hip=0.09,
        head=0.15,
        head_wide=1.2,
        head_kind="box",
        limb=0.05,
        limb_tint="metal",
        leg_tint="metal",
        hand_tint="ink",
        foot_tint="ink",
        hand=0.07,
        foot=0.075,
        neck=0.045,
    )
    antenna = Shape(anchor="head", kind="capsule", at=(0, 0.9, 0), size=(0, 0.75), radius=0.13, tint="metal")
    bulb = Shape(anchor="head", kind="ellipse", at=(0, 1.85, 0), size=(0.36, 0.36), tint="orange", turns=False)
    visor = Shape(anchor="head", kind="box", at=(0, 0.1, 1), size=(0.78, 0.34), tint="ink", face=True)
    lamps = _pair("ellipse", 0.4, 0.1, 1.1, size=(0.2, 0.22), tint="white", face=True)
    panel = Shape(anchor="torso", kind="box", at=(0, 0.05, 1), size=(0.62, 0.42), tint="metal", face=True)
    return Species(name="robot", build=build, shapes=(antenna, bulb, visor, *lamps, panel))


@species
def penguin() -> Species:
    """An egg with a white front, an orange beak and feet."""
    build = Build(
        leg=0.20,
        arm=0.34,
        torso=0.44,
        torso_width=0.205,
        shoulder=0.15,
        hip=0.09,
        head=0.165,
        neck=-0.04,
        limb=0.055,
        hand=0.06,
        hand_tint="dark",
        foot=0.09,
        foot_tint="orange",
        leg_tint="orange",
    )
    front = Shape(anchor="torso", kind="ellipse", at=(0, -0.12, 0.85), size=(0.72, 0.8), tint="white", face=True)
    mask = Shape(anchor="head", kind="ellipse", at=(0, -0.12, 0.8), size=(0.72, 0.62), tint="white", face=True)
    beak = Shape(anchor="head", kind="triangle", at=(0, -0.32, 1.15), size=(0.36, -0.36), tint="orange", face=True)
    return Species(name="penguin", build=build, shapes=(front, mask, beak, *_eyes(y=0.1, r=0.15)))


@species
def elephant() -> Species:
    """Fan ears wider than the shoulders, a swinging trunk, pillar legs."""
    build = Build(
        leg=0.31,
        arm=0.34,
        torso=0.32,
        torso_width=0.165,
        shoulder=0.16,
        hip=0.09,
        head=0.155,
        limb=0.06,
        hand=0.068,
        foot=0.078,
        foot_tint="light",
        hand_tint="light",
    )
    ears = _pair("ellipse", 1.25, 0.15, -0.1, size=(0.85, 1.05), tint="dark", behind=True)
    inner = _pair("ellipse", 1.28, 0.1, 0.0, size=(0.5, 0.66), tint="pinkish", behind=True)
    trunk = (
        Shape(anchor="head", kind="capsule", at=(0, -0.3, 1.0), size=(0, -1.0), radius=0.32, tint="light", sway=8),
        Shape(
            anchor="head", kind="capsule", at=(0, -1.3, 1.05), size=(0.35, -0.45), radius=0.26, tint="light", sway=14
        ),
    )
    return Species(name="elephant", build=build, shapes=(*ears, *inner, *trunk, *_eyes(x=0.5, y=0.2, r=0.14)))
