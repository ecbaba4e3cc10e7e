"""HunyuanVideo's own row at a tiny size: what we hand to the denoiser is what the stock pipeline hands to it."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
import torch
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE

from synmotion_core.backbones import find_spec, load_backbone
from synmotion_core.backbones.attention import attention_for
from synmotion_core.errors import IncompatibleError, MissingError, PromptError
from synmotion_core.generation import default_sampler, denoise
from synmotion_core.interfaces import Backbone
from synmotion_core.methods import find_method
from synmotion_core.types import Condition, Prompt
from tests.backbones.tiny import SHAPE, tiny_backbone
from tests.models import PROMPTS, noisy, plain

INPUTS = ("hidden_states", "encoder_hidden_states", "encoder_attention_mask", "pooled_projections", "guidance")
NAME = "hunyuanvideo"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny_backbone(NAME)


def stock(backbone: Any, prompt: str, noise: torch.Tensor, **given: Any) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """What the stock pipeline makes of it, and every call of its denoiser."""
    calls: list[dict[str, Any]] = []

    def record(module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        calls.append({**kwargs, "output": output[0]})

    hook = backbone.pipe.transformer.register_forward_hook(record, with_kwargs=True)
    try:
        with torch.no_grad(), attention_for(torch.device("cpu")):
            latents = backbone.pipe(
                prompt=prompt, height=SHAPE.height, width=SHAPE.width, num_frames=SHAPE.num_frames,
                num_inference_steps=3, latents=noise, output_type="latent",
                prompt_template=backbone.spec.options["prompt_template"], **given,
            ).frames  # fmt: skip
    finally:
        hook.remove()
    return latents, calls


def start(backbone: Backbone, seed: int = 5) -> torch.Tensor:
    return torch.randn((1, *backbone.latent_shape(SHAPE)), generator=torch.Generator().manual_seed(seed))


def test_the_row_says_what_diffusers_says() -> None:
    spec = find_spec(NAME)
    assert spec.options["prompt_template"] == DEFAULT_PROMPT_TEMPLATE
    assert spec.revision is not None
    assert len(spec.revision) == 40
    with pytest.raises(MissingError, match="hunyuanvideo needs a CUDA GPU and none is there: use puppet-hunyuan"):
        load_backbone(NAME, device="cpu")


def test_predict_is_the_stock_pipelines_call_bit_for_bit(backbone: Any) -> None:
    _, calls = stock(backbone, PROMPTS[0].text, start(backbone), guidance_scale=6.0)
    assert len(calls) == 3
    for call in calls:
        condition = Condition(
            prompt_embeds=call["encoder_hidden_states"],
            prompt_attention_mask=call["encoder_attention_mask"],
            pooled_prompt_embeds=call["pooled_projections"],
            guidance=6.0,
        )
        sent: dict[str, Any] = {}

        def record(module: Any, args: Any, kwargs: dict[str, Any], sent: dict[str, Any] = sent) -> None:
            sent.update(kwargs)

        hook = backbone.denoiser.register_forward_pre_hook(record, with_kwargs=True)
        with torch.no_grad():
            ours = backbone.predict(call["hidden_states"], call["timestep"] / 1000, condition)
        hook.remove()
        for name in INPUTS:
            assert torch.equal(sent[name], call[name]), name
        torch.testing.assert_close(sent["timestep"], call["timestep"], rtol=1e-6, atol=0)  # by way of sigma
        torch.testing.assert_close(ours, call["output"], rtol=1e-5, atol=1e-6)


def test_the_text_is_the_stock_pipelines_without_its_padding(backbone: Any) -> None:
    _, (call, *_) = stock(backbone, PROMPTS[0].text, start(backbone))
    ours = backbone.encode_prompt([PROMPTS[0]])
    length = int(call["encoder_attention_mask"].sum())
    assert ours.prompt_embeds.shape[1] == length
    assert ours.prompt_attention_mask.all()
    torch.testing.assert_close(ours.prompt_embeds, call["encoder_hidden_states"][:, :length], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.pooled_prompt_embeds, call["pooled_projections"], rtol=0, atol=0)


@pytest.mark.parametrize("true_guidance", [1.0, 3.0])
def test_generation_is_the_stock_pipelines(backbone: Any, true_guidance: float) -> None:
    """Embedded guidance, shift and, where it is on, true guidance with an empty negative prompt."""
    prompt, noise = PROMPTS[0], start(backbone)
    negative = {"negative_prompt": "", "true_cfg_scale": true_guidance} if true_guidance != 1 else {}
    theirs, calls = stock(backbone, prompt.text, noise, guidance_scale=6.0, **negative)
    sampler = dataclasses.replace(default_sampler(backbone, guidance_scale=true_guidance), mixed_precision="no")
    assert sampler.embedded_guidance == 6.0
    *_, ours = denoise(backbone, None, [prompt], [5], sampler)
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert len(calls) == (3 if true_guidance == 1 else 6)
    other = dataclasses.replace(sampler, embedded_guidance=1.0)
    *_, without = denoise(backbone, None, [prompt], [5], other)
    assert (without - theirs).abs().max() > 1e-3, "embedded guidance is an input"


def test_flow_shift_is_the_schedulers(backbone: Any) -> None:
    own, moved = (backbone.solver(10, SHAPE, flow_shift=shift).sigmas for shift in (None, 17.0))
    even = torch.linspace(1, 0, 11)[:-1]
    torch.testing.assert_close(own[:-1], 7 * even / (1 + 6 * even))
    torch.testing.assert_close(moved[:-1], 17 * even / (1 + 16 * even))
    assert own[-1] == moved[-1] == 0


def test_the_autoencoder_is_the_pipelines(backbone: Any) -> None:
    vae = backbone.pipe.vae
    pixels = torch.rand(1, 3, 9, 32, 48) * 2 - 1
    latents = backbone.encode_video(pixels)
    with torch.no_grad():
        assert torch.equal(latents, vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor)
        theirs = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0].clamp(-1, 1)
    assert latents.shape == (1, *backbone.latent_shape(SHAPE))
    assert torch.equal(backbone.decode_latents(latents), theirs)
    image = backbone.encode_image(pixels[:, :, 0], 9)
    with torch.no_grad():
        assert torch.equal(image, vae.encode(pixels[:, :, :1]).latent_dist.mode() * vae.config.scaling_factor)
    assert (image - latents[:, :, :1]).abs().max() > 1e-3, "its norms look over time: a first image is encoded alone"


def test_roles_survive_the_template(backbone: Any) -> None:
    text = backbone.encode_prompt(PROMPTS)
    tokenizer, template = backbone.pipe.tokenizer, backbone.spec.options["prompt_template"]
    for row, prompt in enumerate(PROMPTS):
        ids = tokenizer(template["template"].format(prompt.text)).input_ids[template["crop_start"] :]
        for mask, words in ((text.subject_tokens, prompt.subject), (text.motion_tokens, prompt.motion)):
            chosen = [i for i, on in zip(ids, mask[row].tolist(), strict=False) if on]
            assert tokenizer.decode(chosen).strip() == words


def test_words_of_the_template_have_no_role(backbone: Any) -> None:
    """A subject that the template names, too."""
    text = backbone.encode_prompt([Prompt(subject="the video", motion="actions")])
    assert 1 <= int(text.subject_tokens.sum()) < 12
    assert not text.subject_tokens[:, -1].any()


def test_a_prompt_that_is_too_long_is_refused_by_its_length(backbone: Any) -> None:
    with pytest.raises(PromptError, match=r"is \d+ tokens long; hunyuanvideo reads at most 256"):
        backbone.encode_prompt([Prompt(subject="a cat", motion="waves " * 300)])


LONG = Prompt(
    subject="a red cat", motion="waves both arms slowly " * 5 + "and then", setting="sits down on a chair " * 8
)


def test_a_prompt_that_clip_cannot_read_whole_is_the_stock_pipelines(backbone: Any) -> None:
    """Its second encoder gets what it takes of it, the first one all of it, and what is left out is named."""
    ours = backbone.encode_prompt([LONG])
    embeds, pooled, mask = backbone.pipe.encode_prompt(
        prompt=LONG.text, prompt_template=backbone.spec.options["prompt_template"], max_sequence_length=256
    )
    length = int(mask.sum())
    assert length > 77
    assert ours.prompt_embeds.shape[1] == length
    assert torch.equal(ours.pooled_prompt_embeds, pooled)
    padded = backbone.pipe.encode_prompt(
        prompt=LONG.text, prompt_template=backbone.spec.options["prompt_template"], max_sequence_length=length
    )[0]
    assert torch.equal(ours.prompt_embeds, padded), "the stock's own, padded to the prompt alone"
    torch.testing.assert_close(ours.prompt_embeds, embeds[:, :length], rtol=1e-4, atol=1e-5)
    (said,) = backbone.unread([LONG.text, "a cat rolls", LONG.text])
    head, rest = re.fullmatch(
        r"the second text encoder of hunyuanvideo (.*) and not the end of the prompt: “(.*)”; the first one .*", said
    ).groups()
    assert "reads 77 tokens" in head
    read = LONG.text.removesuffix(rest)
    assert read + rest == LONG.text
    assert len(rest) > 10
    whole = backbone.pipe.tokenizer_2(LONG.text, return_offsets_mapping=True)
    seen = [end for _, end in whole["offset_mapping"][:76]]  # the 77th is its mark of an end
    assert read.rstrip() == LONG.text[: seen[-1]]
    another_end = LONG.text[: len(read) + 5] + "walks upside down"
    assert torch.equal(backbone.encode_text([another_end]).pooled_prompt_embeds, pooled), "CLIP does not see it"
    assert not torch.equal(backbone.encode_text([read[: len(read) // 2]]).pooled_prompt_embeds, pooled)


def test_clips_length_with_its_marks_is_read_whole(backbone: Any) -> None:
    tokenizer, text = backbone.pipe.tokenizer_2, "a cat"
    while len(tokenizer(text).input_ids) < 77:
        text += " a"
    assert len(tokenizer(text).input_ids) == 77
    assert backbone.unread([text, ""]) == []
    assert backbone.unread([text + " a"]) != []


def test_a_first_image_is_refused(backbone: Any) -> None:
    x, s = noisy(backbone)
    condition = dataclasses.replace(plain(backbone.encode_prompt(PROMPTS)), image_latents=x[:, :, :1])
    with pytest.raises(IncompatibleError, match="hunyuanvideo takes no first image"):
        backbone.predict(x, s, condition)


def test_embedded_guidance_where_there_is_none() -> None:
    from tests.models import puppet_backbone

    with pytest.raises(IncompatibleError, match="puppet-hunyuan takes no embedded guidance"):
        default_sampler(puppet_backbone(), embedded_guidance=6.0)


@pytest.mark.parametrize("name", ["synmotion", "lora"])
def test_methods_attach_and_leave_no_trace(backbone: Any, name: str) -> None:
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
