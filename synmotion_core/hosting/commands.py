"""The commands `space` and `remote`: parsed options to an answer; cli.py prints it.

As in sharing.py, nothing leaves before it is said what, and nothing that costs money begins unasked.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from synmotion_core.errors import Cancelled, ConfigError, UserInputError
from synmotion_core.exchange import Answer
from synmotion_core.hosting.sources import Source, collect
from synmotion_core.progress_line import printable
from synmotion_core.sharing import Terminal, agreed, mib
from synmotion_core.workspace import Workspace

if TYPE_CHECKING:
    from synmotion_core.hosting.ledger import Handoff
    from synmotion_core.hosting.machines import Machines
    from synmotion_core.hosting.order import Order


def space(args: argparse.Namespace, terminal: Terminal) -> Answer:
    """This studio goes to a Space."""
    from synmotion_core.hosting.space import Spaces, check_hardware
    from synmotion_core.hub_errors import check_repo_id

    check_repo_id(args.repo)
    sources = collect()
    if args.hardware:
        check_hardware(args.hardware)
    data = {"repo": args.repo, "private": not args.public, "files": _as_data(sources.files)}
    notes = [*contents(sources.files), *(f"  stays here: {printable(name)}" for name in sources.left)]
    if args.dry_run:
        summary = f"{len(sources.files)} files, {mib(sources.size)}; nothing was sent"
        return Answer(results=(summary,), notes=tuple(notes), data=data)
    spaces = Spaces()
    place = spaces.look(args.repo, sources, private=not args.public, replace=args.replace)
    notes += [f"  deleted there: {printable(name)}" for name in place.gone]
    if args.hardware:
        notes.append(f"  hardware {args.hardware}: it may cost money for as long as it runs; huggingface.co/pricing")
    if args.hardware == "zero-a10g":
        notes.append("  (zero-a10g lends its GPU for a minute or two at a time: a training goes in slices)")
    for line in notes:
        terminal.say(line)
    whose = "public: everybody will see and use it" if args.public else "private: only you will see it"
    made = "" if place.commit else ", which is made"
    question = f"send {len(sources.files)} files, {mib(sources.size)}, to the Space {args.repo}{made}, {whose}?"
    agreed(args, terminal, question)
    done = spaces.deploy(
        sources, place, hardware=args.hardware or "", watch=terminal.show, cancel=terminal.cancel
    )  # fmt: skip
    said = [f"{done.files} of {done.files} files are there, as commit {done.commit[:8]}; the Space builds now"]
    if done.removed:
        said.append(f"deleted there: {printable(', '.join(done.removed))}")
    if done.problem:
        said.append(f"the studio is there, its hardware is not changed: {done.problem}")
    said.append("What is made on it is lost when it restarts, unless storage is attached to it (Settings on its page).")
    said.append(
        "“Duplicate this Space” on its page gives whoever may see it a copy of their own, on hardware that they choose "
        "and pay; nothing that was made on yours goes with it."
    )
    return Answer(results=(done.url,), notes=tuple(said), data=data | asdict(done) | {"files": data["files"]})


def remote(args: argparse.Namespace, terminal: Terminal) -> Answer:
    """A training on other machines, or what is done with one that was handed off."""
    return _ACTIONS[args.action](args, terminal)


def _train(args: argparse.Namespace, terminal: Terminal) -> Answer:
    from synmotion_core.command import say_no_samples, train_run
    from synmotion_core.hosting.machines import Machines, check_flavor, check_timeout
    from synmotion_core.hosting.order import pack

    where, _, flavor = args.on.partition(":")
    if where != "hf" or not flavor:
        raise ConfigError(f"--on takes hf:FLAVOR, got {args.on!r}: for example hf:l4x1")
    check_flavor(flavor)
    check_timeout(args.timeout)
    machines = Machines(Workspace())
    with tempfile.TemporaryDirectory() as folder:
        run = train_run(args, note=terminal.say)
        say_no_samples(run, terminal.say)
        order = pack(run, Path(folder))
        own = machines.plan(order, flavor=flavor, timeout=args.timeout, owner=args.owner)
        for line in _leaves(order, own):
            terminal.say(line)
        question = (
            f"send {len(order.files)} files, {mib(order.size)}, {len(order.given)} of them yours, to the private "
            f"dataset {own.repo_id}, and train on {flavor}?"
        )
        agreed(args, terminal, question)
        own = machines.send(order, own, watch=terminal.show, cancel=terminal.cancel)
    terminal.say(f"sent, as commit {own.commit[:8]}")
    return _begun(args, terminal, machines, own, detach=args.detach)


def _start(args: argparse.Namespace, terminal: Terminal) -> Answer:
    machines, own = _found(args)
    agreed(args, terminal, f"train {own.name!r} on {own.flavor}, for at most {own.timeout}? It costs money.")
    return _begun(args, terminal, machines, own, detach=True)


def _begun(args: argparse.Namespace, terminal: Terminal, machines: Machines, own: Handoff, *, detach: bool) -> Answer:
    try:
        own = machines.start(own, cancel=terminal.cancel)
    except Cancelled as error:
        terminal.say(str(error))
        raise
    except UserInputError:
        terminal.say(
            f"what was sent is in {own.repo_id}, which is private: begin with `remote start {own.id}`, or take it away "
            f"with `remote delete {own.id}`"
        )
        raise
    terminal.say(f"begun: {own.id} (Job {own.job_id} of {own.owner}, on {own.flavor}, for at most {own.timeout})")
    if detach:
        return Answer(results=(own.id,), notes=(f"see it with `remote follow {own.id}`",), data=_about(own))
    args.id, args.name = own.id, None
    _follow(args, terminal)
    return _pull(args, terminal)


def _follow(args: argparse.Namespace, terminal: Terminal) -> Answer:
    machines, own = _found(args)
    terminal.follow(machines.follow(own, cancel=terminal.cancel))
    if terminal.cancel.is_set():
        terminal.say(f"its Job goes on, and costs what it costs: `remote follow {own.id}`, or `remote stop {own.id}`")
        raise Cancelled
    note = f"its Job has ended well: `remote pull {own.id}` fetches the adapter"
    return Answer(results=(own.id,), notes=(note,), data=_about(own))


def _pull(args: argparse.Namespace, terminal: Terminal) -> Answer:
    machines, own = _found(args)
    done = machines.pull(own, name=args.name, watch=terminal.show, cancel=terminal.cancel)
    paths = [done.path] if done.best is None else [done.best, done.path]
    notes = (
        f"fetched {done.path.name}: {done.applied} of {done.applied} keys apply",
        *done.samples.said(own.repo_id),
        f"the clips are still in {own.repo_id}, which is private: `remote delete {own.id}` takes them away",
    )
    data = _about(own) | {"path": str(done.path), "best": str(done.best) if done.best else None, "keys": done.applied}
    data |= {"videos": [str(path) for path, _ in done.samples.videos], "videos_left": done.samples.left}
    return Answer(results=tuple(map(str, paths)), notes=notes, data=data)


def _stop(args: argparse.Namespace, _: Terminal) -> Answer:
    machines, own = _found(args)
    machines.stop(own)
    note = f"its Job is stopped; the clips are still in {own.repo_id}: `remote delete {own.id}` takes them away"
    return Answer(results=(own.id,), notes=(note,), data=_about(own))


def _delete(args: argparse.Namespace, terminal: Terminal) -> Answer:
    machines, own = _found(args)
    agreed(args, terminal, f"delete the dataset {own.repo_id}, with the clips and what was learnt there?")
    machines.delete(own)
    return Answer(results=(own.id,), notes=(f"{own.repo_id} is deleted, and forgotten here",), data=_about(own))


def _list(_: argparse.Namespace, __: Terminal) -> Answer:
    from synmotion_core.hosting.machines import Machines

    machines = Machines(Workspace())
    rows, lines = [], []
    for own in machines.ledger.all():
        if own.job_id:
            try:
                now = machines.stage(own)
                stage = f"{now.name.lower()} ({now.message})" if now.message else now.name.lower()
            except UserInputError as error:
                stage = f"unknown: {error}"
        else:
            stage = f"sent, not begun: `remote start {own.id}`" if own.commit else "not sent whole"
        rows.append(_about(own) | {"stage": stage})
        lines.append(printable(f"{own.id}  {own.name}  {own.flavor}  {own.created[:16]}  {stage}"))
    notes = () if rows else ("no training was handed off from here",)
    return Answer(results=tuple(lines), notes=notes, data={"handoffs": rows})


def _found(args: argparse.Namespace) -> tuple[Machines, Handoff]:
    from synmotion_core.hosting.machines import Machines

    machines = Machines(Workspace())
    return machines, machines.ledger.find(args.id)


def _leaves(order: Order, own: Handoff) -> list[str]:
    """What somebody should know before a training is handed off."""
    source = [file for file in order.files if file not in order.given]
    lines = ["These files of yours leave this machine, whole, with whatever a camera noted in them:"]
    lines += [printable(f"  {file.path}  {file.size:,} bytes  as {file.name}") for file in order.given]
    lines.append(f"with the settings and words of the training, and this studio's source, {len(source)} files")
    lines.append(f"They go to {own.repo_id} on the Hub, a private dataset, which stays until you delete it.")
    lines.append("Your token goes to the machine as a secret of the Job, to fetch them and to put the adapter there.")
    lines.append(
        f"The machine is {own.flavor}, for at most {own.timeout}. It costs money; how much is not known here: see "
        "huggingface.co/pricing"
    )
    return lines


def _about(own: Handoff) -> dict[str, object]:
    return {"id": own.id, "name": own.name, "repo": own.repo_id, "job": own.job_id, "flavor": own.flavor}


def contents(files: Sequence[Source]) -> list[str]:
    """Every file that leaves, a line each."""
    return [printable(f"  {file.name}  {file.size:,} bytes") for file in files]


def _as_data(files: Sequence[Source]) -> list[dict[str, object]]:
    return [{"name": file.name, "size": file.size} for file in files]


Command = Callable[[argparse.Namespace, Terminal], Answer]
_ACTIONS: dict[str, Command] = {
    "train": _train,
    "start": _start,
    "follow": _follow,
    "pull": _pull,
    "stop": _stop,
    "delete": _delete,
    "list": _list,
}
COMMANDS: dict[str, Command] = {"space": space, "remote": remote}
