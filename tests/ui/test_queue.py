"""The list of jobs, save and sample now, presets: what the rows say, and the real page with them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from synmotion_core.backbones import find_spec
from synmotion_core.config import GenerateRun
from synmotion_core.errors import ConfigError, MissingError
from synmotion_core.jobs import Jobs
from synmotion_core.presets import NAMES, find_preset
from synmotion_core.training import wishes
from synmotion_core.ui import preset_fields, queue
from synmotion_core.workspace import Workspace
from tests.ui.studio import PUPPETS, REAL, Site, train_form, view
from tests.ui.test_page import SLOW, start_training, status, tab, take_examples, unfolded

LARGE = find_spec("wan2.1-t2v-1.3b")


def row(html: str, job_id: str) -> str:
    return html.partition(f'data-job="{job_id}"')[2].partition("</li>")[0]


def acts(html: str) -> list[str]:
    return re.findall(r'data-pick="(\w+) ', html)


def some(number: int, **changes: Any) -> Any:
    return view(id=f"20260101-00000{number}-abcdef", created=float(number), **changes)


# ------------------------------------------------------------------------------------------------ the list


def test_rows_stand_in_the_order_of_the_queue_with_what_may_be_done() -> None:
    running, a, b, c = some(3), *(some(n, status="queued", stage="") for n in (4, 5, 6))
    ended, failed = some(1, status="finished"), some(2, status="failed", message="a <b> setting")
    html = queue.rows_html((c, b, a, running, failed, ended), (c.id, a.id, b.id))
    assert re.findall(r'data-job="(\S+)"', html) == [v.id for v in (running, c, a, b, failed, ended)]
    assert acts(row(html, running.id)) == ["show", "stop"]
    assert acts(row(html, c.id)) == ["show", "down", "stop"]
    assert acts(row(html, a.id)) == ["show", "first", "down", "stop"]
    assert acts(row(html, b.id)) == ["show", "first", "up", "stop"]
    assert acts(row(html, failed.id)) == ["show", "resume", "delete"]
    assert acts(row(html, ended.id)) == ["show", "delete"]
    assert "25 %" in row(html, running.id)
    assert "next" in row(html, c.id)
    assert "number 3 in the queue" in row(html, b.id)
    assert "a &lt;b&gt; setting" in row(html, failed.id)
    sure = queue.rows_html((ended,), (), doomed=ended.id)
    assert acts(sure) == ["really", "keep"]


def test_the_list_stands_still_between_changes() -> None:
    """Within STRIDE percent nothing is drawn anew; the count of rows never falls while jobs end."""
    first, later, far = (queue.rows_html((some(1, step=n),), ()) for n in (25, 29, 30))
    assert first == later != far
    over = tuple(some(n, status="finished") for n in (9, 8, 7, 6, 5, 4, 3))
    before = (*over, some(2), some(1, status="queued"))
    after = (*over, some(2, status="finished"), some(1))
    counts = [queue.rows_html(views, ()).count("<li ") for views in (before, after)]
    assert counts == [queue.ROWS, queue.ROWS]


def test_videos_are_called_by_what_they_show() -> None:
    made = some(1, kind="generate", config=GenerateRun(subjects=("a cat", "a <bear>"), motion="claps"))
    assert "a cat, a &lt;bear&gt;: claps" in queue.rows_html((made,), ())


def test_a_browser_may_press_only_buttons(workspace: Workspace) -> None:
    with Jobs(workspace) as jobs:
        with pytest.raises(ConfigError, match="a row's buttons are show, first"):
            queue.press(jobs, "explode 20260101-000000-abcdef")
        for lie in ("show ../../etc", "really 20260101-000000-abcdef", "stop", None):
            with pytest.raises((ConfigError, MissingError)):
                queue.press(jobs, lie)


# ------------------------------------------------------------------------------------------------ presets


@pytest.mark.parametrize("spec", [PUPPETS, LARGE], ids=["puppets", "large"])
@pytest.mark.parametrize("name", NAMES)
def test_a_preset_fills_the_form_and_is_found_again(name: str, spec: Any) -> None:
    form = train_form(method_settings="alpha=0.5")
    new = {**form, **preset_fields.values_of(name, form, spec)}
    assert preset_fields.found(new, spec) == name
    assert new["num_steps"] == find_preset(name, spec).num_steps
    assert "alpha=0.5" in new["method_settings"], "what it does not name stays"
    assert ("prior_target=data" in new["method_settings"]) == (name == "paper")
    for field, value in (("num_steps", 77), ("learning_rate", "0.5"), ("method_settings", "prior_target=x")):
        assert preset_fields.found({**new, field: value}, spec) is None
    back = preset_fields.values_of("best", new, spec)
    assert "prior_target" not in back["method_settings"]
    assert preset_fields.values_of(preset_fields.OWN, new, spec) == {}
    with pytest.raises(MissingError, match="no preset"):
        preset_fields.values_of("<b>", new, spec)


def test_nonsense_in_a_field_is_no_preset() -> None:
    for field, value in (("num_steps", None), ("learning_rate", "fast"), ("method_settings", "what")):
        assert preset_fields.found(train_form(**{field: value}), REAL) is None


# ------------------------------------------------------------------------------------------------ the page


@pytest.fixture
def _quick(site: Site) -> Iterator[None]:
    site.runner.step_s, site.runner.fail_at = 0.05, None
    site.runner.runs.clear()
    _no_jobs(site)  # of other files' tests, which share the studio
    yield
    _no_jobs(site)


def _no_jobs(site: Site) -> None:
    for each in site.jobs.list():
        site.jobs.stop(each.id)
        site.jobs.wait(each.id, 30)
    for each in site.jobs.list():
        site.jobs.delete(each.id)


def job(page: Page, name: str) -> Any:
    return page.locator("#train-jobs li").filter(has_text=name)


def press(page: Page, name: str, button: str) -> None:
    job(page, name).get_by_role("button", name=re.compile(f"^{button}")).click()


def queue_one(page: Page, name: str, steps: int) -> None:
    page.locator("#train-name input, #train-name textarea").first.fill(name)
    page.locator("#train-steps input").fill(str(steps))
    page.locator("#train-start").click()


@pytest.mark.usefixtures("_quick")
def test_trainings_queue_and_move_on_the_page(open_page: Any, site: Site) -> None:
    site.runner.step_s = 0.1
    page = open_page()
    start_training(page, steps=4000, every=0)
    status(page, "#train-status", "running")
    expect(page.locator("#train-start")).to_have_text("Queue it")
    page.get_by_text("More settings").click()
    unfolded(page, "#train-name")
    for name in ("second", "third"):
        queue_one(page, name, 5)
        expect(page.locator("#train-message")).to_contain_text(f"“{name}” is queued", timeout=SLOW)
    expect(page.locator("#train-message")).to_contain_text("It waits behind 1 other")
    expect(job(page, "third")).to_be_visible()  # it has opened by itself
    status(page, "#train-status", "running")
    names = [re.compile("claps"), "second", "third"]
    expect(page.locator("#train-jobs li b")).to_have_text(names)
    press(page, "third", "To the front")
    expect(page.locator("#train-jobs li b")).to_have_text([names[0], "third", "second"])
    assert [site.jobs.snapshot(i).config.name for i in site.jobs.waiting()] == ["third", "second"]  # type: ignore[union-attr]
    press(page, "second", "Stop")
    expect(job(page, "second")).to_have_attribute("data-status", "stopped")
    press(page, "second", "Delete")
    expect(job(page, "second").get_by_role("button", name=re.compile("^Delete for good"))).to_be_visible()
    press(page, "second", "Keep")
    expect(job(page, "second").get_by_role("button", name=re.compile("^Show"))).to_be_visible()
    press(page, "second", "Delete")
    press(page, "second", "Delete for good")
    expect(job(page, "second")).to_have_count(0)
    site.runner.step_s = 0.01  # not less: the training must not end before it is stopped
    press(page, "claps", "Stop")
    expect(job(page, "third")).to_have_attribute("data-status", "finished", timeout=SLOW)
    expect(page.locator("#train-status")).to_contain_text("Stopped")
    press(page, "third", "Show")
    status(page, "#train-status", "finished")
    expect(page.locator("#train-start")).to_have_text("Start training")


@pytest.mark.usefixtures("_quick")
def test_videos_in_the_list_are_shown_where_they_are_made(open_page: Any, site: Site) -> None:
    made = site.jobs.submit(GenerateRun(subjects=("a red cat",), motion="claps"))
    site.jobs.wait(made, 30)
    page = open_page()
    tab(page, "2 · Train")
    page.get_by_text("Jobs", exact=True).click()
    unfolded(page, "#train-jobs li")
    press(page, "a red cat: claps", "Show")
    expect(page.locator("#gen-results video")).to_have_count(1, timeout=SLOW)
    expect(page.locator("#gen-results")).to_be_visible()


@pytest.mark.usefixtures("_quick")
def test_save_and_sample_now(open_page: Any, site: Site) -> None:
    site.runner.step_s = 0.1
    page = open_page()
    tab(page, "2 · Train")
    expect(page.locator("#train-save")).to_be_disabled()
    tab(page, "1 · Clips")
    start_training(page, steps=4000, every=0)
    status(page, "#train-status", "running")
    page.wait_for_function("/Training: \\d+ of/.test(document.querySelector('#train-status').innerText)")
    page.locator("#train-save").click()
    expect(page.get_by_text(re.compile(r"Saved at step \d+"))).to_be_visible()
    running = site.jobs.list()[0]
    assert running.status == "running"
    assert running.checkpoint_step is not None
    page.locator("#train-sample").click()
    expect(page.locator("#train-samples figure")).to_have_count(3, timeout=SLOW)  # the reference, and two subjects
    assert wishes.take(site.workspace.jobs / running.id) == set()


@pytest.mark.usefixtures("_quick")
def test_a_preset_sets_fields_and_a_field_leaves_it(open_page: Any) -> None:
    page = open_page()
    take_examples(page)
    tab(page, "2 · Train")
    expect(page.locator("#train-plan")).to_contain_text("clips to encode", timeout=SLOW)
    radio = page.locator("#train-preset")
    expect(radio.get_by_label("Own settings")).to_be_checked()
    radio.get_by_label("Paper").check()
    expect(page.locator("#train-steps input")).to_have_value("2000")
    expect(page.locator("#train-preset-about")).to_contain_text("the paper's 2,000 steps")
    page.get_by_text("The same as this command").first.click()
    expect(page.locator("#train-command")).to_contain_text("method.prior_target=data", timeout=SLOW)
    radio.get_by_label("First look").check()
    expect(page.locator("#train-command")).to_contain_text("--steps 350", timeout=SLOW)
    expect(page.locator("#train-command")).not_to_contain_text("prior_target")
    page.wait_for_timeout(1000)
    expect(radio.get_by_label("First look")).to_be_checked()
    page.locator("#train-steps input").fill("351")
    expect(radio.get_by_label("Own settings")).to_be_checked(timeout=SLOW)
