"""The renderer: a `Scene` becomes 17 frames of 64x64 RGB with ground truth. Deterministic in its seed.

Kinematics: a 3-D skeleton of 13 joints under orthographic projection. A limb link at angles (out, forward)
points along  d = (s sin(out), -cos(out) cos(forward), cos(out) sin(forward)),  s = -1 | +1 for the side; torso, head,
yaw and roll are rotations applied on top, and the lowest contact point is put on the ground. So a squat lowers
the pelvis and a handstand stands on its hands without either saying so.

Drawing: OpenCV at twice the size, anti-aliased, then area down-sampling. Far limbs are drawn first and darker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from synmotion_core.puppets.hybrids import HYBRID, hybrid
from synmotion_core.puppets.kinematics import FPS, NUM_FRAMES, Array, Clock, Pose, direction
from synmotion_core.puppets.motions import MOTIONS, out_of_standing
from synmotion_core.puppets.species import SPECIES, Shape, Species, Tint

SIZE = 64
PHASE = np.pi / 4  # a clip's cycle begins within so many radians of its start
TEMPO = (0.93, 1.08)
_SCALE = 2  # super-sampling
_SHIFT = 4  # fractional bits of OpenCV's coordinates

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (242, 132, 24),
    "yellow": (246, 214, 50),
    "green": (56, 160, 60),
    "teal": (32, 178, 186),
    "blue": (46, 86, 214),
    "purple": (130, 56, 176),
    "pink": (242, 120, 178),
}
BACKGROUNDS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {  # wall, floor
    "room": ((226, 214, 196), (150, 120, 96)),
    "meadow": ((206, 226, 236), (150, 178, 128)),
    "beach": ((222, 236, 240), (224, 204, 158)),
    "snow": ((192, 202, 220), (240, 243, 248)),
    "night": ((66, 70, 104), (50, 50, 62)),
    "street": ((122, 124, 130), (84, 84, 90)),
}
_FIXED: dict[str, tuple[int, int, int]] = {
    "white": (250, 250, 250),
    "ink": (26, 24, 28),
    "skin": (240, 200, 168),
    "hair": (66, 42, 30),
    "orange": (250, 150, 30),
    "metal": (150, 156, 164),
    "pinkish": (250, 196, 200),
}
JOINTS: tuple[str, ...] = (
    "pelvis",
    "neck",
    "head",
    "shoulder_l",
    "elbow_l",
    "hand_l",
    "shoulder_r",
    "elbow_r",
    "hand_r",
    "knee_l",
    "foot_l",
    "knee_r",
    "foot_r",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything a clip depends on. Unknown names raise KeyError in `render` with the choices.

    onset: seconds in which the puppet comes out of standing still; 0 for one that is in its motion from the start.

    >>> Scene(species="cat", colour="red", background="snow", motion="walk", seed=7).species
    'cat'
    """

    species: str
    colour: str
    background: str
    motion: str
    seed: int
    onset: float = 0.0


@dataclass(frozen=True, slots=True)
class Performance:
    """frames uint8 [17, 64, 64, 3]; joints float32 [17, 13, 2], (x, y) pixels as JOINTS; mask bool [17, 64, 64]."""

    frames: NDArray[np.uint8]
    joints: NDArray[np.float32]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a scene's seed decides besides the clock."""

    unit: float  # body height, pixels
    origin: tuple[float, float]  # where the ground point is, pixels
    tint: tuple[int, int, int]
    sway_phase: float  # of tails and ears, radians
    backdrop: int  # which of a background's variants


def _choose(table: dict, name: str, what: str):
    if name not in table:
        raise KeyError(f"{what} {name!r} is not in the world; it has {', '.join(table)}")
    return table[name]


def _rotate(axis: int, degrees: Array) -> Array:
    """Rotation matrices [T, 3, 3] about one axis."""
    a = np.radians(degrees)
    c, s = np.cos(a), np.sin(a)
    matrix = np.zeros((*a.shape, 3, 3))
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    matrix[..., axis, axis] = 1
    matrix[..., i, i], matrix[..., j, j] = c, c
    matrix[..., i, j], matrix[..., j, i] = -s, s
    return matrix


def _apply(matrix: Array, vector: Array) -> Array:
    return np.einsum("tij,tj->ti", matrix, np.broadcast_to(vector, (len(matrix), 3)))


