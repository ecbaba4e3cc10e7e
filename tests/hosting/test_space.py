"""The studio on a Space, by the real client against a loopback server: made, sent, sent again, refused."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from synmotion_core import cli
from synmotion_core.errors import Cancelled, ConfigError, HubError
from synmotion_core.hosting import commands
from synmotion_core.hosting.sources import Source, Sources
from synmotion_core.hosting.space import Spaces
from tests.hub_server import HubServer
from tests.hub_spaces import OtherRepo, add_repo

ANN, BOB = "hf_ann_write", "hf_bob_read"
FILES = {
    "README.md": b"---\ntitle: SynMotion Studio\nsdk: gradio\n---\n",
    "app.py": b"import synmotion_core\n",
    "synmotion_core/__init__.py": b"",
    "synmotion_core/cli.py": b"print()\n",
    "assets/puppet-judge/model.safetensors": b"w" * 30_000,
}


def studio(folder: Path, **more: bytes) -> Sources:
    found = []
    for name, content in {**FILES, **{name.replace("__", "/"): data for name, data in more.items()}}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        found.append(Source(name=name, path=path, size=len(content)))
    return Sources(files=tuple(found), left=())


def test_a_studio_arrives_as_one_commit(hub: HubServer, tmp_path: Path) -> None:
    spaces, own = Spaces(token=ANN), studio(tmp_path)
    seen: list[tuple[str, int, int]] = []
    place = spaces.look("ann/studio", own)
    assert (place.commit, place.gone) == ("", ())
    assert not hub.repos, "looking makes nothing"
    done = spaces.deploy(own, place, watch=lambda *now: seen.append(now))
    repo = hub.repos["spaces/ann/studio"]
    assert isinstance(repo, OtherRepo)
    assert repo.private
    assert (repo.sdk, repo.hardware) == ("gradio", []), "no hardware is asked for"
    assert len(repo.commits) == 2, "what the Hub makes itself, and one commit"
    assert {name: repo.head.files[name] for name in FILES} == FILES
    assert set(repo.head.files) - set(FILES) == {".gitattributes"}
    assert (done.url, done.commit, done.removed) == (f"{hub.url}/spaces/ann/studio", repo.head.sha, ())
    assert seen[-1] == ("README.md and 4 more", own.size, own.size)
    assert not [one for one in hub.requests if "secrets" in one.path or "variables" in one.path]


def test_a_second_deploy_sends_what_changed_and_deletes_what_is_gone(hub: HubServer, tmp_path: Path) -> None:
    spaces, old = Spaces(token=ANN), studio(tmp_path / "old", synmotion_core__gone__deep__py=b"1")
    spaces.deploy(old, spaces.look("ann/studio", old))
    repo = hub.repos["spaces/ann/studio"]
    repo.commit({"data/mine.txt": b"hers", "synmotion_core/gone.py": b"1"}, "by hand")
    new = studio(tmp_path / "new", CHANGELOG__md=b"x")
    hub.requests.clear()
    place = spaces.look("ann/studio", new)
    assert place.gone == ("synmotion_core/gone.py", "synmotion_core/gone/deep/py")
    done = spaces.deploy(new, place)
    assert done.removed == place.gone
    assert set(repo.head.files) == {*FILES, ".gitattributes", "CHANGELOG/md", "data/mine.txt"}, "hers stays"
    assert not [one for one in hub.requests if one.method == "PUT"], "the weights are there already"


def test_a_space_of_another_kind_is_not_written_over(hub: HubServer, tmp_path: Path) -> None:
    spaces, own = Spaces(token=ANN), studio(tmp_path)
    files = {".gitattributes": b"", "README.md": b"hers", "app.py": b"hers", "model.bin": b"hers"}
    repo = add_repo(hub, "space", "ann/demo", files, private=True, sdk="gradio")
    with pytest.raises(ConfigError, match=r"not one of this studio \(it holds app.py, model.bin\): .* --replace"):
        spaces.look("ann/demo", own)
    assert len(repo.commits) == 1
    place = spaces.look("ann/demo", own, replace=True)
    assert place.gone == ("model.bin",)
    spaces.deploy(own, place)
    assert set(repo.head.files) == {*FILES, ".gitattributes"}

    docker = {**FILES, "Dockerfile": b"FROM x"}
    add_repo(hub, "space", "ann/docker", docker, private=True, sdk="docker")
    with pytest.raises(ConfigError, match="not one of this studio"):
        spaces.look("ann/docker", own)
    add_repo(hub, "space", "ann/seen", dict(FILES), private=False, sdk="gradio")
    with pytest.raises(ConfigError, match="is there already and is public, not private: say --public"):
        spaces.look("ann/seen", own)
    assert spaces.look("ann/seen", own, private=False).gone == ()
    add_repo(hub, "space", "ann/card", {"README.md": b"x"}, private=True, sdk="static")
    assert spaces.look("ann/card", own).gone == (), "nothing but its card: as a deploy that broke leaves it"


def test_who_may(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = studio(tmp_path)
    for token, repo, said in (
        (False, "ann/studio", "ann/studio: you are not logged in: set HF_TOKEN"),
        (None, "ann/studio", "does not take your token|not logged in"),
        ("hf_wrong", "ann/studio", "does not take your token: make a new one"),
        (BOB, "bob/studio", "your token may not do that: it needs the right to write"),
        (ANN, "bob/studio", "your token may not do that"),
    ):
        with pytest.raises(HubError, match=said):
            Spaces(token=token).deploy(own, Spaces(token=token).look(repo, own))
    with pytest.raises(ConfigError, match="a repository is named owner/name"):
        Spaces(token=ANN).look("studio", own)
    assert not hub.repos
    for status, said in ((402, "wants a way to pay for it"), (409, "try again"), (429, "asks for a pause")):
        hub.fail("POST", "/api/repos/create", status=status)
        with pytest.raises(HubError, match=said):
            Spaces(token=ANN).deploy(own, Spaces(token=ANN).look("ann/studio", own))
    hub.stop()
    with pytest.raises(HubError, match="the Hub cannot be reached"):
        Spaces(token=ANN).look("ann/studio", own)


def test_a_deploy_that_broke_goes_on(hub: HubServer, tmp_path: Path) -> None:
    spaces, own = Spaces(token=ANN), studio(tmp_path)
    hub.fail("POST", "/commit/", status=500, times=20)
    with pytest.raises(HubError, match="answered with an error"):
        spaces.deploy(own, spaces.look("ann/studio", own))
    repo = hub.repos["spaces/ann/studio"]
    assert set(repo.head.files) == {".gitattributes", "README.md"}, "nothing is there in part"
    hub._faults.clear()
    hub.requests.clear()
    stop = threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        spaces.deploy(own, spaces.look("ann/studio", own), cancel=stop)
    spaces.deploy(own, spaces.look("ann/studio", own))
    assert not [one for one in hub.requests if one.method == "PUT"], "what arrived is not sent again"
    assert set(repo.head.files) == {*FILES, ".gitattributes"}


def test_what_happens_between_looking_and_sending_is_not_written_over(hub: HubServer, tmp_path: Path) -> None:
    spaces, own = Spaces(token=ANN), studio(tmp_path)
    spaces.deploy(own, spaces.look("ann/studio", own))
    changed = studio(tmp_path, LICENSE=b"x")
    place = spaces.look("ann/studio", changed)
    hub.repos["spaces/ann/studio"].commit({"app.py": b"by hand"}, "by hand")
    with pytest.raises(HubError, match="changed in the meantime"):
        spaces.deploy(changed, place)


def test_hardware_is_asked_for_and_its_refusal_said(hub: HubServer, tmp_path: Path) -> None:
    spaces, own = Spaces(token=ANN), studio(tmp_path)
    place = spaces.look("ann/studio", own)
    with pytest.raises(ConfigError, match="there is no hardware 'l4x2': did you mean 'l4x"):
        spaces.deploy(own, place, hardware="l4x2")
    assert not hub.repos
    assert spaces.deploy(own, place, hardware="l4x1").problem == ""
    repo = hub.repos["spaces/ann/studio"]
    assert isinstance(repo, OtherRepo)
    assert repo.hardware == ["l4x1"]
    hub.fail("POST", "/hardware", status=402)
    done = spaces.deploy(own, spaces.look("ann/studio", own), hardware="a10g-large")
    assert "ann/studio on a10g-large: the Hub wants a way to pay for it" in done.problem
    assert done.commit == repo.head.sha


@pytest.fixture
def small(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sources:
    """A small studio in place of the whole one, on Ann's machine."""
    own = studio(tmp_path / "studio")
    own = Sources(files=own.files, left=("assets/clips/my-aunt.mp4",))
    monkeypatch.setattr(commands, "collect", lambda: own)
    monkeypatch.setenv("HF_TOKEN", ANN)
    return own


