"""Nameless articulation: random programmes of all limbs, and the words that say what they do.

Real video models learn from captions that describe; a motion without a word of its own is then a place in what the
text can already say. So a part of these clips is captioned with clauses such as "swings hands aside high slow, bobs
apart" (captions.py), made of VOCABULARY alone. None of its words belongs to a rare motion's phrase.
"""

from __future__ import annotations

import numpy as np

from synmotion_core.puppets.kinematics import Array, Clock, Pose, both, direction, mix

# Where a hand or foot is: the nearest of these, in arm lengths (away from the body, up, to the front).
_PLACES = {
    "down": (0.1, -1.0, 0.0),
    "aside": (0.65, -0.7, 0.0),
    "out": (0.95, 0.0, 0.0),
    "high": (0.7, 0.7, 0.0),
    "up": (0.2, 0.95, 0.0),
    "front": (0.15, 0.0, 0.95),
    "forth": (0.1, -0.7, 0.65),
    "back": (0.1, -0.7, -0.65),
    "close": (0.3, -0.1, 0.2),
    "across": (-0.45, -0.1, 0.3),
}
_DOES = {"hold": "keeps", "once": "brings", "there_and_back": "flicks", "swing": "swings"}
VOCABULARY = (
    *_PLACES,
    *_DOES.values(),
    *("hand", "hands", "foot", "joins", "taps", "slow", "fast", "sinks", "bobs", "bounces", "apart", "deep"),
    *("sideways", "rotates", "tips", "rolls", "upside", "over", "stoops", "leans", "drifts"),
)
MOST_CLAUSES, MOST_WORDS = 5, 20  # so that a description with its subject fits the text encoder


def word_for_place(pose: Array) -> str:
    """The word for where a limb [4] ends, straight limbs of equal links."""
    ends = [direction(pose[i : i + 1], pose[i + 1 : i + 2], 1.0)[0] for i in (0, 2)]
    tip = (ends[0] + ends[1]) / 2
    return min(_PLACES, key=lambda word: float(np.linalg.norm(tip - np.array(_PLACES[word]))))


def _pace(hz: float, slow: float, fast: float) -> str:
    return " slow" if hz < slow else " fast" if hz > fast else ""


def _programme(c: Clock, low: Array, high: Array) -> tuple[Array, str]:
    """One limb's random life between angle bounds [4]: hold, go once, or swing between two poses.

    Returns [T, 4] and its clause with "{}" for the limb; "" for a limb that hangs.
    """
    rng = c.rng
    a, b = (rng.uniform(low, high) for _ in range(2))
    if rng.random() < 0.6:  # often straight: both links alike
        a[2:], b[2:] = a[:2] + rng.uniform(-25, 25, 2), b[:2] + rng.uniform(-25, 25, 2)
    kind = str(rng.choice(["rest", "hold", "once", "there_and_back", "swing"], p=[0.2, 0.1, 0.2, 0.15, 0.35]))
    rest = np.array([8.0, 0, 5, 0])
    if kind == "rest":
        return c.limb(*rest), ""
    words = f"{_DOES[kind]} {{}} {word_for_place(a)}"
    if kind == "hold":
        return c.limb(*a), words
    if kind == "once":
        start = rng.uniform(0.0, 0.6)
        return mix(c.limb(*rest), c.limb(*a), c.ramp(start, start + rng.uniform(0.4, 1.1))), words
    if kind == "there_and_back":
        top = rng.uniform(0.5, 1.2)
        return mix(c.limb(*rest), c.limb(*a), c.pulse(rng.uniform(0, 0.3), top, top + rng.uniform(0.5, 1.0))), words
    hz, shift = rng.uniform(0.6, 1.5), rng.uniform()
    first, second = (a, b) if np.cos(2 * np.pi * shift) >= 0 else (b, a)  # it sets out towards the second
    words = f"{_DOES[kind]} {{}} {word_for_place(first)} {word_for_place(second)}{_pace(hz, 0.85, 1.2)}"
    return mix(c.limb(*a), c.limb(*b), 0.5 + 0.5 * c.wave(hz, shift)), words


