"""MotionDirector and what Separate Motion from Appearance adds, on a tiny U-Net of the real class."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from synmotion_core.diffusion import debiased, variance_scale
from synmotion_core.errors import ConfigError, IncompatibleError, ShapeError
from synmotion_core.interfaces import Highway, SkipScale
from synmotion_core.methods import find_method
from synmotion_core.methods.highway import AppearanceHighway
from synmotion_core.methods.motion_director import MotionDirectorConfig
from synmotion_core.methods.separation import HIGHWAYS, SeparationConfig
from tests.backbones.tiny import tiny_backbone
from tests.models import PROMPTS, noisy, plain, puppet_backbone, shake

NAME = "zeroscope-v2-576w"


@pytest.fixture(scope="module")
def backbone() -> Any:
    return tiny_backbone(NAME)


@pytest.fixture
def separation(backbone: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    method = find_method("separation").attach(backbone, SeparationConfig(**request.param), PROMPTS[0], 2)
    yield method
    method.detach()


def call(backbone: Any) -> tuple[Tensor, Tensor, Tensor]:
    """What the U-Net is given: noisy latents of variance 1, timesteps, text."""
    x, s = noisy(backbone)
    return x, backbone.diffusion.timesteps(s), backbone.encode_prompt(PROMPTS).prompt_embeds


def by_hand(
    unet: Any, x: Tensor, timesteps: Tensor, text: Tensor, starts: str, scaled: dict[int, dict[int, float]]
) -> Tensor:
    """UNet3DConditionModel.forward written out, with skips that start where `starts` says: "no", "all" or "last two".

    scaled: factors on what an up block is given, by its number and the residual's.
    """
    batch, _, frames, height, width = x.shape
    emb = unet.time_embedding(unet.time_proj(timesteps)).repeat_interleave(frames, dim=0)
    text = text.repeat_interleave(frames, dim=0)
    h = unet.conv_in(x.permute(0, 2, 1, 3, 4).reshape(batch * frames, -1, height, width))
    h = unet.transformer_in(h, num_frames=frames, return_dict=False)[0]
    skips = [h]
    last = max(i for i, block in enumerate(unet.down_blocks) if hasattr(block, "attentions"))
    for i, block in enumerate(unet.down_blocks):
        for j, (resnet, temp_conv) in enumerate(zip(block.resnets, block.temp_convs, strict=True)):
            h = temp_conv(resnet(h, emb), num_frames=frames)
            if hasattr(block, "attentions"):
                h = spatial = block.attentions[j](h, encoder_hidden_states=text, return_dict=False)[0]
                h = block.temp_attentions[j](h, num_frames=frames, return_dict=False)[0]
                early = starts == "all" or (starts == "last two" and i == last)
                skips.append(spatial if early else h)
            else:
                skips.append(h)
        for down in block.downsamplers or ():
            h = down(h)
            skips.append(h)
    mid = unet.mid_block
    h = mid.temp_convs[0](mid.resnets[0](h, emb), num_frames=frames)
    h = mid.attentions[0](h, encoder_hidden_states=text, return_dict=False)[0]
    h = mid.temp_attentions[0](h, num_frames=frames, return_dict=False)[0]
    h = mid.temp_convs[1](mid.resnets[1](h, emb), num_frames=frames)
    for i, block in enumerate(unet.up_blocks):
        given = skips[-len(block.resnets) :]
        skips = skips[: -len(block.resnets)]
        given = [skip * scaled.get(i, {}).get(entry, 1.0) for entry, skip in enumerate(given)]
        for j, (resnet, temp_conv) in enumerate(zip(block.resnets, block.temp_convs, strict=True)):
            h = temp_conv(resnet(torch.cat([h, given.pop()], dim=1), emb), num_frames=frames)
            if hasattr(block, "attentions"):
                h = block.attentions[j](h, encoder_hidden_states=text, return_dict=False)[0]
                h = block.temp_attentions[j](h, num_frames=frames, return_dict=False)[0]
        for up in block.upsamplers or ():
            h = up(h, skips[-1].shape[2:] if skips else None)
    h = unet.conv_out(unet.conv_act(unet.conv_norm_out(h)))
    return h.reshape(batch, frames, -1, height, width).permute(0, 2, 1, 3, 4)


def run(backbone: Any) -> Tensor:
    x, timesteps, text = call(backbone)
    with torch.no_grad():
        return backbone.denoiser(x, timesteps, encoder_hidden_states=text, return_dict=False)[0]


def test_the_hand_written_pass_is_the_class_own(backbone: Any) -> None:
    with torch.no_grad():
        assert torch.equal(by_hand(backbone.denoiser, *call(backbone), "no", {}), run(backbone))


RELEASED = {1: {0: 1.1, 1: 1.1, 2: 1.1}, 2: {2: 1.1}}


@pytest.mark.parametrize(
    ("separation", "starts", "scaled"),
    [
        ({"highway": "paper", "rank": 4}, "all", {}),
        ({"highway": "released", "rank": 4, "temporal": "ko"}, "last two", RELEASED),
        ({"highway": "off", "rank": 4}, "no", {}),
    ],
    indirect=["separation"],
    ids=["paper", "released", "off"],
)
def test_the_highway_is_the_pass_written_by_hand(
    separation: Any, starts: str, scaled: dict[int, dict[int, float]], backbone: Any
) -> None:
    """With an adapter that does something, bit for bit; and it is a highway only while videos are drawn."""
    shake(separation.groups)
    separation.set_strength(1.0)
    with torch.no_grad():
        drawn = run(backbone)
        assert torch.equal(drawn, by_hand(backbone.denoiser, *call(backbone), starts, scaled))
        plainly = by_hand(backbone.denoiser, *call(backbone), "no", {})
        assert torch.equal(drawn, plainly) == (starts == "no")
        separation.begin(next(p for k in range(50) if (p := separation.phase(0, k)).name == "temporal alone"))
        assert torch.equal(run(backbone), by_hand(backbone.denoiser, *call(backbone), "no", {}))


@pytest.mark.parametrize("separation", [{"highway": "pretrained", "rank": 4}], indirect=True)
def test_from_the_pretrained_attention_it_is_the_identity_without_an_adapter(separation: Any, backbone: Any) -> None:
    """Skips carry what the temporal attention makes without LoRA; of an adapter of zeros that is what they carried."""
    separation.set_strength(0.0)
    base = run(backbone)
    separation.set_strength(1.0)
    assert torch.equal(run(backbone), base)
    shake(separation.groups)
    separation.set_strength(1.0)
    changed = run(backbone)
    assert not torch.equal(changed, base)
    with torch.no_grad():
        without = by_hand(backbone.denoiser, *call(backbone), "no", {})
    assert not torch.equal(changed, without), "the skips are others"
    assert all(not layer._disable_adapters for layer in separation.lora.layers.values())


@pytest.mark.parametrize("separation", [{"highway": kind, "rank": 2} for kind in HIGHWAYS], indirect=True, ids=HIGHWAYS)
def test_gradients_of_the_adapter_flow_through_the_highway(separation: Any, backbone: Any) -> None:
    shake(separation.groups)
    separation.set_strength(1.0)
    x, timesteps, text = call(backbone)
    backbone.denoiser(x, timesteps, encoder_hidden_states=text, return_dict=False)[0].square().mean().backward()
    grads = [p.grad for p in separation.groups["temporal"]]
    assert all(g is not None and g.any() for g in grads), "of the down blocks' layers as well"


def test_taking_the_hooks_off_restores_the_base(backbone: Any) -> None:
    base = run(backbone)
    highway = AppearanceHighway(backbone.denoiser, backbone.highway("released"))
    assert not torch.equal(run(backbone), base)
    highway.remove()
    assert torch.equal(run(backbone), base)
    scaled = AppearanceHighway(
        backbone.denoiser, Highway(skips=(), scales=(SkipScale(block="up_blocks.0", entry=0, factor=2.0),))
    )
    assert not torch.equal(run(backbone), base)
    scaled.remove()
    assert torch.equal(run(backbone), base)


def test_which_skips_there_are(backbone: Any) -> None:
    paper, released = backbone.highway("paper"), backbone.highway("released")
    assert [(s.block, s.entry) for s in paper.skips] == [(f"down_blocks.{i}", j) for i in range(3) for j in range(2)]
    assert paper.scales == ()
    assert [s.spatial for s in released.skips] == ["down_blocks.2.attentions.0", "down_blocks.2.attentions.1"]
    assert {(s.block, s.entry) for s in released.scales} == {
        ("up_blocks.1", 0), ("up_blocks.1", 1), ("up_blocks.1", 2), ("up_blocks.2", 2)
    }  # fmt: skip


# ------------------------------------------------------------------------------------------------ the two paths


@pytest.fixture
def director(backbone: Any) -> Iterator[Any]:
    method = find_method("motion_director").attach(backbone, MotionDirectorConfig(rank=2), PROMPTS[0], 3)
    yield method
    method.detach()


def test_steps_come_in_the_published_proportion(director: Any) -> None:
    phases = [director.phase(0, step) for step in range(6000)]
    count = Counter(phase.name for phase in phases)
    for name, share in (("spatial", 0.8 / 1.8), ("temporal", 0.8 / 1.8), ("temporal alone", 0.2 / 1.8)):
        assert abs(count[name] / 6000 - share) < 4 * math.sqrt(share * (1 - share) / 6000), name
    for phase in phases:
        spatial = phase.name == "spatial"
        assert phase.frames == ("one" if spatial else "all")
        assert phase.loss == ("plain" if spatial else "debiased")
        assert phase.trains == {f"spatial_{phase.clip}" if spatial else "temporal"}
    clips = Counter(phase.clip for phase in phases)
    assert set(clips) == {0, 1, 2}
    assert min(clips.values()) > 1800


def test_a_clips_looks_are_its_own_and_gone_when_videos_are_drawn(director: Any, backbone: Any) -> None:
    x, s = noisy(backbone)
    text = plain(backbone.encode_prompt(PROMPTS))

    def drawn(frames: slice = slice(None)) -> Tensor:
        with torch.no_grad():
            return backbone.predict(x[:, :, frames], s, text)

    director.set_strength(0.0)
    base, picture = drawn(), drawn(slice(0, 1))
    shake({name: group for name, group in director.groups.items() if name != "temporal"})
    director.set_strength(1.0)
    assert torch.equal(drawn(), base), "the temporal LoRA is zero still, and of the looks nothing is left"
    phases = {(p.name, p.clip): p for p in (director.phase(0, step) for step in range(200))}
    seen = []
    for clip in range(3):
        director.begin(phases["temporal", clip])
        seen.append(drawn())
        director.begin(phases["spatial", clip])
        seen.append(drawn(slice(0, 1)))
        director.begin(phases["temporal alone", clip])
        assert torch.equal(drawn(), base)
    assert all(not torch.equal(made, base) for made in seen[::2])
    assert all(not torch.equal(made, picture) for made in seen[1::2])
    assert not torch.equal(seen[0], seen[2])


def test_the_file_holds_the_motion_alone(director: Any) -> None:
    assert set(director.groups) == {"temporal", "spatial_0", "spatial_1", "spatial_2"}
    keys = list(director.state_dict())
    assert len(keys) == len(director.groups["temporal"])
    assert all("temp_attentions" in key or key.startswith("unet.transformer_in.") for key in keys)


def test_what_is_debiased_is_how_frames_differ() -> None:
    """Equal errors in all frames count little, (sqrt 2 - 1)^2; a video's anchor is itself compared with itself."""
    error = torch.randn(2, 3, 1, 4, 4, generator=torch.Generator().manual_seed(0)).expand(2, 3, 5, 4, 4)
    torch.testing.assert_close(debiased(error, 2), (2**0.5 - 1) * error)
    moving = torch.randn(2, 3, 5, 4, 4, generator=torch.Generator().manual_seed(1))
    for anchor in range(5):
        found = debiased(moving, anchor)
        torch.testing.assert_close(found[:, :, anchor], (2**0.5 - 1) * moving[:, :, anchor])
        other = (anchor + 1) % 5
        torch.testing.assert_close(found[:, :, other], 2**0.5 * moving[:, :, other] - moving[:, :, anchor])
    torch.testing.assert_close(debiased(moving, 1) - debiased(error, 1), debiased(moving - error, 1))


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"temporal must be letters of 'qkvof', each once, got 'kk'"):
        SeparationConfig(temporal="kk")
    with pytest.raises(ConfigError, match="highway must be one of off, paper, released, pretrained, got 'on'"):
        SeparationConfig(highway="on")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="rank must be between 1 and 512, got 0"):
        MotionDirectorConfig(rank=0)
    few = "rank times the clips is at most 8192, .* got 512 times 200: use a rank of 40 or 16 clips"
    with pytest.raises(ConfigError, match=few):
        find_method("separation").num_parameters(SeparationConfig(rank=512), 64, 64, clips=200)
    with pytest.raises(ConfigError, match=few):
        find_method("motion_director").attach(tiny_backbone(NAME), MotionDirectorConfig(rank=512), PROMPTS[0], 200)
    assert find_method("motion_director").num_parameters(MotionDirectorConfig(), 64, 64, clips=200)
    with pytest.raises(ShapeError, match="layers must be letters of 'qkvof', got 'x'"):
        tiny_backbone(NAME).layer_targets("temporal", "x")  # type: ignore[attr-defined]
    with pytest.raises(ShapeError, match="layers must be letters of 'qkvo', got 'f'"):
        tiny_backbone(NAME).layer_targets("text", "f")  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="coarse must be between 0"):
        find_method("new_move").config(coarse=2.0)


