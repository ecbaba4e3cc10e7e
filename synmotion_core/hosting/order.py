"""What leaves this machine for one training elsewhere: its settings, its clips and pictures, and this studio's source.

job/job.json               the run, with the paths below in place of this machine's
job/clips/01.mp4           the clips, whole and as they are, under names that say nothing
job/pictures/01.png        the pictures that samples begin with
synmotion_core/, assets/   the source; of assets, the backbone that ships, where it is the one, and its judge
requirements.txt, LICENSE
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synmotion_core.config import TrainRun, to_dict
from synmotion_core.errors import ConfigError, MissingError
from synmotion_core.hosting.sources import ROOT, Source, collect
from synmotion_core.planning.work import look_up
from synmotion_core.storage import file_sha256, replacing
from synmotion_core.workspace import own_weights

MAX_CLIP = 2 * 2**30  # bytes
_AT_ROOT = ("requirements.txt", "LICENSE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One training for another machine. given: the clips and pictures of it, which are the person's own.

    key is the same for the same training and the same files.
    """

    config: TrainRun
    files: tuple[Source, ...]
    given: tuple[Source, ...]
    key: str

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def pack(config: TrainRun, folder: Path, *, root: Path = ROOT) -> Order:
    """Write the settings into `folder`; all else is sent from where it lies.

    Raises what a training here would of settings that do not fit, MissingError for a file that is not there, and
    ConfigError for weights that only this machine has.
    """
    spec = look_up(config).spec
    if own_weights(spec.name) is not None:
        raise ConfigError(
            f"{spec.name} is read from a folder of weights on this machine, which does not travel: remove it from "
            "weights/, and the machine takes those of the Hub"
        )
    ships = spec.repo.startswith("assets:")
    assets = [spec.repo.removeprefix("assets:"), "puppet-judge"] if ships else []
    sources = collect(root, names=_AT_ROOT, assets=assets)
    clips, clip_names = _given([clip.path for clip in config.clips], "clips")
    pictures, picture_names = _given(config.train.sample_images, "pictures")
    there = dataclasses.replace(
        config,
        clips=tuple(dataclasses.replace(clip, path=Path(clip_names[clip.path])) for clip in config.clips),
        train=dataclasses.replace(
            config.train, sample_images=tuple(Path(picture_names[path]) for path in config.train.sample_images)
        ),
    )
    values = to_dict(there)
    for clip in values["clips"]:
        clip["path"] = Path(clip["path"]).as_posix()
    values["train"]["sample_images"] = [Path(one).as_posix() for one in values["train"]["sample_images"]]
    with replacing(folder / "job.json") as partial:
        partial.write_text(json.dumps(values, indent=1) + "\n", encoding="ascii")
    settings = Source(name="job/job.json", path=folder / "job.json", size=(folder / "job.json").stat().st_size)
    files = (settings, *clips, *pictures, *sources.files)
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\0{file.size}\0{file_sha256(file.path)}".encode())
    return Order(config=config, files=files, given=(*clips, *pictures), key=digest.hexdigest())


def _given(paths: Sequence[Path], folder: str) -> tuple[list[Source], dict[Path, str]]:
    """Files of the person's, each once, under numbers."""
    found: list[Source] = []
    names: dict[Path, str] = {}
    for path in dict.fromkeys(paths):
        if not path.is_file():
            raise MissingError(f"there is no file {path}")
        size = path.stat().st_size
        if size > MAX_CLIP:
            raise ConfigError(f"{path} has {size:,} bytes, a file that leaves at most {MAX_CLIP:,}: cut it first")
        ending = path.suffix.lower() if path.suffix.isascii() and path.suffix[1:].isalnum() else ""
        names[path] = f"job/{folder}/{len(names) + 1:02d}{ending}"
        found.append(Source(name=names[path], path=path, size=size))
    return found, names
