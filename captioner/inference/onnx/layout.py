"""The files of an ONNX export and the inputs and outputs of its graphs: the layout that transformers.js loads.

::

    config.json, generation_config.json, preprocessor_config.json    settings for transformers.js
    tokenizer.json, tokenizer_config.json                            the tokenizer
    captioner.json                                                   settings for this package
    onnx/encoder_model.onnx          pixel_values (B, 3, size, size) -> last_hidden_state (B, S, layers * 2 * D),
                                     patch_tokens (B, S, D), label_log_odds (B, G) if there are labels
    onnx/decoder_model_merged.onnx   input_ids (N, T), encoder_hidden_states (N, S, layers * 2 * D),
                                     past_key_values.I.key and .value (N, H, past, Dh)
                                     -> logits (N, T, V), present.I.key and .value (N, H, past + T, Dh)
    onnx/*_quantized.onnx            the same in int8

``last_hidden_state`` holds the keys and values of every layer's cross-attention, since the layout has no other place
for what is computed once per image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

OnnxPrecision = Literal["fp32", "int8"]

FORMAT = 1  # of captioner.json
SUFFIXES: dict[OnnxPrecision, str] = {"fp32": "", "int8": "_quantized"}
PIXELS, STATES, PATCHES, LABELS = "pixel_values", "last_hidden_state", "patch_tokens", "label_log_odds"
TOKENS, MEMORY, LOGITS = "input_ids", "encoder_hidden_states", "logits"


def encoder_file(folder: Path, precision: OnnxPrecision) -> Path:
    """Return the path of the encoder's graph."""
    return folder / "onnx" / f"encoder_model{SUFFIXES[precision]}.onnx"


def decoder_file(folder: Path, precision: OnnxPrecision) -> Path:
    """Return the path of the decoder's graph."""
    return folder / "onnx" / f"decoder_model_merged{SUFFIXES[precision]}.onnx"


def cache_names(layers: int, prefix: Literal["past_key_values", "present"]) -> list[str]:
    """Return the names of all keys and values of the cache, in the order of the graph."""
    return [f"{prefix}.{layer}.{part}" for layer in range(layers) for part in ("key", "value")]
