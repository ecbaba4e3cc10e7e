"""LoRA lists of MotionDirector's library, which count a 3-D U-Net's temporal layers and name none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from synmotion_core.adapters.convert import convert
from synmotion_core.adapters.file import load_adapter
from synmotion_core.adapters.foreign import import_lora
from synmotion_core.adapters.foreign_names import temporal_lists
from synmotion_core.backbones import SPECS
from synmotion_core.errors import AdapterError
from synmotion_core.methods import find_method
from synmotion_core.types import Prompt
from tests.backbones.tiny import tiny_backbone, tiny_spec
from tests.models import PROMPTS, noisy, plain

NAME = "zeroscope-v2-576w"
PROMPT = Prompt(subject="a person", motion="waves")
RANK = 3


class Injected(nn.Module):
    """A linear layer as that library replaces it: W x + up(down(x)), whatever the rank."""

    def __init__(self, linear: nn.Linear, down: Tensor, up: Tensor) -> None:
        super().__init__()
        self.linear, self.down, self.up = linear, down, up

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + x @ self.down.T @ self.up.T


def walked(unet: nn.Module, wanted: tuple[str, ...]) -> list[tuple[nn.Module, str, nn.Linear]]:
    """(parent, name, layer) of the linear layers that such a library finds, in the order in which it finds them."""
    found = []
    for ancestor in (m for m in unet.modules() if type(m).__name__ == "TransformerTemporalModel"):
        for fullname, module in ancestor.named_modules():
            if isinstance(module, nn.Linear) and any(part in fullname for part in wanted):
                *path, name = fullname.split(".")
                found.append((ancestor.get_submodule(".".join(path)), name, module))
    return found


KO = ("attn1.to_k", "attn2.to_k", "attn1.to_out", "attn2.to_out")
ALL = ("attn1.", "attn2.", "ff.")


def written(path: Path, layers: list[Any], **more: Tensor) -> tuple[Path, list[tuple[Tensor, Tensor]]]:
    """A file in the layout, for these layers, and its (down, up)."""
    generator, tensors, pairs = torch.Generator().manual_seed(0), {}, []
    for i, (_, _, layer) in enumerate(layers):
        down = torch.randn(RANK, layer.in_features, generator=generator) * 0.3
        up = torch.randn(layer.out_features, RANK, generator=generator) * 0.3
        tensors |= {f"unet:{i}:down": down, f"unet:{i}:up": up}
        pairs.append((down, up))
    save_file(tensors | more, path, metadata={"unet": '["TransformerTemporalModel"]', "unet:0:rank": str(RANK)})
    return path, pairs


@pytest.mark.parametrize(
    ("wanted", "method", "settings"),
    [
        (KO, "separation", {"temporal": "ko", "highway": "released"}),
        (ALL, "motion_director", {"temporal": "qkvof"}),
        (("to_k",), "separation", {"temporal": "k", "highway": "released"}),
    ],
    ids=["ko", "all", "k"],
)
def test_a_list_goes_where_its_library_puts_it(
    wanted: tuple[str, ...], method: str, settings: dict[str, Any], tmp_path: Path, tiny_sizes: None
) -> None:
    """What the U-Net predicts with our adapter is what it predicts with that library's layers in it."""
    backbone: Any = tiny_backbone(NAME)
    layers = walked(backbone.denoiser, wanted)
    file, pairs = written(tmp_path / "list.safetensors", layers)
    out = tmp_path / "ours.safetensors"
    done = convert([file], tiny_spec(NAME), out, prompt=PROMPT)
    assert done.reports[0].summary.endswith(f"{2 * len(layers)} of {2 * len(layers)} keys apply to {NAME}")
    assert done.applied == 2 * len(layers)
    state, info = load_adapter(out, tiny_spec(NAME))
    assert info.method == method
    assert dict(info.method_config) == {"rank": RANK, "lora_alpha": float(RANK), **settings}
    x, s = noisy(backbone)
    text = plain(backbone.encode_prompt(PROMPTS))
    for (parent, name, layer), (down, up) in zip(layers, pairs, strict=True):
        setattr(parent, name, Injected(layer, down, up))
    try:
        with torch.no_grad():
            theirs = backbone.predict(x, s, text)
    finally:
        for parent, name, layer in layers:
            setattr(parent, name, layer)
    entry = find_method(method)
    made = entry.attach(backbone, entry.config(**info.method_config), PROMPTS[0])
    try:
        made.load_state_dict(state)
        made.begin(made.phase(0, 0))  # as in training: without the highway, which no file holds
        with torch.no_grad():
            ours = backbone.predict(x, s, text)
    finally:
        made.detach()
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert (backbone.predict(x, s, text) - theirs).abs().max() > 1e-2


