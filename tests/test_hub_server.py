"""The test's Hub, seen through the real client: what is pushed comes back, rights hold, faults strike where asked."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_session, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    SafetensorsParsingError,
)

from tests.hub_server import HubServer

CARD = b"""---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-video
base_model: hunyuanvideo-community/HunyuanVideo
base_model_relation: adapter
tags: [lora, synmotion]
---
# <b id='evil'>Clap</b>
"""


def safetensors(size: int = 40_000, **metadata: str) -> bytes:
    """A real file of one tensor of bytes."""
    entry = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": metadata, "x": entry}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(i % 251 for i in range(size))


def operations(**changed: bytes) -> list[Any]:
    files = {"README.md": CARD, "adapter.safetensors": safetensors(method="lora"), "config.json": b"{}\n", **changed}
    return [CommitOperationAdd(path, content) for path, content in files.items()]


@pytest.fixture
def ann(hub: HubServer) -> HfApi:
    return HfApi(endpoint=hub.url, token="hf_ann_write")


@pytest.fixture
def bob(hub: HubServer) -> HfApi:
    return HfApi(endpoint=hub.url, token="hf_bob_read")


@pytest.fixture
def anyone(hub: HubServer) -> HfApi:
    return HfApi(endpoint=hub.url, token=False)


def puts(hub: HubServer) -> list[int]:
    return [request.size for request in hub.requests if request.method == "PUT"]


def test_what_is_pushed_comes_back(hub: HubServer, ann: HfApi, tmp_path: Path) -> None:
    assert ann.whoami()["name"] == "ann"
    assert ann.create_repo("ann/clap", private=True).repo_id == "ann/clap"
    first = hub.repos["ann/clap"].head.sha
    pushed = operations()
    ann.preupload_lfs_files("ann/clap", pushed)
    commit = ann.create_commit("ann/clap", pushed, commit_message="Add clap", parent_commit=first)
    repo = hub.repos["ann/clap"]
    assert (repo.private, repo.head.sha, repo.head.message) == (True, commit.oid, "Add clap")
    assert repo.head.files["README.md"] == CARD

    content = safetensors(method="lora")
    info = ann.model_info("ann/clap", files_metadata=True)
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    assert set(siblings) == {".gitattributes", "README.md", "adapter.safetensors", "config.json"}
    lfs = siblings["adapter.safetensors"].lfs
    assert lfs is not None
    assert (lfs.size, lfs.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert siblings["README.md"].lfs is None
    assert siblings["README.md"].size == len(CARD)
    assert (info.sha, info.private, info.gated) == (commit.oid, True, False)
    assert info.card_data is not None
    assert info.card_data.base_model == "hunyuanvideo-community/HunyuanVideo"
    assert {"diffusers", "lora", "license:apache-2.0", "safetensors"} <= set(info.tags or [])
    assert "base_model:adapter:hunyuanvideo-community/HunyuanVideo" in (info.tags or [])

    for name in ("README.md", "adapter.safetensors"):
        got = ann.hf_hub_download("ann/clap", name, revision=commit.oid, local_dir=tmp_path)
        assert Path(got).read_bytes() == repo.head.files[name]
    header = ann.parse_safetensors_file_metadata("ann/clap", "adapter.safetensors")
    assert header.metadata == {"method": "lora"}
    assert [model.id for model in ann.list_models(filter=["synmotion", "lora"])] == ["ann/clap"]
    assert set(os.listdir(snapshot_download("ann/clap", token="hf_ann_write"))) == set(siblings)


def test_large_files_travel_without_the_token(hub: HubServer, ann: HfApi, tmp_path: Path) -> None:
    hub.add_repo("ann/clap")
    ann.create_commit("ann/clap", operations(), commit_message="Add")
    ann.hf_hub_download("ann/clap", "adapter.safetensors", local_dir=tmp_path)
    ann.parse_safetensors_file_metadata("ann/clap", "adapter.safetensors")
    to_storage = [request for request in hub.requests if request.path.startswith("/storage/")]
    assert [request.method for request in to_storage] == ["PUT", "GET", "GET"]
    assert {request.authorization for request in to_storage} == {None}
    others = {request.authorization for request in hub.requests if request not in to_storage}
    assert others == {"Bearer hf_ann_write"}
    link = hub.storage_url + to_storage[-1].path
    with_token = get_session().get(link, headers={"Authorization": "Bearer hf_ann_write"})
    assert [with_token.status_code, get_session().get(link.split("?")[0]).status_code] == [400, 403]


def test_a_dropped_download_is_resumed(hub: HubServer, ann: HfApi, tmp_path: Path) -> None:
    content = safetensors(3_000_000)
    hub.add_repo("ann/clap", {"adapter.safetensors": content})
    hub.fail("GET", "adapter.safetensors", drop=True, after_bytes=1_500_000)
    got = ann.hf_hub_download("ann/clap", "adapter.safetensors", local_dir=tmp_path)
    assert Path(got).read_bytes() == content
    assert [request.method for request in hub.requests] == ["HEAD", "GET", "GET"]


def test_a_retry_does_not_send_a_large_file_again(hub: HubServer, ann: HfApi) -> None:
    hub.add_repo("ann/clap")
    size = len(safetensors(method="lora"))
    hub.fail("POST", "/commit/main", status=503)
    with pytest.raises(HfHubHTTPError):
        ann.create_commit("ann/clap", operations(), commit_message="Add")
    assert len(hub.repos["ann/clap"].commits) == 1
    assert puts(hub) == [size]
    ann.create_commit("ann/clap", operations(), commit_message="Add")
    assert puts(hub) == [size]
    ann.create_commit("ann/clap", operations(), commit_message="Nothing new")
    assert [commit.message for commit in hub.repos["ann/clap"].commits] == ["initial commit", "Add"]


def test_an_upload_that_breaks_off_is_sent_again(hub: HubServer, ann: HfApi) -> None:
    hub.add_repo("ann/clap")
    content = safetensors(2_000_000)
    hub.fail("PUT", "/storage/", drop=True, after_bytes=1_000_000)
    ann.create_commit("ann/clap", operations(**{"adapter.safetensors": content}), commit_message="Add")
    assert puts(hub) == [1_000_000, len(content)]
    assert hub.repos["ann/clap"].head.files["adapter.safetensors"] == content


def test_a_commit_may_happen_and_its_answer_be_lost(hub: HubServer, ann: HfApi) -> None:
    hub.add_repo("ann/clap")
    hub.fail("POST", "/commit/main", drop=True)
    with pytest.raises(Exception, match="disconnected"):
        ann.create_commit("ann/clap", operations(), commit_message="Add")
    assert hub.repos["ann/clap"].head.message == "Add"


def test_commits_on_top_of_another(hub: HubServer, ann: HfApi) -> None:
    repo = hub.add_repo("ann/clap", {"README.md": CARD, "old.json": b"{}"})
    seen = repo.head.sha
    repo.commit({"notes.txt": b"someone else's"}, "Notes")
    with pytest.raises(HfHubHTTPError) as caught:
        ann.create_commit("ann/clap", operations(), commit_message="Add", parent_commit=seen)
    assert caught.value.response.status_code == 412
    ann.create_commit("ann/clap", [CommitOperationDelete("old.json")], commit_message="Tidy")
    assert set(repo.head.files) == {"README.md", "notes.txt"}
    with pytest.raises(RemoteEntryNotFoundError, match="doesn't exist"):
        ann.create_commit("ann/clap", [CommitOperationDelete("old.json")], commit_message="Tidy")
    assert ann.file_exists("ann/clap", "old.json", revision=seen)
    assert not ann.file_exists("ann/clap", "old.json")
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
        ann.create_commit("ann/clap", [CommitOperationAdd("README.md", b"---\na: [\n---\n")], commit_message="Card")


def test_who_may_do_what(hub: HubServer, ann: HfApi, bob: HfApi, anyone: HfApi, tmp_path: Path) -> None:
    hub.add_repo("ann/secret", {"a.json": b"{}"}, private=True)
    hub.add_repo("ann/gated", {"a.json": b"{}"}, gated=True)
    hub.add_repo("ann/open", {"a.json": b"{}"})
    hub.add_repo("bob/own")
    for api, status in ((bob, 404), (anyone, 401)):
        for name in ("ann/secret", "ann/none"):
            assert not api.repo_exists(name)
            with pytest.raises(RepositoryNotFoundError) as missing:
                api.model_info(name)
            assert missing.value.response.status_code == status
    for api, status in ((bob, 403), (anyone, 401)):
        assert api.model_info("ann/gated").gated == "auto"
        with pytest.raises(GatedRepoError) as closed:
            api.hf_hub_download("ann/gated", "a.json", local_dir=tmp_path)
        assert closed.value.response.status_code == status
    for name in ("ann/open", "bob/own"):  # not his, and his by a token that only reads
        with pytest.raises(HfHubHTTPError) as refused:
            bob.create_commit(name, operations(), commit_message="Add")
        assert refused.value.response.status_code == 403
    with pytest.raises(HfHubHTTPError, match="rights to write under the namespace bob"):
        ann.create_commit("bob/own", operations(), commit_message="Add")
    with pytest.raises(HfHubHTTPError) as taken:
        ann.create_repo("ann/open")
    assert taken.value.response.status_code == 409
    assert ann.create_repo("ann/open", exist_ok=True).repo_id == "ann/open"
    with pytest.raises(HfHubHTTPError) as invalid:
        HfApi(endpoint=hub.url, token="hf_wrong").model_info("ann/open")
    assert invalid.value.response.status_code == 401
    assert "Invalid credentials" in str(invalid.value)
    with pytest.raises(RemoteEntryNotFoundError):
        ann.hf_hub_download("ann/open", "b.json")
    with pytest.raises(RevisionNotFoundError):
        ann.model_info("ann/open", revision="other")
    ann.delete_repo("ann/open")
    assert not ann.repo_exists("ann/open")
    assert puts(hub) == []


def test_listing(hub: HubServer, ann: HfApi, anyone: HfApi) -> None:
    for number in range(5):
        hub.add_repo(f"ann/clap-{number}", {"README.md": CARD}, private=number == 0)
    hub.add_repo("bob/squat", {"README.md": b"---\ntags: [squat]\n---\n"}).downloads = 7
    hub.page_size = 2
    names = [f"ann/clap-{number}" for number in (4, 3, 2, 1)]
    assert [model.id for model in anyone.list_models(filter="synmotion")] == names
    assert [model.id for model in ann.list_models(search="CLAP")] == [*names, "ann/clap-0"]
    assert [model.id for model in anyone.list_models(sort="downloads", limit=1)] == ["bob/squat"]
    pages = [request.path for request in hub.requests if "search=CLAP" in request.path]
    assert len(pages) == 3
    (found,) = anyone.list_models(author="bob", full=True, cardData=True)
    assert found.card_data is not None
    assert found.card_data.tags == ["squat"]
    assert [sibling.rfilename for sibling in found.siblings or []] == ["README.md"]


def test_any_content_is_served_as_it_is(hub: HubServer, anyone: HfApi, tmp_path: Path) -> None:
    files = {
        "../../escape.safetensors": b"x" * 20_000,
        "a/../b\r\n <i>.json": b"{}",
        "model.pkl": b"\x80\x04.",
        "huge.safetensors": struct.pack("<Q", 2**62) + b"{}",
        "README.md": b"---\n- not\n- a mapping\n---\n<script>alert(1)</script>",
    }
    hub.add_repo("eve/bad", files)
    for number, card in enumerate((b"a: [", b"a: &a [*a]", b"2026-01-01: x", b"a: 2026-99-99", b"tags: {a: 1}", b"")):
        hub.add_repo(f"eve/card-{number}", {"README.md": b"---\n" + card + b"\n---\n\xff"})
    assert len(list(anyone.list_models(author="eve", cardData=True))) == 7
    info = anyone.model_info("eve/bad", files_metadata=True)
    assert [sibling.rfilename for sibling in info.siblings or []] == list(files)
    assert not info.card_data
    with pytest.raises(SafetensorsParsingError):
        anyone.parse_safetensors_file_metadata("eve/bad", "huge.safetensors")
    got = anyone.hf_hub_download("eve/bad", "model.pkl", local_dir=tmp_path)
    assert Path(got).read_bytes() == files["model.pkl"]


@pytest.mark.parametrize("name", ["small.bin", "large.bin"])
@pytest.mark.parametrize(
    ("asked", "status", "part", "says"),
    [
        ("bytes=5-9", 206, slice(5, 10), "bytes 5-9/{}"),
        ("bytes=30-", 206, slice(30, None), "bytes 30-{}/{}"),
        ("bytes=-7", 206, slice(-7, None), None),
        ("bytes=8-999999", 206, slice(8, None), None),
        ("bytes=999999-", 416, slice(0, 0), "bytes */{}"),
    ],
)
def test_parts_of_files(hub: HubServer, name: str, asked: str, status: int, part: slice, says: str | None) -> None:
    content = bytes(range(256)) * (1 if name == "small.bin" else 100)
    hub.add_repo("ann/clap", {name: content})
    answer = get_session().get(f"{hub.url}/ann/clap/resolve/main/{name}", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (status, content[part])
    if says is not None:
        size = len(content)
        assert answer.headers["Content-Range"] == says.format(*([size - 1, size] if says.count("{}") == 2 else [size]))


def test_a_hub_that_is_down_and_back(hub: HubServer, ann: HfApi) -> None:
    hub.add_repo("ann/clap")
    assert ann.repo_exists("ann/clap")
    hub.stop()
    with pytest.raises(Exception, match=r"refused|disconnected|reset"):
        ann.model_info("ann/clap")
    hub.start()
    assert ann.repo_exists("ann/clap")


def test_what_the_double_does_not_know_it_says(hub: HubServer, ann: HfApi) -> None:
    hub.add_repo("ann/clap")
    with pytest.raises(HfHubHTTPError, match=r"does not know GET /api/models/ann/clap/refs"):
        ann.list_repo_refs("ann/clap")
    with pytest.raises(ValueError, match="needs drop"):
        hub.fail("GET", "/", after_bytes=3)


def test_child_processes_reach_it(hub: HubServer) -> None:
    code = "from huggingface_hub import whoami; print(whoami()['name'])"
    environment = {**os.environ, "HF_TOKEN": "hf_ann_write"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["ann"], done.stderr
