"""Units of work of `bench run methods`: one training and its videos, judged; in parallel, and kept when they are done.

A unit is (method and its settings, motion, seed). What came out is a small JSON file, named by everything it depends
on: the weights of backbone, judge and metrics, the settings, and the source of this floor and those below. So a run
that was stopped goes on with the units that are missing; one that lacks a metric's weights is not kept, only its
adapter and videos. Adapters (trainings.py) and videos (drawings.py) are kept as well; what is judged is the video's
file, so that anybody can look at what a number is about.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import torch

from synmotion_core.backbones import load_backbone
from synmotion_core.clips import video
from synmotion_core.clips.frames import contact_sheet, png
from synmotion_core.config import to_dict
from synmotion_core.errors import ConfigError
from synmotion_core.evaluation.drawings import drawn
from synmotion_core.evaluation.metrics import COLUMNS, Asked, Shot, score
from synmotion_core.evaluation.metrics.extractors import identity
from synmotion_core.evaluation.results import Outcome
from synmotion_core.evaluation.tasks import Unit, common_targets, prior_set
from synmotion_core.evaluation.trainings import file_name, source_digest, trained_path
from synmotion_core.interfaces import Backbone
from synmotion_core.methods import find_method
from synmotion_core.puppets.judge import FOLDER as JUDGE
from synmotion_core.storage import replacing
from synmotion_core.types import Prompt


def measure(
    units: Sequence[Unit], folder: Path, *, workers: int = 1, sheets: Sequence[Path | None] | None = None
) -> Iterator[tuple[Unit, Outcome]]:
    """Each unit, all of one backbone, with its outcome, in the order in which they are done; those found in `folder`
    come first. The very objects that were given come back.

    folder: encodings, priors and outcomes. workers: processes, which share the machine's cores; units of one training
    are one's. sheets: of each unit the folder for its contact sheet, where it is measured now.
    """
    missing: dict[Path, list[tuple[Unit, Path | None]]] = {}  # by the training
    for unit, sheet in zip(units, sheets or [None] * len(units), strict=True):
        path = _path(unit, folder)
        if path.exists():
            yield unit, _outcome(path)
        else:
            missing.setdefault(trained_path(_loaded(unit.backbone), unit, folder), []).append((unit, sheet))
    if workers == 1 or len(missing) < 2:
        order = {id(unit): index for index, unit in enumerate(units)}
        for unit, sheet in sorted(
            (one for some in missing.values() for one in some), key=lambda one: order[id(one[0])]
        ):
            yield unit, _work(unit, folder, sheet)
        return
    asked = (unit for some in missing.values() for unit, _ in some)
    first = next((unit for unit in asked if find_method(unit.method).draws_priors(unit.method_config)), None)
    if first is not None:
        prior_set(_loaded(first.backbone), folder, first.prior)  # once, on all cores, before the workers want them
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(missing)), context, _start_worker, (workers,)) as pool:
        futures = {pool.submit(_work_all, some, folder): [unit for unit, _ in some] for some in missing.values()}
        try:
            for future in as_completed(futures):
                yield from zip(futures[future], future.result(), strict=True)
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
def _loaded(name: str) -> Backbone:
    return load_backbone(name)


@cache
def source_version() -> str:
    """Of the source and the judge that a figure comes from; changes of the page or of a command leave it as it is."""
    judge = hashlib.sha256((JUDGE / "model.safetensors").read_bytes()).hexdigest()
    return source_digest(Path(__file__).resolve().parent.parent) + judge


def measured_with(backbone: str) -> dict[str, str]:
    """The source, the judge and the backbone's weights that figures come from, a few digits of each."""
    digest, judge = source_version()[:64], source_version()[64:]
    return {"source": digest[:12], "judge": judge[:12], "weights": _loaded(backbone).fingerprint[:12]}


def _path(unit: Unit, folder: Path) -> Path:
    fingerprint = _loaded(unit.backbone).fingerprint
    depends_on = fingerprint, source_version(), to_dict(unit), unit.material(), identity(unit.metrics)
    return folder / "units" / f"{file_name(unit, *depends_on)}.json"


def _work_all(units: Sequence[tuple[Unit, Path | None]], folder: Path) -> list[Outcome]:
    return [_work(unit, folder, sheet) for unit, sheet in units]


def _work(unit: Unit, folder: Path, sheets: Path | None) -> Outcome:
    backbone = _loaded(unit.backbone)
    files, seconds = drawn(backbone, unit, folder)
    asked = _asked(unit, files)
    scores = score(unit.metrics, asked)
    outcome = Outcome(
        values=scores.values,
        missing=scores.missing,
        num_videos=unit.num_videos,
        num_common=unit.num_common,
        seconds=seconds,
        prompts=[shot.prompt.text for shot in (*asked.shots, *asked.known)],
        videos=[file.relative_to(folder).as_posix() for file in files],
    )
    if sheets is not None:
        labels = [f"{_said(scores.values, i)}\n{shot.prompt.text}" for i, shot in enumerate(asked.shots)]
        with replacing(sheets / f"{unit.method}-{unit.motion}-{unit.seed}.png") as partial:
            partial.write_bytes(png(contact_sheet([shot.frames for shot in asked.shots], labels)))
    if not scores.missing:
        with replacing(_path(unit, folder)) as partial:
            partial.write_text(json.dumps(asdict(outcome)))
    return outcome


def _asked(unit: Unit, files: Sequence[Path]) -> Asked:
    """What the files show, as players see it, and what was asked of each."""
    shots = [
        _shot(unit, file, one.prompt, unit.motion, species=one.species, colour=one.colour, picture=one.picture)
        for file, one in zip(files, unit.wanted(), strict=False)
    ]
    known = common_targets(unit.num_common, unit.seed)
    return Asked(
        motion=unit.motion,
        shots=tuple(shots),
        known=tuple(_shot(unit, file, *one) for file, one in zip(files[len(shots) :], known, strict=True)),
        references=tuple(
            Shot(frames=clip.frames, fps=clip.fps, prompt=clip.prompt, motion=unit.motion) for clip in unit.clips()
        ),
    )


def _shot(unit: Unit, file: Path, prompt: Prompt, motion: str, **of_the_puppet: Any) -> Shot:
    return Shot(frames=video.read(file)[0], fps=unit.fps, prompt=prompt, motion=motion, **of_the_puppet)


def _said(values: Mapping[str, Sequence[float]], index: int) -> str:
    """What the judges of a video say of it, for its place on a contact sheet."""
    found = [COLUMNS[name] for name in values if COLUMNS[name].rate and COLUMNS[name].per == "video"]
    return ", ".join(column.title for column in found if values[column.name][index]) or "none of what was asked for"
