"""The options of `space` and `remote`, which put this studio or one training on other machines. Argparse alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

_SPACE = """\
Put this studio on a Hugging Face Space, private unless --public is said, as one commit. Every file is listed before any
is sent. A second time sends what changed, and deletes what is gone here. Needs HF_TOKEN, with the right to write.

examples:
  {p} space deploy ann/studio --dry-run
  {p} space deploy ann/studio
  {p} space deploy ann/studio --hardware l4x1 --public        hardware may cost money
"""

_REMOTE = """\
Train on Hugging Face's machines: what `train` learns here, learnt there, for money. The clips leave this machine, to a
private dataset of yours; they are listed and asked for first. Needs HF_TOKEN, with the right to write and to run Jobs.

examples:
  {p} remote train --on hf:l4x1 --clips clips --subject "a person" --motion "waves" --name my-wave
  {p} remote list
  {p} remote follow 4f2c1ab0              its log, as that of a training here; Ctrl-C stops the following alone
  {p} remote pull 4f2c1ab0                the adapter, to this machine's adapters
  {p} remote stop 4f2c1ab0
  {p} remote delete 4f2c1ab0              the dataset with the clips, too
"""

_REMOTE_TRAIN = """\
Hand a training off, with the options of `train`; then follow it, and fetch its adapter. It ends after --timeout at the
latest, finished or not.

examples:
  {p} remote train --on hf:l4x1 --clips clips --subject "a person" --motion "waves" --name my-wave --timeout 2h
  {p} remote train --on hf:cpu-upgrade --clips assets/clips --motion waves --name w2 --detach
"""

_ACTIONS = {  # what each does with a training, by its id
    "start": "begin its Job, where that has failed",
    "follow": "show its log",
    "pull": "fetch its adapter",
    "stop": "cancel its Job; what it has learnt so far is lost",
    "delete": "take its dataset, with the clips, off the Hub, and forget it here",
}


def add_space(add: Callable[..., argparse.ArgumentParser]) -> None:
    """`space deploy`."""
    space = add("space", _SPACE, "put this studio on a Hugging Face Space")
    space.add_argument("action", choices=["deploy"], help="send the studio")
    space.add_argument("repo", metavar="OWNER/NAME", help="is made where it is not there")
    text = "ask for hardware, for example zero-a10g, t4-small, l4x1, a10g-large; it may cost money (default: as it is)"
    space.add_argument("--hardware", metavar="NAME", help=text)
    space.add_argument("--public", action="store_true", help="for everybody to see and use (default: private)")
    text = "write over a Space that is not one of this studio: what it holds is deleted"
    space.add_argument("--replace", action="store_true", help=text)
    space.add_argument("--dry-run", action="store_true", help="list the files; nothing is sent")
    _add_yes(space)
    _add_output(space, "print one JSON object")


def _add_yes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="do not ask")


def _add_output(parser: argparse.ArgumentParser, json_text: str) -> None:
    parser.add_argument("--json", action="store_true", help=json_text)
    parser.add_argument("-v", "--verbose", action="store_true", help="log what is going on")


def add_remote(add: Callable[..., argparse.ArgumentParser], parser: Any, add_train: Callable[..., None]) -> None:
    """`remote train` with the options of `train`, and what is done with one by its id. parser makes a subcommand's."""
    remote = add("remote", _REMOTE, "train on Hugging Face's machines")
    actions = remote.add_subparsers(metavar="ACTION", required=True, dest="action")
    train = parser(actions.add_parser, _REMOTE_TRAIN, name="train", help="hand a training off")
    add_train(train)
    group = train.add_argument_group("where")
    text = "the machine, hf: and its flavor, for example hf:t4-small, hf:l4x1, hf:a10g-large; it costs money"
    group.add_argument("--on", metavar="hf:FLAVOR", required=True, help=text)
    text = "the longest that it may take, with s, m, h or d (default: %(default)s)"
    group.add_argument("--timeout", metavar="T", default="6h", help=text)
    group.add_argument("--owner", metavar="NAME", help="an organization of yours, for dataset and Job (default: you)")
    group.add_argument("--detach", action="store_true", help="do not follow it")
    _add_yes(train)
    _add_output(train, "print events as JSON lines on standard output")
    for name, text in _ACTIONS.items():
        action = actions.add_parser(name, description=text.capitalize() + ".", help=text, allow_abbrev=False)
        action.add_argument("id", metavar="ID", help="see `remote list`")
        if name == "pull":
            action.add_argument("--name", help="of the adapter here (default: as it was trained)")
        if name in ("start", "delete"):
            _add_yes(action)
        _add_output(action, "print JSON lines")
    _add_output(actions.add_parser("list", help="those that were handed off from here"), "print one JSON object")
