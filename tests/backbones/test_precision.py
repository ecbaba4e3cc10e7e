"""Weights in 8 bits, 4 bits and fp8: which layers, and that adapters learn on them as on the whole weights."""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from diffusers import HunyuanVideoPipeline, WanPipeline
from diffusers.quantizers.bitsandbytes.bnb_quantizer import BnB4BitDiffusersQuantizer, BnB8BitDiffusersQuantizer
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from synmotion_core.backbones import SPECS, family, find_spec, load_backbone, loading
from synmotion_core.backbones import precision as held
from synmotion_core.backbones.wan_experts import WanExperts
from synmotion_core.errors import ConfigError
from synmotion_core.interfaces import Backbone
from synmotion_core.methods import find_method
from synmotion_core.precision import PLAIN, Precision, weights_of
from synmotion_core.types import Condition, TextCondition
from tests.backbones.test_full_size import CONFIGS, REAL, transformer
from tests.backbones.tiny import tiny_backbone, tiny_folder, tiny_spec
from tests.models import PROMPTS, noisy, plain, puppet_backbone, shake

TINY = (
    "hunyuanvideo",
    "hunyuanvideo-i2v",
    "hunyuanvideo-1.5",
    "wan2.1-t2v-1.3b",
    "wan2.2-t2v-a14b",
    "zeroscope-v2-576w",
)
CUDA = torch.device("cuda")
# what diffusers' loader leaves of the blocks' layers, and how many of the transformer's parameters end up quantised
_UNETS = ("modelscope-t2v-1.7b", "zeroscope-v2-576w")
LEFT = {"hunyuanvideo": 40, "hunyuanvideo-i2v": 40, **dict.fromkeys(_UNETS, 32)}  # by the last parts of their names
LEFT_NAMES = r"single_transformer_blocks\.\d+\.proj_out|.*\.(temp_)?attentions\.\d+\.proj_out"
SHARE = {
    **dict.fromkeys(("hunyuanvideo", "hunyuanvideo-i2v"), 0.972),
    **dict.fromkeys(("hunyuanvideo-1.5", "hunyuanvideo-1.5-i2v"), 0.979),
    **dict.fromkeys(("wan2.1-t2v-1.3b", "wan2.2-ti2v-5b"), 0.981),
    "wan2.1-i2v-14b": 0.984,
    **dict.fromkeys(("wan2.1-t2v-14b", "wan2.2-t2v-a14b", "wan2.2-i2v-a14b"), 0.983),
    **dict.fromkeys(_UNETS, 0.405),  # the others are convolutions
}


def linears(model: nn.Module) -> set[str]:
    return {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}


def quantized(model: nn.Module) -> set[str]:
    kinds = (bnb.nn.Linear8bitLt, bnb.nn.Linear4bit)
    return {name for name, module in model.named_modules() if isinstance(module, kinds)}


def transformers(backbone: Backbone) -> list[Any]:
    """The denoiser, or its two experts."""
    model = backbone.denoiser
    return [model.high_noise, model.low_noise] if isinstance(model, WanExperts) else [model]


def by_the_loader(model: Any, weights: str) -> set[str]:
    """Swap what diffusers' own quantiser swaps when it reads files on CUDA; the names."""
    given = held.loader_config(Precision(weights=weights), CUDA, ("transformer",)).quant_mapping["transformer"]
    quantizer = (BnB8BitDiffusersQuantizer if weights == "8bit" else BnB4BitDiffusersQuantizer)(given)
    kept = list(model._keep_in_fp32_modules or [])
    quantizer._process_model_before_weight_loading(model, device_map=None, keep_in_fp32_modules=kept)
    return quantized(model)


# ------------------------------------------------------------------------------------------------ which layers


