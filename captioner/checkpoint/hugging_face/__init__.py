"""Import: conversion of Hugging Face checkpoints to captioners, weight for weight, without transformers.

May import what ``captioner.checkpoint`` may, and ``directory.py`` and ``files.py`` there. Start reading at
``vision_encoder_decoder.py``; ``encoders/`` and ``decoders/`` convert the parts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from captioner.checkpoint.directory import Checkpoint
from captioner.checkpoint.files import read_json
from captioner.checkpoint.hugging_face.blip import convert_blip
from captioner.checkpoint.hugging_face.decoders.gpt2 import gpt2_tokenizer, load_gpt2
from captioner.checkpoint.hugging_face.files import locate
from captioner.checkpoint.hugging_face.own import convert_own
from captioner.checkpoint.hugging_face.vision_encoder_decoder import convert_vision_encoder_decoder
from captioner.errors import CheckpointError, quoted

__all__ = ["convert", "gpt2_tokenizer", "load_gpt2"]

CONVERTERS: Mapping[str, Callable[[Path, Mapping[str, Any], str], Checkpoint]] = {  # by model_type
    "vision-encoder-decoder": convert_vision_encoder_decoder,
    "blip": convert_blip,
    "captioner": convert_own,  # exported to transformers
}


def convert(source: str | os.PathLike[str]) -> Checkpoint:
    """Convert a directory or hub repository of Hugging Face to a captioner.

    Print to stderr what was corrected, and which decoding defaults are not applied. Raises ``CheckpointError`` for a
    missing or damaged file, another kind of model, or an unsupported setting.
    """
    directory = locate(source)
    values = read_json(directory / "config.json")
    kind = values.get("model_type")
    if kind not in list(CONVERTERS):
        raise CheckpointError(
            f"{source} is of type {kind!r}; types that can be converted: {', '.join(CONVERTERS)} (docs/models.md)"
        )
    checkpoint = CONVERTERS[kind](directory, values, os.fspath(source))
    for sentence in checkpoint.training.get("corrected", ()):
        print(sentence, file=sys.stderr)
    if ignored := checkpoint.training.get("generation_ignored"):
        listed = ", ".join(f"{name} {quoted(value)}" for name, value in ignored.items())
        print(f"captioner does not apply these settings of {source}: {listed} (docs/models.md)", file=sys.stderr)
    return checkpoint
