"""Who is who, whose desk is whose, and whose turn it is."""

from __future__ import annotations

import os
import signal
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
from synmotion_core.ui.desks import GUEST_S, IDLE_S, Desks
from synmotion_core.ui.notices import guarded, quiet
from synmotion_core.ui.people import COOKIE, Person, at_work_for, person_of
from synmotion_core.workspace import Workspace
from tests.ui.studio import run_apart

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
    with pytest.raises(ConfigError, match="your log-in has ended: reload the page"):  # a guest would lose what is made
        person_of(request({"oauth_info": {**INFO, "expires_at": time.time() - 1}, COOKIE: "x"}))
    by_cookie, by_page = person_of(request({COOKIE: "x"})), person_of(request(page="x"))
    assert len({by_cookie.key, by_page.key, person_of(request({COOKIE: "y"})).key, ann.key}) == 4
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
            made_something(desks.of(person_of(request({COOKIE: name}))).workspace)
        desks.of(person_of(request({COOKIE: "a"})))
        desks.of(person_of(request({"oauth_info": INFO})))
        with pytest.raises(ConfigError, match="too many visitors"):
            desks.of(person_of(request({COOKIE: "c"})))


def made_something(own: Workspace) -> None:
    (own.clips / "mine.mp4").write_text("x")


