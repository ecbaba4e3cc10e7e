"""Image to video on the shipped weights: the stock I2V transformer and pipeline are the oracles."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import HunyuanVideoImageToVideoPipeline, HunyuanVideoTransformer3DModel
from PIL import Image

from synmotion_core.backbones.attention import attention_for
from synmotion_core.backbones.token_replace import token_replace_form
from synmotion_core.errors import IncompatibleError, ShapeError
from synmotion_core.generation import default_sampler, denoise, sample_frames
from synmotion_core.interfaces import Backbone
from synmotion_core.methods import find_method
from synmotion_core.puppets.stage import Scene, render
from synmotion_core.types import Prompt
from tests.models import PROMPTS, noisy, plain, puppet_backbone, shake

RED_CAT = Scene(species="cat", colour="red", background="room", motion="walk", seed=3)


def stock_transformer(backbone: Backbone) -> torch.nn.Module:
    """What diffusers itself makes of these weights when it is told that they are an I2V checkpoint's."""
    own = backbone.denoiser
    config = dict(own.config) | {"image_condition_type": "token_replace"}
    stock = HunyuanVideoTransformer3DModel.from_config(config)
    stock.load_state_dict(own.state_dict())
    return stock.eval()


def first_image(scene: Scene = RED_CAT) -> torch.Tensor:
    """[1, 3, 64, 64] in [-1, 1]."""
    return torch.from_numpy(render(scene).frames[0].copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def test_the_form_shares_every_parameter_and_holds_none_of_its_own() -> None:
    own = puppet_backbone().denoiser
    form = token_replace_form(own)
    theirs = dict(own.named_parameters())
    mine = dict(form.named_parameters())
    assert mine.keys() == theirs.keys()
    assert all(mine[name] is theirs[name] for name in mine)
    assert form.state_dict().keys() == own.state_dict().keys()


def test_predict_with_an_image_is_the_stock_i2v_transformer() -> None:
    backbone = puppet_backbone()
    text = backbone.encode_prompt(PROMPTS)
    x, s = noisy(backbone)
    image = backbone.encode_image(first_image().expand(2, -1, -1, -1), 17)
    with torch.no_grad(), attention_for(torch.device("cpu")):  # the kernel decides the last digits
        ours = backbone.predict(x, s, dataclasses.replace(plain(text), image_latents=image))
        clean = stock_transformer(backbone)(
            hidden_states=torch.cat([image, x[:, :, 1:]], dim=2),
            timestep=s * 1000,
            encoder_hidden_states=text.prompt_embeds,
            encoder_attention_mask=text.prompt_attention_mask,
            pooled_projections=text.pooled_prompt_embeds,
            return_dict=False,
        )[0]
        without = backbone.predict(x, s, plain(text))
    theirs = (x - clean) / s.reshape(-1, 1, 1, 1, 1)
    assert torch.equal(ours[:, :, 1:], theirs[:, :, 1:])
    assert not ours[:, :, :1].any()
    assert (ours - without)[:, :, 1:].abs().mean() > 0.01


def test_what_noisy_latents_hold_in_the_images_place_does_not_matter() -> None:
    backbone = puppet_backbone()
    condition = plain(backbone.encode_prompt(PROMPTS[:1]))
    condition = dataclasses.replace(condition, image_latents=backbone.encode_image(first_image(), 17))
    x, s = noisy(backbone, batch=1)
    other = x.clone()
    other[:, :, :1] = 7.0
    with torch.no_grad():
        assert torch.equal(backbone.predict(x, s, condition), backbone.predict(other, s, condition))


def test_an_image_is_encoded_as_the_first_frame_of_a_video() -> None:
    backbone = puppet_backbone()
    pixels = torch.from_numpy(render(RED_CAT).frames.copy()).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    torch.testing.assert_close(
        backbone.encode_video(pixels)[:, :, :1], backbone.encode_image(pixels[:, :, 0], 17), rtol=0, atol=1e-6
    )
    with pytest.raises(ShapeError, match=r"images must be \[B, 3, H, W\]"):
        backbone.encode_image(pixels, 17)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_sampling_from_an_image_is_the_stock_i2v_pipelines(guidance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same noise, image, prompt and settings through HunyuanVideoImageToVideoPipeline.__call__."""
    backbone = puppet_backbone()
    pipe = backbone.pipe
    stock = HunyuanVideoImageToVideoPipeline(
        text_encoder=pipe.text_encoder,
        tokenizer=pipe.tokenizer,
        transformer=stock_transformer(backbone),
        vae=pipe.vae,
        scheduler=type(pipe.scheduler).from_config(pipe.scheduler.config),
        text_encoder_2=pipe.text_encoder_2,
        tokenizer_2=pipe.tokenizer_2,
        image_processor=None,
    )
    stock.set_progress_bar_config(disable=True)
    set_timesteps = stock.scheduler.set_timesteps

    def unrounded(*args: object, sigmas: object = None, **given: object) -> None:
        set_timesteps(*args, sigmas=sigmas, **given)
        stock.scheduler.timesteps = 1000 * stock.scheduler.sigmas[:-1]

    monkeypatch.setattr(stock.scheduler, "set_timesteps", unrounded)
    sampler = dataclasses.replace(
        default_sampler(backbone, num_inference_steps=4, guidance_until=0.0, eta=0.0, guidance_scale=guidance),
        mixed_precision="no",
    )
    picture = render(RED_CAT).frames[0]
    noise = torch.randn((1, *backbone.latent_shape(sampler.shape)), generator=torch.Generator().manual_seed(5))
    *_, ours = denoise(backbone, None, PROMPTS[:1], [5], sampler, first_image())
    text, null = backbone.encode_prompt(PROMPTS[:1]), backbone.encode_text([""])
    # our text encoder reads no pictures, so the pipeline is given what it read
    theirs = stock(
        image=Image.fromarray(picture),
        prompt_embeds=text.prompt_embeds,
        prompt_attention_mask=text.prompt_attention_mask,
        pooled_prompt_embeds=text.pooled_prompt_embeds,
        negative_prompt_embeds=null.prompt_embeds,
        negative_prompt_attention_mask=null.prompt_attention_mask,
        negative_pooled_prompt_embeds=null.pooled_prompt_embeds,
        height=64,
        width=64,
        num_frames=17,
        num_inference_steps=4,
        latents=noise,
        true_cfg_scale=guidance,
        guidance_scale=1.0,
        output_type="latent",
    ).frames
    error = (ours - theirs).abs().mean() / theirs.abs().mean()
    assert error < 1e-3, f"relative error {error:.2e}"  # padding and batch differ
    assert torch.equal(ours[:, :, :1], backbone.encode_image(first_image(), 17))


def test_the_first_frame_stays_what_the_image_is_with_fresh_noise_too() -> None:
    backbone = puppet_backbone()
    sampler = default_sampler(backbone, num_inference_steps=4)
    assert sampler.eta == 1.0
    made = sample_frames(backbone, None, PROMPTS[:1], [1], sampler, first_image())[0]
    coded = backbone.decode_latents(backbone.encode_image(first_image(), 17))[0, :, 0]
    shown = torch.from_numpy(made[0].copy()).permute(2, 0, 1).float() / 127.5 - 1
    assert (shown - coded).abs().max() < 0.02  # rounding to uint8


def test_an_adapter_works_in_both_modes_and_leaves_no_trace() -> None:
    backbone = puppet_backbone()
    entry = find_method("synmotion")
    condition = dataclasses.replace(
        plain(backbone.encode_prompt(PROMPTS[:1])), image_latents=backbone.encode_image(first_image(), 17)
    )
    x, s = noisy(backbone, batch=1)
    with torch.no_grad():
        before = backbone.predict(x, s, condition)
    method = entry.attach(backbone, entry.config(), Prompt(subject="a person", motion="squats"))
    try:
        shake({"adapters": list(method.groups["adapters"])})
        with torch.no_grad():
            during = backbone.predict(x, s, condition)
    finally:
        method.detach()
    with torch.no_grad():
        assert torch.equal(backbone.predict(x, s, condition), before)
    assert (during - before).abs().mean() > 1e-3


def test_a_mode_that_a_backbone_has_not_is_refused_by_name() -> None:
    backbone = puppet_backbone()
    spec = dataclasses.replace(backbone.spec, modes=("t2v",))
    with pytest.raises(IncompatibleError, match=r"puppet-hunyuan takes no first image \(it has t2v\)"):
        spec.check_mode("i2v")
    with pytest.raises(IncompatibleError, match="makes no videos from text alone"):
        dataclasses.replace(spec, modes=("i2v",)).check_mode("t2v")


def test_one_image_a_prompt() -> None:
    backbone = puppet_backbone()
    with pytest.raises(ValueError, match="got 2 prompts and 1 images"):
        next(iter(denoise(backbone, None, PROMPTS, [1, 2], default_sampler(backbone), first_image())))


def test_an_image_steers_the_video(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = puppet_backbone()
    sampler = default_sampler(backbone, num_inference_steps=4)
    other = dataclasses.replace(RED_CAT, species="robot", colour="blue")
    one, two = (
        sample_frames(backbone, None, [PROMPTS[0]], [1], sampler, first_image(scene))[0] for scene in (RED_CAT, other)
    )
    assert np.abs(one[-1].astype(int) - two[-1]).mean() > 3
