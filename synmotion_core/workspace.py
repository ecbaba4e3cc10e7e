"""Where things live on this machine: one folder with cache, jobs, adapters, videos and clips. Paths, no contents.

    <root>/cache/      frozen encodings and subject prior videos, shared between runs; may be deleted while nothing runs
    <root>/jobs/       one folder a job: its config, status, events, log and checkpoints
    <root>/adapters/   finished adapters; they stay when their job is deleted
    <root>/videos/     one folder a generation
    <root>/clips/      clips given to the page
    <root>/pictures/   pictures given to the page
    <root>/datasets/   one folder a saved set of clips, as `--clips FOLDER` reads it
    <root>/results/    one folder a measured suite, put there by `bench run SUITE --out`
    <root>/weights/    put there by hand and taken instead of the repository: folders of diffusers, by a backbone's
                       name, and of transformers, by the last part of a repository's name

The root is $SYNMOTION_HOME, else ~/.synmotion (on a Space with storage that stays, /data/synmotion): one visible
folder, the same on Linux, macOS and Windows, so that "where did it go" has one answer and moving it to a larger disk is
one variable. Where people share a studio, each has a folder like it in people/ or guests/ (ui/desks.py).
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

from synmotion_core.errors import ConfigError, MissingError, StorageError

ENVIRONMENT_VARIABLE = "SYNMOTION_HOME"
STORAGE = Path("/data")  # where Hugging Face puts a Space's persistent storage
MAX_NAME_BYTES = 200  # file systems allow 255; the rest is for endings, counters and temporary marks
_ELSEWHERE = f"set {ENVIRONMENT_VARIABLE} to a folder you can write"
_MIB = 2**20
_FORBIDDEN = frozenset('<>:"/\\|?*')
_RESERVED = frozenset({"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"}) | {
    f"{device}{digit}" for device in ("com", "lpt") for digit in "0123456789¹²³"
}


def default_root() -> Path:
    """$SYNMOTION_HOME, else ~/.synmotion; on a Space with storage that outlives a restart, a folder there.

    Raises StorageError when neither can be made into a path.
    """
    given = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
    if not given and os.environ.get("SPACE_ID") and os.access(STORAGE, os.W_OK):
        return STORAGE / "synmotion"
    try:
        return Path(given).expanduser() if given else Path.home() / ".synmotion"
    except RuntimeError as error:  # no home folder: some containers
        raise StorageError(f"this user has no home folder: {_ELSEWHERE}") from error


def weights_place(name: str) -> Path:
    """Where somebody may put a folder of weights for a backbone, or for what a metric looks through."""
    return default_root() / "weights" / name


def own_weights(backbone: str) -> Path | None:
    """The folder of weights that somebody has put here for a backbone, if there is one."""
    folder = weights_place(backbone)
    return folder if (folder / "model_index.json").is_file() else None


def free_bytes(folder: Path) -> int:
    """Free bytes for this user on the disk that a folder is on, or would be made on."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def named_adapter(wanted: Path) -> Path:
    """A file as it is given; or, where there is none and it is a bare name, the finished adapter of that name.

    Raises MissingError for a name without an ending that no adapter here has.
    """
    if wanted.is_file() or wanted != Path(wanted.name):
        return wanted
    home = default_root() / "adapters"
    own = home / f"{wanted.name}.safetensors"
    if not own.is_file() and not wanted.suffix:
        there = ", ".join(sorted(path.stem for path in home.glob("*.safetensors"))) or "none yet"
        raise MissingError(f"there is no adapter {wanted.name!r} on this machine ({there}): name one, or a file")
    return own if own.is_file() else wanted


