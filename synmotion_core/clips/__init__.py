"""What goes in: video files, checked, decoded and shaped. Imports at once: no torch, no diffusers.

container.py knows files by their bytes, ffmpeg.py opens them on a short leash, video.py decodes and encodes,
frames.py works on frames in memory, doctor.py says what is wrong with a clip and what would help, dataset.py makes
the `Clip`s that a training sees.
"""

from __future__ import annotations

from synmotion_core.clips.container import CONTAINERS
from synmotion_core.clips.dataset import Checkup, LoadedClips, check, load_clip, load_clips, to_pixels, windows
from synmotion_core.clips.doctor import Cut, Finding, examine
from synmotion_core.clips.ffmpeg import CODECS, LIMITS, ClipRefused, Limits
from synmotion_core.clips.frames import contact_sheet, png, resample, side_by_side
from synmotion_core.clips.video import VideoInfo, probe, read, write

__all__ = [
    "CODECS",
    "CONTAINERS",
    "Checkup",
    "ClipRefused",
    "Cut",
    "Finding",
    "LIMITS",
    "Limits",
    "LoadedClips",
    "VideoInfo",
    "check",
    "contact_sheet",
    "examine",
    "load_clip",
    "load_clips",
    "png",
    "probe",
    "read",
    "resample",
    "side_by_side",
    "to_pixels",
    "windows",
    "write",
]