def test_new_move_learns_a_word_at_coarse_levels_with_priors_beside_it(backbone: Any) -> None:
    entry = find_method("new_move")
    method = entry.attach(backbone, entry.config(rank=2), PROMPTS[0], 3)
    try:
        phases = [method.phase(0, step) for step in range(2000)]
        assert {phase.coarse for phase in phases} == {0.5}
        assert abs(sum(phase.draws == "prior" for phase in phases) / 2000 - 0.5) < 4 * 0.5 / math.sqrt(2000)
        keys = {key.split(".lora_")[0] for key in method.state_dict()}
        text = {key for key in keys if ".attentions." in key}
        assert all(key.endswith(("attn2.to_k", "attn2.to_v")) for key in text)
        assert len(text) == 2 * 16
        assert len(keys - text) == 10 * 17
    finally:
        method.detach()
    assert entry.reword(entry.config(), PROMPTS[1]).motion == "sks squats"
    assert entry.draws_priors(entry.config())
    assert not entry.draws_priors(entry.config(prior_loss_weight=0.0))


def test_transformers_are_refused() -> None:
    for name in ("separation", "motion_director", "new_move"):
        entry = find_method(name)
        with pytest.raises(
            IncompatibleError, match="needs temporal_attention, which backbone 'puppet-hunyuan' does not"
        ):
            entry.attach(puppet_backbone(), entry.config(), PROMPTS[0])


def test_a_level_is_the_timestep_that_it_came_from(backbone: Any) -> None:
    levels = backbone.diffusion.levels
    assert backbone.diffusion.timesteps(levels).tolist() == list(range(1000))
    between = (levels[:-1] + levels[1:]) / 2
    low = backbone.diffusion.timesteps(between - 1e-6)
    assert (low <= torch.arange(1, 1000)).all()
    assert variance_scale(torch.tensor([0.5])).item() == pytest.approx(2**0.5)