@dataclass(frozen=True, slots=True)
class _Figure:
    """A posed skeleton in body heights: joints [T, 13, 3], and the frames its shapes are pinned to."""

    joints: Array
    head_frame: Array  # [T, 3, 3]
    torso_frame: Array
    body_frame: Array


def solve(pose: Pose, species: Species) -> _Figure:
    """Forward kinematics, then ground contact."""
    b = species.build
    steps = len(pose.x)
    torso = _rotate(2, -pose.lean) @ _rotate(0, pose.bend)
    head = torso @ _rotate(2, -pose.tilt) @ _rotate(0, pose.nod)
    points: dict[str, Array] = {"pelvis": np.zeros((steps, 3))}
    points["neck"] = _apply(torso, np.array([0, b.torso, 0]))
    points["head"] = points["neck"] + _apply(head, np.array([0, b.neck + b.head, 0]))
    for index, (side, label) in enumerate(((-1.0, "l"), (1.0, "r"))):
        shoulder = points["neck"] + _apply(torso, np.array([side * b.shoulder, -0.035, 0]))
        arm, leg = pose.arms[index], pose.legs[index]
        elbow = shoulder + _apply_each(torso, direction(arm[:, 0], arm[:, 1], side)) * (b.arm / 2)
        hand = elbow + _apply_each(torso, direction(arm[:, 2], arm[:, 3], side)) * (b.arm / 2)
        hip = np.array([side * b.hip, 0, 0])
        knee = hip + direction(leg[:, 0], leg[:, 1], side) * (b.leg / 2)
        foot = knee + direction(leg[:, 2], leg[:, 3], side) * (b.leg / 2)
        points |= {
            f"shoulder_{label}": shoulder,
            f"elbow_{label}": elbow,
            f"hand_{label}": hand,
            f"knee_{label}": knee,
            f"foot_{label}": foot,
        }
    body = _rotate(2, -pose.roll) @ _rotate(1, pose.yaw)
    joints = np.stack([_apply_each(body, points[name]) for name in JOINTS], axis=1)
    radii = np.array([b.torso_width, 0, b.head, 0, b.limb, b.hand, 0, b.limb, b.hand, b.limb, b.foot, b.limb, b.foot])
    turned = np.abs(np.sin(np.radians(pose.roll) / 2)) > 0.55  # past about 67 degrees hands and head carry too
    lowest = joints[:, :, 1] - radii
    carries = np.isin(np.array(JOINTS), ["pelvis", "knee_l", "knee_r", "foot_l", "foot_r"])
    ground = np.where(turned, lowest.min(axis=1), lowest[:, carries].min(axis=1))
    ground = np.minimum(ground, np.where(turned, ground, lowest[:, carries].min(axis=1)))
    joints[:, :, 1] += (pose.up - ground)[:, None]
    joints[:, :, 0] += pose.x[:, None]
    return _Figure(joints=joints, head_frame=body @ head, torso_frame=body @ torso, body_frame=body)


def _apply_each(matrix: Array, vectors: Array) -> Array:
    return np.einsum("tij,tj->ti", matrix, vectors)


def _shade(colour: Sequence[float], factor: float) -> tuple[float, float, float, float]:
    r, g, b = (min(255.0, c * factor) for c in colour[:3])
    return (r, g, b, 255.0)


def _blend(a: Sequence[float], b: Sequence[float], weight: float) -> tuple[float, ...]:
    return tuple(x + (y - x) * weight for x, y in zip(a, b, strict=True))


class _Pen:
    """Draws in body heights onto one RGBA frame; alpha marks the puppet."""

    def __init__(self, image: NDArray[np.uint8], unit: float, origin: tuple[float, float]) -> None:
        self.image, self.unit, self.origin = image, unit, origin

    def _px(self, point: Array) -> tuple[int, int]:
        x = (self.origin[0] + point[0] * self.unit) * _SCALE
        y = (self.origin[1] - point[1] * self.unit) * _SCALE
        return round((x - 0.5) * (1 << _SHIFT)), round((y - 0.5) * (1 << _SHIFT))

    def _len(self, length: float) -> int:
        return max(1, round(abs(length) * self.unit * _SCALE * (1 << _SHIFT)))

    def ellipse(self, centre: Array, half_w: float, half_h: float, degrees: float, tint) -> None:
        axes = (self._len(half_w), self._len(half_h))
        cv2.ellipse(self.image, self._px(centre), axes, degrees, 0, 360, tint, -1, cv2.LINE_AA, _SHIFT)

    def polygon(self, points: Sequence[Array], tint) -> None:
        cv2.fillPoly(self.image, [np.array([self._px(p) for p in points], np.int32)], tint, cv2.LINE_AA, _SHIFT)

    def capsule(self, start: Array, end: Array, radius: float, tint, end_radius: float | None = None) -> None:
        last = radius if end_radius is None else end_radius
        along = np.asarray(end[:2]) - np.asarray(start[:2])
        normal = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6)
        if float(np.hypot(*along)) > 1e-4:
            self.polygon(
                [
                    start[:2] + normal * radius,
                    end[:2] + normal * last,
                    end[:2] - normal * last,
                    start[:2] - normal * radius,
                ],
                tint,
            )
        self.ellipse(start, radius, radius, 0, tint)
        self.ellipse(end, last, last, 0, tint)


