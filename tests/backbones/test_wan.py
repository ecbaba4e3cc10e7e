"""Wan's rows at a tiny size: what we hand to the denoiser is what the stock pipeline hands to it."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import pytest
import torch
from diffusers import WanPipeline

from synmotion_core.backbones import find_spec
from synmotion_core.backbones.attention import attention_for
from synmotion_core.errors import IncompatibleError, PromptError
from synmotion_core.generation import default_sampler, denoise
from synmotion_core.interfaces import Backbone
from synmotion_core.methods import find_method
from synmotion_core.types import Condition, Prompt, stack_text
from tests.backbones.tiny import SHAPE, tiny_backbone
from tests.models import PROMPTS, noisy, padded_row, plain, shake

NAME = "wan2.1-t2v-1.3b"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny_backbone(NAME)


def stock(
    backbone: Any, prompt: str, noise: torch.Tensor, monkeypatch: pytest.MonkeyPatch, **given: Any
) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """What the stock pipeline makes of it, told the noise levels unrounded, and every call of its denoiser."""
    calls: list[dict[str, Any]] = []

    def record(module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        calls.append({**kwargs, "output": output[0]})

    scheduler = backbone.pipe.scheduler
    set_timesteps = type(scheduler).set_timesteps

    def unrounded(*args: Any, **more: Any) -> None:
        set_timesteps(scheduler, *args, **more)
        assert (scheduler.timesteps - 1000 * scheduler.sigmas[:-1]).abs().max() <= 1
        scheduler.timesteps = 1000 * scheduler.sigmas[:-1]

    monkeypatch.setattr(scheduler, "set_timesteps", unrounded)
    hook = backbone.pipe.transformer.register_forward_hook(record, with_kwargs=True)
    try:
        with torch.no_grad(), attention_for(torch.device("cpu")):
            latents = backbone.pipe(
                prompt=prompt, height=SHAPE.height, width=SHAPE.width, num_frames=SHAPE.num_frames,
                num_inference_steps=3, latents=noise, output_type="latent", **given,
            ).frames  # fmt: skip
    finally:
        hook.remove()
    return latents, calls


def start(backbone: Backbone) -> torch.Tensor:
    return torch.randn((1, *backbone.latent_shape(SHAPE)), generator=torch.Generator().manual_seed(5))


def test_predict_is_the_stock_pipelines_call_bit_for_bit(backbone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, calls = stock(backbone, PROMPTS[0].text, start(backbone), monkeypatch, guidance_scale=1.0)
    assert len(calls) == 3
    for call in calls:
        text = call["encoder_hidden_states"]
        assert text.shape[1] == 512
        condition = Condition(
            prompt_embeds=text[:, :40],
            prompt_attention_mask=(torch.arange(40) < int(text[0].any(-1).sum()))[None],
            pooled_prompt_embeds=None,
        )
        sent: dict[str, Any] = {}

        def record(module: Any, args: Any, kwargs: dict[str, Any], sent: dict[str, Any] = sent) -> None:
            sent.update(kwargs)

        hook = backbone.denoiser.register_forward_pre_hook(record, with_kwargs=True)
        with torch.no_grad():
            ours = backbone.predict(call["hidden_states"], call["timestep"] / 1000, condition)
        hook.remove()
        for name in ("hidden_states", "encoder_hidden_states"):
            assert torch.equal(sent[name], call[name]), name
        torch.testing.assert_close(sent["timestep"], call["timestep"], rtol=1e-6, atol=0)  # by way of sigma
        torch.testing.assert_close(ours, call["output"], rtol=1e-5, atol=1e-6)


def test_the_text_is_the_stock_pipelines(backbone: Any) -> None:
    ours = backbone.encode_prompt(PROMPTS)
    with torch.no_grad():
        theirs, _ = backbone.pipe.encode_prompt([p.text for p in PROMPTS], max_sequence_length=512)
    padded = torch.nn.functional.pad(ours.prompt_embeds, (0, 0, 0, 512 - ours.prompt_embeds.shape[1]))
    torch.testing.assert_close(padded, theirs, rtol=1e-4, atol=1e-5)
    assert ours.pooled_prompt_embeds is None
    assert inspect.signature(WanPipeline.__call__).parameters["max_sequence_length"].default == 512


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_generation_is_the_stock_pipelines(backbone: Any, guidance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    own = find_spec(NAME).negative_prompt
    theirs, calls = stock(
        backbone, PROMPTS[0].text, start(backbone), monkeypatch, guidance_scale=guidance, negative_prompt=own
    )
    sampler = dataclasses.replace(default_sampler(backbone, guidance_scale=guidance), mixed_precision="no")
    assert sampler.negative_prompt == own
    *_, ours = denoise(backbone, None, PROMPTS[:1], [5], sampler)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert len(calls) == (3 if guidance == 1 else 6)
    if guidance != 1:
        *_, other = denoise(backbone, None, PROMPTS[:1], [5], dataclasses.replace(sampler, negative_prompt=""))
        assert (other - theirs).abs().max() > 1e-3, "the negative prompt is read"


def test_the_autoencoder_is_normalised_channel_by_channel(backbone: Any) -> None:
    vae = backbone.pipe.vae
    pixels = torch.rand(1, 3, 9, 32, 48) * 2 - 1
    latents = backbone.encode_video(pixels)
    assert latents.shape == (1, *backbone.latent_shape(SHAPE))
    mean, std = (torch.tensor(vae.config[f"latents_{k}"]).view(1, -1, 1, 1, 1) for k in ("mean", "std"))
    with torch.no_grad():
        raw = vae.encode(pixels).latent_dist.mode()
        torch.testing.assert_close(latents, (raw - mean) / std)
        back = vae.decode(raw, return_dict=False)[0].clamp(-1, 1)
    torch.testing.assert_close(backbone.decode_latents(latents), back, rtol=1e-4, atol=1e-5)


def test_a_shorter_prompt_in_a_batch_is_what_it_is_alone(backbone: Any) -> None:
    """Also after a method has written where its padding stands."""
    entry = find_method("synmotion")
    method = entry.attach(backbone, entry.config(), PROMPTS[0])
    x, s = noisy(backbone, batch=1)
    short = backbone.encode_prompt([PROMPTS[1]])
    both = stack_text([short, backbone.encode_prompt([PROMPTS[0]])])
    first = padded_row(both, 0)
    try:
        shake(method.groups)
        with torch.no_grad():
            alone = backbone.predict(x, s, method.condition(short))
            torch.testing.assert_close(backbone.predict(x, s, method.condition(first)), alone, rtol=1e-3, atol=1e-4)
    finally:
        method.detach()


def test_roles_cover_the_words(backbone: Any) -> None:
    text = backbone.encode_prompt(PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        ids = backbone.pipe.tokenizer(prompt.text).input_ids
        for mask, words in ((text.subject_tokens, prompt.subject), (text.motion_tokens, prompt.motion)):
            chosen = [i for i, on in zip(ids, mask[row].tolist(), strict=False) if on]
            assert backbone.pipe.tokenizer.decode(chosen).strip() == words


def test_what_it_cannot_do_is_refused(backbone: Any) -> None:
    with pytest.raises(PromptError, match=r"is \d+ tokens long; wan2.1-t2v-1.3b reads at most 512"):
        backbone.encode_prompt([Prompt(subject="a cat", motion="waves " * 600)])
    with pytest.raises(IncompatibleError, match=r"wan2.1-t2v-1.3b takes no first image"):
        backbone.encode_image(torch.zeros(1, 3, 32, 48), 9)


@pytest.mark.parametrize("name", ["synmotion", "lora"])
def test_methods_learn_and_leave_no_trace(backbone: Any, name: str) -> None:
    entry = find_method(name)
    x, s = noisy(backbone)
    text = backbone.encode_prompt(PROMPTS)
    with torch.no_grad():
        before = backbone.predict(x, s, plain(text))
    method = entry.attach(backbone, entry.config(), PROMPTS[0])
    try:
        with torch.no_grad():
            fresh = backbone.predict(x, s, method.condition(text))
        torch.testing.assert_close(fresh, before, rtol=1e-4, atol=1e-5)
        backbone.predict(x, s, method.condition(text)).square().mean().backward()
        assert any(p.grad is not None and p.grad.any() for p in method.groups["adapters"])
    finally:
        method.detach()
    with torch.no_grad():
        assert torch.equal(backbone.predict(x, s, plain(text)), before)
