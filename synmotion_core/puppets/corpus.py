"""A large rendered set with its VAE latents, cached on disk in chunks: pretraining reads latents, never pixels.

    chunk-00007.npy    float16 [N, C, 5, 8, 8], or [N, C, 17, 8, 8] where frames are coded one by one; written whole
                       and renamed, so that a chunk that exists is complete
    chunk-00007.json   the scenes, in order; captions are drawn anew each time a clip is used

Chunk i depends on (world, autoencoder, judge, shares, hybrids, etudes, standing, seed, i) only, so a killed run goes on
where it was and processes share the work.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from synmotion_core.puppets.autoencoder import (
    AutoencoderPatchVideo,
    PatchAutoencoder,
    autoencoder_from,
)
from synmotion_core.puppets.captions import draw_scene
from synmotion_core.puppets.judge import Judge
from synmotion_core.puppets.motions import RARE
from synmotion_core.puppets.stage import Performance, Scene, render

CHUNK = 256
_Kind = TypeVar("_Kind", bound=PatchAutoencoder)
_NEARLY_RARE = 0.2  # of the judge's probability: an étude above it is no clip for pretraining


def to_tensor(performances: list[Performance]) -> Tensor:
    """uint8 frames -> float32 [N, 3, F, H, W] in [-1, 1]."""
    frames = np.stack([p.frames for p in performances])
    return torch.from_numpy(frames).permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def fit_autoencoder(
    kind: type[_Kind] = AutoencoderPatchVideo, num_clips: int = 2400, seed: int = 1, power: float = 0.0
) -> _Kind:
    """Principal components of freshly rendered clips, pixels of the puppet counted six times; power: autoencoder.py."""
    rng = np.random.default_rng((seed, 0xAE))
    shows = [render(draw_scene(rng)) for _ in range(num_clips)]
    vae = kind()
    vae.fit(to_tensor(shows), 1.0 + 5.0 * torch.from_numpy(np.stack([s.mask for s in shows])).float(), power=power)
    return vae.eval()


def fit_deblock(
    vae: PatchAutoencoder,
    channels: int = 32,
    num_clips: int = 600,
    num_steps: int = 600,
    *,
    seed: int = 1,
    batch_size: int = 4,
    device: str = "cpu",
) -> Iterator[tuple[int, float]]:
    """Train the decoder's residual convolution in place: the linear maps, and so every cached latent, stay as they are.

    Latents are disturbed a little, since what a denoiser makes is never exactly on the renders' manifold; pixels of
    the puppet count six times. Yields (step, loss).
    """
    torch.manual_seed(seed)
    vae.add_deblock(channels)
    deblock = vae.deblock
    assert deblock is not None
    cast(nn.Module, vae.requires_grad_(False)).to(device)  # the model's own `to` is wrapped beyond type checkers
    deblock.requires_grad_(True).train()
    rng = np.random.default_rng((seed, 0xDB))
    shows = [render(draw_scene(rng)) for _ in range(num_clips)]
    video = to_tensor(shows)
    latents = torch.cat([vae.latents(v.to(device)) for v in video.split(32)])
    video = video.to(device)
    weight = 1.0 + 5.0 * torch.from_numpy(np.stack([s.mask for s in shows])).to(device).float()
    optimizer = torch.optim.AdamW(deblock.parameters(), lr=2e-3, weight_decay=0.0)
    for step in range(num_steps):
        rows = torch.from_numpy(rng.integers(num_clips, size=batch_size)).to(device)
        amount = 0.12 * torch.rand(batch_size, 1, 1, 1, 1, device=device)
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1.0, (step + 1) / 30) * min(1.0, 3 * (1 - step / num_steps))
        with torch.autocast(device, torch.bfloat16):
            out = vae.pixels(latents[rows] + amount * torch.randn_like(latents[rows])).float()
        error = out - video[rows]
        loss = ((error.square() + 0.1 * error.abs()).mean(1) * weight[rows]).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield step + 1, float(loss.detach())
    cast(nn.Module, vae.requires_grad_(False)).to("cpu").eval()


def _draw(
    rng: np.random.Generator,
    share: Mapping[str, float],
    *,
    hybrids: float = 0.0,
    etudes: float = 0.0,
    standing: float = 0.0,
) -> Scene:
    while True:
        scene = draw_scene(rng, hybrids=hybrids, etudes=etudes, standing=standing)
        part = share.get(scene.motion, 1.0)
        if part == 1 or rng.random() < part:
            return scene


def _show(scenes: list[Scene], draw: Callable[[], Scene], judge: Judge | None) -> list[Performance]:
    """Render; an étude that may pass for a rare motion is drawn again, in place, until none does.

    One that comes out of standing is judged without that: it must not be rare in the time it has left either.
    """
    shows: list[Performance | None] = [None] * len(scenes)
    while missing := [i for i, show in enumerate(shows) if show is None]:
        for i in missing:
            shows[i] = render(scenes[i])
        made = [(i, s) for i in missing if scenes[i].motion == "etude" and (s := shows[i]) is not None]
        if judge is None or not made:
            break
        rare = [judge.motions.index(name) for name in RARE]
        bare = [s if not scenes[i].onset else render(dataclasses.replace(scenes[i], onset=0.0)) for i, s in made]
        likely = judge.judge([show.frames for show in bare]).motion_probability[:, rare].sum(1)
        for (i, _), chance in zip(made, likely, strict=True):
            if chance > _NEARLY_RARE:
                scenes[i], shows[i] = draw(), None
    return [show for show in shows if show is not None]


def _write_chunk(
    folder: str, vae_path: str, share: Mapping[str, float], parts: Mapping[str, float], seed: int, index: int
) -> int:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    vae = autoencoder_from(Path(vae_path))
    judge = Judge.load() if parts["etudes"] else None
    rng = np.random.default_rng((seed, 0xC0, index))

    def draw() -> Scene:
        return _draw(rng, share, **parts)

    scenes: list[Scene] = []
    latents = []
    for start in range(0, CHUNK, 64):
        some = [draw() for _ in range(min(64, CHUNK - start))]
        video = to_tensor(_show(some, draw, judge))
        scenes += some
        with torch.no_grad():
            latents.append(vae.latents(video).half().numpy())
    stem = Path(folder) / f"chunk-{index:05d}"
    stem.with_suffix(".json").write_text(json.dumps([dataclasses.asdict(s) for s in scenes]))
    partial = stem.with_suffix(f".{os.getpid()}.part.npy")
    np.save(partial, np.concatenate(latents))
    partial.rename(stem.with_suffix(".npy"))
    return index


def build(
    folder: Path,
    vae_path: Path,
    num_clips: int,
    *,
    share: Mapping[str, float] | None = None,
    hybrids: float = 0.0,
    etudes: float = 0.0,
    standing: float = 0.0,
    seed: int = 1,
    workers: int = 2,
) -> Iterator[int]:
    """Render and encode what is missing; yields the index of each finished chunk.

    share: motion -> the part of its draws that is rendered, above 0 to 1; others are drawn again. 1 where not named.
    hybrids: the part of the scenes whose performer is of no species (hybrids.py), 0 to 1.
    etudes: the part of the nameless clips that is tidy (improvisation.py), 0 to 1; the judge keeps the rare ones out.
    standing: the part of the clips that begins with the puppet standing still, 0 to 1: for image to video.
    Raises ValueError for a part that is not.
    """
    parts = {"hybrids": hybrids, "etudes": etudes, "standing": standing}
    for name, part in parts.items():
        if not 0 <= part <= 1:
            raise ValueError(f"{name} must be between 0 and 1, got {part}")
    for motion, part in (share or {}).items():
        if not 0 < part <= 1:
            raise ValueError(f"share of {motion} must be above 0 and at most 1, got {part}")
    folder.mkdir(parents=True, exist_ok=True)
    missing = [i for i in range(-(-num_clips // CHUNK)) if not (folder / f"chunk-{i:05d}.npy").exists()]
    with ProcessPoolExecutor(workers) as pool:
        given = (str(folder), str(vae_path), dict(share or {}), parts, seed)
        yield from pool.map(_write_chunk, *([value] * len(missing) for value in given), missing)


class Corpus:
    """Random access over the chunks that are there; `refresh` picks up new ones, behind those it has.

    device None leaves latents on disk (mapped); another keeps them all in its memory (60 or 87 KB a clip, float16).
    """

    def __init__(self, folder: Path, device: str | None = None) -> None:
        self.folder, self.device = folder, device
        self.latents: list[NDArray[np.float16]] = []
        self.scenes: list[Scene] = []
        self._ends = [0]  # where each chunk ends; chunks may differ in length
        self._names: set[str] = set()
        self._held: Tensor | None = None
        self.refresh()

    def refresh(self) -> None:
        for path in sorted(p for p in self.folder.glob("chunk-?????.npy") if p.name not in self._names):
            chunk: NDArray[np.float16] = np.load(path, mmap_mode="r")
            if self.device is not None:
                self._hold(torch.from_numpy(np.array(chunk)))
            self._names.add(path.name)
            self.latents.append(chunk)
            self.scenes += [Scene(**s) for s in json.loads(path.with_suffix(".json").read_text())]
            self._ends.append(self._ends[-1] + len(chunk))

    def _hold(self, chunk: Tensor) -> None:
        """Append to the device's copy, whose room doubles when it is full."""
        start, end = len(self), len(self) + len(chunk)
        if self._held is None or len(self._held) < end:
            room = torch.empty((2 * end, *chunk.shape[1:]), dtype=chunk.dtype, device=self.device)
            if self._held is not None:
                room[:start] = self._held[:start]
            self._held = room
        self._held[start:end] = chunk.to(self._held.device)

    def __len__(self) -> int:
        return self._ends[-1]

    def batch(self, indices: NDArray[np.integer]) -> tuple[Tensor, list[Scene]]:
        """float32 latents [B, C, F, h, w] and their scenes."""
        scenes = [self.scenes[i] for i in indices]
        if self._held is not None:
            return self._held[torch.as_tensor(indices, device=self._held.device)].float(), scenes
        chunks = np.searchsorted(self._ends, indices, side="right") - 1
        rows = [self.latents[c][i - self._ends[c]] for c, i in zip(chunks, indices, strict=True)]
        return torch.from_numpy(np.stack(rows).astype(np.float32)), scenes
