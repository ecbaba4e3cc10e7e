"""Adapters of the official repository: what its files may hold, and files that mean harm."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from synmotion_core import cli
from synmotion_core.adapters import pickled
from synmotion_core.adapters.file import load_adapter
from synmotion_core.adapters.foreign_names import original_layers
from synmotion_core.adapters.official import EMBEDDING, LORA, convert_official, inventory
from synmotion_core.adapters.pickled import read_pickle
from synmotion_core.backbones import find_spec
from synmotion_core.config import from_dict
from synmotion_core.errors import AdapterError, MissingError
from synmotion_core.methods import find_method
from synmotion_core.methods.dual_embedding import EmbeddingRefiner
from synmotion_core.types import Prompt
from tests.adapters.foreign_files import keys_of, random_loras, write_file
from tests.models import PROMPTS, noisy, puppet_backbone

SPEC = find_spec("puppet-hunyuan")
PROMPT = Prompt(subject="a person", motion="waves")
WIDTH = puppet_backbone().text_width
NAMES = ("double_blocks.0.img_attn_qkv", "double_blocks.1.txt_attn_qkv", "single_blocks.0.linear1")


def embeddings(seed: int = 0) -> dict[str, Tensor]:
    """As a module with two embeddings and two zero convolutions would save itself."""
    generator = torch.Generator().manual_seed(seed)

    def some(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.1

    return {
        "module.motion_embedding": some(1, 3, WIDTH),
        "module.subject_embedding": some(2, WIDTH),
        "module.zero_conv_motion.weight": some(WIDTH, WIDTH, 1),
        "module.zero_conv_motion.bias": some(WIDTH),
        "module.zero_conv_subject.weight": some(WIDTH, WIDTH),
    }


def folder(tmp_path: Path, content: Any, style: str = "HunyuanVideo-I2V") -> Path:
    torch.save(content, tmp_path / EMBEDDING)
    layers = original_layers("hunyuan_video", puppet_backbone().denoiser)
    write_file(tmp_path / LORA, keys_of(random_loras(layers, NAMES, alpha=1.5), style))
    return tmp_path


def test_embeddings_and_lora_become_one_adapter(tmp_path: Path) -> None:
    given = embeddings()
    done = convert_official(folder(tmp_path, {"state_dict": given}), SPEC, tmp_path / "ours.safetensors", prompt=PROMPT)
    assert [r.summary for r in done.reports] == [
        f"{EMBEDDING}: 5 of 5 keys apply to puppet-hunyuan",
        f"{LORA}: 9 of 9 keys apply to puppet-hunyuan",
    ]
    tensors, info = load_adapter(done.path, SPEC)
    assert done.applied == len(tensors)
    assert torch.equal(tensors["synmotion.motion_embedding"], given["module.motion_embedding"][0])
    assert torch.equal(tensors["synmotion.subject_zero.weight"][:, :, 0], given["module.zero_conv_subject.weight"])
    assert not tensors["synmotion.subject_zero.bias"].any()
    backbone = puppet_backbone()
    entry = find_method(info.method)
    method = entry.attach(backbone, from_dict(entry.config, dict(info.method_config)), PROMPT)
    try:
        method.load_state_dict(tensors)
        text = backbone.encode_prompt(PROMPTS)
        found = method.condition(text).prompt_embeds - text.prompt_embeds
        subject, motion = (mask.unsqueeze(-1) for mask in (text.subject_tokens, text.motion_tokens))
        assert all((found * mask).abs().max() > 0.01 for mask in (subject, motion))
        assert not (found * ~(text.subject_tokens | text.motion_tokens).unsqueeze(-1)).any()
        x, s = noisy(backbone)
        with torch.no_grad():
            adapted = backbone.predict(x, s, text.as_condition())
            method.set_strength(0.0)
            assert not torch.equal(adapted, backbone.predict(x, s, text.as_condition()))
    finally:
        method.detach()


def test_what_no_rule_takes_is_refused_with_everything_that_is_there(tmp_path: Path) -> None:
    numbered = {"zero_convs.0.weight": torch.zeros(WIDTH, WIDTH)}
    given = {**embeddings(), "refiner.mlp.0.weight": torch.zeros(8, WIDTH), "step": 400, **numbered}
    path = folder(tmp_path, given)
    with pytest.raises(AdapterError) as caught:
        convert_official(path, SPEC, tmp_path / "ours.safetensors", prompt=PROMPT)
    said = str(caught.value)
    assert said.startswith(f"{EMBEDDING}: 5 of 8 keys apply to puppet-hunyuan; to go without the others: --ignore-unm")
    assert f"'module.motion_embedding'  float32  [1, 3, {WIDTH}]  -> synmotion.motion_embedding" in said
    assert f"'refiner.mlp.0.weight'  float32  [8, {WIDTH}]  no rule knows it" in said
    assert "'step'  int  []  no tensor of" in said
    assert not (tmp_path / "ours.safetensors").exists()
    done = convert_official(path, SPEC, tmp_path / "ours.safetensors", prompt=PROMPT, ignore_unmatched=True)
    assert sum("left out" in line for line in done.reports[0].lines()) == 3


@pytest.mark.parametrize("dropped", ["module.motion_embedding", "module.zero_conv_motion.weight"])
def test_an_embedding_needs_its_zero_convolution(tmp_path: Path, dropped: str) -> None:
    given = {k: v for k, v in embeddings().items() if k != dropped}
    with pytest.raises(AdapterError, match="the motion's embedding acts through its zero convolution"):
        convert_official(folder(tmp_path, given), SPEC, tmp_path / "ours.safetensors", prompt=PROMPT)


@pytest.mark.parametrize(("like", "taken"), [("ours", True), ("one layer less", False)])
def test_a_refiner_is_taken_in_our_own_form(tmp_path: Path, like: str, taken: bool) -> None:
    own = {f"refiner.{k}": v for k, v in EmbeddingRefiner(WIDTH, 32, 2).state_dict().items()}
    if not taken:
        own = {k: v for k, v in own.items() if "blocks.1.linear2" not in k}
    own |= {"zero_refiner.weight": torch.ones(WIDTH, WIDTH, 1), "zero_refiner.bias": torch.ones(WIDTH)}
    path, out = folder(tmp_path, {**embeddings(), **own}), tmp_path / "ours.safetensors"
    if taken:
        convert_official(path, SPEC, out, prompt=PROMPT)
        assert load_adapter(out, SPEC)[1].method_config["refiner_layers"] == 2
    else:
        with pytest.raises(AdapterError, match="of another form than this program's"):
            convert_official(path, SPEC, out, prompt=PROMPT)


def test_the_inventory_lists_and_converts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder(tmp_path, embeddings())
    found = inventory(path)
    assert (len(found[EMBEDDING]), len(found[LORA])) == (5, 9)
    before = sorted(tmp_path.iterdir())
    assert cli.main(["convert-official", str(path), "--inventory"]) == cli.OK
    out = capsys.readouterr().out
    assert f"  'module.motion_embedding'  float32  [1, 3, {WIDTH}]" in out
    assert "  'Hunyuan_video_I2V_lora_single_blocks_0_linear1.alpha'  F32  []" in out
    assert cli.main(["convert-official", str(path), "--inventory", "--json"]) == cli.OK
    assert len(json.loads(capsys.readouterr().out)[EMBEDDING]) == 5
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(MissingError, match="there is neither"):
        inventory(tmp_path / "nowhere")
    assert cli.main(["convert-official", str(path)]) == cli.REFUSED
    assert "an adapter needs words" in capsys.readouterr().err


def test_the_command_writes_an_adapter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder(tmp_path, embeddings())
    words = ["--subject", "a person", "--motion", "waves", "--backbone", "puppet-hunyuan"]
    assert cli.main(["convert-official", str(path), *words, "--out", str(tmp_path / "w.safetensors")]) == cli.OK
    out, err = capsys.readouterr()
    assert out.strip() == str(tmp_path / "w.safetensors")
    assert "saved w.safetensors and loaded it back: 26 of 26 keys apply" in err


# ------------------------------------------------------------------------------------------------ files that mean harm


class Harm:
    """A pickle that would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        import os

        return os.system, (f"touch {self.mark}",)


