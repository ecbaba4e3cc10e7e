"""HunyuanVideo-1.5's rows at a tiny size: what we hand to the denoiser is what the stock pipelines hand to it."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import HunyuanVideo15ImageToVideoPipeline, HunyuanVideo15Pipeline
from PIL import Image

from synmotion_core import backbones, run
from synmotion_core.adapters.file import read_info
from synmotion_core.backbones import find_spec, load_backbone
from synmotion_core.backbones.attention import attention_for
from synmotion_core.clips import video
from synmotion_core.config import ClipSource, GenerateRun, TrainRun
from synmotion_core.errors import ConfigError, IncompatibleError, MissingError, PromptError
from synmotion_core.generation import default_sampler, denoise
from synmotion_core.methods import find_method
from synmotion_core.precision import PLAIN
from synmotion_core.storage import write_tensors
from synmotion_core.training.cache import EncodingCache, content_key
from synmotion_core.training.settings import PriorConfig, TrainConfig
from synmotion_core.types import Condition, Prompt, Sampled, TextCondition, stack_text
from tests.backbones.tiny import SHAPE, tiny_backbone, tiny_spec
from tests.models import PROMPTS, noisy, padded_row, plain, puppet_backbone, shake

T2V, I2V = "hunyuanvideo-1.5", "hunyuanvideo-1.5-i2v"
INPUTS = (
    *("hidden_states", "encoder_hidden_states", "encoder_attention_mask", "encoder_hidden_states_2"),
    *("encoder_attention_mask_2", "image_embeds"),
)
QUOTED = Prompt(subject='a cat with a sign "hello"', motion="waves", setting='and a flag, "bye", and “hello”, "bye"')
RNG = np.random.default_rng(3)
PICTURE, OTHER = (RNG.integers(0, 256, (SHAPE.height, SHAPE.width, 3), dtype=np.uint8) for _ in range(2))


def pixels(*pictures: np.ndarray) -> torch.Tensor:
    return torch.stack([torch.from_numpy(p).permute(2, 0, 1).float() / 127.5 - 1 for p in pictures])


@pytest.fixture(params=[T2V, I2V])
def backbone(request: pytest.FixtureRequest) -> Any:
    return tiny_backbone(request.param)


def first(backbone: Any, *pictures: np.ndarray) -> torch.Tensor | None:
    """The first images that this row begins with, if any."""
    return pixels(*pictures) if "i2v" in backbone.spec.modes else None


def encode(backbone: Any, *prompts: Prompt) -> TextCondition:
    pictures = [PICTURE, OTHER] * len(prompts)
    return backbone.encode_prompt(prompts, first(backbone, *pictures[: len(prompts)]))


def ready(backbone: Any, condition: Condition) -> Condition:
    """With the pictures' latents where the row wants them."""
    if "t2v" in backbone.spec.modes:
        return condition
    pictures = ([PICTURE, OTHER] * len(condition.prompt_embeds))[: len(condition.prompt_embeds)]
    return dataclasses.replace(condition, image_latents=backbone.encode_image(pixels(*pictures), SHAPE.num_frames))


