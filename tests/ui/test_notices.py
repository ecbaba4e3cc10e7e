"""Words for people: escaped, honest, in one place."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import gradio as gr
import pytest

from synmotion_core.backbones import SPECS
from synmotion_core.errors import ConfigError
from synmotion_core.ui import (
    chosen,
    clips,
    forms,
    media,
    notices,
    progress,
    train_words,
)
from synmotion_core.ui.chosen import ClipChoice
from tests.ui.studio import EVIL, PUPPETS, REAL, view


def test_all_text_is_escaped() -> None:
    assert "<b" not in notices.notice("error", EVIL, more=EVIL)
    assert "<b" not in notices.empty(EVIL, EVIL).replace("<b>", "", 1)
    shown = media.Shown(url='x" onerror="y', title=EVIL, note=EVIL, download='a"b.mp4')
    html = media.figure(shown)
    assert "<b id" not in html
    assert 'onerror="' not in html
    look = chosen.Look(info=None, findings=())
    assert "<b id" not in clips.summary_html(
        (ClipChoice(source="upload/x", subject=EVIL, motion=EVIL),), [look], PUPPETS
    )
    assert "<b id" not in progress.status(view(status="failed", message=EVIL))


def test_user_errors_are_shown_and_bugs_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with gr.Blocks():
        message = gr.HTML()

    def fine() -> dict[Any, Any]:
        return {}

    def wrong() -> dict[Any, Any]:
        raise ConfigError("rank must be between 1 and 512, got 0")

    def broken() -> dict[Any, Any]:
        raise KeyError("secret detail")

    assert "rank must be between 1 and 512, got 0" in notices.guarded(message, wrong)()[message]
    assert notices.guarded(message, fine)() == {message: ""}
    with caplog.at_level(logging.ERROR):
        said = notices.guarded(message, broken)()[message]
    assert "secret" not in said
    assert "on our side" in said
    assert "secret detail" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert notices.quiet(broken)() == gr.skip()
        assert notices.quiet(wrong)() == gr.skip()
    assert "secret detail" in caplog.text


def test_what_a_backbone_knows_is_said_where_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "puppets" in train_words.knows_notice(PUPPETS, False)
    said = train_words.knows_notice(PUPPETS, True)
    assert "sm-warning" in said
    assert "GPU" in said
    monkeypatch.setitem(SPECS, "large", REAL)
    assert "“Large”, with a CUDA GPU" in train_words.knows_notice(PUPPETS, True)
    assert "needs a CUDA GPU" in train_words.knows_notice(REAL, True)


def test_a_method_that_does_not_fit_says_why() -> None:
    fits = {name: label for label, name in train_words.method_choices(PUPPETS)}
    unets = {"separation", "motion_director", "new_move"}
    assert {name for name, label in fits.items() if "not here" in label} == unets
    unfit = {name: label for label, name in train_words.method_choices(REAL)}
    assert "not here: method 'lora' needs attention_lora" in unfit["lora"]


def test_suggested_subjects_are_known_to_the_backbone() -> None:
    for line in forms.lines(train_words.suggested_subjects(PUPPETS)):
        assert line.split()[-1] in PUPPETS.options["prior_subjects"]
    assert forms.lines(train_words.suggested_subjects(dataclasses.replace(REAL, options={})))
