"""Adapters through the Hub, by the real client against a loopback server: there and back, and every other end."""

from __future__ import annotations

import dataclasses
import errno
import json
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from synmotion_core.adapters import hub as module
from synmotion_core.adapters.card import Shown, model_card
from synmotion_core.adapters.file import read_info
from synmotion_core.adapters.hub import Hub
from synmotion_core.adapters.origin import ORIGIN, about_folder, origin
from synmotion_core.adapters.parcel import Parcel, pack
from synmotion_core.clips import video
from synmotion_core.errors import AdapterError, Cancelled, ConfigError, HubError, StorageError
from synmotion_core.storage import read_header, read_metadata
from synmotion_core.workspace import Workspace
from tests.hub_repos import Answer
from tests.hub_server import HubServer

ASSETS = Path(__file__).parents[2] / "assets"
SQUAT, CLIP = ASSETS / "adapters" / "squat.safetensors", ASSETS / "clips" / "squat" / "squat-01.mp4"
INFO = read_info(SQUAT)
CARD = model_card(INFO, repo_id="ann/squat", file="squat.safetensors").encode()
ANN, BOB = "hf_ann_write", "hf_bob_read"


def there(hub: HubServer, **files: bytes) -> None:
    """Ann's public repository with the squat adapter, and more files."""
    plain = {"README.md": CARD, "squat.safetensors": SQUAT.read_bytes()}
    hub.add_repo("ann/squat", files={**plain, **{name.replace("__", "/"): data for name, data in files.items()}})


def parcel(folder: Path, repo: str = "ann/squat") -> Parcel:
    folder.mkdir()
    return pack(SQUAT, repo, folder, videos=[(CLIP, "a red cat squats")], formats=["diffusers"])


def test_there_and_back(hub: HubServer, workspace: Workspace, tmp_path: Path) -> None:
    """Pushed, found, looked at, pulled under another name: the same bytes, with where they are from."""
    seen: list[tuple[str, int, int]] = []
    own = parcel(tmp_path / "parcel")
    done = Hub(token=ANN).push(own, watch=lambda *now: seen.append(now))
    repo = hub.repos["ann/squat"]
    assert repo.private, "unless it is said otherwise"
    assert set(repo.head.files) - {".gitattributes"} == {file.name for file in own.files}
    assert repo.head.files["squat.safetensors"] == SQUAT.read_bytes()
    assert (done.url, done.files, done.commit) == (f"{hub.url}/ann/squat", 4, repo.head.sha)
    assert [now[0] for now in seen if now[1] == now[2]] == [file.name for file in own.files]
    assert "squats" in repo.head.message

    assert Hub(token=BOB).search() == [], "it is Ann's alone"
    (found,) = Hub(token=ANN).search("squ")
    assert (found.repo_id, found.private) == ("ann/squat", True)
    assert Hub(token=ANN).search(backbone="wan2.1-t2v-14b") == []
    assert [one.repo_id for one in Hub(token=ANN).search(backbone="puppet-hunyuan")] == ["ann/squat"]

    remote = Hub(token=ANN).look("ann/squat")
    assert (remote.info, remote.file, remote.size) == (INFO, "squat.safetensors", SQUAT.stat().st_size)
    assert remote.revision == repo.head.sha
    assert remote.licence == "apache-2.0"
    assert [one.words for one in remote.videos] == ["a red cat squats"]
    assert remote.left == ("pytorch_lora_weights.safetensors",)
    seen.clear()
    pulled = Hub(token=ANN).pull(remote, workspace, name="wave of ann", watch=lambda *now: seen.append(now))
    assert pulled.path == workspace.adapters / "wave of ann.safetensors"
    assert pulled.path.read_bytes() == SQUAT.read_bytes()
    assert pulled.applied == len(read_header(SQUAT)) - 1
    assert pulled.problems == ()
    assert ("squat.safetensors", remote.size, remote.size) in seen
    came = origin(pulled.path)
    assert came is not None
    assert (came.repo_id, came.revision) == ("ann/squat", repo.head.sha)
    assert came.videos == ((about_folder(pulled.path) / "01.mp4", "a red cat squats"),)
    assert video.read(about_folder(pulled.path) / "01.mp4")[0].shape == (17, 64, 64, 3)
    assert (about_folder(pulled.path) / "01.mp4").read_bytes() != CLIP.read_bytes(), "written anew"
    assert not list((workspace.cache / "hub").iterdir())
    with pytest.raises(ConfigError, match="there is an adapter 'wave of ann' already"):
        Hub(token=ANN).pull(remote, workspace, name="wave of ann")


