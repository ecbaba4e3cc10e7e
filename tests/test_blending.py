"""Two motions in one video: weights, pairs of methods on one denoiser, and the run from files to files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from synmotion_core import pace, run
from synmotion_core.adapters.file import AdapterInfo, load_adapter, save_adapter
from synmotion_core.backbones import SPECS, find_spec
from synmotion_core.blending import frame_weights
from synmotion_core.clips import video
from synmotion_core.config import BlendWith, GenerateRun
from synmotion_core.errors import AdapterError, ConfigError
from synmotion_core.generation import Second, default_sampler, denoise, read_texts
from synmotion_core.interfaces import why_incompatible
from synmotion_core.methods import METHODS, find_method
from synmotion_core.planning.report import generation_line
from synmotion_core.planning.work import work_of
from synmotion_core.run.adapters import read_adapter, read_second
from synmotion_core.stacking import SECOND, attaching
from synmotion_core.types import Prompt, Sampled, VideoShape, Warned
from synmotion_core.workspace import Workspace
from tests.backbones.tiny import tiny_backbone
from tests.models import PROMPTS, puppet_backbone, shake

ADAPTERS = Path(__file__).resolve().parents[1] / "assets" / "adapters"
SQUAT, SPIN = ADAPTERS / "squat.safetensors", ADAPTERS / "spin.safetensors"
OTHER_WORDS = tuple(dataclasses.replace(prompt, motion="jumps, bobs") for prompt in PROMPTS)
BACKBONES = ("puppet-hunyuan", "zeroscope-v2-576w")  # a transformer that ships, a U-Net at a tiny size


def pairs_of(backbone: str) -> list[tuple[str, str, str]]:
    """Each method that fits as the first and as the second of two; some with themselves."""
    fit = [m for m, entry in METHODS.items() if why_incompatible(SPECS[backbone], m, entry.requires) is None]
    alike = [m for m in ("synmotion", "textual_inversion", "separation") if m in fit]
    return [(a, b, backbone) for a, b in [*pairwise([*fit, fit[0]]), *zip(alike, alike, strict=True)]]


PAIRS = [pair for backbone in BACKBONES for pair in pairs_of(backbone)]


@pytest.mark.parametrize("over", ["mixed", "sequence"])
@pytest.mark.parametrize("frames", [1, 2, 5, 31])
def test_a_share_of_none_or_all_is_exact_and_more_is_more(over: Any, frames: int) -> None:
    assert frame_weights(0, over, frames) == (0.0,) * frames
    assert frame_weights(1, over, frames) == (1.0,) * frames
    means = [sum(frame_weights(share / 20, over, frames)) for share in range(21)]
    assert all(a <= b for a, b in pairwise(means))
    assert means[10] == pytest.approx(frames / 2)


def test_a_sequence_begins_with_one_motion_and_ends_with_the_other() -> None:
    weights = frame_weights(0.5, "sequence", 21)
    assert all(a <= b for a, b in pairwise(weights))
    assert weights[:8] == (0.0,) * 8
    assert weights[-8:] == (1.0,) * 8
    assert 4 <= sum(0 < w < 1 for w in weights) <= 6, "a quarter of the video"
    late, soon = (frame_weights(share, "sequence", 21) for share in (0.25, 0.75))
    assert sum(late) < sum(weights) < sum(soon)


# ------------------------------------------------------------------------------------------------ on one denoiser


def attach(backbone: Any, name: str, shaken: int, prompt: Prompt) -> Any:
    entry = find_method(name)
    known = {field.name for field in dataclasses.fields(entry.config)}
    method = entry.attach(backbone, entry.config(**({"rank": 2} if "rank" in known else {})), prompt)
    shake(dict(method.groups), seed=shaken)
    return method


def quick(backbone: Any, **given: Any) -> Any:
    spec = backbone.spec
    small = {"shape": VideoShape(num_frames=9, height=32, width=32, fps=8)} if spec.name == "puppet-hunyuan" else {}
    config = default_sampler(backbone, num_inference_steps=given.pop("steps", 2), eta=0.0, guidance_until=0.0)
    return dataclasses.replace(config, **{**small, "mixed_precision": "no", **given})


def drawn(backbone: Any, method: Any, config: Any, other: Any = None, prompts: Any = PROMPTS, **blend: Any) -> Any:
    images = blend.pop("images", None)
    more = None
    if other is not None:
        texts = [read_texts(backbone, OTHER_WORDS, config, images)]
        more = Second(method=other, texts=texts, name="jumps", **{"share": 0.5, "over": "mixed", **blend})
    *_, latents = denoise(backbone, method, prompts, (1, 2), config, images, second=more)
    return latents


@pytest.fixture(params=PAIRS, ids="-".join)
def pair(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_any_two_methods_share_a_denoiser_and_the_ends_are_exact(pair: Any) -> None:
    """What each draws alone, attached alone, is what a share of 0 and of 1 draw; and nothing of them stays."""
    one, other, name = pair
    backbone = puppet_backbone() if name == "puppet-hunyuan" else tiny_backbone(name)
    config = quick(backbone)
    names, base = [n for n, _ in backbone.denoiser.named_modules()], drawn(backbone, None, config)
    alone = []
    for method, shaken, words in ((one, 1, PROMPTS), (other, 2, OTHER_WORDS)):
        attached = attach(backbone, method, shaken, words[0])
        alone.append(drawn(backbone, attached, config, prompts=words))
        attached.detach()
    first = attach(backbone, one, 1, PROMPTS[0])
    with attaching(SECOND):
        beside = attach(backbone, other, 2, OTHER_WORDS[0])
    try:
        assert torch.equal(drawn(backbone, first, config, beside, share=0.0), alone[0])
        assert torch.equal(drawn(backbone, first, config, beside, share=1.0), alone[1])
        half = drawn(backbone, first, config, beside)
        assert not any(torch.equal(half, whole) for whole in (*alone, base))
        assert torch.equal(drawn(backbone, first, config, beside, share=0.0), alone[0]), "nothing of it has stayed"
    finally:
        beside.detach()
        first.detach()
    assert torch.equal(drawn(backbone, None, config), base)
    assert [n for n, _ in backbone.denoiser.named_modules()] == names


@pytest.fixture
def two() -> Iterator[Any]:
    backbone = puppet_backbone()
    first = attach(backbone, "synmotion", 1, PROMPTS[0])
    with attaching(SECOND):
        other = attach(backbone, "lora", 2, OTHER_WORDS[0])
    yield backbone, first, other
    first.detach()  # in this order, too
    other.detach()
    assert "peft" not in type(backbone.denoiser.transformer_blocks[0].attn.to_q).__module__


@pytest.mark.parametrize("guidance", [1.0, 4.0])
@pytest.mark.parametrize("mode", ["t2v", "i2v"])
@pytest.mark.parametrize(("share", "over"), [(0.25, "mixed"), (0.5, "sequence"), (0.8, "sequence")])
def test_a_step_is_the_weighted_mean_of_both(two: Any, share: float, over: Any, mode: str, guidance: float) -> None:
    """One step along the path is linear in the velocity, so that (24) can be seen in its latents."""
    backbone, first, other = two
    config = quick(backbone, steps=1, guidance_scale=guidance)
    draws = torch.Generator().manual_seed(3)
    images = None if mode == "t2v" else torch.rand(2, 3, 32, 32, generator=draws) * 2 - 1
    a, b, both = (drawn(backbone, first, config, other, share=w, over=over, images=images) for w in (0.0, 1.0, share))
    w = torch.tensor(frame_weights(share, over, a.shape[2])).view(-1, 1, 1)
    assert not torch.allclose(a, b, atol=1e-2)
    torch.testing.assert_close(both, (1 - w) * a + w * b, rtol=1e-3, atol=1e-4)


def test_one_at_a_time_works_and_both_end_with_adapter_until(two: Any) -> None:
    """In layers that both have, and in those that only one has (lora's output projections)."""
    backbone, first, other = two
    asked: list[tuple[bool, str, bool]] = []
    layer = next(m for m in first.lora.layers.values() if "motion_2" in m.lora_A)
    alone = next(m for m in other.lora.layers.values() if "motion" not in m.lora_A)
    predict = backbone.predict

    def watched(*args: Any) -> Any:
        asked.append((layer.disable_adapters, layer.active_adapters[0], alone.disable_adapters))
        return predict(*args)

    with mock.patch.object(backbone, "predict", watched):
        drawn(backbone, first, quick(backbone, steps=4, adapter_until=0.5), other)
    assert asked[:4] == [(False, "motion", True), (False, "motion_2", False)] * 2
    assert [(both, own) for both, _, own in asked[4:]] == [(True, True)] * 4


def test_a_second_adapter_by_mistake_is_refused_as_ever(two: Any) -> None:
    with pytest.raises(ConfigError, match="carries an adapter already"):
        attach(two[0], "lora", 3, PROMPTS[0])


def test_layers_by_name_are_found_beneath_another_motions() -> None:
    """As adapters have them that were made elsewhere."""
    from synmotion_core.methods.lora import LoraConfig, LoraEntry

    backbone = puppet_backbone()
    first = attach(backbone, "lora", 1, PROMPTS[0])
    named = LoraConfig(modules={next(iter(first.lora.layers)): (2, 2.0)})
    with attaching(SECOND):
        other = LoraEntry().attach(backbone, named, PROMPTS[0])
    assert len(other.lora.layers) == 1
    other.detach()
    first.detach()


# ------------------------------------------------------------------------------------------------ from files to files


def blended(folder: Path, **given: Any) -> list[Any]:
    settings = {"subjects": ("a red cat",), "motion": "squats", "adapter": SQUAT, "num_inference_steps": 2, **given}
    return list(run.generate(GenerateRun(**settings), folder))


def frames_of(events: list[Any]) -> list[bytes]:
    return [video.read(e.path)[0].tobytes() for e in events if isinstance(e, Sampled)]


def test_the_ends_of_a_blend_are_the_adapters_alone(tmp_path: Path) -> None:
    squats = frames_of(blended(tmp_path / "a", compare=True))
    spins = frames_of(blended(tmp_path / "b", adapter=SPIN, motion="spins"))
    for over in ("mixed", "sequence"):
        none = blended(tmp_path / over, blend=BlendWith(adapter=SPIN, share=0.0, over=over), compare=True)
        assert frames_of(none) == squats
        whole = blended(tmp_path / over, blend=BlendWith(adapter=SPIN, share=1.0, over=over))
        assert frames_of(whole) == spins
    half = blended(tmp_path / "half", blend=BlendWith(adapter=SPIN), compare=True)
    video_of, base = frames_of(half)
    assert video_of not in (*squats, *spins)
    assert base == squats[1], "the base alone is beside it as ever"
    assert [e.path.stem[-9:] for e in half if isinstance(e, Sampled)] == ["mixed-0.5", "eed0-base"]


def test_files_of_other_blends_are_other_files() -> None:
    made = [Second(method=None, texts=(), share=s, over="mixed", name="spins") for s in (0.25, 0.5)]  # type: ignore
    assert len({each.in_names for each in made}) == 2


def test_what_is_to_be_known_of_the_second_one_is_said_with_its_name(tmp_path: Path) -> None:
    state, info = load_adapter(SPIN, find_spec("puppet-hunyuan"))
    other = tmp_path / "turn.safetensors"
    save_adapter(other, state, dataclasses.replace(info, fingerprint="puppet-hunyuan@0123"))
    said = [e.message for e in blended(tmp_path, blend=BlendWith(adapter=other)) if isinstance(e, Warned)]
    assert [m for m in said if m.startswith("turn was trained on puppet-hunyuan@0123")]
    assert not [m for m in said if m.startswith("this adapter")]


def info_of(**given: Any) -> AdapterInfo:
    values = {"backbone": "puppet-hunyuan", "repo": "x/y", "revision": None, "fingerprint": "", "licence": "x"}
    values |= {"method": "lora", "method_config": {}, "subject": "a person", "motion": "waves", "steps": 3}
    return AdapterInfo(**{**values, **given})


def test_adapters_of_two_backbones_are_refused_by_name(tmp_path: Path) -> None:
    other = tmp_path / "wave.safetensors"
    save_adapter(other, {"transformer.x": torch.zeros(1)}, info_of(backbone="wan2.1-t2v-1.3b"))
    with pytest.raises(AdapterError, match=r"squat\.safetensors and wave\.safetensors .*puppet-hunyuan and wan2\.1"):
        blended(tmp_path / "out", blend=BlendWith(adapter=other))


def test_adapters_of_other_experts_are_refused_by_name(tmp_path: Path) -> None:
    spec = find_spec("wan2.2-t2v-a14b")
    kinds = {"both": ("high_noise", "low_noise"), "high": ("high_noise",), "too": ("high_noise", "low_noise")}
    for name, experts in kinds.items():
        tensors = {f"transformer.{expert}.x.lora_A.weight": torch.zeros(1) for expert in experts}
        save_adapter(tmp_path / f"{name}.safetensors", tensors, info_of(backbone=spec.name))
    first = read_adapter(tmp_path / "both.safetensors", spec, {})
    assert read_second(first, BlendWith(adapter=tmp_path / "too.safetensors"), spec).path.stem == "too"
    with pytest.raises(AdapterError, match=r"both\.safetensors and high\.safetensors .*high_noise and low_noise and h"):
        read_second(first, BlendWith(adapter=tmp_path / "high.safetensors"), spec)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"adapter": None}, "a blend with spin.safetensors needs an adapter"),
        ({"adapter": SPIN}, "spin.safetensors cannot be blended with itself"),
        ({"step_cache": "taylorseer:2"}, "step_cache taylorseer:2 takes up a step before of one motion"),
        ({"strength": 0.0}, "a blend has no effect at strength 0"),
        ({"adapter_until": 0.0}, "a blend has no effect at adapter_until 0"),
    ],
)
def test_what_does_not_go_with_a_blend(given: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        GenerateRun(**{"subjects": ("x",), "motion": "y", "adapter": SQUAT, "blend": BlendWith(adapter=SPIN), **given})
    with pytest.raises(ConfigError, match=r"share of a blend must be between 0 and 1, got 1\.5"):
        BlendWith(adapter=SPIN, share=1.5)


def test_it_takes_about_twice_the_time(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    plain = GenerateRun(subjects=("a cat",), motion="squats", adapter=SQUAT)
    both = dataclasses.replace(plain, blend=BlendWith(adapter=SPIN))
    usual = find_spec("puppet-hunyuan").options["seconds_a_video"]
    assert pace.recall(workspace, both) is None
    known, doubled = (float(generation_line(one, None).split("about ")[1].split(" s")[0]) for one in (plain, both))
    assert (known, doubled) == (pytest.approx(usual, abs=0.1), pytest.approx(2 * usual, abs=0.1))
    pace.remember(workspace, plain, 3.0)
    assert pace.recall(workspace, both) == 6.0
    assert pace.recall(workspace, dataclasses.replace(both, compare=True)) == 4.5, "the base beside it takes no longer"
    assert pace.recall(workspace, dataclasses.replace(plain, blend=BlendWith(adapter=SPIN, share=1.0))) == 3.0
    pace.remember(workspace, both, 5.5)
    assert (pace.recall(workspace, both), pace.recall(workspace, plain)) == (5.5, 3.0)
    assert work_of(both).adapter_parameters > work_of(plain).adapter_parameters
