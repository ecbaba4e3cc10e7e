"""What leaves this machine when an adapter is shared, and nothing else: files, by the names that they will have.

    README.md                           the card (card.py)
    <name>.safetensors                  the adapter, whole
    pytorch_lora_weights.safetensors    its LoRA alone, by the name that diffusers looks for first: where the base's
                                        pipeline loads it, else if asked for (of two experts one each)
    <name>-comfyui.safetensors          the same for ComfyUI
    videos/01.mp4                       what it drew, if given

Reference clips are not among them unless somebody gives one as a video.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from synmotion_core.adapters.card import Shown, Travels, check_card, model_card
from synmotion_core.adapters.export import Format, experts_in, export, loads_by_name, usual_formats
from synmotion_core.adapters.file import AdapterInfo, read_info
from synmotion_core.adapters.kept import kept
from synmotion_core.backbones import find_spec
from synmotion_core.clips import video
from synmotion_core.errors import ConfigError
from synmotion_core.storage import replacing

CARD = "README.md"
MAX_VIDEOS = 12
_LORA = "pytorch_lora_weights"  # diffusers.loaders.lora_base: what it looks for before any other name
_MADE = re.compile(r"videos/\d\d\.mp4|pytorch_lora_weights[a-z_-]*\.safetensors|[^/]+-comfyui[a-z_-]*\.safetensors")
MAX_VIDEO_BYTES = 20 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A file: its name in the repository, where it is here, and how many bytes it has."""

    name: str
    path: Path
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """Everything that will be sent to `repo_id`, the card first; `info` is the adapter's."""

    repo_id: str
    files: tuple[Packed, ...]
    info: AdapterInfo

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def card(self) -> str:
        """The text of README.md."""
        return self.files[0].path.read_text(encoding="utf-8")


def pack(
    adapter: Path,
    repo_id: str,
    folder: Path,
    *,
    videos: Sequence[tuple[Path, str]] = (),
    formats: Sequence[Format] | None = None,
    card: str | None = None,
    cache: Path | None = None,
) -> Parcel:
    """Write into `folder`, which is empty, what is made for sharing; the adapter stays where it is.

    videos: files with the words that each was asked for with, written anew: what a camera notes in a file stays here.
    formats: exports that go with it, each read back; None is export.usual_formats. cache: where measured shares of
    exports are remembered. card: somebody's own text instead of the generated one. Raises
    AdapterError, ClipError for a video that cannot be read, ConfigError for a card that does not say what the adapter
    is, and for too many or too large videos.
    """
    info = read_info(adapter)
    if len(videos) > MAX_VIDEOS:
        raise ConfigError(f"a card shows up to {MAX_VIDEOS} videos, got {len(videos)}")
    name = _own_name(adapter.stem)
    shown, files = [], [_packed(name, adapter)]
    for index, (path, words) in enumerate(videos, 1):
        if path.is_file() and path.stat().st_size > MAX_VIDEO_BYTES:
            raise ConfigError(
                f"{path.name} has {path.stat().st_size:,} bytes, a card's video at most {MAX_VIDEO_BYTES:,}"
            )
        frames, fps = video.read(path)[:2]
        shown.append(Shown(file=f"videos/{index:02d}.mp4", words=words))
        video.write(folder / shown[-1].file, frames, fps)
        files.append(_packed(shown[-1].file, folder / shown[-1].file))
    travels = []
    for format in dict.fromkeys(usual_formats(adapter) if formats is None else formats):
        for expert in experts_in(adapter):
            out = folder / _export_name(adapter.stem, format, expert)
            done = export(adapter, out, format=format, expert=expert, source=repo_id)
            travels.append(
                Travels(
                    file=out.name,
                    usage=done.usage,
                    left=len(done.left),
                    by_name=format == "diffusers" and loads_by_name(find_spec(info.backbone)),
                    kept=None if cache is None else kept(cache, adapter, expert),
                )
            )
            files.append(_packed(out.name, out))
    text = model_card(info, repo_id=repo_id, file=name, videos=shown, exports=travels)
    if card is not None:
        check_card(card, info, travels)
        text = card
    with replacing(folder / CARD) as partial:
        partial.write_text(text, encoding="utf-8")
    return Parcel(repo_id=repo_id, files=(_packed(CARD, folder / CARD), *files), info=info)


def made_before(name: str) -> bool:
    """Whether a file of a repository is a video or an export that an earlier parcel put there."""
    return _MADE.fullmatch(name) is not None


def _packed(name: str, path: Path) -> Packed:
    return Packed(name=name, path=path, size=path.stat().st_size)


def _own_name(stem: str) -> str:
    """The adapter's file: not by a name that diffusers takes for the LoRA, or a later parcel for an export."""
    name = f"{stem}.safetensors"
    return f"{stem}.synmotion.safetensors" if stem.endswith(_LORA) or made_before(name) else name


def _export_name(stem: str, format: Format, expert: str | None) -> str:
    which = f"-{expert}" if expert else ""
    return f"{_LORA}{which}.safetensors" if format == "diffusers" else f"{stem}-comfyui{which}.safetensors"
