"""The order of candidates: by score, or by consensus."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from captioner.config import GenerationConfig, SamplingConfig
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.rerank import candidate_probabilities, caption_similarity, consensus, ordered, rerank
from captioner.text import CaptionTokenizer, train_tokenizer

from ..reference import slow_consensus

SAID = ("a dog runs in the snow", "a dog runs in snow", "a brown dog runs in the snow", "two people on a boat", "a cat")


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    return train_tokenizer(SAID, 300)


def candidates(tokenizer: CaptionTokenizer, *log_probs: float) -> list[Hypothesis]:
    """Return the captions above with these log-probabilities, and scores in another order."""
    return [
        Hypothesis(tuple(tokenizer.encode(text)), (log_prob, 0.0), log_prob / (3 + place))
        for place, (text, log_prob) in enumerate(zip(SAID, log_probs, strict=True))
    ]


def test_by_score(tokenizer: CaptionTokenizer) -> None:
    given = candidates(tokenizer, -9.0, -8.0, -1.0, -3.0, -2.0)
    found = rerank(given, GenerationConfig(), tokenizer)
    assert [h.score for h in found] == sorted((h.score for h in given), reverse=True)
    assert rerank([], GenerationConfig(), tokenizer) == []


def test_any_numbers_order_and_equals_go_by_their_scores() -> None:
    a, b, c, d = (Hypothesis((place,), (-1.0,), score) for place, score in enumerate([-3.0, -1.0, -2.0, -1.0]))
    assert ordered([a, b, c, d], [0.0, 1.0, 2.0, 1.0]) == [c, b, d, a]
    assert ordered([a, b, c, d], [1.0] * 4) == [b, d, c, a]


def test_a_found_caption_counts_by_its_probability_a_drawn_one_once(tokenizer: CaptionTokenizer) -> None:
    given = candidates(tokenizer, *map(math.log, (0.2, 0.1, 0.05, 0.04, 0.01)))
    assert candidate_probabilities(given, drawn=False) == pytest.approx([0.5, 0.25, 0.125, 0.1, 0.025])
    assert candidate_probabilities(given, drawn=True) == [0.2] * 5
    improbable = [replace(h, log_probs=(-5000.0,)) for h in given]
    assert candidate_probabilities(improbable, drawn=False) == pytest.approx([0.2] * 5)


def test_the_consensus_is_its_slow_twin(tokenizer: CaptionTokenizer) -> None:
    given = candidates(tokenizer, -2.0, -2.5, -1.8, -2.2, -3.0)
    for config in (
        GenerationConfig(rerank="consensus", beams=5, candidates=5),
        GenerationConfig(rerank="consensus", sampling=SamplingConfig(), candidates=5),
    ):
        drawn = config.sampling is not None
        weights = [1.0] * 5 if drawn else [math.exp(h.log_prob) for h in given]
        wanted = slow_consensus.order([text.split() for text in SAID], weights)
        assert [given.index(h) for h in rerank(given, config, tokenizer)] == wanted


def test_likeness_is_its_slow_twin() -> None:
    utility = caption_similarity()
    for ours in (text.split() for text in SAID):
        for theirs in (text.split() for text in SAID):
            assert utility(ours, theirs) == pytest.approx(slow_consensus.caption_similarity(ours, theirs))
    assert utility([], ["a"]) == utility(["a"], []) == 0


def test_the_odd_ones_come_last_however_they_score(tokenizer: CaptionTokenizer) -> None:
    config = GenerationConfig(rerank="consensus", sampling=SamplingConfig(), candidates=5)
    given = candidates(tokenizer, -9.0, -9.0, -9.0, -1.0, -1.0)
    found = rerank(given, config, tokenizer)
    assert {given.index(h) for h in found[:3]} == {0, 1, 2}


def test_a_caption_drawn_twice_has_two_voices() -> None:
    def same(ours: object, theirs: object) -> float:
        return float(ours == theirs)

    captions = [["a"], ["b"], ["b"], ["c"]]
    assert consensus(captions, [0.25] * 4, same) == [0.25, 0.5, 0.5, 0.25]
    assert consensus(captions, [0.7, 0.1, 0.1, 0.1], same) == pytest.approx([0.7, 0.2, 0.2, 0.1])
