"""Which subject prior videos a training reads: the plan, what is left out of it, what is drawn and what is reused."""

from __future__ import annotations

import hashlib
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synmotion_core.backbones import find_spec, load_backbone
from synmotion_core.config import from_dict, to_dict
from synmotion_core.errors import ConfigError
from synmotion_core.precision import Precision
from synmotion_core.training import priors
from synmotion_core.training.cache import content_key
from synmotion_core.training.priors import left_out_prompts, plan_priors
from synmotion_core.training.settings import PriorConfig
from synmotion_core.types import Progress, Prompt, Sampled

OPTIONS = dict(find_spec("puppet-hunyuan").options)
configs = st.builds(
    PriorConfig,
    subjects=st.just(()) | st.just(("a cat", "a bear")),
    motions=st.just(()) | st.just(("walks", "sits", "jumps")),
    per_pair=st.integers(1, 3),
    max_videos=st.integers(1, 60),
    seed=st.integers(0, 10**6),
)


@st.composite
def with_some_left_out(draw: st.DrawFn) -> tuple[PriorConfig, PriorConfig]:
    """A plan, and the same with videos left out one after the other: some of those are replacements themselves."""
    plain = draw(configs)
    changed = plain
    for _ in range(draw(st.integers(1, 12))):
        seeds = [seed for _, seed in plan_priors(OPTIONS, changed)]
        one = seeds[draw(st.integers(0, min(3, len(seeds) - 1)))]
        changed = from_dict(PriorConfig, {**to_dict(changed), "left_out": [one, *changed.left_out]})
    return plain, changed


def test_the_plan_of_before_stays_bit_for_bit() -> None:
    """The caches and checkpoints that people have were made by these."""
    plan = plan_priors(OPTIONS, PriorConfig())
    assert [seed for _, seed in plan] == list(range(48))
    assert [prompt.text for prompt, _ in plan[:2]] == ["a yellow elephant flaps", "a purple elephant flaps"]
    words = repr([(prompt.text, seed) for prompt, seed in plan])
    assert hashlib.sha256(words.encode()).hexdigest().startswith("0893ab8c322b4ba4")
    assert [seed for _, seed in plan_priors(OPTIONS, PriorConfig(seed=7, max_videos=3))] == [700021, 700022, 700023]
    assert from_dict(PriorConfig, {"seed": 7}).left_out == (), "a saved config of before"