@pytest.mark.parametrize("weights", ["8bit", "4bit"])
@pytest.mark.parametrize("name", REAL)
def test_of_the_real_transformer_the_loader_and_the_swap_choose_the_same_layers(name: str, weights: str) -> None:
    model = transformer(name)
    chosen, every = set(held.quantized_layers(model)), linears(model)
    outside = {name.split(".")[0] for name in every - chosen}
    assert outside <= set(held.OUTSIDE), "the skip list must name it"
    assert {"norm_out", "proj_out", "time_embedding"} & outside
    sizes = {name: module.weight.numel() for name, module in model.named_modules() if name in chosen}
    total = find_spec(name).parameters[find_spec(name).denoiser]
    assert sum(sizes.values()) / total == pytest.approx(SHARE[name], abs=1e-3)
    done = by_the_loader(model, weights)
    assert done <= chosen, "nothing that must stay is swapped"
    left = chosen - done  # what `quantize` swaps on CUDA; on a CPU all of `chosen`
    assert len(left) == LEFT.get(name, 0)
    assert all(re.fullmatch(LEFT_NAMES, name) for name in left)


@pytest.mark.parametrize("weights", ["8bit", "4bit"])
@pytest.mark.parametrize("name", TINY)
def test_of_a_tiny_transformer_they_do_too(name: str, weights: str) -> None:
    swapped, whole = transformers(tiny_backbone(name, Precision(weights=weights))), transformers(tiny_backbone(name))
    for own, unquantised in zip(swapped, whole, strict=True):
        assert quantized(own) == set(held.quantized_layers(unquantised))
        again = type(own).from_config(dict(unquantised.config))
        done = by_the_loader(again, weights)
        assert done < quantized(own) if name in LEFT else done == quantized(own)
        held.quantize(again, weights)
        assert quantized(again) == quantized(own)


@pytest.mark.parametrize("weights", ["8bit", "4bit"])
@pytest.mark.parametrize("name", TINY)
def test_the_first_text_encoder_is_quantised_but_for_what_sees_and_what_speaks(name: str, weights: str) -> None:
    pipe = tiny_backbone(name, Precision(text_weights=weights)).pipe
    encoder = pipe.text_encoder
    left = linears(encoder) - quantized(encoder)
    assert len(quantized(encoder)) >= 6 * 2
    eyes = ("model.vision_tower.", "model.multi_modal_projector.", "lm_head")
    assert all(name.startswith(eyes) or name.endswith("DenseReluDense.wo") for name in left)
    assert any(name.startswith(eyes) for name in left) == (name == "hunyuanvideo-i2v")
    assert not quantized(tiny_backbone(name, Precision(text_weights=weights)).denoiser)
    if hasattr(pipe, "text_encoder_2"):
        assert not quantized(pipe.text_encoder_2)


def test_every_row_ships_the_config_that_this_is_about() -> None:
    assert set(SHARE) == set(REAL) == {path.stem for path in CONFIGS.iterdir()}


F16, F32 = torch.float16, torch.float32
HELD = {
    "hunyuanvideo": {"text_encoder": F16, "text_encoder_2": F16},
    "hunyuanvideo-i2v": {"text_encoder": F16, "text_encoder_2": F16},
    "hunyuanvideo-1.5": {"text_encoder": F16, "text_encoder_2": F32},
    "hunyuanvideo-1.5-i2v": {"text_encoder": F16, "text_encoder_2": F32, "image_encoder": F16},
    "wan2.1-i2v-14b": {"image_encoder": F32},
    "modelscope-t2v-1.7b": {"unet": F16, "text_encoder": F16},
    "zeroscope-v2-576w": {"unet": F16, "text_encoder": F16},
}


