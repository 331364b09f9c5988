"""Mentions: the things that a caption names, against those that people name of the same image.

The F1 of mention is that of the held-out COCO studies (Hendricks et al. 2016, arXiv 1511.05284, section 4.1), over all
labels of an image instead of one left-out kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass


def mention_f1(named: Collection[int], references: Sequence[Collection[int]]) -> float:
    """Return the F1, 0 to 100, of the labels that one caption names.

    Precision: the share of them that any reference names. Recall: over all labels of the references, each counted as
    often as references name it. 100 where neither side names a label.
    """
    votes = Counter(label for reference in references for label in set(reference))
    own = set(named)
    if not own or not votes:
        return 100.0 if not own and not votes else 0.0
    precision = len(own & votes.keys()) / len(own)
    recall = sum(votes[label] for label in own) / votes.total()
    return 100 * 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@dataclass(frozen=True, kw_only=True)
class Mentions:
    """``f1``: the mean F1 of mention, 0 to 100. ``false``: percent of captions that name a label no reference names."""

    f1: float
    false: float


def mentions(named: Sequence[Collection[int]], references: Sequence[Sequence[Collection[int]]]) -> Mentions:
    """Judge the labels of one caption for each of N images."""
    count = max(len(named), 1)
    f1 = sum(mention_f1(own, group) for own, group in zip(named, references, strict=True))
    false = sum(not set(own) <= {n for one in group for n in one} for own, group in zip(named, references, strict=True))
    return Mentions(f1=f1 / count, false=100 * false / count)


@dataclass(frozen=True, kw_only=True)
class KindMentions:
    """Captions of one kind of image. ``f1``: of saying the kind where it is. ``false``: percent of the other images
    whose caption says it all the same."""

    f1: float
    false: float


def mentions_of_kind(label: int, named: Sequence[Collection[int]], shown: Sequence[bool]) -> KindMentions:
    """Judge how well captions name one ``label``, where ``shown`` says which images show it (Hendricks et al. 2016)."""
    said = [label in own for own in named]
    right = sum(s and t for s, t in zip(said, shown, strict=True))
    f1 = 100 * 2 * right / (sum(said) + sum(shown)) if sum(said) + sum(shown) else 0.0
    others = len(shown) - sum(shown)
    return KindMentions(f1=f1, false=100 * (sum(said) - right) / others if others else 0.0)
