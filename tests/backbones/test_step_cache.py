"""Step caches on the real classes: what is left out is counted, what is off changes nothing, nothing stays behind."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from torch import nn

from synmotion_core import backbones
from synmotion_core.backbones import SPECS, loading
from synmotion_core.backbones import step_cache as at_work
from synmotion_core.backbones.step_cache import FEATURES, Tally, caching, check_step_cache
from synmotion_core.errors import IncompatibleError
from synmotion_core.generation import SamplerConfig, default_sampler, denoise
from synmotion_core.methods import find_method
from synmotion_core.precision import Precision
from synmotion_core.step_cache import KINDS, parse
from synmotion_core.types import VideoShape
from tests.backbones.test_precision import gradient
from tests.backbones.tiny import FOLDERS, tiny_backbone, tiny_folder, tiny_spec
from tests.models import PROMPTS, noisy, plain, puppet_backbone, shake

STEPS = 8
SMALL = VideoShape(num_frames=5, height=32, width=32, fps=8)  # of a puppet, which is slow at its own size
TINY = ("hunyuanvideo", "hunyuanvideo-i2v", "hunyuanvideo-1.5-i2v", "wan2.1-t2v-1.3b", "wan2.2-ti2v-5b")
EXPERTS = ("wan2.2-t2v-a14b", "wan2.2-i2v-a14b")
HIGH = {"first-block": 0.9, "taylorseer": 3}


def backbone_of(name: str) -> Any:
    return puppet_backbone() if name == "puppet-hunyuan" else tiny_backbone(name)


def ways(names: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """(row, mode, kind) of every cache that these rows may use."""
    return [
        (name, mode, kind)
        for name in names
        for mode in SPECS[name].modes
        for kind in KINDS
        if FEATURES[kind] in SPECS[name].features
    ]


def sampler(backbone: Any, cache: str | None = None, **given: Any) -> SamplerConfig:
    own = {"num_inference_steps": STEPS, "eta": 0.0, "guidance_until": 0.0} | given
    shape = shape_of(backbone)
    return dataclasses.replace(default_sampler(backbone, step_cache=cache, **own), shape=shape, mixed_precision="no")


def shape_of(backbone: Any) -> VideoShape:
    return SMALL if backbone.spec.name == "puppet-hunyuan" else backbone.spec.default_shape


def pictures(backbone: Any, mode: str) -> torch.Tensor | None:
    shape, draws = shape_of(backbone), torch.Generator().manual_seed(3)
    return None if mode == "t2v" else torch.rand(2, 3, shape.height, shape.width, generator=draws) * 2 - 1


def steps(name: str, mode: str, config: SamplerConfig, tally: Tally | None = None, method: Any = None) -> Iterator[Any]:
    backbone = backbone_of(name)
    return denoise(backbone, method, PROMPTS, [1, 2], config, pictures(backbone, mode), tally=tally)


def drawn(name: str, mode: str, config: SamplerConfig, tally: Tally | None = None, method: Any = None) -> torch.Tensor:
    *_, latents = steps(name, mode, config, tally, method)
    return latents


def left_behind(backbone: Any) -> list[str]:
    """Modules that carry a hook, a replaced forward or a cache."""
    found = []
    for mode in backbone.spec.modes:
        for transformer in backbone.transformers(mode):
            found += ["cache"] if transformer.is_cache_enabled else []
            for name, module in transformer.named_modules():
                if {"_diffusers_hook", "forward"} & module.__dict__.keys() or module._forward_pre_hooks:
                    found.append(name)
    return found


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    """Also where a test ends a run early."""
    yield
    gc.collect()
    assert left_behind(puppet_backbone()) == []


@pytest.mark.parametrize(("name", "mode", "kind"), ways(("puppet-hunyuan", *FOLDERS)))
def test_a_cache_leaves_blocks_out_and_goes(name: str, mode: str, kind: str) -> None:
    backbone, tally = backbone_of(name), Tally()
    before = left_behind(backbone)
    whole = drawn(name, mode, sampler(backbone))
    config = sampler(backbone, f"{kind}:{HIGH[kind]}")
    cached = drawn(name, mode, config, tally)
    (blocks,) = {sum(len(c) for c in t.children() if isinstance(c, nn.ModuleList)) for t in backbone.transformers(mode)}
    assert tally.blocks == STEPS * blocks
    assert blocks < tally.run < tally.blocks
    assert 0 < tally.skipped < 1
    assert (cached - whole).abs().max() > 1e-4
    assert set(left_behind(backbone)) <= set(before), "and what a stock pipeline left empty may go, too"
    assert torch.equal(drawn(name, mode, sampler(backbone)), whole)
    assert torch.equal(drawn(name, mode, config), cached), "nothing of the run before is taken up"


@pytest.mark.parametrize(("name", "mode", "kind"), ways(("puppet-hunyuan", *TINY[:4])))
def test_what_leaves_nothing_out_is_no_cache_bit_for_bit(name: str, mode: str, kind: str) -> None:
    """Off by its own number; and hooked all the same, where nothing is near enough or every step is whole."""
    backbone = backbone_of(name)
    whole = drawn(name, mode, sampler(backbone))
    zero = f"{kind}:{ {'first-block': 0, 'taylorseer': 1}[kind] }"
    tally = Tally()
    assert torch.equal(drawn(name, mode, sampler(backbone, zero), tally), whole)
    assert tally.blocks == 0, "nothing was hooked"
    near = parse("first-block:1e-9" if kind == "first-block" else "taylorseer:1")
    with mock.patch.object(type(near), "active", True):
        hooked = dataclasses.replace(sampler(backbone), step_cache=near)
        assert torch.equal(drawn(name, mode, hooked, tally), whole)
    assert tally.run == tally.blocks > 0


def test_taylorseer_runs_the_steps_that_it_says() -> None:
    """Steps 0, 1, 2, then every third; of two prompts and their null rows at once."""
    backbone, ran = puppet_backbone(), []
    tally = Tally()
    config = sampler(backbone, "taylorseer:3", num_inference_steps=11)
    for _ in steps("puppet-hunyuan", "t2v", config, tally):
        ran.append(tally.run)
    whole = [index for index, (a, b) in enumerate(zip([0, *ran], ran, strict=False)) if b > a]
    assert whole == [0, 1, 2, 4, 7, 10]
    assert tally.run == 6 * 14


def test_a_line_through_two_steps_goes_on_straight() -> None:
    """A denoiser whose output grows by the same amount each step is continued exactly."""
    backbone = puppet_backbone()
    transformer: Any = backbone.denoiser
    x, s = noisy(backbone)
    condition = plain(backbone.encode_prompt(PROMPTS))
    bias = transformer.proj_out.bias
    own, outputs = bias.detach().clone(), []
    record = transformer.proj_out.register_forward_hook(lambda module, args, out: outputs.append(out.detach().clone()))
    try:
        with torch.no_grad(), caching([transformer], parse("taylorseer:3")) as cache:
            for index in range(4):
                bias.copy_(own + 0.5 * index)
                with cache.step():
                    backbone.predict(x, s, condition)
    finally:
        record.remove()
        with torch.no_grad():
            bias.copy_(own)
    torch.testing.assert_close(outputs[3], outputs[2] + 0.5, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["closed", "failed"])
def test_a_run_that_ends_early_leaves_nothing(end: str, kind: str) -> None:
    backbone = puppet_backbone()
    whole = drawn("puppet-hunyuan", "i2v", sampler(backbone))
    config = sampler(backbone, f"{kind}:{HIGH[kind]}")
    run = steps("puppet-hunyuan", "i2v", config)
    for _ in range(5):
        next(run)
    assert left_behind(backbone), "it is on while the run goes"
    if end == "closed":
        run.close()
    else:
        with mock.patch.object(backbone, "predict", side_effect=RuntimeError("out of memory")):
            with pytest.raises(RuntimeError, match="out of memory"):
                next(run)
    assert left_behind(backbone) == []
    assert torch.equal(drawn("puppet-hunyuan", "i2v", sampler(backbone)), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_leave_the_batch_begin_anew(kind: str) -> None:
    """Where guidance ends, two rows become one: what was kept of two is of another batch, and would broadcast."""
    backbone, tally, ran = puppet_backbone(), Tally(), []
    config = sampler(backbone, f"{kind}:{HIGH[kind]}", guidance_until=0.6)
    for latents in denoise(backbone, None, PROMPTS[:1], [1], config, tally=tally):
        assert latents.shape[0] == 1
        ran.append(tally.run)
    levels = backbone.solver(STEPS, config.shape, flow_shift=config.flow_shift).sigmas[:-1].tolist()
    first = next(index for index, level in enumerate(levels) if level < 0.6)
    assert 1 < first < STEPS - 1
    assert ran[first] - ran[first - 1] == 14, "the first step without null rows is whole"
    assert tally.skipped > 0


@pytest.mark.parametrize("name", EXPERTS)
def test_each_expert_keeps_its_own(name: str) -> None:
    """The second expert's first step is whole, whatever the first one kept."""
    backbone, tally, ran = tiny_backbone(name), Tally(), []
    mode = backbone.spec.modes[0]
    config = sampler(backbone, "first-block:1", num_inference_steps=10)
    for _ in steps(name, mode, config, tally):
        ran.append(tally.run)
    levels = backbone.solver(10, config.shape, flow_shift=config.flow_shift).sigmas[:-1].tolist()
    second = next(index for index, level in enumerate(levels) if level < backbone.spec.boundary_ratio)
    assert [b - a for a, b in zip([0, *ran], ran, strict=False)] == [
        2 if index in (0, second) else 1 for index in range(10)
    ]


