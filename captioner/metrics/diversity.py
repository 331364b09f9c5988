"""Diversity of a set of captions, without references."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from captioner.errors import DataError
from captioner.metrics.bleu import bleu_of
from captioner.metrics.checks import Caption
from captioner.metrics.ngrams import ORDERS, Ints, Ngrams


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """Figures of a set of captions, one per image; shares in percent."""

    distinct_captions: float  # different captions per caption
    distinct_1: float  # different words per word (Li et al. 2016, arXiv 1510.03055)
    distinct_2: float  # different bigrams per bigram; Li et al. divide by words
    vocabulary: int  # number of different words
    length: float  # words per caption
    repetitive: float  # captions that repeat a word in a row, or a bigram
    empty: float  # captions without words
    self_bleu: float = 0.0
    """The mean BLEU-4 of a caption against all others (Zhu et al. 2018, arXiv 1802.01886, sec. 3), without smoothing.
    It grows with the number of captions."""
    novel: float | None = None  # captions that equal no training caption; None without training captions


def diversity(captions: Sequence[Caption], training: Iterable[Caption] | None = None) -> Diversity:
    """Return the diversity of captions that are split into words. Raises ``DataError`` without captions."""
    if not captions:
        raise DataError("there are no captions to compare; give at least one")
    words = [word for caption in captions for word in caption]
    pairs = [pair for caption in captions for pair in _pairs(caption)]
    return Diversity(
        distinct_captions=_share(len({tuple(caption) for caption in captions}), len(captions)),
        distinct_1=_share(len(set(words)), len(words)),
        distinct_2=_share(len(set(pairs)), len(pairs)),
        vocabulary=len(set(words)),
        length=len(words) / len(captions),
        repetitive=_share(sum(map(repeats, captions)), len(captions)),
        empty=_share(sum(not caption for caption in captions), len(captions)),
        self_bleu=self_bleu(captions),
        novel=None if training is None else 100 * sum(novel(captions, training)) / len(captions),
    )


def self_bleu(captions: Sequence[Caption]) -> float:
    """Return the mean BLEU-4 of each caption against all others, 0 to 100; 0 for a single caption."""
    if len(captions) < 2:
        return 0.0
    table = Ngrams.of(captions)
    # The largest count of an n-gram in any other caption: the overall largest, or the second for the leader itself.
    by_gram = np.lexsort((-table.count, table.gram))
    grams, first = np.unique(table.gram[by_gram], return_index=True)
    several = np.append(table.gram[by_gram][1:] == table.gram[by_gram][:-1], False)[first]
    limit = table.count[by_gram[first]][np.searchsorted(grams, table.gram)]
    leaders = by_gram[first]
    limit[leaders] = np.where(several, table.count[by_gram[np.minimum(first + 1, len(by_gram) - 1)]], 0)
    matches = np.bincount(
        table.caption * ORDERS + table.order[table.gram],
        weights=np.minimum(limit, table.count),
        minlength=len(captions) * ORDERS,
    ).reshape(-1, ORDERS)
    totals = np.maximum(0, table.lengths[:, None] - np.arange(ORDERS))
    counts = np.concatenate([matches, totals, table.lengths[:, None], _closest(table.lengths)[:, None]], axis=1)
    return float(bleu_of(counts).mean())


def novel(captions: Sequence[Caption], training: Iterable[Caption]) -> list[bool]:
    """Return for each caption whether it differs from all training captions."""
    known = {tuple(caption) for caption in training}
    return [tuple(caption) not in known for caption in captions]


def _closest(lengths: Ints) -> Ints:
    """Return for each length the closest of the others, the shorter of two."""
    different, counts = np.unique(lengths, return_counts=True)
    gaps = np.abs(different[None, :] - lengths[:, None]) * (2 * int(different[-1]) + 2) + different
    alone = (different[None, :] == lengths[:, None]) & (counts[None, :] == 1)
    gaps[alone] = np.iinfo(np.int64).max
    return different[gaps.argmin(axis=1)]


def repeats(caption: Caption) -> bool:
    """Return whether a caption repeats a word in a row, or a bigram anywhere."""
    pairs = _pairs(caption)
    return len(set(pairs)) < len(pairs) or any(a == b for a, b in pairs)


def _pairs(caption: Caption) -> list[tuple[str, str]]:
    return list(itertools.pairwise(caption))


def _share(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0