def refusal(path: Path) -> str:
    with pytest.raises(AdapterError) as caught:
        read_pickle(path)
    return str(caught.value)


@pytest.mark.parametrize("form", ["zip", "bare"])
def test_code_is_never_run(tmp_path: Path, form: str) -> None:
    path, mark = tmp_path / "x.pth", tmp_path / "mark"
    if form == "bare":
        path.write_bytes(pickle.dumps({"a": Harm(mark)}))
    else:
        torch.save({"a": Harm(mark)}, path)
    said = refusal(path)
    what = "something else than" if form == "bare" else "code (posix.system) and not only"
    assert said == f"x.pth holds {what} tensors, so it is not read"
    assert not mark.exists()


@pytest.mark.parametrize("keep", [10, 0.9])
def test_a_truncated_file(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "x.pth"
    torch.save(embeddings(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else int(keep)])
    said = refusal(path)
    assert said.startswith("x.pth ")
    assert "damaged" in said or "something else than tensors" in said
    assert "Traceback" not in said


def test_more_than_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"motion": torch.zeros(1).expand(1 << 20, 1 << 20)}, path)
    assert "says that 'motion' is [1048576, 1048576], more than it holds" in refusal(path)
    one = torch.zeros(1 << 18)
    torch.save({f"copy {i}": one[:] for i in range(400)}, path)  # 400 views of one MiB
    assert "says that it is larger than it is" in refusal(path)


