"""Labels beside captions: names of what a photo shows."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from captioner.config import LabelsConfig

LEAST_PROBABLE = 0.25  # a label below it is more often wrong than right


@dataclass(frozen=True)
class Label:
    """A name of something that the photo shows, and the probability, 0 to 1, that people would name it."""

    text: str
    probability: float


def labels_of(config: LabelsConfig | None, log_odds: Tensor | None) -> tuple[Label, ...]:
    """Return the labels of at least ``LEAST_PROBABLE`` by their ``log_odds`` (G,), most probable first.

    A captioner without a labeller has neither ``config`` nor log-odds, and names none.
    """
    if config is None or log_odds is None:
        return ()
    probabilities = log_odds.sigmoid().tolist()
    named = [Label(word, p) for word, p in zip(config.words, probabilities, strict=True) if p >= LEAST_PROBABLE]
    return tuple(sorted(named, key=lambda label: -label.probability))
