"""What the rows that know puppets share: what they know, the words that describe it, and what their priors show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KNOWS_PUPPETS = "64x64 puppets only: person, cat, bear, rabbit, frog, robot, penguin, elephant, in eight colours"
PUPPETS: Mapping[str, Any] = {
    "motion_words": (
        *("hand", "hands", "foot", "keeps", "brings", "flicks", "swings", "joins", "taps", "down", "aside"),
        *("out", "high", "up", "front", "forth", "back", "close", "across", "slow", "fast", "sinks", "bobs"),
        *("bounces", "apart", "deep", "sideways", "rotates", "tips", "rolls", "upside", "over", "stoops"),
        *("leans", "drifts"),
    ),  # what a description can say: puppets/improvisation.py
    "prior_subjects": ("cat", "bear", "rabbit", "frog", "robot", "penguin", "elephant"),
    "prior_colours": ("red", "orange", "yellow", "green", "teal", "blue", "purple", "pink"),
    "held_out_subjects": (
        *("a red cat", "a blue robot", "a green bear", "a yellow rabbit", "a purple frog", "a teal penguin"),
        "a pink elephant",
    ),  # on whom a training is scored: run/yardstick.py
    "prior_motions": ("stands", "walks", "jumps", "sways", "sits", "flaps", "kicks", "moves"),
}
