"""Units of work of `bench run methods`: one training and its videos, judged; in parallel, and kept when they are done.

A unit is (method and its settings, motion, seed). What came out is a small JSON file, and what was trained for it an
adapter's tensors beside it, each named by everything it depends on: the weights of backbone and judge, the settings,
and this package's own source. So a run that was stopped goes on with the units that are missing, other sampling
settings or more videos take the trained adapters that are there, and nothing stale is ever read.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from synmotion_core import material
from synmotion_core.backbones import SPECS, load_backbone
from synmotion_core.clips.dataset import content_hash, to_pixels
from synmotion_core.clips.frames import contact_sheet, png
from synmotion_core.config import Sampling, from_dict, to_dict
from synmotion_core.errors import AdapterError, ConfigError
from synmotion_core.evaluation.figures import decibels
from synmotion_core.generation import default_sampler, sample_frames
from synmotion_core.interfaces import Backbone, Method, drawing_settings, reworded
from synmotion_core.inversion import invert
from synmotion_core.methods import find_method
from synmotion_core.puppets.captions import subject_phrase
from synmotion_core.puppets.judge import FOLDER as JUDGE
from synmotion_core.puppets.judge import Judge
from synmotion_core.puppets.kinematics import FPS
from synmotion_core.puppets.motions import MOTIONS, ONSET, RARE
from synmotion_core.puppets.species import SPECIES
from synmotion_core.puppets.stage import BACKGROUNDS, COLOURS, Scene, render
from synmotion_core.storage import read_tensors, replacing, write_tensors
from synmotion_core.training import trainer
from synmotion_core.training.settings import PriorConfig, TrainConfig
from synmotion_core.training.trainer import TrainingSet
from synmotion_core.types import Clip, Frames, Mode, Prompt

BACKBONE = "puppet-hunyuan"
REFERENCE = "person"
UNSEEN = tuple(name for name in SPECIES if name != REFERENCE)


def check_backbone(name: str) -> None:
    """Raise ConfigError for a backbone that does not know puppets: clips and judge are of them."""
    known = [spec.name for spec in SPECS.values() if spec.repo.startswith("assets:")]
    if name not in known:
        raise ConfigError(f"this bench is about puppets, which {name!r} does not draw: choose {' or '.join(known)}")


def _words(motion: str, described: bool) -> str:
    return MOTIONS[motion].phrase if described else MOTIONS[motion].verb


def reference_clips(motion: str, num: int, seed: int, *, described: bool = True, standing: bool = False) -> list[Clip]:
    """Clips of a person doing a motion: colours, backgrounds and manner vary.

    standing: they begin with the person standing still, as the pictures do from which videos are to begin.
    """
    rng = np.random.default_rng((seed, 0x4EF, RARE.index(motion) if motion in RARE else 99))
    starts = np.random.default_rng((seed, 0x57A))  # its own, so that the rest is the same either way
    clips = []
    for i in range(num):
        colour, background = str(rng.choice(list(COLOURS))), str(rng.choice(list(BACKGROUNDS)))
        scene = Scene(
            species=REFERENCE,
            colour=colour,
            background=background,
            motion=motion,
            seed=int(rng.integers(2**31)),
            onset=float(starts.uniform(*ONSET)) if standing else 0.0,
        )
        frames = render(scene).frames
        clips.append(
            Clip(
                name=f"{motion}-{i}",
                frames=frames,
                fps=FPS,
                content_hash=content_hash(frames, FPS),
                prompt=Prompt(subject=subject_phrase(REFERENCE, colour), motion=_words(motion, described)),
            )
        )
    return clips


def reference_set(backbone: Backbone, clips: Sequence[Clip], cache: Path, mode: Mode = "t2v") -> TrainingSet:
    """Encoded reference clips, in I2V with their first frames."""
    return material.whole(material.encode_clips(backbone, clips, mode, cache, threading.Event()))


def prior_set(backbone: Backbone, cache: Path, config: PriorConfig, mode: Mode = "t2v") -> TrainingSet:
    """Subject priors, drawn where they are missing, in I2V with their first frames."""
    return material.whole(material.draw_priors(backbone, config, mode, cache, threading.Event()))


def targets(motion: str, num: int, seed: int, *, described: bool = True) -> list[tuple[Prompt, str, str]]:
    """(prompt, species, colour): the unseen species in turn, colours at random."""
    rng = np.random.default_rng((seed, 0x7A6))
    rows = []
    for i in range(num):
        species, colour = UNSEEN[i % len(UNSEEN)], str(rng.choice(list(COLOURS)))
        prompt = Prompt(subject=subject_phrase(species, colour), motion=_words(motion, described))
        rows.append((prompt, species, colour))
    return rows


def portraits(motion: str, num: int, seed: int) -> Frames:
    """First pictures for `targets`, uint8 [num, H, W, 3]: each puppet as it stands, on a random background."""
    rng = np.random.default_rng((seed, 0x1F2))
    return np.stack(
        [
            render(
                Scene(
                    species=species,
                    colour=colour,
                    background=str(rng.choice(list(BACKGROUNDS))),
                    motion="stand",
                    seed=int(rng.integers(2**31)),
                )
            ).frames[0]
            for _, species, colour in targets(motion, num, seed)
        ]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One training on `num_clips` renders of a person and `num_videos` videos over the unseen species in turn.

    described: prompts say the motion's verb and what its limbs do ("squats, bobs apart deep"); else the verb alone.
    mode "i2v" trains on clips that begin with the person standing, from their first frames, and draws from pictures of
    puppets that stand; drawn_mode, unless it is None, draws in another mode than was trained.
    """

    method: str
    config: Mapping[str, Any]  # the method's settings that differ from its defaults
    motion: str
    seed: int
    num_clips: int
    num_videos: int
    train: TrainConfig
    backbone: str = BACKBONE
    described: bool = True
    mode: Mode = "t2v"
    drawn_mode: Mode | None = None
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Per video whether the judge saw the motion, species and colour asked for, and whether it saw the person instead.

    seconds is the training's, priors not counted: they are drawn once and shared. first_frame_db is, in I2V, how well
    each video's first frame keeps the picture (PSNR); empty in T2V.
    """

    motion: list[bool]
    species: list[bool]
    colour: list[bool]
    as_person: list[bool]
    seconds: float
    first_frame_db: list[float] = field(default_factory=list)


def measure(
    units: Sequence[Unit], folder: Path, *, workers: int = 1, sheets: Path | None = None
) -> Iterator[tuple[Unit, Outcome]]:
    """Each unit, all of one backbone, with its outcome, in the order in which they are done; those found in `folder`
    come first.

    folder: encodings, priors and outcomes. workers: processes, which share the machine's cores. sheets: a folder for a
    contact sheet a unit that is measured now.
    """
    missing = []
    for unit in units:
        path = _path(unit, folder)
        if path.exists():
            yield unit, _outcome(path)
        else:
            missing.append(unit)
    if workers == 1 or len(missing) < 2:
        for unit in missing:
            yield unit, _work(unit, folder, sheets)
        return
    if any(find_method(u.method).draws_priors(_config(u)) for u in missing):
        backbone, _ = _loaded(units[0].backbone)
        prior_set(backbone, folder, PriorConfig())  # once, on all cores, before the workers want them
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(missing)), context, _start_worker, (workers,)) as pool:
        futures = {pool.submit(_work, unit, folder, sheets): unit for unit in missing}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _outcome(path: Path) -> Outcome:
    try:
        return Outcome(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:  # written whole or not at all: somebody else touched it
        raise ConfigError(f"the unit {path} cannot be read ({error}): delete it, and it is measured anew") from error


def _start_worker(workers: int) -> None:
    """A share of the cores; and no life after the parent, which a signal may end before it can end its workers."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@cache
