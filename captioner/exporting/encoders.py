"""The encoder of a captioner in transformers: its own ViT or DeiT, or any timm backbone that gives a sequence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captioner.config import CaptionerConfig
from captioner.models.backbones import backbone_args
from captioner.models.vision import VisionEncoder

_AROUND = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "dist_token": "embeddings.distillation_token",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
}
_LAYER = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
_NAME = re.compile(r"blocks\.(\d+)\.(.+)\.(weight|bias)")


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """An encoder's config and its tensors, by the names of transformers."""

    settings: Mapping[str, Any]
    weights: Mapping[str, Tensor]


def encoder_of(vision: VisionEncoder, config: CaptionerConfig) -> Encoder | None:
    """Return the backbone as an encoder of transformers, or None if it has none that the decoder could read."""
    return _plain_vit(vision.backbone, config) or _timm(vision, config)


def _plain_vit(backbone: nn.Module, config: CaptionerConfig) -> Encoder | None:
    """Return a ViT or DeiT, or None: any tensor, norm or activation that those lack makes another model."""
    names = {name: _translated(name) for name in backbone.state_dict()}
    model: Any = backbone
    if type(backbone).__name__ not in ("VisionTransformer", "VisionTransformerDistilled") or None in names.values():
        return None
    first = model.blocks[0]
    norms = {module.eps for module in backbone.modules() if isinstance(module, nn.LayerNorm)}
    patch, size = model.patch_embed.proj.kernel_size, model.patch_embed.img_size
    width, tokens = model.embed_dim, 1 + hasattr(model, "dist_token")
    square = len(set(patch)) == 1 and len(set(size)) == 1 and size[0] == config.preprocess.size
    plain = (
        {"cls_token", "pos_embed", "norm.weight"} <= names.keys()
        and square
        and len(norms) == 1
        and model.pos_embed.shape[1] == (size[0] // patch[0]) ** 2 + tokens
        and type(first.mlp.act) is nn.GELU
        and first.mlp.act.approximate == "none"
        and not getattr(model, "no_embed_class", False)
    )
    if not plain:
        return None
    settings = {
        "model_type": "deit" if tokens == 2 else "vit",
        "hidden_size": width,
        "num_hidden_layers": len(model.blocks),
        "num_attention_heads": first.attn.num_heads,
        "intermediate_size": first.mlp.fc1.out_features,
        "hidden_act": "gelu",
        "layer_norm_eps": norms.pop(),
        "image_size": size[0],
        "patch_size": patch[0],
        "num_channels": 3,
        "qkv_bias": first.attn.qkv.bias is not None,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    weights: dict[str, Tensor] = {}
    for name, value in backbone.state_dict().items():
        theirs = names[name] or ""
        if "{part}" in theirs:
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                weights[theirs.format(part=part)] = piece
        else:
            weights[theirs] = value
    # A decoder reads no pooler, but transformers builds one, and warns of missing weights.
    weights |= {"pooler.dense.weight": torch.zeros(width, width), "pooler.dense.bias": torch.zeros(width)}
    return Encoder(settings=settings, weights=weights)


def _translated(name: str) -> str | None:
    """Return transformers' name of a ViT's tensor, with a placeholder for queries, keys and values; None if unknown."""
    if name in _AROUND:
        return _AROUND[name]
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    layer, part, kind = found.groups()
    if part == "attn.qkv":
        return f"encoder.layer.{layer}.attention.attention.{{part}}.{kind}"
    return f"encoder.layer.{layer}.{_LAYER[part]}.{kind}" if part in _LAYER else None


def _timm(vision: VisionEncoder, config: CaptionerConfig) -> Encoder | None:
    """Return a ``TimmWrapperModel``, or None if its output would not be the features that the decoder reads.

    It would not for a map, for norms of another epsilon, and for PiT, whose ``forward_features`` omits the patches.
    """
    if config.vision.norm_eps is not None:
        return None
    side = config.preprocess.size
    device = next(vision.parameters()).device
    pixels = torch.rand(1, 3, side, side, device=device)
    with torch.no_grad():
        given, read = vision.backbone.forward_features(pixels), vision.features(pixels).values  # type: ignore[operator]
    if not isinstance(given, Tensor) or given.shape != read.shape or not torch.allclose(given, read, atol=1e-4):
        return None
    settings = {
        "model_type": "timm_wrapper",
        "architecture": config.vision.backbone,
        "model_args": dict(backbone_args(config.vision, config.preprocess)),
        "hidden_size": vision.channels,
        "do_pooling": False,
        "num_classes": 0,
        "label_names": [],
    }
    weights = {f"timm_model.{name}": value for name, value in vision.backbone.state_dict().items()}
    return Encoder(settings=settings, weights=weights)
