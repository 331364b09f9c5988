"""Diversity, counted by hand."""

from __future__ import annotations

import random

import pytest

from captioner.errors import DataError
from captioner.metrics.bleu import bleu
from captioner.metrics.diversity import diversity, self_bleu


def test_by_hand() -> None:
    captions = [c.split() for c in ("a dog runs", "a dog runs", "a dog and a dog", "the the end", "")]
    found = diversity(captions)
    assert found.distinct_captions == 80  # four of five
    assert found.distinct_1 == pytest.approx(100 * 6 / 14)  # a dog runs and the end
    # a-dog, dog-runs (twice each), a-dog dog-and and-a a-dog, the-the the-end
    assert found.distinct_2 == pytest.approx(100 * 6 / 10)
    assert found.vocabulary == 6
    assert found.length == pytest.approx(14 / 5)
    assert found.repetitive == 40  # "a dog ... a dog" and "the the"
    assert found.empty == 20


def test_a_word_may_come_back() -> None:
    assert diversity([["a", "dog", "and", "a", "cat"]]).repetitive == 0


def test_captions_of_one_word_have_no_pairs() -> None:
    found = diversity([["dog"], ["cat"]])
    assert (found.distinct_1, found.distinct_2, found.repetitive) == (100, 0, 0)


def test_nothing_to_compare() -> None:
    with pytest.raises(DataError, match="no captions"):
        diversity([])


def test_self_bleu_is_that_of_each_caption_against_all_others() -> None:
    chance = random.Random(6)
    captions = [[chance.choice("abcde") for _ in range(chance.randint(0, 9))] for _ in range(60)]
    captions += captions[:5]  # said twice: as like the others as can be
    each = [bleu([one], [captions[:n] + captions[n + 1 :]]).bleu4 for n, one in enumerate(captions)]
    assert self_bleu(captions) == pytest.approx(sum(each) / len(each))
    assert self_bleu([list("abcd")] * 3) == pytest.approx(100)
    assert self_bleu([list("abcd")]) == 0


def test_novel_captions_are_those_that_training_did_not_have() -> None:
    captions = [["a", "dog"], ["a", "cat"], ["a", "dog"]]
    assert diversity(captions).novel is None
    assert diversity(captions, [["a", "dog"], ["b"]]).novel == pytest.approx(100 / 3)
