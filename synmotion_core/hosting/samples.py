"""The videos that a training elsewhere drew last: fetched, decoded here and written anew beside its adapter.

result/samples/step-<n>/<name>.mp4    in its dataset; of the largest n the first few come, and no others
result/run.json                       names who was drawn; without it the words are those of the file's name
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synmotion_core.adapters.file import AdapterInfo
from synmotion_core.adapters.hub import MAX_PREVIEW
from synmotion_core.clips import video
from synmotion_core.errors import UserInputError
from synmotion_core.naming import file_stem
from synmotion_core.progress_line import printable
from synmotion_core.types import Prompt
from synmotion_core.wire import Watch, fetch

MOST = 8  # videos; as many as the Library shows
_RUN, _MAX_RUN = "result/run.json", 2**20
_SAMPLE = re.compile(r"result/samples/step-(\d{1,9})/([^/\\\x00]{1,200})\.mp4")
_SEED = re.compile(r"-seed\d+(-\d+)?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """videos: each with its words, the file beside the adapter. left: how many others it drew are there and did not
    come; problems: sentences about those that should have."""

    videos: tuple[tuple[Path, str], ...]
    step: int
    left: int
    problems: tuple[str, ...]

    def said(self, repo_id: str) -> tuple[str, ...]:
        """Sentences about what came and what is still only in its dataset."""
        words = [*self.problems]
        if self.videos:
            words.append(f"{len(self.videos)} of its videos came with it, of step {self.step}")
        if self.left:
            words.append(f"{self.left} more that it drew are in {repo_id} alone, and go with it")
        return tuple(words)


def fetch_samples(
    api: Any,
    repo_id: str,
    revision: str,
    files: Mapping[str, Any],
    info: AdapterInfo,
    about: Path,
    scratch: Path,
    *,
    watch: Watch = lambda *_: None,
    cancel: threading.Event | None = None,
) -> Samples:
    """Into `about`, numbered. files: what the dataset holds, by name. Raises Cancelled; what else fails is a problem
    of one video, and said."""
    drawn = [(int(found[1]), name, found[2]) for name in sorted(files) if (found := _SAMPLE.fullmatch(name))]
    last = max((step for step, *_ in drawn), default=0)
    wanted = [(name, stem) for step, name, stem in drawn if step == last][:MOST]
    videos: list[tuple[Path, str]] = []
    problems: list[str] = []

    def arrived(name: str, limit: int) -> Path:
        size = files[name].size
        if not isinstance(size, int) or not 0 < size <= limit:
            raise UserInputError(f"it has {size} bytes, at most {limit:,} are fetched")
        return fetch(
            api, repo_id, revision, name, scratch / "beside", limit=size, repo_type="dataset", watch=watch,
            cancel=cancel,
        )  # fmt: skip

    words: dict[str, str] = {}
    if wanted and _RUN in files:
        try:
            words = _words(arrived(_RUN, _MAX_RUN), info)
        except UserInputError as error:
            problems.append(f"{_RUN} was left out: {error}")
    for name, stem in wanted:
        target = about / f"{len(videos) + 1:02d}.mp4"
        try:
            frames, fps = video.read(arrived(name, MAX_PREVIEW))
            video.write(target, frames, fps)
        except UserInputError as error:
            problems.append(printable(f"its video {name} was left out: {error}"))
        else:
            said = words.get(_SEED.sub("", stem)) or _SEED.sub("", stem).replace("-", " ")
            videos.append((target, printable(said)[:500]))
    return Samples(videos=tuple(videos), step=last, left=len(drawn) - len(videos), problems=tuple(problems))


def _words(run: Path, info: AdapterInfo) -> dict[str, str]:
    """What each name stands for, by who is named in the settings; nothing where they cannot be read."""
    try:
        subjects = json.loads(run.read_bytes())["train"]["sample_subjects"]
        prompts = [
            Prompt(subject=subject, motion=info.motion) for subject in subjects[:100] if isinstance(subject, str)
        ]
    except (ValueError, KeyError, TypeError, RecursionError, UserInputError):
        return {}
    return {_SEED.sub("", file_stem(prompt, 0, adapted=True)): prompt.text for prompt in prompts}
