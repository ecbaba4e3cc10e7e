"""Opens the studio: python app.py [--port 7860] [--home FOLDER].

It listens on this computer only; on a Space (SPACE_ID is set) on every interface.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported

from synmotion_core import slices
from synmotion_core.errors import UserInputError
from synmotion_core.ui import Desks, build, launch_options
from synmotion_core.workspace import Workspace, default_root


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
    try:
        workspace = Workspace(options.home)
    except UserInputError as error:
        parser.exit(2, f"{error}\n")
    with Desks(workspace, runners=slices.runners_here()) as desks:
        build(desks).launch(
            server_name="0.0.0.0" if on_space else "127.0.0.1", server_port=options.port, **launch_options()
        )


if __name__ == "__main__":
    main()
