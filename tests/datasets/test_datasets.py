"""Saved sets of clips: there and back on disk and as a zip, read by the command line, and no zip is believed."""

from __future__ import annotations

import argparse
import json
import os
import stat
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synmotion_core.arguments import build_parser
from synmotion_core.clips.ffmpeg import Limits
from synmotion_core.command import train_run
from synmotion_core.config import ClipSource
from synmotion_core.datasets import Datasets, write_set, zipped
from synmotion_core.errors import ClipError, ConfigError, MissingError, StorageError, UserInputError
from synmotion_core.workspace import Workspace
from tests.clips.files import H264, encode, numbered

real_kill = os.kill


@pytest.fixture
def datasets(workspace: Workspace) -> Datasets:
    return Datasets(workspace)


@pytest.fixture
def clips(tmp_path: Path) -> tuple[ClipSource, ...]:
    """Two files of one name, one of them cut in two."""
    for folder, count in (("a", 20), ("b", 40)):
        (tmp_path / folder).mkdir()
        encode(tmp_path / folder / "Überschlag.mp4", numbered(count), 8.0, *H264)
    whole = ClipSource(path=tmp_path / "a" / "Überschlag.mp4", subject="a person", motion="flips, turns over")
    part = ClipSource(path=tmp_path / "b" / "Überschlag.mp4", subject="a man", motion="flips, turns over", end_s=2.125)
    other = ClipSource(path=part.path, subject="", motion="", start_s=2.5, resample_fps=8.0)
    return whole, part, other


def told(found: tuple[ClipSource, ...]) -> list[tuple[Any, ...]]:
    return [(c.path.read_bytes(), c.subject, c.motion, c.start_s, c.end_s, c.resample_fps) for c in found]


# ------------------------------------------------------------------------------------------------ on this machine


def test_a_set_comes_back_as_it_was(datasets: Datasets, clips: tuple[ClipSource, ...]) -> None:
    folder = datasets.save("flips", clips)
    assert sorted(p.name for p in folder.iterdir()) == ["index.json", "Überschlag-2.mp4", "Überschlag.mp4"]
    assert told(datasets.clips("flips")) == told(clips)
    (found,) = datasets.all()
    assert found.words == "flips (3 clips: flips, turns over)"
    with pytest.raises(ConfigError, match="already: save it as 'flips 2'"):
        datasets.save("flips", clips[:1])
    datasets.save("flips", clips[:1], replace=True)
    assert len(datasets.clips("flips")) == 1
    assert clips[1].path.is_file(), "a set never takes the files away"
    datasets.delete("flips")
    assert datasets.all() == ()
    assert list(datasets.workspace.datasets.iterdir()) == []
    with pytest.raises(MissingError, match="no saved set"):
        datasets.clips("flips")


def test_the_command_line_trains_on_the_folder(datasets: Datasets, clips: tuple[ClipSource, ...]) -> None:
    folder = datasets.save("flips", clips[:2])
    args: argparse.Namespace = build_parser().parse_args(["train", "--clips", str(folder), "--name", "flip"])
    run = train_run(args)
    assert told(run.clips) == told(clips[:2])
    assert all(clip.path.parent == folder for clip in run.clips)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "con"])
def test_a_name_is_a_plain_name(datasets: Datasets, clips: tuple[ClipSource, ...], name: str) -> None:
    for act in (lambda: datasets.save(name, clips), lambda: datasets.clips(name), lambda: datasets.delete(name)):
        with pytest.raises(ConfigError, match="cannot be a file name"):
            act()


