"""Scores of checkpoints: which score for which run, the best kept, the same curve after a stop or a kill."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synmotion_core import run
from synmotion_core.adapters.file import AdapterInfo, read_info, save_adapter
from synmotion_core.backbones import SPECS, find_spec
from synmotion_core.clips import video
from synmotion_core.clips.dataset import content_hash
from synmotion_core.clips.frames import png
from synmotion_core.clips.image import load_image
from synmotion_core.config import ClipSource, TrainRun
from synmotion_core.errors import AdapterError, Cancelled, ConfigError
from synmotion_core.evaluation.figures import decibels
from synmotion_core.evaluation.tasks import reference_clips, targets
from synmotion_core.puppets.stage import Scene, render
from synmotion_core.run.scoring import Scoring
from synmotion_core.run.yardstick import Yardstick, choose, in_words, rank, score_of, subjects_of
from synmotion_core.storage import read_tensors
from synmotion_core.training.settings import PriorConfig, TrainConfig
from synmotion_core.types import (
    Clip,
    Event,
    Finished,
    Noted,
    Progress,
    Prompt,
    Sampled,
    Saved,
    Scored,
    Stopped,
    VideoShape,
    Warned,
)

PUPPETS = find_spec("puppet-hunyuan")
SOURCE = ClipSource(path=Path("a.mp4"), subject="a person", motion="waves")


def asked(clips: list[Clip], spec: Any = PUPPETS, shape: VideoShape | None = None, **train: Any) -> Yardstick:
    config = TrainRun(name="n", clips=(SOURCE,), train=TrainConfig(score_every=5, **train))
    return choose(config, spec, shape or PUPPETS.default_shape, clips)


# ------------------------------------------------------------------------------------------------ which score


def test_puppets_are_scored_by_their_judge_whatever_the_motion_is_called() -> None:
    clips = [dataclasses.replace(c, prompt=SOURCE_PROMPT) for c in reference_clips("squat", 4, 0)]
    yardstick = asked(clips, score_videos=9, seed=7)
    assert (yardstick.name, yardstick.motion) == ("judge", "squat"), "by what the clips show"
    assert [p.subject for p in yardstick.prompts][:8:7] == ["a red cat", "a red cat"], "seven species in turn"
    assert {p.motion for p in yardstick.prompts} == {"does my thing"}
    assert yardstick.species[:3] == ("cat", "robot", "bear")
    assert yardstick.seeds == tuple(range(7, 16))
    assert "the puppets' judge: “does my thing” in 9 videos of a red cat" in yardstick.about
    own = asked(clips, sample_subjects=("a tiny blue frog", "a robot"), score_videos=3)
    assert own.species == ("frog", "robot", "frog")


SOURCE_PROMPT = Prompt(subject="a person", motion="does my thing")


def test_where_the_judge_cannot_be_asked_it_is_fidelity_and_why() -> None:
    clips = reference_clips("squat", 2, 0)
    still = np.repeat(clips[0].frames[:1], 17, 0)
    noise = np.random.default_rng(0).integers(0, 255, clips[0].frames.shape, np.uint8)
    odd = [dataclasses.replace(clips[0], frames=f, content_hash=content_hash(f, 8.0)) for f in (still, noise)]
    wan = find_spec("wan2.1-t2v-1.3b")
    for found, why in (
        (asked(clips, sample_subjects=("a purple giraffe",)), "“a purple giraffe” names no species"),
        (asked(clips, shape=dataclasses.replace(PUPPETS.default_shape, num_frames=9)), "the judge sees 17 frames"),
        (asked([clips[0], *odd]), "the clips show no motion that the judge knows"),
        (asked(clips, wan, wan.default_shape), "there is no judge of filmed motions"),
    ):
        assert (found.name, found.species, found.motion) == ("fidelity", (), "")
        assert why in found.about
        assert "can reward a copy of the clips' person" in found.about
    with pytest.raises(ConfigError, match="at least 3 frames, got 1"):
        asked(clips, shape=dataclasses.replace(PUPPETS.default_shape, num_frames=1))


@pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if "t2v" in spec.modes])
def test_every_backbone_has_subjects_and_none_of_the_clips_is_one(name: str) -> None:
    config = TrainRun(name="n", clips=(SOURCE,), train=TrainConfig(score_every=5))
    everybody = subjects_of(config, find_spec(name), ["a person"])
    assert len(everybody) >= 7
    rest = subjects_of(config, find_spec(name), ["An Elephant", "a person"])
    assert set(everybody) - set(rest) == {s for s in everybody if "elephant" in s} != set()
    empty = dataclasses.replace(find_spec(name), options={})
    with pytest.raises(ConfigError, match=r"name some with train\.sample_subjects"):
        subjects_of(config, empty, ["a person"])


def test_pictures_are_asked_for_where_videos_begin_with_them() -> None:
    with pytest.raises(ConfigError, match="score_every 5 in mode i2v needs pictures"):
        TrainRun(name="n", clips=(SOURCE,), mode="i2v", train=TrainConfig(score_every=5))
    for wrong, rule in (({"score_every": -1}, "at least 0"), ({"score_videos": 0}, "between 1 and 64")):
        with pytest.raises(ConfigError, match=rule):
            TrainConfig(**wrong)


@pytest.mark.parametrize(("every", "times"), [(0, 0), (1, 10), (4, 3), (5, 2), (10, 1), (99, 1)])
def test_a_plan_counts_them(every: int, times: int) -> None:
    config = TrainRun(name="n", clips=(SOURCE,), method="lora", train=TrainConfig(num_steps=10, score_every=every))
    found = [line for line in run.plan(config).lines if "score" in line]
    assert config.train.num_scores == times
    assert [line.split(" of 8 ")[0] for line in found] == [f"{times} score{'s' * (times > 1)}"] * (times > 0)


def renders(motion: str, yardstick: Yardstick, species: str | None = None) -> list[Any]:
    names = yardstick.species or [name for _, name, _ in targets("squat", len(yardstick.prompts), 0)]
    scenes = (
        Scene(species=species or name, colour="red", background="room", motion=motion, seed=90 + i)
        for i, name in enumerate(names)
    )
    return [render(scene).frames for scene in scenes]


def test_what_was_asked_for_scores_more_than_what_was_not() -> None:
    clips = reference_clips("squat", 2, 0)
    judged, moved = asked(clips, score_videos=4), asked(clips, score_videos=4, sample_subjects=("a giraffe",))
    true = judged.measure(renders("squat", judged))
    assert (true["motion"], true["species"]) == (1, 1)
    assert score_of("judge", true) == 1
    assert score_of("judge", judged.measure(renders("wave", judged))) == 0, "another motion"
    person = judged.measure(renders("squat", judged, "person"))
    assert (person["motion"], score_of("judge", person)) == (1, 0), "the clips' person"
    same, other, still = (
        score_of("fidelity", moved.measure(renders(motion, moved, "person"))) for motion in ("squat", "wave", "stand")
    )
    assert same > other
    assert same > still
    assert set(moved.measure(renders("squat", moved))) == {"fidelity", "fidelity_floor", "flow"}


def row(step: int, score: float = 0.5, error: float = 0.1, by: str = "judge", best: bool = False) -> Scored:
    values = {"motion": score, "species": score, "error": error}
    return Scored(step=step, by=by, score=score, best=best, values=values, seconds=2.0)


def test_ties_are_broken_by_the_error_of_joints() -> None:
    assert rank(row(1, error=0.05)) > rank(row(1, error=0.06)) > rank(row(1, score=0.4, error=0.01))
    assert rank(row(1, error=0.05, by="fidelity")) == rank(row(1, error=0.06, by="fidelity"))
    said = in_words(row(30, best=True))
    assert said == (
        "step 30: score 0.500, the best so far (rare motion 50 %, species 50 %, error of joints 0.1; 2.0 s)"
    )


# ------------------------------------------------------------------------------------------------ the best is kept


class Tape:
    """A scoring without a model: the scores that come, and a file that holds its step."""

    def __init__(self, folder: Path, errors: dict[int, float]) -> None:
        self.folder, self.errors, self.measured = folder, errors, []
        self.save: Callable[[Path, Scored], None] = self._write
        self.now = 0

    def scoring(self, key: str = "k", resume: bool = True) -> Scoring:
        tape = self

        class Ruler:
            name = "judge"

            @staticmethod
            def measure(videos: list[Any]) -> dict[str, float]:
                assert len(videos) == 1
                tape.measured.append(tape.now)
                return {"motion": 0.5, "species": 0.5, "error": tape.errors[tape.now]}

        def draw(folder: Path, step: int) -> Iterator[Event]:
            tape.now = step
            yield Progress(stage="generate", step=1, total=1)
            video.write(folder / "a.mp4", np.zeros((3, 16, 16, 3), np.uint8), 8)
            yield Sampled(path=folder / "a.mp4", prompt=SOURCE_PROMPT, seed=0, step=step)

        ruler: Any = Ruler
        return Scoring(ruler, self.folder, "x", key, draw=draw, save=lambda p, s: self.save(p, s), resume=resume)

    def _write(self, path: Path, scored: Scored) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(scored.step))

    @property
    def files(self) -> list[str]:
        return sorted(path.read_text() for path in (self.folder / "best").glob("*"))


def curve(events: list[Event]) -> list[tuple[int, bool]]:
    return [(e.step, e.best) for e in events if isinstance(e, Scored)]


def test_the_first_of_equal_ones_stays_the_best_and_its_file_alone(tmp_path: Path) -> None:
    tape = Tape(tmp_path, {10: 0.2, 20: 0.1, 30: 0.1, 40: 0.3})
    scoring = tape.scoring()
    seen: list[Event] = []
    for step in (10, 20, 30, 40):
        seen += scoring(step)
    assert curve(seen) == [(10, True), (20, True), (30, False), (40, False)]
    assert [e.stage for e in seen if isinstance(e, Progress)] == ["score"] * 4
    assert not [e for e in seen if isinstance(e, Sampled)], "a page shows samples, not these"
    assert [(e.path, e.step) for e in seen if isinstance(e, Saved)][-1] == (scoring.path(20), 20)
    assert tape.files == ["20"]
    said = scoring.publish(tmp_path / "x-best.safetensors")
    assert said.startswith("best at step 20: 0.500 (")
    assert "kept as x-best.safetensors; last, step 40: 0.500" in said
    assert (tmp_path / "x-best.safetensors").read_text() == "20"
    assert next(iter(tape.scoring()(20))) == [e for e in seen if isinstance(e, Scored)][1]
    assert tape.measured == [10, 20, 30, 40], "what is known is not drawn again"


def test_a_kill_at_any_moment_leaves_a_best_of_the_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tape = Tape(tmp_path, {10: 0.2, 20: 0.1})
    list(tape.scoring()(10))

    class Killed(Exception):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    for part, left in (("_write", ["10", "20"]), ("_tidy", ["10", "20"])):
        with monkeypatch.context() as patch:
            patch.setattr(Scoring, part, killed)
            with pytest.raises(Killed):
                list(tape.scoring()(20))
        assert tape.files == left
        best = tape.scoring().best
        assert best is not None
        assert (best.step, tape.scoring().path(best.step).exists()) == ({"_write": 10, "_tidy": 20}[part], True)
    assert curve(list(tape.scoring()(20))) == [(20, True)]
    assert tape.files == ["20"]
    assert tape.measured == [10, 20, 20]


def test_scores_of_something_else_are_not_continued(tmp_path: Path) -> None:
    tape = Tape(tmp_path, {10: 0.2, 20: 0.3})
    list(tape.scoring()(10))
    other = tape.scoring("another key")
    assert (other.rows, "of other prompts or settings" in other.began_anew) == ({}, True)
    assert tape.scoring(resume=False).rows == {}
    tape.scoring().path(10).unlink()
    gone = tape.scoring()
    assert (gone.rows, "is gone: scores begin anew" in gone.began_anew) == ({}, True)
    path = tmp_path / "scores.json"
    whole = json.loads(path.read_text())
    for torn in ("", "[]", "{}", json.dumps(whole | {"version": 2}), json.dumps(whole | {"scores": [{"step": 1}]})):
        path.write_text(torn)
        with pytest.raises(ConfigError, match=r"scores\.json cannot be read \(.*\): delete it"):
            tape.scoring()


# ------------------------------------------------------------------------------------------------ a real training


@pytest.fixture
def _two_sampling_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(SPECS, PUPPETS.name, dataclasses.replace(PUPPETS, num_inference_steps=2))
    run.pool._pool.clear()
    yield
    run.pool._pool.clear()


@pytest.fixture
def real(tmp_path: Path, _two_sampling_steps: None) -> Callable[..., list[Event]]:
    """real(folder, cancel_at=..., **train): the events of a training of six steps, scored on two videos every second
    one; it is cancelled at the first event for which cancel_at holds."""
    sources = []
    for i, clip in enumerate(reference_clips("squat", 2, 0)):
        video.write(tmp_path / f"{i}.mp4", clip.frames, 8)
        sources.append(ClipSource(path=tmp_path / f"{i}.mp4", subject=clip.prompt.subject, motion=clip.prompt.motion))

    def go(
        folder: str,
        cancel_at: Callable[[Event], bool] = lambda _: False,
        resume: bool = False,
        mode: Any = "t2v",
        **train: Any,
    ) -> list[Event]:
        own = {"num_steps": 6, "batch_size": 1, "save_every": 3, "sample_every": 0, "score_every": 2, "score_videos": 2}
        config = TrainRun(
            name="squat",
            clips=tuple(sources),
            mode=mode,
            method="lora",
            method_config={"rank": 2},
            train=TrainConfig(**own | {"learning_rate": 0.02} | train),
            priors=PriorConfig(max_videos=2),
        )
        cancel, seen = threading.Event(), []
        for event in run.train(config, tmp_path / folder, cache=tmp_path / "cache", cancel=cancel, resume=resume):
            seen.append(event)
            if cancel_at(event):
                cancel.set()
        return seen

    return go


def timeless(events: list[Event]) -> dict[int, Scored]:
    return {e.step: dataclasses.replace(e, seconds=0.0) for e in events if isinstance(e, Scored)}


def tensors(path: Path) -> dict[str, Any]:
    return {name: tensor.tolist() for name, tensor in read_tensors(path)[0].items()}


@pytest.mark.slow
def test_a_training_is_scored_and_a_stopped_one_has_the_same_curve_and_best(
    real: Callable[..., list[Event]], tmp_path: Path
) -> None:
    events = real("whole")
    scores = timeless(events)
    assert list(scores) == [2, 4, 6]
    assert all(s.by == "judge" and set(s.values) == {"motion", "species", "error"} for s in scores.values())
    assert all(e.seconds > 0 for e in events if isinstance(e, Scored))
    assert [len(list((tmp_path / "whole" / "scores").glob(f"step-00000{s}/*.mp4"))) for s in scores] == [2, 2, 2]
    best = max(scores.values(), key=lambda s: (rank(s), -s.step))
    last = events[-1]
    assert isinstance(last, Finished)
    assert (last.path, last.best) == (
        tmp_path / "whole" / "squat.safetensors",
        tmp_path / "whole" / "squat-best.safetensors",
    )
    assert last.best is not None
    kept, final = read_info(last.best), read_info(last.path)
    assert (kept.steps, kept.score, kept.scored_by) == (best.step, best.score, "judge")
    assert (final.steps, final.score) == (6, scores[6].score), "the last is scored and keeps its name"
    assert [e.path for e in events if isinstance(e, Saved) and e.applied] == [last.best, last.path]
    (rule, result) = [e.message for e in events if isinstance(e, Noted)]
    assert rule.startswith("checkpoints are scored by the puppets' judge: “squats” in 2 videos of a red cat, a blue")
    assert f"step {best.step}" in result

    unscored = real("unscored", score_every=0)[-1]
    assert isinstance(unscored, Finished)
    assert unscored.best is None
    assert tensors(unscored.path) == tensors(last.path), "scoring changes no step"

    stops = (
        lambda e: isinstance(e, Progress) and e.stage == "score",  # within the first scoring
        lambda e: isinstance(e, Scored) and e.step == 4,  # right behind one
        lambda e: isinstance(e, Progress) and e.stage == "score",  # within the last one
    )
    seen: list[Event] = []
    for number, stop in enumerate(stops):
        part = real("parts", stop, resume=number > 0)
        assert isinstance(part[-1], Stopped)
        assert part[-1].step == (2, 4, 6)[number]
        seen += part
    seen += real("parts", resume=True)
    assert timeless(seen) == scores
    assert [e.step for e in seen if isinstance(e, Progress) and e.stage == "train"] == [1, 2, 3, 4, 5, 6]
    end = seen[-1]
    assert isinstance(end, Finished)
    assert end.best is not None
    assert tensors(end.best) == tensors(last.best)
    assert tensors(end.path) == tensors(last.path)
    assert read_info(end.best) == kept


def test_videos_that_begin_with_pictures_are_scored_in_turn(real: Callable[..., list[Event]], tmp_path: Path) -> None:
    pictures = []
    for species in ("cat", "robot"):
        scene = Scene(species=species, colour="red", background="room", motion="stand", seed=3)
        pictures.append(tmp_path / f"{species}.png")
        pictures[-1].write_bytes(png(render(scene).frames[0]))
    subjects = {"sample_subjects": ("a red cat", "a red robot"), "sample_images": tuple(pictures)}
    events = real("job", mode="i2v", num_steps=1, score_videos=3, **subjects)
    assert list(timeless(events)) == [1]
    files = sorted((tmp_path / "job" / "scores" / "step-000001").glob("*.mp4"), key=lambda p: p.name[-5])
    assert [f.name.split("-squats")[0] for f in files] == ["a-red-cat", "a-red-robot", "a-red-cat"]
    for file, picture in zip(files, (*pictures, pictures[0]), strict=True):
        shown = load_image(picture, PUPPETS.default_shape)[0][0]
        assert decibels(video.read(file)[0][0].astype(float) - shown) > 25


def test_a_killed_training_has_the_same_curve_and_best(real: Callable[..., list[Event]], tmp_path: Path) -> None:
    """Killed behind the score of step 4, with the state of step 3 on the disk: it comes by 4 again."""

    class Killed(Exception):
        pass

    def kill(event: Event) -> bool:
        if isinstance(event, Progress) and event.stage == "train" and event.step == 5:
            raise Killed
        return False

    whole = real("whole")
    with pytest.raises(Killed):
        real("killed", kill)
    rest = real("killed", resume=True)
    assert [e.step for e in rest if isinstance(e, Progress) and e.stage == "train"] == [4, 5, 6]
    assert [e.step for e in rest if isinstance(e, Scored)] == [4, 6]
    assert len([e for e in rest if isinstance(e, Progress) and e.stage == "score"]) == 2, "that of 4 was kept"
    rows = json.loads((tmp_path / "killed" / "scores.json").read_text())["scores"]
    assert {r["step"]: (r["score"], r["best"]) for r in rows} == {
        s.step: (s.score, s.best) for s in timeless(whole).values()
    }
    assert tensors(tmp_path / "killed" / "squat-best.safetensors") == tensors(
        tmp_path / "whole" / "squat-best.safetensors"
    )
    assert not [e for e in rest if isinstance(e, Warned)]
    anew = real("killed", resume=True, score_videos=1)
    assert "of other prompts or settings" in next(e.message for e in anew if isinstance(e, Warned))
    assert list(timeless(anew)) == [6]


def test_a_file_whose_score_is_no_number_is_refused(tmp_path: Path) -> None:
    about = {"backbone": "b", "repo": "r", "revision": None, "fingerprint": "", "licence": "l", "method": "lora"}
    about |= {"method_config": {}, "subject": "a person", "motion": "waves", "steps": 1}
    import torch

    path = tmp_path / "a.safetensors"
    save_adapter(path, {"transformer.x": torch.zeros(1)}, AdapterInfo(**about, score=0.25, scored_by="judge"))
    assert (read_info(path).score, read_info(path).scored_by) == (0.25, "judge")
    for wrong in ("high", float("nan"), True, [1]):
        bad: Any = wrong
        save_adapter(path, {"transformer.x": torch.zeros(1)}, AdapterInfo(**about, score=bad))
        with pytest.raises(AdapterError, match="is not a number"):
            read_info(path)


def test_a_stop_before_anything_was_drawn_is_no_score(tmp_path: Path) -> None:
    tape = Tape(tmp_path, {})
    scoring = tape.scoring()

    def draw(folder: Path, step: int) -> Iterator[Event]:
        raise Cancelled("stopped by request")
        yield

    scoring._draw = draw
    with pytest.raises(Cancelled):
        list(scoring(10))
    assert scoring.rows == {}
    assert not (tmp_path / "scores.json").exists()
