"""The clip whose noise videos begin with: known by its source and cut, looked at before a job is made of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from synmotion_core.clips import video
from synmotion_core.errors import ClipError, MissingError
from synmotion_core.ui.chosen import Library
from synmotion_core.ui.noise_fields import FRESH, mark, noise_clip
from tests.ui.studio import PUPPETS, example


def test_a_mark_is_found_again_as_a_part_of_a_file(library: Library) -> None:
    whole = example(library)
    part = replace(whole, start_s=0.0, end_s=2.125, resample_fps=8.0)
    clips = (whole, part)
    late = [replace(whole, start_s=start) for start in (100.1229, 100.1231)]
    assert len({mark(choice) for choice in (*clips, *late)}) == 4
    assert noise_clip(FRESH, clips, library, PUPPETS) is None
    found = noise_clip(mark(part), clips, library, PUPPETS)
    assert found is not None
    assert (found.path, found.start_s, found.end_s) == (library.path(whole.source), 0.0, 2.125)
    assert found.resample_fps == 8.0


@pytest.mark.parametrize("wanted", ["example/../../etc/passwd 0 None None", "upload/x.mp4 0 None None", 3, ["a"]])
def test_what_is_not_among_the_chosen_ones_is_not_there(library: Library, wanted: object) -> None:
    with pytest.raises(MissingError, match="is not among the chosen ones any more"):
        noise_clip(wanted, (example(library),), library, PUPPETS)


def test_a_clip_that_cannot_be_used_is_named(library: Library) -> None:
    video.write(library.workspace.clips / "still.mp4", np.zeros((17, 64, 64, 3), np.uint8), 8.0)
    still = replace(example(library), source="upload/still.mp4")
    with pytest.raises(ClipError, match=r"1 of 1 clips cannot be used yet.*clip 1 \(still.mp4\): nothing moves"):
        noise_clip(mark(still), (still,), library, PUPPETS)
