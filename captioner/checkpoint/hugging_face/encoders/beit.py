"""BEiT as a vision encoder (Bao et al. 2022): conversion of settings and weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from captioner.checkpoint.hugging_face.encoders.shared import (
    Names,
    number,
    plain_blocks,
    switch,
    to_timm_names,
    whole,
)
from captioner.checkpoint.hugging_face.encoders.vit import AROUND, LAYER, transformer_args
from captioner.checkpoint.hugging_face.files import weights_and_biases
from captioner.config import VisionConfig

_TABLE = "relative_position_bias_table"
_NAMES = Names(
    around={
        **AROUND,
        **weights_and_biases({"pooler.layernorm": "fc_norm"}),
        f"encoder.relative_position_bias.{_TABLE}": f"rel_pos_bias.{_TABLE}",
        f"shared_position_bias.{_TABLE}": f"rel_pos_bias.{_TABLE}",
    },
    layer={
        **LAYER,
        "attention.attention.query.bias": "attn.q_bias",  # keys have no bias
        "attention.attention.value.bias": "attn.v_bias",
        "attention.q_proj.bias": "attn.q_bias",
        "attention.v_proj.bias": "attn.v_bias",
        "lambda_1": "gamma_1",
        "lambda_2": "gamma_2",
        f"attention.attention.relative_position_bias.{_TABLE}": f"attn.{_TABLE}",
        f"relative_position_bias.{_TABLE}": f"attn.{_TABLE}",
    },
    unused=re.compile(r"pooler\..*|embeddings\.mask_token|.*\.relative_position_index"),
)


def vision_config(values: Mapping[str, Any], *, project: bool, source: object, size: int) -> VisionConfig:
    """Return the config of an encoder equivalent to a BeitModel with these settings.

    With ``use_mean_pooling`` its features have no final norm. Raises ``CheckpointError`` for a setting that changes the
    result and has no counterpart here.
    """
    return VisionConfig(
        backbone="beit_base_patch16_224",
        backbone_args={
            **transformer_args(values, source, size=size),
            "init_values": number(values, "layer_scale_init_value", 0.1, 10, source),
            "use_abs_pos_emb": switch(values, "use_absolute_position_embeddings", False, source),
            "use_rel_pos_bias": switch(values, "use_relative_position_bias", False, source),
            "use_shared_rel_pos_bias": switch(values, "use_shared_relative_position_bias", False, source),
            "use_fc_norm": switch(values, "use_mean_pooling", True, source),
        },
        norm=False,
        positions=False,
        project=project,
        norm_eps=number(values, "layer_norm_eps", 1e-12, 1, source),
    )


def vision_weights(values: Mapping[str, Any], state: Mapping[str, Tensor], source: object) -> dict[str, Tensor]:
    """Convert the encoder's tensors to timm's names. Raises ``CheckpointError`` for tensors that are not BEiT's."""
    depth = whole(values, "num_hidden_layers", 12, "depth", source)
    weights = to_timm_names(state, _NAMES, plain_blocks(depth), source)
    if switch(values, "use_mean_pooling", True, source):  # timm's norm after pooling, which no caption needs
        width = whole(values, "hidden_size", 768, "embed_dim", source)
        weights = {"fc_norm.weight": torch.ones(width), "fc_norm.bias": torch.zeros(width)} | weights
    return weights
