"""`all`: the commands side by side, as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from synmotion_core.puppets.corpus import fit_autoencoder
from synmotion_core.puppets.pretrain.anatomies import ANATOMIES


def everything(folder: Path, backbone: str, power: float, options: Sequence[str]) -> None:
    """One GPU has room for both trainings, and the renderers keep its machine's cores busy.

    options is the command line after `all`, for each of the commands. The denoiser's progress is printed, the others
    write into <folder>/<command>.log; all end with this process. Raises SystemExit when one fails.
    """
    started: list[subprocess.Popen[bytes]] = []

    def command(name: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "synmotion_core.puppets.pretrain", name, *options]
        with (folder / f"{name}.log").open("ab") as file:
            into = None if name == "train" else file
            started.append(subprocess.Popen(words, stdout=into, stderr=into, start_new_session=True))
        return started[-1]

    def finish(process: subprocess.Popen[bytes], name: str) -> None:
        if process.wait():
            raise SystemExit(f"{name} failed: see {folder / name}.log or above")

    try:
        if not (folder / "vae").exists():
            fit_autoencoder(ANATOMIES[backbone].autoencoder, power=power).save_pretrained(folder / "vae")
        renderers, decoder = command("corpus"), command("deblock")
        while not any((folder / "corpus").glob("chunk-?????.npy")):
            if renderers.poll():
                finish(renderers, "corpus")
            time.sleep(1.0)
        finish(command("train"), "train")
        finish(decoder, "deblock")
        finish(command("export"), "export")
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)  # with the processes that it started
