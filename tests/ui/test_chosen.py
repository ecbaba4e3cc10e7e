"""Chosen clips: what a browser may send, what is kept, what is said of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synmotion_core.clips import video
from synmotion_core.clips.doctor import Cut
from synmotion_core.clips.ffmpeg import Limits
from synmotion_core.errors import ClipError, ConfigError, MissingError, StorageError
from synmotion_core.ui import (
    chosen,
    clips,
)
from synmotion_core.ui.chosen import ClipChoice, Library
from synmotion_core.ui.timeline import timeline_html
from synmotion_core.workspace import Workspace
from tests.clips.test_recordings import from_a_busy_browser
from tests.clips.test_takes import scenes
from tests.ui.studio import PUPPETS, REAL, draw, example


def test_memory_there_and_back(library: Library) -> None:
    choices = tuple(
        dataclasses.replace(c, start_s=0.25 * i, end_s=2.0) for i, c in enumerate(library.examples()[1].clips)
    )
    memory = json.loads(json.dumps(chosen.to_memory(choices)))
    assert chosen.read_memory(memory, library) == (choices, ())


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_memory_is_read_or_named(memory: Any) -> None:
    nowhere: Any = type("Nowhere", (), {"clips": Path("nowhere")})
    choices, _ = chosen.read_memory(
        {"clips": [memory]} if not isinstance(memory, dict) else memory, Library(nowhere, Path("no"))
    )
    assert choices == ()


@pytest.mark.parametrize("rate", [1e9, 240.5, 0, -8, 10**400])
def test_a_rate_that_none_can_have_is_left_out(library: Library, rate: float) -> None:
    (row,) = chosen.to_memory([example(library)])["clips"]
    kept, problems = chosen.read_memory({"clips": [{**row, "resample_fps": rate}, row]}, library)
    assert kept == (example(library),)
    assert problems == ("a remembered clip could not be read and was left out",)
    assert len(chosen.read_memory({"clips": [{**row, "resample_fps": 240}]}, library)[0]) == 1


@pytest.mark.parametrize(
    "source",
    [
        "",
        "upload/",
        "upload/../secret.mp4",
        "upload//etc/passwd",
        "upload/.hidden.mp4",
        "example/index.json",
        "example/../adapters/clap.safetensors",
        "other/x.mp4",
    ],
)
def test_a_source_never_leaves_its_folder(workspace: Workspace, assets: Path, source: str) -> None:
    library = Library(workspace, assets)
    (workspace.clips.parent / "secret.mp4").write_bytes(b"x")
    (workspace.clips / ".hidden.mp4").write_bytes(b"x")
    with pytest.raises(MissingError, match="add it again"):
        library.path(source)


def test_uploads_are_kept_once_under_a_safe_name(library: Library, tmp_path: Path) -> None:
    file = tmp_path / "…a: b?*.MP4"
    draw(tmp_path / "plain.mp4")
    (tmp_path / "plain.mp4").rename(file)
    source = library.add(file)
    assert library.add(file) == source
    kept = library.path(source)
    assert kept.parent == library.workspace.clips
    assert kept.suffix == ".mp4"
    assert kept.read_bytes() == file.read_bytes()
    assert not set(kept.name) & set('<>:"/\\|?*')
    with pytest.raises(ClipError, match="export it as H"):
        library.add(Path("x.avi"))


def test_where_people_share_it_a_clip_may_cost_less_and_is_told_so(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chosen, "SHARED_LIMITS", Limits(all_pixels=16 * 64 * 64))
    clip = example(library)
    assert not library.look(clip, PUPPETS).blocked
    monkeypatch.setattr(chosen, "shared", lambda: True)
    look = library.look(clip, PUPPETS)
    assert look.blocked
    assert "more than 16 frames of 64x64" in look.findings[0].message
    monkeypatch.setattr(chosen, "shared", lambda: False)
    assert not library.look(clip, PUPPETS).blocked


def test_a_full_disk_is_said_and_leaves_nothing(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "a.mp4")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("synmotion_core.ui.uploads.shutil.copyfile", full)
    with pytest.raises(StorageError, match="full"):
        library.add(tmp_path / "a.mp4")
    assert list(library.workspace.clips.iterdir()) == []


def test_a_look_has_findings_a_picture_and_is_remembered(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = example(library)
    look = library.look(choice, PUPPETS)
    assert (look.findings, look.blocked, look.fix) == ((), False, None)
    assert look.poster.startswith("data:image/webp;base64,")
    assert look.facts == "17 frames · 8 fps · 64×64 · 2.12 s"
    monkeypatch.setattr(video, "read", lambda *_, **__: pytest.fail("decoded again"))
    assert library.look(choice, PUPPETS) is look
    gone = library.look(ClipChoice(source="upload/gone.mp4"), PUPPETS)
    assert gone.blocked
    assert gone.facts == "cannot be read"


def test_a_scene_of_no_time_at_all_is_looked_at(library: Library, tmp_path: Path) -> None:
    path = from_a_busy_browser(tmp_path / "camera.webm", [0, *range(0, 1000, 50)], frames=scenes(1, 20))
    look = library.look(ClipChoice(source=library.add(path)), PUPPETS)
    assert "cut" in {f.code for f in look.findings}
    assert [t.num_frames for t in look.takes] == [8], "one take: there is nothing to split"


def test_a_recording_of_one_frame_is_refused_and_shown(library: Library, tmp_path: Path) -> None:
    path = from_a_busy_browser(tmp_path / "camera.webm", [0], last_ms=1)
    choice = ClipChoice(source=library.add(path))
    look = library.look(choice, PUPPETS)
    assert look.blocked
    assert timeline_html(library, choice, look, PUPPETS) == ""


def test_near_duplicates_are_named_by_number_and_file(library: Library) -> None:
    one, other = library.examples()[0].clips[:2]
    looks = library.looks((one, other, one), PUPPETS)
    assert [f.code for look in looks for f in look.findings] == ["duplicate"]
    assert looks[2].findings[0].message.startswith("clip 3 (clap-0.mp4) shows the same as clip 1 (clap-0.mp4)")


def test_real_footage_is_mended_and_warned_of(library: Library, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    noise = np.repeat(np.repeat(rng.integers(0, 255, (75, 9, 16, 3), np.uint8), 8, 1), 8, 2)
    video.write(tmp_path / "street.mp4", noise, 25.0)
    choice = ClipChoice(source=library.add(tmp_path / "street.mp4"))
    look = library.look(choice, PUPPETS)
    assert look.blocked
    mended = clips.mended(choice, library, PUPPETS)
    assert mended.cut == Cut(start_s=0.0, end_s=2.125, resample_fps=8.0)
    after = library.look(mended, PUPPETS)
    assert not after.blocked
    assert "footage" in {f.code for f in after.findings}
    summary = clips.summary_html((mended,), [after], PUPPETS)
    assert "GPU" in summary
    assert "puppets" in summary
    assert "footage" not in {f.code for f in library.look(mended, REAL).findings}


def test_examples_take_the_place_of_examples_only(library: Library) -> None:
    first, second = library.examples()
    own = ClipChoice(source="upload/mine.mp4")
    choices, said = clips.with_examples((own, *first.clips), second)
    assert choices == (own, *second.clips)
    assert (
        said == "3 example clips of “squats”. They take the place of the 3 examples before, "
        "since one adapter learns one motion."
    )
    assert clips.with_examples(choices, second) == (choices, "3 example clips of “squats”.")


def test_edits_are_read_strictly() -> None:
    choice = ClipChoice(source="upload/x.mp4")
    new = clips.edited(choice, "  a  person", "claps ", 0.5, None, None)
    assert new == dataclasses.replace(choice, subject="a person", motion="claps", start_s=0.5)
    assert clips.edited(choice, "", "", None, 1.5, 8).cut == Cut(start_s=0.0, end_s=1.5, resample_fps=8.0)
    for start, end, rate in ((1, 1, None), (-1, None, None), (0, 1, 500), (2, 1, None)):
        with pytest.raises(ConfigError):
            clips.edited(choice, "", "", start, end, rate)


def test_a_bare_word_is_told_how_to_describe_and_a_described_one_is_not(library: Library) -> None:
    choice = dataclasses.replace(library.examples()[0].clips[0], motion="claps")
    told = dataclasses.replace(choice, motion="claps, taps hands front")
    (look,) = library.looks([choice], PUPPETS)
    asked = clips.summary_html((choice,), [look], PUPPETS)
    assert "never saw “claps”" in asked
    assert all(word in asked for word in PUPPETS.options["motion_words"])
    quiet = clips.summary_html((told,), [look], PUPPETS)
    assert "never saw" not in quiet
    assert "1 clip of “claps, taps hands front”" in quiet
    assert (told.title, told.words) == ("a person claps", "a person claps, taps hands front")
