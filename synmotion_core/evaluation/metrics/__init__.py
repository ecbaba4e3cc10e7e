"""The registry of metrics. A new metric is one file with a function `score`, and one row.

    score(asked: Asked) -> Mapping[str, Sequence[float]]     a list a column: a value a video, or one for the unit

A row says what its columns are called, what they mean and which end is better, so that tables, plots and comparisons
need to know no metric. Modules load when they are asked, and their models when they are first needed. A metric that
has nothing to say (a first picture where there is none) leaves its columns out; that is never a zero.

A row with `weights` looks through a model that is fetched from the Hub: a suite names it in `metrics`, none has it by
default, and where the weights cannot be had it is named as not measured (`Scores.missing`). Imaging quality (MUSIQ) and
motion smoothness by AMT are not here: their weights are for no commercial use, and pickles.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from synmotion_core.errors import MissingError, unknown
from synmotion_core.types import Frames, Prompt

Better = Literal["more", "less", "one", "neither"]  # "one": as much as true ones, less and more are both off
Per = Literal["video", "known", "unit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A video, frames uint8 [F, H, W, 3] as its file holds them, and what it was asked to show.

    motion is the task's name for it; species and colour are a puppet's, "" elsewhere; picture [H, W, 3] is what it
    begins with in I2V.
    """

    frames: Frames
    fps: float
    prompt: Prompt
    motion: str
    species: str = ""
    colour: str = ""
    picture: Frames | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One unit's videos; `known`, of motions that the base knows; and the clips that the adapter has learnt from."""

    motion: str
    shots: tuple[Shot, ...]
    known: tuple[Shot, ...] = ()
    references: tuple[Shot, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One line of values: `title` heads a table, `about` explains it. rate: values are 0 or 1, shown in per cent.

    per "video": a value for each; "known": for each video of a motion that the base knows; "unit": one for all.
    """

    name: str
    title: str
    about: str
    rate: bool = False
    better: Better = "more"
    per: Per = "video"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A model on the Hub. size_gb is about what is fetched of it, in 10^9 bytes.

    revision: a commit; or another name of a version, which its owner may move.
    """

    repo: str
    revision: str
    licence: str
    size_gb: float

    @property
    def pinned(self) -> bool:
        """Whether its bytes are the same for everybody and always."""
        return re.fullmatch(r"[0-9a-f]{40}", self.revision) is not None

    @property
    def title(self) -> str:
        """The repository and its version, as sentences have it."""
        return f"{self.repo} at {self.revision[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRow:
    """One row of the registry. puppets: it needs the puppets' ground truth, or their judge. weights: what it reads."""

    name: str
    module: str
    columns: tuple[Column, ...]
    puppets: bool = False
    weights: tuple[Weights, ...] = ()

    def score(self, asked: Asked) -> dict[str, list[float]]:
        """Its columns, in their order. Raises ValueError for a column that is not its own, has another length than
        what it is of, or holds what is no number. Values are kept to six digits: results are files that travel."""
        found = importlib.import_module(f"{__name__}.{self.module}").score(asked)
        counts = {"video": len(asked.shots), "known": len(asked.known), "unit": 1}
        columns = {column.name: column for column in self.columns}
        for name, values in found.items():
            if name not in columns:
                raise ValueError(f"{self.name} has no column {name!r}")
            if len(values) != counts[columns[name].per]:
                raise ValueError(f"{name}: {len(values)} values for {counts[columns[name].per]}")
            if not all(math.isfinite(value) for value in values):
                raise ValueError(f"{name} is not finite: {list(values)}")
        return {name: [float(f"{v:.6g}") for v in found[name]] for name in columns if name in found}


METRICS: dict[str, MetricRow] = {
    row.name: row
    for row in (
        MetricRow(
            name="judge",
            module="verdicts",
            puppets=True,
            columns=(
                Column(name="motion", title="rare motion", rate=True, about="the judge names the rare motion"),
                Column(name="species", title="species", rate=True, about="the judge names the species asked for"),
                Column(name="colour", title="colour", rate=True, about="the judge names the colour asked for"),
                Column(
                    name="as_person",
                    title="judged as the person",
                    rate=True,
                    better="less",
                    about="the judge sees the person of the clips instead: leakage",
                ),
                Column(
                    name="common",
                    title="known motions",
                    rate=True,
                    per="known",
                    about="the judge names a motion that the base knows, with the adapter at work: what is lacking is "
                    "forgotten",
                ),
            ),
        ),
        MetricRow(
            name="trajectory",
            module="trajectory",
            puppets=True,
            columns=(
                Column(
                    name="error",
                    title="error of joints",
                    better="less",
                    about="distance of the joints from the nearest true performance, in body heights: 0.02 to 0.05 for "
                    "true ones; tells large motions apart, not small ones of the hands (salute, pray)",
                ),
                Column(
                    name="amplitude",
                    title="amplitude",
                    better="one",
                    about="how much it moves, 1 as true ones",
                ),
            ),
        ),
        MetricRow(
            name="picture",
            module="picture",
            columns=(
                Column(
                    name="first_frame_db",
                    title="first frame, dB",
                    about="how well the first frame keeps the picture, PSNR",
                ),
            ),
        ),
        MetricRow(
            name="background",
            module="background",
            columns=(
                Column(
                    name="background_db",
                    title="background, dB",
                    about="how still the rim of the picture stays around its median over time (in I2V: as the first "
                    "picture has it), PSNR",
                ),
            ),
        ),
        MetricRow(
            name="flow",
            module="flow",
            columns=(
                Column(
                    name="flow",
                    title="flow",
                    better="neither",
                    about="mean length of the optical flow, in percent of the picture's height a frame",
                ),
                Column(
                    name="dynamic",
                    title="dynamic",
                    rate=True,
                    better="neither",
                    about="VBench's dynamic degree, one bit a video: enough frames whose fastest 5 % move enough",
                ),
                Column(
                    name="smoothness",
                    title="smoothness",
                    about="VBench's motion smoothness, by flow: frames are as their neighbours say; 1 for a still",
                ),
            ),
        ),
        MetricRow(
            name="fidelity",
            module="fidelity",
            columns=(
                Column(
                    name="fidelity",
                    title="motion fidelity",
                    about="how alike points move in the video and in the nearest clip, -1 to 1 (Yatim et al., both "
                    "ways); read it beside its floor: tells large motions apart, not small ones of the hands (salute, "
                    "pray, clap), and 0 is also where no track is left to follow",
                ),
                Column(
                    name="fidelity_floor",
                    title="its floor",
                    better="neither",
                    about="the same with the steps of the clips in another order: what chance gives",
                ),
            ),
        ),
        MetricRow(
            name="clip",
            module="clip",
            weights=(
                Weights(
                    repo="openai/clip-vit-large-patch14",
                    revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
                    licence="code MIT; no licence is stated for the weights",
                    size_gb=1.7,
                ),
            ),
            columns=(
                Column(
                    name="clip_text",
                    title="CLIP-T",
                    about="mean cosine of the frames and the prompt by CLIP ViT-L/14, without the factor of 100",
                ),
                Column(
                    name="clip_consistency",
                    title="CLIP, frame to frame",
                    about="mean cosine of each frame and the one before; 1 for a still: read it beside flow",
                ),
                Column(
                    name="background_consistency",
                    title="background, CLIP",
                    about="VBench's background consistency: each frame against the first and the one before, by CLIP "
                    "(VBench: ViT-B/32); 1 for a still: read it beside flow",
                ),
            ),
        ),
        MetricRow(
            name="dino",
            module="dino",
            weights=(
                # main holds pickles alone: these are the same tensors in the pull request of the Hub's converter
                Weights(repo="facebook/dino-vitb16", revision="refs/pr/7", licence="Apache-2.0", size_gb=0.35),
            ),
            columns=(
                Column(
                    name="subject_consistency",
                    title="subject, DINO",
                    about="VBench's subject consistency: each frame against the first and the one before, by DINO "
                    "ViT-B/16 (not pinned to a commit); 1 for a still: read it beside flow",
                ),
                Column(
                    name="leak",
                    title="leak, DINO",
                    better="less",
                    about="how alike the frames look to the nearest frame of any clip, mean cosine by DINO ViT-B/16 "
                    "(not pinned to a commit): leakage of looks, where the motion is equally right",
                ),
            ),
        ),
        MetricRow(
            name="fvd",
            module="fvd",
            weights=(
                Weights(
                    repo="facebook/vjepa2-vitl-fpc64-256",
                    revision="b3c1679b7c34d3255ef3547f27c7b226aefab26f",
                    licence="MIT",
                    size_gb=1.3,
                ),
            ),
            columns=(
                Column(
                    name="fvd",
                    title="FVD-VJEPA2",
                    better="less",
                    per="unit",
                    about="Frechet distance of the videos and the clips by V-JEPA 2 ViT-L, no figure of I3D's FVD; few "
                    "videos make it larger: compare it only where there are as many",
                ),
            ),
        ),
        MetricRow(
            name="vqa",
            module="vqa",
            weights=(
                Weights(
                    repo="Qwen/Qwen3-VL-4B-Instruct",
                    revision="ebb281ec70b05090aa6165b016eac8ec08e71b17",
                    licence="Apache-2.0",
                    size_gb=8.9,
                ),
            ),
            columns=(
                Column(
                    name="vqa_motion",
                    title="motion, Qwen3-VL",
                    rate=True,
                    about="Qwen3-VL-4B says yes rather than no when asked whether somebody does what the prompt says",
                ),
                Column(
                    name="vqa_subject",
                    title="subject, Qwen3-VL",
                    rate=True,
                    about="Qwen3-VL-4B says yes rather than no when asked whether it is the subject of the prompt",
                ),
            ),
        ),
    )
}
COLUMNS: dict[str, Column] = {column.name: column for row in METRICS.values() for column in row.columns}
DEFAULT_METRICS = tuple(name for name, row in METRICS.items() if not row.weights)  # what needs no download


def find_metric(name: str) -> MetricRow:
    """The row called `name`; raises ConfigError naming the nearest."""
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """values: columns, in the registry's order; missing: metrics whose weights could not be had, with the reason."""

    values: Mapping[str, list[float]]
    missing: Mapping[str, str]


def score(names: Sequence[str], asked: Asked) -> Scores:
    """All columns of these metrics. Raises as `find_metric` and `MetricRow.score`; weights that cannot be had are
    no error here."""
    rows = {find_metric(name).name for name in names}
    values: dict[str, list[float]] = {}
    missing: dict[str, str] = {}
    for name in (name for name in METRICS if name in rows):
        try:
            values |= METRICS[name].score(asked)
        except MissingError as error:
            if not METRICS[name].weights:
                raise
            missing[name] = str(error)
    return Scores(values=values, missing=missing)
