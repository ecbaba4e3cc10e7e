"""First images as the stock pipelines hand them to an encoder of pictures: its own processor resizes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def as_pictures(images: Tensor | None, count: int) -> list[Any]:
    """[B, 3, H, W] in [-1, 1] -> B pictures of PIL's; None -> `count` black ones."""
    from PIL import Image

    if images is None:
        images = torch.full((count, 3, 64, 64), -1.0)
    array = ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(picture) for picture in array]