@pytest.mark.parametrize("name", sorted(find.name for find in SPECS.values() if find.needs_gpu))
def test_each_part_is_held_as_it_is_published(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA; on a CPU all of them are in float32, under the fingerprint of ever."""
    spec, asked = find_spec(name), []
    own = family(spec).pipeline(spec)
    monkeypatch.setattr(loading, "fetched", lambda spec, family: Path("here"))

    class Family(own):
        @classmethod
        def from_pretrained(cls, *args: Any, **given: Any) -> Any:
            asked.append(given["dtype"])
            parts = dict.fromkeys(own._get_signature_keys(own)[0])
            return SimpleNamespace(**parts, set_progress_bar_config=lambda disable: None)

    held_so = {"default": torch.bfloat16, "vae": F32, **HELD.get(name, {})}
    pipe, fingerprint = loading.load_pipeline(Family, spec, CUDA, tiny_folder(name), PLAIN)
    pipe.encoders.get("text_encoder")
    assert asked == [held_so, held_so]
    suffixes = "".join(f"+{str(dtype)[6:]}" for dtype in sorted({*HELD.get(name, {}).values()}, key=str))
    assert fingerprint == tiny_backbone(name).fingerprint + suffixes
    assert weights_of(fingerprint) == tiny_backbone(name).fingerprint
    _, fingerprint = loading.load_pipeline(Family, spec, torch.device("cpu"), tiny_folder(name), PLAIN)
    assert asked[2] == {"default": F32, "vae": F32}
    assert fingerprint == tiny_backbone(name).fingerprint


def test_the_puppets_are_held_as_ever() -> None:
    assert all(not spec.held for spec in SPECS.values() if not spec.needs_gpu)


def test_what_computes_in_four_bits_does_so_in_a_type_that_learns() -> None:
    layer = nn.Linear(64, 64).half()
    assert held._quantized(layer, "4bit").compute_dtype == torch.bfloat16
    assert held._quantized(layer.float(), "4bit").compute_dtype == F32
    given = Precision(weights="4bit", text_weights="4bit")
    asked = held.loader_config(given, CUDA, ("unet", "text_encoder"), HELD["zeroscope-v2-576w"]).quant_mapping
    assert asked["unet"].bnb_4bit_compute_dtype == torch.bfloat16
    assert asked["text_encoder"].bnb_4bit_compute_dtype == F16


@pytest.mark.parametrize(("name", "own"), [("hunyuanvideo", HunyuanVideoPipeline), ("wan2.1-t2v-14b", WanPipeline)])
def test_on_cuda_the_libraries_own_loaders_are_asked(name: str, own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(loading, "fetched", lambda spec, family: Path("here"))

    class Family(own):
        @classmethod
        def from_pretrained(cls, *args: Any, **given: Any) -> Any:
            asked.append(given)
            parts = dict.fromkeys(own._get_signature_keys(own)[0])
            return SimpleNamespace(**parts, set_progress_bar_config=lambda disable: None)

    def mappings(**values: Any) -> list[Any]:
        """Of the parts that are read at once, and of the text encoder when it comes."""
        asked.clear()
        pipe, _ = loading.load_pipeline(Family, find_spec(name), CUDA, None, Precision(**values))
        pipe.encoders.get("text_encoder")
        held_so = {"default": torch.bfloat16, "vae": torch.float32, **HELD.get(name, {})}
        assert all(given["dtype"] == held_so for given in asked)
        configs = [given["quantization_config"] for given in asked]
        return [None if config is None else config.quant_mapping for config in configs]

    assert mappings() == mappings(weights="fp8", offload="group") == [None, None]
    first, second = mappings(weights="4bit", text_weights="8bit")
    assert (set(first), set(second)) == ({"transformer"}, {"text_encoder"})
    assert type(first["transformer"]).__module__.startswith("diffusers.")
    assert type(second["text_encoder"]).__module__.startswith("transformers.")
    assert first["transformer"].quantization_method() == "nf4"
    assert first["transformer"].bnb_4bit_compute_dtype == torch.bfloat16
    assert first["transformer"].llm_int8_skip_modules == list(held.OUTSIDE)
    assert second["text_encoder"].load_in_8bit
    assert second["text_encoder"].llm_int8_skip_modules == list(held.TEXT_OUTSIDE)
    first, second = mappings(weights="8bit")
    assert set(first) == {"transformer"}
    assert second is None
    two = dataclasses.replace(find_spec(name), parameters={**find_spec(name).parameters, "transformer_2": 1})
    monkeypatch.setitem(SPECS, name, two)
    assert set(mappings(weights="8bit")[0]) == {"transformer", "transformer_2"}


@pytest.mark.parametrize("weights", ["8bit", "4bit"])
@pytest.mark.parametrize("name", TINY)
def test_the_loader_and_the_swap_give_the_same_numbers(
    name: str, weights: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of diffusers' own loader, told that no GPU is needed, with `quantize` for what it leaves."""
    for quantizer in (BnB8BitDiffusersQuantizer, BnB4BitDiffusersQuantizer):
        monkeypatch.setattr(quantizer, "validate_environment", lambda *_, **__: None)
        monkeypatch.setattr(quantizer, "update_device_map", lambda self, device_map: {"": "cpu"})
    swapped = transformers(tiny_backbone(name, Precision(weights=weights)))[0]
    config = held.loader_config(Precision(weights=weights), CUDA, ("transformer",)).quant_mapping["transformer"]
    loaded = type(swapped).from_pretrained(
        tiny_folder(name) / find_spec(name).denoiser, quantization_config=config, torch_dtype=torch.float32
    )
    assert quantized(loaded)
    held.quantize(loaded, weights)
    theirs, ours = loaded.state_dict(), swapped.state_dict()
    assert theirs.keys() == ours.keys()
    biases = {f"{layer}.bias" for layer in quantized(swapped)}
    different = {key for key in ours if not torch.equal(theirs[key], ours[key])}
    assert different <= biases
    for key in different:
        assert torch.equal(theirs[key].bfloat16().float(), ours[key]), "on CUDA all of them are in bf16"


def test_fp8_keeps_norms_modulations_and_what_is_outside() -> None:
    held_in_fp8 = [model for name in TINY for model in transformers(tiny_backbone(name, Precision(weights="fp8")))]
    for model in held_in_fp8:
        stored = {
            n for n, m in model.named_modules() if isinstance(m, nn.Linear) and m.weight.dtype == torch.float8_e4m3fn
        }
        chosen = set(held.quantized_layers(model))
        assert stored == {n for n in chosen if "norm" not in n}
        assert len(stored) > 0.7 * len(chosen)
        others = {p.dtype for n, p in model.named_parameters() if n.rpartition(".")[0] not in stored}
        assert others == {torch.float32}


# ------------------------------------------------------------------------------------------------ what it takes


def test_a_value_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(
        ConfigError, match=r"weights must be one of 'bf16', '8bit', .*, got '8-bit': did you mean '8bit'"
    ):
        Precision(weights="8-bit")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"text_weights must be one of 'bf16', '8bit', '4bit', got 'fp8'"):
        Precision(text_weights="fp8")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="offload must be one of 'none', 'model', 'group', got 'disk'"):
        Precision(offload="disk")  # type: ignore[arg-type]


