"""Every tab, all of it opened, before axe-core: nothing that it calls serious or critical, in light and dark."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.ui.studio import Site
from tests.ui.test_page import SLOW, start_training, status, tab

TABS = ("1 · Clips", "2 · Train", "3 · Generate", "4 · Compare", "5 · Library")


def everything_open(page: Page) -> None:
    for head in page.locator("button.label-wrap:visible").all():
        if "open" not in (head.get_attribute("class") or ""):
            head.click()
            page.wait_for_timeout(200)


def grave(page: Page) -> list[str]:
    found = Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_axe_finds_nothing_serious(open_page: Any, site: Site, scheme: str, width: int) -> None:
    site.runner.step_s = 0.0
    page = open_page(width=width, scheme=scheme)
    start_training(page, steps=6, every=3)
    status(page, "#train-status", "finished")
    page.locator("#train-use").click()
    expect(page.locator("#gen-about")).to_contain_text("learnt from", timeout=SLOW)
    page.locator("#gen-start").click()
    status(page, "#gen-status", "finished")
    for name in TABS:
        tab(page, name)
        page.wait_for_timeout(1000)
        everything_open(page)
        assert grave(page) == [], name


def test_axe_would_find_it(open_page: Any) -> None:
    page = open_page()
    page.evaluate("() => document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\">')")
    assert any("image-alt" in one for one in grave(page))
