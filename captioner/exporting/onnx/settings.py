"""The settings and the tokenizer of an export, in the files that transformers.js reads, and those for this package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from captioner.checkpoint import Checkpoint
from captioner.checkpoint.card import write_card
from captioner.checkpoint.files import EXPORT
from captioner.config import CaptionerConfig, PreprocessConfig, to_dict
from captioner.errors import UsageError
from captioner.exporting.decoding import defaults_of
from captioner.exporting.onnx.convert import ImageShape
from captioner.exporting.vision_encoder_decoder import processor_settings
from captioner.inference.onnx.layout import FORMAT


def check_layout(config: CaptionerConfig) -> None:
    """Raise ``UsageError`` for a captioner that the layout cannot express."""
    if config.question is not None:
        raise UsageError(
            "a captioner that answers questions cannot be exported to ONNX: the layout has no encoder of questions; "
            "export one that captions"
        )
    if config.preprocess.aspect == "pad":
        raise UsageError(
            "a captioner with preprocess.aspect pad cannot be exported to ONNX: transformers.js does not pad with a "
            "colour; choose one with squash or crop"
        )


def write_settings(checkpoint: Checkpoint, image: ImageShape, folder: Path) -> None:
    """Write every file of an export but its graphs into ``folder``."""
    config = checkpoint.config
    texts = {
        "config.json": _json(model_settings(config)),
        "generation_config.json": _json(generation_settings(checkpoint)),
        "preprocessor_config.json": _json(preprocessor_settings(config.preprocess)),
        "tokenizer_config.json": _json(_tokenizer_settings(checkpoint)),
        "tokenizer.json": checkpoint.tokenizer.to_json(),
        EXPORT: _json(
            {
                "format": FORMAT,
                "target": "onnx",
                "config": to_dict(replace(config, heads=None)),
                "generation": to_dict(checkpoint.generation),
                "image": {"grid": list(image.grid), "prefix": image.prefix},
                "training": dict(checkpoint.training),
            }
        ),
        "README.md": checkpoint.card or write_card(config, checkpoint.training),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def model_settings(config: CaptionerConfig) -> dict[str, Any]:
    """Return config.json: a ViT and a GPT-2 by name, whose sizes give transformers.js the shape of an empty cache."""
    decoder, text = config.decoder, config.text
    return {
        "model_type": "vision-encoder-decoder",
        "architectures": ["VisionEncoderDecoderModel"],
        "is_encoder_decoder": True,
        "encoder": {
            "model_type": "vit",
            "image_size": config.preprocess.size,
            "hidden_size": 2 * decoder.layers * decoder.heads_width,
        },
        "decoder": {
            "model_type": "gpt2",
            "add_cross_attention": True,
            "is_decoder": True,
            "n_layer": decoder.layers,
            "n_head": decoder.heads,
            "n_embd": decoder.heads_width,  # transformers.js divides it by the heads
            "n_positions": decoder.context,
            "vocab_size": decoder.vocab_size,
        },
        "decoder_start_token_id": text.bos_id,
        "bos_token_id": text.bos_id,
        "eos_token_id": text.eos_id,
        "pad_token_id": text.pad_id,
    }


def generation_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return generation_config.json: greedy search in the default language, with the rules that transformers.js has.

    A prefix follows the start token: it takes a list of lists for the batch of one photo that it generates at a time.
    """
    defaults = defaults_of(checkpoint)
    text = defaults.text
    begun = [text.bos_id, *defaults.prefix]
    settings: dict[str, Any] = {
        "decoder_start_token_id": begun[0] if len(begun) == 1 else [begun],
        "bos_token_id": text.bos_id,
        "eos_token_id": text.eos_id,
        "pad_token_id": text.pad_id,
        **defaults.lengths,
    }
    if defaults.no_repeat_ngram:
        settings["no_repeat_ngram_size"] = defaults.no_repeat_ngram
    return settings


def preprocessor_settings(config: PreprocessConfig) -> dict[str, Any]:
    """Return preprocessor_config.json."""
    kind = {"image_processor_type": "ViTImageProcessor", "do_convert_rgb": True}  # all that transformers.js reads
    return {**processor_settings(config), **kind}


def _tokenizer_settings(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return tokenizer_config.json, by which a caption is decoded without its special tokens."""
    text, model = checkpoint.config.text, checkpoint.tokenizer.model
    special = {"bos_token": text.bos_id, "eos_token": text.eos_id, "pad_token": text.pad_id}
    starts = [model.id_to_token(token) for token in text.languages.values() if token != text.bos_id]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": checkpoint.config.decoder.context,
        **{name: model.id_to_token(token) for name, token in special.items()},
        "additional_special_tokens": starts,
    }


def _json(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
