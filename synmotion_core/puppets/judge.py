"""The judge: which motion, species and colour a clip shows. A small classifier, the yardstick of the puppet world.

    frames [17, 64, 64, 3] --4x4 blocks as channels--> 16x16 --conv--> 8x8 --conv--> 4x4 --linear--> one token a frame
    17 tokens and their differences --attention over time--> motion (25 names and "other")
    4x4 maps, pooled over place and time --> species (8), colour (8)
    Within the convolutions an eighth of the channels looks one frame back and one ahead (a temporal shift).
    In training each token also predicts its frame's 13 joints; that head ships, `Judge.joints` reads it.

"other" is a real answer: random limbs, still pictures, the wrong limb, half a gesture, morphs and noise (variants.py)
were half of its training. A clip gets the name with the highest probability; nothing is thresholded.

On disk: config.json (names, shape, widths) and model.safetensors (bfloat16). Measured figures: CARD.md beside them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from synmotion_core.errors import MissingError, ShapeError
from synmotion_core.storage import replacing

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "puppet-judge"
OTHER = "other"
_BATCH = 64
_FORMAT = 1

STILL_CHANGE = 0.03  # of the full range: eight levels, above what H.264 does to a held frame


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeConfig:
    """Names in the order of the outputs, the clip's shape (frames, height, width) and the widths of the network."""

    motions: tuple[str, ...]
    species: tuple[str, ...]
    colours: tuple[str, ...]
    shape: tuple[int, int, int] = (17, 64, 64)
    num_joints: int = 13
    widths: tuple[int, int, int] = (56, 88, 112)
    token_width: int = 112
    num_layers: int = 2
    num_heads: int = 4


class _Block(nn.Module):
    """Temporal shift, 3x3 convolution, batch norm; residual unless it halves the size or changes the width.

    Tensors stay in [B, F, H, W, C] order in memory, which is what the convolutions want.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, shift: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.residual = stride == 1 and inputs == outputs
        self.eighth = inputs // 8 if shift else 0

    def forward(self, x: Tensor) -> Tensor:
        """[B, F, H, W, C] -> [B, F, H', W', C']."""
        y = _shifted(x, self.eighth) if self.eighth else x
        y = self.norm(self.conv(y.flatten(0, 1).permute(0, 3, 1, 2)))
        y = y.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])
        return F.relu(x + y if self.residual else y)


def _shifted(x: Tensor, width: int) -> Tensor:
    """The first `width` channels come from the frame before, the next from the frame after; zero at the ends."""
    past = F.pad(x[:, :-1, ..., :width], (0, 0, 0, 0, 0, 0, 1, 0))
    ahead = F.pad(x[:, 1:, ..., width : 2 * width], (0, 0, 0, 0, 0, 0, 0, 1))
    return torch.cat([past, ahead, x[..., 2 * width :]], dim=-1)