def test_a_pickled_list_is_the_same_adapter(tmp_path: Path, tiny_sizes: None) -> None:
    """As MotionDirector's trainings leave it: torch.save of [up, down, up, down, ...], parameters among them."""
    file, pairs = written(tmp_path / "list.safetensors", walked(tiny_backbone(NAME).denoiser, ALL))
    flat = [nn.Parameter(t) if i % 3 else t for i, t in enumerate(t for down, up in pairs for t in (up, down))]
    torch.save(flat, tmp_path / "500_unet.pt")
    one, other = (
        convert([path], tiny_spec(NAME), tmp_path / f"{i}.safetensors", prompt=PROMPT)
        for i, path in enumerate((file, tmp_path / "500_unet.pt"))
    )
    assert other.reports[0].summary == one.reports[0].summary.replace("list.safetensors", "500_unet.pt")
    (tensors, info), (pickled, said) = (load_adapter(done.path, tiny_spec(NAME)) for done in (one, other))
    assert info == said
    assert tensors.keys() == pickled.keys()
    assert all(torch.equal(tensors[key], pickled[key]) for key in tensors)


class Code:
    """What a pickle runs when it is read without care."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("ran",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([torch.ones(4, 2)], "no list of LoRA's up and down"),
        ({"a.lora_A.weight": torch.ones(2, 4)}, "it holds 1 values, first: 'a.lora_A.weight'"),
        ([torch.ones(4, 2), 3], "no list of LoRA's up and down"),
        ([torch.ones(4, 2), torch.ones(2, 4).long()], "no list of LoRA's up and down"),
        ([torch.ones(4, 2), Code()], "so it is not read"),
        ([torch.ones(4, 2), torch.ones(2, 4)], "is a list of 1 layers"),
    ],
    ids=["odd", "names", "a number", "whole numbers", "code", "too short"],
)
def test_another_pickle_is_refused(content: Any, words: str, tmp_path: Path, tiny_sizes: None) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(AdapterError, match=words):
        convert([tmp_path / "x.pt"], tiny_spec(NAME), tmp_path / "out.safetensors", prompt=PROMPT)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_list_of_another_length_or_size_is_refused(tmp_path: Path, tiny_sizes: None) -> None:
    layers = walked(tiny_backbone(NAME).denoiser, KO)
    short, _ = written(tmp_path / "short.safetensors", layers[:-1])
    with pytest.raises(AdapterError, match=r"short.safetensors is a list of 67 layers.* 34 \(k\), 68 \(ko\)"):
        import_lora(short, tiny_spec(NAME))
    turned, _ = written(tmp_path / "turned.safetensors", layers[::-1])
    with pytest.raises(AdapterError, match="is a list of 68 layers, or of others in size"):
        import_lora(turned, tiny_spec(NAME))
    text, _ = written(tmp_path / "text.safetensors", layers, **{"text_encoder:0:up": torch.zeros(4, 2)})
    with pytest.raises(AdapterError, match="of a text encoder"):
        import_lora(text, tiny_spec(NAME))
    assert import_lora(text, tiny_spec(NAME), ignore_unmatched=True).temporal == "ko"


def test_a_transformer_has_no_such_list(tmp_path: Path) -> None:
    file, _ = written(tmp_path / "list.safetensors", walked(tiny_backbone(NAME).denoiser, KO))
    with pytest.raises(
        AdapterError, match="numbers its layers, as files for 3-D U-Nets do, and puppet-hunyuan is none"
    ):
        import_lora(file, SPECS["puppet-hunyuan"])


def test_the_lists_of_the_real_size_are_the_published() -> None:
    from synmotion_core.backbones.weightless import weightless_denoiser

    lists = temporal_lists(weightless_denoiser(SPECS[NAME]))
    assert {letters: len(lists[letters]) for letters in ("k", "ko", "qkvof")} == {"k": 34, "ko": 68, "qkvof": 170}
    assert lists["ko"][:4] == [
        f"transformer_in.transformer_blocks.0.{name}"
        for name in ("attn1.to_k", "attn1.to_out.0", "attn2.to_k", "attn2.to_out.0")
    ]
    assert lists["k"][2].startswith("down_blocks.0.temp_attentions.0.")
    assert lists["k"][-1].startswith("mid_block.")
