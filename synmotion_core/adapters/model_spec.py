"""What an exported LoRA says of itself in its header, by Stability AI's ModelSpec 1.0.0: the model browsers of other
programs show it. Architectures are called as musubi-tuner calls them, which has one name for all of Wan.

The date is that of the adapter's file, so that exporting again says the same.
"""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

from synmotion_core.adapters.file import AdapterInfo
from synmotion_core.interfaces import BackboneSpec

# family -> (architecture, whose names a file in the model's own has)
_FAMILIES = {
    "hunyuan_video": ("hunyuan-video", "https://github.com/Tencent/HunyuanVideo"),
    "hunyuan_video15": ("hunyuan-video-1.5", "https://github.com/Tencent-Hunyuan/HunyuanVideo-1.5"),
    "wan": ("wan2.1", "https://github.com/Wan-Video/Wan2.1"),
}
_DIFFUSERS = "https://github.com/huggingface/diffusers"


def model_spec(
    adapter: Path, info: AdapterInfo, spec: BackboneSpec, words: str, *, expert: str | None, diffusers: bool
) -> dict[str, str]:
    """The header's entries. words: what the adapter's own clips are asked for with there."""
    architecture, origin = _FAMILIES.get(spec.family, (spec.family, _DIFFUSERS))
    title = adapter.stem + (f" ({expert.replace('_', ' ')})" if expert else "")
    trigger = _line(words.removeprefix(info.subject))
    made = datetime.fromtimestamp(int(adapter.stat().st_mtime), timezone.utc)
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{architecture}/lora",
        "modelspec.implementation": _DIFFUSERS if diffusers else origin,
        "modelspec.title": title,
        "modelspec.description": _line(f"“{info.motion}”, learnt from {info.subject}: a motion for {spec.title}"),
        "modelspec.date": made.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "modelspec.license": info.licence,
        "modelspec.usage_hint": f"Trigger words: {trigger}. Prompt, with any subject: {_line(words)}",
        "ss_output_name": title,
    }


def _line(text: str) -> str:
    return " ".join(text.split())
