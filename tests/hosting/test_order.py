"""What leaves for one training elsewhere: its own files under plain names, the source it needs, and nothing more."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from synmotion_core.config import TrainRun, from_dict
from synmotion_core.errors import ConfigError, IncompatibleError, MissingError, UserInputError
from synmotion_core.hosting.order import pack
from synmotion_core.hosting.sources import ROOT
from synmotion_core.training.settings import TrainConfig
from synmotion_core.workspace import Workspace, weights_place


def test_what_leaves(run: TrainRun, tmp_path: Path, workspace: Workspace) -> None:
    order = pack(run, tmp_path)
    names = {file.name: file for file in order.files}
    assert [file.name for file in order.given] == ["job/clips/01.mp4", "job/clips/02.mp4"]
    assert [file.path for file in order.given] == [clip.path for clip in run.clips]
    assert {"requirements.txt", "LICENSE", "synmotion_core/cli.py", "assets/puppet-judge/model.safetensors"} <= set(
        names
    )
    assert {name.split("/")[1] for name in names if name.startswith("assets/")} == {"puppet-hunyuan", "puppet-judge"}
    assert not {"app.py", "README.md"} & set(names)
    text = names["job/job.json"].path.read_text()
    assert str(run.clips[0].path.parent) not in text, "no path of this machine"
    assert "wave-01" not in text
    there = from_dict(TrainRun, json.loads(text))
    assert [clip.path.as_posix() for clip in there.clips] == ["job/clips/01.mp4", "job/clips/02.mp4"]
    same = [dataclasses.replace(a, path=b.path) for a, b in zip(there.clips, run.clips, strict=True)]
    assert dataclasses.replace(there, clips=tuple(same)) == run


def test_the_same_order_has_the_same_key(run: TrainRun, tmp_path: Path, workspace: Workspace) -> None:
    first = pack(run, tmp_path)
    assert pack(run, tmp_path / "again").key == first.key
    longer = dataclasses.replace(run, train=dataclasses.replace(run.train, num_steps=3))
    assert pack(longer, tmp_path / "longer").key != first.key
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(run.clips[0].path.read_bytes()[:-1] + b"x")
    other = dataclasses.replace(run, clips=(dataclasses.replace(run.clips[0], path=copy), run.clips[1]))
    assert pack(other, tmp_path / "other").key != first.key, "other bytes, of the same size"


def test_a_clip_in_two_parts_leaves_once_and_pictures_too(run: TrainRun, tmp_path: Path, workspace: Workspace) -> None:
    pictures = tuple(ROOT / "assets" / "pictures" / name for name in ("red-cat.png", "red-cat.png"))
    train = TrainConfig(num_steps=2, sample_subjects=("a red cat", "a cat"), sample_images=pictures)
    parts = (run.clips[0], dataclasses.replace(run.clips[0], start_s=0.5))
    order = pack(dataclasses.replace(run, mode="i2v", train=train, clips=parts), tmp_path)
    assert [file.name for file in order.given] == ["job/clips/01.mp4", "job/pictures/01.png"]
    there = json.loads((tmp_path / "job.json").read_text())
    assert there["train"]["sample_images"] == ["job/pictures/01.png"] * 2


def test_a_large_backbone_takes_no_assets(run: TrainRun, tmp_path: Path, workspace: Workspace) -> None:
    large = dataclasses.replace(run, backbone="wan2.1-t2v-1.3b")
    assert not [file.name for file in pack(large, tmp_path).files if file.name.startswith("assets/")]
    place = weights_place("wan2.1-t2v-1.3b")
    place.mkdir(parents=True)
    (place / "model_index.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"wan2\.1-t2v-1\.3b is read from a folder of weights on this machine"):
        pack(large, tmp_path)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"clips": "gone"}, MissingError, "there is no file"),
        ({"backbone": "wan"}, ConfigError, "there is no backbone 'wan'"),
        ({"method": "separation"}, IncompatibleError, "separation"),
        ({"method_config": {"rnak": 2}}, ConfigError, "did you mean 'rank'"),
    ],
)
def test_what_cannot_be_trained_does_not_leave(
    run: TrainRun, tmp_path: Path, workspace: Workspace, changes: dict, error: type[UserInputError], said: str
) -> None:
    if "clips" in changes:
        changes = {"clips": (dataclasses.replace(run.clips[0], path=tmp_path / "gone.mp4"),)}
    with pytest.raises(error, match=re.escape(said)):
        pack(dataclasses.replace(run, **changes), tmp_path / "order")
