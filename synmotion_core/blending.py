"""Two motions in one video: how much of each, latent frame by latent frame.

In every sampling step adapter A predicts in A's condition and adapter B in B's, and the predictions are combined:

    v = (1 - w) v_A + w v_B                                                                              (24)

    mixed       w = s                                   both motions at once, all the time; s = share
    sequence    w_i = clamp((t_i - c) / r + 1/2, 0, 1)  first A's, then B's: a ramp of r of the video around c, where
                t_i = (i + 1/2) / f, i = 0 .. f - 1     s = 1/2 changes in the middle, and a larger share sooner
                c = (1 - s)(1 + r) - r / 2

At s = 0 every weight is 0 and at s = 1 every one is 1, exactly: then the other adapter is never asked, so that the
video is A's or B's alone, bit for bit. Weights are of latent frames, each of which stands for several frames.

The two are attached side by side (stacking.py), and one at a time works: the other has strength 0.
"""

from __future__ import annotations

from typing import Literal

Over = Literal["mixed", "sequence"]
RAMP = 0.25  # r: of the video in which one motion becomes the other


def frame_weights(share: float, over: Over, frames: int) -> tuple[float, ...]:
    """w of (24) for each of `frames` latent frames.

    >>> frame_weights(0.3, "mixed", 3), frame_weights(0.5, "sequence", 5)
    ((0.3, 0.3, 0.3), (0.0, 0.0, 0.5, 1.0, 1.0))
    """
    if over == "mixed":
        return (float(share),) * frames
    centre = (1 - share) * (1 + RAMP) - RAMP / 2
    times = ((i + 0.5) / frames for i in range(frames))
    return tuple(min(1.0, max(0.0, (t - centre) / RAMP + 0.5)) for t in times)
