"""Beam search with rules, a prefix and groups: the captions of the plain reference and of transformers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from captioner.config import GenerationConfig, WordRules
from captioner.generation.beam import may_improve
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.rules import Rules, compile_rules
from captioner.generation.search import search
from captioner.models.decoder import Decoder, ImageMemory

from ..reference import every_caption, plain_beam_search, slow_rules
from .conftest import TEXT
from .toy_words import toy_words

Make = Callable[..., tuple[Decoder, ImageMemory]]
V = 8
SETTINGS: list[dict[str, Any]] = [
    {"rules": WordRules(repetition_penalty=1.7)},
    {"rules": WordRules(repetition_penalty=0.4)},
    {"rules": WordRules(no_repeat_ngram=1)},
    {"rules": WordRules(no_repeat_ngram=2), "min_tokens": 5},
    {"rules": WordRules(forbid=("b", "c d")), "min_tokens": 4},
    {"rules": WordRules(bias={"b": 2.0, "c d": 3.0, "a": -2.0})},
    {"rules": WordRules(prefix="d a")},
    {
        "rules": WordRules(prefix="d", forbid=("b c",), bias={"e": 1.0}, repetition_penalty=1.2, no_repeat_ngram=2),
        "min_tokens": 3,
    },
    {"rules": WordRules(forbid=("a", "b", "c", "d"), no_repeat_ngram=1)},  # soon no continuation is left
]


def slowly(config: GenerationConfig, size: int) -> tuple[list[slow_rules.Rule], tuple[int, ...]]:
    """Return the rules of ``config`` in their slow reference form, and its prefix."""
    tokenizer, rules = toy_words(size), config.rules
    phrases = {**rules.bias, **dict.fromkeys(rules.forbid, float("-inf"))}
    return [
        slow_rules.repetition_penalty(rules.repetition_penalty),
        *([slow_rules.no_repeat_ngram(rules.no_repeat_ngram)] if rules.no_repeat_ngram else []),
        slow_rules.phrase_bias(phrases, tokenizer.pieces),
        slow_rules.minimum_length(config.min_tokens, TEXT.eos_id),
    ], tuple(tokenizer.encode(rules.prefix))


def plainly(decoder: Decoder, memory: ImageMemory, image: int, config: GenerationConfig) -> list[Any]:
    rules, prefix = slowly(config, decoder.config.vocab_size)
    if config.beams == 1:
        return greedily(decoder, memory.select(torch.tensor([image])), config, rules, prefix)
    return plain_beam_search.beam_search(
        decoder,
        memory.select(torch.tensor([image])),
        bos=TEXT.bos_id,
        eos=TEXT.eos_id,
        beams=config.beams,
        most=config.max_tokens,
        penalty=config.length_penalty,
        rules=rules,
        prefix=prefix,
        groups=config.groups,
        diversity=config.diversity,
    )


def greedily(
    decoder: Decoder,
    memory: ImageMemory,
    config: GenerationConfig,
    rules: list[slow_rules.Rule],
    prefix: tuple[int, ...],
) -> list[Any]:
    best = every_caption.begin(decoder, memory, prefix, TEXT.bos_id)
    while len(best.tokens) < config.max_tokens and TEXT.eos_id not in best.tokens:
        [each] = every_caption.continuations(decoder, memory, [best], bos=TEXT.bos_id, rules=rules)
        best = max(each, key=lambda c: c.ranked)
        if best.ranked == -torch.inf:
            return []
    return [(best.said(TEXT.eos_id), best.ranked / len(best.tokens) ** config.length_penalty)]


def assert_plain(decoder: Decoder, memory: ImageMemory, config: GenerationConfig) -> list[list[Hypothesis]]:
    rules = compile_rules(config, toy_words(decoder.config.vocab_size))
    found = search(decoder, memory, TEXT, config, rules=rules)
    for image, hypotheses in enumerate(found):
        scores: dict[Any, float] = {}
        for tokens, score in plainly(decoder, memory, image, config):
            scores.setdefault(tokens, score)  # two groups may write one caption
        wanted = list(scores.items())
        assert [h.score for h in hypotheses] == pytest.approx([score for _, score in wanted], abs=1e-4)
        assert [h.tokens for h in hypotheses] == [tokens for tokens, _ in wanted]
    return found


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(("beams", "penalty"), [(1, 0.0), (2, 1.0), (3, 0.0), (3, 2.0), (4, -0.5)])
def test_a_beam_under_rules_is_the_plain_one(beams: int, penalty: float, settings: dict[str, Any], make: Make) -> None:
    for seed in range(3):
        decoder, memory = make(seed, images=2, vocab_size=V, context=9)
        assert_plain(decoder, memory, GenerationConfig(beams=beams, max_tokens=8, length_penalty=penalty, **settings))


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("beams", [1, 3])
def test_log_probabilities_are_those_of_a_forward_pass(beams: int, settings: dict[str, Any], make: Make) -> None:
    """Every token counts, including a prefix; the score includes the rules."""
    decoder, memory = make(5, images=3, vocab_size=V, context=9)
    config = GenerationConfig(beams=beams, max_tokens=7, length_penalty=0.7, **settings)
    slow, _ = slowly(config, V)
    prefix = toy_words(V).encode(config.rules.prefix)
    found = search(decoder, memory, TEXT, config, rules=compile_rules(config, toy_words(V)))
    assert sum(map(len, found)) > 3 if beams > 1 else any(found)
    for image, hypotheses in enumerate(found):
        alone = memory.select(torch.tensor([image]))
        for h in hypotheses:
            written = (*h.tokens, TEXT.eos_id)[: h.length]
            assert h.length == len(h.tokens) + 1 or h.length == 7
            assert list(written[: len(prefix)]) == prefix
            given, ranked = [], 0.0
            for place, token in enumerate(written):
                [row] = every_caption.rows(decoder, alone, [written[:place]], TEXT.bos_id)
                given.append(row[token])
                if place >= len(prefix):
                    for rule in slow:
                        row = rule(row, written[:place])
                ranked += row[token]
            assert h.log_probs == pytest.approx(given, abs=1e-4)
            assert h.log_prob == pytest.approx(sum(given), abs=1e-4)
            assert h.score == pytest.approx(ranked / len(written) ** 0.7, abs=1e-4)


@pytest.mark.parametrize("settings", SETTINGS[3:8])
def test_neither_batch_nor_order_changes_a_caption(settings: dict[str, Any], make: Make) -> None:
    decoder, memory = make(1, images=6, vocab_size=V)
    for more in ({"beams": 1}, {"beams": 3}, {"beams": 4, "groups": 2, "diversity": 0.5}):
        config = GenerationConfig(max_tokens=12, **more, **settings)
        rules = compile_rules(config, toy_words(V))
        together = search(decoder, memory, TEXT, config, rules=rules)
        order = [3, 0, 5, 1, 4, 2]
        shuffled = search(decoder, memory.select(torch.tensor(order)), TEXT, config, rules=rules)
        for place, image in enumerate(order):
            alone = search(decoder, memory.select(torch.tensor([image])), TEXT, config, rules=rules)[0]
            for other in (shuffled[place], alone):
                assert [h.tokens for h in other] == [h.tokens for h in together[image]]
                assert [h.score for h in other] == pytest.approx([h.score for h in together[image]], abs=1e-5)


@pytest.mark.parametrize(("beams", "groups"), [(2, 2), (4, 2), (6, 3), (6, 2)])
@pytest.mark.parametrize(("diversity", "penalty"), [(0.3, 0.0), (2.0, 1.0), (8.0, 2.0), (0.7, -0.5)])
def test_groups_are_the_plain_ones(beams: int, groups: int, diversity: float, penalty: float, make: Make) -> None:
    for seed, size in ((0, 6), (1, 12), (2, 4)):
        decoder, memory = make(seed, images=3, vocab_size=size, context=10)
        config = GenerationConfig(beams=beams, groups=groups, diversity=diversity, max_tokens=7, length_penalty=penalty)
        assert_plain(decoder, memory, config)


@pytest.mark.parametrize("settings", SETTINGS[3:9])
def test_groups_under_rules(settings: dict[str, Any], make: Make) -> None:
    decoder, memory = make(4, images=2, vocab_size=V)
    assert_plain(decoder, memory, GenerationConfig(beams=4, groups=2, diversity=1.0, max_tokens=8, **settings))


def test_the_more_diversity_the_more_words(make: Make) -> None:
    words = []
    for diversity in (1e-6, 1.0, 10.0):
        said = 0
        for seed in range(6):
            decoder, memory = make(seed)
            config = GenerationConfig(beams=4, groups=4, diversity=diversity, max_tokens=8)
            for found in search(decoder, memory, TEXT, config):
                said += len({(place, t) for h in found for place, t in enumerate(h.tokens)})
        words.append(said)
    assert words[0] < words[1] < words[2]


def test_the_first_group_is_a_beam_search_of_its_own(make: Make) -> None:
    decoder, memory = make(3)
    alone = search(decoder, memory, TEXT, GenerationConfig(beams=2, max_tokens=9))
    grouped = search(decoder, memory, TEXT, GenerationConfig(beams=4, groups=2, diversity=0.9, max_tokens=9))
    for first, all_of_them in zip(alone, grouped, strict=True):
        assert {h.tokens for h in first} <= {h.tokens for h in all_of_them}


def test_beams_run_on_where_a_prefix_makes_captions_longer() -> None:
    """The bound of a length penalty includes the prefix: a caption of 6 + 4 tokens may still win."""
    config = GenerationConfig(beams=2, length_penalty=1.0)
    found = [Hypothesis((3,) * 8, (-1.0,) * 9, -1.0)] * 2
    assert may_improve(found, -9.5, (8, 10), 2, config)
    assert not may_improve(found, -10.5, (8, 10), 2, config)
    assert may_improve(found[:1], -99.0, (8, 10), 2, config)
    rewarding = replace(config, rules=WordRules(bias={"a": 1.0}))
    assert may_improve(found, -99.0, (8, 10), 2, rewarding)


@pytest.mark.parametrize("penalty", [0.5, 1.0, 3.0])
def test_a_long_prefix_and_a_length_penalty(penalty: float, make: Make) -> None:
    for seed in range(6):
        decoder, memory = make(seed, images=2, vocab_size=V, context=14)
        rules = WordRules(prefix="a b c d e a b")
        assert_plain(decoder, memory, GenerationConfig(beams=2, max_tokens=13, length_penalty=penalty, rules=rules))


def test_small_vocabularies_and_small_contexts(make: Make) -> None:
    decoder, memory = make(0, images=1, vocab_size=4, context=4)
    for beams, least in itertools.product((1, 2, 50), (1, 9)):
        config = GenerationConfig(beams=beams, min_tokens=least, max_tokens=30)
        found = search(decoder, memory, TEXT, config, rules=compile_rules(config, toy_words(4)))[0]
        assert len({h.tokens for h in found}) == len(found) <= beams
        if least == 9:  # more than there is room for: every caption is cut
            assert {h.length for h in found} == {len(h.tokens) for h in found} == {3}
    config = GenerationConfig(beams=9, max_tokens=3, groups=3, diversity=2.0)
    assert_plain(*make(0, images=1, vocab_size=4, context=9), config)


def test_nothing_is_left_to_say(make: Make) -> None:
    """Rules that forbid every word and the end give no caption, and no crash."""
    decoder, memory = make(0, images=2, vocab_size=5)

    def nothing(log_probs: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        return log_probs if said.shape[1] < 2 else torch.full_like(log_probs, -torch.inf)

    for config in (
        GenerationConfig(beams=1, min_tokens=4),
        GenerationConfig(beams=3, min_tokens=4),
        GenerationConfig(beams=4, groups=2, diversity=1.0, min_tokens=4),
    ):
        rules = compile_rules(config, toy_words(5)).processors
        assert search(decoder, memory, TEXT, config, rules=Rules(processors=(nothing, *rules))) == [[], []]
