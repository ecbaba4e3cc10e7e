"""Which score a training's checkpoints get, and on which prompts.

    judge      2 m s / (m + s), 0 where both are 0; of equal ones the smaller error of joints is better
    fidelity   mean over the videos of fidelity - fidelity_floor

m and s are the shares of the videos in which the puppets' judge names the motion and the species that were asked for
(evaluation/metrics). It is taken where the backbone draws puppets, videos are of the judge's shape, it names one and
the same motion in more than half of the clips, and each prompt names one species. Everywhere else it is motion
fidelity (metrics/fidelity.py), which reads no weights; how much moves (flow) is shown beside it.

What they do not say. Eight videos have steps of an eighth: two checkpoints that differ by one video are alike. The
judge looks at motion and species alone. Fidelity compares directions of points with those in the clips: it knows no
subject, so it rewards a copy of the clips' person as well as what was asked for, and no size, so a small swaying in
the right rhythm counts. It separates large motions, not small ones: of true renders by unseen species a squat comes to
0.2 to 0.5 above the floor where praying was asked for, and a true salute may be near its floor (ranges are in
metrics/fidelity.py); standing to -0.20 to 0.31. Where no track can be followed both are 0, and so is the score: such a
checkpoint is no better than chance, and ahead of those below it. Look at flow and at the samples. Both rank the steps
of one training; between trainings, `bench run` compares.

Prompts: the run's sample_subjects in turn, else the backbone's held_out_subjects but those whose noun is in the clips'
subjects; the motion is the clips'. Video i has the seed (the run's + i), so each scoring draws from the same noise.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from synmotion_core.config import TrainRun, motion_name
from synmotion_core.errors import ConfigError
from synmotion_core.interfaces import BackboneSpec
from synmotion_core.types import Clip, Frames, Prompt, Scored, VideoShape

METRICS = {"judge": ("judge", "trajectory"), "fidelity": ("flow", "fidelity")}
SHOWN = {"judge": ("motion", "species", "error"), "fidelity": ("fidelity", "fidelity_floor", "flow")}
TITLES = {"judge": "the puppets' judge", "fidelity": "motion fidelity above its floor"}
LEAST_FRAMES = 3  # in which flow can be seen to go on


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """A rule and what it is asked of: prompts and seeds, a video each. species is of each prompt, motion the judge's
    name for the clips', both empty for fidelity. about: a sentence for people."""

    name: Literal["judge", "fidelity"]
    prompts: tuple[Prompt, ...]
    seeds: tuple[int, ...]
    clips: tuple[Clip, ...]
    fps: float
    motion: str = ""
    species: tuple[str, ...] = ()
    about: str = ""

    def measure(self, videos: Sequence[Frames]) -> dict[str, float]:
        """Means over the videos, by column; one a prompt, uint8 [F, H, W, 3]."""
        from synmotion_core.evaluation.metrics import Asked, Shot, score

        species = self.species or ("",) * len(self.prompts)
        shots = tuple(
            Shot(frames=frames, fps=self.fps, prompt=prompt, motion=self.motion, species=name)
            for frames, prompt, name in zip(videos, self.prompts, species, strict=True)
        )
        clips = tuple(Shot(frames=c.frames, fps=c.fps, prompt=c.prompt, motion=self.motion) for c in self.clips)
        found = score(METRICS[self.name], Asked(motion=self.motion, shots=shots, references=clips)).values
        return {column: sum(found[column]) / len(found[column]) for column in SHOWN[self.name]}


def score_of(by: str, values: Mapping[str, float]) -> float:
    """The rule's score of what was measured.

    >>> score_of("judge", {"motion": 0.5, "species": 1.0, "error": 0.1})
    0.6666666666666666
    """
    if by == "fidelity":
        return values["fidelity"] - values["fidelity_floor"]
    both = values["motion"] + values["species"]
    return 2 * values["motion"] * values["species"] / both if both else 0.0


def rank(scored: Scored) -> tuple[float, float]:
    """What is the larger, the better: the score, then what breaks a tie."""
    return scored.score, -scored.values["error"] if scored.by == "judge" else 0.0