def _tint(name: Tint, main: tuple[int, int, int]) -> tuple[float, float, float, float]:
    if name == "main":
        return _shade(main, 1.0)
    if name == "dark":
        return _shade(main, 0.62)
    if name == "light":
        return _shade(_blend(main, (255, 255, 255), 0.55), 1.0)
    return _shade(_FIXED[name], 1.0)


def _draw_shape(
    pen: _Pen, shape: Shape, anchor: Array, frame: Array, size: tuple[float, float], main, sway: float
) -> None:
    scale = np.array([size[0], size[1], min(size)])
    local = np.array(shape.at) * scale
    if shape.face:
        toward = frame @ np.array([shape.at[0] * 0.6, shape.at[1] * 0.6, max(shape.at[2], 0.3)])
        if toward[2] < 0.05:
            return
    centre = anchor + frame @ local
    # the anchor's x axis seen from the front shortens when the puppet turns: pieces on the face shorten with it
    across = float(np.hypot(frame[0, 0], frame[1, 0]))
    across = max(across, 0.35) if shape.turns else 1.0
    up = frame[:2, 1]
    degrees = float(np.degrees(np.arctan2(up[0], up[1])))
    tint = _tint(shape.tint, main)
    if shape.kind == "ellipse":
        pen.ellipse(centre, shape.size[0] * size[0] * across, shape.size[1] * size[1], degrees, tint)
    elif shape.kind == "capsule":
        swing = np.radians(sway * shape.sway)
        dx, dy = shape.size[0] * size[0], shape.size[1] * size[1]
        vector = np.array([dx * np.cos(swing) - dy * np.sin(swing), dx * np.sin(swing) + dy * np.cos(swing), 0])
        radius = shape.radius * min(size)
        pen.capsule(centre, centre + frame @ vector, radius, tint, radius * 0.8)
    else:
        right = np.array([up[1], -up[0]]) * shape.size[0] * size[0] * across
        rise = up * shape.size[1] * size[1]
        middle = centre[:2]
        if shape.kind == "box":
            pen.polygon(
                [middle - right - rise, middle + right - rise, middle + right + rise, middle - right + rise], tint
            )
        else:
            pen.polygon([middle - right - rise, middle + right - rise, middle + rise], tint)


def _body(pen: _Pen, kind: str, centre: Array, frame: Array, half_w: float, half_h: float, tint) -> None:
    across = max(float(np.hypot(frame[0, 0], frame[1, 0])), 0.72)
    up = frame[:2, 1]
    rise_len = max(float(np.hypot(*up)), 0.55)
    degrees = float(np.degrees(np.arctan2(up[0], up[1])))
    if kind == "ellipse":
        pen.ellipse(centre, half_w * across, half_h * rise_len, degrees, tint)
        return
    unit = up / max(float(np.hypot(*up)), 1e-6)
    right = np.array([unit[1], -unit[0]]) * half_w * across
    rise = unit * half_h * rise_len
    c = centre[:2]
    pen.polygon([c - right - rise, c + right - rise, c + right + rise, c - right + rise], tint)


