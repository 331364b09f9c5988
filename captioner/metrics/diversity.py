"""How varied captions are, whatever they are captions of."""

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
    """Figures of a set of captions, one per image; shares in percent.

    ``distinct_captions``: different captions, per caption. ``distinct_1``, ``distinct_2``: different words per word,
    and different pairs of words per pair (Li et al. 2016, arXiv 1510.03055, divide both by words). ``vocabulary``: the
    number of different words.
    ``length``: words per caption. ``repetitive``: captions that say a word twice in a row or two words in a row
    twice. ``empty``: captions without a word. ``self_bleu``: the mean BLEU-4 of a caption against all the others (Zhu
    et al. 2018, arXiv 1802.01886, sec. 3), without smoothing; it grows with the number of captions. ``novel``: captions
    that no training caption equals word for word; None where the training captions are not known.
    """

    distinct_captions: float
    distinct_1: float
    distinct_2: float
    vocabulary: int
    length: float
    repetitive: float
    empty: float
    self_bleu: float = 0.0
    novel: float | None = None


def diversity(captions: Sequence[Caption], training: Iterable[Caption] | None = None) -> Diversity:
    """Of tokenised captions, some of them perhaps in ``training``. Raises ``DataError`` where there are none."""
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
    """The mean BLEU-4 of each caption against all the others, 0 to 100; 0 for a single one."""
    if len(captions) < 2:
        return 0.0
    table = Ngrams.of(captions)
    # How often a caption other than one's own says an n-gram at most: the most, or the second for who has the most.
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
    """Of each caption, whether no training caption equals it word for word."""
    known = {tuple(caption) for caption in training}
    return [tuple(caption) not in known for caption in captions]


def _closest(lengths: Ints) -> Ints:
    """To each length the closest of the others, the shorter of two."""
    different, counts = np.unique(lengths, return_counts=True)
    gaps = np.abs(different[None, :] - lengths[:, None]) * (2 * int(different[-1]) + 2) + different
    alone = (different[None, :] == lengths[:, None]) & (counts[None, :] == 1)
    gaps[alone] = np.iinfo(np.int64).max
    return different[gaps.argmin(axis=1)]


def repeats(caption: Caption) -> bool:
    """Whether a caption says a word twice in a row, or two words in a row twice."""
    pairs = _pairs(caption)
    return len(set(pairs)) < len(pairs) or any(a == b for a, b in pairs)


def _pairs(caption: Caption) -> list[tuple[str, str]]:
    return list(itertools.pairwise(caption))


def _share(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0
