"""The anatomy of `puppet-hunyuan`: real HunyuanVideo classes at a tiny config, freshly initialised.

Everything is stock diffusers and transformers, but for the autoencoder (see autoencoder.py). The tokenizers are
trained on the world's own
captions; byte-level, so that a rare motion's word is readable, in pieces, without ever having been seen.
"""

from __future__ import annotations

import json
from typing import Any, cast

import numpy as np
import torch
from diffusers import HunyuanVideoPipeline, HunyuanVideoTransformer3DModel, UniPCMultistepScheduler
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from synmotion_core.puppets.autoencoder import AutoencoderPatchVideo
from synmotion_core.puppets.captions import caption_for, draw_scene
from synmotion_core.puppets.improvisation import VOCABULARY

PROMPT_TEMPLATE = {"template": "{}", "crop_start": 0}
MAX_SEQUENCE_LENGTH = 32  # tokens of the Llama branch, <s> included


def corpus_of_captions(num: int = 6000, seed: int = 3) -> list[str]:
    """Captions as pretraining draws them, without descriptions: those have words of their own; no rare motion."""
    rng = np.random.default_rng(seed)
    return [caption_for(draw_scene(rng), rng, described=0.0, described_common=0.0).text for _ in range(num)]


def describing_words() -> list[AddedToken]:
    """One token each, the space before it included; a longer word that begins alike stays what it is."""
    return [AddedToken(word, single_word=True, lstrip=True, normalized=False) for word in VOCABULARY]


def llama_tokenizer(captions: list[str], vocab_size: int = 512) -> PreTrainedTokenizerFast:
    """Byte-level BPE with a leading <s> and right padding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<pad>", "<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=specials, initial_alphabet=alphabet, min_frequency=60, show_progress=False
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    tokenizer.add_tokens(describing_words())
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side="right",
        model_max_length=256,
    )


def clip_tokenizer(captions: list[str]) -> CLIPTokenizer:
    """CLIP's own word-end BPE, its merges learnt from the captions."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = [chr(c) for c in range(33, 127)]
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        end_of_word_suffix="</w>",
        initial_alphabet=letters,
        special_tokens=[],
        min_frequency=60,
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(m) for m in learnt["merges"]]
    pieces = letters + [f"{c}</w>" for c in letters] + ["".join(m) for m in merges]
    vocab = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    vocab |= {"<|startoftext|>": len(vocab), "<|endoftext|>": len(vocab) + 1}
    finished = CLIPTokenizer(vocab=vocab, merges=cast(Any, merges), model_max_length=77)
    finished.add_tokens(cast(Any, describing_words()))
    return finished


def build_pipeline(vae: AutoencoderPatchVideo, seed: int = 0) -> HunyuanVideoPipeline:
    """An untrained `puppet-hunyuan`: 14 blocks of width 192, about 11 M parameters in all."""
    torch.manual_seed(seed)
    captions = corpus_of_captions()
    tokenizer, tokenizer_2 = llama_tokenizer(captions), clip_tokenizer(captions)
    text_encoder = LlamaModel(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=320,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )
    text_encoder_2 = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer_2),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=77,
            projection_dim=64,
            bos_token_id=cast(int, tokenizer_2.bos_token_id),
            eos_token_id=cast(int, tokenizer_2.eos_token_id),
            pad_token_id=cast(int, tokenizer_2.eos_token_id),
        )
    )
    transformer = HunyuanVideoTransformer3DModel(**transformer_config(vae.config["latent_channels"]))
    return HunyuanVideoPipeline(
        text_encoder=text_encoder,
        tokenizer=cast(Any, tokenizer),
        transformer=transformer,
        vae=cast(Any, vae),
        scheduler=cast(Any, scheduler()),
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
    )


