"""The suites of `bench run`, end to end on the shipped backbone, as small as they get."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomllib
import torch

from synmotion_core.backbones import load_backbone
from synmotion_core.clips import video
from synmotion_core.errors import ConfigError
from synmotion_core.evaluation import bench, drawings, tasks, trainings, units
from synmotion_core.evaluation import bench_methods as bench_methods_module
from synmotion_core.evaluation.bench_backbone import bench_backbone, random_prompts
from synmotion_core.evaluation.bench_methods import bench_methods
from synmotion_core.evaluation.figures import Figure
from synmotion_core.evaluation.metrics import fidelity
from synmotion_core.evaluation.results import figures as results_figures
from synmotion_core.evaluation.results import read_results
from synmotion_core.evaluation.suite import Row, Suite
from synmotion_core.generation import SamplerConfig, default_sampler
from synmotion_core.methods import find_method
from synmotion_core.puppets.judge import Judge
from synmotion_core.puppets.motions import MOTIONS
from synmotion_core.storage import write_tensors
from synmotion_core.training.settings import TrainConfig


def test_one_unit_of_one_method_is_a_whole_table(tmp_path: Path) -> None:
    found = list(
        bench_methods(
            motions=("squat",),
            seeds=(4,),
            methods=("synmotion",),
            configs={"synmotion": {"alpha": 1.0}},  # no priors to draw
            num_clips=2,
            num_videos=2,
            num_common=3,
            train=TrainConfig(num_steps=1, batch_size=1),
            cache=tmp_path / "cache",
            sheets=tmp_path / "sheets",
            out=tmp_path / "results",
        )
    )
    assert sorted(p.name for p in (tmp_path / "results").iterdir()) == [
        "report.html",
        "report.md",
        "results.json",
        "videos",
    ]
    kept = read_results(tmp_path / "results")
    assert list(results_figures(kept.suite, kept.row("synmotion"))) == found
    made = [video.read(tmp_path / "results" / name)[0] for name in kept.row("synmotion").outcomes[0].videos]
    seen = Judge.load().judge(made)
    (own,) = kept.row("synmotion").outcomes
    assert [m == "squat" for m in seen.motion[:2]] == own.values["motion"], "the very files"
    known = tasks.common_targets(3, 4)
    assert [m == motion for m, (_, motion) in zip(seen.motion[2:], known, strict=True)] == own.values["common"]
    assert any(own.values["common"]), "one step forgets little"
    assert own.prompts[2:] == [prompt.text for prompt, _ in known]
    figures = {f.name.removeprefix("methods.synmotion."): f for f in found}
    assert list(figures) == [
        "motion",
        "species",
        "colour",
        "as_person",
        "common",
        "error",
        "amplitude",
        "background_db",
        "flow",
        "dynamic",
        "smoothness",
        "fidelity",
        "fidelity_floor",
        "hit",
        "harmonic",
        "seconds",
        "motion.squat",
    ]
    assert figures["motion"].n == 2
    assert figures["motion"].high - figures["motion"].low > 0.5, "two videos say little"
    assert 0.01 < figures["error"].value < 1
    assert 0.05 < figures["amplitude"].value < 2
    clips = tasks.reference_clips("squat", 2, 4)
    motions = [fidelity.tracks(frames) for frames in (made[0], *(clip.frames for clip in clips))]
    nearest = max(fidelity.motion_fidelity(motions[0], clip) for clip in motions[1:])
    assert own.values["fidelity"][0] == pytest.approx(nearest, abs=1e-5)
    assert figures["seconds"].n == 1
    assert [p.name for p in (tmp_path / "sheets").iterdir()] == ["synmotion-squat-4.png"]
    with pytest.raises(ConfigError, match="'walk' is not a rare motion"):
        list(bench_methods(motions=("walk",)))


def test_image_to_video_is_measured_from_pictures_of_puppets_that_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    begun: list[bool] = []
    train, reference_clips = trainings._train, tasks.reference_clips

    def clips(motion: str, num: int, *rest: Any, **how: Any) -> Any:
        begun.append(how.get("standing", False))
        return reference_clips(motion, num, *rest, **how)

    def trains(backbone: Any, unit: Any, *rest: Any) -> None:
        trained.append(unit.mode)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tasks, "reference_clips", clips)
            train(backbone, unit, *rest)

    monkeypatch.setattr(trainings, "_train", trains)

    def table(**given: Any) -> dict[str, Figure]:
        small = {"num_clips": 2, "num_videos": 2, "train": TrainConfig(num_steps=1, batch_size=1)}
        own = {"motions": ("squat",), "seeds": (4,), "methods": ("lora",), "cache": tmp_path / "cache"}
        return {f.name.removeprefix("methods.lora."): f for f in bench_methods(**own, **small, **given)}

    assert "first_frame_db" not in table()
    drawn = table(drawn_mode="i2v")
    assert trained == ["t2v"], "one training serves both"
    assert drawn["first_frame_db"].value > 25
    assert drawn["species"].value == 1.0, "two pictures, two puppets"
    assert table(mode="i2v")["first_frame_db"].value > 25
    assert trained == ["t2v", "i2v"]
    assert begun == [False, True], "clips begin as the pictures do"
    names = {"from-text": {"method": "lora", "mode": "t2v"}, "from-pictures": {"method": "lora"}}
    small = {"num_clips": 2, "num_videos": 2, "train": TrainConfig(num_steps=1, batch_size=1)}
    own = {"motions": ("squat",), "seeds": (4,), "cache": tmp_path / "cache", "mode": "i2v", "methods": tuple(names)}
    beside = {f.name.removeprefix("methods."): f.value for f in bench_methods(**own, **small, configs=names)}
    assert trained == ["t2v", "i2v"], "both rows were trained before"
    assert min(beside[f"{name}.first_frame_db"] for name in names) > 25, "all rows are drawn alike"
    with pytest.raises(ConfigError, match="the mode of from-text must be t2v or i2v, got 'v2v'"):
        bench_methods(**own, **small, configs={**names, "from-text": {"method": "lora", "mode": "v2v"}}).__next__()
    with pytest.raises(ConfigError, match="mode and drawn_mode must be t2v or i2v, got 'v2v' and None"):
        table(mode="v2v")
    pictures = tasks.portraits("squat", 3, 4)
    assert pictures.shape == (3, 64, 64, 3)
    assert np.array_equal(pictures[:2], tasks.portraits("squat", 2, 4)), "more videos keep the first ones"


def test_units_share_the_cores_and_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def table(**given: Any) -> dict[str, tuple[float, float, float]]:
        small = {"num_clips": 2, "num_videos": 2, "train": TrainConfig(num_steps=1, batch_size=1)}
        found = list(bench_methods(motions=("squat", "spin"), seeds=(4,), methods=("lora",), **small, **given))
        return {f.name: (f.value, f.low, f.high) for f in found}

    both = table(workers=2, cache=tmp_path / "both", sheets=tmp_path / "sheets")
    assert len(list((tmp_path / "both" / "units").iterdir())) == 2
    assert len(list((tmp_path / "sheets").iterdir())) == 2
    next((tmp_path / "both" / "units").glob("lora-spin-*")).unlink()  # as if it had been stopped before the second
    for kept in (tmp_path / "both" / "trained").glob("lora-spin-*"):
        kept.unlink()
    shutil.rmtree(next((tmp_path / "both" / "drawn").glob("lora-spin-*")))
    trained: list[str] = []
    train = trainings._train
    monkeypatch.setattr(trainings, "_train", lambda b, u, *rest: trained.append(u.motion) or train(b, u, *rest))
    again = table(cache=str(tmp_path / "both"))
    assert trained == ["spin"]
    timeless = [name for name in both if not name.endswith("seconds")]
    assert [both[name] for name in timeless] == [again[name] for name in timeless]
    assert table(cache=tmp_path / "both") == again
    assert trained == ["spin"]
    for wrong in (0, 1.5, "two"):
        with pytest.raises(ConfigError, match=f"workers must be a whole number, at least 1, got {wrong!r}"):
            table(workers=wrong)
    torn = next((tmp_path / "both" / "units").glob("lora-spin-*"))
    kept = torn.read_text()
    for damage in (kept[:20], "{}", "[1]"):
        torn.write_text(damage)
        with pytest.raises(ConfigError, match=f"{torn.name} cannot be read .* delete it"):
            table(cache=tmp_path / "both")
    torn.write_text(kept)
    drawn: list[str] = []
    draw = drawings._draw
    monkeypatch.setattr(drawings, "_draw", lambda b, u, m: drawn.append(u.motion) or draw(b, u, m))
    day = "of another day"
    monkeypatch.setattr(units, "source_version", lambda: day)
    table(cache=tmp_path / "both")
    assert (drawn, trained) == ([], ["spin"]), "another judge or metric looks at the same videos"
    monkeypatch.setattr(drawings, "_version", lambda: day)
    day = "of another sampler"
    table(cache=tmp_path / "both")
    assert (drawn, trained) == (["squat", "spin"], ["spin"]), "another sampler takes the same adapters"
    monkeypatch.setattr(trainings, "_version", lambda: day)
    day = "of another trainer"
    table(cache=tmp_path / "both")
    assert (drawn, trained) == (["squat", "spin"] * 2, ["spin", "squat", "spin"])


def test_a_unit_that_was_stopped_while_it_was_drawn_is_drawn_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = Suite(rows={"lora": Row(train={"num_steps": 1})}, motions=("squat",), seeds=(4,), num_clips=1, num_videos=2)
    (unit,), still = suite.units("lora"), np.zeros((17, 64, 64, 3), np.uint8)
    write, written = video.write, []

    def fails(path: Path, frames: Any, fps: float) -> None:
        if written:
            raise OSError("no space")
        written.append(path)
        write(path, frames, fps)

    monkeypatch.setattr(drawings, "_draw", lambda b, u, m: [still] * 2)
    monkeypatch.setattr(video, "write", fails)
    with pytest.raises(OSError, match="no space"):
        drawings.drawn(load_backbone("puppet-hunyuan"), unit, tmp_path)
    monkeypatch.setattr(video, "write", write)
    files, seconds = drawings.drawn(load_backbone("puppet-hunyuan"), unit, tmp_path)
    assert [file.name for file in files] == ["00.mp4", "01.mp4"]
    assert seconds > 0
    monkeypatch.setattr(drawings, "_draw", lambda b, u, m: pytest.fail("they are there"))
    assert drawings.drawn(load_backbone("puppet-hunyuan"), unit, tmp_path) == (files, seconds)
    files[1].unlink()
    with pytest.raises(ConfigError, match=r"01\.mp4 is not there any more: delete .*, and they are drawn anew"):
        drawings.drawn(load_backbone("puppet-hunyuan"), unit, tmp_path)


def test_what_a_result_does_not_depend_on_is_above_it_in_the_house(tmp_path: Path) -> None:
    layers = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    (floor,) = (i for i, layer in enumerate(layers) if "evaluation" in layer)
    above = {name.strip() for layer in layers[: floor + 1] for name in layer.split("|")} - {"evaluation"}
    ours = {name.removesuffix(".py") for name in trainings.NOT_OURS}
    assert ours == above | {"puppets/pretrain"}
    copy = tmp_path / "synmotion_core"
    shutil.copytree(Path(trainings.__file__).parents[1], copy)

    def digests() -> tuple[str, str]:
        return trainings.source_digest(copy), trainings.source_digest(copy, trainings.OF_TRAINING)

    before = digests()
    for name, changes in (
        ("ui/train.py", (False, False)),
        ("run/training.py", (False, False)),
        ("puppets/pretrain/loop.py", (False, False)),
        ("evaluation/metrics/trajectory.py", (True, False)),
        ("evaluation/tasks.py", (True, True)),
        ("training/trainer.py", (True, True)),
        ("diffusion.py", (True, True)),
    ):
        with (copy / name).open("a") as file:
            file.write("\n# changed\n")
        after = digests()
        assert tuple(a != b for a, b in zip(after, before, strict=True)) == changes, name
        before = after


def test_other_sampling_and_more_videos_take_the_adapter_that_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    drawn: list[tuple[SamplerConfig, list[int], float]] = []
    train = trainings._train
    monkeypatch.setattr(trainings, "_train", lambda b, u, *rest: trained.append(u.motion) or train(b, u, *rest))

    def videos(
        backbone: Any, method: Any, prompts: Any, seeds: Any, config: SamplerConfig, images: Any, **more: Any
    ) -> Any:
        assert images is None
        assert more["inverted"] is None
        weights = sum(float(p.detach().double().abs().sum()) for group in method.groups.values() for p in group)
        drawn.append((config, list(seeds), weights))
        return [np.zeros((17, 64, 64, 3), np.uint8)] * len(prompts)

    monkeypatch.setattr(drawings, "sample_frames", videos)
    small = {"train.num_steps": 1, "train.batch_size": 1, "methods": ["lora"], "num_clips": 2, "cache": str(tmp_path)}

    def table(**given: Any) -> list[Figure]:
        return list(bench.run("methods", motions=["squat"], seeds=[4], **small, **given))

    first = table(num_videos=2)
    own = default_sampler(load_backbone("puppet-hunyuan"))
    chosen = {"num_inference_steps": 7, "guidance_scale": 1.5, "guidance_until": 0.6, "eta": 0.0, "strength": 0.8}
    other = table(num_videos=5, **{f"sampling.{key}": value for key, value in chosen.items()})
    assert trained == ["squat"]
    assert [(config, seeds) for config, seeds, _ in drawn] == [
        (own, [4036, 4037]),
        (dataclasses.replace(own, **chosen), [4036, 4037, 4038, 4039]),
        (dataclasses.replace(own, **chosen), [4040]),
    ]
    assert len({weights for *_, weights in drawn}) == 1, "it is the trained adapter that draws"
    seconds = [next(f.value for f in found if f.name.endswith("seconds")) for found in (first, other)]
    assert seconds[0] == seconds[1] > 0
    kept = next(p for p in (tmp_path / "trained").iterdir() if len(p.suffixes) == 1)  # the end's, no share's
    for damage in (b"", kept.read_bytes()[:500], b"no safetensors at all"):
        kept.write_bytes(damage)
        with pytest.raises(ConfigError, match=f"{kept.name} cannot be read .* delete it"):
            table(num_videos=3)
    kept.unlink()
    table(num_videos=3)
    assert trained == ["squat", "squat"]
    with pytest.raises(ConfigError, match="eta must be between 0 and 1, got 2"):
        table(**{"sampling.eta": 2})
    with pytest.raises(ConfigError, match="Sampling has no setting 'gudance_scale': did you mean 'guidance_scale'"):
        table(**{"sampling.gudance_scale": 2})


def test_adapters_after_a_share_of_the_steps_come_of_one_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    train = trainings._train
    monkeypatch.setattr(trainings, "_train", lambda b, u, *rest: trained.append(1) or train(b, u, *rest))
    rows = {name: Row(method="lora", after=share) for name, share in (("half", 0.5), ("end", 1.0), ("most", 0.75))}
    suite = Suite(rows=rows, motions=("squat",), seeds=(4,), num_clips=1, num_videos=1, train={"num_steps": 4})
    backbone, found = load_backbone("puppet-hunyuan"), {}
    for name in rows:
        (unit,) = suite.units(name)
        method = find_method("lora").attach(backbone, unit.method_config, unit.reference, 1)
        try:
            seconds = trainings.adapted(backbone, unit, method, tmp_path)
            found[name] = (seconds, {key: value.clone() for key, value in method.state_dict().items()})
        finally:
            method.detach()
    assert trained == [1]
    assert found["half"][0] < found["most"][0] < found["end"][0]
    states = [found[name][1] for name in ("half", "most", "end")]
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert any(not torch.equal(states[one][key], states[other][key]) for key in states[one])
    (early,) = dataclasses.replace(suite, train={"num_steps": 2, "lr_scheduler": "constant"}).units("end")
    (half,) = dataclasses.replace(suite, train={"num_steps": 4, "lr_scheduler": "constant"}).units("half")
    ends = []
    for unit in (early, half):
        method = find_method("lora").attach(backbone, unit.method_config, unit.reference, 1)
        try:
            trainings.adapted(backbone, unit, method, tmp_path)
            ends.append(method.state_dict())
        finally:
            method.detach()
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0]), "two steps are two steps"
    with pytest.raises(ConfigError, match=r"after must be one of 0\.25, 0\.5, 0\.75, 1\.0 of the steps, got 0\.3"):
        dataclasses.replace(suite, rows={"lora": Row(after=0.3)})


WORKER = """
import multiprocessing, time
from concurrent.futures import ProcessPoolExecutor
from synmotion_core.evaluation import units
if __name__ == "__main__":
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), units._start_worker, (1,)) as pool:
        pool.submit(time.sleep, 0).result()
        print("at work", flush=True)
        pool.submit(time.sleep, 60).result()
