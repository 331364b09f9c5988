"""N-grams as integers, against counts by hand; the vectorised metrics, against the plain ones."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from nltk.translate.bleu_score import corpus_bleu

from captioner.errors import DataError
from captioner.metrics.bleu import bleu, bleu_counts, bleu_of
from captioner.metrics.cider import cider_d, cider_d_of
from captioner.metrics.ngrams import Ngrams, References, Row

from .rows import row

Corpus = tuple[list[list[str]], list[list[list[str]]]]


def corpus(seed: int, *, images: int = 60, shortest: int = 0) -> Corpus:
    """Return captions of few words, so that n-grams repeat within and between them."""
    chance = random.Random(seed)

    def caption(least: int) -> list[str]:
        return [chance.choice("abcdefg") for _ in range(chance.randint(least, 12))]

    references = [[caption(1) for _ in range(chance.randint(1, 5))] for _ in range(images)]
    return [caption(shortest) for _ in range(images)], references


def test_counts_are_those_of_a_counter() -> None:
    captions, _ = corpus(1)
    table = Ngrams.of(captions)
    for place, words in enumerate(captions):
        plain = Counter(tuple(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1))
        mine = slice(table.starts[place], table.starts[place + 1])
        assert sorted(table.count[mine]) == sorted(plain.values())
        by_order = Counter(len(gram) - 1 for gram in plain)
        assert Counter(map(int, table.order[table.gram[mine]])) == by_order
        assert table.lengths[place] == len(words)
    different = {tuple(words[i : i + n]) for words in captions for n in range(1, 5) for i in range(len(words) - n + 1)}
    assert len(table.order) == len(different)


def test_entries_of_chosen_captions() -> None:
    table = Ngrams.of([["a", "b"], [], ["a"]])
    place, entries = table.entries(np.array([2, 1, 0, 2]))
    assert place.tolist() == [0, 2, 2, 2, 3]
    assert table.caption[entries].tolist() == [2, 0, 0, 0, 2]


@pytest.mark.parametrize("seed", range(6))
def test_scores_equal_the_plain_ones(seed: int) -> None:
    candidates, references = corpus(seed)
    counted = row(candidates, references)
    counts, plain = bleu_counts(counted), bleu(candidates, references)
    for n in (1, 2, 3, 4):
        assert bleu_of(counts.sum(axis=0), n) == pytest.approx(getattr(plain, f"bleu{n}"), abs=1e-9)
    assert counts[:, 8].sum() == plain.candidate_words
    assert counts[:, 9].sum() == plain.reference_words
    assert cider_d_of(counted) == pytest.approx(cider_d(candidates, references).per_image, abs=1e-9)


def test_bleu_of_counts_equals_nltk() -> None:
    candidates, references = corpus(9, shortest=4)
    expected = 100 * corpus_bleu(references, candidates)
    assert bleu_of(bleu_counts(row(candidates, references)).sum(axis=0)) == pytest.approx(expected, abs=1e-9)


def test_nothing_that_matches_and_nothing_said() -> None:
    counts = bleu_counts(row([[], list("abc"), ["x"]], [[["a"]], [list("abd")], [["y"]]]))
    assert bleu_of(counts, 1).tolist() == pytest.approx([0, 100 * 2 / 3, 0])
    assert bleu_of(counts).tolist() == [0, 0, 0]
    assert bleu_of(bleu_counts(row([[]], [[["a"]]])).sum(axis=0)) == 0


def test_an_image_without_references_is_refused() -> None:
    table = Ngrams.of([["a"], ["b"], ["c"]])
    references = References(table=table, image=np.array([0, 0]), reference=np.array([1, 2]))
    with pytest.raises(DataError, match="has no references"):
        Row(references=references, candidates=np.array([0, 0]))
    with pytest.raises(DataError, match="nothing to score"):
        Row(references=references, candidates=np.array([], dtype=np.int64))
