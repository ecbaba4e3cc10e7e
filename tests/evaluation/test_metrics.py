"""Metrics on inputs whose score is known: identical, still, reversed, shifted, unrelated, noise."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synmotion_core.clips import video
from synmotion_core.errors import ConfigError
from synmotion_core.evaluation import metrics
from synmotion_core.evaluation.metrics import (
    COLUMNS,
    DEFAULT_METRICS,
    METRICS,
    Asked,
    Shot,
    fidelity,
    find_metric,
    flow,
    score,
)
from synmotion_core.puppets.captions import subject_phrase
from synmotion_core.puppets.kinematics import FPS
from synmotion_core.puppets.motions import MOTIONS
from synmotion_core.puppets.stage import Scene, render
from synmotion_core.run.yardstick import score_of
from synmotion_core.types import Prompt

SEEN = ("squat", "salute", "spin", "dance", "clap")


def shot(species: str, motion: str, seed: int, **more: Any) -> Shot:
    scene = Scene(species=species, colour="blue", background="meadow", motion=motion, seed=seed)
    prompt = Prompt(subject=subject_phrase(species, "blue"), motion=MOTIONS[motion].phrase)
    own = {"frames": render(scene).frames, "fps": FPS, "prompt": prompt, "motion": motion}
    return Shot(**{**own, "species": species, "colour": "blue", **more})


def asked(shots: Sequence[Shot], **more: Any) -> Asked:
    return Asked(motion=shots[0].motion, shots=tuple(shots), **more)


def people(motion: str, count: int = 6) -> tuple[Shot, ...]:
    return tuple(shot("person", motion, 900 + i) for i in range(count))


def of(name: str, shots: Sequence[Shot], **more: Any) -> dict[str, list[float]]:
    return METRICS[name].score(asked(shots, **more))


def seen_as(one: Shot, frames: Any) -> Shot:
    return dataclasses.replace(one, frames=np.ascontiguousarray(frames))


def still(one: Shot) -> Shot:
    return seen_as(one, np.repeat(one.frames[:1], len(one.frames), axis=0))


def noise(one: Shot) -> Shot:
    return seen_as(one, np.random.default_rng(0).integers(0, 256, one.frames.shape, dtype=np.uint8))


def test_every_row_says_what_its_columns_mean() -> None:
    names = [column.name for row in METRICS.values() for column in row.columns]
    assert len(names) == len(set(names)) == len(COLUMNS)
    for row in METRICS.values():
        assert callable(importlib.import_module(f"{metrics.__name__}.{row.module}").score)
        for column in row.columns:
            assert column.title
            assert len(column.about) > 15
            assert "-" not in column.name, "figures' names join a column and a row by it"
            assert "." not in column.name
    with pytest.raises(ConfigError, match="there is no metric 'flo': did you mean 'flow'"):
        find_metric("flo")


@pytest.mark.parametrize("name", [name for name in DEFAULT_METRICS if not METRICS[name].puppets])
def test_a_score_is_the_same_twice_and_needs_no_ground_truth(name: str) -> None:
    made = [shot("rabbit", "dance", 3), shot("cat", "spin", 4)]
    shots = [dataclasses.replace(one, species="", colour="") for one in made]
    one, other = (of(name, shots, references=people("dance", 2)) for _ in range(2))
    assert one == other
    alone = [of(name, [own], references=people("dance", 2)) for own in shots]
    for key, values in one.items():
        if COLUMNS[key].per == "video":
            assert values == [value for own in alone for value in own[key]], "videos do not know of each other"


def test_what_a_module_returns_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def returns(values: Any) -> dict[str, list[float]]:
        monkeypatch.setattr(flow, "score", lambda asked: values)
        return of("flow", [shot("cat", "spin", 1)])

    for wrong, words in (
        ({"speed": [1.0]}, "flow has no column 'speed'"),
        ({"flow": [1.0, 2.0]}, "flow: 2 values for 1"),
        ({"flow": [float("nan")]}, "flow is not finite"),
    ):
        with pytest.raises(ValueError, match=words):
            returns(wrong)
    assert list(returns({"smoothness": [1.0], "flow": [0.5]})) == ["flow", "smoothness"], "in the registry's order"


def test_the_judge_and_the_joints_agree_with_the_truth_through_h264(tmp_path: Path) -> None:
    shots = []
    for index, (species, motion) in enumerate((s, m) for s in ("cat", "frog") for m in SEEN):
        one = shot(species, motion, 40 + index)
        video.write(tmp_path / f"{index}.mp4", one.frames, FPS)
        shots.append(seen_as(one, video.read(tmp_path / f"{index}.mp4")[0]))
    for one in shots:
        found = score(["judge", "trajectory"], asked([one], known=(shot("cat", "walk", 5),))).values
        assert found["motion"] == found["species"] == found["colour"] == found["common"] == [1.0], one.prompt.text
        assert found["as_person"] == [0.0]
        assert found["error"][0] < 0.06
        assert 0.7 < found["amplitude"][0] < 1.3
    wrong = dataclasses.replace(shots[0], motion="spin", species="rabbit", colour="red")
    found = score(["judge", "trajectory"], asked([wrong])).values
    assert found["motion"] == found["species"] == found["colour"] == [0.0]
    assert found["error"][0] > 0.07
    assert "common" not in found
    assert of("judge", [dataclasses.replace(shot("person", "squat", 4), species="cat")])["as_person"] == [1.0]


def test_a_first_picture_is_compared_where_there_is_one() -> None:
    one = shot("cat", "squat", 1)
    assert of("picture", [one]) == {}
    kept, other = dataclasses.replace(one, picture=one.frames[0]), dataclasses.replace(one, picture=one.frames[8])
    found = of("picture", [kept, other])["first_frame_db"]
    assert found[0] == 100.0
    assert found[1] < 30
    assert of("picture", [kept, one]) == {}, "a mean over some of them would say nothing"


def test_a_background_that_flickers_is_seen_and_a_puppet_is_not() -> None:
    one = shot("cat", "dance", 1)
    darker = one.frames.copy()
    darker[8:] = (darker[8:] * 0.9).astype(np.uint8)
    found = of("background", [one, still(one), seen_as(one, darker), noise(one)])["background_db"]
    assert found[0] == found[1] == 100.0
    assert 20 < found[2] < 35
    assert found[3] < 12
    picture = dataclasses.replace(one, picture=(one.frames[0] * 0.9).astype(np.uint8))
    assert of("background", [picture])["background_db"][0] < 35, "in I2V it is the picture's background"


def test_flow_is_measured_in_pictures_heights() -> None:
    rng = np.random.default_rng(0)
    wall = np.kron(rng.integers(60, 200, (60, 60, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    for size, step in ((64, 1), (128, 2), (192, 3)):
        frames = np.stack([wall[10 : 10 + size, 4 + step * i : 4 + step * i + size] for i in range(9)])
        one = dataclasses.replace(shot("cat", "squat", 1), frames=frames)
        found = of("flow", [one])
        assert found["flow"][0] == pytest.approx(100 / 64, rel=0.15), size
        assert found["dynamic"] == [0.0], "1/64 of the side a frame is 4 px of 256"
        thrice = of("flow", [seen_as(one, frames[::3])])
        assert thrice["flow"][0] == pytest.approx(300 / 64, rel=0.2)
        assert thrice["dynamic"] == [1.0]
        assert of("flow", [dataclasses.replace(one, fps=24.0)])["dynamic"] == [1.0], "frames at 8 a second"


def test_still_reversed_and_noise_for_flow() -> None:
    one = shot("rabbit", "spin", 2)
    found = of("flow", [one, still(one), seen_as(one, one.frames[::-1]), noise(one)])
    assert found["flow"][1] == 0
    assert found["dynamic"] == [1, 0, 1, 1]
    assert found["flow"][2] == pytest.approx(found["flow"][0], rel=0.2), "backwards is as fast"
    assert found["smoothness"][1] == 1, "which is why it is read beside flow"
    assert found["smoothness"][0] > found["smoothness"][3] + 0.1
    slow = shot("rabbit", "squat", 2)
    jumps = seen_as(slow, slow.frames[np.random.default_rng(1).permutation(len(slow.frames))])
    smooth, rough = of("flow", [slow, jumps])["smoothness"]
    assert smooth > rough + 0.002
    with pytest.raises(ValueError, match="at least three frames, got 2"):
        of("flow", [seen_as(one, one.frames[:2])])


def test_fidelity_of_identical_still_reversed_and_shifted() -> None:
    clip = people("squat", 1)[0]
    shifted = seen_as(clip, np.roll(clip.frames, (3, 5), axis=(1, 2)))
    bright = seen_as(clip, np.clip(clip.frames.astype(int) + 12, 0, 255).astype(np.uint8))
    rows = [clip, shifted, bright, seen_as(clip, clip.frames[::-1]), still(clip), noise(clip)]
    found = of("fidelity", rows, references=(clip,))["fidelity"]
    assert found[0] == pytest.approx(1, abs=1e-9), "identical tracks score 1, not 0.52"
    assert found[1] > 0.85, "where it happens does not matter"
    assert found[2] > 0.85
    assert found[3] < found[1] - 0.15, "a squat begun backwards rises when it should sink"
    assert found[4] == 0, "what does not move agrees with nothing"
    assert found[5] < 0.5
    one, other = fidelity.tracks(clip.frames), fidelity.tracks(people("squat", 2)[1].frames)
    assert fidelity.motion_fidelity(one, other) == pytest.approx(fidelity.motion_fidelity(other, one)), "both ways"
    assert of("fidelity", [clip]) == {}, "without clips there is nothing to compare with"


def test_fidelity_tells_motions_of_other_species_apart_and_knows_its_floor() -> None:
    """Every species' performance is nearest to a person's of the same motion, and its floor is far below."""
    clips = {motion: people(motion, 4) for motion in SEEN}
    for motion in SEEN:
        shots = [shot(species, motion, 70 + i) for i, species in enumerate(("cat", "frog", "robot"))]
        scores = {other: of("fidelity", shots, references=clips[other]) for other in SEEN}
        means = {other: float(np.mean(found["fidelity"])) for other, found in scores.items()}
        assert max(means, key=lambda other: means[other]) == motion, means
        assert means[motion] > float(np.mean(scores[motion]["fidelity_floor"])) + 0.1


def test_fidelity_does_not_tell_small_motions_apart_and_says_so() -> None:
    """What its docs warn of: a lifted arm is as near to salutes as a salute, a squat above the floor of a prayer."""
    found = {}
    for true, other in (("salute", "liftarm"), ("pray", "squat")):
        clips = people(true, 4)
        for shown in (true, other):
            shots = [shot(species, shown, 70 + i) for i, species in enumerate(("cat", "frog", "robot"))]
            found[true, shown] = of("fidelity", shots, references=clips)
    for words, own in found.items():
        print(words, own)
    assert np.mean(found["salute", "liftarm"]["fidelity"]) > 0.5
    assert np.mean(found["pray", "squat"]["fidelity"]) > np.mean(found["pray", "squat"]["fidelity_floor"]) + 0.15
    said = fidelity.__doc__ or ""
    assert "not small ones of the hands" in said
    assert all(name in said for name in ("pray", "squat", "salute", "lifted arm", "clap"))


def test_where_no_track_is_left_the_score_is_that_of_chance() -> None:
    """0 then means not measured: its floor is 0, too, so that no checkpoint wins or loses by it."""
    clip = people("clap", 1)[0]
    found = of("fidelity", [still(clip)], references=(clip,))
    assert found == {"fidelity": [0], "fidelity_floor": [0]}
    assert score_of("fidelity", {name: values[0] for name, values in found.items()}) == 0


def test_more_frames_of_the_same_performance_are_the_same_motion() -> None:
    clip = people("dance", 1)[0]
    half = seen_as(clip, clip.frames[::2])
    assert of("fidelity", [half], references=(clip,))["fidelity"][0] > 0.75
    with pytest.raises(ValueError, match="at least two frames, got 1"):
        of("fidelity", [seen_as(clip, clip.frames[:1])], references=(clip,))
