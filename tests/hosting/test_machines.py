"""A training on other machines, by the real client against a loopback server that plays the Jobs API.

In the last test the Job is a real process: the real bootstrap script fetches, trains and puts the adapter back.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import HfHubHTTPError

from synmotion_core import cli
from synmotion_core.adapters.file import read_info
from synmotion_core.adapters.origin import about_folder, origin
from synmotion_core.clips import video
from synmotion_core.config import TrainRun, to_dict
from synmotion_core.errors import AdapterError, Cancelled, ConfigError, HubError
from synmotion_core.events import event_to_dict
from synmotion_core.hosting import bootstrap
from synmotion_core.hosting import machines as module
from synmotion_core.hosting import samples as fetching
from synmotion_core.hosting.ledger import Handoff
from synmotion_core.hosting.machines import Machines
from synmotion_core.hosting.order import Order, pack
from synmotion_core.hosting.sources import Source
from synmotion_core.locks import FileLock
from synmotion_core.naming import file_stem
from synmotion_core.types import Finished, Noted, Progress, Prompt
from synmotion_core.ui.adapters import find_adapters
from synmotion_core.ui.library import videos_of
from synmotion_core.workspace import Workspace
from tests.hub_jobs import run_here
from tests.hub_server import HubServer

ROOT = Path(__file__).parents[2]
SQUAT = ROOT / "assets" / "adapters" / "squat.safetensors"
TOKEN = "hf_ann_write"


@pytest.fixture
def order(run: TrainRun, tmp_path: Path) -> Order:
    """The settings and the clips, with a source of one file."""
    (tmp_path / "job.json").write_text("{}")
    settings = Source(name="job/job.json", path=tmp_path / "job.json", size=2)
    paths = [clip.path for clip in run.clips]
    clips = [Source(name=f"job/clips/0{n}.mp4", path=p, size=p.stat().st_size) for n, p in enumerate(paths, 1)]
    return Order(config=run, files=(settings, *clips), given=tuple(clips), key="k")


@pytest.fixture
def machines(mine: Workspace) -> Machines:
    return Machines(mine, poll_s=0.05)


@pytest.fixture
def begun(machines: Machines, order: Order) -> Handoff:
    """A training whose Job has begun."""
    return machines.start(machines.send(order, machines.plan(order, flavor="l4x1")))


def test_it_leaves_for_a_private_dataset_and_a_job(hub: HubServer, machines: Machines, order: Order) -> None:
    own = machines.plan(order, flavor="t4-small", timeout="90m")
    assert not hub.repos, "planning sends nothing"
    assert not machines.ledger.all()
    assert own.repo_id == f"ann/synmotion-job-{own.id}"
    own = machines.send(order, own)
    repo = hub.repos[f"datasets/{own.repo_id}"]
    assert repo.private
    assert own.commit == repo.head.sha
    assert len(repo.commits) == 2
    assert set(repo.head.files) - {".gitattributes"} == {file.name for file in order.files}
    assert not hub.jobs.all, "no machine yet"
    own = machines.start(own)
    spec = hub.jobs.only().spec
    assert (spec["flavor"], spec["timeoutSeconds"], spec["dockerImage"]) == ("t4-small", 5400, "python:3.11-bookworm")
    assert spec["command"][:3] == ["python", "-u", "-c"]
    assert spec["command"][4:] == [own.repo_id, own.commit, module.CLIENT, "my wave"]
    assert spec["secrets"] == {"HF_TOKEN": TOKEN}
    without = {key: value for key, value in spec.items() if key != "secrets"}
    assert TOKEN not in json.dumps(without), "only as a secret"
    assert TOKEN not in (machines._workspace.root / "remote.json").read_text()
    assert TOKEN not in b"".join(repo.head.files.values()).decode("latin-1")
    assert machines.ledger.find(own.id) == own
    with pytest.raises(ConfigError, match="has begun already"):
        machines.start(own)


def test_the_client_on_the_job_is_the_one_that_is_pinned() -> None:
    assert f'huggingface_hub=={module.CLIENT}; python_version >= "3.11"' in (ROOT / "requirements.txt").read_text()


def test_a_cpu_takes_the_small_torch(hub: HubServer, machines: Machines, order: Order) -> None:
    machines.start(machines.send(order, machines.plan(order, flavor="cpu-upgrade")))
    assert hub.jobs.only().spec["environment"]["PIP_EXTRA_INDEX_URL"] == module.CPU_WHEELS


def test_what_broke_goes_on(hub: HubServer, machines: Machines, order: Order) -> None:
    own, stop = machines.plan(order, flavor="l4x1"), threading.Event()
    stop.set()
    with pytest.raises(Cancelled):
        machines.send(order, own, cancel=stop)
    hub.fail("POST", "/commit/", status=500, times=20)
    with pytest.raises(HubError, match="answered with an error"):
        machines.send(order, own)
    hub._faults.clear()
    hub.requests.clear()
    again = machines.plan(order, flavor="t4-small")
    assert (again.id, again.flavor) == (own.id, "t4-small"), "the same order"
    with pytest.raises(ConfigError, match="was not sent whole"):
        machines.start(again)
    sent = machines.send(order, again)
    assert not [one for one in hub.requests if one.method == "PUT"], "what arrived is not sent again"
    assert machines.plan(order, flavor="l4x1").id != own.id, "a second training of the same is another"
    hub.fail("POST", "/api/jobs/", drop=True)  # it begins, and its answer is lost
    with pytest.raises(HubError, match="cannot be reached, or the connection broke"):
        machines.start(sent)
    begun = machines.start(sent)
    assert begun.job_id == hub.jobs.only().id, "the one that began, not a second one"


def test_cancelled_in_the_last_moment_no_machine_begins(hub: HubServer, machines: Machines, order: Order) -> None:
    stop = threading.Event()

    def watch(file: str, done: int, size: int) -> None:
        if done == size:  # all has arrived, and is not committed yet
            stop.set()

    own = machines.plan(order, flavor="l4x1")
    with pytest.raises(Cancelled):
        machines.send(order, own, watch=watch, cancel=stop)
    assert len(hub.repos[f"datasets/{own.repo_id}"].commits) == 1
    sent = machines.send(order, own)
    with pytest.raises(Cancelled, match=f"before a machine began. .* `remote start {own.id}`"):
        machines.start(sent, cancel=stop)
    assert not hub.jobs.all
    with pytest.raises(ConfigError, match="has been sent already"):
        machines.send(order, own)
    assert machines.start(sent).commit == sent.commit


def test_two_presses_begin_one_job(hub: HubServer, machines: Machines, order: Order) -> None:
    sent, done = machines.send(order, machines.plan(order, flavor="l4x1")), []

    def press() -> None:
        try:
            done.append(machines.start(sent).job_id)
        except ConfigError as error:
            done.append(str(error))

    presses = [threading.Thread(target=press) for _ in range(4)]
    for one in presses:
        one.start()
    for one in presses:
        one.join()
    assert hub.jobs.only().id in done
    assert sum("has begun already" in one for one in done) == 3


def test_who_may(hub: HubServer, machines: Machines, order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    for flavor, timeout, said in (
        ("l4x3", "6h", "there is no flavor 'l4x3': did you mean"),
        ("l4x1", "6", "a timeout is a number with s, m, h or d, got '6'"),
    ):
        with pytest.raises(ConfigError, match=said):
            machines.plan(order, flavor=flavor, timeout=timeout)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError, match="does not take your token"):
        machines.plan(order, flavor="l4x1")
    monkeypatch.setenv("HF_TOKEN", "hf_bob_read")
    with pytest.raises(HubError, match="needs the right to write"):
        machines.send(order, machines.plan(order, flavor="l4x1"))
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="on Hugging Face's machines: you are not logged in"):
        machines.plan(order, flavor="l4x1")
    assert not hub.repos
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    sent = machines.send(order, machines.plan(order, flavor="l4x1"))
    for status, said in (
        (401, "the Hub answered with an error|does not take your token"),
        (402, "a Job on l4x1: the Hub wants a way to pay for it"),
        (403, "your token may not do that"),
        (404, "the Hub has none such"),
        (429, "asks for a pause"),
        (500, "answered with an error"),
    ):
        hub.fail("POST", "/api/jobs/", status=status)
        with pytest.raises(HubError, match=said):
            machines.start(sent)
    assert not hub.jobs.all
    begun = machines.start(sent)
    hub.jobs.all.clear()
    with pytest.raises(HubError, match=f"the Job of {begun.id}: the Hub has none such"):
        machines.stage(begun)
    hub.stop()
    with pytest.raises(HubError, match="cannot be reached"):
        machines.stage(begun)


def test_nothing_is_sent_to_a_public_dataset(hub: HubServer, machines: Machines, order: Order) -> None:
    own = machines.plan(order, flavor="l4x1")
    with pytest.raises(Cancelled):
        machines.send(order, own, cancel=_set())
    hub.repos[f"datasets/{own.repo_id}"].private = False
    with pytest.raises(HubError, match="is public: nothing was sent there"):
        machines.send(order, own)


def test_its_log_is_followed_as_events(hub: HubServer, machines: Machines, begun: Handoff) -> None:
    job, seen = hub.jobs.only(), []
    lines = [json.dumps(event_to_dict(Progress(stage="train", step=n, total=3, loss=0.5))) for n in (1, 2, 3)]
    for event in machines.follow(begun):
        seen.append(event)
        if job.stage == "SCHEDULING":
            job.lines, job.stage = ["synmotion: training\x1b[2J", lines[0]], "RUNNING"
        elif job.stage == "RUNNING" and len(seen) == 3:
            job.lines = [*job.lines, *lines[1:], json.dumps(event_to_dict(Finished(seconds=1.0)))]
            job.stage = "COMPLETED"
    assert seen[0] == Noted(message="waiting for a machine (l4x1)")
    assert seen[1] == Noted(message="synmotion: training\ufffd[2J")
    assert [one.step for one in seen[2:5] if isinstance(one, Progress)] == [1, 2, 3], "each once, in order"
    assert isinstance(seen[5], Finished)
    assert len(seen) == 6


@pytest.mark.parametrize(
    ("stage", "message", "said"),
    [
        (
            "ERROR",
            "Job failed with exit code: 2",
            r"failed or was killed on its machine \(Job failed with exit code: 2\)",
        ),
        ("ERROR", "OOM\x1b[2J", r"was killed on its machine \(OOM.\[2J\)"),
        ("CANCELED", None, "was stopped$"),
        ("DELETED", None, "is not there any more$"),
    ],
)
def test_a_job_that_did_not_end_well_says_so(
    hub: HubServer, machines: Machines, begun: Handoff, stage: str, message: str | None, said: str
) -> None:
    job = hub.jobs.only()
    job.stage, job.message, job.lines = stage, message, ["one", "two"]
    seen = []
    with pytest.raises(HubError, match=said) as caught:
        seen.extend(machines.follow(begun))
    assert str(caught.value).isprintable()
    with pytest.raises(HubError, match=said):
        machines.pull(begun)


def test_following_ends_and_the_job_goes_on(hub: HubServer, machines: Machines, begun: Handoff) -> None:
    job, cancel = hub.jobs.only(), threading.Event()
    job.stage, job.lines = "RUNNING", ["one"]
    for _ in machines.follow(begun, cancel=cancel):
        cancel.set()
    assert job.stage == "RUNNING"
    machines.stop(begun)
    assert job.stage == "CANCELED"


def result(hub: HubServer, own: Handoff, **files: bytes) -> None:
    """What a Job leaves."""
    plain = {"result/my wave.safetensors": SQUAT.read_bytes(), "result/run.json": b"{}"}
    named = {name.replace("__", "/").replace("_wave", " wave") + ".safetensors": data for name, data in files.items()}
    hub.repos[f"datasets/{own.repo_id}"].commit({**plain, **named}, "What was learnt")


def synmotion(machines: Machines, own: Handoff) -> Handoff:
    """As if the method that the adapter at hand is of had been asked for."""
    return machines.ledger.change(own, method=read_info(SQUAT).method, backbone=read_info(SQUAT).backbone)


def test_its_adapter_is_fetched_and_checked(
    hub: HubServer, machines: Machines, begun: Handoff, mine: Workspace
) -> None:
    with pytest.raises(ConfigError, match="has no adapter yet, its Job is SCHEDULING"):
        machines.pull(begun)
    hub.jobs.only().stage = "COMPLETED"
    with pytest.raises(HubError, match="has ended and left no adapter"):
        machines.pull(begun)
    result(hub, begun)
    with pytest.raises(AdapterError, match="was to learn by lora for puppet-hunyuan; what came is of synmotion"):
        machines.pull(begun)
    own = synmotion(machines, begun)
    done = machines.pull(own)
    assert done.path == mine.adapters / "my wave.safetensors"
    assert done.path.read_bytes() == SQUAT.read_bytes()
    assert done.applied > 0
    assert done.best is None
    assert not list((mine.cache / "hub").iterdir())
    with pytest.raises(ConfigError, match="there is an adapter 'my wave' already"):
        machines.pull(own)
    result(hub, begun, result__my_wave=b"not one", **{"result__my_wave-best": SQUAT.read_bytes()})
    with pytest.raises(AdapterError):
        machines.pull(own, name="second")
    result(hub, begun)
    done = machines.pull(own, name="second")
    assert done.best == mine.adapters / "second-best.safetensors"
    assert sorted(path.name for path in mine.adapters.glob("*.safetensors")) == [
        "my wave.safetensors", "second-best.safetensors", "second.safetensors",
    ]  # fmt: skip


CLIP = ROOT / "assets" / "clips" / "squat" / "squat-01.mp4"


def samples(hub: HubServer, own: Handoff, **more: bytes) -> None:
    """What a Job leaves that has drawn at two steps; more: files at the last, by their stems."""
    info = read_info(SQUAT)
    subjects = ["a <b>red</b>, cat", "a robot"]
    names = [file_stem(Prompt(subject=one, motion=info.motion), 7, adapted=True) for one in subjects]
    files = {f"result/samples/step-{step:06d}/{name}.mp4": CLIP.read_bytes() for step in (9, 10) for name in names}
    files |= {f"result/samples/step-000010/{name}.mp4": data for name, data in more.items()}
    files |= {"result/samples/step-000010/deep/er.mp4": b"x", "result/samples/step-x/y.mp4": b"x"}
    files["result/run.json"] = json.dumps({"train": {"sample_subjects": [*subjects, 3]}}).encode()
    result(hub, own)
    hub.repos[f"datasets/{own.repo_id}"].commit(files, "What was drawn")


def test_its_last_samples_come_with_it(
    hub: HubServer, machines: Machines, begun: Handoff, mine: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.jobs.only().stage = "COMPLETED"
    own = synmotion(machines, begun)
    samples(hub, own, **{"zz-broken-seed7": b"no video", "zz-other-words-seed7-2": CLIP.read_bytes()})
    done = machines.pull(own)
    about, motion = about_folder(done.path), read_info(SQUAT).motion
    came = origin(done.path)
    assert came is not None
    assert (came.repo_id, came.revision, came.trained_on) == (own.repo_id, done.revision, "l4x1")
    assert came.videos == (
        (about / "01.mp4", f"a <b>red</b>, cat {motion}"),
        (about / "02.mp4", f"a robot {motion}"),
        (about / "03.mp4", "zz other words"),
    )
    for path, _ in came.videos:
        assert video.read(path)[0].shape == (17, 64, 64, 3)
        assert path.read_bytes() != CLIP.read_bytes(), "written anew"
    broken, came_with, left = done.samples.said(own.repo_id)
    assert broken.startswith("its video result/samples/step-000010/zz-broken-seed7.mp4 was left out: ")
    assert came_with == "3 of its videos came with it, of step 10"
    assert left == f"3 more that it drew are in {own.repo_id} alone, and go with it"
    (choice,) = (one for one in find_adapters(mine)[0] if one.id.startswith("mine/"))
    assert choice.label.endswith("(trained on l4x1)")
    assert videos_of(SimpleNamespace(jobs=None), choice) == list(came.videos)  # type: ignore[arg-type]
    assert not list((mine.cache / "hub").iterdir())
    assert cli.main(["remote", "pull", own.id, "--name", "second"]) == cli.OK
    err = capsys.readouterr().err
    assert f"{came_with}\n{left}\nthe clips are still in {own.repo_id}" in err


def test_samples_that_are_too_large_are_not_fetched(
    hub: HubServer, machines: Machines, begun: Handoff, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "MAX_PREVIEW", 1000)
    monkeypatch.setattr(fetching, "MOST", 1)
    own = synmotion(machines, begun)
    samples(hub, own)
    hub.requests.clear()
    done = machines.pull(own)
    assert done.samples.videos == ()
    (problem, _) = done.samples.said(own.repo_id)
    assert "bytes, at most 1,000 are fetched" in problem
    assert not [one for one in hub.requests if "/samples/" in one.path]
    assert origin(done.path) is not None


@pytest.mark.parametrize("run_json", [b"{", b"[]", b'{"train": {"sample_subjects": 3}}', b'{"train": 1}', b"[" * 10**5])
def test_settings_that_cannot_be_read_cost_the_words_alone(
    hub: HubServer, machines: Machines, begun: Handoff, run_json: bytes
) -> None:
    own = synmotion(machines, begun)
    samples(hub, own)
    hub.repos[f"datasets/{own.repo_id}"].commit({"result/run.json": run_json}, "Broken")
    assert [words[:13] for _, words in machines.pull(own).samples.videos] == ["a b red b cat", "a robot squat"]


def test_the_clips_are_taken_away(hub: HubServer, machines: Machines, begun: Handoff) -> None:
    with pytest.raises(ConfigError, match="is not over: stop it first"):
        machines.delete(begun)
    machines.stop(begun)
    hub.fail("GET", "/api/jobs/", status=500)
    with pytest.raises(HubError):
        machines.delete(begun)
    assert hub.repos
    machines.delete(begun)
    assert not hub.repos
    assert not machines.ledger.all()


def test_the_clips_of_a_job_that_is_forgotten_are_taken_away(
    hub: HubServer, machines: Machines, begun: Handoff
) -> None:
    hub.jobs.all.clear()
    machines.delete(begun)
    assert not hub.repos


def test_a_job_whose_answer_was_lost_is_not_forgotten(hub: HubServer, machines: Machines, order: Order) -> None:
    sent = machines.send(order, machines.plan(order, flavor="l4x1"))
    hub.fail("POST", "/api/jobs/", drop=True)
    with pytest.raises(HubError):
        machines.start(sent)
    with pytest.raises(ConfigError, match="is not over: stop it first"):
        machines.delete(sent)
    machines.stop(machines.ledger.find(sent.id))
    machines.delete(sent)
    assert not hub.repos
    assert not machines.ledger.all()


def test_what_another_sent_is_not_forgotten(
    hub: HubServer, machines: Machines, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To whom a private dataset is not shown, it looks as if it were not there."""
    sent = machines.send(order, machines.plan(order, flavor="l4x1"))
    hub.add_user("carl", "hf_carl_write")
    monkeypatch.setenv("HF_TOKEN", "hf_carl_write")
    with pytest.raises(HubError, match="is ann's, and your token is carl's"):
        machines.delete(sent)
    assert hub.repos
    assert machines.ledger.all() == [sent]
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.repos.clear()  # taken away on its page
    machines.delete(sent)
    assert not machines.ledger.all()


