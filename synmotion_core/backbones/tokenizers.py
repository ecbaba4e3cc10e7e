"""Tokenizers as their files say, where the class that a pipeline names would make others of them.

diffusers reads a part by the class in model_index.json, and in transformers 5 (reported of 5.2, read in 5.23, not in 4)
a class with an `__init__` of its own takes vocabulary and merges from tokenizer.json, most of the rest from its code:

    LlamaTokenizer(Fast)   Metaspace over Llama 3's bytes: HunyuanVideo's spaces and newlines are gone, words run
                           together, and its template has another length than is cut off. is_fast is true, nothing
                           raises. (transformers issue 45488, xDiT pull request 685; AutoTokenizer is mended.)
    T5Tokenizer(Fast)      no bytes for a letter that is not in the vocabulary, and number 2 for unknown: Wan's umT5

CLIPTokenizer and Qwen2Tokenizer make what their files say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def read_as_written(pipe: Any, parts: Iterable[str]) -> str:
    """Those of a pipeline's tokenizers that are not as their tokenizer.json says, in place, as it says.

    Returns what a fingerprint needs more, whichever transformers reads them: encodings under the plain one may be
    those of the others.
    """
    changed = ""
    for name in sorted(n for n in parts if n.startswith("tokenizer")):
        tokenizer = getattr(pipe, name)
        if tokenizer is not None and _is_made_otherwise(tokenizer):
            from transformers import PreTrainedTokenizerFast

            setattr(pipe, name, PreTrainedTokenizerFast.from_pretrained(tokenizer.name_or_path, local_files_only=True))
            changed += f"+{name}.json"
    return changed


def _is_made_otherwise(tokenizer: Any) -> bool:
    """By the class and the file alone, so that a fingerprint is the same with a transformers that has been mended."""
    kind, path = type(tokenizer).__name__, Path(tokenizer.name_or_path) / "tokenizer.json"
    if kind.removesuffix("Fast") not in ("LlamaTokenizer", "T5Tokenizer") or not path.is_file():
        return False
    written = json.loads(path.read_text(encoding="utf-8"))
    if kind.startswith("Llama"):
        return '"ByteLevel"' in json.dumps([written.get("pre_tokenizer"), written.get("decoder")])
    return bool(written["model"].get("byte_fallback")) or written["model"].get("unk_id") != 2
