"""Opens the studio: python app.py [--port 7860] [--home FOLDER].

It listens on this computer only; on a Space (SPACE_ID is set) on every interface.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from synmotion_core.errors import UserInputError
from synmotion_core.workspace import ENVIRONMENT_VARIABLE, STORAGE, Workspace, default_root


class _StubsAsInstalled(MetaPathFinder, Loader):
    """Gradio without its writing of type stubs: those that pip put beside it stay as they are.

    For each component Gradio parses its own source and makes the stub (.pyi) anew, whenever it is imported: about half
    of the import's time, and files of the environment are written. A Gradio that does not do so is imported as it is.
    """

    NAME = "gradio.component_meta"

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.NAME:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return None
        self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if hasattr(module, "create_or_modify_pyi"):
            vars(module)["create_or_modify_pyi"] = lambda *_: None


def _refusal(host: str, port: int) -> str | None:
    """Why nobody can listen there, and where one can; None where it is free."""
    why = None
    for other in range(port, port + 20):
        with socket.socket() as probe:
            if os.name == "posix":  # elsewhere it would let two listen at once
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, other))
            except OverflowError:
                return f"a port is a number from 1 to 65535, got {port}: for example --port 7860"
            except OSError as error:
                why = why or f"port {port} cannot be listened on, perhaps since a studio is open already ({error})"
            else:
                return why and f"{why}: --port {other} is free"
    return why


def main() -> None:
    """Parse, build, serve until interrupted; a running job is then stopped at its next step, saved."""
    parser = argparse.ArgumentParser(description="Open SynMotion Studio in the browser.")
    port = int(os.environ.get("GRADIO_SERVER_PORT") or os.environ.get("PORT") or 7860)
    parser.add_argument(
        "--port", type=int, default=port, help="port to listen on (default: $GRADIO_SERVER_PORT, $PORT or 7860)"
    )
    parser.add_argument(
        "--home", type=Path, default=default_root(), help="workspace folder (default: $SYNMOTION_HOME or ~/.synmotion)"
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio asks itself whether it is up
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill ends like Ctrl-C: work is saved
    on_space = bool(os.environ.get("SPACE_ID"))
    host = "0.0.0.0" if on_space else "127.0.0.1"
    if refusal := _refusal(host, options.port):
        parser.exit(2, f"{refusal}\n")
    try:
        workspace = Workspace(options.home)
    except UserInputError as error:
        parser.exit(2, f"{error}\n")
    os.environ[ENVIRONMENT_VARIABLE] = str(workspace.root)  # weights that were put there by hand lie in the same home
    if on_space and workspace.root.is_relative_to(STORAGE):  # tens of GiB that a restart would fetch again
        os.environ.setdefault("HF_HOME", str(STORAGE / "huggingface"))
    gc.disable()  # what is made until the page answers stays: each look for garbage in it would be in vain
    # late, for these import Gradio, which takes seconds and looks at its settings then
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    if "gradio" not in sys.modules:
        sys.meta_path.insert(0, _StubsAsInstalled())
    from synmotion_core import slices
    from synmotion_core.ui import Desks, build, launch_options

    with Desks(workspace, runners=slices.runners_here()) as desks:
        page = build(desks)
        page.launch(
            server_name=host, server_port=options.port, prevent_thread_lock=True,
            **launch_options(),
        )  # fmt: skip
        gc.freeze()
        gc.enable()
        page.block_thread()


if __name__ == "__main__":
    main()
