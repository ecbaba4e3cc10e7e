"""Nameless articulation: random programmes of the limbs, and the words that say what they do.

`improvise` moves everything at once; `etude` is tidy, as named motions are: a limb or two, or the whole body, do one
thing and the rest is at rest.

Real video models learn from captions that describe; a motion without a word of its own is then a place in what the
text can already say. So a part of these clips is captioned with clauses such as "swings hands aside high slow, bobs
apart" (captions.py), made of VOCABULARY alone. None of its words belongs to a rare motion's phrase.
"""

from __future__ import annotations

from collections.abc import Sequence

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
_TIPS = {45.0: "tips", 90.0: "tips over", 180.0: "tips upside", 270.0: "rolls"}
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


_KINDS = ("rest", "hold", "once", "there_and_back", "swing")


def _programme(
    c: Clock, low: Array, high: Array, *, chances: Sequence[float] = (0.2, 0.1, 0.2, 0.15, 0.35), forearm: float = 0.0
) -> tuple[Array, str]:
    """One limb's random life between angle bounds [4]: hold, go once, or swing between two poses.

    chances: of _KINDS; forearm: how often the upper link keeps still. Returns [T, 4] and its clause with "{}" for the
    limb; "" for a limb that hangs.
    """
    rng = c.rng
    a, b = (rng.uniform(low, high) for _ in range(2))
    if rng.random() < 0.6:  # often straight: both links alike
        a[2:], b[2:] = a[:2] + rng.uniform(-25, 25, 2), b[:2] + rng.uniform(-25, 25, 2)
    if forearm and rng.random() < forearm:
        a[:2] = b[:2]
    kind = str(rng.choice(_KINDS, p=chances))
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


def _reach_of_arms(rng: np.random.Generator) -> tuple[Array, Array]:
    if rng.random() < 0.5:  # in the picture plane: out only
        return np.array([-10.0, -5, -70, -5]), np.array([172.0, 25, 205, 45])
    return np.array([-25.0, -70, -60, -80]), np.array([170.0, 110, 200, 150])


def _meeting(c: Clock, arm: Array) -> tuple[Array, str]:
    """Both hands from what `arm` does to a common point before the body, to stay or again and again; and the clause."""
    rng = c.rng
    again = rng.random() < 0.5
    lift = 0.5 + 0.5 * c.wave(rng.uniform(0.4, 1.2)) if again else c.ramp(0.1, rng.uniform(0.5, 1.2))
    across, height = rng.uniform(0, 0.9), rng.uniform(-0.5, 0.6)
    where = "down" if height < -0.2 else "high" if height > 0.25 else "front"
    return both(mix(arm, c.reach(across, height, 0.35), lift)), f"{'taps' if again else 'joins'} hands {where}"


def _arms(c: Clock) -> tuple[Array, list[str]]:
    rng = c.rng
    low, high = _reach_of_arms(rng)
    lead, words = _programme(c, low, high)
    if rng.random() < 0.4:
        arms, clauses = both(lead), [words.format("hands")]
    else:
        other, own = _programme(c, low, high)
        arms, clauses = np.stack([lead, other]), [words.format("hand"), own.format("hand")]
    if rng.random() < 0.15:
        arms, meets = _meeting(c, arms[0])
        clauses = [words.format("hands"), meets]
    return (arms[::-1] if rng.random() < 0.3 else arms), clauses


def _legs(c: Clock, chances: Sequence[float] = (0.4, 0.25, 0.2, 0.15)) -> tuple[Array, Array, list[str]]:
    """Legs [2, T, 4], lift above the ground [T], clauses. chances: still, free, crouch, bounce."""
    rng = c.rng
    legs, up, clauses = both(c.limb(5, 0, 4, 0)), np.zeros_like(c.t), [""]
    kind = rng.choice(["still", "free", "crouch", "bounce"], p=chances)
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
        root.append(_TIPS[float(angle)])
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
    return pose, _told(*leg_clauses, *arm_clauses, *root)


def _told(*clauses: str) -> tuple[str, ...]:
    told = [clause for clause in clauses if clause][:MOST_CLAUSES]
    while sum(len(clause.split()) for clause in told) > MOST_WORDS:
        told.pop()
    return tuple(told)


