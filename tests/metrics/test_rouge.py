from __future__ import annotations

import random

import pytest

from captioner.errors import DataError
from captioner.metrics.rouge import common_subsequence, rouge_l
from captioner.metrics.words import words


def plain(first: list[str], second: list[str]) -> int:
    """Return the length of the longest common subsequence by the textbook's table."""
    row = [0] * (len(second) + 1)
    for word in first:
        before = row[:]
        for j, other in enumerate(second):
            row[j + 1] = before[j] + 1 if word == other else max(before[j + 1], row[j])
    return row[-1]


def test_subsequences_equal_the_table() -> None:
    chance = random.Random(3)
    for _ in range(400):
        first, second = ([chance.choice("abcd") for _ in range(chance.randint(0, 90))] for _ in range(2))
        assert common_subsequence(first, second) == plain(first, second)


def test_the_best_precision_and_the_best_recall_by_hand() -> None:
    # Against "a b": precision 2/3, recall 1. Against "a b c d e f": precision 1, recall 1/2. Best 1 and 1.
    assert rouge_l([list("abc")], [[list("ab"), list("abcdef")]])[0] == pytest.approx(100)
    # One reference: precision 2/3, recall 2/4, beta 1.2.
    p, r = 2 / 3, 2 / 4
    assert rouge_l([list("axb")], [[list("abcd")]])[0] == pytest.approx(100 * 2.44 * p * r / (r + 1.44 * p))


def test_nothing_said_or_nothing_shared_scores_0() -> None:
    assert rouge_l([[], list("xy")], [[list("ab")], [list("ab"), []]]).tolist() == [0, 0]


def test_bad_input_is_named() -> None:
    with pytest.raises(DataError, match="image 0 has no"):
        rouge_l([["a"]], [[]])


@pytest.mark.parametrize("key", ["raw_text", "flickr8k dev, first caption against the others"])
def test_scores_equal_the_stored_scores_of_the_tools(key, tools, golden, request) -> None:
    groups = tools.raw_groups() if key == "raw_text" else request.getfixturevalue("human_groups")
    tokenized = [[words(text) for text in group] for group in groups]
    found = rouge_l([group[0] for group in tokenized], [group[1:] for group in tokenized]).mean()
    assert found == pytest.approx(golden[key]["scores"]["rouge_l"], abs=0.01)
