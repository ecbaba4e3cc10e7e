"""Poses over time, and the clock that a choreography reads.

A pose is plain kinematics: root (place, height, yaw, roll), torso, head, two arms, two legs. Angles are degrees. A limb
is four angles, (upper_out, upper_forward, lower_out, lower_forward): `out` lifts it sideways away from the body (0
hangs, 90 level, 180 overhead), `forward` swings it to the front. So one function fits every build, and the mirrored
side costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from synmotion_core.puppets.species import Build

NUM_FRAMES = 17
FPS = 8.0

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Kinematics of one clip; every field is [T] or [2, T, 4] (side 0 = screen left when seen from the front)."""

    x: Array  # sideways shift, body heights
    up: Array  # lift of the lowest point above the ground, body heights
    yaw: Array  # turn about the vertical; 0 faces the viewer, 90 faces screen right
    roll: Array  # turn in the screen plane: 90 lies, 180 stands on its hands
    bend: Array  # torso forward
    lean: Array  # torso sideways, positive to screen right
    tilt: Array  # head sideways
    nod: Array  # head forward
    arms: Array
    legs: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Time and the clip's own manner. `t` is seconds [T]; the rest varies from clip to clip."""

    t: Array
    build: Build
    tempo: float  # factor on speed, near 1
    phase: float  # where a cycle starts, radians, near 0
    amount: float  # factor on amplitudes, 1 = as designed
    side: int  # which arm or leg leads: 0 or 1
    facing: float  # -1 faces screen left, +1 right
    view: float  # small yaw added to frontal motions, degrees
    rng: np.random.Generator = field(repr=False)

    def wave(self, hz: float, shift: float = 0.0) -> Array:
        """A sine in [-1, 1] at `hz` cycles a second; `shift` in cycles."""
        return np.sin(2 * np.pi * (hz * self.tempo * self.t + shift) + self.phase)

    def ramp(self, start_s: float, end_s: float) -> Array:
        """0 before start, 1 after end, a smoothstep between; times are scaled by the tempo."""
        u = np.clip((self.t * self.tempo - start_s) / (end_s - start_s), 0.0, 1.0)
        return u * u * (3 - 2 * u)

    def pulse(self, start_s: float, top_s: float, end_s: float) -> Array:
        """Up to 1 at `top_s` and back to 0 at `end_s`."""
        return self.ramp(start_s, top_s) - self.ramp(top_s, end_s)

    def pose(self, *, yaw: Array | float | None = None, **fields: Array | float) -> Pose:
        """A pose at rest with the given fields set; yaw defaults to the clip's frontal view."""
        zero = np.zeros_like(self.t)
        values = dict.fromkeys(("x", "up", "roll", "bend", "lean", "tilt", "nod"), zero)
        values |= {"arms": self.limbs(rest=8), "legs": self.limbs(rest=5)}
        values |= {name: np.asarray(value) + (zero if np.ndim(value) < 2 else 0) for name, value in fields.items()}
        values["yaw"] = zero + (self.view if yaw is None else yaw)
        return Pose(**values)

    def limb(self, *angles: Array | float) -> Array:
        """(upper_out, upper_forward, lower_out, lower_forward) -> [T, 4]."""
        return np.stack([np.zeros_like(self.t) + a for a in angles], axis=-1)

    def limbs(self, lead: Array | None = None, other: Array | None = None, *, rest: float = 8.0) -> Array:
        """[2, T, 4] with the leading side's limb in its place; a missing one hangs at `rest` degrees out."""
        hang = self.limb(rest, 0, rest * 0.6, 0)
        pair = [hang if other is None else other] * 2
        pair[self.side] = hang if lead is None else lead
        return np.stack(pair)

    def reach(self, x: Array | float, y: Array | float, z: Array | float = 0.0) -> Array:
        """Arm angles that bring the leading-side hand near a point of the torso frame, elbow out and down.

        x is across from the shoulder's own side in shoulder half-widths (1 own shoulder, 0 centre), y is
        above the shoulder and z before it, both in arm lengths. A two-link solution in the plane that holds
        the target; a target out of reach is approached as far as the arm goes.
        """
        dx = (np.asarray(x, float) - 1.0) * self.build.shoulder / self.build.arm + np.zeros_like(self.t)
        dy = np.asarray(y, float) + np.zeros_like(self.t)
        dz = np.asarray(z, float) + np.zeros_like(self.t)
        target = np.stack([dx, dy, dz], axis=-1)
        length = np.clip(np.linalg.norm(target, axis=-1), 0.05, 0.985)
        along = target / np.maximum(np.linalg.norm(target, axis=-1, keepdims=True), 1e-6)
        pole = np.array([1.0, -0.55, -0.1])  # elbows point outwards and down
        pole = pole - (along @ pole)[:, None] * along
        pole /= np.maximum(np.linalg.norm(pole, axis=-1, keepdims=True), 1e-6)
        elbow = along * (length / 2)[:, None] + pole * np.sqrt(np.maximum(0.25 - length**2 / 4, 0))[:, None]
        upper, lower = elbow / 0.5, (along * length[:, None] - elbow) / 0.5
        return np.concatenate([_angles(upper), _angles(lower)], axis=-1)


def direction(out: Array, forward: Array, side: float) -> Array:
    """Limb angles in degrees -> unit direction [T, 3]."""
    o, f = np.radians(out), np.radians(forward)
    return np.stack([side * np.sin(o), -np.cos(o) * np.cos(f), np.cos(o) * np.sin(f)], axis=-1)


def _angles(unit: Array) -> Array:
    """Unit vectors [T, 3] -> (out, forward) degrees, the inverse of `direction` on side 1 for out in [-90, 90]."""
    out = np.degrees(np.arcsin(np.clip(unit[:, 0], -1, 1)))
    forward = np.degrees(np.arctan2(unit[:, 2], -unit[:, 1]))
    return np.stack([out, forward], axis=-1)


def mix(a: Array, b: Array, weight: Array) -> Array:
    """Blend two limbs [T, 4] by a weight [T] in [0, 1]."""
    return a + (b - a) * weight[:, None]


def both(limb: Array) -> Array:
    """The same limb [T, 4] on both sides: [2, T, 4]."""
    return np.stack([limb, limb])