def _draw_frame(pen: _Pen, figure: _Figure, step: int, cast: Species, main: tuple[int, int, int], sway: float) -> None:
    b = cast.build
    joint: dict[str, Array] = dict(zip(JOINTS, figure.joints[step], strict=True))
    head_frame, torso_frame, body_frame = figure.head_frame[step], figure.torso_frame[step], figure.body_frame[step]
    head_size = (b.head * b.head_wide, b.head)
    torso_half = b.torso / 2 + 0.02
    middle = (joint["pelvis"] + joint["neck"]) / 2
    anchors = {
        "head": (joint["head"], head_frame, head_size),
        "torso": (middle, torso_frame, (b.torso_width, torso_half)),
        "pelvis": (joint["pelvis"], body_frame, (0.13, 0.13)),
    }

    def shapes(anchor: str, behind: bool) -> None:
        place, frame, size = anchors[anchor]
        facing_away = frame[2, 2] < -0.1
        for shape in cast.shapes:
            # what hangs behind the puppet comes to the front when its back is turned to the viewer
            if shape.anchor == anchor and (shape.behind and not (facing_away and shape.anchor == "pelvis")) == behind:
                _draw_shape(pen, shape, place, frame, size, main, sway)

    def limb(kind: str, label: str, far: float) -> None:
        first, middle_, last = ("shoulder", "elbow", "hand") if kind == "arm" else ("hip", "knee", "foot")
        index = 0 if label == "l" else 1
        root = (
            joint[f"{first}_{label}"]
            if kind == "arm"
            else joint["pelvis"] + body_frame @ np.array([(-1, 1)[index] * b.hip, 0, 0])
        )
        tint = _tint(b.limb_tint if kind == "arm" else b.leg_tint, main)
        end = _tint(b.hand_tint if kind == "arm" else b.foot_tint, main)
        shade = (0.86 if kind == "arm" else 0.94) - 0.2 * far
        end = end if far == 0 else _shade(end, 1 - 0.2 * far)
        tint = _shade(tint, shade)
        radius = b.limb * (1.0 if kind == "arm" else 1.12)
        pen.capsule(root, joint[f"{middle_}_{label}"], radius, tint)
        pen.capsule(joint[f"{middle_}_{label}"], joint[f"{last}_{label}"], radius, tint, radius * 0.92)
        tip = joint[f"{last}_{label}"]
        if kind == "arm":
            pen.ellipse(tip, b.hand, b.hand, 0, end)
        else:  # a foot points where the puppet faces, along the ground of its own frame
            toe = body_frame @ np.array([(-0.25, 0.25)[index] * b.foot, 0.0, 0.7 * b.foot])
            pen.capsule(tip, tip + toe, b.foot * 0.8, end)

    parts: list[tuple[float, str, str]] = []
    for kind, last in (("arm", "elbow"), ("leg", "knee")):
        for label in ("l", "r"):
            parts.append((joint[f"{last}_{label}"][2] + (0.05 if kind == "arm" else 0.0), kind, label))
    turned = abs(float(body_frame[0, 2]))  # 1 seen from the side, where one arm and leg are far
    parts.sort()
    for anchor in ("pelvis", "torso"):
        shapes(anchor, behind=True)
    behind = [p for p in parts if p[0] < -0.02]
    before = [p for p in parts if p[0] >= -0.02]
    for _, kind, label in behind:
        limb(kind, label, 1.0 if turned > 0.4 else 0.5)
    for _, kind, label in before:
        if kind == "leg":
            limb(kind, label, 0.0)
    shapes("head", behind=True)
    neck = _tint(b.head_tint, main)
    pen.capsule(joint["neck"], joint["head"], b.limb, neck)
    _body(pen, b.torso_kind, middle, torso_frame, b.torso_width, torso_half, _tint("main", main))
    shapes("torso", behind=False)
    _body(pen, b.head_kind, joint["head"], head_frame, head_size[0], head_size[1], _tint(b.head_tint, main))
    shapes("head", behind=False)
    shapes("pelvis", behind=False)
    for _, kind, label in before:
        if kind == "arm":
            limb(kind, label, 0.0)