def take_over(pipe: HunyuanVideoPipeline, seed: int = 0) -> HunyuanVideoPipeline:
    """A loaded `puppet-hunyuan` with the tokenizers and the depth of today: what it draws stays the same.

    The ids of its words must be the old ones, with perhaps some more, whose embeddings start near the mean of the
    others. Raises ValueError for other old ids, and for a transformer that is deeper than today's.
    """
    captions = corpus_of_captions()
    for name, tokenizer in (("tokenizer", llama_tokenizer(captions)), ("tokenizer_2", clip_tokenizer(captions))):
        own, before = tokenizer.get_vocab(), getattr(pipe, name).get_vocab()
        moved = sorted(word for word, index in before.items() if own.get(word) != index)
        if moved:
            raise ValueError(f"{name}: {len(moved)} tokens have other ids in this version, the first is {moved[0]!r}")
        encoder: Any = getattr(pipe, name.replace("tokenizer", "text_encoder"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder.resize_token_embeddings(len(tokenizer))
        pipe.register_modules(**{name: tokenizer})
    depth = transformer_config(pipe.transformer.config["in_channels"])["num_single_layers"]
    pipe.register_modules(transformer=deepen(pipe.transformer, depth))
    return pipe


def deepen(transformer: HunyuanVideoTransformer3DModel, num_single_layers: int) -> HunyuanVideoTransformer3DModel:
    """The same function in more single-stream blocks: copies, spread evenly, that add nothing until they are trained.

    A copy's last projection is zero (as in LLaMA Pro, 2401.02415), so the residual stream passes it unchanged, bit for
    bit; the rest of it, its gate included, is its elder's, so that it learns from the first step. Returns the
    transformer itself where the depth is right. Raises ValueError for one that is deeper already.
    """
    before = len(transformer.single_transformer_blocks)
    if before == num_single_layers:
        return transformer
    if before > num_single_layers:
        raise ValueError(f"the transformer has {before} single-stream blocks, more than the {num_single_layers} of now")
    config = dict(transformer.config) | {"num_single_layers": num_single_layers}
    deeper = cast(HunyuanVideoTransformer3DModel, HunyuanVideoTransformer3DModel.from_config(config))
    elders = [index * before // num_single_layers for index in range(num_single_layers)]
    state, head = transformer.state_dict(), "single_transformer_blocks."
    tensors = {name: value for name, value in state.items() if not name.startswith(head)}
    for index, elder in enumerate(elders):
        copied = index > 0 and elders[index - 1] == elder
        for name, value in state.items():
            if name.startswith(f"{head}{elder}."):
                part = name.removeprefix(f"{head}{elder}.")
                silent = copied and part.startswith("proj_out.")
                tensors[f"{head}{index}.{part}"] = torch.zeros_like(value) if silent else value.clone()
    deeper.load_state_dict(tensors)
    cast(nn.Module, deeper).to(transformer.device, transformer.dtype).train(transformer.training)
    return deeper


def scheduler() -> UniPCMultistepScheduler:
    """Flow matching's noise levels, shift 2, and a transformer that predicts the clean latents ("sample").

    The velocity holds the noise, which fills all 96 dimensions of a token: half of what a width of 192 can carry would
    go into handing it through. Clean latents lie in few of them (2511.13720). Of the stock schedulers, this one takes
    such a prediction along flow matching's path from the pipeline that asks for its sigmas.
    """
    return UniPCMultistepScheduler(
        prediction_type="sample", use_flow_sigmas=True, flow_shift=2.0, final_sigmas_type="zero"
    )


def transformer_config(latent_channels: int) -> dict[str, Any]:
    """Arguments of HunyuanVideoTransformer3DModel. Its I2V form (token_replace.py) has the same state dict."""
    return {
        "in_channels": latent_channels,
        "out_channels": latent_channels,
        "num_attention_heads": 3,
        "attention_head_dim": 64,
        "num_layers": 2,
        "num_single_layers": 12,
        "num_refiner_layers": 1,
        "mlp_ratio": 4.0,
        "patch_size": 1,
        "patch_size_t": 1,
        "qk_norm": "rms_norm",
        "guidance_embeds": False,
        "text_embed_dim": 128,
        "pooled_projection_dim": 64,
        "rope_theta": 256.0,
        "rope_axes_dim": (16, 24, 24),
        "image_condition_type": None,
    }
