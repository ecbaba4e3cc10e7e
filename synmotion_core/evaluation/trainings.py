"""Trainings of `bench run methods`, kept: an adapter's tensors in a file that is named by everything they depend on.

That is the backbone's weights, the settings, and the source below the evaluation's floor of the house (a contract of
pyproject.toml: it imports nothing above) with OF_TRAINING's files. So changes of the page, of a command or of a
metric train nothing anew, and nothing stale is ever read.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from synmotion_core.config import from_dict, to_dict
from synmotion_core.errors import AdapterError, ConfigError
from synmotion_core.evaluation.tasks import SHARES, Unit, prior_set, reference_set
from synmotion_core.interfaces import Backbone, Method, drawing_settings
from synmotion_core.methods import find_method
from synmotion_core.storage import read_tensors, write_tensors
from synmotion_core.training import trainer
from synmotion_core.training.settings import TrainConfig
from synmotion_core.training.trainer import TrainingSet
from synmotion_core.types import Progress

# what stands above or beside this floor, and pretraining, which nothing imports: never part of a result
NOT_OURS = (
    "__main__.py", "ui", "cli.py", "jobs.py", "arguments.py", "exchange.py", "measuring.py", "run", "job_folder.py",
    "command.py", "progress_line.py", "events.py", "sharing.py", "transfers.py", "datasets", "hosting",
    "hosting_options.py", "doctoring.py", "doctor_options.py", "slices.py", "puppets/pretrain",
)  # fmt: skip
OF_TRAINING = ("footage.py", "tasks.py", "trainings.py")
_AFTER_TRAINING = ("num_videos", "num_common", "drawn_mode", "sampling", "metrics", "after", "subjects")


def source_digest(root: Path, evaluation: tuple[str, ...] | None = None) -> str:
    """SHA-256 over the source that a result comes from. evaluation: which of its own files count, None for all."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if any(name == part or name.startswith(f"{part}/") for part in NOT_OURS):
            continue
        own = name.removeprefix("evaluation/")
        if own != name and evaluation is not None and own not in evaluation:
            continue
        digest.update(name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


@cache
def _version() -> str:
    return source_digest(Path(__file__).resolve().parent.parent, OF_TRAINING)


def file_name(unit: Unit, *depends_on: Any) -> str:
    """A name, without an ending, that says what it is of and changes with everything it depends on (JSON values)."""
    words = json.dumps(depends_on, sort_keys=True)
    return f"{unit.method}-{unit.motion}-{unit.seed}-{hashlib.sha256(words.encode()).hexdigest()[:20]}"


def adapted(backbone: Backbone, unit: Unit, method: Method, folder: Path) -> float:
    """The method as the unit trains it, from the folder where it is there; the seconds that it took."""
    path = trained_path(backbone, unit, folder)
    wanted = _at(path, unit.after)
    if not wanted.exists():
        _train(backbone, unit, method, folder, path)
    return _take_up(method, wanted)


def _at(path: Path, share: float) -> Path:
    return path if share == 1 else path.with_suffix(f".{round(100 * share)}.safetensors")


def trained_path(backbone: Backbone, unit: Unit, folder: Path) -> Path:
    """Where a training is kept. Units share one that differ only in what no training sees. Beside it lie the adapters
    after the other SHARES of its steps."""
    values = {key: value for key, value in to_dict(unit).items() if key not in _AFTER_TRAINING}
    open_ones = drawing_settings(find_method(unit.method))
    values["config"] = {key: value for key, value in to_dict(unit.method_config).items() if key not in open_ones}
    name = file_name(unit, backbone.fingerprint, _version(), values, unit.material())
    return folder / "trained" / f"{name}.safetensors"


def _train(backbone: Backbone, unit: Unit, method: Method, root: Path, path: Path) -> None:
    """The adapter's tensors go to `path`, with the seconds that it took, and those after SHARES of its steps beside."""
    clips = [replace(clip, prompt=unit.reads(clip.prompt)) for clip in unit.clips()]
    data: dict[Any, TrainingSet] = {"reference": reference_set(backbone, clips, root, unit.mode)}
    if find_method(unit.method).draws_priors(unit.method_config):
        data["prior"] = prior_set(backbone, root, unit.prior, unit.mode)
    backbone.release_encoders()  # all that will be read is in the sets
    quiet = {"save_every": 0, "sample_every": 0, "score_every": 0}
    own = from_dict(TrainConfig, {**to_dict(unit.train), "seed": unit.seed, **quiet})
    marks = {share: max(1, round(share * own.num_steps)) for share in SHARES[:-1]}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for event in trainer.train(
            backbone=backbone,
            method=method,
            data=data,
            config=own,
            folder=Path(folder),
            settings="bench",
            cancel=threading.Event(),
        ):
            for share in [s for s, step in marks.items() if isinstance(event, Progress) and event.step == step]:
                _write(_at(path, share), method, began)
    _write(path, method, began)


def _write(path: Path, method: Method, began: float) -> None:
    write_tensors(path, method.state_dict(), {"seconds": repr(time.perf_counter() - began)})


def _take_up(method: Method, path: Path) -> float:
    """Load what `_train` wrote; the seconds it took."""
    try:
        tensors, metadata = read_tensors(path)
        method.load_state_dict(tensors)
        return float(metadata["seconds"])
    except (AdapterError, KeyError, ValueError) as error:
        raise ConfigError(f"the adapter {path} cannot be read ({error}): delete it, and it is trained anew") from error
