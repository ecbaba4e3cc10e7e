"""A row's weights from the Hub: the real client, a loopback Hub, and a tiny pipeline as one of its repositories."""

from __future__ import annotations

import dataclasses
import errno
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from synmotion_core import backbones, cli, run
from synmotion_core.backbones import fetching, load_backbone
from synmotion_core.config import GenerateRun
from synmotion_core.errors import Cancelled, HubError, MissingError, StorageError, UserInputError
from synmotion_core.types import Finished, Progress, Prompt, Sampled, Stopped
from synmotion_core.workspace import Workspace
from tests import hub_server
from tests.backbones.tiny import tiny_folder, tiny_spec
from tests.hub_repos import sha256
from tests.hub_server import HubServer

NAME, REPO = "wan2.1-t2v-1.3b", "ann/wan"
USELESS = {  # what real repositories hold besides
    "README.md": b"# Wan\n",
    "transformer/diffusion_pytorch_model.bin": b"\x80\x04" * 9000,
    "transformer/diffusion_pytorch_model.fp16.safetensors": b"half" * 9000,
    "vae/original.pth": b"\x80\x04" * 9000,
    "tokenizer/tokenizer.py": b"raise SystemExit\n",
    "tokenizer/special.pkl": b"\x80\x04",
    "safety_checker/model.safetensors": b"of another class" * 900,
    "assets/video.mp4": b"video" * 9000,
}


def files() -> dict[str, bytes]:
    folder = tiny_folder(NAME)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def row(hub: HubServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """NAME is of a repository of the loopback Hub; `row` is that Hub."""
    monkeypatch.setattr(run.pool, "_pool", {})
    hub.add_repo(REPO, files={**files(), **USELESS})
    pin(hub, monkeypatch)
    yield hub
    for thread in running():
        thread.join(20)


def pin(hub: HubServer, monkeypatch: pytest.MonkeyPatch, revision: str | None = None) -> None:
    own = dataclasses.replace(tiny_spec(NAME), repo=REPO, revision=revision or hub.repos[REPO].head.sha)
    monkeypatch.setitem(backbones.SPECS, NAME, own)


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "synmotion-fetch"]


def fetched(cancel: threading.Event | None = None) -> list[Progress]:
    return list(backbones.fetch(NAME, cancel=cancel))


def snapshot(hub: HubServer) -> Path:
    return Path(constants.HF_HUB_CACHE) / "models--ann--wan" / "snapshots" / hub.repos[REPO].head.sha


def stored(hub: HubServer) -> list[str]:
    """The large files that were asked for, by their SHA-256, in order."""
    return [r.path.split("/")[4].split("?")[0] for r in hub.requests if r.path.startswith("/storage/")]


def large() -> dict[str, bytes]:
    """Large files that are read, by SHA-256."""
    return {sha256(data): data for name, data in files().items() if len(data) > 10_240 or name.endswith("safetensors")}


def index() -> int:
    """Bytes of the one file by which the others are chosen: it is there when the first event comes."""
    return len(files()["model_index.json"])