def test_a_pull_stays_at_what_was_looked_at(hub: HubServer, workspace: Workspace) -> None:
    there(hub)
    remote = Hub(token=False).look("ann/squat")
    hub.repos["ann/squat"].commit({"squat.safetensors": b"something else"}, "changed")
    assert Hub(token=False).pull(remote, workspace).path.read_bytes() == SQUAT.read_bytes()
    older = Hub(token=False).look("ann/squat", revision=remote.revision)
    assert older == remote
    with pytest.raises(HubError, match="ann/squat has no revision 'gone'"):
        Hub(token=False).look("ann/squat", revision="gone")


def test_who_may_do_what(hub: HubServer, workspace: Workspace, tmp_path: Path) -> None:
    own = parcel(tmp_path / "parcel")
    with pytest.raises(HubError, match="ann/squat: you are not logged in: set HF_TOKEN"):
        Hub(token=False).push(own)
    with pytest.raises(HubError, match="does not take your token: make a new one"):
        Hub(token="hf_wrong").push(own)
    bobs = pack(SQUAT, "bob/squat", _new(tmp_path))
    with pytest.raises(HubError, match="your token may not do that: it needs the right to write"):
        Hub(token=BOB).push(bobs)
    assert not hub.repos
    Hub(token=ANN).push(own)
    for other in (BOB, False):
        with pytest.raises(HubError, match="the Hub has no ann/squat, or it is private"):
            Hub(token=other).look("ann/squat")
    hub.add_repo("ann/gated", files={"README.md": CARD, "squat.safetensors": SQUAT.read_bytes()}, gated=True)
    with pytest.raises(HubError, match="asks you to accept its conditions first"):
        Hub(token=BOB).look("ann/gated")
    assert Hub(token=ANN).who() == "ann"


def _new(tmp_path: Path) -> Path:
    folder = tmp_path / f"new{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", ["winkt größer", "挥手", "wave (1)", "it's, by Ann & Bob"])
def test_what_can_be_pushed_can_be_pulled(name: str, hub: HubServer, workspace: Workspace, tmp_path: Path) -> None:
    own = workspace.adapters / f"{name}.safetensors"
    own.write_bytes(SQUAT.read_bytes())
    Hub(token=ANN).push(pack(own, "ann/squat", _new(tmp_path)))
    own.unlink()
    assert Hub(token=ANN).pull(Hub(token=ANN).look("ann/squat"), workspace).path == own
    assert own.read_bytes() == SQUAT.read_bytes()


def test_what_is_there_is_not_written_over(hub: HubServer, tmp_path: Path) -> None:
    own = parcel(tmp_path / "parcel")
    hub.add_repo("ann/squat", files={"README.md": b"---\nlicense: mit\n---\nmy thesis", "model.bin": b"x" * 20_000})
    with pytest.raises(ConfigError, match="is there already and is no motion adapter: choose another name"):
        Hub(token=ANN).push(own, private=False)
    assert len(hub.repos["ann/squat"].commits) == 1
    public = pack(SQUAT, "ann/public", _new(tmp_path))
    Hub(token=ANN).push(public, private=False)
    assert not hub.repos["ann/public"].private
    with pytest.raises(ConfigError, match="is there already and is public: share it as public"):
        Hub(token=ANN).push(public)
    private = pack(SQUAT, "ann/private", _new(tmp_path))
    Hub(token=ANN).push(private)
    with pytest.raises(ConfigError, match="is there already and is private: share it as private, or make it public"):
        Hub(token=ANN).push(private, private=False)
    again = pack(SQUAT, "ann/public", _new(tmp_path), videos=[(CLIP, "a cat squats")])
    Hub(token=ANN).push(again, private=False)
    assert "videos/01.mp4" in hub.repos["ann/public"].head.files


