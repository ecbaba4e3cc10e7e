"""Real rows at a tiny size: the row itself, its real loading code, and random weights of the same classes on disk.

What differs from the row is named here and nowhere else: sizes, and what the tiny tokenizers make of the template.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLWan,
    ClassifierFreeGuidance,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
    HunyuanVideoImageToVideoPipeline,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    UNet3DConditionModel,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import (
    ByT5Tokenizer,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLTextModel,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from synmotion_core.backbones import find_spec, load_backbone
from synmotion_core.interfaces import Backbone, BackboneSpec
from synmotion_core.precision import PLAIN, Precision
from synmotion_core.puppets.blueprint import clip_tokenizer, corpus_of_captions, llama_tokenizer
from synmotion_core.types import VideoShape

MARKS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<image>")
IMAGE_TOKENS = 36  # of a picture of 48x48 in patches of 8
SHAPE = VideoShape(num_frames=9, height=32, width=48, fps=24.0)
SHAPE_32 = VideoShape(num_frames=9, height=64, width=96, fps=24.0)  # for rows of multiples of 32


def _hunyuan_folder(folder: Path) -> None:
    _save_hunyuan(folder, image_to_video=False)


def _hunyuan_i2v_folder(folder: Path) -> None:
    _save_hunyuan(folder, image_to_video=True)


def _save_hunyuan(folder: Path, *, image_to_video: bool) -> None:
    torch.manual_seed(11)
    tokenizer, tokenizer_2 = _tokenizer(), clip_tokenizer(corpus_of_captions(600))
    words = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048, pad_token_id=0,
        bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    text_encoder: Any = LlamaModel(words)
    if image_to_video:
        sight = CLIPVisionConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=48,
            patch_size=8,
        )  # fmt: skip
        own = LlavaConfig(
            vision_config=sight, text_config=words, image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            pad_token_id=0, vision_feature_layer=-1,
        )  # fmt: skip
        text_encoder = LlavaForConditionalGeneration(own)
    ends: Any = tokenizer_2.eos_token_id
    text_encoder_2 = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer_2), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=77, projection_dim=16, pad_token_id=ends,
            bos_token_id=tokenizer_2.bos_token_id, eos_token_id=ends,
        )
    )  # fmt: skip
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=2, num_single_layers=2,
        num_refiner_layers=1, patch_size=2, patch_size_t=1, guidance_embeds=True, text_embed_dim=32,
        pooled_projection_dim=16, rope_axes_dim=(4, 6, 6),
        image_condition_type="token_replace" if image_to_video else None,
    )  # fmt: skip
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    )
    sees = CLIPImageProcessor(size={"shortest_edge": 48}, crop_size={"height": 48, "width": 48})
    family: Any = HunyuanVideoImageToVideoPipeline if image_to_video else HunyuanVideoPipeline
    pipe = family(
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
        **({"image_processor": sees} if image_to_video else {}),
    )
    pipe.save_pretrained(folder)


def _tokenizer() -> Any:
    """As many marks of its own as Llama's: the template's headers and the place of the image are one token each."""
    tokenizer = llama_tokenizer(corpus_of_captions(600))
    tokenizer.model_max_length = 2048
    tokenizer.add_special_tokens({"additional_special_tokens": list(MARKS)})
    return tokenizer


def tiny_spec(name: str) -> BackboneSpec:
    """The row with a small shape, for the CPU, its template's tokens counted by the tiny tokenizer."""
    spec = find_spec(name)
    shape = SHAPE_32 if spec.size_multiple == 32 else SHAPE
    small = dataclasses.replace(spec, needs_gpu=False, default_shape=shape, num_inference_steps=3)
    if "system_message" in spec.options:
        chat = [{"role": "system", "content": spec.options["system_message"]}]
        head = _chat_tokenizer().apply_chat_template(chat, tokenize=False) + "<|im_start|>user\n"
        crop = len(_chat_tokenizer()(head, add_special_tokens=False).input_ids)
        return dataclasses.replace(small, options={**spec.options, "crop_start": crop})
    if "prompt_template" not in spec.options:
        return small
    template, tokenizer = dict(spec.options["prompt_template"]), _tokenizer()
    head = tokenizer(template["template"].split("{}")[0]).input_ids
    template["crop_start"] = len(head)
    if "image_emb_start" in template:
        at = head.index(tokenizer.convert_tokens_to_ids("<image>"))
        template |= {"image_emb_start": at, "image_emb_end": at + IMAGE_TOKENS, "image_emb_len": IMAGE_TOKENS}
    return dataclasses.replace(small, options={**spec.options, "prompt_template": template})


