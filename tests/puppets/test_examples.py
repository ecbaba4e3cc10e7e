"""The example clips that ship: the index is true, the files are what the world draws, and they train as they are."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from synmotion_core.clips import dataset, doctor, video
from synmotion_core.clips.image import load_image
from synmotion_core.config import ClipSource
from synmotion_core.puppets.examples import INDEX, main, plan, plan_pictures
from synmotion_core.puppets.motions import MOTIONS
from synmotion_core.puppets.species import SPECIES
from synmotion_core.puppets.stage import BACKGROUNDS, COLOURS, render
from synmotion_core.types import VideoShape

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "clips"
PICTURES = FOLDER.parent / "pictures"
SHAPE = VideoShape(num_frames=17, height=64, width=64, fps=8.0)


def rows() -> list[dict]:
    return json.loads((FOLDER / INDEX).read_text(encoding="utf-8"))["clips"]


def test_the_index_is_the_plan_and_names_every_file() -> None:
    assert rows() == [asdict(example) for example in plan()]
    files = {str(path.relative_to(FOLDER).as_posix()) for path in FOLDER.rglob("*") if path.is_file()}
    assert files == {row["file"] for row in rows()} | {INDEX}


def test_four_rare_motions_with_every_colour_and_background() -> None:
    per_motion = Counter(row["motion_name"] for row in rows())
    assert per_motion == {"wave": 12, "squat": 12, "clap": 12, "spin": 12}
    for motion in per_motion:
        assert MOTIONS[motion].rarity == "rare"
        mine = [row for row in rows() if row["motion_name"] == motion]
        assert {row["colour"] for row in mine} == set(COLOURS)
        assert {row["background"] for row in mine} == set(BACKGROUNDS)
        assert {row["motion"] for row in mine} == {MOTIONS[motion].phrase}
    assert len({row["seed"] for row in rows()}) == 48
    assert {row["species"] for row in rows()} == {"person"}
    assert rows()[0]["subject"] == "a red person"


@pytest.mark.parametrize("motion", ["wave", "squat", "clap", "spin"])
def test_the_files_train_as_they_are(motion: str) -> None:
    mine = [example for example in plan() if example.motion_name == motion]
    sources = [ClipSource(path=FOLDER / e.file, subject=e.subject, motion=e.motion) for e in mine]
    loaded = dataset.load_clips(sources, SHAPE, puppets_only="puppet-hunyuan")
    assert loaded.findings == (), [f.message for f in loaded.findings]
    for clip, example in zip(loaded.clips, mine, strict=True):
        error = np.mean((clip.frames.astype(float) - render(example.scene).frames) ** 2)
        assert 10 * np.log10(255**2 / error) > 32, (
            f"{example.file} is not what the world draws: write the examples again"
        )


def test_no_two_examples_are_alike() -> None:
    clips = [(example.file, render(example.scene).frames) for example in plan()]
    assert doctor.near_duplicates(clips) == []


def test_writing_them_again_gives_the_same_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synmotion_core.puppets import examples

    first = plan()[:2]
    monkeypatch.setattr(examples, "plan", lambda: first)
    main(["--out", str(tmp_path)])
    clips = tmp_path / "clips"
    assert json.loads((clips / INDEX).read_text())["clips"][1]["file"] == "wave/wave-02.mp4"
    for example in first:
        assert np.array_equal(video.read(clips / example.file)[0], video.read(FOLDER / example.file)[0])
    for picture in plan_pictures():
        assert (tmp_path / "pictures" / picture.file).read_bytes() == (PICTURES / picture.file).read_bytes()


def test_a_picture_of_every_puppet_that_begins_a_video_as_it_is() -> None:
    index = json.loads((PICTURES / INDEX).read_text(encoding="utf-8"))
    assert index["pictures"] == [asdict(picture) for picture in plan_pictures()]
    assert {p.name for p in PICTURES.iterdir()} == {row["file"] for row in index["pictures"]} | {INDEX}
    assert {picture.species for picture in plan_pictures()} == set(SPECIES)
    assert len({picture.colour for picture in plan_pictures()}) == len(SPECIES)
    for picture in plan_pictures():
        frames, found = load_image(PICTURES / picture.file, SHAPE, puppets_only="puppet-hunyuan")
        assert np.array_equal(frames[0], render(picture.scene).frames[0])
        assert found == ()
