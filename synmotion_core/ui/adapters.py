"""Which adapters there are, what they say of themselves, and how one is drawn with: how long it works, and settings of
its method that no training sees.

Adapters are chosen by an id ("ready/<file>" or "mine/<file>") that is looked up in two folders; the page never takes a
path. What a file says of itself is untrusted text: it is escaped wherever it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from synmotion_core.command import value_text
from synmotion_core.config import motion_name
from synmotion_core.errors import MissingError, UserInputError
from synmotion_core.ui.chosen import run_name
from synmotion_core.ui.desks import ASSETS
from synmotion_core.ui.notices import Updates, notice

if TYPE_CHECKING:
    from synmotion_core.adapters.file import AdapterInfo
    from synmotion_core.workspace import Workspace

BASE_ALONE = ""  # the id of "no adapter"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterChoice:
    """An adapter file that can be chosen: `id` for the page, `info` from its metadata."""

    id: str
    path: Path
    info: AdapterInfo

    @property
    def label(self) -> str:
        """What the list shows."""
        from synmotion_core.adapters.origin import origin

        came = origin(self.path)
        trained = came is None and self.info.steps
        where = "ready-made" if self.id.startswith("ready/") else "trained here" if trained else "taken in"
        if came is not None and came.repo_id:
            where = f"trained on {came.trained_on}" if came.trained_on else f"from {came.repo_id}"
        name = "" if run_name(self.info.motion) == self.path.stem else f"{self.path.stem}: "
        return f"{name}{motion_name(self.info.motion)} ({where})"


def find_adapters(workspace: Workspace, assets: Path = ASSETS) -> tuple[tuple[AdapterChoice, ...], tuple[str, ...]]:
    """Every readable adapter, the ready ones first, then one's own, the newest first; and why others are not."""
    from synmotion_core.adapters.file import read_info

    found, problems = [], []
    ready = sorted((assets / "adapters").glob("*.safetensors"))
    mine = sorted(workspace.adapters.glob("*.safetensors"), key=_changed, reverse=True)
    for prefix, paths in (("ready", ready), ("mine", mine)):
        for path in paths:
            try:
                found.append(AdapterChoice(id=f"{prefix}/{path.name}", path=path, info=read_info(path)))
            except UserInputError as error:
                problems.append(str(error))
    return tuple(found), tuple(problems)


def _changed(path: Path) -> float:
    """When a file was; 0 of a link that leads nowhere, and of one that is gone since it was listed."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def find_adapter(workspace: Workspace, wanted: str, assets: Path = ASSETS) -> AdapterChoice:
    """The adapter with this id; raises MissingError when it is not there (any more)."""
    for choice in find_adapters(workspace, assets)[0]:
        if choice.id == wanted:
            return choice
    raise MissingError(f"the adapter {wanted!r} is not there any more: choose another one")


def adapter_choices(found: Iterable[AdapterChoice]) -> list[tuple[str, str]]:
    """The list on the page: what is read, and its id."""
    return [*((one.label, one.id) for one in found), ("no adapter: the backbone alone", BASE_ALONE)]


def about(choice: AdapterChoice | None) -> str:
    """What the chosen adapter says of itself."""
    if choice is None:
        return notice("info", "The backbone alone, without an adapter: it draws only what it already knows.")
    info = choice.info
    made = f"{info.steps} steps" if info.steps else "made by another program"
    made += "" if info.score is None else f", score {info.score:.3f} by {info.scored_by or 'no rule it names'}"
    facts = [
        f"“{info.motion}”, learnt from {f'{info.clips} clips of ' if info.clips else ''}{info.subject}",
        f"{info.method}, {made}" + (", from first pictures" if info.mode == "i2v" else ""),
    ]
    return notice("info", " · ".join([*facts, f"backbone {info.backbone}", f"licence {info.licence}"]))


def adapter_fields() -> dict[str, Any]:
    """Text fields by the form's names; laid out where this is called."""
    return {
        "adapter_until": gr.Textbox(
            "",
            label="Adapter until",
            info="0 to 1: the share of the steps in which it works; the backbone goes on alone.",
            placeholder="1",
            elem_id="gen-adapter-until",
        ),
        "method_settings": gr.Textbox(
            "",
            label="Settings of its method",
            info="KEY=VALUE, one a line.",
            lines=1,
            max_lines=4,
            elem_id="gen-method-settings",
        ),
    }


def open_settings(info: AdapterInfo | None) -> dict[str, Any]:
    """What a method can be drawn with, with the file's own values; of a method that this version has not, nothing."""
    from synmotion_core.config import to_dict
    from synmotion_core.interfaces import drawing_settings
    from synmotion_core.planning.work import drawing_method

    if info is None:
        return {}
    try:
        entry, config = drawing_method(info, {})
    except UserInputError:  # said when it is drawn with
        return {}
    return {key: value for key, value in to_dict(config).items() if key in drawing_settings(entry)}


def describe_adapter(fields: Mapping[str, Any], info: AdapterInfo | None) -> Updates:
    """The file's own values where its method leaves settings open; else the field is emptied, and says why."""
    own, field = open_settings(info), fields["method_settings"]
    if own:
        placeholder = "\n".join(f"{key}={value_text(value)}" for key, value in own.items())
        about = "KEY=VALUE, one a line, instead of the file's."
        return {field: gr.Textbox(interactive=True, info=about, placeholder=placeholder)}
    why = "There is no adapter." if info is None else f"{info.method} leaves none open after training."
    return {field: gr.Textbox("", interactive=False, info=why, placeholder="")}
