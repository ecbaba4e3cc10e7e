"""What rows trained on filmed and drawn videos share: what they know, and what their prior videos show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KNOWS = "people, animals and things, filmed or drawn"
KNOWS_TENCENT = f"{KNOWS}. Its licence excludes the EU, the UK and South Korea"
PRIORS: Mapping[str, Any] = {
    "prior_subjects": ("panda", "tiger", "dog", "monkey", "robot", "teddy bear", "man", "woman"),
    "prior_motions": ("is standing", "is walking", "is running", "is sitting", "is jumping", "is looking around"),
    "held_out_subjects": (  # on whom a training is scored (run/yardstick.py): none of the above
        *("a cat", "a horse", "an elephant", "a rabbit", "a penguin", "a fox", "a bear", "a kangaroo"),
    ),
}  # SynMotion's subject prior videos (SPV): subjects x common motions; the paper does not publish its own
