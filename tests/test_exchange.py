"""The commands that bring adapters in and out: what they print, where files go, and that the studio takes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synmotion_core import cli
from synmotion_core.adapters.convert import convert
from synmotion_core.adapters.export import export
from synmotion_core.adapters.kept import kept as known_share
from synmotion_core.backbones import find_spec
from synmotion_core.run.export_loss import kept_by_export
from synmotion_core.storage import read_tensors, write_tensors
from synmotion_core.types import Prompt
from synmotion_core.ui.adapters import find_adapters
from synmotion_core.workspace import Workspace
from tests.adapters.foreign_files import keys_of, write_file
from tests.adapters.predictions import puppet_loras

ROOT = Path(__file__).resolve().parent.parent
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


@pytest.mark.parametrize("part", [1.0, 0.5, 0.0])
def test_what_an_export_keeps(part: float, tmp_path: Path) -> None:
    """v is nearly linear in B: half of B keeps 1 - (1/2)^2 of the change, all of it all, and none none.

    All but what bf16 rounds: the file's B has alpha / rank in it.
    """
    full, scaled, out = (tmp_path / f"{name}.safetensors" for name in ("full", "scaled", "out"))
    file = write_file(tmp_path / "theirs.safetensors", keys_of(puppet_loras()))
    done = convert([file], find_spec("puppet-hunyuan"), full, prompt=Prompt(subject="a person", motion="waves"))
    assert done.applied
    export(full, scaled)
    tensors, metadata = read_tensors(scaled)
    own = {key: t * (part if ".lora_B." in key else 1.0) for key, t in tensors.items()}
    write_tensors(out, own, {key: value for key, value in metadata.items() if key != "seal"})
    kept = kept_by_export(full, out, subjects=["a red cat", "a blue robot"])
    assert [text for text, _ in kept.by_video] == ["a red cat waves", "a blue robot waves"]
    assert kept.share == pytest.approx(1 - (1 - part) ** 2, abs=0.1 if part == 0.5 else 1e-3)


def test_the_command_says_what_is_kept(
    tmp_path: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """The embeddings of the shipped squat do not travel."""
    squat = str(ROOT / "assets" / "adapters" / "squat.safetensors")
    out = tmp_path / "out.safetensors"
    words = ["export", squat, "--out", str(out), "--measure", "--subjects", "a red cat", "--json"]
    assert cli.main(words) == cli.OK
    kept = json.loads(capsys.readouterr().out)["kept"]
    assert 0.3 < kept["share"] < 0.9
    assert [text.split()[2] for text, _ in kept["videos"]] == ["cat"]
    known = known_share(workspace.cache, Path(squat), None)
    assert known is not None, "for the adapter's card"
    assert (known.share, known.videos) == (kept["share"], 1)
    assert cli.main([*words[:4], "--subjects", "a red cat"]) == cli.REFUSED
    assert "--subjects is for --measure" in capsys.readouterr().err