@pytest.mark.usefixtures("space")
def test_requests_without_a_cookie_keep_nobody_out(
    workspace: Workspace, assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a new guest, whose desk is empty; guests with something on theirs, or with work, stay."""
    monkeypatch.setattr("synmotion_core.ui.desks.MOST_GUESTS", 4)
    kept, works = (person_of(request({COOKIE: name})) for name in "ab")
    with Desks(workspace, assets=assets) as desks:
        monkeypatch.setattr(desks, "_busy", lambda key: key == works.key)
        made_something(desks.of(kept).workspace)
        desks.of(works)
        for number in range(20):
            assert desks.of(person_of(request(page=f"session {number}"))).workspace.clips.is_dir()
        assert {kept.key, works.key} < set(desks._desks)
        assert len(desks._desks) == 4
        assert len(list((workspace.root / "guests").iterdir())) == 4, "empty desks leave nothing behind"
        assert (desks.of(kept).workspace.clips / "mine.mp4").exists()


@pytest.mark.usefixtures("space")
def test_what_is_written_while_a_desk_is_put_away_stays(
    workspace: Workspace, assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synmotion_core.ui.desks.MOST_GUESTS", 1)
    guest = person_of(request({COOKIE: "a"}))
    with Desks(workspace, assets=assets) as desks:
        desk = desks.of(guest)
        monkeypatch.setattr(desk.jobs, "close", lambda: made_something(desk.workspace))  # after it was found empty
        desks.of(person_of(request({COOKIE: "b"})))
        assert guest.key not in desks._desks
        assert (desks.of(guest).workspace.clips / "mine.mp4").exists()


@pytest.mark.usefixtures("space")
def test_who_is_away_makes_room(workspace: Workspace, assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Desks that are put away are found again on disk, those with work that runs stay, and empty ones are deleted."""
    monkeypatch.setattr("synmotion_core.ui.desks.MOST_GUESTS", 3)
    people_here = {name: person_of(request({COOKIE: name})) for name in "abcde"}
    with Desks(workspace, assets=assets) as desks:
        homes = {name: desks.of(people_here[name]).workspace.root for name in "abc"}
        for name in "bc":
            made_something(desks.of(people_here[name]).workspace)
        monkeypatch.setattr(desks, "_busy", lambda key: key == people_here["a"].key)
        desks._used[people_here["a"].key] -= IDLE_S + 10
        with pytest.raises(ConfigError, match="too many visitors"):  # one is away, and has work
            desks.of(people_here["d"])
        (homes["c"] / "clips" / "mine.mp4").unlink()
        for age, name in enumerate("cba"):
            desks._used[people_here[name].key] -= IDLE_S + 10 + age
        monkeypatch.setattr("synmotion_core.ui.desks.MOST_GUESTS", 2)
        desks.of(people_here["d"])
        assert homes["a"].exists(), "it has work"
        assert (homes["b"] / "clips" / "mine.mp4").exists()
        assert not homes["c"].exists(), "nothing was in it"
        assert set(desks._desks) == {people_here[name].key for name in "ad"}
        desks._used[people_here["d"].key] -= 1000
        assert (desks.of(people_here["b"]).workspace.clips / "mine.mp4").exists()


@pytest.mark.usefixtures("space")
def test_a_guest_who_comes_again_is_known_to_after_a_restart(workspace: Workspace, assets: Path) -> None:
    guest, long_ago = person_of(request({COOKIE: "a"})), time.time() - GUEST_S - 100
    for comes in (True, False):
        with Desks(workspace, assets=assets) as desks:
            home = desks.of(guest).workspace.root
            os.utime(home, (long_ago, long_ago))
            if comes:
                desks.of(guest)
        with Desks(workspace, assets=assets) as desks:
            desks._sweep("guests/b")
            assert home.exists() == comes


@pytest.mark.usefixtures("space")
@pytest.mark.parametrize(
    ("origin", "counts"),
    [
        (None, True),
        ("https://ann-studio.hf.space", True),
        ("https://ANN-studio.hf.space", True),
        ("https://own.example", True),
        ("https://evil.example", False),
        ("https://ann-studio.hf.space.evil.example", False),
        ("http://ann-studio.hf.space:81", False),
        ("null", False),
    ],
)
def test_from_another_site_a_cookie_counts_for_nobody(
    origin: str | None, counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradio answers any site's pages, with their visitors' cookies."""
    monkeypatch.setenv("SPACE_HOST", "ann-studio.hf.space,own.example")
    headers = [(b"host", b"ann-studio.hf.space"), *([(b"origin", origin.encode())] if origin else [])]
    session = {"oauth_info": INFO, COOKIE: "x"}
    scope = {"type": "http", "path": "/gradio_api/queue/join", "method": "POST", "headers": headers, "session": session}
    seen = through_the_guard(scope)
    assert (people.from_cookie(seen["session"]) is not None) == counts
    assert session == {"oauth_info": INFO, COOKIE: "x"}, "the visitor's own stays as it is"


@pytest.mark.usefixtures("space")
@pytest.mark.parametrize(
    ("path", "sent_by", "counts"),
    [
        ("/logout", "cross-site", False),
        ("/logout/", "cross-site", False),
        ("/logout", "same-site", False),
        ("/logout", "same-origin", True),
        ("/logout", "none", True),
        ("/logout", None, True),
        ("/login/callback", "cross-site", True),
        ("/", "cross-site", True),
    ],
)
def test_no_other_site_logs_anybody_out(path: str, sent_by: str | None, counts: bool) -> None:
    """An <img> names no origin; and the way back from the log-in is from another site."""
    session = {"oauth_info": INFO, COOKIE: "x"}
    headers = [(b"sec-fetch-site", sent_by.encode())] if sent_by else []
    seen = through_the_guard({"type": "http", "path": path, "method": "GET", "headers": headers, "session": session})
    seen["session"].pop("oauth_info", None)  # as Gradio does
    assert ("oauth_info" not in session) == counts


@pytest.mark.usefixtures("space")
def test_a_log_in_that_has_ended_goes_when_the_page_is_loaded() -> None:
    session = {"oauth_info": {**INFO, "expires_at": time.time() - 1}, COOKIE: "x"}
    scope = {"type": "http", "path": "/gradio_api/queue/join", "method": "POST", "headers": [], "session": session}
    through_the_guard(scope)
    assert "oauth_info" in session, "what a page that is open asks is not a guest's"
    through_the_guard({**scope, "path": "/", "method": "GET"})
    assert session == {COOKIE: "x"}


def through_the_guard(scope: dict[str, Any]) -> dict[str, Any]:
    """What the app sees of a request."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    run_apart(guard.Guard(app)(scope, None, None))  # type: ignore[arg-type]
    return seen[0]


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_does_not_keep_a_lock(tmp_path: Path) -> None:
    """As ZeroGPU's workers are: they live on after the job that they were forked for."""
    lock, other = FileLock(tmp_path / "a.lock"), FileLock(tmp_path / "a.lock")
    assert lock.acquire()
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    try:
        assert not other.acquire()
        lock.release()
        assert other.acquire()
        other.release()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


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
