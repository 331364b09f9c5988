"""BLIP's vision encoder: a ViT under other names (Li et al. 2022), conversion of settings and weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from captioner.checkpoint.hugging_face.encoders.shared import Names, number, plain_blocks, to_timm_names, whole
from captioner.checkpoint.hugging_face.encoders.vit import transformer_args
from captioner.checkpoint.hugging_face.files import weights_and_biases
from captioner.config import VisionConfig

_NAMES = Names(
    around={
        "embeddings.class_embedding": "cls_token",
        "embeddings.position_embedding": "pos_embed",
        **weights_and_biases({"embeddings.patch_embedding": "patch_embed.proj", "post_layernorm": "norm"}),
    },
    layer=weights_and_biases(
        {
            "layer_norm1": "norm1",
            "self_attn.qkv": "attn.qkv",
            "self_attn.projection": "attn.proj",
            "layer_norm2": "norm2",
            "mlp.fc1": "mlp.fc1",
            "mlp.fc2": "mlp.fc2",
        }
    ),
    prefixes=("encoder.layers.{i}.",),
)


def vision_config(values: Mapping[str, Any], *, project: bool, source: object, size: int) -> VisionConfig:
    """Return the config of an encoder equivalent to a BlipVisionModel with these settings, with its final norm.

    Epsilon is config.json's: 1e-5 in transformers, 1e-6 in the original repository. Raises ``CheckpointError`` for a
    setting that changes the result and has no counterpart here.
    """
    return VisionConfig(
        backbone="vit_base_patch16_384",
        backbone_args=transformer_args(values, source, size=size),
        norm=False,
        positions=False,
        project=project,
        norm_eps=number(values, "layer_norm_eps", 1e-5, 1, source),
    )


def vision_weights(values: Mapping[str, Any], state: Mapping[str, Tensor], source: object) -> dict[str, Tensor]:
    """Convert the encoder's tensors to timm's names. Raises ``CheckpointError`` for tensors that are not BLIP's."""
    return to_timm_names(state, _NAMES, plain_blocks(whole(values, "num_hidden_layers", 12, "depth", source)), source)