@pytest.mark.parametrize("offload", ["model", "group"])
@pytest.mark.parametrize("what", ["weights", "text_weights"])
def test_quantised_weights_are_not_offloaded(offload: Any, what: str) -> None:
    with pytest.raises(ConfigError, match=rf"offload '{offload}' moves plain weights.* {what} '4bit' behind"):
        Precision(offload=offload, **{what: "4bit"})


@pytest.mark.parametrize("given", [{"weights": "fp8"}, {"offload": "group"}])
def test_training_asks_for_checkpointing_where_the_backward_pass_would_undo_the_saving(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="needs gradient_checkpointing"):
        Precision(**given).check_training()
    Precision(**given, gradient_checkpointing=True).check_training()
    Precision(weights="8bit").check_training()


def test_offload_needs_a_gpu_and_a_backbone_that_needs_one() -> None:
    with pytest.raises(ConfigError, match=r"offload 'group' moves .* and puppet-hunyuan runs on the CPU here: use"):
        load_backbone("puppet-hunyuan", device="cpu", precision=Precision(offload="group"))
    with pytest.raises(ConfigError, match="puppet-hunyuan is small enough for any"):
        held.check_precision(find_spec("puppet-hunyuan"), CUDA, Precision(offload="model"))
    held.check_precision(find_spec("hunyuanvideo"), CUDA, Precision(offload="model"))