def test_a_full_disk_changes_nothing(
    datasets: Datasets, clips: tuple[ClipSource, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets.save("flips", clips)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("synmotion_core.storage.os.link", full)
    monkeypatch.setattr("synmotion_core.storage.shutil.copyfile", full)
    with pytest.raises(StorageError):
        datasets.save("flips", clips[:1], replace=True)
    assert told(datasets.clips("flips")) == told(clips)
    assert [p.name for p in datasets.workspace.datasets.iterdir()] == ["flips"]


def test_a_set_survives_the_end_of_a_process_that_was_replacing_it(
    datasets: Datasets, clips: tuple[ClipSource, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, dead = datasets.workspace.datasets, subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    datasets.save("mine.1", clips[:1])
    datasets.save("whole", clips[:1])
    (home / "mine.1").rename(home / f".mine.1.{dead.pid}.0123abcd-00000000.old")
    own = f"{os.getpid()}.0123abcd-00000000"  # of an earlier process in a container, where each has this number
    for name in (f".mine.1.{own}.part", f".whole.{own}.old", f".gone.{dead.pid}.gone", f".whole.{dead.pid}.old"):
        (home / name).mkdir()
    kept = [home / ".whole.1.0123abcd-00000000.part", home / ".git", home / ".whole.x.old"]
    monkeypatch.setattr(os, "kill", lambda pid, _: None if pid == 1 else real_kill(pid, 0))
    for folder in kept:
        folder.mkdir()
    with datasets.making("whole", replace=True) as part:
        assert [one.name for one in datasets.all()] == ["mine.1", "whole"]
        assert part.is_dir(), "of this process"
        write_set(part, clips[1:], {})
    assert told(datasets.clips("mine.1")) == told(clips[:1])
    assert told(datasets.clips("whole")) == told(clips[1:])
    assert set(home.iterdir()) == {home / "mine.1", home / "whole", *kept}


def test_a_damaged_set_is_listed_with_what_is_wrong(datasets: Datasets, clips: tuple[ClipSource, ...]) -> None:
    (datasets.save("flips", clips) / "Überschlag.mp4").unlink()
    (found,) = datasets.all()
    assert "which is not there" in found.problem
    assert found.words == "flips (cannot be opened)"
    with pytest.raises(ConfigError, match="no clips to save"):
        datasets.save("none", [])


# ------------------------------------------------------------------------------------------------ as a zip


def test_a_zip_is_the_set(datasets: Datasets, clips: tuple[ClipSource, ...], tmp_path: Path) -> None:
    datasets.save("flips", clips)
    file = tmp_path / "sent.zip"
    zipped.send(datasets, "flips", file)
    with zipfile.ZipFile(file) as archive:
        assert sorted(archive.namelist()) == ["flips/index.json", "flips/Überschlag-2.mp4", "flips/Überschlag.mp4"]
    elsewhere = Datasets(Workspace(tmp_path / "elsewhere"))
    received = zipped.receive(elsewhere, file)
    assert (received.name, received.num_clips, received.notes) == ("flips", 3, ())
    assert told(elsewhere.clips("flips")) == told(clips)
    assert zipped.receive(elsewhere, file).name == "flips 2", "nothing is written over"
    first = file.read_bytes()
    zipped.send(datasets, "flips", file)
    assert file.read_bytes() == first


def test_a_zip_is_held_to_what_a_video_may_cost(
    datasets: Datasets, clips: tuple[ClipSource, ...], tmp_path: Path
) -> None:
    datasets.save("flips", clips)
    file = tmp_path / "sent.zip"
    zipped.send(datasets, "flips", file)
    with pytest.raises(ClipError, match=r"videos in the zip cannot be used: .*, the most that are taken here"):
        zipped.receive(datasets, file, "again", limits=Limits(all_pixels=1))
    assert [one.name for one in datasets.all()] == ["flips"]


def test_a_zip_of_videos_alone_is_taken_without_words(
    datasets: Datasets, clips: tuple[ClipSource, ...], tmp_path: Path
) -> None:
    file = tmp_path / "my clips.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(clips[0].path, unicodedata.normalize("NFD", "Über.mp4"))
        archive.writestr("__MACOSX/._Über.mp4", b"x")
    received = zipped.receive(datasets, file)
    assert received.name == "my clips"
    assert any("no words yet" in note for note in received.notes)
    assert any("__MACOSX" in note for note in received.notes)
    (clip,) = datasets.clips("my clips")
    assert (clip.path.name, clip.subject) == ("Über.mp4", "")


def test_captions_in_a_zip_stay_beside_their_clips(
    datasets: Datasets, clips: tuple[ClipSource, ...], tmp_path: Path
) -> None:
    """And text that is none is left out with a note, not the whole zip."""
    file = tmp_path / "theirs.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("a", "b", "c"):
            archive.write(clips[0].path, f"set/{name}.mp4")
        archive.writestr("set/a.txt", "a man flips\nover a fence")
        archive.writestr("set/b.txt", b"\xff\xfe")
        archive.writestr("set/metadata.jsonl", '{"video_path": "/data/c.mp4", "caption": "a girl flips"}')
        archive.writestr("set/readme.txt", "mine")
        archive.writestr("set/licence.txt", "x" * 20_000)
    received = zipped.receive(datasets, file)
    folder = datasets.folder(received.name)
    assert {path.name: path.read_text() for path in folder.glob("*.txt")} == {
        "a.txt": "a man flips over a fence\n",
        "c.txt": "a girl flips\n",
    }
    assert sorted(p.name for p in folder.iterdir() if p.suffix != ".mp4") == ["a.txt", "c.txt", "index.json"]
    said = " ".join(received.notes)
    for words in (
        "Left out, since captions are shorter: licence.txt.", "b.txt is no text in UTF-8",
        "since it is of no clip: readme.txt.", "2 clips brought a caption",
    ):  # fmt: skip
        assert words in said
    args = ["train", "--name", "f", "--clips", str(folder), "--motion", "flips"]
    with pytest.raises(ClipError, match=r"b\.mp4 has no caption"):
        train_run(build_parser().parse_args(args))
    (folder / "b.txt").write_text("a boy flips")
    found = {c.path.name: (c.subject, c.setting) for c in train_run(build_parser().parse_args(args)).clips}
    assert found == {"a.mp4": ("a man", "over a fence"), "b.mp4": ("a boy", ""), "c.mp4": ("a girl", "")}

    with zipfile.ZipFile(file, "w") as archive:
        index({"file": "a.mp4", "subject": "a man", "motion": "flips", "setting": "at home"})(
            archive, clips[0].path.read_bytes()
        )
        archive.writestr("a.txt", "a girl flips")
    received = zipped.receive(datasets, file, "indexed")
    assert received.notes == ("Left out, since index.json says the words: a.txt.",)
    assert [c.setting for c in datasets.clips("indexed")] == ["at home"]


Write = Callable[[zipfile.ZipFile, bytes], None]


def named(name: str, **attributes: Any) -> Write:
    def write(archive: zipfile.ZipFile, data: bytes) -> None:
        entry = zipfile.ZipInfo(name)
        for key, value in attributes.items():
            setattr(entry, key, value)
        archive.writestr(entry, data)

    return write


def index(*rows: Any) -> Write:
    return lambda archive, data: (
        archive.writestr("a.mp4", data),
        archive.writestr("index.json", json.dumps({"clips": list(rows)})),
    )[0]


ROW = {"file": "a.mp4", "subject": "a man", "motion": "runs"}
HOSTILE: dict[str, tuple[Write, str]] = {
    "climbs": (named("../a.mp4"), "cannot be a file name"),
    "climbs deep": (named("x/../../a.mp4"), "none deeper"),
    "absolute": (named("/etc/a.mp4"), "none deeper"),
    "root": (named("/a.mp4"), "cannot be a file name"),
    "windows": (named("..\\a.mp4"), "cannot be a file name"),
    "drive": (named("C:a.mp4"), "cannot be a file name"),
    "hidden": (named(".a.mp4"), "cannot be a file name"),
    "device": (named("con.mp4"), "cannot be a file name"),
    "link": (named("a.mp4", external_attr=(stat.S_IFLNK | 0o777) << 16), "is a link"),
    "pipe": (named("a.mp4", external_attr=(stat.S_IFIFO | 0o777) << 16), "is a link or no file"),
    "program": (named("a.py"), "is no video"),
    "lzma": (named("a.mp4", compress_type=zipfile.ZIP_LZMA), "rare way"),
    "two folders": (lambda z, d: (z.writestr("x/a.mp4", d), z.writestr("y/b.mp4", d))[0], "2 folders"),
    "twice": (lambda z, d: (z.writestr("a.mp4", d), z.writestr("A.mp4", d))[0], "two files called"),
    "bomb": (
        lambda z, d: z.writestr("a.mp4", d + bytes(40 << 20), zipfile.ZIP_DEFLATED),
        "times larger than it is stored",
    ),
    "no video": (lambda z, d: z.writestr("index.json", "{}"), "no video in the zip"),
    "many": (lambda z, d: [z.writestr(f"{i}.mp4", b"") for i in range(500)].pop(), "holds 500 entries"),
    "broken video": (lambda z, d: z.writestr("a.mp4", d[: len(d) // 2]), "1 videos in the zip cannot be used: a.mp4"),
    "no json": (lambda z, d: (z.writestr("a.mp4", d), z.writestr("index.json", b"\xff{"))[0], "cannot be read"),
    "deep json": (lambda z, d: (z.writestr("a.mp4", d), z.writestr("index.json", "[" * 10**5))[0], "cannot be read"),
    "large index": (lambda z, d: (z.writestr("a.mp4", d), z.writestr("index.json", b" " * (2 << 20)))[0], "at most 1"),
    "index climbs": (index({**ROW, "file": "../../secret.mp4"}), "each by its plain name"),
    "index null": (index({**ROW, "file": "a.mp4\0"}), "each by its plain name"),
    "index number": (index({**ROW, "start_s": "1"}), "cannot be read"),
    "index huge": (lambda z, d: (z.writestr("a.mp4", d), z.writestr("index.json",
        json.dumps([ROW]).replace("}", ', "start_s": 1' + "0" * 400 + "}")))[0], "cannot be read"),
    "index cut": (index({**ROW, "start_s": 2, "end_s": 1}), "must be after"),
    "index rate": (index({**ROW, "resample_fps": 1e9}), "resample_fps must be above 0 and at most 240"),
    "index half a pair": (index({**ROW, "subject": "\ud800"}), "no line of printable text"),
    "index two lines": (index({**ROW, "motion": "runs\nfast"}), "no line of printable text"),
    "index long setting": (index({**ROW, "setting": "x" * 2001}), "more than 200 characters"),
    "captions alone": (named("a.txt"), "no video in the zip"),
    "index long": (index({**ROW, "motion": "x" * 300}), "more than 200 characters"),
    "index many": (index(*[ROW] * 201), "at most 200"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_what_a_zip_may_not_hold(case: str, datasets: Datasets, clips: tuple[ClipSource, ...], tmp_path: Path) -> None:
    write, words = HOSTILE[case]
    file = tmp_path / "zip.zip"
    with zipfile.ZipFile(file, "w") as archive:
        write(archive, clips[0].path.read_bytes())
    before = {path for path in tmp_path.rglob("*") if path != datasets.workspace.datasets}
    with pytest.raises(ClipError, match=words) as refused:
        zipped.receive(datasets, file)
    assert str(datasets.workspace.root) not in str(refused.value), "no path of this machine is told"
    assert {path for path in tmp_path.rglob("*") if path != datasets.workspace.datasets} == before


def test_a_zip_that_lies_about_itself(datasets: Datasets, clips: tuple[ClipSource, ...], tmp_path: Path) -> None:
    file = tmp_path / "zip.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.mp4", clips[0].path.read_bytes())
    whole = file.read_bytes()
    for at in (30, 60, len(whole) // 2):  # a name, the data
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with pytest.raises(UserInputError):
            zipped.receive(datasets, file)
        assert datasets.all() == ()
    for text in (b"", b"PK\5\6", b"no zip", whole[:-30]):
        file.write_bytes(text)
        with pytest.raises(ClipError, match="no zip"):
            zipped.receive(datasets, file)
    end = whole[-22:]
    file.write_bytes(whole[:-22] + b"PK\x06\x07" + bytes(16) + end)
    with pytest.raises(ClipError, match="zip64"):
        zipped.receive(datasets, file)
    file.write_bytes(whole[:-22] + end[:10] + b"\xff\xff" + end[12:])
    with pytest.raises(ClipError, match="65535 entries"):
        zipped.receive(datasets, file)


def test_any_byte_of_its_lists_may_be_wrong(
    datasets: Datasets, clips: tuple[ClipSource, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but a refusal or a set comes of it: zipfile has many ways to say that it cannot read."""
    monkeypatch.setattr(zipped.video, "probe", lambda path, **limits: None)
    file = tmp_path / "zip.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.mp4", b"x" * 100)
    whole, refused = file.read_bytes(), 0
    for at in [*range(36), *range(136, len(whole))]:
        for change in (0xFF, 0x80, 0x01):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ change]) + whole[at + 1 :])
            try:
                zipped.receive(datasets, file)
            except UserInputError:
                refused += 1
    assert refused > 100


def test_a_bug_of_ours_is_no_damage_of_the_zip(
    datasets: Datasets, clips: tuple[ClipSource, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path, **limits: Any) -> None:
        raise RuntimeError("a bug")

    file = tmp_path / "zip.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.mp4", clips[0].path.read_bytes())
    monkeypatch.setattr(zipped.video, "probe", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        zipped.receive(datasets, file)
    assert datasets.all() == ()


def test_a_file_that_is_longer_than_it_says_keeps_its_sentence(
    datasets: Datasets, clips: tuple[ClipSource, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "zip.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.mp4", clips[0].path.read_bytes())
    real = zipped._copy
    monkeypatch.setattr(zipped, "_copy", lambda source, target, entry: real(_Longer(source), target, entry))
    with pytest.raises(ClipError, match=r"^'a\.mp4' in the zip is larger than it says"):
        zipped.receive(datasets, file)


class _Longer:
    """One byte more than there is."""

    def __init__(self, source: Any) -> None:
        self.source, self.more = source, b"x"

    def read(self, size: int) -> bytes:
        block = self.source.read(size)
        if not block:
            block, self.more = self.more, b""
        return block


def test_files_that_the_index_does_not_name_are_left_out(
    datasets: Datasets, clips: tuple[ClipSource, ...], tmp_path: Path
) -> None:
    file = tmp_path / "zip.zip"
    with zipfile.ZipFile(file, "w") as archive:
        index(ROW, {**ROW, "start_s": 1.0})(archive, clips[0].path.read_bytes())
        archive.writestr("b.mp4", clips[1].path.read_bytes())
    received = zipped.receive(datasets, file, "mine")
    assert received.notes == ("Left out, since index.json does not name them: b.mp4.",)
    assert [c.start_s for c in datasets.clips("mine")] == [0.0, 1.0]
    assert not (datasets.folder("mine") / "b.mp4").exists()
