"""The commands that bring adapters in and out: import, convert, convert-official, export. Parsed options to an answer;
cli.py prints it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synmotion_core.errors import AdapterError, ConfigError
from synmotion_core.progress_line import printable
from synmotion_core.types import Prompt
from synmotion_core.workspace import Workspace, safe_name

if TYPE_CHECKING:
    from synmotion_core.adapters.convert import Converted
    from synmotion_core.adapters.foreign import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """results go to standard output, notes to standard error; data is both for programs."""

    results: tuple[str, ...]
    notes: tuple[str, ...]
    data: dict[str, Any]


def convert(args: argparse.Namespace) -> Answer:
    """A LoRA of another program becomes an adapter of ours."""
    from synmotion_core.adapters.convert import convert as made_ours
    from synmotion_core.adapters.foreign import Unmatched
    from synmotion_core.backbones import find_spec

    spec, out = find_spec(args.backbone), _adapter_file(args)
    try:
        done = made_ours(args.files, spec, out, experts=args.expert or (), alpha=args.alpha, **_made_elsewhere(args))
    except Unmatched as error:
        raise AdapterError(f"{error}. To go without them: --ignore-unmatched") from error
    return _converted(done, args.keys)


def import_(args: argparse.Namespace) -> Answer:
    """An adapter of ours that came as a file is among this machine's adapters."""
    from synmotion_core.adapters.take_in import is_ours, take_in

    if not is_ours(args.file):
        raise AdapterError(
            f"{args.file.name} is no adapter of ours; a LoRA of another program is taken in by `convert`"
        )
    done = take_in(args.file, Workspace(), name=args.name)
    info = done.info
    note = "it was here already" if done.known else f"took in {done.path.name}"
    notes = (
        printable(f"“{info.motion}”, learnt from {info.subject}, by {info.method} for {info.backbone}"),
        f"{note}: {done.applied} of {done.applied} keys apply",
    )
    data = {"path": str(done.path), "keys": done.applied, "known": done.known}
    return Answer(results=(str(done.path),), notes=notes, data=data)


def convert_official(args: argparse.Namespace) -> Answer:
    """An adapter of the official repository becomes one of ours, or is only listed."""
    from synmotion_core.adapters.official import convert_official as made_ours
    from synmotion_core.adapters.official import inventory
    from synmotion_core.backbones import find_spec

    if args.inventory:
        found = inventory(args.folder)
        lines = [line for file, items in found.items() for line in (file, *(f"  {item.line}" for item in items))]
        data = {file: [{"name": i.name, "shape": list(i.shape), "dtype": i.dtype} for i in items]
                for file, items in found.items()}  # fmt: skip
        return Answer(results=tuple(lines), notes=(), data=data)
    if args.subject is None or args.motion is None:
        raise ConfigError('an adapter needs words: --subject and --motion, for example "a person" and "waves"')
    done = made_ours(args.folder, find_spec(args.backbone), _adapter_file(args), **_made_elsewhere(args))
    return _converted(done, args.keys)


def export(args: argparse.Namespace) -> Answer:
    """An adapter's LoRA becomes a file of another program."""
    from synmotion_core.adapters.export import export as written
    from synmotion_core.adapters.foreign_file import shown

    if args.subjects and not args.measure:
        raise ConfigError("--subjects is for --measure: add it, or leave the subjects out")
    if args.measure:
        from synmotion_core.run.export_loss import check_measurable

        check_measurable(args.adapter)  # before anything is written
    done = written(args.adapter, args.out, format=args.format, expert=args.expert, dtype=args.dtype)
    notes = []
    if done.left:
        which = f"{len(done.left)} tensors, first: {shown(done.left[0])}"
        notes.append(
            f"warning: this adapter's embeddings do not travel ({which}): other programs have no place for them, and "
            "without them the motion is weaker than here"
        )
    notes += [done.dtype] if done.dtype else []
    notes += [f"wrote {done.path.name} and read it back: {done.keys} of {done.keys} keys apply", done.usage]
    data = {"path": str(done.path), "keys": done.keys, "left": list(done.left), "usage": done.usage}
    data["dtype"] = done.dtype
    if args.measure:
        from synmotion_core.adapters.kept import note_kept
        from synmotion_core.command import precision
        from synmotion_core.run.export_loss import kept_by_export

        kept = kept_by_export(
            args.adapter, done.path, expert=args.expert, subjects=args.subjects, precision=precision(args)
        )
        low, high = min(share for _, share in kept.by_video), max(share for _, share in kept.by_video)
        notes.append(
            f"it keeps {kept.share:.0%} of what the adapter changes ({low:.0%} to {high:.0%} in {len(kept.by_video)} "
            "videos); 100 % is the adapter, 0 % as far from it as the backbone alone"
        )
        note_kept(Workspace().cache, args.adapter, args.expert, kept.share, [share for _, share in kept.by_video])
        data["kept"] = {"share": kept.share, "videos": [list(one) for one in kept.by_video]}
    return Answer(results=(str(done.path),), notes=tuple(notes), data=data)


def _made_elsewhere(args: argparse.Namespace) -> dict[str, Any]:
    """What both conversions are told of an adapter (arguments._add_made_elsewhere)."""
    prompt = Prompt(subject=args.subject, motion=args.motion)
    return {"prompt": prompt, "mode": args.mode, "ignore_unmatched": args.ignore_unmatched}


def _adapter_file(args: argparse.Namespace) -> Path:
    """Where a new adapter goes: --out, or by its --name among this machine's adapters, where the page finds it."""
    if args.out is not None:
        return args.out
    if args.name is None:
        raise ConfigError("an adapter needs a name: --name my-wave, or --out FILE")
    return Workspace().adapters / f"{safe_name(args.name)}.safetensors"


def _converted(done: Converted, every: bool) -> Answer:
    notes = [line for report in done.reports for line in report.lines(every=every)]
    notes.append(f"saved {done.path.name} and loaded it back: {done.applied} of {done.applied} keys apply")
    data = {"path": str(done.path), "applied": done.applied, "files": [_report(report) for report in done.reports]}
    return Answer(results=(str(done.path),), notes=tuple(notes), data=data)


def _report(report: Report) -> dict[str, Any]:
    keys = [{"key": k.key, "to": list(k.to), "reason": k.reason} for k in report.keys]
    return {"file": report.file, "applied": report.applied, "alphas": dict(report.alphas), "keys": keys}


COMMANDS: dict[str, Callable[[argparse.Namespace], Answer]] = {
    "import": import_,
    "convert": convert,
    "convert-official": convert_official,
    "export": export,
}