def stock(
    backbone: Any, prompt: str, noise: torch.Tensor, guidance: float = 6.0, negative: str | None = None
) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """What the stock pipeline makes of it, and every call of its denoiser."""
    calls: list[dict[str, Any]] = []

    def record(module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        calls.append({**kwargs, "output": output[0]})

    own: dict[str, Any] = {"height": SHAPE.height, "width": SHAPE.width}
    if "i2v" in backbone.spec.modes:
        own = {"image": Image.fromarray(PICTURE)}
    pipe = backbone.pipe
    guider, hook = pipe.guider, pipe.transformer.register_forward_hook(record, with_kwargs=True)
    pipe.guider = guider.new(guidance_scale=guidance)
    try:
        with torch.no_grad(), attention_for(torch.device("cpu")):
            latents = pipe(
                prompt=prompt, negative_prompt=negative, num_frames=SHAPE.num_frames, num_inference_steps=3,
                latents=noise, output_type="latent", **own,
            ).frames  # fmt: skip
    finally:
        hook.remove()
        pipe.guider = guider
    return latents, calls


def start(backbone: Any) -> torch.Tensor:
    return torch.randn((1, *backbone.latent_shape(SHAPE)), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", [T2V, I2V])
def test_a_row_says_what_diffusers_says(name: str) -> None:
    spec = find_spec(name)
    family = HunyuanVideo15Pipeline if name == T2V else HunyuanVideo15ImageToVideoPipeline
    own = inspect.signature(family._get_mllm_prompt_embeds).parameters
    assert spec.options["system_message"] == own["system_message"].default == tiny_backbone(name).pipe.system_message
    assert spec.options["crop_start"] == own["crop_start"].default == 108
    assert spec.max_prompt_tokens == own["tokenizer_max_length"].default == 1000
    assert spec.modes == ("t2v" if name == T2V else "i2v",)
    assert (spec.guidance_scale, spec.negative_prompt, spec.image_frames) == (6.0, "", 0)
    with pytest.raises(MissingError, match=f"{name} needs a CUDA GPU and none is there: use puppet-hunyuan"):
        load_backbone(name, device="cpu")


def test_everything_is_frozen(backbone: Any) -> None:
    assert ("image_encoder" in backbone.spec.parameters) == ("i2v" in backbone.spec.modes)
    for part in backbone.spec.parameters:
        module = getattr(backbone.pipe, part)
        assert not module.training, part
        assert not any(p.requires_grad for p in module.parameters()), part


@pytest.mark.parametrize("prompt", [PROMPTS[0], QUOTED], ids=["plain", "quoted"])
def test_predict_is_the_stock_pipelines_call_bit_for_bit(backbone: Any, prompt: Prompt) -> None:
    _, calls = stock(backbone, prompt.text, start(backbone))
    assert len(calls) == 6
    for call in calls:
        own = Condition(
            prompt_embeds=call["encoder_hidden_states"],
            prompt_attention_mask=call["encoder_attention_mask"],
            pooled_prompt_embeds=None,
            prompt_embeds_2=call["encoder_hidden_states_2"],
            prompt_attention_mask_2=call["encoder_attention_mask_2"],
            image_embeds=None if "t2v" in backbone.spec.modes else call["image_embeds"],
        )
        sent: dict[str, Any] = {}

        def record(module: Any, args: Any, kwargs: dict[str, Any], sent: dict[str, Any] = sent) -> None:
            sent.update(kwargs)

        hook = backbone.denoiser.register_forward_pre_hook(record, with_kwargs=True)
        with torch.no_grad():
            ours = backbone.predict(call["hidden_states"][:, :4], call["timestep"] / 1000, ready(backbone, own))
        hook.remove()
        assert call.get("timestep_r") is None
        for name in INPUTS:
            assert torch.equal(sent[name], call[name]), name
        torch.testing.assert_close(sent["timestep"], call["timestep"], rtol=1e-6, atol=0)  # by way of sigma
        torch.testing.assert_close(ours, call["output"], rtol=1e-5, atol=1e-6)


def test_text_and_picture_reach_the_denoiser_in_their_own_ways() -> None:
    """A guard on the test above: what it compares is what the family's file says."""
    for name in (T2V, I2V):
        backbone: Any = tiny_backbone(name)
        _, (call, *_) = stock(backbone, PROMPTS[0].text, start(backbone))
        condition, mask = call["hidden_states"][:, 4:8], call["hidden_states"][:, 8:]
        assert not condition[:, :, 1:].any()
        assert not mask[:, :, 1:].any()
        assert condition[:, :, 0].any() == mask[:, :, 0].all() == call["image_embeds"].any() == (name == I2V)


@pytest.mark.parametrize("prompt", [*PROMPTS, QUOTED], ids=["long", "short", "quoted"])
def test_the_text_is_the_stock_pipelines_without_its_padding(backbone: Any, prompt: Prompt) -> None:
    _, calls = stock(backbone, prompt.text, start(backbone))
    null = backbone.encode_text([""], first(backbone, PICTURE))
    for call, ours in ((calls[0], encode(backbone, prompt)), (calls[1], null)):
        for ending in ("", "_2"):
            embeds, mask = (getattr(ours, f"{what}{ending}") for what in ("prompt_embeds", "prompt_attention_mask"))
            theirs, length = call[f"encoder_hidden_states{ending}"], int(call[f"encoder_attention_mask{ending}"].sum())
            assert int(mask.sum()) == length
            assert embeds.shape[1] == max(1, length)
            torch.testing.assert_close(embeds[:, :length], theirs[:, :length], rtol=1e-4, atol=1e-5)
        if "i2v" in backbone.spec.modes:
            assert torch.equal(ours.image_embeds, call["image_embeds"]), "both halves see the picture"
    assert (int(calls[0]["encoder_attention_mask_2"].sum()) > 0) == (prompt is QUOTED)
    assert not calls[1]["encoder_attention_mask_2"].any()


def test_the_second_encoder_reads_what_is_said_in_quotes(backbone: Any) -> None:
    read: list[str] = []

    def record(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        read.append(backbone.pipe.tokenizer_2.batch_decode(kwargs["input_ids"], skip_special_tokens=True)[0])

    hook = backbone.pipe.text_encoder_2.register_forward_pre_hook(record, with_kwargs=True)
    encode(backbone, PROMPTS[0], QUOTED)
    stock(backbone, QUOTED.text, start(backbone))
    hook.remove()
    assert read == ['Text "hello". Text "bye". '] * 2, "ours and theirs"


@pytest.mark.parametrize("prompt", [PROMPTS[0], QUOTED], ids=["plain", "quoted"])
@pytest.mark.parametrize("guidance", [1.0, 6.0])
def test_generation_is_the_stock_pipelines(backbone: Any, guidance: float, prompt: Prompt) -> None:
    """The guider's arithmetic, the scheduler's shift, and what both halves of guidance see."""
    theirs, calls = stock(backbone, prompt.text, start(backbone), guidance)
    assert len(calls) == (3 if guidance == 1 else 6)
    sampler = dataclasses.replace(default_sampler(backbone, guidance_scale=guidance), mixed_precision="no")
    *_, ours = denoise(backbone, None, [prompt], [5], sampler, first(backbone, PICTURE))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    if guidance != 1:
        assert default_sampler(backbone).guidance_scale == guidance
        other = dataclasses.replace(sampler, negative_prompt="a dog")
        *_, ours = denoise(backbone, None, [prompt], [5], other, first(backbone, PICTURE))
        assert (ours - theirs).abs().max() > 1e-3, "the negative prompt is read"
        theirs, _ = stock(backbone, prompt.text, start(backbone), guidance, negative="a dog")
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_the_levels_are_shifted_by_five(backbone: Any) -> None:
    own, moved = (backbone.solver(10, SHAPE, flow_shift=shift).sigmas for shift in (None, 2.0))
    even = torch.linspace(1, 0, 11)[:-1]
    torch.testing.assert_close(own[:-1], 5 * even / (1 + 4 * even))
    torch.testing.assert_close(moved[:-1], 2 * even / (1 + even))
    assert backbone.diffusion.shift == 3, "the official training's"


def test_the_autoencoder_is_the_pipelines() -> None:
    backbone: Any = tiny_backbone(I2V)
    vae, clip = backbone.pipe.vae, torch.rand(1, 3, 9, 32, 48) * 2 - 1
    latents, image = backbone.encode_video(clip), backbone.encode_image(pixels(PICTURE), SHAPE.num_frames)
    with torch.no_grad():
        assert torch.equal(latents, vae.encode(clip).latent_dist.mode() * vae.config.scaling_factor)
        theirs = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0].clamp(-1, 1)
        picture = backbone.pipe._get_image_latents(
            vae, backbone.pipe.video_processor, Image.fromarray(PICTURE), SHAPE.height, SHAPE.width, backbone.device
        )
    assert vae.config.scaling_factor == 1.03682
    assert latents.shape == (1, *backbone.latent_shape(SHAPE))
    assert torch.equal(backbone.decode_latents(latents), theirs)
    assert torch.equal(image, picture)
    assert image.shape == (1, 4, 1, 2, 3)
    two = torch.cat([clip, clip.flip(3)])  # the stock autoencoder cannot without slicing
    both = backbone.encode_video(two)
    for row in (0, 1):
        alone = backbone.encode_video(two[row : row + 1])
        assert torch.equal(both[row], alone[0])
        assert torch.equal(backbone.decode_latents(both)[row], backbone.decode_latents(alone)[0])


def test_roles_survive_the_chat(backbone: Any) -> None:
    prompts = [*PROMPTS, QUOTED, Prompt(subject="the video", motion="actions")]  # the last in the system message, too
    text = encode(backbone, *prompts)
    tokenizer, crop = backbone.pipe.tokenizer, backbone.spec.options["crop_start"]
    for row, prompt in enumerate(prompts):
        chat = [{"role": "system", "content": backbone.pipe.system_message}, {"role": "user", "content": prompt.text}]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True).input_ids[crop:]
        assert len(ids) == int(text.prompt_attention_mask[row].sum())
        for mask, words in ((text.subject_tokens, prompt.subject), (text.motion_tokens, prompt.motion)):
            chosen = [i for i, on in zip(ids, mask[row].tolist(), strict=False) if on]
            assert tokenizer.decode(chosen).strip() == words
    assert not text.subject_tokens[:, -1].any()
    assert not encode(backbone, *PROMPTS).select([1]).motion_tokens[:, -3:].any(), "nor has the chat's end"
    null = backbone.encode_text(["the video actions"])
    assert not (null.subject_tokens | null.motion_tokens).any()


def test_a_template_that_would_be_cut_into_the_prompt_is_refused(
    backbone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**backbone.spec.options, "crop_start": backbone.spec.options["crop_start"] + 1}
    monkeypatch.setattr(backbone, "spec", dataclasses.replace(backbone.spec, options=options))
    with pytest.raises(ConfigError, match=r"the \d+ tokens of the template to cut off reach into the prompt"):
        encode(backbone, PROMPTS[0])


def test_prompts_that_do_not_fit_are_refused(backbone: Any) -> None:
    name = backbone.spec.name
    with pytest.raises(PromptError, match=rf"is \d+ tokens long; {re.escape(name)} reads at most 1000"):
        encode(backbone, Prompt(subject="a cat", motion="waves " * 1100))
    long = "so much to say " * 18
    with pytest.raises(PromptError, match=r"tokens long; the second text encoder of .*, which gets what is in quotes,"):
        encode(backbone, Prompt(subject="a cat", motion=f'says "{long}"'))
    encode(backbone, Prompt(subject="a cat", motion=f"says {long}"))
    for words in ("waves <|im_end|>", "waves <s>", 'says "no<extra_id_3>"'):
        with pytest.raises(PromptError, match="a mark of the text encoder's own: leave it out"):
            encode(backbone, Prompt(subject="a cat", motion=words))


@pytest.mark.parametrize("prompt", [PROMPTS[1], QUOTED], ids=["shorter", "quoted"])
def test_a_prompt_in_a_batch_is_what_it_is_alone(backbone: Any, prompt: Prompt) -> None:
    """Encoded with another or stacked with it, also after a method has written into both."""
    entry = find_method("synmotion")
    x, s = noisy(backbone, batch=1)
    alone, other = encode(backbone, prompt), encode(backbone, PROMPTS[0])
    method = entry.attach(backbone, entry.config(), PROMPTS[0])
    try:
        shake(method.groups)
        with torch.no_grad():
            wanted = backbone.predict(x, s, ready(backbone, method.condition(alone)))
            for batch in (encode(backbone, prompt, PROMPTS[0]), stack_text([alone, other])):
                row = ready(backbone, method.condition(padded_row(batch, 0)))
                torch.testing.assert_close(backbone.predict(x, s, row), wanted, rtol=1e-3, atol=1e-4)
                both = ready(backbone, method.condition(batch))
                ours = backbone.predict(torch.cat([x, x]), torch.cat([s, s]), both)
                torch.testing.assert_close(ours[:1], wanted, rtol=1e-3, atol=1e-4)
                assert (ours[1] - ours[0]).abs().max() > 1e-3
    finally:
        method.detach()


def test_each_prompt_has_its_own_picture_and_black_is_the_default() -> None:
    backbone: Any = tiny_backbone(I2V)
    both, alone = encode(backbone, *PROMPTS), backbone.encode_prompt(PROMPTS[1:], pixels(OTHER))
    torch.testing.assert_close(both.image_embeds[1:], alone.image_embeds, rtol=1e-5, atol=1e-6)
    assert (both.image_embeds[0] - both.image_embeds[1]).abs().max() > 1e-3
    with torch.no_grad():
        theirs = backbone.pipe.encode_image(Image.fromarray(OTHER), 1, backbone.device, backbone.dtype)
    assert torch.equal(alone.image_embeds, theirs)
    black = backbone.encode_prompt(PROMPTS, torch.full((2, 3, SHAPE.height, SHAPE.width), -1.0))
    assert torch.equal(backbone.encode_prompt(PROMPTS).image_embeds, black.image_embeds)
    text_only: Any = tiny_backbone(T2V)
    assert text_only.encode_prompt(PROMPTS, pixels(PICTURE, OTHER)).image_embeds is None


def test_a_first_image_fixes_no_latent_frame() -> None:
    """The first frame is noised, predicted, learnt and stepped as all others are."""
    backbone: Any = tiny_backbone(I2V)
    x, s = noisy(backbone)
    condition = ready(backbone, plain(encode(backbone, *PROMPTS)))
    assert torch.equal(backbone.start_latents(x, condition.image_latents), x)
    with torch.no_grad():
        predicted = backbone.predict(x, s, condition)
        moved = backbone.predict(x + (torch.arange(3) == 0).view(1, 1, 3, 1, 1), s, condition)
    assert (predicted[:, :, 0].abs() > 1e-3).any()
    assert (moved - predicted).abs().max() > 1e-3
    assert backbone.spec.image_frames == 0


def test_text_and_pictures_are_not_mixed_up() -> None:
    text_only, pictured = (tiny_backbone(name) for name in (T2V, I2V))
    x, s = noisy(pictured)
    image = pictured.encode_image(pixels(PICTURE, OTHER), SHAPE.num_frames)
    text = plain(text_only.encode_prompt(PROMPTS))
    with pytest.raises(IncompatibleError, match=r"hunyuanvideo-1\.5 takes no first image"):
        text_only.predict(x, s, dataclasses.replace(text, image_latents=image))
    with pytest.raises(IncompatibleError, match=r"hunyuanvideo-1\.5 takes no first image"):
        text_only.encode_image(pixels(PICTURE), SHAPE.num_frames)
    with pytest.raises(IncompatibleError, match=r"hunyuanvideo-1\.5-i2v makes no videos from text alone"):
        pictured.predict(x, s, text)
    with pytest.raises(ValueError, match="image_latents without image_embeds: encode the prompts with the images"):
        pictured.predict(x, s, dataclasses.replace(text, image_latents=image))


@pytest.mark.parametrize("strange", [{"guidance_scale": 1.0}, {"guidance_rescale": 0.7}, {"stop": 0.5}], ids=str)
def test_weights_that_are_guided_otherwise_are_refused(backbone: Any, strange: dict[str, float]) -> None:
    (name, value), pipe = next(iter(strange.items())), copy.copy(backbone.pipe)
    pipe.guider = pipe.guider.new(**strange)
    with pytest.raises(ConfigError, match=rf"the guider's {name} is {value}, that of hunyuanvideo-community/"):
        type(backbone)(backbone.spec, pipe, torch.device("cpu"), "x")


def test_a_transformer_of_two_timesteps_is_refused(backbone: Any) -> None:
    pipe = copy.copy(backbone.pipe)
    pipe.transformer = type(backbone.denoiser).from_config({**backbone.denoiser.config, "use_meanflow": True})
    with pytest.raises(ConfigError, match="this transformer takes a second timestep"):
        type(backbone)(backbone.spec, pipe, torch.device("cpu"), "x")


def test_a_level_is_told_exactly_also_to_weights_in_bf16(backbone: Any) -> None:
    near = torch.tensor([513.0]), torch.tensor([512.0])
    assert near[0].bfloat16() == near[1].bfloat16(), "as the stock pipelines would tell it"
    wanted = [backbone.denoiser.time_embed(t) for t in near]
    embed = copy.deepcopy(backbone.denoiser.time_embed).bfloat16()
    told = [embed(t) for t in near]
    assert told[0].dtype == torch.bfloat16
    assert not torch.equal(*told)
    torch.testing.assert_close(told[0].float(), wanted[0], rtol=0.02, atol=0.02)


@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_it_runs_in_bf16_as_on_a_gpu(backbone: Any, mixed_precision: str) -> None:
    """Weights as loading.py loads them there, with and without autocast."""
    pipe = copy.deepcopy(backbone.pipe)
    for part in set(backbone.spec.parameters) - {"vae"}:
        getattr(pipe, part).bfloat16()
    half = type(backbone)(backbone.spec, pipe, backbone.device, "x")
    made = []
    for own, precision in ((backbone, "no"), (half, mixed_precision)):
        sampler = dataclasses.replace(default_sampler(own), mixed_precision=precision)
        *_, latents = denoise(own, None, [QUOTED, PROMPTS[1]], [5, 6], sampler, first(own, PICTURE, OTHER))
        made.append(latents)
    assert made[1].dtype == torch.float32
    assert (made[1] - made[0]).abs().mean() / made[0].abs().mean() < 0.03


@pytest.mark.parametrize("name", ["synmotion", "lora"])
def test_methods_learn_and_leave_no_trace(backbone: Any, name: str) -> None:
    entry = find_method(name)
    x, s = noisy(backbone)
    text = encode(backbone, *PROMPTS)
    names = [n for n, _ in backbone.denoiser.named_modules()]
    with torch.no_grad():
        before = backbone.predict(x, s, ready(backbone, plain(text)))
    method = entry.attach(backbone, entry.config(), PROMPTS[0])
    try:
        with torch.no_grad():
            assert torch.equal(backbone.predict(x, s, ready(backbone, method.condition(text))), before)
        shake(method.groups)
        backbone.predict(x, s, ready(backbone, method.condition(text))).square().mean().backward()
        for group, parameters in method.groups.items():
            assert any(p.grad is not None and p.grad.any() for p in parameters), group
        dead = sum(p.grad is None for p in method.groups["adapters"])
        assert dead == (2 if name == "lora" else 0), "all but the last block's text output, which nothing reads"
        method.set_strength(0.0)
        with torch.no_grad():
            assert torch.equal(backbone.predict(x, s, ready(backbone, method.condition(text, 0.0))), before)
    finally:
        method.detach()
    with torch.no_grad():
        assert torch.equal(backbone.predict(x, s, ready(backbone, plain(text))), before)
    assert [n for n, _ in backbone.denoiser.named_modules()] == names


def test_adapters_go_to_the_dual_blocks_alone(backbone: Any) -> None:
    names = [n for n, m in backbone.denoiser.named_modules() if isinstance(m, torch.nn.Linear)]
    hit = [n for n in names if re.fullmatch(backbone.attention_targets("qkvo"), n)]
    assert len(hit) == 2 * 8
    assert all(n.startswith("transformer_blocks.") for n in hit)
    assert any(n.endswith("refiner_blocks.0.attn.to_q") for n in names)


@dataclasses.dataclass
class Named:
    """All that a cache asks of a backbone when everything is there."""

    spec: Any
    fingerprint: str


def assert_same(ours: TextCondition, theirs: TextCondition) -> None:
    for field in dataclasses.fields(TextCondition):
        a, b = getattr(ours, field.name), getattr(theirs, field.name)
        assert (a is None) == (b is None), field.name
        assert a is None or (a == b if field.name == "prompts" else torch.equal(a, b)), field.name


def test_what_is_cached_is_what_was_encoded(backbone: Any, tmp_path: Path) -> None:
    for asked in (backbone, Named(backbone.spec, backbone.fingerprint)):
        for content, picture in (("one", PICTURE), ("two", OTHER)):
            cached = EncodingCache(tmp_path, asked).text(QUOTED, content, lambda picture=picture: pixels(picture))
            assert_same(cached, backbone.encode_prompt([QUOTED], first(backbone, picture)))
    assert len(list((tmp_path / "text").iterdir())) == (1 if "t2v" in backbone.spec.modes else 2)


def test_what_was_cached_before_is_read_as_it_was(tmp_path: Path) -> None:
    """Files of the first form hold no second stream and no picture."""
    backbone = puppet_backbone()
    prompt, wanted = PROMPTS[0], backbone.encode_prompt(PROMPTS[:1])
    own = {
        name: getattr(wanted, name)
        for name in ("prompt_embeds", "prompt_attention_mask", "subject_tokens", "motion_tokens")
    }
    key = content_key(backbone.fingerprint, prompt.subject, prompt.motion, prompt.setting)
    write_tensors(tmp_path / "text" / f"{key}.safetensors", own | {"pooled": wanted.pooled_prompt_embeds}, {})
    asked: Any = Named(backbone.spec, backbone.fingerprint)
    assert_same(EncodingCache(tmp_path, asked).text(prompt), wanted)


@pytest.mark.parametrize("name", [T2V, I2V])
def test_from_files_to_an_adapter_to_a_video(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """train and generate as the command line runs them, on the tiny weights; from text with subject priors."""
    monkeypatch.setitem(backbones.SPECS, name, tiny_spec(name))
    monkeypatch.setitem(run.pool._pool, (name, PLAIN), tiny_backbone(name))
    clip, picture = tmp_path / "clip.mp4", tmp_path / "picture.png"
    video.write(clip, np.stack([np.roll(PICTURE, 3 * k, axis=1) for k in range(SHAPE.num_frames)]), SHAPE.fps)
    Image.fromarray(OTHER).save(picture)
    mode, pictures = ("t2v", ()) if name == T2V else ("i2v", (picture,))
    source = ClipSource(path=clip, subject="a person", motion='rolls, "hi"')
    config = TrainRun(
        name="rolls", clips=(source,), backbone=name, mode=mode,
        train=TrainConfig(num_steps=2, batch_size=1, sample_subjects=("a cat",), sample_images=pictures),
        method_config={"alpha": 0.5 if name == T2V else 1, "rank": 2, "refiner_width": 16},
        priors=PriorConfig(max_videos=1),
    )  # fmt: skip
    *_, finished = run.train(config, tmp_path / "job", cache=tmp_path / "cache", cancel=threading.Event())
    assert finished.path is not None
    info = read_info(finished.path)
    assert (info.backbone, info.mode, info.revision) == (name, mode, find_spec(name).revision)
    wanted = GenerateRun(
        subjects=("a cat",), images=pictures, motion='rolls, "hi"', backbone=name, adapter=finished.path
    )
    made = [e for e in run.generate(wanted, tmp_path / "out", cancel=threading.Event()) if isinstance(e, Sampled)]
    facts = video.probe(made[0].path)
    assert (facts.num_frames, facts.width, facts.height) == (SHAPE.num_frames, SHAPE.width, SHAPE.height)
