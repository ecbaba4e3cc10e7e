"""A set of clips as one .zip, and a .zip from elsewhere as a set: nothing in it is believed before it was checked.

    <name>.zip    <name>/index.json, <name>/<file> ...    stored, not compressed: videos are that already

Before anything is unpacked: the end record (a list of millions of names is never read), then every entry's name, kind,
size and ratio. While unpacking: bytes are counted, whatever the header says. After: each video is opened by the one
decoder, and a single one that it refuses refuses the zip. A zip of videos without an index is taken, its words empty;
captions that lie beside them (clips/captions.py) stay beside them, for `train --clips FOLDER --motion WORDS`, as .txt.
"""

from __future__ import annotations

import json
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from synmotion_core.clip_files import VIDEO_ENDINGS, read_index
from synmotion_core.clips import video
from synmotion_core.clips.captions import CAPTION, MOST_LETTERS, captions_in
from synmotion_core.clips.captions import MOST_BYTES as MOST_TEXT_BYTES
from synmotion_core.clips.ffmpeg import LIMITS, Limits
from synmotion_core.config import ClipSource
from synmotion_core.datasets import INDEX, MOST_CLIPS, Datasets
from synmotion_core.errors import ClipError, ConfigError, UserInputError
from synmotion_core.workspace import safe_name

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_ENTRIES = 2 * MOST_CLIPS + 10
MOST_BYTES = 2 << 30  # unpacked, all together
MOST_INDEX_BYTES = 1 << 20
MOST_LIST_BYTES = 1 << 20  # of the names at the end
MOST_WORDS = 200  # characters of a subject or a motion
_RATIO, _RATIO_FREE = 20, 1 << 20  # how far an entry may be compressed, beyond its first MiB
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_END, _END64 = b"PK\x05\x06", b"PK\x06\x07"
_END_SIZE, _MOST_COMMENT = 22, 1 << 16
_LITTER = ("__MACOSX/", ".DS_Store", "Thumbs.db", "desktop.ini")  # what systems put in by themselves
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A set that came as a zip: under which name it is kept, and what a person should know."""

    name: str
    num_clips: int
    notes: tuple[str, ...]


def send(datasets: Datasets, name: str, target: Path) -> None:
    """Write a set as a zip, all or nothing. Raises MissingError for none of that name, StorageError for no room."""
    from synmotion_core.storage import replacing

    folder = datasets.folder(name)
    files = sorted({clip.path for clip in datasets.clips(name)})
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for path in (folder / INDEX, *files):
            entry = zipfile.ZipInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}", _EPOCH)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=False) as place:
                while block := source.read(1 << 20):
                    place.write(block)


def receive(datasets: Datasets, file: Path, name: str = "", *, limits: Limits = LIMITS) -> Received:
    """Unpack a zip into a new set; `name` "" takes the zip's own. limits: what each video may cost.

    Raises ClipError naming what cannot be taken.
    """
    _check_end(file)
    with _damage(file):
        archive = zipfile.ZipFile(file)
    with archive:
        entries, notes, own = _checked(archive)
        wanted = datasets.free_name(name or own or file.stem)
        datasets.workspace.require_free(sum(e.file_size for e in entries.values()), f"unpacking {file.name}")
        with datasets.making(wanted) as folder:
            for short, entry in entries.items():
                with _damage(file), archive.open(entry) as source:
                    _copy(source, folder / short, entry)
            clips = _finished(folder, entries, notes, limits)
    return Received(name=wanted, num_clips=len(clips), notes=tuple(notes))


@contextmanager
def _damage(file: Path) -> Iterator[None]:
    """What zipfile raises for bytes that are no zip, as ClipError; around its calls alone, or bugs would look so, too.

    NotImplementedError: a version or a way of storing that it does not know; ValueError: names that are no text, and
    places before the beginning of the file.
    """
    try:
        yield
    except UserInputError:  # ours, and a ValueError as well
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise ClipError(f"{file.name} is damaged or no zip that can be read: {error}") from error


# ------------------------------------------------------------------------------------------------ before unpacking


def _check_end(file: Path) -> None:
    """How many entries there are, from the last bytes, found as zipfile finds them: it would read any number."""
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - _END_SIZE - _MOST_COMMENT - 20))
        tail = stream.read()
    at = len(tail) - _END_SIZE
    if at < 0 or tail[at : at + 4] != _END or tail[-2:] != b"\0\0":
        at = tail.rfind(_END)
    if at < 0 or at + _END_SIZE > len(tail):
        raise ClipError(f"{file.name} is no zip: choose one that “Download” has made, or zip a folder of videos")
    if tail[max(0, at - 20) : max(0, at - 16)] == _END64:
        raise ClipError(f"{file.name} is a zip of the large kind (zip64): a set of clips needs none, zip it again")
    count, list_bytes = struct.unpack("<HI", tail[at + 10 : at + 16])
    if count > MOST_ENTRIES or list_bytes > MOST_LIST_BYTES:
        raise ClipError(f"{file.name} holds {count} entries, a set has at most {MOST_CLIPS} clips: take some out")


def _checked(archive: zipfile.ZipFile) -> tuple[dict[str, zipfile.ZipInfo], list[str], str]:
    """({file name: entry}, notes, the name of the folder in it). Raises ClipError for the first that cannot be."""
    entries: dict[str, zipfile.ZipInfo] = {}
    folders, litter, long, seen, total = set(), [], [], set(), 0
    if len(archive.infolist()) > MOST_ENTRIES:
        raise ClipError(f"the zip holds {len(archive.infolist())} entries, a set has at most {MOST_CLIPS} clips")
    for entry in archive.infolist():
        if _is_litter(entry.filename):
            litter.append(entry.filename)
            continue
        if entry.is_dir():
            continue
        folder, short = _place(entry)
        _check_entry(entry, short)
        if entry.file_size > MOST_TEXT_BYTES.get(Path(short).suffix.lower(), entry.file_size):
            long.append(short)
            continue
        total += entry.file_size
        if total > MOST_BYTES:
            raise ClipError(f"the zip holds more than {MOST_BYTES >> 30} GiB of videos: take some out")
        if short.casefold() in seen:
            raise ClipError(f"the zip holds two files called {short!r}: rename one")
        seen.add(short.casefold())
        folders.add(folder)
        entries[short] = entry
    if len(folders) > 1:
        raise ClipError(f"the zip holds {len(folders)} folders: zip one folder of clips")
    if not any(_is_video(short) for short in entries):
        raise ClipError(f"there is no video in the zip: it takes {', '.join(VIDEO_ENDINGS)}")
    notes = [f"Left out, since systems put it in by themselves: {', '.join(litter[:3])}."] if litter else []
    notes += [f"Left out, since captions are shorter: {_some(long)}."] if long else []
    return entries, notes, next(iter(folders))


def _is_litter(name: str) -> bool:
    return name.startswith(_LITTER[0]) or name.rpartition("/")[2] in _LITTER[1:]


def _is_video(short: str) -> bool:
    return Path(short).suffix.lower() in VIDEO_ENDINGS


def _is_text(short: str) -> bool:
    return Path(short).suffix in MOST_TEXT_BYTES


def _place(entry: zipfile.ZipInfo) -> tuple[str, str]:
    """(folder, "" for none; file name) of an entry that lies at most one folder deep."""
    parts = entry.filename.split("/")
    if len(parts) > 2 or entry.orig_filename != entry.filename:
        raise ClipError(f"the zip holds {entry.orig_filename[:100]!r}: clips must lie in one folder, none deeper")
    try:
        parts = [safe_name(part) for part in parts]  # composed (NFC): macOS zips names taken apart
    except ConfigError as error:
        raise ClipError(f"the zip holds {entry.filename[:100]!r}: {error}") from error
    return (parts[0] if len(parts) == 2 else ""), parts[-1]


def _check_entry(entry: zipfile.ZipInfo, short: str) -> None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise ClipError(f"{short!r} in the zip is a link or no file at all: zip the videos themselves")
    if entry.flag_bits & 0x1:
        raise ClipError(f"{short!r} in the zip is locked by a password: zip it without one")
    if short != INDEX and not _is_video(short) and not _is_text(short):
        raise ClipError(
            f"{short!r} in the zip is no video: a set holds {', '.join(VIDEO_ENDINGS)}, {INDEX} and captions "
            f"({', '.join(MOST_TEXT_BYTES)})"
        )
    if entry.compress_type not in _METHODS:
        raise ClipError(f"{short!r} in the zip is compressed in a rare way: use the usual one (deflate)")
    most = MOST_INDEX_BYTES if short == INDEX else LIMITS.file_bytes
    if entry.file_size > most:
        raise ClipError(f"{short!r} in the zip has {entry.file_size >> 20} MiB, at most {most >> 20} are taken")
    if entry.file_size > _RATIO_FREE + _RATIO * entry.compress_size:
        raise ClipError(f"{short!r} in the zip is {entry.file_size // max(1, entry.compress_size)} times larger than "
                        "it is stored, which no video is")  # fmt: skip


# ------------------------------------------------------------------------------------------------ unpacking


def _copy(source: IO[bytes], target: Path, entry: zipfile.ZipInfo) -> None:
    left = entry.file_size
    with target.open("xb") as file:
        while block := source.read(1 << 20):
            left -= len(block)
            if left < 0:
                raise ClipError(f"{target.name!r} in the zip is larger than it says")
            file.write(block)


def _finished(
    folder: Path, entries: dict[str, zipfile.ZipInfo], notes: list[str], limits: Limits
) -> tuple[ClipSource, ...]:
    """What the unpacked folder says, every video opened; writes the index anew, of what it names alone."""
    from synmotion_core.datasets import index_text

    videos = sorted(filter(_is_video, entries))
    texts = sorted(filter(_is_text, entries))
    if INDEX in entries:
        clips = _named(folder)
        extra = [short for short in videos if short not in {clip.path.name for clip in clips}]
        if extra:
            notes.append(f"Left out, since {INDEX} does not name them: {_some(extra)}.")
        if texts:
            notes.append(f"Left out, since {INDEX} says the words: {_some(texts)}.")
        for short in (*extra, *texts):
            (folder / short).unlink()
    else:
        clips = tuple(ClipSource(path=folder / short, subject="", motion="") for short in videos)
        notes.append(f"There is no {INDEX} in it: the clips have no words yet.")
        notes += _captions_kept(folder, [clip.path for clip in clips], texts)
    if len(clips) > MOST_CLIPS:
        raise ClipError(f"the zip names {len(clips)} clips, a set holds at most {MOST_CLIPS}: take some out")
    refused = []
    for path in sorted({clip.path for clip in clips}):
        try:
            video.probe(path, limits=limits)
        except UserInputError as error:
            refused.append(str(error))
    if refused:
        raise ClipError(f"{len(refused)} videos in the zip cannot be used: {'; '.join(refused[:5])}")
    (folder / INDEX).write_text(index_text(clips, {clip.path: clip.path.name for clip in clips}), encoding="utf-8")
    return clips


def _captions_kept(folder: Path, clips: list[Path], texts: Sequence[str]) -> list[str]:
    """Captions that can be read become a .txt each beside their clips, other text goes; what is to be said of both."""
    if not texts:
        return []
    found = captions_in(folder, clips, VIDEO_ENDINGS)
    kept = {path: caption for path, caption in found.by_clip.items() if path in clips}
    for short in texts:
        (folder / short).unlink()
    for path, caption in kept.items():
        path.with_suffix(CAPTION).write_text(f"{caption.text}\n", encoding="utf-8")
    notes = [f"A caption was left out: {problem}." for problem in found.problems[:3]]
    unused = [short for short in texts if folder / short not in found.files]
    notes += [f"Left out, since it is of no clip: {_some(unused)}."] if unused else []
    if kept:
        first = next(iter(kept.values()))
        notes.append(
            f"{len(kept)} clips brought a caption ({first.shown}). Which words of it are the motion, they do not say: "
            f"write subject and motion here, or train on the set's folder with --motion in a terminal."
        )
    return notes


def _named(folder: Path) -> tuple[ClipSource, ...]:
    try:
        rows: Any = json.loads((folder / INDEX).read_bytes())
        rows = rows.get("clips") if isinstance(rows, dict) else rows
        there = {path.name for path in folder.iterdir()} - {INDEX}
        plain = [{**row, "file": _composed(row)} for row in rows] if _are_rows(rows) else []
        if plain and all(row["file"] in there for row in plain):
            (folder / INDEX).write_text(json.dumps({"clips": plain}), encoding="utf-8")
            clips = tuple(read_index(folder / INDEX))
        else:
            clips = ()
    except (ConfigError, ValueError, OverflowError, RecursionError) as error:
        raise ClipError(f"{INDEX} in the zip cannot be read: {_without(folder, str(error))}") from error
    if not clips:
        raise ClipError(f"{INDEX} in the zip must name files of the zip, each by its plain name")
    for clip in clips:
        # a half of a pair of surrogates could not even be written
        if not (clip.subject + clip.motion + clip.setting).isprintable():
            raise ClipError(f"{INDEX} in the zip has words that are no line of printable text: write them anew")
        if max(len(clip.subject), len(clip.motion)) > MOST_WORDS or len(clip.setting) > MOST_LETTERS:
            raise ClipError(f"{INDEX} in the zip has words of more than {MOST_WORDS} characters: shorten them")
    return tuple(replace(clip, path=folder / clip.path.name) for clip in clips)


def _are_rows(rows: Any) -> bool:
    return isinstance(rows, list) and all(isinstance(row, dict) and isinstance(row.get("file"), str) for row in rows)


def _composed(row: dict[str, Any]) -> str:
    return unicodedata.normalize("NFC", row["file"])


def _without(folder: Path, text: str) -> str:
    return text.replace(f"{folder}/", "")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
