"""Wan 2.1 from a picture at a tiny size: the picture beside the latents and through a CLIP, as the stock pipeline."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from synmotion_core import run
from synmotion_core.adapters.convert import convert
from synmotion_core.adapters.export import export
from synmotion_core.adapters.file import load_adapter
from synmotion_core.adapters.foreign import import_lora
from synmotion_core.adapters.foreign_names import original_layers
from synmotion_core.backbones import find_spec
from synmotion_core.backbones.pictures import as_pictures
from synmotion_core.backbones.weightless import weightless_denoiser
from synmotion_core.clips import video
from synmotion_core.config import ClipSource, GenerateRun, TrainRun
from synmotion_core.errors import AdapterError, IncompatibleError
from synmotion_core.generation import default_sampler, denoise
from synmotion_core.methods import find_method
from synmotion_core.training.settings import TrainConfig
from synmotion_core.types import Condition, Finished, Sampled
from tests.adapters.foreign_files import keys_of, random_loras, write_file
from tests.adapters.predictions import PROMPT
from tests.backbones.test_wan22 import files_for_a_run, image_condition, in_bf16, stock
from tests.backbones.tiny import tiny_backbone, tiny_spec
from tests.models import PROMPTS, noisy, plain, shake

NAME = "wan2.1-i2v-14b"


@pytest.fixture
def backbone() -> Any:
    return tiny_backbone(NAME)


def picture(backbone: Any, seed: int = 7, batch: int = 1) -> torch.Tensor:
    """First images [B, 3, H, W] in [-1, 1], of 256 levels: a file's."""
    shape = backbone.spec.default_shape
    size = (batch, 3, shape.height, shape.width)
    return torch.randint(0, 256, size, generator=torch.Generator().manual_seed(seed)) / 127.5 - 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_predict_is_the_stock_pipelines_call(
    backbone: Any, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if dtype == torch.bfloat16:
        backbone = in_bf16(backbone)
    pixels = picture(backbone)
    _, calls = stock(backbone, "t2v", monkeypatch, image=as_pictures(pixels, 1)[0], guidance_scale=1.0)
    assert len(calls) == 3
    text = backbone.encode_prompt(PROMPTS[:1], pixels)
    condition = dataclasses.replace(plain(text), image_latents=image_condition(backbone, pixels))
    assert condition.image_embeds is not None
    assert condition.image_embeds.shape == (1, 5, 16), "four patches and the class"
    sent: dict[str, Any] = {}
    hook = backbone.pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: sent.update(kwargs), with_kwargs=True
    )
    near = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    try:
        for call in calls:
            with torch.no_grad():
                ours = backbone.predict(call["hidden_states"][:, :4], call["timestep"] / 1000, condition)
            assert torch.equal(sent["encoder_hidden_states_image"], call["encoder_hidden_states_image"])
            for key in ("hidden_states", "encoder_hidden_states"):
                torch.testing.assert_close(sent[key], call[key], **near)
            torch.testing.assert_close(ours, call["output"].float(), **near)
    finally:
        hook.remove()


