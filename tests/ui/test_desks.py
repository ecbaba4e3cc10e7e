"""Who is who, whose desk is whose, and whose turn it is."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from synmotion_core.errors import ConfigError
from synmotion_core.locks import FileLock, Turns
from synmotion_core.ui import guard, people
from synmotion_core.ui.desks import GUEST_S, Desks
from synmotion_core.ui.notices import guarded, quiet
from synmotion_core.ui.people import COOKIE, Person, at_work_for, person_of
from synmotion_core.workspace import Workspace

INFO = {"userinfo": {"sub": "a1", "preferred_username": "ann"}, "access_token": "hf_secret"}


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "someone/space")


def request(session: dict[str, Any] | None = None, page: str = "page") -> Any:
    scope = {} if session is None else {"session": session}
    return SimpleNamespace(request=SimpleNamespace(scope=scope), session_hash=page)


def test_at_home_there_is_nobody_to_tell_apart(workspace: Workspace, assets: Path) -> None:
    assert person_of(request({"oauth_info": INFO})) == Person() == person_of(None)
    with Desks(workspace, assets=assets) as desks:
        assert desks.here().workspace == workspace


@pytest.mark.usefixtures("space")
def test_a_space_for_oneself_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert people.shared()
    monkeypatch.setenv("SYNMOTION_ALONE", "1")
    assert not people.shared()


@pytest.mark.usefixtures("space")
def test_who_sent_a_request() -> None:
    ann = person_of(request({"oauth_info": INFO, COOKIE: "x"}))
    assert (ann.key, ann.name, ann.token) == ("people/a1", "ann", "hf_secret")
    assert "hf_secret" not in repr(ann)
    renamed = {**INFO, "userinfo": {"sub": "a1", "preferred_username": "anna"}}
    assert person_of(request({"oauth_info": renamed})).key == ann.key
    late = person_of(request({"oauth_info": {**INFO, "expires_at": time.time() - 1}, COOKIE: "x"}))
    by_cookie, by_page = person_of(request({COOKIE: "x"})), person_of(request(page="x"))
    assert late == by_cookie
    assert len({late.key, by_page.key, person_of(request({COOKIE: "y"})).key, ann.key}) == 4
    assert (by_cookie.cookie, by_page.cookie) == (True, False)


@pytest.mark.usefixtures("space")
@pytest.mark.parametrize("sub", ["../b2", "", "a/b", "x" * 65, ".."])
def test_an_account_that_would_leave_its_folder_is_refused(sub: str) -> None:
    with pytest.raises(ConfigError, match="log in again"):
        person_of(request({"oauth_info": {"userinfo": {"sub": sub}}}))


@pytest.mark.usefixtures("space")
def test_nobody_has_no_desk(workspace: Workspace, assets: Path) -> None:
    with Desks(workspace, assets=assets) as desks:
        with pytest.raises(RuntimeError, match="outside of a handler"):
            desks.here()
        with pytest.raises(ConfigError, match="no session"), at_work_for(request(page="")):
            pass
        with at_work_for(request({"oauth_info": INFO})):
            assert desks.here().workspace.root == workspace.root / "people" / "a1"
            in_a_thread: list[Any] = []
            thread = threading.Thread(target=lambda: in_a_thread.append(people.person_now()))
            thread.start()
            thread.join()
            assert in_a_thread == [None]
        assert people.person_now() is None


@pytest.mark.usefixtures("space")
def test_every_handler_knows_who_asks(workspace: Workspace, assets: Path) -> None:
    """Through Gradio's own reading of the signature, with and without an event."""
    from gradio.helpers import special_args

    seen: list[Any] = []

    def handler(values: Any) -> dict[Any, Any]:
        seen.append((people.person_now(), values))
        return {"a": 1}

    def pressed(values: Any, event: gr.EventData) -> dict[Any, Any]:
        seen.append((people.person_now(), event._data))
        return {"a": 1}

    asked = gr.Request(None, session_hash="page")
    for wrap in (lambda one: guarded("m", one), quiet):  # type: ignore[arg-type]
        safe = wrap(handler)
        inputs, *_ = special_args(safe, [{"x": 1}], asked)  # type: ignore[arg-type]
        safe(*inputs)
    safe = guarded("m", pressed)  # type: ignore[arg-type]
    event = gr.EventData(None, {"source": "b"})  # type: ignore[arg-type]
    inputs, _, place, _ = special_args(safe, [{"x": 1}], asked, event)  # type: ignore[arg-type]
    assert place == 2
    safe(*inputs)
    own = person_of(asked)
    assert [one[0] for one in seen] == [own] * 3
    assert seen[2][1] == {"source": "b"}


