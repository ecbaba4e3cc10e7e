"""The whole way with nothing replaced: app.py, a real Chromium, the real backbone, to the video of a new subject."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from synmotion_core.adapters.file import read_info
from synmotion_core.backbones import find_spec
from synmotion_core.clips import video
from synmotion_core.clips.image import load_image
from synmotion_core.evaluation.figures import decibels
from tests.hub_server import HubServer
from tests.ui.test_page import tab, unfolded

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 900_000  # milliseconds: 48 subject priors and a training, on a machine that may be busy


@pytest.fixture
def studio(tmp_path: Path, hub: HubServer) -> Iterator[tuple[str, Path]]:
    """`python app.py` as a user starts it who is Ann on the Hub, on a free port and in a workspace of its own."""
    home = tmp_path / "home"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = dict(os.environ)
    if "PYTEST_XDIST_WORKER" not in environment:  # as a user: all cores; threads that wait for a core are far slower
        environment.pop("OMP_NUM_THREADS", None)
    environment["HF_TOKEN"] = "hf_ann_write"
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


def field(page: Page, name: str) -> Locator:
    return page.locator(f"{name} textarea, {name} input").first


def choose(page: Page, name: str, begins: str) -> None:
    """One of a list that opens."""
    page.locator(f"{name} input").click()
    page.locator("[role=option]").filter(has_text=re.compile(rf"^\W*{begins}")).first.click()


def drawn(page: Page, home: Path) -> list[Path]:
    """The videos that pressing Generate adds."""
    before = set((home / "videos").rglob("*.mp4"))
    page.locator("#gen-start").click()
    page.locator('#gen-status [data-status="queued"], #gen-status [data-status="running"]').first.wait_for()
    page.locator('#gen-status [data-status="finished"]').wait_for(timeout=PATIENCE)
    return sorted(set((home / "videos").rglob("*.mp4")) - before)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_way(studio: tuple[str, Path], chromium: Browser, hub: HubServer) -> None:
    """Examples, doctor, training, reload, stop, resume, a grid, first pictures, a blend, the Hub and back: no error on
    the way, and the adapter that comes back draws the same video."""
    url, home = studio
    page = chromium.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(60_000)
    problems: list[str] = []
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(url)
    page.locator("#example-1").click()
    expect(page.locator("#clips-grid .sm-card")).to_have_count(12, timeout=120_000)
    expect(page.locator("#clips-summary")).to_contain_text("doctor", ignore_case=True)

    tab(page, "2 · Train")
    expect(page.locator("#train-plan")).to_contain_text("12 clips to encode", timeout=120_000)
    page.locator("#train-steps input").fill("40")
    page.locator("#train-sample-every input").fill("40")
    page.locator("#train-subjects textarea").fill("a red cat")
    page.locator("#train-start").click()
    # not before the job is there: a reload that overtakes the request would leave nothing to outlive the page
    page.locator('#train-status [data-status]:not([data-status="none"])').wait_for(timeout=120_000)
    assert not problems
    page.reload()  # the job outlives the page
    page.locator("#clips-grid .sm-card").first.wait_for(state="attached")
    problems.clear()  # what the leaving page was asking for was broken off
    tab(page, "2 · Train")
    expect(page.locator("#train-status")).to_contain_text(re.compile(r"\b[1-9]\d? of 40"), timeout=PATIENCE)
    page.locator("#train-stop").click()
    page.locator('#train-status [data-status="stopped"]').wait_for(timeout=120_000)
    assert not list((home / "adapters").glob("*.safetensors"))
    page.locator("#train-resume").click()
    page.locator('#train-status [data-status="finished"]').wait_for(timeout=PATIENCE)
    (adapter,) = (home / "adapters").glob("*.safetensors")
    info = read_info(adapter)
    assert (info.method, info.steps, info.clips) == ("synmotion", 40, 12)

    page.locator("#train-use").click()
    expect(page.locator("#gen-about")).to_contain_text("learnt from 12 clips", timeout=60_000)
    page.locator("#gen-subjects textarea").fill("a blue robot")
    field(page, "#gen-seeds").fill("3")
    made = drawn(page, home)
    expect(page.locator("#gen-results video")).to_have_count(2)  # the base and the adapter
    page.wait_for_function(
        "[...document.querySelectorAll('#gen-results video')]"
        ".every(v => v.readyState >= 2 && v.videoWidth === 64 && !v.error)",
        timeout=60_000,
    )
    page.wait_for_function("document.querySelector('#gen-results video').currentTime > 0.2", timeout=60_000)
    assert len(made) == 2
    (robot,) = [path for path in made if not path.stem.endswith("-base")]

    page.locator("#gen-compare input").uncheck()
    page.locator("#gen-subjects textarea").fill("a blue robot\na red cat")
    field(page, "#gen-seeds").fill("3, 4")
    grid = drawn(page, home)
    assert len(grid) == 4
    expect(page.locator("#gen-results video")).to_have_count(4, timeout=60_000)

    page.locator("#gen-blend button.label-wrap").click()
    unfolded(page, "#gen-blend-adapter")
    choose(page, "#gen-blend-adapter", "spin")
    blend = drawn(page, home)
    assert len(blend) == 4
    choose(page, "#gen-blend-adapter", "none")

    page.locator("#gen-begin button").first.click()
    page.locator("#gen-ready").click()
    expect(page.locator("#gen-pictures figure")).to_have_count(4, timeout=60_000)
    begun = drawn(page, home)
    assert len(begun) == 8
    red_cat = next(path for path in begun if "red-cat" in path.name)
    first = video.read(red_cat)[0][0]
    picture = load_image(ROOT / "assets" / "pictures" / "red-cat.png", find_spec("puppet-hunyuan").default_shape)[0][0]
    assert decibels(first.astype(float) - picture) > 25  # the autoencoder's and the file's own losses
    page.locator("#gen-none").click()
    for path in (*made, *grid, *blend, *begun):
        facts = video.probe(path)
        assert (facts.num_frames, facts.width, facts.height, facts.fps, facts.codec) == (17, 64, 64, 8, "h264")

    tab(page, "5 · Library")
    choose(page, "#library-adapter", r"squats \(trained here")
    page.get_by_text("Share the adapter on the left").click()
    unfolded(page, "#share-prepare")
    field(page, "#share-repo").fill("ann/journey")
    page.locator("#share-prepare").click()
    expect(page.locator("#share-files")).to_contain_text("To ann/journey, only you will see it")
    page.locator("#share-send").click()
    expect(page.locator("#hub-status")).to_contain_text("files are at", timeout=120_000)
    assert hub.repos["ann/journey"].private
    field(page, "#hub-repo").fill("ann/journey")
    page.locator("#hub-look").click()
    expect(page.locator("#hub-seen")).to_contain_text("ann/journey")
    field(page, "#hub-name").fill("came-back")
    page.locator("#hub-fetch").click()
    expect(page.locator("#hub-status")).to_contain_text("came-back is here", timeout=120_000)
    assert (home / "adapters" / "came-back.safetensors").read_bytes() == adapter.read_bytes()
    page.locator("#library-use").click()
    expect(page.locator("#gen-adapter input")).to_have_value(re.compile("came-back"))
    page.locator("#gen-subjects textarea").fill("a blue robot")
    field(page, "#gen-seeds").fill("3")
    (again,) = drawn(page, home)
    assert (video.read(again)[0] == video.read(robot)[0]).all()
    assert not problems
    page.context.close()
    assert b"hf_ann_write" not in b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
