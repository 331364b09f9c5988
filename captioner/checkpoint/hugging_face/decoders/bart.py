"""BART, MBart and TrOCR as decoders: conversion of settings and weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from captioner.checkpoint.hugging_face.files import ACTIVATIONS, block_names, rename, require, weights_and_biases
from captioner.config import DecoderConfig, from_dict
from captioner.errors import CheckpointError, ConfigError, quoted

OFFSET = 2  # the first two rows of a learned position table are never read
_BLOCK = {
    "self_attn.out_proj": "self_attn.out_proj",
    "self_attn_layer_norm": "self_norm",
    "encoder_attn.q_proj": "cross_attn.q_proj",
    "encoder_attn.out_proj": "cross_attn.out_proj",
    "encoder_attn_layer_norm": "cross_norm",
    "fc1": "fc1",
    "fc2": "fc2",
    "final_layer_norm": "mlp_norm",
}
_FUSED = {
    "self_attn.qkv_proj": [f"self_attn.{part}_proj" for part in "qkv"],
    "cross_attn.kv_proj": [f"encoder_attn.{part}_proj" for part in "kv"],
}
_AROUND = {"layernorm_embedding": "embedding_norm", "layer_norm": "final_norm"}
_HEADS = ("lm_head.weight", "output_projection.weight")
_UNUSED = re.compile(r"embed_positions\._float_tensor|version")
_SUPPORTED = {"activation_function": tuple(ACTIVATIONS)}


def decoder_config(values: Mapping[str, Any], *, memory_width: int | None, source: object) -> DecoderConfig:
    """Return the config of a decoder equivalent to a BART, MBart or TrOCR with these settings.

    MBart has pre-norm blocks and a final norm. Raises ``CheckpointError`` for a setting that changes the result and has
    no counterpart here.
    """
    require(values, _SUPPORTED, source)
    kind, width = values.get("model_type"), values.get("d_model", 1024)
    scaled = bool(values.get("scale_embedding", False))
    try:
        return from_dict(
            DecoderConfig,
            {
                "vocab_size": values.get("vocab_size", 50265),
                "context": values.get("max_position_embeddings", 512 if kind == "trocr" else 1024),
                "width": width,
                "layers": values.get("decoder_layers", 12),
                "heads": values.get("decoder_attention_heads", 16),
                "mlp_width": values.get("decoder_ffn_dim", 4096),
                "dropout": values.get("dropout", 0.1),
                "norm": "pre" if kind == "mbart" else "post",
                "activation": ACTIVATIONS[values.get("activation_function", "gelu")],
                "embedding_norm": kind != "trocr" or bool(values.get("layernorm_embedding", True)),
                "embedding_scale": math.sqrt(width) if scaled and isinstance(width, int) and width > 0 else 1.0,
                "final_norm": kind == "mbart",
                "head": "tied" if values.get("tie_word_embeddings", True) else "untied",
                "memory_width": memory_width,
            },
        )
    except ConfigError as error:
        raise CheckpointError(f"{source} does not describe a BART decoder ({error}); check its config.json") from error


def decoder_weights(
    values: Mapping[str, Any], state: Mapping[str, Tensor], config: DecoderConfig, source: object
) -> dict[str, Tensor]:
    """Convert BART's tensors to the decoder's names; sinusoidal positions become a table.

    Raises ``CheckpointError`` for tensors that are not BART's, and for an output head that should be tied but is not.
    """
    inner = {name.removeprefix("model.").removeprefix("decoder."): value for name, value in state.items()}
    words = inner.get("embed_tokens.weight")
    heads = [inner.pop(name) for name in _HEADS if name in inner]
    if config.head == "tied" and any(words is None or not torch.equal(head, words) for head in heads):
        raise CheckpointError(
            f"{source} has an output head that differs from its token embedding, but its config.json ties them; set "
            "tie_word_embeddings there"
        )
    positions = inner.pop("embed_positions.weight", None)
    inner.pop("embed_positions.weights", None)
    names = {"embed_tokens.weight": "token_embedding.weight"}
    pairs = dict(_AROUND)
    pairs |= block_names(inner, config.layers, "layers.{}", _BLOCK, _FUSED)
    weights = rename(inner, names | weights_and_biases(pairs), _UNUSED, source)
    if config.head == "untied" and heads:
        weights["lm_head.weight"] = heads[0]
    if values.get("model_type") == "trocr" and not values.get("use_learned_position_embeddings", True):
        weights["position_embedding.weight"] = sinusoids(
            config.context, config.width, first=_first_place(values, source)
        )
    elif positions is not None:
        weights["position_embedding.weight"] = positions[OFFSET:]
    return weights


def _first_place(values: Mapping[str, Any], source: object) -> int:
    """Return the place of the first token among sinusoids, which follows that of padding.

    Raises ``CheckpointError`` for padding that is no token.
    """
    pad = values.get("pad_token_id", 1)
    if isinstance(pad, bool) or not isinstance(pad, int) or not 0 <= pad < values.get("vocab_size", 50265):
        raise CheckpointError(f"{source} has pad_token_id {quoted(pad)}, which is no token; check its config.json")
    return pad + 1


def sinusoids(context: int, width: int, *, first: int) -> Tensor:
    """Return fixed position embeddings (T, D) from place ``first`` on.

    Sines come first, then cosines (Vaswani et al. 2017, 3.5, in fairseq's order).
    """
    half = width // 2
    rates = torch.exp(torch.arange(half).float() * -(math.log(10000) / (half - 1)))
    angles = (torch.arange(context).float() + first)[:, None] * rates  # (T, D / 2)
    table = torch.cat([angles.sin(), angles.cos()], dim=1)
    return torch.nn.functional.pad(table, (0, width - 2 * half))
