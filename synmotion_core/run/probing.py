"""How long a step of a training takes, from a few real ones."""

from __future__ import annotations

import dataclasses
import tempfile
import threading
from collections.abc import Generator
from functools import partial
from pathlib import Path

from synmotion_core.config import TrainRun
from synmotion_core.errors import Cancelled
from synmotion_core.interfaces import reworded
from synmotion_core.planning.work import look_up
from synmotion_core.run import pool
from synmotion_core.run.inputs import load_clips
from synmotion_core.types import Event, Progress, Started, Stopped

PROBE_STEPS = 8


def probe(config: TrainRun, *, cache: Path, cancel: threading.Event) -> Generator[Event, None, float | None]:
    """A few real steps of a training, of which nothing is kept but the clips' encodings; returns seconds a step.

    Each kind of step counts as often as the whole training would take it. Steps on subject priors are timed on the
    clips, which are as large, so that no prior is drawn. None when cancelled.
    """
    from synmotion_core import material, pace
    from synmotion_core.training import trainer

    named = look_up(config)
    clips, _ = load_clips(config, named.spec, named.shape)
    try:
        yield from pool.fetch(config.backbone, config.precision, cancel)
        backbone = pool.borrow_backbone(config.backbone, config.precision)
        words = partial(reworded, named.entry, named.method_config)
        worded = [dataclasses.replace(clip, prompt=words(clip.prompt)) for clip in clips]
        data = yield from material.encode_clips(backbone, worded, config.mode, cache, cancel)
        reading = material.read_texts(backbone, [worded[0].prompt], None, cache)
    except Cancelled:
        yield Stopped(step=0)
        return None
    method = named.entry.attach(reading, named.method_config, worded[0].prompt, len(clips))
    backbone.release_encoders()
    phases = [method.phase(config.train.seed, step).name for step in range(config.train.num_steps)]
    shares = {name: phases.count(name) / len(phases) for name in phases}
    few = dataclasses.replace(
        config.train,
        num_steps=PROBE_STEPS,
        save_every=0,
        sample_every=0,
        score_every=0,
        sample_subjects=(),
        sample_images=(),
    )
    steps: list[tuple[str | None, float]] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            for event in trainer.train(
                backbone=backbone,
                method=method,
                data={"reference": data, "prior": data},
                config=few,
                folder=Path(folder),
                settings="probe",
                cancel=cancel,
            ):
                if isinstance(event, (Started, Progress, Stopped)):
                    yield event
                if isinstance(event, Stopped):
                    return None
                if isinstance(event, Progress) and event.seconds is not None:
                    steps.append((event.phase, event.seconds))
    finally:
        method.detach()
    return pace.typical(steps[1:], shares)  # the first one also sets things up
