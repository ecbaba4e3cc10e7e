"""The trainings that were handed off: kept whole, one writer at a time, never written over when they cannot be read."""

from __future__ import annotations

import threading

import pytest

from synmotion_core.errors import ConfigError, MissingError
from synmotion_core.hosting.ledger import Handoff, Ledger
from synmotion_core.workspace import Workspace


def handoff(id: str) -> Handoff:
    return Handoff(
        id=id, name="wave", backbone="b", method="m", repo_id=f"ann/synmotion-job-{id}", key="k", flavor="l4x1",
        timeout="6h", created="2026",
    )  # fmt: skip


def test_put_find_change_drop(workspace: Workspace) -> None:
    ledger = Ledger(workspace)
    assert ledger.all() == []
    own = ledger.put(handoff("a"))
    ledger.put(handoff("b"))
    assert ledger.change(own, commit="c1").commit == "c1"
    assert [one.id for one in Ledger(workspace).all()] == ["a", "b"]
    assert Ledger(workspace).find("a").commit == "c1"
    ledger.drop("a")
    with pytest.raises(MissingError, match=r"no training 'a' \(b\)"):
        ledger.find("a")


def test_many_writers_lose_nothing(workspace: Workspace) -> None:
    threads = [threading.Thread(target=Ledger(workspace).put, args=(handoff(f"{n:02d}"),)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.id for one in Ledger(workspace).all()) == [f"{n:02d}" for n in range(12)]


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"version": 2, "handoffs": []}', '{"version": 1, "handoffs": [{"id": 1}]}', "[" * 9000]
)
def test_what_cannot_be_read_stays(workspace: Workspace, content: str) -> None:
    path = workspace.root / "remote.json"
    path.write_text(content)
    with pytest.raises(ConfigError):
        Ledger(workspace).put(handoff("a"))
    assert path.read_text() == content