@pytest.mark.parametrize("method_name", ["synmotion", "lora"])
@pytest.mark.parametrize("mode", ["t2v", "i2v"])
def test_an_adapter_and_a_cache_do_not_disturb_each_other(mode: str, method_name: str) -> None:
    backbone, entry = puppet_backbone(), find_method(method_name)
    base = drawn("puppet-hunyuan", mode, sampler(backbone))
    method = entry.attach(backbone, entry.config(rank=2), PROMPTS[0])
    try:
        shake(dict(method.groups))
        whole = drawn("puppet-hunyuan", mode, sampler(backbone), method=method)
        tally = Tally()
        cached = drawn("puppet-hunyuan", mode, sampler(backbone, "taylorseer:2"), tally, method)
        assert tally.skipped > 0
        assert not torch.equal(cached, whole)
        assert torch.equal(drawn("puppet-hunyuan", mode, sampler(backbone, "first-block:1e-9"), method=method), whole)
        assert torch.equal(drawn("puppet-hunyuan", mode, sampler(backbone), method=method), whole)
    finally:
        method.detach()
    assert torch.equal(drawn("puppet-hunyuan", mode, sampler(backbone)), base)


def test_where_the_adapter_ends_the_cache_begins_anew() -> None:
    backbone, entry, tally, ran = puppet_backbone(), find_method("lora"), Tally(), []
    method = entry.attach(backbone, entry.config(rank=2), PROMPTS[0])
    try:
        shake(dict(method.groups))
        config = dataclasses.replace(sampler(backbone, "first-block:1"), adapter_until=0.5)
        for _ in steps("puppet-hunyuan", "t2v", config, tally, method):
            ran.append(tally.run)
    finally:
        method.detach()
    assert [b - a for a, b in zip([0, *ran], ran, strict=False)] == [14 if i in (0, 4) else 1 for i in range(STEPS)]


