"""Exact duplicates and near duplicates among images.

Hashes select candidates from all pairs, and the small grey images decide: by 64-bit hashes alone, two photos of a sea
with a horizon would be duplicates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from captioner.inspection.pictures import Array, Picture

BITS = 12  # most differing bits, of 64, in a pair of candidates
ALIKE = 0.92  # threshold on the correlation of the small images; measured in docs/inspect.md
FLAT = 3.0  # standard deviation, of 255; flatter images have no content to compare
_BLOCK = 256
_ONES = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)


def exact_groups(pictures: Sequence[Picture | None]) -> list[list[int]]:
    """Return groups of two or more images with the same bytes, as indices."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for index, picture in enumerate(pictures):
        if picture is not None:
            groups[picture.digest].append(index)
    return [group for group in groups.values() if len(group) > 1]


def near_groups(pictures: Sequence[Picture | None]) -> list[list[int]]:
    """Return groups of two or more near duplicates with different bytes, including mirrored ones, as indices.

    Only the first of several exact duplicates is included. A group may be a chain whose ends are not near duplicates.
    """
    indices, seen = [], set()
    for index, picture in enumerate(pictures):
        if picture is not None and picture.digest not in seen and picture.small.std() >= FLAT:
            seen.add(picture.digest)
            indices.append(index)
    if len(indices) < 2:
        return []
    kept = [picture for index in indices if (picture := pictures[index]) is not None]
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
    for i, index in enumerate(indices):
        groups[root(i)].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _candidates(pictures: Sequence[Picture]) -> Iterator[tuple[int, int, bool]]:
    """Yield pairs i < j with similar hashes, and whether the hash of j's mirror image is the similar one."""
    hashes = np.array([picture.hash for picture in pictures], np.uint64)
    for mirrored, others in ((False, hashes), (True, np.array([p.mirrored for p in pictures], np.uint64))):
        for start in range(0, len(hashes), _BLOCK):
            block = hashes[start : start + _BLOCK]
            different = _bits(block[:, None] ^ others[None, start:])  # (block, n - start)
            for i, j in np.argwhere(different <= BITS):
                if i < j:
                    yield start + int(i), start + int(j), mirrored


def _bits(values: Array) -> Array:
    """Return the number of set bits of each uint64."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        return np.bitwise_count(values)
    return _ONES[np.ascontiguousarray(values).view(np.uint16)].reshape(*values.shape, 4).sum(-1)


def _correlation(one: Array, other: Array) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
