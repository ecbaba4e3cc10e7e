"""A whole run from files to files: encode, priors, train, adapter, generate. Small numbers, the real backbone."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from synmotion_core import backbones, run
from synmotion_core.adapters.file import load_adapter, read_info
from synmotion_core.backbones import find_spec
from synmotion_core.clips import video
from synmotion_core.clips.frames import png
from synmotion_core.clips.image import load_image
from synmotion_core.config import ClipSource, GenerateRun, TrainRun
from synmotion_core.errors import AdapterError, ClipError, ConfigError, IncompatibleError, ShapeError
from synmotion_core.evaluation.figures import decibels
from synmotion_core.methods.synmotion import SynMotionConfig
from synmotion_core.planning.work import look_up
from synmotion_core.precision import Precision
from synmotion_core.puppets.stage import Scene, render
from synmotion_core.step_cache import parse
from synmotion_core.training.priors import ANEW, plan_priors, read_prior
from synmotion_core.training.settings import PriorConfig, TrainConfig
from synmotion_core.types import Finished, Noted, Progress, Prompt, Sampled, Saved, Stopped, Warned

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[ClipSource, ...]:
    folder = tmp_path_factory.mktemp("clips")
    sources = []
    for i, colour in enumerate(("red", "blue")):
        path = folder / f"{colour}.mp4"
        video.write(
            path, render(Scene(species="person", colour=colour, background="room", motion="wave", seed=i)).frames, 8
        )
        sources.append(ClipSource(path=path, subject=f"a {colour} person", motion="waves"))
    return tuple(sources)


@pytest.fixture(scope="module", autouse=True)
def _few_sampling_steps() -> Any:
    """Four steps a video: this is about the plumbing."""
    spec = backbones.SPECS["puppet-hunyuan"]
    backbones.SPECS["puppet-hunyuan"] = dataclasses.replace(spec, num_inference_steps=4)
    run.pool._pool.clear()
    yield
    backbones.SPECS["puppet-hunyuan"] = spec
    run.pool._pool.clear()


def small(clips: tuple[ClipSource, ...], **values: Any) -> TrainRun:
    return TrainRun(
        name="my-wave",
        clips=clips,
        method_config={"rank": 2, "refiner_layers": 1},
        train=TrainConfig(num_steps=4, batch_size=1, save_every=2, sample_every=4, sample_subjects=("a red cat",)),
        priors=PriorConfig(max_videos=2),
        **values,
    )


def test_the_first_clip_is_shown_as_the_backbone_sees_it(clips: tuple[ClipSource, ...], tmp_path: Path) -> None:
    def seen(config: TrainRun, name: str) -> list[Path]:
        cache = tmp_path / "cache"
        events = run.train(config, tmp_path / name, cache=cache, cancel=threading.Event())
        return [e.path for e in events if isinstance(e, Saved) and e.kind == "seen"]

    (path,) = seen(small(clips), "job")
    frames, fps = video.read(path)[:2]
    given = video.read(clips[0].path)[0]
    assert (frames.shape, fps) == (given.shape, 8)
    assert 20 < decibels(frames.astype(float) - given) < 60, "encoded and decoded: alike, not the same"
    made = path.stat().st_mtime_ns
    assert seen(small(clips), "again") == [path]
    assert path.stat().st_mtime_ns == made, "decoded once"
    unseen = small(clips, method="lora")
    nobody = dataclasses.replace(unseen, method_config={}, train=dataclasses.replace(unseen.train, sample_every=0))
    assert seen(nobody, "nobody") == [], "a training that draws nothing decodes nothing"


def test_clips_in_a_new_subject_out(clips: tuple[ClipSource, ...], tmp_path: Path) -> None:
    events = list(run.train(small(clips), tmp_path / "job", cache=tmp_path / "cache", cancel=threading.Event()))
    assert isinstance(events[-1], Finished)
    adapter = events[-1].path
    assert adapter == tmp_path / "job" / "my-wave.safetensors"
    stages = [e.stage for e in events if isinstance(e, Progress)]
    assert [stages.count(s) for s in ("encode", "prior", "train")] == [2, 2, 4]
    samples = [e for e in events if isinstance(e, Sampled) and e.step]
    assert [(e.prompt.text, e.step) for e in samples] == [("a red cat waves", 4)]
    info = read_info(adapter)
    assert (info.motion, info.steps, info.clips, info.method) == ("waves", 4, 2, "synmotion")
    (saved,) = (e for e in events if isinstance(e, Saved) and e.kind == "adapter")
    assert saved.applied == len(load_adapter(adapter, find_spec("puppet-hunyuan"))[0]) > 0

    again = list(run.train(small(clips), tmp_path / "job2", cache=tmp_path / "cache", cancel=threading.Event()))
    notes = [e.note for e in again if isinstance(e, Progress) and e.stage == "encode"]
    assert notes == ["from the cache"] * 2
    assert not [e for e in again if isinstance(e, Progress) and e.stage == "prior"]  # drawn once, shared

    wanted = GenerateRun(
        subjects=("a blue bear", "a robot"), motion="waves", adapter=adapter, seeds=(1, 2), compare=True
    )
    made = [e for e in run.generate(wanted, tmp_path / "out", cancel=threading.Event()) if isinstance(e, Sampled)]
    assert len(made) == 8
    assert sum(e.adapted for e in made) == 4
    for event in made:
        info = video.probe(event.path)
        assert (info.num_frames, info.width, info.height, info.codec) == (17, 64, 64, "h264")
    assert len({e.path for e in made}) == 8


def test_a_training_reads_what_was_drawn_instead(
    clips: tuple[ClipSource, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from synmotion_core.training import trainer

    read, cache, real = [], tmp_path / "cache", trainer.train

    def spy(**given: Any) -> Any:
        read.append(given["data"]["prior"].latents)
        return real(**given)

    monkeypatch.setattr(trainer, "train", spy)
    config = small(clips)
    first = list(run.train(config, tmp_path / "one", cache=cache))
    changed = dataclasses.replace(config, priors=PriorConfig(max_videos=2, left_out=(1,)))
    second = list(run.train(changed, tmp_path / "two", cache=cache))
    shown = [
        [(e.seed, e.path) for e in events if isinstance(e, Sampled) and not e.adapted] for events in (first, second)
    ]
    assert [[seed for seed, _ in one] for one in shown] == [[0, 1], [0, 1 + ANEW]], "those of the cache are shown, too"
    assert [e.note for e in second if isinstance(e, Progress) and e.stage == "prior"] == [read_prompts(config)[1]]
    assert len(list((cache / "priors").rglob("*.safetensors"))) == 3
    for latents, files in zip(read, shown, strict=True):
        own = [read_prior(path.with_suffix(".safetensors")) for _, path in files]
        assert torch.equal(latents, torch.cat(own))
    assert torch.equal(read[0][0], read[1][0])
    assert not torch.equal(read[0][1], read[1][1]), "another video of the same prompt"
    wrong = dataclasses.replace(config, priors=PriorConfig(max_videos=2, left_out=(2,)))
    for ask in (run.plan, lambda c: list(run.train(c, tmp_path / "three", cache=cache))):
        with pytest.raises(ConfigError, match="left_out names the seed 2, which is no prior video's here"):
            ask(wrong)


def read_prompts(config: TrainRun) -> list[str]:
    return [p.text for p, _ in plan_priors(dict(find_spec(config.backbone).options), config.priors)]


def test_a_run_of_another_shape(clips: tuple[ClipSource, ...], tmp_path: Path) -> None:
    cut = tuple(dataclasses.replace(clip, end_s=9 / 8) for clip in clips)
    config = small(cut, num_frames=9, height=32, width=48)
    with pytest.raises(ClipError, match="9"):
        list(run.train(small(clips, num_frames=9), tmp_path, cache=tmp_path, cancel=threading.Event()))
    events = list(run.train(config, tmp_path / "job", cache=tmp_path / "cache", cancel=threading.Event()))
    [sample] = [e for e in events if isinstance(e, Sampled) and e.step]
    priors = list((tmp_path / "cache" / "priors").rglob("*.mp4"))
    assert len(priors) == 2
    wanted = GenerateRun(subjects=("a robot",), motion="waves", num_frames=5, height=48, width=32)
    [made] = [e for e in run.generate(wanted, tmp_path / "out", cancel=threading.Event()) if isinstance(e, Sampled)]
    for path, own in ((sample.path, (9, 48, 32)), (priors[0], (9, 48, 32)), (made.path, (5, 32, 48))):
        info = video.probe(path)
        assert (info.num_frames, info.width, info.height) == own
    assert "9 frames of 48x32 at 8 fps, 72 tokens" in "\n".join(run.plan(config).lines)
    for wrong, said in (({"num_frames": 10}, "use 9 or 13"), ({"height": 40}, "use 32 or 48")):
        for ask in (run.plan, lambda c: list(run.train(c, tmp_path, cache=tmp_path, cancel=threading.Event()))):
            with pytest.raises(ShapeError, match=said):
                ask(small(clips, **wrong))
        with pytest.raises(ShapeError, match=said):
            list(run.generate(dataclasses.replace(wanted, **wrong), tmp_path, cancel=threading.Event()))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a red cat.png"
    frames = render(Scene(species="cat", colour="red", background="room", motion="stand", seed=3)).frames
    path.write_bytes(png(frames[0]))
    return path


def test_clips_in_a_picture_moves(clips: tuple[ClipSource, ...], picture: Path, tmp_path: Path) -> None:
    own = small(clips)
    config = dataclasses.replace(own, mode="i2v", train=dataclasses.replace(own.train, sample_images=(picture,)))
    events = list(run.train(config, tmp_path / "job", cache=tmp_path / "cache", cancel=threading.Event()))
    adapter = events[-1].path
    assert read_info(adapter).mode == "i2v"
    pictures = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cache" / "images").iterdir()}
    assert len(pictures) == 2 + 2, "of the clips and of the priors, encoded once"
    list(run.train(config, tmp_path / "again", cache=tmp_path / "cache", cancel=threading.Event()))
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cache" / "images").iterdir()} == pictures
    [sample] = [e for e in events if isinstance(e, Sampled) and e.step]
    wanted = GenerateRun(subjects=("a red cat",), images=(picture,), motion="waves", adapter=adapter, seeds=(1, 2))
    events = list(run.generate(wanted, tmp_path / "out", cancel=threading.Event()))
    assert not [e for e in events if isinstance(e, Warned)]
    made = [e for e in events if isinstance(e, Sampled)]
    assert len(made) == 2
    words_alone = dataclasses.replace(wanted, images=(), num_inference_steps=1)
    events = list(run.generate(words_alone, tmp_path / "text", cancel=threading.Event()))
    (said,) = [e.message for e in events if isinstance(e, Warned)]
    assert "trained to begin with a picture: from words alone it may miss the motion" in said
    shown = load_image(picture, find_spec("puppet-hunyuan").default_shape)[0][0]
    for event in (sample, *made):
        frames, _ = video.read(event.path)
        assert len(frames) == 17
        assert decibels(frames[0].astype(float) - shown) > 25  # the autoencoder's and the file's own losses
    assert np.abs(video.read(made[0].path)[0][-1].astype(int) - video.read(made[1].path)[0][-1]).mean() > 0.5


def test_a_mode_or_a_picture_that_cannot_be_used_is_refused_before_a_model_is_loaded(
    clips: tuple[ClipSource, ...], picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from synmotion_core import backbones

    def no_model(name: str) -> Any:
        raise AssertionError(f"{name} was loaded")

    monkeypatch.setattr(run.pool, "borrow_backbone", no_model)
    torn = tmp_path / "torn.png"
    torn.write_bytes(picture.read_bytes()[:200])
    wanted = GenerateRun(subjects=("a red cat",), motion="waves", images=(torn,))
    with pytest.raises(ClipError, match=r"torn\.png: damaged"):
        list(run.generate(wanted, tmp_path / "out", cancel=threading.Event()))
    spec = backbones.SPECS["puppet-hunyuan"]
    monkeypatch.setitem(backbones.SPECS, "puppet-hunyuan", dataclasses.replace(spec, modes=("t2v",)))
    with pytest.raises(IncompatibleError, match="puppet-hunyuan takes no first image"):
        list(run.generate(dataclasses.replace(wanted, images=(picture,)), tmp_path, cancel=threading.Event()))
    config = dataclasses.replace(small(clips), mode="i2v", train=TrainConfig(num_steps=1))
    with pytest.raises(IncompatibleError, match="puppet-hunyuan takes no first image"):
        list(run.train(config, tmp_path / "job", cache=tmp_path / "cache", cancel=threading.Event()))


def test_priors_are_refused_where_no_text_makes_a_video(clips: tuple[ClipSource, ...], tmp_path: Path) -> None:
    own = dataclasses.replace(small(clips), train=TrainConfig(num_steps=1), backbone="hunyuanvideo-i2v", mode="i2v")
    with pytest.raises(IncompatibleError, match="hunyuanvideo-i2v makes no videos from text alone"):
        list(run.draw_priors(own, tmp_path, cancel=threading.Event()))


def test_a_plan_refuses_what_the_training_would(clips: tuple[ClipSource, ...]) -> None:
    own = dataclasses.replace(small(clips), train=TrainConfig(num_steps=1), backbone="hunyuanvideo-i2v", mode="i2v")
    with pytest.raises(IncompatibleError, match="hunyuanvideo-i2v makes no videos from text alone, so it cannot draw"):
        run.plan(dataclasses.replace(own, method_config={"alpha": 0.75}))
    plan = run.plan(own)
    assert plan.prior_videos == 0, "alpha is 1 where none can be drawn"
    assert plan.tokens == 13 * 20 * 32, "(49 - 1) / 4 + 1 frames of 320 / 16 by 512 / 16"
    assert "needs a CUDA GPU" in plan.lines
    with pytest.raises(IncompatibleError, match=r"wan2\.1-t2v-14b takes no first image"):
        run.plan(dataclasses.replace(own, backbone="wan2.1-t2v-14b"))


def test_a_probe_times_every_phase_and_leaves_nothing(clips: tuple[ClipSource, ...], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    long = TrainConfig(num_steps=400, batch_size=1, sample_every=1, sample_subjects=("a cat",))
    config = dataclasses.replace(small(clips), train=long)
    events, found = [], []

    def probing(cancel: threading.Event) -> Any:
        found.append((yield from run.probe(config, cache=cache, cancel=cancel)))

    events += probing(threading.Event())
    steps = [e for e in events if isinstance(e, Progress) and e.stage == "train"]
    assert len(steps) == run.PROBE_STEPS
    assert min(e.seconds for e in steps) <= found[0] <= max(e.seconds for e in steps)
    assert not [e for e in events if isinstance(e, (Sampled, Saved))]
    assert not (cache / "priors").exists(), "no prior is drawn for it"
    assert (cache / "latents").exists(), "the clips' encodings stay"
    backbone = run.borrow_backbone("puppet-hunyuan")
    assert not any("lora" in name for name, _ in backbone.denoiser.named_parameters())
    cancel = threading.Event()
    cancel.set()
    assert isinstance(list(probing(cancel))[-1], Stopped)
    assert found[1] is None


def test_what_is_lost_of_a_picture_is_said(tmp_path: Path) -> None:
    wide = tmp_path / "wide.png"
    wide.write_bytes(png(np.full((64, 128, 3), 200, np.uint8)))
    wanted = GenerateRun(subjects=("a red cat",), motion="walks", images=(wide,), num_inference_steps=1)
    events = list(run.generate(wanted, tmp_path / "out", cancel=threading.Event()))
    said = [e.message for e in events if isinstance(e, Warned)]
    small = tmp_path / "small.png"
    small.write_bytes(png(np.full((64, 70, 3), 200, np.uint8)))
    events += run.generate(dataclasses.replace(wanted, images=(small,)), tmp_path / "out", cancel=threading.Event())
    said = [e.message for e in events if isinstance(e, Warned)]
    assert any(message.startswith("small.png: of 70x64 the middle 64x64 is kept") for message in said)
    assert "wide.png: of 128x64 the middle 64x64 is kept and made 64x64: 50 % of the picture is cut off" in said
    assert any("only knows 64x64 puppets" in message for message in said)


def test_every_sampling_setting_reaches_the_sampler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from synmotion_core import generation
    from synmotion_core.backbones import find_spec

    class Seen(Exception):
        pass

    def sampler(**settings: object) -> generation.SamplerConfig:
        run_of = GenerateRun(subjects=("a cat",), motion="walks", **settings)
        with pytest.raises(Seen) as seen:
            list(run.generate(run_of, tmp_path, cancel=threading.Event()))
        return seen.value.args[0]

    def stop(backbone: object, method: object, prompts: object, seeds: object, config: object, *rest: object, **more):
        raise Seen(config)

    monkeypatch.setattr(generation, "generate", stop)
    own = sampler()
    spec = find_spec("puppet-hunyuan")
    for name in ("num_inference_steps", "guidance_scale", "guidance_until", "eta"):
        assert getattr(own, name) == getattr(spec, name)
    given = {"num_inference_steps": 3, "guidance_scale": 1.5, "guidance_until": 0.0, "eta": 0.0, "strength": 0.5}
    given |= {"negative_prompt": "a blue cat", "flow_shift": 3.0}
    assert sampler(**given) == dataclasses.replace(own, **given)
    assert sampler(step_cache="taylorseer:3") == dataclasses.replace(own, step_cache=parse("taylorseer:3"))
    squat = ROOT / "assets/adapters/squat.safetensors"
    assert sampler(adapter=squat, adapter_until=0.25) == dataclasses.replace(own, adapter_until=0.25)
    for wrong, words in (
        ({"negative_prompt": "x", "guidance_scale": 1.0}, "a negative_prompt has no effect at guidance_scale 1"),
        ({"embedded_guidance": 6.0}, "puppet-hunyuan takes no embedded guidance"),
    ):
        run_of = GenerateRun(subjects=("a cat",), motion="walks", **wrong)
        with pytest.raises(IncompatibleError, match=words):
            list(run.generate(run_of, tmp_path, cancel=threading.Event()))


def test_a_setting_that_a_row_has_not_is_refused_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(run.pool, "borrow_backbone", lambda *_: pytest.fail("a model was loaded"))
    for wrong, words in (
        ({"step_cache": "first-block"}, r"hunyuanvideo-1\.5 cannot use the step cache first-block: use taylorseer"),
        ({"embedded_guidance": 6.0}, r"hunyuanvideo-1\.5 takes no embedded guidance"),
        ({"negative_prompt": "x", "guidance_scale": 1.0}, "a negative_prompt has no effect"),
    ):
        wanted = GenerateRun(subjects=("a cat",), motion="walks", backbone="hunyuanvideo-1.5", **wrong)
        with pytest.raises(IncompatibleError, match=words):
            list(run.generate(wanted, tmp_path, cancel=threading.Event()))


def test_a_step_cache_says_what_it_did_and_what_it_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from synmotion_core import backbones

    wanted = GenerateRun(subjects=("a cat",), motion="walks", step_cache="taylorseer:2", num_inference_steps=8)
    events = list(run.generate(wanted, tmp_path, cancel=threading.Event()))
    (note,) = [e.message for e in events if isinstance(e, Noted)]
    assert note.startswith("the step cache taylorseer:2 left out ")
    assert not [e for e in events if isinstance(e, Warned)], "the row's own fresh noise"
    spec = dataclasses.replace(backbones.SPECS["puppet-hunyuan"], eta=0.25)
    monkeypatch.setitem(backbones.SPECS, "puppet-hunyuan", spec)
    for eta, cache, warned in ((0.5, "taylorseer:2", 1), (0.5, "taylorseer:1", 0), (0.25, "taylorseer:2", 0)):
        one = dataclasses.replace(wanted, eta=eta, step_cache=cache, num_inference_steps=1)
        events = list(run.generate(one, tmp_path, cancel=threading.Event()))
        said = [e.message for e in events if isinstance(e, Warned)]
        assert len(said) == warned
        assert all("eta 0.5 draws it anew in each: use eta 0.25" in message for message in said)


def test_words_that_a_second_encoder_does_not_read_are_said(
    clips: tuple[ClipSource, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a generation of its prompts and of what guidance leads away from, in a training of all that it will read."""
    backbone = run.borrow_backbone("puppet-hunyuan")
    asked: list[str] = []
    monkeypatch.setattr(backbone, "unread", lambda texts: asked.extend(texts) or ["CLIP reads less"])
    wanted = GenerateRun(subjects=("a cat",), motion="walks", negative_prompt="blue", num_inference_steps=1)
    events = list(run.generate(wanted, tmp_path / "a", cancel=threading.Event()))
    assert "CLIP reads less" in [e.message for e in events if isinstance(e, Warned)]
    assert asked == ["a cat walks", "blue"]
    asked.clear()
    own = dataclasses.replace(small(clips), method="lora", method_config={"rank": 2})
    events = list(run.train(own, tmp_path / "b", cache=tmp_path / "cache", cancel=threading.Event()))
    assert "CLIP reads less" in [e.message for e in events if isinstance(e, Warned)]
    assert asked == ["a red person waves", "a blue person waves", "a red cat waves"]


