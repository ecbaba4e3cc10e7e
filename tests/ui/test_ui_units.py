"""The page's pure parts: forms to configs, what a browser may send, notices, the plot, files."""

from __future__ import annotations

import dataclasses
import importlib
import json
import logging
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synmotion_core.backbones import SPECS, find_spec
from synmotion_core.clips import video
from synmotion_core.clips.doctor import Cut
from synmotion_core.config import ClipSource, GenerateRun, TrainRun
from synmotion_core.errors import ClipError, ConfigError, MissingError, PromptError, StorageError
from synmotion_core.jobs import JobView
from synmotion_core.training.settings import TrainConfig
from synmotion_core.types import Prompt, Sampled
from synmotion_core.ui import (
    chosen,
    clips,
    context,
    forms,
    generate,
    launch_options,
    media,
    notices,
    progress,
    theme,
    train,
)
from synmotion_core.ui.chosen import ClipChoice, Library
from synmotion_core.workspace import Workspace
from tests.ui.studio import EVIL, draw, write_adapter

ROOT = Path(__file__).resolve().parents[2]
PUPPETS = find_spec("puppet-hunyuan")
REAL = dataclasses.replace(PUPPETS, name="large", title="Large", needs_gpu=True, knows="anything", features=frozenset())


@pytest.fixture
def library(workspace: Workspace, assets: Path) -> Library:
    return Library(workspace, assets)


def train_form(**changes: Any) -> dict[str, Any]:
    form = {
        "name": "",
        "backbone": "puppet-hunyuan",
        "method": "synmotion",
        "num_steps": 400,
        "sample_every": 100,
        "save_every": 100,
        "sample_subjects": "a red cat\n",
        "batch_size": 4,
        "rank": 16,
        "learning_rate": 1e-3,
        "seed": 0,
    }
    return {**form, **changes}


def generate_form(**changes: Any) -> dict[str, Any]:
    form = {
        "adapter": "",
        "subjects": "a red cat\n\n a  robot",
        "motion": "claps",
        "setting": "",
        "seeds": "0",
        "strength": 1.0,
        "compare": True,
        "steps": None,
        "guidance": None,
        "backbone": "puppet-hunyuan",
    }
    return {**form, **changes}


def example(library: Library) -> ClipChoice:
    return library.examples()[0].clips[0]


# ------------------------------------------------------------------------------------------------ the page as a whole


