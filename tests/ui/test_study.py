"""The page of a blind study in a real browser: from the first pair to the file that is sent back."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Browser, expect

from synmotion_core.evaluation.study import KEY, answers, make_study
from tests.evaluation.test_report import folder, made_once  # noqa: F401  (fixtures)


def test_answers_come_back_as_a_file(chromium: Browser, folder: Path, tmp_path: Path) -> None:  # noqa: F811
    page_file = make_study(folder, ["small", "plain"], pairs=2)
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(page_file.as_uri())
    ready = page.get_by_role("button", name="Next")
    sides = [pair["left"] for pair in json.loads((folder / KEY).read_text())["pairs"]]
    for number, left in enumerate(sides, start=1):
        expect(page.locator("#count")).to_have_text(f"Pair {number} of 2")
        expect(page.locator("#prompt")).to_contain_text("<img src=x")  # as text
        expect(ready).to_be_disabled()
        assert page.evaluate("document.querySelector('#left').readyState >= 0")
        for question in ("motion", "subject", "quality"):
            answer = "same" if question == "quality" else "left" if left == "small" else "right"
            page.locator(f'input[name="{question}"][value="{answer}"]').check()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "fits a phone"
        ready.click()
    with page.expect_download() as started:
        page.get_by_role("link", name="Save the answers").click()
    started.value.save_as(tmp_path / "answers.csv")
    found = {f.name: f.value for f in answers(folder, [tmp_path / "answers.csv"])}
    assert found == {"study.motion.small": 1.0, "study.subject.small": 1.0, "study.quality.small": 0.5}
    assert said == []
    context.close()
