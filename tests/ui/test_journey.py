"""The whole way with nothing replaced: app.py, a real Chromium, the real backbone, to the video of a new subject."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from synmotion_core.adapters.file import read_info
from synmotion_core.backbones import find_spec
from synmotion_core.clips import video
from synmotion_core.clips.image import load_image
from synmotion_core.evaluation.figures import decibels

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 900_000  # milliseconds: 48 subject priors and a training, on a machine that may be busy


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """`python app.py` as a user starts it, on a free port and in a workspace of its own."""
    home = tmp_path / "home"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}  # as a user: all cores
    with (tmp_path / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port), "--home", str(home)],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
        )
        url = f"http://127.0.0.1:{port}/"
        try:
            for _ in range(240):
                try:
                    with urllib.request.urlopen(url, timeout=5) as answer:
                        assert answer.status == 200
                    break
                except OSError:
                    assert process.poll() is None, (tmp_path / "log.txt").read_text()
                    time.sleep(0.5)
            else:
                pytest.fail("the page did not answer within two minutes: " + (tmp_path / "log.txt").read_text())
            yield url, home
        finally:
            process.terminate()
            process.wait(60)


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_from_examples_to_a_new_subject(studio: tuple[str, Path], chromium: Browser) -> None:
    url, home = studio
    page = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(60_000)
    page.goto(url)
    page.locator("#example-1").click()
    expect(page.locator("#clips-grid .sm-card")).to_have_count(12, timeout=120_000)
    tab(page, "2 · Train")
    expect(page.locator("#train-plan")).to_contain_text("12 clips to encode", timeout=120_000)
    page.locator("#train-steps input").fill("6")
    page.locator("#train-sample-every input").fill("6")
    page.locator("#train-subjects textarea").fill("a red cat")
    page.locator("#train-start").click()
    # not before the job is there: a reload that overtakes the request would leave nothing to outlive the page
    page.locator('#train-status [data-status]:not([data-status="none"])').wait_for(timeout=120_000)
    page.reload()  # the job outlives the page
    tab(page, "2 · Train")
    page.locator('#train-status [data-status="finished"]').wait_for(timeout=PATIENCE)
    (adapter,) = (home / "adapters").glob("*.safetensors")
    info = read_info(adapter)
    assert (info.method, info.steps, info.clips) == ("synmotion", 6, 12)

    page.locator("#train-use").click()
    expect(page.locator("#gen-about")).to_contain_text("learnt from 12 clips", timeout=60_000)
    page.locator("#gen-subjects textarea").fill("a blue robot")
    page.locator("#gen-seeds input, #gen-seeds textarea").fill("3")
    page.locator("#gen-start").click()
    page.locator('#gen-status [data-status="finished"]').wait_for(timeout=PATIENCE)
    films = page.locator("#gen-results video")
    expect(films).to_have_count(2)  # the base and the adapter
    page.wait_for_function(
        "[...document.querySelectorAll('#gen-results video')]"
        ".every(v => v.readyState >= 2 && v.videoWidth === 64 && !v.error)",
        timeout=60_000,
    )
    page.wait_for_function("document.querySelector('#gen-results video').currentTime > 0.2", timeout=60_000)
    made = sorted((home / "videos").rglob("*.mp4"))
    assert len(made) == 2

    page.locator("#gen-begin button").first.click()
    page.locator("#gen-ready").click()
    expect(page.locator("#gen-pictures figure")).to_have_count(4, timeout=60_000)
    page.locator("#gen-compare input").uncheck()
    page.locator("#gen-start").click()
    page.locator('#gen-status [data-status="finished"]').wait_for(timeout=PATIENCE)
    expect(page.locator("#gen-results video")).to_have_count(4, timeout=60_000)
    made = sorted((home / "videos").rglob("*.mp4"))
    assert len(made) == 6
    red_cat = next(path for path in made if "red-cat" in path.name)
    first = video.read(red_cat)[0][0]
    picture = load_image(ROOT / "assets" / "pictures" / "red-cat.png", find_spec("puppet-hunyuan").default_shape)[0][0]
    assert decibels(first.astype(float) - picture) > 25  # the autoencoder's and the file's own losses
    for path in made:
        facts = video.probe(path)
        assert (facts.num_frames, facts.width, facts.height, facts.fps, facts.codec) == (17, 64, 64, 8, "h264")
    page.context.close()
