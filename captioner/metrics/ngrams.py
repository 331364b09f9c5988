"""A table of the n-grams of many captions as integers, counted once for all rows of an evaluation.

An evaluation scores the same captions repeatedly: against their own references, against those of another image, one
reference against the others. So words and n-grams become integers once, and a row is a selection of captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from captioner.errors import DataError
from captioner.metrics.checks import Caption

ORDERS = 4
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Ngrams:
    """The n-grams of captions, n = 1 to 4: one entry per caption and different n-gram, sorted by caption."""

    captions: Sequence[Caption] = field(repr=False)
    lengths: Ints  # words of each caption
    caption: Ints  # of each entry
    gram: Ints  # of each entry
    count: Ints  # of each entry
    order: Ints  # n - 1 of each gram
    starts: Ints  # the first entry of each caption, and the number of entries

    @classmethod
    def of(cls, captions: Sequence[Caption]) -> Ngrams:
        """Count the n-grams of captions that are split into words."""
        lengths = np.array([len(caption) for caption in captions], dtype=np.int64)
        names: dict[str, int] = {}
        flat = np.array([names.setdefault(word, len(names)) for c in captions for word in c], dtype=np.int64)
        owner = np.repeat(np.arange(len(captions)), lengths)
        left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(flat))  # words from here to the caption's end
        keys: list[Ints] = []
        owners: list[Ints] = []
        orders: list[Ints] = []
        grams = flat
        total = 0
        for n in range(ORDERS):
            places = np.flatnonzero(left > n)
            if n:  # an n-gram is the (n - 1)-gram at its place and one more word
                grams = np.full(len(flat), -1) if not len(places) else _extended(grams, flat, places, n, len(names))
            size = int(grams[places].max()) + 1 if len(places) else 0
            keys.append(grams[places] + total)
            owners.append(owner[places])
            orders.append(np.full(size, n))
            total += size
        pairs = np.concatenate(owners) * max(total, 1) + np.concatenate(keys)
        different, count = np.unique(pairs, return_counts=True)
        caption, gram = np.divmod(different, max(total, 1))
        starts = np.searchsorted(caption, np.arange(len(captions) + 1))
        return cls(
            captions=captions,
            lengths=lengths,
            caption=caption,
            gram=gram,
            count=count,
            order=np.concatenate(orders),
            starts=starts,
        )

    def entries(self, captions: Ints) -> tuple[Ints, Ints]:
        """Return the entries of the given captions: the index into ``captions``, and the entry."""
        sizes = self.starts[captions + 1] - self.starts[captions]
        place = np.repeat(np.arange(len(captions)), sizes)
        ends = np.cumsum(sizes)
        inside = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - sizes, sizes)
        return place, np.repeat(self.starts[captions], sizes) + inside


@dataclass(frozen=True, kw_only=True)
class References:
    """The references of a row: pair p is the caption ``reference[p]`` of ``image[p]``, sorted by image."""

    table: Ngrams
    image: Ints
    reference: Ints

    @cached_property
    def images(self) -> int:
        """The number of images with a reference."""
        return len(np.unique(self.image))

    @cached_property
    def shelf(self) -> tuple[Ints, Ints, Ints]:
        """The n-grams sorted by (image, gram): that key as one number, the index of the pair, and the entry."""
        at, entries = self.table.entries(self.reference)
        keys = self.image[at] * len(self.table.order) + self.table.gram[entries]
        sorting = np.argsort(keys, kind="stable")
        return keys[sorting], at[sorting], entries[sorting]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One candidate for each image: the caption ``candidates[i]`` of ``references.table``."""

    references: References
    candidates: Ints

    def __post_init__(self) -> None:
        if not len(self.candidates):
            raise DataError("there is nothing to score; give at least one candidate and its references")
        if self.references.images != len(self.candidates):
            raise DataError("an image has no references; give at least one reference for each image")


def matched(row: Row) -> tuple[Ints, Ints, Ints]:
    """Return all n-grams that a candidate shares with one of its references.

    The result is (index of the pair in ``References``, candidate's entry, reference's entry), one triple per n-gram.
    """
    table = row.references.table
    keys, pair, reference_entry = row.references.shelf
    image, candidate_entry = table.entries(row.candidates)
    targets = image * len(table.order) + table.gram[candidate_entry]
    low, high = np.searchsorted(keys, targets, "left"), np.searchsorted(keys, targets, "right")
    sizes = high - low
    ends = np.cumsum(sizes)
    hits = np.repeat(low, sizes) + np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - sizes, sizes)
    return pair[hits], np.repeat(candidate_entry, sizes), reference_entry[hits]


def _extended(grams: Ints, words: Ints, places: Ints, n: int, vocabulary: int) -> Ints:
    """Return numbers of the n-grams that begin at ``places``, dense from 0; -1 elsewhere."""
    keys = grams[places] * vocabulary + words[places + n]
    numbers = np.full(len(grams), -1)
    numbers[places] = np.unique(keys, return_inverse=True)[1]
    return numbers
