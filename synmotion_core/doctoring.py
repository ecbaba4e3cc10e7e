"""The command `doctor`: what is in clips, what keeps them from being used, and how to train with what is proposed.

What is proposed is what the page's button does: the fix of the first finding that has one, and once more.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synmotion_core.backbones import find_spec
from synmotion_core.clip_files import VIDEO_ENDINGS
from synmotion_core.clips import dataset
from synmotion_core.clips.captions import Caption, captions_in, taken_apart
from synmotion_core.clips.doctor import Cut, Finding, mended
from synmotion_core.command import PROGRAM, clip_words
from synmotion_core.config import ClipSource, TrainRun, to_dict
from synmotion_core.datasets import INDEX, index_text
from synmotion_core.errors import ClipError, ConfigError
from synmotion_core.progress_line import printable
from synmotion_core.storage import replacing

if TYPE_CHECKING:
    from synmotion_core.clips.dataset import Checkup

_EXAMPLE = {"subject": "a person", "motion": "waves", "name": "my-wave"}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """A file as it was asked about, and the clip that it can be made: None where nothing that is known would help.

    caption: what is to be said of the caption beside it, "" where there is none.
    """

    path: Path
    checkup: Checkup
    made: ClipSource | None
    caption: str = ""


def doctor(args: argparse.Namespace, say: Callable[[str], None], row: Callable[[Any], None] | None) -> bool:
    """Look at every file; returns whether all can be used as they are. row: takes one of --json for each, instead.

    Raises ConfigError and ShapeError for what cannot be asked, before anything is looked at.
    """
    spec = find_spec(args.backbone)
    shape = spec.shape(args.num_frames, args.height, args.width)
    cut = Cut(start_s=args.start, end_s=args.end, resample_fps=args.resample_fps)
    if args.write is not None:
        _check_place(args.write, args.files)

    def look(path: Path, cut: Cut) -> Checkup:
        known = "" if spec.needs_gpu else spec.name
        return dataset.check(path, shape, cut, frame_multiple=spec.frame_multiple, puppets_only=known)

    words, captions = {"subject": args.subject or "", "motion": args.motion or ""}, _captions(args)
    patients = []
    for path in args.files:
        found = {cut: look(path, cut)}

        def proposed(cut: Cut, path: Path = path, found: dict[Cut, Checkup] = found) -> Cut | None:
            found[cut] = found.get(cut) or look(path, cut)
            return next((finding.fix for finding in found[cut].findings if finding.fix is not None), None)

        better = mended(cut, proposed)
        proposed(better)  # whether that can be used at all
        own, said = _own_words(words, captions.get(path))
        made = ClipSource(path=path, **own, **dataclasses.asdict(better)) if found[better].usable else None
        patients.append(Patient(path=path, checkup=found[cut], made=made, caption=said))
        show = _show if row is None else _as_row
        show(patients[-1], row or say)
    if args.write is not None:
        _write(args.write, patients)
    if row is None:
        for line in _then(args, patients):
            say(line)
    return all(patient.checkup.usable for patient in patients)


def _captions(args: argparse.Namespace) -> dict[Path, Caption]:
    """Of the files that have some, unless --subject says who moves in all."""
    found: dict[Path, Caption] = {}
    if args.subject is None:
        for folder in dict.fromkeys(path.parent for path in args.files):
            files = [path for path in args.files if path.parent == folder]
            found |= captions_in(folder, files, VIDEO_ENDINGS).by_clip
    return found


def _own_words(words: dict[str, str], caption: Caption | None) -> tuple[dict[str, str], str]:
    """A clip's words, from its caption where they can be taken from it, and what is to be said of that."""
    if caption is None:
        return words, ""
    if not words["motion"]:
        return words, f"{caption.shown}: --motion says which words of it are the motion"
    try:
        subject, setting = taken_apart(caption, words["motion"])
    except ClipError as error:
        return words, str(error)
    own = {**words, "subject": subject, "setting": setting}
    return own, " | ".join(part for part in (subject, words["motion"], setting) if part)


