"""search, pull and push from a terminal: what is said before anything moves, and what programs read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synmotion_core import cli, sharing
from synmotion_core.adapters.card import check_card
from synmotion_core.adapters.file import read_info
from synmotion_core.adapters.hub import Hub
from synmotion_core.arguments import build_parser
from synmotion_core.command import generate_run
from synmotion_core.errors import ConfigError
from synmotion_core.workspace import Workspace
from tests.adapters.test_card import made
from tests.adapters.test_hub import forged
from tests.hub_server import HubServer

ASSETS = Path(__file__).parents[1] / "assets"
SQUAT, CLIP = ASSETS / "adapters" / "squat.safetensors", ASSETS / "clips" / "squat" / "squat-01.mp4"


@pytest.fixture
def mine(hub: HubServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Workspace:
    """Ann's machine, with an adapter of hers."""
    (workspace.adapters / "my-squat.safetensors").write_bytes(SQUAT.read_bytes())
    monkeypatch.setenv("HF_TOKEN", "hf_ann_write")
    monkeypatch.chdir(tmp_path)
    return workspace


def test_from_one_machine_to_another(
    mine: Workspace, hub: HubServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    push = ["push", "my-squat", "ann/squat", "--video", str(CLIP), "a red cat squats", "--export", "diffusers"]
    assert cli.main([*push, "--public", "--yes"]) == cli.OK
    shown = capsys.readouterr()
    assert shown.out.strip() == f"{hub.url}/ann/squat"
    for name in ("README.md", "my-squat.safetensors", "videos/01.mp4", "pytorch_lora_weights.safetensors"):
        assert f"  {name}  " in shown.err, "every file is listed before it leaves"
    assert "4 of 4 files are there" in shown.err
    assert not hub.repos["ann/squat"].private

    monkeypatch.delenv("HF_TOKEN")
    assert cli.main(["search", "squat"]) == cli.OK
    assert capsys.readouterr().out.startswith("ann/squat  0 downloads, 0 likes, 20")
    assert cli.main(["search", "cartwheel"]) == cli.OK
    assert "no motion adapter was found" in capsys.readouterr().err
    assert cli.main(["pull", "ann/squat", "--name", "hers", "--yes", "--json"]) == cli.OK
    shown = capsys.readouterr()
    assert "licence of the file: apache-2.0; of its page: apache-2.0" in shown.err
    assert "not fetched: pytorch_lora_weights.safetensors" in shown.err
    found = json.loads(shown.out)
    assert found["revision"] == hub.repos["ann/squat"].head.sha
    assert Path(found["path"]) == mine.adapters / "hers.safetensors"
    assert Path(found["path"]).read_bytes() == SQUAT.read_bytes()
    assert cli.main(["pull", "ann/squat", "--name", "hers", "--yes"]) == cli.REFUSED
    assert "there is an adapter 'hers' already" in capsys.readouterr().err


def test_nothing_moves_unasked(
    mine: Workspace, hub: HubServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["push", "my-squat", "ann/squat"]) == cli.REFUSED
    assert "private: only you will see it? Nobody can be asked here: say --yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin.readline", lambda: "n\n", raising=False)
    assert cli.main(["push", "my-squat", "ann/squat"]) == cli.STOPPED
    assert not hub.repos
    assert not [one for one in hub.requests if one.method != "GET"]
    monkeypatch.setattr("sys.stdin.readline", lambda: "y\n", raising=False)
    assert cli.main(["push", "my-squat", "ann/squat"]) == cli.OK
    assert hub.repos["ann/squat"].private


