"""Encoders come when they are needed and go when they are not; parts that are offloaded give the same."""

from __future__ import annotations

import gc
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.hooks.group_offloading import ModuleGroup
from torch import nn

from synmotion_core import backbones, run
from synmotion_core.backbones import lazy, load_backbone, loading
from synmotion_core.backbones import precision as held
from synmotion_core.clips import video
from synmotion_core.clips.frames import png
from synmotion_core.config import ClipSource, GenerateRun, TrainRun
from synmotion_core.errors import MissingError
from synmotion_core.precision import PLAIN, Precision
from synmotion_core.storage import read_tensors
from synmotion_core.training.cache import with_cached_texts
from synmotion_core.training.settings import PriorConfig, TrainConfig
from synmotion_core.types import Progress, Sampled
from tests.backbones.test_precision import condition_of, gradient
from tests.backbones.tiny import SHAPE, tiny_backbone, tiny_folder, tiny_spec
from tests.models import PROMPTS, noisy

TINY = (
    "hunyuanvideo",
    "hunyuanvideo-i2v",
    "hunyuanvideo-1.5-i2v",
    "wan2.1-t2v-1.3b",
    "wan2.2-t2v-a14b",
    "wan2.1-i2v-14b",
)
CHECKPOINTED = Precision(gradient_checkpointing=True)


def fresh(name: str, monkeypatch: pytest.MonkeyPatch, precision: Precision = PLAIN) -> Any:
    monkeypatch.setitem(backbones.SPECS, name, tiny_spec(name))
    return load_backbone(name, device="cpu", folder=tiny_folder(name), precision=precision)


