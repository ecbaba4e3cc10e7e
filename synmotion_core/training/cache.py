"""Frozen encodings, cached by content: the same clip on the same backbone is encoded once, in any run.

    <root>/latents/<key>.safetensors    key = SHA-256(backbone fingerprint, clip's content hash)
    <root>/images/<key>.safetensors     key = SHA-256(backbone fingerprint, content hash), of a video's first frame
    <root>/text/<key>.safetensors       key = SHA-256(backbone fingerprint, words and their roles, the picture's video)
                                        or SHA-256(backbone fingerprint, "text", words without roles)

Files are sealed (storage.py); a damaged one is encoded anew, and the log says so.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from synmotion_core.clips.dataset import to_pixels
from synmotion_core.errors import AdapterError
from synmotion_core.interfaces import Backbone
from synmotion_core.storage import read_tensors, write_tensors
from synmotion_core.types import Clip, Pixels, Prompt, TextCondition, stack_text

log = logging.getLogger(__name__)


def content_key(*parts: object) -> str:
    """Hex SHA-256 of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def first_frame(clip: Clip) -> Tensor:
    """[1, 3, H, W] in [-1, 1]."""
    return to_pixels(clip.frames[:1])[:, :, 0]


class EncodingCache:
    """Latents and text conditions of one backbone under `root`, shared between runs."""

    def __init__(self, root: Path, backbone: Backbone) -> None:
        self.root, self.backbone = root, backbone

    def has_latents(self, clip: Clip) -> bool:
        """Whether a clip is there already."""
        return self.latents_path(clip).exists()

    def latents_path(self, clip: Clip) -> Path:
        """Where a clip's latents live."""
        return self.root / "latents" / f"{content_key(self.backbone.fingerprint, clip.content_hash)}.safetensors"

    def latents(self, clip: Clip) -> Tensor:
        """[1, C, f, h, w] float32 on the CPU."""

        def encode() -> dict[str, Tensor]:
            return {"latents": self.backbone.encode_video(to_pixels(clip.frames)).float().cpu()}

        return self._fetch(self.latents_path(clip), encode)["latents"]

    def image(self, content: str, num_frames: int, frame: Callable[[], Tensor]) -> Tensor:
        """Backbone.encode_image of one picture, on the CPU; `content` names the video whose first `frame` it is, and
        which has num_frames.

        frame() gives it as [1, 3, H, W] in [-1, 1].
        """
        key = content_key(self.backbone.fingerprint, "image", content)

        def encode() -> dict[str, Tensor]:
            return {"image_latents": self.backbone.encode_image(frame(), num_frames).float().cpu()}

        return self._fetch(self.root / "images" / f"{key}.safetensors", encode)["image_latents"]

    def text(self, prompt: Prompt, content: str = "", frame: Callable[[], Tensor] | None = None) -> TextCondition:
        """One row, on the CPU. Where a prompt is encoded with its picture, with this one, named as for `image`."""
        words = (prompt.subject, prompt.motion, prompt.setting)
        found = self._text(words, content, frame, lambda image: self.backbone.encode_prompt([prompt], image))
        return replace(found, prompts=(prompt,))

    def plain_text(self, text: str, content: str = "", frame: Callable[[], Tensor] | None = None) -> TextCondition:
        """Backbone.encode_text of one text, on the CPU; with a picture as for `text`."""
        found = self._text(("text", text), content, frame, lambda image: self.backbone.encode_text([text], image))
        return replace(found, prompts=(None,))

    def _text(
        self,
        words: Sequence[str],
        content: str,
        frame: Callable[[], Tensor] | None,
        make: Callable[[Tensor | None], TextCondition],
    ) -> TextCondition:
        seen = frame if "image_prompts" in self.backbone.spec.features else None
        key = content_key(self.backbone.fingerprint, *words, *([] if seen is None else [content]))

        def encode() -> dict[str, Tensor]:
            text = make(None if seen is None else seen()).to("cpu")
            own = {
                "prompt_embeds": text.prompt_embeds,
                "prompt_attention_mask": text.prompt_attention_mask,
                "pooled": text.pooled_prompt_embeds,
                "subject_tokens": text.subject_tokens,
                "motion_tokens": text.motion_tokens,
                "prompt_embeds_2": text.prompt_embeds_2,
                "prompt_attention_mask_2": text.prompt_attention_mask_2,
                "image_embeds": text.image_embeds,
            }
            return {name: tensor for name, tensor in own.items() if tensor is not None}

        t = self._fetch(self.root / "text" / f"{key}.safetensors", encode)
        return TextCondition(
            prompt_embeds=t["prompt_embeds"],
            prompt_attention_mask=t["prompt_attention_mask"],
            pooled_prompt_embeds=t.get("pooled"),
            subject_tokens=t["subject_tokens"],
            motion_tokens=t["motion_tokens"],
            prompt_embeds_2=t.get("prompt_embeds_2"),
            prompt_attention_mask_2=t.get("prompt_attention_mask_2"),
            image_embeds=t.get("image_embeds"),
        )

    def _fetch(self, path: Path, encode: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        if path.exists():
            try:
                return read_tensors(path)[0]
            except AdapterError as error:
                log.warning("cached encoding is damaged and will be made anew: %s", error)
        tensors = {k: v.contiguous() for k, v in encode().items()}
        write_tensors(path, tensors, {})
        return tensors


def with_cached_texts(backbone: Backbone, root: Path) -> Backbone:
    """The backbone itself, but that what it reads comes from the cache: only new words bring its text encoders in."""
    return cast(Backbone, _CachedTexts(backbone, root))


class _CachedTexts:
    def __init__(self, backbone: Backbone, root: Path) -> None:
        self._backbone, self._cache = backbone, EncodingCache(root, backbone)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def encode_prompt(self, prompts: Sequence[Prompt], images: Pixels | None = None) -> TextCondition:
        return self._rows(self._cache.text, prompts, images)

    def encode_text(self, texts: Sequence[str], images: Pixels | None = None) -> TextCondition:
        return self._rows(self._cache.plain_text, texts, images)

    def _rows(self, read: Callable[..., TextCondition], words: Sequence[Any], images: Pixels | None) -> TextCondition:
        rows = []
        for index, one in enumerate(words):
            if images is None:
                rows.append(read(one))
                continue
            picture = images[index : index + 1]
            content = hashlib.sha256(picture.float().cpu().numpy().tobytes()).hexdigest()
            rows.append(read(one, content, picture.clone))
        return stack_text(rows).to(self._backbone.device)
