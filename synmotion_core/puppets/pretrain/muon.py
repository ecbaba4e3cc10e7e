"""torch.optim.Muon with matrices of one shape handled together: the same update in a tenth of the kernel launches.

    B <- m B + (1 - m) G;   U = (1 - m) G + m B (Nesterov);   W <- (1 - lr decay) W - lr scale NS(U)

NS is the quintic Newton-Schulz iteration X <- a X + (b A + c A A) X with A = X X^T, from X = U / |U|, in bfloat16
(Keller Jordan's Muon). Tiny backbones have a hundred small matrices; one by one, a GPU spends its time on launches.
A convolution's kernels are a matrix of [out, in x places].
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def orthogonalized(matrices: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """[N, rows, columns], rows <= columns -> about the nearest matrices with orthonormal rows, bfloat16."""
    a, b, c = coefficients
    x = matrices.bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


class BatchedMuon(torch.optim.Muon):
    """Drop-in for torch.optim.Muon with adjust_lr_fn="match_rms_adamw"; the state has the same names and shapes.

    kernels: weights of convolutions, which torch's own does not take.
    """

    def __init__(self, matrices: Sequence[Tensor], kernels: Sequence[Tensor] = (), **options: Any) -> None:
        super().__init__(matrices, **options)
        if kernels:
            self.add_param_group({"params": list(kernels)})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update. closure is not supported and must be None."""
        if closure is not None:
            raise ValueError("BatchedMuon takes no closure")
        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            buffers: list[Tensor] = []
            self._init_group(group, params, grads, buffers)
            if not params:
                continue
            torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
            updates = torch._foreach_lerp(grads, buffers, group["momentum"]) if group["nesterov"] else buffers
            updates = [update.flatten(1) for update in updates]
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            alike: dict[tuple[int, int], list[int]] = defaultdict(list)
            for index in range(len(params)):
                shape = updates[index].shape
                alike[min(shape), max(shape)].append(index)
            for (_, columns), members in alike.items():
                wide = [updates[i] if updates[i].shape[0] <= updates[i].shape[1] else updates[i].T for i in members]
                steps = orthogonalized(torch.stack(wide), group["ns_coefficients"], group["ns_steps"], group["eps"])
                steps = steps.to(params[members[0]].dtype) * (-group["lr"] * 0.2 * columns**0.5)  # match_rms_adamw
                turned = [s if updates[i].shape == s.shape else s.T for i, s in zip(members, steps, strict=True)]
                flat = [s.reshape(params[i].shape) for i, s in zip(members, turned, strict=True)]
                torch._foreach_add_([params[i] for i in members], flat)
        return None
