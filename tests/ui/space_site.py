"""A studio as it is on a Space, in a process of its own, since Gradio reads the Space's variables when it is imported.

Arguments: port, folder, assets. Its trainings and generations are those of studio.PuppetRunner.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from synmotion_core.ui import Desks, build, launch_options
from synmotion_core.workspace import Workspace
from tests.ui.studio import PuppetRunner


def main() -> None:
    port, home, assets = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    logging.basicConfig(level=logging.DEBUG)
    runner = PuppetRunner(step_s=0.2)
    runners: Any = {"train": runner.train, "generate": runner.generate}
    with Desks(Workspace(home), runners=runners, assets=assets) as desks:
        build(desks).launch(server_name="127.0.0.1", server_port=port, quiet=True, **launch_options())


if __name__ == "__main__":
    main()