def test_a_bomb_hits_the_memory_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros, deflated: torch unpacks a storage at once."""
    path = tmp_path / "x.pth"
    whole = io.BytesIO()
    torch.save({"motion": torch.zeros(30 << 20)}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert path.stat().st_size < 1 << 20
    monkeypatch.setattr(pickled, "MEMORY_BYTES", 64 << 20)
    assert refusal(path) == "x.pth needs more memory than a file of its size should"


def test_an_old_file_that_claims_a_huge_storage(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"motion": torch.zeros(424_242)}, path, _use_new_zipfile_serialization=False)
    claimed = path.read_bytes().replace((424_242).to_bytes(4, "little"), (2**31 - 1).to_bytes(4, "little"))
    path.write_bytes(claimed)
    assert refusal(path) == "x.pth needs more memory than a file of its size should"


def test_depth_and_number_are_limited(tmp_path: Path) -> None:
    path, deep = tmp_path / "x.pth", {"a": torch.zeros(1)}
    for _ in range(20):
        deep = {"a": deep}  # type: ignore[dict-item]
    torch.save(deep, path)
    assert "nested too deep" in refusal(path)
    torch.save(list(range(6000)), path)
    assert "holds more than 5000 values" in refusal(path)


def test_the_reader_has_no_secrets_and_a_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert "HF_TOKEN" not in pickled._environment()
    path = tmp_path / "x.pth"
    torch.save(embeddings(), path)
    monkeypatch.setattr(pickled, "SECONDS", 0.01)
    assert "takes longer than" in refusal(path)


def test_other_types_are_listed_and_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"a": torch.zeros(2, dtype=torch.int64), "b": torch.nn.Parameter(torch.ones(2)), "c": "text"}, path)
    items, tensors = read_pickle(path)
    assert [(i.name, i.dtype) for i in items] == [("a", "int64"), ("b", "float32"), ("c", "str")]
    assert tensors.keys() == {"b"}
