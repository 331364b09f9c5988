"""Speculative decoding changes when the decoder runs, never the captions."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from captioner.config import GenerationConfig
from captioner.generation.processors import minimum_length, no_repeat_ngram, repetition_penalty
from captioner.generation.rules import Rules
from captioner.generation.search import one_by_one, search
from captioner.generation.speculative_greedy import AHEAD
from captioner.inference.decoder import PreparedDecoder
from captioner.models.decoder import Decoder, ImageMemory

from .conftest import TEXT

Make = Callable[..., tuple[Decoder, ImageMemory]]
CONFIG = GenerationConfig(max_tokens=14)
RULES = (
    Rules(),
    Rules(prefix=(3,)),
    Rules(prefix=(5, 4, 3, 9), processors=(minimum_length(12, TEXT.eos_id),)),
    Rules(processors=(no_repeat_ngram(2), repetition_penalty(1.3), minimum_length(14, TEXT.eos_id))),
)


def drafted(decoder: Decoder, noise: float, *, packed: bool = False) -> PreparedDecoder:
    """Return a decoder with a draft whose weights differ by ``noise``; without ``packed``, torch computes both."""
    draft = copy.deepcopy(decoder)
    with torch.no_grad():
        for parameter in draft.parameters():
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7)) * noise
    seer, guesser = (_prepared(one, packed=packed) for one in (copy.deepcopy(decoder), draft))
    seer.draft = guesser
    return seer


def _prepared(decoder: Decoder, *, packed: bool) -> PreparedDecoder:
    if packed:
        return PreparedDecoder(decoder, "fp32")
    decoder.__class__ = PreparedDecoder
    assert isinstance(decoder, PreparedDecoder)
    decoder.draft = decoder.steps = decoder.memory_dtype = None
    return decoder


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3, 2.0])
@pytest.mark.parametrize("rules", RULES)
def test_words_and_their_probabilities_are_those_without_a_draft(noise: float, rules: Rules, make: Make) -> None:
    for seed in range(6):
        decoder, memory = make(seed, images=1)
        [[wanted]] = search(decoder, memory, TEXT, CONFIG, rules=rules)
        [[found]] = search(drafted(decoder, noise), memory, TEXT, CONFIG, rules=rules)
        assert found.tokens == wanted.tokens
        assert found.score == pytest.approx(wanted.score, abs=1e-5)
        assert found.log_probs == pytest.approx(wanted.log_probs, abs=1e-5)
        streamed = one_by_one(drafted(decoder, noise), memory, TEXT, CONFIG, rules=rules)
        assert list(streamed) == list(one_by_one(decoder, memory, TEXT, CONFIG, rules=rules))


def test_the_better_the_draft_the_fewer_the_readings(make: Make) -> None:
    rules = Rules(processors=(minimum_length(15, TEXT.eos_id),))
    readings = {}
    for noise in (0.0, 0.2, 5.0):
        decoder, memory = make(3, images=1)
        seer = drafted(decoder, noise)
        count = []
        seer.register_forward_hook(lambda *given, count=count: count.append(1))
        search(seer, memory, TEXT, CONFIG, rules=rules)
        readings[noise] = len(count)
    assert readings[0.0] == -(-CONFIG.max_tokens // (AHEAD + 1)) < readings[0.2] < readings[5.0] <= CONFIG.max_tokens


@pytest.mark.parametrize(
    "config",
    [
        GenerationConfig(beams=3, max_tokens=8),
        GenerationConfig(max_tokens=8),
        GenerationConfig(beams=4, groups=2, diversity=0.5, max_tokens=8),
    ],
)
def test_batches_do_without_it(config: GenerationConfig, make: Make) -> None:
    decoder, memory = make(2, images=2)
    seer = drafted(decoder, 1.0)

    def refuse(*given: object) -> None:
        raise AssertionError("the draft was asked")

    assert seer.draft is not None
    seer.draft.register_forward_pre_hook(refuse)
    wanted = search(decoder, memory, TEXT, config)
    assert [h.tokens for of in search(seer, memory, TEXT, config) for h in of] == [
        h.tokens for of in wanted for h in of
    ]
