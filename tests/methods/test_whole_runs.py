"""Every row of METHODS from clips to videos, as people run it: words, files and encoders are what they should be."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest

from synmotion_core import backbones, run
from synmotion_core.adapters.file import read_info
from synmotion_core.clips import video
from synmotion_core.config import ClipSource, GenerateRun, TrainRun
from synmotion_core.interfaces import Rewords, reworded, why_incompatible
from synmotion_core.methods import METHODS
from synmotion_core.puppets.stage import Scene, render
from synmotion_core.training.settings import PriorConfig, TrainConfig
from synmotion_core.types import Finished, Noted, Progress, Prompt, Sampled, Saved, VideoShape
from synmotion_core.ui.forms import default_rank
from tests.backbones.tiny import tiny_folder, tiny_spec

UNET = "modelscope-t2v-1.7b"


def backbone_for(method: str) -> str:
    """The one that ships where it fits; else a U-Net's row with tiny weights that somebody put into the workspace."""
    puppets = backbones.SPECS["puppet-hunyuan"]
    return "puppet-hunyuan" if why_incompatible(puppets, method, METHODS[method].requires) is None else UNET


@pytest.fixture(autouse=True)
def _few_sampling_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = backbones.SPECS["puppet-hunyuan"]
    monkeypatch.setitem(backbones.SPECS, "puppet-hunyuan", dataclasses.replace(spec, num_inference_steps=2))
    shape = VideoShape(num_frames=17, height=64, width=64, fps=8.0)
    small = dataclasses.replace(tiny_spec(UNET), num_inference_steps=2, default_shape=shape)
    monkeypatch.setitem(backbones.SPECS, UNET, small)
    monkeypatch.setenv("SYNMOTION_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "weights").mkdir(parents=True)
    (tmp_path / "home" / "weights" / UNET).symlink_to(tiny_folder(UNET))
    monkeypatch.setattr(run.pool, "_pool", {})


@pytest.fixture
def read(name: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every prompt that the backbone's encoders were given."""
    found: list[str] = []
    backbone: Any = run.borrow_backbone(backbone_for(name))
    encode_prompt = backbone.encode_prompt

    def noticed(prompts: Any, images: Any = None) -> Any:
        found.extend(prompt.text for prompt in prompts)
        return encode_prompt(prompts, images)

    monkeypatch.setattr(backbone, "encode_prompt", noticed)
    return found


@pytest.mark.parametrize("name", METHODS)
def test_clips_in_videos_out(name: str, read: list[str], tmp_path: Path) -> None:
    clip, row = tmp_path / "a.mp4", backbone_for(name)
    video.write(clip, render(Scene(species="person", colour="red", background="room", motion="wave", seed=1)).frames, 8)
    config = TrainRun(
        name="x",
        clips=(ClipSource(path=clip, subject="a person", motion="waves, bobs"),),
        backbone=row,
        method=name,
        method_config={} if default_rank(name) is None else {"rank": 2},
        train=TrainConfig(num_steps=3, batch_size=1, save_every=0, sample_every=3, sample_subjects=("a red cat",)),
        priors=PriorConfig(subjects=("a frog",), motions=("jumps",), max_videos=1),
    )
    entry = METHODS[name]
    words = reworded(entry, entry.config(**config.method_config), Prompt(subject="a red cat", motion="waves, bobs"))
    assert (words.text != "a red cat waves, bobs") == isinstance(entry, Rewords)
    backbone: Any = run.borrow_backbone(row)
    kept = ("text_encoder",) if "word_embeddings" in entry.requires else ()
    events = []
    for event in run.train(config, tmp_path / "job", cache=tmp_path / "cache", cancel=threading.Event()):
        events.append(event)
        if isinstance(event, Progress) and event.stage in ("train", "generate"):
            assert backbone.pipe.encoders.loaded == kept, event
    assert isinstance(events[-1], Finished)
    (saved,) = (event for event in events if isinstance(event, Saved) and event.kind == "adapter")
    assert saved.applied
    assert read_info(saved.path).motion == "waves, bobs", "people's words, nothing of the method's"
    (sample,) = (event for event in events if isinstance(event, Sampled) and event.step)
    assert sample.prompt.text == "a red cat waves, bobs"
    expected = {words.text, words.text.replace("a red cat", "a person")}
    assert set(read) == expected | ({"a frog jumps"} if entry.draws_priors(entry.config()) else set())

    read.clear()
    words_of = {"backbone": row, "subjects": ("a red cat",)}
    wanted = GenerateRun(**words_of, motion="waves", adapter=saved.path, compare=True)
    events = list(run.generate(wanted, tmp_path / "out", cancel=threading.Event()))
    made = {event.adapted: event for event in events if isinstance(event, Sampled)}
    assert {event.prompt.text for event in made.values()} == {"a red cat waves, bobs"}
    assert set(read) >= {words.text, "a red cat waves, bobs"}, "the base beside it reads people's words"
    said = [event.message for event in events if isinstance(event, Noted)]
    assert said == (
        [f"“waves, bobs” is read as “{words.motion}”: the method has a word of its own for it"]
        if isinstance(entry, Rewords)
        else []
    )
    alone = dataclasses.replace(wanted, motion="waves, bobs", adapter=None, compare=False)
    (base,) = (e for e in run.generate(alone, tmp_path / "base", cancel=threading.Event()) if isinstance(e, Sampled))
    assert made[False].path.read_bytes() == base.path.read_bytes() != made[True].path.read_bytes()
    assert not backbone.pipe.encoders._held


def test_an_adapter_is_drawn_without_its_highway_if_one_likes(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    video.write(clip, render(Scene(species="person", colour="red", background="room", motion="wave", seed=1)).frames, 8)
    made = {}
    for highway in ("paper", "off"):
        config = TrainRun(
            name="x",
            clips=(ClipSource(path=clip, subject="a person", motion="waves"),),
            backbone=UNET,
            method="separation",
            method_config={"rank": 2, "highway": highway},
            train=TrainConfig(num_steps=3, batch_size=1, save_every=0, sample_every=0, learning_rate=0.1),
        )
        events = run.train(config, tmp_path / highway, cache=tmp_path / "cache", cancel=threading.Event())
        (saved,) = (event for event in events if isinstance(event, Saved) and event.kind == "adapter")
        for other in ({}, {"highway": "off"}):
            drawn = GenerateRun(
                backbone=UNET, subjects=("a red cat",), motion="waves", adapter=saved.path, method_config=other
            )
            folder = tmp_path / f"{highway}{len(other)}"
            (video_,) = (
                event for event in run.generate(drawn, folder, cancel=threading.Event()) if isinstance(event, Sampled)
            )
            made[highway, bool(other)] = video_.path.read_bytes()
    assert made["paper", True] == made["off", False] == made["off", True] != made["paper", False]