@lru_cache(maxsize=64)
def _backdrop(name: str, variant: int) -> NDArray[np.uint8]:
    """RGBA at drawing size, alpha 0. Three variants a background."""
    wall, floor = _choose(BACKGROUNDS, name, "background")
    side = SIZE * _SCALE
    image = np.zeros((side, side, 4), np.uint8)
    horizon = int(side * (0.74, 0.78, 0.82)[variant])
    ramp = np.linspace(0.94, 1.05, horizon)[:, None, None]
    image[:horizon, :, :3] = np.clip(np.array(wall) * ramp, 0, 255)
    image[horizon:, :, :3] = np.clip(np.array(floor) * np.linspace(0.92, 1.06, side - horizon)[:, None, None], 0, 255)
    at = (int(side * (0.16, 0.84, 0.5)[variant]), int(side * 0.15))
    soft = tuple(float(c) for c in (*_blend(wall, (255, 255, 255), 0.45), 0))
    deep = tuple(float(c) for c in (*_blend(wall, floor, 0.45), 0))
    if name in ("meadow", "beach", "night"):
        cv2.circle(image, at, side // 12, soft, -1, cv2.LINE_AA)
    if name == "room":
        cv2.rectangle(image, (at[0] - 14, at[1] - 8), (at[0] + 14, at[1] + 22), soft, -1)
    if name == "snow":
        cv2.fillPoly(image, [np.array([[at[0] - 40, horizon], [at[0], horizon - 44], [at[0] + 40, horizon]])], soft)
    if name == "street":
        for offset in (-44, -8, 28):
            cv2.rectangle(image, (at[0] + offset, horizon - 70), (at[0] + offset + 22, horizon), deep, -1)
    image[..., 3] = 0
    return image


def cast_of(scene: Scene) -> Species:
    """Who performs: the species, or the hybrid of the scene's seed."""
    return hybrid(scene.seed) if scene.species == HYBRID else _choose(SPECIES, scene.species, "species")


def manner_of(scene: Scene) -> tuple[Clock, Setting]:
    """What the scene's seed decides: the performance's clock, and size, place and shade.

    Repeating motions begin near the start of their cycle, where a person who is asked for one begins, and keep their
    tempo within 8 %: that moves a beat of one a second by at most a third of a cycle over the clip's two seconds. With
    any phase, the clips of one motion have nothing in common at a given frame; a small denoiser then spends its
    training on which of the phases it is, and a dozen clips show a method a smear.
    """
    rng = np.random.default_rng((scene.seed, 0x5EED))
    clock = Clock(
        t=np.arange(NUM_FRAMES) / FPS,
        build=cast_of(scene).build,
        tempo=float(rng.uniform(*TEMPO)),
        phase=float(rng.uniform(-PHASE, PHASE)),
        amount=float(rng.uniform(0.9, 1.1)),
        side=int(rng.integers(2)),
        facing=float(rng.choice([-1.0, 1.0])),
        view=float(rng.uniform(-22, 22)),
        rng=np.random.default_rng((scene.seed, 0xA11)),
    )
    unit = float(rng.uniform(41, 45))
    origin = (SIZE * float(rng.uniform(0.46, 0.54)), SIZE * float(rng.uniform(0.92, 0.955)))
    tone = np.clip(np.array(_choose(COLOURS, scene.colour, "colour")) * rng.uniform(0.93, 1.07, 3), 0, 255)
    tint = (int(tone[0]), int(tone[1]), int(tone[2]))
    return clock, Setting(unit, origin, tint, float(rng.uniform(0, 2 * np.pi)), int(rng.integers(3)))


def draw(scene: Scene, pose: Pose, clock: Clock, setting: Setting) -> Performance:
    """Draw a given pose in the scene's setting."""
    cast = cast_of(scene)
    backdrop = _backdrop(scene.background, setting.backdrop)
    figure = solve(pose, cast)
    frames = np.empty((NUM_FRAMES, SIZE, SIZE, 3), np.uint8)
    mask = np.empty((NUM_FRAMES, SIZE, SIZE), np.bool_)
    for step in range(NUM_FRAMES):
        image = backdrop.copy()
        swing = np.sin(setting.sway_phase + 2 * np.pi * 0.7 * clock.t[step])
        _draw_frame(_Pen(image, setting.unit, setting.origin), figure, step, cast, setting.tint, swing)
        small = cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
        frames[step], mask[step] = small[..., :3], small[..., 3] > 127
    joints = figure.joints[..., :2] * np.array([setting.unit, -setting.unit]) + np.array(setting.origin)
    return Performance(frames, joints.astype(np.float32), mask)


def render(scene: Scene) -> Performance:
    """Draw a clip. Raises KeyError, naming the choices, for a name the world does not have."""
    act = _choose(MOTIONS, scene.motion, "motion")
    clock, setting = manner_of(scene)
    pose = act.perform(clock)
    if scene.onset > 0:
        pose = out_of_standing(pose, clock, scene.onset)
    return draw(scene, pose, clock, setting)
