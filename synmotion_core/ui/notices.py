"""What the page says to a person: notices, and the one place where a handler's errors become words.

A `UserInputError` is shown as it is; anything else is a bug of ours: logged with its traceback, one plain line on the
page. All text is escaped here, since it may come from a file's name, an adapter's metadata or a form.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from html import escape
from typing import Any, Literal

import gradio as gr

from synmotion_core.errors import UserInputError

log = logging.getLogger(__name__)

Tone = Literal["error", "warning", "info", "good"]
Updates = dict[Any, Any]
BUG = "Something went wrong on our side, not on yours. The details are in the log of the window that runs the studio."


def notice(tone: Tone, text: str, *, more: str = "") -> str:
    """One framed line; errors are announced by screen readers. `more` follows in the same frame."""
    role = "alert" if tone == "error" else "status"
    rest = f" {escape(more)}" if more else ""
    return f'<div class="sm-notice sm-{tone}" role="{role}">{escape(text)}{rest}</div>'


def notices(tone: Tone, texts: Iterable[str]) -> str:
    """One frame a text; "" when there is none."""
    return "".join(notice(tone, text) for text in texts)


def hint(text: str) -> str:
    """Quiet explanatory text."""
    return f'<p class="sm-hint">{escape(text)}</p>'


def empty(title: str, text: str) -> str:
    """What an area shows before there is anything in it: what it is for and what to do first."""
    return f'<div class="sm-empty"><b>{escape(title)}</b>{escape(text)}</div>'


def guarded(message: gr.HTML, handler: Callable[..., Updates]) -> Callable[..., Updates]:
    """A handler (form values -> updates) whose errors are put into `message`; a success without one clears it."""

    @functools.wraps(handler)
    def safe(*args: Any) -> Updates:
        try:
            return {message: "", **handler(*args)}
        except UserInputError as error:
            return {message: notice("error", str(error))}
        except Exception:
            log.exception("the page's handler %s failed", handler.__name__)
            return {message: notice("error", BUG)}

    return safe


def quiet(handler: Callable[..., Updates]) -> Callable[..., Updates]:
    """The same for a handler that runs by itself, each second or at loading: errors are logged, the page stays."""

    @functools.wraps(handler)
    def safe(*args: Any) -> Updates:
        try:
            return handler(*args) or gr.skip()  # Gradio does not take an empty dict for "nothing changes"
        except UserInputError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("the page's handler %s failed", handler.__name__)
        return gr.skip()

    return safe
