"""For which backbone and which size clips are judged: what the Train tab asks for, as far as there are such videos.

    the Train tab's fields --judged_by--> Judged, a gr.State --spec--> the clip doctor, its fixes, a clip's drawings

The Clips tab goes by the last size that the backbone takes while the fields hold none, and says so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synmotion_core.errors import UserInputError
from synmotion_core.ui.forms import sides
from synmotion_core.ui.notices import notice

if TYPE_CHECKING:
    from synmotion_core.interfaces import BackboneSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """num_frames, height, width: None for the backbone's own. problem: why the fields' present size is not this one."""

    backbone: str = "puppet-hunyuan"
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    problem: str = ""

    @property
    def spec(self) -> BackboneSpec:
        """The backbone's row as if this were its own shape."""
        from synmotion_core.backbones import find_spec

        spec = find_spec(self.backbone)
        return dataclasses.replace(spec, default_shape=spec.shape(self.num_frames, self.height, self.width))

    @property
    def said(self) -> str:
        """What the Clips tab says of it; "" for a backbone's own size."""
        shape = self.spec.default_shape
        size = f"{shape.num_frames} frames of {shape.width}×{shape.height}"
        if self.problem:
            return notice(
                "warning", f"The Train tab asks for no size that clips can be judged for: {self.problem}.",
                more=f"They are judged for {size} until it does.",
            )  # fmt: skip
        if (self.num_frames, self.height, self.width) == (None, None, None):
            return ""
        return notice("info", f"Judged for {size}, as “Memory and size” on the Train tab says.")


def judged_by(form: Mapping[str, Any], before: Judged) -> Judged:
    """What the form asks for, else `before` with the reason. Raises ConfigError for a backbone that there is not."""
    from synmotion_core.backbones import find_spec

    backbone = find_spec(form["backbone"]).name
    try:
        num_frames, height, width = sides(form, backbone)
    except UserInputError as error:
        kept = before if before.backbone == backbone else Judged(backbone=backbone)
        return dataclasses.replace(kept, problem=str(error))
    return Judged(backbone=backbone, num_frames=num_frames, height=height, width=width)


def sized(spec: BackboneSpec, form: Mapping[str, Any]) -> BackboneSpec:
    """A row as if the form's size were its own shape; as it is while the form holds none."""
    try:
        num_frames, height, width = sides(form, spec.name)
    except UserInputError:
        return spec
    return dataclasses.replace(spec, default_shape=spec.shape(num_frames, height, width))
