"""Wan 2.2's rows at a tiny size, in every mode they have: the stock pipelines are the oracles."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from diffusers import WanImageToVideoPipeline
from diffusers.pipelines.wan import pipeline_wan, pipeline_wan_i2v

from synmotion_core.backbones import find_spec
from synmotion_core.backbones.attention import attention_for
from synmotion_core.errors import ConfigError, ShapeError
from synmotion_core.generation import default_sampler, denoise
from synmotion_core.methods import find_method
from synmotion_core.types import Condition, VideoShape
from tests.backbones.tiny import tiny_backbone
from tests.models import PROMPTS, noisy, plain, shake

CASES = [("wan2.2-ti2v-5b", "t2v"), ("wan2.2-ti2v-5b", "i2v")]
pytestmark = pytest.mark.filterwarnings("ignore:Passing `image` as torch tensor:FutureWarning")  # no rounding so
every_case = pytest.mark.parametrize(("name", "mode"), CASES)
every_row = pytest.mark.parametrize("name", dict(CASES))


def picture(backbone: Any, seed: int = 7, batch: int = 1) -> torch.Tensor:
    """First images [B, 3, H, W] in [-1, 1]."""
    shape = backbone.spec.default_shape
    size = (batch, 3, shape.height, shape.width)
    return torch.rand(size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def start(backbone: Any) -> torch.Tensor:
    size = (1, *backbone.latent_shape(backbone.spec.default_shape))
    return torch.randn(size, generator=torch.Generator().manual_seed(5))


def image_condition(backbone: Any, pixels: torch.Tensor) -> torch.Tensor:
    return backbone.encode_image(pixels, backbone.spec.default_shape.num_frames)


def stock(
    backbone: Any, mode: str, monkeypatch: pytest.MonkeyPatch, **given: Any
) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """What the stock pipeline makes of the first prompt, told the noise levels unrounded, and its denoisers' calls."""
    pipe, calls = backbone.pipe, []
    if mode == "i2v" and not isinstance(pipe, WanImageToVideoPipeline):  # the Hub names the other one for both modes
        pipe = WanImageToVideoPipeline(**pipe.components, expand_timesteps=pipe.config.expand_timesteps)
        pipe.set_progress_bar_config(disable=True)
    # without ftfy this one fails where the other leaves the text as it is
    monkeypatch.setattr(pipeline_wan_i2v, "prompt_clean", pipeline_wan.prompt_clean)
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    set_timesteps = scheduler.set_timesteps

    def unrounded(*args: Any, **more: Any) -> None:
        set_timesteps(*args, **more)
        assert (scheduler.timesteps - 1000 * scheduler.sigmas[:-1]).abs().max() <= 1
        scheduler.timesteps = 1000 * scheduler.sigmas[:-1]

    monkeypatch.setattr(scheduler, "set_timesteps", unrounded)
    monkeypatch.setattr(pipe, "scheduler", scheduler)

    def record(module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        calls.append({**kwargs, "output": output[0], "module": module})

    hook = pipe.transformer.register_forward_hook(record, with_kwargs=True)
    shape = backbone.spec.default_shape
    image = {"image": picture(backbone)} if mode == "i2v" else {}
    try:
        with torch.no_grad(), attention_for(torch.device("cpu")):
            latents = pipe(
                prompt=PROMPTS[0].text, height=shape.height, width=shape.width, num_frames=shape.num_frames,
                num_inference_steps=3, latents=start(backbone), output_type="latent", **image, **given,
            ).frames  # fmt: skip
    finally:
        hook.remove()
    return latents, calls


@every_case
def test_predict_is_the_stock_pipelines_call_bit_for_bit(name: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone: Any = tiny_backbone(name)
    kept = backbone.spec.image_frames if mode == "i2v" else 0
    image = image_condition(backbone, picture(backbone)) if mode == "i2v" else None
    _, calls = stock(backbone, mode, monkeypatch, guidance_scale=1.0)
    assert len(calls) == 3
    for call in calls:
        text = call["encoder_hidden_states"]
        condition = Condition(
            prompt_embeds=text[:, :40],
            prompt_attention_mask=(torch.arange(40) < int(text[0].any(-1).sum()))[None],
            pooled_prompt_embeds=None,
            image_latents=image,
        )
        sent: dict[str, Any] = {}

        def record(module: Any, args: Any, kwargs: dict[str, Any], sent: dict[str, Any] = sent) -> None:
            sent.update(kwargs, module=module)

        hook = call["module"].register_forward_pre_hook(record, with_kwargs=True)
        given = call["hidden_states"].clone()
        given[:, :, :kept] = 9.0  # what a sampler holds there is not looked at
        with torch.no_grad():
            ours = backbone.predict(given, call["timestep"].reshape(1, -1).amax(1) / 1000, condition)
        hook.remove()
        for key in ("hidden_states", "encoder_hidden_states"):
            assert torch.equal(sent[key], call[key]), key
        assert sent["timestep"].shape == call["timestep"].shape
        torch.testing.assert_close(sent["timestep"], call["timestep"], rtol=1e-6, atol=0)  # by way of sigma
        torch.testing.assert_close(ours[:, :, kept:], call["output"][:, :, kept:], rtol=1e-5, atol=1e-6)
        assert not ours[:, :, :kept].any()


def test_time_is_told_token_by_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 3 latent frames of 4 x 6, in patches of 2 x 2: the first frame's tokens are clean where it is an image."""
    backbone: Any = tiny_backbone("wan2.2-ti2v-5b")
    for mode, clean in (("t2v", 0), ("i2v", 6)):
        _, calls = stock(backbone, mode, monkeypatch, guidance_scale=1.0)
        for call in calls:
            assert call["timestep"].shape == (1, 18)
            assert not call["timestep"][:, :clean].any()
            assert (call["timestep"][:, clean:] > 300).all()


def test_each_sample_of_a_batch_has_its_own_level_and_image() -> None:
    backbone: Any = tiny_backbone("wan2.2-ti2v-5b")
    x, s = noisy(backbone)
    text = plain(backbone.encode_prompt(PROMPTS))
    for images in (None, image_condition(backbone, picture(backbone, batch=2))):
        condition = dataclasses.replace(text, image_latents=images)
        with torch.no_grad():
            both = backbone.predict(x, s, condition)
            for row in (0, 1):
                one = plain(backbone.encode_prompt([PROMPTS[row]]))
                one = dataclasses.replace(one, image_latents=None if images is None else images[row : row + 1])
                alone = backbone.predict(x[row : row + 1], s[row : row + 1], one)
                torch.testing.assert_close(both[row : row + 1], alone, rtol=1e-4, atol=1e-5)


@every_case
@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_generation_is_the_stock_pipelines(
    name: str, mode: str, guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone: Any = tiny_backbone(name)
    own = find_spec(name).negative_prompt
    theirs, calls = stock(backbone, mode, monkeypatch, guidance_scale=guidance, negative_prompt=own)
    assert len(calls) == (3 if guidance == 1 else 6)
    sampler = dataclasses.replace(default_sampler(backbone, guidance_scale=guidance), mixed_precision="no")
    images = picture(backbone) if mode == "i2v" else None
    *_, ours = denoise(backbone, None, PROMPTS[:1], [5], sampler, images)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    if images is not None:
        *_, other = denoise(backbone, None, PROMPTS[:1], [5], sampler, picture(backbone, seed=8))
        assert (other - theirs)[:, :, 1:].abs().max() > 1e-3, "the picture is seen"


@every_row
def test_the_autoencoder_is_the_pipelines(name: str) -> None:
    backbone: Any = tiny_backbone(name)
    vae, shape = backbone.pipe.vae, backbone.spec.default_shape
    pixels = torch.rand(1, 3, shape.num_frames, shape.height, shape.width) * 2 - 1
    latents = backbone.encode_video(pixels)
    assert latents.shape == (1, *backbone.latent_shape(shape))
    mean, std = (torch.tensor(vae.config[f"latents_{k}"]).view(1, -1, 1, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        raw = vae.encode(pixels).latent_dist.mode()
        assert torch.equal(latents, (raw - mean) * (1.0 / std))
        back = vae.decode(latents / (1.0 / std) + mean, return_dict=False)[0]
    assert torch.equal(backbone.decode_latents(latents), back)


def test_the_first_picture_is_the_videos_first_latent_frame_and_stays() -> None:
    backbone: Any = tiny_backbone("wan2.2-ti2v-5b")
    pixels = torch.rand(1, 3, 9, 64, 96) * 2 - 1
    image = image_condition(backbone, pixels[:, :, 0])
    torch.testing.assert_close(image, backbone.encode_video(pixels)[:, :, :1], rtol=1e-5, atol=1e-6)  # it is causal
    assert torch.equal(backbone.start_latents(start(backbone), image)[:, :, :1], image)
    sampler = default_sampler(backbone, eta=1.0)
    for latents in denoise(backbone, None, PROMPTS[:1], [5], sampler, pixels[:, :, 0]):
        assert torch.equal(latents[:, :, :1], image)
    with pytest.raises(ShapeError, match=r"images must be \[B, 3, H, W\]"):
        image_condition(backbone, pixels)


def test_sizes_are_multiples_of_32() -> None:
    spec = find_spec("wan2.2-ti2v-5b")
    with pytest.raises(ShapeError, match="got 720: use 704 or 736"):
        spec.check_shape(VideoShape(num_frames=49, height=720, width=1280, fps=24.0))
    assert tiny_backbone("wan2.2-ti2v-5b").latent_shape(VideoShape(num_frames=9, height=64, width=96, fps=24.0)) == (
        4, 3, 4, 6,
    )  # fmt: skip


def test_weights_of_another_kind_are_refused() -> None:
    for name, other in (("wan2.2-ti2v-5b", "wan2.1-t2v-1.3b"), ("wan2.1-t2v-1.3b", "wan2.2-ti2v-5b")):
        backbone, wrong = tiny_backbone(name), tiny_backbone(other)
        with pytest.raises(ConfigError, match=rf"{name}: expand_timesteps is .* in this pipeline, .* in that of Wan-"):
            type(backbone)(backbone.spec, wrong.pipe, torch.device("cpu"), "x")


@every_case
@pytest.mark.parametrize("method_name", ["synmotion", "lora"])
def test_methods_learn_and_leave_no_trace(name: str, mode: str, method_name: str) -> None:
    backbone: Any = tiny_backbone(name)
    entry = find_method(method_name)
    x, s = noisy(backbone)
    text = backbone.encode_prompt(PROMPTS)
    images = image_condition(backbone, picture(backbone, batch=2)) if mode == "i2v" else None

    def predict(condition: Condition) -> torch.Tensor:
        return backbone.predict(x, s, dataclasses.replace(condition, image_latents=images))

    with torch.no_grad():
        before = predict(plain(text))
    method = entry.attach(backbone, entry.config(), PROMPTS[0])
    try:
        with torch.no_grad():
            assert torch.equal(predict(method.condition(text)), before)
        shake(method.groups)
        predict(method.condition(text)).square().mean().backward()
        for group, parameters in method.groups.items():
            assert any(p.grad is not None and p.grad.any() for p in parameters), group
        with torch.no_grad():
            assert not torch.equal(predict(method.condition(text)), before)
            method.set_strength(0.0)
            assert torch.equal(predict(method.condition(text, 0.0)), before)
    finally:
        method.detach()
    with torch.no_grad():
        assert torch.equal(predict(plain(text)), before)