def test_an_adapter_that_was_made_in_the_last_moment_stays(
    hub: HubServer, machines: Machines, begun: Handoff, mine: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, target = synmotion(machines, begun), mine.adapters / "my wave.safetensors"
    result(hub, begun)
    real = module.claim

    def late(path: Path, wanted: Path) -> None:
        target.write_bytes(b"a training's")
        real(path, wanted)

    monkeypatch.setattr(module, "claim", late)
    with pytest.raises(ConfigError, match="there is an adapter 'my wave' already"):
        machines.pull(own)
    assert target.read_bytes() == b"a training's"


def test_an_adapter_that_was_made_meanwhile_stays(
    hub: HubServer, machines: Machines, begun: Handoff, mine: Workspace
) -> None:
    own, target = synmotion(machines, begun), mine.adapters / "my wave.safetensors"
    result(hub, begun)
    with pytest.raises(ConfigError, match="there is an adapter 'my wave' already"):
        machines.pull(own, watch=lambda *_: print(target.write_bytes(b"a training's")))
    assert target.read_bytes() == b"a training's"
    (folder,) = (mine.cache / "hub").iterdir()
    lock = FileLock(folder / "lock")
    assert lock.acquire()
    with pytest.raises(ConfigError, match="is being fetched elsewhere"):
        machines.pull(own, name="second")
    lock.release()
    assert machines.pull(own, name="second").path.exists()
    assert not list((mine.cache / "hub").iterdir())


@pytest.mark.parametrize(("status", "tries", "comes"), [(500, 1, True), (500, 9, False), (403, 1, False)])
def test_what_was_learnt_is_sent_more_than_once(
    hub: HubServer, begun: Handoff, status: int, tries: int, comes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bootstrap script with the real client; its pip and its training are left out."""

    def trained(words: list[str], *, cwd: Path, **_: Any) -> subprocess.CompletedProcess[str]:
        (cwd / "out").mkdir()
        (cwd / "out" / "my wave.safetensors").write_bytes(SQUAT.read_bytes())
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(bootstrap, "pip", lambda *_: 0)
    monkeypatch.setattr(bootstrap, "PAUSES_S", (0, 0))
    monkeypatch.setattr(bootstrap.subprocess, "run", trained)
    hub.fail("POST", "/commit/", status=status, times=tries)
    asked = (begun.repo_id, begun.commit, module.CLIENT, "my wave")
    if comes:
        assert bootstrap.main(*asked) == 0
    else:
        with pytest.raises(HfHubHTTPError):
            bootstrap.main(*asked)
    files = hub.repos[f"datasets/{begun.repo_id}"].head.files
    assert ("result/my wave.safetensors" in files) == comes


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc here")
def test_no_child_of_the_script_finds_the_token_in_an_environment(tmp_path: Path) -> None:
    """Its pip is one that looks; that the token arrives is seen where the Job is a real process."""
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").touch()
    (tmp_path / "pip" / "__main__.py").write_text(
        "import os, sys\n"
        "for who in (os.getpid(), os.getppid()):\n"
        "    print(b'hf_secret' in open(f'/proc/{who}/environ', 'rb').read())\n"
        "sys.exit(7)\n"
    )
    text = Path(bootstrap.__file__).read_text(encoding="utf-8")
    own = {"HF_TOKEN": "hf_secret", "PYTHONPATH": str(tmp_path), "PIP_NO_INDEX": "1"}  # the real pip installs nothing
    done = subprocess.run(
        [sys.executable, "-u", "-c", text, "ann/x", "c0ffee", "0.0.0", "my wave"], capture_output=True, text=True,
        env={**os.environ, **own}, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (7, "")
    said = ["synmotion: fetching what was sent", "False", "False", "synmotion: pip could not install"]
    assert [line.partition(" huggingface_hub")[0] for line in done.stdout.splitlines()] == said


def _set() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


# ------------------------------------------------------------------------------------------------ from a terminal


def words(run: TrainRun, tmp_path: Path) -> list[str]:
    config = tmp_path / "run.json"
    config.write_text(json.dumps(to_dict(run)))
    return ["remote", "train", "--on", "hf:l4x1", "--config", str(config)]


def test_nothing_leaves_unasked(
    mine: Workspace, hub: HubServer, run: TrainRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = words(run, tmp_path)
    assert cli.main(train) == cli.REFUSED
    said = capsys.readouterr().err
    for clip in run.clips:
        assert f"  {clip.path}  {clip.path.stat().st_size:,} bytes  as job/clips/0" in said
    assert "with whatever a camera noted in them" in said
    assert "The machine is l4x1, for at most 6h. It costs money; how much is not known here" in said
    assert "Nobody can be asked here: say --yes" in said
    assert not [one for one in hub.requests if one.method != "GET"]
    for wrong, why in (
        ("l4x1", "--on takes hf:FLAVOR, got 'l4x1'"),
        ("hf:", "--on takes"),
        ("hf:big", "no flavor 'big'"),
    ):
        assert cli.main([*train[:3], wrong, *train[4:]]) == cli.REFUSED
        assert why in capsys.readouterr().err


def test_a_job_that_is_refused_can_begin_later(
    mine: Workspace, hub: HubServer, run: TrainRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.fail("POST", "/api/jobs/", status=402)
    assert cli.main([*words(run, tmp_path), "--yes", "--detach"]) == cli.REFUSED
    shown = capsys.readouterr().err
    assert "wants a way to pay for it" in shown
    (own,) = Machines(mine).ledger.all()
    assert f"begin with `remote start {own.id}`" in shown
    assert cli.main(["remote", "list"]) == cli.OK
    assert "sent, not begun" in capsys.readouterr().out
    assert cli.main(["remote", "follow", own.id]) == cli.REFUSED
    assert "no machine has begun" in capsys.readouterr().err
    assert cli.main(["remote", "start", own.id, "--yes"]) == cli.OK
    assert capsys.readouterr().out.strip() == own.id
    hub.jobs.only().stage, hub.jobs.only().message = "ERROR", "OOMKilled\x1b[2J"
    assert cli.main(["remote", "list"]) == cli.OK
    shown = capsys.readouterr().out
    assert "error (OOMKilled" in shown
    assert "\x1b" not in shown
    assert cli.main(["remote", "follow", own.id]) == cli.REFUSED
    assert "failed or was killed on its machine (OOMKilled" in capsys.readouterr().err
    assert cli.main(["remote", "stop", own.id]) == cli.OK
    assert cli.main(["remote", "delete", own.id, "--yes"]) == cli.OK
    assert not hub.repos
    capsys.readouterr()
    assert cli.main(["remote", "list", "--json"]) == cli.OK
    assert json.loads(capsys.readouterr().out) == {"handoffs": []}
    assert cli.main(["remote", "pull", own.id]) == cli.REFUSED
    assert f"handed off no training '{own.id}' (none)" in capsys.readouterr().err


def test_every_example_of_a_hand_off_parses(capsys: pytest.CaptureFixture[str]) -> None:
    from synmotion_core.arguments import build_parser

    with pytest.raises(SystemExit):
        cli.main(["remote", "train", "--help"])
    examples = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  python -m synmotion_core")]
    assert examples
    for line in examples:
        assert build_parser().parse_args(shlex.split(line)[3:]).action == "train"


@pytest.mark.slow
def test_the_whole_way(
    mine: Workspace, hub: HubServer, run: TrainRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clips leave, a process with nothing but the Job's command and secrets trains on them, its adapter comes back."""
    hub.jobs.machine = run_here(hub, tmp_path / "machine")
    assert cli.main([*words(run, tmp_path), "--yes", "--json"]) == cli.OK
    shown = capsys.readouterr()
    lines: list[dict[str, Any]] = [json.loads(line) for line in shown.out.splitlines()]
    kinds = [line.get("kind") for line in lines]
    assert kinds.count("progress") >= 2
    assert "finished" in kinds
    path = Path(lines[-1]["path"])
    assert path == mine.adapters / "my wave.safetensors"
    info = read_info(path)
    assert (info.method, info.steps, info.clips) == ("lora", 2, 2)
    (own,) = Machines(mine).ledger.all()
    files = hub.repos[f"datasets/{own.repo_id}"].head.files
    assert {"result/my wave.safetensors", "result/run.json"} <= set(files)
    assert TOKEN.encode() not in b"".join(files.values())
    assert TOKEN not in shown.out + shown.err + "".join(hub.jobs.only().lines)
    assert cli.main(["remote", "delete", own.id, "--yes"]) == cli.OK
    assert not hub.repos


def test_a_training_that_fails_there_says_why(
    machines: Machines, hub: HubServer, run: TrainRun, tmp_path: Path
) -> None:
    """The log holds the reason, and the Job's code is the training's."""
    order = pack(run, tmp_path / "order")
    settings = order.files[0].path
    settings.write_text(settings.read_text().replace("job/clips/01.mp4", "job/clips/00.mp4"))
    order = Order(config=run, files=order.files, given=order.given, key="k")
    hub.jobs.machine = run_here(hub, tmp_path / "machine")
    own = machines.start(machines.send(order, machines.plan(order, flavor="cpu-basic")))
    seen = []
    with pytest.raises(HubError, match="exit code: 2"):
        seen.extend(machines.follow(own))
    text = "\n".join(event.message for event in seen if isinstance(event, Noted))
    assert "00.mp4" in text
    assert "the training ended with code 2" in text
