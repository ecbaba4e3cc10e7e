"""Clips as people give them to `train`: files, and folders with an index.json or with captions.

A folder is read through its index.json (`{"clips": [{"file", "subject", "motion", optional setting, start_s, end_s,
resample_fps}]}`, other keys are for people) or the one of the folder above, else all its videos are taken in the order
of their names. Where no subject is given, captions of other trainers (clips/captions.py) say it, and the setting: what
stands before and behind the motion's words. Nothing is left out without a note.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synmotion_core.config import ClipSource, from_dict, motion_name
from synmotion_core.errors import ClipError, ConfigError, MissingError

if TYPE_CHECKING:  # a command's help needs no decoder
    from synmotion_core.clips.captions import Caption

VIDEO_ENDINGS = (".mp4", ".m4v", ".mov", ".webm")
Note = Callable[[str], None]  # receives sentences for the person, one a call
_MOST_SAID = 10  # sentences about single files


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingError(f"there is no file {path}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not JSON that can be read: {error}") from error


def clip_file(path: Path, subject: str | None, motion: str | None) -> ClipSource:
    if subject is None and motion is not None:
        from synmotion_core.clips.captions import captions_in

        found = captions_in(path.parent, [path], VIDEO_ENDINGS)
        if found.problems and path not in found.by_clip:
            raise ClipError(found.problems[0])
        if path in found.by_clip:
            return _captioned([path], found.by_clip, motion)[0]
    if subject is None or motion is None:
        missing = " and ".join(
            f"--{name}" for name, given in (("subject", subject), ("motion", motion)) if given is None
        )
        raise ClipError(f'{path} has no words: give {missing}, for example --subject "a person" --motion "waves"')
    return ClipSource(path=path, subject=subject, motion=motion)


def clip_folder(folder: Path, subject: str | None, motion: str | None, note: Note) -> list[ClipSource]:
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    index = folder / "index.json"
    if index in files:
        clips = list(read_index(index))
    else:
        index = folder.resolve().parent / "index.json"
        clips = _named_above(folder, index, note) if subject is None or motion is None else []
    if not clips:
        return _videos(folder, files, subject, motion, note)
    if subject is None and motion is not None and not all(clip.subject for clip in clips):
        from synmotion_core.clips.captions import captions_in

        bare = [clip.path for clip in clips if not clip.subject]
        worded = _captioned(bare, captions_in(folder, bare, VIDEO_ENDINGS).by_clip, motion)
        clips = [_with_words(clip, worded) for clip in clips]
    motions = sorted({clip.motion for clip in clips})
    named = [m for m in motions if m == motion] or [m for m in motions if motion_name(m) == motion]
    motion = named[0] if len(named) == 1 else motion  # "squats" finds "squats, bobs apart"
    if len(motions) > 1:  # one adapter learns one motion, so here the option chooses; it never renames the index's
        if len(named) != 1:
            asked = "name one with --motion"
            if motion is not None:
                asked = f"{motion!r} is the name of {len(named)} of them" if named else f"{motion!r} is not among them"
            raise ClipError(f"{index} names {len(motions)} motions, {asked}: {'; '.join(motions)}")
        clips = [clip for clip in clips if clip.motion == motion]
        note(f"{folder}: {len(clips)} clips of {motion!r}")
    else:
        _note_left_out(
            folder, [p for p in files if p != index and p not in [c.path for c in clips]], "not in index.json", note
        )
    words = {name: given for name, given in (("subject", subject), ("motion", motion)) if given is not None}
    return [dataclasses.replace(clip, **words) for clip in clips]


def _videos(
    folder: Path, files: Sequence[Path], subject: str | None, motion: str | None, note: Note
) -> list[ClipSource]:
    """All videos of a folder without an index, with the words that are given, else their captions'."""
    from synmotion_core.clips.captions import captions_in

    videos = [p for p in files if p.suffix.lower() in VIDEO_ENDINGS]
    found = captions_in(folder, videos, VIDEO_ENDINGS)
    given = subject is not None and motion is not None
    if not given:
        videos = sorted({*videos, *found.by_clip})
    if not videos:
        raise ClipError(f"there is no video in {folder}: it takes {', '.join(VIDEO_ENDINGS)}")
    others = [p for p in files if p not in videos and p not in found.files]
    _note_left_out(folder, others, "not a video by its ending", note)
    if given:
        _note_left_out(folder, sorted(found.files), "since --subject and --motion say all words", note)
        return [clip_file(path, subject, motion) for path in videos]
    for problem in found.problems[:_MOST_SAID]:
        note(f"{folder}: {problem}")
    if not found.by_clip:
        return [clip_file(path, subject, motion) for path in videos]
    if motion is None:
        first = next(iter(found.by_clip.values()))
        raise ClipError(
            f"{folder} has captions ({first.shown}): say which words of theirs are the motion, for example "
            '--motion "waves"'
        )
    return _captioned(videos, found.by_clip, motion)


