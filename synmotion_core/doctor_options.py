"""The options of `doctor`. Argparse alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

_DOCTOR = """\
Look at clips without training: what is in each file, what keeps it from being used, what would help, and the command
that trains with that. The exit code is 2 if one of them cannot be used as it is.

examples:
  {p} doctor clips/*.mp4
  {p} doctor --start 1 --end 3.125 long.mp4
  {p} doctor clips/*.mp4 --backbone wan2.1-t2v-1.3b --frames 33
  {p} doctor clips/*.mp4 --subject "a person" --motion "waves" --write clips/index.json     then: train --clips clips
"""


def add_doctor(add: Callable[..., argparse.ArgumentParser], backbone: str) -> argparse.ArgumentParser:
    """backbone: the one that clips are judged for where none is named."""
    doctor = add("doctor", _DOCTOR, "look at clips: what keeps them from being used")
    doctor.add_argument("files", nargs="+", type=Path, metavar="FILE")
    doctor.add_argument("--backbone", default=backbone, help="for which (default: %(default)s)")
    doctor.add_argument("--start", type=float, default=0.0, metavar="S", help="look at the part from this second")
    doctor.add_argument("--end", type=float, metavar="S", help="up to this second")
    doctor.add_argument("--resample-fps", type=float, metavar="FPS", help="re-time to this many frames a second")
    text = "write what is proposed as an index beside the clips, which `train --clips` of their folder reads"
    doctor.add_argument("--write", type=Path, metavar="INDEX.JSON", help=text)
    doctor.add_argument("--subject", metavar="WORDS", help="who moves in them, for the index and the command")
    doctor.add_argument("--motion", metavar="WORDS", help="what happens, for the same")
    return doctor
