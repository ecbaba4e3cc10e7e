"""Runs on the machine of a Job: fetches what was sent, trains, and puts the adapter back. Text for `python -c`.

    python -u -c TEXT REPO COMMIT CLIENT NAME

REPO is the private dataset at COMMIT, CLIENT a version of huggingface_hub, NAME the adapter's. The token is a secret
of the Job, HF_TOKEN. It is in no environment from which pip or the training could take it, not in this process's own
either; they run as the same user, and nothing stronger keeps them from it.
What is said here and the training's events go to standard output, which is the Job's log.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PAUSES_S = (5, 15, 45, 135, 405)
PIPE = "SYNMOTION_TOKEN_PIPE"  # in the environment: the file descriptor that the token is read from, once


def main(repo_id: str, commit: str, client: str, name: str) -> int:
    """Returns the exit code of the Job: 0, or that of the part that failed."""
    token = os.environ.pop("HF_TOKEN", "")
    if PIPE in os.environ:
        with open(int(os.environ.pop(PIPE)), encoding="utf-8") as pipe:
            token = pipe.read()
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    say("fetching what was sent")
    failed = pip(f"huggingface_hub=={client}")
    if failed:
        return failed
    from huggingface_hub import CommitOperationAdd, HfApi

    api, folder = HfApi(token=token), Path(tempfile.mkdtemp(prefix="synmotion-job-"))
    api.snapshot_download(repo_id, repo_type="dataset", revision=commit, local_dir=folder)
    say("installing the studio's packages, which takes some minutes")
    failed = pip("-r", str(folder / "requirements.txt"))
    if failed:
        return failed
    say("training")
    words = ["train", "--config", "job/job.json", "--out", "out", "--json"]
    own = {**os.environ, "SYNMOTION_HOME": str(folder / "home"), "PYTHONUNBUFFERED": "1"}
    done = subprocess.run([sys.executable, "-m", "synmotion_core", *words], cwd=folder, env=own, check=False)
    if done.returncode:
        say(f"the training ended with code {done.returncode}")
        return done.returncode
    out = folder / "out"
    files = [out / f"{name}.safetensors", out / f"{name}-best.safetensors", out / "run.json"]
    files += sorted((out / "samples").rglob("*.mp4"))
    there = [(f"result/{path.relative_to(out).as_posix()}", path) for path in files if path.is_file()]
    say(f"putting {len(there)} files back")
    for pause in (*PAUSES_S, None):  # the client tries a commit once, and what was learnt is lost with the machine
        added = [CommitOperationAdd(path_in_repo=there_name, path_or_fileobj=path) for there_name, path in there]
        try:
            api.create_commit(repo_id, added, repo_type="dataset", commit_message="What was learnt")
        except Exception as error:
            status = getattr(getattr(error, "response", None), "status_code", 0)
            if pause is None or status in (401, 403, 404):
                raise
            say(f"the Hub did not take them ({type(error).__name__}): once more in {pause} s")
            time.sleep(pause)
        else:
            break
    say("done")
    return 0


def pip(*wanted: str) -> int:
    """Installs; returns pip's exit code."""
    quiet = ["-q", "--disable-pip-version-check", "--root-user-action=ignore"]
    done = subprocess.run([sys.executable, "-m", "pip", "install", *quiet, *wanted], check=False)
    if done.returncode:
        say(f"pip could not install {' '.join(wanted)}")
    return done.returncode


def say(text: str) -> None:
    """A line of the Job's log."""
    print(f"synmotion: {text}", flush=True)


def start_anew() -> None:
    """Become a process that was started without the token: /proc shows a child what its parent was started with,
    whatever the parent has taken out of its environment since."""
    read, write = os.pipe()
    with open(write, "w", encoding="utf-8") as pipe:
        pipe.write(os.environ.pop("HF_TOKEN"))
    os.set_inheritable(read, True)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, PIPE: str(read)})


if __name__ == "__main__":
    if "HF_TOKEN" in os.environ:
        start_anew()
    sys.exit(main(*sys.argv[1:]))
