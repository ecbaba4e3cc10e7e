"""First pictures on the page: the ready ones that ship and one's own, known by an id, never by a path.

"ready/<file>"   assets/pictures, by its index.json ({"pictures": [{"file", "subject"}]})
"upload/<file>"  a copy in the workspace, named by its content
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from synmotion_core.clips.frames import png
from synmotion_core.clips.image import IMAGE_ENDINGS, load_image
from synmotion_core.errors import ConfigError, MissingError, UserInputError
from synmotion_core.ui.notices import notice
from synmotion_core.ui.uploads import check_ending, find, keep

if TYPE_CHECKING:
    from synmotion_core.interfaces import BackboneSpec
    from synmotion_core.workspace import Workspace


class Pictures:
    """The two folders that pictures come from."""

    def __init__(self, workspace: Workspace, assets: Path) -> None:
        self.workspace, self.folder = workspace, assets / "pictures"

    @functools.cached_property
    def ready(self) -> dict[str, str]:
        """{id: who is in it} of the pictures that ship; empty when they are not installed."""
        index = self.folder / "index.json"
        rows = json.loads(index.read_text(encoding="utf-8"))["pictures"] if index.exists() else []
        return {f"ready/{row['file']}": row["subject"] for row in rows}

    def path(self, wanted: str) -> Path:
        """The file of an id. Raises MissingError unless it is a ready picture or one file among the uploads."""
        folder, _, name = wanted.partition("/")
        path = find(name, self.workspace.pictures) if folder == "upload" else None
        if wanted in self.ready:
            path = self.folder / name
        if path is None or not path.is_file():
            raise MissingError(f"the picture {name[:80]!r} is not there any more: add it again")
        return path

    def add(self, upload: Path, spec: BackboneSpec) -> str:
        """Copy an uploaded picture that can be read into the workspace; returns its id.

        Raises ClipError for a file that is no picture, StorageError when there is no room.
        """
        check_ending(upload, IMAGE_ENDINGS, "export it as PNG")
        load_image(upload, spec.default_shape)
        return f"upload/{keep(upload, self.workspace.pictures, 'picture')}"

    def of_subjects(self, subjects: Sequence[str]) -> tuple[Path, ...]:
        """The ready picture of each subject; raises ConfigError naming the first that has none, and those that have."""
        by_subject = {subject: wanted for wanted, subject in self.ready.items()}
        for subject in subjects:
            if subject not in by_subject:
                raise ConfigError(
                    f"there is no ready picture of {subject!r} for the samples to begin with: name some of "
                    f"{', '.join(by_subject)}, or add pictures of your own"
                )
        return tuple(self.path(by_subject[subject]) for subject in subjects)


def strip_html(pictures: Pictures, chosen: Sequence[str], subjects: Sequence[str], spec: BackboneSpec) -> str:
    """The chosen pictures as the backbone will see them, each with whose it is and what is lost of it."""
    if not chosen:
        return ""
    cards, said = [], []
    for index, wanted in enumerate(chosen):
        who = subjects[index] if index < len(subjects) else "no subject yet: add a line above"
        try:
            path = pictures.path(wanted)
            frames, found = load_image(path, spec.default_shape, puppets_only="" if spec.needs_gpu else spec.name)
        except UserInputError as error:
            said.append(notice("error", str(error)))
            continue
        said += [notice("warning" if f.severity == "warn" else "info", f"{path.name}: {f.message}") for f in found]
        data = base64.b64encode(png(frames[0])).decode()
        image = f'<img src="data:image/png;base64,{data}" alt="{escape(who)}">'
        cards.append(f"<figure>{image}<figcaption>{escape(who)}</figcaption></figure>")
    return f'<div class="sm-pictures">{"".join(cards)}</div>{"".join(said)}'
