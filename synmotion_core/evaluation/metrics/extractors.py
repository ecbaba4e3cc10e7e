"""The models that metrics look through: where their weights come from, and that they are all there.

    <workspace>/weights/<last part of the repository's name>/     config.json, *.safetensors, the tokenizer's files

A folder that somebody has put there takes the Hub's place, whatever the row's revision. Safetensors only, no code from
elsewhere; frozen, in the precision in which they are stored; on CUDA where there is one. Read when first asked for,
once a process, and so is the answer that they cannot be had: without a network each try takes its time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from synmotion_core.errors import MissingError
from synmotion_core.evaluation.metrics import METRICS, Weights
from synmotion_core.workspace import weights_place


@dataclass(frozen=True, slots=True, kw_only=True)
class Extractor:
    """A frozen model of transformers on `device`; tokenizer is None where no words are read."""

    model: Any
    tokenizer: Any
    device: torch.device


def extractor(weights: Weights, family: str, *, words: bool = False, **settings: Any) -> Extractor:
    """The model of transformers' class `family`, with settings of its class; words: with its tokenizer.

    Raises MissingError, naming the repository, what failed and where a folder may be put.
    """
    found = _read(weights, family, words, _own(weights), tuple(sorted(settings.items())))
    if isinstance(found, str):
        raise MissingError(found)
    return found


def identity(metrics: Sequence[str]) -> list[str]:
    """What names the weights of these metrics, for results that are kept: repository and revision; of folders the
    files' sizes and times, since reading some GB for it would take long."""
    found = []
    for weights in (one for name in metrics for one in METRICS[name].weights):
        folder = _own(weights)
        if folder is None:
            found.append(f"{weights.repo}@{weights.revision}")
            continue
        files = [(path.name, path.stat()) for path in sorted(folder.iterdir()) if path.is_file()]
        said = repr([(name, own.st_size, own.st_mtime_ns) for name, own in files])
        found.append(f"{weights.repo}@{hashlib.sha256(said.encode()).hexdigest()[:16]}")
    return found


def _place(weights: Weights) -> Path:
    return weights_place(weights.repo.rpartition("/")[2])


def _own(weights: Weights) -> Path | None:
    folder = _place(weights)
    return folder if folder.is_dir() else None


@cache
def _read(
    weights: Weights, family: str, words: bool, folder: Path | None, settings: tuple[tuple[str, Any], ...]
) -> Extractor | str:
    """The model, or why there is none."""
    try:
        return _loaded(weights, family, words, folder, dict(settings))
    except Exception as error:  # files of anybody's, or a network: there is no list of what they raise
        lines = [line.strip(" .") for line in str(error).splitlines()]
        why = next((line for line in lines if line), type(error).__name__)
    parts = f"config.json{', safetensors and the tokenizer' if words else ' and safetensors'}"
    if folder is None:
        where = _place(weights)
        return f"{weights.title} could not be read from the Hub ({why}): let it be fetched, or put {parts} at {where}"
    return f"{folder} cannot be used as {weights.repo} ({why}): it takes {parts}; without the folder the Hub's is read"


def _loaded(weights: Weights, family: str, words: bool, folder: Path | None, settings: dict[str, Any]) -> Extractor:
    import transformers
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    source: Any = weights.repo if folder is None else folder
    place = {"revision": weights.revision if folder is None else "main", "local_files_only": folder is not None}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    entry = getattr(transformers, family)
    kind = entry.config_class.get_config_dict(source, **place)[0].get("model_type")
    if kind != entry.config_class.model_type:
        raise OSError(f"it has a config.json of {kind or 'nothing'}, not of {entry.config_class.model_type}")
    model, found = entry.from_pretrained(
        source,
        dtype="auto",
        use_safetensors=True,
        attn_implementation="sdpa",  # a config of anybody's may name another one, which is fetched as code
        output_loading_info=True,
        **place,
        **settings,
    )
    lacking = sorted(found["missing_keys"])
    if lacking:  # transformers would go on with random ones
        raise OSError(f"{len(lacking)} tensors of {family} are not in it, such as {lacking[0]}")
    tokenizer = None
    if words:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False, **place)
        if tokenizer("cat").input_ids == tokenizer("dog").input_ids:  # transformers makes one that knows no word
            raise OSError("its tokenizer is not there")
    return Extractor(model=model.eval().requires_grad_(False).to(device), tokenizer=tokenizer, device=device)
