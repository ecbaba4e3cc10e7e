"""What the page says to a person: notices, and the one place where a handler's errors become words.

A `UserInputError` is shown as it is; anything else is a bug of ours: logged with its traceback, one plain line on the
page. All text is escaped here, since it may come from a file's name, an adapter's metadata or a form.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterable
from html import escape
from typing import Any, Literal

import gradio as gr

from synmotion_core.errors import UserInputError
from synmotion_core.ui.people import at_work_for

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

    def safe(values: Any = None, request: gr.Request | None = None, *event: Any) -> Updates:
        try:
            with at_work_for(request):
                return {message: "", **_run(handler, values, *event)}
        except UserInputError as error:
            return {message: notice("error", str(error))}
        except Exception:
            log.exception("the page's handler %s failed", handler.__name__)
            return {message: notice("error", BUG)}

    return _named(safe, handler)


def quiet(handler: Callable[..., Updates]) -> Callable[..., Updates]:
    """The same for a handler that runs by itself, each second or at loading: errors are logged, the page stays."""

    def safe(values: Any = None, request: gr.Request | None = None) -> Updates:
        try:
            with at_work_for(request):
                return _run(handler, values) or gr.skip()  # Gradio takes no empty dict for "nothing changes"
        except UserInputError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("the page's handler %s failed", handler.__name__)
        return gr.skip()

    return _named(safe, handler)


def _run(handler: Callable[..., Updates], values: Any, *event: Any) -> Updates:
    return handler() if values is None else handler(values, *event)


def _named(safe: Callable[..., Updates], handler: Callable[..., Updates]) -> Callable[..., Updates]:
    """Not functools.wraps: Gradio reads the signature, which would be the handler's, without the request."""
    safe.__name__, safe.__doc__ = handler.__name__, handler.__doc__
    own, asked = inspect.signature(safe), inspect.signature(handler).parameters
    pressed = [one for one in asked.values() if one.annotation in ("gr.EventData", gr.EventData)]
    parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_POSITIONAL]
    parameters[1] = parameters[1].replace(annotation=gr.Request)
    parameters += [one.replace(annotation=gr.EventData, default=None) for one in pressed]
    safe.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    safe.__annotations__ = {one.name: one.annotation for one in parameters}
    return safe