def _arms(c: Clock) -> tuple[Array, list[str]]:
    rng = c.rng
    low, high = np.array([-25.0, -70, -60, -80]), np.array([170.0, 110, 200, 150])
    if rng.random() < 0.5:  # in the picture plane: out only
        low, high = np.array([-10.0, -5, -70, -5]), np.array([172.0, 25, 205, 45])
    lead, words = _programme(c, low, high)
    if rng.random() < 0.4:
        arms, clauses = both(lead), [words.format("hands")]
    else:
        other, own = _programme(c, low, high)
        arms, clauses = np.stack([lead, other]), [words.format("hand"), own.format("hand")]
    if rng.random() < 0.15:  # hands to a common point before the body
        again = rng.random() < 0.5
        lift = 0.5 + 0.5 * c.wave(rng.uniform(0.4, 1.2)) if again else c.ramp(0.1, rng.uniform(0.5, 1.2))
        across, height = rng.uniform(0, 0.9), rng.uniform(-0.5, 0.6)
        arms = both(mix(arms[0], c.reach(across, height, 0.35), lift))
        where = "down" if height < -0.2 else "high" if height > 0.25 else "front"
        clauses = [words.format("hands"), f"{'taps' if again else 'joins'} hands {where}"]
    return (arms[::-1] if rng.random() < 0.3 else arms), clauses


def _legs(c: Clock) -> tuple[Array, Array, list[str]]:
    """Legs [2, T, 4], lift above the ground [T], clauses."""
    rng = c.rng
    legs, up, clauses = both(c.limb(5, 0, 4, 0)), np.zeros_like(c.t), [""]
    kind = rng.choice(["still", "free", "crouch", "bounce"], p=[0.4, 0.25, 0.2, 0.15])
    if kind == "free":
        bounds = np.array([-8.0, -40, -12, -60]), np.array([45.0, 80, 40, 60])
        (one, words), (two, more) = (_programme(c, *bounds) for _ in (0, 1))
        legs, clauses = np.stack([one, two]), [words.format("foot"), more.format("foot")]
    elif kind == "crouch":
        hz = rng.uniform(0.4, 1.0)
        again = rng.random() < 0.6
        depth = 0.5 + 0.5 * c.wave(hz) if again else c.ramp(0.1, rng.uniform(0.6, 1.6))
        out, forward = rng.uniform(0, 70), rng.uniform(0, 80)
        legs = both(c.limb(6 + out * depth, forward * depth, 6 - 0.4 * out * depth, -0.8 * forward * depth))
        shape = " apart" * (out > 30) + " front" * (forward > 40) + " deep" * (out + forward > 90)
        clauses = [(f"bobs{shape}{_pace(hz, 0.6, 0.8)}" if again else f"sinks{shape}")]
    elif kind == "bounce":
        lift, hz = rng.uniform(0.04, 0.25), rng.uniform(0.7, 1.4)
        up = lift * np.clip(c.wave(hz), 0, 1)
        clauses = [f"bounces{' high' if lift > 0.15 else ''}{_pace(hz, 0.9, 1.2)}"]
    return legs, up, clauses


def improvise(c: Clock) -> tuple[Pose, tuple[str, ...]]:
    """Random limbs, torso and root; and what they do, legs first, in clauses (none: all hangs).

    A longer story stops before the clause that goes beyond MOST_CLAUSES or MOST_WORDS.
    """
    rng = c.rng
    arms, arm_clauses = _arms(c)
    legs, up, leg_clauses = _legs(c)
    root: list[str] = []
    sway = c.wave(rng.uniform(0.5, 1.2), rng.uniform()) if rng.random() < 0.5 else c.ramp(0.1, rng.uniform(0.6, 1.6))
    sideways = rng.choice([c.view, c.facing * 52.0])
    yaw = sideways + np.zeros_like(c.t)
    if abs(sideways) == 52.0:
        root.append("sideways")
    if rng.random() < 0.2:
        yaw = yaw + rng.uniform(60, 360) * c.facing * c.t
        root.append("rotates")
    roll = np.zeros_like(c.t)
    if rng.random() < 0.18:
        angle = rng.choice([45.0, 90.0, 180.0, 180.0, 270.0])
        roll = c.facing * angle * c.ramp(rng.uniform(0, 0.4), rng.uniform(0.7, 1.8))
        root.append({45.0: "tips", 90.0: "tips over", 180.0: "tips upside", 270.0: "rolls"}[float(angle)])
    x = rng.uniform(-0.2, 0.2) * (rng.random() < 0.4)
    bend = rng.uniform(-15, 60) * (rng.random() < 0.35)
    lean = rng.uniform(-25, 25) * (rng.random() < 0.4)
    root += ["stoops"] * (bend > 20) + ["leans"] * (abs(lean) > 10) + ["drifts"] * (abs(x) > 0.07)
    pose = c.pose(
        x=x * sway,
        up=up,
        yaw=yaw,
        roll=roll,
        bend=bend * sway,
        lean=lean * sway,
        tilt=rng.uniform(-20, 20) * sway,
        nod=rng.uniform(-10, 30) * sway,
        arms=arms,
        legs=legs,
    )
    told = [clause for clause in (*leg_clauses, *arm_clauses, *root) if clause][:MOST_CLAUSES]
    while sum(len(clause.split()) for clause in told) > MOST_WORDS:
        told.pop()
    return pose, tuple(told)
