"""Text models of Hugging Face as decoders: conversion of their settings and weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from captioner.checkpoint.hugging_face.decoders import bart, bert, gpt2
from captioner.config import DecoderConfig


class Family(Protocol):
    """A module that converts one family of decoders."""

    def decoder_config(
        self, values: Mapping[str, Any], *, memory_width: int | None, source: object
    ) -> DecoderConfig: ...

    def decoder_weights(
        self, values: Mapping[str, Any], state: Mapping[str, Tensor], config: DecoderConfig, source: object
    ) -> dict[str, Tensor]: ...


DECODERS: Mapping[str, Family] = {  # by Hugging Face's model_type
    "gpt2": gpt2,
    "bert": bert,
    "roberta": bert,
    "blip_text_model": bert,
    "bart": bart,
    "mbart": bart,
    "trocr": bart,
}
"""The decoders that can be imported."""
