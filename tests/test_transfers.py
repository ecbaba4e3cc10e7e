"""Transfers: seen while they run, cancelled between two pieces, and never a traceback for a person."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import pytest

from synmotion_core.errors import Cancelled, ConfigError, HubError, MissingError
from synmotion_core.transfers import MOST, Transfers, TransferView


def ended(transfers: Transfers, id: str) -> TransferView:
    until = time.monotonic() + 10
    while (view := transfers.view(id)).status == "running":
        assert time.monotonic() < until
        time.sleep(0.01)
    return view


def test_a_transfer_is_seen_while_it_runs_and_after() -> None:
    transfers, go = Transfers(), threading.Event()

    def work(watch: Any, cancel: threading.Event) -> tuple[str, int]:
        watch("a.safetensors", 3, 10)
        go.wait(10)
        return "it is there", 7

    id = transfers.start("fetch", work)
    until = time.monotonic() + 10
    while transfers.view(id).done != 3 and time.monotonic() < until:
        time.sleep(0.01)
    view = transfers.view(id)
    assert (view.status, view.what, view.file, view.done, view.size) == ("running", "fetch", "a.safetensors", 3, 10)
    go.set()
    view = ended(transfers, id)
    assert (view.status, view.message, view.result) == ("finished", "it is there", 7)


def test_how_a_transfer_can_end(caplog: pytest.LogCaptureFixture) -> None:
    transfers = Transfers()

    def asked(watch: Any, cancel: threading.Event) -> Any:
        assert cancel.wait(10)
        raise Cancelled

    id = transfers.start("send", asked)
    transfers.cancel(id)
    view = ended(transfers, id)
    assert view.status == "cancelled"
    assert "goes on where it was" in view.message

    def refused(watch: Any, cancel: threading.Event) -> Any:
        raise HubError("your token may not do that")

    view = ended(transfers, transfers.start("send", refused))
    assert (view.status, view.message) == ("failed", "your token may not do that")

    def broken(watch: Any, cancel: threading.Event) -> Any:
        raise KeyError("secret detail")

    with caplog.at_level(logging.ERROR):
        view = ended(transfers, transfers.start("send", broken))
    assert view.status == "failed"
    assert "secret" not in view.message
    assert "secret detail" in caplog.text

    class Panic(BaseException):
        """As a compiled extension raises it."""

    def panics(watch: Any, cancel: threading.Event) -> Any:
        raise Panic

    assert ended(transfers, transfers.start("send", panics)).status == "failed"
    with pytest.raises(MissingError, match="is not there any more"):
        transfers.view("0" * 24)
    with pytest.raises(MissingError):
        transfers.cancel("")


def test_only_so_many_at_once() -> None:
    transfers, go = Transfers(), threading.Event()
    ids = [transfers.start(str(i), lambda watch, cancel: (str(go.wait(10)), None)) for i in range(MOST)]
    with pytest.raises(ConfigError, match=f"{MOST} transfers are running"):
        transfers.start("one more", lambda watch, cancel: ("", None))
    assert len(set(ids)) == MOST
    go.set()
    assert all(ended(transfers, id).status == "finished" for id in ids)
    assert ended(transfers, transfers.start("one more", lambda watch, cancel: ("", None))).status == "finished"
