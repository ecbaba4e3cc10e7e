"""The tensors of a .pth file, read where it can do little harm: a program of its own, started by pickled.py alone.

    python -I official_pickle.py FILE.pth OUT.safetensors MEMORY  ->  one JSON object on standard output

    {"tensors": [{"name", "shape", "dtype", "kept"}], "others": [{"name", "kind"}]}    or    {"error": why}

A pickle is a program. torch's `weights_only` reader runs only what builds tensors, and this process may use little
memory (MEMORY bytes beside what torch takes) and time and write one small file; it has no secrets in its environment.
Tensors of floats go to OUT as they are; names are joined by dots where dictionaries and lists are nested.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

MAX_TENSORS = 5000
MAX_DEPTH = 8
MAX_NAME = 300
CPU_SECONDS = 120


class Refused(Exception):
    """What is wrong with the file, as a clause."""


def main(source: Path, target: Path, memory: int) -> dict[str, Any]:
    """Read and write; raises Refused."""
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(1)
    _limit(source.stat().st_size, memory)
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        raise Refused(_reason(error)) from error
    tensors, others, kept, room = [], [], {}, 2 * source.stat().st_size + (1 << 20)
    for name, value in _flat(content, "", 0):
        if len(tensors) + len(others) >= MAX_TENSORS:
            raise Refused(f"holds more than {MAX_TENSORS} values")
        if not isinstance(value, torch.Tensor):
            others.append({"name": name, "kind": type(value).__name__[:40]})
            continue
        about: dict[str, Any] = {"name": name, "shape": list(value.shape), "dtype": str(value.dtype)[6:]}
        if value.layout is not torch.strided or value.is_quantized or value.device.type != "cpu":
            raise Refused(f"holds {name!r}, which is no plain tensor")
        size = value.numel() * value.element_size()
        if size > value.untyped_storage().nbytes():
            raise Refused(f"says that {name!r} is {list(value.shape)}, more than it holds")
        about["kept"] = value.dtype in (torch.float32, torch.float16, torch.bfloat16) and name not in kept
        if about["kept"]:
            room -= size
            if room < 0:
                raise Refused("says that it is larger than it is")
            kept[name] = value.detach().clone(memory_format=torch.contiguous_format)
        tensors.append(about)
    save_file(kept, target)
    return {"tensors": tensors, "others": others}


def _flat(value: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > MAX_DEPTH or len(name) > MAX_NAME:
        raise Refused("is nested too deep")
    if isinstance(value, Mapping):
        inside: Any = value.items()
    elif isinstance(value, (list, tuple)):
        inside = enumerate(value)
    else:
        yield name or "(the whole file)", value
        return
    for key, child in inside:
        yield from _flat(child, f"{name}.{key}" if name else str(key), depth + 1)


def _reason(error: Exception) -> str:
    text = str(error)
    code = re.search(
        r"GLOBAL ([\w.]+)|(?:class|global|function)[^\w]+([\w.]+)[^\n]*(?:not|n't) (?:supported|allowed)", text
    )
    if isinstance(error, MemoryError) or re.search(r"alloc|memory|enough", text):
        return "needs more memory than a file of its size should"
    if "weights_only" in text.lower() or "Weights only" in text:
        what = next((g for g in code.groups() if g), "") if code else ""
        named = f"code ({what}) and not only" if what else "something else than"
        return f"holds {named} tensors, so it is not read"
    return f"is damaged ({type(error).__name__})"


def _limit(size: int, memory: int) -> None:
    try:
        import resource
    except ImportError:  # not on Windows, where the time limit of the one who started this remains
        return
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        used = None
    limits = [
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_FSIZE, 2 * size + (16 << 20)),
        (resource.RLIMIT_CORE, 0),
    ]
    if used is not None:
        limits.append((resource.RLIMIT_AS, used + memory))
    for which, value in limits:
        hard = resource.getrlimit(which)[1]
        ceiling = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (ceiling, ceiling))


if __name__ == "__main__":
    try:
        answer = main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
    except Refused as refused:
        answer = {"error": str(refused)}
    except MemoryError:
        answer = {"error": "needs more memory than a file of its size should"}
    except RecursionError:
        answer = {"error": "is nested too deep"}
    print(json.dumps(answer))
