"""Shared by the tests of adapters from and for other programs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from synmotion_core.adapters import load_back, official
from synmotion_core.backbones import weightless
from tests.backbones.tiny import FOLDERS, tiny_folder


@pytest.fixture
def tiny_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large rows have the sizes of their tiny weights."""
    real = weightless.transformer_config

    def config(spec: Any) -> Any:
        if spec.name not in FOLDERS:
            return real(spec)
        return json.loads((tiny_folder(spec.name) / spec.denoiser / "config.json").read_text())

    for where in (weightless, load_back, official):
        monkeypatch.setattr(where, "transformer_config", config)
