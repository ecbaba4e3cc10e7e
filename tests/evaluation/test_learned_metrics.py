"""Metrics that look through models: their formulas on the real classes at tiny random configs, and absent weights."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPImageProcessorPil, Qwen2VLImageProcessorPil, ViTImageProcessorPil

from synmotion_core.errors import MissingError, PromptError
from synmotion_core.evaluation import trainings
from synmotion_core.evaluation.bench_methods import bench_methods, bench_suite
from synmotion_core.evaluation.metrics import COLUMNS, DEFAULT_METRICS, METRICS, Asked, Shot, extractors, score
from synmotion_core.evaluation.metrics import dino as dino_metric
from synmotion_core.evaluation.metrics import fvd as fvd_metric
from synmotion_core.evaluation.metrics import vqa as vqa_metric
from synmotion_core.evaluation.metrics.extractors import Extractor, extractor, identity
from synmotion_core.evaluation.metrics.fvd import frechet
from synmotion_core.evaluation.metrics.pictures import CLIP, IMAGENET, Look, pixels, resized, steady
from synmotion_core.evaluation.report import markdown
from synmotion_core.evaluation.results import Outcome, accuracies, figures, read_results
from synmotion_core.evaluation.suite import Row, Suite
from synmotion_core.puppets.stage import Scene, render
from synmotion_core.training.settings import TrainConfig
from synmotion_core.types import Frames, Prompt
from synmotion_core.workspace import Workspace
from tests.evaluation.tiny_extractors import CLIP_SIDE, DINO_SIDE, JEPA_FRAMES, JEPA_SIDE, place_of, saved

LEARNED = [name for name, row in METRICS.items() if row.weights]
CAT = Prompt(subject="a red cat", motion="waves")


@pytest.fixture(autouse=True)
def _of_its_own(workspace: Workspace) -> Iterator[None]:
    """A workspace without weights, and nothing remembered from another test."""
    extractors._read.cache_clear()
    yield
    extractors._read.cache_clear()


def shot(frames: Frames, prompt: Prompt = CAT, fps: float = 8.0) -> Shot:
    return Shot(frames=np.ascontiguousarray(frames), fps=fps, prompt=prompt, motion="wave")


def puppet(species: str, motion: str, seed: int) -> Shot:
    scene = Scene(species=species, colour="blue", background="meadow", motion=motion, seed=seed)
    return shot(render(scene).frames)


def noise(seed: int, size: tuple[int, ...] = (17, 64, 64, 3)) -> Shot:
    return shot(np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8))


def still(seed: int) -> Shot:
    return shot(np.repeat(noise(seed).frames[:1], 9, axis=0))


def of(name: str, shots: Sequence[Shot], references: Sequence[Shot] = ()) -> dict[str, list[float]]:
    return METRICS[name].score(Asked(motion="wave", shots=tuple(shots), references=tuple(references)))


def loaded(name: str) -> Extractor:
    family = {"clip": "CLIPModel", "dino": "ViTModel", "fvd": "VJEPA2Model", "vqa": "Qwen3VLForConditionalGeneration"}
    settings: dict[str, Any] = {"add_pooling_layer": False} if name == "dino" else {}
    return extractor(METRICS[name].weights[0], family[name], words=name in ("clip", "vqa"), **settings)


# ------------------------------------------------------------------------------------------------ the rows


def test_a_row_that_downloads_is_never_in_a_suite_that_does_not_name_it() -> None:
    assert LEARNED == ["clip", "dino", "fvd", "vqa"]
    assert Suite(rows={"lora": Row()}).metrics == DEFAULT_METRICS
    assert not set(DEFAULT_METRICS) & set(LEARNED)
    for name in LEARNED:
        for weights in METRICS[name].weights:
            assert weights.licence
            assert 0.1 < weights.size_gb < 20
            said = all("not pinned to a commit" in column.about for column in METRICS[name].columns)
            assert said is not weights.pinned, name


def test_the_rare_motion_is_judged_by_the_surest_judge_that_was_asked() -> None:
    def outcome(*columns: str) -> Outcome:
        return Outcome(values={key: [1.0] for key in columns}, num_videos=1, seconds=1.0)

    assert accuracies([outcome("vqa_motion", "vqa_subject")]) == ("vqa_motion", "vqa_subject")
    assert accuracies([outcome("motion", "species", "vqa_motion", "vqa_subject")]) == ("motion", "species")
    assert accuracies([outcome("vqa_motion")]) is None


@pytest.mark.parametrize("name", LEARNED)
def test_a_score_is_the_same_twice_and_videos_do_not_know_of_each_other(name: str) -> None:
    saved(name)
    shots, clips = [puppet("cat", "wave", 1), noise(2)], [puppet("person", "wave", i) for i in range(3)]
    one = of(name, shots, clips)
    assert list(one) == [column.name for column in METRICS[name].columns]
    extractors._read.cache_clear()
    assert of(name, shots, clips) == one
    alone = [of(name, [own], clips) for own in shots]
    for key, values in one.items():
        if COLUMNS[key].per == "video":
            assert values == pytest.approx([own[key][0] for own in alone], abs=1e-6), key


# ------------------------------------------------------------------------------------------------ pictures


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (90, 41), (24, 24)])
def test_pictures_are_taken_as_the_processors_of_transformers_take_them(size: tuple[int, int]) -> None:
    frames = resized(noise(3, (4, 7, 9, 3)).frames, *size, "bicubic")
    theirs: Any = CLIPImageProcessorPil(
        size={"shortest_edge": CLIP_SIDE}, crop_size={"height": CLIP_SIDE, "width": CLIP_SIDE}
    )
    own = pixels(frames, Look(shorter=CLIP_SIDE, crop=CLIP_SIDE, by="bicubic", channels=CLIP))
    assert own.shape == (4, 3, CLIP_SIDE, CLIP_SIDE)
    assert torch.allclose(own, theirs(list(frames), return_tensors="pt")["pixel_values"], atol=1e-5)
    whole = pixels(frames, Look(shorter=DINO_SIDE, crop=None, by="bilinear", channels=IMAGENET))
    assert min(whole.shape[2:]) == DINO_SIDE
    assert whole.shape[3] / whole.shape[2] == pytest.approx(size[1] / size[0], rel=0.03), "nothing is cut off"
    theirs = ViTImageProcessorPil(
        size={"height": whole.shape[2], "width": whole.shape[3]}, image_mean=IMAGENET[0], image_std=IMAGENET[1]
    )
    assert torch.allclose(whole, theirs(list(frames), return_tensors="pt")["pixel_values"], atol=1e-5)


def test_steady_is_vbenchs_formula() -> None:
    """Three directions at right angles and one turned round, which VBench counts as 0."""
    east, north = torch.tensor([1.0, 0.0]).double(), torch.tensor([0.0, 1.0]).double()
    assert steady(torch.stack([east, north, east])) == pytest.approx((0 + 0 + 1 + 0) / 4)
    assert steady(torch.stack([east, -east, -east])) == pytest.approx((0 + 0 + 0 + 1) / 4)
    assert steady(torch.stack([east] * 5)) == 1


# ------------------------------------------------------------------------------------------------ CLIP and DINO


def test_clip_is_the_models_own_features_compared_by_hand() -> None:
    saved("clip")
    model = loaded("clip")
    long = Prompt(subject="a small yellow penguin", motion="waves, bobs apart deep, swings hands down out slow and low")
    shots = [noise(1, (5, 40, 56, 3)), dataclasses.replace(noise(2), prompt=long)]
    found = of("clip", shots)
    processor: Any = CLIPImageProcessorPil(
        size={"shortest_edge": CLIP_SIDE}, crop_size={"height": CLIP_SIDE, "width": CLIP_SIDE}
    )
    for index, one in enumerate(shots):
        words = model.tokenizer(one.prompt.text, truncation=True, max_length=24, return_tensors="pt")
        with torch.no_grad():
            said = model.model.get_text_features(**words).pooler_output[0]
            seen = model.model.get_image_features(
                processor(list(one.frames), return_tensors="pt")["pixel_values"]
            ).pooler_output
        cosines = torch.nn.functional.cosine_similarity(seen, said[None])
        assert found["clip_text"][index] == pytest.approx(float(cosines.mean()), abs=1e-5)
        pairs = torch.nn.functional.cosine_similarity(seen[1:], seen[:-1])
        assert found["clip_consistency"][index] == pytest.approx(float(pairs.mean()), abs=1e-5)
        first = torch.nn.functional.cosine_similarity(seen[1:], seen[:1])
        both = (first.clamp(min=0) + pairs.clamp(min=0)).mean() / 2
        assert found["background_consistency"][index] == pytest.approx(float(both), abs=1e-5)
    assert len(model.tokenizer(long.text).input_ids) > 24, "what CLIP cannot read is cut, not refused"


@pytest.mark.parametrize(
    ("metric", "column"),
    [("clip", "clip_consistency"), ("clip", "background_consistency"), ("dino", "subject_consistency")],
)
def test_a_still_is_consistent_and_noise_is_less(metric: str, column: str) -> None:
    saved(metric)
    rest, moves, rough = of(metric, [still(1), puppet("cat", "dance", 1), noise(1)])[column]
    assert rest == pytest.approx(1, abs=1e-6)
    assert rough < moves < 1 - 1e-4
    with pytest.raises(ValueError, match="needs at least two frames, got 1"):
        of(metric, [shot(still(1).frames[:1])])


def test_leakage_is_whole_for_a_clip_itself_and_less_for_others() -> None:
    saved("dino")
    clips = [puppet("person", "wave", i) for i in range(3)]
    found = of("dino", [clips[1], shot(clips[2].frames[::-2]), puppet("frog", "wave", 9), noise(1)], clips)["leak"]
    assert found[:2] == pytest.approx([1, 1], abs=1e-6), "whatever the order and the number of its frames"
    assert found[3] < found[2] < 1 - 1e-4
    assert list(of("dino", clips)) == ["subject_consistency"], "without clips there is nothing to leak"
    wide = noise(4, (3, 32, 96, 3))
    sides = wide.frames.copy()
    sides[:, :, :24] = sides[:, :, 72:] = 0
    same, other = of("dino", [wide, shot(sides)], [wide])["leak"]
    assert same == pytest.approx(1, abs=1e-6)
    assert other < 1 - 1e-3, "the sides of a wide picture are seen"
    features = dino_metric.seen_by(loaded("dino"), clips[0].frames)
    taken = pixels(clips[0].frames, Look(shorter=DINO_SIDE, crop=None, by="bilinear", channels=IMAGENET))
    with torch.no_grad():
        own = loaded("dino").model(taken).last_hidden_state[:, 0]
    assert torch.allclose(features, torch.nn.functional.normalize(own.double(), dim=-1), atol=1e-6)


# ------------------------------------------------------------------------------------------------ Frechet


def gaussian(count: int, deviations: Sequence[float], seed: int = 0) -> Any:
    """Features of exactly zero mean and of exactly this diagonal covariance."""
    raw = np.random.default_rng(seed).normal(size=(count, len(deviations)))
    raw -= raw.mean(0)
    return np.linalg.qr(raw)[0] * np.sqrt(count - 1) * np.asarray(deviations)


def test_the_frechet_distance_of_known_gaussians() -> None:
    rng = np.random.default_rng(1)
    a, b = (1.0, 2.0, 0.5, 0.0), (3.0, 1.0, 0.5, 2.0)
    x, y = gaussian(40, a), gaussian(60, b, seed=3)
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)
    shift = np.array([1.0, -2.0, 0.5, 3.0])
    assert frechet(x, x + shift) == pytest.approx(float(shift @ shift), abs=1e-9)
    assert frechet(x, 3 * x) == pytest.approx(4 * sum(v * v for v in a), abs=1e-9)
    apart = sum((v - w) ** 2 for v, w in zip(a, b, strict=True))
    assert frechet(x, y) == pytest.approx(apart, abs=1e-9)
    assert frechet(x, y + shift) == pytest.approx(frechet(y + shift, x), abs=1e-9)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    mixed = rng.normal(size=(30, 4)) @ rng.normal(size=(4, 4))
    assert frechet(x @ turn, mixed @ turn) == pytest.approx(frechet(x, mixed), rel=1e-9)
    with pytest.raises(ValueError, match="two features at least, got 1 and 3"):
        frechet(x[:1], y[:3])


@pytest.mark.parametrize(("count", "size"), [(50, 6), (7, 64)])
def test_the_frechet_distance_is_that_of_the_roots_of_covariances(count: int, size: int) -> None:
    """Also where there are fewer videos than features, whose covariances have no full rank."""
    rng = np.random.default_rng(count)
    x, y = rng.normal(size=(count, size)), rng.normal(size=(count + 3, size)) @ rng.normal(size=(size, size)) + 0.3
    one, other = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, vectors = np.linalg.eigh(one)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    shared = np.sqrt(np.linalg.eigvalsh(root @ other @ root).clip(0)).sum()
    plain = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(one) + np.trace(other) - 2 * shared
    assert frechet(x, y) == pytest.approx(float(plain), rel=1e-6)


def test_few_videos_make_the_distance_larger() -> None:
    rng = np.random.default_rng(0)
    few, many = ([frechet(*rng.normal(size=(2, n, 16))) for _ in range(5)] for n in (8, 400))
    assert min(few) > 5 * max(many), "which is why it is compared at equal counts only"


def test_fvd_is_of_the_videos_and_the_clips() -> None:
    saved("fvd")
    clips = [puppet("person", "wave", i) for i in range(4)]
    others = [puppet("frog", "spin", i) for i in range(4)]
    assert of("fvd", clips, clips)["fvd"] == pytest.approx([0], abs=1e-6)
    (apart,) = of("fvd", others, clips)["fvd"]
    (far,) = of("fvd", [noise(i) for i in range(4)], clips)["fvd"]
    assert 1e-3 < apart < far
    model = loaded("fvd")
    taken = others[0].frames[np.round(np.linspace(0, 16, JEPA_FRAMES)).astype(int)]
    look = Look(shorter=int(JEPA_SIDE * 256 / 224), crop=JEPA_SIDE, by="bilinear", channels=IMAGENET)
    with torch.no_grad():
        tokens = model.model(pixels(taken, look)[None]).last_hidden_state
    assert fvd_metric.feature(model, others[0]) == pytest.approx(tokens[0].mean(0).numpy(), abs=1e-5)
    assert fvd_metric.feature(model, shot(others[0].frames[:3])).shape == (48,), "a short one repeats its frames"


def test_what_says_nothing_of_one_video_needs_no_weights() -> None:
    assert of("fvd", [noise(1)], [noise(2), noise(3)]) == {}
    assert of("fvd", [noise(1), noise(2)], [noise(3)]) == {}


# ------------------------------------------------------------------------------------------------ yes and no


def test_a_video_is_shown_in_the_order_of_qwens_patches() -> None:
    saved("vqa")
    model = loaded("vqa")
    two = np.stack([np.kron(noise(i, (8, 12, 3)).frames, np.ones((40, 40, 1), np.uint8)) for i in range(2)])
    patches, grid, stamps = vqa_metric.shown(model, shot(two, fps=4.0))
    height, width = vqa_metric.fitting(320, 480, 32)
    assert grid.tolist() == [[4, height // 16, width // 16]]
    assert stamps == [0, 0, 0.25, 0.25]
    processor: Any = Qwen2VLImageProcessorPil(
        patch_size=16, do_resize=False, image_mean=[0.5] * 3, image_std=[0.5] * 3, merge_size=2
    )
    for index in (0, 1):  # the picture's processor shows one picture twice, as the first and the last pair do
        own = resized(two[index : index + 1], height, width, "bicubic")[0]
        theirs = processor([own], return_tensors="pt")["pixel_values"]
        assert torch.allclose(patches.reshape(4, -1, patches.shape[1])[3 * index], theirs, atol=1e-5)
    assert vqa_metric.shown(model, noise(1))[2] == [0.125, 0.75, 1.25, 1.875], "the middle of each pair's times"
    mixed, _, _ = vqa_metric.shown(model, shot(np.concatenate([two] * 4)))
    by_time = mixed.reshape(-1, 3, 2, 256)
    first = patches.reshape(4, -1, 3, 2, 256)
    assert torch.equal(by_time[: first.shape[1], :, 0], first[0, :, :, 0])
    assert torch.equal(by_time[: first.shape[1], :, 1], first[3, :, :, 0])


def test_the_verdict_is_what_the_model_would_say_first() -> None:
    saved("vqa")
    model, own = loaded("vqa"), noise(3, (6, 64, 96, 3))
    video, question = vqa_metric.shown(model, own), vqa_metric.MOTION.format(motion="waves")
    yes, no = vqa_metric.answers(model)
    assert len(yes) == len(no) == 2
    gaps = []
    for order in vqa_metric.ORDERS:
        said = model.model.generate(
            **vqa_metric.inputs(model, video, f"{question} {order}"),
            max_new_tokens=1, do_sample=False, return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
        chances = said.logits[0][0].softmax(-1)
        gaps.append(float(torch.log(chances[yes].sum() / chances[no].sum())))
    assert abs(gaps[0] - gaps[1]) > 1e-4, "the order of the words is heard"
    assert vqa_metric.gap(model, own, question) == pytest.approx(sum(gaps) / 2, abs=1e-4)
    read = vqa_metric.inputs(model, video, question)
    words = model.tokenizer.decode(read["input_ids"][0])
    places = read["input_ids"] == model.tokenizer.convert_tokens_to_ids("<|video_pad|>")
    assert torch.equal(read["mm_token_type_ids"], 2 * places), "or a picture's places would be counted as words"
    assert words.count("<|vision_start|>") == words.count("<|vision_end|>") == 4
    assert words.count("<|video_pad|>") * 4 == len(video[0])
    assert words.count("seconds>") == 4
    with pytest.raises(PromptError, match="own marks begin"):
        of("vqa", [shot(own.frames, Prompt(subject="a cat", motion="waves<|im_end|>"))])


class _Leaning:
    """Says, `lean` stronger, whichever of the two words it reads first; and `yes` by `belief` besides."""

    def __init__(self, real: Extractor, lean: float, belief: float) -> None:
        self.config, self.dtype = real.model.config, real.model.dtype
        self.tokenizer, self.lean, self.belief, self.asked = real.tokenizer, lean, belief, []

    def __call__(self, input_ids: Any, **more: Any) -> Any:
        words = self.tokenizer.decode(input_ids[0])
        self.asked.append(words[words.rindex("<|vision_end|>") :])
        yes_first = words.index("yes") < words.index("no", words.rindex("Answer"))
        logits = torch.zeros(1, 1, len(self.tokenizer))
        ids = self.tokenizer.convert_tokens_to_ids
        logits[..., ids("yes")] = self.belief + self.lean * yes_first
        logits[..., ids("no")] = self.lean * (not yes_first)
        return SimpleNamespace(logits=logits)


@pytest.mark.parametrize("belief", [0.25, -0.25])
def test_a_lean_to_the_word_that_comes_first_is_no_verdict(belief: float, monkeypatch: pytest.MonkeyPatch) -> None:
    saved("vqa")
    real = loaded("vqa")
    model = _Leaning(real, lean=8.0, belief=belief)
    monkeypatch.setattr(vqa_metric, "extractor", lambda *a, **k: dataclasses.replace(real, model=model))
    found = of("vqa", [noise(1), noise(2)])
    assert found == {"vqa_motion": [float(belief > 0)] * 2, "vqa_subject": [float(belief > 0)] * 2}
    assert len(model.asked) == 2 * 2 * 2, "two videos, two questions, two orders"
    assert sum("that waves?" in words for words in model.asked) == 4
    assert sum("a red cat the one" in words for words in model.asked) == 4


# ------------------------------------------------------------------------------------------------ weights


@pytest.mark.parametrize("name", LEARNED)
def test_absent_weights_are_named_and_leave_columns_out(name: str) -> None:
    """The tests have no network: as on a machine without the Hub."""
    asked = Asked(motion="wave", shots=(noise(1), noise(2)), references=(noise(3), noise(4)))
    found = score(["flow", name], asked)
    assert set(found.values) == {"flow", "dynamic", "smoothness"}, "left out, never zero"
    weights = METRICS[name].weights[0]
    assert list(found.missing) == [name]
    for words in (weights.repo, weights.revision[:12], "could not be read from the Hub", str(place_of(name))):
        assert words in found.missing[name]
    with pytest.raises(MissingError, match=weights.repo):
        METRICS[name].score(asked)
    saved(name)
    assert score([name], asked).missing == {}, "a folder that was put there since is seen"


def test_other_errors_end_a_run() -> None:
    with pytest.raises(ValueError, match="at least three frames"):
        score(["flow"], Asked(motion="wave", shots=(shot(noise(1).frames[:2]),)))


def test_a_folder_that_is_not_what_it_should_be_is_refused() -> None:
    folder = saved("dino")

    def refused(words: str, metric: str = "dino") -> None:
        extractors._read.cache_clear()
        with pytest.raises(MissingError, match=r"cannot be used as .*without the folder the Hub's is read") as error:
            of(metric, [noise(1)])
        assert words in str(error.value)
        assert str(place_of(metric)) in str(error.value)

    kept = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(kept, folder / "pytorch_model.bin")
    refused("no file named model.safetensors")  # pickles alone
    shutil.rmtree(folder)
    folder.mkdir(parents=True)
    refused("a config.json of nothing, not of vit")
    saved("dino")
    torn = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(torn[:900])
    refused("header")
    saved("clip", folder)
    refused("a config.json of clip, not of vit")
    saved("dino", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    refused("tensors of ViTModel are not in it, such as")
    saved("clip")
    for file in place_of("clip").glob("*token*"):
        file.unlink()
    refused("its tokenizer is not there", "clip")


def test_code_that_lies_in_a_folder_is_not_run(tmp_path: Path) -> None:
    folder, mark = saved("clip"), tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Evil: pass\n")
    for name in ("config.json", "tokenizer_config.json"):
        values = json.loads((folder / name).read_text())
        values["auto_map"] = dict.fromkeys(("AutoConfig", "AutoModel"), "evil.Evil") | {
            "AutoTokenizer": ["evil.Evil", "evil.Evil"]
        }
        (folder / name).write_text(json.dumps(values))
    score(["clip"], Asked(motion="wave", shots=(noise(1),)))
    assert not mark.exists()


def test_what_is_kept_is_named_by_the_weights_too() -> None:
    assert identity(("flow", "judge")) == []
    (before,) = identity(("flow", "dino"))
    assert before == "facebook/dino-vitb16@refs/pr/7"
    saved("dino")
    (own,) = identity(("flow", "dino"))
    assert own != before
    os.utime(place_of("dino") / "model.safetensors", ns=(0, 0))
    assert identity(("dino",)) not in ([own], [before])


# ------------------------------------------------------------------------------------------------ in a suite


def test_a_suite_goes_on_without_the_weights_and_measures_anew_when_they_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trained: list[str] = []
    train = trainings._train
    monkeypatch.setattr(trainings, "_train", lambda b, u, *rest: trained.append(u.motion) or train(b, u, *rest))
    rows = {"lora": Row(), "small": Row(method="lora", config={"rank": 2})}
    suite = Suite(
        rows=rows, motions=("squat",), seeds=(4,), num_clips=2, num_videos=2, metrics=("flow", "dino", "fvd"),
        train={"num_steps": 1, "batch_size": 1}, against="lora",
    )  # fmt: skip

    def run(name: str) -> set[str]:
        found = bench_suite(suite, cache=tmp_path / "cache", out=tmp_path / name)
        return {figure.name for figure in found}

    saved("fvd")
    with caplog.at_level(logging.WARNING, logger="synmotion_core"):
        without = run("without")
    assert "methods.small.flow-lora" in without
    assert "methods.small.fvd-lora" in without
    assert not [name for name in without if "leak" in name or "subject" in name]
    warned = [record.getMessage() for record in caplog.records if "not measured" in record.getMessage()]
    assert len(warned) == 1, "once, not for each training"
    assert warned[0].startswith("dino: not measured, weights absent: facebook/dino-vitb16 at refs/pr/7 could not be")
    results = read_results(tmp_path / "without")
    for row in results.rows:
        (outcome,) = row.outcomes
        assert list(outcome.missing) == ["dino"]
        assert not {"leak", "subject_consistency"} & set(outcome.values)
    text = (tmp_path / "without" / "report.md").read_text()
    assert warned[0] in text
    assert "leak" not in text.split("## Rows")[0].replace(warned[0], "")
    assert warned[0].split(" (")[0] in (tmp_path / "without" / "report.html").read_text()
    assert not list((tmp_path / "cache").glob("units/*")), "an absence is not kept"
    assert len(trained) == 2
    saved("dino")
    caplog.clear()
    assert {"methods.small.leak-lora", "methods.lora.subject_consistency"} <= run("with")
    assert len(trained) == 2, "adapters and videos are"
    assert not caplog.records
    assert len(list((tmp_path / "cache").glob("units/*"))) == 2
    assert "not measured" not in markdown(read_results(tmp_path / "with"))
    shutil.rmtree(place_of("dino"))
    assert "methods.lora.leak" not in run("gone"), "what other weights have seen is not taken for these"


def test_motion_and_subject_of_a_suite_without_the_puppets_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that some units lack: what all have is compared, and the others are counted."""
    seen = iter([True, False, True])

    def answers(asked: Asked) -> dict[str, list[float]]:
        if not next(seen):
            raise MissingError("the network went away")
        return {"vqa_motion": [1.0] * len(asked.shots), "vqa_subject": [0.0] * len(asked.shots)}

    monkeypatch.setattr(vqa_metric, "score", answers)
    how: dict[str, Any] = {
        "methods": ("lora",), "num_clips": 1, "num_videos": 2, "metrics": ("vqa",), "motions": ("squat",),
        "train": TrainConfig(num_steps=1, batch_size=1), "cache": tmp_path / "cache", "out": tmp_path / "half",
    }  # fmt: skip
    assert {f.name for f in bench_methods(seeds=(4, 5), **how)} == {"methods.lora.seconds"}
    text = (tmp_path / "half" / "report.md").read_text()
    assert "vqa: not measured in 1 of 2 trainings, weights absent: the network went away" in text
    found = {f.name: f.value for f in bench_methods(seeds=(4, 5), **{**how, "out": tmp_path / "whole"})}
    assert next(seen, None) is None, "the unit that was whole is kept"
    assert found["methods.lora.vqa_motion"] == found["methods.lora.motion.squat"] == 1
    assert found["methods.lora.hit"] == found["methods.lora.vqa_subject"] == 0
    whole = read_results(tmp_path / "whole")
    assert {f.name: f.value for f in figures(whole.suite, whole.rows[0])} == found


def test_a_missing_metric_is_one_of_the_registry() -> None:
    with pytest.raises(ValueError, match="there is no metric 'clap'"):
        Outcome(values={}, num_videos=1, seconds=1.0, missing={"clap": "gone"})
