"""A studio to test: real workspace, jobs and video files; only the denoiser is replaced, by one that draws puppets."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from synmotion_core.backbones import find_spec
from synmotion_core.clips import video
from synmotion_core.config import ClipSource, GenerateRun, TrainRun
from synmotion_core.errors import ConfigError
from synmotion_core.jobs import Jobs, JobView
from synmotion_core.puppets.kinematics import FPS
from synmotion_core.puppets.stage import Scene, render
from synmotion_core.training import wishes
from synmotion_core.training.priors import plan_priors
from synmotion_core.training.settings import TrainConfig
from synmotion_core.types import (
    Event,
    Finished,
    Noted,
    Progress,
    Prompt,
    Sampled,
    Saved,
    Scored,
    Started,
    Stopped,
    Warned,
)
from synmotion_core.ui.chosen import ClipChoice, Library
from synmotion_core.workspace import Workspace

SETS = (("clap", "claps"), ("squat", "squats"))
CLIPS_A_SET = 3
PUPPETS = find_spec("puppet-hunyuan")
REAL = dataclasses.replace(PUPPETS, name="large", title="Large", needs_gpu=True, knows="anything", features=frozenset())
MEMORY = {
    "weights": "bf16", "text_weights": "bf16", "offload": "none", "vae_tiling": False,
    "num_frames": "", "height": "", "width": "",
}  # fmt: skip
EVIL = "claps <b id='evil'>loudly</b>"


def run_apart(answer: Coroutine[Any, Any, Any]) -> Any:
    """asyncio.run in a thread of its own: a browser of an earlier test keeps this one's loop running."""
    with ThreadPoolExecutor(1) as other:
        return other.submit(asyncio.run, answer).result()


