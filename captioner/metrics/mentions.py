"""Mentions: the labels that a caption names, against those that people name for the same image.

The F1 of mentions follows the held-out COCO studies (Hendricks et al. 2016, arXiv 1511.05284, section 4.1), over all
labels of an image instead of one held-out label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass


def mention_f1(named: Collection[int], references: Sequence[Collection[int]]) -> float:
    """Return the F1, 0 to 100, of the labels that one caption names.

    Precision: the share of them that any reference names. Recall: over all labels of the references, each weighted by
    the number of references that name it. 100 if neither side names a label.
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
    """The mentions of a set of captions."""

    f1: float  # mean F1, 0 to 100
    false: float  # percent of captions that name a label without support in a reference


def mentions(named: Sequence[Collection[int]], references: Sequence[Sequence[Collection[int]]]) -> Mentions:
    """Return the scores of the labels of one caption for each of N images."""
    count = max(len(named), 1)
    f1 = sum(mention_f1(own, group) for own, group in zip(named, references, strict=True))
    supported = [{label for reference in group for label in reference} for group in references]
    false = sum(not set(own) <= labels for own, labels in zip(named, supported, strict=True))
    return Mentions(f1=f1 / count, false=100 * false / count)


@dataclass(frozen=True, kw_only=True)
class KindMentions:
    """The mentions of one label."""

    f1: float  # 0 to 100
    false: float  # percent of images without the label whose caption names it


def mentions_of_kind(label: int, named: Sequence[Collection[int]], shown: Sequence[bool]) -> KindMentions:
    """Return how well captions name one ``label``; ``shown``: whether each image shows it (Hendricks et al. 2016)."""
    mentioned = [label in own for own in named]
    right = sum(m and s for m, s in zip(mentioned, shown, strict=True))
    f1 = 100 * 2 * right / (sum(mentioned) + sum(shown)) if sum(mentioned) + sum(shown) else 0.0
    others = len(shown) - sum(shown)
    return KindMentions(f1=f1, false=100 * (sum(mentioned) - right) / others if others else 0.0)
