"""A checkpoint as a model and a processor of transformers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from captioner.checkpoint.directory import Checkpoint, merged
from captioner.config import GenerationConfig as OwnGeneration
from captioner.config import TextConfig, to_dict
from captioner.errors import UsageError
from captioner.transformers.configuration import CaptionerConfig
from captioner.transformers.modeling import CaptionerForConditionalGeneration
from captioner.transformers.processing import CaptionerImageProcessor, CaptionerProcessor, fast_tokenizer


def pretrained_model(checkpoint: Checkpoint) -> CaptionerForConditionalGeneration:
    """Return the captioner as a model of transformers, with a copy of its weights; an adapter is merged.

    Raises ``UsageError`` for a captioner that answers questions.
    """
    checkpoint = merged(checkpoint)
    config = CaptionerConfig(captioner=to_dict(checkpoint.config), generation=to_dict(checkpoint.generation))
    config.architectures = [CaptionerForConditionalGeneration.__name__]
    model = CaptionerForConditionalGeneration(config)
    model.captioner.load_state_dict(checkpoint.model.state_dict())
    model.generation_config = generation_settings(checkpoint.generation, checkpoint.config.text)
    return model.eval()


def pretrained_processor(checkpoint: Checkpoint) -> CaptionerProcessor:
    """Return the image processor and the tokenizer of a captioner for transformers."""
    return CaptionerProcessor(
        image_processor=CaptionerImageProcessor(captioner=to_dict(checkpoint.config.preprocess)),
        tokenizer=fast_tokenizer(checkpoint.tokenizer),
        languages=checkpoint.config.text.languages,
    )


def generation_settings(config: OwnGeneration, text: TextConfig) -> GenerationConfig:
    """Return the decoding defaults that transformers knows.

    Rules of words, reranking and refinement have no counterpart; the way back to a checkpoint keeps them.
    """
    settings: dict[str, Any] = {
        "bos_token_id": text.bos_id,
        "eos_token_id": text.eos_id,
        "pad_token_id": text.pad_id,
        "decoder_start_token_id": text.bos_id,
        "max_new_tokens": config.max_tokens,
        "no_repeat_ngram_size": config.rules.no_repeat_ngram,
        "repetition_penalty": config.rules.repetition_penalty,
    }
    if config.sampling is not None:
        shape = {name: getattr(config.sampling, name) for name in ("temperature", "top_p", "min_p", "typical_p")}
        top_k = config.sampling.top_k or 0  # transformers' own default is 50
        settings |= {"do_sample": True, "top_k": top_k, **{n: value for n, value in shape.items() if value is not None}}
    elif config.beams > 1:
        settings |= {"num_beams": config.beams, "length_penalty": config.length_penalty}
    return GenerationConfig(**settings)


def export(checkpoint: Checkpoint, directory: str | os.PathLike[str]) -> Path:
    """Write a directory that ``from_pretrained`` opens after ``import captioner.transformers``.

    Raises ``UsageError`` for a captioner that answers questions.
    """
    if checkpoint.config.question is not None:
        raise UsageError("a captioner that answers questions has no class in transformers; export its captioner")
    directory = Path(directory)
    pretrained_model(checkpoint).save_pretrained(directory)
    pretrained_processor(checkpoint).save_pretrained(directory)
    return directory
