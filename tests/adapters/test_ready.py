"""The adapters that ship: what the Library tab shows of them is theirs, and shows the motion on others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from synmotion_core.adapters.file import read_info
from synmotion_core.adapters.origin import origin
from synmotion_core.clips import video
from synmotion_core.puppets.judge import Judge
from synmotion_core.ui.adapters import find_adapter
from synmotion_core.ui.hub_fields import came_from
from synmotion_core.workspace import Workspace

READY = sorted((Path(__file__).parents[2] / "assets" / "adapters").glob("*.safetensors"))


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_what_it_draws_is_shown(path: Path, tmp_path: Path) -> None:
    came = origin(path)
    assert came is not None, "its note is of this very file: draw its videos anew after another training"
    info = read_info(path)
    words = [words for _, words in came.videos]
    assert all(one.endswith(info.motion) and "person" not in one for one in words)
    seen = Judge.load()(np.stack([video.read(file)[0] for file, _ in came.videos]))
    assert seen.motion.count(path.stem) >= 3, (seen.motion, "of four")
    assert [f"{colour} {species}" for colour, species in zip(seen.colour, seen.species, strict=True)] == [
        " ".join(one.split()[1:3]) for one in words
    ]
    chosen = find_adapter(Workspace(tmp_path), f"ready/{path.name}")
    assert chosen.label.endswith("(ready-made)")
    assert came_from(path) == "", "from no Hub"
