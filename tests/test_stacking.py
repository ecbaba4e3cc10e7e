"""LoRAs beneath everything else: as if the base had learnt them, and nothing of them stays."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from synmotion_core import run
from synmotion_core.adapters.file import AdapterInfo, load_adapter, read_info, save_adapter
from synmotion_core.backbones import SPECS, find_spec, load_backbone
from synmotion_core.clips import video
from synmotion_core.config import BlendWith, GenerateRun, LoraWith
from synmotion_core.errors import AdapterError, ConfigError, IncompatibleError
from synmotion_core.generation import Second, default_sampler, denoise, read_texts
from synmotion_core.interfaces import why_incompatible
from synmotion_core.methods import METHODS, find_method
from synmotion_core.planning.work import work_of
from synmotion_core.precision import weights_of
from synmotion_core.stacking import SECOND, attaching, beneath
from synmotion_core.types import Sampled, VideoShape, Warned
from tests.backbones.tiny import tiny_backbone
from tests.models import PROMPTS, puppet_backbone, shake

SQUAT = Path(__file__).resolve().parents[1] / "assets" / "adapters" / "squat.safetensors"
SPIN = SQUAT.with_name("spin.safetensors")
OVER = [
    (method, name)
    for name in ("puppet-hunyuan", "zeroscope-v2-576w", "wan2.2-t2v-a14b")  # a transformer, a U-Net, two experts
    for method, entry in METHODS.items()
    if why_incompatible(SPECS[name], method, entry.requires) is None
]


def made(name: str) -> Any:
    return puppet_backbone() if name == "puppet-hunyuan" else tiny_backbone(name)


def attach(backbone: Any, name: str, shaken: int, **config: Any) -> Any:
    entry = find_method(name)
    known = {field.name for field in dataclasses.fields(entry.config)}
    method = entry.attach(backbone, entry.config(**({"rank": 2} if "rank" in known else {}), **config), PROMPTS[0])
    shake(dict(method.groups), seed=shaken)
    return method


def attach_beneath(backbone: Any, number: int, strength: float, **config: Any) -> Any:
    with attaching(beneath(number)):
        lora = attach(backbone, "lora", 10 + number, **config)
    lora.set_strength(strength)
    return lora


def drawn(backbone: Any, method: Any, other: Any = None, **given: Any) -> Any:
    spec = backbone.spec
    small = {"shape": VideoShape(num_frames=9, height=32, width=32, fps=8)} if spec.name == "puppet-hunyuan" else {}
    config = default_sampler(backbone, num_inference_steps=3, eta=0.0, guidance_until=0.0)
    config = dataclasses.replace(config, **{**small, "mixed_precision": "no", **given})
    more = None
    if other is not None:
        texts = [read_texts(backbone, PROMPTS, config)]
        more = Second(method=other, texts=texts, name="jumps", share=0.5, over="mixed")
    *_, latents = denoise(backbone, method, PROMPTS, (1, 2), config, second=more)
    return latents


@pytest.mark.parametrize(("method", "name"), OVER, ids=map("-".join, OVER))
def test_it_is_as_if_the_base_had_learnt_them(method: str, name: str) -> None:
    """Any method over two LoRAs that share its layers, one of them turned round, against weights that are changed."""
    backbone = made(name)
    names, base = [n for n, _ in backbone.denoiser.named_modules()], drawn(backbone, None)
    loras = [attach_beneath(backbone, 0, 0.7), attach_beneath(backbone, 1, -0.4)]
    changes = [
        {n: m.scaling[m_name] * m.lora_B[m_name].weight.detach() @ m.lora_A[m_name].weight.detach()
         for n, m in lora.lora.layers.items() for m_name in [lora.lora.name]}
        for lora in loras
    ]  # fmt: skip
    above = attach(backbone, method, 3)
    over, without = drawn(backbone, above), drawn(backbone, above, strength=0.0)
    above.detach()
    alone = drawn(backbone, None)
    assert torch.equal(without, alone), "at strength 0 they work on"
    assert not torch.allclose(over, alone, atol=1e-2)
    assert not torch.allclose(alone, base, atol=1e-2)
    for lora in reversed(loras):
        lora.detach()
    assert torch.equal(drawn(backbone, None), base)
    assert [n for n, _ in backbone.denoiser.named_modules()] == names
    kept = {n: backbone.denoiser.get_submodule(n).weight.data.clone() for change in changes for n in change}
    try:
        with torch.no_grad():
            for change in changes:
                for n, delta in change.items():
                    backbone.denoiser.get_submodule(n).weight += delta
        torch.testing.assert_close(alone, drawn(backbone, None), rtol=1e-3, atol=2e-3)
        above = attach(backbone, method, 3)
        torch.testing.assert_close(over, drawn(backbone, above), rtol=1e-3, atol=2e-3)
        above.detach()
    finally:
        for n, weight in kept.items():
            backbone.denoiser.get_submodule(n).weight.data = weight


def test_both_motions_of_a_blend_lie_over_it() -> None:
    """In layers that all three have and in those of one (lora's output projections): each predicts over the LoRA."""
    backbone = puppet_backbone()
    lora = attach_beneath(backbone, 0, 1.0)
    first = attach(backbone, "synmotion", 1)
    with attaching(SECOND):
        other = attach(backbone, "lora", 2)
    shared = next(m for m in first.lora.layers.values() if "motion_2" in m.lora_A)
    own = next(m for m in other.lora.layers.values() if "motion" not in m.lora_A)
    asked, predict = [], backbone.predict

    def watched(*args: Any) -> Any:
        asked.append([None if m.disable_adapters else list(m.active_adapters) for m in (shared, own)])
        return predict(*args)

    with mock.patch.object(backbone, "predict", watched):
        drawn(backbone, first, other, adapter_until=0.5, num_inference_steps=2)
    low = "motion_beneath_0"
    assert asked == [[[low, "motion"], [low]], [[low, "motion_2"], [low, "motion_2"]], [[low], [low]], [[low], [low]]]
    for one in (other, first, lora):
        one.detach()
    assert not hasattr(backbone.denoiser, "peft_config")


# ------------------------------------------------------------------------------------------------ from files to files


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain LoRA's file that changes what is drawn."""
    backbone = load_backbone("puppet-hunyuan")
    method = attach(backbone, "lora", 5)
    info = AdapterInfo(
        backbone="puppet-hunyuan", repo="x/y", revision=None, fingerprint=weights_of(backbone.fingerprint), licence="x",
        method="lora", method_config={"rank": 2}, subject="a person", motion="in pencil", steps=3,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("loras") / "pencil.safetensors"
    save_adapter(path, method.state_dict(), info)
    method.detach()
    return path


def videos(folder: Path, **given: Any) -> tuple[list[bytes], list[str]]:
    words = read_info(SQUAT).motion  # whole: a name alone is drawn in them where the adapter is at work
    settings = {"subjects": ("a red cat",), "motion": words, "num_inference_steps": 2, **given}
    events = list(run.generate(GenerateRun(**settings), folder))
    frames = [video.read(e.path)[0].tobytes() for e in events if isinstance(e, Sampled)]
    return frames, [e.message for e in events if isinstance(e, Warned)]


def test_a_run_draws_over_it_and_the_base_beside_it_too(lora: Path, tmp_path: Path) -> None:
    beneath_all = (LoraWith(adapter=lora, strength=0.5),)
    (plain,), _ = videos(tmp_path / "plain")
    (styled,), said = videos(tmp_path / "styled", loras=beneath_all)
    assert not said
    both, _ = videos(tmp_path / "both", adapter=SQUAT, loras=beneath_all, compare=True)
    (squats,), _ = videos(tmp_path / "squats", adapter=SQUAT)
    assert both[1] == styled, "what it is compared with lies over it, too"
    assert len({plain, styled, both[0], squats}) == 4
    assert videos(tmp_path / "again")[0] == [plain], "nothing of it stays in the backbone that the next run takes"
    blended, _ = videos(tmp_path / "blend", adapter=SQUAT, blend=BlendWith(adapter=SPIN), loras=beneath_all)
    assert len({*blended, *both, squats}) == 4
    other, info = load_adapter(lora, find_spec("puppet-hunyuan"))
    foreign = tmp_path / "foreign.safetensors"
    save_adapter(foreign, other, dataclasses.replace(info, fingerprint=""))
    _, said = videos(tmp_path / "said", loras=(LoraWith(adapter=foreign),))
    assert [m for m in said if m.startswith("foreign's file does not say which weights")]


def test_it_counts_in_the_plan(lora: Path) -> None:
    plain = GenerateRun(subjects=("x",), motion="y", adapter=SQUAT)
    over = dataclasses.replace(plain, loras=(LoraWith(adapter=lora),))
    assert work_of(over).adapter_parameters - work_of(plain).adapter_parameters == lora.stat().st_size // 4


def test_what_cannot_lie_beneath_is_refused(lora: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"squat\.safetensors is an adapter of synmotion, and beneath others only"):
        videos(tmp_path, loras=(LoraWith(adapter=SQUAT),))
    state, info = load_adapter(lora, find_spec("puppet-hunyuan"))
    save_adapter(tmp_path / "other.safetensors", state, dataclasses.replace(info, backbone="wan2.1-t2v-1.3b"))
    with pytest.raises(IncompatibleError, match=r"other\.safetensors was trained on backbone 'wan2\.1-t2v-1\.3b'"):
        videos(tmp_path, loras=(LoraWith(adapter=tmp_path / "other.safetensors"),))
    for strength in (0.0, 2.5, float("nan")):
        with pytest.raises(ConfigError, match=rf"must be between -2 and 2, and not 0, got {strength}"):
            LoraWith(adapter=lora, strength=strength)
    one = LoraWith(adapter=lora)
    for given in ({"loras": (one, one)}, {"loras": (one,), "adapter": lora}):
        with pytest.raises(ConfigError, match=r"pencil\.safetensors is named twice"):
            GenerateRun(subjects=("x",), motion="y", **given)
    many = tuple(LoraWith(adapter=Path(f"{i}.safetensors")) for i in range(5))
    with pytest.raises(ConfigError, match="loras is a list of at most 4, got 5"):
        GenerateRun(subjects=("x",), motion="y", loras=many)


def test_one_that_does_not_fit_leaves_nothing_behind(lora: Path, tmp_path: Path) -> None:
    """The second of two has tensors of another size: the first is taken off again, and the backbone draws on."""
    state, info = load_adapter(lora, find_spec("puppet-hunyuan"))
    save_adapter(tmp_path / "cut.safetensors", {k: v[:, :-1].contiguous() for k, v in state.items()}, info)
    (plain,), _ = videos(tmp_path / "before")
    with pytest.raises(AdapterError):
        videos(tmp_path / "no", loras=(LoraWith(adapter=lora), LoraWith(adapter=tmp_path / "cut.safetensors")))
    assert videos(tmp_path / "after")[0] == [plain]