"""


def test_workers_do_not_outlive_a_killed_bench(tmp_path: Path) -> None:
    script = tmp_path / "bench.py"
    script.write_text(WORKER)
    root = str(Path(__file__).resolve().parents[2])
    parent = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "at work\n"
    parent.kill()
    parent.communicate(timeout=20)  # the pipe closes with the last who holds it: the worker, who would sleep for 60 s


def test_clips_and_videos_say_the_same_words() -> None:
    for described, words in ((True, MOTIONS["squat"].phrase), (False, "squats")):
        clips = tasks.reference_clips("squat", 3, 0, described=described)
        wanted = tasks.targets("squat", 3, 0, described=described)
        assert {c.prompt.motion for c in clips} == {row[0].motion for row in wanted} == {words}
        rows = random_prompts(3, ("squat",), 0, described=described)
        assert {row[0].motion for row in rows} == {words}
    frames = [tasks.reference_clips("squat", 3, 0, described=d) for d in (True, False)]
    assert all(np.array_equal(a.frames, b.frames) for a, b in zip(*frames, strict=True))


def test_clips_for_videos_from_pictures_begin_as_the_pictures_do() -> None:
    """The same people in the same places: they stand, and then fall into the motion."""
    own, standing = (tasks.reference_clips("spin", 3, 0, standing=s) for s in (False, True))
    for plain, clip in zip(own, standing, strict=True):
        assert clip.prompt == plain.prompt
        assert np.abs(clip.frames[0].astype(int) - plain.frames[0]).max() > 60
    verdicts = Judge.load().judge([clip.frames[[0] * len(clip.frames)] for clip in standing])
    assert set(verdicts.motion) == {"stand"}


def test_rows_are_compared_video_by_video(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four videos in two units: "b" sees one more than "a" in the first, and one less of another in the second."""
    seen = {("a", "squat"): [1, 0], ("a", "spin"): [1, 1], ("b", "squat"): [1, 1], ("b", "spin"): [0, 1]}

    def measured(own: Any, folder: Path, **more: Any) -> Any:
        for unit in own:
            hits = [bool(hit) for hit in seen["ab"[unit.config["rank"] - 1], unit.motion]]
            flags = dict.fromkeys(("motion", "species", "colour", "as_person"), hits)
            values = {**flags, "error": [0.5, 0.25], "amplitude": [1.0, 1.0]}
            yield unit, units.Outcome(values=values, num_videos=2, seconds=1.0)

    monkeypatch.setattr(bench_methods_module, "measure", measured)
    rows = {name: {"method": "lora", "rank": rank} for name, rank in (("a", 1), ("b", 2))}
    given: dict[str, Any] = {"motions": ["squat", "spin"], "seeds": [0], "methods": ["b", "a"], "configs": rows}
    found = {f.name: f for f in bench_methods(**given, against="a")}
    assert not any(name.startswith("methods.a.") and name.endswith("-a") for name in found)
    assert found["methods.b.motion"].value == found["methods.a.motion"].value == 0.75
    difference = found["methods.b.motion-a"]
    assert (difference.value, difference.low, difference.high, difference.n) == (0.0, -0.5, 0.5, 4)
    assert found["methods.b.error-a"].value == 0
    assert not any("-" in f.name for f in bench_methods(**given))
    with pytest.raises(ConfigError, match="against must be one of the rows, b, a, got 'c'"):
        list(bench_methods(**given, against="c"))


