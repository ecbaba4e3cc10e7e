"""A page to test: real workspace, jobs, clips and browser; only the denoiser is replaced, by a runner that draws with the puppet stage."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from synmotion_core.clips import video
from synmotion_core.config import GenerateRun, TrainRun
from synmotion_core.errors import ConfigError
from synmotion_core.puppets.stage import FPS, Scene, render
from synmotion_core.types import Event, Finished, Progress, Prompt, Sampled, Saved, Started, Stopped, Warned

SETS = (("clap", "claps"), ("squat", "squats"))
CLIPS_A_SET = 3


def draw(path: Path, *, species: str = "person", colour: str = "blue", motion: str = "clap", seed: int = 0) -> None:
    """A real H.264 file of a puppet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scene = Scene(species=species, colour=colour, background="meadow", motion=motion, seed=seed)
    video.write(path, render(scene).frames, FPS)


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An assets folder with two example sets of three clips and one ready adapter."""
    import torch

    from synmotion_core.adapters.file import AdapterInfo, save_adapter

    root = tmp_path_factory.mktemp("assets")
    rows = []
    for name, verb in SETS:
        for seed in range(CLIPS_A_SET):
            file = f"{name}-{seed}.mp4"
            draw(root / "clips" / file, motion=name, seed=seed)
            rows.append({"file": file, "subject": "a person", "motion": verb})
    (root / "clips" / "index.json").write_text(json.dumps({"clips": rows}), encoding="utf-8")
    info = AdapterInfo(
        backbone="puppet-hunyuan", repo="assets:puppet-hunyuan", revision=None, fingerprint="", licence="apache-2.0", method="lora",
        method_config={"rank": 4}, subject="a person", motion="claps <b>loudly</b>", steps=300, clips=12,
    )  # fmt: skip
    (root / "adapters").mkdir()
    save_adapter(root / "adapters" / "clap.safetensors", {"transformer.x.lora_A.weight": torch.zeros(4, 4)}, info)
    return root


@dataclass
class FakeRunner:
    """Real events and real videos at a chosen pace, without a model. It obeys cancel and resume like the real one."""

    step_s: float = 0.05
    fail_at: int | None = None
    runs: list[Any] = field(default_factory=list)

    def train(
        self, config: TrainRun, folder: Path, *, cache: Path, cancel: threading.Event, resume: bool
    ) -> Iterator[Event]:
        self.runs.append(config)
        mark = folder / "step.txt"
        done = int(mark.read_text()) if resume and mark.exists() else 0
        yield Started(what="encode", total=len(config.clips))
        for index, clip in enumerate(config.clips):
            assert clip.path.exists()
            yield Progress(stage="encode", step=index + 1, total=len(config.clips))
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
                raise ConfigError("a <b>bad</b> setting: use another")
            time.sleep(self.step_s)
            loss = 0.3 + math.exp(-step / 10) + 0.05 * math.sin(step * 1.7)
            yield Progress(stage="train", step=step, total=total, loss=loss, seconds=self.step_s)
            if config.train.sample_every and step % config.train.sample_every == 0:
                for seed, subject in enumerate(config.train.sample_subjects):
                    path = folder / "samples" / f"step-{step}-{seed}.mp4"
                    draw(path, species=("cat", "robot")[seed % 2], colour=("red", "blue")[seed % 2], seed=step)
                    yield Sampled(
                        path=path, prompt=Prompt(subject=subject, motion=config.clips[0].motion), seed=seed, step=step
                    )
        yield Warned(message="slower than expected: the <machine> is busy")
        adapter = folder / f"{config.name}.safetensors"
        self._write_adapter(adapter, config)
        yield Finished(path=adapter, seconds=1.0)

    def generate(
        self, config: GenerateRun, folder: Path, *, cache: Path, cancel: threading.Event, resume: bool
    ) -> Iterator[Event]:
        self.runs.append(config)
        rounds = (True, False) if config.compare else (config.adapter is not None,)
        total = len(config.subjects) * len(config.seeds) * len(rounds)
        yield Started(what="generate", total=total)
        done = 0
        for adapted in rounds:
            for subject in config.subjects:
                for seed in config.seeds:
                    time.sleep(self.step_s)
                    if cancel.is_set():
                        yield Stopped(step=done)
                        return
                    path = folder / f"{subject.replace(' ', '-')}-seed{seed}{'' if adapted else '-base'}.mp4"
                    draw(
                        path,
                        species=subject.split()[-1],
                        colour="red",
                        motion="clap" if adapted else "stand",
                        seed=seed,
                    )
                    done += 1
                    yield Progress(stage="generate", step=done, total=total)
                    prompt = Prompt(subject=subject, motion=config.motion, setting=config.setting)
                    yield Sampled(path=path, prompt=prompt, seed=seed, adapted=adapted)
        yield Finished(path=folder)

    @staticmethod
    def _write_adapter(path: Path, config: TrainRun) -> None:
        import torch

        from synmotion_core.adapters.file import AdapterInfo, save_adapter

        clip = config.clips[0]
        info = AdapterInfo(
            backbone=config.backbone, repo="assets:puppet-hunyuan", revision=None, fingerprint="", licence="apache-2.0", method=config.method,
            method_config={}, subject=clip.subject, motion=clip.motion, steps=config.train.num_steps, clips=len(config.clips),
        )  # fmt: skip
        save_adapter(path, {"transformer.x.lora_A.weight": torch.zeros(2, 2)}, info)
