"""How varied captions are, whatever they are captions of."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from captioner.errors import DataError
from captioner.metrics.checks import Caption


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """Figures of a set of captions, one per image; shares in percent.

    ``distinct_captions``: captions unlike all others, per caption. ``distinct_1``, ``distinct_2``: different words and
    pairs of words, per word and pair (Li et al. 2016, arXiv 1510.03055, sec. 5.3). ``vocabulary``: different words.
    ``length``: words per caption. ``repetitive``: captions that say a word twice in a row or two words in a row
    twice. ``empty``: captions without a word.
    """

    distinct_captions: float
    distinct_1: float
    distinct_2: float
    vocabulary: int
    length: float
    repetitive: float
    empty: float


def diversity(captions: Sequence[Caption]) -> Diversity:
    """Of tokenised captions. Raises ``DataError`` where there are none."""
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
        repetitive=_share(sum(map(_repeats, captions)), len(captions)),
        empty=_share(sum(not caption for caption in captions), len(captions)),
    )


def _repeats(caption: Caption) -> bool:
    pairs = _pairs(caption)
    return len(set(pairs)) < len(pairs) or any(a == b for a, b in pairs)


def _pairs(caption: Caption) -> list[tuple[str, str]]:
    return list(itertools.pairwise(caption))


def _share(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0
