"""Ann's machine, and a training of a few steps that can be handed off."""

from __future__ import annotations

from pathlib import Path

import pytest

from synmotion_core.config import ClipSource, TrainRun
from synmotion_core.training.settings import TrainConfig
from synmotion_core.workspace import Workspace
from tests.hub_server import HubServer

CLIPS = Path(__file__).parents[2] / "assets" / "clips" / "wave"


@pytest.fixture
def mine(hub: HubServer, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Ann is logged in by her token."""
    monkeypatch.setenv("HF_TOKEN", "hf_ann_write")
    return workspace


@pytest.fixture
def run() -> TrainRun:
    """Two steps of a LoRA."""
    clips = [
        ClipSource(path=CLIPS / f"wave-0{n}.mp4", subject="a person", motion="waves both arms", end_s=2.125)
        for n in (1, 2)
    ]
    train = TrainConfig(num_steps=2, batch_size=1, sample_every=0, save_every=0, mixed_precision="no")
    method_config = {"rank": 2}
    return TrainRun(name="my wave", clips=tuple(clips), method="lora", method_config=method_config, train=train)
