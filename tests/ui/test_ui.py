"""How the page is built and served."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from synmotion_core.ui import (
    context,
    launch_options,
    theme,
)
from synmotion_core.workspace import Workspace, weights_place
from tests.ui.studio import run_apart

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_built_without_a_model_library(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "import app\n"
        "from synmotion_core.ui import Desks, build, launch_options\n"
        "from synmotion_core.workspace import Workspace\n"
        f"build(Desks(Workspace(Path({str(tmp_path)!r})))); launch_options()\n"
        "print(sorted({'torch', 'diffusers', 'transformers', 'peft', 'accelerate', 'moviepy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


def test_gradio_does_not_write_its_stubs_anew_at_each_start(tmp_path: Path) -> None:
    """It would parse and write its own source for each component: half of the time that its import takes."""
    code = (
        "import ast, sys\n"
        "parsed, parse = [], ast.parse\n"
        "ast.parse = lambda *a, **k: (parsed.append(a), parse(*a, **k))[1]\n"
        "import app\n"
        "assert 'gradio' not in sys.modules\n"
        "from synmotion_core import slices\n"
        "slices.runners_here = sys.exit\n"
        f"sys.argv = ['app.py', '--home', {str(tmp_path)!r}]\n"
        "try: app.main()\n"
        "except SystemExit: pass\n"
        "import gradio\n"
        "assert gradio.Button.click and gradio.component_meta.ComponentMeta is type(gradio.Button)\n"
        "print(sum('\\nclass ' in a[0] for a in parsed), [f for f in sys.meta_path if f.__class__.__module__ == 'app'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "0 []"


def test_nothing_is_published_and_nothing_is_fetched_from_elsewhere() -> None:
    options = launch_options()
    assert options["allowed_paths"] == []
    assert "share" not in options
    assert "server_name" not in options, "app.py decides where to listen"
    assert "http" not in theme.CSS
    assert not theme.theme()._stylesheets


def test_of_the_handlers_only_the_endpoints_for_programs_are_public(workspace: Workspace, assets: Path) -> None:
    from synmotion_core.ui import Desks, build

    page: Any = build(Desks(workspace, assets=assets))
    handlers = [fn for fn in page.fns.values() if fn.fn is not None]
    assert len(handlers) > 20
    assert {fn.api_visibility for fn in handlers} == {"private", "public"}
    public = {fn.api_name for fn in handlers if fn.api_visibility == "public"}
    assert public == {"adapters", "generate", "train", "job", "stop"}


def test_no_event_is_summed_up_for_a_dashboard(workspace: Workspace, assets: Path) -> None:
    """Gradio's own would cost a core 2 to 20 ms for each, of which a page that follows a job sends one a second."""
    from synmotion_core.ui import Desks, build

    page: Any = build(Desks(workspace, assets=assets))
    page._queue.events_recorded += 1
    event = {"function": "job", "status": "success", "process_time": 0.1, "time": 0.0, "session_hash": "a"}
    assert page._queue.compute_analytics_summary([event]) == {"functions": {}}
    assert page._queue.ANALYTICS_MAX_EVENTS == 1


def test_a_studio_that_nobody_asks_is_idle(workspace: Workspace, assets: Path) -> None:
    """Gradio's own queue looks for events each millisecond, which takes 7 % of a core from a training."""
    from synmotion_core.ui import Desks, build

    queue: Any = build(Desks(workspace, assets=assets))._queue
    looks: list[None] = []

    class Counted(type(queue)):  # of this one alone: another studio may run in this process
        def __len__(self) -> int:
            looks.append(None)
            return 0

    queue.__class__ = Counted

    async def wait() -> None:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(queue.start_processing(), 1.0)

    run_apart(wait())
    assert 2 <= len(looks) <= 60


@pytest.mark.parametrize(("space", "host"), [(None, "127.0.0.1"), ("someone/studio", "0.0.0.0")])
def test_the_app_listens_on_this_computer_only(
    space: str | None, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    app = importlib.import_module("app")
    launched: dict[str, Any] = {}
    monkeypatch.setattr(gr.Blocks, "launch", lambda self, **options: launched.update(options))
    monkeypatch.setenv("SYNMOTION_HOME", "elsewhere")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    monkeypatch.setattr(sys, "argv", ["app.py", "--port", "7999", "--home", str(tmp_path / "home")])
    monkeypatch.delenv("SPACE_ID", raising=False)
    if space:
        monkeypatch.setenv("SPACE_ID", space)
    app.main()
    assert (launched["server_name"], launched["server_port"]) == (host, 7999)
    assert launched["allowed_paths"] == []
    assert weights_place("a").parent == tmp_path / "home" / "weights", "one home for all that asks for it"
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "argv", ["app.py", "--home", str(tmp_path / "file" / "home")])
    with pytest.raises(SystemExit) as left:
        app.main()
    assert left.value.code == 2


def test_a_port_that_is_taken_is_said_with_a_free_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    app = importlib.import_module("app")
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for wanted, said in ((port, rf"port {port} .* --port (\d+) is free"), (99999, "from 1 to 65535, got 99999")):
            monkeypatch.setattr(sys, "argv", ["app.py", "--port", str(wanted), "--home", str(tmp_path / "home")])
            with pytest.raises(SystemExit) as left:
                app.main()
            assert left.value.code == 2
            assert re.search(said, capsys.readouterr().err)
    assert not (tmp_path / "home").exists()


def test_estimates_come_from_one_handler_each_and_many_at_once(workspace: Workspace, assets: Path) -> None:
    """Two that show one thing would answer in any order; and one handler has the least of the limits it was given."""
    from synmotion_core.ui import Desks, build

    page: Any = build(Desks(workspace, assets=assets))
    for area in ("train-command", "gen-command", "train-plan"):
        told = [fn for fn in page.fns.values() if any(part.elem_id == area for part in fn.outputs)]
        assert {fn.name for fn in told} == {"estimate"}
        assert len({fn.concurrency_id for fn in told}) == 1
        assert {fn.concurrency_limit for fn in told} == {8}, area


def test_what_shows_no_progress_is_told_to_nothing_that_has_looks(workspace: Workspace, assets: Path) -> None:
    """The browser would write each turn of each event to every component that any event puts something into."""
    from synmotion_core.ui import Desks, build

    told = [
        event for event in build(Desks(workspace, assets=assets)).config["dependencies"] if "show_progress" in event
    ]
    hidden = [event["show_progress_on"] for event in told if event["show_progress"] == "hidden"]
    assert len(hidden) > 50
    assert len({tuple(one) for one in hidden}) == 1 == len(hidden[0])


def test_a_browser_is_known_again_after_a_restart() -> None:
    one, two = context.remembered("clips", {"clips": []}), context.remembered("clips", {"clips": []})
    assert (one.secret, one.storage_key) == (two.secret, two.storage_key)
    assert [context.job_id(value) for value in ({"id": "x"}, {"id": 3}, {}, None, "x")] == ["x", "", "", "", ""]
