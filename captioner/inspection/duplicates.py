"""Which images are the same: byte for byte, or to the eye.

Hashes find candidates among all pairs, the small grey images decide: a hash of 64 bits alone takes two seas with a
horizon for the same photo.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from captioner.inspection.pictures import Array, Picture

BITS = 12  # of the 64 that a pair of candidates may differ in
ALIKE = 0.92  # correlation of the small images from which they are called the same; measured in docs/inspect.md
FLAT = 3.0  # standard deviation, of 255, below which an image shows nothing that could be alike
_BLOCK = 256
_ONES = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)


def exact_groups(pictures: Sequence[Picture | None]) -> list[list[int]]:
    """Places of the pictures with the same bytes, in groups of two or more."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for place, picture in enumerate(pictures):
        if picture is not None:
            groups[picture.digest].append(place)
    return [group for group in groups.values() if len(group) > 1]


def near_groups(pictures: Sequence[Picture | None]) -> list[list[int]]:
    """Places of pictures that look the same, mirrored ones too, in groups of two or more with different bytes.

    Of pictures with the same bytes only the first takes part. A group may be a chain: its ends need not look the same.
    """
    places, seen = [], set()
    for place, picture in enumerate(pictures):
        if picture is not None and picture.digest not in seen and picture.small.std() >= FLAT:
            seen.add(picture.digest)
            places.append(place)
    if len(places) < 2:
        return []
    kept = [picture for place in places if (picture := pictures[place]) is not None]
    small = np.stack([picture.small for picture in kept])  # (n, 32, 32) uint8
    parent = list(range(len(kept)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j, mirrored in _candidates(kept):
        if root(i) != root(j) and _correlation(small[i], small[j][:, ::-1] if mirrored else small[j]) >= ALIKE:
            parent[root(j)] = root(i)
    groups: dict[int, list[int]] = defaultdict(list)
    for i, place in enumerate(places):
        groups[root(i)].append(place)
    return [group for group in groups.values() if len(group) > 1]


def _candidates(pictures: Sequence[Picture]) -> Iterator[tuple[int, int, bool]]:
    """Pairs i < j whose hashes differ in few bits, and whether it is j's mirror image that does."""
    hashes = np.array([picture.hash for picture in pictures], np.uint64)
    for mirrored, others in ((False, hashes), (True, np.array([p.mirrored for p in pictures], np.uint64))):
        for start in range(0, len(hashes), _BLOCK):
            block = hashes[start : start + _BLOCK]
            different = _bits(block[:, None] ^ others[None, start:])  # (block, n - start)
            for i, j in np.argwhere(different <= BITS):
                if i < j:
                    yield start + int(i), start + int(j), mirrored


def _bits(values: Array) -> Array:
    """How many ones each uint64 has."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.bitwise_count(values)
    return _ONES[np.ascontiguousarray(values).view(np.uint16)].reshape(*values.shape, 4).sum(-1)


def _correlation(one: Array, other: Array) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