@pytest.mark.parametrize("text_weights", ["bf16", "8bit"])
@pytest.mark.parametrize("name", TINY)
def test_encoders_come_when_needed_and_their_memory_goes(
    name: str, text_weights: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = fresh(name, monkeypatch, Precision(text_weights=text_weights))
    x, s = noisy(backbone)
    with torch.no_grad():
        backbone.predict(x, s, condition_of(backbone))
        backbone.encode_video(backbone.decode_latents(x))
    assert backbone.pipe.encoders.loaded == ()
    before = backbone.encode_prompt(PROMPTS)
    encoders = sorted(part for part in backbone.spec.parameters if part.endswith(("encoder", "encoder_2")))
    assert sorted(backbone.pipe.encoders.loaded) == encoders
    parts = [weakref.ref(getattr(backbone.pipe, part)) for part in encoders]
    parts += [weakref.ref(next(part().parameters())) for part in list(parts)]
    assert not any(p.requires_grad for part in parts[: len(encoders)] for p in part().parameters())
    gc.disable()  # what release frees is gone at once
    try:
        backbone.release_encoders()
        assert [part() for part in parts] == [None] * len(parts)
    finally:
        gc.enable()
    assert backbone.pipe.encoders.loaded == ()
    assert torch.equal(backbone.encode_prompt(PROMPTS).prompt_embeds, before.prompt_embeds)


def test_files_of_encoders_are_not_even_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the Hub, what from_pretrained is told to leave out is not downloaded."""
    from diffusers import HunyuanVideoPipeline

    asked: list[dict[str, Any]] = []
    own = HunyuanVideoPipeline.from_pretrained.__func__

    def from_pretrained(cls: Any, *args: Any, **given: Any) -> Any:
        asked.append(given)
        return own(cls, *args, **given)

    monkeypatch.setattr(HunyuanVideoPipeline, "from_pretrained", classmethod(from_pretrained))
    backbone = fresh("hunyuanvideo", monkeypatch)
    backbone.encode_prompt(PROMPTS)
    left_out = [{name for name, value in given.items() if value is None} - {"revision"} for given in asked]
    others = {"transformer", "vae", "scheduler", "tokenizer", "tokenizer_2"}
    assert {"text_encoder", "text_encoder_2"} <= left_out[0]
    assert not others & left_out[0]
    assert sorted(map(sorted, left_out[1:])) == sorted(
        sorted({*others, "quantization_config", other}) for other in ("text_encoder", "text_encoder_2")
    )


@pytest.mark.parametrize("untied", [False, True])
def test_a_text_encoder_that_knows_no_word_is_refused(untied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its table is full and the one that it reads by is not: untied, as early transformers 5 left UMT5's."""
    looked: list[str] = []
    own = loading.check_words

    def zeroed(name: str, part: Any) -> None:
        looked.append(name)
        if name == "text_encoder" and untied:
            part.encoder.embed_tokens.weight = nn.Parameter(torch.zeros_like(part.shared.weight), requires_grad=False)
            assert bool(part.get_input_embeddings().weight.any())
        elif name == "text_encoder":
            part.get_input_embeddings().weight.data.zero_()
        own(name, part)

    monkeypatch.setattr(loading, "check_words", zeroed)
    backbone = fresh("wan2.1-t2v-1.3b", monkeypatch)
    assert sorted(looked) == ["transformer", "vae"]
    with pytest.raises(MissingError, match="word embeddings are all zero: update transformers"):
        backbone.encode_prompt(PROMPTS)


def training(folder: Path, name: str, i2v: bool) -> TrainRun:
    """One clip, two steps, samples of one subject; priors where words alone make a video."""
    clip, picture = folder / "clip.mp4", folder / "picture.png"
    frames = np.random.default_rng(0).integers(0, 255, (SHAPE.num_frames, SHAPE.height, SHAPE.width, 3), np.uint8)
    video.write(clip, frames, SHAPE.fps)
    picture.write_bytes(png(frames[0]))
    return TrainRun(
        name="rolls",
        clips=(ClipSource(path=clip, subject="a person", motion="rolls"),),
        backbone=name,
        mode="i2v" if i2v else "t2v",
        method_config={"rank": 2, "refiner_width": 16, "refiner_layers": 1} | ({"alpha": 1} if i2v else {}),
        train=TrainConfig(
            num_steps=2, batch_size=1, sample_subjects=("a cat",), sample_images=(picture,) if i2v else ()
        ),
        priors=PriorConfig(max_videos=1),
    )


@pytest.mark.parametrize("name", TINY)
def test_a_training_on_a_full_cache_never_reads_an_encoder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the first one, which fills it, is rid of them before anything is drawn or learnt."""
    config = training(tmp_path, name, i2v="i2v" in name)
    reads: list[str] = []
    get = lazy.Encoders.get

    def counted(self: lazy.Encoders, part: str) -> Any:
        reads.append(part)
        return get(self, part)

    monkeypatch.setattr(lazy.Encoders, "get", counted)

    def once(folder: str) -> tuple[bytes, dict[str, torch.Tensor]]:
        backbone = fresh(name, monkeypatch)
        monkeypatch.setattr(run.pool, "_pool", {(name, config.precision): backbone})
        for event in run.train(config, tmp_path / folder, cache=tmp_path / "cache", cancel=threading.Event()):
            if isinstance(event, Sampled) or (isinstance(event, Progress) and event.stage != "encode"):
                assert backbone.pipe.encoders.loaded == (), event
        (sample,) = (tmp_path / folder / "samples").rglob("*.mp4")
        return sample.read_bytes(), read_tensors(tmp_path / folder / "rolls.safetensors")[0]

    first = once("first")
    assert set(reads) >= {"text_encoder"}
    reads.clear()
    second = once("second")
    assert reads == []
    assert first[0] == second[0], "what comes from the cache is what was read"
    assert all(torch.equal(first[1][key], second[1][key]) for key in first[1].keys() | second[1].keys())


@pytest.mark.parametrize("name", [*TINY, "hunyuanvideo-1.5"])
def test_a_generation_denoises_without_its_encoders(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five videos in two batches and the base beside them: read once, gone with their weights while anything is
    denoised or decoded, and read anew by the next generation, which draws the same."""
    backbone = fresh(name, monkeypatch)
    monkeypatch.setattr(run.pool, "_pool", {(name, PLAIN): backbone})
    pictures = ()
    if "t2v" not in backbone.spec.modes:
        picture = tmp_path / "picture.png"
        picture.write_bytes(png(np.random.default_rng(0).integers(0, 255, (SHAPE.height, SHAPE.width, 3), np.uint8)))
        pictures = (picture,)
    wanted = GenerateRun(
        subjects=("a cat",), motion="rolls", images=pictures, seeds=(1, 2, 3, 4, 5), backbone=name,
        num_inference_steps=2, guidance_scale=3.0,
    )  # fmt: skip
    reads: list[str] = []
    weights: list[weakref.ref[Any]] = []
    read = lazy.Encoders.get

    def counted(self: lazy.Encoders, part: str) -> Any:
        if part not in self.loaded:
            reads.append(part)
            weights.extend(weakref.ref(p) for p in read(self, part).parameters())
        return read(self, part)

    def without_encoders(work: Any) -> Any:
        def checked(*args: Any, **given: Any) -> Any:
            assert backbone.pipe.encoders.loaded == ()
            assert weights
            assert not any(w() is not None for w in weights), "a weight is still in memory"
            return work(*args, **given)

        return checked

    monkeypatch.setattr(lazy.Encoders, "get", counted)
    monkeypatch.setattr(backbone, "predict", without_encoders(backbone.predict))
    monkeypatch.setattr(backbone, "decode_latents", without_encoders(backbone.decode_latents))

    def once(folder: str) -> list[bytes]:
        reads.clear()
        weights.clear()
        events = list(run.generate(wanted, tmp_path / folder, cancel=threading.Event()))
        encoders = sorted(part for part in backbone.spec.parameters if part.endswith(("encoder", "encoder_2")))
        assert sorted(reads) == encoders, "each once"
        return [e.path.read_bytes() for e in events if isinstance(e, Sampled)]

    assert once("first") == once("second")


def test_the_base_beside_it_is_drawn_from_the_same_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = training(tmp_path, "hunyuanvideo", i2v=False)
    backbone = fresh("hunyuanvideo", monkeypatch)
    monkeypatch.setattr(run.pool, "_pool", {("hunyuanvideo", PLAIN): backbone})
    made = list(run.train(config, tmp_path / "run", cache=tmp_path / "cache", cancel=threading.Event()))[-1]
    reads: list[str] = []
    read = backbone.pipe.encoders._read
    monkeypatch.setattr(backbone.pipe.encoders, "_read", lambda part: reads.append(part) or read(part))
    wanted = GenerateRun(
        subjects=("a cat",), motion="rolls", backbone="hunyuanvideo", adapter=made.path, compare=True,
        num_inference_steps=2,
    )  # fmt: skip
    events = list(run.generate(wanted, tmp_path / "out", cancel=threading.Event()))
    assert [e.adapted for e in events if isinstance(e, Sampled)] == [True, False]
    assert sorted(reads) == ["text_encoder", "text_encoder_2"]


@pytest.mark.parametrize("name", TINY)
def test_cached_texts_are_the_backbones_own(name: str, tmp_path: Path) -> None:
    """Alone in a batch or not; a picture is known by what it shows, where the encoder looks at pictures."""
    backbone = tiny_backbone(name)
    reading = with_cached_texts(backbone, tmp_path)
    pictures = torch.rand(2, 3, SHAPE.height, SHAPE.width, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for _ in range(2):  # written, then read
        for images in (None, pictures, pictures.flip(0)):
            own, ours = backbone.encode_prompt(PROMPTS, images), reading.encode_prompt(PROMPTS, images)
            assert torch.equal(ours.prompt_attention_mask, own.prompt_attention_mask)
            mask = own.prompt_attention_mask[..., None]
            torch.testing.assert_close(ours.prompt_embeds * mask, own.prompt_embeds * mask, rtol=1e-4, atol=1e-5)
            assert torch.equal(ours.motion_tokens, own.motion_tokens)
            if own.image_embeds is not None:
                torch.testing.assert_close(ours.image_embeds, own.image_embeds, rtol=1e-4, atol=1e-5)
    texts = ["", "blurred"]
    for images in (None, pictures, pictures.flip(0)):
        own, ours = backbone.encode_text(texts, images), reading.encode_text(texts, images)
        mask = own.prompt_attention_mask[..., None]
        torch.testing.assert_close(ours.prompt_embeds * mask, own.prompt_embeds * mask, rtol=1e-4, atol=1e-5)
        if own.image_embeds is not None:
            torch.testing.assert_close(ours.image_embeds, own.image_embeds, rtol=1e-4, atol=1e-5)
    kinds = 3 if "i2v" in name else 1  # a black picture and two others; elsewhere the words alone
    assert len(list((tmp_path / "text").iterdir())) == kinds * (len(PROMPTS) + len(texts))


# ------------------------------------------------------------------------------------------------ offload


@pytest.mark.parametrize("offload", ["model", "group"])
@pytest.mark.parametrize("name", TINY)
def test_offloaded_parts_give_and_learn_the_same(name: str, offload: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU there is nowhere to go; the hooks do all the rest."""
    monkeypatch.setattr(loading, "check_precision", lambda *_: None)
    backbone, whole = (
        fresh(name, monkeypatch, Precision(offload=offload, gradient_checkpointing=True)),
        tiny_backbone(name),
    )
    x, s = noisy(backbone)
    with torch.no_grad():
        assert torch.equal(backbone.predict(x, s, condition_of(backbone)), whole.predict(x, s, condition_of(whole)))
        assert torch.equal(backbone.decode_latents(x), whole.decode_latents(x))
    assert torch.equal(backbone.encode_prompt(PROMPTS).prompt_embeds, whole.encode_prompt(PROMPTS).prompt_embeds)
    assert torch.equal(gradient(backbone), gradient(whole))
    part = weakref.ref(backbone.pipe.text_encoder)
    backbone.release_encoders()
    assert part() is None


@pytest.mark.parametrize("name", [*TINY, "hunyuanvideo-1.5", "wan2.2-ti2v-5b", "zeroscope-v2-576w"])
def test_what_has_left_the_device_is_not_what_the_backward_pass_reads(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As between two devices: the weights of a layer that is not at work are no numbers, those at work a copy."""
    there: dict[nn.Parameter | torch.Tensor, torch.Tensor] = {}

    def tensors(group: ModuleGroup) -> list[Any]:
        own = [t for module in group.modules for t in (*module.parameters(), *module.buffers())]
        return [*own, *group.parameters, *group.buffers]

    def offload(group: ModuleGroup) -> None:
        for tensor in tensors(group):
            there.setdefault(tensor, tensor.data.clone())
            tensor.data = torch.full_like(tensor.data, torch.nan)

    def onload(group: ModuleGroup) -> None:
        for tensor in tensors(group):
            tensor.data = there[tensor].clone()

    monkeypatch.setattr(ModuleGroup, "offload_", offload)
    monkeypatch.setattr(ModuleGroup, "onload_", onload)
    backbone, whole = fresh(name, monkeypatch, CHECKPOINTED), tiny_backbone(name)
    for part in backbone.denoiser.children() if name == "wan2.2-t2v-a14b" else [backbone.denoiser]:
        held.offload_layers(part, torch.device("cpu"))
        for module in held.staying(part):
            for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
                tensor.data = there.get(tensor, tensor.data)  # what `to` would have brought back
    travels = {n for n, p in backbone.denoiser.named_parameters() if p.isnan().all()}
    layers = {n for n, m in backbone.denoiser.named_modules() if isinstance(m, (nn.Linear, nn.Embedding))}
    assert {n.rpartition(".")[0] for n in travels} == layers
    torch.testing.assert_close(gradient(backbone), gradient(whole), rtol=1e-3, atol=1e-6)


class Part(nn.Linear):
    """Remembers where it was sent."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.sent: list[str] = []

    def to(self, *args: Any, **given: Any) -> Any:
        self.sent.append(str(args[0]))
        return self


def test_one_part_is_on_the_device_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import accelerate.utils

    monkeypatch.setattr(accelerate.utils, "send_to_device", lambda values, device: values)
    join = held.taking_turns(torch.device("cuda"))
    one, two = Part(), Part()
    for part in (one, two):
        join(part)
    assert one.sent == two.sent == ["cpu"]
    one(torch.zeros(2))
    assert (one.sent, two.sent) == (["cpu", "cuda"], ["cpu", "cpu"])
    two(torch.zeros(2))
    assert (one.sent, two.sent) == (["cpu", "cuda", "cpu"], ["cpu", "cpu", "cuda"])
