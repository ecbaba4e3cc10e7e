"""What the page costs, measured on a quiet machine: python -m tests.ui.viewers [--viewers 20] [--rounds 4].

Three figures of `python app.py` in a workspace of its own: seconds to the heading and to the examples in a real
browser, beside those of an empty page of Gradio as it comes, started in turn; what an idle page has loaded; and what
viewers of one real training do to its steps. Viewers are not browsers, which would take the cores themselves: they send
what a browser's timers sent, each in a session of its own, and keep to the interval that they are told. Steps with and
without them are compared phase by phase, in windows that alternate; the interval is over steps, so what changes between
windows on a noisy machine is not in it. The processor time of all threads but those that train (the busiest, as many as
there are cores) is told beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Request, sync_playwright

from synmotion_core.events import read_lines
from synmotion_core.types import Progress
from tests.ui.conftest import CHROMIUM_ARGS

ROOT = Path(__file__).resolve().parents[2]
SLOW = 300_000  # milliseconds
TRAINING = os.cpu_count() or 1  # torch's threads, the busiest
EMPTY = """
import sys, gradio
with gradio.Blocks() as page:
    gradio.HTML("<h1>Empty</h1><p id='example-0'>page</p>")
page.launch(server_port=int(sys.argv[2]))
"""


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=4, help="windows with and without them")
    parser.add_argument("--seconds", type=float, default=40.0, help="of a window")
    parser.add_argument("--starts", type=int, default=3)
    options = parser.parse_args()
    chromium = next(found for name in ("chromium", "google-chrome") if (found := shutil.which(name)))
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
        (Path(folder) / "empty.py").write_text(EMPTY, encoding="utf-8")
        programs = {"the studio": "app.py", "an empty page": str(Path(folder) / "empty.py")}
        for number in range(options.starts):
            for name, program in programs.items():
                with Studio(Path(folder) / f"start-{number}", program) as studio:
                    page = browser.new_page()
                    print(f"start {number + 1}, {name}: {studio.first_page(page)}", flush=True)
                    page.close()
        with Studio(Path(folder) / "home") as studio:
            page = browser.new_page()
            studio.first_page(page)
            time.sleep(20)
            print(f"idle for 20 s: {studio.loaded()}", flush=True)
            asked = begin(page)
            page.close()
            browser.close()
            compare(studio, asked, options.viewers, options.rounds, options.seconds)


class Studio:
    """`python app.py`, or another program that takes its port."""

    def __init__(self, home: Path, program: str = "app.py") -> None:
        self.home, self.program = home, program
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> Studio:
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, self.program, "--port", str(self.port), "--home", str(self.home)], cwd=ROOT,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(120)

    def first_page(self, page: Page) -> str:
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                time.sleep(0.02)
        answers = time.monotonic() - self.began
        page.goto(self.url, wait_until="commit")
        page.locator("h1").first.wait_for(timeout=SLOW)
        painted = time.monotonic() - self.began
        page.locator("#example-0").wait_for(timeout=SLOW)
        usable = time.monotonic() - self.began
        return f"answers after {answers:.2f} s, heading after {painted:.2f} s, examples after {usable:.2f} s"

    def spent(self) -> dict[str, float]:
        """Seconds of processor time by thread."""
        found: dict[str, float] = {}
        for thread in Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):  # ended meanwhile
                fields = (thread / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                found[thread.name] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return found

    def loaded(self) -> str:
        maps = Path(f"/proc/{self.process.pid}/maps").read_text(encoding="utf-8")
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        resident = next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]
        torch, weights = (word in maps for word in ("libtorch", ".safetensors"))
        here = ["loaded" if torch else "not loaded", "mapped" if weights else "not mapped"]
        return f"torch {here[0]}, weights {here[1]}, {int(resident) // 1024} MiB"


def begin(page: Page) -> list[dict[str, Any]]:
    """Start a training of the examples; what the page's timers send, while it runs."""
    page.locator("#example-0").click()
    page.locator("#clips-grid .sm-card").first.wait_for(timeout=SLOW)
    page.get_by_role("tab", name="2 · Train").click()
    page.get_by_text("clips to encode").first.wait_for(timeout=SLOW)
    page.locator("#train-steps input").fill("20000")
    page.locator("#train-sample-every input").fill("0")
    page.locator("#train-start").click()
    page.locator('#train-status [data-status="running"]').wait_for(timeout=SLOW)
    page.get_by_text("Training: 1", exact=False).first.wait_for(timeout=900_000)
    asked: dict[int, dict[str, Any]] = {}

    def see(request: Request) -> None:
        if "/queue/join" in request.url:
            body = json.loads(request.post_data or "{}")
            asked[body["fn_index"]] = body

    page.on("request", see)
    page.wait_for_timeout(8000)
    return list(asked.values())


