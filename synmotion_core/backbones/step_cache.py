"""A step cache at work in one sampling run: put onto the denoiser, counted, taken off again.

The hooks are diffusers' (`enable_cache`, `cache_context`). Of two experts each has its own cache. What a pipeline does
in two calls, prompts and null rows, is one batch here, so both halves, and all videos of a batch, decide as one by
their mean; batches of one video keep a video independent of its neighbours. When the rows of a batch, or what denoises
them, change within a run, what was kept is of another function: `forget` it.

A velocity holds the very noise that a step with fresh noise replaces, so a line through earlier velocities does not
know the new noise; a model that predicts clean latents does not have this trouble.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from synmotion_core.backbones.precision import tidy_hooks
from synmotion_core.errors import IncompatibleError
from synmotion_core.interfaces import BackboneSpec, Feature
from synmotion_core.step_cache import KINDS, Kind, StepCache

FEATURES: dict[Kind, Feature] = {"first-block": "first_block_cache", "taylorseer": "taylorseer_cache"}
_ONE_BATCH = "both"  # diffusers keeps a state for each name of a call: here there is one call


def check_step_cache(spec: BackboneSpec, cache: StepCache) -> None:
    """Raise IncompatibleError, naming what the row may use, unless it may use this kind."""
    if FEATURES[cache.kind] not in spec.features:
        others = [kind for kind in KINDS if FEATURES[kind] in spec.features]
        use = f"use {' or '.join(others)}" if others else "it may use none"
        raise IncompatibleError(f"{spec.name} cannot use the step cache {cache.kind}: {use}")


class Tally:
    """How many blocks a denoiser would have run without a cache, and how many it ran."""

    def __init__(self) -> None:
        self.blocks = 0
        self.run = 0

    @property
    def skipped(self) -> float:
        """The share left out, 0 to 1."""
        return 1 - self.run / self.blocks if self.blocks else 0.0


class StepCaching:
    """The cache on these transformers, from `caching`. It counts into a Tally while it is on."""

    def __init__(self, transformers: Sequence[Any], cache: StepCache, tally: Tally) -> None:
        self._transformers, self._cache, self._tally = transformers, cache, tally

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around each call of the denoiser."""
        with ExitStack() as stack:
            for transformer in self._transformers:
                stack.enter_context(transformer.cache_context(_ONE_BATCH))
            yield

    def forget(self) -> None:
        """Begin anew: the next call runs whole."""
        for transformer in self._transformers:
            transformer.disable_cache()
            transformer.enable_cache(_config(self._cache))

    @contextmanager
    def on(self) -> Iterator[None]:
        """The cache is on within, also where it ends by an error; then every module is as it was before."""
        handles: list[Any] = []
        try:
            for transformer in self._transformers:
                handles += self._counting(transformer)
                transformer.enable_cache(_config(self._cache))
            yield
        finally:
            for handle in handles:
                handle.remove()
            for transformer in self._transformers:
                if transformer.is_cache_enabled:
                    transformer.disable_cache()
                tidy_hooks(transformer)

    def _counting(self, transformer: nn.Module) -> Iterator[Any]:
        blocks = [b for child in transformer.children() if isinstance(child, nn.ModuleList) for b in child]

        def called(*_: Any) -> None:
            self._tally.blocks += len(blocks)

        def ran(*_: Any) -> None:
            self._tally.run += 1

        yield transformer.register_forward_pre_hook(called)
        for block in blocks:  # a block that is left out is still called; what it begins with is not
            yield next(block.children()).register_forward_pre_hook(ran)


class _NoCaching:
    """The same without a cache."""

    @contextmanager
    def step(self) -> Iterator[None]:
        yield

    def forget(self) -> None:
        """Nothing is kept."""


@contextmanager
def caching(
    transformers: Sequence[nn.Module], cache: StepCache | None, tally: Tally | None = None
) -> Iterator[StepCaching | _NoCaching]:
    """A cache on what a sampling run calls, and off afterwards. None, and one that is not active, touch nothing."""
    if cache is None or not cache.active:
        yield _NoCaching()
        return
    working = StepCaching(transformers, cache, tally or Tally())
    with working.on():
        yield working


def _config(cache: StepCache) -> Any:
    import torch
    from diffusers.hooks import FirstBlockCacheConfig, TaylorSeerCacheConfig

    if cache.kind == "first-block":
        return FirstBlockCacheConfig(threshold=cache.threshold)
    # the light form keeps what the last projection gave, and runs no block in the steps between. The full one keeps
    # the outputs of all attentions, gigabytes of a large model, runs the rest, and finds none of Wan's by its patterns
    return TaylorSeerCacheConfig(cache_interval=cache.interval, use_lite_mode=True, taylor_factors_dtype=torch.float32)
