"""Training `puppet-hunyuan`: text encoders and transformer, T2V and I2V over the same weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import HunyuanVideoPipeline
from numpy.typing import NDArray
from torch import Tensor, nn

from synmotion_core.backbones.solver import predicts_clean
from synmotion_core.backbones.token_replace import token_replace_form
from synmotion_core.puppets.autoencoder import AutoencoderPatchVideo
from synmotion_core.puppets.blueprint import MAX_SEQUENCE_LENGTH, PROMPT_TEMPLATE, build_pipeline, take_over
from synmotion_core.puppets.kinematics import NUM_FRAMES
from synmotion_core.puppets.pretrain.anatomy import Anatomy, Batch, Heads
from synmotion_core.puppets.stage import SIZE


class HunyuanVideoHeads(Heads):
    """T2V and I2V modules over the same parameters."""

    transformer: Any
    text_encoder: Any
    text_encoder_2: Any

    def __init__(self, pipe: HunyuanVideoPipeline, trained: Sequence[str], device: str = "cpu") -> None:
        super().__init__(pipe, trained, device)
        self.train()
        # in a list: it shares its modules with the transformer, and must not register them twice
        self._image_to_video: list[Any] = [token_replace_form(self.transformer)]

    def compile(self) -> None:
        self.transformer.compile(dynamic=False)
        self._image_to_video[0].compile(dynamic=False)

    def to_bfloat16(self) -> None:
        for module in (self, self._image_to_video[0]):
            module.to(torch.bfloat16)

    def clean(self, noisy: Tensor, batch: Batch) -> Tensor:
        text = batch.text
        embeds = self.text_encoder(text["input_ids"], attention_mask=text["mask"], output_hidden_states=True)
        pooled = self.text_encoder_2(text["input_ids_2"]).pooler_output
        model: Any = self._image_to_video[0] if batch.image_to_video else self.transformer
        with at_corner(model.rope, batch.corner):
            return model(
                hidden_states=noisy,
                timestep=batch.sigma * 1000,
                encoder_hidden_states=embeds.hidden_states[-3],
                encoder_attention_mask=text["mask"],
                pooled_projections=pooled,
                return_dict=False,
            )[0].float()


class HunyuanVideoAnatomy(Anatomy):
    name = "puppet-hunyuan"
    denoiser = "transformer"
    trained = ("transformer", "text_encoder", "text_encoder_2")
    autoencoder = AutoencoderPatchVideo
    frames_alone = False
    takes_pictures = True

    def build(self, vae: AutoencoderPatchVideo, seed: int = 0) -> HunyuanVideoPipeline:
        return build_pipeline(vae, seed=seed)

    def take_over(self, folder: Path, seed: int = 0) -> HunyuanVideoPipeline:
        pipe = take_over(HunyuanVideoPipeline.from_pretrained(folder, dtype=torch.float32), seed)
        if not predicts_clean(pipe.scheduler):
            raise ValueError(f"{folder} predicts velocities; this training needs clean latents ('sample')")
        return pipe

    def heads(self, pipe: HunyuanVideoPipeline, device: str = "cpu") -> HunyuanVideoHeads:
        return HunyuanVideoHeads(pipe, self.trained, device)

    def tokens(self, pipe: HunyuanVideoPipeline, captions: Sequence[str], *, fixed: bool) -> dict[str, Tensor]:
        pad = {"padding": "max_length" if fixed else "longest", "truncation": True, "return_tensors": "pt"}
        tokenizers: tuple[Any, Any] = (pipe.tokenizer, pipe.tokenizer_2)
        # captions of the world stay below this length (tested)
        first, second = (t(list(captions), max_length=MAX_SEQUENCE_LENGTH, **pad) for t in tokenizers)
        return {"input_ids": first.input_ids, "mask": first.attention_mask, "input_ids_2": second.input_ids}

    def draw(
        self, pipe: HunyuanVideoPipeline, prompts: Sequence[str], noise: torch.Generator, guidance_scale: float
    ) -> list[NDArray[np.uint8]]:
        pipe.set_progress_bar_config(disable=True)
        out: Any = pipe(
            prompt=list(prompts),
            negative_prompt=[""] * len(prompts),
            true_cfg_scale=guidance_scale,
            num_inference_steps=20,
            height=SIZE,
            width=SIZE,
            num_frames=NUM_FRAMES,
            generator=noise,
            prompt_template=PROMPT_TEMPLATE,
            max_sequence_length=MAX_SEQUENCE_LENGTH,
            output_type="np",
        )
        return list((np.asarray(out.frames).clip(0, 1) * 255).round().astype(np.uint8))


@contextmanager
def at_corner(rope: nn.Module, corner: tuple[int, int]) -> Iterator[None]:
    """A part of the frame keeps its place: the rotary grid of the whole frame up to its far end, cut to the part.

    Scores among video tokens depend on distances only, those with (unrotated) text tokens on the place.
    """
    if corner == (0, 0):
        yield
        return
    row, column = corner

    def embed(hidden_states: Tensor) -> tuple[Tensor, Tensor]:
        frames, height, width = hidden_states.shape[2:]
        whole = type(rope).forward(rope, hidden_states.new_empty(1, 1, frames, height + row, width + column))
        cos, sin = (g.unflatten(0, (frames, height + row, width + column))[:, row:, column:] for g in whole)
        return cos.flatten(0, 2), sin.flatten(0, 2)

    rope.forward = embed
    try:
        yield
    finally:
        del rope.forward