def test_generation_is_the_stock_pipelines(backbone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, pixels = find_spec(NAME), picture(backbone)
    theirs, calls = stock(
        backbone, "t2v", monkeypatch, image=as_pictures(pixels, 1)[0], negative_prompt=spec.negative_prompt,
        guidance_scale=spec.guidance_scale,
    )  # fmt: skip
    assert len(calls) == 6
    sampler = dataclasses.replace(default_sampler(backbone), mixed_precision="no")
    *_, ours = denoise(backbone, None, PROMPTS[:1], [5], sampler, pixels)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    *_, other = denoise(backbone, None, PROMPTS[:1], [5], sampler, picture(backbone, seed=8))
    assert (other - theirs).abs().max() > 1e-3


def test_the_picture_is_seen_by_both_ways(backbone: Any) -> None:
    """Each sample's own, and what the CLIP sees of another picture is another prediction."""
    x, s = noisy(backbone)
    images, others = picture(backbone, batch=2), picture(backbone, seed=8, batch=2)
    latents = image_condition(backbone, images)

    def predict(seen: torch.Tensor, rows: list[int]) -> torch.Tensor:
        text = backbone.encode_prompt([PROMPTS[row] for row in rows], seen[rows])
        with torch.no_grad():
            return backbone.predict(x[rows], s[rows], dataclasses.replace(plain(text), image_latents=latents[rows]))

    both = predict(images, [0, 1])
    for row in (0, 1):
        torch.testing.assert_close(predict(images, [row]), both[row : row + 1], rtol=1e-4, atol=1e-5)
    assert (predict(others, [0, 1]) - both).abs().max() > 1e-5
    text = plain(backbone.encode_prompt(PROMPTS, images))
    with pytest.raises(ValueError, match="image_latents without image_embeds"):
        backbone.predict(x, s, dataclasses.replace(text, image_latents=latents, image_embeds=None))
    with pytest.raises(IncompatibleError, match=r"wan2\.1-i2v-14b makes no videos from text alone"):
        backbone.predict(x, s, text)


@pytest.mark.parametrize("method_name", ["synmotion", "lora", "dreambooth"])
def test_methods_learn_and_leave_no_trace(backbone: Any, method_name: str) -> None:
    entry = find_method(method_name)
    x, s = noisy(backbone)
    images = picture(backbone, batch=2)
    text, latents = backbone.encode_prompt(PROMPTS, images), image_condition(backbone, images)

    def predict(condition: Condition) -> torch.Tensor:
        return backbone.predict(x, s, dataclasses.replace(condition, image_latents=latents))

    with torch.no_grad():
        before = predict(plain(text))
    method = entry.attach(backbone, entry.config(), PROMPTS[0])
    try:
        with torch.no_grad():
            assert torch.equal(predict(method.condition(text)), before)
        shake(method.groups)
        predict(method.condition(text)).square().mean().backward()
        for group, parameters in method.groups.items():
            assert all(p.grad is not None and p.grad.any() for p in parameters), group
        assert not any("add_" in key for key in method.state_dict())
    finally:
        method.detach()
    with torch.no_grad():
        assert torch.equal(predict(plain(text)), before)


def test_from_files_to_an_adapter_to_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, file = files_for_a_run(NAME, tmp_path, monkeypatch)
    config = TrainRun(
        name="rolls", clips=(ClipSource(path=clip, subject="a person", motion="rolls"),), backbone=NAME, mode="i2v",
        method="lora", method_config={"rank": 2},
        train=TrainConfig(num_steps=2, batch_size=2, sample_subjects=("a cat",), sample_images=(file,)),
    )  # fmt: skip
    *_, finished = run.train(config, tmp_path / "job", cache=tmp_path / "cache", cancel=threading.Event())
    assert isinstance(finished, Finished)
    assert finished.path is not None
    wanted = GenerateRun(
        subjects=("a cat",), images=(file,), motion="rolls", backbone=NAME, adapter=finished.path, num_frames=5
    )
    made = [e for e in run.generate(wanted, tmp_path / "out", cancel=threading.Event()) if isinstance(e, Sampled)]
    facts, shape = video.probe(made[0].path), tiny_spec(NAME).default_shape
    assert (facts.num_frames, facts.width, facts.height) == (5, shape.width, shape.height)


def test_loras_of_other_programs_find_the_pictures_layers(tmp_path: Path) -> None:
    """Of the real sizes; there and back, in both formats. Rows that have no such layers say so."""
    spec = find_spec(NAME)
    names = ("blocks.39.cross_attn.k_img", "blocks.0.cross_attn.v_img", "blocks.0.cross_attn.k", "img_emb.proj.1")
    table = original_layers(spec.family, weightless_denoiser(spec))
    theirs = write_file(tmp_path / "x.safetensors", keys_of(random_loras(table, names, rank=1, alpha=1.0)))
    done = convert([theirs], spec, tmp_path / "ours.safetensors", prompt=PROMPT)
    assert done.applied == 2 * len(names)
    tensors, info = load_adapter(done.path, spec)
    assert info.mode == "i2v"
    for layer in ("blocks.39.attn2.add_k_proj", "condition_embedder.image_embedder.ff.net.0.proj"):
        assert f"transformer.{layer}.lora_A.weight" in tensors
    for format in ("diffusers", "comfyui"):
        out = export(done.path, tmp_path / f"{format}.safetensors", format=format)  # type: ignore[arg-type]
        assert set(import_lora(out.path, spec).modules) == set(import_lora(theirs, spec).modules)
    for other in ("wan2.1-t2v-14b", "wan2.2-i2v-a14b"):
        expert = "high_noise" if "a14b" in other else None
        with pytest.raises(AdapterError, match="k_img"):
            import_lora(theirs, find_spec(other), expert=expert)