def test_the_page_is_built_without_a_model_library(tmp_path: Path) -> None:
    code = (
        "import sys; from types import SimpleNamespace as N; from pathlib import Path\n"
        "from synmotion_core.ui import build, launch_options\n"
        f"build(N(clips=Path({str(tmp_path)!r}), adapters=Path({str(tmp_path)!r})), N()); launch_options()\n"
        "print(sorted({'torch', 'diffusers', 'transformers', 'peft', 'accelerate', 'moviepy'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


def test_nothing_is_published_and_nothing_is_fetched_from_elsewhere() -> None:
    options = launch_options()
    assert options["allowed_paths"] == []
    assert "share" not in options
    assert "server_name" not in options, "app.py decides where to listen"
    assert "http" not in theme.CSS
    assert not theme.theme()._stylesheets


def test_only_own_handlers_no_public_api(workspace: Workspace, assets: Path) -> None:
    from synmotion_core.ui import build

    class NoJobs:
        def list(self) -> tuple[()]:
            return ()

    page: Any = build(workspace, NoJobs(), assets=assets)  # type: ignore[arg-type]
    handlers = [fn for fn in page.fns.values() if fn.fn is not None]
    assert len(handlers) > 20
    assert {fn.api_visibility for fn in handlers} == {"private"}


@pytest.mark.parametrize(("space", "host"), [(None, "127.0.0.1"), ("someone/studio", "0.0.0.0")])
def test_the_app_listens_on_this_computer_only(
    space: str | None, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    monkeypatch.syspath_prepend(str(ROOT))
    app = importlib.import_module("app")
    launched: dict[str, Any] = {}
    monkeypatch.setattr(gr.Blocks, "launch", lambda self, **options: launched.update(options))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)
    monkeypatch.setattr(sys, "argv", ["app.py", "--port", "7999", "--home", str(tmp_path / "home")])
    monkeypatch.delenv("SPACE_ID", raising=False)
    if space:
        monkeypatch.setenv("SPACE_ID", space)
    app.main()
    assert (launched["server_name"], launched["server_port"]) == (host, 7999)
    assert launched["allowed_paths"] == []
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(sys, "argv", ["app.py", "--home", str(tmp_path / "file" / "home")])
    with pytest.raises(SystemExit) as left:
        app.main()
    assert left.value.code == 2


def test_a_browser_is_known_again_after_a_restart() -> None:
    one, two = context.remembered("clips", {"clips": []}), context.remembered("clips", {"clips": []})
    assert (one.secret, one.storage_key) == (two.secret, two.storage_key)
    assert [context.job_id(value) for value in ({"id": "x"}, {"id": 3}, {}, None, "x")] == ["x", "", "", "", ""]


# ------------------------------------------------------------------------------------------------ forms


def test_a_train_form_is_the_run(library: Library) -> None:
    choice = dataclasses.replace(example(library), start_s=0.5, end_s=2.0, resample_fps=8.0)
    run = forms.train_run(train_form(num_steps=30.0, rank=8), (choice,), library)
    source = ClipSource(
        path=library.path(choice.source), subject="a person", motion="claps", start_s=0.5, end_s=2.0, resample_fps=8.0
    )
    assert run == TrainRun(
        name="claps",
        clips=(source,),
        method_config={"rank": 8},
        train=TrainConfig(num_steps=30, sample_subjects=("a red cat",)),
    )
    assert forms.train_run(train_form(name=" my-own "), (choice,), library).name == "my-own"
    assert forms.train_run(train_form(), (choice,), library).method_config == {}, "defaults stay out of the command"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_steps": 2.5}, "number of steps must be a whole number, got 2.5"),
        ({"num_steps": None}, "number of steps must be a whole number, got nothing"),
        ({"num_steps": math.inf}, "number of steps must be a whole number"),
        ({"num_steps": 0}, "num_steps must be between 1 and"),
        ({"batch_size": True}, "batch size must be a whole number"),
        ({"learning_rate": None}, "learning rate must be a number"),
        ({"learning_rate": 2}, "learning_rate must be above 0"),
        ({"name": "../up"}, "cannot be a file name"),
        ({"method": "synmotoin"}, "synmotion"),
    ],
)
def test_a_bad_train_form_names_the_field(library: Library, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        forms.train_run(train_form(**changes), (example(library),), library)
    assert words in str(refused.value)


def test_a_training_needs_clips_of_one_motion_with_words(library: Library) -> None:
    one = example(library)
    with pytest.raises(ConfigError, match="no clips yet"):
        forms.train_run(train_form(), (), library)
    with pytest.raises(ConfigError, match="one adapter learns one motion, these clips name claps, jumps"):
        forms.train_run(train_form(), (one, dataclasses.replace(one, motion="jumps")), library)
    with pytest.raises(PromptError, match="the subject is empty"):
        forms.train_run(train_form(), (dataclasses.replace(one, subject=""),), library)


def test_a_generate_form_is_the_run(tmp_path: Path) -> None:
    assert forms.generate_run(generate_form(), None) == GenerateRun(subjects=("a red cat", "a robot"), motion="claps")
    file = tmp_path / "x.safetensors"
    run = forms.generate_run(generate_form(seeds="3-5", strength=0.5, steps=8, guidance=2), (file, "large"))
    assert (run.adapter, run.backbone, run.seeds, run.compare) == (file, "large", (3, 4, 5), True)
    assert (run.strength, run.num_inference_steps, run.guidance_scale) == (0.5, 8, 2.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subjects": " \n"}, "name at least one subject"),
        ({"motion": ""}, "the motion is empty"),
        ({"motion": "a robot"}, "are both 'a robot'"),
        ({"seeds": ""}, "name at least one seed"),
        ({"seeds": "-1"}, "a seed is a whole number from 0 on, got '-1'"),
        ({"seeds": "5-3"}, "must go upwards"),
        ({"seeds": "0-9999999"}, "at most 64 seeds"),
        ({"seeds": "0-40"}, "82 videos"),
        ({"seeds": str(2**63)}, "between 0 and 2^63"),
        ({"strength": 3}, "strength must be between 0 and 2"),
        ({"steps": 0}, "num_inference_steps must be between 1 and 200"),
        ({"setting": "in\x00snow"}, "one line of printable text"),
    ],
)
def test_a_bad_generate_form_names_the_field(changes: dict[str, Any], words: str) -> None:
    with pytest.raises((ConfigError, PromptError)) as refused:
        forms.generate_run(generate_form(**changes), None)
    assert words in str(refused.value)