def test_the_fingerprint_says_what_changes_encodings_and_no_more() -> None:
    own = tiny_backbone("hunyuanvideo").fingerprint
    for same in (PLAIN, Precision(weights="8bit"), Precision(gradient_checkpointing=True)):
        assert tiny_backbone("hunyuanvideo", same).fingerprint == own
    text = tiny_backbone("hunyuanvideo", Precision(text_weights="8bit")).fingerprint
    tiled = tiny_backbone("hunyuanvideo", Precision(text_weights="4bit", vae_tiling=True))
    assert text == f"{own}+text_weights=8bit"
    assert tiled.fingerprint == f"{own}+text_weights=4bit+vae_tiling"
    assert tiled.pipe.vae.use_tiling
    assert not tiny_backbone("hunyuanvideo").pipe.vae.use_tiling
    assert weights_of(text) == weights_of(tiled.fingerprint) == own


@pytest.mark.parametrize(("weights", "most"), [("8bit", 0.02), ("4bit", 0.6)])
@pytest.mark.parametrize("name", TINY)
def test_a_quantised_text_encoder_says_nearly_the_same(name: str, weights: str, most: float) -> None:
    own = tiny_backbone(name).encode_prompt(PROMPTS).prompt_embeds
    other = tiny_backbone(name, Precision(text_weights=weights)).encode_prompt(PROMPTS).prompt_embeds
    assert 1e-6 < float((own - other).norm() / own.norm()) < most


# ------------------------------------------------------------------------------------------------ adapters on them


@cache
def conditioned(name: str) -> tuple[TextCondition, Tensor]:
    """Texts of the row, whole, and a first image's latents."""
    backbone = puppet_backbone() if name == "puppet-hunyuan" else tiny_backbone(name)
    x, _ = noisy(backbone)
    like = x[:, :, :1]
    if backbone.spec.family == "wan" and not backbone.spec.image_frames:  # as long as the video, beside it
        like = torch.cat([x, x], dim=1)
    image = torch.randn(like.shape, generator=torch.Generator().manual_seed(3))
    return backbone.encode_prompt(PROMPTS), image


def condition_of(backbone: Backbone, condition: Condition | None = None, mode: str | None = None) -> Condition:
    text, image = conditioned(backbone.spec.name)
    condition = condition or plain(text)
    return (
        dataclasses.replace(condition, image_latents=image) if (mode or backbone.spec.modes[0]) == "i2v" else condition
    )


def gradient(backbone: Backbone, mode: str | None = None, method: str = "lora") -> Tensor:
    """Of all adapters together, after a shake, towards a fixed target."""
    entry = find_method(method)
    made = entry.attach(backbone, entry.config(), PROMPTS[0])
    try:
        layers = {type(m).__name__ for m in backbone.denoiser.modules() if isinstance(m, LoraLayer)}
        base = {type(m.get_base_layer()) for m in backbone.denoiser.modules() if isinstance(m, LoraLayer)}
        assert layers == {kind.__name__ for kind in base}, "PEFT's own for each kind of layer"
        shake(made.groups)
        x, s = noisy(backbone)
        if backbone.spec.boundary_ratio is not None:  # one sample for each expert
            s = torch.tensor([0.95, 0.4])
        target = torch.randn(x.shape, generator=torch.Generator().manual_seed(4))
        condition = condition_of(backbone, made.condition(conditioned(backbone.spec.name)[0]), mode)
        (backbone.predict(x, s, condition) - target).square().mean().backward()
        assert all(p.dtype == torch.float32 for group in made.groups.values() for p in group)
        learnt = [p.grad for p in made.groups["adapters"]]  # none where a last block's text output is not used
        return torch.cat([grad.flatten() for grad in learnt if grad is not None])
    finally:
        made.detach()