def _wan_folder(folder: Path) -> None:
    _save_wan(folder)


def _wan_ti2v_folder(folder: Path) -> None:
    residual = {"decoder_base_dim": 8, "is_residual": True, "patch_size": 2, "in_channels": 12, "out_channels": 12}
    _save_wan(folder, vae={**residual, "scale_factor_spatial": 16}, flow_shift=5.0, expand_timesteps=True)


def _wan_t2v_experts_folder(folder: Path) -> None:
    _save_wan(folder, experts=2, boundary_ratio=0.875)


def _wan_i2v_experts_folder(folder: Path) -> None:
    _save_wan(folder, WanImageToVideoPipeline, flow_shift=5.0, in_channels=4 + 4 + 4, experts=2, boundary_ratio=0.9)


def _wan_i2v_folder(folder: Path) -> None:
    sight = CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=14
    )
    sees = CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    _save_wan(
        folder, WanImageToVideoPipeline, in_channels=4 + 4 + 4, looks={"image_dim": 16, "added_kv_proj_dim": 24},
        image_encoder=CLIPVisionModel(sight), image_processor=sees,
    )  # fmt: skip


def _save_wan(
    folder: Path,
    family: Any = WanPipeline,
    *,
    vae: Any = None,
    flow_shift: float = 3.0,
    experts: int = 1,
    in_channels: int = 4,
    looks: Any = None,
    **given: Any,
) -> None:
    torch.manual_seed(12)
    tokenizer = _tokenizer()
    words = UMT5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, pad_token_id=0,
        feed_forward_proj="gated-gelu", relative_attention_num_buckets=8,
    )  # fmt: skip
    transformers = [
        WanTransformer3DModel(
            patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, in_channels=in_channels,
            out_channels=4, text_dim=32, freq_dim=32, ffn_dim=48, num_layers=2, cross_attn_norm=True,
            qk_norm="rms_norm_across_heads", rope_max_seq_len=64, **(looks or {}),
        )
        for _ in range(experts)
    ]  # fmt: skip
    own_vae = AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[-0.7, 0.1, 0.9, 0.0], latents_std=[2.8, 1.4, 2.3, 1.0], **(vae or {}),
    )  # fmt: skip
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=flow_shift)
    text_encoder = UMT5EncoderModel(words)
    pipe = family(
        tokenizer=tokenizer, text_encoder=text_encoder, vae=own_vae, scheduler=scheduler,
        transformer=transformers[0], transformer_2=transformers[1] if experts == 2 else None, **given,
    )  # fmt: skip
    pipe.save_pretrained(folder)


def _hunyuan15_folder(folder: Path) -> None:
    _save_hunyuan15(folder, image_to_video=False)


def _hunyuan15_i2v_folder(folder: Path) -> None:
    _save_hunyuan15(folder, image_to_video=True)


