"""`bench run puppets-quick` as it ships: the whole chain, trained, drawn and judged, is what it is expected to be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from synmotion_core import cli
from synmotion_core.evaluation.suite import read_suite


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_synmotion_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """About four minutes on two cores. What it says of a method that is broken on purpose stands in the README."""
    assert len(read_suite("puppets-quick").expects) == 8
    how = ["--set", "workers=2", "--out", str(tmp_path / "out"), "--json"]
    code = cli.main(["bench", "run", "puppets-quick", *how])
    shown = capsys.readouterr()
    assert code == cli.OK, shown.err
    found = {f["name"]: f["value"] for f in map(json.loads, shown.out.splitlines())}
    assert found["methods.synmotion.harmonic"] > 0.7
    assert "All is as the suite expects it." in (tmp_path / "out" / "report.md").read_text()
    assert len(list((tmp_path / "out" / "videos").glob("*/squat-0-*.mp4"))) == 28