def test_rows_come_in_their_order_however_units_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {name: {"method": "lora", "rank": rank} for name, rank in (("a", 1), ("b", 2), ("c", 3))}
    given: dict[str, Any] = {"motions": ["squat", "spin"], "seeds": [0], "methods": list(rows), "configs": rows}
    done: list[str] = []

    def measured(own: Any, folder: Path, **more: Any) -> Any:
        for index in (5, 0, 4, 1, 2, 3):  # the last row is whole before the first
            rate = own[index].config["rank"] / 10
            done.append(own[index].motion)
            yield own[index], units.Outcome(values={"error": [rate]}, num_videos=1, seconds=1.0)

    monkeypatch.setattr(bench_methods_module, "measure", measured)
    found = []
    for figure in bench_methods(**given):
        found.append((figure.name, figure.value, len(done)))
    assert [one for one in found if one[0].endswith("error")] == [
        ("methods.a.error", 0.1, 4),
        ("methods.b.error", 0.2, 6),
        ("methods.c.error", pytest.approx(0.3), 6),
    ]
    monkeypatch.setattr(
        bench_methods_module, "measure", lambda own, folder, **more: iter(list(measured(own, folder))[:4])
    )
    with pytest.raises(RuntimeError, match="units of b never came back"):
        list(bench_methods(**given))


