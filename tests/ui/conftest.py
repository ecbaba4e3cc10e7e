"""A page to test: real workspace, jobs, clips and Chromium; only the denoiser is replaced, by one that draws puppets."""

from __future__ import annotations

import json
import math
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from synmotion_core.clips import video
from synmotion_core.config import GenerateRun, TrainRun
from synmotion_core.errors import ConfigError
from synmotion_core.jobs import Jobs
from synmotion_core.puppets.motions import FPS
from synmotion_core.puppets.stage import Scene, render
from synmotion_core.types import Event, Finished, Progress, Prompt, Sampled, Saved, Started, Stopped, Warned
from synmotion_core.workspace import Workspace

SETS = (("clap", "claps"), ("squat", "squats"))
CLIPS_A_SET = 3
EVIL = "claps <b id='evil'>loudly</b>"
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def draw(path: Path, *, species: str = "person", colour: str = "blue", motion: str = "clap", seed: int = 0) -> None:
    """A real H.264 file of a puppet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scene = Scene(species=species, colour=colour, background="meadow", motion=motion, seed=seed)
    video.write(path, render(scene).frames, FPS)


def write_adapter(path: Path, *, subject: str, motion: str, steps: int, clips: int) -> None:
    """A small adapter file with real metadata."""
    import torch

    from synmotion_core.adapters.file import AdapterInfo, save_adapter

    info = AdapterInfo(
        backbone="puppet-hunyuan",
        repo="assets:puppet-hunyuan",
        revision=None,
        fingerprint="",
        licence="apache-2.0",
        method="lora",
        method_config={"rank": 2},
        subject=subject,
        motion=motion,
        steps=steps,
        clips=clips,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_adapter(path, {"transformer.x.lora_A.weight": torch.zeros(2, 2)}, info)


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An assets folder with two example sets of three clips and one ready adapter whose words try to be HTML."""
    root = tmp_path_factory.mktemp("assets")
    rows = []
    for name, verb in SETS:
        for seed in range(CLIPS_A_SET):
            file = f"{name}/{name}-{seed}.mp4"
            draw(root / "clips" / file, motion=name, seed=seed)
            rows.append({"file": file, "subject": "a person", "motion": verb})
    (root / "clips" / "index.json").write_text(json.dumps({"clips": rows}), encoding="utf-8")
    write_adapter(root / "adapters" / "clap.safetensors", subject="a person", motion=EVIL, steps=300, clips=12)
    return root