@pytest.mark.parametrize("name", ["hunyuanvideo", "wan2.2-t2v-a14b"])
def test_a_training_learns_the_same_after_a_cached_run(name: str) -> None:
    backbone = tiny_backbone(name)
    before = gradient(backbone)
    drawn(name, "t2v", sampler(backbone, "first-block:0.9"))
    assert torch.equal(gradient(backbone), before)


@pytest.mark.parametrize("name", SPECS)
def test_a_refused_pair_names_the_row_and_what_it_may_use(name: str) -> None:
    spec = SPECS[name]
    for kind in KINDS:
        if FEATURES[kind] in spec.features:
            check_step_cache(spec, parse(kind))
    if spec.family == "unet3d":  # no list of like blocks, which both kinds of cache go by
        with pytest.raises(IncompatibleError, match=f"{name} cannot use the step cache taylorseer: it may use none"):
            default_sampler(spec, step_cache="taylorseer:2")
        return
    if not spec.name.startswith("hunyuanvideo-1.5"):
        assert set(FEATURES.values()) <= spec.features
        return
    with pytest.raises(IncompatibleError, match=f"{name} cannot use the step cache first-block: use taylorseer"):
        default_sampler(spec, step_cache="first-block:0.1")
    none = dataclasses.replace(spec, features=spec.features - set(FEATURES.values()))
    with pytest.raises(IncompatibleError, match=f"{name} cannot use the step cache taylorseer: it may use none"):
        default_sampler(none, step_cache="taylorseer")