def _save_hunyuan15(folder: Path, *, image_to_video: bool) -> None:
    torch.manual_seed(13)
    tokenizer = _chat_tokenizer()
    words = Qwen2_5_VLTextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2048, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]},
    )  # fmt: skip
    letters = T5Config(
        vocab_size=384, d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu",
        relative_attention_num_buckets=8,
    )  # fmt: skip
    transformer = HunyuanVideo15Transformer3DModel(
        in_channels=9, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=2, num_refiner_layers=1,
        text_embed_dim=32, text_embed_2_dim=24, image_embed_dim=16, rope_axes_dim=(4, 6, 6),
        target_size=39,  # 6 patches of 16x16: SHAPE is one of the sizes that the I2V pipeline draws
        task_type="i2v" if image_to_video else "t2v",
    )  # fmt: skip
    vae = AutoencoderKLHunyuanVideo15(latent_channels=4, block_out_channels=(8, 8, 8, 8, 8), layers_per_block=1)
    parts: dict[str, Any] = {
        "text_encoder": Qwen2_5_VLTextModel(words),
        "tokenizer": tokenizer,
        "transformer": transformer,
        "vae": vae,
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=5.0),
        "text_encoder_2": T5EncoderModel(letters),
        "tokenizer_2": ByT5Tokenizer(),
        "guider": ClassifierFreeGuidance(guidance_scale=6.0),
    }
    if not image_to_video:
        HunyuanVideo15Pipeline(**parts).save_pretrained(folder)
        return
    sight = SiglipVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    sees = SiglipImageProcessor(size={"height": 28, "width": 28})
    parts |= {"image_encoder": SiglipVisionModel(sight), "feature_extractor": sees}
    HunyuanVideo15ImageToVideoPipeline(**parts).save_pretrained(folder)


def _chat_tokenizer() -> Any:
    """With Qwen's marks and the part of its chat template that the pipelines use."""
    tokenizer = llama_tokenizer(corpus_of_captions(600))
    tokenizer.model_max_length = 2048
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer


def _unet3d_folder(folder: Path) -> None:
    """As TextToVideoSDPipeline saves itself, that its name stands in the index as on the Hub."""
    from diffusers import TextToVideoSDPipeline

    torch.manual_seed(14)
    tokenizer = clip_tokenizer(corpus_of_captions(600))
    ends: Any = tokenizer.eos_token_id
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=77, projection_dim=16, pad_token_id=ends,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=ends, hidden_act="gelu",
        )
    )  # fmt: skip
    unet = UNet3DConditionModel(
        block_out_channels=(16, 32, 32, 32), layers_per_block=2, norm_num_groups=4, cross_attention_dim=32,
        attention_head_dim=8, sample_size=4,
    )  # fmt: skip
    for module in unet.modules():  # temporal convolutions begin at zero, as they were before any training
        if isinstance(module, torch.nn.Conv3d):
            torch.nn.init.normal_(module.weight, std=0.1)
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
        steps_offset=1,
    )  # fmt: skip
    TextToVideoSDPipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler
    ).save_pretrained(folder)


FOLDERS = {
    "hunyuanvideo": _hunyuan_folder,
    "hunyuanvideo-i2v": _hunyuan_i2v_folder,
    "hunyuanvideo-1.5": _hunyuan15_folder,
    "hunyuanvideo-1.5-i2v": _hunyuan15_i2v_folder,
    "wan2.1-t2v-1.3b": _wan_folder,
    "wan2.1-t2v-14b": _wan_folder,
    "wan2.1-i2v-14b": _wan_i2v_folder,
    "wan2.2-ti2v-5b": _wan_ti2v_folder,
    "wan2.2-t2v-a14b": _wan_t2v_experts_folder,
    "wan2.2-i2v-a14b": _wan_i2v_experts_folder,
    "modelscope-t2v-1.7b": _unet3d_folder,
    "zeroscope-v2-576w": _unet3d_folder,
}


@cache
def tiny_folder(name: str) -> Path:
    """The row's pipeline with random weights, as diffusers saves one."""
    folder = Path(mkdtemp(prefix=f"tiny-{name}-"))
    FOLDERS[name](folder)
    return folder


@cache
def tiny_backbone(name: str, precision: Precision = PLAIN) -> Backbone:
    """Loaded as a row is, from a folder; what `precision` leaves alone in float32."""
    from synmotion_core import backbones

    before, backbones.SPECS[name] = backbones.SPECS[name], tiny_spec(name)
    try:
        backbone: Any = load_backbone(name, device="cpu", folder=tiny_folder(name), precision=precision)
    finally:
        backbones.SPECS[name] = before
    if "crop_start" in backbone.spec.options:  # the stock pipeline counts the template's tokens by itself
        backbone.pipe.prompt_template_encode_start_idx = backbone.spec.options["crop_start"]
    return backbone
