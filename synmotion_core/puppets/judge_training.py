"""`python -m synmotion_core.puppets.judge_training --out assets/puppet-judge`: renders clips and trains the judge.

The set (variants.py) is rendered once, in chunks that resume; every use of a clip is damaged anew, so that the judge
reads what a small diffusion model draws: the autoencoder's blocks with noise on the latents and weak channels gone,
blur, ghosts of neighbouring frames, JPEG, noise fine and coarse, colour gain, a shift by 3 pixels, a mirror image.

    loss = -log(sum of the fair names' probability) + CE(species) + CE(colour) + 4 SmoothL1(joints)

where a clip has several fair names only if people would disagree (half a bow: "bow" and "other"). About half of the
set is named motions, half is "other". Step k depends on (seed, k) only.
`--start` goes on from a saved judge with a fresh optimizer.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from synmotion_core.puppets.judge import FOLDER, OTHER, Judge, JudgeConfig, JudgeNet, JudgeOutput, save_judge
from synmotion_core.puppets.kinematics import NUM_FRAMES
from synmotion_core.puppets.motions import COMMON, RARE
from synmotion_core.puppets.species import SPECIES
from synmotion_core.puppets.stage import BACKGROUNDS, COLOURS, JOINTS, SIZE, Scene
from synmotion_core.puppets.variants import GOES_SOMEWHERE, HELD, ONE_WAY, STILL_NAMES, VARIANTS, Take

if TYPE_CHECKING:
    from synmotion_core.puppets.autoencoder import AutoencoderPatchVideo

CHUNK = 512
NAMED = COMMON + RARE
MIX = {"plain": 0.3, "sloppy": 0.14, "onset": 0.12, "moves": 0.14, "still": 0.07, "reversed": 0.06, "scaled": 0.08,
       "limbs": 0.06, "morph": 0.05, "chaos": 0.02}  # fmt: skip
_SWAPPED = [
    JOINTS.index(n[:-1] + {"l": "r", "r": "l"}[n[-1]]) if n[-2:] in ("_l", "_r") else i for i, n in enumerate(JOINTS)
]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeTraining:
    """Settings. `num_clips` are rendered once; a step sees `batch_size` of them."""

    num_clips: int = 16384
    num_steps: int = 2500
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warmup_steps: int = 100
    seed: int = 0


def default_config() -> JudgeConfig:
    """The world's names: motions in registration order, "other" last."""
    return JudgeConfig(motions=(*NAMED, OTHER), species=tuple(SPECIES), colours=tuple(COLOURS))


def draw_take(rng: np.random.Generator, kind: str, motion: str | None = None) -> Take:
    """A clip of one variant with everything else uniform; "moves" is `plain` of the nameless motion.

    Three in ten of "onset" are nameless too, so that coming out of standing is no sign of a name.
    """
    if motion is None:
        nameless = kind == "moves" or (kind == "onset" and rng.random() < 0.3)
        motion = "moves" if nameless else str(rng.choice(NAMED))
    scene = Scene(
        species=str(rng.choice(list(SPECIES))),
        colour=str(rng.choice(list(COLOURS))),
        background=str(rng.choice(list(BACKGROUNDS))),
        motion=motion,
        seed=int(rng.integers(2**31)),
    )
    return VARIANTS["plain" if kind == "moves" else kind](scene, rng)


# ------------------------------------------------------------------------------------------ the rendered set


@dataclass(frozen=True, slots=True)
class Examples:
    """frames uint8 [N, 17, 64, 64, 3]; fair bool [N, motions]; species, colour int64 [N], -1 without a puppet;
    joints float32 [N, 17, 13, 2] pixels."""

    frames: NDArray[np.uint8]
    fair: NDArray[np.bool_]
    species: NDArray[np.int64]
    colour: NDArray[np.int64]
    joints: NDArray[np.float32]


def pack(takes: list[Take], config: JudgeConfig) -> Examples:
    """Takes as arrays, names as positions in `config`."""
    return Examples(
        np.stack([t.performance.frames for t in takes]),
        np.array([[m in t.names for m in config.motions] for t in takes]),
        np.array([config.species.index(t.scene.species) if t.puppet else -1 for t in takes]),
        np.array([config.colours.index(t.scene.colour) if t.puppet else -1 for t in takes]),
        np.stack([t.performance.joints for t in takes]),
    )