@pytest.mark.usefixtures("space")
def test_a_guest_who_left_is_forgotten(workspace: Workspace, assets: Path) -> None:
    guests = [person_of(request({COOKIE: name})) for name in "abc"]
    ann = person_of(request({"oauth_info": INFO}))
    with Desks(workspace, assets=assets) as desks:
        homes = [desks.of(person).workspace.root for person in (*guests, ann)]
        (homes[0] / "left").write_text("x")
        later = time.time() + GUEST_S + 10
        desks._used[guests[1].key] = later  # came again
        desks._swept = 0.0
        desks._sweep(guests[2].key, clock=lambda: later)  # who is coming now
        assert [home.exists() for home in homes] == [False, True, True, True]
        assert desks.of(guests[0]).workspace.root == homes[0]
        assert not (homes[0] / "left").exists()


@pytest.mark.usefixtures("space")
def test_a_desk_that_cannot_be_deleted_is_said(
    workspace: Workspace, assets: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(place: Path) -> None:
        raise PermissionError(13, "Permission denied", str(place))

    monkeypatch.setattr("synmotion_core.ui.desks.shutil.rmtree", refuse)
    with Desks(workspace, assets=assets) as desks:
        desks.of(person_of(request({COOKIE: "a"})))
        desks._swept = 0.0
        desks._sweep("guests/b", clock=lambda: time.time() + GUEST_S + 10)
    (record,) = [one for one in caplog.records if one.levelname == "WARNING"]
    assert "Permission denied" in record.getMessage()


@pytest.mark.usefixtures("space")
def test_too_many_visitors(workspace: Workspace, assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synmotion_core.ui.desks.MOST_GUESTS", 2)
    with Desks(workspace, assets=assets) as desks:
        for name in "ab":
            desks.of(person_of(request({COOKIE: name})))
        desks.of(person_of(request({COOKIE: "a"})))
        desks.of(person_of(request({"oauth_info": INFO})))
        with pytest.raises(ConfigError, match="too many visitors"):
            desks.of(person_of(request({COOKIE: "c"})))


@pytest.mark.usefixtures("space")
def test_an_address_opens_for_whom_it_was_made(tmp_path: Path) -> None:
    ann, bob = person_of(request({"oauth_info": INFO})), person_of(request({COOKIE: "bob"}))
    path = str(tmp_path / "a.mp4")
    with at_work_for(request({"oauth_info": INFO})):
        guard.own(path)
    odd = str(tmp_path / "x" / ".." / "a.mp4")
    assert [guard.may(person, odd) for person in (ann, bob, None)] == [True, False, False]
    with at_work_for(request(page="no cookies")):
        guard.own(str(tmp_path / "b.mp4"))
    assert guard.may(None, str(tmp_path / "b.mp4"))
    assert not guard.may(ann, str(tmp_path / "never shown.mp4"))


def test_addresses_of_files_that_are_gone_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_owners", {})
    monkeypatch.setattr(guard, "MANY", 3)
    here = tmp_path / "here.mp4"
    here.write_text("x")
    for name in ("here.mp4", "1", "2", "3", "4"):
        guard._note(str(tmp_path / name), Person(key="guests/x", cookie=True))
    assert sorted(os.path.basename(path) for path in guard._owners) == ["4", "here.mp4"]


def test_turns_go_by_who_waits_longest(tmp_path: Path) -> None:
    turns, other = Turns(tmp_path / "device.lock"), FileLock(tmp_path / "device.lock")
    first, second, third = (turns.line_up() for _ in range(3))
    assert [turns.take(place) for place in (second, first, third)] == [False, True, False]
    assert turns.take(first)  # it keeps it
    assert "another's job" in turns.why(second)
    assert "2 others' jobs" in turns.why(third)
    assert not other.acquire()
    turns.leave(second)  # gave up
    turns.leave(first)
    turns.leave(first)
    assert other.acquire()  # another process is quicker
    assert not turns.take(third)
    assert "process" in turns.why(third)
    other.release()
    assert turns.take(third)
