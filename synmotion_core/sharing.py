"""The commands that share adapters through the Hub: search, pull, push. Parsed options to an answer; cli.py prints it.

Nothing is fetched or sent before it is said what: size and licence of what comes, every file of what goes. A person at
a terminal is asked; elsewhere --yes says it.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from synmotion_core.errors import Cancelled, ConfigError, MissingError
from synmotion_core.exchange import Answer
from synmotion_core.progress_line import printable
from synmotion_core.workspace import Workspace, named_adapter

if TYPE_CHECKING:
    from synmotion_core.adapters.export import Format
    from synmotion_core.adapters.hub import Remote
    from synmotion_core.adapters.parcel import Parcel
    from synmotion_core.types import Event

_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """Who is at the other end: say shows a line, ask is answered with yes or no, show draws bytes done of a file;
    follow shows events until they end."""

    say: Callable[[str], None]
    ask: Callable[[str], bool]
    show: Callable[[str, int, int], None]
    cancel: threading.Event
    follow: Callable[[Iterator[Event]], object]


def search(args: argparse.Namespace, _: Terminal) -> Answer:
    """Motion adapters on the Hub, a line each."""
    from synmotion_core.adapters.hub import Hub

    found = Hub().search(" ".join(args.words), backbone=args.backbone, limit=args.limit)
    facts = ((one, ", private" if one.private else "") for one in found)
    lines = tuple(
        printable(f"{one.repo_id}  {one.downloads} downloads, {one.likes} likes, {one.changed}{private}")
        for one, private in facts
    )
    notes = () if found else ("no motion adapter was found",)
    return Answer(results=lines, notes=notes, data={"found": [asdict(one) for one in found]})


def pull(args: argparse.Namespace, terminal: Terminal) -> Answer:
    """An adapter of the Hub comes to this machine's adapters."""
    from synmotion_core.adapters.hub import Hub

    hub = Hub()
    remote = hub.look(args.repo, revision=args.revision, file=args.file)
    for line in notice(remote):
        terminal.say(line)
    agreed(args, terminal, f"fetch {mib(remote.size)}?")
    done = hub.pull(remote, Workspace(), name=args.name, watch=terminal.show, cancel=terminal.cancel)
    notes = (*map(printable, done.problems), f"fetched {done.path.name}: {done.applied} of {done.applied} keys apply")
    data = {"path": str(done.path), "keys": done.applied, "repo": remote.repo_id, "revision": remote.revision}
    return Answer(results=(str(done.path),), notes=notes, data=data)


def push(args: argparse.Namespace, terminal: Terminal) -> Answer:
    """An adapter of this machine goes to the Hub, with its card."""
    from synmotion_core.adapters.hub import Hub
    from synmotion_core.adapters.parcel import pack
    from synmotion_core.hub_errors import check_repo_id

    check_repo_id(args.repo)
    adapter = named_adapter(args.adapter)
    card = None if args.card is None else _text(args.card)
    videos = [(Path(file), words) for file, words in args.video]
    with tempfile.TemporaryDirectory() as folder:
        parcel = pack(
            adapter, args.repo, Path(folder), videos=videos, formats=_formats(args.export), card=card,
            cache=Workspace().cache,
        )  # fmt: skip
        if args.dry_run:
            return Answer(results=(parcel.card,), notes=tuple(contents(parcel)), data=_data(parcel, args.public))
        for line in contents(parcel):
            terminal.say(line)
        whose = "public: everybody will see it" if args.public else "private: only you will see it"
        agreed(args, terminal, f"send {len(parcel.files)} files, {mib(parcel.size)}, to {args.repo}, {whose}?")
        done = Hub().push(parcel, private=not args.public, watch=terminal.show, cancel=terminal.cancel)
        notes = [f"{done.files} of {done.files} files are there, as commit {done.commit[:8]}"]
        if done.removed:
            notes.append(f"removed, as the card names them no longer: {', '.join(done.removed)}")
        return Answer(results=(done.url,), notes=tuple(notes), data=_data(parcel, args.public) | asdict(done))


def notice(remote: Remote) -> list[str]:
    """What somebody should know before an adapter is fetched."""
    info, private = remote.info, ", private" if remote.private else ""
    lines = [f"{remote.repo_id} at {remote.revision[:8]}: {remote.file}, {mib(remote.size)}{private}"]
    lines.append(f"  “{info.motion}”, learnt from {info.subject}, by {info.method} for {info.backbone}")
    lines.append(f"  licence of the file: {info.licence}; of its page: {remote.licence or 'it names none'}")
    if remote.videos:
        lines.append(f"  with {len(remote.videos)} videos of its page")
    if remote.left:
        more = f" and {len(remote.left) - 5} more" if len(remote.left) > 5 else ""
        lines.append(f"  not fetched: {', '.join(remote.left[:5])}{more}")
    return [printable(line) for line in lines]


def contents(parcel: Parcel) -> list[str]:
    """Every file of a parcel, a line each."""
    return [
        f"  {file.name}  {file.size:,} bytes" + (f"  ({file.path})" if file.path.name != Path(file.name).name else "")
        for file in parcel.files
    ]


def _formats(wanted: Sequence[str] | None) -> list[Format] | None:
    """Of --export: None where it is not said, none at all for "none"."""
    if wanted is None:
        return None
    if "none" in wanted and len(wanted) > 1:
        raise ConfigError(f"--export none stands alone, got {' '.join(wanted)}")
    return [format for format in ("diffusers", "comfyui") if format in wanted]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is no text: write it as UTF-8") from error
    except OSError as error:
        raise MissingError(f"{path} cannot be read: {error.strerror}") from error


def agreed(args: argparse.Namespace, terminal: Terminal, question: str) -> None:
    """Raises Cancelled unless the person at the terminal, or --yes, says so."""
    if not args.yes and not terminal.ask(question):
        raise Cancelled


def _data(parcel: Parcel, public: bool) -> dict[str, object]:
    files = [{"name": file.name, "size": file.size} for file in parcel.files]
    return {"repo": parcel.repo_id, "private": not public, "files": files}


def mib(size: int) -> str:
    """Bytes for people."""
    return f"{size / _MIB:.1f} MiB"


def terminal_answer(question: str, answer: Callable[[], str] | None) -> bool:
    """What a person types; raises ConfigError where nobody can be asked."""
    if answer is None:
        raise ConfigError(f"{question} Nobody can be asked here: say --yes")
    return answer().strip().lower() in ("y", "yes")


COMMANDS: dict[str, Callable[[argparse.Namespace, Terminal], Answer]] = {"search": search, "pull": pull, "push": push}
