"""GPT-2 as a decoder: conversion of settings and weights, and initialisation from a language model."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from captioner.checkpoint.files import read_json
from captioner.checkpoint.hugging_face.files import (
    block_names,
    locate,
    read_tokenizer,
    read_weights,
    rename,
    require,
    weights_and_biases,
)
from captioner.config import DecoderConfig, TextConfig, from_dict
from captioner.errors import CheckpointError, ConfigError
from captioner.models.decoder import Decoder
from captioner.models.fit import load_weights
from captioner.text import CaptionTokenizer

# GPT-2's names of the decoder's modules, and of those of a block
AROUND = {"wte": "token_embedding", "wpe": "position_embedding", "ln_f": "final_norm"}
BLOCK = {
    "ln_1": "self_norm",
    "attn.c_attn": "self_attn.qkv_proj",
    "attn.c_proj": "self_attn.out_proj",
    "ln_cross_attn": "cross_norm",
    "crossattention.q_attn": "cross_attn.q_proj",
    "crossattention.c_attn": "cross_attn.kv_proj",
    "crossattention.c_proj": "cross_attn.out_proj",
    "ln_2": "mlp_norm",
    "mlp.c_fc": "fc1",
    "mlp.c_proj": "fc2",
}
_CONV1D = re.compile(r"\.[cq]_\w+\.weight$")  # transformers stores these as (in, out)
_MASKS = re.compile(r"h\.\d+\.(attn|crossattention)\.(masked_)?bias")  # buffers in older files
_NOT_OF_GPT2 = re.compile(r"\.cross_|\.read\.gate\.")
_SUPPORTED = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),  # two names of the same formula
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
}


def decoder_config(values: Mapping[str, Any], *, memory_width: int | None, source: object) -> DecoderConfig:
    """Return the config of a decoder equivalent to a GPT-2 with these settings (its config.json).

    ``memory_width``: the width of the tokens that its cross-attention reads, if not its own. Raises ``CheckpointError``
    for a setting that changes the result and has no counterpart here.
    """
    require(values, _SUPPORTED, source)
    try:
        return from_dict(
            DecoderConfig,
            {
                "vocab_size": values.get("vocab_size", 50257),
                "context": values.get("n_positions", 1024),
                "width": values.get("n_embd", 768),
                "layers": values.get("n_layer", 12),
                "heads": values.get("n_head", 12),
                "mlp_width": values.get("n_inner"),
                "dropout": values.get("resid_pdrop", 0.1),
                "norm_eps": values.get("layer_norm_epsilon", 1e-5),
                "memory_width": memory_width,
            },
        )
    except ConfigError as error:
        raise CheckpointError(f"{source} does not describe a GPT-2 ({error}); check its config.json") from error


def decoder_weights(
    values: Mapping[str, Any], state: Mapping[str, Tensor], config: DecoderConfig, source: object
) -> dict[str, Tensor]:
    """Convert GPT-2's tensors to the decoder's names and layout.

    Raises ``CheckpointError`` for tensors that are not GPT-2's and for an untied output head.
    """
    inner = {name.removeprefix("transformer."): value for name, value in state.items()}
    head = inner.pop("lm_head.weight", None)
    if head is not None and not torch.equal(head, inner.setdefault("wte.weight", head)):
        raise CheckpointError(
            f"{source} has an output head that differs from its token embedding; only models with tied weights can "
            "be imported"
        )
    transposed = {name: value.T if _CONV1D.search(name) else value for name, value in inner.items()}
    pairs = AROUND | block_names(transposed, config.layers, "h.{}", BLOCK, {})
    return rename(transposed, weights_and_biases(pairs), _MASKS, source)


def load_gpt2(decoder: Decoder, source: str | os.PathLike[str]) -> None:
    """Initialise ``decoder`` from a ``gpt2`` language model: a directory or hub id.

    Width, depth, heads and vocabulary must be GPT-2's; the context may be shorter. Weights that GPT-2 lacks
    (cross-attention, the gates of mixed reads) keep their values. Raises ``CheckpointError`` for a missing model and
    for one that does not fit.
    """
    directory = locate(source)
    values = read_json(directory / "config.json")
    if values.get("model_type") != "gpt2":
        raise CheckpointError(f"{source} is of type {values.get('model_type')!r}; decoder weights must be of type gpt2")
    gpt2, config = decoder_config(values, memory_width=None, source=source), decoder.config
    if gpt2.context < config.context:
        raise CheckpointError(f"{source} has {gpt2.context} positions; set decoder.context to that or less")
    for name in ("vocab_size", "width", "layers", "heads", "mlp_width", "norm_eps"):
        theirs, ours = (getattr(c, name) or 4 * c.width for c in (gpt2, config))
        if theirs != ours:
            raise CheckpointError(f"{source} has {name} {theirs}, the decoder {ours}; set decoder.{name}={theirs}")
    weights = decoder_weights(values, read_weights(directory), gpt2, source)
    if "position_embedding.weight" in weights:
        weights["position_embedding.weight"] = weights["position_embedding.weight"][: config.context]
    kept = {name: value for name, value in decoder.state_dict().items() if _NOT_OF_GPT2.search(name)}
    load_weights(decoder, kept | weights, source)


def gpt2_tokenizer(source: str | os.PathLike[str], *, lowercase: bool) -> CaptionTokenizer:
    """Load GPT-2's tokenizer from a directory or hub id; its only special token is start, end and padding.

    Raises ``CheckpointError`` if the tokenizer or that token is missing.
    """
    tokenizer = read_tokenizer(locate(source), TextConfig(bos_id=0, eos_id=0, pad_id=0, lowercase=lowercase))
    end = tokenizer.model.token_to_id("<|endoftext|>")
    if end is None:
        raise CheckpointError(f"the tokenizer of {source} has no <|endoftext|>; use one of GPT-2's")
    return tokenizer.with_config(TextConfig(bos_id=end, eos_id=end, pad_id=end, lowercase=lowercase))