def _loaded(name: str) -> tuple[Backbone, Judge]:
    return load_backbone(name), Judge.load()


@cache
def _version() -> str:
    """SHA-256 over this package's source and the judge's weights."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in [*sorted(root.rglob("*.py")), JUDGE / "model.safetensors"]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


_AFTER_TRAINING = ("num_videos", "drawn_mode", "sampling")


def _path(unit: Unit, folder: Path) -> Path:
    return folder / "units" / f"{_name(unit, to_dict(unit))}.json"


def _trained_path(unit: Unit, folder: Path) -> Path:
    values = {key: value for key, value in to_dict(unit).items() if key not in _AFTER_TRAINING}
    drawing = drawing_settings(find_method(unit.method))
    values["config"] = {key: value for key, value in to_dict(_config(unit)).items() if key not in drawing}
    return folder / "trained" / f"{_name(unit, values)}.safetensors"


def _name(unit: Unit, values: Mapping[str, Any]) -> str:
    words = json.dumps([_loaded(unit.backbone)[0].fingerprint, _version(), values], sort_keys=True)
    return f"{unit.method}-{unit.motion}-{unit.seed}-{hashlib.sha256(words.encode()).hexdigest()[:20]}"


def _read(prompt: Prompt, unit: Unit) -> Prompt:
    return reworded(find_method(unit.method), _config(unit), prompt)


def _config(unit: Unit) -> Any:
    return from_dict(find_method(unit.method).config, unit.config)


def _work(unit: Unit, folder: Path, sheets: Path | None) -> Outcome:
    backbone, judge = _loaded(unit.backbone)
    made, seconds = _train_and_draw(backbone, unit, folder)
    wanted = targets(unit.motion, unit.num_videos, unit.seed, described=unit.described)
    verdicts = judge.judge(made)
    outcome = Outcome(
        motion=[v == unit.motion for v in verdicts.motion],
        species=[v == w[1] for v, w in zip(verdicts.species, wanted, strict=True)],
        colour=[v == w[2] for v, w in zip(verdicts.colour, wanted, strict=True)],
        as_person=[v == REFERENCE for v in verdicts.species],
        seconds=seconds,
        first_frame_db=_first_frame_db(made, unit) if _drawn_mode(unit) == "i2v" else [],
    )
    if sheets is not None:
        labels = [f"{m}, {s}\n{w[0].text}" for w, m, s in zip(wanted, verdicts.motion, verdicts.species, strict=True)]
        with replacing(sheets / f"{unit.method}-{unit.motion}-{unit.seed}.png") as partial:
            partial.write_bytes(png(contact_sheet(made, labels)))
    with replacing(_path(unit, folder)) as partial:
        partial.write_text(json.dumps(asdict(outcome)))
    return outcome


def _train_and_draw(backbone: Backbone, unit: Unit, root: Path) -> tuple[list[Frames], float]:
    entry, path = find_method(unit.method), _trained_path(unit, root)
    prompt = _read(reference_clips(unit.motion, 1, unit.seed, described=unit.described)[0].prompt, unit)
    method = entry.attach(backbone, _config(unit), prompt, unit.num_clips)
    try:
        if not path.exists():
            _train(backbone, unit, method, root, path)
        spent = _take_up(method, path)
        return _draw(backbone, unit, method), spent
    finally:
        method.detach()


def _train(backbone: Backbone, unit: Unit, method: Method, root: Path, path: Path) -> None:
    """The adapter's tensors go to `path`, with the seconds that it took."""
    standing = unit.mode == "i2v"
    clips = reference_clips(unit.motion, unit.num_clips, unit.seed, described=unit.described, standing=standing)
    clips = [replace(clip, prompt=_read(clip.prompt, unit)) for clip in clips]
    data: dict[Any, TrainingSet] = {"reference": reference_set(backbone, clips, root, unit.mode)}
    if find_method(unit.method).draws_priors(_config(unit)):
        data["prior"] = prior_set(backbone, root, PriorConfig(), unit.mode)
    own = from_dict(TrainConfig, {**to_dict(unit.train), "seed": unit.seed, "save_every": 0, "sample_every": 0})
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for _ in trainer.train(
            backbone=backbone,
            method=method,
            data=data,
            config=own,
            folder=Path(folder),
            settings="bench",
            cancel=threading.Event(),
        ):
            pass
    spent = time.perf_counter() - began
    write_tensors(path, method.state_dict(), {"seconds": repr(spent)})


