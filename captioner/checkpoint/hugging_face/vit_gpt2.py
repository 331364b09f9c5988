"""Conversion of a Hugging Face ``VisionEncoderDecoderModel`` such as nlpconnect/vit-gpt2-image-captioning.

The result computes the same logits and finds the same captions. A setting without an exact counterpart is an error,
never a silently worse caption. Searches end as with transformers' ``early_stopping="never"``, which is exact; its
default may stop before the best caption is found.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captioner.checkpoint import Checkpoint
from captioner.checkpoint.files import read_json
from captioner.checkpoint.hugging_face.encoders import (
    ENCODERS,
    encoder_config,
    encoder_weights,
    input_config,
    read_processor,
)
from captioner.checkpoint.hugging_face.files import locate, read_tokenizer, read_weights
from captioner.checkpoint.hugging_face.gpt2 import decoder_config, decoder_weights
from captioner.config import CaptionerConfig, GenerationConfig, TextConfig, from_dict
from captioner.errors import CheckpointError, ConfigError
from captioner.models.captioner import Captioner
from captioner.models.fit import check_sizes, load_weights

# Unsupported settings of generate(), with the values that turn them off.
_IGNORED = {
    "do_sample": False,
    "min_length": 0,
    "min_new_tokens": 0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
}


def convert(source: str | os.PathLike[str]) -> Checkpoint:
    """Convert a directory or hub repository with one of ``ENCODERS`` and a GPT-2 decoder to a captioner.

    It reads config.json, generation_config.json (optional), the image processor, the weights and the tokenizer.
    Generation settings without a counterpart are listed in the result's ``training["generation_ignored"]``. Raises
    ``CheckpointError`` for a missing or damaged file, another architecture, or an unsupported setting.
    """
    directory = locate(source)
    values = read_json(directory / "config.json")
    encoder, decoder = (part if isinstance(part, dict) else {} for part in map(values.get, ("encoder", "decoder")))
    kinds = [part.get("model_type") for part in (values, encoder, decoder)]
    if kinds[0] != "vision-encoder-decoder" or kinds[1] not in ENCODERS or kinds[2] != "gpt2":
        raise CheckpointError(
            f"{source} is of type {kinds[0]!r} with encoder {kinds[1]!r} and decoder {kinds[2]!r}; only a "
            f"vision-encoder-decoder of {', '.join(ENCODERS[:-1])} or {ENCODERS[-1]} with gpt2 can be converted"
        )
    settings = _settings(directory, values, decoder)
    state = read_weights(directory)
    preprocess = input_config(read_processor(directory), encoder, source)
    project = "enc_to_dec_proj.weight" in state
    vision = encoder_config(encoder, project=project, source=source, size=preprocess.size)
    gpt2 = decoder_config(decoder, source)
    text = _text(settings, gpt2.vocab_size, source)
    if gpt2.layers > len(state):
        raise CheckpointError(f"config.json of {source} names more layers than its weights have; download it again")
    parts = {
        "vision.backbone.": encoder_weights(encoder, _part(state, "encoder."), source, preprocess.size),
        "vision.proj.": _part(state, "enc_to_dec_proj."),
        "decoder.": decoder_weights(_part(state, "decoder."), gpt2.layers, source),
    }
    weights = {prefix + name: value for prefix, part in parts.items() for name, value in part.items()}
    try:
        config = CaptionerConfig(vision=vision, decoder=gpt2, text=text, preprocess=preprocess)
        check_sizes(config, {name: tuple(value.shape) for name, value in weights.items()}, source)
        model = Captioner(config)
    except ConfigError as error:
        raise CheckpointError(f"config.json of {source} describes a model that cannot be built: {error}") from error
    load_weights(model, weights, source)
    ignored = {name: settings[name] for name, off in _IGNORED.items() if settings.get(name, off) != off}
    training = {"converted_from": os.fspath(source), "generation_ignored": ignored}
    return Checkpoint(model.eval(), read_tokenizer(directory, text), _generation(settings, source), training)


def _part(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _settings(directory: Path, values: Mapping[str, Any], decoder: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the settings of generate(): generation_config.json, then config.json, its decoder, GPT-2's own ids."""
    settings: dict[str, Any] = {"bos_token_id": 50256, "eos_token_id": 50256}
    path = directory / "generation_config.json"
    for level in (decoder, values, read_json(path) if path.exists() else {}):
        settings |= {name: value for name, value in level.items() if value is not None}
    return settings


def _text(settings: Mapping[str, Any], vocab_size: int, source: object) -> TextConfig:
    start = settings.get("decoder_start_token_id", settings["bos_token_id"])
    end = settings["eos_token_id"]
    end = end[0] if isinstance(end, list) and len(end) == 1 else end
    ids = {"decoder_start_token_id": start, "eos_token_id": end, "pad_token_id": settings.get("pad_token_id", end)}
    for name, token in ids.items():
        if not isinstance(token, int) or not 0 <= token < vocab_size:
            raise CheckpointError(
                f"{source} has {name} {token!r}, which is not an id of its {vocab_size} tokens; correct its config.json"
            )
    return TextConfig(bos_id=start, eos_id=end, pad_id=ids["pad_token_id"], lowercase=False)


def _generation(settings: Mapping[str, Any], source: object) -> GenerationConfig:
    length = settings.get("max_length", 20)
    most = settings.get("max_new_tokens", length - 1 if isinstance(length, int) else length)  # without the start token
    try:
        return from_dict(
            GenerationConfig,
            {
                "beams": settings.get("num_beams", 1),
                "max_tokens": most,
                "length_penalty": settings.get("length_penalty", 1.0),
            },
        )
    except ConfigError as error:
        raise CheckpointError(f"{source} has generation settings that cannot be used: {error}") from error
