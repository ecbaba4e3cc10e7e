"""Pretraining the tiny backbone: the corpus on disk, the optimizer, exact resume, and what is exported."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from synmotion_core.puppets import blueprint
from synmotion_core.puppets import corpus as corpora
from synmotion_core.puppets.autoencoder import AutoencoderPatchVideo
from synmotion_core.puppets.blueprint import build_pipeline
from synmotion_core.puppets.captions import draw_scene
from synmotion_core.puppets.improvisation import VOCABULARY
from synmotion_core.puppets.judge import Judge
from synmotion_core.puppets.motions import RARE
from synmotion_core.puppets.pretrain import __main__ as commands
from synmotion_core.puppets.pretrain import loop
from synmotion_core.puppets.pretrain.anatomies import ANATOMIES
from synmotion_core.puppets.pretrain.anatomy import Batch
from synmotion_core.puppets.pretrain.feed import Feed
from synmotion_core.puppets.pretrain.hunyuan import HunyuanVideoHeads, at_corner
from synmotion_core.puppets.pretrain.muon import BatchedMuon
from synmotion_core.puppets.pretrain.settings import PretrainConfig
from synmotion_core.puppets.stage import Performance, Scene, render

CHUNK = 6
HUNYUAN = ANATOMIES["puppet-hunyuan"]
PARTS = {"hybrids": 0.4, "etudes": 0.5, "standing": 0.0}
SMALL = {"batch_size": 2, "image_batch_size": 2, "image_steps": 1, "score_prompts": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoencoder and two small chunks of corpus."""
    where = tmp_path_factory.mktemp("pretrain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora, "CHUNK", CHUNK)
        corpora.fit_autoencoder(num_clips=24).save_pretrained(where / "vae")
        (where / "corpus").mkdir()
        for index in (1, 0):
            corpora._write_chunk(str(where / "corpus"), str(where / "vae"), {}, PARTS, 1, index)
    return where


def _run(folder: Path, own: Path, **settings: object) -> list[dict[str, float]]:
    own.mkdir(exist_ok=True)
    if not (own / "vae").exists():
        (own / "vae").symlink_to(folder / "vae")
    config = PretrainConfig(**{**SMALL, **settings})  # type: ignore[arg-type]
    return list(loop.train(own, corpora.Corpus(folder / "corpus"), config))


def _vae(folder: Path) -> AutoencoderPatchVideo:
    return AutoencoderPatchVideo.from_pretrained(folder / "vae")


def test_batched_muon_is_torchs_muon() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(64, 64), (64, 256), (256, 64), (64, 64), (96, 128)]
    one = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]
    two = [torch.nn.Parameter(p.detach().clone()) for p in one]
    torchs = torch.optim.Muon(one, lr=1e-2, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    ours = BatchedMuon(two, lr=1e-2, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    before = [p.detach().clone() for p in one]
    for _ in range(4):
        for p, q in zip(one, two, strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        torchs.step()
        ours.step()
    for p, q, start in zip(one, two, before, strict=True):
        assert (p - start).abs().mean() > 1e-3
        torch.testing.assert_close(q, p, rtol=0, atol=2e-5)
    ours.load_state_dict(torchs.state_dict())  # the same names and shapes


def test_muon_takes_a_kernel_for_a_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    kernel = torch.nn.Parameter(torch.randn(64, 32, 3, 3, generator=generator))
    matrix = torch.nn.Parameter(kernel.detach().flatten(1).clone())
    how = {"lr": 1e-2, "weight_decay": 0.01, "adjust_lr_fn": "match_rms_adamw"}
    ours = BatchedMuon([torch.nn.Parameter(torch.zeros(64, 64))], [kernel], **how)
    torchs = torch.optim.Muon([matrix], **how)
    for _ in range(3):
        kernel.grad = torch.randn(kernel.shape, generator=generator)
        matrix.grad = kernel.grad.flatten(1).clone()
        ours.step()
        torchs.step()
    torch.testing.assert_close(kernel.flatten(1), matrix, rtol=0, atol=2e-5)


def test_older_weights_are_taken_over_with_the_words_that_came_since(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(blueprint, "VOCABULARY", ())
        pipe = build_pipeline(_vae(folder))

    def encoded(text: str) -> tuple[torch.Tensor, torch.Tensor]:
        first, second = pipe.tokenizer(text, return_tensors="pt"), pipe.tokenizer_2(text, return_tensors="pt")
        return pipe.text_encoder(**first).last_hidden_state, pipe.text_encoder_2(**second).pooler_output

    text = "a red cat walks upwards in the snow"  # "upwards" begins like a word of the vocabulary
    before, size = encoded(text), pipe.text_encoder.config.vocab_size
    blueprint.take_over(pipe)
    assert pipe.text_encoder.config.vocab_size == size + len(VOCABULARY)
    for old, new in zip(before, encoded(text), strict=True):
        assert torch.equal(old, new)
    assert len(pipe.tokenizer(" ".join(VOCABULARY)).input_ids) == 1 + len(VOCABULARY)

    monkeypatch.setattr(blueprint, "corpus_of_captions", lambda: ["other words make other pieces"] * 99)
    with pytest.raises(ValueError, match="other ids"):
        blueprint.take_over(pipe)


def test_a_deeper_transformer_draws_what_the_shallow_one_drew_and_learns_in_its_new_blocks(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = blueprint.transformer_config
    with monkeypatch.context() as patch:
        patch.setattr(blueprint, "transformer_config", lambda *a: own(*a) | {"num_single_layers": 3})
        pipe = build_pipeline(_vae(folder))
        _run(folder, tmp_path / "shallow", num_steps=1, image_steps=0)
    shallow = pipe.transformer.eval()
    monkeypatch.setattr(blueprint, "transformer_config", lambda *a: own(*a) | {"num_single_layers": 5})
    deep = blueprint.take_over(pipe).transformer
    assert deep is pipe.transformer
    assert deep.config["num_single_layers"] == len(deep.single_transformer_blocks) == 5
    generator = torch.Generator().manual_seed(0)
    given = {
        "hidden_states": torch.randn(2, 96, 5, 2, 3, generator=generator),
        "timestep": torch.tensor([900.0, 200.0]),
        "encoder_hidden_states": torch.randn(2, 7, 128, generator=generator),
        "encoder_attention_mask": torch.tensor([[1] * 7, [1] * 4 + [0] * 3]),
        "pooled_projections": torch.randn(2, 64, generator=generator),
        "return_dict": False,
    }
    with torch.no_grad():
        assert torch.equal(shallow(**given)[0], deep(**given)[0])
    deep(**given)[0].square().mean().backward()
    silent = [i for i, b in enumerate(deep.single_transformer_blocks) if not b.proj_out.weight.any()]
    assert silent == [1, 3]
    for index in silent:
        assert deep.single_transformer_blocks[index].proj_out.weight.grad.abs().max() > 0
    own_weights = {p.data_ptr() for p in deep.parameters()}
    assert len(own_weights) == len(list(deep.parameters()))  # no two blocks share what they learn
    assert blueprint.deepen(deep, 5) is deep
    with pytest.raises(ValueError, match="5 single-stream blocks, more than the 4"):
        blueprint.deepen(deep, 4)

    before = (tmp_path / "shallow" / "state.safetensors").read_bytes()
    with pytest.raises(ValueError, match="of another depth than puppet-hunyuan has in this"):
        _run(folder, tmp_path / "shallow", num_steps=2, image_steps=0)
    assert (tmp_path / "shallow" / "state.safetensors").read_bytes() == before


def test_a_corpus_reads_alike_from_disk_and_from_memory(folder: Path) -> None:
    disk, memory = corpora.Corpus(folder / "corpus"), corpora.Corpus(folder / "corpus", device="cpu")
    assert len(disk) == len(memory) == 2 * CHUNK
    rows = np.array([11, 0, 5, 6])
    latents, scenes = disk.batch(rows)
    again, same = memory.batch(rows)
    assert latents.dtype == torch.float32
    assert latents.shape == (4, 96, 5, 8, 8)
    assert torch.equal(latents, again)
    assert scenes == same


def test_draw_share_thins_what_is_rendered() -> None:
    def names(share: dict[str, float]) -> list[str]:
        rng = np.random.default_rng(5)
        return [corpora._draw(rng, share).motion for _ in range(2000)]

    assert names({}) == [draw_scene(rng).motion for rng in [np.random.default_rng(5)] for _ in range(2000)]
    plain, thinned = names({}), names({"moves": 0.25, "stand": 0.1})
    assert abs(plain.count("moves") - 800) < 90
    left = 0.6 * 12.1 / 13 + 0.1  # of all draws
    assert abs(thinned.count("moves") - 2000 * 0.1 / left) < 90
    assert abs(thinned.count("stand") - 2000 * 0.6 / 13 * 0.1 / left) < 15
    assert abs(thinned.count("hop") - 2000 * 0.6 / 13 / left) < 60


@pytest.mark.parametrize("part", [0.0, -1.0, 1.5])
def test_a_share_that_cannot_be_drawn_is_refused(folder: Path, tmp_path: Path, part: float) -> None:
    with pytest.raises(ValueError, match=r"share of hop must be above 0 and at most 1"):
        next(corpora.build(tmp_path, folder / "vae", 1, share={"hop": part}))


def test_a_growing_corpus_takes_chunks_in_any_order(folder: Path, tmp_path: Path) -> None:
    def arrive(index: int) -> None:
        for kind in ("json", "npy"):
            name = f"chunk-{index:05d}.{kind}"
            (tmp_path / name).write_bytes((folder / "corpus" / name).read_bytes())

    arrive(1)
    growing = corpora.Corpus(tmp_path, device="cpu")
    first, _ = growing.batch(np.arange(CHUNK))
    arrive(0)
    growing.refresh()
    growing.refresh()
    assert len(growing) == 2 * CHUNK
    whole = corpora.Corpus(folder / "corpus")
    assert torch.equal(growing.batch(np.arange(CHUNK))[0], first)  # what was there stays in place
    assert torch.equal(growing.batch(np.arange(CHUNK, 2 * CHUNK))[0], whole.batch(np.arange(CHUNK))[0])


def test_the_learning_rate_rises_stays_and_falls() -> None:
    by_step = PretrainConfig(num_steps=100, warmup_steps=10, cooldown_steps=20)
    assert loop._rate(by_step, 0, None) == pytest.approx(0.1)
    assert loop._rate(by_step, 50, None) == 1
    assert loop._rate(by_step, 90, None) == pytest.approx(0.5)
    by_clock = PretrainConfig(warmup_steps=10, minutes=10, cooldown_minutes=4)
    assert loop._rate(by_clock, 50, 5.0) == 1
    assert loop._rate(by_clock, 50, 1.0) == pytest.approx(0.25)
    assert loop._rate(by_clock, 50, -0.1) == 0


@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_resumed_run_equals_an_uninterrupted_one(folder: Path, tmp_path: Path, bfloat16: bool) -> None:
    how = {"bfloat16": bfloat16, "i2v_fraction": 0.8}
    records = _run(folder, tmp_path / "whole", num_steps=4, **how)
    assert [r["step"] for r in records] == [1, 2, 3, 4]
    assert 1.0 in {r["i2v"] for r in records}
    assert all(np.isfinite(r["loss"]) for r in records)
    _run(folder, tmp_path / "parts", num_steps=2, **how)
    _run(folder, tmp_path / "parts", num_steps=4, **how)
    one, two = (load_file(tmp_path / name / "state.safetensors") for name in ("whole", "parts"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_a_bfloat16_model_learns_what_autocast_learns(folder: Path, tmp_path: Path) -> None:
    """Weights stay float32 between steps: an update far below bf16's own resolution is not lost."""
    losses, moved = {}, {}
    start = {k: v.clone() for k, v in HUNYUAN.heads(build_pipeline(_vae(folder))).named_parameters()}
    for bfloat16 in (False, True):
        own = tmp_path / str(bfloat16)
        records = _run(folder, own, num_steps=3, image_steps=0, warmup_steps=1, learning_rate=1e-5, bfloat16=bfloat16)
        losses[bfloat16] = [r["loss"] for r in records]
        tensors = load_file(own / "state.safetensors")
        moved[bfloat16] = torch.cat([(tensors[f"model.{k}"] - v).flatten() for k, v in start.items()])
    np.testing.assert_allclose(losses[True], losses[False], rtol=0.01)
    assert torch.cosine_similarity(moved[True], moved[False], dim=0) > 0.9


def test_checkpoints_are_judged_and_drawn(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "run"
    drawn: list[dict[str, torch.Tensor]] = []
    real = loop.score

    def watched(anatomy, pipe, *rest, **named):
        drawn.append({f"transformer.{k}": v.clone() for k, v in pipe.transformer.named_parameters()})
        return real(anatomy, pipe, *rest, **named)

    monkeypatch.setattr(loop, "score", watched)
    records = _run(folder, own, num_steps=3, score_every=2, score_prompts=3)
    saved = load_file(own / "state.safetensors")
    assert all(torch.equal(v, saved[f"ema.{k}"]) for k, v in drawn[-1].items()), "the average is judged"
    assert not all(torch.equal(v, saved[f"model.{k}"]) for k, v in drawn[-1].items())
    scores = [r for r in records if "judged_motion" in r]
    assert [r["step"] for r in scores] == [2, 3]
    for record in scores:
        for name in ("motion", "species", "colour"):
            assert record[f"judged_{name}"] in (0, 1 / 3, 2 / 3, 1)
    assert sorted(p.name for p in (own / "sheets").iterdir()) == ["step-000002.png", "step-000003.png"]
    at_the_end = _run(folder, tmp_path / "end", num_steps=2, score_every=0, score_prompts=1)
    assert [r["step"] for r in at_the_end if "judged_motion" in r] == [2]
    untouched = _run(folder, tmp_path / "other", num_steps=3)
    assert [r["loss"] for r in records if "loss" in r] == [r["loss"] for r in untouched], "scores change nothing"


def test_the_shipped_weights_score_well() -> None:
    """The stock pipeline draws what the prompts say; an untrained one does not."""
    from diffusers import HunyuanVideoPipeline

    from synmotion_core.backbones.loading import ASSETS
    from synmotion_core.puppets.judge import Judge
    from synmotion_core.puppets.pretrain.score import score

    pipe = HunyuanVideoPipeline.from_pretrained(ASSETS / "puppet-hunyuan", dtype=torch.float32)
    result = score(HUNYUAN, pipe, Judge.load(), num_prompts=13)
    assert result.motion >= 0.6
    assert result.species >= 0.75
    assert result.colour == 1.0
    with pytest.raises(ValueError, match="at least 1"):
        score(HUNYUAN, pipe, Judge.load(), num_prompts=0)


def test_a_motions_share_is_what_is_trained_on(folder: Path) -> None:
    corpus = corpora.Corpus(folder / "corpus")
    names = sorted({s.motion for s in corpus.scenes})
    absent, rest = names[0], {i for i, s in enumerate(corpus.scenes) if s.motion != names[0]}
    pipe = build_pipeline(_vae(folder))
    config = PretrainConfig(share={absent: 0.0}, image_steps=0, batch_size=2)
    feed = Feed(corpus, HUNYUAN, pipe, config, "cpu")
    list(feed.batches(0, 3))
    assert {i for _, order in feed._order.values() for i in order} == rest
    assert commands._share("jump=0.25") == commands._draw_share("jump=0.25") == ("jump", 0.25)
    assert commands._share("jump=0") == ("jump", 0)
    with pytest.raises(argparse.ArgumentTypeError, match=r"--share jump=0 leaves it out"):
        commands._draw_share("jump=0")
    for wrong in ("jmp=0.5", "jump", "jump=x", "jump=2", "jump=nan"):
        with pytest.raises(argparse.ArgumentTypeError):
            commands._share(wrong)


def test_what_predicts_velocities_is_not_trained_on(folder: Path, tmp_path: Path) -> None:
    """Earlier versions did: their weights mean something else, and nothing in the tensors says so."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    own = tmp_path / "run"
    _run(folder, own, num_steps=1, image_steps=0)
    state = load_file(own / "state.safetensors")
    save_file(state, own / "state.safetensors", metadata={"step": "1"})
    before = (own / "state.safetensors").read_bytes()
    with pytest.raises(ValueError, match="predicts velocities"):
        _run(folder, own, num_steps=2, image_steps=0)
    assert (own / "state.safetensors").read_bytes() == before
    pipe = build_pipeline(_vae(folder))
    pipe.register_modules(scheduler=FlowMatchEulerDiscreteScheduler(shift=2.0))
    pipe.save_pretrained(tmp_path / "old")
    config = PretrainConfig(**SMALL, num_steps=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="predicts velocities; this training needs clean latents"):
        next(loop.train(tmp_path / "new", corpora.Corpus(folder / "corpus"), config, init_from=tmp_path / "old"))


def test_the_loss_is_the_velocitys_error(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clean latents that are 0.3 off, at each level: the velocity is 0.3 / s off, as if s were 0.15 at least."""
    seen: list[torch.Tensor] = []

    def clean(heads: HunyuanVideoHeads, noisy: torch.Tensor, batch: Batch) -> torch.Tensor:
        seen.append(batch.sigma)
        return batch.latents + 0.3 + 0 * sum(p.sum() for p in heads.parameters())

    monkeypatch.setattr(HunyuanVideoHeads, "clean", clean)
    how = {"num_steps": 2, "image_steps": 0, "i2v_fraction": 0.0, "batch_size": 6, "sigma_mean": -1.5, "sigma_std": 2.0}
    losses = [r["loss"] for r in _run(folder, tmp_path / "run", **how)]
    assert min(float(s.min()) for s in seen) < 0.15 < max(float(s.max()) for s in seen)
    expected = [float((0.3 / s.clamp_min(0.15)).square().mean()) for s in seen]
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


def test_a_window_is_seen_in_its_place(folder: Path) -> None:
    """The rotary grid of a part is that part of the whole grid, in both modes, and the hook goes away."""
    heads = HUNYUAN.heads(build_pipeline(_vae(folder)))
    rope = heads.transformer.rope
    whole = [g.unflatten(0, (5, 8, 8)) for g in rope(torch.empty(1, 1, 5, 8, 8))]
    for model in (heads.transformer, heads._image_to_video[0]):
        with at_corner(model.rope, (2, 1)):
            part = model.rope(torch.empty(1, 1, 5, 6, 5))
        for own, of in zip(part, whole, strict=True):
            assert torch.equal(own.unflatten(0, (5, 6, 5)), of[:, 2:8, 1:6])
    with pytest.raises(RuntimeError, match="on the way"), at_corner(rope, (2, 1)):
        raise RuntimeError("on the way")
    assert torch.equal(rope(torch.empty(1, 1, 5, 8, 8))[0], whole[0].flatten(0, 2))


def test_hybrids_are_a_part_of_the_corpus(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    drawn = [corpora._draw(rng, {"moves": 0.25}, hybrids=0.3).species for _ in range(1000)]
    assert abs(drawn.count("puppet") - 300) < 50
    with pytest.raises(ValueError, match=r"hybrids must be between 0 and 1, got 1\.5"):
        list(corpora.build(tmp_path / "corpus", tmp_path / "vae", 1, hybrids=1.5))


def test_etudes_are_a_part_of_the_corpus_and_none_passes_for_a_rare_motion(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    drawn = [corpora._draw(rng, {}, etudes=0.25).motion for _ in range(2000)]
    assert abs(drawn.count("etude") - 200) < 50
    assert abs(drawn.count("moves") - 600) < 80
    with pytest.raises(ValueError, match=r"etudes must be between 0 and 1, got -1"):
        list(corpora.build(tmp_path / "corpus", tmp_path / "vae", 1, etudes=-1))

    def etude() -> Scene:
        return dataclasses.replace(draw_scene(rng), motion="etude")

    def rare(shows: list[Performance]) -> np.ndarray:
        at = [judge.motions.index(name) for name in RARE]
        return judge.judge([s.frames for s in shows]).motion_probability[:, at].sum(1) > corpora._NEARLY_RARE

    judge = Judge.load()
    scenes = [etude() for _ in range(150)]
    before = list(scenes)
    wrong = rare([render(s) for s in scenes])
    assert 0 < wrong.sum() < 40
    shows = corpora._show(scenes, etude, judge)
    assert not rare(shows).any()
    assert [a != b for a, b in zip(before, scenes, strict=True)] == wrong.tolist(), "the others stay"
    assert all(np.array_equal(show.frames, render(s).frames) for show, s in zip(shows[:40], scenes[:40], strict=True))
    named = [dataclasses.replace(s, motion="walk") for s in before[:3]]
    assert len(corpora._show(list(named), etude, judge)) == 3


def test_a_nearly_rare_etude_is_found_behind_its_standing_start() -> None:
    """Coming out of standing hides what a clip would be with a moment more: it is judged without."""
    rng = np.random.default_rng(8)
    judge = Judge.load()

    def etude() -> Scene:
        return dataclasses.replace(draw_scene(rng), motion="etude")

    scenes = [etude() for _ in range(150)]
    standing = [dataclasses.replace(s, onset=0.6) for s in scenes]
    corpora._show(before := list(scenes), etude, judge)
    shows = corpora._show(after := list(standing), etude, judge)
    kept = [a == s for a, s in zip(after, standing, strict=True)]
    assert kept == [b == s for b, s in zip(before, scenes, strict=True)]
    assert 0 < kept.count(False) < 40
    assert np.array_equal(shows[i := kept.index(True)].frames, render(standing[i]).frames)


def test_clips_that_begin_from_standing_are_for_pictures_alone(folder: Path, tmp_path: Path) -> None:
    """Half of the image-to-video steps see them, steps from words alone never."""
    with pytest.raises(ValueError, match=r"standing must be between 0 and 1, got 2"):
        list(corpora.build(tmp_path / "none", tmp_path / "vae", 1, standing=2))
    _vae(folder).save_pretrained(tmp_path / "vae")
    list(corpora.build(tmp_path / "corpus", tmp_path / "vae", 32, standing=0.4, workers=1))
    corpus = corpora.Corpus(tmp_path / "corpus")
    begins = {i for i, s in enumerate(corpus.scenes) if s.onset > 0}
    assert 0.3 < len(begins) / len(corpus) < 0.5
    assert all(0.25 <= corpus.scenes[i].onset <= 0.7 for i in begins)
    pipe = build_pipeline(_vae(folder))
    config = PretrainConfig(image_steps=0, batch_size=4, i2v_fraction=0.5)
    feed = Feed(corpus, HUNYUAN, pipe, config, "cpu")
    seen: dict[tuple[bool, bool], int] = {}
    rows: list[bool] = []
    batch_of = corpus.batch

    def watched(indices: np.ndarray) -> tuple[torch.Tensor, list[Scene]]:
        rows[:] = [int(i) in begins for i in indices]
        return batch_of(indices)

    corpus.batch = watched  # type: ignore[method-assign]
    for step in range(80):
        batch = feed(step)
        assert len(set(rows)) == 1
        seen[batch.image_to_video, rows[0]] = seen.get((batch.image_to_video, rows[0]), 0) + 1
    assert set(seen) == {(False, False), (True, False), (True, True)}
    assert min(seen.values()) >= 10


def test_the_command_hands_on_what_the_corpus_is_made_of(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {}
    _vae(folder).save_pretrained(tmp_path / "vae")
    monkeypatch.setattr(commands, "build", lambda *args, **words: given.update(words, args=args) or iter(()))
    words = ["--folder", str(tmp_path), "--clips", "512", "--hybrids", "0.1", "--etudes", "0.6", "--workers", "3"]
    words += ["--standing", "0.3"]
    monkeypatch.setattr("sys.argv", ["pretrain", "corpus", *words, "--draw-share", "jump=0.5"])
    commands.main()
    assert given.pop("args") == (tmp_path / "corpus", tmp_path / "vae", 512)
    assert given == {"share": {"jump": 0.5}, "hybrids": 0.1, "etudes": 0.6, "standing": 0.3, "workers": 3}


def test_windows_are_cut_from_most_steps(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = corpora.Corpus(folder / "corpus")
    pipe = build_pipeline(_vae(folder))
    config = PretrainConfig(image_steps=0, batch_size=2, window=(6, 5), window_fraction=0.5)
    feed = Feed(corpus, HUNYUAN, pipe, config, "cpu")
    shapes, corners = set(), set()
    for step in range(24):
        batch = feed(step)
        row, column = batch.corner
        shapes.add(tuple(batch.latents.shape[-2:]))
        corners.add(batch.corner)
        height, width = batch.latents.shape[-2:]
        clean = corpus.batch(feed._clips_of(step, 2, standing=False))[0][
            ..., row : row + height, column : column + width
        ]
        assert torch.equal(batch.latents, clean)
        assert batch.noise.shape == batch.latents.shape
    assert shapes == {(8, 8), (6, 5)}
    assert len(corners) > 4
    how = {"window": (6, 5), "window_fraction": 1.0, "i2v_fraction": 0.5, "image_steps": 0, "num_steps": 8}
    records = _run(folder, tmp_path / "run", **how)
    assert {r["i2v"] for r in records} == {0.0, 1.0}
    assert all(np.isfinite(r["loss"]) for r in records)
    with pytest.raises(ValueError, match="9x5"):
        _run(folder, tmp_path / "wrong", **(how | {"window": (9, 5)}))
    monkeypatch.setattr("sys.argv", ["pretrain", "train", "--folder", str(tmp_path), "--window-fraction", "0.5"])
    with pytest.raises(SystemExit):
        commands.main()
    assert "no effect without --window" in capsys.readouterr().err
    assert commands._window("6x5") == (6, 5)
    for wrong in ("6", "0x5", "9x5", "6x-1", "x"):
        with pytest.raises(argparse.ArgumentTypeError, match="1x1 to 8x8"):
            commands._window(wrong)


def test_the_clock_ends_a_run_and_the_plateau_is_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()  # a second each time the clock is read: twice a step
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(ticks)))
    records = _run(
        folder, tmp_path / "run", num_steps=100, warmup_steps=2, minutes=0.3, cooldown_minutes=0.15, save_every=0
    )
    rates = [r["learning_rate"] for r in records]
    assert len(records) == 10
    assert rates[0] < rates[1] == 1e-3
    assert rates[-1] < rates[-2] < 1e-3
    with safe_open(tmp_path / "run" / "plateau.safetensors", "pt") as file:
        assert int(file.metadata()["step"]) == sum(r == 1e-3 for r in rates) + 1, "where the rate began to fall"


def test_a_run_resumed_on_its_way_down_keeps_its_plateau(folder: Path, tmp_path: Path) -> None:
    down = {"warmup_steps": 1, "cooldown_steps": 3}
    _run(folder, tmp_path / "run", num_steps=4, save_every=3, **down)
    state, plateau = (tmp_path / "run" / f"{name}.safetensors" for name in ("state", "plateau"))
    before = plateau.read_bytes()
    with safe_open(plateau, "pt") as file:
        assert file.metadata()["step"] == "2"
    state.unlink()
    _run(folder, tmp_path / "run", num_steps=3, save_every=0, warmup_steps=1)  # a state within the fall of a run of 4
    _run(folder, tmp_path / "run", num_steps=4, save_every=0, **down)
    assert plateau.read_bytes() == before


def test_a_fresh_deblock_changes_nothing_and_training_helps(folder: Path) -> None:
    vae = AutoencoderPatchVideo.from_pretrained(folder / "vae")
    video = torch.rand(1, 3, 5, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    before = vae(video)
    vae.add_deblock(16)
    torch.testing.assert_close(vae(video), before)
    losses = [loss for _, loss in corpora.fit_deblock(vae, 16, num_clips=8, num_steps=25, batch_size=2)]
    assert np.mean(losses[-8:]) < np.mean(losses[:4])


@pytest.mark.slow
def test_everything_at_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where, out = tmp_path / "run", tmp_path / "out"
    where.mkdir()
    (where / "vae").symlink_to(folder / "vae")
    words = f"pretrain all --folder {where} --out {out} --minutes 0.05 --cooldown-minutes 0.02 --clips 8 --workers 1"
    decoder = "--decoder-clips 4 --decoder-steps 3 --decoder-batch-size 2 --score-prompts 2"
    monkeypatch.setattr("sys.argv", f"{words} {decoder} --batch-size 2 --image-steps 0 --device cpu".split())
    commands.main()
    assert (out / "model_index.json").exists()
    assert json.loads((out / "vae" / "config.json").read_text())["deblock_channels"] == 32
    assert json.loads((where / "log.jsonl").read_text().splitlines()[-1])["step"] >= 1


def test_what_is_exported_loads_as_a_stock_pipeline(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import HunyuanVideoPipeline

    _run(folder, tmp_path / "run", num_steps=1, image_steps=0)
    out = tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["pretrain", "export", "--folder", str(tmp_path / "run"), "--out", str(out)])
    commands.main()
    pipe = HunyuanVideoPipeline.from_pretrained(out, dtype=torch.float32)
    assert pipe.transformer.dtype == torch.float32
    assert all(p.stat().st_size < 16 * 2**20 for p in out.rglob("*") if p.is_file())
    assert "_name_or_path" not in json.loads((out / "vae" / "config.json").read_text())
