"""The Compare tab: results of a folder as they are, and of a folder from elsewhere nothing but words."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from playwright.sync_api import expect

from synmotion_core.errors import ConfigError, MissingError, UserInputError
from synmotion_core.evaluation import report
from synmotion_core.evaluation.results import FILE
from synmotion_core.evaluation.suite import shipped
from synmotion_core.ui import measured
from synmotion_core.workspace import Workspace
from tests.evaluation.test_report import folder, made_once  # noqa: F401  (fixtures)
from tests.ui.studio import Site

SLOW = 60_000  # milliseconds


@pytest.fixture
def own(folder: Path, workspace: Workspace) -> Path:  # noqa: F811
    """Two rows of two motions, two trainings and two videos each, in the workspace."""
    return Path(shutil.copytree(folder, workspace.results / "small"))


def only(workspace: Workspace) -> measured.Measured:
    ((choice,), problems) = measured.find_results(workspace, workspace.root / "no-assets")
    assert not problems
    return measured.open_results(choice)


def change(own: Path, alter: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((own / FILE).read_text())
    alter(values)
    (own / FILE).write_text(json.dumps(values))


# ------------------------------------------------------------------------------------------------ folders


def test_results_come_from_two_places_and_by_id_alone(own: Path, workspace: Workspace, tmp_path: Path) -> None:
    assets = tmp_path / "assets"
    assert [c.label for c in measured.find_results(workspace, assets)[0]] == ["small (measured here)"]
    shutil.copytree(own, assets / "results" / "ready")
    shutil.copytree(own, workspace.results / "newest")
    os.utime(own / FILE, (1, 1))
    found, _ = measured.find_results(workspace, assets)
    assert [choice.id for choice in found] == ["mine/newest", "mine/small", "ready/ready"]
    assert measured.find_result(workspace, assets, "ready/ready").folder == assets / "results" / "ready"
    for wanted in ("mine/../small", str(own), "mine/gone", "", None):
        with pytest.raises(MissingError, match="are not there any more"):
            measured.find_result(workspace, assets, wanted)


def test_what_is_no_folder_of_results_is_said(own: Path, workspace: Workspace, tmp_path: Path) -> None:
    os.rename(own, tmp_path / "elsewhere")
    (workspace.results / "link").symlink_to(tmp_path / "elsewhere")
    (workspace.results / "inner").mkdir()
    (workspace.results / "inner" / FILE).symlink_to(tmp_path / "elsewhere" / FILE)
    (workspace.results / "empty").mkdir()
    (workspace.results / ".hidden").mkdir()
    (workspace.results / "file.txt").write_text("")
    (workspace.results / "large").mkdir()
    with (workspace.results / "large" / FILE).open("wb") as file:
        file.truncate(measured.MAX_BYTES + 2**20)
    found, problems = measured.find_results(workspace, workspace.root / "no-assets")
    assert found == ()
    said = dict(zip(("empty", "inner", "large", "link"), problems, strict=True))
    assert "have no results.json yet" in said["empty"]
    assert "has 33 MiB, at most 32 are read" in said["large"]
    assert all("are a link to another place" in said[name] for name in ("inner", "link"))


def test_the_command_is_one_that_there_is(workspace: Workspace) -> None:
    words = shlex.split(measured.command(workspace))
    assert words[:5] == ["python", "-m", "synmotion_core", "bench", "run"]
    assert words[5] in shipped()
    assert Path(words[-1]).parent == workspace.results


# ------------------------------------------------------------------------------------------------ what is shown


def test_tables_and_plots_are_the_reports(own: Path, workspace: Workspace) -> None:
    shown = only(workspace)
    summary, numbers = measured.summary_html(shown), measured.numbers_html(shown)
    assert "Small &lt;b&gt;against&lt;/b&gt; plain" in summary
    assert "Not done yet: later." in summary
    figures = shown.table.rows["small"]
    assert report.cell(shown.table.columns[0], figures["motion"]) in summary
    assert "50 % [50, 50] of 2 motions only" in numbers
    assert '0 % [0, 0] <span class="even">within noise</span>' in numbers
    assert numbers.count("<svg") == 7
    assert "<h3>Against plain</h3>" in numbers
    assert "bench run &lt;own&gt;.yaml" in numbers


def test_figures_are_made_once_until_the_folder_changes(
    own: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = report.table_of, []
    monkeypatch.setattr(report, "table_of", lambda results: (made.append(results), real(results))[1])
    assert only(workspace) is only(workspace)
    assert len(made) == 1
    change(own, lambda values: values["rows"].pop())
    os.utime(own / FILE, (1, 1))
    assert only(workspace).rows == ["plain"]
    assert len(made) == 2


def test_a_line_is_one_prompt_of_one_training_in_every_row(own: Path, workspace: Workspace) -> None:
    shown = only(workspace)
    assert shown.first_rows == ["plain", "small"], "the one that others are compared with is first"
    lines = measured.line_up(shown, motion="spin", seed=1, rows=["small", "plain"])
    assert [[take.video for take in line.takes] for line in lines] == [
        [f"videos/{row}/spin-1-{index:02d}.mp4" for row in ("small", "plain")] for index in range(2)
    ]
    assert [[take.right for take in line.takes] for line in lines] == [
        [(True, True), (True, True)],
        [(True, True), (False, True)],
    ]
    assert measured.line_up(shown, motion="spin", seed=1, rows=["small", "plain"], differing=True) == lines[1:]
    assert measured.line_up(shown, motion="spin", seed=1, rows=["small"], differing=True) == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"motion": "wave"}, r"no videos of 'wave', seed 0: there are squat, spin with seeds 0, 1"),
        ({"seed": 5}, "no videos of 'squat', seed 5"),
        ({"seed": None}, "no videos of 'squat', seed None"),
        ({"rows": []}, "choose 1 to 4 rows to look at, got 0"),
        ({"rows": ["plain"] * 5}, "choose 1 to 4 rows to look at, got 5"),
        ({"rows": ["later"]}, "there is no row 'later'"),
    ],
)
def test_what_results_have_not_is_named(wrong: dict[str, Any], words: str, own: Path, workspace: Workspace) -> None:
    with pytest.raises(UserInputError, match=words):
        measured.line_up(only(workspace), **{"motion": "squat", "seed": 0, "rows": ["plain"], **wrong})


def test_videos_that_no_judge_has_seen_have_no_mark(own: Path, workspace: Workspace) -> None:
    def forget(values: dict[str, Any]) -> None:
        for outcome in (o for row in values["rows"] for o in row["outcomes"]):
            outcome["values"] = {"amplitude": outcome["values"]["amplitude"]}

    change(own, forget)
    lines = measured.line_up(only(workspace), motion="squat", seed=0, rows=["plain", "small"])
    assert [take.right for line in lines for take in line.takes] == [()] * 4
    html = measured.lines_html(gr.HTML(), only(workspace), lines)
    assert html.count("<video") == 4
    assert "sm-chip" not in html


def test_only_videos_that_are_shown_are_touched_and_words_are_text(own: Path, workspace: Workspace) -> None:
    shown = only(workspace)
    lines = measured.line_up(shown, motion="squat", seed=0, rows=["plain", "small"])
    area = gr.HTML()
    html = measured.lines_html(area, shown, lines[1:])
    assert html.count("<video") == 2
    assert html.count("✓ motion") == 1
    assert html.count("✗ motion") == 1
    assert html.count("✓ subject") == 2
    assert "squats &lt;img src=x onerror=" in html
    assert "<img" not in html
    (own / lines[0].takes[0].video).unlink()
    again = measured.lines_html(area, shown, lines[:1])
    assert again.count("<video") == 1, "the other row's"
    assert "the video is not in the folder" in again


# ------------------------------------------------------------------------------------------------ from elsewhere


@pytest.mark.parametrize("name", ["../secret.mp4", "/{secret}", "videos/../../secret.mp4", "results.json", "a\0.mp4"])
def test_a_folder_that_names_other_files_shows_none(name: str, own: Path, workspace: Workspace) -> None:
    secret = own.parent / "secret.mp4"
    shutil.copy(own / "videos/plain/squat-0-00.mp4", secret)
    (own / "videos" / "link.mp4").symlink_to(secret)

    def lie(values: dict[str, Any]) -> None:
        for outcome in (o for row in values["rows"] for o in row["outcomes"]):
            outcome["videos"] = [name.replace("/{secret}", str(secret)), "videos/link.mp4"]

    change(own, lie)
    shown, area = only(workspace), gr.HTML()
    html = measured.lines_html(area, shown, measured.line_up(shown, motion="squat", seed=0, rows=["plain", "small"]))
    assert "<video" not in html
    assert html.count("the video is not in the folder") == 4
    assert not area.temp_files, "nothing was published"
    choice = measured.find_result(workspace, workspace.root, "mine/small")
    assert "data:video" not in measured.report_file(choice, workspace).read_text()


@pytest.mark.parametrize(
    ("alter", "words"),
    [
        (lambda v: v.pop("suite"), "cannot be read"),
        (lambda v: v["rows"][0]["outcomes"][0].update(prompts=[1, 2]), "its prompts and videos must be texts"),
        (lambda v: v["rows"][0]["outcomes"][0].update(videos=[None, None]), "its prompts and videos must be texts"),
        (lambda v: v["rows"][0]["outcomes"][0]["values"].update(error=["x", 1]), "results.json is damaged"),
        (lambda v: v["rows"][0]["outcomes"][0]["values"].update(error=[float("nan"), 1]), "results.json is damaged"),
        (lambda v: v["rows"][1]["outcomes"][0].update(values={}, num_videos=1, prompts=[], videos=[]), ""),
        (lambda v: v["rows"][0]["outcomes"][0]["values"].update(motion=[[1], 0]), "results.json is damaged"),
    ],
)
def test_a_damaged_folder_is_words(alter: Any, words: str, own: Path, workspace: Workspace) -> None:
    change(own, alter)
    if words:
        with pytest.raises(ConfigError, match=words):
            only(workspace)
    else:  # fewer videos in one of them: those are shown that both have
        shown = only(workspace)
        lines = measured.line_up(shown, motion="squat", seed=0, rows=["plain", "small"])
        assert [take.video for take in lines[0].takes] == ["videos/plain/squat-0-00.mp4", ""]


def test_results_without_a_row_are_words(own: Path, workspace: Workspace) -> None:
    change(own, lambda values: values.update(rows=[]))
    shown = only(workspace)
    assert shown.first_rows == []
    assert "Not done yet: plain, small, later." in measured.summary_html(shown)
    assert "<svg" not in measured.numbers_html(shown)


# ------------------------------------------------------------------------------------------------ the page


@pytest.fixture
def place(site: Site) -> Iterator[Path]:
    """The running studio's folder of results, empty before and after."""
    yield site.workspace.results
    for path in site.workspace.results.iterdir():
        shutil.rmtree(path)


