"""From a config to events: loads what a run names, trains or generates, writes the results. The command line and the
jobs share it.

    train(TrainRun, folder)       clips -> doctor -> encodings -> priors -> method -> <folder>/<name>.safetensors
    generate(GenerateRun, folder) adapter -> method -> <folder>/*.mp4
    draw_priors(TrainRun)         the subject prior videos of a training alone
    probe(TrainRun)               seconds a step, from a few real ones
    plan(TrainRun)                what train will take, before anything is loaded (planning/report.py)

All but the last are generators of events; `cancel` is looked at between units of work. Input is checked before any
weight is read. The backbone loaded last is kept, since loading is what takes long; one device, so one run at a time.
"""

from synmotion_core.planning.report import Plan, plan
from synmotion_core.run.drawing import generate
from synmotion_core.run.pool import borrow_backbone
from synmotion_core.run.probing import PROBE_STEPS, probe
from synmotion_core.run.training import draw_priors, train

__all__ = ["PROBE_STEPS", "Plan", "borrow_backbone", "draw_priors", "generate", "plan", "probe", "train"]
