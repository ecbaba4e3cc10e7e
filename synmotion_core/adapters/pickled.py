"""Tensors of files that torch.save wrote: read by a program of its own with limits (official_pickle.py), never here.

dual_embedding.pth      the official SynMotion repository's (official.py)
500_unet.pt             MotionDirector's LoRA, a list: up, down, up, down and so on of a U-Net's temporal layers
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from synmotion_core.adapters import official_pickle
from synmotion_core.adapters.foreign_file import shown
from synmotion_core.errors import AdapterError, MissingError
from synmotion_core.storage import write_tensors

ENDINGS = (".pt", ".pth")
MAX_BYTES = 2 << 30
MEMORY_BYTES = 512 << 20  # to read it, beside three times its size
SECONDS = 180


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One value in a file."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def line(self) -> str:
        """For people."""
        return f"{shown(self.name)}  {self.dtype}  {list(self.shape)}"


@contextmanager
def as_safetensors(path: Path) -> Iterator[Path]:
    """Where a LoRA file can be read as safetensors: itself, or, of a pickled list, a temporary file of its name.

    The list's tensors are called `unet:<i>:up` and `unet:<i>:down` there, as the same library calls them in
    safetensors. Raises AdapterError for a pickle that holds anything else, and as read_pickle.
    """
    if path.suffix.lower() not in ENDINGS:
        yield path
        return
    items, tensors = read_pickle(path)
    names = [item.name for item in items]
    if not names or len(names) % 2 or names != [str(i) for i in range(len(names))] or tensors.keys() != set(names):
        held = f"{len(items)} values" + (f", first: {items[0].line}" if items else "")
        raise AdapterError(
            f"{path.name} is no list of LoRA's up and down, which is all that is read of {' and '.join(ENDINGS)}; it "
            f"holds {held}"
        )
    own = {f"unet:{i // 2}:{'down' if i % 2 else 'up'}": tensors[name] for i, name in enumerate(names)}
    with tempfile.TemporaryDirectory(prefix="synmotion-") as folder:
        target = Path(folder) / path.name
        write_tensors(target, own, {})
        yield target


def read_pickle(path: Path) -> tuple[list[Item], dict[str, Tensor]]:
    """What a .pth holds, and its tensors of floats, read in a process of its own with limits (official_pickle.py).

    Raises AdapterError for code, damage, and what is larger than it should be; MissingError when it is not there.
    """
    from safetensors.torch import load_file

    if not path.is_file():
        raise MissingError(f"there is no file {path.name} in {path.parent}")
    if path.stat().st_size > MAX_BYTES:
        raise AdapterError(f"{path.name} has {path.stat().st_size >> 20} MiB, at most {MAX_BYTES >> 20} are read")
    with tempfile.TemporaryDirectory(prefix="synmotion-") as outer:
        target = Path(outer) / "tensors.safetensors"
        memory = MEMORY_BYTES + 3 * path.stat().st_size
        command = [sys.executable, "-I", official_pickle.__file__, str(path.resolve()), str(target), str(memory)]
        try:
            done = subprocess.run(
                command, cwd=outer, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True,
                timeout=SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise AdapterError(f"{path.name} takes longer than {SECONDS} s to read: it is not read") from error
        try:
            answer = json.loads(done.stdout)
        except ValueError as error:
            words = "is damaged, or needs more memory or time than a file of its size should"
            raise AdapterError(f"{path.name} {words}: it is not read") from error
        if "error" in answer:
            raise AdapterError(f"{path.name} {str(answer['error'])[:300]}")
        tensors = load_file(target)
    items = [Item(name=i["name"], shape=ints(i["shape"]), dtype=i["dtype"]) for i in answer["tensors"]]
    items += [Item(name=i["name"], shape=(), dtype=i["kind"]) for i in answer["others"]]
    return items, tensors


def _environment() -> dict[str, str]:
    keep = ("PATH", "SYSTEMROOT", "TEMP", "TMP", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
    return {"OMP_NUM_THREADS": "1"} | {name: os.environ[name] for name in keep if name in os.environ}


def ints(shape: Any) -> tuple[int, ...]:
    """A shape, of what may be anything."""
    return tuple(n for n in shape if isinstance(n, int)) if isinstance(shape, list) else ()