def test_rows_may_use_what_diffusers_knows_of_their_blocks() -> None:
    """A first-block cache needs to be told what the blocks give; of HunyuanVideo-1.5's it is not yet."""
    from diffusers.hooks._helpers import TransformerBlockRegistry

    for name in ("puppet-hunyuan", *FOLDERS):
        backbone = backbone_of(name)
        for mode in backbone.spec.modes:
            for transformer in backbone.transformers(mode):
                lists = [child for child in transformer.children() if isinstance(child, nn.ModuleList)]
                try:
                    for block in (block for blocks in lists for block in blocks):
                        TransformerBlockRegistry.get(type(block))
                    known = True
                except ValueError:
                    known = False
                assert known == ("first_block_cache" in backbone.spec.features), name


def test_hooks_of_others_stay() -> None:
    """Offloading by layers hooks the same modules."""
    from diffusers.hooks import HookRegistry, ModelHook

    transformer: Any = puppet_backbone().denoiser
    registry = HookRegistry.check_if_exists_or_initialize(transformer.proj_out)
    registry.register_hook(ModelHook(), "another's")
    try:
        with caching([transformer], parse("taylorseer:2")):
            pass
        assert list(transformer.proj_out._diffusers_hook.hooks) == ["another's"]
    finally:
        registry.remove_hook("another's")
        at_work.tidy_hooks(transformer)


@pytest.mark.parametrize("held", [{"weights": "fp8"}, {"weights": "8bit"}, {"offload": "model"}, {"offload": "group"}])
@pytest.mark.parametrize(("name", "kind"), [("hunyuanvideo", "first-block"), ("wan2.2-t2v-a14b", "taylorseer")])
def test_weights_held_otherwise_are_cached_and_stay_so(
    name: str, kind: str, held: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "check_precision", lambda *_: None)  # of a GPU, for offloading
    monkeypatch.setitem(backbones.SPECS, name, tiny_spec(name))
    backbone: Any = backbones.load_backbone(name, device="cpu", folder=tiny_folder(name), precision=Precision(**held))

    def own(cache: str | None = None, tally: Tally | None = None) -> torch.Tensor:
        config = sampler(backbone, cache, num_inference_steps=10)
        *_, latents = denoise(backbone, None, PROMPTS, [1, 2], config, tally=tally)
        return latents

    before, whole, tally = left_behind(backbone), own(), Tally()
    assert not torch.equal(own(f"{kind}:{HIGH[kind]}", tally), whole)
    assert 0 < tally.skipped < 1
    assert left_behind(backbone) == before
    assert torch.equal(own(), whole)
