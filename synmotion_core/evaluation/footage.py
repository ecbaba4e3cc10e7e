"""Tasks from videos of one's own: a folder of clips of one motion, the words for it, and who else is to do it.

Where no puppet is drawn nothing is known exactly: what looks at these videos are metrics that need no ground truth.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from synmotion_core.backbones import find_spec
from synmotion_core.clips.dataset import load_clips
from synmotion_core.config import ClipSource
from synmotion_core.errors import ConfigError, MissingError
from synmotion_core.interfaces import BackboneSpec
from synmotion_core.types import Clip, Prompt

SUFFIXES = (".mp4", ".mov", ".webm")
log = logging.getLogger(__name__)


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
    shape = spec.default_shape
    sources = [
        ClipSource(
            path=path,
            subject=footage.subject,
            motion=footage.words,
            resample_fps=shape.fps if footage.retime else None,
        )
        for path in _files(footage, num)
    ]
    loaded = load_clips(sources, shape, puppets_only="" if spec.needs_gpu else spec.name)
    for finding in loaded.findings:
        if finding.severity == "warn":
            _say(f"{footage.clips.name}, {finding.clip or 'clips'}: {finding.message}")
    return list(loaded.clips)


@lru_cache(maxsize=1000)
def _say(sentence: str) -> None:
    """A warning, once a process: clips are read several times."""
    log.warning(sentence)


def _files(footage: Footage, num: int) -> list[Path]:
    if not footage.clips.is_dir():
        raise MissingError(f"there is no folder {footage.clips}: put the clips of “{footage.words}” there")
    files = sorted(path for path in footage.clips.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if len(files) < num:
        raise ConfigError(
            f"{footage.clips} holds {len(files)} videos ({', '.join(SUFFIXES)}), num_clips is {num}: add some, or set "
            f"num_clips to at most {len(files)}"
        )
    return files[:num]


def digest(footage: Footage, num: int, spec: BackboneSpec) -> str:
    """Names what `read` reads: files may change where a folder stays. Raises as it."""
    stats = [(path, path.stat()) for path in _files(footage, num)]
    return _digest(footage, num, spec.name, tuple((path.name, s.st_size, s.st_mtime_ns) for path, s in stats))


@lru_cache(maxsize=256)
def _digest(footage: Footage, num: int, backbone: str, stamp: tuple[object, ...]) -> str:
    """Decoding takes its time, and every kept file of a unit is named by this."""
    clips = read(footage, num, find_spec(backbone))
    return hashlib.sha256("".join(clip.content_hash for clip in clips).encode()).hexdigest()


def prompts(footage: Footage, subjects: Sequence[str], num: int) -> list[Prompt]:
    """`num` prompts of the motion, the subjects in turn."""
    return [Prompt(subject=subjects[i % len(subjects)], motion=footage.words) for i in range(num)]