def _show(patient: Patient, say: Callable[[str], None]) -> None:
    checkup = patient.checkup
    words = [f"{patient.path}: {'usable' if checkup.usable else 'NOT usable'}"]
    if checkup.info is not None:
        i = checkup.info
        words.append(f"{i.num_frames} frames, {i.fps:.4g} fps, {i.width}x{i.height}, {i.duration_s:.2f} s")
    say("  ".join(words))
    if patient.caption:
        say(printable(f"  caption  {patient.caption}"))
    for finding in checkup.findings:
        say(f"  {finding.severity:<5}  {finding.message}")
        if finding.fix is not None:
            say(f"         proposed: {_cut_words(finding)}")


def _cut_words(finding: Finding) -> str:
    values = {name: value for name, value in to_dict(finding.fix).items() if value is not None}
    return ", ".join(f"{name} {value:.6g}" for name, value in values.items())


def _as_row(patient: Patient, row: Callable[[Any], None]) -> None:
    checkup, info = patient.checkup, to_dict(patient.checkup.info)
    if info is not None:
        del info["timestamps_s"]  # long, and of no use here
    made = None if patient.made is None else {f.name: getattr(patient.made, f.name) for f in dataclasses.fields(Cut)}
    findings = [to_dict(finding) for finding in checkup.findings]
    more = {"caption": patient.caption} if patient.caption else {}
    row(
        {"file": str(patient.path), "usable": checkup.usable, "info": info, "findings": findings, "proposed": made}
        | more
    )


def _check_place(index: Path, files: Sequence[Path]) -> None:
    """An index names files of its own folder, and is never written over."""
    if index.name != INDEX:
        raise ConfigError(f"--write takes a file called {INDEX}, which `train --clips` reads, got {index.name!r}")
    if index.exists():
        raise ConfigError(f"{index} is there already: move it away, or leave --write out")
    for path in files:
        if not path.resolve().is_relative_to(index.resolve().parent):
            raise ConfigError(f"{path} does not lie in {index.parent}: an index names files below its own folder")


def _write(index: Path, patients: Sequence[Patient]) -> None:
    clips = [patient.made for patient in patients if patient.made is not None]
    if not clips:
        raise ConfigError(f"{index} was not written: none of these clips can be used")
    home = index.resolve().parent
    names = {clip.path: clip.path.resolve().relative_to(home).as_posix() for clip in clips}
    with replacing(index) as temporary:
        temporary.write_text(index_text(clips, names), encoding="utf-8")


def _then(args: argparse.Namespace, patients: Sequence[Patient]) -> list[str]:
    """What to type to train with what is proposed; nothing where no clip can be used."""
    clips = [patient.made for patient in patients if patient.made is not None]
    if not clips:
        return []
    lost = [str(patient.path) for patient in patients if patient.made is None]
    said = [f"left out, since nothing that is known here would help: {', '.join(lost)}"] if lost else []
    words = clip_words(clips) if args.write is None else ["--clips", str(args.write.parent)]
    captioned = args.subject is None and all(clip.subject for clip in clips)
    for name, example in _EXAMPLE.items():
        if name == "subject" and captioned:  # the index says them, or else `--clip` does, but of the first
            words += [] if args.write is not None else ["--subject", clips[0].subject]
            continue
        words += [f"--{name}", getattr(args, name, None) or example]
    if args.backbone != TrainRun.__dataclass_fields__["backbone"].default:
        words += ["--backbone", args.backbone]
    shape = {"--frames": args.num_frames, "--height": args.height, "--width": args.width}
    words += [word for option, value in shape.items() if value is not None for word in (option, str(value))]
    how = "with what is proposed" if args.write is None else f"with what {args.write} holds now"
    own = "" if (args.subject or captioned) and args.motion else ", in words of your own"
    return [*said, f"To train {how}{own}:", f"  {PROGRAM} train {shlex.join(words)}"]
