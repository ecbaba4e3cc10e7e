"""Image to video in a HunyuanVideo transformer: the clean first latent frame replaces the noisy one ("token replace").

The two checkpoints of HunyuanVideo have the same parameters by name and shape; diffusers runs them by different
block classes. In the I2V form the first frame's tokens are modulated as at time 0, the others as at time s; so one set
of weights, trained both ways, serves both.

    x_in = [image, x_s frames 1..]        the noise, its loss and the solver's steps are on frames 1.. only
    x_1  = 0.999 noise + 0.001 image      where sampling starts, as in HunyuanVideoImageToVideoPipeline
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

IMAGE_SHARE = 0.001
_SWITCHED = "time_text_embed"  # one class for both forms, told which it is


def token_replace_form(transformer: Any) -> nn.Module:
    """The I2V form of a T2V transformer over the very same modules below its blocks.

    So what is put onto the attention projections of one (adapters) works in both, and both recompute their blocks
    where the one does; after layers right below a block or the model were replaced, `share_again`. Raises ValueError
    for a transformer that has a form of its own already.
    """
    from diffusers import HunyuanVideoTransformer3DModel

    own = transformer.config["image_condition_type"]
    if own is not None:
        raise ValueError(f"this transformer is of the form {own!r} already")
    with torch.device("meta"):
        config = dict(transformer.config) | {"image_condition_type": "token_replace"}
        form = cast(Any, HunyuanVideoTransformer3DModel.from_config(config))
    form._shared = list(_share(transformer, form))  # a list: modules in it are not the form's own children twice
    left = [name for name, p in form.named_parameters() if p.is_meta]
    assert not left, left
    if transformer.is_gradient_checkpointing:
        form.enable_gradient_checkpointing(transformer._gradient_checkpointing_func)
    return form.train(transformer.training)


def share_again(form: Any) -> None:
    """Give a form the layers that its transformer has now, as adapters put others in the place of what was there."""
    for source, target, name in form._shared:
        setattr(target, name, getattr(source, name))


def _share(source: nn.Module, target: nn.Module) -> Iterator[tuple[nn.Module, nn.Module, str]]:
    """Give target source's children; of lists and of what the two forms run by other classes, the children's.

    A layer without children is always given whole: quantised ones are of another class than those that they stand for.
    Yields whose child was given to whom, and its name.
    """
    for name, child in source.named_children():
        own = getattr(target, name)
        whole = type(child) is type(own) and not isinstance(child, nn.ModuleList) and name != _SWITCHED
        if not whole and list(child.children()):
            yield from _share(child, own)
        else:
            setattr(target, name, child)
            yield source, target, name


def start_from(noise: Tensor, image_latents: Tensor) -> Tensor:
    """x_1 of the module's docstring, with the image itself as frame 0. noise [B, C, f, h, w], image [B, C, 1, h, w]."""
    mixed = (1 - IMAGE_SHARE) * noise + IMAGE_SHARE * image_latents
    return torch.cat([image_latents, mixed[:, :, 1:]], dim=2)
