"""One training on several processes, each with its share of every batch: `accelerate launch -m synmotion_core train`.

    gradient of a batch = (1 / P) sum over P processes of the gradient of their equal shares

Step k draws the same batch everywhere, from (seed, k), and each process takes its rows, so that a training is the same
on one process as on several, to rounding. What decides, as the loss that is watched and whether to stop, is made of all
shares: every process decides alike. The first one alone writes files, draws and scores; the others wait for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from synmotion_core.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor, nn

_PATIENCE = timedelta(days=2)  # the first process may draw prior videos on a large backbone meanwhile


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """This process among those that train together; alone, nothing is sent and nobody waited for."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this one writes, draws and speaks."""
        return self.rank == 0

    def check(self, batch_size: int) -> None:
        """Raise ConfigError unless a batch falls into equal shares."""
        if batch_size % self.size:
            below = batch_size // self.size * self.size
            near = f"{below} or {below + self.size}" if below else str(self.size)
            raise ConfigError(f"train.batch_size {batch_size} cannot be shared by {self.size} processes: use {near}")

    def share(self, batch_size: int) -> slice:
        """This one's rows of a batch."""
        own = batch_size // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Put the mean of all processes' gradients in place of each one's; parameters are the same, in one order.

        Where only some have a gradient (of two experts, those whose noise levels they drew), the others' is zero.
        """
        if self.size == 1:
            return
        import torch

        parameters = list(parameters)
        there = _sum(torch.tensor([float(p.grad is not None) for p in parameters], device=_device())).tolist()
        gradients = []
        for p, count in zip(parameters, there, strict=True):
            if count:
                p.grad = torch.zeros_like(p) if p.grad is None else p.grad
                gradients.append(p.grad)
        if gradients:
            flat = _sum(torch.cat([g.float().flatten() for g in gradients])) / self.size
            for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(mean.view_as(gradient))

    def mean(self, value: float) -> float:
        """The mean of all processes' values."""
        if self.size == 1:
            return value
        import torch

        return float(_sum(torch.tensor(value, dtype=torch.float64, device=_device())) / self.size)

    def anyone(self, said: bool) -> bool:
        """Whether any process says so; each waits until all have spoken."""
        return self.mean(float(said)) > 0


ALONE = Group()


def asked() -> Group:
    """What the launcher has put into the environment; needs no torch."""
    size = int(os.environ.get("WORLD_SIZE") or 1)
    return Group(rank=int(os.environ.get("RANK") or 0), size=size) if size > 1 else ALONE


def join() -> Group:
    """The same, connected: may be called again. Each process takes the GPU of its local rank, where there are any."""
    own = asked()
    if own.size > 1:
        import torch
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)
    return own


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _sum(values: Tensor) -> Tensor:
    import torch.distributed

    torch.distributed.all_reduce(values)
    return values
