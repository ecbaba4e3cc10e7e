"""Pretraining the 3-D U-Net: the same loop over another anatomy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from synmotion_core.backbones.unet3d import temporal_layers
from synmotion_core.diffusion import add_noise
from synmotion_core.puppets import corpus as corpora
from synmotion_core.puppets.autoencoder import AutoencoderPatchImage, AutoencoderPatchVideo, autoencoder_from
from synmotion_core.puppets.blueprint_unet3d import MAX_TOKENS
from synmotion_core.puppets.judge import Judge
from synmotion_core.puppets.pretrain import __main__ as commands
from synmotion_core.puppets.pretrain import loop
from synmotion_core.puppets.pretrain.anatomies import ANATOMIES
from synmotion_core.puppets.pretrain.feed import Feed
from synmotion_core.puppets.pretrain.score import score
from synmotion_core.puppets.pretrain.settings import PretrainConfig

UNET = ANATOMIES["puppet-unet3d"]
PARTS = {"hybrids": 0.4, "etudes": 0.0, "standing": 0.0}
SMALL = {"batch_size": 2, "image_batch_size": 3, "image_steps": 1, "score_prompts": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An autoencoder and a small chunk of corpus."""
    where = tmp_path_factory.mktemp("pretrain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora, "CHUNK", 8)
        corpora.fit_autoencoder(AutoencoderPatchImage, num_clips=24).save_pretrained(where / "vae")
        (where / "corpus").mkdir()
        corpora._write_chunk(str(where / "corpus"), str(where / "vae"), {}, PARTS, 1, 0)
    return where


def _run(folder: Path, own: Path, **settings: Any) -> list[dict[str, float]]:
    own.mkdir(exist_ok=True)
    if not (own / "vae").exists():
        (own / "vae").symlink_to(folder / "vae")
    more = {name: settings.pop(name) for name in ("init_from", "backbone") if name in settings}
    config = PretrainConfig(**{**SMALL, **settings})
    return list(loop.train(own, corpora.Corpus(folder / "corpus"), config, **{"backbone": UNET.name, **more}))


def _weights(own: Path) -> dict[str, torch.Tensor]:
    return load_file(own / "state.safetensors")


def test_muon_moves_matrices_and_kernels_within() -> None:
    heads = UNET.heads(UNET.build(AutoencoderPatchImage()))
    moved = {name: p for name, p in heads.named_parameters() if UNET.by_muon(name, p)}
    assert {p.ndim for p in moved.values()} == {2, 4, 5}, "matrices, kernels in space, kernels in time"
    assert sum(p.numel() for p in moved.values()) > 0.9 * sum(p.numel() for p in heads.parameters())
    outer = [name for name in moved if any(part in name for part in ("embedding", "conv_in", "conv_out", "bias"))]
    assert not outer


def test_latents_are_coded_frame_by_frame(folder: Path) -> None:
    corpus = corpora.Corpus(folder / "corpus")
    latents, scenes = corpus.batch(np.arange(2))
    assert latents.shape == (2, 40, 17, 8, 8)
    video = corpora.to_tensor([corpora.render(s) for s in scenes])
    with torch.no_grad():
        expected = autoencoder_from(folder / "vae").latents(video)
    torch.testing.assert_close(latents, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("bfloat16", [False, True])
def test_it_resumes_bit_for_bit(folder: Path, tmp_path: Path, bfloat16: bool) -> None:
    how = {"image_fraction": 0.4, "bfloat16": bfloat16}
    _run(folder, tmp_path / "whole", num_steps=4, **how)
    _run(folder, tmp_path / "parts", num_steps=2, **how)
    records = _run(folder, tmp_path / "parts", num_steps=4, **how)
    assert [r["step"] for r in records] == [3, 4]
    whole, parts = _weights(tmp_path / "whole"), _weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    with safe_open(tmp_path / "whole" / "state.safetensors", "pt") as file:
        assert file.metadata()["backbone"] == "puppet-unet3d"


def test_a_step_of_pictures_leaves_what_looks_along_time_alone(folder: Path, tmp_path: Path) -> None:
    pipe = UNET.build(autoencoder_from(folder / "vae"))
    config = PretrainConfig(image_steps=1, batch_size=2, image_batch_size=3, image_fraction=0.5, i2v_fraction=1.0)
    feed = Feed(corpora.Corpus(folder / "corpus"), UNET, pipe, config, "cpu")
    frames = [feed(step).latents.shape[:3] for step in range(24)]
    assert frames[0] == (3, 40, 1)
    assert set(frames) == {(3, 40, 1), (2, 40, 17)}
    corpus = corpora.Corpus(folder / "corpus")
    whole = corpus.batch(np.arange(len(corpus)))[0]
    seen = {frame for step in range(24) for frame in range(17) for row in feed(step).latents
            if row.shape[1] == 1 and (whole[:, :, frame] == row[:, 0]).flatten(1).all(1).any()}  # fmt: skip
    assert len(seen) > 10, "any frame of a clip"
    assert not any(feed(step).image_to_video for step in range(6)), "this U-Net has no such mode"
    heads = UNET.heads(pipe)
    with torch.no_grad():
        for p in heads.parameters():
            p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    inner = {id(p) for layer in temporal_layers(pipe.unet) for p in layer.parameters()}
    for step, untouched in ((0, True), (next(i for i, f in enumerate(frames) if f[2] == 17), False)):
        batch = feed(step)
        heads.zero_grad(set_to_none=True)
        heads.clean(add_noise(batch.latents, batch.noise, batch.sigma), batch).square().mean().backward()
        moved = {id(p) for p in heads.parameters() if p.grad is not None and p.grad.any()}
        assert (not moved & inner) == untouched
        assert moved - inner


def test_noise_levels_are_the_schedules(folder: Path) -> None:
    pipe = UNET.build(autoencoder_from(folder / "vae"))
    levels = UNET.heads(pipe)._levels.levels
    assert levels[-1] == 1, "drawing begins from what it was trained on: pure noise"
    config = PretrainConfig(image_steps=0, batch_size=6, sigma_std=3.0)
    sigma = Feed(corpora.Corpus(folder / "corpus"), UNET, pipe, config, "cpu")(0).sigma
    assert set(sigma.tolist()) <= set(levels.tolist())
    assert len(set(sigma.tolist())) > 3


def test_captions_are_read_whole_and_padded(folder: Path) -> None:
    pipe = UNET.build(autoencoder_from(folder / "vae"))
    for fixed in (False, True):
        tokens = UNET.tokens(pipe, ["a red cat waves", ""], fixed=fixed)
        assert {name: value.shape for name, value in tokens.items()} == {"input_ids": (2, MAX_TOKENS)}


def test_its_loss_falls(folder: Path, tmp_path: Path) -> None:
    how = {"image_steps": 0, "num_steps": 16, "batch_size": 2, "warmup_steps": 3, "save_every": 0}
    losses = [r["loss"] for r in _run(folder, tmp_path / "run", **how)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])


def test_what_is_exported_is_drawn_as_it_was_scored(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import TextToVideoSDPipeline

    records = _run(folder, tmp_path / "run", num_steps=2, score_prompts=1)
    assert {"judged_motion", "judged_species"} <= records[-1].keys()
    assert [p.name for p in (tmp_path / "run" / "sheets").iterdir()] == ["step-000002.png"]
    out = tmp_path / "out"
    words = f"pretrain export --backbone puppet-unet3d --folder {tmp_path / 'run'} --out {out}"
    monkeypatch.setattr("sys.argv", words.split())
    commands.main()
    assert sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) < 10 * 2**20
    assert "_name_or_path" not in (out / "unet" / "config.json").read_text()
    pipe = UNET.take_over(out)
    own = UNET.draw(pipe, ["a red cat walks"], torch.Generator().manual_seed(3), 2.5)
    stock: Any = TextToVideoSDPipeline(**pipe.components)
    stock.set_progress_bar_config(disable=True)
    noise = torch.randn((1, 40, 17, 8, 8), generator=torch.Generator().manual_seed(3))
    theirs = stock(
        "a red cat walks", height=64, width=64, num_frames=17, num_inference_steps=20, guidance_scale=2.5,
        latents=noise, output_type="latent",
    ).frames  # fmt: skip
    with torch.no_grad():
        shown = ((pipe.vae.pixels(theirs).clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 4, 1).numpy()
    assert own[0].dtype == np.uint8
    assert np.abs(own[0].astype(int) - shown[0].astype(int)).max() <= 1
    again = _run(folder, tmp_path / "next", num_steps=1, init_from=out)
    assert np.isfinite(again[0]["loss"])
    assert score(UNET, pipe, Judge.load(), num_prompts=1).sheet.ndim == 3


def test_what_is_of_another_backbone_is_refused(folder: Path, tmp_path: Path) -> None:
    _run(folder, tmp_path / "run", num_steps=1)
    before = (tmp_path / "run" / "state.safetensors").read_bytes()
    with pytest.raises(ValueError, match="AutoencoderPatchImage, puppet-hunyuan needs a AutoencoderPatchVideo"):
        _run(folder, tmp_path / "run", num_steps=2, backbone="puppet-hunyuan")
    (tmp_path / "run" / "vae").unlink()
    AutoencoderPatchVideo().save_pretrained(tmp_path / "run" / "vae")
    with pytest.raises(ValueError, match=r"is of puppet-unet3d, not of puppet-hunyuan: give each a folder of its own"):
        _run(folder, tmp_path / "run", num_steps=2, backbone="puppet-hunyuan")
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == before
    with pytest.raises(ValueError, match="puppet-unet3d does not know where in the frame a window is"):
        _run(folder, tmp_path / "other", num_steps=1, window=(6, 5))
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"_class_name": "AutoencoderKL"}')
    with pytest.raises(ValueError, match="odd holds a AutoencoderKL"):
        autoencoder_from(tmp_path / "odd")


def test_a_folder_of_another_build_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synmotion_core.puppets import blueprint_unet3d

    UNET.build(autoencoder_from(folder / "vae")).save_pretrained(tmp_path / "old")
    own = blueprint_unet3d.unet_config
    monkeypatch.setattr(blueprint_unet3d, "unet_config", lambda *a: own(*a) | {"layers_per_block": 2})
    with pytest.raises(ValueError, match=r"old: unet is of another build \(\d+ tensors differ: "):
        UNET.take_over(tmp_path / "old")


def test_the_shipped_weights_score_well() -> None:
    """Common motions in turn, a prompt each; the folder is one of the stock pipeline's, too."""
    from diffusers import TextToVideoSDPipeline

    from synmotion_core.backbones.loading import ASSETS

    stock: Any = TextToVideoSDPipeline.from_pretrained(ASSETS / UNET.name, dtype=torch.float32)
    assert stock.unet.dtype == torch.float32
    result = score(UNET, UNET.take_over(ASSETS / UNET.name), Judge.load(), num_prompts=13, guidance_scale=4.0)
    assert result.motion >= 0.5
    assert result.species >= 0.8
    assert result.colour >= 0.9
