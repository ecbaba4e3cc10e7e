"""A job on the page: numbers, results, the plot."""

from __future__ import annotations

import dataclasses
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synmotion_core.config import GenerateRun
from synmotion_core.errors import MissingError
from synmotion_core.types import Prompt, Sampled, Scored
from synmotion_core.ui import (
    adapters,
    generate,
    media,
    progress,
    score_plot,
    training_view,
)
from synmotion_core.workspace import Workspace
from tests.ui.studio import draw, view, write_adapter


def test_a_running_job_in_numbers() -> None:
    html = progress.status(view())
    for words in (
        "Training: 25 of 100",
        "1.2 s a step",
        "about 1 min 30 s left",
        "1.2 GiB of memory",
        "loss 0.2500",
        "width:25.0%",
    ):
        assert words in html
    sampling = progress.status(view(stage="generate", step=5, total=20))
    assert "Drawing samples at step 25: 5 of 20" in sampling
    assert "width:25.0%" in sampling, "samples do not move the bar back"


def test_a_fetch_in_gib() -> None:
    config = dataclasses.replace(view().config, backbone="wan2.1-t2v-1.3b")
    far = {"stage": "fetch", "total": 27 * 2**30, "seconds_per_step": 2.0, "losses": (), "config": config}
    html = progress.status(view(**far, step=9 * 2**30, eta_s=576.0))
    assert "Fetching wan2.1-t2v-1.3b: 9.0 of 27.0 GiB" in html
    assert "32.0 MiB a second · about 9 min 36 s left" in html
    assert "width:33.3%" in html
    assert "a step" not in html, "of bytes that would be 0.0 s"
    done = progress.status(view(**far, step=27 * 2**30, eta_s=0.0))
    assert "Loading the backbone" in done
    assert "left" not in done


@pytest.mark.parametrize("word", ["queued", "running", "stopping", "stopped", "failed", "interrupted", "finished"])
def test_every_status_has_words_and_an_outcome(word: Any) -> None:
    assert f'data-status="{word}"' in progress.status(view(status=word))
    assert f'data-status="{word}"' in progress.status(view(status=word, stage="", step=0, total=0, losses=()))
    area = media.html_area(elem_id="x")
    outcome = training_view.outcome_html(area, view(status=word, checkpoint_step=20, warnings=("a <b>",)))
    assert ("from step 20" in outcome) == (word in ("stopped", "failed", "interrupted"))
    assert "a &lt;b&gt;" in outcome


def test_a_missing_file_keeps_its_place(tmp_path: Path) -> None:
    area = media.html_area(elem_id="x")
    gone = Sampled(path=tmp_path / "gone.mp4", prompt=Prompt(subject="a cat", motion="claps"), seed=0, step=10)
    html = training_view.samples_html(area, view(samples=(gone,)))
    assert html.count("no longer there") == 2
    assert "Step 10" in html


def test_the_reference_is_shown_as_the_backbone_sees_it(tmp_path: Path) -> None:
    area = media.html_area(elem_id="x")
    draw(tmp_path / "seen.mp4")
    sample = Sampled(path=tmp_path / "gone.mp4", prompt=Prompt(subject="a cat", motion="claps"), seed=0, step=10)
    words = "As the backbone sees it"
    assert words in training_view.samples_html(area, view(samples=(sample,), seen=tmp_path / "seen.mp4"))
    assert words not in training_view.samples_html(area, view(samples=(sample,), seen=tmp_path / "gone.mp4"))
    assert words not in training_view.samples_html(area, view(samples=(sample,)))


def test_results_keep_base_left_and_adapter_right(tmp_path: Path) -> None:
    area = media.html_area(elem_id="x")
    draw(tmp_path / "a.mp4")
    prompt = Prompt(subject="a cat", motion="claps")
    run = GenerateRun(subjects=("a cat",), motion="claps", adapter=tmp_path / "x.safetensors", compare=True)
    made = Sampled(path=tmp_path / "a.mp4", prompt=prompt, seed=0, adapted=True)
    html = generate.results_html(area, view(kind="generate", config=run, samples=(made,)))
    assert re.findall("<figcaption><b>(.*?)</b>", html) == ["Backbone alone", "With the adapter"]
    assert html.index("being drawn") < html.index("<video")
    alone = GenerateRun(subjects=("a cat",), motion="claps")
    html = generate.results_html(
        area, view(kind="generate", config=alone, samples=(dataclasses.replace(made, adapted=False),))
    )
    assert html.count("<video") == 1
    assert "no adapter" in html