def test_what_is_read_is_fetched_and_nothing_else(row: HubServer) -> None:
    """In bytes that only rise, to their sum; then no network is needed, and the weights are those of the folder."""
    events = fetched()
    wanted = files()
    assert {(e.stage, e.total, e.note) for e in events} == {("fetch", sum(map(len, wanted.values())), NAME)}
    steps = [event.step for event in events]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (index(), events[-1].total)
    there = {p.relative_to(snapshot(row)).as_posix(): p.read_bytes() for p in snapshot(row).rglob("*") if p.is_file()}
    assert there == wanted
    assert sorted(stored(row)) == sorted(large()), "each once"
    assert not list(snapshot(row).parents[1].rglob("*.incomplete"))
    asked = len(row.requests)
    row.stop()
    assert fetched() == []
    backbone: Any = load_backbone(NAME, device="cpu")
    backbone.encode_prompt([Prompt(subject="a cat", motion="waves")])  # its encoder is read on first use
    assert len(row.requests) == asked
    assert backbone.fingerprint == f"{REPO}@{row.repos[REPO].head.sha}"
    own: Any = load_backbone(NAME, device="cpu", folder=tiny_folder(NAME))
    pairs = zip(backbone.denoiser.parameters(), own.denoiser.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_loading_fetches_too_and_the_log_tells_of_it(row: HubServer, caplog: pytest.LogCaptureFixture) -> None:
    load_backbone(NAME, device="cpu")
    assert f"fetching {NAME}: 0.0 of 0.0 GiB" in caplog.text
    assert sorted(stored(row)) == sorted(large())


def test_a_cache_that_another_program_filled_is_taken(row: HubServer) -> None:
    """Also without a network, and without the list of files that older clients did not keep."""
    from huggingface_hub import snapshot_download

    snapshot_download(REPO, revision=row.repos[REPO].head.sha)
    asked = len(row.requests)
    assert fetched() == []
    assert len(row.requests) == asked
    shutil.rmtree(snapshot(row).parents[1] / "trees")
    from huggingface_hub import _tree_cache

    _tree_cache._IN_MEMORY_TREE_CACHE.clear()
    row.stop()
    assert fetched() == [], "by what the files say of each other"
    (snapshot(row) / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(HubError, match="could not be fetched"):
        fetched()


def test_stopped_between_two_files_and_gone_on_with(row: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, real = threading.Event(), hub_server.part_answer
    cancel, asked = threading.Event(), []

    def second_waits(content: bytes, wanted: str | None, headers: Any) -> Any:
        if len(content) > 10_240:
            asked.append(sha256(content))
            assert len(asked) == 1 or gate.wait(20)
        return real(content, wanted, headers)

    monkeypatch.setattr(hub_server, "part_answer", second_waits)
    monkeypatch.setattr(fetching, "LEAVE_S", 0.0)
    events = backbones.fetch(NAME, cancel=cancel)
    assert next(events).step == index()
    assert next(events).step > index(), "the first file"
    cancel.set()
    with pytest.raises(Cancelled):
        next(events)
    gate.set()
    for thread in running():
        thread.join(20)
        assert not thread.is_alive()
    assert len(asked) == 2, "the second was being sent, the third is not asked for"
    blobs = snapshot(row).parents[1] / "blobs"
    assert (blobs / asked[0]).is_file()
    assert not (blobs / asked[1]).exists()
    again = fetched()
    assert again[0].step >= len(large()[asked[0]])
    assert again[-1].step == again[-1].total
    assert asked.count(asked[0]) == 1, "what was there is not fetched again"
    assert fetched() == []


def test_a_file_in_part_is_gone_on_with(row: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    ranges: list[tuple[str, str | None]] = []
    real = hub_server.part_answer

    def noted(content: bytes, wanted: str | None, headers: Any) -> Any:
        ranges.append((sha256(content), wanted))
        return real(content, wanted, headers)

    monkeypatch.setattr(hub_server, "part_answer", noted)
    sha, data = max(large().items(), key=lambda pair: len(pair[1]))
    partial = snapshot(row).parents[1] / "blobs" / f"{sha}.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(data[:7000])
    events = fetched()
    assert events[0].step == 7000 + index()
    assert (sha, "bytes=7000-") in ranges
    assert fetched() == []


def test_a_file_that_is_not_what_the_hub_says_is_thrown_away(row: HubServer) -> None:
    sha, data = max(large().items(), key=lambda pair: len(pair[1]))
    partial = snapshot(row).parents[1] / "blobs" / f"{sha}.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(len(data)))
    with pytest.raises(HubError, match="SHA-256 differs"):
        fetched()
    assert not partial.exists()
    assert fetched()[-1].step == sum(map(len, files().values()))


def test_a_connection_that_breaks_leaves_what_has_arrived(row: HubServer) -> None:
    sha = max(large(), key=lambda one: len(large()[one]))
    row.fail("GET", f"/storage/.*{sha}", status=503)
    with pytest.raises(HubError, match=rf"{NAME} could not be fetched: .*What has arrived is kept.*weights/{NAME}"):
        fetched()
    before = stored(row)[:-1]
    assert fetched()[0].step == index() + sum(len(large()[one]) for one in before)


def test_too_little_room_is_said_before_the_first_byte(row: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=9000, used=0, free=9000))
    with pytest.raises(StorageError, match=rf"{NAME} need 0\.0 GiB more on the disk of .*/hub, 0\.0 GiB are free"):
        fetched()
    assert stored(row) == []


def test_a_disk_that_fills_on_the_way(row: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.file_download.http_get", full)
    with pytest.raises(StorageError, match=r"weights of .* is full: make room, or set HF_HOME"):
        fetched()


@pytest.mark.parametrize("token", [None, "hf_bob_read"])
def test_a_licence_that_is_to_be_accepted(
    row: HubServer, monkeypatch: pytest.MonkeyPatch, token: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the command line too: a sentence and 2, no traceback."""
    row.repos[REPO].gated = "manual"
    if token is not None:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError) as caught:
        fetched()
    for words in (f"the weights of {NAME}", f"huggingface.co/{REPO}", "licence", "HF_TOKEN", f"weights/{NAME}"):
        assert words in str(caught.value)
    asked = ["generate", "--backbone", NAME, "--subject", "a cat", "--motion", "waves", "--out", "out"]
    assert cli.main(asked) == cli.REFUSED
    said = capsys.readouterr().err
    assert "licence" in said
    assert "Traceback" not in said
    assert "bug" not in said


def test_every_other_way_in_which_the_hub_says_no(row: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def said() -> str:
        with pytest.raises(UserInputError) as caught:
            fetched()
        assert type(caught.value) is HubError
        assert f"weights/{NAME}" in str(caught.value), "what can be done"
        return str(caught.value)

    monkeypatch.setenv("HF_TOKEN", "hf_nobody")
    assert "does not take your token" in said()
    monkeypatch.delenv("HF_TOKEN")
    row.fail("GET", "/api/models", status=403)
    assert "you may not read it" in said()
    row.fail("GET", "/api/models", status=500)
    assert "answered with an error (500)" in said()
    row.repos[REPO].private = True
    assert "private and you are not logged in" in said()
    row.repos[REPO].private = False
    pin(row, monkeypatch, "0" * 40)
    assert "has no revision '0000" in said()
    pin(row, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    from huggingface_hub import close_session

    close_session()
    assert "HF_HUB_OFFLINE is set" in said()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    close_session()
    row.stop()
    assert "cannot be reached" in said()


def test_a_repository_without_safetensors(row: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    row.repos[REPO].commit({"vae/diffusion_pytorch_model.safetensors": None}, "gone")
    pin(row, monkeypatch)
    with pytest.raises(MissingError, match=f"{REPO} holds no safetensors of its vae.*weights/{NAME}"):
        fetched()
    assert stored(row) == []


def test_weights_that_cannot_be_read_are_named(row: HubServer) -> None:
    fetched()
    broken = snapshot(row) / "vae" / "diffusion_pytorch_model.safetensors"
    broken.unlink()
    broken.write_bytes(b"not weights")
    with pytest.raises(MissingError, match=f"the weights of {NAME} at .* cannot be read"):
        load_backbone(NAME, device="cpu")


def test_another_process_that_fetches_is_waited_for(row: HubServer) -> None:
    own = backbones.find_spec(NAME)
    lock = fetching._Cache(own).lock
    lock.path.parent.mkdir(parents=True)
    assert lock.acquire()
    cancel = threading.Event()
    events = backbones.fetch(NAME, cancel=cancel)
    assert next(events).step == index()
    cancel.set()
    with pytest.raises(Cancelled):
        next(events)
    assert stored(row) == []
    lock.release()
    assert fetched()[-1].step > 0


def test_a_generation_tells_of_it_and_can_be_stopped(row: HubServer, tmp_path: Path) -> None:
    config = GenerateRun(backbone=NAME, subjects=("a cat",), motion="waves", num_inference_steps=1)
    cancel = threading.Event()
    cancel.set()
    stopped = list(run.generate(config, tmp_path / "none", cancel=cancel))
    assert isinstance(stopped[-1], Stopped)
    assert run.pool._pool == {}
    events = list(run.generate(config, tmp_path / "out"))
    stages = list(dict.fromkeys(event.stage for event in events if isinstance(event, Progress)))
    assert stages == ["fetch", "generate"]
    assert [type(event) for event in events[-2:]] == [Sampled, Finished]
    again = list(run.generate(config, tmp_path / "again"))
    assert not [event for event in again if isinstance(event, Progress) and event.stage == "fetch"]
