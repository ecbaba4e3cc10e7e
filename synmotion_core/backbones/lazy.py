"""A pipeline's encoders of words and pictures: read from disk when first used, freed when their work is done.

On the large rows they weigh as much as the transformer, and training needs them only until every prompt is in the
cache; a run that finds all of them there never reads one.
"""

from __future__ import annotations

import gc
import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch

from synmotion_core.errors import ConfigError
from synmotion_core.stacking import place


class Encoders:
    """Parts by name; `read` brings one from disk, settled, or None where the pipeline has none."""

    def __init__(self, read: Callable[[str], Any]) -> None:
        self._read = read
        self._parts: dict[str, Any] = {}
        self._held: Counter[str] = Counter()

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of those in memory."""
        return tuple(self._parts)

    def get(self, name: str) -> Any:
        if name not in self._parts:
            self._parts[name] = self._read(name)
        return self._parts[name]

    def hold(self, name: str, hold: bool) -> None:
        """From now on `release` leaves this one, or takes it again. Raises ConfigError where somebody holds it,
        but for one that is attached beside it (stacking.py).
        """
        if hold and name in self._held and not place():
            raise ConfigError("this backbone carries an adapter already: detach it first")
        self._held[name] += 1 if hold else -1
        self._held = +self._held

    def release(self) -> None:
        """Drop all that are not held; the next use reads them anew."""
        dropped = self._parts.keys() - self._held.keys()
        if dropped:
            for name in dropped:
                del self._parts[name]
            free_memory()


def free_memory() -> None:
    """Give back at once what modules held that were dropped: hooks and modules hold each other, and so do a module and
    its quantised weights, until the garbage is looked for."""
    gc.collect()
    torch.cuda.empty_cache()


def encoder_names(family: Any) -> list[str]:
    """The encoders that a pipeline of this class may have."""
    return [n for n in family._get_signature_keys(family)[0] if n.startswith(("text_encoder", "image_encoder"))]


def with_lazy_encoders(family: Any, names: Sequence[str]) -> Any:
    """The pipeline class, but that its parts of these names come from its `encoders`, an Encoders, set after loading.

    So the stock pipeline's own methods, and its call, find them as ever.
    """

    def part(name: str) -> property:
        def get(pipe: Any) -> Any:
            try:
                return pipe.encoders.get(name)
            except AttributeError as error:  # from a property Python would take it for: there is no such attribute
                raise RuntimeError(f"{name} could not be read: {error}") from error

        def leave_out(pipe: Any, value: None) -> None:
            """What the loader does with a part that it is told to leave out."""
            if value is not None:
                raise AttributeError(f"{name} is read on first use and cannot be set")

        return property(get, leave_out)

    return type(family.__name__, (family,), {name: part(name) for name in names})


def bare(family: Any) -> Any:
    """The pipeline class, but that it holds its parts and does nothing with them: some look into their VAE at once."""
    from diffusers import DiffusionPipeline

    def hold(pipe: Any, **parts: Any) -> None:
        DiffusionPipeline.__init__(pipe)
        named = {name: part for name, part in parts.items() if name in modules}
        pipe.register_modules(**named)

    modules = family._get_signature_keys(family)[0]
    hold.__signature__ = inspect.signature(family.__init__)  # type: ignore[attr-defined]  # from it the loader knows
    return type(family.__name__, (family,), {"__init__": hold})
