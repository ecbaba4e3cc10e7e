"""Tokenizers as repositories on the Hub have them, by the classes that their indexes name: what is read is what the
file says."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import CLIPTokenizer, LlamaTokenizerFast, PreTrainedTokenizerFast, Qwen2Tokenizer, T5TokenizerFast

from synmotion_core import backbones
from synmotion_core.backbones import find_spec, load_backbone
from synmotion_core.backbones.tokenizers import read_as_written
from synmotion_core.errors import ConfigError
from synmotion_core.precision import weights_of
from synmotion_core.puppets.blueprint import corpus_of_captions
from synmotion_core.types import Prompt
from tests.backbones import tiny

HUNYUAN = ("hunyuanvideo", "hunyuanvideo-i2v")
PROMPT = Prompt(subject="a red cat", motion="waves both arms", setting="in the snow")
TEXTS = (
    *("a red cat waves both arms", "It's 42 years old; don't!", "  two  spaces\n\nand  newlines ", "naïve café"),
    *("一只猫 dances 🐈", "{}"),
)
# how Llama 3 and Qwen cut a text before its bytes are merged: digits by three, and one by one
CUT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
THREE_DIGITS, ONE_DIGIT = Regex(CUT % r"\p{N}{1,3}"), Regex(CUT % r"\p{N}")


def corpus() -> list[str]:
    templates = [find_spec(name).options["prompt_template"]["template"] for name in HUNYUAN]
    return [*corpus_of_captions(300), *TEXTS[:4] * 50, *templates * 50]


def byte_level(specials: list[str], cut: Regex) -> Tokenizer:
    own = Tokenizer(models.BPE())
    own.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(cut, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    own.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    own.train_from_iterator(
        corpus(), trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    )
    own.add_special_tokens(specials)
    return own


def saved(folder: Path, own: Tokenizer, tokenizer_class: str, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    own.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": tokenizer_class, **config}))
    return folder


def llama3(folder: Path) -> Path:
    """As hunyuanvideo-community/HunyuanVideo has it, but for the size."""
    marks = ["<|begin_of_text|>", "<|end_of_text|>", *tiny.MARKS, "<unk>", "<pad>"]
    own = byte_level(marks, THREE_DIGITS)
    begin = "<|begin_of_text|>"
    adds = processors.TemplateProcessing(single=f"{begin} $A", special_tokens=[(begin, own.token_to_id(begin))])
    own.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), adds])
    return saved(
        folder, own, "LlamaTokenizer", add_bos_token=True, add_eos_token=False, add_prefix_space=None, bos_token=begin,
        eos_token="<|end_of_text|>", legacy=True, model_max_length=2048, pad_token="<pad>", padding_side="right",
        unk_token="<unk>", use_default_system_prompt=False,
    )  # fmt: skip


def qwen2(folder: Path) -> Path:
    own = byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], ONE_DIGIT)
    own.normalizer = normalizers.NFC()
    return saved(folder, own, "Qwen2Tokenizer", eos_token="<|im_end|>", pad_token="<|endoftext|>")


def clip(folder: Path) -> Path:
    marks = ["<|startoftext|>", "<|endoftext|>"]
    own = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix="", unk_token=marks[1]))
    own.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    cut = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    own.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(cut, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    own.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=marks, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    own.train_from_iterator(corpus(), trainer)
    ends = [(mark, own.token_to_id(mark)) for mark in reversed(marks)]
    own.post_processor = processors.RobertaProcessing(*ends, trim_offsets=False, add_prefix_space=False)
    names = dict.fromkeys(("eos_token", "pad_token", "unk_token"), marks[1])
    return saved(folder, own, "CLIPTokenizer", bos_token=marks[0], model_max_length=77, **names)


def umt5(folder: Path, *, byte_fallback: bool = True, unknown: int = 2) -> Path:
    own = Tokenizer(models.Unigram())
    specials = ["<pad>", "</s>", "<s>", "<unk>"] if unknown == 3 else ["<pad>", "</s>", "<unk>"]
    space = {"replacement": "▁", "prepend_scheme": "always"}
    own.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**space)])
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=specials, unk_token="<unk>", show_progress=False)
    own.train_from_iterator(corpus(), trainer)
    state = json.loads(own.to_str())
    model = state["model"]
    at = len(specials)
    model["vocab"][at:at] = [[f"<0x{byte:02X}>", -20.0] for byte in range(256)]
    model |= {"byte_fallback": byte_fallback, "unk_id": unknown}
    own = Tokenizer.from_str(json.dumps(state))
    own.decoder = decoders.Metaspace(**space)
    own.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    extra = [f"<extra_id_{i}>" for i in range(300)]
    return saved(folder, own, "T5Tokenizer", extra_ids=300, additional_special_tokens=extra, **names)


def umt5_without_bytes(folder: Path) -> Path:
    return umt5(folder, byte_fallback=False)


def umt5_of_another_unknown(folder: Path) -> Path:
    return umt5(folder, byte_fallback=False, unknown=3)


class Pipe:
    """What is looked at of a pipeline."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer


