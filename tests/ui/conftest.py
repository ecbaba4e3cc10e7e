"""The page's fixtures: an assets folder, a running studio, the system's Chromium, a page that fails on errors."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from synmotion_core.puppets.examples import write_pictures
from synmotion_core.ui.chosen import Library
from synmotion_core.ui.pictures import Pictures
from synmotion_core.workspace import Workspace
from tests.ui.studio import CLIPS_A_SET, EVIL, SETS, PuppetRunner, Site, draw, write_adapter

CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


expect.set_options(timeout=30_000)  # the default of 5 s is short where other tests run beside


@pytest.fixture
def library(workspace: Workspace, assets: Path) -> Library:
    return Library(workspace, assets)


@pytest.fixture
def pictures(workspace: Workspace, assets: Path) -> Pictures:
    return Pictures(workspace, assets)


@pytest.fixture(scope="session")
def assets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An assets folder with two example sets of three clips and one ready adapter whose words try to be HTML."""
    root = tmp_path_factory.mktemp("assets")
    rows = []
    for name, verb in SETS:
        for seed in range(CLIPS_A_SET):
            file = f"{name}/{name}-{seed}.mp4"
            draw(root / "clips" / file, motion=name, seed=seed)
            rows.append({"file": file, "subject": "a person", "motion": verb})
    (root / "clips" / "index.json").write_text(json.dumps({"clips": rows}), encoding="utf-8")
    write_pictures(root / "pictures")
    write_adapter(root / "adapters" / "clap.safetensors", subject="a person", motion=EVIL, steps=300, clips=12)
    return root


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, assets: Path) -> Iterator[Site]:
    """The real page over a real workspace and real jobs; one for the session, since starting takes seconds."""
    from synmotion_core.ui import Desks, build, launch_options

    workspace, runner = Workspace(tmp_path_factory.mktemp("home") / "workspace"), PuppetRunner()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    runners: Any = {"train": runner.train, "generate": runner.generate}
    with Desks(workspace, runners=runners, assets=assets) as desks:
        page = build(desks)
        page.launch(server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True, **launch_options())
        yield Site(
            url=f"http://127.0.0.1:{port}/", workspace=workspace, jobs=desks.here().jobs, runner=runner, assets=assets
        )
        page.close()


@pytest.fixture(autouse=True)
def _as_new(request: pytest.FixtureRequest) -> None:
    """What the session's tests share holds nothing of another test, whichever ran before in this process."""
    if "site" not in request.fixturenames:
        return
    site: Site = request.getfixturevalue("site")
    for view in site.jobs.list():
        site.jobs.stop(view.id)
        site.jobs.wait(view.id, 60)
        site.jobs.delete(view.id)
    workspace = site.workspace
    for folder in (workspace.adapters, workspace.clips, workspace.datasets, workspace.pictures, workspace.results):
        shutil.rmtree(folder)
    (workspace.root / "remote.json").unlink(missing_ok=True)
    vars(site.runner).update(vars(PuppetRunner()))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The system's Chromium (tests/system.sh installs one)."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    assert path, "no Chromium on this machine: run tests/system.sh"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser, site: Site) -> Iterator[Any]:
    """open_page(width=…, height=…, scheme=…) -> a loaded page of a browser that remembers nothing yet.

    Fails at the end if a page logged an error, raised, or asked for anything outside the studio.
    """
    contexts, problems = [], []
    leaving = (
        "AbortError: signal is aborted",
        "Connection errored out",
    )  # what Gradio logs when a reload cuts it short

    def open_it(width: int = 1280, height: int = 900, scheme: Any = "light") -> Page:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on(
            "console", lambda m: problems.append(m.text) if m.type == "error" and not _any(leaving, m.text) else None
        )
        page.on("pageerror", lambda error: problems.append(str(error)))
        own = (site.url, "data:", "blob:", "about:")
        page.on("request", lambda r: problems.append(f"asked for {r.url}") if not r.url.startswith(own) else None)
        page.goto(site.url)
        page.locator("#clips-grid").wait_for()
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert not problems, problems


def _any(pieces: tuple[str, ...], text: str) -> bool:
    return any(piece in text for piece in pieces)