def test_a_second_push_leaves_what_its_card_names(hub: HubServer, tmp_path: Path) -> None:
    """Old videos and exports go, and are said; another adapter is not put beside the first, nor written over."""
    Hub(token=ANN).push(parcel(tmp_path / "parcel"))
    fewer = pack(SQUAT, "ann/squat", _new(tmp_path), formats=["comfyui"])
    done = Hub(token=ANN).push(fewer)
    assert done.removed == ("pytorch_lora_weights.safetensors", "videos/01.mp4")
    assert set(hub.repos["ann/squat"].head.files) == {".gitattributes", *(file.name for file in fewer.files)}
    assert Hub(token=ANN).look("ann/squat").info == INFO
    other = tmp_path / "spin.safetensors"
    other.write_bytes((ASSETS / "adapters" / "spin.safetensors").read_bytes())
    with pytest.raises(ConfigError, match=r"ann/squat holds another adapter, squat\.safetensors: choose another name"):
        Hub(token=ANN).push(pack(other, "ann/squat", _new(tmp_path)))


def test_more_than_was_looked_at_is_not_taken(hub: HubServer, workspace: Workspace) -> None:
    """A server may send what it likes; and what is left of a fetch may be whole already, or too long."""
    there(hub)
    remote = Hub(token=False).look("ann/squat")
    short = dataclasses.replace(remote, size=100_000)
    with pytest.raises(AdapterError, match=r"squat\.safetensors is longer than the 100,000 bytes that were looked at"):
        Hub(token=False).pull(short, workspace)
    (folder,) = (workspace.cache / "hub").iterdir()
    for left in (SQUAT.read_bytes(), SQUAT.read_bytes() + b"x"):
        folder.mkdir(exist_ok=True)
        (folder / "squat.safetensors").write_bytes(left)
        done = Hub(token=False).pull(remote, workspace)
        assert done.path.read_bytes() == SQUAT.read_bytes()
        done.path.unlink()
    assert not list(workspace.adapters.glob("*.safetensors"))


