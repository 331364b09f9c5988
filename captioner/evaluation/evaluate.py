"""A dataset's score: of a model, whose captions are made here, or of captions that were made elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from captioner.config import GenerationConfig, Words
from captioner.data.samples import Sample
from captioner.errors import CheckpointError, DataError
from captioner.evaluation.judge import Judge, Judgement, Scores, fingerprint
from captioner.files import WEIGHTS, find
from captioner.files import fingerprint as file_fingerprint
from captioner.metrics.bootstrap import Interval, intervals
from captioner.metrics.calibration import calibration_error, rank_correlation
from captioner.metrics.diversity import Diversity
from captioner.metrics.ngrams import Floats
from captioner.metrics.statistic import Statistic, divided

if TYPE_CHECKING:
    from captioner.checkpoint import Checkpoint
    from captioner.evaluation.decode import Decoded


__all__ = ["Evaluation", "OfModel", "evaluate", "fingerprint", "judge_captions"]


@dataclass(frozen=True, kw_only=True)
class OfModel:
    """What only a model has.

    ``perplexity`` per word: exp(-log p(captions and their ends) / (words + ends)) over all human captions, words as the
    metrics count them. ``cut_references`` of them are longer than the ``context`` of the model, in tokens: of these the
    whole words within it count, and no end. ``confidence_rank``: Spearman's correlation of the captions' confidences
    with their CIDEr-D, -1 to 1. ``calibration_error``: how far word probabilities are from how often people say the
    word, 0 to 100. ``fingerprint``: of the weights; empty for a model in memory.
    """

    generation: GenerationConfig
    perplexity: float
    perplexity_interval: Interval
    cut_references: int
    context: int
    confidence_rank: float
    calibration_error: float
    confidences: tuple[float, ...] = field(repr=False)
    word_chances: tuple[tuple[float, bool], ...] = field(repr=False)
    seconds: float
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Everything that ``captioner evaluate`` prints. ``of_model`` is None for captions that were made elsewhere.

    ``notes`` belong beside the scores; ``problems`` are images that could not be read and were left out.
    """

    judgement: Judgement
    captions: tuple[str, ...]
    of_model: OfModel | None = None
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def model(self) -> Scores:
        """The row of the captions that were judged."""
        return self.judgement.model

    @property
    def perplexity(self) -> float:
        """Per word, as ``OfModel`` has it; not a number for captions that were made elsewhere."""
        return math.nan if self.of_model is None else self.of_model.perplexity

    @property
    def diversity(self) -> Diversity:
        """How varied the captions are."""
        return self.judgement.diversity


def evaluate(
    checkpoint: Checkpoint,
    samples: Sequence[Sample],
    generation: GenerationConfig | None = None,
    *,
    batch_size: int = 16,
    words: Words | None = None,
    training: Sequence[Sample] | None = None,
    java: bool = False,
    spice: bool = False,
    progress: Callable[[int], object] = lambda images: None,
) -> Evaluation:
    """Caption every image and judge the captions by all its references.

    ``words``: the checkpoint's own where left out. ``training``: what a novel caption is not among. ``java``: METEOR
    too, where it can be computed. An image that cannot be read is left out and named in ``problems``. Raises
    ``DataError`` when none can be read.
    """
    from captioner.evaluation.decode import decode

    if not samples:
        raise DataError("there are no images to evaluate on; name data that holds some")
    generation = generation or checkpoint.generation
    with Judge(samples, words or checkpoint.config.text.words, java=java, want_spice=spice) as judge:
        units = Judge(samples, "characters").split if judge.words == "jieba" else judge.split
        found = decode(checkpoint, samples, generation, units, batch_size=batch_size, progress=progress)
        judgement = judge.judge(found.captions, found.places, training=training)
    return Evaluation(
        judgement=judgement,
        captions=judgement.captions,
        of_model=_of_model(checkpoint, judgement, found, generation, judge),
        problems=found.problems,
    )


def judge_captions(
    captions: Sequence[str],
    samples: Sequence[Sample],
    *,
    words: Words = "ptb",
    training: Sequence[Sample] | None = None,
    java: bool = False,
    spice: bool = False,
) -> Evaluation:
    """Judge captions that are there already, one for each of the samples, in their order."""
    if not samples:
        raise DataError("there are no images to evaluate on; name data that holds some")
    with Judge(samples, words, java=java, want_spice=spice) as judge:
        judgement = judge.judge(captions, training=training)
    return Evaluation(judgement=judgement, captions=judgement.captions)


def _of_model(
    checkpoint: Checkpoint, judgement: Judgement, found: Decoded, generation: GenerationConfig, judge: Judge
) -> OfModel:
    counts = [
        sum(
            len(judge.split(cut[k])) if k in cut else len(caption) + 1
            for k, caption in enumerate(judge.references[place])
        )
        for place, cut in zip(found.places, found.cut, strict=True)
    ]
    likelihood = Statistic(
        values=np.stack([-np.array(found.log_probs), np.array(counts, dtype=np.float64)], axis=1),
        score=_perplexity,
    )
    chances = found.word_chances
    return OfModel(
        generation=generation,
        perplexity=likelihood.value,
        perplexity_interval=intervals({"": likelihood})[""],
        cut_references=sum(map(len, found.cut)),
        context=checkpoint.config.decoder.context,
        confidence_rank=rank_correlation(found.confidences, judgement.model.metrics["cider_d"].per_image.tolist()),
        calibration_error=calibration_error(*zip(*chances, strict=True)) if chances else 0.0,
        confidences=found.confidences,
        word_chances=chances,
        seconds=found.seconds,
        fingerprint=_weights(checkpoint),
    )


def _perplexity(sums: Floats) -> Floats:
    """exp(-log p / words) of sums (..., 2) of these; not a number where no word was judged."""
    with np.errstate(over="ignore"):
        return np.where(sums[..., 1] > 0, np.exp(divided(sums[..., 0], sums[..., 1])), np.nan)


def _weights(checkpoint: Checkpoint) -> str:
    """Twelve hex digits of the weights' file; of an adapter's where that is what the directory holds."""
    try:
        directory = find(None if checkpoint.source == "shipped" else checkpoint.source) if checkpoint.source else None
    except CheckpointError:
        directory = None
    if directory is None:
        return ""
    files = [directory / WEIGHTS, *sorted((directory / "adapter").glob("*.safetensors"))]
    return next((file_fingerprint(path)[:12] for path in files if path.exists()), "")
