"""Captions as other trainers keep them beside clips, and one taken apart into a subject, a motion and a setting.

    01.mp4  01.txt    a caption a file (diffusion-pipe, musubi-tuner, ai-toolkit)
    *.jsonl           a row a clip (musubi-tuner, data sets of the Hub): its file as "video_path", "file_name" or
                      "video", its words as "caption", "text" or "prompt"

All of it is untrusted text: files have a most of bytes, captions a most of letters, and a row names files below its
folder alone. A path that leads elsewhere, as rows of another machine do, stands for its last part.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

from synmotion_core.errors import ClipError

CAPTION, ROWS = ".txt", ".jsonl"
MOST_BYTES = {CAPTION: 1 << 14, ROWS: 1 << 22}  # of a file
MOST_SUBJECT, MOST_LETTERS = 200, 2000  # of what stands before the motion, of a caption
_FILE, _TEXT = ("video_path", "file_name", "video"), ("caption", "text", "prompt")
_SHOWN = 80
_EDGES = " ,;:.-–—"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caption:
    """A clip's words and where they stand: "01.txt" or "metadata.jsonl, line 3"."""

    text: str
    place: str

    @property
    def shown(self) -> str:
        """Its place and beginning, for a sentence."""
        return f"{self.place}: “{self.text[:_SHOWN]}{'…' if len(self.text) > _SHOWN else ''}”"


@dataclass(slots=True)
class Captions:
    """What lies in a folder: captions by their clips' files, which files were read for them, what is wrong with others.

    Of a clip with two the .txt counts, as it is the clip's own.
    """

    by_clip: dict[Path, Caption] = field(default_factory=dict)
    files: set[Path] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def captions_in(folder: Path, clips: Sequence[Path], endings: Sequence[str]) -> Captions:
    """Captions of these clips of a folder, and of those below it that rows name; `endings` are those of videos."""
    found = Captions()
    for rows in sorted(path for path in folder.glob(f"*{ROWS}") if path.is_file()):
        try:
            _read_rows(rows, endings, found)
        except ClipError as error:
            found.problems.append(str(error))
    for clip in clips:
        path = clip.with_suffix(CAPTION)
        if path.is_file():
            found.files.add(path)
            try:
                found.by_clip[clip] = Caption(text=_line(_text(path), path.name), place=path.name)
            except ClipError as error:
                found.problems.append(str(error))
    return found


def taken_apart(caption: Caption, motion: str) -> tuple[str, str]:
    """(subject, setting) of a caption: what stands before and behind the motion's words, or its name's.

    Raises ClipError, saying what is wanted.
    """
    for words in (motion, motion.split(",")[0]):
        phrase = r"\s+".join(map(re.escape, words.split()))
        at = re.search(rf"(?<!\w){phrase}(?!\w)", caption.text, re.IGNORECASE) if phrase else None
        if at is not None:
            break
    else:
        raise ClipError(f"{caption.shown} does not hold “{motion}”: write that into it, after who moves")
    subject, setting = caption.text[: at.start()].strip(_EDGES), caption.text[at.end() :].strip(_EDGES)
    if not subject:
        raise ClipError(f"{caption.shown} has nothing before “{at[0]}”: begin it with who moves")
    if len(subject) > MOST_SUBJECT:
        raise ClipError(
            f"{caption.shown} has {len(subject)} letters before “{at[0]}”, at most {MOST_SUBJECT} say who moves: "
            "begin it with them"
        )
    return subject, setting


def _read_rows(path: Path, endings: Sequence[str], found: Captions) -> None:
    """Raises ClipError for rows that cannot be read; a file of other rows is none of captions."""
    home, rows = path.parent, []
    for number, line in enumerate(_text(path).splitlines(), 1):
        if line.strip():
            rows.append((f"{path.name}, line {number}", *_row(line)))
    if not any(file and text for _, file, text in rows):
        return
    found.files.add(path)
    for place, file, text in rows:
        try:
            if not file or not text:
                raise ClipError(f"{place}: a row names a video ({', '.join(_FILE)}) and its words ({', '.join(_TEXT)})")
            clip = _below(home, file)
            if clip is None or clip.suffix.lower() not in endings:
                raise ClipError(f"{place}: {file[:_SHOWN]!r} is no video of the folder")
            found.by_clip[clip] = Caption(text=_line(text, place), place=place)
        except ClipError as error:
            found.problems.append(str(error))


def _row(line: str) -> tuple[str, str]:
    """(file, words), each "" where there is none."""
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(row, dict):
        return "", ""
    first = [next((row[key] for key in keys if isinstance(row.get(key), str)), "") for keys in (_FILE, _TEXT)]
    return first[0], first[1]


def _below(home: Path, name: str) -> Path | None:
    """The file below a folder that a row names, or the one in it that has the name's last part."""
    for wanted in (name, PureWindowsPath(name).name):
        try:
            path = home / os.path.normpath(wanted)  # one file is one path, or it would be two clips
            if path.is_file() and path.resolve().is_relative_to(home.resolve()):
                return path
        except (OSError, ValueError):  # too long, or with a null in it
            continue
    return None


def _text(path: Path) -> str:
    most = MOST_BYTES[path.suffix.lower()]
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ClipError(f"{path.name} is no text in UTF-8: save it as that") from error
    except OSError as error:
        raise ClipError(f"{path.name} cannot be read: {error.strerror}") from error
    if len(data) > most:
        raise ClipError(f"{path.name} has more than {most >> 10} KiB: captions are shorter")
    return text


def _line(text: str, place: str) -> str:
    """A caption on one line. Raises ClipError for an empty, a long and an unprintable one."""
    line = " ".join(text.split())
    if not line:
        raise ClipError(f"{place}: the caption is empty")
    if len(line) > MOST_LETTERS:
        raise ClipError(f"{place}: the caption has {len(line)} letters, at most {MOST_LETTERS} are read: shorten it")
    if not line.isprintable():
        raise ClipError(f"{place}: the caption holds characters that cannot be printed: write it anew")
    return line
