"""ViT and DeiT as vision encoders: conversion of settings, weights and preprocessing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from captioner.checkpoint.hugging_face.files import rename, require
from captioner.config import PreprocessConfig, VisionConfig, from_dict
from captioner.errors import CheckpointError, ConfigError, quoted

BACKBONES = {"vit": "vit_base_patch16_224", "deit": "deit_base_distilled_patch16_224"}  # by Hugging Face's model_type
_AROUND = {
    "embeddings.cls_token": "cls_token",
    "embeddings.distillation_token": "dist_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
_LAYER = {
    "layernorm_before": "norm1",
    "attention.attention.qkv": "attn.qkv",
    "attention.output.dense": "attn.proj",
    "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
_UNUSED = re.compile(r"pooler\..*|embeddings\.mask_token")  # for classification and pretraining
_FILTERS: dict[object, Literal["bilinear", "bicubic"]] = {2: "bilinear", 3: "bicubic"}  # PIL's numbers


def vision_config(values: Mapping[str, Any], *, project: bool, source: object) -> VisionConfig:
    """Return the config of an encoder equivalent to a ViT or DeiT with these settings, with its final norm.

    Raises ``CheckpointError`` for a setting that changes the result and has no counterpart here.
    """
    require(values, {"hidden_act": ("gelu",), "num_channels": (3,)}, source)
    sizes = {
        name: values.get(name, default)
        for name, default in (
            ("hidden_size", 768),
            ("intermediate_size", 3072),
            ("num_hidden_layers", 12),
            ("num_attention_heads", 12),
        )
    }
    for name, size in sizes.items():
        if not isinstance(size, int) or not 0 < size < 10**6:
            raise CheckpointError(f"{source} has {name} {quoted(size)}; check its config.json")
    width, hidden, depth, heads = sizes.values()
    ratio = hidden / width
    if int(width * ratio) != hidden:  # timm truncates the product
        ratio = (hidden + 0.5) / width
    return VisionConfig(
        backbone=BACKBONES[values["model_type"]],
        backbone_args={
            "img_size": _side(values.get("image_size", 224), "image_size", source),
            "patch_size": _side(values.get("patch_size", 16), "patch_size", source),
            "embed_dim": width,
            "depth": depth,
            "num_heads": heads,
            "mlp_ratio": ratio,
            "qkv_bias": values.get("qkv_bias", True),
        },
        norm=False,
        positions=False,
        project=project,
        norm_eps=_number(values.get("layer_norm_eps", 1e-12), "layer_norm_eps", source),
    )


def encoder_weights(state: Mapping[str, Tensor], layers: int, source: object) -> dict[str, Tensor]:
    """Convert the encoder's tensors to timm's names, with queries, keys and values fused.

    Raises ``CheckpointError`` for tensors that are not ViT's.
    """
    fused, names = dict(state), dict(_AROUND)
    for i in range(layers):
        for kind in ("weight", "bias"):
            attention = f"encoder.layer.{i}.attention.attention"
            parts = [fused.pop(f"{attention}.{part}.{kind}", None) for part in ("query", "key", "value")]
            present = [part for part in parts if part is not None]
            if len(present) == 3:
                fused[f"{attention}.qkv.{kind}"] = torch.cat(present)  # (3 * width, width) or (3 * width,)
            names |= {
                f"encoder.layer.{i}.{theirs}.{kind}": f"blocks.{i}.{ours}.{kind}" for theirs, ours in _LAYER.items()
            }
    return rename(fused, names, _UNUSED, source)


def preprocess_config(values: Mapping[str, Any], size: int, source: object) -> PreprocessConfig:
    """Convert an image processor (preprocessor_config.json) for an encoder of ``size`` pixels.

    A centre crop keeps the photo's aspect ratio: DeiT's processor first squashes the photo to a slightly larger square,
    which has no counterpart here. Raises ``CheckpointError`` for other deviations.
    """
    require(values, {"do_rescale": (True,), "rescale_factor": (1 / 255,)}, source)
    crop = bool(values.get("do_center_crop", False))
    name = "crop_size" if crop else "size"
    side = _side(values.get(name, size), name, source)
    if side != size:
        raise CheckpointError(
            f"{source} prepares images of {side} pixels for an encoder of {size}; correct its preprocessor_config.json"
        )
    resample = values.get("resample", 2)
    if resample not in list(_FILTERS):
        raise CheckpointError(
            f"{source} has resampling filter {resample!r}; only 2 (bilinear) and 3 (bicubic) are supported"
        )
    normalise = values.get("do_normalize", True)
    try:
        return from_dict(
            PreprocessConfig,
            {
                "size": size,
                "aspect": "crop" if crop else "squash",
                "interpolation": _FILTERS[resample],
                "mean": values.get("image_mean", [0.5] * 3) if normalise else [0.0] * 3,
                "std": values.get("image_std", [0.5] * 3) if normalise else [1.0] * 3,
            },
        )
    except ConfigError as error:
        raise CheckpointError(f"preprocessor_config.json of {source} cannot be used: {error}") from error


def _number(value: object, name: str, source: object) -> float:
    if not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise CheckpointError(f"{source} has {name} {quoted(value)}; check its config.json")
    return float(value)


def _side(value: object, name: str, source: object) -> int:
    """Return the side of a square given as 224, [224, 224], or {"height": 224, "width": 224}."""
    sides = list(value.values()) if isinstance(value, Mapping) and set(value) == {"height", "width"} else value
    sides = sides if isinstance(sides, (list, tuple)) else [sides, sides]
    if len(sides) != 2 or sides[0] != sides[1] or not isinstance(sides[0], int):
        raise CheckpointError(f"{source} has {name} {value!r}; only square images of a fixed size can be imported")
    return sides[0]
