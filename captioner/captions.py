"""Captions with their figures, and the options of generation by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypedDict

from captioner.checkpoint import Checkpoint
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.labels import Label
from captioner.generation.words import confidence, word_log_probs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class GenerationOptions(TypedDict, total=False):
    """Options that ``CaptionPipeline`` takes by name; ``GenerationConfig`` explains each of them."""

    beams: int | None
    candidates: int | None
    rerank: str | None
    refine: int | None
    length_penalty: float | None
    min_tokens: int | None
    max_tokens: int | None
    groups: int | None
    diversity: float | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    typical_p: float | None
    seed: int | None
    prefix: str | None
    require: str | Sequence[str] | None
    forbid: str | Sequence[str] | None
    bias: Mapping[str, float] | None
    repetition_penalty: float | None
    no_repeat_ngram: int | None
    language: str | None


@dataclass(frozen=True)
class Word:
    """A word of a caption and the probability, 0 to 1, that the model gave it after the words before it."""

    text: str
    probability: float


@dataclass(frozen=True)
class Caption:
    """A caption and how sure the model is of it.

    ``score`` is the mean log-probability of its tokens (nearer to 0 is surer), ``confidence`` the share of its words, 0
    to 1, that people can be expected to say of the image too, as calibrated on held-out photos. ``alternatives`` are
    the runners-up, best first, where more than one caption was asked for. ``labels``: names of what the photo shows,
    most probable first, from a captioner with a labeller. Where vectors are asked for:
    ``embedding`` of the image and ``text_embedding`` of these words, (W,), directions in one space; or ``features``
    of the image, (D,).
    """

    text: str
    score: float
    confidence: float = 1.0
    words: tuple[Word, ...] = ()
    alternatives: tuple[Caption, ...] = ()
    labels: tuple[Label, ...] = ()
    embedding: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    text_embedding: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)
    features: NDArray[np.float32] | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return self.text


def caption_of(found: Sequence[Hypothesis], checkpoint: Checkpoint) -> Caption:
    """The best of an image's captions, with the others as its alternatives."""
    tokenizer, calibration = checkpoint.tokenizer, checkpoint.generation.calibration
    best, *others = (
        Caption(
            tokenizer.decode(h.tokens),
            h.log_prob / h.length,
            confidence(h, tokenizer, calibration),
            tuple(Word(text, math.exp(value)) for text, value in word_log_probs(h, tokenizer)),
        )
        for h in found
    )
    return replace(best, alternatives=tuple(others))
