"""Conversion of a captioner that was exported to transformers, and maybe trained there, back to a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captioner.checkpoint.directory import Checkpoint
from captioner.checkpoint.files import LONGEST_TEXT, read_json
from captioner.checkpoint.hugging_face.building import build, part_of, require_layers
from captioner.checkpoint.hugging_face.files import read_weights
from captioner.config import CaptionerConfig, GenerationConfig, from_dict
from captioner.errors import CheckpointError, ConfigError
from captioner.text import CaptionTokenizer


def convert_own(directory: Path, values: Mapping[str, Any], source: str) -> Checkpoint:
    """Convert the ``CaptionerForConditionalGeneration`` in ``directory``, whose config.json holds ``values``.

    The decoding defaults are those of the captioner that was exported. Raises ``CheckpointError`` for a missing or
    damaged file, and for files that do not fit together.
    """
    try:
        config = from_dict(CaptionerConfig, _table(values, "captioner"))
        generation = from_dict(GenerationConfig, _table(values, "generation"))
    except ConfigError as error:
        raise CheckpointError(f"config.json of {source} describes no captioner: {error}") from error
    state = part_of(read_weights(directory), "captioner.")
    require_layers(config.decoder.layers, state, source)
    model = build({name: getattr(config, name) for name in CaptionerConfig.__dataclass_fields__}, {"": state}, source)
    tokenizer = CaptionTokenizer.from_json(
        json.dumps(_plain(read_json(directory / "tokenizer.json", most=LONGEST_TEXT))),
        config.text,
        ids=config.decoder.vocab_size,
    )
    return Checkpoint(model, tokenizer, generation, {"converted_from": source})


def _table(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = values.get(name)
    return table if isinstance(table, dict) else {}


def _plain(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer.json without what the export added: the end token, and the strip of a first space."""
    decoder = tokenizer.get("decoder")
    steps = decoder.get("decoders") if isinstance(decoder, dict) else None
    if isinstance(steps, list) and len(steps) == 2 and steps[1] == STRIP:
        decoder = steps[0]
    return {**tokenizer, "decoder": decoder, "post_processor": None, "padding": None, "truncation": None}


STRIP = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
"""The last step of an exported tokenizer's decoder, in tokenizer.json."""
