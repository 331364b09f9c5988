"""Captions with their scores, and the generation options by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypedDict

from captioner.captioning.labels import Label
from captioner.generation.hypothesis import Hypothesis
from captioner.generation.words import confidence, word_log_probs
from captioner.inference import AnyCheckpoint

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class GenerationOptions(TypedDict, total=False):
    """The generation options of ``CaptionPipeline``; ``GenerationConfig`` documents them.

    Type checkers accept literal keys alone, so ``python tests/config/option_table.py`` writes the keys here from the
    fields of ``GenerationConfig``, ``SamplingConfig`` and ``WordRules``; a test fails if they are out of date.
    """

    # keys
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
    neutral: bool | None
    bias: Mapping[str, float] | None
    repetition_penalty: float | None
    no_repeat_ngram: int | None
    language: str | None
    label_weight: float | None
    name_sure_labels: float | None
    check_colour: bool | None
    unsure: float | None
    # end of keys


@dataclass(frozen=True)
class Word:
    """A word of a caption, and its probability (0 to 1) given the image and the preceding words."""

    text: str
    probability: float


@dataclass(frozen=True)
class Caption:
    """A caption, its score and its confidence.

    text: The caption.
    score: Mean log-probability of its tokens; closer to 0 is better.
    confidence: Expected share of its words, 0 to 1, that people also use for the image; calibrated on held-out images.
    words: Its words with their probabilities.
    alternatives: The other candidates, best first, if more than one caption was requested.
    labels: Names of what the image shows, most probable first, from a captioner with a labeller.
    embedding: Embedding (W,) of the image, if requested.
    text_embedding: Embedding (W,) of the caption, in the same space, if requested.
    features: Encoder features (D,) of the image, if requested.
    unsure: True if its confidence is below the option ``unsure``.
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
    unsure: bool = False

    def __str__(self) -> str:
        return self.text


def caption_of(hypotheses: Sequence[Hypothesis], checkpoint: AnyCheckpoint, *, unsure: float = 0.0) -> Caption:
    """Return the first (best) hypothesis of an image as a ``Caption``, with the others as its alternatives.

    Those with a confidence below ``unsure`` are marked.
    """
    tokenizer, calibration = checkpoint.tokenizer, checkpoint.generation.calibration
    best, *others = (
        Caption(
            tokenizer.decode(h.tokens),
            h.log_prob / h.length,
            sure,
            tuple(Word(text, math.exp(value)) for text, value in word_log_probs(h, tokenizer)),
            unsure=sure < unsure,
        )
        for h in hypotheses
        for sure in [confidence(h, tokenizer, calibration)]
    )
    return replace(best, alternatives=tuple(others))