def test_from_a_terminal(
    small: Sources, hub: HubServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy = ["space", "deploy", "ann/studio"]
    assert cli.main([*deploy, "--dry-run"]) == cli.OK
    shown = capsys.readouterr()
    assert "5 files, 0.0 MiB; nothing was sent" in shown.out
    assert not hub.requests
    assert cli.main(deploy) == cli.REFUSED
    shown = capsys.readouterr()
    assert "the Space ann/studio, which is made, private: only you will see it? Nobody can be asked here" in shown.err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin.readline", lambda: "n\n", raising=False)
    assert cli.main([*deploy, "--hardware", "l4x1"]) == cli.STOPPED
    shown = capsys.readouterr().err
    assert "hardware l4x1: it may cost money" in shown
    for source in small.files:
        assert f"  {source.name}  {source.size:,} bytes" in shown, "every file is listed before it leaves"
    assert "stays here: assets/clips/my-aunt.mp4" in shown
    assert not hub.repos
    assert cli.main([*deploy, "--yes"]) == cli.OK
    shown = capsys.readouterr()
    assert shown.out.strip() == f"{hub.url}/spaces/ann/studio"
    assert "5 of 5 files are there" in shown.err
    assert "“Duplicate this Space”" in shown.err
    assert "hf_ann_write" not in shown.err + shown.out
    hub.repos["spaces/ann/studio"].commit({"synmotion_core/old\x1b[2J.py": b"1"}, "older")
    assert cli.main([*deploy, "--yes", "--json"]) == cli.OK
    shown = capsys.readouterr()
    assert "\x1b" not in shown.err
    said = json.loads(shown.out)
    assert said["removed"] == ["synmotion_core/old\x1b[2J.py"]
    assert (said["private"], len(said["files"])) == (True, 5)
    assert cli.main([*deploy, "--hardware", "l4"]) == cli.REFUSED
    assert "there is no hardware 'l4'" in capsys.readouterr().err
