"""Tasks from videos of one's own: a folder of clips of one motion, the words for it, and who else is to do it.

Where no puppet is drawn nothing is known exactly: what looks at these videos are metrics that need no ground truth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synmotion_core.clips.dataset import load_clips
from synmotion_core.config import ClipSource
from synmotion_core.errors import ConfigError, MissingError
from synmotion_core.interfaces import BackboneSpec
from synmotion_core.types import Clip, Prompt

SUFFIXES = (".mp4", ".mov", ".webm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Footage:
    """One motion's clips and words. clips: a folder of video files that show `subject` doing it, each as long as the
    backbone's videos; words: what they do, as a verb ("claps").

    retime: files at another frame rate are re-timed to the backbone's, which is refused otherwise.
    """

    clips: Path
    words: str
    subject: str = "a person"
    retime: bool = False

    def __post_init__(self) -> None:
        Prompt(subject=self.subject, motion=self.words)  # raises PromptError


def read(footage: Footage, num: int, spec: BackboneSpec) -> list[Clip]:
    """The first `num` files of the folder, by name, in the backbone's default shape.

    Raises MissingError for a folder that is not there, ConfigError where it holds fewer, ClipError as `load_clips`.
    """
    if not footage.clips.is_dir():
        raise MissingError(f"there is no folder {footage.clips}: put the clips of “{footage.words}” there")
    files = sorted(path for path in footage.clips.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if len(files) < num:
        raise ConfigError(
            f"{footage.clips} holds {len(files)} videos ({', '.join(SUFFIXES)}), num_clips is {num}: add some, or set "
            f"num_clips to at most {len(files)}"
        )
    shape = spec.default_shape
    sources = [
        ClipSource(
            path=path,
            subject=footage.subject,
            motion=footage.words,
            resample_fps=shape.fps if footage.retime else None,
        )
        for path in files[:num]
    ]
    return list(load_clips(sources, shape, puppets_only="" if spec.needs_gpu else spec.name).clips)


def digest(clips: Sequence[Clip]) -> str:
    """Names what was read: files may change where a folder stays."""
    return hashlib.sha256("".join(clip.content_hash for clip in clips).encode()).hexdigest()


def prompts(footage: Footage, subjects: Sequence[str], num: int) -> list[Prompt]:
    """`num` prompts of the motion, the subjects in turn."""
    return [Prompt(subject=subjects[i % len(subjects)], motion=footage.words) for i in range(num)]