@pytest.mark.parametrize(("weights", "least"), [("8bit", 0.999), ("4bit", 0.97), ("fp8", 0.99)])
@pytest.mark.parametrize("name", TINY)
def test_the_adapters_gradient_keeps_its_direction(name: str, weights: str, least: float) -> None:
    """The task asks for 0.95 in 8 bits; measured 0.9999 there, 0.985 to 0.997 in 4, 0.998 to 0.999 in fp8.

    A 3-D U-Net's gradient passes through a hundred random layers: 0.945 in 4 bits.
    """
    whole, other = gradient(tiny_backbone(name)), gradient(tiny_backbone(name, Precision(weights=weights)))
    cosine = float(torch.cosine_similarity(whole, other, dim=0))
    assert (0.93 if (name, weights) == ("zeroscope-v2-576w", "4bit") else least) < cosine < 1 - 1e-7


@pytest.mark.parametrize("mode", ["t2v", "i2v"])
def test_puppets_learn_in_8_bits_in_both_of_their_forms(mode: str) -> None:
    backbone = load_backbone("puppet-hunyuan", device="cpu", precision=Precision(weights="8bit"))
    cosine = torch.cosine_similarity(gradient(puppet_backbone(), mode), gradient(backbone, mode), dim=0)
    assert 0.999 < float(cosine) < 1


