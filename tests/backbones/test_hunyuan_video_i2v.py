"""The image-to-video row at a tiny size: the picture goes through the text encoder and into the first latent frame."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video_image2video import DEFAULT_PROMPT_TEMPLATE
from PIL import Image

from synmotion_core import backbones, run
from synmotion_core.adapters.file import read_info
from synmotion_core.backbones import find_spec
from synmotion_core.backbones.attention import attention_for
from synmotion_core.clips import video
from synmotion_core.config import ClipSource, GenerateRun, TrainRun
from synmotion_core.errors import ConfigError, IncompatibleError, PromptError
from synmotion_core.generation import default_sampler, denoise
from synmotion_core.interfaces import Backbone
from synmotion_core.precision import PLAIN
from synmotion_core.training.settings import TrainConfig
from synmotion_core.types import Condition, Prompt, Sampled
from tests.backbones.tiny import SHAPE, tiny_backbone, tiny_spec
from tests.models import PROMPTS

INPUTS = ("hidden_states", "encoder_hidden_states", "encoder_attention_mask", "pooled_projections", "guidance")
NAME = "hunyuanvideo-i2v"
RNG = np.random.default_rng(3)
PICTURE = RNG.integers(0, 256, (SHAPE.height, SHAPE.width, 3), dtype=np.uint8)
OTHER = RNG.integers(0, 256, (SHAPE.height, SHAPE.width, 3), dtype=np.uint8)


def pixels(*pictures: np.ndarray) -> torch.Tensor:
    return torch.stack([torch.from_numpy(p).permute(2, 0, 1).float() / 127.5 - 1 for p in pictures])


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny_backbone(NAME)


def stock(backbone: Any, prompt: str, noise: torch.Tensor, **given: Any) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    calls: list[dict[str, Any]] = []

    def record(module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        calls.append({**kwargs, "output": output[0]})

    hook = backbone.pipe.transformer.register_forward_hook(record, with_kwargs=True)
    try:
        with torch.no_grad(), attention_for(torch.device("cpu")):
            latents = backbone.pipe(
                image=Image.fromarray(PICTURE), prompt=prompt, height=SHAPE.height, width=SHAPE.width,
                num_frames=SHAPE.num_frames, num_inference_steps=3, latents=noise, output_type="latent",
                prompt_template=backbone.spec.options["prompt_template"], guidance_scale=6.0, **given,
            ).frames  # fmt: skip
    finally:
        hook.remove()
    return latents, calls


def start(backbone: Backbone) -> torch.Tensor:
    return torch.randn((1, *backbone.latent_shape(SHAPE)), generator=torch.Generator().manual_seed(5))


def test_the_row_says_what_diffusers_says() -> None:
    spec = find_spec(NAME)
    assert spec.options["prompt_template"] == DEFAULT_PROMPT_TEMPLATE
    assert spec.modes == ("i2v",)
    assert spec.parameters["text_encoder"] > find_spec("hunyuanvideo").parameters["text_encoder"]


def test_predict_is_the_stock_pipelines_call_bit_for_bit(backbone: Any) -> None:
    _, calls = stock(backbone, PROMPTS[0].text, start(backbone))
    assert len(calls) == 3
    image = backbone.encode_image(pixels(PICTURE), SHAPE.num_frames)
    for call in calls:
        condition = Condition(
            prompt_embeds=call["encoder_hidden_states"],
            prompt_attention_mask=call["encoder_attention_mask"],
            pooled_prompt_embeds=call["pooled_projections"],
            image_latents=image,
            guidance=6.0,
        )
        sent: dict[str, Any] = {}

        def record(module: Any, args: Any, kwargs: dict[str, Any], sent: dict[str, Any] = sent) -> None:
            sent.update(kwargs)

        hook = backbone.denoiser.register_forward_pre_hook(record, with_kwargs=True)
        noisy = call["hidden_states"].clone()
        noisy[:, :, 0] = 9.0  # what a sampler holds there is not looked at
        with torch.no_grad():
            ours = backbone.predict(noisy, call["timestep"] / 1000, condition)
        hook.remove()
        for name in INPUTS:
            assert torch.equal(sent[name], call[name]), name
        torch.testing.assert_close(ours[:, :, 1:], call["output"][:, :, 1:], rtol=1e-5, atol=1e-6)
        assert not ours[:, :, :1].any()


@pytest.mark.parametrize("prompt", PROMPTS, ids=["long", "short"])
def test_the_text_is_the_stock_pipelines_without_its_padding(backbone: Any, prompt: Prompt) -> None:
    _, (call, *_) = stock(backbone, prompt.text, start(backbone))
    ours = backbone.encode_prompt([prompt], pixels(PICTURE))
    length = int(call["encoder_attention_mask"].sum())
    assert ours.prompt_embeds.shape[1] == length
    assert ours.prompt_attention_mask.all()
    torch.testing.assert_close(ours.prompt_embeds, call["encoder_hidden_states"][:, :length], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("true_guidance", [1.0, 3.0])
def test_generation_is_the_stock_pipelines(backbone: Any, true_guidance: float) -> None:
    negative = {"negative_prompt": "", "true_cfg_scale": true_guidance} if true_guidance != 1 else {}
    theirs, calls = stock(backbone, PROMPTS[0].text, start(backbone), **negative)
    sampler = dataclasses.replace(default_sampler(backbone, guidance_scale=true_guidance), mixed_precision="no")
    *_, ours = denoise(backbone, None, PROMPTS[:1], [5], sampler, pixels(PICTURE))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-4)
    assert len(calls) == (3 if true_guidance == 1 else 6)


def test_roles_are_those_of_the_words_behind_the_picture(backbone: Any) -> None:
    text = backbone.encode_prompt(PROMPTS, pixels(PICTURE, OTHER))
    tokenizer, template = backbone.pipe.tokenizer, backbone.spec.options["prompt_template"]
    seen = -(-template["image_emb_len"] // backbone.spec.options["image_embed_interleave"])
    end = tokenizer.convert_tokens_to_ids("<|end_header_id|>")
    for row, prompt in enumerate(PROMPTS):
        ids = tokenizer(template["template"].format(prompt.text)).input_ids
        last = len(ids) - 1 - ids[::-1].index(end) + 1
        ids = [0] * seen + ids[template["crop_start"] : last - 4] + ids[last:]
        assert len(ids) == int(text.prompt_attention_mask[row].sum())
        for mask, words in ((text.subject_tokens, prompt.subject), (text.motion_tokens, prompt.motion)):
            chosen = [i for i, on in zip(ids, mask[row].tolist(), strict=False) if on]
            assert tokenizer.decode(chosen).strip() == words
    assert not text.subject_tokens[:, :seen].any()


def test_each_prompt_is_read_with_its_own_picture_and_black_is_the_default(backbone: Any) -> None:
    both = backbone.encode_prompt([PROMPTS[1]] * 2, pixels(PICTURE, OTHER))
    alone = backbone.encode_prompt([PROMPTS[1]], pixels(OTHER))
    torch.testing.assert_close(both.prompt_embeds[1], alone.prompt_embeds[0], rtol=1e-4, atol=1e-5)
    assert (both.prompt_embeds[0] - both.prompt_embeds[1]).abs().max() > 1e-3
    black = backbone.encode_prompt([PROMPTS[1]], torch.full((1, 3, SHAPE.height, SHAPE.width), -1.0))
    torch.testing.assert_close(backbone.encode_prompt([PROMPTS[1]]).prompt_embeds, black.prompt_embeds)


def test_marks_of_the_encoder_are_no_words(backbone: Any) -> None:
    for mark in ("<image>", "<|end_header_id|>"):
        with pytest.raises(PromptError, match="a mark of the text encoder's own: leave it out"):
            backbone.encode_prompt([Prompt(subject="a cat", motion=f"waves {mark}")])


def test_other_weights_under_this_row_are_refused(backbone: Any) -> None:
    text_to_video: Any = tiny_backbone("hunyuanvideo")
    with pytest.raises(ConfigError, match=r"hunyuanvideo: this transformer is of the form 'token_replace'"):
        type(backbone)(text_to_video.spec, backbone.pipe, torch.device("cpu"), "x")


def test_from_files_to_an_adapter_to_a_video(backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """train and generate as the command line runs them, on the tiny weights."""
    monkeypatch.setitem(backbones.SPECS, NAME, tiny_spec(NAME))
    monkeypatch.setitem(run.pool._pool, (NAME, PLAIN), backbone)
    clip, picture = tmp_path / "clip.mp4", tmp_path / "picture.png"
    frames = np.stack([np.roll(PICTURE, 3 * k, axis=1) for k in range(SHAPE.num_frames)])
    video.write(clip, frames, SHAPE.fps)
    Image.fromarray(OTHER).save(picture)
    config = TrainRun(
        name="rolls", clips=(ClipSource(path=clip, subject="a person", motion="rolls"),), backbone=NAME, mode="i2v",
        train=TrainConfig(num_steps=2, batch_size=1, sample_subjects=("a cat",), sample_images=(picture,)),
    )  # fmt: skip
    asked = dataclasses.replace(config, method_config={"alpha": 0.75})
    with pytest.raises(IncompatibleError, match=r"it cannot draw the subject priors of synmotion: train without them"):
        list(run.train(asked, tmp_path / "job", cache=tmp_path / "cache", cancel=threading.Event()))
    config = dataclasses.replace(config, method_config={"rank": 2, "refiner_width": 16})
    *_, finished = run.train(config, tmp_path / "job", cache=tmp_path / "cache", cancel=threading.Event())
    assert finished.path is not None
    info = read_info(finished.path)
    assert (info.backbone, info.mode, info.revision) == (NAME, "i2v", find_spec(NAME).revision)
    wanted = GenerateRun(subjects=("a cat",), images=(picture,), motion="rolls", backbone=NAME, adapter=finished.path)
    made = [e for e in run.generate(wanted, tmp_path / "out", cancel=threading.Event()) if isinstance(e, Sampled)]
    facts = video.probe(made[0].path)
    assert (facts.num_frames, facts.width, facts.height) == (SHAPE.num_frames, SHAPE.width, SHAPE.height)
    with pytest.raises(IncompatibleError, match="hunyuanvideo-i2v makes no videos from text alone"):
        list(run.generate(dataclasses.replace(wanted, images=()), tmp_path, cancel=threading.Event()))
    text_only = dataclasses.replace(config, mode="t2v", train=TrainConfig(num_steps=1))
    with pytest.raises(IncompatibleError, match="makes no videos from text alone"):
        list(run.train(text_only, tmp_path / "job2", cache=tmp_path / "cache", cancel=threading.Event()))