def test_a_card_of_ones_own(
    mine: Workspace, hub: HubServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["push", "my-squat", "ann/squat", "--dry-run"]) == cli.OK
    shown = capsys.readouterr()
    check_card(shown.out, read_info(SQUAT))
    assert "my-squat.safetensors  1,571,560 bytes" in shown.err
    assert not hub.requests
    (tmp_path / "card.md").write_text(shown.out.replace("for any subject", "as my aunt does it"))
    assert cli.main(["push", "my-squat", "ann/squat", "--card", "card.md", "--yes"]) == cli.OK
    assert b"as my aunt does it" in hub.repos["ann/squat"].head.files["README.md"]
    (tmp_path / "card.md").write_text("my thesis")
    assert cli.main(["push", "my-squat", "ann/squat", "--card", "card.md", "--yes"]) == cli.REFUSED
    assert "begins with its front matter" in capsys.readouterr().err
    for words, said in (
        (["push", "gone", "ann/squat", "--yes"], "there is no adapter 'gone' on this machine (my-squat)"),
        (["push", "my-squat", "squat", "--yes"], "a repository is named owner/name"),
        (["push", "my-squat", "ann/squat", "--card", "gone.md", "--yes"], "gone.md"),
        (["pull", "ann/nothing", "--yes"], "the Hub has no ann/nothing"),
        (["search", "--limit", "0"], "limit must be 1 to 200"),
        (["search", "--backbone", "wan"], "there is no backbone 'wan'"),
    ):
        assert cli.main(words) == cli.REFUSED, words
        assert said in capsys.readouterr().err


def test_what_diffusers_loads_goes_with_it_unless_it_is_said_otherwise(
    mine: Workspace, hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a base whose pipeline loads it; a pull finds our own file beside it."""
    made(mine.adapters, "wan2.1-t2v-1.3b", "lora", "my-wave")
    for words, files in (
        ([], ["README.md", "my-wave.safetensors", "pytorch_lora_weights.safetensors"]),
        (["--export", "none"], ["README.md", "my-wave.safetensors"]),
        (["--export", "comfyui"], ["README.md", "my-wave.safetensors", "my-wave-comfyui.safetensors"]),
    ):
        assert cli.main(["push", "my-wave", "ann/wave", "--dry-run", "--json", *words]) == cli.OK
        assert [file["name"] for file in json.loads(capsys.readouterr().out)["files"]] == files
    assert cli.main(["push", "my-wave", "ann/wave", "--export", "none", "comfyui", "--yes"]) == cli.REFUSED
    assert "--export none stands alone" in capsys.readouterr().err
    assert cli.main(["push", "my-wave", "ann/wave", "--yes"]) == cli.OK
    assert "  pytorch_lora_weights.safetensors  " in capsys.readouterr().err, "listed before it leaves"
    there = Hub(token="hf_ann_write").look("ann/wave")
    assert (there.file, there.left) == ("my-wave.safetensors", ("pytorch_lora_weights.safetensors",))


def test_a_folder_of_its_name_does_not_hide_an_adapter(mine: Workspace, tmp_path: Path) -> None:
    (tmp_path / "my-squat").mkdir()
    assert cli.main(["push", "my-squat", "ann/squat", "--dry-run"]) == cli.OK
    args = build_parser().parse_args(["generate", "--adapter", "my-squat", "--subject", "a cat"])
    assert generate_run(args).adapter == mine.adapters / "my-squat.safetensors"


def test_text_from_elsewhere_moves_no_cursor(
    mine: Workspace, hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    card = '---\nlicense: "\\e[31mred\\a"\ntags: [motion-adapter]\n---\n'
    files = {"README.md": card.encode(), "squat.safetensors": SQUAT.read_bytes(), "\x1b[2J.bin": b"x" * 20_000}
    hub.add_repo("eve/squat", files=files)
    assert cli.main(["pull", "eve/squat", "--yes"]) == cli.OK
    shown = capsys.readouterr()
    assert "\x1b" not in shown.err + shown.out
    assert "\x07" not in shown.err
    files["squat.safetensors"] = forged(method_config={"\x1b[2J": 1})
    hub.add_repo("eve/lies", files=files)
    assert cli.main(["pull", "eve/lies", "--yes"]) == cli.REFUSED
    said = capsys.readouterr().err
    assert "has settings that synmotion does not know" in said
    assert "\x1b" not in said


def test_an_answer_is_yes_or_no() -> None:
    assert sharing.terminal_answer("Go?", lambda: " Y \n")
    assert sharing.terminal_answer("Go?", lambda: "yes")
    assert not sharing.terminal_answer("Go?", lambda: "")
    with pytest.raises(ConfigError, match="say --yes"):
        sharing.terminal_answer("Go?", None)
