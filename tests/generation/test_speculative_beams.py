"""Speculative decoding for beams changes when the decoder runs, never the captions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from captioner.config import GenerationConfig
from captioner.generation import search as room
from captioner.generation.processors import minimum_length, no_repeat_ngram, repetition_penalty
from captioner.generation.rules import Rules
from captioner.generation.search import search
from captioner.generation.speculative_beams import LEVELS, SpeculativeBeams
from captioner.models.decoder import Decoder, ImageMemory

from .conftest import TEXT
from .test_speculative_greedy import drafted

Make = Callable[..., tuple[Decoder, ImageMemory]]
RULES = (
    Rules(),
    Rules(prefix=(3,)),
    Rules(prefix=(5, 4, 3, 9), processors=(minimum_length(12, TEXT.eos_id),)),
    Rules(processors=(no_repeat_ngram(2), repetition_penalty(1.3), minimum_length(14, TEXT.eos_id))),
)


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3, 2.0])
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("beams", [2, 5])
def test_captions_and_their_probabilities_are_those_without_a_draft(
    noise: float, rules: Rules, beams: int, prepared: bool, make: Make
) -> None:
    config = GenerationConfig(beams=beams, max_tokens=14)
    for seed in range(4):
        decoder, memory = make(seed, images=1)
        [wanted] = search(decoder, memory, TEXT, config, rules=rules)
        seer = drafted(decoder, noise, packed=prepared)
        [found] = search(seer, memory, TEXT, config, rules=rules)
        assert [h.tokens for h in found] == [h.tokens for h in wanted]
        for one, other in zip(found, wanted, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-5)
            assert one.log_probs == pytest.approx(other.log_probs, abs=1e-5)


def test_the_better_the_draft_the_fewer_the_readings(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config = GenerationConfig(beams=3, max_tokens=14)
    rules = Rules(processors=(minimum_length(15, TEXT.eos_id),))
    readings = {}
    for noise in (0.0, 0.03, 5.0):
        decoder, memory = make(3, images=1, vocab_size=60)
        seer, count = drafted(decoder, noise), []
        read = seer.branches
        monkeypatch.setattr(seer, "branches", lambda *given, read=read, count=count: count.append(1) or read(*given))
        search(seer, memory, TEXT, config, rules=rules)
        readings[noise] = len(count)
    assert readings[0.0] == -(-(config.max_tokens - 1) // LEVELS) < readings[0.03] < readings[5.0] < config.max_tokens


def test_a_cache_has_room_for_every_miss(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache suffices for any number and position of the draft's misses."""
    made = []

    class Watched(SpeculativeBeams):
        def __init__(self, *given: object, **named: object) -> None:
            super().__init__(*given, **named)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(room, "SpeculativeBeams", Watched)
    config = GenerationConfig(beams=5, max_tokens=14)
    rules = Rules(processors=(minimum_length(15, TEXT.eos_id),))
    for noise in (0.0, 0.1, 0.2, 5.0):
        decoder, memory = make(5, images=1, vocab_size=60)
        search(drafted(decoder, noise), memory, TEXT, config, rules=rules)
        cache = made[-1].cache
        assert cache.layers[0].length <= cache.layers[0].keys.shape[2]
        assert cache.visible.shape[2] == cache.layers[0].length
        assert torch.equal(cache.visible.sum(-1), torch.full((1, 5), cache.words))
