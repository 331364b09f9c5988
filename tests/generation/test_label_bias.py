"""A search with labels: what a caption gains by naming them, with every search and in every spelling."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from captioner.config import GenerationConfig, WordRules
from captioner.generation.label_bias import STRONGEST, LabelBias, label_words
from captioner.generation.likelihood import score_captions
from captioner.generation.refine import refine
from captioner.generation.rules import Rules, required
from captioner.generation.search import one_by_one, search
from captioner.metrics.nouns import LabelFinder
from captioner.models.decoder import Decoder, ImageMemory
from captioner.text import CaptionTokenizer, train_tokenizer

from ..reference import plain_beam_search
from .conftest import TEXT
from .test_speculative_greedy import drafted
from .toy_words import toy_words

Make = Callable[..., tuple[Decoder, ImageMemory]]
LABELS = ("dog", "hot dog", "bat", "zebra", "person", "fire hydrant")
CAPTIONS = ["a dog and a bat in a park", "dogs beside a hot dog", "two bats by a fire", "people in a park"] * 20


@pytest.fixture(scope="module")
def tokenizer() -> CaptionTokenizer:
    """Return a tokenizer with a token for " dog", and none for " zebra"."""
    return train_tokenizer(CAPTIONS, 330)


def probabilities(*values: float) -> Tensor:
    return torch.tensor([values]).logit()


def gain_of(bias: LabelBias, tokenizer: CaptionTokenizer, tokens: list[int]) -> float:
    """Return what a caption gains in all, token by token, until its end."""
    tokens = [*tokens, tokenizer.config.eos_id]
    zeros, total = torch.zeros(1, 1, tokenizer.vocab_size), 0.0
    for place, token in enumerate(tokens):
        past = torch.tensor(tokens[:place], dtype=torch.long).view(1, 1, -1)
        before = total
        total += float(bias.biased(zeros, past)[0, 0, token])
        assert total <= before + float(bias.most(past)[0, 0]) + 1e-6, "a caption gains at most what is left"
    return total


@pytest.mark.parametrize(
    "caption",
    [
        "a dog",
        "dogs in a park",
        "a dog beside a dog and dogs",  # once
        "a zebra and zebras",  # in several tokens
        "a zebra beside a dog",
        "two people with a bat",
        "a hot dog",  # no dog
        "a hot dog and a dog",
        "a park",
        "a fire hydrant",
        "a doghouse by a dog",  # the word goes on
        "batman",
        "a batman and a zebra",
    ],
)
def test_a_caption_gains_the_values_of_the_labels_that_it_names(caption: str, tokenizer: CaptionTokenizer) -> None:
    bias = LabelBias.of(label_words(LABELS, tokenizer), probabilities(0.9, 0.8, 0.7, 0.6, 0.5, 0.95), 0.5)
    wanted = sum(float(bias.values[0, label]) for label in LabelFinder(LABELS).find(caption))
    assert gain_of(bias, tokenizer, tokenizer.encode(caption)) == pytest.approx(wanted, abs=1e-5)


def test_values_are_weighted_and_limited_log_odds(tokenizer: CaptionTokenizer) -> None:
    odds = probabilities(0.5, 0.6, 0.9999, 1e-6, 0.2, 0.3)
    values = LabelBias.of(label_words(LABELS, tokenizer), odds, 0.2).values[0].tolist()
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert values[1] == pytest.approx(0.2 * 0.405465, abs=1e-5)  # log(0.6 / 0.4)
    assert values[2:4] == pytest.approx([0.2 * STRONGEST, -0.2 * STRONGEST])
    assert values[4] < values[5] < 0 == values[-1]


def test_a_word_that_goes_on_gives_back_a_gain_but_no_loss(tokenizer: CaptionTokenizer) -> None:
    for probability, wanted in ((0.9, 0.0), (0.1, -0.5 * 2.197225)):  # log(0.1 / 0.9)
        bias = LabelBias.of(label_words(LABELS, tokenizer), probabilities(*[probability] * 6), 0.5)
        inside = next(token for token, piece in enumerate(tokenizer.pieces) if piece == b"m")
        assert gain_of(bias, tokenizer, [*tokenizer.encode("a bat"), inside]) == pytest.approx(wanted, abs=1e-5)


def test_a_tokenizer_without_the_words_of_a_label(bert: CaptionTokenizer) -> None:
    words = label_words(("zebra", "\u732b"), bert)
    assert words.count == 2
    assert (words.inside == 1).sum() + (words.initial == 1).sum() == 0


WORDS = ("a", "b", "e", "missing")
VALUES = torch.tensor([[2.0, -1.5, 0.7, 0.3], [-2.0, 1.0, 0.0, 0.2]])


def toy_bias(size: int) -> LabelBias:
    """Return a bias of two images toward words of the toy tokenizer."""
    words = label_words(WORDS, toy_words(size))
    return LabelBias(words, torch.cat([VALUES, torch.zeros(2, 1)], dim=1))


def slow_bias(values: Tensor, size: int) -> Callable[[list[float], tuple[int, ...]], list[float]]:
    """Return the bias as a slow rule: a word gains its value the first time."""
    value = {toy_words(size).encode(word)[0]: float(v) for word, v in zip(WORDS[:3], values, strict=False)}
    return lambda row, said: [x + (value.get(token, 0) if token not in said else 0) for token, x in enumerate(row)]


@pytest.mark.parametrize(("beams", "penalty"), [(2, 1.0), (3, 0.0), (4, 0.8), (3, -0.5)])
def test_beams_with_labels_are_the_plain_ones(beams: int, penalty: float, make: Make) -> None:
    config = GenerationConfig(beams=beams, max_tokens=8, length_penalty=penalty)
    differ = 0
    for seed in range(6):
        decoder, memory = make(seed, images=2, vocab_size=8, context=9)
        found = search(decoder, memory, TEXT, config, rules=Rules(labels=toy_bias(8)))
        differ += found != search(decoder, memory, TEXT, config)
        for image, hypotheses in enumerate(found):
            wanted = plain_beam_search.beam_search(
                decoder,
                memory.select(torch.tensor([image])),
                bos=TEXT.bos_id,
                eos=TEXT.eos_id,
                beams=beams,
                most=8,
                penalty=penalty,
                rules=[slow_bias(VALUES[image], 8)],
            )
            assert [h.tokens for h in hypotheses] == [tokens for tokens, _ in wanted]
            assert [h.score for h in hypotheses] == pytest.approx([score for _, score in wanted], abs=1e-4)
    assert differ, "the labels change captions"


SEARCHES: list[dict[str, Any]] = [
    {"beams": 1},
    {"beams": 3},
    {"beams": 4, "groups": 2, "diversity": 0.5},
    {"beams": 3, "rules": WordRules(require=("c",))},
]


@pytest.mark.parametrize("settings", SEARCHES)
def test_each_image_has_its_own_labels(settings: dict[str, Any], make: Make) -> None:
    """Images of one batch get the captions that they get alone, and their scores contain the bias."""
    config = GenerationConfig(max_tokens=8, length_penalty=0.5, **settings)
    phrases = tuple(required(phrase, toy_words(8)) for phrase in config.rules.require)
    for seed in range(4):
        decoder, memory = make(seed, images=2, vocab_size=8, context=9)
        rules = Rules(require=phrases, labels=toy_bias(8))
        together = search(decoder, memory, TEXT, config, rules=rules)
        for image in range(2):
            row = torch.tensor([image])
            [alone] = search(decoder, memory.select(row), TEXT, config, rules=rules.of_images(row))
            assert [h.tokens for h in alone] == [h.tokens for h in together[image]]
        tokens = [[h.tokens for h in group] for group in together]
        scored = score_captions(decoder, memory, tokens, TEXT, config, rules=rules)
        if config.groups == 1:  # a group's score contains its penalty
            assert [[h.score for h in g] for g in scored] == [
                pytest.approx([h.score for h in g], abs=1e-4) for g in together
            ]


def test_a_draft_and_a_stream_know_the_labels(make: Make) -> None:
    changed = 0
    for seed in range(5):
        decoder, memory = make(seed, images=1)
        rules = Rules(labels=toy_bias(12).select(torch.tensor([0])))
        for beams in (1, 3):
            config = GenerationConfig(beams=beams, max_tokens=12)
            [wanted] = search(decoder, memory, TEXT, config, rules=rules)
            [found] = search(drafted(decoder, 0.3), memory, TEXT, config, rules=rules)
            assert [h.tokens for h in found] == [h.tokens for h in wanted]
            changed += [wanted] != search(decoder, memory, TEXT, config)
        greedy = GenerationConfig(max_tokens=12)
        [[best]] = search(decoder, memory, TEXT, greedy, rules=rules)
        streamed = [token for token in one_by_one(decoder, memory, TEXT, greedy, rules=rules) if token != TEXT.eos_id]
        assert tuple(streamed) == best.tokens
    assert changed


def test_refinement_counts_the_labels(make: Make) -> None:
    """The refined caption never scores worse, with the labels in its score."""
    config = GenerationConfig(max_tokens=8, refine=2)
    tokenizer = toy_words(8)
    for seed in range(4):
        decoder, memory = make(seed, images=2, vocab_size=8, context=9)
        rules = Rules(labels=toy_bias(8))
        drafts = search(decoder, memory, TEXT, config, rules=rules)
        refined = refine(decoder, memory, drafts, tokenizer, config, rules=rules)
        tokens = [[h.tokens for h in group] for group in refined]
        scored = score_captions(decoder, memory, tokens, TEXT, replace(config, refine=0), rules=rules)
        for before, after, again in zip(drafts, refined, scored, strict=True):
            assert after[0].score >= before[0].score - 1e-4
            assert after[0].score == pytest.approx(again[0].score, abs=1e-4)
