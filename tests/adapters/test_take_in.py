"""Adapters of ours that come as files: verified as those of the Hub, copied under a free name, untrusted."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from synmotion_core import cli
from synmotion_core.adapters import take_in as module
from synmotion_core.adapters.export import export
from synmotion_core.adapters.file import read_info, save_adapter
from synmotion_core.adapters.take_in import take_in
from synmotion_core.errors import AdapterError, ConfigError, UserInputError
from synmotion_core.storage import read_tensors
from synmotion_core.ui.adapters import find_adapters
from synmotion_core.workspace import Workspace

SQUAT = Path(__file__).parents[2] / "assets" / "adapters" / "squat.safetensors"


@pytest.fixture
def mailed(tmp_path: Path) -> Path:
    return Path(shutil.copyfile(SQUAT, tmp_path / "my wave?.safetensors"))


def other(path: Path, **changes: object) -> Path:
    """The squat with other numbers, or what it says of itself changed."""
    tensors = {key: tensor * 2 for key, tensor in read_tensors(SQUAT)[0].items()}
    save_adapter(path, tensors, dataclasses.replace(read_info(SQUAT), **changes))
    return path


def test_it_is_here_under_a_free_name(mailed: Path, workspace: Workspace) -> None:
    done = take_in(mailed, workspace)
    assert done.path == workspace.adapters / "my wave-.safetensors"
    assert done.path.read_bytes() == SQUAT.read_bytes()
    assert (done.applied, done.known, done.info) == (135, False, read_info(SQUAT))
    (mine,) = (choice for choice in find_adapters(workspace)[0] if choice.id.startswith("mine/"))
    assert mine.label == "my wave-: squats (taken in)", "it was not trained here"
    again = take_in(mailed, workspace)
    assert (again.path, again.known) == (done.path, True)
    second = take_in(other(mailed), workspace)
    assert second.path.name == "my wave--2.safetensors", "another one is not written over"
    assert done.path.read_bytes() == SQUAT.read_bytes()
    assert take_in(mailed, workspace, name="third").path.stem == "third"
    with pytest.raises(ConfigError, match="there is an adapter 'third' already: choose another name"):
        take_in(SQUAT, workspace, name="third")
    with pytest.raises(ConfigError, match="cannot be a file name"):
        take_in(mailed, workspace, name="../third")
    assert sorted(path.name for path in workspace.adapters.glob("*")) == [
        "my wave--2.about", "my wave--2.safetensors", "my wave-.about", "my wave-.safetensors",
        "third.about", "third.safetensors",
    ]  # fmt: skip


def damaged(path: Path) -> None:
    data = bytearray(SQUAT.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def with_a_key_too_many(path: Path) -> None:
    save_adapter(path, read_tensors(SQUAT)[0] | {"synmotion.more": torch.ones(2)}, read_info(SQUAT))


def huge(path: Path) -> None:
    path.write_bytes((1 << 40).to_bytes(8, "little") + SQUAT.read_bytes()[8:])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (damaged, "x.safetensors is damaged: its contents do not match its seal"),
        (with_a_key_too_many, "1 unexpected (first: more)"),
        (huge, "is not a safetensors file"),
        (lambda path: path.write_bytes(b"\x80\x04N."), "is not a safetensors file"),
        (lambda path: export(SQUAT, path), "is not a SynMotion adapter"),
        (lambda path: other(path, backbone="wan2.1-t2v-1.3b"), "synmotion for wan2.1-t2v-1.3b, and is not"),
        (lambda path: other(path, backbone="wan9"), "wan9"),
        (lambda path: other(path, method="magic"), "magic"),
        (lambda path: other(path, method_config={"rank": "x"}), "settings"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    tmp_path: Path, workspace: Workspace, make: object, words: str
) -> None:
    assert callable(make)
    make(tmp_path / "x.safetensors")
    with pytest.raises(UserInputError) as caught:
        take_in(tmp_path / "x.safetensors", workspace)
    assert words in str(caught.value)
    assert not list(workspace.adapters.iterdir())


def test_one_that_is_too_large_is_not_read(mailed: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ADAPTER", 1000)
    with pytest.raises(AdapterError, match="an adapter at most 1,000"):
        take_in(mailed, workspace)


def test_the_command(mailed: Path, workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["import", str(mailed), "--name", "wave"]) == cli.OK
    out, err = capsys.readouterr()
    assert out.strip() == str(workspace.adapters / "wave.safetensors")
    assert "“squats, bobs apart deep, swings hands down out slow”, learnt from an orange person, by synmotion" in err
    assert "took in wave.safetensors: 135 of 135 keys apply" in err
    export(SQUAT, tmp_path / "lora.safetensors")
    assert cli.main(["import", str(tmp_path / "lora.safetensors")]) == cli.REFUSED
    assert "a LoRA of another program is taken in by `convert`" in capsys.readouterr().err
    words = ["--backbone", "puppet-hunyuan", "--subject", "a person", "--motion", "waves", "--name", "x"]
    assert cli.main(["convert", str(mailed), *words]) == cli.REFUSED
    assert "is an adapter of SynMotion's own, and no LoRA of another program: import it" in capsys.readouterr().err
