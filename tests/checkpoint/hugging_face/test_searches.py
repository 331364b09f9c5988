"""Searches with rules find the captions of transformers' generate with the same random weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from captioner.checkpoint.hugging_face import convert
from captioner.config import GenerationConfig, WordRules
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.rules import Rules, compile_rules
from captioner.generation.search import search

from ...generation.toy_words import toy_words
from .conftest import originals

Make = Callable[..., tuple[Any, Path]]
V, MOST = 12, 10
START = 0  # transformers penalises it and captioner does not, so both forbid it
SETTINGS: list[tuple[dict[str, Any], dict[str, Any], int]] = [  # rules here, options there, fewest tokens here
    ({"repetition_penalty": 1.6}, {"repetition_penalty": 1.6}, 1),
    ({"no_repeat_ngram": 2}, {"no_repeat_ngram_size": 2}, 1),
    ({}, {"min_new_tokens": 4}, 5),
    ({"forbid": ("c", "a b", "e d e")}, {"bad_words_ids": [[5], [3, 4], [7, 6, 7]]}, 1),
    ({"bias": {"c": -1.5, "a b": -3.0}}, {"sequence_bias": [[[5], -1.5], [[3, 4], -3.0]]}, 1),
    (
        {"repetition_penalty": 1.3, "no_repeat_ngram": 3, "forbid": ("b", "c d")},
        {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3, "bad_words_ids": [[4], [5, 6]], "min_new_tokens": 3},
        4,
    ),
]


def without_start(log_probs: Tensor, said: Tensor) -> Tensor:
    return log_probs.index_fill(1, torch.tensor([START]), -torch.inf)


def assert_originals(ours: Sequence[Sequence[Hypothesis]], theirs: list[list[Any]], beams: int) -> None:
    assert [[h.tokens for h in found] for found in ours] == [[words for words, _ in row] for row in theirs]
    if beams > 1:
        wanted = [pytest.approx([score for _, score in row], abs=1e-4) for row in theirs]
        assert [[h.score for h in found] for found in ours] == wanted


@pytest.mark.parametrize(("rules", "options", "least"), SETTINGS)
def test_rules_find_the_originals_captions(
    rules: dict[str, Any], options: dict[str, Any], least: int, vit_gpt2: Make, pixels: Tensor
) -> None:
    said: list[Any] = []
    for seed in range(2):
        model, directory = vit_gpt2(seed)
        checkpoint = convert(directory)
        with torch.inference_mode():
            memory = checkpoint.model.remember(checkpoint.model.encode_image(pixels))
        for images, (beams, penalty) in zip((4, 3, 1, 4), ((1, 0.0), (3, 0.0), (4, 1.0), (2, 2.0)), strict=True):
            if beams == 1 and "repetition_penalty" in rules:
                continue  # a penalty on raw logits there, on log-probabilities in a beam search; on these always here
            config = GenerationConfig(
                beams=beams, min_tokens=least, max_tokens=MOST, length_penalty=penalty, rules=WordRules(**rules)
            )
            compiled = compile_rules(config, toy_words(V))
            ours = search(
                checkpoint.model.decoder,
                memory.select(torch.arange(images)),
                checkpoint.config.text,
                config,
                rules=Rules(processors=(without_start, *compiled.processors)),
            )
            theirs = originals(model, pixels[:images], beams, MOST, penalty, suppress_tokens=[START], **options)
            assert_originals(ours, theirs, beams)
            said += [h.tokens for found in ours for h in found]
    assert len(set(said)) > 12, "the random model says too few things to prove much"


def test_a_prefix_finds_the_originals_captions(vit_gpt2: Make, pixels: Tensor) -> None:
    model, directory = vit_gpt2(3)
    checkpoint = convert(directory)
    with torch.inference_mode():
        memory = checkpoint.model.remember(checkpoint.model.encode_image(pixels))
        begun = torch.tensor([[START, 3, 7, 7]]).expand(len(pixels), -1)
        for beams in (1, 3):
            found = model.generate(
                pixel_values=pixels,
                decoder_input_ids=begun,
                num_beams=beams,
                num_return_sequences=beams,
                max_new_tokens=8,
                length_penalty=0.0,
                early_stopping="never" if beams > 1 else None,
            )
            config = GenerationConfig(beams=beams, max_tokens=11, rules=WordRules(prefix="a e e"))
            rules = compile_rules(config, toy_words(V))
            ours = search(checkpoint.model.decoder, memory, checkpoint.config.text, config, rules=rules)
            theirs = [tuple(itertools.takewhile(lambda token: token != 1, row[1:].tolist())) for row in found]
            assert [h.tokens for each in ours for h in each] == theirs
            assert all(h.tokens[:3] == (3, 7, 7) for each in ours for h in each)
