"""BLEU over a corpus (Papineni et al. 2002) by nltk, on words that are already split.

Sums of our own (``bleu_counts``, ``bleu_of``) give the same figure and serve where it is resampled, or of one image.
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

from captioner.metrics.checks import Caption, check_corpus
from captioner.metrics.ngrams import ORDERS, Floats, Row, matched
from captioner.metrics.statistic import Statistic, divided


@dataclass(frozen=True, kw_only=True)
class BleuScore:
    """BLEU of a corpus on 0 to 100, and the counts behind it.

    ``precisions``: clipped n-gram precisions for n = 1 to 4, on 0 to 100. ``brevity_penalty`` is on 0 to 1;
    ``length_ratio`` is the candidates' words over the words of the references closest to them in length.
    """

    bleu1: float
    bleu2: float
    bleu3: float
    bleu4: float
    precisions: tuple[float, float, float, float]
    brevity_penalty: float
    length_ratio: float
    candidate_words: int
    reference_words: int


def bleu(candidates: Sequence[Caption], references: Sequence[Sequence[Caption]]) -> BleuScore:
    """BLEU-1 to BLEU-4 of one candidate per image against all references of the image, without smoothing.

    nltk's ``corpus_bleu`` with one change, which makes it equal to the COCO tools: nltk adds 1 to the number of n-grams
    for each candidate that has fewer than n words; here such a candidate adds 0. Captions of four words or more are not
    touched by it. A BLEU without a single match is 0 (the COCO tools print a residue of their rounding constants).
    Raises ``DataError`` for an empty corpus, lists of different lengths, or an image without references.
    """
    check_corpus(candidates, references)
    from nltk.translate.bleu_score import brevity_penalty, closest_ref_length, corpus_bleu  # half a second to import

    lengths = [len(candidate) for candidate in candidates]
    totals = [sum(max(0, length - n + 1) for length in lengths) for n in range(1, ORDERS + 1)]
    matches = [0] * ORDERS

    def coco_counts(precisions: Sequence[Fraction], **_: Any) -> list[Fraction | float]:
        matches[:] = [precision.numerator for precision in precisions]
        # The smallest float stands for zero, whose logarithm nltk takes; such an order is set to 0 below.
        return [Fraction(m, t) if m else sys.float_info.min for m, t in zip(matches, totals, strict=True)]

    weights = [(1 / n,) * n + (0.0,) * (ORDERS - n) for n in range(1, ORDERS + 1)]
    scores = corpus_bleu(references, candidates, weights=weights, smoothing_function=coco_counts)
    values = [100 * float(score) if all(matches[: n + 1]) else 0.0 for n, score in enumerate(scores)]

    closest = sum(closest_ref_length(group, length) for group, length in zip(references, lengths, strict=True))
    penalty = float(brevity_penalty(closest, sum(lengths)))
    return _score(values, matches, totals, (sum(lengths), closest, penalty))


def _score(
    values: Sequence[float], matches: Sequence[float], totals: Sequence[float], lengths: tuple[int, int, float]
) -> BleuScore:
    """``lengths``: words said, words of the closest references, the brevity penalty."""
    words, closest, penalty = lengths
    precisions = [100 * m / t if t else 0.0 for m, t in zip(matches, totals, strict=True)]
    return BleuScore(
        bleu1=values[0],
        bleu2=values[1],
        bleu3=values[2],
        bleu4=values[3],
        precisions=(precisions[0], precisions[1], precisions[2], precisions[3]),
        brevity_penalty=penalty,
        length_ratio=words / closest if closest else 0.0,
        candidate_words=words,
        reference_words=closest,
    )


def bleu_score(counts: Floats) -> BleuScore:
    """All of BLEU from the sums (10,) of ``bleu_counts``."""
    said, closest = int(counts[2 * ORDERS]), int(counts[2 * ORDERS + 1])
    penalty = math.exp(min(0.0, 1 - closest / said)) if said else 0.0
    values = [float(bleu_of(counts, n)) for n in range(1, ORDERS + 1)]
    return _score(values, counts[:ORDERS].tolist(), counts[ORDERS : 2 * ORDERS].tolist(), (said, closest, penalty))


def smoothed_bleu(candidate: Caption, references: Sequence[Caption]) -> float:
    """BLEU-4 of one caption, 0 to 100, as a reward: 1 is added to the counts of pairs and longer n-grams (Lin and Och
    2004, COLING; Chen and Cherry 2014, smoothing 2), so that a caption without four words in a row still has one.

    Not comparable with the BLEU of a corpus.
    """
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu  # half a second to import

    if not candidate:
        return 0.0
    return 100 * float(sentence_bleu(references, candidate, smoothing_function=SmoothingFunction().method2))


def bleu_counts(row: Row) -> Floats:
    """What each image adds to BLEU, (N, 10): matches and n-grams for n = 1 to 4, the words said and the closest length.

    The same counts as ``bleu``; a sum over images gives the corpus' score by ``bleu_of``.
    """
    references, images = row.references, len(row.candidates)
    table = references.table
    pair, ours, theirs = matched(row)
    image = references.image[pair]
    # The most often that one reference has an n-gram bounds how often it counts (Papineni et al. 2002, section 2.1).
    shared, which = np.unique(image * len(table.gram) + ours, return_inverse=True)
    most = np.zeros(len(shared), dtype=np.int64)
    np.maximum.at(most, which, table.count[theirs])
    image, ours = np.divmod(shared, max(1, len(table.gram)))
    clipped = np.minimum(most, table.count[ours])
    order = table.order[table.gram[ours]]
    matches = np.bincount(image * ORDERS + order, weights=clipped, minlength=images * ORDERS)
    said = table.lengths[row.candidates]
    totals = np.maximum(0, said[:, None] - np.arange(ORDERS))
    lengths = table.lengths[references.reference]
    far = (
        np.abs(lengths - said[references.image]) * (2 * lengths.max(initial=0) + 2) + lengths
    )  # the shorter of two as close
    begins = np.searchsorted(references.image, np.arange(images))
    closest = np.minimum.reduceat(far, begins) % (2 * lengths.max(initial=0) + 2)
    return np.concatenate([matches.reshape(images, ORDERS), totals, said[:, None], closest[:, None]], axis=1)


def bleu_statistics(row: Row) -> dict[str, Statistic]:
    """BLEU-1 to 4 of a row of captions: over all images by nltk, of each image and of draws of images by the sums."""
    counts, table, references = bleu_counts(row), row.references.table, row.references
    groups: list[list[Caption]] = [[] for _ in row.candidates]
    for image, reference in zip(references.image.tolist(), references.reference.tolist(), strict=True):
        groups[image].append(table.captions[reference])
    found = bleu([table.captions[place] for place in row.candidates.tolist()], groups)
    whole = (found.bleu1, found.bleu2, found.bleu3, found.bleu4)
    return {
        f"bleu{n}": Statistic(values=counts, score=partial(bleu_of, order=n), whole=value)
        for n, value in enumerate(whole, start=1)
    }


def bleu_of(counts: Floats, order: int = ORDERS) -> Floats:
    """BLEU-``order``, 0 to 100, of counts (..., 10) as ``bleu_counts`` has them; 0 where an n-gram never matches."""
    precisions = divided(counts[..., :order], counts[..., ORDERS : ORDERS + order])
    with np.errstate(divide="ignore"):
        mean = np.exp(np.log(precisions).mean(axis=-1))
    said, closest = counts[..., 2 * ORDERS], counts[..., 2 * ORDERS + 1]
    penalty = np.exp(np.minimum(0, 1 - divided(closest, said)))
    return np.where(said > 0, 100 * mean * penalty, 0.0)
