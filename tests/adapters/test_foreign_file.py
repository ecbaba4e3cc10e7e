"""LoRA files that are not whole, not LoRA, not for this model, or made to do harm: what is said of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from synmotion_core.adapters.convert import convert
from synmotion_core.adapters.foreign import import_lora
from synmotion_core.adapters.foreign_file import MAX_KEYS, read_foreign
from synmotion_core.backbones import find_spec
from synmotion_core.errors import AdapterError, ConfigError
from synmotion_core.methods.attention_lora import peft_settings
from synmotion_core.types import Prompt
from tests.adapters.foreign_files import write_file

SPEC = find_spec("puppet-hunyuan")
WIDTH = 192
ONE = "diffusion_model.double_blocks.0.img_attn_proj"
QKV = "diffusion_model.double_blocks.0.img_attn_qkv"


def lora(name: str = ONE, rank: int = 2, outputs: int = WIDTH, kind: tuple[str, str] = ("A", "B")) -> dict[str, Tensor]:
    return {
        f"{name}.lora_{kind[0]}.weight": torch.ones(rank, WIDTH),
        f"{name}.lora_{kind[1]}.weight": torch.ones(outputs, rank),
    }


def refusal(tmp_path: Path, tensors: dict[str, Tensor], **more: Any) -> str:
    path = write_file(tmp_path / "x.safetensors", tensors)
    with pytest.raises(AdapterError) as caught:
        import_lora(path, SPEC, **more)
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_keys_without_a_place_are_listed_and_counted(tmp_path: Path) -> None:
    strange = {k: v for i in range(7) for k, v in lora(f"diffusion_model.blocks.{i}.cross_attn.k_img").items()}
    clip = lora("lora_te_text_model_encoder_layers_0_mlp_fc1", kind=("down", "up"))
    changed = {f"{ONE}.diff_b": torch.zeros(WIDTH), f"{ONE}.lora_B.bias": torch.zeros(WIDTH)}
    beside = {"diffusion_model.blocks.0.cross_attn.k_img.diff_b": torch.ones(WIDTH)}  # of a layer that goes as well
    conv = {"lora_unet_img_in_proj.lora_down.weight": torch.zeros(2, 16, 1, 2, 2),
            "lora_unet_img_in_proj.lora_up.weight": torch.zeros(WIDTH, 2, 1, 1, 1)}  # fmt: skip
    every = {**lora(), **strange, **clip, **changed, **conv, **beside}
    said = refusal(tmp_path, every)
    for words in (
        "x.safetensors: 4 of 23 keys apply to puppet-hunyuan, not 19: ",
        "'diffusion_model.blocks.0.cross_attn.k_img.lora_A.weight'",
        "and 10 more (puppet-hunyuan has no such layer)",
        "'lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight' (of a text encoder",
        "(of a convolution, and only linear layers are adapted)",
    ):
        assert words in said, words
    report = import_lora(tmp_path / "x.safetensors", SPEC, ignore_unmatched=True).report
    assert (report.applied, len(report.keys)) == (4, 23)
    left = [line for line in report.lines() if "left out" in line]
    assert len(left) == 19
    assert f"  2 keys are dropped, as what they add is zero: '{ONE}.diff_b', '{ONE}.lora_B.bias'" in report.lines()
    whole = report.lines(every=True)
    assert f"  '{ONE}.lora_A.weight' -> transformer_blocks.0.attn.to_out.0" in whole
    assert len(whole) == 3 + 23


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (f"{ONE}.diff_b", 1e-3),
        (f"{ONE}.diff", 1e-3),
        (f"{ONE}.set_weight", 0.0),
        (f"{ONE}.lora_B.bias", 1e-3),
        (f"{ONE}.lora_up.bias", 1e-3),
        ("diffusion_model.double_blocks.0.img_norm1.diff", 1e-3),
        ("diffusion_model.double_blocks.0.diff_m", 1e-3),
    ],
)
@pytest.mark.parametrize("loose", [False, True])
def test_a_change_of_a_layer_itself_is_never_left_out(tmp_path: Path, key: str, value: float, loose: bool) -> None:
    said = refusal(tmp_path, {**lora(), key: torch.full((WIDTH,), value)}, ignore_unmatched=loose)
    assert "the LoRA without that would be another adapter" in said
    assert f"'{key}'" in said


def test_a_file_of_another_model_is_said_to_be_one_whatever_it_changes(tmp_path: Path) -> None:
    every = {**lora("diffusion_model.blocks.0.ffn.0"), "diffusion_model.blocks.0.norm3.diff": torch.ones(4)}
    assert "none of its 3 keys apply to puppet-hunyuan" in refusal(tmp_path, every, ignore_unmatched=True)
    zero = {f"{ONE}.diff_b": torch.zeros(WIDTH)}
    assert "none of its 1 keys apply to puppet-hunyuan: all of them are zero" in refusal(tmp_path, zero)


def test_nothing_that_applies_is_an_error_in_any_case(tmp_path: Path) -> None:
    said = refusal(tmp_path, lora("lora_unet_blocks_0_self_attn_q"), ignore_unmatched=True)
    assert "none of its 2 keys apply to puppet-hunyuan" in said


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({**lora(), f"{ONE}.dora_scale": torch.ones(1, WIDTH)}, "DoRA"),
        ({**lora(), f"{ONE}.lora_magnitude_vector": torch.ones(WIDTH)}, "DoRA"),
        ({**lora(), f"{ONE}.magnitude": torch.ones(WIDTH)}, "DoRA"),
        ({f"{ONE}.hada_w1_a": torch.ones(2, 2)}, "LoHa"),
        ({f"{ONE}.lokr_w1": torch.ones(2, 2)}, "LoKr"),
        ({**lora(), f"{ONE}.lora_mid.weight": torch.ones(2, 2)}, "LyCORIS"),
        ({f"{ONE}.lora_A.weight": torch.ones(2, WIDTH)}, "lack the other half"),
        ({f"{ONE}.alpha": torch.tensor(1.0)}, "lack the other half"),
        ({**lora(), f"{ONE}.lora_down.weight": torch.ones(2, WIDTH)}, "are the same part"),
        ({**lora(), f"{ONE}.alpha": torch.ones(2)}, "must be one number"),
        ({**lora(), f"{ONE}.alpha": torch.tensor(0.0)}, "must be above 0, got 0"),
        ({**lora(), f"{ONE}.alpha": torch.tensor(float("nan"))}, "values that are no numbers"),
        ({**lora(), f"{ONE}.lora_B.weight": torch.full((WIDTH, 2), float("inf"))}, "values that are no numbers"),
        ({**lora(), f"{ONE}.lora_B.weight": torch.ones(WIDTH, 3)}, "the rank in common"),
        (lora(rank=513), "has rank 513, taken are 1 to 512"),
        (lora(rank=0), "has rank 0, taken are 1 to 512"),
        (lora(outputs=64), "is for a layer of 192 inputs and 64 outputs"),
        ({k: v.double() for k, v in lora().items()}, "is of type 'F64'"),
        ({k: v.to(torch.float8_e4m3fn) for k, v in lora().items()}, "is of type 'F8_E4M3'"),
        ({**lora(QKV, outputs=3 * WIDTH), **lora("transformer.transformer_blocks.0.attn.to_q")}, "twice"),
        ({**lora(), **lora("x" * 400)}, "a key of 414 characters"),
        ({**lora(), **lora("\x1b[31m\n\u202e")}, r"\x1b[31m\n\u202e"),
    ],
)
def test_what_cannot_be_right_is_refused(tmp_path: Path, tensors: dict[str, Tensor], words: str) -> None:
    assert words in refusal(tmp_path, tensors)


def test_a_damaged_file_is_said_to_be_one(tmp_path: Path) -> None:
    path = write_file(tmp_path / "x.safetensors", lora())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(AdapterError, match=r"x\.safetensors is damaged"):
        import_lora(path, SPEC)
    path.write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(AdapterError, match="is not a safetensors file"):
        import_lora(path, SPEC)
    for shape in ([1 << 40, 1 << 20], [-1], "2"):
        header = json.dumps({"a.lora_A.weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}}).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
        with pytest.raises(AdapterError):
            import_lora(path, SPEC)
    with pytest.raises(AdapterError, match=r"there is no file none\.safetensors"):
        import_lora(tmp_path / "none.safetensors", SPEC)


def test_a_header_of_very_many_tensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    header = json.dumps({f"{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(MAX_KEYS + 1)})
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    with pytest.raises(AdapterError, match="holds 20001 tensors, at most 20000"):
        read_foreign(path)


# ------------------------------------------------------------------------------------------------ alpha


def alphas(path: Path, **more: Any) -> dict[str, tuple[int, float]]:
    return dict(import_lora(path, SPEC, **more).modules)


def test_alpha_of_diffusers_metadata(tmp_path: Path) -> None:
    q, out = "transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_out.0"
    tensors = {**lora(f"transformer.{q}"), **lora(f"transformer.{out}")}
    for settings, expected in [
        ({"transformer.lora_alpha": 8}, (8.0, 8.0)),
        ({"lora_alpha": 8, "alpha_pattern": {"to_q": 3}}, (3.0, 8.0)),
        ({"transformer.lora_alpha": 8, "transformer.alpha_pattern": {f"^{out}": 1.0}}, (8.0, 1.0)),
        ({"lora_alpha": 8, "alpha_pattern": {"^to_q": 3}}, (8.0, 8.0)),
        ({"lora_alpha": 8, "use_rslora": True}, (8 * 2**0.5, 8 * 2**0.5)),
        ({"lora_alpha": 8, **peft_settings({out: (2, 4.0), q: (2, 4.0), "x.a": (1, 1.0)})}, (4.0, 4.0)),
        ({"r": 2}, (2.0, 2.0)),
    ]:
        said = {"lora_adapter_metadata": json.dumps(settings)}
        found = alphas(write_file(tmp_path / "x.safetensors", tensors, said))
        assert found == {q: (2, expected[0]), out: (2, expected[1])}, settings


def test_our_own_patterns_are_read(tmp_path: Path) -> None:
    q, k = "transformer_blocks.0.attn.to_q", "transformer_blocks.1.attn.to_k"
    own = {q: (2, 1.0), k: (3, 5.0)}
    tensors = {**lora(f"transformer.{q}", 2), **lora(f"transformer.{k}", 3)}
    settings = json.dumps(peft_settings(own))
    assert alphas(write_file(tmp_path / "x.safetensors", tensors, {"lora_adapter_metadata": settings})) == own


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"peft_type": "LOHA"}, "not LoRA"),
        ({"lora_alpha": -1}, "alpha must be a number above 0"),
        ({"lora_alpha": "8"}, "alpha must be a number above 0"),
        ({"alpha_pattern": {"(a+)+$": 1}}, "regular expression"),
        ({"alpha_pattern": [1]}, "not readable"),
        ([1], "not readable"),
    ],
)
def test_settings_that_cannot_be_right(tmp_path: Path, settings: Any, words: str) -> None:
    path = write_file(tmp_path / "x.safetensors", lora(), {"lora_adapter_metadata": json.dumps(settings)})
    with pytest.raises(AdapterError, match=words):
        import_lora(path, SPEC)


def test_alpha_beside_a_peft_file(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 6}))
    assert set(alphas(write_file(tmp_path / "adapter_model.safetensors", lora())).values()) == {(2, 6.0)}
    assert set(alphas(write_file(tmp_path / "other.safetensors", lora())).values()) == {(2, 2.0)}


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("ending", ["alpha", "lora_alpha"])
def test_alpha_may_be_a_whole_number(tmp_path: Path, dtype: torch.dtype, ending: str) -> None:
    """As torch.tensor(rank) is."""
    path = write_file(tmp_path / "x.safetensors", {**lora(), f"{ONE}.{ending}": torch.tensor(4, dtype=dtype)})
    assert set(alphas(path).values()) == {(2, 4.0)}
    assert import_lora(path, SPEC).report.alphas == {"key": 1}
    whole = {k: v.to(torch.int64) for k, v in lora().items()}
    assert "is of type 'I64', read are F32, F16, BF16" in refusal(tmp_path, whole)


@pytest.mark.parametrize(
    ("header", "expected", "source"),
    [
        ({"lora_config": json.dumps({"r": 2, "lora_alpha": 8})}, 8.0, "lora_config"),
        ({"lora_alpha": "8"}, 8.0, "lora_alpha"),
        ({"network_alpha": "8", "network_dim": "2"}, 8.0, "network_alpha"),
        ({"transformer.lora_alpha": "8.0"}, 8.0, "transformer.lora_alpha"),
        ({"lora_alpha": "8", "network_alpha": "8"}, 8.0, "lora_alpha, network_alpha"),
        ({"lora_adapter_metadata": json.dumps({"lora_alpha": 8}), "lora_alpha": "8"}, 8.0, "settings"),
        ({"lora_adapter_metadata": json.dumps({"use_rslora": True}), "lora_alpha": "8"}, 8 * 2**0.5, "lora_alpha"),
        ({"text_encoder.lora_alpha": "8", "network_alpha": "None", "lora_config": "[1]"}, 2.0, "none"),
        ({"lora_config": json.dumps({"rank": 2})}, 2.0, "none"),
        ({"ss_network_alpha": "8", "ss_network_dim": "2"}, 2.0, "converted"),
    ],
)
def test_alpha_of_the_header(tmp_path: Path, header: dict[str, str], expected: float, source: str) -> None:
    path = write_file(tmp_path / "x.safetensors", lora(), header)
    found = import_lora(path, SPEC)
    assert set(found.modules.values()) == {(2, expected)}
    assert found.report.alphas == {source: 1}
    assert len(found.report.lines()) == 2
    keyed = write_file(path, {**lora(), f"{ONE}.alpha": torch.tensor(1.0)}, header)
    assert set(alphas(keyed).values()) == {(2, 1.0)}, "keys win"


def test_kohyas_header_counts_for_kohyas_keys_alone(tmp_path: Path) -> None:
    """Converted files keep it, with alpha multiplied into A and B: taken again it would count twice."""
    tensors, header = lora(kind=("X", "Y")), {"ss_network_alpha": "8", "ss_network_dim": "2"}
    tensors = {k.replace("lora_X", "lora_down").replace("lora_Y", "lora_up"): v for k, v in tensors.items()}
    report = import_lora(write_file(tmp_path / "x.safetensors", tensors, header), SPEC).report
    assert report.lines()[1] == "  1 layers: alpha by ss_network_alpha in the file’s header"
    report = import_lora(write_file(tmp_path / "x.safetensors", lora(), header), SPEC).report
    assert "alpha = rank" in report.lines()[1]
    assert "ss_network_alpha" in report.lines()[1]


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"lora_alpha": "8", "network_alpha": "4"}, "says more than one alpha, 8 by lora_alpha, 4 by network_alpha"),
        ({"lora_adapter_metadata": '{"lora_alpha": 4}', "lora_alpha": "8"}, "4 by PEFT's settings, 8 by lora_alpha"),
        ({"lora_alpha": "0"}, "lora_alpha in its header must be a number above 0, got '0'"),
        ({"lora_alpha": "\x1b[31m"}, r"got '\x1b[31m'"),
        ({"network_alpha": "Dynamic"}, "network_alpha in its header must be a number above 0, got 'Dynamic'"),
        ({"lora_config": '{"lora_alpha": 1' + "0" * 400 + "}"}, "lora_config in its header must be a number above 0"),
        ({"lora_config": '{"r": 4, "lora_alpha": 4}'}, "says alpha 4 for rank 4, by lora_config, and holds a layer of"),
    ],
)
def test_a_header_at_odds_with_itself_is_refused_unless_alpha_is_given(
    tmp_path: Path, header: dict[str, str], words: str
) -> None:
    path = write_file(tmp_path / "x.safetensors", lora(), header)
    with pytest.raises(AdapterError) as caught:
        import_lora(path, SPEC)
    assert words in str(caught.value)
    assert set(alphas(path, alpha=3.0).values()) == {(2, 3.0)}
    keyed = write_file(path, {**lora(), f"{ONE}.alpha": torch.tensor(1.0)}, header)
    assert set(alphas(keyed).values()) == {(2, 1.0)}


def test_an_alpha_that_is_given_is_for_files_that_say_none(tmp_path: Path) -> None:
    path = write_file(tmp_path / "x.safetensors", lora())
    assert set(alphas(path, alpha=0.5).values()) == {(2, 0.5)}
    path = write_file(tmp_path / "x.safetensors", {**lora(), f"{ONE}.alpha": torch.tensor(1.0)})
    with pytest.raises(ConfigError, match="says the alpha of every layer itself"):
        import_lora(path, SPEC, alpha=0.5)


# ------------------------------------------------------------------------------------------------ fused ranks


def test_ranks_side_by_side_come_apart(tmp_path: Path) -> None:
    """ComfyUI's way to hold q, k and v of one layer: three LoRAs in a triple rank, alpha three times as large."""
    up, down = torch.zeros(3 * WIDTH, 6), torch.randn(6, WIDTH)
    up[:WIDTH, 0:2], up[2 * WIDTH :, 4:6] = torch.randn(WIDTH, 2), torch.randn(WIDTH, 2)
    tensors = {f"{QKV}.lora_A.weight": down, f"{QKV}.lora_B.weight": up, f"{QKV}.alpha": torch.tensor(3.0)}
    found = import_lora(write_file(tmp_path / "x.safetensors", tensors), SPEC)
    q, v = (f"transformer_blocks.0.attn.to_{x}" for x in "qv")
    assert found.modules == {q: (2, 1.0), v: (2, 1.0)}
    assert torch.equal(found.tensors[f"transformer.{v}.lora_A.weight"], down[4:])
    assert torch.equal(found.tensors[f"transformer.{v}.lora_B.weight"], up[2 * WIDTH :, 4:])


def test_what_changes_nothing_is_no_adapter(tmp_path: Path) -> None:
    tensors = {f"{QKV}.lora_A.weight": torch.ones(2, WIDTH), f"{QKV}.lora_B.weight": torch.zeros(3 * WIDTH, 2)}
    path, out = write_file(tmp_path / "x.safetensors", tensors), tmp_path / "out.safetensors"
    with pytest.raises(AdapterError, match="changes nothing"):
        convert([path], SPEC, out, prompt=Prompt(subject="a person", motion="waves"))
    assert not out.exists()


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    path, out = write_file(tmp_path / "x.safetensors", lora()), tmp_path / "out.safetensors"
    out.write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        convert([path], SPEC, out, prompt=Prompt(subject="a person", motion="waves"))
    assert out.read_text() == "mine"
