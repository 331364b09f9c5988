"""BLEU over a corpus (Papineni et al. 2002) by nltk, on words that are already split."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from captioner.metrics.checks import Caption, check_corpus

ORDERS = 4


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

    words = sum(lengths)
    closest = sum(closest_ref_length(group, length) for group, length in zip(references, lengths, strict=True))
    precisions = tuple(100 * m / t if t else 0.0 for m, t in zip(matches, totals, strict=True))
    return BleuScore(
        bleu1=values[0],
        bleu2=values[1],
        bleu3=values[2],
        bleu4=values[3],
        precisions=(precisions[0], precisions[1], precisions[2], precisions[3]),
        brevity_penalty=float(brevity_penalty(closest, words)),
        length_ratio=words / closest if closest else 0.0,
        candidate_words=words,
        reference_words=closest,
    )
