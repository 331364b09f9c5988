"""Settings of transformers' ``generate()``: the special tokens and the decoding defaults of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captioner.checkpoint.files import read_json
from captioner.config import GenerationConfig, TextConfig, WordRules, from_dict
from captioner.errors import CheckpointError, ConfigError

# Unsupported settings of generate(), with the values that turn them off.
_IGNORED = {
    "do_sample": False,
    "min_length": 0,
    "min_new_tokens": 0,
    "repetition_penalty": 1.0,
    "bad_words_ids": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}
_BART = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "decoder_start_token_id": 2}
_TOKENS = {  # transformers' defaults by model_type of the decoder
    "gpt2": {"bos_token_id": 50256, "eos_token_id": 50256},
    "bert": {"pad_token_id": 0},
    "roberta": {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
    "bart": _BART,
    "mbart": _BART,
    "trocr": _BART,
}


def read_settings(directory: Path, *levels: Mapping[str, Any], decoder: str) -> dict[str, Any]:
    """Merge the settings of generate(): the ``decoder`` type's own, then ``levels``, then generation_config.json."""
    settings: dict[str, Any] = dict(_TOKENS.get(decoder, {}))
    path = directory / "generation_config.json"
    for level in (*levels, read_json(path) if path.exists() else {}):
        settings |= {name: value for name, value in level.items() if value is not None}
    return settings


def ignored_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of generate() that change a caption and have no counterpart here."""
    return {name: settings[name] for name, off in _IGNORED.items() if settings.get(name, off) != off}


def text_config(settings: Mapping[str, Any], vocab_size: int, source: object) -> TextConfig:
    """Return the special tokens. Raises ``CheckpointError`` for a missing one and for one outside the vocabulary."""
    start = settings.get("decoder_start_token_id", settings.get("bos_token_id"))
    end = settings.get("eos_token_id")
    end = end[0] if isinstance(end, list) and len(end) == 1 else end
    ids: dict[str, Any] = {
        "decoder_start_token_id": start,
        "eos_token_id": end,
        "pad_token_id": settings.get("pad_token_id", end),
    }
    for name, token in ids.items():
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < vocab_size:
            raise CheckpointError(
                f"{source} has {name} {token!r}, which is not an id of its {vocab_size} tokens; correct its config.json"
            )
    return TextConfig(
        bos_id=ids["decoder_start_token_id"], eos_id=ids["eos_token_id"], pad_id=ids["pad_token_id"], lowercase=False
    )


def generation_config(settings: Mapping[str, Any], source: object) -> GenerationConfig:
    """Return the decoding defaults; transformers counts the start token in ``max_length``, 20 by default."""
    length = settings.get("max_length", 20)
    most = settings.get("max_new_tokens", length - 1 if isinstance(length, int) else length)
    try:
        return from_dict(
            GenerationConfig,
            {
                "beams": settings.get("num_beams", 1),
                "max_tokens": most,
                "length_penalty": settings.get("length_penalty", 1.0),
                "rules": {"no_repeat_ngram": settings.get("no_repeat_ngram_size", WordRules.no_repeat_ngram)},
            },
        )
    except ConfigError as error:
        raise CheckpointError(f"{source} has generation settings that cannot be used: {error}") from error