@given(st.lists(st.integers(0, 2**62), max_size=20))
def test_seeds_come_back_in_order_once(seeds: list[int]) -> None:
    assert forms.seeds_in(", ".join(map(str, seeds))) == tuple(dict.fromkeys(seeds))


@given(st.text(max_size=40))
def test_any_seed_text_is_read_or_refused(text: str) -> None:
    try:
        seeds = forms.seeds_in(text)
    except ConfigError:
        return
    assert all(isinstance(seed, int) and seed >= 0 for seed in seeds)


def test_blocked_clips_are_named_before_a_training_starts(library: Library) -> None:
    good = example(library)
    short = dataclasses.replace(good, end_s=1.0)
    with pytest.raises(ClipError, match=r"1 of 2 clips cannot be used yet.*clip 2 \(clap-0.mp4\).*too few"):
        forms.refuse_blocked((good, short), library.looks((good, short), PUPPETS))
    forms.refuse_blocked((good,), library.looks((good,), PUPPETS))


# ------------------------------------------------------------------------------------------------ chosen clips


def test_memory_there_and_back(library: Library) -> None:
    choices = tuple(
        dataclasses.replace(c, start_s=0.25 * i, end_s=2.0) for i, c in enumerate(library.examples()[1].clips)
    )
    memory = json.loads(json.dumps(chosen.to_memory(choices)))
    assert chosen.read_memory(memory, library) == (choices, ())


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_memory_is_read_or_named(memory: Any) -> None:
    nowhere: Any = type("Nowhere", (), {"clips": Path("nowhere")})
    choices, _ = chosen.read_memory(
        {"clips": [memory]} if not isinstance(memory, dict) else memory, Library(nowhere, Path("no"))
    )
    assert choices == ()


@pytest.mark.parametrize(
    "source",
    [
        "",
        "upload/",
        "upload/../secret.mp4",
        "upload//etc/passwd",
        "upload/.hidden.mp4",
        "example/index.json",
        "example/../adapters/clap.safetensors",
        "other/x.mp4",
    ],
)
def test_a_source_never_leaves_its_folder(workspace: Workspace, assets: Path, source: str) -> None:
    library = Library(workspace, assets)
    (workspace.clips.parent / "secret.mp4").write_bytes(b"x")
    (workspace.clips / ".hidden.mp4").write_bytes(b"x")
    with pytest.raises(MissingError, match="add it again"):
        library.path(source)


def test_uploads_are_kept_once_under_a_safe_name(library: Library, tmp_path: Path) -> None:
    file = tmp_path / "…a: b?*.MP4"
    draw(tmp_path / "plain.mp4")
    (tmp_path / "plain.mp4").rename(file)
    source = library.add(file)
    assert library.add(file) == source
    kept = library.path(source)
    assert kept.parent == library.workspace.clips
    assert kept.suffix == ".mp4"
    assert kept.read_bytes() == file.read_bytes()
    assert not set(kept.name) & set('<>:"/\\|?*')
    with pytest.raises(ClipError, match="export it as H"):
        library.add(Path("x.avi"))


def test_a_full_disk_is_said_and_leaves_nothing(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "a.mp4")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("synmotion_core.ui.chosen.shutil.copyfile", full)
    with pytest.raises(StorageError, match="full"):
        library.add(tmp_path / "a.mp4")
    assert list(library.workspace.clips.iterdir()) == []


