"""Labels beside captions: names of objects in a photo."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from captioner.config import LabelsConfig
from captioner.text.neutral import every_language

LEAST_PROBABLE = 0.25  # a label below it is more often wrong than right


@dataclass(frozen=True)
class Label:
    """A name of something in the photo, with its probability."""

    text: str
    probability: float  # 0 to 1, that people would name it


def labels_of(
    config: LabelsConfig | None, log_odds: Tensor | None, *, neutral: bool = False, least: float = LEAST_PROBABLE
) -> tuple[Label, ...]:
    """Return the labels with a probability of at least ``least``, most probable first.

    ``log_odds`` (G,). ``neutral`` leaves out labels that presume the gender or age of people. Without a labeller,
    ``config`` and ``log_odds`` are None and the result is empty.
    """
    if config is None or log_odds is None:
        return ()
    probabilities = log_odds.sigmoid().tolist()
    named = [Label(word, p) for word, p in zip(config.words, probabilities, strict=True) if p >= least]
    if neutral:
        presuming = set(every_language().presuming)
        named = [label for label in named if label.text not in presuming]
    return tuple(sorted(named, key=lambda label: -label.probability))
