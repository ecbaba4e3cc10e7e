"""The endpoints for programs, by the real gradio_client over HTTP: the same jobs as the page's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from synmotion_core.clips import video
from synmotion_core.config import GenerateRun, TrainRun
from synmotion_core.planning import machine
from synmotion_core.puppets.kinematics import FPS
from synmotion_core.ui import api
from synmotion_core.ui.api import names_files
from tests.ui.studio import Site, draw, write_adapter


@pytest.fixture
def client(site: Site, tmp_path: Path) -> Iterator[Client]:
    site.runner.step_s, site.runner.fail_at = 0.01, None
    site.runner.runs.clear()
    own = Client(site.url, verbose=False, download_files=str(tmp_path / "got"))
    yield own
    for view in site.jobs.list():
        site.jobs.stop(view.id)
        site.jobs.wait(view.id, 30)
    own.close()


def ended(client: Client, id: str) -> dict[str, Any]:
    until = time.monotonic() + 60
    while (found := client.predict(id, api_name="/job"))["status"] in ("queued", "running", "stopping"):
        assert time.monotonic() < until, found
        time.sleep(0.1)
    return found


def test_what_is_there_says_how_it_is_called(client: Client) -> None:
    found = client.view_api(return_format="dict", print_info=False)
    assert isinstance(found, dict)
    assert {"/adapters", "/generate", "/train", "/job", "/stop"} == set(found["named_endpoints"]), "and nothing private"
    about = found["named_endpoints"]["/generate"]
    assert [one["parameter_name"] for one in about["parameters"]] == [
        "subjects", "adapter", "motion", "seeds", "settings", "blend", "loras", "ignore_memory",
    ]  # fmt: skip
    taken = [one["parameter_name"] for one in found["named_endpoints"]["/train"]["parameters"]]
    assert taken == ["clips", "motion", "subject", "name", "settings", "cuts", "ignore_memory"]
    assert "returns the job's id" in about["description"]


def test_clips_become_an_adapter_and_an_adapter_videos(client: Client, site: Site, tmp_path: Path) -> None:
    clips = []
    for seed in range(2):
        draw(tmp_path / f"{seed}.mp4", motion="squat", seed=seed)
        clips.append(handle_file(tmp_path / f"{seed}.mp4"))
    settings = {"method": "lora", "train": {"num_steps": 6, "sample_every": 3, "sample_subjects": ["a red cat"]}}
    id = client.predict(clips, "squats", name="squat", settings=settings, api_name="/train")
    done = ended(client, id)
    assert (done["kind"], done["status"], done["message"]) == ("train", "finished", "")
    (run,) = site.runner.runs
    assert isinstance(run, TrainRun)
    assert (run.method, run.train.num_steps, run.clips[0].motion, run.clips[0].subject) == (
        "lora",
        6,
        "squats",
        "a person",
    )
    assert [clip.path.parent for clip in run.clips] == [site.workspace.clips] * 2
    drawn = [one for one in done["videos"] if one["adapted"]]
    assert {one["step"] for one in drawn} == {3, 6}
    assert video.read(Path(drawn[0]["file"]))[0].shape == (17, 64, 64, 3), "the client has fetched it"
    assert Path(done["adapter"]["file"]).read_bytes()[8:9] == b"{"
    assert done["warnings"] == ["slower than expected: the <machine> is busy"]

    assert done["adapter"]["id"] in {one["id"] for one in client.predict(api_name="/adapters")}
    id = client.predict(
        ["a red cat", "a blue bear"],
        done["adapter"]["id"],
        seeds=[3, 4],
        settings={"strength": 0.5},
        api_name="/generate",
    )
    done = ended(client, id)
    run = site.runner.runs[-1]
    assert isinstance(run, GenerateRun)
    assert (run.subjects, run.motion, run.seeds, run.strength) == (("a red cat", "a blue bear"), "squats", (3, 4), 0.5)
    assert sorted((one["prompt"], one["seed"]) for one in done["videos"]) == [
        ("a blue bear squats", 3), ("a blue bear squats", 4), ("a red cat squats", 3), ("a red cat squats", 4),
    ]  # fmt: skip


def long_clip(folder: Path) -> Any:
    """As a camera makes one: twice the rate of the backbone, and four times its length."""
    frames = video.read(draw_to(folder / "own.mp4"))[0]
    video.write(folder / "long.mp4", np.concatenate([frames] * 8), 2 * FPS)
    return handle_file(folder / "long.mp4")


def draw_to(path: Path) -> Path:
    draw(path)
    return path


def test_clips_are_cut_and_retimed_as_they_are_asked_for(client: Client, site: Site, tmp_path: Path) -> None:
    clips = [long_clip(tmp_path), handle_file(draw_to(tmp_path / "whole.mp4"))]
    cut = {"start_s": 1, "end_s": 1 + 17 / FPS, "resample_fps": FPS}
    before = len(site.jobs.list())
    with pytest.raises(AppError) as caught:
        client.predict([clips[0], clips[0]], "claps", api_name="/train")
    assert "2 of 2 clips cannot be used yet" in str(caught.value)
    assert f"clip 1 (long.mp4): the video has {2 * FPS:g} frames" in str(caught.value)
    assert f"resample_fps={FPS:g} keeps its speed" in str(caught.value)
    for wrong, said in (
        ([cut], "none or one for each of the 2 clips, {} for a whole one: got 1 cuts"),
        ([{"start": 1}, {}], "did you mean 'start_s'"),
        ([{"start_s": 2, "end_s": 1}, {}], "end_s must be after start_s"),
        ([{"resample_fps": 1e9}, {}], "resample_fps must be above 0 and at most"),
        ([{**cut, "end_s": 2}, {}], "are too few"),
        (["1-2", {}], "must be a mapping"),
    ):
        with pytest.raises(AppError) as caught:
            client.predict(clips, "claps", cuts=wrong, api_name="/train")
        assert said in str(caught.value)
    assert not site.runner.runs
    assert len(site.jobs.list()) == before, "refused before there is a job"
    settings = {"train": {"num_steps": 2}}
    id = client.predict(clips, "claps", settings=settings, cuts=[cut, {}], api_name="/train")
    assert ended(client, id)["status"] == "finished"
    first, second = site.runner.runs[0].clips
    assert (first.start_s, first.end_s, first.resample_fps) == (1.0, 1 + 17 / FPS, FPS)
    assert (second.start_s, second.end_s, second.resample_fps) == (0.0, None, None)


def test_what_cannot_fit_the_gpu_is_refused_with_settings_that_do(
    client: Client, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "card_gib", lambda: 12.0)
    named: dict[str, Any] = {"motion": "walks", "settings": {"backbone": "hunyuanvideo"}, "api_name": "/generate"}
    with pytest.raises(AppError, match=r"settings that fit are \{'precision': \{.*; ignore_memory=True"):
        client.predict(["a red cat"], **named)
    assert not site.runner.runs
    id = client.predict(["a red cat"], ignore_memory=True, **named)
    assert ended(client, id)["status"] == "finished"
    clip = handle_file(site.assets / "clips" / "clap" / "clap-0.mp4")
    with pytest.raises(AppError, match="cannot be used yet"):  # the doctor comes first: it has 17 frames
        client.predict([clip], "claps", settings={"backbone": "hunyuanvideo"}, api_name="/train")


def test_a_job_can_be_stopped(client: Client, site: Site) -> None:
    site.runner.step_s = 0.05
    clip = handle_file(site.assets / "clips" / "clap" / "clap-0.mp4")
    id = client.predict([clip], "claps", settings={"train": {"num_steps": 500}}, api_name="/train")
    until = time.monotonic() + 30
    while client.predict(id, api_name="/job")["stage"] != "train" and time.monotonic() < until:
        time.sleep(0.05)
    assert client.predict(id, api_name="/stop") in ("stopping", "stopped")
    assert ended(client, id)["status"] == "stopped"


def test_what_cannot_be_is_said_in_its_own_words(client: Client, site: Site, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    cases: tuple[tuple[str, tuple[Any, ...], dict[str, Any], str], ...] = (
        ("/generate", ([],), {"motion": "walks"}, "name at least one subject"),
        ("/generate", (["a cat"],), {}, "without an adapter, say what happens"),
        ("/generate", (["a cat"], "mine/../../etc/passwd"), {}, "is not there any more"),
        (
            "/generate",
            (["a cat"],),
            {"motion": "walks", "settings": {"adapter": "/etc/passwd"}},
            "adapter is no setting",
        ),
        (
            "/generate",
            (["a cat"],),
            {"motion": "walks", "settings": {"images": ["/etc/passwd"]}},
            "images is no setting",
        ),
        (
            "/generate",
            (["a cat"],),
            {"motion": "walks", "settings": {"blend": {"adapter": "/etc/passwd", "share": 0.5}}},
            "blend is no setting",
        ),
        (
            "/generate",
            (["a cat"],),
            {"motion": "walks", "settings": {"noise_clip": {"path": "/etc/passwd"}}},
            "noise_clip is no setting",
        ),
        ("/generate", (["a cat"],), {"motion": "walks", "blend": {"adapter": "/etc/passwd"}}, "is not there any more"),
        ("/generate", (["a cat"],), {"motion": "walks", "blend": {"share": 0.5}}, "needs another adapter by its id"),
        ("/generate", (["a cat"],), {"motion": "walks", "loras": [{"adapter": "/etc"}]}, "is not there any more"),
        ("/generate", (["a cat"],), {"motion": "walks", "loras": ["x"]}, "each of loras is an adapter by its id"),
        (
            "/generate",
            (["a cat"],),
            {"motion": "walks", "settings": {"loras": [{"adapter": "/etc/passwd"}]}},
            "loras is no setting",
        ),
        ("/generate", (["a cat"],), {"motion": "walks", "settings": {"strenght": 1}}, "did you mean 'strength'"),
        ("/generate", (["a cat"],), {"motion": "walks", "settings": {"strength": 9}}, "between 0 and 2, got 9"),
        ("/train", ([], "claps"), {}, "a training needs at least one clip"),
        ("/train", ([handle_file(tmp_path / "a.txt")] * 201, "claps"), {}, "takes at most 200 clips, got 201"),
        ("/generate", (["a cat"] * 501,), {"motion": "walks"}, "subjects is a list of at most 500, got 501"),
        ("/generate", (["a cat"],), {"motion": "x" * 10001}, "motion has at most 10000 characters, got 10001"),
        ("/train", ([], "claps"), {"settings": {"clips": [{"path": "/etc/passwd"}]}}, "clips is no setting here"),
        ("/train", ([], "claps"), {"settings": {"train": {"sample_images": ["/etc/passwd"]}}}, "sample_images is no"),
        ("/train", ([handle_file(tmp_path / "a.txt")], "claps"), {}, "export it as H.264 in .mp4"),
        ("/job", ("20260101-000000-abcdef",), {}, "20260101-000000-abcdef"),
        ("/job", ("../../etc",), {}, ""),
    )
    for endpoint, args, named, said in cases:
        with pytest.raises(AppError) as caught:
            client.predict(*args, **named, api_name=endpoint)
        assert said in str(caught.value), (endpoint, args, named)
        assert "Traceback" not in str(caught.value)
    assert not site.runner.runs


def test_two_motions_in_one_video_over_a_lora(client: Client, site: Site) -> None:
    clap = next(one["id"] for one in client.predict(api_name="/adapters") if one["id"].startswith("ready/"))
    added = [site.workspace.adapters / f"{name}.safetensors" for name in ("hop", "pencil")]
    for path in added:
        write_adapter(path, subject="a person", motion="hops", steps=1, clips=1)
    try:
        blend = {"adapter": "mine/hop.safetensors", "share": 0.25, "over": "sequence"}
        loras = [{"adapter": "mine/pencil.safetensors", "strength": 0.75}]
        named: dict[str, Any] = {"blend": blend, "loras": loras, "api_name": "/generate"}
        id = client.predict(["a red cat"], clap, **named)
        assert ended(client, id)["status"] == "finished"
    finally:
        for path in added:
            path.unlink()
    (run,) = site.runner.runs
    assert (run.blend.adapter.name, run.blend.share, run.blend.over) == ("hop.safetensors", 0.25, "sequence")
    assert [(one.adapter.name, one.strength) for one in run.loras] == [("pencil.safetensors", 0.75)]


def test_no_setting_that_names_a_file_is_taken_from_elsewhere() -> None:
    """A new field with a path in it is refused without a word here; this list is to be looked at then."""
    assert names_files(GenerateRun) == {"adapter", "blend", "images", "loras", "noise_clip"}
    assert names_files(TrainRun) == {"clips", "train.sample_images"}


def test_a_path_on_the_server_is_no_upload(client: Client, site: Site) -> None:
    """Who does not upload a file cannot name one, not even a clip that is there."""
    there = site.assets / "clips" / "clap" / "clap-0.mp4"

    def asked(path: str, *, marked: bool = True) -> bytes:
        clip = {
            "path": path,
            **({"meta": {"_type": "gradio.FileData"}} if marked else {}),
        }  # Gradio looks at these alone
        values = [[clip], "claps", "a person", "", {"train": {"num_steps": 1}}, [], False]
        answer = httpx.post(f"{site.url}gradio_api/call/train", json={"data": values}).raise_for_status()
        return httpx.get(f"{site.url}gradio_api/call/train/{answer.json()['event_id']}").content

    for path in ("/etc/passwd", str(there)):
        assert b"event: error" in asked(path)
        assert b"event: error" in asked(path, marked=False)
    assert not site.runner.runs
    sent = httpx.post(f"{site.url}gradio_api/upload", files={"files": (there.name, there.read_bytes())})
    uploaded = sent.raise_for_status().json()[0]
    assert b"event: error" in asked(f"{Path(uploaded).parent}/../../../{there}", marked=False)
    assert b"event: complete" in asked(uploaded), "one that was uploaded can"


def test_where_people_share_it_nobody_keeps_the_device_for_long(
    client: Client, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "shared", lambda: True)
    with pytest.raises(AppError, match="65 videos are asked for: where people share a studio, at most 64 at once"):
        client.predict(["a cat"], motion="walks", seeds=list(range(65)), api_name="/generate")
    assert not site.runner.runs
