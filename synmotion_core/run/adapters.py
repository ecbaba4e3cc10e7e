"""The adapters that a generation names: read, held against each other, attached, and what is to be said of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synmotion_core.adapters.file import AdapterInfo, load_adapter, read_info
from synmotion_core.config import BlendWith, LoraWith
from synmotion_core.errors import AdapterError
from synmotion_core.interfaces import Backbone, BackboneSpec, Method, MethodEntry, reworded
from synmotion_core.planning.work import drawing_method
from synmotion_core.precision import weights_of
from synmotion_core.stacking import PLAIN_LORA, SECOND, attaching, beneath
from synmotion_core.types import Prompt

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A file's tensors and what it says of itself; config is its method's."""

    path: Path
    state: Mapping[str, Tensor]
    info: AdapterInfo
    entry: MethodEntry
    config: Any

    def words(self, prompt: Prompt) -> Prompt:
        """What the encoders read for a prompt with this adapter."""
        return reworded(self.entry, self.config, prompt)

    def attach(self, backbone: Backbone) -> Method:
        """Put it onto a backbone. Raises AdapterError for one that does not fit; then nothing stays."""
        reference = Prompt(subject=self.info.subject, motion=self.info.motion)
        method = self.entry.attach(backbone, self.config, self.words(reference))
        try:
            method.load_state_dict(dict(self.state))
        except BaseException:
            method.detach()
            raise
        return method

    def attach_second(self, backbone: Backbone) -> Method:
        """The same beside another one; neither works until one's strength is set and the other's is 0."""
        with attaching(SECOND):
            return self.attach(backbone)

    def attach_beneath(self, backbone: Backbone, number: int, strength: float) -> Method:
        """The same beneath all others, where it works until it is taken off. number counts those there, from 0."""
        with attaching(beneath(number)):
            method = self.attach(backbone)
        method.set_strength(strength)
        return method

    def warnings(self, backbone: Backbone, i2v: bool, who: str = "this adapter") -> Iterator[str]:
        """What a person should know of it before it is used in this mode and on these weights."""
        if self.info.mode == "i2v" and not i2v:  # the other way round nothing was lost (README, "Figures")
            yield f"{who} was trained to begin with a picture: from words alone it may miss the motion"
        spec, weights = backbone.spec, weights_of(backbone.fingerprint)
        if self.info.fingerprint != weights:
            yield (
                f"{who} was trained on {self.info.fingerprint} and here is {weights}: other weights of "
                f"{spec.name}, so the motion may be wrong; train it again to be sure"
                if self.info.fingerprint
                else f"{who}'s file does not say which weights of {spec.name} it was trained on: on others than "
                f"{weights} the motion may be wrong"
            )


def read_adapter(path: Path, spec: BackboneSpec, given: Mapping[str, Any]) -> Adapter:
    """given: settings of its method instead of the file's. Raises AdapterError, IncompatibleError or ConfigError."""
    state, info = load_adapter(path, spec)
    entry, config = drawing_method(info, given, spec)
    return Adapter(path=path, state=state, info=info, entry=entry, config=config)


def read_second(first: Adapter, blend: BlendWith, spec: BackboneSpec) -> Adapter:
    """The adapter that `first` is blended with. Raises AdapterError, naming both, unless they are of one backbone and
    of the same experts of it.
    """
    names = f"{first.path.name} and {blend.adapter.name} cannot be blended"
    info = read_info(blend.adapter)
    if info.backbone != first.info.backbone:
        raise AdapterError(
            f"{names}: they are of {first.info.backbone} and {info.backbone}, and a blend is of one backbone"
        )
    other = read_adapter(blend.adapter, spec, {})
    own, others = _experts(first, spec), _experts(other, spec)
    if own != others:
        raise AdapterError(
            f"{names}: they are of the experts {_listed(own)} and {_listed(others)}, and a blend is of the same ones"
        )
    return other


def read_beneath(loras: Sequence[LoraWith], spec: BackboneSpec) -> list[Adapter]:
    """The LoRAs that work beneath all else. Raises AdapterError for what is more than a LoRA, else as read_adapter."""
    found = [read_adapter(one.adapter, spec, {}) for one in loras]
    for one in found:
        if one.entry.name != PLAIN_LORA:
            raise AdapterError(
                f"{one.path.name} is an adapter of {one.entry.name}, and beneath others only those of {PLAIN_LORA} "
                "work, which bring nothing else: use it as the adapter, or blend it with one"
            )
    return found


def _experts(adapter: Adapter, spec: BackboneSpec) -> frozenset[str]:
    """Of two, which ones an adapter works on; of a backbone with one denoiser none are named."""
    if spec.boundary_ratio is None:
        return frozenset()
    prefix = f"{spec.denoiser}."
    return frozenset(key.removeprefix(prefix).partition(".")[0] for key in adapter.state if key.startswith(prefix))


def _listed(experts: frozenset[str]) -> str:
    return " and ".join(sorted(experts)) or "none"
