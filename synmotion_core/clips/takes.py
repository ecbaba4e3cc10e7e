"""A clip with hard cuts in it becomes one clip a take: which parts there are, and which are long enough for a backbone.

    cut + the frames where scenes begin (doctor.find_cuts) -> takes, one after the other, together the whole cut

A take is long enough when it gives at least the backbone's number of frames, at the rate that the clip doctor judges
its length by. What is longer than that is kept whole: which part shows the motion is for a person to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from synmotion_core.clips.doctor import Cut, find_cuts, frames_used, judged_cut, thumbnails
from synmotion_core.clips.ffmpeg import ClipRefused

if TYPE_CHECKING:
    from synmotion_core.clips.video import VideoInfo
    from synmotion_core.types import Frames, VideoShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """One scene. `num_frames` are those that a backbone would get of it, `long_enough` says whether it takes so few."""

    cut: Cut
    num_frames: int
    long_enough: bool

    @property
    def seconds(self) -> str:
        """Where it lies in the file, in words."""
        return f"{self.cut.start_s:.4g} to {self.cut.end_s or 0.0:.4g} s"


def takes(info: VideoInfo, shape: VideoShape, cut: Cut, frames: Frames) -> tuple[Take, ...]:
    """The takes of a cut, one when there is no hard cut in it. frames are those of info.span(cut), at any size.

    Raises ClipRefused("trim") for a cut that is none.
    """
    return split(info, shape, cut, find_cuts(thumbnails(frames)))


def split(info: VideoInfo, shape: VideoShape, cut: Cut, scenes: Sequence[int]) -> tuple[Take, ...]:
    """The takes between scenes that begin at these frames of the cut, counted from its first, rising.

    No cut tells frames within one millisecond apart: a part that would hold none is joined to its neighbour.
    """
    first, stop = info.span(cut.start_s, cut.end_s)
    assert all(0 < index < stop - first for index in scenes), (list(scenes), first, stop)
    end = round(info.duration_s if cut.end_s is None else cut.end_s, 3)  # milliseconds still mean their frame
    edges = [round(cut.start_s, 3)]
    for edge in (round(info.timestamps_s[first + index], 3) for index in scenes):
        if _holds_a_frame(info, edges[-1], edge):
            edges.append(edge)
    if len(edges) > 1 and not _holds_a_frame(info, edges[-1], end):
        edges.pop()
    edges.append(end)
    found = []
    for start_s, end_s in pairwise(edges):
        part = replace(cut, start_s=start_s, end_s=end_s)
        count = frames_used(info, judged_cut(info, shape, part))
        found.append(Take(cut=part, num_frames=count, long_enough=count >= shape.num_frames))
    return tuple(found)


def _holds_a_frame(info: VideoInfo, start_s: float, end_s: float) -> bool:
    try:
        info.span(start_s, end_s)
    except ClipRefused:
        return False
    return True