def _take_up(method: Method, path: Path) -> float:
    """Load what `_train` wrote; the seconds it took."""
    try:
        tensors, metadata = read_tensors(path)
        method.load_state_dict(tensors)
        return float(metadata["seconds"])
    except (AdapterError, KeyError, ValueError) as error:
        raise ConfigError(f"the adapter {path} cannot be read ({error}): delete it, and it is trained anew") from error


def _draw(backbone: Backbone, unit: Unit, method: Method) -> list[Frames]:
    sampler = default_sampler(backbone, **to_dict(unit.sampling))
    wanted = targets(unit.motion, unit.num_videos, unit.seed, described=unit.described)
    images = None
    if _drawn_mode(unit) == "i2v":
        images = torch.cat([to_pixels(picture[None])[:, :, 0] for picture in _pictures(unit)])
    inverted = None
    if sampler.noise_prior:  # of the first clip, as one that has only this one would
        clip = reference_clips(unit.motion, 1, unit.seed, described=unit.described)[0]
        latents, null = backbone.encode_video(to_pixels(clip.frames)), backbone.encode_text([""])
        method.set_strength(0.0)
        steps = sampler.num_inference_steps
        inverted = material.whole(invert(backbone, latents, null, sampler.shape, steps))
    made: list[Frames] = []
    for start in range(0, len(wanted), 4):
        some = wanted[start : start + 4]
        seeds = [unit.seed * 1009 + start + i for i in range(len(some))]
        first = None if images is None else images[start : start + 4]
        made += sample_frames(
            backbone, method, [_read(w[0], unit) for w in some], seeds, sampler, first, inverted=inverted
        )
    return made


def _drawn_mode(unit: Unit) -> Mode:
    return unit.mode if unit.drawn_mode is None else unit.drawn_mode


def _pictures(unit: Unit) -> Frames:
    return portraits(unit.motion, unit.num_videos, unit.seed)


def _first_frame_db(made: Sequence[Frames], unit: Unit) -> list[float]:
    errors = (video[0].astype(float) - picture for video, picture in zip(made, _pictures(unit), strict=True))
    return [decibels(error) for error in errors]