def test_a_plan_of_few_videos_takes_no_memory_for_the_others() -> None:
    subjects, motions = (tuple(f"{word} {k}" for k in range(20)) for word in ("cat", "moves"))
    tracemalloc.start()
    plan = plan_priors({}, PriorConfig(subjects=subjects, motions=motions, per_pair=10_000, max_videos=1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(plan) == 1000
    assert plan[400][0] == plan[0][0], "the second time round, in the same order"
    assert peak < 16 << 20, f"{peak} bytes: four million are named, a thousand are drawn"


@given(with_some_left_out())
def test_only_what_is_left_out_makes_room(both: tuple[PriorConfig, PriorConfig]) -> None:
    plain, changed = both
    before, after = plan_priors(OPTIONS, plain), plan_priors(OPTIONS, changed)
    assert [prompt for prompt, _ in after] == [prompt for prompt, _ in before], "another of the same prompt"
    seeds = [seed for _, seed in after]
    assert len(set(seeds)) == len(seeds)
    assert not set(seeds) & set(changed.left_out)
    kept = [one for one in before if one[1] not in changed.left_out]
    assert [one for one in after if one in before] == kept, "nothing else is drawn anew"
    assert set(left_out_prompts(OPTIONS, changed)) == set(changed.left_out)
    again = from_dict(PriorConfig, {**to_dict(changed), "left_out": sorted(changed.left_out)})
    assert plan_priors(OPTIONS, again) == after, "in any order"


def test_no_new_seed_can_be_another_video_of_the_largest_plan() -> None:
    most = PriorConfig(per_pair=10**4, max_videos=10_000)
    own = [seed for _, seed in plan_priors(OPTIONS, most)]
    all_anew = PriorConfig(per_pair=10**4, max_videos=10_000, left_out=tuple(own))
    second = [seed for _, seed in plan_priors(OPTIONS, all_anew)]
    assert len(own) == len(second) == 10_000
    assert not set(own) & set(second)
    assert max(own) - min(own) < priors.ANEW


@pytest.mark.parametrize(
    ("left_out", "says"),
    [
        ((4,), "left_out names the seed 4, which is no prior video's here: the nearest are 1 (a"),
        ((priors.ANEW,), f"names the seed {priors.ANEW}, which is no prior video's"),  # 0 itself is not left out
        ((-1,), "names the seed -1,"),
        ((0, 0), "left_out names each seed once, got 0 twice"),
    ],
)
def test_a_seed_of_no_video_is_refused(left_out: tuple[int, ...], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        plan_priors(OPTIONS, PriorConfig(max_videos=4, left_out=left_out))
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (3, "PriorConfig.left_out must be a list, got 3"),
        (["3"], "PriorConfig.left_out[0] must be int, got '3'"),
        ([True], "PriorConfig.left_out[0] must be int, got True"),
    ],
)
def test_wrong_types_are_refused(given: Any, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_dict(PriorConfig, {"left_out": given})
    assert says in str(refused.value)


class _Backbone:
    fingerprint = "one"
    weights = "bf16"


def _draw(plan: list[tuple[Prompt, int]], root: Path) -> tuple[list[int], list[int], int]:
    """(seeds that were drawn, seeds that can be looked at, Progress events)."""
    drawn: list[int] = []

    def sample(prompts: Any, seeds: Any) -> torch.Tensor:
        drawn.extend(seeds)
        return torch.tensor(list(seeds), dtype=torch.float32).view(-1, 1, 1, 1, 1)

    def write(path: Path, latents: torch.Tensor) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"video")

    backbone: Any = _Backbone()
    stop = threading.Event()
    events: Iterator[Any] = priors.draw_priors(backbone, plan, root, "s", sample, write, cancel=stop, batch_size=2)
    found = list(events)
    shown = [event.seed for event in found if isinstance(event, Sampled)]
    return drawn, shown, sum(isinstance(event, Progress) for event in found)


def test_only_replacements_are_drawn_and_all_are_shown(tmp_path: Path) -> None:
    plan = plan_priors(OPTIONS, PriorConfig(max_videos=5))
    assert _draw(plan, tmp_path) == ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4], 5)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    changed = plan_priors(OPTIONS, PriorConfig(max_videos=5, left_out=(1, 4)))
    new = [1 + priors.ANEW, 4 + priors.ANEW]
    assert _draw(changed, tmp_path) == (new, [0, 2, 3, *new], 2)
    assert {path: path.stat().st_mtime_ns for path in files} == files, (
        "the others, and those left out, stay as they are"
    )
    assert _draw(changed, tmp_path) == ([], [0, 1 + priors.ANEW, 2, 3, 4 + priors.ANEW], 0)
    assert _draw(plan, tmp_path)[0] == [], "what was left out is there again when it is taken back"
    backbone: Any = _Backbone()
    for prompt, seed in changed:
        path = priors.prior_path(backbone, prompt, seed, tmp_path, "s")
        assert priors.read_prior(path).item() == seed


def test_quantised_weights_draw_priors_of_their_own(tmp_path: Path) -> None:
    """Files of before stay the whole weights' own."""
    prompt = Prompt(subject="a cat", motion="walks")
    paths = {}
    choices: tuple[Literal["bf16", "fp8"], ...] = ("bf16", "fp8")
    for weights in choices:
        backbone = load_backbone("puppet-hunyuan", device="cpu", precision=Precision(weights=weights))
        paths[weights] = priors.prior_path(backbone, prompt, 3, tmp_path, "s")
        key = content_key(backbone.fingerprint, prompt.text, 3, "s")
        assert (paths[weights].stem == key) == (weights == "bf16")
    assert paths["bf16"] != paths["fp8"]