def _captioned(paths: Sequence[Path], captions: Mapping[Path, Caption], motion: str) -> list[ClipSource]:
    """Clips with the words of their captions around the motion's; ClipError says of each what is wanted."""
    from synmotion_core.clips.captions import taken_apart

    clips, wanted = [], []
    for path in paths:
        try:
            if path not in captions:
                raise ClipError(f"{path.name} has no caption: write one into {path.stem}.txt, with “{motion}” in it")
            who, where = taken_apart(captions[path], motion)
            clips.append(ClipSource(path=path, subject=who, motion=motion, setting=where))
        except ClipError as error:
            wanted.append(str(error))
    if wanted:
        more = f"\n- and {len(wanted) - _MOST_SAID} more" if len(wanted) > _MOST_SAID else ""
        raise ClipError(
            f"{len(wanted)} of {len(paths)} clips have no words that can be taken from a caption (or give one subject "
            'for all: --subject "a person"):\n- ' + "\n- ".join(wanted[:_MOST_SAID]) + more
        )
    return clips


def _with_words(clip: ClipSource, worded: Sequence[ClipSource]) -> ClipSource:
    own = next((one for one in worded if one.path == clip.path), None)
    if own is None or clip.subject:
        return clip
    return dataclasses.replace(clip, subject=own.subject, motion=own.motion, setting=own.setting)


def _named_above(folder: Path, index: Path, note: Note) -> list[ClipSource]:
    """The clips of this folder that the index one folder up names, if there is one: `--clips assets/clips/squat`."""
    if not index.is_file():
        return []
    try:
        clips = [c for c in read_index(index) if c.path.parent.resolve() == folder.resolve()]
    except (ConfigError, MissingError) as error:  # perhaps another program's: this folder stands alone
        note(f"{folder}: no words from the folder above: {error}")
        return []
    if clips:
        note(f"{folder}: words from {index}")
    return [dataclasses.replace(c, path=folder / c.path.name) for c in clips]


def read_index(index: Path) -> Iterator[ClipSource]:
    """The clips that an index.json names, each a file below its folder.

    Raises ConfigError for what is no such index, MissingError for a file that is not there.
    """
    rows = read_json(index)
    rows = rows.get("clips") if isinstance(rows, dict) else rows
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f'{index} must hold {{"clips": [{{"file": ..., "subject": ..., "motion": ...}}, ...]}}')
    home = index.parent.resolve()
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not all(isinstance(row.get(k), str) for k in ("file", "subject", "motion")):
            raise ConfigError(f"{index}: entry {number} needs file, subject and motion, got {str(row)[:100]}")
        path = index.parent / row["file"]
        if not path.resolve().is_relative_to(home):
            raise ConfigError(f"{index}: entry {number} leads out of the folder: {row['file']!r}")
        if not path.is_file():
            raise MissingError(f"{index}: entry {number} names {row['file']!r}, which is not there")
        cut = {name: row[name] for name in ("setting", "start_s", "end_s", "resample_fps") if name in row}
        yield from_dict(ClipSource, {"path": path, "subject": row["subject"], "motion": row["motion"], **cut})


def _note_left_out(folder: Path, files: Sequence[Path], why: str, note: Note) -> None:
    if files:
        names = ", ".join(p.name for p in files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
        note(f"{folder}: left out, {why}: {names}")
