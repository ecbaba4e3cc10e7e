"""The commands that bring adapters in and out: what they print, where files go, and that the studio takes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synmotion_core import cli
from synmotion_core.ui.adapters import find_adapters
from synmotion_core.workspace import Workspace
from tests.adapters.foreign_files import keys_of, write_file
from tests.adapters.predictions import puppet_loras

WORDS = ["--backbone", "puppet-hunyuan", "--subject", "a person", "--motion", "waves"]


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    return write_file(tmp_path / "theirs.safetensors", keys_of(puppet_loras()))


def test_a_file_from_elsewhere_is_among_the_adapters(
    theirs: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["convert", str(theirs), *WORDS, "--name", "my wave"]) == cli.OK
    out, err = capsys.readouterr()
    assert out.strip() == str(workspace.adapters / "my wave.safetensors")
    assert err.splitlines() == [
        "theirs.safetensors: 39 of 39 keys apply to puppet-hunyuan",
        "  13 layers: the file's own alpha",
        "saved my wave.safetensors and loaded it back: 44 of 44 keys apply",
    ]
    choices, problems = find_adapters(workspace)
    assert problems == ()
    assert "my wave" in [choice.path.stem for choice in choices]
    assert cli.main(["convert", str(theirs), *WORDS, "--name", "my wave"]) == cli.REFUSED
    assert "is there already" in capsys.readouterr().err


def test_every_key_can_be_listed(theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k, more in enumerate((["--keys"], ["--json"])):
        assert cli.main(["convert", str(theirs), *WORDS, *more, "--out", str(tmp_path / f"{k}.safetensors")]) == cli.OK
    out, err = capsys.readouterr()
    assert len([line for line in err.splitlines() if " -> " in line]) == 39
    answer = json.loads(out.splitlines()[1])
    assert (answer["applied"], answer["files"][0]["applied"]) == (44, 39)
    assert answer["files"][0]["alphas"] == {"key": 13}
    (linear2,) = [k for k in answer["files"][0]["keys"] if k["key"].endswith("linear2.alpha")]
    assert (linear2["to"], linear2["reason"]) == (["single_transformer_blocks.1.proj_out"], "")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "an adapter needs a name"),
        (["--name", "../up"], "cannot be a file name"),
        (["--name", "x", "--expert", "high_noise"], "has one transformer, no experts"),
        (["--name", "x", "--alpha", "2"], "says the alpha of every layer itself"),
        (["--name", "x", "--backbone", "wan2.1-t2v-14b"], "none of its 39 keys apply to wan2.1-t2v-14b"),
        (["--name", "x", "--backbone", "wan"], "there is no backbone 'wan'"),
    ],
)
def test_what_cannot_be_used_is_refused(
    theirs: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    assert cli.main(["convert", str(theirs), *WORDS, *more]) == cli.REFUSED
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert list(workspace.adapters.iterdir()) == []
