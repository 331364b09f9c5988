"""Corpus BLEU (Papineni et al. 2002) by nltk, on captions that are split into words.

``bleu_counts`` and ``bleu_of`` compute the same score from sums, for resampling and for single images.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np

from captioner.errors import require
from captioner.metrics.checks import Caption, check_corpus
from captioner.metrics.ngrams import ORDERS, Floats, Row, matched
from captioner.metrics.statistic import Statistic, divided


@dataclass(frozen=True, kw_only=True)
class BleuScore:
    """BLEU of a corpus from 0 to 100, with its counts."""

    bleu1: float
    bleu2: float
    bleu3: float
    bleu4: float
    precisions: tuple[float, float, float, float]  # clipped n-gram precisions for n = 1 to 4, from 0 to 100
    brevity_penalty: float  # from 0 to 1
    length_ratio: float  # candidate_words / reference_words
    candidate_words: int
    reference_words: int  # words of the references closest in length


def check_bleu() -> None:
    """Raise ``MissingExtraError`` if nltk is missing."""
    require("nltk", "evaluate", "BLEU")


def bleu(candidates: Sequence[Caption], references: Sequence[Sequence[Caption]]) -> BleuScore:
    """Return BLEU-1 to BLEU-4 of one candidate per image against all references of the image, without smoothing.

    This is nltk's ``corpus_bleu`` with one change, which makes it equal to the COCO tools: nltk adds 1 to the number of
    n-grams for each candidate with fewer than n words; here such a candidate adds 0. Captions of four words or more are
    not affected. A BLEU without any match is 0 (the COCO tools print a residue of their rounding constants).

    Raises ``DataError`` for an empty corpus, lists of different lengths, or an image without references, and
    ``MissingExtraError`` without nltk.
    """
    check_corpus(candidates, references)
    check_bleu()
    from nltk.translate.bleu_score import closest_ref_length, corpus_bleu  # half a second to import

    lengths = [len(candidate) for candidate in candidates]
    totals = [sum(max(0, length - n + 1) for length in lengths) for n in range(1, ORDERS + 1)]
    matches = [0] * ORDERS

    def coco_counts(precisions: Sequence[Fraction], **_: Any) -> list[Fraction | float]:
        matches[:] = [precision.numerator for precision in precisions]
        # The smallest float replaces zero, since nltk takes its logarithm; such an order is set to 0 below.
        return [Fraction(m, t) if m else sys.float_info.min for m, t in zip(matches, totals, strict=True)]

    weights = [(1 / n,) * n + (0.0,) * (ORDERS - n) for n in range(1, ORDERS + 1)]
    scores = corpus_bleu(references, candidates, weights=weights, smoothing_function=coco_counts)
    values = [100 * float(score) if all(matches[: n + 1]) else 0.0 for n, score in enumerate(scores)]

    closest = sum(closest_ref_length(group, length) for group, length in zip(references, lengths, strict=True))
    return bleu_score(values, [*matches, *totals, sum(lengths), closest])


def bleu_score(values: Sequence[float], counts: Sequence[float]) -> BleuScore:
    """Return BLEU-1 to BLEU-4 (``values``) with the details that the sums (10,) of ``bleu_counts`` give."""
    words, closest = int(counts[2 * ORDERS]), int(counts[2 * ORDERS + 1])
    precisions = [100 * m / t if t else 0.0 for m, t in zip(counts[:ORDERS], counts[ORDERS : 2 * ORDERS], strict=True)]
    return BleuScore(
        bleu1=values[0],
        bleu2=values[1],
        bleu3=values[2],
        bleu4=values[3],
        precisions=(precisions[0], precisions[1], precisions[2], precisions[3]),
        brevity_penalty=math.exp(min(0.0, 1 - closest / words)) if words else 0.0,
        length_ratio=words / closest if closest else 0.0,
        candidate_words=words,
        reference_words=closest,
    )


def smoothed_bleu(candidate: Caption, references: Sequence[Caption]) -> float:
    """Return the smoothed BLEU-4 of one caption, 0 to 100, for a reward.

    Smoothing adds 1 to the counts of bigrams and longer n-grams (Lin and Och 2004, COLING; Chen and Cherry 2014,
    smoothing 2), so that a caption without a matching 4-gram still has a score. Not comparable with corpus BLEU.
    """
    check_bleu()
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu  # half a second to import

    if not candidate:
        return 0.0
    return 100 * float(sentence_bleu(references, candidate, smoothing_function=SmoothingFunction().method2))


def bleu_counts(row: Row) -> Floats:
    """Return the counts of each image, (N, 10): matches and n-grams for n = 1 to 4, words, and the closest length.

    They are the counts of ``bleu``; ``bleu_of`` of their sum over images is the score of the corpus.
    """
    references, images = row.references, len(row.candidates)
    table = references.table
    pair, candidate_entry, reference_entry = matched(row)
    image = references.image[pair]
    # The largest count of an n-gram in one reference clips its matches (Papineni et al. 2002, section 2.1).
    shared, index = np.unique(image * len(table.gram) + candidate_entry, return_inverse=True)
    most = np.zeros(len(shared), dtype=np.int64)
    np.maximum.at(most, index, table.count[reference_entry])
    image, candidate_entry = np.divmod(shared, max(1, len(table.gram)))
    clipped = np.minimum(most, table.count[candidate_entry])
    order = table.order[table.gram[candidate_entry]]
    matches = np.bincount(image * ORDERS + order, weights=clipped, minlength=images * ORDERS)
    words = table.lengths[row.candidates]
    totals = np.maximum(0, words[:, None] - np.arange(ORDERS))
    lengths = table.lengths[references.reference]
    # The shorter of two equally close lengths counts.
    far = np.abs(lengths - words[references.image]) * (2 * lengths.max(initial=0) + 2) + lengths
    begins = np.searchsorted(references.image, np.arange(images))
    closest = np.minimum.reduceat(far, begins) % (2 * lengths.max(initial=0) + 2)
    return np.concatenate([matches.reshape(images, ORDERS), totals, words[:, None], closest[:, None]], axis=1)


def bleu_statistics(row: Row) -> dict[str, Statistic]:
    """Return BLEU-1 to 4 of a row of captions: by nltk for all images, from sums for single and resampled images."""
    counts, table, references = bleu_counts(row), row.references.table, row.references
    groups: list[list[Caption]] = [[] for _ in row.candidates]
    for image, reference in zip(references.image.tolist(), references.reference.tolist(), strict=True):
        groups[image].append(table.captions[reference])
    score = bleu([table.captions[place] for place in row.candidates.tolist()], groups)
    whole = (score.bleu1, score.bleu2, score.bleu3, score.bleu4)
    return {
        f"bleu{n}": Statistic(values=counts, score=partial(bleu_of, order=n), whole=value)
        for n, value in enumerate(whole, start=1)
    }


def bleu_of(counts: Floats, order: int = ORDERS) -> Floats:
    """Return BLEU-``order``, 0 to 100, from ``bleu_counts`` (..., 10); 0 if an order has no match."""
    precisions = divided(counts[..., :order], counts[..., ORDERS : ORDERS + order])
    with np.errstate(divide="ignore"):
        mean = np.exp(np.log(precisions).mean(axis=-1))
    words, closest = counts[..., 2 * ORDERS], counts[..., 2 * ORDERS + 1]
    penalty = np.exp(np.minimum(0, 1 - divided(closest, words)))
    return np.where(words > 0, 100 * mean * penalty, 0.0)
