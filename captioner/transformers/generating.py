"""The search behind ``generate``: transformers' options in, padded token ids out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from captioner.config import GenerationConfig, TextConfig, with_options
from captioner.errors import UsageError
from captioner.generation.processors import minimum_length, no_repeat_ngram, repetition_penalty
from captioner.generation.rules import Rules
from captioner.generation.search import search
from captioner.models.captioner import Captioner
from captioner.pipelines.image_to_text.options import named_options

_WITHOUT_EFFECT = (
    *("bos_token_id", "eos_token_id", "decoder_start_token_id", "pad_token_id"),  # the captioner's own
    *("attention_mask", "decoder_attention_mask", "labels", "num_items_in_batch"),  # of a batch for training
    *("tokenizer", "assistant_tokenizer", "synced_gpus", "cache_implementation", "num_logits_to_keep"),
)
_TENSORS_ONLY = ("return_dict_in_generate", "output_scores", "output_logits", "output_attentions")
_NEED_WORDS = ("prefix", "require", "forbid", "bias", "neutral", "label_weight")
_NEED_CANDIDATES = ("rerank", "refine", "name_sure_labels", "check_colour", "unsure", "calibration")


@dataclass(frozen=True, kw_only=True)
class _Run:
    """Images that are captioned together, since their captions begin with the same tokens."""

    text: TextConfig  # of the language
    prefix: tuple[int, ...]  # the tokens after the start token
    rows: tuple[int, ...]  # the places of the images
    count: int  # captions per image
    config: GenerationConfig


def generated(
    model: Captioner, pixels: Tensor, start: Tensor | None, defaults: Any, options: Mapping[str, Any]
) -> Tensor:
    """Return captions (B * count, T) of ``pixels``; ``start`` (B, T) holds their first tokens, from the start token on.

    ``defaults`` is a ``GenerationConfig`` of transformers. Raises ``UsageError`` for options without a counterpart.
    """
    own = model.config.text
    runs = _runs(_prompts(start, len(pixels), own), own, defaults, options)
    memory = model.remember(model.encode_image(pixels))
    written: list[list[int]] = []
    for run in runs:
        sampling, count = run.config.sampling, run.count
        seeds = torch.randint(1 << 31, (len(run.rows),)).tolist() if sampling is not None else None
        chosen = memory.select(torch.tensor(run.rows, device=pixels.device))
        rules = Rules(_processors(run.config, own), run.prefix)
        for hypotheses in search(model.decoder, chosen, run.text, run.config, rules=rules, seeds=seeds):
            if not hypotheses:
                raise UsageError("the rules allow no caption of an image; allow more tokens, or repetitions")
            best = [hypotheses[min(k, len(hypotheses) - 1)] for k in range(count)]
            written += [[run.text.bos_id, *one.tokens, *([own.eos_id] if one.ended else [])] for one in best]
    longest = max(map(len, written))
    padded = [tokens + [own.pad_id] * (longest - len(tokens)) for tokens in written]
    return torch.tensor(padded, device=pixels.device)


def _prompts(start: Tensor | None, images: int, text: TextConfig) -> list[list[int]]:
    """Return the first tokens of each caption, without padding."""
    if start is None:
        return [[text.bos_id]] * images
    if start.ndim != 2 or len(start) != images:
        raise UsageError(f"input_ids must be ({images}, T), one row per image, not {tuple(start.shape)}")
    starts = (text.bos_id, *text.languages.values())
    prompts = []
    for row in start.tolist():
        end = len(row)
        while end > 1 and row[end - 1] == text.pad_id:
            end -= 1
        prompts.append(row[:end] if row and row[0] in starts else [text.bos_id, *row[:end]])
    return prompts


def _settings(defaults: Any, options: Mapping[str, Any], prompt: int) -> tuple[int, GenerationConfig]:
    """Return the number of captions per image, and the settings of the search; ``prompt`` counts its tokens."""
    values: dict[str, Any] = {} if defaults is None else dict(defaults.to_diff_dict())
    given = {name: value for name, value in options.items() if value is not None}
    if {"max_length", "max_new_tokens"} & given.keys():  # a call's bound replaces the default, whatever its name
        values.pop("max_length", None)
        values.pop("max_new_tokens", None)
    values |= given
    for name in _TENSORS_ONLY:
        if values.pop(name, False):
            raise UsageError(f"generate() of a captioner returns token ids only; omit {name}")
    for name in (*_NEED_WORDS, *_NEED_CANDIDATES):
        if name in values:
            raise UsageError(f"generate() of a captioner has no tokenizer for {name!r}; use captioner.load for it")
    chosen = named_options({name: value for name, value in values.items() if name not in _WITHOUT_EFFECT}, prompt)
    # transformers' default, which to_diff_dict leaves out
    start = GenerationConfig(length_penalty=1.0)
    return chosen.count, with_options(start, {"candidates": chosen.count, **chosen.named})


def _runs(prompts: list[list[int]], text: TextConfig, defaults: Any, options: Mapping[str, Any]) -> list[_Run]:
    """Return the neighbouring images of the same first tokens, with settings that count these tokens."""
    runs: list[_Run] = []
    for prompt, places in groupby(range(len(prompts)), key=prompts.__getitem__):
        count, config = _settings(defaults, options, len(prompt) - 1)
        language = next((name for name, token in text.languages.items() if token == prompt[0]), "")
        spoken = text.speaking(config.language or language)
        runs.append(_Run(text=spoken, prefix=tuple(prompt[1:]), rows=tuple(places), count=count, config=config))
    return runs


def _processors(config: GenerationConfig, text: TextConfig) -> tuple[Any, ...]:
    processors = []
    if config.rules.repetition_penalty != 1:
        processors.append(repetition_penalty(config.rules.repetition_penalty))
    if config.rules.no_repeat_ngram:
        processors.append(no_repeat_ngram(config.rules.no_repeat_ngram))
    if config.min_tokens > 1:
        processors.append(minimum_length(config.min_tokens, text.eos_id))
    return tuple(processors)
