"""Conversion of a Hugging Face ``VisionEncoderDecoderModel`` such as nlpconnect/vit-gpt2-image-captioning.

The result computes the same logits and finds the same captions. A setting without an exact counterpart is an error,
never a silently worse caption. Searches end as with transformers' ``early_stopping="never"``, which is exact; its
default may stop before the best caption is found.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captioner.checkpoint.directory import Checkpoint
from captioner.checkpoint.hugging_face.building import build, part_of, require_layers
from captioner.checkpoint.hugging_face.decoders import DECODERS
from captioner.checkpoint.hugging_face.encoders import (
    ENCODERS,
    encoder_config,
    encoder_weights,
    input_config,
    read_processor,
)
from captioner.checkpoint.hugging_face.files import read_tokenizer, read_weights
from captioner.checkpoint.hugging_face.settings import generation_config, ignored_settings, read_settings, text_config
from captioner.errors import CheckpointError

_READING = [kind for kind in DECODERS if kind != "blip_text_model"]
_SEEING = [kind for kind in ENCODERS if kind != "blip_vision_model"]


def convert_vision_encoder_decoder(directory: Path, values: Mapping[str, Any], source: str) -> Checkpoint:
    """Convert the ``VisionEncoderDecoderModel`` in ``directory``, whose config.json holds ``values``.

    It reads generation_config.json (optional), preprocessor_config.json, the weights and the tokenizer too. Generation
    settings that are not applied are listed in the result's ``training["generation_ignored"]``. Raises
    ``CheckpointError`` for a missing or damaged file, another architecture, or an unsupported setting.
    """
    encoder, decoder = (part if isinstance(part, dict) else {} for part in map(values.get, ("encoder", "decoder")))
    seeing, reading = (part.get("model_type") for part in (encoder, decoder))
    if seeing not in _SEEING or reading not in _READING:
        raise CheckpointError(
            f"{source} has encoder {seeing!r} and decoder {reading!r}; a vision-encoder-decoder can be converted with "
            f"an encoder of type {', '.join(_SEEING)} and a decoder of type {', '.join(_READING)}"
        )
    settings = read_settings(directory, decoder, values, decoder=reading)
    state = read_weights(directory)
    projected = "enc_to_dec_proj.weight" in state
    preprocess = input_config(read_processor(directory), encoder, source)
    vision = encoder_config(encoder, project=projected, source=source, size=preprocess.size)
    text_decoder = DECODERS[reading].decoder_config(
        decoder, memory_width=None if projected else _memory_width(encoder, decoder), source=source
    )
    require_layers(text_decoder.layers, state, source)
    text = text_config(settings, text_decoder.vocab_size, source)
    model = build(
        {"vision": vision, "decoder": text_decoder, "text": text, "preprocess": preprocess},
        {
            "vision.backbone.": encoder_weights(encoder, part_of(state, "encoder."), source, size=preprocess.size),
            "vision.proj.": part_of(state, "enc_to_dec_proj."),
            "decoder.": DECODERS[reading].decoder_weights(decoder, part_of(state, "decoder."), text_decoder, source),
        },
        source,
    )
    training = {"converted_from": source, "generation_ignored": ignored_settings(settings)}
    return Checkpoint(
        model,
        read_tokenizer(directory, text, ids=text_decoder.vocab_size),
        generation_config(settings, source),
        training,
    )


def _memory_width(encoder: Mapping[str, Any], decoder: Mapping[str, Any]) -> int | None:
    """Return the width that cross-attention reads, where the decoder's config names it; None is its own width."""
    width: int | None = decoder.get("cross_attention_hidden_size")
    own = decoder.get("d_model", decoder.get("hidden_size", decoder.get("n_embd")))
    return None if width == own else width
