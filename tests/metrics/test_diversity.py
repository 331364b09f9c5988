"""Variety, counted by hand."""

from __future__ import annotations

import pytest

from captioner.errors import DataError
from captioner.metrics.diversity import diversity


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
