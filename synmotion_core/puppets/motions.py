"""The choreography: one function a motion, each turning a `Clock` into a `Pose` (kinematics.py).

COMMON motions are what the tiny backbones are pretrained on, RARE ones are never shown to them, and `moves` is the
nameless rest (improvisation.py): random programmes of the same limbs, so that a backbone can articulate what it has no
word for. Adding a motion is one decorated function.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from synmotion_core.puppets.improvisation import etude as tidy_improvisation
from synmotion_core.puppets.improvisation import improvise
from synmotion_core.puppets.kinematics import Array, Clock, Pose, both, mix

Rarity = Literal["common", "rare", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """`verb` is the third person ("waves"), used in captions; `perform` draws it in time.

    description: what its limbs do, in the words that a backbone was taught (improvisation.py).
    """

    name: str
    verb: str
    rarity: Rarity
    perform: Callable[[Clock], Pose]
    description: str = ""

    @property
    def phrase(self) -> str:
        """The motion of a prompt as a person would put it who knows that the verb alone says nothing.

        >>> MOTIONS["pray"].phrase, MOTIONS["stand"].phrase
        ('prays, joins hands front', 'stands')
        """
        return f"{self.verb}, {self.description}" if self.description else self.verb


MOTIONS: dict[str, Motion] = {}
ONSET = (0.25, 0.7)  # seconds from standing still to being in the motion, where a clip begins so


def motion(
    verb: str, rarity: Rarity, description: str = ""
) -> Callable[[Callable[[Clock], Pose]], Callable[[Clock], Pose]]:
    """Register the decorated function under its own name."""

    def register(perform: Callable[[Clock], Pose]) -> Callable[[Clock], Pose]:
        name = perform.__name__
        if name in MOTIONS:
            raise ValueError(f"motion {name!r} is registered twice")
        MOTIONS[name] = Motion(name=name, verb=verb, rarity=rarity, perform=perform, description=description)
        return perform

    return register


# ---------------------------------------------------------------- common: the backbones are pretrained on these


@motion("stands", "common")
def stand(c: Clock) -> Pose:
    breath = 1.5 * c.wave(0.5)
    return c.pose(arms=c.limbs(rest=9) + breath[None, :, None] * [1, 0, 1, 0], tilt=breath)


def _gait(c: Clock, hz: float, swing: float, knee: float, arm: float, elbow: float) -> tuple[Array, Array]:
    s, k = c.wave(hz), c.wave(hz, 0.25)
    legs, arms = [], []
    for sign in (1, -1):
        thigh = sign * swing * s
        legs.append(c.limb(3, thigh, 3, thigh - knee * np.clip(sign * k, 0, 1) - 4))
        upper = -sign * arm * s
        arms.append(c.limb(6, upper, 4, upper + elbow))
    return np.stack(legs), np.stack(arms)


def _travel(c: Clock, speed: float) -> Array:
    return c.facing * speed * c.tempo * (c.t - c.t[-1] / 2)


@motion("walks", "common", "swings foot forth back, swings foot back forth, sideways, drifts")
def walk(c: Clock) -> Pose:
    legs, arms = _gait(c, 1.0, 28 * c.amount, 30, 26 * c.amount, 12)
    return c.pose(x=_travel(c, 0.30), yaw=c.facing * 52 + c.view * 0.4, legs=legs, arms=arms, bend=3.0)


@motion("runs", "common", "swings foot forth back fast, swings foot back forth fast, sideways, stoops, drifts")
def run(c: Clock) -> Pose:
    legs, arms = _gait(c, 1.6, 46 * c.amount, 75, 48 * c.amount, 80)
    bounce = 0.05 * np.abs(c.wave(1.6))
    return c.pose(x=_travel(c, 0.42), up=bounce, yaw=c.facing * 56 + c.view * 0.4, legs=legs, arms=arms, bend=20.0)


@motion("jumps", "common", "bounces high, swings hands aside out")
def jump(c: Clock) -> Pose:
    s = c.wave(0.95)
    air, low = np.clip(s, 0, 1), np.clip(-s, 0, 1)
    leg = c.limb(10 + 22 * low, 0, 10 - 26 * low, 0)
    arm = c.limb(25 + 45 * air, -25 * low, 20 + 50 * air, 0)
    return c.pose(up=0.24 * c.amount * air**0.8, arms=np.stack([arm, arm]), legs=np.stack([leg, leg]), bend=14 * low)


@motion("bows", "common", "stoops, sideways")
def bow(c: Clock) -> Pose:
    down = c.pulse(0.15, 0.95, 1.9)
    return c.pose(yaw=c.facing * 54 + c.view * 0.4, bend=82 * c.amount * down, nod=12 * down, arms=c.limbs(rest=5))


@motion("sways", "common", "leans")
def sway(c: Clock) -> Pose:
    s = c.wave(0.8)
    leg = np.stack([c.limb(12 - 9 * sign * s, 0, 8 - 9 * sign * s, 0) for sign in (-1, 1)])
    arms = np.stack([c.limb(18 - 14 * sign * s, 0, 14 - 14 * sign * s, 0) for sign in (-1, 1)])
    return c.pose(x=0.05 * s, lean=24 * c.amount * s, tilt=10 * s, legs=leg, arms=arms)


@motion("marches", "common", "swings foot down front, swings foot front down, swings hand forth back, sideways")
def march(c: Clock) -> Pose:
    s = c.wave(0.95)
    legs, arms = [], []
    for sign in (1, -1):
        lift = np.clip(sign * s, 0, 1) ** 0.7
        legs.append(c.limb(3, 88 * c.amount * lift, 3, -6 * lift))
        arms.append(c.limb(5, -45 * sign * s, 4, -45 * sign * s + 15))
    return c.pose(yaw=c.facing * 45 + c.view * 0.4, legs=np.stack(legs), arms=np.stack(arms))


@motion("sits", "common", "sinks front deep, sideways")
def sit(c: Clock) -> Pose:
    down = c.ramp(0.1, 1.0)
    leg = c.limb(8, 84 * down, 8, (84 - 70 * 4 * down * (1 - down)) * down)
    arm = c.limb(14, -22 * down, 12, -6 * down)
    return c.pose(
        yaw=c.facing * 50 + c.view * 0.4,
        legs=np.stack([leg, leg]),
        arms=np.stack([arm, arm]),
        bend=20 * 4 * down * (1 - down),
    )


@motion("turns", "common", "rotates")
def turn(c: Clock) -> Pose:
    return c.pose(yaw=c.facing * (-70 + 140 * c.ramp(0.2, 1.8)), arms=c.limbs(rest=10))


@motion("kicks", "common", "swings foot down front, sideways")
def kick(c: Clock) -> Pose:
    s = np.clip(c.wave(0.85), 0, 1) ** 0.8
    leg = c.limb(5, 95 * c.amount * s, 5, 80 * c.amount * s - 12 * (1 - s))
    arms = np.stack([c.limb(22, -20 * s, 18, -10 * s)] * 2)
    return c.pose(yaw=c.facing * 54 + c.view * 0.4, legs=c.limbs(leg, rest=3), arms=arms, bend=-12 * s)


@motion("falls", "common", "brings hands aside, tips over")
def fall(c: Clock) -> Pose:
    down = c.ramp(0.25, 1.05)
    arm = c.limb(10 + 55 * down, 0, 10 + 60 * down, 0)
    return c.pose(roll=c.facing * 88 * down, x=-c.facing * 0.22 * down, arms=np.stack([arm, arm]))


@motion("flaps", "common", "swings hands aside out")
def flap(c: Clock) -> Pose:
    s = c.wave(1.1)
    arm = c.limb(68 + 38 * c.amount * s, 0, 68 + 46 * c.amount * c.wave(1.1, -0.08), 0)
    return c.pose(arms=np.stack([arm, arm]), up=0.02 * (1 - s))


@motion("hops", "common", "bounces, keeps foot forth, keeps hands aside")
def hop(c: Clock) -> Pose:
    air = np.abs(c.wave(0.8))
    lifted = c.limb(6, 62, 6, -30)
    arms = np.stack([c.limb(38, 0, 34, 0)] * 2)
    return c.pose(
        up=0.13 * c.amount * air, legs=c.limbs(lifted, rest=2), arms=arms, lean=4 * (2 * c.side - 1), yaw=c.facing * 38
    )


# ---------------------------------------------------------------- rare: never in pretraining; learnt from clips


@motion("waves", "rare", "swings hand out high fast")
def wave(c: Clock) -> Pose:
    s = c.wave(1.25)
    return c.pose(arms=c.limbs(c.limb(98, 0, 150 + 48 * c.amount * s, 0)), tilt=5.0 * (2 * c.side - 1))


@motion("waves both arms", "rare", "swings hand out up fast, swings hand up out fast")
def doublewave(c: Clock) -> Pose:
    s = c.wave(1.2)
    arms = np.stack([c.limb(118 + 14 * sign * s, 0, 155 + 46 * c.amount * sign * s, 0) for sign in (1, -1)])
    return c.pose(arms=arms, lean=-5 * s)


@motion("lifts an arm", "rare", "brings hand up")
def liftarm(c: Clock) -> Pose:
    up = c.ramp(0.15, 1.0)
    return c.pose(arms=c.limbs(c.limb(8 + 162 * up, 0, 6 + 168 * up, 0)))


@motion("prays", "rare", "joins hands front")
def pray(c: Clock) -> Pose:
    up = c.ramp(0.05, 0.75)
    arm = mix(c.limb(8, 0, 5, 0), c.reach(0.06, -0.18, 0.35), up)
    dip = up * (0.5 + 0.5 * c.wave(0.55))
    return c.pose(arms=both(arm), nod=16 * up + 12 * dip, bend=8 * dip)


@motion("salutes", "rare", "flicks hand up")
def salute(c: Clock) -> Pose:
    up = c.ramp(0.1, 0.7) - 0.9 * c.ramp(1.75, 2.3)
    brow = (c.build.neck + c.build.head * 1.15) / c.build.arm
    arm = mix(c.limb(8, 0, 5, 0), c.reach(0.95, np.clip(brow, 0.3, 0.75), 0.25), up)
    return c.pose(arms=c.limbs(arm, rest=4))


@motion("squats", "rare", "bobs apart deep, swings hands down out slow")
def squat(c: Clock) -> Pose:
    low = (0.5 - 0.5 * c.wave(0.75, 0.25)) * c.amount  # begins upright
    leg = c.limb(14 + 50 * low, 22 * low, 14 - 22 * low, -30 * low)
    arm = c.limb(8 + 64 * low, 30 * low, 6 + 60 * low, 30 * low)
    return c.pose(legs=both(leg), arms=both(arm), bend=10 * low)


@motion("throws", "rare", "flicks hand high, brings hand front, sideways")
def throw(c: Clock) -> Pose:
    back, go = c.ramp(0.1, 0.85), c.ramp(0.95, 1.35)
    upper = -100 * back * (1 - go) + 75 * go
    lower = -165 * back * (1 - go) + 95 * go
    lead = c.limb(22 * (1 - go), upper, 12 * (1 - go), lower)
    other = c.limb(10, 60 * back * (1 - go) - 25 * go, 8, 70 * back * (1 - go) - 15 * go)
    step = np.stack([c.limb(4, 30 * go, 4, 8 * go), c.limb(4, -26 * go, 4, -34 * go)])
    return c.pose(
        yaw=c.facing * 50 + c.view * 0.4, arms=c.limbs(lead, other), legs=step, bend=-18 * back * (1 - go) + 24 * go
    )


@motion("dances", "rare", "swings hand out high, swings hand out aside, leans, drifts")
def dance(c: Clock) -> Pose:
    s, h = c.wave(0.9), c.wave(1.8)
    arms = np.stack([c.limb(95 + 55 * sign * s, 0, 120 + 60 * sign * s, 0) for sign in (1, -1)])
    legs = np.stack([c.limb(16 + 16 * sign * s, 0, 10 - 22 * np.clip(sign * s, 0, 1), 0) for sign in (1, -1)])
    return c.pose(x=0.07 * c.amount * s, up=0.03 * (1 + h), lean=-15 * c.amount * s, tilt=14 * s, arms=arms, legs=legs)


@motion("claps", "rare", "swings hands front aside fast")
def clap(c: Clock) -> Pose:
    s = 0.5 + 0.5 * c.wave(1.2)
    arm = mix(c.reach(0.05, -0.08, 0.45), c.limb(62 * c.amount, 38, 58 * c.amount, 42), s)
    return c.pose(arms=both(arm))


@motion("punches", "rare", "swings hand front close, swings hand close front, sideways")
def punch(c: Clock) -> Pose:
    s = c.wave(1.1)
    arms = []
    for sign in (1, -1):
        hit = np.clip(0.5 + 0.85 * sign * s, 0, 1)
        arms.append(mix(c.limb(18, -40, 8, 120), c.limb(4, 88, 2, 90), hit))
    legs = np.stack([c.limb(4, 20, 4, 2), c.limb(4, -16, 4, -26)])
    return c.pose(yaw=c.facing * 52 + c.view * 0.4, arms=np.stack(arms), legs=legs, bend=10 + 4 * s)


@motion("spins", "rare", "keeps hands out, rotates")
def spin(c: Clock) -> Pose:
    arm = c.limb(82 * c.amount, 0, 84 * c.amount, 0)
    return c.pose(yaw=c.facing * 330 * c.tempo * c.t + np.degrees(c.phase), arms=both(arm))


@motion("does a handstand", "rare", "brings hands up, tips upside")
def handstand(c: Clock) -> Pose:
    over = c.ramp(0.05, 0.85)
    arm = c.limb(8 + 162 * over, 0, 8 + 168 * over, 0)
    wobble = 10 * over * c.wave(0.9)
    legs = np.stack([c.limb(8 + 10 * over + sign * wobble, 0, 6 + 10 * over + sign * wobble, 0) for sign in (1, -1)])
    return c.pose(roll=c.facing * 180 * over, arms=both(arm), legs=legs)


# ---------------------------------------------------------------- other: nameless articulation


@motion("moves", "other")
def moves(c: Clock) -> Pose:
    """Random limbs, torso and root under one generic word."""
    return improvise(c)[0]


@motion("moves", "other")
def etude(c: Clock) -> Pose:
    """A limb or two, or the body, at random; the rest at rest."""
    return tidy_improvisation(c)[0]


def out_of_standing(pose: Pose, c: Clock, seconds: float) -> Pose:
    """The pose [T] as one who stands still at first falls into it: all of `stand` at 0, none of it after `seconds` > 0.

    A walk goes less far, since it sets out from where the puppet stands and not from a side of the picture.
    """
    w = np.clip(c.t / seconds, 0.0, 1.0)
    w = w * w * (3 - 2 * w)
    still = stand(c)

    def blended(name: str) -> Array:
        low, high = getattr(still, name), getattr(pose, name)
        return low + (high - low) * (w if low.ndim == 1 else w[:, None])

    fields = {field.name: blended(field.name) for field in dataclasses.fields(Pose)}
    return Pose(**fields | {"x": 0.6 * (pose.x - pose.x[0])})


def names(rarity: Rarity) -> tuple[str, ...]:
    """The motions of one kind, in registration order."""
    return tuple(m.name for m in MOTIONS.values() if m.rarity == rarity)


COMMON = names("common")
RARE = names("rare")
