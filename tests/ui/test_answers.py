"""Answers arrive although the end of the event stream is read after the next press was answered."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from starlette.middleware import Middleware

from synmotion_core.workspace import Workspace
from tests.ui.test_page import SLOW, rested, tab


class LateEnds:
    """A way on which the end of a stream takes longer than the next press and its answer."""

    held = 0  # ends that were read after the answer of the next press

    def __init__(self, app: Any) -> None:
        self.app, self.joined = app, asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = str(scope.get("path", ""))

        async def late(message: Any) -> None:
            if b'"close_stream"' in message.get("body", b""):
                self.joined.clear()
                try:
                    await asyncio.wait_for(self.joined.wait(), 4)
                    LateEnds.held += 1
                    await asyncio.sleep(0.5)  # the browser has read the answer of the press
                except TimeoutError:  # nobody pressed anything
                    pass
            await send(message)

        async def noting(message: Any) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                self.joined.set()

        own = late if path.endswith("/queue/data") else noting if path.endswith("/queue/join") else send
        await self.app(scope, receive, own)


@pytest.fixture
def late_url(tmp_path: Path, assets: Path) -> Iterator[str]:
    from synmotion_core.ui import Desks, build, launch_options

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Desks(Workspace(tmp_path / "workspace"), assets=assets) as desks:
        page, options = build(desks), {**launch_options(), "app_kwargs": {"middleware": [Middleware(LateEnds)]}}
        page.launch(server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, quiet=True, **options)
        yield f"http://127.0.0.1:{port}/"
        page.close()


def test_an_answer_whose_stream_was_just_ended_arrives(chromium: Browser, late_url: str) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.goto(late_url)
    page.locator("#example-0").wait_for(timeout=SLOW)
    tab(page, "3 · Generate")
    page.get_by_text("The same as this command").last.click()
    expect(page.locator("#gen-command")).to_be_visible(timeout=SLOW)
    rested(page)
    before = LateEnds.held
    for number in range(3, 20):
        page.locator("#gen-seeds input, #gen-seeds textarea").first.fill(str(number))
        expect(page.locator("#gen-command")).to_contain_text(f"--seed {number} ", timeout=SLOW)
        if LateEnds.held - before >= 2:
            break
    else:
        pytest.fail("no press came before the end of a stream was read")
    context.close()
