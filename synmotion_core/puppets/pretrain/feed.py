"""The batch of step k, prepared a step ahead in a thread."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synmotion_core.puppets.captions import caption_for
from synmotion_core.puppets.corpus import Corpus
from synmotion_core.puppets.pretrain.anatomy import Anatomy, Batch
from synmotion_core.puppets.pretrain.settings import PretrainConfig


class Feed:
    """The batch of step k, a function of (config, k) and the chunks that are there."""

    def __init__(self, corpus: Corpus, anatomy: Anatomy, pipe: Any, config: PretrainConfig, device: str) -> None:
        self.corpus, self.anatomy, self.pipe, self.config, self.device = corpus, anatomy, pipe, config, device
        self._clips = 0
        self._used: dict[bool, NDArray[np.integer]] = {}  # by whether they begin from standing still
        self._order: dict[bool, tuple[int, NDArray[np.integer]]] = {}  # of which epoch, and the order

    def _clips_of(self, step: int, size: int, standing: bool) -> NDArray[np.integer]:
        """Which clips the step sees: every one once an epoch of its kind, thinned by motion alike in all."""
        if step % 25 == 0 or not self._clips:
            self.corpus.refresh()
        if self._clips != len(self.corpus):
            self._clips, self._order = len(self.corpus), {}
            share = np.array([self.config.share.get(s.motion, 1.0) for s in self.corpus.scenes])
            lots = np.random.default_rng((self.config.seed, 0x2A)).random(self._clips)
            begins = np.array([s.onset > 0 for s in self.corpus.scenes])
            self._used = {kind: np.flatnonzero((lots < share) & (begins == kind)) for kind in (False, True)}
        used = self._used[standing] if len(self._used[standing]) else self._used[not standing]
        epoch, offset = divmod(step * size, len(used))
        if standing not in self._order or self._order[standing][0] != epoch:
            self._order[standing] = epoch, np.random.default_rng((self.config.seed, epoch)).permutation(used)
        order = self._order[standing][1]
        return order[(offset + np.arange(size)) % len(order)]

    def __call__(self, step: int) -> Batch:
        config, corpus = self.config, self.corpus
        rng = np.random.default_rng((config.seed, step, 0x57))
        image = step < config.image_steps
        if config.image_fraction:
            image |= bool(rng.random() < config.image_fraction)
        size = config.image_batch_size if image else config.batch_size
        image_to_video = not image and self.anatomy.takes_pictures and bool(rng.random() < config.i2v_fraction)
        # From a picture of one that stands, half of the time. From words alone never: a clip that begins in its motion
        # is what methods and the judge are shown.
        standing = image_to_video and bool(rng.random() < 0.5)
        latents, scenes = corpus.batch(self._clips_of(step, size, standing))
        if image:
            frames = torch.zeros(size, dtype=torch.int64)
            if self.anatomy.frames_alone:
                frames = torch.from_numpy(rng.integers(latents.shape[2], size=size))
            latents = latents[torch.arange(size), :, frames][:, :, None]
        corner = (0, 0)
        if config.window is not None and not image and rng.random() < config.window_fraction:
            corner, latents = window(latents, config.window, rng)
        captions = [caption_for(s, rng).text if rng.random() >= config.caption_dropout else "" for s in scenes]
        text = self.anatomy.tokens(self.pipe, captions, fixed=config.compile)
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        draw = {"generator": generator, "device": self.device}
        noise = torch.randn(latents.shape, **draw)
        sigma = torch.sigmoid(config.sigma_mean + config.sigma_std * torch.randn(size, **draw))
        return Batch(
            latents=latents,
            noise=noise,
            sigma=self.anatomy.levels(self.pipe, sigma),
            text={name: tokens.to(self.device) for name, tokens in text.items()},
            image_to_video=image_to_video,
            corner=corner,
        )

    def batches(self, start: int, end: int) -> Iterator[tuple[int, Batch]]:
        """Steps start..end-1; a thread prepares the next batch during the present one."""
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(self, start)
            for step in range(start, end):
                batch = ahead.result()
                if step + 1 < end:
                    ahead = pool.submit(self, step + 1)
                yield step, batch


def window(latents: Tensor, size: tuple[int, int], rng: np.random.Generator) -> tuple[tuple[int, int], Tensor]:
    """((row, column), latents[..., rows, columns]): a part of the frame, drawn without a look at the clips.

    Puppets fill two fifths of the frame, where 97 % of the error is: a part costs half as much. The draw prefers the
    middle and the ground. Because it is independent of the clip, what is learnt is the distribution of that part, not
    that a puppet is where one looks.
    Raises ValueError for a size beyond the latents'.
    """
    rows, columns = size
    spare = latents.shape[-2] - rows, latents.shape[-1] - columns
    if min(spare) < 0 or min(size) < 1:
        raise ValueError(f"window is {rows}x{columns}; latents are {latents.shape[-2]}x{latents.shape[-1]}")
    row, column = int(rng.binomial(spare[0], 0.75)), int(rng.binomial(spare[1], 0.5))
    return (row, column), latents[..., row : row + rows, column : column + columns]