def test_from_an_empty_workspace_to_the_report(
    open_page: Any,
    site: Site,
    place: Path,
    own: Path,
    tmp_path: Path,
) -> None:
    page = open_page()
    page.get_by_role("tab", name="4 · Compare").click()
    expect(page.locator("#compare-summary")).to_contain_text("Measure a suite", timeout=SLOW)
    expect(page.locator("#compare-command")).to_contain_text(f"--out {place / measured.SUITE}")
    expect(page.locator("#compare-download")).to_be_disabled()
    shutil.copytree(own, place / "small")
    (place / "torn").mkdir()
    (place / "torn" / FILE).write_text((own / FILE).read_text()[:400])
    os.utime(place / "torn" / FILE, (1, 1))
    page.locator("#compare-refresh").click()
    videos = page.locator("#compare-videos video")
    expect(videos).to_have_count(4, timeout=SLOW)
    expect(page.locator("#compare-summary")).to_contain_text("Small <b>against</b> plain")
    expect(page.locator("#compare-numbers svg")).to_have_count(7)
    page.wait_for_function("[...document.querySelectorAll('#compare-videos video')].every(v => v.currentTime > 0.2)")
    # all in step; not at once, for putting one there takes the browser some frames
    page.wait_for_function(
        "s => { const t = [...document.querySelectorAll(s)].map(v => v.currentTime);"
        " return Math.max(...t) - Math.min(...t) < 0.2 }",
        arg="#compare-videos video",
    )
    page.locator("#compare-differing input").check()
    expect(videos).to_have_count(2)
    expect(page.locator("#compare-videos")).to_contain_text("✗ motion")
    expect(page.locator("#compare-place")).to_have_text("Prompts 1 to 1 of 1")
    with page.expect_download() as started:
        page.locator("#compare-download").click()
    assert started.value.suggested_filename == "small.html"
    started.value.save_as(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == (own / "report.html").read_text()

    page.locator("#compare-results input").click()
    page.get_by_role("option", name="torn (measured here)").click()
    expect(page.locator("#compare-message [role=alert]")).to_contain_text("cannot be read", timeout=SLOW)
    expect(page.locator("#compare-numbers svg")).to_have_count(0)
    expect(videos.first).to_be_hidden()
    expect(page.locator("#compare-download")).to_be_disabled()


def test_on_a_phone_prompts_are_paged_and_nothing_is_cut_off(
    open_page: Any,
    site: Site,
    place: Path,
    own: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measured, "PROMPTS", 1)
    shutil.copytree(own, place / "small")
    page = open_page(width=390, height=844, scheme="dark")
    page.get_by_role("tab", name="4 · Compare").click()
    videos = page.locator("#compare-videos video")
    expect(videos).to_have_count(2, timeout=SLOW)
    first = videos.first.get_attribute("src")
    page.locator("#compare-more").click()
    expect(page.locator("#compare-place")).to_have_text("Prompts 2 to 2 of 2")
    expect(page.locator("#compare-more")).to_be_disabled()
    expect(page.locator("#compare-earlier")).to_be_enabled()
    assert first is not None
    with urllib.request.urlopen(site.url + first) as answer:
        assert answer.headers["Content-Type"] == "video/mp4"
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("document.querySelector('#compare-numbers svg').getBoundingClientRect().right") <= 390
    ink = page.evaluate("getComputedStyle(document.querySelector('#compare-numbers svg text')).fill")
    assert ink == "rgb(243, 242, 238)", "light on dark"
