"""ViT and DeiT as vision encoders: conversion of settings and weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from captioner.checkpoint.hugging_face.encoders.shared import (
    ATTENTION,
    GELU,
    Names,
    number,
    plain_blocks,
    ratio,
    side,
    switch,
    to_timm_names,
    whole,
)
from captioner.checkpoint.hugging_face.files import require, weights_and_biases
from captioner.config import VisionConfig

BACKBONES = {"vit": "vit_base_patch16_224", "deit": "deit_base_distilled_patch16_224"}  # by Hugging Face's model_type
AROUND = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    **weights_and_biases({"embeddings.patch_embeddings.projection": "patch_embed.proj", "layernorm": "norm"}),
}
LAYER = weights_and_biases(
    {
        "layernorm_before": "norm1",
        "attention.attention.query": "attn.q",
        "attention.attention.key": "attn.k",
        "attention.attention.value": "attn.v",
        **ATTENTION,
        "layernorm_after": "norm2",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
        "mlp.fc1": "mlp.fc1",
        "mlp.fc2": "mlp.fc2",
    }
)
_NAMES = Names(around={**AROUND, "embeddings.distillation_token": "dist_token"}, layer=LAYER)


def vision_config(values: Mapping[str, Any], *, project: bool, source: object, size: int) -> VisionConfig:
    """Return the config of an encoder equivalent to a ViT or DeiT with these settings, with its final norm.

    Raises ``CheckpointError`` for a setting that changes the result and has no counterpart here.
    """
    return VisionConfig(
        backbone=BACKBONES[values["model_type"]],
        backbone_args={
            **transformer_args(values, source, size=size),
            "qkv_bias": switch(values, "qkv_bias", True, source),
        },
        norm=False,
        positions=False,
        project=project,
        norm_eps=number(values, "layer_norm_eps", 1e-12, 1, source),
    )


def transformer_args(values: Mapping[str, Any], source: object, *, size: int) -> dict[str, Any]:
    """Return timm's arguments of a plain transformer with these settings, for images of ``size`` pixels.

    Raises ``CheckpointError`` for a setting that changes the result and has no counterpart here.
    """
    width = whole(values, "hidden_size", 768, "embed_dim", source)
    heads = whole(values, "num_attention_heads", 12, "num_heads", source)
    require(values, {"hidden_act": GELU, "num_channels": (3,), "head_dim": (None, width // heads)}, source)
    return {
        "img_size": size,
        "patch_size": side(values.get("patch_size", 16), "patch_size", source),
        "embed_dim": width,
        "depth": whole(values, "num_hidden_layers", 12, "depth", source),
        "num_heads": heads,
        "mlp_ratio": ratio(whole(values, "intermediate_size", 3072, "hidden_size", source), width),
    }


def vision_weights(values: Mapping[str, Any], state: Mapping[str, Tensor], source: object) -> dict[str, Tensor]:
    """Convert the encoder's tensors to timm's names. Raises ``CheckpointError`` for tensors that are not ViT's."""
    return to_timm_names(state, _NAMES, plain_blocks(whole(values, "num_hidden_layers", 12, "depth", source)), source)
