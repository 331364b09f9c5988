"""Conversion of BLIP (Li et al. 2022, arXiv 2201.12086): captioning, and answers to questions.

The result computes the logits of transformers' ``BlipForConditionalGeneration`` and ``BlipForQuestionAnswering``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from captioner.checkpoint.directory import Checkpoint
from captioner.checkpoint.hugging_face.building import build, part_of, require_layers
from captioner.checkpoint.hugging_face.decoders import bert
from captioner.checkpoint.hugging_face.encoders import encoder_config, encoder_weights, input_config, read_processor
from captioner.checkpoint.hugging_face.files import read_tokenizer, read_weights
from captioner.checkpoint.hugging_face.settings import generation_config, ignored_settings, read_settings, text_config
from captioner.errors import CheckpointError

WRONG_HEADS, WIDTH, HEADS = 8, 768, 12  # config.json of copies from before April 2023 (transformers issue 22625)


def convert_blip(directory: Path, values: Mapping[str, Any], source: str) -> Checkpoint:
    """Convert the BLIP in ``directory``, whose config.json holds ``values``.

    A model with a ``text_encoder`` answers questions. Corrections of a wrong config.json are listed as sentences in the
    result's ``training["corrected"]``. Raises ``CheckpointError`` for a missing or damaged file, a BLIP without a text
    decoder, or an unsupported setting.
    """
    vision_values, text_values = ({**_part(values, name)} for name in ("vision_config", "text_config"))
    vision_values["model_type"], text_values["model_type"] = "blip_vision_model", "blip_text_model"
    corrected = _correct_heads(text_values, source)
    state = read_weights(directory)
    if not any(name.startswith("text_decoder.") for name in state):
        raise CheckpointError(
            f"{source} is a BLIP without a text decoder, such as one for retrieval; only BLIP for captioning and for "
            "visual question answering can be converted"
        )
    preprocess = input_config(read_processor(directory), vision_values, source)
    vision = encoder_config(vision_values, project=False, source=source)
    width, seen = text_values.get("hidden_size", WIDTH), vision_values.get("hidden_size", WIDTH)
    decoder = bert.decoder_config(text_values, memory_width=None if seen == width else seen, source=source)
    require_layers(decoder.layers, state, source)
    # The end token is sep_token_id; eos_token_id, 2, is never written.
    tokens = {name: text_values.get(name, default) for name, default in _TOKENS.items()}
    settings = read_settings(directory, values, decoder="blip_text_model") | tokens
    settings["decoder_start_token_id"], settings["eos_token_id"] = tokens["bos_token_id"], tokens["sep_token_id"]
    text = text_config(settings, decoder.vocab_size, source)
    weights = {
        "vision.backbone.": encoder_weights(vision_values, part_of(state, "vision_model."), source),
        "decoder.": bert.decoder_weights(text_values, part_of(state, "text_decoder."), decoder, source),
    }
    tokenizer = read_tokenizer(directory, text, ids=decoder.vocab_size)
    question = None
    if any(name.startswith("text_encoder.") for name in state):
        if seen != width:
            raise CheckpointError(f"{source} answers questions with a vision model of another width; it cannot be used")
        question = replace(decoder, causal=False, head="none")
        weights["question."] = bert.decoder_weights(text_values, part_of(state, "text_encoder."), question, source)
        text = replace(text, question_id=tokenizer.model.token_to_id("[CLS]"))
        tokenizer.config = text
    parts = {"vision": vision, "decoder": decoder, "text": text, "preprocess": preprocess, "question": question}
    training = {
        "converted_from": source,
        "generation_ignored": ignored_settings(settings),
        "corrected": corrected,
    }
    return Checkpoint(build(parts, weights, source), tokenizer, generation_config(settings, source), training)


_TOKENS = {"bos_token_id": 30522, "sep_token_id": 102, "pad_token_id": 0}


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = values.get(name)
    return part if isinstance(part, dict) else {}


def _correct_heads(text: dict[str, Any], source: object) -> list[str]:
    """Correct the number of heads, which old copies of config.json give wrong; return sentences about it."""
    heads = text.setdefault("num_attention_heads", WRONG_HEADS)
    if (text.get("hidden_size", WIDTH), heads) != (WIDTH, WRONG_HEADS):
        return []
    text["num_attention_heads"] = HEADS
    return [
        f"config.json of {source} gives its text model {WRONG_HEADS} attention heads; BLIP has {HEADS}, which is used"
    ]