def build_cache(folder: Path, num_clips: int, seed: int) -> Iterator[int]:
    """Render the chunks that are missing; chunk i depends on (world, seed, i). Yields each chunk's number."""
    folder.mkdir(parents=True, exist_ok=True)
    config = default_config()
    kinds, shares = list(MIX), np.array(list(MIX.values())) / sum(MIX.values())
    for index in range(-(-num_clips // CHUNK)):
        path = folder / f"takes-{seed}-{index:04d}.npz"
        if not path.exists():
            rng = np.random.default_rng((seed, 0x10D6E, index))
            made = pack([draw_take(rng, str(rng.choice(kinds, p=shares))) for _ in range(CHUNK)], config)
            partial = path.with_suffix(".part")
            with partial.open("wb") as file:
                np.savez(file, **{name: getattr(made, name) for name in Examples.__slots__})
            partial.rename(path)
        yield index


def load_cache(folder: Path, seed: int) -> Examples:
    """All chunks that are there."""
    parts = []
    for path in sorted(folder.glob(f"takes-{seed}-????.npz")):
        with np.load(path) as file:
            parts.append({name: file[name] for name in Examples.__slots__})
    return Examples(*(np.concatenate([p[name] for p in parts]) for name in Examples.__slots__))


# ------------------------------------------------------------------------------------------ damage


def through_autoencoder(
    vae: AutoencoderPatchVideo, frames: Tensor, noise: Tensor | None = None, keep: Tensor | None = None
) -> Tensor:
    """Reconstruct [B, F, H, W, 3] in [-1, 1]. noise [B]: sigma on the latents; keep [B]: leading channels kept."""
    shape = (-1, 1, 1, 1, 1)
    with torch.no_grad():
        z = vae.encode(frames.permute(0, 4, 1, 2, 3), return_dict=False)[0].mode()
        if noise is not None:
            z = z + noise.view(shape) * torch.randn(z.shape)
        if keep is not None:
            z = z * (torch.arange(z.shape[1]).view(1, -1, 1, 1, 1) < keep.view(shape))
        return vae.decode(z, return_dict=False)[0].permute(0, 2, 3, 4, 1).clamp(-1, 1)


def _blurred(clip: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    stacked = clip.transpose(1, 2, 0, 3).reshape(SIZE, SIZE, -1)
    smooth = cv2.GaussianBlur(stacked, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return smooth.reshape(SIZE, SIZE, NUM_FRAMES, 3).transpose(2, 0, 1, 3)


def _jpeg(clip: NDArray[np.float32], quality: int) -> NDArray[np.float32]:
    tiled = (
        np.clip((clip + 1) * 127.5, 0, 255).astype(np.uint8).reshape(NUM_FRAMES * SIZE, SIZE, 3)
    )  # 64 = 4 x 16: no bleeding
    _, code = cv2.imencode(".jpg", tiled, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(code, cv2.IMREAD_COLOR)
    assert decoded is not None  # it was encoded on the line before
    return decoded.reshape(clip.shape).astype(np.float32) / 127.5 - 1


def damage(frames: Tensor, vae: AutoencoderPatchVideo, rng: np.random.Generator) -> Tensor:
    """What stands between a clip and the judge. frames [B, 17, 64, 64, 3] in [-1, 1], changed in place where possible.

    Uses torch's global generator for noise: seed it for repeatable damage.
    """
    count = len(frames)

    def some(chance: float) -> Tensor:
        return torch.from_numpy(np.flatnonzero(rng.random(count) < chance))

    def uniform(low: float, high: float, n: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, n).astype(np.float32))

    def column(x: Tensor) -> Tensor:
        return x.view(-1, 1, 1, 1, 1)

    rows = some(0.55)
    if len(rows):
        sigma = uniform(0, 0.32, len(rows)) * (uniform(0, 1, len(rows)) < 0.7)
        weak = uniform(0, 1, len(rows)) < 0.35
        keep = torch.where(weak, uniform(24, 96, len(rows)), 1e9)
        frames[rows] = through_autoencoder(vae, frames[rows], sigma, keep)
    rows = some(0.2)
    if len(rows):  # ghosts: each frame holds some of its neighbours
        w, x = column(uniform(0, 0.4, len(rows))), frames[rows]
        around = (torch.cat([x[:, :1], x[:, :-1]], 1) + torch.cat([x[:, 1:], x[:, -1:]], 1)) / 2
        frames[rows] = x + (around - x) * w
    for i in some(0.3).tolist():
        frames[i] = torch.from_numpy(_blurred(frames[i].numpy(), float(rng.uniform(0.4, 1.3))))
    rows = some(0.5)
    if len(rows):
        gain = torch.from_numpy(rng.uniform(0.94, 1.06, (len(rows), 1, 1, 1, 3)).astype(np.float32))
        frames[rows] = frames[rows] * gain + column(uniform(-0.05, 0.05, len(rows)))
    for i in some(0.2).tolist():
        frames[i] = torch.from_numpy(_jpeg(frames[i].numpy(), int(rng.integers(25, 90))))
    rows = some(0.2)
    if len(rows):  # blotches, as a sampler that stopped early leaves them
        blotches = torch.randn(len(rows) * NUM_FRAMES, 3, 8, 8)
        coarse = (
            F.interpolate(blotches, (SIZE, SIZE), mode="bilinear")
            .unflatten(0, (len(rows), NUM_FRAMES))
            .permute(0, 1, 3, 4, 2)
        )
        frames[rows] += coarse * column(uniform(0, 0.12, len(rows)))
    rows = some(0.35)
    if len(rows):
        frames[rows] += torch.randn(frames[rows].shape) * column(uniform(0, 0.15, len(rows)))
    return frames.clamp_(-1, 1)


def _moved(frames: Tensor, joints: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mirror half of the clips and shift by up to 3 pixels, borders repeated; joints (pixels) follow."""
    out = torch.empty_like(frames)
    joints = joints.clone()
    for i in range(len(frames)):
        clip = frames[i]
        if rng.random() < 0.5:
            clip = clip.flip(2)
            joints[i] = joints[i][:, _SWAPPED] * torch.tensor([-1.0, 1.0]) + torch.tensor([float(SIZE), 0.0])
        dy, dx = (int(v) for v in rng.integers(-3, 4, 2)) if rng.random() < 0.6 else (0, 0)
        ys, xs = (torch.arange(SIZE).sub(d).clamp(0, SIZE - 1) for d in (dy, dx))
        out[i] = clip[:, ys][:, :, xs]
        joints[i] += torch.tensor([float(dx), float(dy)])
    return out, joints


def played_wrong(examples: Examples, rows: NDArray[np.integer], rng: np.random.Generator) -> Examples:
    """The given clips; three in ten of the clear named ones held, reversed or shuffled, with the names that leaves.

    Costs nothing, unlike a render, and keeps the judge from reading a motion off a single frame.
    """
    got = Examples(*(getattr(examples, name)[rows] for name in Examples.__slots__))
    names = default_config().motions
    for i, fair in enumerate(got.fair):
        kind = rng.choice(["as it is", "still", "reversed", "shuffled"], p=[0.7, 0.16, 0.1, 0.04])
        name = names[int(fair.argmax())]
        if kind == "as it is" or fair.sum() != 1 or name == OTHER:
            continue
        if kind == "still":
            order, left = np.full(NUM_FRAMES, rng.integers(NUM_FRAMES)), {name} if name == "stand" else STILL_NAMES
        elif kind == "reversed":
            order = np.arange(NUM_FRAMES)[::-1]
            left = {OTHER} if name in GOES_SOMEWHERE else {name, OTHER} if name in HELD else {name}
        else:
            order, left = rng.permutation(NUM_FRAMES), {OTHER} if name in ONE_WAY else {name, OTHER}
        got.frames[i], got.joints[i] = got.frames[i, order], got.joints[i, order]
        got.fair[i] = [m in left for m in names]
    return got


# ------------------------------------------------------------------------------------------ training


def loss_of(output: JudgeOutput, fair: Tensor, species: Tensor, colour: Tensor, joints: Tensor) -> dict[str, Tensor]:
    """The loss's terms. fair bool [B, motions]; species, colour [B] with -1 for none; joints in [-1, 1]."""
    log_p = output.motion.log_softmax(-1)
    present = species >= 0
    return {
        "motion": -log_p.masked_fill(~fair, -torch.inf).logsumexp(-1).mean(),
        "species": F.cross_entropy(output.species, species, ignore_index=-1),
        "colour": F.cross_entropy(output.colour, colour, ignore_index=-1),
        "joints": 4 * F.smooth_l1_loss(output.joints[present], joints[present], beta=0.1),
    }


def train(
    net: JudgeNet, examples: Examples, vae: AutoencoderPatchVideo, config: JudgeTraining
) -> Iterator[dict[str, float]]:
    """Train in place; yields a record a step: the loss's terms, accuracy on the damaged batch, seconds."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    net.train()
    order = np.empty(0, int)
    for step in range(config.num_steps):
        began = time.perf_counter()
        rng = np.random.default_rng((config.seed, step, 0x7A))
        torch.manual_seed(int(rng.integers(2**62)))
        epoch, place = divmod(step * config.batch_size, len(examples.frames))
        if not len(order) or place < config.batch_size:
            order = np.random.default_rng((config.seed, epoch)).permutation(len(examples.frames))
        rows = order[(place + np.arange(config.batch_size)) % len(order)]
        batch = played_wrong(examples, rows, rng)
        frames, joints = _moved(
            torch.from_numpy(batch.frames).float().div_(127.5).sub_(1), torch.from_numpy(batch.joints), rng
        )
        frames = damage(frames, vae, rng)
        decay = 0.5 + 0.5 * np.cos(np.pi * step / config.num_steps)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1.0, (step + 1) / config.warmup_steps) * decay
        with torch.autocast("cpu", torch.bfloat16):
            output = net(frames)
        fair, species, colour = (torch.from_numpy(v) for v in (batch.fair, batch.species, batch.colour))
        terms = loss_of(output, fair, species, colour, joints / (SIZE / 2) - 1)
        torch.stack(list(terms.values())).sum().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 2.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        right = fair.gather(1, output.motion.argmax(-1, keepdim=True)).float().mean()
        yield {"step": step + 1, **{k: float(v.detach()) for k, v in terms.items()}, "right": float(right),
               "seconds": time.perf_counter() - began}  # fmt: skip


def load_autoencoder(path: Path | None) -> AutoencoderPatchVideo:
    """The puppet world's autoencoder from a diffusers folder; None takes the shipped backbone's, or fits a fresh one.

    diffusers is imported here: it takes seconds, and loading a judge must not wait for it.
    """
    from synmotion_core.puppets.autoencoder import AutoencoderPatchVideo
    from synmotion_core.puppets.corpus import fit_autoencoder

    shipped = FOLDER.parent / "puppet-hunyuan" / "vae"
    if path is None and not (shipped / "config.json").is_file():
        return fit_autoencoder()
    return AutoencoderPatchVideo.from_pretrained(path or shipped, torch_dtype=torch.float32).eval()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m synmotion_core.puppets.judge_training", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the judge is written")
    parser.add_argument("--cache", type=Path, required=True, help="folder for the rendered set")
    parser.add_argument("--vae", type=Path, help="folder of the autoencoder (default: the shipped one)")
    parser.add_argument("--start", type=Path, help="folder of a judge to go on from")
    for name, default in (("clips", JudgeTraining().num_clips), ("steps", JudgeTraining().num_steps), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--learning-rate", type=float, default=JudgeTraining().learning_rate)
    args = parser.parse_args()
    config = JudgeTraining(num_clips=args.clips, num_steps=args.steps, seed=args.seed, learning_rate=args.learning_rate)
    for index in build_cache(args.cache, config.num_clips, config.seed):
        print(f"chunk {index}", flush=True)
    vae, examples = load_autoencoder(args.vae), load_cache(args.cache, config.seed)
    torch.manual_seed(config.seed)
    net = Judge.load(args.start).net.requires_grad_(True) if args.start else JudgeNet(default_config())
    sums: dict[str, float] = {}
    for record in train(net, examples, vae, config):
        sums = {k: sums.get(k, 0.0) + v for k, v in record.items()}
        if record["step"] % 50 == 0:
            print(
                int(record["step"]), " ".join(f"{k} {v / 50:.3f}" for k, v in sums.items() if k != "step"), flush=True
            )
            sums = {}
        if record["step"] % 250 == 0 or record["step"] == config.num_steps:
            save_judge(net, args.out)


if __name__ == "__main__":
    main()
