"""README's programs, run as they stand, with fewer steps."""

from __future__ import annotations

import re
import shutil
import socket
from pathlib import Path

import pytest

from synmotion_core.clips import video
from synmotion_core.evaluation.figures import Figure, mean_figure
from synmotion_core.workspace import Workspace

ROOT = Path(__file__).parents[1]
FEWER = (
    ("TrainConfig(num_steps=400)", "TrainConfig(num_steps=2, batch_size=1, sample_every=0)"),
    ("TrainRun(name", 'TrainRun(method="lora", name'),
    ("GenerateRun(subjects", "GenerateRun(num_inference_steps=3, subjects"),
    (
        '{"train": {"num_steps": 400}}',
        '{"method": "lora", "train": {"num_steps": 2, "batch_size": 1, "sample_every": 0}}',
    ),
    ("range(1, 13)", "range(1, 3)"),
    ("seeds=[0, 1],", 'seeds=[0, 1], settings={"num_inference_steps": 3},'),
    ("time.sleep(5)", "time.sleep(0.1)"),
    ("time.sleep(1)", "time.sleep(0.1)"),
)


def programs() -> list[str]:
    """The Python blocks of the section."""
    section = (ROOT / "README.md").read_text().split("## From a program\n")[1].split("\n## ")[0]
    found = re.findall(r"```python\n(.*?)```", section, re.S)
    assert len(found) == 2
    for plain, fewer in FEWER:
        assert any(plain in one for one in found), plain
        found = [one.replace(plain, fewer) for one in found]
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with assets in it, as a clone is."""
    shutil.copytree(ROOT / "assets" / "clips", tmp_path / "assets" / "clips")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_said_of_redrawn_motions_is_of_the_table_above_it() -> None:
    """77 % is with seed 0, which settings were chosen on: beside it stands what other seeds and motions redrawn say."""
    text = (ROOT / "README.md").read_text()
    trainings: dict[str, dict[int, list[float]]] = {}
    method = ""
    for name, *cells in re.findall(r"^\| (.*?) ?\| ([012])" + r" \| (\d+)" * 7 + r" \|$", text, re.M):
        method = name or method
        trainings.setdefault(method, {})[int(cells[0])] = list(map(float, cells[1:-1]))
    assert {name: sorted(own) for name, own in trainings.items()} == {"SynMotion": [0, 1, 2], "plain LoRA": [0, 1, 2]}

    def figure(seeds: tuple[int, ...], redrawn: bool, *names: str) -> Figure:
        values = [[trainings[name][seed][m] for name in names] for m in range(6) for seed in seeds]
        groups = [[own[0] - sum(own[1:])] for own in values]
        of = [m for m in range(6) for _ in seeds] if redrawn else None
        return mean_figure("x", groups, of=of, seeds=seeds, seconds=0.0)

    for seeds, words in (((0, 1, 2), "all three seeds"), ((1, 2), "seeds 1 and 2 alone")):
        for redrawn, how in ((False, "trainings as independent"), (True, "motions redrawn")):
            own, other = (figure(seeds, redrawn, name) for name in ("SynMotion", "plain LoRA"))
            both = figure(seeds, redrawn, "SynMotion", "plain LoRA")
            cells = [f"{f.value:.0f} % [{f.low:.0f}, {f.high:.0f}]" for f in (own, other)]
            line = " | ".join([f"{words}, {how}", *cells, f"{both.value:+.1f} [{both.low:.1f}, {both.high:.1f}]"])
            assert f"| {line} |" in text
    assert "Seed 0 is the development seed" in text
    assert "bench run puppets-ablation --seeds 1 2 3" in text


def test_the_library_in_ten_lines(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(programs()[0], "README.md", "exec"), {})
    (drawn,) = (here / "videos").glob("*.mp4")
    assert video.read(drawn)[0].shape == (17, 64, 64, 3)
    assert "Finished(" in capsys.readouterr().out


def test_a_studio_through_its_endpoints(here: Path, workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    from synmotion_core.ui import Desks, build, launch_options

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Desks(workspace) as desks:
        page = build(desks)
        page.launch(server_port=port, prevent_thread_lock=True, quiet=True, **launch_options())
        try:
            exec(compile(programs()[1].replace("127.0.0.1:7860", f"127.0.0.1:{port}"), "README.md", "exec"), {})
        finally:
            page.close()
    files = re.findall(r"'([^']*\.mp4)'", capsys.readouterr().out)
    assert len(files) == 2
    assert all(video.read(Path(file))[0].shape == (17, 64, 64, 3) for file in files)
