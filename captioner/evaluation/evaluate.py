"""The evaluation of a model, or of existing captions, on a dataset."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from captioner.checkpoint.files import WEIGHTS
from captioner.checkpoint.files import fingerprint as file_fingerprint
from captioner.checkpoint.locate import find
from captioner.config import GenerationConfig, Words
from captioner.data.samples import Sample
from captioner.errors import CheckpointError, DataError
from captioner.evaluation.judge import Judge, Judgement, Scores, fingerprint
from captioner.inference import AnyCheckpoint, Holder, checkpoint_of
from captioner.metrics.bleu import check_bleu
from captioner.metrics.bootstrap import Interval, intervals
from captioner.metrics.calibration import calibration_error, rank_correlation
from captioner.metrics.diversity import Diversity
from captioner.metrics.ngrams import Floats
from captioner.metrics.statistic import Statistic, divided

if TYPE_CHECKING:
    from captioner.evaluation.decode import Decoded


__all__ = ["Evaluation", "ModelFigures", "evaluate", "fingerprint", "judge_captions"]


@dataclass(frozen=True, kw_only=True)
class ModelFigures:
    """The figures of a model that its captions alone do not have."""

    generation: GenerationConfig
    perplexity: float
    """Per word: exp(-log p(captions and their ends) / (words + ends)) over all human captions, words as the metrics
    count them."""
    perplexity_interval: Interval
    cut_references: (
        int  # human captions longer than the context: only their whole words within it count, without an end
    )
    other_references: int  # human captions left out because they are in another language
    context: int  # the model's context, in tokens
    confidence_rank: float  # Spearman's correlation of the captions' confidences with their CIDEr-D, -1 to 1
    calibration_error: float  # between word probabilities and the share of words in a reference, 0 to 100
    confidences: tuple[float, ...] = field(repr=False)
    word_chances: tuple[tuple[float, bool], ...] = field(repr=False)
    seconds: float
    fingerprint: str  # fingerprint of the weights; empty for a model in memory


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of ``captioner evaluate``.

    ::

        result = evaluate(checkpoint, load_split("flickr8k", "dev"))
        result.model["cider_d"], result.model.intervals["cider_d"]
        print(tables.markdown(result, "my model"))
    """

    judgement: Judgement
    captions: tuple[str, ...]
    of_model: ModelFigures | None = None  # None for existing captions
    notes: tuple[str, ...] = ()  # printed beside the scores
    problems: tuple[str, ...] = ()  # errors of unreadable images, which are skipped

    @property
    def model(self) -> Scores:
        """The scores of the captions."""
        return self.judgement.model

    @property
    def perplexity(self) -> float:
        """The perplexity per word, as in ``ModelFigures``; NaN for existing captions."""
        return math.nan if self.of_model is None else self.of_model.perplexity

    @property
    def diversity(self) -> Diversity:
        """The diversity of the captions."""
        return self.judgement.diversity


def evaluate(
    checkpoint: AnyCheckpoint | Holder,
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
    """Caption every image and score the captions against all references of the image.

    A captioner of several languages is scored against the references in the language of its captions.

    ``checkpoint``: a pipeline, which captions as it is prepared, or a checkpoint.
    ``words``: the word splitter; by default that of the captions' language. ``training``: the samples whose captions
    are not novel.
    ``java``: METEOR too, if it can be computed. Unreadable images are skipped and listed in ``problems``. Raises
    ``DataError`` if all images are unreadable, and ``MissingExtraError`` without nltk, before any work.
    """
    from captioner.evaluation.decode import decode, spoken

    check_bleu()
    if not samples:
        raise DataError("there are no images to evaluate on; give data with images")
    checkpoint = checkpoint_of(checkpoint)
    generation = generation or checkpoint.generation
    whole, samples = samples, spoken(samples, checkpoint.tokenizer, generation.language)
    with Judge(
        samples, words or checkpoint.config.text.words_in(generation.language), java=java, want_spice=spice
    ) as judge:
        units = Judge(samples, "characters").split if judge.words == "jieba" else judge.split
        decoded = decode(checkpoint, samples, generation, units, batch_size=batch_size, progress=progress)
        judgement = judge.judge(decoded.captions, decoded.places, training=training)
    return Evaluation(
        judgement=judgement,
        captions=judgement.captions,
        of_model=_model_figures(
            checkpoint,
            judgement,
            decoded,
            generation,
            judge,
            other_references=sum(len(whole[place].captions) for place in decoded.places) - judgement.references,
        ),
        problems=decoded.problems,
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
    """Score existing captions, one for each of the samples, in their order."""
    if not samples:
        raise DataError("there are no images to evaluate on; give data with images")
    with Judge(samples, words, java=java, want_spice=spice) as judge:
        judgement = judge.judge(captions, training=training)
    return Evaluation(judgement=judgement, captions=judgement.captions)


def _model_figures(
    checkpoint: AnyCheckpoint,
    judgement: Judgement,
    decoded: Decoded,
    generation: GenerationConfig,
    judge: Judge,
    *,
    other_references: int,
) -> ModelFigures:
    counts = [
        sum(
            len(judge.split(cut[k])) if k in cut else len(caption) + 1
            for k, caption in enumerate(judge.references[place])
        )
        for place, cut in zip(decoded.places, decoded.cut, strict=True)
    ]
    likelihood = Statistic(
        values=np.stack([-np.array(decoded.log_probs), np.array(counts, dtype=np.float64)], axis=1),
        score=_perplexity,
    )
    chances = decoded.word_chances
    return ModelFigures(
        generation=generation,
        perplexity=likelihood.value,
        perplexity_interval=intervals({"": likelihood})[""],
        cut_references=sum(map(len, decoded.cut)),
        other_references=other_references,
        context=checkpoint.config.decoder.context,
        confidence_rank=rank_correlation(decoded.confidences, judgement.model.metrics["cider_d"].per_image.tolist()),
        calibration_error=calibration_error(*zip(*chances, strict=True)) if chances else 0.0,
        confidences=decoded.confidences,
        word_chances=chances,
        seconds=decoded.seconds,
        fingerprint=_weights(checkpoint),
    )


def _perplexity(sums: Floats) -> Floats:
    """Return exp(-log p / words) from sums (..., 2) of -log p and words; NaN without words."""
    with np.errstate(over="ignore"):
        return np.where(sums[..., 1] > 0, np.exp(divided(sums[..., 0], sums[..., 1])), np.nan)


def _weights(checkpoint: AnyCheckpoint) -> str:
    """Return twelve hex digits of the fingerprint of the weights, or of the adapter in an adapter's directory."""
    try:
        directory = find(None if checkpoint.source == "shipped" else checkpoint.source) if checkpoint.source else None
    except CheckpointError:
        directory = None
    if directory is None:
        return ""
    files = [directory / WEIGHTS, *sorted((directory / "adapter").glob("*.safetensors"))]
    return next((file_fingerprint(path)[:12] for path in files if path.exists()), "")
