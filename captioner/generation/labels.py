"""Labels beside captions: names of what a photo shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEAST_PROBABLE = 0.25  # a label below it is more often wrong than right


@dataclass(frozen=True)
class Label:
    """A name of something that the photo shows, and the probability, 0 to 1, that people would name it."""

    text: str
    probability: float


def labels_of(probabilities: Sequence[float], words: Sequence[str]) -> tuple[Label, ...]:
    """Return the labels of at least ``LEAST_PROBABLE``, most probable first."""
    named = [Label(word, p) for word, p in zip(words, probabilities, strict=True) if p >= LEAST_PROBABLE]
    return tuple(sorted(named, key=lambda label: -label.probability))