Made = Callable[[Path], Path]
FILES: tuple[tuple[Made, Any, str], ...] = (
    (llama3, LlamaTokenizerFast, "+tokenizer.json"),
    (umt5, T5TokenizerFast, "+tokenizer.json"),
    (umt5_of_another_unknown, T5TokenizerFast, "+tokenizer.json"),
    (umt5_without_bytes, T5TokenizerFast, ""),
    (qwen2, Qwen2Tokenizer, ""),
    (clip, CLIPTokenizer, ""),
)


@pytest.mark.parametrize(("make", "family", "says"), FILES)
def test_each_class_gives_the_ids_that_its_file_says(make: Made, family: Any, says: str, tmp_path: Path) -> None:
    folder = make(tmp_path)
    pipe, file = Pipe(family.from_pretrained(folder)), Tokenizer.from_file(str(folder / "tokenizer.json"))
    own = pipe.tokenizer
    assert read_as_written(pipe, ("text_encoder", "tokenizer")) == says
    assert (pipe.tokenizer is own) == (not says), "what is as its file says stays"
    for text in TEXTS:
        assert pipe.tokenizer(text).input_ids == file.encode(text).ids
    for same in ("padding_side", "pad_token", "pad_token_id", "model_max_length", "is_fast"):
        assert getattr(pipe.tokenizer, same) == getattr(own, same)
    assert set(pipe.tokenizer.all_special_tokens) == set(own.all_special_tokens)
    assert read_as_written(pipe, ("tokenizer",)) == "", "once"


def test_no_class_is_read_otherwise_without_the_file(tmp_path: Path) -> None:
    pipe = Pipe(LlamaTokenizerFast(vocab={"<unk>": 0, "<s>": 1, "</s>": 2}, merges=[]))
    pipe.tokenizer.name_or_path = str(tmp_path)
    assert read_as_written(pipe, ("tokenizer",)) == ""


@pytest.fixture(params=HUNYUAN)
def row(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[str, Path]:
    """A row at a tiny size; its folder with a tokenizer of Llama 3's kind, by the class that the Hub's index names."""
    tokenizer = llama3(tmp_path / "llama3")
    monkeypatch.setattr(tiny, "_tokenizer", lambda: PreTrainedTokenizerFast.from_pretrained(tokenizer))
    folder = tmp_path / "row"
    tiny.FOLDERS[request.param](folder)
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"tokenizer": ["transformers", "LlamaTokenizerFast"]}))
    for path in (folder / "tokenizer").iterdir():
        path.unlink()
    llama3(folder / "tokenizer")
    monkeypatch.setitem(backbones.SPECS, request.param, tiny.tiny_spec(request.param))
    return request.param, folder


def test_hunyuanvideos_words_are_llamas(row: tuple[str, Path]) -> None:
    """Bytes with their spaces, cut where the template ends, and roles on their own words."""
    name, folder = row
    backbone: Any = load_backbone(name, device="cpu", folder=folder)
    tokenizer, template = backbone.pipe.tokenizer, backbone.spec.options["prompt_template"]
    text = template["template"].format(PROMPT.text)
    file = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    tokens = backbone._tokens([PROMPT.text], [(PROMPT.span("subject"), PROMPT.span("motion"))])
    ids = tokens.ids[0]
    assert ids.tolist() == file.encode(text).ids
    assert tokenizer.decode(ids[template["crop_start"] :]) == text.split("<|end_header_id|>\n\n", 2)[2]
    assert tokenizer.decode(ids[tokens.subject[0]]).strip() == "a red cat"
    assert tokenizer.decode(ids[tokens.motion[0]]).strip() == "waves both arms"
    assert not (tokens.subject | tokens.motion)[0, : template["crop_start"]].any()
    assert backbone.fingerprint == weights_of(backbone.fingerprint) + "+tokenizer.json"
    if name == "hunyuanvideo":
        encoded = backbone.encode_prompt([PROMPT])
        assert torch.isfinite(encoded.prompt_embeds).all()
        assert encoded.prompt_embeds.shape[1] == len(ids) - template["crop_start"]


def test_a_tokenizer_that_the_template_does_not_fit_is_refused(
    row: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, folder = row
    spec = backbones.SPECS[name]
    crop = spec.options["prompt_template"]["crop_start"]
    other = spec.options["prompt_template"] | {"crop_start": crop - 1}
    changed = dataclasses.replace(spec, options={**spec.options, "prompt_template": other})
    monkeypatch.setitem(backbones.SPECS, name, changed)
    match = (
        rf"{name}: its tokenizer \(\w+\) makes {crop} tokens of the prompt's template and that of \S+ {crop - 1}, so"
    )
    with pytest.raises(ConfigError, match=match):
        load_backbone(name, device="cpu", folder=folder)


@pytest.mark.parametrize("name", ["puppet-hunyuan", "puppet-unet3d"])
def test_what_was_cached_of_the_puppets_stays(name: str) -> None:
    backbone: Any = load_backbone(name, device="cpu")
    assert "+" not in backbone.fingerprint
