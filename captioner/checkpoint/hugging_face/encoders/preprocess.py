"""The image processor of a Hugging Face checkpoint as a ``PreprocessConfig``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from captioner.checkpoint.files import read_json
from captioner.checkpoint.hugging_face.encoders.shared import side, switch
from captioner.checkpoint.hugging_face.files import require
from captioner.config import PreprocessConfig, from_dict
from captioner.errors import CheckpointError, ConfigError, quoted

_FILTERS: dict[object, Literal["bilinear", "bicubic"]] = {2: "bilinear", 3: "bicubic"}  # PIL's numbers
_HALF: dict[str, Any] = {"resample": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
_CLIP: dict[str, Any] = {
    "resample": 3,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_CROPPED: dict[str, Any] = {"do_center_crop": True, "crop_size": 224}
# The values that a file may leave out, by the processor's name without its ending; a file without a name is as ViT's.
# Other processors may resize by rules of their own (Levit: to 256 / 224 of the size), which no setting shows.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "ViT": {"size": 224},
    "DeiT": {**_CROPPED, "resample": 3, "size": 256},
    "Beit": {"resample": 3, "size": 224},
    "Siglip": {"resample": 3, "size": 224},
    "Blip": {**_CLIP, "size": 384},
    "CLIP": {**_CLIP, **_CROPPED, "size": {"shortest_edge": 224}},
    "Bit": {**_CLIP, **_CROPPED, "size": {"shortest_edge": 224}},
}
_SHORTEST = ("CLIP", "Bit")  # their size, if one number, is that of the shortest edge
_ENDING = re.compile(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$")
_SUPPORTED = {
    "do_resize": (True,),
    "do_rescale": (True,),
    "rescale_factor": (1 / 255,),
    # Donut's and LayoutLM's
    "do_pad": (False,),
    "do_thumbnail": (False,),
    "do_align_long_axis": (False,),
    "do_flip_channel_order": (False,),
    # ConvNeXt's, EfficientNet's and ViViT's
    "crop_pct": (None,),
    "rescale_offset": (False,),
    "offset": (False,),
}


def read_processor(directory: Path) -> dict[str, Any]:
    """Read the image processor: preprocessor_config.json, or else its part of transformers 5's processor_config.json.

    Raises ``CheckpointError`` for missing or damaged files.
    """
    path = directory / "processor_config.json"
    if not (directory / "preprocessor_config.json").exists() and path.exists():
        part = read_json(path).get("image_processor")
        if not isinstance(part, dict):
            raise CheckpointError(f"{path} has no image_processor; save the model's image processor there")
        return part
    return read_json(directory / "preprocessor_config.json")


def preprocess_config(values: Mapping[str, Any], size: int, source: object) -> PreprocessConfig:
    """Convert an image processor for an encoder of ``size`` pixels.

    Raises ``CheckpointError`` for a processor of another size, and for settings without a counterpart here.
    """
    config = processor_config(values, source)
    if config.size != size:
        raise CheckpointError(
            f"{source} prepares images of {config.size} pixels for an encoder of {size}; "
            "correct its preprocessor_config.json"
        )
    return config


def processor_config(values: Mapping[str, Any], source: object) -> PreprocessConfig:
    """Convert an image processor that squashes, or resizes and crops the centre.

    A crop is exact up to half a pixel. Raises ``CheckpointError`` for another processor, and for settings without a
    counterpart here.
    """
    require(values, _SUPPORTED, source)
    name = values.get("image_processor_type") or values.get("feature_extractor_type") or "ViTImageProcessor"
    kind = _ENDING.sub("", name) if isinstance(name, str) else ""
    if kind not in _DEFAULTS:
        raise CheckpointError(
            f"{source} has image processor {quoted(name)}; only those of {', '.join(_DEFAULTS)} can be imported: if it "
            "computes the same as one of them, name that one in its preprocessor_config.json"
        )
    values = {**_HALF, **_DEFAULTS[kind], **values}
    resample, normalise = values["resample"], switch(values, "do_normalize", True, source)
    if resample not in list(_FILTERS):
        raise CheckpointError(
            f"{source} has resampling filter {quoted(resample)}; only 2 (bilinear) and 3 (bicubic) are supported"
        )
    resized, keeps = _resized(values["size"], kind in _SHORTEST, source)
    size = resized
    if switch(values, "do_center_crop", False, source):
        size = side(values.get("crop_size", resized), "crop_size", source)
    elif keeps:
        raise CheckpointError(
            f"{source} has size {quoted(values['size'])} without a centre crop; only square images of a fixed size can "
            "be imported"
        )
    if size > resized:
        raise CheckpointError(f"{source} crops {size} pixels of {resized}; only crops within the image can be imported")
    try:
        return from_dict(
            PreprocessConfig,
            {
                "size": size,
                "aspect": "crop" if keeps else "squash",
                "zoom": resized / size,
                "interpolation": _FILTERS[resample],
                "mean": values["image_mean"] if normalise else [0.0] * 3,
                "std": values["image_std"] if normalise else [1.0] * 3,
            },
        )
    except ConfigError as error:
        raise CheckpointError(f"preprocessor_config.json of {source} cannot be used: {error}") from error


def _resized(size: object, shortest: bool, source: object) -> tuple[int, bool]:
    """Return the side of the resized image, and whether only its shortest edge has it."""
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        return side(size["shortest_edge"], "size", source), True
    return side(size, "size", source), shortest and type(size) is int
