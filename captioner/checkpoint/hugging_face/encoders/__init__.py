"""Vision encoders of Hugging Face as timm backbones: a family is a module, named after transformers' model type.

``encoder_config`` and ``encoder_weights`` are what a conversion needs; the features equal the encoder's
``last_hidden_state``, which the decoder reads. May import what ``captioner.checkpoint.hugging_face`` may, and nothing
of its decoders.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from captioner.checkpoint.hugging_face.encoders import beit, blip_vision, dinov2, swin, vit
from captioner.checkpoint.hugging_face.encoders.preprocess import preprocess_config, processor_config, read_processor
from captioner.checkpoint.hugging_face.encoders.shared import side
from captioner.config import PreprocessConfig, VisionConfig
from captioner.errors import CheckpointError, quoted

_CONFIGS = {
    "vit": vit.vision_config,
    "deit": vit.vision_config,
    "swin": swin.vision_config,
    "beit": beit.vision_config,
    "dinov2": dinov2.vision_config,
    "dinov2_with_registers": dinov2.vision_config,
    "blip_vision_model": blip_vision.vision_config,
}
_WEIGHTS = {
    "vit": vit.vision_weights,
    "deit": vit.vision_weights,
    "swin": swin.vision_weights,
    "beit": beit.vision_weights,
    "blip_vision_model": blip_vision.vision_weights,
}
_RESIZED = ("dinov2", "dinov2_with_registers")  # transformers resizes their positions to the image
ENCODERS = tuple(_CONFIGS)
"""The model types that can be imported."""


def input_config(processor: Mapping[str, Any], values: Mapping[str, Any], source: object) -> PreprocessConfig:
    """Convert the image ``processor`` of an encoder with the settings ``values``.

    Raises ``CheckpointError`` if it prepares images of a size that the encoder does not take.
    """
    if _kind(values, source) in _RESIZED:
        return processor_config(processor, source)
    return preprocess_config(processor, _image_size(values, source), source)


def encoder_config(
    values: Mapping[str, Any], *, project: bool, source: object, size: int | None = None
) -> VisionConfig:
    """Return the config of a timm backbone that computes the same as a Hugging Face encoder with these settings.

    ``size`` is the side of the prepared images (``input_config``), if the encoder resizes its positions to them. Raises
    ``CheckpointError`` for an unknown type, and for a setting that changes the result and has no counterpart here.
    """
    convert = _CONFIGS[_kind(values, source)]
    return convert(values, project=project, source=source, size=size or _image_size(values, source))


def encoder_weights(
    values: Mapping[str, Any], state: Mapping[str, Tensor], source: object, size: int | None = None
) -> dict[str, Tensor]:
    """Convert the encoder's tensors, without a prefix, to timm's names; arguments as in ``encoder_config``.

    Raises ``CheckpointError`` for tensors that such an encoder does not have.
    """
    kind = _kind(values, source)
    if kind in _RESIZED:
        return dinov2.vision_weights(values, state, source, size=size or _image_size(values, source))
    return _WEIGHTS[kind](values, state, source)


def _kind(values: Mapping[str, Any], source: object) -> str:
    kind = values.get("model_type")
    if not isinstance(kind, str) or kind not in ENCODERS:
        raise CheckpointError(
            f"{source} has an encoder of type {quoted(kind)}; only {', '.join(ENCODERS[:-1])} and {ENCODERS[-1]} can "
            "be imported"
        )
    return kind


def _image_size(values: Mapping[str, Any], source: object) -> int:
    default = 384 if values.get("model_type") == "blip_vision_model" else 224
    return side(values.get("image_size", default), "image_size", source)


__all__ = ["ENCODERS", "encoder_config", "encoder_weights", "input_config", "read_processor"]
