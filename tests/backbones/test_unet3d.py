"""The 3-D U-Nets at a tiny size: what we hand to the denoiser is what the stock pipeline hands to it."""

from __future__ import annotations

import dataclasses
import functools
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from synmotion_core.backbones import SPECS, load_backbone
from synmotion_core.backbones.ddim import DDIMSolver, velocity_of
from synmotion_core.backbones.unet3d import pictures, temporal_layers
from synmotion_core.config import ClipSource, TrainRun
from synmotion_core.diffusion import EpsilonPrediction, add_noise, variance_scale, velocity_target
from synmotion_core.errors import ConfigError, IncompatibleError, MissingError, PromptError
from synmotion_core.generation import default_sampler, denoise
from synmotion_core.interfaces import Backbone
from synmotion_core.inversion import invert
from synmotion_core.methods import find_method
from synmotion_core.planning import downloads
from synmotion_core.planning.report import plan
from synmotion_core.precision import Precision
from synmotion_core.training import trainer
from synmotion_core.training.settings import TrainConfig
from synmotion_core.types import Condition, Prompt
from tests.backbones.tiny import SHAPE, tiny_backbone, tiny_folder, tiny_spec
from tests.models import PROMPTS, noisy, plain, shake

NAME = "zeroscope-v2-576w"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny_backbone(NAME)