def _near(c: Clock) -> tuple[Array, str]:
    """A hand before the body or the head, bent at the elbow: it comes there, to stay or not, or goes between two such
    places; and its clause. Angles drawn at random hardly ever bring a hand before a head."""
    rng = c.rng
    a, b = (c.reach(rng.uniform(-0.4, 2.2), rng.uniform(-0.7, 0.95), rng.uniform(0.15, 0.5)) for _ in range(2))
    kind = str(rng.choice(_KINDS, p=(0, 0.1, 0.4, 0.25, 0.25)))
    words = f"{_DOES[kind]} {{}} {word_for_place(a[0])}"
    rest = c.limb(8, 0, 5, 0)
    if kind == "hold":
        return a, words
    if kind == "once":
        start = rng.uniform(0.0, 0.5)
        return mix(rest, a, c.ramp(start, start + rng.uniform(0.4, 1.0))), words
    if kind == "there_and_back":
        top = rng.uniform(0.5, 1.0)
        return mix(rest, a, c.pulse(rng.uniform(0, 0.3), top, top + rng.uniform(0.6, 1.2))), words
    hz = rng.uniform(0.6, 1.4)
    words += f" {word_for_place(b[0])}{_pace(hz, 0.85, 1.2)}"
    return mix(a, b, 0.5 + 0.5 * c.wave(hz)), words


def _gesture(c: Clock) -> tuple[Array, list[str]]:
    """Arms [2, T, 4]: one, both alike, in turn, to a meeting of the hands, each its own, or near; and clauses."""
    rng = c.rng
    low, high = _reach_of_arms(rng)

    def clear() -> tuple[Array, str]:
        """One that goes somewhere: between two places, or away from where a hand hangs."""
        while True:
            arm, words = _programme(c, low, high, chances=(0, 0.1, 0.25, 0.2, 0.45), forearm=0.35)
            places = [word for word in words.split()[2:] if word in _PLACES]
            if len(set(places)) == 2 or places == [places[0]] != ["down"]:
                return arm, words

    how = str(rng.choice(["one", "both", "turns", "meet", "own", "near"], p=[0.32, 0.23, 0.12, 0.11, 0.07, 0.15]))
    if how == "near":
        lead, words = _near(c)
        if rng.random() < 0.25:
            return both(lead), [words.format("hands")]
        return c.limbs(lead), [words.format("hand")]
    lead, words = clear()
    if how == "both":
        return both(lead), [words.format("hands")]
    if how == "meet":
        arms, clause = _meeting(c, c.limb(*lead[0]) if rng.random() < 0.5 else c.limb(8, 0, 5, 0))
        return arms, [clause]
    other, own = c.limb(8.0, 0, 5, 0), ""
    if how == "own":
        other, own = clear()
    elif how == "turns" and words.startswith(_DOES["swing"]):
        does, limb, first, second, *pace = words.split()
        other, own = lead.max(0) + lead.min(0) - lead, " ".join([does, limb, second, first, *pace])
    arms = np.stack([lead, other])
    return (arms[::-1] if c.side else arms), [words.format("hand"), own.format("hand")]


def etude(c: Clock) -> tuple[Pose, tuple[str, ...]]:
    """A tidy nameless motion and its clauses: arms, legs or the body do one thing, seldom two; the rest is at rest."""
    rng = c.rng
    moving = rng.random(3) < (0.72, 0.4, 0.3)
    if not moving.any():
        moving[0] = True
    fields: dict[str, Array | float] = {}
    clauses: list[str] = []
    if moving[1]:
        fields["legs"], fields["up"], told = _legs(c, (0, 0.25, 0.45, 0.3))
        clauses += told
    if moving[0]:
        fields["arms"], told = _gesture(c)
        clauses += told
    if rng.random() < 0.3:
        fields["yaw"] = c.facing * 52.0 + np.zeros_like(c.t)
        clauses.append("sideways")
    if moving[2]:
        sway = c.wave(rng.uniform(0.5, 1.2)) if rng.random() < 0.6 else c.ramp(0.1, rng.uniform(0.6, 1.6))
        kind = str(rng.choice(["rotates", "tips", "stoops", "leans", "drifts"], p=[0.4, 0.18, 0.14, 0.14, 0.14]))
        if kind == "rotates":
            fields["yaw"] = fields.get("yaw", c.view) + rng.uniform(90, 360) * c.facing * c.t
        elif kind == "tips":
            angle = rng.choice([45.0, 90.0, 180.0, 270.0])
            fields["roll"] = c.facing * angle * c.ramp(rng.uniform(0, 0.4), rng.uniform(0.7, 1.8))
            kind = _TIPS[float(angle)]
        elif kind == "stoops":
            fields["bend"] = rng.uniform(25, 85) * np.abs(sway)
        elif kind == "leans":
            fields["lean"] = rng.choice([-1, 1]) * rng.uniform(12, 30) * sway
        else:
            fields["x"] = rng.choice([-1, 1]) * rng.uniform(0.08, 0.22) * sway
        clauses.append(kind)
    fields["tilt"] = rng.uniform(-8, 8) * c.wave(rng.uniform(0.5, 1.2))
    return c.pose(**fields), _told(*clauses)
