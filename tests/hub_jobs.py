"""The Jobs API of the test's Hub: created, inspected, listed, their logs as server-sent events, cancelled.

A Job's machine is what the test says: nothing (the test sets stage and lines by hand), or `run_here`, a real process of
this machine with the Job's own command, environment and secrets, and nothing else of this process's environment.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.hub_repos import Answer, Call, Refusal, json_answer

_NAMESPACE, _JOB = r"(?P<owner>[^/]+)", r"(?P<id>[\w-]+)"


@dataclass(kw_only=True)
class Job:
    id: str
    owner: str
    spec: dict[str, Any]
    stage: str = "SCHEDULING"
    message: str | None = None
    lines: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None


@dataclass(kw_only=True)
class Jobs:
    """Those of one Hub; machine runs each that is created."""

    all: dict[str, Job] = field(default_factory=dict)
    machine: Callable[[Job], None] | None = None

    def only(self) -> Job:
        (job,) = self.all.values()
        return job


def run_here(hub: Any, folder: Path) -> Callable[[Job], None]:
    """A machine of the test's: the command, in a process with a home of its own and this Hub."""
    folder.mkdir(parents=True)
    plain = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder),
        "TMPDIR": str(folder), "HF_HOME": str(folder / "huggingface"), "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1", "PIP_NO_INDEX": "1",
        "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_TELEMETRY": "1",
    }  # fmt: skip

    def begin(job: Job) -> None:
        own = {key: value for key, value in job.spec["environment"].items() if not key.startswith("PIP_")}
        job.process = subprocess.Popen(
            job.spec["command"], cwd=folder, env={**plain, **own, **job.spec.get("secrets", {})}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        job.stage = "RUNNING"
        threading.Thread(target=watch, args=(job, job.process), daemon=True).start()

    def watch(job: Job, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            job.lines.append(line.rstrip("\n"))
        code = process.wait()
        if job.stage == "RUNNING":
            job.stage, job.message = (
                ("COMPLETED", None) if code == 0 else ("ERROR", f"Job failed with exit code: {code}")
            )

    return begin


def create(hub: Any, call: Call, owner: str) -> Answer:
    hub._may_write(owner, call.user)
    spec = call.json()
    if not isinstance(spec.get("command"), list) or not ("dockerImage" in spec or "spaceId" in spec):
        raise Refusal(400, "a Job needs a command and an image")
    job = Job(id=f"{len(hub.jobs.all) + 1:024x}", owner=owner, spec=spec)
    hub.jobs.all[job.id] = job
    if hub.jobs.machine is not None:
        hub.jobs.machine(job)
    return json_answer(_info(job))


def listed(hub: Any, call: Call, owner: str) -> Answer:
    _mine(call, owner)
    wanted = {tuple(label.split("=", 1)) for label in call.query.get("label", [])}
    jobs = [job for job in hub.jobs.all.values() if job.owner == owner]
    return json_answer([_info(job) for job in jobs if wanted <= set(job.spec.get("labels", {}).items())])


def inspect(hub: Any, call: Call, owner: str, id: str) -> Answer:
    return json_answer(_info(_found(hub, call, owner, id)))


def logs(hub: Any, call: Call, owner: str, id: str) -> Answer:
    """All that there is so far; the client asks again until the Job has ended."""
    lines = ["===== Job started at 2026-01-01 00:00:00 =====", *_found(hub, call, owner, id).lines]
    events = [{"data": line, "timestamp": "2026-01-01T00:00:00.000Z"} for line in lines]
    body = ": keep-alive\n\n" + "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return Answer(200, body.encode(), {"Content-Type": "text/event-stream"})


def cancel(hub: Any, call: Call, owner: str, id: str) -> Answer:
    job = _found(hub, call, owner, id)
    job.stage = "CANCELED"
    if job.process is not None and job.process.poll() is None:
        os.killpg(job.process.pid, signal.SIGKILL)
    return json_answer(_info(job))


def routes() -> list[tuple[str, re.Pattern[str], Callable[..., Answer]]]:
    rows = (
        ("POST", f"/api/jobs/{_NAMESPACE}", create),
        ("GET", f"/api/jobs/{_NAMESPACE}", listed),
        ("GET", f"/api/jobs/{_NAMESPACE}/{_JOB}", inspect),
        ("GET", f"/api/jobs/{_NAMESPACE}/{_JOB}/logs", logs),
        ("POST", f"/api/jobs/{_NAMESPACE}/{_JOB}/cancel", cancel),
    )
    return [(method, re.compile(pattern), do) for method, pattern, do in rows]


def _mine(call: Call, owner: str) -> None:
    if call.user is None:
        raise Refusal(401, "Invalid username or password.")
    if call.user.name != owner:
        raise Refusal(403, "Forbidden: not your namespace")


def _found(hub: Any, call: Call, owner: str, id: str) -> Job:
    _mine(call, owner)
    if id not in hub.jobs.all:
        raise Refusal(404, "Job not found")
    return hub.jobs.all[id]


def _info(job: Job) -> dict[str, Any]:
    """What the Hub tells of a Job; of secrets it tells the names."""
    return {
        "id": job.id, "createdAt": "2026-01-01T00:00:00.000Z", "dockerImage": job.spec.get("dockerImage"),
        "command": job.spec["command"], "arguments": [], "environment": job.spec.get("environment"),
        "secrets": dict.fromkeys(job.spec.get("secrets", {})), "flavor": job.spec["flavor"],
        "labels": job.spec.get("labels"), "status": {"stage": job.stage, "message": job.message},
        "owner": {"id": "1", "name": job.owner, "type": "user"},
    }  # fmt: skip
