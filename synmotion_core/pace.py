"""How long a training step took on this machine, remembered from one training to the plan of the next.

    <root>/pace.json    {"<backbone>|<method>|<batch size>|<precision>": seconds a step}; the key goes on with how the
                        weights are held where they are not held plainly

Only a measurement counts: where there is none, a plan says that the time is not known.
"""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path

from synmotion_core.config import TrainRun, to_dict
from synmotion_core.errors import StorageError
from synmotion_core.precision import PLAIN
from synmotion_core.storage import replacing
from synmotion_core.workspace import Workspace

ENOUGH_STEPS = 5  # fewer say little
log = logging.getLogger(__name__)


def recall(workspace: Workspace, run: TrainRun) -> float | None:
    """Seconds a step of the last training with the same backbone, method, batch size and precision; None when
    unknown."""
    return _read(workspace).get(_key(run))


def remember(workspace: Workspace, run: TrainRun, seconds_per_step: float) -> None:
    """Note a measurement. A disk that does not take it is logged: no training fails for this."""
    try:
        with replacing(_path(workspace)) as temporary:
            values = _read(workspace) | {_key(run): round(seconds_per_step, 5)}
            temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="ascii")
    except (OSError, StorageError) as error:
        log.warning("the pace of this training was not noted: %s", error)


def _read(workspace: Workspace) -> dict[str, float]:
    try:
        values = json.loads(_path(workspace).read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        log.warning("%s cannot be read and is made anew: %s", _path(workspace), error)
        return {}
    found = values if isinstance(values, dict) else {}
    return {k: float(v) for k, v in found.items() if type(v) in (int, float) and math.isfinite(v) and v > 0}


def _path(workspace: Workspace) -> Path:
    return workspace.root / "pace.json"


def _key(run: TrainRun) -> str:
    held = "" if run.precision == PLAIN else f"|{json.dumps(to_dict(run.precision))}"
    return f"{run.backbone}|{run.method}|{run.train.batch_size}|{run.train.mixed_precision}{held}"
