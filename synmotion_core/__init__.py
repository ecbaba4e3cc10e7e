"""SynMotion Studio: learn one motion from a few clips, then let any subject do it. The public names, loaded on use.

    from synmotion_core import ClipSource, TrainRun, train
    clip = ClipSource(path=Path("clap.mp4"), subject="a person", motion="claps")
    for event in train(TrainRun(name="clap", clips=(clip,)), Path("runs/clap"), cache=Path("cache")):
        print(event)

`import synmotion_core` itself imports nothing: the page, `--help` and a test of one module wait for nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synmotion_core.backbones import SPECS, load_backbone
    from synmotion_core.config import ClipSource, GenerateRun, TrainRun
    from synmotion_core.errors import SynMotionError, UserInputError
    from synmotion_core.interfaces import Backbone, BackboneSpec, Method
    from synmotion_core.methods import METHODS
    from synmotion_core.run import generate, train
    from synmotion_core.training.settings import PriorConfig, TrainConfig
    from synmotion_core.types import Prompt

__all__ = [
    # what to do
    "train",
    "generate",
    # what it is made of
    "ClipSource",
    "GenerateRun",
    "PriorConfig",
    "Prompt",
    "TrainConfig",
    "TrainRun",
    # what there is to choose from
    "METHODS",
    "SPECS",
    "load_backbone",
    # what to implement for a new one
    "Backbone",
    "BackboneSpec",
    "Method",
    # what can go wrong
    "SynMotionError",
    "UserInputError",
]

_HOME = {
    "train": "run",
    "generate": "run",
    "ClipSource": "config",
    "GenerateRun": "config",
    "PriorConfig": "training.settings",
    "Prompt": "types",
    "TrainConfig": "training.settings",
    "TrainRun": "config",
    "METHODS": "methods",
    "SPECS": "backbones",
    "load_backbone": "backbones",
    "Backbone": "interfaces",
    "BackboneSpec": "interfaces",
    "Method": "interfaces",
    "SynMotionError": "errors",
    "UserInputError": "errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