def test_trained_in_8_bits_and_used_on_the_whole_weights(clips: tuple[ClipSource, ...], tmp_path: Path) -> None:
    low = Precision(weights="8bit", text_weights="8bit", gradient_checkpointing=True)
    config = dataclasses.replace(small(clips, precision=low), method="lora", method_config={"rank": 2})
    config = dataclasses.replace(config, train=TrainConfig(num_steps=2, batch_size=1, optimizer="adamw8bit"))
    adapter = list(run.train(config, tmp_path / "job", cache=tmp_path / "cache", cancel=threading.Event()))[-1].path
    (held,) = run.pool._pool.items()
    assert held[0] == ("puppet-hunyuan", low)
    assert held[1].fingerprint.endswith("+text_weights=8bit")
    assert run.borrow_backbone("puppet-hunyuan", low) is held[1]
    wanted = GenerateRun(subjects=("a robot",), motion="waves", adapter=adapter, num_inference_steps=1)
    events = list(run.generate(wanted, tmp_path / "out", cancel=threading.Event()))
    assert not [e.message for e in events if isinstance(e, Warned)], "the same weights, held otherwise"
    whole = run.borrow_backbone("puppet-hunyuan")
    assert whole is not held[1]
    assert read_info(adapter).fingerprint == whole.fingerprint