@dataclass
class PuppetRunner:
    """Real events and real videos at a chosen pace, without a model. Cancel and resume as in the real one."""

    step_s: float = 0.05
    fail_at: int | None = None
    runs: list[Any] = field(default_factory=list)

    def train(
        self, config: TrainRun, folder: Path, *, cache: Path, cancel: threading.Event, resume: bool
    ) -> Iterator[Event]:
        """Encode, one prior, steps with a falling loss, samples, an adapter."""
        self.runs.append(config)
        mark = folder / "step.txt"
        done = int(mark.read_text()) if resume and mark.exists() else 0
        yield Started(what="encode", total=len(config.clips))
        for index, clip in enumerate(config.clips, start=1):
            assert clip.path.exists()
            yield Progress(stage="encode", step=index, total=len(config.clips))
        prior = folder / "prior.mp4"
        draw(prior, species="cat", motion="walk")
        yield Sampled(path=prior, prompt=Prompt(subject="a cat", motion="walks"), seed=0, adapted=False)
        total = config.train.num_steps
        yield Started(what="train", total=total)
        for step in range(done + 1, total + 1):
            if cancel.is_set():
                mark.write_text(str(step - 1))
                yield Saved(path=mark, step=step - 1, kind="checkpoint")
                yield Stopped(step=step - 1)
                return
            if step == self.fail_at:
                raise ConfigError("the setting <b id='evil'>x</b> is bad: use another")
            time.sleep(self.step_s)
            loss = 0.3 + math.exp(-step / 10) + 0.05 * math.sin(step * 1.7)
            yield Progress(stage="train", step=step, total=total, loss=loss, seconds=self.step_s)
            if config.train.sample_every and step % config.train.sample_every == 0:
                yield from self._samples(config, folder, step)
        yield Warned(message="slower than expected: the <machine> is busy")
        adapter, clip = folder / f"{config.name}.safetensors", config.clips[0]
        write_adapter(adapter, subject=clip.subject, motion=clip.motion, steps=total, clips=len(config.clips))
        yield Finished(path=adapter, seconds=1.0)

    @staticmethod
    def _samples(config: TrainRun, folder: Path, step: int) -> Iterator[Event]:
        for seed, subject in enumerate(config.train.sample_subjects):
            path = folder / "samples" / f"step-{step}-{seed}.mp4"
            draw(path, species=("cat", "robot")[seed % 2], colour=("red", "blue")[seed % 2], seed=step)
            prompt = Prompt(subject=subject, motion=config.clips[0].motion)
            yield Sampled(path=path, prompt=prompt, seed=seed, step=step)

    def generate(
        self, config: GenerateRun, folder: Path, *, cache: Path, cancel: threading.Event, resume: bool
    ) -> Iterator[Event]:
        """Every subject times every seed with the adapter, then the backbone alone."""
        self.runs.append(config)
        rounds = (True, False) if config.compare else (config.adapter is not None,)
        pairs = [(subject, seed) for subject in config.subjects for seed in config.seeds]
        yield Started(what="generate", total=len(pairs) * len(rounds))
        done = 0
        for adapted in rounds:
            for subject, seed in pairs:
                time.sleep(self.step_s)
                if cancel.is_set():
                    yield Stopped(step=done)
                    return
                path = folder / f"{subject.replace(' ', '-')}-seed{seed}{'' if adapted else '-base'}.mp4"
                motion = "clap" if adapted else "stand"
                draw(path, species=subject.split()[-1], colour=subject.split()[-2], motion=motion, seed=seed)
                done += 1
                yield Progress(stage="generate", step=done, total=len(pairs) * len(rounds))
                prompt = Prompt(subject=subject, motion=config.motion, setting=config.setting)
                yield Sampled(path=path, prompt=prompt, seed=seed, adapted=adapted)
        yield Finished(path=folder)


@dataclass(frozen=True)
class Site:
    """A running studio."""

    url: str
    workspace: Workspace
    jobs: Jobs
    runner: PuppetRunner
    assets: Path


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, assets: Path) -> Iterator[Site]:
    """The real page over a real workspace and real jobs; one for the session, since starting takes seconds."""
    from synmotion_core.ui import build, launch_options

    workspace, runner = Workspace(tmp_path_factory.mktemp("home") / "workspace"), PuppetRunner()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Jobs(workspace, {"train": runner.train, "generate": runner.generate}) as jobs:
        page = build(workspace, jobs, assets=assets)
        page.launch(server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True, **launch_options())
        yield Site(url=f"http://127.0.0.1:{port}/", workspace=workspace, jobs=jobs, runner=runner, assets=assets)
        page.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The system's Chromium (tests/system.sh installs one)."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    assert path, "no Chromium on this machine: run tests/system.sh"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser, site: Site) -> Iterator[Any]:
    """open_page(width=…, height=…, scheme=…) -> a loaded page of a browser that remembers nothing yet.

    Fails at the end if a page logged an error, raised, or asked for anything outside the studio.
    """
    contexts, problems = [], []

    def open_it(width: int = 1280, height: int = 900, scheme: Any = "light") -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        own = (site.url, "data:", "blob:", "about:")
        page.on("request", lambda r: problems.append(f"asked for {r.url}") if not r.url.startswith(own) else None)
        page.goto(site.url)
        page.locator("#clips-grid").wait_for()
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert not problems, problems