class JudgeNet(nn.Module):
    """The network. `forward` takes pixels [B, F, H, W, 3] in [-1, 1] and returns logits and joints."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        frames, height, width = config.shape
        a, b, c = config.widths
        self.blocks = nn.ModuleList(
            [_Block(48, a, shift=False), _Block(a, b, stride=2), _Block(b, b), _Block(b, c, stride=2), _Block(c, c)]
        )
        self.token = nn.Linear(c * (height // 16) * (width // 16), config.token_width)
        self.position = nn.Parameter(torch.randn(frames, config.token_width) * 0.02)
        self.change = nn.Linear(config.token_width, config.token_width, bias=False)  # of the step since the last frame
        nn.init.zeros_(self.change.weight)
        layer = nn.TransformerEncoderLayer(config.token_width, config.num_heads, 2 * config.token_width, dropout=0.0,
                                           activation="gelu", batch_first=True, norm_first=True)  # fmt: skip
        self.encoder = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        self.motion = nn.Linear(2 * config.token_width, len(config.motions))
        self.species = nn.Linear(2 * c, len(config.species))
        self.colour = nn.Linear(2 * c, len(config.colours))
        self.joints = nn.Linear(config.token_width, 2 * config.num_joints)

    def forward(self, pixels: Tensor) -> JudgeOutput:
        batch, steps, height, width, _ = pixels.shape
        x = pixels.reshape(batch, steps, height // 4, 4, width // 4, 4, 3).transpose(3, 4)
        x = x.reshape(batch, steps, height // 4, width // 4, 48)
        for block in self.blocks:
            x = block(x)
        looks = x.float()
        look = torch.cat([looks.mean((1, 2, 3)), looks.amax((2, 3)).mean(1)], dim=-1)
        tokens = self.token(x.flatten(2))
        seen = F.gelu(tokens)
        steps_taken = F.pad(seen[:, 1:] - seen[:, :-1], (0, 0, 1, 0))
        acts = self.encoder(seen + self.change(steps_taken) + self.position)
        act = torch.cat([acts.mean(1), acts.amax(1)], dim=-1)
        return JudgeOutput(
            motion=self.motion(act).float(),
            species=self.species(look).float(),
            colour=self.colour(look).float(),
            joints=self.joints(tokens).float().unflatten(-1, (self.config.num_joints, 2)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeOutput:
    """Logits motion [B, M], species [B, S], colour [B, C]; joints [B, F, 13, 2], (x, y) in [-1, 1] across the frame."""

    motion: Tensor
    species: Tensor
    colour: Tensor
    joints: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """One row a clip: the likeliest names, and all probabilities (float32 [N, names], each row sums to 1).

    Columns follow `Judge.motions`, `Judge.species` and `Judge.colours`.
    """

    motion: tuple[str, ...]
    species: tuple[str, ...]
    colour: tuple[str, ...]
    motion_probability: NDArray[np.float32] = field(repr=False)
    species_probability: NDArray[np.float32] = field(repr=False)
    colour_probability: NDArray[np.float32] = field(repr=False)

    def __len__(self) -> int:
        return len(self.motion)


class Judge:
    """A loaded judge. Deterministic: the same frames get the same verdict, alone or in a batch, to about 1e-5."""

    def __init__(self, net: JudgeNet) -> None:
        self.net = net.float().eval().requires_grad_(False)
        self.motions, self.species, self.colours = net.config.motions, net.config.species, net.config.colours

    @classmethod
    def load(cls, folder: Path | str | None = None) -> Judge:
        """Read a judge; None takes the one that ships. Raises MissingError when it is not there or not whole."""
        where = FOLDER if folder is None else Path(folder)
        for name in ("config.json", "model.safetensors"):
            if not (where / name).is_file():
                raise MissingError(
                    f"no judge in {where}: {name} is missing. Train one: "
                    f"python -m synmotion_core.puppets.judge_training --out {where}"
                )
        try:
            config = config_from_dict(json.loads((where / "config.json").read_text(encoding="utf-8")))
            net = JudgeNet(config)
            net.load_state_dict(load_file(where / "model.safetensors"))  # copies into float32
        except (ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
            raise MissingError(f"the judge in {where} cannot be read: {error}") from error
        return cls(net)

    def __call__(self, frames: NDArray[Any] | Sequence[NDArray[Any]]) -> Verdicts:
        """`judge`."""
        return self.judge(frames)

    def judge(self, frames: NDArray[Any] | Sequence[NDArray[Any]]) -> Verdicts:
        """Name what the clips show. frames [N, 17, 64, 64, 3], uint8, or float in [0, 1]; N may be 0.

        Raises ShapeError for another shape and for floats that are not finite or outside [0, 1] by more than 0.01.
        """
        logits = self._run(frames)
        rows = [torch.softmax(part, dim=-1).numpy() for part in logits[:3]]
        rows[0] = self._nothing_moves(frames, rows[0])
        names = [tuple(table[i] for i in row.argmax(-1))
                 for table, row in zip((self.motions, self.species, self.colours), rows, strict=True)]  # fmt: skip
        return Verdicts(motion=names[0], species=names[1], colour=names[2], motion_probability=rows[0],
                        species_probability=rows[1], colour_probability=rows[2])  # fmt: skip

    def _nothing_moves(
        self, frames: NDArray[Any] | Sequence[NDArray[Any]], motion: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """A clip in which no pixel changes by more than STILL_CHANGE shows no motion, whatever its pose suggests."""
        pixels = self._pixels(frames)
        scale = 255.0 if pixels.dtype == torch.uint8 else 1.0
        fair = np.array([name in ("stand", OTHER) for name in self.motions])
        out = motion.copy()
        for i, clip in enumerate(pixels):
            if float((clip.float() - clip[:1].float()).abs().max()) / scale <= STILL_CHANGE:
                out[i] = np.where(fair, out[i] + 1e-12, 0.0)
                out[i] /= out[i].sum()
        return out

    def joints(self, frames: NDArray[Any] | Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Where the judge sees the joints: float32 [N, 17, 13, 2], (x, y) pixels in the order of `stage.JOINTS`."""
        _, height, width = self.net.config.shape
        return ((self._run(frames)[3] + 1) * torch.tensor([width, height]) / 2).numpy()

    def _run(self, frames: NDArray[Any] | Sequence[NDArray[Any]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pixels = self._pixels(frames)
        empty = torch.zeros((0, *self.net.config.shape, 3))
        parts: list[JudgeOutput] = []
        with torch.inference_mode():
            for chunk in pixels.split(_BATCH) if len(pixels) else (empty,):
                parts.append(
                    self.net(chunk.float() / 127.5 - 1 if chunk.dtype == torch.uint8 else chunk.float() * 2 - 1)
                )
        return tuple(torch.cat([getattr(p, f.name) for p in parts]) for f in dataclasses.fields(JudgeOutput))  # type: ignore[return-value]

    def _pixels(self, frames: NDArray[Any] | Sequence[NDArray[Any]]) -> Tensor:
        array = np.asarray(frames)
        if array.ndim == 1 and array.size == 0:
            array = np.zeros((0, *self.net.config.shape, 3), np.uint8)
        wanted = (*self.net.config.shape, 3)
        if array.ndim != 5 or array.shape[1:] != wanted:
            raise ShapeError(f"the judge takes clips [N, {', '.join(map(str, wanted))}], got {list(array.shape)}")
        if array.dtype != np.uint8:
            if not np.issubdtype(array.dtype, np.floating):
                raise ShapeError(f"the judge takes uint8 frames, or floats in [0, 1], got {array.dtype}")
            if array.size and not (array.min() >= -0.01 and array.max() <= 1.01):  # false for NaN, too
                raise ShapeError(f"float frames must lie in [0, 1], got {array.min():.3g} to {array.max():.3g}")
        return torch.from_numpy(np.ascontiguousarray(array))


def config_from_dict(values: Mapping[str, Any]) -> JudgeConfig:
    """The inverse of what `save_judge` writes. Raises ValueError for a newer format, TypeError for unknown keys."""
    values = dict(values)
    if (version := values.pop("format", None)) != _FORMAT:
        raise ValueError(f"format {version!r}, this version reads {_FORMAT}")
    lists: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return JudgeConfig(**lists)


def save_judge(net: JudgeNet, folder: Path) -> None:
    """Write config.json and model.safetensors (bfloat16), each whole or not at all."""
    tensors = {k: (v.bfloat16() if v.is_floating_point() else v).contiguous() for k, v in net.state_dict().items()}
    described = {"format": _FORMAT, **dataclasses.asdict(net.config)}
    for name, content in (
        ("model.safetensors", save(tensors)),
        ("config.json", f"{json.dumps(described, indent=2)}\n".encode()),
    ):
        with replacing(folder / name) as partial:
            partial.write_bytes(content)
