"""BERT, RoBERTa and BLIP's text model as decoders: conversion of settings and weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from captioner.checkpoint.hugging_face.files import ACTIVATIONS, block_names, rename, require, weights_and_biases
from captioner.config import DecoderConfig, from_dict
from captioner.errors import CheckpointError, ConfigError

ROBERTA_OFFSET = 2  # RoBERTa counts positions from its padding token's id + 1
_BLOCK = {
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "self_norm",
    "crossattention.self.query": "cross_attn.q_proj",
    "crossattention.output.dense": "cross_attn.out_proj",
    "crossattention.output.LayerNorm": "cross_norm",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "output.LayerNorm": "mlp_norm",
}
_FUSED = {
    "self_attn.qkv_proj": [f"attention.self.{part}" for part in ("query", "key", "value")],
    "cross_attn.kv_proj": [f"crossattention.self.{part}" for part in ("key", "value")],
}
_HEADS = {  # BERT's and BLIP's names, RoBERTa's
    "cls.predictions.transform.dense": "head_transform.dense",
    "cls.predictions.transform.LayerNorm": "head_transform.norm",
    "lm_head.dense": "head_transform.dense",
    "lm_head.layer_norm": "head_transform.norm",
}
_BIASES = ("cls.predictions.bias", "cls.predictions.decoder.bias", "lm_head.bias", "lm_head.decoder.bias")
_TIED = ("cls.predictions.decoder.weight", "lm_head.decoder.weight")
_UNUSED = re.compile(r"embeddings\.(position_ids|token_type_ids)|pooler\..*")  # buffers of older files, classification
_SUPPORTED = {
    "hidden_act": tuple(ACTIVATIONS),
    "position_embedding_type": ("absolute",),
    "tie_word_embeddings": (True,),
}


def decoder_config(values: Mapping[str, Any], *, memory_width: int | None, source: object) -> DecoderConfig:
    """Return the config of a decoder equivalent to a BERT with these settings.

    ``memory_width``: the width of the tokens that its cross-attention reads, if not its own. Raises ``CheckpointError``
    for a setting that changes the result and has no counterpart here.
    """
    roberta = values.get("model_type") == "roberta"
    require(values, _SUPPORTED | ({"hidden_act": ("gelu",)} if roberta else {}), source)  # its head is GELU always
    offset = ROBERTA_OFFSET if roberta else 0
    if offset and values.get("pad_token_id", 1) != ROBERTA_OFFSET - 1:
        raise CheckpointError(f"{source} has pad_token_id {values['pad_token_id']!r}; RoBERTa's positions need 1")
    context = values.get("max_position_embeddings", 512)
    try:
        return from_dict(
            DecoderConfig,
            {
                "vocab_size": values.get("vocab_size", 50265 if offset else 30522),
                "context": context - offset if isinstance(context, int) else context,
                "width": values.get("hidden_size", 768),
                "layers": values.get("num_hidden_layers", 12),
                "heads": values.get("num_attention_heads", 12),
                "mlp_width": values.get("intermediate_size", 3072),
                "dropout": values.get("hidden_dropout_prob", 0.1),
                "norm_eps": values.get("layer_norm_eps", 1e-12),
                "norm": "post",
                "activation": ACTIVATIONS[values.get("hidden_act", "gelu")],
                "embedding_norm": True,
                "final_norm": False,
                "head": "bert",
                "memory_width": memory_width,
            },
        )
    except ConfigError as error:
        raise CheckpointError(f"{source} does not describe a BERT decoder ({error}); check its config.json") from error


def decoder_weights(
    values: Mapping[str, Any], state: Mapping[str, Tensor], config: DecoderConfig, source: object
) -> dict[str, Tensor]:
    """Convert BERT's tensors to the decoder's names; a decoder without head takes those of the encoder alone.

    Token types are added to the positions: captions have type 0 alone. Raises ``CheckpointError`` for tensors that are
    not BERT's, and for an output head that is not tied.
    """
    inner = {re.sub(r"^(bert|roberta)\.", "", name): value for name, value in state.items()}
    inner = {name.replace(".gamma", ".weight").replace(".beta", ".bias"): value for name, value in inner.items()}
    words = inner.get("embeddings.word_embeddings.weight")
    for tied in _TIED:
        head = inner.pop(tied, None)
        if head is not None and (words is None or not torch.equal(head, words)):
            raise CheckpointError(f"{source} has an output head that differs from its token embedding; it must be tied")
    biases = [inner.pop(name) for name in _BIASES if name in inner]
    if any(not torch.equal(bias, biases[0]) for bias in biases):
        raise CheckpointError(f"{source} has two different biases of its output head; download it again")
    types = inner.pop("embeddings.token_type_embeddings.weight", None)
    positions = inner.pop("embeddings.position_embeddings.weight", None)
    names = {"embeddings.word_embeddings.weight": "token_embedding.weight"}
    pairs = {"embeddings.LayerNorm": "embedding_norm"} | (_HEADS if config.head == "bert" else {})
    pairs |= block_names(inner, config.layers, "encoder.layer.{}", _BLOCK, _FUSED)
    weights = rename(inner, names | weights_and_biases(pairs), _UNUSED, source)
    if positions is not None:
        kept = positions[ROBERTA_OFFSET:] if values.get("model_type") == "roberta" else positions
        weights["position_embedding.weight"] = kept if types is None else kept + types[:1]
    if biases and config.head == "bert":
        weights["lm_head.bias"] = biases[0]
    return weights