@dataclass(frozen=True, slots=True)
class Workspace:
    """A root folder that exists and can be written; the folders in it are made when first asked for.

    Raises StorageError, naming the folder and the reason, when the root cannot be made or written.
    """

    root: Path = field(default_factory=default_root)

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", Path(self.root).expanduser().absolute())
        probe = self._made(self.root) / f".probe.{secrets.token_hex(6)}"
        try:
            probe.touch()
            probe.unlink(missing_ok=True)
        except OSError as error:
            raise _refusal(self.root, error) from error

    @property
    def cache(self) -> Path:
        """Encodings and prior videos."""
        return self._made(self.root / "cache")

    @property
    def jobs(self) -> Path:
        """One folder a job."""
        return self._made(self.root / "jobs")

    @property
    def adapters(self) -> Path:
        """Finished adapters."""
        return self._made(self.root / "adapters")

    @property
    def videos(self) -> Path:
        """One folder a generation."""
        return self._made(self.root / "videos")

    @property
    def clips(self) -> Path:
        """Clips given to the page."""
        return self._made(self.root / "clips")

    @property
    def pictures(self) -> Path:
        """Pictures given to the page."""
        return self._made(self.root / "pictures")

    @property
    def datasets(self) -> Path:
        """One folder a saved set of clips."""
        return self._made(self.root / "datasets")

    @property
    def results(self) -> Path:
        """One folder a measured suite."""
        return self._made(self.root / "results")

    def exports(self, job_id: str) -> Path:
        """Where files for taking away are made of a generation; they go with it."""
        return self.cache / "exports" / job_id

    def free_bytes(self) -> int:
        """Free bytes for this user on the root's disk."""
        try:
            return shutil.disk_usage(self.root).free
        except OSError as error:
            raise _refusal(self.root, error) from error

    def require_free(self, num_bytes: int, what: str) -> None:
        """Raise StorageError unless the disk has room for `num_bytes`; `what` begins the sentence."""
        free = self.free_bytes()
        if free < num_bytes:
            raise StorageError(
                f"{what} needs {-(-num_bytes // _MIB)} MiB on the disk of {self.root}, {free // _MIB} MiB are free: "
                f"make room, or set {ENVIRONMENT_VARIABLE} to a folder on another disk"
            )

    @staticmethod
    def _made(folder: Path) -> Path:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _refusal(folder, error) from error
        return folder


def safe_name(name: str) -> str:
    """`name` as a file name that every system takes, in Unicode's composed form (NFC); refused, never repaired.

    Letters of any script, digits, symbols and single spaces may stand in it. It must not begin with a dot, a hyphen, a
    tilde or a space, not end with a dot or a space, hold none of < > : " / \\ | ? * and no invisible character, not be
    a name that Windows keeps for devices, and be at most 200 bytes of UTF-8. Raises ConfigError with the nearest name
    that is allowed.

    >>> safe_name("élan vital")
    'élan vital'
    >>> safe_name("../up")
    Traceback (most recent call last):
    synmotion_core.errors.ConfigError: the name '../up' cannot be a file name: it holds '/'; use for example 'up'
    """
    composed = unicodedata.normalize("NFC", name)
    reason = _why_unsafe(composed)
    if reason:
        raise ConfigError(f"the name {name!r} cannot be a file name: {reason}; use for example {nearest_name(name)!r}")
    return composed


def nearest_name(name: str) -> str:
    """The closest name that `safe_name` takes; "untitled" when nothing is left.

    >>> nearest_name("con"), nearest_name("a/b: c?"), nearest_name("...")
    ('con_', 'a-b- c-', 'untitled')
    """
    composed = unicodedata.normalize("NFC", name)
    text = "".join("-" if c in _FORBIDDEN else c for c in composed if c in _FORBIDDEN or _visible(c) or c.isspace())
    text = re.sub(r"-{2,}", "-", re.sub(r"\s+", " ", text))
    text = text.encode()[:MAX_NAME_BYTES].decode(errors="ignore").lstrip(".-~ ").rstrip(". ")
    if _is_reserved(text):
        stem, dot, ending = text.partition(".")
        text = f"{stem}_{dot}{ending}"
    return text if text and _why_unsafe(text) is None else "untitled"


def _why_unsafe(name: str) -> str | None:
    if not name:
        return "it is empty"
    bad = next((c for c in name if c in _FORBIDDEN or not (_visible(c) or c == " ")), None)
    if bad is not None:
        return f"it holds {bad!r}"
    if name[0] in ".-~ ":
        return f"it begins with {name[0]!r}"
    if name[-1] in ". ":
        return f"it ends with {name[-1]!r}"
    if "  " in name:
        return "it holds two spaces in a row"
    if _is_reserved(name):
        return "Windows keeps it for a device"
    size = len(name.encode())
    return f"it is {size} bytes long, at most {MAX_NAME_BYTES} are allowed" if size > MAX_NAME_BYTES else None


def _is_reserved(name: str) -> bool:
    return name.split(".")[0].rstrip(" ").casefold() in _RESERVED


def _visible(character: str) -> bool:
    # Letters, marks (Hindi and Thai need them), numbers, punctuation, symbols; not controls, formats, surrogates,
    # private use, separators
    return unicodedata.category(character)[0] in "LMNPS"


def _refusal(folder: Path, error: OSError) -> StorageError:
    return StorageError(f"{folder} cannot be written ({error.strerror or error}): {_ELSEWHERE}")