def test_a_look_has_findings_a_strip_and_is_remembered(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = example(library)
    look = library.look(choice, PUPPETS)
    assert (look.findings, look.blocked, look.fix) == ((), False, None)
    assert look.strip.startswith("data:image/webp;base64,")
    assert look.facts == "17 frames · 8 fps · 64×64 · 2.12 s"
    monkeypatch.setattr(video, "read", lambda *_, **__: pytest.fail("decoded again"))
    assert library.look(choice, PUPPETS) is look
    gone = library.look(ClipChoice(source="upload/gone.mp4"), PUPPETS)
    assert gone.blocked
    assert gone.facts == "cannot be read"


def test_near_duplicates_are_named_by_number_and_file(library: Library) -> None:
    one, other = library.examples()[0].clips[:2]
    looks = library.looks((one, other, one), PUPPETS)
    assert [f.code for look in looks for f in look.findings] == ["duplicate"]
    assert looks[2].findings[0].message.startswith("clip 3 (clap-0.mp4) shows the same as clip 1 (clap-0.mp4)")


def test_real_footage_is_mended_and_warned_of(library: Library, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    noise = np.repeat(np.repeat(rng.integers(0, 255, (75, 9, 16, 3), np.uint8), 8, 1), 8, 2)
    video.write(tmp_path / "street.mp4", noise, 25.0)
    choice = ClipChoice(source=library.add(tmp_path / "street.mp4"))
    look = library.look(choice, PUPPETS)
    assert look.blocked
    mended = clips.mended(choice, library, PUPPETS)
    assert mended.cut == Cut(start_s=0.0, end_s=2.125, resample_fps=8.0)
    after = library.look(mended, PUPPETS)
    assert not after.blocked
    assert "footage" in {f.code for f in after.findings}
    summary = clips.summary_html((mended,), [after], PUPPETS)
    assert "GPU" in summary
    assert "puppets" in summary
    assert "footage" not in {f.code for f in library.look(mended, REAL).findings}


def test_examples_take_the_place_of_examples_only(library: Library) -> None:
    first, second = library.examples()
    own = ClipChoice(source="upload/mine.mp4")
    choices, said = clips.with_examples((own, *first.clips), second)
    assert choices == (own, *second.clips)
    assert (
        said == "3 example clips of “squats”. They take the place of the 3 examples before, "
        "since one adapter learns one motion."
    )
    assert clips.with_examples(choices, second) == (choices, "3 example clips of “squats”.")


def test_edits_are_read_strictly() -> None:
    choice = ClipChoice(source="upload/x.mp4")
    new = clips.edited(choice, "  a  person", "claps ", 0.5, None, None)
    assert new == dataclasses.replace(choice, subject="a person", motion="claps", start_s=0.5)
    assert clips.edited(choice, "", "", None, 1.5, 8).cut == Cut(start_s=0.0, end_s=1.5, resample_fps=8.0)
    for start, end, rate in ((1, 1, None), (-1, None, None), (0, 1, 500), (2, 1, None)):
        with pytest.raises(ConfigError):
            clips.edited(choice, "", "", start, end, rate)


# ------------------------------------------------------------------------------------------------ words for people


def test_all_text_is_escaped() -> None:
    assert "<b" not in notices.notice("error", EVIL, more=EVIL)
    assert "<b" not in notices.empty(EVIL, EVIL).replace("<b>", "", 1)
    shown = media.Shown(url='x" onerror="y', title=EVIL, note=EVIL, download='a"b.mp4')
    html = media.figure(shown)
    assert "<b id" not in html
    assert 'onerror="' not in html
    look = chosen.Look(info=None, findings=())
    assert "<b id" not in clips.summary_html(
        (ClipChoice(source="upload/x", subject=EVIL, motion=EVIL),), [look], PUPPETS
    )
    assert "<b id" not in progress.status(view(status="failed", message=EVIL))


def test_user_errors_are_shown_and_bugs_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with gr.Blocks():
        message = gr.HTML()

    def wrong() -> dict[Any, Any]:
        raise ConfigError("rank must be between 1 and 512, got 0")

    def broken() -> dict[Any, Any]:
        raise KeyError("secret detail")

    assert "rank must be between 1 and 512, got 0" in notices.guarded(message, wrong)()[message]
    assert notices.guarded(message, dict)() == {message: ""}
    with caplog.at_level(logging.ERROR):
        said = notices.guarded(message, broken)()[message]
    assert "secret" not in said
    assert "on our side" in said
    assert "secret detail" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert notices.quiet(broken)() == gr.skip()
        assert notices.quiet(wrong)() == gr.skip()
    assert "secret detail" in caplog.text


def test_what_a_backbone_knows_is_said_where_it_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "puppets" in train.knows_notice(PUPPETS, False)
    said = train.knows_notice(PUPPETS, True)
    assert "sm-warning" in said
    assert "GPU" in said
    monkeypatch.setitem(SPECS, "large", REAL)
    assert "choose Large" in train.knows_notice(PUPPETS, True)
    assert "needs a CUDA GPU" in train.knows_notice(REAL, True)


def test_a_method_that_does_not_fit_says_why() -> None:
    fits = {name: label for label, name in train.method_choices(PUPPETS)}
    assert "not here" not in "".join(fits.values())
    unfit = {name: label for label, name in train.method_choices(REAL)}
    assert "not here: method 'lora' needs attention_lora" in unfit["lora"]


def test_suggested_subjects_are_known_to_the_backbone() -> None:
    for line in forms.lines(train.suggested_subjects(PUPPETS)):
        assert line.split()[-1] in PUPPETS.options["prior_subjects"]
    assert forms.lines(train.suggested_subjects(dataclasses.replace(REAL, options={})))


# ------------------------------------------------------------------------------------------------ jobs on the page


def view(**changes: Any) -> JobView:
    source = ClipSource(path=Path("gone.mp4"), subject="a person", motion="claps")
    values: dict[str, Any] = {
        "id": "20260101-000000-abcdef",
        "kind": "train",
        "status": "running",
        "config": TrainRun(name="x", clips=(source,), train=TrainConfig(num_steps=100)),
        "created": 0.0,
        "stage": "train",
        "step": 25,
        "total": 100,
        "losses": ((24, 0.5), (25, 0.25)),
        "samples": (),
        "result": None,
        "message": "",
        "warnings": (),
        "checkpoint_step": None,
        "seconds": 30.0,
        "seconds_per_step": 1.2,
        "eta_s": 90.0,
    }
    return JobView(**{**values, **changes})


def test_a_running_job_in_numbers() -> None:
    html = progress.status(view())
    for words in ("Training: 25 of 100", "1.2 s a step", "about 1 min 30 s left", "loss 0.2500", "width:25.0%"):
        assert words in html
    sampling = progress.status(view(stage="generate", step=5, total=20))
    assert "Drawing samples at step 25: 5 of 20" in sampling
    assert "width:25.0%" in sampling, "samples do not move the bar back"


@pytest.mark.parametrize("word", ["queued", "running", "stopping", "stopped", "failed", "interrupted", "finished"])
def test_every_status_has_words_and_an_outcome(word: Any) -> None:
    assert f'data-status="{word}"' in progress.status(view(status=word))
    assert f'data-status="{word}"' in progress.status(view(status=word, stage="", step=0, total=0, losses=()))
    area = media.html_area(elem_id="x")
    outcome = train.outcome_html(area, view(status=word, checkpoint_step=20, warnings=("a <b>",)))
    assert ("from step 20" in outcome) == (word in ("stopped", "failed", "interrupted"))
    assert "a &lt;b&gt;" in outcome


def test_a_missing_file_keeps_its_place(tmp_path: Path) -> None:
    area = media.html_area(elem_id="x")
    gone = Sampled(path=tmp_path / "gone.mp4", prompt=Prompt(subject="a cat", motion="claps"), seed=0, step=10)
    html = train.samples_html(area, view(samples=(gone,)))
    assert html.count("no longer there") == 2
    assert "Step 10" in html


def test_results_keep_base_left_and_adapter_right(tmp_path: Path) -> None:
    area = media.html_area(elem_id="x")
    draw(tmp_path / "a.mp4")
    prompt = Prompt(subject="a cat", motion="claps")
    run = GenerateRun(subjects=("a cat",), motion="claps", adapter=tmp_path / "x.safetensors", compare=True)
    made = Sampled(path=tmp_path / "a.mp4", prompt=prompt, seed=0, adapted=True)
    html = generate.results_html(area, view(kind="generate", config=run, samples=(made,)))
    assert re.findall("<figcaption><b>(.*?)</b>", html) == ["Backbone alone", "With the adapter"]
    assert html.index("being drawn") < html.index("<video")
    alone = GenerateRun(subjects=("a cat",), motion="claps")
    html = generate.results_html(
        area, view(kind="generate", config=alone, samples=(dataclasses.replace(made, adapted=False),))
    )
    assert html.count("<video") == 1
    assert "no adapter" in html


def test_adapters_are_found_and_bad_ones_named(workspace: Workspace, assets: Path) -> None:
    write_adapter(workspace.adapters / "mine.safetensors", subject="a person", motion="spins", steps=5, clips=3)
    (workspace.adapters / "torn.safetensors").write_bytes(b"\x08")
    found, problems = generate.find_adapters(workspace, assets)
    assert [c.id for c in found] == ["ready/clap.safetensors", "mine/mine.safetensors"]
    assert found[1].label == "mine: spins (trained here)"
    assert len(problems) == 1
    assert "torn.safetensors" in problems[0]
    for wanted in ("mine/../x", "mine/torn.safetensors", "/etc/passwd", "ready/mine.safetensors"):
        with pytest.raises(MissingError, match="choose another"):
            generate.find_adapter(workspace, wanted, assets)


# ------------------------------------------------------------------------------------------------ the plot


def test_a_plot_needs_two_losses_and_survives_odd_ones() -> None:
    assert "<svg" not in progress.loss_plot((), 100)
    assert "<svg" not in progress.loss_plot(((1, 0.5),), 100)
    html = progress.loss_plot(((1, 0.5), (2, math.nan), (3, 0.4), (4, math.inf)), 100)
    assert "2 steps without a finite loss" in html
    assert "nan" not in html.split("<svg")[1]
    assert "Loss 0.4000 at step 3" in html
    flat = progress.loss_plot(((1, 0.5), (2, 0.5)), 2)
    assert "nan" not in flat
    assert "inf" not in flat


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=900))
def test_thinning_keeps_the_end_and_the_range(values: list[float]) -> None:
    points = list(enumerate(values, start=1))
    thin = progress.thinned(points)
    assert len(thin) <= progress.POINTS
    assert thin[-1] == (float(len(values)), values[-1])
    assert [s for s, _ in thin] == sorted(s for s, _ in thin)
    assert min(values) - 1e-6 <= min(v for _, v in thin)
    assert max(v for _, v in thin) <= max(values) + 1e-6


def test_smoothing_starts_at_the_first_value_and_follows() -> None:
    smooth = progress.smoothed([(i, 1.0 if i < 50 else 0.0) for i in range(1, 101)])
    assert smooth[0] == (1, 1.0)
    assert smooth[48][1] == pytest.approx(1.0)
    assert smooth[-1][1] < 0.02


def test_a_strip_begins_and_ends_with_the_clip() -> None:
    import base64

    import cv2

    frames = np.zeros((17, 64, 48, 3), np.uint8)
    frames[0], frames[-1] = (255, 0, 0), (0, 0, 255)
    data = base64.b64decode(media.strip(frames).partition(",")[2])
    image = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert image.shape == (media.STRIP_HEIGHT, media.STRIP_FRAMES * 54, 3)
    assert image[36, 20, 0] > 200
    assert image[36, -20, 2] > 200
    assert image[36, image.shape[1] // 2].max() < 60