def test_a_run_goes_on_with_less_memory_but_not_on_weights_held_otherwise() -> None:
    source = ClipSource(path=Path("a.mp4"), subject="a person", motion="waves")

    def key(**values: Any) -> str:
        return run.training._settings_key(
            TrainRun(name="n", clips=(source,), precision=Precision(**values)), {}, "f", []
        )

    assert key() == key(gradient_checkpointing=True) == key(offload="model")
    assert len({key(), key(weights="8bit"), key(text_weights="8bit"), key(vae_tiling=True)}) == 4


def test_a_plan_counts_weights_as_they_are_held(clips: tuple[ClipSource, ...]) -> None:
    own = dataclasses.replace(small(clips), train=TrainConfig(num_steps=1), backbone="hunyuanvideo")
    parts = find_spec("hunyuanvideo").parameters
    rest = 4 * parts["vae"] + 2 * parts["text_encoder_2"]  # the autoencoder stays in float32
    small_one = dataclasses.replace(own, precision=Precision(weights="8bit", text_weights="4bit"))
    plain = 2 * (parts["transformer"] + parts["text_encoder"]) + rest
    assert run.plan(own).memory_gib == pytest.approx(plain / 2**30)
    blocks = 0.9716 * parts["transformer"]  # test_precision.py counts them
    words = 4096 * (128_320 + 65)  # Llama's word embeddings and its norms are left in bf16
    held = 2 * (parts["transformer"] + words) - blocks + 0.516 * (parts["text_encoder"] - words) + rest
    assert run.plan(small_one).memory_gib == pytest.approx(held / 2**30, rel=1e-3)