def choose(config: TrainRun, spec: BackboneSpec, shape: VideoShape, clips: Sequence[Clip]) -> Yardstick:
    """The rule for a run, before any of the backbone's weights is read. Raises ConfigError where nothing can score."""
    if shape.num_frames < LEAST_FRAMES:
        raise ConfigError(
            f"a score needs videos of at least {LEAST_FRAMES} frames, got {shape.num_frames}: give more with "
            "num_frames, or score_every 0"
        )
    subjects = subjects_of(config, spec, [clip.prompt.subject for clip in clips])
    count = config.train.score_videos
    asked = [subjects[i % len(subjects)] for i in range(count)]
    prompts = tuple(Prompt(subject=subject, motion=clips[0].prompt.motion) for subject in asked)
    seeds = tuple((config.train.seed + i) % 2**63 for i in range(count))
    motion, species, why = _judged(spec, shape, clips, asked)
    name: Literal["judge", "fidelity"] = "fidelity" if why else "judge"
    of = f"“{motion_name(prompts[0].motion)}” in {count} videos of {', '.join(dict.fromkeys(asked))}"
    limits = f" ({why}; it can reward a copy of the clips' person)" if why else ""
    return Yardstick(
        name=name,
        prompts=prompts,
        seeds=seeds,
        clips=tuple(clips),
        fps=shape.fps,
        motion="" if why else motion,
        species=() if why else species,
        about=f"checkpoints are scored by {TITLES[name]}{limits}: {of}",
    )


def subjects_of(config: TrainRun, spec: BackboneSpec, reference: Sequence[str]) -> tuple[str, ...]:
    """Who is drawn; reference: the clips' subjects. Raises ConfigError where nobody is left."""
    if config.train.sample_subjects:
        return config.train.sample_subjects
    known = {word for subject in reference for word in _words(subject)}
    left = tuple(s for s in spec.options.get("held_out_subjects", ()) if _words(s)[-1] not in known)
    if not left:
        raise ConfigError(f"{spec.name} has no subjects of its own to score on: name some with train.sample_subjects")
    return left


def _judged(
    spec: BackboneSpec, shape: VideoShape, clips: Sequence[Clip], subjects: Sequence[str]
) -> tuple[str, tuple[str, ...], str]:
    """The clips' motion and the subjects' species as the judge names them, or why it cannot be asked."""
    if not spec.repo.startswith("assets:"):
        return "", (), "there is no judge of filmed motions"
    from synmotion_core.evaluation.metrics.verdicts import judge
    from synmotion_core.puppets.judge import OTHER

    own = judge().net.config.shape
    if own != (shape.num_frames, shape.height, shape.width):
        return "", (), f"the judge sees {own[0]} frames of {own[2]}x{own[1]} alone"
    species = []
    for subject in subjects:
        found = [word for word in _words(subject) if word in judge().species]
        if len(found) != 1:
            return "", (), f"“{subject}” names no species that the judge knows"
        species += found
    (motion, often), *_ = Counter(judge().judge([clip.frames for clip in clips]).motion).most_common(1)
    if motion == OTHER or 2 * often <= len(clips):
        return "", (), "the clips show no motion that the judge knows"
    return motion, tuple(species), ""


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def in_words(scored: Scored) -> str:
    """For a terminal and the page.

    >>> in_words(Scored(step=100, by="judge", score=0.5, best=True, values={"motion": 0.375}, seconds=9.0))
    'step 100: score 0.500, the best so far (rare motion 38 %; 9.0 s)'
    """
    best = ", the best so far" if scored.best else ""
    return f"step {scored.step}: score {scored.score:.3f}{best} ({made_of(scored)}; {scored.seconds:.1f} s)"


def made_of(scored: Scored) -> str:
    """What a score is made of: the columns' titles and values."""
    from synmotion_core.evaluation.metrics import COLUMNS

    parts = []
    for name, value in scored.values.items():
        column = COLUMNS.get(name)  # a log of another version may have others
        shown = f"{value:.0%}".replace("%", " %") if column is not None and column.rate else f"{value:.3g}"
        parts.append(f"{name if column is None else column.title} {shown}")
    return ", ".join(parts)
