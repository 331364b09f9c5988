"""ROUGE-L (Lin 2004, section 3) as the COCO tools compute it.

For an image: the best precision and the best recall that the longest common subsequence has with any reference, not
necessarily the same one, joined with beta 1.2. (Google's ``rouge-score`` has beta 1 and one reference at a time.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.metrics.checks import Caption, check_corpus
from captioner.metrics.ngrams import Floats
from captioner.metrics.statistics import divided

BETA = 1.2


def rouge_l(candidates: Sequence[Caption], references: Sequence[Sequence[Caption]]) -> Floats:
    """ROUGE-L of each image's candidate, (N,), 0 to 100; the corpus has their mean.

    An empty candidate scores 0. Raises ``DataError`` for an empty corpus, lists of different lengths, or an image
    without references.
    """
    check_corpus(candidates, references)
    best = np.zeros((len(candidates), 2))  # precision, recall
    for place, (candidate, group) in enumerate(zip(candidates, references, strict=True)):
        common = [common_subsequence(candidate, reference) for reference in group]
        recalls = [found / max(1, len(reference)) for found, reference in zip(common, group, strict=True)]
        best[place] = max(common) / max(1, len(candidate)), max(recalls)
    precision, recall = best.T
    return 100 * divided((1 + BETA**2) * precision * recall, recall + BETA**2 * precision)


def common_subsequence(first: Caption, second: Caption) -> int:
    """Length of the longest common subsequence, a bit per word of ``second`` (Hyyrö 2004, fig. 5)."""
    places: dict[str, int] = {}
    for bit, word in enumerate(second):
        places[word] = places.get(word, 0) | 1 << bit
    full = (1 << len(second)) - 1
    row = full
    for word in first:
        matches = row & places.get(word, 0)
        row = ((row + matches) | (row - matches)) & full
    return len(second) - row.bit_count()
