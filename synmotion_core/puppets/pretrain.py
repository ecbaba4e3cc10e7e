"""`python -m synmotion_core.puppets.pretrain`: trains the tiny backbone on the puppet world. Resumable, CPU or CUDA.

    corpus   fit the autoencoder, render and encode the training set (once)
    deblock  train the autoencoder's residual decoder; latents stay as they are
    train    velocity matching on cached latents; text encoders learn along; T2V and token_replace I2V share weights
    export   write the EMA weights as an ordinary diffusers folder (bf16)

Flow matching, diffusion.py's convention:  x_s = (1 - s) x + s noise,  target = noise - x,  s = sigmoid(N(mean, std)).
In an I2V step latent frame 0 stays clean, its tokens see time 0, and the loss is on the frames after it.
Everything random in step k depends on (seed, k) only, so a killed run continues as if it had not been.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import HunyuanVideoPipeline, HunyuanVideoTransformer3DModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from synmotion_core.puppets.autoencoder import AutoencoderPatchVideo
from synmotion_core.puppets.blueprint import MAX_SEQUENCE_LENGTH, build_pipeline, transformer_config
from synmotion_core.puppets.captions import caption_for
from synmotion_core.puppets.corpus import Corpus, build, fit_autoencoder, fit_deblock

TRAINED = ("transformer", "text_encoder", "text_encoder_2")


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """Settings of `train`. Steps before `image_steps` see latent frame 0 alone (a fifth of the cost a sample)."""

    num_steps: int = 20000
    cooldown_steps: int = 0  # the last steps, in which the learning rate falls to zero
    image_steps: int = 1500
    batch_size: int = 24
    image_batch_size: int = 48
    learning_rate: float = 1e-3
    muon_learning_rate: float = 2e-3
    warmup_steps: int = 100
    ema_decay: float = 0.999
    caption_dropout: float = 0.1
    i2v_fraction: float = 0.15
    sigma_mean: float = 0.3
    sigma_std: float = 1.1
    seed: int = 0
    save_every: int = 250
    compile: bool = False


class _Heads(nn.Module):
    """The trained parts together: text encoders and transformer, T2V and I2V modules over the same parameters."""

    def __init__(self, pipe: HunyuanVideoPipeline) -> None:
        super().__init__()
        self.transformer, self.text_encoder, self.text_encoder_2 = (
            pipe.transformer,
            pipe.text_encoder,
            pipe.text_encoder_2,
        )
        self.tokenizers = (pipe.tokenizer, pipe.tokenizer_2)
        channels = pipe.transformer.config["in_channels"]
        image_to_video = HunyuanVideoTransformer3DModel(**transformer_config(channels, "token_replace"))
        own = dict(self.transformer.named_parameters())
        for name, _ in list(image_to_video.named_parameters()):
            module = image_to_video.get_submodule(name.rpartition(".")[0])
            setattr(module, name.rpartition(".")[2], own[name])
        self._image_to_video: list[Any] = [image_to_video]  # in a list: shares parameters, must not register them twice

        self.compiled = False

    def compile(self) -> None:
        self.compiled = True
        self.transformer.compile()
        self._image_to_video[0].compile()

    def velocity(self, noisy: Tensor, sigma: Tensor, captions: list[str], i2v: bool) -> Tensor:
        first, second = self.tokenizers
        # compiled graphs want a fixed length; captions of the world stay below it (tested)
        pad = {"padding": "max_length" if self.compiled else "longest", "truncation": True, "return_tensors": "pt"}
        a = first(captions, max_length=MAX_SEQUENCE_LENGTH, **pad)
        b = second(captions, max_length=MAX_SEQUENCE_LENGTH, **pad)
        device = noisy.device
        mask = a.attention_mask.to(device)
        embeds = self.text_encoder(a.input_ids.to(device), attention_mask=mask, output_hidden_states=True)
        pooled = self.text_encoder_2(b.input_ids.to(device)).pooler_output
        model: Any = self._image_to_video[0] if i2v else self.transformer
        return model(
            hidden_states=noisy,
            timestep=sigma * 1000,
            encoder_hidden_states=embeds.hidden_states[-3],
            encoder_attention_mask=mask,
            pooled_projections=pooled,
            return_dict=False,
        )[0].float()


def _optimizers(heads: _Heads, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of attention and MLP, AdamW for embeddings, modulations, norms and biases."""
    muon, adam = [], []
    for name, p in heads.named_parameters():
        inner = ("attn" in name or "ff" in name or "mlp" in name) and "norm" not in name
        (muon if inner and p.ndim == 2 and min(p.shape) >= 64 else adam).append(p)
    return [
        torch.optim.Muon(muon, lr=config.muon_learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(adam, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def _rate(config: PretrainConfig, step: int) -> float:
    """Warm-up, plateau, and a linear fall over the last `cooldown_steps`."""
    up = min(1.0, (step + 1) / config.warmup_steps)
    left = (config.num_steps - step) / config.cooldown_steps if config.cooldown_steps else 1.0
    return up * min(1.0, left)


def _save(
    folder: Path, step: int, heads: _Heads, ema: dict[str, Tensor], optimizers: list[torch.optim.Optimizer]
) -> None:
    tensors = {f"model.{k}": v.detach().contiguous().clone() for k, v in heads.named_parameters()}
    tensors |= {f"ema.{k}": v.clone() for k, v in ema.items()}
    for i, optimizer in enumerate(optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{index}.{k}": torch.as_tensor(v).clone() for k, v in state.items()}
    partial = folder / "state.part"
    save_file(tensors, partial, metadata={"step": str(step)})
    partial.rename(folder / "state.safetensors")


def _load(folder: Path, heads: _Heads, ema: dict[str, Tensor], optimizers: list[torch.optim.Optimizer]) -> int:
    path = folder / "state.safetensors"
    if not path.exists():
        return 0
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        step = int(file.metadata()["step"])
    tensors = load_file(path)
    with torch.no_grad():
        for name, p in heads.named_parameters():
            p.copy_(tensors[f"model.{name}"])
            ema[name].copy_(tensors[f"ema.{name}"])
    for i, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for key in tensors:
            if key.startswith(f"optimizer.{i}."):
                _, _, index, name = key.split(".", 3)
                state.setdefault(int(index), {})[name] = tensors[key]
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return step


def train(
    folder: Path, corpus: Corpus, config: PretrainConfig, device: str = "cpu", init_from: Path | None = None
) -> Iterator[dict[str, float]]:
    """Train towards `config.num_steps`, resuming from `folder`; yields a record a step and saves on the way.

    init_from: a diffusers folder whose weights a fresh start takes over (its moments are not kept there).
    """
    if init_from is not None and not (folder / "state.safetensors").exists():
        pipe = HunyuanVideoPipeline.from_pretrained(init_from, dtype=torch.float32)
    else:
        pipe = build_pipeline(AutoencoderPatchVideo.from_pretrained(folder / "vae"), seed=config.seed)
    heads = _Heads(pipe)
    heads.to(device).train()
    heads._image_to_video[0].to(device)
    ema = {name: p.detach().clone() for name, p in heads.named_parameters()}
    optimizers = _optimizers(heads, config)
    start = _load(folder, heads, ema, optimizers)
    if config.compile:
        heads.compile()
    order_epoch, order = -1, np.empty(0, int)
    for step in range(start, config.num_steps):
        began = time.perf_counter()
        rng = np.random.default_rng((config.seed, step, 0x57))
        image = step < config.image_steps
        size = config.image_batch_size if image else config.batch_size
        if step % 200 == 0 or not len(order):
            corpus.refresh()
        epoch, offset = divmod(step * size, len(corpus))
        if epoch != order_epoch or len(order) != len(corpus):
            order, order_epoch = np.random.default_rng((config.seed, epoch)).permutation(len(corpus)), epoch
        latents, scenes = corpus.batch(order[(offset + np.arange(size)) % len(order)])
        if image:
            latents = latents[:, :, :1]
        latents = latents.to(device)
        captions = [caption_for(s, rng).text if rng.random() >= config.caption_dropout else "" for s in scenes]
        i2v = not image and bool(rng.random() < config.i2v_fraction)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        noise = torch.randn(latents.shape, generator=generator).to(device)
        sigma = torch.sigmoid(config.sigma_mean + config.sigma_std * torch.randn(size, generator=generator)).to(device)
        s = sigma[:, None, None, None, None]
        noisy = (1 - s) * latents + s * noise
        if i2v:
            noisy = torch.cat([latents[:, :, :1], noisy[:, :, 1:]], dim=2)
        rate = _rate(config, step)
        for optimizer, base in zip(optimizers, (config.muon_learning_rate, config.learning_rate), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = base * rate
        with torch.autocast(device, torch.bfloat16):
            velocity = heads.velocity(noisy, sigma, captions, i2v)
        skip = 1 if i2v else 0
        loss = (velocity - (noise - latents))[:, :, skip:].square().mean()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(heads.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        decay = min(config.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(ema.values()), [p.detach() for p in heads.parameters()], 1 - decay)
        if (step + 1) % config.save_every == 0 or step + 1 == config.num_steps:
            _save(folder, step + 1, heads, ema, optimizers)
        yield {
            "step": step + 1,
            "loss": float(loss.detach()),
            "grad_norm": float(norm),
            "i2v": float(i2v),
            "seconds": time.perf_counter() - began,
        }


def load_trained(folder: Path, *, ema: bool = True) -> HunyuanVideoPipeline:
    """The pipeline with the weights of the last checkpoint in `folder`, float32."""
    pipe = build_pipeline(AutoencoderPatchVideo.from_pretrained(folder / "vae"))
    tensors = load_file(folder / "state.safetensors")
    prefix = "ema." if ema else "model."
    for part in TRAINED:
        module = getattr(pipe, part)
        head = f"{prefix}{part}."
        module.load_state_dict({k[len(head) :]: v for k, v in tensors.items() if k.startswith(head)}, strict=False)
        module.eval()
    return pipe


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m synmotion_core.puppets.pretrain",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["corpus", "deblock", "train", "export"])
    parser.add_argument("--folder", type=Path, required=True, help="where the corpus and the checkpoints live")
    parser.add_argument("--clips", type=int, default=49152, help="corpus: clips to render")
    parser.add_argument("--out", type=Path, help="export: the diffusers folder to write")
    parser.add_argument("--steps", type=int, default=PretrainConfig.num_steps, help="train: stop at this step")
    parser.add_argument("--cooldown", type=int, default=0, help="train: steps of falling learning rate at the end")
    parser.add_argument("--batch-size", type=int, default=24)
    parser.add_argument("--image-steps", type=int, default=1500)
    parser.add_argument("--init-from", type=Path, help="train: start from the weights of this diffusers folder")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--compile", action="store_true", help="train: torch.compile (a fifth faster, two minutes to warm up)"
    )
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    if args.command == "corpus":
        if not (args.folder / "vae").exists():
            fit_autoencoder().save_pretrained(args.folder / "vae")
        for index in build(args.folder / "corpus", args.folder / "vae", args.clips):
            print(f"chunk {index}", flush=True)
    elif args.command == "deblock":
        vae = AutoencoderPatchVideo.from_pretrained(args.folder / "vae")
        for step, loss in fit_deblock(vae):
            if step % 50 == 0:
                print(f"step {step} loss {loss:.4f}", flush=True)
        vae.save_pretrained(args.folder / "vae_deblock")
    elif args.command == "train":
        config = PretrainConfig(
            num_steps=args.steps,
            cooldown_steps=args.cooldown,
            batch_size=args.batch_size,
            image_steps=args.image_steps,
            compile=args.compile,
        )
        with (args.folder / "log.jsonl").open("a") as log:
            for record in train(args.folder, Corpus(args.folder / "corpus"), config, args.device, args.init_from):
                log.write(json.dumps(record) + "\n")
                if record["step"] % 50 == 0:
                    log.flush()
                    print(" ".join(f"{k} {v:.4g}" for k, v in record.items()), flush=True)
    else:
        pipe = load_trained(args.folder)
        if (args.folder / "vae_deblock").exists():  # same latents, cleaner pictures
            pipe.register_modules(vae=AutoencoderPatchVideo.from_pretrained(args.folder / "vae_deblock"))
        for part in TRAINED:
            getattr(pipe, part).to(torch.bfloat16)
        pipe.save_pretrained(args.out)
        for path in args.out.rglob("*config.json"):  # where it was loaded from is nobody's business
            values = json.loads(path.read_text())
            if values.pop("_name_or_path", None) is not None:
                path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