def test_adapters_are_found_and_bad_ones_named(workspace: Workspace, assets: Path) -> None:
    write_adapter(workspace.adapters / "mine.safetensors", subject="a person", motion="spins", steps=5, clips=3)
    (workspace.adapters / "torn.safetensors").write_bytes(b"\x08")
    if sys.platform != "win32":  # where a link needs a right
        (workspace.adapters / "dangling.safetensors").symlink_to(workspace.root / "gone")
    found, problems = adapters.find_adapters(workspace, assets)
    assert [c.id for c in found] == ["ready/clap.safetensors", "mine/mine.safetensors"]
    assert found[1].label == "mine: spins (trained here)"
    bad = ["torn.safetensors"] if sys.platform == "win32" else ["torn.safetensors", "dangling.safetensors"]
    assert len(problems) == len(bad)
    assert all(one in " ".join(problems) for one in bad)
    for wanted in ("mine/../x", "mine/torn.safetensors", "/etc/passwd", "ready/mine.safetensors"):
        with pytest.raises(MissingError, match="choose another"):
            adapters.find_adapter(workspace, wanted, assets)


def test_scores_are_drawn_and_only_where_there_are_some() -> None:
    assert score_plot.score_plot((), 100, 0) == ""
    assert "appears here" in score_plot.score_plot((), 100, 10)
    rows = [
        Scored(step=step, by="fidelity", score=score, best=best, values={"fidelity": score, "<b>": 1.0})
        for step, score, best in ((10, -0.1, True), (20, 0.3, True), (30, 0.2, False))
    ]
    html = score_plot.score_plot(rows, 30, 10)
    assert "motion fidelity above its floor" in html
    assert "best 0.300 at step 20, last 0.200 at step 30" in html
    assert re.findall(r'sm-dot( sm-best)?" data-step="(\d+)"', html) == [("", "10"), (" sm-best", "20"), ("", "30")]
    assert "<b>" not in html
    assert "left:100.00%" in html
    assert "<svg" in score_plot.score_plot(rows[:1], 1, 10)
    scoring = progress.status(view(stage="score", step=5, total=20))
    assert "Drawing videos to score at step 25: 5 of 20" in scoring
    assert "width:25.0%" in scoring


def test_a_plot_needs_two_losses_and_survives_odd_ones() -> None:
    assert "<svg" not in progress.loss_plot((), 100)
    assert "<svg" not in progress.loss_plot(((1, 0.5),), 100)
    html = progress.loss_plot(((1, 0.5), (2, math.nan), (3, 0.4), (4, math.inf)), 100)
    assert "2 steps without a finite loss" in html
    assert "nan" not in html.split("<svg")[1]
    assert "Loss 0.4000 at step 3" in html
    flat = progress.loss_plot(((1, 0.5), (2, 0.5)), 2)
    assert "nan" not in flat
    assert "inf" not in flat


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=900))
def test_thinning_keeps_the_end_and_the_range(values: list[float]) -> None:
    points = list(enumerate(values, start=1))
    thin = progress.thinned(points)
    assert len(thin) <= progress.POINTS
    assert thin[-1] == (float(len(values)), values[-1])
    assert [s for s, _ in thin] == sorted(s for s, _ in thin)
    assert min(values) - 1e-6 <= min(v for _, v in thin)
    assert max(v for _, v in thin) <= max(values) + 1e-6


def test_smoothing_starts_at_the_first_value_and_follows() -> None:
    smooth = progress.smoothed([(i, 1.0 if i < 50 else 0.0) for i in range(1, 101)])
    assert smooth[0] == (1, 1.0)
    assert smooth[48][1] == pytest.approx(1.0)
    assert smooth[-1][1] < 0.02


def test_a_filmstrip_is_true_in_time() -> None:
    import base64

    import cv2

    frames = np.zeros((4, 60, 60, 3), np.uint8)
    frames[0], frames[3] = (255, 0, 0), (0, 0, 255)
    data = base64.b64decode(media.film(frames, [0.0, 4.0, 4.1, 4.2], 8.0).partition(",")[2])
    image = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert image.shape == (media.FILM_HEIGHT, 8 * media.FILM_HEIGHT, 3)
    middles = image[36, 36::72]
    assert (middles[:4, 0] > 200).all(), "what stays longest takes most room"
    assert (middles[4:, 2] > 200).all()
    wide = base64.b64decode(media.film(np.zeros((2, 36, 72, 3), np.uint8), [0.0, 1.0], 2.0).partition(",")[2])
    assert cv2.imdecode(np.frombuffer(wide, np.uint8), cv2.IMREAD_COLOR).shape == (72, 4 * 144, 3)
