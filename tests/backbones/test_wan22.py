"""Wan 2.2's rows at a tiny size, in every mode they have: the stock pipelines are the oracles."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline
from diffusers.pipelines.wan import pipeline_wan, pipeline_wan_i2v
from PIL import Image

from synmotion_core import backbones, run
from synmotion_core.adapters.file import AdapterInfo, load_adapter, save_adapter
from synmotion_core.backbones import find_spec
from synmotion_core.backbones.attention import attention_for
from synmotion_core.clips import video
from synmotion_core.config import ClipSource, GenerateRun, TrainRun
from synmotion_core.errors import AdapterError, ConfigError, IncompatibleError, ShapeError
from synmotion_core.generation import default_sampler, denoise
from synmotion_core.methods import find_method
from synmotion_core.precision import PLAIN
from synmotion_core.run.inputs import unfitting_shift
from synmotion_core.training.settings import TrainConfig
from synmotion_core.types import Condition, Finished, Sampled, VideoShape
from tests.backbones.tiny import tiny_backbone, tiny_folder, tiny_spec
from tests.models import PROMPTS, noisy, plain, shake

CASES = [
    ("wan2.2-ti2v-5b", "t2v"),
    ("wan2.2-ti2v-5b", "i2v"),
    ("wan2.2-t2v-a14b", "t2v"),
    ("wan2.2-i2v-a14b", "i2v"),
]
EXPERTS = ("wan2.2-t2v-a14b", "wan2.2-i2v-a14b")
LEVELS = torch.tensor([0.3, 0.95])  # one for each expert
pytestmark = pytest.mark.filterwarnings("ignore:Passing `image` as torch tensor:FutureWarning")  # no rounding so
every_case = pytest.mark.parametrize(("name", "mode"), CASES)
every_pair = pytest.mark.parametrize("name", EXPERTS)
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
    # where the row has a shift of its own, the Hub's scheduler holds another, and so does the tiny one
    shift = {} if backbone.spec.flow_shift is None else {"flow_shift": backbone.spec.flow_shift}
    assert shift.get("flow_shift") != pipe.scheduler.config.flow_shift
    # without ftfy this one fails where the other leaves the text as it is
    monkeypatch.setattr(pipeline_wan_i2v, "prompt_clean", pipeline_wan.prompt_clean)
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, **shift)
    set_timesteps = scheduler.set_timesteps

    def unrounded(*args: Any, **more: Any) -> None:
        set_timesteps(*args, **more)
        assert (scheduler.timesteps - 1000 * scheduler.sigmas[:-1]).abs().max() <= 1
        scheduler.timesteps = 1000 * scheduler.sigmas[:-1]

    monkeypatch.setattr(scheduler, "set_timesteps", unrounded)

    def record(module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        calls.append({**kwargs, "output": output[0], "module": module})

    experts = [pipe.transformer] if pipe.transformer_2 is None else [pipe.transformer, pipe.transformer_2]
    hooks = [expert.register_forward_hook(record, with_kwargs=True) for expert in experts]
    shape = backbone.spec.default_shape
    image = {"image": picture(backbone)} if mode == "i2v" else {}
    try:
        with monkeypatch.context() as patch, torch.no_grad(), attention_for(torch.device("cpu")):
            patch.setattr(pipe, "scheduler", scheduler)  # only here: ours is to find the Hub's
            latents = pipe(
                prompt=PROMPTS[0].text, height=shape.height, width=shape.width, num_frames=shape.num_frames,
                num_inference_steps=3, latents=start(backbone), output_type="latent", **image, **given,
            ).frames  # fmt: skip
    finally:
        for hook in hooks:
            hook.remove()
    return latents, calls


def in_bf16(backbone: Any) -> Any:
    """The same as it is loaded onto a GPU: some of its modules stay in float32."""
    dtypes = {"default": torch.bfloat16, "vae": torch.float32}
    stock_class = type(backbone.pipe).__base__  # without the encoders on demand
    pipe = stock_class.from_pretrained(tiny_folder(backbone.spec.name), dtype=dtypes)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.transformer.condition_embedder.time_embedder.linear_1.weight.dtype == torch.float32
    made = type(backbone)(backbone.spec, pipe, torch.device("cpu"), "in bf16")
    assert made.dtype == torch.bfloat16
    return made


@every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_predict_is_the_stock_pipelines_call_bit_for_bit(
    name: str, mode: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone: Any = tiny_backbone(name)
    if dtype == torch.bfloat16:
        backbone = in_bf16(backbone)
    kept = backbone.spec.image_frames if mode == "i2v" else 0
    image = image_condition(backbone, picture(backbone)) if mode == "i2v" else None
    _, calls = stock(backbone, mode, monkeypatch, guidance_scale=1.0)
    assert len(calls) == 3
    if name in EXPERTS:
        high = {"wan2.2-t2v-a14b": 2, "wan2.2-i2v-a14b": 1}[name]
        own = [*[backbone.pipe.transformer] * high, *[backbone.pipe.transformer_2] * (3 - high)]
        assert [call["module"] for call in calls] == own, "with the scheduler's own shift it would be the other number"
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
        given = call["hidden_states"][:, :4].clone()  # without the channels of a condition
        given[:, :, :kept] = 9.0  # what a sampler holds there is not looked at
        try:
            with torch.no_grad():
                ours = backbone.predict(given, call["timestep"].reshape(1, -1).amax(1) / 1000, condition)
        finally:
            hook.remove()
        for key in ("hidden_states", "encoder_hidden_states"):
            assert torch.equal(sent[key], call[key]), key
        assert sent["timestep"].shape == call["timestep"].shape
        torch.testing.assert_close(sent["timestep"], call["timestep"], rtol=1e-6, atol=0)  # by way of sigma
        assert call["output"].dtype == dtype
        torch.testing.assert_close(ours[:, :, kept:], call["output"][:, :, kept:].float(), rtol=1e-5, atol=1e-6)
        assert not ours[:, :, :kept].any()


@every_case
@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_the_time_is_embedded_in_float32_also_under_autocast(
    name: str, mode: str, mixed_precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the stock pipelines do, which know no autocast: in every expert, bit for bit."""
    backbone = in_bf16(tiny_backbone(name))
    _, calls = stock(backbone, mode, monkeypatch, guidance_scale=1.0)
    assert len({id(call["module"]) for call in calls}) == (2 if name in EXPERTS else 1)
    for call in calls:
        made: list[torch.Tensor] = []
        hook = call["module"].condition_embedder.time_embedder.register_forward_hook(
            lambda *x, made=made: made.append(x[2])
        )
        given = {key: call[key] for key in ("hidden_states", "timestep", "encoder_hidden_states")}
        try:
            with torch.no_grad():
                call["module"](**given, return_dict=False)
                with torch.autocast("cpu", torch.bfloat16, enabled=mixed_precision == "bf16"):
                    call["module"](**given, return_dict=False)
                    assert torch.is_autocast_enabled("cpu") == (mixed_precision == "bf16"), "the rest runs as asked"
        finally:
            hook.remove()
        assert made[0].dtype == made[1].dtype == torch.float32
        assert torch.equal(*made)


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
@pytest.mark.parametrize("guidance", [None, 1.0, 6.0], ids=["the row's own", "none", "chosen"])
def test_generation_is_the_stock_pipelines(
    name: str, mode: str, guidance: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the row's own guidance, of both experts where there are two, and with one that is chosen, for both."""
    backbone: Any = tiny_backbone(name)
    spec = find_spec(name)
    given = {"guidance_scale": guidance}
    if guidance is None:
        given = {"guidance_scale": spec.guidance_scale, "guidance_scale_2": spec.guidance_scale_2}
    theirs, calls = stock(backbone, mode, monkeypatch, negative_prompt=spec.negative_prompt, **given)
    assert len(calls) == (3 if guidance == 1 else 6)
    sampler = dataclasses.replace(default_sampler(backbone, guidance_scale=guidance), mixed_precision="no")
    images = picture(backbone) if mode == "i2v" else None
    *_, ours = denoise(backbone, None, PROMPTS[:1], [5], sampler, images)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    if images is not None:
        *_, other = denoise(backbone, None, PROMPTS[:1], [5], sampler, picture(backbone, seed=8))
        assert (other - theirs)[:, :, 1:].abs().max() > 1e-3, "the picture is seen"


def test_what_the_rows_of_two_experts_say() -> None:
    """The official code's figures: (high noise, low noise), boundary, shift."""
    own = {name: (s.guidance_scale, s.guidance_scale_2, s.boundary_ratio, s.flow_shift, s.num_inference_steps)
           for name in EXPERTS for s in [find_spec(name)]}  # fmt: skip
    assert own == {"wan2.2-t2v-a14b": (4.0, 3.0, 0.875, 12.0, 40), "wan2.2-i2v-a14b": (3.5, 3.5, 0.9, 3.0, 40)}


def test_a_shift_that_does_not_fit_the_size_is_said() -> None:
    def said(name: str, height: int, width: int, flow_shift: float | None = None) -> str | None:
        return unfitting_shift(find_spec(name), find_spec(name).shape(None, height, width), flow_shift)

    for name in (spec.name for spec in backbones.SPECS.values() if spec.family == "wan"):
        own = find_spec(name).default_shape
        assert said(name, own.height, own.width) is None, "the row's own fits its own size"
    large = (
        "720x1280 is nearest to {}'s 720x1280, for which noise levels are shifted by 5, and here it is 3: flow_shift 5"
    )
    for name in ("wan2.1-t2v-1.3b", "wan2.1-t2v-14b", "wan2.2-i2v-a14b"):
        assert (said(name, 720, 1280) or "").startswith(large.format(name))
        assert said(name, 720, 1280, 5.0) is None
        assert said(name, 1280, 720, 5.0) is None, "turned, it is the same size"
        assert "shifted by 3, and here it is 5: flow_shift 3 fits" in (said(name, 832, 480, 5.0) or "")
    assert said("wan2.2-t2v-a14b", 720, 1280) is None
    assert "it is 3: flow_shift 12 fits" in (said("wan2.2-t2v-a14b", 480, 832, 3.0) or "")
    assert unfitting_shift(find_spec("puppet-hunyuan"), find_spec("puppet-hunyuan").default_shape, 2.0) is None
    assert "published for 1280x704 and 704x1280 alone" in find_spec("wan2.2-ti2v-5b").knows


def test_the_second_experts_guidance_is_its_own_unless_one_is_chosen() -> None:
    backbone: Any = tiny_backbone("wan2.2-t2v-a14b")
    sampler = dataclasses.replace(default_sampler(backbone), mixed_precision="no")
    assert (sampler.guidance_scale, sampler.guidance_scale_2, sampler.flow_shift) == (4.0, 3.0, 12.0)
    assert default_sampler(backbone, guidance_scale=4.0).guidance_scale_2 is None
    assert default_sampler(backbone, flow_shift=3.0).flow_shift == 3.0
    alike = dataclasses.replace(sampler, guidance_scale_2=None)
    runs = [list(denoise(backbone, None, PROMPTS[:1], [5], one)) for one in (sampler, alike)]
    assert all(torch.equal(a, b) for a, b in zip(runs[0][:2], runs[1][:2], strict=True)), "two steps of high noise"
    assert (runs[0][2] - runs[1][2]).abs().max() > 1e-3


@every_pair
def test_both_experts_get_their_share_of_steps_and_of_training(name: str) -> None:
    backbone: Any = tiny_backbone(name)
    spec = find_spec(name)
    assert spec.boundary_ratio is not None
    sampler = default_sampler(backbone)
    levels = backbone.solver(40, sampler.shape, flow_shift=sampler.flow_shift).sigmas[:-1]
    assert int((levels >= spec.boundary_ratio).sum()) == {"wan2.2-t2v-a14b": 26, "wan2.2-i2v-a14b": 11}[name]
    drawn = backbone.diffusion.sample_sigmas(20_000, torch.Generator().manual_seed(0))
    share = float((drawn >= spec.boundary_ratio).float().mean())
    assert abs(share - {"wan2.2-t2v-a14b": 0.70, "wan2.2-i2v-a14b": 0.136}[name]) < 0.01


@every_pair
def test_a_level_goes_to_the_expert_it_belongs_to(name: str) -> None:
    """Mixed in any order, each as it is alone; the boundary itself is high noise."""
    backbone: Any = tiny_backbone(name)
    edge = backbone.spec.boundary_ratio
    levels = torch.tensor([0.2, 0.99, edge - 1e-3, edge])
    x = torch.randn(
        (4, *backbone.latent_shape(backbone.spec.default_shape)), generator=torch.Generator().manual_seed(1)
    )
    text = backbone.encode_prompt([PROMPTS[i] for i in (0, 1, 1, 0)])
    images = image_condition(backbone, picture(backbone, batch=4)) if "i2v" in name else None
    seen: list[tuple[str, int]] = []

    def count(expert: str) -> Any:
        def hook(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
            seen.append((expert, len(kwargs["timestep"])))

        return getattr(backbone.denoiser, expert).register_forward_pre_hook(hook, with_kwargs=True)

    def predict(rows: list[int]) -> torch.Tensor:
        own = dataclasses.replace(plain(text.select(rows)), image_latents=None if images is None else images[rows])
        with torch.no_grad():
            return backbone.predict(x[rows], levels[rows], own)

    hooks = [count("high_noise"), count("low_noise")]
    try:
        together = predict([0, 1, 2, 3])
        assert seen == [("high_noise", 2), ("low_noise", 2)]
        for row, expert in enumerate(["low_noise", "high_noise", "low_noise", "high_noise"]):
            seen.clear()
            torch.testing.assert_close(predict([row])[0], together[row], rtol=1e-4, atol=1e-5)
            assert seen == [(expert, 1)]
    finally:
        for hook in hooks:
            hook.remove()
    torch.testing.assert_close(predict([3, 0, 2, 1]), together[[3, 0, 2, 1]], rtol=1e-4, atol=1e-5)


@every_pair
def test_the_experts_are_one_model(name: str) -> None:
    backbone: Any = tiny_backbone(name)
    pair = backbone.denoiser
    assert (pair.high_noise, pair.low_noise) == (backbone.pipe.transformer, backbone.pipe.transformer_2)
    assert not any(module.training for module in pair.modules())
    assert not any(p.requires_grad for p in pair.parameters())
    x, text = noisy(backbone)[0], plain(backbone.encode_prompt(PROMPTS))
    images = image_condition(backbone, picture(backbone, batch=2)) if "i2v" in name else None
    entry = find_method("lora")
    method = entry.attach(backbone, entry.config(rank=2), PROMPTS[0])
    grads = []
    try:
        shake(method.groups)
        for checkpointed in (False, True):
            if checkpointed:
                pair.enable_gradient_checkpointing()
            loss = backbone.predict(x, LEVELS, dataclasses.replace(text, image_latents=images)).square().mean()
            with attention_for(torch.device("cpu")):  # around the recomputation, too
                grads.append(torch.autograd.grad(loss, method.groups["adapters"]))
        assert pair.high_noise.gradient_checkpointing
        assert pair.low_noise.gradient_checkpointing
    finally:
        pair.disable_gradient_checkpointing()
        method.detach()
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


def test_an_expert_that_no_sample_needs_is_left_alone() -> None:
    """No gradient, so that not even weight decay moves it."""
    backbone: Any = tiny_backbone("wan2.2-t2v-a14b")
    x, text = noisy(backbone)[0], plain(backbone.encode_prompt(PROMPTS))
    entry = find_method("lora")
    method = entry.attach(backbone, entry.config(rank=2), PROMPTS[0])
    try:
        shake(method.groups)
        before = method.state_dict()
        optimizer = torch.optim.AdamW(method.groups["adapters"], lr=1e-2, weight_decay=0.1)
        backbone.predict(x, torch.tensor([0.9, 0.95]), text).square().mean().backward()
        optimizer.step()
        moved = {key.split(".")[1] for key, value in method.state_dict().items() if not torch.equal(value, before[key])}
        assert moved == {"high_noise"}
    finally:
        method.detach()


@every_pair
@pytest.mark.parametrize("method_name", ["synmotion", "lora"])
def test_an_adapter_file_holds_both_experts(name: str, method_name: str, tmp_path: Path) -> None:
    backbone: Any = tiny_backbone(name)
    entry = find_method(method_name)
    x, text = noisy(backbone)[0], backbone.encode_prompt(PROMPTS)
    images = image_condition(backbone, picture(backbone, batch=2)) if "i2v" in name else None
    path, projections = tmp_path / "waves.safetensors", len(entry.config().projections)

    def predict(method: Any) -> torch.Tensor:
        with torch.no_grad():
            return backbone.predict(x, LEVELS, dataclasses.replace(method.condition(text), image_latents=images))

    method = entry.attach(backbone, entry.config(), PROMPTS[0])
    try:
        shake(method.groups)
        expected = predict(method)
        info = AdapterInfo(
            backbone=name, repo=backbone.spec.repo, revision=backbone.spec.revision, fingerprint="x", licence="x",
            method=method_name, method_config={}, subject="a person", motion="waves", steps=1,
        )  # fmt: skip
        save_adapter(path, method.state_dict(), info)
    finally:
        method.detach()
    state, _ = load_adapter(path, backbone.spec)
    lora = [key for key in state if ".lora_" in key]
    for expert in ("high_noise", "low_noise"):
        own = [key for key in lora if key.startswith(f"transformer.{expert}.blocks.")]
        assert len(own) == 2 * 2 * projections * 2  # blocks, attentions, projections, A and B
    assert len(lora) == 2 * len(own)
    again = entry.attach(backbone, entry.config(), PROMPTS[1])
    try:
        again.load_state_dict(state)
        assert torch.equal(predict(again), expected)
        half = {key: value for key, value in state.items() if "low_noise" not in key}
        with pytest.raises(AdapterError, match=rf"{len(own)} of {2 * len(own)} keys apply; {len(own)} missing"):
            again.load_state_dict(half)
    finally:
        again.detach()
    for other in ("wan2.1-t2v-14b", "wan2.2-ti2v-5b", *(row for row in EXPERTS if row != name)):
        with pytest.raises(IncompatibleError, match=f"'{name}' and cannot be used on '{other}'"):
            load_adapter(path, find_spec(other))


def test_the_condition_of_a_picture_is_as_long_as_the_video() -> None:
    backbone: Any = tiny_backbone("wan2.2-i2v-a14b")
    pixels = picture(backbone, batch=2)
    for num_frames, frames in ((1, 1), (9, 3), (17, 5)):
        made = backbone.encode_image(pixels, num_frames)
        assert made.shape == (2, 4 + 4, frames, 4, 6)
        assert (made[:, :4, :1] == 1).all()
        assert not made[:, :4, 1:].any()
        alone = backbone.encode_video(pixels[:, :, None])
        torch.testing.assert_close(made[:, 4:, :1], alone, rtol=1e-5, atol=1e-6)
    rest = made[:, 4:, 1:]
    assert (rest[0] - rest[1]).abs().max() > 1e-4, "what it makes of grey frames depends on the picture before them"
    assert backbone.latent_shape(backbone.spec.default_shape)[0] == 4
    assert torch.equal(backbone.start_latents(start(backbone), made), start(backbone))
    with pytest.raises(ShapeError, match=r"num_frames = 4k\+1, got 10: use 9 or 13"):
        backbone.encode_image(pixels, 10)
    with pytest.raises(ShapeError, match=r"images must be"):
        backbone.encode_image(pixels[:, :, None], 9)
    with pytest.raises(IncompatibleError, match=r"wan2\.2-t2v-a14b takes no first image"):
        tiny_backbone("wan2.2-t2v-a14b").encode_image(pixels, 9)
    with pytest.raises(IncompatibleError, match=r"wan2\.2-i2v-a14b makes no videos from text alone"):
        backbone.predict(*noisy(backbone), plain(backbone.encode_prompt(PROMPTS)))


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
    for name, other, what in (
        ("wan2.2-ti2v-5b", "wan2.1-t2v-1.3b", "expand_timesteps is False in this pipeline, True in that"),
        ("wan2.1-t2v-1.3b", "wan2.2-ti2v-5b", "expand_timesteps is True in this pipeline, False in that"),
        ("wan2.1-t2v-14b", "wan2.2-t2v-a14b", "boundary_ratio is 0.875 in this pipeline, None in that"),
        ("wan2.2-t2v-a14b", "wan2.2-i2v-a14b", "boundary_ratio is 0.9 in this pipeline, 0.875 in that"),
    ):
        backbone, wrong = tiny_backbone(name), tiny_backbone(other)
        with pytest.raises(ConfigError, match=f"{name}: {what} of Wan-AI"):
            type(backbone)(backbone.spec, wrong.pipe, torch.device("cpu"), "x")


@every_case
@pytest.mark.parametrize("method_name", ["synmotion", "lora"])
def test_methods_learn_and_leave_no_trace(name: str, mode: str, method_name: str) -> None:
    backbone: Any = tiny_backbone(name)
    entry = find_method(method_name)
    x, s = noisy(backbone)[0], LEVELS
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
            assert all(p.grad is not None and p.grad.any() for p in parameters), group
        with torch.no_grad():
            assert not torch.equal(predict(method.condition(text)), before)
            method.set_strength(0.0)
            assert torch.equal(predict(method.condition(text, 0.0)), before)
    finally:
        method.detach()
    with torch.no_grad():
        assert torch.equal(predict(plain(text)), before)


def files_for_a_run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A clip and a picture, for runs that find the tiny weights under the row's name."""
    shape = tiny_spec(name).default_shape
    monkeypatch.setitem(backbones.SPECS, name, tiny_spec(name))
    monkeypatch.setitem(run.pool._pool, (name, PLAIN), tiny_backbone(name))
    pixels = np.random.default_rng(3).integers(0, 256, (shape.height, shape.width, 3), dtype=np.uint8)
    clip, file = folder / "clip.mp4", folder / "picture.png"
    video.write(clip, np.stack([np.roll(pixels, 3 * k, axis=1) for k in range(shape.num_frames)]), shape.fps)
    Image.fromarray(pixels).save(file)
    return clip, file


@pytest.mark.parametrize("name", ["wan2.2-ti2v-5b", "wan2.2-i2v-a14b"])
def test_from_files_to_an_adapter_to_a_video(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """train and generate as the command line runs them, from pictures, also for a video of another length."""
    clip, file = files_for_a_run(name, tmp_path, monkeypatch)
    shape = tiny_spec(name).default_shape
    config = TrainRun(
        name="rolls", clips=(ClipSource(path=clip, subject="a person", motion="rolls"),), backbone=name, mode="i2v",
        method="lora", method_config={"rank": 2},
        train=TrainConfig(num_steps=2, batch_size=2, sample_subjects=("a cat",), sample_images=(file,)),
    )  # fmt: skip
    *_, finished = run.train(config, tmp_path / "job", cache=tmp_path / "cache", cancel=threading.Event())
    assert isinstance(finished, Finished)
    assert finished.path is not None
    wanted = GenerateRun(
        subjects=("a cat",), images=(file,), motion="rolls", backbone=name, adapter=finished.path, num_frames=5
    )
    made = [e for e in run.generate(wanted, tmp_path / "out", cancel=threading.Event()) if isinstance(e, Sampled)]
    facts = video.probe(made[0].path)
    assert (facts.num_frames, facts.width, facts.height) == (5, shape.width, shape.height)


def test_a_training_goes_on_where_only_one_expert_has_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One clip a step, so one expert a step, seed 0's first of high noise: low_noise has no moments yet when the state
    is saved."""
    name = "wan2.2-t2v-a14b"
    clip, _ = files_for_a_run(name, tmp_path, monkeypatch)

    def train(folder: str, steps: int, resume: bool = False) -> dict[str, torch.Tensor]:
        config = TrainRun(
            name="rolls", clips=(ClipSource(path=clip, subject="a person", motion="rolls"),), backbone=name,
            method="lora", method_config={"rank": 2},
            train=TrainConfig(num_steps=steps, batch_size=1, warmup_steps=0, lr_scheduler="constant"),
        )  # fmt: skip
        to = tmp_path / folder
        *_, finished = run.train(config, to, cache=tmp_path / "cache", cancel=threading.Event(), resume=resume)
        assert isinstance(finished, Finished)
        assert finished.path is not None
        return load_adapter(finished.path, find_spec(name))[0]

    def learnt(state: dict[str, torch.Tensor]) -> set[str]:
        return {key.split(".")[1] for key, value in state.items() if "lora_B" in key and value.any()}

    assert learnt(train("parts", 1)) == {"high_noise"}
    whole, parts = train("whole", 6), train("parts", 6, resume=True)
    assert learnt(whole) == {"high_noise", "low_noise"}
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
