"""`python -m synmotion_core`: everything the page does and more, for terminals, scripts and clusters.

Results go to standard output (paths, tables; with --json one JSON object a line), progress and notes to standard error.
Exit codes: 0 done, 1 a bug of ours, 2 input that cannot be used (the reason is on standard error), 3 figures
that are not what their suite expects, 130 stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from synmotion_core import arguments, command
from synmotion_core.command import PROGRAM, RUN_FILE, same_command
from synmotion_core.config import GenerateRun, TrainRun, to_dict
from synmotion_core.errors import (
    Cancelled,
    ConfigError,
    ExpectationError,
    MissingError,
    StorageError,
    TrainingDiverged,
    UserInputError,
)
from synmotion_core.progress_line import ProgressLine, duration, printable
from synmotion_core.training import together

if TYPE_CHECKING:
    from synmotion_core.evaluation.figures import Figure
    from synmotion_core.exchange import Answer
    from synmotion_core.locks import FileLock
    from synmotion_core.types import Event

R = TypeVar("R", bound=TrainRun | GenerateRun)
OK, BUG, REFUSED, UNMET, STOPPED = 0, 1, 2, 3, 130


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a console that lacks a letter shows its number, and the work goes on
            reconfigure(errors="backslashreplace")
    args = arguments.build_parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s: %(message)s")
    if not args.verbose:  # what libraries say while they load helps nobody here
        os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        return COMMANDS[args.command](args)
    except (UserInputError, TrainingDiverged) as error:
        _note("\n".join(map(printable, str(error).split("\n"))))  # it may quote a file of somebody's
        return REFUSED
    except ExpectationError as error:
        print(error, file=sys.stderr)
        return UNMET
    except (Cancelled, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # `| head` has seen enough
        with contextlib.suppress(OSError):
            sys.stdout.close()
        return STOPPED
    except Exception as error:
        from synmotion_core.planning import room

        if room.ran_out(error):
            _note(room.too_little())
            return REFUSED
        traceback.print_exc()
        print("This is a bug of SynMotion, not of yours; the lines above say where.", file=sys.stderr)
        return BUG


# ------------------------------------------------------------------------------------------------ runs


def _train(args: argparse.Namespace) -> int:
    from synmotion_core import pace, run
    from synmotion_core.adapters.shelf import publish
    from synmotion_core.locks import FileLock
    from synmotion_core.planning import room
    from synmotion_core.storage import replacing
    from synmotion_core.types import Saved, Stopped
    from synmotion_core.workspace import Workspace, safe_name

    out, config = _run_folder(args)
    safe_name(config.name)
    _check_room(config, going_on=args.ignore_memory or args.resume)
    if not together.asked().leads:  # of several processes the first one speaks, and writes
        with _interruptible() as cancel:
            with room.told(config):
                for _ in run.train(config, out, cache=Workspace().cache, cancel=cancel, resume=args.resume):
                    pass
        return OK
    workspace, stopwatch, begun, lock = Workspace(), pace.Stopwatch(config), False, FileLock(out / "owner.lock")

    def watch(event: Event) -> None:
        nonlocal begun
        if not begun:  # a run that was refused leaves nothing in the way of the next try
            out.mkdir(parents=True, exist_ok=True)
            _keep_out_others(lock)
            with replacing(out / RUN_FILE) as temporary:
                temporary.write_text(json.dumps(to_dict(config), indent=1) + "\n", encoding="ascii")
            _note(f"training {config.name!r} in {out}")
            command.say_no_samples(config, _note)
            begun = True
        stopwatch.see(event)
        if isinstance(event, Saved) and event.applied is not None:
            _note(f"saved {event.path.name} and loaded it back: {event.applied} of {event.applied} keys apply")

    try:
        if args.resume:
            _keep_out_others(lock)
        with _interruptible() as cancel, room.told(config):
            events = run.train(config, out, cache=workspace.cache, cancel=cancel, resume=args.resume)
            last = _follow(events, args.json, watch)
    finally:
        lock.release()
    stopwatch.note(workspace)
    if isinstance(last, Stopped):
        resume = f"{PROGRAM} train --resume --out {shlex.quote(str(out))}"
        _note(f"stopped at step {last.step}, which is saved. Go on with:\n  {resume}")
        return STOPPED
    adapter, best = getattr(last, "path", None), getattr(last, "best", None)
    if adapter is not None:
        shelf, _ = publish(workspace.adapters, adapter, best, _note, again=args.resume)
        if shelf != adapter:
            _note(f"it is among this machine's adapters, by the name {shelf.stem}: {shelf}")
    if adapter is not None and not args.json:
        if best is not None:
            print(best)
        print(adapter)
        example = ["generate", "--adapter", str(adapter), "--subject", "a red cat", "--out", "videos"]
        example += ["--image", "red-cat.png"] if config.mode == "i2v" else []
        example += command.drawing_arguments(config)
        _note(f"Use it with:\n  {PROGRAM} {shlex.join(example)}")
    return OK


def _keep_out_others(lock: FileLock) -> None:
    """Of two processes that train in one folder, each would write the other's checkpoints over: the second is
    refused."""
    try:
        if lock.held or lock.acquire():
            return
    except OSError as error:
        raise StorageError(f"{lock.path} cannot be written: {error.strerror or error}") from error
    raise ConfigError(f"{lock.holder()} trains in {lock.path.parent} at this moment: wait for it, or end it first")


def _run_folder(args: argparse.Namespace) -> tuple[Path, TrainRun]:
    """Where a training lives, and what it is; a folder that holds a run is never written over."""
    out = args.out or (Path("runs") / args.name if args.resume and args.name else None)
    if args.resume:
        if out is None:
            raise ConfigError("--resume needs the run's folder: --out runs/my-wave")
        if args.fit is not None:
            raise ConfigError("--resume goes on with the settings that the run began with: leave --fit out")
        if args.preset is not None:
            raise ConfigError("--resume goes on with the settings that the run began with: leave --preset out")
        if not (out / RUN_FILE).is_file():
            raise MissingError(f"there is no run in {out} to go on with: it has no {RUN_FILE}")
        return out, command.train_run(args, base=out / RUN_FILE, note=_note)
    config = _fitted(command.train_run(args, note=_note), args.fit)
    out = out or Path("runs") / config.name
    if (out / RUN_FILE).exists() and together.asked().leads:
        go_on = f"train --resume --out {shlex.quote(str(out))}"
        raise ConfigError(f"{out} holds a run already: go on with it ({go_on}), or choose another --name or --out")
    return out, config


def _generate(args: argparse.Namespace) -> int:
    from synmotion_core import pace, run
    from synmotion_core.planning import room
    from synmotion_core.types import Stopped
    from synmotion_core.workspace import Workspace

    config = _fitted(command.generate_run(args), args.fit)
    _check_room(config, going_on=args.ignore_memory)
    stopwatch = pace.Stopwatch(config)

    def watch(event: Event) -> None:  # a run that was refused leaves no folder behind
        args.out.mkdir(parents=True, exist_ok=True)
        stopwatch.see(event)

    with _interruptible() as cancel, room.told(config):
        last = _follow(run.generate(config, args.out, cancel=cancel), args.json, watch)
    stopwatch.note(Workspace())
    if isinstance(last, Stopped):
        _note(f"stopped; what is finished is in {args.out}")
        return STOPPED
    return OK


def _prior(args: argparse.Namespace) -> int:
    from synmotion_core import run
    from synmotion_core.types import Stopped
    from synmotion_core.workspace import Workspace

    config, cache = command.train_run(args, note=_note), Workspace().cache
    with _interruptible() as cancel:
        last = _follow(run.draw_priors(config, cache, cancel=cancel), args.json)
    if isinstance(last, Stopped):
        _note("stopped; the same command goes on where it was")
        return STOPPED
    _note(f"the subject prior videos are in {cache / 'priors'}")
    return OK


def _plan(args: argparse.Namespace) -> int:
    from synmotion_core import pace, run
    from synmotion_core.workspace import Workspace

    config, workspace, gib = command.train_run(args, note=_note), Workspace(), _asked_gib(args.fit)
    run.plan(config)  # what does not fit together is said before anything is loaded
    if args.probe:
        found: list[float | None] = []

        def events() -> Iterator[Event]:
            found.append((yield from run.probe(config, cache=workspace.cache, cancel=cancel)))

        with _interruptible() as cancel:
            _follow(events(), False)
        if found[0] is None:
            _note("stopped")
            return STOPPED
        pace.remember(workspace, config, found[0])
    plan = run.plan(config, seconds_per_step=pace.recall(workspace, config), fit_gib=gib)
    if args.json:
        _print_json(to_dict(plan))
    else:
        print("\n".join([*plan.lines, *plan.ways]))
    return OK


def _asked_gib(asked: float | bool | None) -> float | None:
    """What --fit stands for: a number of GiB, or, without one, the GPU that is here."""
    from synmotion_core.planning import machine

    return machine.required_card_gib() if asked is True else asked


def _fitted(config: R, asked: float | bool | None) -> R:
    """The run, changed until it fits, where --fit asks for it; what that is and what it costs is said."""
    gib = _asked_gib(asked)
    if gib is None:
        return config
    from synmotion_core.planning.ladder import fit

    rung = fit(config, gib)
    if not rung.changes:
        _note(f"fits {gib:.4g} GiB as it is: about {rung.needs.peak:.1f} GiB")
        return rung.run
    _note(f"to fit {gib:.4g} GiB ({rung.needs.peak:.1f} are needed): {' '.join(rung.options)}")
    for price in rung.prices:
        _note(f"  the price: {price}")
    return rung.run


def _check_room(config: TrainRun | GenerateRun, *, going_on: bool) -> None:
    """Refuse a run that cannot fit the GPU that is here, before anything is fetched; say of one that may not."""
    from synmotion_core.planning import room

    short = room.shortage(config)
    if short is None:
        return
    if short.certain and not going_on:
        raise ConfigError(f"{short.numbers}: {short.way}; --ignore-memory begins all the same")
    _note(f"warning: {short.numbers}: {short.way}")


def _follow(events: Iterator[Event], as_json: bool, watch: Callable[[Event], None] = lambda _: None) -> Event | None:
    """Show events until they end; returns the last one."""
    from synmotion_core.events import event_to_dict
    from synmotion_core.run.yardstick import in_words
    from synmotion_core.types import Finished, Noted, Progress, Sampled, Scored, Warned

    line, last = ProgressLine(sys.stderr), None
    try:
        for last in events:
            watch(last)
            if as_json:
                _print_json(event_to_dict(last))
            elif isinstance(last, Progress):
                line.show(last)
            elif isinstance(last, Sampled):
                line.close()
                print(last.path, flush=True)
            elif isinstance(last, Scored):
                line.write(in_words(last))
            elif isinstance(last, Warned):
                line.write(f"warning: {last.message}")
            elif isinstance(last, Noted):
                line.write(last.message)
            elif isinstance(last, Finished):
                line.write(f"finished in {duration(last.seconds)}")
    finally:
        line.close()
    return last


@contextlib.contextmanager
def _interruptible(says: str = "stopping after this step and saving") -> Iterator[threading.Event]:
    """The first Ctrl-C (or a polite kill) sets the event, the second one ends the program at once."""
    cancel = threading.Event()

    def on_signal(number: int, _: Any) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()
        _note(f"\n{says}; press Ctrl-C again to stop at once")

    if threading.current_thread() is not threading.main_thread():  # Python hears signals in the main thread only
        yield cancel
        return
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield cancel
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ------------------------------------------------------------------------------------------------ the others


def _exchange(args: argparse.Namespace) -> int:
    from synmotion_core import exchange

    return _answered(exchange.COMMANDS[args.command](args), args.json)


def _answered(answer: Answer, as_json: bool) -> int:
    if as_json:
        _print_json(answer.data)
        return OK
    for line in answer.notes:
        _note(line)
    print("\n".join(answer.results))
    return OK


def _share(args: argparse.Namespace) -> int:
    from synmotion_core import sharing
    from synmotion_core.hosting.commands import COMMANDS as HOSTING

    line = ProgressLine(sys.stderr)

    def ask(question: str) -> bool:
        _note(f"{question} [y/N]")
        return sharing.terminal_answer(question, sys.stdin.readline if sys.stdin.isatty() else None)

    with _interruptible("stopping here; what runs elsewhere goes on") as cancel:
        try:
            terminal = sharing.Terminal(
                say=_note, ask=ask, show=line.show_bytes, cancel=cancel, follow=lambda e: _follow(e, args.json)
            )
            answer = {**sharing.COMMANDS, **HOSTING}[args.command](args, terminal)
        finally:
            line.close()
    return _answered(answer, args.json)


def _doctor(args: argparse.Namespace) -> int:
    from synmotion_core import doctoring

    return OK if doctoring.doctor(args, print, _print_json if args.json else None) else REFUSED


def _models(args: argparse.Namespace) -> int:
    from synmotion_core.backbones import SPECS
    from synmotion_core.interfaces import why_incompatible
    from synmotion_core.methods import METHODS

    reasons = {(s, m): why_incompatible(SPECS[s], m, METHODS[m].requires) for s in SPECS for m in METHODS}
    if args.json:
        for spec in SPECS.values():
            about = {name: getattr(spec, name) for name in ("title", "knows", "licence", "needs_gpu")}
            about |= {"parameters": dict(spec.parameters), "modes": list(spec.modes)}
            fits = {m: reasons[spec.name, m] or True for m in METHODS}
            _print_json({"backbone": spec.name, **about, "methods": fits})
        for method in METHODS.values():
            _print_json({"method": method.name, "title": method.title, "requires": sorted(method.requires)})
        return OK
    width = max(map(len, [*SPECS, *METHODS]))
    print("backbones")
    for spec in SPECS.values():
        facts = [
            f"makes {' and '.join(spec.modes)}",
            f"{sum(spec.parameters.values()) / 1e6:,.0f} M parameters",
            "needs a GPU" if spec.needs_gpu else "runs on a CPU",
            f"licence {spec.licence}",
            f"knows {spec.knows}",
        ]
        print(f"  {spec.name:<{width}}  {spec.title}; {'; '.join(facts)}")
    print("methods")
    for method in METHODS.values():
        print(f"  {method.name:<{width}}  {method.title}")
    refused = {method: [spec for spec in SPECS if reasons[spec, method]] for method in METHODS}
    print("what does not fit" if any(refused.values()) else "every method fits every backbone")
    for method, specs in refused.items():
        if specs:
            needs = ", ".join(sorted(METHODS[method].requires))
            fits = [spec for spec in SPECS if spec not in specs]
            print(f"  {method:<{width}}  needs {needs}; {_listing(specs, fits)}")
    return OK


def _listing(refused: list[str], fits: list[str]) -> str:
    """Whichever is the shorter list."""
    if len(fits) < len(refused):
        return f"fits {', '.join(fits) or 'none'} alone"
    return f"does not fit {', '.join(refused)}"


def _bench(args: argparse.Namespace) -> int:
    from synmotion_core import measuring

    measuring.bench(args, lambda figure: _print_figure(figure, args.json), lambda line: print(line, flush=True))
    return OK


def _print_figure(figure: Figure, as_json: bool) -> None:
    if as_json:
        _print_json(figure.as_dict())
        return
    interval = f"[{figure.low:.4g}, {figure.high:.4g}]"
    source = f"n={figure.n}  seeds={','.join(map(str, figure.seeds))}  {figure.seconds:.0f} s"
    print(f"{figure.name:<44} {figure.value:>8.4g}  {interval:<20}  {source}", flush=True)


def _print_json(values: Any) -> None:
    print(json.dumps(values, allow_nan=False), flush=True)


def _note(text: str) -> None:
    if together.asked().leads:
        print(text, file=sys.stderr, flush=True)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "train": _train,
    "generate": _generate,
    "prior": _prior,
    "plan": _plan,
    "bench": _bench,
    "doctor": _doctor,
    "models": _models,
    "import": _exchange,
    "convert": _exchange,
    "convert-official": _exchange,
    "export": _exchange,
    "search": _share,
    "pull": _share,
    "push": _share,
    "space": _share,
    "remote": _share,
}

__all__ = ["BUG", "COMMANDS", "OK", "REFUSED", "STOPPED", "UNMET", "main", "same_command"]
