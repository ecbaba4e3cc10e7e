"""Units of work of `bench run methods`: one training and its videos, judged; in parallel, and kept when they are done.

A unit is (method and its settings, motion, seed). What came out is a small JSON file, named by everything it depends
on: the weights of backbone and judge, the settings, and the source of this floor and those below. So a run that was
stopped goes on with the units that are missing. Adapters (trainings.py) and videos (drawings.py) are kept as well; what
is judged is the video's file, so that anybody can look at what a number is about.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import cache
from pathlib import Path

import torch

from synmotion_core.backbones import load_backbone
from synmotion_core.clips import video
from synmotion_core.clips.frames import contact_sheet, png
from synmotion_core.config import to_dict
from synmotion_core.errors import ConfigError
from synmotion_core.evaluation.drawings import drawn, pictures
from synmotion_core.evaluation.figures import decibels
from synmotion_core.evaluation.results import Outcome
from synmotion_core.evaluation.tasks import REFERENCE, Unit, common_targets, prior_set, targets
from synmotion_core.evaluation.trainings import file_name, source_digest
from synmotion_core.evaluation.trajectories import Trajectories
from synmotion_core.interfaces import Backbone
from synmotion_core.methods import find_method
from synmotion_core.puppets.judge import FOLDER as JUDGE
from synmotion_core.puppets.judge import Judge
from synmotion_core.storage import replacing
from synmotion_core.training.settings import PriorConfig
from synmotion_core.types import Frames


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
    if any(find_method(u.method).draws_priors(u.method_config) for u in missing):
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
    return load_backbone(name), _judge()


@cache
def _judge() -> Judge:
    return Judge.load()


@cache
def _trajectories() -> Trajectories:
    return Trajectories(_judge())


@cache
def _version() -> str:
    judge = hashlib.sha256((JUDGE / "model.safetensors").read_bytes()).hexdigest()
    return source_digest(Path(__file__).resolve().parent.parent) + judge


def _path(unit: Unit, folder: Path) -> Path:
    fingerprint = _loaded(unit.backbone)[0].fingerprint
    return folder / "units" / f"{file_name(unit, fingerprint, _version(), to_dict(unit))}.json"


def _work(unit: Unit, folder: Path, sheets: Path | None) -> Outcome:
    backbone, judge = _loaded(unit.backbone)
    files, seconds = drawn(backbone, unit, folder)
    made = [video.read(file)[0] for file in files[: unit.num_videos]]
    known = common_targets(unit.num_common, unit.seed)
    as_known = judge.judge([video.read(file)[0] for file in files[unit.num_videos :]])
    wanted = targets(unit.motion, unit.num_videos, unit.seed, described=unit.described)
    verdicts = judge.judge(made)
    fits = _trajectories().fit(made, [w[1] for w in wanted], unit.motion)
    outcome = Outcome(
        motion=[v == unit.motion for v in verdicts.motion],
        species=[v == w[1] for v, w in zip(verdicts.species, wanted, strict=True)],
        colour=[v == w[2] for v, w in zip(verdicts.colour, wanted, strict=True)],
        as_person=[v == REFERENCE for v in verdicts.species],
        error=[f.error for f in fits],
        amplitude=[f.amplitude for f in fits],
        seconds=seconds,
        first_frame_db=_first_frame_db(made, unit) if unit.draws_in == "i2v" else [],
        common=[seen == motion for seen, (_, motion) in zip(as_known.motion, known, strict=True)],
        prompts=[w[0].text for w in wanted] + [prompt.text for prompt, _ in known],
        videos=[file.relative_to(folder).as_posix() for file in files],
    )
    if sheets is not None:
        labels = [f"{m}, {s}\n{w[0].text}" for w, m, s in zip(wanted, verdicts.motion, verdicts.species, strict=True)]
        with replacing(sheets / f"{unit.method}-{unit.motion}-{unit.seed}.png") as partial:
            partial.write_bytes(png(contact_sheet(made, labels)))
    with replacing(_path(unit, folder)) as partial:
        partial.write_text(json.dumps(asdict(outcome)))
    return outcome


def _first_frame_db(made: Sequence[Frames], unit: Unit) -> list[float]:
    errors = (frames[0].astype(float) - picture for frames, picture in zip(made, pictures(unit), strict=True))
    return [decibels(error) for error in errors]