class Inputs:
    """Of 8-bit layers, watched: how many of the tensors that they read in a forward pass are still held."""

    def __init__(self, model: nn.Module) -> None:
        layers = [m for m in model.modules() if isinstance(m, bnb.nn.Linear8bitLt)]
        self.seen: list[StorageWeakRef] = []
        self.hooks = [layer.register_forward_pre_hook(self._see) for layer in layers]

    def _see(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.seen.append(StorageWeakRef(inputs[0].untyped_storage()))

    def held(self) -> float:
        """As a share; some are inputs of blocks, which are kept, or outputs of another layer that are."""
        return sum(not ref.expired() for ref in self.seen) / len(self.seen)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("training", [False, True])
def test_8_bit_layers_let_go_of_what_they_read(name: str, training: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpointed, nothing of a block is left between the passes but what goes into it; the gradients are the same."""
    monkeypatch.setitem(SPECS, name, tiny_spec(name))
    asked = Precision(weights="8bit", gradient_checkpointing=True)
    backbone: Any = load_backbone(name, device="cpu", folder=tiny_folder(name), precision=asked)
    backbone.denoiser.train(training)
    entry = find_method("lora")
    made = entry.attach(backbone, entry.config(), PROMPTS[0])
    shake(made.groups)
    x, s = noisy(backbone)
    condition = condition_of(backbone, made.condition(conditioned(name)[0]))

    def step() -> tuple[float, list[Tensor]]:
        inputs = Inputs(backbone.denoiser)
        torch.manual_seed(0)  # a U-Net drops some in training
        loss = backbone.predict(x, s, condition).square().mean()
        share = inputs.held()
        loss.backward()
        learnt = [p.grad.clone() for p in made.groups["adapters"] if p.grad is not None]
        backbone.denoiser.zero_grad()
        return share, learnt

    spared, gradients = step()
    for layer in backbone.denoiser.modules():
        if isinstance(layer, bnb.nn.Linear8bitLt):
            layer._forward_hooks.clear()
    kept, without = step()
    assert spared < kept / 2, (spared, kept)
    assert any(grad.any() for grad in gradients)
    assert all(torch.equal(a, b) for a, b in zip(gradients, without, strict=True))


@pytest.mark.parametrize("weights", ["8bit", "4bit"])
def test_on_cuda_quantised_layers_give_the_type_that_plain_ones_give(weights: str) -> None:
    """Layer norms give float32 there under autocast; bitsandbytes' layers would keep to it."""
    plain = nn.Sequential(nn.Linear(64, 64))
    x = torch.randn(3, 64, requires_grad=True)
    for device, own in (("cpu", torch.float32), ("cuda", torch.bfloat16)):
        layer = nn.Sequential(held._quantized(plain[0], weights)).eval()  # in training a CPU has a path of its own
        layer[0].support_avx512bf16_for_cpu = False
        held.spare_activations(layer, torch.device(device))
        with torch.autocast("cpu", torch.bfloat16):
            assert plain(x).dtype == torch.bfloat16
            assert layer(x).dtype == own
            assert layer(x.detach().bfloat16()).dtype == torch.bfloat16
        assert layer(x).dtype == torch.float32, "without autocast nothing is cast"


def trained(backbone: Backbone, steps: int = 30, autocast: bool = True) -> tuple[float, float]:
    """The loss of the first and of the last of a few steps of plain LoRA on one batch, which moves each channel."""
    x, s = noisy(backbone)
    condition = condition_of(backbone)
    with torch.no_grad():
        shift = 0.4 * torch.randn(x.shape[:2], generator=torch.Generator().manual_seed(4))
        target = backbone.predict(x, s, condition) + shift[:, :, None, None, None]
    entry = find_method("lora")
    method = entry.attach(backbone, entry.config(), PROMPTS[0])
    losses = []
    try:
        optimizer = torch.optim.AdamW(method.groups["adapters"], lr=1e-2)
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                predicted = backbone.predict(x, s, condition)
            loss = (predicted - target)[:, :, 1:].square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
    finally:
        method.detach()
    return losses[0], losses[-1]


@cache
def trained_whole(name: str) -> tuple[float, float]:
    return trained(tiny_backbone(name))


@pytest.mark.parametrize(
    ("weights", "checkpointing"), [("8bit", False), ("8bit", True), ("4bit", False), ("fp8", True)]
)
@pytest.mark.parametrize("name", TINY)
def test_training_converges_and_leaves_no_trace(name: str, weights: Any, checkpointing: bool) -> None:
    """The loss falls at least threefold in 30 steps, as on the whole weights; detached, the base is what it was."""
    backbone = tiny_backbone(name, Precision(weights=weights, gradient_checkpointing=checkpointing))
    x, s = noisy(backbone)
    with torch.no_grad():
        before = backbone.predict(x, s, condition_of(backbone))
    first, last = trained(backbone)
    assert last < first / 3
    whole_first, whole_last = trained_whole(name)
    assert last / first < 1.3 * whole_last / whole_first  # measured: 1.26 at most, in 4 bits
    with torch.no_grad():
        assert torch.equal(backbone.predict(x, s, condition_of(backbone)), before)


@pytest.mark.parametrize("weights", ["8bit", "4bit", "fp8"])
@pytest.mark.parametrize("name", TINY)
def test_strength_0_is_the_base_bit_for_bit(name: str, weights: Any) -> None:
    backbone = tiny_backbone(name, Precision(weights=weights))
    x, s = noisy(backbone)
    with torch.no_grad():
        base = backbone.predict(x, s, condition_of(backbone))
    entry = find_method("lora")
    method = entry.attach(backbone, entry.config(), PROMPTS[0])
    try:
        shake(method.groups)
        with torch.no_grad():
            assert not torch.equal(backbone.predict(x, s, condition_of(backbone)), base)
            method.set_strength(0.0)
            assert torch.equal(backbone.predict(x, s, condition_of(backbone)), base)
            method.set_strength(1.0)
            assert not torch.equal(backbone.predict(x, s, condition_of(backbone)), base)
    finally:
        method.detach()


def test_an_adapter_learnt_in_8_bits_works_on_the_whole_weights() -> None:
    entry = find_method("lora")
    low, whole = tiny_backbone("hunyuanvideo", Precision(weights="8bit")), tiny_backbone("hunyuanvideo")
    method = entry.attach(low, entry.config(), PROMPTS[0])
    try:
        shake(method.groups)
        state = method.state_dict()
        x, s = noisy(low)
        with torch.no_grad():
            there = low.predict(x, s, condition_of(low))
    finally:
        method.detach()
    method = entry.attach(whole, entry.config(), PROMPTS[0])
    try:
        method.load_state_dict(state)
        with torch.no_grad():
            here = whole.predict(x, s, condition_of(whole))
    finally:
        method.detach()
    assert float((here - there).norm() / here.norm()) < 0.01
    assert all(re.search(r"\.lora_[AB]\.weight$", key) for key in state), "nothing of the base is learnt or saved"
