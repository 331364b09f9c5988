"""Minimum Bayes risk by enumeration: every caption against every other one, n-grams counted one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence


def order(captions: Sequence[list[str]], weights: Sequence[float]) -> list[int]:
    """Return the indices of the captions by expected similarity, the highest first."""
    expected = [
        sum(weight * caption_similarity(ours, theirs) for theirs, weight in zip(captions, weights, strict=True))
        for ours in captions
    ]
    return sorted(range(len(captions)), key=lambda place: -expected[place])


def caption_similarity(ours: list[str], theirs: list[str]) -> float:
    """Return CIDEr-D (Vedantam et al. 2015, section 8) with every idf 1, from 0 to 1000."""
    cosines = 0.0
    for n in (1, 2, 3, 4):
        mine = [tuple(ours[i : i + n]) for i in range(len(ours) - n + 1)]
        other = [tuple(theirs[i : i + n]) for i in range(len(theirs) - n + 1)]
        product = sum(min(mine.count(gram), other.count(gram)) * other.count(gram) for gram in set(mine))
        norms = [math.sqrt(sum(grams.count(gram) ** 2 for gram in set(grams))) for grams in (mine, other)]
        cosines += product / (norms[0] * norms[1]) if all(norms) else 0.0
    return 1000 / 4 * cosines * math.exp(-((len(ours) - len(theirs)) ** 2) / (2 * 6.0**2))