def compare(studio: Studio, asked: list[dict[str, Any]], viewers: int, rounds: int, seconds: float) -> None:
    """Windows without and with viewers in turn; the ratio of their steps."""
    log = next((studio.home / "jobs").glob("*/events.jsonl"))
    steps: dict[bool, list[tuple[str, float]]] = {False: [], True: []}
    serving = {False: 0.0, True: 0.0}
    answers = 0
    for number in range(2 * rounds):
        watched = number % 2 == 1
        over, told = threading.Event(), [0] * viewers
        crowd = [
            threading.Thread(target=view, args=(studio, asked, over, told, k), daemon=True)
            for k in range(viewers if watched else 0)
        ]
        for one in crowd:
            one.start()
        time.sleep(8)  # until all have come and know their interval
        before, count, spent = len(read_lines(log)[0]), sum(told), studio.spent()
        time.sleep(seconds)
        each = sorted((now - spent.get(name, 0.0) for name, now in studio.spent().items()), reverse=True)
        serving[watched] += sum(each[TRAINING:])
        answers += sum(told) - count
        for line in read_lines(log)[0][before:]:
            event = line.event
            if isinstance(event, Progress) and event.stage == "train" and event.seconds is not None:
                steps[watched].append((event.phase or "", event.seconds))
        over.set()
        for one in crowd:
            one.join(60)
    print(f"{viewers} viewers had {answers / (rounds * seconds):.1f} answers a second in all")
    shares = [f"{100 * serving[w] / (rounds * seconds):.1f} % of a core" for w in (False, True)]
    print(f"all threads but the {TRAINING} that train: {shares[0]} alone, {shares[1]} beside viewers")
    for phase in sorted({phase for phase, _ in steps[False]}):
        alone, beside = ([s for own, s in steps[w] if own == phase] for w in (False, True))
        print(f"{phase or 'steps'}: {_slower(alone, beside)}")
    print(f"all, each phase by its own mean: {_slower(*(_in_means(steps, watched) for watched in (False, True)))}")


def _in_means(steps: dict[bool, list[tuple[str, float]]], watched: bool) -> list[float]:
    """Steps as multiples of what a step of their phase takes alone."""
    phases = {phase for phase, _ in steps[False]}
    means = {phase: statistics.mean(s for own, s in steps[False] if own == phase) for phase in phases}
    return [seconds / means[phase] for phase, seconds in steps[watched] if phase in means]


def _slower(alone: list[float], beside: list[float]) -> str:
    """The difference with its 95 % interval: bootstrap over steps, 2,000 times, seed 0."""
    chance = random.Random(0)
    ratios = sorted(
        statistics.fmean(chance.choices(beside, k=len(beside))) / statistics.fmean(chance.choices(alone, k=len(alone)))
        for _ in range(2000)
    )
    ratio = statistics.fmean(beside) / statistics.fmean(alone)
    low, middle, high = (f"{100 * (value - 1):+.1f}" for value in (ratios[50], ratio, ratios[1949]))
    return (
        f"{statistics.fmean(alone):.3f} alone ({len(alone)}), {statistics.fmean(beside):.3f} beside viewers "
        f"({len(beside)}): {middle} % [{low}, {high}]"
    )


def view(studio: Studio, asked: list[dict[str, Any]], over: threading.Event, told: list[int], place: int) -> None:
    """One viewer: asks as the page's timers do, at the interval that the answers say."""
    session, every = uuid.uuid4().hex[:11], 1.0
    while not over.wait(every):
        for body in asked:
            connection = http.client.HTTPConnection("127.0.0.1", studio.port, timeout=60)
            text = json.dumps({**body, "session_hash": session})
            connection.request("POST", "/gradio_api/queue/join", text, {"Content-Type": "application/json"})
            connection.getresponse().read()
            connection.close()
            connection = http.client.HTTPConnection("127.0.0.1", studio.port, timeout=60)
            connection.request("GET", f"/gradio_api/queue/data?session_hash={session}")
            answer = connection.getresponse()
            while line := answer.readline():
                message = json.loads(line[6:]) if line.startswith(b"data: ") else {}
                if message.get("msg") == "process_completed":
                    if not message.get("success"):
                        raise RuntimeError(f"the page was refused: {message}")
                    told[place] += 1
                    every = _interval(message["output"].get("data", ()), every)
                    break
            connection.close()


def _interval(outputs: Any, before: float) -> float:
    """Of a timer among the outputs, the only component that is given a plain number and nothing else."""
    timers = {"value", "active", "__type__"}
    for output in outputs:
        if isinstance(output, dict) and output.get("__type__") == "update" and set(output) <= timers:
            value = output.get("value")
            if isinstance(value, (int, float)):
                return float(value)
    return before


if __name__ == "__main__":
    os.environ.pop("OMP_NUM_THREADS", None)
    main()
