"""HunyuanVideo's image-to-video prompts: a Llava reads the first image and the words in one pass.

    [template | image 576 | template | words | assistant 4 | rest]     what Llava reads
    [image, every 4th of 576: 144 | words | rest]                      what the denoiser gets

The encoding itself is the stock pipeline's (`_get_llama_prompt_embeds`), padded to the longest prompt only, since the
denoiser takes the SUM of the mask as a prefix. Ours are the roles: which of the tokens that remain belong to whom.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from synmotion_core.backbones.pictures import as_pictures

_ASSISTANT = 4  # tokens of its header, which the pipeline cuts out of the words' tail


def encode_with_images(
    pipe: Any,
    template: dict[str, Any],
    interleave: int,
    texts: list[str],
    input_ids: Tensor,
    images: Tensor | None,
    longest: int,
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor]:
    """prompt_embeds [B, 144 + L, D], their mask, and [B, L]: which of the tokens behind the template remain.

    input_ids [B, crop_start + longest] are the tokens of the whole prompts, right padded; images [B, 3, H, W] in
    [-1, 1], or None for black ones, as the pipeline takes them for a negative prompt.
    """
    embeds, mask = pipe._get_llama_prompt_embeds(
        as_pictures(images, len(texts)),
        texts,
        template,
        device=device,
        max_sequence_length=longest,
        image_embed_interleave=interleave,
    )
    end = pipe.tokenizer.convert_tokens_to_ids("<|end_header_id|>")
    kept = []
    for row in input_ids:
        assistant = int((row == end).nonzero()[-1]) + 1 - template["crop_start"]
        places = torch.arange(longest)
        kept.append(torch.cat([places[: assistant - _ASSISTANT], places[assistant:]]))
    return embeds, mask.to(torch.int64), torch.stack(kept)


def place_roles(role: Tensor, kept: Tensor, length: int) -> Tensor:
    """bool [B, longest] over the words' tokens -> bool [B, length] over what the denoiser gets: images have no role."""
    words = role.gather(1, kept)
    return torch.nn.functional.pad(words, (length - words.shape[1], 0))
