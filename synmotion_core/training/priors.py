"""Subject Prior Videos: the frozen base draws other subjects doing common motions, so that learning a motion does not
cost them.

    (SynMotion, section 3.3)  subjects x common actions, "a zebra walks", synthesised once, then drawn with
    probability 1 - alpha

The paper publishes no counts. Ours: every subject with every motion `per_pair` times, in an order fixed by the seed,
at most `max_videos`;
where the backbone knows colours, they rotate. Each video is cached by (backbone, how its weights are held, prompt,
seed, sampler) as latents (what training reads) and as H.264 (what people look at), and shared between runs.

A video that a person leaves out (PriorConfig.left_out names its seed) makes room for another of the same prompt, drawn
with the first of

    seed + 50021, seed + 2 * 50021, ...

that is not left out itself. A plan's own seeds lie side by side, fewer than 50021 of them, so the rows of two prompts
never meet: leaving one out changes no other video and no other key in the cache.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from synmotion_core.errors import AdapterError, Cancelled, ConfigError
from synmotion_core.interfaces import Backbone
from synmotion_core.storage import read_tensors, write_tensors
from synmotion_core.training.cache import content_key
from synmotion_core.training.settings import PriorConfig
from synmotion_core.types import Event, Progress, Prompt, Sampled

SampleLatents = Callable[[Sequence[Prompt], Sequence[int]], Tensor]
WriteVideo = Callable[[Path, Tensor], None]
ANEW = 50_021  # above PriorConfig's most videos, so that no new seed is another video's


def plan_priors(backbone_options: dict[str, tuple[str, ...]], config: PriorConfig) -> list[tuple[Prompt, int]]:
    """(prompt, seed) of every prior video, in order. Raises ConfigError when nobody names subjects and motions, and for
    a seed in left_out that no video of this plan has."""
    rows = _rows(backbone_options, config)
    plan = [(prompt, seeds[-1]) for prompt, seeds in rows]
    unknown = set(config.left_out).difference(*(seeds[:-1] for _, seeds in rows))
    if unknown:
        wrong = min(unknown)
        near = sorted(plan, key=lambda one: abs(one[1] - wrong))[:3]
        words = ", ".join(f"{seed} ({prompt.text})" for prompt, seed in sorted(near, key=lambda one: one[1]))
        raise ConfigError(f"left_out names the seed {wrong}, which is no prior video's here: the nearest are {words}")
    return plan


def left_out_prompts(backbone_options: dict[str, tuple[str, ...]], config: PriorConfig) -> dict[int, Prompt]:
    """Seed and prompt of what left_out takes away from this plan, in its order; seeds of no video are not among them.

    Raises ConfigError when nobody names subjects and motions.
    """
    return {seed: prompt for prompt, seeds in _rows(backbone_options, config) for seed in seeds[:-1]}


def drawn_before(seed: int, config: PriorConfig) -> list[int]:
    """The seeds that must be left out for this one to be drawn, the plan's own first.

    >>> drawn_before(3, PriorConfig()), drawn_before(3 + 2 * ANEW, PriorConfig())
    ([], [3, 50024])
    """
    return list(range(config.seed * 100_003 + place_of(seed, config), seed, ANEW))


def place_of(seed: int, config: PriorConfig) -> int:
    """Where in the plan the video of a seed is, its own or one in its place."""
    return (seed - config.seed * 100_003) % ANEW


def _rows(options: dict[str, tuple[str, ...]], config: PriorConfig) -> list[tuple[Prompt, list[int]]]:
    """Each video's prompt with its seeds: those that are left out, then the one that is drawn."""
    subjects = config.subjects or _coloured(options, config.seed)
    motions = config.motions or tuple(options.get("prior_motions", ()))
    if not subjects or not motions:
        raise ConfigError("this backbone has no prior subjects or motions of its own: name some in the prior settings")
    pairs = list(itertools.product(subjects, motions))
    random.Random(config.seed).shuffle(pairs)
    over_again = itertools.chain.from_iterable(itertools.repeat(pairs, config.per_pair))
    chosen = itertools.islice(over_again, config.max_videos)
    rows, left = [], frozenset(config.left_out)
    for i, (subject, motion) in enumerate(chosen):
        seeds = [config.seed * 100_003 + i]
        while seeds[-1] in left:
            seeds.append(seeds[-1] + ANEW)
        rows.append((Prompt(subject=subject, motion=motion), seeds))
    return rows


def _coloured(options: dict[str, tuple[str, ...]], seed: int) -> tuple[str, ...]:
    """ "a red cat" and so on: each subject in two of the backbone's colours."""
    nouns, colours = tuple(options.get("prior_subjects", ())), tuple(options.get("prior_colours", ()))
    if not colours:
        return tuple(f"a {n}" for n in nouns)
    picks = []
    for i, noun in enumerate(nouns):
        for j in (0, 1):
            colour = colours[(seed + 3 * i + 4 * j) % len(colours)]
            picks.append(f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {noun}")
    return tuple(picks)


def draw_priors(
    backbone: Backbone,
    plan: Sequence[tuple[Prompt, int]],
    root: Path,
    sampler_key: object,
    sample: SampleLatents,
    write: WriteVideo,
    *,
    cancel: threading.Event,
    batch_size: int = 8,
) -> Iterator[Event]:
    """Make what is missing. Yields a Sampled event for each that can be looked at, those of the cache first, and
    Progress for each that was drawn. Read the latents with `read_prior` afterwards."""
    missing = []
    for prompt, seed in plan:
        path = prior_path(backbone, prompt, seed, root, sampler_key)
        if not path.exists():
            missing.append((prompt, seed))
        elif path.with_suffix(".mp4").exists():
            yield Sampled(path=path.with_suffix(".mp4"), prompt=prompt, seed=seed, adapted=False)
    done = len(plan) - len(missing)
    for start in range(0, len(missing), batch_size):
        if cancel.is_set():
            raise Cancelled("stopped by request")
        some = missing[start : start + batch_size]
        latents = sample([p for p, _ in some], [s for _, s in some]).float().cpu()
        for (prompt, seed), row in zip(some, latents, strict=True):
            path = prior_path(backbone, prompt, seed, root, sampler_key)
            write(path.with_suffix(".mp4"), row[None])
            write_tensors(path, {"latents": row[None]}, {"prompt": prompt.text, "seed": str(seed)})
            done += 1
            yield Sampled(path=path.with_suffix(".mp4"), prompt=prompt, seed=seed, adapted=False)
            yield Progress(stage="prior", step=done, total=len(plan), note=prompt.text)


def prior_path(backbone: Backbone, prompt: Prompt, seed: int, root: Path, sampler_key: object) -> Path:
    """Where a prior's latents live. Those that quantised weights have drawn are others than those of the whole ones."""
    held = [] if backbone.weights == "bf16" else [backbone.weights]
    key = content_key(backbone.fingerprint, prompt.text, seed, sampler_key, *held)
    return root / "priors" / f"{key}.safetensors"


def read_prior(path: Path) -> Tensor:
    """[1, C, f, h, w]. A damaged file is removed, so that the next run draws it anew, and AdapterError says so."""
    try:
        return read_tensors(path)[0]["latents"]
    except (AdapterError, KeyError) as error:
        path.unlink(missing_ok=True)
        raise AdapterError(
            f"a cached subject prior was damaged and has been removed: start again to redraw it ({error})"
        ) from error