def draw(path: Path, *, species: str = "person", colour: str = "blue", motion: str = "clap", seed: int = 0) -> None:
    """A real H.264 file of a puppet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scene = Scene(species=species, colour=colour, background="meadow", motion=motion, seed=seed)
    video.write(path, render(scene).frames, FPS)


def write_adapter(
    path: Path,
    *,
    subject: str,
    motion: str,
    steps: int,
    clips: int,
    method: str = "lora",
    backbone: str = "puppet-hunyuan",
    score: float | None = None,
) -> None:
    """A small adapter file with real metadata."""
    import torch

    from synmotion_core.adapters.file import AdapterInfo, save_adapter

    info = AdapterInfo(
        backbone=backbone,
        repo=f"assets:{backbone}",
        revision=None,
        fingerprint="",
        licence="apache-2.0",
        method=method,
        method_config={"rank": 2},
        subject=subject,
        motion=motion,
        steps=steps,
        clips=clips,
        score=score,
        scored_by="" if score is None else "judge",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_adapter(path, {"transformer.x.lora_A.weight": torch.zeros(2, 2)}, info)


@dataclass
class PuppetRunner:
    """Real events and real videos at a chosen pace, without a model. Cancel and resume as in the real one."""

    step_s: float = 0.05
    fail_at: int | None = None
    best_at: int = 20
    num_priors: int = 1
    runs: list[Any] = field(default_factory=list)

    def train(
        self, config: TrainRun, folder: Path, *, cache: Path, cancel: threading.Event, resume: bool
    ) -> Iterator[Event]:
        """Encode, the first priors of the plan, steps with a falling loss, samples, an adapter."""
        self.runs.append(config)
        mark = folder / "step.txt"
        done = int(mark.read_text()) if resume and mark.exists() else 0
        yield Started(what="encode", total=len(config.clips))
        for index, clip in enumerate(config.clips, start=1):
            assert clip.path.exists()
            yield Progress(stage="encode", step=index, total=len(config.clips))
        for prompt, own_seed in plan_priors(dict(PUPPETS.options), config.priors)[: self.num_priors]:
            prior, words = folder / f"prior-{own_seed}.mp4", prompt.subject.split()
            draw(prior, species=words[-1], colour=words[-2], motion="walk", seed=own_seed)
            yield Sampled(path=prior, prompt=prompt, seed=own_seed, adapted=False)
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
            asked = wishes.take(folder)
            if "save" in asked:
                mark.write_text(str(step))
                yield Saved(path=mark, step=step, kind="checkpoint")
            if "sample" in asked or (config.train.sample_every and step % config.train.sample_every == 0):
                yield from self._samples(config, folder, step)
            if config.train.score_every and step % config.train.score_every == 0:
                yield from self._score(config, folder, step)
        yield Warned(message="slower than expected: the <machine> is busy")
        adapter, clip = folder / f"{config.name}.safetensors", config.clips[0]
        write_adapter(adapter, subject=clip.subject, motion=clip.motion, steps=total, clips=len(config.clips))
        best = folder / f"{config.name}-best.safetensors" if config.train.score_every else None
        if best is not None:
            write_adapter(best, subject=clip.subject, motion=clip.motion, steps=self.best_at, clips=3, score=0.8)
        yield Finished(path=adapter, seconds=1.0, best=best)

    def _score(self, config: TrainRun, folder: Path, step: int) -> Iterator[Event]:
        """Rises up to `best_at`, then falls."""
        score, best = 0.8 - abs(step - self.best_at) / 100, step <= self.best_at
        values = {"motion": score, "species": score, "error": 0.05}
        path = folder / "best" / f"{config.name}-step-{min(step, self.best_at):06d}.safetensors"
        if best:
            clip = config.clips[0]
            write_adapter(path, subject=clip.subject, motion=clip.motion, steps=step, clips=3, score=score)
        yield Progress(stage="score", step=1, total=1)
        yield Scored(step=step, by="judge", score=score, best=best, values=values, seconds=self.step_s)
        yield Saved(path=path, step=min(step, self.best_at), kind="best")

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
        if config.step_cache:
            yield Noted(message=f"the step cache <{config.step_cache}> left out 33 %")
        yield Finished(path=folder)


@dataclass(frozen=True)
class Site:
    """A running studio."""

    url: str
    workspace: Workspace
    jobs: Jobs
    runner: PuppetRunner
    assets: Path


def view(**changes: Any) -> JobView:
    source = ClipSource(path=Path("gone.mp4"), subject="a person", motion="claps")
    values: dict[str, Any] = {
        "id": "20260101-000000-abcdef",
        "kind": "train",
        "status": "running",
        "config": TrainRun(name="x", clips=(source,), train=TrainConfig(num_steps=100)),
        "created": 0.0,
        "stage": "train",
        "step": 25,
        "total": 100,
        "losses": ((24, 0.5), (25, 0.25)),
        "samples": (),
        "scores": (),
        "best": None,
        "seen": None,
        "result": None,
        "message": "",
        "warnings": (),
        "notes": (),
        "checkpoint_step": None,
        "seconds": 30.0,
        "seconds_per_step": 1.2,
        "eta_s": 90.0,
        "memory_gib": 1.25,
    }
    return JobView(**{**values, **changes})


def train_form(**changes: Any) -> dict[str, Any]:
    form = {
        "name": "",
        "backbone": "puppet-hunyuan",
        "method": "synmotion",
        "mode": "t2v",
        "num_steps": 400,
        "sample_every": 100,
        "save_every": 100,
        "sample_subjects": "a red cat\n",
        "score_every": 0,
        "batch_size": "",
        "optimizer": "adamw",
        **MEMORY,
        "gradient_checkpointing": False,
        "rank": 16,
        "method_settings": "",
        "learning_rate": "",
        "seed": 0,
        "left_out": {},
    }
    return {**form, **changes}


def generate_form(**changes: Any) -> dict[str, Any]:
    form = {
        "adapter": "",
        "subjects": "a red cat\n\n a  robot",
        "motion": "claps",
        "setting": "",
        "seeds": "0",
        "strength": 1.0,
        "compare": True,
        "steps": "",
        "guidance": "",
        "until": "",
        "eta": "",
        "negative_prompt": "",
        "embedded_guidance": "",
        "flow_shift": "",
        "noise_clip": "",
        "noise_prior": "",
        "adapter_until": "",
        "method_settings": "",
        "step_cache": "",
        **MEMORY,
        "backbone": "puppet-hunyuan",
    }
    return {**form, **changes}


def example(library: Library) -> ClipChoice:
    return library.examples()[0].clips[0]
