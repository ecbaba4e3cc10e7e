"""Gradient checkpointing: the same gradients from less memory, on the same attention kernel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry

from synmotion_core.backbones import SPECS, load_backbone
from synmotion_core.interfaces import Backbone, why_incompatible
from synmotion_core.methods import find_method
from synmotion_core.precision import PLAIN, Precision
from tests.backbones.test_precision import condition_of, conditioned
from tests.backbones.tiny import tiny_backbone
from tests.models import PROMPTS, noisy, puppet_backbone, shake

AGAIN = Precision(gradient_checkpointing=True)
# HunyuanVideo from text and with a given first frame, by two transformers and by one; Wan
CASES = [
    ("hunyuanvideo", "t2v"),
    ("hunyuanvideo-i2v", "i2v"),
    ("wan2.1-t2v-1.3b", "t2v"),
    ("puppet-hunyuan", "t2v"),
    ("puppet-hunyuan", "i2v"),
]
_puppets: list[Backbone] = []


def loaded(name: str, precision: Precision) -> Any:
    if name != "puppet-hunyuan":
        return tiny_backbone(name, precision)
    if precision == PLAIN:
        return puppet_backbone()
    if not _puppets:
        _puppets.append(load_backbone(name, device="cpu", precision=precision))
    return _puppets[0]


class Step:
    """One forward and backward pass of a method: gradients by group, what autograd kept, and what ran when."""

    def __init__(self, backbone: Any, mode: str, method: str = "lora", autocast: bool = True) -> None:
        self.kept, self.backward = 0, False
        self.blocks: list[tuple[bool, AttentionBackendName]] = []  # in the backward pass?, on which kernel
        entry = find_method(method)
        made = entry.attach(backbone, entry.config(), PROMPTS[0])
        forms = {backbone.denoiser, getattr(backbone, "_image_form", backbone.denoiser)}
        lists = [c for form in forms for c in form.children() if isinstance(c, torch.nn.ModuleList)]
        hooks = [block.register_forward_pre_hook(self._record) for blocks in lists for block in blocks]
        try:
            shake(made.groups)
            x, s = noisy(backbone)
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                condition = condition_of(backbone, made.condition(conditioned(backbone.spec.name)[0]), mode)
            with torch.autograd.graph.saved_tensors_hooks(self._keep, lambda kept: kept):
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                    loss = backbone.predict(x, s, condition).square().mean()
                self.backward = True
                loss.backward()
            self.gradients = [p.grad.clone() for group in made.groups.values() for p in group if p.grad is not None]
        finally:
            for hook in hooks:
                hook.remove()
            made.detach()

    def _record(self, *_: Any) -> None:
        backend, _options = _AttentionBackendRegistry.get_active_backend()
        self.blocks.append((self.backward, AttentionBackendName(backend)))

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        self.kept += tensor.numel() * tensor.element_size()
        return tensor


FITTING = [
    (name, mode, method)
    for name, mode in CASES
    for method in ("lora", "synmotion", "textual_inversion")
    if why_incompatible(SPECS[name], method, find_method(method).requires) is None
]


@pytest.mark.parametrize(("name", "mode", "method"), FITTING)
def test_the_same_gradients_from_less_memory(name: str, mode: str, method: str) -> None:
    """Bit for bit, under the trainer's autocast; of what autograd kept of the denoiser less than half is left."""
    plain, again = (Step(loaded(name, precision), mode, method) for precision in (PLAIN, AGAIN))
    assert len(plain.gradients) == len(again.gradients) > 0
    assert all(torch.equal(a, b) for a, b in zip(plain.gradients, again.gradients, strict=True))
    assert any(g.any() for g in plain.gradients)
    assert again.kept < plain.kept / 2
    assert not any(late for late, _ in plain.blocks)
    count = len(plain.blocks)
    assert [late for late, _ in again.blocks] == [False] * count + [True] * count, "every block, once more"
    kernels = {kernel for step in (plain, again) for _, kernel in step.blocks}
    assert kernels == {AttentionBackendName._NATIVE_MATH}, "also in the backward pass, which is outside of predict"


def test_without_gradients_nothing_is_computed_twice() -> None:
    backbone = loaded("hunyuanvideo", AGAIN)
    x, s = noisy(backbone)
    seen: list[int] = []
    hook = backbone.denoiser.transformer_blocks[0].register_forward_pre_hook(lambda *_: seen.append(1))
    try:
        with torch.no_grad():
            ours = backbone.predict(x, s, condition_of(backbone))
            assert torch.equal(ours, loaded("hunyuanvideo", PLAIN).predict(x, s, condition_of(backbone)))
    finally:
        hook.remove()
    assert len(seen) == 1
