"""A generated caption: tokens, log-probabilities and score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from captioner.config import TextConfig


@dataclass(frozen=True)
class Hypothesis:
    """A caption as tokens, with the model's log-probabilities and the search's score."""

    tokens: tuple[int, ...]  # without start and end
    log_probs: tuple[float, ...]  # the model's, one per token and one for the end, unless truncated
    score: float  # the search ranks by it

    @property
    def length(self) -> int:
        """The number of log-probabilities: the tokens and the end, unless truncated."""
        return len(self.log_probs)

    @property
    def ended(self) -> bool:
        """True if the caption has an end token, False if it was truncated."""
        return len(self.log_probs) > len(self.tokens)

    @property
    def log_prob(self) -> float:
        """The log p(caption, end | image), natural logarithm."""
        return sum(self.log_probs)


def hypothesis_of(
    written: Sequence[int], log_probs: Sequence[float], text: TextConfig, *, ranked: float, length_penalty: float
) -> Hypothesis:
    """Return the hypothesis of the tokens ``written``; ``ranked`` is the search's sum of log-probabilities."""
    tokens = tuple(written[:-1] if written and written[-1] == text.eos_id else written)
    return Hypothesis(tokens, tuple(log_probs), ranked / max(len(written), 1) ** length_penalty)
