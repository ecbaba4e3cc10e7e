"""What every row of SPECS owes: the contract of interfaces.Backbone, on the backbones that can be loaded here."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from synmotion_core.backbones import SPECS, find_spec, load_backbone
from synmotion_core.errors import ConfigError, MissingError, PromptError, ShapeError
from synmotion_core.generation import default_sampler, denoise
from synmotion_core.types import Prompt, VideoShape, stack_text
from tests.models import PROMPTS, noisy, padded_row, plain, puppet_backbone


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_is_whole(name: str) -> None:
    spec = find_spec(name)
    assert spec.name == name
    assert spec.licence
    assert spec.knows
    assert all(count > 0 for count in spec.parameters.values())
    spec.check_shape(spec.default_shape)
    assert (spec.guidance_scale_2 is None) == (spec.boundary_ratio is None), "two experts, or one"


def test_an_unknown_backbone_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'puppet-hunyuan'"):
        load_backbone("puppet-hunyuann")


@pytest.mark.parametrize(("frames", "hint"), [(50, "use 49 or 53"), (16, "use 13 or 17"), (2, "use 5")])
def test_frames_that_do_not_fit_name_their_neighbours(frames: int, hint: str) -> None:
    with pytest.raises(ShapeError, match=hint):
        find_spec("puppet-hunyuan").check_shape(VideoShape(num_frames=frames, height=64, width=64, fps=8))


def test_a_size_that_does_not_fit_names_its_neighbours() -> None:
    with pytest.raises(ShapeError, match="got 60: use 48 or 64"):
        find_spec("puppet-hunyuan").check_shape(VideoShape(num_frames=17, height=60, width=64, fps=8))


@pytest.mark.parametrize("name", SPECS)
def test_the_largest_video_of_a_row_is_a_video_of_it_and_no_larger_one(name: str) -> None:
    spec = find_spec(name)
    most = spec.shape(num_frames=spec.max_frames)
    assert most.num_frames >= 2 * spec.default_shape.num_frames
    assert spec.max_pixels >= 2 * spec.default_shape.height * spec.default_shape.width
    with pytest.raises(ShapeError, match=f"got {10**30}: use {spec.max_frames}$"):
        spec.shape(num_frames=10**30)
    with pytest.raises(ShapeError, match=f"at most {spec.max_frames}, got {spec.max_frames + 1}"):
        spec.shape(num_frames=spec.max_frames + 1)


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(("height", "width"), [(65536, 65536), (10**30, 1), (1, 10**30), (9600, 5408), (16, 2**20)])
def test_a_picture_too_large_for_a_row_names_one_that_is_not(name: str, height: int, width: int) -> None:
    spec = find_spec(name)
    with pytest.raises(ShapeError, match=f"at most {spec.max_pixels}, got {height} times {width}: use ") as refusal:
        spec.shape(height=height, width=width)
    named = [int(side) for side in str(refusal.value).rpartition("use ")[2].split(" times ")]
    assert spec.shape(height=named[0], width=named[1])
    assert named[0] * named[1] > spec.max_pixels / 2, "the largest of about that aspect"


def test_a_picture_of_a_rows_most_pixels_is_taken() -> None:
    assert find_spec("puppet-hunyuan").shape(height=64, width=256).width == 256
    with pytest.raises(ShapeError, match="at most 16384, got 80 times 256: use 64 times 192"):
        find_spec("puppet-hunyuan").shape(height=80, width=256)


def test_parameters_are_those_of_the_files() -> None:
    backbone = puppet_backbone()
    for part, count in backbone.spec.parameters.items():
        assert sum(p.numel() for p in getattr(backbone.pipe, part).parameters()) == count, part


def test_everything_is_frozen() -> None:
    backbone = puppet_backbone()
    for part in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        module = getattr(backbone.pipe, part)
        assert not module.training
        assert not any(p.requires_grad for p in module.parameters())


def test_video_there_and_back_keeps_its_shape() -> None:
    backbone = puppet_backbone()
    pixels = torch.rand(2, 3, 17, 64, 64) * 2 - 1
    latents = backbone.encode_video(pixels)
    assert latents.shape == (2, *backbone.latent_shape(backbone.spec.default_shape))
    back = backbone.decode_latents(latents)
    assert back.shape == pixels.shape
    assert back.abs().max() <= 1


def test_roles_cover_the_words_and_nothing_else() -> None:
    backbone = puppet_backbone()
    text = backbone.encode_prompt(PROMPTS)
    tokenizer = backbone.pipe.tokenizer
    for row, prompt in enumerate(PROMPTS):
        ids = tokenizer(prompt.text).input_ids
        for mask, words in ((text.subject_tokens, prompt.subject), (text.motion_tokens, prompt.motion)):
            chosen = [i for i, on in zip(ids, mask[row].tolist(), strict=False) if on]
            assert tokenizer.decode(chosen).strip() == words
    assert not (text.subject_tokens & text.motion_tokens).any()
    assert not ((text.subject_tokens | text.motion_tokens) & ~text.prompt_attention_mask.bool()).any()


def test_text_without_roles_has_none() -> None:
    text = puppet_backbone().encode_text(["", "a red cat waves"])
    assert not text.subject_tokens.any()
    assert not text.motion_tokens.any()
    assert text.prompt_attention_mask.sum(1).min() >= 1


def test_a_prompt_encodes_the_same_alone_and_in_a_batch() -> None:
    backbone = puppet_backbone()
    both, alone = backbone.encode_prompt(PROMPTS), backbone.encode_prompt(PROMPTS[1:])
    length = alone.prompt_embeds.shape[1]
    torch.testing.assert_close(both.prompt_embeds[1, :length], alone.prompt_embeds[0], rtol=1e-4, atol=1e-5)


def test_two_prompts_condition_differently() -> None:
    backbone = puppet_backbone()
    x, s = noisy(backbone)
    with torch.no_grad():
        a = backbone.predict(x, s, plain(backbone.encode_prompt([PROMPTS[0]] * 2)))
        b = backbone.predict(x, s, plain(backbone.encode_prompt([PROMPTS[1]] * 2)))
    assert (a - b).abs().mean() > 1e-3


def test_padding_changes_nothing() -> None:
    backbone = puppet_backbone()
    x, s = noisy(backbone, batch=1)
    short = backbone.encode_prompt([PROMPTS[1]])
    padded = stack_text([short, backbone.encode_prompt([PROMPTS[0]])])
    first = padded_row(padded, 0)
    with torch.no_grad():
        torch.testing.assert_close(
            backbone.predict(x, s, plain(short)), backbone.predict(x, s, plain(first)), rtol=1e-3, atol=1e-4
        )


def test_a_prompt_that_is_too_long_is_refused_by_its_length() -> None:
    with pytest.raises(PromptError, match=r"is \d+ tokens long; puppet-hunyuan reads at most 32"):
        puppet_backbone().encode_prompt([Prompt(subject="a cat", motion="waves " * 30)])


@pytest.mark.parametrize("name", ["puppet-hunyuan", "hunyuanvideo-i2v", "hunyuanvideo-1.5", "wan2.1-t2v-1.3b"])
def test_what_is_read_whole_is_not_told(name: str) -> None:
    from tests.backbones.tiny import tiny_backbone

    backbone = puppet_backbone() if name == "puppet-hunyuan" else tiny_backbone(name)
    assert list(backbone.unread([prompt.text for prompt in PROMPTS])) == []


def test_attention_targets_never_touch_the_token_refiner() -> None:
    import re

    backbone = puppet_backbone()
    names = [n for n, m in backbone.denoiser.named_modules() if isinstance(m, torch.nn.Linear)]
    hit = [n for n in names if re.fullmatch(backbone.attention_targets("qkv"), n)]
    assert len(hit) == 2 * 6 + 12 * 3  # two dual blocks with a text side, twelve single ones
    assert all(n.startswith(("transformer_blocks.", "single_transformer_blocks.")) for n in hit)


def test_our_sampler_is_the_stock_pipelines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same noise, prompt and settings through HunyuanVideoPipeline.__call__, told the levels unrounded."""
    backbone = puppet_backbone()
    scheduler = backbone.pipe.scheduler
    set_timesteps = scheduler.set_timesteps

    def unrounded(*args: object, sigmas: object = None, **given: object) -> None:
        set_timesteps(*args, sigmas=sigmas, **given)
        assert (scheduler.timesteps - 1000 * scheduler.sigmas[:-1]).abs().max() <= 1  # nothing but rounding is undone
        scheduler.timesteps = 1000 * scheduler.sigmas[:-1]

    monkeypatch.setattr(scheduler, "set_timesteps", unrounded)
    plain = default_sampler(backbone, num_inference_steps=4, guidance_until=0.0, eta=0.0)
    sampler = dataclasses.replace(plain, mixed_precision="no")
    prompt = PROMPTS[0]
    noise = torch.randn((1, *backbone.latent_shape(sampler.shape)), generator=torch.Generator().manual_seed(5))
    *_, ours = denoise(backbone, None, [prompt], [5], sampler)
    stock = backbone.pipe(
        prompt=prompt.text,
        negative_prompt="",
        height=64,
        width=64,
        num_frames=17,
        num_inference_steps=4,
        latents=noise,
        true_cfg_scale=sampler.guidance_scale,
        output_type="latent",
        max_sequence_length=32,
        prompt_template={"template": "{}", "crop_start": 0},
    ).frames
    error = (ours - stock).abs().mean() / stock.abs().mean()
    assert error < 1e-3, f"relative error {error:.2e}"  # padding and batch differ
    with torch.no_grad():
        other = next(iter(denoise(backbone, None, [PROMPTS[1]], [6], sampler)))
    assert (other - stock).abs().mean() / stock.abs().mean() > 0.3  # the tolerance above means something


def test_files_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    from synmotion_core.backbones import load_backbone, loading

    monkeypatch.setattr(loading, "ASSETS", tmp_path)
    with pytest.raises(MissingError, match="puppet-hunyuan is missing from assets"):
        load_backbone("puppet-hunyuan")


@pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if spec.repo.startswith("assets:")])
def test_what_ships_loads_without_a_warning_of_its_types(name: str) -> None:
    """diffusers knows no autoencoder of ours; that of another part's type it would still say."""
    import logging

    from diffusers.utils import logging as diffusers_logging

    from synmotion_core.backbones import load_backbone

    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    before = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_warning()
    diffusers_logging.add_handler(handler)
    try:
        load_backbone(name, device="cpu")
    finally:
        diffusers_logging.remove_handler(handler)
        diffusers_logging.set_verbosity(before)
    assert not [text for text in said if "Expected types" in text]
