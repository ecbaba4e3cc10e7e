"""The plan in words: memory against this machine, the disk, the time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synmotion_core.backbones import SPECS
from synmotion_core.config import GenerateRun, TrainRun, to_dict
from synmotion_core.errors import MissingError, ShapeError
from synmotion_core.evaluation.bench_memory import real_rows
from synmotion_core.planning import downloads, machine
from synmotion_core.planning.ladder import ladder
from synmotion_core.planning.report import generation_line, plan
from synmotion_core.precision import Precision
from tests.planning.test_ladder import CLIPS, NAME, generation, training

GB = 1e9


def text(run: TrainRun, **more: Any) -> str:
    made = plan(run, **more)
    return "\n".join([*made.lines, *made.ways])


def test_what_fits_is_said_and_nothing_more_than_is_needed_is_changed() -> None:
    asked = training()
    for card in (60, 48, 24, 16):
        ways = plan(asked, fit_gib=card).ways
        fits = [rung for rung in ladder(asked) if rung.needs.peak <= card]
        assert ways[-1] == f"the last of these is the first that fits {card} GiB"
        assert " ".join(fits[0].options) in ways[-2]
    assert plan(asked, fit_gib=1000, seconds_per_step=1.0).ways == ("fits 1000 GiB as it is",)
    assert plan(asked, fit_gib=1000).ways[0].startswith("to know the time before: plan --probe")
    assert not any("--" in line for line in plan(asked).lines), "the page shows these, and has no options"
    assert plan(asked, fit_gib=1).ways[-1].startswith("nothing here fits 1 GiB")
    made = plan(asked)
    assert [rung.gib for rung in made.rungs] == sorted((rung.gib for rung in made.rungs), reverse=True)
    assert to_dict(made)["rungs"][0]["changes"] == {"precision.gradient_checkpointing": True}
    assert plan(TrainRun(name="x", clips=CLIPS)).rungs == (), "small enough for any"


def test_main_memory_is_held_against_what_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for here, words in ((64.0, "64 are here"), (16.0, "16 are here: too little")):
        monkeypatch.setattr(machine, "main_gib", lambda here=here: here)
        assert words in text(training())


def test_every_large_row_says_how_it_is_stored() -> None:
    assert set(downloads._STORED) == set(real_rows())


# sums of what the repositories are known to hold, in bytes (Wan's last two to the byte)
@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("hunyuanvideo", 39.0 * 2**30),
        ("wan2.1-i2v-14b", 83.89 * 2**30),
        ("wan2.2-ti2v-5b", 34.20 * GB),
        ("wan2.2-t2v-a14b", 126_200_628_126),
        ("wan2.2-i2v-a14b", 126_204_155_463),
    ],
)
def test_sizes_on_the_disk_are_those_published(name: str, known: float) -> None:
    assert sum(downloads.stored_bytes(SPECS[name]).values()) == pytest.approx(known, rel=2e-3)
    assert set(downloads.stored_bytes(SPECS[name])) == set(SPECS[name].parameters)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hub cache of the test's own; its snapshot of NAME, in which files can be put."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    spec = SPECS[NAME]
    return tmp_path / f"models--{spec.repo.replace('/', '--')}" / "snapshots" / str(spec.revision)


def put(path: Path, size: float) -> None:
    """A file of so many bytes which takes none, linked as the Hub does."""
    blob = path.with_suffix(".blob")
    blob.parent.mkdir(parents=True, exist_ok=True)
    with blob.open("wb") as file:
        file.truncate(int(size))
    path.symlink_to(blob)


def test_what_is_in_the_cache_is_not_fetched_again(hub: Path) -> None:
    spec = SPECS[NAME]
    stored = downloads.stored_bytes(spec)

    def missing() -> float:
        found = downloads.disk(spec)
        assert found is not None
        assert found.free > 0
        return found.missing

    assert missing() == sum(stored.values())
    assert "none of it here yet" in text(training())
    put(hub / "model_index.json", 500)
    assert missing() == sum(stored.values()), "names alone"
    put(hub / "vae" / "diffusion_pytorch_model.safetensors", stored["vae"] + 20_000)
    assert missing() == pytest.approx(sum(stored.values()) - stored["vae"])
    put(hub / "transformer" / "a-00001.safetensors", stored["transformer"] / 2)
    assert missing() == pytest.approx(sum(stored.values()) - stored["vae"] - stored["transformer"] / 2)
    assert "of which" in text(training())
    put(hub / "transformer" / "a-00002.safetensors", stored["transformer"] / 2)
    for part in ("text_encoder", "text_encoder_2"):
        put(hub / part / "model.safetensors", stored[part])
    assert missing() == 0
    assert "all here" in text(training())
    (hub / "vae" / "diffusion_pytorch_model.blob").unlink()
    assert missing() == stored["vae"], "a link to nothing is no file"


def test_what_ships_is_not_fetched() -> None:
    assert downloads.disk(SPECS["puppet-hunyuan"]) is None
    assert "disk" not in text(TrainRun(name="x", clips=CLIPS))


def test_a_disk_that_is_too_small_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    small = downloads.Disk(stored=40 * 2**30, missing=40 * 2**30, free=3 * 2**30)
    monkeypatch.setattr(downloads, "disk", lambda spec: small)
    assert "40.0 GiB to fetch, 3 are free: too little" in text(training())


def test_the_card_is_what_is_free_and_what_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if not torch.cuda.is_available():
        assert machine.card_gib() is None
        with pytest.raises(MissingError, match="--fit finds no CUDA GPU here"):
            machine.required_card_gib()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (20 * 2**30, 24 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 2 * 2**30)
    assert machine.required_card_gib() == 22
    said = generation_line(generation(), None)
    assert "more than the 22.0 that are free here" in said
    small = Precision(weights="4bit", text_weights="4bit", vae_tiling=True)
    assert "more than" not in generation_line(generation(precision=small), None)


def test_a_generation_in_one_line() -> None:
    puppets = GenerateRun(subjects=("a cat", "a bear"), motion="waves", seeds=(0, 1), compare=True)
    assert generation_line(puppets, 2.0) == "8 videos of 17 frames, about 2.0 s a video"
    assert "about 0.9 s a video on two server cores" in generation_line(puppets, None)
    large = generation_line(generation(num_frames=9), None)
    assert large.startswith("1 video of 9 frames, the time is not known before the first one here, about ")
    assert "GiB of GPU memory" in large
    assert "39.0 GiB to fetch first" in large
    with pytest.raises(ShapeError, match="use 9 or 13"):
        generation_line(generation(num_frames=10), None)