@cache
def stock_pipeline() -> Any:
    from diffusers import TextToVideoSDPipeline

    pipe = TextToVideoSDPipeline.from_pretrained(tiny_folder(NAME))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stock(prompt: str, noise: torch.Tensor, **given: Any) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """What the stock pipeline makes of it, and every call of its denoiser."""
    calls: list[dict[str, Any]] = []

    def record(module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        calls.append(
            {"sample": args[0], "timestep": args[1], "text": kwargs["encoder_hidden_states"], "out": output[0]}
        )

    hook = stock_pipeline().unet.register_forward_hook(record, with_kwargs=True)
    try:
        latents = stock_pipeline()(
            prompt=prompt, height=SHAPE.height, width=SHAPE.width, num_frames=SHAPE.num_frames, num_inference_steps=3,
            latents=noise, output_type="latent", **given,
        ).frames  # fmt: skip
    finally:
        hook.remove()
    return latents, calls


def start(backbone: Backbone) -> torch.Tensor:
    return torch.randn((1, *backbone.latent_shape(SHAPE)), generator=torch.Generator().manual_seed(5))


def test_predict_is_the_stock_pipelines_call(backbone: Any) -> None:
    """The same timestep and text bit for bit; the latents and the noise to rounding, by way of x_s and its velocity."""
    _, calls = stock(PROMPTS[0].text, start(backbone), guidance_scale=1.0)
    assert len(calls) == 3
    for call in calls:
        level = backbone.diffusion.levels[int(call["timestep"])][None]
        text = call["text"]
        condition = Condition(
            prompt_embeds=text,
            prompt_attention_mask=torch.ones(text.shape[:2], dtype=torch.int64),
            pooled_prompt_embeds=None,
        )
        sent: dict[str, Any] = {}

        def record(module: Any, args: Any, kwargs: dict[str, Any], sent: dict[str, Any] = sent) -> None:
            sent.update(kwargs, sample=args[0], timestep=args[1])

        hook = backbone.denoiser.register_forward_pre_hook(record, with_kwargs=True)
        with torch.no_grad():
            velocity = backbone.predict(call["sample"] / variance_scale(level), level, condition)
        hook.remove()
        assert torch.equal(sent["encoder_hidden_states"], text)
        assert sent["timestep"].tolist() == [int(call["timestep"])]
        torch.testing.assert_close(sent["sample"], call["sample"], rtol=1e-6, atol=1e-6)
        noise = call["sample"] / variance_scale(level) + (1 - level) * velocity
        torch.testing.assert_close(noise, call["out"], rtol=1e-4, atol=1e-5)


def test_the_text_is_the_stock_pipelines(backbone: Any) -> None:
    ours = backbone.encode_prompt(PROMPTS)
    with torch.no_grad():
        theirs, _ = stock_pipeline().encode_prompt([p.text for p in PROMPTS], "cpu", 1, False)
    torch.testing.assert_close(ours.prompt_embeds, theirs, rtol=1e-5, atol=1e-6)
    assert ours.prompt_embeds.shape[1] == 77
    assert ours.prompt_attention_mask.all(), "padding is read as well"


@pytest.mark.parametrize("guidance", [1.0, 9.0])
def test_generation_is_the_stock_pipelines(backbone: Any, guidance: float) -> None:
    theirs, calls = stock(PROMPTS[0].text, start(backbone), guidance_scale=guidance)
    sampler = dataclasses.replace(default_sampler(backbone, guidance_scale=guidance), mixed_precision="no")
    *_, ours = denoise(backbone, None, PROMPTS[:1], [5], sampler)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert len(calls) == 3
    *_, other = denoise(backbone, None, PROMPTS[1:], [5], sampler)
    assert (other - theirs).abs().max() > 1e-2, "the prompt is read"


def test_generation_with_fresh_noise_is_the_stock_pipelines(backbone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """eta is DDIM's: the stock scheduler, given the noise that our own source draws."""
    sampler = dataclasses.replace(default_sampler(backbone, guidance_scale=1.0, eta=0.7), mixed_precision="no")
    source = torch.Generator().manual_seed(5)
    size = backbone.latent_shape(SHAPE)
    drawn = [torch.randn(size, generator=source)[None] for _ in range(4)]
    scheduler = stock_pipeline().scheduler
    step, left = type(scheduler).step, list(drawn[1:])

    @functools.wraps(step)  # the pipeline looks at its signature
    def given(self: Any, *args: Any, **kwargs: Any) -> Any:
        fresh = left.pop(0).transpose(1, 2).flatten(0, 1)
        return step(self, *args, **{**kwargs, "generator": None, "variance_noise": fresh})

    monkeypatch.setattr(type(scheduler), "step", given)
    theirs, _ = stock(PROMPTS[0].text, drawn[0], guidance_scale=1.0, eta=0.7)
    monkeypatch.undo()
    *_, ours = denoise(backbone, None, PROMPTS[:1], [5], sampler)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    *_, plain_ones = denoise(backbone, None, PROMPTS[:1], [5], dataclasses.replace(sampler, eta=0.0))
    assert (plain_ones - ours).abs().max() > 1e-2


def test_the_autoencoder_works_frame_by_frame(backbone: Any) -> None:
    vae = backbone.pipe.vae
    pixels = torch.rand(2, 3, 5, 32, 48) * 2 - 1
    latents = backbone.encode_video(pixels)
    assert latents.shape == (2, 4, 5, 4, 6)
    with torch.no_grad():
        one = vae.encode(pixels[1, :, 3][None]).latent_dist.mode()[0] * vae.config["scaling_factor"]
    torch.testing.assert_close(latents[1, :, 3], one)
    torch.testing.assert_close(
        backbone.decode_latents(latents), stock_pipeline().decode_latents(latents).clamp(-1, 1), rtol=1e-4, atol=1e-4
    )


def test_one_frame_is_a_picture(backbone: Any) -> None:
    """The temporal layers are left out, for that call only, and what adapters they carry stay there."""
    layers = temporal_layers(backbone.denoiser)
    names = [n for n, m in backbone.denoiser.named_modules() if any(m is layer for layer in layers)]
    assert len(layers) == 1 + 16 + 22, "transformer_in, a transformer beside each spatial one, a convolution a resnet"
    assert all("temp_" in n or n == "transformer_in" for n in names)
    seen: list[str] = []
    hooks = [layer.register_forward_hook(lambda *_: seen.append("hooked")) for layer in layers]
    text = plain(backbone.encode_prompt(PROMPTS))
    x, s = noisy(backbone)
    with torch.no_grad():
        whole = backbone.predict(x, s, text)
        with pictures(backbone.denoiser, True):
            apart = backbone.predict(x, s, text)
        alone = torch.cat([backbone.predict(x[:, :, [f]], s, text) for f in range(x.shape[2])], dim=2)
        again = backbone.predict(x, s, text)
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(apart, alone, rtol=1e-4, atol=1e-5)  # nothing passes between frames
    assert (apart - whole).abs().max() > 1e-3
    assert torch.equal(whole, again)
    assert all("forward" not in layer.__dict__ for layer in layers)


def test_a_prompt_that_pipelines_would_cut_is_refused(backbone: Any) -> None:
    with pytest.raises(PromptError, match=r"tokens long; zeroscope-v2-576w reads at most 77"):
        backbone.encode_prompt([Prompt(subject="a cat", motion="waves " * 90)])
    with pytest.raises(PromptError, match=r"a mark of the text encoder's own"):
        backbone.encode_prompt([Prompt(subject="a cat", motion="waves <|endoftext|>")])


def test_what_it_has_not_is_refused(backbone: Any) -> None:
    with pytest.raises(IncompatibleError, match="takes no first image"):
        backbone.encode_image(torch.zeros(1, 3, 32, 48), 9)
    with pytest.raises(ConfigError, match=r"flow_shift 3 is of flow matching"):
        backbone.solver(3, SHAPE, 0.0, 3.0)
    with pytest.raises(ConfigError, match="eta must be between 0"):
        backbone.solver(3, SHAPE, 1.5)


def test_roles_cover_the_words(backbone: Any) -> None:
    text = backbone.encode_prompt(PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        ids = backbone.pipe.tokenizer(prompt.text).input_ids
        for mask, words in ((text.subject_tokens, prompt.subject), (text.motion_tokens, prompt.motion)):
            chosen = [i for i, on in zip(ids, mask[row].tolist(), strict=False) if on]
            assert backbone.pipe.tokenizer.decode(chosen).strip() == words


def test_adapters_keys_are_the_unets(backbone: Any) -> None:
    """The rest of what methods owe is in tests/methods/test_method_contract.py, for this row as well."""
    entry = find_method("lora")
    method = entry.attach(backbone, entry.config(), PROMPTS[0])
    try:
        keys = list(method.state_dict())
    finally:
        method.detach()
    assert "unet.down_blocks.0.temp_attentions.0.transformer_blocks.0.attn1.to_k.lora_A.weight" in keys
    assert all(key.startswith("unet.") for key in keys)


def test_checkpointing_gives_the_same_gradients_from_less_memory() -> None:
    kept: list[int] = []
    gradients = []
    for precision in (Precision(), Precision(gradient_checkpointing=True)):
        backbone = tiny_backbone(NAME, precision)
        entry = find_method("lora")
        method = entry.attach(backbone, entry.config(), PROMPTS[0])
        x, s = noisy(backbone)
        kept.append(0)

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept[-1] += tensor.numel() * tensor.element_size()
            return tensor

        try:
            shake(method.groups)
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                loss = backbone.predict(x, s, method.condition(backbone.encode_prompt(PROMPTS))).square().mean()
            loss.backward()
            gradients.append([p.grad.clone() for p in method.groups["adapters"]])
        finally:
            method.detach()
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert any(g.any() for g in gradients[0])
    assert kept[1] < kept[0] / 2


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_what_a_model_says_becomes_a_velocity(kind: str) -> None:
    """On exact predictions, from the definitions in DDPM's own scale."""
    generator = torch.Generator().manual_seed(0)
    x, noise = (torch.randn((3, 2, 2, 2, 2), generator=generator) for _ in range(2))
    diffusion = EpsilonPrediction(torch.linspace(0.99, 0.005, 50))
    s = diffusion.levels[[3, 25, 49]]
    a = torch.linspace(0.99, 0.005, 50)[[3, 25, 49]].reshape(-1, 1, 1, 1, 1)
    exact = {"epsilon": noise, "sample": x, "v_prediction": a.sqrt() * noise - (1 - a).sqrt() * x}[kind]
    noisy_latents = add_noise(x, noise, s)
    z = a.sqrt() * x + (1 - a).sqrt() * noise
    torch.testing.assert_close(noisy_latents * variance_scale(s).reshape(-1, 1, 1, 1, 1), z, rtol=1e-5, atol=1e-5)
    velocity = velocity_of(kind, exact, noisy_latents, s)
    torch.testing.assert_close(velocity, velocity_target(x, noise), rtol=1e-4, atol=1e-4)


def test_a_step_of_ddim_is_a_step_of_euler(backbone: Any) -> None:
    solver: DDIMSolver = backbone.solver(4, SHAPE)
    x = solver.start(start(backbone))
    velocity = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    now, then = solver.sigmas[:2]
    torch.testing.assert_close(solver.step(velocity, x), x + (then - now) * velocity, rtol=1e-4, atol=1e-4)
    assert solver.sigmas[0] < 1
    assert solver.sigmas[-1] == 0


def test_weights_that_are_pickles_alone_are_not_read_and_ones_own_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SYNMOTION_HOME", str(tmp_path))
    monkeypatch.setitem(SPECS, NAME, tiny_spec(NAME))
    with pytest.raises(
        MissingError, match=rf"holds its weights as pickles alone.* put that at {tmp_path}/weights/{NAME}"
    ):
        load_backbone(NAME, device="cpu")
    run = TrainRun(
        name="x", clips=(ClipSource(path=tmp_path / "a.mp4", subject="a person", motion="waves"),), backbone=NAME
    )
    said = f"put a folder with safetensors at {tmp_path}/weights/{NAME}"
    assert any(said in line for line in plan(run).lines)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / NAME).symlink_to(tiny_folder(NAME))
    found = load_backbone(NAME, device="cpu")
    assert found.fingerprint == tiny_backbone(NAME).fingerprint
    assert downloads.disk(SPECS[NAME]).missing == 0  # type: ignore[union-attr]
    assert not any(said in line for line in plan(run).lines)


def test_weights_in_float16_draw_in_it_and_learn_in_bf16(backbone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on CUDA: autocast's type when videos are drawn and clips inverted, and the type gradients come back in."""
    seen: list[tuple[torch.dtype, bool]] = []

    def predict(latents: torch.Tensor, sigmas: torch.Tensor, condition: Condition) -> torch.Tensor:
        seen.append((torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")))
        return torch.zeros_like(latents)

    text, shape = backbone.encode_text([""]), backbone.spec.default_shape
    for dtype, expected in ((torch.float32, torch.bfloat16), (torch.float16, torch.float16)):
        with monkeypatch.context() as patch:
            patch.setattr(backbone, "dtype", dtype)
            patch.setattr(backbone, "predict", predict, raising=False)
            *_, last = denoise(backbone, None, PROMPTS[:1], [1], default_sampler(backbone))
            list(invert(backbone, last, text, shape, 2))
        assert set(seen) == {(expected, True)}
        seen.clear()

    given: list[torch.dtype] = []

    def record(x: torch.Tensor, t: torch.Tensor, encoder_hidden_states: torch.Tensor, **_: Any) -> Any:
        given.extend((x.dtype, encoder_hidden_states.dtype))
        return (x,)

    x, s = noisy(backbone)
    with monkeypatch.context() as patch:
        patch.setattr(backbone.denoiser, "forward", record)
        for dtype, autocast, expected in (
            (torch.float16, True, torch.bfloat16),
            (torch.float16, False, torch.float16),
            (torch.float32, True, torch.float32),
        ):
            patch.setattr(backbone, "dtype", dtype)
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                backbone.predict(x, s, plain(backbone.encode_prompt(PROMPTS)))
            assert set(given) == {expected}
            given.clear()


def test_without_autocast_float16_is_not_trained(backbone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "dtype", torch.float16)
    with pytest.raises(ConfigError, match="small gradients vanish: train with mixed_precision 'bf16', not 'no'"):
        trainer._precision(TrainConfig(mixed_precision="no"), backbone)
