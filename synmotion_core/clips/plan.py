"""Which frames of a file a training sees, and at which speed: one plan, that dataset.py follows and a page can draw.

cut as it is     every frame that begins in [start_s, end_s), once, in order
cut re-timed     for each k the frame on screen at start_s + k / resample_fps (frames.picks)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from synmotion_core.clips.doctor import Cut, retimed
from synmotion_core.clips.frames import picks

if TYPE_CHECKING:
    from synmotion_core.clips.video import VideoInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class FramePlan:
    """`frames` are numbers in the file, rising; one that is shown twice is there twice. They are taken at `fps` a
    second of the file's own time, whatever rate a backbone plays them at.
    """

    frames: tuple[int, ...]
    fps: float
    retimed: bool


def frame_plan(info: VideoInfo, cut: Cut) -> FramePlan:
    """The plan of a cut. Raises ClipRefused("trim") for one that is empty or reaches beyond the file."""
    first, stop = info.span(cut.start_s, cut.end_s)
    if cut.resample_fps is None or not retimed(info, cut):
        return FramePlan(frames=tuple(range(first, stop)), fps=info.fps, retimed=False)
    times = [0.0, *(t - cut.start_s for t in info.timestamps_s[first + 1 : stop])]
    seconds = (info.duration_s if cut.end_s is None else cut.end_s) - cut.start_s
    chosen = picks(times, seconds, cut.resample_fps)
    return FramePlan(frames=tuple(first + i for i in chosen), fps=cut.resample_fps, retimed=True)


def in_words(plan: FramePlan, info: VideoInfo, cut: Cut, played_fps: float) -> str:
    """The plan as one sentence; played_fps is the backbone's own rate.

    "17 of 90 frames, 0.2 to 2.325 s, at 8 of 30 frames a second: every 3.75th."
    """
    different, end = len(set(plan.frames)), info.duration_s if cut.end_s is None else cut.end_s
    count = f"{len(plan.frames)} of {info.num_frames} frames"
    if different < len(plan.frames):
        count = f"{len(plan.frames)} frames from {different} of the file's {info.num_frames}"
    about = "" if info.constant_rate else "about "
    rate, every = f"{about}{info.fps:.4g}", "each one once"
    if plan.retimed:
        ratio = info.fps / plan.fps
        rate = f"{plan.fps:.4g} of {about}{info.fps:.4g}"
        every = f"{about}every {_ordinal(ratio)}" if ratio > 1 else f"each one {about}{1 / ratio:.3g} times"
        every = "each one once" if ratio == 1 and info.constant_rate else every
    played = plan.fps / played_fps
    speed = ""
    if abs(played - 1) > 0.01:
        slower = f"{played:.3g} times slower" if played > 1 else f"{1 / played:.3g} times faster"
        speed = f" They are played at {played_fps:.4g}: {slower} than in the file."
    return f"{count}, {cut.start_s:.4g} to {end:.4g} s, at {rate} frames a second: {every}.{speed}"


def _ordinal(number: float) -> str:
    """2.5 -> "2.5th", 2 -> "2nd"."""
    text = f"{number:.3g}"
    ends = {"1": "st", "2": "nd", "3": "rd"}
    plain = "." not in text and not text.endswith(("11", "12", "13"))
    return text + (ends.get(text[-1], "th") if plain else "th")
