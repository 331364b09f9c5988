"""ROUGE-L (Lin 2004, section 3), equal to the COCO tools.

ROUGE-L combines, for each image, the best precision and the best recall of the longest common subsequence over all
references, not necessarily the same one, with beta 1.2. (Google's ``rouge-score`` has beta 1 and one reference at a
time.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.metrics.checks import Caption, check_corpus
from captioner.metrics.ngrams import Floats, Ints
from captioner.metrics.statistic import divided

BETA = 1.2


def rouge_l(candidates: Sequence[Caption], references: Sequence[Sequence[Caption]]) -> Floats:
    """Return ROUGE-L of each image's candidate, (N,), 0 to 100; the corpus score is their mean.

    An empty candidate scores 0. Raises ``DataError`` for an empty corpus, lists of different lengths, or an image
    without references.
    """
    check_corpus(candidates, references)
    image = np.repeat(np.arange(len(candidates)), [len(group) for group in references])
    flat = [reference for group in references for reference in group]
    repeated = [candidate for candidate, group in zip(candidates, references, strict=True) for _ in group]
    common = np.array([common_subsequence(first, second) for first, second in zip(repeated, flat, strict=True)])
    lengths = [np.array([len(caption) for caption in captions]) for captions in (repeated, flat)]
    return rouge_l_of(image, common, *lengths)


def rouge_l_of(image: Ints, common: Ints, candidate_words: Ints, reference_words: Ints) -> Floats:
    """Return ROUGE-L of each image, (N,), from pairs (P,) of a candidate and a reference, sorted by ``image``.

    ``common``: the length of the longest common subsequence; the others are the lengths of candidate and reference.
    """
    begins = np.searchsorted(image, np.arange(int(image[-1]) + 1))
    precision = np.maximum.reduceat(divided(common, candidate_words), begins)
    recall = np.maximum.reduceat(divided(common, reference_words), begins)
    return 100 * divided((1 + BETA**2) * precision * recall, recall + BETA**2 * precision)


def common_subsequence(first: Caption, second: Caption) -> int:
    """Return the length of the longest common subsequence, with a bit per word of ``second`` (Hyyrö 2004, fig. 5)."""
    places: dict[str, int] = {}
    for bit, word in enumerate(second):
        places[word] = places.get(word, 0) | 1 << bit
    full = (1 << len(second)) - 1
    row = full
    for word in first:
        matches = row & places.get(word, 0)
        row = ((row + matches) | (row - matches)) & full
    return len(second) - row.bit_count()