def test_a_clip_may_say_where_it_is(
    clips: tuple[ClipSource, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its step reads the setting; the method's own words, which the adapter's file says, are without it."""
    from synmotion_core.adapters.file import read_info
    from synmotion_core.methods.lora import LoraEntry

    attached, steps, attach = [], [], LoraEntry.attach

    def watched(self: Any, backbone: Any, config: Any, reference: Prompt, *more: Any) -> Any:
        attached.append(reference)
        method = attach(self, backbone, config, reference, *more)
        condition = method.condition
        method.condition = lambda text, *rest: steps.append(text.prompts) or condition(text, *rest)
        return method

    monkeypatch.setattr(LoraEntry, "attach", watched)
    placed = (dataclasses.replace(clips[0], setting="in the snow"),)
    config = TrainRun(
        name="x", clips=placed, method="lora", method_config={"rank": 2},
        train=TrainConfig(num_steps=1, batch_size=1, sample_every=0),
    )  # fmt: skip
    done = list(run.train(config, tmp_path / "x", cache=tmp_path / "cache", cancel=threading.Event()))[-1]
    own = Prompt(subject="a red person", motion="waves")
    assert set(attached) == {own}
    assert steps[0] == (dataclasses.replace(own, setting="in the snow"),)
    info = read_info(done.path)
    assert (info.subject, info.motion) == (own.subject, own.motion)


def test_stop_and_resume_give_the_same_adapter(clips: tuple[ClipSource, ...], tmp_path: Path) -> None:
    from synmotion_core.storage import read_tensors

    cache = tmp_path / "cache"
    whole = list(run.train(small(clips), tmp_path / "whole", cache=cache, cancel=threading.Event()))[-1]
    cancel = threading.Event()
    events = []
    for event in run.train(small(clips), tmp_path / "parts", cache=cache, cancel=cancel):
        events.append(event)
        if isinstance(event, Progress) and event.stage == "train" and event.step == 2:
            cancel.set()
    assert isinstance(events[-1], Stopped)
    assert not any(isinstance(e, Saved) and e.kind == "adapter" for e in events)
    rest = list(run.train(small(clips), tmp_path / "parts", cache=cache, cancel=threading.Event(), resume=True))
    assert [e.step for e in rest if isinstance(e, Progress) and e.stage == "train"] == [3, 4]
    a, b = read_tensors(whole.path)[0], read_tensors(rest[-1].path)[0]
    assert a.keys() == b.keys()
    assert all((a[k] == b[k]).all() for k in a)


def test_bad_input_is_refused_before_a_model_is_loaded(
    clips: tuple[ClipSource, ...], tmp_path: Path, monkeypatch
) -> None:
    def no_model(name: str) -> Any:
        raise AssertionError(f"{name} was loaded")

    monkeypatch.setattr(run.pool, "borrow_backbone", no_model)

    def start(config: TrainRun) -> None:
        list(run.train(config, tmp_path, cache=tmp_path, cancel=threading.Event()))

    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    with pytest.raises(ClipError, match=r"broken\.mp4"):
        start(small((*clips, ClipSource(path=broken, subject="a person", motion="waves"))))
    with pytest.raises(ConfigError, match="one adapter learns one motion"):
        start(small((clips[0], dataclasses.replace(clips[1], motion="bows"))))
    with pytest.raises(ConfigError, match="did you mean 'rank'"):
        start(dataclasses.replace(small(clips), method_config={"ranc": 4}))
    with pytest.raises(ConfigError, match="there is no backbone"):
        start(dataclasses.replace(small(clips), backbone="nothing"))


def test_more_steps_go_on_from_a_checkpoint_where_the_rate_does_not_depend_on_them() -> None:
    source = ClipSource(path=Path("a.mp4"), subject="a person", motion="waves")

    def key(**settings: Any) -> str:
        config = TrainRun(name="n", clips=(source,), train=TrainConfig(**settings))
        return run.training._settings_key(config, SynMotionConfig(), "weights", [])

    assert key(num_steps=10) == key(num_steps=10, sample_every=3) != key(num_steps=20)
    assert key(num_steps=10) == key(num_steps=10, score_every=3, score_videos=2), "scores change no step"
    assert key(num_steps=10) != key(num_steps=10, learning_rate=3e-4)
    assert key(num_steps=10, lr_scheduler="constant") == key(num_steps=20, lr_scheduler="constant")


def test_a_checkpoint_belongs_to_the_methods_whole_settings_and_the_weights() -> None:
    source = ClipSource(path=Path("a.mp4"), subject="a person", motion="waves")

    def key(given: dict[str, Any], meant: SynMotionConfig, weights: str = "weights") -> str:
        return run.training._settings_key(TrainRun(name="n", clips=(source,), method_config=given), meant, weights, [])

    own = SynMotionConfig()
    assert key({}, own) == key({"alpha": own.alpha}, own), "a default that is written out is the same run"
    assert key({}, own) != key({}, dataclasses.replace(own, prior_target="data")), "a default of another version"
    assert key({}, own) != key({}, own, "other weights")


def test_a_checkpoint_of_before_videos_could_be_left_out_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    source, counted = ClipSource(path=Path("a.mp4"), subject="a person", motion="waves"), []
    monkeypatch.setattr("synmotion_core.training.cache.content_key", lambda values, *_: counted.append(values))
    for priors in (PriorConfig(), PriorConfig(left_out=(3,))):
        config = TrainRun(name="n", clips=(source,), priors=priors)
        run.training._settings_key(config, SynMotionConfig(), "weights", [])
    before = {"subjects": [], "motions": [], "per_pair": 1, "max_videos": 48, "seed": 0}
    assert [values["priors"] for values in counted] == [before, {**before, "left_out": [3]}]


def test_a_checkpoint_belongs_to_the_guidance_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    source, counted = ClipSource(path=Path("a.mp4"), subject="a person", motion="waves"), []
    monkeypatch.setattr("synmotion_core.training.cache.content_key", lambda values, *_: counted.append(values["train"]))

    def told(backbone: str, guidance: float | None) -> Any:
        train = TrainConfig(training_guidance=guidance)
        config = TrainRun(name="n", clips=(source,), backbone=backbone, train=train)
        run.training._settings_key(config, SynMotionConfig(), "weights", [])
        return counted[-1].get("training_guidance", "as before there was such a setting")

    for backbone in ("puppet-hunyuan", "wan2.1-t2v-1.3b", "hunyuanvideo"):
        assert told(backbone, None) == "as before there was such a setting"
    assert told("hunyuanvideo", 1.0) == "as before there was such a setting"
    assert told("hunyuanvideo", 6.0) == told("hunyuanvideo-i2v", None) == told("hunyuanvideo-i2v", 6.0) == 6.0
    assert told("hunyuanvideo-i2v", 1.0) == "as before there was such a setting"


def test_a_training_guidance_is_for_denoisers_that_take_one() -> None:
    source = ClipSource(path=Path("a.mp4"), subject="a person", motion="waves")
    config = TrainRun(name="n", clips=(source,), method="lora", train=TrainConfig(training_guidance=3.0))
    with pytest.raises(IncompatibleError, match="takes no embedded guidance: leave train"):
        look_up(config)
    look_up(dataclasses.replace(config, backbone="hunyuanvideo"))


def test_a_video_of_another_class_of_sizes_is_told_of_its_shift(
    clips: tuple[ClipSource, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = find_spec("puppet-hunyuan")
    small_one = dataclasses.replace(spec, shifts={(64, 64): 2.0}, options={**spec.options, "sigma_shift": 3.0})
    monkeypatch.setitem(backbones.SPECS, "puppet-hunyuan", small_one)
    says = "64x64 is nearest to puppet-hunyuan's 64x64, for which noise levels are shifted by 2, and here it is 3: "
    says += "flow_shift 2 fits when videos are drawn"
    wanted = GenerateRun(subjects=("a red cat",), motion="squats", num_inference_steps=1, guidance_scale=1.0)
    for shift, said in ((None, True), (3.0, True), (2.0, False)):
        own = dataclasses.replace(wanted, flow_shift=shift)
        events = list(run.generate(own, tmp_path / str(shift), cancel=threading.Event()))
        assert (says in [e.message for e in events if isinstance(e, Warned)]) == said
    training = run.train(small(clips), tmp_path / "train", cache=tmp_path / "cache", cancel=threading.Event())
    first = next(training)
    training.close()
    assert isinstance(first, Warned)
    assert first.message == f"{says}; this training learns with 3"


def test_a_run_is_not_continued_on_other_weights(
    clips: tuple[ClipSource, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel, cache = threading.Event(), tmp_path / "cache"
    for event in run.train(small(clips), tmp_path / "run", cache=cache, cancel=cancel):
        if isinstance(event, Progress) and event.stage == "train" and event.step == 2:
            cancel.set()
    before = (tmp_path / "run" / "state.safetensors").read_bytes()
    monkeypatch.setattr(run.borrow_backbone("puppet-hunyuan"), "fingerprint", "puppet-hunyuan@0123456789abcdef")
    with pytest.raises(AdapterError, match="other settings"):
        list(run.train(small(clips), tmp_path / "run", cache=cache, cancel=threading.Event(), resume=True))
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == before


@pytest.mark.parametrize(("asked", "drawn"), [("squats", None), ("squats low", "squats low")])
def test_a_motion_given_by_name_is_drawn_in_the_adapters_words(tmp_path: Path, asked: str, drawn: str | None) -> None:
    from synmotion_core.adapters.file import read_info

    path = ROOT / "assets" / "adapters" / "squat.safetensors"
    whole = read_info(path).motion
    assert whole.startswith("squats, ")
    wanted = GenerateRun(adapter=path, subjects=("a cat",), motion=asked, seeds=(0,), num_inference_steps=1)
    events = list(run.generate(wanted, tmp_path / "out", cancel=threading.Event()))
    assert [e.prompt.motion for e in events if isinstance(e, Sampled)] == [drawn or whole]
    said = [e.message for e in events if isinstance(e, Warned)]
    assert said == ([] if drawn else [f"“squats” is the name of what this adapter learnt: drawn as “{whole}”"])


@pytest.mark.parametrize("same", [True, False])
def test_an_adapter_of_other_weights_is_used_with_a_warning(tmp_path: Path, same: bool) -> None:
    from synmotion_core.adapters.file import load_adapter, save_adapter
    from synmotion_core.backbones import find_spec

    state, info = load_adapter(ROOT / "assets" / "adapters" / "squat.safetensors", find_spec("puppet-hunyuan"))
    if not same:
        info = dataclasses.replace(info, fingerprint="puppet-hunyuan@0123")
    save_adapter(tmp_path / "a.safetensors", state, info)
    wanted = GenerateRun(
        adapter=tmp_path / "a.safetensors", subjects=("a cat",), motion=info.motion, seeds=(0,), num_inference_steps=1
    )
    events = list(run.generate(wanted, tmp_path / "out", cancel=threading.Event()))
    assert isinstance(events[-1], Finished)
    said = [e.message for e in events if isinstance(e, Warned)]
    assert bool(said) is not same, "the adapters that ship belong to the backbone that ships"
    assert same or "trained on puppet-hunyuan@0123" in said[0]


def test_an_adapter_of_another_backbone_is_refused(tmp_path: Path) -> None:
    import torch

    from synmotion_core.adapters.file import AdapterInfo, save_adapter

    path = tmp_path / "x.safetensors"
    save_adapter(
        path,
        {"transformer.x": torch.zeros(1)},
        AdapterInfo(
            backbone="wan2.1-t2v-1.3b",
            repo="Wan-AI/x",
            revision=None,
            fingerprint="",
            licence="apache-2.0",
            method="lora",
            method_config={},
            subject="a person",
            motion="waves",
            steps=1,
        ),
    )
    with pytest.raises(IncompatibleError, match=r"'wan2\.1-t2v-1\.3b' and cannot be used on 'puppet-hunyuan'"):
        list(
            run.generate(
                GenerateRun(subjects=("a cat",), motion="waves", adapter=path), tmp_path, cancel=threading.Event()
            )
        )


def test_a_plan_reads_no_weights(clips: tuple[ClipSource, ...]) -> None:
    plan = run.plan(small(clips), seconds_per_step=0.5)
    assert plan.seconds == 2.0
    assert plan.tokens == 320
    assert plan.prior_videos == 2
    assert any("0.0 minutes" in line for line in plan.lines)


def test_a_job_drawn_again_leaves_its_own_videos_alone(tmp_path: Path) -> None:
    """In its own folder; in one that is anybody's nothing is replaced."""
    from synmotion_core.jobs import RUNNERS

    wanted = GenerateRun(subjects=("a red cat",), motion="walks", num_inference_steps=1)
    other = dataclasses.replace(wanted, num_inference_steps=2)
    options: Any = {"cache": tmp_path / "cache", "cancel": threading.Event(), "resume": True}
    for each in (wanted, other):
        list(RUNNERS["generate"](each, tmp_path / "job", **options))
        list(run.generate(each, tmp_path / "anybody"))
    assert [path.name for path in (tmp_path / "job").iterdir()] == ["a-red-cat-walks-seed0-base.mp4"]
    assert sorted(path.name for path in (tmp_path / "anybody").iterdir()) == [
        "a-red-cat-walks-seed0-base-2.mp4", "a-red-cat-walks-seed0-base.mp4"
    ]  # fmt: skip