def test_a_push_that_broke_changes_nothing(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client waits between its tries
    own = parcel(tmp_path / "parcel")
    hub.fail("PUT", "/storage/", drop=True, after_bytes=100_000, times=20)
    with pytest.raises(HubError, match="cannot be reached, or the connection broke"):
        Hub(token=ANN).push(own)
    assert [set(commit.files) for commit in hub.repos["ann/squat"].commits] == [{".gitattributes"}]


def test_a_push_that_was_sent_sends_nothing_twice(hub: HubServer, tmp_path: Path) -> None:
    own = parcel(tmp_path / "parcel")
    hub.fail("POST", "/commit/", status=409)
    with pytest.raises(HubError, match="somebody made or changed it in the meantime"):
        Hub(token=ANN).push(own)
    assert set(hub.repos["ann/squat"].head.files) == {".gitattributes"}
    sent = [one for one in hub.requests if one.method == "PUT"]
    assert len(sent) == 3, "adapter, video, export"
    Hub(token=ANN).push(own)
    assert [one for one in hub.requests if one.method == "PUT"] == sent
    assert set(hub.repos["ann/squat"].head.files) == {".gitattributes", *(file.name for file in own.files)}


def test_a_cancelled_push_commits_nothing(hub: HubServer, tmp_path: Path) -> None:
    cancel = threading.Event()

    def watch(file: str, done: int, size: int) -> None:
        if file == "squat.safetensors" and done == size:
            cancel.set()

    with pytest.raises(Cancelled):
        Hub(token=ANN).push(parcel(tmp_path / "parcel"), watch=watch, cancel=cancel)
    assert set(hub.repos["ann/squat"].head.files) == {".gitattributes"}


def test_a_pull_that_stops_goes_on_where_it_was(
    hub: HubServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100_000)
    there(hub)
    remote, cancel = Hub(token=False).look("ann/squat"), threading.Event()

    def watch(file: str, done: int, size: int) -> None:
        if done > 700_000:
            cancel.set()

    with pytest.raises(Cancelled):
        Hub(token=False).pull(remote, workspace, watch=watch, cancel=cancel)
    assert not list(workspace.adapters.iterdir())
    hub.fail("GET", "squat.safetensors", drop=True, after_bytes=400_000, times=1)
    seen: list[int] = []
    done = Hub(token=False).pull(remote, workspace, watch=lambda _, done, __: seen.append(done))
    assert done.path.read_bytes() == SQUAT.read_bytes()
    assert seen[0] > 700_000, "what was there is kept"


def test_a_pull_writes_over_nothing(hub: HubServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that ends meanwhile, a second fetch of the same; and what is left says nothing of another file."""
    there(hub)
    remote, beside = Hub(token=False).look("ann/squat"), Hub._beside
    mine = forged(motion="my own").replace(read_metadata(SQUAT)["seal"].encode(), b"0" * 64)

    def late(self: Hub, *args: Any) -> list[str]:
        with pytest.raises(ConfigError, match="ann/squat is being fetched already"):
            Hub(token=False).pull(remote, workspace, name="second")
        (workspace.adapters / "squat.safetensors").write_bytes(mine)
        return beside(self, *args)

    with monkeypatch.context() as patched:
        patched.setattr(Hub, "_beside", late)
        with pytest.raises(ConfigError, match="there is an adapter 'squat' now"):
            Hub(token=False).pull(remote, workspace)
    assert (workspace.adapters / "squat.safetensors").read_bytes() == mine
    assert about_folder(workspace.adapters / "squat.safetensors").exists()
    assert origin(workspace.adapters / "squat.safetensors") is None
    done = Hub(token=False).pull(remote, workspace, name="second")
    assert origin(done.path) is not None


def test_a_pull_writes_over_nothing_that_comes_in_the_last_moment(
    hub: HubServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    there(hub)
    real, target = module.claim, workspace.adapters / "squat.safetensors"

    def late(path: Path, wanted: Path) -> None:
        target.write_bytes(b"a training's")
        real(path, wanted)

    monkeypatch.setattr(module, "claim", late)
    with pytest.raises(ConfigError, match="there is an adapter 'squat' now"):
        Hub(token=False).pull(Hub(token=False).look("ann/squat"), workspace)
    assert target.read_bytes() == b"a training's"


def test_what_arrives_is_what_was_looked_at(
    hub: HubServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A piece of it that was damaged here is found by its SHA-256, and the next try begins anew."""
    there(hub)
    remote, cancel = Hub(token=False).look("ann/squat"), threading.Event()
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100_000)
    with pytest.raises(Cancelled):
        Hub(token=False).pull(
            remote, workspace, watch=lambda _, done, __: done < 300_000 or cancel.set(), cancel=cancel
        )
    (part,) = (workspace.cache / "hub").rglob("squat.safetensors")
    part.write_bytes(b"x" * part.stat().st_size)
    with pytest.raises(AdapterError, match="its SHA-256 differs"):
        Hub(token=False).pull(remote, workspace)
    assert Hub(token=False).pull(remote, workspace).path.read_bytes() == SQUAT.read_bytes()
    monkeypatch.setattr(Workspace, "free_bytes", lambda _: 1000)
    with pytest.raises(StorageError, match="the adapter of ann/squat needs"):
        Hub(token=False).pull(remote, workspace, name="second")


def test_a_commit_in_between_is_not_written_over(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, ready = parcel(tmp_path / "parcel"), Hub._ready

    def late(self: Hub, sent: Parcel, private: bool) -> Any:
        head = ready(self, sent, private)
        hub.repos[sent.repo_id].commit({"theirs.txt": b"theirs"}, "theirs")
        return head

    monkeypatch.setattr(Hub, "_ready", late)
    with pytest.raises(HubError, match="it was changed in the meantime"):
        Hub(token=ANN).push(own)
    assert hub.repos["ann/squat"].head.message == "theirs"


def test_few_and_small_videos_are_fetched(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"videos/{index}.mp4" for index in range(7)]
    card = model_card(INFO, repo_id="a/b", file="squat.safetensors", videos=[Shown(file=n, words="x") for n in names])
    clips = {name: CLIP.read_bytes() + b"\0" * (name == names[0]) for name in names}
    hub.add_repo("eve/x", files={"README.md": card.encode(), "squat.safetensors": SQUAT.read_bytes(), **clips})
    monkeypatch.setattr(module, "MAX_PREVIEW", CLIP.stat().st_size)
    remote = Hub(token=False).look("eve/x")
    assert [one.file for one in remote.videos] == names[1 : 1 + module.MAX_PREVIEWS]


def test_an_adapters_folder_on_another_disk(
    hub: HubServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    there(hub)

    def across(*_: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr("os.link", across)
    done = Hub(token=False).pull(Hub(token=False).look("ann/squat"), workspace)
    assert done.path.read_bytes() == SQUAT.read_bytes()


@pytest.mark.parametrize(("status", "said"), [(500, "answered with an error (500)"), (429, "asks for a pause")])
def test_a_hub_that_does_not_answer(
    status: int, said: str, hub: HubServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)  # the client waits between its tries
    there(hub)
    hub.fail("GET", "/api/models/ann/squat", status=status, times=50)
    with pytest.raises(HubError) as caught:
        Hub(token=ANN).look("ann/squat")
    assert said in str(caught.value)
    hub.stop()
    with pytest.raises(HubError, match="the Hub cannot be reached"):
        Hub(token=ANN).search()
    hub.start()


def test_an_answer_that_is_none_is_said(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A log-in page of somebody's network, front matter that the client falls over, a card that the Hub refuses."""
    own = parcel(tmp_path / "parcel")
    hub.fail("POST", "/api/validate-yaml", status=400)
    with pytest.raises(ConfigError, match="the Hub does not take the card's front matter"):
        Hub(token=ANN).push(own)
    for name, front in (("self", "self: 1"), ("results", "eval_results: 4"), ("tags", "tags: 5")):
        files = {"README.md": f"---\n{front}\n---\n".encode(), "squat.safetensors": SQUAT.read_bytes()}
        hub.add_repo(f"eve/{name}", files=files)
        with pytest.raises(HubError, match=rf"eve/{name}: the Hub's answer cannot be read \(TypeError\)"):
            Hub(token=False).look(f"eve/{name}")
    monkeypatch.setattr(HubServer, "_answer", lambda *_, **__: Answer(200, b"<html>log in</html>"))
    for ask in (lambda: Hub(token=ANN).who(), lambda: Hub().search(), lambda: Hub().look("ann/squat")):
        with pytest.raises(HubError, match=r"the Hub's answer cannot be read \(JSONDecodeError\)"):
            ask()


def header(**entries: Any) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


def test_a_hostile_repository_does_no_damage(hub: HubServer, workspace: Workspace, tmp_path: Path) -> None:
    """Pickles, names that climb, headers that lie, markup in words: each ends in a sentence; nothing is written."""
    claims = {"synmotion": json.dumps({"format": 1, "backbone": "puppet-hunyuan"})}
    for name, files, said in (
        ("pickle", {"adapter.pth": b"\x80\x04.", "pytorch_model.bin": b"\x80\x04."}, "it has no safetensors file"),
        ("climbs", {"../../evil.safetensors": SQUAT.read_bytes()}, "it has no safetensors file at its root"),
        ("absolute", {"/etc/evil.safetensors": SQUAT.read_bytes()}, "it has no safetensors file at its root"),
        ("device", {"nul.safetensors": SQUAT.read_bytes()}, "it has no safetensors file at its root"),
        ("windows", {"..\\evil.safetensors": SQUAT.read_bytes()}, "it has no safetensors file at its root"),
        ("hidden", {".evil.safetensors": SQUAT.read_bytes()}, "it has no safetensors file at its root"),
        ("long", {"a.safetensors": struct.pack("<Q", 2**40) + b"{}" * 100}, "is not a safetensors file"),
        ("huge", {"a.safetensors": struct.pack("<Q", 2**62) + b"{}" * 100}, "is not a safetensors file"),
        ("text", {"a.safetensors": b"hello " * 40}, "is not a safetensors file"),
        ("deep", {"a.safetensors": struct.pack("<Q", 60_000) + b"[" * 60_000}, "is not a safetensors file"),
        ("list", {"a.safetensors": header(__metadata__=["x"])}, "holds no adapter of ours"),
        ("plain", {"a.safetensors": header(__metadata__={"format": "pt"})}, "it has no 'synmotion' metadata"),
        ("half", {"a.safetensors": header(__metadata__=claims)}, "its metadata lacks"),
    ):
        hub.add_repo(f"eve/{name}", files={"README.md": b"<script>alert(1)</script>", **files})
        with pytest.raises(AdapterError) as caught:
            Hub(token=False).look(f"eve/{name}")
        assert said in str(caught.value), name
    assert not list(workspace.adapters.iterdir())


def forged(**changed: Any) -> bytes:
    """The squat adapter with other metadata: its own tensors, so that only what it says of itself is wrong."""
    data = SQUAT.read_bytes()
    size = int.from_bytes(data[:8], "little")
    said = json.loads(data[8 : 8 + size])
    own = json.loads(said["__metadata__"]["synmotion"])
    said["__metadata__"]["synmotion"] = json.dumps({**own, **changed})
    text = json.dumps(said).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"method_config": {"rank": 8}}, "keys apply"),
        ({"method_config": {"rank": 10**9}}, ""),
        ({"method_config": {"subject_tokens": 10**12}}, ""),
        ({"method_config": {"evil": 1}}, "has settings that synmotion does not know"),
        ({"method_config": {"seed": "x"}}, "settings that synmotion"),
        ({"method_config": {"lora_alpha": []}}, "settings that synmotion"),
        ({"method": "lora", "method_config": {"modules": "x"}}, "settings that lora"),
        ({"method": "os.system"}, "there is no method 'os.system'"),
        ({"backbone": "llama"}, "there is no backbone 'llama'"),
        (
            {"backbone": "wan2.1-t2v-1.3b"},
            "settings of about 69,746,176 parameters on wan2.1-t2v-1.3b and holds 776,960",
        ),
    ],
)
def test_an_adapter_that_lies_is_not_kept(
    changed: dict[str, Any], said: str, hub: HubServer, workspace: Workspace
) -> None:
    hub.add_repo("eve/squat", files={"README.md": CARD, "squat.safetensors": forged(**changed)})
    with pytest.raises((AdapterError, ConfigError)) as caught:
        Hub(token=False).pull(Hub(token=False).look("eve/squat"), workspace)
    assert said in str(caught.value)
    assert not list(workspace.adapters.iterdir())
    assert not list((workspace.cache / "hub").glob("*")), "it would be taken for done next time"


def test_videos_of_a_page_are_decoded_or_left_out(hub: HubServer, workspace: Workspace) -> None:
    words = "<b>a cat</b>\x1b[31m"
    shown = "\n".join(f"- text: {json.dumps(words)}\n  output:\n    url: {url}" for url in (
        "videos/01.mp4", "videos/02.mp4", "../up.mp4", "https://example.com/x.mp4", "gone.mp4", "videos/x.webm"
    ))  # fmt: skip
    card = CARD.decode().replace("tags:", f"widget:\n{shown}\ntags:", 1).encode()
    files = {"videos/01.mp4": CLIP.read_bytes(), "videos/02.mp4": b"not a video", "videos/x.webm": CLIP.read_bytes()}
    hub.add_repo("eve/squat", files={"README.md": card, "squat.safetensors": SQUAT.read_bytes(), **files})
    remote = Hub(token=False).look("eve/squat")
    assert [one.file for one in remote.videos] == ["videos/01.mp4", "videos/02.mp4"]
    done = Hub(token=False).pull(remote, workspace)
    assert len(done.problems) == 1
    assert "its video videos/02.mp4 was left out" in done.problems[0]
    assert [path.name for path in sorted(about_folder(done.path).iterdir())] == ["01.mp4", ORIGIN]
    assert not (workspace.root.parent / "up.mp4").exists()


def test_several_adapters_and_too_large_ones(
    hub: HubServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    there(hub, **{"second.safetensors": SQUAT.read_bytes()})
    with pytest.raises(ConfigError, match=r"holds several adapters: say which file, of .*second\.safetensors"):
        Hub(token=False).look("ann/squat")
    assert Hub(token=False).look("ann/squat", file="second.safetensors").file == "second.safetensors"
    with pytest.raises(ConfigError, match=r"has no file 'third\.safetensors' at its root"):
        Hub(token=False).look("ann/squat", file="third.safetensors")
    monkeypatch.setattr(module, "MAX_ADAPTER", 1000)
    with pytest.raises(AdapterError, match=r"has 1571560 bytes, an adapter at most 1,000"):
        Hub(token=False).look("ann/squat", file="second.safetensors")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("https://huggingface.co/ann/squat/tree/main", "use 'ann/squat'"),
        ("squat", "for example 'ann/my-wave'"),
        ("../ann/squat", "for example"),
        ("ann/squat/x", "for example"),
        ("ann/..", "for example"),
        ("http://169.254.169.254/latest", "for example"),
    ],
)
def test_only_names_are_taken(name: str, hint: str, hub: HubServer) -> None:
    with pytest.raises(ConfigError, match="a repository is named owner/name") as caught:
        Hub(token=ANN).look(name)
    assert hint in str(caught.value)
    assert not hub.requests


def test_the_token_stays_where_it_is(
    hub: HubServer, workspace: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After a push and a pull, and errors of both, it is in no file, no log and no sentence."""
    caplog.set_level("DEBUG")
    own, said = parcel(tmp_path / "parcel"), []
    Hub(token=ANN).push(own)
    done = Hub(token=ANN).pull(Hub(token=ANN).look("ann/squat"), workspace)
    for broken in ("hf_wrong_secret", ANN):
        hub.fail("GET", "/api/", status=403, times=1)
        with pytest.raises(HubError) as caught:
            Hub(token=broken).look("ann/squat")
        said.append(f"{caught.value!r} {caught.value.__cause__!r} {Hub(token=broken)!r}")
    assert done.path.exists()
    for token in (ANN, "hf_wrong_secret"):
        assert token not in caplog.text
        assert not any(token in one for one in said)
        for path in tmp_path.rglob("*"):
            assert not path.is_file() or token.encode() not in path.read_bytes(), path
    assert all(one.authorization is None for one in hub.requests if "/storage/" in one.path)
