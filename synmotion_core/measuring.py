"""The command `bench`: measuring, and what is done with what was measured."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synmotion_core.command import PROGRAM, value_of
from synmotion_core.errors import ConfigError

if TYPE_CHECKING:
    from synmotion_core.evaluation.figures import Figure

_TAKES = {  # beside the folder: at least how many, and in words
    "report": (0, "one folder, that --out made"),
    "compare": (1, "two folders, of before and of after the change"),
    "study": (2, "a folder and two of its rows"),
    "answers": (1, "a folder and the CSV files of people's answers"),
    "merge": (1, "two folders or more, the parts of one suite"),
}
_ALSO = {"study": {"pairs", "seed"}, "merge": {"videos"}}  # settings


def bench(args: argparse.Namespace, show: Callable[[Figure], None], say: Callable[[str], None]) -> None:
    """Do what the parsed options say; figures go to `show` as they are measured, paths to `say`.

    Raises ConfigError or MissingError, naming the option.
    """
    if args.action == "run":
        _run(args, show)
    else:
        _after(args, show, say)


def _run(args: argparse.Namespace, show: Callable[[Figure], None]) -> None:
    from synmotion_core.evaluation import bench

    if args.more:
        raise ConfigError(f"bench run takes one suite, got {', '.join(args.more)} as well")
    options = _settings(args)
    if args.out is not None:
        options |= {"out": args.out, "command": _command(args)}
    try:
        for figure in bench.run(args.suite, motions=args.motions, seeds=args.seeds, **options):
            show(figure)
    except TypeError as error:
        strange = [key for key in options if f"unexpected keyword argument {key!r}" in str(error)]
        if not strange:
            raise
        raise ConfigError(f"suite {args.suite!r} has no setting {strange[0]!r}") from error


def _after(args: argparse.Namespace, show: Callable[[Figure], None], say: Callable[[str], None]) -> None:
    from synmotion_core.evaluation import study
    from synmotion_core.evaluation.merging import merge_results
    from synmotion_core.evaluation.report import write_report
    from synmotion_core.evaluation.results import compare, read_results

    merging = args.action == "merge"
    for option in ("motions", "seeds", *(() if merging else ("out",))):
        if getattr(args, option):
            raise ConfigError(f"bench {args.action} is about what was measured: leave --{option} out")
    settings, folder = _settings(args), Path(args.suite)
    if unknown := settings.keys() - _ALSO.get(args.action, set()):
        raise ConfigError(f"bench {args.action} has no setting {', '.join(sorted(unknown))}")
    count, takes = _TAKES[args.action]
    if len(args.more) < count or (len(args.more) > count and args.action not in ("answers", "merge")):
        raise ConfigError(f"bench {args.action} takes {takes}")
    if merging:
        if args.out is None:
            raise ConfigError("bench merge needs --out, the folder for the whole")
        say(str(merge_results([folder, *map(Path, args.more)], args.out, **settings)))
    elif args.action == "compare":
        for figure in compare(read_results(folder), read_results(Path(args.more[0]))):
            show(figure)
    elif args.action == "answers":
        for figure in study.answers(folder, [Path(name) for name in args.more]):
            show(figure)
    elif args.action == "study":
        say(str(study.make_study(folder, args.more, **settings)))
    else:
        write_report(folder)
        say(str(folder / "report.html"))


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for text in args.settings:
        key, equals, raw = text.partition("=")
        if not equals or not all(part.isidentifier() for part in key.split(".")):
            raise ConfigError(f"--set takes KEY=VALUE, got {text!r}")
        if key in ("suite", "motions", "seeds", "out", "command"):
            raise ConfigError(
                f"--set {key} has no effect: suite is an argument, --motions, --seeds and --out are options"
            )
        options[key] = value_of(raw)
    return options


def _command(args: argparse.Namespace) -> str:
    words = ["bench", "run", args.suite]
    for option, values in (("--motions", args.motions), ("--seeds", args.seeds)):
        words += [option, *map(str, values)] if values else []
    words += [word for text in args.settings for word in ("--set", text)]
    return f"{PROGRAM} {shlex.join([*words, '--out', str(args.out)])}"
