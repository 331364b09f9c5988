"""A caption as generation knows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from captioner.config import TextConfig


@dataclass(frozen=True)
class Hypothesis:
    """A caption as ``tokens``, without start and end.

    ``log_probs`` are the model's own, one per token and, unless the caption was cut before it, one for the end.
    ``score`` is what the search ranks by.
    """

    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]
    score: float

    @property
    def length(self) -> int:
        """What ``log_prob`` sums: the end too, unless the caption was cut before it."""
        return len(self.log_probs)

    @property
    def ended(self) -> bool:
        """Whether the caption has come to its end, or was cut before it."""
        return len(self.log_probs) > len(self.tokens)

    @property
    def log_prob(self) -> float:
        """log p(caption, end | image), natural logarithm."""
        return sum(self.log_probs)


def finished(
    written: Sequence[int], log_probs: Sequence[float], text: TextConfig, *, ranked: float, length_penalty: float
) -> Hypothesis:
    """The caption that was ``written``, perhaps with its end; ``ranked`` is the search's sum of log-probabilities."""
    tokens = tuple(written[:-1] if written and written[-1] == text.eos_id else written)
    return Hypothesis(tokens, tuple(log_probs), ranked / max(len(written), 1) ** length_penalty)
