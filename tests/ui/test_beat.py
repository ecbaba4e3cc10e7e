"""Many who look on slow no job down: together they ask so many times a second."""

from __future__ import annotations

import time
from typing import Any

import pytest

from synmotion_core.ui import beat
from synmotion_core.ui.beat import Beat
from tests.ui.studio import Site
from tests.ui.test_page import start_training, status


class World:
    """Pages that ask when their timers say."""

    def __init__(self) -> None:
        self.now, self.asked, self.each = 0.0, 0, {}
        self.beat = Beat(lambda: self.now)

    def pages(self, number: int) -> None:
        self.each = {
            f"page {i}": [self.each.get(f"page {i}", [1.0, self.now + i / number])[0], self.now + i / number]
            for i in range(number)
        }

    def run(self, seconds: float) -> float:
        """Answers a second in the last half of it."""
        end, half, count = self.now + seconds, self.now + seconds / 2, 0
        while self.now < end:
            page = min(self.each, key=lambda name: self.each[name][1])
            self.now = self.each[page][1]
            every = self.beat.next(page) or self.each[page][0]
            self.each[page] = [every, self.now + every]
            count += self.now >= half
        return count / (seconds / 2)


@pytest.mark.parametrize(
    ("per_s", "number", "expected"),
    [(4.0, 1, 1.0), (4.0, 4, 4.0), (4.0, 20, 4.0), (4.0, 100, 4.0), (2.0, 1, 1.0), (2.0, 2, 2.0), (2.0, 20, 2.0)],
)
def test_all_pages_together_ask_so_often(
    per_s: float, number: int, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beat, "PER_S", per_s)
    world = World()
    world.pages(number)
    assert world.run(200.0) == pytest.approx(expected, rel=0.1)


def test_who_stays_is_answered_each_second_again() -> None:
    world = World()
    world.pages(20)
    world.run(100.0)
    world.pages(1)
    assert world.run(100.0) == pytest.approx(1.0, rel=0.1)


def test_after_a_pause_a_page_is_told_again() -> None:
    """It may have waited as slowly as it was told, or may be another by the same name."""
    world = World()
    world.pages(20)
    world.run(100.0)
    world.now += 1000.0
    assert world.beat.next("page 3") == 1.0
    assert world.beat.next("page 3") is None


def test_a_page_keeps_to_it(open_page: Any, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beat, "PER_S", 1 / 3)
    site.runner.step_s = 0.05
    page = open_page()
    asked: list[float] = []
    page.on("request", lambda request: asked.append(time.monotonic()) if "/queue/join" in request.url else None)
    start_training(page, steps=4000, every=0)
    status(page, "#train-status", "running")
    asked.clear()
    end = time.monotonic() + 60
    while len(asked) < 2 or asked[-1] - asked[-2] < 2.5:  # it has been told
        assert time.monotonic() < end, "it asks as often as before"
        page.wait_for_timeout(100)
    asked.clear()
    page.wait_for_timeout(9000)
    assert 2 <= len(asked) <= 4
    page.locator("#train-stop").click()
    status(page, "#train-status", "stopped")
