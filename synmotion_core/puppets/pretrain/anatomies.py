"""The tiny backbones that are trained here, by name."""

from __future__ import annotations

from synmotion_core.puppets.pretrain.anatomy import Anatomy
from synmotion_core.puppets.pretrain.hunyuan import HunyuanVideoAnatomy
from synmotion_core.puppets.pretrain.unet3d import UNet3DAnatomy

ANATOMIES: dict[str, Anatomy] = {own.name: own for own in (HunyuanVideoAnatomy(), UNet3DAnatomy())}
