"""Names of generated videos: safe, short enough for every disk, and no two of a run alike."""

from __future__ import annotations

import doctest

from synmotion_core import naming
from synmotion_core.naming import file_stem, file_stems
from synmotion_core.types import Prompt


def test_doctests() -> None:
    assert doctest.testmod(naming).failed == 0


def test_file_names_are_safe() -> None:
    stem = file_stem(Prompt(subject="../../etc", motion="ça va / \\ : *?"), 5, adapted=True)
    assert "/" not in stem
    assert ".." not in stem
    assert stem.endswith("-seed5")


def test_the_longest_name_fits() -> None:
    prompt = Prompt(subject="一只红色的猫" * 40, motion="挥手")
    (_, stem) = file_stems(
        [prompt] * 2, [2**63 - 1] * 2, adapted=True, more="-".join(["x" * 50, "sequence", "0.333333"])
    )
    assert stem.endswith("-2")
    assert len(f".{stem}.mp4.1234567.part".encode()) <= 255


def test_where_it_happens_is_in_the_name_beside_a_long_motion() -> None:
    motion = "squats, bobs apart deep, swings hands down out slow"
    some = [Prompt(subject="a red cat", motion=motion, setting=setting) for setting in ("in the snow", "on the beach")]
    assert [stem.rpartition("-slow-")[2] for stem in file_stems(some, [0, 0], adapted=True)] == [
        "in-the-snow-seed0",
        "on-the-beach-seed0",
    ]


def test_equal_ones_are_numbered_by_their_order() -> None:
    cat, dog = (Prompt(subject=subject, motion="waves") for subject in ("a cat", "a dog"))
    stems = file_stems([cat, dog, cat, cat], [0, 0, 0, 1], adapted=True)
    assert stems == ["a-cat-waves-seed0", "a-dog-waves-seed0", "a-cat-waves-seed0-2", "a-cat-waves-seed1"]