def test_units_of_one_training_are_one_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three units of two trainings are two jobs; alone they come in the order in which they were asked."""
    rows = {
        "full": Row(method="lora"),
        "other": Row(method="lora", config={"rank": 2}),
        "half": Row(method="lora", after=0.5),
    }
    suite = Suite(rows=rows, motions=("squat",), seeds=(4,), train={"num_steps": 4})
    asked = [unit for name in rows for unit in suite.units(name)]
    jobs: list[list[Any]] = []

    class Pool:
        def __init__(self, *given: Any) -> None: ...
        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *given: Any) -> None: ...
        def shutdown(self, **given: Any) -> None: ...
        def submit(self, work: Any, some: Any, folder: Path) -> Any:
            jobs.append([unit for unit, _ in some])
            future: Any = Future()
            future.set_result(work(some, folder))
            return future

    outcome = units.Outcome(values={"error": [0.1]}, num_videos=1, seconds=1.0)
    monkeypatch.setattr(units, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(units, "_work", lambda unit, folder, sheet: outcome)
    found = [unit for unit, _ in units.measure(asked, tmp_path, workers=2)]
    assert [[id(unit) for unit in job] for job in jobs] == [[id(asked[0]), id(asked[2])], [id(asked[1])]]
    assert {id(unit) for unit in found} == {id(unit) for unit in asked}
    assert [id(unit) for unit, _ in units.measure(asked, tmp_path)] == [id(unit) for unit in asked]


def test_a_large_backbone_draws_as_few_at_once_as_it_does_elsewhere_and_without_its_encoders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone: Any = load_backbone("puppet-hunyuan")
    monkeypatch.setattr(backbone, "spec", dataclasses.replace(backbone.spec, batch_size=1))
    drawn: list[tuple[int, int, tuple[str, ...]]] = []

    def videos(backbone: Any, method: Any, prompts: Any, seeds: Any, *rest: Any, texts: Any, **more: Any) -> Any:
        drawn.append((len(prompts), *seeds, backbone.pipe.encoders.loaded))
        return [np.zeros((17, 64, 64, 3), np.uint8)] * len(prompts)

    monkeypatch.setattr(drawings, "sample_frames", videos)
    unit = tasks.Unit(
        method="lora", config={}, motion="squat", seed=2, num_clips=1, num_videos=3, num_common=2, train=TrainConfig()
    )
    drawings._draw(backbone, unit, None)  # type: ignore[arg-type]
    drawings._draw_common(backbone, unit, None)  # type: ignore[arg-type]
    assert drawn == [(1, seed, ()) for seed in (2018, 2019, 2020, 2518, 2519)]


@pytest.mark.parametrize("described", [True, False])
def test_a_unit_is_trained_and_drawn_in_its_own_words(
    described: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: dict[str, set[str]] = {"clips": set(), "videos": set()}
    reference_set, sample_frames = tasks.reference_set, drawings.sample_frames

    def clips(backbone: Any, clips: Any, cache: Path, mode: str) -> Any:
        assert mode == "t2v"
        said["clips"] |= {c.prompt.motion for c in clips}
        return reference_set(backbone, clips, cache, mode)

    def videos(backbone: Any, method: Any, prompts: Any, seeds: Any, config: Any, images: Any, **more: Any) -> Any:
        assert images is None
        assert more["inverted"] is None
        said["videos"] |= {p.motion for p in prompts}
        short = dataclasses.replace(config, num_inference_steps=2)
        return sample_frames(backbone, method, prompts, seeds, short, texts=more["texts"])

    monkeypatch.setattr(trainings, "reference_set", clips)
    monkeypatch.setattr(drawings, "sample_frames", videos)
    given: dict[str, Any] = {"num_clips": 2, "num_videos": 2, "train": TrainConfig(num_steps=1, batch_size=1)}
    list(bench_methods(motions=("clap",), seeds=(0,), methods=("lora",), described=described, cache=tmp_path, **given))
    words = MOTIONS["clap"].phrase if described else MOTIONS["clap"].verb
    assert said == {"clips": {words}, "videos": {words}}


def test_settings_reach_the_training_and_the_method(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}
    monkeypatch.setattr(bench_methods_module, "bench_methods", lambda **given: seen.update(given) or iter(()))
    list(bench.run("methods", seeds=[3], **{"num_clips": 2, "train.num_steps": 7, "synmotion.alpha": 0.5}))
    assert seen["train"] == TrainConfig(num_steps=7)
    assert seen["configs"] == {"synmotion": {"alpha": 0.5}}
    assert (seen["num_clips"], seen["seeds"]) == (2, (3,))
    with pytest.raises(ConfigError, match="described must be true or false, got 'no'"):
        list(bench_methods(motions=["squat"], described="no"))  # type: ignore[arg-type]
    monkeypatch.undo()
    for wrong in ("train.steps", "train.seed", "synmotion.alpa", "nobody.rank"):
        with pytest.raises(ConfigError):
            list(bench.run("methods", **{wrong: 1}))
    with pytest.raises(ConfigError, match=r"lora\.rank has no effect"):
        list(bench.run("methods", **{"methods": ["synmotion"], "lora.rank": 4}))


def test_settings_of_one_method_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[str, Any]] = []
    still, kept = np.zeros((17, 64, 64, 3), np.uint8), {"seconds": "1"}
    monkeypatch.setattr(
        trainings,
        "_train",
        lambda b, u, m, r, path: trained.append((u.method, u.config)) or write_tensors(path, m.state_dict(), kept),
    )
    monkeypatch.setattr(drawings, "_draw", lambda b, u, m: [still])
    rows = {"methods": ["small", "lora", "large"], "small.method": "lora", "small.rank": 4, "large.method": "lora"}
    given = {"num_clips": 1, "num_videos": 1, "cache": str(tmp_path), **rows, "large.rank": 32}
    given["sheets"] = tmp_path / "sheets"
    found = [f.name for f in bench.run("methods", motions=["squat"], seeds=[0], **given)]
    assert trained == [("lora", {"rank": 4}), ("lora", {}), ("lora", {"rank": 32})]
    assert [name for name in found if name.endswith(".motion")] == [f"methods.{m}.motion" for m in rows["methods"]]
    sheets = sorted(p.relative_to(tmp_path / "sheets").as_posix() for p in (tmp_path / "sheets").rglob("*.png"))
    assert sheets == ["large/lora-squat-0.png", "lora-squat-0.png", "small/lora-squat-0.png"]
    with pytest.raises(ConfigError, match=r"a row's name is letters a to z, digits, - and _, got '\.\./up'"):
        list(bench_methods(methods=["../up"], configs={"../up": {"method": "lora"}}))
    given = {"num_clips": 1, "num_videos": 1, "cache": str(tmp_path / "second"), "methods": ["whole", "phased"]}
    given |= {"whole.method": "lora", "phased.method": "lora"}
    monkeypatch.undo()
    drawn_with: list[Any] = []
    monkeypatch.setattr(
        trainings, "_train", lambda b, u, m, r, path: trained.append(u) or write_tensors(path, m.state_dict(), kept)
    )
    monkeypatch.setattr(drawings, "_draw", lambda b, u, m: drawn_with.append(u.sampling) or [still])
    trained.clear()
    steps = {"sampling.num_inference_steps": 3, "phased.sampling.adapter_until": 0.5}
    list(bench.run("methods", motions=["squat"], seeds=[0], **given, **steps))
    assert [(s.num_inference_steps, s.adapter_until) for s in drawn_with] == [(3, 1.0), (3, 0.5)]
    assert len(trained) == 1, "it differs in how it is drawn alone"
    given = {"num_clips": 1, "num_videos": 1, "cache": str(tmp_path), "backbone": "puppet-unet3d"}
    rows = {"methods": ["keys", "open", "values"], "keys.temporal": "k", "keys.highway": "off", "values.temporal": "v"}
    trained.clear()
    drawn_with.clear()
    monkeypatch.setattr(drawings, "_draw", lambda b, u, m: drawn_with.append(u.config) or [still])
    methods = {f"{row}.method": "separation" for row in rows["methods"]}
    list(bench.run("methods", motions=["squat"], seeds=[0], **given, **rows, **methods))
    assert [u.config for u in trained] == [{"temporal": "k", "highway": "off"}, {"temporal": "v"}]
    assert drawn_with == [{"temporal": "k", "highway": "off"}, {}, {"temporal": "v"}]
    given = {"cache": str(tmp_path), "methods": ["small", "lora"], "small.method": "lora"}
    for wrong, said in (
        ("small.rnk", "rnk"),
        ("small.sampling.eat", "eat"),
        ("other.rank", r"other\.rank has no effect: methods are small, lora"),
        ("configs", r"configs is set value by value: synmotion\.alpha=1"),
        ("train", r"train is set value by value: train\.KEY=VALUE"),
    ):
        with pytest.raises(ConfigError, match=said):
            list(bench.run("methods", motions=["squat"], seeds=[0], **{**given, wrong: 3}))


def test_benches_know_the_backbones_that_draw_puppets() -> None:
    said = "this bench is about puppets, which 'hunyuanvideo' does not draw: choose puppet-hunyuan"
    with pytest.raises(ConfigError, match=said):
        list(bench.run("methods", backbone="hunyuanvideo"))
    with pytest.raises(ConfigError, match=said):
        list(bench.run("backbone", name="hunyuanvideo"))


def test_a_backbone_in_few_prompts(tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    found = {
        f.name: f
        for f in bench_backbone(
            num_prompts=3, num_rare=2, num_renders=3, num_inference_steps=2, batch_size=2, sheet=str(sheet)
        )
    }
    assert found["backbone.species"].n == 3
    assert found["backbone.rare_word"].n == found["backbone.rare_described"].n == 2
    assert sum(f.n for name, f in found.items() if name.startswith("backbone.common_motion.")) == 3
    assert found["backbone.seconds_a_video"].value > 0
    assert 28 < found["backbone.autoencoder_db"].low <= found["backbone.autoencoder_db"].high < 34
    assert found["backbone.autoencoder_db"].n == 3
    assert sheet.read_bytes()[:4] == b"\x89PNG"


def test_sampling_settings_on_the_same_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    from synmotion_core.evaluation import bench_sampling

    drawn: list[tuple[Any, ...]] = []
    own = bench_sampling.sample_frames

    def recorded(backbone: Any, method: Any, prompts: Any, seeds: Any, config: Any, **given: Any) -> Any:
        made = own(backbone, method, prompts, seeds, config, **given)
        drawn.append((method, [p.text for p in prompts], list(seeds), config, made))
        return made

    monkeypatch.setattr(bench_sampling, "sample_frames", recorded)
    few = {"num_inference_steps": 6, "eta": 0.0}
    variants = [few, {**few, "step_cache": "first-block:0.9"}]
    found = {f.name: f for f in bench.run("sampling", against=few, variants=variants, num_videos=2)}
    plain, cached = "sampling.eta=0.0,num_inference_steps=6", "sampling.eta=0.0,num_inference_steps=6,step_cache=first"
    cached += "-block:0.9"
    assert found[f"{plain}.psnr_db"].value == 100, "the same settings give the same videos"
    assert 5 < found[f"{cached}.psnr_db"].value < 60
    assert found[f"{plain}.skipped"].value == 0
    assert 0.2 < found[f"{cached}.skipped"].value < 0.95
    assert {f"{cached}.{key}" for key in ("motion", "species", "seconds")} <= found.keys()
    assert [seeds for _, _, seeds, *_ in drawn] == [[0, 1], [0, 1], [0], [1]], "a first-block cache draws one at a time"
    drawn.clear()
    squat = Path(__file__).resolve().parents[2] / "assets/adapters/squat.safetensors"
    base = {"num_inference_steps": 2, "strength": 0.0}
    until = {"num_inference_steps": 2, "adapter_until": 0.0}
    found = {
        f.name: f for f in bench.run("sampling", seeds=[3], adapter=squat, against=base, variants=[until], num_videos=2)
    }
    assert found["sampling.adapter_until=0.0,num_inference_steps=2.psnr_db"].value == 100, "both are the base"
    assert all(method is not None and "squats, " in text for method, texts, *_ in drawn for text in texts)
    assert drawn[0][2] == [3 * 1_000_003, 3 * 1_000_003 + 1]
    assert "person" not in " ".join(text for _, texts, *_ in drawn for text in texts)
    for wrong, says in (
        ({"variants": []}, "variants must be a list of settings"),
        ({"variants": [{"etaa": 1}]}, "Sampling has no setting 'etaa': did you mean 'eta'"),
        ({"variants": [{"step_cache": "x"}]}, "a step cache is"),
        ({"variants": [few], "num_videos": 0}, "num_videos must be a whole number, at least 1, got 0"),
    ):
        with pytest.raises(ConfigError, match=says):
            list(bench.run("sampling", **wrong))
    with pytest.raises(ConfigError, match="leave --motions out"):
        list(bench.run("sampling", motions=["squat"], variants=[few]))
